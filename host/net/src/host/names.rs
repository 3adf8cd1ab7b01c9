//! The name server's sockets: questions of the guest go to the host's servers, by UDP and TCP.

use crate::{
    config::Config,
    core::Answer,
    edges::{FlowId, HostEvent, Moved},
    service::dns::{Action, Asker, Deframer, Dns, QueryId, Transport, Watch, framed},
};
use mio::{
    Interest, Registry, Token,
    net::{TcpStream, UdpSocket},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

/// Tokens of queries: beyond those of flows.
const TOKENS: u64 = 1 << 62;
/// Between looks at the host's list of servers.
const LOOK: Duration = Duration::from_secs(1);
const LIST: &str = "/etc/resolv.conf";

enum Query {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, unsent: Vec<u8>, incoming: Deframer },
}

/// A connection of the guest's.
#[derive(Debug)]
struct Line {
    server: SocketAddr,
    incoming: Deframer,
    outgoing: VecDeque<u8>,
    ended: bool,
    unanswered: usize,
}

pub(super) struct Names {
    dns: Dns,
    watch: Watch,
    looked: Option<Instant>,
    started: Instant,
    registry: Registry,
    queries: BTreeMap<QueryId, Query>,
    lines: BTreeMap<FlowId, Line>,
}

/// The query that a token names.
pub(super) fn query_of(token: Token) -> Option<QueryId> {
    let token = token.0 as u64;
    (token >> 62 == 1).then_some(QueryId(token & (TOKENS - 1)))
}

impl Names {
    pub(super) fn new(config: &Config, seed: [u8; 32], registry: Registry) -> Self {
        Self {
            dns: Dns::new(config, seed),
            watch: Watch::default(),
            looked: None,
            started: Instant::now(),
            registry,
            queries: BTreeMap::new(),
            lines: BTreeMap::new(),
        }
    }

    /// The servers live in the host's time.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn pending(&self) -> bool {
        self.dns.pending() > 0
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.dns.next_deadline_ns().map(|at| self.started + Duration::from_nanos(at))
    }

    fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        let text = std::fs::read_to_string(LIST).ok();
        // A host without a list is asked itself, as its own resolver does.
        let missing = text.is_none() && !std::path::Path::new(LIST).exists();
        let text = if missing { Some("") } else { text.as_deref() };
        if let Some(servers) = self.watch.changed(text) {
            self.dns.set_upstream(servers);
        }
    }

    pub(super) fn question(&mut self, asker: Asker, bytes: &[u8], events: &mut Vec<HostEvent>) {
        self.look();
        let mut actions = Vec::new();
        self.dns.question(self.now(), asker, bytes, &mut actions);
        self.act(actions, events);
    }

    pub(super) fn poll(&mut self, events: &mut Vec<HostEvent>) {
        let mut actions = Vec::new();
        self.dns.poll(self.now(), &mut actions);
        self.act(actions, events);
    }

    pub(super) fn reset(&mut self, events: &mut Vec<HostEvent>) {
        let mut actions = Vec::new();
        self.dns.reset(&mut actions);
        self.act(actions, events);
    }

    /// Carries out what the name server wants; a query that cannot even begin leads to the next.
    fn act(&mut self, actions: Vec<Action>, events: &mut Vec<HostEvent>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Answer { to, message } => self.answer(to, message, events),
                Action::Close(query) => drop(self.queries.remove(&query)),
                Action::Ask { query, server, tcp, message } => {
                    if self.ask(query, server, tcp, message).is_err() {
                        let mut more = Vec::new();
                        self.dns.failed(self.now(), query, &mut more);
                        actions.extend(more);
                    }
                }
            }
        }
    }

    fn answer(&mut self, to: Asker, message: Vec<u8>, events: &mut Vec<HostEvent>) {
        match to.transport {
            Transport::Udp => events.push(HostEvent::Say(Answer::Datagram {
                mac: None,
                from: to.server,
                to: to.guest,
                data: message,
            })),
            Transport::Tcp(line) => {
                let flow = FlowId::from_token(line);
                if let Some(line) = self.lines.get_mut(&flow) {
                    line.unanswered = line.unanswered.saturating_sub(1);
                    line.outgoing.extend(framed(&message).unwrap_or_default());
                    events.push(HostEvent::Readable(flow));
                }
            }
        }
    }

    fn ask(&mut self, query: QueryId, server: SocketAddr, tcp: bool, message: Vec<u8>) -> io::Result<()> {
        let token = Token((TOKENS | query.0) as usize);
        if tcp {
            let mut stream = TcpStream::connect(server)?;
            self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let unsent = framed(&message).ok_or(ErrorKind::InvalidInput)?;
            self.queries.insert(query, Query::Tcp { stream, unsent, incoming: Deframer::default() });
            return Ok(());
        }
        let any: SocketAddr = match server.is_ipv6() {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let mut socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        self.registry.register(&mut socket, token, Interest::READABLE)?;
        socket.send(&message)?;
        self.queries.insert(query, Query::Udp(socket));
        Ok(())
    }

    /// The poller has something to say about a query.
    pub(super) fn event(&mut self, id: QueryId, events: &mut Vec<HostEvent>) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let mut answers = Vec::new();
        let alive = match query {
            Query::Udp(socket) => read_datagrams(socket, &mut answers),
            Query::Tcp { stream, unsent, incoming } => talk(stream, unsent, incoming, &mut answers),
        };
        let now = self.now();
        let mut actions = Vec::new();
        for answer in answers {
            self.dns.answer(now, id, &answer, &mut actions);
        }
        if !alive {
            self.dns.failed(now, id, &mut actions);
        }
        self.act(actions, events);
    }

    pub(super) fn connect(&mut self, flow: FlowId, server: SocketAddr) {
        let line = Line {
            server,
            incoming: Deframer::default(),
            outgoing: VecDeque::new(),
            ended: false,
            unanswered: 0,
        };
        self.lines.insert(flow, line);
    }

    /// The guest's bytes.
    pub(super) fn stream_in(&mut self, flow: FlowId, bytes: &[u8], events: &mut Vec<HostEvent>) -> Moved {
        let Some(line) = self.lines.get_mut(&flow) else { return Moved::End };
        let messages = line.incoming.push(bytes);
        line.unanswered += messages.len();
        // The guest's end is not known here, and nobody asks for it: the line's number names it.
        let asker =
            Asker { guest: line.server, server: line.server, transport: Transport::Tcp(flow.token()) };
        for message in messages {
            self.question(asker, &message, events);
        }
        Moved::Bytes(bytes.len())
    }

    pub(super) fn stream_out(&mut self, flow: FlowId, buffer: &mut [u8]) -> Moved {
        let Some(line) = self.lines.get_mut(&flow) else { return Moved::End };
        match line.outgoing.read(buffer) {
            Ok(0) | Err(_) if line.ended && line.unanswered == 0 => Moved::End,
            Ok(0) | Err(_) => Moved::WouldBlock,
            Ok(count) => Moved::Bytes(count),
        }
    }

    pub(super) fn stream_ends(&mut self, flow: FlowId) {
        if let Some(line) = self.lines.get_mut(&flow) {
            line.ended = true;
        }
    }

    pub(super) fn closed(&mut self, flow: FlowId, events: &mut Vec<HostEvent>) {
        self.lines.remove(&flow);
        let mut actions = Vec::new();
        self.dns.closed(flow.token(), &mut actions);
        self.act(actions, events);
    }
}

/// Returns whether more may come.
fn read_datagrams(socket: &UdpSocket, answers: &mut Vec<Vec<u8>>) -> bool {
    let mut buffer = vec![0; 65_535];
    loop {
        match socket.recv(&mut buffer) {
            Ok(count) => answers.push(buffer[..count].to_vec()),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Returns whether more may come.
fn talk(
    stream: &mut TcpStream,
    unsent: &mut Vec<u8>,
    incoming: &mut Deframer,
    answers: &mut Vec<Vec<u8>>,
) -> bool {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(_) => return false,
        }
    }
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return !answers.is_empty(),
            Ok(count) => answers.extend(incoming.push(&buffer[..count])),
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
        }
    }
}
