//! How a replay left its recording.

use crate::{Entry, Event, Position, Record};
use std::fmt;

/// The replay did not do what the recording says. The first one is kept; everything after it follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// How they differ.
    pub kind: DivergenceKind,
    /// Where the replay stood.
    pub position: Position,
    /// Instructions attempted there.
    pub icount: u64,
    /// What the log has next; `None` behind its end.
    pub expected: Option<Record>,
    /// What the replay did.
    pub found: Found,
}

/// How replay and recording differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergenceKind {
    /// The log has an entry that the replay passed: nothing asked for it.
    Missed,
    /// The replay did something for which the log has no entry here.
    Unlogged,
    /// Log and replay have different things in the same place.
    Different,
    /// The machine's state has another digest.
    Digest,
    /// A disk's image has another content.
    Disk,
    /// The same thing at the same time, after another number of instructions.
    Icount,
}

/// What the replay did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It went on without the entry.
    Nothing,
    /// This.
    Entry(Entry),
    /// It asked for the host's clock.
    HostClock,
}

impl Divergence {
    /// What sets `found` at `position` apart from what the log has next; `None` if it is that.
    pub(super) fn between(
        expected: Option<&Record>,
        found: Found,
        position: Position,
        icount: u64,
    ) -> Option<Divergence> {
        let kind = match expected {
            None => DivergenceKind::Unlogged,
            Some(record) if record.position < position => DivergenceKind::Missed,
            // Time and instructions contradict each other: at no place to come would both be right.
            Some(record) if record.position > position && record.icount < icount => DivergenceKind::Missed,
            Some(record) if record.position > position => DivergenceKind::Unlogged,
            Some(record) => match (&record.entry, &found) {
                (Entry::Event(Event::HostClock { .. }), Found::HostClock) if record.icount == icount => {
                    return None;
                }
                (logged, Found::Entry(entry)) if same(logged, entry) && record.icount == icount => {
                    return None;
                }
                (Entry::Event(Event::HostClock { .. }), Found::HostClock) => DivergenceKind::Icount,
                (logged, Found::Entry(entry)) if same(logged, entry) => DivergenceKind::Icount,
                (Entry::Digest(_), Found::Entry(Entry::Digest(_))) => DivergenceKind::Digest,
                (Entry::DiskBlock { hash, .. }, Found::Entry(Entry::DiskBlock { hash: found, .. }))
                    if hash != found =>
                {
                    DivergenceKind::Disk
                }
                _ => DivergenceKind::Different,
            },
        };
        Some(Divergence { kind, position, icount, expected: expected.cloned(), found })
    }
}

/// Whether the machine did what the log has. Logs of format 1 have no parts and no chain, which are all zero then.
fn same(logged: &Entry, found: &Entry) -> bool {
    match (logged, found) {
        (Entry::Digest(logged), Entry::Digest(found)) => logged.whole == found.whole,
        (Entry::End { reason, chain }, Entry::End { reason: found, chain: found_chain }) => {
            reason == found && (chain == found_chain || *chain == [0; 32])
        }
        _ => logged == found,
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => write!(f, "nothing"),
            Found::Entry(entry) => write!(f, "{entry}"),
            Found::HostClock => write!(f, "a read of the host clock"),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { kind, position, icount, expected, found } = self;
        let kind = match kind {
            DivergenceKind::Missed => "the replay passed an entry of the log",
            DivergenceKind::Unlogged => "the replay did what is not in the log",
            DivergenceKind::Different => "log and replay differ",
            DivergenceKind::Digest => "the machine's state differs",
            DivergenceKind::Disk => "a disk's image differs",
            DivergenceKind::Icount => "the instruction count differs",
        };
        write!(f, "{kind} at {position} (icount {icount}): found {found}, expected ")?;
        match expected {
            None => write!(f, "nothing: the log has ended"),
            Some(record) => {
                write!(f, "{} at {} (icount {})", record.entry, record.position, record.icount)
            }
        }
    }
}

impl std::error::Error for Divergence {}
