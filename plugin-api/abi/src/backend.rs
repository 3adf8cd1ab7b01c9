//! Outside halves: what a plugin may be on the other side of a port. `#[repr(C)]` tables, append-only like those of
//! [`crate::hot`].
//!
//! A backend lives on the host's I/O thread, outside the guest: it has file descriptors and clocks, and no way to the
//! guest but the bytes of one port, which are in the log. In a replay it does not exist.

use crate::hot::Sink;
use core::ffi::c_void;

/// The exported function that a plugin with a backend has: `extern "C" fn() -> *const BackendRoot`.
pub const BACKEND_SYMBOL: &str = "reprise_backend";
/// Major version of these tables. A plugin with another one is refused.
pub const BACKEND_MAJOR: u32 = 1;

/// [`BackendHost::arm`]: virtual time as it is published to the outside. It stands still while the machine is stopped.
pub const CLOCK_EXTERNAL: u32 = 0;
/// [`BackendHost::arm`]: the host's monotonic time since it started.
pub const CLOCK_REALTIME: u32 = 1;

/// A descriptor is watched for something to read, or a connection to accept.
pub const WATCH_READ: u32 = 1;
/// A descriptor is watched for room to write, or a connection that is made.
pub const WATCH_WRITE: u32 = 2;

/// What the host finds by [`BACKEND_SYMBOL`].
#[repr(C)]
#[derive(Debug)]
pub struct BackendRoot {
    /// Size of this table in bytes.
    pub size: u64,
    /// [`BACKEND_MAJOR`].
    pub major: u32,
    /// Unused; zero.
    pub reserved: u32,
    /// Writes a JSON object to `sink`: `name`, `summary` and `schema`, a JSON Schema of the options.
    pub describe: unsafe extern "C" fn(sink: *mut c_void, put: Sink),
    /// A new backend with these options (a JSON object). 0, or 1 and the reason as JSON (`path`, `message`).
    pub open: unsafe extern "C" fn(
        options: *const u8,
        len: u64,
        out: *mut *mut c_void,
        sink: *mut c_void,
        put: Sink,
    ) -> u64,
    /// Something may have become possible: a watched descriptor is ready, a timer is due, the guest wrote, or took
    /// what was given. Called often and sometimes for nothing; must not block. 0, or 1 after a panic, which the shim
    /// has told the host; then the backend is closed.
    pub poll: unsafe extern "C" fn(backend: *mut c_void, cx: *mut BackendCx) -> u64,
    /// Free it. It closes its descriptors itself.
    pub close: unsafe extern "C" fn(backend: *mut c_void),
}

/// The host, for the duration of one `poll`.
#[repr(C)]
#[derive(Debug)]
pub struct BackendCx {
    /// For the table's functions.
    pub host: *mut c_void,
    /// The table.
    pub vtbl: *const BackendHost,
    /// [`CLOCK_EXTERNAL`] now, in nanoseconds.
    pub external_ns: u64,
    /// [`CLOCK_REALTIME`] now, in nanoseconds.
    pub realtime_ns: u64,
}

/// What a backend may ask of the host.
#[repr(C)]
#[derive(Debug)]
pub struct BackendHost {
    /// Size of this table in bytes.
    pub size: u64,
    /// Take up to `len` bytes of what the guest wrote; returns how many.
    pub take: unsafe extern "C" fn(host: *mut c_void, data: *mut u8, len: u64) -> u64,
    /// Give the guest bytes; returns how many it has room for. `poll` comes again when it has more.
    pub give: unsafe extern "C" fn(host: *mut c_void, data: *const u8, len: u64) -> u64,
    /// Be polled when the descriptor is ready (`WATCH_*`; 0: no longer). Edges: read and write until it would block.
    pub watch: unsafe extern "C" fn(host: *mut c_void, fd: i32, what: u32),
    /// Be polled at `at_ns` of a clock (`CLOCK_*`); `u64::MAX`: not. One time for each clock.
    pub arm: unsafe extern "C" fn(host: *mut c_void, clock: u32, at_ns: u64),
    /// Somebody is, or is no longer, at the other end: the guest's device is told.
    pub connected: unsafe extern "C" fn(host: *mut c_void, on: u32),
    /// A line for the user. Levels as in [`crate::hot::HostVtbl::log`].
    pub log: unsafe extern "C" fn(host: *mut c_void, level: u32, text: *const u8, len: u64),
}

const _: () = assert!(size_of::<BackendRoot>() == 48);
const _: () = assert!(size_of::<BackendCx>() == 32);
const _: () = assert!(size_of::<BackendHost>() == 56);
