//! What is not the same twice, or not alone.

use reprise_plugin_api::{ConfigError, Ctx, DeviceState, Reset, StateError, Writer, state::Reader};
use reprise_plugin_bad::{Sin, sin_on_write};
use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

/// Takes an address for a number.
#[derive(DeviceState)]
pub(crate) struct Twice {
    at: u64,
}

impl Sin for Twice {
    const KIND: &'static str = "twice";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        let somewhere = Box::new([0u8; 1024]);
        let at = std::hint::black_box(&raw const *somewhere).addr() as u64;
        Ok(Self { at })
    }
}

/// Takes a function's address for a number.
#[derive(DeviceState)]
pub(crate) struct Processes {
    at: u64,
}

fn somewhere() {}

impl Sin for Processes {
    const KIND: &'static str = "processes";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { at: (somewhere as fn() as *const u8).addr() as u64 })
    }
}

thread_local! {
    static ALIVE: Cell<u64> = const { Cell::new(0) };
}

/// Knows how many there are.
#[derive(DeviceState)]
pub(crate) struct Instances {}

impl Sin for Instances {
    const KIND: &'static str = "instances";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        ALIVE.set(ALIVE.get() + 1);
        Ok(Self {})
    }

    fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
        ALIVE.get()
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
    }
}

static WRITES: AtomicU64 = AtomicU64::new(0);

sin_on_write! {
    /// Counts in a static.
    Statics, "statics", |cx, value| {
        WRITES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts how often it was saved.
pub(crate) struct Looking {
    saves: Cell<u32>,
}

impl DeviceState for Looking {
    const VERSION: u32 = 1;

    fn save(&self, out: &mut Writer<'_>) {
        out.field("saves").uint(self.saves.get().to_le_bytes());
        self.saves.set(self.saves.get().wrapping_add(1));
    }

    fn load(&mut self, record: &Reader<'_>) -> Result<(), StateError> {
        record.only(&["saves"])?;
        self.saves.set(record.field("saves")?.uint()? as u32);
        Ok(())
    }
}

impl Sin for Looking {
    const KIND: &'static str = "looking";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { saves: Cell::new(0) })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.saves.set(0);
    }
}
