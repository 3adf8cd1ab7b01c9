//! Backends that are plugins: the outside halves of devices, on the I/O thread.

use super::link::Link;
use crate::{
    failure::printable,
    plugins::{as_path, plugin_name},
};
use mio::{Interest, Registry, Token, unix::SourceFd};
use reprise_machine::{
    PortChange,
    desc::ConfigError,
    plugin::{Backend, BackendOutside, BackendPlugin, Panicked},
};
use reprise_net::ExternalTimers;
use std::{io::ErrorKind, time::Instant};

/// Bytes of one line that a backend may log.
const LINE: usize = 1000;

/// A backend of a port that a plugin made.
pub(super) struct Half {
    /// The plugin's name.
    name: String,
    /// What it was opened from: build and options.
    plugin: BackendPlugin,
    options: String,
    /// `None`: it panicked.
    backend: Option<Backend>,
    /// When it wants to be polled, on the clock of [`Half::realtime_ns`].
    pub(super) realtime_at: Option<u64>,
    connected: bool,
    origin: Instant,
}

/// Where a half is: its port's index, and what it reaches there.
pub(super) struct Place<'a> {
    pub(super) port: usize,
    pub(super) token: Token,
    pub(super) timer: u32,
    pub(super) link: &'a Link,
    pub(super) registry: &'a Registry,
    pub(super) timers: &'a mut ExternalTimers,
}

impl Half {
    /// Open one with these options (a JSON object).
    pub(super) fn open(name: &str, plugin: BackendPlugin, options: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            backend: Some(plugin.open(options)?),
            name: name.to_owned(),
            plugin,
            options: options.to_owned(),
            realtime_at: None,
            connected: false,
            origin: Instant::now(),
        })
    }

    /// The build that it is of.
    pub(super) fn plugin(&self) -> BackendPlugin {
        self.plugin
    }

    /// Whether it is of the plugin of this name.
    pub(super) fn is_of(&self, plugin: &str) -> bool {
        let name = as_path(&self.name).map_or(Some(self.name.replace('_', "-")), |file| plugin_name(&file));
        name.is_some_and(|name| name == plugin.replace('_', "-"))
    }

    /// Begin anew, by another build with the same options. What it held is given back first, for the new one wants the
    /// same. An error: why the new one could not be opened, and whether the old build serves the port again.
    pub(super) fn restart(&mut self, new: BackendPlugin, place: Place<'_>) -> Result<(), (String, bool)> {
        self.backend = None;
        place.timers.cancel(place.timer);
        let mut poll = Poll { half: self, place, progress: false };
        poll.connected(false);
        let error = match Self::open(&self.name, new, &self.options) {
            Ok(fresh) => {
                *self = fresh;
                return Ok(());
            }
            Err(error) => error,
        };
        let again = Self::open(&self.name, self.plugin, &self.options);
        let is_back = again.is_ok();
        if let Ok(old) = again {
            *self = old;
        }
        Err((error.to_string(), is_back))
    }

    /// Nanoseconds of host time since it was opened.
    pub(super) fn realtime_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Let it do what it can. Whether bytes went either way.
    pub(super) fn poll(&mut self, place: Place<'_>) -> bool {
        let Some(mut backend) = self.backend.take() else { return false };
        let (external_ns, realtime_ns) = (place.link.clock.now_ns(), self.realtime_ns());
        // A time that has come is told once.
        self.realtime_at = self.realtime_at.filter(|at_ns| *at_ns > realtime_ns);
        let mut poll = Poll { half: self, place, progress: false };
        match backend.poll(&mut poll, external_ns, realtime_ns) {
            Ok(()) => {
                let progress = poll.progress;
                self.backend = Some(backend);
                progress
            }
            Err(Panicked) => {
                poll.connected(false);
                poll.log(0, "it is not asked any more, and nobody is at the other end of its port");
                self.realtime_at = None;
                false
            }
        }
    }
}

/// A half that is being polled.
struct Poll<'h, 'p> {
    half: &'h mut Half,
    place: Place<'p>,
    progress: bool,
}

impl BackendOutside for Poll<'_, '_> {
    fn take(&mut self, into: &mut [u8]) -> usize {
        let mut state = self.place.link.state();
        let output = &mut state.ports[self.place.port].output;
        let count = output.len().min(into.len());
        output.drain(..count).zip(into).for_each(|(byte, slot)| *slot = byte);
        drop(state);
        if count > 0 {
            self.place.link.drained();
            self.progress = true;
        }
        count
    }

    fn give(&mut self, data: &[u8]) -> usize {
        let room = self.place.link.state().ports[self.place.port].room();
        let count = data.len().min(room);
        if count > 0 {
            self.place.link.input(self.place.port, data[..count].to_vec());
            self.progress = true;
        }
        count
    }

    fn watch(&mut self, fd: i32, read: bool, write: bool) {
        let (registry, token) = (self.place.registry, self.place.token);
        let interest = match (read, write) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            // It may be closed already, and with it not watched any more.
            (false, false) => return drop(registry.deregister(&mut SourceFd(&fd))),
        };
        let watched = match registry.register(&mut SourceFd(&fd), token, interest) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                registry.reregister(&mut SourceFd(&fd), token, interest)
            }
            other => other,
        };
        if let Err(error) = watched {
            self.log(0, &format!("descriptor {fd} cannot be watched: {error}"));
        }
    }

    fn arm(&mut self, external: bool, at_ns: Option<u64>) {
        match (external, at_ns) {
            (true, Some(at_ns)) => self.place.timers.arm(self.place.timer, at_ns),
            (true, None) => self.place.timers.cancel(self.place.timer),
            (false, at_ns) => self.half.realtime_at = at_ns,
        }
    }

    fn connected(&mut self, on: bool) {
        if std::mem::replace(&mut self.half.connected, on) != on {
            let change = if on { PortChange::Opened } else { PortChange::Closed };
            self.place.link.event(self.place.port, change);
        }
    }

    fn log(&mut self, level: u32, text: &str) {
        let level = ["error", "warning", "info", "debug"][level.min(3) as usize];
        let text: String = text.chars().take(LINE).collect();
        self.place.link.notice(&format!("{level}: {}: {}\n", self.half.name, printable(&text)));
    }
}
