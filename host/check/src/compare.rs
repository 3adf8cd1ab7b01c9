//! Where two plays of the same steps differ first, and in what.

use crate::{subject::Step, world::hex};
use reprise_abi::state;
use std::fmt::Display;

/// A difference: what, and both values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) left: String,
    pub(crate) right: String,
}

impl Difference {
    pub(crate) fn new(field: impl Into<String>, left: impl Display, right: impl Display) -> Self {
        Self { field: field.into(), left: left.to_string(), right: right.to_string() }
    }
}

fn shown<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

/// Step and difference of the first step that differs.
pub(crate) fn first(left: &[Step], right: &[Step]) -> Option<(usize, Difference)> {
    let at = left.iter().zip(right).position(|(left, right)| left != right)?;
    Some((at, steps(&left[at], &right[at])))
}

/// What differs between two steps that are not equal.
fn steps(left: &Step, right: &Step) -> Difference {
    if left.breach != right.breach {
        let shown = |step: &Step| step.breach.as_ref().map_or("all is well".to_owned(), ToString::to_string);
        return Difference::new("callback", shown(left), shown(right));
    }
    if left.value != right.value {
        let shown = |value: Option<u64>| value.map_or("a fault".to_owned(), |value| format!("{value:#x}"));
        return Difference::new("value read", shown(left.value), shown(right.value));
    }
    if let Some(at) = unequal(&left.events, &right.events) {
        let field = format!("effect {}", at + 1);
        return Difference::new(field, shown(left.events.get(at)), shown(right.events.get(at)));
    }
    if let Some(at) = unequal(&left.timers, &right.timers) {
        let shown = |timer: Option<&Option<(u64, usize)>>| match timer {
            Some(Some((at, rank))) => format!("armed for {at} ns, number {} of those armed", rank + 1),
            Some(None) | None => "not armed".to_owned(),
        };
        return Difference::new(
            format!("timer {at}"),
            shown(left.timers.get(at)),
            shown(right.timers.get(at)),
        );
    }
    if let Some(at) = unequal(&left.bhs, &right.bhs) {
        let shown = |entry: Option<&(u32, Option<Vec<u8>>)>| match entry {
            Some((bh, None)) => format!("bottom half {bh}"),
            Some((bh, Some(payload))) => format!("bottom half {bh} with {}", hex(payload)),
            None => "nothing".to_owned(),
        };
        return Difference::new("bottom halves queued", shown(left.bhs.get(at)), shown(right.bhs.get(at)));
    }
    records(&left.state, &right.state).unwrap_or_else(|| Difference::new("step", "", ""))
}

fn unequal<T: PartialEq>(left: &[T], right: &[T]) -> Option<usize> {
    let common = left.iter().zip(right).position(|(left, right)| left != right);
    common.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))
}

/// The first field in which two state records differ.
pub(crate) fn records(left: &[u8], right: &[u8]) -> Option<Difference> {
    records_but(left, right, &[])
}

/// The same, without these fields and what is in them.
pub(crate) fn records_but(left: &[u8], right: &[u8], without: &[String]) -> Option<Difference> {
    let is_in = |path: &str, field: &String| {
        path.strip_prefix(field.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    match state::diff(left, right) {
        Ok(differences) => differences
            .into_iter()
            .find(|difference| !without.iter().any(|field| is_in(&difference.path, field)))
            .map(|difference| {
                let field = if difference.path.is_empty() { "record".to_owned() } else { difference.path };
                Difference::new(field, shown(difference.left), shown(difference.right))
            }),
        Err(error) => Some(Difference::new("record", error, "not compared")),
    }
}

/// Where RAM differs.
pub(crate) fn ram(left: &[u8], right: &[u8]) -> Option<Difference> {
    let at = unequal(left, right)?;
    let line = |ram: &[u8]| hex(&ram[at..ram.len().min(at + 8)]);
    let gpa = crate::script::RAM_BASE + at as u64;
    Some(Difference::new(format!("RAM at {gpa:#x}"), line(left), line(right)))
}
