use super::*;
use crate::disk::block_store::MEMORY_BLOCKS;

/// A base with a pattern, so that what shows through can be told from zeroes.
struct Pattern(u64);

fn pattern(at: u64) -> u8 {
    (at / 512 % 251) as u8 + 1
}

impl Base for Pattern {
    fn size_bytes(&self) -> u64 {
        self.0
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(offset + into.len() as u64 <= self.0, "read past the end");
        into.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = pattern(at));
        Ok(())
    }
}

/// The same disk as a plain vector.
struct Model {
    overlay: Overlay,
    bytes: Vec<u8>,
}

impl Model {
    fn new(size: u64) -> Self {
        Self {
            overlay: Overlay::new(Box::new(Pattern(size)), Spill::File),
            bytes: (0..size).map(pattern).collect(),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.overlay.write(offset, data).unwrap();
        self.bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
    }

    fn zero(&mut self, offset: u64, len: u64) {
        self.overlay.zero(offset, len).unwrap();
        self.bytes[offset as usize..(offset + len) as usize].fill(0);
    }

    fn check(&mut self) {
        let mut seen = vec![0xee; self.bytes.len()];
        self.overlay.read(0, &mut seen).unwrap();
        let differs = seen.iter().zip(&self.bytes).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first difference");
        let mut committed: Vec<u8> = (0..self.bytes.len() as u64).map(pattern).collect();
        self.overlay
            .for_each_change(|change| {
                match change {
                    Change::Data(at, data) => {
                        committed[at as usize..at as usize + data.len()].copy_from_slice(data)
                    }
                    Change::Zeroes(at, len) => committed[at as usize..(at + len) as usize].fill(0),
                }
                Ok(())
            })
            .unwrap();
        assert!(committed == self.bytes, "the changes do not add up to the disk");
    }
}

#[test]
fn writes_hide_the_base_and_only_there() {
    let mut disk = Model::new(5 * BLOCK as u64 + 512);
    disk.check();
    assert!(disk.overlay.is_empty());
    disk.write(512, &[0xaa; 1024]);
    disk.write(BLOCK as u64 - 512, &[0xbb; 1024]);
    disk.write(5 * BLOCK as u64, &[0xcc; 512]);
    disk.check();
}

#[test]
fn zeroes_hide_writes_and_writes_hide_zeroes() {
    let mut disk = Model::new(8 * BLOCK as u64 + 1024);
    disk.write(BLOCK as u64, &vec![0x55; 3 * BLOCK]);
    disk.zero(BLOCK as u64 + 512, 2 * BLOCK as u64);
    disk.check();
    disk.write(2 * BLOCK as u64 + 512, &[7; 512]);
    disk.check();
    disk.zero(0, 8 * BLOCK as u64 + 1024);
    disk.check();
    assert_eq!(disk.overlay.zeroes.len(), 1, "ranges merge");
    assert!(disk.overlay.blocks.is_empty(), "hidden blocks are given back");
}

#[test]
fn any_mixture_agrees_with_a_plain_vector() {
    let sectors = 24 * BLOCK as u64 / 512 + 3;
    let mut disk = Model::new(sectors * 512);
    let mut state = 12345u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for step in 0..400u64 {
        let offset = random(sectors);
        let len = 1 + random((sectors - offset).min(100));
        if random(3) == 0 {
            disk.zero(offset * 512, len * 512);
        } else {
            disk.write(offset * 512, &vec![step as u8; len as usize * 512]);
        }
    }
    disk.check();
}

#[test]
fn a_replay_spills_nowhere() {
    let blocks = u64::from(MEMORY_BLOCKS) + 40;
    let mut overlay = Overlay::new(Box::new(Pattern(blocks * BLOCK as u64)), Spill::Never);
    for block in 0..blocks {
        overlay.write(block * BLOCK as u64 + 512, &(block as u32).to_le_bytes()).unwrap();
    }
    assert_eq!(overlay.store.counts(), (blocks as u32, false));
    let mut back = [0; 4];
    overlay.read((blocks - 1) * BLOCK as u64 + 512, &mut back).unwrap();
    assert_eq!(back, (blocks as u32 - 1).to_le_bytes());
}

#[test]
fn a_snapshot_keeps_what_is_written_over() {
    let blocks = u64::from(MEMORY_BLOCKS) + 9;
    let mut disk = Model::new(blocks * BLOCK as u64 + 512);
    let mut taken = Vec::new();
    let mut state = 99u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    (0..blocks).for_each(|block| disk.write(block * BLOCK as u64, &[1; 512]));
    for step in 0..60u64 {
        let (offset, len) = (random(blocks * 32 - 200) * 512, (1 + random(150)) * 512);
        match random(3) {
            0 => disk.zero(offset, len),
            _ => disk.write(offset, &vec![step as u8; len as usize]),
        }
        if step % 4 == 0 {
            taken.push((disk.overlay.changes(), disk.bytes.clone()));
        }
        if step % 7 == 6 {
            let (changes, bytes) = &taken[random(taken.len() as u64) as usize];
            disk.overlay.set_changes(changes).unwrap();
            disk.bytes.clone_from(bytes);
            disk.check();
        }
    }
    let size = blocks * BLOCK as u64 + 512;
    for (changes, bytes) in taken {
        let mut other = Model { overlay: Overlay::new(Box::new(Pattern(size)), Spill::Never), bytes };
        other.overlay.set_changes(&changes).unwrap();
        other.check();
    }
    disk.overlay = Overlay::new(Box::new(Pattern(size)), Spill::File);
    let mut bad = DiskChanges::default();
    Arc::make_mut(&mut bad.zeroes).extend([(0, 5), (4, 9)]);
    assert!(disk.overlay.set_changes(&bad).unwrap_err().contains("overlap"));
    *Arc::make_mut(&mut bad.zeroes) = BTreeMap::from([(0, blocks + 2)]);
    assert!(disk.overlay.set_changes(&bad).unwrap_err().contains("outside"));
}

#[test]
fn many_blocks_spill_into_a_file() {
    let blocks = u64::from(MEMORY_BLOCKS) + 40;
    let mut disk = Model::new(blocks * BLOCK as u64);
    for block in 0..blocks {
        disk.write(block * BLOCK as u64, &(block as u32).to_le_bytes().repeat(128));
    }
    assert_eq!(disk.overlay.store.counts(), (MEMORY_BLOCKS, true));
    disk.check();
}
