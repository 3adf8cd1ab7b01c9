//! `reprise info`: what a recording is, without running it.

use super::{
    EndRow, ImageRow, Store,
    events::Kind,
    scan::{Names, scan},
};
use crate::{failure::Failure, inspect::out, io::grouped};
use reprise_machine::replay::{Entry, Event, Position, log::Tail};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, path::Path};

/// What a walk through the log tells.
#[derive(Default)]
struct Contents {
    icount: u64,
    last: Position,
    events: BTreeMap<Kind, u64>,
    /// Bytes that entered, by port.
    input_bytes: BTreeMap<String, u64>,
    /// Why the log breaks off.
    torn: Option<String>,
    end: Option<String>,
}

/// `reprise info REC`.
pub(crate) fn info(path: &Path, as_json: bool) -> Result<u8, Failure> {
    let store = Store::open(path)?;
    let contents = contents(&store)?;
    if as_json {
        return out(&format!("{}\n", to_json(&store, &contents)));
    }
    out(&to_text(&store, &contents))
}

fn contents(store: &Store) -> Result<Contents, Failure> {
    let mut all = Contents::default();
    let names = Names(store);
    let tail = scan(store, |record| {
        (all.icount, all.last) = (record.icount, record.position);
        *all.events.entry(Kind::of(&record.entry)).or_default() += 1;
        match &record.entry {
            Entry::Event(Event::Input { device, port, data }) => {
                *all.input_bytes.entry(names.port(*device, *port)).or_default() += data.len() as u64;
            }
            Entry::End { reason, .. } => all.end = Some(reason.to_string()),
            Entry::Event(_) | Entry::Seed(_) | Entry::Digest(_) | Entry::DiskBlock { .. } => {}
        }
        Ok(true)
    })?;
    all.torn = tail.filter(|tail| *tail != Tail::Closed).map(|tail| tail.to_string());
    Ok(all)
}

fn to_json(store: &Store, contents: &Contents) -> Value {
    let manifest = store.manifest();
    let events: BTreeMap<&str, u64> = contents.events.iter().map(|(kind, &n)| (kind.name(), n)).collect();
    let end = contents.end.as_ref().map(|reason| {
        let row = manifest.end.as_ref();
        json!({ "reason": reason, "code": row.and_then(|end| end.code),
                "digest": row.and_then(|end| end.digest.map(|hash| hash.to_string())) })
    });
    json!({
        "run_id": manifest.run_id,
        "reprise": manifest.reprise,
        "created_unix_s": manifest.created_unix_s,
        "machine": machine(&manifest.board),
        "icount": contents.icount,
        "vtime_ns": contents.last.vtime_ns,
        "events": events,
        "input_bytes": contents.input_bytes,
        "log_bytes": store.log_bytes(),
        "complete": contents.end.is_some(),
        "torn": contents.torn,
        "end": end,
        "digest_every": manifest.digest_every,
        "parent": manifest.parent,
        "start": manifest.start,
        "inputs": {
            "images": manifest.images,
            "plugins": manifest.plugins,
            "disks": manifest.disks,
        },
    })
}

/// Name, harts and RAM, as the board says them.
fn machine(board: &str) -> Value {
    let board: toml::Table = board.parse().unwrap_or_default();
    let machine = board.get("machine").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let field = |name: &str| machine.get(name).map(|value| serde_json::to_value(value).unwrap_or_default());
    json!({ "name": field("name"), "harts": field("harts"), "ram": field("ram") })
}

fn to_text(store: &Store, contents: &Contents) -> String {
    let manifest = store.manifest();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ok = writeln!(text, "{name:<10}{}", crate::failure::printable(&value));
    };
    let machine = machine(&manifest.board);
    let word = |name: &str| machine[name].as_str().map_or_else(|| machine[name].to_string(), str::to_owned);
    line(
        "machine",
        format!("{}, {} hart(s), recorded by reprise {}", word("name"), word("harts"), manifest.reprise),
    );
    line("run", manifest.run_id.clone());
    if let Some(parent) = &manifest.parent {
        line("branch", format!("of run {} at icount {}", parent.run_id, grouped(parent.icount)));
    }
    let mut length = (contents.icount, contents.last.vtime_ns);
    if let Some(start) = &manifest.start {
        let seconds = start.vtime_ns as f64 / 1e9;
        line("start", format!("at icount {}, vtime {seconds:.6} s", grouped(start.icount)));
        length = (length.0.saturating_sub(start.icount), length.1.saturating_sub(start.vtime_ns));
    }
    let (instructions, vtime_ns) = length;
    let seconds = vtime_ns as f64 / 1e9;
    line("length", format!("{} instructions, {seconds:.6} s of virtual time", grouped(instructions)));
    line("end", end_text(contents, manifest.end.as_ref()));
    line("log", format!("{} bytes", grouped(store.log_bytes())));
    for (kind, count) in &contents.events {
        line("", format!("{:>10} {}", grouped(*count), kind.name()));
    }
    for (port, bytes) in &contents.input_bytes {
        line("input", format!("{port}: {} bytes", grouped(*bytes)));
    }
    let images = &manifest.images;
    let named = [("firmware", &images.firmware), ("kernel", &images.kernel), ("initrd", &images.initrd)];
    for (name, image) in named.into_iter().filter_map(|(name, image)| Some((name, image.as_ref()?))) {
        let ImageRow { name: file, size_bytes, blake3 } = image;
        line(name, format!("{file}, {} bytes, {:.16}…", grouped(*size_bytes), blake3.to_string()));
    }
    for disk in &manifest.disks {
        let file = disk.file.as_deref().unwrap_or("(empty)");
        line("disk", format!("{}: {file}, {} bytes", disk.device, grouped(disk.size_bytes)));
    }
    let plugins: Vec<&str> = manifest.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    line("plugins", plugins.join(", "));
    text
}

fn end_text(contents: &Contents, row: Option<&EndRow>) -> String {
    match (&contents.end, &contents.torn) {
        (Some(reason), _) => match row.and_then(|end| end.digest) {
            Some(digest) => format!("{reason}; digest {:.16}…", digest.to_string()),
            None => reason.clone(),
        },
        (None, Some(torn)) => format!("interrupted; replays to its last record ({torn})"),
        (None, None) => "not yet".to_owned(),
    }
}
