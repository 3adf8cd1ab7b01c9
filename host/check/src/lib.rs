//! The validator of device plugins: `reprise plugin check`.
//!
//! A device is driven through its ABI, without a machine, by steps that follow from a seed: `script` and `rings`
//! make them, `subject` does them to a device in a `world`, and `compare` says where two plays of the same steps
//! differ. The tests are in `parts`, each in a `process` of its own; `runner` starts them, `rule` has what they
//! can find. The rules are explained in `docs/plugins/rules.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the checker is a host process: it starts others, with a time limit, and reads files"
)]

mod compare;
mod disk;
mod elf;
mod finding;
mod parts;
mod phrases;
mod process;
mod progress;
mod report;
mod rings;
mod rule;
mod runner;
mod script;
mod session;
mod settings;
mod subject;
mod table;
mod watch;
mod world;

pub use finding::Finding;
pub use phrases::PhrasesError;
pub use process::{Launcher, serve};
pub use report::{DeviceReport, Report, Status, TestReport};
pub use rule::{RULES, Rule, Text};
pub use runner::{CheckError, Target, check};
pub use settings::{PhraseFile, Settings, SettingsError, test as known_test};
