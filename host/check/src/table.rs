//! The function table of the host that a device under test believes in.
#![expect(unsafe_code, reason = "ABI shim: functions that plugins call through raw pointers")]

use crate::{
    script::{RAM_BASE, RAM_SIZE},
    world::{Breach, Event, World},
};
use reprise_abi::hot::{self, BlkInfo, BlkReq, CtxRaw, HostVtbl, RamWindow};
use std::ffi::c_void;

/// The longest byte string that a device may hand over in one call.
const MAX_SLICE: u64 = 1 << 30;

/// A context that stays where it is, so that a device which kept one is found out instead of reading a dead stack.
pub(crate) fn context() -> Box<CtxRaw> {
    Box::new(CtxRaw { host: std::ptr::null_mut(), vtbl: &raw const TABLE, now_ns: 0 })
}

/// Bind a context to the world of this callback. Nothing else may use the world while the callback runs.
pub(crate) fn bind(cx: &mut CtxRaw, world: &mut World) {
    cx.now_ns = world.now_ns;
    cx.host = (&raw mut *world).cast();
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
    net_offload,
    link_send,
};

// Every function below has one contract, that of `HostVtbl`: `host` is what `bind` put there, and `data` is valid for
// `len` bytes.

/// The world, if a callback runs.
///
/// # Safety
/// The contract above.
unsafe fn this<'a>(host: *mut c_void, call: &str) -> Option<&'a mut World> {
    // SAFETY: the contract above; the reference does not outlive the calling function, and a world lives as long as its
    // device.
    let world: &mut World = unsafe { &mut *host.cast() };
    if world.running.is_none() {
        world.broke(Breach::Outside(format!("calls `{call}` of the host while no callback runs")));
        return None;
    }
    Some(world)
}

fn plausible(world: &mut World, data: *const u8, len: u64) -> bool {
    let plausible = len <= MAX_SLICE && !data.is_null();
    if !plausible {
        world.broke(Breach::Undeclared(format!("lends {len} bytes at {data:p}")));
    }
    plausible
}

/// # Safety
/// The contract above.
unsafe fn input<'a>(world: &mut World, data: *const u8, len: u64) -> &'a [u8] {
    if len == 0 || !plausible(world, data, len) {
        return &[];
    }
    // SAFETY: the contract above.
    unsafe { core::slice::from_raw_parts(data, len as usize) }
}

/// # Safety
/// The contract above.
unsafe fn output<'a>(world: &mut World, data: *mut u8, len: u64) -> &'a mut [u8] {
    if len == 0 || !plausible(world, data, len) {
        return &mut [];
    }
    // SAFETY: the contract above.
    unsafe { core::slice::from_raw_parts_mut(data, len as usize) }
}

unsafe extern "C" fn set_pin(host: *mut c_void, pin: u32, level: u32) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "set_pin") }) else { return };
    world.set_pin(pin, level != 0);
}

unsafe extern "C" fn timer_arm(host: *mut c_void, timer: u32, deadline_ns: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "timer_arm") }) else { return };
    world.arm(timer, deadline_ns);
}

unsafe extern "C" fn timer_cancel(host: *mut c_void, timer: u32) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "timer_cancel") }) else { return };
    world.cancel(timer);
}

unsafe extern "C" fn timer_deadline(host: *mut c_void, timer: u32) -> u64 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "timer_deadline") }) else { return u64::MAX };
    world.deadline(timer)
}

unsafe extern "C" fn bh_schedule(host: *mut c_void, bh: u32) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "bh_schedule") }) else { return };
    world.schedule(bh, None);
}

unsafe extern "C" fn bh_oneshot(host: *mut c_void, bh: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "bh_oneshot") }) else { return };
    // SAFETY: the contract above.
    let data = unsafe { input(world, data, len) };
    world.schedule(bh, Some(data.to_vec()));
}

unsafe extern "C" fn dma_read(host: *mut c_void, gpa: u64, data: *mut u8, len: u64) -> u32 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "dma_read") }) else { return hot::DMA_BAD_ADDRESS };
    if world.ram.range(gpa, len).is_none() {
        return hot::DMA_BAD_ADDRESS;
    }
    // SAFETY: the contract above.
    let data = unsafe { output(world, data, len) };
    let ram = world.ram.range(gpa, len).unwrap_or_default();
    data.iter_mut().zip(ram).for_each(|(to, from)| *to = from.get());
    hot::DMA_OK
}

unsafe extern "C" fn dma_write(host: *mut c_void, gpa: u64, data: *const u8, len: u64) -> u32 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "dma_write") }) else { return hot::DMA_BAD_ADDRESS };
    if world.ram.range(gpa, len).is_none() {
        return hot::DMA_BAD_ADDRESS;
    }
    // SAFETY: the contract above.
    let data = unsafe { input(world, data, len) };
    world.ram.put(gpa, data);
    if world.ram.mark_written(gpa, len) {
        world.announced.push((gpa, len));
    }
    hot::DMA_OK
}

unsafe extern "C" fn ram_window(host: *mut c_void, gpa: u64, out: *mut RamWindow) -> u32 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "ram_window") }) else { return 0 };
    if !world.windows || world.ram.range(gpa, 1).is_none() {
        return 0;
    }
    let (base, pages) =
        (world.ram.bytes.as_ptr().cast_mut().cast(), world.ram.pages.as_ptr().cast_mut().cast());
    // SAFETY: `out` is valid for the write, says the contract of `HostVtbl::ram_window`.
    unsafe { out.write(RamWindow { gpa: RAM_BASE, len: RAM_SIZE, base, pages }) };
    1
}

unsafe extern "C" fn code_write(host: *mut c_void, gpa: u64, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "code_write") }) else { return };
    world.announced.push((gpa, len));
}

unsafe extern "C" fn random(host: *mut c_void, data: *mut u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "random") }) else { return };
    // SAFETY: the contract above.
    let data = unsafe { output(world, data, len) };
    world.fill_random(data);
}

unsafe extern "C" fn host_clock_ns(host: *mut c_void) -> u64 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "host_clock_ns") }) else { return 0 };
    world.wall_clock_ns()
}

unsafe extern "C" fn port_read(host: *mut c_void, port: u32, data: *mut u8, len: u64) -> u64 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "port_read") }) else { return 0 };
    // SAFETY: the contract above.
    let data = unsafe { output(world, data, len) };
    world.take(port, data)
}

unsafe extern "C" fn port_write(host: *mut c_void, port: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "port_write") }) else { return };
    // SAFETY: the contract above.
    let data = unsafe { input(world, data, len) };
    world.send(port, data);
}

unsafe extern "C" fn port_pending(host: *mut c_void, port: u32) -> u64 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "port_pending") }) else { return 0 };
    world.port(port).map_or(0, |port| (port.bytes.len() + port.frames.len()) as u64)
}

unsafe extern "C" fn blk_info(host: *mut c_void, port: u32, out: *mut BlkInfo) -> u32 {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "blk_info") }) else { return 0 };
    let Some(size_bytes) = world.port(port).map(|port| port.disk.bytes).filter(|size| *size > 0) else {
        return 0;
    };
    let mut serial = [0; 20];
    serial[..10].copy_from_slice(b"check-disk");
    // SAFETY: `out` is valid for the write, says the contract of `HostVtbl::blk_info`.
    unsafe { out.write(BlkInfo { size_bytes, read_only: 0, block_size: 512, serial }) };
    1
}

unsafe extern "C" fn blk_submit(host: *mut c_void, port: u32, req: *const BlkReq) {
    // SAFETY: the contract above, and `req` is valid for the call.
    let (Some(world), req) = (unsafe { (this(host, "blk_submit"), &*req) }) else { return };
    let len = if req.op == hot::BLK_WRITE { req.len } else { 0 };
    // SAFETY: `req.data` is valid for `req.len` bytes if this is a write.
    let data = unsafe { input(world, req.data, len) };
    world.submit(port, req, data);
}

unsafe extern "C" fn control(host: *mut c_void, kind: u32, value: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "control") }) else { return };
    if kind > hot::CONTROL_TIME_OFFSET {
        world.broke(Breach::Undeclared(format!("asks the machine for unknown control {kind}")));
    }
    world.events.push(Event::Control { kind, value });
}

unsafe extern "C" fn log(host: *mut c_void, level: u32, text: *const u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "log") }) else { return };
    // SAFETY: the contract above.
    let text = unsafe { input(world, text, len) };
    world.events.push(Event::Log { level, text: String::from_utf8_lossy(text).into_owned() });
}

unsafe extern "C" fn fault(host: *mut c_void, text: *const u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "fault") }) else { return };
    // SAFETY: the contract above.
    let text = unsafe { input(world, text, len) };
    world.broke(Breach::Panic(String::from_utf8_lossy(text).into_owned()));
}

unsafe extern "C" fn query(_host: *mut c_void, _name: *const u8, _len: u64) -> *const c_void {
    std::ptr::null()
}

unsafe extern "C" fn net_offload(host: *mut c_void, port: u32, bits: u32, mtu: u32) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "net_offload") }) else { return };
    world.set_offload(port, bits, mtu);
}

unsafe extern "C" fn link_send(host: *mut c_void, link: u32, at: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let Some(world) = (unsafe { this(host, "link_send") }) else { return };
    if len == 0 || len > hot::MAX_MESSAGE {
        let text = format!("sends a message of {len} bytes; a link takes 1 to {}", hot::MAX_MESSAGE);
        return world.broke(Breach::Undeclared(text));
    }
    // SAFETY: the contract above.
    let data = unsafe { input(world, data, len) };
    world.say(link, at, data);
}
