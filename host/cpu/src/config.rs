//! What a hart of this machine has, and how the device tree names it.

use crate::isa::Extension;

/// The largest paging mode `satp` takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SatpMode {
    /// Three levels.
    Sv39,
    /// Four levels.
    Sv48,
    /// Five levels.
    Sv57,
}

/// The configurable part of a hart. The default has everything.
///
/// Integer, multiplication, atomics, single and double precision and compressed instructions, Zicsr, Zifencei,
/// Zicntr, Zihpm, Zba, Zbb, Zbs, Zbc, Zicond, Zawrs, Zihintpause, Svinval, Svnapot and Svpbmt are always there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HartConfig {
    /// Accessed and dirty bits can be set by hardware: `menvcfg.ADUE` exists. With [`HartConfig::svade`] it resets to
    /// 0, without it to 1.
    pub svadu: bool,
    /// A clear accessed or dirty bit can raise a page fault. Without `svadu` it always does.
    pub svade: bool,
    /// `stimecmp` exists.
    pub sstc: bool,
    /// Half-precision arithmetic; without it only loads, stores, moves and conversions (Zfhmin).
    pub zfh: bool,
    /// Cache block management and zeroing: Zicbom, Zicboz, Zicbop.
    pub zicbo: bool,
    /// The largest paging mode.
    pub max_satp: SatpMode,
    /// Physical memory protection entries: 0 to 16. With 0 every access is allowed.
    pub pmp_entries: usize,
    /// Debug triggers: 0 to 16.
    pub triggers: usize,
}

impl Default for HartConfig {
    fn default() -> HartConfig {
        HartConfig {
            svadu: true,
            svade: true,
            sstc: true,
            zfh: true,
            zicbo: true,
            max_satp: SatpMode::Sv57,
            pmp_entries: 16,
            triggers: 4,
        }
    }
}

impl HartConfig {
    /// Whether instructions of the extension are decoded.
    pub(crate) fn has(&self, extension: Extension) -> bool {
        match extension {
            Extension::Zfh => self.zfh,
            Extension::Zicbom | Extension::Zicboz => self.zicbo,
            Extension::Base
            | Extension::M
            | Extension::A
            | Extension::F
            | Extension::D
            | Extension::Zfhmin
            | Extension::Zba
            | Extension::Zbb
            | Extension::Zbc
            | Extension::Zbs
            | Extension::Zicond
            | Extension::Zicsr
            | Extension::Zawrs
            | Extension::Svinval => true,
        }
    }

    /// The extensions, in the order in which an ISA string lists them, for `riscv,isa-extensions`.
    pub fn isa_extensions(&self) -> Vec<&'static str> {
        let optional = [
            ("i", true),
            ("m", true),
            ("a", true),
            ("f", true),
            ("d", true),
            ("c", true),
            ("zicbom", self.zicbo),
            ("zicbop", self.zicbo),
            ("zicboz", self.zicbo),
            ("zicntr", true),
            ("zicond", true),
            ("zicsr", true),
            ("zifencei", true),
            ("zihintpause", true),
            ("zihpm", true),
            ("zawrs", true),
            ("zfh", self.zfh),
            ("zfhmin", true),
            ("zba", true),
            ("zbb", true),
            ("zbc", true),
            ("zbs", true),
            ("sstc", self.sstc),
            ("svade", self.svade || !self.svadu),
            ("svadu", self.svadu),
            ("svinval", true),
            ("svnapot", true),
            ("svpbmt", true),
        ];
        optional.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
    }

    /// The ISA string, for `riscv,isa`.
    pub fn isa_string(&self) -> String {
        let mut text = String::from("rv64");
        for name in self.isa_extensions() {
            if name.len() > 1 {
                text.push('_');
            }
            text.push_str(name);
        }
        text
    }

    /// The largest paging mode, for `mmu-type`.
    pub fn mmu_type(&self) -> &'static str {
        match self.max_satp {
            SatpMode::Sv39 => "riscv,sv39",
            SatpMode::Sv48 => "riscv,sv48",
            SatpMode::Sv57 => "riscv,sv57",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_string_lists_what_is_on() {
        let all = HartConfig::default();
        assert!(all.isa_string().starts_with("rv64imafdc_zicbom_zicbop_zicboz_zicntr_"));
        assert!(all.isa_string().contains("_sstc_svade_svadu_svinval"));
        let few =
            HartConfig { sstc: false, svadu: false, svade: false, zicbo: false, ..HartConfig::default() };
        assert!(few.isa_string().starts_with("rv64imafdc_zicntr_"));
        assert!(few.isa_string().contains("_zbs_svade_svinval"));
    }
}
