//! A recording that is replayed with another build of a plugin: both builds go side by side, and what they do is
//! compared, not what they remember, which may be other fields.

use super::{
    Parted, Recorded, Verdict, part,
    search::Outcome,
    text,
    twins::{Builds, Finding, Twins},
};
use crate::failure::{Failure, printable};
use reprise_machine::{Act, Difference, Machine, replay::Position};
use serde_json::{Value, json};
use std::fmt;

use super::names::Names;

/// What the two machines are called.
const SIDES: [&str; 2] = ["recorded", "this build"];

/// A plugin that is not what the recording was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherBuild {
    /// Its name.
    pub(crate) plugin: String,
    /// The devices that are made of it, by id.
    pub(crate) devices: Vec<String>,
    /// Where it is.
    pub(crate) file: String,
}

/// What two builds of a device do not do alike: the first of it in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActDifference {
    /// What the recorded build did; `None`: nothing more.
    pub(super) a: Option<Act>,
    pub(super) b: Option<Act>,
}

/// What is behind a divergence of another build.
#[derive(Clone, Debug)]
pub(super) enum BuildVerdict {
    /// It does something else.
    Apart {
        /// Where it first does.
        conduct: Box<Parted>,
        /// Where what it remembers first is something else, if that is earlier.
        memory: Option<Box<Parted>>,
    },
    /// It does the same to the end, and remembers something else.
    Memory(Vec<Difference>),
}

impl ActDifference {
    /// The first thing in which two devices, or the same, did not do alike.
    pub(super) fn between([a, b]: [Vec<Act>; 2]) -> Option<Self> {
        let differs = |index: &usize| a.get(*index) != b.get(*index);
        let index = (0..a.len().max(b.len())).find(differs)?;
        Some(Self { a: a.get(index).cloned(), b: b.get(index).cloned() })
    }

    /// Whichever build did something.
    pub(super) fn act(&self) -> &Act {
        self.a.as_ref().or(self.b.as_ref()).expect("one of them did something")
    }

    /// As a row of what differs.
    pub(super) fn row(&self) -> Difference {
        let act = self.act();
        match (&self.a, &self.b) {
            (Some(a), Some(b)) if (&a.device, &a.what) == (&b.device, &b.what) => {
                let what = format!("{}: {}", act.device, act.what);
                Difference { what, a: a.value.clone(), b: b.value.clone() }
            }
            (a, b) => {
                let [a, b] = [a, b].map(|side| match side {
                    Some(Act { what, value, .. }) => format!("{what} {value}").trim_end().to_owned(),
                    None => "nothing".to_owned(),
                });
                Difference { what: format!("{} does", act.device), a, b }
            }
        }
    }

    fn to_json(&self) -> Value {
        let Act { device, callback, kind, what, .. } = self.act();
        let value = |act: &Option<Act>| {
            act.as_ref().map(|act| json!({ "kind": act.kind, "what": act.what, "value": act.value }))
        };
        json!({
            "device": device, "callback": callback, "kind": kind, "what": what,
            "recorded": value(&self.a), "here": value(&self.b),
        })
    }
}

/// Compare what the builds do. `None`: the recorded ones are not here, or there is no difference between them.
pub(super) fn compare(end: Position, run: &dyn Recorded, names: &Names) -> Option<Verdict> {
    let devices: Vec<String> = run.other_builds().into_iter().flat_map(|build| build.devices).collect();
    if devices.is_empty() {
        return None;
    }
    let builds = |memory| Builds { devices: devices.clone(), memory };
    let pair = |memory, machines: Result<[Machine; 2], Failure>| {
        let [a, b] = machines?;
        Ok(Twins::of_builds(a, b, builds(memory)))
    };
    let first = run.builds()?;
    let mut first = Some(first);
    let mut fresh = |memory| match first.take().or_else(|| run.builds()) {
        Some(machines) => pair(memory, machines),
        None => Err(Failure::config("the recorded plugins are not here any more")),
    };
    let open = || run.records().ok();
    let apart = match part(|| fresh(false), &open, end) {
        Err(failure) => return Some(Verdict::Failed(failure.to_string())),
        Ok(Outcome::Together { finding }) => return remembered(finding).map(Verdict::Build),
        Ok(Outcome::Apart(apart)) => apart,
    };
    let mut memory = None;
    if apart.finding.is_remembered {
        memory = match part(|| fresh(true), &open, apart.bracket.other) {
            Ok(Outcome::Apart(earlier)) => Some(Box::new(Parted::new(earlier, names))),
            // Then the first answer is all that there is to say.
            Ok(Outcome::Together { .. }) | Err(_) => None,
        };
    }
    let conduct = Box::new(Parted::new(apart, names));
    Some(Verdict::Build(BuildVerdict::Apart { conduct, memory }))
}

/// Builds that did the same to the end.
fn remembered(finding: Finding) -> Option<BuildVerdict> {
    let differences = finding.differences;
    (!differences.is_empty()).then_some(BuildVerdict::Memory(differences))
}

/// `plugin "x" (device a, b)`, of all of them.
fn listed(others: &[OtherBuild]) -> String {
    let one = |build: &OtherBuild| {
        format!("plugin \"{}\" ({})", printable(&build.plugin), printable(&build.devices.join(", ")))
    };
    others.iter().map(one).collect::<Vec<_>>().join(" and ")
}

impl BuildVerdict {
    pub(super) fn tell(&self, out: &mut impl fmt::Write, others: &[OtherBuild]) -> fmt::Result {
        let others = listed(others);
        match self {
            Self::Apart { conduct, memory } => {
                conduct.tell(out, SIDES)?;
                if let Some(difference) = &conduct.apart.finding.act {
                    let Act { device, callback, .. } = difference.act();
                    writeln!(out, "Device {} does something else there, in {callback}.", printable(device))?;
                }
                writeln!(out, "Before it, this build of {others} does what the recorded one did.")?;
                if let Some(memory) = memory {
                    writeln!(out, "\nWhat it remembers was something else before:")?;
                    memory.tell(out, SIDES)?;
                }
                Ok(())
            }
            Self::Memory(differences) => {
                writeln!(
                    out,
                    "To the end of the recording this build of {others} does what the recorded one did."
                )?;
                writeln!(out, "Only what it remembers is not the same, and so are digests of the state:")?;
                text::table(out, differences, SIDES)
            }
        }
    }

    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Apart { .. } => "other-build",
            Self::Memory(_) => "other-state",
        }
    }

    /// Where it first does something else.
    pub(super) fn conduct(&self) -> Option<&Parted> {
        match self {
            Self::Apart { conduct, .. } => Some(conduct),
            Self::Memory(_) => None,
        }
    }

    /// `first_act`: what the device does; `first_state`: where its state is another before that; `state`: the
    /// fields, where nothing else differs.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Apart { conduct, memory } => json!({
                "act": conduct.apart.finding.act.as_ref().map(ActDifference::to_json),
                "state_before": memory.as_ref().map(|memory| memory.to_json()),
                "state": Value::Null,
            }),
            Self::Memory(differences) => json!({
                "act": Value::Null,
                "state_before": Value::Null,
                "state": differences.iter().map(super::json::difference).collect::<Vec<_>>(),
            }),
        }
    }
}

impl OtherBuild {
    pub(super) fn to_json(&self) -> Value {
        json!({ "plugin": self.plugin, "devices": self.devices, "file": self.file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn act(what: &str, value: &str) -> Act {
        let (what, value) = (what.to_owned(), value.to_owned());
        Act { device: "uart0".to_owned(), callback: "mmio_read", kind: "pin", what, value }
    }

    #[test]
    fn the_first_act_that_differs_is_told() {
        let same = act("pin irq", "high");
        let read = |value| act("read of regs+0x0, 1 byte", value);
        let between = |a: &[Act], b: &[Act]| ActDifference::between([a.to_vec(), b.to_vec()]);
        assert_eq!(between(from_ref(&same), from_ref(&same)), None);
        let row = |a: &[Act], b: &[Act]| {
            let Difference { what, a, b } = between(a, b).unwrap().row();
            [what, a, b]
        };
        assert_eq!(
            row(&[same.clone(), read("0x1")], &[same.clone(), read("0x2")]),
            ["uart0: read of regs+0x0, 1 byte", "0x1", "0x2"]
        );
        assert_eq!(row(&[], from_ref(&same)), ["uart0 does", "nothing", "pin irq high"]);
        assert_eq!(
            row(&[read("0x1")], &[same, read("0x1")]),
            ["uart0 does", "read of regs+0x0, 1 byte 0x1", "pin irq high"]
        );
    }
}
