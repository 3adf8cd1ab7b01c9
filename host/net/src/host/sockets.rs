//! The core's view of the host: sockets by the flow that they belong to.

use super::{
    Log,
    commands::Commands,
    datagram::DatagramSocket,
    descriptors::Descriptors,
    lookup::Lookups,
    names::Names,
    outbox::Outbox,
    record::{Record, Witness},
    stream::{Call, Connection, Stage, Stream, failure},
};
use crate::{
    capture::Way,
    config::{self, Config},
    edges::{EchoReply, Failure, FlowId, Host, HostEvent, Moved, Target, Train},
    service::dns::Asker,
    upstream::{Destination, Handshake},
};
use mio::{Registry, Token, event::Event};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    process::Child,
    time::{Duration, Instant},
};

/// How long a connection of the guest's may take to come about, in the host's time.
const CONNECT: Duration = Duration::from_secs(60);

enum Socket {
    Stream(Connection),
    Datagram(DatagramSocket),
    /// Its proxy is being looked up.
    Lookup {
        proxy: String,
        to: SocketAddr,
        until: Instant,
    },
    /// The name server's end of a connection.
    Dns,
}

pub(super) struct Sockets {
    registry: Registry,
    open: BTreeMap<FlowId, Socket>,
    /// Flows that are not connected yet, in the order of their deadlines: all have the same time.
    connecting: VecDeque<(Instant, FlowId)>,
    /// Calls of proxies that have further addresses, in the order in which the next one is tried.
    calling: VecDeque<(Instant, FlowId)>,
    patience: Duration,
    pub(super) names: Names,
    guest_forwards: Vec<config::GuestForward>,
    proxies: BTreeMap<String, config::Proxy>,
    /// What came about during a call of the core's.
    pub(super) events: Vec<HostEvent>,
    commands: Commands,
    /// What was complained about: which service, and why.
    troubles: BTreeSet<(usize, String)>,
    outbox: Outbox,
    witness: Option<Witness>,
    lookups: Lookups,
    pub(super) descriptors: Descriptors,
    log: Log,
    /// The missing right to ping was complained about.
    complained: bool,
}

/// What it does not make itself.
pub(super) struct Given {
    pub(super) log: Log,
    pub(super) lookups: Lookups,
    pub(super) proxies: BTreeMap<String, config::Proxy>,
    pub(super) patience: Duration,
    pub(super) descriptors: Descriptors,
    /// Of programs whose connection has ended, before each of the signals that end them.
    pub(super) grace: Duration,
}

pub(super) fn token(id: FlowId) -> Token {
    // 64-bit hosts only: `usize` holds it.
    Token(id.token() as usize)
}

impl Sockets {
    pub(super) fn new(config: &Config, seed: [u8; 32], registry: Registry, given: Given) -> io::Result<Self> {
        Ok(Self {
            names: Names::new(config, seed, registry.try_clone()?, given.descriptors),
            registry,
            open: BTreeMap::new(),
            connecting: VecDeque::new(),
            calling: VecDeque::new(),
            patience: given.patience,
            guest_forwards: config.guest_forwards.clone(),
            proxies: given.proxies,
            events: Vec::new(),
            commands: Commands::new(config.limits.commands as usize, given.grace),
            troubles: BTreeSet::new(),
            outbox: Outbox::default(),
            witness: None,
            lookups: given.lookups,
            descriptors: given.descriptors,
            log: given.log,
            complained: false,
        })
    }

    /// What passes from now on is captured, if that is wanted.
    pub(super) fn watch(&mut self, config: &Config, record: Option<&Record>) {
        self.witness = Witness::new(config, record);
        self.names.witness = Witness::new(config, record);
    }

    pub(super) fn say(&self, line: &str) {
        (self.log)(line);
    }

    fn begin(&mut self, flow: FlowId, to: &Target) -> io::Result<()> {
        let until = Instant::now() + CONNECT;
        let mut child = None;
        let stream = match to {
            Target::Address(address) => Stream::tcp(*address)?,
            Target::Proxy(name, address) => {
                let settings = self.proxies.get(name).ok_or(io::ErrorKind::NotFound)?;
                let found = self.lookups.look_up(name, settings)?;
                self.connecting.push_back((until, flow));
                if let Some(at) = found {
                    return self.call_proxy(flow, name, at.into(), *address, until);
                }
                self.open.insert(flow, Socket::Lookup { proxy: name.clone(), to: *address, until });
                return Ok(());
            }
            Target::Service(index) => {
                let (stream, process) =
                    self.service(*index).inspect_err(|error| self.complain(*index, error))?;
                child = process;
                stream
            }
            Target::Dns(server) => {
                self.names.connect(flow, *server)?;
                self.open.insert(flow, Socket::Dns);
                self.events.push(HostEvent::Connected(flow));
                return Ok(());
            }
        };
        let connection = Connection::new(stream, Stage::Connecting { until, proxy: None }, child);
        self.connecting.push_back((until, flow));
        self.insert_stream(flow, connection)
    }

    fn service(&mut self, index: usize) -> io::Result<(Stream, Option<Child>)> {
        let service = self.guest_forwards.get(index).ok_or(io::ErrorKind::NotFound)?;
        match &service.to {
            config::Target::Tcp(address) => Ok((Stream::tcp(*address)?, None)),
            config::Target::Unix(path) => Ok((Stream::unix(path)?, None)),
            config::Target::Command(argv) => {
                let (stream, process) = self.commands.start(argv)?;
                Ok((stream, Some(process)))
            }
        }
    }

    /// The guest sees a reset; why, only the host's owner can see to. Once for each reason: a guest asks as often as it
    /// likes.
    fn complain(&mut self, index: usize, error: &io::Error) {
        if let Some(service) = self.guest_forwards.get(index)
            && self.troubles.insert((index, error.to_string()))
        {
            let line = format!("guestfwd at {} to `{}` fails: {error}", service.at, service.to);
            self.say(&line);
        }
    }

    fn insert_stream(&mut self, flow: FlowId, mut connection: Connection) -> io::Result<()> {
        let checked = self.descriptors.check(&connection.stream);
        match checked.and_then(|()| connection.stream.register(&self.registry, token(flow))) {
            Ok(()) => {
                if let Some(witness) = &mut self.witness {
                    let (called, comment) = connection.beginning();
                    witness.begins(flow, connection.stream.ends(), called, &comment);
                }
                self.open.insert(flow, Socket::Stream(connection));
                Ok(())
            }
            Err(error) => {
                self.commands_lose(&mut connection);
                Err(error)
            }
        }
    }

    /// Goes on with those that waited for their proxy's address.
    fn looked_up(&mut self) {
        while let Some((name, found)) = self.lookups.found() {
            if let (Err(error), Some(proxy)) = (&found, self.proxies.get(&name)) {
                self.say(&format!("proxy `{name}`: `{}` cannot be looked up: {error}", proxy.host));
            }
            let waits = |(flow, socket): (&FlowId, &Socket)| match socket {
                Socket::Lookup { proxy, to, until } if *proxy == name => Some((*flow, *to, *until)),
                _ => None,
            };
            let waiting: Vec<_> = self.open.iter().filter_map(waits).collect();
            for (flow, to, until) in waiting {
                self.open.remove(&flow);
                let at = found.as_ref().map_err(|_| Failure::HostUnreachable);
                let begun = at.and_then(|at| {
                    self.call_proxy(flow, &name, at.clone().into(), to, until)
                        .map_err(|error| failure(&error))
                });
                if let Err(failure) = begun {
                    self.events.push(HostEvent::Failed(flow, failure));
                }
            }
        }
    }

    /// Calls a proxy at the first of its addresses that can be called at all.
    fn call_proxy(
        &mut self,
        flow: FlowId,
        name: &str,
        mut at: VecDeque<SocketAddr>,
        to: SocketAddr,
        until: Instant,
    ) -> io::Result<()> {
        let settings = self.proxies.get(name).ok_or(io::ErrorKind::NotFound)?.clone();
        let mut result = Err(io::ErrorKind::NotFound.into());
        while let Some(address) = at.pop_front() {
            let handshake = Handshake::new(&settings, &Destination::Address(to));
            let patience = Instant::now() + self.patience;
            let call = Call { handshake, proxy: name.to_owned(), to, others: at.clone(), patience };
            let stage = Stage::Connecting { until, proxy: Some(Box::new(call)) };
            let called = Stream::tcp(address)
                .and_then(|stream| self.insert_stream(flow, Connection::new(stream, stage, None)));
            match called {
                Ok(()) if at.is_empty() => return Ok(()),
                Ok(()) => {
                    self.calling.push_back((patience, flow));
                    return Ok(());
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// A connection has come to nothing, unless it is one to a proxy that has further addresses.
    fn call_next(&mut self, flow: FlowId, failure: Failure) {
        if let Some(witness) = &mut self.witness {
            witness.fails(flow, failure);
        }
        if let Some(Socket::Stream(Connection { stage: Stage::Connecting { until, proxy }, .. })) =
            self.open.get_mut(&flow)
            && let Some(call) = proxy.take()
        {
            let until = *until;
            self.open.remove(&flow);
            if self.call_proxy(flow, &call.proxy, call.others, call.to, until).is_ok() {
                return;
            }
        }
        self.fail(flow, failure);
    }

    /// Whether a call at one address has taken so long that it is time for the next.
    fn is_slow(&self, flow: FlowId, patience: Instant) -> bool {
        matches!(self.open.get(&flow), Some(Socket::Stream(Connection {
            stage: Stage::Connecting { proxy: Some(call), .. }, ..
        })) if call.patience == patience)
    }

    /// A stream that a forward has accepted.
    pub(super) fn accepted(&mut self, flow: FlowId, stream: Stream) -> io::Result<()> {
        stream.settle();
        self.insert_stream(flow, Connection::new(stream, Stage::Open, None))
    }

    /// A socket that a forward listens with.
    pub(super) fn insert_datagram(&mut self, flow: FlowId, mut socket: DatagramSocket) -> io::Result<()> {
        socket.check(self.descriptors)?;
        socket.register(&self.registry, token(flow))?;
        self.open.insert(flow, Socket::Datagram(socket));
        Ok(())
    }

    /// What the poller has to say about a flow.
    pub(super) fn event(&mut self, flow: FlowId, event: &Event) {
        let ended = event.is_error() || event.is_read_closed() || event.is_write_closed();
        let mut socket = self.open.get_mut(&flow);
        if let Some(Socket::Stream(connection)) = &mut socket
            && (event.is_readable() || ended)
        {
            connection.readable();
        }
        match socket {
            Some(Socket::Stream(connection)) if matches!(connection.stage, Stage::Open) => {
                if event.is_readable() || ended {
                    self.events.push(HostEvent::Readable(flow));
                }
                if event.is_writable() || ended {
                    self.events.push(HostEvent::Writable(flow));
                }
            }
            Some(Socket::Stream(connection)) => match connection.advance(event.is_writable() && !ended) {
                Some(Ok(())) => {
                    if let Some(witness) = &mut self.witness {
                        witness.opens(flow);
                    }
                    self.events.push(HostEvent::Connected(flow));
                }
                Some(Err(failure)) => self.call_next(flow, failure),
                None => {}
            },
            Some(Socket::Datagram(socket)) => {
                if event.is_error() {
                    let errors = socket.errors();
                    if let Some(witness) = &mut self.witness
                        && let Ok(local) = socket.local()
                    {
                        errors.iter().for_each(|error| witness.error(local, socket.is_ping(), error));
                    }
                    self.events.extend(errors.into_iter().map(|error| HostEvent::Icmp(flow, error)));
                }
                self.events.push(HostEvent::Readable(flow));
            }
            Some(Socket::Lookup { .. } | Socket::Dns) | None => {}
        }
    }

    /// Sends the datagrams that were gathered. It must be called before anybody waits for anything.
    pub(super) fn flush(&mut self) {
        let Some(flow) = self.outbox.flow() else { return };
        match self.open.get_mut(&flow) {
            Some(Socket::Datagram(socket)) => {
                let unsent = self.outbox.send(socket).into_iter();
                self.events.extend(unsent.map(|unsent| HostEvent::Unsent(flow, unsent)));
            }
            Some(Socket::Stream(_) | Socket::Lookup { .. } | Socket::Dns) | None => self.outbox.clear(),
        }
    }

    fn fail(&mut self, flow: FlowId, failure: Failure) {
        if let Some(witness) = &mut self.witness {
            witness.fails(flow, failure);
        }
        self.remove(flow);
        self.events.push(HostEvent::Failed(flow, failure));
    }

    /// Gives up on what takes too long, and looks after programs that have ended.
    pub(super) fn expire(&mut self, now: Instant) {
        self.looked_up();
        while let Some(&(until, flow)) = self.connecting.front() {
            let waits = match self.open.get(&flow) {
                Some(Socket::Stream(connection)) => connection.until().is_some(),
                Some(Socket::Lookup { .. }) => true,
                Some(Socket::Datagram(_) | Socket::Dns) | None => false,
            };
            if waits && until > now {
                break;
            }
            self.connecting.pop_front();
            if waits {
                self.fail(flow, Failure::TimedOut);
            }
        }
        while let Some((patience, flow)) = self.calling.pop_front_if(|(patience, _)| *patience <= now) {
            if self.is_slow(flow, patience) {
                self.call_next(flow, Failure::TimedOut);
            }
        }
        self.commands.look(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let calls = [self.connecting.front(), self.calling.front()].into_iter().flatten();
        calls.map(|(until, _)| *until).chain(self.commands.next_deadline()).min()
    }

    fn remove(&mut self, flow: FlowId) -> Option<Socket> {
        let mut socket = self.open.remove(&flow)?;
        if let Socket::Stream(connection) = &mut socket {
            self.commands_lose(connection);
        }
        Some(socket)
    }

    /// A connection ends, and with it a program's, if it was to one.
    fn commands_lose(&mut self, connection: &mut Connection) {
        if let Some(child) = connection.child.take() {
            self.commands.leaves(child);
        }
    }

    fn connection(&mut self, flow: FlowId) -> Option<&mut Connection> {
        match self.open.get_mut(&flow)? {
            Socket::Stream(connection) => Some(connection),
            Socket::Datagram(_) | Socket::Lookup { .. } | Socket::Dns => None,
        }
    }

    fn datagrams(&mut self, flow: FlowId) -> Option<&mut DatagramSocket> {
        match self.open.get_mut(&flow)? {
            Socket::Datagram(socket) => Some(socket),
            Socket::Stream(_) | Socket::Lookup { .. } | Socket::Dns => None,
        }
    }

    /// Who watches, if somebody does, and where a socket of datagrams is.
    fn witness(&mut self, flow: FlowId) -> Option<(&mut Witness, SocketAddr)> {
        let witness = self.witness.as_mut()?;
        match self.open.get(&flow)? {
            Socket::Datagram(socket) => Some((witness, socket.local().ok()?)),
            Socket::Stream(_) | Socket::Lookup { .. } | Socket::Dns => None,
        }
    }

    fn is_dns(&self, flow: FlowId) -> bool {
        matches!(self.open.get(&flow), Some(Socket::Dns))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in std::mem::take(&mut self.open).into_values() {
            if let Socket::Stream(mut connection) = socket {
                self.commands_lose(&mut connection);
            }
        }
        self.commands.end();
    }
}

impl Host for Sockets {
    fn tcp_connect(&mut self, flow: FlowId, to: &Target) -> Result<(), Failure> {
        self.begin(flow, to).map_err(|error| failure(&error))
    }

    fn tcp_send(&mut self, flow: FlowId, bytes: &[u8]) -> Moved {
        if self.is_dns(flow) {
            return self.names.stream_in(flow, bytes, &mut self.events);
        }
        let Some(connection) = self.connection(flow) else { return Moved::Failed(Failure::Reset) };
        let moved = connection.stream.send(bytes);
        if let Some(witness) = &mut self.witness {
            witness.moved(flow, Way::Out, moved, bytes);
        }
        moved
    }

    fn tcp_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Moved {
        if self.is_dns(flow) {
            return self.names.stream_out(flow, buffer, &mut self.events);
        }
        let Some(connection) = self.connection(flow) else { return Moved::Failed(Failure::Reset) };
        let moved = connection.recv(buffer);
        if let Some(witness) = &mut self.witness {
            witness.moved(flow, Way::In, moved, buffer);
        }
        moved
    }

    fn tcp_shutdown(&mut self, flow: FlowId) {
        if self.is_dns(flow) {
            self.names.stream_ends(flow);
            self.events.push(HostEvent::Readable(flow));
        } else if let Some(connection) = self.connection(flow) {
            connection.stream.shutdown();
            if let Some(witness) = &mut self.witness {
                witness.ends(flow, Way::Out);
            }
        }
    }

    fn udp_open(&mut self, flow: FlowId, family: &IpAddr) -> Result<(), Failure> {
        let opened = DatagramSocket::udp(family.is_ipv6());
        opened.and_then(|socket| self.insert_datagram(flow, socket)).map_err(|error| failure(&error))
    }

    fn udp_send(&mut self, flow: FlowId, to: SocketAddr, hops: u8, bytes: &[u8]) -> Result<(), Failure> {
        self.datagrams(flow).ok_or(Failure::Exhausted)?;
        if let Some((witness, local)) = self.witness(flow) {
            witness.datagram(Way::Out, local, to, hops, bytes);
        }
        if self.outbox.is_full(flow, hops, bytes.len()) {
            self.flush();
        }
        self.outbox.push(flow, to, hops, bytes);
        Ok(())
    }

    fn udp_recv(&mut self, flow: FlowId, buffer: &mut [u8], into: &mut Vec<Train>) {
        if let Some(socket) = self.datagrams(flow) {
            socket.recv_trains(buffer, into);
        }
        if let Some((witness, local)) = self.witness(flow) {
            for train in into.iter() {
                let pieces = train.pieces(buffer);
                pieces.for_each(|data| witness.datagram(Way::In, local, train.from, 64, data));
            }
        }
    }

    fn ping_open(&mut self, flow: FlowId, family: &IpAddr) -> Result<(), Failure> {
        let opened = DatagramSocket::ping(family.is_ipv6());
        let result =
            opened.and_then(|socket| self.insert_datagram(flow, socket)).map_err(|error| failure(&error));
        if result == Err(Failure::Forbidden) && !self.complained {
            self.complained = true;
            self.say(
                "the guest cannot ping the world: this host gives its users no ping sockets; its administrator can, by \
                 sysctl net.ipv4.ping_group_range=\"0 2147483647\"",
            );
        }
        result
    }

    fn ping_send(
        &mut self,
        flow: FlowId,
        to: IpAddr,
        hops: u8,
        sequence: u16,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let socket = self.datagrams(flow).ok_or(Failure::Exhausted)?;
        socket.send_echo(to, hops, sequence, bytes)?;
        if let Some((witness, local)) = self.witness(flow) {
            witness.echo(Way::Out, (local, to), hops, sequence, bytes);
        }
        Ok(())
    }

    fn ping_recv(&mut self, flow: FlowId, buffer: &mut [u8]) -> Option<EchoReply> {
        let reply = self.datagrams(flow)?.recv_echo(buffer)?;
        if let Some((witness, local)) = self.witness(flow) {
            witness.echo(Way::In, (local, reply.from), 64, reply.sequence, &buffer[..reply.bytes]);
        }
        Some(reply)
    }

    fn question(&mut self, asker: Asker, bytes: &[u8]) {
        self.names.question(asker, bytes, &mut self.events);
    }

    fn close(&mut self, flow: FlowId, reset: bool) {
        if self.outbox.flow() == Some(flow) {
            self.flush();
        }
        if self.is_dns(flow) {
            self.names.closed(flow, &mut self.events);
        }
        if let Some(witness) = &mut self.witness {
            witness.closes(flow, reset);
        }
        if let Some(Socket::Stream(connection)) = self.remove(flow)
            && reset
        {
            connection.stream.reset();
        }
    }
}
