//! Why a replay is not what its recording says: found by replaying it twice, side by side, and told in words.

mod builds;
mod compare;
mod diff;
mod history;
mod json;
mod manifests;
mod names;
mod progress;
mod search;
mod text;
mod twins;

use crate::failure::Failure;
use history::{EventCounter, History, Line};
use progress::ProgressLine;
use reprise_machine::{
    DISK_BLOCK_BYTES, Machine, Upcoming,
    board::Board,
    replay::{Divergence, DivergenceKind, Entry, Found, Position, RecordSource},
};
use search::{Apart, Course, Outcome};
use twins::{Finding, Twins};

use builds::BuildVerdict;
pub(crate) use builds::OtherBuild;
pub(crate) use diff::{Diff, Side};
pub(crate) use names::Names;
use names::hex;

/// A recording that can be replayed as often as it takes.
pub(crate) trait Recorded {
    /// The machine of the recording.
    fn board(&self) -> &Board;

    /// A machine that replays the recording from its beginning.
    fn machine(&self) -> Result<Machine, Failure>;

    /// The log, from its beginning.
    fn records(&self) -> Result<Box<dyn RecordSource>, Failure>;

    /// What is not as it was when the recording was made: other plugins, another version. A sentence each.
    fn changed(&self) -> Vec<String>;

    /// The plugins that are not the recorded builds.
    fn other_builds(&self) -> Vec<OtherBuild>;

    /// A machine with the recorded plugins, and one as [`Recorded::machine`] makes them, which replay the recording
    /// without its digests: another build may have another state. `None`: the recorded builds are not here.
    fn builds(&self) -> Option<Result<[Machine; 2], Failure>>;
}

/// How a machine left its recording, taken down before the machine is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    divergence: Divergence,
    /// What each hart was about to do.
    harts: Vec<Upcoming>,
    /// The names of the sections that a digest has parts for.
    sections: Vec<String>,
}

impl Departure {
    /// `None` if the machine has not left its recording.
    pub(crate) fn of(machine: &mut Machine) -> Option<Self> {
        let divergence = machine.divergence()?.clone();
        let harts = (0..machine.harts()).map(|hart| machine.upcoming(hart)).collect();
        Some(Self { divergence, harts, sections: machine.section_names() })
    }
}

/// What there is to say about a divergence. [`std::fmt::Display`] tells people, [`Report::to_json`] programs.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    left: Left,
    verdict: Verdict,
    changed: Vec<String>,
    /// Plugins that are not the recorded builds.
    others: Vec<OtherBuild>,
    history: History,
}

/// Where and how the replay left its recording.
#[derive(Clone, Debug)]
struct Left {
    kind: DivergenceKind,
    position: Position,
    icount: u64,
    harts: Vec<Upcoming>,
    /// What the log has.
    expected: Option<Line>,
    found: String,
    /// The last digest that agreed.
    agreed: Option<Line>,
    /// Parts of the state that a digest found to differ.
    sections: Vec<String>,
}

/// What is behind a divergence.
#[derive(Clone, Debug)]
enum Verdict {
    /// A disk image is not the recorded one.
    Disk(DiskChange),
    /// Two replays part from each other.
    Parted(Box<Parted>),
    /// Another build of a plugin is.
    Build(BuildVerdict),
    /// Two replays agree with each other, and not with the recording.
    Systematic,
    /// Two replays did not leave the recording where the first did.
    Gone {
        /// What became of them.
        instead: String,
    },
    /// Nobody wanted to know.
    NotSearched,
    /// The recording could not be replayed again.
    Failed(String),
}

/// A block of a disk image that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DiskChange {
    /// The disk's port: `disk0.blk`.
    port: String,
    block: u64,
    recorded: String,
    found: String,
}

/// Where two machines part.
#[derive(Clone, Debug)]
pub(crate) struct Parted {
    apart: Apart<Finding>,
    /// The device to look at first, and its plugin.
    suspect: Option<(String, String)>,
}

/// Find out why a replay left its recording. With `search`, replay it again, which takes as long as some replays.
pub(crate) fn explain(left: &Departure, run: &dyn Recorded, search: bool) -> Report {
    let names = Names::of(run.board());
    let divergence = &left.divergence;
    let agreed = read(run, &names, divergence_place(divergence)).digest;
    let verdict = match disk_change(divergence, &names) {
        Some(change) => Verdict::Disk(change),
        None if search => builds::compare(divergence.position, run, &names)
            .unwrap_or_else(|| self::search(divergence, run, &names)),
        None => Verdict::NotSearched,
    };
    let place = match &verdict {
        Verdict::Parted(parted) => parted.apart.bracket.other,
        Verdict::Build(BuildVerdict::Apart { conduct, .. }) => conduct.apart.bracket.other,
        Verdict::Disk(_)
        | Verdict::Build(BuildVerdict::Memory(_))
        | Verdict::Systematic
        | Verdict::Gone { .. }
        | Verdict::NotSearched
        | Verdict::Failed(_) => divergence_place(divergence),
    };
    let history = read(run, &names, place);
    let number = history::number_of(run.records().ok(), divergence.expected.as_ref());
    Report {
        left: Left {
            kind: divergence.kind,
            position: divergence.position,
            icount: divergence.icount,
            harts: left.harts.clone(),
            expected: divergence.expected.as_ref().map(|record| Line::new(number, record, &names)),
            found: names.found(&divergence.found),
            agreed,
            sections: differing_sections(divergence, &left.sections),
        },
        verdict,
        changed: run.changed(),
        others: run.other_builds(),
        history,
    }
}

/// The place of the log that was not met.
fn divergence_place(divergence: &Divergence) -> Position {
    divergence
        .expected
        .as_ref()
        .map_or(divergence.position, |record| record.position.min(divergence.position))
}

fn read(run: &dyn Recorded, names: &Names, place: Position) -> History {
    let source = run.records().ok();
    source.map_or_else(History::default, |mut source| history::before(source.as_mut(), names, place))
}

fn disk_change(divergence: &Divergence, names: &Names) -> Option<DiskChange> {
    let Divergence { kind: DivergenceKind::Disk, expected: Some(expected), found, .. } = divergence else {
        return None;
    };
    let Entry::DiskBlock { device, port, block, hash } = &expected.entry else { return None };
    let Found::Entry(Entry::DiskBlock { hash: found, .. }) = found else { return None };
    let port = names.port(*device, *port);
    Some(DiskChange { port, block: *block, recorded: hex(hash), found: hex(found) })
}

/// The sections whose part of the digest is another one.
fn differing_sections(divergence: &Divergence, names: &[String]) -> Vec<String> {
    let (Some(expected), Found::Entry(Entry::Digest(found))) = (&divergence.expected, &divergence.found)
    else {
        return Vec::new();
    };
    let Entry::Digest(expected) = &expected.entry else { return Vec::new() };
    if expected.parts.len() != found.parts.len() {
        // An old log, or another machine.
        return Vec::new();
    }
    let parts = expected.parts.iter().zip(&found.parts).enumerate();
    let differing = parts.filter(|(_, (expected, found))| expected != found);
    differing
        .map(|(index, _)| names.get(index).map_or_else(|| format!("part {index}"), Clone::clone))
        .collect()
}

fn search(divergence: &Divergence, run: &dyn Recorded, names: &Names) -> Verdict {
    let fresh = || Ok(Twins::new(run.machine()?, run.machine()?));
    match part(fresh, &|| run.records().ok(), divergence.position) {
        Err(failure) => Verdict::Failed(failure.to_string()),
        Ok(Outcome::Together { finding }) if finding.a.divergence.as_ref() == Some(divergence) => {
            Verdict::Systematic
        }
        Ok(Outcome::Together { finding }) => Verdict::Gone { instead: instead(&finding, names) },
        Ok(Outcome::Apart(apart)) => Verdict::Parted(Box::new(Parted::new(apart, names))),
    }
}

impl Parted {
    fn new(apart: Apart<Finding>, names: &Names) -> Self {
        let suspect = apart.finding.suspect().filter(|_| apart.exact).and_then(|id| {
            let plugin = names.plugin(id)?;
            Some((id.to_owned(), plugin.to_owned()))
        });
        Self { apart, suspect }
    }
}

/// What became of a pair that did not do what the first replay did.
fn instead(finding: &Finding, names: &Names) -> String {
    let at = format!("at icount {}, vtime {}", finding.a.icount, text::seconds(finding.a.vtime_ns));
    match (&finding.a.divergence, &finding.a.stop) {
        (Some(other), _) => format!("left it {at}: found {}", names.found(&other.found)),
        (None, Some(stop)) => format!("ended {at}: {}", text::stop(stop)),
        (None, None) => format!("came {at}"),
    }
}

/// Find where pairs part. A terminal sees how far it is.
fn part(
    fresh: impl FnMut() -> Result<Twins, Failure>,
    open: &dyn Fn() -> Option<Box<dyn RecordSource>>,
    end: Position,
) -> Result<Outcome<Finding>, Failure> {
    let counter = EventCounter::new(open);
    let events_at = |vtime_ns| counter.at(vtime_ns);
    let mut line = ProgressLine::new();
    search::search(fresh, Course { end, events_at: &events_at }, &mut |progress| line.show(progress))
}

#[cfg(test)]
mod tests;
