//! Keys that are for us and not for the guest: Ctrl-A and one more.

/// Ctrl-A.
const PREFIX: u8 = 1;

/// What Ctrl-A and a key ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `h`, `?`
    Help,
    /// `x`
    Exit,
    /// `c`
    Monitor,
    /// `t`
    Timestamps,
    /// `s`
    Status,
    /// `b`
    Break,
    /// `r`
    Reset,
    /// `p`
    PowerOff,
    /// `n`
    Nmi,
}

/// What `Ctrl-A h` prints.
pub(crate) const HELP: &str = "\n\
    Ctrl-A h    this help\n\
    Ctrl-A x    end the run\n\
    Ctrl-A c    monitor, and back to the console\n\
    Ctrl-A t    timestamps (virtual time) on console lines, on and off\n\
    Ctrl-A s    status line, on and off\n\
    Ctrl-A b    send a break\n\
    Ctrl-A r    press the reset button\n\
    Ctrl-A p    press the power button\n\
    Ctrl-A n    raise a non-maskable interrupt\n\
    Ctrl-A Ctrl-A    send Ctrl-A\n";

/// A piece of what was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// For the guest, or for the monitor.
    Keys(Vec<u8>),
    /// For us.
    Command(Command),
}

/// Tells the guest's keys from ours, across reads of any size.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    prefixed: bool,
}

impl Escape {
    /// What was typed, in its order.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> Vec<Typed> {
        let mut out = Vec::new();
        for &byte in typed {
            match (std::mem::take(&mut self.prefixed), byte) {
                (false, PREFIX) => self.prefixed = true,
                (true, byte) if byte != PREFIX => out.extend(command(byte).map(Typed::Command)),
                (_, byte) => match out.last_mut() {
                    Some(Typed::Keys(keys)) => keys.push(byte),
                    Some(Typed::Command(_)) | None => out.push(Typed::Keys(vec![byte])),
                },
            }
        }
        out
    }
}

/// Other keys after Ctrl-A do nothing: neither the guest nor we get a half of what was meant.
fn command(key: u8) -> Option<Command> {
    match key.to_ascii_lowercase() {
        b'h' | b'?' => Some(Command::Help),
        b'x' => Some(Command::Exit),
        b'c' => Some(Command::Monitor),
        b't' => Some(Command::Timestamps),
        b's' => Some(Command::Status),
        b'b' => Some(Command::Break),
        b'r' => Some(Command::Reset),
        b'p' => Some(Command::PowerOff),
        b'n' => Some(Command::Nmi),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_out_wherever_reads_are_cut() {
        let typed = b"ls\x01tx\x01\x01y\x01q\x01hz\x01X";
        let keys = |keys: &[u8]| Typed::Keys(keys.to_vec());
        let expected = [
            keys(b"ls"),
            Typed::Command(Command::Timestamps),
            keys(b"x\x01y"),
            Typed::Command(Command::Help),
            keys(b"z"),
            Typed::Command(Command::Exit),
        ];
        for cut in 0..typed.len() {
            let mut escape = Escape::default();
            let mut seen = Vec::new();
            for piece in [&typed[..cut], &typed[cut..]].into_iter().flat_map(|part| escape.filter(part)) {
                match (seen.last_mut(), piece) {
                    (Some(Typed::Keys(before)), Typed::Keys(more)) => before.extend(more),
                    (_, piece) => seen.push(piece),
                }
            }
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }
}
