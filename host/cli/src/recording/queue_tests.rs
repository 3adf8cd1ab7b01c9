use super::*;
use reprise_machine::{
    Seed,
    replay::{
        Position,
        log::{LogReader, Next, RunId, SegmentSource, Sizes, Tail},
    },
};
use std::{io::Cursor, sync::mpsc};

/// One segment in memory; writes fail while `failing`, after a part of what they were given.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<(Vec<u8>, bool)>>);

impl Memory {
    fn fail(&self, failing: bool) {
        self.0.lock().unwrap().1 = failing;
    }
}

impl Sink for Memory {
    fn begin(&mut self, _number: u32) -> io::Result<()> {
        Ok(())
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.1 {
            inner.0.extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(io::Error::from_raw_os_error(28));
        }
        inner.0.extend_from_slice(bytes);
        Ok(())
    }
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().0.truncate(bytes as usize);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SegmentSource for Memory {
    type Read = Cursor<Vec<u8>>;
    fn open(&mut self, number: u32) -> io::Result<Option<Self::Read>> {
        Ok((number == 0).then(|| Cursor::new(self.0.lock().unwrap().0.clone())))
    }
}

fn record(at_ns: u64) -> Record {
    let entry = Entry::Event(Event::Control(reprise_machine::ControlInput::Reset));
    Record { position: Position { vtime_ns: at_ns, order: 0 }, icount: at_ns, entry }
}

fn seed() -> Record {
    Record { position: Position::default(), icount: 0, entry: Entry::Seed(Seed([0; 32])) }
}

fn read(memory: &Memory) -> (usize, Tail) {
    let mut reader = LogReader::open(memory.clone()).unwrap();
    let mut records = 0;
    loop {
        match reader.next().unwrap() {
            Next::Record(_) => records += 1,
            Next::Tail(tail) => return (records, tail),
        }
    }
}

fn writer(memory: &Memory) -> LogWriter<Memory> {
    LogWriter::create(memory.clone(), RunId([7; 16]), Sizes::default()).unwrap()
}

#[test]
fn everything_is_written_when_the_machine_is_gone() {
    let memory = Memory::default();
    let (mut sink, writing) = start(writer(&memory), || panic!("nothing fails")).unwrap();
    sink.push(seed()).unwrap();
    for at_ns in 1..3 * MAX_RECORDS as u64 {
        sink.push(record(at_ns)).unwrap();
    }
    drop(sink);
    writing.finish().unwrap();
    let (records, tail) = read(&memory);
    assert_eq!(records, 3 * MAX_RECORDS);
    assert!(matches!(tail, Tail::Torn { .. }), "no end was pushed: {tail:?}");
}

#[test]
fn an_end_closes_the_log() {
    let memory = Memory::default();
    let (mut sink, writing) = start(writer(&memory), || ()).unwrap();
    sink.push(seed()).unwrap();
    let entry = Entry::End { reason: reprise_machine::replay::EndReason::Stopped, chain: [0; 32] };
    sink.push(Record { position: Position::default(), icount: 0, entry }).unwrap();
    drop(sink);
    writing.finish().unwrap();
    assert_eq!(read(&memory), (2, Tail::Closed));
}

/// Without anybody asking for it: the thread flushes by itself.
#[test]
fn what_was_pushed_gets_out_by_itself() {
    let memory = Memory::default();
    let (mut sink, _writing) = start(writer(&memory), || ()).unwrap();
    sink.push(seed()).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while read(&memory).0 == 0 {
        assert!(Instant::now() < limit, "never flushed");
        std::thread::yield_now();
    }
}

#[test]
fn a_disk_that_is_full_stops_the_machine_and_loses_nothing() {
    let memory = Memory::default();
    let (told, wait) = mpsc::channel();
    let (mut sink, writing) = start(writer(&memory), move || told.send(()).unwrap()).unwrap();
    memory.fail(true);
    sink.push(seed()).unwrap();
    wait.recv().unwrap();
    assert!(matches!(writing.failure(), Some(LogError::Sink { .. })));
    let refused = sink.push(record(1)).unwrap_err();
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert_eq!(read(&memory).0, 0);
    // Room was made: what was taken is still there.
    memory.fail(false);
    drop(sink);
    writing.finish().unwrap();
    assert_eq!(read(&memory).0, 1);
}

#[test]
fn a_disk_that_stays_full_is_told_at_the_end() {
    let memory = Memory::default();
    let (told, wait) = mpsc::channel();
    let (mut sink, writing) = start(writer(&memory), move || told.send(()).unwrap()).unwrap();
    memory.fail(true);
    sink.push(seed()).unwrap();
    wait.recv().unwrap();
    drop(sink);
    assert!(matches!(writing.finish(), Err(LogError::Sink { .. })));
    assert!(matches!(read(&memory).1, Tail::Torn { .. }));
}
