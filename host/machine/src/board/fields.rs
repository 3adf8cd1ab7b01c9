//! Reading a table key by key: what was never asked for is a mistake.

use super::{
    diagnostic::{Code, Report},
    document::{Node, Origin, Table, Value},
    quantity,
};
use std::ops::RangeInclusive;

/// A table being read.
pub(super) struct Fields<'t> {
    table: &'t Table,
    /// Where to point when a key is missing.
    at: &'t Origin,
    /// How messages call it: `[machine.isa]`.
    name: &'static str,
    asked: Vec<&'static str>,
}

/// The table in `node`, or a mistake.
pub(super) fn table<'t>(node: &'t Node, what: &str, report: &mut Report<'_>) -> Option<&'t Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ => {
            wrong_type(node, what, "a table", report);
            None
        }
    }
}

/// The string in `node`, or a mistake. A `--set` value is a string where one is wanted, whatever it looks like.
pub(super) fn string(node: &Node, what: &str, report: &mut Report<'_>) -> Option<String> {
    match (&node.value, report.raw_value(&node.origin)) {
        (Value::String(text), _) => Some(text.clone()),
        (_, Some(raw)) => Some(raw.to_owned()),
        (_, None) => {
            wrong_type(node, what, "a string", report);
            None
        }
    }
}

pub(super) fn wrong_type(node: &Node, what: &str, wanted: &str, report: &mut Report<'_>) {
    let found = node.value.type_name();
    report
        .error(Code::WrongType, &node.origin, format!("`{what}` is {found}"))
        .label(format!("expected {wanted}, found {found}"));
}

impl<'t> Fields<'t> {
    pub(super) fn new(table: &'t Table, at: &'t Origin, name: &'static str) -> Self {
        Self { table, at, name, asked: Vec::new() }
    }

    pub(super) fn node(&mut self, key: &'static str) -> Option<&'t Node> {
        self.asked.push(key);
        self.table.get(key).map(|entry| &entry.node)
    }

    pub(super) fn required(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<&'t Node> {
        let node = self.node(key);
        if node.is_none() {
            report
                .error(Code::Missing, self.at, format!("{} has no `{key}`", self.name))
                .label(format!("`{key}` is missing here"));
        }
        node
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool, report: &mut Report<'_>) -> bool {
        match self.node(key) {
            None => default,
            Some(Node { value: Value::Boolean(value), .. }) => *value,
            Some(node) => {
                wrong_type(node, key, "true or false", report);
                default
            }
        }
    }

    /// An integer in a range; after a mistake the default stands in, and the board is refused anyway.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> u64 {
        self.node(key).and_then(|node| integer(node, key, range, report)).unwrap_or(default)
    }

    /// A size or duration: a string with a unit, or an integer of the smallest unit.
    pub(super) fn quantity(
        &mut self,
        key: &'static str,
        kind: &Quantity,
        default: u64,
        report: &mut Report<'_>,
    ) -> u64 {
        self.node(key).and_then(|node| kind.read(node, key, report)).unwrap_or(default)
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
        report: &mut Report<'_>,
    ) -> T {
        let Some(node) = self.node(key) else {
            return default;
        };
        let Some(text) = string(node, key, report) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return *value;
        }
        report
            .error(Code::BadValue, &node.origin, format!("`{key}` cannot be `{text}`"))
            .suggest(&text, choices.iter().map(|(name, _)| *name));
        default
    }

    /// Everything else in the table is unknown.
    pub(super) fn finish(self, report: &mut Report<'_>) {
        for entry in self.table.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            report
                .error(
                    Code::UnknownKey,
                    &entry.key_origin,
                    format!("unknown key `{}` in {}", entry.key, self.name),
                )
                .suggest(&entry.key, self.asked.iter().copied());
        }
    }
}

pub(super) fn integer(
    node: &Node,
    what: &str,
    range: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> Option<u64> {
    let Value::Integer(number) = &node.value else {
        wrong_type(node, what, "an integer", report);
        return None;
    };
    match u64::try_from(*number) {
        Ok(value) if range.contains(&value) => Some(value),
        _ => {
            let (low, high) = range.into_inner();
            report
                .error(Code::OutOfRange, &node.origin, format!("`{what}` is out of range"))
                .label(format!("expected {low} to {high}"));
            None
        }
    }
}

/// How a number with a unit is read.
pub(super) struct Quantity {
    pub(super) parse: fn(&str) -> Result<u64, String>,
    pub(super) print: fn(u64) -> String,
    pub(super) range: RangeInclusive<u64>,
    pub(super) example: &'static str,
}

impl Quantity {
    pub(super) const fn size(range: RangeInclusive<u64>) -> Self {
        Self { parse: quantity::size, print: quantity::print_size, range, example: "\"256M\"" }
    }

    pub(super) const fn duration(range: RangeInclusive<u64>) -> Self {
        Self { parse: quantity::duration_ns, print: quantity::print_duration, range, example: "\"100us\"" }
    }

    pub(super) fn read(&self, node: &Node, what: &str, report: &mut Report<'_>) -> Option<u64> {
        let value = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::String(text) => match (self.parse)(text) {
                Ok(value) => Some(value),
                Err(why) => {
                    report
                        .error(Code::BadValue, &node.origin, format!("`{what}` cannot be read: {why}"))
                        .help(format!("write it like {}", self.example));
                    return None;
                }
            },
            _ => {
                wrong_type(node, what, &format!("a string like {}", self.example), report);
                return None;
            }
        };
        let in_range = value.filter(|value| self.range.contains(value));
        if in_range.is_none() {
            let (low, high) = ((self.print)(*self.range.start()), (self.print)(*self.range.end()));
            report
                .error(Code::OutOfRange, &node.origin, format!("`{what}` is out of range"))
                .label(format!("expected {low} to {high}"));
        }
        in_range
    }
}
