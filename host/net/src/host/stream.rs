//! A stream of the host's: what stands behind a connection of the guest.

use crate::{
    edges::{Failure, Moved},
    upstream::{Handshake, Progress, ProxyError},
};
use mio::{
    Interest, Registry, Token,
    net::{TcpStream, UnixStream},
};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// A socket with bytes.
#[derive(Debug)]
pub(super) enum Stream {
    /// With where it was called, unless it was accepted.
    Tcp(TcpStream, Option<SocketAddr>),
    Unix(UnixStream),
}

pub(super) fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Failure::Reset,
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Failure::NetUnreachable,
        ErrorKind::HostUnreachable => Failure::HostUnreachable,
        ErrorKind::PermissionDenied => Failure::Forbidden,
        ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Exhausted,
    }
}

/// What one call came to. An interrupted one is made again: nobody would say that the socket is still ready.
fn moved(mut call: impl FnMut() -> io::Result<usize>, none: Moved) -> Moved {
    let result = loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    match result {
        Ok(0) => none,
        Ok(count) => Moved::Bytes(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Moved::WouldBlock,
        Err(error) => Moved::Failed(failure(&error)),
    }
}

impl Stream {
    /// Begins to connect.
    pub(super) fn tcp(to: SocketAddr) -> io::Result<Self> {
        Ok(Self::Tcp(TcpStream::connect(to)?, Some(to)))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path)?))
    }

    /// A program with this stream for its standard input and output, in a process group of its own. Its errors are
    /// ours.
    pub(super) fn command(argv: &[String]) -> io::Result<(Self, Child)> {
        let (program, arguments) = argv.split_first().ok_or(ErrorKind::InvalidInput)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()?;
        Ok((Self::Unix(UnixStream::from_std(ours)), child))
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream, _) => registry.register(stream, token, interest),
            Self::Unix(stream) => registry.register(stream, token, interest),
        }
    }

    /// Our address and the peer's, if it is a connection of the internet's. While it is not connected, the peer's is
    /// where it was called.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(stream, called) => {
                let peer = called.map_or_else(|| stream.peer_addr(), Ok);
                Some((stream.local_addr().ok()?, peer.ok()?))
            }
            Self::Unix(_) => None,
        }
    }

    /// Whether the connection has come about: `None` if that is not decided.
    pub(super) fn connected(&self) -> Option<Result<(), Failure>> {
        let (error, peer) = match self {
            Self::Tcp(stream, _) => (stream.take_error(), stream.peer_addr().map(drop)),
            Self::Unix(stream) => (stream.take_error(), stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Ok(Some(error)) | Err(error), _) => Some(Err(failure(&error))),
            (Ok(None), Ok(())) => Some(Ok(())),
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => None,
            (Ok(None), Err(error)) => Some(Err(failure(&error))),
        }
    }

    /// Small segments are sent at once: the guest's stack has decided already.
    pub(super) fn settle(&self) {
        if let Self::Tcp(stream, _) = self {
            // A stream that is not settled works too.
            let _unsettled = stream.set_nodelay(true);
            let _unwatched = socket2::SockRef::from(stream).set_keepalive(true);
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Moved {
        let call = || match self {
            Self::Tcp(stream, _) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        };
        moved(call, Moved::WouldBlock)
    }

    pub(super) fn recv(&mut self, buffer: &mut [u8]) -> Moved {
        let call = || match self {
            Self::Tcp(stream, _) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        };
        moved(call, Moved::End)
    }

    pub(super) fn shutdown(&self) {
        let how = std::net::Shutdown::Write;
        // It fails if the peer is gone, and then there is nobody to tell.
        let _gone = match self {
            Self::Tcp(stream, _) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// The peer shall notice that this was no orderly end.
    pub(super) fn reset(&self) {
        if let Self::Tcp(stream, _) = self {
            let _ends_orderly = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream, _) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// A connection and how far it is.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) stage: Stage,
    /// The peer's first bytes, which came with a proxy's last word.
    early: Vec<u8>,
    /// The poller has said that there may be bytes, and none has been asked for in vain since.
    readable: bool,
    pub(super) child: Option<Child>,
}

/// A proxy that is being called.
pub(super) struct Call {
    /// What follows when it answers.
    pub(super) handshake: Handshake,
    pub(super) proxy: String,
    /// Where the guest wants to go.
    pub(super) to: SocketAddr,
    /// The proxy's further addresses.
    pub(super) others: VecDeque<SocketAddr>,
    /// When the next one is tried.
    pub(super) patience: Instant,
}

pub(super) enum Stage {
    Connecting {
        until: Instant,
        proxy: Option<Box<Call>>,
    },
    /// It talks to the proxy.
    Asking {
        until: Instant,
        proxy: Handshake,
    },
    Open,
}

impl Connection {
    pub(super) fn new(stream: Stream, stage: Stage, child: Option<Child>) -> Self {
        Self { stream, stage, early: Vec::new(), readable: false, child }
    }

    /// Whether it was called, instead of calling; and what is to be said of it.
    pub(super) fn beginning(&self) -> (bool, String) {
        match &self.stage {
            Stage::Open => (true, String::new()),
            Stage::Connecting { proxy: Some(call), .. } => {
                let what = "what the two say before it is open is left out";
                (false, format!("to {} through proxy `{}`; {what}", call.to, call.proxy))
            }
            Stage::Connecting { proxy: None, .. } | Stage::Asking { .. } => (false, String::new()),
        }
    }

    /// There may be bytes, or an end, or an error.
    pub(super) fn readable(&mut self) {
        self.readable = true;
    }

    /// Something has happened to it before it was open. `Some`: it is open, or came to nothing. `writable`: the poller
    /// says that there is room and nothing wrong, which a stream has from when it is connected.
    pub(super) fn advance(&mut self, writable: bool) -> Option<Result<(), Failure>> {
        if let Stage::Connecting { until, proxy } = &mut self.stage {
            if !writable && let Err(failure) = self.stream.connected()? {
                return Some(Err(failure));
            }
            self.stream.settle();
            match proxy.take() {
                Some(call) => self.stage = Stage::Asking { until: *until, proxy: call.handshake },
                None => {
                    self.stage = Stage::Open;
                    return Some(Ok(()));
                }
            }
        }
        let talked = self.talk();
        if talked == Some(Ok(())) {
            self.stage = Stage::Open;
        }
        talked
    }

    fn talk(&mut self) -> Option<Result<(), Failure>> {
        let Stage::Asking { proxy, .. } = &mut self.stage else { return None };
        loop {
            while !proxy.output().is_empty() {
                match self.stream.send(proxy.output()) {
                    Moved::Bytes(count) => proxy.sent(count),
                    Moved::WouldBlock => break,
                    Moved::End => return Some(Err(Failure::Reset)),
                    Moved::Failed(failure) => return Some(Err(failure)),
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.recv(&mut buffer) {
                Moved::Bytes(count) => match proxy.input(&buffer[..count]) {
                    Ok(Progress::Going) => {}
                    Ok(Progress::Done(early)) => {
                        self.early = early;
                        return Some(Ok(()));
                    }
                    Err(error) => return Some(Err(proxy_failure(&error))),
                },
                Moved::WouldBlock => return None,
                Moved::End => return Some(Err(Failure::Reset)),
                Moved::Failed(failure) => return Some(Err(failure)),
            }
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting { until, .. } | Stage::Asking { until, .. } => Some(*until),
            Stage::Open => None,
        }
    }

    pub(super) fn recv(&mut self, buffer: &mut [u8]) -> Moved {
        if self.early.is_empty() || buffer.is_empty() {
            // A read of less than there was room for does not say that no more is there: it ends at urgent data too.
            let moved = if self.readable { self.stream.recv(buffer) } else { Moved::WouldBlock };
            self.readable &= moved != Moved::WouldBlock;
            return moved;
        }
        let count = self.early.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.early[..count]);
        self.early.drain(..count);
        Moved::Bytes(count)
    }
}

fn proxy_failure(error: &ProxyError) -> Failure {
    match error {
        ProxyError::Refused => Failure::Refused,
        ProxyError::Unreachable => Failure::HostUnreachable,
        ProxyError::Forbidden(_) | ProxyError::Login => Failure::Forbidden,
        ProxyError::Protocol(_) | ProxyError::Ended => Failure::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut results = [Err(ErrorKind::Interrupted.into()), Ok(7)].into_iter();
        assert_eq!(moved(|| results.next().unwrap(), Moved::End), Moved::Bytes(7));
        for (result, comes_to) in [
            (Ok(0), Moved::End),
            (Err(ErrorKind::WouldBlock.into()), Moved::WouldBlock),
            (Err(ErrorKind::BrokenPipe.into()), Moved::Failed(Failure::Reset)),
        ] {
            let mut result = Some(result);
            assert_eq!(moved(|| result.take().unwrap(), Moved::End), comes_to);
        }
    }
}
