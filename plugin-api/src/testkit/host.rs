//! The fake host's side of the ABI: what a device may ask for, answered from plain memory.
#![expect(unsafe_code, reason = "ABI shim: the functions behind the fake host's table")]

use super::{Control, Rng};
use crate::desc::{DeviceDesc, Pins, PortKind};
use core::{cell::Cell, ffi::c_void};
use reprise_abi::hot::{self, BlkInfo, BlkReq, CtxRaw, HostVtbl, RamWindow};
use std::collections::{BTreeMap, VecDeque};

/// Where the fake RAM begins.
pub const RAM_BASE: u64 = 0x8000_0000;
/// How long it is, in bytes.
pub const RAM_SIZE: u64 = 1 << 20;
/// How long a block request takes.
pub(super) const BLK_LATENCY_NS: u64 = 1000;
const SECTOR: u64 = 512;
const PAGE_SHIFT: u32 = 12;

/// Everything that a host holds for one device.
pub(super) struct Host {
    pub(super) now_ns: u64,
    pub(super) inputs: Vec<bool>,
    pub(super) outputs: Vec<bool>,
    pub(super) output_names: Vec<String>,
    pub(super) pin_log: Vec<(u64, String, bool)>,
    /// Deadline and order of arming.
    pub(super) timers: Vec<Option<(u64, u64)>>,
    pub(super) bh_count: u32,
    pub(super) bhs: VecDeque<(u32, Option<Vec<u8>>)>,
    pub(super) ports: Vec<Port>,
    pub(super) disks: BTreeMap<u32, Disk>,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) links: usize,
    /// What the device said on its links: link, address, message.
    pub(super) sent: Vec<(u32, u32, Vec<u8>)>,
    /// Counts armed timers and submitted requests: the order among equal deadlines.
    pub(super) next_order: u64,
    // `Cell`, so that a window's pointers may live beside what the host itself does.
    ram: Box<[Cell<u8>]>,
    pages: Box<[Cell<u8>]>,
    pub(super) windows: bool,
    pub(super) code_writes: Vec<(u64, u64)>,
    pub(super) controls: Vec<Control>,
    pub(super) logs: Vec<(u32, String)>,
    pub(super) host_clock_ns: u64,
    pub(super) random: Rng,
    /// The device panicked.
    pub(super) fault: Option<String>,
    /// The device asked for something that it never declared.
    pub(super) misuse: Option<String>,
}

fn zeroes(len: u64) -> Box<[Cell<u8>]> {
    let plain = Box::into_raw(vec![0u8; len as usize].into_boxed_slice());
    // SAFETY: the box was just given up, and `Cell<u8>` has the layout of `u8`.
    unsafe { Box::from_raw(plain as *mut [Cell<u8>]) }
}

/// The queues of a port.
#[derive(Default)]
pub(super) struct Port {
    pub(super) kind: PortKind,
    pub(super) bytes: VecDeque<u8>,
    pub(super) frames: VecDeque<Vec<u8>>,
    pub(super) sent: Vec<Vec<u8>>,
    /// Bits and MTU of the last [`HostVtbl::net_offload`].
    pub(super) offload: Option<(u32, u32)>,
}

/// What is behind a block port.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) data: Vec<u8>,
    pub(super) read_only: bool,
}

/// A block request whose outcome is known but not yet due.
pub(super) struct InFlight {
    pub(super) deadline_ns: u64,
    pub(super) order: u64,
    pub(super) port: u32,
    pub(super) token: u64,
    pub(super) status: u32,
    pub(super) data: Vec<u8>,
}

impl Host {
    pub(super) fn new(desc: &DeviceDesc, random_seed: u64) -> Self {
        let output_names = Pins::flatten(&desc.outputs);
        Self {
            now_ns: 0,
            inputs: vec![false; Pins::flatten(&desc.inputs).len()],
            outputs: vec![false; output_names.len()],
            output_names,
            pin_log: Vec::new(),
            timers: vec![None; desc.timers.len()],
            bh_count: u32::try_from(desc.bottom_halves.len()).expect("few bottom halves"),
            bhs: VecDeque::new(),
            ports: desc.ports.iter().map(|port| Port { kind: port.kind, ..Port::default() }).collect(),
            disks: BTreeMap::new(),
            in_flight: Vec::new(),
            links: desc.links.len(),
            sent: Vec::new(),
            next_order: 0,
            ram: zeroes(RAM_SIZE),
            pages: zeroes(RAM_SIZE >> PAGE_SHIFT),
            windows: true,
            code_writes: Vec::new(),
            controls: Vec::new(),
            logs: Vec::new(),
            host_clock_ns: 0,
            random: Rng::new(random_seed),
            fault: None,
            misuse: None,
        }
    }

    /// The context of one callback. Nothing else may use `self` while it lives.
    pub(super) fn context(&mut self) -> CtxRaw {
        let now_ns = self.now_ns;
        CtxRaw { host: (&raw mut *self).cast(), vtbl: VTBL, now_ns }
    }

    fn misuse(&mut self, text: String) {
        self.misuse.get_or_insert(text);
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn declared(&mut self, what: &str, id: u32, count: usize) -> bool {
        let declared = (id as usize) < count;
        if !declared {
            self.misuse(format!("{what} {id} is not in the descriptor, which declares {count}"));
        }
        declared
    }

    fn port(&mut self, port: u32) -> Option<&mut Port> {
        self.declared("port", port, self.ports.len()).then(|| &mut self.ports[port as usize])
    }

    pub(super) fn ram(&self, gpa: u64, len: u64) -> Option<&[Cell<u8>]> {
        let from = gpa.checked_sub(RAM_BASE)?;
        let to = from.checked_add(len)?;
        self.ram.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    pub(super) fn set_watched(&self, gpa: u64) {
        let page = &self.pages[((gpa - RAM_BASE) >> PAGE_SHIFT) as usize];
        page.set(page.get() | hot::PAGE_WATCHED);
    }

    fn mark_written(&mut self, gpa: u64, len: u64) {
        if len == 0 {
            return;
        }
        let page = |gpa: u64| ((gpa - RAM_BASE) >> PAGE_SHIFT) as usize;
        let pages = &self.pages[page(gpa)..=page(gpa + len - 1)];
        pages.iter().for_each(|page| page.set(page.get() | hot::PAGE_DIRTY));
        if pages.iter().any(|page| page.get() & hot::PAGE_WATCHED != 0) {
            self.code_writes.push((gpa, len));
        }
    }

    pub(super) fn is_dirty(&self, gpa: u64) -> bool {
        self.pages[((gpa - RAM_BASE) >> PAGE_SHIFT) as usize].get() & hot::PAGE_DIRTY != 0
    }

    fn submit(&mut self, port: u32, req: &BlkReq, data: &[u8]) {
        if self.port(port).is_none() {
            return;
        }
        if self.in_flight.iter().any(|other| other.port == port && other.token == req.token) {
            self.misuse(format!("two block requests with token {} in flight", req.token));
        }
        let outcome = self.disks.get_mut(&port).and_then(|disk| disk.execute(req, data));
        let (status, data) = outcome.map_or((hot::BLK_ERROR, Vec::new()), |data| (hot::BLK_DONE, data));
        let (deadline_ns, order) = (self.now_ns.saturating_add(BLK_LATENCY_NS), self.order());
        self.in_flight.push(InFlight { deadline_ns, order, port, token: req.token, status, data });
    }
}

impl Disk {
    /// What a read gives; nothing for the others. `None`: an I/O error.
    fn execute(&mut self, req: &BlkReq, data: &[u8]) -> Option<Vec<u8>> {
        let changes = matches!(req.op, hot::BLK_WRITE | hot::BLK_DISCARD | hot::BLK_WRITE_ZEROES);
        if !req.offset.is_multiple_of(SECTOR)
            || !req.len.is_multiple_of(SECTOR)
            || (changes && self.read_only)
        {
            return None;
        }
        let from = usize::try_from(req.offset).ok()?;
        let to = from.checked_add(usize::try_from(req.len).ok()?)?;
        let range = self.data.get_mut(from..to)?;
        match req.op {
            hot::BLK_READ => return Some(range.to_vec()),
            hot::BLK_WRITE => range.copy_from_slice(data),
            hot::BLK_WRITE_ZEROES => range.fill(0),
            hot::BLK_FLUSH | hot::BLK_DISCARD => {}
            _ => return None,
        }
        Some(Vec::new())
    }
}

const VTBL: &HostVtbl = &HostVtbl {
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

// Every function below has one contract, that of `HostVtbl`: `host` is what `Host::context` put there, used during the
// callback that it was made for, and `data` is valid for `len` bytes.

/// # Safety
/// The contract above.
unsafe fn this<'a>(host: *mut c_void) -> &'a mut Host {
    // SAFETY: the contract above; the reference does not outlive the calling function.
    unsafe { &mut *host.cast() }
}

/// # Safety
/// The contract above.
unsafe fn input<'a>(data: *const u8, len: u64) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the contract above.
    unsafe { core::slice::from_raw_parts(data, len as usize) }
}

/// # Safety
/// The contract above.
unsafe fn output<'a>(data: *mut u8, len: u64) -> &'a mut [u8] {
    if len == 0 {
        return &mut [];
    }
    // SAFETY: the contract above.
    unsafe { core::slice::from_raw_parts_mut(data, len as usize) }
}

unsafe extern "C" fn set_pin(host: *mut c_void, pin: u32, level: u32) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    let (index, high) = (pin as usize, level != 0);
    if host.declared("output pin", pin, host.outputs.len()) && host.outputs[index] != high {
        host.outputs[index] = high;
        host.pin_log.push((host.now_ns, host.output_names[index].clone(), high));
    }
}

unsafe extern "C" fn timer_arm(host: *mut c_void, timer: u32, deadline_ns: u64) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    if host.declared("timer", timer, host.timers.len()) {
        host.timers[timer as usize] = Some((deadline_ns, host.order()));
    }
}

unsafe extern "C" fn timer_cancel(host: *mut c_void, timer: u32) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    if host.declared("timer", timer, host.timers.len()) {
        host.timers[timer as usize] = None;
    }
}

unsafe extern "C" fn timer_deadline(host: *mut c_void, timer: u32) -> u64 {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    let declared = host.declared("timer", timer, host.timers.len());
    let armed = if declared { host.timers[timer as usize] } else { None };
    armed.map_or(u64::MAX, |(deadline_ns, _)| deadline_ns)
}

unsafe extern "C" fn bh_schedule(host: *mut c_void, bh: u32) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    let queued = host.bhs.iter().any(|(id, payload)| *id == bh && payload.is_none());
    if host.declared("bottom half", bh, host.bh_count as usize) && !queued {
        host.bhs.push_back((bh, None));
    }
}

unsafe extern "C" fn bh_oneshot(host: *mut c_void, bh: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), input(data, len)) };
    if host.declared("bottom half", bh, host.bh_count as usize) {
        host.bhs.push_back((bh, Some(data.to_vec())));
    }
}

unsafe extern "C" fn dma_read(host: *mut c_void, gpa: u64, data: *mut u8, len: u64) -> u32 {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), output(data, len)) };
    let Some(ram) = host.ram(gpa, len) else { return hot::DMA_BAD_ADDRESS };
    data.iter_mut().zip(ram).for_each(|(to, from)| *to = from.get());
    hot::DMA_OK
}

unsafe extern "C" fn dma_write(host: *mut c_void, gpa: u64, data: *const u8, len: u64) -> u32 {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), input(data, len)) };
    let Some(ram) = host.ram(gpa, len) else { return hot::DMA_BAD_ADDRESS };
    ram.iter().zip(data).for_each(|(to, from)| to.set(*from));
    host.mark_written(gpa, len);
    hot::DMA_OK
}

unsafe extern "C" fn ram_window(host: *mut c_void, gpa: u64, out: *mut RamWindow) -> u32 {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    if !host.windows || host.ram(gpa, 1).is_none() {
        return 0;
    }
    let (base, pages) = (host.ram.as_ptr().cast_mut().cast(), host.pages.as_ptr().cast_mut().cast());
    // SAFETY: `out` is valid for the write, says the contract of `HostVtbl::ram_window`.
    unsafe { out.write(RamWindow { gpa: RAM_BASE, len: RAM_SIZE, base, pages }) };
    1
}

unsafe extern "C" fn code_write(host: *mut c_void, gpa: u64, len: u64) {
    // SAFETY: the contract above.
    unsafe { this(host) }.code_writes.push((gpa, len));
}

unsafe extern "C" fn random(host: *mut c_void, data: *mut u8, len: u64) {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), output(data, len)) };
    data.iter_mut().for_each(|byte| *byte = host.random.next().to_le_bytes()[0]);
}

unsafe extern "C" fn host_clock_ns(host: *mut c_void) -> u64 {
    // SAFETY: the contract above.
    unsafe { this(host) }.host_clock_ns
}

unsafe extern "C" fn port_read(host: *mut c_void, port: u32, data: *mut u8, len: u64) -> u64 {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), output(data, len)) };
    let Some(port) = host.port(port) else { return 0 };
    let taken: Vec<u8> = match port.kind {
        PortKind::Net => port.frames.pop_front().unwrap_or_default(),
        _ => port.bytes.drain(..data.len().min(port.bytes.len())).collect(),
    };
    let count = taken.len().min(data.len());
    data[..count].copy_from_slice(&taken[..count]);
    count as u64
}

unsafe extern "C" fn port_write(host: *mut c_void, port: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), input(data, len)) };
    if let Some(port) = host.port(port) {
        port.sent.push(data.to_vec());
    }
}

unsafe extern "C" fn port_pending(host: *mut c_void, port: u32) -> u64 {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    host.port(port).map_or(0, |port| (port.bytes.len() + port.frames.len()) as u64)
}

unsafe extern "C" fn blk_info(host: *mut c_void, port: u32, out: *mut BlkInfo) -> u32 {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    let (Some(_), Some(disk)) = (host.port(port).map(|_| ()), host.disks.get(&port)) else { return 0 };
    let mut serial = [0; 20];
    serial[..9].copy_from_slice(b"fake-disk");
    let size_bytes = disk.data.len() as u64;
    // SAFETY: `out` is valid for the write, says the contract of `HostVtbl::blk_info`.
    unsafe { out.write(BlkInfo { size_bytes, read_only: disk.read_only.into(), block_size: 512, serial }) };
    1
}

unsafe extern "C" fn blk_submit(host: *mut c_void, port: u32, req: *const BlkReq) {
    // SAFETY: the contract above, and `req` is valid for the call.
    let (host, req) = unsafe { (this(host), &*req) };
    // SAFETY: `req.data` is valid for `req.len` bytes if this is a write.
    let data = if req.op == hot::BLK_WRITE { unsafe { input(req.data, req.len) } } else { &[] };
    host.submit(port, req, data);
}

unsafe extern "C" fn control(host: *mut c_void, kind: u32, value: u64) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    match kind {
        hot::CONTROL_POWER_OFF => host.controls.push(Control::PowerOff(value as u32)),
        hot::CONTROL_RESET => host.controls.push(Control::Reset),
        hot::CONTROL_TIME_OFFSET => host.controls.push(Control::TimeOffset(value)),
        _ => host.misuse(format!("unknown control {kind}")),
    }
}

unsafe extern "C" fn log(host: *mut c_void, level: u32, text: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (host, text) = unsafe { (this(host), input(text, len)) };
    host.logs.push((level, String::from_utf8_lossy(text).into_owned()));
}

unsafe extern "C" fn fault(host: *mut c_void, text: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (host, text) = unsafe { (this(host), input(text, len)) };
    host.fault = Some(String::from_utf8_lossy(text).into_owned());
}

unsafe extern "C" fn query(_host: *mut c_void, _name: *const u8, _len: u64) -> *const c_void {
    core::ptr::null()
}

unsafe extern "C" fn net_offload(host: *mut c_void, port: u32, bits: u32, mtu: u32) {
    // SAFETY: the contract above.
    let host = unsafe { this(host) };
    match host.port(port) {
        Some(slot) if slot.kind == PortKind::Net => slot.offload = Some((bits, mtu)),
        Some(_) => host.misuse(format!("port {port} is no net port")),
        None => (),
    }
}

unsafe extern "C" fn link_send(host: *mut c_void, link: u32, at: u32, data: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (host, data) = unsafe { (this(host), input(data, len)) };
    if data.is_empty() || len > hot::MAX_MESSAGE {
        host.misuse(format!("a message of {len} bytes; a link takes 1 to {}", hot::MAX_MESSAGE));
    } else if host.declared("link", link, host.links) {
        host.sent.push((link, at, data.to_vec()));
    }
}
