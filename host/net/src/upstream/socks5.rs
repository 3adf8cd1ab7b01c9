//! SOCKS5: RFC 1928, with user and password of RFC 1929.

use super::{Destination, Protocol, ProxyError, Step};
use std::net::SocketAddr;

const VERSION: u8 = 5;
const CONNECT: u8 = 1;
/// Methods.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
/// RFC 1929's own version.
const PASSWORD_VERSION: u8 = 1;
/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

enum State {
    Method,
    Login,
    Reply,
}

pub(super) struct Socks5 {
    login: Option<(String, String)>,
    to: Destination,
    state: State,
}

impl Socks5 {
    pub(super) fn new(login: Option<(String, String)>, to: Destination) -> Self {
        Self { login, to, state: State::Method }
    }

    fn connect(&self) -> Vec<u8> {
        let mut out = vec![VERSION, CONNECT, 0];
        let port = match &self.to {
            Destination::Address(SocketAddr::V4(v4)) => {
                out.push(IPV4);
                out.extend_from_slice(&v4.ip().octets());
                v4.port()
            }
            Destination::Address(SocketAddr::V6(v6)) => {
                out.push(IPV6);
                out.extend_from_slice(&v6.ip().octets());
                v6.port()
            }
            Destination::Name(name, port) => {
                let name = &name.as_bytes()[..name.len().min(255)];
                out.extend_from_slice(&[NAME, name.len() as u8]);
                out.extend_from_slice(name);
                *port
            }
        };
        out.extend_from_slice(&port.to_be_bytes());
        out
    }

    fn method(&mut self, bytes: &[u8]) -> Result<Step, ProxyError> {
        let Some([version, method]) = bytes.first_chunk() else { return Ok(Step::More) };
        if *version != VERSION {
            return Err(ProxyError::Protocol("another version of SOCKS"));
        }
        match (*method, &self.login) {
            (NO_LOGIN, _) => {
                self.state = State::Reply;
                Ok(Step::Say(2, self.connect()))
            }
            (PASSWORD, Some((user, password))) => {
                self.state = State::Login;
                let mut out = vec![PASSWORD_VERSION];
                for word in [user, password] {
                    let word = &word.as_bytes()[..word.len().min(255)];
                    out.push(word.len() as u8);
                    out.extend_from_slice(word);
                }
                Ok(Step::Say(2, out))
            }
            (NO_METHOD, _) => Err(ProxyError::Login),
            _ => Err(ProxyError::Protocol("a method that it was not offered")),
        }
    }

    fn login(&mut self, bytes: &[u8]) -> Result<Step, ProxyError> {
        let Some([_version, status]) = bytes.first_chunk() else { return Ok(Step::More) };
        if *status != 0 {
            return Err(ProxyError::Login);
        }
        self.state = State::Reply;
        Ok(Step::Say(2, self.connect()))
    }
}

/// RFC 1928 §6. The address that it is bound to is of no use, but must be taken.
fn reply(bytes: &[u8]) -> Result<Step, ProxyError> {
    let Some([version, code, _reserved, kind, first]) = bytes.first_chunk() else {
        // A refusal may come without the rest.
        return bytes.get(1).map_or(Ok(Step::More), |code| refusal(*code).map_or(Ok(Step::More), Err));
    };
    if *version != VERSION {
        return Err(ProxyError::Protocol("another version of SOCKS"));
    }
    if let Some(error) = refusal(*code) {
        return Err(error);
    }
    let length = match *kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => 1 + usize::from(*first),
        _ => return Err(ProxyError::Protocol("an address of no kind")),
    };
    let end = 4 + length + 2;
    if bytes.len() < end { Ok(Step::More) } else { Ok(Step::Done(end)) }
}

fn refusal(code: u8) -> Option<ProxyError> {
    Some(match code {
        0 => return None,
        2 => ProxyError::Forbidden("its rules".to_owned()),
        3 | 4 | 6 => ProxyError::Unreachable,
        5 => ProxyError::Refused,
        7 | 8 => ProxyError::Protocol("it cannot connect to addresses"),
        _ => ProxyError::Forbidden(format!("code {code}")),
    })
}

impl Protocol for Socks5 {
    fn begin(&mut self) -> Vec<u8> {
        match self.login {
            Some(_) => vec![VERSION, 2, NO_LOGIN, PASSWORD],
            None => vec![VERSION, 1, NO_LOGIN],
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, ProxyError> {
        match self.state {
            State::Method => self.method(bytes),
            State::Login => self.login(bytes),
            State::Reply => reply(bytes),
        }
    }
}
