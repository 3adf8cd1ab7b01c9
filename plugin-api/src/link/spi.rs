//! `spi/1`: one byte each way at a time. A target's address is the number of its chip select.
//!
//! A target answers each [`Ask::Exchange`] with the byte that it shifted out meanwhile, in a message of one byte; it
//! answers nothing else. Where nobody is, the line floats: controllers read 0xff.

/// The name in descriptors.
pub const PROTOCOL: &str = "spi/1";

/// From the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The chip select became active, or is no longer so.
    Select(bool),
    /// Eight clocks with this byte, first bit first.
    Exchange(u8),
}

impl Ask {
    /// As bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        match self {
            Self::Select(active) => [0, active as u8],
            Self::Exchange(byte) => [1, byte],
        }
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub const fn decode(message: &[u8]) -> Option<Self> {
        match *message {
            [0, active @ 0..=1] => Some(Self::Select(active == 1)),
            [1, byte] => Some(Self::Exchange(byte)),
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
