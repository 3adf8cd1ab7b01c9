//! Where the guest is that a forward is for, if it does not say.

use super::{
    harness::{Bench, Echo, Sock, setup},
    udp::{arrives, parts},
};
use std::net::SocketAddr;

#[test]
fn a_forward_follows_the_guest_to_its_address() {
    let mut bench = Bench::new();
    let id = bench.core.forward_udp(None, 53);
    bench.host.open.insert(id, Sock::default());
    for guest in ["10.0.2.15", "10.0.2.40", "10.0.2.15"] {
        bench.udp(&format!("{guest}:9"), "10.0.2.2:7", b"");
        bench.wire.frames.clear();
        arrives(&mut bench, id, "198.51.100.4:800", b"x");
        assert_eq!(parts(&bench.next_frame().unwrap()).1, format!("{guest}:53"));
    }
}

/// In the order in which a guest comes up, and where it goes from there.
#[test]
fn the_guest_is_where_it_was_last_seen_or_given_an_address() {
    let mut setup = setup();
    let leases = [(1_000_000_000, "10.0.2.16"), (3_000_000_000, "fd00::100")];
    setup.services = Box::new(Echo(leases.map(|(from, at)| (from, at.parse().unwrap())).to_vec()));
    let mut bench = Bench::with(setup);
    assert_eq!(bench.core.guest_address(bench.now), None);
    for (now, speaks, is_at) in [
        (0, "fe80::5054:ff:fe12:3456", "fe80::5054:ff:fe12:3456"),
        (0, "fd00::5054:ff:fe12:3456", "fd00::5054:ff:fe12:3456"),
        (0, "fe80::5054:ff:fe12:3456", "fd00::5054:ff:fe12:3456"),
        (0, "10.0.2.15", "10.0.2.15"),
        (0, "fd00::5054:ff:fe12:3456", "10.0.2.15"),
        // It has taken another address as another station, and has not yet said anything there.
        (1_000_000_000, "fe80::15", "10.0.2.16"),
        (1_000_000_000, "10.0.2.15", "10.0.2.15"),
        (1_000_000_000, "10.0.2.77", "10.0.2.77"),
        (3_000_000_000, "fe80::15", "10.0.2.77"),
    ] {
        bench.now = bench.now.max(now);
        let gateway = if speaks.contains(':') { "[fd00::2]:7" } else { "10.0.2.2:7" };
        bench.udp(&SocketAddr::new(speaks.parse().unwrap(), 9).to_string(), gateway, b"");
        let found = bench.core.guest_address(bench.now);
        assert_eq!(found.map(|address| address.to_string()).as_deref(), Some(is_at), "{speaks} at {now}");
    }
    // Of a guest that has not been heard, the lease is known.
    bench.core.reset(bench.now, &mut bench.host, &mut bench.wire);
    assert_eq!(bench.core.guest_address(bench.now), Some("10.0.2.16".parse().unwrap()));
}

#[test]
fn a_guest_without_ipv4_is_found() {
    let mut setup = setup();
    setup.network.v4 = None;
    let mut bench = Bench::with(setup);
    bench.udp("[fd00::5054:ff:fe12:3456]:9", "[fd00::2]:7", b"");
    bench.wire.frames.clear();
    let id = bench.core.forward_udp(None, 53);
    bench.host.open.insert(id, Sock::default());
    arrives(&mut bench, id, "198.51.100.4:800", b"x");
    assert_eq!(parts(&bench.next_frame().unwrap()).1, "[fd00::5054:ff:fe12:3456]:53");
}
