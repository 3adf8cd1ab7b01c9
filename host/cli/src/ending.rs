//! How a run ended: for the shell, for programs and for the user.

use crate::{
    failure::{Exit, Failure, printable},
    io::{EndReason as HostReason, mips},
    setup,
};
use reprise_machine::{Status, Stop, replay::EndReason};
use serde_json::json;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Shells say 128 + N of what signal N ended.
const SIGNAL_BASE: u8 = 128;

/// What the machine's stop means, together with what the host wanted.
#[derive(Debug)]
pub(crate) enum End {
    Machine(Stop),
    Host(HostReason),
}

impl End {
    pub(crate) fn of(stop: Stop, reason: Option<HostReason>) -> Self {
        match (stop, reason) {
            (Stop::Requested, Some(reason)) => Self::Host(reason),
            // What the machine did by itself counts, also if somebody asked at the same moment.
            (stop, _) => Self::Machine(stop),
        }
    }

    /// For programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Machine(Stop::PowerOff { .. } | Stop::ReplayEnded(EndReason::PowerOff { .. })) => {
                "power-off"
            }
            Self::Machine(Stop::Limit | Stop::ReplayEnded(EndReason::Limit)) => "limit",
            Self::Machine(Stop::Requested | Stop::ReplayEnded(EndReason::Stopped))
            | Self::Host(HostReason::Keys | HostReason::Quit) => "requested",
            Self::Machine(Stop::Deadlock | Stop::ReplayEnded(EndReason::Deadlock)) => "deadlock",
            Self::Machine(Stop::PluginFault(_) | Stop::ReplayEnded(EndReason::PluginFault)) => "plugin-fault",
            Self::Machine(Stop::ResetFailed(_) | Stop::ReplayEnded(EndReason::ResetFailed)) => "reset-failed",
            Self::Machine(Stop::Until) => "until",
            Self::Machine(Stop::OutOfRecords(_)) => "torn-log",
            Self::Machine(Stop::Diverged) => "diverged",
            Self::Machine(Stop::LogFailed | Stop::BadRecord(_)) => "log-failed",
            Self::Machine(Stop::DiskFailed(_)) => "disk-failed",
            Self::Host(HostReason::Signal(_)) => "signal",
            Self::Host(HostReason::Output { .. }) => "output-failed",
        }
    }

    /// What a recording says of it; `None` if it ends without a word, or has said it already.
    pub(crate) fn recorded(&self) -> Option<EndReason> {
        match self {
            Self::Machine(Stop::Limit) => Some(EndReason::Limit),
            Self::Machine(Stop::Requested | Stop::Until) | Self::Host(_) => Some(EndReason::Stopped),
            Self::Machine(stop) => stop.own_end(),
        }
    }

    /// The guest decided, or the user did.
    pub(crate) fn is_clean(&self) -> bool {
        match self {
            Self::Machine(
                Stop::PowerOff { .. }
                | Stop::Limit
                | Stop::Requested
                | Stop::Deadlock
                | Stop::Until
                | Stop::ReplayEnded(_)
                | Stop::OutOfRecords(_),
            )
            | Self::Host(HostReason::Keys | HostReason::Quit | HostReason::Signal(_)) => true,
            Self::Machine(
                Stop::PluginFault(_)
                | Stop::ResetFailed(_)
                | Stop::Diverged
                | Stop::LogFailed
                | Stop::DiskFailed(_)
                | Stop::BadRecord(_),
            )
            | Self::Host(HostReason::Output { .. }) => false,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            // A process has 8 bits for what the finisher gives 16.
            Self::Machine(Stop::PowerOff { code } | Stop::ReplayEnded(EndReason::PowerOff { code })) => {
                u8::try_from(*code).unwrap_or(u8::MAX)
            }
            Self::Machine(
                Stop::Limit
                | Stop::Requested
                | Stop::Deadlock
                | Stop::Until
                | Stop::OutOfRecords(_)
                | Stop::ReplayEnded(EndReason::Limit | EndReason::Stopped | EndReason::Deadlock),
            )
            | Self::Host(HostReason::Keys | HostReason::Quit) => 0,
            Self::Machine(Stop::Diverged) => Exit::Diverged as u8,
            Self::Machine(Stop::BadRecord(_)) => Exit::Corrupt as u8,
            Self::Machine(Stop::PluginFault(_) | Stop::ReplayEnded(EndReason::PluginFault)) => {
                Exit::Plugin as u8
            }
            Self::Machine(
                Stop::ResetFailed(_)
                | Stop::ReplayEnded(EndReason::ResetFailed)
                | Stop::LogFailed
                | Stop::DiskFailed(_),
            )
            | Self::Host(HostReason::Output { .. }) => Exit::Io as u8,
            Self::Host(HostReason::Signal(number)) => {
                u8::try_from(*number).map_or(u8::MAX, |n| SIGNAL_BASE + n)
            }
        }
    }

    /// What the summary says of the exit: the guest's own code is not cut to 8 bits.
    fn full_code(&self) -> u32 {
        match self {
            Self::Machine(Stop::PowerOff { code } | Stop::ReplayEnded(EndReason::PowerOff { code })) => *code,
            _ => self.code().into(),
        }
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::Machine(Stop::Deadlock | Stop::ReplayEnded(EndReason::Deadlock)) => {
                "reprise: the guest waits for an interrupt that nothing can raise any more; ended\n".into()
            }
            _ => String::new(),
        }
    }

    /// What went wrong in the run, but for its log.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Machine(Stop::PluginFault(fault)) => Some(
                Failure::new(
                    Exit::Plugin,
                    format!("device \"{}\" failed in {}", fault.device, fault.callback),
                )
                .note(printable(&fault.message))
                .help("this is a bug of the plugin; the guest cannot cause it in a correct one"),
            ),
            Self::Machine(Stop::ResetFailed(why)) => Some(
                Failure::new(Exit::Io, "the guest asked for a reset, and it cannot be done")
                    .note(why.clone()),
            ),
            Self::Machine(Stop::DiskFailed(why)) => Some(
                Failure::new(Exit::Io, "a disk failed on the host, and the guest's view of it with it")
                    .note(why.clone()),
            ),
            Self::Machine(Stop::ReplayEnded(EndReason::ResetFailed)) => Some(Failure::new(
                Exit::Io,
                "the recorded run ended because the guest asked for a reset, which could not be done then",
            )),
            Self::Host(HostReason::Output { what, why }) => {
                Some(Failure::new(Exit::Io, format!("cannot write to {what}")).note(why.clone()))
            }
            Self::Machine(_) | Self::Host(_) => None,
        }
    }
}

/// Where the machine stood, and what it had cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    pub(crate) status: Status,
    pub(crate) host_time: Duration,
    /// Of the whole state.
    pub(crate) digest: [u8; 32],
}

/// The file of `--summary`, opened before the run so that a mistake does not cost one.
pub(crate) struct Summary {
    file: File,
    path: PathBuf,
}

impl Summary {
    pub(crate) fn create(path: Option<&Path>) -> Result<Option<Self>, Failure> {
        let create = |path: &Path| Ok(Self { file: setup::create(path, "summary")?, path: path.to_owned() });
        path.map(create).transpose()
    }

    /// `code`: of the process, if it is not what the end says.
    pub(crate) fn write(mut self, end: &End, code: Option<u8>, stand: &Stand) -> Result<(), Failure> {
        let Stand { status, host_time, digest } = stand;
        let summary = json!({
            "exit": code.map_or_else(|| end.full_code(), u32::from),
            "reason": end.name(),
            "icount": status.icount,
            "instret": status.instret,
            "vtime_ns": status.vtime_ns,
            "digest": hex(digest),
            "host_seconds": host_time.as_secs_f64(),
            "mips": mips(status.icount, *host_time),
        });
        writeln!(self.file, "{summary}")
            .map_err(|error| Failure::io("cannot write the summary", &error).at(self.path.display()))
    }
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let code = |stop, reason| End::of(stop, reason).code();
        assert_eq!(code(Stop::PowerOff { code: 42 }, None), 42);
        assert_eq!(code(Stop::PowerOff { code: 256 }, None), 255, "never a good end by accident");
        assert_eq!(code(Stop::PowerOff { code: 1 }, Some(HostReason::Keys)), 1);
        assert_eq!(code(Stop::Requested, Some(HostReason::Signal(15))), 143);
        assert_eq!(code(Stop::Requested, Some(HostReason::Keys)), 0);
        assert_eq!(code(Stop::Limit, None), 0);
        assert_eq!(code(Stop::ResetFailed(String::new()), None), 6);
        assert_eq!(code(Stop::Diverged, None), 4);
        assert_eq!(code(Stop::BadRecord(String::new()), None), 5);
    }

    #[test]
    fn a_replayed_end_is_told_as_the_run_told_it() {
        for stop in [Stop::PowerOff { code: 7 }, Stop::Limit, Stop::Deadlock, Stop::ResetFailed("x".into())] {
            let live = End::of(stop, None);
            let replayed = End::of(Stop::ReplayEnded(live.recorded().unwrap()), None);
            assert_eq!((replayed.name(), replayed.full_code()), (live.name(), live.full_code()));
            assert_eq!(replayed.recorded(), None, "the log has said it");
        }
        let stopped = End::of(Stop::Requested, Some(HostReason::Signal(15))).recorded();
        assert_eq!(stopped, Some(EndReason::Stopped));
    }
}
