//! What happens to a device in a test: steps that follow from a seed and from its descriptor, never from what the
//! device does. So the same steps can be played again, in another process, or with a save and a load in between.

use crate::{phrases::Phrases, world::hex};
use reprise_abi::{
    desc::{DeviceDesc, LinkRole, PortKind},
    hot,
    link::random_word,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where guest RAM begins.
pub(crate) const RAM_BASE: u64 = 0x8000_0000;
/// How long it is, in bytes.
pub(crate) const RAM_SIZE: u64 = 1 << 20;

/// Numbers that follow from a seed alone (SplitMix64).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

/// One thing that happens to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read {
        region: u32,
        offset: u64,
        size: u32,
    },
    Write {
        region: u32,
        offset: u64,
        size: u32,
        value: u64,
    },
    Input {
        pin: u32,
        high: bool,
    },
    Arrive {
        port: u32,
        data: Vec<u8>,
    },
    Happen {
        port: u32,
        event: u32,
    },
    /// Over a link; `None`: who was spoken to is not there.
    Message {
        link: u32,
        at: u32,
        data: Option<Vec<u8>>,
    },
    Ram {
        gpa: u64,
        data: Vec<u8>,
    },
    Advance(u64),
    NextDeadline,
    WarmReset,
}

/// What a guest on a bus may do, or also what comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Everything,
    /// No pins, no ports, no reset: what these leave behind outlives a reset by right. What a controller says is the
    /// guest's doing.
    GuestOnly,
}

/// One step in so many is a phrase, where there are some.
const PHRASE_EVERY: u64 = 8;

/// The steps of a seed for this device: random ones, and phrases that it understands between them. What brings it up
/// comes first, and again behind most resets.
pub(crate) fn steps(desc: &DeviceDesc, phrases: &Phrases, seed: u64, count: u32, reach: Reach) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut steps = phrases.opening(&mut rng);
    while steps.len() < count as usize {
        let phrase =
            if phrases.is_empty() || rng.below(PHRASE_EVERY) != 0 { None } else { phrases.any(&mut rng) };
        match phrase {
            Some(phrase) => steps.extend(phrase),
            None => steps.push(random_op(desc, &mut rng, reach)),
        }
        if steps.last() == Some(&Op::WarmReset) && !phrases.is_empty() && rng.below(4) != 0 {
            steps.extend(phrases.opening(&mut rng));
        }
    }
    steps.retain(|op| reach.includes(op));
    steps.truncate(count as usize);
    steps
}

impl Reach {
    /// Whether a phrase may do this.
    fn includes(self, op: &Op) -> bool {
        match op {
            Op::Input { .. } | Op::Arrive { .. } | Op::Happen { .. } | Op::WarmReset => {
                self == Self::Everything
            }
            Op::Read { .. }
            | Op::Write { .. }
            | Op::Message { .. }
            | Op::Ram { .. }
            | Op::Advance(_)
            | Op::NextDeadline => true,
        }
    }
}

/// The bits of a value of this many bytes.
pub(crate) fn mask(size: u32) -> u64 {
    u64::MAX >> (64 - 8 * size.clamp(1, 8))
}

fn random_op(desc: &DeviceDesc, rng: &mut Rng, reach: Reach) -> Op {
    let all = reach == Reach::Everything;
    let ports = if all { desc.ports.len() as u64 } else { 0 };
    let pins = if all { pin_count(desc) } else { 0 };
    let links: Vec<u32> = (0..desc.links.len() as u32)
        .filter(|&link| all || desc.links[link as usize].role == LinkRole::Target)
        .collect();
    match rng.below(32) {
        // A device without registers is spoken to by its links.
        0..22 if desc.regions.is_empty() && !links.is_empty() => random_message(desc, rng, &links),
        0..11 => random_access(desc, rng, false),
        11..22 => random_access(desc, rng, true),
        22..24 if pins > 0 => Op::Input { pin: rng.below(pins) as u32, high: rng.below(2) == 1 },
        24..26 if ports > 0 => random_arrival(desc, rng, ports),
        26 if ports > 0 => {
            let events = [hot::PORT_READABLE, hot::PORT_OPENED, hot::PORT_CLOSED, hot::PORT_BREAK];
            Op::Happen { port: rng.below(ports) as u32, event: events[rng.below(4) as usize] }
        }
        27 => {
            let len = 1 + rng.below(64);
            let gpa = RAM_BASE + rng.below(RAM_SIZE - len);
            Op::Ram { gpa, data: (0..len).map(|_| rng.draw() as u8).collect() }
        }
        28 => Op::NextDeadline,
        29 if all && rng.below(16) == 0 => Op::WarmReset,
        30 if !links.is_empty() => random_message(desc, rng, &links),
        _ => Op::Advance(rng.draw() >> (20 + rng.below(44))),
    }
}

fn pin_count(desc: &DeviceDesc) -> u64 {
    desc.inputs.iter().map(|pins| u64::from(pins.count.unwrap_or(1))).sum()
}

fn random_arrival(desc: &DeviceDesc, rng: &mut Rng, ports: u64) -> Op {
    let port = rng.below(ports) as u32;
    let most = if desc.ports[port as usize].kind == PortKind::Net { 1600 } else { 20 };
    let len = rng.below(most);
    Op::Arrive { port, data: (0..len).map(|_| rng.draw() as u8).collect() }
}

/// A word of the protocol, or noise: mostly short, with a small first byte, as protocols number what they say.
fn random_message(desc: &DeviceDesc, rng: &mut Rng, links: &[u32]) -> Op {
    let link = links[rng.below(links.len() as u64) as usize];
    let end = &desc.links[link as usize];
    let at = rng.below(end.addresses.max(1).into()) as u32;
    if end.role == LinkRole::Controller && rng.below(4) == 0 {
        return Op::Message { link, at, data: None };
    }
    if rng.below(16) != 0
        && let Some(word) = random_word(&end.protocol, end.role, &mut |end| rng.below(end))
    {
        return Op::Message { link, at, data: Some(word) };
    }
    let most = if rng.below(8) == 0 { 64 } else { 3 };
    let mut data: Vec<u8> = (0..=rng.below(most)).map(|_| rng.draw() as u8).collect();
    if rng.below(8) != 0 {
        data[0] &= 3;
    }
    Op::Message { link, at, data: Some(data) }
}

fn random_access(desc: &DeviceDesc, rng: &mut Rng, write: bool) -> Op {
    if desc.regions.is_empty() {
        return Op::Advance(1);
    }
    let index = rng.below(desc.regions.len() as u64) as u32;
    let region = &desc.regions[index as usize];
    let fits = |size: &u32| u32::from(region.access) & size != 0 && u64::from(*size) <= region.size;
    let allowed: Vec<u32> = [1, 2, 4, 8].into_iter().filter(fits).collect();
    let Some(size) = allowed.get(rng.below(allowed.len().max(1) as u64) as usize).copied() else {
        return Op::Advance(1);
    };
    // Registers crowd at the beginning of a region.
    let span = match rng.below(4) {
        0 => region.size,
        1 => region.size.min(0x1000),
        2 => region.size.min(0x100),
        _ => region.size.min(0x20),
    };
    let offset = rng.below(span) & !(u64::from(size) - 1);
    let offset = offset.min((region.size - u64::from(size)) & !(u64::from(size) - 1));
    if write {
        Op::Write { region: index, offset, size, value: random_value(rng) & mask(size) }
    } else {
        Op::Read { region: index, offset, size }
    }
}

/// Values that registers care about.
fn random_value(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << rng.below(64),
        3 | 4 => rng.below(16),
        5 => rng.below(256),
        6 => RAM_BASE + (rng.below(RAM_SIZE) & !0xf),
        _ => rng.draw(),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { region, offset, size } => write!(f, "read {size} at {offset:#x} of region {region}"),
            Self::Write { region, offset, size, value } => {
                write!(f, "write {size} at {offset:#x} of region {region}: {value:#x}")
            }
            Self::Input { pin, high } => write!(f, "input pin {pin} {}", if *high { "high" } else { "low" }),
            Self::Arrive { port, data } => write!(f, "{} bytes arrive at port {port}", data.len()),
            Self::Happen { port, event } => {
                let names = ["readable", "opened", "closed", "break"];
                write!(f, "port {port}: {}", names.get(*event as usize).unwrap_or(&"?"))
            }
            Self::Message { link, at, data: Some(data) } => {
                write!(f, "link {link}, address {at:#x}, says {}", hex(data))
            }
            Self::Message { link, at, data: None } => write!(f, "link {link}: nobody is at address {at:#x}"),
            Self::Ram { gpa, data } => write!(f, "guest writes {} bytes of RAM at {gpa:#x}", data.len()),
            Self::Advance(ns) => write!(f, "{ns} ns pass"),
            Self::NextDeadline => f.write_str("time passes to the next deadline"),
            Self::WarmReset => f.write_str("warm reset"),
        }
    }
}
