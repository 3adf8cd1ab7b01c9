//! What differs between two machines, by name: the core of a divergence report.

use crate::{
    machine::Machine,
    outside::{DISK_BLOCK_BYTES, DiskChanges},
    snapshot::{RamImage, Snapshot, TABLE_PAGES},
};
use reprise_abi::state;
use reprise_cpu::PAGE_SIZE;
use std::{collections::BTreeSet, sync::Arc};

/// Named fields listed, at most.
const MAX_FIELDS: usize = 400;
/// Pages of RAM listed, at most.
const MAX_PAGES: usize = 16;
/// Ranges of one page listed, at most.
const MAX_RANGES: usize = 4;
/// Bytes of a range shown, at most; equal bytes fewer than this do not end a range.
const SHOWN: usize = 16;
/// Characters of a value shown, at most.
const MAX_TEXT: usize = 256;

/// Registers that hold addresses of code.
const CODE: [&str; 4] = ["pc", "ra", "mepc", "sepc"];

/// One thing that two machines do not have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `hart0.a0`, `device.uart0.lcr`, `timers.uart0.tx.at_ns`, `ram 0x80001000..0x80001008 <name+0x10>`, or that there
    /// is more than is listed.
    pub what: String,
    /// What the first machine has there; `-` if it has no such thing.
    pub a: String,
    /// What the second machine has there.
    pub b: String,
}

impl Machine {
    /// Whether two machines are in the same state.
    #[must_use]
    pub fn same_state(a: &mut Machine, b: &mut Machine) -> bool {
        a.digest() == b.digest()
    }

    /// Whether two machines are in the same state but for what these devices, by id, remember themselves. Ports and
    /// pins that only one of the machines has do not count.
    #[must_use]
    pub fn same_around(a: &mut Machine, b: &mut Machine, devices: &[String]) -> bool {
        let inside = |name: &str| {
            name.strip_prefix("device.").is_some_and(|id| devices.iter().any(|device| device == id))
        };
        let root = |machine: &mut Machine| machine.ram_digest.update(&machine.services.ram);
        let (left, right) = (a.sections(), b.sections());
        let same = left.iter().zip(&right).all(|((name, left), (other, right))| {
            let common = name == "wires" || name == "ports";
            name == other && (left == right || inside(name) || common && same_fields(left, right))
        });
        same && left.len() == right.len() && root(a) == root(b)
    }

    /// Whether these devices, by id, remember the same under every name that both machines know.
    #[must_use]
    pub fn same_memory(a: &Machine, b: &Machine, devices: &[String]) -> bool {
        let of = |machine: &Machine, id: &String| {
            let index = machine.services.device_ids.iter().position(|other| other == id)?;
            Some(machine.slots[index].instance.save())
        };
        devices.iter().all(|id| match (of(a, id), of(b, id)) {
            (Some(left), Some(right)) => same_fields(&left, &right),
            (left, right) => left.is_none() && right.is_none(),
        })
    }

    /// What differs between two machines: registers, fields of devices and of the host, bytes of RAM. At most some
    /// hundred; where there are more, the last of a kind says how many. Empty exactly if the digests are equal.
    #[must_use]
    pub fn differences(a: &mut Machine, b: &mut Machine) -> Vec<Difference> {
        let mut out = Vec::new();
        let symbols =
            [&*a, &*b].map(|machine| move |register: &str, value: &str| machine.symbol_of(register, value));
        section_differences(
            [a.sections(), b.sections()],
            symbols.each_ref().map(|name| name as &_),
            &mut out,
        );
        ram_differences(a, b, &mut out);
        out
    }

    /// Every field of the state but RAM: its name, as [`Difference::what`] has it, and its value.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let flat = |(section, record): (String, Vec<u8>)| {
            let fields = state::flatten(&record).unwrap_or_default();
            fields.into_iter().map(move |(name, value)| (format!("{section}.{name}"), value))
        };
        self.sections().into_iter().flat_map(flat).collect()
    }

    /// ` <name+0x10>` for a value that names code, otherwise nothing.
    fn symbol_of(&self, register: &str, value: &str) -> String {
        let value = value.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match value {
            Some(address) if CODE.contains(&register) => self.services.symbols.name(address),
            Some(_) | None => String::new(),
        }
    }
}

impl Snapshot {
    /// As [`Machine::differences`], of two snapshots whose RAM begins at `ram_base`; and what has passed their gates,
    /// and blocks of disks. There are no names of code.
    #[must_use]
    pub fn differences(a: &Snapshot, b: &Snapshot, ram_base: u64) -> Vec<Difference> {
        let mut out = Vec::new();
        let none = |_: &str, _: &str| String::new();
        section_differences([a.sections.clone(), b.sections.clone()], [&none, &none], &mut out);
        image_differences(&a.ram, &b.ram, ram_base, &mut out);
        disk_differences(a, b, &mut out);
        out
    }
}

/// Whether two records have the same under every name that is in both.
fn same_fields(left: &[u8], right: &[u8]) -> bool {
    let same =
        |field: &state::Difference| field.left.is_none() || field.right.is_none() || field.path.is_empty();
    state::diff(left, right).is_ok_and(|fields| fields.iter().all(same))
}

/// Named records of a machine.
type Sections = Vec<(String, Vec<u8>)>;

/// Gives a register's value its name, if it is an address of code.
type Symbol<'a> = &'a dyn Fn(&str, &str) -> String;

/// The sections of both, by name: those of `a` in their order, then what only `b` has.
fn section_differences([of_a, mut of_b]: [Sections; 2], symbols: [Symbol<'_>; 2], out: &mut Vec<Difference>) {
    let mut left_out = 0;
    let mut list = |difference| {
        if out.len() < MAX_FIELDS {
            out.push(difference);
        } else {
            left_out += 1;
        }
    };
    for (name, left) in of_a {
        match of_b.iter().position(|(other, _)| *other == name) {
            None => list(only("there", "-", &name)),
            Some(index) => {
                let (_, right) = of_b.remove(index);
                field_differences(symbols, &name, [&left, &right]).into_iter().for_each(&mut list);
            }
        }
    }
    of_b.iter().for_each(|(name, _)| list(only("-", "there", name)));
    if left_out > 0 {
        out.push(only("", "", &format!("… and {left_out} more fields")));
    }
}

fn only(a: &str, b: &str, what: &str) -> Difference {
    Difference { what: what.to_owned(), a: a.to_owned(), b: b.to_owned() }
}

fn field_differences(symbols: [Symbol<'_>; 2], section: &str, records: [&[u8]; 2]) -> Vec<Difference> {
    let [left, right] = records;
    let fields = match state::diff(left, right) {
        Ok(fields) => fields,
        // A plugin that writes no proper record: then we can say no more than that.
        Err(error) => return vec![only(&error.to_string(), "another record", section)],
    };
    let hart = section.starts_with("hart");
    let shown = |name: Symbol<'_>, path: &str, value: Option<String>| match value {
        None => "-".to_owned(),
        Some(value) => {
            let symbol = if hart { name(path, &value) } else { String::new() };
            cut(value) + &symbol
        }
    };
    let fields = fields.into_iter().map(|field| {
        let joint = if field.path.is_empty() || field.path.starts_with('[') { "" } else { "." };
        Difference {
            what: format!("{section}{joint}{}", field.path),
            a: shown(symbols[0], &field.path, field.left),
            b: shown(symbols[1], &field.path, field.right),
        }
    });
    fields.collect()
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn ram_differences(a: &mut Machine, b: &mut Machine, out: &mut Vec<Difference>) {
    let root = |machine: &mut Machine| machine.ram_digest.update(&machine.services.ram);
    let shape = |machine: &Machine| (machine.services.ram.base(), machine.services.ram.size());
    let same = root(a) == root(b);
    if shape(a) != shape(b) {
        let text = |(base, size): (u64, u64)| format!("{size:#x} bytes at {base:#x}");
        out.push(only(&text(shape(a)), &text(shape(b)), "ram"));
        return;
    }
    if same {
        return;
    }
    let mut pages = a.ram_digest.differing(&b.ram_digest);
    for index in pages.by_ref().take(MAX_PAGES) {
        page_differences(a, b, index, out);
    }
    let left_out = pages.count();
    if left_out > 0 {
        out.push(only("", "", &format!("… and {left_out} more pages of ram")));
    }
}

fn page_differences(a: &Machine, b: &Machine, index: usize, out: &mut Vec<Difference>) {
    let (mut left, mut right) = ([0; PAGE_SIZE as usize], [0; PAGE_SIZE as usize]);
    a.services.ram.page(index, &mut left);
    b.services.ram.page(index, &mut right);
    let base = a.services.ram.base() + index as u64 * PAGE_SIZE;
    range_differences(base, &left, &right, &|address| a.services.symbols.name(address), out);
}

fn image_differences(a: &RamImage, b: &RamImage, ram_base: u64, out: &mut Vec<Difference>) {
    if a.pages() != b.pages() {
        let text = |image: &RamImage| format!("{} pages", image.pages());
        out.push(only(&text(a), &text(b), "ram"));
        return;
    }
    let (zero, mut listed, mut left_out) = ([0; PAGE_SIZE as usize], 0, 0);
    for (index, (left, right)) in a.tables().iter().zip(b.tables()).enumerate() {
        let same = match (left, right) {
            (None, None) => true,
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let first = index * TABLE_PAGES;
        for page in (first..a.pages().min(first + TABLE_PAGES)).filter(|_| !same) {
            let [left, right] = [a, b].map(|image| image.page(page).map_or(&zero, |page| page));
            if left == right {
                continue;
            }
            listed += 1;
            if listed > MAX_PAGES {
                left_out += 1;
                continue;
            }
            range_differences(ram_base + page as u64 * PAGE_SIZE, left, right, &|_| String::new(), out);
        }
    }
    if left_out > 0 {
        out.push(only("", "", &format!("… and {left_out} more pages of ram")));
    }
}

/// Blocks of disks, by number.
fn disk_differences(a: &Snapshot, b: &Snapshot, out: &mut Vec<Difference>) {
    let none = DiskChanges::default();
    let of = |snapshot: &'_ Snapshot, port: &str| {
        let found = snapshot.disks.iter().find(|(other, _)| other == port);
        found.map_or_else(|| none.clone(), |(_, changes)| changes.clone())
    };
    let ports: BTreeSet<&String> = a.disks.iter().chain(&b.disks).map(|(port, _)| port).collect();
    for port in ports {
        let sides = [of(a, port), of(b, port)];
        let numbers = sides.iter().flat_map(|side| side.blocks.keys().copied());
        let zeroes = sides.iter().flat_map(|side| side.zeroes.iter().flat_map(|(&from, &to)| from..to));
        let numbers: BTreeSet<u64> = numbers.chain(zeroes).collect();
        let texts = |number: u64| sides.each_ref().map(|side| block_text(side, number));
        let mut differing = numbers.into_iter().map(|number| (number, texts(number)));
        let mut differing = differing.by_ref().filter(|(_, [left, right])| left != right);
        for (number, [left, right]) in differing.by_ref().take(MAX_PAGES) {
            out.push(only(&left, &right, &format!("disk {port}, block {number}")));
        }
        let left_out = differing.count();
        if left_out > 0 {
            out.push(only("", "", &format!("… and {left_out} more blocks of disk {port}")));
        }
    }
}

/// What a guest has made of a block: equal texts, equal blocks.
fn block_text(changes: &DiskChanges, number: u64) -> String {
    let Some(block) = changes.blocks.get(&number) else {
        let is_zero = changes.zeroes.range(..=number).next_back().is_some_and(|(_, &end)| number < end);
        return if is_zero { "zeroes" } else { "as in the image" }.to_owned();
    };
    let mut content = vec![0; DISK_BLOCK_BYTES as usize];
    match block.read(0, &mut content) {
        Ok(()) => format!("written, blake3 {:.16}…", blake3::hash(&content).to_hex()),
        Err(error) => format!("cannot be read: {error}"),
    }
}

fn range_differences(
    base: u64,
    left: &[u8; PAGE_SIZE as usize],
    right: &[u8; PAGE_SIZE as usize],
    name: &dyn Fn(u64) -> String,
    out: &mut Vec<Difference>,
) {
    let ranges = ranges(left, right);
    for &(start, end) in ranges.iter().take(MAX_RANGES) {
        let (from, to) = (base + start as u64, base + end as u64);
        let shown = start..end.min(start + SHOWN);
        out.push(Difference {
            what: format!("ram {from:#x}..{to:#x}{}", name(from)),
            a: hex(&left[shown.clone()], end - start),
            b: hex(&right[shown], end - start),
        });
    }
    if let Some(more) = ranges.len().checked_sub(MAX_RANGES + 1) {
        out.push(only("", "", &format!("… and {} more ranges of the page at {base:#x}", more + 1)));
    }
}

/// Where two pages differ, as start and end of ranges that begin and end with a difference.
fn ranges(left: &[u8], right: &[u8]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (at, _) in left.iter().zip(right).enumerate().filter(|(_, (a, b))| a != b) {
        match ranges.last_mut() {
            Some((_, end)) if at - *end < SHOWN => *end = at + 1,
            Some(_) | None => ranges.push((at, at + 1)),
        }
    }
    ranges
}

fn hex(shown: &[u8], len: usize) -> String {
    let text: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    text.join(" ") + if shown.len() < len { " …" } else { "" }
}
