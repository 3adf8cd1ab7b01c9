//! The name server: answers names that are known here, and forwards every other question to the host's servers.
//!
//! Messages pass as they are, but for their id, which is random on the way out, and the length that EDNS allows. An
//! answer is believed if it comes over the query's own connected socket (from a random port, which is the host loop's
//! part), has its id, and repeats its question.

mod message;
mod resolv;
mod stream;
#[cfg(test)]
mod tests;
mod zone;

pub use resolv::{Watch, servers};
pub use stream::{Deframer, framed};

use super::SECOND_NS;
use crate::{config::Config, policy::Profile};
use message::{Code, Question, Unasked, record};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use zone::{Known, Zone};

/// The port, on both sides.
pub const PORT: u16 = 53;

/// How long one server has, and how often the list is gone through. Guests ask again after 5 seconds and give up after
/// some 10, so that all of ours ends before.
const ATTEMPT_NS: u64 = 2 * SECOND_NS;
const TCP_ATTEMPT_NS: u64 = 4 * SECOND_NS;
const ATTEMPTS: u32 = 4;
/// Forged answers that a query outlives: guessing on must not be worth it.
const FORGERIES: u32 = 16;
/// For names that are known here: they can change with the next run.
const TTL_S: u32 = 60;

/// What carries a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// The guest's connection of that number; messages without their lengths ([`Deframer`]).
    Tcp(u64),
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The guest's end.
    pub guest: SocketAddr,
    /// The end that it asked.
    pub server: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// One attempt at one server; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the guest.
    Answer {
        /// Whom.
        to: Asker,
        /// Without a length, also for TCP.
        message: Vec<u8>,
    },
    /// Connect a socket of its own to the server and send this. What comes back goes to [`Dns::answer`].
    Ask {
        /// Names the attempt.
        query: QueryId,
        /// Whom.
        server: SocketAddr,
        /// By TCP, with a length before it ([`framed`]).
        tcp: bool,
        /// The message.
        message: Vec<u8>,
    },
    /// The attempt is over; its socket is to be closed.
    Close(QueryId),
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions that could be read.
    pub questions: u64,
    /// Answered from here.
    pub local: u64,
    /// Answered by somebody else.
    pub forwarded: u64,
    /// Answered SERVFAIL because nobody answered.
    pub timeouts: u64,
    /// Answered SERVFAIL because too many were in flight.
    pub overload: u64,
    /// Answers that were not to the question.
    pub forged: u64,
    /// Questions that could not be read.
    pub malformed: u64,
}

#[derive(Debug)]
struct Query {
    asker: Asker,
    guest_id: u16,
    /// As it was sent, with our id.
    message: Vec<u8>,
    question_end: usize,
    udp_most: u16,
    deadline_ns: u64,
    /// Which server of the list was asked.
    server: usize,
    attempts: u32,
    forgeries: u32,
    /// What a server said that failed, if none says better.
    failure: Option<Vec<u8>>,
}

/// The name server. Its clock is the host's: the servers live in host time.
#[derive(Debug)]
pub struct Dns {
    zone: Zone,
    upstream: Vec<SocketAddr>,
    /// Whether `upstream` is the configuration's, so that the host's does not replace it.
    fixed: bool,
    forwards: bool,
    /// The server that answered last.
    preferred: usize,
    limit: usize,
    random: ChaCha20Rng,
    next_query: u64,
    queries: BTreeMap<QueryId, Query>,
    in_flight: BTreeMap<(Asker, u16), QueryId>,
    deadlines: BTreeSet<(u64, QueryId)>,
    counters: Counters,
}

impl Dns {
    /// `seed` is secret: the ids of queries come from it.
    #[must_use]
    pub fn new(config: &Config, seed: [u8; 32]) -> Self {
        let fixed = !config.dns.upstream.is_empty();
        Self {
            zone: Zone::new(config),
            upstream: config.dns.upstream.clone(),
            fixed,
            // Names are a way out: a network without one has them only if somebody named the server.
            forwards: config.profile != Profile::None || fixed,
            preferred: 0,
            limit: config.limits.dns_queries as usize,
            random: ChaCha20Rng::from_seed(seed),
            next_query: 0,
            queries: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// The host's servers ([`servers`]), unless the configuration names others. Attempts that are made go on.
    pub fn set_upstream(&mut self, servers: &[SocketAddr]) {
        if !self.fixed {
            self.upstream = servers.to_vec();
            self.preferred = 0;
        }
    }

    /// How often what happened.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Questions that somebody is being asked.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queries.len()
    }

    /// A message of the guest.
    pub fn question(&mut self, now_ns: u64, asker: Asker, bytes: &[u8], actions: &mut Vec<Action>) {
        let question = match Question::parse(bytes) {
            Ok(question) => question,
            Err(unasked) => {
                self.counters.malformed += 1;
                if let Unasked::Answer(code) = unasked {
                    actions.push(Action::Answer { to: asker, message: message::bare_refusal(bytes, code) });
                }
                return;
            }
        };
        self.counters.questions += 1;
        if self.in_flight.contains_key(&(asker, question.id)) {
            // The guest lost patience before we did.
            return;
        }
        match self.local(&question, asker) {
            Some(message) => actions.push(Action::Answer { to: asker, message }),
            None => self.forward(now_ns, asker, &question, actions),
        }
    }

    /// The answer, if it does not take anybody else.
    fn local(&mut self, question: &Question<'_>, asker: Asker) -> Option<Vec<u8>> {
        let known = match question.class {
            message::IN => self.zone.look_up(&question.name, question.kind),
            _ => Known::No,
        };
        let answer = match known {
            Known::Records(records) => question.answer(Code::NoError, &records, TTL_S),
            Known::Absent => question.answer(Code::NxDomain, &[], 0),
            // Whole zones are nothing that a resolver asks for.
            Known::No if [record::AXFR, record::IXFR].contains(&question.kind) => {
                question.refusal(Code::Refused)
            }
            Known::No if !self.forwards => question.refusal(Code::Refused),
            Known::No if self.upstream.is_empty() => question.refusal(Code::ServFail),
            Known::No if self.queries.len() >= self.limit => {
                self.counters.overload += 1;
                return Some(question.refusal(Code::ServFail));
            }
            Known::No => return None,
        };
        self.counters.local += 1;
        let most = (asker.transport == Transport::Udp).then_some(question.udp_most);
        Some(message::for_guest(&answer, question.id, question.end, most))
    }

    fn forward(&mut self, now_ns: u64, asker: Asker, question: &Question<'_>, actions: &mut Vec<Action>) {
        let id = (self.random.next_u32() & 0xffff) as u16;
        let query = Query {
            asker,
            guest_id: question.id,
            message: question.rewritten(id),
            question_end: question.end,
            udp_most: question.udp_most,
            deadline_ns: 0,
            server: self.preferred,
            attempts: 0,
            forgeries: 0,
            failure: None,
        };
        self.attempt(now_ns, query, actions);
    }

    /// Asks the query's server.
    fn attempt(&mut self, now_ns: u64, mut query: Query, actions: &mut Vec<Action>) {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        let tcp = query.asker.transport != Transport::Udp;
        query.attempts += 1;
        query.deadline_ns = now_ns.saturating_add(if tcp { TCP_ATTEMPT_NS } else { ATTEMPT_NS });
        // The list may have become another one; it is never empty while there are queries.
        query.server %= self.upstream.len().max(1);
        let Some(server) = self.upstream.get(query.server).copied() else {
            return self.give_up(query, actions);
        };
        actions.push(Action::Ask { query: id, server, tcp, message: query.message.clone() });
        self.deadlines.insert((query.deadline_ns, id));
        self.in_flight.insert((query.asker, query.guest_id), id);
        self.queries.insert(id, query);
    }

    /// Something came from the attempt's socket.
    pub fn answer(&mut self, now_ns: u64, id: QueryId, bytes: &[u8], actions: &mut Vec<Action>) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        if !message::answers(bytes, &query.message, query.question_end) {
            self.counters.forged += 1;
            query.forgeries += 1;
            if query.forgeries >= FORGERIES {
                self.failed(now_ns, id, actions);
            }
            return;
        }
        if message::server_failed(bytes) {
            query.failure = Some(bytes.to_vec());
            return self.failed(now_ns, id, actions);
        }
        let Some(query) = self.remove(id, actions) else { return };
        self.preferred = query.server;
        self.finish(&query, bytes, actions);
    }

    /// The attempt's socket came to nothing: it is refused, unreachable, or its connection ended.
    pub fn failed(&mut self, now_ns: u64, id: QueryId, actions: &mut Vec<Action>) {
        let Some(mut query) = self.remove(id, actions) else { return };
        let attempts = ATTEMPTS.min(2 * self.upstream.len() as u32);
        // A server that says no will say it again.
        let enough = query.failure.is_some() && query.attempts as usize >= self.upstream.len();
        if query.attempts >= attempts || enough {
            return self.give_up(query, actions);
        }
        query.server += 1;
        query.forgeries = 0;
        // Whoever guessed at this id begins anew.
        let fresh = (self.random.next_u32() & 0xffff) as u16;
        query.message[..2].copy_from_slice(&fresh.to_be_bytes());
        self.attempt(now_ns, query, actions);
    }

    fn give_up(&mut self, query: Query, actions: &mut Vec<Action>) {
        // The next question begins with another server.
        self.preferred = query.server + 1;
        if let Some(failure) = &query.failure {
            return self.finish(&query, failure, actions);
        }
        self.counters.timeouts += 1;
        let message = match Question::parse(&query.message) {
            Ok(question) => question.refusal(Code::ServFail),
            Err(_) => message::bare_refusal(&query.message, Code::ServFail),
        };
        let message = message::for_guest(&message, query.guest_id, query.question_end, None);
        actions.push(Action::Answer { to: query.asker, message });
    }

    fn finish(&mut self, query: &Query, answer: &[u8], actions: &mut Vec<Action>) {
        self.counters.forwarded += 1;
        let most = (query.asker.transport == Transport::Udp).then_some(query.udp_most);
        let message = message::for_guest(answer, query.guest_id, query.question_end, most);
        actions.push(Action::Answer { to: query.asker, message });
    }

    /// The guest's connection has ended: nobody waits for what was asked over it.
    pub fn closed(&mut self, connection: u64, actions: &mut Vec<Action>) {
        let gone = |asker: &Asker| asker.transport == Transport::Tcp(connection);
        let ids: Vec<_> =
            self.in_flight.iter().filter(|((asker, _), _)| gone(asker)).map(|(_, id)| *id).collect();
        for id in ids {
            self.remove(id, actions);
        }
    }

    /// A restored machine waits for nothing that was asked before.
    pub fn reset(&mut self, actions: &mut Vec<Action>) {
        let ids: Vec<_> = self.queries.keys().copied().collect();
        for id in ids {
            self.remove(id, actions);
        }
    }

    fn remove(&mut self, id: QueryId, actions: &mut Vec<Action>) -> Option<Query> {
        let query = self.queries.remove(&id)?;
        self.deadlines.remove(&(query.deadline_ns, id));
        self.in_flight.remove(&(query.asker, query.guest_id));
        actions.push(Action::Close(id));
        Some(query)
    }

    /// Moves on from servers that have had their time.
    pub fn poll(&mut self, now_ns: u64, actions: &mut Vec<Action>) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now_ns) {
            self.failed(now_ns, id, actions);
        }
    }

    /// When to poll.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }
}
