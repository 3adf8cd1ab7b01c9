//! Loading a plugin, and driving the devices that it makes.
//!
//! The file is checked before the dynamic linker sees it, loaded from a sealed copy so that nobody can change it
//! underneath, and never unloaded: Rust libraries do not survive that. What is not checked: a file whose bytes were
//! damaged inside its segments can still crash in the dynamic linker, for constructors run before anything is asked.
#![expect(unsafe_code, reason = "plugin island: loads libraries and calls through their tables")]

mod backend;
mod c_entry;
mod elf;
mod instance;
mod observer;
mod root;
mod stable;

pub use backend::{Backend, BackendOutside, BackendPlugin, Panicked};
pub use instance::{Instance, LoadRefusal};
pub(crate) use observer::Observer;
pub use observer::{ObserverError, ObserverPlugin};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use reprise_abi::{
    desc::{ConfigError, DeviceDesc},
    hot,
};
use root::Root;
use rustix::fs::{MemfdFlags, SealFlags};
use std::os::fd::{AsRawFd, OwnedFd};
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
    #[error(
        "{path}: not a Reprise plugin: it has no plugin header (is `export_devices!` missing, \
         or in C `reprise_plugin_entry`?)"
    )]
    NotAPlugin {
        /// The file.
        path: String,
    },
    /// A good library without an outside half.
    #[error("{path}: it has no backend for ports (is `export_backend!` missing?)")]
    NotABackend {
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
    /// The table that its C entry returns is not whole.
    #[error("{path}: {reason}")]
    Table {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
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
    root: Root,
    kinds: Vec<DeviceDesc>,
}

impl PluginFile {
    /// Load a plugin from the bytes of its file. Loading runs its constructors: plugins are trusted code.
    ///
    /// # Errors
    /// See [`PluginError`]; each names `path_for_messages`.
    pub fn load(path_for_messages: &str, bytes: &[u8]) -> Result<Plugin, PluginError> {
        let path = path_for_messages;
        let library = library(path, bytes)?;
        let root = Root::of(path, &library)?;
        // Its functions live as long as the process does.
        core::mem::forget(library);
        let kinds = describe(&root).map_err(|reason| PluginError::Describe { path: path.into(), reason })?;
        Ok(Plugin { root, kinds })
    }
}

/// What the bytes are, checked before the dynamic linker sees them, as a library.
fn library(path: &str, bytes: &[u8]) -> Result<Library, PluginError> {
    let not_one = |reason: String| PluginError::NotALibrary { path: path.into(), reason };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(not_one("larger than 1 GiB".into()));
    }
    elf::check(bytes).map_err(|problem| not_one(problem.to_string()))?;
    open(path, bytes).map_err(|reason| PluginError::Load { path: path.into(), reason })
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

fn describe(root: &Root) -> Result<Vec<DeviceDesc>, String> {
    if root.abi_major() != hot::ABI_MAJOR {
        let (plugin, host) = (root.abi_major(), hot::ABI_MAJOR);
        return Err(format!("its tables have major version {plugin}, the host's {host}"));
    }
    let json = root.describe()?;
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

    /// Version of `reprise-plugin-api` that it was built with, or what a plugin in another language says in its place.
    #[must_use]
    pub fn api_version(&self) -> &'static str {
        self.root.api_version()
    }

    /// The descriptor of a kind with these options (a JSON object).
    ///
    /// # Errors
    /// The options are not right, or there is no such kind.
    pub fn describe_with(&self, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        descriptor(&self.root.describe_with(kind, config_json)?)
    }

    /// A new device. It wants a cold reset before anything else.
    ///
    /// # Errors
    /// As [`Plugin::describe_with`].
    pub fn create(&self, kind: &str, config_json: &str) -> Result<Instance, ConfigError> {
        let (handle, desc_json) = self.root.create(kind, config_json)?;
        let instance =
            Instance::adopt(handle).map_err(|message| ConfigError { path: String::new(), message })?;
        let desc = descriptor(&desc_json)?;
        if !desc.links.is_empty() && !instance.takes_messages() {
            let message = "it has links, but its table of functions has no `on_message`".to_owned();
            return Err(ConfigError { path: String::new(), message });
        }
        Ok(instance.described(desc))
    }
}

#[cfg(test)]
mod tests;
