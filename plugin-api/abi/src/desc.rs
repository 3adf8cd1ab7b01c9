//! What a device says of itself, as JSON. Fields may be added with a default; none is ever removed or given another
//! meaning, so hosts and plugins of different ages understand each other.

use crate::schema::StateSchema;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A device kind, or one instance of it with its options applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceDesc {
    /// The name that boards use: `plugin = "ns16550a"`.
    pub kind: String,
    /// One line for people.
    pub summary: String,
    /// Version of the plugin's package.
    pub version: String,
    /// Version of the saved state.
    pub state_version: u32,
    /// MMIO regions, by id.
    pub regions: Vec<Region>,
    /// Input pins. A pin's id is its index after flattening the arrays in order.
    pub inputs: Vec<Pins>,
    /// Output pins, likewise.
    pub outputs: Vec<Pins>,
    /// Timers, by id; names for messages and snapshots.
    pub timers: Vec<String>,
    /// Bottom halves, by id.
    pub bottom_halves: Vec<BottomHalf>,
    /// Ports, by id.
    pub ports: Vec<Port>,
    /// Links to other devices, by id.
    pub links: Vec<Link>,
    /// State fields, as paths, that a warm reset leaves as they are: what a battery keeps, say. For checkers.
    pub kept: Vec<String>,
    /// JSON Schema (draft 2020-12, an `object`) of the options. A property may carry `"x-board"`: the board value
    /// that fills it when the board's stanza leaves it out (`harts`, `timebase_hz`).
    pub schema: serde_json::Value,
    /// How the device appears in the device tree; `None`: it does not.
    pub fdt: Option<FdtNode>,
    /// What is in a state record; `None`: not said.
    pub state: Option<StateSchema>,
}

/// An MMIO region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Region {
    /// The name that boards use in `mmio.NAME = ADDRESS`; the first one is also plain `mmio = ADDRESS`.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// Access sizes that reach the device, as a bit set of 1, 2, 4, 8. Others are access faults.
    pub access: u8,
}

/// A pin, or an array of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pins {
    /// The name that boards use: `irq`, or `irq.3` in an array.
    pub name: String,
    /// `None`: a single pin. `Some(n)`: `name.0` to `name.(n-1)`.
    pub count: Option<u32>,
}

/// A bottom half.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BottomHalf {
    /// For messages, the log and snapshots.
    pub name: String,
}

/// Where a device meets the outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The name that boards use in `ports.NAME = "…"`.
    pub name: String,
    /// What flows through it.
    pub kind: PortKind,
}

/// What flows through a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Bytes.
    #[default]
    Chr,
    /// Block requests.
    Blk,
    /// Ethernet frames.
    Net,
    /// Frame buffer.
    Display,
    /// Keys and pointers.
    Input,
}

/// Where a device meets others: one end of a bus on which messages are passed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// The name that boards use in `links.NAME = "…"`, and in `"device.NAME@address"`.
    pub name: String,
    /// What is spoken, with its version: `i2c/1`. Both ends of a link say the same.
    pub protocol: String,
    /// Which end this is.
    pub role: LinkRole,
    /// Of a controller: its targets' addresses are below this. Of a target: how many addresses it answers to, from
    /// the one that the board gives on. At least 1.
    pub addresses: u32,
}

/// The ends of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkRole {
    /// Speaks to any number of targets by address.
    #[default]
    Controller,
    /// Is spoken to by one controller.
    Target,
}

/// A device tree node template. The host adds `reg`, `phandle` and the interrupt properties.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FdtNode {
    /// Node name without unit address.
    pub name: String,
    /// `compatible`, most specific first.
    pub compatible: Vec<String>,
    /// Other properties, in order.
    pub props: Vec<(String, FdtValue)>,
    /// Output pins (flattened ids) whose wires become `interrupts-extended`, in this order.
    pub interrupts: Vec<u32>,
    /// `Some(cells)`: an interrupt controller with `#interrupt-cells = cells`; an input pin's id is its number.
    pub interrupt_controller: Option<u32>,
    /// Nodes beside this one that point back to it (a `syscon-poweroff`, say), or that it points to (its clock).
    pub siblings: Vec<FdtNode>,
    /// Extra properties of `/chosen`, such as `stdout-path`; [`FdtValue::SelfPath`] names this node.
    pub chosen: BTreeMap<String, FdtValue>,
}

/// A property's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdtValue {
    /// A flag.
    Empty,
    /// 32-bit cells.
    Cells(Vec<u32>),
    /// One 64-bit value.
    U64(u64),
    /// Strings.
    Strings(Vec<String>),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// The phandle of this device's own node.
    SelfRef,
    /// The full path of this device's own node.
    SelfPath,
    /// The phandle of this device's sibling with this index.
    SiblingRef(u32),
}

impl DeviceDesc {
    /// A device without anything.
    #[must_use]
    pub fn new(kind: &str, summary: &str) -> Self {
        Self { kind: kind.to_owned(), summary: summary.to_owned(), ..Self::default() }
    }

    /// With one more MMIO region of `size` bytes. `access`: sizes that reach the device, or-ed (1, 2, 4, 8).
    #[must_use]
    pub fn region(mut self, name: &str, size: u64, access: u8) -> Self {
        self.regions.push(Region { name: name.to_owned(), size, access });
        self
    }

    /// With one more input pin.
    #[must_use]
    pub fn input(mut self, name: &str) -> Self {
        self.inputs.push(Pins { name: name.to_owned(), count: None });
        self
    }

    /// With `count` more input pins, `name.0` and on.
    #[must_use]
    pub fn inputs(mut self, name: &str, count: u32) -> Self {
        self.inputs.push(Pins { name: name.to_owned(), count: Some(count) });
        self
    }

    /// With one more output pin.
    #[must_use]
    pub fn output(mut self, name: &str) -> Self {
        self.outputs.push(Pins { name: name.to_owned(), count: None });
        self
    }

    /// With `count` more output pins, `name.0` and on.
    #[must_use]
    pub fn outputs(mut self, name: &str, count: u32) -> Self {
        self.outputs.push(Pins { name: name.to_owned(), count: Some(count) });
        self
    }

    /// With one more timer.
    #[must_use]
    pub fn timer(mut self, name: &str) -> Self {
        self.timers.push(name.to_owned());
        self
    }

    /// With one more bottom half.
    #[must_use]
    pub fn bottom_half(mut self, name: &str) -> Self {
        self.bottom_halves.push(BottomHalf { name: name.to_owned() });
        self
    }

    /// With one more port.
    #[must_use]
    pub fn port(mut self, name: &str, kind: PortKind) -> Self {
        self.ports.push(Port { name: name.to_owned(), kind });
        self
    }

    /// With one more link, of which this device is the controller; its targets' addresses are below `addresses`.
    #[must_use]
    pub fn controller(self, name: &str, protocol: &str, addresses: u32) -> Self {
        self.link(name, protocol, LinkRole::Controller, addresses)
    }

    /// With one more link, of which this device is a target with so many addresses.
    #[must_use]
    pub fn target(self, name: &str, protocol: &str, addresses: u32) -> Self {
        self.link(name, protocol, LinkRole::Target, addresses)
    }

    fn link(mut self, name: &str, protocol: &str, role: LinkRole, addresses: u32) -> Self {
        self.links.push(Link { name: name.to_owned(), protocol: protocol.to_owned(), role, addresses });
        self
    }

    /// With a state field that outlives a warm reset. The others are to be as in a new device.
    #[must_use]
    pub fn keeps(mut self, field: &str) -> Self {
        self.kept.push(field.to_owned());
        self
    }

    /// With this node in the device tree.
    #[must_use]
    pub fn fdt(mut self, node: FdtNode) -> Self {
        self.fdt = Some(node);
        self
    }

    /// Check what a host relies on: sizes, access widths, names that are there and not twice, a bound on pins.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("the device has no kind".to_owned());
        }
        for region in &self.regions {
            if region.size == 0 || region.access == 0 || region.access > 15 {
                let Region { name, size, access } = region;
                return Err(format!("region {name:?} has size {size} and access widths {access:#b}"));
            }
        }
        for (what, pins) in [("input", &self.inputs), ("output", &self.outputs)] {
            let count = pins.iter().try_fold(0u32, |sum, pin| sum.checked_add(pin.count.unwrap_or(1)));
            if count.is_none_or(|count| count > MAX_PINS) {
                return Err(format!("more than {MAX_PINS} {what} pins"));
            }
        }
        if let Some(link) = self.links.iter().find(|link| link.protocol.is_empty() || link.addresses == 0) {
            let Link { name, protocol, addresses, .. } = link;
            return Err(format!("link {name:?} has protocol {protocol:?} and {addresses} addresses"));
        }
        if let Some(at) = self.fdt.iter().flat_map(FdtNode::lost_siblings).next() {
            return Err(format!("the device tree node has no sibling {at}"));
        }
        unique("region", self.regions.iter().map(|region| &region.name))?;
        unique("input", self.inputs.iter().map(|pins| &pins.name))?;
        unique("output", self.outputs.iter().map(|pins| &pins.name))?;
        unique("timer", self.timers.iter())?;
        unique("bottom half", self.bottom_halves.iter().map(|bh| &bh.name))?;
        unique("port", self.ports.iter().map(|port| &port.name))?;
        unique("link", self.links.iter().map(|link| &link.name))
    }
}

impl FdtNode {
    /// Indices of siblings that something here or in `chosen` points to.
    pub fn pointed_to(&self) -> impl Iterator<Item = u32> {
        let all = std::iter::once(self).chain(&self.siblings).flat_map(|node| &node.props);
        all.map(|(_, value)| value).chain(self.chosen.values()).filter_map(|value| match value {
            FdtValue::SiblingRef(at) => Some(*at),
            _ => None,
        })
    }

    fn lost_siblings(&self) -> impl Iterator<Item = u32> {
        self.pointed_to().filter(|at| *at as usize >= self.siblings.len())
    }
}

/// Most input pins, and most output pins, that one device may have.
pub const MAX_PINS: u32 = 1 << 16;

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(format!("{what} name {name:?} is empty or there twice"));
        }
    }
    Ok(())
}

impl Pins {
    /// The names of all pins; a pin's id is its index here.
    #[must_use]
    pub fn flatten(all: &[Self]) -> Vec<String> {
        let names = |pins: &Self| match pins.count {
            None => vec![pins.name.clone()],
            Some(count) => (0..count).map(|index| format!("{}.{index}", pins.name)).collect(),
        };
        all.iter().flat_map(names).collect()
    }
}

/// Why a device does not like its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigError {
    /// Dotted path of the option, or empty for the whole.
    pub path: String,
    /// What is wrong with it, lower case, without a period.
    pub message: String,
}

impl fmt::Display for ConfigError {
    /// With the option that it is about, if it is about one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_numbered_through_the_arrays() {
        let desc = DeviceDesc::new("x", "").input("a").inputs("in", 2).input("b");
        assert_eq!(Pins::flatten(&desc.inputs), ["a", "in.0", "in.1", "b"]);
    }

    #[test]
    fn what_no_host_can_use_is_refused() {
        let good = DeviceDesc::new("x", "").region("regs", 16, 4).outputs("out", MAX_PINS).timer("t");
        assert_eq!(good.validate(), Ok(()));
        let bad = |desc: DeviceDesc| desc.validate().unwrap_err();
        assert_eq!(bad(good.clone().region("r", 0, 4)), "region \"r\" has size 0 and access widths 0b100");
        assert_eq!(bad(good.clone().region("r", 8, 16)), "region \"r\" has size 8 and access widths 0b10000");
        assert_eq!(bad(good.clone().output("one")), "more than 65536 output pins");
        assert_eq!(bad(good.clone().inputs("a", u32::MAX).inputs("b", 2)), "more than 65536 input pins");
        let clocks =
            FdtNode { props: vec![("clocks".into(), FdtValue::SiblingRef(1))], ..FdtNode::default() };
        let two = vec![FdtNode::default(), FdtNode::default()];
        assert_eq!(good.clone().fdt(FdtNode { siblings: two, ..clocks.clone() }).validate(), Ok(()));
        assert_eq!(bad(good.clone().fdt(clocks)), "the device tree node has no sibling 1");
        assert_eq!(bad(good.timer("t")), "timer name \"t\" is empty or there twice");
        assert_eq!(bad(DeviceDesc::default()), "the device has no kind");
    }

    #[test]
    fn fields_from_another_age_do_no_harm() {
        let text = r#"{"kind": "x", "from_the_future": 1, "timers": ["t"]}"#;
        let desc: DeviceDesc = serde_json::from_str(text).unwrap();
        assert_eq!(desc, DeviceDesc::new("x", "").timer("t"));
    }
}
