//! state
/// State of a device.
pub trait DeviceState {}
/// Writer.
pub struct Writer;
/// Reader.
pub struct Reader;
/// Error.
pub struct StateError;
