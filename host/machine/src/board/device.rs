//! One `[device.ID]` stanza: plugin, kind, options, addresses, ports.

use super::{
    Catalog, CatalogError, DeviceSpec, MachineSpec, PHYSICAL_LIMIT,
    diagnostic::{Code, Report},
    document::{Entry, Node, Origin, Table, Value},
    fields, options,
};
use reprise_abi::desc::{DeviceDesc, PortKind, Region};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// The keys of a stanza that are not options of the plugin. An option of such a name is written under `options`.
pub(super) const KEYS: [&str; 7] = ["plugin", "kind", "mmio", "pins", "ports", "links", "options"];
/// Ids with a meaning of their own in pins and arguments.
const RESERVED: [&str; 2] = ["hart", "machine"];
const MAX_ID: usize = 32;
/// More pins than any interrupt controller has; a descriptor beyond it is a plugin's mistake.
const MAX_PINS: u64 = 1 << 16;
const PAGE: u64 = 4096;

/// A stanza read, whatever is wrong with it.
pub(super) struct Draft<'d> {
    pub(super) spec: DeviceSpec,
    /// By region id; `None`: no valid address was given.
    pub(super) mmio: Vec<Option<&'d Origin>>,
    pub(super) pins: Option<&'d Node>,
    pub(super) links: Option<&'d Node>,
    /// Where the device's name is written.
    pub(super) at: &'d Origin,
    /// By port id.
    pub(super) ports: Vec<Option<&'d Origin>>,
}

/// Plugins looked up so far.
pub(super) struct Plugins<'c> {
    catalog: &'c dyn Catalog,
    found: BTreeMap<String, Result<Vec<DeviceDesc>, CatalogError>>,
}

impl<'c> Plugins<'c> {
    pub(super) fn new(catalog: &'c dyn Catalog) -> Self {
        Self { catalog, found: BTreeMap::new() }
    }

    fn find(&mut self, plugin: &str) -> &Result<Vec<DeviceDesc>, CatalogError> {
        let catalog = self.catalog;
        self.found.entry(plugin.to_owned()).or_insert_with(|| catalog.find(plugin))
    }
}

/// `None` if it cannot be known what the device is.
pub(super) fn read<'d>(
    entry: &'d Entry,
    machine: &MachineSpec,
    plugins: &mut Plugins<'_>,
    report: &mut Report<'_>,
) -> Option<Draft<'d>> {
    check_id("device", entry, report);
    let stanza = fields::table(&entry.node, &entry.key, report)?;
    let plugin = plugin(stanza, &entry.key_origin, report)?;
    let kind = kind(stanza, &plugin, plugins, report)?;
    let given = given_options(stanza, report);
    let (config, desc) = describe(&given, &kind, &plugin.0, machine, entry, plugins.catalog, report)?;
    let mmio = addresses(stanza, &desc, &entry.key_origin, report);
    let ports = ports(stanza, &desc, plugins.catalog.backends(), report);
    let (bases, mmio) = mmio.into_iter().map(|at| (at.map_or(0, |at| at.0), at.map(|at| at.1))).unzip();
    let (port_names, ports) = ports.into_iter().map(Option::unzip).unzip();
    let spec = DeviceSpec {
        id: entry.key.clone(),
        plugin: plugin.0,
        kind: desc.kind.clone(),
        desc,
        bases,
        config_json: Json::Object(config).to_string(),
        ports: port_names,
    };
    let [pins, links] = ["pins", "links"].map(|key| stanza.get(key).map(|entry| &entry.node));
    Some(Draft { spec, mmio, pins, links, at: &entry.key_origin, ports })
}

/// The plugin's options: every key that has no meaning of its own, and those under `options`.
fn given_options<'d>(stanza: &'d Table, report: &mut Report<'_>) -> Vec<&'d Entry> {
    let mut given: Vec<&Entry> = stanza.entries.iter().filter(|e| !KEYS.contains(&e.key.as_str())).collect();
    let table = stanza.get("options").and_then(|entry| fields::table(&entry.node, "options", report));
    for entry in table.into_iter().flat_map(|table| &table.entries) {
        match given.iter().find(|other| other.key == entry.key) {
            None => given.push(entry),
            Some(other) => {
                let message = format!("`{}` is given twice", entry.key);
                report
                    .error(Code::Option, &entry.key_origin, message)
                    .also(&other.key_origin, "given here already");
            }
        }
    }
    given
}

/// Whether a device, or something else of the board, can be called so.
pub(super) fn check_id(what: &str, entry: &Entry, report: &mut Report<'_>) {
    let id = entry.key.as_str();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if RESERVED.contains(&id) {
        report.error(Code::BadValue, &entry.key_origin, format!("no {what} can be called `{id}`"));
    } else if !id.starts_with(|c: char| c.is_ascii_alphabetic()) || !id.chars().all(fits) || id.len() > MAX_ID
    {
        report.error(Code::BadValue, &entry.key_origin, format!("this is no id for a {what}")).help(format!(
            "an id is a letter and then letters, digits, `_` and `-`, {MAX_ID} characters at most"
        ));
    }
}

/// The plugin's name and where it was written.
fn plugin<'d>(stanza: &'d Table, at: &Origin, report: &mut Report<'_>) -> Option<(String, &'d Origin)> {
    let Some(entry) = stanza.get("plugin") else {
        report
            .error(Code::Missing, at, "the device has no `plugin`")
            .help("name the plugin that it is made of, as in `plugin = \"ns16550a\"`");
        return None;
    };
    Some((fields::string(&entry.node, "plugin", report)?, &entry.node.origin))
}

/// The descriptor, with default options, of the kind that the stanza asks for.
fn kind(
    stanza: &Table,
    (plugin, at): &(String, &Origin),
    plugins: &mut Plugins<'_>,
    report: &mut Report<'_>,
) -> Option<DeviceDesc> {
    let available = plugins.catalog.available();
    let kinds = match plugins.find(plugin) {
        Ok(kinds) => kinds,
        Err(error) => {
            no_plugin(error, plugin, at, &available, report);
            return None;
        }
    };
    let names = kinds.iter().map(|kind| kind.kind.as_str());
    match stanza.get("kind") {
        Some(entry) => {
            let wanted = fields::string(&entry.node, "kind", report)?;
            let found = kinds.iter().find(|kind| kind.kind == wanted).cloned();
            if found.is_none() {
                report
                    .error(
                        Code::UnknownKind,
                        &entry.node.origin,
                        format!("plugin `{plugin}` has no kind `{wanted}`"),
                    )
                    .suggest(&wanted, names);
            }
            found
        }
        None => {
            let only = if kinds.len() == 1 { kinds.first() } else { None };
            let found = kinds.iter().find(|kind| kind.kind == *plugin).or(only).cloned();
            if found.is_none() {
                report
                    .error(
                        Code::Missing,
                        at,
                        format!("plugin `{plugin}` has several kinds: name one with `kind`"),
                    )
                    .suggest("", names);
            }
            found
        }
    }
}

fn no_plugin(error: &CatalogError, plugin: &str, at: &Origin, available: &[String], report: &mut Report<'_>) {
    match error {
        CatalogError::NotFound { searched } => {
            let mut remarks = report
                .error(Code::Plugin, at, format!("there is no plugin `{plugin}`"))
                .suggest(plugin, available.iter().map(String::as_str));
            for place in searched {
                remarks = remarks.note(format!("looked in {place}"));
            }
        }
        CatalogError::Broken { message, help } => {
            let remarks = report
                .error(Code::Plugin, at, format!("plugin `{plugin}` cannot be used"))
                .note(message.clone());
            if let Some(help) = help {
                remarks.help(help.clone());
            }
        }
    }
}

/// Options and the descriptor that follows from them.
fn describe(
    given: &[&Entry],
    kind: &DeviceDesc,
    plugin: &str,
    machine: &MachineSpec,
    entry: &Entry,
    catalog: &dyn Catalog,
    report: &mut Report<'_>,
) -> Option<(Map<String, Json>, DeviceDesc)> {
    let before = report.count();
    let config = options::resolve(given, &kind.schema, machine, &entry.key_origin, report);
    let json = Json::Object(config.clone()).to_string();
    let desc = match catalog.describe_with(plugin, &kind.kind, &json) {
        Ok(desc) => desc,
        Err(error) => {
            // What it says of options that are known to be wrong already is said.
            if report.count() == before {
                let at = options::locate(given, &error.path, &entry.key_origin);
                let what = if error.path.is_empty() { String::new() } else { format!("`{}`: ", error.path) };
                report.error(Code::Option, at, format!("{what}{}", error.message));
            }
            stand_in(kind, plugin, machine, catalog)
        }
    };
    if let Some(fault) = implausible(&desc) {
        report.error(
            Code::Plugin,
            &entry.key_origin,
            format!("plugin `{plugin}` describes itself with {fault}"),
        );
        return None;
    }
    Some((config, desc))
}

/// What the device would be with default options, so that its wires can be checked all the same.
fn stand_in(kind: &DeviceDesc, plugin: &str, machine: &MachineSpec, catalog: &dyn Catalog) -> DeviceDesc {
    let mut config = Map::new();
    options::fill(&mut config, &kind.schema, machine);
    let json = Json::Object(config).to_string();
    catalog.describe_with(plugin, &kind.kind, &json).unwrap_or_else(|_| kind.clone())
}

/// What a correct plugin never says of itself.
fn implausible(desc: &DeviceDesc) -> Option<String> {
    let region = desc.regions.iter().find(|r| r.size == 0 || r.size > PHYSICAL_LIMIT);
    if let Some(region) = region {
        return Some(format!("a region `{}` of {:#x} bytes", region.name, region.size));
    }
    let pins = |pins: &[reprise_abi::desc::Pins]| -> u64 {
        pins.iter().map(|p| u64::from(p.count.unwrap_or(1))).sum()
    };
    let most = pins(&desc.inputs).max(pins(&desc.outputs));
    (most > MAX_PINS).then(|| format!("{most} pins"))
}

/// By region: the address and where it was written.
fn addresses<'d>(
    stanza: &'d Table,
    desc: &DeviceDesc,
    at: &Origin,
    report: &mut Report<'_>,
) -> Vec<Option<(u64, &'d Origin)>> {
    let Some(entry) = stanza.get("mmio") else {
        if let Some(region) = desc.regions.first() {
            report
                .error(Code::Missing, at, "the device has no address")
                .help(format!("give it one: `mmio = 0x…` ({:#x} bytes)", region.size));
        }
        return vec![None; desc.regions.len()];
    };
    match &entry.node.value {
        Value::Table(table) => named_addresses(table, &entry.node.origin, desc, report),
        _ => match &desc.regions[..] {
            [] => {
                let message = "this device has no registers, so it takes no `mmio`";
                report.error(Code::UnknownRegion, &entry.key_origin, message);
                Vec::new()
            }
            [only] => vec![address(&entry.node, only, report)],
            [first, rest @ ..] => {
                let missing: Vec<_> = rest.iter().map(|region| region.name.as_str()).collect();
                report
                    .error(
                        Code::Missing,
                        &entry.node.origin,
                        format!("no address for `{}`", missing.join("`, `")),
                    )
                    .help(format!(
                        "write `mmio = {{ {} = 0x…, {} = 0x… }}`",
                        first.name,
                        missing.join(" = 0x…, ")
                    ));
                vec![None; desc.regions.len()]
            }
        },
    }
}

fn named_addresses<'d>(
    table: &'d Table,
    at: &Origin,
    desc: &DeviceDesc,
    report: &mut Report<'_>,
) -> Vec<Option<(u64, &'d Origin)>> {
    for entry in &table.entries {
        if !desc.regions.iter().any(|region| region.name == entry.key) {
            report
                .error(
                    Code::UnknownRegion,
                    &entry.key_origin,
                    format!("the device has no region `{}`", entry.key),
                )
                .suggest(&entry.key, desc.regions.iter().map(|region| region.name.as_str()));
        }
    }
    let one = |region: &Region| match table.get(&region.name) {
        Some(entry) => address(&entry.node, region, report),
        None => {
            report.error(Code::Missing, at, format!("no address for `{}`", region.name));
            None
        }
    };
    desc.regions.iter().map(one).collect()
}

fn address<'d>(node: &'d Node, region: &Region, report: &mut Report<'_>) -> Option<(u64, &'d Origin)> {
    let Value::Integer(number) = &node.value else {
        fields::wrong_type(node, "mmio", "an address like 0x1000_0000", report);
        return None;
    };
    let end = u64::try_from(*number).ok().and_then(|base| Some((base, base.checked_add(region.size)?)));
    let Some((base, _)) = end.filter(|(_, end)| *end <= PHYSICAL_LIMIT) else {
        report
            .error(Code::OutOfRange, &node.origin, "the address is out of range")
            .label(format!("{:#x} bytes must fit below {PHYSICAL_LIMIT:#x}", region.size));
        return None;
    };
    // A device of a page or more is mapped by pages; a smaller one decodes its own size.
    let align = region.size.next_power_of_two().min(PAGE);
    if !base.is_multiple_of(align) {
        report
            .error(Code::BadValue, &node.origin, format!("the device cannot sit at {base:#x}"))
            .label(format!("not a multiple of {align:#x}"));
        return None;
    }
    Some((base, &node.origin))
}

/// By port: the backend's name and where it was written.
fn ports<'d>(
    stanza: &'d Table,
    desc: &DeviceDesc,
    backends: &[&str],
    report: &mut Report<'_>,
) -> Vec<Option<(String, &'d Origin)>> {
    let table = stanza.get("ports").and_then(|entry| fields::table(&entry.node, "ports", report));
    let Some(table) = table else {
        return vec![None; desc.ports.len()];
    };
    let mut named = vec![None; desc.ports.len()];
    for entry in &table.entries {
        match desc.ports.iter().position(|port| port.name == entry.key) {
            Some(id) => named[id] = backend(&entry.node, desc.ports[id].kind, backends, report),
            None => {
                report
                    .error(
                        Code::UnknownPort,
                        &entry.key_origin,
                        format!("the device has no port `{}`", entry.key),
                    )
                    .suggest(&entry.key, desc.ports.iter().map(|port| port.name.as_str()));
            }
        }
    }
    named
}

fn backend<'d>(
    node: &'d Node,
    kind: PortKind,
    backends: &[&str],
    report: &mut Report<'_>,
) -> Option<(String, &'d Origin)> {
    let name = fields::string(node, "ports", report)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        report
            .error(Code::BadValue, &node.origin, format!("`{name}` is no name of a backend"))
            .help("write `console`, `null`, `pty`, or for a disk or a network a name of your own");
        return None;
    }
    if kind == PortKind::Chr && !backends.contains(&name.as_str()) {
        report
            .error(Code::BadValue, &node.origin, format!("there is no backend `{name}` for this port"))
            .suggest(&name, backends.iter().copied())
            .help("files and sockets are given with `--port`");
        return None;
    }
    if name == "console" && kind != PortKind::Chr {
        report
            .error(Code::BadValue, &node.origin, "the console cannot be connected here")
            .label("this port does not carry bytes of text");
        return None;
    }
    Some((name, &node.origin))
}
