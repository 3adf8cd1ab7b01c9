//! State records: saved, loaded, handed over, damaged.

mod record;

use crate::{
    compare,
    finding::Finding,
    phrases::Phrases,
    rule::Rule,
    script::{Reach, Rng, steps},
    session::{Outcome, Script, Session},
    subject::{Step, Subject},
    world::{Breach, World},
};
use record::Record;
use reprise_abi::state;
use serde_json::{Value, json};

/// One step in so many begins with a save and a load.
const RELOAD_EVERY: u64 = 8;
/// Damaged records of each sort for a script.
const DAMAGES: u64 = 150;
/// Steps that a device is driven which has taken a damaged record.
const AFTER: u32 = 24;
/// Steps that are compared behind a hand-over.
const REST: usize = 50;
/// Hand-overs of each script, and before which step: later there is more RAM to hand over, and nothing else.
const HAND_OVERS: u64 = 10;
const HAND_OVER_BEFORE: u64 = 256;

/// Records are well-formed, and saved the same when they were loaded.
pub(super) fn record(session: &Session) -> Outcome {
    let test = |script: &Script| -> Result<Option<Finding>, Box<Finding>> {
        let mut subject = session.subject()?;
        let mut rng = Rng::new(script.seed);
        let mut finding = None;
        session.play(script, &mut subject, "saving", |step, subject| {
            if finding.is_none() && rng.below(4) == 0 {
                finding =
                    look_at(session, subject).map(|found| found.at(script.seed, step, &script.ops[step]));
            }
        });
        Ok(finding)
    };
    first(session, test)
}

fn first(session: &Session, test: impl Fn(&Script) -> Result<Option<Finding>, Box<Finding>>) -> Outcome {
    let run = || session.scripts()?.iter().find_map(|script| test(script).transpose()).transpose();
    run().unwrap_or_else(|finding| Some(*finding)).into()
}

fn look_at(session: &Session, subject: &mut Subject) -> Option<Finding> {
    let saved = subject.save();
    if let Err(error) = state::flatten(&saved) {
        return Some(Finding::new(Rule::RECORD, format!("saves a record that cannot be read: {error}")));
    }
    let mut fresh = Subject::unreset(&session.maker).ok()?;
    if let Err(refusal) = fresh.load(&saved) {
        return Some(Finding::new(Rule::FIXPOINT, format!("refuses its own record: {}", refusal.text)));
    }
    let again = fresh.save();
    let difference = compare::records(&saved, &again)?;
    let what = "a record was loaded and saved again, and is another";
    Some(Finding::new(Rule::FIXPOINT, what).differs(difference))
}

/// Save, drop, create, load at random steps.
pub(super) fn reload(session: &Session) -> Outcome {
    first(session, |script| {
        let mut plain = session.subject()?;
        let expected = session.play(script, &mut plain, "never loaded", |_, _| {});
        drop(plain);
        let mut subject = session.subject()?;
        let mut rng = Rng::new(!script.seed);
        let found = session.play(script, &mut subject, "saved and loaded", |_, subject| {
            if rng.below(RELOAD_EVERY) == 0
                && let Err(text) = subject.reload()
            {
                subject.world.broke(Breach::Refused(format!("refuses its own record: {text}")));
            }
        });
        let what = "a device that was saved, dropped, created and loaded at random does something else";
        Ok(session.compare(Rule::RELOAD, script, what, (&expected, &found)))
    })
}

/// A device and its world in the middle of a script, for another one to go on with.
struct Baton {
    at: usize,
    record: Vec<u8>,
    world: World,
    /// What the first one does from there.
    rest: Vec<Step>,
}

fn baton(session: &Session, script: &Script, at: usize) -> Result<Option<Baton>, Box<Finding>> {
    let end = (at + REST).min(script.ops.len());
    let mut subject = session.subject()?;
    let mut held = None;
    let cut = Script { seed: script.seed, sort: script.sort, ops: script.ops[..end].to_vec() };
    let steps = session.play(&cut, &mut subject, "to hand over", |step, subject| {
        if step == at {
            held = Some((subject.save(), subject.world.duplicate()));
        }
    });
    let rest = steps.get(at..).unwrap_or_default().to_vec();
    Ok(held.map(|(record, world)| Baton { at, record, world, rest }))
}

/// Go on from a baton, and say what is different.
fn take_over(
    session: &Session,
    script: &Script,
    baton: Baton,
    subject: &mut Subject,
    finding: Finding,
) -> Option<Finding> {
    let Baton { at, record, world, rest } = baton;
    *subject.world = world;
    if let Err(refusal) = subject.load(&record) {
        let what = format!("{}: it refuses the record: {}", finding.what, refusal.text);
        return Some(Finding { what, ..finding }.at(script.seed, at, &script.ops[at]));
    }
    let ops = script.ops[at..(at + rest.len()).min(script.ops.len())].to_vec();
    let tail = Script { seed: script.seed, sort: script.sort, ops };
    let found = session.play(&tail, subject, "taken over", |_, _| {});
    let (step, difference) = compare::first(&rest, &found)?;
    Some(finding.at(script.seed, at + step, &tail.ops[step]).differs(difference))
}

/// Load into a device that has a past of its own.
pub(super) fn overwrite(session: &Session) -> Outcome {
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    first(session, |script| {
        let Some(baton) = baton(session, script, script.ops.len() / 2)? else { return Ok(None) };
        let mut used = session.subject()?;
        let past = scripts.iter().rev().find(|past| past.seed != script.seed).unwrap_or(script);
        session.play(past, &mut used, "getting a past", |_, _| {});
        let what = "a record loaded into a used device does not replace all of its past";
        Ok(take_over(session, script, baton, &mut used, Finding::new(Rule::OVERWRITES, what)))
    })
}

/// The first half of a relay: what another process needs to go on.
pub(super) fn hand_over(session: &Session) -> Outcome {
    let pack = |script: &Script, index: usize, at: usize| -> Result<Option<Value>, Box<Finding>> {
        let Some(Baton { at, record, world, rest }) = baton(session, script, at)? else { return Ok(None) };
        let ram = world.ram.copy();
        let pages = ram.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
        let pages: Vec<Value> = pages.map(|(number, page)| json!([number, hex(page)])).collect();
        Ok(Some(json!({
            "script": index, "at": at, "record": hex(&record), "world": world, "pages": pages, "rest": rest,
        })))
    };
    let mut batons = Vec::new();
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    for (index, script) in scripts.iter().enumerate() {
        let mut rng = Rng::new(script.seed);
        let early = (0..HAND_OVERS).map(|_| 1 + rng.below(HAND_OVER_BEFORE) as usize);
        let late = (index as u64).is_multiple_of(session.job.seeds.max(1)).then(|| script.ops.len() * 3 / 4);
        for at in early.chain(late) {
            match pack(script, index, at) {
                Ok(baton) => batons.extend(baton),
                Err(finding) => return finding.into(),
            }
        }
    }
    Outcome { data: Value::from(batons), ..Outcome::default() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn unpack(packed: &Value) -> Option<(usize, Baton)> {
    let number = |key: &str| packed.get(key).and_then(Value::as_u64).map(|value| value as usize);
    let world: World = serde_json::from_value(packed.get("world")?.clone()).ok()?;
    for page in packed.get("pages")?.as_array()? {
        let bytes = unhex(page.get(1)?.as_str()?)?;
        world.ram.put(crate::script::RAM_BASE + 4096 * page.get(0)?.as_u64()?, &bytes);
    }
    let record = unhex(packed.get("record")?.as_str()?)?;
    let rest = serde_json::from_value(packed.get("rest")?.clone()).ok()?;
    Some((number("script")?, Baton { at: number("at")?, record, world, rest }))
}

/// The second half of a relay, in a process that has never run this device.
pub(super) fn go_on(session: &Session) -> Outcome {
    let scripts = match session.scripts() {
        Ok(scripts) => scripts,
        Err(finding) => return finding.into(),
    };
    let batons = session.job.extra.as_array().into_iter().flatten();
    for (script, baton) in batons.filter_map(unpack) {
        // As the machine does: created, reset, loaded.
        let mut subject = match session.subject() {
            Ok(subject) => subject,
            Err(finding) => return finding.into(),
        };
        let what = "a record that was loaded in a new process does not bring back what it was saved from";
        let finding = Finding::new(Rule::ISOLATED, what);
        let Some(script) = scripts.get(script) else { continue };
        if let Some(finding) = take_over(session, script, baton, &mut subject, finding) {
            return finding.into();
        }
    }
    Outcome::default()
}

/// Records that nobody has saved.
pub(super) fn garbage(session: &Session) -> Outcome {
    let mut findings: Vec<Finding> = Vec::new();
    let mut run = || -> Result<(), Box<Finding>> {
        for script in session.scripts()? {
            let mut source = session.subject()?;
            let mut rng = Rng::new(script.seed);
            let every = (script.ops.len() as u64 / DAMAGES).max(1);
            let mut records = Vec::new();
            session.play(&script, &mut source, "for records to damage", |_, source| {
                if rng.below(every) == 0 {
                    records.push(source.save());
                }
            });
            let damaged = records.iter().flat_map(|record| damages(record, &mut rng)).collect::<Vec<_>>();
            let mut tries = Vec::new();
            tries.extend(damaged.into_iter().map(|record| (Expect::Anything, record)));
            if let Some(record) = records.last() {
                tries.extend((0..record.len().min(600)).map(|len| (Expect::Refusal, record[..len].to_vec())));
                tries.extend(other_versions(record));
                tries.extend(incomplete(record));
            }
            for (number, (expect, record)) in tries.iter().enumerate() {
                if let Some(finding) = try_record(session, script.seed, number, expect, record)
                    && !findings.iter().any(|other| other.rule == finding.rule)
                {
                    findings.push(finding);
                }
            }
        }
        Ok(())
    };
    if let Err(finding) = run() {
        return finding.into();
    }
    findings.into()
}

/// What must become of a record.
enum Expect {
    Anything,
    Refusal,
    /// It has this version, which is older.
    Older(u32),
    Newer(u32),
    /// Such a field is missing, or is too many.
    Incomplete(String),
}

/// Bytes changed, behind the version: that has a rule of its own.
fn damages(record: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
    const VERSION_BYTES: usize = 4;
    let mut changed = record.to_vec();
    if record.len() > VERSION_BYTES {
        for _ in 0..=rng.below(3) {
            let at = VERSION_BYTES + rng.below((record.len() - VERSION_BYTES) as u64) as usize;
            changed[at] = [0, 1, 0x7f, 0xff, rng.draw() as u8][rng.below(5) as usize];
        }
    }
    let garbage: Vec<u8> = (0..rng.below(200)).map(|_| rng.draw() as u8).collect();
    let head = record.get(..VERSION_BYTES).unwrap_or_default();
    vec![changed, [head, &garbage].concat()]
}

fn other_versions(record: &[u8]) -> Vec<(Expect, Vec<u8>)> {
    let Some(version) = record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
        return Vec::new();
    };
    let with = |version: u32| [&version.to_le_bytes()[..], &record[4..]].concat();
    let older = (0..version).rev().take(8).map(|older| (Expect::Older(older), with(older)));
    let newer = [version.saturating_add(1), u32::MAX].into_iter().filter(|newer| *newer > version);
    older.chain(newer.map(|newer| (Expect::Newer(newer), with(newer)))).collect()
}

fn incomplete(record: &[u8]) -> Vec<(Expect, Vec<u8>)> {
    let Some(record) = Record::read(record) else { return Vec::new() };
    let lacking = record.names().into_iter().map(|name| {
        let without = record.without(&name);
        (Expect::Incomplete(format!("without the field `{name}`")), without)
    });
    let more = (Expect::Incomplete("with a field `no_such_field`".to_owned()), record.with("no_such_field"));
    lacking.chain([more]).collect()
}

fn try_record(
    session: &Session,
    seed: u64,
    number: usize,
    expect: &Expect,
    record: &[u8],
) -> Option<Finding> {
    let what = match expect {
        Expect::Anything => "a damaged record".to_owned(),
        Expect::Refusal => format!("a record cut to {} bytes", record.len()),
        Expect::Older(version) => format!("a record of version {version}, an older one"),
        Expect::Newer(version) => format!("a record of version {version}, which is newer"),
        Expect::Incomplete(how) => format!("a record {how}"),
    };
    session.progress.topic(format!("loading {what}, number {number} of seed {seed}"));
    let mut subject = Subject::new(&session.maker).ok()?;
    let rule = match expect {
        Expect::Anything | Expect::Refusal => Rule::GARBAGE,
        Expect::Older(_) | Expect::Newer(_) => Rule::VERSIONS,
        Expect::Incomplete(_) => Rule::COMPLETE,
    };
    let found = |rule: Rule, text: String| Some(Finding::new(rule, format!("{what}: {text}")).seed(seed));
    match (subject.load(record), expect) {
        (Err(refusal), _) if refusal.panicked => found(rule, format!("panicked: {}", refusal.text)),
        (Err(_), _) => None,
        (Ok(()), Expect::Refusal | Expect::Newer(_) | Expect::Incomplete(_)) => {
            found(rule, "was taken".to_owned())
        }
        (Ok(()), Expect::Anything | Expect::Older(_)) => {
            let text = lives(&mut subject, seed)?;
            let rule = if rule == Rule::GARBAGE { Rule::IMPOSSIBLE } else { rule };
            found(rule, format!("was taken, and then: {text}"))
        }
    }
}

/// What goes wrong with a device that has taken a record.
fn lives(subject: &mut Subject, seed: u64) -> Option<String> {
    subject.reset_timers();
    // The record says where it is: what brings it up would lead away from there.
    let ops = steps(subject.desc(), &Phrases::default(), seed, AFTER, Reach::Everything);
    ops.iter().find_map(|op| match subject.apply(op).breach {
        Some(breach @ Breach::Panic(_)) => Some(format!("{op}: {breach}")),
        Some(_) | None => None,
    })
}

impl Subject {
    /// No timer of the reset before the load may come: the record is not of that moment.
    fn reset_timers(&mut self) {
        self.world.timers.fill(None);
        self.world.events.clear();
    }
}
