//! What goes wrong at a reset.

use reprise_plugin_api::{ConfigError, Ctx, DeviceState, Reset};
use reprise_plugin_bad::{IRQ, Sin, TICK};

/// Keeps a field.
#[derive(DeviceState)]
pub(crate) struct Resets {
    value: u32,
}

impl Sin for Resets {
    const KIND: &'static str = "resets";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { value: 0 })
    }

    fn write(&mut self, _: &mut Ctx<'_>, _: u64, value: u32) {
        self.value = value;
    }
}

/// Leaves its pin as it is.
#[derive(DeviceState)]
pub(crate) struct Pins {
    high: bool,
}

impl Sin for Pins {
    const KIND: &'static str = "reset-pins";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { high: false })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.high = false;
    }

    fn write(&mut self, cx: &mut Ctx<'_>, _: u64, value: u32) {
        self.high = value % 4 != 3;
        cx.set_pin(IRQ, self.high);
    }
}

/// Starts to tick only when it is switched on.
#[derive(DeviceState)]
pub(crate) struct Timers {
    ticks: u32,
}

impl Sin for Timers {
    const KIND: &'static str = "reset-timers";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { ticks: 0 })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        self.ticks = 0;
        if kind == Reset::Cold {
            cx.timer_arm(TICK, cx.now_ns() + 1000);
        }
    }

    fn tick(&mut self, cx: &mut Ctx<'_>) {
        self.ticks = self.ticks.wrapping_add(1);
        cx.timer_arm(TICK, cx.now_ns() + 1000);
    }
}
