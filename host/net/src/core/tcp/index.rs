//! Which connection a segment belongs to: an open table of slots, whose keys stand in the connections themselves.
//!
//! With ten thousand connections, what a segment costs is memory that is in no cache. A tree's nodes are several such
//! places; here it is eight bytes of a table that is small enough to stay in one, and then the connection, which is
//! needed anyway. A guest chooses its ports and peers, so the hash is keyed with what it cannot know.

use super::Key;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

/// Slots of an empty table.
const LEAST: usize = 64;
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

#[derive(Debug)]
pub(super) struct Index {
    keyed: DefaultHasher,
    /// A power of two; at most three quarters are in use, so that a search ends.
    entries: Vec<Entry>,
    len: usize,
}

impl Index {
    pub(super) fn new(secret: u64) -> Self {
        let mut keyed = DefaultHasher::new();
        secret.hash(&mut keyed);
        Self { keyed, entries: vec![Entry { hash: 0, slot: EMPTY }; LEAST], len: 0 }
    }

    /// Order and content of what is hashed matter to nobody else.
    fn hash(&self, key: &Key) -> u32 {
        let mut hasher = self.keyed.clone();
        let ports = u64::from(key.guest.port()) << 16 | u64::from(key.peer.port());
        match (key.guest.ip(), key.peer.ip()) {
            (IpAddr::V4(guest), IpAddr::V4(peer)) => {
                hasher.write_u64(ports);
                hasher.write_u64(u64::from(guest.to_bits()) << 32 | u64::from(peer.to_bits()));
            }
            (guest, peer) => (ports, guest, peer).hash(&mut hasher),
        }
        hasher.finish() as u32
    }

    /// Where the one is, or the first free place behind.
    fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> usize {
        let mask = self.entries.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let entry = self.entries[at];
            if entry.slot == EMPTY || entry.hash == hash && is_it(entry.slot) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The slot of the connection with this key. `is_it`: whether it is the one in that slot.
    pub(super) fn get(&self, key: &Key, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slot = self.entries[self.find(self.hash(key), is_it)].slot;
        (slot != EMPTY).then_some(slot)
    }

    /// Puts in one that is not there yet.
    pub(super) fn insert(&mut self, key: &Key, slot: u32) {
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            let larger = vec![Entry { hash: 0, slot: EMPTY }; self.entries.len() * 2];
            for entry in std::mem::replace(&mut self.entries, larger) {
                if entry.slot != EMPTY {
                    self.put(entry);
                }
            }
        }
        self.put(Entry { hash: self.hash(key), slot });
        self.len += 1;
    }

    fn put(&mut self, entry: Entry) {
        let at = self.find(entry.hash, |_| false);
        self.entries[at] = entry;
    }

    /// Takes out the one in `slot`, and closes the gap: those behind it that were put off by others move up.
    pub(super) fn remove(&mut self, key: &Key, slot: u32) {
        let mask = self.entries.len() - 1;
        let mut gap = self.find(self.hash(key), |other| other == slot);
        if self.entries[gap].slot == EMPTY {
            return;
        }
        self.len -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.slot == EMPTY {
                break;
            }
            // It may not move before the place that its hash names.
            let away = at.wrapping_sub(entry.hash as usize) & mask;
            if away >= (at.wrapping_sub(gap) & mask) {
                self.entries[gap] = entry;
                gap = at;
            }
        }
        self.entries[gap].slot = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, net::SocketAddr};

    fn key(number: u32) -> Key {
        let port = (number % 7 + 1) as u16;
        let v6 = number.is_multiple_of(3);
        let ip = |number: u32| match v6 {
            true => IpAddr::from((u128::from(number) << 64).to_be_bytes()),
            false => IpAddr::from(number.to_be_bytes()),
        };
        Key { guest: SocketAddr::new(ip(1), port), peer: SocketAddr::new(ip(number / 7), 80) }
    }

    #[test]
    fn it_finds_what_a_map_finds() {
        let (mut index, mut map, mut chance) = (Index::new(7), BTreeMap::new(), 1_u64);
        let mut slots: Vec<Option<Key>> = Vec::new();
        for round in 0..100_000_u32 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = key((chance >> 33) as u32 % 2000);
            let found = index.get(&key, |slot| slots[slot as usize] == Some(key));
            assert_eq!(found, map.get(&key).copied(), "round {round}");
            match found {
                Some(slot) => {
                    index.remove(&key, slot);
                    slots[slot as usize] = None;
                    map.remove(&key);
                }
                None => {
                    let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
                    slots.resize(slots.len().max(slot + 1), None);
                    slots[slot] = Some(key);
                    index.insert(&key, slot as u32);
                    map.insert(key, slot as u32);
                }
            }
            assert_eq!(index.len, map.len());
        }
        assert!(map.len() > 500 && index.entries.len() <= 4096);
    }

    /// As for a guest that knows how it is done, but not the secret.
    #[test]
    fn another_secret_is_another_order() {
        let order = |secret| {
            let index = Index::new(secret);
            (0..64).map(|number| index.hash(&key(number)) & 1).collect::<Vec<_>>()
        };
        assert_ne!(order(1), order(2));
        assert_eq!(order(1), order(1));
    }

    #[test]
    fn what_has_the_same_hash_is_told_apart() {
        let mut index = Index::new(0);
        let hash = index.hash(&key(1));
        (0..40).for_each(|slot| index.put(Entry { hash, slot }));
        assert_eq!(index.get(&key(1), |slot| slot == 30), Some(30));
        index.len = 40;
        index.remove(&key(1), 10);
        assert_eq!(index.get(&key(1), |slot| slot == 10), None);
        assert_eq!(index.get(&key(1), |slot| slot == 39), Some(39));
    }
}
