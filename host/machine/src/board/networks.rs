//! `[net.NAME]` tables: networks outside the machine. What may be in them, whoever provides such networks knows.

use super::{
    Catalog, NetworkSpec,
    device::{self, Draft},
    diagnostic::{Code, Report},
    document::{Document, Entry, Origin},
    fields, options,
};
use reprise_abi::desc::PortKind;

/// A port that is connected to nobody.
const NOBODY: &str = "null";

/// All tables, with what their provider says against them.
pub(super) fn read(document: &Document, catalog: &dyn Catalog, report: &mut Report<'_>) -> Vec<NetworkSpec> {
    let table = document.root.get("net").and_then(|entry| fields::table(&entry.node, "net", report));
    let entries = table.into_iter().flat_map(|table| &table.entries);
    entries.filter_map(|entry| network(entry, catalog, report)).collect()
}

fn network(entry: &Entry, catalog: &dyn Catalog, report: &mut Report<'_>) -> Option<NetworkSpec> {
    device::check_id("network", entry, report);
    if entry.key == NOBODY {
        let message = format!("no network can be called `{NOBODY}`: a port that has none is connected to it");
        report.error(Code::BadValue, &entry.key_origin, message);
    }
    let table = fields::table(&entry.node, &entry.key, report)?;
    let config_json = options::untyped(&entry.node, &entry.key, report)?.to_string();
    let given: Vec<&Entry> = table.entries.iter().collect();
    for error in catalog.check_network(&config_json) {
        let at = options::locate(&given, &error.path, &entry.key_origin);
        let what = if error.path.is_empty() { String::new() } else { format!("`{}`: ", error.path) };
        report.error(Code::Option, at, format!("{what}{}", error.message));
    }
    Some(NetworkSpec { id: entry.key.clone(), config_json })
}

/// Every net port is connected to a network of the board, or to nobody, and no two to the same.
pub(super) fn check_ports(networks: &[NetworkSpec], drafts: &[Draft<'_>], report: &mut Report<'_>) {
    let mut taken: Vec<(&str, &Origin)> = Vec::new();
    for draft in drafts {
        report.about(Some(&draft.spec.id));
        for ((port, name), at) in draft.spec.desc.ports.iter().zip(&draft.spec.ports).zip(&draft.ports) {
            let (PortKind::Net, Some(name), Some(at)) = (port.kind, name.as_deref(), *at) else { continue };
            if name == NOBODY {
                continue;
            }
            if !networks.iter().any(|network| network.id == name) {
                let all = networks.iter().map(|network| network.id.as_str()).chain([NOBODY]);
                report
                    .error(Code::BadValue, at, format!("there is no network `{name}` for this port"))
                    .suggest(name, all)
                    .help(format!("add a table `[net.{name}]`; sockets are given with `--port`"));
            }
            match taken.iter().find(|(other, _)| *other == name) {
                None => taken.push((name, at)),
                Some((_, first)) => drop(
                    report
                        .error(Code::Wiring, at, format!("network `{name}` is connected already"))
                        .also(first, "connected here")
                        .help("give each port a network of its own"),
                ),
            }
        }
    }
    report.about(None);
}
