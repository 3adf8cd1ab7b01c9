//! A device's descriptor as a page of the manual, in Markdown; its state as lines for people.

use reprise_machine::{
    desc::{DeviceDesc, LinkRole, Pins},
    schema::{StateField, StateSchema},
};
use serde_json::Value;

/// The fields of a state, one on a line, parts indented.
pub(crate) fn state_lines(desc: &DeviceDesc) -> String {
    let mut text = format!("  state version       {}\n", desc.state_version);
    if let Some(StateSchema { fields }) = &desc.state {
        rows(fields, "", &mut |name, field| {
            text += &format!("  state  {name:<12} {}{}\n", field.ty.in_words(), since(field));
        });
    }
    text
}

fn since(field: &StateField) -> String {
    let default = field.default.as_deref().unwrap_or("a default");
    field.since.map_or_else(String::new, |since| format!(", since {since} (before: {default})"))
}

/// Calls `row` with each field and its path, parts behind what they are a part of.
fn rows(fields: &[StateField], prefix: &str, row: &mut impl FnMut(&str, &StateField)) {
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        row(&path, field);
        let joint = if field.ty.kind == "seq" { "[]." } else { "." };
        rows(field.ty.inner_fields(), &format!("{path}{joint}"), row);
    }
}

/// The page of one kind of device.
pub(crate) fn page(desc: &DeviceDesc) -> String {
    let mut text = format!("# {}\n\n{}.\n", desc.kind, sentence(&desc.summary));
    text += "\nWhat it has on a board, as `reprise plugin describe` says with default options; how it behaves is \
             described where it is written.\n";
    text += &interface(desc);
    text += &table("Options", ["option", "type", "default", ""], options(&desc.schema));
    if let Some(fdt) = &desc.fdt {
        text += &format!(
            "\n## Device tree\n\n`{}`, compatible with `{}`.\n",
            fdt.name,
            fdt.compatible.join("`, `")
        );
    }
    text += &format!("\n## State, version {}\n", desc.state_version);
    let mut fields = Vec::new();
    rows(desc.state.as_ref().map_or(&[], |state| &state.fields), "", &mut |name, field| {
        fields.push([code(name), cell(&field.ty.in_words()), cell(since(field).trim_start_matches(", "))]);
    });
    match fields.is_empty() {
        true => text + "\nNothing.\n",
        false => text + &rows_of(["field", "type", ""], fields),
    }
}

fn interface(desc: &DeviceDesc) -> String {
    let widths = |access: u8| {
        let sizes = [1, 2, 4, 8].iter().filter(|size| access & **size != 0);
        sizes.map(u8::to_string).collect::<Vec<_>>().join(", ")
    };
    let regions = desc.regions.iter();
    let regions = regions.map(|r| [code(&r.name), format!("{:#x}", r.size), widths(r.access)]).collect();
    let pin = |way: &'static str| move |pins: &Pins| [code(&pin_name(pins)), way.to_owned()];
    let pins = desc.inputs.iter().map(pin("input")).chain(desc.outputs.iter().map(pin("output"))).collect();
    let kind = |port: &reprise_machine::desc::Port| {
        let kind = serde_json::to_value(port.kind).expect("a name");
        [code(&port.name), kind.as_str().unwrap_or_default().to_owned()]
    };
    let link = |link: &reprise_machine::desc::Link| {
        let (role, addresses) = match link.role {
            LinkRole::Controller => ("controller", format!("below {:#x}", link.addresses)),
            LinkRole::Target => ("target", link.addresses.to_string()),
        };
        [code(&link.name), role.to_owned(), code(&link.protocol), addresses]
    };
    let inner = desc.timers.iter().map(|timer| [code(timer), "timer".to_owned()]);
    let inner = inner.chain(desc.bottom_halves.iter().map(|bh| [code(&bh.name), "bottom half".to_owned()]));
    table("Regions", ["region", "bytes", "access sizes"], regions)
        + &table("Pins", ["pin", "direction"], pins)
        + &table("Ports", ["port", "kind"], desc.ports.iter().map(kind).collect())
        + &table("Links", ["link", "role", "protocol", "addresses"], desc.links.iter().map(link).collect())
        + &table("Timers and bottom halves", ["name", "kind"], inner.collect())
}

/// The name of a pin, or of an array of them.
pub(crate) fn pin_name(pins: &Pins) -> String {
    match pins.count {
        None => pins.name.clone(),
        Some(count) => format!("{}.0 to {}.{}", pins.name, pins.name, count.saturating_sub(1)),
    }
}

fn options(schema: &Value) -> Vec<[String; 4]> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let row = |(name, schema): (&String, &Value)| {
        let text = |key: &str| schema.get(key).map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
        let default = match (text("default"), text("x-board")) {
            (Some(default), _) => code(&default),
            (None, Some(board)) => format!("the board's `{board}`"),
            (None, None) => String::new(),
        };
        [code(name), kind_of(schema), default, cell(&text("description").unwrap_or_default())]
    };
    properties.into_iter().flatten().map(row).collect()
}

fn kind_of(schema: &Value) -> String {
    let word = |key: &str| schema.get(key).map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
    let kind = word("type").unwrap_or_default();
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        let all: Vec<String> = all.iter().map(|v| code(v.as_str().unwrap_or_default())).collect();
        return all.join(", ");
    }
    match (word("minimum"), word("maximum")) {
        (Some(min), Some(max)) => format!("{kind}, {min} to {max}"),
        _ => kind,
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn code(text: &str) -> String {
    format!("`{}`", cell(text))
}

/// A bar would begin the next column.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn table<const N: usize>(title: &str, head: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n## {title}\n{}", rows_of(head, rows))
}

fn rows_of<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut text = format!("\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    rows.iter().for_each(|row| text += &format!("| {} |\n", row.join(" | ")));
    text
}
