//! What the machine sees of the outside: clocks of the host, the inbox, the far ends of ports, disks.
//!
//! `host/cli` implements these traits. Nothing here is called from inside a guest instruction except
//! [`Outside::port_write`], [`Outside::host_clock_ns`] and [`Outside::log`], none of which gives the guest anything
//! that the gate has not stamped.

use crate::{log::LogRecord, machine::Status};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use thiserror::Error;

pub use reprise_replay::{Control as ControlInput, PortChange};

/// The host process, as the machine sees it. Absent in replay.
pub trait Outside {
    /// Host monotonic time in nanoseconds from any origin. Pacing only: the guest never sees it.
    fn realtime_ns(&mut self) -> u64;

    /// Host wall clock, nanoseconds since 1970-01-01 UTC. Read through the gate only.
    fn host_clock_ns(&mut self) -> u64;

    /// Append what arrived since the last call. Must not block.
    fn poll(&mut self, inbox: &mut Vec<Input>);

    /// Block until something arrives, a stop is requested or the time is over. Returning early is allowed.
    fn wait(&mut self, timeout_ns: Option<u64>);

    /// Whether a live backend may still deliver input. `idle = "auto"` paces while it may.
    fn can_answer(&self) -> bool;

    /// Guest output: bytes (chr) or one frame (net). Must not block for long and cannot fail.
    fn port_write(&mut self, device: &str, port: &str, data: &[u8]);

    /// The device took `taken` bytes (of a net port: a frame of so many) from the queue that [`Input::PortData`] fills.
    /// A backend stops reading its source while too much is outstanding.
    fn port_taken(&mut self, device: &str, port: &str, taken: usize);

    /// The device of a net port takes other frames from now on.
    fn net_offload(&mut self, device: &str, port: &str, offload: NetOffload) {
        let _uninterested = (device, port, offload);
    }

    /// The virtual clock as published to the outside: what the EXTERNAL attribute runs on.
    fn publish(&mut self, vtime_ns: u64, running: bool);

    /// The virtual time at which somebody outside has something to do. They see it come also while every hart waits.
    fn alarm_ns(&self) -> Option<u64> {
        None
    }

    /// Where the machine stands, as often as it publishes: for statistics.
    fn progress(&mut self, status: Status) {
        let _uninterested = status;
    }

    /// The machine was reset.
    fn was_reset(&mut self, asked: Asked) {
        let _uninterested = asked;
    }

    /// The machine is what a snapshot or a log says, which this outside has not seen it become: its time may have gone
    /// back. `ports`: how all of its ports stand.
    fn was_restored(&mut self, vtime_ns: u64, ports: &[PortStand<'_>]) {
        let _uninterested = (vtime_ns, ports);
    }

    /// The machine was powered off: its run ends with it.
    fn powered_off(&mut self, asked: Asked) {
        let _uninterested = asked;
    }

    /// A line of a device or of the machine.
    fn log(&mut self, record: &LogRecord);
}

/// What the device of a net port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetOffload {
    /// `NET_*` of [`reprise_abi::hot`].
    pub bits: u32,
    /// Longest packet behind the Ethernet header, in bytes, where it is not several segments.
    pub mtu: u32,
}

impl Default for NetOffload {
    /// Of a device that has said nothing.
    fn default() -> Self {
        Self { bits: 0, mtu: 1500 }
    }
}

/// How a port stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStand<'a> {
    /// Device id of the board.
    pub device: &'a str,
    /// Port name of the device.
    pub port: &'a str,
    /// Bytes of input that wait for the guest.
    pub waiting_bytes: usize,
    /// What the device takes, of a net port.
    pub offload: NetOffload,
}

/// Who asked for a reset or for power-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A device, and so the guest.
    ByGuest,
    /// Somebody pressed a button: now, or in the recorded run.
    FromOutside,
}

/// What comes from outside. It enters at a safe point, in the order of the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes (chr) or one frame (net) for a port.
    PortData {
        /// Device id of the board.
        device: String,
        /// Port name of the device.
        port: String,
        /// The bytes or the frame.
        data: Vec<u8>,
    },
    /// The far end of a port changed.
    PortEvent {
        /// Device id of the board.
        device: String,
        /// Port name of the device.
        port: String,
        /// What happened.
        event: PortChange,
    },
    /// A button of the machine.
    Control(ControlInput),
    /// A monitor or a debugger writes guest memory.
    WriteMemory {
        /// Guest physical address; all of it has to be RAM.
        gpa: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A monitor or a debugger writes a register.
    WriteRegister {
        /// Index of the hart.
        hart: u32,
        /// 0 to 31 is x, 32 is pc.
        register: u32,
        /// The value.
        value: u64,
    },
}

/// Asks a running machine to stop at the next safe point. May be used from any thread and from a signal handler.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Ask. Asking twice is asking once.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a stop is wanted; does not take the wish back.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Take the wish back: the machine has seen it.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// A disk failed on the host's side. The guest sees an I/O error; the text is logged.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct DiskError(pub String);

/// The unit in which [`Disk::first_reads`] counts. Part of the log's format.
pub const DISK_BLOCK_BYTES: u64 = 16 << 10;

/// The content of a block that a guest has written, in memory or in a file.
pub trait BlockContent: Send + Sync {
    /// Fill `into` from `within` the block.
    ///
    /// # Errors
    /// The host could not read.
    fn read(&self, within: usize, into: &mut [u8]) -> Result<(), DiskError>;
    /// Write `data` at `within` the block.
    ///
    /// # Errors
    /// The host could not write.
    fn write(&mut self, within: usize, data: &[u8]) -> Result<(), DiskError>;
}

/// Which blocks of an image have been read in a run, as a bitmap: its word `n` has blocks `64 n` to `64 n + 63`. Words
/// that are zero are left out.
pub type FirstReads = BTreeMap<u64, u64>;

/// What a guest has made of a disk: everything that is not in its image. Cheap to clone; may be read from any thread.
#[derive(Clone, Default)]
pub struct DiskChanges {
    /// Content by number of the block, in units of [`DISK_BLOCK_BYTES`]. Of a disk's last block only what there is of
    /// it counts. A block here hides [`DiskChanges::zeroes`] and the image.
    pub blocks: Arc<BTreeMap<u64, Arc<dyn BlockContent>>>,
    /// Blocks that read as zeroes, as first → one behind the last. They hide the image.
    pub zeroes: Arc<BTreeMap<u64, u64>>,
    /// What [`Disk::first_reads`] has told so far.
    pub first_reads: Arc<FirstReads>,
}

impl std::fmt::Debug for DiskChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskChanges")
            .field("blocks", &self.blocks.len())
            .field("zeroes", &self.zeroes.len())
            .finish_non_exhaustive()
    }
}

/// A disk image with its overlay. Offsets and lengths are multiples of 512 inside the disk: the machine checks.
pub trait Disk {
    /// Capacity in bytes, a multiple of 512.
    fn size_bytes(&self) -> u64;
    /// Writes are refused.
    fn read_only(&self) -> bool;
    /// Serial, NUL padded.
    fn serial(&self) -> [u8; 20];
    /// Fill `into` from `offset`.
    ///
    /// # Errors
    /// The host could not read.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DiskError>;
    /// Write `data` at `offset`.
    ///
    /// # Errors
    /// The host could not write.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DiskError>;
    /// Make everything written before durable (in the overlay).
    ///
    /// # Errors
    /// The host could not.
    fn flush(&mut self) -> Result<(), DiskError>;
    /// The range's content is no longer needed. It must read as zeroes afterwards, so that every host agrees.
    ///
    /// # Errors
    /// The host could not.
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), DiskError>;
    /// The range reads as zeroes afterwards.
    ///
    /// # Errors
    /// The host could not.
    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), DiskError>;
    /// Tell the blocks of the image (not of the overlay) that were read since the last call and never before in this
    /// run, each once: its number, in units of [`DISK_BLOCK_BYTES`], and blake3 of the whole block (of what there is of
    /// it, if the disk ends inside). Requests in their order; within one request ascending.
    ///
    /// The machine asks after each request while it records or replays: what is told is a fact of the run's position,
    /// and so may depend on the requests alone. A disk without an image has nothing to tell.
    fn first_reads(&mut self, tell: &mut dyn FnMut(u64, [u8; 32])) {
        let _nothing = tell;
    }
    /// What has been written, for a snapshot. What the guest writes afterwards is not in it.
    fn changes(&mut self) -> DiskChanges;
    /// Become what a snapshot says.
    ///
    /// # Errors
    /// It is not of a disk like this; the text says why.
    fn set_changes(&mut self, changes: &DiskChanges) -> Result<(), String>;
}
