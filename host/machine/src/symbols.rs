//! Names of guest code, for messages and observers.

use crate::boot::Symbol;

/// How far past a symbol an address may be and still be called by its name: beyond it the name misleads.
const REACH: u64 = 1 << 20;

/// Symbols of the boot images, by address.
#[derive(Debug, Default)]
pub(crate) struct Symbols(Vec<Symbol>);

impl Symbols {
    /// Of one address, the last name counts.
    pub(crate) fn new(symbols: &[Symbol]) -> Symbols {
        let mut sorted = symbols.to_vec();
        sorted.sort();
        Symbols(sorted)
    }

    /// Those of functions, by address.
    pub(crate) fn functions(&self) -> Vec<(u64, String)> {
        let functions = self.0.iter().filter(|symbol| symbol.is_function);
        functions.map(|symbol| (symbol.address, symbol.name.clone())).collect()
    }

    /// ` <name+0x10>` for an address within a known function, otherwise nothing.
    pub(crate) fn name(&self, address: u64) -> String {
        let below = self.0.partition_point(|symbol| symbol.address <= address).checked_sub(1);
        match below.map(|index| &self.0[index]).map(|symbol| (&symbol.name, address - symbol.address)) {
            Some((name, 0)) => format!(" <{name}>"),
            Some((name, offset)) if offset < REACH => format!(" <{name}+{offset:#x}>"),
            Some(_) | None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(address: u64, name: &str, is_function: bool) -> Symbol {
        Symbol { address, name: name.into(), is_function }
    }

    #[test]
    fn addresses_are_named_by_the_symbol_before_them() {
        let symbols = Symbols::new(&[symbol(0x2000, "main", true), symbol(0x1000, "_start", true)]);
        assert_eq!(symbols.name(0x1000), " <_start>");
        assert_eq!(symbols.name(0x1ffe), " <_start+0xffe>");
        assert_eq!(symbols.name(0x2004), " <main+0x4>");
        assert_eq!(symbols.name(0xfff), "");
        assert_eq!(symbols.name(0x2000 + REACH), "");
    }

    #[test]
    fn data_has_names_but_is_no_function() {
        let symbols = Symbols::new(&[symbol(0x2000, "_bss", false), symbol(0x1000, "_start", true)]);
        assert_eq!(symbols.name(0x2000), " <_bss>");
        assert_eq!(symbols.functions(), [(0x1000, "_start".to_owned())]);
    }
}
