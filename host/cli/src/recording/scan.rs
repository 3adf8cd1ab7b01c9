//! Going through a log from its beginning, without a machine.

use super::{Store, corrupt};
use crate::failure::{Exit, Failure};
use reprise_machine::replay::{
    Event, Record,
    log::{LogError, LogReader, Next, Tail},
};

/// Show each record to `visit` until it has seen enough. Returns how the log ends, if it was read that far.
pub(crate) fn scan(
    store: &Store,
    mut visit: impl FnMut(&Record) -> Result<bool, Failure>,
) -> Result<Option<Tail>, Failure> {
    let mut reader = LogReader::open(store.segments()).map_err(|error| damage(store, &error))?;
    loop {
        match reader.next().map_err(|error| damage(store, &error))? {
            Next::Record(record) => {
                if !visit(&record)? {
                    return Ok(None);
                }
            }
            Next::Tail(tail) => return Ok(Some(tail)),
        }
    }
}

/// A log that cannot be read on, told with segment and offset.
pub(crate) fn damage(store: &Store, error: &LogError) -> Failure {
    match error {
        LogError::Refused { .. }
        | LogError::Corrupt { .. }
        | LogError::NoSeed
        | LogError::NoRecord { .. } => corrupt(store.path(), error.to_string()),
        LogError::Source { .. } | LogError::Sink { .. } | LogError::Oversized { .. } => {
            Failure::new(Exit::Io, "cannot read the recording")
                .at(store.path().display())
                .note(error.to_string())
        }
    }
}

/// Names in place of the log's indices.
pub(crate) struct Names<'a>(pub(crate) &'a Store);

impl Names<'_> {
    /// The device with this index.
    pub(crate) fn device(&self, index: u32) -> String {
        let devices = &self.0.manifest().devices;
        devices.get(index as usize).map_or_else(|| format!("device {index}"), |device| device.id.clone())
    }

    /// `device.port`.
    pub(crate) fn port(&self, device: u32, port: u32) -> String {
        let row = self.0.manifest().devices.get(device as usize);
        let name = row.and_then(|row| row.ports.get(port as usize));
        format!("{}.{}", self.device(device), name.map_or_else(|| port.to_string(), Clone::clone))
    }

    /// The device that an event is for.
    pub(crate) fn device_of(&self, event: &Event) -> Option<String> {
        match event {
            Event::Input { device, .. }
            | Event::PortChange { device, .. }
            | Event::BottomHalf { device, .. } => Some(self.device(*device)),
            Event::Control(_)
            | Event::WriteMemory { .. }
            | Event::WriteRegister { .. }
            | Event::HostClock { .. } => None,
        }
    }
}
