//! One TCP connection: a smoltcp socket towards the guest, a socket of the host, and the bytes between them.

use super::{
    Key,
    device::{Blueprint, Device, capabilities},
    guard::{Guard, Verdict, cut},
    rings::{Rings, Spare},
    segment::{ACK, FIN, RST, SYN, Segment, back, reset_for, send_bare},
    silence::Silence,
};
use crate::{
    core::{
        Turn,
        output::Output,
        packet::{IpHead, Packet, TCP},
        stats::DropReason,
    },
    edges::{FlowId, Moved},
};
use smoltcp::{
    iface::Interface,
    socket::tcp::State,
    time::{Duration, Instant},
};
use std::ops::{Deref, DerefMut};

/// Bytes that one turn moves in each direction before others have theirs.
const TURN_BYTES: usize = 256 << 10;
/// Frames that one turn emits.
const TURN_FRAMES: usize = 256;
/// How long a guest may take to answer our SYN, or our answer to its own.
const CONNECT: Duration = Duration::from_secs(30);
/// smoltcp retransmits after that at the latest.
const LONGEST_TIMEOUT_NS: u64 = 60_000_000_000;

pub(super) enum Stage {
    /// The guest's SYN waits for the host's connection.
    Connecting {
        syn: Vec<u8>,
    },
    Open(Rings),
}

/// With ten thousand connections, none is in a cache. So this is short and holds what a segment's connection is found
/// by; the record and the socket, which are not, come from memory at the same time.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) stage: Stage,
    record: Box<Record>,
}

/// What is known of it beside its socket.
pub(super) struct Record {
    pub(super) id: FlowId,
    guard: Guard,
    /// How far its socket's time is ahead of the clock.
    ahead_ns: u64,
    guest_mss: u16,
    /// The host's socket may have bytes, or room.
    readable: bool,
    writable: bool,
    /// The host's side has ended; the guest's side has, and the host was told.
    host_ended: bool,
    guest_ended: bool,
    told_host: bool,
    /// It stands in the queue of those with something to do.
    pub(super) queued: bool,
    /// It stands among those that wait for room.
    pub(super) starving: bool,
    /// When its timer is armed for.
    pub(super) armed: Option<u64>,
    pub(super) last_ns: u64,
    pub(super) silence: Silence,
    /// A forward's, and the guest has not answered it yet.
    pub(super) called: bool,
    /// It has called anew, as the guest still had an elder connection of the same ports.
    called_anew: bool,
    /// Bytes of each buffer.
    ring: usize,
    pub(super) from_guest: u64,
    pub(super) to_guest: u64,
    /// Times that the guest's Ethernet address was asked for in vain.
    pub(super) asked: u8,
    /// Memory that is accounted for it.
    pub(super) accounted: usize,
}

impl Deref for Flow {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl DerefMut for Flow {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// There is more to do at once.
    pub(super) more: bool,
    /// It waits for room towards the guest.
    pub(super) starved: bool,
    /// It waits for the guest's Ethernet address.
    pub(super) unresolved: bool,
    pub(super) over: Option<Over>,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Both sides ended; the guest's last FIN may come again.
    TimeWait,
    Closed {
        reset: bool,
    },
}

/// The largest segment that a SYN says its sender takes; at least what smoltcp would send.
fn announced_mss(syn: &Segment<'_>) -> u16 {
    match syn.option(2) {
        Some((_, &[high, low])) if (high, low) != (0, 0) => u16::from_be_bytes([high, low]).max(48),
        _ => 536,
    }
}

impl Flow {
    pub(super) fn connecting(id: FlowId, key: Key, syn: Vec<u8>, now: u64) -> Self {
        let record = Record {
            id,
            guard: Guard::default(),
            ahead_ns: 0,
            guest_mss: 536,
            readable: false,
            writable: false,
            host_ended: false,
            guest_ended: false,
            told_host: false,
            queued: false,
            starving: false,
            armed: None,
            last_ns: now,
            silence: Silence::new(now),
            called: false,
            called_anew: false,
            ring: 0,
            from_guest: 0,
            to_guest: 0,
            asked: 0,
            accounted: 0,
        };
        Self { key, stage: Stage::Connecting { syn }, record: Box::new(record) }
    }

    /// The host has connected: answer the guest's SYN. Returns the SYN, which is the first ingress; `None` if there is
    /// no memory for it.
    pub(super) fn open(&mut self, ring: usize, spare: &mut Spare) -> Option<Vec<u8>> {
        let Stage::Connecting { syn } = &mut self.stage else { return None };
        let syn = std::mem::take(syn);
        let peer = (self.key.peer.ip(), self.key.peer.port());
        let mut rings = Rings::new(ring, spare).ok()?;
        rings.socket_mut(|socket| {
            socket.set_timeout(Some(CONNECT));
            socket.listen(peer).ok()
        })?;
        self.begin(rings, ring);
        Some(syn)
    }

    /// A connection of the host's side: connect to the guest. `None` if that cannot be (a port or address of zero).
    pub(super) fn call(&mut self, ring: usize, spare: &mut Spare, iface: &mut Interface) -> Option<()> {
        let mut rings = Rings::new(ring, spare).ok()?;
        let (guest, peer) = (self.key.guest, self.key.peer);
        let (guest, peer) = ((guest.ip(), guest.port()), (peer.ip(), peer.port()));
        rings.socket_mut(|socket| {
            socket.set_timeout(Some(CONNECT));
            socket.connect(iface.context(), guest, peer).ok()
        })?;
        self.begin(rings, ring);
        self.called = true;
        Some(())
    }

    fn begin(&mut self, rings: Rings, ring: usize) {
        self.stage = Stage::Open(rings);
        (self.readable, self.writable, self.ring) = (true, true, ring);
    }

    pub(super) fn readable(&mut self) {
        self.readable = true;
    }

    pub(super) fn writable(&mut self) {
        self.writable = true;
    }

    pub(super) fn state(&self) -> Option<State> {
        match &self.stage {
            Stage::Connecting { .. } => None,
            Stage::Open(rings) => Some(rings.socket(|socket| socket.state())),
        }
    }

    /// Whether the guest has answered just now what a forward asked.
    pub(super) fn answers(&mut self) -> bool {
        let answers = self.called && self.state() != Some(State::SynSent);
        self.called &= !answers;
        answers
    }

    /// Bytes that the guest has sent and the host has not taken, and the other way.
    pub(super) fn waiting(&self) -> (usize, usize) {
        match &self.stage {
            Stage::Connecting { .. } => (0, 0),
            Stage::Open(rings) => rings.socket(|socket| (socket.recv_queue(), socket.send_queue())),
        }
    }

    /// Memory that its buffers have really touched, about.
    pub(super) fn touched(&self) -> usize {
        self.used().iter().map(|used| used.min(&self.ring)).sum()
    }

    /// Where either buffer, receive and send, has not been written yet, were it endless. smoltcp's rings begin with
    /// their first byte and go on with the next one, or again with the first when they are empty.
    fn used(&self) -> [usize; 2] {
        [self.guard.reached(), usize::try_from(self.to_guest).unwrap_or(usize::MAX)]
    }

    /// It has ended: the next one may have its buffers.
    pub(super) fn leave(self, spare: &mut Spare) {
        let used = self.used();
        if let Stage::Open(rings) = self.stage {
            spare.put(rings, used);
        }
    }

    pub(super) fn head(&self) -> IpHead {
        IpHead { source: self.key.peer.ip(), destination: self.key.guest.ip(), protocol: TCP, hops: 64 }
    }

    pub(super) fn ports(&self) -> [u16; 2] {
        [self.key.peer.port(), self.key.guest.port()]
    }

    /// Resets the guest's side, without smoltcp.
    pub(super) fn reset_guest(&self, turn: &mut Turn<'_>, out: &mut Output) {
        if let Some(bare) = self.guard.reset() {
            send_bare(out, turn.guest, &self.head(), self.ports(), bare);
        }
    }

    /// What a late segment of the guest will be answered.
    pub(super) fn last_word(&self) -> Option<super::segment::Bare> {
        self.guard.repeat()
    }

    /// A segment of the guest.
    pub(super) fn segment(
        &mut self,
        iface: &mut Interface,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        // An answer to a question of ours is no use of the connection.
        if self.silence.heard(turn.now) || !segment.payload.is_empty() {
            self.last_ns = turn.now;
        }
        let Some(state) = self.state() else { return };
        let awaits_syn = state == State::SynSent;
        if awaits_syn && self.guard.is_of_another(segment) {
            return self.reset_elder(iface, segment, turn, out);
        }
        if segment.has(SYN) && awaits_syn {
            self.guest_mss = announced_mss(segment);
            if segment.option(3).is_none() {
                self.guard.unscaled();
            }
        }
        let ended = matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        let verdict = self.guard.verdict(segment, awaits_syn);
        if matches!(verdict, Verdict::Pass | Verdict::Cut(_)) && self.guard.loses(segment) {
            self.take_back(iface, turn.now, out);
        }
        match verdict {
            // smoltcp would take bytes behind the FIN for more of the stream.
            Verdict::Pass | Verdict::Cut(_) if ended && !segment.payload.is_empty() => {
                let mut bytes = packet.bytes.to_vec();
                cut(&mut bytes, packet.header_bytes, segment.header_bytes, 0);
                self.ingress(iface, &bytes, turn, out);
                self.say_again(turn, out);
            }
            Verdict::Pass => self.ingress(iface, packet.bytes, turn, out),
            Verdict::Cut(keep) => {
                let mut bytes = packet.bytes.to_vec();
                cut(&mut bytes, packet.header_bytes, segment.header_bytes, keep);
                out.stats.dropped(DropReason::Window);
                self.ingress(iface, &bytes, turn, out);
                self.say_again(turn, out);
            }
            Verdict::Beyond => {
                out.stats.dropped(DropReason::Window);
                self.say_again(turn, out);
            }
            Verdict::Drop => {
                out.stats.dropped(DropReason::Window);
                // Somebody thinks that this is a new connection: a reset of the old one follows, if it is (RFC 5961).
                if segment.has(SYN) && !awaits_syn && state != State::SynReceived {
                    self.say_again(turn, out);
                }
            }
        }
        let opens = awaits_syn || state == State::SynReceived;
        if opens
            && !matches!(self.state(), Some(State::SynSent | State::SynReceived))
            && let Stage::Open(rings) = &mut self.stage
        {
            rings.socket_mut(|socket| socket.set_timeout(None));
        }
        if awaits_syn && self.state() == Some(State::Established) {
            // smoltcp takes the window of its SYN for a scaled one until it has sent another.
            self.egress(iface, turn, out);
        }
    }

    /// The guest acknowledges what we never said: for it the last connection of these ports is not over, as in
    /// TIME-WAIT, where nginx is for a minute after each that it has closed. RFC 9293 §3.10.7.3: that one is reset.
    /// Then we call anew, once: smoltcp would ask again after a second.
    fn reset_elder(
        &mut self,
        iface: &mut Interface,
        segment: &Segment<'_>,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        send_bare(out, turn.guest, &self.head(), self.ports(), reset_for(segment));
        if !self.called_anew && self.call(self.ring, &mut Spare::default(), iface).is_some() {
            self.called_anew = true;
            self.guard = Guard::default();
        }
    }

    /// Makes smoltcp forget that it has sent what is not acknowledged, so that it comes again as the window allows. Its
    /// only way to that is its timeout: the time of this connection is moved past it, while the device takes nothing.
    fn take_back(&mut self, iface: &mut Interface, now: u64, out: &Output) {
        self.ahead_ns = self.ahead_ns.saturating_add(LONGEST_TIMEOUT_NS);
        let instant = self.instant(now);
        let mut shut = Blueprint(capabilities(out, self.key.guest.is_ipv6()));
        let Stage::Open(rings) = &mut self.stage else { return };
        rings.set_mut(|set| iface.poll_egress(instant, &mut shut, set));
    }

    /// The time of the socket.
    fn instant(&self, now: u64) -> Instant {
        instant(now.saturating_add(self.ahead_ns))
    }

    fn say_again(&mut self, turn: &mut Turn<'_>, out: &mut Output) {
        if let Some(bare) = self.guard.repeat() {
            send_bare(out, turn.guest, &self.head(), self.ports(), bare);
        }
    }

    /// The guest's own SYN, at last.
    pub(super) fn first(&mut self, iface: &mut Interface, syn: &[u8], turn: &mut Turn<'_>, out: &mut Output) {
        let ip_bytes = if syn.first().is_some_and(|byte| byte >> 4 == 6) { 40 } else { 20 };
        let Some(segment) = syn.get(ip_bytes..).and_then(Segment::read) else { return };
        self.guest_mss = announced_mss(&segment);
        self.ingress(iface, syn, turn, out);
    }

    fn ingress(&mut self, iface: &mut Interface, bytes: &[u8], turn: &mut Turn<'_>, out: &mut Output) {
        let Some(to) = out.neighbours.get(self.key.guest.ip()) else { return };
        let (head, instant) = (self.head(), self.instant(turn.now));
        let Self { stage: Stage::Open(rings), record, .. } = self else { return };
        let mut device = Device {
            ingress: Some(bytes),
            out,
            guest: turn.guest,
            guard: &mut record.guard,
            to,
            source: head.source,
            destination: head.destination,
            guest_mss: record.guest_mss,
            sent: 0,
            starved: false,
        };
        rings.set_mut(|set| iface.poll_ingress_single(instant, &mut device, set));
    }

    /// Moves what can be moved. One turn is bounded.
    pub(super) fn pump(&mut self, iface: &mut Interface, turn: &mut Turn<'_>, out: &mut Output) -> Outcome {
        let mut outcome = Outcome::default();
        let failed = self.feed_host(turn, &mut outcome) | self.feed_guest(turn, &mut outcome);
        if failed && let Stage::Open(rings) = &mut self.stage {
            rings.socket_mut(|socket| socket.abort());
            // What the guest has sent goes nowhere any more.
            self.writable = false;
        }
        if self.rests() {
            outcome.over = self.over();
            return outcome;
        }
        let sent = self.egress(iface, turn, out);
        outcome.more |= sent.more;
        (outcome.starved, outcome.unresolved) = (sent.starved, sent.unresolved);
        outcome.over = self.over();
        outcome
    }

    /// Both FINs are through, but the host has not taken everything: smoltcp must not forget it in TIME-WAIT.
    fn rests(&self) -> bool {
        self.state() == Some(State::TimeWait) && self.waiting().0 > 0 && self.told_time_wait()
    }

    fn told_time_wait(&self) -> bool {
        // The first turn in TIME-WAIT acknowledges the FIN; the guard has seen it go out.
        match &self.stage {
            Stage::Connecting { .. } => false,
            Stage::Open(_) => self.guest_ended,
        }
    }

    /// Returns whether the host's side broke.
    fn feed_host(&mut self, turn: &mut Turn<'_>, outcome: &mut Outcome) -> bool {
        let Self { stage: Stage::Open(rings), record, .. } = self else { return false };
        rings.socket_mut(|socket| {
            let mut budget = TURN_BYTES;
            while record.writable && socket.can_recv() {
                if budget == 0 {
                    outcome.more = true;
                    return false;
                }
                let moved = socket.recv(|bytes| match turn.host.tcp_send(record.id, bytes) {
                    Moved::Bytes(count) => (count.min(bytes.len()), Moved::Bytes(count)),
                    other => (0, other),
                });
                match moved {
                    Ok(Moved::Bytes(count)) => {
                        record.from_guest += count as u64;
                        budget = budget.saturating_sub(count);
                    }
                    Ok(Moved::WouldBlock) => record.writable = false,
                    Ok(Moved::End | Moved::Failed(_)) => return true,
                    Err(_) => break,
                }
            }
            let ended = match socket.state() {
                State::CloseWait | State::LastAck | State::Closing | State::TimeWait => true,
                State::Closed => record.guest_ended,
                State::Listen
                | State::SynSent
                | State::SynReceived
                | State::Established
                | State::FinWait1
                | State::FinWait2 => false,
            };
            if ended && !record.told_host && socket.recv_queue() == 0 {
                record.told_host = true;
                turn.host.tcp_shutdown(record.id);
            }
            false
        })
    }

    /// Returns whether the host's side broke.
    fn feed_guest(&mut self, turn: &mut Turn<'_>, outcome: &mut Outcome) -> bool {
        let Self { stage: Stage::Open(rings), record, .. } = self else { return false };
        rings.socket_mut(|socket| {
            let mut budget = TURN_BYTES;
            while record.readable && socket.can_send() {
                if budget == 0 {
                    outcome.more = true;
                    return false;
                }
                let moved = socket.send(|buffer| match turn.host.tcp_recv(record.id, buffer) {
                    Moved::Bytes(count) => (count.min(buffer.len()), Moved::Bytes(count)),
                    other => (0, other),
                });
                match moved {
                    Ok(Moved::Bytes(count)) => {
                        record.to_guest += count as u64;
                        budget = budget.saturating_sub(count);
                    }
                    Ok(Moved::WouldBlock) => record.readable = false,
                    Ok(Moved::End) => {
                        (record.readable, record.host_ended) = (false, true);
                        socket.close();
                    }
                    Ok(Moved::Failed(_)) => return true,
                    Err(_) => break,
                }
            }
            false
        })
    }

    /// Emits what smoltcp has to say.
    fn egress(&mut self, iface: &mut Interface, turn: &mut Turn<'_>, out: &mut Output) -> Outcome {
        let (head, instant) = (self.head(), self.instant(turn.now));
        let Some(to) = out.neighbours.get(self.key.guest.ip()) else {
            return Outcome { unresolved: true, ..Outcome::default() };
        };
        let Self { stage: Stage::Open(rings), record, .. } = self else { return Outcome::default() };
        let mut device = Device {
            ingress: None,
            out,
            guest: turn.guest,
            guard: &mut record.guard,
            to,
            source: head.source,
            destination: head.destination,
            guest_mss: record.guest_mss,
            sent: 0,
            starved: false,
        };
        let mut before = usize::MAX;
        while device.sent != before && device.sent < TURN_FRAMES && !device.starved {
            before = device.sent;
            rings.set_mut(|set| iface.poll_egress(instant, &mut device, set));
        }
        let outcome =
            Outcome { more: device.sent >= TURN_FRAMES, starved: device.starved, ..Outcome::default() };
        let state = self.state();
        self.guest_ended |=
            matches!(state, Some(State::CloseWait | State::LastAck | State::Closing | State::TimeWait))
                && !outcome.starved;
        outcome
    }

    fn over(&self) -> Option<Over> {
        let Stage::Open(rings) = &self.stage else { return None };
        let orderly = self.guest_ended && self.host_ended;
        let (state, queued, named) =
            rings.socket(|socket| (socket.state(), socket.recv_queue(), socket.remote_endpoint().is_some()));
        let drained = queued == 0 || !orderly;
        match state {
            State::TimeWait if drained && self.guest_ended => Some(Over::TimeWait),
            State::Closed if drained && !named => Some(Over::Closed { reset: !orderly }),
            // The guest reset what it had asked for.
            State::Listen => Some(Over::Closed { reset: true }),
            State::Closed
            | State::TimeWait
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => None,
        }
    }

    /// When it wants a turn again, if nothing happens.
    pub(super) fn deadline(&self, iface: &mut Interface, now: u64) -> Option<u64> {
        let Stage::Open(rings) = &self.stage else { return None };
        if self.rests() {
            return None;
        }
        let at = rings.set(|set| iface.poll_at(self.instant(now), set))?;
        let at_ns = u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000);
        Some(at_ns.saturating_sub(self.ahead_ns))
    }
}

/// smoltcp counts microseconds.
fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}

/// Flags that no sane segment has together.
pub(super) fn is_senseless(segment: &Segment<'_>) -> bool {
    let flags = segment.flags & (SYN | FIN | RST);
    segment.ports.contains(&0) || flags.count_ones() > 1 || segment.flags & (SYN | FIN | RST | ACK) == 0
}

/// Answers a segment that belongs to no flow.
pub(super) fn refuse(packet: &Packet<'_>, segment: &Segment<'_>, turn: &mut Turn<'_>, out: &mut Output) {
    if !segment.has(RST) {
        let ports = [segment.ports[1], segment.ports[0]];
        send_bare(out, turn.guest, &back(packet), ports, reset_for(segment));
    }
}
