//! The run loop: harts up to the next limit, then a safe point.

use crate::{
    board::{IdlePolicy, WireEnd},
    bus::MachineBus,
    chaos::Disturbance,
    clock::END_OF_TIME_NS,
    deadline::Due,
    links::Message,
    log::LogLevel,
    machine::Machine,
    pace::Pacer,
    plugin::Instance,
    plugin_ctx::with_ctx,
    services::{Control, PluginFault},
};
use reprise_abi::{
    hot::CtxRaw,
    observe::{KIND_BLOCK_REQUEST, KIND_BOTTOM_HALF, KIND_INPUT_PIN, KIND_LINE, KIND_MESSAGE, KIND_TIMER},
};
use reprise_cpu::{Exit, ExitReason, Irq};
use reprise_replay::{EndReason, log::Tail};

/// How long the machine runs before it looks outside, in instructions: a host matter, invisible to the guest.
const SLICE: u64 = 100_000;

/// Nudges in a row, without an instruction or a sleep, after which a plugin is at fault.
const MAX_BARREN: u32 = 100_000;

/// Edges delivered in one go after which the board's wires form a loop.
const MAX_EDGES: u32 = 1_000_000;

/// Why [`Machine::run`] came back. The machine stands at a safe point and could go on, unless it has faulted or the log
/// has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest powered off.
    PowerOff {
        /// Its exit code.
        code: u32,
    },
    /// The instruction limit was reached.
    Limit,
    /// Somebody asked, through [`crate::StopHandle`].
    Requested,
    /// Every hart waits for an interrupt that nothing can raise any more.
    Deadlock,
    /// A plugin did what it must not.
    PluginFault(PluginFault),
    /// The guest asked for a reset and the host could not make the boot images again.
    ResetFailed(String),
    /// The place of [`Machine::set_until`] was reached.
    Until,
    /// The log ends here, for a reason that lay outside.
    ReplayEnded(EndReason),
    /// The log breaks off: everything that it has was replayed.
    OutOfRecords(Tail),
    /// The replay left the recording: [`Machine::divergence`] says how.
    Diverged,
    /// The log cannot be written, or read, any further: [`Machine::log_error`] says why.
    LogFailed,
    /// The host could not read or write a disk, while recording or replaying: neither could tell the guest the same
    /// again. Nothing goes on from here, and the log has no end.
    DiskFailed(String),
    /// The log has an event that cannot be one of this machine.
    BadRecord(String),
}

impl Stop {
    /// As what a log has a run that ended so by itself; `None` if it could go on, or the log has spoken.
    #[must_use]
    pub fn own_end(&self) -> Option<EndReason> {
        match self {
            Stop::PowerOff { code } => Some(EndReason::PowerOff { code: *code }),
            Stop::Deadlock => Some(EndReason::Deadlock),
            Stop::PluginFault(_) => Some(EndReason::PluginFault),
            Stop::ResetFailed(_) => Some(EndReason::ResetFailed),
            Stop::Limit
            | Stop::Requested
            | Stop::Until
            | Stop::ReplayEnded(_)
            | Stop::OutOfRecords(_)
            | Stop::Diverged
            | Stop::LogFailed
            | Stop::DiskFailed(_)
            | Stop::BadRecord(_) => None,
        }
    }
}

/// Why the inner loop ended.
enum Pause {
    Stop(Stop),
    /// Chaos asked for a stop that nobody outside wants: go on at once.
    Chaos,
}

impl Machine {
    /// Let the machine go on until it stops. Stopping writes nothing to the guest and moves no clock: any number of
    /// stops anywhere leaves the run as it was.
    pub fn run(&mut self) -> Stop {
        let stop = loop {
            let real_ns = self.services.outside.realtime_ns();
            self.pacer = Pacer::new(real_ns, self.services.clock.vtime_ns());
            self.publish(true);
            match self.run_until_pause() {
                Pause::Stop(stop) => break stop,
                Pause::Chaos => self.publish(false),
            }
        };
        self.publish(false);
        self.services.log_left_out();
        stop
    }

    fn publish(&mut self, running: bool) {
        let vtime_ns = self.services.clock.vtime_ns();
        self.services.outside.publish(vtime_ns, running);
        let status = self.status();
        self.services.outside.progress(status);
    }

    fn run_until_pause(&mut self) -> Pause {
        self.slice_end = self.services.clock.icount();
        loop {
            if let Some(stop) = self.safe_point_once().or_else(|| self.answer_from_log()) {
                return Pause::Stop(stop);
            }
            let icount = self.services.clock.icount();
            if icount >= self.slice_end {
                self.slice_end = icount + SLICE;
                if let Some(stop) = self.look_outside() {
                    return Pause::Stop(stop);
                }
            }
            if self.disturb(icount) {
                return Pause::Chaos;
            }
            if self.icount_limit.is_some_and(|limit| icount >= limit) {
                return Pause::Stop(Stop::Limit);
            }
            if let Some(stop) = self.advance() {
                return Pause::Stop(stop);
            }
        }
    }

    /// Run the hart whose turn it is, or let time pass if all wait.
    fn advance(&mut self) -> Option<Stop> {
        let cluster = &self.cluster;
        let runnable = |hart| !cluster.is_waiting(hart) || cluster.has_pending(hart);
        match self.schedule.pick(self.services.clock.icount(), runnable) {
            Some((hart, turn_ends)) => {
                self.barren = 0;
                self.execute(hart, self.slice_end.min(turn_ends));
                None
            }
            None => self.idle(),
        }
    }

    /// Run one hart to the nearest of everything that limits it.
    fn execute(&mut self, hart: usize, limit: u64) {
        let icount = self.services.clock.icount();
        let limit = self.limit(limit).max(icount + 1);
        self.services.attention = false;
        let exit = match self.services.observers.want_mmio() {
            false => self.run_hart::<false>(hart, icount, limit),
            true => self.run_hart::<true>(hart, icount, limit),
        };
        self.services.clock.set_icount(exit.icount);
        match exit.reason {
            ExitReason::Limit | ExitReason::Wfi | ExitReason::Attention => {}
        }
    }

    fn run_hart<const SEEN: bool>(&mut self, hart: usize, icount: u64, limit: u64) -> Exit {
        let (services, slots, map) = (&mut self.services, &mut self.slots, &mut self.map);
        self.cluster.run(hart, &mut MachineBus::<SEEN> { services, slots, map }, icount, limit)
    }

    fn limit(&self, limit: u64) -> u64 {
        let icount = self.services.clock.icount();
        let mut limit = limit.min(self.icount_limit.unwrap_or(u64::MAX));
        if let Some(at_ns) = self.next_stop_ns() {
            limit = limit.min(self.services.clock.icount_at(at_ns));
        }
        limit = limit.min(self.next_digest).min(self.until_icount());
        // In any good log its time comes no later.
        limit = limit.min(self.services.gate.next_icount().unwrap_or(u64::MAX));
        if let Some(chaos) = &self.chaos {
            limit = limit.min(chaos.next_icount());
        }
        if !self.services.bottom_halves.is_empty() {
            // Queued by a bottom half of this safe point: due at the next one.
            limit = limit.min(icount + 1);
        }
        limit
    }

    /// The earliest virtual time at which anything inside happens by itself.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let clock = &self.services.clock;
        let harts = (0..self.cluster.harts()).filter_map(|hart| self.cluster.stimecmp(hart));
        let harts = harts.map(|tick| clock.ns_at_tick(tick)).filter(|&at_ns| at_ns != u64::MAX);
        self.services.deadlines.next_ns().into_iter().chain(clock.wraps_ns()).chain(harts).min()
    }

    /// The safe point of this position, if it has not happened yet. However often the machine is stopped here: what a
    /// timer or a bottom half queues belongs to the next position, and a stop must not turn this one into that.
    fn safe_point_once(&mut self) -> Option<Stop> {
        let here = (self.services.clock.icount(), self.services.clock.vtime_ns());
        if self.settled == Some(here) {
            return None;
        }
        self.settled = Some(here);
        self.safe_point().or_else(|| {
            self.record_digest();
            None
        })
    }

    /// Between two instructions, no plugin on the stack: wires, expired timers, bottom halves, requests.
    fn safe_point(&mut self) -> Option<Stop> {
        let now_ns = self.services.clock.vtime_ns();
        let due = self.services.deadlines.next_ns().is_some_and(|at_ns| at_ns <= now_ns);
        if due || self.services.attention || !self.services.bottom_halves.is_empty() {
            self.drain_wires();
            self.fire_deadlines();
            self.run_bottom_halves();
        }
        self.settle()
    }

    /// Deliver wires, show the harts the time, and obey requests.
    pub(crate) fn settle(&mut self) -> Option<Stop> {
        self.drain_wires();
        let ticks = self.services.clock.ticks_now();
        for hart in 0..self.cluster.harts() {
            self.cluster.set_time(hart, ticks);
        }
        // A device may panic before a reset, or in it.
        self.faulted().or_else(|| self.obey()).or_else(|| self.faulted())
    }

    pub(crate) fn faulted(&self) -> Option<Stop> {
        let fault = self.services.fault.clone().map(Stop::PluginFault);
        fault.or_else(|| self.services.disk_failure.clone().map(Stop::DiskFailed))
    }

    fn obey(&mut self) -> Option<Stop> {
        let (control, asked) = self.services.control.take()?;
        match control {
            Control::PowerOff { code } => {
                self.services.outside.powered_off(asked);
                Some(Stop::PowerOff { code })
            }
            Control::Reset => {
                // Placing the images takes longer than a slice: a guest that resets in a loop must not keep us in it.
                self.slice_end = self.services.clock.icount();
                if let Err(why) = self.reset() {
                    return Some(Stop::ResetFailed(why));
                }
                self.services.outside.was_reset(asked);
                None
            }
        }
    }

    /// Deliver queued edges until none is left, then a message, and so on until nothing is on its way.
    pub(crate) fn drain_wires(&mut self) {
        let mut edges = Vec::new();
        let mut delivered = 0;
        loop {
            self.services.wires.take(&mut edges);
            if edges.is_empty() {
                let Some(message) = self.services.links.take() else { return };
                delivered += 1;
                if delivered > MAX_EDGES {
                    return self.blame_links(message.device);
                }
                self.deliver_message(&message);
            }
            for (end, high) in edges.drain(..) {
                delivered += 1;
                if delivered > MAX_EDGES {
                    return self.blame_wires(end);
                }
                self.deliver(end, high);
            }
        }
    }

    fn deliver_message(&mut self, message: &Message) {
        let Message { device, link, at, data } = message;
        let words = [(*link).into(), (*at).into(), data.is_some().into()];
        self.services.observe_data(KIND_MESSAGE, *device, words, data.as_deref());
        self.callback(*device, "on_message", |instance, cx| {
            instance.on_message(cx, *link, *at, data.as_deref())
        });
    }

    fn deliver(&mut self, end: WireEnd, high: bool) {
        match end {
            WireEnd::Hart { hart, line } => {
                if self.services.observers.want(KIND_LINE) {
                    self.services.observe(KIND_LINE, hart as usize, [bit_in_mip(line), high.into()]);
                }
                self.cluster.set_irq(hart as usize, irq(line), high);
            }
            WireEnd::Device { device, pin } => {
                self.services.observe(KIND_INPUT_PIN, device, [pin.into(), high.into()]);
                self.callback(device, "on_pin", |instance, cx| instance.on_pin(cx, pin, u32::from(high)));
            }
        }
    }

    /// Let a device run: every callback but MMIO, which comes from inside an instruction.
    pub(crate) fn callback(
        &mut self,
        device: usize,
        name: &'static str,
        call: impl FnOnce(&mut Instance, &mut CtxRaw) -> u64,
    ) {
        let instance = &mut self.slots[device].instance;
        // What it returns says only whether it panicked, and a panic has been told to `fault` already.
        with_ctx(&mut self.services, device, name, |cx| call(instance, cx));
    }

    fn blame_wires(&mut self, end: WireEnd) {
        let device = match end {
            WireEnd::Device { device, .. } => self.services.device_ids[device].clone(),
            WireEnd::Hart { .. } => "?".to_owned(),
        };
        let message = format!("the board's wires form a loop that never settles ({MAX_EDGES} edges)");
        self.never_settles(PluginFault { device, callback: "on_pin", message });
    }

    fn blame_links(&mut self, device: usize) {
        let device = self.services.device_ids[device].clone();
        let message = format!("a conversation on its links does not come to an end ({MAX_EDGES} messages)");
        self.never_settles(PluginFault { device, callback: "on_message", message });
    }

    /// Nothing of what is on its way arrives any more.
    fn never_settles(&mut self, fault: PluginFault) {
        self.services.wires.take(&mut Vec::new());
        self.services.links.clear();
        self.services.fault.get_or_insert(fault);
    }

    fn fire_deadlines(&mut self) {
        let now_ns = self.services.clock.vtime_ns();
        let mark = self.services.deadlines.mark();
        while let Some(due) = self.services.deadlines.pop(now_ns, mark) {
            match due {
                Due::Timer { device, timer } => {
                    self.services.observe(KIND_TIMER, device, [timer.into()]);
                    self.callback(device, "on_timer", |instance, cx| instance.on_timer(cx, timer));
                }
                Due::Disk { request } => self.complete_disk(request),
            }
        }
    }

    fn complete_disk(&mut self, request: u64) {
        let (request, outcome) = self.services.disks.complete(request);
        if let Some(error) = outcome.host_error {
            if self.services.gate.wants_checks() {
                // No log can say what the guest would see now.
                self.services.disk_failure.get_or_insert(error);
                return;
            }
            let text = format!("disk I/O failed on the host, the guest sees an I/O error: {error}");
            self.services.log(LogLevel::Error, Some(request.device), text);
        }
        self.tell_first_reads(request.device, request.port);
        let words = [request.port.into(), request.token, outcome.status.into()];
        self.services.observe(KIND_BLOCK_REQUEST, request.device, words);
        self.callback(request.device, "on_blk", |instance, cx| {
            instance.on_blk(cx, request.port, request.token, outcome.status, &outcome.data)
        });
    }

    fn run_bottom_halves(&mut self) {
        if self.services.bottom_halves.is_empty() {
            return;
        }
        let now_ns = self.services.clock.vtime_ns();
        for pending in self.services.bottom_halves.take() {
            let device = u32::try_from(pending.device).expect("device indices are u32");
            self.services.sync_gate();
            self.services.gate.bottom_half(now_ns, device, pending.bh, pending.payload.is_some());
            let words = [pending.bh.into(), pending.payload.is_some().into()];
            self.services.observe_data(KIND_BOTTOM_HALF, pending.device, words, pending.payload.as_deref());
            self.callback(pending.device, "on_bh", |instance, cx| {
                instance.on_bh(cx, pending.bh, pending.payload.as_deref())
            });
        }
    }

    /// The end of a slice: requests to stop, inputs, and host time if a busy guest is held down to it.
    pub(crate) fn look_outside(&mut self) -> Option<Stop> {
        self.publish(true);
        // One of those who watched may have failed meanwhile.
        self.tell_harts();
        if self.stop.take() {
            return Some(Stop::Requested);
        }
        if self.services.gate.is_replaying() {
            return None;
        }
        self.ask_outside();
        if let Some(stop) = self.admit_inputs() {
            return Some(stop);
        }
        if self.align {
            let real_ns = self.services.outside.realtime_ns();
            let wait_ns = self.pacer.wait_ns(real_ns, self.services.clock.vtime_ns());
            if wait_ns > 0 {
                self.services.outside.wait(Some(wait_ns));
            }
        }
        None
    }

    /// Every hart waits. Virtual time jumps to the next deadline, or follows host time until something arrives.
    fn idle(&mut self) -> Option<Stop> {
        let next_ns = self.next_deadline_ns();
        let now_ns = self.services.clock.vtime_ns();
        if !self.services.bottom_halves.is_empty() || next_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            return self.nudge();
        }
        self.barren = 0;
        if self.services.gate.is_replaying() {
            return self.idle_replayed();
        }
        let next_ns = next_ns.filter(|&at_ns| at_ns < END_OF_TIME_NS);
        let can_answer = self.services.outside.can_answer();
        let pace = match self.idle {
            IdlePolicy::Pace => true,
            IdlePolicy::Warp => false,
            IdlePolicy::Auto => can_answer,
        };
        match next_ns {
            Some(at_ns) if !pace => self.sleep_to(at_ns).or_else(|| self.look_outside()),
            // Asked before the inbox is looked at: the last words of whoever went away are in it by now.
            None if !can_answer && !self.ask_outside() => Some(Stop::Deadlock),
            next_ns => self.idle_paced(next_ns),
        }
    }

    /// Something is due at the next position, and no instruction leads there: a nanosecond does.
    fn nudge(&mut self) -> Option<Stop> {
        self.barren += 1;
        if self.barren > MAX_BARREN {
            return Some(Stop::PluginFault(self.blame_barren()));
        }
        let now_ns = self.services.clock.vtime_ns();
        self.sleep_to(now_ns + 1).or_else(|| self.look_outside())
    }

    /// Let virtual time pass while every hart waits. Inputs enter behind the safe point of a position, here as
    /// elsewhere.
    pub(crate) fn sleep_to(&mut self, at_ns: u64) -> Option<Stop> {
        self.services.clock.skip_to(at_ns);
        self.safe_point_once()
    }

    /// Every hart waits and so do we. What passes of host time meanwhile is the guest's, for whatever reason we wake:
    /// so those outside see it pass, and a stop takes nothing back of what they have seen.
    fn idle_paced(&mut self, next_ns: Option<u64>) -> Option<Stop> {
        let real_ns = self.services.outside.realtime_ns();
        let arrived = self.ask_outside();
        let latest_ns = next_ns.unwrap_or(END_OF_TIME_NS - 1);
        let allowed_ns = self.pacer.allowed_ns(real_ns).min(latest_ns);
        if allowed_ns > self.services.clock.vtime_ns()
            && let Some(stop) = self.sleep_to(allowed_ns)
        {
            return Some(stop);
        }
        if self.stop.take() {
            return Some(Stop::Requested);
        }
        if arrived {
            return self.admit_inputs();
        }
        if allowed_ns == latest_ns {
            return None;
        }
        self.publish(true);
        let alarm_ns = self.services.outside.alarm_ns();
        let wake_ns = next_ns.into_iter().chain(alarm_ns).min();
        let wait_ns = wake_ns.map(|at_ns| self.pacer.wait_ns(real_ns, at_ns));
        self.services.outside.wait(wait_ns);
        None
    }

    /// Chaos at this instruction. Returns whether it is a stop.
    fn disturb(&mut self, icount: u64) -> bool {
        match self.chaos.as_mut().and_then(|chaos| chaos.at(icount)) {
            None => false,
            Some(Disturbance::DropCaches) => {
                self.cluster.drop_caches();
                false
            }
            Some(Disturbance::Engine(engine)) => {
                // One that this host cannot have changes nothing, and then there is nothing to try.
                drop(self.cluster.set_engine(engine));
                false
            }
            Some(Disturbance::Stop) => true,
        }
    }

    fn blame_barren(&self) -> PluginFault {
        let bottom_half = self.services.bottom_halves.iter().next().map(|p| (p.device, "on_bh"));
        let timer = || match self.services.deadlines.iter().next()?.1 {
            Due::Timer { device, .. } => Some((device, "on_timer")),
            Due::Disk { .. } => None,
        };
        let device = |index: usize| self.services.device_ids[index].clone();
        let (device, callback) = bottom_half
            .or_else(timer)
            .map_or_else(|| ("?".to_owned(), "on_bh"), |(index, callback)| (device(index), callback));
        let message = "keeps the idle machine busy for ever without letting time pass".to_owned();
        PluginFault { device, callback, message }
    }
}

/// The interrupt of a line.
fn bit_in_mip(line: crate::board::HartLine) -> u64 {
    use crate::board::HartLine;
    match line {
        HartLine::Ssip => 1,
        HartLine::Msip => 3,
        HartLine::Mtip => 7,
        HartLine::Seip => 9,
        HartLine::Meip => 11,
    }
}

fn irq(line: crate::board::HartLine) -> Irq {
    use crate::board::HartLine;
    match line {
        HartLine::Ssip => Irq::Ssip,
        HartLine::Msip => Irq::Msip,
        HartLine::Mtip => Irq::Mtip,
        HartLine::Seip => Irq::Seip,
        HartLine::Meip => Irq::Meip,
    }
}

#[cfg(test)]
pub(crate) mod tests;
