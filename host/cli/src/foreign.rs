//! What another build of a plugin makes of a state that the recorded one has saved: if it does not take it, nothing is
//! damaged, and nothing can be compared either.

use crate::{
    failure::{Exit, Failure},
    rebuild::unusable,
};
use reprise_machine::{
    RestoreError, SectionError,
    board::{Board, DeviceSpec},
    schema::{self, Change, Unsaid, Verdict},
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The host's sections that name what devices declare.
const DECLARED: [&str; 4] = ["timers", "bh", "wires", "ports"];

/// The plugins of a machine that are not of the build that its state is of.
#[derive(Default)]
pub(crate) struct OtherBuilds {
    pub(crate) plugins: Vec<String>,
    /// The board as the recorded builds describe it, if they are here.
    pub(crate) recorded: Option<Board>,
    /// What has the state.
    pub(crate) at: PathBuf,
}

impl OtherBuilds {
    /// What to say of a snapshot that could not be loaded.
    pub(crate) fn judge(&self, error: &RestoreError, board: &Board) -> Failure {
        match error {
            RestoreError::Section(section) => self.refused(section, board),
            _ => None,
        }
        .unwrap_or_else(|| unusable(error).at(self.at.display()))
    }

    /// `None`: it is not the doing of another build.
    fn refused(&self, error: &SectionError, board: &Board) -> Option<Failure> {
        let device = error.section.strip_prefix("device.").and_then(|id| device(board, id));
        let (plugin, whose) = match device {
            Some(device) => {
                (self.plugins.iter().find(|plugin| **plugin == device.plugin)?, format!("of {}", device.id))
            }
            None if DECLARED.contains(&error.section.as_str()) => {
                (self.plugins.first()?, "of the machine".to_owned())
            }
            None => return None,
        };
        let changes = device.map_or(Ok(Vec::new()), |device| self.changes(device));
        let what =
            format!("this build of plugin \"{plugin}\" does not take the state {whose} that was saved");
        let mut failure = Failure::new(Exit::Diverged, what).at(self.at.display()).note(error.to_string());
        for change in changes.iter().flatten() {
            failure = failure.note(change.to_string());
        }
        failure = match &changes {
            Ok(_) => failure,
            Err(why) => failure.note(format!("what changed in the state cannot be said: {why}")),
        };
        failure = match self.recorded {
            Some(_) => failure,
            None => failure.help("with the plugin of that build in --plugin-path, what changed is told here"),
        };
        let failure =
            failure.help("a build that is to begin there has to read older states: `since` for a new field");
        let json = json!({
            "kind": "beginning",
            "cause": "other-state",
            "plugin": plugin,
            "device": device.map(|device| device.id.as_str()),
            "why": error.to_string(),
            "changes": changes.unwrap_or_default().iter().map(shown).collect::<Vec<_>>(),
        });
        Some(Failure::told(Exit::Diverged, failure.to_string(), json))
    }

    /// In the state of a device; what breaks comes first.
    fn changes(&self, device: &DeviceSpec) -> Result<Vec<Change>, &'static str> {
        let recorded = self.recorded.as_ref().ok_or("the recorded build is not here")?;
        let old = self::device(recorded, &device.id).ok_or("the recorded build makes no such device")?;
        let mut changes = schema::compare(&old.desc, &device.desc).map_err(|unsaid| match unsaid {
            Unsaid::Old => "the recorded build does not describe its state",
            Unsaid::New => "this build does not describe its state",
        })?;
        changes.sort_by_key(|change| std::cmp::Reverse(change.verdict));
        Ok(changes)
    }
}

fn device<'a>(board: &'a Board, id: &str) -> Option<&'a DeviceSpec> {
    board.devices.iter().find(|device| device.id == id)
}

fn shown(change: &Change) -> Value {
    json!({
        "path": change.path,
        "text": change.text,
        "verdict": change.verdict.name(),
        "breaks": change.verdict == Verdict::Breaks,
    })
}
