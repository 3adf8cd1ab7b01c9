//! What is said on links whose protocol is known here: random bytes would hardly ever be a START.

use crate::script::Rng;
use reprise_abi::desc::{Link, LinkRole};

/// A message as the other end would say it, or none if the protocol is another. The encodings are those of
/// `reprise_plugin_api::link`, by which every plugin's end reads them.
pub(crate) fn word(link: &Link, rng: &mut Rng) -> Option<Vec<u8>> {
    match (link.protocol.as_str(), link.role) {
        ("i2c/1", LinkRole::Target) => Some(i2c_ask(rng)),
        ("i2c/1", LinkRole::Controller) => Some(i2c_answer(rng)),
        ("spi/1", LinkRole::Target) => Some(spi_ask(rng)),
        ("spi/1", LinkRole::Controller) => Some(vec![byte(rng)]),
        _ => None,
    }
}

/// START or STOP seldom enough for transfers of some length.
fn i2c_ask(rng: &mut Rng) -> Vec<u8> {
    match rng.below(16) {
        0..4 => vec![0, rng.below(2) as u8],
        4..10 => vec![1, byte(rng)],
        10..15 => vec![2, 0],
        _ => vec![3, 0],
    }
}

fn i2c_answer(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 | 1 => vec![0, 0],
        2 => vec![1, 0],
        _ => vec![2, byte(rng)],
    }
}

fn spi_ask(rng: &mut Rng) -> Vec<u8> {
    match rng.below(16) {
        0 => vec![0, rng.below(2) as u8],
        _ => vec![1, byte(rng)],
    }
}

/// Registers crowd at small numbers.
fn byte(rng: &mut Rng) -> u8 {
    if rng.below(2) == 0 { rng.below(8) as u8 } else { rng.draw() as u8 }
}
