//! Two machines side by side.

use super::{
    builds::ActDifference,
    search::{Met, Pair},
};
use reprise_machine::{
    ArmedTimer, Difference, Machine, Status, Stop, Until, Upcoming,
    replay::{Divergence, Position},
};

/// Two machines that should do the same.
pub(crate) struct Twins {
    a: Twin,
    b: Twin,
    /// Where they stood when they were last the same.
    before: Option<Stand>,
    /// They have other builds of a plugin.
    builds: Option<Builds>,
    /// What these remember was something else already before the last step.
    is_remembered: bool,
}

/// How two machines are compared whose plugins are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Builds {
    /// The devices that are of other builds, by id.
    pub(super) devices: Vec<String>,
    /// What both remember under one name has to be the same too.
    pub(super) memory: bool,
}

struct Twin {
    machine: Machine,
    stop: Option<Stop>,
}

/// Where a machine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) icount: u64,
    pub(crate) vtime_ns: u64,
    /// What each hart does next.
    pub(crate) harts: Vec<Upcoming>,
    /// The timers that expire next.
    pub(crate) timers: Vec<ArmedTimer>,
    /// Why it goes no further, if it has stopped by itself.
    pub(crate) stop: Option<Stop>,
    /// How it left the log, if it did.
    pub(crate) divergence: Option<Divergence>,
}

/// What there is to say about two machines.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Where they were last the same; `None` if they never were.
    pub(crate) before: Option<Stand>,
    pub(crate) a: Stand,
    pub(crate) b: Stand,
    /// What they do not have in common.
    pub(crate) differences: Vec<Difference>,
    /// What devices of other builds did not do alike in the last step.
    pub(crate) act: Option<ActDifference>,
    /// What such devices remember was something else already before it.
    pub(crate) is_remembered: bool,
}

impl Twins {
    pub(crate) fn new(a: Machine, b: Machine) -> Self {
        let twin = |machine| Twin { machine, stop: None };
        Self { a: twin(a), b: twin(b), before: None, builds: None, is_remembered: false }
    }

    /// Two machines with other builds of a plugin.
    pub(super) fn of_builds(mut a: Machine, mut b: Machine, builds: Builds) -> Self {
        [&mut a, &mut b].into_iter().for_each(|machine| machine.watch_acts(&builds.devices));
        Self { builds: Some(builds), ..Self::new(a, b) }
    }

    fn is_same_state(&mut self) -> bool {
        let (a, b) = (&mut self.a.machine, &mut self.b.machine);
        let Some(Builds { devices, memory }) = &self.builds else { return Machine::same_state(a, b) };
        a.acts_digest() == b.acts_digest()
            && Machine::same_around(a, b, devices)
            && (!memory || Machine::same_memory(a, b, devices))
    }

    /// What comes is a step of its own.
    fn begin_step(&mut self) {
        let Some(builds) = &self.builds else { return };
        let (a, b) = (&mut self.a, &mut self.b);
        if !a.has_failed() && !b.has_failed() {
            self.is_remembered = !Machine::same_memory(&a.machine, &b.machine, &builds.devices);
        }
        a.machine.forget_acts();
        b.machine.forget_acts();
    }
}

impl Twin {
    fn go_to(&mut self, at: Position) {
        if self.stop.is_some() {
            return;
        }
        self.machine.set_until(Some(Until::Position(at)));
        let stop = self.machine.run();
        // What a machine ends by itself is compared with the log's end too.
        if stop == Stop::Until {
            return;
        }
        if let Some(reason) = stop.own_end() {
            self.machine.end(reason);
        }
        self.stop = Some(stop);
    }

    fn status(&self) -> Status {
        self.machine.status()
    }

    /// Nothing can be asked of a plugin that has failed.
    fn has_failed(&self) -> bool {
        matches!(self.stop, Some(Stop::PluginFault(_)))
    }

    fn stand(&mut self) -> Stand {
        let Status { icount, vtime_ns, .. } = self.status();
        Stand {
            icount,
            vtime_ns,
            harts: (0..self.machine.harts()).map(|hart| self.machine.upcoming(hart)).collect(),
            timers: self.machine.armed_timers(),
            stop: self.stop.clone(),
            divergence: self.machine.divergence().cloned(),
        }
    }
}

impl Pair for Twins {
    type Finding = Finding;

    fn go_to(&mut self, at: Position) -> Met {
        // They were the same so far, so one of them tells where. A machine that has not run yet was never compared.
        if at > Position::default() {
            self.before = Some(self.a.stand());
        }
        self.begin_step();
        self.a.go_to(at);
        self.b.go_to(at);
        let (a, b) = (&mut self.a, &mut self.b);
        let (left, right) = (a.machine.divergence(), b.machine.divergence());
        let mut same = a.status() == b.status() && a.stop == b.stop && left == right;
        let over = a.stop.is_some() || b.stop.is_some() || left.is_some() || right.is_some();
        if same && !a.has_failed() {
            same = self.is_same_state();
        }
        Met { same, over, vtime_ns: self.a.status().vtime_ns }
    }

    fn finding(&mut self) -> Finding {
        let (a, b) = (&mut self.a, &mut self.b);
        let differences = match a.has_failed() || b.has_failed() {
            true => Vec::new(),
            false => Machine::differences(&mut a.machine, &mut b.machine),
        };
        let act = ActDifference::between([a.machine.take_acts(), b.machine.take_acts()]);
        let (a, b) = (a.stand(), b.stand());
        Finding { before: self.before.clone(), a, b, differences, act, is_remembered: self.is_remembered }
    }
}

impl Finding {
    /// The hart that went on, and from where: what it did made the difference, as far as an instruction did.
    pub(crate) fn culprit(&self) -> Option<(usize, &Upcoming)> {
        let before = self.before.as_ref()?;
        if self.a.icount == before.icount && self.b.icount == before.icount {
            return None;
        }
        if let [only] = before.harts.as_slice() {
            return Some((0, only));
        }
        let went_on = |hart: usize, from: &Upcoming| {
            [&self.a, &self.b].iter().any(|stand| stand.harts.get(hart).is_some_and(|now| now.pc != from.pc))
        };
        let mut moved = before.harts.iter().enumerate().filter(|(hart, from)| went_on(*hart, from));
        moved.next().filter(|_| moved.next().is_none())
    }

    /// The timers that expired on the way here.
    pub(crate) fn expired(&self) -> impl Iterator<Item = &ArmedTimer> {
        let armed = self.before.iter().flat_map(|before| &before.timers);
        armed.filter(|timer| timer.at_ns <= self.a.vtime_ns)
    }

    /// The device to look at first, by id: one whose own state differs, and of those the one that was spoken to; else
    /// the one that was spoken to, because it gave two answers; else one whose timer made it do something.
    pub(crate) fn suspect(&self) -> Option<&str> {
        if let Some(act) = &self.act {
            return Some(&act.act().device);
        }
        let spoken_to = self.culprit().and_then(|(_, upcoming)| upcoming.device.as_deref());
        let mut differing = self.differences.iter().filter_map(|difference| {
            let field = difference.what.strip_prefix("device.")?;
            field.split('.').next()
        });
        match spoken_to {
            Some(device) if differing.clone().any(|id| id == device) => Some(device),
            Some(device) if self.differences.iter().any(|d| d.what.starts_with("hart")) => Some(device),
            _ => differing.next().or(self.expired().next().map(|timer| timer.device.as_str())).or(spoken_to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(icount: u64, pcs: &[u64], device: Option<&str>) -> Stand {
        let upcoming = |&pc: &u64| Upcoming { pc, device: device.map(str::to_owned), ..Upcoming::default() };
        let harts = pcs.iter().map(upcoming).collect();
        Stand { icount, vtime_ns: icount, harts, timers: Vec::new(), stop: None, divergence: None }
    }

    fn finding(before: Stand, after: Stand, differing: &[&str]) -> Finding {
        let difference = |what: &&str| Difference { what: (*what).to_owned(), a: "1".into(), b: "2".into() };
        let differences = differing.iter().map(difference).collect();
        let (a, b) = (after.clone(), after);
        Finding { before: Some(before), a, b, differences, act: None, is_remembered: false }
    }

    #[test]
    fn the_hart_that_went_on_did_it() {
        let culprit = |before: &[u64], after: &[u64]| {
            let found = finding(stand(5, before, None), stand(6, after, None), &[]);
            found.culprit().map(|(hart, _)| hart)
        };
        assert_eq!(culprit(&[8], &[8]), Some(0), "a jump to itself");
        assert_eq!(culprit(&[8, 8], &[8, 12]), Some(1));
        assert_eq!(culprit(&[8, 8], &[12, 12]), None, "which of them is not known");
        assert_eq!(finding(stand(5, &[8], None), stand(5, &[8], None), &[]).culprit(), None, "all sleep");
    }

    #[test]
    fn the_device_that_differs_or_was_asked_is_suspected() {
        let suspect = |asked, differing: &[&str]| {
            let found = finding(stand(5, &[8], asked), stand(6, &[12], None), differing);
            found.suspect().map(str::to_owned)
        };
        assert_eq!(suspect(None, &["hart0.a0"]), None);
        assert_eq!(suspect(Some("rng0"), &["hart0.a0"]).as_deref(), Some("rng0"));
        assert_eq!(suspect(Some("rng0"), &["hart0.a0", "device.plic.claim"]).as_deref(), Some("rng0"));
        assert_eq!(suspect(None, &["device.uart0.lsr", "device.plic.x"]).as_deref(), Some("uart0"));
        assert_eq!(suspect(Some("plic"), &["device.uart0.lsr", "device.plic.x"]).as_deref(), Some("plic"));
        assert_eq!(suspect(Some("ram0"), &["device.uart0.lsr"]).as_deref(), Some("uart0"));
    }

    #[test]
    fn a_device_whose_timer_expired_is_suspected_of_what_nobody_else_did() {
        let timer = |device: &str, at_ns| ArmedTimer { device: device.into(), timer: "tick".into(), at_ns };
        let suspect = |asked, differing: &[&str]| {
            let mut before = stand(5, &[8], asked);
            before.timers = vec![timer("dma0", 6), timer("late", 7)];
            let found = finding(before, stand(6, &[12], None), differing);
            assert_eq!(found.expired().map(|timer| timer.device.as_str()).collect::<Vec<_>>(), ["dma0"]);
            found.suspect().map(str::to_owned)
        };
        assert_eq!(suspect(None, &["ram 0x80000000..0x80000008"]).as_deref(), Some("dma0"));
        assert_eq!(suspect(None, &["device.uart0.lsr"]).as_deref(), Some("uart0"));
        assert_eq!(suspect(Some("rng0"), &["hart0.a0"]).as_deref(), Some("rng0"));
    }
}
