//! The test kit tested on a small device, and on devices with the mistakes that it is there to find.

use super::*;
use crate::{
    Access, Bh, BlockDone, BlockOp, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, InPin,
    OutPin, Port, PortEvent, Timer, desc::PortKind,
};

/// Counts in its timer; every register does one thing that the host must answer.
#[derive(DeviceState, Default)]
struct Probe {
    #[state(config)]
    mistake: String,
    #[state(config)]
    step: u32,
    ticks: u32,
    /// Ten tokens for each round, so that no two in flight are equal.
    rounds: u64,
    log: Vec<u8>,
}

#[derive(DeviceConfig)]
struct Config {
    /// Which rule to break.
    #[config(default = "")]
    mistake: String,
    #[config(default = 3, min = 1)]
    step: u32,
}

const TICKS: u64 = 0;
const ARM: u64 = 4;
const BH: u64 = 8;
const DMA: u64 = 12;
const BLK: u64 = 16;
const BREAK_RULE: u64 = 20;

impl Device for Probe {
    type Config = Config;

    fn describe(_: &Config) -> DeviceDesc {
        DeviceDesc::new("probe", "for tests")
            .region("regs", 0x20, 4)
            .inputs("in", 2)
            .output("irq")
            .timer("late")
            .timer("early")
            .bottom_half("work")
            .port("serial", PortKind::Chr)
            .port("disk", PortKind::Blk)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        if config.step == 13 {
            return Err(ConfigError { path: "step".into(), message: "bad luck".into() });
        }
        Ok(Self { mistake: config.mistake, step: config.step, ..Self::default() })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        self.ticks = 0;
        self.rounds = 0;
        self.log.clear();
        cx.set_pin(OutPin(0), false);
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        match access.offset {
            TICKS => Ok(u64::from(self.ticks) | 0xffff_ffff_0000_0000),
            _ => Err(Fault),
        }
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.offset {
            ARM => {
                cx.timer_arm(Timer(0), cx.now_ns() + value % 1000);
                cx.timer_arm(Timer(1), cx.now_ns() + value % 1000);
            }
            BH => {
                cx.bh_schedule(Bh(0));
                cx.bh_schedule(Bh(0));
                cx.bh_oneshot(Bh(0), &[value as u8]);
            }
            DMA => {
                let mut data = [0; 4];
                let done = cx.dma_read(value, &mut data).is_ok();
                match cx.ram(value) {
                    Some(mut ram) if done => {
                        ram.write_slice(value, &data.map(|b| b + 1)).map_err(|_| Fault)?
                    }
                    _ if done => cx.dma_write(value, &data.map(|b| b + 1)).map_err(|_| Fault)?,
                    _ => self.log.push(b'!'),
                }
            }
            BLK => {
                let first = 10 * self.rounds;
                self.rounds += 1;
                cx.blk_submit(Port(1), first + 7, BlockOp::Write { offset: 512, data: &[value as u8; 512] });
                cx.blk_submit(Port(1), first + 8, BlockOp::Read { offset: 512, len: 512 });
                cx.blk_submit(Port(1), first + 9, BlockOp::Read { offset: 1024, len: 512 });
            }
            BREAK_RULE => match self.mistake.as_str() {
                "panic" => panic!("value is {value}"),
                "pin" => cx.set_pin(OutPin(1), true),
                "storm" => cx.timer_arm(Timer(0), 0),
                _ => cx.power_off(3),
            },
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        self.ticks += self.step;
        self.log.push(b'0' + timer.0 as u8);
        cx.set_pin(OutPin(0), self.ticks % 2 == 1);
        if self.mistake == "storm" {
            cx.timer_arm(timer, cx.now_ns());
        }
    }

    fn on_bh(&mut self, _: &mut Ctx<'_>, _: Bh, payload: Option<&[u8]>) {
        self.log.extend(payload.unwrap_or(b"bh"));
    }

    fn on_pin(&mut self, cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        cx.log(crate::LogLevel::Info, format_args!("pin {} is {high}", pin.0));
    }

    fn on_port(&mut self, cx: &mut Ctx<'_>, port: Port, event: PortEvent) {
        let mut data = [0; 2];
        if event == PortEvent::Readable {
            let len = cx.port_read(port, &mut data);
            cx.port_write(port, &data[..len]);
        }
    }

    fn on_blk(&mut self, _: &mut Ctx<'_>, done: BlockDone<'_>) {
        self.log.push(b'0' + (done.token % 10) as u8);
        self.log.push(if done.ok { b'+' } else { b'-' });
        self.log.extend(done.data.first());
    }
}

fn probe() -> FakeHost<Probe> {
    FakeHost::new(Config::default())
}

fn broken(mistake: &str) -> FakeHost<Probe> {
    FakeHost::new(Config { mistake: mistake.to_owned(), ..Config::default() })
}

#[test]
fn accesses_reach_the_device_as_the_bus_lets_them() {
    let mut h = probe();
    assert_eq!(h.read32(TICKS), 0);
    assert_eq!(h.read(0, TICKS, Size::B4), Ok(0), "the upper half was cut off");
    assert_eq!(h.read(0, 28, Size::B4), Err(Fault), "the device's own");
    for (region, offset, size) in [(0, 0, Size::B8), (0, 2, Size::B4), (0, 0x20, Size::B4), (1, 0, Size::B4)]
    {
        assert_eq!(h.read(region, offset, size), Err(Fault));
    }
    assert_eq!(h.read(0, u64::MAX - 3, Size::B4), Err(Fault));
}

#[test]
fn equal_deadlines_fire_in_the_order_of_arming() {
    let mut h = probe();
    h.write32(ARM, 50);
    assert_eq!((h.timer("late"), h.timer("early"), h.next_deadline()), (Some(50), Some(50), Some(50)));
    h.advance(49);
    assert_eq!(h.device().ticks, 0);
    h.advance(1);
    assert_eq!((h.device().log.as_slice(), h.now_ns()), (&b"01"[..], 50));
    assert_eq!(h.pin_log(), [(50, "irq".to_owned(), true), (50, "irq".to_owned(), false)]);
}

#[test]
fn bottom_halves_run_in_order_and_a_queued_one_once() {
    let mut h = probe();
    h.write32(BH, u32::from(b'x'));
    assert!(h.device().log.is_empty(), "not before the safe point");
    h.advance(0);
    assert_eq!(h.device().log, b"bhx");
}

#[test]
fn dma_is_the_same_with_and_without_windows() {
    for windows in [true, false] {
        let mut h = probe();
        h.set_windows(windows);
        h.ram_write(RAM_BASE + 0x1ffe, &[1, 2, 3, 4]);
        h.set_watched(RAM_BASE + 0x2000);
        h.write32(DMA, (RAM_BASE + 0x1ffe) as u32);
        assert_eq!(h.ram_read(RAM_BASE + 0x1ffe, 4), [2, 3, 4, 5]);
        assert!(h.is_dirty(RAM_BASE + 0x1000) && h.is_dirty(RAM_BASE + 0x2000) && !h.is_dirty(RAM_BASE));
        assert_eq!(h.code_writes(), [(RAM_BASE + 0x1ffe, 4)]);
        h.write32(DMA, (RAM_BASE + RAM_SIZE - 3) as u32);
        assert_eq!(h.device().log, b"!", "the last byte is outside");
    }
}

#[test]
fn block_requests_complete_later_and_in_order() {
    let mut h = probe();
    h.attach_disk("disk", vec![0; 1024], false);
    h.write32(BLK, u32::from(b'd'));
    h.advance(999);
    assert!(h.device().log.is_empty());
    h.advance(1);
    assert_eq!(h.device().log, b"7+8+d9-");
    assert_eq!(h.disk("disk")[512..], [b'd'; 512]);
}

#[test]
fn a_read_only_or_missing_disk_refuses_writes() {
    let mut h = probe();
    h.write32(BLK, 1);
    h.advance(1000);
    assert_eq!(h.device().log, b"7-8-9-");
    h.attach_disk("disk", vec![5; 1024], true);
    h.reset(Reset::Warm);
    h.write32(BLK, 1);
    h.advance(1000);
    assert_eq!(h.device().log, b"7-8+\x059-");
}

#[test]
fn ports_pins_controls_and_logs_are_recorded() {
    let mut h = probe();
    h.port_input("serial", b"abc");
    assert_eq!((h.port_output("serial"), h.port_waiting("serial")), (b"ab".to_vec(), 1));
    h.port_event("serial", PortEvent::Readable);
    assert_eq!(h.port_output("serial"), b"c");
    h.set_input("in.1", true);
    h.set_input("in.1", true);
    assert_eq!(h.logs(), [(2, "pin 1 is true".to_owned())]);
    h.write32(BREAK_RULE, 0);
    assert_eq!(h.controls(), [Control::PowerOff(3)]);
}

#[test]
fn save_load_keeps_what_the_host_owns() {
    let mut h = probe();
    h.write32(ARM, 10);
    h.save_load();
    h.advance(10);
    h.save_load();
    assert_eq!((h.read32(TICKS), h.device().step), (6, 3));
}

#[test]
fn reset_drops_what_was_armed() {
    let mut h = probe();
    h.write32(ARM, 10);
    h.write32(BH, 1);
    h.write32(BLK, 1);
    h.reset(Reset::Warm);
    h.advance(5000);
    assert!(h.device().log.is_empty());
}

#[test]
fn a_good_device_passes_the_fuzzers() {
    let mut h = probe();
    h.attach_disk("disk", vec![0; 4096], false);
    for seed in 0..4 {
        h.fuzz(seed, 500);
        h.fuzz_load(seed, 50);
    }
}

fn failure(body: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = std::panic::catch_unwind(body).expect_err("the test kit must find it");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn mistakes_are_found_and_named() {
    let text = failure(|| broken("panic").write32(BREAK_RULE, 5));
    assert!(text.starts_with("probe panicked in mmio_write: value is 5 at "), "{text}");
    assert!(text.contains("testkit/tests.rs:"), "{text}");
    let text = failure(|| broken("pin").write32(BREAK_RULE, 5));
    assert_eq!(text, "probe in mmio_write: output pin 1 is not in the descriptor, which declares 1");
    let text = failure(|| {
        let mut h = broken("storm");
        h.write32(BREAK_RULE, 0);
        h.advance(1);
    });
    assert_eq!(text, "a million safe points before 1 ns: the device arms without end");
    let text = failure(|| drop(FakeHost::<Probe>::new(Config { step: 13, ..Config::default() })));
    assert_eq!(text, "option `step`: bad luck");
    let text = failure(|| drop(FakeHost::<Probe>::new(Config { step: 0, ..Config::default() })));
    assert_eq!(text, "option `step`: 0 is less than 1, the minimum");
}

/// A device whose author forgot that a field is state.
#[derive(DeviceState, Default)]
struct Forgetful {
    #[state(config)]
    count: u32,
}

impl Device for Forgetful {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("forgetful", "for tests").region("regs", 8, 4)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.count = 0;
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, _: Access) -> Result<u64, Fault> {
        self.count += 1;
        Ok(self.count.into())
    }

    fn mmio_write(&mut self, _: &mut Ctx<'_>, _: Access, _: u64) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn a_forgotten_field_is_found_by_the_fuzzer() {
    let text = failure(|| FakeHost::<Forgetful>::new(()).fuzz(1, 500));
    assert!(text.contains("with save and load (left), without (right)"), "{text}");
}
