//! The snapshots that lie in a recording: an offer, which may be missing, damaged or of another run. The log has a
//! digest where each of them was taken; one that is not what it says there is not used.

use super::kept::is_before;
use crate::{
    rebuild::{Build, Replica},
    recording::{self, SNAPSHOTS},
    snapshots::Store,
    unplugged::ReplayOutside,
};
use reprise_machine::{
    Snapshot, Status, Until,
    replay::{Entry, Record, log::Next},
};

/// One of them.
struct Stored {
    icount: u64,
    vtime_ns: u64,
    name: String,
    /// Records of the log before it: the last of them is a digest.
    records: u64,
}

/// All of them, in the order of their places.
pub(super) struct Trail {
    store: Option<Store>,
    stored: Vec<Stored>,
    /// The disks are what they were: blocks that a snapshot has read already are not compared again.
    disks_checked: bool,
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
            let place = facts.recording.filter(|place| place.run_id == *run_id)?;
            let (icount, vtime_ns) = (facts.icount, facts.vtime_ns);
            Some(Stored { icount, vtime_ns, name: row.name, records: place.records })
        });
        let mut stored: Vec<Stored> = of_this_run.collect();
        stored.sort_by_key(|stored| (stored.icount, stored.vtime_ns));
        Self { store, stored, disks_checked: false }
    }

    /// The last one before a place, if it lies behind so many instructions. One that cannot be loaded is not there.
    pub(super) fn before(
        &mut self,
        replica: &Replica,
        to: Option<Until>,
        behind_icount: u64,
    ) -> Option<Snapshot> {
        // How many lines the console had then is not known before it is loaded.
        if matches!(to, Some(Until::Lines { .. })) {
            return None;
        }
        loop {
            let at = self.stored.iter().rposition(|stored| {
                let status = Status { icount: stored.icount, instret: 0, vtime_ns: stored.vtime_ns };
                stored.icount > behind_icount && is_before(status, 0, to)
            })?;
            if !self.disks_checked {
                self.disks_checked = true;
                if !replica.has_recorded_disks() {
                    self.stored.clear();
                    return None;
                }
            }
            let loaded = self.store.as_mut()?.load(&self.stored[at].name);
            match loaded {
                Ok((_, snapshot)) if is_vouched_for(replica, &self.stored[at], &snapshot) => {
                    return Some(snapshot);
                }
                Ok(_) | Err(_) => drop(self.stored.remove(at)),
            }
        }
    }
}

/// Whether a snapshot is what the log has at its place. Found out with a machine of its own: one that cannot load it is
/// of no use any more.
fn is_vouched_for(replica: &Replica, stored: &Stored, snapshot: &Snapshot) -> bool {
    let Some(recorded) = digest_before(replica, stored) else { return false };
    let build = Build::replay(Box::new(ReplayOutside::silent()));
    let Ok(mut machine) = replica.machine(build) else { return false };
    machine.restore(snapshot).is_ok()
        && machine.status().icount == stored.icount
        && machine.digest() == recorded
}

/// The digest that the log has where a snapshot was taken.
fn digest_before(replica: &Replica, stored: &Stored) -> Option<[u8; 32]> {
    let mut log = replica.log().ok()?;
    log.seek(stored.records.checked_sub(1)?).ok()?;
    match log.next().ok()? {
        Next::Record(Record { entry: Entry::Digest(digest), icount, .. }) if icount == stored.icount => {
            Some(digest.whole)
        }
        Next::Record(_) | Next::Tail(_) => None,
    }
}
