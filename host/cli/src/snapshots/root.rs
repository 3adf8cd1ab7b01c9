//! A snapshot's file: facts for people and programs, and the hashes of everything that it is made of.

use super::{
    facts::Facts,
    frame::{FORMAT, MAX_GROUP_BYTES, u32_at},
    trouble::Trouble,
};
use crate::recording::Hash;
use reprise_machine::TABLE_PAGES;
use std::path::Path;

const MAGIC: [u8; 8] = *b"\x8dREPSNP\n";
const HEADER_BYTES: usize = 52;
/// What the hash in the header is not of: itself.
const HASHED_HEADER_BYTES: usize = 20;
/// No snapshot's file is longer.
pub(super) const MAX_FILE_BYTES: usize = 256 << 20;
/// A TiB of RAM.
pub(super) const MAX_PAGES: u64 = 1 << 28;
/// All sections together, and each list of a disk.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// Content of any length: objects of [`MAX_GROUP_BYTES`], the last may be shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) length: u64,
    pub(super) hashes: Vec<Hash>,
}

/// Everything that a snapshot is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) sections: Vec<(String, Pieces)>,
    /// Pages of RAM.
    pub(super) pages: u64,
    /// Page tables; none: all zero.
    pub(super) tables: Vec<Option<Hash>>,
    pub(super) disks: Vec<(String, DiskRoot)>,
}

/// What a guest has written to a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DiskRoot {
    /// Tables of blocks by their number, ascending.
    pub(super) nodes: Vec<(u64, Hash)>,
    pub(super) zeroes: Pieces,
    pub(super) first_reads: Pieces,
}

/// The whole file. Fails if the facts cannot be told in TOML, or if it would be too long.
pub(super) fn encode(facts: &Facts, root: &Root) -> Result<Vec<u8>, String> {
    let facts = toml::to_string(facts).map_err(|error| error.to_string())?;
    let body = encode_body(root)?;
    if HEADER_BYTES + facts.len() + body.len() > MAX_FILE_BYTES {
        return Err("the machine is too large for a snapshot".to_owned());
    }
    let mut file = Vec::with_capacity(HEADER_BYTES + facts.len() + body.len());
    file.extend_from_slice(&MAGIC);
    for number in [FORMAT, small(facts.len())?, small(body.len())?] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.resize(HEADER_BYTES, 0);
    file.extend_from_slice(facts.as_bytes());
    file.extend_from_slice(&body);
    let hash = hash_of(&file);
    file[HASHED_HEADER_BYTES..HEADER_BYTES].copy_from_slice(&hash.0);
    Ok(file)
}

fn hash_of(file: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file[..HASHED_HEADER_BYTES]).update(&file[HEADER_BYTES..]);
    Hash(*hasher.finalize().as_bytes())
}

/// A file that was edited gets a hash that fits.
#[cfg(test)]
pub(super) fn seal(file: &mut [u8]) {
    if file.len() >= HEADER_BYTES {
        let hash = hash_of(file);
        file[HASHED_HEADER_BYTES..HEADER_BYTES].copy_from_slice(&hash.0);
    }
}

fn encode_body(root: &Root) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put_length(&mut out, root.sections.len())?;
    for (name, pieces) in &root.sections {
        put_name(&mut out, name)?;
        put_pieces(&mut out, pieces);
    }
    if root.pages > MAX_PAGES {
        return Err(format!("{} pages of RAM are more than a snapshot may have", root.pages));
    }
    out.extend_from_slice(&root.pages.to_le_bytes());
    let mut bits = vec![0_u8; root.tables.len().div_ceil(8)];
    let present = || root.tables.iter().enumerate().filter_map(|(at, hash)| hash.map(|hash| (at, hash)));
    present().for_each(|(at, _)| bits[at / 8] |= 1 << (at % 8));
    out.extend_from_slice(&bits);
    present().for_each(|(_, hash)| out.extend_from_slice(&hash.0));
    put_length(&mut out, root.disks.len())?;
    for (port, disk) in &root.disks {
        put_name(&mut out, port)?;
        put_length(&mut out, disk.nodes.len())?;
        for (number, hash) in &disk.nodes {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&hash.0);
        }
        put_pieces(&mut out, &disk.zeroes);
        put_pieces(&mut out, &disk.first_reads);
    }
    Ok(out)
}

fn small(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| "the machine is too large for a snapshot".to_owned())
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), String> {
    out.extend_from_slice(&small(length)?.to_le_bytes());
    Ok(())
}

fn put_name(out: &mut Vec<u8>, name: &str) -> Result<(), String> {
    put_length(out, name.len())?;
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

fn put_pieces(out: &mut Vec<u8>, pieces: &Pieces) {
    out.extend_from_slice(&pieces.length.to_le_bytes());
    pieces.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
}

/// Facts and hashes of a file. `name` names it in messages.
pub(super) fn decode(file: &[u8], name: &Path) -> Result<(Facts, Root), Trouble> {
    let damage = |offset: usize, what: &str| Trouble::damage(name, Some(offset as u64), what);
    if file.len() < HEADER_BYTES || file[..8] != MAGIC {
        return Err(damage(0, "this is no snapshot"));
    }
    let format = u32_at(file, 8);
    if format > FORMAT {
        return Err(Trouble::TooNew { file: name.to_owned(), format, known: FORMAT });
    }
    if hash_of(file).0 != file[HASHED_HEADER_BYTES..HEADER_BYTES] || format != FORMAT {
        return Err(damage(0, "it is not as it was written: its hash is another"));
    }
    let (facts_bytes, body_bytes) = (u64::from(u32_at(file, 12)), u64::from(u32_at(file, 16)));
    if HEADER_BYTES as u64 + facts_bytes + body_bytes != file.len() as u64 {
        return Err(damage(12, "the lengths of its parts are not its own"));
    }
    let body_at = HEADER_BYTES + facts_bytes as usize;
    let text = std::str::from_utf8(&file[HEADER_BYTES..body_at])
        .map_err(|_| damage(HEADER_BYTES, "the facts are not text"))?;
    let facts = toml::from_str(text).map_err(|error| damage(HEADER_BYTES, error.message()))?;
    let mut body = Body { bytes: file, at: body_at };
    match body.root() {
        Ok(root) => Ok((facts, root)),
        Err(what) => Err(damage(body.at, what)),
    }
}

/// The hashes' part of a file.
struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Body<'a> {
    fn root(&mut self) -> Result<Root, &'static str> {
        let mut root = Root::default();
        let mut total = 0_u64;
        for _ in 0..self.u32()? {
            let section = (self.name()?, self.pieces()?);
            total += section.1.length;
            if total > MAX_BYTES {
                return Err("the sections are longer than they may be");
            }
            root.sections.push(section);
        }
        root.pages = self.u64()?;
        if root.pages > MAX_PAGES {
            return Err("it has more RAM than a machine may have");
        }
        root.tables = self.tables(root.pages.div_ceil(TABLE_PAGES as u64) as usize)?;
        for _ in 0..self.u32()? {
            let port = self.name()?;
            let disk = DiskRoot { nodes: self.nodes()?, zeroes: self.pieces()?, first_reads: self.pieces()? };
            root.disks.push((port, disk));
        }
        if self.at < self.bytes.len() { Err("something follows the end") } else { Ok(root) }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        let taken = self.bytes[self.at..].get(..bytes).ok_or("it ends too early")?;
        self.at += bytes;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32_at(self.take(4)?, 0))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        let mut value = [0; 8];
        value.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(value))
    }

    fn hash(&mut self) -> Result<Hash, &'static str> {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.take(32)?);
        Ok(Hash(hash))
    }

    fn name(&mut self) -> Result<String, &'static str> {
        let length = self.u32()? as usize;
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| "a name is not text")?;
        Ok(name.to_owned())
    }

    fn pieces(&mut self) -> Result<Pieces, &'static str> {
        let length = self.u64()?;
        if length > MAX_BYTES {
            return Err("a content is longer than it may be");
        }
        let mut hashes = Vec::new();
        for _ in 0..length.div_ceil(MAX_GROUP_BYTES as u64) {
            hashes.push(self.hash()?);
        }
        Ok(Pieces { length, hashes })
    }

    fn tables(&mut self, count: usize) -> Result<Vec<Option<Hash>>, &'static str> {
        let bits = self.take(count.div_ceil(8))?;
        if bits.last().is_some_and(|last| !count.is_multiple_of(8) && last >> (count % 8) != 0) {
            return Err("it has page tables behind the end of RAM");
        }
        let mut tables = Vec::with_capacity(count);
        for at in 0..count {
            let is_there = bits[at / 8] & 1 << (at % 8) != 0;
            tables.push(if is_there { Some(self.hash()?) } else { None });
        }
        Ok(tables)
    }

    fn nodes(&mut self) -> Result<Vec<(u64, Hash)>, &'static str> {
        let mut nodes: Vec<(u64, Hash)> = Vec::new();
        for _ in 0..self.u32()? {
            let number = self.u64()?;
            if nodes.last().is_some_and(|(before, _)| *before >= number) {
                return Err("tables of blocks are out of order");
            }
            nodes.push((number, self.hash()?));
        }
        Ok(nodes)
    }
}
