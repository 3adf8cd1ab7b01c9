//! The tests: each in a process of its own, each for a few rules.

mod asks;
mod drive;
mod options;
mod reset;
mod same;
mod state;

use crate::{
    rule::Rule,
    session::{Outcome, Session},
};

/// A test.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// What it is about, for reports.
    pub(crate) about: &'static str,
    /// Tests that must have found nothing: what they find would show here again under a name that misleads.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: Run,
    /// What it is when the process dies, or does not end.
    pub(crate) dies: Rule,
    pub(crate) hangs: Rule,
}

/// How a test is run.
pub(crate) enum Run {
    /// In one process.
    Once(fn(&Session) -> Outcome),
    /// The same in three processes, whose data must agree.
    Thrice,
    /// In one process that hands over what it holds, and then in another that goes on with it.
    Relay,
}

const fn part(name: &'static str, about: &'static str, run: fn(&Session) -> Outcome) -> Part {
    Part { name, about, needs: &[], run: Run::Once(run), dies: Rule::SURVIVES, hangs: Rule::RETURNS }
}

impl Part {
    const fn needs(mut self, needs: &'static [&'static str]) -> Self {
        self.needs = needs;
        self
    }

    const fn dies(mut self, rule: Rule) -> Self {
        self.dies = rule;
        self
    }

    const fn hangs(mut self, rule: Rule) -> Self {
        self.hangs = rule;
        self
    }

    const fn run(mut self, run: Run) -> Self {
        self.run = run;
        self
    }
}

/// The first test, which says what there is to test.
pub(crate) const LOAD: &str = "load";

/// All tests, each behind those that it needs.
pub(crate) const PARTS: &[Part] = &[
    part(LOAD, "it loads, and describes itself", options::load),
    part("options", "options are taken and refused", options::options)
        .needs(&[LOAD])
        .dies(Rule::CREATES)
        .hangs(Rule::CREATES),
    part("drive", "random accesses, inputs and times", drive::drive).needs(&["options"]),
    part("variants", "a device for all sorts of options", options::variants)
        .needs(&["drive"])
        .dies(Rule::CREATES)
        .hangs(Rule::CREATES),
    part("rings", "hostile virtqueues", drive::rings).needs(&["drive"]).dies(Rule::RINGS).hangs(Rule::RINGS),
    part("asks", "calls of the operating system", asks::asks).needs(&["drive"]),
    part("counter", "the processor's counter", asks::counter).needs(&["asks"]).dies(Rule::TSC),
    part("statics", "writable static memory", asks::statics).needs(&["drive"]),
    part("marks", "pages marked by DMA", drive::marks).needs(&["rings"]),
    part("twice", "the same steps twice", same::twice).needs(&["rings", "asks", "counter"]),
    part("processes", "the same steps in three processes", same::trace).needs(&["twice"]).run(Run::Thrice),
    part("instances", "several at once", same::instances).needs(&["twice"]),
    part("leftovers", "devices that failed or are gone", same::leftovers).needs(&["twice"]),
    part("windows", "DMA windows against copies", same::windows).needs(&["twice"]),
    part("record", "records are well-formed and stable", state::record).needs(&["twice"]),
    part("looking", "saving changes nothing", same::looking).needs(&["record"]),
    part("reload", "save, drop, create, load at random steps", state::reload)
        .needs(&["looking"])
        .dies(Rule::RELOAD),
    part("relay", "load in another process", state::hand_over)
        .needs(&["reload", "processes"])
        .run(Run::Relay)
        .dies(Rule::ISOLATED),
    part("overwrite", "load over another state", state::overwrite).needs(&["reload"]),
    part("garbage", "damaged, old and new records", state::garbage)
        .needs(&["record"])
        .dies(Rule::GARBAGE)
        .hangs(Rule::GARBAGE),
    part("reset", "reset equals new", reset::reset).needs(&["reload"]),
];

/// The test of this name.
pub(crate) fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

/// Run a test, or the half of it that this process is for.
pub(crate) fn run(session: &Session) -> Result<Outcome, String> {
    let name = session.job.test.as_str();
    if name == RELAYED {
        return Ok(state::go_on(session));
    }
    let part = find(name).ok_or_else(|| format!("no test \"{name}\""))?;
    Ok(match part.run {
        Run::Once(run) => run(session),
        Run::Thrice => same::trace(session),
        Run::Relay => state::hand_over(session),
    })
}

/// The second half of a relay.
pub(crate) const RELAYED: &str = "relayed";

pub(crate) use same::{between_processes, first_difference};
