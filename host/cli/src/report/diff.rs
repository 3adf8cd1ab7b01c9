//! `reprise diff`: two recordings, their manifests, their logs, and where their machines part.

use super::{
    Names, Parted, Recorded,
    compare::{Comparison, Parting, compare},
    json,
    manifests::{self, ManifestDifference},
    part,
    search::Outcome,
    twins::Twins,
};
use crate::failure::{Failure, printable};
use reprise_machine::replay::{RecordSource, log::LogError};
use serde_json::{Value, json};
use std::fmt;

/// Differences of the manifests listed for people; JSON has them all.
const SHOWN: usize = 12;

/// How two recordings differ.
#[derive(Clone, Debug)]
pub(crate) struct Diff {
    /// What the recordings are called.
    pub(super) names: [String; 2],
    pub(super) manifests: Vec<ManifestDifference>,
    pub(super) logs: Comparison,
    pub(super) states: States,
}

/// A recording, as far as it can be compared without a machine.
pub(crate) struct Side {
    /// What it is called.
    pub(crate) name: String,
    /// What it says of its machine, with its board read in place of the text.
    pub(crate) manifest: Value,
    pub(crate) names: Names,
    pub(crate) records: Box<dyn RecordSource>,
}

/// What replaying both has shown.
#[derive(Clone, Debug)]
pub(crate) enum States {
    /// There was no need, or nobody wanted it.
    NotCompared,
    /// Both are the same wherever they were compared, to where the logs part.
    Same,
    /// They part.
    Parted(Box<Parted>),
    /// They cannot be replayed.
    Failed(String),
}

/// Replay both to where their logs part, and find where their machines do.
pub(super) fn states(runs: [&dyn Recorded; 2], parting: &Parting) -> States {
    let [a, b] = runs;
    let fresh = || Ok(Twins::new(a.machine()?, b.machine()?));
    match part(fresh, &|| a.records().ok(), parting.position) {
        Err(failure) => States::Failed(failure.to_string()),
        Ok(Outcome::Together { .. }) => States::Same,
        // What enters at the parting, and differs, is no news.
        Ok(Outcome::Apart(apart)) if apart.bracket.same >= Some(parting.position) => States::Same,
        Ok(Outcome::Apart(apart)) => States::Parted(Box::new(Parted::new(apart, &Names::of(a.board())))),
    }
}

impl Diff {
    /// Compare what two recordings say.
    ///
    /// # Errors
    /// A log cannot be read: the first (0) or the second.
    pub(crate) fn of(sides: [Side; 2]) -> Result<Self, (usize, LogError)> {
        let [mut a, mut b] = sides;
        let logs = compare(a.records.as_mut(), b.records.as_mut(), [&a.names, &b.names])?;
        let manifests = manifests::differences(&a.manifest, &b.manifest);
        Ok(Self { names: [a.name, b.name], manifests, logs, states: States::NotCompared })
    }

    /// Whether the logs part: then replaying can tell whether the machines did before.
    pub(crate) fn parts(&self) -> bool {
        self.logs.parting.is_some()
    }

    /// Replay both, as far as the logs are the same.
    pub(crate) fn search(&mut self, runs: Result<[&dyn Recorded; 2], &Failure>) {
        let Some(parting) = &self.logs.parting else { return };
        self.states = match runs {
            Ok(runs) => states(runs, parting),
            Err(failure) => States::Failed(failure.to_string()),
        };
    }

    /// One machine did one thing twice.
    pub(crate) fn is_identical(&self) -> bool {
        self.logs.parting.is_none() && self.manifests.iter().all(|difference| !difference.of_machine)
    }

    pub(crate) fn to_json(&self) -> Value {
        let manifest =
            |d: &ManifestDifference| json!({ "what": d.what, "a": d.a, "b": d.b, "machine": d.of_machine });
        let line = |line: &Option<super::history::Line>| line.as_ref().map(json::line);
        let parting = self.logs.parting.as_ref().map(|parting| {
            let records: Vec<Value> = self.logs.last.iter().map(json::line).collect();
            let (a, b) = (line(&parting.a), line(&parting.b));
            json!({ "a": a, "b": b, "input": parting.input, "records": records })
        });
        let (states, first) = match &self.states {
            States::NotCompared => ("not-compared", Value::Null),
            States::Same => ("same", Value::Null),
            States::Parted(parted) => ("different", parted.to_json()),
            States::Failed(why) => ("failed", json!({ "error": why })),
        };
        json!({
            "result": if self.is_identical() { "identical" } else { "different" },
            "manifest": self.manifests.iter().map(manifest).collect::<Vec<_>>(),
            "common_records": self.logs.common,
            "unpaired_digests": self.logs.unpaired,
            "log": parting,
            "states": states,
            "first_difference": first,
        })
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.tell(&mut out)?;
        f.write_str(&out)
    }
}

impl Diff {
    fn tell(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let [a, b] = self.names.each_ref().map(|name| printable(name));
        match self.is_identical() {
            true => writeln!(out, "identical: {} records are the same", self.logs.common)?,
            false => writeln!(out, "{a} and {b} differ")?,
        }
        if !self.manifests.is_empty() {
            writeln!(out, "\nmanifests:")?;
            self.manifests.iter().take(SHOWN).try_for_each(|d| writeln!(out, "  {}", manifest_line(d)))?;
            if self.manifests.len() > SHOWN {
                writeln!(out, "  … and {} more; --json has them all", self.manifests.len() - SHOWN)?;
            }
        }
        if self.logs.parting.is_none() && !self.is_identical() {
            writeln!(out, "\nlogs: all {} records are the same", self.logs.common)?;
        }
        if let Some(parting) = &self.logs.parting {
            writeln!(out, "\nlogs: {} records are the same, then", self.logs.common)?;
            parting.tell(out, [&a, &b])?;
            if !self.logs.last.is_empty() {
                writeln!(out, "before it, in both:")?;
                self.logs.last.iter().try_for_each(|line| writeln!(out, "  {}", line.listed()))?;
            }
        }
        match &self.states {
            States::NotCompared => Ok(()),
            States::Same if self.logs.parting.as_ref().is_some_and(Parting::is_computed) => {
                writeln!(
                    out,
                    "\nReplayed here, both machines are in the same state there too: one of the recordings does"
                )?;
                writeln!(out, "not replay as it was recorded; `reprise verify` says which.")
            }
            States::Same => writeln!(out, "\nUp to there both machines are in the same state."),
            States::Failed(why) => {
                writeln!(out, "\nThe recordings cannot be replayed side by side:\n{}", why.trim_end())
            }
            States::Parted(parted) => {
                writeln!(out)?;
                parted.tell(out, [&a, &b])
            }
        }
    }
}

fn manifest_line(difference: &ManifestDifference) -> String {
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), printable);
    format!("{}: {} | {}", printable(&difference.what), text(&difference.a), text(&difference.b))
}

impl Parting {
    /// The machines themselves did different things, and not because one log is longer.
    fn is_computed(&self) -> bool {
        !self.input && self.a.is_some() && self.b.is_some()
    }

    fn tell(&self, out: &mut impl fmt::Write, names: [&str; 2]) -> fmt::Result {
        let width = names.map(|name| name.chars().count()).into_iter().max().unwrap_or(0);
        for (line, name) in [(&self.a, names[0]), (&self.b, names[1])] {
            match line {
                Some(line) => writeln!(out, "  {name:width$}  {}", line.listed())?,
                None => writeln!(out, "  {name:width$}  nothing: the log has ended")?,
            }
        }
        Ok(())
    }
}
