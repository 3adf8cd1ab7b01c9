//! The cold path: the `abi_stable` root module of a plugin. Frozen.

use crate::hot::DevVtbl;
use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RResult, RStr, RString},
};
use core::ffi::c_void;

/// Version of the contract: for messages. Its major number is that of [`crate::hot::ABI_MAJOR`].
pub const CONTRACT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A device instance: its state and the table to drive it with. The host owns it and calls `drop` of the table once.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct DevHandle {
    /// The instance, passed back in every call.
    pub dev: *mut c_void,
    /// A `*const DevVtbl`, typeless here so that the layout check does not freeze the table's length.
    pub vtbl: *const c_void,
}

impl DevHandle {
    /// The table behind [`DevHandle::vtbl`].
    #[must_use]
    pub fn table(&self) -> *const DevVtbl {
        self.vtbl.cast()
    }
}

/// A created device and the descriptor of this very instance (pin counts and region sizes may follow its options).
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Created {
    /// The instance.
    pub handle: DevHandle,
    /// JSON of [`crate::desc::DeviceDesc`].
    pub desc_json: RString,
}

/// The root module that `export_devices!` writes.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
#[sabi(missing_field(panic))]
pub struct Plugin {
    /// [`crate::hot::ABI_MAJOR`] that the plugin was built with.
    pub abi_major: u32,
    /// [`crate::hot::ABI_MINOR`] that the plugin was built with.
    pub abi_minor: u32,
    /// Version of `reprise-plugin-api` that the plugin was built with: for messages.
    pub api_version: RStr<'static>,
    /// JSON array of [`crate::desc::DeviceDesc`], one for each kind, as with default options.
    pub describe: extern "C" fn() -> RString,
    /// The descriptor of `kind` with these options (JSON object): JSON of [`crate::desc::DeviceDesc`], or of
    /// [`crate::desc::ConfigError`].
    pub describe_with: extern "C" fn(kind: RStr<'_>, config_json: RStr<'_>) -> RResult<RString, RString>,
    /// Create an instance of `kind`; the error is JSON of [`crate::desc::ConfigError`].
    #[sabi(last_prefix_field)]
    pub create: extern "C" fn(kind: RStr<'_>, config_json: RStr<'_>) -> RResult<Created, RString>,
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "reprise_plugin";
    const NAME: &'static str = "Reprise plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
