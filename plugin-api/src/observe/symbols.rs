//! Names of guest code, for observers that have files of it.

use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// How far a symbol reaches of which nothing is known but where it begins, if no other follows.
const REACH: u64 = 1 << 20;

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, as the file has it.
    pub name: String,
    /// Virtual address of its first byte.
    pub start: u64,
    /// Of the first byte behind it.
    pub end: u64,
    /// Which of the files it is from: 0 for the first that was added.
    pub file: usize,
}

/// Functions by address. Of several at one address there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Sorted, no two at one address.
    functions: Vec<Function>,
    files: usize,
}

impl Symbols {
    /// Add the functions of an ELF file. Returns how many there are.
    ///
    /// # Errors
    /// It is no ELF file, or has no symbols.
    pub fn add_elf(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let file = object::File::parse(bytes).map_err(|error| format!("it is no ELF file: {error}"))?;
        let mut found = Vec::new();
        for symbol in file.symbols().filter(ObjectSymbol::is_definition) {
            let (Ok(name), Some(index)) = (symbol.name(), symbol.section_index()) else { continue };
            let Ok(section) = file.section_by_index(index) else { continue };
            let is_label = symbol.kind() == SymbolKind::Label || symbol.kind() == SymbolKind::Unknown;
            let is_code = section.kind() == SectionKind::Text;
            // Local labels and mapping symbols ("$x") would hide the function around them.
            let has_name = !name.is_empty() && !name.starts_with(['.', '$']);
            let end = section.address().saturating_add(section.size());
            // What is behind the code is no function, but marks its end: `_etext`.
            let is_code = is_code && symbol.address() < end;
            if has_name && is_code && (symbol.kind() == SymbolKind::Text || is_label) {
                let reach =
                    if symbol.size() > 0 { symbol.address().saturating_add(symbol.size()) } else { end };
                found.push((symbol.address(), symbol.kind() != SymbolKind::Text, name.to_owned(), reach));
            }
        }
        match found.is_empty() {
            true => Err("it has no symbols: it was stripped".to_owned()),
            false => Ok(self.add(found)),
        }
    }

    /// Add the functions of a `System.map`, lines of an address, a letter and a name. Returns how many there are.
    ///
    /// # Errors
    /// The line that is none.
    pub fn add_map(&mut self, text: &str) -> Result<usize, String> {
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let (Some(address), Some(letter), Some(name)) = (address, words.next(), words.next()) else {
                return Err(format!("line {}: no address, letter and name: {line:?}", number + 1));
            };
            if matches!(letter, "t" | "T" | "w" | "W") && !name.starts_with(['.', '$']) {
                found.push((address, false, name.to_owned(), address.saturating_add(REACH)));
            }
        }
        Ok(self.add(found))
    }

    /// Add functions of which only their addresses are known, as [`super::MachineDesc::symbols`] has them. Returns how
    /// many there are.
    pub fn add_pairs(&mut self, pairs: &[(u64, String)]) -> usize {
        let found = pairs.iter().map(|(at, name)| (*at, false, name.clone(), at.saturating_add(REACH)));
        self.add(found.collect())
    }

    /// Address, whether it may be no function, name, and how far it reaches at most.
    fn add(&mut self, mut found: Vec<(u64, bool, String, u64)>) -> usize {
        found.sort();
        found.dedup_by_key(|symbol| symbol.0);
        let file = self.files;
        self.files += 1;
        let nexts: Vec<u64> = found.iter().skip(1).map(|symbol| symbol.0).chain([u64::MAX]).collect();
        let count = found.len();
        let functions = found.into_iter().zip(nexts).map(|((start, _, name, reach), next)| Function {
            name,
            start,
            end: reach.min(next),
            file,
        });
        self.functions.extend(functions);
        self.functions.sort_by_key(|function| (function.start, function.file));
        self.functions.dedup_by_key(|function| function.start);
        count
    }

    /// All of them, by address.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The place in [`Symbols::functions`] of the one that an address lies in.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<usize> {
        let index = self.functions.partition_point(|function| function.start <= address).checked_sub(1)?;
        (address < self.functions[index].end).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_and_addresses_are_found() {
        let mut symbols = Symbols::default();
        let map = "0000000000001000 T _start\n0000000000001000 t alias\n0000000000001010 D data\n\
                   0000000000001020 t main\n";
        assert_eq!(symbols.add_map(map), Ok(2));
        let name = |address| symbols.find(address).map(|index| symbols.functions()[index].name.as_str());
        assert_eq!((name(0xfff), name(0x1000), name(0x101f)), (None, Some("_start"), Some("_start")));
        assert_eq!((name(0x1020), name(0x1020 + REACH)), (Some("main"), None));
        assert!(symbols.clone().add_map("hello\n").unwrap_err().starts_with("line 1:"));
    }

    /// An ELF file whose symbols, name, address and type, are of 8 bytes of code at 0x1000.
    fn elf(symbols: &[(&str, u64, u8)]) -> Vec<u8> {
        let (mut strings, mut table) = (vec![0], vec![0; 24]);
        for (name, address, kind) in symbols {
            table.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            table.extend([*kind, 0, 1, 0]);
            table.extend(address.to_le_bytes());
            table.extend([0; 8]);
            strings.extend(name.bytes().chain([0]));
        }
        let mut file = vec![0; 64];
        let mut section = |kind: u32, flags: u64, address: u64, bytes: &[u8], link: u32, entry: u64| {
            let words = [flags, address, file.len() as u64, bytes.len() as u64];
            file.extend(bytes);
            let words = [0_u32.to_le_bytes(), kind.to_le_bytes()].concat().into_iter().chain(le(&words));
            let ends = [link.to_le_bytes(), 0_u32.to_le_bytes()].concat().into_iter().chain(le(&[1, entry]));
            words.chain(ends).collect::<Vec<u8>>()
        };
        let headers = [
            vec![0; 64],
            section(1, 6, 0x1000, &[0; 8], 0, 0),
            section(2, 0, 0, &table, 3, 24),
            section(3, 0, 0, &strings, 0, 0),
        ];
        file[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0");
        let at = file.len() as u64;
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 3, 0]);
        file.extend(headers.concat());
        file
    }

    fn le(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn functions_and_labels_of_code_are_read_but_not_its_end() {
        let mut symbols = Symbols::default();
        let file =
            elf(&[("main", 0x1000, 2), ("$x", 0x1000, 0), ("table", 0x1002, 1), ("label", 0x1004, 0x10)]);
        assert_eq!(symbols.add_elf(&file), Ok(2));
        let names: Vec<_> = symbols.functions().iter().map(|f| (f.name.as_str(), f.start, f.end)).collect();
        assert_eq!(names, [("main", 0x1000, 0x1004), ("label", 0x1004, 0x1008)]);
        let ended = elf(&[("main", 0x1000, 2), ("_etext", 0x1008, 0x10)]);
        assert_eq!(Symbols::default().add_elf(&ended), Ok(1));
    }

    #[test]
    fn the_first_file_that_names_an_address_counts() {
        let mut symbols = Symbols::default();
        symbols.add_pairs(&[(0x10, "a".into()), (0x20, "b".into())]);
        symbols.add_pairs(&[(0x20, "c".into()), (0x30, "d".into())]);
        let names: Vec<_> = symbols.functions().iter().map(|f| (f.name.as_str(), f.start, f.file)).collect();
        assert_eq!(names, [("a", 0x10, 0), ("b", 0x20, 0), ("d", 0x30, 1)]);
        assert!(Symbols::default().add_elf(b"\x7fELF").is_err());
    }
}
