//! One transfer: what was acknowledged, what is in the window, and when to send it again.

use super::{
    Content, OpenError,
    request::{Opcode, Request},
};
use crate::service::SECOND_NS;
use std::fmt::Write;

/// RFC 1350: what a block has unless another size was agreed on.
const BLOCK_BYTES: u16 = 512;
const TIMEOUT_S: u8 = 1;
/// How often the same is sent.
const SENDS: u32 = 6;
/// Guests ask for more than their queues take.
const WINDOW_MOST: u16 = 32;

/// What an acknowledgement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was heard before, or is for what was never sent.
    Nothing,
    /// There is more to send.
    More,
    /// That was all.
    Done,
}

pub(super) struct Session {
    content: Box<dyn Content>,
    /// As it was asked for, to know it again.
    request: Request,
    block_bytes: u16,
    window: u16,
    timeout_ns: u64,
    /// The OACK, until it was acknowledged.
    accepted: Option<Vec<u8>>,
    /// Blocks that were acknowledged and sent; the first one is 1.
    acknowledged: u64,
    sent: u64,
    sends: u32,
    deadline_ns: u64,
}

impl Session {
    /// `most` is the longest block that fits a packet.
    pub(super) fn new(now_ns: u64, content: Box<dyn Content>, request: &Request, most: u16) -> Self {
        let block_bytes = request.block_bytes.unwrap_or(BLOCK_BYTES).min(most);
        let window = request.window.unwrap_or(1).min(WINDOW_MOST);
        let mut accepted = vec![0, Opcode::OptionsAccepted as u8];
        let mut accept = |name: &str, value: u64| {
            let mut text = String::new();
            // Writing into a string cannot fail.
            let _ = write!(text, "{name}\0{value}\0");
            accepted.extend_from_slice(text.as_bytes());
        };
        if request.block_bytes.is_some() {
            accept("blksize", u64::from(block_bytes));
        }
        if request.wants_size {
            accept("tsize", content.size());
        }
        if let Some(timeout_s) = request.timeout_s {
            accept("timeout", u64::from(timeout_s));
        }
        if request.window.is_some() {
            accept("windowsize", u64::from(window));
        }
        Self {
            content,
            request: request.clone(),
            block_bytes,
            window,
            timeout_ns: u64::from(request.timeout_s.unwrap_or(TIMEOUT_S)) * SECOND_NS,
            accepted: (accepted.len() > 2).then_some(accepted),
            acknowledged: 0,
            sent: 0,
            sends: 0,
            deadline_ns: now_ns,
        }
    }

    /// Whether this is the answer to the same request, and nothing of it has been heard.
    pub(super) fn is_fresh(&self, request: &Request) -> bool {
        self.request == *request && self.acknowledged == 0
    }

    pub(super) const fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Whether the same was sent often enough.
    pub(super) fn gives_up(&mut self) -> bool {
        self.sends >= SENDS
    }

    /// The last block is the first that is not full; it may be empty.
    fn last_block(&self) -> u64 {
        self.content.size() / u64::from(self.block_bytes) + 1
    }

    /// Behind an ACK's opcode.
    pub(super) fn acknowledged(&mut self, rest: &[u8]) -> Heard {
        let Some(number) = rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) else {
            return Heard::Nothing;
        };
        if self.accepted.is_some() {
            if number != 0 {
                return Heard::Nothing;
            }
            self.accepted = None;
            self.sends = 0;
            return Heard::More;
        }
        // Numbers wrap; what is meant lies in the window. The same again is not answered, or each late packet would
        // double the traffic for the rest of the transfer (RFC 1123 §4.2.3.1).
        let ahead = u64::from(number.wrapping_sub(self.acknowledged as u16));
        if ahead == 0 || ahead > self.sent - self.acknowledged {
            return Heard::Nothing;
        }
        self.acknowledged += ahead;
        self.sends = 0;
        if self.acknowledged == self.last_block() { Heard::Done } else { Heard::More }
    }

    /// The OACK, or the window from the first block that was not acknowledged.
    pub(super) fn send(&mut self, now_ns: u64, out: &mut Vec<Vec<u8>>) -> Result<(), OpenError> {
        self.sends += 1;
        self.deadline_ns = now_ns.saturating_add(self.timeout_ns);
        if let Some(accepted) = &self.accepted {
            out.push(accepted.clone());
            return Ok(());
        }
        let end = (self.acknowledged + u64::from(self.window)).min(self.last_block());
        for block in self.acknowledged + 1..=end {
            out.push(self.block(block)?);
        }
        self.sent = self.sent.max(end);
        Ok(())
    }

    fn block(&mut self, block: u64) -> Result<Vec<u8>, OpenError> {
        let offset = (block - 1) * u64::from(self.block_bytes);
        let length = (self.content.size() - offset).min(u64::from(self.block_bytes)) as usize;
        let mut message = vec![0; 4 + length];
        message[1] = Opcode::Data as u8;
        message[2..4].copy_from_slice(&(block as u16).to_be_bytes());
        self.content.read_at(offset, &mut message[4..])?;
        Ok(message)
    }
}
