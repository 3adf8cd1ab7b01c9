//! TCP: which connection a segment belongs to, whose turn it is, and the limits on all of them.

mod device;
mod flight;
mod flow;
mod guard;
mod index;
mod rate;
mod rings;
mod segment;
mod silence;

use super::{
    Turn,
    network::Place,
    output::Output,
    packet::{IpHead, Packet, TCP},
    route::{Refusal, Router},
    slab::Slab,
    stats::DropReason,
};
use crate::{
    config::Limits,
    edges::{Failure, FlowId, Kind},
    timers::ExternalTimers,
};
use device::{Blueprint, capabilities};
use flow::{Flow, Outcome, Over, Stage, is_senseless, refuse};
use index::Index;
use rate::Rate;
use rings::Spare;
pub(super) use segment::Segment;
use segment::{ACK, Bare, FIN, RST, SYN, send_bare};
use serde::Serialize;
use smoltcp::{
    iface::{Config, Interface},
    time::Instant,
    wire::HardwareAddress,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How long a guest's repeated last FIN is answered.
const TOMBSTONE_NS: u64 = 1_000_000_000;
const MAX_TOMBSTONES: usize = 4096;
const ASK_NS: u64 = 1_000_000_000;
const MAX_ASKED: u8 = 5;

/// The four names of a connection; the peer as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) guest: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// What is known about a connection, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpInfo {
    pub guest: SocketAddr,
    /// As the guest sees it.
    pub peer: SocketAddr,
    pub state: String,
    pub from_guest_bytes: u64,
    pub to_guest_bytes: u64,
    /// Waiting for the host, and for the guest.
    pub waiting_bytes: (usize, usize),
}

#[derive(Debug)]
struct Tombstone {
    bare: Bare,
    expires_ns: u64,
}

pub(super) struct Tcp {
    limits: Limits,
    flows: Slab<Flow>,
    by_key: Index,
    /// The slot of the last segment's connection: mostly, it is the next one's too, and need not be looked up.
    last: u32,
    /// For IPv4 and IPv6: what smoltcp needs beside a socket.
    interfaces: [Interface; 2],
    seed: u64,
    /// Who has something to do, in order.
    dirty: VecDeque<FlowId>,
    /// Who waits for room towards the guest, or for its Ethernet address.
    starved: VecDeque<FlowId>,
    unresolved: Vec<FlowId>,
    timers: ExternalTimers,
    tombstones: BTreeMap<Key, Tombstone>,
    tombstone_order: VecDeque<(u64, Key)>,
    half_open: usize,
    /// Flows of forwards whose guest has not answered yet.
    called: usize,
    rate: Rate,
    spare: Spare,
    memory_bytes: usize,
}

fn interface(out: &Output, v6: bool, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, &mut Blueprint(capabilities(out, v6)), Instant::ZERO);
    interface.set_any_ip(true);
    interface
}

impl Tcp {
    pub(super) fn new(limits: Limits, out: &Output, seed: u64) -> Self {
        Self {
            limits,
            flows: Slab::new(Kind::Tcp),
            by_key: Index::new(seed),
            last: 0,
            interfaces: [interface(out, false, seed), interface(out, true, !seed)],
            seed,
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            unresolved: Vec::new(),
            timers: ExternalTimers::default(),
            tombstones: BTreeMap::new(),
            tombstone_order: VecDeque::new(),
            half_open: 0,
            called: 0,
            rate: Rate::new(limits.tcp_new_per_s, limits.tcp_burst),
            spare: Spare::default(),
            memory_bytes: 0,
        }
    }

    /// The guest's offloads have changed. Connections go on.
    pub(super) fn set_offload(&mut self, out: &Output) {
        // Another seed, or the sequence numbers of old connections would come again.
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.interfaces = [interface(out, false, self.seed), interface(out, true, !self.seed)];
    }

    /// Bytes of a new connection's buffers. Windows should be large (a guest under emulation answers late), memory
    /// is bounded by what is touched.
    fn ring(&self) -> usize {
        match self.flows.len() {
            0..256 => 1 << 20,
            _ => 256 << 10,
        }
    }

    /// A segment of the guest, whose checksum holds.
    pub(super) fn segment(
        &mut self,
        packet: &Packet<'_>,
        router: &Router,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        let Some(segment) = Segment::read(packet.payload) else {
            return out.stats.dropped(DropReason::Truncated);
        };
        if is_senseless(&segment) || packet.source == packet.destination {
            return out.stats.dropped(DropReason::Malformed);
        }
        if out.network.place(packet.destination) == Place::Multicast {
            // RFC 9293 §3.9.2.3, MUST-57: not even a reset is sent.
            return out.stats.dropped(DropReason::Multicast);
        }
        let key = Key {
            guest: SocketAddr::new(packet.source, segment.ports[0]),
            peer: SocketAddr::new(packet.destination, segment.ports[1]),
        };
        let opens = segment.has(SYN) && !segment.has(ACK);
        match self.find(&key) {
            Some(id) => {
                self.last = id.index();
                self.segment_of(id, packet, &segment, turn, out);
            }
            None if opens => self.syn(key, packet, router, turn, out),
            None => self.stray(&key, packet, &segment, turn, out),
        }
    }

    fn find(&self, key: &Key) -> Option<FlowId> {
        let is_it = |slot: u32| self.flows.at(slot).is_some_and(|flow| flow.key == *key);
        let slot = if is_it(self.last) { self.last } else { self.by_key.get(key, is_it)? };
        self.flows.id_at(slot)
    }

    fn stray(
        &mut self,
        key: &Key,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        let late = self.tombstones.get(key).filter(|late| late.expires_ns > turn.now);
        match late {
            Some(late) if segment.has(FIN) || !segment.payload.is_empty() => {
                let head =
                    IpHead { source: key.peer.ip(), destination: key.guest.ip(), protocol: TCP, hops: 64 };
                send_bare(out, turn.guest, &head, [key.peer.port(), key.guest.port()], late.bare);
            }
            Some(_) => {}
            None => {
                out.stats.dropped(DropReason::NoFlow);
                refuse(packet, segment, turn, out);
            }
        }
    }

    /// The guest asks for a connection.
    fn syn(&mut self, key: Key, packet: &Packet<'_>, router: &Router, turn: &mut Turn<'_>, out: &mut Output) {
        self.tombstones.remove(&key);
        if self.half_open >= self.limits.tcp_half_open as usize {
            // It will ask again.
            return out.stats.dropped(DropReason::Limit);
        }
        if self.flows.len() >= self.limits.tcp_flows as usize {
            out.stats.dropped(DropReason::Limit);
            return Self::answer_failure(Failure::Refused, packet, turn, out);
        }
        let target = match router.tcp(&out.network, key.peer) {
            Ok(target) => target,
            Err(refusal) => {
                out.stats.dropped(DropReason::Policy);
                if refusal == Refusal::Tell {
                    Self::answer_failure(Failure::Refused, packet, turn, out);
                }
                return;
            }
        };
        let now = turn.now;
        if !self.rate.take(now) {
            return out.stats.dropped(DropReason::Limit);
        }
        let syn = parked(packet);
        let id = self.flows.insert(|id| Flow::connecting(id, key, syn, now));
        self.by_key.insert(&key, id.index());
        self.half_open += 1;
        if let Err(failure) = turn.host.tcp_connect(id, &target) {
            self.failed(id, failure, turn, out);
        }
    }

    fn answer_failure(failure: Failure, packet: &Packet<'_>, turn: &mut Turn<'_>, out: &mut Output) {
        let code = match failure {
            Failure::NetUnreachable => super::icmp::Unreachable::Net,
            Failure::HostUnreachable | Failure::TimedOut => super::icmp::Unreachable::Host,
            Failure::Refused
            | Failure::Reset
            | Failure::Forbidden
            | Failure::Exhausted
            | Failure::TooBig(_) => {
                if let Some(segment) = Segment::read(packet.payload) {
                    refuse(packet, &segment, turn, out);
                }
                return;
            }
        };
        out.unreachable(turn.guest, packet, code);
    }

    fn segment_of(
        &mut self,
        id: FlowId,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        turn: &mut Turn<'_>,
        out: &mut Output,
    ) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if matches!(flow.stage, Stage::Connecting { .. }) {
            // A repeated SYN waits with the first one.
            if segment.has(RST) {
                turn.host.close(id, true);
                self.forget(id);
            }
            return;
        }
        let interface = &mut self.interfaces[usize::from(packet.source.is_ipv6())];
        let step = catch_unwind(AssertUnwindSafe(|| flow.segment(interface, packet, segment, turn, out)));
        match step {
            Ok(()) => {
                if flow.answers() {
                    self.called -= 1;
                }
                self.wake(id);
            }
            Err(_) => self.panicked(id, turn, out),
        }
    }

    /// The host's side of a connection has come about.
    pub(super) fn connected(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        let ring = self.ring();
        let Some(flow) = self.flows.get_mut(id) else { return };
        let v6 = flow.key.guest.is_ipv6();
        if !matches!(flow.stage, Stage::Connecting { .. }) {
            return;
        }
        let Some(syn) = flow.open(ring, &mut self.spare) else {
            // No memory for it. The guest hears nothing and asks again.
            out.stats.dropped(DropReason::Limit);
            turn.host.close(id, true);
            return self.forget(id);
        };
        self.half_open -= 1;
        let interface = &mut self.interfaces[usize::from(v6)];
        let step = catch_unwind(AssertUnwindSafe(|| flow.first(interface, &syn, turn, out)));
        match step {
            Ok(()) => self.wake(id),
            Err(_) => self.panicked(id, turn, out),
        }
    }

    /// A connection that was begun came to nothing; the host has closed its side.
    pub(super) fn failed(&mut self, id: FlowId, failure: Failure, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(flow) = self.flows.get(id) else { return };
        let Stage::Connecting { syn } = &flow.stage else { return };
        let packet = if flow.key.guest.is_ipv4() { Packet::v4(syn) } else { Packet::v6(syn) };
        if failure != Failure::Refused {
            out.stats.dropped(DropReason::HostFailed);
        }
        if let Ok(packet) = packet {
            Self::answer_failure(failure, &packet, turn, out);
        }
        self.forget(id);
    }

    /// A connection from the host's side to `guest`; `peer` is who it seems to come from. The host has accepted it and
    /// calls it by the id from now on. `None`: refused, there is no flow.
    pub(super) fn accept(
        &mut self,
        peer: SocketAddr,
        guest: SocketAddr,
        now: u64,
        out: &mut Output,
    ) -> Option<FlowId> {
        let key = Key { guest, peer };
        let full =
            self.flows.len() >= self.limits.tcp_flows as usize || self.called >= self.limits.accepts as usize;
        if full || self.find(&key).is_some() {
            out.stats.dropped(DropReason::Limit);
            return None;
        }
        self.tombstones.remove(&key);
        let ring = self.ring();
        let id = self.flows.insert(|id| Flow::connecting(id, key, Vec::new(), now));
        let interface = &mut self.interfaces[usize::from(guest.is_ipv6())];
        let called = self.flows.get_mut(id).and_then(|flow| flow.call(ring, &mut self.spare, interface));
        if called.is_none() {
            self.flows.remove(id);
            return None;
        }
        self.called += 1;
        self.by_key.insert(&key, id.index());
        self.wake(id);
        Some(id)
    }

    pub(super) fn has(&self, guest: SocketAddr, peer: SocketAddr) -> bool {
        self.find(&Key { guest, peer }).is_some()
    }

    /// The host's side may have bytes or room.
    pub(super) fn ready(&mut self, id: FlowId, readable: bool) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if readable {
            flow.readable()
        } else {
            flow.writable()
        }
        self.wake(id);
    }

    fn wake(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id).filter(|flow| !flow.queued) {
            flow.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// A neighbour is known now: who waited for one tries again.
    pub(super) fn resolved(&mut self) {
        for id in std::mem::take(&mut self.unresolved) {
            self.wake(id);
        }
    }

    /// Turns for up to `turns` flows that have something to do. Returns whether some are left.
    pub(super) fn poll(&mut self, turns: usize, turn: &mut Turn<'_>, out: &mut Output) -> bool {
        while let Some(index) = self.timers.poll(turn.now) {
            let Some(id) = self.flows.id_at(index) else { continue };
            if let Some(flow) = self.flows.get_mut(id) {
                flow.armed = None;
            }
            self.wake(id);
        }
        if !self.starved.is_empty() && Output::has_room(turn.guest, usize::from(out.network.mtu) + 14) {
            for id in std::mem::take(&mut self.starved) {
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.starving = false;
                }
                self.wake(id);
            }
        }
        for _ in 0..turns {
            let Some(id) = self.dirty.pop_front() else { break };
            self.turn_of(id, turn, out);
        }
        self.bury_late(turn.now);
        !self.dirty.is_empty()
    }

    fn turn_of(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.queued = false;
        let interface = &mut self.interfaces[usize::from(flow.key.guest.is_ipv6())];
        let step = catch_unwind(AssertUnwindSafe(|| flow.pump(interface, turn, out)));
        let Ok(outcome) = step else { return self.panicked(id, turn, out) };
        let before = flow.accounted;
        flow.accounted = flow.touched();
        self.memory_bytes = self.memory_bytes - before + flow.accounted;
        self.after(id, outcome, turn, out);
        if self.is_too_large() {
            self.make_room(id, turn, out);
        }
    }

    fn after(&mut self, id: FlowId, outcome: Outcome, turn: &mut Turn<'_>, out: &mut Output) {
        if let Some(over) = outcome.over {
            return self.over(id, over, turn);
        }
        if outcome.unresolved {
            return self.unresolved(id, turn, out);
        }
        if outcome.starved {
            if let Some(flow) = self.flows.get_mut(id).filter(|flow| !flow.starving) {
                flow.starving = true;
                self.starved.push_back(id);
            }
            return;
        }
        if outcome.more {
            return self.wake(id);
        }
        let Some(flow) = self.flows.get_mut(id) else { return };
        let interface = &mut self.interfaces[usize::from(flow.key.guest.is_ipv6())];
        let Some(deadline) = flow.deadline(interface, turn.now) else { return };
        // A timer that is armed too early looks again; one that moves later with each packet costs nothing.
        if flow.armed.is_none_or(|armed| deadline < armed) {
            let deadline = deadline.max(turn.now.saturating_add(1000));
            flow.armed = Some(deadline);
            self.timers.arm(id.index(), deadline);
        }
    }

    fn unresolved(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        self.unresolved.retain(|waits| *waits != id);
        if flow.armed.is_some() {
            self.unresolved.push(id);
            return;
        }
        if flow.asked >= MAX_ASKED {
            turn.host.close(id, true);
            return self.forget(id);
        }
        flow.asked += 1;
        let again = turn.now.saturating_add(ASK_NS);
        flow.armed = Some(again);
        self.timers.arm(id.index(), again);
        out.ask_neighbour(turn.guest, flow.key.guest.ip());
        self.unresolved.push(id);
    }

    fn over(&mut self, id: FlowId, over: Over, turn: &mut Turn<'_>) {
        let Some(flow) = self.flows.get(id) else { return };
        let reset = match over {
            Over::TimeWait => {
                if let Some(bare) = flow.last_word() {
                    self.bury(flow.key, bare, turn.now.saturating_add(TOMBSTONE_NS));
                }
                false
            }
            Over::Closed { reset } => reset,
        };
        turn.host.close(id, reset);
        self.forget(id);
    }

    fn bury(&mut self, key: Key, bare: Bare, expires_ns: u64) {
        if self.tombstone_order.len() >= MAX_TOMBSTONES {
            let oldest = self.tombstone_order.pop_front();
            oldest.map(|(_, key)| self.tombstones.remove(&key));
        }
        self.tombstones.insert(key, Tombstone { bare, expires_ns });
        self.tombstone_order.push_back((expires_ns, key));
    }

    fn bury_late(&mut self, now: u64) {
        while let Some(&(expires_ns, key)) = self.tombstone_order.front() {
            if expires_ns > now {
                break;
            }
            self.tombstone_order.pop_front();
            // A later connection of the same names may have left another.
            if self.tombstones.get(&key).is_some_and(|stone| stone.expires_ns <= now) {
                self.tombstones.remove(&key);
            }
        }
    }

    fn panicked(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        out.stats.dropped(DropReason::Panicked);
        self.hang_up(id, turn, out);
        // Its buffers go with it: they may hold what it has not counted.
        drop(self.remove(id));
    }

    /// Tells both sides of a flow that it has ended.
    fn hang_up(&self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        if let Some(flow) = self.flows.get(id) {
            flow.reset_guest(turn, out);
            turn.host.close(id, true);
        }
    }

    /// Ends a flow at once, both sides told.
    fn abort(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        self.hang_up(id, turn, out);
        self.forget(id);
    }

    fn forget(&mut self, id: FlowId) {
        if let Some(flow) = self.remove(id) {
            flow.leave(&mut self.spare);
        }
    }

    fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(id)?;
        if matches!(flow.stage, Stage::Connecting { .. }) {
            self.half_open -= 1;
        }
        self.called -= usize::from(flow.called);
        self.memory_bytes -= flow.accounted;
        self.by_key.remove(&flow.key, id.index());
        self.timers.cancel(id.index());
        Some(flow)
    }

    fn is_too_large(&self) -> bool {
        self.memory_bytes as u64 > self.limits.buffer_bytes
    }

    /// Resets the flows that were idle longest, but not `busy`, until memory is within bounds.
    fn make_room(&mut self, busy: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        while self.is_too_large() {
            let idle = self.flows.values().filter(|flow| flow.id != busy && flow.accounted > 0);
            let Some(id) = idle.min_by_key(|flow| flow.last_ns).map(|flow| flow.id) else { return };
            out.stats.dropped(DropReason::Limit);
            self.abort(id, turn, out);
        }
    }

    /// Drops everything without a word to the guest: it is another guest now.
    pub(super) fn reset(&mut self, turn: &mut Turn<'_>) {
        let all: Vec<FlowId> = self.flows.values().map(|flow| flow.id).collect();
        for id in all {
            turn.host.close(id, true);
            self.forget(id);
        }
        self.tombstones.clear();
        self.tombstone_order.clear();
        self.dirty.clear();
        self.starved.clear();
        self.unresolved.clear();
        self.rate.restart(turn.now);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        if self.dirty.is_empty() { self.timers.next_deadline() } else { Some(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn info(&self) -> Vec<TcpInfo> {
        let info = |flow: &Flow| TcpInfo {
            guest: flow.key.guest,
            peer: flow.key.peer,
            state: flow.state().map_or_else(|| "CONNECTING".to_owned(), |state| state.to_string()),
            from_guest_bytes: flow.from_guest,
            to_guest_bytes: flow.to_guest,
            waiting_bytes: flow.waiting(),
        };
        self.flows.values().map(info).collect()
    }
}

/// A packet as smoltcp can read it: without extension headers.
fn parked(packet: &Packet<'_>) -> Vec<u8> {
    let head =
        IpHead { source: packet.source, destination: packet.destination, protocol: TCP, hops: packet.hops };
    let bytes = head.bytes();
    // Payload of a SYN is not taken (no TFO), so it does not wait either.
    let header = Segment::read(packet.payload).map_or(0, |segment| segment.header_bytes);
    let mut syn = vec![0; bytes + header];
    head.write(&mut syn, header, 0, 0);
    syn[bytes..].copy_from_slice(&packet.payload[..header]);
    syn
}

/// The same for a whole packet.
pub(super) fn plain(packet: &Packet<'_>, payload: &[u8]) -> Vec<u8> {
    let head = IpHead {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        hops: packet.hops,
    };
    let bytes = head.bytes();
    let mut whole = vec![0; bytes + payload.len()];
    head.write(&mut whole, payload.len(), 0, 0);
    whole[bytes..].copy_from_slice(payload);
    whole
}
