//! Guests that say nothing: those that are still there keep their connections, and the others end.

use super::{
    harness::{Bench, Sock},
    tcp::{ACK, FIN, Peer, RST, SYN},
};
use crate::HostEvent;

const MINUTE_NS: u64 = 60_000_000_000;

/// The guest's next sequence number and what it expects.
type Stand = (u32, u32);

/// Two hours in which the guest's kernel answers what it is asked, and its program says nothing. Returns how often it
/// was asked.
fn two_hours(peer: &mut Peer, (seq, next): Stand) -> usize {
    let mut questions = 0;
    for _ in 0..120 * 6 {
        peer.bench.pass(MINUTE_NS / 6);
        for got in peer.all() {
            assert_eq!((got.flags, got.seq, got.payload.len()), (ACK, next.wrapping_sub(1), 0));
            questions += 1;
            peer.send(seq, next, ACK, 16_000, &[]);
            assert_eq!(peer.all(), []);
        }
    }
    questions
}

fn is_over(peer: &Peer) -> bool {
    peer.bench.core.tcp_info().is_empty() && peer.bench.host.closed.last().is_some_and(|(_, reset, _)| *reset)
}

#[test]
fn an_idle_connection_lives_as_long_as_the_guest_has_it() {
    let mut peer = Peer::new("192.0.2.1:80");
    let next = peer.open();
    let questions = two_hours(&mut peer, (1001, next));
    assert!((12..=24).contains(&questions), "{questions} questions in two hours");
    peer.host_sends(b"still there");
    assert_eq!(peer.all()[0].payload, b"still there");
}

/// A request, its end, and a long time until the answer: first where the host has asked, then where the guest has.
#[test]
fn half_a_connection_lives_as_long_as_both_ends() {
    let mut peer = Peer::new("192.0.2.1:80");
    let seq = peer.open();
    peer.host_sends(b"question");
    peer.host_ends();
    peer.all();
    let next = seq.wrapping_add(9);
    peer.send(1001, next, ACK, 16_000, &[]);
    let id = peer.bench.host.only();
    assert!(two_hours(&mut peer, (1001, next)) > 0, "the guest is asked");
    peer.send(1001, next, ACK | FIN, 16_000, b"answer");
    let (closed, reset, sock) = &peer.bench.host.closed[0];
    assert_eq!((*closed, *reset, &sock.got[..], sock.shutdown), (id, false, &b"answer"[..], true));

    let mut peer = Peer::new("192.0.2.1:80");
    let next = peer.open();
    peer.send(1001, next, ACK | FIN, 16_000, b"question");
    peer.all();
    two_hours(&mut peer, (1010, next));
    peer.host_sends(b"answer");
    assert_eq!(peer.all()[0].payload, b"answer");
}

#[test]
fn a_connection_that_the_guest_no_longer_has_ends() {
    for half in [false, true] {
        // Its kernel says that there is none, or nobody is there at all.
        for answers in [true, false] {
            let mut peer = Peer::new("192.0.2.1:80");
            let mut next = peer.open();
            if half {
                peer.host_ends();
                peer.all();
                next = next.wrapping_add(1);
                peer.send(1001, next, ACK, 16_000, &[]);
            }
            peer.bench.pass(4 * MINUTE_NS);
            assert_eq!((peer.all(), peer.bench.core.tcp_info().len()), (vec![], 1), "it is not asked yet");
            peer.bench.pass(2 * MINUTE_NS);
            assert_eq!(peer.all().len(), 2);
            if answers {
                peer.send(1001, 0, RST, 0, &[]);
            } else {
                assert!(peer.bench.core.external_work_pending(peer.bench.now));
                peer.bench.pass(2 * MINUTE_NS);
                assert_eq!(peer.all().last().map(|got| (got.flags & RST, got.seq)), Some((RST, next)));
            }
            assert!(is_over(&peer) && !peer.bench.core.external_work_pending(peer.bench.now));
        }
    }
}

#[test]
fn an_end_that_the_guest_never_acknowledges_is_not_waited_for() {
    for guest_ends in [false, true] {
        let mut peer = Peer::new("192.0.2.1:80");
        let next = peer.open();
        if guest_ends {
            peer.send(1001, next, ACK | FIN, 16_000, &[]);
        }
        peer.host_ends();
        peer.bench.pass(10 * MINUTE_NS);
        assert!(is_over(&peer));
    }
}

/// As after a SYN flood.
#[test]
fn a_guest_that_never_ends_its_handshake_is_not_waited_for() {
    let mut peer = Peer::new("192.0.2.1:80");
    peer.send(1000, 0, SYN, 65_535, &[]);
    let id = peer.bench.host.only();
    peer.bench.event(HostEvent::Connected(id));
    peer.bench.pass(MINUTE_NS / 3);
    assert_eq!(peer.bench.core.tcp_info()[0].state, "SYN-RECEIVED");
    peer.bench.pass(MINUTE_NS / 3);
    assert!(is_over(&peer) && !peer.bench.core.external_work_pending(peer.bench.now));
    // One that ends it late has its connection, and is given the usual time from then on.
    let mut peer = Peer::new("192.0.2.1:80");
    peer.send(1000, 0, SYN, 65_535, &[]);
    let id = peer.bench.host.only();
    peer.bench.event(HostEvent::Connected(id));
    peer.bench.pass(MINUTE_NS / 3);
    let next = peer.all()[0].seq.wrapping_add(1);
    peer.send(1001, next, ACK, 16_000, &[]);
    two_hours(&mut peer, (1001, next));
    assert_eq!(peer.bench.core.tcp_info()[0].state, "ESTABLISHED");
}

/// The guest has gone to sleep with all it has to say on its way to a host that takes nothing.
#[test]
fn who_waits_for_a_slow_host_is_left_alone() {
    let mut peer = Peer::new("192.0.2.1:80");
    let next = peer.open();
    let id = peer.bench.host.only();
    peer.bench.host.sock(id).room = 0;
    peer.send(1001, next, ACK | FIN, 16_000, b"all");
    peer.host_ends();
    let next = next.wrapping_add(1);
    peer.send(1005, next, ACK, 16_000, &[]);
    peer.all();
    peer.bench.pass(60 * MINUTE_NS);
    assert_eq!(peer.all(), [], "it has ended: it would answer with a reset");
    peer.bench.host.sock(id).room = usize::MAX;
    peer.bench.event(HostEvent::Writable(id));
    peer.bench.poll();
    let (_, reset, sock) = &peer.bench.host.closed[0];
    assert_eq!((*reset, &sock.got[..]), (false, &b"all"[..]));
}

#[test]
fn questions_to_many_come_a_few_at_a_time() {
    const MANY: u16 = 1000;
    let mut peer = Peer::on(Bench::new(), "10.0.2.2:50000");
    peer.bench.udp("10.0.2.15:9", "10.0.2.2:7", b"");
    peer.bench.wire.frames.clear();
    for port in 1..=MANY {
        peer.from.set_port(1000 + port);
        let id =
            peer.bench.core.accept(peer.bench.now, "127.0.0.1:50000".parse().unwrap(), peer.from).unwrap();
        peer.bench.host.open.insert(id, Sock { room: usize::MAX, ..Sock::default() });
        peer.bench.poll();
        let next = peer.got().unwrap().seq.wrapping_add(1);
        peer.send(500, next, SYN | ACK, 65_535, &[]);
        peer.bench.wire.frames.clear();
    }
    let mut asked = Vec::new();
    for _ in 0..400 {
        peer.bench.pass(1_000_000_000);
        asked.push(peer.bench.wire.frames.drain(..).count());
        if asked.iter().sum::<usize>() >= usize::from(MANY) {
            break;
        }
    }
    asked.retain(|count| *count > 0);
    assert_eq!((asked.iter().sum::<usize>(), asked.len()), (1000, 4), "{asked:?}");
}
