//! What is wrong with a board, where, and what to do about it.

use super::document::{Origin, Override};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};
use std::ops::Range;

/// What sort of mistake it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not TOML.
    Syntax,
    /// A `--set` argument that cannot be applied.
    Override,
    /// A key or table that the language does not have.
    UnknownKey,
    /// Something required is not there.
    Missing,
    /// A value of another type.
    WrongType,
    /// A value of the right type that cannot be.
    BadValue,
    /// A number outside its range.
    OutOfRange,
    /// A plugin that cannot be found or used.
    Plugin,
    /// A plugin without that kind.
    UnknownKind,
    /// A pin, line, hart or device that is not there.
    UnknownPin,
    /// A port that is not there.
    UnknownPort,
    /// A link that is not there.
    UnknownLink,
    /// A region that is not there.
    UnknownRegion,
    /// Two things at one address.
    Overlap,
    /// Several drivers of one input, or a `*` that does not fit.
    Wiring,
    /// The device refuses its options.
    Option,
}

impl Code {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Override => "override",
            Self::UnknownKey => "unknown-key",
            Self::Missing => "missing",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::OutOfRange => "out-of-range",
            Self::Plugin => "plugin",
            Self::UnknownKind => "unknown-kind",
            Self::UnknownPin => "unknown-pin",
            Self::UnknownPort => "unknown-port",
            Self::UnknownLink => "unknown-link",
            Self::UnknownRegion => "unknown-region",
            Self::Overlap => "overlap",
            Self::Wiring => "wiring",
            Self::Option => "option",
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What sort.
    pub code: Code,
    /// What is wrong: lower case, without a period.
    pub message: String,
    /// The board's name, as given to [`super::parse`].
    pub file: String,
    /// The device it is about.
    pub device: Option<String>,
    /// Where; the first one is the place of the mistake, others say what it clashes with.
    pub labels: Vec<Label>,
    /// What explains it.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Vec<String>,
}

/// A place with a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// May be empty.
    pub text: String,
}

/// A place in what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the board, in bytes.
    File(Range<usize>),
    /// In a `--set` argument.
    Set {
        /// The whole argument, `key=value`.
        argument: String,
        /// In it, in bytes.
        span: Range<usize>,
    },
}

impl Diagnostic {
    /// The place of the mistake in the file, in bytes; `None` if it is in an argument.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        match self.labels.first().map(|label| &label.place) {
            Some(Place::File(span)) => Some(span.clone()),
            Some(Place::Set { .. }) | None => None,
        }
    }

    fn title(&self) -> String {
        match &self.device {
            Some(device) => format!("device `{device}`: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// Mistakes in arguments after those in the file.
    fn sort_key(&self) -> (bool, usize) {
        self.span().map_or((true, 0), |span| (false, span.start))
    }
}

/// Collects the mistakes of one board.
pub(super) struct Report<'a> {
    file: &'a str,
    text_len: usize,
    overrides: &'a [Override],
    diagnostics: Vec<Diagnostic>,
    device: Option<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, text: &str, overrides: &'a [Override]) -> Self {
        Self { file, text_len: text.len(), overrides, diagnostics: Vec::new(), device: None }
    }

    /// What follows is about this device, or about none.
    pub(super) fn about(&mut self, device: Option<&str>) {
        self.device = device.map(str::to_owned);
    }

    /// Note a mistake at `at`; the result takes further remarks.
    pub(super) fn error(&mut self, code: Code, at: &Origin, message: impl Into<String>) -> Remarks<'_, 'a> {
        self.diagnostics.push(Diagnostic {
            code,
            message: message.into(),
            file: self.file.to_owned(),
            device: self.device.clone(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        });
        Remarks { report: self }.also(at, "")
    }

    /// The argument's value as it was written, if the value came from one.
    pub(super) fn raw_value(&self, at: &Origin) -> Option<&'a str> {
        match at {
            Origin::Set { index, .. } => self.overrides.get(*index).map(|set| set.value.as_str()),
            Origin::File(_) => None,
        }
    }

    /// How many mistakes so far.
    pub(super) fn count(&self) -> usize {
        self.diagnostics.len()
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.diagnostics.is_empty()
    }

    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(Diagnostic::sort_key);
        self.diagnostics
    }

    fn place(&self, at: &Origin) -> Place {
        match at {
            Origin::File(span) => Place::File(span.start.min(self.text_len)..span.end.min(self.text_len)),
            Origin::Set { index, span } => {
                let argument = self.overrides[*index].argument();
                let span = span.start.min(argument.len())..span.end.min(argument.len());
                Place::Set { argument, span }
            }
        }
    }
}

/// Adds to the last mistake.
pub(super) struct Remarks<'r, 'a> {
    report: &'r mut Report<'a>,
}

impl Remarks<'_, '_> {
    fn last(&mut self) -> &mut Diagnostic {
        self.report.diagnostics.last_mut().expect("remarks follow a mistake")
    }

    /// Another place.
    pub(super) fn also(mut self, at: &Origin, text: impl Into<String>) -> Self {
        let label = Label { place: self.report.place(at), text: text.into() };
        self.last().labels.push(label);
        self
    }

    /// A remark at the place itself.
    pub(super) fn label(mut self, text: impl Into<String>) -> Self {
        self.last().labels[0].text = text.into();
        self
    }

    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        self.last().notes.push(text.into());
        self
    }

    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.last().help.push(text.into());
        self
    }

    /// "did you mean", or else what there is to choose from.
    pub(super) fn suggest<'s>(self, word: &str, choices: impl IntoIterator<Item = &'s str>) -> Self {
        let mut choices: Vec<&str> = choices.into_iter().collect();
        choices.sort_unstable();
        choices.dedup();
        match nearest(word, &choices) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if choices.is_empty() => self,
            None => self.help(format!("there {}", list(&choices))),
        }
    }
}

/// Longer lists help nobody.
const CHOICES_SHOWN: usize = 16;

fn list(choices: &[&str]) -> String {
    let verb = if choices.len() == 1 { "is" } else { "are" };
    let shown: Vec<_> = choices.iter().take(CHOICES_SHOWN).map(|choice| format!("`{choice}`")).collect();
    let more = if choices.len() > CHOICES_SHOWN { ", …" } else { "" };
    format!("{verb} {}{more}", shown.join(", "))
}

/// The choice that `word` was probably meant to be: a third of it may be wrong. Ties go to the first.
fn nearest<'s>(word: &str, choices: &[&'s str]) -> Option<&'s str> {
    // Nobody means a kilobyte of text; the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let distance = |choice: &str| strsim::damerau_levenshtein(&lower, &choice.to_lowercase());
    let limit = (word.chars().count() / 3).max(1);
    choices
        .iter()
        .map(|choice| (distance(choice), *choice))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// More than a screen or two is not read; JSON has them all.
const RENDERED: usize = 20;

/// The mistakes as text for a terminal: file:line:column, the line with carets, advice. `source` is the board's text,
/// `color` asks for escape sequences.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], source: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let one = |diagnostic| renderer.render(&[group(diagnostic, source)]);
    let mut blocks: Vec<String> = diagnostics.iter().take(RENDERED).map(one).collect();
    if diagnostics.len() > RENDERED {
        blocks.push(format!("… and {} more mistakes", diagnostics.len() - RENDERED));
    }
    blocks.join("\n\n") + "\n"
}

fn group<'a>(diagnostic: &'a Diagnostic, source: &'a str) -> Group<'a> {
    let mut group = Group::with_title(Level::ERROR.primary_title(diagnostic.title()));
    if let Some(snippet) = file_snippet(diagnostic, source) {
        group = group.element(snippet);
    }
    for (index, label) in diagnostic.labels.iter().enumerate() {
        if let Place::Set { argument, span } = &label.place {
            let annotation = annotation(index, span, &label.text, argument);
            group = group.element(Snippet::source(argument).path("--set").annotation(annotation));
        }
    }
    let notes = diagnostic.notes.iter().map(|text| Level::NOTE.message(text));
    let help = diagnostic.help.iter().map(|text| Level::HELP.message(text));
    group.elements(notes).elements(help)
}

fn file_snippet<'a>(diagnostic: &'a Diagnostic, source: &'a str) -> Option<Snippet<'a, Annotation<'a>>> {
    let in_file = |(index, label): (usize, &'a Label)| match &label.place {
        Place::File(span) => Some(annotation(index, span, &label.text, source)),
        Place::Set { .. } => None,
    };
    let annotations: Vec<_> = diagnostic.labels.iter().enumerate().filter_map(in_file).collect();
    let first = !annotations.is_empty();
    first.then(|| Snippet::source(source).path(&diagnostic.file).annotations(annotations))
}

fn annotation<'a>(index: usize, span: &Range<usize>, text: &'a str, source: &str) -> Annotation<'a> {
    let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
    let annotation = kind.span(on_characters(span, source));
    if text.is_empty() { annotation } else { annotation.label(text) }
}

/// The span inside the text and on character boundaries, whatever was given.
fn on_characters(span: &Range<usize>, source: &str) -> Range<usize> {
    let end = source.ceil_char_boundary(span.end.min(source.len()));
    source.floor_char_boundary(span.start.min(end))..end
}

/// The mistakes as a JSON array: `code`, `severity`, `message`, `file`, `device`, `labels` (each with `line` and
/// `column`, from 1, in characters, or `argument`), `notes`, `help`.
#[must_use]
pub fn to_json(diagnostics: &[Diagnostic], source: &str) -> Value {
    diagnostics.iter().map(|diagnostic| one_json(diagnostic, source)).collect()
}

fn one_json(diagnostic: &Diagnostic, source: &str) -> Value {
    let labels: Vec<Value> = diagnostic.labels.iter().map(|label| label_json(label, source)).collect();
    json!({
        "severity": "error",
        "code": diagnostic.code.name(),
        "message": diagnostic.message,
        "file": diagnostic.file,
        "device": diagnostic.device,
        "labels": labels,
        "notes": diagnostic.notes,
        "help": diagnostic.help,
    })
}

fn label_json(label: &Label, source: &str) -> Value {
    match &label.place {
        Place::File(span) => {
            let span = on_characters(span, source);
            let (line, column) = line_column(source, span.start);
            json!({ "line": line, "column": column, "start": span.start, "end": span.end, "text": label.text })
        }
        Place::Set { argument, span } => {
            json!({ "argument": argument, "start": span.start, "end": span.end, "text": label.text })
        }
    }
}

fn line_column(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
