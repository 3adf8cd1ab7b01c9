use super::{
    tests::{Scratch, open},
    *,
};
use crate::failure::Exit;
use reprise_machine::DISK_BLOCK_BYTES;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

const BLOCK: usize = DISK_BLOCK_BYTES as usize;
const BLOCK_U64: u64 = DISK_BLOCK_BYTES;

/// No two sectors are the same.
fn content(len: usize) -> Vec<u8> {
    (0..len / 512).flat_map(|sector| (sector as u32).to_le_bytes().repeat(128)).collect()
}

fn watched(path: &Path) -> HostDisk {
    HostDisk::open_watched(&DiskSpec::parse_disk(&format!("disk0={}", path.display())).unwrap()).unwrap()
}

fn read(disk: &mut HostDisk, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    disk.read(offset, &mut bytes).unwrap();
    bytes
}

fn told(disk: &mut HostDisk) -> Vec<(u64, [u8; 32])> {
    let mut told = Vec::new();
    disk.first_reads(&mut |block, hash| told.push((block, hash)));
    told
}

/// What has to be told of these blocks of `content`.
fn hashes(content: &[u8], blocks: &[u64]) -> Vec<(u64, [u8; 32])> {
    let hash = |&block: &u64| {
        let whole = &content[block as usize * BLOCK..content.len().min((block as usize + 1) * BLOCK)];
        (block, *blake3::hash(whole).as_bytes())
    };
    blocks.iter().map(hash).collect()
}

/// Requests of all kinds, and what they have to tell. Block 20 is short.
fn check_first_reads(disk: &mut HostDisk, content: &[u8]) {
    assert!(told(disk).is_empty());
    // A part of a block is told as a whole, once.
    assert_eq!(read(disk, BLOCK_U64 + 512, 1024), content[BLOCK + 512..][..1024]);
    assert_eq!(told(disk), hashes(content, &[1]));
    assert_eq!(read(disk, BLOCK_U64, BLOCK), content[BLOCK..2 * BLOCK]);
    assert!(told(disk).is_empty());
    // Over borders, around what is known, ascending; nothing is lost between the questions.
    assert_eq!(read(disk, 512, 3 * BLOCK), content[512..][..3 * BLOCK]);
    assert_eq!(read(disk, 0, 512), content[..512]);
    assert_eq!(told(disk), hashes(content, &[0, 2, 3]));
    // Written over as a whole: never read. In part: read as a whole.
    disk.write(5 * BLOCK_U64 - 512, &vec![0xaa; BLOCK + 1024]).unwrap();
    assert_eq!(told(disk), hashes(content, &[4, 6]));
    assert_eq!(read(disk, 4 * BLOCK_U64, 3 * BLOCK)[BLOCK - 512..][..BLOCK + 1024], vec![0xaa; BLOCK + 1024]);
    assert!(told(disk).is_empty());
    // Zeroes and discards are writes.
    disk.write_zeroes(8 * BLOCK_U64, 2 * BLOCK_U64 + 512).unwrap();
    disk.discard(11 * BLOCK_U64, BLOCK_U64).unwrap();
    disk.discard(13 * BLOCK_U64 - 512, 512).unwrap();
    assert_eq!(told(disk), hashes(content, &[10, 12]));
    disk.write(8 * BLOCK_U64 + 512, &[7; 512]).unwrap();
    assert_eq!(read(disk, 8 * BLOCK_U64, BLOCK)[..1536], [[0; 512], [7; 512], [0; 512]].concat());
    assert!(told(disk).is_empty());
    // The short end.
    assert_eq!(content.len() - 20 * BLOCK, 1536);
    assert_eq!(read(disk, content.len() as u64 - 512, 512), content[content.len() - 512..]);
    assert_eq!(read(disk, 19 * BLOCK_U64, BLOCK + 1536), content[19 * BLOCK..]);
    assert_eq!(told(disk), hashes(content, &[20, 19]));
}

/// The image after the run of [`check_first_reads`] is told by these blocks alone.
const TOUCHED: [u64; 10] = [0, 1, 2, 3, 4, 6, 10, 12, 19, 20];

fn raw(scratch: &Scratch) -> (std::path::PathBuf, Vec<u8>) {
    let content = content(20 * BLOCK + 1536);
    (scratch.raw("a.img", &content), content)
}

fn qcow2(scratch: &Scratch) -> (std::path::PathBuf, Vec<u8>) {
    let content = content(20 * BLOCK + 1536);
    let path = scratch.qcow2("a.qcow2", content.len() as u64);
    let mut disk = open(&path, ",commit").unwrap();
    disk.write(0, &content).unwrap();
    assert!(disk.commit().unwrap());
    (path, content)
}

#[test]
fn first_reads_are_told_once_and_as_requests_come() {
    let scratch = Scratch::new("first-reads");
    for (path, content) in [raw(&scratch), qcow2(&scratch)] {
        let mut recorded = watched(&path);
        check_first_reads(&mut recorded, &content);
        let facts = recorded.facts();
        drop(recorded);
        check_first_reads(&mut HostDisk::replayed(&facts).unwrap(), &content);
    }
}

#[test]
fn a_plain_run_and_a_scratch_disk_tell_nothing() {
    let scratch = Scratch::new("nothing-told");
    let (path, content) = raw(&scratch);
    let mut plain = open(&path, "").unwrap();
    assert_eq!(read(&mut plain, 0, BLOCK), content[..BLOCK]);
    assert!(told(&mut plain).is_empty());
    let scratch = HostDisk::scratch("disk1", 64 << 10);
    let facts = scratch.facts();
    assert_eq!((facts.size_bytes, &facts.image), (64 << 10, &None));
    for mut disk in [
        scratch,
        HostDisk::replayed(&facts).unwrap(),
        HostDisk::packed(&facts, Box::new(|_| Ok(None))).unwrap(),
    ] {
        assert_eq!(read(&mut disk, 512, 512), [0; 512]);
        assert!(told(&mut disk).is_empty());
    }
}

#[test]
fn facts_are_what_the_guest_sees_and_where_the_image_is() {
    let scratch = Scratch::new("facts");
    for (path, format) in [(raw(&scratch).0, Format::Raw), (qcow2(&scratch).0, Format::Qcow2)] {
        let disk = open(&path, ",ro").unwrap();
        let facts = disk.facts();
        let size_bytes = 20 * BLOCK_U64 + 1536;
        let image = ImageFacts { path, format, backing: false };
        assert_eq!(facts, DiskFacts { id: "disk0".into(), size_bytes, read_only: true, image: Some(image) });
        for again in
            [HostDisk::replayed(&facts).unwrap(), HostDisk::packed(&facts, Box::new(|_| Ok(None))).unwrap()]
        {
            assert_eq!(again.facts(), facts, "a replay can be recorded again");
            assert_eq!((again.size_bytes(), again.read_only()), (disk.size_bytes(), true));
            assert_eq!(again.serial(), disk.serial());
        }
    }
}

#[test]
fn a_changed_block_has_another_hash_and_other_blocks_do_not_matter() {
    let scratch = Scratch::new("changed-block");
    let (path, content) = raw(&scratch);
    let mut recorded = watched(&path);
    read(&mut recorded, 0, 2 * BLOCK);
    let (before, facts) = (told(&mut recorded), recorded.facts());
    drop(recorded);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let again = |at: usize| {
        let mut changed = content.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let mut replayed = HostDisk::replayed(&facts).unwrap();
        read(&mut replayed, 0, 2 * BLOCK);
        told(&mut replayed)
    };
    assert_eq!(again(2 * BLOCK), before);
    let changed = again(2 * BLOCK - 1);
    assert_eq!(changed[0], before[0]);
    assert_eq!(changed[1].0, before[1].0);
    assert_ne!(changed[1].1, before[1].1);
}

#[test]
fn the_touched_blocks_are_as_good_as_the_image() {
    let scratch = Scratch::new("packed");
    for (path, content) in [raw(&scratch), qcow2(&scratch)] {
        let facts = open(&path, "").unwrap().facts();
        let mut image = ImageBlocks::open(&facts).unwrap();
        let blocks: BTreeMap<u64, Vec<u8>> =
            TOUCHED.into_iter().map(|block| (block, image.read(block).unwrap())).collect();
        assert_eq!(image.read(21).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(image);
        fs::remove_file(&path).unwrap();
        let pack = blocks.clone();
        let mut packed =
            HostDisk::packed(&facts, Box::new(move |block| Ok(pack.get(&block).cloned()))).unwrap();
        check_first_reads(&mut packed, &content);
        let error = packed.read(7 * BLOCK_U64, &mut [0; 512]).unwrap_err().to_string();
        assert!(error.contains("does not hold block 7"), "{error}");
        assert!(told(&mut packed).is_empty());

        let mut short =
            HostDisk::packed(&facts, Box::new(move |block| Ok(blocks.get(&block).map(|b| b[1..].to_vec()))))
                .unwrap();
        let error = short.read(0, &mut [0; 512]).unwrap_err().to_string();
        assert!(error.contains("block 0 has 16383 bytes instead of 16384"), "{error}");
    }
}

#[test]
fn an_image_of_another_size_is_refused() {
    let scratch = Scratch::new("resized");
    let (path, content) = raw(&scratch);
    let facts = open(&path, "").unwrap().facts();
    for len in [0, content.len() - 512, content.len() + 1] {
        let mut other = content.clone();
        other.resize(len, 0);
        fs::write(&path, other).unwrap();
        let error = HostDisk::replayed(&facts).map(|_| ()).unwrap_err();
        assert_eq!(error.exit, Exit::Config);
        let text = error.to_string();
        assert!(text.contains("changed since the recording"), "{text}");
        assert!(text.contains(&format!("it had {} bytes, and has {len} now", content.len())), "{text}");
    }
    let (path, _) = qcow2(&scratch);
    let facts = open(&path, "").unwrap().facts();
    fs::write(&path, vec![0; facts.size_bytes as usize]).unwrap();
    let text = HostDisk::replayed(&facts).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("not a qcow2 image"), "{text}");
}

#[test]
fn a_recording_cannot_claim_any_size() {
    for size_bytes in [0, 511, 513, (1 << 56) + 512, u64::MAX - 511] {
        let image = ImageFacts { path: "/nowhere".into(), format: Format::Raw, backing: false };
        let mut facts = DiskFacts { id: "disk0".into(), size_bytes, read_only: false, image: Some(image) };
        let refused = |opened: Result<HostDisk, Failure>| {
            let error = opened.map(|_| ()).unwrap_err();
            assert_eq!(error.exit, Exit::Corrupt);
            assert!(error.to_string().contains(&format!("a disk of {size_bytes} bytes")), "{error}");
        };
        refused(HostDisk::packed(&facts, Box::new(|_| Ok(None))));
        facts.image = None;
        refused(HostDisk::replayed(&facts));
    }
}

#[test]
fn a_replay_neither_finishes_nor_removes_a_commit() {
    let scratch = Scratch::new("replay-journal");
    let (path, content) = raw(&scratch);
    let journal = commit::journal_path(&path);
    let mut disk = open(&path, "").unwrap();
    let facts = disk.facts();
    disk.write(0, &[0x44; 512]).unwrap();
    let unwritable = commit::Target::Raw(fs::File::open(&path).unwrap());
    let inode = sys::Identity::of(&fs::File::open(&path).unwrap()).unwrap().inode;
    commit::commit(&path, inode, &disk.0.borrow().overlay, &unwritable).expect_err("the target is read-only");
    drop(disk);
    let error = HostDisk::replayed(&facts).map(|_| ()).unwrap_err();
    assert_eq!(error.exit, Exit::Config);
    assert!(error.to_string().contains("a commit to the image was interrupted"), "{error}");

    let whole = fs::read(&journal).unwrap();
    fs::write(&journal, &whole[..40]).unwrap();
    let mut replayed = HostDisk::replayed(&facts).unwrap();
    assert_eq!(read(&mut replayed, 0, 512), content[..512]);
    assert_eq!(fs::read(&journal).unwrap(), whole[..40], "a torn one stays too");
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_replay_shares_its_image() {
    let scratch = Scratch::new("replay-shares");
    let (path, _) = raw(&scratch);
    let facts = open(&path, "").unwrap().facts();
    let (_one, _two) = (HostDisk::replayed(&facts).unwrap(), HostDisk::replayed(&facts).unwrap());
    let _run = open(&path, "").unwrap();
    let text = open(&path, ",commit").map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("in use"), "{text}");
}

#[test]
fn a_backing_file_is_pinned_too() {
    let scratch = Scratch::new("backing");
    let (path, content) = raw(&scratch);
    let top = scratch.qcow2("top.qcow2", content.len() as u64);
    name_backing_file(&top, "a.img");
    let spec = DiskSpec::parse_disk(&format!("disk0={},backing", top.display())).unwrap();
    let mut disk = HostDisk::open_watched(&spec).unwrap();
    let facts = disk.facts();
    assert!(facts.image.as_ref().unwrap().backing);
    assert_eq!(read(&mut disk, 512, 512), content[512..1024]);
    assert_eq!(told(&mut disk), hashes(&content, &[0]));
    assert!(open(&path, ",commit").map(|_| ()).unwrap_err().to_string().contains("in use"));
    let mut longer = content.clone();
    longer.resize(content.len() + 512, 0);
    fs::write(&path, &longer).unwrap();
    let error = disk.read(512, &mut [0; 512]).unwrap_err().to_string();
    assert!(error.contains("somebody changed the image"), "{error}");
}

/// Write a raw backing file's name into the header of a new image.
fn name_backing_file(image: &Path, name: &str) {
    let mut file = fs::File::options().read(true).write(true).open(image).unwrap();
    let mut header = vec![0; 4096];
    file.read_exact(&mut header).unwrap();
    let header_len = u32::from_be_bytes(header[100..104].try_into().unwrap()) as usize;
    // An extension for the format, the end of extensions, and the name.
    let mut tail = Vec::new();
    tail.extend([0xe2_u8, 0x79, 0x2a, 0xca, 0, 0, 0, 3, b'r', b'a', b'w', 0, 0, 0, 0, 0]);
    tail.extend([0; 8]);
    let at = header_len + tail.len();
    tail.extend(name.as_bytes());
    header[header_len..header_len + tail.len()].copy_from_slice(&tail);
    header[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    header[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&header).unwrap();
}
