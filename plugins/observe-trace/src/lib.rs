//! What harts and devices do, on guest time, in the JSON trace format that Perfetto and `chrome://tracing` show.
//!
//! Process 1 has a thread for each hart, whose slices say which mode it is in and what brought it there; process 2 one
//! for each device, with its accesses, timers, bottom halves, messages and port traffic as instants, and its pins as
//! counters. Time stamps are virtual time; `args.icount` is the exact place, for `reprise replay --until icount:N`.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_types, reason = "an observer lies outside the machine")]

mod names;
mod writer;

use names::Names;
use reprise_plugin_api::{
    DeviceConfig, export_observer,
    observe::{ConfigError, Event, MachineDesc, Mmio, Mode, Observer, PortChange, Trap, Wants, What},
};
use serde_json::json;
use std::{fs::File, io::BufWriter};
use writer::{DEVICES, HARTS, Writer};

/// Bytes of port traffic and messages that are shown.
const SHOWN: usize = 48;

/// The options.
#[derive(DeviceConfig)]
pub struct Config {
    /// The file that is written.
    #[config(default = "trace.json")]
    pub out: String,
    /// What is shown; without it, everything.
    #[config(
        default = [],
        one_of = ["traps", "mmio", "pins", "timers", "bottom-halves", "ports", "messages"]
    )]
    pub only: Vec<String>,
}

/// A stretch of a hart's time.
struct Stretch {
    since_ns: u64,
    icount: u64,
    name: String,
}

/// The observer.
pub struct Trace {
    out: Writer,
    names: Names,
    /// By hart.
    stretches: Vec<Option<Stretch>>,
    /// The latest time that anything happened.
    now_ns: u64,
}

fn wants(only: &[String]) -> Wants {
    let all: [(&str, Wants); 7] = [
        ("traps", Wants::TRAPS),
        ("mmio", Wants::MMIO),
        ("pins", Wants::PINS),
        ("timers", Wants::TIMERS),
        ("bottom-halves", Wants::BOTTOM_HALVES),
        ("ports", Wants::PORTS),
        ("messages", Wants::MESSAGES),
    ];
    let chosen = all.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|it| it == name));
    chosen.fold(Wants::MACHINE, |wants, (_, more)| wants | *more)
}

impl Observer for Trace {
    type Config = Config;

    const SUMMARY: &'static str = "traps, interrupts and devices on guest time, for Perfetto";

    fn create(config: Config, machine: &MachineDesc) -> Result<(Self, Wants), ConfigError> {
        let at_out = |error: String| ConfigError {
            path: "out".to_owned(),
            message: format!("{}: {error}", config.out),
        };
        let file = File::create(&config.out).map_err(|error| at_out(error.to_string()))?;
        let names = Names::of(machine);
        let out = Writer::begin(BufWriter::new(file), machine).map_err(at_out)?;
        let stretches = (0..machine.harts).map(|_| None).collect();
        Ok((Self { out, names, stretches, now_ns: machine.vtime_ns }, wants(&config.only)))
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        self.now_ns = event.vtime_ns;
        match event.what {
            What::Trap(trap) => {
                let name = trap_name(&trap);
                self.turn(event, trap.hart, Some(format!("{}: {name}", trap.to.letter())))
            }
            What::TrapReturn(back) => self.turn(event, back.hart, Some(back.to.letter().to_string())),
            What::Mmio(access) => self.mmio(event, &access),
            What::Pin { device, pin, high } => {
                let name = format!("{}.{}", self.names.device(device), self.names.output(device, pin));
                self.out.counter(event, &name, high.into())
            }
            What::InputPin { device, pin, high } => {
                let name =
                    format!("{} {}", self.names.input(device, pin), if high { "rises" } else { "falls" });
                self.out.instant(event, (DEVICES, device), &name, &json!({ "icount": event.icount }))
            }
            What::Line { hart, interrupt, high } => {
                let name = format!("hart{hart} {}", interrupt_name(interrupt.into()));
                self.out.counter(event, &name, high.into())
            }
            What::Reset | What::Moved => self.break_off(event),
            _ => self.device_event(event),
        }
    }

    fn finish(mut self) -> Result<(), String> {
        for hart in 0..self.stretches.len() {
            self.close(hart, self.now_ns)?;
        }
        self.out.end()
    }
}

impl Trace {
    /// A hart ends one stretch and begins another.
    fn turn(&mut self, event: &Event<'_>, hart: usize, name: Option<String>) -> Result<(), String> {
        self.close(hart, event.vtime_ns)?;
        let (since_ns, icount) = (event.vtime_ns, event.icount);
        self.stretches[hart] = name.map(|name| Stretch { since_ns, icount, name });
        Ok(())
    }

    fn close(&mut self, hart: usize, now_ns: u64) -> Result<(), String> {
        let Some(Stretch { since_ns, icount, name }) = self.stretches[hart].take() else { return Ok(()) };
        self.out.slice((HARTS, hart), since_ns..now_ns, &name, &json!({ "icount": icount }))
    }

    /// What comes does not follow from what was.
    fn break_off(&mut self, event: &Event<'_>) -> Result<(), String> {
        for hart in 0..self.stretches.len() {
            // A machine that was put back in time has no end for what it began.
            let since_ns = self.stretches[hart].as_ref().map_or(0, |stretch| stretch.since_ns);
            self.close(hart, event.vtime_ns.max(since_ns))?;
        }
        let name = if event.what == What::Reset { "reset" } else { "put elsewhere" };
        self.out.instant(event, (HARTS, 0), name, &json!({ "icount": event.icount }))
    }

    fn mmio(&mut self, event: &Event<'_>, access: &Mmio) -> Result<(), String> {
        let Mmio { device, is_write, region, offset, bytes, value, refused, gpa } = *access;
        let verb = if is_write { "write" } else { "read" };
        let name = format!("{verb} {}+{offset:#x}", self.names.region(device, region));
        let args = json!({
            "icount": event.icount, "bytes": bytes, "value": format!("{value:#x}"), "gpa": format!("{gpa:#x}"),
            "refused": refused,
        });
        self.out.instant(event, (DEVICES, device), &name, &args)
    }

    fn device_event(&mut self, event: &Event<'_>) -> Result<(), String> {
        let icount = event.icount;
        let (device, name, args) = match event.what {
            What::Timer { device, timer } => {
                (device, format!("timer {}", self.names.timer(device, timer)), json!({ "icount": icount }))
            }
            What::BottomHalf { device, bh, payload } => {
                let args = json!({ "icount": icount, "payload": payload.map(shown) });
                (device, format!("bottom half {}", self.names.bottom_half(device, bh)), args)
            }
            What::PortIn { device, port, data } => {
                (device, format!("{} in", self.names.port(device, port)), traffic(icount, data))
            }
            What::PortOut { device, port, data } => {
                (device, format!("{} out", self.names.port(device, port)), traffic(icount, data))
            }
            What::PortChange { device, port, change } => {
                let how = match change {
                    PortChange::Opened => "opened",
                    PortChange::Closed => "closed",
                    PortChange::Break => "break",
                };
                (device, format!("{} {how}", self.names.port(device, port)), json!({ "icount": icount }))
            }
            What::Message { device, link, at, data } => {
                let name = format!("{} message", self.names.link(device, link));
                let (at, data) = (format!("{at:#x}"), data.map(shown));
                (device, name, json!({ "icount": icount, "at": at, "data": data }))
            }
            What::BlockRequest { device, port, token, ok } => {
                let args = json!({ "icount": icount, "token": token, "ok": ok });
                (device, format!("{} request done", self.names.port(device, port)), args)
            }
            _ => return Ok(()),
        };
        self.out.instant(event, (DEVICES, device), &name, &args)
    }
}

fn traffic(icount: u64, data: &[u8]) -> serde_json::Value {
    json!({ "icount": icount, "bytes": data.len(), "data": shown(data) })
}

/// As text where it is some, and otherwise as digits.
fn shown(data: &[u8]) -> String {
    let head = &data[..data.len().min(SHOWN)];
    let is_text = |byte: &u8| byte.is_ascii_graphic() || b" \r\n\t".contains(byte);
    let text: String = match head.iter().all(is_text) {
        true => head.iter().map(|&byte| char::from(byte)).collect(),
        false => head.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if data.len() > SHOWN { text + "…" } else { text }
}

/// Privileged, table "Machine cause register (mcause) values".
fn trap_name(trap: &Trap) -> String {
    if trap.is_interrupt {
        return format!("{} interrupt", interrupt_name(trap.cause));
    }
    let name = match trap.cause {
        1 => "fetch access fault",
        2 => "illegal instruction",
        3 => "breakpoint",
        4 => "load misaligned",
        5 => "load access fault",
        6 => "store misaligned",
        7 => "store access fault",
        8 => "ecall from U",
        9 => "ecall from S",
        11 => "ecall from M",
        12 => "fetch page fault",
        13 => "load page fault",
        15 => "store page fault",
        other => return format!("exception {other} from {}", trap.from.letter()),
    };
    match trap.from {
        _ if trap.cause >= 8 && trap.cause <= 11 => name.to_owned(),
        Mode::User | Mode::Supervisor | Mode::Machine => format!("{name} in {}", trap.from.letter()),
    }
}

/// By its bit in `mip`.
fn interrupt_name(bit: u64) -> &'static str {
    match bit {
        0 => "NMI",
        1 => "SSIP",
        3 => "MSIP",
        5 => "STIP",
        7 => "MTIP",
        9 => "SEIP",
        11 => "MEIP",
        _ => "other",
    }
}

export_observer!(Trace);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_as_what_it_is() {
        assert_eq!((shown(b"hi\n"), shown(&[0, 0xff])), ("hi\n".to_owned(), "00ff".to_owned()));
        assert_eq!(shown(&[b'x'; 60]).chars().count(), SHOWN + 1);
    }
}
