//! Going to any place of a recording, and what a replay can do that other machines cannot.

use super::{Replay, find, is_over};
use crate::{
    control::{Answer, Driven, Refusal, Reply},
    failure::{Exit, Failure},
    io::grouped,
    place::Place,
    reload,
    shelf::{Tag, Wish},
    timeline::{self, Leg},
};
use reprise_machine::{Machine, Stop, Until};
use serde_json::json;

impl Replay<'_> {
    /// Let the machine go on until it stops, and compare how the run ends with how it ended.
    pub(super) fn step(&mut self) -> Leg {
        if let Some(over) = &self.over {
            return Leg::Stop(over.clone());
        }
        match timeline::go(&mut self.machine, self.past.as_mut(), self.to, self.breakpoint) {
            Leg::Stop(stop) => Leg::Stop(self.conclude(stop)),
            Leg::Break => {
                self.breakpoint = None;
                Leg::Break
            }
        }
    }

    /// As [`Replay::step`], with nobody to set a breakpoint.
    pub(super) fn leg(&mut self) -> Stop {
        loop {
            if let Leg::Stop(stop) = self.step() {
                return stop;
            }
        }
    }

    fn conclude(&mut self, stop: Stop) -> Stop {
        if let Some(reason) = stop.own_end() {
            self.machine.end(reason);
        }
        let stop = if self.machine.divergence().is_some() {
            Stop::Diverged
        } else if is_over(&stop) && self.is_unreadable() {
            // Damage at the very end, or behind it: the run is over, and what the log has there is not known.
            Stop::LogFailed
        } else {
            stop
        };
        // Behind these it goes on.
        if !matches!(stop, Stop::Limit | Stop::Requested | Stop::Until) {
            self.over = Some(stop.clone());
        }
        stop
    }

    /// Go there, forwards or back; `None`: to the end. The same place is the same state, from wherever one comes.
    /// Returns why it stopped: [`Stop::Until`] if the place is there, otherwise how the run ended before it.
    pub(crate) fn seek(&mut self, to: Option<Until>) -> Result<Stop, Failure> {
        self.enter(to)?;
        self.to = to;
        let stop = self.run();
        self.failure(&stop, self.explains).map_or_else(|| Ok(self.arrival(stop)), Err)
    }

    /// The very end is a place, too.
    fn arrival(&self, stop: Stop) -> Stop {
        let there = self.over.is_some() && self.to.is_some() && self.machine.has_arrived();
        if there && !is_failure(&stop) { Stop::Until } else { stop }
    }

    /// Stand before the place, as near as possible.
    pub(super) fn enter(&mut self, to: Option<Until>) -> Result<(), Failure> {
        if let Some(past) = &mut self.past {
            past.enter(self.replica, &mut self.machine, to, self.over.is_none())?;
            self.over = None;
        }
        Ok(())
    }

    /// Seek for somebody who looks on from outside, who sees nothing of what is passed.
    fn travel(&mut self, place: Place, paused: &mut bool, over: &dyn Fn() -> bool) -> Answer {
        let to = find(place, self.replica)?;
        if self.past.is_none()
            && (self.over.is_some() || !timeline::is_ahead(&self.machine, self.replica, to))
        {
            return Err(Refusal::new("this replay is recorded, and a log has no way back"));
        }
        // A run that has come to its end may not be able to save itself.
        let origin = (self.past.is_some() && self.over.is_none()).then(|| self.machine.snapshot());
        self.enter(to)?;
        let stop = self.pass(to, over);
        match &stop {
            Stop::Until => (),
            Stop::Requested => return Err(Refusal::new("the replay is being ended")),
            stop if is_failure(stop) => {
                // Its run is over: it goes on to tell why.
                *paused = false;
                return Err(Refusal::new("the replay is not what was recorded, and ends here"));
            }
            _ if place == Place::End => (),
            _ => {
                let end = self.machine.status().icount;
                if let Some(origin) = origin {
                    self.machine.restore(&origin).map_err(|error| Refusal::new(error.to_string()))?;
                    self.over = None;
                }
                let what =
                    format!("cannot seek to {place}: the recorded run ends at icount {}", grouped(end));
                return Err(Refusal::new(what));
            }
        }
        *paused = true;
        Ok(json!({}))
    }

    /// Go on to a place, unseen.
    fn pass(&mut self, to: Option<Until>, over: &dyn Fn() -> bool) -> Stop {
        // As in QEMU, where both are one.
        self.breakpoint = None;
        let before = std::mem::replace(&mut self.to, to);
        let away = self.desk.look_away(true);
        let stop = loop {
            match self.leg() {
                // Orders that wait for this one.
                Stop::Requested if !over() => (),
                stop => break self.arrival(stop),
            }
        };
        self.desk.look_away(away);
        self.to = before;
        stop
    }
}

impl Driven for Replay<'_> {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn go(&mut self) -> Leg {
        self.step()
    }

    fn seek(&mut self, place: Place, paused: &mut bool, over: &dyn Fn() -> bool) -> Answer {
        self.travel(place, paused, over)
    }

    fn set_break(&mut self, icount: Option<u64>) -> Answer {
        if icount.is_some_and(|icount| icount < self.machine.status().icount) {
            return Err(Refusal::new("cannot set breakpoint at the instruction in the past"));
        }
        self.breakpoint = icount;
        Ok(json!({}))
    }

    fn load(&mut self, tag: Tag) -> Answer {
        let Some(shelf) = &self.shelf else { return Err(Refusal::new("this replay has no snapshots")) };
        let name = tag.name.clone();
        let (facts, snapshot) = shelf.load(tag)?;
        let run_id = &self.replica.store().manifest().run_id;
        if facts.recording.is_none_or(|row| row.run_id != *run_id) {
            let why =
                format!("snapshot \"{name}\" is not of this recording, and a replay can be nowhere else");
            return Err(Refusal::new(why));
        }
        if self.past.is_none() {
            return Err(Refusal::new("this replay is recorded, and a log has no way back"));
        }
        if let Err(error) = self.machine.restore(&snapshot) {
            // A machine that was half restored is none: it goes nowhere from there.
            self.over = Some(Stop::Requested);
            self.enter(Some(Until::Icount(facts.icount)))?;
            return Err(Refusal::new(format!("snapshot \"{name}\" cannot be loaded: {error}")));
        }
        (self.over, self.breakpoint) = (None, None);
        Ok(json!({}))
    }

    fn reload(&mut self, wish: reload::Wish) -> Answer {
        let reload::Wish { device, .. } = wish;
        let why = format!(
            "a replay has one build of a plugin from its beginning to its end: begin another with \
             replay --plugin {device}=FILE.so, which says where that build first does something else"
        );
        Err(Refusal::new(why).with_exit(Exit::Usage))
    }

    fn shelve(&mut self, wish: Wish, reply: Reply) {
        match &mut self.shelf {
            // A machine that has come to its end may not be able to save itself.
            Some(_) if self.over.is_some() && matches!(wish, Wish::Save(_)) => {
                reply(Err(Refusal::new("the recorded run has ended here: seek to an earlier place")));
            }
            Some(shelf) => shelf.fulfil(wish, &mut self.machine, reply),
            None => reply(Err(Refusal::new("this replay has no snapshots"))),
        }
    }
}

/// Whether a stop is no end of the recorded run, but of this replay.
fn is_failure(stop: &Stop) -> bool {
    match stop {
        Stop::Diverged | Stop::LogFailed | Stop::DiskFailed(_) | Stop::BadRecord(_) => true,
        Stop::PowerOff { .. }
        | Stop::Limit
        | Stop::Requested
        | Stop::Deadlock
        | Stop::PluginFault(_)
        | Stop::ResetFailed(_)
        | Stop::Until
        | Stop::ReplayEnded(_)
        | Stop::OutOfRecords(_) => false,
    }
}
