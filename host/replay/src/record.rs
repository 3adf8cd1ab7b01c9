//! What the log is made of: an entry, and where it stands.

use crate::{Control, Event, PortChange, Position, Seed};
use std::fmt;

/// Why a recording ended. Written once, as the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The guest powered off.
    PowerOff {
        /// Its exit code.
        code: u32,
    },
    /// Somebody outside stopped the recording.
    Stopped,
    /// The instruction limit was reached.
    Limit,
    /// Every hart waited for an interrupt that nothing could raise any more.
    Deadlock,
    /// A plugin did what it must not.
    PluginFault,
    /// The guest asked for a reset and the host could not make the boot images again.
    ResetFailed,
}

/// One line of the log: an event that entered the machine, or a mark that the recorder made.
///
/// Marks are not [`Event`]s: they change nothing in the machine and take no place in the order of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something entered, or was checked at the gate.
    Event(Event),
    /// The seed of the run's random stream. Always the first record.
    Seed(Seed),
    /// The machine's state had this digest.
    Digest(StateDigest),
    /// A block of a disk's image was read for the first time: in replay it must have the same content.
    DiskBlock {
        /// Index of the device in the board.
        device: u32,
        /// Port id of the device.
        port: u32,
        /// Number of the block.
        block: u64,
        /// blake3 of its bytes.
        hash: [u8; 32],
    },
    /// The recording ended here on purpose. Always the last record.
    End {
        /// Why.
        reason: EndReason,
        /// blake3 over the digests of the run, in their order.
        chain: [u8; 32],
    },
}

/// A digest of the machine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// The digest, as the machine defines it.
    pub whole: [u8; 32],
    /// The beginning of each section's own digest, in the machine's order: for reports, never compared alone.
    pub parts: Vec<u32>,
}

impl StateDigest {
    /// The chain over digests, with this one behind those that `chain` is over. It begins with zeroes.
    #[must_use]
    pub fn chained(&self, chain: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(chain).update(&self.whole);
        *hasher.finalize().as_bytes()
    }
}

/// An [`Entry`] in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where. An event has its own position; a mark has that of the event which could come next at this time.
    pub position: Position,
    /// Instructions that all harts had attempted: a cross-check of the position.
    pub icount: u64,
    /// What.
    pub entry: Entry,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::PowerOff { code } => write!(f, "power-off with code {code}"),
            EndReason::Stopped => write!(f, "stopped from outside"),
            EndReason::Limit => write!(f, "instruction limit"),
            EndReason::Deadlock => write!(f, "deadlock"),
            EndReason::PluginFault => write!(f, "plugin fault"),
            EndReason::ResetFailed => write!(f, "failed reset"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Event(event) => write!(f, "{event}"),
            Entry::Seed(seed) => write!(f, "{seed:?}"),
            Entry::DiskBlock { device, port, block, .. } => {
                write!(f, "first read of block {block} of the disk at port {port} of device {device}")
            }
            Entry::Digest(d) => {
                write!(f, "digest ")?;
                d.whole.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Entry::End { reason, .. } => write!(f, "end of the recording ({reason})"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Input { device, port, data } => {
                write!(f, "input of {} bytes for port {port} of device {device}", data.len())
            }
            Event::PortChange { device, port, change } => {
                let what = match change {
                    PortChange::Opened => "opened",
                    PortChange::Closed => "closed",
                    PortChange::Break => "break",
                };
                write!(f, "{what} on port {port} of device {device}")
            }
            Event::Control(Control::Reset) => write!(f, "reset button"),
            Event::Control(Control::PowerOff) => write!(f, "power button"),
            Event::Control(Control::Nmi) => write!(f, "non-maskable interrupt"),
            Event::BottomHalf { device, bh, oneshot } => {
                let oneshot = if *oneshot { "one-shot " } else { "" };
                write!(f, "{oneshot}bottom half {bh} of device {device}")
            }
            Event::WriteMemory { gpa, data } => write!(f, "write of {} bytes to {gpa:#x}", data.len()),
            Event::WriteRegister { hart, register, value } => {
                write!(f, "write of {value:#x} to register {register} of hart {hart}")
            }
            Event::HostClock { value_ns } => write!(f, "host clock read as {value_ns} ns"),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns, order {}", self.vtime_ns, self.order)
    }
}
