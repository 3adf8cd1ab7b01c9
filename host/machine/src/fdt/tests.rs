use super::*;
use crate::board::{DiskTiming, HartLine, IdlePolicy, IsaSpec, MachineSpec, Mmu};
use reprise_abi::desc::{DeviceDesc, Link, Pins, Region};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

const HART: HartNames<'_> = HartNames {
    isa_string: "rv64imafdc_zicsr",
    extensions: &["i", "m", "zicsr"],
    mmu_type: "riscv,sv57",
    cbo_block: Some(64),
};

fn spec(id: &str, base: &[u64], outputs: u32, fdt: FdtNode) -> DeviceSpec {
    let regions = base.iter().map(|_| Region { name: "regs".into(), size: 0x1000, access: 15 }).collect();
    let outputs = vec![Pins { name: "irq".into(), count: Some(outputs) }];
    DeviceSpec {
        id: id.into(),
        plugin: id.into(),
        kind: id.into(),
        desc: DeviceDesc { regions, outputs, fdt: Some(fdt), ..DeviceDesc::default() },
        bases: base.to_vec(),
        config_json: "{}".into(),
        ports: Vec::new(),
    }
}

fn named(name: &str) -> FdtNode {
    FdtNode { name: name.into(), compatible: vec![format!("test,{name}")], ..FdtNode::default() }
}

fn wire(from_device: usize, from_pin: u32, to: WireEnd) -> Wire {
    Wire { from_device, from_pin, to }
}

fn hart(hart: u32, line: HartLine) -> WireEnd {
    WireEnd::Hart { hart, line }
}

/// Two harts; a PLIC without hart 0's S-mode context, a UART, a power button on a GPIO, a syscon with a sibling.
fn board() -> Board {
    let plic = FdtNode { interrupts: vec![0, 1, 2, 3], interrupt_controller: Some(1), ..named("plic") };
    let uart = FdtNode {
        interrupts: vec![0],
        props: vec![("clock-frequency".into(), FdtValue::Cells(vec![7])), ("quiet".into(), FdtValue::Empty)],
        chosen: [("stdout-path".to_owned(), FdtValue::SelfPath)].into(),
        ..named("serial")
    };
    let off = FdtNode {
        compatible: vec!["syscon-poweroff".into()],
        props: vec![("regmap".into(), FdtValue::SelfRef), ("value".into(), FdtValue::U64(0x5555))],
        ..named("poweroff")
    };
    let syscon = FdtNode { siblings: vec![off], ..named("test") };
    let keys = FdtNode {
        props: vec![("key-labels".into(), FdtValue::Strings(vec!["a".into(), "b".into()]))],
        ..named("keys")
    };
    let uart_irq = |pin| WireEnd::Device { device: 0, pin };
    Board {
        networks: Vec::new(),
        machine: MachineSpec {
            name: "bench".into(),
            harts: 2,
            ram_base: 0x8000_0000,
            ram_size: 64 << 20,
            shift: 0,
            timebase_hz: 10_000_000,
            idle: IdlePolicy::Auto,
            align: false,
            quantum: 1,
            schedule_seed: 0,
            seed: None,
            isa: IsaSpec { svadu: true, sstc: true, zfh: true, mmu: Mmu::Sv57 },
            disk: DiskTiming { latency_ns: 0, bytes_per_second: 1 },
            nmi_vector: None,
            bootargs: Some("console=ttyS0".into()),
        },
        devices: vec![
            spec("plic", &[0xc00_0000], 4, plic),
            spec("uart0", &[0x1000_0000], 1, uart.clone()),
            spec("uart1", &[0x1000_1000], 1, uart),
            spec("syscon", &[0x10_0000], 0, syscon.clone()),
            spec("syscon2", &[0x10_1000], 0, syscon),
            spec("keys0", &[], 0, keys),
        ],
        wires: vec![
            wire(0, 0, hart(0, HartLine::Meip)),
            wire(0, 2, hart(1, HartLine::Meip)),
            wire(0, 3, hart(1, HartLine::Seip)),
            wire(1, 0, uart_irq(10)),
            wire(2, 0, uart_irq(11)),
            wire(2, 0, hart(0, HartLine::Seip)),
        ],
        links: Vec::new(),
    }
}

/// The source that dtc makes of a tree, and what it complains about.
fn decompile(dtb: &[u8]) -> (String, String) {
    let mut dtc = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc is installed (package device-tree-compiler)");
    dtc.stdin.take().unwrap().write_all(dtb).unwrap();
    let output = dtc.wait_with_output().unwrap();
    assert!(output.status.success());
    // Versions of dtc write string lists in two ways.
    let source = String::from_utf8(output.stdout).unwrap().replace("\", \"", "\\0");
    (source, String::from_utf8(output.stderr).unwrap())
}

fn source(board: &Board) -> String {
    let input = FdtInput {
        board,
        hart: &HART,
        initrd: Some(0x8400_0000..0x8400_1234),
        rng_seed: Some(&[1, 2, 3, 4]),
    };
    let (source, complaints) = decompile(&build(&input).unwrap());
    assert_eq!(complaints, "");
    source
}

/// The lines of a node, without those of its children.
fn node<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let mut lines = source.lines().map(str::trim).skip_while(|line| *line != format!("{name} {{"));
    lines.next().unwrap_or_else(|| panic!("no node {name} in\n{source}"));
    let mut depth = 0;
    let mut own = Vec::new();
    for line in lines {
        match line {
            "};" if depth == 0 => break,
            "};" => depth -= 1,
            _ if line.ends_with('{') => depth += 1,
            _ if depth == 0 && !line.is_empty() => own.push(line),
            _ => {}
        }
    }
    own
}

#[test]
fn dtc_has_nothing_to_say_and_harts_are_described() {
    let source = source(&board());
    assert!(source.contains("compatible = \"reprise,bench\\0riscv-virtio\";"), "{source}");
    assert_eq!(node(&source, "memory@80000000")[1], "reg = <0x00 0x80000000 0x00 0x4000000>;");
    let cpu = node(&source, "cpu@1");
    for line in [
        "reg = <0x01>;",
        "riscv,isa = \"rv64imafdc_zicsr\";",
        "riscv,isa-base = \"rv64i\";",
        "riscv,isa-extensions = \"i\\0m\\0zicsr\";",
        "mmu-type = \"riscv,sv57\";",
        "riscv,cbom-block-size = <0x40>;",
    ] {
        assert!(cpu.contains(&line), "{line} in {cpu:#?}");
    }
    assert!(node(&source, "cpus").contains(&"timebase-frequency = <0x989680>;"));
}

#[test]
fn wires_become_interrupts() {
    let source = source(&board());
    // Harts have phandles 1 and 2, the PLIC 3. Context 1 is not wired and keeps its place.
    assert!(
        node(&source, "plic@c000000")
            .contains(&"interrupts-extended = <0x01 0x0b 0x01 0xffffffff 0x02 0x0b 0x02 0x09>;")
    );
    let uart = node(&source, "serial@10000000");
    assert!(
        uart.contains(&"interrupt-parent = <0x03>;") && uart.contains(&"interrupts = <0x0a>;"),
        "{uart:#?}"
    );
    assert!(uart.contains(&"quiet;") && uart.contains(&"clock-frequency = <0x07>;"), "{uart:#?}");
    assert!(node(&source, "serial@10001000").contains(&"interrupts-extended = <0x03 0x0b 0x01 0x09>;"));
}

#[test]
fn chosen_siblings_and_devices_without_registers() {
    let source = source(&board());
    let chosen = node(&source, "chosen");
    assert!(chosen.contains(&"stdout-path = \"/soc/serial@10000000\";"), "the first one has it: {chosen:#?}");
    assert!(chosen.contains(&"bootargs = \"console=ttyS0\";"));
    assert!(chosen.contains(&"linux,initrd-end = <0x00 0x84001234>;"));
    assert!(chosen.contains(&"rng-seed = <0x1020304>;"), "{chosen:#?}");
    // syscon is device 3: two harts, three devices before it.
    assert!(node(&source, "poweroff").contains(&"regmap = <0x06>;"));
    assert!(node(&source, "poweroff-syscon2").contains(&"regmap = <0x07>;"));
    assert_eq!(node(&source, "keys-keys0")[1], "key-labels = \"a\\0b\";");
}

#[test]
fn controllers_with_more_cells_get_the_trigger_type() {
    let mut board = board();
    board.devices[0].desc.fdt.as_mut().unwrap().interrupt_controller = Some(2);
    assert!(node(&source(&board), "serial@10000000").contains(&"interrupts = <0x0a 0x04>;"));
    board.devices[0].desc.fdt.as_mut().unwrap().interrupt_controller = None;
    let dtb = build(&FdtInput { board: &board, hart: &HART, initrd: None, rng_seed: None }).unwrap();
    let (source, _) = decompile(&dtb);
    assert!(!node(&source, "serial@10000000").iter().any(|line| line.starts_with("interrupt")));
}

#[test]
fn a_template_that_cannot_be_written_names_its_device() {
    let mut board = board();
    let fdt = board.devices[1].desc.fdt.as_mut().unwrap();
    fdt.props.push(("bad name".into(), FdtValue::Empty));
    let error = build(&FdtInput { board: &board, hart: &HART, initrd: None, rng_seed: None }).unwrap_err();
    assert_eq!(error.what, "uart0");
    let fdt = board.devices[1].desc.fdt.as_mut().unwrap();
    fdt.props[2] = ("ok".into(), FdtValue::Strings(vec!["\0".into()]));
    assert!(build(&FdtInput { board: &board, hart: &HART, initrd: None, rng_seed: None }).is_err());
}

#[test]
fn targets_are_below_their_controllers() {
    let mut board = board();
    let node = |name: &str| FdtNode {
        name: name.into(),
        compatible: vec![format!("test,{name}")],
        ..FdtNode::default()
    };
    board.devices.push(spec("i2c0", &[0x1002_0000], 0, node("i2c")));
    board.devices.push(spec("eeprom0", &[], 0, node("eeprom")));
    let controller = board.devices.len() - 2;
    board.devices[controller].desc.links.push(Link { name: "bus".into(), addresses: 128, ..Link::default() });
    let (target, at) = (controller + 1, 0x50);
    let link = LinkSpec { target, target_link: 0, controller, controller_link: 0, at, addresses: 1 };
    board.links.push(link);
    let source = source(&board);
    let i2c = self::node(&source, "i2c@10020000");
    assert!(i2c.contains(&"#address-cells = <0x01>;") && i2c.contains(&"#size-cells = <0x00>;"), "{i2c:#?}");
    let eeprom = self::node(&source, "eeprom@50");
    assert!(eeprom.contains(&"reg = <0x50>;"), "{eeprom:#?}");
    let inside = source.split("i2c@10020000 {").nth(1).unwrap();
    assert!(inside.find("eeprom@50").unwrap() < inside.find("\n\t\t};").unwrap(), "{source}");
}

#[test]
fn a_device_points_to_its_clock() {
    let mut board = board();
    let clock = FdtNode {
        compatible: vec!["fixed-clock".into()],
        props: vec![
            ("#clock-cells".into(), FdtValue::Cells(vec![0])),
            ("clock-frequency".into(), FdtValue::Cells(vec![7])),
        ],
        ..named("uart-clock")
    };
    let clocks = ("clocks".to_owned(), FdtValue::SiblingRef(0));
    for uart in [1, 2] {
        let fdt = board.devices[uart].desc.fdt.as_mut().unwrap();
        fdt.props.push(clocks.clone());
        fdt.siblings.push(clock.clone());
    }
    let source = source(&board);
    // Two harts and six devices come first.
    assert!(node(&source, "serial@10000000").contains(&"clocks = <0x09>;"), "{source}");
    assert!(node(&source, "uart-clock").contains(&"phandle = <0x09>;"));
    assert!(node(&source, "serial@10001000").contains(&"clocks = <0x0a>;"));
    assert!(node(&source, "uart-clock-uart1").contains(&"phandle = <0x0a>;"));
    assert!(!node(&source, "poweroff").iter().any(|line| line.starts_with("phandle")));
}
