//! A TOML document that knows where everything came from, with the `--set` arguments applied.

use super::diagnostic::{Code, Report};
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// `--set key=value`: replaces or adds one value before the board is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Dotted path: `machine.harts`, `device.uart0.clock_hz`, `device.uart0.pins.irq`.
    pub key: String,
    /// A TOML value, or else taken as a string.
    pub value: String,
}

impl Override {
    /// From `key=value`; `None` without an equals sign.
    #[must_use]
    pub fn parse(argument: &str) -> Option<Self> {
        let (key, value) = argument.split_once('=')?;
        Some(Self { key: key.trim().to_owned(), value: value.trim().to_owned() })
    }

    /// As the user may have written it.
    pub(super) fn argument(&self) -> String {
        format!("{}={}", self.key, self.value)
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the board, in bytes.
    File(Range<usize>),
    /// In an argument, in bytes of [`Override::argument`].
    Set { index: usize, span: Range<usize> },
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    /// Saturated: what does not fit here fits nowhere else.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    DateTime,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// With its article, for messages.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "a boolean",
            Self::DateTime => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_origin: Origin,
    pub(super) node: Node,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }
}

/// A whole board, as written.
pub(super) struct Document {
    pub(super) root: Table,
    /// Where to point when something is missing altogether.
    pub(super) origin: Origin,
}

/// A board is written by people; what is longer is some other file.
const MAX_BYTES: usize = 1 << 20;

impl Document {
    /// `None` after syntax errors; mistakes in arguments are reported and the rest goes on.
    pub(super) fn read(text: &str, overrides: &[Override], report: &mut Report<'_>) -> Option<Self> {
        let start = Origin::File(0..0);
        if text.len() > MAX_BYTES {
            report
                .error(Code::Syntax, &start, format!("{} bytes are too many for a board", text.len()))
                .help("is this the right file?");
            return None;
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            report.error(Code::Syntax, &Origin::File(span), error.message());
        }
        if !errors.is_empty() {
            return None;
        }
        let root = convert_table(table.into_inner(), &Origin::File);
        let mut document = Self { root, origin: start };
        for (index, set) in overrides.iter().enumerate() {
            document.apply(index, set, report);
        }
        Some(document)
    }

    fn apply(&mut self, index: usize, set: &Override, report: &mut Report<'_>) {
        let setter = Setter { index, set };
        let path: Vec<&str> = set.key.split('.').collect();
        if path.iter().any(|segment| segment.is_empty()) {
            let help = "write a dotted key, as in `--set machine.harts=4`";
            report.error(Code::Override, &setter.key(), "this is no key").help(help);
            return;
        }
        match path[..] {
            ["machine", ref rest @ ..] if !rest.is_empty() => {
                let machine = enter(&mut self.root, "machine", &setter);
                set_path(machine, rest, &setter, report);
            }
            ["device", id, ref rest @ ..] if !rest.is_empty() => {
                self.apply_to_device(id, rest, &setter, report)
            }
            ["net", ref rest @ ..] if rest.len() > 1 => {
                let networks = enter(&mut self.root, "net", &setter);
                set_path(networks, rest, &setter, report);
            }
            [root, ..] => {
                report
                    .error(Code::Override, &setter.key(), "this names no value of the board")
                    .suggest(root, ["machine", "device", "net"])
                    .help(
                        "keys look like `machine.harts`, `device.uart0.clock_hz` or `device.uart0.pins.irq`",
                    );
            }
            [] => unreachable!("split gives at least one segment"),
        }
    }

    fn apply_to_device(&mut self, id: &str, path: &[&str], setter: &Setter<'_>, report: &mut Report<'_>) {
        let devices = enter(&mut self.root, "device", setter);
        let Value::Table(table) = &mut devices.value else {
            return;
        };
        let Some(device) = table.get_mut(id) else {
            report
                .error(Code::Override, &setter.key(), format!("the board has no device `{id}`"))
                .suggest(id, table.keys());
            return;
        };
        let Value::Table(stanza) = &mut device.node.value else {
            return;
        };
        match path {
            ["pins", pin @ ..] if !pin.is_empty() => set_pin(stanza, &pin.join("."), setter),
            [name, ..] if stanza.get(name).is_none() && rewire(stanza, &path.join("."), setter) => {}
            _ => set_path(&mut device.node, path, setter, report),
        }
    }
}

/// One argument on its way into the document.
struct Setter<'a> {
    index: usize,
    set: &'a Override,
}

impl Setter<'_> {
    fn key(&self) -> Origin {
        Origin::Set { index: self.index, span: 0..self.set.key.len() }
    }

    /// The value as TOML, or as the string that it is if it is not.
    fn node(&self) -> Node {
        let start = self.set.key.len() + 1;
        let index = self.index;
        let origin = |span: Range<usize>| Origin::Set { index, span: span.start + start..span.end + start };
        match DeValue::parse(&self.set.value) {
            Ok(value) => convert(value, &origin),
            Err(_) => {
                let value = Value::String(self.set.value.clone());
                Node { value, origin: origin(0..self.set.value.len()) }
            }
        }
    }

    fn entry(&self, key: &str, node: Node) -> Entry {
        Entry { key: key.to_owned(), key_origin: self.key(), node }
    }
}

/// The value under `key`, an empty table if there is none.
fn enter<'t>(table: &'t mut Table, key: &str, setter: &Setter<'_>) -> &'t mut Node {
    let at = table.entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        let node = Node { value: Value::Table(Table::default()), origin: setter.key() };
        table.entries.push(setter.entry(key, node));
        table.entries.len() - 1
    });
    &mut table.entries[at].node
}

fn set_path(node: &mut Node, path: &[&str], setter: &Setter<'_>, report: &mut Report<'_>) {
    let Value::Table(table) = &mut node.value else {
        let found = node.value.type_name();
        let message = format!("`{}` is inside {found}, not inside a table", path.join("."));
        report.error(Code::Override, &setter.key(), message).also(&node.origin, found);
        return;
    };
    match path {
        [] => unreachable!("a path has a last segment"),
        [last] => put(table, last, setter),
        [first, rest @ ..] => set_path(enter(table, first, setter), rest, setter, report),
    }
}

fn put(table: &mut Table, key: &str, setter: &Setter<'_>) {
    let entry = setter.entry(key, setter.node());
    match table.get_mut(key) {
        Some(old) => *old = entry,
        None => table.entries.push(entry),
    }
}

/// Replace or add a wire. `pins.meip.0` and `pins."meip.0"` are the same pin.
fn set_pin(stanza: &mut Table, pin: &str, setter: &Setter<'_>) {
    let Value::Table(pins) = &mut enter(stanza, "pins", setter).value else {
        return;
    };
    match find_flat(pins, pin) {
        Some(entry) => entry.node = setter.node(),
        None => pins.entries.push(setter.entry(pin, setter.node())),
    }
}

/// `device.uart0.irq=11` for `device.uart0.pins.irq=plic.irq.11`: a number alone keeps the other end of the wire and
/// takes another pin of its array. `false` if the stanza wires no such pin.
fn rewire(stanza: &mut Table, pin: &str, setter: &Setter<'_>) -> bool {
    let Some(Entry { node: Node { value: Value::Table(pins), .. }, .. }) = stanza.get_mut("pins") else {
        return false;
    };
    let Some(entry) = find_flat(pins, pin) else {
        return false;
    };
    let mut node = setter.node();
    if let (Value::Integer(number), Value::String(end)) = (&node.value, &entry.node.value)
        && let Some((array, _)) = end.rsplit_once('.')
    {
        node.value = Value::String(format!("{array}.{number}"));
    }
    entry.node = node;
    true
}

fn find_flat<'t>(table: &'t mut Table, name: &str) -> Option<&'t mut Entry> {
    table.entries.iter_mut().find_map(|entry| {
        if entry.key == name {
            return Some(entry);
        }
        let rest = name.strip_prefix(entry.key.as_str())?.strip_prefix('.')?;
        match &mut entry.node.value {
            Value::Table(inner) => find_flat(inner, rest),
            _ => None,
        }
    })
}

fn convert(value: Spanned<DeValue<'_>>, origin: &dyn Fn(Range<usize>) -> Origin) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(integer(number.as_str(), number.radix())),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(_) => Value::DateTime,
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| convert(item, origin)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, origin)),
    };
    Node { value, origin: origin(span) }
}

fn convert_table(table: DeTable<'_>, origin: &dyn Fn(Range<usize>) -> Origin) -> Table {
    let mut items: Vec<_> = table.into_iter().collect();
    // The parser sorts keys; configuration order is the order of writing.
    items.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (Spanned<_>, _)| Entry {
        key_origin: origin(key.span()),
        key: String::from(key.into_inner()),
        node: convert(value, origin),
    };
    Table { entries: items.into_iter().map(entry).collect() }
}

fn integer(digits: &str, radix: u32) -> i128 {
    let limit = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(digits, radix).unwrap_or(limit)
}
