//! Programs of `guestfwd`: each has one connection, and is not to outlive it for long, nor this process.
//!
//! The end of its input is what tells a program that nobody is there any more. One that does not care is told by
//! SIGTERM, and then by SIGKILL; so are those that it has started, as each program has a process group of its own.

use super::stream::Stream;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    io,
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// Between the end of a connection, SIGTERM and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// The same when the network ends, as somebody waits for that.
const GRACE_AT_END: Duration = Duration::from_secs(1);
/// Until it is seen that one has been killed.
const AGAIN: Duration = Duration::from_millis(100);
/// Between looks while somebody waits.
const LOOK: Duration = Duration::from_millis(5);

/// One whose connection has ended.
struct Leaving {
    child: Child,
    /// It has been told by a signal.
    told: bool,
    /// When it is told the next thing.
    next: Instant,
}

pub(super) struct Commands {
    most: usize,
    grace: Duration,
    /// With those that have a connection.
    count: usize,
    leaving: Vec<Leaving>,
}

/// Whether a program has ended. It is not reaped: while it is not, its number is nobody else's.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(None))
}

fn tell(child: &Child, signal: Signal) {
    // It fails if nobody of the group is left.
    let _gone = kill_process_group(Pid::from_child(child), signal);
}

fn reap(child: &mut Child) {
    // One that has ended, or has been killed, does not keep anybody waiting.
    let _status = child.wait();
}

impl Leaving {
    /// Goes on with its end. Whether it is over.
    fn look(&mut self, now: Instant, grace: Duration) -> bool {
        let (ended, due) = (has_ended(&self.child), now >= self.next);
        if due && self.told {
            tell(&self.child, Signal::KILL);
            self.next = now + AGAIN;
        } else if due && !ended {
            tell(&self.child, Signal::TERM);
            (self.told, self.next) = (true, now + grace);
        }
        // Others of its group may still be at work on what they were told.
        let over = ended && (due || !self.told);
        if over {
            reap(&mut self.child);
        }
        over
    }
}

impl Commands {
    pub(super) fn new(most: usize, grace: Duration) -> Self {
        Self { most, grace, count: 0, leaving: Vec::new() }
    }

    pub(super) fn start(&mut self, argv: &[String]) -> io::Result<(Stream, Child)> {
        if self.count >= self.most {
            let what = format!("as many programs run as may: limits.commands = {}", self.most);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, what));
        }
        let started = Stream::command(argv)?;
        self.count += 1;
        Ok(started)
    }

    /// Its connection has ended.
    pub(super) fn leaves(&mut self, child: Child) {
        self.leaving.push(Leaving { child, told: false, next: Instant::now() + self.grace });
    }

    /// Looks after those that have no connection any more.
    pub(super) fn look(&mut self, now: Instant) {
        let (before, grace) = (self.leaving.len(), self.grace);
        self.leaving.retain_mut(|one| !one.look(now, grace));
        self.count -= before - self.leaving.len();
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|one| one.next).min()
    }

    /// Ends all of them, whose connections have ended before: none is left when this returns.
    pub(super) fn end(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            let until = Instant::now() + GRACE_AT_END;
            while !self.leaving.iter().all(|one| has_ended(&one.child)) && Instant::now() < until {
                thread::sleep(LOOK);
            }
            for one in self.leaving.iter_mut().filter(|one| one.told || !has_ended(&one.child)) {
                tell(&one.child, signal);
                one.told = true;
            }
        }
        self.leaving.iter_mut().for_each(|one| reap(&mut one.child));
        self.leaving.clear();
    }
}
