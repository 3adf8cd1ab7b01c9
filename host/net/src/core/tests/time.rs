//! Time at its edges: machines of another time, and the far end of the clock.

use super::{
    harness::{Bench, Sock, setup},
    tcp::{ACK, Peer, SYN},
};
use crate::{DropReason, HostEvent};

const HOUR_NS: u64 = 3_600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn becomes_earlier(bench: &mut Bench, now: u64) {
    bench.now = now;
    bench.core.reset(now, &mut bench.host, &mut bench.wire);
    bench.wire.frames.clear();
}

#[test]
fn a_machine_of_an_earlier_time_may_open_as_many_connections_as_any() {
    let mut setup = setup();
    (setup.limits.tcp_new_per_s, setup.limits.tcp_burst) = (10, 2);
    let mut peer = Peer::on(Bench::with(setup), "192.0.2.1:80");
    peer.bench.now = HOUR_NS;
    for port in 1..=2 {
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
    }
    becomes_earlier(&mut peer.bench, SECOND_NS);
    for port in 1..=30 {
        peer.bench.now += SECOND_NS / 10;
        peer.from.set_port(port);
        peer.send(1000, 0, SYN, 65_535, &[]);
    }
    assert_eq!((peer.bench.host.open.len(), peer.bench.dropped(DropReason::Limit)), (30, 0));
}

#[test]
fn a_forward_asks_a_machine_of_an_earlier_time_where_it_is() {
    let mut bench = Bench::new();
    bench.now = HOUR_NS;
    let id = bench.core.forward_udp(Some("10.0.2.40".parse().unwrap()), 53);
    bench.host.open.insert(id, Sock::default());
    bench.host.sock(id).arrives("192.0.2.1:53", vec![1]);
    bench.event(HostEvent::Readable(id));
    bench.poll();
    assert_eq!(bench.wire.frames.len(), 1, "an ARP request");
    becomes_earlier(&mut bench, SECOND_NS);
    bench.pass(5 * SECOND_NS / 2);
    assert!((2..=3).contains(&bench.wire.frames.len()), "one a second, not {}", bench.wire.frames.len());
}

#[test]
fn connections_come_and_go_at_the_end_of_time() {
    let mut peer = Peer::new("192.0.2.1:80");
    peer.bench.now = u64::MAX - 2;
    let seq = peer.open();
    let id = peer.bench.host.only();
    peer.bench.host.sock(id).peer_ended = true;
    peer.bench.event(HostEvent::Readable(id));
    peer.bench.poll();
    peer.send(1001, seq + 1, ACK | super::tcp::FIN, 16_000, &[]);
    peer.bench.poll();
    assert_eq!(peer.bench.core.tcp_info().len(), 0, "{:?}", peer.bench.core.tcp_info());
    let forward = peer.bench.core.forward_udp(Some("10.0.2.40".parse().unwrap()), 53);
    peer.bench.host.open.insert(forward, Sock::default());
    for _ in 0..2 {
        peer.bench.host.sock(forward).arrives("192.0.2.1:53", vec![1]);
        peer.bench.event(HostEvent::Readable(forward));
        peer.bench.core.poll(peer.bench.now, &mut peer.bench.host, &mut peer.bench.wire);
    }
    let accepted = peer.bench.core.accept(
        peer.bench.now,
        "192.0.2.9:7".parse().unwrap(),
        "10.0.2.50:22".parse().unwrap(),
    );
    peer.bench.host.open.insert(accepted.unwrap(), Sock::default());
    peer.bench.core.poll(peer.bench.now, &mut peer.bench.host, &mut peer.bench.wire);
}
