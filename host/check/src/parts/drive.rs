//! A device driven at random: it must not panic, nor use what it did not declare.

use crate::{
    finding::Finding,
    rule::Rule,
    script::Reach,
    session::{Outcome, Script, Session, rule_of},
    watch::pages::PageMarks,
    world::Breach,
};

/// Steps of scripts in which RAM is compared after every call.
const MARKED_STEPS: usize = 400;

/// Random accesses, inputs and times.
pub(super) fn drive(session: &Session) -> Outcome {
    let scripts = session.accesses(Reach::Everything);
    scripts.and_then(|scripts| played(session, &scripts, &rule_of)).unwrap_or_else(Outcome::from)
}

/// Virtqueues of a driver that means harm.
pub(super) fn rings(session: &Session) -> Outcome {
    let rule = |breach: &Breach| match rule_of(breach) {
        Rule::PANICS => Rule::RINGS,
        other => other,
    };
    played(session, &session.rings(), &rule).unwrap_or_else(Outcome::from)
}

/// DMA in small steps, with a look at every page.
pub(super) fn marks(session: &Session) -> Outcome {
    let marked = |script: &Script| -> Result<Option<Finding>, Box<Finding>> {
        let mut subject = session.subject()?;
        subject.watch = Some(Box::new(PageMarks::default()));
        subject.look = false;
        let script = Script {
            seed: script.seed,
            sort: script.sort,
            ops: script.ops.iter().take(MARKED_STEPS).cloned().collect(),
        };
        let steps = session.play(&script, &mut subject, "with a look at all pages", |_, _| {});
        Ok(breach_of(&script, &steps, &rule_of))
    };
    match session.scripts() {
        Ok(scripts) => first_of_each(scripts.iter().map(marked)).into(),
        Err(finding) => finding.into(),
    }
}

fn breach_of(
    script: &Script,
    steps: &[crate::subject::Step],
    rule: &dyn Fn(&Breach) -> Rule,
) -> Option<Finding> {
    let last = steps.last()?;
    let breach = last.breach.as_ref()?;
    let at = steps.len() - 1;
    Some(Finding::new(rule(breach), breach.to_string()).at(script.seed, at, &script.ops[at]))
}

fn played(
    session: &Session,
    scripts: &[Script],
    rule: &dyn Fn(&Breach) -> Rule,
) -> Result<Outcome, Box<Finding>> {
    let run = |script: &Script| {
        let mut subject = session.subject()?;
        let steps = session.play(script, &mut subject, "playing", |_, _| {});
        Ok(breach_of(script, &steps, rule))
    };
    Ok(first_of_each(scripts.iter().map(run)).into())
}

/// The first finding of each rule.
fn first_of_each(results: impl Iterator<Item = Result<Option<Finding>, Box<Finding>>>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in results.filter_map(|result| result.unwrap_or_else(|finding| Some(*finding))) {
        if !all.iter().any(|other| other.rule == finding.rule) {
            all.push(finding);
        }
    }
    all
}
