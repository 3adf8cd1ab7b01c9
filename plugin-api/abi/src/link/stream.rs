//! `stream/1`: bytes both ways, each way with credit, as between a UART and the modem or GPS receiver behind it.
//!
//! The controller is the end that the guest drives (the UART), the target what is connected to it; from there on both
//! are the same. A target's address is the number of the line. Credit is how many characters the other end has room
//! for: an end sends no more than it was given, so nothing is lost and nobody asks. At power-on, and at every reset,
//! both ends have none, and each gives what it has room for in its `reset` or later; what was given adds up. An end
//! that is spoken to beyond its credit drops what it has no room for, as a receiver overruns.
//!
//! A controller whose message finds nobody on a line has nobody to send to: what it sends is gone, at its own pace.
//!
//! How fast characters pass is the sender's own timer, or nobody's: a link takes no time. Modem control lines (RTS,
//! CTS, DTR, DCD) are pins.

/// The name in descriptors.
pub const PROTOCOL: &str = "stream/1";

/// First byte of characters, at least one, which follow. Each takes one of the credit.
pub const DATA: u8 = 0;
/// First byte of credit: there is room for so many characters more, in 32 bits, little-endian.
pub const CREDIT: u8 = 1;
/// First byte of a damaged character; then what was received of it, and 0 for wrong parity, 1 for a missing stop bit.
/// Takes one of the credit.
pub const FAULTY: u8 = 2;
/// All of a break: the line is held low for longer than a character.
pub const BREAK: u8 = 3;
/// First byte of a format; then bits per second in 32 bits, little-endian, data bits (5 to 8), parity (0 none, 1 odd,
/// 2 even, 3 mark, 4 space), and half bits of stop (2 to 4).
pub const FORMAT: u8 = 4;

/// From either end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// Characters, at least one; each takes one of the credit. A character of less than 8 bits has zeroes above them.
    Data(&'a [u8]),
    /// There is room for so many characters more.
    Credit(u32),
    /// A character that was damaged on its way; takes one of the credit.
    Faulty {
        /// What was received of it.
        byte: u8,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The line is held low for longer than a character. Takes no credit.
    Break,
    /// How this end sends from now on, and expects to be sent to. For those to whom it makes a difference: characters
    /// arrive whatever the ends have said. Takes no credit.
    Format(Format),
}

/// What a receiver sees of a damaged character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The parity bit is wrong.
    Parity,
    /// There was no stop bit where one should be.
    Framing,
}

/// The form of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits on the line per second; 0: it is stopped.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// Half bits between characters: 2, 3 or 4.
    pub stop_half_bits: u8,
}

/// What a parity bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// It makes the number of ones odd.
    Odd,
    /// It makes the number of ones even.
    Even,
    /// Always 1.
    Mark,
    /// Always 0.
    Space,
}

const PARITIES: [Parity; 5] = [Parity::None, Parity::Odd, Parity::Even, Parity::Mark, Parity::Space];

impl<'a> Word<'a> {
    /// As bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Data(bytes) => [&[DATA], bytes].concat(),
            Self::Credit(characters) => [&[CREDIT][..], &characters.to_le_bytes()].concat(),
            Self::Faulty { byte, fault } => vec![FAULTY, byte, fault as u8],
            Self::Break => vec![BREAK],
            Self::Format(Format { baud, data_bits, parity, stop_half_bits }) => {
                let rest = [data_bits, parity as u8, stop_half_bits];
                [&[FORMAT][..], &baud.to_le_bytes(), &rest].concat()
            }
        }
    }

    /// From bytes; `None`: they are none of this protocol.
    #[must_use]
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        match *message {
            [DATA, _, ..] => Some(Self::Data(&message[1..])),
            [CREDIT, a, b, c, d] => Some(Self::Credit(u32::from_le_bytes([a, b, c, d]))),
            [FAULTY, byte, 0] => Some(Self::Faulty { byte, fault: Fault::Parity }),
            [FAULTY, byte, 1] => Some(Self::Faulty { byte, fault: Fault::Framing }),
            [BREAK] => Some(Self::Break),
            [FORMAT, a, b, c, d, data_bits @ 5..=8, parity, stop_half_bits @ 2..=4] => {
                let (baud, parity) = (u32::from_le_bytes([a, b, c, d]), *PARITIES.get(usize::from(parity))?);
                Some(Self::Format(Format { baud, data_bits, parity, stop_half_bits }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_and_nothing_else_is_one() {
        let format = |parity| Format { baud: 115_200, data_bits: 8, parity, stop_half_bits: 2 };
        let words = [
            Word::Data(&[7]),
            Word::Data(&[0, 1, 2]),
            Word::Credit(0),
            Word::Credit(u32::MAX),
            Word::Faulty { byte: 3, fault: Fault::Parity },
            Word::Faulty { byte: 3, fault: Fault::Framing },
            Word::Break,
        ];
        for word in words.into_iter().chain(PARITIES.map(|parity| Word::Format(format(parity)))) {
            assert_eq!(Word::decode(&word.encode()), Some(word));
        }
        let good = Word::Format(format(Parity::None)).encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let formats = [with(5, 4), with(5, 9), with(6, 5), with(7, 1), with(7, 5), good[..7].to_vec()];
        let others = [&[][..], &[0], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0], &[2, 1], &[2, 1, 2], &[3, 0], &[5]];
        for odd in others.into_iter().chain(formats.iter().map(Vec::as_slice)) {
            assert_eq!(Word::decode(odd), None, "{odd:?}");
        }
    }
}
