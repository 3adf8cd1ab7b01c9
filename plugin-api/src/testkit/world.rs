//! What surrounds the device of a [`FakeHost`]: pins, ports, RAM, disks, and the state that is saved.
#![expect(unsafe_code, reason = "ABI shim: calls the device's table")]

use super::{
    Control, FakeHost, Handle, Rng, find,
    host::{Disk, RAM_BASE, RAM_SIZE},
};
use crate::{Device, PortEvent, Reset, desc::PortKind, net::Offload, state};
use reprise_abi::hot;

impl<D: Device> FakeHost<D> {
    // ---- pins ----

    /// Level of an output pin.
    ///
    /// # Panics
    /// There is no such pin.
    #[must_use]
    pub fn output(&self, name: &str) -> bool {
        self.host.outputs[find(self.host.output_names.iter(), "output", name) as usize]
    }

    /// Drive an input pin; the device hears of a change.
    ///
    /// # Panics
    /// There is no such pin, or the device panics.
    pub fn set_input(&mut self, name: &str, high: bool) {
        let pin = find(self.input_names.iter(), "input", name);
        self.drive(pin, high);
    }

    pub(super) fn drive(&mut self, pin: u32, high: bool) {
        if std::mem::replace(&mut self.host.inputs[pin as usize], high) != high {
            let level = u32::from(high);
            // SAFETY: the instance is live and the context is that of this call.
            self.call("on_pin", |c| unsafe { (c.table.on_pin)(c.dev, c.cx, pin, level) });
        }
    }

    /// Every change of an output pin: when, which, to what.
    #[must_use]
    pub fn pin_log(&self) -> Vec<(u64, String, bool)> {
        self.host.pin_log.clone()
    }

    // ---- ports ----

    fn port(&self, name: &str) -> u32 {
        find(self.desc.ports.iter().map(|port| &port.name), "port", name)
    }

    /// Bytes (or, on a net port, one frame) arrive and are announced.
    ///
    /// # Panics
    /// There is no such port, or the device panics.
    pub fn port_input(&mut self, name: &str, data: &[u8]) {
        self.arrive(self.port(name), data);
    }

    pub(super) fn arrive(&mut self, port: u32, data: &[u8]) {
        let queue = &mut self.host.ports[port as usize];
        match queue.kind {
            PortKind::Net => queue.frames.push_back(data.to_vec()),
            _ => queue.bytes.extend(data),
        }
        self.happen(port, PortEvent::Readable);
    }

    /// Something else happens on a port.
    ///
    /// # Panics
    /// As [`FakeHost::port_input`].
    pub fn port_event(&mut self, name: &str, event: PortEvent) {
        self.happen(self.port(name), event);
    }

    pub(super) fn happen(&mut self, port: u32, event: PortEvent) {
        let event = match event {
            PortEvent::Readable => hot::PORT_READABLE,
            PortEvent::Opened => hot::PORT_OPENED,
            PortEvent::Closed => hot::PORT_CLOSED,
            PortEvent::Break => hot::PORT_BREAK,
        };
        // SAFETY: the instance is live and the context is that of this call.
        self.call("on_port", |c| unsafe { (c.table.on_port)(c.dev, c.cx, port, event) });
    }

    /// Take what the device sent since the last time, joined.
    ///
    /// # Panics
    /// There is no such port.
    pub fn port_output(&mut self, name: &str) -> Vec<u8> {
        self.port_frames(name).concat()
    }

    /// Take what the device sent since the last time, write by write (frame by frame).
    ///
    /// # Panics
    /// There is no such port.
    pub fn port_frames(&mut self, name: &str) -> Vec<Vec<u8>> {
        let port = self.port(name) as usize;
        std::mem::take(&mut self.host.ports[port].sent)
    }

    /// How many bytes or frames the device has not taken.
    ///
    /// # Panics
    /// There is no such port.
    #[must_use]
    pub fn port_waiting(&self, name: &str) -> usize {
        let port = &self.host.ports[self.port(name) as usize];
        port.bytes.len() + port.frames.len()
    }

    /// What the device last said that it takes from a net port.
    ///
    /// # Panics
    /// There is no such port.
    #[must_use]
    pub fn offload(&self, name: &str) -> Option<Offload> {
        let (bits, mtu) = self.host.ports[self.port(name) as usize].offload?;
        Some(Offload::from_bits(bits, mtu))
    }

    // ---- links ----

    /// A message comes over a link; `None`: the device's own found nobody at `at`. What it says in answer waits in
    /// [`FakeHost::messages`].
    ///
    /// # Panics
    /// There is no such link, or the device panics.
    pub fn message(&mut self, link: &str, at: u32, message: Option<&[u8]>) {
        let link = find(self.desc.links.iter().map(|link| &link.name), "link", link);
        self.tell(link, at, message);
    }

    pub(super) fn tell(&mut self, link: u32, at: u32, message: Option<&[u8]>) {
        let (data, len) = message.map_or((core::ptr::null(), 0), |data| (data.as_ptr(), data.len() as u64));
        // SAFETY: the instance is live, the context is that of this call, and the message is valid for it.
        self.call("on_message", |c| unsafe { (c.table.on_message)(c.dev, c.cx, link, at, data, len) });
    }

    /// Take what the device has said on its links since the last time: link, address, message.
    pub fn messages(&mut self) -> Vec<(String, u32, Vec<u8>)> {
        let sent = std::mem::take(&mut self.host.sent);
        let named =
            |(link, at, data): (u32, u32, Vec<u8>)| (self.desc.links[link as usize].name.clone(), at, data);
        sent.into_iter().map(named).collect()
    }

    // ---- RAM: 1 MiB at 0x8000_0000 ----

    /// Put bytes into RAM.
    ///
    /// # Panics
    /// The range is not in RAM.
    pub fn ram_write(&mut self, gpa: u64, data: &[u8]) {
        let ram = self.host.ram(gpa, data.len() as u64).expect("inside RAM");
        ram.iter().zip(data).for_each(|(to, from)| to.set(*from));
    }

    /// Bytes of RAM.
    ///
    /// # Panics
    /// The range is not in RAM.
    #[must_use]
    pub fn ram_read(&self, gpa: u64, len: usize) -> Vec<u8> {
        self.host.ram(gpa, len as u64).expect("inside RAM").iter().map(std::cell::Cell::get).collect()
    }

    pub(super) fn all_ram(&self) -> Vec<u8> {
        self.ram_read(RAM_BASE, RAM_SIZE as usize)
    }

    /// Switch [`crate::Ctx::ram`] off (or on again): the device has only the copies left.
    pub fn set_windows(&mut self, on: bool) {
        self.host.windows = on;
    }

    /// Mark the page of `gpa` as one with code on it: device writes there show up in [`FakeHost::code_writes`].
    ///
    /// # Panics
    /// It is not in RAM.
    pub fn set_watched(&mut self, gpa: u64) {
        assert!(self.host.ram(gpa, 1).is_some(), "inside RAM");
        self.host.set_watched(gpa);
    }

    /// The device's writes to watched pages: address and length.
    #[must_use]
    pub fn code_writes(&self) -> Vec<(u64, u64)> {
        self.host.code_writes.clone()
    }

    /// Whether the device wrote to the page of `gpa`.
    ///
    /// # Panics
    /// It is not in RAM.
    #[must_use]
    pub fn is_dirty(&self, gpa: u64) -> bool {
        assert!(self.host.ram(gpa, 1).is_some(), "inside RAM");
        self.host.is_dirty(gpa)
    }

    // ---- disks ----

    /// Connect a disk to a block port. Requests complete after 1000 ns.
    ///
    /// # Panics
    /// There is no such port.
    pub fn attach_disk(&mut self, name: &str, data: Vec<u8>, read_only: bool) {
        let port = self.port(name);
        self.host.disks.insert(port, Disk { data, read_only });
    }

    /// What is on a disk.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn disk(&self, name: &str) -> &[u8] {
        &self.host.disks.get(&self.port(name)).expect("a disk is attached").data
    }

    // ---- the rest of the host ----

    /// What the device asked of the machine, in order.
    #[must_use]
    pub fn controls(&self) -> Vec<Control> {
        self.host.controls.clone()
    }

    /// What the device logged: level (0 error to 3 debug) and text.
    #[must_use]
    pub fn logs(&self) -> Vec<(u32, String)> {
        self.host.logs.clone()
    }

    /// Set the wall clock that the device may read, in nanoseconds since 1970-01-01 UTC.
    pub fn set_host_clock(&mut self, ns: u64) {
        self.host.host_clock_ns = ns;
    }

    /// Restart the random stream from a seed.
    pub fn random_seed(&mut self, seed: u64) {
        self.host.random = Rng::new(seed);
    }

    // ---- reset and state ----

    /// Reset the device. As the real host does, its timers, bottom halves and block requests are dropped first.
    ///
    /// # Panics
    /// The device panics.
    pub fn reset(&mut self, kind: Reset) {
        self.host.timers.iter_mut().for_each(|timer| *timer = None);
        self.host.bhs.clear();
        self.host.in_flight.clear();
        let kind = match kind {
            Reset::Cold => hot::RESET_COLD,
            Reset::Warm => hot::RESET_WARM,
        };
        // SAFETY: the instance is live and the context is that of this call.
        self.call("reset", |c| unsafe { (c.table.reset)(c.dev, c.cx, kind) });
    }

    /// The device's state record.
    ///
    /// # Panics
    /// The device panics.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.handle.save()
    }

    /// Replace the device's state.
    ///
    /// # Errors
    /// The record is not one of this device.
    ///
    /// # Panics
    /// The device panics.
    pub fn load(&mut self, record: &[u8]) -> Result<(), String> {
        self.handle.load(record)
    }

    /// Save, create a new device with the same options, load it, check that it saves the same, and go on with it. What
    /// the host owns (pin levels, timers, bottom halves, requests in flight) stays.
    ///
    /// # Panics
    /// The new device refuses the state or saves another; the message names the fields.
    pub fn save_load(&mut self) {
        let saved = self.save();
        let (mut fresh, _) = Handle::create(&self.options);
        let doing = &self.doing;
        fresh.load(&saved).unwrap_or_else(|text| panic!("{doing}the device refuses its own state: {text}"));
        let difference = state::diff(&saved, &fresh.save()).expect("the device writes a well-formed record");
        assert!(
            difference.is_empty(),
            "{doing}saved (left), loaded and saved again (right): {difference:#?}"
        );
        self.handle = fresh;
    }
}
