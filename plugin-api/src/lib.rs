//! Write a device for Reprise in safe Rust.

// The derives name this crate by its full path, also in its own tests.
extern crate self as reprise_plugin_api;

pub mod config;
pub mod ctx;
pub mod device;
pub mod export;
pub mod state;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod virtio;

pub use config::{ConfigError, DeviceConfig};
pub use ctx::{BlockInfo, BlockOp, Ctx, DmaError, LogLevel, Ram};
pub use device::{
    Access, Bh, BlockDone, Device, Fault, InPin, OutPin, Port, PortEvent, Region, Reset, Size, Timer,
};
pub use reprise_abi::desc;
pub use reprise_plugin_derive::{DeviceConfig, DeviceState};
pub use state::{DeviceState, Reader, StateError, Writer};

/// What `export_devices!` and the derives expand to needs these; not for authors.
#[doc(hidden)]
pub mod private {
    pub use abi_stable;
    pub use reprise_abi as abi;
    pub use serde_json;
}
