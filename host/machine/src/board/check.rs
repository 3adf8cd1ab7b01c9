//! The whole board: its parts, and what they are to each other.

use super::{
    Board, Catalog, DeviceSpec, MachineSpec,
    device::{self, Draft, Plugins},
    diagnostic::{Code, Report},
    document::{Document, Origin, Table},
    fields, links, machine, networks,
    wires::{self, Circuit},
};

/// Far more than a machine has; it bounds the work for a hostile file.
const MAX_DEVICES: usize = 1024;

/// The tables of a board.
const ROOTS: [&str; 3] = ["machine", "device", "net"];

/// What the document describes; a mistake leaves something in its place or `None`, and is in the report.
pub(super) fn board(document: &Document, catalog: &dyn Catalog, report: &mut Report<'_>) -> Option<Board> {
    unknown_tables(document, report);
    let (machine, machine_at) = machine::read(document, report);
    let table = device_table(document, report)?;
    if table.entries.len() > MAX_DEVICES {
        let at = &table.entries[MAX_DEVICES].key_origin;
        report.error(Code::OutOfRange, at, format!("a board has at most {MAX_DEVICES} devices"));
        return None;
    }
    let mut plugins = Plugins::new(catalog);
    let mut drafts = Vec::with_capacity(table.entries.len());
    for entry in &table.entries {
        report.about(Some(&entry.key));
        drafts.extend(device::read(entry, &machine, &mut plugins, report));
    }
    report.about(None);
    overlaps(&machine, machine_at, &drafts, report);
    shared_console(&drafts, report);
    let networks = networks::read(document, catalog, report);
    networks::check_ports(&networks, &drafts, report);
    let ids = table.entries.iter().map(|entry| entry.key.as_str()).collect();
    let circuit = Circuit { machine: &machine, ids, drafts: &drafts };
    let wires = wires::read(&circuit, report);
    let links = links::read(&circuit, report);
    let devices: Vec<DeviceSpec> = drafts.into_iter().map(|draft| draft.spec).collect();
    Some(Board { machine, devices, wires, links, networks })
}

fn unknown_tables(document: &Document, report: &mut Report<'_>) {
    for entry in &document.root.entries {
        if !ROOTS.contains(&entry.key.as_str()) {
            report
                .error(Code::UnknownKey, &entry.key_origin, format!("a board has no `{}`", entry.key))
                .suggest(&entry.key, ROOTS);
        }
    }
}

fn device_table<'d>(document: &'d Document, report: &mut Report<'_>) -> Option<&'d Table> {
    match document.root.get("device") {
        Some(entry) => fields::table(&entry.node, "device", report),
        None => {
            report
                .error(Code::Missing, &document.origin, "the board has no devices")
                .help("each device is a table of its own: `[device.uart0]`");
            None
        }
    }
}

/// A range of addresses that something answers to.
struct Claim<'a> {
    start: u64,
    end: u64,
    name: String,
    device: Option<&'a str>,
    at: &'a Origin,
}

impl Claim<'_> {
    fn text(&self) -> String {
        format!("{} is {:#x} to {:#x}", self.name, self.start, self.end - 1)
    }
}

fn overlaps(machine: &MachineSpec, machine_at: &Origin, drafts: &[Draft<'_>], report: &mut Report<'_>) {
    let mut claims = vec![Claim {
        start: machine.ram_base,
        end: machine.ram_base.saturating_add(machine.ram_size),
        name: "RAM".to_owned(),
        device: None,
        at: machine_at,
    }];
    for draft in drafts {
        let spec = &draft.spec;
        for ((region, base), at) in spec.desc.regions.iter().zip(&spec.bases).zip(&draft.mmio) {
            let Some(at) = at else {
                continue;
            };
            let name = match spec.desc.regions.len() {
                1 => format!("`{}`", spec.id),
                _ => format!("`{}.{}`", spec.id, region.name),
            };
            claims.push(Claim { start: *base, end: base + region.size, name, device: Some(&spec.id), at });
        }
    }
    claims.sort_by_key(|claim| (claim.start, claim.end));
    let mut reach = 0;
    for next in 1..claims.len() {
        let (low, high) = (&claims[reach], &claims[next]);
        if high.start < low.end {
            // Blame a device, not the RAM it sits in.
            let (blamed, other) = if high.device.is_some() { (high, low) } else { (low, high) };
            report.about(blamed.device);
            report
                .error(Code::Overlap, blamed.at, format!("{} and {} overlap", blamed.name, other.name))
                .label(blamed.text())
                .also(other.at, other.text());
        }
        if claims[next].end > claims[reach].end {
            reach = next;
        }
    }
    report.about(None);
}

fn shared_console(drafts: &[Draft<'_>], report: &mut Report<'_>) {
    let mut first: Option<&Origin> = None;
    for draft in drafts {
        for (name, at) in draft.spec.ports.iter().zip(&draft.ports) {
            let (Some("console"), Some(at)) = (name.as_deref(), at) else {
                continue;
            };
            report.about(Some(&draft.spec.id));
            match first {
                None => first = Some(at),
                Some(first) => drop(
                    report
                        .error(Code::Wiring, at, "the console is connected already")
                        .also(first, "connected here")
                        .help("name another backend, or `null`"),
                ),
            }
        }
    }
    report.about(None);
}
