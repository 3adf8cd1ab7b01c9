//! Another build of a plugin, for a machine that runs.

use crate::{
    control::{Answer, Refusal},
    failure::printable,
    plugins::Installed,
    record::plugin_row,
    run::plugin_failure,
    shelf::Shelf,
};
use reprise_machine::Machine;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

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

    /// Do it, and have snapshots say so from now on.
    pub(crate) fn reload(&mut self, wish: Wish, machine: &mut Machine, shelf: &mut Shelf<'_>) -> Answer {
        let Wish { device, file } = wish;
        let name = machine.plugin_of(&device);
        let name = name.ok_or_else(|| Refusal::new(format!("there is no device \"{device}\"")))?.to_owned();
        let file = file.or_else(|| self.0.get(&name).cloned());
        let file =
            file.ok_or_else(|| Refusal::new(format!("nobody knows where plugin \"{name}\" is from")))?;
        let new = Installed::read(&file).map_err(|error| plugin_failure(&name, &error))?;
        let devices = machine.reload(&name, &new.plugin).map_err(|error| Refusal::new(error.to_string()))?;
        let row = plugin_row(&name, &new.plugin, &new.bytes);
        let (filename, blake3) = (file.display().to_string(), row.blake3.to_string());
        let answer = json!({ "plugin": name, "filename": filename, "blake3": blake3, "devices": devices });
        shelf.reloaded(row, Rc::clone(&new.bytes));
        self.0.insert(name, file);
        Ok(answer)
    }
}

/// An answer for people.
pub(crate) fn said(answer: &Value) -> String {
    let text = |name: &str| printable(answer[name].as_str().unwrap_or("?"));
    let devices = answer["devices"].as_array().into_iter().flatten();
    let devices: Vec<_> = devices.map(|id| printable(id.as_str().unwrap_or("?"))).collect();
    format!("{}: plugin \"{}\" of {}\n", text("filename"), text("plugin"), devices.join(", "))
}
