//! The cold path of a plugin without `abi_stable`: one symbol, a plain table, C strings. `reprise_plugin.h` is this
//! module, [`crate::hot`] and [`DevHandle`] in C. Append-only like the hot path.
//!
//! The host looks for [`ENTRY_SYMBOL`] in a library that has no `abi_stable` header.

use crate::{hot::Sink, root::DevHandle};
use core::ffi::{c_char, c_void};

/// The symbol that such a plugin exports: an [`Entry`].
pub const ENTRY_SYMBOL: &str = "reprise_plugin_entry";

/// Returns the plugin's table, which lives as long as the process.
pub type Entry = unsafe extern "C" fn() -> *const CPlugin;

/// Gives a JSON array of descriptors, one for each kind, as with default options, to `put`. 0, or 1 and the JSON of an
/// error, `{"path": "", "message": "…"}`, instead.
pub type Describe = unsafe extern "C" fn(sink: *mut c_void, put: Sink) -> u64;

/// Gives the descriptor of `kind` with these options (a JSON object) to `put`. 0, or 1 and an error, whose `path` is
/// the option's name. Options that the plugin does not know are errors.
pub type DescribeWith = unsafe extern "C" fn(
    kind: *const c_char,
    config_json: *const c_char,
    sink: *mut c_void,
    put: Sink,
) -> u64;

/// Creates an instance of `kind` with these options: fills `out`, and gives the descriptor of this very instance to
/// `put`. 0, or 1 and an error, as for [`DescribeWith`]; `out` is then left alone. The instance is freed by
/// [`crate::hot::DevVtbl::drop`] of its table.
pub type Create = unsafe extern "C" fn(
    kind: *const c_char,
    config_json: *const c_char,
    out: *mut DevHandle,
    sink: *mut c_void,
    put: Sink,
) -> u64;

/// What the entry returns. Strings are UTF-8 and end with a NUL; no pointer in it is null.
#[repr(C)]
#[derive(Debug)]
pub struct CPlugin {
    /// Size of this table in bytes.
    pub size: u64,
    /// [`crate::hot::ABI_MAJOR`] that the plugin was built with.
    pub abi_major: u32,
    /// [`crate::hot::ABI_MINOR`] that the plugin was built with.
    pub abi_minor: u32,
    /// What it was built with, for messages: "C header 1.2".
    pub api_version: *const c_char,
    /// All kinds.
    pub describe: Option<Describe>,
    /// One kind with options.
    pub describe_with: Option<DescribeWith>,
    /// A new device.
    pub create: Option<Create>,
}

// Frozen like the tables of the hot path.
const _: () = assert!(size_of::<CPlugin>() == 48);
