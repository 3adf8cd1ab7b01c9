//! The state record: named, typed fields, so that a snapshot can be compared field by field without the plugin.
//!
//! ```text
//! record := u32 state_version, u32 count, count × field
//! field  := u16 name_len, name, u8 kind, u32 len, len bytes
//! ```
//! All integers are little-endian. Kind 0 is raw bytes, 1 an unsigned and 2 a signed little-endian integer, 3 a
//! boolean, 4 UTF-8 text, 5 a sequence (`u32 count`, then `count × (u8 kind, u32 len, bytes)`), 6 a nested record
//! without its version (`u32 count`, fields).
//!
//! Writer and reader stand side by side here. The reader takes its input for hostile: every length is checked against
//! what is really there before anything is allocated, nesting is bounded, and a field that is missing, unknown or
//! there twice is an error that names it.

use core::fmt;
use std::collections::BTreeMap;

/// How deep sequences and records may nest.
pub const MAX_DEPTH: u8 = 16;
/// Longest record in bytes: what a device may hold besides guest RAM and disks.
pub const MAX_RECORD_BYTES: usize = 256 << 20;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Raw bytes.
    Bytes = 0,
    /// An unsigned integer of 1, 2, 4 or 8 bytes.
    Uint = 1,
    /// A signed integer of 1, 2, 4 or 8 bytes.
    Int = 2,
    /// A boolean.
    Bool = 3,
    /// UTF-8 text.
    Text = 4,
    /// A sequence of values.
    Seq = 5,
    /// Named fields.
    Record = 6,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Bytes, Self::Uint, Self::Int, Self::Bool, Self::Text, Self::Seq, Self::Record];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Uint => "an unsigned integer",
            Self::Int => "a signed integer",
            Self::Bool => "a boolean",
            Self::Text => "text",
            Self::Seq => "a sequence",
            Self::Record => "a record",
        })
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes end too early.
    #[error("the data ends in the middle of a value")]
    Truncated,
    /// The bytes do not end with the record.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// The whole is longer than [`MAX_RECORD_BYTES`].
    #[error("{0} bytes are more than a state record may have")]
    TooLong(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// An unknown kind of value.
    #[error("unknown kind of value {0}")]
    UnknownKind(u8),
    /// A boolean that is neither 0 nor 1, an integer of an impossible width, or text that is not UTF-8.
    #[error("malformed value: not {0}")]
    Malformed(Kind),
    /// The record lacks this field.
    #[error("missing")]
    Missing,
    /// The device has no such field.
    #[error("unknown field")]
    Unknown,
    /// The field is there twice.
    #[error("there twice")]
    Duplicate,
    /// Another kind of value than the device holds there.
    #[error("expected {expected}, found {found}")]
    Mismatch {
        /// What the device holds.
        expected: Kind,
        /// What the record has.
        found: Kind,
    },
    /// A number that the device's field cannot hold.
    #[error("{0} is out of range")]
    OutOfRange(i128),
    /// A list of the wrong length.
    #[error("expected {expected} elements, found {found}")]
    Length {
        /// What the device holds.
        expected: usize,
        /// What the record has.
        found: usize,
    },
    /// Text that names no variant.
    #[error("unknown variant {0:?}")]
    Variant(String),
    /// Written by a newer device.
    #[error("state version {found} is newer than {supported}, the newest this device knows")]
    Version {
        /// The record's.
        found: u32,
        /// The device's.
        supported: u32,
    },
    /// The device's own check refused the state.
    #[error("{0}")]
    Refused(String),
}

/// Why a record cannot be read, and at which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError {
    /// `regs[2].enable`; empty for the record as a whole.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

impl StateError {
    /// The same, one field further out.
    #[must_use]
    pub fn in_field(mut self, name: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{joint}{}", self.path);
        self
    }

    /// The same, one sequence further out.
    #[must_use]
    pub fn in_element(self, index: usize) -> Self {
        self.in_field(&format!("[{index}]"))
    }
}

impl From<Problem> for StateError {
    fn from(problem: Problem) -> Self {
        Self { path: String::new(), problem }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}", self.problem),
            path => write!(f, "field `{path}`: {}", self.problem),
        }
    }
}

impl core::error::Error for StateError {}

/// Writes the fields of one record.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    count_at: usize,
}

/// Writes one value.
#[derive(Debug)]
pub struct ValueWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// Writes the elements of one sequence.
#[derive(Debug)]
pub struct SeqWriter<'a> {
    out: &'a mut Vec<u8>,
    count_at: usize,
}

/// The bytes of a record.
pub fn encode(version: u32, fields: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = version.to_le_bytes().to_vec();
    put_record(&mut out, fields);
    out
}

fn put_record(out: &mut Vec<u8>, fields: impl FnOnce(&mut Writer<'_>)) {
    let count_at = out.len();
    out.extend([0; 4]);
    fields(&mut Writer { out, count_at });
}

fn count_one(out: &mut [u8], at: usize) {
    let count: &mut [u8; 4] = out[at..].first_chunk_mut().expect("the count was reserved");
    *count = (u32::from_le_bytes(*count) + 1).to_le_bytes();
}

impl Writer<'_> {
    /// The next field; its value must be written.
    ///
    /// # Panics
    /// The name is longer than 65535 bytes.
    pub fn field(&mut self, name: &str) -> ValueWriter<'_> {
        count_one(self.out, self.count_at);
        let len = u16::try_from(name.len()).expect("a field's name is an identifier");
        self.out.extend(len.to_le_bytes());
        self.out.extend(name.as_bytes());
        ValueWriter { out: self.out }
    }
}

impl SeqWriter<'_> {
    /// The next element; its value must be written.
    pub fn item(&mut self) -> ValueWriter<'_> {
        count_one(self.out, self.count_at);
        ValueWriter { out: self.out }
    }
}

impl ValueWriter<'_> {
    fn put(self, kind: Kind, content: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(kind as u8);
        let len_at = self.out.len();
        self.out.extend([0; 4]);
        content(self.out);
        let len = u32::try_from(self.out.len() - len_at - 4).expect("a value is shorter than 4 GiB");
        self.out[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Raw bytes.
    pub fn bytes(self, bytes: impl IntoIterator<Item = u8>) {
        self.put(Kind::Bytes, |out| out.extend(bytes));
    }

    /// An unsigned integer as `N` (1, 2, 4 or 8) little-endian bytes.
    pub fn uint<const N: usize>(self, le: [u8; N]) {
        self.put(Kind::Uint, |out| out.extend(le));
    }

    /// A signed integer as `N` (1, 2, 4 or 8) little-endian bytes.
    pub fn int<const N: usize>(self, le: [u8; N]) {
        self.put(Kind::Int, |out| out.extend(le));
    }

    /// A boolean.
    pub fn bool(self, value: bool) {
        self.put(Kind::Bool, |out| out.push(u8::from(value)));
    }

    /// Text.
    pub fn text(self, text: &str) {
        self.put(Kind::Text, |out| out.extend(text.as_bytes()));
    }

    /// A sequence.
    pub fn seq(self, items: impl FnOnce(&mut SeqWriter<'_>)) {
        self.put(Kind::Seq, |out| {
            let count_at = out.len();
            out.extend([0; 4]);
            items(&mut SeqWriter { out, count_at });
        });
    }

    /// A nested record.
    pub fn record(self, fields: impl FnOnce(&mut Writer<'_>)) {
        self.put(Kind::Record, |out| put_record(out, fields));
    }
}

/// The fields of one record, checked and found by name.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    version: u32,
    fields: BTreeMap<&'a str, Value<'a>>,
}

/// One value of a record.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    version: u32,
    depth: u8,
    kind: Kind,
    bytes: &'a [u8],
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Problem> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Problem::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Problem::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    fn name(&mut self) -> Result<&'a str, Problem> {
        let len = u16::from_le_bytes(self.array()?);
        str::from_utf8(self.take(usize::from(len))?).map_err(|_| Problem::Malformed(Kind::Text))
    }

    fn value(&mut self, version: u32, depth: u8) -> Result<Value<'a>, Problem> {
        let [kind] = self.array()?;
        let kind = Kind::from_byte(kind).ok_or(Problem::UnknownKind(kind))?;
        let len = usize::try_from(self.u32()?).map_err(|_| Problem::Truncated)?;
        Ok(Value { version, depth, kind, bytes: self.take(len)? })
    }

    fn end(&self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::Trailing(self.0.len())) }
    }
}

impl<'a> Reader<'a> {
    /// Read a whole record.
    ///
    /// # Errors
    /// Anything malformed on the outermost level; nested values are checked when they are read.
    pub fn parse(record: &'a [u8]) -> Result<Self, StateError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(Problem::TooLong(record.len()).into());
        }
        let mut input = Input(record);
        let version = input.u32()?;
        Self::parse_fields(input, version, 0)
    }

    fn parse_fields(mut input: Input<'a>, version: u32, depth: u8) -> Result<Self, StateError> {
        let mut fields = BTreeMap::new();
        for _ in 0..input.u32()? {
            let name = input.name()?;
            let value =
                input.value(version, depth).map_err(|problem| StateError::from(problem).in_field(name))?;
            if fields.insert(name, value).is_some() {
                return Err(StateError::from(Problem::Duplicate).in_field(name));
            }
        }
        input.end()?;
        Ok(Self { version, fields })
    }

    /// The version with which the outermost record was written.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All fields, ordered by name.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.fields.iter().map(|(name, value)| (*name, *value))
    }

    /// The field `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn field(&self, name: &str) -> Result<Value<'a>, StateError> {
        self.fields.get(name).copied().ok_or_else(|| StateError::from(Problem::Missing).in_field(name))
    }

    /// Refuse every field but these.
    ///
    /// # Errors
    /// There is another one.
    pub fn only(&self, known: &[&str]) -> Result<(), StateError> {
        match self.fields.keys().find(|name| !known.contains(name)) {
            Some(name) => Err(StateError::from(Problem::Unknown).in_field(name)),
            None => Ok(()),
        }
    }

    /// Refuse a record of a newer version than `supported`.
    ///
    /// # Errors
    /// It is newer.
    pub fn at_most(&self, supported: u32) -> Result<(), StateError> {
        if self.version > supported {
            return Err(Problem::Version { found: self.version, supported }.into());
        }
        Ok(())
    }
}

impl<'a> Value<'a> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    fn expect(&self, expected: Kind) -> Result<&'a [u8], StateError> {
        if self.kind == expected {
            Ok(self.bytes)
        } else {
            Err(Problem::Mismatch { expected, found: self.kind }.into())
        }
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// It is something else.
    pub fn bytes(&self) -> Result<&'a [u8], StateError> {
        self.expect(Kind::Bytes)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn uint(&self) -> Result<u64, StateError> {
        let bytes = self.expect(Kind::Uint)?;
        Ok(widen(bytes, 0).map(u64::from_le_bytes).ok_or(Problem::Malformed(Kind::Uint))?)
    }

    /// A signed integer.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn int(&self) -> Result<i64, StateError> {
        let bytes = self.expect(Kind::Int)?;
        let fill = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
        Ok(widen(bytes, fill).map(i64::from_le_bytes).ok_or(Problem::Malformed(Kind::Int))?)
    }

    /// A boolean.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn bool(&self) -> Result<bool, StateError> {
        match self.expect(Kind::Bool)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Problem::Malformed(Kind::Bool).into()),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn text(&self) -> Result<&'a str, StateError> {
        Ok(str::from_utf8(self.expect(Kind::Text)?).map_err(|_| Problem::Malformed(Kind::Text))?)
    }

    fn deeper(&self) -> Result<u8, Problem> {
        if self.depth < MAX_DEPTH { Ok(self.depth + 1) } else { Err(Problem::TooDeep) }
    }

    /// The elements of a sequence.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn seq(&self) -> Result<Vec<Value<'a>>, StateError> {
        let mut input = Input(self.expect(Kind::Seq)?);
        let depth = self.deeper()?;
        let count = input.u32()? as usize;
        // An element takes five bytes at least: a count beyond that is a lie, not an allocation.
        if count > input.0.len() / 5 {
            return Err(Problem::Truncated.into());
        }
        let mut items = Vec::with_capacity(count);
        for index in 0..count {
            let item = input.value(self.version, depth);
            items.push(item.map_err(|problem| StateError::from(problem).in_element(index))?);
        }
        input.end()?;
        Ok(items)
    }

    /// The fields of a nested record.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn record(&self) -> Result<Reader<'a>, StateError> {
        Reader::parse_fields(Input(self.expect(Kind::Record)?), self.version, self.deeper()?)
    }
}

/// A little-endian integer of 1, 2, 4 or 8 bytes, filled up.
fn widen(bytes: &[u8], fill: u8) -> Option<[u8; 8]> {
    let mut out = [fill; 8];
    matches!(bytes.len(), 1 | 2 | 4 | 8).then(|| out[..bytes.len()].copy_from_slice(bytes))?;
    Some(out)
}

/// Every leaf of a record as `(path, text)`, in order of the names: for comparing and printing states without the
/// plugin. Long bytes are shown by length, first bytes and a hash: equal text does not quite prove equal bytes.
///
/// # Errors
/// The record is malformed.
pub fn flatten(record: &[u8]) -> Result<Vec<(String, String)>, StateError> {
    let mut out = Vec::new();
    flatten_record(&Reader::parse(record)?, "", &mut out)?;
    Ok(out)
}

fn flatten_record(
    record: &Reader<'_>,
    prefix: &str,
    out: &mut Vec<(String, String)>,
) -> Result<(), StateError> {
    record.fields().try_for_each(|(name, value)| {
        flatten_value(value, format!("{prefix}{name}"), out).map_err(|error| error.in_field(name))
    })
}

fn flatten_value(value: Value<'_>, path: String, out: &mut Vec<(String, String)>) -> Result<(), StateError> {
    let text = match value.kind() {
        Kind::Record => return flatten_record(&value.record()?, &format!("{path}."), out),
        Kind::Seq => {
            let items = value.seq()?;
            out.push((format!("{path}.len"), items.len().to_string()));
            return items.into_iter().enumerate().try_for_each(|(index, item)| {
                let inner = flatten_value(item, format!("{path}[{index}]"), out);
                inner.map_err(|error| error.in_element(index))
            });
        }
        Kind::Bytes => show_bytes(value.bytes()?),
        Kind::Uint => format!("{:#x}", value.uint()?),
        Kind::Int => value.int()?.to_string(),
        Kind::Bool => value.bool()?.to_string(),
        Kind::Text => format!("{:?}", value.text()?),
    };
    out.push((path, text));
    Ok(())
}

fn show_bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let hex: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() <= SHOWN {
        return format!("{} bytes {hex}", bytes.len());
    }
    // FNV-1a: so that a difference behind what is shown is still seen.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    format!("{} bytes {hex}… fnv {hash:016x}", bytes.len())
}

/// The paths at which two records differ, with both values (`None`: not there). Empty only if they are equal.
///
/// # Errors
/// One of them is malformed.
pub fn diff(left: &[u8], right: &[u8]) -> Result<Vec<Difference>, StateError> {
    if left == right {
        return Ok(Vec::new());
    }
    let left_leaves: BTreeMap<_, _> = flatten(left)?.into_iter().collect();
    let mut right_leaves: BTreeMap<_, _> = flatten(right)?.into_iter().collect();
    let mut out = Vec::new();
    for (path, left) in left_leaves {
        let right = right_leaves.remove(&path);
        if right.as_ref() != Some(&left) {
            out.push(Difference { path, left: Some(left), right });
        }
    }
    out.extend(right_leaves.into_iter().map(|(path, right)| Difference {
        path,
        left: None,
        right: Some(right),
    }));
    if out.is_empty() {
        // Another order of fields, another version, or two long byte strings with the same hash.
        let text = |record: &[u8]| Some(format!("{} bytes in all", record.len()));
        out.push(Difference { path: String::new(), left: text(left), right: text(right) });
    }
    Ok(out)
}

/// One difference between two records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `regs[2].enable`.
    pub path: String,
    /// The value in the left record.
    pub left: Option<String>,
    /// The value in the right record.
    pub right: Option<String>,
}

#[cfg(test)]
mod tests;
