//! Observers: found in a library by their own symbol, and told what happens through their own table.
#![expect(unsafe_code, reason = "plugin island: calls through the observer's table")]

use super::{
    MAX_FILE_BYTES, PluginError, config_error,
    instance::{functions, null_of},
    library,
};
use libloading::os::unix::Library;
use reprise_abi::{
    desc::ConfigError,
    observe::{EventRaw, OBSERVE_MAJOR, OBSERVER_SYMBOL, ObserverDesc, ObserverRoot},
};
use std::{ffi::c_void, ptr};
use thiserror::Error;

/// Length of the 1.0 table, which every observer has. What comes later must be checked for before it is called.
const ROOT_1_0: u64 = 56;
/// Words of it before its functions: the size and the version.
const HEAD: usize = 2;
/// Its functions.
const FUNCTIONS_1_0: [&str; 5] = ["describe", "create", "event", "finish", "drop"];

/// Why a file is not an observer that can be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ObserverError {
    /// It cannot even be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A good library without an observer.
    #[error("{path}: there is no observer in it (is `export_observer!` missing?)")]
    NotAnObserver {
        /// The file.
        path: String,
    },
    /// Built against another contract, or it makes no sense.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A loaded library with an observer. It stays in memory for the life of the process.
#[derive(Clone, Debug)]
pub struct ObserverPlugin {
    root: *const ObserverRoot,
    desc: ObserverDesc,
}

/// What a call gives to its [`reprise_abi::hot::Sink`].
#[derive(Default)]
struct Told(Vec<u8>);

impl Told {
    fn sink(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

unsafe extern "C" fn put(sink: *mut c_void, data: *const u8, len: u64) {
    let Ok(len) = usize::try_from(len) else { return };
    if data.is_null() || len > MAX_FILE_BYTES {
        return;
    }
    // SAFETY: `sink` is the vector of a `Told` that lives for the call, and the observer lends `len` bytes.
    unsafe { (*sink.cast::<Vec<u8>>()).extend_from_slice(core::slice::from_raw_parts(data, len)) };
}

impl ObserverPlugin {
    /// Load an observer from the bytes of its file. Loading runs its constructors: plugins are trusted code.
    ///
    /// # Errors
    /// See [`ObserverError`]; each names `path_for_messages`.
    pub fn load(path_for_messages: &str, bytes: &[u8]) -> Result<Self, ObserverError> {
        let path = path_for_messages.to_owned();
        let library = library(&path, bytes)?;
        let root = root_of(&library);
        // Its functions live as long as the process does.
        core::mem::forget(library);
        let root = root.ok_or_else(|| ObserverError::NotAnObserver { path: path.clone() })?;
        let desc = describe(root).map_err(|reason| ObserverError::Unusable { path, reason })?;
        Ok(Self { root, desc })
    }

    /// What it says of itself.
    #[must_use]
    pub fn desc(&self) -> &ObserverDesc {
        &self.desc
    }

    /// A new observer for JSON of [`reprise_abi::observe::Setup`].
    ///
    /// # Errors
    /// The options are not right, or what they name cannot be had.
    pub(crate) fn create(&self, setup: &str) -> Result<Observer, ConfigError> {
        let (mut told, mut wants) = (Told::default(), 0);
        // SAFETY: `load` found the table long enough, it is never unloaded, and what is passed is valid for the call.
        let observer = unsafe {
            ((*self.root).create)(setup.as_ptr(), setup.len() as u64, &raw mut wants, told.sink(), put)
        };
        if observer.is_null() {
            return Err(config_error(&told.text()));
        }
        Ok(Observer { root: self.root, observer, wants })
    }
}

fn root_of(library: &Library) -> Option<*const ObserverRoot> {
    // SAFETY: a symbol of this name is an `ObserverRoot`, by the rules of the ABI.
    let symbol = unsafe { library.get::<*const c_void>(OBSERVER_SYMBOL) };
    let root: *const ObserverRoot = symbol.ok()?.into_raw().cast_const().cast();
    (!root.is_null()).then_some(root)
}

/// Whether a table can be used. What plugins in Rust cannot do, those in C can.
fn check(root: *const ObserverRoot) -> Result<(), String> {
    if !root.is_aligned() {
        return Err("its observer's table is not aligned to 8 bytes".to_owned());
    }
    // SAFETY: a table starts with its size and the version, in every version of it.
    let (size, major) = unsafe { ((*root).size, (*root).major) };
    if major != OBSERVE_MAJOR {
        return Err(format!("its observer has major version {major}, the host's {OBSERVE_MAJOR}"));
    }
    if size < ROOT_1_0 {
        return Err(format!("its observer's table has {size} bytes, less than {ROOT_1_0}"));
    }
    // SAFETY: the table is aligned and lives as long as the process; behind its head it has functions.
    match null_of(&FUNCTIONS_1_0, unsafe { functions(root, HEAD) }) {
        Some(name) => Err(format!("its observer's table has NULL for `{name}`")),
        None => Ok(()),
    }
}

fn describe(root: *const ObserverRoot) -> Result<ObserverDesc, String> {
    check(root)?;
    let mut told = Told::default();
    // SAFETY: `check` found the function, and the sink is valid for the call.
    let status = unsafe { ((*root).describe)(told.sink(), put) };
    if status != 0 {
        return Err(format!("it cannot describe itself: {}", told.text()));
    }
    serde_json::from_slice(&told.0).map_err(|error| format!("its descriptor cannot be read: {error}"))
}

/// An observer of one machine.
pub(crate) struct Observer {
    root: *const ObserverRoot,
    observer: *mut c_void,
    wants: u64,
}

impl Observer {
    /// The kinds of events that it is to be told of, as bits.
    pub(crate) fn wants(&self) -> u64 {
        self.wants
    }

    /// Tell it. An error is the last that may be asked of it.
    pub(crate) fn event(&mut self, event: &EventRaw) -> Result<(), String> {
        let mut told = Told::default();
        // SAFETY: the observer is live, `&mut self` keeps calls apart, and everything passed is valid for the call.
        let status = unsafe { ((*self.root).event)(self.observer, ptr::from_ref(event), told.sink(), put) };
        if status == 0 { Ok(()) } else { Err(told.text()) }
    }

    /// Nothing more will happen.
    pub(crate) fn finish(self) -> Result<(), String> {
        let mut told = Told::default();
        // SAFETY: as in `event`.
        let status = unsafe { ((*self.root).finish)(self.observer, told.sink(), put) };
        if status == 0 { Ok(()) } else { Err(told.text()) }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // SAFETY: the observer is live, and this is the last call.
        unsafe { ((*self.root).drop)(self.observer) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_whole_and_aligned() {
        // It is looked at, and none of its functions is called.
        let whole = [ROOT_1_0, u64::from(OBSERVE_MAJOR), 8, 8, 8, 8, 8];
        let checked = |table: &[u64; 7]| check(table.as_ptr().cast());
        assert_eq!(checked(&whole), Ok(()));
        for (name, at) in FUNCTIONS_1_0.iter().zip(HEAD..) {
            let mut table = whole;
            table[at] = 0;
            assert_eq!(checked(&table), Err(format!("its observer's table has NULL for `{name}`")));
        }
        let mut short = whole;
        short[0] = ROOT_1_0 - 8;
        assert_eq!(checked(&short), Err("its observer's table has 48 bytes, less than 56".to_owned()));
        let askew = whole.as_ptr().cast::<u8>().wrapping_add(4).cast();
        assert_eq!(check(askew), Err("its observer's table is not aligned to 8 bytes".to_owned()));
    }
}
