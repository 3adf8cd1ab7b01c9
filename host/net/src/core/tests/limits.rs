//! Each cap of the core, hit. Those of reassembly, neighbours and services are tested beside them.

use super::{
    harness::{Bench, Sock, echo, setup},
    tcp::{ACK, Peer, RST, SYN},
};
use crate::{DropReason, FlowId, HostEvent, Kind};

#[test]
fn limits_hold() {
    let mut setup = setup();
    (setup.limits.tcp_flows, setup.limits.tcp_half_open) = (3, 2);
    let mut peer = Peer::on(Bench::with(setup), "192.0.2.1:80");
    for port in 1..=3 {
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
    }
    // The third one waits: the guest will ask again.
    assert_eq!(
        (peer.bench.host.open.len(), peer.all().len(), peer.bench.dropped(DropReason::Limit)),
        (2, 0, 1)
    );
    let ids: Vec<FlowId> = peer.bench.host.open.keys().copied().collect();
    ids.iter().for_each(|id| peer.bench.event(HostEvent::Connected(*id)));
    peer.bench.poll();
    peer.bench.wire.frames.clear();
    for port in 3..=4 {
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
    }
    assert_eq!((peer.bench.host.open.len(), peer.all()[0].flags), (3, RST | ACK));
}

#[test]
fn memory_is_bounded_by_resetting_who_was_idle_longest() {
    let mut setup = setup();
    setup.limits.buffer_bytes = 100_000;
    let mut peer = Peer::on(Bench::with(setup), "192.0.2.1:80");
    for port in 1..=4 {
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
        let id = *peer.bench.host.open.keys().last().unwrap();
        peer.bench.event(HostEvent::Connected(id));
        peer.bench.poll();
        let seq = peer.got().unwrap().seq + 1;
        peer.send(1001, seq, ACK, 16_000, &[]);
        peer.send(1001, seq, ACK, 16_000, &[9; 40_000]);
        peer.bench.wire.frames.retain(|(_, frame)| frame[47] & RST != 0);
        let resets = peer.bench.wire.frames.drain(..).map(|(_, frame)| frame[37]).collect::<Vec<_>>();
        assert_eq!(resets, if port > 2 { vec![port as u8 - 2] } else { vec![] });
        peer.bench.now += 1_000_000;
    }
    assert_eq!(peer.bench.core.tcp_info().len(), 2);
}

#[test]
fn new_connections_come_at_a_bounded_rate() {
    let mut setup = setup();
    (setup.limits.tcp_new_per_s, setup.limits.tcp_burst) = (10, 2);
    let mut peer = Peer::on(Bench::with(setup), "192.0.2.1:80");
    let mut ask = |port: u16, later_ns: u64| {
        peer.bench.now += later_ns;
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
        // A SYN that is not taken is not answered either.
        assert!(peer.all().is_empty());
        (peer.bench.host.open.len(), peer.bench.dropped(DropReason::Limit))
    };
    assert_eq!([ask(1, 0), ask(2, 0), ask(3, 0)], [(1, 0), (2, 0), (2, 1)]);
    assert_eq!([ask(3, 50_000_000), ask(3, 50_000_000), ask(4, 0)], [(2, 2), (3, 2), (3, 3)]);
}

#[test]
fn connections_that_the_guest_has_not_taken_are_few() {
    let mut setup = setup();
    setup.limits.accepts = 2;
    let mut peer = Peer::on(Bench::with(setup), "192.0.2.1:50000");
    peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    peer.bench.wire.frames.clear();
    peer.from.set_port(22);
    let accept = |peer: &mut Peer, from: &str| {
        let id = peer.bench.core.accept(peer.bench.now, from.parse().unwrap(), peer.from);
        id.inspect(|id| drop(peer.bench.host.open.insert(*id, Sock { room: 100, ..Sock::default() })))
            .is_some()
    };
    assert!(accept(&mut peer, "192.0.2.1:50000") && accept(&mut peer, "192.0.2.1:50001"));
    peer.bench.poll();
    let syn = peer.got().unwrap();
    assert!(!accept(&mut peer, "192.0.2.1:50002"));
    assert_eq!(peer.bench.dropped(DropReason::Limit), 1);
    // One that is taken makes room for one, one that is refused as well.
    peer.send(500, syn.seq + 1, SYN | ACK, 65_535, &[]);
    assert!(accept(&mut peer, "192.0.2.1:50002") && !accept(&mut peer, "192.0.2.1:50003"));
    peer.bench.poll();
    peer.bench.wire.frames.clear();
    peer.bench.pass(60_000_000_000);
    let states: Vec<_> = peer.bench.core.tcp_info().into_iter().map(|info| info.state).collect();
    assert_eq!(states, ["ESTABLISHED"], "nobody answered the others");
    assert!(accept(&mut peer, "192.0.2.1:50003") && accept(&mut peer, "192.0.2.1:50004"));
    assert!(!accept(&mut peer, "192.0.2.1:50005"));
}

#[test]
fn echoes_drop_the_identifier_that_was_idle_longest() {
    let mut setup = setup();
    setup.limits.icmp_ids = 2;
    let mut bench = Bench::with(setup);
    for identifier in [1, 2, 1, 3] {
        bench.now += 1000;
        let (head, message) = echo("10.0.2.15", "192.0.2.1", 8, identifier, 1, b"");
        bench.packet(&head, &message);
    }
    assert_eq!((bench.host.open.len(), bench.dropped(DropReason::Limit)), (2, 1));
    assert!(bench.host.open.keys().all(|id| id.kind() == Kind::Ping));
    // The second one went: the first one's socket has sent twice.
    assert_eq!(bench.host.closed[0].2.pings.len(), 1);
    assert!(bench.host.open.values().any(|sock| sock.pings.len() == 2));
}

#[test]
fn neighbours_are_few() {
    let mut setup = setup();
    setup.limits.neighbours = 2;
    let mut bench = Bench::with(setup);
    for guest in ["10.0.2.15", "10.0.2.16", "10.0.2.17"] {
        bench.udp(&format!("{guest}:9"), "10.0.2.2:7", b"");
    }
    bench.wire.frames.clear();
    // Only the first one is forgotten, and asked for again.
    for (guest, asked) in [("10.0.2.17", 0), ("10.0.2.16", 0), ("10.0.2.15", 1)] {
        let id = bench.core.forward_udp(Some(guest.parse().unwrap()), 53);
        bench.host.open.insert(id, Sock::default());
        bench.host.sock(id).arrives("192.0.2.1:53", vec![1]);
        bench.event(HostEvent::Readable(id));
        bench.poll();
        let frames: Vec<_> =
            bench.wire.frames.drain(..).filter(|(_, frame)| frame[12..14] == [8, 6]).collect();
        assert_eq!(frames.len(), asked, "{guest}");
    }
}

#[test]
fn fragments_are_bounded() {
    let mut setup = setup();
    (setup.limits.fragment_sets, setup.limits.fragment_bytes) = (2, 24);
    let mut bench = Bench::with(setup);
    let mut fragment = |ident: u16, at: u16, more: bool, payload: &[u8]| {
        let (head, _) = super::harness::datagram("10.0.2.15:9", "192.0.2.1:53", b"");
        let mut frame = super::harness::frame(&head, payload);
        head.write(&mut frame[14..], payload.len(), ident, at | u16::from(more) << 13);
        bench.frame(&frame);
        (bench.dropped(DropReason::Fragments), bench.host.open.len())
    };
    let head = [0, 9, 0, 53, 0, 16, 0, 0];
    assert_eq!(fragment(1, 0, true, &head), (0, 0));
    assert_eq!(fragment(2, 0, true, &head), (0, 0));
    assert_eq!(fragment(2, 1, true, &[7; 16]), (1, 0), "32 bytes are more than 24");
    assert_eq!(fragment(3, 0, true, &head), (1, 0));
    assert_eq!(fragment(4, 0, true, &head), (1, 0), "the oldest goes");
    assert_eq!(fragment(1, 1, false, &[7; 8]), (1, 0), "which was this one");
    assert_eq!(fragment(4, 1, false, &[7; 8]), (1, 1), "and this one is whole");
}
