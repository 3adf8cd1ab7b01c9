//! From counts by address to functions and lines, and to the text of a tracefile: geninfo(1), "FILES".

use crate::counts::Executed;
use addr2line::{
    Context,
    gimli::{self, EndianSlice, RunTimeEndian},
};
use object::{Object, ObjectSection};
use reprise_plugin_api::observe::symbols::{Function, Symbols};
use std::{borrow::Cow, collections::BTreeMap};

type Dwarf<'a> = Context<EndianSlice<'a, RunTimeEndian>>;

/// Code that is told of.
pub(crate) struct Image {
    /// What its functions are told under where no source file is known.
    name: String,
    symbols: Symbols,
    /// The ELF file, for its DWARF; empty if it is none.
    elf: Vec<u8>,
}

/// What a tracefile says of one source file.
#[derive(Default)]
struct Source {
    /// By name: line, and how often it was entered.
    functions: BTreeMap<String, (u32, u64)>,
    lines: BTreeMap<u32, u64>,
}

/// By source file.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<String, Source>);

impl Image {
    pub(crate) fn of_elf(name: &str, bytes: Vec<u8>) -> Result<Self, String> {
        let mut symbols = Symbols::default();
        symbols.add_elf(&bytes)?;
        dwarf(&bytes)?;
        Ok(Self { name: name.to_owned(), symbols, elf: bytes })
    }

    pub(crate) fn of_map(name: &str, text: &str) -> Result<Self, String> {
        let mut symbols = Symbols::default();
        symbols.add_map(text)?;
        Ok(Self { name: name.to_owned(), symbols, elf: Vec::new() })
    }

    pub(crate) fn of_pairs(name: &str, pairs: &[(u64, String)]) -> Self {
        let mut symbols = Symbols::default();
        symbols.add_pairs(pairs);
        Self { name: name.to_owned(), symbols, elf: Vec::new() }
    }

    /// Add what was executed of it, and what was not.
    pub(crate) fn tell(&self, executed: &Executed, report: &mut Report) -> Result<(), String> {
        let dwarf = dwarf(&self.elf)?;
        for (function, number) in self.symbols.functions().iter().zip(1..) {
            let is_known = match &dwarf {
                Some(dwarf) => tell_lines(dwarf, function, executed, report)?,
                None => false,
            };
            if !is_known {
                let count = executed.at(function.start);
                let source = report.0.entry(self.name.clone()).or_default();
                source.functions.insert(function.name.clone(), (number, count));
                source.lines.insert(number, count);
            }
        }
        Ok(())
    }
}

/// Tells the lines of a function. Whether they are known.
fn tell_lines(
    dwarf: &Dwarf<'_>,
    function: &Function,
    executed: &Executed,
    report: &mut Report,
) -> Result<bool, String> {
    let ranges = dwarf.find_location_range(function.start, function.end).map_err(unreadable)?;
    let mut is_known = false;
    for (address, bytes, location) in ranges {
        let (Some(file), Some(line)) = (location.file, location.line) else { continue };
        // A range may begin in the function before.
        if line == 0 || bytes == 0 || address < function.start {
            continue;
        }
        let source = report.0.entry(file.to_owned()).or_default();
        if !is_known {
            is_known = true;
            let known = source.functions.entry(function.name.clone()).or_insert((line, 0));
            known.1 = known.1.max(executed.at(function.start));
        }
        // What the compiler has cut into several pieces was executed as often as the busiest of them.
        let hits = source.lines.entry(line).or_default();
        *hits = executed.at(address).max(*hits);
    }
    Ok(is_known)
}

fn unreadable(error: gimli::Error) -> String {
    format!("its DWARF cannot be read: {error}")
}

/// The debug information of an ELF file; `None`: it has none.
fn dwarf(elf: &[u8]) -> Result<Option<Dwarf<'_>>, String> {
    let Ok(file) = object::File::parse(elf) else { return Ok(None) };
    if file.section_by_name(".debug_line").is_none() {
        return Ok(None);
    }
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: gimli::SectionId| {
        let Some(section) = file.section_by_name(id.name()) else { return Ok(EndianSlice::new(&[], endian)) };
        match section.uncompressed_data() {
            Ok(Cow::Borrowed(data)) => Ok(EndianSlice::new(data, endian)),
            Ok(Cow::Owned(_)) | Err(_) => Err(format!("its section {} is compressed", id.name())),
        }
    };
    let dwarf = gimli::Dwarf::load(section)?;
    Context::from_dwarf(dwarf).map(Some).map_err(unreadable)
}

impl Report {
    /// The tracefile.
    pub(crate) fn text(&self) -> String {
        let mut text = "TN:\n".to_owned();
        for (file, Source { functions, lines }) in &self.0 {
            text += &format!("SF:{file}\n");
            for (name, (line, _)) in functions {
                text += &format!("FN:{line},{name}\n");
            }
            for (name, (_, count)) in functions {
                text += &format!("FNDA:{count},{name}\n");
            }
            let hit = functions.values().filter(|(_, count)| *count > 0).count();
            text += &format!("FNF:{}\nFNH:{hit}\n", functions.len());
            for (line, count) in lines {
                text += &format!("DA:{line},{count}\n");
            }
            let hit = lines.values().filter(|count| **count > 0).count();
            text += &format!("LF:{}\nLH:{hit}\nend_of_record\n", lines.len());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    #[test]
    fn functions_without_lines_are_told_by_their_order() {
        let mut counts = Counts::default();
        counts.add(0x1000, 8);
        counts.add(0x1000, 8);
        // In the middle of it, but not from its beginning.
        counts.add(0x2004, 4);
        let pairs = [(0x1000, "main".to_owned()), (0x2000, "half".to_owned()), (0x3000, "none".to_owned())];
        let mut report = Report::default();
        Image::of_pairs("guest", &pairs).tell(&counts.by_address(), &mut report).unwrap();
        assert_eq!(
            report.text(),
            "TN:\nSF:guest\nFN:2,half\nFN:1,main\nFN:3,none\nFNDA:0,half\nFNDA:2,main\nFNDA:0,none\nFNF:3\nFNH:1\n\
             DA:1,2\nDA:2,0\nDA:3,0\nLF:3\nLH:1\nend_of_record\n"
        );
    }
}
