//! Outside halves: what is on the other side of a port, as a plugin.
//!
//! A [`Backend`] lives on the host's I/O thread, outside the guest. It may open sockets and files, and know the time of
//! day; it reaches the guest only through the bytes of one port, and those are in the log. A replay has no backend, so
//! nothing that it does can make a replay differ.
//!
//! ```
//! use reprise_plugin_api::outside::{Backend, Clock, Outside};
//!
//! /// Says how many seconds of guest time have passed.
//! struct Ticker {
//!     seconds: u64,
//! }
//!
//! impl Backend for Ticker {
//!     type Config = ();
//!
//!     fn name() -> &'static str {
//!         "ticker"
//!     }
//!
//!     fn summary() -> &'static str {
//!         "seconds of guest time"
//!     }
//!
//!     fn open((): ()) -> Result<Self, String> {
//!         Ok(Self { seconds: 0 })
//!     }
//!
//!     fn poll(&mut self, cx: &mut Outside<'_>) {
//!         let seconds = cx.now_ns(Clock::External) / 1_000_000_000;
//!         if seconds > self.seconds {
//!             self.seconds = seconds;
//!             cx.give(format!("{seconds}\n").as_bytes());
//!         }
//!         cx.arm(Clock::External, (seconds + 1) * 1_000_000_000);
//!     }
//! }
//!
//! reprise_plugin_api::export_backend!(Ticker);
//! ```
//!
//! A run is given one with `--port DEVICE.PORT=plugin:NAME,option=value`.
#![expect(unsafe_code, reason = "ABI shim: the functions behind the backend's table")]

use crate::{ConfigError, DeviceConfig, LogLevel, export};
use core::{ffi::c_void, fmt, marker::PhantomData};
use reprise_abi::{
    backend::{
        BACKEND_MAJOR, BackendCx, BackendHost, BackendRoot, CLOCK_EXTERNAL, CLOCK_REALTIME, WATCH_READ,
        WATCH_WRITE,
    },
    hot::Sink,
};
use serde_json::{Value, json};
use std::os::fd::{AsFd, AsRawFd};

/// A backend of a port.
pub trait Backend: Sized + Send + 'static {
    /// The options, with their schema.
    type Config: DeviceConfig;

    /// The name that `--port` uses after `plugin:`.
    fn name() -> &'static str;

    /// One line for people.
    fn summary() -> &'static str;

    /// Open what it is made of. It may block: the machine does not run yet.
    ///
    /// # Errors
    /// What is wrong: lower case, without a period.
    fn open(config: Self::Config) -> Result<Self, String>;

    /// Something may have become possible: a watched descriptor is ready, a time has come, the guest wrote, or it took
    /// what it was given. Comes once at the beginning, and sometimes for nothing. Do what can be done without blocking.
    fn poll(&mut self, cx: &mut Outside<'_>);
}

/// Clocks of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Virtual time as it is published: goes at the guest's speed, and stands still while the machine is stopped.
    External = CLOCK_EXTERNAL as isize,
    /// The host's monotonic time since it started.
    Realtime = CLOCK_REALTIME as isize,
}

/// The handle to the host for the duration of one poll.
pub struct Outside<'a> {
    raw: &'a mut BackendCx,
    _poll: PhantomData<*mut ()>,
}

impl Outside<'_> {
    // Every function of the table has one contract: it is called with the context's own pointer, during the poll that
    // it was made for, on the poll's thread. `Outside` cannot be kept or sent elsewhere, so that holds below.

    fn table(&self) -> *const BackendHost {
        self.raw.vtbl
    }

    /// What a clock shows, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self, clock: Clock) -> u64 {
        match clock {
            Clock::External => self.raw.external_ns,
            Clock::Realtime => self.raw.realtime_ns,
        }
    }

    /// Take what the guest wrote; returns how many bytes.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let len = into.len() as u64;
        // SAFETY: the contract above; the slice is valid and exclusive for the call.
        let got = unsafe { ((*self.table()).take)(self.raw.host, into.as_mut_ptr(), len) };
        usize::try_from(got).map_or(into.len(), |got| got.min(into.len()))
    }

    /// Give the guest bytes; returns how many it had room for. When it has room again, there is another poll.
    pub fn give(&mut self, data: &[u8]) -> usize {
        // SAFETY: the contract above; the slice is valid for the call.
        let went = unsafe { ((*self.table()).give)(self.raw.host, data.as_ptr(), data.len() as u64) };
        usize::try_from(went).map_or(data.len(), |went| went.min(data.len()))
    }

    /// Be polled when a descriptor of ours is ready; call again to watch for something else, with neither before the
    /// descriptor is closed. Only changes are told: read and write until it would block.
    pub fn watch(&mut self, fd: impl AsFd, read: bool, write: bool) {
        let what = if read { WATCH_READ } else { 0 } | if write { WATCH_WRITE } else { 0 };
        // SAFETY: the contract above.
        unsafe { ((*self.table()).watch)(self.raw.host, fd.as_fd().as_raw_fd(), what) }
    }

    /// Be polled at this time of a clock, once. Another time of the same clock replaces it; `u64::MAX` is never.
    pub fn arm(&mut self, clock: Clock, at_ns: u64) {
        // SAFETY: the contract above.
        unsafe { ((*self.table()).arm)(self.raw.host, clock as u32, at_ns) }
    }

    /// Somebody is at the other end, or no longer. At first nobody is, and what the guest writes is lost.
    pub fn connected(&mut self, on: bool) {
        // SAFETY: the contract above.
        unsafe { ((*self.table()).connected)(self.raw.host, u32::from(on)) }
    }

    /// A line for the user.
    pub fn log(&mut self, level: LogLevel, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        // SAFETY: the contract above; the text is valid for the call.
        unsafe { ((*self.table()).log)(self.raw.host, level as u32, text.as_ptr(), text.len() as u64) }
    }
}

/// Make a plugin of this backend: a `cdylib` with this line can be named in `--port`. Once for each crate, which may
/// have devices too.
#[macro_export]
macro_rules! export_backend {
    ($backend:ty) => {
        const _: () = {
            use $crate::{outside as __outside, private::abi::backend::BackendRoot};

            #[cfg(panic = "abort")]
            compile_error!(
                "a plugin needs `panic = \"unwind\"`: its panics are caught and reported to the host"
            );

            static ROOT: BackendRoot = __outside::root::<$backend>();

            #[unsafe(export_name = "reprise_backend")]
            extern "C" fn backend() -> *const BackendRoot {
                &raw const ROOT
            }
        };
    };
}

/// The table of `B`.
#[doc(hidden)]
#[must_use]
pub const fn root<B: Backend>() -> BackendRoot {
    BackendRoot {
        size: size_of::<BackendRoot>() as u64,
        major: BACKEND_MAJOR,
        reserved: 0,
        describe: describe::<B>,
        open: open::<B>,
        poll: poll::<B>,
        close: close::<B>,
    }
}

// The functions below have the contract of `BackendRoot`: `backend` is what `open` of this very table gave, `cx` is
// valid for the call, calls never overlap, and `sink` and `put` belong together.

unsafe extern "C" fn describe<B: Backend>(sink: *mut c_void, put: Sink) {
    export::remember_panics(false);
    let schema = export::caught(<B::Config as DeviceConfig>::schema).unwrap_or(Value::Null);
    let text = json!({ "name": B::name(), "summary": B::summary(), "schema": schema }).to_string();
    // SAFETY: the contract above.
    unsafe { put(sink, text.as_ptr(), text.len() as u64) }
}

unsafe extern "C" fn open<B: Backend>(
    options: *const u8,
    len: u64,
    out: *mut *mut c_void,
    sink: *mut c_void,
    put: Sink,
) -> u64 {
    export::remember_panics(false);
    // SAFETY: the contract above.
    let options = unsafe { export::bytes(options, len) };
    let opened = export::caught(|| open_with::<B>(options)).unwrap_or_else(|text| {
        Err(ConfigError { path: String::new(), message: format!("the plugin panicked: {text}") })
    });
    match opened {
        Ok(backend) => {
            // SAFETY: the contract above.
            unsafe { out.write(Box::into_raw(Box::new(backend)).cast()) };
            0
        }
        Err(error) => {
            let text = json!({ "path": error.path, "message": error.message }).to_string();
            // SAFETY: the contract above.
            unsafe { put(sink, text.as_ptr(), text.len() as u64) };
            1
        }
    }
}

fn open_with<B: Backend>(options: &[u8]) -> Result<B, ConfigError> {
    let bad = |message: String| ConfigError { path: String::new(), message };
    let options: Value =
        serde_json::from_slice(options).map_err(|error| bad(format!("not JSON: {error}")))?;
    B::open(B::Config::from_json(&options)?).map_err(bad)
}

unsafe extern "C" fn poll<B: Backend>(backend: *mut c_void, cx: *mut BackendCx) -> u64 {
    // SAFETY: the contract above.
    let (backend, cx) = unsafe { (&mut *backend.cast::<B>(), &mut *cx) };
    let mut outside = Outside { raw: cx, _poll: PhantomData };
    match export::caught(|| backend.poll(&mut outside)) {
        Ok(()) => 0,
        Err(text) => {
            outside.log(LogLevel::Error, format_args!("panicked: {text}"));
            1
        }
    }
}

unsafe extern "C" fn close<B: Backend>(backend: *mut c_void) {
    // SAFETY: the contract above, and the host calls this once, last; the box was made by `open`.
    let backend = unsafe { Box::from_raw(backend.cast::<B>()) };
    // There is nobody left to tell.
    drop(export::caught(|| drop(backend)));
}
