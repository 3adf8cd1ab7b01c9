//! The guest's side of the transport, for tests: negotiates, owns the rings and posts chains (feature `testkit`).

use super::{
    features, regs,
    status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK},
};
use crate::{
    Device,
    testkit::{FakeHost, RAM_BASE, RAM_SIZE, Rng},
};
use std::collections::{BTreeMap, VecDeque};

/// Rings grow from here up.
const RINGS: u64 = RAM_BASE + 0x1000;
/// Buffers come from the rest of RAM, over and over.
const BUFFERS: u64 = RAM_BASE + RAM_SIZE / 2;
const PAGE: u64 = 0x1000;
const F_NEXT: u16 = 1;
const F_WRITE: u16 = 2;
const F_INDIRECT: u16 = 4;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Buf<'a> {
    /// Bytes for the device to read.
    Out(&'a [u8]),
    /// Room for the device to write.
    In(u32),
}

/// A raw descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Desc {
    /// Guest physical address.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u32,
    /// NEXT 1, WRITE 2, INDIRECT 4.
    pub flags: u16,
    /// Index of the next one.
    pub next: u16,
}

impl Desc {
    fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.gpa.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..14].copy_from_slice(&self.flags.to_le_bytes());
        out[14..].copy_from_slice(&self.next.to_le_bytes());
        out
    }
}

/// A chain that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its head.
    pub head: u16,
    /// How much the device says it wrote.
    pub len: u32,
    /// All of its [`Buf::In`] buffers, joined.
    pub data: Vec<u8>,
}

/// Where one virtqueue is.
#[derive(Debug)]
pub struct Ring {
    /// Descriptors in it.
    pub size: u16,
    /// Descriptor area.
    pub desc_gpa: u64,
    /// Driver area (available ring).
    pub driver_gpa: u64,
    /// Device area (used ring).
    pub device_gpa: u64,
    /// Available index.
    pub next_avail: u16,
    /// Used index up to which chains were taken back.
    pub next_used: u16,
    free: VecDeque<u16>,
    posted: BTreeMap<u16, Posted>,
}

#[derive(Debug)]
struct Posted {
    descs: Vec<u16>,
    room: Vec<(u64, u32)>,
}

impl Ring {
    fn used_event_gpa(&self) -> u64 {
        self.driver_gpa + 4 + 2 * u64::from(self.size)
    }

    fn avail_event_gpa(&self) -> u64 {
        self.device_gpa + 4 + 8 * u64::from(self.size)
    }
}

/// A driver of one device.
#[derive(Debug)]
pub struct Driver {
    /// Features in use.
    pub features: u64,
    /// The virtqueues, all of those that the device has.
    pub rings: Vec<Ring>,
    next_ring: u64,
    next_buffer: u64,
}

/// What the device offers.
pub fn offered<D: Device>(host: &mut FakeHost<D>) -> u64 {
    let mut half = |sel| {
        host.write32(regs::DEVICE_FEATURES_SEL, sel);
        u64::from(host.read32(regs::DEVICE_FEATURES))
    };
    half(0) | half(1) << 32
}

/// Reset the device and propose exactly these features; whether it agrees.
pub fn negotiate<D: Device>(host: &mut FakeHost<D>, features: u64) -> bool {
    host.write32(regs::STATUS, 0);
    host.write32(regs::STATUS, ACKNOWLEDGE);
    host.write32(regs::STATUS, ACKNOWLEDGE | DRIVER);
    for (sel, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
        host.write32(regs::DRIVER_FEATURES_SEL, sel);
        host.write32(regs::DRIVER_FEATURES, half);
    }
    host.write32(regs::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    host.read32(regs::STATUS) & FEATURES_OK != 0
}

impl Driver {
    /// Bring the device up with VERSION_1 and what it offers of `wanted`, and with all of its queues at full size.
    ///
    /// # Panics
    /// The device does not agree.
    pub fn start<D: Device>(host: &mut FakeHost<D>, wanted: u64) -> Self {
        Self::start_sized(host, wanted, u16::MAX)
    }

    /// As [`Driver::start`], with queues of at most `size`.
    ///
    /// # Panics
    /// The device does not agree.
    pub fn start_sized<D: Device>(host: &mut FakeHost<D>, wanted: u64, size: u16) -> Self {
        Self::try_start_sized(host, wanted, size)
            .unwrap_or_else(|| panic!("the device refuses features {wanted:#x}"))
    }

    /// As [`Driver::start_sized`], if the device agrees.
    pub fn try_start_sized<D: Device>(host: &mut FakeHost<D>, wanted: u64, size: u16) -> Option<Self> {
        let features = offered(host) & wanted | features::VERSION_1;
        if !negotiate(host, features) {
            return None;
        }
        let mut this = Self { features, rings: Vec::new(), next_ring: RINGS, next_buffer: BUFFERS };
        for queue in 0.. {
            host.write32(regs::QUEUE_SEL, queue);
            let max = host.read32(regs::QUEUE_NUM_MAX) as u16;
            if max == 0 {
                break;
            }
            let ring = this.place(max.min(size));
            this.rings.push(ring);
            this.enable(host, queue as usize);
        }
        host.write32(regs::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        Some(this)
    }

    fn place(&mut self, size: u16) -> Ring {
        let n = u64::from(size);
        let desc_gpa = self.next_ring;
        let driver_gpa = desc_gpa + 16 * n;
        let device_gpa = (driver_gpa + 6 + 2 * n).next_multiple_of(4);
        self.next_ring = (device_gpa + 6 + 8 * n).next_multiple_of(16);
        assert!(
            self.next_ring <= BUFFERS,
            "the rings of all queues do not fit: give the device a smaller queue_size"
        );
        Ring {
            size,
            desc_gpa,
            driver_gpa,
            device_gpa,
            next_avail: 0,
            next_used: 0,
            free: (0..size).collect(),
            posted: BTreeMap::new(),
        }
    }

    /// Clear a ring and tell the device where it is.
    pub fn enable<D: Device>(&mut self, host: &mut FakeHost<D>, queue: usize) {
        let ring = &mut self.rings[queue];
        (ring.next_avail, ring.next_used, ring.free) = (0, 0, (0..ring.size).collect());
        ring.posted.clear();
        host.ram_write(ring.driver_gpa, &vec![0; 6 + 2 * usize::from(ring.size)]);
        host.ram_write(ring.device_gpa, &vec![0; 6 + 8 * usize::from(ring.size)]);
        host.write32(regs::QUEUE_SEL, queue as u32);
        host.write32(regs::QUEUE_NUM, ring.size.into());
        let areas = [
            (regs::QUEUE_DESC_LOW, ring.desc_gpa),
            (regs::QUEUE_DRIVER_LOW, ring.driver_gpa),
            (regs::QUEUE_DEVICE_LOW, ring.device_gpa),
        ];
        for (low, gpa) in areas {
            host.write32(low, gpa as u32);
            host.write32(low + 4, (gpa >> 32) as u32);
        }
        host.write32(regs::QUEUE_READY, 1);
    }

    /// A buffer of guest memory. It is used again when others have filled the rest.
    pub fn buffer(&mut self, len: u64) -> u64 {
        let len = len.next_multiple_of(16);
        if self.next_buffer + len > RAM_BASE + RAM_SIZE - PAGE {
            self.next_buffer = BUFFERS;
        }
        let gpa = self.next_buffer;
        self.next_buffer += len;
        gpa
    }

    fn fill<D: Device>(&mut self, host: &mut FakeHost<D>, bufs: &[Buf<'_>]) -> (Vec<Desc>, Vec<(u64, u32)>) {
        let mut room = Vec::new();
        let descs = bufs.iter().map(|buf| match *buf {
            Buf::Out(data) => {
                let gpa = self.buffer(data.len() as u64);
                host.ram_write(gpa, data);
                Desc { gpa, len: data.len() as u32, flags: 0, next: 0 }
            }
            Buf::In(len) => {
                let gpa = self.buffer(len.into());
                room.push((gpa, len));
                Desc { gpa, len, flags: F_WRITE, next: 0 }
            }
        });
        (descs.collect(), room)
    }

    /// Put a chain into the ring, without a notification; returns its head.
    ///
    /// # Panics
    /// The ring is full.
    pub fn post<D: Device>(&mut self, host: &mut FakeHost<D>, queue: usize, bufs: &[Buf<'_>]) -> u16 {
        let (mut descs, room) = self.fill(host, bufs);
        let ring = &mut self.rings[queue];
        let ids: Vec<u16> = ring.free.drain(..descs.len()).collect();
        for (index, desc) in descs.iter_mut().enumerate() {
            if let Some(next) = ids.get(index + 1) {
                (desc.flags, desc.next) = (desc.flags | F_NEXT, *next);
            }
            host.ram_write(ring.desc_gpa + 16 * u64::from(ids[index]), &desc.to_bytes());
        }
        self.offer(host, queue, ids, room)
    }

    /// As [`Driver::post`], with the whole chain in an indirect table.
    ///
    /// # Panics
    /// The ring is full.
    pub fn post_indirect<D: Device>(
        &mut self,
        host: &mut FakeHost<D>,
        queue: usize,
        bufs: &[Buf<'_>],
    ) -> u16 {
        let (mut descs, room) = self.fill(host, bufs);
        let last = descs.len() - 1;
        for (index, desc) in descs[..last].iter_mut().enumerate() {
            (desc.flags, desc.next) = (desc.flags | F_NEXT, index as u16 + 1);
        }
        let raw: Vec<u8> = descs.iter().flat_map(|desc| desc.to_bytes()).collect();
        let table = self.buffer(raw.len() as u64);
        host.ram_write(table, &raw);
        let id = self.rings[queue].free.pop_front().expect("a free descriptor");
        self.write_desc(
            host,
            queue,
            id,
            Desc { gpa: table, len: raw.len() as u32, flags: F_INDIRECT, next: 0 },
        );
        self.offer(host, queue, vec![id], room)
    }

    /// Write one descriptor as it is.
    pub fn write_desc<D: Device>(&self, host: &mut FakeHost<D>, queue: usize, index: u16, desc: Desc) {
        host.ram_write(self.rings[queue].desc_gpa + 16 * u64::from(index), &desc.to_bytes());
    }

    /// Put a head into the available ring as it is.
    pub fn offer_head<D: Device>(&mut self, host: &mut FakeHost<D>, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = u64::from(ring.next_avail % ring.size);
        host.ram_write(ring.driver_gpa + 4 + 2 * slot, &head.to_le_bytes());
        ring.next_avail = ring.next_avail.wrapping_add(1);
        host.ram_write(ring.driver_gpa + 2, &ring.next_avail.to_le_bytes());
    }

    fn offer<D: Device>(
        &mut self,
        host: &mut FakeHost<D>,
        queue: usize,
        descs: Vec<u16>,
        room: Vec<(u64, u32)>,
    ) -> u16 {
        let head = descs[0];
        self.offer_head(host, queue, head);
        self.rings[queue].posted.insert(head, Posted { descs, room });
        head
    }

    /// Notify the device.
    pub fn kick<D: Device>(&self, host: &mut FakeHost<D>, queue: usize) {
        host.write32(regs::QUEUE_NOTIFY, queue as u32);
    }

    /// With EVENT_IDX: whether the step of the available index from `old` asks for a notification.
    #[must_use]
    pub fn must_kick<D: Device>(&self, host: &FakeHost<D>, queue: usize, old: u16) -> bool {
        let ring = &self.rings[queue];
        let event = read_u16(host, ring.avail_event_gpa());
        ring.next_avail.wrapping_sub(event).wrapping_sub(1) < ring.next_avail.wrapping_sub(old)
    }

    /// With EVENT_IDX: ask for an interrupt once the used index passes `index`.
    pub fn set_used_event<D: Device>(&self, host: &mut FakeHost<D>, queue: usize, index: u16) {
        host.ram_write(self.rings[queue].used_event_gpa(), &index.to_le_bytes());
    }

    /// Without EVENT_IDX: whether the driver wants no interrupts.
    pub fn set_no_interrupt<D: Device>(&self, host: &mut FakeHost<D>, queue: usize, quiet: bool) {
        host.ram_write(self.rings[queue].driver_gpa, &u16::from(quiet).to_le_bytes());
    }

    /// The device's used index.
    #[must_use]
    pub fn used_index<D: Device>(&self, host: &FakeHost<D>, queue: usize) -> u16 {
        read_u16(host, self.rings[queue].device_gpa + 2)
    }

    /// Take back the next chain that the device has used.
    ///
    /// # Panics
    /// It is none that was posted.
    pub fn take<D: Device>(&mut self, host: &FakeHost<D>, queue: usize) -> Option<Used> {
        let used_index = self.used_index(host, queue);
        let ring = &mut self.rings[queue];
        if used_index == ring.next_used {
            return None;
        }
        let slot = ring.device_gpa + 4 + 8 * u64::from(ring.next_used % ring.size);
        ring.next_used = ring.next_used.wrapping_add(1);
        let (head, len) = (read_u32(host, slot) as u16, read_u32(host, slot + 4));
        let posted = ring.posted.remove(&head).expect("the device returns a chain that was posted");
        ring.free.extend(&posted.descs);
        let data = posted.room.iter().flat_map(|(gpa, len)| host.ram_read(*gpa, *len as usize)).collect();
        Some(Used { head, len, data })
    }

    /// Post a chain, notify, let a millisecond pass and take it back.
    ///
    /// # Panics
    /// It does not come back, or another one does.
    pub fn request<D: Device>(&mut self, host: &mut FakeHost<D>, queue: usize, bufs: &[Buf<'_>]) -> Used {
        let head = self.post(host, queue, bufs);
        self.kick(host, queue);
        host.advance(1_000_000);
        let used = self.take(host, queue).expect("the chain comes back");
        assert_eq!(used.head, head, "another chain came back");
        used
    }
}

/// Read and acknowledge the interrupt causes.
pub fn acknowledge<D: Device>(host: &mut FakeHost<D>) -> u32 {
    let causes = host.read32(regs::INTERRUPT_STATUS);
    host.write32(regs::INTERRUPT_ACK, causes);
    causes
}

fn read_u16<D: Device>(host: &FakeHost<D>, gpa: u64) -> u16 {
    u16::from_le_bytes(host.ram_read(gpa, 2).try_into().expect("two bytes were read"))
}

fn read_u32<D: Device>(host: &FakeHost<D>, gpa: u64) -> u32 {
    u32::from_le_bytes(host.ram_read(gpa, 4).try_into().expect("four bytes were read"))
}

/// Drive two devices through the same hostile rings: one sees RAM windows and is saved and loaded at random, the other
/// has only copies. Registers, interrupt, log, state, port output and RAM must stay the same, and nothing may panic.
///
/// `make` makes the device (with disks and inputs as wanted); its ports in `inputs` get bytes now and then.
///
/// # Panics
/// They differ, or a device panics.
pub fn fuzz_rings<D: Device>(make: impl Fn() -> FakeHost<D>, inputs: &[&str], seed: u64, rounds: u32) {
    /// Rounds until the devices are replaced, so that logs stay short.
    const LIFE: u32 = 250;
    let mut rng = Rng::new(seed);
    for _ in 0..rounds.div_ceil(LIFE) {
        let (mut subject, mut twin) = (make(), make());
        twin.set_windows(false);
        for round in 0..LIFE {
            let choices = rng.next();
            let seen = hostile_round(&mut subject, inputs, &mut Rng::new(choices), true);
            let expected = hostile_round(&mut twin, inputs, &mut Rng::new(choices), false);
            assert_eq!(seen, expected, "seed {seed}, round {round}");
        }
        assert!(all_ram(&subject) == all_ram(&twin), "seed {seed}: RAM differs between windows and copies");
    }
}

fn all_ram<D: Device>(host: &FakeHost<D>) -> Vec<u8> {
    host.ram_read(RAM_BASE, RAM_SIZE as usize)
}

/// What can be seen of a device after a round.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u32,
    causes: u32,
    irq: bool,
    state: Vec<u8>,
    output: Vec<Vec<u8>>,
    logs: usize,
}

fn hostile_round<D: Device>(host: &mut FakeHost<D>, inputs: &[&str], rng: &mut Rng, save: bool) -> Seen {
    let wanted = rng.next() | rng.next();
    // Features that need each other are seldom all there by chance.
    let instead = if rng.below(2) == 0 { 0 } else { u64::MAX };
    let driver = Driver::try_start_sized(host, wanted, 8);
    let mut driver = driver.unwrap_or_else(|| Driver::start_sized(host, instead, 8));
    let queues = driver.rings.len() as u64;
    for _ in 0..=rng.below(3) {
        let queue = rng.below(queues.min(6)) as usize;
        scribble(host, &mut driver, queue, rng);
        driver.kick(host, queue);
        if let Some(port) = inputs.get(rng.below(8) as usize) {
            let mut bytes = vec![0x5a; rng.below(100) as usize];
            // Half of the frames have a header that a network device can make sense of.
            if rng.below(2) == 0 {
                bytes.iter_mut().take(crate::net::HEADER_BYTES).for_each(|byte| *byte = 0);
            }
            host.port_input(port, &bytes);
        }
        match rng.below(16) {
            0 => host.write32(regs::QUEUE_RESET, 1),
            1 => host.write32(regs::QUEUE_READY, 0),
            2 => host.write32(regs::STATUS, 0),
            3 => host.write32(regs::CONFIG + 4 * rng.below(64), rng.next() as u32),
            _ => {}
        }
        if rng.below(4) == 0 && save {
            host.save_load();
        }
        host.advance(rng.below(3) * 500);
    }
    Seen {
        status: host.read32(regs::STATUS),
        causes: host.read32(regs::INTERRUPT_STATUS),
        irq: host.output("irq"),
        state: host.save(),
        output: inputs.iter().map(|port| host.port_output(port)).collect(),
        logs: host.logs().len(),
    }
}

/// Fill a ring with descriptors of which some make sense, and offer a few of them.
fn scribble<D: Device>(host: &mut FakeHost<D>, driver: &mut Driver, queue: usize, rng: &mut Rng) {
    // Headers and messages of the devices are small numbers.
    let small: Vec<u8> = (0..16).flat_map(|_| (rng.below(16) as u16).to_le_bytes()).collect();
    host.ram_write(BUFFERS + 0x100 * rng.below(16), &small);
    let honest = rng.below(2) == 0;
    for index in 0..8 {
        let mut desc = Desc {
            gpa: BUFFERS + 0x100 * rng.below(16),
            len: [16, 17, 32, 512, 513, 1024][rng.below(6) as usize],
            // A chain of three: header, data, answer.
            flags: [1, 1 | (rng.below(2) as u16 * 2), 2][index % 3],
            next: index as u16 + 1,
        };
        if !honest && rng.below(3) == 0 {
            desc.gpa = [0, u64::MAX - 8, driver.rings[queue].device_gpa, RAM_BASE + RAM_SIZE - 20, desc.gpa]
                [rng.below(5) as usize];
            desc.len = [0, 1, 8, 16, 48, u32::MAX][rng.below(6) as usize];
            desc.flags = rng.below(8) as u16;
            desc.next = rng.below(10) as u16;
        }
        driver.write_desc(host, queue, index as u16, desc);
    }
    for _ in 0..rng.below(4) {
        let head = if honest { 3 * rng.below(2) } else { rng.below(10) };
        driver.offer_head(host, queue, head as u16);
    }
    if rng.below(40) == 0 {
        let index = rng.next() as u16;
        host.ram_write(driver.rings[queue].driver_gpa + 2, &index.to_le_bytes());
    }
}
