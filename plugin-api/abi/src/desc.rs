//! What a device says of itself, as JSON. Fields may be added with a default; none is ever removed or given another
//! meaning, so hosts and plugins of different ages understand each other.

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
    /// JSON Schema (draft 2020-12, an `object`) of the options. A property may carry `"x-board"`: the board value
    /// that fills it when the board's stanza leaves it out (`harts`, `timebase_hz`).
    pub schema: serde_json::Value,
    /// How the device appears in the device tree; `None`: it does not.
    pub fdt: Option<FdtNode>,
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
    /// Nodes beside this one that point back to it (a `syscon-poweroff`, say).
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
