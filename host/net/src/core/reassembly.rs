//! Fragments of the guest put together, within bounds. Whatever overlaps is thrown away whole (RFC 5722).

use super::{packet::Packet, stats::DropReason};
use std::{collections::BTreeMap, net::IpAddr};

/// Of one packet.
const MAX_FRAGMENTS: usize = 128;
/// RFC 8200 §4.5 wants 60 s from the first fragment; the guest is one hop away.
const LIFE_NS: u64 = 30_000_000_000;

type Key = (IpAddr, IpAddr, u8, u32);

#[derive(Debug)]
struct Set {
    /// By offset; they do not overlap.
    parts: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    /// The payload's length, once the last fragment is here.
    total: Option<usize>,
    deadline_ns: u64,
}

/// What waits for its other parts.
#[derive(Debug)]
pub(super) struct Reassembly {
    sets: BTreeMap<Key, Set>,
    bytes: usize,
    max_sets: usize,
    max_bytes: usize,
}

impl Reassembly {
    /// For so many packets at a time, and so many bytes of them all.
    pub(super) fn new(max_sets: usize, max_bytes: usize) -> Self {
        Self { sets: BTreeMap::new(), bytes: 0, max_sets, max_bytes }
    }

    pub(super) fn clear(&mut self) {
        self.sets.clear();
        self.bytes = 0;
    }

    /// Takes a fragment; returns the payload that it completes.
    pub(super) fn add(&mut self, now: u64, packet: &Packet<'_>) -> Result<Option<Vec<u8>>, DropReason> {
        let Some(part) = packet.fragment else { return Err(DropReason::Malformed) };
        let end = part.offset + packet.payload.len();
        let odd = part.more && !packet.payload.len().is_multiple_of(8);
        if packet.payload.is_empty() || odd || end > 65_535 {
            return Err(DropReason::Malformed);
        }
        let key = (packet.source, packet.destination, packet.protocol, part.id);
        if !self.sets.contains_key(&key) {
            self.make_room(now);
            let set = Set {
                parts: BTreeMap::new(),
                bytes: 0,
                total: None,
                deadline_ns: now.saturating_add(LIFE_NS),
            };
            self.sets.insert(key, set);
        }
        let (bytes, max_bytes) = (self.bytes, self.max_bytes);
        let Some(set) = self.sets.get_mut(&key) else { return Err(DropReason::Fragments) };
        if set.parts.get(&part.offset).is_some_and(|known| known == packet.payload) {
            return Ok(None);
        }
        let below = set.parts.range(..end).next_back();
        let overlaps = below.is_some_and(|(offset, bytes)| offset + bytes.len() > part.offset);
        let beyond = match (part.more, set.total) {
            (true, Some(total)) => end > total,
            (false, Some(total)) => end != total,
            (false, None) => set.parts.last_key_value().is_some_and(|(at, bytes)| at + bytes.len() > end),
            (true, None) => false,
        };
        let full = set.parts.len() >= MAX_FRAGMENTS || bytes + packet.payload.len() > max_bytes;
        if overlaps || beyond || full {
            self.forget(&key);
            return Err(DropReason::Fragments);
        }
        set.parts.insert(part.offset, packet.payload.to_vec());
        set.bytes += packet.payload.len();
        self.bytes += packet.payload.len();
        if !part.more {
            set.total = Some(end);
        }
        if set.total != Some(set.bytes) {
            return Ok(None);
        }
        let payload = set.parts.values().flatten().copied().collect();
        self.forget(&key);
        Ok(Some(payload))
    }

    fn forget(&mut self, key: &Key) {
        if let Some(set) = self.sets.remove(key) {
            self.bytes -= set.bytes;
        }
    }

    fn make_room(&mut self, now: u64) {
        self.expire(now);
        while self.sets.len() >= self.max_sets {
            let oldest = self.sets.iter().min_by_key(|(_, set)| set.deadline_ns).map(|(key, _)| *key);
            let Some(key) = oldest else { return };
            self.forget(&key);
        }
    }

    /// Throws away what has waited too long; how many sets that were.
    pub(super) fn expire(&mut self, now: u64) -> usize {
        let late: Vec<Key> =
            self.sets.iter().filter(|(_, set)| set.deadline_ns <= now).map(|(key, _)| *key).collect();
        for key in &late {
            self.forget(key);
        }
        late.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.sets.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::packet::{Fragment, UDP};
    use std::net::Ipv4Addr;

    fn add(
        all: &mut Reassembly,
        now: u64,
        id: u32,
        at: usize,
        more: bool,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let packet = Packet {
            source: Ipv4Addr::new(10, 0, 2, 15).into(),
            destination: Ipv4Addr::new(1, 2, 3, 4).into(),
            protocol: UDP,
            hops: 64,
            fragment: Some(Fragment { id, offset: at, more }),
            bytes,
            header_bytes: 0,
            payload: bytes,
        };
        all.add(now, &packet)
    }

    #[test]
    fn parts_come_together_in_any_order() {
        let mut all = Reassembly::new(64, 1 << 20);
        assert_eq!(add(&mut all, 0, 1, 16, false, b"!"), Ok(None));
        assert_eq!(add(&mut all, 0, 2, 0, true, b"another."), Ok(None));
        assert_eq!(add(&mut all, 0, 1, 0, true, b"12345678"), Ok(None));
        assert_eq!(add(&mut all, 0, 1, 0, true, b"12345678"), Ok(None), "a repeated one is nothing new");
        assert_eq!(add(&mut all, 0, 1, 8, true, b"abcdefgh"), Ok(Some(b"12345678abcdefgh!".to_vec())));
        assert_eq!(all.held(), (1, 8));
    }

    #[test]
    fn what_overlaps_or_contradicts_is_thrown_away_whole() {
        let cases: [&[(usize, bool, usize)]; 5] = [
            &[(0, true, 16), (8, true, 8)],
            &[(8, true, 8), (0, true, 16)],
            &[(8, false, 8), (16, true, 8)],
            &[(8, false, 8), (0, false, 8)],
            &[(16, true, 8), (8, false, 4)],
        ];
        for case in cases {
            let mut all = Reassembly::new(64, 1 << 20);
            let mut last = Ok(None);
            for &(at, more, bytes) in case {
                last = add(&mut all, 0, 1, at, more, &vec![7; bytes]);
            }
            assert_eq!((last, all.held()), (Err(DropReason::Fragments), (0, 0)), "{case:?}");
        }
        let mut all = Reassembly::new(64, 1 << 20);
        for (at, more, bytes) in [(0, true, 9), (65_528, false, 8), (0, true, 0)] {
            assert_eq!(add(&mut all, 0, 1, at, more, &vec![7; bytes]), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn its_bounds_can_be_set() {
        let mut all = Reassembly::new(2, 20);
        for id in 0..3 {
            assert_eq!(add(&mut all, u64::from(id), id, 0, true, &[7; 8]), Ok(None));
        }
        assert_eq!(all.held(), (2, 16), "the oldest went");
        assert_eq!(add(&mut all, 4, 2, 8, true, &[7; 8]), Err(DropReason::Fragments));
        assert_eq!(all.held(), (1, 8), "what would be too much is thrown away whole");
        assert_eq!(add(&mut all, 4, 1, 8, false, &[7; 8]), Ok(Some(vec![7; 16])));
    }

    #[test]
    fn it_is_bounded() {
        let mut all = Reassembly::new(64, 1 << 20);
        for id in 0..1000 {
            let _ = add(&mut all, u64::from(id), id, 0, true, &[7; 8]);
        }
        assert_eq!(all.held(), (64, 64 * 8));
        // The oldest went.
        assert_eq!(add(&mut all, 2000, 999, 8, false, &[7]), Ok(Some(vec![7; 9])));
        for part in 0..2000 {
            let _ = add(&mut all, 3000, 5000, part * 8, true, &[7; 8]);
            assert!(all.held().1 <= 64 * 8 + 128 * 8);
        }
        for id in 0..64 {
            for part in 0..32 {
                let _ = add(&mut all, 4000, 6000 + id, part * 1480, true, &[7; 1480]);
                assert!(all.held().1 <= 1 << 20);
            }
        }
        all.expire(4000 + LIFE_NS);
        assert_eq!(all.held(), (0, 0));
    }
}
