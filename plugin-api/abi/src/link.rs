//! What is spoken on links: messages as types, so that a controller and the targets behind it can come from different
//! authors.
//!
//! A link carries bytes. Its protocol, a name with a version in both descriptors, says what they mean, and the board
//! connects only ends that say the same. Reprise defines those below; anybody may use one of their own.
//!
//! A message arrives after the callback that sent it, never inside it: a controller asks, returns, and goes on in its
//! device's `on_message`. All of a conversation happens between two instructions of the
//! guest, so nothing of it is ever saved.

pub mod i2c;
pub mod spi;

use crate::desc::LinkRole;

/// A message as the other end of a link would say it to this one, for those who drive devices at random: bytes would
/// hardly ever be a START. `None`: the protocol is none of those above. `below(end)` draws a number below `end`.
pub fn random_word(protocol: &str, role: LinkRole, below: &mut dyn FnMut(u64) -> u64) -> Option<Vec<u8>> {
    match (protocol, role) {
        (i2c::PROTOCOL, LinkRole::Target) => Some(random_i2c_ask(below).encode().to_vec()),
        (i2c::PROTOCOL, LinkRole::Controller) => Some(random_i2c_answer(below).encode().to_vec()),
        (spi::PROTOCOL, LinkRole::Target) => Some(random_spi_ask(below).encode().to_vec()),
        (spi::PROTOCOL, LinkRole::Controller) => Some(vec![random_byte(below)]),
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

/// Registers crowd at small numbers.
fn random_byte(below: &mut dyn FnMut(u64) -> u64) -> u8 {
    let end = if below(2) == 0 { 8 } else { 256 };
    below(end) as u8
}
