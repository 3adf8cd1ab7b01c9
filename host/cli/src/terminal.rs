//! The user's terminal: raw while the guest has it, as it was before whatever happens to us.

use rustix::{
    process::getpgrp,
    stdio::stdin,
    termios::{
        InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty, tcgetattr,
        tcgetpgrp, tcsetattr,
    },
};
use std::{
    cell::Cell,
    io::{self, Write},
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How the terminal was before we touched it; `None` while we do not.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

fn saved() -> MutexGuard<'static, Option<Termios>> {
    // A panic elsewhere must not keep the terminal raw.
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restores the terminal when dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal(());

impl RawTerminal {
    /// Give the guest every key. `None` if standard input is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        enter_raw()?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Make the terminal raw, remembering how it was. Does nothing in the background: the terminal is somebody else's.
pub(crate) fn enter_raw() -> io::Result<()> {
    if !is_foreground() {
        return Ok(());
    }
    let mut saved = saved();
    let before = tcgetattr(stdin())?;
    let mut raw = before.clone();
    raw.input_modes -= InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON;
    raw.local_modes -=
        LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
    // Our own lines end in plain newlines; guests send CR LF, to which another CR does nothing.
    raw.output_modes |= OutputModes::OPOST;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    saved.get_or_insert(before);
    Ok(())
}

/// Put the terminal back. May be called any number of times.
pub(crate) fn restore() {
    if let Some(before) = saved().take()
        && is_foreground()
    {
        // Nobody to tell if the terminal is gone.
        let _gone = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

/// Changing the terminal from the background would stop us (SIGTTOU).
fn is_foreground() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
}

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, panics of this thread are caught by the caller and not worth a word.
pub(crate) struct QuietPanics(());

impl QuietPanics {
    pub(crate) fn begin() -> Self {
        QUIET.set(QUIET.get() + 1);
        Self(())
    }
}

impl Drop for QuietPanics {
    fn drop(&mut self) {
        QUIET.set(QUIET.get() - 1);
    }
}

/// A bug of ours ends in a few words on a terminal that works, not in a backtrace on one that does not.
pub(crate) fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        if QUIET.get() > 0 {
            return;
        }
        restore();
        let what = info.payload_as_str().unwrap_or("no words");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "\r\nerror: internal error: {}\r\n --> {place}\r\n  = help: this is a bug in reprise; please report it \
             with the command that led here\r\n",
            crate::failure::printable(what)
        );
        drop(io::stderr().write_all(text.as_bytes()));
    }));
}
