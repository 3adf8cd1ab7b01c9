//! Outside halves: loading a plugin that is a backend of a port, and calling it. Nothing of the machine: this is the
//! plugin island, and the I/O thread is who calls.
#![expect(unsafe_code, reason = "plugin island: calls through the backend's table")]

use super::{PluginError, config_error, library};
use reprise_abi::{
    backend::{BACKEND_MAJOR, BACKEND_SYMBOL, BackendCx, BackendHost, BackendRoot},
    desc::ConfigError,
};
use serde_json::Value;
use std::{ffi::c_void, ptr, slice};

/// What a backend may ask of the host while it is polled.
pub trait BackendOutside {
    /// Take what the guest wrote; how many bytes.
    fn take(&mut self, into: &mut [u8]) -> usize;
    /// Give the guest bytes; for how many there was room.
    fn give(&mut self, data: &[u8]) -> usize;
    /// Poll it when the descriptor is ready; with neither: no longer.
    fn watch(&mut self, fd: i32, read: bool, write: bool);
    /// Poll it at this time; `None`: at none. Of the EXTERNAL clock, or else of the host's.
    fn arm(&mut self, external: bool, at_ns: Option<u64>);
    /// Somebody is, or is no longer, at the other end.
    fn connected(&mut self, on: bool);
    /// A line for the user; 0 is an error, 3 for the author.
    fn log(&mut self, level: u32, text: &str);
}

/// A loaded plugin with a backend. It stays in memory for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct BackendPlugin {
    root: *const BackendRoot,
}

/// An open backend.
#[derive(Debug)]
pub struct Backend {
    root: *const BackendRoot,
    backend: *mut c_void,
}

// SAFETY: the table lives as long as the process, and nobody writes to it; by its contract calls do not overlap, on
// whichever thread they are.
unsafe impl Send for BackendPlugin {}

// SAFETY: plugin-api demands `Send` of a backend, the table's contract that its calls do not overlap, and `&mut self`
// keeps them apart.
unsafe impl Send for Backend {}

/// It panicked, and must not be polled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl BackendPlugin {
    /// Load a plugin from the bytes of its file.
    ///
    /// # Errors
    /// It is none, or none with a backend.
    pub fn load(path: &str, bytes: &[u8]) -> Result<Self, PluginError> {
        let library = library(path, bytes)?;
        // SAFETY: a symbol of this name is such a function, by the contract.
        let symbol = unsafe { library.get::<extern "C" fn() -> *const BackendRoot>(BACKEND_SYMBOL) };
        let root = symbol.map_err(|_| PluginError::NotABackend { path: path.into() })?();
        // Its functions live as long as the process does.
        core::mem::forget(library);
        if root.is_null() {
            return Err(PluginError::NotABackend { path: path.into() });
        }
        // SAFETY: a table starts with its size and its version, in every version.
        let (size, major) = unsafe { ((*root).size, (*root).major) };
        if major != BACKEND_MAJOR || size < size_of::<BackendRoot>() as u64 {
            return Err(PluginError::Incompatible {
                path: path.into(),
                plugin: format!("its backend has a table of version {major} and {size} bytes"),
                host: format!("version {BACKEND_MAJOR} and {} bytes or more", size_of::<BackendRoot>()),
            });
        }
        Ok(Self { root })
    }

    /// JSON Schema of the options.
    #[must_use]
    pub fn schema(&self) -> Value {
        self.describe().get("schema").cloned().unwrap_or_default()
    }

    /// What it says of itself: `name`, `summary` and `schema`.
    #[must_use]
    pub fn describe(&self) -> Value {
        let mut out: Vec<u8> = Vec::new();
        // SAFETY: `load` has checked the table; `collect` takes a `Vec<u8>`.
        unsafe { ((*self.root).describe)((&raw mut out).cast(), super::instance::collect) };
        serde_json::from_slice(&out).unwrap_or_default()
    }

    /// Open one with these options (a JSON object).
    ///
    /// # Errors
    /// What it says against them.
    pub fn open(&self, options_json: &str) -> Result<Backend, ConfigError> {
        let (mut out, mut backend): (Vec<u8>, *mut c_void) = (Vec::new(), ptr::null_mut());
        let (data, len) = (options_json.as_ptr(), options_json.len() as u64);
        // SAFETY: as in `schema`; the options and `backend` are valid for the call.
        let status = unsafe {
            ((*self.root).open)(data, len, &raw mut backend, (&raw mut out).cast(), super::instance::collect)
        };
        if status != 0 || backend.is_null() {
            return Err(config_error(&String::from_utf8_lossy(&out)));
        }
        Ok(Backend { root: self.root, backend })
    }
}

/// Who is polled, for the table's functions.
struct Frame<'a> {
    outside: &'a mut dyn BackendOutside,
}

impl Backend {
    /// Let it do what it can.
    ///
    /// # Errors
    /// It panicked, which it has logged.
    pub fn poll(
        &mut self,
        outside: &mut dyn BackendOutside,
        external_ns: u64,
        realtime_ns: u64,
    ) -> Result<(), Panicked> {
        let mut frame = Frame { outside };
        let mut cx =
            BackendCx { host: (&raw mut frame).cast(), vtbl: &raw const TABLE, external_ns, realtime_ns };
        // SAFETY: the backend is open, and the context and its frame are valid for the call.
        let status = unsafe { ((*self.root).poll)(self.backend, &raw mut cx) };
        if status == 0 { Ok(()) } else { Err(Panicked) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: it is open until here, and closed once.
        unsafe { ((*self.root).close)(self.backend) }
    }
}

static TABLE: BackendHost =
    BackendHost { size: size_of::<BackendHost>() as u64, take, give, watch, arm, connected, log };

// The functions below have the contract of `BackendHost`: `host` is the running poll's frame, and `data` is valid for
// `len` bytes.

/// # Safety
/// The contract above.
unsafe fn frame<'a>(host: *mut c_void) -> &'a mut Frame<'a> {
    // SAFETY: the contract above; every function returns before the backend can call the next.
    unsafe { &mut *host.cast::<Frame<'a>>() }
}

unsafe extern "C" fn take(host: *mut c_void, data: *mut u8, len: u64) -> u64 {
    if len == 0 {
        return 0;
    }
    // SAFETY: the contract above.
    let (f, into) = unsafe { (frame(host), slice::from_raw_parts_mut(data, len as usize)) };
    f.outside.take(into) as u64
}

unsafe extern "C" fn give(host: *mut c_void, data: *const u8, len: u64) -> u64 {
    if len == 0 {
        return 0;
    }
    // SAFETY: the contract above.
    let (f, data) = unsafe { (frame(host), slice::from_raw_parts(data, len as usize)) };
    f.outside.give(data) as u64
}

unsafe extern "C" fn watch(host: *mut c_void, fd: i32, what: u32) {
    use reprise_abi::backend::{WATCH_READ, WATCH_WRITE};
    // SAFETY: the contract above.
    let f = unsafe { frame(host) };
    f.outside.watch(fd, what & WATCH_READ != 0, what & WATCH_WRITE != 0);
}

unsafe extern "C" fn arm(host: *mut c_void, clock: u32, at_ns: u64) {
    // SAFETY: the contract above.
    let f = unsafe { frame(host) };
    f.outside.arm(clock == reprise_abi::backend::CLOCK_EXTERNAL, (at_ns != u64::MAX).then_some(at_ns));
}

unsafe extern "C" fn connected(host: *mut c_void, on: u32) {
    // SAFETY: the contract above.
    let f = unsafe { frame(host) };
    f.outside.connected(on != 0);
}

unsafe extern "C" fn log(host: *mut c_void, level: u32, text: *const u8, len: u64) {
    // SAFETY: the contract above.
    let (f, text) = unsafe { (frame(host), slice::from_raw_parts(text, len as usize)) };
    f.outside.log(level, &String::from_utf8_lossy(text));
}
