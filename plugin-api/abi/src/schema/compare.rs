//! Whether a new build of a device reads the records of an old one.
//!
//! The rules are those of the reader that `#[derive(DeviceState)]` writes: every field of a record must be known, every
//! field that the record's version has must be there, and a number must fit. What a description leaves out is not taken
//! for the same: it is not known.

use super::{MAX_TYPE_DEPTH, StateField, StateSchema, StateType};
use crate::desc::DeviceDesc;
use core::fmt;

/// The kinds of values that records have.
const KINDS: [&str; 7] = ["bytes", "uint", "int", "bool", "text", "seq", "record"];
/// The widest integer of a record.
const MOST_BITS: u32 = 64;

/// One difference between two builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `silence.beats`; empty: of the state as a whole.
    pub path: String,
    /// What it means, lower case, without a period.
    pub text: String,
    /// What becomes of old records.
    pub verdict: Verdict,
}

/// What a difference means to the records of the old build, and to those of one before it that the old one still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They are read as before.
    Fine,
    /// Whether all are read cannot be said: a build does not describe this part of its state.
    Unknown,
    /// Some are refused or misread.
    Breaks,
}

impl Verdict {
    /// In a word, for programs: `fine`, `unknown` or `breaks`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unknown => "unknown",
            Self::Breaks => "breaks",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.text),
            path => write!(f, "field `{path}`: {}", self.text),
        }
    }
}

/// Two builds that cannot be compared: this one does not describe its state. It was built before descriptors had that,
/// or implements `DeviceState` by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// The old one.
    Old,
    /// The new one.
    New,
}

/// What changed in the state of a device, in the order of the old one's fields.
///
/// # Errors
/// One of them does not say.
pub fn compare(old: &DeviceDesc, new: &DeviceDesc) -> Result<Vec<Change>, Unsaid> {
    let old_schema = old.state.as_ref().ok_or(Unsaid::Old)?;
    let new_schema = new.state.as_ref().ok_or(Unsaid::New)?;
    let mut all =
        Comparison { old_version: old.state_version, new_version: new.state_version, changes: Vec::new() };
    all.versions(old_schema, new_schema);
    all.fields("", &old_schema.fields, &new_schema.fields);
    Ok(all.changes)
}

struct Comparison {
    old_version: u32,
    new_version: u32,
    changes: Vec<Change>,
}

impl Comparison {
    fn breaks(&mut self, path: &str, text: String) {
        self.changes.push(Change { path: path.to_owned(), text, verdict: Verdict::Breaks });
    }

    fn is_fine(&mut self, path: &str, text: String) {
        self.changes.push(Change { path: path.to_owned(), text, verdict: Verdict::Fine });
    }

    fn is_unknown(&mut self, path: &str, text: String) {
        self.changes.push(Change { path: path.to_owned(), text, verdict: Verdict::Unknown });
    }

    fn versions(&mut self, old: &StateSchema, new: &StateSchema) {
        let Self { old_version, new_version, .. } = *self;
        if new_version < old_version {
            self.breaks("", format!("the state version went back from {old_version} to {new_version}"));
        } else if new_version == old_version && !may_be_same(&old.fields, &new.fields) {
            // Of the new records in the old build, where the version is what would say it.
            let why = "an older build must refuse new records by it";
            self.breaks(
                "",
                format!("the state changed, but its version is still {old_version}: raise it, for {why}"),
            );
        } else if new_version > old_version {
            self.is_fine("", format!("the state version went from {old_version} to {new_version}"));
        }
    }

    fn fields(&mut self, prefix: &str, old: &[StateField], new: &[StateField]) {
        for was in old {
            let path = format!("{prefix}{}", was.name);
            match new.iter().find(|field| field.name == was.name) {
                None => {
                    self.breaks(
                        &path,
                        "removed: records that have it are refused for an unknown field".to_owned(),
                    );
                }
                Some(is) => {
                    self.since(&path, was, is);
                    self.types(&path, &was.ty, &is.ty);
                }
            }
        }
        for is in new.iter().filter(|field| !old.iter().any(|was| was.name == field.name)) {
            self.added(&format!("{prefix}{}", is.name), is);
        }
    }

    fn added(&mut self, path: &str, field: &StateField) {
        let Self { old_version, new_version, .. } = *self;
        let next = old_version + 1;
        match field.since {
            None => self.breaks(
                path,
                format!("new, but without `since = {next}` and a default: records of version {old_version} lack it"),
            ),
            Some(since) if since <= old_version => self.breaks(
                path,
                format!("new, but as if there since version {since}: records of version {old_version} lack it"),
            ),
            Some(since) if since > new_version => self.breaks(
                path,
                format!("new since version {since}, but the state version is only {new_version}"),
            ),
            Some(since) => {
                let default = field.default.as_deref().unwrap_or("a default");
                self.is_fine(path, format!("new since version {since}: {default} in older records"));
            }
        }
    }

    fn since(&mut self, path: &str, was: &StateField, is: &StateField) {
        let (from, to) = (was.since.unwrap_or(0), is.since.unwrap_or(0));
        if to > from {
            let text = format!(
                "there since version {to} instead of {from}: what records before {to} hold is dropped"
            );
            self.breaks(path, text);
        } else if to < from {
            self.breaks(
                path,
                format!("records before version {from} lack it, but it is now expected in them"),
            );
        }
    }

    fn types(&mut self, path: &str, was: &StateType, is: &StateType) {
        if let Some((build, kind)) = undescribed(was, is) {
            let text = match kind {
                "" => format!(
                    "the {build} build does not say what it is: types are described {MAX_TYPE_DEPTH} deep"
                ),
                kind => {
                    format!("the {build} build says that it is \"{kind}\", which this version does not know")
                }
            };
            return self.is_unknown(path, text);
        }
        if was.kind != is.kind {
            let (was, is) = (was.in_words(), is.in_words());
            return self.breaks(path, format!("was {was}, is {is}"));
        }
        self.widths(path, was, is);
        self.lengths(path, was, is);
        self.variants(path, was, is);
        if was.kind == "seq" && (was.items.is_empty() || is.items.is_empty()) && is.len != Some(0) {
            let build = if is.items.is_empty() { "new" } else { "old" };
            self.is_unknown(path, format!("the {build} build does not say of what it is a sequence"));
        } else if was.items.len() == is.items.len() {
            let pair = is.items.len() > 1;
            for (index, (was, is)) in was.items.iter().zip(&is.items).enumerate() {
                let index = if pair { index.to_string() } else { String::new() };
                self.types(&format!("{path}[{index}]"), was, is);
            }
        } else {
            self.breaks(path, format!("was {}, is {}", was.in_words(), is.in_words()));
        }
        self.fields(&format!("{path}."), &was.fields, &is.fields);
    }

    fn widths(&mut self, path: &str, was: &StateType, is: &StateType) {
        match (was.bits, is.bits) {
            (Some(was), Some(is)) if is < was => {
                self.breaks(path, format!("narrowed from {was} to {is} bits: larger values are refused"));
            }
            (Some(was), Some(is)) if is > was => {
                self.is_fine(path, format!("widened from {was} to {is} bits"))
            }
            (Some(_), Some(_)) => {}
            (_, None) if is_integer(is) => {
                self.is_unknown(path, "the new build does not say how many bits it holds".to_owned());
            }
            // What holds everything holds what it was.
            (None, Some(bits)) if is_integer(is) && bits < MOST_BITS => {
                let text =
                    format!("is {}, and the old build does not say how many bits it was", is.in_words());
                self.is_unknown(path, format!("{text}: larger values than {bits} bits are refused"));
            }
            (None | Some(_), None) | (None, Some(_)) => {}
        }
    }

    fn lengths(&mut self, path: &str, was: &StateType, is: &StateType) {
        let at_most = |ty: &StateType| ty.len.or(ty.max).unwrap_or(u64::MAX);
        let fits = match is.len {
            Some(len) => was.len == Some(len),
            None => at_most(was) <= at_most(is),
        };
        if !fits {
            self.breaks(
                path,
                format!("was {}, is {}: other lengths are refused", was.in_words(), is.in_words()),
            );
        } else if (was.len, was.max) != (is.len, is.max) {
            self.is_fine(path, format!("was {}, is {}", was.in_words(), is.in_words()));
        }
    }

    fn variants(&mut self, path: &str, was: &StateType, is: &StateType) {
        if was.variants == is.variants || is.variants.is_empty() {
            return;
        }
        let gone: Vec<&str> =
            was.variants.iter().filter(|name| !is.variants.contains(name)).map(String::as_str).collect();
        if was.variants.is_empty() {
            self.breaks(path, format!("was any text, is only {}", is.in_words()));
        } else if gone.is_empty() {
            self.is_fine(path, format!("was {}, is {}", was.in_words(), is.in_words()));
        } else {
            self.breaks(path, format!("can no longer be {}", gone.join(" or ")));
        }
    }
}

/// A build, and its word for a type that cannot be compared.
fn undescribed<'a>(was: &'a StateType, is: &'a StateType) -> Option<(&'static str, &'a str)> {
    let both = [("new", is.kind.as_str()), ("old", was.kind.as_str())];
    both.into_iter().find(|(_, kind)| !KINDS.contains(kind))
}

fn is_integer(ty: &StateType) -> bool {
    matches!(ty.kind.as_str(), "uint" | "int")
}

/// Whether nothing that both say is another.
fn may_be_same(old: &[StateField], new: &[StateField]) -> bool {
    let (old, new) = (layout(old), layout(new));
    let pairs = old.iter().zip(&new);
    old.len() == new.len()
        && pairs.into_iter().all(|(was, is)| was.0 == is.0 && may_be_same_type(&was.1, &is.1))
}

fn may_be_same_type(was: &StateType, is: &StateType) -> bool {
    if undescribed(was, is).is_some_and(|(_, kind)| kind.is_empty()) {
        return true;
    }
    let bits = was.bits.is_none() || is.bits.is_none() || was.bits == is.bits;
    let unsaid = was.items.is_empty() || is.items.is_empty();
    let mut items = was.items.iter().zip(&is.items);
    bits && (&was.kind, was.len, was.max, &was.variants) == (&is.kind, is.len, is.max, &is.variants)
        && (unsaid || was.items.len() == is.items.len() && items.all(|(was, is)| may_be_same_type(was, is)))
        && may_be_same(&was.fields, &is.fields)
}

/// What records are made of: without what is only for people, and without what is only for reading older ones.
fn layout(fields: &[StateField]) -> Vec<(String, StateType)> {
    let plain = |field: &StateField| (field.name.clone(), without_defaults(&field.ty));
    let mut all: Vec<_> = fields.iter().map(plain).collect();
    // Fields are found by name.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn without_defaults(ty: &StateType) -> StateType {
    let fields = layout(&ty.fields).into_iter().map(|(name, ty)| StateField::new(&name, ty)).collect();
    StateType { items: ty.items.iter().map(without_defaults).collect(), fields, ..ty.clone() }
}

#[cfg(test)]
mod tests;
