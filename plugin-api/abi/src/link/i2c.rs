//! `i2c/1`: one byte of an I²C bus at a time. NXP UM10204, §3.1.
//!
//! The address byte is not sent as data: it selects the target, by its 7 bits. A target answers each [`Ask`] but
//! [`Ask::Stop`] with one [`Answer`]; where nobody is at an address, nobody pulls the acknowledge bit low.

/// The name in descriptors.
pub const PROTOCOL: &str = "i2c/1";
/// 7-bit addresses.
pub const ADDRESSES: u32 = 128;

/// First of two bytes from the controller: START; then 1 to read, 0 to write.
pub const ASK_START: u8 = 0;
/// The same: a byte for the target, which follows.
pub const ASK_WRITE: u8 = 1;
/// The same: a byte of the target is wanted; then 0.
pub const ASK_READ: u8 = 2;
/// The same: STOP; then 0. It has no answer.
pub const ASK_STOP: u8 = 3;
/// First of two bytes from the target: acknowledged; then 0.
pub const ANSWER_ACK: u8 = 0;
/// The same: not acknowledged; then 0.
pub const ANSWER_NACK: u8 = 1;
/// The same: the byte that was wanted, which follows.
pub const ANSWER_DATA: u8 = 2;

/// From the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// START, or a repeated one, and the target's address.
    Start {
        /// The R/W bit: the controller will read.
        read: bool,
    },
    /// A byte for the target.
    Write(u8),
    /// A byte of the target is wanted.
    Read,
    /// STOP. Also what ends a read: the target is not told of the bit that the controller acknowledges it with.
    Stop,
}

/// From the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Start`] and [`Ask::Write`]: the acknowledge bit is low.
    Ack,
    /// To the same: it is high.
    Nack,
    /// To [`Ask::Read`].
    Data(u8),
}

impl Ask {
    /// As bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        match self {
            Self::Start { read } => [ASK_START, read as u8],
            Self::Write(byte) => [ASK_WRITE, byte],
            Self::Read => [ASK_READ, 0],
            Self::Stop => [ASK_STOP, 0],
        }
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub const fn decode(message: &[u8]) -> Option<Self> {
        match *message {
            [ASK_START, read @ 0..=1] => Some(Self::Start { read: read == 1 }),
            [ASK_WRITE, byte] => Some(Self::Write(byte)),
            [ASK_READ, 0] => Some(Self::Read),
            [ASK_STOP, 0] => Some(Self::Stop),
            _ => None,
        }
    }
}

impl Answer {
    /// As bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        match self {
            Self::Ack => [ANSWER_ACK, 0],
            Self::Nack => [ANSWER_NACK, 0],
            Self::Data(byte) => [ANSWER_DATA, byte],
        }
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub const fn decode(message: &[u8]) -> Option<Self> {
        match *message {
            [ANSWER_ACK, 0] => Some(Self::Ack),
            [ANSWER_NACK, 0] => Some(Self::Nack),
            [ANSWER_DATA, byte] => Some(Self::Data(byte)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_and_nothing_else_is_one() {
        let asks =
            [Ask::Start { read: false }, Ask::Start { read: true }, Ask::Write(7), Ask::Read, Ask::Stop];
        for ask in asks {
            assert_eq!(Ask::decode(&ask.encode()), Some(ask));
        }
        for answer in [Answer::Ack, Answer::Nack, Answer::Data(9)] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        for odd in [&[][..], &[0], &[0, 2], &[2, 1], &[9, 0], &[1, 2, 3]] {
            assert_eq!(Ask::decode(odd), None, "{odd:?}");
        }
        for odd in [&[][..], &[0, 1], &[3, 0], &[2, 1, 1]] {
            assert_eq!(Answer::decode(odd), None, "{odd:?}");
        }
    }
}
