//! What the host has only so much of: descriptors, processes, and the time of this thread.

use super::{descriptors::Descriptors, *};
use crate::core::tests::card::udp_frames;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::channel,
};

fn state(world: &mut World, socket: SocketHandle) -> tcp::State {
    world.tcp(socket).state()
}

fn until_state(world: &mut World, socket: SocketHandle, wanted: tcp::State) {
    world.until(&format!("{wanted}"), |world| (state(world, socket) == wanted).then_some(()));
}

#[test]
fn a_guest_leaves_descriptors_to_the_rest_of_the_process() {
    let none = |outside: &mut Outside| outside.descriptors = Descriptors(0);
    let mut world = World::start_with("hostfwd = [\"tcp::0-:22\"]", none).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().port();
    let socket = world.connect("10.0.2.2", to, 40_000);
    until_state(&mut world, socket, tcp::State::Closed);
    world.frame(&udp_frames("10.0.2.15:5000", &format!("10.0.2.2:{to}"), b"x")[0]);
    world.until("a refusal", |world| {
        world.handle.info().unwrap().dropped.contains_key("host-failed").then_some(())
    });
    assert_eq!(world.handle.info().unwrap().udp, []);
    // Whoever comes through a forward is turned away, and the guest not bothered.
    let at: SocketAddr = world.handle.forward_list().unwrap()[0].listens.parse().unwrap();
    let mut client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let end = client.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    // What the process has already is no matter.
    let Descriptors(most) = Descriptors::raise();
    assert!(most > 0);
    assert!(Descriptors(most).check(&server).is_ok());
}

#[test]
fn programs_of_a_guestfwd_are_few() {
    let mut world = World::new("guestfwd = [\"tcp:10.0.2.100:7-cmd:cat\"]\nlimits.commands = 2");
    let first = world.connect("10.0.2.100", 7, 40_000);
    let second = world.connect("10.0.2.100", 7, 40_001);
    for socket in [first, second] {
        until_state(&mut world, socket, tcp::State::Established);
    }
    let third = world.connect("10.0.2.100", 7, 40_002);
    until_state(&mut world, third, tcp::State::Closed);
    world.tcp(first).abort();
    // It is looked after once it has ended.
    world.until("another program", |world| {
        let socket = world.connect("10.0.2.100", 7, 41_000);
        world
            .until("an answer", |world| {
                let state = state(world, socket);
                (state != tcp::State::SynSent).then_some(state == tcp::State::Established)
            })
            .then_some(())
    });
    assert_eq!(state(&mut world, second), tcp::State::Established);
}

/// A guestfwd to a program that says its number and cares for nothing; and one that it has started.
fn stubborn() -> &'static str {
    "guestfwd = [{ at = \"10.0.2.100:7\", command = [\"sh\", \"-c\", \"trap '' TERM; sleep 600 & echo $$ $!; \
     while :; do sleep 600; done\"] }]"
}

/// The numbers of both, by the program's own words.
fn numbers(world: &mut World, socket: SocketHandle) -> Vec<String> {
    let mut line = Vec::new();
    world.until("the numbers", |world| {
        let tcp = world.tcp(socket);
        if tcp.can_recv() {
            tcp.recv(|part| {
                line.extend_from_slice(part);
                (part.len(), ())
            })
            .unwrap();
        }
        line.ends_with(b"\n").then_some(())
    });
    String::from_utf8(line).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// One that has been killed and that nobody has reaped runs no more.
fn runs(number: &String) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn a_program_does_not_outlive_its_connection_for_long() {
    let short = |outside: &mut Outside| outside.grace = Duration::from_millis(50);
    let mut world = World::start_with(stubborn(), short).unwrap();
    let socket = world.connect("10.0.2.100", 7, 40_000);
    let all = numbers(&mut world, socket);
    assert!(all.len() == 2 && all.iter().all(runs), "{all:?}");
    world.tcp(socket).abort();
    world.until("the end of the program", |_| (!all.iter().any(runs)).then_some(()));
}

#[test]
fn no_program_outlives_its_network() {
    let mut world = World::new(stubborn());
    let socket = world.connect("10.0.2.100", 7, 40_000);
    let all = numbers(&mut world, socket);
    assert!(all.len() == 2 && all.iter().all(runs), "{all:?}");
    world.handle.stop();
    // What it has started is the system's to bury.
    let begin = Instant::now();
    while all.iter().any(runs) {
        assert!(begin.elapsed() < LONG, "{all:?}");
    }
}

#[test]
fn why_a_service_fails_is_told_once() {
    let mut world = World::new(
        "guestfwd = [\"tcp:10.0.2.100:7-cmd:/nonexistent/program\", \"tcp:10.0.2.100:8-unix:/nonexistent/socket\", \
         \"tcp:10.0.2.100:9-cmd:cat\"]\nlimits.commands = 1",
    );
    for (round, port) in [7, 8, 7, 8, 9, 9, 9].into_iter().enumerate() {
        let socket = world.connect("10.0.2.100", port, 40_000 + round as u16);
        let wanted = if round == 4 { tcp::State::Established } else { tcp::State::Closed };
        until_state(&mut world, socket, wanted);
    }
    let said = world.said.lock().unwrap().join("\n");
    assert_eq!(said.lines().count(), 3, "{said}");
    for what in [
        "guestfwd at 10.0.2.100:7 to `cmd:/nonexistent/program` fails: No such file",
        "guestfwd at 10.0.2.100:8 to `unix:/nonexistent/socket` fails: No such file",
        "guestfwd at 10.0.2.100:9 to `cmd:cat` fails: as many programs run as may: limits.commands = 1",
    ] {
        assert!(said.contains(what), "{said}");
    }
}

/// What the slow resolver waits for.
static GATE: Mutex<Option<mpsc::Receiver<SocketAddr>>> = Mutex::new(None);

#[test]
fn a_proxys_name_is_looked_up_while_everything_else_goes_on() {
    let (open, gate) = channel();
    *GATE.lock().unwrap() = Some(gate);
    let slow = |name: &str, port: u16| {
        assert_eq!((name, port), ("proxy.test", 1080));
        let gate = GATE.lock().unwrap();
        gate.as_ref().unwrap().recv().map(|at| vec![at]).map_err(|_| ErrorKind::NotFound.into())
    };
    let text = "profile = \"all\"\nproxies = { p = \"socks5://proxy.test:1080\" }\n\
                rules = [{ action = \"proxy:p\", to = \"192.0.2.0/24\" }]";
    let mut world = World::start_with(text, |outside| outside.resolver = slow).unwrap();
    let proxied = [40_000, 40_001].map(|port| world.connect("192.0.2.1", 80, port));
    let gone = world.connect("192.0.2.1", 80, 40_002);
    // Others are served meanwhile.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let direct = world.connect("10.0.2.2", server.local_addr().unwrap().port(), 40_003);
    until_state(&mut world, direct, tcp::State::Established);
    world.tcp(gone).abort();
    world.until("its end", |world| (world.handle.info().unwrap().tcp.len() == 3).then_some(()));
    assert!(proxied.iter().all(|socket| world.tcp(*socket).state() == tcp::State::SynSent));
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    open.send(proxy.local_addr().unwrap()).unwrap();
    let served = std::thread::spawn(move || {
        let streams = [0, 1].map(|_| {
            let (mut stream, _) = proxy.accept().unwrap();
            let mut asked = [0; 13];
            stream.read_exact(&mut asked[..3]).unwrap();
            stream.write_all(b"\x05\0").unwrap();
            stream.read_exact(&mut asked[3..]).unwrap();
            stream.write_all(b"\x05\0\0\x01\0\0\0\0\0\0").unwrap();
            stream
        });
        proxy.set_nonblocking(true).unwrap();
        (streams, proxy.accept().is_err())
    });
    for socket in proxied {
        until_state(&mut world, socket, tcp::State::Established);
    }
    assert!(served.join().unwrap().1, "the one that was given up is not made");
    // One that nobody knows: a new network, which has not looked yet.
    drop(open);
    let mut world = World::start_with(text, |outside| outside.resolver = slow).unwrap();
    let socket = world.connect("192.0.2.1", 80, 40_000);
    world.until("the line for people", |world| {
        let said = world.said.lock().unwrap();
        said.iter().any(|line| line.contains("proxy `p`: `proxy.test` cannot be looked up")).then_some(())
    });
    world.until("the end of the flow", |world| world.handle.info().unwrap().tcp.is_empty().then_some(()));
    assert_eq!(
        state(&mut world, socket),
        tcp::State::SynSent,
        "it is told by ICMP, which smoltcp does not hear"
    );
}

#[test]
fn a_network_ends_while_a_name_is_looked_up() {
    let for_ever = |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> {
        loop {
            std::thread::park();
        }
    };
    let text = "upstream = \"p\"\nproxies = { p = \"http://proxy.test:3128\" }";
    let mut world = World::start_with(text, |outside| outside.resolver = for_ever).unwrap();
    world.connect("192.0.2.1", 80, 40_000);
    world.until("the flow", |world| (world.handle.info().unwrap().tcp.len() == 1).then_some(()));
    let begin = Instant::now();
    world.handle.stop();
    assert!(begin.elapsed() < LONG);
}

/// The addresses that the next test's name has.
static ADDRESSES: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

#[test]
fn each_address_of_a_proxy_is_tried_until_one_answers() {
    // One that refuses, one that never answers as it has no place for another, and one that is right.
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    silent.listen(0).unwrap();
    let silent_at = silent.local_addr().unwrap().as_socket().unwrap();
    let _fills_it = TcpStream::connect(silent_at).unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let right = proxy.local_addr().unwrap();
    let text = "upstream = \"p\"\nproxies = { p = \"http://proxy.test:3128\" }";
    let served = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = proxy.accept().unwrap();
            let mut asked = [0; 12];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"CONNECT 192.");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        }
    });
    for addresses in [vec![refuses, right], vec![silent_at, refuses, silent_at, right]] {
        *ADDRESSES.lock().unwrap() = addresses;
        let mut world = World::start_with(text, |outside| {
            outside.resolver = |_, _| Ok(ADDRESSES.lock().unwrap().clone());
            outside.patience = Duration::from_millis(50);
        })
        .unwrap();
        let socket = world.connect("192.0.2.1", 80, 40_000);
        world.until("the proxy", |world| (state(world, socket) != tcp::State::SynSent).then_some(()));
    }
    served.join().unwrap();
    *ADDRESSES.lock().unwrap() = vec![refuses, refuses];
    let mut world = World::start_with(text, |outside| {
        outside.resolver = |_, _| Ok(ADDRESSES.lock().unwrap().clone());
    })
    .unwrap();
    let socket = world.connect("192.0.2.1", 80, 40_000);
    until_state(&mut world, socket, tcp::State::Closed);
}
