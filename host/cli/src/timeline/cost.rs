//! What snapshots cost at a place: in memory and on the disk, with what the guest writes between them.

use crate::{
    failure::Failure,
    replay::Replay,
    snapshots::{Facts, StoreWriter},
};
use reprise_machine::{PAGE_BYTES, Snapshot, Stop, Until, replay::Position};
use serde_json::{Map, Value, json};
use std::{path::Path, time::Instant};

/// Snapshots that are taken; the cost is the median.
const TIMES: usize = 41;
/// Guest time between two, in nanoseconds.
const APART_NS: u64 = 10_000_000;

/// Times in milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.0.push(started.elapsed().as_secs_f64() * 1e3);
        done
    }

    fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

/// Take snapshots from here on, go back to each, and save them in a new folder.
pub(crate) fn cost(replay: &mut Replay<'_>, folder: &Path) -> Result<Map<String, Value>, Failure> {
    let (mut taking, mut restoring) = (Times::default(), Times::default());
    let mut snapshots = vec![replay.machine.snapshot()];
    for _ in 0..TIMES {
        let vtime_ns = replay.machine.status().vtime_ns + APART_NS;
        if replay.seek(Some(Until::Position(Position { vtime_ns, order: 0 })))? != Stop::Until {
            break;
        }
        let snapshot = taking.take(|| replay.machine.snapshot());
        let before = snapshots.last().expect("there is the first");
        for other in [before, &snapshot] {
            let restored = restoring.take(|| replay.machine.restore(other));
            restored.map_err(|error| super::broken(&error))?;
        }
        snapshots.push(snapshot);
    }
    let fresh = snapshots.windows(2).map(|pair| pair[1].ram.alone(&pair[0].ram, None)).sum::<usize>();
    let mut answer = on_disk(folder, &snapshots, crate::trail::facts(replay.replica().store().manifest()))?;
    let resident = snapshots[0].ram.resident();
    answer.insert("snapshot_ms".into(), taking.median().into());
    answer.insert("restore_ms".into(), restoring.median().into());
    answer.insert("pages_each".into(), (fresh / snapshots.len().max(2)).into());
    answer.insert("ram_bytes_in_use".into(), (resident * PAGE_BYTES).into());
    answer.insert("snapshots".into(), snapshots.len().into());
    Ok(answer)
}

fn on_disk(folder: &Path, snapshots: &[Snapshot], facts: Facts) -> Result<Map<String, Value>, Failure> {
    let mut writer = StoreWriter::create(folder)?;
    let (mut first, mut next) = (Times::default(), Times::default());
    let mut bytes = Vec::new();
    for (number, snapshot) in snapshots.iter().enumerate() {
        let times = if number == 0 { &mut first } else { &mut next };
        bytes.push(times.take(|| writer.save(&format!("cost-{number}"), snapshot, &facts))?.bytes_written);
    }
    let later = &bytes[1..];
    let mean = later.iter().sum::<u64>() / (later.len() as u64).max(1);
    let answer = json!({
        "disk_first_ms": first.median(),
        "disk_next_ms": next.median(),
        "disk_first_bytes": bytes[0],
        "disk_next_bytes": mean,
    });
    Ok(answer.as_object().cloned().unwrap_or_default())
}
