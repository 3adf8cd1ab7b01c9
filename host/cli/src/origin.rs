//! What is kept of a machine, by a recording or with a snapshot, and what of it is here.

use crate::{
    args::PluginArgs,
    failure::Failure,
    plugins::{Installed, Plugins},
    recording::{self, Hash, ImageRow, Images, PluginRow},
    run,
    setup::{BootFiles, Content, Reader},
    snapshots,
};
use reprise_machine::{
    board::{self, Board, Catalog, CatalogError},
    desc::{ConfigError, DeviceDesc},
};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

/// As much as a message has room for: plugins that are not here.
const SHOWN: usize = 4;

/// What a machine was made of.
pub(crate) struct Origin {
    /// For messages: a recording or a snapshot.
    pub(crate) what: &'static str,
    path: PathBuf,
    board: String,
    images: Images,
    plugins: Vec<PluginRow>,
    blob: Blob,
}

/// Reads a boot image or a plugin.
type Blob = Rc<dyn Fn(&Hash) -> Result<Vec<u8>, Failure>>;

/// Everything but the disks, found.
pub(crate) struct Found {
    pub(crate) board: Board,
    pub(crate) plugins: BTreeMap<String, Installed>,
    pub(crate) files: BootFiles,
}

impl Origin {
    /// The machine of a recording.
    pub(crate) fn recorded(store: &Rc<recording::Store>) -> Self {
        let (manifest, blobs) = (store.manifest(), Rc::clone(store));
        Self {
            what: "recording",
            path: store.path().to_owned(),
            board: manifest.board.clone(),
            images: manifest.images.clone(),
            plugins: manifest.plugins.clone(),
            blob: Rc::new(move |hash| blobs.blob(hash)),
        }
    }

    /// The machine of a snapshot; `path` names that one.
    pub(crate) fn saved(path: PathBuf, store: snapshots::Store, facts: snapshots::Facts) -> Self {
        Self {
            what: "snapshot",
            path,
            board: facts.board.clone(),
            images: facts.images.clone(),
            plugins: facts.plugins.clone(),
            blob: Rc::new(move |hash| store.blob(&facts, hash)),
        }
    }

    /// The plugin that a device of its board is made of.
    fn plugin_of(&self, device: &str) -> Option<String> {
        let board: toml::Table = self.board.parse().ok()?;
        Some(board.get("device")?.get(device)?.get("plugin")?.as_str()?.to_owned())
    }

    /// Find what it was made of.
    ///
    /// # Errors
    /// Something is not here: it is named, and what to do about it.
    pub(crate) fn find(&self, choices: &Choices, catalog: &Plugins) -> Result<Found, Failure> {
        let plugins = find_plugins(self, choices, catalog)?;
        let name = format!("the board in {}", self.path.display());
        let board = board::parse(&name, &self.board, &[], &Chosen(&plugins))
            .map_err(|wrong| Failure::board(wrong, &self.board))?;
        Ok(Found { board, plugins, files: boot_files(self) })
    }
}

/// What the user has said about the parts of the machine.
#[derive(Default)]
pub(crate) struct Choices {
    plugins: BTreeMap<String, PathBuf>,
    other_plugins: bool,
    trust_plugins: bool,
}

impl Choices {
    pub(crate) fn of(args: &PluginArgs) -> Result<Self, Failure> {
        let mut plugins = BTreeMap::new();
        for argument in &args.plugin {
            let bad = |why: &str| {
                let help = "write --plugin NAME=FILE.so, with the name of a plugin or of a device that is made of it";
                Failure::usage(why).at(format!("--plugin {argument}")).help(help)
            };
            let (name, file) = argument.split_once('=').ok_or_else(|| bad("no `NAME=` before the file"))?;
            if plugins.insert(name.to_owned(), PathBuf::from(file)).is_some() {
                return Err(bad("this plugin is given twice"));
            }
        }
        let (other_plugins, trust_plugins) = (args.other_plugins, args.trust_plugins);
        Ok(Self { plugins, other_plugins, trust_plugins })
    }

    /// The same, but for other builds than those that were kept.
    pub(crate) fn as_recorded(&self) -> Self {
        Self { trust_plugins: self.trust_plugins, ..Self::default() }
    }

    /// The files by the names of the plugins of `origin`: the user may have named a device that is made of one.
    fn files<'a>(&'a self, origin: &'a Origin) -> Result<BTreeMap<&'a str, &'a PathBuf>, Failure> {
        let mut files = BTreeMap::new();
        for (name, file) in &self.plugins {
            let is_plugin = |wanted: &str| origin.plugins.iter().find(|part| part.name == wanted);
            let part = is_plugin(name).or_else(|| is_plugin(&origin.plugin_of(name)?));
            let bad = |why: String| Failure::usage(why).at(format!("--plugin {name}=…"));
            let Some(part) = part else {
                let names: Vec<&str> = origin.plugins.iter().map(|part| part.name.as_str()).collect();
                return Err(bad(format!("the {} has no plugin or device \"{name}\"", origin.what))
                    .help(format!("its plugins: {}", names.join(", "))));
            };
            if files.insert(part.name.as_str(), file).is_some() {
                return Err(bad(format!("plugin \"{}\" is given twice", part.name)));
            }
        }
        Ok(files)
    }
}

/// The plugins of a board that is read again.
struct Chosen<'a>(&'a BTreeMap<String, Installed>);

impl Catalog for Chosen<'_> {
    fn find(&self, plugin: &str) -> Result<Vec<DeviceDesc>, CatalogError> {
        let found = self.0.get(plugin).ok_or_else(|| CatalogError::NotFound { searched: Vec::new() })?;
        Ok(found.plugin.kinds().to_vec())
    }

    fn describe_with(&self, plugin: &str, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        match self.0.get(plugin) {
            Some(found) => found.plugin.describe_with(kind, config_json),
            None => Err(ConfigError {
                path: String::new(),
                message: "what is kept of the machine does not name it".into(),
            }),
        }
    }

    fn available(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// A plugin that is not here as it was.
struct Missing<'a> {
    part: &'a PluginRow,
    /// What there is under its name.
    here: Result<Installed, CatalogError>,
}

fn find_plugins(
    origin: &Origin,
    choices: &Choices,
    catalog: &Plugins,
) -> Result<BTreeMap<String, Installed>, Failure> {
    let parts = &origin.plugins;
    let files = choices.files(origin)?;
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for part in parts {
        match find_plugin(origin, part, (files.get(part.name.as_str()).copied(), choices), catalog)? {
            Ok(plugin) => drop(found.insert(part.name.clone(), plugin)),
            Err(here) => missing.push(Missing { part, here }),
        }
    }
    catalog.forget();
    if missing.is_empty() { Ok(found) } else { Err(other_plugins(origin, &missing)) }
}

/// The plugin to use; else what there is in its place.
fn find_plugin(
    origin: &Origin,
    part: &PluginRow,
    (file, choices): (Option<&PathBuf>, &Choices),
    catalog: &Plugins,
) -> Result<Result<Installed, Result<Installed, CatalogError>>, Failure> {
    if let Some(file) = file {
        return Installed::read(file).map(Ok).map_err(|error| run::plugin_failure(&part.name, &error));
    }
    if let Some(same) = catalog.with_hash(&part.name, part.blake3) {
        return Ok(Ok(same));
    }
    if choices.trust_plugins {
        let file = origin.path.join(&part.name);
        let loaded = Installed::load(file, (origin.blob)(&part.blake3)?);
        return loaded.map(Ok).map_err(|error| run::plugin_failure(&part.name, &error));
    }
    match catalog.installed(&part.name) {
        Ok(other) if choices.other_plugins => Ok(Ok(other)),
        Err(error) if choices.other_plugins => Err(run::plugin_failure(&part.name, &error)),
        here => Ok(Err(here)),
    }
}

fn other_plugins(origin: &Origin, missing: &[Missing<'_>]) -> Failure {
    let what = match missing {
        [one] => format!("plugin \"{}\" is not here as it was recorded", one.part.name),
        many => format!("{} plugins are not here as they were recorded", many.len()),
    };
    let mut failure = Failure::config(what).at(origin.path.display());
    for Missing { part, here } in missing.iter().take(SHOWN) {
        let here = match here {
            Ok(here) => format!(
                "{} is of plugin API {}, blake3 {}",
                here.file.display(),
                here.plugin.api_version(),
                short(&here.hash())
            ),
            Err(CatalogError::NotFound { .. }) => "none is found".to_owned(),
            Err(CatalogError::Broken { message, .. }) => message.clone(),
        };
        let PluginRow { name, api, blake3, .. } = part;
        failure =
            failure.note(format!("{name}: recorded of plugin API {api}, blake3 {}; {here}", short(blake3)));
    }
    if missing.len() > SHOWN {
        failure = failure.note(format!("and {} more", missing.len() - SHOWN));
    }
    let name = &missing[0].part.name;
    failure
        .help(format!("with the plugins of that build: --plugin-path DIR, or --plugin {name}=FILE.so"))
        .help("--other-plugins takes what is installed, and the replay shows whether it is the same")
        .help(format!(
            "--trust-plugins loads what the {} holds: only if you would run a program from there",
            origin.what
        ))
}

/// Enough to tell it from others.
fn short(hash: &Hash) -> String {
    format!("{:.16}…", hash.to_string())
}

fn boot_files(origin: &Origin) -> BootFiles {
    let images = &origin.images;
    let reader = |what: &'static str, part: &Option<ImageRow>| -> Option<Reader> {
        let part = part.clone()?;
        let (place, blob) = (origin.path.display().to_string(), Rc::clone(&origin.blob));
        let read = move || -> Result<Content, Failure> {
            let name = format!("the {what} in {place} ({})", part.name);
            Ok((name, blob(&part.blake3)?))
        };
        Some(Rc::new(read))
    };
    BootFiles::recorded([
        reader("firmware", &images.firmware),
        reader("kernel", &images.kernel),
        reader("initrd", &images.initrd),
    ])
}
