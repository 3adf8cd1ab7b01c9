//! The tests of a plugin, in order and in processes.

use crate::{
    finding::Finding,
    parts::{self, PARTS, Part, Run},
    phrases::{Phrases, PhrasesError},
    process::{self, End, Launcher, Surroundings},
    report::{DeviceReport, Report, Status, TestReport},
    rule::Rule,
    session::{Job, Outcome},
    settings::{PhraseFile, Settings},
};
use reprise_machine::desc::DeviceDesc;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};
use thiserror::Error;

/// A device to check: its kind, and the options that a board gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The kind.
    pub kind: String,
    /// Where the options are from, for the report.
    pub from: String,
    /// JSON object.
    pub options: String,
}

/// Why a check cannot be done.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Test processes cannot be started.
    #[error(transparent)]
    Process(#[from] io::Error),
    /// Phrases that the device does not have.
    #[error("{error}")]
    Phrases {
        /// Their file.
        file: String,
        /// Where, and what.
        error: PhrasesError,
    },
    /// Phrases for a device that the plugin does not make.
    #[error("the plugin has no device of kind {kind:?}")]
    NoKind {
        /// Their file.
        file: String,
        /// Whom they are for.
        kind: String,
    },
}

/// Check a plugin: all of its kinds with the options of the settings, or these targets alone.
///
/// # Errors
/// Test processes cannot be started, or phrases are of no use to the plugin.
pub fn check(
    plugin: &Path,
    launcher: &Launcher,
    settings: &Settings,
    targets: &[Target],
) -> Result<Report, CheckError> {
    // Test processes may have another working folder.
    let plugin = std::path::absolute(plugin)?;
    let runner = Runner { plugin: plugin.clone(), launcher, settings };
    let started = Instant::now();
    let job = runner.job(parts::LOAD, "", "{}", None);
    let (part, end) = (&PARTS[0], runner.start(&job, Surroundings::Usual)?);
    let outcome = runner.judge(part, end);
    let load = runner.report(part, &outcome, started);
    let kinds = outcome.data.get("kinds").cloned().unwrap_or_default();
    let kinds: Vec<DeviceDesc> = serde_json::from_value(kinds).unwrap_or_default();
    if !kinds.is_empty() {
        settings.phrases.iter().try_for_each(|file| understood(file, &kinds))?;
    }
    let targets: Vec<Target> = match targets {
        [] => kinds.iter().map(|desc| usual(desc, settings)).collect(),
        given => given.to_vec(),
    };
    let wanted = |target: &Target| settings.kind.as_ref().is_none_or(|kind| *kind == target.kind);
    let devices = targets.into_iter().filter(wanted).map(|target| runner.device(target, &kinds));
    let devices = devices.collect::<io::Result<_>>()?;
    Ok(Report { plugin: plugin.display().to_string(), load, devices, seed: settings.seed })
}

/// Whether phrases are ones of these kinds.
fn understood(PhraseFile { name, text }: &PhraseFile, kinds: &[DeviceDesc]) -> Result<(), CheckError> {
    let file = name.clone();
    let kind = Phrases::kind_of(text).unwrap_or_default();
    let desc = match kinds.iter().find(|desc| desc.kind == kind) {
        Some(desc) => desc,
        None if kind.is_empty() => &kinds[0],
        None => return Err(CheckError::NoKind { file, kind: kind.to_owned() }),
    };
    Phrases::parse(text, desc).map(drop).map_err(|error| CheckError::Phrases { file, error })
}

/// The kind with default options, and something for those that have none.
fn usual(desc: &DeviceDesc, settings: &Settings) -> Target {
    let mut options = Map::new();
    let required = desc.schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = desc.schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, schema) in &properties {
        let board = match schema.get("x-board").and_then(Value::as_str) {
            Some("harts") => Some(json!(2)),
            Some("timebase_hz") => Some(json!(10_000_000)),
            Some(_) | None => None,
        };
        let value = board.or_else(|| required.contains(&json!(name)).then(|| least(schema)));
        options.extend(value.map(|value| (name.clone(), value)));
    }
    if let Some(given) = settings.options.get(&desc.kind) {
        let given = serde_json::to_value(given).expect("TOML is plain data");
        options.extend(given.as_object().cloned().unwrap_or_default());
    }
    let options = Value::Object(options).to_string();
    Target { kind: desc.kind.clone(), from: "default options".to_owned(), options }
}

/// Some value that a schema allows.
fn least(schema: &Value) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => json!(false),
        Some("string") => json!("x"),
        Some("array") => json!([]),
        Some(_) | None => schema.get("minimum").cloned().unwrap_or(json!(0)),
    }
}

struct Runner<'a> {
    plugin: PathBuf,
    launcher: &'a Launcher,
    settings: &'a Settings,
}

impl Runner<'_> {
    fn job(&self, test: &str, kind: &str, options: &str, virtio: Option<&Value>) -> Job {
        Job {
            test: test.to_owned(),
            plugin: self.plugin.clone(),
            kind: kind.to_owned(),
            options: options.to_owned(),
            seed: self.settings.seed,
            seeds: self.settings.seeds,
            steps: self.settings.steps,
            phrases: self.phrases(kind).map(|file| file.text.clone()),
            virtio: virtio.and_then(|facts| serde_json::from_value(facts.clone()).ok()),
            extra: Value::Null,
        }
    }

    /// What a kind understands.
    fn phrases(&self, kind: &str) -> Option<&PhraseFile> {
        self.settings.phrases.iter().find(|file| Phrases::kind_of(&file.text) == Some(kind))
    }

    fn start(&self, job: &Job, surroundings: Surroundings) -> io::Result<End> {
        process::run(self.launcher, job, surroundings, self.settings.timeout)
    }

    /// What a process's end says of the device.
    fn judge(&self, part: &Part, end: End) -> Outcome {
        let finding = |rule: Rule, what: String, doing: String| {
            let mut finding = Finding::new(rule, what);
            finding.op = Some(doing).filter(|doing| !doing.is_empty());
            Outcome::from(finding)
        };
        match end {
            End::Answered(outcome) => outcome,
            End::Died { how, doing } => finding(part.dies, format!("the process was {how}"), doing),
            End::TimedOut { doing } => {
                let what = format!("not done after {} s", self.settings.timeout.as_secs());
                finding(part.hangs, what, doing)
            }
        }
    }

    fn report(&self, part: &Part, outcome: &Outcome, started: Instant) -> TestReport {
        let counts = |finding: &&Finding| !self.settings.rules_off.contains(&finding.rule);
        let findings: Vec<Finding> = outcome.findings.iter().filter(counts).cloned().collect();
        let status = match (&outcome.skipped, findings.is_empty()) {
            (Some(why), _) => Status::Skipped(why.clone()),
            (None, true) => Status::Passed,
            (None, false) => Status::Failed,
        };
        let took_ms = started.elapsed().as_millis() as u64;
        TestReport { name: part.name, about: part.about, status, findings, took_ms }
    }

    /// All tests of one device, those that do not need each other at once.
    fn device(&self, target: Target, kinds: &[DeviceDesc]) -> io::Result<DeviceReport> {
        let mut done: BTreeMap<&'static str, TestReport> = BTreeMap::new();
        let mut facts = Value::Null;
        let mut waiting: Vec<&'static Part> = PARTS[1..].iter().collect();
        if !kinds.iter().any(|desc| desc.kind == target.kind) {
            waiting.clear();
        }
        while !waiting.is_empty() {
            let is_ready = |part: &&'static Part| {
                part.needs.iter().all(|need| *need == parts::LOAD || done.contains_key(need))
            };
            let (ready, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_ready);
            assert!(!ready.is_empty(), "a test stands behind those that it needs");
            waiting = later;
            let (run, left): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|part| self.held_back(part, &done).is_none());
            for part in left {
                let why = self.held_back(part, &done).unwrap_or_default();
                done.insert(part.name, TestReport::not_run(part.name, part.about, why));
            }
            for group in run.chunks(thread::available_parallelism().map_or(1, usize::from)) {
                for (part, report, data) in self.group(group, &target, &facts)? {
                    facts = data.get("virtio").cloned().unwrap_or(facts);
                    done.insert(part.name, report);
                }
            }
        }
        let tests = PARTS.iter().filter_map(|part| done.remove(part.name)).collect();
        let phrases = self.phrases(&target.kind).map(|file| file.name.clone());
        let Target { kind, from, options } = target;
        Ok(DeviceReport { kind, from, options, phrases, tests })
    }

    /// Why a test is not run.
    fn held_back(&self, part: &Part, done: &BTreeMap<&'static str, TestReport>) -> Option<String> {
        if let Some(only) = &self.settings.only {
            // Options also say whether it is a virtio device.
            let runs = part.name == only || part.name == "options";
            return (!runs).then(|| "not asked for".to_owned());
        }
        if self.settings.tests_off.contains(part.name) {
            return Some("switched off".to_owned());
        }
        part.needs.iter().find_map(|need| match done.get(need)?.status {
            Status::Failed => Some(format!("test {need} has to pass first")),
            Status::Held(_) => Some(format!("test {need} was not run")),
            Status::Passed | Status::Skipped(_) | Status::NotRun(_) => None,
        })
    }

    fn group(
        &self,
        group: &[&'static Part],
        target: &Target,
        facts: &Value,
    ) -> io::Result<Vec<(&'static Part, TestReport, Value)>> {
        thread::scope(|scope| {
            let threads: Vec<_> =
                group.iter().map(|part| scope.spawn(|| self.test(part, target, facts))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a test's thread does not panic")).collect()
        })
    }

    fn test(
        &self,
        part: &'static Part,
        target: &Target,
        facts: &Value,
    ) -> io::Result<(&'static Part, TestReport, Value)> {
        let started = Instant::now();
        let job = self.job(part.name, &target.kind, &target.options, Some(facts));
        let outcome = match part.run {
            Run::Once(_) => self.judge(part, self.start(&job, Surroundings::Usual)?),
            Run::Thrice => self.thrice(part, &job)?,
            Run::Relay => self.relay(part, job)?,
        };
        Ok((part, self.report(part, &outcome, started), outcome.data))
    }

    fn thrice(&self, part: &Part, job: &Job) -> io::Result<Outcome> {
        let all = [Surroundings::Usual, Surroundings::Bare, Surroundings::Full];
        let mut seen: Vec<Value> = Vec::new();
        for surroundings in all {
            let outcome = self.judge(part, self.start(job, surroundings)?);
            if !outcome.findings.is_empty() || outcome.skipped.is_some() {
                return Ok(outcome);
            }
            if let Some(first) = seen.first()
                && let Some((script, step)) = parts::first_difference(first, &outcome.data)
            {
                return self.in_full(part, job, surroundings, script, step);
            }
            seen.push(outcome.data);
        }
        Ok(Outcome::default())
    }

    /// Ask two processes for the step that differs.
    fn in_full(
        &self,
        part: &Part,
        job: &Job,
        surroundings: Surroundings,
        script: u64,
        step: u64,
    ) -> io::Result<Outcome> {
        let job = Job { extra: json!({ "script": script, "step": step }), ..job.clone() };
        let left = self.judge(part, self.start(&job, Surroundings::Usual)?);
        let right = self.judge(part, self.start(&job, surroundings)?);
        let plain = || Finding::new(Rule::PROCESSES, "the same steps had another effect in another process");
        let mut finding = parts::between_processes(&left.data, &right.data).unwrap_or_else(plain);
        finding.step = Some(step as usize);
        Ok(finding.into())
    }

    fn relay(&self, part: &Part, job: Job) -> io::Result<Outcome> {
        let first = self.judge(part, self.start(&job, Surroundings::Usual)?);
        if !first.findings.is_empty() || first.skipped.is_some() {
            return Ok(first);
        }
        let job = Job { test: parts::RELAYED.to_owned(), extra: first.data, ..job };
        Ok(self.judge(part, self.start(&job, Surroundings::Bare)?))
    }
}
