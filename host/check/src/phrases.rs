//! What a device understands: a text that its author writes, so that random steps begin where the device is up, and
//! hit what takes many right bytes in a row. A line is a step; what the lines mean is in `docs/plugins/rules.md`.

use crate::script::{Op, Rng, mask};
use reprise_abi::{
    desc::{DeviceDesc, Pins},
    link::spi,
};
use thiserror::Error;

/// The phrase that brings a device up.
const OPEN: &str = "open";
/// The largest disk behind a device, in bytes: it goes with the state from process to process.
const MAX_DISK_BYTES: u64 = 1 << 30;
/// Bytes that a line may stand for.
const MAX_BYTES: usize = 1 << 16;

/// The phrases of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phrases {
    /// For whom.
    pub(crate) kind: String,
    /// Of the disks behind its ports.
    pub(crate) disk_bytes: Option<u64>,
    open: Vec<Line>,
    others: Vec<Vec<Line>>,
}

/// A text that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct PhrasesError {
    /// From 1 on.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// A byte of which some nibbles are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern {
    value: u8,
    drawn: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// One message.
    Say {
        link: u32,
        at: u32,
        bytes: Vec<Pattern>,
    },
    /// A message for each byte: `spi/1`.
    Exchange {
        link: u32,
        at: u32,
        bytes: Vec<Pattern>,
    },
    Arrive {
        port: u32,
        bytes: Vec<Pattern>,
    },
    /// What has nothing to draw.
    Plain(Op),
}

impl Phrases {
    /// The kind that a text is for, without a look at the rest.
    pub(crate) fn kind_of(text: &str) -> Option<&str> {
        words(text).find_map(|(_, line)| line.strip_prefix("device ")).map(str::trim)
    }

    /// What a text says to a device.
    pub(crate) fn parse(text: &str, desc: &DeviceDesc) -> Result<Self, PhrasesError> {
        let mut phrases = Self::default();
        let mut place = None;
        for (number, line) in words(text) {
            let failed = |what: String| PhrasesError { line: number, what };
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                if name.trim() != OPEN {
                    phrases.others.push(Vec::new());
                }
                place = Some(name.trim() == OPEN);
                continue;
            }
            match place {
                None => phrases.setting(line).map_err(failed)?,
                Some(true) => phrases.open.push(parse_line(line, desc).map_err(failed)?),
                Some(false) => {
                    let step = parse_line(line, desc).map_err(failed)?;
                    phrases.others.last_mut().expect("a phrase has begun").push(step);
                }
            }
        }
        if phrases.kind.is_empty() {
            let what = "it does not say for which device it is: write `device KIND` first".to_owned();
            return Err(PhrasesError { line: 1, what });
        }
        Ok(phrases)
    }

    fn setting(&mut self, line: &str) -> Result<(), String> {
        match line.split_once(' ').map(|(key, value)| (key, value.trim())) {
            Some(("device", kind)) => self.kind = kind.to_owned(),
            Some(("disk", kib)) => {
                let bytes = kib.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
                let bytes = bytes.filter(|bytes| (1..=MAX_DISK_BYTES).contains(bytes));
                let most = MAX_DISK_BYTES / 1024;
                self.disk_bytes =
                    Some(bytes.ok_or_else(|| format!("a disk has 1 to {most} KiB, not {kib}"))?);
            }
            _ => {
                return Err(format!(
                    "{line:?} before the first phrase: `device KIND`, `disk KIB` or `[NAME]`"
                ));
            }
        }
        Ok(())
    }

    /// Nothing is known of the device.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.others.is_empty()
    }

    /// The steps that bring the device up.
    pub(crate) fn opening(&self, rng: &mut Rng) -> Vec<Op> {
        steps_of(&self.open, rng)
    }

    /// A phrase, or the beginning of one: half said, a device is where few get it. `None`: there is none.
    pub(crate) fn any(&self, rng: &mut Rng) -> Option<Vec<Op>> {
        let count = self.others.len() as u64;
        let phrase = (count > 0).then(|| &self.others[rng.below(count) as usize])?;
        let mut steps = steps_of(phrase, rng);
        if rng.below(4) == 0 {
            steps.truncate(rng.below(steps.len() as u64 + 1) as usize);
        }
        Some(steps)
    }
}

/// Lines with something on them, by number, without comments.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines =
        text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("").trim()));
    lines.filter(|(_, line)| !line.is_empty())
}

fn steps_of(lines: &[Line], rng: &mut Rng) -> Vec<Op> {
    let mut steps = Vec::new();
    let drawn = |bytes: &[Pattern], rng: &mut Rng| -> Vec<u8> {
        let byte = |pattern: &Pattern| pattern.value | rng.draw() as u8 & pattern.drawn;
        bytes.iter().map(byte).collect()
    };
    for line in lines {
        match line {
            Line::Say { link, at, bytes } => {
                let data = Some(drawn(bytes, rng));
                steps.push(Op::Message { link: *link, at: *at, data });
            }
            Line::Exchange { link, at, bytes } => steps.extend(drawn(bytes, rng).into_iter().map(|byte| {
                let data = Some(spi::Ask::Exchange(byte).encode().to_vec());
                Op::Message { link: *link, at: *at, data }
            })),
            Line::Arrive { port, bytes } => steps.push(Op::Arrive { port: *port, data: drawn(bytes, rng) }),
            Line::Plain(op) => steps.push(op.clone()),
        }
    }
    steps
}

fn parse_line(line: &str, desc: &DeviceDesc) -> Result<Line, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match (verb, words.as_slice()) {
        ("say", [end, bytes @ ..]) => {
            let (link, at) = link(end, desc, None)?;
            Ok(Line::Say { link, at, bytes: patterns(bytes)? })
        }
        ("spi", [end, bytes @ ..]) => {
            let (link, at) = link(end, desc, Some(spi::PROTOCOL))?;
            Ok(Line::Exchange { link, at, bytes: patterns(bytes)? })
        }
        ("select", [end, level]) => {
            let (link, at) = link(end, desc, Some(spi::PROTOCOL))?;
            let data = Some(spi::Ask::Select(!is_high(level)?).encode().to_vec());
            Ok(Line::Plain(Op::Message { link, at, data }))
        }
        ("nobody", [end]) => {
            let (link, at) = link(end, desc, None)?;
            Ok(Line::Plain(Op::Message { link, at, data: None }))
        }
        ("arrive", [port, bytes @ ..]) => {
            let port = index("port", port, desc.ports.iter().map(|port| port.name.as_str()))?;
            Ok(Line::Arrive { port, bytes: patterns(bytes)? })
        }
        ("pin", [pin, level]) => {
            let names = Pins::flatten(&desc.inputs);
            let pin = index("input pin", pin, names.iter().map(String::as_str))?;
            Ok(Line::Plain(Op::Input { pin, high: is_high(level)? }))
        }
        ("read", [region, offset, size]) => {
            let (region, offset, size) = access(region, offset, size, desc)?;
            Ok(Line::Plain(Op::Read { region, offset, size }))
        }
        ("write", [region, offset, size, value]) => {
            let (region, offset, size) = access(region, offset, size, desc)?;
            let value = number(value)? & mask(size);
            Ok(Line::Plain(Op::Write { region, offset, size, value }))
        }
        ("wait", [ns]) => Ok(Line::Plain(Op::Advance(number(ns)?))),
        ("next", []) => Ok(Line::Plain(Op::NextDeadline)),
        _ => Err(format!(
            "{line:?} is no step: `say LINK[@AT] BYTE…`, `select LINK[@AT] low|high`, `spi LINK[@AT] BYTE…`, \
             `nobody LINK[@AT]`, `arrive PORT BYTE…`, `pin PIN low|high`, `read REGION OFFSET SIZE`, \
             `write REGION OFFSET SIZE VALUE`, `wait NS`, `next`"
        )),
    }
}

fn index<'a>(what: &str, name: &str, mut names: impl Iterator<Item = &'a str>) -> Result<u32, String> {
    let at = names.position(|other| other == name);
    at.map(|at| at as u32).ok_or_else(|| format!("the device has no {what} \"{name}\""))
}

/// `bus`, or `bus@3`.
fn link(end: &str, desc: &DeviceDesc, protocol: Option<&str>) -> Result<(u32, u32), String> {
    let (name, at) = end.split_once('@').map_or((end, Ok(0)), |(name, at)| (name, number(at)));
    let link = index("link", name, desc.links.iter().map(|link| link.name.as_str()))?;
    let declared = &desc.links[link as usize];
    if let Some(protocol) = protocol.filter(|protocol| *protocol != declared.protocol) {
        return Err(format!("on link \"{name}\" {} is spoken, and this is {protocol}", declared.protocol));
    }
    let at = u32::try_from(at?).ok().filter(|at| *at < declared.addresses);
    let at = at.ok_or_else(|| format!("link \"{name}\" has {} addresses, from 0 on", declared.addresses))?;
    Ok((link, at))
}

fn access(region: &str, offset: &str, size: &str, desc: &DeviceDesc) -> Result<(u32, u64, u32), String> {
    let region = index("region", region, desc.regions.iter().map(|region| region.name.as_str()))?;
    let declared = &desc.regions[region as usize];
    let (offset, size) = (number(offset)?, number(size)?);
    let is_size = size.is_power_of_two() && size & u64::from(declared.access) != 0;
    let is_inside = offset.checked_add(size).is_some_and(|end| end <= declared.size);
    if !is_size || !is_inside || !offset.is_multiple_of(size) {
        return Err(format!("region \"{}\" takes no {size} bytes at {offset:#x}", declared.name));
    }
    Ok((region, offset, size as u32))
}

fn is_high(level: &str) -> Result<bool, String> {
    match level {
        "high" => Ok(true),
        "low" => Ok(false),
        other => Err(format!("a level is high or low, not {other:?}")),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

/// `40`, `0?`, `ff*16`.
fn patterns(words: &[&str]) -> Result<Vec<Pattern>, String> {
    let mut all = Vec::new();
    for word in words {
        let (byte, count) =
            word.split_once('*').map_or((*word, Ok(1)), |(byte, count)| (byte, number(count)));
        let count = usize::try_from(count?).ok().filter(|count| all.len() + count <= MAX_BYTES);
        let count = count.ok_or_else(|| format!("more than {MAX_BYTES} bytes on a line"))?;
        let pattern = pattern(byte).ok_or_else(|| format!("{byte:?} is no byte: two of 0 to f, or ?"))?;
        all.extend(std::iter::repeat_n(pattern, count));
    }
    if all.is_empty() { Err("no bytes".to_owned()) } else { Ok(all) }
}

fn pattern(text: &str) -> Option<Pattern> {
    let [high, low] = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
    let nibble = |digit: u8| match digit {
        b'?' => Some((0, 0xf)),
        digit => Some((char::from(digit).to_digit(16)? as u8, 0)),
    };
    let ((high, high_drawn), (low, low_drawn)) = (nibble(high)?, nibble(low)?);
    Some(Pattern { value: high << 4 | low, drawn: high_drawn << 4 | low_drawn })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceDesc {
        DeviceDesc::new("x", "")
            .region("regs", 16, 4)
            .inputs("in", 2)
            .target("bus", spi::PROTOCOL, 1)
            .target("chat", "acme/1", 2)
    }

    fn parsed(text: &str) -> Result<Phrases, String> {
        Phrases::parse(text, &device()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_line_is_its_steps() {
        let text = "# A device.\ndevice x\ndisk 512\n[open]\nselect bus low\nspi bus 40 ff*2 # CMD0\nwait 0x10\nnext\n\
                    [a phrase]\nsay chat@1 0a\nwrite regs 4 4 0x1ffffffff\nread regs 0xc 4\npin in.1 high\n\
                    nobody chat\n";
        let phrases = parsed(text).unwrap();
        assert_eq!((phrases.kind.as_str(), phrases.disk_bytes), ("x", Some(512 << 10)));
        assert_eq!(Phrases::kind_of(text), Some("x"));
        let shown = |ops: Vec<Op>| ops.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut rng = Rng::new(1);
        assert_eq!(
            shown(phrases.opening(&mut rng)),
            [
                "link 0, address 0x0, says 0001",
                "link 0, address 0x0, says 0140",
                "link 0, address 0x0, says 01ff",
                "link 0, address 0x0, says 01ff",
                "16 ns pass",
                "time passes to the next deadline"
            ]
        );
        let whole = [
            "link 1, address 0x1, says 0a",
            "write 4 at 0x4 of region 0: 0xffffffff",
            "read 4 at 0xc of region 0",
            "input pin 1 high",
            "link 1: nobody is at address 0x0",
        ];
        let mut lengths = [0; 6];
        for _ in 0..200 {
            let steps = shown(phrases.any(&mut rng).unwrap());
            assert_eq!(steps, whole[..steps.len()], "a phrase, or its beginning");
            lengths[steps.len()] += 1;
        }
        assert!(lengths[5] > 100 && lengths[..5].iter().all(|count| *count > 0), "{lengths:?}");
    }

    #[test]
    fn nibbles_are_drawn_where_they_are_not_said() {
        let phrases = parsed("device x\n[open]\nsay chat 5? ?5 55\n").unwrap();
        let mut rng = Rng::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let [Op::Message { data: Some(data), .. }] = &phrases.opening(&mut rng)[..] else { panic!() };
            assert!(data[0] >> 4 == 5 && data[1] & 15 == 5 && data[2] == 0x55, "{data:?}");
            seen.insert((data[0], data[1]));
        }
        assert!(seen.len() > 50, "{seen:?}");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let error = |line: &str| parsed(&format!("device x\n[open]\n{line}\n")).unwrap_err();
        for (line, what) in [
            ("say bas 00", "the device has no link \"bas\""),
            ("say chat@2 00", "link \"chat\" has 2 addresses, from 0 on"),
            ("spi chat 00", "on link \"chat\" acme/1 is spoken, and this is spi/1"),
            ("say chat", "no bytes"),
            ("say chat 0", "\"0\" is no byte: two of 0 to f, or ?"),
            ("say chat 00*70000", "more than 65536 bytes on a line"),
            ("select bus down", "a level is high or low, not \"down\""),
            ("pin in.2 high", "the device has no input pin \"in.2\""),
            ("read regs 2 4", "region \"regs\" takes no 4 bytes at 0x2"),
            ("read regs 0 1", "region \"regs\" takes no 1 bytes at 0x0"),
            ("read regs 16 4", "region \"regs\" takes no 4 bytes at 0x10"),
            ("wait long", "\"long\" is no number"),
        ] {
            assert_eq!(error(line), format!("line 3: {what}"));
        }
        assert!(error("jump").starts_with("line 3: \"jump\" is no step: `say "));
        assert!(parsed("[open]\nnext\n").unwrap_err().contains("write `device KIND` first"));
        assert!(
            parsed("device x\nnext\n").unwrap_err().starts_with("line 2: \"next\" before the first phrase")
        );
        assert_eq!(parsed("device x\ndisk 0\n").unwrap_err(), "line 2: a disk has 1 to 1048576 KiB, not 0");
    }
}
