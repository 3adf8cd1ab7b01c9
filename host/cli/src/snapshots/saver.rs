//! Saving beside the machine: a bounded queue, and the thread behind it that writes snapshots.
//!
//! A snapshot holds memory until it is saved, so that few may wait. The machine never does: it takes none while the
//! disk is slower than that.

use super::{
    collect::Collected,
    facts::Facts,
    writer::{Saved, StoreWriter},
};
use crate::failure::Failure;
use reprise_machine::Snapshot;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

/// The machine's end.
pub(crate) struct Saver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<StoreWriter>>,
}

/// What became of something that was asked for.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "a trail counts bytes; what became of what, the tests ask"))]
pub(crate) enum Report {
    Saved { name: String, result: Result<Saved, Failure> },
    Deleted { name: String, result: Result<(), Failure> },
    Collected(Result<Collected, Failure>),
}

enum Job {
    Save { name: String, snapshot: Box<Snapshot>, facts: Box<Facts> },
    Delete(String),
    Collect,
}

struct Shared {
    /// Snapshots that may wait.
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The machine's end is gone.
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, state: &State) -> bool {
        state.jobs.iter().filter(|job| matches!(job, Job::Save { .. })).count() < self.most
    }

    /// The next job; nothing if there will be no more.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                // There may be room now.
                self.changed.notify_all();
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Saver {
    /// Start the thread. At most `most` snapshots wait while another one is written. `tell` is called from that thread
    /// for everything that was asked for, in the same order.
    pub(crate) fn start(
        writer: StoreWriter,
        most: usize,
        tell: impl FnMut(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { most, state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("reprise-snapshots".into())
            .spawn(move || run(&theirs, writer, tell))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether a snapshot would be taken now: nobody needs to make one that is refused.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.has_room(&self.shared.state())
    }

    /// Wait until a snapshot would be taken.
    pub(crate) fn wait_for_room(&self) {
        let state = self.shared.state();
        let full = |state: &mut State| !self.shared.has_room(state);
        drop(self.shared.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Save a snapshot when there is time. Refuses, rather than waits, if too many do already.
    #[must_use]
    pub(crate) fn try_save(&self, name: String, snapshot: Snapshot, facts: Facts) -> bool {
        // There is one machine, so that no other takes the room meanwhile.
        if !self.has_room() {
            return false;
        }
        self.push(Job::Save { name, snapshot: Box::new(snapshot), facts: Box::new(facts) });
        true
    }

    /// Delete a snapshot, behind everything that was asked for before.
    pub(crate) fn delete(&self, name: String) {
        self.push(Job::Delete(name));
    }

    /// Collect garbage, behind everything that was asked for before.
    pub(crate) fn collect(&self) {
        self.push(Job::Collect);
    }

    /// Wait until everything is done.
    pub(crate) fn finish(mut self) -> StoreWriter {
        self.close();
        let thread = self.thread.take().expect("it is taken here only");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn push(&self, job: Job) {
        self.shared.state().jobs.push_back(job);
        self.shared.changed.notify_all();
    }

    fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(shared: &Shared, mut writer: StoreWriter, mut tell: impl FnMut(Report)) -> StoreWriter {
    while let Some(job) = shared.next() {
        tell(match job {
            Job::Save { name, snapshot, facts } => {
                let result = writer.save(&name, &snapshot, &facts);
                Report::Saved { name, result }
            }
            Job::Delete(name) => {
                let result = writer.delete(&name);
                Report::Deleted { name, result }
            }
            Job::Collect => Report::Collected(writer.collect()),
        });
    }
    writer
}
