//! Devices that are odd but good: a checker that finds something in one of them is wrong.

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceState, Fault, InPin, LogLevel, OutPin, Reset, Size, Timer,
    desc::DeviceDesc,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    sync::{LazyLock, OnceLock},
};

/// A table that is made when it is first needed.
static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| (0..256u32).map(|n| n * n).collect());
static CUBES: OnceLock<Vec<u32>> = OnceLock::new();

/// Makes tables in statics, once; the same ones whenever that is.
#[derive(DeviceState)]
pub(crate) struct Tables {
    index: u8,
}

impl Device for Tables {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("tables", "lazy statics").region("regs", 16, 1 | 2 | 4)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { index: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.index = 0;
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let cubes = CUBES.get_or_init(|| (0..256u32).map(|n| n * n * n).collect());
        let table = if access.offset < 8 { &*SQUARES } else { cubes };
        Ok(table[usize::from(self.index)].into())
    }

    fn mmio_write(&mut self, _: &mut Ctx<'_>, _: Access, value: u64) -> Result<(), Fault> {
        self.index = value as u8;
        Ok(())
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Copies guest memory by a buffer that all devices of the thread share, and that carries nothing over.
#[derive(DeviceState)]
pub(crate) struct Copier {
    from_gpa: u64,
    copies: u64,
    last: Option<Vec<u8>>,
}

impl Device for Copier {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("copier", "a shared scratch buffer").region("regs", 0x1000, 8).output("done")
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { from_gpa: 0, copies: 0, last: None })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        *self = Self { from_gpa: 0, copies: 0, last: None };
        cx.set_pin(OutPin(0), false);
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        if access.offset < 0x800 { Ok(self.copies) } else { Err(Fault) }
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        if access.offset < 16 {
            self.from_gpa = value;
            return Ok(());
        }
        let copied = SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.resize(64, 0);
            cx.dma_read(self.from_gpa, scratch).is_ok() && cx.dma_write(value, scratch).is_ok()
        });
        self.copies = self.copies.wrapping_add(u64::from(copied));
        self.last = copied.then(|| SCRATCH.with_borrow(|scratch| scratch[..8].to_vec()));
        cx.set_pin(OutPin(0), copied);
        Ok(())
    }
}

/// No registers: only pins, of which there are many, and a timer for each level.
#[derive(DeviceState)]
pub(crate) struct Delay {
    waiting: VecDeque<(u16, bool)>,
    levels: Box<[bool]>,
}

const PINS: u32 = 1000;
const DELAY_NS: u64 = 50;

impl Device for Delay {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("delay", "pins only").inputs("in", PINS).outputs("out", PINS).timer("next")
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { waiting: VecDeque::new(), levels: vec![false; PINS as usize].into() })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        self.waiting.clear();
        self.levels.fill(false);
        (0..PINS).for_each(|pin| cx.set_pin(OutPin(pin), false));
    }

    fn on_pin(&mut self, cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        self.waiting.push_back((pin.0 as u16, high));
        if cx.timer_deadline(Timer(0)).is_none() {
            cx.timer_arm(Timer(0), cx.now_ns() + DELAY_NS);
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        if let Some((pin, high)) = self.waiting.pop_front() {
            self.levels[usize::from(pin)] = high;
            cx.set_pin(OutPin(pin.into()), high);
        }
        if !self.waiting.is_empty() {
            cx.timer_arm(timer, cx.now_ns() + DELAY_NS);
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        let known = |(pin, _): &(u16, bool)| u32::from(*pin) < PINS;
        if self.waiting.iter().all(known) { Ok(()) } else { Err("a pin that there is not".to_owned()) }
    }
}

/// A cache that reads fill, and that is not saved; and a field that a battery keeps.
#[derive(DeviceState)]
pub(crate) struct Cached {
    words: BTreeMap<u16, u32>,
    battery: u32,
    #[state(skip, rebuild = "Self::forget")]
    sum: Cell<Option<u64>>,
}

impl Cached {
    fn forget(&mut self) {
        self.sum.set(None);
    }
}

impl Device for Cached {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("cached", "a cache and a battery")
            .region("a", 0x100, 4)
            .region("b", 0x8, 1)
            .keeps("battery")
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { words: BTreeMap::new(), battery: 0, sum: Cell::new(None) })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, kind: Reset) {
        self.words.clear();
        self.sum.set(None);
        if kind == Reset::Cold {
            self.battery = 0;
        }
    }

    fn mmio_read(&mut self, _: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        if access.size == Size::B1 {
            return Ok(self.battery.into());
        }
        let sum = self.sum.get().unwrap_or_else(|| self.words.values().map(|word| u64::from(*word)).sum());
        self.sum.set(Some(sum));
        Ok(sum)
    }

    fn mmio_write(&mut self, _: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.size {
            Size::B1 => self.battery = value as u32,
            Size::B2 | Size::B4 | Size::B8 => drop(self.words.insert(access.offset as u16, value as u32)),
        }
        self.sum.set(None);
        Ok(())
    }
}

/// Asks the host for everything that it has: wall clock, random bytes, log; and computes with fractions.
#[derive(DeviceState)]
pub(crate) struct Curious {
    /// Bits of a double.
    mean: u64,
    seen: [u8; 8],
    started_ns: u64,
}

impl Device for Curious {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("curious", "everything that a context has").region("regs", 8, 8).timer("tick")
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { mean: 0, seen: [0; 8], started_ns: 0 })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        *self = Self { mean: 0, seen: [0; 8], started_ns: cx.now_ns() };
        cx.timer_arm(Timer(0), cx.now_ns() + 1000);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, _: Access) -> Result<u64, Fault> {
        cx.random(&mut self.seen);
        Ok(u64::from_le_bytes(self.seen) ^ cx.host_clock_ns() ^ self.started_ns)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, _: Access, value: u64) -> Result<(), Fault> {
        let mean = f64::from_bits(self.mean).sqrt() / 3.0 + value as f64 * 0.1;
        self.mean = mean.to_bits();
        cx.log(LogLevel::Debug, format_args!("the mean is {mean}"));
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        let next = cx.now_ns().saturating_mul(2).max(1000);
        cx.timer_arm(timer, next);
    }
}

reprise_plugin_api::export_devices!(Tables, Copier, Delay, Cached, Curious);
