//! `reprise plugin state-diff OLD NEW`: does a new build of a plugin still read what an old one saved?

use crate::{
    args::StateDiffArgs,
    failure::{Exit, Failure},
    inspect::{out, pretty},
    plugins::Plugins,
    run::plugin_failure,
};
use reprise_machine::{
    desc::DeviceDesc,
    schema::{self, Change, Unsaid},
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Compare two builds; the exit code says whether old snapshots load.
pub(crate) fn state_diff(args: &StateDiffArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let (old, new) = (descriptors(&args.old, catalog)?, descriptors(&args.new, catalog)?);
    let mut kinds = Vec::new();
    for old in &old {
        kinds.push(compare(old, new.iter().find(|new| new.kind == old.kind), args)?);
    }
    let breaks = kinds.iter().flat_map(|kind| &kind.changes).filter(|change| change.breaks).count();
    match args.json {
        true => out(&pretty(&for_programs(&kinds, breaks)))?,
        false => out(&for_people(&kinds, breaks))?,
    };
    Ok(if breaks == 0 { 0 } else { Exit::Diverged as u8 })
}

struct Compared {
    kind: String,
    versions: (u32, Option<u32>),
    changes: Vec<Change>,
}

fn compare(old: &DeviceDesc, new: Option<&DeviceDesc>, args: &StateDiffArgs) -> Result<Compared, Failure> {
    let changes = match new {
        None => vec![Change { path: String::new(), text: "the device is gone".to_owned(), breaks: true }],
        Some(new) => schema::compare(old, new).map_err(|unsaid| {
            let file = match unsaid {
                Unsaid::Old => &args.old,
                Unsaid::New => &args.new,
            };
            Failure::config(format!("{:?} does not say what its state is", old.kind)).at(file.display()).help(
                "build it with a reprise-plugin-api that describes states, and `#[derive(DeviceState)]`",
            )
        })?,
    };
    let versions = (old.state_version, new.map(|new| new.state_version));
    Ok(Compared { kind: old.kind.clone(), versions, changes })
}

/// Of a plugin's file, or of what `describe --json` printed.
fn descriptors(path: &Path, catalog: &Plugins) -> Result<Vec<DeviceDesc>, Failure> {
    if path.extension().is_none_or(|extension| extension != "json") {
        let plugin =
            catalog.load_file(path).map_err(|error| plugin_failure(&path.to_string_lossy(), &error))?;
        return Ok(plugin.kinds().to_vec());
    }
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::io("cannot read the descriptors", &error).at(path.display()))?;
    let bad = |why: String| Failure::config(format!("not descriptors of devices: {why}")).at(path.display());
    let json: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let all = if json.is_array() { json } else { Value::Array(vec![json]) };
    let descs: Vec<DeviceDesc> = serde_json::from_value(all).map_err(|error| bad(error.to_string()))?;
    descs.iter().try_for_each(DeviceDesc::validate).map_err(bad)?;
    Ok(descs)
}

fn for_people(kinds: &[Compared], breaks: usize) -> String {
    let mut text = String::new();
    for kind in kinds {
        text += &match (kind.changes.is_empty(), kind.versions) {
            (true, (old, _)) => format!("{}: the same state, version {old}\n", kind.kind),
            (false, (old, Some(new))) => format!("{}: state version {old}, then {new}\n", kind.kind),
            (false, (old, None)) => format!("{}: state version {old}, then none\n", kind.kind),
        };
        for change in &kind.changes {
            text += &format!("  {}  {change}\n", if change.breaks { "BREAKS" } else { "fine  " });
        }
    }
    text + &match breaks {
        0 => "old snapshots load\n".to_owned(),
        1 => "1 change breaks old snapshots\n".to_owned(),
        more => format!("{more} changes break old snapshots\n"),
    }
}

fn for_programs(kinds: &[Compared], breaks: usize) -> Value {
    let change =
        |change: &Change| json!({ "path": change.path, "text": change.text, "breaks": change.breaks });
    let kind = |kind: &Compared| {
        let changes: Vec<Value> = kind.changes.iter().map(change).collect();
        json!({ "kind": kind.kind, "old_version": kind.versions.0, "new_version": kind.versions.1, "changes": changes })
    };
    json!({ "breaks": breaks != 0, "kinds": kinds.iter().map(kind).collect::<Vec<_>>() })
}
