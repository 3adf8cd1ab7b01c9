//! Who watches a machine, and what they are told. Nothing comes back from them, so nothing of the run is different.

use crate::{
    clock::Clock,
    log::LogLevel,
    machine::Machine,
    plugin::{Observer, ObserverPlugin},
    services::Services,
};
use reprise_abi::{
    desc::ConfigError,
    observe::{
        ACCESS_ATOMIC, ACCESS_LOAD, ACCESS_STORE, END_CALL, END_JUMP, END_NEXT, END_RETURN, END_TRAP,
        END_TRAP_RETURN, EventRaw, KIND_ACCESS, KIND_BLOCK, KIND_EXCEPTION, KIND_INTERRUPT, KIND_MMIO_READ,
        KIND_MMIO_WRITE, KIND_TRAP_RETURN, MachineDesc, ObservedDevice, Setup,
    },
};
use reprise_cpu::{
    AccessKind, BlockEnd, BlockRun, Interest, MemoryAccess, Observation, TrapReturn, TrapTaken,
};
use std::ptr;

/// An observer that could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverFault {
    /// What it was attached as.
    pub name: String,
    /// Why.
    pub message: String,
}

/// Those who watch.
#[derive(Default)]
pub(crate) struct Observers {
    /// Kinds of events that somebody is to be told of, as bits: without observers one test of it is all that is paid.
    wants: u64,
    /// What is wanted without an observer: the machine compares what devices do.
    of_machine: u64,
    list: Vec<(String, Observer)>,
    faults: Vec<ObserverFault>,
}

impl Observers {
    /// Whether somebody is to be told of this kind.
    #[inline(always)]
    pub(crate) fn want(&self, kind: u32) -> bool {
        self.wants & 1 << kind != 0
    }

    /// Whether somebody is to be told of the harts' accesses to devices.
    pub(crate) fn want_mmio(&self) -> bool {
        self.want(KIND_MMIO_READ) || self.want(KIND_MMIO_WRITE)
    }

    fn count_wants(&mut self) {
        self.wants = self.list.iter().fold(self.of_machine, |wants, (_, observer)| wants | observer.wants());
    }

    /// The machine itself wants to see what these kinds of events are about.
    pub(crate) fn want_too(&mut self, kinds: &[u32]) {
        self.of_machine = kinds.iter().fold(0, |wants, kind| wants | 1 << kind);
        self.count_wants();
    }

    /// What the harts are to tell.
    fn interest(&self) -> Interest {
        Interest {
            blocks: self.want(KIND_BLOCK),
            accesses: self.want(KIND_ACCESS),
            traps: [KIND_EXCEPTION, KIND_INTERRUPT, KIND_TRAP_RETURN].iter().any(|&kind| self.want(kind)),
        }
    }

    /// Tell all who want it. Whether one of them has failed: it is told nothing more.
    fn tell(&mut self, event: &EventRaw) -> bool {
        let before = self.faults.len();
        let faults = &mut self.faults;
        self.list.retain_mut(|(name, observer)| {
            if observer.wants() & 1 << event.kind == 0 {
                return true;
            }
            let Err(message) = observer.event(event) else { return true };
            faults.push(ObserverFault { name: name.clone(), message });
            false
        });
        self.faults.len() > before
    }
}

/// A kind of event, whom it is about, and its words.
type About = (u32, usize, [u64; 6]);

/// As the ABI has it.
fn event(clock: &Clock, icount: u64, (kind, index, words): About, data: Option<&[u8]>) -> EventRaw {
    let (data, len) = data.map_or((ptr::null(), 0), |data| (data.as_ptr(), data.len() as u64));
    let index = u32::try_from(index).expect("devices and harts are counted in u32");
    EventRaw { kind, index, icount, vtime_ns: clock.vtime_at(icount), words, data, len }
}

impl Services {
    /// Something happened here and now. `words`: those of the kind, from the first.
    #[inline(always)]
    pub(crate) fn observe<const N: usize>(&mut self, kind: u32, index: usize, words: [u64; N]) {
        if self.observers.want(kind) {
            self.tell_observers(kind, index, &words, None);
        }
    }

    /// The same, with bytes.
    #[inline(always)]
    pub(crate) fn observe_data<const N: usize>(
        &mut self,
        kind: u32,
        index: usize,
        words: [u64; N],
        data: Option<&[u8]>,
    ) {
        if self.observers.want(kind) {
            self.tell_observers(kind, index, &words, data);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_observers(&mut self, kind: u32, index: usize, words: &[u64], data: Option<&[u8]>) {
        let mut all = [0; 6];
        all[..words.len()].copy_from_slice(words);
        let event = event(&self.clock, self.clock.icount(), (kind, index, all), data);
        self.tell(&event);
    }

    /// A hart did something.
    pub(crate) fn tell_observation(&mut self, what: &Observation) {
        let (icount, about) = match what {
            Observation::Block(run) => (run.icount, block(run)),
            Observation::Access(access) => (access.icount, accessed(access)),
            Observation::Trap(trap) => (trap.icount, trapped(trap)),
            Observation::Return(back) => (back.icount, returned(back)),
        };
        // Observers go in the middle of a run; the harts hear of it later.
        if self.observers.want(about.0) {
            self.tell(&event(&self.clock, icount, about, None));
        }
    }

    fn tell(&mut self, event: &EventRaw) {
        let known = self.observers.faults.len();
        if !self.observers.tell(event) {
            return;
        }
        self.observers.count_wants();
        let new = self.observers.faults[known..].to_vec();
        for ObserverFault { name, message } in new {
            let text = format!("observer \"{name}\" sees nothing more: {message}");
            self.log(LogLevel::Error, None, text);
        }
    }
}

fn block(run: &BlockRun) -> About {
    let end = match run.end {
        BlockEnd::Next => END_NEXT,
        BlockEnd::Jump => END_JUMP,
        BlockEnd::Call => END_CALL,
        BlockEnd::Return => END_RETURN,
        BlockEnd::Trap => END_TRAP,
        BlockEnd::TrapReturn => END_TRAP_RETURN,
    };
    let words = [run.pc, run.bytes, run.instructions, run.privilege as u64, run.satp, end];
    (KIND_BLOCK, run.hart, words)
}

fn accessed(access: &MemoryAccess) -> About {
    let kind = match access.kind {
        AccessKind::Load => ACCESS_LOAD,
        AccessKind::Store => ACCESS_STORE,
        AccessKind::Atomic => ACCESS_ATOMIC,
    };
    (KIND_ACCESS, access.hart, [access.pc, access.va, access.size, kind, access.value, 0])
}

fn trapped(trap: &TrapTaken) -> About {
    const INTERRUPT: u64 = 1 << 63;
    let kind = if trap.cause & INTERRUPT != 0 { KIND_INTERRUPT } else { KIND_EXCEPTION };
    let (cause, from, to) = (trap.cause & !INTERRUPT, trap.from as u64, trap.to as u64);
    (kind, trap.hart, [cause, trap.epc, trap.tval, from, to, trap.handler])
}

fn returned(back: &TrapReturn) -> About {
    (KIND_TRAP_RETURN, back.hart, [back.pc, back.from as u64, back.to as u64, 0, 0, 0])
}

impl Machine {
    /// What the machine is and where it stands, for an observer.
    fn description(&self) -> MachineDesc {
        let status = self.status();
        let device = |(index, slot): (usize, &crate::machine::Slot)| ObservedDevice {
            id: self.services.device_ids[index].clone(),
            desc: slot.instance.desc().clone(),
            bases: self.map.bases(index),
        };
        MachineDesc {
            harts: u32::try_from(self.cluster.harts()).expect("harts are counted in u32"),
            icount: status.icount,
            vtime_ns: status.vtime_ns,
            ram_base: self.services.ram.base(),
            ram_size: self.services.ram.size(),
            devices: self.slots.iter().enumerate().map(device).collect(),
            symbols: self.services.symbols.functions(),
        }
    }

    /// Attach an observer under a name, from here on. `options`: an object.
    ///
    /// # Errors
    /// The options are not right, or what they name cannot be had.
    pub fn observe(
        &mut self,
        name: &str,
        plugin: &ObserverPlugin,
        options: serde_json::Value,
    ) -> Result<(), ConfigError> {
        let setup = Setup { options, machine: self.description() };
        let setup = serde_json::to_string(&setup).expect("a description has only string keys");
        let observer = plugin.create(&setup)?;
        self.services.observers.list.push((name.to_owned(), observer));
        self.services.observers.count_wants();
        self.tell_harts();
        Ok(())
    }

    /// The harts tell what somebody wants to hear, and nothing else.
    pub(crate) fn tell_harts(&mut self) {
        self.cluster.set_observed(self.services.observers.interest());
    }

    /// Nothing more will happen: every observer finishes what it does, and is gone. Returns those that failed, now or
    /// before.
    pub fn finish_observers(&mut self) -> Vec<ObserverFault> {
        let mut observers = std::mem::take(&mut self.services.observers);
        self.tell_harts();
        for (name, observer) in observers.list {
            let result = observer.finish();
            observers.faults.extend(result.err().map(|message| ObserverFault { name, message }));
        }
        observers.faults
    }
}
