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
    Ctrl-A c    monitor (not in this version)\n\
    Ctrl-A t    timestamps (virtual time) on console lines, on and off\n\
    Ctrl-A s    status line, on and off\n\
    Ctrl-A b    send a break\n\
    Ctrl-A r    press the reset button\n\
    Ctrl-A p    press the power button\n\
    Ctrl-A n    raise a non-maskable interrupt\n\
    Ctrl-A Ctrl-A    send Ctrl-A\n";

/// Tells the guest's keys from ours, across reads of any size.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    prefixed: bool,
}

impl Escape {
    /// Returns what goes to the guest; commands are appended to `commands`.
    pub(crate) fn filter(&mut self, typed: &[u8], commands: &mut Vec<Command>) -> Vec<u8> {
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (std::mem::take(&mut self.prefixed), byte) {
                (false, PREFIX) => self.prefixed = true,
                (true, byte) if byte != PREFIX => commands.extend(command(byte)),
                (_, byte) => out.push(byte),
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
        for cut in 0..typed.len() {
            let (mut escape, mut commands) = (Escape::default(), Vec::new());
            let mut seen = escape.filter(&typed[..cut], &mut commands);
            seen.extend(escape.filter(&typed[cut..], &mut commands));
            assert_eq!(seen, b"lsx\x01yz");
            assert_eq!(commands, [Command::Timestamps, Command::Help, Command::Exit]);
        }
    }
}
