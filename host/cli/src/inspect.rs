//! `reprise machine …` and `reprise plugin …`: what there is, without running it.

use crate::{
    args::{DescribeArgs, MachineAction, MachineCommand, PluginAction, PluginCommand, ShowArgs},
    board, check,
    device_page::{page, pin_name, state_lines},
    failure::Failure,
    observe,
    plugins::{self, Plugins},
    run::plugin_failure,
    setup,
    state_diff::state_diff,
};
use reprise_machine::{
    board::{Board, Catalog},
    desc::{DeviceDesc, LinkRole},
    device_tree,
    observe::ObserverDesc,
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// `reprise machine check|print|dtb|schema`.
pub(crate) fn machine(command: &MachineCommand, catalog: &Plugins) -> Result<u8, Failure> {
    match &command.action {
        MachineAction::Check(show) => check_board(show, catalog),
        MachineAction::Print(show) => print(show, catalog),
        MachineAction::Dtb { show, output } => dtb(show, output.as_deref(), catalog),
        MachineAction::Schema(_) => out(&pretty(&reprise_machine::board::schema(catalog))),
    }
}

fn check_board(show: &ShowArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let board = board::load(&show.machine, catalog)?;
    // A board that is right in itself may still have nodes that no tree can hold, or backends that do not exist.
    device_tree(&board).map_err(|error| Failure::config(error.to_string()))?;
    setup::ports(&board, &[], &[], catalog)?;
    if show.json {
        return out(&pretty(&summary(&board)));
    }
    let machine = &board.machine;
    let harts = if machine.harts == 1 { "1 hart".to_owned() } else { format!("{} harts", machine.harts) };
    let ram_mib = machine.ram_size >> 20;
    out(&format!("{}: good: {harts}, {ram_mib} MiB of RAM, {} devices\n", machine.name, board.devices.len()))
}

fn summary(board: &Board) -> Value {
    let machine = &board.machine;
    let device = |index: usize| {
        let device = &board.devices[index];
        let regions = device.desc.regions.iter().zip(&device.bases);
        let regions: Vec<Value> =
            regions.map(|(r, base)| json!({ "name": r.name, "base": base, "size": r.size })).collect();
        json!({ "id": device.id, "plugin": device.plugin, "kind": device.kind, "regions": regions })
    };
    let devices: Vec<Value> = (0..board.devices.len()).map(device).collect();
    json!({
        "name": machine.name,
        "harts": machine.harts,
        "ram": { "base": machine.ram_base, "size": machine.ram_size },
        "devices": devices,
    })
}

fn print(show: &ShowArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let board = board::load(&show.machine, catalog)?;
    match show.json {
        true => out(&pretty(&summary(&board))),
        false => out(&reprise_machine::board::print(&board)),
    }
}

fn dtb(show: &ShowArgs, output: Option<&Path>, catalog: &Plugins) -> Result<u8, Failure> {
    let board = board::load(&show.machine, catalog)?;
    let tree = device_tree(&board).map_err(|error| Failure::config(error.to_string()))?;
    let Some(path) = output else {
        if io::stdout().is_terminal() {
            return Err(Failure::usage("a device tree is binary, and standard output is a terminal")
                .help("write `-o FILE`, or pipe it: `| dtc -I dtb -O dts`"));
        }
        return write_out(&tree);
    };
    let mut file = setup::create(path, "device tree")?;
    file.write_all(&tree).map_err(|e| Failure::io("cannot write the device tree", &e).at(path.display()))?;
    Ok(0)
}

/// `reprise plugin …`.
pub(crate) fn plugin(
    command: &PluginCommand,
    catalog: &Plugins,
    plugin_path: &[PathBuf],
) -> Result<u8, Failure> {
    match &command.action {
        PluginAction::New(args) => args.run(),
        PluginAction::Check(args) => args.run(catalog, plugin_path),
        PluginAction::CheckPart => check::part(),
        PluginAction::List { json } => list(*json, catalog),
        PluginAction::Describe(args) => describe(args, catalog),
        PluginAction::StateDiff(args) => state_diff(args, catalog),
        PluginAction::Reload(args) => args.run(),
    }
}

fn list(as_json: bool, catalog: &Plugins) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    let mut text = String::new();
    for name in catalog.available() {
        let file = catalog.file_of(&name).map(|file| file.display().to_string()).unwrap_or_default();
        match catalog.load(&name) {
            Ok(plugin) => {
                let api = plugin.api_version();
                rows.push(json!({ "name": name, "file": file, "api": api, "kinds": kinds(plugin.kinds()) }));
                for desc in plugin.kinds() {
                    let kind =
                        if desc.kind == name { name.clone() } else { format!("{name}: {}", desc.kind) };
                    text += &format!("{kind:<18} {:<8} {}\n", desc.version, desc.summary);
                }
            }
            Err(error) => match catalog.backend(&name) {
                Ok(backend) => {
                    let about = backend.describe();
                    text += &format!(
                        "{name:<18} {:<8} {}\n",
                        "backend",
                        about["summary"].as_str().unwrap_or_default()
                    );
                    rows.push(json!({ "name": name, "file": file, "backend": about["summary"] }));
                }
                Err(_) => {
                    rows.push(json!({ "name": name, "file": file, "error": error.to_string() }));
                    text += &format!("{name:<18} {:<8} {error}\n", "broken");
                }
            },
        }
    }
    for name in observe::known(catalog) {
        match observe::load(&name, catalog) {
            Ok(plugin) => {
                let desc = plugin.desc();
                rows.push(json!({ "observer": name, "version": desc.version, "api": desc.api_version,
                    "summary": desc.summary }));
                text +=
                    &format!("{:<18} {:<8} {}\n", format!("{name} (observer)"), desc.version, desc.summary);
            }
            Err(error) => {
                rows.push(json!({ "observer": name, "error": error.to_string() }));
                text += &format!("{name:<18} {:<8} {error}\n", "broken");
            }
        }
    }
    if as_json {
        return out(&pretty(&Value::from(rows)));
    }
    if text.is_empty() {
        text = "no plugins found; add a folder with --plugin-path or REPRISE_PLUGIN_PATH\n".into();
    }
    out(&text)
}

fn kinds(descs: &[DeviceDesc]) -> Vec<Value> {
    let row =
        |desc: &DeviceDesc| json!({ "kind": desc.kind, "version": desc.version, "summary": desc.summary });
    descs.iter().map(row).collect()
}

fn describe(args: &DescribeArgs, catalog: &Plugins) -> Result<u8, Failure> {
    let descs = match args.kind.as_deref() {
        None => catalog.available().iter().filter_map(|name| catalog.find(name).ok()).flatten().collect(),
        Some(name) => match wanted_kinds(name, catalog) {
            Ok(descs) => descs,
            Err(failure) => return describe_no_device(name, args.json, catalog).unwrap_or(Err(failure)),
        },
    };
    if args.json {
        let all = serde_json::to_value(&descs).expect("descriptors came as JSON");
        return out(&pretty(&all));
    }
    let texts: Vec<String> = descs.iter().map(if args.markdown { page } else { in_words }).collect();
    out(&texts.join("\n"))
}

/// What else a plugin may be, if it is one of these: an outside half, or an observer.
fn describe_no_device(name: &str, as_json: bool, catalog: &Plugins) -> Option<Result<u8, Failure>> {
    if let Ok(backend) = catalog.backend(name) {
        let about = backend.describe();
        return Some(out(&if as_json { pretty(&about) } else { backend_in_words(name, &about) }));
    }
    let observer = observe::load(name, catalog).ok()?;
    Some(describe_observer(name, observer.desc(), as_json))
}

fn describe_observer(name: &str, desc: &ObserverDesc, as_json: bool) -> Result<u8, Failure> {
    if as_json {
        return out(&pretty(&serde_json::to_value(desc).expect("a descriptor came as JSON")));
    }
    out(&(format!("{name} {}, an observer: {}\n", desc.version, desc.summary)
        + &options_in_words(&desc.schema)))
}

/// A plugin by name or file, or a kind by name.
fn wanted_kinds(name: &str, catalog: &Plugins) -> Result<Vec<DeviceDesc>, Failure> {
    if let Some(path) = plugins::as_path(name) {
        let plugin = catalog.load_file(&path).map_err(|error| plugin_failure(name, &error))?;
        return Ok(plugin.kinds().to_vec());
    }
    match catalog.find(name) {
        Ok(descs) => Ok(descs),
        Err(error) => {
            let all = catalog.available();
            let kinds = all.iter().filter_map(|plugin| catalog.find(plugin).ok()).flatten();
            let same: Vec<DeviceDesc> = kinds.filter(|desc| desc.kind == name).collect();
            match same.is_empty() {
                true => Err(plugin_failure(name, &error).help(format!("there are: {}", all.join(", ")))),
                false => Ok(same),
            }
        }
    }
}

fn in_words(desc: &DeviceDesc) -> String {
    let mut text = format!("{} {}: {}\n", desc.kind, desc.version, desc.summary);
    for region in &desc.regions {
        let sizes: Vec<String> =
            [1, 2, 4, 8].iter().filter(|s| region.access & **s != 0).map(u8::to_string).collect();
        text += &format!(
            "  region {:<12} {:#x} bytes, accesses of {}\n",
            region.name,
            region.size,
            sizes.join(", ")
        );
    }
    for (what, pins) in [("input", &desc.inputs), ("output", &desc.outputs)] {
        pins.iter().for_each(|pin| text += &format!("  {what:<6} {}\n", pin_name(pin)));
    }
    for port in &desc.ports {
        let kind = serde_json::to_value(port.kind).expect("a name");
        text += &format!("  port   {:<12} {}\n", port.name, kind.as_str().unwrap_or_default());
    }
    for link in &desc.links {
        let role = match link.role {
            LinkRole::Controller => {
                format!("controller of {}, addresses below {:#x}", link.protocol, link.addresses)
            }
            LinkRole::Target => format!("target of {}, addresses: {}", link.protocol, link.addresses),
        };
        text += &format!("  link   {:<12} {role}\n", link.name);
    }
    desc.timers.iter().for_each(|timer| text += &format!("  timer  {timer}\n"));
    desc.bottom_halves.iter().for_each(|bh| text += &format!("  bottom half         {}\n", bh.name));
    if let Some(fdt) = &desc.fdt {
        text += &format!("  device tree         {}\n", fdt.compatible.join(", "));
    }
    text + &options_in_words(&desc.schema) + &state_lines(desc)
}

fn backend_in_words(name: &str, about: &Value) -> String {
    let summary = about["summary"].as_str().unwrap_or_default();
    let options = options_in_words(&about["schema"]);
    format!("{name}: {summary}\n  a backend: --port DEVICE.PORT=plugin:{name},option=value\n{options}")
}

fn options_in_words(schema: &Value) -> String {
    let mut text = String::new();
    let options = schema.get("properties").and_then(Value::as_object);
    for (name, schema) in options.into_iter().flatten() {
        let field =
            |key: &str| schema.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        let default = field("default").map(|default| format!(" = {default}")).unwrap_or_default();
        let words = field("description").unwrap_or_default();
        let kind = field("type").unwrap_or_default();
        writeln!(text, "  option {name:<12} {kind}{default}  {words}").expect("a string takes everything");
    }
    text
}

pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

pub(crate) fn out(text: &str) -> Result<u8, Failure> {
    write_out(text.as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<u8, Failure> {
    match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write the answer", &error))
        }
        _ => Ok(0),
    }
}
