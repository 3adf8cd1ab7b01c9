//! After a reset, a device is as a new one.

use crate::{
    compare::{self, Difference},
    finding::Finding,
    rule::Rule,
    script::Reach,
    session::{Outcome, Script, Session},
    subject::Subject,
    world::{Event, World},
};
use reprise_abi::{
    hot,
    link::{gpio, stream},
};

/// Reset in the middle of a life that only the guest has shaped, beside a new device at the same time.
pub(super) fn reset(session: &Session) -> Outcome {
    let run = || -> Result<Vec<Finding>, Box<Finding>> {
        let mut findings: Vec<Finding> = Vec::new();
        let mut scripts = session.accesses(Reach::GuestOnly)?;
        scripts.extend(session.rings());
        for script in &scripts {
            for finding in after(session, script)? {
                if !findings.iter().any(|other| other.rule == finding.rule) {
                    findings.push(finding);
                }
            }
        }
        Ok(findings)
    };
    run().map_or_else(Outcome::from, Outcome::from)
}

fn after(session: &Session, script: &Script) -> Result<Vec<Finding>, Box<Finding>> {
    let mut used = session.subject()?;
    used.look = false;
    session.play(script, &mut used, "before a reset", |_, _| {});
    used.world.events.clear();
    used.reset(hot::RESET_WARM);
    let mut fresh = Subject::unreset(&session.maker).map_err(|error| crate::session::uncreated(&error))?;
    fresh.world.now_ns = used.world.now_ns;
    fresh.world.random = used.world.random.clone();
    fresh.world.ram.put(crate::script::RAM_BASE, &used.world.ram.copy());
    fresh.reset(hot::RESET_COLD);
    let kept = fresh.desc().kept.clone();
    let state = compare::records_but(&fresh.save(), &used.save(), &kept);
    let what = "a new device (expected) and one after a warm reset (found) differ";
    let finding = |rule, difference| {
        Finding::new(rule, what).at(script.seed, script.ops.len(), &"warm reset").differs(difference)
    };
    let mut findings = Vec::from_iter(state.map(|difference| finding(Rule::RESETS, difference)));
    findings.extend(pins(&fresh.world, &used.world).map(|found| finding(Rule::RESET_PINS, found)));
    findings.extend(said(&fresh, &used).map(|found| finding(Rule::RESETS, found)));
    findings.extend(timers(&fresh.world, &used.world).map(|found| finding(Rule::RESET_TIMERS, found)));
    Ok(findings)
}

fn pins(fresh: &World, used: &World) -> Option<Difference> {
    let at = fresh.outputs.iter().zip(&used.outputs).position(|(fresh, used)| fresh != used)?;
    let level = |high: bool| if high { "high" } else { "low" };
    let field = format!("pin {}", fresh.output_names[at]);
    Some(Difference::new(field, level(fresh.outputs[at]), level(used.outputs[at])))
}

/// On links whose other end takes it that nothing is said any more, until it is said anew.
fn said(fresh: &Subject, used: &Subject) -> Option<Difference> {
    let begins_anew = |name: &String| {
        let link = fresh.desc().links.iter().find(|link| link.name == *name);
        link.is_some_and(|link| [gpio::PROTOCOL, stream::PROTOCOL].contains(&link.protocol.as_str()))
    };
    let words = |subject: &Subject| -> Vec<String> {
        let all = subject.world.events.iter();
        all.filter(|event| matches!(event, Event::Said { link, .. } if begins_anew(link)))
            .map(ToString::to_string)
            .collect()
    };
    let (fresh, used) = (words(fresh), words(used));
    let shown =
        |words: Vec<String>| if words.is_empty() { "nothing is said".to_owned() } else { words.join("; ") };
    (fresh != used).then(|| Difference::new("messages", shown(fresh), shown(used)))
}

fn timers(fresh: &World, used: &World) -> Option<Difference> {
    let deadline = |world: &World, at: usize| world.timers[at].map(|(deadline_ns, _)| deadline_ns);
    let at = (0..fresh.timers.len()).find(|at| deadline(fresh, *at) != deadline(used, *at))?;
    let shown = |at: Option<u64>| at.map_or("not armed".to_owned(), |at| format!("armed for {at} ns"));
    let field = format!("timer {}", fresh.timer_names[at]);
    Some(Difference::new(field, shown(deadline(fresh, at)), shown(deadline(used, at))))
}
