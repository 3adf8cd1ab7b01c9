//! What a test found: which rule, where, what differs, and how to see it again.

use crate::{compare::Difference, rule::Rule};
use serde::{Deserialize, Serialize};

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `R007`.
    pub rule: String,
    /// What happened.
    pub what: String,
    /// The seed that shows it again, if one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// What was done in that step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// What differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value that was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The value that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Finding {
    pub(crate) fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self {
            rule: rule.to_string(),
            what: what.into(),
            seed: None,
            step: None,
            op: None,
            field: None,
            expected: None,
            found: None,
        }
    }

    pub(crate) fn at(mut self, seed: u64, step: usize, op: &dyn std::fmt::Display) -> Self {
        (self.seed, self.step, self.op) = (Some(seed), Some(step), Some(op.to_string()));
        self
    }

    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(crate) fn differs(mut self, difference: Difference) -> Self {
        let Difference { field, left, right } = difference;
        (self.field, self.expected, self.found) = (Some(field), Some(left), Some(right));
        self
    }
}
