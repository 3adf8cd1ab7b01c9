//! What goes wrong with saved state. Records are read and written by hand where the derive would not go wrong.

use reprise_plugin_api::{ConfigError, Ctx, DeviceState, Reset, StateError, Writer, state::Reader};
use reprise_plugin_bad::Sin;
use std::{cell::RefCell, collections::BTreeMap};

/// Saves two fields of one name.
pub(crate) struct Record {}

impl DeviceState for Record {
    const VERSION: u32 = 1;

    fn save(&self, out: &mut Writer<'_>) {
        out.field("value").bool(true);
        out.field("value").bool(false);
    }

    fn load(&mut self, _: &Reader<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

impl Sin for Record {
    const KIND: &'static str = "record";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }
}

/// Counts how often it was loaded.
#[derive(DeviceState)]
pub(crate) struct Fixpoint {
    loads: u32,
}

impl Sin for Fixpoint {
    const KIND: &'static str = "fixpoint";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { loads: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.loads = 0;
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.loads = self.loads.wrapping_add(1);
        Ok(())
    }
}

/// Takes a counter for configuration.
#[derive(DeviceState)]
pub(crate) struct Reload {
    #[state(config)]
    reads: u64,
}

impl Sin for Reload {
    const KIND: &'static str = "reload";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { reads: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.reads = 0;
    }

    fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
        self.reads += 1;
        self.reads
    }
}

thread_local! {
    static VALUES: RefCell<BTreeMap<u32, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Saves where a value is, in a table of the process, and not the value.
#[derive(DeviceState)]
pub(crate) struct Isolated {
    key: u32,
}

impl Sin for Isolated {
    const KIND: &'static str = "isolated";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { key: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.key = 0;
    }

    fn write(&mut self, _: &mut Ctx<'_>, _: u64, value: u32) {
        self.key = value.wrapping_mul(0x9e37_79b9) | 1;
        VALUES.with_borrow_mut(|values| values.insert(self.key, value));
    }

    fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
        VALUES.with_borrow(|values| values.get(&self.key).copied().unwrap_or(0x5a5a)).into()
    }
}

/// A device with one number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $version:literal, mask $mask:literal,
     |$self:ident, $record:ident| $load:expr, read |$reader:ident| $read:expr) => {
        $(#[$doc])*
        pub(crate) struct $name {
            value: u32,
        }

        impl DeviceState for $name {
            const VERSION: u32 = $version;

            fn save(&self, out: &mut Writer<'_>) {
                out.field("value").uint(self.value.to_le_bytes());
            }

            fn load(&mut self, $record: &Reader<'_>) -> Result<(), StateError> {
                let $self = self;
                $load
            }
        }

        impl Sin for $name {
            const KIND: &'static str = $kind;
            type Config = ();

            fn create((): ()) -> Result<Self, ConfigError> {
                Ok(Self { value: 0 })
            }

            fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
                self.value = 0;
            }

            fn write(&mut self, _: &mut Ctx<'_>, _: u64, value: u32) {
                self.value = value & $mask;
            }

            fn read(&mut self, _: &mut Ctx<'_>, _: u64) -> u64 {
                let $reader = self;
                $read
            }
        }
    };
}

fn value(record: &Reader<'_>) -> Result<u32, StateError> {
    record.only(&["value"])?;
    Ok(record.field("value")?.uint()? as u32)
}

number! {
    /// Adds what is loaded to what was there.
    Overwrites, "overwrites", 1, mask 0xffff_ffff,
    |this, record| {
        this.value |= value(record)?;
        Ok(())
    },
    read |this| this.value.into()
}

number! {
    /// Believes that a record has only what it saved.
    Garbage, "garbage", 1, mask 0xff,
    |this, record| {
        let value = value(record)?;
        this.value = u8::try_from(value).expect("nobody saves more").into();
        Ok(())
    },
    read |this| this.value.into()
}

number! {
    /// Does not check an index that it loads.
    Impossible, "impossible", 1, mask 3,
    |this, record| {
        this.value = value(record)?;
        Ok(())
    },
    read |this| [10, 20, 30, 40][this.value as usize]
}

number! {
    /// Believes that there are no old records.
    Versions, "versions", 2, mask 0xffff_ffff,
    |this, record| {
        assert_eq!(record.version(), 2, "everybody has the new version");
        this.value = value(record)?;
        Ok(())
    },
    read |this| this.value.into()
}

number! {
    /// Does not mind if a field is missing.
    Complete, "complete", 1, mask 0xffff_ffff,
    |this, record| {
        record.only(&["value"])?;
        if let Ok(value) = record.field("value") {
            this.value = value.uint()? as u32;
        }
        Ok(())
    },
    read |this| this.value.into()
}
