//! The digest of guest RAM: a tree of hashes over its pages, of which only what changed is computed again.
//!
//! Level 0 has one hash for each page, each level above one for up to [`FAN`] below it, the last a single one. What
//! holds nothing but zeroes has no hash ([`NONE`]), whether it was never touched or written and cleared: the root is a
//! function of the content, never of how it came to be.

use reprise_cpu::{Follower, GuestRam, PAGE_SIZE};

/// Hashes below one. Wider costs more for pages far apart, narrower for many: 64 hashes are half a page.
const FAN: usize = 64;

/// Instead of a hash: all zero.
const NONE: Hash = [0; 32];

type Hash = [u8; 32];

/// The hashes, from the pages up. Memory for pages that were never written stays untouched.
#[derive(Debug)]
pub(crate) struct RamDigest {
    levels: Vec<Vec<Hash>>,
    /// Of the level at hand: indices, ascending, of what changed since it was hashed. Kept to save the allocation.
    changed: Vec<usize>,
}

impl RamDigest {
    /// For RAM of this size, nothing of which was taken in yet.
    pub(crate) fn new(ram: &GuestRam) -> RamDigest {
        let pages = usize::try_from(ram.size() / PAGE_SIZE).expect("RAM is mapped, so its size fits");
        let mut levels = vec![vec![NONE; pages]];
        let mut len = pages;
        while len > 1 {
            len = len.div_ceil(FAN);
            levels.push(vec![NONE; len]);
        }
        RamDigest { levels, changed: Vec::new() }
    }

    /// Takes in what was written since the last call; returns the root.
    pub(crate) fn update(&mut self, ram: &GuestRam) -> Hash {
        let RamDigest { levels, changed } = self;
        let mut page = [0; PAGE_SIZE as usize];
        changed.clear();
        ram.take_dirty(Follower::Digest, |index| {
            ram.page(index, &mut page);
            put(&mut levels[0], index, hash(&page), changed);
        });
        self.rise();
        self.root()
    }

    /// The same from every byte of RAM, whatever is known to have changed.
    pub(crate) fn from_scratch(ram: &GuestRam) -> RamDigest {
        let mut digest = RamDigest::new(ram);
        let mut page = [0; PAGE_SIZE as usize];
        for index in 0..digest.levels[0].len() {
            ram.page(index, &mut page);
            put(&mut digest.levels[0], index, hash(&page), &mut digest.changed);
        }
        digest.rise();
        digest
    }

    /// The hash of all.
    pub(crate) fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// Pages whose content was different when the two were updated, ascending.
    pub(crate) fn differing<'a>(&'a self, other: &'a RamDigest) -> impl Iterator<Item = usize> + 'a {
        let pairs = self.levels[0].iter().zip(&other.levels[0]);
        pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index)
    }

    /// Hashes anew what lies above the changed pages.
    fn rise(&mut self) {
        let mut below = std::mem::take(&mut self.changed);
        let mut changed = Vec::new();
        for level in 1..self.levels.len() {
            let (lower, upper) = self.levels.split_at_mut(level);
            below.iter_mut().for_each(|index| *index /= FAN);
            below.dedup();
            for &index in &below {
                let children = &lower[level - 1][index * FAN..];
                let children = children[..children.len().min(FAN)].as_flattened();
                put(&mut upper[0], index, hash(children), &mut changed);
            }
            std::mem::swap(&mut below, &mut changed);
            changed.clear();
        }
        self.changed = below;
    }
}

fn hash(bytes: &[u8]) -> Hash {
    const ZERO: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
    if *bytes == ZERO[..bytes.len()] { NONE } else { *blake3::hash(bytes).as_bytes() }
}

fn put(level: &mut [Hash], index: usize, hash: Hash, changed: &mut Vec<usize>) {
    if level[index] != hash {
        level[index] = hash;
        changed.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::splitmix;
    use std::rc::Rc;

    const BASE: u64 = 0x8000_0000;

    fn ram(pages: u64) -> Rc<GuestRam> {
        GuestRam::new(BASE, pages * PAGE_SIZE).unwrap()
    }

    #[test]
    fn it_is_the_same_as_from_scratch_whatever_is_written() {
        for pages in [1, 2, 63, 64, 65, 64 * 64, 64 * 64 + 1] {
            let ram = ram(pages);
            let mut digest = RamDigest::new(&ram);
            assert_eq!(digest.update(&ram), NONE);
            let mut random = pages;
            for round in 0..20 {
                for _ in 0..splitmix(&mut random) % 10 {
                    let gpa = BASE + splitmix(&mut random) % (pages * PAGE_SIZE - 7);
                    // Half of it clears what an earlier round may have written.
                    let value = splitmix(&mut random) * (splitmix(&mut random) & 1);
                    ram.write(gpa, &value.to_le_bytes()).unwrap();
                }
                let scratch = RamDigest::from_scratch(&ram);
                assert_eq!(digest.update(&ram), scratch.root(), "{pages} pages, round {round}");
                assert_eq!(digest.levels, scratch.levels);
            }
        }
    }

    #[test]
    fn what_was_written_and_cleared_leaves_no_trace() {
        let ram = ram(200);
        let mut digest = RamDigest::new(&ram);
        ram.write(BASE + 4095, &[1; 4098]).unwrap();
        assert_ne!(digest.update(&ram), NONE);
        ram.write(BASE + 4095, &[0; 4098]).unwrap();
        assert_eq!(digest.update(&ram), NONE);
        assert_eq!(digest.levels, RamDigest::new(&ram).levels);
    }

    #[test]
    fn the_place_of_a_page_counts() {
        let (a, b) = (ram(200), ram(200));
        a.write(BASE, &[1]).unwrap();
        b.write(BASE + 64 * PAGE_SIZE, &[1]).unwrap();
        let (mut of_a, mut of_b) = (RamDigest::new(&a), RamDigest::new(&b));
        assert_ne!(of_a.update(&a), of_b.update(&b));
        assert_eq!(of_a.differing(&of_b).collect::<Vec<_>>(), [0, 64]);
    }
}
