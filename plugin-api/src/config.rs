//! Device options: values with a schema.
pub use reprise_abi::desc::ConfigError;
/// Options of a device.
pub trait DeviceConfig: Default {}
