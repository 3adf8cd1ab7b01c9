//! What a device's state records look like, as part of its descriptor. JSON, with the rules of [`crate::desc`]: fields
//! may be added with a default. Words stand where an enum would, so that a word of a later version can be read.

mod compare;

pub use compare::{Change, Unsaid, Verdict, compare};

use serde::{Deserialize, Serialize};

/// The fields of a state record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateSchema {
    /// In the order in which they are written.
    pub fields: Vec<StateField>,
}

/// A saved field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateField {
    /// Its name in the record.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub ty: StateType,
    /// The state version from which on records have it; `None`: all have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u32>,
    /// What it becomes when an older record is read: for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// The type of a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateType {
    /// `bytes`, `uint`, `int`, `bool`, `text`, `seq` or `record`, as in the record; empty: not said.
    pub kind: String,
    /// Of an integer: what the device can hold. Records may have any width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Of bytes and sequences: how many there always are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// Of bytes and sequences: how many there are at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Of a sequence: the type of all elements, or, if there are several, of each by its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<StateType>,
    /// Of a record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<StateField>,
    /// Of text: what it may be; empty: anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
}

/// How deep a type is described. A type that contains itself has no end.
pub const MAX_TYPE_DEPTH: u8 = 8;

impl StateField {
    /// A field that every record has.
    #[must_use]
    pub fn new(name: &str, ty: StateType) -> Self {
        Self { name: name.to_owned(), ty, since: None, default: None }
    }

    /// Only records from state version `since` on have it; from others it becomes `default`.
    #[must_use]
    pub fn since(self, since: u32, default: &str) -> Self {
        Self { since: Some(since), default: Some(default.to_owned()), ..self }
    }
}

impl StateType {
    /// A type without parts.
    #[must_use]
    pub fn plain(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// `uint` or `int` of so many bits.
    #[must_use]
    pub fn integer(kind: &str, bits: u32) -> Self {
        Self { bits: Some(bits), ..Self::plain(kind) }
    }

    /// One of these.
    #[must_use]
    pub fn variants(names: &[&str]) -> Self {
        Self { variants: names.iter().map(|name| (*name).to_owned()).collect(), ..Self::plain("text") }
    }

    /// A sequence, if there is room to say of what.
    #[must_use]
    pub fn seq(room: u8, items: impl FnOnce(u8) -> Vec<Self>) -> Self {
        room.checked_sub(1)
            .map_or_else(Self::default, |room| Self { items: items(room), ..Self::plain("seq") })
    }

    /// A nested record, if there is room to say of what.
    #[must_use]
    pub fn record(room: u8, fields: impl FnOnce(u8) -> Vec<StateField>) -> Self {
        room.checked_sub(1)
            .map_or_else(Self::default, |room| Self { fields: fields(room), ..Self::plain("record") })
    }

    /// Always so many.
    #[must_use]
    pub fn of_len(self, len: u64) -> Self {
        Self { len: Some(len), ..self }
    }

    /// So many at most.
    #[must_use]
    pub fn up_to(self, max: u64) -> Self {
        Self { max: Some(max), ..self }
    }

    /// In a few words: `4 × uint 16`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let count = match (self.len, self.max) {
            (Some(len), _) => format!("{len} × "),
            (None, Some(max)) => format!("up to {max} × "),
            (None, None) => String::new(),
        };
        match self.kind.as_str() {
            "" => "…".to_owned(),
            "bytes" => format!("{count}bytes"),
            "seq" if self.items.len() == 1 => {
                let any = if count.is_empty() { "any number × " } else { &count };
                format!("{any}{}", self.items[0].in_words())
            }
            "seq" => {
                let items: Vec<String> = self.items.iter().map(Self::in_words).collect();
                format!("({})", items.join(", "))
            }
            "text" if !self.variants.is_empty() => self.variants.join(" or "),
            kind => self.bits.map_or_else(|| kind.to_owned(), |bits| format!("{kind} {bits}")),
        }
    }

    /// The record that this is, or that each element is.
    #[must_use]
    pub fn inner_fields(&self) -> &[StateField] {
        match self.items.as_slice() {
            [item] => item.inner_fields(),
            _ => &self.fields,
        }
    }
}
