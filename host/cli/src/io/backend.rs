//! The host's ends of ports but the terminal: files, pseudo terminals, sockets.

use super::{
    half::Half,
    spec::BackendSpec,
    stream::{self, Read, Received, Written},
};
use crate::failure::Failure;
use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use std::{
    collections::VecDeque,
    fs, io,
    net::{SocketAddr, ToSocketAddrs},
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

/// An open backend.
pub(super) enum Backend {
    /// Nobody.
    Null,
    /// Served by the console, not here.
    Console,
    /// Output into a file.
    File(OwnedFd),
    /// A pseudo terminal, and its other end, held open so that the guest's output survives a reader that leaves.
    Pty { ours: OwnedFd, _theirs: OwnedFd },
    /// Waits for one peer at a time.
    Server { listener: Listener, peer: Option<OwnedFd> },
    /// A plugin's.
    Plugin(Half),
    /// Goes to a peer, and again when it leaves.
    Client { target: Target, peer: Option<OwnedFd> },
}

/// A socket that is listened on.
pub(super) enum Listener {
    Unix { listener: UnixListener, _name: SocketFile },
    Tcp(TcpListener),
}

/// Where a client connects to.
pub(super) enum Target {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A socket's name in the file system; removed with the listener.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; nobody needs to know.
        drop(fs::remove_file(&self.0));
    }
}

impl Backend {
    /// Open what `spec` asks for; `port` names it in messages. The second value is a line for the user.
    pub(super) fn open(spec: &BackendSpec, port: &str) -> Result<(Self, Option<String>), Failure> {
        let failed =
            |error: &io::Error| Failure::io(format!("cannot open the backend of port {port}"), error);
        let ready = match spec {
            // A user network has a thread of its own.
            BackendSpec::Null | BackendSpec::User { .. } => Self::Null,
            BackendSpec::Stdio => Self::Console,
            BackendSpec::File(path) => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
                let fd = open(path, flags, mode).map_err(|e| failed(&e.into()).at(path.display()))?;
                Self::File(fd)
            }
            BackendSpec::Plugin(spec) => {
                let (plugin, options) =
                    spec.loaded.as_ref().expect("whoever read the arguments has loaded it");
                let half = Half::open(&spec.name, *plugin, options).map_err(|error| {
                    let option = if error.path.is_empty() {
                        String::new()
                    } else {
                        format!("option `{}`: ", error.path)
                    };
                    Failure::usage(format!("cannot open the backend of port {port}"))
                        .at(format!("plugin:{}", spec.name))
                        .note(format!("{option}{}", error.message))
                });
                Self::Plugin(half?)
            }
            BackendSpec::Pty => {
                let (ours, theirs, name) = open_pty().map_err(|e| failed(&e))?;
                return Ok((Self::Pty { ours, _theirs: theirs }, Some(format!("{port} is at {name}\n"))));
            }
            BackendSpec::Unix { path, connect: true } => {
                Self::Client { target: Target::Unix(path.clone()), peer: None }
            }
            BackendSpec::Unix { path, connect: false } => {
                let listener = listen_unix(path).map_err(|e| failed(&e).at(path.display()))?;
                Self::Server { listener, peer: None }
            }
            BackendSpec::Tcp { address, connect } => {
                let resolved = resolve(address).map_err(|e| failed(&e).at(address))?;
                match connect {
                    true => Self::Client { target: Target::Tcp(resolved), peer: None },
                    false => {
                        let listener = TcpListener::bind(resolved).map_err(|e| failed(&e).at(address))?;
                        Self::Server { listener: Listener::Tcp(listener), peer: None }
                    }
                }
            }
        };
        Ok((ready, None))
    }

    /// Whether the guest is told of who comes and goes.
    pub(super) fn comes_and_goes(&self) -> bool {
        matches!(self, Self::Server { .. } | Self::Client { .. } | Self::Plugin(_))
    }

    /// Whether somebody is at the other end from the start.
    pub(super) fn starts_connected(&self) -> bool {
        matches!(self, Self::Console | Self::File(_) | Self::Pty { .. })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Null | Self::Console | Self::Client { .. } | Self::Plugin(_) => Ok(()),
            Self::File(fd) => stream::register(registry, fd, token, Interest::WRITABLE),
            Self::Pty { ours, .. } => stream::register(registry, ours, token, BOTH),
            Self::Server { listener: Listener::Unix { listener, .. }, .. } => {
                registry.register(listener, token, Interest::READABLE)
            }
            Self::Server { listener: Listener::Tcp(listener), .. } => {
                registry.register(listener, token, Interest::READABLE)
            }
        }
    }

    /// Take a waiting peer, if there is none: others wait in the queue until it leaves. Whether one was taken.
    pub(super) fn accept(&mut self, registry: &Registry, token: Token) -> bool {
        let Self::Server { listener, peer: peer @ None } = self else { return false };
        *peer =
            listener.accept().ok().filter(|stream| stream::register(registry, stream, token, BOTH).is_ok());
        peer.is_some()
    }

    /// Connect a client that has no peer; whether there is one now.
    pub(super) fn connect(&mut self, registry: &Registry, token: Token) -> bool {
        let Self::Client { target, peer } = self else { return false };
        let stream = match target {
            Target::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
            Target::Tcp(address) => TcpStream::connect(*address).map(OwnedFd::from),
        };
        *peer = stream.ok().filter(|stream| stream::register(registry, stream, token, BOTH).is_ok());
        peer.is_some()
    }

    /// Whether it is a client without a peer.
    pub(super) fn wants_connection(&self) -> bool {
        matches!(self, Self::Client { peer: None, .. })
    }

    /// The peer is gone.
    pub(super) fn hang_up(&mut self) {
        if let Self::Server { peer, .. } | Self::Client { peer, .. } = self {
            *peer = None;
        }
    }

    pub(super) fn read(&self, room: usize) -> Read {
        self.input().map_or(Read::Later, |fd| stream::read_some(fd, room))
    }

    /// What has come from the peer of a socket, at most as much as fits `into`.
    pub(super) fn receive(&self, into: &mut [u8]) -> Received {
        self.input().map_or(Received::Later, |fd| stream::receive(fd, into))
    }

    pub(super) fn write(&self, output: &mut VecDeque<u8>) -> io::Result<Written> {
        match self.output() {
            Some(fd) if self.comes_and_goes() => stream::send(fd, output),
            Some(fd) => stream::write_some(fd, output),
            None => {
                output.clear();
                Ok(Written::All)
            }
        }
    }

    fn input(&self) -> Option<&OwnedFd> {
        match self {
            Self::Pty { ours, .. } => Some(ours),
            Self::Server { peer, .. } | Self::Client { peer, .. } => peer.as_ref(),
            Self::Null | Self::Console | Self::File(_) | Self::Plugin(_) => None,
        }
    }

    fn output(&self) -> Option<&OwnedFd> {
        match self {
            Self::File(fd) => Some(fd),
            Self::Pty { .. }
            | Self::Server { .. }
            | Self::Client { .. }
            | Self::Null
            | Self::Console
            | Self::Plugin(_) => self.input(),
        }
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Listener {
    fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix { listener, .. } => listener.accept().map(|(stream, _)| stream.into()),
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| stream.into()),
        }
    }
}

fn open_pty() -> io::Result<(OwnedFd, OwnedFd, String)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    // Else the terminal would echo the guest's output back as its input.
    let mut raw = tcgetattr(&theirs)?;
    raw.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &raw)?;
    Ok((ours, theirs, name.to_string_lossy().into_owned()))
}

fn listen_unix(path: &Path) -> io::Result<Listener> {
    // A socket that nobody listens on any more is what a killed process leaves behind.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Listener::Unix { listener, _name: SocketFile(path.to_owned()) })
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the host has no address"))
}
