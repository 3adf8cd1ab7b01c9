//! Ports of the host that lead into the guest: listening sockets, and what is known about them.

use super::{Error, datagram::DatagramSocket, stream::Stream};
use crate::{
    config::{Forward, Listen, Protocol},
    core::Network,
    edges::FlowId,
};
use mio::{
    Interest, Registry, Token,
    net::{TcpListener, UnixListener},
};
use serde::Serialize;
use socket2::{Domain, Type};
use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Connections that wait to be accepted. The poller's own listeners have 128, which a busy server's clients overflow.
const BACKLOG: i32 = 4096;
/// Tokens of listeners: beyond those of flows and of the name server's queries.
const TOKENS: u64 = 1 << 63;

/// A forward, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForwardInfo {
    /// With the port that it really has; removes it.
    pub forward: String,
    /// Where the host listens: an address or a path.
    pub listens: String,
    /// `None` where the guest's own address is meant, whatever it is.
    pub guest: Option<IpAddr>,
    pub guest_port: u16,
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf, inode: u64 },
    Udp(FlowId),
}

/// One listening socket.
pub(super) struct Listener {
    pub(super) info: ForwardInfo,
    /// As it was given, for all of a range; and as it came to be.
    given: Forward,
    exact: Forward,
    pub(super) socket: Socket,
    pub(super) guest_port: u16,
}

/// What is bound, before anybody is told.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf, inode: u64 },
    Udp(DatagramSocket),
}

fn tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A socket that nobody listens on is what a killed process leaves behind. Anything else stays, whatever it is.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full is not waited for: somebody listens.
    probe.set_nonblocking(true)?;
    match probe.connect(&socket2::SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let inode = fs::metadata(path)?.ino();
    // Nobody else may connect, and before it listens nobody can.
    let ready = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    let ready = ready.and_then(|()| socket.listen(BACKLOG)).and_then(|()| socket.set_nonblocking(true));
    let listener = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
    let bound = Bound::Unix { listener: UnixListener::from_std(listener), path: path.to_owned(), inode };
    ready.map(|()| bound).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Binds all sockets of a forward, or none: (where, what, the guest's port) of each.
pub(super) fn bind(forward: &Forward, network: &Network) -> Result<Vec<(Forward, Bound, u16)>, Error> {
    let family = match forward.guest {
        Some(IpAddr::V4(_)) => network.v4.is_some(),
        Some(IpAddr::V6(_)) => network.v6.is_some(),
        None => true,
    };
    if !family {
        return Err(Error::Family { forward: forward.to_string() });
    }
    if let Some(guest) = forward.guest.filter(|guest| !network.is_guests(*guest)) {
        return Err(Error::Guest { forward: forward.to_string(), guest });
    }
    let wrong = |why| Error::Listen { forward: forward.to_string(), why };
    let (address, ports) = match &forward.listen {
        Listen::Unix { path } => {
            let bound = unix(path).map_err(wrong)?;
            return Ok(vec![(forward.clone(), bound, forward.guest_ports.first())]);
        }
        Listen::Inet { address, ports } => (*address, *ports),
    };
    let mut all = Vec::new();
    for (port, guest_port) in (ports.first()..=ports.last()).zip(forward.guest_ports.first()..) {
        let at = SocketAddr::new(address, port);
        let (bound, at) = match forward.protocol {
            Protocol::Tcp => {
                let listener = tcp(at).map_err(wrong)?;
                let at = listener.local_addr().map_err(wrong)?;
                (Bound::Tcp(listener), at)
            }
            Protocol::Udp => {
                let socket = DatagramSocket::bound(at).map_err(wrong)?;
                let at = socket.local().map_err(wrong)?;
                (Bound::Udp(socket), at)
            }
        };
        let one = |port| crate::config::Ports::one(port);
        let exact = Forward {
            listen: Listen::Inet { address: at.ip(), ports: one(at.port()) },
            guest_ports: one(guest_port),
            ..forward.clone()
        };
        all.push((exact, bound, guest_port));
    }
    Ok(all)
}

/// The index of the listener that a token names.
pub(super) fn listener_of(token: Token) -> Option<usize> {
    let token = token.0 as u64;
    (token >> 62 == 2).then_some((token & ((1 << 62) - 1)) as usize)
}

impl Listener {
    pub(super) fn new(exact: &Forward, given: &Forward, socket: Socket, guest_port: u16) -> Self {
        let info = ForwardInfo {
            forward: exact.to_string(),
            listens: exact.listen.to_string(),
            guest: exact.guest,
            guest_port,
        };
        Self { info, given: given.clone(), exact: exact.clone(), socket, guest_port }
    }

    /// Whether this is meant, in whatever form it is written.
    pub(super) fn is(&self, forward: &Forward) -> bool {
        self.given == *forward || self.exact == *forward
    }

    pub(super) fn register(&mut self, registry: &Registry, index: usize) -> io::Result<()> {
        let token = Token((TOKENS | index as u64) as usize);
        match &mut self.socket {
            Socket::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Socket::Unix { listener, .. } => registry.register(listener, token, Interest::READABLE),
            Socket::Udp(_) => Ok(()),
        }
    }

    /// The next connection; of a unix socket's peer nothing is known but that it is on this host.
    pub(super) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Tcp(stream, None), peer))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 0)))
            }
            Socket::Udp(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { path, inode, .. } = &self.socket
            && fs::metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            // Somebody else may have removed it meanwhile.
            let _gone = fs::remove_file(path);
        }
    }
}
