//! Places in a recording as text: `icount:N`, `vtime:1.5s`, `50%`, `event:N`, `line:N`,
//! `end`.

use crate::args::count;
use std::fmt;

/// A place, as the user names it. What it means depends on the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// When so many instructions were attempted.
    Icount(u64),
    /// At this virtual time, in nanoseconds.
    Vtime(u64),
    /// This part of the log's instructions, in millionths.
    Share(u64),
    /// Before this event of the log, counted from 0.
    Event(u64),
    /// Behind this line of the console, counted from 1.
    Line(u64),
    /// The end of the log.
    End,
}

/// All of the log, in the unit of [`Place::Share`].
pub(crate) const WHOLE: u64 = 1_000_000;

const FORMS: &str = "write icount:N, vtime:1.5s (or ms, us, ns), 50%, event:N, line:N or end";

impl Place {
    /// From text, for places in a log: it does not have what the guest wrote.
    pub(crate) fn parse_logged(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            Self::Line(_) => {
                Err("a log does not have the lines of the console; write icount:N or event:N".into())
            }
            place => Ok(place),
        }
    }

    /// From text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{why}; {FORMS}");
        if text == "end" {
            return Ok(Self::End);
        }
        if let Some(number) = text.strip_suffix('%') {
            let share = decimal(number, 4).filter(|&share| share <= WHOLE);
            return share.map(Self::Share).ok_or_else(|| bad("a part is from 0% to 100%"));
        }
        let (kind, value) = text.split_once(':').ok_or_else(|| bad("this is no place"))?;
        match kind {
            "icount" => count(value).map(Self::Icount).map_err(|why| bad(&why)),
            "vtime" => vtime(value).map(Self::Vtime).ok_or_else(|| bad("this is no virtual time")),
            "event" => value.parse().map(Self::Event).map_err(|_| bad("this is no number of an event")),
            "line" => match value.parse() {
                Ok(0) | Err(_) => Err(bad("this is no line: they are counted from 1")),
                Ok(line) => Ok(Self::Line(line)),
            },
            _ => Err(bad("this is no place")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icount(icount) => write!(f, "icount:{icount}"),
            Self::Vtime(vtime_ns) => write!(f, "vtime:{vtime_ns}ns"),
            Self::Share(share) => {
                let digits = format!("{}.{:04}", share / 10_000, share % 10_000);
                write!(f, "{}%", digits.trim_end_matches('0').trim_end_matches('.'))
            }
            Self::Event(event) => write!(f, "event:{event}"),
            Self::Line(line) => write!(f, "line:{line}"),
            Self::End => f.write_str("end"),
        }
    }
}

/// Virtual time with its unit, in nanoseconds.
fn vtime(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let digits = match unit {
        "s" => 9,
        "ms" => 6,
        "us" => 3,
        "ns" => 0,
        _ => return None,
    };
    decimal(number, digits)
}

/// A number with at most so many digits behind its point, times 10 to the power of that many.
fn decimal(text: &str, digits: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    if whole.is_empty()
        || part.len() > digits
        || text.ends_with('.')
        || !text.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return None;
    }
    format!("{whole}{part:0<digits$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("end", Place::End),
            ("icount:5M", Place::Icount(5_000_000)),
            ("vtime:1.5s", Place::Vtime(1_500_000_000)),
            ("vtime:20ms", Place::Vtime(20_000_000)),
            ("vtime:0.25us", Place::Vtime(250)),
            ("vtime:7ns", Place::Vtime(7)),
            ("vtime:1.000s", Place::Vtime(1_000_000_000)),
            ("50%", Place::Share(500_000)),
            ("0.5%", Place::Share(5_000)),
            ("100%", Place::Share(WHOLE)),
            ("event:0", Place::Event(0)),
            ("line:5", Place::Line(5)),
        ] {
            assert_eq!(Place::parse(text), Ok(expected), "{text}");
            assert_eq!(Place::parse(&expected.to_string()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_name_what_can_be_had() {
        for bad in [
            "",
            "5",
            "icount:",
            "icount:-1",
            "vtime:1",
            "vtime:s",
            "vtime:.",
            "vtime:1.s",
            "vtime:1.5ns",
            "vtime:1m",
            "vtime:99999999999s",
            "101%",
            "%",
            "-1%",
            "1.2.3%",
            "event:x",
            "event:-1",
            "time:1s",
            "line:0",
            "line:x",
        ] {
            let why = Place::parse(bad).unwrap_err();
            assert!(why.contains("icount:N"), "{bad}: {why}");
        }
    }
}
