//! The host that a device under test believes in: everything that a host holds for one device, in plain memory, and a
//! note of everything that can be seen of the device.

use crate::{
    disk::Disk,
    script::{RAM_BASE, RAM_SIZE, Rng},
};
use reprise_abi::{
    desc::{DeviceDesc, Link, LinkRole, Pins, PortKind},
    hot::{self, BlkReq},
};
use serde::{Deserialize, Serialize};
use std::{cell::Cell, collections::VecDeque, fmt};

/// How long a block request takes.
const BLK_LATENCY_NS: u64 = 1000;
/// Of a disk, where nobody says another size. Small, so that requests hit its end, too.
const DISK_BYTES: u64 = 64 << 10;
const PAGE_SHIFT: u32 = 12;
/// 2023-11-14, so that a wall clock is not near zero.
const WALL_CLOCK_NS: u64 = 1_700_000_000_000_000_000;

/// Guest RAM. `Cell`, so that a window's pointers may live beside what the host itself does.
pub(crate) struct Ram {
    pub(crate) bytes: Box<[Cell<u8>]>,
    pub(crate) pages: Box<[Cell<u8>]>,
}

impl Default for Ram {
    fn default() -> Self {
        let zeroes = |len: u64| vec![Cell::new(0u8); len as usize].into_boxed_slice();
        Self { bytes: zeroes(RAM_SIZE), pages: zeroes(RAM_SIZE >> PAGE_SHIFT) }
    }
}

impl Ram {
    pub(crate) fn range(&self, gpa: u64, len: u64) -> Option<&[Cell<u8>]> {
        let from = gpa.checked_sub(RAM_BASE)?;
        let to = from.checked_add(len)?;
        self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    /// Everything, to compare.
    pub(crate) fn copy(&self) -> Vec<u8> {
        self.bytes.iter().map(Cell::get).collect()
    }

    pub(crate) fn put(&self, gpa: u64, data: &[u8]) {
        if let Some(to) = self.range(gpa, data.len() as u64) {
            to.iter().zip(data).for_each(|(to, from)| to.set(*from));
        }
    }

    fn pages_of(&self, gpa: u64, len: u64) -> &[Cell<u8>] {
        let page = |gpa: u64| ((gpa - RAM_BASE) >> PAGE_SHIFT) as usize;
        if len == 0 { &[] } else { &self.pages[page(gpa)..=page(gpa + len - 1)] }
    }

    /// Mark what a copy wrote; whether one of the pages is watched.
    pub(crate) fn mark_written(&self, gpa: u64, len: u64) -> bool {
        let pages = self.pages_of(gpa, len);
        pages.iter().for_each(|page| page.set(page.get() | hot::PAGE_DIRTY));
        pages.iter().any(|page| page.get() & hot::PAGE_WATCHED != 0)
    }
}

/// What can be seen of a device beside the values that it returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Event {
    Pin { name: String, high: bool },
    Sent { port: String, data: Vec<u8> },
    Took { port: String, len: u64 },
    Offload { port: String, bits: u32, mtu: u32 },
    Said { link: String, at: u32, data: Vec<u8> },
    Request { port: String, op: u32, token: u64, offset: u64, len: u64 },
    Control { kind: u32, value: u64 },
    Log { level: u32, text: String },
    Random { len: u64 },
    WallClock,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin { name, high } => write!(f, "pin {name} {}", if *high { "high" } else { "low" }),
            Self::Sent { port, data } => write!(f, "port {port} sends {}", hex(data)),
            Self::Took { port, len } => write!(f, "port {port} takes {len} bytes"),
            Self::Offload { port, bits, mtu } => write!(f, "port {port} offloads {bits:#x}, MTU {mtu}"),
            Self::Said { link, at, data } => write!(f, "link {link}, address {at:#x}: says {}", hex(data)),
            Self::Request { port, op, token, offset, len } => {
                let names = ["read", "write", "flush", "discard", "write zeroes"];
                let op = names.get(*op as usize).unwrap_or(&"?");
                write!(f, "port {port} requests {op}, token {token}, {len} bytes at {offset:#x}")
            }
            Self::Control { kind, value } => {
                let names = ["power off", "reset", "time offset"];
                write!(f, "asks for {} {value:#x}", names.get(*kind as usize).unwrap_or(&"?"))
            }
            Self::Log { level, text } => write!(f, "logs at level {level}: {text}"),
            Self::Random { len } => write!(f, "draws {len} random bytes"),
            Self::WallClock => f.write_str("reads the wall clock"),
        }
    }
}

/// Bytes for people.
pub(crate) fn hex(data: &[u8]) -> String {
    const SHOWN: usize = 16;
    let text: String = data.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if data.len() > SHOWN { format!("{text}… ({} bytes)", data.len()) } else { text }
}

/// A device broke the contract in a callback. The kinds have rules of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Breach {
    Panic(String),
    Undeclared(String),
    TokenTwice(u64),
    Outside(String),
    TimerStorm(String),
    BottomHalfStorm(String),
    FloatControl(String),
    Unmarked(String),
    Unannounced(String),
    Refused(String),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(text) => write!(f, "panicked: {text}"),
            Self::TokenTwice(token) => write!(f, "two block requests with token {token} in flight"),
            Self::Undeclared(text)
            | Self::Outside(text)
            | Self::TimerStorm(text)
            | Self::BottomHalfStorm(text)
            | Self::FloatControl(text)
            | Self::Unmarked(text)
            | Self::Unannounced(text)
            | Self::Refused(text) => f.write_str(text),
        }
    }
}

/// The queues of a port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: PortKind,
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) frames: VecDeque<Vec<u8>>,
    pub(crate) offload: Option<(u32, u32)>,
    /// Behind a block port.
    pub(crate) disk: Disk,
}

/// A block request whose outcome is known but not yet due.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InFlight {
    pub(crate) deadline_ns: u64,
    pub(crate) order: u64,
    pub(crate) port: u32,
    pub(crate) token: u64,
    pub(crate) status: u32,
    pub(crate) data: Vec<u8>,
}

/// Everything that the host holds for the device.
#[derive(Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) now_ns: u64,
    pub(crate) inputs: Vec<bool>,
    pub(crate) outputs: Vec<bool>,
    pub(crate) output_names: Vec<String>,
    /// Deadline and order of arming.
    pub(crate) timers: Vec<Option<(u64, u64)>>,
    pub(crate) timer_names: Vec<String>,
    pub(crate) bh_names: Vec<String>,
    pub(crate) bhs: VecDeque<(u32, Option<Vec<u8>>)>,
    pub(crate) ports: Vec<Port>,
    /// As declared; a target is at address 0 of its controller's link.
    links: Vec<Link>,
    pub(crate) in_flight: Vec<InFlight>,
    next_order: u64,
    pub(crate) windows: bool,
    pub(crate) random: Rng,
    #[serde(skip)]
    pub(crate) ram: Ram,
    /// The callback that runs.
    #[serde(skip)]
    pub(crate) running: Option<&'static str>,
    #[serde(skip)]
    pub(crate) events: Vec<Event>,
    #[serde(skip)]
    pub(crate) breach: Option<Breach>,
    /// Writes to watched pages that the device told of in this callback.
    #[serde(skip)]
    pub(crate) announced: Vec<(u64, u64)>,
}

impl World {
    pub(crate) fn new(desc: &DeviceDesc, disk_bytes: Option<u64>) -> Self {
        let disk_bytes = disk_bytes.unwrap_or(DISK_BYTES);
        let port = |port: &reprise_abi::desc::Port| Port {
            name: port.name.clone(),
            kind: port.kind,
            disk: Disk::new(if port.kind == PortKind::Blk { disk_bytes } else { 0 }),
            ..Port::default()
        };
        let output_names = Pins::flatten(&desc.outputs);
        Self {
            now_ns: 0,
            inputs: vec![false; Pins::flatten(&desc.inputs).len()],
            outputs: vec![false; output_names.len()],
            output_names,
            timers: vec![None; desc.timers.len()],
            timer_names: desc.timers.clone(),
            bh_names: desc.bottom_halves.iter().map(|bh| bh.name.clone()).collect(),
            bhs: VecDeque::new(),
            ports: desc.ports.iter().map(port).collect(),
            links: desc.links.clone(),
            in_flight: Vec::new(),
            next_order: 0,
            windows: true,
            random: Rng::new(0),
            ram: Ram::default(),
            running: None,
            events: Vec::new(),
            breach: None,
            announced: Vec::new(),
        }
    }

    /// The same again: what the host would restore beside the device's state.
    pub(crate) fn duplicate(&self) -> Self {
        let held = serde_json::to_value(self).expect("plain data");
        let same: Self = serde_json::from_value(held).expect("what was just written");
        same.ram.put(RAM_BASE, &self.ram.copy());
        same
    }

    /// The first breach counts.
    pub(crate) fn broke(&mut self, breach: Breach) {
        self.breach.get_or_insert(breach);
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// As many timers and requests as were ever armed or submitted.
    pub(crate) fn last_order(&self) -> u64 {
        self.next_order
    }

    pub(crate) fn declared(&mut self, what: &str, id: u32, count: usize) -> bool {
        let declared = (id as usize) < count;
        if !declared {
            let text = format!("uses {what} {id}, but its descriptor declares {count}");
            self.broke(Breach::Undeclared(text));
        }
        declared
    }

    pub(crate) fn port(&mut self, port: u32) -> Option<&mut Port> {
        self.declared("port", port, self.ports.len()).then(|| &mut self.ports[port as usize])
    }

    pub(crate) fn set_pin(&mut self, pin: u32, high: bool) {
        let index = pin as usize;
        if self.declared("output pin", pin, self.outputs.len()) && self.outputs[index] != high {
            self.outputs[index] = high;
            self.events.push(Event::Pin { name: self.output_names[index].clone(), high });
        }
    }

    pub(crate) fn arm(&mut self, timer: u32, deadline_ns: u64) {
        if self.declared("timer", timer, self.timers.len()) {
            self.timers[timer as usize] = Some((deadline_ns, self.order()));
        }
    }

    pub(crate) fn cancel(&mut self, timer: u32) {
        if self.declared("timer", timer, self.timers.len()) {
            self.timers[timer as usize] = None;
        }
    }

    pub(crate) fn deadline(&mut self, timer: u32) -> u64 {
        let declared = self.declared("timer", timer, self.timers.len());
        let armed = if declared { self.timers[timer as usize] } else { None };
        armed.map_or(u64::MAX, |(deadline_ns, _)| deadline_ns)
    }

    pub(crate) fn schedule(&mut self, bh: u32, payload: Option<Vec<u8>>) {
        let queued = payload.is_none() && self.bhs.iter().any(|(id, other)| *id == bh && other.is_none());
        if self.declared("bottom half", bh, self.bh_names.len()) && !queued {
            self.bhs.push_back((bh, payload));
        }
    }

    pub(crate) fn wall_clock_ns(&mut self) -> u64 {
        self.events.push(Event::WallClock);
        WALL_CLOCK_NS.wrapping_add(self.now_ns)
    }

    pub(crate) fn fill_random(&mut self, data: &mut [u8]) {
        self.events.push(Event::Random { len: data.len() as u64 });
        data.iter_mut().for_each(|byte| *byte = self.random.draw() as u8);
    }

    pub(crate) fn take(&mut self, port: u32, into: &mut [u8]) -> u64 {
        let Some(slot) = self.port(port) else { return 0 };
        let taken: Vec<u8> = match slot.kind {
            PortKind::Net => slot.frames.pop_front().unwrap_or_default(),
            PortKind::Chr | PortKind::Blk | PortKind::Display | PortKind::Input => {
                slot.bytes.drain(..into.len().min(slot.bytes.len())).collect()
            }
        };
        let count = taken.len().min(into.len());
        into[..count].copy_from_slice(&taken[..count]);
        let port = slot.name.clone();
        if count > 0 {
            self.events.push(Event::Took { port, len: count as u64 });
        }
        count as u64
    }

    pub(crate) fn send(&mut self, port: u32, data: &[u8]) {
        let Some(slot) = self.port(port) else { return };
        let port = slot.name.clone();
        // Whether a device sends a byte at a time or all at once is its own business; frames are not.
        if slot.kind == PortKind::Chr
            && let Some(Event::Sent { port: last, data: joined }) = self.events.last_mut()
            && *last == port
        {
            joined.extend(data);
            return;
        }
        self.events.push(Event::Sent { port, data: data.to_vec() });
    }

    pub(crate) fn set_offload(&mut self, port: u32, bits: u32, mtu: u32) {
        let Some(slot) = self.port(port) else { return };
        if slot.kind != PortKind::Net {
            let text = format!("says what it takes from port {}, which is no net port", slot.name);
            return self.broke(Breach::Undeclared(text));
        }
        if slot.offload != Some((bits, mtu)) {
            slot.offload = Some((bits, mtu));
            let port = slot.name.clone();
            self.events.push(Event::Offload { port, bits, mtu });
        }
    }

    pub(crate) fn say(&mut self, link: u32, at: u32, data: &[u8]) {
        if !self.declared("link", link, self.links.len()) {
            return;
        }
        let Link { name, role, addresses, .. } = &self.links[link as usize];
        let (name, wrong) = (name.clone(), *role == LinkRole::Target && at >= *addresses);
        if wrong {
            let text = format!("speaks as address {at:#x} of link {name}, which is not its own");
            return self.broke(Breach::Undeclared(text));
        }
        self.events.push(Event::Said { link: name, at, data: data.to_vec() });
    }

    pub(crate) fn submit(&mut self, port: u32, req: &BlkReq, data: &[u8]) {
        let Some(slot) = self.port(port) else { return };
        let outcome = slot.disk.execute(req, data);
        let name = slot.name.clone();
        if self.in_flight.iter().any(|other| other.port == port && other.token == req.token) {
            self.broke(Breach::TokenTwice(req.token));
        }
        let BlkReq { op, token, offset, len, .. } = *req;
        self.events.push(Event::Request { port: name, op, token, offset, len });
        let (status, data) = outcome.map_or((hot::BLK_ERROR, Vec::new()), |data| (hot::BLK_DONE, data));
        let (deadline_ns, order) = (self.now_ns.saturating_add(BLK_LATENCY_NS), self.order());
        self.in_flight.push(InFlight { deadline_ns, order, port, token, status, data });
    }

    /// As the host does before a reset.
    pub(crate) fn drop_pending(&mut self) {
        self.timers.fill(None);
        self.bhs.clear();
        self.in_flight.clear();
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let timers = self.timers.iter().flatten().map(|(deadline_ns, _)| *deadline_ns);
        timers.chain(self.in_flight.iter().map(|request| request.deadline_ns)).min()
    }
}
