//! After a reset, a device is as a new one.

use crate::{
    compare::{self, Difference},
    finding::Finding,
    rule::Rule,
    script::Reach,
    session::{Outcome, Script, Session},
    subject::Subject,
    world::World,
};
use reprise_abi::hot;

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
    findings.extend(timers(&fresh.world, &used.world).map(|found| finding(Rule::RESET_TIMERS, found)));
    Ok(findings)
}

fn pins(fresh: &World, used: &World) -> Option<Difference> {
    let at = fresh.outputs.iter().zip(&used.outputs).position(|(fresh, used)| fresh != used)?;
    let level = |high: bool| if high { "high" } else { "low" };
    let field = format!("pin {}", fresh.output_names[at]);
    Some(Difference::new(field, level(fresh.outputs[at]), level(used.outputs[at])))
}

fn timers(fresh: &World, used: &World) -> Option<Difference> {
    let deadline = |world: &World, at: usize| world.timers[at].map(|(deadline_ns, _)| deadline_ns);
    let at = (0..fresh.timers.len()).find(|at| deadline(fresh, *at) != deadline(used, *at))?;
    let shown = |at: Option<u64>| at.map_or("not armed".to_owned(), |at| format!("armed for {at} ns"));
    let field = format!("timer {}", fresh.timer_names[at]);
    Some(Difference::new(field, shown(deadline(fresh, at)), shown(deadline(used, at))))
}
