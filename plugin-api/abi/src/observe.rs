//! Observers: plugins that see what a machine does and can change nothing of it.
//!
//! A library with an observer exports [`ObserverRoot`] under the name [`OBSERVER_SYMBOL`], whatever else it exports.
//! The table is plain `#[repr(C)]` with a leading size and append-only, as those of [`crate::hot`]; what is described
//! travels as JSON text. An observer is outside: it has no way back into the machine, so it may do what it likes.

use crate::{desc::DeviceDesc, hot::Sink};
use core::ffi::c_void;
use serde::{Deserialize, Serialize};

/// The symbol of the table, NUL terminated.
pub const OBSERVER_SYMBOL: &[u8] = b"reprise_observer\0";
/// Major version of everything here. An observer with another one is refused.
pub const OBSERVE_MAJOR: u32 = 1;
/// Minor version: grows with the table, and with each kind of event. Never a reason to refuse.
pub const OBSERVE_MINOR: u32 = 0;

/// What a library with an observer exports.
#[repr(C)]
#[derive(Debug)]
pub struct ObserverRoot {
    /// Size of this table in bytes.
    pub size: u64,
    /// [`OBSERVE_MAJOR`] that it was built with.
    pub major: u32,
    /// [`OBSERVE_MINOR`] that it was built with.
    pub minor: u32,
    /// Gives JSON of [`ObserverDesc`] to `put`. 0, or [`crate::hot::STATUS_PANIC`] and the panic's text instead.
    pub describe: unsafe extern "C" fn(sink: *mut c_void, put: Sink) -> u64,
    /// A new observer for JSON of [`Setup`]; `wants` gets a bit, `1 << kind`, for each kind of event that it is to be
    /// told of. Null: JSON of [`crate::desc::ConfigError`] was given to `put`.
    pub create: unsafe extern "C" fn(
        setup: *const u8,
        len: u64,
        wants: *mut u64,
        sink: *mut c_void,
        put: Sink,
    ) -> *mut c_void,
    /// Something happened; `event` and what it points to are valid for the call. 0, or else why not is given to `put`:
    /// the observer is told nothing more.
    pub event: unsafe extern "C" fn(
        observer: *mut c_void,
        event: *const EventRaw,
        sink: *mut c_void,
        put: Sink,
    ) -> u64,
    /// Nothing more will happen. Called once at most, and not after `event` failed. The result is as for `event`.
    pub finish: unsafe extern "C" fn(observer: *mut c_void, sink: *mut c_void, put: Sink) -> u64,
    /// Free it. Called once, last.
    pub drop: unsafe extern "C" fn(observer: *mut c_void),
}

/// Something that happened, at an instruction boundary or in an instruction. Of fixed size.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EventRaw {
    /// One of `KIND_*`. Kinds are only ever added.
    pub kind: u32,
    /// The hart or the device that it is about: its place in [`MachineDesc`].
    pub index: u32,
    /// Instructions that all harts attempted before it.
    pub icount: u64,
    /// Virtual time there, in nanoseconds since power-on.
    pub vtime_ns: u64,
    /// As the kind says; the others are 0.
    pub words: [u64; 6],
    /// As the kind says, or null.
    pub data: *const u8,
    /// Bytes there.
    pub len: u64,
}

/// Instructions of a hart that lie behind one another, told when the last is done. Words: virtual address of the first;
/// bytes; how many were attempted, of which the last may have trapped; the privilege mode (0 U, 1 S, 3 M); `satp`, or 0
/// in M-mode; what the last did, `END_*`.
pub const KIND_BLOCK: u32 = 0;
/// A load or store of a hart that did not trap. Words: `pc`; virtual address; bytes; [`ACCESS_LOAD`] and so on; the
/// value, zero-extended, of an atomic instruction what was there before.
pub const KIND_ACCESS: u32 = 1;
/// A hart took an exception. Words: cause; `epc`; `tval`; the mode before; the mode behind; the handler's address.
pub const KIND_EXCEPTION: u32 = 2;
/// A hart took an interrupt. Words: cause without its upper bit; `epc`; 0; the mode before; the mode behind; the
/// handler's address.
pub const KIND_INTERRUPT: u32 = 3;
/// A device's register was read. Words: region; offset in it; bytes; the value; 1 if the device refused; guest physical
/// address.
pub const KIND_MMIO_READ: u32 = 4;
/// A device's register was written. Words likewise.
pub const KIND_MMIO_WRITE: u32 = 5;
/// A device drives an output pin to another level. Words: pin; level.
pub const KIND_PIN: u32 = 6;
/// A device saw an input pin change. Words: pin; level.
pub const KIND_INPUT_PIN: u32 = 7;
/// A hart's interrupt line was driven. Words: the interrupt's bit number in `mip`; level.
pub const KIND_LINE: u32 = 8;
/// A device's timer expired. Words: timer.
pub const KIND_TIMER: u32 = 9;
/// A device's bottom half ran. Words: bottom half; 1 if it was a one-shot, whose payload is the data.
pub const KIND_BOTTOM_HALF: u32 = 10;
/// Bytes, or a frame, entered at a device's port. Words: port. Data: they.
pub const KIND_PORT_IN: u32 = 11;
/// A device wrote bytes, or a frame, to a port. Words: port. Data: they.
pub const KIND_PORT_OUT: u32 = 12;
/// The outside end of a device's port changed. Words: port; one of `hot::PORT_*`.
pub const KIND_PORT_CHANGE: u32 = 13;
/// A message arrived at a device. Words: link; address; 1 if there is one, 0 if what the device sent found nobody.
/// Data: the message.
pub const KIND_MESSAGE: u32 = 14;
/// A block request of a device completed. Words: port; token; status (`hot::BLK_*`).
pub const KIND_BLOCK_REQUEST: u32 = 15;
/// The machine was reset. Words: none.
pub const KIND_RESET: u32 = 16;
/// The machine was put elsewhere: what comes now does not follow from what came before. `icount` and `vtime_ns` are
/// those of the new place.
pub const KIND_MOVED: u32 = 17;

/// A hart came back from a trap, by `mret` or `sret`. Words: virtual address that it goes to; the mode before; the mode
/// behind.
pub const KIND_TRAP_RETURN: u32 = 18;

/// Word of [`KIND_BLOCK`]: what lies behind the last instruction is next.
pub const END_NEXT: u64 = 0;
/// Word of [`KIND_BLOCK`]: it went elsewhere.
pub const END_JUMP: u64 = 1;
/// Word of [`KIND_BLOCK`]: it called a function, by the registers that it used.
pub const END_CALL: u64 = 2;
/// Word of [`KIND_BLOCK`]: it returned from one, likewise.
pub const END_RETURN: u64 = 3;
/// Word of [`KIND_BLOCK`]: it trapped.
pub const END_TRAP: u64 = 4;
/// Word of [`KIND_BLOCK`]: it came back from a trap.
pub const END_TRAP_RETURN: u64 = 5;

/// Word of [`KIND_ACCESS`].
pub const ACCESS_LOAD: u64 = 0;
/// Word of [`KIND_ACCESS`].
pub const ACCESS_STORE: u64 = 1;
/// Word of [`KIND_ACCESS`].
pub const ACCESS_ATOMIC: u64 = 2;

/// What an observer says of itself. As in [`crate::desc`], fields may be added with a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObserverDesc {
    /// One line for people.
    pub summary: String,
    /// Version of its package.
    pub version: String,
    /// Version of `reprise-plugin-api` that it was built with.
    pub api_version: String,
    /// JSON Schema of the options, as [`DeviceDesc::schema`].
    pub schema: serde_json::Value,
}

/// What an observer is created for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// Its options, an object.
    pub options: serde_json::Value,
    /// What it is to watch.
    pub machine: MachineDesc,
}

/// A machine, and where it stands when the observer is attached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineDesc {
    /// How many harts there are.
    pub harts: u32,
    /// Instructions that all harts attempted by now.
    pub icount: u64,
    /// Virtual time now, in nanoseconds since power-on.
    pub vtime_ns: u64,
    /// Guest physical address of RAM.
    pub ram_base: u64,
    /// Bytes of RAM.
    pub ram_size: u64,
    /// The devices.
    pub devices: Vec<ObservedDevice>,
    /// Functions of the ELF files that it was booted from, by address.
    pub symbols: Vec<(u64, String)>,
}

/// A device of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObservedDevice {
    /// Its name on the board.
    pub id: String,
    /// What it says of itself: regions, pins, timers, bottom halves, ports and links have their places there.
    pub desc: DeviceDesc,
    /// Guest physical addresses of its regions.
    pub bases: Vec<u64>,
}

// Frozen: the table may only grow at the end.
const _: () = assert!(size_of::<ObserverRoot>() == 56);
const _: () = assert!(size_of::<EventRaw>() == 88);
