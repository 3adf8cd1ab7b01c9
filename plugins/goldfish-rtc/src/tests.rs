use super::*;
use reprise_plugin_api::{Size, testkit::FakeHost};

/// 2026-01-01, with a high half and a low half to tell apart.
const NOW_NS: u64 = 1_767_225_600_123_456_789;

fn at(host_clock_ns: u64) -> FakeHost<Rtc> {
    let mut host = FakeHost::<Rtc>::new(Config { start_s: None });
    host.set_host_clock(host_clock_ns);
    host
}

fn time(host: &mut FakeHost<Rtc>) -> u64 {
    let low = host.read32(TIME_LOW);
    u64::from(host.read32(TIME_HIGH)) << 32 | u64::from(low)
}

/// High half first, as Linux does.
fn write_pair(host: &mut FakeHost<Rtc>, low: u64, high: u64, value: u64) {
    host.write32(high, (value >> 32) as u32);
    host.write32(low, value as u32);
}

fn set_alarm(host: &mut FakeHost<Rtc>, alarm_ns: u64) {
    write_pair(host, ALARM_LOW, ALARM_HIGH, alarm_ns);
}

#[test]
fn it_tells_the_hosts_time() {
    assert_eq!(time(&mut at(NOW_NS)), NOW_NS);
}

#[test]
fn reading_the_low_half_latches_the_high_half() {
    let mut host = at(0x1_ffff_ffff);
    assert_eq!(host.read32(TIME_HIGH), 0, "nothing latched yet");
    assert_eq!(host.read32(TIME_LOW), 0xffff_ffff);
    host.set_host_clock(0x2_0000_0000);
    assert_eq!(host.read32(TIME_HIGH), 1);
    assert_eq!(host.read32(TIME_LOW), 0);
    assert_eq!(host.read32(TIME_HIGH), 2);
}

#[test]
fn a_fixed_start_runs_on_virtual_time() {
    let mut host = FakeHost::<Rtc>::new(Config { start_s: Some(1_000_000_000) });
    host.set_host_clock(NOW_NS);
    assert_eq!(time(&mut host), 1_000_000_000_000_000_000);
    host.advance(12_345);
    assert_eq!(time(&mut host), 1_000_000_000_000_012_345);
}

#[test]
fn the_guest_sets_the_time() {
    let mut host = at(NOW_NS);
    write_pair(&mut host, TIME_LOW, TIME_HIGH, 0x1234_5678_9abc_def0);
    assert_eq!(time(&mut host), 0x1234_5678_9abc_def0);
    host.set_host_clock(NOW_NS + 5);
    assert_eq!(time(&mut host), 0x1234_5678_9abc_def5);
    // Back before the host's time, where the offset wraps.
    write_pair(&mut host, TIME_LOW, TIME_HIGH, 7);
    assert_eq!(time(&mut host), 7);
}

#[test]
fn an_alarm_goes_off_on_virtual_time() {
    let mut host = at(NOW_NS);
    host.advance(1000);
    host.write32(IRQ_ENABLED, 1);
    set_alarm(&mut host, NOW_NS + 500);
    assert_eq!(host.read32(ALARM_STATUS), 1);
    assert_eq!(host.timer("alarm"), Some(1500));
    host.advance(499);
    assert!(!host.output("irq"));
    host.advance(1);
    assert!(host.output("irq"));
    assert_eq!(host.read32(ALARM_STATUS), 0);
    assert_eq!(u64::from(host.read32(ALARM_HIGH)) << 32 | u64::from(host.read32(ALARM_LOW)), NOW_NS + 500);
    host.write32(CLEAR_INTERRUPT, 1);
    assert!(!host.output("irq"));
}

#[test]
fn only_the_low_half_arms() {
    let mut host = at(NOW_NS);
    host.write32(ALARM_HIGH, u32::MAX);
    assert_eq!((host.read32(ALARM_STATUS), host.timer("alarm")), (0, None));
}

#[test]
fn an_alarm_in_the_past_goes_off_at_once() {
    for past_ns in [NOW_NS, NOW_NS - 1, 0] {
        let mut host = at(NOW_NS);
        host.write32(IRQ_ENABLED, 1);
        set_alarm(&mut host, past_ns);
        assert!(host.output("irq"), "{past_ns}");
        assert_eq!((host.read32(ALARM_STATUS), host.timer("alarm")), (0, None));
    }
}

#[test]
fn the_enable_bit_gates_the_pin_only() {
    let mut host = at(NOW_NS);
    set_alarm(&mut host, 0);
    assert!(!host.output("irq"));
    host.write32(IRQ_ENABLED, 0xffff_fffe);
    assert_eq!((host.output("irq"), host.read32(IRQ_ENABLED)), (false, 0));
    host.write32(IRQ_ENABLED, 0xffff_ffff);
    assert_eq!((host.output("irq"), host.read32(IRQ_ENABLED)), (true, 1));
    host.write32(IRQ_ENABLED, 0);
    assert!(!host.output("irq"));
}

#[test]
fn a_cleared_alarm_stays_silent() {
    let mut host = at(NOW_NS);
    host.write32(IRQ_ENABLED, 1);
    set_alarm(&mut host, NOW_NS + 500);
    host.write32(CLEAR_ALARM, 1);
    assert_eq!((host.read32(ALARM_STATUS), host.timer("alarm")), (0, None));
    host.advance(1000);
    assert!(!host.output("irq"));
    // It takes back the alarm, not an interrupt that came.
    set_alarm(&mut host, 0);
    host.write32(CLEAR_ALARM, 1);
    assert!(host.output("irq"));
}

#[test]
fn setting_the_time_moves_an_armed_alarm() {
    let mut host = FakeHost::<Rtc>::new(Config { start_s: Some(10) });
    host.write32(IRQ_ENABLED, 1);
    set_alarm(&mut host, 12_000_000_000);
    write_pair(&mut host, TIME_LOW, TIME_HIGH, 11_500_000_000);
    assert_eq!(host.timer("alarm"), Some(500_000_000));
    write_pair(&mut host, TIME_LOW, TIME_HIGH, 13_000_000_000);
    assert!(host.output("irq"));
    assert_eq!(host.read32(ALARM_STATUS), 0);
}

#[test]
fn an_alarm_beyond_all_time_never_comes() {
    let mut host = at(0);
    host.advance(1000);
    set_alarm(&mut host, u64::MAX);
    assert_eq!(host.read32(ALARM_STATUS), 1);
    host.save_load();
    host.advance(1 << 62);
    assert_eq!(host.read32(ALARM_STATUS), 1);
}

#[test]
fn the_battery_outlives_a_reset_but_not_power_on() {
    let mut host = at(NOW_NS);
    host.write32(IRQ_ENABLED, 1);
    set_alarm(&mut host, 0);
    set_alarm(&mut host, u64::MAX);
    write_pair(&mut host, TIME_LOW, TIME_HIGH, 42);
    host.reset(Reset::Warm);
    assert!(!host.output("irq"));
    assert_eq!([ALARM_LOW, ALARM_HIGH, IRQ_ENABLED, ALARM_STATUS].map(|offset| host.read32(offset)), [0; 4]);
    assert_eq!(time(&mut host), 42);
    host.reset(Reset::Cold);
    assert_eq!(time(&mut host), NOW_NS);
}

#[test]
fn other_registers_read_as_zero_and_ignore_writes() {
    let mut host = at(NOW_NS);
    let before = host.save();
    for offset in [0x20, 0xffc] {
        host.write32(offset, u32::MAX);
        assert_eq!(host.read32(offset), 0);
    }
    assert_eq!([CLEAR_ALARM, CLEAR_INTERRUPT].map(|offset| host.read32(offset)), [0; 2]);
    assert_eq!(host.save(), before);
    assert_eq!(host.logs().len(), 2);
    assert_eq!(host.read(0, 0, Size::B8), Err(Fault));
}

#[test]
fn the_start_is_bounded() {
    let options = |start_s: u64| Config::from_json(&Config { start_s: Some(start_s) }.to_json()).map(|_| ());
    assert_eq!(options(18_000_000_000), Ok(()));
    assert_eq!(options(18_000_000_001).unwrap_err().path, "start_s");
}

#[test]
fn it_survives_the_fuzzer() {
    for (seed, start_s) in [(1, None), (2, Some(5)), (3, None)] {
        let mut host = FakeHost::<Rtc>::new(Config { start_s });
        host.set_host_clock(NOW_NS);
        host.fuzz(seed, 3000);
        host.fuzz_load(seed, 300);
    }
}
