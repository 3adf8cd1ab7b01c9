//! The board language as JSON Schema, for editors.

use super::{
    Catalog, HartLine,
    device::KEYS,
    machine::{IDLE, MAX_HARTS, MAX_QUANTUM, MAX_SHIFT, MAX_TIMEBASE_HZ, MMU},
};
use reprise_abi::desc::{DeviceDesc, LinkRole, Pins};
use serde_json::{Map, Value, json};

/// JSON Schema (draft 2020-12) of a board made of the catalog's plugins; those that cannot be used are left out.
#[must_use]
pub fn schema(catalog: &dyn Catalog) -> Value {
    let mut names = catalog.available();
    names.sort_unstable();
    let plugins: Vec<(String, Vec<DeviceDesc>)> =
        names.into_iter().filter_map(|name| catalog.find(&name).ok().map(|kinds| (name, kinds))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Reprise board",
        "type": "object",
        "required": ["machine", "device"],
        "additionalProperties": false,
        "properties": {
            "machine": machine(),
            "device": {
                "type": "object",
                "description": "The devices, in configuration order.",
                "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,31}$" },
                "additionalProperties": device(&plugins),
            },
            "net": {
                "type": "object",
                "description": "User networks, which net ports are connected to by name.",
                "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,31}$" },
                "additionalProperties": { "type": "object" },
            },
        },
    })
}

fn machine() -> Value {
    let size = json!({ "type": ["string", "integer"], "description": "Bytes, or a string like \"256M\"." });
    let names = |names: &[&str]| json!({ "enum": names });
    json!({
        "type": "object",
        "required": ["ram"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
            "harts": { "type": "integer", "minimum": 1, "maximum": MAX_HARTS, "default": 1 },
            "ram": {
                "type": "object",
                "required": ["size"],
                "additionalProperties": false,
                "properties": { "base": { "type": "integer", "multipleOf": 0x20_0000 }, "size": size },
            },
            "shift": {
                "type": "integer", "minimum": 0, "maximum": MAX_SHIFT, "default": 0,
                "description": "An instruction takes 2^shift nanoseconds of virtual time.",
            },
            "timebase_hz": {
                "type": "integer", "minimum": 1, "maximum": MAX_TIMEBASE_HZ, "default": 10_000_000,
                "description": "Frequency of the time CSR.",
            },
            "idle": names(&IDLE.map(|(name, _)| name)),
            "align": { "type": "boolean", "default": false },
            "quantum": { "type": "integer", "minimum": 1, "maximum": MAX_QUANTUM, "default": 10_000 },
            "schedule_seed": { "type": "integer", "minimum": 0, "default": 0 },
            "seed": { "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9A-Fa-f]{64}$" },
            "nmi_vector": {
                "type": "integer", "minimum": 0, "multipleOf": 4,
                "description": "Where hart 0 goes on at a non-maskable interrupt.",
            },
            "bootargs": { "type": "string" },
            "isa": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "svadu": { "type": "boolean", "default": true },
                    "sstc": { "type": "boolean", "default": true },
                    "zfh": { "type": "boolean", "default": true },
                    "mmu": names(&MMU.map(|(name, _)| name)),
                },
            },
            "disk": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "latency": { "type": ["string", "integer"], "description": "A string like \"100us\"." },
                    "bandwidth": { "type": ["string", "integer"], "description": "Bytes per second: \"1G\"." },
                },
            },
        },
    })
}

/// A stanza: `plugin` and `kind` decide what else may be in it.
fn device(plugins: &[(String, Vec<DeviceDesc>)]) -> Value {
    let names: Vec<&str> = plugins.iter().map(|(name, _)| name.as_str()).collect();
    let branches: Vec<Value> = plugins.iter().flat_map(|(name, kinds)| branches(name, kinds)).collect();
    json!({
        "type": "object",
        "required": ["plugin"],
        "properties": { "plugin": { "enum": names }, "kind": { "type": "string" } },
        "allOf": branches,
    })
}

fn branches<'a>(plugin: &'a str, kinds: &'a [DeviceDesc]) -> impl Iterator<Item = Value> + 'a {
    kinds.iter().map(move |desc| {
        let is_default = desc.kind == plugin || kinds.len() == 1;
        let required: &[&str] = if is_default { &["plugin"] } else { &["plugin", "kind"] };
        json!({
            "if": {
                "required": required,
                "properties": { "plugin": { "const": plugin }, "kind": { "const": desc.kind } },
            },
            "then": stanza(desc),
        })
    })
}

fn stanza(desc: &DeviceDesc) -> Value {
    let mut properties: Map<String, Value> =
        KEYS.iter().map(|key| ((*key).to_owned(), json!(true))).collect();
    properties.insert("mmio".to_owned(), mmio(desc));
    properties.insert("pins".to_owned(), pins(&desc.outputs));
    let ports = desc.ports.iter().map(|port| (port.name.clone(), json!({ "type": "string" })));
    let ports: Map<String, Value> = ports.collect();
    properties.insert(
        "ports".to_owned(),
        json!({ "type": "object", "properties": ports, "additionalProperties": false }),
    );
    let targets = desc.links.iter().filter(|link| link.role == LinkRole::Target);
    let targets: Map<String, Value> = targets
        .map(|link| {
            let end = json!({ "type": "string", "pattern": "^[^.@]+\\.[^@]+@(0x[0-9A-Fa-f]+|[0-9]+)$" });
            (link.name.clone(), end)
        })
        .collect();
    properties.insert(
        "links".to_owned(),
        json!({ "type": "object", "properties": targets, "additionalProperties": false }),
    );
    let options = desc.schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let plain = options.iter().filter(|(name, _)| !KEYS.contains(&name.as_str()));
    properties.extend(plain.map(|(name, schema)| (name.clone(), schema.clone())));
    properties.insert(
        "options".to_owned(),
        json!({ "type": "object", "properties": options, "additionalProperties": false }),
    );
    // Required options are not required here: they may be in either of two places, which the real check knows.
    let required: &[&str] = if desc.regions.is_empty() { &[] } else { &["mmio"] };
    json!({
        "description": desc.summary,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn mmio(desc: &DeviceDesc) -> Value {
    let address = json!({ "type": "integer", "minimum": 0 });
    let names: Vec<&str> = desc.regions.iter().map(|region| region.name.as_str()).collect();
    let all: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), address.clone())).collect();
    let table =
        json!({ "type": "object", "properties": all, "required": names, "additionalProperties": false });
    if desc.regions.len() == 1 { json!({ "anyOf": [address, table] }) } else { table }
}

fn pins(outputs: &[Pins]) -> Value {
    let lines = HartLine::ALL.map(HartLine::name).join("|");
    let end = json!({
        "type": "string",
        "pattern": format!(r"^(hart\.([0-9]+|\*)\.({lines})|[A-Za-z][A-Za-z0-9_-]*\..+)$"),
    });
    let ends = json!({ "anyOf": [end, { "type": "array", "items": end }] });
    let array = |name: &str| format!(r"^{name}\.([0-9]+|\*)$");
    let mut plain = Map::new();
    let mut patterns = Map::new();
    for pins in outputs {
        match pins.count {
            None => drop(plain.insert(pins.name.clone(), ends.clone())),
            Some(_) => {
                let nested = json!({ "type": "object", "additionalProperties": ends });
                plain.insert(pins.name.clone(), nested);
                patterns.insert(array(&pins.name), ends.clone());
            }
        }
    }
    json!({
        "type": "object",
        "properties": plain,
        "patternProperties": patterns,
        "additionalProperties": false,
    })
}
