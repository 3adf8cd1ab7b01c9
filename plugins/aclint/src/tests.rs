use super::*;
use reprise_plugin_api::{
    Size,
    testkit::{Control, FakeHost},
};

const MTIMECMP0: u64 = 0x4000;
const MTIMECMP1: u64 = 0x4008;
const MTIME: u64 = 0xbff8;

/// 10 MHz, as QEMU's `virt` has it: a tick is 100 ns.
fn clint() -> FakeHost<Clint> {
    FakeHost::new(TimerConfig { harts: 2, timebase_hz: 10_000_000 })
}

#[test]
fn mtime_is_virtual_time_in_whole_ticks() {
    let mut host = clint();
    host.advance(99);
    assert_eq!(host.read64(MTIME), 0);
    host.advance(1);
    assert_eq!(host.read64(MTIME), 1);
    host.advance(123_456_789_012_345);
    assert_eq!(host.read64(MTIME), 1_234_567_890_124);
    assert_eq!(host.read32(MTIME), 1_234_567_890_124_u64 as u32);
    assert_eq!(host.read32(MTIME + 4), (1_234_567_890_124_u64 >> 32) as u32);
}

#[test]
fn mtime_does_not_drift_at_odd_frequencies() {
    for (timebase_hz, now_ns, expected) in [
        (3, 999_999_999, 2),
        (3, 1_000_000_000, 3),
        (32_768, u64::MAX, 604_462_909_807_314),
        (1_000_000_000, 1 << 63, 1 << 63),
        (4_000_000_000, 1_000_000_001, 4_000_000_004),
    ] {
        let mut host = FakeHost::<Clint>::new(TimerConfig { harts: 1, timebase_hz });
        host.advance_to(now_ns);
        assert_eq!(host.read64(MTIME), expected, "{timebase_hz} Hz at {now_ns} ns");
    }
}

#[test]
fn the_timer_interrupt_comes_at_the_exact_nanosecond() {
    for (timebase_hz, mtimecmp, at_ns) in
        [(10_000_000, 1, 100), (10_000_000, 12_345, 1_234_500), (3, 1, 333_333_334), (3, 2, 666_666_667)]
    {
        let mut host = FakeHost::<Clint>::new(TimerConfig { harts: 1, timebase_hz });
        host.write64(MTIMECMP0, mtimecmp);
        assert_eq!(host.timer("mtimecmp.0"), Some(at_ns));
        host.advance_to(at_ns - 1);
        assert_eq!((host.read64(MTIME), host.output("mtip.0")), (mtimecmp - 1, false));
        host.advance(1);
        assert_eq!((host.read64(MTIME), host.output("mtip.0")), (mtimecmp, true));
        assert_eq!(host.pin_log(), [(at_ns, "mtip.0".to_owned(), true)]);
    }
}

#[test]
fn the_pin_is_a_level_that_mtimecmp_moves() {
    let mut host = clint();
    host.advance(1000);
    host.write64(MTIMECMP0, 10);
    assert!(host.output("mtip.0"), "10 is not less than 10");
    host.write64(MTIMECMP0, 11);
    assert!(!host.output("mtip.0"));
    host.write64(MTIMECMP0, 0);
    assert!(host.output("mtip.0"));
    host.write64(MTIMECMP0, u64::MAX);
    assert!(!host.output("mtip.0"));
    assert_eq!(host.next_deadline(), None, "that is past the end of virtual time");
}

#[test]
fn each_hart_has_its_own_compare_register() {
    let mut host = clint();
    host.write64(MTIMECMP1, 5);
    host.write64(MTIMECMP0, 7);
    host.advance(500);
    assert_eq!((host.output("mtip.0"), host.output("mtip.1")), (false, true));
    host.advance(200);
    assert_eq!((host.output("mtip.0"), host.output("mtip.1")), (true, true));
    assert_eq!((host.read64(MTIMECMP0), host.read64(MTIMECMP1)), (7, 5));
}

#[test]
fn halves_are_written_on_their_own() {
    let mut host = clint();
    assert_eq!(host.read64(MTIMECMP0), u64::MAX);
    host.write32(MTIMECMP0, 0x1234_5678);
    assert_eq!(host.read64(MTIMECMP0), 0xffff_ffff_1234_5678);
    host.write32(MTIMECMP0 + 4, 0);
    assert_eq!(host.read64(MTIMECMP0), 0x1234_5678);
    assert_eq!((host.read32(MTIMECMP0), host.read32(MTIMECMP0 + 4)), (0x1234_5678, 0));
    assert_eq!(host.timer("mtimecmp.0"), Some(0x1234_5678 * 100));
    host.write32(MTIME + 4, 1);
    assert_eq!(host.read64(MTIME), 1 << 32);
    host.write32(MTIME, 9);
    assert_eq!(host.read64(MTIME), 1 << 32 | 9);
}

#[test]
fn a_written_mtime_moves_the_harts_time_and_the_deadlines() {
    let mut host = clint();
    host.advance(1000);
    host.write64(MTIMECMP0, 100);
    host.write64(MTIME, 90);
    assert_eq!(host.controls().last(), Some(&Control::TimeOffset(80)));
    assert_eq!(host.read64(MTIME), 90);
    assert_eq!(host.timer("mtimecmp.0"), Some(2000));
    host.write64(MTIME, 100);
    assert!(host.output("mtip.0"));
    host.write64(MTIME, 3);
    assert!(!host.output("mtip.0"));
    assert_eq!(host.controls().last(), Some(&Control::TimeOffset(7_u64.wrapping_neg())));
    host.save_load();
    host.advance(100);
    assert_eq!(host.read64(MTIME), 4);
}

#[test]
fn the_interrupt_goes_when_mtime_wraps() {
    let mut host = clint();
    host.write64(MTIMECMP0, 5);
    host.write64(MTIMECMP1, 0);
    host.write64(MTIME, u64::MAX - 1);
    assert_eq!((host.output("mtip.0"), host.output("mtip.1")), (true, true));
    host.advance(199);
    assert!(host.output("mtip.0"));
    host.advance(1);
    assert_eq!((host.read64(MTIME), host.output("mtip.0"), host.output("mtip.1")), (0, false, true));
    host.advance(500);
    assert_eq!((host.read64(MTIME), host.output("mtip.0")), (5, true));
}

#[test]
fn msip_is_one_bit_for_each_hart() {
    let mut host = clint();
    host.write32(4, u32::MAX);
    assert_eq!((host.read32(0), host.read32(4)), (0, 1));
    assert_eq!((host.output("msip.0"), host.output("msip.1")), (false, true));
    host.write32(4, 0xffff_fffe);
    assert_eq!((host.read32(4), host.output("msip.1")), (0, false));
    // A double word hits two registers.
    host.write64(0, 0x0000_0001_0000_0001);
    assert_eq!((host.output("msip.0"), host.output("msip.1")), (true, true));
    assert_eq!(host.read64(0), 0x0000_0001_0000_0001);
}

#[test]
fn harts_that_do_not_exist_have_no_registers() {
    let mut host = clint();
    let before = host.save();
    for offset in [8, 0x3ffc, 0x4010, 0xbff4, 0xc000, 0xfffc] {
        host.write32(offset, 1);
        assert_eq!(host.read32(offset), 0, "{offset:#x}");
    }
    assert_eq!(host.save(), before);
    assert_eq!(host.read(0, 0, Size::B1), Err(Fault));
    assert_eq!(host.read(0, 0x4000, Size::B2), Err(Fault));
}

#[test]
fn reset_clears_mtime_and_the_pins() {
    let mut host = clint();
    host.advance(1000);
    host.write32(0, 1);
    host.write64(MTIMECMP1, 3);
    assert!(host.output("msip.0") && host.output("mtip.1"));
    host.reset(Reset::Warm);
    assert!(!host.output("msip.0") && !host.output("mtip.1"));
    assert_eq!((host.read64(MTIME), host.read64(MTIMECMP1), host.read32(0)), (0, u64::MAX, 0));
    assert_eq!(host.controls().last(), Some(&Control::TimeOffset(10_u64.wrapping_neg())));
    host.advance(100);
    assert_eq!(host.read64(MTIME), 1);
}

#[test]
fn mtimer_alone_has_two_regions() {
    let mut host = FakeHost::<MtimerDevice>::new(TimerConfig { harts: 2, timebase_hz: 10_000_000 });
    host.write(1, 8, Size::B8, 4).unwrap();
    assert_eq!(host.read(1, 8, Size::B8), Ok(4));
    host.advance(399);
    assert!(!host.output("mtip.1"));
    host.advance(1);
    assert!(host.output("mtip.1"));
    assert_eq!(host.read(0, 0, Size::B8), Ok(4));
    host.write(0, 4, Size::B4, 1).unwrap();
    assert_eq!(host.read(0, 0, Size::B8), Ok(1 << 32 | 4));
    assert_eq!(host.read(1, 0x7ff0, Size::B8), Ok(0));
    assert_eq!(host.read(1, 0x7ff8, Size::B8), Err(Fault));
    host.reset(Reset::Warm);
    assert_eq!((host.read(0, 0, Size::B8), host.output("mtip.1")), (Ok(0), false));
}

#[test]
fn mswi_alone() {
    let mut host = FakeHost::<Mswi>::new(HartsConfig { harts: 2 });
    host.write32(4, 3);
    assert_eq!((host.read32(4), host.output("msip.1"), host.output("msip.0")), (1, true, false));
    host.save_load();
    host.write32(0x3ffc, 1);
    assert_eq!(host.read32(0x3ffc), 0);
    assert_eq!(host.read(0, 0, Size::B8), Err(Fault));
    host.reset(Reset::Warm);
    assert_eq!((host.read32(4), host.output("msip.1")), (0, false));
}

#[test]
fn sswi_makes_an_edge_for_each_one_written() {
    let mut host = FakeHost::<Sswi>::new(HartsConfig { harts: 2 });
    host.write32(4, 1);
    host.write32(4, 1);
    let edge = |level| (0, "ssip.1".to_owned(), level);
    assert_eq!(host.pin_log(), [edge(true), edge(false), edge(true), edge(false)]);
    assert_eq!(host.read32(4), 0);
    host.write32(4, 0);
    host.write32(4, 2);
    host.write32(8, 1);
    assert_eq!(host.pin_log().len(), 4, "no edge for a zero, nor for a hart that is not there");
}

#[test]
fn the_device_tree_pairs_the_pins_of_a_hart() {
    let config = TimerConfig { harts: 3, timebase_hz: 1 };
    let node = Clint::describe(&config).fdt.unwrap();
    assert_eq!(node.compatible, ["sifive,clint0", "riscv,clint0"]);
    assert_eq!(node.interrupts, [0, 3, 1, 4, 2, 5], "msip, mtip of each hart");
    assert_eq!(node.interrupt_controller, None);
    let node = MtimerDevice::describe(&config).fdt.unwrap();
    assert_eq!((node.compatible, node.interrupts), (vec!["riscv,aclint-mtimer".to_owned()], vec![0, 1, 2]));
    for (node, compatible) in [
        (Mswi::describe(&HartsConfig { harts: 3 }).fdt.unwrap(), "riscv,aclint-mswi"),
        (Sswi::describe(&HartsConfig { harts: 3 }).fdt.unwrap(), "riscv,aclint-sswi"),
    ] {
        assert_eq!((node.compatible, node.interrupts), (vec![compatible.to_owned()], vec![0, 1, 2]));
        assert_eq!(node.interrupt_controller, Some(0));
    }
}

#[test]
fn the_state_of_another_board_is_refused() {
    let mut host = clint();
    let other = FakeHost::<Clint>::new(TimerConfig { harts: 3, timebase_hz: 10_000_000 });
    let error = host.load(&other.save()).unwrap_err();
    assert!(error.contains("expected 2 elements, found 3"), "{error}");
}

#[test]
fn they_survive_the_fuzzer() {
    for (seed, timebase_hz) in [(1, 10_000_000), (2, 1), (3, u32::MAX)] {
        let config = || TimerConfig { harts: 3, timebase_hz };
        FakeHost::<Clint>::new(config()).fuzz(seed, 2000);
        FakeHost::<Clint>::new(config()).fuzz_load(seed, 200);
        FakeHost::<MtimerDevice>::new(config()).fuzz(seed, 2000);
        FakeHost::<Mswi>::new(HartsConfig { harts: 3 }).fuzz(seed, 1000);
        FakeHost::<Sswi>::new(HartsConfig { harts: 3 }).fuzz(seed, 1000);
    }
}
