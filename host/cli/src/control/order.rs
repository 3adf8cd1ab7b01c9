//! What is done on the machine's thread, between two instructions, and what comes of it.

use super::driven::Driven;
use crate::{
    ending::hex,
    failure::{Exit, Failure},
    flight,
    place::Place,
    reload,
    shelf::{Tag, Wish},
};
use reprise_machine::Machine;
use serde_json::{Value, json};

/// One thing to do. A new one is a variant here and an arm of [`Order::carry_out`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Stand still until [`Order::Cont`].
    Stop,
    /// Go on.
    Cont,
    /// Registers of one hart, or of all, as text.
    Registers(Option<usize>),
    /// Guest memory, as text.
    Examine(Examine),
    /// The digest of the state, and where it is.
    Digest,
    /// Go to a place of the recording and stand still there.
    Seek(Place),
    /// Stand still before this instruction when it comes; or at none.
    Break(Option<u64>),
    /// Become what a snapshot says.
    Load(Tag),
    /// Go on with another build of a device's plugin.
    Reload(reload::Wish),
    /// Save, delete or list snapshots.
    Shelf(Wish),
    /// Save what the flight recorder keeps.
    Flight(flight::Wish),
}

/// A look at guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Examine {
    pub(super) gpa: u64,
    pub(super) count: usize,
    /// Bytes of one value: 1, 2, 4 or 8.
    pub(super) size: usize,
    pub(super) form: Form,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Hex,
    Signed,
    Unsigned,
    Octal,
    Char,
}

/// Why something was not done, as QMP has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    class: &'static str,
    pub(super) desc: String,
    /// What a command that was told this ends with, where that is more than that it was refused.
    exit: Option<Exit>,
}

impl Refusal {
    pub(crate) fn new(desc: impl Into<String>) -> Self {
        Self { class: "GenericError", desc: desc.into(), exit: None }
    }

    pub(super) fn not_found(desc: impl Into<String>) -> Self {
        Self { class: "CommandNotFound", ..Self::new(desc) }
    }

    pub(super) fn ended() -> Self {
        Self::new("the machine has ended")
    }

    /// The same, for scripts.
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit: Some(exit), ..self }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut error = json!({ "class": self.class, "desc": self.desc });
        if let Some(exit) = self.exit {
            error["x-exit"] = (exit as u8).into();
        }
        error
    }
}

impl From<Failure> for Refusal {
    /// Everything that there is to say, in one line.
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        let line = |line: &str| {
            let line = line.trim_start();
            let starts = ["error: ", "--> ", "= note: ", "= help: "];
            starts.iter().find_map(|start| line.strip_prefix(start)).unwrap_or(line).to_owned()
        };
        let lines: Vec<String> = text.lines().map(line).collect();
        Self::new(lines.join("; "))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.desc)
    }
}

/// What comes back.
pub(crate) type Answer = Result<Value, Refusal>;
/// Where it goes.
pub(crate) type Reply = Box<dyn FnOnce(Answer) + Send>;

impl Order {
    /// Do it. The machine stands at a safe point, and goes on behind it if `paused` is false then. `over`: whether the
    /// run is, so that nobody waits for what takes long.
    pub(super) fn carry_out(
        self,
        driven: &mut dyn Driven,
        paused: &mut bool,
        over: &dyn Fn() -> bool,
    ) -> Answer {
        let machine = driven.machine();
        match self {
            Self::Stop => *paused = true,
            Self::Cont => *paused = false,
            Self::Registers(None) => {
                let all: String = (0..machine.harts()).map(|hart| registers(machine, hart)).collect();
                return Ok(all.into());
            }
            Self::Registers(Some(hart)) if hart < machine.harts() => {
                return Ok(registers(machine, hart).into());
            }
            Self::Registers(Some(hart)) => return Err(Refusal::new(format!("there is no hart {hart}"))),
            Self::Examine(wanted) => return examine(machine, wanted),
            Self::Digest => {
                let (digest, status) = (hex(&machine.digest()), machine.status());
                let (icount, vtime_ns) = (status.icount, status.vtime_ns);
                return Ok(json!({ "digest": digest, "icount": icount, "vtime-ns": vtime_ns }));
            }
            Self::Seek(place) => return driven.seek(place, paused, over),
            Self::Break(icount) => return driven.set_break(icount),
            Self::Load(tag) => return driven.load(tag),
            Self::Reload(wish) => return driven.reload(wish),
            Self::Shelf(_) | Self::Flight(_) => {
                unreachable!("the hub hands it to the shelf or the flight recorder, which answer later")
            }
        }
        Ok(json!({}))
    }
}

/// As QEMU writes them.
fn registers(machine: &mut Machine, hart: usize) -> String {
    let state = if machine.is_waiting(hart) { " (waits)" } else { "" };
    let mut text = format!("\nCPU#{hart}{state}\n mode     {}\n", machine.privilege(hart));
    let next = machine.upcoming(hart);
    text += &format!(" pc       {:016x}", next.pc);
    text += &next.symbol.map_or_else(String::new, |symbol| format!(" <{symbol}>"));
    text += &next.text.map_or_else(String::new, |text| format!("  {text}"));
    for (number, (name, value)) in machine.registers(hart).into_iter().enumerate() {
        let gap = if number.is_multiple_of(4) { "\n" } else { "" };
        text += &format!("{gap} {:<8} {value:016x}", format!("x{number}/{name}"));
    }
    text + "\n"
}

fn examine(machine: &Machine, wanted: Examine) -> Answer {
    let Examine { gpa, count, size, form } = wanted;
    let Some(bytes) = machine.memory(gpa, count * size) else {
        return Err(Refusal::new(format!("not all of {} bytes at {gpa:#x} is RAM", count * size)));
    };
    let per_line = (16 / size).min(8);
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(per_line * size).enumerate() {
        let at = gpa + (line * per_line * size) as u64;
        let values: String = chunk.chunks(size).map(|value| format!(" {}", form.text(value))).collect();
        text += &format!("{at:016x}:{values}\n");
    }
    Ok(text.into())
}

impl Form {
    fn text(self, bytes: &[u8]) -> String {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let value = u64::from_le_bytes(wide);
        let unused = 64 - 8 * u32::try_from(bytes.len()).expect("at most 8");
        match self {
            Self::Hex => format!("0x{value:0width$x}", width = 2 * bytes.len()),
            Self::Signed => ((value << unused).cast_signed() >> unused).to_string(),
            Self::Unsigned => value.to_string(),
            Self::Octal => format!("{value:#o}"),
            Self::Char => format!("'{}'", bytes[0].escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_every_form() {
        let texts = |bytes: &[u8]| {
            [Form::Hex, Form::Signed, Form::Unsigned, Form::Octal, Form::Char].map(|form| form.text(bytes))
        };
        assert_eq!(texts(&[0xfe]), ["0xfe", "-2", "254", "0o376", "'\\xfe'"]);
        assert_eq!(texts(&[0x41, 0, 0, 0]), ["0x00000041", "65", "65", "0o101", "'A'"]);
        assert_eq!(texts(&[0xff; 8])[..3], ["0xffffffffffffffff", "-1", "18446744073709551615"]);
    }
}
