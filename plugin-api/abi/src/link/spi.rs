//! `spi/1`: one byte each way at a time. A target's address is the number of its chip select.
//!
//! A target answers each [`Ask::Exchange`] with the byte that it shifted out meanwhile, in a message of one byte; it
//! answers nothing else. Where nobody is, the line floats: controllers read 0xff.
//!
//! Chip selects are lines with levels, and what a guest's driver calls active is its own business: most targets are
//! selected by a low one, so a low line is what is told as [`Ask::Select`], and a target that wants a high one takes it
//! the other way round. After a reset all lines are high. Only targets whose line is low are exchanged with, so those
//! see no clocks while somebody else is spoken to; the clock's mode is not told.

/// The name in descriptors.
pub const PROTOCOL: &str = "spi/1";

/// First of two bytes from the controller: the chip select; then 1 if it went low, 0 if it is high again.
pub const ASK_SELECT: u8 = 0;
/// The same: eight clocks with the byte that follows. The answer is the byte that came back, alone.
pub const ASK_EXCHANGE: u8 = 1;

/// From the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The chip select went low, or is high again.
    Select(bool),
    /// Eight clocks with this byte, its most significant bit first on the line.
    Exchange(u8),
}

impl Ask {
    /// As bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        match self {
            Self::Select(low) => [ASK_SELECT, low as u8],
            Self::Exchange(byte) => [ASK_EXCHANGE, byte],
        }
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub const fn decode(message: &[u8]) -> Option<Self> {
        match *message {
            [ASK_SELECT, low @ 0..=1] => Some(Self::Select(low == 1)),
            [ASK_EXCHANGE, byte] => Some(Self::Exchange(byte)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_and_nothing_else_is_one() {
        for ask in [Ask::Select(false), Ask::Select(true), Ask::Exchange(0xa5)] {
            assert_eq!(Ask::decode(&ask.encode()), Some(ask));
        }
        for odd in [&[][..], &[0], &[0, 2], &[2, 0], &[1, 2, 3]] {
            assert_eq!(Ask::decode(odd), None, "{odd:?}");
        }
    }
}
