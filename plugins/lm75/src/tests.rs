use super::*;
use reprise_plugin_api::testkit::FakeHost;

const AT: u32 = 0x48;

fn sensor(millidegrees: i32) -> FakeHost<Lm75> {
    FakeHost::new(Config { millidegrees })
}

fn ask(h: &mut FakeHost<Lm75>, ask: Ask) -> Option<Answer> {
    h.message("bus", AT, Some(&ask.encode()));
    h.messages().first().map(|(_, _, message)| Answer::decode(message).unwrap())
}

fn write(h: &mut FakeHost<Lm75>, bytes: &[u8]) {
    assert_eq!(ask(h, Ask::Start { read: false }), Some(Answer::Ack));
    for &byte in bytes {
        assert_eq!(ask(h, Ask::Write(byte)), Some(Answer::Ack));
    }
    ask(h, Ask::Stop);
}

fn read<const N: usize>(h: &mut FakeHost<Lm75>, pointer: u8) -> [u8; N] {
    write(h, &[pointer]);
    assert_eq!(ask(h, Ask::Start { read: true }), Some(Answer::Ack));
    let bytes = std::array::from_fn(|_| match ask(h, Ask::Read) {
        Some(Answer::Data(byte)) => byte,
        other => panic!("{other:?}"),
    });
    ask(h, Ask::Stop);
    bytes
}

fn feed(h: &mut FakeHost<Lm75>, text: &str) {
    h.port_input("feed", text.as_bytes());
    h.advance(CONVERSION_NS);
}

#[test]
fn registers_are_as_at_power_on() {
    let mut h = sensor(25_000);
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [25, 0]);
    assert_eq!(read::<1>(&mut h, CONFIGURATION), [0]);
    assert_eq!(read::<2>(&mut h, HYSTERESIS), [75, 0]);
    assert_eq!(read::<4>(&mut h, LIMIT), [80, 0, 80, 0], "reads go round");
    assert!(h.output("alarm"), "open drain, not pulled low");
}

#[test]
fn half_degrees_below_zero_too() {
    for (millidegrees, expected) in [
        (25_499, [25, 0]),
        (25_500, [25, 0x80]),
        (-500, [0xff, 0x80]),
        (-25_000, [0xe7, 0]),
        (125_000, [125, 0]),
    ] {
        assert_eq!(read::<2>(&mut sensor(millidegrees), TEMPERATURE), expected, "{millidegrees}");
    }
}

#[test]
fn limits_are_written_and_the_rest_is_read_only() {
    let mut h = sensor(25_000);
    write(&mut h, &[LIMIT, 30, 0xff]);
    assert_eq!(read::<2>(&mut h, LIMIT), [30, 0x80]);
    write(&mut h, &[HYSTERESIS, 0xe0, 0x80, 9, 9]);
    assert_eq!(read::<2>(&mut h, HYSTERESIS), [0xe0, 0x80]);
    write(&mut h, &[TEMPERATURE, 1, 2]);
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [25, 0]);
    write(&mut h, &[CONFIGURATION, 0xe4]);
    assert_eq!(read::<1>(&mut h, CONFIGURATION), [4]);
    write(&mut h, &[0xff]);
    assert_eq!(h.device().pointer, LIMIT);
}

#[test]
fn somebody_outside_makes_the_weather() {
    let mut h = sensor(25_000);
    h.port_input("feed", b"2");
    h.port_input("feed", b"6.5\n");
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [25, 0], "not before the next conversion");
    assert_eq!(h.timer("conversion"), Some(CONVERSION_NS));
    h.advance(CONVERSION_NS);
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [26, 0x80]);
    assert_eq!(h.next_deadline(), None, "nothing changes, nothing is converted");
    for (text, expected) in [("-0.5\n", [0xff, 0x80]), (" 7 \r\n", [7, 0]), ("1.9999\n", [1, 0x80])] {
        feed(&mut h, text);
        assert_eq!(read::<2>(&mut h, TEMPERATURE), expected, "{text:?}");
    }
    for text in
        ["hot\n", "126\n", "-56\n", "1.\n", "\n", ".5\n", "00000000000000000000001\n", "99999999999\n"]
    {
        let before = h.logs().len();
        feed(&mut h, text);
        assert_eq!(h.logs().len(), before + 1, "{text:?}");
        assert_eq!(read::<2>(&mut h, TEMPERATURE), [1, 0x80], "{text:?}");
    }
    for (overlong, after) in [("00000000000000000000001\n", 3), ("nothing that is a number at all\n", 4)] {
        feed(&mut h, overlong);
        feed(&mut h, &format!("{after}\n"));
        assert_eq!(read::<2>(&mut h, TEMPERATURE), [after, 0], "a line that is too long harms only itself");
    }
}

#[test]
fn as_a_comparator_it_follows_the_temperature() {
    let mut h = sensor(25_000);
    feed(&mut h, "80\n");
    assert!(h.output("alarm"), "the limit itself is not above it");
    feed(&mut h, "80.5\n");
    assert!(!h.output("alarm"));
    feed(&mut h, "75\n");
    assert!(!h.output("alarm"));
    write(&mut h, &[CONFIGURATION, ACTIVE_HIGH]);
    assert!(h.output("alarm"));
    feed(&mut h, "74.5\n");
    assert!(!h.output("alarm"));
}

#[test]
fn a_fault_counts_when_it_lasts() {
    let mut h = sensor(25_000);
    write(&mut h, &[CONFIGURATION, 2 << FAULT_QUEUE_SHIFT]);
    feed(&mut h, "90\n");
    h.advance(2 * CONVERSION_NS);
    assert!(h.output("alarm"), "three of four");
    feed(&mut h, "20\n");
    feed(&mut h, "90\n");
    h.advance(2 * CONVERSION_NS);
    assert!(h.output("alarm"), "they count in a row");
    h.advance(CONVERSION_NS);
    assert!(!h.output("alarm"));
    assert_eq!(h.next_deadline(), None);
}

#[test]
fn in_interrupt_mode_a_read_takes_the_alarm_back() {
    let mut h = sensor(25_000);
    write(&mut h, &[CONFIGURATION, INTERRUPT_MODE]);
    feed(&mut h, "90\n");
    assert!(!h.output("alarm"));
    read::<2>(&mut h, TEMPERATURE);
    assert!(h.output("alarm"));
    feed(&mut h, "95\n");
    assert!(h.output("alarm"), "hot already");
    feed(&mut h, "70\n");
    assert!(!h.output("alarm"), "cold again is an event too");
    read::<1>(&mut h, CONFIGURATION);
    assert!(h.output("alarm"));
}

#[test]
fn shut_down_it_converts_nothing() {
    let mut h = sensor(25_000);
    write(&mut h, &[CONFIGURATION, SHUTDOWN]);
    feed(&mut h, "90\n");
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [25, 0]);
    write(&mut h, &[CONFIGURATION, 0]);
    h.advance(CONVERSION_NS);
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [90, 0]);
}

#[test]
fn a_reset_leaves_the_weather() {
    let mut h = sensor(25_000);
    feed(&mut h, "90\n");
    write(&mut h, &[LIMIT, 30, 0]);
    h.reset(Reset::Warm);
    assert!(h.output("alarm"));
    assert_eq!(read::<2>(&mut h, LIMIT), [80, 0]);
    assert_eq!(read::<2>(&mut h, TEMPERATURE), [90, 0]);
    h.advance(CONVERSION_NS);
    assert!(!h.output("alarm"));
}

#[test]
fn random_runs() {
    for seed in 0..20 {
        sensor(25_000).fuzz(seed, 2000);
        sensor(25_000).fuzz_load(seed, 200);
    }
}
