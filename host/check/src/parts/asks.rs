//! What a device asks of the operating system and of the processor, and what it keeps in static memory.

use crate::{
    elf::Elf,
    finding::Finding,
    rule::Rule,
    session::{Outcome, Script, Session},
    subject::Subject,
    watch::{
        Watch, imports,
        imports::Imports,
        statics::{Changed, Looks, Statics},
    },
    world::{Breach, World},
};
use rustix::process::{TimeStampCounterReadability as Tsc, set_time_stamp_counter_readability};
use std::{cell::RefCell, rc::Rc};

/// Of writable static memory: bytes that are kept a copy of.
const MOST_STATICS: u64 = 256 << 20;
/// Bytes of it that are looked at behind each call, on the average: more would take longer than a test may.
const LOOKED_AT: u64 = 1 << 20;

fn skipped(why: impl Into<String>) -> Outcome {
    Outcome { skipped: Some(why.into()), ..Outcome::default() }
}

/// Calls of libc, by the plugin alone.
pub(super) fn asks(session: &Session) -> Outcome {
    let Some(elf) = session.elf() else { return skipped("the file has changed since it was loaded") };
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    let mut watch = match Imports::watch(&elf, &session.file_name()) {
        Ok(watch) => watch,
        Err(why) => return skipped(why),
    };
    let mut findings: Vec<Finding> = Vec::new();
    let mut note = |watch: &mut Imports, place: &dyn Fn(Finding) -> Finding| {
        for (name, rule) in watch.news() {
            if !findings.iter().any(|other| other.rule == rule.to_string()) {
                findings.push(place(Finding::new(rule, format!("calls `{name}`"))));
            }
        }
    };
    // For what it calls; what it says was judged before.
    drop(session.maker.plugin.describe_with(&session.job.kind, &session.job.options));
    note(&mut watch, &|finding| in_callback(finding, "describe"));
    for script in &scripts {
        let mut subject = match Subject::unreset(&session.maker) {
            Ok(subject) => subject,
            Err(error) => return crate::session::uncreated(&error).into(),
        };
        note(&mut watch, &|finding| in_callback(finding, "create"));
        subject.reset(reprise_abi::hot::RESET_COLD);
        note(&mut watch, &|finding| in_callback(finding, "reset"));
        session.play(script, &mut subject, "with an ear to libc", |step, _| {
            note(&mut watch, &|finding| before(finding, script, step));
        });
        note(&mut watch, &|finding| before(finding, script, script.ops.len()));
        // How it takes its own record was judged before.
        drop(subject.reload());
        note(&mut watch, &|finding| in_callback(finding, "save, drop, create or load"));
    }
    let unused = unused(imports::suspicious(&elf), &findings);
    findings.extend(unused);
    findings.into()
}

fn in_callback(mut finding: Finding, callback: &str) -> Finding {
    finding.what = format!("{} in {callback}", finding.what);
    finding
}

/// The call came in the step before this one.
fn before(finding: Finding, script: &Script, step: usize) -> Finding {
    match step.checked_sub(1).and_then(|step| Some((step, script.ops.get(step)?))) {
        Some((step, op)) => finding.at(script.seed, step, op),
        None => finding.seed(script.seed),
    }
}

/// Imports of sorts that were not seen called.
fn unused(imports: Vec<(String, Rule)>, findings: &[Finding]) -> Option<Finding> {
    let seen = |rule: &Rule| findings.iter().any(|finding| finding.rule == rule.to_string());
    let names: Vec<String> =
        imports.into_iter().filter(|(_, rule)| !seen(rule)).map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() {
        return None;
    }
    let what = format!("imports {}, which was not seen called here but can be", names.join(", "));
    Some(Finding::new(Rule::IMPORTS, what))
}

/// The counter faults while the device runs: the process dies, and the parent knows why.
struct NoCounter;

impl Watch for NoCounter {
    fn before(&mut self, _world: &World) {
        // That it works was tried before.
        let _done = set_time_stamp_counter_readability(Tsc::RaiseSIGSEGV);
    }

    fn after(&mut self, _world: &World) -> Option<Breach> {
        let _done = set_time_stamp_counter_readability(Tsc::Readable);
        None
    }
}

/// Reads of the processor's counter.
pub(super) fn counter(session: &Session) -> Outcome {
    if let Err(error) = set_time_stamp_counter_readability(Tsc::Readable) {
        return skipped(format!("this host cannot make the counter fault: {error}"));
    }
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    for script in &scripts {
        let mut subject = match session.subject() {
            Ok(subject) => subject,
            Err(finding) => return finding.into(),
        };
        subject.watch = Some(Box::new(NoCounter));
        session.play(script, &mut subject, "reads the processor's counter", |_, _| {});
    }
    Outcome::default()
}

/// The watch on static memory, shared with the test that reads its result.
struct Shared(Rc<RefCell<Statics>>);

impl Watch for Shared {
    fn after(&mut self, world: &World) -> Option<Breach> {
        self.0.borrow_mut().after(world)
    }
}

/// Static memory after a run that has warmed up what is made once.
pub(super) fn statics(session: &Session) -> Outcome {
    let Some(elf) = session.elf() else { return skipped("the file has changed since it was loaded") };
    let bytes: u64 = elf.writable().iter().map(|(_, bytes)| bytes).sum();
    if bytes > MOST_STATICS {
        return skipped(format!("{bytes} bytes of them are more than this test keeps a copy of"));
    }
    let run = || -> Result<Option<Finding>, Outcome> {
        for script in &session.scripts()? {
            let mut subject = session.subject()?;
            session.play(script, &mut subject, "warming up", |_, _| {});
            drop(subject.reload());
            if let Some(finding) = changed(session, &elf, script, bytes.div_ceil(LOOKED_AT).max(1))? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    };
    run().map_or_else(|outcome| outcome, Outcome::from)
}

/// Whether a script changes static memory. Where a look takes long there is one in `every` calls; the step is then
/// found by playing it again, with a look at each call of those between the last two.
fn changed(
    session: &Session,
    elf: &Elf<'_>,
    script: &Script,
    every: u64,
) -> Result<Option<Finding>, Outcome> {
    let Some((first, step)) = watched(session, elf, script, Looks::Every(every))? else { return Ok(None) };
    let from = Looks::From(first.call.saturating_sub(every - 1));
    let again = if every > 1 { watched(session, elf, script, from)? } else { None };
    let (found, step) = again.unwrap_or((first, step));
    let name = elf.symbol_at(found.vaddr).map_or_else(String::new, |name| format!(", in `{name}`"));
    let what = format!("static memory changes at {:#x}{name}", found.vaddr);
    Ok(Some(before(Finding::new(Rule::STATICS, what), script, step)))
}

/// The first change of a play, and the step behind it.
fn watched(
    session: &Session,
    elf: &Elf<'_>,
    script: &Script,
    looks: Looks,
) -> Result<Option<(Changed, usize)>, Outcome> {
    let mut subject = session.subject()?;
    let statics = Statics::of(elf, &session.file_name(), looks);
    let statics = statics.ok_or_else(|| skipped("the plugin is not found in /proc/self/maps"))?;
    let statics = Rc::new(RefCell::new(statics));
    subject.watch = Some(Box::new(Shared(Rc::clone(&statics))));
    let mut at = None;
    session.play(script, &mut subject, "with an eye on statics", |step, _| {
        if at.is_none() && statics.borrow().changed.is_some() {
            at = Some(step);
        }
    });
    // What the last calls have changed.
    statics.borrow_mut().look();
    let changed = statics.borrow().changed;
    Ok(changed.map(|changed| (changed, at.unwrap_or(script.ops.len()))))
}
