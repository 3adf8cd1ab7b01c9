//! One test in its process: the plugin, and how scripts are played.

use crate::{
    compare,
    elf::Elf,
    finding::Finding,
    phrases::Phrases,
    progress::Progress,
    rings,
    rule::Rule,
    script::{self, Op, Reach},
    subject::{Maker, Step, Subject},
    world::Breach,
};
use reprise_abi::desc::ConfigError;
use reprise_machine::plugin::{BackendPlugin, ObserverPlugin, Plugin, PluginFile};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a test process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The test's name.
    pub(crate) test: String,
    pub(crate) plugin: PathBuf,
    pub(crate) kind: String,
    /// JSON.
    pub(crate) options: String,
    pub(crate) seed: u64,
    /// Scripts of each sort.
    pub(crate) seeds: u64,
    /// Steps of each script.
    pub(crate) steps: u32,
    pub(crate) virtio: Option<rings::Facts>,
    /// The text of what the device understands.
    #[serde(default)]
    pub(crate) phrases: Option<String>,
    /// What the test needs beside.
    #[serde(default)]
    pub(crate) extra: Value,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) findings: Vec<Finding>,
    /// Why it could not be done here.
    pub(crate) skipped: Option<String>,
    /// For the parent.
    #[serde(default)]
    pub(crate) data: Value,
}

impl From<Vec<Finding>> for Outcome {
    fn from(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }
}

impl From<Option<Finding>> for Outcome {
    fn from(finding: Option<Finding>) -> Self {
        Vec::from_iter(finding).into()
    }
}

impl From<Box<Finding>> for Outcome {
    fn from(finding: Box<Finding>) -> Self {
        (*finding).into()
    }
}

impl From<Finding> for Outcome {
    fn from(finding: Finding) -> Self {
        vec![finding].into()
    }
}

/// The process's side of a job.
pub(crate) struct Session {
    pub(crate) job: Job,
    pub(crate) progress: Progress,
    pub(crate) bytes: Vec<u8>,
    pub(crate) maker: Maker,
    phrases: Phrases,
}

/// A script with the seed that makes it.
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) sort: &'static str,
    pub(crate) ops: Vec<Op>,
}

impl Session {
    /// Load the plugin. What comes of it instead is a finding, or that there is no device in it.
    pub(crate) fn new(job: Job, progress: Progress) -> Result<Self, Outcome> {
        progress.topic("loading");
        let unloaded = |text: String| Outcome::from(Finding::new(Rule::LOADS, text));
        let bytes = std::fs::read(&job.plugin)
            .map_err(|error| unloaded(format!("{}: {error}", job.plugin.display())))?;
        let plugin = load(&job.plugin, &bytes)
            .map_err(|text| without_device(&job.plugin, &bytes).unwrap_or_else(|| unloaded(text)))?;
        let mut maker =
            Maker { plugin, kind: job.kind.clone(), options: job.options.clone(), disk_bytes: None };
        let phrases = phrases(&job, &maker.plugin)?;
        maker.disk_bytes = phrases.disk_bytes;
        Ok(Self { job, progress, bytes, maker, phrases })
    }

    pub(crate) fn elf(&self) -> Option<Elf<'_>> {
        Elf::read(&self.bytes)
    }

    pub(crate) fn file_name(&self) -> String {
        file_name(&self.job.plugin)
    }

    /// A new device; the test before this one has made sure that there is one.
    pub(crate) fn subject(&self) -> Result<Subject, Box<Finding>> {
        Subject::new(&self.maker).map_err(|error| uncreated(&error))
    }

    /// The scripts of this job.
    pub(crate) fn scripts(&self) -> Result<Vec<Script>, Box<Finding>> {
        let mut all = self.accesses(Reach::Everything)?;
        all.extend(self.rings());
        Ok(all)
    }

    /// Those of accesses alone.
    pub(crate) fn accesses(&self, reach: Reach) -> Result<Vec<Script>, Box<Finding>> {
        let described = self.maker.plugin.describe_with(&self.job.kind, &self.job.options);
        let desc = described.map_err(|error| uncreated(&error))?;
        let ops = |seed| script::steps(&desc, &self.phrases, seed, self.job.steps, reach);
        let script = |seed| Script { seed, sort: "accesses", ops: ops(seed) };
        Ok(self.seeds().map(script).collect())
    }

    /// Those of a virtio driver.
    pub(crate) fn rings(&self) -> Vec<Script> {
        let Some(facts) = &self.job.virtio else { return Vec::new() };
        let script = |seed| Script { seed, sort: "rings", ops: rings::steps(facts, seed, self.job.steps) };
        self.seeds().map(script).collect()
    }

    fn seeds(&self) -> std::ops::Range<u64> {
        self.job.seed..self.job.seed.saturating_add(self.job.seeds)
    }

    /// Play a script to its end or the first breach. `before` may do something to the device before each step.
    pub(crate) fn play(
        &self,
        script: &Script,
        subject: &mut Subject,
        what: &str,
        mut before: impl FnMut(usize, &mut Subject),
    ) -> Vec<Step> {
        self.progress.topic(format!("{what}, {} of seed {}", script.sort, script.seed));
        let mut steps = Vec::with_capacity(script.ops.len());
        for (number, op) in script.ops.iter().enumerate() {
            self.progress.step(number, op);
            before(number, subject);
            let step = subject.apply(op);
            let ends = step.breach.is_some();
            steps.push(step);
            if ends {
                break;
            }
        }
        steps
    }

    /// Play a script twice, and say where the second differs from the first.
    pub(crate) fn compare(
        &self,
        rule: Rule,
        script: &Script,
        what: &str,
        plays: (&[Step], &[Step]),
    ) -> Option<Finding> {
        let (step, difference) = compare::first(plays.0, plays.1)?;
        let finding = Finding::new(rule, format!("{what} ({})", script.sort));
        Some(finding.at(script.seed, step, &script.ops[step]).differs(difference))
    }
}

/// What a device understands, with these options. The parent has read it already, with the default ones.
fn phrases(job: &Job, plugin: &Plugin) -> Result<Phrases, Outcome> {
    let Some(text) = &job.phrases else { return Ok(Phrases::default()) };
    // That it does not describe itself is the finding of who asks next.
    let Ok(desc) = plugin.describe_with(&job.kind, &job.options) else { return Ok(Phrases::default()) };
    // Not passed over: nobody would notice that nothing was tested.
    let unread = |error| Finding::new(Rule::LOADS, format!("its phrases are for other options: {error}"));
    Phrases::parse(text, &desc).map_err(|error| unread(error).into())
}

/// What these rules are not for: it reaches a guest through a port alone, or not at all.
fn without_device(path: &Path, bytes: &[u8]) -> Option<Outcome> {
    let path = path.display().to_string();
    let what = if BackendPlugin::load(&path, bytes).is_ok() {
        "an outside half, which no recording depends on"
    } else if ObserverPlugin::load(&path, bytes).is_ok() {
        "an observer, which changes nothing"
    } else {
        return None;
    };
    Some(Outcome { skipped: Some(format!("no device in it: {what}")), ..Outcome::default() })
}

/// Load a plugin as the machine does.
pub(crate) fn load(path: &Path, bytes: &[u8]) -> Result<Plugin, String> {
    PluginFile::load(&path.display().to_string(), bytes).map_err(|error| error.to_string())
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The device that was there a test ago cannot be created.
pub(crate) fn uncreated(error: &ConfigError) -> Box<Finding> {
    Box::new(Finding::new(Rule::DEFAULTS, format!("cannot be created: {error}")))
}

/// The rule that a breach is of.
pub(crate) fn rule_of(breach: &Breach) -> Rule {
    match breach {
        Breach::Panic(_) => Rule::PANICS,
        Breach::Undeclared(_) => Rule::DECLARED,
        Breach::TokenTwice(_) => Rule::TOKENS,
        Breach::Outside(_) => Rule::OUTSIDE,
        Breach::TimerStorm(_) => Rule::TIMER_STORM,
        Breach::BottomHalfStorm(_) => Rule::BH_STORM,
        Breach::FloatControl(_) => Rule::FLOAT,
        Breach::Unmarked(_) => Rule::DIRTY,
        Breach::Unannounced(_) => Rule::WATCHED,
        Breach::Refused(_) => Rule::RELOAD,
    }
}
