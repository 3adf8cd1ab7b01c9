//! A fake host that drives one device without a machine: for unit tests and fuzzers (feature `testkit`).
//!
//! It goes through the same `extern "C"` tables as the real host, so a test also covers the shim. Time stands still
//! until [`FakeHost::advance`]; there timers, block completions and bottom halves come in the order in which the real
//! host delivers them. A device that panics, or asks for something that its descriptor does not declare, fails the
//! test.
#![expect(unsafe_code, reason = "ABI shim: calls the device's table")]

mod fuzz;
mod host;
mod world;

use crate::{
    Device, DeviceConfig, Fault, Reset, Size,
    desc::{DeviceDesc, Pins},
    export::{self, Entry, Instance},
};
use core::{ffi::c_void, marker::PhantomData};
use host::Host;
use reprise_abi::{
    hot::{self, CtxRaw, DevVtbl, IoRes},
    root::DevHandle,
};
use serde_json::Value;

pub use host::{RAM_BASE, RAM_SIZE};

/// What a device asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// End the run with this exit code.
    PowerOff(u32),
    /// Reset everything.
    Reset,
    /// Move the harts' `time` by this many ticks.
    TimeOffset(u64),
}

/// A small generator of numbers that follow from a seed alone.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    #[expect(clippy::should_implement_trait, reason = "it never ends: an Option would only be in the way")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// One device and the host that it believes in.
pub struct FakeHost<D: Device> {
    handle: Handle<D>,
    host: Box<Host>,
    options: Value,
    desc: DeviceDesc,
    input_names: Vec<String>,
    /// What a fuzzer was doing: for the message when the device panics.
    doing: String,
}

/// Owns the instance.
struct Handle<D> {
    raw: DevHandle,
    _device: PhantomData<D>,
}

impl<D: Device> Handle<D> {
    fn create(options: &Value) -> (Self, DeviceDesc) {
        let (raw, desc) = Entry::of::<D>("0.0.0-test")
            .create(options)
            .unwrap_or_else(|error| panic!("option `{}`: {}", error.path, error.message));
        desc.validate().unwrap_or_else(|text| panic!("the descriptor: {text}"));
        (Self { raw, _device: PhantomData }, desc)
    }

    fn table(&self) -> &DevVtbl {
        // SAFETY: `create` made the handle with a static table.
        unsafe { &*self.raw.table() }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // SAFETY: the instance is live, no callback is under way, and `collect` takes a `Vec<u8>`.
        let status = unsafe { (self.table().save)(self.raw.dev, (&raw mut out).cast(), collect) };
        assert_eq!(status, 0, "save: {}", String::from_utf8_lossy(&out));
        out
    }

    fn load(&mut self, record: &[u8]) -> Result<(), String> {
        let mut out: Vec<u8> = Vec::new();
        let sink = (&raw mut out).cast();
        // SAFETY: as in `save`; the record is valid for the call.
        let status =
            unsafe { (self.table().load)(self.raw.dev, record.as_ptr(), record.len() as u64, sink, collect) };
        let text = String::from_utf8_lossy(&out);
        assert_ne!(status, hot::STATUS_PANIC, "load panicked: {text}");
        if status == 0 { Ok(()) } else { Err(text.into_owned()) }
    }

    fn device(&self) -> &D {
        // SAFETY: `create` made an `Instance<D>`, which lives as long as `self`; callbacks need `&mut self`.
        unsafe { &(*self.raw.dev.cast::<Instance<D>>()).device }
    }
}

impl<D> Drop for Handle<D> {
    fn drop(&mut self) {
        // SAFETY: the instance is live until here, and dropped once.
        unsafe { ((*self.raw.table()).drop)(self.raw.dev) }
    }
}

unsafe extern "C" fn collect(sink: *mut c_void, data: *const u8, len: u64) {
    // SAFETY: `Handle::save` and `load` pass a `Vec<u8>` as the sink, and the data is valid for the call.
    let (out, data) =
        unsafe { (&mut *sink.cast::<Vec<u8>>(), core::slice::from_raw_parts(data, len as usize)) };
    out.extend_from_slice(data);
}

/// The pointers of one callback.
struct Call<'a> {
    table: &'a DevVtbl,
    dev: *mut c_void,
    cx: *mut CtxRaw,
}

impl<D: Device> FakeHost<D> {
    /// A device with these options, after a cold reset.
    ///
    /// # Panics
    /// The options are wrong, or the device panics.
    #[must_use]
    pub fn new(config: D::Config) -> Self {
        Self::with_options(config.to_json())
    }

    /// A device with these options as a board would give them.
    ///
    /// # Panics
    /// As [`FakeHost::new`].
    #[must_use]
    pub fn with_options(options: Value) -> Self {
        export::remember_panics(true);
        let (handle, desc) = Handle::create(&options);
        let host = Box::new(Host::new(&desc, 0));
        let input_names = Pins::flatten(&desc.inputs);
        let mut this = Self { handle, host, options, desc, input_names, doing: String::new() };
        this.reset(Reset::Cold);
        this
    }

    /// What the device says of itself with its options.
    #[must_use]
    pub fn desc(&self) -> &DeviceDesc {
        &self.desc
    }

    /// The device, to look at.
    #[must_use]
    pub fn device(&self) -> &D {
        self.handle.device()
    }

    fn call<R>(&mut self, what: &str, call: impl FnOnce(Call<'_>) -> R) -> R {
        let mut cx = self.host.context();
        let result = call(Call { table: self.handle.table(), dev: self.handle.raw.dev, cx: &raw mut cx });
        let doing = &self.doing;
        if let Some(text) = self.host.fault.take() {
            panic!("{doing}{} panicked in {what}: {text}", self.desc.kind);
        }
        if let Some(text) = self.host.misuse.take() {
            panic!("{doing}{} in {what}: {text}", self.desc.kind);
        }
        result
    }

    // ---- MMIO ----

    /// The guest reads. An access that the region does not declare is a fault, as on the bus.
    ///
    /// # Errors
    /// The guest takes an access fault.
    ///
    /// # Panics
    /// The device panics.
    pub fn read(&mut self, region: u32, offset: u64, size: Size) -> Result<u64, Fault> {
        self.reachable(region, offset, size)?;
        let len = size as u32;
        // SAFETY: the instance is live and the context is that of this call.
        let io = self.call("mmio_read", |c| unsafe { (c.table.mmio_read)(c.dev, c.cx, region, offset, len) });
        let mask = u64::MAX >> (64 - 8 * size.bytes());
        outcome(io).map(|value| value & mask)
    }

    /// The guest writes.
    ///
    /// # Errors
    /// The guest takes an access fault.
    ///
    /// # Panics
    /// The device panics.
    pub fn write(&mut self, region: u32, offset: u64, size: Size, value: u64) -> Result<(), Fault> {
        self.reachable(region, offset, size)?;
        let (len, value) = (size as u32, value & (u64::MAX >> (64 - 8 * size.bytes())));
        let io = self.call("mmio_write", |c| {
            // SAFETY: as in `read`.
            unsafe { (c.table.mmio_write)(c.dev, c.cx, region, offset, len, value) }
        });
        outcome(io).map(|_| ())
    }

    fn reachable(&self, region: u32, offset: u64, size: Size) -> Result<(), Fault> {
        let region = self.desc.regions.get(region as usize).ok_or(Fault)?;
        let len = size.bytes();
        let inside = offset.checked_add(len).is_some_and(|end| end <= region.size);
        let allowed = u64::from(region.access) & len != 0 && offset.is_multiple_of(len);
        if inside && allowed { Ok(()) } else { Err(Fault) }
    }

    /// Read a byte of region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn read8(&mut self, offset: u64) -> u8 {
        self.read(0, offset, Size::B1).expect("no access fault") as u8
    }

    /// Read 32 bits of region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn read32(&mut self, offset: u64) -> u32 {
        self.read(0, offset, Size::B4).expect("no access fault") as u32
    }

    /// Read 64 bits of region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn read64(&mut self, offset: u64) -> u64 {
        self.read(0, offset, Size::B8).expect("no access fault")
    }

    /// Write a byte to region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn write8(&mut self, offset: u64, value: u8) {
        self.write(0, offset, Size::B1, value.into()).expect("no access fault");
    }

    /// Write 32 bits to region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn write32(&mut self, offset: u64, value: u32) {
        self.write(0, offset, Size::B4, value.into()).expect("no access fault");
    }

    /// Write 64 bits to region 0.
    ///
    /// # Panics
    /// It faults.
    pub fn write64(&mut self, offset: u64, value: u64) {
        self.write(0, offset, Size::B8, value).expect("no access fault");
    }

    // ---- time ----

    /// Virtual time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.host.now_ns
    }

    /// Let time pass; `advance(0)` is a safe point without any.
    ///
    /// # Panics
    /// The device panics, or arms timers without end.
    pub fn advance(&mut self, ns: u64) {
        self.advance_to(self.host.now_ns.saturating_add(ns));
    }

    /// Let time pass until `deadline_ns`.
    ///
    /// # Panics
    /// As [`FakeHost::advance`].
    pub fn advance_to(&mut self, deadline_ns: u64) {
        let done = self.run(deadline_ns, 1_000_000);
        assert!(
            done,
            "{}a million safe points before {deadline_ns} ns: the device arms without end",
            self.doing
        );
    }

    /// Run to `deadline_ns`, or until `budget` safe points had something to do (`false`).
    fn run(&mut self, deadline_ns: u64, mut budget: u32) -> bool {
        loop {
            let quiet = self.host.bhs.is_empty();
            let next = if quiet { self.next_deadline() } else { Some(self.host.now_ns) };
            let Some(at) = next.filter(|at| *at <= deadline_ns) else {
                self.host.now_ns = self.host.now_ns.max(deadline_ns);
                return true;
            };
            let Some(left) = budget.checked_sub(1) else { return false };
            budget = left;
            self.host.now_ns = self.host.now_ns.max(at);
            self.safe_point();
        }
    }

    /// Deadline of the next timer or block completion.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let timers = self.host.timers.iter().flatten().map(|(deadline_ns, _)| *deadline_ns);
        timers.chain(self.host.in_flight.iter().map(|request| request.deadline_ns)).min()
    }

    /// Deadline of a timer, by its declared name.
    ///
    /// # Panics
    /// There is no such timer.
    #[must_use]
    pub fn timer(&self, name: &str) -> Option<u64> {
        let index = find(self.desc.timers.iter(), "timer", name);
        self.host.timers[index as usize].map(|(deadline_ns, _)| deadline_ns)
    }

    /// What is due by (deadline, order), then the bottom halves. What these make due waits for the next safe point.
    fn safe_point(&mut self) {
        let last_order = self.host.next_order;
        while let Some(due) = self.take_due(last_order) {
            match due {
                Due::Timer(timer) => {
                    // SAFETY: as in `read`.
                    self.call("on_timer", |c| unsafe { (c.table.on_timer)(c.dev, c.cx, timer) });
                }
                Due::Block(done) => self.complete(done),
            }
        }
        for _ in 0..self.host.bhs.len() {
            let Some((bh, payload)) = self.host.bhs.pop_front() else { break };
            let (data, len) =
                payload.as_ref().map_or((core::ptr::null(), 0), |p| (p.as_ptr(), p.len() as u64));
            // SAFETY: as in `read`; the payload is valid for the call.
            self.call("on_bh", |c| unsafe { (c.table.on_bh)(c.dev, c.cx, bh, data, len) });
        }
    }

    fn take_due(&mut self, last_order: u64) -> Option<Due> {
        let host = &mut *self.host;
        let due = |deadline_ns: u64, order: u64| deadline_ns <= host.now_ns && order <= last_order;
        let timers = host.timers.iter().enumerate().filter_map(|(index, armed)| {
            let (deadline_ns, order) = (*armed)?;
            due(deadline_ns, order).then_some((deadline_ns, order, Source::Timer(index)))
        });
        let blocks = host.in_flight.iter().enumerate().filter_map(|(index, request)| {
            let key = (request.deadline_ns, request.order, Source::Block(index));
            due(key.0, key.1).then_some(key)
        });
        let (_, _, source) =
            timers.chain(blocks).min_by_key(|(deadline_ns, order, _)| (*deadline_ns, *order))?;
        Some(match source {
            Source::Timer(index) => {
                host.timers[index] = None;
                Due::Timer(index as u32)
            }
            Source::Block(index) => Due::Block(host.in_flight.remove(index)),
        })
    }

    fn complete(&mut self, done: host::InFlight) {
        let host::InFlight { port, token, status, data, .. } = done;
        let (data, len) = (data.as_slice().as_ptr(), data.len() as u64);
        // SAFETY: as in `read`; the data is valid for the call.
        self.call("on_blk", |c| unsafe { (c.table.on_blk)(c.dev, c.cx, port, token, status, data, len) });
    }
}

enum Source {
    Timer(usize),
    Block(usize),
}

enum Due {
    Timer(u32),
    Block(host::InFlight),
}

fn outcome(io: IoRes) -> Result<u64, Fault> {
    if io.status == hot::IO_OK { Ok(io.value) } else { Err(Fault) }
}

/// The index of a declared name.
fn find<'a>(names: impl Iterator<Item = &'a String>, what: &str, name: &str) -> u32 {
    let names: Vec<_> = names.collect();
    let index = names.iter().position(|other| *other == name);
    index.unwrap_or_else(|| panic!("no {what} {name:?}; there are {names:?}")) as u32
}

#[cfg(test)]
mod tests;
