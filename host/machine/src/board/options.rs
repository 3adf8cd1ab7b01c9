//! Plugin options against the plugin's JSON Schema: the parts of draft 2020-12 that options use.

use super::{
    MachineSpec,
    diagnostic::{Code, Report},
    document::{Entry, Node, Origin, Value},
    fields,
};
use serde_json::{Map, Value as Json};

/// The board's value that fills a property with this `"x-board"` when the stanza leaves it out.
pub(super) fn board_value(name: &str, machine: &MachineSpec) -> Option<Json> {
    match name {
        "harts" => Some(machine.harts.into()),
        "timebase_hz" => Some(machine.timebase_hz.into()),
        "ram_base" => Some(machine.ram_base.into()),
        "ram_size" => Some(machine.ram_size.into()),
        "shift" => Some(machine.shift.into()),
        _ => None,
    }
}

/// The properties of a schema, by name.
pub(super) fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema.get("properties").and_then(Json::as_object).into_iter().flatten()
}

/// Check `given` and fill in what the board and the defaults know. After a mistake the good ones are left, so that the
/// device can be described all the same.
pub(super) fn resolve(
    given: &[&Entry],
    schema: &Json,
    machine: &MachineSpec,
    stanza: &Origin,
    report: &mut Report<'_>,
) -> Map<String, Json> {
    let mut options = Map::new();
    for entry in given {
        let Some(property) = schema.get("properties").and_then(|all| all.get(&entry.key)) else {
            let message = format!("unknown key `{}`", entry.key);
            let known = properties(schema).map(|(name, _)| name.as_str());
            report
                .error(Code::UnknownKey, &entry.key_origin, message)
                .suggest(&entry.key, known.chain(super::device::KEYS));
            continue;
        };
        if let Some(value) = value(&entry.node, property, &entry.key, report) {
            options.insert(entry.key.clone(), value);
        }
    }
    fill(&mut options, schema, machine);
    for (name, property) in properties(schema) {
        let missing = !options.contains_key(name) && !given.iter().any(|entry| entry.key == *name);
        if missing && required(schema, name) {
            report
                .error(Code::Missing, stanza, format!("`{name}` is missing"))
                .label(describe(property).unwrap_or("a required option of this plugin"));
        }
    }
    options
}

/// Add what the board and the defaults know to what is there.
pub(super) fn fill(options: &mut Map<String, Json>, schema: &Json, machine: &MachineSpec) {
    for (name, property) in properties(schema) {
        if !options.contains_key(name) {
            let from_board =
                property.get("x-board").and_then(Json::as_str).and_then(|b| board_value(b, machine));
            if let Some(value) = from_board.or_else(|| property.get("default").cloned()) {
                options.insert(name.clone(), value);
            }
        }
    }
}

fn required(schema: &Json, name: &str) -> bool {
    schema.get("required").and_then(Json::as_array).is_some_and(|all| all.iter().any(|one| one == name))
}

fn describe(property: &Json) -> Option<&str> {
    property.get("description").and_then(Json::as_str).map(str::trim)
}

/// The value as JSON if the schema allows it.
fn value(node: &Node, schema: &Json, what: &str, report: &mut Report<'_>) -> Option<Json> {
    let value = match schema.get("type").and_then(Json::as_str) {
        Some("array") => array(node, schema, what, report)?,
        Some("string") => Json::String(fields::string(node, what, report)?),
        Some("integer") => integer(node, schema, what, report)?,
        Some("number") => number(node, what, report)?,
        Some("boolean") => boolean(node, what, report)?,
        Some(_) | None => untyped(node, what, report)?,
    };
    one_of(&value, node, schema, what, report).then_some(value)
}

fn array(node: &Node, schema: &Json, what: &str, report: &mut Report<'_>) -> Option<Json> {
    let Value::Array(items) = &node.value else {
        fields::wrong_type(node, what, "a list", report);
        return None;
    };
    let item_schema = schema.get("items").unwrap_or(&Json::Null);
    // Collected first, so that every bad element is reported.
    let values: Vec<_> = items.iter().map(|item| value(item, item_schema, what, report)).collect();
    values.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
}

fn integer(node: &Node, schema: &Json, what: &str, report: &mut Report<'_>) -> Option<Json> {
    let Value::Integer(number) = &node.value else {
        fields::wrong_type(node, what, "an integer", report);
        return None;
    };
    let bound = |key| schema.get(key).and_then(|n| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from)));
    let low = bound("minimum").unwrap_or(i64::MIN.into());
    let high = bound("maximum").unwrap_or(u64::MAX.into());
    let number = serde_json::Number::from_i128(*number).filter(|_| (low..=high).contains(number));
    if number.is_none() {
        report
            .error(Code::OutOfRange, &node.origin, format!("`{what}` is out of range"))
            .label(format!("expected {low} to {high}"));
    }
    number.map(Json::Number)
}

fn number(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Json> {
    let number = match &node.value {
        Value::Float(number) => serde_json::Number::from_f64(*number),
        Value::Integer(number) => serde_json::Number::from_i128(*number),
        _ => None,
    };
    if number.is_none() {
        fields::wrong_type(node, what, "a finite number", report);
    }
    number.map(Json::Number)
}

fn boolean(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Json> {
    match &node.value {
        Value::Boolean(value) => Some(Json::Bool(*value)),
        _ => {
            fields::wrong_type(node, what, "true or false", report);
            None
        }
    }
}

/// A schema of a younger plugin: the value goes to the device as it is, which judges it.
pub(super) fn untyped(node: &Node, what: &str, report: &mut Report<'_>) -> Option<Json> {
    match &node.value {
        Value::String(text) => Some(Json::String(text.clone())),
        Value::Integer(_) => integer(node, &Json::Null, what, report),
        Value::Float(_) => number(node, what, report),
        Value::Boolean(value) => Some(Json::Bool(*value)),
        Value::Array(_) => array(node, &Json::Null, what, report),
        Value::Table(table) => {
            let member = |entry: &Entry| Some((entry.key.clone(), untyped(&entry.node, what, report)?));
            table.entries.iter().map(member).collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        Value::DateTime => {
            fields::wrong_type(node, what, "something else", report);
            None
        }
    }
}

fn one_of(value: &Json, node: &Node, schema: &Json, what: &str, report: &mut Report<'_>) -> bool {
    let Some(choices) = schema.get("enum").and_then(Json::as_array) else {
        return true;
    };
    if choices.contains(value) {
        return true;
    }
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let choices = choices.iter().filter_map(Json::as_str);
    report
        .error(Code::BadValue, &node.origin, format!("`{what}` cannot be `{shown}`"))
        .suggest(&shown, choices);
    false
}

/// The place of the option that a [`reprise_abi::desc::ConfigError`] names, or of what is around it, up to the stanza.
pub(super) fn locate<'t>(given: &[&'t Entry], path: &str, stanza: &'t Origin) -> &'t Origin {
    match longest(given.iter().copied(), path) {
        Some((entry, rest)) => within(&entry.node, rest),
        None => stanza,
    }
}

/// The entry that a path begins with, and the rest of the path. A key may have periods in it.
fn longest<'t, 'p>(entries: impl Iterator<Item = &'t Entry>, path: &'p str) -> Option<(&'t Entry, &'p str)> {
    let begins = |entry: &'t Entry| {
        let rest = path.strip_prefix(entry.key.as_str())?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some((entry, rest))
    };
    entries.filter_map(begins).max_by_key(|(entry, _)| entry.key.len())
}

fn within<'t>(node: &'t Node, path: &str) -> &'t Origin {
    let inner = match &node.value {
        Value::Table(table) => {
            let found = path.strip_prefix('.').and_then(|path| longest(table.entries.iter(), path));
            found.map(|(entry, rest)| within(&entry.node, rest))
        }
        Value::Array(items) => path.strip_prefix('[').and_then(|path| {
            let (index, rest) = path.split_once(']')?;
            Some(within(items.get(index.parse::<usize>().ok()?)?, rest))
        }),
        _ => None,
    };
    inner.unwrap_or(&node.origin)
}
