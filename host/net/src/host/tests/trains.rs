//! Datagrams in trains, through real sockets both ways.

use super::*;
use crate::{
    core::tests::card::udp_message,
    frame::{GSO_NONE, GSO_UDP_L4},
    host::{datagram::DatagramSocket, outbox::Outbox},
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt::UdpGroSegment,
};
use std::{
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

const USO: Offload = Offload { csum: true, tso4: false, tso6: false, uso4: true, uso6: true };

/// An address of the loopback, the gateway that stands for it, and a guest.
const FAMILIES: [(&str, &str, &str); 2] =
    [("127.0.0.1:0", "10.0.2.2", "10.0.2.15:5000"), ("[::1]:0", "[fd00::2]", "[fd00::15]:5000")];

fn server(at: &str) -> UdpSocket {
    let server = UdpSocket::bind(at).unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    server
}

fn pieces(lengths: &[usize]) -> Vec<Vec<u8>> {
    let piece = |(number, length): (usize, &usize)| (0..*length).map(|at| (at * 3 + number) as u8).collect();
    lengths.iter().enumerate().map(piece).collect()
}

fn receive(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (count, from) = server.recv_from(&mut buffer).unwrap();
    buffer.truncate(count);
    (buffer, from)
}

/// Sends datagrams of `piece` bytes as one train, as a peer with UDP_SEGMENT does.
fn send_train(server: &UdpSocket, to: SocketAddr, bytes: &[u8], piece: u16) {
    let (parts, cut) = ([IoSlice::new(bytes)], [ControlMessage::UdpGsoSegments(&piece)]);
    let to = SockaddrStorage::from(to);
    let sent = sendmsg(server.as_raw_fd(), &parts, &cut, MsgFlags::empty(), Some(&to)).unwrap();
    assert_eq!(sent, bytes.len());
}

/// A datagram, or a train of them, from the guest.
fn from_guest(world: &World, guest: &str, to: &str, data: &[u8], piece: usize) {
    world.handle.frame(udp_message(guest, to, data, piece));
}

/// The datagrams of the next frame with some, and whether it was a train.
fn next_frame(world: &mut World) -> (Vec<Vec<u8>>, bool) {
    let found = |world: &mut World| {
        let mut messages = world.wire.messages.lock().unwrap();
        let udp = |(_, frame): &(Header, Vec<u8>)| match frame[14] >> 4 {
            4 => frame[12..14] == [8, 0] && frame[23] == 17,
            _ => frame[12..14] == [0x86, 0xdd] && frame[20] == 17,
        };
        let at = messages.iter().position(udp)?;
        messages.remove(at)
    };
    let (header, frame) = loop {
        if let Some(found) = found(world) {
            break found;
        }
        let guard = world.wire.messages.lock().unwrap();
        let (guard, waited) = world.wire.came.wait_timeout(guard, LONG).unwrap();
        assert!(!waited.timed_out(), "no frame came");
        drop(guard);
    };
    world.handle.room_changed();
    crate::core::tests::parse::check(&header, &frame, USO, 1500);
    let udp = etherparse::SlicedPacket::from_ethernet(&frame).unwrap().transport.unwrap();
    let etherparse::TransportSlice::Udp(udp) = udp else { panic!("not UDP") };
    let data = udp.payload();
    match header.gso_type {
        GSO_NONE => (vec![data.to_vec()], false),
        GSO_UDP_L4 => (data.chunks(header.gso_size.into()).map(<[u8]>::to_vec).collect(), true),
        other => panic!("{other}"),
    }
}

#[test]
fn a_guests_datagrams_arrive_one_by_one_and_in_order() {
    for (at, gateway, guest) in FAMILIES {
        let world = World::new("");
        let server = server(at);
        let to = format!("{gateway}:{}", server.local_addr().unwrap().port());
        // A train with a shorter last one; then others, equal and not.
        let train = pieces(&[1000; 40]).concat();
        let train = &train[..39 * 1000 + 7];
        from_guest(&world, guest, &to, train, 1000);
        let others = pieces(&[700, 700, 700, 3, 0, 1200, 1200, 1, 1, 900]);
        others.iter().for_each(|data| from_guest(&world, guest, &to, data, 0));
        for wanted in train.chunks(1000).map(<[u8]>::to_vec).chain(others) {
            assert!(receive(&server).0 == wanted, "{} bytes", wanted.len());
        }
        assert_eq!(world.handle.info().unwrap().dropped, BTreeMap::new());
    }
}

#[test]
fn a_guests_train_stays_one_to_a_host_that_takes_trains() {
    let world = World::new("");
    let server = server("127.0.0.1:0");
    setsockopt(&server, UdpGroSegment, &true).unwrap();
    let to = format!("10.0.2.2:{}", server.local_addr().unwrap().port());
    let train = pieces(&[1400; 30]).concat();
    from_guest(&world, "10.0.2.15:5000", &to, &train[..29 * 1400 + 1], 1400);
    let mut buffer = vec![0; 65_536];
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got =
        recvmsg::<SockaddrStorage>(server.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    let got = got.unwrap();
    let cut: Vec<_> = got.cmsgs().unwrap().collect();
    assert_eq!((got.bytes, cut), (29 * 1400 + 1, vec![ControlMessageOwned::UdpGroSegments(1400)]));
}

#[test]
fn trains_reach_a_guest_as_it_takes_them() {
    for (at, gateway, guest) in FAMILIES {
        for takes in [true, false] {
            let mut world = World::new("");
            let server = server(at);
            let to = format!("{gateway}:{}", server.local_addr().unwrap().port());
            let offload = if takes { USO } else { Offload::default() };
            world.handle.set_offload(offload, 1500);
            from_guest(&world, guest, &to, b"hello", 0);
            let (_, flow) = receive(&server);
            for (piece, bytes) in
                [(1000, 40 * 1000_usize), (1000, 39 * 1000 + 1), (1, 5), (1452, 44 * 1452 + 1451)]
            {
                let data: Vec<u8> = (0..bytes).map(|at| (at ^ (at >> 8)) as u8).collect();
                send_train(&server, flow, &data, piece);
                let mut got = Vec::new();
                let mut frames = 0;
                while got.len() < bytes.div_ceil(piece.into()) {
                    let (datagrams, train) = next_frame(&mut world);
                    assert_eq!(train, takes);
                    got.extend(datagrams);
                    frames += 1;
                }
                assert!(got.iter().eq(data.chunks(piece.into())), "{piece} of {bytes}");
                assert_eq!(frames, if takes { 1 } else { got.len() });
            }
        }
    }
}

#[test]
fn trains_come_in_through_forwards() {
    let mut world = World::new("hostfwd = [\"udp::0-:53\"]");
    world.handle.set_offload(USO, 1500);
    let listens: SocketAddr = world.handle.forward_list().unwrap()[0].listens.parse().unwrap();
    // The guest says where it is.
    from_guest(&world, "10.0.2.15:53", "10.0.2.3:99", b"here", 0);
    let client = server("127.0.0.1:0");
    let data = pieces(&[1200; 20]).concat();
    send_train(&client, listens, &data[..19 * 1200 + 5], 1200);
    let (datagrams, train) = next_frame(&mut world);
    assert!(train && datagrams.concat() == data[..19 * 1200 + 5] && datagrams[19].len() == 5);
}

/// One that cannot be sent, among others that can: a broadcast without the right to it.
#[test]
fn what_cannot_be_sent_is_told_and_holds_up_nothing() {
    for longest in [usize::MAX, 0] {
        let server = server("127.0.0.1:0");
        let to = server.local_addr().unwrap();
        let nobody: SocketAddr = "255.255.255.255:9".parse().unwrap();
        let mut socket = DatagramSocket::udp(false).unwrap();
        socket.longest_train = socket.longest_train.min(longest);
        let mut outbox = Outbox::default();
        let flow = crate::FlowId::new(crate::Kind::Udp, 0, 0);
        let (sent, lost) = (pieces(&[10, 10, 10, 20, 30, 30]), pieces(&[1, 1, 2]));
        sent[..2].iter().for_each(|data| outbox.push(flow, to, 60, data));
        lost.iter().for_each(|data| outbox.push(flow, nobody, 60, data));
        sent[2..].iter().for_each(|data| outbox.push(flow, to, 60, data));
        let unsent = outbox.send(&mut socket);
        let told: Vec<_> = unsent.iter().map(|one| (one.to, one.failure, one.payload.clone())).collect();
        let forbidden = |data: Vec<u8>| (nobody, crate::Failure::Forbidden, data);
        assert_eq!(told, lost.into_iter().map(forbidden).collect::<Vec<_>>());
        sent.iter().for_each(|data| assert_eq!(receive(&server).0, *data));
        assert_eq!(outbox.flow(), None);
    }
}
