//! From a table to settings, with everything in it that cannot be read, and not the first alone: what cannot be is
//! taken out, and the rest is read again.

use super::{Problem, Settings};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use std::fmt::Write as _;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What could not be read.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) problems: Vec<Problem>,
    /// Where it was written.
    places: Vec<Vec<Step>>,
}

/// `None`: so little could be read that there are no settings.
pub(super) fn settings(mut table: Value) -> (Option<Settings>, Unread) {
    let mut unread = Unread::default();
    loop {
        let error = match serde_path_to_error::deserialize(&table) {
            Ok(settings) => return (Some(settings), unread),
            Err(error) => error,
        };
        let steps = steps(error.path());
        let place = unread.written(&steps);
        // What is wrong with something that lacks a part is that the part was wrong.
        if !unread.places.iter().any(|other| other.len() == place.len() + 1 && other.starts_with(&place)) {
            let what = error.into_inner().to_string();
            unread.problems.push(Problem { at: text(&place), what: what.trim_end().to_owned(), help: None });
        }
        if !remove(&mut table, &steps) {
            return (None, unread);
        }
        unread.places.push(place);
    }
}

/// Up to where it can be followed.
fn steps(path: &Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map_while(step).collect()
}

/// Whether it was there.
fn remove(table: &mut Value, steps: &[Step]) -> bool {
    match (table, steps) {
        (Value::Object(map), [Step::Key(key)]) => map.remove(key).is_some(),
        (Value::Array(list), [Step::Index(index)]) if *index < list.len() => {
            list.remove(*index);
            true
        }
        (Value::Object(map), [Step::Key(key), rest @ ..]) => {
            map.get_mut(key).is_some_and(|value| remove(value, rest))
        }
        (Value::Array(list), [Step::Index(index), rest @ ..]) => {
            list.get_mut(*index).is_some_and(|value| remove(value, rest))
        }
        _ => false,
    }
}

fn text(place: &[Step]) -> String {
    let mut out = String::new();
    for step in place {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => write!(out, ".{key}").expect("writing to a string cannot fail"),
            Step::Index(index) => write!(out, "[{index}]").expect("writing to a string cannot fail"),
        }
    }
    out
}

impl Unread {
    /// Where it was written what now has this place: elements of lists have moved up.
    fn written(&self, steps: &[Step]) -> Vec<Step> {
        let mut place: Vec<Step> = Vec::new();
        for step in steps {
            let step = match step {
                Step::Key(_) => step.clone(),
                Step::Index(index) => Step::Index(self.index(&text(&place), *index)),
            };
            place.push(step);
        }
        place
    }

    fn index(&self, list: &str, now: usize) -> usize {
        let mut gone: Vec<usize> = self.places.iter().filter_map(|place| element(place, list)).collect();
        gone.sort_unstable();
        gone.into_iter().fold(now, |index, gone| index + usize::from(gone <= index))
    }

    /// The same of a place that the checks name, such as `rules[2].to`.
    pub(super) fn place(&self, at: &str) -> String {
        let parts = at.split_once('[').and_then(|(list, rest)| Some((list, rest.split_once(']')?)));
        match parts.and_then(|(list, (index, rest))| Some((list, index.parse().ok()?, rest))) {
            Some((list, index, rest)) => format!("{list}[{}]{rest}", self.index(list, index)),
            None => at.to_owned(),
        }
    }
}

/// The index of the element of that list, if it is one that this names.
fn element(place: &[Step], list: &str) -> Option<usize> {
    match place {
        [before @ .., Step::Index(index)] if text(before) == list => Some(*index),
        _ => None,
    }
}
