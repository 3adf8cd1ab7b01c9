//! The name server's sockets: questions of the guest go to the host's servers, by UDP and TCP.

use super::{descriptors::Descriptors, record::Witness};
use crate::{
    capture::Way,
    config::Config,
    core::Answer,
    edges::{Failure, FlowId, HostEvent, Moved},
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
/// A guest that asks and does not listen is not heard beyond this: answers are up to 30 times as long as questions.
const UNREAD_BYTES: usize = 128 << 10;
/// Beyond this it is hung up on: answers of others may be 64 KiB each.
const UNREAD_MOST: usize = 2 * UNREAD_BYTES;
/// The guest's connections to the name server; the next one is refused.
const LINES: usize = 64;
/// Messages that one look takes from a server: as many as a query outlives if they are forged.
const MESSAGES: usize = 16;
/// What is taken of its questions at a time.
const BITE_BYTES: usize = 4096;

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
    /// It has asked for more than it reads.
    broken: bool,
}

impl Line {
    fn is_full(&self) -> bool {
        self.outgoing.len() > UNREAD_BYTES
    }
}

pub(super) struct Names {
    dns: Dns,
    watch: Watch,
    looked: Option<Instant>,
    started: Instant,
    registry: Registry,
    queries: BTreeMap<QueryId, Query>,
    lines: BTreeMap<FlowId, Line>,
    descriptors: Descriptors,
    /// Of the queries; a connection is known by the query's number.
    pub(super) witness: Option<Witness>,
}

/// The name of a query's connection for who watches.
fn line_of(query: QueryId) -> FlowId {
    FlowId::from_token(query.0)
}

/// The query that a token names.
pub(super) fn query_of(token: Token) -> Option<QueryId> {
    let token = token.0 as u64;
    (token >> 62 == 1).then_some(QueryId(token & (TOKENS - 1)))
}

impl Names {
    pub(super) fn new(config: &Config, seed: [u8; 32], registry: Registry, descriptors: Descriptors) -> Self {
        Self {
            dns: Dns::new(config, seed),
            watch: Watch::default(),
            looked: None,
            started: Instant::now(),
            registry,
            queries: BTreeMap::new(),
            lines: BTreeMap::new(),
            descriptors,
            witness: None,
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
                Action::Close(query) => {
                    self.queries.remove(&query);
                    if let Some(witness) = &mut self.witness {
                        witness.closes(line_of(query), false);
                    }
                }
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
                    let framed = framed(&message).unwrap_or_default();
                    line.broken |= line.outgoing.len() + framed.len() > UNREAD_MOST;
                    if line.broken {
                        line.outgoing = VecDeque::new();
                    } else {
                        line.outgoing.extend(framed);
                    }
                    events.push(HostEvent::Readable(flow));
                }
            }
        }
    }

    fn ask(&mut self, query: QueryId, server: SocketAddr, tcp: bool, message: Vec<u8>) -> io::Result<()> {
        let token = Token((TOKENS | query.0) as usize);
        if tcp {
            let mut stream = TcpStream::connect(server)?;
            self.descriptors.check(&stream)?;
            self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let unsent = framed(&message).ok_or(ErrorKind::InvalidInput)?;
            if let Some(witness) = &mut self.witness {
                let ends = stream.local_addr().ok().map(|ours| (ours, server));
                witness.begins(line_of(query), ends, false, "of the name server");
            }
            self.queries.insert(query, Query::Tcp { stream, unsent, incoming: Deframer::default() });
            return Ok(());
        }
        let any: SocketAddr = match server.is_ipv6() {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let mut socket = UdpSocket::bind(any)?;
        self.descriptors.check(&socket)?;
        socket.connect(server)?;
        self.registry.register(&mut socket, token, Interest::READABLE)?;
        socket.send(&message)?;
        if let Some(witness) = &mut self.witness
            && let Ok(ours) = socket.local_addr()
        {
            witness.datagram(Way::Out, ours, server, 64, &message);
        }
        self.queries.insert(query, Query::Udp(socket));
        Ok(())
    }

    /// The poller has something to say about a query.
    pub(super) fn event(&mut self, id: QueryId, events: &mut Vec<HostEvent>) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let mut answers = Vec::new();
        let alive = match query {
            Query::Udp(socket) => {
                let alive = read_datagrams(socket, &mut answers);
                if let Some(witness) = &mut self.witness
                    && let (Ok(ours), Ok(peer)) = (socket.local_addr(), socket.peer_addr())
                {
                    answers.iter().for_each(|answer| witness.datagram(Way::In, ours, peer, 64, answer));
                }
                alive
            }
            Query::Tcp { stream, unsent, incoming } => {
                let witness = &mut self.witness;
                let mut see = |way, bytes: &[u8]| {
                    if let Some(witness) = witness {
                        witness.opens(line_of(id));
                        witness.moved(line_of(id), way, Moved::Bytes(bytes.len()), bytes);
                    }
                };
                talk(stream, unsent, incoming, &mut answers, &mut see)
            }
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

    pub(super) fn connect(&mut self, flow: FlowId, server: SocketAddr) -> io::Result<()> {
        if self.lines.len() >= LINES {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        let (incoming, outgoing) = (Deframer::default(), VecDeque::new());
        self.lines.insert(flow, Line { server, incoming, outgoing, ended: false, broken: false });
        Ok(())
    }

    /// The guest's bytes.
    pub(super) fn stream_in(&mut self, flow: FlowId, bytes: &[u8], events: &mut Vec<HostEvent>) -> Moved {
        let Some(line) = self.lines.get_mut(&flow) else { return Moved::End };
        if line.broken {
            return Moved::Failed(Failure::Reset);
        }
        if line.is_full() {
            return Moved::WouldBlock;
        }
        let bite = &bytes[..bytes.len().min(BITE_BYTES)];
        let messages = line.incoming.push(bite);
        // The guest's end is not known here, and nobody asks for it: the line's number names it.
        let asker =
            Asker { guest: line.server, server: line.server, transport: Transport::Tcp(flow.token()) };
        for message in messages {
            self.question(asker, &message, events);
        }
        Moved::Bytes(bite.len())
    }

    pub(super) fn stream_out(
        &mut self,
        flow: FlowId,
        buffer: &mut [u8],
        events: &mut Vec<HostEvent>,
    ) -> Moved {
        let waits = self.dns.waits(flow.token());
        let Some(line) = self.lines.get_mut(&flow) else { return Moved::End };
        if line.broken {
            return Moved::Failed(Failure::Reset);
        }
        let was_full = line.is_full();
        match line.outgoing.read(buffer) {
            Ok(0) | Err(_) if line.ended && !waits => Moved::End,
            Ok(0) | Err(_) => Moved::WouldBlock,
            Ok(count) => {
                if was_full && !line.is_full() {
                    events.push(HostEvent::Writable(flow));
                }
                Moved::Bytes(count)
            }
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
    // Whoever sends faster than this reads must not keep it here. Of so many the query knows one, or it is over.
    for _ in 0..MESSAGES {
        match socket.recv(&mut buffer) {
            Ok(count) => answers.push(buffer[..count].to_vec()),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

/// Returns whether more may come.
fn talk(
    stream: &mut TcpStream,
    unsent: &mut Vec<u8>,
    incoming: &mut Deframer,
    answers: &mut Vec<Vec<u8>>,
    see: &mut dyn FnMut(Way, &[u8]),
) -> bool {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(count) => {
                see(Way::Out, &unsent[..count]);
                unsent.drain(..count);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(_) => return false,
        }
    }
    let mut buffer = [0; 4096];
    while answers.len() < MESSAGES {
        match stream.read(&mut buffer) {
            Ok(0) => return !answers.is_empty(),
            Ok(count) => {
                see(Way::In, &buffer[..count]);
                answers.extend(incoming.push(&buffer[..count]));
            }
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Kind;

    /// A question for `host.reprise`, which asks nobody.
    const QUESTION: &[u8] = b"\0\x1e\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04host\x07reprise\0\0\x01\0\x01";

    fn names() -> (mio::Poll, Names, FlowId) {
        let poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut names = Names::new(&Config::default(), [1; 32], registry, Descriptors::raise());
        let flow = FlowId::new(Kind::Tcp, 1, 1);
        names.connect(flow, "10.0.2.3:53".parse().unwrap()).unwrap();
        (poll, names, flow)
    }

    #[test]
    fn who_asks_and_does_not_listen_is_not_heard() {
        let (_poll, mut names, flow) = names();
        let many = QUESTION.repeat(20_000);
        let (mut events, mut taken) = (Vec::new(), 0);
        while taken < many.len() {
            match names.stream_in(flow, &many[taken..], &mut events) {
                Moved::Bytes(count) => taken += count,
                _ => break,
            }
        }
        assert!(taken < many.len() / 2, "{taken} bytes of questions");
        assert!(names.lines[&flow].outgoing.len() < UNREAD_BYTES + 30 * BITE_BYTES);
        events.clear();
        let mut buffer = [0; 10_000];
        while let Moved::Bytes(_) = names.stream_out(flow, &mut buffer, &mut events) {}
        assert_eq!(events, [HostEvent::Writable(flow)], "and heard again");
        assert!(matches!(names.stream_in(flow, &many[taken..], &mut events), Moved::Bytes(_)));
    }

    #[test]
    fn who_asks_for_more_than_it_ever_reads_is_hung_up_on() {
        let (_poll, mut names, flow) = names();
        let mut events = Vec::new();
        let server = "10.0.2.3:53".parse().unwrap();
        let asker = Asker { guest: server, server, transport: Transport::Tcp(flow.token()) };
        for _ in 0..100 {
            names.answer(asker, vec![7; 60_000], &mut events);
            assert!(names.lines[&flow].outgoing.len() <= UNREAD_MOST);
        }
        let mut buffer = [0; 100];
        let over = Moved::Failed(Failure::Reset);
        assert_eq!(names.stream_out(flow, &mut buffer, &mut events), over);
        assert_eq!(names.stream_in(flow, QUESTION, &mut events), over);
    }

    #[test]
    fn lines_are_few() {
        let (_poll, mut names, flow) = names();
        let mut connect = |at| names.connect(FlowId::new(Kind::Tcp, 1, at), "10.0.2.3:53".parse().unwrap());
        for at in 2..=LINES as u32 {
            connect(at).unwrap();
        }
        assert!(connect(1000).is_err());
        names.closed(flow, &mut Vec::new());
        names.connect(FlowId::new(Kind::Tcp, 1, 1000), "10.0.2.3:53".parse().unwrap()).unwrap();
    }

    #[test]
    fn a_server_that_never_stops_is_not_heard_to_its_end() {
        let (flood, socket) = (
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap(),
        );
        flood.connect(socket.local_addr().unwrap()).unwrap();
        socket.connect(flood.local_addr().unwrap()).unwrap();
        for _ in 0..100 {
            flood.send(b"x").unwrap();
        }
        let mut answers = Vec::new();
        assert!(read_datagrams(&socket, &mut answers));
        assert_eq!(answers.len(), MESSAGES);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&b"\0\x01x".repeat(1000)).unwrap();
        drop(server);
        stream.set_nonblocking(true).unwrap();
        let (mut stream, mut answers) = (TcpStream::from_std(stream), Vec::new());
        let alive =
            talk(&mut stream, &mut Vec::new(), &mut Deframer::default(), &mut answers, &mut |_, _| ());
        assert!(alive && (MESSAGES..=4096 / 3 + 1).contains(&answers.len()), "{}", answers.len());
    }

    #[test]
    fn a_line_ends_when_nothing_is_to_be_answered() {
        let (_poll, mut names, flow) = names();
        let (mut events, mut buffer) = (Vec::new(), [0; 100]);
        // The second message is no question, and has no answer.
        let bytes = [QUESTION, b"\0\x01x"].concat();
        assert_eq!(names.stream_in(flow, &bytes, &mut events), Moved::Bytes(bytes.len()));
        names.stream_ends(flow);
        assert!(matches!(names.stream_out(flow, &mut buffer, &mut events), Moved::Bytes(_)));
        assert_eq!(names.stream_out(flow, &mut buffer, &mut events), Moved::End);
    }
}
