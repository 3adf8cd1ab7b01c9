//! `reprise diff`: what two recordings do not have in common, and where their machines part.

use crate::{
    args::{DiffArgs, PluginArgs, RecordingArgs},
    failure::{Exit, Failure},
    inspect,
    plugins::Plugins,
    rebuild::{self, Replica},
    recording::{Manifest, Store, damage},
    report::{Diff, Names, Recorded, Side},
};
use serde_json::Value;
use std::rc::Rc;

/// Compare two recordings. Returns 0 if they are one run of one machine, and otherwise that of a divergence.
pub(crate) fn diff(args: &DiffArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let stores = [Rc::new(Store::open(&args.a)?), Rc::new(Store::open(&args.b)?)];
    let choices = [choices(args, &stores, 0)?, choices(args, &stores, 1)?];
    let sides = [side(&stores[0])?, side(&stores[1])?];
    let mut diff = Diff::of(sides).map_err(|(which, error)| damage(&stores[which], &error))?;
    if diff.parts() && !args.no_search {
        let replica = |which: usize| Replica::of(Rc::clone(&stores[which]), &choices[which], catalog);
        let replicas = replica(0).and_then(|a| Ok((a, replica(1)?)));
        diff.search(match &replicas {
            Ok((a, b)) => Ok([a as &dyn Recorded, b]),
            Err(failure) => Err(failure),
        });
    }
    let text = match args.json {
        true => format!("{}\n", diff.to_json()),
        false => diff.to_string(),
    };
    inspect::out(&text)?;
    Ok(if diff.is_identical() { 0 } else { Exit::Diverged as u8 })
}

fn side(store: &Store) -> Result<Side, Failure> {
    let manifest = store.manifest();
    Ok(Side {
        name: store.path().display().to_string(),
        manifest: described(manifest),
        names: Names::recorded(manifest),
        records: Box::new(rebuild::open_log(store)?),
    })
}

/// The manifest with its board read, so that what differs in a board has a name.
fn described(manifest: &Manifest) -> Value {
    let mut value = serde_json::to_value(manifest).expect("a manifest has string keys and plain values");
    if let Some(board) = manifest.board.parse::<toml::Table>().ok().and_then(|t| serde_json::to_value(t).ok())
    {
        value["board"] = board;
    }
    value
}

/// What of the command line is for one of the recordings. What neither of them has is a mistake.
fn choices(args: &DiffArgs, stores: &[Rc<Store>; 2], which: usize) -> Result<RecordingArgs, Failure> {
    let manifests = stores.each_ref().map(|store| store.manifest());
    let plugins = manifests.map(|m| m.plugins.iter().map(|row| row.name.as_str()).collect::<Vec<_>>());
    let disks = manifests.map(|m| m.disks.iter().map(|row| row.device.as_str()).collect::<Vec<_>>());
    Ok(RecordingArgs {
        recording: stores[which].path().to_owned(),
        plugins: PluginArgs {
            plugin: named("plugin", "NAME=FILE.so", &args.plugins.plugin, &plugins, which)?,
            ..args.plugins.clone()
        },
        disk: named("disk", "ID=FILE", &args.disk, &disks, which)?,
        engine: args.engine,
        ..RecordingArgs::default()
    })
}

/// The arguments of an option that name something of one recording.
fn named(
    option: &str,
    form: &str,
    arguments: &[String],
    names: &[Vec<&str>; 2],
    which: usize,
) -> Result<Vec<String>, Failure> {
    let mut kept = Vec::new();
    for argument in arguments {
        let bad = |why: String| {
            Failure::usage(why).at(format!("--{option} {argument}")).help(format!("write --{option} {form}"))
        };
        let (name, _) = argument.split_once('=').ok_or_else(|| bad("there is no `=` in it".to_owned()))?;
        if !names.iter().any(|names| names.contains(&name)) {
            return Err(bad(format!("neither recording has a {option} \"{name}\"")));
        }
        if names[which].contains(&name) {
            kept.push(argument.clone());
        }
    }
    Ok(kept)
}
