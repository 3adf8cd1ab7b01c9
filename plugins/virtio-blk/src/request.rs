//! From a chain to what the host has to do. §5.2.6.

use crate::SECTOR;
use reprise_plugin_api::{
    BlockInfo, Ctx, DeviceState,
    virtio::{Chain, Violation},
};
use std::collections::VecDeque;

/// Type, a reserved word, sector. §5.2.6.
pub(crate) const HEADER_BYTES: u64 = 16;
/// The longest transfer in one step: what the host holds in memory for it.
const MAX_STEP_BYTES: u64 = 4 << 20;
/// The longest discarded range, in sectors: 2 GiB. Nothing is transferred, so it may be long.
pub(crate) const MAX_DISCARD_SECTORS: u32 = 1 << 22;
/// The longest zeroed range, in sectors: 32 MiB. A host without holes in its files has to write it.
pub(crate) const MAX_ZEROES_SECTORS: u32 = 1 << 16;
/// Ranges in one discard or write-zeroes request.
pub(crate) const MAX_RANGES: u32 = 16;
/// `struct virtio_blk_discard_write_zeroes`. §5.2.6.
const RANGE_BYTES: u64 = 16;
/// Flag of a range. §5.2.6.
const RANGE_UNMAP: u32 = 1;
/// Answer to [`GET_ID`] in bytes. §5.2.6.
const ID_BYTES: u64 = 20;

/// Request types. §5.2.6.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// The last byte of a request. §5.2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Ok = 0,
    /// Failed, or not allowed.
    IoErr = 1,
    /// Not known here.
    Unsupp = 2,
}

/// What a step does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
pub(crate) enum Op {
    #[default]
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    /// Write zeroes, and the space may be given back.
    Unmap,
}

/// One request to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
pub(crate) struct Step {
    pub(crate) op: Op,
    /// On the disk, in bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) len: u64,
    /// Where its data is in the request's, in bytes.
    pub(crate) at: u64,
}

impl Step {
    fn transfers(&self) -> bool {
        matches!(self.op, Op::Read | Op::Write)
    }

    fn is_possible(&self) -> bool {
        self.at <= u64::from(u32::MAX) && !(self.transfers() && self.len > MAX_STEP_BYTES)
    }
}

/// A request in flight.
#[derive(Clone, Debug, Default, DeviceState)]
pub(crate) struct Request {
    pub(crate) token: u64,
    pub(crate) queue: u16,
    pub(crate) chain: Chain,
    /// The first is with the host.
    pub(crate) steps: VecDeque<Step>,
}

impl Request {
    pub(crate) fn reads(&self) -> bool {
        self.steps.front().is_some_and(|step| step.op == Op::Read)
    }

    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.steps.front().filter(|step| step.transfers()).map_or(0, |step| step.len)
    }

    /// Whether a device with so many queues, about to give out `next_token`, can hold this.
    pub(crate) fn check(&self, queues: u16, next_token: u64) -> Result<(), String> {
        let token = self.token;
        if token >= next_token
            || self.queue >= queues
            || self.steps.is_empty()
            || self.chain.writable_len() == 0
        {
            return Err(format!("request {token} cannot be in flight"));
        }
        if !self.steps.iter().all(Step::is_possible) {
            return Err(format!("request {token} has a step that is too long"));
        }
        Ok(())
    }
}

/// How to go on with a request.
pub(crate) enum Plan {
    /// Answer at once; so many bytes of data were written before the status.
    Answer(Status, u64),
    /// Let the host do these, of which there is at least one.
    Steps(VecDeque<Step>),
}

const IO_ERROR: Plan = Plan::Answer(Status::IoErr, 0);
const UNSUPPORTED: Plan = Plan::Answer(Status::Unsupp, 0);

/// Read the header and decide.
pub(crate) fn plan(
    cx: &mut Ctx<'_>,
    chain: &Chain,
    disk: Option<&BlockInfo>,
    write_through: bool,
) -> Result<Plan, Violation> {
    if chain.writable_len() == 0 {
        return Err(Violation::Short("no room for the status of a block request"));
    }
    if chain.readable_len() < HEADER_BYTES {
        return Err(Violation::Short("no room for the header of a block request"));
    }
    let mut header = [0; HEADER_BYTES as usize];
    chain.read(cx, 0, &mut header)?;
    let (kind, sector) = (le32(&header[..4]), le64(&header[8..]));
    let out_bytes = chain.readable_len() - HEADER_BYTES;
    let in_bytes = chain.writable_len() - 1;
    Ok(match (kind, disk) {
        (IN | OUT | FLUSH | GET_ID | DISCARD | WRITE_ZEROES, None) => IO_ERROR,
        (OUT | DISCARD | WRITE_ZEROES, Some(disk)) if disk.read_only => IO_ERROR,
        (IN, Some(disk)) => transfer(Op::Read, disk, sector, in_bytes),
        (OUT, Some(disk)) => match transfer(Op::Write, disk, sector, out_bytes) {
            Plan::Steps(steps) if write_through => durable(steps),
            plan => plan,
        },
        (FLUSH, Some(_)) => Plan::Steps(VecDeque::from([Step { op: Op::Flush, ..Step::default() }])),
        (GET_ID, Some(disk)) => {
            let len = in_bytes.min(ID_BYTES);
            chain.write(cx, 0, &disk.serial[..len as usize])?;
            Plan::Answer(Status::Ok, len)
        }
        (DISCARD | WRITE_ZEROES, Some(disk)) => match ranges(cx, chain, kind, out_bytes, disk)? {
            Plan::Steps(steps) if write_through && kind == WRITE_ZEROES => durable(steps),
            plan => plan,
        },
        _ => UNSUPPORTED,
    })
}

fn durable(mut steps: VecDeque<Step>) -> Plan {
    steps.push_back(Step { op: Op::Flush, ..Step::default() });
    Plan::Steps(steps)
}

/// Where a range starts on the disk in bytes, if all of it is there.
fn on_disk(disk: &BlockInfo, sector: u64, len: u64) -> Option<u64> {
    let offset = sector.checked_mul(SECTOR)?;
    (offset.checked_add(len)? <= disk.size_bytes).then_some(offset)
}

fn transfer(op: Op, disk: &BlockInfo, sector: u64, len: u64) -> Plan {
    let Some(offset) = on_disk(disk, sector, len).filter(|_| len.is_multiple_of(SECTOR)) else {
        return IO_ERROR;
    };
    if len == 0 {
        return Plan::Answer(Status::Ok, 0);
    }
    let step = |at: u64| Step { op, offset: offset + at, len: (len - at).min(MAX_STEP_BYTES), at };
    Plan::Steps((0..len.div_ceil(MAX_STEP_BYTES)).map(|index| step(index * MAX_STEP_BYTES)).collect())
}

fn ranges(
    cx: &mut Ctx<'_>,
    chain: &Chain,
    kind: u32,
    bytes: u64,
    disk: &BlockInfo,
) -> Result<Plan, Violation> {
    if bytes == 0 || !bytes.is_multiple_of(RANGE_BYTES) || bytes > RANGE_BYTES * u64::from(MAX_RANGES) {
        return Ok(IO_ERROR);
    }
    let mut raw = vec![0; bytes as usize];
    chain.read(cx, HEADER_BYTES, &mut raw)?;
    let mut steps = VecDeque::new();
    for range in raw.chunks_exact(RANGE_BYTES as usize) {
        match range_step(kind, range, disk) {
            Ok(step) if step.len > 0 => steps.push_back(step),
            Ok(_) => {}
            Err(status) => return Ok(Plan::Answer(status, 0)),
        }
    }
    Ok(if steps.is_empty() { Plan::Answer(Status::Ok, 0) } else { Plan::Steps(steps) })
}

fn range_step(kind: u32, range: &[u8], disk: &BlockInfo) -> Result<Step, Status> {
    let (sector, sectors, flags) = (le64(&range[..8]), le32(&range[8..12]), le32(&range[12..]));
    let (op, longest) = match (kind, flags) {
        (DISCARD, 0) => (Op::Discard, MAX_DISCARD_SECTORS),
        (WRITE_ZEROES, 0) => (Op::WriteZeroes, MAX_ZEROES_SECTORS),
        (WRITE_ZEROES, RANGE_UNMAP) => (Op::Unmap, MAX_ZEROES_SECTORS),
        // Unknown flags, and UNMAP with a discard. §5.2.6.2.
        _ => return Err(Status::Unsupp),
    };
    let len = u64::from(sectors) * SECTOR;
    let offset = on_disk(disk, sector, len).filter(|_| sectors <= longest).ok_or(Status::IoErr)?;
    Ok(Step { op, offset, len, at: 0 })
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("callers pass 4 bytes"))
}

fn le64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("callers pass 8 bytes"))
}
