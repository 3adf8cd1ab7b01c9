//! What passed the host's sockets, as it stands in a capture: read by readers that are not ours.

use super::*;
use crate::core::tests::card::{udp_frames, udp_message};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::{
    DataLink,
    pcapng::{Block, PcapNgReader, blocks::enhanced_packet::EnhancedPacketOption},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    thread,
};

/// A capture file of a test's own, which goes with it.
struct Kept(PathBuf);

impl Kept {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("reprise-{name}-{}.pcapng", std::process::id())))
    }

    fn settings(&self, more: &str) -> String {
        format!("{more}\n[capture]\nfile = {:?}\nguest = false\nhost = true\n", self.0)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _never_made = fs::remove_file(&self.0);
    }
}

/// One packet of the host's side.
#[derive(Debug)]
struct Seen {
    inbound: bool,
    from: SocketAddr,
    to: SocketAddr,
    /// `S`, `F`, `R` of TCP's flags; `udp`; the type of an ICMP message.
    what: String,
    seq: u32,
    data: Vec<u8>,
    comment: String,
}

fn seen(bytes: &[u8], options: &[EnhancedPacketOption<'_>]) -> Seen {
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let (from, to): (IpAddr, IpAddr) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let head = ip.header();
            assert_eq!(head.to_header().calc_header_checksum(), head.header_checksum());
            (head.source_addr().into(), head.destination_addr().into())
        }
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("{other:?}"),
    };
    let (ports, what, seq, data) = match packet.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => {
            let flags = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R')];
            let flags = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
            ([tcp.source_port(), tcp.destination_port()], flags, tcp.sequence_number(), tcp.payload())
        }
        TransportSlice::Udp(udp) => {
            ([udp.source_port(), udp.destination_port()], "udp".to_owned(), 0, udp.payload())
        }
        TransportSlice::Icmpv4(icmp) => ([0; 2], format!("{:?}", icmp.icmp_type()), 0, icmp.payload()),
        other => panic!("{other:?}"),
    };
    let option = |found: fn(&EnhancedPacketOption<'_>) -> Option<String>| options.iter().find_map(found);
    let comment = option(|one| match one {
        EnhancedPacketOption::Comment(text) => Some(text.to_string()),
        _ => None,
    });
    Seen {
        inbound: options.contains(&EnhancedPacketOption::Flags(1)),
        from: SocketAddr::new(from, ports[0]),
        to: SocketAddr::new(to, ports[1]),
        what,
        seq,
        data: data.to_vec(),
        comment: comment.unwrap_or_default(),
    }
}

/// Ends the network and reads what it has written.
fn read(world: World, kept: &Kept) -> Vec<Seen> {
    drop(world);
    let file = fs::read(&kept.0).unwrap();
    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap().into_owned() {
            Block::EnhancedPacket(packet) => packets.push(packet),
            Block::InterfaceDescription(interface) => assert_eq!(interface.linktype, DataLink::RAW),
            other => panic!("{other:?}"),
        }
    }
    assert!(packets.is_sorted_by_key(|packet| packet.timestamp));
    packets.iter().map(|packet| seen(&packet.data, &packet.options)).collect()
}

/// The bytes of one direction, put together by their numbers; panics if one is missing or is there twice.
fn followed(packets: &[Seen], from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (mut next, mut bytes) = (None, Vec::new());
    for packet in packets.iter().filter(|packet| (packet.from, packet.to) == (from, to)) {
        let space = packet.data.len() as u32 + u32::from(packet.what == "S" || packet.what == "F");
        assert_eq!(packet.seq, next.unwrap_or(packet.seq), "{packet:?}");
        next = Some(packet.seq.wrapping_add(space));
        bytes.extend(&packet.data);
    }
    bytes
}

fn flags(packets: &[Seen], from: SocketAddr) -> String {
    packets.iter().filter(|packet| packet.from == from).map(|packet| packet.what.as_str()).collect()
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A server that answers a connection with what it got, turned round; who that was.
fn reverser(listener: TcpListener) -> JoinHandle<SocketAddr> {
    thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes.reverse();
        stream.write_all(&bytes).unwrap();
        peer
    })
}

#[test]
fn streams_can_be_followed_to_the_last_byte() {
    for (number, (at, gateway)) in
        [("127.0.0.1:0", "10.0.2.2"), ("[::1]:0", "fd00::2")].into_iter().enumerate()
    {
        let kept = Kept::new(&format!("streams{number}"));
        let mut world = World::new(&kept.settings(""));
        let listener = TcpListener::bind(at).unwrap();
        let server = listener.local_addr().unwrap();
        let thread = reverser(listener);
        let socket = world.connect(gateway, server.port(), 40_000);
        let bytes = pattern(1_000_000);
        let got = world.exchange(socket, &bytes, true);
        let client = thread.join().unwrap();
        world.until("the end of the flow", |world| world.handle.info().unwrap().tcp.is_empty().then_some(()));
        let packets = read(world, &kept);
        assert!(followed(&packets, client, server) == bytes);
        assert!(followed(&packets, server, client) == got);
        assert_eq!((flags(&packets, client), flags(&packets, server)), ("SF".to_owned(), "SF".to_owned()));
        assert!(packets.iter().all(|packet| packet.inbound == (packet.from == server)));
    }
}

#[test]
fn what_was_captured_stays_until_there_is_something_new() {
    let kept = Kept::new("stays");
    fs::write(&kept.0, b"an earlier run's").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    World::start(&kept.settings(&format!("hostfwd = [\"tcp::{port}-:22\"]"))).map(drop).unwrap_err();
    assert_eq!(fs::read(&kept.0).unwrap(), b"an earlier run's");
    // One that sees nothing, as only the host's side is captured.
    let world = World::new(&kept.settings(""));
    world.frame(&udp_frames("10.0.2.15:5000", "10.0.2.3:99", b"here")[0]);
    drop(world);
    assert_eq!(fs::read(&kept.0).unwrap(), b"an earlier run's");
    let world = World::new(&kept.settings(""));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    let at = server.local_addr().unwrap();
    world.frame(&udp_frames("10.0.2.15:5000", &format!("10.0.2.2:{}", at.port()), b"new")[0]);
    server.recv_from(&mut [0; 10]).unwrap();
    let packets = read(world, &kept);
    assert_eq!(packets.iter().map(|packet| &packet.data[..]).collect::<Vec<_>>(), [b"new"]);
}

/// What a killed process leaves is what it saw, not what fitted into its buffers.
#[test]
fn what_has_passed_is_in_the_file() {
    let kept = Kept::new("flushed");
    let mut world = World::new(&kept.settings(""));
    let length = || fs::metadata(&kept.0).unwrap().len();
    let header = length();
    assert!(header > 0);
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("10.0.2.2:{}", server.local_addr().unwrap().port());
    world.frame(&udp_frames("10.0.2.15:5000", &to, b"x")[0]);
    let begin = Instant::now();
    world.until("the packet in the file", |_| (length() > header).then_some(()));
    // Not when somebody comes by to tidy up.
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn connections_that_come_in_are_called_by_their_peer() {
    let kept = Kept::new("forwards");
    let mut world = World::new(&kept.settings("hostfwd = [\"tcp:127.0.0.1:0-:22\"]"));
    let listens: SocketAddr = world.handle.forward_list().unwrap()[0].listens.parse().unwrap();
    let socket = world.socket();
    world.tcp(socket).listen(22).unwrap();
    let mut client = TcpStream::connect(listens).unwrap();
    client.write_all(b"SSH-2.0").unwrap();
    // Without a guest's answer to this it is not known where the guest is.
    world.frame(&udp_frames("10.0.2.15:5000", "10.0.2.3:99", b"here")[0]);
    world.until("the greeting", |world| (world.tcp(socket).recv_queue() == 7).then_some(()));
    let peer = client.local_addr().unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.until("the reset", |world| (world.tcp(socket).state() == tcp::State::Closed).then_some(()));
    let packets = read(world, &kept);
    assert_eq!((flags(&packets, peer), flags(&packets, listens)), ("SR".to_owned(), "S".to_owned()));
    assert_eq!(followed(&packets, peer, listens), b"SSH-2.0");
    assert!(packets[0].inbound && packets[0].what == "S", "{packets:?}");
}

#[test]
fn refusals_and_datagrams_are_there_as_they_were() {
    let kept = Kept::new("datagrams");
    let mut world = World::new(&kept.settings(""));
    // Nobody is there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let socket = world.connect("10.0.2.2", port, 40_000);
    world.until("the refusal", |world| (world.tcp(socket).state() == tcp::State::Closed).then_some(()));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    let at = server.local_addr().unwrap();
    let to = format!("10.0.2.2:{}", at.port());
    let sent = pattern(2500);
    world.handle.frame(udp_message("10.0.2.15:5000", &to, &sent, 1000));
    let mut buffer = [0; 2000];
    let mut client = None;
    for data in sent.chunks(1000) {
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..count] == *data);
        client = Some(from);
    }
    let client = client.unwrap();
    server.send_to(b"answer", client).unwrap();
    world.until("the answer", |world| world.others.pop());
    drop(server);
    world.handle.frame(udp_message("10.0.2.15:5000", &to, b"anybody?", 0));
    world.until("the error", |world| world.others.pop());
    let packets = read(world, &kept);
    let refused: SocketAddr = ([127, 0, 0, 1], port).into();
    let tries: Vec<_> =
        packets.iter().filter(|packet| packet.from == refused || packet.to == refused).collect();
    let shown: Vec<_> = tries.iter().map(|packet| (packet.what.as_str(), packet.inbound)).collect();
    assert_eq!(shown, [("S", false), ("R", true)]);
    let datagrams = |from, to| -> Vec<&[u8]> {
        let of = |packet: &&Seen| packet.what == "udp" && (packet.from, packet.to) == (from, to);
        packets.iter().filter(of).map(|packet| &packet.data[..]).collect()
    };
    let wanted: Vec<_> = sent.chunks(1000).chain([&b"anybody?"[..]]).collect();
    assert_eq!(datagrams(client, at), wanted);
    assert_eq!(datagrams(at, client), [b"answer"]);
    let error = packets.last().unwrap();
    assert!(error.inbound && error.what.contains("Port") && error.data.ends_with(b"anybody?"), "{error:?}");
}

/// Names are asked by sockets of the host's too.
#[test]
fn questions_for_names_are_there() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    let at = server.local_addr().unwrap();
    let kept = Kept::new("names");
    let world = World::new(&kept.settings(&format!("dns.upstream = [\"{at}\"]")));
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01";
    world.handle.frame(udp_message("10.0.2.15:5000", "10.0.2.3:53", question, 0));
    let mut buffer = [0; 1000];
    let (count, from) = server.recv_from(&mut buffer).unwrap();
    let packets = read(world, &kept);
    let asked: Vec<_> = packets.iter().map(|packet| (packet.from, packet.to, &packet.data[..])).collect();
    assert_eq!(asked, [(from, at, &buffer[..count])]);
}

#[test]
fn what_a_proxy_is_told_is_left_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let proxy = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(b"pong").unwrap();
        (peer, String::from_utf8(asked).unwrap())
    });
    let kept = Kept::new("proxy");
    let settings = format!("upstream = \"x\"\nproxies.x = \"http://me:secret@{at}\"");
    let mut world = World::new(&kept.settings(&settings));
    let socket = world.connect("192.0.2.9", 80, 40_000);
    assert_eq!(world.exchange(socket, b"ping", true), b"pong");
    let (peer, asked) = proxy.join().unwrap();
    assert!(asked.contains("Proxy-Authorization"), "{asked}");
    let packets = read(world, &kept);
    assert_eq!(
        (followed(&packets, peer, at), followed(&packets, at, peer)),
        (b"ping".into(), b"pong".into())
    );
    assert!(packets[0].comment.contains("to 192.0.2.9:80 through proxy `x`"), "{:?}", packets[0].comment);
}
