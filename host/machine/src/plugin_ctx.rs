//! The host's side of a callback: the table of what a device may ask, bound to the one device that is running.
#![expect(unsafe_code, reason = "ABI shim: functions that plugins call through raw pointers")]

use crate::{
    acts::{Did, kept},
    log::LogLevel,
    outside::{Asked, NetOffload},
    services::{Control, PluginFault, Services},
};
use reprise_abi::{
    hot::{self, BlkInfo, BlkReq, CtxRaw, DMA_BAD_ADDRESS, DMA_OK, HostVtbl, RamWindow},
    observe::{KIND_PIN, KIND_PORT_OUT},
};
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
    net_offload,
    link_send,
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

impl Frame<'_> {
    /// The device broke the contract. No unwinding may leave a function of the table, so this is a fault like a panic
    /// of the device's own: the call does nothing and the machine stops at the next safe point.
    #[cold]
    fn breach(&mut self, message: String) {
        let device = self.services.device_ids[self.device].clone();
        self.services.fault.get_or_insert(PluginFault { device, callback: self.callback, message });
        self.services.attention = true;
    }

    /// The device did something, if anybody wants to know.
    fn did(&mut self, what: impl FnOnce() -> Did) {
        self.services.did(self.device, self.callback, what);
    }

    /// Whether the device declared as many of something.
    fn declared(&mut self, what: &str, id: u32, declared: usize) -> bool {
        let known = (id as usize) < declared;
        if !known {
            self.breach(format!("uses {what} {id} but declared {declared}"));
        }
        known
    }

    /// A pin has another level. Out of line: devices say the level at each access, and mostly it is the same.
    #[inline(never)]
    fn drive(&mut self, pin: u32, high: bool) {
        if self.services.observers.want(KIND_PIN) {
            self.services.observe(KIND_PIN, self.device, [pin.into(), high.into()]);
            self.did(|| Did::Pin { pin, high });
        }
        self.services.attention |= self.services.wires.set(self.device, pin, high);
    }

    fn has_timer(&mut self, timer: u32) -> bool {
        let declared = self.services.deadlines.declared(self.device);
        self.declared("timer", timer, declared)
    }

    fn has_bottom_half(&mut self, bh: u32) -> bool {
        let declared = self.services.bottom_halves.declared(self.device);
        self.declared("bottom half", bh, declared)
    }

    fn has_port(&mut self, port: u32) -> bool {
        let declared = self.services.ports[self.device].len();
        self.declared("port", port, declared)
    }

    /// Bytes that the device lends for one call; `None` if it cannot mean that.
    ///
    /// # Safety
    /// `data` must be valid for `len` bytes, or `len` 0.
    unsafe fn lent<'b>(&mut self, data: *const u8, len: u64) -> Option<&'b [u8]> {
        if len == 0 {
            return Some(&[]);
        }
        if !self.plausible(data, len) {
            return None;
        }
        // SAFETY: the caller vouches for the range.
        Some(unsafe { slice::from_raw_parts(data, len as usize) })
    }

    /// A buffer that the device lends for one call; `None` if it cannot mean that.
    ///
    /// # Safety
    /// `data` must be valid and exclusive for `len` bytes, or `len` 0.
    unsafe fn lent_mut<'b>(&mut self, data: *mut u8, len: u64) -> Option<&'b mut [u8]> {
        if len == 0 {
            return Some(&mut []);
        }
        if !self.plausible(data, len) {
            return None;
        }
        // SAFETY: the caller vouches for the range.
        Some(unsafe { slice::from_raw_parts_mut(data, len as usize) })
    }

    fn plausible(&mut self, data: *const u8, len: u64) -> bool {
        let plausible = len <= MAX_SLICE && !data.is_null();
        if !plausible {
            self.breach(format!("lends {len} bytes at {data:p}"));
        }
        plausible
    }
}

unsafe extern "C" fn set_pin(host: *mut c_void, pin: u32, level: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    let high = level != 0;
    match f.services.wires.level(f.device, pin) {
        Some(before) if before == high => {}
        Some(_) => f.drive(pin, high),
        None => {
            let declared = f.services.wires.declared(f.device);
            f.declared("output pin", pin, declared);
        }
    }
}

unsafe extern "C" fn timer_arm(host: *mut c_void, timer: u32, deadline_ns: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if f.has_timer(timer) {
        if f.services.is_watched(f.device)
            && f.services.deadlines.deadline(f.device, timer) != Some(deadline_ns)
        {
            f.did(|| Did::Arm { timer, at_ns: deadline_ns });
        }
        f.services.deadlines.arm(f.device, timer, deadline_ns);
        f.services.attention = true;
    }
}

unsafe extern "C" fn timer_cancel(host: *mut c_void, timer: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if f.has_timer(timer) {
        if f.services.is_watched(f.device) && f.services.deadlines.deadline(f.device, timer).is_some() {
            f.did(|| Did::Cancel { timer });
        }
        f.services.deadlines.cancel(f.device, timer);
    }
}

unsafe extern "C" fn timer_deadline(host: *mut c_void, timer: u32) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.has_timer(timer) {
        return u64::MAX;
    }
    f.services.deadlines.deadline(f.device, timer).unwrap_or(u64::MAX)
}

unsafe extern "C" fn bh_schedule(host: *mut c_void, bh: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.has_bottom_half(bh) {
        return;
    }
    if f.services.bottom_halves.schedule(f.device, bh) {
        f.did(|| Did::Queue { bh, payload: None });
    }
    f.services.attention = true;
}

unsafe extern "C" fn bh_oneshot(host: *mut c_void, bh: u32, data: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid slice.
    let Some(payload) = (unsafe { f.lent(data, len) }) else { return };
    if !f.has_bottom_half(bh) {
        return;
    }
    f.did(|| Did::Queue { bh, payload: Some(kept(payload)) });
    f.services.bottom_halves.oneshot(f.device, bh, payload.to_vec());
    f.services.attention = true;
}

unsafe extern "C" fn dma_read(host: *mut c_void, gpa: u64, data: *mut u8, len: u64) -> u32 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.services.ram.contains(gpa, len) {
        return DMA_BAD_ADDRESS;
    }
    // SAFETY: the ABI demands a valid, exclusive slice.
    let Some(into) = (unsafe { f.lent_mut(data, len) }) else { return DMA_BAD_ADDRESS };
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
    let Some(data) = (unsafe { f.lent(data, len) }) else { return DMA_BAD_ADDRESS };
    f.did(|| Did::Dma { gpa, data: kept(data) });
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
    let Some(into) = (unsafe { f.lent_mut(data, len) }) else { return };
    f.did(|| Did::Random { bytes: len });
    f.services.gate.random(into);
}

unsafe extern "C" fn host_clock_ns(host: *mut c_void) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.did(|| Did::HostClock);
    f.services.host_clock_ns()
}

unsafe extern "C" fn port_read(host: *mut c_void, port: u32, data: *mut u8, len: u64) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    // SAFETY: the ABI demands a valid, exclusive slice.
    let Some(into) = (unsafe { f.lent_mut(data, len) }) else { return 0 };
    if !f.has_port(port) {
        return 0;
    }
    let (given, taken) = f.services.ports[f.device][port as usize].read(into);
    if taken > 0 {
        f.did(|| Did::Take { port, bytes: taken as u64 });
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
    let Some(data) = (unsafe { f.lent(data, len) }) else { return };
    if !f.has_port(port) {
        return;
    }
    f.did(|| Did::Output { port, data: kept(data) });
    let services = &mut *f.services;
    services.observe_data(KIND_PORT_OUT, f.device, [port.into()], Some(data));
    let slot = &mut services.ports[f.device][port as usize];
    slot.wrote(data);
    services.attention |= services.watched == Some((f.device, port as usize));
    services.outside.port_write(&services.device_ids[f.device], &slot.name, data);
}

unsafe extern "C" fn port_pending(host: *mut c_void, port: u32) -> u64 {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if f.has_port(port) { f.services.ports[f.device][port as usize].pending() as u64 } else { 0 }
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
    let Some(data) = (unsafe { f.lent(req.data, data_len) }) else { return };
    if !f.has_port(port) {
        return;
    }
    f.did(|| Did::Disk { port, op: req.op, offset: req.offset, bytes: req.len });
    let now_ns = f.services.clock.vtime_ns();
    let (id, done_ns) = f.services.disks.submit(now_ns, f.device, port, req, data);
    f.services.deadlines.push_disk(done_ns, id);
    f.services.attention = true;
}

unsafe extern "C" fn control(host: *mut c_void, kind: u32, value: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    f.did(|| Did::Control { kind, value });
    match kind {
        hot::CONTROL_POWER_OFF => {
            f.services.request(Control::PowerOff { code: value as u32 }, Asked::ByGuest);
        }
        hot::CONTROL_RESET => f.services.request(Control::Reset, Asked::ByGuest),
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
    let Some(text) = (unsafe { f.lent(text, len) }) else { return };
    let text = String::from_utf8_lossy(text).into_owned();
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
    let Some(text) = (unsafe { f.lent(text, len) }) else { return };
    f.breach(String::from_utf8_lossy(text).into_owned());
}

unsafe extern "C" fn query(_host: *mut c_void, _name: *const u8, _len: u64) -> *const c_void {
    ptr::null()
}

unsafe extern "C" fn net_offload(host: *mut c_void, port: u32, bits: u32, mtu: u32) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    if !f.has_port(port) {
        return;
    }
    let services = &mut *f.services;
    let slot = &mut services.ports[f.device][port as usize];
    if !slot.takes_frames() {
        let name = slot.name.clone();
        return f.breach(format!("says what it takes from port {name}, which is no net port"));
    }
    let offload = NetOffload { bits, mtu };
    if slot.set_offload(offload) {
        services.outside.net_offload(&services.device_ids[f.device], &slot.name, offload);
        f.did(|| Did::Offload { port, bits, mtu });
    }
}

unsafe extern "C" fn link_send(host: *mut c_void, link: u32, at: u32, data: *const u8, len: u64) {
    // SAFETY: `host` is this callback's frame.
    let f = unsafe { frame(host) };
    let declared = f.services.links.declared(f.device);
    if !f.declared("link", link, declared) {
        return;
    }
    if len == 0 || len > hot::MAX_MESSAGE {
        return f.breach(format!("sends a message of {len} bytes; a link takes 1 to {}", hot::MAX_MESSAGE));
    }
    // SAFETY: the ABI demands a valid slice.
    let Some(data) = (unsafe { f.lent(data, len) }) else { return };
    f.did(|| Did::Message { link, at, data: kept(data) });
    match f.services.links.send(f.device, link, at, data) {
        Ok(()) => f.services.attention = true,
        Err(mistake) => f.breach(mistake),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bottom_half::BottomHalves,
        clock::Clock,
        deadline::Deadlines,
        disk::Disks,
        links::Links,
        log::{LogRecord, RateLimit},
        observers::Observers,
        outside::{Input, Outside},
        port::PortSlot,
        wires::Wires,
    };
    use reprise_abi::desc::PortKind;
    use reprise_replay::{Gate, Seed};

    struct Nobody;

    impl Outside for Nobody {
        fn realtime_ns(&mut self) -> u64 {
            0
        }
        fn host_clock_ns(&mut self) -> u64 {
            0
        }
        fn poll(&mut self, _inbox: &mut Vec<Input>) {}
        fn wait(&mut self, _timeout_ns: Option<u64>) {}
        fn can_answer(&self) -> bool {
            false
        }
        fn port_write(&mut self, _device: &str, _port: &str, _data: &[u8]) {}
        fn port_taken(&mut self, _device: &str, _port: &str, _taken: usize) {}
        fn publish(&mut self, _vtime_ns: u64, _running: bool) {}
        fn log(&mut self, _record: &LogRecord) {}
    }

    /// One device with one pin, one timer and one port.
    fn services() -> Services {
        Services {
            clock: Clock::new(0, 1),
            gate: Gate::live(Seed::from_number(1)),
            deadlines: Deadlines::new(&[1]),
            bottom_halves: BottomHalves::new(vec![1]),
            wires: Wires::new(&[1], &[]),
            links: Links::new(&[1], &[]),
            ports: vec![vec![PortSlot::new("serial", PortKind::Chr)]],
            disks: Disks::new(crate::board::DiskTiming { latency_ns: 0, bytes_per_second: 1 }),
            ram: reprise_cpu::GuestRam::new(0, 4096).unwrap(),
            outside: Box::new(Nobody),
            device_ids: vec!["odd0".into()],
            control: None,
            fault: None,
            disk_failure: None,
            attention: false,
            watched: None,
            warnings: RateLimit::default(),
            observers: Observers::default(),
            symbols: crate::symbols::Symbols::default(),
            acts: None,
        }
    }

    fn fault_of(call: impl Fn(&HostVtbl, *mut c_void)) -> Option<String> {
        let mut services = services();
        with_ctx(&mut services, 0, "on_timer", |cx| call(&TABLE, cx.host));
        let fault = services.fault?;
        assert!(services.attention, "the hart must come back");
        assert_eq!((fault.device.as_str(), fault.callback), ("odd0", "on_timer"));
        Some(fault.message)
    }

    #[test]
    fn what_a_device_did_not_declare_is_its_fault_and_no_abort() {
        // SAFETY: `host` is the running callback's frame.
        let pin = |id| fault_of(move |t, host| unsafe { (t.set_pin)(host, id, 1) });
        // SAFETY: as above.
        let arm = |id| fault_of(move |t, host| unsafe { (t.timer_arm)(host, id, 1) });
        // SAFETY: as above.
        let cancel = |id| fault_of(move |t, host| unsafe { (t.timer_cancel)(host, id) });
        // SAFETY: as above.
        let write = |id| fault_of(move |t, host| unsafe { (t.port_write)(host, id, ptr::null(), 0) });
        // SAFETY: as above.
        let queue = |id| fault_of(move |t, host| unsafe { (t.bh_schedule)(host, id) });
        // SAFETY: as above.
        let oneshot = |id| fault_of(move |t, host| unsafe { (t.bh_oneshot)(host, id, ptr::null(), 0) });
        assert_eq!((pin(0), arm(0), cancel(0), write(0)), (None, None, None, None));
        assert_eq!((queue(0), oneshot(0)), (None, None));
        // A snapshot that names it could never be loaded.
        for fault in [queue(7), oneshot(7)] {
            assert_eq!(fault.unwrap(), "uses bottom half 7 but declared 1");
        }
        assert_eq!(pin(7).unwrap(), "uses output pin 7 but declared 1");
        assert_eq!(arm(7).unwrap(), "uses timer 7 but declared 1");
        assert_eq!(cancel(1).unwrap(), "uses timer 1 but declared 1");
        assert_eq!(write(1).unwrap(), "uses port 1 but declared 1");
        // SAFETY: as above.
        let send = |id, len| {
            // SAFETY: as above; 9 bytes are lent, and more are refused before they are read.
            fault_of(move |t, host| unsafe { (t.link_send)(host, id, 0, b"a message".as_ptr(), len) })
        };
        assert_eq!((send(0, 9), send(1, 9)), (None, Some("uses link 1 but declared 1".into())));
        let long = hot::MAX_MESSAGE + 1;
        assert_eq!(send(0, 0).unwrap(), "sends a message of 0 bytes; a link takes 1 to 65536");
        assert_eq!(send(0, long).unwrap(), "sends a message of 65537 bytes; a link takes 1 to 65536");
        // SAFETY: as above.
        let offload = |id| fault_of(move |t, host| unsafe { (t.net_offload)(host, id, 0, 1500) });
        assert_eq!(offload(0).unwrap(), "says what it takes from port serial, which is no net port");
        assert_eq!(offload(1).unwrap(), "uses port 1 but declared 1");
    }

    #[test]
    fn garbage_lengths_are_not_followed() {
        let byte = 0u8;
        // SAFETY: the host must refuse before it reads a byte.
        let log = |data: *const u8, len| fault_of(move |t, host| unsafe { (t.log)(host, 1, data, len) });
        assert!(log(&raw const byte, MAX_SLICE + 1).unwrap().contains("lends 1073741825 bytes"));
        assert!(log(ptr::null(), 4).unwrap().contains("lends 4 bytes"));
        assert_eq!(log(&raw const byte, 1), None);
    }
}
