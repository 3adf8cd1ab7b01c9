//! What goes wrong, told to people and to programs: what, where, why, and what to do about it.

use reprise_machine::board::{self, Diagnostic};
use serde_json::{Value, json};
use std::{fmt, io};

/// Exit codes of DESIGN §15 that a failure may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command line.
    Usage = 2,
    /// The board, or the content of a file that it needs.
    Config = 3,
    /// A replay left its recording.
    Diverged = 4,
    /// A recording is damaged.
    Corrupt = 5,
    /// The operating system refuses.
    Io = 6,
    /// A plugin did what it must not.
    Plugin = 7,
    /// What was asked cannot be said.
    Unknown = 8,
}

impl Exit {
    /// By its number.
    pub(crate) fn of(code: u64) -> Option<Self> {
        let all =
            [Self::Usage, Self::Config, Self::Diverged, Self::Corrupt, Self::Io, Self::Plugin, Self::Unknown];
        all.into_iter().find(|exit| *exit as u64 == code)
    }
}

/// The end of a command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// One mistake.
    Plain { what: String, at: Option<String>, notes: Vec<String>, help: Vec<String> },
    /// A report that has its own words.
    Told { text: String, json: Value },
    /// Everything that is wrong with a board.
    Board { diagnostics: Vec<Diagnostic>, source: String },
}

/// As much as fits on one screen beside the prompt.
const SCREEN_LINES: usize = 22;

impl Failure {
    /// `what` is lower case and without a period.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, kind: Kind::Plain { what: what.into(), at: None, notes: Vec::new(), help: Vec::new() } }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::new(Exit::Config, what)
    }

    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::new(Exit::Io, what).note(reason(error))
    }

    pub(crate) fn board(diagnostics: Vec<Diagnostic>, source: &str) -> Self {
        Self { exit: Exit::Config, kind: Kind::Board { diagnostics, source: source.to_owned() } }
    }

    /// `text` is printed as it is, `json` is an object for programs.
    pub(crate) fn told(exit: Exit, text: String, json: Value) -> Self {
        Self { exit, kind: Kind::Told { text, json } }
    }

    /// What a report has for programs.
    pub(crate) fn report(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Told { json, .. } => Some(json),
            Kind::Plain { .. } | Kind::Board { .. } => None,
        }
    }

    /// Where: a file, an argument.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        if let Kind::Plain { at, .. } = &mut self.kind {
            *at = Some(place.to_string());
        }
        self
    }

    /// Why.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        if let Kind::Plain { notes, .. } = &mut self.kind {
            notes.push(text.into());
        }
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        if let Kind::Plain { help, .. } = &mut self.kind {
            help.push(text.into());
        }
        self
    }

    /// What else went wrong, as notes, where this counts more.
    pub(crate) fn beside(self, other: Option<&Self>) -> Self {
        let Some(Self { kind: Kind::Plain { what, notes, .. }, .. }) = other else { return self };
        std::iter::once(what).chain(notes).fold(self, Self::note)
    }

    /// For `--error-format json`: one object on one line.
    pub(crate) fn to_json(&self) -> Value {
        let exit = self.exit as u8;
        match &self.kind {
            Kind::Plain { what, at, notes, help } => {
                json!({ "exit": exit, "message": what, "at": at, "notes": notes, "help": help })
            }
            Kind::Told { text, json } => {
                let first = text.lines().next().unwrap_or_default();
                let message = first.strip_prefix("error: ").unwrap_or(first);
                json!({ "exit": exit, "message": message, "report": json })
            }
            Kind::Board { diagnostics, source } => {
                let errors = board::to_json(diagnostics, source);
                let message = format!(
                    "{} wrong with the board",
                    if diagnostics.len() == 1 { "one thing is" } else { "several things are" }
                );
                json!({ "exit": exit, "message": message, "errors": errors })
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Plain { what, at, notes, help } => {
                writeln!(f, "error: {}", printable(what))?;
                at.iter().try_for_each(|at| writeln!(f, " --> {}", printable(at)))?;
                notes.iter().try_for_each(|note| writeln!(f, "  = note: {}", printable(note)))?;
                help.iter().try_for_each(|help| writeln!(f, "  = help: {}", printable(help)))
            }
            Kind::Told { text, .. } => f.write_str(text),
            Kind::Board { diagnostics, source } => f.write_str(&one_screen(diagnostics, source)),
        }
    }
}

impl std::error::Error for Failure {}

/// The mistakes that fit on a screen, and how many more there are.
fn one_screen(diagnostics: &[Diagnostic], source: &str) -> String {
    let rendered = |count: usize| board::render(&diagnostics[..count], source, false);
    let fits = |&count: &usize| rendered(count).lines().count() < SCREEN_LINES;
    let shown = (1..=diagnostics.len()).rev().find(fits).unwrap_or(1);
    let mut text: String =
        rendered(shown).lines().take(SCREEN_LINES).map(|line| format!("{line}\n")).collect();
    let left = diagnostics.len() - shown;
    if left > 0 {
        let mistakes = if left == 1 { "mistake" } else { "mistakes" };
        text += &format!("\nerror: {left} more {mistakes}; `--error-format json` lists them all\n");
    }
    text
}

/// Names of files and what plugins say may hold anything: control characters must not reach the terminal.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 600;
    let clean = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out.replace('\n', "\n    ")
}

/// The operating system's words without "(os error N)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "no reason given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_what_to_do() {
        let missing = io::Error::from_raw_os_error(2);
        let failure =
            Failure::io("cannot open disk \"disk0\"", &missing).at("a\x1b.img").help("check the name");
        assert_eq!(
            failure.to_string(),
            "error: cannot open disk \"disk0\"\n --> a\u{fffd}.img\n  = note: no such file or directory\n  \
             = help: check the name\n"
        );
        assert_eq!(failure.to_json()["exit"], 6);
    }

    #[test]
    fn what_counts_less_is_a_note() {
        let other = Failure::new(Exit::Plugin, "observer \"x\" failed").note("its disk is full");
        let failure = Failure::usage("no").beside(None).beside(Some(&other));
        assert_eq!(failure.exit, Exit::Usage);
        let text = "error: no\n  = note: observer \"x\" failed\n  = note: its disk is full\n";
        assert_eq!(failure.to_string(), text);
    }

    #[test]
    fn cuts_what_is_too_long() {
        let text = Failure::usage("x".repeat(10_000)).to_string();
        assert!(text.len() < 1000, "{} bytes", text.len());
    }
}
