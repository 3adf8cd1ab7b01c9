//! The host's side of a callback: the table of what a device may ask, bound to the one device that is running.
#![expect(unsafe_code, reason = "ABI shim: functions that plugins call through raw pointers")]

use crate::{
    log::LogLevel,
    services::{Control, PluginFault, Services},
};
use reprise_abi::hot::{self, BlkInfo, BlkReq, CtxRaw, DMA_BAD_ADDRESS, DMA_OK, HostVtbl, RamWindow};
use std::{ffi::c_void, ptr, slice};

/// The longest byte string that a device may hand over in one call: beyond it the length is surely garbage.
const MAX_SLICE: u64 = 1 << 30;

/// Who is running, and what it may reach.
struct Frame<'a> {
    services: &'a mut Services,
    device: usize,
    callback: &'static str,
}

/// Run `call` as a callback of `device`.
pub(crate) fn with_ctx<R>(
    services: &mut Services,
    device: usize,
    callback: &'static str,
    call: impl FnOnce(&mut CtxRaw) -> R,
) -> R {
    let now_ns = services.clock.vtime_ns();
    let mut frame = Frame { services, device, callback };
    let mut raw = CtxRaw { host: (&raw mut frame).cast(), vtbl: &raw const TABLE, now_ns };
    call(&mut raw)
}

static TABLE: HostVtbl = HostVtbl {
    size: size_of::<HostVtbl>() as u64,
    set_pin,
    timer_arm,
    timer_cancel,
    timer_deadline,
    bh_schedule,
    bh_oneshot,
    dma_read,
    dma_write,
    ram_window,
    code_write,
    random,
    host_clock_ns,
    port_read,
    port_write,
    port_pending,
    blk_info,
    blk_submit,
    control,
    log,
    fault,
    query,
};

/// The frame behind a callback's `host` pointer.
///
/// # Safety
/// `host` must be the pointer that [`with_ctx`] put into the running callback's [`CtxRaw`].
unsafe fn frame<'a>(host: *mut c_void) -> &'a mut Frame<'a> {
    // SAFETY: with_ctx keeps the frame alive for the callback, and callbacks never nest on one frame: every table
    // function returns before the device can call the next.
    unsafe { &mut *host.cast::<Frame<'a>>() }
}

/// Bytes that a device lends for one call.
///
/// # Safety
/// `data` must be valid for `len` bytes, or `len` 0.
unsafe fn lent<'a>(data: *const u8, len: u64) -> &'a [u8] {
    assert!(len <= MAX_SLICE, "a device lends {len} bytes");
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for the range.
    unsafe { slice::from_raw_parts(data, len as usize) }
}

/// A buffer that a device lends for one call.
///
/// # Safety
/// `data` must be valid and exclusive for `len` bytes, or `len` 0.
unsafe fn lent_mut<'a>(data: *mut u8, len: u64) -> &'a mut [u8] {
    assert!(len <= MAX_SLICE, "a device lends {len} bytes");
    if len == 0 {
        return &mut [];
    }
    // SAFETY: the caller vouches for the range.
    unsafe { slice::from_raw_parts_mut(data, len as usize) }
}

unsafe extern "C" fn set_pin(host: *mut c_void, pin: u32, level: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.attention |= f.services.wires.set(f.device, pin, level != 0);
}

unsafe extern "C" fn timer_arm(host: *mut c_void, timer: u32, deadline_ns: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.deadlines.arm(f.device, timer, deadline_ns);
    f.services.attention = true;
}

unsafe extern "C" fn timer_cancel(host: *mut c_void, timer: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.deadlines.cancel(f.device, timer);
}

unsafe extern "C" fn timer_deadline(host: *mut c_void, timer: u32) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.deadlines.deadline(f.device, timer).unwrap_or(u64::MAX)
}

unsafe extern "C" fn bh_schedule(host: *mut c_void, bh: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.bottom_halves.schedule(f.device, bh);
    f.services.attention = true;
}

unsafe extern "C" fn bh_oneshot(host: *mut c_void, bh: u32, data: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid slice.
    let payload = unsafe { lent(data, len) }.to_vec();
    f.services.bottom_halves.oneshot(f.device, bh, payload);
    f.services.attention = true;
}

unsafe extern "C" fn dma_read(host: *mut c_void, gpa: u64, data: *mut u8, len: u64) -> u32 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.services.ram.contains(gpa, len) {
        return DMA_BAD_ADDRESS;
    }
    // SAFETY: the ABI demands a valid, exclusive slice.
    let into = unsafe { lent_mut(data, len) };
    match f.services.ram.read(gpa, into) {
        Ok(()) => DMA_OK,
        Err(_) => DMA_BAD_ADDRESS,
    }
}

unsafe extern "C" fn dma_write(host: *mut c_void, gpa: u64, data: *const u8, len: u64) -> u32 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.services.ram.contains(gpa, len) {
        return DMA_BAD_ADDRESS;
    }
    // SAFETY: the ABI demands a valid slice.
    let data = unsafe { lent(data, len) };
    match f.services.ram.write(gpa, data) {
        Ok(()) => DMA_OK,
        Err(_) => DMA_BAD_ADDRESS,
    }
}

unsafe extern "C" fn ram_window(host: *mut c_void, gpa: u64, out: *mut RamWindow) -> u32 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    let ram = &f.services.ram;
    if !ram.contains(gpa, 1) {
        return 0;
    }
    let window = RamWindow { gpa: ram.base(), len: ram.size(), base: ram.host_base(), pages: ram.page_map() };
    // SAFETY: the ABI demands a valid out pointer.
    unsafe { out.write(window) };
    1
}

unsafe extern "C" fn code_write(host: *mut c_void, gpa: u64, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.ram.note_write(gpa, len);
}

unsafe extern "C" fn random(host: *mut c_void, data: *mut u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid, exclusive slice.
    let into = unsafe { lent_mut(data, len) };
    f.services.gate.random(into);
}

unsafe extern "C" fn host_clock_ns(host: *mut c_void) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.host_clock_ns()
}

unsafe extern "C" fn port_read(host: *mut c_void, port: u32, data: *mut u8, len: u64) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid, exclusive slice.
    let into = unsafe { lent_mut(data, len) };
    let slot = f.services.port(f.device, port);
    let (given, taken) = slot.read(into);
    if taken > 0 {
        let services = &mut *f.services;
        services.outside.port_taken(
            &services.device_ids[f.device],
            &services.ports[f.device][port as usize].name,
            taken,
        );
    }
    given as u64
}

unsafe extern "C" fn port_write(host: *mut c_void, port: u32, data: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid slice.
    let data = unsafe { lent(data, len) };
    f.services.port(f.device, port);
    let services = &mut *f.services;
    services.outside.port_write(
        &services.device_ids[f.device],
        &services.ports[f.device][port as usize].name,
        data,
    );
}

unsafe extern "C" fn port_pending(host: *mut c_void, port: u32) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.services.port(f.device, port).pending() as u64
}

unsafe extern "C" fn blk_info(host: *mut c_void, port: u32, out: *mut BlkInfo) -> u32 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    let Some(info) = f.services.disks.info(f.device, port) else { return 0 };
    // SAFETY: the ABI demands a valid out pointer.
    unsafe { out.write(info) };
    1
}

unsafe extern "C" fn blk_submit(host: *mut c_void, port: u32, req: *const BlkReq) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid request.
    let req = unsafe { &*req };
    let data_len = if req.op == hot::BLK_WRITE { req.len } else { 0 };
    // SAFETY: the ABI demands `len` valid bytes for a write.
    let data = unsafe { lent(req.data, data_len) };
    let now_ns = f.services.clock.vtime_ns();
    let (id, done_ns) = f.services.disks.submit(now_ns, f.device, port, req, data);
    f.services.deadlines.push_disk(done_ns, id);
    f.services.attention = true;
}

unsafe extern "C" fn control(host: *mut c_void, kind: u32, value: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    match kind {
        hot::CONTROL_POWER_OFF => f.services.request(Control::PowerOff { code: value as u32 }),
        hot::CONTROL_RESET => f.services.request(Control::Reset),
        hot::CONTROL_TIME_OFFSET => {
            f.services.clock.set_time_offset(value);
            f.services.attention = true;
        }
        _ => f.services.log(
            LogLevel::Error,
            Some(f.device),
            format!("asks for unknown control {kind}: ignored"),
        ),
    }
}

unsafe extern "C" fn log(host: *mut c_void, level: u32, text: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid slice.
    let text = String::from_utf8_lossy(unsafe { lent(text, len) }).into_owned();
    let level = match level {
        0 => LogLevel::Error,
        1 => LogLevel::Warn,
        2 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    f.services.log(level, Some(f.device), text);
}

unsafe extern "C" fn fault(host: *mut c_void, text: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid slice.
    let message = String::from_utf8_lossy(unsafe { lent(text, len) }).into_owned();
    let device = f.services.device_ids[f.device].clone();
    f.services.fault.get_or_insert(PluginFault { device, callback: f.callback, message });
    f.services.attention = true;
}

unsafe extern "C" fn query(_host: *mut c_void, _name: *const u8, _len: u64) -> *const c_void {
    ptr::null()
}
