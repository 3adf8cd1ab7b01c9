//! Named sections of the machine's state, as bytes.

/// The bytes of one section, written field by field: integers little-endian, byte strings with their length.
#[derive(Debug, Default)]
pub(crate) struct Section(Vec<u8>);

impl Section {
    pub(crate) fn u64(&mut self, value: u64) -> &mut Section {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Section {
        self.u64(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}
