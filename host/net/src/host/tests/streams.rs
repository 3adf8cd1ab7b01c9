//! Connections and datagrams through real sockets.

use super::*;
use crate::core::tests::card::udp_frames;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    thread,
};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A server that answers the first connection with what it got, turned round, when the client has ended.
fn reverser(at: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes.reverse();
        stream.write_all(&bytes).unwrap();
    });
    (address, thread)
}

#[test]
fn megabytes_pass_both_ways_and_each_side_may_end_first() {
    for (at, gateway) in [("127.0.0.1:0", "10.0.2.2"), ("[::1]:0", "fd00::2")] {
        let mut world = World::new("");
        let (address, server) = reverser(at);
        let socket = world.connect(gateway, address.port(), 40_000);
        let mut bytes = pattern(5_000_000);
        let got = world.exchange(socket, &bytes, true);
        bytes.reverse();
        assert!(got == bytes, "{} bytes came back from {at}", got.len());
        server.join().unwrap();
        world.until("the end of the flow", |world| world.handle.info().unwrap().tcp.is_empty().then_some(()));
        // It is told at the end of the turn that answered.
        world.until("the end of the work", |world| (!world.handle.external_work_pending()).then_some(()));
    }
}

#[test]
fn a_refusal_and_a_reset_reach_the_guest() {
    let mut world = World::new("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let socket = world.connect("10.0.2.2", port, 40_000);
    world.until("the reset", |world| (world.tcp(socket).state() == tcp::State::Closed).then_some(()));
    server.join().unwrap();
    // Nobody listens there any more.
    let socket = world.connect("10.0.2.2", port, 40_001);
    world.until("the refusal", |world| (world.tcp(socket).state() == tcp::State::Closed).then_some(()));
}

#[test]
fn forwards_come_in_at_ports_that_are_reported_and_at_unix_sockets() {
    let folder = std::env::temp_dir().join(format!("reprise-net-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("forward.sock");
    let mut world = World::new(&format!("hostfwd = [\"tcp::0-:22\", \"unix:{}-:22\"]", path.display()));
    let info = world.handle.forward_list().unwrap();
    let address: SocketAddr = info[0].listens.parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() != 0, "{info:?}");
    for round in 0..2 {
        let socket = world.socket();
        world.tcp(socket).listen(22).unwrap();
        let path = path.clone();
        let client = thread::spawn(move || {
            let mut got = Vec::new();
            if round == 0 {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"who is there").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                stream.read_to_end(&mut got).unwrap();
            } else {
                let mut stream = UnixStream::connect(path).unwrap();
                stream.write_all(b"who is there").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                stream.read_to_end(&mut got).unwrap();
            }
            got
        });
        let mut got = Vec::new();
        world.until("the client's bytes", |world| {
            let tcp = world.tcp(socket);
            while tcp.can_recv() {
                tcp.recv(|part| {
                    got.extend_from_slice(part);
                    (part.len(), ())
                })
                .unwrap();
            }
            (tcp.state() == tcp::State::CloseWait).then_some(())
        });
        assert_eq!(got, b"who is there");
        world.tcp(socket).send_slice(b"the guest").unwrap();
        world.tcp(socket).close();
        world.until("the client", |_| client.is_finished().then_some(()));
        assert_eq!(client.join().unwrap(), b"the guest");
    }
    // At run time, and gone again.
    let added = world.handle.forward_add("tcp:127.0.0.1:0-:80".parse().unwrap()).unwrap();
    let address: SocketAddr = added[0].listens.parse().unwrap();
    TcpStream::connect(address).unwrap();
    let taken = world.handle.forward_add(format!("tcp:{address}-:81").parse().unwrap());
    assert!(matches!(taken, Err(Error::Listen { .. })), "{taken:?}");
    for nobody in ["8.8.8.8", "10.0.2.2", "10.0.2.255"] {
        let wrong = world.handle.forward_add(format!("tcp::0-{nobody}:81").parse().unwrap());
        assert!(matches!(wrong, Err(Error::Guest { .. })), "{wrong:?}");
    }
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777,
        0o600
    );
    world.handle.forward_remove(&added[0].forward).unwrap();
    assert!(matches!(world.handle.forward_remove(&added[0].forward), Err(Error::NoForward(_))));
    assert!(TcpStream::connect(address).is_err());
    let begin = Instant::now();
    world.handle.stop();
    assert!(begin.elapsed() < Duration::from_secs(5), "it ends at once");
    assert!(!path.exists(), "a unix socket is taken away with its forward");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Err(error) = World::start(&format!("hostfwd = [\"tcp::{port}-:22\"]")) else { panic!("it started") };
    assert!(error.to_string().contains(&format!("{port}-:22")), "{error}");
}

#[test]
fn a_forward_is_removed_as_it_was_given() {
    let world = World::new("");
    let path = std::env::temp_dir().join(format!("reprise-removed-{}", std::process::id()));
    let unix = format!("unix:{}-:80", path.display());
    // Two ports that were free a moment ago, and in a row.
    let pair = || {
        let low = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        (low < u16::MAX).then(|| format!("tcp::{low}-{}-:80-81", low + 1))
    };
    let range = std::iter::repeat_with(pair).flatten().take(100).find(|range| {
        let added = world.handle.forward_add(range.parse().unwrap());
        added.is_ok_and(|added| added.len() == 2)
    });
    let range = range.unwrap();
    let canonical = |text: &str| text.parse::<Forward>().unwrap().to_string();
    world.handle.forward_remove(&range).unwrap();
    for given in ["tcp::0-:80", "udp:127.0.0.1:0-:80", &unix, &range] {
        for form in [given.to_owned(), canonical(given)] {
            world.handle.forward_add(given.parse().unwrap()).unwrap();
            world.handle.forward_remove(&form).unwrap();
            assert_eq!(world.handle.forward_list().unwrap(), [], "{form}");
        }
    }
    // One that was given without a port has one; the other is another's.
    let added = world.handle.forward_add("tcp::0-:80".parse().unwrap()).unwrap();
    let other = world.handle.forward_add("tcp::0-:81".parse().unwrap()).unwrap();
    let short = added[0].forward.replace("127.0.0.1", "");
    world.handle.forward_remove(&short).unwrap();
    assert_eq!(world.handle.forward_list().unwrap(), other);
    for none in ["tcp::0-:80", &short, "nonsense"] {
        let error = world.handle.forward_remove(none).unwrap_err().to_string();
        assert!(error.contains(none), "{error}");
    }
}

#[test]
fn a_socket_that_a_killed_process_left_is_no_obstacle() {
    let path = std::env::temp_dir().join(format!("reprise-stale-{}", std::process::id()));
    let forward = format!("hostfwd = [\"unix:{}-:22\"]", path.display());
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let ours = inode(&path);
    World::start(&forward).map(drop).unwrap_err();
    assert_eq!(inode(&path), ours, "somebody listens there");
    drop(listener);
    let world = World::start(&forward).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(world);
    assert!(!path.exists());
    // What is no socket is not ours to remove.
    std::fs::write(&path, b"precious").unwrap();
    World::start(&forward).map(drop).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_service_of_the_hosts_may_be_a_program() {
    let mut world = World::new("guestfwd = [\"tcp:10.0.2.100:7-cmd:cat\"]");
    let socket = world.connect("10.0.2.100", 7, 40_000);
    let bytes = pattern(300_000);
    assert!(world.exchange(socket, &bytes, true) == bytes);
}

#[test]
fn datagrams_go_out_and_come_back() {
    let mut world = World::new("");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("10.0.2.2:{}", server.local_addr().unwrap().port());
    for bytes in [0, 1, 1400, 9000] {
        let data = pattern(bytes);
        for piece in udp_frames("10.0.2.15:5000", &to, &data) {
            world.frame(&piece);
        }
        let mut buffer = [0; 65_535];
        server.set_read_timeout(Some(LONG)).unwrap();
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..count] == data);
        server.send_to(&buffer[..count], from).unwrap();
        let mut whole: Vec<u8> = Vec::new();
        world.until("the answer", |world| {
            for frame in world.others.drain(..) {
                let packet = packet_of(&frame).unwrap();
                whole.extend(&packet[20..]);
            }
            (whole.len() == 8 + bytes).then_some(())
        });
        assert!(whole[8..] == data);
    }
    // A port where nobody is: the kernel's error comes back as the guest's own.
    let port = server.local_addr().unwrap().port();
    drop(server);
    world.frame(&udp_frames("10.0.2.15:5000", &to, b"anybody?")[0]);
    let frame = world.until("the error", |world| world.others.pop());
    assert_eq!((frame[23], frame[34], frame[35]), (1, 3, 3));
    assert_eq!(frame[62..66], [0x13, 0x88, (port >> 8) as u8, port as u8]);
}

#[test]
fn datagrams_come_in_through_forwards() {
    let mut world = World::new("hostfwd = [\"udp::0-:53\"]");
    let listens: SocketAddr = world.handle.forward_list().unwrap()[0].listens.parse().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"question", listens).unwrap();
    let frame = world.until("the question", |world| world.others.pop());
    let packet = packet_of(&frame).unwrap();
    assert_eq!(&packet[28..], b"question");
    let from = u16::from_be_bytes([packet[20], packet[21]]);
    assert_eq!(from, client.local_addr().unwrap().port());
    world.frame(&udp_frames("10.0.2.15:53", &format!("10.0.2.2:{from}"), b"answer")[0]);
    let mut buffer = [0; 100];
    client.set_read_timeout(Some(LONG)).unwrap();
    let (count, peer) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], peer), (&b"answer"[..], listens));
}

#[test]
fn names_are_asked_of_the_hosts_servers() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let mut world = World::new(&format!("[dns]\nupstream = [\"{address}\"]\n"));
    let thread = thread::spawn(move || {
        let mut buffer = [0; 1000];
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        let mut answer = buffer[..count].to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.truncate(12 + 16);
        answer[11] = 0;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        server.send_to(&answer, from).unwrap();
    });
    let mut question = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(b"\x03www\x06sample\x00");
    question.extend([0, 1, 0, 1]);
    world.frame(&udp_frames("10.0.2.15:5000", "10.0.2.3:53", &question)[0]);
    let frame = world.until("the answer", |world| world.others.pop());
    let packet = packet_of(&frame).unwrap();
    assert_eq!(packet[28..30], [0xab, 0xcd], "the guest's own number");
    assert_eq!(packet[packet.len() - 4..], [192, 0, 2, 1]);
    thread.join().unwrap();
    // Its own names, over a connection too.
    let mut question = vec![0, 0, 0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(b"\x07gateway\x07reprise\x00");
    question.extend([0, 1, 0, 1]);
    question[1] = (question.len() - 2) as u8;
    let socket = world.connect("10.0.2.3", 53, 40_000);
    let got = world.exchange(socket, &question, true);
    assert_eq!(got[got.len() - 4..], [10, 0, 2, 2]);
}

#[test]
fn a_lease_is_given() {
    let mut world = World::new("");
    let mut discover = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
    discover.resize(28, 0);
    discover.extend(GUEST_MAC);
    discover.resize(236, 0);
    discover.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    let mut frame = udp_frames("0.0.0.0:68", "255.255.255.255:67", &discover).remove(0);
    frame[..6].fill(0xff);
    world.frame(&frame);
    let offer = world.until("an offer", |world| {
        let found = world.others.iter().position(|frame| frame[12..14] == [8, 0] && frame[23] == 17)?;
        Some(world.others.swap_remove(found))
    });
    assert_eq!(offer[..6], GUEST_MAC);
    assert_eq!((&offer[26..30], &offer[58..62]), (&[10, 0, 2, 2][..], &[10, 0, 2, 15][..]));
}

#[test]
fn many_connections_leave_nothing_behind() {
    let mut world = World::new("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        for _ in 0..300 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let before = descriptors();
    for round in 0..10u16 {
        let sockets: Vec<_> =
            (0..30).map(|i| world.connect("10.0.2.2", port, 41_000 + round * 30 + i)).collect();
        for socket in sockets {
            assert_eq!(world.exchange(socket, b"hello", false), b"hello");
            world.tcp(socket).close();
        }
        world
            .until("the end of all flows", |world| world.handle.info().unwrap().tcp.is_empty().then_some(()));
    }
    server.join().unwrap();
    // Other tests open and close theirs at the same time, so only a leak of many is seen.
    assert!(descriptors() < before + 200, "{before} descriptors before, {} after", descriptors());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_restore_drops_what_was_open() {
    let mut world = World::new("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = world.connect("10.0.2.2", port, 40_000);
    let mut accepted = None;
    listener.set_nonblocking(true).unwrap();
    world.until("the connection", |world| {
        accepted = accepted.take().or_else(|| listener.accept().ok());
        (accepted.is_some() && world.tcp(socket).state() == tcp::State::Established).then_some(())
    });
    let (mut peer, _) = accepted.unwrap();
    assert!(world.handle.external_work_pending());
    world.handle.restored();
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    let reset = peer.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(reset, Err(ErrorKind::ConnectionReset));
    world.tcp(socket).send_slice(b"still there?").unwrap();
    world.until("the reset", |world| (world.tcp(socket).state() == tcp::State::Closed).then_some(()));
}

#[test]
fn a_machine_that_is_reset_leaves_no_connection_behind() {
    let mut world = World::new("hostfwd = [\"tcp::0-:22\"]");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = world.connect("10.0.2.2", listener.local_addr().unwrap().port(), 40_000);
    let called = world.socket();
    world.tcp(called).listen(22).unwrap();
    let port: SocketAddr = world.handle.forward_list().unwrap()[0].listens.parse().unwrap();
    let client = TcpStream::connect(port).unwrap();
    world.until("two connections", |world| {
        let open = |tcp: &tcp::Socket<'_>| tcp.state() == tcp::State::Established;
        (open(world.tcp(socket)) && open(world.tcp(called))).then_some(())
    });
    let peers = [listener.accept().unwrap().0, client];
    // Its last words, and it begins anew.
    let hears = UdpSocket::bind("127.0.0.1:0").unwrap();
    hears.set_read_timeout(Some(LONG)).unwrap();
    let to = format!("10.0.2.2:{}", hears.local_addr().unwrap().port());
    world.frame(&udp_frames("10.0.2.15:5000", &to, b"I go down")[0]);
    let sent = world.handle.info().unwrap().frames_to_guest;
    world.handle.was_reset();
    for mut peer in peers {
        peer.set_read_timeout(Some(LONG)).unwrap();
        let broken = peer.read(&mut [0; 10]).map_err(|error| error.kind());
        assert_eq!(broken, Err(ErrorKind::ConnectionReset));
    }
    let mut heard = [0; 100];
    let bytes = hears.recv(&mut heard).unwrap();
    assert_eq!(&heard[..bytes], b"I go down");
    let info = world.handle.info().unwrap();
    assert_eq!(
        (info.tcp.len(), info.udp.len(), info.frames_to_guest),
        (0, 0, sent),
        "the guest hears nothing"
    );
    world.until("the end of the work", |world| (!world.handle.external_work_pending()).then_some(()));
    // It may use the same ports again.
    let socket = world.connect("10.0.2.2", listener.local_addr().unwrap().port(), 40_000);
    world.until("a new one", |world| (world.tcp(socket).state() == tcp::State::Established).then_some(()));
}
