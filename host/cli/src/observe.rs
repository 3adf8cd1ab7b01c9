//! `--observe`: observers found, given their options, attached to a machine, and what came of them.

use crate::{
    failure::{Exit, Failure},
    options,
    plugins::{self, Plugins},
    run,
};
use clap::Args;
use reprise_machine::{
    Machine, ObserverFault,
    board::CatalogError,
    plugin::{ObserverError, ObserverPlugin},
};
use serde_json::Value;

/// Plugins of observers are called so, or as the observer is.
const PREFIX: &str = "observe-";

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ObserveArgs {
    /// Watch the machine, which cannot tell: coverage, trace, hot, or another observer, with its options
    #[arg(long, value_name = "NAME[,OPTION=VALUE]...")]
    observe: Vec<String>,
}

/// An observer that is to be attached.
pub(crate) struct Watcher {
    name: String,
    /// As on the command line.
    words: String,
    plugin: ObserverPlugin,
    options: Value,
}

impl ObserveArgs {
    /// The observers. Nothing is watched yet.
    ///
    /// # Errors
    /// One cannot be had, or has no such options.
    pub(crate) fn find(&self, catalog: &Plugins) -> Result<Vec<Watcher>, Failure> {
        self.observe.iter().map(|words| Watcher::of(words, catalog)).collect()
    }
}

/// The observer of this name, or of this file.
pub(crate) fn load(name: &str, catalog: &Plugins) -> Result<ObserverPlugin, Failure> {
    let broken = |message: String, help: Option<String>| {
        let failure = Failure::config(format!("observer \"{name}\": {message}"));
        help.into_iter().fold(failure, Failure::help)
    };
    let file = plugins::as_path(name)
        .or_else(|| catalog.file_of(&format!("{PREFIX}{name}")))
        .or_else(|| catalog.file_of(name));
    let Some(file) = file else {
        let there = known(catalog);
        return Err(broken("not found".to_owned(), None)
            .help(format!("there are: {}", there.join(", ")))
            .help("add the folder of another with --plugin-path or REPRISE_PLUGIN_PATH"));
    };
    let bytes = plugins::read(&file).map_err(|error| match error {
        CatalogError::Broken { message, help } => broken(message, help),
        error @ CatalogError::NotFound { .. } => broken(error.to_string(), None),
    })?;
    ObserverPlugin::load(&file.display().to_string(), &bytes).map_err(|error| {
        let help = match &error {
            ObserverError::NotAnObserver { .. } => {
                Some("devices go on boards; observers are others".to_owned())
            }
            ObserverError::Plugin(_) | ObserverError::Unusable { .. } => None,
        };
        broken(error.to_string(), help)
    })
}

/// Names of the observers in the search path that are called as such.
pub(crate) fn known(catalog: &Plugins) -> Vec<String> {
    let names = catalog.names();
    names.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

/// Whether a plugin is called as an observer.
pub(crate) fn is_named_so(plugin: &str) -> bool {
    plugin.starts_with(PREFIX)
}

impl Watcher {
    fn of(words: &str, catalog: &Plugins) -> Result<Self, Failure> {
        let (name, rest) = words.split_once(',').unwrap_or((words, ""));
        let plugin = load(name, catalog).map_err(|failure| failure.at(format!("--observe {words}")))?;
        let given = rest.split(',').filter(|word| !word.is_empty()).map(options::pair);
        let options = options::by_schema(given, &plugin.desc().schema);
        let options = options.map_err(|why| why.at(format!("--observe {words}")))?;
        Ok(Self { name: name.to_owned(), words: words.to_owned(), plugin, options })
    }
}

/// Let them watch a machine from here on.
///
/// # Errors
/// Options do not fit, or what they name cannot be had.
pub(crate) fn attach(watchers: &[Watcher], machine: &mut Machine) -> Result<(), Failure> {
    for watcher in watchers {
        let attached = machine.observe(&watcher.name, &watcher.plugin, watcher.options.clone());
        attached.map_err(|error| {
            Failure::config(format!("observer \"{}\": {error}", watcher.name))
                .at(format!("--observe {}", watcher.words))
        })?;
    }
    Ok(())
}

/// The run is over for those who watch. A failure says who of them has none to show for it.
pub(crate) fn finish(machine: &mut Machine) -> Option<Failure> {
    let faults = machine.finish_observers();
    let (ObserverFault { name, message }, others) = faults.split_first()?;
    let what = format!("observer \"{name}\" failed; the machine was not affected");
    let failure = Failure::new(Exit::Plugin, what).note(message.clone());
    let note = |failure: Failure, other: &ObserverFault| {
        failure.note(format!("observer \"{}\" failed too: {}", other.name, other.message))
    };
    Some(others.iter().fold(failure, note))
}

/// What `finish` found, told behind `words`, which are still to be said: it is the end of a command that has no worse
/// one.
///
/// # Errors
/// That end.
pub(crate) fn tell(failed: Option<Failure>, code: u8, words: String) -> Result<String, Failure> {
    match failed {
        None => Ok(words),
        Some(failure) if code == 0 => {
            run::say(&words);
            Err(failure)
        }
        Some(failure) => Ok(words + &failure.to_string()),
    }
}
