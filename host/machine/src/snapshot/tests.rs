use super::*;
use crate::{
    board::IdlePolicy,
    chaos::splitmix,
    door::tests::{recorded, replay_of, replaying},
    run::Stop,
};
use reprise_replay::{EndReason, Gate, Record};

/// Machines that replay a recording stop at random places; snapshots of them go to another machine, in which the
/// rest of the run has to be the same.
#[test]
fn a_machine_goes_on_where_a_snapshot_was_taken() {
    for idle in [IdlePolicy::Auto, IdlePolicy::Warp] {
        let (records, digest) = recorded(idle, 11, None);
        let mut m = replaying(replay_of(&records), None);
        let mut taken = Vec::new();
        let mut random = 5;
        loop {
            taken.push((m.snapshot(), m.digest(), m.status()));
            m.set_until(Some(crate::Until::Icount(m.status().icount + 1 + splitmix(&mut random) % 20_000)));
            match m.run() {
                Stop::Until => {}
                Stop::ReplayEnded(EndReason::Limit) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(m.digest(), digest);
        assert!(taken.len() > 20, "{} places", taken.len());
        let mut other = replaying(replay_of(&records), Some(3));
        for _ in 0..60 {
            let at = usize::try_from(splitmix(&mut random)).unwrap() % taken.len();
            let (snapshot, there, status) = &taken[at];
            let mut snapshot = snapshot.clone();
            // No order among sections.
            let places = snapshot.sections.len();
            (0..places).for_each(|i| {
                snapshot.sections.swap(i, usize::try_from(splitmix(&mut random)).unwrap() % places);
            });
            other.restore(&snapshot).unwrap();
            assert_eq!((other.digest(), other.status()), (*there, *status));
            assert_eq!(other.digest_from_scratch(), *there);
            other.set_until(None);
            assert_eq!(other.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", other.divergence());
            assert_eq!(other.digest(), digest);
        }
    }
}

fn some_snapshot() -> (Vec<Record>, Snapshot) {
    let (records, _) = recorded(IdlePolicy::Auto, 11, None);
    let mut m = replaying(replay_of(&records), None);
    m.set_until(Some(crate::Until::Icount(100_000)));
    assert_eq!(m.run(), Stop::Until);
    (records, m.snapshot())
}

#[test]
fn every_section_is_taken_exactly_once() {
    let (records, good) = some_snapshot();
    let load = |snapshot: &Snapshot| replaying(replay_of(&records), None).restore(snapshot);
    load(&good).unwrap();
    for index in 0..good.sections.len() {
        let mut less = good.clone();
        let (name, record) = less.sections.remove(index);
        assert_eq!(load(&less).unwrap_err().to_string(), format!("section \"{name}\" is missing"));
        let mut twice = good.clone();
        twice.sections.push((name.clone(), record.clone()));
        assert_eq!(load(&twice).unwrap_err().to_string(), format!("section \"{name}\" is there twice"));
        let mut newer = good.clone();
        newer.sections[index].1[..4].copy_from_slice(&99_u32.to_le_bytes());
        let error = load(&newer).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("version 99"), "{error}");
    }
    let mut more = good.clone();
    more.sections.push(("device.extra".into(), Vec::new()));
    assert!(matches!(load(&more), Err(RestoreError::Unknown(name)) if name == "device.extra"));
    let mut other = good;
    other.ram = RamImage::zeroed(3);
    assert!(matches!(load(&other), Err(RestoreError::Ram { expected: 256, found: 3 })));
}

/// Whatever is in a snapshot: an error or a machine, never a panic.
#[test]
fn garbage_is_refused_or_loaded() {
    let (records, good) = some_snapshot();
    let (mut refused, mut loaded) = (0, 0);
    let mut random = 1;
    for round in 0..3_000 {
        let mut bad = good.clone();
        let section = usize::try_from(splitmix(&mut random)).unwrap() % bad.sections.len();
        let record = &mut bad.sections[section].1;
        for _ in 0..=splitmix(&mut random) % 3 {
            let at = usize::try_from(splitmix(&mut random)).unwrap() % record.len();
            match round % 3 {
                0 => record[at] ^= 1 << (splitmix(&mut random) % 8),
                1 => record.truncate(at.max(1)),
                _ => record.insert(at, splitmix(&mut random) as u8),
            }
        }
        let mut m = replaying(replay_of(&records), None);
        match m.restore(&bad) {
            Ok(()) => {
                loaded += 1;
                m.set_until(Some(crate::Until::Icount(m.status().icount + 100)));
                let _whatever = m.run();
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(refused > 2_000 && loaded > 30, "{refused} refused, {loaded} loaded");
}

/// A log may begin at a snapshot: the machine that replays it is never at power-on.
#[test]
fn a_recording_begins_at_a_snapshot() {
    let (_, snapshot) = some_snapshot();
    let stand = snapshot.stand().unwrap();
    let (_, vtime_ns) = snapshot.place(0).unwrap();
    let (records, digest) =
        crate::door::tests::recorded_from(&snapshot, |sink| Gate::record_from(&stand, vtime_ns, sink));
    assert!(records.len() > 10);
    let source = crate::door::tests::source_of(&records);
    let gate = Gate::replay_from(&stand, vtime_ns, source).unwrap();
    let mut m = crate::door::tests::replaying_from(&snapshot, gate);
    assert_eq!(m.run(), Stop::ReplayEnded(EndReason::Limit), "{:?}", m.divergence());
    assert_eq!(m.digest(), digest);
}
