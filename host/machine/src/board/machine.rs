//! The `[machine]` table.

use super::{
    DiskTiming, IdlePolicy, IsaSpec, MachineSpec, Mmu, PHYSICAL_LIMIT,
    diagnostic::{Code, Report},
    document::{Document, Node, Origin, Table, Value},
    fields::{self, Fields, Quantity},
};

const DEFAULT_RAM_BASE: u64 = 0x8000_0000;
/// A kernel's leaf page tables map 2 MiB, and firmware is linked for such a start.
const RAM_BASE_ALIGN: u64 = 2 << 20;
const PAGE: u64 = 4096;
/// Room for firmware and a device tree, to the largest that a host can promise.
const RAM_SIZE: Quantity = Quantity::size((1 << 20)..=(1 << 40));
/// The PLIC and ACLINT register maps hold more; the turns of 64 harts are already slow.
pub(super) const MAX_HARTS: u64 = 64;
/// As far as QEMU's `-icount shift=` goes: 1 µs per instruction.
pub(super) const MAX_SHIFT: u64 = 10;
/// `vtime` has nanoseconds; a faster time base would not be exact.
pub(super) const MAX_TIMEBASE_HZ: u64 = 1_000_000_000;
pub(super) const MAX_QUANTUM: u64 = 1_000_000_000;
const LATENCY: Quantity = Quantity::duration(0..=10_000_000_000);
const BANDWIDTH: Quantity = Quantity::size(1024..=(1 << 40));
/// Linux takes 1024 characters on RISC-V and cuts the rest off silently. arch/riscv/include/uapi/asm/setup.h.
const MAX_BOOTARGS: usize = 1023;

pub(super) const IDLE: [(&str, IdlePolicy); 3] =
    [("auto", IdlePolicy::Auto), ("pace", IdlePolicy::Pace), ("warp", IdlePolicy::Warp)];
pub(super) const MMU: [(&str, Mmu); 3] = [("sv39", Mmu::Sv39), ("sv48", Mmu::Sv48), ("sv57", Mmu::Sv57)];

/// Read `[machine]`. After a mistake it has a default in that place, so that the devices can be checked all the same.
pub(super) fn read<'d>(document: &'d Document, report: &mut Report<'_>) -> (MachineSpec, &'d Origin) {
    static EMPTY: Table = Table { entries: Vec::new() };
    let (table, at) = match document.root.get("machine") {
        Some(entry) => (fields::table(&entry.node, "machine", report).unwrap_or(&EMPTY), &entry.key_origin),
        None => {
            report
                .error(Code::Missing, &document.origin, "the board has no [machine]")
                .help("write `[machine]` with at least `ram = { size = \"256M\" }`");
            return (defaults(), &document.origin);
        }
    };
    let mut fields = Fields::new(table, at, "[machine]");
    let spec = machine(&mut fields, report);
    fields.finish(report);
    (spec, at)
}

fn defaults() -> MachineSpec {
    MachineSpec {
        name: "board".to_owned(),
        harts: 1,
        ram_base: DEFAULT_RAM_BASE,
        ram_size: 256 << 20,
        shift: 0,
        timebase_hz: 10_000_000,
        idle: IdlePolicy::Auto,
        align: false,
        quantum: 10_000,
        schedule_seed: 0,
        seed: None,
        isa: IsaSpec { svadu: true, sstc: true, zfh: true, mmu: Mmu::Sv57 },
        disk: DiskTiming { latency_ns: 100_000, bytes_per_second: 1 << 30 },
        nmi_vector: None,
        bootargs: None,
    }
}

fn machine(fields: &mut Fields<'_>, report: &mut Report<'_>) -> MachineSpec {
    let d = defaults();
    let harts = fields.integer("harts", d.harts.into(), 1..=MAX_HARTS, report);
    let shift = fields.integer("shift", d.shift.into(), 0..=MAX_SHIFT, report);
    let (ram_base, ram_size) = match fields.required("ram", report) {
        Some(node) => ram(node, report).unwrap_or((d.ram_base, d.ram_size)),
        None => (d.ram_base, d.ram_size),
    };
    MachineSpec {
        name: name(fields, report).unwrap_or(d.name),
        harts: u32::try_from(harts).expect("the range is small"),
        ram_base,
        ram_size,
        shift: u8::try_from(shift).expect("the range is small"),
        timebase_hz: fields.integer("timebase_hz", d.timebase_hz, 1..=MAX_TIMEBASE_HZ, report),
        idle: fields.choice("idle", &IDLE, d.idle, report),
        align: fields.boolean("align", d.align, report),
        quantum: fields.integer("quantum", d.quantum, 1..=MAX_QUANTUM, report),
        schedule_seed: fields.integer("schedule_seed", d.schedule_seed, 0..=u64::MAX, report),
        seed: fields.node("seed").and_then(|node| seed(node, report)),
        isa: fields.node("isa").and_then(|node| isa(node, d.isa, report)).unwrap_or(d.isa),
        disk: fields.node("disk").and_then(|node| disk(node, d.disk, report)).unwrap_or(d.disk),
        nmi_vector: fields.node("nmi_vector").and_then(|node| nmi_vector(node, ram_base, ram_size, report)),
        bootargs: fields.node("bootargs").and_then(|node| bootargs(node, report)),
    }
}

fn name(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Option<String> {
    let node = fields.node("name")?;
    let name = fields::string(node, "name", report)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        report
            .error(Code::BadValue, &node.origin, "this is no name for a machine")
            .help("use up to 64 letters, digits, `-`, `_` and `.`; it becomes part of `compatible`");
        return None;
    }
    Some(name)
}

fn ram(node: &Node, report: &mut Report<'_>) -> Option<(u64, u64)> {
    let mut fields = Fields::new(fields::table(node, "ram", report)?, &node.origin, "`ram`");
    let base_node = fields.node("base");
    let base = match base_node {
        Some(base) => fields::integer(base, "base", 0..=PHYSICAL_LIMIT - 1, report),
        None => Some(DEFAULT_RAM_BASE),
    };
    let size_node = fields.required("size", report);
    let size = size_node.and_then(|size| RAM_SIZE.read(size, "size", report));
    fields.finish(report);
    let (base, size, size_node) = (base?, size?, size_node?);
    if let Some(node) = base_node.filter(|_| !base.is_multiple_of(RAM_BASE_ALIGN)) {
        report
            .error(Code::BadValue, &node.origin, format!("RAM cannot start at {base:#x}"))
            .label("not a multiple of 2 MiB (0x20_0000)");
    }
    if !size.is_multiple_of(PAGE) {
        report
            .error(Code::BadValue, &size_node.origin, format!("RAM cannot have {size} bytes"))
            .label("not a multiple of 4096");
    }
    if base.checked_add(size).is_none_or(|end| end > PHYSICAL_LIMIT) {
        report.error(Code::OutOfRange, &node.origin, "RAM ends beyond the 56 bits of a physical address");
    }
    Some((base, size))
}

fn isa(node: &Node, d: IsaSpec, report: &mut Report<'_>) -> Option<IsaSpec> {
    let mut fields = Fields::new(fields::table(node, "isa", report)?, &node.origin, "[machine.isa]");
    let isa = IsaSpec {
        svadu: fields.boolean("svadu", d.svadu, report),
        sstc: fields.boolean("sstc", d.sstc, report),
        zfh: fields.boolean("zfh", d.zfh, report),
        mmu: fields.choice("mmu", &MMU, d.mmu, report),
    };
    fields.finish(report);
    Some(isa)
}

fn disk(node: &Node, d: DiskTiming, report: &mut Report<'_>) -> Option<DiskTiming> {
    let mut fields = Fields::new(fields::table(node, "disk", report)?, &node.origin, "[machine.disk]");
    let disk = DiskTiming {
        latency_ns: fields.quantity("latency", &LATENCY, d.latency_ns, report),
        bytes_per_second: fields.quantity("bandwidth", &BANDWIDTH, d.bytes_per_second, report),
    };
    fields.finish(report);
    Some(disk)
}

fn nmi_vector(node: &Node, ram_base: u64, ram_size: u64, report: &mut Report<'_>) -> Option<u64> {
    let vector = fields::integer(node, "nmi_vector", 0..=PHYSICAL_LIMIT - 1, report)?;
    // As `mtvec` has it: it leaves two bits for modes.
    if !vector.is_multiple_of(4) {
        report
            .error(Code::BadValue, &node.origin, format!("an NMI handler cannot start at {vector:#x}"))
            .label("not a multiple of 4");
        return None;
    }
    if !(ram_base..ram_base.saturating_add(ram_size)).contains(&vector) {
        report
            .error(
                Code::OutOfRange,
                &node.origin,
                format!("there is no RAM at {vector:#x} for an NMI handler"),
            )
            .help(format!("RAM is {ram_size:#x} bytes at {ram_base:#x}"));
        return None;
    }
    Some(vector)
}

/// A small integer for people, or all 32 bytes as hexadecimal digits.
fn seed(node: &Node, report: &mut Report<'_>) -> Option<[u8; 32]> {
    let bytes = match &node.value {
        Value::Integer(number) => u64::try_from(*number).ok().map(|small| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&small.to_le_bytes());
            bytes
        }),
        Value::String(text) => hex32(text),
        _ => None,
    };
    if bytes.is_none() {
        report
            .error(Code::BadValue, &node.origin, "this is no seed")
            .help("write an integer from 0, or a string of 64 hexadecimal digits");
    }
    bytes
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).expect("two digits make a byte");
    }
    Some(bytes)
}

fn bootargs(node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = fields::string(node, "bootargs", report)?;
    if text.contains('\0') {
        report.error(Code::BadValue, &node.origin, "a kernel command line cannot contain a NUL character");
        return None;
    }
    if text.len() > MAX_BOOTARGS {
        report
            .error(Code::BadValue, &node.origin, format!("{} bytes of kernel command line", text.len()))
            .label(format!("the kernel cuts it off after {MAX_BOOTARGS}"));
        return None;
    }
    Some(text)
}
