//! The entry of plugins in Rust: `abi_stable`'s header, and the root module behind it.
#![expect(unsafe_code, reason = "plugin island: a symbol becomes a header, and it a module")]

use super::PluginError;
use abi_stable::library::{
    AbiHeader, AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL,
};
use libloading::os::unix::Library;
use reprise_abi::root::{CONTRACT_VERSION, PluginRef};
use std::ffi::c_void;

/// The root module, or `None` if the library has no such header.
pub(super) fn find(path: &str, library: &Library) -> Result<Option<PluginRef>, PluginError> {
    // SAFETY: a symbol of this name is an `AbiHeader`, by the rules of abi_stable, whose layout never changes.
    let symbol = unsafe { library.get::<*const c_void>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
    let Some(address) = symbol.ok().map(|symbol| symbol.into_raw()).filter(|address| !address.is_null())
    else {
        return Ok(None);
    };
    // SAFETY: as above: a reference to the header is the address of the symbol, which stays mapped.
    let header = unsafe { core::mem::transmute::<*mut c_void, AbiHeaderRef>(address) };
    if header.magic_string != AbiHeader::VALUE.magic_string {
        return Ok(None);
    }
    let (major, minor) = (header.abi_major, header.abi_minor);
    let header = header.upgrade().map_err(|_| PluginError::Incompatible {
        path: path.into(),
        plugin: format!("built with abi_stable {major}.{minor}"),
        host: {
            let own = AbiHeader::VALUE;
            format!("abi_stable {}.{}", own.abi_major, own.abi_minor)
        },
    })?;
    check_contract(path, header)?;
    // SAFETY: `check_contract` compared the layout of the module with ours.
    unsafe { header.unchecked_layout::<PluginRef>() }
        .map(Some)
        .map_err(|error| PluginError::Load { path: path.into(), reason: error.to_string() })
}

/// The layout check of abi_stable, without its version rule (which refuses older plugins) and its thousands of lines.
fn check_contract(path: &str, header: &LibHeader) -> Result<(), PluginError> {
    let incompatible = |why: &str| {
        let plugin = header.version_strings().version.as_str();
        PluginError::Incompatible {
            path: path.into(),
            plugin: format!("built for plugin contract {plugin}{why}"),
            host: format!(
                "plugin contract {CONTRACT_VERSION}: rebuild the plugin with a reprise-plugin-api of this host"
            ),
        }
    };
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if major(header.version_strings().version.as_str()) != major(CONTRACT_VERSION) {
        return Err(incompatible(""));
    }
    if header.layout().is_none() {
        return Err(incompatible(", without a layout to check"));
    }
    header
        .ensure_layout::<PluginRef>()
        .map_err(|error| incompatible(&format!(", which differs ({})", gist(&error))))
}

/// The one line of abi_stable's explanation that says what differs.
fn gist(error: &LibraryError) -> String {
    let text = error.to_string();
    let fact = text.lines().rev().find_map(|line| line.trim().strip_prefix("Error:"));
    fact.map_or_else(|| "layout".to_owned(), str::to_owned)
}
