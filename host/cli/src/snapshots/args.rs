//! `reprise snapshot list|delete|check|diff`: snapshots at rest. `save` and `load` ask a machine that runs.

use super::{Checked, Facts, Store, StoreWriter};
use crate::{
    control::NamedArgs,
    failure::{Exit, Failure},
    from,
    inspect::out,
    io::{counted, grouped},
};
use clap::Subcommand;
use reprise_machine::{Difference, Snapshot};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotCommand {
    #[command(subcommand)]
    action: SnapshotAction,
}

#[derive(Debug, Subcommand)]
enum SnapshotAction {
    /// Save a snapshot of a running machine, which hardly stops for it; returns when it is on the disk
    Save(NamedArgs),
    /// Let a running machine become what a snapshot says
    Load(NamedArgs),
    /// List the snapshots of a folder
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Delete snapshots, and what only they needed
    Delete {
        #[command(flatten)]
        folder: Folder,
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Read everything, and say what is damaged
    Check {
        #[command(flatten)]
        folder: Folder,
    },
    /// Say what two snapshots do not have in common: registers, fields of devices, pages of RAM, blocks of disks
    Diff {
        /// A snapshot: FOLDER/NAME
        #[arg(value_name = "A")]
        a: PathBuf,
        /// The other one
        #[arg(value_name = "B")]
        b: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// A folder of snapshots; of a recording: RUN.rec/snapshots
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl SnapshotCommand {
    /// Returns the exit code.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        match &self.action {
            SnapshotAction::Save(args) => args.run("snapshot-save"),
            SnapshotAction::Load(args) => args.run("snapshot-load"),
            SnapshotAction::List { folder } => list(folder),
            SnapshotAction::Delete { folder, names } => delete(folder, names),
            SnapshotAction::Check { folder } => check(folder),
            SnapshotAction::Diff { a, b, json } => diff([a, b], *json),
        }
    }
}

fn list(folder: &Folder) -> Result<u8, Failure> {
    let rows = Store::open(&folder.folder)?.list()?;
    let text = |name: &str, facts: &Result<Facts, Failure>| match facts {
        Ok(facts) => format!(
            "{name:<20} icount {:>16}  vtime {:>14.6} s  {}\n",
            grouped(facts.icount),
            facts.vtime_ns as f64 / 1e9,
            facts.machine()
        ),
        Err(failure) => format!("{name:<20} {}\n", failure.to_string().lines().next().unwrap_or_default()),
    };
    if folder.json {
        let rows: Vec<Value> = rows.iter().map(|row| facts_json(&row.name, &row.facts)).collect();
        return out(&format!("{}\n", Value::Array(rows)));
    }
    out(&rows.iter().map(|row| text(&row.name, &row.facts)).collect::<String>())
}

fn facts_json(name: &str, facts: &Result<Facts, Failure>) -> Value {
    match facts {
        Ok(facts) => json!({
            "name": name,
            "icount": facts.icount,
            "vtime_ns": facts.vtime_ns,
            "digest": facts.digest,
            "machine": facts.machine(),
            "reprise": facts.reprise,
            "created_unix_ms": facts.created_unix_ms,
            "recording": facts.recording,
        }),
        Err(failure) => json!({ "name": name, "error": failure.to_json() }),
    }
}

impl Facts {
    /// The machine's name.
    fn machine(&self) -> String {
        let board: toml::Table = self.board.parse().unwrap_or_default();
        let machine = board.get("machine").and_then(|machine| machine.get("name"));
        machine.and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    }

    /// Where RAM begins.
    fn ram_base(&self) -> u64 {
        let board: toml::Table = self.board.parse().unwrap_or_default();
        let base = board.get("machine").and_then(|machine| machine.get("ram")?.get("base"));
        base.and_then(toml::Value::as_integer).and_then(|base| u64::try_from(base).ok()).unwrap_or_default()
    }
}

fn delete(folder: &Folder, names: &[String]) -> Result<u8, Failure> {
    let mut store = StoreWriter::open(&folder.folder)?;
    names.iter().try_for_each(|name| store.delete(name))?;
    let freed = store.collect()?.bytes_freed;
    if folder.json {
        return out(&format!("{}\n", json!({ "deleted": names, "bytes_freed": freed })));
    }
    let deleted = counted(names.len() as u64, "snapshot");
    out(&format!("deleted {deleted}; {} bytes are free again\n", grouped(freed)))
}

fn check(folder: &Folder) -> Result<u8, Failure> {
    let Checked { snapshots, objects, damage } = Store::open(&folder.folder)?.check()?;
    let code = if damage.is_empty() { 0 } else { Exit::Corrupt as u8 };
    let text = if folder.json {
        let damage: Vec<Value> = damage
            .iter()
            .map(|damage| json!({ "file": damage.file, "offset": damage.offset, "what": damage.what }))
            .collect();
        format!("{}\n", json!({ "snapshots": snapshots, "objects": objects, "damage": damage }))
    } else {
        let lines: String = damage.iter().map(|damage| format!("{damage}\n")).collect();
        let [snapshots, objects] =
            [(snapshots, "snapshot"), (objects, "object")].map(|(count, what)| counted(count as u64, what));
        let verdict = if damage.is_empty() { "whole" } else { "damaged" };
        format!("{lines}{verdict}: {snapshots}, {objects}\n")
    };
    out(&text)?;
    Ok(code)
}

fn diff(paths: [&PathBuf; 2], as_json: bool) -> Result<u8, Failure> {
    let [(_, facts, a), (_, _, b)] = [from::load(paths[0])?, from::load(paths[1])?];
    let differences = Snapshot::differences(&a, &b, facts.ram_base());
    let code = if differences.is_empty() { 0 } else { Exit::Diverged as u8 };
    let text = if as_json {
        let row = |d: &Difference| json!({ "what": d.what, "a": d.a, "b": d.b });
        format!("{}\n", Value::Array(differences.iter().map(row).collect()))
    } else {
        let wide = |of: fn(&Difference) -> &String| {
            differences.iter().map(|difference| of(difference).chars().count()).max().unwrap_or_default()
        };
        let (what, a) = (wide(|d| &d.what), wide(|d| &d.a));
        let lines = differences.iter().map(|d| format!("{:<what$}  {:<a$}  {}\n", d.what, d.a, d.b));
        lines.collect()
    };
    out(&text)?;
    Ok(code)
}
