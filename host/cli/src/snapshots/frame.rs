//! The bytes of a pack: a header, then frames. Each frame is a group of objects that are compressed together, and says
//! before that what is in it, so that a pack is known without decompressing anything.

use crate::recording::Hash;
use std::io;
use zstd::bulk::Compressor;

/// Format of packs and of snapshot files.
pub(super) const FORMAT: u32 = 1;

const PACK_MAGIC: [u8; 8] = *b"\x8dREPPAK\n";
pub(super) const PACK_HEADER_BYTES: usize = 16;

const FRAME_MAGIC: [u8; 4] = *b"GRUP";
pub(super) const FRAME_HEADER_BYTES: usize = 28;
const ENTRY_BYTES: usize = 36;

/// No object is longer, and no group.
pub(super) const MAX_GROUP_BYTES: usize = 1 << 20;
/// A group is closed at this length: enough for zstd to find what pages have in common, and little to read for one.
const GROUP_BYTES: usize = 256 << 10;
/// Objects in a group.
const MAX_OBJECTS: usize = 1024;
/// What zstd may make of an incompressible group.
const MAX_BODY_BYTES: usize = MAX_GROUP_BYTES + MAX_GROUP_BYTES / 256 + 64;

/// The first bytes of a pack.
pub(super) fn pack_header() -> [u8; PACK_HEADER_BYTES] {
    let mut bytes = [0; PACK_HEADER_BYTES];
    bytes[..8].copy_from_slice(&PACK_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The format of a pack that begins so.
pub(super) fn pack_format(bytes: &[u8; PACK_HEADER_BYTES]) -> Result<u32, &'static str> {
    if bytes[..8] != PACK_MAGIC {
        return Err("this is no pack of snapshots");
    }
    if crc32c::crc32c(&bytes[..12]) != u32_at(bytes, 12) {
        return Err("the header does not match its checksum");
    }
    Ok(u32_at(bytes, 8))
}

/// What stands before a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    objects: u32,
    body_bytes: u32,
    raw_bytes: u32,
    directory_crc: u32,
    body_crc: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[..4] != FRAME_MAGIC {
            return Err("here no group begins");
        }
        if crc32c::crc32c(&bytes[..24]) != u32_at(bytes, 24) {
            return Err("the header of a group does not match its checksum");
        }
        let [objects, body_bytes, raw_bytes, directory_crc, body_crc] =
            [4, 8, 12, 16, 20].map(|at| u32_at(bytes, at));
        let header = Self { objects, body_bytes, raw_bytes, directory_crc, body_crc };
        let fits = |value: u32, most: usize| (1..=most).contains(&(value as usize));
        if !fits(objects, MAX_OBJECTS)
            || !fits(body_bytes, MAX_BODY_BYTES)
            || !fits(raw_bytes, MAX_GROUP_BYTES)
        {
            return Err("a group is longer than any can be, or empty");
        }
        Ok(header)
    }

    fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        let fields = [self.objects, self.body_bytes, self.raw_bytes, self.directory_crc, self.body_crc];
        for (place, field) in bytes[4..24].chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn directory_bytes(self) -> usize {
        self.objects as usize * ENTRY_BYTES
    }

    pub(super) fn body_bytes(self) -> usize {
        self.body_bytes as usize
    }

    pub(super) fn raw_bytes(self) -> usize {
        self.raw_bytes as usize
    }

    /// Where the body begins in the frame.
    pub(super) fn body_offset(self) -> u64 {
        (FRAME_HEADER_BYTES + self.directory_bytes()) as u64
    }

    /// The whole frame.
    pub(super) fn frame_bytes(self) -> u64 {
        self.body_offset() + u64::from(self.body_bytes)
    }

    pub(super) fn is_body(self, bytes: &[u8]) -> bool {
        crc32c::crc32c(bytes) == self.body_crc
    }

    /// What is in the group, from the bytes behind the header.
    pub(super) fn directory(self, bytes: &[u8]) -> Result<Vec<Entry>, &'static str> {
        if crc32c::crc32c(bytes) != self.directory_crc {
            return Err("the directory of a group does not match its checksum");
        }
        let mut start = 0_u32;
        let mut entries = Vec::with_capacity(self.objects as usize);
        for row in bytes.chunks_exact(ENTRY_BYTES) {
            let mut hash = [0; 32];
            hash.copy_from_slice(&row[..32]);
            let length = u32_at(row, 32);
            entries.push(Entry { hash: Hash(hash), start, length });
            let end = start.checked_add(length).filter(|&end| length > 0 && end <= self.raw_bytes);
            start = end.ok_or("the objects of a group are longer than it is")?;
        }
        if start != self.raw_bytes {
            return Err("the objects of a group are shorter than it is");
        }
        Ok(entries)
    }
}

/// One object of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) hash: Hash,
    /// Where it begins in the decompressed group.
    pub(super) start: u32,
    pub(super) length: u32,
}

/// A group in the making.
#[derive(Default)]
pub(super) struct Group {
    entries: Vec<Entry>,
    raw: Vec<u8>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it must be written before an object of so many bytes.
    pub(super) fn is_full_for(&self, bytes: usize) -> bool {
        !self.is_empty() && (self.raw.len() + bytes > GROUP_BYTES || self.entries.len() == MAX_OBJECTS)
    }

    pub(super) fn push(&mut self, hash: Hash, object: &[u8]) -> Entry {
        assert!((1..=MAX_GROUP_BYTES).contains(&object.len()), "an object of {} bytes", object.len());
        let small = |length: usize| u32::try_from(length).expect("a group is small");
        let entry = Entry { hash, start: small(self.raw.len()), length: small(object.len()) };
        self.entries.push(entry);
        self.raw.extend_from_slice(object);
        entry
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.raw.clear();
    }

    /// The frame, in place of what was in `frame`.
    pub(super) fn encode(&self, zstd: &mut Compressor<'_>, frame: &mut Vec<u8>) -> io::Result<FrameHeader> {
        frame.clear();
        frame.resize(FRAME_HEADER_BYTES, 0);
        for Entry { hash, length, .. } in &self.entries {
            frame.extend_from_slice(&hash.0);
            frame.extend_from_slice(&length.to_le_bytes());
        }
        let body_at = frame.len();
        frame.resize(body_at + zstd::zstd_safe::compress_bound(self.raw.len()), 0);
        let body_bytes = zstd.compress_to_buffer(&self.raw, &mut frame[body_at..])?;
        frame.truncate(body_at + body_bytes);
        let small = |length: usize| u32::try_from(length).expect("a group is small");
        let header = FrameHeader {
            objects: small(self.entries.len()),
            body_bytes: small(body_bytes),
            raw_bytes: small(self.raw.len()),
            directory_crc: crc32c::crc32c(&frame[FRAME_HEADER_BYTES..body_at]),
            body_crc: crc32c::crc32c(&frame[body_at..]),
        };
        frame[..FRAME_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        Ok(header)
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}
