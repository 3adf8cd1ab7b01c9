//! Scripts of a virtio driver: some rings make sense, some don't. Virtio 1.2 §4.2.2, §2.7.

use crate::script::{Op, RAM_BASE, RAM_SIZE, Rng};
use reprise_abi::desc::DeviceDesc;
use serde::{Deserialize, Serialize};

/// What a driver learns of a device before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The features that it offers.
    pub(crate) features: u64,
    /// The longest ring of each queue.
    pub(crate) queues: Vec<u16>,
}

const DEVICE_FEATURES: u64 = 0x10;
const DEVICE_FEATURES_SEL: u64 = 0x14;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_NUM_MAX: u64 = 0x34;
const QUEUE_NUM: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACK: u64 = 0x64;
const STATUS: u64 = 0x70;
/// Low halves of the addresses of descriptors, driver area and device area.
const AREAS: [u64; 3] = [0x80, 0x90, 0xa0];
const QUEUE_RESET: u64 = 0xc0;
const CONFIG: u64 = 0x100;
const VERSION_1: u64 = 1 << 32;
const MAX_QUEUES: u32 = 8;
const RING_SIZE: u16 = 8;
const RINGS: u64 = RAM_BASE + 0x1000;
const BUFFERS: u64 = RAM_BASE + RAM_SIZE / 2;

/// Whether this is a virtio device on MMIO.
pub(crate) fn is_virtio(desc: &DeviceDesc) -> bool {
    let named =
        desc.fdt.as_ref().is_some_and(|node| node.compatible.iter().any(|name| name == "virtio,mmio"));
    named && desc.regions.first().is_some_and(|region| region.access & 4 != 0 && region.size >= 0x100)
}

fn write(offset: u64, value: u32) -> Op {
    Op::Write { region: 0, offset, size: 4, value: value.into() }
}

fn read(offset: u64) -> Op {
    Op::Read { region: 0, offset, size: 4 }
}

/// Ask the device, by `apply`, what it offers.
pub(crate) fn learn(mut apply: impl FnMut(&Op) -> Option<u64>) -> Facts {
    let mut facts = Facts::default();
    for half in [0, 1] {
        apply(&write(DEVICE_FEATURES_SEL, half));
        facts.features |= (apply(&read(DEVICE_FEATURES)).unwrap_or(0) & 0xffff_ffff) << (32 * half);
    }
    for queue in 0..MAX_QUEUES {
        apply(&write(QUEUE_SEL, queue));
        match apply(&read(QUEUE_NUM_MAX)).unwrap_or(0) as u16 {
            0 => break,
            max => facts.queues.push(max),
        }
    }
    facts
}

/// One queue as the driver has it.
struct Ring {
    size: u16,
    areas: [u64; 3],
    next_avail: u16,
}

/// Drivers that come one after the other, about as many steps as asked for.
pub(crate) fn steps(facts: &Facts, seed: u64, count: u32) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut out = Vec::new();
    while !facts.queues.is_empty() && out.len() < count as usize {
        driver(facts, &mut rng, &mut out);
    }
    out
}

fn driver(facts: &Facts, rng: &mut Rng, out: &mut Vec<Op>) {
    // Features that need each other are seldom all there by chance.
    let wanted = [u64::MAX, 0, rng.draw() | rng.draw()][rng.below(3) as usize];
    let features = facts.features & wanted | VERSION_1;
    out.extend([write(STATUS, 0), write(STATUS, 1), write(STATUS, 3)]);
    for half in [0, 1] {
        out.push(write(DRIVER_FEATURES_SEL, half));
        out.push(write(DRIVER_FEATURES, (features >> (32 * half)) as u32));
    }
    out.extend([write(STATUS, 11), read(STATUS)]);
    let mut at = RINGS;
    let mut rings: Vec<Ring> = facts.queues.iter().map(|max| place(&mut at, (*max).min(RING_SIZE))).collect();
    for (queue, ring) in rings.iter().enumerate() {
        enable(queue as u32, ring, out);
    }
    out.push(write(STATUS, 15));
    for _ in 0..=rng.below(6) {
        let queue = rng.below(rings.len() as u64) as usize;
        let all = rings.len();
        scribble(&mut rings[queue], rng, out);
        out.push(write(QUEUE_NOTIFY, queue as u32));
        match rng.below(16) {
            0 => out.push(write(QUEUE_RESET, 1)),
            1 => out.push(write(QUEUE_READY, 0)),
            2 => out.push(write(QUEUE_SEL, rng.below(all as u64 + 1) as u32)),
            3 => out.push(write(CONFIG + 4 * rng.below(64), rng.draw() as u32)),
            4 => out.push(write(QUEUE_NOTIFY, rng.draw() as u32)),
            _ => {}
        }
        out.extend([Op::Advance(rng.below(3) * 500), Op::NextDeadline, read(INTERRUPT_STATUS)]);
        out.push(write(INTERRUPT_ACK, 3));
    }
}

fn place(at: &mut u64, size: u16) -> Ring {
    let n = u64::from(size);
    let desc = *at;
    let driver = desc + 16 * n;
    let device = (driver + 6 + 2 * n).next_multiple_of(4);
    *at = (device + 6 + 8 * n).next_multiple_of(16);
    Ring { size, areas: [desc, driver, device], next_avail: 0 }
}

fn enable(queue: u32, ring: &Ring, out: &mut Vec<Op>) {
    let n = usize::from(ring.size);
    out.push(Op::Ram { gpa: ring.areas[1], data: vec![0; 6 + 2 * n] });
    out.push(Op::Ram { gpa: ring.areas[2], data: vec![0; 6 + 8 * n] });
    out.extend([write(QUEUE_SEL, queue), write(QUEUE_NUM, ring.size.into())]);
    for (low, gpa) in AREAS.iter().zip(ring.areas) {
        out.extend([write(*low, gpa as u32), write(*low + 4, (gpa >> 32) as u32)]);
    }
    out.push(write(QUEUE_READY, 1));
}

/// Fill a ring with descriptors of which some make sense, and offer a few of them.
fn scribble(ring: &mut Ring, rng: &mut Rng, out: &mut Vec<Op>) {
    // Headers and messages of the devices are small numbers.
    let small: Vec<u8> = (0..16).flat_map(|_| (rng.below(16) as u16).to_le_bytes()).collect();
    out.push(Op::Ram { gpa: BUFFERS + 0x100 * rng.below(16), data: small });
    let honest = rng.below(2) == 0;
    let mut table = Vec::new();
    for index in 0..ring.size {
        // A chain of three: header, data, answer.
        let usual = [1, 1 | (rng.below(2) as u16 * 2), 2][usize::from(index) % 3];
        let (mut gpa, mut len) =
            (BUFFERS + 0x100 * rng.below(16), [16, 17, 32, 512, 513, 1024][rng.below(6) as usize]);
        let (mut flags, mut next) = (usual, index + 1);
        // One lie at a time: several would mostly be refused for the first of them, before the device sees any.
        if !honest && rng.below(3) == 0 {
            match rng.below(8) {
                0..4 => {
                    gpa = [0, u64::MAX - 8, ring.areas[2], RAM_BASE + RAM_SIZE - 20][rng.below(4) as usize];
                }
                4 | 5 => len = [0, 1, 8, 16, 48, u32::MAX][rng.below(6) as usize],
                6 => flags = rng.below(8) as u16,
                _ => next = rng.below(10) as u16,
            }
        }
        table.extend(gpa.to_le_bytes());
        table.extend(len.to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend(next.to_le_bytes());
    }
    out.push(Op::Ram { gpa: ring.areas[0], data: table });
    for _ in 0..rng.below(4) {
        let head = if honest { 3 * rng.below(2) } else { rng.below(10) } as u16;
        let slot = u64::from(ring.next_avail % ring.size);
        out.push(Op::Ram { gpa: ring.areas[1] + 4 + 2 * slot, data: head.to_le_bytes().to_vec() });
        ring.next_avail = ring.next_avail.wrapping_add(1);
    }
    if rng.below(40) == 0 {
        ring.next_avail = rng.draw() as u16;
    }
    out.push(Op::Ram { gpa: ring.areas[1] + 2, data: ring.next_avail.to_le_bytes().to_vec() });
}
