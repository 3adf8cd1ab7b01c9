//! What a device may ask of the host during one callback.
#![expect(unsafe_code, reason = "ABI shim: calls the host's function table")]

use crate::{
    device::{Bh, Link, OutPin, Port, Timer},
    net::Offload,
};
use core::{fmt, marker::PhantomData};
use reprise_abi::hot::{self, CtxRaw, HostVtbl};
use std::ffi::c_void;

/// The handle to the host for the duration of one callback.
///
/// The lifetime is invariant and the type is not `Send`: it cannot be stored in a device or carried to a thread.
pub struct Ctx<'a> {
    raw: &'a mut CtxRaw,
    _callback: PhantomData<(NotSend, Invariant<'a>)>,
}

type NotSend = *mut ();
type Invariant<'a> = fn(&'a ()) -> &'a ();

/// Some byte of a DMA range is not guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaError {
    /// Guest physical address of the range.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// The device cannot go on as it should.
    Error = 0,
    /// The guest did something odd. Rate-limited by the host.
    Warn = 1,
    /// Worth knowing.
    Info = 2,
    /// For the author.
    Debug = 3,
}

/// A disk behind a block port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Capacity in bytes, a multiple of 512.
    pub size_bytes: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Preferred request alignment in bytes.
    pub block_size: u32,
    /// Serial, NUL padded.
    pub serial: [u8; 20],
}

/// A block request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOp<'a> {
    /// Read `len` bytes at `offset`.
    Read {
        /// Byte offset, a multiple of 512.
        offset: u64,
        /// Length in bytes, a multiple of 512.
        len: u64,
    },
    /// Write `data` at `offset`.
    Write {
        /// Byte offset, a multiple of 512.
        offset: u64,
        /// A multiple of 512 bytes.
        data: &'a [u8],
    },
    /// Make everything written before durable.
    Flush,
    /// The range's content is no longer needed.
    Discard {
        /// Byte offset, a multiple of 512.
        offset: u64,
        /// Length in bytes, a multiple of 512.
        len: u64,
    },
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// Byte offset, a multiple of 512.
        offset: u64,
        /// Length in bytes, a multiple of 512.
        len: u64,
        /// The space may be given back.
        may_unmap: bool,
    },
}

/// A checked window on plain guest RAM, valid until the next use of its [`Ctx`].
pub struct Ram<'c> {
    window: hot::RamWindow,
    host: *mut c_void,
    vtbl: *const HostVtbl,
    _context: PhantomData<&'c mut ()>,
}

impl<'a> Ctx<'a> {
    /// Wrap the host's context for one callback.
    ///
    /// # Safety
    /// `raw` and the table it names must be valid for `'a`, and the call must come from the host's callback.
    #[must_use]
    pub unsafe fn from_raw(raw: *mut CtxRaw) -> Ctx<'a> {
        // SAFETY: the caller vouches for `raw` for all of 'a.
        Ctx { raw: unsafe { &mut *raw }, _callback: PhantomData }
    }

    fn host(&self) -> *mut c_void {
        self.raw.host
    }

    /// No reference, which would claim all of this version's table: an older host's ends earlier.
    fn vtbl(&self) -> *const HostVtbl {
        self.raw.vtbl
    }

    /// Virtual time of this callback, in nanoseconds since power-on.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.raw.now_ns
    }

    /// Drive an output pin. Takes effect right after the instruction (or event) that caused this callback.
    pub fn set_pin(&mut self, pin: OutPin, high: bool) {
        // SAFETY: the host's table is valid for 'a and takes any pin number.
        unsafe { ((*self.vtbl()).set_pin)(self.host(), pin.0, u32::from(high)) }
    }

    /// Arm a declared timer at a virtual time; arming again moves it. A time in the past fires at the next safe point.
    pub fn timer_arm(&mut self, timer: Timer, deadline_ns: u64) {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).timer_arm)(self.host(), timer.0, deadline_ns) }
    }

    /// Disarm a timer.
    pub fn timer_cancel(&mut self, timer: Timer) {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).timer_cancel)(self.host(), timer.0) }
    }

    /// When an armed timer will fire.
    #[must_use]
    pub fn timer_deadline(&self, timer: Timer) -> Option<u64> {
        // SAFETY: as in `set_pin`.
        let at = unsafe { ((*self.vtbl()).timer_deadline)(self.host(), timer.0) };
        (at != u64::MAX).then_some(at)
    }

    /// Queue a bottom half for the next safe point; one already queued keeps its place.
    pub fn bh_schedule(&mut self, bh: Bh) {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).bh_schedule)(self.host(), bh.0) }
    }

    /// Queue one invocation of a bottom half with a payload of its own.
    pub fn bh_oneshot(&mut self, bh: Bh, payload: &[u8]) {
        // SAFETY: as in `set_pin`; the slice is valid for the call and the host copies it.
        unsafe { ((*self.vtbl()).bh_oneshot)(self.host(), bh.0, payload.as_ptr(), payload.len() as u64) }
    }

    /// Copy from guest RAM.
    ///
    /// # Errors
    /// Some byte of the range is not RAM; nothing was copied.
    pub fn dma_read(&mut self, gpa: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let len = into.len() as u64;
        // SAFETY: as in `set_pin`; the slice is valid and exclusive for the call.
        let status = unsafe { ((*self.vtbl()).dma_read)(self.host(), gpa, into.as_mut_ptr(), len) };
        if status == hot::DMA_OK { Ok(()) } else { Err(DmaError { gpa, len }) }
    }

    /// Copy to guest RAM.
    ///
    /// # Errors
    /// Some byte of the range is not RAM; nothing was copied.
    pub fn dma_write(&mut self, gpa: u64, data: &[u8]) -> Result<(), DmaError> {
        let len = data.len() as u64;
        // SAFETY: as in `set_pin`; the slice is valid for the call.
        let status = unsafe { ((*self.vtbl()).dma_write)(self.host(), gpa, data.as_ptr(), len) };
        if status == hot::DMA_OK { Ok(()) } else { Err(DmaError { gpa, len }) }
    }

    /// The window of plain RAM that holds `gpa`. `None`: not RAM, or windows are switched off; use the DMA copies.
    pub fn ram(&mut self, gpa: u64) -> Option<Ram<'_>> {
        let mut window =
            hot::RamWindow { gpa: 0, len: 0, base: core::ptr::null_mut(), pages: core::ptr::null_mut() };
        // SAFETY: as in `set_pin`; `window` is valid for the write.
        let found = unsafe { ((*self.vtbl()).ram_window)(self.host(), gpa, &raw mut window) };
        (found != 0).then(|| Ram { window, host: self.host(), vtbl: self.vtbl(), _context: PhantomData })
    }

    /// Fill from the recorded random stream.
    pub fn random(&mut self, into: &mut [u8]) {
        // SAFETY: as in `set_pin`; the slice is valid and exclusive for the call.
        unsafe { ((*self.vtbl()).random)(self.host(), into.as_mut_ptr(), into.len() as u64) }
    }

    /// The recorded host wall clock in nanoseconds since 1970-01-01 UTC. Each call is an event in the log.
    pub fn host_clock_ns(&mut self) -> u64 {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).host_clock_ns)(self.host()) }
    }

    /// Take bytes (chr) or one frame (net) from a port's queue; returns how many bytes.
    pub fn port_read(&mut self, port: Port, into: &mut [u8]) -> usize {
        let len = into.len() as u64;
        // SAFETY: as in `set_pin`; the slice is valid and exclusive for the call.
        let got = unsafe { ((*self.vtbl()).port_read)(self.host(), port.0, into.as_mut_ptr(), len) };
        assert!(got <= len, "host returned {got} bytes for a buffer of {len}");
        usize::try_from(got).unwrap_or(into.len())
    }

    /// Give bytes (chr) or one frame (net) to the outside.
    pub fn port_write(&mut self, port: Port, data: &[u8]) {
        // SAFETY: as in `set_pin`; the slice is valid for the call.
        unsafe { ((*self.vtbl()).port_write)(self.host(), port.0, data.as_ptr(), data.len() as u64) }
    }

    /// How many bytes (chr) or frames (net) wait in a port's queue.
    #[must_use]
    pub fn port_pending(&self, port: Port) -> u64 {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).port_pending)(self.host(), port.0) }
    }

    /// Tell the outside what the device takes from a net port from now on. The host saves it; a device that never
    /// calls this gets frames without offloads, with packets of up to 1500 bytes. A host older than this call sends no
    /// others.
    pub fn net_offload(&mut self, port: Port, offload: Offload) {
        let table = self.raw.vtbl;
        let end = core::mem::offset_of!(HostVtbl, net_offload) + size_of::<usize>();
        // SAFETY: `from_raw`'s contract: the table outlives 'a. `size` says how much of it there is.
        let call = unsafe { ((*table).size >= end as u64).then(|| (&raw const (*table).net_offload).read()) };
        if let Some(call) = call {
            // SAFETY: as in `set_pin`.
            unsafe { call(self.host(), port.0, offload.bits(), offload.mtu) }
        }
    }

    /// Send a message, which is not empty, over a link: from a controller to its target at address `at`, from a target,
    /// as the one at `at`, to its controller. It arrives right after the instruction (or event) that caused this
    /// callback, behind all that were sent before it.
    pub fn send(&mut self, link: Link, at: u32, message: &[u8]) {
        let table = self.raw.vtbl;
        let end = core::mem::offset_of!(HostVtbl, link_send) + size_of::<usize>();
        // SAFETY: `from_raw`'s contract: the table outlives 'a. `size` says how much of it there is.
        let call = unsafe { ((*table).size >= end as u64).then(|| (&raw const (*table).link_send).read()) };
        // A host that knows no links has no board on which a device of its has one.
        if let Some(call) = call {
            // SAFETY: as in `set_pin`; the slice is valid for the call and the host copies it.
            unsafe { call(self.host(), link.0, at, message.as_ptr(), message.len() as u64) }
        }
    }

    /// The disk behind a block port, if the board connected one.
    #[must_use]
    pub fn blk_info(&self, port: Port) -> Option<BlockInfo> {
        let mut info = hot::BlkInfo::default();
        // SAFETY: as in `set_pin`; `info` is valid for the write.
        let found = unsafe { ((*self.vtbl()).blk_info)(self.host(), port.0, &raw mut info) };
        (found != 0).then_some(BlockInfo {
            size_bytes: info.size_bytes,
            read_only: info.read_only != 0,
            block_size: info.block_size,
            serial: info.serial,
        })
    }

    /// Submit a block request. The outcome, also a failure, comes through [`crate::Device::on_blk`] at a virtual
    /// deadline, never from inside this call. `token` is the device's own, unique among its requests in flight.
    pub fn blk_submit(&mut self, port: Port, token: u64, op: BlockOp<'_>) {
        let none: *const u8 = core::ptr::null();
        let (op, flags, offset, len, data) = match op {
            BlockOp::Read { offset, len } => (hot::BLK_READ, 0, offset, len, none),
            BlockOp::Write { offset, data } => (hot::BLK_WRITE, 0, offset, data.len() as u64, data.as_ptr()),
            BlockOp::Flush => (hot::BLK_FLUSH, 0, 0, 0, none),
            BlockOp::Discard { offset, len } => (hot::BLK_DISCARD, 0, offset, len, none),
            BlockOp::WriteZeroes { offset, len, may_unmap } => {
                (hot::BLK_WRITE_ZEROES, u32::from(may_unmap), offset, len, none)
            }
        };
        let req = hot::BlkReq { op, flags, token, offset, len, data };
        // SAFETY: as in `set_pin`; `req` and the data it names are valid for the call and the host copies them.
        unsafe { ((*self.vtbl()).blk_submit)(self.host(), port.0, &raw const req) }
    }

    /// End the run at the next safe point with the guest's exit code.
    pub fn power_off(&mut self, exit_code: u32) {
        self.control(hot::CONTROL_POWER_OFF, u64::from(exit_code));
    }

    /// Reset every hart and device at the next safe point.
    pub fn reset_machine(&mut self) {
        self.control(hot::CONTROL_RESET, 0);
    }

    /// Add `ticks` (wrapping) to the machine's time base as the harts' `time` CSR reads it. For the one device that
    /// holds `mtime`.
    pub fn set_time_offset(&mut self, ticks: u64) {
        self.control(hot::CONTROL_TIME_OFFSET, ticks);
    }

    fn control(&mut self, kind: u32, value: u64) {
        // SAFETY: as in `set_pin`.
        unsafe { ((*self.vtbl()).control)(self.host(), kind, value) }
    }

    /// A log line, named by the host with the device's id.
    pub fn log(&mut self, level: LogLevel, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        // SAFETY: as in `set_pin`; the text is valid for the call.
        unsafe { ((*self.vtbl()).log)(self.host(), level as u32, text.as_ptr(), text.len() as u64) }
    }
}

impl Ram<'_> {
    fn host_offset(&self, gpa: u64, len: usize) -> Result<usize, DmaError> {
        let bad = DmaError { gpa, len: len as u64 };
        let offset = gpa.checked_sub(self.window.gpa).ok_or(bad)?;
        let end = offset.checked_add(len as u64).ok_or(bad)?;
        if end > self.window.len { Err(bad) } else { usize::try_from(offset).map_err(|_| bad) }
    }

    /// Read a little-endian integer of `N` bytes.
    ///
    /// # Errors
    /// The range leaves the window.
    pub fn read<const N: usize>(&self, gpa: u64) -> Result<[u8; N], DmaError> {
        let mut out = [0; N];
        self.read_slice(gpa, &mut out)?;
        Ok(out)
    }

    /// Copy out of the window.
    ///
    /// # Errors
    /// The range leaves the window.
    pub fn read_slice(&self, gpa: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let offset = self.host_offset(gpa, into.len())?;
        // SAFETY: `host_offset` checked the range against the window, which the host keeps mapped for this callback;
        // the destination is an exclusive slice of ours and cannot overlap guest RAM.
        unsafe { core::ptr::copy_nonoverlapping(self.window.base.add(offset), into.as_mut_ptr(), into.len()) }
        Ok(())
    }

    /// Copy into the window, marking its pages dirty and dropping code made from them.
    ///
    /// # Errors
    /// The range leaves the window; nothing was copied.
    pub fn write_slice(&mut self, gpa: u64, data: &[u8]) -> Result<(), DmaError> {
        let offset = self.host_offset(gpa, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        // SAFETY: as in `read_slice`, with source and destination swapped.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), self.window.base.add(offset), data.len()) }
        let first = (gpa >> 12) - (self.window.gpa >> 12);
        let last = ((gpa + data.len() as u64 - 1) >> 12) - (self.window.gpa >> 12);
        let mut watched = false;
        for page in first..=last {
            // SAFETY: one map byte for each page of the window, and the range lies in the window.
            let flags = unsafe { &mut *self.window.pages.add(page as usize) };
            watched |= *flags & hot::PAGE_WATCHED != 0;
            *flags |= hot::PAGE_DIRTY;
        }
        if watched {
            // SAFETY: the host's table is valid for as long as the Ctx that this window borrows.
            unsafe { ((*self.vtbl).code_write)(self.host, gpa, data.len() as u64) }
        }
        Ok(())
    }
}
