//! Named sections of the machine's state, written field by field.
//!
//! A section is a state record of the device ABI: the host's own state has the same form as a device's, so that one
//! reader and one comparison serve both. Names say what a person would: device ids of the board and names of the
//! device's descriptor, never an index.

use reprise_abi::state::{self, Writer};

/// Version of the host's own sections.
const VERSION: u32 = 1;

/// The fields of one section. A name may be given once.
#[derive(Debug)]
pub(crate) struct Section<'a, 'w>(&'a mut Writer<'w>);

/// The bytes of a section.
pub(crate) fn encode(fields: impl FnOnce(&mut Section<'_, '_>)) -> Vec<u8> {
    state::encode(VERSION, |writer| fields(&mut Section(writer)))
}

impl Section<'_, '_> {
    pub(crate) fn u64(&mut self, name: &str, value: u64) -> &mut Self {
        self.0.field(name).uint(value.to_le_bytes());
        self
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) -> &mut Self {
        self.0.field(name).bool(value);
        self
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.field(name).text(value);
        self
    }

    pub(crate) fn bytes(&mut self, name: &str, value: impl IntoIterator<Item = u8>) -> &mut Self {
        self.0.field(name).bytes(value);
        self
    }
}
