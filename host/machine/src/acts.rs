//! What devices do, as their host sees it: so that two builds of a device can be compared by what they do, wherever
//! their states cannot be.
//!
//! Most of what a device does is in the state of the machine afterwards. What leaves no trace there (a value that the
//! guest does not keep, a pulse on a pin) goes into a digest as well. The last acts are kept as they are, to be told.

use crate::{machine::Machine, services::Services};
use reprise_abi::{
    desc::{DeviceDesc, Pins},
    observe::{KIND_MMIO_READ, KIND_MMIO_WRITE, KIND_PIN},
};

/// Acts kept at most.
const KEPT: usize = 1024;
/// Bytes of one act kept at most.
const DATA_BYTES: usize = 4096;
/// Bytes of one act shown at most.
const SHOWN: usize = 24;

/// One thing that a device did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Device id.
    pub device: String,
    /// The callback in which it did that.
    pub callback: &'static str,
    /// For programs: `mmio-read`, `mmio-write`, `pin`, `timer`, `bottom-half`, `dma`, `port-output`, `port-input`,
    /// `random`, `host-clock`, `disk`, `message`, `control`, `offload`.
    pub kind: &'static str,
    /// What it did, by the names of its descriptor: `read of regs+0x8, 4 bytes`.
    pub what: String,
    /// What came of it, or what it said: `0x5`, `high`, `at 1000 ns`. May be empty.
    pub value: String,
}

/// The same, as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// Answered the guest; `None`: with an access fault.
    Read {
        region: u32,
        offset: u64,
        size: u8,
        value: Option<u64>,
    },
    /// Refused what the guest wrote.
    Refused {
        region: u32,
        offset: u64,
        size: u8,
    },
    Pin {
        pin: u32,
        high: bool,
    },
    Arm {
        timer: u32,
        at_ns: u64,
    },
    Cancel {
        timer: u32,
    },
    Queue {
        bh: u32,
        payload: Option<Vec<u8>>,
    },
    Dma {
        gpa: u64,
        data: Vec<u8>,
    },
    Output {
        port: u32,
        data: Vec<u8>,
    },
    Take {
        port: u32,
        bytes: u64,
    },
    Random {
        bytes: u64,
    },
    HostClock,
    Disk {
        port: u32,
        op: u32,
        offset: u64,
        bytes: u64,
    },
    Message {
        link: u32,
        at: u32,
        data: Vec<u8>,
    },
    Control {
        kind: u32,
        value: u64,
    },
    Offload {
        port: u32,
        bits: u32,
        mtu: u32,
    },
}

/// The acts of some devices.
#[derive(Debug)]
pub(crate) struct Acts {
    /// By device: whether it is watched.
    watched: Vec<bool>,
    hasher: blake3::Hasher,
    kept: Vec<(usize, &'static str, Did)>,
}

impl Did {
    /// What no state shows.
    fn hash(&self, device: usize, into: &mut blake3::Hasher) {
        let mut words = |tag: u8, words: [u64; 3]| {
            into.update(&[tag]).update(&(device as u64).to_le_bytes());
            for word in words {
                into.update(&word.to_le_bytes());
            }
        };
        match self {
            Did::Read { region, offset, value, .. } => {
                words(if value.is_some() { 1 } else { 2 }, [(*region).into(), *offset, value.unwrap_or(0)]);
            }
            Did::Refused { region, offset, .. } => words(3, [(*region).into(), *offset, 0]),
            Did::Pin { pin, high } => words(4, [(*pin).into(), u64::from(*high), 0]),
            Did::Message { link, at, data } => {
                words(5, [(*link).into(), (*at).into(), data.len() as u64]);
                into.update(data);
            }
            // Queues, timers, RAM, ports, disks and the random stream are state. How output was cut is nobody's matter.
            Did::Arm { .. }
            | Did::Cancel { .. }
            | Did::Queue { .. }
            | Did::Dma { .. }
            | Did::Output { .. }
            | Did::Take { .. }
            | Did::Random { .. }
            | Did::HostClock
            | Did::Disk { .. }
            | Did::Control { .. }
            | Did::Offload { .. } => {}
        }
    }

    /// Whether `next` only goes on with this, and if so, both in one.
    fn join(&mut self, next: &Did) -> bool {
        match (self, next) {
            (Did::Output { port, data }, Did::Output { port: other, data: more }) if port == other => {
                let room = DATA_BYTES.saturating_sub(data.len());
                data.extend(more.iter().take(room));
                true
            }
            (Did::Dma { gpa, data }, Did::Dma { gpa: next, data: more })
                if *gpa + data.len() as u64 == *next && data.len() + more.len() <= DATA_BYTES =>
            {
                data.extend(more);
                true
            }
            _ => false,
        }
    }
}

impl Services {
    /// A device did something, if anybody wants to know.
    #[inline]
    pub(crate) fn did(&mut self, device: usize, callback: &'static str, what: impl FnOnce() -> Did) {
        if let Some(acts) = &mut self.acts
            && acts.watched[device]
        {
            acts.push(device, callback, what());
        }
    }

    /// Whether anybody wants to know what this device does.
    pub(crate) fn is_watched(&self, device: usize) -> bool {
        self.acts.as_ref().is_some_and(|acts| acts.watched[device])
    }
}

impl Acts {
    #[cold]
    fn push(&mut self, device: usize, callback: &'static str, did: Did) {
        did.hash(device, &mut self.hasher);
        if let Some((last, during, before)) = self.kept.last_mut()
            && (*last, *during) == (device, callback)
            && before.join(&did)
        {
            return;
        }
        if self.kept.len() < KEPT {
            self.kept.push((device, callback, did));
        }
    }
}

/// Bytes that a device lends, as far as they are kept.
pub(crate) fn kept(data: &[u8]) -> Vec<u8> {
    data[..data.len().min(DATA_BYTES)].to_vec()
}

impl Machine {
    /// Note from here on what these devices do, by id. It costs time, and nobody inside can tell.
    pub fn watch_acts(&mut self, devices: &[String]) {
        let watched = self.services.device_ids.iter().map(|id| devices.contains(id)).collect();
        self.services.observers.want_too(&[KIND_MMIO_READ, KIND_MMIO_WRITE, KIND_PIN]);
        self.services.acts =
            Some(Box::new(Acts { watched, hasher: blake3::Hasher::new(), kept: Vec::new() }));
    }

    /// Two machines whose watched devices did the same have the same; `None`: none is watched.
    #[must_use]
    pub fn acts_digest(&self) -> Option<[u8; 32]> {
        self.services.acts.as_ref().map(|acts| *acts.hasher.finalize().as_bytes())
    }

    /// What was done until here is not of interest, but for the digest.
    pub fn forget_acts(&mut self) {
        if let Some(acts) = &mut self.services.acts {
            acts.kept.clear();
        }
    }

    /// What the watched devices did since this was asked last: the first 1024 acts.
    pub fn take_acts(&mut self) -> Vec<Act> {
        let Some(acts) = &mut self.services.acts else { return Vec::new() };
        let taken = std::mem::take(&mut acts.kept);
        let told = |(device, callback, did): (usize, &'static str, Did)| {
            let (kind, what, value) = words(self.slots[device].instance.desc(), &did);
            Act { device: self.services.device_ids[device].clone(), callback, kind, what, value }
        };
        taken.into_iter().map(told).collect()
    }
}

/// Kind, what was done, and what came of it.
fn words(desc: &DeviceDesc, did: &Did) -> (&'static str, String, String) {
    let name =
        |names: Vec<&str>, id: u32| names.get(id as usize).map_or_else(|| id.to_string(), |&n| n.into());
    let region = |id| name(desc.regions.iter().map(|region| region.name.as_str()).collect(), id);
    let port = |id| name(desc.ports.iter().map(|port| port.name.as_str()).collect(), id);
    let timer = |id| name(desc.timers.iter().map(String::as_str).collect(), id);
    let link = |id| name(desc.links.iter().map(|link| link.name.as_str()).collect(), id);
    let bh = |id| name(desc.bottom_halves.iter().map(|bh| bh.name.as_str()).collect(), id);
    match did {
        Did::Read { region: id, offset, size, value } => {
            let value = value.map_or_else(|| "access fault".to_owned(), |value| format!("{value:#x}"));
            ("mmio-read", format!("read of {}+{offset:#x}, {}", region(*id), bytes(u64::from(*size))), value)
        }
        Did::Refused { region: id, offset, size } => {
            let what = format!("write to {}+{offset:#x}, {}", region(*id), bytes(u64::from(*size)));
            ("mmio-write", what, "access fault".to_owned())
        }
        Did::Pin { pin, high } => {
            let names = Pins::flatten(&desc.outputs);
            let pin = name(names.iter().map(String::as_str).collect(), *pin);
            ("pin", format!("pin {pin}"), if *high { "high" } else { "low" }.to_owned())
        }
        Did::Arm { timer: id, at_ns } => ("timer", format!("timer {}", timer(*id)), format!("at {at_ns} ns")),
        Did::Cancel { timer: id } => ("timer", format!("timer {}", timer(*id)), "cancelled".to_owned()),
        Did::Queue { bh: id, payload } => {
            let payload = payload.as_deref().map_or_else(String::new, shown);
            ("bottom-half", format!("bottom half {}", bh(*id)), payload)
        }
        Did::Dma { gpa, data } => ("dma", format!("write to RAM at {gpa:#x}"), shown(data)),
        Did::Output { port: id, data } => ("port-output", format!("output to {}", port(*id)), shown(data)),
        Did::Take { port: id, bytes: count } => {
            ("port-input", format!("input from {}", port(*id)), bytes(*count))
        }
        Did::Random { bytes: count } => ("random", "random numbers".to_owned(), bytes(*count)),
        Did::HostClock => ("host-clock", "read of the host's clock".to_owned(), String::new()),
        Did::Disk { port: id, op, offset, bytes: count } => {
            let what = format!("disk request {op} to {}", port(*id));
            ("disk", what, format!("{} from {offset}", bytes(*count)))
        }
        Did::Message { link: id, at, data } => {
            ("message", format!("message on {}, address {at:#x}", link(*id)), shown(data))
        }
        Did::Control { kind, value } => ("control", format!("control {kind}"), format!("{value:#x}")),
        Did::Offload { port: id, bits, mtu } => {
            ("offload", format!("offloads of {}", port(*id)), format!("{bits:#x}, MTU {mtu}"))
        }
    }
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn shown(data: &[u8]) -> String {
    let text: Vec<String> = data.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more =
        if data.len() > SHOWN { format!(" … ({})", bytes(data.len() as u64)) } else { String::new() };
    text.join(" ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_abi::desc::PortKind;

    fn acts() -> Acts {
        Acts { watched: vec![true], hasher: blake3::Hasher::new(), kept: Vec::new() }
    }

    fn after(dids: &[Did]) -> (blake3::Hash, Vec<Did>) {
        let mut acts = acts();
        dids.iter().for_each(|did| acts.push(0, "on_timer", did.clone()));
        (acts.hasher.finalize(), acts.kept.into_iter().map(|(_, _, did)| did).collect())
    }

    #[test]
    fn how_output_is_cut_is_no_difference() {
        let out = |data: &[u8]| Did::Output { port: 0, data: data.to_vec() };
        assert_eq!(after(&[out(b"ab"), out(b"c")]), after(&[out(b"abc")]));
        let dma = |gpa, data: &[u8]| Did::Dma { gpa, data: data.to_vec() };
        assert_eq!(after(&[dma(8, b"ab"), dma(10, b"c")]), after(&[dma(8, b"abc")]));
        assert_eq!(after(&[dma(8, b"ab"), dma(11, b"c")]).1.len(), 2);
    }

    #[test]
    fn what_leaves_no_trace_is_in_the_digest() {
        let digest = |dids: &[Did]| after(dids).0;
        let read = |value| Did::Read { region: 0, offset: 8, size: 4, value };
        let pin = |high| Did::Pin { pin: 0, high };
        assert_ne!(digest(&[read(Some(1))]), digest(&[read(Some(2))]));
        assert_ne!(digest(&[read(Some(0))]), digest(&[read(None)]));
        assert_ne!(digest(&[]), digest(&[pin(true), pin(false)]));
    }

    #[test]
    fn names_are_the_descriptors() {
        let desc = DeviceDesc::new("x", "").region("regs", 16, 4).outputs("out", 2).timer("tick");
        let desc = desc.port("chr", PortKind::Chr).bottom_half("work").controller("bus", "i2c/1", 8);
        let told = |did| {
            let (kind, what, value) = words(&desc, &did);
            format!("{kind}: {what}: {value}")
        };
        let read = |value| told(Did::Read { region: 0, offset: 8, size: 4, value });
        assert_eq!(read(Some(5)), "mmio-read: read of regs+0x8, 4 bytes: 0x5");
        assert_eq!(read(None), "mmio-read: read of regs+0x8, 4 bytes: access fault");
        assert_eq!(told(Did::Pin { pin: 1, high: true }), "pin: pin out.1: high");
        assert_eq!(told(Did::Arm { timer: 0, at_ns: 7 }), "timer: timer tick: at 7 ns");
        assert_eq!(told(Did::Queue { bh: 0, payload: None }), "bottom-half: bottom half work: ");
        assert_eq!(told(Did::Output { port: 0, data: vec![1] }), "port-output: output to chr: 01");
        let dma = told(Did::Dma { gpa: 16, data: vec![1; 30] });
        assert_eq!(dma, format!("dma: write to RAM at 0x10: {} … (30 bytes)", ["01"; SHOWN].join(" ")));
        let message = Did::Message { link: 0, at: 3, data: vec![9] };
        assert_eq!(told(message), "message: message on bus, address 0x3: 09");
        assert_eq!(told(Did::Take { port: 9, bytes: 1 }), "port-input: input from 9: 1 byte");
    }
}
