//! Finding plugins.

use crate::{failure::reason, network, observe, recording::Hash};
use reprise_machine::{
    board::{Catalog, CatalogError},
    desc::{ConfigError, DeviceDesc},
    plugin::{BackendPlugin, Plugin, PluginError, PluginFile},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
    rc::Rc,
};

/// A plugin called `a-b` is the file `libreprise_plugin_a_b.so`.
const PREFIX: &str = "libreprise_plugin_";
const SUFFIX: &str = ".so";

/// The plugins of this process: looked for when they are first asked for, and then kept.
pub(crate) struct Plugins {
    places: Vec<PathBuf>,
    known: RefCell<BTreeMap<String, Result<Installed, CatalogError>>>,
}

/// A plugin, loaded, and where it is from.
#[derive(Clone)]
pub(crate) struct Installed {
    pub(crate) plugin: Plugin,
    pub(crate) file: PathBuf,
    /// What was loaded. A recording keeps it.
    pub(crate) bytes: Rc<Vec<u8>>,
}

impl Installed {
    /// Load a plugin's file.
    pub(crate) fn read(path: &Path) -> Result<Self, CatalogError> {
        Self::load(path.to_owned(), read(path)?)
    }

    /// Load what is, or was, a plugin's file.
    pub(crate) fn load(file: PathBuf, bytes: Vec<u8>) -> Result<Self, CatalogError> {
        let plugin =
            PluginFile::load(&file.display().to_string(), &bytes).map_err(|error| unusable(&error))?;
        Ok(Self { plugin, file, bytes: Rc::new(bytes) })
    }

    /// blake3 of the file.
    pub(crate) fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

impl Plugins {
    /// `first`: the places of `--plugin-path`, folders or plugin files.
    pub(crate) fn new(first: &[PathBuf]) -> Self {
        let mut places = first.to_vec();
        if let Some(path) = env::var_os("REPRISE_PLUGIN_PATH") {
            places.extend(env::split_paths(&path).filter(|place| !place.as_os_str().is_empty()));
        }
        if let Some(beside) = env::current_exe().ok().as_deref().and_then(Path::parent) {
            places.push(beside.to_owned());
            places.extend(beside.parent().map(|prefix| prefix.join("lib/reprise/plugins")));
        }
        Self { places, known: RefCell::default() }
    }

    /// The plugin of this name, loaded.
    pub(crate) fn load(&self, name: &str) -> Result<Plugin, CatalogError> {
        self.installed(name).map(|installed| installed.plugin)
    }

    /// The plugin of this name, with its file.
    pub(crate) fn installed(&self, name: &str) -> Result<Installed, CatalogError> {
        let mut known = self.known.borrow_mut();
        known.entry(name.to_owned()).or_insert_with(|| self.search(name)).clone()
    }

    /// Look for every plugin anew when it is asked for next. The files of those that were found take much memory.
    pub(crate) fn forget(&self) {
        self.known.borrow_mut().clear();
    }

    /// The plugin of this name with this blake3, wherever in the search path it is.
    pub(crate) fn with_hash(&self, name: &str, hash: Hash) -> Option<Installed> {
        let same = |file: &PathBuf| {
            // What cannot be read is not it.
            let bytes =
                fs::metadata(file).ok().filter(fs::Metadata::is_file).and_then(|_| fs::read(file).ok());
            bytes.filter(|bytes| Hash::of(bytes) == hash)
        };
        let found = self.files_of(name).find_map(|file| same(&file).map(|bytes| (file, bytes)));
        found.and_then(|(file, bytes)| Installed::load(file, bytes).ok())
    }

    /// The file that [`Plugins::load`] takes.
    pub(crate) fn file_of(&self, name: &str) -> Option<PathBuf> {
        self.files_of(name).next()
    }

    /// The files of this name, in the order of the search path.
    fn files_of(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        // A board is not to lead us out of the search path.
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_plugin = !name.is_empty() && name.chars().all(is_name);
        let file_name = format!("{PREFIX}{}{SUFFIX}", name.replace('-', "_"));
        let name = name.replace('_', "-");
        let candidate = move |place: &PathBuf| match plugin_name(place) {
            Some(plugin) if place.is_file() => (plugin == name).then(|| place.clone()),
            // Also a link to nowhere: what is wrong with it is said when it is read.
            _ => Some(place.join(&file_name)).filter(|file| file.symlink_metadata().is_ok()),
        };
        self.places.iter().filter(move |_| is_plugin).filter_map(candidate)
    }

    /// The names of all plugins in the search path.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for place in &self.places {
            names.extend(plugin_name(place).filter(|_| place.is_file()));
            let entries = fs::read_dir(place).into_iter().flatten().flatten();
            names.extend(entries.filter_map(|entry| plugin_name(&entry.path())));
        }
        names.into_iter().collect()
    }

    /// The outside half of the plugin of this name, or of this file.
    pub(crate) fn backend(&self, name: &str) -> Result<BackendPlugin, CatalogError> {
        let file = as_path(name).or_else(|| self.file_of(name));
        let file = file.ok_or_else(|| CatalogError::NotFound { searched: self.searched() })?;
        BackendPlugin::load(&file.display().to_string(), &read(&file)?).map_err(|error| unusable(&error))
    }

    /// Load a file that the user named.
    pub(crate) fn load_file(&self, path: &Path) -> Result<Plugin, CatalogError> {
        Installed::read(path).map(|installed| installed.plugin)
    }

    fn search(&self, name: &str) -> Result<Installed, CatalogError> {
        match self.file_of(name) {
            Some(file) => Installed::read(&file),
            None => Err(CatalogError::NotFound { searched: self.searched() }),
        }
    }

    fn searched(&self) -> Vec<String> {
        self.places.iter().map(|place| place.display().to_string()).collect()
    }
}

/// The file that is meant, if what the user wrote is no plugin's name.
pub(crate) fn as_path(name: &str) -> Option<PathBuf> {
    (name.contains('/') || name.ends_with(".so")).then(|| PathBuf::from(name))
}

/// The bytes of a plugin's file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CatalogError> {
    let unread = |error: Error| match error.kind() {
        ErrorKind::NotFound => broken(format!("{}: no such file", path.display())),
        _ => broken(format!("{}: {}", path.display(), reason(&error))),
    };
    // Asked before it is opened: a FIFO would wait for a writer.
    let kind = fs::metadata(path).map_err(unread)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(broken(format!("{}: not a regular file", path.display())));
    }
    fs::read(path).map_err(unread)
}

fn unusable(error: &PluginError) -> CatalogError {
    CatalogError::Broken { message: error.to_string(), help: advice(error).map(str::to_owned) }
}

fn broken(message: String) -> CatalogError {
    CatalogError::Broken { message, help: None }
}

fn advice(error: &PluginError) -> Option<&'static str> {
    match error {
        PluginError::NotALibrary { .. } => Some("build it again: `cargo build` makes the .so file"),
        PluginError::Incompatible { .. } => {
            Some("build the plugin with a matching version of reprise-plugin-api")
        }
        PluginError::NotAPlugin { .. }
        | PluginError::NotABackend { .. }
        | PluginError::Load { .. }
        | PluginError::Table { .. }
        | PluginError::Describe { .. } => None,
    }
}

/// The plugin's name by its file's.
pub(crate) fn plugin_name(file: &Path) -> Option<String> {
    let stem = file.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    Some(stem.replace('_', "-"))
}

impl Catalog for Plugins {
    fn find(&self, plugin: &str) -> Result<Vec<DeviceDesc>, CatalogError> {
        self.load(plugin).map(|plugin| plugin.kinds().to_vec())
    }

    fn describe_with(&self, plugin: &str, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        match self.load(plugin) {
            Ok(plugin) => plugin.describe_with(kind, config_json),
            Err(error) => Err(ConfigError { path: String::new(), message: error.to_string() }),
        }
    }

    /// Those of devices.
    fn available(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| !observe::is_named_so(name)).collect()
    }

    fn check_network(&self, config_json: &str) -> Vec<ConfigError> {
        network::check(config_json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files() {
        assert_eq!(
            plugin_name(Path::new("/x/libreprise_plugin_virtio_blk.so")).as_deref(),
            Some("virtio-blk")
        );
        assert_eq!(plugin_name(Path::new("/x/libfoo.so")), None);
        let plugins = Plugins::new(&["/nonexistent".into()]);
        for name in ["", "../x", "a/b", "a.b", "no-such-plugin"] {
            assert_eq!(plugins.file_of(name), None, "{name}");
        }
        let Err(CatalogError::NotFound { searched }) = plugins.load("no-such-plugin") else {
            panic!("found")
        };
        assert_eq!(searched[0], "/nonexistent");
        assert!(searched.len() >= 3, "{searched:?}");
    }
}
