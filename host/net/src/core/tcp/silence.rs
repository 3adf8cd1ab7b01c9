//! Whether a guest that says nothing still has its end of a connection: it is asked (RFC 9293 §3.8.4). A connection
//! lives as long as both of its ends do, open or half closed, and no longer: while there is one, no idle time is
//! skipped.
//!
//! A question is input of the guest, so there are few: none where anything passes.

use super::{
    Tcp,
    flow::Flow,
    segment::{Bare, send_bare},
};
use crate::{
    core::{Turn, output::Output},
    edges::FlowId,
};
use smoltcp::socket::tcp::State;

/// How long a guest may say nothing before it is asked, or leave what it was sent unanswered.
const SILENT_NS: u64 = 300_000_000_000;
/// Between two questions.
const AGAIN_NS: u64 = 30_000_000_000;
/// Questions that it may leave unanswered.
const QUESTIONS: u8 = 5;
/// Guests that one call asks.
const AT_ONCE: usize = 256;

/// What has been heard of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    heard_ns: u64,
    asked: u8,
    asked_ns: u64,
}

/// What a silence calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Question,
    End,
}

impl Silence {
    pub(super) fn new(now: u64) -> Self {
        Self { heard_ns: now, asked: 0, asked_ns: now }
    }

    /// The guest has said something. Returns whether it did so unasked.
    pub(super) fn heard(&mut self, now: u64) -> bool {
        let unasked = self.asked == 0;
        *self = Self::new(now);
        unasked
    }

    fn is_long(&self, now: u64) -> bool {
        now.saturating_sub(self.heard_ns) > SILENT_NS
    }

    fn asks(&mut self, now: u64) {
        (self.asked, self.asked_ns) = (self.asked + 1, now);
    }

    fn due(&self, now: u64) -> Due {
        let waits = self.asked > 0 && now.saturating_sub(self.asked_ns) < AGAIN_NS;
        match self.asked {
            _ if waits || !self.is_long(now) => Due::Nothing,
            0..QUESTIONS => Due::Question,
            _ => Due::End,
        }
    }
}

impl Flow {
    fn due(&self, now: u64) -> Due {
        let Some(state) = self.state() else { return Due::Nothing };
        let (_, unanswered) = self.waiting();
        match state {
            // They have a timeout of their own, or the guest has nothing more to say.
            State::Listen | State::SynSent | State::SynReceived | State::Closed | State::TimeWait => {
                Due::Nothing
            }
            State::Established | State::CloseWait | State::FinWait2 if unanswered == 0 => {
                self.silence.due(now)
            }
            // It is asked each time that smoltcp sends again what it has not acknowledged.
            State::Established
            | State::CloseWait
            | State::FinWait2
            | State::FinWait1
            | State::Closing
            | State::LastAck => {
                if self.silence.is_long(now) {
                    Due::End
                } else {
                    Due::Nothing
                }
            }
        }
    }

    /// A segment that takes nothing of the stream and must be answered.
    fn question(&self) -> Option<Bare> {
        let last = self.last_word()?;
        Some(Bare { seq: last.seq.wrapping_sub(1), ..last })
    }
}

impl Tcp {
    /// Asks those that have said nothing for long, and ends connections that the guest no longer has. Returns whether
    /// some are still to be asked.
    pub(in crate::core) fn sweep(&mut self, turn: &mut Turn<'_>, out: &mut Output) -> bool {
        let now = turn.now;
        let due =
            |wanted: Due| self.flows.values().filter(move |flow| flow.due(now) == wanted).map(|flow| flow.id);
        let lost: Vec<FlowId> = due(Due::End).collect();
        let mut silent: Vec<FlowId> = due(Due::Question).take(AT_ONCE + 1).collect();
        let more = silent.len() > AT_ONCE;
        silent.truncate(AT_ONCE);
        for id in lost {
            self.abort(id, turn, out);
        }
        for id in silent {
            self.ask(id, turn, out);
        }
        more
    }

    fn ask(&mut self, id: FlowId, turn: &mut Turn<'_>, out: &mut Output) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        // Who takes no frames now, because others fill its queue, is asked later.
        if !Output::has_room(turn.guest, usize::from(out.network.mtu)) {
            return;
        }
        flow.silence.asks(turn.now);
        let (head, ports) = (flow.head(), flow.ports());
        match flow.question() {
            Some(question) if out.neighbours.get(head.destination).is_some() => {
                send_bare(out, turn.guest, &head, ports, question);
            }
            _ => out.ask_neighbour(turn.guest, head.destination),
        }
    }
}
