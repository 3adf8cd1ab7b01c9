//! The thread: orders and frames of the machine, events of the poller, deadlines of both clocks.

use super::{
    Error, Info, Order, Shared, commands,
    descriptors::Descriptors,
    forward::{self, Bound, ForwardInfo, Listener, Socket},
    lookup::{self, Lookups, Resolver},
    names,
    own::Own,
    proxies,
    record::Record,
    services,
    sockets::{Given, Sockets},
};
use crate::{
    capture::{Side, Way},
    clock::ExternalClock,
    config::{Config, Forward},
    core::{Core, DropReason, Network, Setup},
    edges::{FlowId, Guest, HostEvent},
    frame::{HEADER_BYTES, Header},
    policy::Policy,
};
use mio::{Events, Poll, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

pub(super) const WAKE: Token = Token(usize::MAX);
/// Frames of the guest that one turn takes.
const TURN_FRAMES: usize = 512;
/// Connections that one turn accepts from one listener.
const TURN_ACCEPTS: usize = 256;
/// A proxy that answers at all does so in this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a listener ran out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the thread is given.
pub(super) struct Outside {
    pub(super) clock: ExternalClock,
    pub(super) guest: Box<dyn Guest + Send>,
    pub(super) log: super::Log,
    pub(super) own: Own,
    pub(super) resolver: Resolver,
    /// How long a proxy that has further addresses may take at each.
    pub(super) patience: Duration,
    /// How long a program may go on without its connection.
    pub(super) grace: Duration,
    pub(super) descriptors: Descriptors,
}

impl Outside {
    pub(super) fn new(clock: ExternalClock, guest: Box<dyn Guest + Send>, log: super::Log) -> Self {
        let (own, descriptors) = (Own::default(), Descriptors::raise());
        let (patience, grace) = (PATIENCE, commands::GRACE);
        Self { clock, guest, log, own, resolver: lookup::by_host, patience, grace, descriptors }
    }
}

/// The way to the guest, with a look at what goes there.
struct ToGuest {
    guest: Box<dyn Guest + Send>,
    record: Option<Record>,
    now: u64,
}

impl ToGuest {
    fn capture(&self, way: Way, bytes: &[u8]) {
        if let Some(record) = &self.record {
            record.write(Side::Guest, way, bytes, "");
        }
    }
}

impl Guest for ToGuest {
    fn room(&self) -> usize {
        self.guest.room()
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        self.capture(Way::In, frame);
        self.guest.frame(header, frame);
    }
}

pub(super) struct Reactor {
    poll: Poll,
    shared: Arc<Shared>,
    clock: ExternalClock,
    core: Core,
    network: Network,
    policy: Policy,
    sockets: Sockets,
    guest: ToGuest,
    listeners: BTreeMap<usize, Listener>,
    next_listener: usize,
    /// Listeners that have not been emptied.
    accepting: BTreeSet<usize>,
    accept_at: Option<Instant>,
    own: Own,
    own_at: Instant,
    stopped: bool,
}

fn open_record(config: &Config, name: &str) -> Result<Option<Record>, Error> {
    let Some(settings) = &config.capture else { return Ok(None) };
    let wrong = |why| Error::Capture { file: settings.file.clone(), why };
    Record::open(settings, name).map(Some).map_err(wrong)
}

impl Reactor {
    pub(super) fn new(
        config: Config,
        name: &str,
        seed: [u8; 32],
        poll: Poll,
        shared: Arc<Shared>,
        mut outside: Outside,
    ) -> Result<Self, Error> {
        let network = Network::from(&config);
        let mut policy = config.policy();
        if let Some(own) = (outside.own.list)() {
            policy.set_own_addresses(own);
        }
        let services = services::OwnServices::new(&config)?;
        let guest_forwards =
            config.guest_forwards.iter().enumerate().map(|(index, forward)| (forward.at, index)).collect();
        let setup = Setup {
            network: network.clone(),
            egress: Box::new(policy.clone()),
            services: Box::new(services),
            guest_forwards,
            limits: config.limits,
        };
        let registry = poll.registry().try_clone().map_err(Error::Start)?;
        let waker = Arc::clone(&shared);
        let lookups = Lookups::new(outside.resolver, Arc::new(move || waker.wake()));
        let given = Given {
            log: outside.log,
            lookups,
            proxies: proxies::read(&config)?,
            patience: outside.patience,
            descriptors: outside.descriptors,
            grace: outside.grace,
        };
        let mut reactor = Self {
            core: Core::new(setup, seed),
            sockets: Sockets::new(&config, seed, registry, given).map_err(Error::Start)?,
            guest: ToGuest { guest: outside.guest, record: None, now: 0 },
            poll,
            shared,
            clock: outside.clock,
            network,
            policy,
            listeners: BTreeMap::new(),
            next_listener: 0,
            accepting: BTreeSet::new(),
            accept_at: None,
            own_at: Instant::now() + outside.own.every,
            own: outside.own,
            stopped: false,
        };
        for forward in &config.forwards {
            reactor.forward_add(forward)?;
        }
        // Last: a run that does not come about is no reason to touch the file of one that did.
        reactor.guest.record = open_record(&config, name)?;
        reactor.sockets.watch(&config, reactor.guest.record.as_ref());
        Ok(reactor)
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            self.shared.attention.look();
            // The machine may ask between the taking of its frames and what follows from them.
            self.shared.pending.store(true, Ordering::SeqCst);
            let left = self.inbox();
            self.turn();
            if self.stopped {
                break;
            }
            let mut timeout = if left { Some(Duration::ZERO) } else { self.timeout() };
            self.publish();
            if let Some(record) = &self.guest.record {
                // What is cut short from here on lacks no more than what comes next.
                record.flush();
            }
            // From here on, who leaves something wakes the poller.
            if timeout != Some(Duration::ZERO) && !self.shared.attention.sleep() {
                timeout = Some(Duration::ZERO);
            }
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.sockets.say(&format!("the user network ends: its poller failed: {error}"));
                    break;
                }
            }
            for event in &events {
                let token = event.token();
                if let Some(query) = names::query_of(token) {
                    self.sockets.names.event(query, &mut self.sockets.events);
                } else if let Some(index) = forward::listener_of(token) {
                    self.accepting.insert(index);
                } else if token != WAKE {
                    self.sockets.event(FlowId::from_token(token.0 as u64), event);
                }
            }
        }
    }

    fn now(&mut self) -> u64 {
        self.guest.now = self.clock.now_ns();
        if let Some(record) = &self.guest.record {
            record.set_now(self.guest.now);
        }
        self.guest.now
    }

    /// What the machine's thread has left. Returns whether something stays for the next turn.
    fn inbox(&mut self) -> bool {
        let mut inbox = self.shared.inbox();
        // What was sent before a reset has a turn of its own, so that it is on its way when the connections end.
        let reset = inbox.reset_behind.take_if(|frames| *frames == 0).is_some();
        let most = inbox.reset_behind.unwrap_or(usize::MAX).min(TURN_FRAMES);
        let count = inbox.frames.len().min(most);
        if let Some(frames) = &mut inbox.reset_behind {
            *frames -= count;
        }
        let frames: Vec<Vec<u8>> = inbox.frames.drain(..count).collect();
        inbox.frame_bytes -= frames.iter().map(Vec::len).sum::<usize>();
        let orders = std::mem::take(&mut inbox.orders);
        let (restored, offload) = (std::mem::take(&mut inbox.restored), inbox.offload.take());
        self.stopped = inbox.stop;
        let left = !inbox.frames.is_empty() || inbox.reset_behind.is_some();
        drop(inbox);
        if restored || reset {
            self.forget_guest();
        }
        if let Some((offload, mtu)) = offload {
            self.core.set_offload(offload, mtu);
        }
        for order in orders {
            self.order(order);
        }
        let now = self.now();
        for message in &frames {
            self.guest.capture(Way::Out, message.get(HEADER_BYTES..).unwrap_or_default());
            self.core.guest_frame(now, message, &mut self.sockets, &mut self.guest);
        }
        self.sockets.flush();
        left
    }

    /// It is another one now, or as good as that.
    fn forget_guest(&mut self) {
        let now = self.now();
        self.core.reset(now, &mut self.sockets, &mut self.guest);
        self.sockets.names.reset(&mut self.sockets.events);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Add(forward, answer) => reply(&answer, self.forward_add(&forward)),
            Order::Remove(name, answer) => {
                let removed = self.forward_remove(&name);
                reply(&answer, removed);
            }
            Order::Info(answer) => reply(&answer, self.info()),
        }
    }

    /// Lets everything that is due happen.
    fn turn(&mut self) {
        let now = self.now();
        let host_now = Instant::now();
        self.accept();
        self.sockets.expire(host_now);
        let sockets = &mut self.sockets;
        if sockets.names.next_deadline().is_some_and(|deadline| deadline <= host_now) {
            sockets.names.poll(&mut sockets.events);
        }
        self.events(now);
        self.core.poll(now, &mut self.sockets, &mut self.guest);
        // What the poll has caused on the host's side: connections of its own, failures.
        self.events(now);
        if host_now >= self.own_at {
            self.look_at_own(host_now);
        }
    }

    /// Interfaces come, go and get other addresses. If the kernel does not say, what was known holds.
    fn look_at_own(&mut self, host_now: Instant) {
        self.own_at = host_now + self.own.every;
        if let Some(own) = (self.own.list)() {
            self.policy.set_own_addresses(own);
            self.core.set_egress(Box::new(self.policy.clone()));
        }
    }

    fn events(&mut self, now: u64) {
        for event in std::mem::take(&mut self.sockets.events) {
            self.core.host_event(now, event, &mut self.sockets, &mut self.guest);
        }
    }

    /// How long nothing has to be done.
    fn timeout(&mut self) -> Option<Duration> {
        let deadline = self.core.next_deadline();
        self.clock.set_alarm(deadline);
        // The clock may have passed it before the alarm was set.
        let due = deadline.is_some_and(|deadline| deadline <= self.clock.now_ns());
        if due || !self.sockets.events.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = [self.sockets.next_deadline(), self.sockets.names.next_deadline(), self.accept_at];
        let next = next.into_iter().flatten().fold(self.own_at, Instant::min);
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn publish(&self) {
        let pending = self.core.external_work_pending(self.guest.now)
            || self.sockets.names.pending()
            || !self.sockets.events.is_empty();
        self.shared.pending.store(pending, Ordering::SeqCst);
    }

    fn accept(&mut self) {
        if self.accept_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.accept_at = None;
        for index in std::mem::take(&mut self.accepting) {
            self.accept_from(index);
        }
    }

    /// Its event does not come again: a listener is left alone only when it has said that nobody waits.
    fn accept_from(&mut self, index: usize) {
        for _ in 0..TURN_ACCEPTS {
            let Some(listener) = self.listeners.get(&index) else { return };
            let (guest, port) = (listener.info.guest, listener.guest_port);
            match listener.accept() {
                Ok((stream, peer)) => self.accepted(stream, peer, guest, port),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // No more descriptors: those that wait go on waiting.
                    self.accept_at = Some(Instant::now() + ACCEPT_AGAIN);
                    self.accepting.insert(index);
                    return;
                }
            }
        }
        // Others have their turn before the next ones.
        self.accepting.insert(index);
        self.accept_at.get_or_insert_with(Instant::now);
    }

    fn accepted(
        &mut self,
        stream: super::stream::Stream,
        peer: SocketAddr,
        guest: Option<IpAddr>,
        port: u16,
    ) {
        if self.sockets.descriptors.check(&stream).is_err() {
            return stream.reset();
        }
        let now = self.now();
        let flow = guest
            .or_else(|| self.core.guest_address(now))
            .and_then(|guest| self.core.accept(now, peer, SocketAddr::new(guest, port)));
        match flow {
            Some(flow) => {
                if self.sockets.accepted(flow, stream).is_err() {
                    self.sockets.events.push(HostEvent::Readable(flow));
                }
            }
            None => stream.reset(),
        }
    }

    fn forward_add(&mut self, forward: &Forward) -> Result<Vec<ForwardInfo>, Error> {
        let first = self.next_listener;
        let mut infos = Vec::new();
        for (exact, bound, guest_port) in forward::bind(forward, &self.network)? {
            match self.listen(forward, &exact, bound, guest_port) {
                Ok(info) => infos.push(info),
                Err(why) => {
                    self.stop_listening(&(first..self.next_listener).collect::<Vec<_>>());
                    return Err(Error::Listen { forward: forward.to_string(), why });
                }
            }
        }
        Ok(infos)
    }

    fn listen(
        &mut self,
        given: &Forward,
        exact: &Forward,
        bound: Bound,
        guest_port: u16,
    ) -> io::Result<ForwardInfo> {
        let socket = match bound {
            Bound::Tcp(listener) => Socket::Tcp(listener),
            Bound::Unix { listener, path, inode } => Socket::Unix { listener, path, inode },
            Bound::Udp(socket) => {
                let id = self.core.forward_udp(exact.guest, guest_port);
                if let Err(error) = self.sockets.insert_datagram(id, socket) {
                    let now = self.now();
                    self.core.forward_udp_ends(now, id, &mut self.sockets, &mut self.guest);
                    return Err(error);
                }
                Socket::Udp(id)
            }
        };
        let index = self.next_listener;
        self.next_listener += 1;
        let mut listener = Listener::new(exact, given, socket, guest_port);
        listener.register(self.poll.registry(), index)?;
        let info = listener.info.clone();
        self.listeners.insert(index, listener);
        Ok(info)
    }

    fn forward_remove(&mut self, name: &str) -> Result<(), Error> {
        let no_forward = || Error::NoForward(name.to_owned());
        let forward: Forward = name.parse().map_err(|_| no_forward())?;
        let meant = self.listeners.iter().filter(|(_, listener)| listener.is(&forward));
        let found: Vec<usize> = meant.map(|(index, _)| *index).collect();
        if found.is_empty() {
            return Err(no_forward());
        }
        self.stop_listening(&found);
        Ok(())
    }

    fn stop_listening(&mut self, all: &[usize]) {
        let now = self.now();
        for index in all {
            if let Some(listener) = self.listeners.remove(index)
                && let Socket::Udp(id) = listener.socket
            {
                self.core.forward_udp_ends(now, id, &mut self.sockets, &mut self.guest);
            }
        }
    }

    fn info(&self) -> Info {
        let stats = self.core.stats();
        let happened = DropReason::ALL.iter().filter(|why| stats.drops(**why) > 0);
        let mut dropped: BTreeMap<_, _> = happened.map(|why| (why.name(), stats.drops(*why))).collect();
        let lost = self.shared.inbox().lost;
        if lost > 0 {
            dropped.insert("queue", lost);
        }
        Info {
            frames_from_guest: stats.frames_from_guest,
            bytes_from_guest: stats.bytes_from_guest,
            frames_to_guest: stats.frames_to_guest,
            bytes_to_guest: stats.bytes_to_guest,
            dropped,
            tcp: self.core.tcp_info(),
            udp: self.core.udp_info(),
            forwards: self.listeners.values().map(|listener| listener.info.clone()).collect(),
        }
    }
}

/// Whoever asked may be gone.
fn reply<T>(answer: &mpsc::Sender<T>, value: T) {
    let _gone = answer.send(value);
}
