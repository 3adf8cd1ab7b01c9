//! What a hart or a timer is about to do, in words: for reports. Looking changes nothing.

use crate::{deadline::Due, machine::Machine};
use std::fmt;

/// The instruction that a hart attempts next, unless an interrupt comes before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upcoming {
    /// Its address.
    pub pc: u64,
    /// The function of the boot images that it is in, as `name+0x10`.
    pub symbol: Option<String>,
    /// Mnemonic and operands; `None` where there is no RAM.
    pub text: Option<String>,
    /// The guest physical address of the memory that it names, if it names any.
    pub operand_gpa: Option<u64>,
    /// The device whose register lies at that address, by id.
    pub device: Option<String>,
}

/// A device's timer that is armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmedTimer {
    /// The device, by id.
    pub device: String,
    /// The timer, by the name that the device gave it.
    pub timer: String,
    /// When it expires, in virtual time.
    pub at_ns: u64,
}

/// So many timers are told of: nobody reads more.
const ARMED: usize = 8;

impl Machine {
    /// The timers that expire next, the first one first.
    #[must_use]
    pub fn armed_timers(&self) -> Vec<ArmedTimer> {
        let timers = self.services.deadlines.iter().filter_map(|(when, due)| match due {
            Due::Timer { device, timer } => Some(ArmedTimer {
                device: self.services.device_ids[device].clone(),
                timer: self.slots[device].instance.desc().timers[timer as usize].clone(),
                at_ns: when.at_ns,
            }),
            Due::Disk { .. } => None,
        });
        timers.take(ARMED).collect()
    }

    /// Harts of the machine.
    #[must_use]
    pub fn harts(&self) -> usize {
        self.cluster.harts()
    }

    /// What a hart attempts next.
    pub fn upcoming(&mut self, hart: usize) -> Upcoming {
        let pc = self.cluster.pc(hart);
        let name = self.services.symbols.name(pc);
        let symbol = (!name.is_empty()).then(|| name.trim_matches([' ', '<', '>']).to_owned());
        let Some(next) = self.cluster.upcoming(hart) else {
            return Upcoming { pc, symbol, ..Upcoming::default() };
        };
        let mapping = next.operand_gpa.and_then(|gpa| self.map.find(gpa));
        let device = mapping.map(|mapping| self.services.device_ids[mapping.device].clone());
        Upcoming { pc, symbol, text: Some(next.text), operand_gpa: next.operand_gpa, device }
    }
}

impl fmt::Display for Upcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.pc)?;
        self.symbol.iter().try_for_each(|symbol| write!(f, " <{symbol}>"))?;
        self.text.iter().try_for_each(|text| write!(f, ": {text}"))?;
        match (&self.device, self.operand_gpa) {
            (Some(device), Some(gpa)) => write!(f, "  ({device}, at {gpa:#x})"),
            (None, Some(gpa)) => write!(f, "  (at {gpa:#x})"),
            (_, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_known() {
        let mut upcoming = Upcoming { pc: 0x8000_0010, ..Upcoming::default() };
        assert_eq!(upcoming.to_string(), "0x80000010");
        upcoming.symbol = Some("main+0x10".into());
        upcoming.text = Some("lw a0,4(a1)".into());
        assert_eq!(upcoming.to_string(), "0x80000010 <main+0x10>: lw a0,4(a1)");
        upcoming.operand_gpa = Some(0x1000_0004);
        assert_eq!(upcoming.to_string(), "0x80000010 <main+0x10>: lw a0,4(a1)  (at 0x10000004)");
        upcoming.device = Some("uart0".into());
        assert_eq!(upcoming.to_string(), "0x80000010 <main+0x10>: lw a0,4(a1)  (uart0, at 0x10000004)");
    }
}
