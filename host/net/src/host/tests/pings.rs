//! Echo requests by the kernel's ping sockets. Who may have them is a setting of the whole network namespace, so
//! each of these tests runs in a process with a namespace of its own.

use super::*;
use etherparse::PacketBuilder;
use std::process::Command;

/// Runs a test of this file in a namespace that has two addresses and gives ping sockets to `groups`; without any, to
/// nobody, as new namespaces do.
fn apart(test: &str, groups: &str) {
    let prepare = "ip link set lo up && ip address add 192.0.2.7/32 dev lo && \
                   ip -6 address add 2001:db8::7/128 dev lo nodad && \
                   { test -z \"$1\" || echo $1 > /proc/sys/net/ipv4/ping_group_range; } && \
                   exec $2 --exact --ignored --nocapture $3";
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", prepare, "sh", groups]);
    let done = command.arg(this).arg(format!("host::tests::pings::{test}")).output();
    let done = done.expect("`unshare` of util-linux is there");
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(
        out.contains("1 passed"),
        "needs `ip` of iproute2, and leave to have a namespace:\n{out}{errors}"
    );
}

#[test]
fn pings_go_out_and_come_back() {
    apart("in_a_namespace_with_ping_sockets", "0 0");
}

#[test]
fn a_host_without_ping_sockets_is_complained_about_once() {
    apart("in_a_namespace_without_ping_sockets", "");
}

fn ping_v4(sequence: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(GUEST_MAC, Network::default().mac);
    let packet = packet.ipv4([10, 0, 2, 15], [192, 0, 2, 7], 64).icmpv4_echo_request(0x1234, sequence);
    packet.write(&mut frame, b"is anybody there?").unwrap();
    frame
}

fn ping_v6(sequence: u16) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(GUEST_MAC, Network::default().mac);
    let packet = packet.ipv6(octets("fd00::15"), octets("2001:db8::7"), 64);
    packet.icmpv6_echo_request(0x1234, sequence).write(&mut frame, b"is anybody there?").unwrap();
    frame
}

#[test]
#[ignore = "`pings_go_out_and_come_back` runs it in a namespace"]
fn in_a_namespace_with_ping_sockets() {
    let mut world = World::new("");
    for sequence in 1..=3 {
        world.frame(&ping_v4(sequence));
        let reply = world.until("an answer", |world| world.others.pop());
        assert_eq!(reply[26..34], [192, 0, 2, 7, 10, 0, 2, 15]);
        assert_eq!(reply[34..36], [0, 0]);
        // Identifier and sequence number are the guest's own, whatever the kernel's were.
        assert_eq!(reply[38..42], [0x12, 0x34, 0, sequence as u8]);
        assert_eq!(&reply[42..59], b"is anybody there?");
        world.frame(&ping_v6(sequence));
        let reply = world.until("an answer", |world| world.others.pop());
        assert_eq!((reply[54], &reply[58..62]), (ECHO_REPLY_V6, &[0x12, 0x34, 0, sequence as u8][..]));
        assert_eq!(&reply[62..], b"is anybody there?");
    }
    assert!(world.said.lock().unwrap().is_empty());
}

#[test]
#[ignore = "`a_host_without_ping_sockets_is_complained_about_once` runs it in a namespace"]
fn in_a_namespace_without_ping_sockets() {
    let mut world = World::new("");
    for sequence in 1..=3 {
        world.frame(&ping_v4(sequence));
        world.frame(&ping_v6(sequence));
    }
    world.until("six failures", |world| {
        (world.handle.info().unwrap().dropped.get("host-failed") == Some(&6)).then_some(())
    });
    let said = world.said.lock().unwrap();
    assert!(said.len() == 1 && said[0].contains("net.ipv4.ping_group_range"), "{said:?}");
}
