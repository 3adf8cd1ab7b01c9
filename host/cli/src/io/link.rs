//! What both threads see, under one lock that neither holds for long.

use super::{frames, user::User};
use crate::control::{Hub, Reach};
use reprise_machine::{ControlInput, Input, PortChange, PortStand, StopHandle, plugin::BackendPlugin};
use reprise_net::ExternalClock;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
    time::Duration,
};

/// Input of one chr port that the guest has not taken yet, in bytes, above which its source is not read.
pub(super) const INPUT_LIMIT: usize = 64 << 10;
/// Of one net port: a few of the longest frames, also in half of it.
const FRAMES_LIMIT: usize = 512 << 10;
/// Output of one port that the host has not taken yet, in bytes.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How long a machine waits for user networks alone before it asks whether they still have work, in host time.
const ASK_NS: u64 = 20_000_000;
/// Presses of buttons that wait for the machine, at most.
const PRESSES: usize = 16;

/// Why the host ends a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Ctrl-A x.
    Keys,
    /// A command of the monitor or of the control socket.
    Quit,
    /// A signal, by number.
    Signal(i32),
    /// Output that must not be lost cannot be written.
    Output {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
}

/// Another build of an outside half.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The plugin's name.
    pub(super) plugin: String,
    /// `None`: the new build has none.
    pub(super) new: Option<BackendPlugin>,
    /// The ports whose backend begins anew, or why none does.
    pub(super) reply: Sender<Result<Vec<String>, String>>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct State {
    inbox: Vec<Input>,
    pub(super) ports: Vec<PortState>,
    /// Lines for the user.
    pub(super) notices: Vec<u8>,
    /// What a command of the terminal's monitor came to.
    pub(super) answer: Option<String>,
    /// Something happened for which [`Link::wait`] returns.
    kicked: bool,
    end: Option<EndReason>,
    /// Another build of a plugin's outside half waits for the I/O thread.
    pub(super) exchange: Option<Exchange>,
    /// There is no I/O thread any more.
    gone: bool,
    /// The machine has ended: write out what is left and end.
    pub(super) finish: bool,
}

/// One chr or net port.
#[derive(Debug)]
pub(super) struct PortState {
    pub(super) device: String,
    pub(super) port: String,
    /// Nothing of the output may be lost: the guest waits instead.
    lossless: bool,
    /// A net port: what it sends are frames.
    framed: bool,
    /// Somebody is there to write to.
    pub(super) connected: bool,
    pub(super) output: VecDeque<u8>,
    /// Whoever is at the other end comes and goes, and the guest is told.
    changes: bool,
    /// Output that nobody took.
    pub(super) dropped: u64,
    /// Bytes read from the source that the guest has not taken.
    outstanding: usize,
}

impl PortState {
    pub(super) fn new(device: &str, port: &str, lossless: bool, connected: bool) -> Self {
        Self {
            device: device.to_owned(),
            port: port.to_owned(),
            lossless,
            framed: false,
            connected,
            changes: false,
            output: VecDeque::new(),
            dropped: 0,
            outstanding: 0,
        }
    }

    /// The same, as a net port.
    pub(super) fn with_frames(self, framed: bool) -> Self {
        Self { framed, ..self }
    }

    /// The same, where the guest is told of who comes and goes.
    pub(super) fn that_changes(self, changes: bool) -> Self {
        Self { changes, ..self }
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.device, self.port)
    }

    /// How much may be read from the source now.
    pub(super) fn room(&self) -> usize {
        let limit = if self.framed { FRAMES_LIMIT } else { INPUT_LIMIT };
        limit.saturating_sub(self.outstanding)
    }
}

/// The two threads' common ground.
pub(crate) struct Link {
    state: Mutex<State>,
    /// For the machine's thread: input, a stop, or room for output.
    changed: Condvar,
    waker: mio::Waker,
    stop: OnceLock<StopHandle>,
    hub: Arc<Hub>,
    /// A backend is alive that could still deliver input.
    live: AtomicBool,
    pub(super) clock: ExternalClock,
    pub(super) users: Mutex<Vec<Arc<User>>>,
    /// Instructions so far, for the status line.
    pub(super) icount: AtomicU64,
}

impl Link {
    pub(super) fn new(ports: Vec<PortState>, waker: mio::Waker, live: bool, hub: Arc<Hub>) -> Arc<Self> {
        let link = Arc::new(Self {
            state: Mutex::new(State { ports, ..State::default() }),
            changed: Condvar::new(),
            waker,
            stop: OnceLock::new(),
            hub,
            live: AtomicBool::new(live),
            clock: ExternalClock::default(),
            users: Mutex::default(),
            icount: AtomicU64::new(0),
        });
        // A machine that sleeps has to wake for whoever waits for its time.
        let sleeper = Arc::downgrade(&link);
        link.clock.when_sooner(move || {
            if let Some(link) = sleeper.upgrade() {
                link.kick(|_| ());
            }
        });
        link
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where orders for the machine go.
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    // For the process's main thread.

    /// The machine that this outside belongs to.
    pub(crate) fn attach(&self, stop: StopHandle) {
        let ended = self.state().end.is_some();
        let stop = self.stop.get_or_init(|| stop);
        if ended {
            stop.request();
        }
    }

    /// Why the host ended the run, if it did.
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        self.state().end.clone()
    }

    /// A line for the user on standard error.
    pub(crate) fn notice(&self, line: &str) {
        let mut state = self.state();
        if state.notices.len() < OUTPUT_LIMIT {
            state.notices.extend_from_slice(line.as_bytes());
        }
        drop(state);
        self.wake_io();
    }

    /// The machine has ended.
    pub(super) fn finish(&self) {
        self.state().finish = true;
        self.wake_io();
    }

    // For the machine's thread.

    /// A command of the terminal's monitor came to this.
    pub(super) fn answered(&self, text: String) {
        self.state().answer = Some(text);
        self.wake_io();
    }

    pub(super) fn wake_io(&self) {
        // Fails only if the poll is gone, and with it the thread.
        drop(self.waker.wake());
    }

    pub(super) fn poll(&self, inbox: &mut Vec<Input>) {
        // `kicked` stays: only a wait may take it, or a stop that came before this poll would not end the next wait.
        inbox.append(&mut self.state().inbox);
    }

    pub(super) fn wait(&self, timeout_ns: Option<u64>) {
        // User networks do not say when nothing more is to come from them: the machine asks them.
        let is_for_users = !self.live.load(Ordering::Acquire) && !self.all_users().is_empty();
        let timeout_ns =
            if is_for_users { Some(timeout_ns.map_or(ASK_NS, |ns| ns.min(ASK_NS))) } else { timeout_ns };
        let state = self.state();
        let idle = |state: &mut State| state.inbox.is_empty() && !state.kicked;
        let mut state = match timeout_ns {
            Some(ns) => {
                let timeout = Duration::from_nanos(ns);
                self.changed
                    .wait_timeout_while(state, timeout, idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
        };
        state.kicked = false;
    }

    pub(super) fn can_answer(&self) -> bool {
        self.live.load(Ordering::Acquire) || self.users_may_answer() || !self.state().inbox.is_empty()
    }

    pub(super) fn write(&self, device: &str, port: &str, data: &[u8]) {
        if let Some(user) = self.user(device, port) {
            user.handle.frame(data.to_vec());
            return;
        }
        let mut state = self.state();
        let Some(index) = find(&state, device, port) else { return };
        if state.ports[index].lossless {
            // The guest waits with us: its time stands still, and it cannot tell.
            let full =
                |state: &mut State| state.end.is_none() && state.ports[index].output.len() >= OUTPUT_LIMIT;
            state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        }
        let slot = &mut state.ports[index];
        if !slot.connected || slot.output.len() >= OUTPUT_LIMIT {
            slot.dropped += data.len() as u64;
            return;
        }
        let was_empty = slot.output.is_empty();
        if slot.framed {
            let frames = frames::encode(data);
            if frames.is_empty() {
                slot.dropped += data.len() as u64;
            }
            slot.output.extend(frames);
        } else {
            slot.output.extend(data);
        }
        drop(state);
        // What is not empty has been announced already.
        if was_empty {
            self.wake_io();
        }
    }

    /// The machine is another state of itself: its ports stand as `stands` says, its time is another, and it knows
    /// nothing of who is connected now.
    pub(super) fn restored(&self, vtime_ns: u64, stands: &[PortStand<'_>]) {
        self.clock.restart(vtime_ns);
        let mut state = self.state();
        let State { inbox, ports, .. } = &mut *state;
        for slot in ports.iter_mut() {
            let ours =
                |device: &str, port: &str| (device, port) == (slot.device.as_str(), slot.port.as_str());
            let held = stands.iter().find(|stand| ours(stand.device, stand.port));
            let held = held.map_or(0, |stand| stand.waiting_bytes);
            let on_the_way = inbox.iter().map(|input| match input {
                Input::PortData { device, port, data } if ours(device, port) => data.len(),
                _ => 0,
            });
            slot.outstanding = held + on_the_way.sum::<usize>();
        }
        let told = ports.iter().filter(|slot| slot.changes).map(|slot| Input::PortEvent {
            device: slot.device.clone(),
            port: slot.port.clone(),
            event: if slot.connected { PortChange::Opened } else { PortChange::Closed },
        });
        // Before what has come from there since.
        inbox.splice(0..0, told);
        drop(state);
        self.wake_io();
        for stand in stands {
            if let Some(user) = self.user(stand.device, stand.port) {
                user.handle.restored();
                user.handle.room_changed();
            }
            self.offload(stand.device, stand.port, stand.offload);
        }
    }

    /// The machine was reset. What is on its way to it arrives all the same, as on a cable; networks must not go on
    /// with connections of which it knows nothing any more.
    pub(super) fn was_reset(&self) {
        self.all_users().iter().for_each(|user| user.handle.was_reset());
    }

    pub(super) fn taken(&self, device: &str, port: &str, taken: usize) {
        let mut state = self.state();
        let Some(index) = find(&state, device, port) else { return };
        let slot = &mut state.ports[index];
        let before = slot.room();
        slot.outstanding = slot.outstanding.saturating_sub(taken);
        let now = slot.room();
        drop(state);
        if before == 0 && now > 0 {
            self.wake_io();
        }
        // With half of it free, a user network never had to hold back; with less it may have.
        if (before..now).contains(&(FRAMES_LIMIT / 2 - 1))
            && let Some(user) = self.user(device, port)
        {
            user.handle.room_changed();
        }
    }

    /// Have the outside halves of a plugin begin anew by another build. Returns the ports that they serve.
    ///
    /// # Errors
    /// One cannot; the old build serves all of them as far as it still can.
    pub(crate) fn exchange(&self, plugin: &str, new: Option<BackendPlugin>) -> Result<Vec<String>, String> {
        let (reply, answer) = mpsc::channel();
        let mut state = self.state();
        if !state.gone {
            state.exchange = Some(Exchange { plugin: plugin.to_owned(), new, reply });
        }
        drop(state);
        self.wake_io();
        answer.recv().unwrap_or_else(|_| Err("the I/O thread has ended".to_owned()))
    }

    // For the I/O thread.

    /// It ends: who waits for it waits no longer.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        (state.gone, state.exchange) = (true, None);
    }

    pub(super) fn input(&self, port: usize, data: Vec<u8>) {
        let mut state = self.state();
        let slot = &mut state.ports[port];
        slot.outstanding += data.len();
        let input = Input::PortData { device: slot.device.clone(), port: slot.port.clone(), data };
        state.inbox.push(input);
        drop(state);
        self.changed.notify_all();
    }

    /// How much a user network may send now.
    pub(super) fn room(&self, port: usize) -> usize {
        self.state().ports[port].room()
    }

    /// Frames for a net port, in their order.
    pub(super) fn frames(&self, port: usize, frames: Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        let mut state = self.state();
        let State { inbox, ports, .. } = &mut *state;
        let slot = &mut ports[port];
        for data in frames {
            slot.outstanding += data.len();
            inbox.push(Input::PortData { device: slot.device.clone(), port: slot.port.clone(), data });
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Somebody pressed a button of the machine. Returns false if too many presses wait already.
    pub(super) fn button(&self, button: ControlInput) -> bool {
        let mut state = self.state();
        let pressed = state.inbox.iter().filter(|input| matches!(input, Input::Control(_)));
        if pressed.count() >= PRESSES {
            return false;
        }
        state.inbox.push(Input::Control(button));
        drop(state);
        self.changed.notify_all();
        true
    }

    pub(super) fn event(&self, port: usize, event: PortChange) {
        let mut state = self.state();
        let slot = &mut state.ports[port];
        match event {
            PortChange::Opened => slot.connected = true,
            PortChange::Closed => {
                slot.connected = false;
                slot.output.clear();
            }
            PortChange::Break => (),
        }
        push_event(&mut state, port, event);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Release);
        self.kick(|_| ());
    }

    /// End the run; the first reason counts.
    pub(super) fn end(&self, reason: EndReason) {
        self.kick(|state| {
            state.end.get_or_insert(reason);
        });
        self.request_stop();
    }

    /// Output went out: a guest that waits for room may go on.
    pub(super) fn drained(&self) {
        self.changed.notify_all();
    }

    fn kick(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.kicked = true;
        drop(state);
        self.changed.notify_all();
    }

    fn request_stop(&self) {
        if let Some(stop) = self.stop.get() {
            stop.request();
        }
        // After the request: a wait that returned for the kick before it may have begun again.
        self.kick(|_| ());
        self.hub.kick();
    }
}

impl Reach for Link {
    fn call(&self) {
        self.request_stop();
    }

    fn press(&self, button: ControlInput) -> Result<(), String> {
        match self.button(button) {
            true => Ok(()),
            false => Err(format!("{PRESSES} presses wait for the machine to go on")),
        }
    }

    fn quit(&self) {
        self.end(EndReason::Quit);
    }

    fn networks(&self) -> Vec<Arc<User>> {
        self.all_users()
    }
}

/// A peer may come and go faster than a machine looks (it may be stopped): of who came, went and came again it hears
/// that somebody came.
fn push_event(state: &mut State, port: usize, event: PortChange) {
    let State { inbox, ports, .. } = state;
    let slot = &ports[port];
    let ours = |input: &(usize, &Input)| match input.1 {
        Input::PortEvent { device, port, .. } | Input::PortData { device, port, .. } => {
            (device, port) == (&slot.device, &slot.port)
        }
        _ => false,
    };
    let is_peer = |input: &Input, wanted: &[PortChange]| match input {
        Input::PortEvent { event, .. } => wanted.contains(event),
        _ => false,
    };
    let other = match event {
        PortChange::Opened => Some(PortChange::Closed),
        PortChange::Closed => Some(PortChange::Opened),
        // Each counts.
        PortChange::Break => None,
    };
    let mut last = inbox.iter().enumerate().rev().filter(ours);
    match (last.next(), last.next()) {
        (Some((at, newer)), Some((_, older)))
            if is_peer(newer, other.as_slice()) && is_peer(older, &[event]) =>
        {
            inbox.remove(at);
        }
        _ => {
            let (device, port) = (slot.device.clone(), slot.port.clone());
            inbox.push(Input::PortEvent { device, port, event });
        }
    }
}

fn find(state: &State, device: &str, port: &str) -> Option<usize> {
    state.ports.iter().position(|slot| slot.device == device && slot.port == port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Facts;
    use reprise_machine::NetOffload;
    use std::thread;

    fn link(lossless: bool) -> Arc<Link> {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let ports = vec![PortState::new("uart0", "serial", lossless, true)];
        Link::new(ports, waker, true, Hub::new(Facts::default()))
    }

    #[test]
    fn a_source_is_held_back_until_the_guest_takes() {
        let link = link(true);
        link.input(0, vec![0; INPUT_LIMIT]);
        assert_eq!(link.state().ports[0].room(), 0);
        link.taken("uart0", "serial", 100);
        link.taken("nobody", "serial", 100);
        assert_eq!(link.state().ports[0].room(), 100);
        let mut inbox = Vec::new();
        link.poll(&mut inbox);
        assert_eq!(inbox.len(), 1);
    }

    #[test]
    fn a_guest_waits_for_room_and_an_end_frees_it() {
        let link = link(true);
        let writer = {
            let link = Arc::clone(&link);
            thread::spawn(move || (0..3).for_each(|_| link.write("uart0", "serial", &vec![7; OUTPUT_LIMIT])))
        };
        let drain = || while link.state().ports[0].output.is_empty() {};
        drain();
        link.state().ports[0].output.clear();
        link.drained();
        drain();
        assert!(!writer.is_finished());
        link.end(EndReason::Keys);
        writer.join().unwrap();
        assert_eq!(link.state().ports[0].dropped, OUTPUT_LIMIT as u64);
        assert_eq!(link.end_reason(), Some(EndReason::Keys));
    }

    #[test]
    fn a_machine_that_is_another_one_is_told_who_is_there() {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let port = |name: &str, changes| PortState::new(name, "serial", true, true).that_changes(changes);
        let ports = vec![port("uart0", false), port("uart1", true)];
        let link = Link::new(ports, waker, true, Hub::new(Facts::default()));
        assert!(!link.clock.publish(1000, true));
        link.input(0, vec![0; 100]);
        link.input(1, vec![0; INPUT_LIMIT]);
        link.poll(&mut Vec::new());
        link.input(1, vec![7; 10]);
        link.event(1, PortChange::Closed);
        // Its time goes back, and it holds less of what was sent.
        let stand = |device, waiting_bytes| PortStand {
            device,
            port: "serial",
            waiting_bytes,
            offload: NetOffload::default(),
        };
        link.restored(10, &[stand("uart0", 30), stand("uart1", 0)]);
        assert!(!link.clock.publish(20, true));
        let room = |port: usize| INPUT_LIMIT - link.state().ports[port].room();
        assert_eq!((room(0), room(1)), (30, 10));
        let mut inbox = Vec::new();
        link.poll(&mut inbox);
        let closed =
            Input::PortEvent { device: "uart1".into(), port: "serial".into(), event: PortChange::Closed };
        assert_eq!((inbox.len(), &inbox[0]), (3, &closed));
    }

    #[test]
    fn peers_that_come_and_go_take_no_room() {
        let link = link(true);
        for _ in 0..1000 {
            link.event(0, PortChange::Closed);
            link.event(0, PortChange::Opened);
        }
        link.input(0, vec![7]);
        for _ in 0..1000 {
            link.event(0, PortChange::Closed);
            link.event(0, PortChange::Opened);
        }
        link.event(0, PortChange::Closed);
        for event in [PortChange::Break, PortChange::Opened, PortChange::Break, PortChange::Break] {
            link.event(0, event);
        }
        let mut inbox = Vec::new();
        link.poll(&mut inbox);
        let said = |input: &Input| match input {
            Input::PortEvent { event, .. } => Some(*event),
            _ => None,
        };
        let [opened, closed, breaks] = [PortChange::Opened, PortChange::Closed, PortChange::Break].map(Some);
        assert_eq!(
            inbox.iter().map(said).collect::<Vec<_>>(),
            [closed, opened, None, closed, breaks, opened, breaks, breaks]
        );
    }

    #[test]
    fn a_frame_that_stands_for_none_is_counted() {
        let link = link(false);
        link.state().ports[0].framed = true;
        let mut claims = [0; 100];
        // Says that it is TCP and is nothing.
        (claims[0], claims[1], claims[4]) = (1, 1, 9);
        link.write("uart0", "serial", &claims);
        assert_eq!(link.state().ports[0].dropped, 100);
        link.write("uart0", "serial", &[0; 72]);
        let state = link.state();
        assert_eq!((state.ports[0].dropped, state.ports[0].output.len()), (100, 4 + 60));
    }

    #[test]
    fn a_lossy_port_drops_and_counts() {
        let link = link(false);
        link.write("uart0", "serial", &vec![7; OUTPUT_LIMIT]);
        link.write("uart0", "serial", b"more");
        assert_eq!(link.state().ports[0].dropped, 4);
        link.event(0, PortChange::Closed);
        link.write("uart0", "serial", b"more");
        assert_eq!(link.state().ports[0].dropped, 8);
    }

    #[test]
    fn a_wait_ends_with_input_a_stop_or_the_time() {
        let link = link(true);
        link.wait(Some(1000));
        link.input(0, vec![1]);
        link.wait(None);
        link.poll(&mut Vec::new());
        let stop = StopHandle::default();
        link.attach(stop.clone());
        link.end(EndReason::Keys);
        link.poll(&mut Vec::new());
        link.wait(None);
        assert!(stop.is_requested());
    }
}
