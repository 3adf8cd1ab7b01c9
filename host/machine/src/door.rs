//! The machine at its gate: what comes from outside, or from the log in the outside's place, has its effect here.

use crate::{
    clock::END_OF_TIME_NS,
    log::LogLevel,
    machine::Machine,
    outside::{Asked, Input, Outside},
    run::Stop,
    services::{Control, Services},
};
use reprise_abi::{
    hot,
    observe::{KIND_INTERRUPT, KIND_PORT_CHANGE, KIND_PORT_IN},
};
use reprise_cpu::Privilege;
use reprise_replay::{
    Control as Button, Divergence, EndReason, Event, Halt, PortChange, Position, StateDigest,
    log::{LogError, MAX_DATA_BYTES, Tail},
};

/// Where [`Machine::run`] is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When so many instructions were attempted.
    Icount(u64),
    /// At this virtual time, before the event which has this place in the order there.
    Position(Position),
    /// Behind the instruction with which so many lines were written to a chr port, since power-on.
    Lines {
        /// Index of the device in the board.
        device: usize,
        /// Port id of the device.
        port: usize,
        /// Line feeds.
        lines: u64,
    },
}

/// Where [`Machine::run`] comes back for the host's sake, at the first safe point there or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// When so many instructions were attempted.
    Icount(u64),
    /// At this virtual time, in nanoseconds. Where every hart sleeps past it: when one wakes.
    Vtime(u64),
}

/// What becomes of an input.
enum Admission {
    Event(Event),
    /// The machine has nothing that it could be for.
    Refused(String),
}

impl Machine {
    /// Stop [`Machine::run`] at a place, once it is reached. A place in the past is reached at once.
    pub fn set_until(&mut self, until: Option<Until>) {
        self.services.watched = match until {
            Some(Until::Lines { device, port, .. }) => Some((device, port)),
            Some(Until::Icount(_) | Until::Position(_)) | None => None,
        };
        self.until = until;
    }

    /// Come back from [`Machine::run`] with [`Stop::Until`] also there, wherever [`Machine::set_until`] lies:
    /// [`Machine::has_arrived`] tells the two apart.
    pub fn set_checkpoint(&mut self, checkpoint: Option<Checkpoint>) {
        self.checkpoint = checkpoint;
    }

    /// Whether the place of [`Machine::set_until`] is reached.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.is_at_until(self.services.clock.vtime_ns())
    }

    /// Line feeds that a device has written to a port since power-on.
    ///
    /// # Panics
    /// If the machine has no such port.
    #[must_use]
    pub fn lines(&self, device: usize, port: usize) -> u64 {
        self.services.ports[device][port].lines()
    }

    /// Let something in at the next safe point, as if it had come from outside.
    pub fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
    }

    /// How the replay left its recording, if it did.
    #[must_use]
    pub fn divergence(&self) -> Option<&Divergence> {
        self.services.gate.divergence()
    }

    /// Why the log cannot be written or read any further, if it cannot.
    #[must_use]
    pub fn log_error(&self) -> Option<&LogError> {
        match self.services.gate.halt(self.services.clock.vtime_ns()) {
            Some(Halt::Failed(error)) => Some(error),
            Some(Halt::Diverged(_) | Halt::Ended(_) | Halt::OutOfRecords(_)) | None => None,
        }
    }

    /// How the log ends, if all of it was replayed and none of it says that the run ended: it was interrupted, although
    /// the machine may have stopped by itself, or by its last record.
    #[must_use]
    pub fn log_breaks_off(&self) -> Option<Tail> {
        self.services.gate.breaks_off()
    }

    /// Leave the recording here: from now on `outside` speaks, and a log that is written goes on.
    ///
    /// # Panics
    /// If the machine replays nothing, or has diverged.
    pub fn go_live(&mut self, outside: Box<dyn Outside>) {
        self.services.gate.go_live();
        self.services.outside = outside;
        self.services.tell_stand();
        self.slice_end = self.services.clock.icount();
        self.plan_digest();
    }

    /// The run is over: put the state's digest and the end into the log, or compare them with what it has. To be called
    /// once, behind the last [`Machine::run`], unless the log itself had ended before.
    pub fn end(&mut self, reason: EndReason) {
        self.services.sync_gate();
        let now_ns = self.services.clock.vtime_ns();
        // A plugin that has failed may not be able to save itself, and a reset that failed has not happened.
        let has_state = !matches!(reason, EndReason::PluginFault | EndReason::ResetFailed);
        let gate = &self.services.gate;
        if has_state && (gate.digest_due(now_ns) || gate.is_recording() && !gate.is_replaying()) {
            self.pass_digest();
        }
        self.services.gate.end(now_ns, reason);
    }

    /// What the log has at this position enters. Then, also while nothing is replayed: may the machine go on?
    pub(crate) fn answer_from_log(&mut self) -> Option<Stop> {
        self.services.sync_gate();
        let now_ns = self.services.clock.vtime_ns();
        if self.services.gate.is_replaying()
            && let Some(stop) = self.take_from_log(now_ns)
        {
            return Some(stop);
        }
        let at_checkpoint = match self.checkpoint {
            None => false,
            Some(Checkpoint::Icount(icount)) => self.services.clock.icount() >= icount,
            Some(Checkpoint::Vtime(vtime_ns)) => now_ns >= vtime_ns,
        };
        if at_checkpoint && !self.log_has_more_at(now_ns) || self.is_at_until(now_ns) {
            return Some(Stop::Until);
        }
        match self.services.gate.halt(now_ns)? {
            Halt::Diverged(_) => Some(Stop::Diverged),
            Halt::Failed(_) => Some(Stop::LogFailed),
            // What ends a run from inside has to happen again; the gate finds at the next position that it did not.
            Halt::Ended(EndReason::PowerOff { .. } | EndReason::PluginFault) => None,
            Halt::Ended(reason) => Some(self.end_with_log(now_ns, reason)),
            Halt::OutOfRecords(tail) => Some(Stop::OutOfRecords(tail)),
        }
    }

    fn end_with_log(&mut self, now_ns: u64, reason: EndReason) -> Stop {
        if self.log_ended.is_none() {
            self.services.gate.end(now_ns, reason);
            self.log_ended = Some(reason);
        }
        if self.services.gate.divergence().is_none() { Stop::ReplayEnded(reason) } else { Stop::Diverged }
    }

    fn take_from_log(&mut self, now_ns: u64) -> Option<Stop> {
        loop {
            if self.is_at_until(now_ns) {
                return None;
            }
            if self.services.gate.digest_due(now_ns) {
                self.pass_digest();
                continue;
            }
            let event = self.services.gate.take_due(now_ns)?;
            if let Err(why) = self.apply(event) {
                return Some(Stop::BadRecord(why));
            }
            if let Some(stop) = self.settle() {
                return Some(stop);
            }
        }
    }

    fn is_at_until(&self, now_ns: u64) -> bool {
        match self.until {
            None => false,
            Some(Until::Icount(icount)) => {
                self.services.clock.icount() >= icount && !self.log_has_more_at(now_ns)
            }
            Some(Until::Position(at)) => {
                now_ns > at.vtime_ns
                    || now_ns == at.vtime_ns
                        && (!self.log_has_more_at(now_ns)
                            || self.services.gate.next_position().is_some_and(|next| next >= at))
            }
            Some(Until::Lines { device, port, lines }) => {
                self.lines(device, port) >= lines && !self.log_has_more_at(now_ns)
            }
        }
    }

    /// Whether the log has something that enters at this time.
    fn log_has_more_at(&self, now_ns: u64) -> bool {
        let gate = &self.services.gate;
        gate.digest_due(now_ns) || gate.input_due(now_ns)
    }

    /// The icount behind which the machine must not run for the sake of [`Machine::set_until`].
    pub(crate) fn until_icount(&self) -> u64 {
        let until = match self.until {
            None | Some(Until::Lines { .. }) => u64::MAX,
            Some(Until::Icount(icount)) => icount,
            Some(Until::Position(at)) => self.services.clock.icount_at(at.vtime_ns),
        };
        let checkpoint = match self.checkpoint {
            None => u64::MAX,
            Some(Checkpoint::Icount(icount)) => icount,
            Some(Checkpoint::Vtime(vtime_ns)) => self.services.clock.icount_at(vtime_ns),
        };
        until.min(checkpoint)
    }

    /// The earliest virtual time at which something happens by itself or enters from the log.
    pub(crate) fn next_stop_ns(&self) -> Option<u64> {
        let logged = self.services.gate.next_position().map(|position| position.vtime_ns);
        self.next_deadline_ns().into_iter().chain(logged).min()
    }

    /// Every hart waits, and the log says for how long. Host time plays no part in it.
    pub(crate) fn idle_replayed(&mut self) -> Option<Stop> {
        let until_ns = match self.until {
            Some(Until::Position(at)) => Some(at.vtime_ns),
            Some(Until::Icount(_) | Until::Lines { .. }) | None => None,
        };
        let next_ns = self.next_stop_ns().into_iter().chain(until_ns).min();
        let Some(next_ns) = next_ns.filter(|&at_ns| at_ns < END_OF_TIME_NS) else {
            return Some(Stop::Deadlock);
        };
        // An entry of this very position that nothing asked for is found to be missed at the next.
        let now_ns = self.services.clock.vtime_ns();
        self.sleep_to(next_ns.max(now_ns + 1)).or_else(|| self.look_outside())
    }

    /// The digest of this position, if the interval ends here and it is us who decide that.
    pub(crate) fn record_digest(&mut self) {
        if self.services.clock.icount() < self.next_digest || self.services.gate.is_replaying() {
            return;
        }
        self.services.sync_gate();
        self.pass_digest();
        self.plan_digest();
    }

    /// The next multiple of the interval: decided by the icount alone, so it is not part of the state.
    pub(crate) fn plan_digest(&mut self) {
        let gate = &self.services.gate;
        let wanted = self.digest_every.filter(|_| gate.is_recording() && !gate.is_replaying());
        let next = |every: u64| (self.services.clock.icount() / every + 1).saturating_mul(every);
        self.next_digest = wanted.map_or(u64::MAX, next);
    }

    /// Put the state's digest into the log that is being written, here: whoever comes to this place by another way can
    /// see that it is this one. Nothing happens where no log is written.
    pub fn vouch(&mut self) {
        if self.services.gate.is_recording() && !self.services.gate.is_replaying() {
            self.services.sync_gate();
            self.pass_digest();
        }
    }

    fn pass_digest(&mut self) {
        let now_ns = self.services.clock.vtime_ns();
        let (whole, parts) = self.digest_parts();
        self.services.gate.digest(now_ns, StateDigest { whole, parts });
    }

    /// Blocks of a disk image that the guest has read for the first time are pinned by their content.
    pub(crate) fn tell_first_reads(&mut self, device: usize, port: u32) {
        if !self.services.gate.wants_checks() {
            return;
        }
        self.services.sync_gate();
        let now_ns = self.services.clock.vtime_ns();
        let Services { gate, disks, .. } = &mut self.services;
        let device_id = u32::try_from(device).expect("device indices are u32");
        disks.first_reads(device, port, &mut |block, hash| {
            gate.disk_block(now_ns, device_id, port, block, hash)
        });
    }

    /// Fetch what arrived. Returns whether anything waits to enter.
    pub(crate) fn ask_outside(&mut self) -> bool {
        let mut arrived = Vec::new();
        self.services.outside.poll(&mut arrived);
        self.inbox.extend(arrived);
        !self.inbox.is_empty()
    }

    /// Let in what arrived, one after the other: how the outside bundles it must not show. What comes behind a stop
    /// enters when the machine goes on.
    pub(crate) fn admit_inputs(&mut self) -> Option<Stop> {
        while let Some(input) = self.inbox.pop_front() {
            match self.event_of(input) {
                Admission::Event(event) => self.enter(event),
                Admission::Refused(text) => self.services.log(LogLevel::Error, None, text),
            }
            if let Some(stop) = self.settle() {
                return Some(stop);
            }
        }
        self.faulted()
    }

    fn event_of(&mut self, input: Input) -> Admission {
        let event = match input {
            Input::PortData { device, port, data } => {
                self.find_port(&device, &port).and_then(|(at, id)| self.input_event(at, id, data))
            }
            Input::PortEvent { device, port, event } => {
                let found = self.find_port(&device, &port);
                found.map(|(device, port)| Event::PortChange { device, port, change: event })
            }
            Input::Control(button) => Ok(Event::Control(button)),
            Input::WriteMemory { gpa, data } => Ok(Event::WriteMemory { gpa, data }),
            Input::WriteRegister { hart, register, value } => {
                Ok(Event::WriteRegister { hart, register, value })
            }
        };
        match event.and_then(|event| self.check(&event).map(|()| event)) {
            Ok(event) => Admission::Event(event),
            Err(text) => Admission::Refused(text),
        }
    }

    /// Bytes that are too many for one record enter in pieces; a frame cannot be cut.
    fn input_event(&mut self, device: u32, port: u32, mut data: Vec<u8>) -> Result<Event, String> {
        if data.len() > MAX_DATA_BYTES {
            let slot = &self.services.ports[device as usize][port as usize];
            let (id, name) = (self.services.device_ids[device as usize].clone(), slot.name.clone());
            if slot.takes_frames() {
                return Err(format!("a frame of {} bytes for \"{id}.{name}\" was dropped", data.len()));
            }
            let rest = data.split_off(MAX_DATA_BYTES);
            self.inbox.push_front(Input::PortData { device: id, port: name, data: rest });
        }
        Ok(Event::Input { device, port, data })
    }

    fn find_port(&self, device: &str, port: &str) -> Result<(u32, u32), String> {
        let gone = || format!("input for \"{device}.{port}\", which the machine does not have");
        let index = self.services.device_ids.iter().position(|id| id == device).ok_or_else(gone)?;
        let id = self.services.ports[index].iter().position(|p| p.name == port).ok_or_else(gone)?;
        Ok((u32::try_from(index).map_err(|_| gone())?, u32::try_from(id).map_err(|_| gone())?))
    }

    /// An event passes the gate and has its effect.
    fn enter(&mut self, event: Event) {
        self.services.sync_gate();
        self.services.gate.admit(self.services.clock.vtime_ns(), &event);
        let applied = self.apply(event);
        assert!(applied.is_ok(), "an event was admitted that the machine cannot take: {applied:?}");
    }

    /// Whether the machine has what an event is for. A log is hostile: it may name anything.
    fn check(&self, event: &Event) -> Result<(), String> {
        let known = match event {
            Event::Input { device, port, .. } | Event::PortChange { device, port, .. } => {
                let ports = self.services.ports.get(*device as usize);
                ports.is_some_and(|ports| (*port as usize) < ports.len())
            }
            Event::WriteMemory { gpa, data } => self.services.ram.contains(*gpa, data.len() as u64),
            Event::WriteRegister { hart, register, .. } => {
                (*hart as usize) < self.cluster.harts() && *register <= REGISTER_PC
            }
            Event::Control(Button::Nmi) if self.nmi_vector.is_none() => {
                return Err(format!(
                    "{event}: the machine has none; set machine.nmi_vector to the address of its handler"
                ));
            }
            Event::Control(Button::Reset | Button::PowerOff | Button::Nmi) => true,
            Event::BottomHalf { .. } | Event::HostClock { .. } => {
                unreachable!("bottom halves and clock reads are stamped where they happen")
            }
        };
        if known { Ok(()) } else { Err(format!("{event}: the machine does not have that")) }
    }

    /// An event that has passed the gate has its effect.
    fn apply(&mut self, event: Event) -> Result<(), String> {
        self.check(&event)?;
        match event {
            Event::Input { device, port, data } => {
                self.services.observe_data(KIND_PORT_IN, device as usize, [port.into()], Some(&data));
                self.services.ports[device as usize][port as usize].push(data);
                self.notify_port(device as usize, port, hot::PORT_READABLE);
            }
            Event::PortChange { device, port, change } => {
                let kind = match change {
                    PortChange::Opened => hot::PORT_OPENED,
                    PortChange::Closed => hot::PORT_CLOSED,
                    PortChange::Break => hot::PORT_BREAK,
                };
                self.services.observe(KIND_PORT_CHANGE, device as usize, [port.into(), kind.into()]);
                self.notify_port(device as usize, port, kind);
            }
            Event::Control(Button::Reset) => self.services.request(Control::Reset, Asked::FromOutside),
            Event::Control(Button::Nmi) => {
                self.take_nmi(self.nmi_vector.expect("checked above"));
            }
            Event::Control(Button::PowerOff) => {
                self.services.request(Control::PowerOff { code: 0 }, Asked::FromOutside);
            }
            Event::WriteMemory { gpa, data } => {
                let written = self.services.ram.write(gpa, &data);
                assert!(written.is_ok(), "checked above");
            }
            Event::WriteRegister { hart, register: REGISTER_PC, value } => {
                self.cluster.set_pc(hart as usize, value);
            }
            Event::WriteRegister { hart, register, value } => {
                self.cluster.set_x(hart as usize, register as usize, value);
            }
            Event::BottomHalf { .. } | Event::HostClock { .. } => unreachable!("refused above"),
        }
        Ok(())
    }

    fn take_nmi(&mut self, vector: u64) {
        let (epc, from) = (self.cluster.pc(NMI_HART), self.cluster.privilege(NMI_HART) as u64);
        let to = Privilege::Machine as u64;
        self.services.observe(KIND_INTERRUPT, NMI_HART, [0, epc, 0, from, to, vector]);
        self.cluster.nmi(NMI_HART, vector);
    }

    fn notify_port(&mut self, device: usize, port: u32, kind: u32) {
        self.callback(device, "on_port", |instance, cx| instance.on_port(cx, port, kind));
    }
}

/// The hart that takes non-maskable interrupts: where firmware does what is done once for the machine.
const NMI_HART: usize = 0;

/// Number of `pc` in [`Event::WriteRegister`]: that of the RISC-V target description of GDB, behind x0 to x31.
const REGISTER_PC: u32 = 32;

#[cfg(test)]
pub(crate) mod tests;
