//! Write an observer: a plugin that sees what a machine does, in a run or in a replay, and can change nothing of it.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use reprise_plugin_api::{export_observer, observe::*};
//!
//! /// Counts what a device is asked.
//! pub struct Busy {
//!     accesses: u64,
//! }
//!
//! impl Observer for Busy {
//!     type Config = ();
//!     const SUMMARY: &'static str = "counts accesses to devices";
//!
//!     fn create((): (), _: &MachineDesc) -> Result<(Self, Wants), ConfigError> {
//!         Ok((Self { accesses: 0 }, Wants::MMIO))
//!     }
//!
//!     fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
//!         self.accesses += u64::from(matches!(event.what, What::Mmio(_)));
//!         Ok(())
//!     }
//!
//!     fn finish(self) -> Result<(), String> {
//!         eprintln!("{} accesses", self.accesses);
//!         Ok(())
//!     }
//! }
//!
//! export_observer!(Busy);
//! # fn main() {}
//! ```
//!
//! `reprise replay RUN.rec --observe busy` finds it where plugins are found, in `libreprise_plugin_busy.so` or
//! `libreprise_plugin_observe_busy.so`. The rules for devices are not for observers: they lie outside the machine, may
//! open files and read clocks, and are never saved. One that fails or panics is told nothing more; the machine goes on.

mod shim;
#[cfg(feature = "symbols")]
pub mod symbols;

pub use crate::config::{ConfigError, DeviceConfig};
use core::ops::BitOr;
pub use reprise_abi::observe::{MachineDesc, ObservedDevice};
use reprise_abi::{
    hot,
    observe::{self as raw, EventRaw},
};
#[doc(hidden)]
pub use shim::{Packaged, root};

/// Watches a machine.
pub trait Observer: Sized + 'static {
    /// The options. By custom `out` is the file that it writes.
    type Config: DeviceConfig;

    /// One line for people.
    const SUMMARY: &'static str;

    /// A new observer for this machine, and what it is to be told of. What is not wanted costs nothing.
    ///
    /// # Errors
    /// The options do not fit, or what they name cannot be had.
    fn create(config: Self::Config, machine: &MachineDesc) -> Result<(Self, Wants), ConfigError>;

    /// Something happened.
    ///
    /// # Errors
    /// Why it cannot go on: it is told nothing more, and the user is told that.
    fn event(&mut self, event: &Event<'_>) -> Result<(), String>;

    /// Nothing more will happen.
    ///
    /// # Errors
    /// Why there is no result.
    fn finish(self) -> Result<(), String>;
}

/// Kinds of events, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(u64);

impl Wants {
    /// [`What::Block`]. Every instruction is interpreted then, one by one.
    pub const BLOCKS: Self = Self(1 << raw::KIND_BLOCK);
    /// [`What::Access`]. Likewise.
    pub const ACCESSES: Self = Self(1 << raw::KIND_ACCESS);
    /// [`What::Trap`] and [`What::TrapReturn`]. Likewise.
    pub const TRAPS: Self =
        Self(1 << raw::KIND_EXCEPTION | 1 << raw::KIND_INTERRUPT | 1 << raw::KIND_TRAP_RETURN);
    /// [`What::Mmio`].
    pub const MMIO: Self = Self(1 << raw::KIND_MMIO_READ | 1 << raw::KIND_MMIO_WRITE);
    /// [`What::Pin`], [`What::InputPin`] and [`What::Line`].
    pub const PINS: Self = Self(1 << raw::KIND_PIN | 1 << raw::KIND_INPUT_PIN | 1 << raw::KIND_LINE);
    /// [`What::Timer`].
    pub const TIMERS: Self = Self(1 << raw::KIND_TIMER);
    /// [`What::BottomHalf`].
    pub const BOTTOM_HALVES: Self = Self(1 << raw::KIND_BOTTOM_HALF);
    /// [`What::PortIn`], [`What::PortOut`], [`What::PortChange`] and [`What::BlockRequest`].
    pub const PORTS: Self = Self(
        1 << raw::KIND_PORT_IN
            | 1 << raw::KIND_PORT_OUT
            | 1 << raw::KIND_PORT_CHANGE
            | 1 << raw::KIND_BLOCK_REQUEST,
    );
    /// [`What::Message`].
    pub const MESSAGES: Self = Self(1 << raw::KIND_MESSAGE);
    /// [`What::Reset`] and [`What::Moved`].
    pub const MACHINE: Self = Self(1 << raw::KIND_RESET | 1 << raw::KIND_MOVED);

    /// As the ABI has it.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for Wants {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A privilege mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// U.
    User,
    /// S.
    Supervisor,
    /// M.
    Machine,
}

impl Mode {
    fn of(word: u64) -> Self {
        match word {
            0 => Self::User,
            1 => Self::Supervisor,
            _ => Self::Machine,
        }
    }

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::User => 'U',
            Self::Supervisor => 'S',
            Self::Machine => 'M',
        }
    }
}

/// Something that happened, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Instructions that all harts attempted before it; of a block, before its first.
    pub icount: u64,
    /// Virtual time there, in nanoseconds since power-on.
    pub vtime_ns: u64,
    /// It.
    pub what: What<'a>,
}

/// What happened. Devices and their parts are named by their place in the [`MachineDesc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What<'a> {
    /// Instructions that lie behind one another were attempted; told behind what happened in them.
    Block(Block),
    /// A load or store that did not trap.
    Access(Access),
    /// An exception or an interrupt was taken.
    Trap(Trap),
    /// An `mret` or `sret`.
    TrapReturn(TrapReturn),
    /// A device's register was read or written.
    Mmio(Mmio),
    /// A device drives an output pin to another level.
    Pin {
        /// The device.
        device: usize,
        /// The output pin.
        pin: u32,
        /// The level.
        high: bool,
    },
    /// A device saw an input pin change.
    InputPin {
        /// The device.
        device: usize,
        /// The input pin.
        pin: u32,
        /// The level.
        high: bool,
    },
    /// A hart's interrupt line was driven.
    Line {
        /// The hart.
        hart: usize,
        /// The interrupt: its bit number in `mip`.
        interrupt: u32,
        /// The level.
        high: bool,
    },
    /// A device's timer expired.
    Timer {
        /// The device.
        device: usize,
        /// The timer.
        timer: u32,
    },
    /// A device's bottom half ran.
    BottomHalf {
        /// The device.
        device: usize,
        /// The bottom half.
        bh: u32,
        /// What a one-shot was given.
        payload: Option<&'a [u8]>,
    },
    /// Bytes, or a frame, entered at a port.
    PortIn {
        /// The device.
        device: usize,
        /// The port.
        port: u32,
        /// They.
        data: &'a [u8],
    },
    /// A device wrote bytes, or a frame, to a port.
    PortOut {
        /// The device.
        device: usize,
        /// The port.
        port: u32,
        /// They.
        data: &'a [u8],
    },
    /// The outside end of a port changed.
    PortChange {
        /// The device.
        device: usize,
        /// The port.
        port: u32,
        /// How.
        change: PortChange,
    },
    /// A message arrived at a device; `None`: what it sent found nobody.
    Message {
        /// The device.
        device: usize,
        /// The link.
        link: u32,
        /// The target's address.
        at: u32,
        /// What it says.
        data: Option<&'a [u8]>,
    },
    /// A block request completed.
    BlockRequest {
        /// The device.
        device: usize,
        /// The port.
        port: u32,
        /// As the device has named it.
        token: u64,
        /// Whether it was carried out.
        ok: bool,
    },
    /// The machine was reset.
    Reset,
    /// The machine was put elsewhere: what comes now does not follow from what came before.
    Moved,
}

/// How the outside end of a port changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChange {
    /// It was connected.
    Opened,
    /// It went away.
    Closed,
    /// A serial break arrived.
    Break,
}

/// Instructions that lie behind one another and were attempted in succession.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The hart.
    pub hart: usize,
    /// Virtual address of the first.
    pub pc: u64,
    /// From there to behind the last.
    pub bytes: u64,
    /// How many; the last may have trapped.
    pub instructions: u64,
    /// The mode.
    pub mode: Mode,
    /// The address space, as `satp` has it; 0 in M-mode.
    pub satp: u64,
    /// What the last one did.
    pub end: BlockEnd,
}

/// What the last instruction of a block did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockEnd {
    /// What lies behind it is next.
    Next,
    /// It went elsewhere.
    Jump,
    /// It called a function, by the registers that it used.
    Call,
    /// It returned from one, likewise.
    Return,
    /// It trapped.
    Trap,
    /// It came back from a trap.
    TrapReturn,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A load.
    Load,
    /// A store.
    Store,
    /// Both in one, by an atomic instruction.
    Atomic,
}

/// A load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The hart.
    pub hart: usize,
    /// Virtual address of the instruction.
    pub pc: u64,
    /// What it does.
    pub kind: AccessKind,
    /// Virtual address of the first byte.
    pub va: u64,
    /// 1, 2, 4 or 8, and 64 for a block that is zeroed.
    pub bytes: u64,
    /// The value, zero-extended; of an atomic instruction what was there before.
    pub value: u64,
}

/// A trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The hart.
    pub hart: usize,
    /// It is no exception.
    pub is_interrupt: bool,
    /// The cause's code.
    pub cause: u64,
    /// Virtual address of the instruction that trapped, or was not attempted yet.
    pub epc: u64,
    /// `mtval` or `stval`.
    pub tval: u64,
    /// The mode before.
    pub from: Mode,
    /// The mode behind.
    pub to: Mode,
    /// Virtual address of the handler.
    pub handler: u64,
}

/// A return from a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrapReturn {
    /// The hart.
    pub hart: usize,
    /// Virtual address that it goes to.
    pub pc: u64,
    /// The mode before.
    pub from: Mode,
    /// The mode behind.
    pub to: Mode,
}

/// An access to a device's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmio {
    /// The device.
    pub device: usize,
    /// Whether it is a write.
    pub is_write: bool,
    /// The region.
    pub region: u32,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// 1, 2, 4 or 8.
    pub bytes: u32,
    /// The value, zero-extended.
    pub value: u64,
    /// The device refused.
    pub refused: bool,
    /// Guest physical address.
    pub gpa: u64,
}

fn small(word: u64) -> u32 {
    u32::try_from(word).unwrap_or(u32::MAX)
}

/// `data` is what `event` points to. `None`: from a newer host, nothing that this observer could know.
pub(crate) fn decode<'a>(event: &EventRaw, data: &'a [u8]) -> Option<Event<'a>> {
    let index = event.index as usize;
    let [a, b, c, d, e, f] = event.words;
    let what = match event.kind {
        raw::KIND_BLOCK => {
            let (pc, bytes, instructions, mode, satp) = (a, b, c, Mode::of(d), e);
            let end = match f {
                raw::END_NEXT => BlockEnd::Next,
                raw::END_CALL => BlockEnd::Call,
                raw::END_RETURN => BlockEnd::Return,
                raw::END_TRAP => BlockEnd::Trap,
                raw::END_TRAP_RETURN => BlockEnd::TrapReturn,
                _ => BlockEnd::Jump,
            };
            What::Block(Block { hart: index, pc, bytes, instructions, mode, satp, end })
        }
        raw::KIND_ACCESS => {
            let kind = match d {
                raw::ACCESS_LOAD => AccessKind::Load,
                raw::ACCESS_STORE => AccessKind::Store,
                _ => AccessKind::Atomic,
            };
            What::Access(Access { hart: index, pc: a, kind, va: b, bytes: c, value: e })
        }
        raw::KIND_EXCEPTION | raw::KIND_INTERRUPT => {
            let (is_interrupt, from, to) = (event.kind == raw::KIND_INTERRUPT, Mode::of(d), Mode::of(e));
            What::Trap(Trap { hart: index, is_interrupt, cause: a, epc: b, tval: c, from, to, handler: f })
        }
        raw::KIND_MMIO_READ | raw::KIND_MMIO_WRITE => What::Mmio(Mmio {
            device: index,
            is_write: event.kind == raw::KIND_MMIO_WRITE,
            region: small(a),
            offset: b,
            bytes: small(c),
            value: d,
            refused: e != 0,
            gpa: f,
        }),
        _ => return decode_more(event, data),
    };
    Some(Event { icount: event.icount, vtime_ns: event.vtime_ns, what })
}

/// What happens less often.
#[cold]
fn decode_more<'a>(event: &EventRaw, data: &'a [u8]) -> Option<Event<'a>> {
    let device = event.index as usize;
    let [a, b, c, ..] = event.words;
    let what = match event.kind {
        raw::KIND_PIN => What::Pin { device, pin: small(a), high: b != 0 },
        raw::KIND_INPUT_PIN => What::InputPin { device, pin: small(a), high: b != 0 },
        raw::KIND_LINE => What::Line { hart: device, interrupt: small(a), high: b != 0 },
        raw::KIND_TIMER => What::Timer { device, timer: small(a) },
        raw::KIND_BOTTOM_HALF => What::BottomHalf { device, bh: small(a), payload: (b != 0).then_some(data) },
        raw::KIND_PORT_IN => What::PortIn { device, port: small(a), data },
        raw::KIND_PORT_OUT => What::PortOut { device, port: small(a), data },
        raw::KIND_PORT_CHANGE => {
            let change = match small(b) {
                hot::PORT_OPENED => PortChange::Opened,
                hot::PORT_CLOSED => PortChange::Closed,
                hot::PORT_BREAK => PortChange::Break,
                _ => return None,
            };
            What::PortChange { device, port: small(a), change }
        }
        raw::KIND_MESSAGE => {
            What::Message { device, link: small(a), at: small(b), data: (c != 0).then_some(data) }
        }
        raw::KIND_BLOCK_REQUEST => {
            What::BlockRequest { device, port: small(a), token: b, ok: small(c) == hot::BLK_DONE }
        }
        raw::KIND_TRAP_RETURN => {
            What::TrapReturn(TrapReturn { hart: device, pc: a, from: Mode::of(b), to: Mode::of(c) })
        }
        raw::KIND_RESET => What::Reset,
        raw::KIND_MOVED => What::Moved,
        _ => return None,
    };
    Some(Event { icount: event.icount, vtime_ns: event.vtime_ns, what })
}
