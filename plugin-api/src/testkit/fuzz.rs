//! Random runs of one device beside a twin that is never saved, loaded or given a RAM window.

use super::{
    FakeHost, Rng,
    host::{RAM_BASE, RAM_SIZE},
};
use crate::{
    Device, Fault, PortEvent, Reset, Size,
    desc::{LinkRole, PortKind},
    link::random_word,
    state,
};

/// One thing that happens to a device.
#[derive(Clone, Debug)]
enum Op {
    Read(u32, u64, Size),
    Write(u32, u64, Size, u64),
    Input(u32, bool),
    Arrive(u32, Vec<u8>),
    Happen(u32, PortEvent),
    Tell(u32, u32, Option<Vec<u8>>),
    Ram(u64, Vec<u8>),
    Advance(u64),
    NextDeadline,
    WarmReset,
}

/// What the world sees of an [`Op`], pins and ports aside.
type Seen = Option<Result<u64, Fault>>;

impl<D: Device> FakeHost<D> {
    /// Drive two fresh devices with these options and disks through the same random accesses, inputs and times. One is
    /// saved, dropped and loaded at random steps and sees RAM windows, the other is left alone and has only DMA copies.
    /// Every read, pin change, port output, request to the machine, and in the end RAM and disks, must be the same.
    ///
    /// # Panics
    /// They differ, or the device panics; the message names seed, step and what differs.
    pub fn fuzz(&mut self, seed: u64, steps: u32) {
        let mut rng = Rng::new(seed);
        let (mut subject, mut twin) = (self.sibling(), self.sibling());
        twin.set_windows(false);
        for step in 0..steps {
            let op = subject.random_op(&mut rng);
            let doing = format!("seed {seed}, step {step}, {op:x?}: ");
            subject.doing.clone_from(&doing);
            twin.doing.clone_from(&doing);
            if rng.below(8) == 0 {
                subject.save_load();
            }
            let (seen, expected) = (subject.apply(&op), twin.apply(&op));
            assert_eq!(seen, expected, "{doing}with save and load (left), without (right)");
            subject.assert_like(&mut twin);
        }
        assert!(subject.all_ram() == twin.all_ram(), "seed {seed}: RAM differs after {steps} steps");
        assert!(
            subject.host.disks.values().map(|disk| &disk.data).eq(twin
                .host
                .disks
                .values()
                .map(|disk| &disk.data)),
            "seed {seed}: disks differ after {steps} steps"
        );
    }

    /// Load damaged state records and drive the devices that accept one. A device may refuse a record, or behave in any
    /// way that its registers allow, but not panic.
    ///
    /// # Panics
    /// It does.
    pub fn fuzz_load(&mut self, seed: u64, rounds: u32) {
        let mut rng = Rng::new(seed);
        let mut source = self.sibling();
        for round in 0..rounds {
            let op = source.random_op(&mut rng);
            source.apply(&op);
            let mut record = source.save();
            for _ in 0..=rng.below(3) {
                let at = rng.below(record.len() as u64) as usize;
                record[at] = [0, 1, 0x7f, 0xff, rng.next() as u8][rng.below(5) as usize];
            }
            let mut victim = self.sibling();
            victim.doing = format!("seed {seed}, round {round}, loading a damaged record: ");
            if victim.load(&record).is_ok() {
                for _ in 0..16 {
                    let op = victim.random_op(&mut rng);
                    victim.apply(&op);
                }
            }
        }
    }

    /// A fresh device with the same options, disks and seeds.
    fn sibling(&self) -> Self {
        let mut fresh = Self::with_options(self.options.clone());
        fresh.host.disks.clone_from(&self.host.disks);
        fresh.host.random = self.host.random.clone();
        fresh.host.host_clock_ns = self.host.host_clock_ns;
        fresh
    }

    fn apply(&mut self, op: &Op) -> Seen {
        match op {
            Op::Read(region, offset, size) => return Some(self.read(*region, *offset, *size)),
            Op::Write(region, offset, size, value) => {
                return Some(self.write(*region, *offset, *size, *value).map(|()| 0));
            }
            Op::Input(pin, high) => self.drive(*pin, *high),
            Op::Arrive(port, data) => self.arrive(*port, data),
            Op::Happen(port, event) => self.happen(*port, *event),
            Op::Tell(link, at, message) => self.tell(*link, *at, message.as_deref()),
            Op::Ram(gpa, data) => self.ram_write(*gpa, data),
            Op::Advance(ns) => {
                // A device may be told to tick every nanosecond: that is no reason to follow it for long.
                self.run(self.host.now_ns.saturating_add(*ns), 64);
            }
            Op::NextDeadline => {
                if let Some(at) = self.next_deadline().filter(|at| *at < 1 << 62) {
                    self.run(at, 64);
                }
            }
            Op::WarmReset => self.reset(Reset::Warm),
        }
        None
    }

    fn assert_like(&mut self, twin: &mut Self) {
        let doing = &self.doing;
        assert_eq!(self.host.pin_log, twin.host.pin_log, "{doing}pin changes");
        assert_eq!(self.host.controls, twin.host.controls, "{doing}requests to the machine");
        assert_eq!(self.host.timers, twin.host.timers, "{doing}timers");
        assert_eq!(self.host.bhs, twin.host.bhs, "{doing}bottom halves");
        let (sent, expected) = (std::mem::take(&mut self.host.sent), std::mem::take(&mut twin.host.sent));
        assert_eq!(sent, expected, "{doing}messages");
        for (mine, other) in self.host.ports.iter_mut().zip(&mut twin.host.ports) {
            let (sent, expected) = (std::mem::take(&mut mine.sent), std::mem::take(&mut other.sent));
            assert_eq!(sent, expected, "{doing}port output");
        }
        let difference =
            state::diff(&self.handle.save(), &twin.handle.save()).expect("records are well-formed");
        assert!(difference.is_empty(), "{doing}with save and load (left), without (right): {difference:#?}");
        // Logs of a long run would be all that a fuzzer's memory holds.
        for host in [&mut self.host, &mut twin.host] {
            host.pin_log.clear();
            host.logs.clear();
        }
    }

    fn random_op(&self, rng: &mut Rng) -> Op {
        let ports = self.desc.ports.len() as u64;
        let pins = self.host.inputs.len() as u64;
        match rng.below(32) {
            // A device without registers is spoken to by its links.
            0..22 if self.desc.regions.is_empty() && !self.desc.links.is_empty() => self.random_message(rng),
            0..11 => self.random_access(rng, false),
            11..22 => self.random_access(rng, true),
            22..24 if pins > 0 => Op::Input(rng.below(pins) as u32, rng.below(2) == 1),
            24..26 if ports > 0 => self.random_arrival(rng, ports),
            26 if ports > 0 => {
                let events = [PortEvent::Readable, PortEvent::Opened, PortEvent::Closed, PortEvent::Break];
                Op::Happen(rng.below(ports) as u32, events[rng.below(4) as usize])
            }
            26 if !self.desc.links.is_empty() => self.random_message(rng),
            27 => {
                let len = 1 + rng.below(64);
                let gpa = RAM_BASE + rng.below(RAM_SIZE - len);
                Op::Ram(gpa, (0..len).map(|_| rng.next() as u8).collect())
            }
            28 => Op::NextDeadline,
            29 if rng.below(16) == 0 => Op::WarmReset,
            _ => Op::Advance(rng.next() >> (20 + rng.below(44))),
        }
    }

    /// A word of the protocol, or bytes: half of them short, as those of a byte's worth are.
    fn random_message(&self, rng: &mut Rng) -> Op {
        let link = rng.below(self.desc.links.len() as u64) as u32;
        let described = &self.desc.links[link as usize];
        let at = rng.below(described.addresses.into()) as u32;
        let nobody = described.role == LinkRole::Controller && rng.below(8) == 0;
        if !nobody
            && rng.below(8) != 0
            && let Some(word) = random_word(&described.protocol, described.role, &mut |end| rng.below(end))
        {
            return Op::Tell(link, at, Some(word));
        }
        let len = if rng.below(2) == 0 { 2 } else { 1 + rng.below(20) };
        let message = (0..len).map(|_| if rng.below(2) == 0 { rng.below(4) } else { rng.next() } as u8);
        Op::Tell(link, at, (!nobody).then(|| message.collect()))
    }

    fn random_arrival(&self, rng: &mut Rng, ports: u64) -> Op {
        let port = rng.below(ports) as u32;
        let most = if self.desc.ports[port as usize].kind == PortKind::Net { 1600 } else { 20 };
        let len = rng.below(most);
        Op::Arrive(port, (0..len).map(|_| rng.next() as u8).collect())
    }

    fn random_access(&self, rng: &mut Rng, write: bool) -> Op {
        if self.desc.regions.is_empty() {
            return Op::Advance(1);
        }
        let index = rng.below(self.desc.regions.len() as u64) as u32;
        let region = &self.desc.regions[index as usize];
        let sizes = [Size::B1, Size::B2, Size::B4, Size::B8];
        let allowed: Vec<_> =
            sizes.into_iter().filter(|size| u64::from(region.access) & size.bytes() != 0).collect();
        let size = allowed[rng.below(allowed.len() as u64) as usize];
        // Registers crowd at the beginning of a region.
        let span = match rng.below(4) {
            0 => region.size,
            1 => region.size.min(0x1000),
            2 => region.size.min(0x100),
            _ => region.size.min(0x20),
        };
        let offset = rng.below(span) & !(size.bytes() - 1);
        if write { Op::Write(index, offset, size, random_value(rng)) } else { Op::Read(index, offset, size) }
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
        _ => rng.next(),
    }
}
