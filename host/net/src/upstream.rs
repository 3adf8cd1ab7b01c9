//! The guest's connection through a proxy: SOCKS5 (RFC 1928, 1929) or HTTP CONNECT (RFC 9110 §9.3.6), as a state
//! machine between the bytes of the proxy and those of the connection.
//!
//! A proxy is not believed: what it says before the connection stands has a bound, and what is behind its last word
//! belongs to the connection.

mod http;
mod socks5;
#[cfg(test)]
mod tests;

use crate::config::{Proxy, ProxyKind};
use std::net::SocketAddr;

/// More than this no proxy has to say at a time, and with all that it says before.
const ANSWER_MOST: usize = 16 * 1024;
const ALL_MOST: usize = 256 * 1024;

/// Where the proxy is to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A name, which the proxy looks up, and a port.
    Name(String, u16),
}

/// How the connection came to nothing. What the guest gets follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy reached nobody there.
    #[error("the proxy says that the peer refused")]
    Refused,
    /// There is no way from the proxy.
    #[error("the proxy says that the peer cannot be reached")]
    Unreachable,
    /// The proxy does not want to.
    #[error("the proxy forbids it: {0}")]
    Forbidden(String),
    /// It wants another user, or one at all.
    #[error("the proxy asks for a user and a password that it takes: write them into its URL")]
    Login,
    /// It does not speak what it was said to.
    #[error("the proxy says what no proxy of its kind says: {0}")]
    Protocol(&'static str),
    /// It hung up before the connection stood; whoever owns the socket says so.
    #[error("the proxy ended the connection")]
    Ended,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send what [`Handshake::output`] has, and feed what comes.
    Going,
    /// The connection stands. These bytes are the peer's first.
    Done(Vec<u8>),
}

/// What one protocol does with the proxy's bytes.
enum Step {
    /// It needs more of them.
    More,
    /// It took so many, and has this to say.
    Say(usize, Vec<u8>),
    /// It took so many, and the connection stands.
    Done(usize),
}

trait Protocol {
    /// What is said without being asked.
    fn begin(&mut self) -> Vec<u8>;
    /// Looks at everything that has come and was not taken.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, ProxyError>;
}

/// The talk with the proxy, from when its socket is connected until the connection stands.
pub struct Handshake {
    protocol: Box<dyn Protocol + Send>,
    /// To be sent.
    output: Vec<u8>,
    /// Came and was not taken.
    input: Vec<u8>,
    /// Bytes that were taken of what came.
    taken: usize,
    done: bool,
}

impl Handshake {
    /// Begins to talk.
    #[must_use]
    pub fn new(proxy: &Proxy, to: &Destination) -> Self {
        let mut protocol: Box<dyn Protocol + Send> = match proxy.kind {
            ProxyKind::Socks5 => Box::new(socks5::Socks5::new(proxy.login.clone(), to.clone())),
            ProxyKind::Http => Box::new(http::Connect::new(proxy.login.as_ref(), to)),
        };
        let output = protocol.begin();
        Self { protocol, output, input: Vec::new(), taken: 0, done: false }
    }

    /// What is to be sent to the proxy now.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many bytes of [`Handshake::output`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// Takes what came from the proxy.
    ///
    /// # Errors
    /// It comes to nothing: the socket is to be closed.
    pub fn input(&mut self, bytes: &[u8]) -> Result<Progress, ProxyError> {
        self.input.extend_from_slice(bytes);
        while !self.done {
            match self.protocol.step(&self.input)? {
                Step::Say(..) if self.taken > ALL_MOST => {
                    return Err(ProxyError::Protocol("it does not end"));
                }
                Step::More if self.input.len() > ANSWER_MOST => {
                    return Err(ProxyError::Protocol("it does not end"));
                }
                Step::More => return Ok(Progress::Going),
                Step::Say(taken, words) => {
                    self.taken += taken;
                    self.input.drain(..taken);
                    self.output.extend_from_slice(&words);
                }
                Step::Done(taken) => {
                    self.input.drain(..taken);
                    self.done = true;
                }
            }
        }
        Ok(Progress::Done(std::mem::take(&mut self.input)))
    }
}
