//! What differs between two machines, by name: the core of a divergence report.

use crate::machine::Machine;
use reprise_abi::state;
use reprise_cpu::PAGE_SIZE;

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

    /// What differs between two machines: registers, fields of devices and of the host, bytes of RAM. At most some
    /// hundred; where there are more, the last of a kind says how many. Empty exactly if the digests are equal.
    #[must_use]
    pub fn differences(a: &mut Machine, b: &mut Machine) -> Vec<Difference> {
        let mut out = Vec::new();
        section_differences(a, b, &mut out);
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

/// The sections of both, by name: those of `a` in their order, then what only `b` has.
fn section_differences(a: &Machine, b: &Machine, out: &mut Vec<Difference>) {
    let of_a = a.sections();
    let mut of_b = b.sections();
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
                field_differences(a, b, &name, [&left, &right]).into_iter().for_each(&mut list);
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

fn field_differences(a: &Machine, b: &Machine, section: &str, records: [&[u8]; 2]) -> Vec<Difference> {
    let [left, right] = records;
    let fields = match state::diff(left, right) {
        Ok(fields) => fields,
        // A plugin that writes no proper record: then we can say no more than that.
        Err(error) => return vec![only(&error.to_string(), "another record", section)],
    };
    let hart = section.starts_with("hart");
    let shown = |machine: &Machine, path: &str, value: Option<String>| match value {
        None => "-".to_owned(),
        Some(value) => {
            let symbol = if hart { machine.symbol_of(path, &value) } else { String::new() };
            cut(value) + &symbol
        }
    };
    let fields = fields.into_iter().map(|field| {
        let joint = if field.path.is_empty() || field.path.starts_with('[') { "" } else { "." };
        Difference {
            what: format!("{section}{joint}{}", field.path),
            a: shown(a, &field.path, field.left),
            b: shown(b, &field.path, field.right),
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
    let ranges = ranges(&left, &right);
    for &(start, end) in ranges.iter().take(MAX_RANGES) {
        let (from, to) = (base + start as u64, base + end as u64);
        let shown = start..end.min(start + SHOWN);
        out.push(Difference {
            what: format!("ram {from:#x}..{to:#x}{}", a.services.symbols.name(from)),
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
