use super::*;
use reprise_plugin_api::testkit::FakeHost;

const ADDRESS: u8 = 0x50;

/// Switched on, at 100 kHz: prescale 99 of 50 MHz.
fn controller() -> FakeHost<I2c> {
    let mut h = FakeHost::<I2c>::new(Config::default());
    h.write8(PRESCALE_LOW, 99);
    h.write8(PRESCALE_HIGH, 0);
    h.write8(CONTROL, ENABLE | INTERRUPT_ENABLE);
    h
}

/// A command, what it said on the bus, and the answers.
fn command(h: &mut FakeHost<I2c>, command: u8, answers: &[Answer]) -> Vec<(u32, Ask)> {
    h.write8(COMMAND, command);
    let said = h.messages().into_iter().map(|(_, at, m)| (at, Ask::decode(&m).unwrap())).collect();
    answers.iter().for_each(|answer| h.message("bus", ADDRESS.into(), Some(&answer.encode())));
    said
}

fn finish(h: &mut FakeHost<I2c>) -> u8 {
    h.advance_to(h.next_deadline().expect("a transfer is under way"));
    h.read8(COMMAND)
}

fn start(h: &mut FakeHost<I2c>, read: bool) -> u8 {
    h.write8(DATA, ADDRESS << 1 | u8::from(read));
    let said = command(h, START | WRITE, &[Answer::Ack]);
    assert_eq!(said, [(ADDRESS.into(), Ask::Start { read })]);
    finish(h)
}

#[test]
fn registers_are_as_after_a_reset() {
    let mut h = FakeHost::<I2c>::new(Config::default());
    let read = |h: &mut FakeHost<I2c>| [0, 1, 2, 3, 4, 5].map(|offset| h.read8(offset));
    assert_eq!(read(&mut h), [0xff, 0xff, 0, 0, 0, 0]);
    (0..4).for_each(|offset| h.write8(offset, 0x5a));
    assert_eq!(read(&mut h), [0x5a, 0x5a, 0x40, 0, 0, 0]);
    h.reset(Reset::Warm);
    assert_eq!(read(&mut h), [0xff, 0xff, 0, 0, 0, 0]);
}

#[test]
fn a_byte_takes_nine_bits_and_a_start_one() {
    let mut h = controller();
    h.write8(DATA, ADDRESS << 1);
    command(&mut h, START | WRITE, &[Answer::Ack]);
    assert_eq!(h.read8(COMMAND), BUSY | IN_PROGRESS);
    assert!(!h.output("irq"));
    assert_eq!(h.timer("transfer"), Some(100_000));
    assert_eq!(finish(&mut h), BUSY | INTERRUPT);
    assert!(h.output("irq"));
    h.write8(COMMAND, INTERRUPT_ACK);
    assert!(!h.output("irq") && h.read8(COMMAND) == BUSY);
}

#[test]
fn what_is_written_read_and_stopped_reaches_the_target() {
    let mut h = controller();
    assert_eq!(start(&mut h, false), BUSY | INTERRUPT);
    h.write8(DATA, 0x42);
    assert_eq!(command(&mut h, WRITE, &[Answer::Ack]), [(0x50, Ask::Write(0x42))]);
    assert_eq!(finish(&mut h) & NO_ACK, 0);
    assert_eq!(start(&mut h, true) & NO_ACK, 0);
    let said = command(&mut h, READ | STOP | 1 << 3, &[Answer::Data(0x77)]);
    assert_eq!(said, [(0x50, Ask::Read), (0x50, Ask::Stop)]);
    assert_eq!(h.read8(DATA), 0xff, "not before the bits are through");
    assert_eq!(finish(&mut h), INTERRUPT);
    assert_eq!(h.read8(DATA), 0x77);
}

#[test]
fn nobody_and_a_refusal_are_no_acknowledge() {
    let mut h = controller();
    h.write8(DATA, ADDRESS << 1);
    command(&mut h, START | WRITE, &[Answer::Nack]);
    assert_eq!(finish(&mut h), BUSY | INTERRUPT | NO_ACK);
    command(&mut h, START | WRITE, &[]);
    h.message("bus", ADDRESS.into(), None);
    assert_eq!(finish(&mut h), BUSY | INTERRUPT | NO_ACK);
    command(&mut h, READ, &[]);
    finish(&mut h);
    assert_eq!(h.read8(DATA), 0xff);
}

#[test]
fn without_a_start_nobody_hears_and_another_address_lets_the_old_one_go() {
    let mut h = controller();
    assert_eq!(command(&mut h, WRITE, &[]), []);
    assert_eq!(finish(&mut h), INTERRUPT | NO_ACK);
    start(&mut h, false);
    h.write8(DATA, 0x48 << 1);
    let said = command(&mut h, START | WRITE, &[]);
    assert_eq!(said, [(0x50, Ask::Stop), (0x48, Ask::Start { read: false })]);
}

#[test]
fn it_is_deaf_while_it_is_off_or_at_work() {
    let mut h = controller();
    h.write8(DATA, ADDRESS << 1);
    command(&mut h, START | WRITE, &[Answer::Ack]);
    assert_eq!(command(&mut h, WRITE | STOP, &[]), []);
    h.write8(CONTROL, 0);
    assert_eq!(h.messages().len(), 1, "the bus is let go");
    assert_eq!((h.read8(COMMAND), h.next_deadline()), (0, None));
    assert_eq!(command(&mut h, START | WRITE, &[]), []);
    assert_eq!(h.next_deadline(), None);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let mut h = controller();
    start(&mut h, false);
    let mut record = h.save();
    let at = record.windows(6).position(|window| window == b"target").unwrap();
    let byte = record[at..].iter().position(|&byte| byte == ADDRESS).unwrap();
    record[at + byte] = 0xd0;
    assert!(h.load(&record).unwrap_err().contains("0xd0"));
}

#[test]
fn random_runs() {
    for seed in 0..20 {
        FakeHost::<I2c>::new(Config::default()).fuzz(seed, 2000);
        FakeHost::<I2c>::new(Config::default()).fuzz_load(seed, 200);
    }
}
