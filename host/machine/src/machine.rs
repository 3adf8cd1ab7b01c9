//! The machine: harts, devices and what the host owns for them, built from a resolved board.

use crate::{
    board::{Board, DeviceSpec, IdlePolicy},
    boot::Placement,
    bottom_half::BottomHalves,
    bus::{AddressMap, Mapping},
    chaos::Chaos,
    clock::Clock,
    deadline::Deadlines,
    disk::Disks,
    door::{Checkpoint, Until},
    links::Links,
    log::RateLimit,
    observers::Observers,
    outside::{Disk, Input, Outside, StopHandle},
    pace::Pacer,
    plugin::{Instance, Plugin},
    port::PortSlot,
    ram_digest::RamDigest,
    schedule::Schedule,
    services::Services,
    snapshot::RamTracker,
    symbols::Symbols,
    wires::Wires,
};
use reprise_abi::{
    desc::{Pins, PortKind},
    hot,
    observe::KIND_RESET,
};
use reprise_cpu::{Cluster, Engine, EngineError, Entry, GuestRam, RamError};
use reprise_replay::{EndReason, Gate};
use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};
use thiserror::Error;

/// Makes the boot images anew: for power-on, and for each reset, because a guest writes over its firmware.
pub type BootSource = Box<dyn FnMut() -> Result<Placement, String>>;

/// What a run needs beside the board.
pub struct Setup {
    /// The resolved board.
    pub board: Board,
    /// The loaded plugin of each name that the board uses.
    pub plugins: BTreeMap<String, Plugin>,
    /// Boot images.
    pub boot: BootSource,
    /// Disks by device id and port name.
    pub disks: BTreeMap<(String, String), Box<dyn Disk>>,
    /// Everything outside.
    pub outside: Box<dyn Outside>,
    /// The gate: live, recording or replaying.
    pub gate: Gate,
    /// Instructions between two digests in a recording; `None`: only the one at its end.
    pub digest_every: Option<u64>,
    /// Stop when this many instructions were attempted.
    pub icount_limit: Option<u64>,
    /// How instructions are executed; `None`: as well as the host can.
    pub engine: Option<Engine>,
    /// Disturb the machine at random instructions, to prove that it cannot be noticed; also by changes of the engine,
    /// if none was asked for.
    pub chaos_seed: Option<u64>,
}

/// Why a machine cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No memory for guest RAM.
    #[error("guest RAM: {0}")]
    Ram(#[from] RamError),
    /// The host cannot have the engine that was asked for.
    #[error("the engine `{engine}` cannot be had here")]
    Engine {
        /// It.
        engine: Engine,
        /// Why not.
        #[source]
        why: EngineError,
    },
    /// A plugin refuses its options although it described itself with them.
    #[error("device \"{device}\": {message}")]
    Create {
        /// Device id.
        device: String,
        /// The plugin's reason.
        message: String,
    },
    /// A disk was given for a port that does not exist.
    #[error("disk for \"{device}.{port}\": the device has no such block port")]
    NoSuchDiskPort {
        /// Device id.
        device: String,
        /// Port name.
        port: String,
    },
    /// The boot images cannot be made.
    #[error("boot images: {0}")]
    Boot(String),
}

/// One device of the machine.
pub(crate) struct Slot {
    pub(crate) instance: Instance,
    /// The plugin's name.
    pub(crate) plugin: String,
    /// Which of its kinds.
    pub(crate) kind: String,
    /// The options that it was made with.
    pub(crate) config_json: String,
}

/// A machine at a safe point. [`Machine::run`] lets it go on.
pub struct Machine {
    pub(crate) cluster: Cluster,
    pub(crate) slots: Vec<Slot>,
    pub(crate) services: Services,
    pub(crate) map: AddressMap,
    pub(crate) schedule: Schedule,
    pub(crate) pacer: Pacer,
    pub(crate) idle: IdlePolicy,
    pub(crate) align: bool,
    /// Where hart 0 goes on at a non-maskable interrupt; `None`: there is none.
    pub(crate) nmi_vector: Option<u64>,
    pub(crate) stop: StopHandle,
    /// The icount at which the machine looks outside next; nobody inside can see it.
    pub(crate) slice_end: u64,
    pub(crate) icount_limit: Option<u64>,
    pub(crate) until: Option<Until>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) digest_every: Option<u64>,
    /// The icount of the next digest that we decide to take; nobody inside can see it.
    pub(crate) next_digest: u64,
    /// The end of the log was reached and agreed on.
    pub(crate) log_ended: Option<EndReason>,
    pub(crate) chaos: Option<Chaos>,
    /// The position whose safe point has happened.
    pub(crate) settled: Option<(u64, u64)>,
    /// What arrived and has not entered yet.
    pub(crate) inbox: VecDeque<Input>,
    /// How often in a row the idle machine was nudged on: a plugin that keeps it busy for ever is stopped.
    pub(crate) barren: u32,
    /// Hashes of RAM as of the last digest.
    pub(crate) ram_digest: RamDigest,
    /// RAM as of the last snapshot.
    pub(crate) ram_tracker: RamTracker,
    boot: BootSource,
    /// blake3 of the boot images at power-on: a reset with other images would not be the same machine.
    boot_hash: [u8; 32],
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Instructions attempted by all harts.
    pub icount: u64,
    /// Instructions retired by all harts.
    pub instret: u64,
    /// Virtual time in nanoseconds since power-on.
    pub vtime_ns: u64,
}

impl Machine {
    /// Build the machine and power it on: devices created, wired and reset, images placed, harts at their entry.
    ///
    /// # Errors
    /// See [`BuildError`]; nothing of the machine is left behind.
    pub fn new(setup: Setup) -> Result<Machine, BuildError> {
        let mut machine = Machine::assemble(setup)?;
        machine.power_on()?;
        machine.plan_digest();
        Ok(machine)
    }

    /// All parts of the machine, without power.
    pub(crate) fn assemble(setup: Setup) -> Result<Machine, BuildError> {
        let Setup { board, plugins, boot, disks, mut outside, gate, .. } = setup;
        let spec = &board.machine;
        let ram = GuestRam::new(spec.ram_base, spec.ram_size)?;
        let config = crate::harts::config(&spec.isa);
        let mut cluster = Cluster::new(config, spec.harts as usize, Rc::clone(&ram));
        choose_engine(&mut cluster, setup.engine)?;
        let ram_digest = RamDigest::new(&ram);
        let ram_tracker = RamTracker::new(&ram);
        let mut slots = Vec::with_capacity(board.devices.len());
        for device in &board.devices {
            slots.push(Slot {
                instance: create(device, &plugins)?,
                plugin: device.plugin.clone(),
                kind: device.kind.clone(),
                config_json: device.config_json.clone(),
            });
        }
        let pacer = Pacer::new(outside.realtime_ns(), 0);
        let services = Services {
            clock: Clock::new(spec.shift, spec.timebase_hz),
            gate,
            deadlines: Deadlines::new(&counts(&board, |d| d.desc.timers.len())),
            bottom_halves: BottomHalves::new(counts(&board, |d| d.desc.bottom_halves.len())),
            wires: Wires::new(&counts(&board, |d| pin_count(&d.desc.outputs)), &board.wires),
            links: Links::new(&counts(&board, |d| d.desc.links.len()), &board.links),
            ports: board.devices.iter().map(ports_of).collect(),
            disks: attach_disks(&board, disks)?,
            ram,
            outside,
            device_ids: board.devices.iter().map(|d| d.id.clone()).collect(),
            control: None,
            fault: None,
            disk_failure: None,
            attention: false,
            watched: None,
            warnings: RateLimit::default(),
            symbols: Symbols::default(),
            observers: Observers::default(),
            acts: None,
        };
        Ok(Machine {
            cluster,
            slots,
            services,
            map: AddressMap::new(mappings(&board)),
            schedule: Schedule::new(spec.harts as usize, spec.quantum, spec.schedule_seed),
            pacer,
            idle: spec.idle,
            align: spec.align,
            nmi_vector: spec.nmi_vector,
            stop: StopHandle::default(),
            slice_end: 0,
            icount_limit: setup.icount_limit,
            until: None,
            checkpoint: None,
            digest_every: setup.digest_every.filter(|&every| every > 0),
            next_digest: u64::MAX,
            log_ended: None,
            chaos: setup.chaos_seed.map(|seed| Chaos::new(seed, setup.engine.is_none())),
            settled: None,
            inbox: VecDeque::new(),
            barren: 0,
            ram_digest,
            ram_tracker,
            boot,
            boot_hash: [0; 32],
        })
    }

    /// Asks this machine to stop, from anywhere.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Where the machine stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let icount = self.services.clock.icount();
        Status { icount, instret: icount - self.cluster.traps(), vtime_ns: self.services.clock.vtime_ns() }
    }

    /// The machine's outside, for what the host process wants back at the end.
    pub fn outside(&mut self) -> &mut dyn Outside {
        &mut *self.services.outside
    }

    /// Where a hart stands: its program counter.
    #[must_use]
    pub fn pc(&self, hart: usize) -> u64 {
        self.cluster.pc(hart)
    }

    /// The function of the booted ELF files that an address lies in, as `name+0x10`.
    #[must_use]
    pub fn symbol_at(&self, address: u64) -> Option<String> {
        let name = self.services.symbols.name(address);
        (!name.is_empty()).then(|| name.trim_matches([' ', '<', '>']).to_owned())
    }

    fn power_on(&mut self) -> Result<(), BuildError> {
        let placement = self.know_images()?;
        self.place(&placement);
        self.reset_devices(hot::RESET_COLD);
        Ok(())
    }

    /// Make the boot images, without placing them: a reset has to be able to place the same again.
    pub(crate) fn know_images(&mut self) -> Result<Placement, BuildError> {
        let placement = (self.boot)().map_err(BuildError::Boot)?;
        self.boot_hash = hash_placement(&placement);
        self.services.symbols = Symbols::new(&placement.symbols);
        Ok(placement)
    }

    /// Reset harts and devices and place the images again. RAM that they do not cover keeps its content, as on
    /// hardware.
    pub(crate) fn reset(&mut self) -> Result<(), String> {
        let placement = (self.boot)()?;
        if hash_placement(&placement) != self.boot_hash {
            return Err(
                "the boot images changed on disk since power-on: a reset would start another machine".into(),
            );
        }
        self.place(&placement);
        for device in 0..self.slots.len() {
            self.services.deadlines.cancel_device(device);
            self.services.bottom_halves.cancel_device(device);
            let dropped = self.services.disks.cancel_device(device);
            self.services.deadlines.cancel_disk(&dropped);
        }
        self.services.observe(KIND_RESET, 0, []);
        self.reset_devices(hot::RESET_WARM);
        Ok(())
    }

    fn place(&mut self, placement: &Placement) {
        for (gpa, bytes) in &placement.chunks {
            let written = self.services.ram.write(*gpa, bytes);
            assert!(written.is_ok(), "boot image at {gpa:#x} leaves RAM: placement checks that");
        }
        for hart in 0..self.cluster.harts() {
            let entry = Entry {
                pc: placement.entry,
                a0: hart as u64,
                a1: placement.dtb_gpa,
                a2: placement.fw_dynamic_gpa.unwrap_or(0),
            };
            self.cluster.reset(hart, entry);
        }
    }

    fn reset_devices(&mut self, kind: u32) {
        for device in 0..self.slots.len() {
            self.callback(device, "reset", |instance, cx| instance.reset(cx, kind));
        }
        self.drain_wires();
    }
}

/// The engine that was asked for, or else the best that the host has.
fn choose_engine(cluster: &mut Cluster, asked: Option<Engine>) -> Result<(), BuildError> {
    match asked {
        Some(engine) => cluster.set_engine(engine).map_err(|why| BuildError::Engine { engine, why }),
        None => {
            let found = Engine::ALL.into_iter().rev().any(|engine| cluster.set_engine(engine).is_ok());
            assert!(found, "every host has the interpreter");
            Ok(())
        }
    }
}

fn create(device: &DeviceSpec, plugins: &BTreeMap<String, Plugin>) -> Result<Instance, BuildError> {
    let plugin = plugins.get(&device.plugin).expect("the board was resolved with these plugins");
    let created = plugin.create(&device.kind, &device.config_json);
    created.map_err(|error| BuildError::Create { device: device.id.clone(), message: error.to_string() })
}

fn counts(board: &Board, count: impl Fn(&DeviceSpec) -> usize) -> Vec<usize> {
    board.devices.iter().map(count).collect()
}

fn pin_count(pins: &[Pins]) -> usize {
    pins.iter().map(|p| p.count.unwrap_or(1) as usize).sum()
}

fn ports_of(device: &DeviceSpec) -> Vec<PortSlot> {
    device.desc.ports.iter().map(|port| PortSlot::new(&port.name, port.kind)).collect()
}

fn mappings(board: &Board) -> Vec<Mapping> {
    let mut all = Vec::new();
    for (device, spec) in board.devices.iter().enumerate() {
        for (id, (region, &base)) in spec.desc.regions.iter().zip(&spec.bases).enumerate() {
            let region_id = u32::try_from(id).expect("region ids are u32");
            all.push(Mapping { base, size: region.size, access: region.access, device, region: region_id });
        }
    }
    all
}

fn attach_disks(
    board: &Board,
    disks: BTreeMap<(String, String), Box<dyn Disk>>,
) -> Result<Disks, BuildError> {
    let mut attached = Disks::new(board.machine.disk);
    for ((device, port), disk) in disks {
        let found = board.devices.iter().position(|d| d.id == device).and_then(|index| {
            let mut ports = board.devices[index].desc.ports.iter();
            let port = ports.position(|p| p.name == port && p.kind == PortKind::Blk)?;
            Some((index, u32::try_from(port).ok()?))
        });
        match found {
            Some((index, id)) => attached.attach(index, id, disk),
            None => return Err(BuildError::NoSuchDiskPort { device, port }),
        }
    }
    Ok(attached)
}

fn hash_placement(placement: &Placement) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (gpa, bytes) in &placement.chunks {
        hasher.update(&gpa.to_le_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    *hasher.finalize().as_bytes()
}
