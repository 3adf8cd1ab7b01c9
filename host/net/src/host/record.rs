//! What is captured, by a file that both sides write to; and the host's side of it.

use crate::{
    capture::{
        Capture, Frame, Side, Way,
        packets::{self, Stream as Segments},
    },
    config::{self, Config},
    edges::{Failure, FlowId, IcmpError, Moved},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

/// Peers whose way out is remembered.
const ROUTES: usize = 1024;

type Writer = Capture<BufWriter<File>>;

/// How far it is.
enum State {
    /// The file has what an earlier run has seen. It stays until this one sees something.
    Waits {
        file: File,
        name: String,
        settings: config::Capture,
    },
    Writes(Writer),
    /// A full disk must not end the network; the file is whole up to there.
    Ended,
}

struct Open {
    state: State,
    now: u64,
}

fn begin(file: File, name: &str, settings: &config::Capture) -> io::Result<Writer> {
    Capture::new(BufWriter::new(file), name, settings.guest, settings.host, settings.snap_length)
}

impl Open {
    /// Who writes, if anybody does.
    fn writer(&mut self) -> Option<&mut Writer> {
        if let State::Waits { .. } = &self.state
            && let State::Waits { file, name, settings } = std::mem::replace(&mut self.state, State::Ended)
            && let Ok(writer) = file.set_len(0).and_then(|()| begin(file, &name, &settings))
        {
            self.state = State::Writes(writer);
        }
        match &mut self.state {
            State::Writes(writer) => Some(writer),
            State::Waits { .. } | State::Ended => None,
        }
    }

    /// Whether a frame of that side may be what a file waits for.
    fn takes(&self, side: Side) -> bool {
        match (&self.state, side) {
            (State::Waits { settings, .. }, Side::Guest) => settings.guest,
            (State::Waits { settings, .. }, Side::Host) => settings.host,
            (State::Writes(_), _) => true,
            (State::Ended, _) => false,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Writer) -> io::Result<()>) {
        if self.writer().is_some_and(|writer| act(writer).is_err()) {
            self.state = State::Ended;
        }
    }
}

/// A capture file. Who has it, writes to it.
#[derive(Clone)]
pub(super) struct Record(Arc<Mutex<Open>>);

impl Record {
    /// Opens the file, and leaves alone what is in it.
    pub(super) fn open(settings: &config::Capture, name: &str) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(&settings.file)?;
        let state = match file.metadata()?.len() {
            // Such as a pipe, or a new file, whose readers need not wait for a frame.
            0 => State::Writes(begin(file, name, settings)?),
            _ => State::Waits { file, name: name.to_owned(), settings: settings.clone() },
        };
        let record = Self(Arc::new(Mutex::new(Open { state, now: 0 })));
        record.flush();
        Ok(record)
    }

    /// One thread has all of them, so nobody waits and nobody leaves it half changed.
    fn with(&self, act: impl FnOnce(&mut Open)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is written from now on happens now.
    pub(super) fn set_now(&self, now: u64) {
        self.with(|open| open.now = now);
    }

    pub(super) fn write(&self, side: Side, way: Way, bytes: &[u8], comment: &str) {
        self.with(|open| {
            let frame = Frame { at_ns: open.now, side, way, bytes, length: bytes.len(), comment };
            if open.takes(side) {
                open.act(|writer| writer.frame(&frame));
            }
        });
    }

    pub(super) fn flush(&self) {
        self.with(|open| {
            if let State::Writes(_) = &open.state {
                open.act(Capture::flush);
            }
        });
    }
}

/// Our address, and the peer's.
type Ends = (SocketAddr, SocketAddr);

/// Watches the host's sockets, and writes down packets that stand for what passes.
pub(super) struct Witness {
    record: Record,
    streams: BTreeMap<FlowId, Segments>,
    /// The host's own address towards a peer, which a socket that speaks to anybody does not know.
    routes: BTreeMap<IpAddr, IpAddr>,
}

impl Witness {
    /// `None` if nobody wants to know.
    pub(super) fn new(config: &Config, record: Option<&Record>) -> Option<Self> {
        let wanted = config.capture.as_ref().is_some_and(|capture| capture.host);
        let record = record.filter(|_| wanted)?.clone();
        Some(Self { record, streams: BTreeMap::new(), routes: BTreeMap::new() })
    }

    /// A connection begins: we call, or have been called. One that is not the internet's has no packets.
    pub(super) fn begins(&mut self, flow: FlowId, ends: Option<Ends>, called: bool, comment: &str) {
        self.streams.remove(&flow);
        let Some((ours, peer)) = ends else { return };
        let mut segments = Segments::new(ours, peer);
        let way = if called { Way::In } else { Way::Out };
        let record = &self.record;
        segments.calls(way, &mut |way, packet| record.write(Side::Host, way, packet, comment));
        if called {
            segments.opens(way, &mut |way, packet| record.write(Side::Host, way, packet, ""));
        }
        self.streams.insert(flow, segments);
    }

    fn stream(&mut self, flow: FlowId, act: impl FnOnce(&mut Segments, &mut dyn FnMut(Way, &[u8]))) {
        let record = &self.record;
        if let Some(segments) = self.streams.get_mut(&flow) {
            act(segments, &mut |way, packet| record.write(Side::Host, way, packet, ""));
        }
    }

    /// What we have called answers.
    pub(super) fn opens(&mut self, flow: FlowId) {
        self.stream(flow, |stream, see| stream.opens(Way::Out, see));
    }

    /// What a call that sends or receives has come to.
    pub(super) fn moved(&mut self, flow: FlowId, way: Way, moved: Moved, bytes: &[u8]) {
        match moved {
            Moved::Bytes(count) => self.stream(flow, |stream, see| stream.bytes(way, &bytes[..count], see)),
            Moved::End => self.ends(flow, way),
            Moved::Failed(failure) => self.fails(flow, failure),
            Moved::WouldBlock => {}
        }
    }

    pub(super) fn ends(&mut self, flow: FlowId, way: Way) {
        self.stream(flow, |stream, see| stream.ends(way, see));
    }

    /// The peer, or what is before it, has ended it. What only never answered sends nothing.
    pub(super) fn fails(&mut self, flow: FlowId, failure: Failure) {
        if matches!(failure, Failure::Refused | Failure::Reset) {
            self.stream(flow, |stream, see| stream.breaks(Way::In, see));
        }
        self.streams.remove(&flow);
    }

    pub(super) fn closes(&mut self, flow: FlowId, reset: bool) {
        self.stream(flow, |stream, see| match reset {
            true => stream.breaks(Way::Out, see),
            false => stream.ends(Way::Out, see),
        });
        self.streams.remove(&flow);
    }

    /// Where a socket is when it speaks to this peer.
    fn at(&mut self, socket: SocketAddr, peer: IpAddr) -> SocketAddr {
        if !socket.ip().is_unspecified() {
            return socket;
        }
        if self.routes.len() >= ROUTES {
            self.routes.clear();
        }
        let route = || {
            let probe = UdpSocket::bind(SocketAddr::new(socket.ip(), 0))?;
            // Nothing is sent; the kernel only looks for the way.
            probe.connect(SocketAddr::new(peer, 9))?;
            probe.local_addr()
        };
        let found = |address: io::Result<SocketAddr>| address.map_or(socket.ip(), |at| at.ip());
        let ip = *self.routes.entry(peer).or_insert_with(|| found(route()));
        SocketAddr::new(ip, socket.port())
    }

    fn packet(&self, way: Way, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            self.record.write(Side::Host, way, &packet, "");
        }
    }

    pub(super) fn datagram(&mut self, way: Way, socket: SocketAddr, peer: SocketAddr, hops: u8, data: &[u8]) {
        let ours = self.at(socket, peer.ip());
        let (from, to) = if way == Way::Out { (ours, peer) } else { (peer, ours) };
        self.packet(way, packets::datagram(from, to, hops, data));
    }

    pub(super) fn echo(
        &mut self,
        way: Way,
        (socket, peer): (SocketAddr, IpAddr),
        hops: u8,
        sequence: u16,
        data: &[u8],
    ) {
        let ours = self.at(socket, peer);
        let ends = if way == Way::Out { [ours.ip(), peer] } else { [peer, ours.ip()] };
        self.packet(way, packets::echo(ends, way == Way::In, hops, [ours.port(), sequence], data));
    }

    pub(super) fn error(&mut self, socket: SocketAddr, echo: bool, error: &IcmpError) {
        let ours = self.at(socket, error.to.ip());
        self.packet(Way::In, packets::error(ours, echo, error));
    }
}
