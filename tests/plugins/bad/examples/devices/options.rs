//! What goes wrong with options and creation.

use reprise_plugin_api::{ConfigError, Ctx, DeviceConfig, DeviceState, desc::DeviceDesc};
use reprise_plugin_bad::Sin;
use std::cell::Cell;

thread_local! {
    static DESCRIBED: Cell<u32> = const { Cell::new(0) };
    static FAILED: Cell<u64> = const { Cell::new(0) };
}

/// Describes itself each time in other words.
#[derive(DeviceState)]
pub(crate) struct Describes {}

impl Sin for Describes {
    const KIND: &'static str = "describes";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn describe(mut desc: DeviceDesc) -> DeviceDesc {
        DESCRIBED.set(DESCRIBED.get() + 1);
        desc.summary = format!("described {} times", DESCRIBED.get());
        desc
    }
}

/// A number.
#[derive(DeviceConfig)]
pub(crate) struct Divider {
    /// By which something is divided.
    #[config(default = 0)]
    pub divider: u32,
}

/// Refuses its defaults.
#[derive(DeviceState)]
pub(crate) struct Defaults {}

impl Sin for Defaults {
    const KIND: &'static str = "defaults";
    type Config = Divider;

    fn create(config: Divider) -> Result<Self, ConfigError> {
        match config.divider {
            0 => Err(ConfigError { path: "divider".into(), message: "is 0".into() }),
            _ => Ok(Self {}),
        }
    }
}

/// Any options.
#[derive(Default)]
pub(crate) struct Anything;

impl DeviceConfig for Anything {
    fn schema() -> reprise_plugin_api::private::serde_json::Value {
        Divider::schema()
    }

    fn from_json(_: &reprise_plugin_api::private::serde_json::Value) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn to_json(&self) -> reprise_plugin_api::private::serde_json::Value {
        Divider::default().to_json()
    }
}

/// Takes any options.
#[derive(DeviceState)]
pub(crate) struct Refuses {}

impl Sin for Refuses {
    const KIND: &'static str = "refuses";
    type Config = Anything;

    fn create(_: Anything) -> Result<Self, ConfigError> {
        Ok(Self {})
    }
}

/// A number from 0 on.
#[derive(DeviceConfig)]
pub(crate) struct Rate {
    /// In Hz.
    #[config(default = 1)]
    pub rate_hz: u32,
}

/// Divides by an option that may be 0.
#[derive(DeviceState)]
pub(crate) struct Creates {
    #[state(config)]
    period: u32,
}

impl Sin for Creates {
    const KIND: &'static str = "creates";
    type Config = Rate;

    fn create(config: Rate) -> Result<Self, ConfigError> {
        Ok(Self { period: 1_000_000 / config.rate_hz })
    }

    fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
        self.period.into()
    }
}

/// No options, and a note of those who gave some.
#[derive(Default)]
pub(crate) struct Noted;

impl DeviceConfig for Noted {
    fn schema() -> reprise_plugin_api::private::serde_json::Value {
        <()>::schema()
    }

    fn from_json(options: &reprise_plugin_api::private::serde_json::Value) -> Result<Self, ConfigError> {
        <()>::from_json(options).inspect_err(|_| FAILED.set(1))?;
        Ok(Self)
    }

    fn to_json(&self) -> reprise_plugin_api::private::serde_json::Value {
        ().to_json()
    }
}

/// Remembers that one could not be created.
#[derive(DeviceState)]
pub(crate) struct FailedCreate {}

impl Sin for FailedCreate {
    const KIND: &'static str = "failed-create";
    type Config = Noted;

    fn create(_: Noted) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
        FAILED.get()
    }
}

/// Never gives its memory back.
#[derive(DeviceState)]
pub(crate) struct Leaks {}

impl Sin for Leaks {
    const KIND: &'static str = "leaks";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        let page = vec![1u8; 1 << 16].into_boxed_slice();
        std::hint::black_box(Box::leak(page));
        Ok(Self {})
    }
}
