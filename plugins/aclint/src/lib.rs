//! The core-local interruptors: RISC-V ACLINT specification 1.0 (draft), section numbers as there.
//!
//! | kind            | what it is                                                            |
//! |-----------------|-----------------------------------------------------------------------|
//! | `aclint`        | MSWI and MTIMER in one region, laid out as SiFive's CLINT (§1.1)      |
//! | `aclint-mtimer` | the machine timer alone (§2)                                          |
//! | `aclint-mswi`   | machine software interrupts alone (§3)                                |
//! | `aclint-sswi`   | supervisor software interrupts (§4)                                   |
//!
//! A machine has one `mtime`: the harts' `time` CSR follows what the guest writes to it.

mod msip;
mod mtimer;

use msip::Msip;
use mtimer::Mtimer;
use reprise_plugin_api::desc::{DeviceDesc, FdtNode};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, OutPin, Region, Reset, Timer,
    export_devices,
};

/// Registers are 4 (MSIP, SETSSIP) and 8 bytes wide (MTIME, MTIMECMP); the latter may be accessed by halves.
const WORDS: u8 = 4;
const WORDS_AND_DOUBLE_WORDS: u8 = 4 | 8;

/// Offset of MTIMER in the CLINT layout, §1.1 table 2; MSWI is at 0.
const CLINT_MTIMER: u64 = 0x4000;
const CLINT_SIZE: u64 = 0x1_0000;
/// §3.1, §4.1: 4095 registers and a reserved word.
const SWI_SIZE: u64 = 0x4000;
/// Size of the MTIMECMP registers (§2.1), which are a region apart from MTIME, as the device tree wants it.
const MTIMECMP_SIZE: u64 = 0x7ff8;

/// Options of a device with software interrupts only.
#[derive(DeviceConfig)]
pub struct HartsConfig {
    /// Number of harts.
    #[config(board = "harts", min = 1, max = 4095)]
    pub harts: u32,
}

/// Options of a device with a timer.
#[derive(DeviceConfig)]
pub struct TimerConfig {
    /// Number of harts.
    #[config(board = "harts", min = 1, max = 4095)]
    pub harts: u32,
    /// Frequency of mtime in Hz.
    #[config(board = "timebase_hz", min = 1)]
    pub timebase_hz: u32,
}

/// MSWI and MTIMER as SiFive's CLINT. Pins: `msip.N`, then `mtip.N`.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Clint {
    msip: Msip,
    timer: Mtimer,
}

impl Device for Clint {
    type Config = TimerConfig;

    fn describe(config: &TimerConfig) -> DeviceDesc {
        let harts = config.harts;
        let node = FdtNode {
            name: "clint".into(),
            compatible: ["sifive,clint0", "riscv,clint0"].map(Into::into).into(),
            interrupts: (0..harts).flat_map(|hart| [hart, harts + hart]).collect(),
            ..FdtNode::default()
        };
        let desc =
            DeviceDesc::new("aclint", "machine timer and software interrupts, laid out as SiFive's CLINT")
                .region("clint", CLINT_SIZE, WORDS_AND_DOUBLE_WORDS)
                .outputs("msip", harts)
                .outputs("mtip", harts)
                .fdt(node);
        mtimer::declare_timers(desc, harts)
    }

    fn create(config: TimerConfig) -> Result<Self, ConfigError> {
        let TimerConfig { harts, timebase_hz } = config;
        Ok(Self { msip: Msip::new(harts), timer: Mtimer::new(harts, timebase_hz, OutPin(harts)) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { msip, timer } = self;
        msip.reset(cx);
        timer.reset(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(match access.offset.checked_sub(CLINT_MTIMER) {
            None => self.msip.read(access),
            Some(offset) if offset < MTIMECMP_SIZE => self.timer.read_mtimecmp(Access { offset, ..access }),
            Some(offset) if offset < MTIMECMP_SIZE + 8 => {
                self.timer.read_mtime(cx, Access { offset: offset - MTIMECMP_SIZE, ..access })
            }
            Some(_) => 0,
        })
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.offset.checked_sub(CLINT_MTIMER) {
            None => self.msip.write(cx, access, value),
            Some(offset) if offset < MTIMECMP_SIZE => {
                self.timer.write_mtimecmp(cx, Access { offset, ..access }, value);
            }
            Some(offset) if offset < MTIMECMP_SIZE + 8 => {
                self.timer.write_mtime(cx, Access { offset: offset - MTIMECMP_SIZE, ..access }, value);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        self.timer.on_timer(cx, timer);
    }
}

/// MTIMER alone. Pins: `mtip.N`.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct MtimerDevice {
    timer: Mtimer,
}

impl MtimerDevice {
    const MTIME: Region = Region(0);
}

impl Device for MtimerDevice {
    type Config = TimerConfig;

    fn describe(config: &TimerConfig) -> DeviceDesc {
        let harts = config.harts;
        let node = FdtNode {
            name: "mtimer".into(),
            compatible: vec!["riscv,aclint-mtimer".into()],
            interrupts: (0..harts).collect(),
            ..FdtNode::default()
        };
        let desc = DeviceDesc::new("aclint-mtimer", "ACLINT machine timer")
            // In the order of the device tree binding.
            .region("mtime", 8, WORDS_AND_DOUBLE_WORDS)
            .region("mtimecmp", MTIMECMP_SIZE, WORDS_AND_DOUBLE_WORDS)
            .outputs("mtip", harts)
            .fdt(node);
        mtimer::declare_timers(desc, harts)
    }

    fn create(config: TimerConfig) -> Result<Self, ConfigError> {
        let TimerConfig { harts, timebase_hz } = config;
        Ok(Self { timer: Mtimer::new(harts, timebase_hz, OutPin(0)) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { timer } = self;
        timer.reset(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let mtime = access.region == Self::MTIME;
        Ok(if mtime { self.timer.read_mtime(cx, access) } else { self.timer.read_mtimecmp(access) })
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        if access.region == Self::MTIME {
            self.timer.write_mtime(cx, access, value);
        } else {
            self.timer.write_mtimecmp(cx, access, value);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        self.timer.on_timer(cx, timer);
    }
}

/// MSWI alone. Pins: `msip.N`.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Mswi {
    msip: Msip,
}

impl Device for Mswi {
    type Config = HartsConfig;

    fn describe(config: &HartsConfig) -> DeviceDesc {
        DeviceDesc::new("aclint-mswi", "ACLINT machine software interrupts")
            .region("mswi", SWI_SIZE, WORDS)
            .outputs("msip", config.harts)
            .fdt(swi_node("mswi", config.harts))
    }

    fn create(config: HartsConfig) -> Result<Self, ConfigError> {
        Ok(Self { msip: Msip::new(config.harts) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { msip } = self;
        msip.reset(cx);
    }

    fn mmio_read(&mut self, _cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(self.msip.read(access))
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        self.msip.write(cx, access, value);
        Ok(())
    }
}

/// SSWI. Pins: `ssip.N`. It remembers nothing: the interrupt is pending in the hart's `mip.SSIP`, where software
/// clears it, so the pin only gives the rising edge that sets it.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Sswi {
    #[state(config)]
    harts: u32,
}

impl Device for Sswi {
    type Config = HartsConfig;

    fn describe(config: &HartsConfig) -> DeviceDesc {
        DeviceDesc::new("aclint-sswi", "ACLINT supervisor software interrupts")
            .region("sswi", SWI_SIZE, WORDS)
            .outputs("ssip", config.harts)
            .fdt(swi_node("sswi", config.harts))
    }

    fn create(config: HartsConfig) -> Result<Self, ConfigError> {
        Ok(Self { harts: config.harts })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { harts } = self;
        (0..*harts).for_each(|hart| cx.set_pin(OutPin(hart), false));
    }

    /// §4.2: SETSSIP reads as 0.
    fn mmio_read(&mut self, _cx: &mut Ctx<'_>, _access: Access) -> Result<u64, Fault> {
        Ok(0)
    }

    /// §4.2: writing 1 to bit 0 makes an edge; writing 0 has no effect.
    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let hart = (access.offset / 4) as u32;
        if hart < self.harts && value & 1 != 0 {
            cx.set_pin(OutPin(hart), true);
            cx.set_pin(OutPin(hart), false);
        }
        Ok(())
    }
}

/// Both SWI bindings make an interrupt controller of the device: one without cells.
fn swi_node(name: &str, harts: u32) -> FdtNode {
    FdtNode {
        name: name.into(),
        compatible: vec![format!("riscv,aclint-{name}")],
        interrupts: (0..harts).collect(),
        interrupt_controller: Some(0),
        ..FdtNode::default()
    }
}

export_devices!(Clint, MtimerDevice, Mswi, Sswi);

#[cfg(test)]
mod tests;
