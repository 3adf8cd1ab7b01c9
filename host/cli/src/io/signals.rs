//! Signals as bytes on a socket that the I/O thread polls.

use mio::net::UnixStream;
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1},
    flag, low_level,
};
use std::{
    io::{self, Read},
    os::unix::net::UnixStream as StdStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The terminal is gone.
pub(super) const HANG_UP: i32 = SIGHUP;
/// Signals that end a run cleanly.
pub(super) const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// One of [`ENDING`].
    End(i32),
    /// The user wants the shell.
    Suspend,
    /// And us again.
    Continue,
    /// What the flight recorder keeps is wanted.
    Save,
}

/// The registered signals.
pub(super) struct Signals {
    pub(super) stream: UnixStream,
    flags: Vec<(i32, Arc<AtomicBool>)>,
}

impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        let (read, write) = StdStream::pair()?;
        read.set_nonblocking(true)?;
        let mut flags = Vec::new();
        for signal in ENDING.into_iter().chain([SIGTSTP, SIGCONT, SIGUSR1]) {
            let flag = Arc::new(AtomicBool::new(false));
            // Handlers run in the order of registration: the flag is up before the byte wakes us.
            flag::register(signal, Arc::clone(&flag))?;
            low_level::pipe::register(signal, write.try_clone()?)?;
            flags.push((signal, flag));
        }
        Ok(Self { stream: UnixStream::from_std(read), flags })
    }

    /// What came since the last call.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        while self.stream.read(&mut bytes).is_ok_and(|len| len > 0) {}
        let came =
            |(signal, flag): &(i32, Arc<AtomicBool>)| flag.swap(false, Ordering::AcqRel).then_some(*signal);
        self.flags
            .iter()
            .filter_map(came)
            .map(|signal| match signal {
                SIGTSTP => Signal::Suspend,
                SIGCONT => Signal::Continue,
                SIGUSR1 => Signal::Save,
                ending => Signal::End(ending),
            })
            .collect()
    }
}

/// Do what the signal does to programs that do not handle it.
pub(super) fn default_action(signal: i32) {
    // Fails only for numbers that are no signals.
    drop(low_level::emulate_default_handler(signal));
}

/// The shell's key.
pub(super) fn suspend() {
    default_action(SIGTSTP);
}
