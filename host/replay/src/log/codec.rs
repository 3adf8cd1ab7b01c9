//! Records as bytes: a tag, what time did since the record before, and the payload in varints.

use super::format::{MAX_DATA_BYTES, NEEDS};
use crate::{Control, EndReason, Entry, Event, PortChange, Position, Record, Seed, StateDigest};

/// Tag: the low bits say what, two flags spare the deltas that are zero.
const KIND_MASK: u8 = 0x3f;
const SAME_VTIME: u8 = 0x40;
const SAME_ICOUNT: u8 = 0x80;

const KIND_INPUT: u8 = 0;
const KIND_PORT_CHANGE: u8 = 1;
const KIND_CONTROL: u8 = 2;
const KIND_BOTTOM_HALF: u8 = 3;
const KIND_BOTTOM_HALF_ONESHOT: u8 = 4;
const KIND_HOST_CLOCK: u8 = 5;
const KIND_SEED: u8 = 6;
const KIND_DIGEST: u8 = 7;
const KIND_END: u8 = 8;
const KIND_WRITE_MEMORY: u8 = 9;
const KIND_WRITE_REGISTER: u8 = 10;
const KIND_DISK_BLOCK: u8 = 11;
const KIND_DIGEST_PARTS: u8 = 12;
const KIND_END_CHAIN: u8 = 13;

/// Kinds that format 2 has others for.
const ONLY_1: [u8; 2] = [KIND_DIGEST, KIND_END];

/// Sections of a state that a digest may have parts for.
const MAX_PARTS: u64 = 4096;

/// Where the log stands between two records. Every chunk begins with one, so that it can be read alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Records so far.
    pub(super) records: u64,
    pub(super) vtime_ns: u64,
    /// The order that the next event at this time gets.
    pub(super) order: u32,
    pub(super) icount: u64,
    /// What the host's clock said last: the next reading is near it.
    pub(super) clock_ns: u64,
}

impl Place {
    /// The place at which a log begins whose first record is `first`.
    pub(super) fn before(first: &Record) -> Place {
        let Position { vtime_ns, order } = first.position;
        Place { records: 0, vtime_ns, order, icount: first.icount, clock_ns: 0 }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Place { records, vtime_ns, order, icount, clock_ns } = *self;
        [records, vtime_ns, u64::from(order), icount, clock_ns].iter().for_each(|&v| put_varint(out, v));
    }

    pub(super) fn decode(input: &mut Input<'_>) -> Result<Place, &'static str> {
        Ok(Place {
            records: input.varint()?,
            vtime_ns: input.varint()?,
            order: input.varint_u32()?,
            icount: input.varint()?,
            clock_ns: input.varint()?,
        })
    }

    /// The position of what comes next at `vtime_ns`.
    fn position_at(&self, vtime_ns: u64) -> Position {
        let order = if vtime_ns == self.vtime_ns { self.order } else { 0 };
        Position { vtime_ns, order }
    }

    /// Move behind `record`. `None` if its order leaves no room for another.
    fn pass(&mut self, record: &Record) -> Option<()> {
        let Position { vtime_ns, order } = record.position;
        self.records += 1;
        self.vtime_ns = vtime_ns;
        self.icount = record.icount;
        self.order = match &record.entry {
            Entry::Event(event) => {
                if let Event::HostClock { value_ns } = event {
                    self.clock_ns = *value_ns;
                }
                order.checked_add(1)?
            }
            Entry::Seed(_) | Entry::DiskBlock { .. } | Entry::Digest { .. } | Entry::End { .. } => order,
        };
        Some(())
    }
}

/// Append `record`, which comes at `place`, to `out`.
///
/// # Panics
/// If the record does not follow the place: the gate stamps in order, so that is our bug.
pub(super) fn encode(record: &Record, place: &mut Place, out: &mut Vec<u8>) {
    let Position { vtime_ns, .. } = record.position;
    assert!(
        vtime_ns >= place.vtime_ns && record.icount >= place.icount,
        "{record:?} lies before {place:?}, where the log stands"
    );
    assert_eq!(record.position, place.position_at(vtime_ns), "positions have no gaps");
    let (kind, same_vtime) = (kind_of(&record.entry), vtime_ns == place.vtime_ns);
    let same_icount = record.icount == place.icount;
    let flags = if same_vtime { SAME_VTIME } else { 0 } | if same_icount { SAME_ICOUNT } else { 0 };
    out.push(kind | flags);
    if !same_vtime {
        put_varint(out, vtime_ns - place.vtime_ns);
    }
    if !same_icount {
        put_varint(out, record.icount - place.icount);
    }
    encode_entry(&record.entry, place, out);
    place.pass(record).expect("fewer than 2^32 events at one instruction");
}

fn kind_of(entry: &Entry) -> u8 {
    match entry {
        Entry::Event(Event::Input { .. }) => KIND_INPUT,
        Entry::Event(Event::PortChange { .. }) => KIND_PORT_CHANGE,
        Entry::Event(Event::Control(_)) => KIND_CONTROL,
        Entry::Event(Event::BottomHalf { oneshot: false, .. }) => KIND_BOTTOM_HALF,
        Entry::Event(Event::BottomHalf { oneshot: true, .. }) => KIND_BOTTOM_HALF_ONESHOT,
        Entry::Event(Event::WriteMemory { .. }) => KIND_WRITE_MEMORY,
        Entry::Event(Event::WriteRegister { .. }) => KIND_WRITE_REGISTER,
        Entry::Event(Event::HostClock { .. }) => KIND_HOST_CLOCK,
        Entry::Seed(_) => KIND_SEED,
        Entry::DiskBlock { .. } => KIND_DISK_BLOCK,
        Entry::Digest(_) => KIND_DIGEST_PARTS,
        Entry::End { .. } => KIND_END_CHAIN,
    }
}

fn encode_entry(entry: &Entry, place: &Place, out: &mut Vec<u8>) {
    match entry {
        Entry::Event(Event::Input { device, port, data }) => {
            [u64::from(*device), u64::from(*port), data.len() as u64]
                .iter()
                .for_each(|&v| put_varint(out, v));
            out.extend_from_slice(data);
        }
        Entry::Event(Event::PortChange { device, port, change }) => {
            [u64::from(*device), u64::from(*port)].iter().for_each(|&v| put_varint(out, v));
            out.push(match change {
                PortChange::Opened => 0,
                PortChange::Closed => 1,
                PortChange::Break => 2,
            });
        }
        Entry::Event(Event::Control(control)) => out.push(match control {
            Control::Reset => 0,
            Control::PowerOff => 1,
            Control::Nmi => 2,
        }),
        Entry::Event(Event::BottomHalf { device, bh, oneshot: _ }) => {
            [u64::from(*device), u64::from(*bh)].iter().for_each(|&v| put_varint(out, v));
        }
        Entry::Event(Event::WriteMemory { gpa, data }) => {
            [*gpa, data.len() as u64].iter().for_each(|&v| put_varint(out, v));
            out.extend_from_slice(data);
        }
        Entry::Event(Event::WriteRegister { hart, register, value }) => {
            [u64::from(*hart), u64::from(*register), *value].iter().for_each(|&v| put_varint(out, v));
        }
        Entry::Event(Event::HostClock { value_ns }) => {
            put_varint(out, zigzag(value_ns.wrapping_sub(place.clock_ns)));
        }
        Entry::Seed(seed) => out.extend_from_slice(&seed.0),
        Entry::DiskBlock { device, port, block, hash } => {
            [u64::from(*device), u64::from(*port), *block].iter().for_each(|&v| put_varint(out, v));
            out.extend_from_slice(hash);
        }
        Entry::Digest(StateDigest { whole, parts }) => {
            out.extend_from_slice(whole);
            put_varint(out, parts.len() as u64);
            parts.iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
        }
        Entry::End { reason, chain } => {
            encode_end(*reason, out);
            out.extend_from_slice(chain);
        }
    }
}

fn encode_end(reason: EndReason, out: &mut Vec<u8>) {
    let (tag, code) = match reason {
        EndReason::PowerOff { code } => (0, code),
        EndReason::Stopped => (1, 0),
        EndReason::Limit => (2, 0),
        EndReason::Deadlock => (3, 0),
        EndReason::PluginFault => (4, 0),
        EndReason::ResetFailed => (5, 0),
    };
    out.push(tag);
    put_varint(out, u64::from(code));
}

/// The oldest format whose readers understand a record.
pub(super) fn needs(entry: &Entry) -> u16 {
    match entry {
        Entry::Event(Event::Control(Control::Nmi)) => 3,
        Entry::Event(_) | Entry::Seed(_) | Entry::Digest(_) | Entry::DiskBlock { .. } | Entry::End { .. } => {
            NEEDS
        }
    }
}

/// Read the record at `place`, of a log of format `version`.
pub(super) fn decode(input: &mut Input<'_>, place: &mut Place, version: u16) -> Result<Record, &'static str> {
    let tag = input.byte()?;
    let vtime_delta = delta(input, tag & SAME_VTIME != 0)?;
    let icount_delta = delta(input, tag & SAME_ICOUNT != 0)?;
    let vtime_ns = place.vtime_ns.checked_add(vtime_delta).ok_or("time runs over")?;
    let icount = place.icount.checked_add(icount_delta).ok_or("the instruction count runs over")?;
    let kind = tag & KIND_MASK;
    // Each format has one encoding of a digest and of an end.
    if (version < 2) != ONLY_1.contains(&kind) && (kind > KIND_SEED) {
        return Err("unknown kind of record");
    }
    let entry = decode_entry(kind, input, place, version)?;
    let record = Record { position: place.position_at(vtime_ns), icount, entry };
    place.pass(&record).ok_or("too many events at one time")?;
    Ok(record)
}

fn delta(input: &mut Input<'_>, same: bool) -> Result<u64, &'static str> {
    match same {
        true => Ok(0),
        // One record has one encoding.
        false => {
            input.varint().and_then(|v| if v == 0 { Err("a delta of zero is written out") } else { Ok(v) })
        }
    }
}

fn decode_entry(kind: u8, input: &mut Input<'_>, place: &Place, version: u16) -> Result<Entry, &'static str> {
    Ok(match kind {
        KIND_INPUT => {
            let (device, port, length) = (input.varint_u32()?, input.varint_u32()?, input.varint()?);
            let length = usize::try_from(length).ok().filter(|&n| n <= MAX_DATA_BYTES);
            let data = input.take(length.ok_or("an input is too long")?)?.to_vec();
            Entry::Event(Event::Input { device, port, data })
        }
        KIND_PORT_CHANGE => {
            let (device, port) = (input.varint_u32()?, input.varint_u32()?);
            let change = match input.byte()? {
                0 => PortChange::Opened,
                1 => PortChange::Closed,
                2 => PortChange::Break,
                _ => return Err("unknown change of a port"),
            };
            Entry::Event(Event::PortChange { device, port, change })
        }
        KIND_CONTROL => Entry::Event(Event::Control(match input.byte()? {
            0 => Control::Reset,
            1 => Control::PowerOff,
            2 if version >= 3 => Control::Nmi,
            _ => return Err("unknown control"),
        })),
        KIND_BOTTOM_HALF | KIND_BOTTOM_HALF_ONESHOT => {
            let (device, bh) = (input.varint_u32()?, input.varint_u32()?);
            let oneshot = kind == KIND_BOTTOM_HALF_ONESHOT;
            Entry::Event(Event::BottomHalf { device, bh, oneshot })
        }
        KIND_HOST_CLOCK => {
            let value_ns = place.clock_ns.wrapping_add(unzigzag(input.varint()?));
            Entry::Event(Event::HostClock { value_ns })
        }
        KIND_SEED => Entry::Seed(Seed(input.array()?)),
        // Format 1 had neither parts nor a chain.
        KIND_DIGEST => Entry::Digest(StateDigest { whole: input.array()?, parts: Vec::new() }),
        KIND_END => Entry::End { reason: decode_end(input)?, chain: [0; 32] },
        KIND_WRITE_MEMORY => {
            let (gpa, length) = (input.varint()?, input.varint()?);
            let length = usize::try_from(length).ok().filter(|&n| n <= MAX_DATA_BYTES);
            let data = input.take(length.ok_or("a write is too long")?)?.to_vec();
            Entry::Event(Event::WriteMemory { gpa, data })
        }
        KIND_WRITE_REGISTER => {
            let (hart, register, value) = (input.varint_u32()?, input.varint_u32()?, input.varint()?);
            Entry::Event(Event::WriteRegister { hart, register, value })
        }
        KIND_DISK_BLOCK => {
            let (device, port, block) = (input.varint_u32()?, input.varint_u32()?, input.varint()?);
            Entry::DiskBlock { device, port, block, hash: input.array()? }
        }
        KIND_DIGEST_PARTS => Entry::Digest(decode_digest(input)?),
        KIND_END_CHAIN => Entry::End { reason: decode_end(input)?, chain: input.array()? },
        _ => return Err("unknown kind of record"),
    })
}

fn decode_digest(input: &mut Input<'_>) -> Result<StateDigest, &'static str> {
    let whole = input.array()?;
    let count = input.varint()?;
    if count > MAX_PARTS {
        return Err("a digest has too many parts");
    }
    let part = |_| input.array::<4>().map(u32::from_le_bytes);
    Ok(StateDigest { whole, parts: (0..count).map(part).collect::<Result<_, _>>()? })
}

fn decode_end(input: &mut Input<'_>) -> Result<EndReason, &'static str> {
    let (tag, code) = (input.byte()?, input.varint_u32()?);
    match (tag, code) {
        (0, code) => Ok(EndReason::PowerOff { code }),
        (1, 0) => Ok(EndReason::Stopped),
        (2, 0) => Ok(EndReason::Limit),
        (3, 0) => Ok(EndReason::Deadlock),
        (4, 0) => Ok(EndReason::PluginFault),
        (5, 0) => Ok(EndReason::ResetFailed),
        _ => Err("unknown end"),
    }
}

/// A wrapping difference with small numbers for small steps either way.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference >> 63).wrapping_neg())
}

fn unzigzag(coded: u64) -> u64 {
    (coded >> 1) ^ ((coded & 1).wrapping_neg())
}

/// LEB128, least significant seven bits first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Bytes that a stranger may have made.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Input { rest: bytes }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn varint_u32(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.varint()?).map_err(|_| "a number is too large")
    }

    pub(super) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number is too large");
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err("a number is padded") } else { Ok(value) };
            }
        }
        Err("a number is too large")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_encoding() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut input = Input::new(&bytes);
            assert_eq!((input.varint(), input.left()), (Ok(value), 0));
        }
        for bad in [&[0x80, 0x00][..], &[0xff; 9], &[0xff; 10], &[0xff, 0xff], &[]] {
            assert!(Input::new(bad).varint().is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn zigzag_makes_small_steps_small() {
        for (difference, coded) in [(0, 0), (u64::MAX, 1), (1, 2), (1 << 63, u64::MAX)] {
            assert_eq!(zigzag(difference), coded);
            assert_eq!(unzigzag(coded), difference);
        }
    }

    #[test]
    fn controls_are_as_old_as_their_format() {
        let control = |byte, version| {
            let bytes = [KIND_CONTROL | SAME_VTIME | SAME_ICOUNT, byte];
            decode(&mut Input::new(&bytes), &mut Place::default(), version).map(|record| record.entry)
        };
        for version in 1..=3 {
            assert_eq!(control(1, version), Ok(Entry::Event(Event::Control(Control::PowerOff))));
            assert_eq!(control(3, version), Err("unknown control"));
        }
        assert_eq!((control(2, 1), control(2, 2)), (Err("unknown control"), Err("unknown control")));
        assert_eq!(control(2, 3), Ok(Entry::Event(Event::Control(Control::Nmi))));
    }

    #[test]
    fn every_tag_that_means_nothing_is_refused() {
        let end = KIND_END_CHAIN + 1..=KIND_MASK;
        let of_1 = (KIND_END + 1..=KIND_MASK).map(|kind| (kind, 1));
        for (kind, version) in of_1.chain(end.chain(ONLY_1).flat_map(|kind| [(kind, 2), (kind, 3)])) {
            let bytes = [kind | SAME_VTIME | SAME_ICOUNT; 64];
            let decoded = decode(&mut Input::new(&bytes), &mut Place::default(), version);
            assert_eq!(decoded, Err("unknown kind of record"), "kind {kind} of format {version}");
        }
    }
}
