use super::*;
use reprise_machine::{
    RamImage, Snapshot,
    replay::{Position, Seed, Stand, StateDigest},
};

const SEED: Seed = Seed([7; 32]);

fn stand(icount: u64) -> Stand {
    Stand {
        last: Position::default(),
        admitted: 0,
        icount,
        seed: SEED,
        drawn_bytes: 0,
        clock_ns: 0,
        chain: [0; 32],
        records: 1,
    }
}

/// A place at which nobody has to be.
fn start(icount: u64) -> Start {
    let snapshot = Snapshot { sections: Vec::new(), ram: RamImage::zeroed(1), disks: Vec::new() };
    Start { snapshot, stand: stand(icount), icount, vtime_ns: icount }
}

fn record(icount: u64, entry: Entry) -> Record {
    Record { position: Position { vtime_ns: icount, order: 0 }, icount, entry }
}

fn block(icount: u64, block: u64) -> Record {
    record(icount, Entry::DiskBlock { device: 1, port: 0, block, hash: [0; 32] })
}

fn digest(icount: u64) -> Record {
    let whole = [icount as u8; 32];
    record(icount, Entry::Digest(StateDigest { whole, parts: vec![1, 2] }))
}

fn chain(digests: &[u64]) -> [u8; 32] {
    digests.iter().fold([0; 32], |chain, icount| match digest(*icount).entry {
        Entry::Digest(digest) => digest.chained(&chain),
        _ => unreachable!(),
    })
}

fn log(cut: &Cut) -> Vec<Record> {
    let mut log = Vec::new();
    let all: Result<(), ()> = cut.for_each(|record| {
        log.push(record);
        Ok(())
    });
    assert!(all.is_ok());
    log
}

fn end(icount: u64, reason: EndReason, digests: &[u64]) -> Record {
    record(icount, Entry::End { reason, chain: chain(digests) })
}

#[test]
fn what_is_cut_is_one_log_of_the_epochs_that_are_left() {
    let ring = Ring::new(None, 1 << 20);
    let mut sink = ring.sink();
    let mut push = |record| sink.push(record).unwrap();
    push(record(0, Entry::Seed(SEED)));
    [block(1, 5), digest(2)].into_iter().for_each(&mut push);
    ring.begin(start(10), StopHandle::default());
    // The same block, for whoever begins here.
    [block(11, 5), block(12, 6), digest(13)].into_iter().for_each(&mut push);
    let cut = ring.cut(Some(EndReason::Stopped));
    assert!(cut.start.is_none());
    let seed = record(0, Entry::Seed(SEED));
    let stopped = end(13, EndReason::Stopped, &[2, 13]);
    assert_eq!(log(&cut), [seed, block(1, 5), digest(2), block(12, 6), digest(13), stopped]);

    ring.forget_but(1);
    ring.begin(start(20), StopHandle::default());
    [block(21, 5), digest(22)].into_iter().for_each(&mut push);
    // The gate's own end, with the chain of the whole run.
    push(record(22, Entry::End { reason: EndReason::Limit, chain: [9; 32] }));
    let cut = ring.cut(None);
    assert_eq!(cut.start.as_ref().map(|start| start.icount), Some(10));
    let seed = stand(10).seed_record(10);
    let limit = end(22, EndReason::Limit, &[13, 22]);
    assert_eq!(log(&cut), [seed, block(11, 5), block(12, 6), digest(13), digest(22), limit]);
}

#[test]
fn what_was_cut_stays_as_it_was() {
    let ring = Ring::new(None, 1 << 20);
    let mut sink = ring.sink();
    sink.push(record(0, Entry::Seed(SEED))).unwrap();
    sink.push(digest(1)).unwrap();
    let first = ring.cut(Some(EndReason::Stopped));
    let before = log(&first);
    sink.push(digest(2)).unwrap();
    let second = ring.cut(Some(EndReason::Stopped));
    ring.forget_but(0);
    assert_eq!(log(&first), before);
    assert_eq!(log(&second).len(), before.len() + 1, "the first end is not in the run");
    assert_eq!(log(&second).last(), Some(&end(2, EndReason::Stopped, &[1, 2])));
}

#[test]
fn the_machine_is_called_when_the_records_of_an_epoch_are_too_many() {
    let ring = Ring::new(None, 100_000);
    let input = |len| record(0, Entry::Event(Event::Input { device: 0, port: 0, data: vec![0; len] }));
    let mut sink = ring.sink();
    let stops = [(); 2].map(|()| StopHandle::default());
    ring.attach(stops[0].clone());
    sink.push(input(90_000)).unwrap();
    assert!(!stops[0].is_requested() && ring.last().bytes > 90_000);
    sink.push(input(20_000)).unwrap();
    assert!(stops[0].is_requested());
    ring.begin(start(5), stops[1].clone());
    assert!(ring.last().bytes < 1000, "the seed alone");
    (0..1000).for_each(|_| sink.push(input(0)).unwrap());
    assert!(!stops[1].is_requested() && ring.last().bytes > 1000 * size_of::<Record>());
    sink.push(input(100_000)).unwrap();
    assert!(stops[1].is_requested());
}
