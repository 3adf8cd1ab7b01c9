//! The cold path of a plugin, whichever entry it has.

use super::{PluginError, c_entry::CEntry, config_error, stable};
use abi_stable::std_types::RStr;
use libloading::os::unix::Library;
use reprise_abi::{
    desc::ConfigError,
    root::{Created, DevHandle, PluginRef},
};

/// What a plugin is found, described and instantiated by.
#[derive(Clone, Copy)]
pub(super) enum Root {
    /// `abi_stable`'s root module: of `export_devices!`.
    Stable(PluginRef),
    /// The table of [`reprise_abi::c`].
    C(CEntry),
}

impl Root {
    /// Look for it in a library.
    pub(super) fn of(path: &str, library: &Library) -> Result<Self, PluginError> {
        if let Some(module) = stable::find(path, library)? {
            return Ok(Self::Stable(module));
        }
        match CEntry::find(path, library)? {
            Some(entry) => Ok(Self::C(entry)),
            None => Err(PluginError::NotAPlugin { path: path.into() }),
        }
    }

    pub(super) fn abi_major(&self) -> u32 {
        match self {
            Self::Stable(module) => module.abi_major(),
            Self::C(entry) => entry.abi_major(),
        }
    }

    pub(super) fn api_version(&self) -> &'static str {
        match self {
            Self::Stable(module) => module.api_version().as_str(),
            Self::C(entry) => entry.api_version(),
        }
    }

    /// JSON of all descriptors, or of an error.
    ///
    /// # Errors
    /// What it gives is not text.
    pub(super) fn describe(&self) -> Result<String, String> {
        match self {
            Self::Stable(module) => Ok((module.describe())().into()),
            Self::C(entry) => entry.describe(),
        }
    }

    /// JSON of one descriptor.
    ///
    /// # Errors
    /// The plugin's own.
    pub(super) fn describe_with(&self, kind: &str, config_json: &str) -> Result<String, ConfigError> {
        match self {
            Self::Stable(module) => {
                let json = (module.describe_with())(RStr::from_str(kind), RStr::from_str(config_json));
                json.into_result().map(Into::into).map_err(|error| config_error(&error))
            }
            Self::C(entry) => entry.describe_with(kind, config_json),
        }
    }

    /// A new instance, not yet looked at, and JSON of its descriptor.
    ///
    /// # Errors
    /// The plugin's own.
    pub(super) fn create(&self, kind: &str, config_json: &str) -> Result<(DevHandle, String), ConfigError> {
        match self {
            Self::Stable(module) => {
                let created = (module.create())(RStr::from_str(kind), RStr::from_str(config_json));
                let Created { handle, desc_json } =
                    created.into_result().map_err(|error| config_error(&error))?;
                Ok((handle, desc_json.into()))
            }
            Self::C(entry) => entry.create(kind, config_json),
        }
    }
}
