//! What a check is to do, as its TOML file says it.

use crate::{parts, rule::Rule};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use thiserror::Error;

/// The settings of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first seed.
    pub seed: u64,
    /// How many seeds, for each sort of script.
    pub seeds: u64,
    /// Steps of a script.
    pub steps: u32,
    /// How long one test may take.
    pub timeout: Duration,
    /// Rules whose findings do not count.
    pub rules_off: BTreeSet<String>,
    /// Tests that are not run.
    pub tests_off: BTreeSet<String>,
    /// Only this test, without those that it needs.
    pub only: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Options by kind, beside the defaults.
    pub options: BTreeMap<String, toml::Table>,
    /// Files of phrases, as the settings name them: whoever reads the settings reads them, too.
    pub phrase_files: Vec<String>,
    /// What was read.
    pub phrases: Vec<PhraseFile>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            seeds: 4,
            steps: 2500,
            timeout: Duration::from_secs(60),
            rules_off: BTreeSet::new(),
            tests_off: BTreeSet::new(),
            only: None,
            kind: None,
            options: BTreeMap::new(),
            phrase_files: Vec::new(),
            phrases: Vec::new(),
        }
    }
}

/// A file of phrases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhraseFile {
    /// Where it is, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Why a settings file is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// It is not TOML, or has keys that there are not.
    #[error("{0}")]
    Toml(String),
    /// There is no such rule.
    #[error("there is no rule {0:?}: rules are R001 to R{last:03}", last = crate::rule::RULES.len())]
    NoRule(String),
    /// There is no such test.
    #[error("there is no test {0:?}: tests are {names}", names = names())]
    NoTest(String),
    /// A number that makes no sense.
    #[error("{name} = {value}: it is 1 to {most}")]
    Range {
        /// Its key.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it may be at most.
        most: u64,
    },
}

/// As the options of the command line.
fn within(name: &'static str, value: Option<u64>, most: u64) -> Result<(), SettingsError> {
    match value {
        Some(value) if value == 0 || value > most => Err(SettingsError::Range { name, value, most }),
        Some(_) | None => Ok(()),
    }
}

fn names() -> String {
    parts::PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
}

/// The file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    seed: Option<u64>,
    seeds: Option<u64>,
    steps: Option<u32>,
    timeout_s: Option<u64>,
    rules: BTreeMap<String, bool>,
    tests: BTreeMap<String, bool>,
    options: BTreeMap<String, toml::Table>,
    phrases: Vec<String>,
}

impl Settings {
    /// The defaults, changed by a file's text.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let file: File = toml::from_str(text).map_err(|error| SettingsError::Toml(error.to_string()))?;
        let default = Self::default();
        if let Some(name) = file.rules.keys().find(|name| Rule::named(name).is_none()) {
            return Err(SettingsError::NoRule(name.clone()));
        }
        file.tests.keys().try_for_each(|name| test(name))?;
        within("seeds", file.seeds, 10_000)?;
        within("steps", file.steps.map(u64::from), 1_000_000)?;
        within("timeout_s", file.timeout_s, 86_400)?;
        let off = |switches: BTreeMap<String, bool>| {
            switches.into_iter().filter(|(_, on)| !on).map(|(name, _)| name).collect()
        };
        Ok(Self {
            seed: file.seed.unwrap_or(default.seed),
            seeds: file.seeds.unwrap_or(default.seeds),
            steps: file.steps.unwrap_or(default.steps),
            timeout: file.timeout_s.map_or(default.timeout, Duration::from_secs),
            rules_off: off(file.rules),
            tests_off: off(file.tests),
            only: None,
            kind: None,
            options: file.options,
            phrase_files: file.phrases,
            phrases: Vec::new(),
        })
    }
}

/// Whether there is such a test.
///
/// # Errors
/// There is none.
pub fn test(name: &str) -> Result<(), SettingsError> {
    parts::find(name).map(|_| ()).ok_or_else(|| SettingsError::NoTest(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names() {
        let text = "seed = 7\ntimeout_s = 5\n[rules]\nR022 = false\nR021 = true\n[tests]\nrelay = false\n\
                    [options.gpio]\npins = 4\n";
        let text = format!("phrases = [\"a.phrases\"]\n{text}");
        let settings = Settings::parse(&text).unwrap();
        assert_eq!(settings.phrase_files, ["a.phrases"]);
        assert_eq!((settings.seed, settings.steps, settings.timeout.as_secs()), (7, 2500, 5));
        assert_eq!(settings.rules_off, BTreeSet::from(["R022".to_owned()]));
        assert_eq!(settings.tests_off, BTreeSet::from(["relay".to_owned()]));
        assert_eq!(settings.options["gpio"]["pins"].as_integer(), Some(4));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Settings::parse(text).unwrap_err().to_string();
        assert_eq!(error("[rules]\nR999 = false"), "there is no rule \"R999\": rules are R001 to R049");
        assert!(error("[tests]\nx = false").starts_with("there is no test \"x\": tests are load, options, "));
        assert!(error("sed = 1").contains("unknown field `sed`"));
        assert_eq!(
            error("timeout_s = 9223372036854775807"),
            "timeout_s = 9223372036854775807: it is 1 to 86400"
        );
        assert_eq!(error("seeds = 0"), "seeds = 0: it is 1 to 10000");
    }
}
