//! Sockets of datagrams: UDP, and echo requests by the kernel's ping sockets.

use super::{
    descriptors::Descriptors,
    outbox::{self, retried},
    stream::failure,
};
use crate::edges::{EchoReply, Failure, IcmpError, TRAIN_BYTES, Train};
use mio::{Interest, Registry, Token, net::UdpSocket};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg, setsockopt,
        sockopt::{Ipv4RecvErr, Ipv6RecvErr, UdpGroSegment},
    },
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
};

/// Errors that one look takes from a socket.
const ERRORS: usize = 64;

#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: UdpSocket,
    v6: bool,
    hops: Option<u8>,
    ping: bool,
    /// Datagrams that are not longer may go out in trains.
    pub(super) longest_train: usize,
}

impl DatagramSocket {
    /// A socket of its own port, for anybody.
    pub(super) fn udp(v6: bool) -> io::Result<Self> {
        let any: SocketAddr = match v6 {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        Self::bound(any)
    }

    /// A socket at an address.
    pub(super) fn bound(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&at.into())?;
        Self::from(socket, at.is_ipv6(), false)
    }

    /// A ping socket. The host may keep them from its users: `net.ipv4.ping_group_range`.
    pub(super) fn ping(v6: bool) -> io::Result<Self> {
        let (domain, protocol) = match v6 {
            true => (Domain::IPV6, Protocol::ICMPV6),
            false => (Domain::IPV4, Protocol::ICMPV4),
        };
        Self::from(Socket::new(domain, Type::DGRAM, Some(protocol))?, v6, true)
    }

    fn from(socket: Socket, v6: bool, ping: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        match v6 {
            true => setsockopt(&socket, Ipv6RecvErr, &true)?,
            false => setsockopt(&socket, Ipv4RecvErr, &true)?,
        }
        let mut longest_train = 0;
        if !ping {
            // A kernel that does not know it hands over each datagram by itself.
            let _one_by_one = setsockopt(&socket, UdpGroSegment, &true);
            longest_train = if outbox::is_known(&socket)? { usize::MAX } else { 0 };
        }
        Ok(Self { socket: UdpSocket::from_std(socket.into()), v6, hops: None, ping, longest_train })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    pub(super) fn check(&self, descriptors: Descriptors) -> io::Result<()> {
        descriptors.check(&self.socket)
    }

    pub(super) fn is_ping(&self) -> bool {
        self.ping
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn set_hops(&mut self, hops: u8) -> io::Result<()> {
        if self.hops == Some(hops) {
            return Ok(());
        }
        let socket = SockRef::from(&self.socket);
        match self.v6 {
            true => socket.set_unicast_hops_v6(hops.into())?,
            false => socket.set_ttl_v4(hops.into())?,
        }
        self.hops = Some(hops);
        Ok(())
    }

    /// A full socket loses the datagram, as networks do.
    pub(super) fn send(&mut self, to: SocketAddr, hops: u8, bytes: &[u8]) -> Result<(), Failure> {
        self.set_hops(hops).map_err(|error| failure(&error))?;
        // The first one may report an error of an earlier datagram, which the error queue has as well.
        for last in [false, true] {
            match self.socket.send_to(bytes, to) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if last => return Err(failure(&error)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The next trains, as many as the buffer has places for.
    pub(super) fn recv_trains(&self, buffer: &mut [u8], into: &mut Vec<Train>) {
        // An error here is one of an earlier datagram: there may be more behind it.
        for _ in 0..ERRORS {
            match retried(|| self.recv_some(buffer, into)) {
                Ok(()) | Err(Errno::EAGAIN) => return,
                Err(_) => {}
            }
        }
    }

    fn recv_some(&self, buffer: &mut [u8], into: &mut Vec<Train>) -> nix::Result<()> {
        let places = buffer.chunks_exact_mut(TRAIN_BYTES);
        let mut parts: Vec<_> = places.map(|place| [IoSliceMut::new(place)]).collect();
        // Not kept for the next call: it has the lengths of what was received in it.
        let mut headers = MultiHeaders::preallocate(parts.len(), Some(nix::cmsg_space!(i32)));
        let all = recvmmsg::<_, SockaddrStorage, _>(
            self.fd(),
            &mut headers,
            parts.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        for (place, got) in all.enumerate() {
            let piece = got.cmsgs().ok().and_then(|mut all| {
                all.find_map(|message| match message {
                    ControlMessageOwned::UdpGroSegments(piece) => usize::try_from(piece).ok(),
                    _ => None,
                })
            });
            let Some(from) = got.address.and_then(|address| socket_address(&address)) else { continue };
            let bytes = got.bytes;
            into.push(Train { at: place * TRAIN_BYTES, bytes, piece: piece.unwrap_or(bytes), from });
        }
        Ok(())
    }

    fn recv(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        // An error here is one of an earlier datagram: there may be more behind it.
        for _ in 0..ERRORS {
            match self.socket.recv_from(buffer) {
                Ok(got) => return Some(got),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        None
    }

    pub(super) fn send_echo(
        &mut self,
        to: IpAddr,
        hops: u8,
        sequence: u16,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let mut message = vec![if self.v6 { 128 } else { 8 }, 0, 0, 0, 0, 0];
        message.extend(sequence.to_be_bytes());
        message.extend(bytes);
        // The kernel fills in identifier and checksum.
        self.send(SocketAddr::new(to, 0), hops, &message)
    }

    /// The next echo reply.
    pub(super) fn recv_echo(&self, buffer: &mut [u8]) -> Option<EchoReply> {
        let reply = if self.v6 { 129 } else { 0 };
        let mut message = vec![0; buffer.len() + 8];
        loop {
            let (bytes, from) = self.recv(&mut message)?;
            let Some((head, data)) = message[..bytes].split_first_chunk::<8>() else { continue };
            if head[0] != reply {
                continue;
            }
            buffer[..data.len()].copy_from_slice(data);
            let sequence = u16::from_be_bytes([head[6], head[7]]);
            return Some(EchoReply { bytes: data.len(), from: from.ip(), sequence });
        }
    }

    /// What routers and peers said about datagrams of this socket.
    pub(super) fn errors(&self) -> Vec<IcmpError> {
        std::iter::from_fn(|| self.error()).take(ERRORS).flatten().collect()
    }

    /// `None`: no more; `Some(None)`: one that says nothing to the guest.
    fn error(&self) -> Option<Option<IcmpError>> {
        let mut buffer = [0; 1500];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let got = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)
            .ok()?;
        let to = got.address.and_then(|address| socket_address(&address));
        let said = got.cmsgs().ok().and_then(|all| all.into_iter().find_map(|message| who(&message)));
        let bytes = got.bytes;
        let (Some(mut to), Some((from, error))) = (to, said) else { return Some(None) };
        let mut payload = buffer[..bytes].to_vec();
        if self.ping {
            let Some((head, data)) = payload.split_first_chunk::<8>() else { return Some(None) };
            to.set_port(u16::from_be_bytes([head[6], head[7]]));
            payload = data.to_vec();
        }
        let (icmp_type, code, info) = (error.ee_type, error.ee_code, error.ee_info);
        Some(Some(IcmpError { from, icmp_type, code, info, to, payload }))
    }
}

/// Who reports an error, if it came by ICMP.
fn who(message: &ControlMessageOwned) -> Option<(IpAddr, libc::sock_extended_err)> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) if error.ee_origin == libc::SO_EE_ORIGIN_ICMP => {
            Some((Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)).into(), *error))
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from))
            if error.ee_origin == libc::SO_EE_ORIGIN_ICMP6 =>
        {
            Some((Ipv6Addr::from(from.sin6_addr.s6_addr).into(), *error))
        }
        _ => None,
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::new(v4.ip().into(), v4.port()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().into(), v6.port())))
}
