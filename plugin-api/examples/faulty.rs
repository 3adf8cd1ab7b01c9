//! A plugin with the mistakes that a host must survive. For the tests of the loader; not a model.

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Reset, StateError, Writer,
    desc::DeviceDesc, state::Reader,
};

/// Writing here panics.
const PANIC: u64 = 0;
/// Writing here makes the next save panic.
const PANIC_ON_SAVE: u64 = 4;
/// Writing here keeps the value.
const VALUE: u64 = 8;

/// The options.
#[derive(DeviceConfig)]
pub struct Config {
    /// Where to panic: not at all, when created, or when described.
    #[config(default = "no", one_of = ["no", "create", "describe"])]
    pub panic: String,
    /// Without a default, so that it must be given.
    #[config(min = 1)]
    pub needed: u32,
}

/// The device.
pub struct Faulty {
    value: u32,
    panic_on_save: bool,
}

// By hand, because the derive has no way to go wrong.
impl DeviceState for Faulty {
    const VERSION: u32 = 1;

    fn save(&self, out: &mut Writer<'_>) {
        assert!(!self.panic_on_save, "cannot save");
        out.field("value").uint(self.value.to_le_bytes());
    }

    fn load(&mut self, record: &Reader<'_>) -> Result<(), StateError> {
        let value = record.field("value")?.uint()?;
        self.value = u32::try_from(value).expect("a host can send anything");
        Ok(())
    }
}

impl Device for Faulty {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        assert!(config.panic != "describe", "cannot describe");
        DeviceDesc::new("faulty", "a device with mistakes").region("regs", 16, 4)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        assert!(config.panic != "create", "cannot create");
        Ok(Self { value: config.needed, panic_on_save: false })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {}

    fn mmio_read(&mut self, _: &mut Ctx<'_>, _: Access) -> Result<u64, Fault> {
        Ok(self.value.into())
    }

    fn mmio_write(&mut self, _: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.offset {
            PANIC => panic!("told to by {value:#x}"),
            PANIC_ON_SAVE => self.panic_on_save = true,
            VALUE => self.value = value as u32,
            _ => return Err(Fault),
        }
        Ok(())
    }
}

reprise_plugin_api::export_devices!(Faulty);
