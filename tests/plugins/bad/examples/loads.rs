//! Describes a region without a byte.

use reprise_plugin_api::{ConfigError, DeviceState, desc::DeviceDesc};
use reprise_plugin_bad::{Bad, Sin};

/// The device.
#[derive(DeviceState)]
pub struct Nothing {}

impl Sin for Nothing {
    const KIND: &'static str = "loads";
    type Config = ();

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn describe(desc: DeviceDesc) -> DeviceDesc {
        desc.region("nothing", 0, 4)
    }
}

reprise_plugin_api::export_devices!(Bad<Nothing>);
