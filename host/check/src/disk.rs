//! The disk behind a device: sectors that follow from their numbers, and those that were written. It goes with the
//! state from process to process, so only the latter are kept.

use reprise_abi::hot::{self, BlkReq};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SECTOR: u64 = 512;

/// A disk with something on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) bytes: u64,
    /// By number; `None`: zeroes.
    written: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Disk {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, written: BTreeMap::new() }
    }

    fn sector(&self, number: u64) -> Vec<u8> {
        match self.written.get(&number) {
            Some(Some(data)) => data.clone(),
            Some(None) => vec![0; SECTOR as usize],
            None => (0..SECTOR).map(|at| number.wrapping_mul(7).wrapping_add(at) as u8).collect(),
        }
    }

    /// What a read gives; nothing for the others. `None`: an I/O error.
    pub(crate) fn execute(&mut self, req: &BlkReq, data: &[u8]) -> Option<Vec<u8>> {
        let is_whole = req.offset.is_multiple_of(SECTOR) && req.len.is_multiple_of(SECTOR);
        let is_inside = req.offset.checked_add(req.len).is_some_and(|end| end <= self.bytes);
        if !is_whole || !is_inside {
            return None;
        }
        let sectors = req.offset / SECTOR..(req.offset + req.len) / SECTOR;
        match req.op {
            hot::BLK_READ => return Some(sectors.flat_map(|number| self.sector(number)).collect()),
            hot::BLK_WRITE => {
                let pieces = data.chunks(SECTOR as usize).map(|piece| Some(piece.to_vec()));
                self.written.extend(sectors.zip(pieces));
            }
            hot::BLK_WRITE_ZEROES => self.written.extend(sectors.map(|number| (number, None))),
            hot::BLK_FLUSH | hot::BLK_DISCARD => {}
            _ => return None,
        }
        Some(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_what_it_was() {
        let mut disk = Disk::new(4 * SECTOR);
        let req = |op, sector: u64, count: u64| BlkReq {
            op,
            flags: 0,
            token: 0,
            offset: sector * SECTOR,
            len: count * SECTOR,
            data: core::ptr::null(),
        };
        let fresh = disk.execute(&req(hot::BLK_READ, 0, 4), &[]).unwrap();
        assert!(fresh[..512] != fresh[512..1024] && fresh.len() == 2048);
        disk.execute(&req(hot::BLK_WRITE, 1, 1), &[9; 512]).unwrap();
        disk.execute(&req(hot::BLK_WRITE_ZEROES, 2, 1), &[]).unwrap();
        let again: Disk = serde_json::from_value(serde_json::to_value(&disk).unwrap()).unwrap();
        for mut disk in [disk, again] {
            let now = disk.execute(&req(hot::BLK_READ, 0, 4), &[]).unwrap();
            assert_eq!((&now[..512], &now[1536..]), (&fresh[..512], &fresh[1536..]));
            assert_eq!((&now[512..1024], &now[1024..1536]), (&[9; 512][..], &[0; 512][..]));
            assert_eq!(disk.execute(&req(hot::BLK_READ, 3, 2), &[]), None, "behind its end");
            assert_eq!(disk.execute(&req(9, 0, 1), &[]), None, "no such request");
        }
    }
}
