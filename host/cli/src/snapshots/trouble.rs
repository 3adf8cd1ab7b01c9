//! What can be wrong with the files of a store, told with file, offset and reason.

use crate::failure::{Exit, Failure};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Content that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) file: PathBuf,
    /// Where in the file, if it is one place.
    pub(crate) offset: Option<u64>,
    pub(crate) what: String,
}

impl Damage {
    pub(super) fn new(file: &Path, offset: Option<u64>, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), offset, what: what.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{}: at byte {offset}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// Why something cannot be read or written.
#[derive(Debug)]
pub(super) enum Trouble {
    Damage(Damage),
    /// An object that a snapshot needs is in no pack.
    Missing(Damage),
    /// A later reprise wrote it.
    TooNew {
        file: PathBuf,
        format: u32,
        known: u32,
    },
    Io {
        file: PathBuf,
        action: &'static str,
        error: io::Error,
    },
}

impl Trouble {
    pub(super) fn damage(file: &Path, offset: Option<u64>, what: impl Into<String>) -> Self {
        Self::Damage(Damage::new(file, offset, what))
    }

    /// For `map_err`. `action`: "cannot …".
    pub(super) fn io(action: &'static str, file: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { file: file.to_owned(), action, error }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Damage(Damage { file, offset, what })
            | Trouble::Missing(Damage { file, offset, what }) => {
                let why = match offset {
                    Some(offset) => format!("at byte {offset}: {what}"),
                    None => what,
                };
                Self::new(Exit::Corrupt, "the snapshots are damaged").at(file.display()).note(why)
            }
            Trouble::TooNew { file, format, known } => {
                Self::new(Exit::Corrupt, "snapshot-too-new: a later reprise wrote this")
                    .at(file.display())
                    .note(format!("it has format {format}, this version reads up to format {known}"))
                    .help("use that version of reprise")
            }
            Trouble::Io { file, action, error } => Self::io(action, &error).at(file.display()),
        }
    }
}
