//! Where the machine's thread, the I/O thread and the control thread meet.

use super::{
    driven::Driven,
    facts::Facts,
    order::{Answer, Order, Refusal, Reply},
};
use crate::{
    ending::End,
    flight::{self, Occasion},
    io::{EndReason, User},
    timeline::Leg,
};
use reprise_machine::{Asked, ControlInput, Status, Stop};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a stopped machine waits before it looks whether its run was ended by somebody who could not tell us: a
/// signal in a replay, a recording that cannot be written.
const LOOK_UP: Duration = Duration::from_millis(50);

/// What a running machine hears beside orders.
pub(crate) trait Reach: Send + Sync {
    /// Bring the machine to a safe point soon: `run` returns there.
    fn call(&self);
    /// Press a button of the machine, through the gate.
    ///
    /// # Errors
    /// Why it cannot be pressed.
    fn press(&self, button: ControlInput) -> Result<(), String>;
    /// End the run.
    fn quit(&self);
    /// The user networks that it is connected to.
    fn networks(&self) -> Vec<Arc<User>> {
        Vec::new()
    }
}

/// What the clients are sent.
pub(super) enum Post {
    /// To everybody.
    Event(Value),
    /// To one client: what its command came to.
    Answer(u64, Answer),
}

/// As QMP's RunState has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    Running,
    Paused,
    Shutdown,
}

struct State {
    facts: Facts,
    run: RunState,
    orders: VecDeque<(Order, Reply)>,
    posts: Vec<Post>,
    /// Of the control thread, if there is one.
    waker: Option<Arc<mio::Waker>>,
    reach: Option<Arc<dyn Reach>>,
    /// Somebody asked for the end of the run.
    quitting: bool,
    /// Who powered the machine off.
    powered_off: Option<Asked>,
}

/// The meeting place.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// For the machine's thread while it stands still.
    changed: Condvar,
    icount: AtomicU64,
    vtime_ns: AtomicU64,
}

impl Hub {
    pub(crate) fn new(facts: Facts) -> Arc<Self> {
        let state = State {
            facts,
            run: RunState::Running,
            orders: VecDeque::new(),
            posts: Vec::new(),
            waker: None,
            reach: None,
            quitting: false,
            powered_off: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            icount: AtomicU64::new(0),
            vtime_ns: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For whoever owns the machine.

    /// The way to the machine; replaces the one before.
    pub(crate) fn attach(&self, reach: Arc<dyn Reach>) {
        let mut state = self.state();
        let (waiting, quitting) = (!state.orders.is_empty(), state.quitting);
        state.reach = Some(Arc::clone(&reach));
        drop(state);
        // Whoever asked early has asked.
        match quitting {
            true => reach.quit(),
            false if waiting => reach.call(),
            false => (),
        }
    }

    /// The user networks that the machine is connected to.
    pub(super) fn networks(&self) -> Vec<Arc<User>> {
        let reach = self.state().reach.clone();
        reach.map_or_else(Vec::new, |reach| reach.networks())
    }

    /// The run is another one from here on: a replay went live.
    pub(crate) fn set_facts(&self, facts: Facts) {
        self.state().facts = facts;
    }

    /// The machine is to stand still before it does anything, until somebody lets it go on.
    pub(crate) fn begin_paused(&self) {
        self.submit(Order::Stop, Box::new(drop));
    }

    /// Let the machine go on until its run ends, stopping for orders on the way. `over`: whether a requested stop is
    /// the end of the run, and not ours. Returns how long it ran.
    pub(crate) fn drive(&self, driven: &mut dyn Driven, over: &dyn Fn() -> bool) -> (Stop, Duration) {
        let over = || over() || self.state().quitting;
        let mut ran = Duration::ZERO;
        loop {
            let started = Instant::now();
            let leg = driven.go();
            ran += started.elapsed();
            match leg {
                Leg::Stop(Stop::Requested) if !over() => (),
                Leg::Stop(stop) => return (stop, ran),
                Leg::Break => self.set_paused(true),
            }
            if !self.serve(driven, &over) {
                return (Stop::Requested, ran);
            }
        }
    }

    /// Carry out orders until the machine may go on. Returns false if the run is over instead.
    fn serve(&self, driven: &mut dyn Driven, over: &dyn Fn() -> bool) -> bool {
        self.progress(driven.machine().status());
        loop {
            if over() {
                return false;
            }
            let mut state = self.state();
            let Some((order, reply)) = state.orders.pop_front() else {
                if state.run != RunState::Paused {
                    return true;
                }
                // Who ends the run may have done so just now, and have found nobody waiting: then this is its time.
                drop(self.changed.wait_timeout(state, LOOK_UP));
                continue;
            };
            let mut paused = state.run == RunState::Paused;
            drop(state);
            let order = match order {
                Order::Shelf(wish) => {
                    driven.shelve(wish, reply);
                    continue;
                }
                Order::Flight(wish) => {
                    driven.save_flight(wish, reply);
                    continue;
                }
                order => order,
            };
            let answer = order.carry_out(driven, &mut paused, over);
            self.progress(driven.machine().status());
            self.set_paused(paused);
            reply(answer);
        }
    }

    fn set_paused(&self, paused: bool) {
        let new = if paused { RunState::Paused } else { RunState::Running };
        if std::mem::replace(&mut self.state().run, new) != new {
            self.event(if paused { "STOP" } else { "RESUME" }, None);
        }
    }

    /// The run has ended; nobody serves orders any more. The first call counts.
    pub(crate) fn ended(&self, end: Option<&End>) {
        let mut state = self.state();
        if state.run == RunState::Shutdown {
            return;
        }
        state.run = RunState::Shutdown;
        state.reach = None;
        let asked = state.powered_off;
        let orders = std::mem::take(&mut state.orders);
        let quitting = state.quitting;
        drop(state);
        let (guest, reason) = match end {
            Some(end) => cause(end, asked, quitting),
            None => (false, "host-error"),
        };
        self.event("SHUTDOWN", Some(json!({ "guest": guest, "reason": reason })));
        for (_, reply) in orders {
            reply(Err(Refusal::ended()));
        }
    }

    // For the machine's outside, on its thread.

    pub(crate) fn progress(&self, status: Status) {
        self.icount.store(status.icount, Ordering::Relaxed);
        self.vtime_ns.store(status.vtime_ns, Ordering::Relaxed);
    }

    pub(crate) fn was_reset(&self, asked: Asked) {
        let (guest, reason) = match asked {
            Asked::ByGuest => (true, "guest-reset"),
            Asked::FromOutside => (false, "host-qmp-system-reset"),
        };
        self.event("RESET", Some(json!({ "guest": guest, "reason": reason })));
        if guest && self.state().facts.has_flight_recorder {
            self.save_flight(Occasion::Reset, None, Box::new(drop));
        }
    }

    pub(crate) fn powered_off(&self, asked: Asked) {
        self.state().powered_off = Some(asked);
    }

    // For commands, on any thread.

    /// Have an order carried out. `reply` is called from the machine's thread, or at once if there is none any more.
    pub(super) fn submit(&self, order: Order, reply: Reply) {
        let mut state = self.state();
        if state.run == RunState::Shutdown {
            drop(state);
            return reply(Err(Refusal::ended()));
        }
        state.orders.push_back((order, reply));
        let reach = state.reach.clone();
        drop(state);
        self.changed.notify_all();
        if let Some(reach) = reach {
            reach.call();
        }
    }

    /// Have saved what the flight recorder keeps.
    pub(crate) fn save_flight(&self, occasion: Occasion, path: Option<PathBuf>, reply: Reply) {
        self.submit(Order::Flight(flight::Wish { occasion, path }), reply);
    }

    pub(super) fn press(&self, button: ControlInput) -> Answer {
        let state = self.state();
        let Some(reach) = state.reach.clone() else { return Err(Refusal::ended()) };
        if button == ControlInput::Nmi && !state.facts.takes_nmi {
            let why = "machine does not provide NMIs: its board does not set machine.nmi_vector";
            return Err(Refusal::new(why));
        }
        drop(state);
        reach.press(button).map(|()| json!({})).map_err(Refusal::new)
    }

    pub(super) fn quit(&self) {
        let mut state = self.state();
        state.quitting = true;
        let reach = state.reach.clone();
        drop(state);
        self.kick();
        if let Some(reach) = reach {
            reach.quit();
        }
    }

    /// The run may be over: a machine that stands still looks.
    pub(crate) fn kick(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn facts(&self) -> Facts {
        self.state().facts.clone()
    }

    pub(super) fn run_state(&self) -> RunState {
        self.state().run
    }

    pub(super) fn icount(&self) -> u64 {
        self.icount.load(Ordering::Relaxed)
    }

    pub(super) fn vtime_ns(&self) -> u64 {
        self.vtime_ns.load(Ordering::Relaxed)
    }

    /// Tell every client.
    pub(super) fn event(&self, name: &str, data: Option<Value>) {
        // A clock before 1970 is not set.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
        let mut event = json!({ "event": name, "timestamp": timestamp });
        if let Some(data) = data {
            event["data"] = data;
        }
        self.post(Post::Event(event));
    }

    /// For the control thread.
    pub(super) fn post(&self, post: Post) {
        let mut state = self.state();
        let Some(waker) = state.waker.clone() else { return };
        state.posts.push(post);
        drop(state);
        // Fails only if the poll is gone, and with it the thread.
        drop(waker.wake());
    }

    // For the control thread.

    pub(super) fn listen(&self, waker: Option<Arc<mio::Waker>>) {
        self.state().waker = waker;
    }

    pub(super) fn take_posts(&self) -> Vec<Post> {
        std::mem::take(&mut self.state().posts)
    }
}

/// Whether the guest ended its run, and QMP's ShutdownCause.
fn cause(end: &End, asked: Option<Asked>, quitting: bool) -> (bool, &'static str) {
    match end {
        End::Machine(Stop::PowerOff { .. }) => match asked {
            Some(Asked::FromOutside) => (false, "host-ui"),
            Some(Asked::ByGuest) | None => (true, "guest-shutdown"),
        },
        End::Machine(Stop::Deadlock) => (true, "guest-shutdown"),
        End::Host(EndReason::Quit) => (false, "host-qmp-quit"),
        End::Machine(Stop::Requested) if quitting => (false, "host-qmp-quit"),
        End::Host(EndReason::Signal(_)) => (false, "host-signal"),
        End::Machine(
            Stop::Requested | Stop::Limit | Stop::Until | Stop::ReplayEnded(_) | Stop::OutOfRecords(_),
        )
        | End::Host(EndReason::Keys) => (false, "host-ui"),
        End::Machine(
            Stop::PluginFault(_)
            | Stop::ResetFailed(_)
            | Stop::Diverged
            | Stop::LogFailed
            | Stop::DiskFailed(_)
            | Stop::BadRecord(_),
        )
        | End::Host(EndReason::Output { .. }) => (false, "host-error"),
    }
}
