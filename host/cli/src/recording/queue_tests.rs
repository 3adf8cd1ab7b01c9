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

/// What the host does at its n-th operation.
#[derive(Clone, Copy, Debug)]
struct Fault {
    nth: u64,
    /// As the operating system counts: 28 is ENOSPC, 5 is EIO.
    errno: i32,
    /// How much of an append is done all the same, in halves of it.
    halves: usize,
    for_ever: bool,
}

/// One segment in memory on a host that fails as told.
struct Failing {
    memory: Memory,
    operations: u64,
    fault: Fault,
}

impl Failing {
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        let Fault { nth, errno, for_ever, .. } = self.fault;
        match self.operations == nth || for_ever && self.operations > nth {
            true => Err(io::Error::from_raw_os_error(errno)),
            false => Ok(()),
        }
    }
}

impl Sink for Failing {
    fn begin(&mut self, number: u32) -> io::Result<()> {
        self.operate()?;
        self.memory.begin(number)
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.operate();
        let done = if outcome.is_ok() { bytes.len() } else { bytes.len() * self.fault.halves / 2 };
        self.memory.append(&bytes[..done])?;
        outcome
    }
    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.operate()?;
        self.memory.truncate(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.operate()
    }
}

/// Push until it is refused, and finish. Returns how many records were taken, whether it was told that nothing can be
/// written, and how it ended.
fn pushed_on(memory: &Memory, fault: Fault) -> (usize, bool, Result<(), LogError>) {
    // Each record is a chunk of its own, so that there are as many writes as records.
    let sizes = Sizes { chunk_bytes: 1, ..Sizes::default() };
    let host = Failing { memory: memory.clone(), operations: 0, fault };
    let writer = LogWriter::create(host, RunId([7; 16]), sizes).unwrap();
    let told = Arc::new(Mutex::new(0));
    let teller = Arc::clone(&told);
    let (mut sink, writing) = start(writer, move || *teller.lock().unwrap() += 1).unwrap();
    let taken = (0..250).take_while(|&n| sink.push(if n == 0 { seed() } else { record(n) }).is_ok()).count();
    drop(sink);
    let ended = writing.finish();
    let told = *told.lock().unwrap();
    assert!(told < 2, "it is told once");
    (taken, told == 1, ended)
}

/// The machine is stopped, what came before is there, and a disk that has recovered gets everything that was taken.
#[test]
fn a_write_may_fail_at_any_time_and_in_any_way() {
    // Two operations make the log, before which there is no thread.
    for nth in 3..=202 {
        for (errno, halves) in [(28, 0), (28, 1), (28, 2), (5, 0), (5, 1)] {
            for for_ever in [false, true] {
                let fault = Fault { nth, errno, halves, for_ever };
                let memory = Memory::default();
                let (taken, told, ended) = pushed_on(&memory, fault);
                assert!(told, "{fault:?}: the machine must stop");
                let (records, tail) = read(&memory);
                assert!(matches!(tail, Tail::Torn { .. }), "{fault:?}: {tail:?}");
                match for_ever {
                    false => {
                        ended.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
                        assert_eq!(records, taken, "{fault:?}");
                    }
                    true => {
                        let text = ended.unwrap_err().to_string();
                        let why = if errno == 28 { "No space left" } else { "Input/output error" };
                        assert!(
                            text.contains("log segment 000000") && text.contains(why),
                            "{fault:?}: {text}"
                        );
                        // The header was one write, the seed's chunk was one, with a sync behind it.
                        let written =
                            usize::try_from(nth).unwrap().saturating_sub(4).max(usize::from(nth > 3));
                        assert!(records >= written && records <= taken, "{fault:?}: {records} of {taken}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_log_has_begun_when_its_seed_is_on_the_disk() {
    let memory = Memory::default();
    let (mut sink, writing) = start(writer(&memory), || ()).unwrap();
    sink.push(seed()).unwrap();
    writing.waiter().begun().unwrap();
    assert_eq!(read(&memory).0, 1);
    drop(sink);
    writing.finish().unwrap();
    // Nor does anybody wait for what fails, or for a machine that never came.
    let memory = Memory::default();
    let (mut sink, writing) = start(writer(&memory), || ()).unwrap();
    memory.fail(true);
    sink.push(seed()).unwrap();
    assert!(matches!(writing.waiter().begun(), Err(LogError::Sink { .. })));
    drop(sink);
    let (sink, writing) = start(writer(&Memory::default()), || ()).unwrap();
    drop(sink);
    writing.waiter().begun().unwrap();
}
