//! Named sections of the machine's state, written field by field.
//!
//! A section is a state record of the device ABI: the host's own state has the same form as a device's, so that one
//! reader and one comparison serve both. Names say what a person would: device ids of the board and names of the
//! device's descriptor, never an index.

use reprise_abi::state::{self, Reader, StateError, Value, Writer};
use std::collections::BTreeMap;

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

/// Why a section cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section \"{section}\": {what}")]
pub struct SectionError {
    /// Its name.
    pub section: String,
    /// What is wrong, with the field's name.
    pub what: String,
}

/// The fields of a section, each to be taken exactly once. Its content is hostile.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    section: &'a str,
    left: BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(section: &'a str, record: &'a [u8]) -> Result<Self, SectionError> {
        let fail = |error: StateError| SectionError { section: section.to_owned(), what: error.to_string() };
        let reader = Reader::parse(record).map_err(fail)?;
        reader.at_most(VERSION).map_err(fail)?;
        Ok(Fields { section, left: reader.fields().collect() })
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> SectionError {
        SectionError { section: self.section.to_owned(), what: what.into() }
    }

    /// A field holds what it cannot.
    pub(crate) fn impossible(&self, name: &str) -> SectionError {
        self.error(format!("field \"{name}\" holds an impossible value"))
    }

    /// The names that are left and begin so, without that beginning.
    pub(crate) fn names(&self, prefix: &str) -> Vec<&'a str> {
        self.left.keys().filter_map(|name| name.strip_prefix(prefix)).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, StateError>,
    ) -> Result<T, SectionError> {
        let value =
            self.left.remove(name).ok_or_else(|| self.error(format!("field \"{name}\" is missing")))?;
        read(value).map_err(|error| self.error(error.in_field(name).to_string()))
    }

    pub(crate) fn u64(&mut self, name: &str) -> Result<u64, SectionError> {
        self.take(name, |value| value.uint())
    }

    pub(crate) fn u32(&mut self, name: &str) -> Result<u32, SectionError> {
        let value = self.u64(name)?;
        u32::try_from(value).map_err(|_| self.impossible(name))
    }

    pub(crate) fn bool(&mut self, name: &str) -> Result<bool, SectionError> {
        self.take(name, |value| value.bool())
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<&'a str, SectionError> {
        self.take(name, |value| value.text())
    }

    pub(crate) fn bytes(&mut self, name: &str) -> Result<&'a [u8], SectionError> {
        self.take(name, |value| value.bytes())
    }

    pub(crate) fn array<const N: usize>(&mut self, name: &str) -> Result<[u8; N], SectionError> {
        let bytes = self.bytes(name)?;
        bytes.try_into().map_err(|_| self.error(format!("field \"{name}\" has not {N} bytes")))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), SectionError> {
        match self.left.keys().next() {
            Some(name) => Err(self.error(format!("field \"{name}\" is unknown"))),
            None => Ok(()),
        }
    }
}
