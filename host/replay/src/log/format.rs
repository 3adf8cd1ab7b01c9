//! Segments as bytes: header, frames, index, trailer; what is too large and what is too new. `docs/log-format.md`.

use super::{
    codec::{Place, put_varint},
    error::{Corruption, Refusal},
};

/// The format that this crate writes.
pub const VERSION: u16 = 3;
/// The oldest reader that understands what this crate writes, as long as no record needs a later one.
pub(super) const NEEDS: u16 = 2;
/// The oldest format that this crate reads.
const OLDEST: u16 = 1;

/// What ties the segments of a run together: 16 bytes that no other run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(pub [u8; 16]);

/// The most that one input may carry, in bytes.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// The most that a frame decompresses to, in bytes.
pub(super) const MAX_RAW_BYTES: u32 = 16 << 20;
/// The most that a frame's body takes, in bytes: more than zstd makes of [`MAX_RAW_BYTES`] at its worst.
pub(super) const MAX_BODY_BYTES: u32 = 17 << 20;
/// Chunks in a segment, so that the index stays a frame: an entry takes at most 55 bytes.
pub(super) const MAX_CHUNKS: usize = 200_000;

pub(super) const HEADER_BYTES: usize = 48;
pub(super) const FRAME_BYTES: usize = 28;
pub(super) const TRAILER_BYTES: usize = 16;

/// The first byte is no text, the last is a line feed: both die when somebody transfers the file as text.
const MAGIC: [u8; 8] = *b"\x8dREPLOG\n";
const CHUNK_MAGIC: [u8; 4] = *b"CHNK";
const INDEX_MAGIC: [u8; 4] = *b"INDX";
const TRAILER_MAGIC: [u8; 4] = *b"DONE";

/// Whether a reader of format `reader` may read a log of format `written` that needs a reader of `needs`.
///
/// # Errors
/// The refusal, by name.
pub fn readable_by(written: u16, needs: u16, reader: u16) -> Result<(), Refusal> {
    if written < OLDEST {
        return Err(Refusal::TooOld { written, oldest: OLDEST });
    }
    if needs > reader {
        return Err(Refusal::TooNew { written, needs, reader });
    }
    Ok(())
}

/// The first 48 bytes of a segment. Their layout holds for every version, so that a refusal has something to stand
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u16,
    pub(super) needs: u16,
    pub(super) segment: u32,
    pub(super) run_id: RunId,
}

/// Why a header is not accepted.
#[derive(Debug)]
pub(super) enum HeaderFault {
    Corrupt(Corruption),
    Refused(Refusal),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&self.version.to_le_bytes());
        out[10..12].copy_from_slice(&self.needs.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..32].copy_from_slice(&self.run_id.0);
        seal(&mut out);
        out
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderFault> {
        if bytes[..8] != MAGIC {
            return Err(HeaderFault::Corrupt(Corruption::NotALog));
        }
        if !is_sealed(bytes) {
            return Err(HeaderFault::Corrupt(Corruption::Header));
        }
        let header = Header {
            version: u16::from_le_bytes(array(bytes, 8)),
            needs: u16::from_le_bytes(array(bytes, 10)),
            segment: u32_at(bytes, 12),
            run_id: RunId(array(bytes, 16)),
        };
        readable_by(header.version, header.needs, VERSION).map_err(HeaderFault::Refused)?;
        // Reserved bytes mean something to whoever wrote a version above ours and still let us read it.
        if header.version <= VERSION && bytes[32..44] != [0; 12] {
            return Err(HeaderFault::Corrupt(Corruption::Header));
        }
        Ok(header)
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Chunk,
    Index,
}

/// What stands before each compressed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) body_bytes: u32,
    pub(super) raw_bytes: u32,
    /// Records in a chunk, chunks in an index.
    pub(super) count: u32,
    pub(super) body_crc: u32,
    pub(super) raw_crc: u32,
}

impl Frame {
    pub(super) fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut out = [0; FRAME_BYTES];
        out[..4].copy_from_slice(match self.kind {
            FrameKind::Chunk => &CHUNK_MAGIC,
            FrameKind::Index => &INDEX_MAGIC,
        });
        for (slot, value) in out[4..24].chunks_exact_mut(4).zip([
            self.body_bytes,
            self.raw_bytes,
            self.count,
            self.body_crc,
            self.raw_crc,
        ]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        seal(&mut out);
        out
    }

    /// The header, whose lengths are within bounds.
    pub(super) fn decode(bytes: &[u8; FRAME_BYTES]) -> Result<Frame, Corruption> {
        if !is_sealed(bytes) {
            return Err(Corruption::FrameHeader);
        }
        let kind = match array(bytes, 0) {
            CHUNK_MAGIC => FrameKind::Chunk,
            INDEX_MAGIC => FrameKind::Index,
            _ => return Err(Corruption::FrameHeader),
        };
        let [body_bytes, raw_bytes, count, body_crc, raw_crc] =
            std::array::from_fn(|field| u32_at(bytes, 4 + 4 * field));
        for (bytes, limit) in [(body_bytes, MAX_BODY_BYTES), (raw_bytes, MAX_RAW_BYTES)] {
            if bytes > limit {
                return Err(Corruption::TooLong { bytes, limit });
            }
        }
        Ok(Frame { kind, body_bytes, raw_bytes, count, body_crc, raw_crc })
    }
}

/// Where a chunk begins, in the segment and in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: u64,
    pub(super) place: Place,
}

/// The raw bytes of the index frame: whether the log ends with this segment, records up to its end, and each chunk.
pub(super) fn encode_index(last: bool, records: u64, chunks: &[IndexEntry]) -> Vec<u8> {
    let mut out = vec![u8::from(last)];
    put_varint(&mut out, records);
    for IndexEntry { offset, place } in chunks {
        put_varint(&mut out, *offset);
        place.encode(&mut out);
    }
    out
}

/// The last bytes of a closed segment: where its index begins.
pub(super) fn encode_trailer(index_offset: u64) -> [u8; TRAILER_BYTES] {
    let mut out = [0; TRAILER_BYTES];
    out[..8].copy_from_slice(&index_offset.to_le_bytes());
    out[8..12].copy_from_slice(&TRAILER_MAGIC);
    seal(&mut out);
    out
}

/// Put the CRC32C of all before it into the last four bytes.
fn seal(bytes: &mut [u8]) {
    let (covered, crc) = bytes.split_at_mut(bytes.len() - 4);
    crc.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    let (covered, crc) = bytes.split_at(bytes.len() - 4);
    crc == crc32c::crc32c(covered).to_le_bytes()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a range of N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
