//! A report for people: at most a screen or two, the place first.

use super::{
    DISK_BLOCK_BYTES, DiskChange, Left, OtherBuild, Parted, Report, Verdict, builds::ActDifference,
    history::Line, twins::Stand,
};
use crate::failure::printable;
use reprise_machine::{
    Difference, Stop,
    replay::{DivergenceKind, Position},
};
use std::fmt::{self, Write as _};

/// Differences listed; JSON has them all.
const DIFFERENCES: usize = 10;
/// Characters of a value shown.
const VALUE: usize = 36;
/// Things that have changed since the recording, listed.
const CHANGED: usize = 6;

/// Nanoseconds as `1.234567890 s`: positions are exact.
pub(super) fn seconds(vtime_ns: u64) -> String {
    format!("{}.{:09} s", vtime_ns / 1_000_000_000, vtime_ns % 1_000_000_000)
}

/// Why a machine stopped.
pub(super) fn stop(stop: &Stop) -> String {
    match stop {
        Stop::PowerOff { code } => format!("the guest powered off with code {code}"),
        Stop::Limit => "the instruction limit was reached".to_owned(),
        Stop::Requested => "somebody asked it to stop".to_owned(),
        Stop::Deadlock => "nothing could wake it any more".to_owned(),
        Stop::PluginFault(fault) => {
            format!("device \"{}\" failed in {}: {}", fault.device, fault.callback, fault.message)
        }
        Stop::ResetFailed(why) => format!("a reset failed: {why}"),
        Stop::Until => "it was told to stop there".to_owned(),
        Stop::ReplayEnded(reason) => format!("the recording ends there ({reason})"),
        Stop::OutOfRecords(_) => "the recording breaks off there".to_owned(),
        Stop::Diverged => "it left the recording".to_owned(),
        Stop::LogFailed => "the log could not be read further".to_owned(),
        Stop::DiskFailed(why) => format!("a disk failed on the host: {why}"),
        Stop::BadRecord(why) => format!("the log has what cannot be: {why}"),
    }
}

/// What kind of divergence it is, in a word for programs.
pub(super) fn kind(kind: DivergenceKind) -> &'static str {
    match kind {
        DivergenceKind::Missed => "missed",
        DivergenceKind::Unlogged => "unlogged",
        DivergenceKind::Different => "different",
        DivergenceKind::Digest => "digest",
        DivergenceKind::Icount => "icount",
        DivergenceKind::Disk => "disk",
    }
}

fn place(icount: u64, vtime_ns: u64) -> String {
    format!("icount {icount}, vtime {}", seconds(vtime_ns))
}

impl Line {
    fn told(&self) -> String {
        format!(
            "{}, at {}  (#{})",
            printable(&self.text),
            place(self.icount, self.position.vtime_ns),
            self.number
        )
    }

    pub(super) fn listed(&self) -> String {
        format!("#{}  {}  {}", self.number, place(self.icount, self.position.vtime_ns), printable(&self.text))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.left.tell(&mut out)?;
        writeln!(out)?;
        match &self.verdict {
            Verdict::Disk(change) => change.tell(&mut out)?,
            Verdict::Parted(parted) => {
                parted.tell(&mut out, ["one replay", "the other"])?;
                writeln!(
                    out,
                    "Two replays of the recording part there: something is not a function of state and log."
                )?;
                if let Some((device, plugin)) = &parted.suspect {
                    let (device, plugin) = (printable(device), printable(plugin));
                    writeln!(
                        out,
                        "  = help: look at device {device} first: plugin \"{plugin}\" may not be deterministic"
                    )?;
                }
            }
            Verdict::Build(build) => build.tell(&mut out, &self.others)?,
            Verdict::Systematic => self.tell_systematic(&mut out)?,
            Verdict::Gone { instead } => {
                writeln!(
                    out,
                    "More replays did not leave the recording there. The last {}.",
                    printable(instead)
                )?;
                writeln!(out, "Something in the machine is not deterministic, but not each time.")?;
            }
            Verdict::NotSearched => writeln!(out, "Not searched for the first difference (--no-search).")?,
            Verdict::Failed(why) => {
                writeln!(out, "The first difference could not be searched for:\n{}", why.trim_end())?;
            }
        }
        if !matches!(self.verdict, Verdict::Systematic) {
            self.tell_changed(&mut out)?;
        }
        if !self.history.last.is_empty() {
            writeln!(out, "\nthe log before it:")?;
            self.history.last.iter().try_for_each(|line| writeln!(out, "  {}", line.listed()))?;
        }
        f.write_str(&out)
    }
}

impl Left {
    fn tell(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(
            out,
            "error: the replay left the recording at {}",
            place(self.icount, self.position.vtime_ns)
        )?;
        match self.harts.as_slice() {
            [] => writeln!(out)?,
            [only] => writeln!(out, ", PC {}", printable(&only.to_string()))?,
            [first, ..] => writeln!(out, ", PC of hart 0 {}", printable(&first.to_string()))?,
        }
        match &self.expected {
            Some(line) => writeln!(out, "  expected     {}", line.told())?,
            None => writeln!(out, "  expected     nothing: the log has ended")?,
        }
        writeln!(out, "  found        {}", printable(&self.found))?;
        if let Some(line) = &self.agreed {
            writeln!(out, "  last agreed  {}", line.told())?;
        }
        if !self.sections.is_empty() {
            writeln!(out, "  differing    {}", printable(&self.sections.join(", ")))?;
        }
        Ok(())
    }
}

impl DiskChange {
    pub(super) fn bytes(&self) -> (u64, u64) {
        let from = self.block.saturating_mul(DISK_BLOCK_BYTES);
        (from, from.saturating_add(DISK_BLOCK_BYTES))
    }

    fn tell(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let (from, to) = self.bytes();
        writeln!(
            out,
            "The image of disk {} has changed since the recording was made:",
            printable(&self.port)
        )?;
        writeln!(out, "  block {}, bytes {from} to {to}, blake3", self.block)?;
        writeln!(out, "  recorded     {}", self.recorded)?;
        writeln!(out, "  here         {}", self.found)?;
        writeln!(
            out,
            "  = help: put back the image as it was; `reprise pack` takes the blocks that a run needs with it"
        )
    }
}

impl Parted {
    /// `sides`: what the two machines are called.
    pub(super) fn tell(&self, out: &mut impl fmt::Write, sides: [&str; 2]) -> fmt::Result {
        let finding = &self.apart.finding;
        match &finding.before {
            None => writeln!(out, "first difference: from power-on, before the first instruction")?,
            Some(before) => {
                let what = if self.apart.exact { "first difference" } else { "a difference" };
                writeln!(out, "{what}: the same at {}", place(before.icount, before.vtime_ns))?;
                self.tell_step(out, before)?;
            }
        }
        let [a, b] = sides;
        for (stand, side) in [(&finding.a, a), (&finding.b, b)] {
            if stand.stop.is_some()
                || (finding.a.icount, finding.a.vtime_ns) != (finding.b.icount, finding.b.vtime_ns)
            {
                let stop =
                    stand.stop.as_ref().map_or_else(String::new, |stop| format!(": {}", self::stop(stop)));
                writeln!(out, "  {side} is at {}{}", place(stand.icount, stand.vtime_ns), printable(&stop))?;
            }
        }
        self.tell_differences(out, sides)?;
        if self.apart.moves {
            writeln!(
                out,
                "The place moves from replay to replay: this is the narrowest of {} replays.",
                self.apart.passes
            )?;
        }
        Ok(())
    }

    fn tell_step(&self, out: &mut impl fmt::Write, before: &Stand) -> fmt::Result {
        if !self.apart.exact {
            let after = &self.apart.finding.a;
            return writeln!(out, "  different at {}", place(after.icount, after.vtime_ns));
        }
        let Position { vtime_ns, order } = self.apart.bracket.other;
        if let Some((hart, upcoming)) = self.apart.finding.culprit() {
            writeln!(out, "  then hart {hart} executed {}", printable(&upcoming.to_string()))?;
        } else if vtime_ns == before.vtime_ns && order > 0 {
            writeln!(out, "  then the last record below entered (order {} at that time)", order - 1)?;
        } else if self.apart.finding.a.icount == before.icount {
            writeln!(out, "  then all harts slept on to vtime {}", seconds(self.apart.finding.a.vtime_ns))?;
        } else {
            writeln!(out, "  then one instruction was executed")?;
        }
        self.apart.finding.expired().try_for_each(|timer| {
            writeln!(
                out,
                "  and timer \"{}\" of {} expired",
                printable(&timer.timer),
                printable(&timer.device)
            )
        })
    }

    fn tell_differences(&self, out: &mut impl fmt::Write, sides: [&str; 2]) -> fmt::Result {
        let finding = &self.apart.finding;
        let act = finding.act.iter().map(ActDifference::row);
        table(out, &act.chain(finding.differences.iter().cloned()).collect::<Vec<_>>(), sides)
    }
}

/// What differs, with what it is on either side.
pub(super) fn table(out: &mut impl fmt::Write, differences: &[Difference], [a, b]: [&str; 2]) -> fmt::Result {
    if differences.is_empty() {
        return Ok(());
    }
    let shown: Vec<[String; 3]> = differences.iter().take(DIFFERENCES).map(row).collect();
    let width = |column: usize, title: &str| {
        shown.iter().map(|row| row[column].chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let (first, second) = (width(0, ""), width(1, a));
    writeln!(out, "  {:first$}  {a:second$}  {b}", "")?;
    shown.iter().try_for_each(|[what, a, b]| writeln!(out, "  {what:first$}  {a:second$}  {b}"))?;
    if differences.len() > shown.len() {
        writeln!(out, "  … and {} more; --json has them all", differences.len() - shown.len())?;
    }
    Ok(())
}

fn row(difference: &Difference) -> [String; 3] {
    let Difference { what, a, b } = difference;
    // Long values that begin alike would look the same: show them from where they differ.
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let from = if common > VALUE / 2 { common - VALUE / 4 } else { 0 };
    let cut = |text: &str| {
        let mut out: String = if from > 0 { "…".to_owned() } else { String::new() };
        out.extend(text.chars().skip(from).take(VALUE));
        if text.chars().nth(from + VALUE).is_some() {
            out.push('…');
        }
        printable(&out).replace('\n', " ")
    };
    [printable(what), cut(a), cut(b)]
}

impl Report {
    fn tell_systematic(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "More replays left the recording in the same place, in the same state: replays agree with each"
        )?;
        writeln!(out, "other, and all differ from the recorded run.")?;
        let to = place(self.left.icount, self.left.position.vtime_ns);
        match &self.left.agreed {
            Some(line) => writeln!(
                out,
                "The difference came up after {} and by {to}.",
                place(line.icount, line.position.vtime_ns)
            )?,
            None => writeln!(out, "The difference came up by {to}; the log has no digest that agreed.")?,
        }
        if self.changed.is_empty() {
            writeln!(out, "Machine, images, plugins and version are those of the recording.")?;
            writeln!(
                out,
                "  = help: a plugin may depend on its process or host: its environment, addresses, the date"
            )?;
            return writeln!(out, "  = help: record with a smaller --digest-every to narrow it down");
        }
        self.tell_changed(out)?;
        let Some(OtherBuild { plugin, .. }) = self.others.first() else { return Ok(()) };
        let plugin = printable(plugin);
        writeln!(
            out,
            "  = help: to see where the builds of \"{plugin}\" part, have both here: the recorded one"
        )?;
        writeln!(
            out,
            "          by --plugin-path DIR or --trust-plugins, the other by --plugin {plugin}=FILE.so"
        )
    }

    fn tell_changed(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.changed.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nnot as it was when the recording was made:")?;
        self.changed.iter().take(CHANGED).try_for_each(|what| writeln!(out, "  {}", printable(what)))?;
        match self.changed.len().saturating_sub(CHANGED) {
            0 => Ok(()),
            more => writeln!(out, "  … and {more} more; --json has them all"),
        }
    }
}
