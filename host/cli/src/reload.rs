//! Another build of a plugin, for a machine that runs.

use crate::{
    control::{Answer, Refusal},
    failure::{Exit, printable},
    io::Link,
    plugins::Installed,
    record::plugin_row,
    run::plugin_failure,
    shelf::Shelf,
};
use reprise_machine::{
    Machine, ReloadError,
    plugin::{BackendPlugin, PluginError},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Which, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// A device that is made of the plugin.
    pub(crate) device: String,
    /// The new build; `None`: where the plugin was loaded from.
    pub(crate) file: Option<PathBuf>,
}

/// The files that a machine's plugins were loaded from, by name.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<String, PathBuf>);

impl Sources {
    pub(crate) fn of(plugins: &BTreeMap<String, Installed>) -> Self {
        Self(plugins.iter().map(|(name, plugin)| (name.clone(), plugin.file.clone())).collect())
    }

    /// Do it, and have snapshots say so from now on. `link`: to the outside halves.
    pub(crate) fn reload(
        &mut self,
        wish: Wish,
        machine: &mut Machine,
        shelf: &mut Shelf<'_>,
        link: &Link,
    ) -> Answer {
        let Wish { device, file } = wish;
        let refused = |exit: Exit, why: String| Refusal::new(why).with_exit(exit);
        let name = machine.plugin_of(&device);
        let name =
            name.ok_or_else(|| refused(Exit::Usage, format!("there is no device \"{device}\"")))?.to_owned();
        let file = file.or_else(|| self.0.get(&name).cloned());
        let file = file
            .ok_or_else(|| refused(Exit::Usage, format!("nobody knows where plugin \"{name}\" is from")))?;
        let new = Installed::read(&file)
            .map_err(|error| Refusal::from(plugin_failure(&name, &error)).with_exit(Exit::Config))?;
        let half = half(&file, &new.bytes)?;
        let successors = machine
            .successors(&name, &new.plugin)
            .map_err(|error| refused(exit_of(&error), error.to_string()))?;
        // The devices cannot fail any more, and they wait for what can.
        let ports = link.exchange(&name, half).map_err(|why| refused(Exit::Config, why))?;
        let devices = machine.succeed(successors);
        let row = plugin_row(&name, &new.plugin, &new.bytes);
        let (filename, blake3) = (file.display().to_string(), row.blake3.to_string());
        let answer = json!({
            "plugin": name, "filename": filename, "blake3": blake3, "devices": devices, "ports": ports,
        });
        shelf.reloaded(row, Rc::clone(&new.bytes));
        self.0.insert(name, file);
        Ok(answer)
    }
}

/// The outside half in the same file, if there is one.
fn half(file: &Path, bytes: &[u8]) -> Result<Option<BackendPlugin>, Refusal> {
    match BackendPlugin::load(&file.display().to_string(), bytes) {
        Ok(half) => Ok(Some(half)),
        Err(PluginError::NotABackend { .. }) => Ok(None),
        Err(error) => Err(Refusal::new(error.to_string()).with_exit(Exit::Config)),
    }
}

/// What a script is told of a build that cannot take the place of another.
fn exit_of(error: &ReloadError) -> Exit {
    match error {
        ReloadError::Create { .. } | ReloadError::Changed { .. } => Exit::Config,
        // As `state-diff` has it.
        ReloadError::State { .. } | ReloadError::Load { .. } => Exit::Diverged,
        ReloadError::Save { .. } => Exit::Plugin,
    }
}

/// An answer for people.
pub(crate) fn said(answer: &Value) -> String {
    let text = |name: &str| printable(answer[name].as_str().unwrap_or("?"));
    let names = |list: &str| -> Vec<String> {
        let all = answer[list].as_array().into_iter().flatten();
        all.map(|name| printable(name.as_str().unwrap_or("?"))).collect()
    };
    let (devices, ports) = (names("devices"), names("ports"));
    let halves = match ports.as_slice() {
        [] => String::new(),
        ports => format!("; its backend of {} began anew", ports.join(", ")),
    };
    format!("{}: plugin \"{}\" of {}{halves}\n", text("filename"), text("plugin"), devices.join(", "))
}
