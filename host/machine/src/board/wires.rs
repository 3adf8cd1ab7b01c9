//! Pins: from an output to inputs of devices and harts.

use super::{
    HartLine, MachineSpec, Wire, WireEnd,
    device::Draft,
    diagnostic::{Code, Report},
    document::{Node, Origin, Table, Value},
    fields,
};
use reprise_abi::desc::{DeviceDesc, Pins};
use std::collections::{BTreeMap, btree_map};

/// What `irq`, `irq.3` or `irq.*` stands for.
#[derive(Clone, Copy)]
enum Pin {
    One(u32),
    All { first: u32, count: u32 },
}

/// A wire's far end, with one place still open if it was written with `*`.
#[derive(Clone, Copy)]
enum End {
    One(WireEnd),
    Inputs { device: usize, first: u32, count: u32 },
    Harts { line: HartLine, count: u32 },
}

impl End {
    /// The ends that `*` stands for; `None`: there is none.
    const fn count(&self) -> Option<u32> {
        match self {
            Self::One(_) => None,
            Self::Inputs { count, .. } | Self::Harts { count, .. } => Some(*count),
        }
    }

    fn nth(&self, index: u32) -> WireEnd {
        match *self {
            Self::One(end) => end,
            Self::Inputs { device, first, .. } => WireEnd::Device { device, pin: first + index },
            Self::Harts { line, .. } => WireEnd::Hart { hart: index, line },
        }
    }
}

/// A value under `pins`: `a = { b = … }` and `"a.b" = …` are the same.
struct Stroke<'d> {
    name: String,
    key: &'d Origin,
    node: &'d Node,
}

/// What wires may refer to.
pub(super) struct Circuit<'a, 'd> {
    pub(super) machine: &'a MachineSpec,
    /// All ids of the board, also of devices of which no more is known.
    pub(super) ids: Vec<&'d str>,
    pub(super) drafts: &'a [Draft<'d>],
}

/// Read the pins of every device.
pub(super) fn read(circuit: &Circuit<'_, '_>, report: &mut Report<'_>) -> Vec<Wire> {
    let mut wires: Vec<(Wire, &Origin)> = Vec::new();
    for (index, draft) in circuit.drafts.iter().enumerate() {
        report.about(Some(&draft.spec.id));
        if let Some(pins) = draft.pins.and_then(|node| fields::table(node, "pins", report)) {
            let by_pin = circuit.outputs(index, pins, report);
            for (pin, ends) in by_pin {
                let wire = |(to, at)| (Wire { from_device: index, from_pin: pin, to }, at);
                wires.extend(ends.ends.into_iter().map(wire));
            }
        }
    }
    circuit.conflicts(&wires, report);
    report.about(None);
    wires.into_iter().map(|(wire, _)| wire).collect()
}

/// The ends of one output pin.
struct Ends<'d> {
    ends: Vec<(WireEnd, &'d Origin)>,
    /// Came from a `*`: a stroke of its own replaces it.
    by_star: bool,
    key: &'d Origin,
}

fn flatten<'d>(table: &'d Table, prefix: &str, into: &mut Vec<Stroke<'d>>) {
    for entry in &table.entries {
        let name = format!("{prefix}{}", entry.key);
        match &entry.node.value {
            Value::Table(inner) => flatten(inner, &format!("{name}."), into),
            _ => into.push(Stroke { name, key: &entry.key_origin, node: &entry.node }),
        }
    }
}

impl<'d> Circuit<'_, 'd> {
    fn desc(&self, device: usize) -> &DeviceDesc {
        &self.drafts[device].spec.desc
    }

    fn outputs(&self, device: usize, pins: &'d Table, report: &mut Report<'_>) -> BTreeMap<u32, Ends<'d>> {
        let mut strokes = Vec::new();
        flatten(pins, "", &mut strokes);
        let mut by_pin = BTreeMap::new();
        for stroke in &strokes {
            let Some(from) = self.source(device, stroke, report) else {
                continue;
            };
            for (text, at) in targets(stroke.node, report) {
                if let Some(end) = self.end(&text, at, report) {
                    connect(from, end, stroke, at, &mut by_pin, report);
                }
            }
        }
        by_pin
    }

    /// The output pins on the left of a stroke.
    fn source(&self, device: usize, stroke: &Stroke<'_>, report: &mut Report<'_>) -> Option<Pin> {
        let desc = self.desc(device);
        let found = find(&desc.outputs, &stroke.name);
        let error = match found {
            Ok(pin) => return Some(pin),
            Err(error) => error,
        };
        if find(&desc.inputs, &stroke.name).is_ok() {
            report
                .error(Code::UnknownPin, stroke.key, format!("`{}` is an input pin", stroke.name))
                .help("wires are written at their source: at the output that drives it");
        } else {
            error.report("output", &stroke.name, &desc.outputs, stroke.key, report);
        }
        None
    }

    /// The far end: `hart.N.LINE` or `DEVICE.PIN`.
    fn end(&self, text: &str, at: &Origin, report: &mut Report<'_>) -> Option<End> {
        let Some((head, pin)) = text.split_once('.') else {
            report
                .error(Code::UnknownPin, at, format!("`{text}` names no pin"))
                .help("write `device.pin`, `device.pin.N` or `hart.N.line`");
            return None;
        };
        if head == "hart" {
            return self.hart_end(pin, at, report);
        }
        let Some(device) = self.drafts.iter().position(|draft| draft.spec.id == head) else {
            if !self.ids.contains(&head) {
                report
                    .error(Code::UnknownPin, at, format!("the board has no device `{head}`"))
                    .suggest(head, self.ids.iter().copied().chain(["hart"]));
            }
            return None;
        };
        let desc = self.desc(device);
        match find(&desc.inputs, pin) {
            Ok(Pin::One(pin)) => Some(End::One(WireEnd::Device { device, pin })),
            Ok(Pin::All { first, count }) => Some(End::Inputs { device, first, count }),
            Err(_) if find(&desc.outputs, pin).is_ok() => {
                report
                    .error(Code::UnknownPin, at, format!("`{text}` is an output pin"))
                    .help("a wire ends at an input pin or at a line of a hart");
                None
            }
            Err(error) => {
                error.report(&format!("`{head}` input"), pin, &desc.inputs, at, report);
                None
            }
        }
    }

    fn hart_end(&self, text: &str, at: &Origin, report: &mut Report<'_>) -> Option<End> {
        let (hart, name) = text.split_once('.').unwrap_or((text, ""));
        let Some(line) = HartLine::ALL.into_iter().find(|line| line.name() == name) else {
            report
                .error(Code::UnknownPin, at, format!("a hart has no line `{name}`"))
                .suggest(name, HartLine::ALL.map(HartLine::name));
            return None;
        };
        let harts = self.machine.harts;
        if hart == "*" {
            return Some(End::Harts { line, count: harts });
        }
        match index(hart).filter(|hart| *hart < harts) {
            Some(hart) => Some(End::One(WireEnd::Hart { hart, line })),
            None => {
                report
                    .error(Code::UnknownPin, at, format!("the machine has no hart `{hart}`"))
                    .label(format!("it has {harts}: 0 to {}", harts - 1));
                None
            }
        }
    }

    /// An input has a level, not a history: two drivers would overwrite each other.
    fn conflicts(&self, wires: &[(Wire, &Origin)], report: &mut Report<'_>) {
        let mut drivers: BTreeMap<WireEnd, (&Wire, &Origin)> = BTreeMap::new();
        for (wire, at) in wires {
            match drivers.entry(wire.to) {
                btree_map::Entry::Vacant(free) => drop(free.insert((wire, at))),
                btree_map::Entry::Occupied(taken) => {
                    let (other, place) = taken.get();
                    let other =
                        super::print::output_name(&self.drafts[other.from_device].spec, other.from_pin);
                    report.about(Some(&self.drafts[wire.from_device].spec.id));
                    report
                        .error(Code::Wiring, at, format!("`{}` has two drivers", self.name(wire.to)))
                        .label("wired here again")
                        .also(place, format!("driven by `{other}`"))
                        .help("give each its own input pin");
                }
            }
        }
    }

    fn name(&self, end: WireEnd) -> String {
        super::print::end_name(end, |device| &self.drafts[device].spec)
    }
}

/// The strings on the right of a stroke.
fn targets<'d>(node: &'d Node, report: &mut Report<'_>) -> Vec<(String, &'d Origin)> {
    match &node.value {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| Some((fields::string(item, "pins", report)?, &item.origin)))
            .collect(),
        _ => fields::string(node, "pins", report).map(|text| (text, &node.origin)).into_iter().collect(),
    }
}

fn connect<'d>(
    from: Pin,
    end: End,
    stroke: &Stroke<'d>,
    at: &'d Origin,
    by_pin: &mut BTreeMap<u32, Ends<'d>>,
    report: &mut Report<'_>,
) {
    match (from, end.count()) {
        (Pin::One(pin), None) => add(pin, end.nth(0), false, stroke.key, at, by_pin, report),
        (Pin::All { first, count }, Some(ends)) if count == ends => {
            for index in 0..count {
                add(first + index, end.nth(index), true, stroke.key, at, by_pin, report);
            }
        }
        (Pin::All { count, .. }, Some(ends)) => {
            report
                .error(
                    Code::Wiring,
                    at,
                    format!("`{}` stands for {count} pins, the other side for {ends}", stroke.name),
                )
                .also(stroke.key, format!("{count} pins"))
                .help("`*` stands for the same number of pins on both sides");
        }
        (Pin::All { .. }, None) | (Pin::One(_), Some(_)) => {
            report
                .error(Code::Wiring, at, "`*` is on one side of the wire only")
                .also(stroke.key, "")
                .help("`*` runs over an array: write it on both sides or on neither");
        }
    }
}

fn add<'d>(
    pin: u32,
    to: WireEnd,
    by_star: bool,
    key: &'d Origin,
    at: &'d Origin,
    by_pin: &mut BTreeMap<u32, Ends<'d>>,
    report: &mut Report<'_>,
) {
    let ends = by_pin.entry(pin).or_insert_with(|| Ends { ends: Vec::new(), by_star, key });
    if ends.key == key {
        ends.ends.push((to, at));
    } else if ends.by_star && !by_star {
        *ends = Ends { ends: vec![(to, at)], by_star, key };
    } else if ends.by_star == by_star {
        report
            .error(Code::Wiring, key, "this output pin is wired twice")
            .also(ends.key, "wired here already")
            .help("one output drives several inputs with a list: `irq = [\"a.in\", \"b.in\"]`");
    }
}

/// Why a name is no pin.
enum NoPin {
    Unknown,
    NeedsIndex { count: u32 },
    NoArray,
    BadIndex { count: u32 },
}

impl NoPin {
    fn report(&self, what: &str, name: &str, pins: &[Pins], at: &Origin, report: &mut Report<'_>) {
        let base = name.split('.').next().unwrap_or(name);
        let remarks = report.error(Code::UnknownPin, at, format!("there is no {what} pin `{name}`"));
        let label = match self {
            Self::Unknown => {
                remarks.suggest(base, pins.iter().map(|p| p.name.as_str()));
                return;
            }
            Self::NeedsIndex { count } => {
                format!("an array: `{base}.0` to `{base}.{}`, or `{base}.*`", count.saturating_sub(1))
            }
            Self::NoArray => format!("`{base}` is a single pin"),
            Self::BadIndex { count: 0 } => format!("`{base}` is an array of no pins"),
            Self::BadIndex { count } => format!("expected `{base}.0` to `{base}.{}`", count - 1),
        };
        remarks.label(label);
    }
}

fn find(pins: &[Pins], name: &str) -> Result<Pin, NoPin> {
    let (base, rest) = name.split_once('.').map_or((name, None), |(base, rest)| (base, Some(rest)));
    let at = pins.iter().position(|pins| pins.name == base).ok_or(NoPin::Unknown)?;
    let first = pins[..at].iter().map(|pins| pins.count.unwrap_or(1)).sum::<u32>();
    match (pins[at].count, rest) {
        (None, None) => Ok(Pin::One(first)),
        (None, Some(_)) => Err(NoPin::NoArray),
        (Some(count), None) => Err(NoPin::NeedsIndex { count }),
        (Some(count), Some("*")) => Ok(Pin::All { first, count }),
        (Some(count), Some(text)) => match index(text).filter(|index| *index < count) {
            Some(index) => Ok(Pin::One(first + index)),
            None => Err(NoPin::BadIndex { count }),
        },
    }
}

/// Digits only: `parse` alone would take `+1`.
fn index(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
