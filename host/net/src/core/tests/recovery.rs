//! A guest that does not keep what it was sent: what it drops comes again without waiting for a timeout.

use super::{
    harness::{Bench, Chance, rounds},
    tcp::{ACK, FIN, Got, Peer, segment},
};
use crate::frame::Offload;
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}

/// Where each segment begins, counted from `first`, and its bytes.
fn stream(got: &[Got], first: u32) -> Vec<(usize, usize)> {
    let data = got.iter().filter(|got| !got.payload.is_empty());
    data.map(|got| (got.seq.wrapping_sub(first) as usize, got.payload.len())).collect()
}

fn is_right(got: &[Got], first: u32, sent: &[u8]) {
    for got in got {
        let at = got.seq.wrapping_sub(first) as usize;
        assert_eq!(got.payload, sent[at..at + got.payload.len()], "at {at}");
    }
}

/// An acknowledgement with blocks of what lies beyond.
fn acknowledge(peer: &mut Peer, ack: u32, window: u16, blocks: &[(u32, u32)]) {
    let mut options = vec![1, 1, 5, (2 + 8 * blocks.len()) as u8];
    options
        .extend(blocks.iter().flat_map(|(left, right)| [left.to_be_bytes(), right.to_be_bytes()].concat()));
    let options = if blocks.is_empty() { &[][..] } else { &options };
    let (head, tcp) = segment((peer.from, peer.to), (1001, ack), ACK, window, options, &[]);
    peer.bench.packet(&head, &tcp);
    peer.bench.poll();
}

#[test]
fn what_a_closing_window_leaves_behind_comes_when_it_opens() {
    let mut peer = Peer::new("192.0.2.1:80");
    let (first, sent) = (peer.open(), bytes(20_000));
    peer.host_sends(&sent);
    assert_eq!(stream(&peer.all(), first).last(), Some(&(13 * 1460, 1020)));
    // It took the first segment and is out of memory.
    acknowledge(&mut peer, first + 1460, 0, &[]);
    peer.bench.pass(5 * MS);
    assert_eq!(peer.all(), [], "nothing fits into a window of 0");
    let now = peer.bench.now;
    acknowledge(&mut peer, first + 1460, 750, &[]);
    let got = peer.all();
    assert_eq!(stream(&got, first), [(1460, 1460), (2920, 1460), (4380, 80)], "as much as it takes now");
    is_right(&got, first, &sent);
    acknowledge(&mut peer, first + 4460, 16_000, &[]);
    let got = peer.all();
    is_right(&got, first, &sent);
    assert_eq!(stream(&got, first).first(), Some(&(4460, 1460)));
    assert_eq!(got.iter().map(|got| got.payload.len()).sum::<usize>(), 20_000 - 4460);
    assert_eq!(peer.bench.now, now, "and no timer was needed");
}

#[test]
fn a_window_that_has_closed_is_probed() {
    let mut peer = Peer::new("192.0.2.1:80");
    let (first, sent) = (peer.open(), bytes(20_000));
    peer.host_sends(&sent);
    peer.all();
    acknowledge(&mut peer, first + 1460, 0, &[]);
    let mut probes = 0;
    for _ in 0..60 {
        peer.bench.pass(1000 * MS);
        for got in peer.all() {
            assert_eq!(stream(std::slice::from_ref(&got), first), [(1460, 1)], "the next byte, and no other");
            is_right(&[got], first, &sent);
            probes += 1;
            acknowledge(&mut peer, first + 1460, 0, &[]);
            assert_eq!(peer.all(), [], "an answer to a probe is no reason for another");
        }
    }
    // RFC 9293 §3.8.6.1: at growing intervals.
    assert!((4..=6).contains(&probes), "{probes} in a minute");
    // The guest's own word that its window is open was lost: the answer to the next probe says so.
    peer.bench.pass(60_000 * MS);
    assert_eq!(stream(&peer.all(), first), [(1460, 1)]);
    acknowledge(&mut peer, first + 1461, 16_000, &[]);
    assert_eq!(stream(&peer.all(), first).first(), Some(&(1461, 1460)));
}

#[test]
fn a_hole_is_filled_at_once_and_once() {
    let mut peer = Peer::new("192.0.2.1:80");
    let (first, sent) = (peer.open(), bytes(14_600));
    peer.host_sends(&sent);
    assert_eq!(peer.all().len(), 10);
    let now = peer.bench.now;
    // Its window changes with each answer, so that none counts as a duplicate (RFC 5681 §2).
    acknowledge(&mut peer, first + 2920, 15_900, &[(first + 5840, first + 7300)]);
    let got = peer.all();
    is_right(&got, first, &sent);
    assert_eq!(stream(&got, first).first(), Some(&(2920, 1460)));
    for (window, right) in [(15_800, 8760), (15_700, 10_220), (15_600, 14_600)] {
        acknowledge(&mut peer, first + 2920, window, &[(first + 5840, first + right)]);
        assert_eq!(peer.all(), [], "it is on its way already");
    }
    acknowledge(&mut peer, first + 14_600, 16_000, &[(first + 2920, first + 4380)]);
    assert_eq!((peer.all(), peer.bench.now), (vec![], now), "a block below is what came twice");
    peer.host_sends(&sent[..2920]);
    assert_eq!(stream(&peer.all(), first), [(14_600, 1460), (16_060, 1460)]);
}

#[test]
fn blocks_that_make_no_sense_are_no_hole() {
    let mut peer = Peer::new("192.0.2.1:80");
    let first = peer.open();
    peer.host_sends(&bytes(2920));
    peer.all();
    // Each with another window, or they would be duplicates.
    for (i, (left, right)) in
        [(2920, 5000), (0, 1460), (1460, 1460), (3000, 4380), (2920, 1460)].into_iter().enumerate()
    {
        let block = (first.wrapping_add(left), first.wrapping_add(right));
        acknowledge(&mut peer, first, 16_000 - i as u16, &[block]);
        assert_eq!(peer.all(), [], "{left} to {right}");
    }
}

#[test]
fn a_window_that_shrinks_but_is_open_takes_what_it_takes_by_the_timer() {
    let mut peer = Peer::new("192.0.2.1:80");
    let (first, sent) = (peer.open(), bytes(20_000));
    peer.host_sends(&sent[..10_000]);
    peer.all();
    acknowledge(&mut peer, first, 500, &[]);
    peer.host_sends(&sent[10_000..]);
    peer.bench.pass(900 * MS);
    assert_eq!(peer.all(), [], "RFC 9293 §3.8.6.2.1: no new data, and what was sent may still arrive");
    peer.bench.pass(200 * MS);
    assert_eq!(stream(&peer.all(), first), [(0, 1460), (1460, 540)], "within the window");
}

#[test]
fn a_fin_behind_a_closed_window_is_not_repeated_without_end() {
    let mut peer = Peer::new("192.0.2.1:80");
    let (first, sent) = (peer.open(), bytes(2000));
    peer.host_sends(&sent);
    peer.host_ends();
    assert_eq!(peer.all().last().map(|got| got.flags & FIN), Some(FIN));
    acknowledge(&mut peer, first, 0, &[]);
    for _ in 0..10 {
        acknowledge(&mut peer, first, 0, &[]);
    }
    assert_eq!(peer.all(), []);
    acknowledge(&mut peer, first, 16_000, &[]);
    let got = peer.all();
    assert_eq!((stream(&got, first), got[1].flags & FIN), (vec![(0, 1460), (1460, 540)], FIN));
    // All but the FIN arrived, and filled the buffer.
    for _ in 0..10 {
        acknowledge(&mut peer, first + 2000, 0, &[]);
    }
    assert!(peer.all().len() <= 1);
    acknowledge(&mut peer, first + 2001, 16_000, &[]);
    assert_eq!(peer.all(), []);
}

/// A receiver as Linux has them: it promises more than it can hold, because memory is not counted in bytes. What does
/// not fit is dropped, and the window is 0 until the program has read (`ICSK_ACK_NOMEM`).
struct Receiver {
    first: u32,
    /// What has arrived in order, and how much of it the program has read.
    whole: Vec<u8>,
    read: usize,
    beyond: BTreeMap<usize, Vec<u8>>,
    promised: usize,
    holds: usize,
    dropped: usize,
}

impl Receiver {
    fn held(&self) -> usize {
        self.whole.len() - self.read + self.beyond.values().map(Vec::len).sum::<usize>()
    }

    /// Takes or drops; returns whether memory was short.
    fn take(&mut self, got: &Got) -> bool {
        let at = got.seq.wrapping_sub(self.first) as usize;
        if at + got.payload.len() <= self.whole.len() {
            return false;
        }
        if at <= self.whole.len() && self.held() + got.payload.len() > self.holds {
            // What comes next is worth more than what is beyond (`tcp_prune_ofo_queue`).
            self.beyond.clear();
        }
        if self.held() + got.payload.len() > self.holds {
            self.dropped += 1;
            return true;
        }
        let new = &got.payload[self.whole.len().saturating_sub(at)..];
        self.beyond.insert(at.max(self.whole.len()), new.to_vec());
        while let Some((at, piece)) = self.beyond.first_key_value().filter(|(at, _)| **at <= self.whole.len())
        {
            self.whole.extend(piece.get(self.whole.len() - at..).unwrap_or(&[]));
            self.beyond.pop_first();
        }
        false
    }

    fn answer(&self, short: bool) -> (u32, u16, Vec<(u32, u32)>) {
        let window = if short { 0 } else { self.promised.saturating_sub(self.held()) };
        let number = |at: usize| self.first.wrapping_add(at as u32);
        let blocks = self.beyond.iter().take(3).map(|(at, piece)| (number(*at), number(at + piece.len())));
        (number(self.whole.len()), (window >> 2) as u16, blocks.collect())
    }
}

/// A transfer to such a guest; returns its time on the guest's clock and how many segments it dropped.
fn transfer(seed: u64, sent: &[u8]) -> (u64, usize) {
    let mut chance = Chance::new(seed);
    let mut peer = Peer::on(Bench::new(), "192.0.2.1:80");
    if chance.percent(50) {
        peer.bench.offload(Offload { csum: true, tso4: true, tso6: true, ..Offload::default() });
    }
    let first = peer.open();
    let holds = 70_000 + chance.below(150_000) as usize;
    let promised = holds + chance.below(100_000) as usize;
    let mut guest =
        Receiver { first, whole: vec![], read: 0, beyond: BTreeMap::new(), promised, holds, dropped: 0 };
    let begun = peer.bench.now;
    peer.host_sends(sent);
    while guest.read < sent.len() {
        for _ in 0..1 + chance.below(8) {
            let Some(got) = peer.got() else { break };
            let short = guest.take(&got);
            let (ack, window, blocks) = guest.answer(short);
            acknowledge(&mut peer, ack, window, &blocks);
        }
        let waiting = guest.whole.len() - guest.read;
        if chance.percent(40) && waiting > 0 {
            guest.read += waiting.min(1 + chance.below(150_000) as usize);
            let (ack, window, blocks) = guest.answer(false);
            acknowledge(&mut peer, ack, window, &blocks);
        }
        peer.bench.pass(MS / 10);
        assert!(peer.bench.now - begun < 5000 * MS, "seed {seed}: it stands still at {}", guest.whole.len());
    }
    assert_eq!(guest.whole, sent, "seed {seed}");
    (peer.bench.now - begun, guest.dropped)
}

#[test]
fn a_guest_that_drops_what_it_promised_to_take_waits_for_no_timer() {
    let sent = bytes(2_000_000);
    let mut dropped = 0;
    for seed in 0..rounds(40) {
        let (took, drops) = transfer(seed, &sent);
        assert!(took < 500 * MS, "seed {seed}: {} ms with {drops} drops", took / MS);
        dropped += drops;
    }
    assert!(dropped > 400, "{dropped}: it was tested");
}
