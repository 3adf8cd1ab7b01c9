//! Runs every line of `tests/isa/*.ins`; its README has the format.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use reprise_cpu::{AccessFault, Bus, Cluster, GuestRam, HartConfig, disassemble, mnemonics};

/// Where the instruction lies, where traps go and the page that lines may name with `d@`.
const PC: u64 = 0x8000_1000;
const MTVEC: u64 = 0x8000_3000;
const DATA: u64 = 0x8000_2000;
const DATA_SIZE: usize = 4096;

/// Bits of `mstatus` that lines leave out: FS has a word of its own, UXL and SXL are constant.
const FS_SHIFT: u32 = 13;
const UXL_SXL: u64 = 0xa_0000_0000;
/// `mstatus.MPP` = M: what a trap from M-mode leaves behind.
const MPP_MACHINE: u64 = 3 << 11;

const X: &str =
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const F: &str = "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 \
                 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";

type Words = Vec<(String, u64)>;

struct Line {
    place: String,
    bytes: Vec<u8>,
    text: String,
    before: Words,
    after: Words,
}

impl Line {
    fn parse(place: String, line: &str) -> Option<Line> {
        let (bytes, rest) = line.strip_prefix('[')?.split_once("] \"")?;
        let (text, rest) = rest.split_once('"')?;
        let (before, after) = rest.split_once("=>")?;
        let bytes =
            bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<Vec<_>>>()?;
        Some(Line { place, bytes, text: text.into(), before: words(before)?, after: words(after)? })
    }

    fn word(&self) -> u32 {
        self.bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
    }

    /// The instruction as the table names it: ordering bits are not part of the name there.
    fn mnemonic(&self) -> &str {
        let name = self.text.split(' ').next().expect("split gives at least one piece");
        [".aqrl", ".aq", ".rl"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
    }
}

fn words(list: &str) -> Option<Words> {
    list.split_whitespace()
        .map(|word| {
            let (key, value) = word.split_once('=')?;
            let number = match value.strip_prefix("0x") {
                _ if value == "none" => u64::MAX,
                Some(hex) => u64::from_str_radix(hex, 16).ok()?,
                None => value.parse().ok()?,
            };
            Some((key.to_owned(), number))
        })
        .collect()
}

fn word(list: &Words, key: &str) -> Option<u64> {
    list.iter().find(|(other, _)| other == key).map(|&(_, value)| value)
}

fn is_float_state(key: &str) -> bool {
    key == "fcsr" || F.split_whitespace().any(|name| name == key)
}

/// A hart's saved fields and the data page.
#[derive(Clone)]
struct State {
    fields: Vec<(String, Vec<u8>)>,
    memory: Vec<u8>,
}

impl State {
    fn take(cluster: &Cluster, ram: &GuestRam) -> State {
        let mut memory = vec![0; DATA_SIZE];
        ram.read(DATA, &mut memory).unwrap();
        State { fields: cluster.save(0), memory }
    }

    fn put(&self, cluster: &mut Cluster, ram: &GuestRam) {
        ram.write(DATA, &self.memory).unwrap();
        cluster.load(0, &self.fields).unwrap();
    }

    fn slot(&mut self, field: &str, index: usize) -> &mut [u8] {
        let found = self.fields.iter_mut().find(|(name, _)| name == field);
        let (_, bytes) = found.unwrap_or_else(|| panic!("a hart saves no field `{field}`"));
        &mut bytes[8 * index..8 * index + 8]
    }

    fn get(&mut self, field: &str) -> u64 {
        u64::from_le_bytes(self.slot(field, 0).try_into().unwrap())
    }

    fn set(&mut self, field: &str, value: u64) {
        self.slot(field, 0).copy_from_slice(&value.to_le_bytes());
    }

    /// Applies a word of a line.
    fn apply(&mut self, key: &str, value: u64) {
        let position = |names: &str| names.split_whitespace().position(|name| name == key);
        if let Some(index) = position(X) {
            self.slot("x", index).copy_from_slice(&value.to_le_bytes());
        } else if let Some(index) = position(F) {
            self.slot("f", index).copy_from_slice(&value.to_le_bytes());
        } else if let Some(address) = key.strip_prefix("d@0x") {
            let offset = (u64::from_str_radix(address, 16).unwrap() - DATA) as usize;
            self.memory[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        } else {
            match key {
                "fs" | "trap" | "tval" => {}
                "mstatus" => {
                    let fs = self.get("mstatus") & 3 << FS_SHIFT;
                    self.set("mstatus", value | UXL_SXL | fs);
                }
                "mip" => self.set("mip_software", value),
                "mode" => self.set("privilege", value),
                // Saved plus one, so that zero is none.
                "reservation" => {
                    self.set("reservation", if value == u64::MAX { 0 } else { (value & !63) + 1 })
                }
                _ => self.set(key, value),
            }
        }
    }

    fn set_fs(&mut self, fs: u64) {
        let others = self.get("mstatus") & !(3 << FS_SHIFT);
        self.set("mstatus", others | fs << FS_SHIFT);
    }

    fn fs(&mut self) -> u64 {
        self.get("mstatus") >> FS_SHIFT & 3
    }

    /// What differs, by name and index.
    fn differences(&self, expected: &State) -> Vec<String> {
        let lists = self.fields.iter().map(|(name, bytes)| (name.as_str(), bytes));
        let lists = lists.chain([("memory", &self.memory)]);
        let expected_lists = expected.fields.iter().map(|(_, bytes)| bytes).chain([&expected.memory]);
        let mut found = Vec::new();
        for ((name, got), expected) in lists.zip(expected_lists) {
            for (index, (got, expected)) in got.chunks(8).zip(expected.chunks(8)).enumerate() {
                if got != expected {
                    let number =
                        |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
                    found.push(format!("{name}[{index}] {:#x}, not {:#x}", number(got), number(expected)));
                }
            }
        }
        found
    }
}

/// There is nothing but RAM.
struct NoDevices;

impl Bus for NoDevices {
    fn load(&mut self, _: u64, _: u8, _: u64) -> Result<u64, AccessFault> {
        Err(AccessFault)
    }
    fn store(&mut self, _: u64, _: u8, _: u64, _: u64) -> Result<(), AccessFault> {
        Err(AccessFault)
    }
    fn time(&mut self, icount: u64) -> u64 {
        icount
    }
    fn attention(&self) -> bool {
        false
    }
}

struct Machine {
    ram: Rc<GuestRam>,
    cluster: Cluster,
    power_on: State,
}

impl Machine {
    fn new() -> Machine {
        let ram = GuestRam::new(0x8000_0000, 0x1_0000).unwrap();
        let cluster = Cluster::new(HartConfig::default(), 1, Rc::clone(&ram));
        let power_on = State::take(&cluster, &ram);
        Machine { ram, cluster, power_on }
    }

    /// The complaints about a line; none if it holds.
    fn check(mut self, line: &Line) -> Vec<String> {
        let mut complaints = Vec::new();
        let text = disassemble(line.word(), PC);
        if text != line.text {
            complaints.push(format!("disassembled as `{text}`"));
        }
        let before = self.before(line);
        self.ram.write(PC, &line.bytes).unwrap();
        before.put(&mut self.cluster, &self.ram);
        let exit = self.cluster.run(0, &mut NoDevices, 0, 1);
        if exit.icount != 1 {
            complaints.push(format!("{} instructions, not one", exit.icount));
        }
        let expected = after(line, before);
        complaints.extend(State::take(&self.cluster, &self.ram).differences(&expected));
        complaints
    }

    fn before(&self, line: &Line) -> State {
        let mut state = self.power_on.clone();
        state.set("pc", PC);
        state.set("mtvec", MTVEC);
        state.set_fs(word(&line.before, "fs").unwrap_or(1));
        for (key, value) in &line.before {
            state.apply(key, *value);
        }
        state
    }
}

fn after(line: &Line, before: State) -> State {
    let mut state = before;
    let attempts = state.get("attempts") + 1;
    state.set("attempts", attempts);
    if let Some(cause) = word(&line.after, "trap") {
        let traps = state.get("traps") + 1;
        let mstatus = state.get("mstatus") | MPP_MACHINE;
        let tval = word(&line.after, "tval").expect("a line with trap= has tval=");
        for (field, value) in [
            ("traps", traps),
            ("mstatus", mstatus),
            ("mcause", cause),
            ("mtval", tval),
            ("mepc", PC),
            ("pc", MTVEC),
        ] {
            state.set(field, value);
        }
    } else {
        state.set("pc", PC + line.bytes.len() as u64);
    }
    let dirty = line.after.iter().any(|(key, _)| is_float_state(key));
    let fs = word(&line.after, "fs").unwrap_or(if dirty { 3 } else { state.fs() });
    state.set_fs(fs);
    for (key, value) in &line.after {
        state.apply(key, *value);
    }
    state
}

fn lines() -> Vec<Line> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/isa");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ins"));
    files.sort();
    let mut lines = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for (index, text) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let place = format!("{name}:{}", index + 1);
            if !text.is_empty() && !text.starts_with('#') {
                let parsed = Line::parse(place, text);
                lines.push(parsed.unwrap_or_else(|| panic!("{name}:{} is no line: {text}", index + 1)));
            }
        }
    }
    lines
}

#[test]
fn every_line_holds() {
    let mut report = String::new();
    for line in lines() {
        let complaints = Machine::new().check(&line);
        if !complaints.is_empty() {
            report += &format!("{} {}: {}\n", line.place, line.text, complaints.join("; "));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_instruction_has_a_line() {
    let lines = lines();
    let named: BTreeSet<&str> = lines.iter().map(Line::mnemonic).collect();
    let missing: Vec<String> = mnemonics().filter(|name| !named.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "no line in tests/isa for {missing:?}");
}
