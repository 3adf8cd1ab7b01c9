//! One device of a plugin, driven through its table.
#![expect(unsafe_code, reason = "plugin island: calls through the device's table")]

use super::MAX_FILE_BYTES;
use reprise_abi::{
    desc::DeviceDesc,
    hot::{self, CtxRaw, DevVtbl, IoRes},
    root::DevHandle,
    state,
};
use std::ffi::c_void;

/// The functions of the 1.0 table, which every plugin has. What comes later must be checked for before it is called.
const FUNCTIONS_1_0: [&str; 11] = [
    "mmio_read",
    "mmio_write",
    "on_timer",
    "on_bh",
    "on_pin",
    "on_port",
    "on_blk",
    "reset",
    "save",
    "load",
    "drop",
];

/// A device. It belongs to the machine's thread; every callback takes it exclusively, so none can re-enter.
pub struct Instance {
    handle: DevHandle,
    desc: DeviceDesc,
}

impl Instance {
    /// Take over what a plugin created. The error says what is missing of it; then nobody can free the device.
    pub(super) fn adopt(handle: DevHandle) -> Result<Self, String> {
        let table = handle.table();
        if handle.dev.is_null() || table.is_null() || !table.is_aligned() {
            return Err("the plugin says that it created a device, but gives none or no table of functions"
                .to_owned());
        }
        let functions = device_functions(table);
        if functions.len() < FUNCTIONS_1_0.len() {
            // SAFETY: as in `device_functions`.
            let size = unsafe { (*table).size };
            return Err(format!("the device's table of functions is too short: {size} bytes"));
        }
        // What plugins in Rust cannot do, those in C can.
        match null_of(&FUNCTIONS_1_0, functions) {
            Some(name) => Err(format!("the device's table of functions has NULL for `{name}`")),
            None => Ok(Self { handle, desc: DeviceDesc::default() }),
        }
    }

    /// With the descriptor that the plugin gave for this very instance.
    pub(super) fn described(mut self, desc: DeviceDesc) -> Self {
        self.desc = desc;
        self
    }

    /// What the device says of itself with its options.
    #[must_use]
    pub fn desc(&self) -> &DeviceDesc {
        &self.desc
    }

    /// What every version has of it may be read: `adopt` found it long enough, and plugins are never unloaded. No
    /// reference, which would claim all of this version's.
    fn table(&self) -> *const DevVtbl {
        self.handle.table()
    }

    /// The guest reads; `size` is one that the region declares, `offset` aligned to it and inside the region.
    #[inline]
    pub fn mmio_read(&mut self, cx: &mut CtxRaw, region: u32, offset: u64, size: u32) -> IoRes {
        // SAFETY: the instance is live, `&mut self` keeps calls apart, and `cx` is valid for this one.
        unsafe { ((*self.table()).mmio_read)(self.handle.dev, cx, region, offset, size) }
    }

    /// The guest writes likewise.
    #[inline]
    pub fn mmio_write(&mut self, cx: &mut CtxRaw, region: u32, offset: u64, size: u32, value: u64) -> IoRes {
        // SAFETY: as in `mmio_read`.
        unsafe { ((*self.table()).mmio_write)(self.handle.dev, cx, region, offset, size, value) }
    }

    /// A timer reached its deadline. This and the other callbacks return [`hot::IO_OK`] or [`hot::STATUS_PANIC`].
    pub fn on_timer(&mut self, cx: &mut CtxRaw, timer: u32) -> u64 {
        // SAFETY: as in `mmio_read`.
        unsafe { ((*self.table()).on_timer)(self.handle.dev, cx, timer) }
    }

    /// A bottom half runs; a payload makes it a one-shot, also an empty one.
    pub fn on_bh(&mut self, cx: &mut CtxRaw, bh: u32, payload: Option<&[u8]>) -> u64 {
        // The pointer of an empty slice is not null.
        let (data, len) = payload.map_or((core::ptr::null(), 0), |data| (data.as_ptr(), data.len() as u64));
        // SAFETY: as in `mmio_read`; the payload is valid for the call.
        unsafe { ((*self.table()).on_bh)(self.handle.dev, cx, bh, data, len) }
    }

    /// An input pin changed.
    pub fn on_pin(&mut self, cx: &mut CtxRaw, pin: u32, level: u32) -> u64 {
        // SAFETY: as in `mmio_read`.
        unsafe { ((*self.table()).on_pin)(self.handle.dev, cx, pin, level) }
    }

    /// Something happened on a port (`PORT_*`).
    pub fn on_port(&mut self, cx: &mut CtxRaw, port: u32, event: u32) -> u64 {
        // SAFETY: as in `mmio_read`.
        unsafe { ((*self.table()).on_port)(self.handle.dev, cx, port, event) }
    }

    /// A message came over a link; `None`: a controller's own found nobody at its address. Only of a device with links.
    pub fn on_message(&mut self, cx: &mut CtxRaw, link: u32, at: u32, message: Option<&[u8]>) -> u64 {
        let (data, len) = message.map_or((core::ptr::null(), 0), |data| (data.as_ptr(), data.len() as u64));
        // SAFETY: as in `mmio_read`; the data is valid for the call, and the loader has asked `takes_messages` of every
        // device with a link.
        unsafe { ((*self.table()).on_message)(self.handle.dev, cx, link, at, data, len) }
    }

    /// Whether its table has the function for messages: since minor version 2 of the ABI.
    pub(super) fn takes_messages(&self) -> bool {
        device_functions(self.table()).get(FUNCTIONS_1_0.len()).is_some_and(|function| !function.is_null())
    }

    /// A block request completed (`BLK_DONE` or `BLK_ERROR`).
    pub fn on_blk(&mut self, cx: &mut CtxRaw, port: u32, token: u64, status: u32, data: &[u8]) -> u64 {
        let (data, len) = (data.as_ptr(), data.len() as u64);
        // SAFETY: as in `mmio_read`; the data is valid for the call.
        unsafe { ((*self.table()).on_blk)(self.handle.dev, cx, port, token, status, data, len) }
    }

    /// Reset the device (`RESET_*`).
    pub fn reset(&mut self, cx: &mut CtxRaw, kind: u32) -> u64 {
        // SAFETY: as in `mmio_read`.
        unsafe { ((*self.table()).reset)(self.handle.dev, cx, kind) }
    }

    /// The state record. Of a device that panicked, now or before, it has one field, `panicked`: what is left of it
    /// is not worth saving, but can still be told apart.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.try_save().unwrap_or_else(|text| state::encode(0, |out| out.field("panicked").text(&text)))
    }

    /// The state record.
    ///
    /// # Errors
    /// The device panicked, now or before; the text says where.
    pub fn try_save(&self) -> Result<Vec<u8>, String> {
        let mut out: Vec<u8> = Vec::new();
        // SAFETY: the instance is live and no callback is under way; `collect` takes a `Vec<u8>`.
        let status = unsafe { ((*self.table()).save)(self.handle.dev, (&raw mut out).cast(), collect) };
        if status == hot::IO_OK { Ok(out) } else { Err(String::from_utf8_lossy(&out).into_owned()) }
    }

    /// Replace the state by a record.
    ///
    /// # Errors
    /// It is not one of this device. The instance must not be used again.
    pub fn load(&mut self, record: &[u8]) -> Result<(), String> {
        self.try_load(record).map_err(|refusal| refusal.text)
    }

    /// Replace the state by a record.
    ///
    /// # Errors
    /// As [`Instance::load`], told apart from a panic.
    pub fn try_load(&mut self, record: &[u8]) -> Result<(), LoadRefusal> {
        let mut out: Vec<u8> = Vec::new();
        let (data, len) = (record.as_ptr(), record.len() as u64);
        // SAFETY: as in `try_save`; the record is valid for the call.
        let status =
            unsafe { ((*self.table()).load)(self.handle.dev, data, len, (&raw mut out).cast(), collect) };
        if status == hot::IO_OK {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&out).into_owned();
        Err(LoadRefusal { text, panicked: status == hot::STATUS_PANIC })
    }
}

/// Why a record was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRefusal {
    /// The device's words, or the panic's.
    pub text: String,
    /// The device panicked.
    pub panicked: bool,
}

fn device_functions<'a>(table: *const DevVtbl) -> &'a [*const c_void] {
    // SAFETY: the table of a plugin lives as long as the process, and starts with its size in every version.
    unsafe { functions(table, 1) }
}

/// The functions of a table, as many as it has, as addresses: C's may be null, which their type in Rust excludes.
///
/// # Safety
/// The table is aligned, lives as long as the process, and in every version starts with its size in bytes; behind
/// `head` words, that size among them, there are only functions.
pub(super) unsafe fn functions<'a, Table>(table: *const Table, head: usize) -> &'a [*const c_void] {
    // SAFETY: it starts so.
    let size = unsafe { *table.cast::<u64>() };
    let words = usize::try_from(size).unwrap_or(0).min(size_of::<Table>()) / 8;
    // SAFETY: that many words are there, and those behind the head are functions, each as long as a pointer.
    unsafe {
        core::slice::from_raw_parts(table.cast::<*const c_void>().add(head), words.saturating_sub(head))
    }
}

/// The first of the functions with these names that is missing.
pub(super) fn null_of<'a>(names: &[&'a str], functions: &[*const c_void]) -> Option<&'a str> {
    names.iter().zip(functions).find(|(_, function)| function.is_null()).map(|(&name, _)| name)
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the instance is live until here, and dropped once.
        unsafe { ((*self.table()).drop)(self.handle.dev) }
    }
}

/// A sink that is a `Vec<u8>`.
pub(super) unsafe extern "C" fn collect(sink: *mut c_void, data: *const u8, len: u64) {
    // A plugin in C may hand over nothing as so many bytes.
    if len > 0 && len <= MAX_FILE_BYTES as u64 && !data.is_null() {
        // SAFETY: whoever passes this function as `put` passes a `Vec<u8>` as the sink.
        let out = unsafe { &mut *sink.cast::<Vec<u8>>() };
        // SAFETY: the device lends `len` bytes for the call.
        out.extend_from_slice(unsafe { core::slice::from_raw_parts(data, len as usize) });
    }
}
