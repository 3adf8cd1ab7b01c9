//! `gpio/1`: a bank of up to 64 lines that change together, each of which either end may drive.
//!
//! The controller is who offers the lines (a GPIO controller, a port expander), a target is what hangs on them (a
//! keypad, a display with a parallel bus). A target's address is the number of the bank; its own lines begin with line
//! 0 of it. A single line with one driver is a pin, which boards wire one by one, and no link.
//!
//! Both ends say the same sort of message, [`Lines`]: all of what this end does to the bank from now on. It is said
//! when it changes, and once again after a reset if it is not [`Lines::RELEASED`]: at power-on, and at every reset,
//! each end takes the other to have let go of all lines. Saying the same again changes nothing. There are no answers:
//! an end knows the levels from its own lines and the last ones of the other, by [`Lines::level`]. A controller whose
//! message finds nobody at a bank has the lines to itself.
//!
//! The level of a line, strongest first: low if an end drives it low, so that open drains are wired together and a
//! short circuit is low; high if an end drives it high; high if an end pulls it up; low, because what floats has to be
//! something.
//!
//! A message is 16 bytes: two numbers of 64 bits, little-endian. Bit *n* of the first is 1 if this end drives line *n*.
//! Bit *n* of the second is the level that it drives it to, or, where it does not, 1 if it pulls it up.

/// The name in descriptors.
pub const PROTOCOL: &str = "gpio/1";
/// The most lines of a bank.
pub const LINES: u32 = 64;

/// What one end does to the lines of a bank: bit *n* is line *n*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// 1: this end drives the line (its direction is "out"); 0: it does not.
    pub driven: u64,
    /// Of a line that it drives: the level. Of another: 1 if it pulls it up.
    pub levels: u64,
}

impl Lines {
    /// Neither drives nor pulls anything.
    pub const RELEASED: Self = Self { driven: 0, levels: 0 };

    /// The levels of the bank, with the other end's lines.
    #[must_use]
    pub const fn level(self, other: Self) -> u64 {
        let low = self.driven & !self.levels | other.driven & !other.levels;
        // Driven high or pulled up: where nobody drives it low, both are high.
        (self.levels | other.levels) & !low
    }

    /// As bytes, little-endian.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.driven.to_le_bytes());
        bytes[8..].copy_from_slice(&self.levels.to_le_bytes());
        bytes
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (driven, levels) = message.split_first_chunk()?;
        let levels = <[u8; 8]>::try_from(levels).ok()?;
        Some(Self { driven: u64::from_le_bytes(*driven), levels: u64::from_le_bytes(levels) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_and_nothing_else_is_one() {
        let lines = Lines { driven: 0x8000_0000_0000_0001, levels: 0x0123_4567_89ab_cdef };
        assert_eq!(Lines::decode(&lines.encode()), Some(lines));
        assert_eq!(lines.encode()[..2], [1, 0]);
        for odd in [&[][..], &[0; 8], &[0; 15], &[0; 17]] {
            assert_eq!(Lines::decode(odd), None, "{odd:?}");
        }
    }

    /// Each line has another pair of what the ends do to it.
    #[test]
    fn low_is_stronger_than_high_and_that_than_a_pull() {
        let [low, high, pulled, none] = [(1, 0), (1, 1), (0, 1), (0, 0)];
        let level = |(driven, levels): (u64, u64), other: (u64, u64)| {
            let (mine, other) = (Lines { driven, levels }, Lines { driven: other.0, levels: other.1 });
            assert_eq!(mine.level(other), other.level(mine), "it is the same from both ends");
            // The other lines are nothing to it.
            let shifted = |lines: Lines| Lines { driven: lines.driven << 63, levels: lines.levels << 63 };
            assert_eq!(shifted(mine).level(shifted(other)), mine.level(other) << 63);
            mine.level(other)
        };
        for other in [low, high, pulled, none] {
            assert_eq!(level(low, other), 0, "{other:?}");
        }
        for other in [high, pulled, none] {
            assert_eq!(level(high, other), 1, "{other:?}");
        }
        assert_eq!((level(pulled, pulled), level(pulled, none), level(none, none)), (1, 1, 0));
    }
}
