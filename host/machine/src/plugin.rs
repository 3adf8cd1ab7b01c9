//! Loading a plugin, and driving the devices that it makes.
//!
//! The file is checked before the dynamic linker sees it, loaded from a sealed copy so that nobody can change it
//! underneath, and never unloaded: Rust libraries do not survive that. What is not checked: a file whose bytes were
//! damaged inside its segments can still crash in the dynamic linker, for constructors run before anything is asked.
#![expect(unsafe_code, reason = "plugin island: loads libraries and calls through their tables")]

mod elf;
mod instance;

pub use instance::Instance;

use abi_stable::{
    library::{AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL},
    std_types::RStr,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use reprise_abi::{
    desc::{ConfigError, DeviceDesc},
    hot,
    root::{CONTRACT_VERSION, Created, PluginRef},
};
use rustix::fs::{MemfdFlags, SealFlags};
use std::{
    ffi::c_void,
    os::fd::{AsRawFd, OwnedFd},
};
use thiserror::Error;

/// A plugin with debug information has some 20 MB: this is surely something else.
const MAX_FILE_BYTES: usize = 1 << 30;

/// Why a file is not a plugin that can be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PluginError {
    /// Not a whole shared library for this machine.
    #[error("{path}: {reason}")]
    NotALibrary {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The dynamic linker refuses it.
    #[error("{path}: cannot be loaded: {reason}")]
    Load {
        /// The file.
        path: String,
        /// The linker's reason.
        reason: String,
    },
    /// A good library of another kind.
    #[error("{path}: not a Reprise plugin: it has no plugin header (is `export_devices!` missing?)")]
    NotAPlugin {
        /// The file.
        path: String,
    },
    /// Built against another contract.
    #[error("{path}: {plugin}\nthis host needs {host}")]
    Incompatible {
        /// The file.
        path: String,
        /// What the plugin was built with.
        plugin: String,
        /// What the host was built with.
        host: String,
    },
    /// Its descriptors make no sense.
    #[error("{path}: {reason}")]
    Describe {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// A plugin file on its way in.
pub struct PluginFile;

/// A loaded plugin. It stays in memory for the life of the process.
#[derive(Clone)]
pub struct Plugin {
    root: PluginRef,
    kinds: Vec<DeviceDesc>,
}

impl PluginFile {
    /// Load a plugin from the bytes of its file. Loading runs its constructors: plugins are trusted code.
    ///
    /// # Errors
    /// See [`PluginError`]; each names `path_for_messages`.
    pub fn load(path_for_messages: &str, bytes: &[u8]) -> Result<Plugin, PluginError> {
        let path = path_for_messages;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(PluginError::NotALibrary { path: path.into(), reason: "larger than 1 GiB".into() });
        }
        elf::check(bytes)
            .map_err(|problem| PluginError::NotALibrary { path: path.into(), reason: problem.to_string() })?;
        let library = open(path, bytes).map_err(|reason| PluginError::Load { path: path.into(), reason })?;
        let root = root_module(path, &library)?;
        // Its functions live as long as the process does.
        core::mem::forget(library);
        let kinds = describe(root).map_err(|reason| PluginError::Describe { path: path.into(), reason })?;
        Ok(Plugin { root, kinds })
    }
}

/// A sealed copy in memory, under the file's name, so that `/proc/self/maps` shows it.
fn sealed_copy(path: &str, bytes: &[u8]) -> rustix::io::Result<OwnedFd> {
    // 249 is the longest name that memfd_create(2) takes.
    let name: String =
        path.rsplit('/').next().unwrap_or(path).chars().filter(|c| *c != '\0').take(60).collect();
    let copy = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&copy, rest)?;
        rest = &rest[written..];
    }
    seal(&copy)?;
    Ok(copy)
}

/// Nobody writes to it any more.
fn seal(copy: &OwnedFd) -> rustix::io::Result<()> {
    // Not WRITE, which also excludes mappings and pages in use from before. There are none, but the kernel waits for
    // pages on which it has a passing hold of its own, and on a loaded host gives up: "Device or resource busy".
    let seals = SealFlags::FUTURE_WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(copy, seals)
}

fn open(path: &str, bytes: &[u8]) -> Result<Library, String> {
    let copy = sealed_copy(path, bytes).map_err(|error| format!("copy in memory: {error}"))?;
    let name = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: the ELF check has passed, and that constructors may run is what a plugin is trusted with.
    let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_LOCAL) };
    // The linker knows a library by the name it was opened with. The descriptor stays open so that its number, and so
    // this name, is never given to another plugin, which would then silently be this one.
    core::mem::forget(copy);
    library.map_err(|error| {
        let text = core::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        text.replace(&name, "the file")
    })
}

fn root_module(path: &str, library: &Library) -> Result<PluginRef, PluginError> {
    let not_a_plugin = || PluginError::NotAPlugin { path: path.into() };
    // SAFETY: a symbol of this name is an `AbiHeader`, by the rules of abi_stable, whose layout never changes.
    let symbol = unsafe { library.get::<*const c_void>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
    let address = symbol.map_err(|_| not_a_plugin())?.into_raw();
    if address.is_null() {
        return Err(not_a_plugin());
    }
    // SAFETY: as above: a reference to the header is the address of the symbol, which stays mapped.
    let header = unsafe { core::mem::transmute::<*mut c_void, AbiHeaderRef>(address) };
    if header.magic_string != abi_stable::library::AbiHeader::VALUE.magic_string {
        return Err(not_a_plugin());
    }
    let (major, minor) = (header.abi_major, header.abi_minor);
    let header = header.upgrade().map_err(|_| PluginError::Incompatible {
        path: path.into(),
        plugin: format!("built with abi_stable {major}.{minor}"),
        host: {
            let own = abi_stable::library::AbiHeader::VALUE;
            format!("abi_stable {}.{}", own.abi_major, own.abi_minor)
        },
    })?;
    check_contract(path, header)?;
    // SAFETY: `check_contract` compared the layout of the module with ours.
    unsafe { header.unchecked_layout::<PluginRef>() }
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

fn describe(root: PluginRef) -> Result<Vec<DeviceDesc>, String> {
    if root.abi_major() != hot::ABI_MAJOR {
        return Err(format!(
            "its tables have major version {}, the host's {}",
            root.abi_major(),
            hot::ABI_MAJOR
        ));
    }
    let json = (root.describe())();
    if let Ok(error) = serde_json::from_str::<ConfigError>(&json)
        && !error.message.is_empty()
    {
        return Err(format!("it cannot describe itself: {}", error.message));
    }
    let kinds: Vec<DeviceDesc> =
        serde_json::from_str(&json).map_err(|error| format!("its descriptors cannot be read: {error}"))?;
    for (index, desc) in kinds.iter().enumerate() {
        desc.validate().map_err(|problem| format!("device {:?}: {problem}", desc.kind))?;
        if kinds[..index].iter().any(|other| other.kind == desc.kind) {
            return Err(format!("device {:?} is there twice", desc.kind));
        }
    }
    if kinds.is_empty() { Err("it has no devices".to_owned()) } else { Ok(kinds) }
}

/// With the option that it is about, if it is about one.
pub(crate) fn in_words(ConfigError { path, message }: ConfigError) -> String {
    if path.is_empty() { message } else { format!("{path}: {message}") }
}

fn config_error(json: &str) -> ConfigError {
    serde_json::from_str(json)
        .unwrap_or_else(|_| ConfigError { path: String::new(), message: json.to_owned() })
}

fn descriptor(json: &str) -> Result<DeviceDesc, ConfigError> {
    let bad = |message: String| ConfigError { path: String::new(), message };
    let desc: DeviceDesc =
        serde_json::from_str(json).map_err(|error| bad(format!("the plugin's descriptor: {error}")))?;
    desc.validate().map_err(|problem| bad(format!("the plugin's descriptor: {problem}")))?;
    Ok(desc)
}

impl Plugin {
    /// The device kinds of this plugin, with default options.
    #[must_use]
    pub fn kinds(&self) -> &[DeviceDesc] {
        &self.kinds
    }

    /// Version of `reprise-plugin-api` that it was built with.
    #[must_use]
    pub fn api_version(&self) -> &'static str {
        self.root.api_version().as_str()
    }

    /// The descriptor of a kind with these options (a JSON object).
    ///
    /// # Errors
    /// The options are not right, or there is no such kind.
    pub fn describe_with(&self, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        let json = (self.root.describe_with())(RStr::from_str(kind), RStr::from_str(config_json));
        descriptor(&json.into_result().map_err(|error| config_error(&error))?)
    }

    /// A new device. It wants a cold reset before anything else.
    ///
    /// # Errors
    /// As [`Plugin::describe_with`].
    pub fn create(&self, kind: &str, config_json: &str) -> Result<Instance, ConfigError> {
        let created = (self.root.create())(RStr::from_str(kind), RStr::from_str(config_json));
        let Created { handle, desc_json } = created.into_result().map_err(|error| config_error(&error))?;
        let instance = Instance::adopt(handle)
            .ok_or_else(|| ConfigError { path: String::new(), message: instance::BAD_HANDLE.to_owned() })?;
        let desc = descriptor(&desc_json)?;
        if !desc.links.is_empty() && !instance.takes_messages() {
            let message = "it has links, but its table of functions is too short for messages".to_owned();
            return Err(ConfigError { path: String::new(), message });
        }
        Ok(instance.described(desc))
    }
}

#[cfg(test)]
mod tests;
