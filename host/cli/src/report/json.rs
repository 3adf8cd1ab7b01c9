//! A report for programs.

use super::{OtherBuild, Parted, Report, Verdict, history::Line, search::Bracket, text, twins::Stand};
use reprise_machine::{Difference, Upcoming, replay::Position};
use serde_json::{Value, json};

impl Report {
    /// One object: what [`std::fmt::Display`] says, and what it leaves out.
    pub(crate) fn to_json(&self) -> Value {
        let left = &self.left;
        let harts: Vec<Value> = left.harts.iter().map(upcoming).collect();
        json!({
            "kind": text::kind(left.kind),
            "icount": left.icount,
            "vtime_ns": left.position.vtime_ns,
            "order": left.position.order,
            "harts": harts,
            "expected": left.expected.as_ref().map(line),
            "found": left.found,
            "last_agreed": left.agreed.as_ref().map(line),
            "sections": left.sections,
            "cause": self.cause(),
            "first_difference": match &self.verdict {
                Verdict::Parted(parted) => parted.to_json(),
                Verdict::Build(build) => build.conduct().map_or(Value::Null, Parted::to_json),
                _ => Value::Null,
            },
            "build": match &self.verdict {
                Verdict::Build(build) => build.to_json(),
                _ => Value::Null,
            },
            "other_builds": self.others.iter().map(OtherBuild::to_json).collect::<Vec<_>>(),
            "disk": self.disk(),
            "changed": self.changed,
            "records": self.history.last.iter().map(line).collect::<Vec<_>>(),
        })
    }

    /// What is behind it, in a word.
    fn cause(&self) -> &'static str {
        match &self.verdict {
            Verdict::Disk(_) => "disk-changed",
            Verdict::Parted(_) => "not-deterministic",
            Verdict::Build(build) => build.cause(),
            Verdict::Systematic => "systematic",
            Verdict::Gone { .. } => "not-reproduced",
            Verdict::NotSearched => "not-searched",
            Verdict::Failed(_) => "search-failed",
        }
    }

    fn disk(&self) -> Value {
        let Verdict::Disk(change) = &self.verdict else { return Value::Null };
        let (from, to) = change.bytes();
        json!({
            "port": change.port,
            "block": change.block,
            "from_byte": from,
            "to_byte": to,
            "recorded": change.recorded,
            "found": change.found,
        })
    }
}

impl Parted {
    pub(super) fn to_json(&self) -> Value {
        let Bracket { same, other } = self.apart.bracket;
        let finding = &self.apart.finding;
        let expired = finding.expired().filter(|_| self.apart.exact);
        let expired: Vec<Value> =
            expired.map(|timer| json!({ "device": timer.device, "timer": timer.timer })).collect();
        let instruction = finding.culprit().filter(|_| self.apart.exact);
        json!({
            "exact": self.apart.exact,
            "moves": self.apart.moves,
            "passes": self.apart.passes,
            "same": same.map(position),
            "different": position(other),
            "before": finding.before.as_ref().map(stand),
            "instruction": instruction.map(|(hart, at)| {
                let mut value = upcoming(at);
                value["hart"] = json!(hart);
                value
            }),
            "expired": expired,
            "suspect": self.suspect.as_ref().map(|(device, plugin)| json!({ "device": device, "plugin": plugin })),
            "a": stand(&finding.a),
            "b": stand(&finding.b),
            "differences": finding.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    }
}

pub(super) fn difference(difference: &Difference) -> Value {
    let Difference { what, a, b } = difference;
    json!({ "what": what, "a": a, "b": b })
}

fn stand(stand: &Stand) -> Value {
    json!({
        "icount": stand.icount,
        "vtime_ns": stand.vtime_ns,
        "harts": stand.harts.iter().map(upcoming).collect::<Vec<_>>(),
        "stop": stand.stop.as_ref().map(text::stop),
    })
}

fn upcoming(upcoming: &Upcoming) -> Value {
    json!({
        "pc": format!("{:#x}", upcoming.pc),
        "symbol": upcoming.symbol,
        "instruction": upcoming.text,
        "operand": upcoming.operand_gpa.map(|gpa| format!("{gpa:#x}")),
        "device": upcoming.device,
    })
}

fn position(position: Position) -> Value {
    json!({ "vtime_ns": position.vtime_ns, "order": position.order })
}

pub(super) fn line(line: &Line) -> Value {
    json!({
        "number": line.number,
        "icount": line.icount,
        "vtime_ns": line.position.vtime_ns,
        "order": line.position.order,
        "text": line.text,
    })
}
