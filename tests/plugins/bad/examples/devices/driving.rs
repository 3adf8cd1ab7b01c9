//! What goes wrong as soon as a device is driven.

use reprise_plugin_api::{
    BlockOp, ConfigError, Ctx, DeviceState, OutPin, Reset, StateError, Writer, private::abi::hot::CtxRaw,
    state::Reader,
};
use reprise_plugin_bad::{DISK, IRQ, Sin, TICK, WORK, sin_on_write};
use std::cell::Cell;

sin_on_write! {
    /// Panics at a number of the guest's.
    Panics, "panics", |cx, value| assert!(value != 5, "a guest can write anything")
}

sin_on_write! {
    /// Ends the process.
    Survives, "survives", |cx, value| if value == 5 {
        std::process::abort()
    }
}

sin_on_write! {
    /// Waits for something that no longer comes.
    Returns, "returns", |cx, value| while std::hint::black_box(value) == 5 {
        std::hint::spin_loop();
    }
}

sin_on_write! {
    /// Has more pins than it says.
    Declared, "declared", |cx, value| cx.set_pin(OutPin(7), true)
}

sin_on_write! {
    /// Uses one token for all requests.
    Tokens, "tokens", |cx, value| cx.blk_submit(DISK, 7, BlockOp::Read { offset: 0, len: 512 })
}

sin_on_write! {
    /// Rounds down from then on.
    Float, "float", |cx, value| {
        let control = 0x3f80u32;
        // SAFETY: all exceptions masked, rounding down: a value that the register takes.
        unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control) }
    }
}

sin_on_write! {
    /// Reads the processor's counter.
    Counter, "counter", |cx, value| {
        // SAFETY: every processor of this architecture has it.
        std::hint::black_box(unsafe { core::arch::x86_64::_rdtsc() });
    }
}

/// Arms its timer for now.
#[derive(DeviceState)]
pub(crate) struct TimerStorm {}

impl Sin for TimerStorm {
    const KIND: &'static str = "timer-storm";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn write(&mut self, cx: &mut Ctx<'_>, _: u64, _: u32) {
        cx.timer_arm(TICK, cx.now_ns() + 1000);
    }

    fn tick(&mut self, cx: &mut Ctx<'_>) {
        cx.timer_arm(TICK, cx.now_ns());
    }
}

/// Queues its bottom half from its bottom half.
#[derive(DeviceState)]
pub(crate) struct BhStorm {}

impl Sin for BhStorm {
    const KIND: &'static str = "bh-storm";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn write(&mut self, cx: &mut Ctx<'_>, _: u64, _: u32) {
        cx.bh_schedule(WORK);
    }

    fn work(&mut self, cx: &mut Ctx<'_>) {
        cx.bh_schedule(WORK);
    }
}

/// Keeps its context, and raises a pin while it is saved.
pub(crate) struct Outside {
    kept: Cell<*mut CtxRaw>,
}

impl DeviceState for Outside {
    const VERSION: u32 = 1;

    fn save(&self, _: &mut Writer<'_>) {
        if !self.kept.get().is_null() {
            // SAFETY: none: this is what the rule is against.
            unsafe { Ctx::from_raw(self.kept.get()) }.set_pin(IRQ, true);
        }
    }

    fn load(&mut self, _: &Reader<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

impl Sin for Outside {
    const KIND: &'static str = "outside";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { kept: Cell::new(core::ptr::null_mut()) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        self.kept.set(raw(cx));
    }
}

/// The raw context in a context, which has nothing else in it.
pub(crate) fn raw(cx: &mut Ctx<'_>) -> *mut CtxRaw {
    let inside = (&raw mut *cx).cast::<*mut CtxRaw>();
    // SAFETY: none that lasts: the layout is not promised. Only a device that means harm reads it.
    unsafe { inside.read() }
}
