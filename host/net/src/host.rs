//! The host's side: one thread that owns the core, all sockets and a poller.
//!
//! The machine's thread hands frames over and never waits. What the network costs the host, it costs on this thread.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module is where the user network reads clocks and files, opens sockets and has its thread"
)]

mod attention;
mod commands;
mod datagram;
mod descriptors;
mod forward;
mod lookup;
mod names;
mod outbox;
mod own;
mod proxies;
mod reactor;
mod record;
pub(crate) mod services;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;

pub use forward::ForwardInfo;

use crate::{
    clock::ExternalClock,
    config::{Config, Forward},
    core::{TcpInfo, UdpInfo},
    edges::Guest,
    frame::Offload,
};
use attention::Attention;
use mio::Waker;
use reactor::{Outside, Reactor};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

/// Bytes of the guest's frames that wait for the thread; what comes beyond is lost, as on a real link.
const QUEUE_BYTES: usize = 32 << 20;

/// Why the network, or a forward, cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The poller or the thread.
    #[error("the user network cannot start: {0}")]
    Start(io::Error),
    #[error("forward `{forward}`: cannot listen there: {why}")]
    Listen { forward: String, why: io::Error },
    #[error("forward `{forward}`: the guest has no address of that family in this network")]
    Family { forward: String },
    #[error("forward `{forward}`: {guest} cannot be a guest's in this network")]
    Guest { forward: String, guest: IpAddr },
    #[error("there is no forward `{0}`; the list of forwards shows them")]
    NoForward(String),
    #[error("TFTP folder {}: {why}", folder.display())]
    Tftp { folder: PathBuf, why: io::Error },
    #[error("capture file {}: {why}", file.display())]
    Capture { file: PathBuf, why: io::Error },
    #[error("proxy `{proxy}`: file {}: {why}", file.display())]
    Proxy { proxy: String, file: PathBuf, why: String },
    /// Its thread has ended.
    #[error("the user network is gone")]
    Gone,
}

/// What there is to know about a running network.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Info {
    pub frames_from_guest: u64,
    pub bytes_from_guest: u64,
    pub frames_to_guest: u64,
    pub bytes_to_guest: u64,
    /// By reason; reasons that never happened are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    pub tcp: Vec<TcpInfo>,
    pub udp: Vec<UdpInfo>,
    pub forwards: Vec<ForwardInfo>,
}

/// What the thread is asked, by somebody who waits for the answer.
enum Order {
    Add(Forward, mpsc::Sender<Result<Vec<ForwardInfo>, Error>>),
    Remove(String, mpsc::Sender<Result<(), Error>>),
    Info(mpsc::Sender<Info>),
}

/// What both threads see.
struct Shared {
    inbox: Mutex<Inbox>,
    waker: Waker,
    /// Whether the thread sleeps, or has something to look at.
    attention: Attention,
    /// See [`Handle::external_work_pending`].
    pending: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    frames: VecDeque<Vec<u8>>,
    frame_bytes: usize,
    /// Frames that found no place.
    lost: u64,
    /// The machine is one of another time.
    restored: bool,
    /// The machine was reset, when it had sent so many of the frames.
    reset_behind: Option<usize>,
    /// What the guest's driver takes now, if that is news. (A guest can change its mind faster than anybody listens.)
    offload: Option<(Offload, u32)>,
    orders: Vec<Order>,
    stop: bool,
    /// The thread has ended, and nobody will look at this again.
    gone: bool,
}

impl Shared {
    /// Nobody can leave an inbox half changed, so a panic elsewhere does not matter.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread look at its inbox.
    fn wake(&self) {
        if self.attention.call() {
            // It fails if the thread's poller is gone, and the thread with it.
            let _ended = self.waker.wake();
        }
    }

    fn order(&self, order: Order) {
        let mut inbox = self.inbox();
        // Dropped, it tells who asks that there is nobody.
        if !inbox.gone {
            inbox.orders.push(order);
            drop(inbox);
            self.wake();
        }
    }
}

/// Leaves nobody waiting for a thread that has ended, however it did.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Before those who ask are told that there is nobody: what they see then is the end.
        self.0.pending.store(false, Ordering::SeqCst);
        let mut inbox = self.0.inbox();
        *inbox = Inbox { lost: inbox.lost, gone: true, ..Inbox::default() };
    }
}

/// Where lines for people go.
pub type Log = Box<dyn Fn(&str) + Send>;

/// Starts a user network.
pub struct UserNet;

impl UserNet {
    /// Starts the thread, with all forwards in place. `name` is for captures; `clock` must have an alarm of its own
    /// ([`ExternalClock::with_own_alarm`]): when it rings, call [`Handle::alarm`].
    ///
    /// # Errors
    /// A forward's port is taken, a folder or file is not there, or the host lacks something.
    pub fn start(
        config: Config,
        name: &str,
        clock: ExternalClock,
        seed: [u8; 32],
        to_guest: Box<dyn Guest + Send>,
        log: Log,
    ) -> Result<Handle, Error> {
        let outside = Outside::new(clock, to_guest, log);
        Self::start_with(config, name, seed, outside)
    }

    fn start_with(config: Config, name: &str, seed: [u8; 32], outside: Outside) -> Result<Handle, Error> {
        let poll = mio::Poll::new().map_err(Error::Start)?;
        let waker = Waker::new(poll.registry(), reactor::WAKE).map_err(Error::Start)?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            waker,
            attention: Attention::default(),
            pending: AtomicBool::new(false),
        });
        let reactor = Reactor::new(config, name, seed, poll, Arc::clone(&shared), outside)?;
        let handle = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("net".to_owned())
            .spawn(move || {
                let _ending = Ending(Arc::clone(&shared));
                reactor.run();
            })
            .map_err(Error::Start)?;
        Ok(Handle { shared: handle, thread: Some(thread) })
    }
}

/// A running user network. It ends when this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// A message of the guest: header and frame. Never waits.
    pub fn frame(&self, message: Vec<u8>) {
        let mut inbox = self.shared.inbox();
        if inbox.gone || inbox.frame_bytes + message.len() > QUEUE_BYTES {
            inbox.lost += 1;
            return;
        }
        inbox.frame_bytes += message.len();
        inbox.frames.push_back(message);
        drop(inbox);
        self.shared.wake();
    }

    /// The guest can take more.
    pub fn room_changed(&self) {
        self.shared.wake();
    }

    /// The clock's alarm has rung.
    pub fn alarm(&self) {
        self.shared.wake();
    }

    /// What the guest's driver takes, and the longest packet in bytes, where it is not several segments.
    pub fn set_offload(&self, offload: Offload, mtu: u32) {
        self.shared.inbox().offload = Some((offload, mtu));
        self.shared.wake();
    }

    /// The machine is one of another time now. What it has sent and nobody has heard was sent by another one.
    pub fn restored(&self) {
        let mut inbox = self.shared.inbox();
        (inbox.restored, inbox.reset_behind) = (true, None);
        inbox.frames.clear();
        inbox.frame_bytes = 0;
        drop(inbox);
        self.shared.wake();
    }

    /// The machine was reset: it knows nothing of its connections any more. What it has sent before still counts.
    pub fn was_reset(&self) {
        let mut inbox = self.shared.inbox();
        // Several resets are the last one: what the guests between them have begun ends with it.
        inbox.reset_behind = Some(inbox.frames.len());
        drop(inbox);
        self.shared.wake();
    }

    /// Whether the outside may yet answer something that the guest waits for.
    #[must_use]
    pub fn external_work_pending(&self) -> bool {
        // In this order: the thread sets `pending` before it empties the inbox.
        !self.shared.inbox().frames.is_empty() || self.shared.pending.load(Ordering::SeqCst)
    }

    /// Forwards ports of the host from now on, and says which (port 0 lets the host choose).
    ///
    /// # Errors
    /// The host cannot listen there; nothing of it is forwarded then.
    pub fn forward_add(&self, forward: Forward) -> Result<Vec<ForwardInfo>, Error> {
        self.ask(|answer| Order::Add(forward, answer))?
    }

    /// Ends a forward, named as [`ForwardInfo::forward`] has it or as it was given. Its open connections go on.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn forward_remove(&self, forward: &str) -> Result<(), Error> {
        self.ask(|answer| Order::Remove(forward.to_owned(), answer))?
    }

    /// What is forwarded.
    ///
    /// # Errors
    /// The network is gone.
    pub fn forward_list(&self) -> Result<Vec<ForwardInfo>, Error> {
        Ok(self.info()?.forwards)
    }

    /// Counters and flows.
    ///
    /// # Errors
    /// The network is gone.
    pub fn info(&self) -> Result<Info, Error> {
        self.ask(Order::Info)
    }

    fn ask<T>(&self, order: impl FnOnce(mpsc::Sender<T>) -> Order) -> Result<T, Error> {
        let (answer, answered) = mpsc::channel();
        self.shared.order(order(answer));
        answered.recv().map_err(|_| Error::Gone)
    }

    /// Ends it: sockets are closed when this returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.inbox().stop = true;
            self.shared.wake();
            // A panic of the thread has been reported where it happened.
            let _panicked = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}
