//! The virtio block device. Virtio 1.2 §5.2.
//!
//! Requests are asynchronous: the host completes each at a virtual deadline, and until then its chain is part of the
//! saved state. A request becomes a list of steps (`request`) that the host does one after the other, so that
//! neither a huge transfer nor a long list of ranges needs memory of its own size here.
//!
//! Not modelled: legacy geometry, lifetime, secure erase, zones.

mod request;

use reprise_plugin_api::{
    Access, BlockDone, BlockInfo, BlockOp, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Port,
    Reset,
    desc::{self, DeviceDesc, PortKind},
    virtio::{self, Chain, Served, Transport, Violation, VirtioDevice},
};
use std::collections::VecDeque;

use request::{Op, Plan, Request, Status, Step};

/// Feature bits. §5.2.3.
pub mod features {
    /// `seg_max` is valid.
    pub const SEG_MAX: u64 = 1 << 2;
    /// The disk cannot be written.
    pub const RO: u64 = 1 << 5;
    /// `blk_size` is valid.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// The driver can flush, and gets a write-back cache.
    pub const FLUSH: u64 = 1 << 9;
    /// The topology is valid.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// The driver can choose between write-back and write-through.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// `num_queues` is valid.
    pub const MQ: u64 = 1 << 12;
    /// Ranges can be discarded.
    pub const DISCARD: u64 = 1 << 13;
    /// Ranges can be zeroed.
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// The unit of everything in the protocol, in bytes. §5.2.4.
const SECTOR: u64 = 512;
/// Offset of `writeback` in the configuration space. §5.2.4.
const CONFIG_WRITEBACK: u64 = 32;
/// The port that the board connects to a disk.
const DISK: Port = Port(0);
/// Bytes that the host may hold for requests in flight. The ring waits while there are more, so a guest with many
/// large requests costs no more host memory than this and one step.
const MAX_BYTES_IN_FLIGHT: u64 = 64 << 20;

/// Options.
#[derive(DeviceConfig)]
pub struct Config {
    /// Longest virtqueue, a power of two.
    #[config(default = 256, min = 4, max = 1024)]
    pub queue_size: u16,
    /// Number of request queues.
    #[config(default = 1, min = 1, max = 16)]
    pub queues: u16,
}

/// The device.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Blk {
    #[state(config)]
    queue_size: u16,
    #[state(config)]
    queues: u16,
    transport: Transport,
    /// The driver wants a write-back cache, if it has a say (CONFIG_WCE).
    writeback: bool,
    /// In order of arrival.
    requests: VecDeque<Request>,
    /// Of the next request. Never starts again, not even at a reset: what the host still has in flight from before
    /// must not be taken for a new request.
    next_token: u64,
}

impl Blk {
    /// Whether a write must be durable before it is reported. §5.2.6.2.
    fn write_through(&self) -> bool {
        if self.transport.has(features::CONFIG_WCE) {
            !self.writeback
        } else {
            !self.transport.has(features::FLUSH)
        }
    }

    fn bytes_in_flight(&self) -> u64 {
        self.requests.iter().map(Request::bytes_in_flight).sum()
    }

    fn run_all(&mut self, cx: &mut Ctx<'_>) {
        for queue in 0..usize::from(self.queues) {
            virtio::run(self, cx, queue);
        }
    }

    /// Hand the first step of a request to the host.
    fn submit(&self, cx: &mut Ctx<'_>, request: &Request) -> Result<(), Violation> {
        let Some(step) = request.steps.front() else { return Ok(()) };
        let Step { op, offset, len, .. } = *step;
        // Outlives the borrow in `op`.
        let mut data;
        let op = match op {
            Op::Read => BlockOp::Read { offset, len },
            Op::Write => {
                data = vec![0; len as usize];
                request.chain.read(cx, request::HEADER_BYTES + step.at, &mut data)?;
                BlockOp::Write { offset, data: &data }
            }
            Op::Flush => BlockOp::Flush,
            Op::Discard => BlockOp::Discard { offset, len },
            Op::WriteZeroes => BlockOp::WriteZeroes { offset, len, may_unmap: false },
            Op::Unmap => BlockOp::WriteZeroes { offset, len, may_unmap: true },
        };
        cx.blk_submit(DISK, request.token, op);
        Ok(())
    }

    /// The host did the first step of `request`: what it is worth, or `None` if another step is on its way.
    fn advance(
        &self,
        cx: &mut Ctx<'_>,
        request: &mut Request,
        done: BlockDone<'_>,
    ) -> Result<Option<Status>, Violation> {
        let Some(step) = request.steps.pop_front() else { return Ok(Some(Status::IoErr)) };
        if !done.ok {
            return Ok(Some(Status::IoErr));
        }
        if step.op == Op::Read {
            if done.data.len() as u64 != step.len {
                return Ok(Some(Status::IoErr));
            }
            request.chain.write(cx, step.at, done.data)?;
        }
        if request.steps.is_empty() {
            return Ok(Some(Status::Ok));
        }
        self.submit(cx, request)?;
        Ok(None)
    }
}

/// Write the status byte; returns how many bytes of the chain are then known to be written from its start on.
/// §2.7.8.2.
fn finish(cx: &mut Ctx<'_>, chain: &Chain, status: Status, data: u64) -> Result<u32, Violation> {
    let at = chain.writable_len() - 1;
    chain.write(cx, at, &[status as u8])?;
    // A gap before the status byte was not written.
    let written = if data == at { at + 1 } else { data };
    Ok(u32::try_from(written).unwrap_or(u32::MAX))
}

impl VirtioDevice for Blk {
    /// §5.2.1.
    const DEVICE_ID: u32 = 2;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn features(&self, cx: &Ctx<'_>) -> u64 {
        let always = features::SEG_MAX
            | features::BLK_SIZE
            | features::TOPOLOGY
            | features::FLUSH
            | features::CONFIG_WCE;
        let writable = match cx.blk_info(DISK) {
            Some(BlockInfo { read_only: true, .. }) => features::RO,
            _ => features::DISCARD | features::WRITE_ZEROES,
        };
        let queues = if self.queues > 1 { features::MQ } else { 0 };
        always | writable | queues
    }

    /// `struct virtio_blk_config`. §5.2.4.
    fn config(&self, cx: &Ctx<'_>) -> Vec<u8> {
        let (size_bytes, physical) =
            cx.blk_info(DISK).map_or((0, 512), |disk| (disk.size_bytes, disk.block_size));
        let sectors_per_block = (physical.clamp(512, 1 << 20) / 512) as u16;
        let mut out = Vec::with_capacity(60);
        out.extend((size_bytes / SECTOR).to_le_bytes());
        out.extend([0; 4]); // size_max: not offered
        // Header and status take a descriptor each.
        out.extend(u32::from(self.queue_size - 2).to_le_bytes());
        out.extend([0; 4]); // geometry: not offered
        out.extend((SECTOR as u32).to_le_bytes());
        out.push(sectors_per_block.ilog2() as u8);
        out.push(0); // alignment_offset
        out.extend(sectors_per_block.to_le_bytes());
        out.extend([0; 4]); // opt_io_size: none
        out.push(u8::from(!self.write_through()));
        out.push(0);
        out.extend(self.queues.to_le_bytes());
        out.extend(request::MAX_DISCARD_SECTORS.to_le_bytes());
        out.extend(request::MAX_RANGES.to_le_bytes());
        out.extend(u32::from(sectors_per_block).to_le_bytes());
        out.extend(request::MAX_ZEROES_SECTORS.to_le_bytes());
        out.extend(request::MAX_RANGES.to_le_bytes());
        out.extend([1, 0, 0, 0]); // write_zeroes_may_unmap
        out
    }

    fn config_write(&mut self, _cx: &mut Ctx<'_>, offset: u64, data: &[u8]) {
        if offset == CONFIG_WRITEBACK && self.transport.has(features::CONFIG_WCE) {
            self.writeback = data[0] & 1 != 0;
        }
    }

    /// A driver that chooses the cache but cannot flush starts with write-through. §5.2.5.2.
    fn on_features(&mut self, _cx: &mut Ctx<'_>) {
        self.writeback = self.transport.has(features::FLUSH);
    }

    fn ready(&self, _cx: &Ctx<'_>, _queue: usize) -> bool {
        self.bytes_in_flight() < MAX_BYTES_IN_FLIGHT
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, queue: usize, chain: Chain) -> Result<Served, Violation> {
        let disk = cx.blk_info(DISK);
        let steps = match request::plan(cx, &chain, disk.as_ref(), self.write_through())? {
            Plan::Answer(status, written) => return finish(cx, &chain, status, written).map(Served::Done),
            Plan::Steps(steps) => steps,
        };
        let request = Request { token: self.next_token, queue: queue as u16, chain, steps };
        self.next_token = self.next_token.wrapping_add(1);
        self.submit(cx, &request)?;
        self.requests.push_back(request);
        Ok(Served::Later)
    }

    fn on_reset(&mut self, _cx: &mut Ctx<'_>) {
        self.requests.clear();
        self.writeback = true;
    }

    fn on_queue_reset(&mut self, cx: &mut Ctx<'_>, queue: usize) {
        self.requests.retain(|request| usize::from(request.queue) != queue);
        // Its share of the memory is free for the others.
        self.run_all(cx);
    }
}

impl Device for Blk {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        let disk = desc::Port { name: "disk".to_owned(), kind: PortKind::Blk };
        virtio::describe("virtio-blk", "a disk", vec![disk]).keeps("next_token")
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        virtio::check_queue_size(config.queue_size)?;
        Ok(Self {
            queue_size: config.queue_size,
            queues: config.queues,
            transport: Transport::new(&vec![config.queue_size; config.queues.into()]),
            writeback: true,
            requests: VecDeque::new(),
            next_token: 0,
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        virtio::reset(self, cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        virtio::mmio_read(self, cx, access)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        virtio::mmio_write(self, cx, access, value)
    }

    fn on_blk(&mut self, cx: &mut Ctx<'_>, done: BlockDone<'_>) {
        // Not there: it was submitted before a reset.
        let Some(index) = self.requests.iter().position(|request| request.token == done.token) else {
            return;
        };
        let was_full = self.bytes_in_flight() >= MAX_BYTES_IN_FLIGHT;
        let mut request = self.requests.remove(index).expect("position found it");
        let queue = usize::from(request.queue);
        let data = if request.reads() { request.chain.writable_len() - 1 } else { 0 };
        let outcome = self.advance(cx, &mut request, done).and_then(|outcome| match outcome {
            Some(Status::Ok) => finish(cx, &request.chain, Status::Ok, data).map(Some),
            Some(status) => finish(cx, &request.chain, status, 0).map(Some),
            None => Ok(None),
        });
        match outcome {
            Ok(Some(written)) => virtio::complete(self, cx, queue, request.chain.head(), written),
            Ok(None) => self.requests.insert(index, request),
            Err(violation) => self.transport.stop(cx, queue, violation),
        }
        if was_full {
            self.run_all(cx);
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.transport.check()?;
        if !self.requests.iter().map(|request| request.token).is_sorted_by(|a, b| a < b) {
            return Err("requests in flight are out of order".to_owned());
        }
        self.requests.iter().try_for_each(|request| request.check(self.queues, self.next_token))
    }
}

reprise_plugin_api::export_devices!(Blk);

#[cfg(test)]
mod tests;
