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
    schema::{self, Change, Unsaid, Verdict},
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
    match args.json {
        true => out(&pretty(&for_programs(&kinds)))?,
        false => out(&for_people(&kinds))?,
    };
    Ok(match worst(&kinds) {
        Verdict::Fine => 0,
        Verdict::Unknown => Exit::Unknown as u8,
        Verdict::Breaks => Exit::Diverged as u8,
    })
}

fn changes(kinds: &[Compared], verdict: Verdict) -> usize {
    kinds.iter().flat_map(|kind| &kind.changes).filter(|change| change.verdict == verdict).count()
}

fn worst(kinds: &[Compared]) -> Verdict {
    let all = kinds.iter().flat_map(|kind| &kind.changes).map(|change| change.verdict);
    all.max().unwrap_or(Verdict::Fine)
}

struct Compared {
    kind: String,
    versions: (u32, Option<u32>),
    changes: Vec<Change>,
}

fn compare(old: &DeviceDesc, new: Option<&DeviceDesc>, args: &StateDiffArgs) -> Result<Compared, Failure> {
    let changes = match new {
        None => vec![Change {
            path: String::new(),
            text: "the device is gone".to_owned(),
            verdict: Verdict::Breaks,
        }],
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

fn for_people(kinds: &[Compared]) -> String {
    let mut text = String::new();
    for kind in kinds {
        text += &match (kind.changes.is_empty(), kind.versions) {
            (true, (old, _)) => format!("{}: the same state, version {old}\n", kind.kind),
            (false, (old, Some(new))) => format!("{}: state version {old}, then {new}\n", kind.kind),
            (false, (old, None)) => format!("{}: state version {old}, then none\n", kind.kind),
        };
        for change in &kind.changes {
            let verdict = match change.verdict {
                Verdict::Fine => "fine   ",
                Verdict::Unknown => "UNKNOWN",
                Verdict::Breaks => "BREAKS ",
            };
            text += &format!("  {verdict}  {change}\n");
        }
    }
    text + &match (worst(kinds), changes(kinds, Verdict::Breaks)) {
        (Verdict::Fine, _) => "old snapshots load\n".to_owned(),
        (Verdict::Unknown, _) => {
            "whether old snapshots load is not known: what is compared has to say more of its state\n"
                .to_owned()
        }
        (Verdict::Breaks, 1) => "1 change breaks old snapshots\n".to_owned(),
        (Verdict::Breaks, more) => format!("{more} changes break old snapshots\n"),
    }
}

fn for_programs(kinds: &[Compared]) -> Value {
    let change = |change: &Change| {
        let breaks = change.verdict == Verdict::Breaks;
        json!({
            "path": change.path, "text": change.text, "verdict": change.verdict.name(), "breaks": breaks,
        })
    };
    let kind = |kind: &Compared| {
        let changes: Vec<Value> = kind.changes.iter().map(change).collect();
        json!({ "kind": kind.kind, "old_version": kind.versions.0, "new_version": kind.versions.1, "changes": changes })
    };
    let worst = worst(kinds);
    let kinds: Vec<Value> = kinds.iter().map(kind).collect();
    json!({ "verdict": worst.name(), "breaks": worst == Verdict::Breaks, "kinds": kinds })
}
