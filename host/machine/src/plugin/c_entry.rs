//! The entry of plugins without `abi_stable`: the table of [`reprise_abi::c`].
#![expect(unsafe_code, reason = "plugin island: a symbol becomes a table, whose functions are called")]

use super::{PluginError, config_error, instance::collect};
use libloading::os::unix::Library;
use reprise_abi::{
    c::{Create, Describe, DescribeWith, ENTRY_SYMBOL, Entry},
    desc::ConfigError,
    hot::{ABI_MAJOR, ABI_MINOR, Sink},
    root::DevHandle,
};
use std::ffi::{CStr, CString, c_char, c_void};

/// Length of the first version of the table. What comes later must be checked for before it is used.
const TABLE_1: u64 = 48;

/// A plugin's table, checked: nothing in it is missing.
#[derive(Clone, Copy)]
pub(super) struct CEntry {
    abi_major: u32,
    api_version: &'static str,
    describe: Describe,
    describe_with: DescribeWith,
    create: Create,
}

impl CEntry {
    /// The table of a library that has the entry.
    pub(super) fn find(path: &str, library: &Library) -> Result<Option<Self>, PluginError> {
        let bad = |reason: &str| PluginError::Table { path: path.into(), reason: reason.into() };
        // SAFETY: a symbol of this name is such a function: `reprise_plugin.h` says so.
        let Ok(entry) = (unsafe { library.get::<Entry>(ENTRY_SYMBOL.as_bytes()) }) else { return Ok(None) };
        // SAFETY: as above; it takes nothing.
        let table = unsafe { entry() };
        if table.is_null() || !table.is_aligned() {
            return Err(bad("`reprise_plugin_entry` returns NULL, or what cannot be the address of a table"));
        }
        // SAFETY: every version of the table begins with its size and the version, and lives as long as the process.
        let (size, major, minor) = unsafe { ((*table).size, (*table).abi_major, (*table).abi_minor) };
        if major != ABI_MAJOR {
            return Err(PluginError::Incompatible {
                path: path.into(),
                plugin: format!("built for plugin contract {major}.{minor}"),
                host: format!(
                    "plugin contract {ABI_MAJOR}.{ABI_MINOR}: build it with the reprise_plugin.h of this host"
                ),
            });
        }
        if size < TABLE_1 {
            let reason =
                format!("the table of `reprise_plugin_entry` has {size} bytes, not {TABLE_1} or more");
            return Err(bad(&reason));
        }
        // SAFETY: it has all fields of the first version, and functions may be null in this type.
        let table = unsafe { &*table };
        let missing = |name: &str| bad(&format!("the table of `reprise_plugin_entry` has NULL for `{name}`"));
        Ok(Some(Self {
            abi_major: major,
            api_version: text(table.api_version).ok_or_else(|| missing("api_version"))?,
            describe: table.describe.ok_or_else(|| missing("describe"))?,
            describe_with: table.describe_with.ok_or_else(|| missing("describe_with"))?,
            create: table.create.ok_or_else(|| missing("create"))?,
        }))
    }

    pub(super) fn abi_major(&self) -> u32 {
        self.abi_major
    }

    pub(super) fn api_version(&self) -> &'static str {
        self.api_version
    }

    /// As for [`super::root::Root::describe`]: an error too is JSON.
    pub(super) fn describe(&self) -> Result<String, String> {
        // SAFETY: the plugin's own function, with a sink and what fills it.
        let (_, json) = answer(|sink, put| unsafe { (self.describe)(sink, put) });
        json.map_err(|error| error.message)
    }

    /// As for [`super::root::Root::describe_with`].
    pub(super) fn describe_with(&self, kind: &str, config_json: &str) -> Result<String, ConfigError> {
        let (kind, config) = (terminated(kind)?, terminated(config_json)?);
        // SAFETY: as in `describe`; the strings are valid for the call.
        let call = |sink, put| unsafe { (self.describe_with)(kind.as_ptr(), config.as_ptr(), sink, put) };
        match answer(call) {
            (0, json) => json,
            (_, error) => Err(config_error(&error?)),
        }
    }

    /// As for [`super::root::Root::create`].
    pub(super) fn create(&self, kind: &str, config_json: &str) -> Result<(DevHandle, String), ConfigError> {
        let (kind, config) = (terminated(kind)?, terminated(config_json)?);
        let mut handle = DevHandle { dev: core::ptr::null_mut(), vtbl: core::ptr::null() };
        let out = &raw mut handle;
        // SAFETY: as in `describe_with`; so is the place for the handle.
        let call = |sink, put| unsafe { (self.create)(kind.as_ptr(), config.as_ptr(), out, sink, put) };
        match answer(call) {
            (0, json) => Ok((handle, json?)),
            (_, error) => Err(config_error(&error?)),
        }
    }
}

/// What a call returns, and the text that it gives to its sink.
fn answer(call: impl FnOnce(*mut c_void, Sink) -> u64) -> (u64, Result<String, ConfigError>) {
    let mut out: Vec<u8> = Vec::new();
    let status = call((&raw mut out).cast(), collect);
    let not_text =
        |_| ConfigError { path: String::new(), message: "what the plugin says is not UTF-8".into() };
    (status, String::from_utf8(out).map_err(not_text))
}

fn terminated(text: &str) -> Result<CString, ConfigError> {
    let has_nul =
        |_| ConfigError { path: String::new(), message: "there is a NUL in the middle of it".into() };
    CString::new(text).map_err(has_nul)
}

fn text(start: *const c_char) -> Option<&'static str> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the contract is a string with a NUL at its end that lives as long as the process.
    unsafe { CStr::from_ptr(start) }.to_str().ok()
}
