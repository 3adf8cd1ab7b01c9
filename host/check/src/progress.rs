//! What a test process is doing, kept where the parent can read it after a crash.

use rustix::fd::OwnedFd;
use std::{cell::RefCell, rc::Rc};

/// Length of the text; the job follows.
pub(crate) const BYTES: usize = 512;

/// The note. Without a file it goes nowhere.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    file: Option<Rc<OwnedFd>>,
    /// Seed and what is done with it.
    pub(crate) topic: Rc<RefCell<String>>,
}

impl Progress {
    pub(crate) fn to(file: OwnedFd) -> Self {
        Self { file: Some(Rc::new(file)), topic: Rc::default() }
    }

    /// What the next steps are about.
    pub(crate) fn topic(&self, topic: impl Into<String>) {
        *self.topic.borrow_mut() = topic.into();
        self.note(String::new);
    }

    /// Now this.
    pub(crate) fn step(&self, step: usize, op: &dyn std::fmt::Display) {
        self.note(|| format!(", step {step}: {op}"));
    }

    fn note(&self, text: impl FnOnce() -> String) {
        let Some(file) = &self.file else { return };
        let mut line = [b' '; BYTES];
        let text = format!("{}{}", self.topic.borrow(), text());
        let len = text.len().min(BYTES);
        line[..len].copy_from_slice(&text.as_bytes()[..len]);
        // A note that cannot be written costs the report of a crash its place, no more.
        let _lost = rustix::io::pwrite(&**file, &line, 0);
    }
}
