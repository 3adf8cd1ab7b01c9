//! The TFTP server: files beneath one folder, to read only. RFC 1350, with the options of RFC 2347 to 2349 (block size,
//! size, timeout) and of RFC 7440 (windows).
//!
//! Each transfer has a port of the server of its own, and answers nobody but who asked for it from there.

mod folder;
mod request;
mod session;
#[cfg(test)]
mod tests;

pub use folder::Folder;

use request::{ErrorCode, Opcode, Request, error};
use session::{Heard, Session};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// The port for requests.
pub const PORT: u16 = 69;

/// The ports of transfers.
const FIRST_PORT: u16 = 0xc000;

/// What is never sent: it would take a guest hours, and was not meant.
const SIZE_MOST: u64 = 1 << 30;

/// Why a file cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no such file")]
    NotFound,
    /// It is no plain file, or one that must not be read, or not beneath the folder.
    #[error("the file cannot be read")]
    Denied,
    /// The host failed.
    #[error("the host could not open the file")]
    Failed,
}

/// A file that is being sent.
pub trait Content: Send {
    /// Its size when it was opened, in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on, all of it.
    ///
    /// # Errors
    /// The host failed, or the file has become shorter.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), OpenError>;
}

/// Where files come from.
pub trait Files {
    /// Opens a file by its path from the folder on: names with slashes between them, none of them `.` or `..`.
    ///
    /// # Errors
    /// It cannot be had.
    fn open(&mut self, path: &str) -> Result<Box<dyn Content>, OpenError>;
}

/// A datagram to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The server's end.
    pub from: SocketAddr,
    /// The guest's end.
    pub to: SocketAddr,
    /// The payload of UDP.
    pub message: Vec<u8>,
}

/// The server. Its clock is the guest's (EXTERNAL).
pub struct Tftp<F> {
    files: F,
    limit: usize,
    mtu: u16,
    next_port: u16,
    /// By the guest's end and the server's.
    sessions: BTreeMap<(SocketAddr, SocketAddr), Session>,
}

impl<F: Files> Tftp<F> {
    /// Blocks are no longer than fits a packet of `mtu` bytes.
    #[must_use]
    pub fn new(files: F, config: &crate::config::Config) -> Self {
        let limit = config.limits.tftp_sessions as usize;
        Self { files, limit, mtu: config.mtu, next_port: FIRST_PORT, sessions: BTreeMap::new() }
    }

    /// Transfers that are going on.
    #[must_use]
    pub fn active(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a datagram from `guest` to `server` belongs to a transfer: then it is for [`Tftp::packet`].
    #[must_use]
    pub fn owns(&self, guest: SocketAddr, server: SocketAddr) -> bool {
        self.sessions.contains_key(&(guest, server))
    }

    /// A datagram to port 69 of `server`.
    pub fn request(
        &mut self,
        now_ns: u64,
        guest: SocketAddr,
        server: IpAddr,
        bytes: &[u8],
        out: &mut Vec<Datagram>,
    ) {
        let asked = SocketAddr::new(server, PORT);
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(Some((code, text))) => {
                return out.push(Datagram { from: asked, to: guest, message: error(code, text) });
            }
            Err(None) => return,
        };
        if self.repeats(now_ns, guest, server, &request, out) {
            return;
        }
        match self.begin(now_ns, guest, server, &request) {
            Ok(port) => self.step(now_ns, (guest, SocketAddr::new(server, port)), out),
            Err((code, text)) => out.push(Datagram { from: asked, to: guest, message: error(code, text) }),
        }
    }

    /// A guest that heard nothing asks again from the same port: the transfer begins again. One that asks for
    /// something else from there has given up the first.
    fn repeats(
        &mut self,
        now_ns: u64,
        guest: SocketAddr,
        server: IpAddr,
        request: &Request,
        out: &mut Vec<Datagram>,
    ) -> bool {
        let mut keys = self.sessions.keys().filter(|(of, at)| *of == guest && at.ip() == server);
        let Some(key) = keys.next().copied() else { return false };
        if self.sessions.get(&key).is_some_and(|session| session.is_fresh(request)) {
            self.step(now_ns, key, out);
            return true;
        }
        self.sessions.remove(&key);
        false
    }

    fn begin(
        &mut self,
        now_ns: u64,
        guest: SocketAddr,
        server: IpAddr,
        request: &Request,
    ) -> Result<u16, (ErrorCode, &'static str)> {
        if self.sessions.len() >= self.limit {
            return Err((ErrorCode::Undefined, "too many transfers"));
        }
        let content = self.files.open(&request.path).map_err(|why| match why {
            OpenError::NotFound => (ErrorCode::NotFound, "file not found"),
            OpenError::Denied => (ErrorCode::AccessViolation, "access denied"),
            OpenError::Failed => (ErrorCode::Undefined, "the host could not open it"),
        })?;
        if content.size() > SIZE_MOST {
            return Err((ErrorCode::Undefined, "the file is longer than 1 GiB"));
        }
        // IP, UDP and TFTP headers.
        let headers = if server.is_ipv4() { 20 + 8 + 4 } else { 40 + 8 + 4 };
        let port = self.free_port(guest, server);
        let session = Session::new(now_ns, content, request, self.mtu - headers);
        self.sessions.insert((guest, SocketAddr::new(server, port)), session);
        Ok(port)
    }

    /// There are fewer transfers than ports.
    fn free_port(&mut self, guest: SocketAddr, server: IpAddr) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.sessions.contains_key(&(guest, SocketAddr::new(server, port))) {
                return port;
            }
        }
    }

    /// A datagram of a transfer, see [`Tftp::owns`].
    pub fn packet(
        &mut self,
        now_ns: u64,
        guest: SocketAddr,
        server: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Datagram>,
    ) {
        let key = (guest, server);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match Opcode::of(bytes) {
            Some((Opcode::Acknowledgement, rest)) => match session.acknowledged(rest) {
                Heard::More => self.step(now_ns, key, out),
                Heard::Nothing => {}
                Heard::Done => drop(self.sessions.remove(&key)),
            },
            Some((Opcode::Error, _)) => drop(self.sessions.remove(&key)),
            Some((Opcode::Read | Opcode::Write | Opcode::Data | Opcode::OptionsAccepted, _)) | None => {
                let message = error(ErrorCode::IllegalOperation, "an acknowledgement was expected");
                out.push(Datagram { from: server, to: guest, message });
                self.sessions.remove(&key);
            }
        }
    }

    /// Sends what the guest lacks.
    fn step(&mut self, now_ns: u64, key: (SocketAddr, SocketAddr), out: &mut Vec<Datagram>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let (to, from) = key;
        let mut messages = Vec::new();
        let sent = session.send(now_ns, &mut messages);
        if sent.is_err() {
            messages.push(error(ErrorCode::Undefined, "the host could not read the file"));
            self.sessions.remove(&key);
        }
        out.extend(messages.into_iter().map(|message| Datagram { from, to, message }));
    }

    /// Sends again what was not acknowledged in time, and forgets guests that are gone.
    pub fn poll(&mut self, now_ns: u64, out: &mut Vec<Datagram>) {
        let due = |session: &Session| session.deadline_ns() <= now_ns;
        let keys: Vec<_> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(key, _)| *key).collect();
        for key in keys {
            if self.sessions.get_mut(&key).is_some_and(Session::gives_up) {
                self.sessions.remove(&key);
            } else {
                self.step(now_ns, key, out);
            }
        }
    }

    /// When to poll.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.sessions.values().map(Session::deadline_ns).min()
    }

    /// A restored guest knows nothing of the transfers.
    pub fn reset(&mut self) {
        self.sessions.clear();
    }
}
