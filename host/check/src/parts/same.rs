//! The same steps must have the same effects: again, elsewhere, beside others, without windows, and unobserved.

use crate::{
    compare,
    finding::Finding,
    rule::Rule,
    session::{Outcome, Script, Session},
    subject::{Step, Subject},
};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Devices that are made and dropped to see whether memory comes back.
const MADE: u64 = 200;
/// What these may leave in bytes: each would be more than a device forgets by accident of the allocator.
const LEFT_BYTES: u64 = 8 << 20;

/// Steps, and RAM after them.
type Played = (Vec<Step>, Vec<u8>);

/// The first finding of a test that is done for each script.
fn for_each(session: &Session, test: impl Fn(&Script) -> Result<Option<Finding>, Box<Finding>>) -> Outcome {
    let run = || session.scripts()?.iter().find_map(|script| test(script).transpose()).transpose();
    run().unwrap_or_else(|finding| Some(*finding)).into()
}

/// Memory of many sizes, so that what is allocated next lies elsewhere.
fn disturb_heap() -> Vec<Vec<u8>> {
    let sizes = (4..17).flat_map(|power| [1usize << power, (1 << power) + 24, (1 << power) + 40]);
    sizes.flat_map(|size| (0..5).map(move |_| vec![0xa5; size])).collect()
}

/// Twice in one process.
pub(super) fn twice(session: &Session) -> Outcome {
    for_each(session, |script| {
        let run = |what: &str| -> Result<Played, Box<Finding>> {
            let mut subject = session.subject()?;
            let steps = session.play(script, &mut subject, what, |_, _| {});
            Ok((steps, subject.world.ram.copy()))
        };
        let first = run("the first time")?;
        let disturbance = disturb_heap();
        let second = run("the second time")?;
        drop(disturbance);
        let what = "the same steps had another effect the second time";
        Ok(session.compare(Rule::TWICE, script, what, (&first.0, &second.0)).or_else(|| {
            let differs = compare::ram(&first.1, &second.1)?;
            Some(Finding::new(Rule::TWICE, what).seed(script.seed).differs(differs))
        }))
    })
}

/// A digest of each step, or one step in full: the parent compares those of several processes.
pub(super) fn trace(session: &Session) -> Outcome {
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    let number = |key: &str| session.job.extra.get(key).and_then(Value::as_u64);
    let mut digests = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let mut subject = match session.subject() {
            Ok(subject) => subject,
            Err(finding) => return finding.into(),
        };
        let steps = session.play(script, &mut subject, "in several processes", |_, _| {});
        if number("script") == Some(index as u64) {
            let step = number("step").and_then(|step| steps.get(step as usize));
            let op = number("step").and_then(|step| script.ops.get(step as usize)).map(ToString::to_string);
            return Outcome {
                data: json!({ "step": step, "op": op, "seed": script.seed }),
                ..Outcome::default()
            };
        }
        digests.push(steps.iter().map(digest).collect::<Vec<u64>>());
    }
    Outcome { data: json!(digests), ..Outcome::default() }
}

fn digest(step: &Step) -> u64 {
    // Its keys are fixed.
    let mut hasher = DefaultHasher::new();
    step.hash(&mut hasher);
    hasher.finish()
}

/// Script and step of the first difference between what processes said.
pub(crate) fn first_difference(left: &Value, right: &Value) -> Option<(u64, u64)> {
    let (left, right): (Vec<Vec<u64>>, Vec<Vec<u64>>) =
        (serde_json::from_value(left.clone()).ok()?, serde_json::from_value(right.clone()).ok()?);
    left.iter().zip(&right).enumerate().find_map(|(script, (left, right))| {
        let step = left.iter().zip(right).position(|(left, right)| left != right)?;
        Some((script as u64, step as u64))
    })
}

/// The finding, when both processes have shown that step.
pub(crate) fn between_processes(left: &Value, right: &Value) -> Option<Finding> {
    let step = |value: &Value| serde_json::from_value::<Step>(value.get("step")?.clone()).ok();
    let (_, difference) = compare::first(&[step(left)?], &[step(right)?])?;
    let mut finding = Finding::new(Rule::PROCESSES, "the same steps had another effect in another process");
    finding.op = left.get("op").and_then(Value::as_str).map(str::to_owned);
    finding.seed = left.get("seed").and_then(Value::as_u64);
    Some(finding.differs(difference))
}

/// One device alone, and the same one beside another.
pub(super) fn instances(session: &Session) -> Outcome {
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    for_each(session, |script| {
        let mut alone = session.subject()?;
        let expected = session.play(script, &mut alone, "alone", |_, _| {});
        drop(alone);
        let mut other = session.subject()?;
        let mut subject = session.subject()?;
        let another = scripts.iter().rev().find(|another| another.seed != script.seed).unwrap_or(script);
        let found = session.play(script, &mut subject, "beside another device", |step, _| {
            if let Some(op) = another.ops.get(step) {
                other.apply(op);
            }
        });
        let what = "another device of the same kind, driven in between, has changed what this one does";
        Ok(session.compare(Rule::INSTANCES, script, what, (&expected, &found)))
    })
}

/// What devices leave behind that could not be created, or are gone.
pub(super) fn leftovers(session: &Session) -> Outcome {
    let mut findings = Vec::from_iter(after_failures(session).unwrap_or_else(|finding| Some(*finding)));
    findings.extend(leaks(session));
    findings.into()
}

fn after_failures(session: &Session) -> Result<Option<Finding>, Box<Finding>> {
    let scripts = session.scripts()?;
    let Some(script) = scripts.first() else { return Ok(None) };
    let play = |what: &str| -> Result<Vec<Step>, Box<Finding>> {
        let mut subject = session.subject()?;
        Ok(session.play(script, &mut subject, what, |_, _| {}))
    };
    let expected = play("before a failed creation")?;
    for options in [r#"{"no_such_option": 1}"#, "[]", "{"] {
        let maker = crate::subject::Maker { options: options.to_owned(), ..session.maker.clone() };
        // That it fails is another test's business.
        drop(maker.create());
    }
    let found = play("after a failed creation")?;
    let what = "after another one could not be created, the device does something else";
    Ok(session.compare(Rule::FAILED_CREATE, script, what, (&expected, &found)))
}

/// Resident memory of this process in bytes.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

fn leaks(session: &Session) -> Option<Finding> {
    let make = |count: u64| {
        session.progress.topic("making and dropping devices");
        for _ in 0..count {
            drop(session.maker.create());
        }
    };
    make(MADE);
    let before = resident_bytes()?;
    make(MADE);
    let left = resident_bytes()?.saturating_sub(before);
    let what = format!("{MADE} devices, made and dropped, leave {} KiB", left >> 10);
    (left > LEFT_BYTES).then(|| Finding::new(Rule::LEAKS, what))
}

/// With windows, and with copies only.
pub(super) fn windows(session: &Session) -> Outcome {
    for_each(session, |script| {
        let run = |windows: bool| -> Result<Played, Box<Finding>> {
            let mut subject = session.subject()?;
            subject.world.windows = windows;
            let what = if windows { "with DMA windows" } else { "with DMA copies" };
            let steps = session.play(script, &mut subject, what, |_, _| {});
            Ok((steps, subject.world.ram.copy()))
        };
        let (copies, windows) = (run(false)?, run(true)?);
        let what = "DMA by copies (expected) and through windows (found) differ";
        Ok(session.compare(Rule::WINDOWS, script, what, (&copies.0, &windows.0)).or_else(|| {
            let differs = compare::ram(&copies.1, &windows.1)?;
            Some(Finding::new(Rule::WINDOWS, what).seed(script.seed).differs(differs))
        }))
    })
}

/// Saved at every step, and never.
pub(super) fn looking(session: &Session) -> Outcome {
    for_each(session, |script| {
        let run = |look: bool| -> Result<Vec<Step>, Box<Finding>> {
            let mut subject = session.subject()?;
            subject.look = look;
            let mut steps = session.play(script, &mut subject, "saved or not", |_, _| {});
            steps.iter_mut().for_each(|step| step.state.clear());
            let last = final_look(&mut subject);
            steps.extend(last);
            Ok(steps)
        };
        let (never, always) = (run(false)?, run(true)?);
        let what = "a device that is saved after each step (found) does not do what one does that never is";
        let Some((step, difference)) = compare::first(&never, &always) else { return Ok(None) };
        let finding = Finding::new(Rule::LOOKING, what);
        let end: &dyn std::fmt::Display = &"the end of the script";
        let op = script.ops.get(step).map_or(end, |op| op as &dyn std::fmt::Display);
        Ok(Some(finding.at(script.seed, step, op).differs(difference)))
    })
}

fn final_look(subject: &mut Subject) -> Option<Step> {
    subject.look = true;
    subject.world.breach.is_none().then(|| subject.seen(None))
}
