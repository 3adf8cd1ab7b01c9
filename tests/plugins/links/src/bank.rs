//! `gpio-bank`: 64 lines, of which each is driven, pulled up or let go. Registers have 64 bits, bit *n* for line *n*.
//!
//! | offset | name      | access | meaning                                  |
//! |--------|-----------|--------|------------------------------------------|
//! | 0x00   | DIRECTION | RW     | 1: the line is driven to OUT             |
//! | 0x08   | OUT       | RW     | level to drive                           |
//! | 0x10   | PULL      | RW     | 1: pulled up where it is not driven      |
//! | 0x18   | IN        | RO     | level of the line                        |

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceState, Fault, Link, Reset,
    desc::DeviceDesc,
    link::gpio::{self, Lines},
};

const DIRECTION: u64 = 0x00;
const OUT: u64 = 0x08;
const PULL: u64 = 0x10;
const IN: u64 = 0x18;

const BANKS: Link = Link(0);

/// The controller.
#[derive(Default, DeviceState)]
pub(crate) struct Bank {
    direction: u64,
    out: u64,
    pull: u64,
    /// What the other end does.
    other_driven: u64,
    other_levels: u64,
}

impl Bank {
    fn lines(&self) -> Lines {
        let levels = self.out & self.direction | self.pull & !self.direction;
        Lines { driven: self.direction, levels }
    }
}

impl Device for Bank {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("gpio-bank", "64 lines").region("regs", 0x20, 8).controller(
            "banks",
            gpio::PROTOCOL,
            1,
        )
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        // All is let go, which is what the other end takes it for.
        *self = Self::default();
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(match access.offset {
            DIRECTION => self.direction,
            OUT => self.out,
            PULL => self.pull,
            IN => self.lines().level(Lines { driven: self.other_driven, levels: self.other_levels }),
            _ => return Err(Fault),
        })
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let before = self.lines();
        match access.offset {
            DIRECTION => self.direction = value,
            OUT => self.out = value,
            PULL => self.pull = value,
            _ => return Err(Fault),
        }
        if self.lines() != before {
            cx.send(BANKS, 0, &self.lines().encode());
        }
        Ok(())
    }

    fn on_message(&mut self, _: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        // Nobody: the lines are this end's alone.
        let lines = message.map_or(Some(Lines::RELEASED), Lines::decode);
        if let Some(Lines { driven, levels }) = lines {
            (self.other_driven, self.other_levels) = (driven, levels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_plugin_api::{Size, testkit::FakeHost};

    fn write(h: &mut FakeHost<Bank>, offset: u64, value: u64) {
        h.write(0, offset, Size::B8, value).unwrap();
    }

    fn levels(h: &mut FakeHost<Bank>) -> u64 {
        h.read(0, IN, Size::B8).unwrap()
    }

    #[test]
    fn both_ends_make_the_levels() {
        let mut h = FakeHost::<Bank>::new(());
        write(&mut h, OUT, 0b0101);
        assert_eq!(h.messages(), [], "nothing is driven yet, and nothing said");
        write(&mut h, DIRECTION, 0b0011);
        write(&mut h, PULL, 0b1111);
        let said: Vec<Lines> = h.messages().iter().map(|(_, _, m)| Lines::decode(m).unwrap()).collect();
        let lines = |levels| Lines { driven: 0b0011, levels };
        assert_eq!(said, [lines(0b0001), lines(0b1101)]);
        assert_eq!(levels(&mut h), 0b1101);
        // The other end drives three lines low, one of which this end drives high.
        h.message("banks", 0, Some(&Lines { driven: 0b0111, levels: 0 }.encode()));
        assert_eq!(levels(&mut h), 0b1000);
        h.save_load();
        assert_eq!(levels(&mut h), 0b1000);
        // It is gone.
        h.message("banks", 0, None);
        assert_eq!(levels(&mut h), 0b1101);
    }
}
