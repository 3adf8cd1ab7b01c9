//! The outside of a replay: nobody. It opens nothing and sends nothing; what the guest says can be looked at.

use crate::{control::Hub, io::log_line, progress::Progress};
use reprise_machine::{Asked, Input, LogLevel, LogRecord, Outside, Status, StopHandle};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    stdio::stdout,
};
use signal_hook::{
    SigId,
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag, low_level,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    io::{self, Write},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Output that is kept back at most, in bytes.
const OUTPUT_BYTES: usize = 64 << 10;

/// What a replay shows.
pub(crate) struct Show {
    /// The port whose output goes to standard output: device id and port name.
    pub(crate) port: Option<(String, String)>,
    /// Log lines of lower severity are not shown; `None`: no line is.
    pub(crate) level: Option<LogLevel>,
}

/// What the user and a replay have to do with each other: the progress line, and signals that end it.
pub(crate) struct Desk {
    progress: RefCell<Option<Progress>>,
    stop: OnceCell<StopHandle>,
    /// Those who look on from other processes.
    hub: OnceCell<Arc<Hub>>,
    signals: Option<Signals>,
    /// Nobody reads what is shown.
    unread: Cell<bool>,
    /// The guest's last line has no end yet.
    in_line: Cell<bool>,
    /// Nobody looks at what the guest says now.
    away: Cell<bool>,
}

struct Signals {
    /// The one that came, or 0.
    came: Arc<AtomicUsize>,
    /// The next one does what it does to other programs.
    again: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Desk {
    /// With the line, if there is one, and with signals that end the replay in good order.
    ///
    /// # Errors
    /// The host refuses the signal handlers.
    pub(crate) fn new(progress: Option<Progress>) -> io::Result<Rc<Self>> {
        let came = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let mut signals = Signals { came, again: Arc::clone(&again), ids: Vec::new() };
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            // Handlers run in the order of registration: the first signal is still ours.
            signals.ids.push(flag::register_conditional_default(signal, Arc::clone(&again))?);
            let number = usize::try_from(signal).expect("signals have small numbers");
            signals.ids.push(flag::register_usize(signal, Arc::clone(&signals.came), number)?);
            signals.ids.push(flag::register(signal, Arc::clone(&again))?);
        }
        Ok(Rc::new(Self {
            progress: RefCell::new(progress),
            stop: OnceCell::new(),
            hub: OnceCell::new(),
            signals: Some(signals),
            unread: Cell::new(false),
            in_line: Cell::new(false),
            away: Cell::new(false),
        }))
    }

    /// For replays of a test or of a search within a replay: no line, and the process's signals stay as they are.
    pub(crate) fn quiet() -> Rc<Self> {
        Rc::new(Self {
            progress: RefCell::new(None),
            stop: OnceCell::new(),
            hub: OnceCell::new(),
            signals: None,
            unread: Cell::new(false),
            in_line: Cell::new(false),
            away: Cell::new(false),
        })
    }

    /// The machine that signals stop.
    pub(crate) fn attach(&self, stop: StopHandle) {
        let _first_counts = self.stop.set(stop);
    }

    /// Who is told how far it is.
    pub(crate) fn show_to(&self, hub: Arc<Hub>) {
        let _first_counts = self.hub.set(hub);
    }

    /// Whether the user wants no more of it.
    pub(crate) fn is_over(&self) -> bool {
        self.unread.get() || self.signal().is_some()
    }

    /// The signal that ended the replay.
    pub(crate) fn signal(&self) -> Option<i32> {
        let came = self.signals.as_ref()?.came.load(Ordering::Acquire);
        i32::try_from(came).ok().filter(|&signal| signal != 0)
    }

    /// The replay is over. A signal ends whatever else is done, at once.
    pub(crate) fn close(&self) {
        if let Some(signals) = &self.signals {
            signals.again.store(true, Ordering::Release);
        }
    }

    /// What comes before a line of ours that is not the guest's.
    pub(crate) fn break_line(&self) -> &'static str {
        if self.in_line.replace(false) { "\n" } else { "" }
    }

    /// No line any more: something else is about to be written.
    pub(crate) fn clear(&self) {
        drop(self.progress.borrow_mut().take());
    }

    /// From here on nothing of what the guest says and does is shown, or all of it again. Returns what was before.
    pub(crate) fn look_away(&self, away: bool) -> bool {
        self.away.replace(away)
    }

    /// Those who look on, while they do.
    fn onlooker(&self) -> Option<&Arc<Hub>> {
        self.hub.get().filter(|_| !self.away.get())
    }

    fn progress(&self, status: Status) {
        if let Some(progress) = self.progress.borrow_mut().as_mut() {
            progress.tick(status);
        }
        if let Some(hub) = self.hub.get() {
            hub.progress(status);
        }
        if self.signal().is_some() {
            self.request_stop();
        }
    }

    fn request_stop(&self) {
        if let Some(stop) = self.stop.get() {
            stop.request();
        }
    }

    /// A line between two of the progress.
    fn notice(&self, text: &str) {
        if let Some(progress) = self.progress.borrow_mut().as_mut() {
            progress.clear();
        }
        // Nobody is left to be told.
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            // Nobody else unregisters it.
            assert!(low_level::unregister(id), "a signal handler is gone");
        }
    }
}

/// The outside of a machine that replays.
pub(crate) struct ReplayOutside {
    show: Show,
    desk: Rc<Desk>,
    output: Vec<u8>,
}

impl ReplayOutside {
    pub(crate) fn new(show: Show, desk: Rc<Desk>) -> Self {
        Self { show, desk, output: Vec::new() }
    }

    /// For a replay that nobody looks at.
    pub(crate) fn silent() -> Self {
        Self::new(Show { port: None, level: None }, Desk::quiet())
    }

    fn flush(&mut self) {
        if self.output.is_empty() {
            return;
        }
        self.desk.in_line.set(self.output.last() != Some(&b'\n'));
        if !self.desk.unread.get() && write_out(&self.output).is_err() {
            // `| head` has seen enough.
            self.desk.unread.set(true);
            self.desk.request_stop();
        }
        self.output.clear();
    }
}

impl Drop for ReplayOutside {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Everything, also where the terminal is set to refuse what it cannot take at once.
fn write_out(mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => (),
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&stdout(), PollFlags::OUT)], None)?),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Outside for ReplayOutside {
    /// Paces nothing: the log says when what happens.
    fn realtime_ns(&mut self) -> u64 {
        0
    }

    /// Never asked: the log has the answers.
    fn host_clock_ns(&mut self) -> u64 {
        0
    }

    fn poll(&mut self, _inbox: &mut Vec<Input>) {}

    fn wait(&mut self, _timeout_ns: Option<u64>) {}

    fn can_answer(&self) -> bool {
        false
    }

    fn port_write(&mut self, device: &str, port: &str, data: &[u8]) {
        let shown = |name: &(String, String)| (name.0.as_str(), name.1.as_str()) == (device, port);
        if !self.desk.away.get() && self.show.port.as_ref().is_some_and(shown) {
            self.output.extend_from_slice(data);
            if self.output.len() >= OUTPUT_BYTES {
                self.flush();
            }
        }
    }

    fn port_taken(&mut self, _device: &str, _port: &str, _taken: usize) {}

    fn publish(&mut self, _vtime_ns: u64, _running: bool) {
        self.flush();
    }

    fn progress(&mut self, status: Status) {
        self.desk.progress(status);
    }

    fn was_reset(&mut self, asked: Asked) {
        if let Some(hub) = self.desk.onlooker() {
            hub.was_reset(asked);
        }
    }

    fn powered_off(&mut self, asked: Asked) {
        if let Some(hub) = self.desk.onlooker() {
            hub.powered_off(asked);
        }
    }

    fn log(&mut self, record: &LogRecord) {
        if !self.desk.away.get() && self.show.level.is_some_and(|level| record.level <= level) {
            self.flush();
            let line = self.desk.break_line().to_owned() + &log_line(record);
            self.desk.notice(&line);
        }
    }
}
