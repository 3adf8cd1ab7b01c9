//! The hot path: `#[repr(C)]` tables, append-only within ABI major version 1.
//!
//! Every function pointer is called on the machine's one thread, between two guest instructions or from inside the
//! one that caused it. A table starts with its own `size` in bytes: fields beyond that size do not exist for the peer.

use core::ffi::c_void;

/// ABI major version. A plugin with another major version is refused.
pub const ABI_MAJOR: u32 = 1;
/// ABI minor version: grows when a table grows. Never a reason to refuse.
pub const ABI_MINOR: u32 = 2;

/// Result of an MMIO access, returned in two registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoRes {
    /// The value read, zero-extended; 0 for a write.
    pub value: u64,
    /// [`IO_OK`], [`IO_FAULT`] or [`STATUS_PANIC`].
    pub status: u64,
}

/// The access had its architected effect.
pub const IO_OK: u64 = 0;
/// The device refuses the access: the guest takes an access fault.
pub const IO_FAULT: u64 = 1;
/// The device panicked; the shim has already told the host through [`HostVtbl::fault`].
pub const STATUS_PANIC: u64 = 2;

/// `dma_*` and `blk_submit`: done.
pub const DMA_OK: u32 = 0;
/// Some byte of the range is not guest RAM.
pub const DMA_BAD_ADDRESS: u32 = 1;

/// [`DevVtbl::on_port`] event: bytes (or a frame) wait in the port's queue.
pub const PORT_READABLE: u32 = 0;
/// [`DevVtbl::on_port`] event: the outside end was connected.
pub const PORT_OPENED: u32 = 1;
/// [`DevVtbl::on_port`] event: the outside end went away.
pub const PORT_CLOSED: u32 = 2;
/// [`DevVtbl::on_port`] event: the outside sent a serial break.
pub const PORT_BREAK: u32 = 3;

/// [`DevVtbl::reset`] kind: power-on. State is as after `create`.
pub const RESET_COLD: u32 = 0;
/// [`DevVtbl::reset`] kind: the machine was reset while running.
pub const RESET_WARM: u32 = 1;

/// [`HostVtbl::control`]: end the run; `value` is the guest's exit code.
pub const CONTROL_POWER_OFF: u32 = 0;
/// [`HostVtbl::control`]: reset every device and hart at the next safe point.
pub const CONTROL_RESET: u32 = 1;
/// [`HostVtbl::control`]: `value` is added (wrapping, in time-base ticks) to what the harts' `time` CSR reads.
pub const CONTROL_TIME_OFFSET: u32 = 2;

/// Bit of a RAM window's page map: changed since the last snapshot or digest.
pub const PAGE_DIRTY: u8 = 1;
/// Bit of a RAM window's page map: decoded or translated from, or walked as a page table. A writer must call
/// [`HostVtbl::code_write`] after writing there.
pub const PAGE_WATCHED: u8 = 2;

/// A run of plain guest RAM. Valid for the callback in which it was obtained.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RamWindow {
    /// Guest physical address of `base`.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
    /// Host address of the first byte.
    pub base: *mut u8,
    /// One byte per 4 KiB page of the window ([`PAGE_DIRTY`], [`PAGE_WATCHED`]); the first covers `gpa`'s page.
    pub pages: *mut u8,
}

/// [`HostVtbl::net_offload`]: a frame's checksum may be left to the device (NEEDS_CSUM), or known to be good
/// (DATA_VALID).
pub const NET_CSUM: u32 = 1 << 0;
/// [`HostVtbl::net_offload`]: TCP segments of IPv4 may come as one frame.
pub const NET_TSO4: u32 = 1 << 1;
/// [`HostVtbl::net_offload`]: TCP segments of IPv6 may come as one frame.
pub const NET_TSO6: u32 = 1 << 2;
/// [`HostVtbl::net_offload`]: such a frame may carry ECN's CWR.
pub const NET_ECN: u32 = 1 << 3;
/// [`HostVtbl::net_offload`]: UDP datagrams of IPv4 may come as one frame.
pub const NET_USO4: u32 = 1 << 4;
/// [`HostVtbl::net_offload`]: UDP datagrams of IPv6 may come as one frame.
pub const NET_USO6: u32 = 1 << 5;

/// What a block port is connected to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BlkInfo {
    /// Capacity in bytes, a multiple of 512.
    pub size_bytes: u64,
    /// 1 if writes are refused.
    pub read_only: u32,
    /// Preferred request alignment in bytes (512 or 4096).
    pub block_size: u32,
    /// Up to 20 bytes, NUL padded: what virtio-blk GET_ID answers.
    pub serial: [u8; 20],
}

/// [`BlkReq::op`]: read `len` bytes at `offset`; the data comes with the completion.
pub const BLK_READ: u32 = 0;
/// [`BlkReq::op`]: write `len` bytes from `data` at `offset`. The host copies `data` before it returns.
pub const BLK_WRITE: u32 = 1;
/// [`BlkReq::op`]: everything written before is durable once this completes.
pub const BLK_FLUSH: u32 = 2;
/// [`BlkReq::op`]: the range's content is no longer needed.
pub const BLK_DISCARD: u32 = 3;
/// [`BlkReq::op`]: the range reads as zeroes afterwards.
pub const BLK_WRITE_ZEROES: u32 = 4;

/// [`DevVtbl::on_blk`] status: done.
pub const BLK_DONE: u32 = 0;
/// [`DevVtbl::on_blk`] status: I/O error, out of range, or read-only.
pub const BLK_ERROR: u32 = 1;

/// A block request. Completes at a virtual deadline that the board's disk timing fixes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlkReq {
    /// `BLK_*`.
    pub op: u32,
    /// [`BLK_WRITE_ZEROES`]: bit 0 = may unmap.
    pub flags: u32,
    /// Chosen by the device, handed back on completion; unique among its requests in flight.
    pub token: u64,
    /// Byte offset, a multiple of 512.
    pub offset: u64,
    /// Length in bytes, a multiple of 512.
    pub len: u64,
    /// `len` bytes for [`BLK_WRITE`], else null.
    pub data: *const u8,
}

/// One callback's context: lives on the host's stack while the callback runs.
#[repr(C)]
#[derive(Debug)]
pub struct CtxRaw {
    /// The host's, opaque.
    pub host: *mut c_void,
    /// What the device may ask of the host.
    pub vtbl: *const HostVtbl,
    /// Virtual time of this callback, in nanoseconds since power-on.
    pub now_ns: u64,
}

/// Everything a device may ask of the host, and nothing more. Only offered while a callback runs.
#[repr(C)]
#[derive(Debug)]
pub struct HostVtbl {
    /// Size of this table in bytes.
    pub size: u64,
    /// Drive output pin `pin` (flattened index) to `level`. Takes effect after the causing instruction.
    pub set_pin: unsafe extern "C" fn(host: *mut c_void, pin: u32, level: u32),
    /// Arm timer `timer` at virtual time `deadline_ns`; re-arming moves it. In the past: fires at the next safe point.
    pub timer_arm: unsafe extern "C" fn(host: *mut c_void, timer: u32, deadline_ns: u64),
    /// Disarm. Disarming an idle timer is no error.
    pub timer_cancel: unsafe extern "C" fn(host: *mut c_void, timer: u32),
    /// Deadline of an armed timer, or `u64::MAX`.
    pub timer_deadline: unsafe extern "C" fn(host: *mut c_void, timer: u32) -> u64,
    /// Queue a declared bottom half; one that is already queued stays where it is.
    pub bh_schedule: unsafe extern "C" fn(host: *mut c_void, bh: u32),
    /// Queue one invocation of a declared bottom half with its own payload.
    pub bh_oneshot: unsafe extern "C" fn(host: *mut c_void, bh: u32, data: *const u8, len: u64),
    /// Copy from guest RAM. [`DMA_OK`] or [`DMA_BAD_ADDRESS`]; nothing is copied on error.
    pub dma_read: unsafe extern "C" fn(host: *mut c_void, gpa: u64, data: *mut u8, len: u64) -> u32,
    /// Copy to guest RAM, marking pages dirty and dropping code. Nothing is copied on error.
    pub dma_write: unsafe extern "C" fn(host: *mut c_void, gpa: u64, data: *const u8, len: u64) -> u32,
    /// The RAM window that holds `gpa`: 1 and `out` filled, or 0 (not RAM, or windows are switched off by a checker).
    pub ram_window: unsafe extern "C" fn(host: *mut c_void, gpa: u64, out: *mut RamWindow) -> u32,
    /// Tell the host that a page with [`PAGE_WATCHED`] was written through a window.
    pub code_write: unsafe extern "C" fn(host: *mut c_void, gpa: u64, len: u64),
    /// Fill from the recorded random stream.
    pub random: unsafe extern "C" fn(host: *mut c_void, data: *mut u8, len: u64),
    /// The recorded host wall clock, nanoseconds since 1970-01-01 UTC.
    pub host_clock_ns: unsafe extern "C" fn(host: *mut c_void) -> u64,
    /// Take up to `len` bytes (chr) or one frame (net; the rest of a longer frame is dropped) from a port's queue. A
    /// frame is a 12-byte virtio-net header (virtio 1.2 §5.1.6) and the Ethernet frame, in both directions.
    pub port_read: unsafe extern "C" fn(host: *mut c_void, port: u32, data: *mut u8, len: u64) -> u64,
    /// Give bytes (chr) or one frame (net) to the outside. Never fails: what nobody reads is dropped.
    pub port_write: unsafe extern "C" fn(host: *mut c_void, port: u32, data: *const u8, len: u64),
    /// Bytes (chr) or frames (net) that wait in a port's queue.
    pub port_pending: unsafe extern "C" fn(host: *mut c_void, port: u32) -> u64,
    /// 1 and `out` filled if the block port has a disk, else 0.
    pub blk_info: unsafe extern "C" fn(host: *mut c_void, port: u32, out: *mut BlkInfo) -> u32,
    /// Submit a request. The outcome comes through [`DevVtbl::on_blk`], also for a request that cannot succeed.
    pub blk_submit: unsafe extern "C" fn(host: *mut c_void, port: u32, req: *const BlkReq),
    /// `CONTROL_*` with its value.
    pub control: unsafe extern "C" fn(host: *mut c_void, kind: u32, value: u64),
    /// A log line. Levels: 0 error, 1 warning (guest misbehaviour; rate-limited), 2 info, 3 debug.
    pub log: unsafe extern "C" fn(host: *mut c_void, level: u32, text: *const u8, len: u64),
    /// The shim caught a panic in this device: `text` is its message and place. The machine stops at once.
    pub fault: unsafe extern "C" fn(host: *mut c_void, text: *const u8, len: u64),
    /// An extension table by name, or null. For tables that this one does not know.
    pub query: unsafe extern "C" fn(host: *mut c_void, name: *const u8, len: u64) -> *const c_void,
    /// Since minor version 1. From now on the device takes frames with these offloads (`NET_*`) from a net port, and
    /// without TSO and USO packets of at most `mtu` bytes behind the Ethernet header. The host holds it like a pin's
    /// level: it is saved and restored, and starts as no offloads and 1500.
    pub net_offload: unsafe extern "C" fn(host: *mut c_void, port: u32, bits: u32, mtu: u32),
    /// Since minor version 2. A message of up to [`MAX_MESSAGE`] bytes, not empty, to the other end of a link: from a
    /// controller to its target at address `at`, from a target, as the one at `at`, to its controller. It arrives right
    /// after the instruction (or event) that caused this callback, behind all that were sent before it.
    pub link_send: unsafe extern "C" fn(host: *mut c_void, link: u32, at: u32, data: *const u8, len: u64),
}

/// Longest message of a link, in bytes.
pub const MAX_MESSAGE: u64 = 64 << 10;

/// Receives bytes during [`DevVtbl::save`] and error text during [`DevVtbl::load`].
pub type Sink = unsafe extern "C" fn(sink: *mut c_void, data: *const u8, len: u64);

/// What the host may ask of a device. `dev` is the instance of [`crate::root::DevHandle`]. No function may be null,
/// even where the device has nothing that it is for, but for [`DevVtbl::on_message`] of a device without links.
#[repr(C)]
#[derive(Debug)]
pub struct DevVtbl {
    /// Size of this table in bytes.
    pub size: u64,
    /// Read `size` bytes (1, 2, 4 or 8, as the region declares; naturally aligned) at `offset` of region `region`.
    pub mmio_read:
        unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, region: u32, offset: u64, size: u32) -> IoRes,
    /// Write likewise. `value` is zero-extended.
    pub mmio_write: unsafe extern "C" fn(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        region: u32,
        offset: u64,
        size: u32,
        value: u64,
    ) -> IoRes,
    /// A declared timer reached its deadline (it is disarmed already).
    pub on_timer: unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, timer: u32) -> u64,
    /// A bottom half runs; `data` is null for a queued one, the payload for a one-shot.
    pub on_bh:
        unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, bh: u32, data: *const u8, len: u64) -> u64,
    /// Input pin `pin` (flattened index) changed to `level`.
    pub on_pin: unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, pin: u32, level: u32) -> u64,
    /// Something happened on a port (`PORT_*`).
    pub on_port: unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, port: u32, event: u32) -> u64,
    /// A block request completed; `data` holds what was read.
    pub on_blk: unsafe extern "C" fn(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        port: u32,
        token: u64,
        status: u32,
        data: *const u8,
        len: u64,
    ) -> u64,
    /// Return to the state after `create`, driving pins to match (`RESET_*`). The host first disarms the device's
    /// timers and drops its bottom halves and block requests in flight.
    pub reset: unsafe extern "C" fn(dev: *mut c_void, cx: *mut CtxRaw, kind: u32) -> u64,
    /// Write the state record (see [`crate::state`]) to `sink`. 0, or [`STATUS_PANIC`] and the panic's text instead.
    pub save: unsafe extern "C" fn(dev: *mut c_void, sink: *mut c_void, put: Sink) -> u64,
    /// Replace the state by a record. 0, or 1 with the reason given to `put` ([`STATUS_PANIC`] if it panicked); then
    /// the device must not be used again.
    pub load: unsafe extern "C" fn(
        dev: *mut c_void,
        data: *const u8,
        len: u64,
        sink: *mut c_void,
        put: Sink,
    ) -> u64,
    /// Free the instance.
    pub drop: unsafe extern "C" fn(dev: *mut c_void),
    /// Since minor version 2. A message came over a link: to a controller from its target at address `at`, to a target
    /// as the one at `at`. `data` is null when a controller's own message found nobody there.
    pub on_message: unsafe extern "C" fn(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        link: u32,
        at: u32,
        data: *const u8,
        len: u64,
    ) -> u64,
}

// Frozen at 1.0: these may only grow at the end, with ABI_MINOR.
const _: () = assert!(size_of::<IoRes>() == 16);
const _: () = assert!(size_of::<CtxRaw>() == 24);
const _: () = assert!(size_of::<BlkReq>() == 40);
const _: () = assert!(size_of::<HostVtbl>() == 8 * 24);
const _: () = assert!(size_of::<DevVtbl>() == 8 * 13);
