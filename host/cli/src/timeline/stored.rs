//! The snapshots that lie in a recording: an offer, which may be missing, damaged or of another run.

use super::kept::is_before;
use crate::{
    recording::{self, SNAPSHOTS},
    snapshots::Store,
};
use reprise_machine::{Snapshot, Status, Until};

/// One of them.
struct Stored {
    icount: u64,
    vtime_ns: u64,
    name: String,
}

/// All of them, in the order of their places.
pub(super) struct Trail {
    store: Option<Store>,
    stored: Vec<Stored>,
}

impl Trail {
    /// Of a recording. What cannot be read is not there.
    pub(super) fn of(recording: &recording::Store) -> Self {
        let folder = recording.path().join(SNAPSHOTS);
        let store = if folder.is_dir() { Store::open(&folder).ok() } else { None };
        let run_id = &recording.manifest().run_id;
        let rows = store.as_ref().and_then(|store| store.list().ok()).unwrap_or_default();
        let of_this_run = rows.into_iter().filter_map(|row| {
            let facts = row.facts.ok()?;
            let here = facts.recording.as_ref().is_some_and(|place| place.run_id == *run_id);
            here.then_some(Stored { icount: facts.icount, vtime_ns: facts.vtime_ns, name: row.name })
        });
        let mut stored: Vec<Stored> = of_this_run.collect();
        stored.sort_by_key(|stored| (stored.icount, stored.vtime_ns));
        Self { store, stored }
    }

    /// The last one before a place, if it lies behind so many instructions. One that cannot be loaded is not there.
    pub(super) fn before(&mut self, to: Option<Until>, behind_icount: u64) -> Option<Snapshot> {
        // How many lines the console had then is not known before it is loaded.
        if matches!(to, Some(Until::Lines { .. })) {
            return None;
        }
        let store = self.store.as_mut()?;
        loop {
            let at = self.stored.iter().rposition(|stored| {
                let status = Status { icount: stored.icount, instret: 0, vtime_ns: stored.vtime_ns };
                stored.icount > behind_icount && is_before(status, 0, to)
            })?;
            match store.load(&self.stored[at].name) {
                Ok((_, snapshot)) => return Some(snapshot),
                Err(_) => drop(self.stored.remove(at)),
            }
        }
    }
}
