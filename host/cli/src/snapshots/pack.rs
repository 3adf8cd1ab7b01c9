//! A pack: a file of groups, only ever added to. Reading one trusts nothing.

use super::{
    frame::{Entry, FORMAT, FRAME_HEADER_BYTES, FrameHeader, PACK_HEADER_BYTES, pack_format},
    trouble::{Damage, Trouble},
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use zstd::bulk::Decompressor;

/// Bytes that can be read anywhere.
pub(super) trait Source {
    fn length(&self) -> io::Result<u64>;
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, into, offset)
    }
}

/// A part of a file: a pack in a packed recording.
pub(crate) struct Part {
    pub(crate) file: File,
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Source for Part {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        match end.is_some_and(|end| end <= self.length) {
            true => FileExt::read_exact_at(&self.file, into, self.start + offset),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
impl Source for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An open pack.
pub(super) struct Pack<S> {
    file: PathBuf,
    source: S,
    frames: Vec<Frame>,
    /// One behind the last whole frame.
    end: u64,
    tail: Tail,
}

/// A group's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) offset: u64,
    header: FrameHeader,
}

/// What is behind the last whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Nothing,
    /// The beginning of a frame: writing was interrupted, and no snapshot needs it.
    Torn,
    /// Something else. What follows cannot be found any more.
    Damaged(Damage),
}

impl<S: Source> Pack<S> {
    /// Go through the frames' headers. `tell` is called for each frame with its index.
    pub(super) fn scan(file: &Path, source: S, mut tell: impl FnMut(u32, &[Entry])) -> Result<Self, Trouble> {
        let length = source.length().map_err(Trouble::io("cannot read the pack", file))?;
        let mut pack =
            Self { file: file.to_owned(), source, frames: Vec::new(), end: 0, tail: Tail::Nothing };
        if length < PACK_HEADER_BYTES as u64 {
            pack.tail = Tail::Torn;
            return Ok(pack);
        }
        let mut header = [0; PACK_HEADER_BYTES];
        pack.read(&mut header, 0)?;
        let format = match pack_format(&header) {
            Ok(format) => format,
            Err(why) => {
                pack.tail = pack.no_frame(length, why)?;
                return Ok(pack);
            }
        };
        if format != FORMAT {
            return Err(Trouble::TooNew { file: pack.file, format, known: FORMAT });
        }
        pack.end = PACK_HEADER_BYTES as u64;
        while pack.end < length {
            match pack.frame(length)? {
                Ok((frame, entries)) => {
                    let index = u32::try_from(pack.frames.len()).unwrap_or(u32::MAX);
                    tell(index, &entries);
                    pack.push(frame.header);
                }
                Err(tail) => {
                    pack.tail = tail;
                    break;
                }
            }
        }
        Ok(pack)
    }

    /// The frame behind the last one, or why there is none.
    fn frame(&self, length: u64) -> Result<Result<(Frame, Vec<Entry>), Tail>, Trouble> {
        let left = length - self.end;
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(Err(Tail::Torn));
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        self.read(&mut header, self.end)?;
        let header = match FrameHeader::parse(&header) {
            Ok(header) => header,
            Err(why) => return self.no_frame(length, why).map(Err),
        };
        if header.frame_bytes() > left {
            return Ok(Err(Tail::Torn));
        }
        let mut directory = vec![0; header.directory_bytes()];
        self.read(&mut directory, self.end + FRAME_HEADER_BYTES as u64)?;
        match header.directory(&directory) {
            Ok(entries) => Ok(Ok((Frame { offset: self.end, header }, entries))),
            Err(why) => Ok(Err(Tail::Damaged(Damage::new(&self.file, Some(self.end), why)))),
        }
    }

    /// Zeroes are what a power cut leaves of a write.
    fn no_frame(&self, length: u64, why: &str) -> Result<Tail, Trouble> {
        let mut buffer = [0; 4096];
        let mut at = self.end;
        while at < length {
            let part = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
            self.read(&mut buffer[..part], at)?;
            if buffer[..part].iter().any(|&byte| byte != 0) {
                return Ok(Tail::Damaged(Damage::new(&self.file, Some(self.end), why)));
            }
            at += part as u64;
        }
        Ok(Tail::Torn)
    }

    /// A frame was written at the end.
    pub(super) fn push(&mut self, header: FrameHeader) {
        self.frames.push(Frame { offset: self.end, header });
        self.end += header.frame_bytes();
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// What its frames decompress to.
    pub(super) fn raw_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.header.raw_bytes() as u64).sum()
    }

    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Only the first frames are left.
    pub(super) fn truncate(&mut self, frames: usize) {
        if let Some(frame) = self.frames.get(frames) {
            self.end = frame.offset;
            self.frames.truncate(frames);
        }
    }

    fn read(&self, into: &mut [u8], offset: u64) -> Result<(), Trouble> {
        self.source.read_exact_at(into, offset).map_err(Trouble::io("cannot read the pack", &self.file))
    }

    /// What is wrong at a frame.
    pub(super) fn damage(&self, frame: u32, what: impl Into<String>) -> Trouble {
        let offset = self.frames.get(frame as usize).map(|frame| frame.offset);
        Trouble::damage(&self.file, offset, what)
    }

    /// Get the objects of a frame, one behind the other. Their hashes are for the caller to check.
    pub(super) fn unpack(&self, frame: u32, unpack: &mut Unpacker) -> Result<(), Trouble> {
        let Frame { offset, header } = self.frames[frame as usize];
        let body = part(&mut unpack.body, header.body_bytes());
        self.read(body, offset + header.body_offset())?;
        if !header.is_body(body) {
            return Err(self.damage(frame, "a group does not match its checksum"));
        }
        unpack.raw_bytes = header.raw_bytes();
        let raw = part(&mut unpack.raw, unpack.raw_bytes);
        match unpack.zstd.decompress_to_buffer(body, raw) {
            Ok(bytes) if bytes == header.raw_bytes() => Ok(()),
            Ok(_) => Err(self.damage(frame, "a group is shorter than its header says")),
            Err(_) => Err(self.damage(frame, "a group cannot be decompressed")),
        }
    }

    /// Whether a frame's body is what was written.
    pub(super) fn is_whole(&self, frame: u32, unpack: &mut Unpacker) -> Result<bool, Trouble> {
        let Frame { offset, header } = self.frames[frame as usize];
        let body = part(&mut unpack.body, header.body_bytes());
        self.read(body, offset + header.body_offset())?;
        Ok(header.is_body(body))
    }

    /// What a frame says is in it.
    pub(super) fn directory(&self, frame: u32) -> Result<Vec<Entry>, Trouble> {
        let Frame { offset, header } = self.frames[frame as usize];
        let mut directory = vec![0; header.directory_bytes()];
        self.read(&mut directory, offset + FRAME_HEADER_BYTES as u64)?;
        header.directory(&directory).map_err(|why| self.damage(frame, why))
    }
}

impl Pack<File> {
    /// It is written to from here on, and has nothing behind its last frame.
    pub(super) fn is_ours(&mut self, file: File) {
        self.source = file;
        self.tail = Tail::Nothing;
    }
}

/// Memory for decompressing, kept from group to group.
pub(super) struct Unpacker {
    body: Vec<u8>,
    raw: Vec<u8>,
    raw_bytes: usize,
    zstd: Decompressor<'static>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        let zstd = Decompressor::new().expect("memory for a decompressor");
        Self { body: Vec::new(), raw: Vec::new(), raw_bytes: 0, zstd }
    }

    /// What was unpacked last.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw[..self.raw_bytes]
    }
}

/// The first bytes of a buffer, whatever is in it.
fn part(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        *buffer = vec![0; bytes];
    }
    &mut buffer[..bytes]
}
