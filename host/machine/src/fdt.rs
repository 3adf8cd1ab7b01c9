//! The device tree, generated from the board and the descriptors of its devices. Devicetree Specification 0.4.
//!
//! Nothing about a device is known here: its node is its template, its `reg` comes from the board's addresses, its
//! interrupts from the board's wires. So whoever adds a plugin adds no line here.

use crate::board::{Board, DeviceSpec, LinkSpec, Wire, WireEnd};
use reprise_abi::desc::{FdtNode, FdtValue};
use std::{collections::BTreeSet, ops::Range};
use thiserror::Error;
use vm_fdt::FdtWriter;

/// How the device tree names what the harts implement.
#[derive(Clone, Copy, Debug)]
pub struct HartNames<'a> {
    /// `riscv,isa`.
    pub isa_string: &'a str,
    /// `riscv,isa-extensions`.
    pub extensions: &'a [&'a str],
    /// `mmu-type`.
    pub mmu_type: &'a str,
    /// Bytes in a cache block, if the harts have Zicbom, Zicboz and Zicbop.
    pub cbo_block: Option<u32>,
}

/// What a device tree is made of.
#[derive(Clone, Debug)]
pub struct FdtInput<'a> {
    /// The machine.
    pub board: &'a Board,
    /// Its harts.
    pub hart: &'a HartNames<'a>,
    /// Where the initrd is in guest physical memory.
    pub initrd: Option<Range<u64>>,
    /// `/chosen/rng-seed`. It must come from the recorded seed.
    pub rng_seed: Option<&'a [u8]>,
}

/// A node that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the device tree node of {what} cannot be written: {why}")]
pub struct FdtError {
    /// Whose node.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

type Written = Result<(), vm_fdt::Error>;

/// The flattened tree.
///
/// # Errors
/// A device's template has an invalid name or string.
pub fn build(input: &FdtInput<'_>) -> Result<Vec<u8>, FdtError> {
    let mut tree = Tree::new(input)?;
    tree.root().map_err(|error| tree.error(&error))?;
    let Tree { writer, what, .. } = tree;
    writer.finish().map_err(|error| FdtError { what, why: error.to_string() })
}

struct Tree<'a> {
    input: &'a FdtInput<'a>,
    board: &'a Board,
    writer: FdtWriter,
    /// Whose node is being written, for errors.
    what: String,
    /// Names taken in the root node.
    root_names: BTreeSet<String>,
}

/// The specifier of an interrupt that is not there.
const NO_INTERRUPT: u32 = u32::MAX;
/// IRQ_TYPE_LEVEL_HIGH, for controllers with a second cell.
const LEVEL_HIGH: u32 = 4;

impl<'a> Tree<'a> {
    fn new(input: &'a FdtInput<'a>) -> Result<Self, FdtError> {
        let what = "the board".to_owned();
        let writer =
            FdtWriter::new().map_err(|error| FdtError { what: what.clone(), why: error.to_string() })?;
        Ok(Self { input, board: input.board, writer, what, root_names: BTreeSet::new() })
    }

    fn error(&self, error: &vm_fdt::Error) -> FdtError {
        FdtError { what: self.what.clone(), why: error.to_string() }
    }

    fn node(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Written) -> Written {
        let node = self.writer.begin_node(name)?;
        body(self)?;
        self.writer.end_node(node)
    }

    fn root(&mut self) -> Written {
        let name = &self.board.machine.name;
        let compatible = vec![format!("reprise,{name}"), "riscv-virtio".to_owned()];
        let model = format!("reprise,{name}");
        self.node("", |tree| {
            tree.writer.property_u32("#address-cells", 2)?;
            tree.writer.property_u32("#size-cells", 2)?;
            tree.writer.property_string_list("compatible", compatible)?;
            tree.writer.property_string("model", &model)?;
            tree.chosen()?;
            tree.memory()?;
            tree.cpus()?;
            tree.soc()?;
            tree.beside_soc()
        })
    }

    fn chosen(&mut self) -> Written {
        let board = self.board;
        self.node("chosen", |tree| {
            if let Some(bootargs) = &board.machine.bootargs {
                tree.writer.property_string("bootargs", bootargs)?;
            }
            if let Some(initrd) = &tree.input.initrd {
                tree.writer.property_u64("linux,initrd-start", initrd.start)?;
                tree.writer.property_u64("linux,initrd-end", initrd.end)?;
            }
            if let Some(seed) = tree.input.rng_seed {
                tree.writer.property("rng-seed", seed)?;
            }
            // The first device in configuration order that asks for a property has it.
            let mut taken = BTreeSet::new();
            for (index, device) in board.devices.iter().enumerate() {
                for (name, value) in device.desc.fdt.iter().flat_map(|node| &node.chosen) {
                    if taken.insert(name.as_str()) {
                        tree.what.clone_from(&device.id);
                        tree.property(name, value, index)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn memory(&mut self) -> Written {
        let (base, size) = (self.board.machine.ram_base, self.board.machine.ram_size);
        self.node(&format!("memory@{base:x}"), |tree| {
            tree.writer.property_string("device_type", "memory")?;
            tree.writer.property_array_u64("reg", &[base, size])
        })
    }

    fn cpus(&mut self) -> Written {
        let machine = &self.board.machine;
        // The binding has one cell or two; a time base beyond 4 GHz is refused by the board.
        let timebase = u32::try_from(machine.timebase_hz).expect("the board limits the time base to 1 GHz");
        self.node("cpus", |tree| {
            tree.writer.property_u32("#address-cells", 1)?;
            tree.writer.property_u32("#size-cells", 0)?;
            tree.writer.property_u32("timebase-frequency", timebase)?;
            (0..machine.harts).try_for_each(|hart| tree.cpu(hart))
        })
    }

    /// Linux, Documentation/devicetree/bindings/riscv/cpus.yaml and extensions.yaml.
    fn cpu(&mut self, hart: u32) -> Written {
        let names = self.input.hart;
        self.node(&format!("cpu@{hart:x}"), |tree| {
            tree.writer.property_string("device_type", "cpu")?;
            tree.writer.property_u32("reg", hart)?;
            tree.writer.property_string("status", "okay")?;
            tree.writer.property_string("compatible", "riscv")?;
            tree.writer.property_string("riscv,isa", names.isa_string)?;
            tree.writer.property_string("riscv,isa-base", "rv64i")?;
            let extensions = names.extensions.iter().map(|name| (*name).to_owned()).collect();
            tree.writer.property_string_list("riscv,isa-extensions", extensions)?;
            tree.writer.property_string("mmu-type", names.mmu_type)?;
            if let Some(bytes) = names.cbo_block {
                tree.writer.property_u32("riscv,cbom-block-size", bytes)?;
                tree.writer.property_u32("riscv,cbop-block-size", bytes)?;
                tree.writer.property_u32("riscv,cboz-block-size", bytes)?;
            }
            tree.node("interrupt-controller", |tree| {
                tree.writer.property_u32("#address-cells", 0)?;
                tree.writer.property_u32("#interrupt-cells", 1)?;
                tree.writer.property_null("interrupt-controller")?;
                tree.writer.property_string("compatible", "riscv,cpu-intc")?;
                tree.writer.property_phandle(hart_phandle(hart))
            })
        })
    }

    fn soc(&mut self) -> Written {
        self.node("soc", |tree| {
            tree.writer.property_u32("#address-cells", 2)?;
            tree.writer.property_u32("#size-cells", 2)?;
            tree.writer.property_string("compatible", "simple-bus")?;
            tree.writer.property_null("ranges")?;
            tree.devices(|tree, index| {
                !tree.board.devices[index].bases.is_empty() && tree.upwards(index).is_none()
            })
        })
    }

    /// What has no address cannot be on a bus.
    fn beside_soc(&mut self) -> Written {
        self.root_names = ["chosen", "cpus", "soc"].map(str::to_owned).into();
        self.devices(|tree, index| {
            tree.board.devices[index].bases.is_empty() && tree.upwards(index).is_none()
        })?;
        for (index, device) in self.board.devices.iter().enumerate() {
            for (at, sibling) in device.desc.fdt.iter().flat_map(|node| &node.siblings).enumerate() {
                self.what.clone_from(&device.id);
                let name = self.root_name(&sibling.name, &device.id);
                self.node(&name, |tree| tree.sibling(index, at as u32, sibling))?;
            }
        }
        Ok(())
    }

    fn root_name(&mut self, name: &str, id: &str) -> String {
        let free = self.root_names.insert(name.to_owned());
        if free { name.to_owned() } else { format!("{name}-{id}") }
    }

    fn devices(&mut self, choose: impl Fn(&Self, usize) -> bool) -> Written {
        for (index, device) in self.board.devices.iter().enumerate() {
            let Some(node) = device.desc.fdt.as_ref().filter(|_| choose(self, index)) else {
                continue;
            };
            self.what.clone_from(&device.id);
            self.node(&self.node_name(index, node), |tree| tree.device(index, device, node))?;
        }
        Ok(())
    }

    /// The link by which a device is a target: its node is then below its controller's. A target without an address on
    /// the bus of the harts has no other place.
    fn upwards(&self, device: usize) -> Option<&'a LinkSpec> {
        let has_node = |link: &&LinkSpec| self.board.devices[link.controller].desc.fdt.is_some();
        self.board.links.iter().find(|link| link.target == device).filter(has_node)
    }

    /// The nodes of a controller's targets: `reg` is the address on the link.
    fn targets(&mut self, controller: usize, node: &FdtNode) -> Written {
        let below =
            |tree: &Self, index: usize| tree.upwards(index).is_some_and(|up| up.controller == controller);
        let any = (0..self.board.devices.len()).any(|index| below(self, index));
        for (name, cells) in [("#address-cells", 1), ("#size-cells", 0)] {
            if any && !node.props.iter().any(|(own, _)| own == name) {
                self.writer.property_u32(name, cells)?;
            }
        }
        self.devices(|tree, index| below(tree, index))
    }

    fn device(&mut self, index: usize, device: &DeviceSpec, node: &FdtNode) -> Written {
        self.template(node, index)?;
        let reg: Vec<u64> = device
            .desc
            .regions
            .iter()
            .zip(&device.bases)
            .flat_map(|(region, base)| [*base, region.size])
            .collect();
        if let Some(up) = self.upwards(index) {
            self.writer.property_u32("reg", up.at)?;
        } else if !reg.is_empty() {
            self.writer.property_array_u64("reg", &reg)?;
        }
        if let Some(cells) = node.interrupt_controller {
            self.writer.property_null("interrupt-controller")?;
            self.writer.property_u32("#interrupt-cells", cells)?;
            if !node.props.iter().any(|(name, _)| name == "#address-cells") {
                self.writer.property_u32("#address-cells", 0)?;
            }
        }
        self.interrupts(index, node)?;
        self.writer.property_phandle(self.device_phandle(index))?;
        self.targets(index, node)
    }

    /// Only what is pointed to has a phandle, as in a compiled tree.
    fn sibling(&mut self, device: usize, at: u32, node: &FdtNode) -> Written {
        self.template(node, device)?;
        let own = self.board.devices[device].desc.fdt.as_ref();
        if own.is_some_and(|own| own.pointed_to().any(|pointed_to| pointed_to == at)) {
            self.writer.property_phandle(self.sibling_phandle(device, at))?;
        }
        Ok(())
    }

    fn template(&mut self, node: &FdtNode, device: usize) -> Written {
        if !node.compatible.is_empty() {
            self.writer.property_string_list("compatible", node.compatible.clone())?;
        }
        node.props.iter().try_for_each(|(name, value)| self.property(name, value, device))
    }

    fn property(&mut self, name: &str, value: &FdtValue, device: usize) -> Written {
        match value {
            FdtValue::Empty => self.writer.property_null(name),
            FdtValue::Cells(cells) => self.writer.property_array_u32(name, cells),
            FdtValue::U64(value) => self.writer.property_u64(name, *value),
            FdtValue::Strings(strings) => self.writer.property_string_list(name, strings.clone()),
            FdtValue::Bytes(bytes) => self.writer.property(name, bytes),
            FdtValue::SelfRef => self.writer.property_u32(name, self.device_phandle(device)),
            FdtValue::SelfPath => self.writer.property_string(name, &self.path(device)),
            FdtValue::SiblingRef(at) => self.writer.property_u32(name, self.sibling_phandle(device, *at)),
        }
    }

    fn path(&self, device: usize) -> String {
        let node = self.board.devices[device].desc.fdt.as_ref();
        let name = node.map(|node| self.node_name(device, node)).unwrap_or_default();
        match self.upwards(device) {
            Some(up) => format!("{}/{name}", self.path(up.controller)),
            None if self.board.devices[device].bases.is_empty() => format!("/{name}"),
            None => format!("/soc/{name}"),
        }
    }

    fn node_name(&self, device: usize, node: &FdtNode) -> String {
        let up = self.upwards(device).map(|link| u64::from(link.at));
        let device = &self.board.devices[device];
        match up.or(device.bases.first().copied()) {
            Some(at) => format!("{}@{at:x}", node.name),
            None => format!("{}-{}", node.name, device.id),
        }
    }

    /// Phandles: harts first, then devices, then siblings, all from 1.
    fn device_phandle(&self, device: usize) -> u32 {
        let index = u32::try_from(device).expect("a board has fewer devices");
        hart_phandle(self.board.machine.harts) + index
    }

    fn sibling_phandle(&self, device: usize, at: u32) -> u32 {
        let siblings = |device: &DeviceSpec| device.desc.fdt.as_ref().map_or(0, |node| node.siblings.len());
        let before: usize = self.board.devices[..device].iter().map(siblings).sum();
        let before = u32::try_from(before).expect("descriptors are far shorter");
        self.device_phandle(self.board.devices.len()) + before + at
    }

    /// Where the wires of the template's pins lead. `interrupts` if that is a single controller, which every driver
    /// reads; `interrupts-extended` otherwise.
    fn interrupts(&mut self, device: usize, node: &FdtNode) -> Written {
        let by_pin: Vec<Vec<Specifier>> =
            node.interrupts.iter().map(|pin| self.specifiers(device, *pin)).collect();
        let to_harts = by_pin.iter().flatten().any(|specifier| specifier.to_hart);
        // The contexts of a PLIC are counted by their place in the list: one that is not wired keeps its place.
        // Linux, Documentation/devicetree/bindings/interrupt-controller/sifive,plic-1.0.0.yaml: -1 is "not present".
        let absent = Specifier { controller: hart_phandle(0), cells: vec![NO_INTERRUPT], to_hart: true };
        let flat: Vec<Specifier> = by_pin
            .into_iter()
            .flat_map(|ends| if ends.is_empty() && to_harts { vec![absent.clone()] } else { ends })
            .collect();
        let Some(first) = flat.first().map(|specifier| specifier.controller) else {
            return Ok(());
        };
        if !to_harts && flat.iter().all(|specifier| specifier.controller == first) {
            let cells: Vec<u32> = flat.into_iter().flat_map(|specifier| specifier.cells).collect();
            self.writer.property_u32("interrupt-parent", first)?;
            return self.writer.property_array_u32("interrupts", &cells);
        }
        let cells: Vec<u32> =
            flat.into_iter().flat_map(|s| [s.controller].into_iter().chain(s.cells)).collect();
        self.writer.property_array_u32("interrupts-extended", &cells)
    }

    fn specifiers(&self, device: usize, pin: u32) -> Vec<Specifier> {
        let from_pin = |wire: &&Wire| wire.from_device == device && wire.from_pin == pin;
        self.board.wires.iter().filter(from_pin).filter_map(|wire| self.specifier(wire.to)).collect()
    }

    /// `None`: a wire into something that is no interrupt controller, a GPIO input say.
    fn specifier(&self, end: WireEnd) -> Option<Specifier> {
        match end {
            WireEnd::Hart { hart, line } => {
                Some(Specifier { controller: hart_phandle(hart), cells: vec![line.number()], to_hart: true })
            }
            WireEnd::Device { device, pin } => {
                let node = self.board.devices[device].desc.fdt.as_ref()?;
                let cells = node.interrupt_controller.filter(|cells| *cells > 0)?;
                let cells =
                    [pin, LEVEL_HIGH].into_iter().chain(std::iter::repeat(0)).take(cells as usize).collect();
                Some(Specifier { controller: self.device_phandle(device), cells, to_hart: false })
            }
        }
    }
}

/// One entry of `interrupts-extended`.
#[derive(Clone)]
struct Specifier {
    controller: u32,
    cells: Vec<u32>,
    to_hart: bool,
}

fn hart_phandle(hart: u32) -> u32 {
    hart + 1
}

#[cfg(test)]
mod tests;
