//! Names of guest code, for messages.

/// How far past a symbol an address may be and still be called by its name: beyond it the name misleads.
const REACH: u64 = 1 << 20;

/// Symbols of the boot images, by address.
#[derive(Debug, Default)]
pub(crate) struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Of one address, the last name counts.
    pub(crate) fn new(symbols: &[(u64, String)]) -> Symbols {
        let mut sorted = symbols.to_vec();
        sorted.sort();
        Symbols(sorted)
    }

    /// All of them, by address.
    pub(crate) fn all(&self) -> &[(u64, String)] {
        &self.0
    }

    /// ` <name+0x10>` for an address within a known function, otherwise nothing.
    pub(crate) fn name(&self, address: u64) -> String {
        let below = self.0.partition_point(|(at, _)| *at <= address).checked_sub(1);
        match below.map(|index| &self.0[index]) {
            Some((at, name)) if address == *at => format!(" <{name}>"),
            Some((at, name)) if address - at < REACH => format!(" <{name}+{:#x}>", address - at),
            Some(_) | None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_named_by_the_symbol_before_them() {
        let symbols = Symbols::new(&[(0x2000, "main".into()), (0x1000, "_start".into())]);
        assert_eq!(symbols.name(0x1000), " <_start>");
        assert_eq!(symbols.name(0x1ffe), " <_start+0xffe>");
        assert_eq!(symbols.name(0x2004), " <main+0x4>");
        assert_eq!(symbols.name(0xfff), "");
        assert_eq!(symbols.name(0x2000 + REACH), "");
    }
}
