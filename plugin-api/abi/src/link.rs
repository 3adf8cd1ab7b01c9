//! What is spoken on links: messages as types, so that a controller and the targets behind it can come from different
//! authors.
//!
//! A link carries bytes. Its protocol, a name with a version in both descriptors, says what they mean, and the board
//! connects only ends that say the same. Reprise defines those below; anybody may use one of their own.
//!
//! A message arrives after the callback that sent it, never inside it: a controller asks, returns, and goes on in its
//! device's `on_message`. All of a conversation happens between two instructions of the
//! guest, so nothing of it is ever saved.

pub mod gpio;
pub mod i2c;
pub mod spi;
pub mod stream;

use crate::desc::LinkRole;

/// A message as the other end of a link would say it to this one, for those who drive devices at random: bytes would
/// hardly ever be a START. `None`: the protocol is none of those above. `below(end)` draws a number below `end`.
pub fn random_word(protocol: &str, role: LinkRole, below: &mut dyn FnMut(u64) -> u64) -> Option<Vec<u8>> {
    match (protocol, role) {
        (i2c::PROTOCOL, LinkRole::Target) => Some(random_i2c_ask(below).encode().to_vec()),
        (i2c::PROTOCOL, LinkRole::Controller) => Some(random_i2c_answer(below).encode().to_vec()),
        (spi::PROTOCOL, LinkRole::Target) => Some(random_spi_ask(below).encode().to_vec()),
        (spi::PROTOCOL, LinkRole::Controller) => Some(vec![random_byte(below)]),
        // Both ends of these say the same words.
        (gpio::PROTOCOL, LinkRole::Target | LinkRole::Controller) => {
            Some(random_lines(below).encode().to_vec())
        }
        (stream::PROTOCOL, LinkRole::Target | LinkRole::Controller) => Some(random_stream(below)),
        _ => None,
    }
}

/// START or STOP seldom enough for transfers of some length.
fn random_i2c_ask(below: &mut dyn FnMut(u64) -> u64) -> i2c::Ask {
    match below(16) {
        0..4 => i2c::Ask::Start { read: below(2) == 1 },
        4..10 => i2c::Ask::Write(random_byte(below)),
        10..15 => i2c::Ask::Read,
        _ => i2c::Ask::Stop,
    }
}

fn random_i2c_answer(below: &mut dyn FnMut(u64) -> u64) -> i2c::Answer {
    match below(4) {
        0 | 1 => i2c::Answer::Ack,
        2 => i2c::Answer::Nack,
        _ => i2c::Answer::Data(random_byte(below)),
    }
}

fn random_spi_ask(below: &mut dyn FnMut(u64) -> u64) -> spi::Ask {
    match below(16) {
        0 => spi::Ask::Select(below(2) == 1),
        _ => spi::Ask::Exchange(random_byte(below)),
    }
}

/// Single lines as often as many at once: who waits for one line sees it go alone.
fn random_lines(below: &mut dyn FnMut(u64) -> u64) -> gpio::Lines {
    let mut mask = || match below(4) {
        0 => 0,
        1 => 1 << below(gpio::LINES.into()),
        2 => below(256),
        _ => below(1 << 32) << 32 | below(1 << 32),
    };
    gpio::Lines { driven: mask(), levels: mask() }
}

/// Mostly characters, with room for them, so that what passes is more than the first few.
fn random_stream(below: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
    use stream::{Fault, Format, Parity, Word};
    let fault = |odd: u64| if odd == 1 { Fault::Framing } else { Fault::Parity };
    match below(16) {
        0..8 => {
            let bytes: Vec<u8> = (0..=below(4)).map(|_| random_byte(below)).collect();
            Word::Data(&bytes).encode()
        }
        8..12 => Word::Credit(below(20) as u32).encode(),
        12 => Word::Credit(u32::MAX).encode(),
        13 => Word::Faulty { byte: random_byte(below), fault: fault(below(2)) }.encode(),
        14 => Word::Break.encode(),
        _ => {
            let parity = [Parity::None, Parity::Odd, Parity::Even, Parity::Mark, Parity::Space];
            Word::Format(Format {
                baud: [0, 1, 9600, 115_200, u32::MAX][below(5) as usize],
                data_bits: 5 + below(4) as u8,
                parity: parity[below(5) as usize],
                stop_half_bits: 2 + below(3) as u8,
            })
            .encode()
        }
    }
}

/// Registers crowd at small numbers.
fn random_byte(below: &mut dyn FnMut(u64) -> u64) -> u8 {
    let end = if below(2) == 0 { 8 } else { 256 };
    below(end) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word of every protocol is drawn, and nothing that is none.
    #[test]
    fn random_words_are_words_of_their_protocol() {
        let mut state = 1u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) % end
        };
        let mut kinds = [0; 5];
        for _ in 0..2000 {
            let mut draw = |protocol: &str, role| random_word(protocol, role, &mut below).expect("a word");
            for role in [LinkRole::Target, LinkRole::Controller] {
                assert!(gpio::Lines::decode(&draw(gpio::PROTOCOL, role)).is_some());
                let word = draw(stream::PROTOCOL, role);
                assert!(stream::Word::decode(&word).is_some(), "{word:?}");
                kinds[usize::from(word[0])] += 1;
            }
            assert!(i2c::Ask::decode(&draw(i2c::PROTOCOL, LinkRole::Target)).is_some());
            assert!(i2c::Answer::decode(&draw(i2c::PROTOCOL, LinkRole::Controller)).is_some());
            assert!(spi::Ask::decode(&draw(spi::PROTOCOL, LinkRole::Target)).is_some());
        }
        assert!(kinds.iter().all(|count| *count > 100), "{kinds:?}");
        assert_eq!(random_word("acme/1", LinkRole::Target, &mut below), None);
    }
}
