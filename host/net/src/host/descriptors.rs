//! File descriptors: how many there may be, and what of them is not the guest's to use up.

use nix::libc;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

/// Those that the rest of the process needs, whatever the guest does: recordings, snapshots, monitors, debuggers.
const RESERVED: RawFd = 128;

/// Below this, descriptors are for sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors(pub(super) RawFd);

impl Descriptors {
    /// As many as the process may have: ten thousand connections are ten thousand descriptors.
    pub(super) fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // The soft limit may stay; connections beyond it are refused.
        let _stays = setrlimit(Resource::Nofile, limit);
        let most = getrlimit(Resource::Nofile).current.and_then(|most| RawFd::try_from(most).ok());
        let most = most.unwrap_or(RawFd::MAX);
        Self(most - RESERVED.min(most / 4))
    }

    /// Whether a descriptor that was just made leaves enough to the others. The kernel gives the lowest that is free,
    /// so its number says how many there are at least.
    ///
    /// # Errors
    /// It does not: as if the kernel had had none.
    pub(super) fn check(self, made: &impl AsRawFd) -> io::Result<()> {
        if made.as_raw_fd() < self.0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EMFILE)) }
    }
}
