//! The I/O thread.

use super::{
    backend::Backend,
    escape::{self, Command, Escape, Typed},
    frames::{Assembler, NoFrame},
    half::Place,
    link::{EndReason, Exchange, INPUT_LIMIT, Link, PortState},
    monitor::Monitor,
    signals::{self, HANG_UP, Signal, Signals},
    spec::BackendSpec,
    status::StatusLine,
    stream::{self, Read, Received},
    user,
};
use crate::{
    control::Hub,
    failure::{Failure, reason},
    flight::Occasion,
    terminal::{self, RawTerminal},
};
use mio::{Events, Interest, Poll, Token, Waker};
use reprise_machine::{ControlInput, PortChange, plugin::BackendPlugin};
use reprise_net::ExternalTimers;
use rustix::{
    io::Errno,
    stdio::{stderr, stdin, stdout},
};
use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const STDIN: Token = Token(2);
const STDOUT: Token = Token(3);
const STDERR: Token = Token(4);
const FIRST_PORT: usize = 8;
/// Bytes of frames that are read at once.
const RECEIVE_BYTES: usize = 128 << 10;
/// How long a client waits before it tries again, in virtual time: a stopped machine does not call anybody. Short,
/// because a busy guest's second may take long.
const RECONNECT_NS: u64 = 50_000_000;

/// A chr or net port and what it is connected to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PortPlan {
    pub(crate) device: String,
    pub(crate) port: String,
    pub(crate) backend: BackendSpec,
    /// A net port.
    pub(crate) framed: bool,
}

impl PortPlan {
    fn name(&self) -> String {
        format!("{}.{}", self.device, self.port)
    }
}

/// The running thread. Dropping it ends it, after what is left to write was written.
pub(crate) struct IoThread {
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// Open the backends and start. `status`: with the status line on. `hub`: where the monitor's orders go.
    ///
    /// # Errors
    /// A backend cannot be opened.
    pub(crate) fn start(plans: &[PortPlan], status: bool, hub: Arc<Hub>) -> Result<Self, Failure> {
        let internal = |error: io::Error| Failure::io("cannot set up the I/O thread", &error);
        let poll = Poll::new().map_err(internal)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(internal)?;
        let mut backends = Vec::new();
        let mut ports = Vec::new();
        let mut lines = String::new();
        for plan in plans {
            let (backend, line) = Backend::open(&plan.backend, &plan.name())?;
            lines.extend(line);
            let lossless = matches!(plan.backend, BackendSpec::Stdio | BackendSpec::File(_));
            let port = PortState::new(&plan.device, &plan.port, lossless, backend.starts_connected());
            ports.push(port.that_changes(backend.comes_and_goes()).with_frames(plan.framed));
            backends.push(backend);
        }
        let live = plans.iter().any(|plan| plan.backend.may_answer());
        let link = Link::new(ports, waker, live, hub);
        link.notice(&lines);
        // A cable that is not plugged in. (Serial lines have always begun as if somebody listened.)
        for (index, plan) in plans.iter().enumerate() {
            if plan.framed && backends[index].comes_and_goes() {
                link.event(index, PortChange::Closed);
            }
        }
        user::start(plans, &link)?;
        let mut worker = Worker::new(poll, Arc::clone(&link), backends, plans, status).map_err(internal)?;
        let spawned = thread::Builder::new().name("io".into()).spawn(move || {
            let _watch = Watch(Arc::clone(&worker.link));
            worker.run();
        });
        Ok(Self { link, thread: Some(spawned.map_err(internal)?) })
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.link.end_users();
        self.link.finish();
        if let Some(thread) = self.thread.take() {
            // It panicked: the hook has said so.
            drop(thread.join());
        }
    }
}

/// A machine whose I/O thread is gone must not go on alone.
struct Watch(Arc<Link>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.leave();
        if thread::panicking() {
            self.0.end(EndReason::Output { what: "the outside".into(), why: "the I/O thread failed".into() });
        }
    }
}

/// The terminal's side.
struct Console {
    /// Which port has it.
    port: usize,
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// Keys are filtered and the terminal is raw.
    raw: Option<RawTerminal>,
    escape: Escape,
    monitor: Monitor,
    /// On its way out.
    pending: VecDeque<u8>,
    timestamps: bool,
    at_line_start: bool,
}

struct Worker {
    poll: Poll,
    link: Arc<Link>,
    signals: Signals,
    backends: Vec<Backend>,
    /// Of the net ports, by index.
    assemblers: Vec<Option<Assembler>>,
    /// Where their input is read into.
    received: Vec<u8>,
    timers: ExternalTimers,
    console: Option<Console>,
    errors: OwnedFd,
    notices: VecDeque<u8>,
    /// If it is on.
    status: Option<StatusLine>,
    /// Whether a signal asked us to end already.
    ending: bool,
    /// Whether anything but the console can still bring input.
    others_live: bool,
}

impl Worker {
    fn new(
        poll: Poll,
        link: Arc<Link>,
        mut backends: Vec<Backend>,
        plans: &[PortPlan],
        status: bool,
    ) -> io::Result<Self> {
        let mut signals = Signals::register()?;
        let registry = poll.registry();
        registry.register(&mut signals.stream, SIGNALS, Interest::READABLE)?;
        let mut timers = ExternalTimers::default();
        for (index, backend) in backends.iter_mut().enumerate() {
            backend.register(registry, Token(FIRST_PORT + index))?;
            if backend.wants_connection() {
                timers.arm(timer_of(index), 0);
            }
        }
        let errors = stream::output(stderr())?;
        stream::register(registry, &errors, STDERR, Interest::WRITABLE)?;
        let console = match plans.iter().position(|plan| plan.backend == BackendSpec::Stdio) {
            Some(port) => Some(Console::open(port, registry)?),
            None => None,
        };
        let others_live =
            plans.iter().any(|plan| plan.backend.may_answer() && plan.backend != BackendSpec::Stdio);
        let status = status.then(|| StatusLine::new(0));
        let assemblers = plans.iter().map(|plan| plan.framed.then(Assembler::default)).collect();
        let received = vec![0; RECEIVE_BYTES];
        let ending = false;
        let notices = VecDeque::new();
        Ok(Self {
            poll,
            link,
            signals,
            backends,
            assemblers,
            received,
            timers,
            console,
            errors,
            notices,
            status,
            ending,
            others_live,
        })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            self.link.clock.set_alarm(self.timers.next_deadline());
            self.monitor();
            self.exchange();
            // Before the pass: its last words are offered to everybody, also to those who lose what they do not take.
            let finish = self.link.state().finish;
            let progress = self.signals() | self.timers() | self.input() | self.output();
            // At once: output that nobody takes does not hold it up.
            self.ending |= self.link.end_reason() == Some(EndReason::Quit);
            if finish && (self.is_drained() || self.ending) {
                return;
            }
            self.status_tick();
            let timeout = if progress { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return self.fail("the poll", &error),
            }
        }
    }

    /// Another build of a plugin is there: its outside halves begin anew.
    fn exchange(&mut self) {
        let Some(Exchange { plugin, new, reply }) = self.link.state().exchange.take() else { return };
        let of_it = |(index, backend): (usize, &Backend)| match backend {
            Backend::Plugin(half) if half.is_of(&plugin) => Some(index),
            _ => None,
        };
        let ports: Vec<usize> = self.backends.iter().enumerate().filter_map(of_it).collect();
        let names: Vec<String> = ports.iter().map(|port| self.link.state().ports[*port].name()).collect();
        let done = match (new, names.first()) {
            (_, None) => Ok(names),
            (None, Some(port)) => {
                Err(format!("the new build has no backend for ports, and {port} has the old one's"))
            }
            (Some(new), Some(_)) => self.restart(&ports, new).map(|()| names),
        };
        // Nobody waits for it only if the machine's thread has failed.
        drop(reply.send(done));
    }

    /// All of them, or none.
    fn restart(&mut self, ports: &[usize], new: BackendPlugin) -> Result<(), String> {
        for (done, &port) in ports.iter().enumerate() {
            let old = match &self.backends[port] {
                Backend::Plugin(half) => half.plugin(),
                _ => continue,
            };
            let Err((why, mut is_back)) = self.restart_one(port, new) else { continue };
            for &port in &ports[..done] {
                is_back &= self.restart_one(port, old).is_ok();
            }
            let name = self.link.state().ports[port].name();
            let end = if is_back { "" } else { "; nor does the old one serve its ports any more" };
            return Err(format!("the new build's backend of port {name} cannot be opened: {why}{end}"));
        }
        Ok(())
    }

    fn restart_one(&mut self, port: usize, new: BackendPlugin) -> Result<(), (String, bool)> {
        let Backend::Plugin(half) = &mut self.backends[port] else { return Ok(()) };
        let (link, registry, timers) = (&*self.link, self.poll.registry(), &mut self.timers);
        let token = Token(FIRST_PORT + port);
        half.restart(new, Place { port, token, timer: timer_of(port), link, registry, timers })
    }

    /// Until somebody wants a turn by the host's clock.
    fn timeout(&self) -> Option<Duration> {
        let halves = self.backends.iter().filter_map(|backend| match backend {
            Backend::Plugin(half) => half.realtime_at.map(|at_ns| at_ns.saturating_sub(half.realtime_ns())),
            _ => None,
        });
        let halves = halves.map(Duration::from_nanos);
        self.status.as_ref().map(StatusLine::wait).into_iter().chain(halves).min()
    }

    fn signals(&mut self) -> bool {
        for signal in self.signals.take() {
            match signal {
                Signal::End(number) => {
                    // A closed window sends SIGHUP more than once, and means no haste by it.
                    if self.ending && number != HANG_UP {
                        // The user means it: do not wait for the machine.
                        terminal::restore();
                        signals::default_action(number);
                    }
                    self.ending = true;
                    self.link.end(EndReason::Signal(number));
                }
                Signal::Suspend => {
                    terminal::restore();
                    signals::suspend();
                    self.raw_again();
                }
                Signal::Continue => self.raw_again(),
                Signal::Save => self.save_flight(),
            }
        }
        false
    }

    fn save_flight(&self) {
        let hub = self.link.hub();
        match hub.facts().has_flight_recorder {
            // It tells the user itself what came of it.
            true => hub.save_flight(Occasion::Signal, None, Box::new(drop)),
            false => self.link.notice("warning: SIGUSR1: this machine has no flight recorder\n"),
        }
    }

    fn raw_again(&self) {
        if self.is_raw()
            && let Err(error) = terminal::enter_raw()
        {
            self.link.notice(&format!("warning: the terminal stays as it is: {}\n", reason(&error)));
        }
    }

    fn timers(&mut self) -> bool {
        let now_ns = self.link.clock.now_ns();
        let mut progress = false;
        while let Some(id) = self.timers.poll(now_ns) {
            let index = id as usize;
            if matches!(self.backends[index], Backend::Plugin(_)) {
                // It is polled in every pass, and there is one now.
                continue;
            }
            match self.backends[index].connect(self.poll.registry(), Token(FIRST_PORT + index)) {
                true => {
                    self.link.event(index, PortChange::Opened);
                    progress = true;
                }
                false => self.timers.arm(id, now_ns.saturating_add(RECONNECT_NS)),
            }
        }
        progress
    }

    /// Whatever can be read, into the inbox.
    fn input(&mut self) -> bool {
        let mut progress = self.console_input();
        for index in 0..self.backends.len() {
            let token = Token(FIRST_PORT + index);
            if let Backend::Plugin(half) = &mut self.backends[index] {
                let (link, registry, timers) = (&*self.link, self.poll.registry(), &mut self.timers);
                let place = Place { port: index, token, timer: timer_of(index), link, registry, timers };
                progress |= half.poll(place);
                continue;
            }
            if self.backends[index].accept(self.poll.registry(), token) {
                self.link.event(index, PortChange::Opened);
                progress = true;
            }
            if self.assemblers[index].is_some() {
                progress |= self.frames(index);
                continue;
            }
            let room = self.link.state().ports[index].room();
            match self.backends[index].read(room) {
                Read::Data(data) => {
                    self.link.input(index, data);
                    progress = true;
                }
                Read::Later => (),
                Read::End => progress |= self.hang_up(index),
            }
        }
        progress
    }

    /// Frames from the peer of a net port, while the guest has room for them.
    fn frames(&mut self, index: usize) -> bool {
        let mut progress = false;
        while self.link.state().ports[index].room() > 0 {
            let bytes = match self.backends[index].receive(&mut self.received) {
                Received::Bytes(bytes) => bytes,
                Received::Later => break,
                Received::End => return self.hang_up(index) | progress,
            };
            progress = true;
            let assembler = self.assemblers[index].as_mut().expect("a net port");
            match assembler.push(&self.received[..bytes]) {
                Ok(frames) => self.link.frames(index, frames),
                Err(NoFrame(length)) => {
                    let name = self.link.state().ports[index].name();
                    self.link.notice(&format!(
                        "warning: {name}: the peer sent a frame of {length} bytes, which is none: hung up\n"
                    ));
                    return self.hang_up(index);
                }
            }
        }
        progress
    }

    fn hang_up(&mut self, index: usize) -> bool {
        let is_pty = matches!(self.backends[index], Backend::Pty { .. });
        if is_pty {
            return false;
        }
        self.backends[index].hang_up();
        self.assemblers[index].iter_mut().for_each(Assembler::reset);
        self.link.event(index, PortChange::Closed);
        if self.backends[index].wants_connection() {
            self.timers.arm(timer_of(index), self.link.clock.now_ns().saturating_add(RECONNECT_NS));
        }
        true
    }

    fn console_input(&mut self) -> bool {
        let Some(console) = &mut self.console else { return false };
        let Some(fd) = &console.input else { return false };
        // A terminal is always read, or Ctrl-A would not be heard when the guest does not listen.
        let room = self.link.state().ports[console.port].room();
        let is_raw = console.raw.is_some();
        let typed = match stream::read_some(fd, if is_raw { INPUT_LIMIT } else { room }) {
            Read::Later => return false,
            Read::End => {
                console.input = None;
                self.link.set_live(self.others_live);
                return true;
            }
            Read::Data(data) if is_raw => console.escape.filter(&data),
            Read::Data(data) => vec![Typed::Keys(data)],
        };
        for piece in typed {
            match piece {
                Typed::Keys(keys) => self.keys(keys),
                Typed::Command(command) => self.command(command),
            }
        }
        true
    }

    /// For whoever has the keyboard.
    fn keys(&mut self, mut keys: Vec<u8>) {
        let Some(console) = &mut self.console else { return };
        if console.monitor.is_open() {
            keys = console.monitor.feed(&keys, &self.link, &mut console.pending);
        }
        console.to_guest(keys, &self.link);
    }

    fn monitor(&mut self) {
        let Some(console) = &mut self.console else { return };
        let answer = self.link.state().answer.take();
        if let Some(text) = answer {
            let keys = console.monitor.answered(&text, &self.link, &mut console.pending);
            console.to_guest(keys, &self.link);
        }
    }

    fn command(&mut self, command: Command) {
        let Some(console) = &mut self.console else { return };
        match command {
            Command::Help => self.link.notice(escape::HELP),
            Command::Exit => {
                // At once: output that nobody takes does not hold it up.
                self.ending = true;
                self.link.end(EndReason::Keys);
            }
            Command::Monitor => {
                let shown = console.monitor.toggle();
                console.pending.extend(shown.bytes());
            }
            Command::Timestamps => console.timestamps = !console.timestamps,
            Command::Status => {
                self.status = match self.status {
                    Some(_) => None,
                    None => Some(StatusLine::new(self.link.icount.load(Ordering::Relaxed))),
                }
            }
            Command::Break => self.link.event(console.port, PortChange::Break),
            Command::Reset => self.press(ControlInput::Reset),
            Command::PowerOff => self.press(ControlInput::PowerOff),
            Command::Nmi => self.press(ControlInput::Nmi),
        }
    }

    fn press(&self, button: ControlInput) {
        // Whoever presses so often sees that the machine stands still.
        let _entered = self.link.button(button);
    }

    /// Whatever can be written, out of the buffers.
    fn output(&mut self) -> bool {
        self.console_output();
        for index in 0..self.backends.len() {
            let mut output = mem::take(&mut self.link.state().ports[index].output);
            let had = output.len();
            if had == 0 || matches!(self.backends[index], Backend::Console | Backend::Plugin(_)) {
                self.put_back(index, output);
                continue;
            }
            let result = self.backends[index].write(&mut output);
            let went = output.len() < had;
            self.put_back(index, output);
            if went {
                self.link.drained();
            }
            if let Err(error) = result {
                self.output_failed(index, &error);
            }
        }
        self.error_output();
        false
    }

    /// What did not go out comes before what the guest has sent meanwhile.
    fn put_back(&self, index: usize, mut rest: VecDeque<u8>) {
        let mut state = self.link.state();
        let newer = &mut state.ports[index].output;
        rest.append(newer);
        *newer = rest;
    }

    fn output_failed(&mut self, index: usize, error: &io::Error) {
        if matches!(self.backends[index], Backend::File(_)) {
            let what = { format!("the file of port {}", self.link.state().ports[index].name()) };
            self.backends[index] = Backend::Null;
            self.link.state().ports[index].connected = false;
            self.fail(&what, error);
        } else {
            self.hang_up(index);
        }
    }

    fn console_output(&mut self) {
        let Some(console) = &mut self.console else { return };
        let new = mem::take(&mut self.link.state().ports[console.port].output);
        if !new.is_empty() {
            console.queue(new, self.link.clock.now_ns());
        }
        let result = stream::write_some(&console.output, &mut console.pending);
        if console.pending.is_empty() {
            self.link.drained();
        }
        if let Err(error) = result {
            console.pending.clear();
            let port = console.port;
            self.link.state().ports[port].connected = false;
            // The terminal is gone, and SIGHUP on its way.
            if error.raw_os_error() == Some(Errno::IO.raw_os_error()) && self.is_raw() {
                self.link.end(EndReason::Signal(HANG_UP));
            } else {
                self.fail("standard output", &error);
            }
        }
    }

    fn is_raw(&self) -> bool {
        self.console.as_ref().is_some_and(|console| console.raw.is_some())
    }

    fn error_output(&mut self) {
        self.notices.extend(mem::take(&mut self.link.state().notices));
        // Nobody is left to be told.
        if stream::write_some(&self.errors, &mut self.notices).is_err() {
            self.notices.clear();
        }
    }

    fn fail(&self, what: &str, error: &io::Error) {
        self.link.end(EndReason::Output { what: what.to_owned(), why: reason(error) });
    }

    /// Nothing that must not be lost is left.
    fn is_drained(&self) -> bool {
        let state = self.link.state();
        let files = self.backends.iter().zip(&state.ports);
        let mut files = files.filter(|(backend, _)| matches!(backend, Backend::File(_) | Backend::Console));
        let console_done = self.console.as_ref().is_none_or(|console| console.pending.is_empty());
        console_done
            && self.notices.is_empty()
            && state.notices.is_empty()
            && files.all(|(_, port)| port.output.is_empty())
    }

    fn status_tick(&mut self) {
        let icount = self.link.icount.load(Ordering::Relaxed);
        let line = self.status.as_mut().and_then(|status| status.tick(icount, self.link.clock.now_ns()));
        if let Some(line) = line {
            self.link.notice(&line);
        }
    }
}

impl Console {
    fn open(port: usize, registry: &mio::Registry) -> io::Result<Self> {
        let input = stdin().as_fd().try_clone_to_owned()?;
        let output = stream::output(stdout())?;
        let raw = RawTerminal::enter()?;
        stream::register(registry, &input, STDIN, Interest::READABLE)?;
        stream::register(registry, &output, STDOUT, Interest::WRITABLE)?;
        Ok(Self {
            port,
            input: Some(input),
            output,
            raw,
            escape: Escape::default(),
            monitor: Monitor::default(),
            pending: VecDeque::new(),
            timestamps: false,
            at_line_start: true,
        })
    }

    fn to_guest(&self, mut keys: Vec<u8>, link: &Link) {
        keys.truncate(link.state().ports[self.port].room());
        if !keys.is_empty() {
            link.input(self.port, keys);
        }
    }

    fn queue(&mut self, new: VecDeque<u8>, now_ns: u64) {
        if !self.timestamps {
            self.at_line_start = new.back() == Some(&b'\n');
            self.pending.extend(new);
            return;
        }
        for byte in new {
            if mem::replace(&mut self.at_line_start, byte == b'\n') {
                let (s, us) = (now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000);
                self.pending.extend(format!("[{s:5}.{us:06}] ").bytes());
            }
            self.pending.push_back(byte);
        }
    }
}

fn timer_of(index: usize) -> u32 {
    u32::try_from(index).expect("few ports")
}
