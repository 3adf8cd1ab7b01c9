//! All harts of a machine and what they share: the crate's API.

use std::rc::Rc;

use crate::block::Arena;
use crate::bus::Bus;
use crate::config::HartConfig;
use crate::decode::Decoder;
use crate::engine::{Engine, EngineError};
use crate::hart::{Hart, Privilege, Waiting, envcfg};
use crate::isa::Reg;
use crate::observe::Interest;
use crate::ram::{GuestRam, PAGE_SIZE};
use crate::run;
use crate::shared::{Cx, LINE, Shared};
use crate::state::{self, StateError};
use crate::tiers::Tiers;
use crate::trap::Irq;

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// The limit was reached.
    Limit,
    /// The hart waits: it executed `wfi` or `wrs.nto` with nothing pending, or was run while it waited.
    Wfi,
    /// The bus asked for attention, or a CSR write may have moved the hart's timer deadline.
    Attention,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// The machine's count of attempted instructions, now.
    pub icount: u64,
    /// Why it ended.
    pub reason: ExitReason,
}

/// How a hart leaves reset: where, and with what in a0, a1 and a2.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// First instruction.
    pub pc: u64,
    /// By convention the hart's id.
    pub a0: u64,
    /// By convention the device tree's address.
    pub a1: u64,
    /// For OpenSBI's `fw_dynamic`, its info struct.
    pub a2: u64,
}

/// The harts of a machine. Harts are named by their index, which is also their `mhartid`.
pub struct Cluster {
    config: HartConfig,
    ram: Rc<GuestRam>,
    harts: Vec<Hart>,
    shared: Shared,
    arena: Arena,
    tiers: Tiers,
    observed: Interest,
}

impl Cluster {
    /// `harts` harts, in their power-on state with pc 0, over `ram`.
    pub fn new(config: HartConfig, harts: usize, ram: Rc<GuestRam>) -> Cluster {
        let pages = (ram.size() / PAGE_SIZE) as usize;
        let ram_host = ram.host_base().expose_provenance() as u64;
        Cluster {
            harts: (0..harts).map(|id| Hart::new(id, &config, ram_host)).collect(),
            shared: Shared::new(pages, harts),
            arena: Arena::new(Decoder::new(&config)),
            tiers: Tiers::default(),
            observed: Interest::default(),
            config,
            ram,
        }
    }

    /// The configuration of the harts.
    pub fn config(&self) -> &HartConfig {
        &self.config
    }

    /// Chooses how instructions are executed from here on; it begins with the interpreter. Invisible to the guest.
    ///
    /// # Errors
    /// The host cannot have the engine; the one before stays.
    pub fn set_engine(&mut self, engine: Engine) -> Result<(), EngineError> {
        self.tiers.choose(engine)
    }

    /// How instructions are executed.
    pub fn engine(&self) -> Engine {
        self.tiers.engine()
    }

    /// Says what of the harts' doings is told to [`Bus::observed`] from here on. Invisible to the guest.
    pub fn set_observed(&mut self, interest: Interest) {
        self.observed = interest;
        self.tiers.observe(interest.is_any());
    }

    pub(crate) fn ram(&self) -> &GuestRam {
        &self.ram
    }

    pub(crate) fn hart(&self, hart: usize) -> &Hart {
        &self.harts[hart]
    }

    /// Number of harts.
    pub fn harts(&self) -> usize {
        self.harts.len()
    }

    /// Runs a hart from the machine's instruction count `icount`: attempts exactly `limit - icount` instructions, or
    /// leaves earlier for the reason it gives. A waiting hart that nothing wakes returns [`ExitReason::Wfi`] at once.
    pub fn run<B: Bus>(&mut self, hart: usize, bus: &mut B, icount: u64, limit: u64) -> Exit {
        // Not generic from here on, so that the interpreter is compiled once, with this crate's optimisation.
        self.run_on(hart, bus, icount, limit)
    }

    fn run_on(&mut self, hart: usize, bus: &mut dyn Bus, icount: u64, limit: u64) -> Exit {
        let mut cx = Cx {
            ram: &self.ram,
            shared: &mut self.shared,
            bus,
            icount,
            limit: limit.max(icount),
            now: icount,
            exit: None,
            stale: false,
            observed: self.observed,
            reconsider: false,
            refused: None,
        };
        let reason = run::run(&mut self.harts[hart], &mut cx, &mut self.arena, &mut self.tiers);
        Exit { icount: cx.icount, reason }
    }

    /// Sets the level of a wire into a hart. Takes effect at the next instruction boundary at which the hart runs.
    pub fn set_irq(&mut self, hart: usize, line: Irq, high: bool) {
        self.harts[hart].interrupts.set_wire(line, high);
    }

    /// A non-maskable interrupt: the hart goes on in M-mode at `vector`, also if it waited. Its reservation ends, as
    /// with any trap.
    pub fn nmi(&mut self, hart: usize, vector: u64) {
        self.shared.unguard_reservation(&self.ram, hart);
        self.shared.reservations[hart] = None;
        self.harts[hart].take_nmi(vector);
    }

    /// Tells a hart the current time, in ticks of the `time` CSR: recomputes its supervisor timer interrupt.
    pub fn set_time(&mut self, hart: usize, time: u64) {
        self.harts[hart].update_timer(time);
    }

    /// When the hart's supervisor timer will fire, in ticks; `None` if it is off or has fired.
    pub fn stimecmp(&self, hart: usize) -> Option<u64> {
        let h = &self.harts[hart];
        let armed = h.csr.menvcfg & envcfg::STCE != 0 && h.interrupts.timer == 0;
        armed.then_some(h.csr.stimecmp)
    }

    /// Whether the hart waits (`wfi`, `wrs.nto`).
    pub fn is_waiting(&self, hart: usize) -> bool {
        self.harts[hart].waiting != Waiting::No
    }

    /// Whether something would wake the hart: an interrupt pending and enabled in `mie`, or the loss of the
    /// reservation it waits on.
    pub fn has_pending(&self, hart: usize) -> bool {
        let h = &self.harts[hart];
        let lost = h.waiting == Waiting::Reservation && self.held_reservation(hart).is_none();
        h.interrupts.pending() != 0 || lost
    }

    /// Puts a hart into its power-on state. Levels of wires stay: they belong to their drivers.
    pub fn reset(&mut self, hart: usize, entry: Entry) {
        self.shared.unguard_reservation(&self.ram, hart);
        self.shared.reservations[hart] = None;
        self.harts[hart].reset(entry.pc, [entry.a0, entry.a1, entry.a2]);
    }

    /// Attempted instructions that trapped, of all harts since they were made: retired = icount - traps.
    pub fn traps(&self) -> u64 {
        self.harts.iter().map(|h| h.counters.traps).sum()
    }

    /// The next instruction's address.
    pub fn pc(&self, hart: usize) -> u64 {
        self.harts[hart].pc
    }

    /// Sets the next instruction's address.
    pub fn set_pc(&mut self, hart: usize, pc: u64) {
        self.harts[hart].pc = pc & !1;
    }

    /// An integer register, 0 to 31.
    pub fn x(&self, hart: usize, register: usize) -> u64 {
        self.harts[hart].registers().0[..32][register]
    }

    /// Sets an integer register, 1 to 31; a write to register 0 is ignored.
    pub fn set_x(&mut self, hart: usize, register: usize, value: u64) {
        if register != 0 {
            self.harts[hart].set_x(Reg::of(register as u32), value);
        }
    }

    /// A floating-point register, 0 to 31, NaN boxed.
    pub fn f(&self, hart: usize, register: usize) -> u64 {
        self.harts[hart].registers().1[..32][register]
    }

    /// The privilege mode of the next instruction.
    pub fn privilege(&self, hart: usize) -> Privilege {
        self.harts[hart].privilege
    }

    /// Drops translations and decoded code. Invisible to the guest.
    pub fn drop_caches(&mut self) {
        self.shared.drop_code(&self.ram, &mut self.arena);
        for hart in &mut self.harts {
            hart.drop_caches();
        }
    }

    /// The hart's architectural state: named fields, in a fixed order.
    pub fn save(&self, hart: usize) -> Vec<(String, Vec<u8>)> {
        state::save(&self.harts[hart], self.held_reservation(hart))
    }

    /// The hart's reservation, if no device wrote to its line since a hart last ran: such writes are applied when one
    /// does.
    fn held_reservation(&self, hart: usize) -> Option<u64> {
        self.shared.reservations[hart].filter(|&line| !self.ram.has_write_to(line, LINE))
    }

    /// What was written from outside belongs to the state before a load: it must not touch what the load brings.
    fn settle_outside_writes(&mut self) {
        if !self.ram.has_writes() {
            return;
        }
        for hart in 0..self.harts.len() {
            let held = self.held_reservation(hart);
            self.shared.unguard_reservation(&self.ram, hart);
            self.shared.reservations[hart] = held;
            self.shared.guard_reservation(&self.ram, hart);
        }
        self.drop_caches();
        self.ram.take_writes();
    }

    /// Restores what [`Cluster::save`] gave. Every field must be there exactly once; on error the hart is as it was.
    pub fn load(&mut self, hart: usize, fields: &[(String, Vec<u8>)]) -> Result<(), StateError> {
        let reservation = state::load(&mut self.harts[hart], fields, &self.ram)?;
        self.settle_outside_writes();
        self.shared.unguard_reservation(&self.ram, hart);
        self.shared.reservations[hart] = reservation;
        self.shared.guard_reservation(&self.ram, hart);
        self.harts[hart].drop_caches();
        Ok(())
    }
}
