//! The policy at work on real sockets.

use super::{own::Own, *};
use crate::core::tests::card::udp_frames;
use std::{
    io::Read,
    net::{SocketAddr, TcpStream, UdpSocket},
};

fn server(at: &str) -> (UdpSocket, u16) {
    let server = UdpSocket::bind((at, 0)).unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

fn dropped(world: &World, why: &str) -> u64 {
    world.handle.info().unwrap().dropped.get(why).copied().unwrap_or(0)
}

/// Sends until the policy refuses one.
fn until_refused(world: &mut World, to: SocketAddr) {
    let before = dropped(world, "policy");
    world.until("a refusal", |world| {
        world.frame(&udp_frames("10.0.2.15:5000", &to.to_string(), b"in?")[0]);
        (dropped(world, "policy") > before).then_some(())
    });
}

/// 127.0.0.2 is the host's loopback as well, but no address of an interface: what is opened is the group alone.
const LOOPBACK: &str = "profile = \"none\"\nrules = [{ action = \"allow\", to = \"loopback\" }]";

#[test]
fn the_hosts_own_addresses_are_known_from_the_start() {
    let mut world = World::new(LOOPBACK);
    let (server, port) = server("0.0.0.0");
    world.frame(&udp_frames("10.0.2.15:5000", &format!("127.0.0.1:{port}"), b"own")[0]);
    world.until("a refusal", |world| (dropped(world, "policy") == 1).then_some(()));
    world.frame(&udp_frames("10.0.2.15:5000", &format!("127.0.0.2:{port}"), b"other")[0]);
    let mut buffer = [0; 10];
    let (count, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"other");
}

#[test]
fn a_lan_is_open_but_for_the_host_in_it() {
    let own = nix::ifaddrs::getifaddrs().unwrap().filter_map(|interface| interface.address);
    let own = own.filter_map(|address| address.as_sockaddr_in().map(|v4| v4.ip()));
    // A namespace of its own may have none.
    for own in own.filter(|v4| v4.is_private()) {
        let mut world = World::new("profile = \"lan\"");
        let (server, port) = server("0.0.0.0");
        until_refused(&mut world, (own, port).into());
        server.set_nonblocking(true).unwrap();
        let nothing = server.recv_from(&mut [0; 10]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock), "{own}");
    }
}

#[test]
fn an_address_that_the_host_gets_later_is_its_own_too() {
    let addresses = Arc::new(Mutex::new(Some(Vec::new())));
    let list = Arc::clone(&addresses);
    let list = Box::new(move || list.lock().unwrap().clone());
    let every = Duration::from_millis(10);
    let mut world = World::start_with(LOOPBACK, |outside| outside.own = Own { list, every }).unwrap();
    let (server, port) = server("127.0.0.2");
    let to = server.local_addr().unwrap();
    let frame = udp_frames("10.0.2.15:5000", &to.to_string(), b"in").remove(0);
    world.frame(&frame);
    assert_eq!(server.recv(&mut [0; 10]).unwrap(), 2, "port {port}");
    *addresses.lock().unwrap() = Some(vec![to.ip()]);
    until_refused(&mut world, to);
    server.set_nonblocking(true).unwrap();
    while server.recv(&mut [0; 10]).is_ok() {}
    // A look that fails forgets nothing.
    *addresses.lock().unwrap() = None;
    let (before, begin) = (dropped(&world, "policy"), Instant::now());
    let mut sent = 0;
    while begin.elapsed() < every * 5 {
        world.frame(&frame);
        world.turn();
        sent += 1;
    }
    world.until("refusals", |world| (dropped(world, "policy") >= before + sent).then_some(()));
    assert_eq!(server.recv(&mut [0; 10]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    *addresses.lock().unwrap() = Some(Vec::new());
    world.until("a datagram", |world| {
        world.frame(&frame);
        server.recv(&mut [0; 10]).ok()
    });
}

#[test]
fn rules_about_what_comes_in_hold_for_forwards() {
    let mut world = World::new(
        r#"
        hostfwd = ["tcp::0-:22", "tcp::0-:80", "udp::0-:53", "udp::0-:69"]
        rules = [
            { action = "reject", direction = "in", from = "127.0.0.0/8", protocol = "tcp", ports = 22 },
            { action = "drop", direction = "in", from = "loopback", protocol = "udp", ports = 53 },
            { action = "allow", direction = "in", from = "host" },
        ]"#,
    );
    let forwards = world.handle.forward_list().unwrap();
    let at = |index: usize| -> SocketAddr { forwards[index].listens.parse().unwrap() };
    let mut client = TcpStream::connect(at(0)).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let reset = client.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(reset, Err(io::ErrorKind::ConnectionReset));
    assert_eq!((dropped(&world, "policy"), world.handle.info().unwrap().tcp.len()), (1, 0));
    let socket = world.socket();
    world.tcp(socket).listen(80).unwrap();
    let _client = TcpStream::connect(at(1)).unwrap();
    world.until("a connection", |world| (world.tcp(socket).state() == tcp::State::Established).then_some(()));
    let (client, _) = server("127.0.0.1");
    client.send_to(b"refused", at(2)).unwrap();
    world.until("a refusal", |world| (dropped(world, "policy") == 2).then_some(()));
    client.send_to(b"taken", at(3)).unwrap();
    let frame = world.until("a datagram", |world| world.others.pop());
    assert_eq!(packet_of(&frame).unwrap()[28..], *b"taken");
    assert!(world.others.is_empty());
}
