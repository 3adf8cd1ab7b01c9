//! A resolved board as TOML that gives the same board when it is read again.

use super::{
    Board, DeviceSpec, LinkSpec, MachineSpec, NetworkSpec, WireEnd,
    device::KEYS,
    options,
    quantity::{print_duration, print_size},
};
use reprise_abi::desc::Pins;
use serde_json::Value as Json;
use std::fmt::Write as _;

/// The whole machine with every default written out. Options that follow the board (`harts`, say) are left out, so
/// that they keep following it.
#[must_use]
pub fn print(board: &Board) -> String {
    let mut out = String::new();
    print_machine(&board.machine, &mut out);
    for index in 0..board.devices.len() {
        print_device(board, index, &mut out);
    }
    for network in &board.networks {
        print_network(network, &mut out);
    }
    out
}

macro_rules! line {
    ($out:expr, $($arg:tt)*) => {
        writeln!($out, $($arg)*).expect("writing to a string cannot fail")
    };
}

fn print_machine(machine: &MachineSpec, out: &mut String) {
    let m = machine;
    line!(out, "[machine]\nname = {}\nharts = {}", quote(&m.name), m.harts);
    line!(out, "ram = {{ base = {}, size = \"{}\" }}", address(m.ram_base), print_size(m.ram_size));
    line!(out, "shift = {}\ntimebase_hz = {}", m.shift, m.timebase_hz);
    line!(out, "idle = \"{}\"\nalign = {}", m.idle.name(), m.align);
    line!(out, "quantum = {}\nschedule_seed = {}", m.quantum, integer(m.schedule_seed));
    if let Some(seed) = m.seed {
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        line!(out, "seed = \"{hex}\"");
    }
    if let Some(vector) = m.nmi_vector {
        line!(out, "nmi_vector = {}", address(vector));
    }
    if let Some(bootargs) = &m.bootargs {
        line!(out, "bootargs = {}", quote(bootargs));
    }
    let isa = m.isa;
    line!(
        out,
        "\n[machine.isa]\nsvadu = {}\nsstc = {}\nzfh = {}\nmmu = \"{}\"",
        isa.svadu,
        isa.sstc,
        isa.zfh,
        isa.mmu.name()
    );
    let disk = m.disk;
    line!(out, "\n[machine.disk]\nlatency = \"{}\"", print_duration(disk.latency_ns));
    line!(out, "bandwidth = \"{}\"", print_size(disk.bytes_per_second));
}

fn print_device(board: &Board, index: usize, out: &mut String) {
    let device = &board.devices[index];
    line!(
        out,
        "\n[device.{}]\nplugin = {}\nkind = {}",
        device.id,
        quote(&device.plugin),
        quote(&device.kind)
    );
    match (&device.desc.regions[..], &device.bases[..]) {
        ([], _) | (_, []) => {}
        ([_], [base, ..]) => line!(out, "mmio = {}", address(*base)),
        (regions, bases) => {
            let pair = |(region, base): (&reprise_abi::desc::Region, &u64)| {
                format!("{} = {}", quote_key(&region.name), address(*base))
            };
            let pairs: Vec<_> = regions.iter().zip(bases).map(pair).collect();
            line!(out, "mmio = {{ {} }}", pairs.join(", "));
        }
    }
    print_options(board, device, out);
    let ports: Vec<_> = device
        .desc
        .ports
        .iter()
        .zip(&device.ports)
        .filter_map(|(port, name)| Some(format!("{} = {}", quote_key(&port.name), quote(name.as_ref()?))))
        .collect();
    if !ports.is_empty() {
        line!(out, "ports = {{ {} }}", ports.join(", "));
    }
    print_links(board, index, out);
    print_pins(board, index, out);
}

fn print_links(board: &Board, index: usize, out: &mut String) {
    let mine = board.links.iter().filter(|link| link.target == index);
    let pairs: Vec<String> = mine
        .map(|link| {
            let name = &board.devices[index].desc.links[link.target_link as usize].name;
            format!("{} = {}", quote_key(name), quote(&link_end(board, link)))
        })
        .collect();
    if !pairs.is_empty() {
        line!(out, "links = {{ {} }}", pairs.join(", "));
    }
}

/// As boards write it.
fn link_end(board: &Board, link: &LinkSpec) -> String {
    let controller = &board.devices[link.controller];
    let name = &controller.desc.links[link.controller_link as usize].name;
    format!("{}.{name}@{:#x}", controller.id, link.at)
}

fn print_network(network: &NetworkSpec, out: &mut String) {
    line!(out, "\n[net.{}]", network.id);
    let config: Json = network.config_json.parse().expect("the resolver wrote this JSON");
    for (key, value) in config.as_object().into_iter().flatten() {
        line!(out, "{} = {}", quote_key(key), toml_value(value));
    }
}

fn print_options(board: &Board, device: &DeviceSpec, out: &mut String) {
    let options: Json = device.config_json.parse().expect("the resolver wrote this JSON");
    let mut reserved = Vec::new();
    for (name, value) in options.as_object().into_iter().flatten() {
        let property = device.desc.schema.get("properties").and_then(|all| all.get(name));
        let follows = property.and_then(|p| p.get("x-board")).and_then(Json::as_str);
        let follows = follows.and_then(|name| options::board_value(name, &board.machine));
        // TOML has no null: it is what a left-out option is.
        if follows.as_ref() != Some(value) && !value.is_null() {
            let option = format!("{} = {}", quote_key(name), toml_value(value));
            if KEYS.contains(&name.as_str()) {
                reserved.push(option);
            } else {
                line!(out, "{option}");
            }
        }
    }
    if !reserved.is_empty() {
        line!(out, "options = {{ {} }}", reserved.join(", "));
    }
}

fn print_pins(board: &Board, index: usize, out: &mut String) {
    let wires = board.wires.iter().filter(|wire| wire.from_device == index);
    let mut last = None;
    let mut strokes: Vec<(u32, Vec<String>)> = Vec::new();
    for wire in wires {
        let end = format!("\"{}\"", end_name(wire.to, |device| &board.devices[device]));
        match strokes.last_mut() {
            Some((_, ends)) if last == Some(wire.from_pin) => ends.push(end),
            _ => strokes.push((wire.from_pin, vec![end])),
        }
        last = Some(wire.from_pin);
    }
    if !strokes.is_empty() {
        line!(out, "\n[device.{}.pins]", board.devices[index].id);
    }
    for (pin, ends) in strokes {
        let name = pin_name(&board.devices[index].desc.outputs, pin);
        match &ends[..] {
            [only] => line!(out, "{} = {only}", quote_key(&name)),
            several => line!(out, "{} = [{}]", quote_key(&name), several.join(", ")),
        }
    }
}

/// `device.pin` of an output.
pub(super) fn output_name(device: &DeviceSpec, pin: u32) -> String {
    format!("{}.{}", device.id, pin_name(&device.desc.outputs, pin))
}

/// As boards write it.
pub(super) fn end_name<'a>(end: WireEnd, device: impl Fn(usize) -> &'a DeviceSpec) -> String {
    match end {
        WireEnd::Hart { hart, line } => format!("hart.{hart}.{}", line.name()),
        WireEnd::Device { device: index, pin } => {
            let device = device(index);
            format!("{}.{}", device.id, pin_name(&device.desc.inputs, pin))
        }
    }
}

/// The name of a flattened pin id.
pub(super) fn pin_name(pins: &[Pins], id: u32) -> String {
    let mut first = 0;
    for pins in pins {
        let count = pins.count.unwrap_or(1);
        if id - first < count {
            return match pins.count {
                Some(_) => format!("{}.{}", pins.name, id - first),
                None => pins.name.clone(),
            };
        }
        first += count;
    }
    unreachable!("wires end at pins of the descriptor")
}

/// Grouped hexadecimal, as addresses are read.
fn address(value: u64) -> String {
    let digits = format!("{value:08x}");
    let head = digits.len() % 4;
    let mut groups = vec![&digits[..head]];
    groups.extend((head..digits.len()).step_by(4).map(|at| &digits[at..at + 4]));
    format!("0x{}", groups.into_iter().filter(|group| !group.is_empty()).collect::<Vec<_>>().join("_"))
}

/// TOML's decimal integers are signed; hexadecimal ones are read as 64 bits here.
fn integer(value: u64) -> String {
    if i64::try_from(value).is_ok() { value.to_string() } else { format!("{value:#x}") }
}

fn toml_value(value: &Json) -> String {
    match value {
        Json::Null => unreachable!("null is left out"),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.as_u64().map_or_else(|| number.to_string(), integer),
        Json::String(text) => quote(text),
        Json::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let member =
                |(key, value): (&String, &Json)| format!("{} = {}", quote_key(key), toml_value(value));
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

fn quote_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quote(key) }
}

/// A basic string. TOML 1.0, "String".
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
