//! DNS on the wire: as much of it as a forwarder must understand. RFC 1035 §4, EDNS by RFC 6891.

use crate::service::reader::Reader;

pub(super) const HEADER_BYTES: usize = 12;
/// What everybody takes by UDP (RFC 1035 §4.2.1), and what nobody is sent more than.
pub(super) const UDP_LEAST: u16 = 512;
pub(super) const UDP_MOST: u16 = 4096;
/// No question that makes sense is longer, with its cookies and padding.
pub(super) const QUESTION_MOST: usize = 4096;

/// Record types.
pub(super) mod record {
    pub(in super::super) const A: u16 = 1;
    pub(in super::super) const PTR: u16 = 12;
    pub(in super::super) const AAAA: u16 = 28;
    pub(in super::super) const OPT: u16 = 41;
    pub(in super::super) const IXFR: u16 = 251;
    pub(in super::super) const AXFR: u16 = 252;
    pub(in super::super) const ANY: u16 = 255;
}

/// The class of the internet.
pub(super) const IN: u16 = 1;

const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

/// What is wrong with a question, or with what was to be had for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// A message that asks one thing.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) id: u16,
    /// Lower case, labels with periods between them; bytes that are no letters of names are escaped.
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Where the question ends in the message.
    pub(super) end: usize,
    /// Where EDNS has the length of UDP messages, if it is there.
    pub(super) edns_at: Option<usize>,
    /// The longest answer by UDP.
    pub(super) udp_most: u16,
}

/// Why a message is no question that can be forwarded.
pub(super) enum Unasked {
    /// Nothing to answer: too short, or an answer itself.
    Silence,
    /// Answer this.
    Answer(Code),
}

impl<'a> Question<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Unasked> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Unasked::Silence)?;
        if header[2] & QR != 0 {
            return Err(Unasked::Silence);
        }
        if header[2] & OPCODE != 0 {
            return Err(Unasked::Answer(Code::NotImp));
        }
        let wrong = || Unasked::Answer(Code::FormErr);
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if bytes.len() > QUESTION_MOST || count(4) != 1 || count(6) != 0 || count(8) != 0 {
            return Err(wrong());
        }
        let mut reader = Reader(&bytes[HEADER_BYTES..]);
        let name = name(&mut reader).ok_or_else(wrong)?;
        let kind = reader.u16().ok_or_else(wrong)?;
        let class = reader.u16().ok_or_else(wrong)?;
        let end = bytes.len() - reader.0.len();
        let edns_at = edns(bytes, reader, count(10)).ok_or_else(wrong)?;
        let udp_most = edns_at.map_or(UDP_LEAST, |at| u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let udp_most = udp_most.clamp(UDP_LEAST, UDP_MOST);
        Ok(Self { bytes, id: count(0), name, kind, class, end, edns_at, udp_most })
    }

    /// The message for a server: its own id, and no larger answers than fit the guest.
    pub(super) fn rewritten(&self, id: u16) -> Vec<u8> {
        let mut out = self.bytes.to_vec();
        out[..2].copy_from_slice(&id.to_be_bytes());
        if let Some(at) = self.edns_at {
            out[at..at + 2].copy_from_slice(&self.udp_most.to_be_bytes());
        }
        out
    }

    /// An answer with these records: each a type and its data, all at the name that was asked for.
    pub(super) fn answer(&self, code: Code, records: &[(u16, Vec<u8>)], ttl_s: u32) -> Vec<u8> {
        let flags =
            [QR | AUTHORITATIVE | (self.bytes[2] & RECURSION_DESIRED), RECURSION_AVAILABLE | code as u8];
        let mut out = self.bytes[..2].to_vec();
        out.extend_from_slice(&flags);
        let additional = u16::from(self.edns_at.is_some());
        for count in [1, records.len() as u16, 0, additional] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.extend_from_slice(&self.bytes[HEADER_BYTES..self.end]);
        for (kind, data) in records {
            // A pointer to the question's name.
            out.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&IN.to_be_bytes());
            out.extend_from_slice(&ttl_s.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        if additional == 1 {
            out.push(0);
            out.extend_from_slice(&record::OPT.to_be_bytes());
            out.extend_from_slice(&UDP_MOST.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
        out
    }

    /// An answer that says only how it went.
    pub(super) fn refusal(&self, code: Code) -> Vec<u8> {
        let mut out = self.answer(code, &[], 0);
        out[2] &= !AUTHORITATIVE;
        out
    }
}

/// The answer to what could not be read: the header alone.
pub(super) fn bare_refusal(bytes: &[u8], code: Code) -> Vec<u8> {
    let mut out = bytes[..HEADER_BYTES].to_vec();
    out[2] = QR | (out[2] & (OPCODE | RECURSION_DESIRED));
    out[3] = RECURSION_AVAILABLE | code as u8;
    out[4..].fill(0);
    out
}

/// A name without compression, which questions cannot have.
fn name(reader: &mut Reader<'_>) -> Option<String> {
    let (mut text, mut bytes) = (String::new(), 0);
    loop {
        let length = usize::from(reader.u8()?);
        bytes += 1 + length;
        if length > 63 || bytes > 255 {
            return None;
        }
        if length == 0 {
            return Some(text);
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in reader.take(length)? {
            match byte {
                // A period within a label must not look like one between two.
                b'.' | b'\\' | 0..=b' ' | 0x7f.. => text.push_str(&format!("\\{byte:03}")),
                _ => text.push(char::from(byte.to_ascii_lowercase())),
            }
        }
    }
}

/// Looks for EDNS among the additional records: where its length is. `None`: the records are not whole.
fn edns(bytes: &[u8], mut reader: Reader<'_>, records: u16) -> Option<Option<usize>> {
    let mut found = None;
    // TSIG and a cookie's OPT are the most that a client adds.
    if records > 4 {
        return None;
    }
    for _ in 0..records {
        let name = name(&mut reader)?;
        let kind = reader.u16()?;
        let at = bytes.len() - reader.0.len();
        reader.take(6)?;
        let length = reader.u16()?;
        reader.take(usize::from(length))?;
        if kind == record::OPT {
            // RFC 6891 §6.1.1: one, at the root.
            if found.is_some() || !name.is_empty() {
                return None;
            }
            found = Some(at);
        }
    }
    reader.is_empty().then_some(found)
}

/// Whether `answer` is one to the message `asked`, whose question ends at `end`: same id, and the question echoed.
pub(super) fn answers(answer: &[u8], asked: &[u8], end: usize) -> bool {
    let Some(header) = answer.first_chunk::<HEADER_BYTES>() else { return false };
    let same = header[..2] == asked[..2] && header[2] & QR != 0 && header[2] & OPCODE == 0;
    let code = header[3] & 0x0f;
    let echoed = match u16::from_be_bytes([header[4], header[5]]) {
        1 => answer
            .get(HEADER_BYTES..end)
            .is_some_and(|echo| echo.eq_ignore_ascii_case(&asked[HEADER_BYTES..end])),
        // Servers that understood nothing repeat nothing.
        0 => code != Code::NoError as u8 && code != Code::NxDomain as u8,
        _ => false,
    };
    same && echoed
}

/// Whether another server may know better.
pub(super) fn server_failed(answer: &[u8]) -> bool {
    let code = answer[3] & 0x0f;
    [Code::ServFail, Code::NotImp, Code::Refused].iter().any(|failed| *failed as u8 == code)
}

/// The answer for the guest: its id, and no longer than it takes. `most` is for UDP only.
pub(super) fn for_guest(answer: &[u8], id: u16, question_end: usize, most: Option<u16>) -> Vec<u8> {
    let mut out = answer.to_vec();
    out[..2].copy_from_slice(&id.to_be_bytes());
    if most.is_some_and(|most| out.len() > usize::from(most)) {
        // RFC 2181 §9: the guest asks again by TCP.
        let echoed = u16::from_be_bytes([out[4], out[5]]) == 1;
        out.truncate(if echoed { question_end } else { HEADER_BYTES });
        out[2] |= TRUNCATED;
        out[6..HEADER_BYTES].fill(0);
    }
    out
}
