//! What the host owns on behalf of the devices: clock, gate, deadlines, wires, ports, disks. Everything that a device
//! callback can reach, and nothing of the harts.

use crate::{
    acts::Acts,
    bottom_half::BottomHalves,
    clock::Clock,
    deadline::Deadlines,
    disk::Disks,
    links::Links,
    log::{LogLevel, LogRecord, RateLimit, Verdict},
    observers::Observers,
    outside::{Asked, Outside, PortStand},
    port::PortSlot,
    symbols::Symbols,
    wires::Wires,
};
use reprise_cpu::GuestRam;
use reprise_replay::Gate;
use std::rc::Rc;

/// What was asked of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    PowerOff { code: u32 },
    Reset,
}

/// A device's plugin did what it must not: it panicked, or it keeps the machine from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFault {
    /// Device id of the board.
    pub device: String,
    /// The callback that was running.
    pub callback: &'static str,
    /// What happened and where.
    pub message: String,
}

/// State that device callbacks work on.
pub(crate) struct Services {
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
    pub(crate) deadlines: Deadlines,
    pub(crate) bottom_halves: BottomHalves,
    pub(crate) wires: Wires,
    pub(crate) links: Links,
    pub(crate) ports: Vec<Vec<PortSlot>>,
    pub(crate) disks: Disks,
    pub(crate) ram: Rc<GuestRam>,
    pub(crate) outside: Box<dyn Outside>,
    pub(crate) device_ids: Vec<String>,
    pub(crate) control: Option<(Control, Asked)>,
    pub(crate) fault: Option<PluginFault>,
    /// The host could not serve a disk where that must not show.
    pub(crate) disk_failure: Option<String>,
    /// Something is queued, or a deadline moved: the hart must come back at the next instruction boundary.
    pub(crate) attention: bool,
    /// Output of this port brings the hart back, so that a stop behind a line is exact.
    pub(crate) watched: Option<(usize, usize)>,
    pub(crate) warnings: RateLimit,
    /// Names of the booted ELF files, for messages.
    pub(crate) symbols: Symbols,
    pub(crate) observers: Observers,
    /// What some devices do, if anybody wants to know.
    pub(crate) acts: Option<Box<Acts>>,
}

impl Services {
    /// The first request wins: a guest that powers off and then resets in one instruction has powered off.
    pub(crate) fn request(&mut self, control: Control, asked: Asked) {
        self.control.get_or_insert((control, asked));
        self.attention = true;
    }

    /// A line for people. Warnings are rate-limited.
    pub(crate) fn log(&mut self, level: LogLevel, device: Option<usize>, text: String) {
        if level == LogLevel::Warn {
            return self.warn(device, |_| text);
        }
        let vtime_ns = self.clock.vtime_ns();
        let device = device.map(|index| self.device_ids[index].clone());
        self.outside.log(&LogRecord { level, device, text, vtime_ns });
    }

    /// A warning, written only if it passes: a guest that faults in a loop must not pay for text that nobody reads.
    pub(crate) fn warn(&mut self, device: Option<usize>, text: impl FnOnce(&Services) -> String) {
        let vtime_ns = self.clock.vtime_ns();
        let level = LogLevel::Warn;
        match self.warnings.check(vtime_ns) {
            Verdict::Suppress => return,
            Verdict::Pass => {}
            Verdict::PassAfter(n) => {
                let text = format!("{n} similar warnings left out");
                self.outside.log(&LogRecord { level, device: None, text, vtime_ns });
            }
        }
        let text = text(self);
        let device = device.map(|index| self.device_ids[index].clone());
        self.outside.log(&LogRecord { level, device, text, vtime_ns });
    }

    /// Account for the warnings that were left out, before somebody looks at the lines.
    pub(crate) fn log_left_out(&mut self) {
        let left_out = self.warnings.take_suppressed();
        if left_out > 0 {
            let text = format!("{left_out} similar warnings left out");
            let vtime_ns = self.clock.vtime_ns();
            self.outside.log(&LogRecord { level: LogLevel::Warn, device: None, text, vtime_ns });
        }
    }

    /// Every record carries the icount: to be called before the gate is asked anything.
    pub(crate) fn sync_gate(&mut self) {
        self.gate.set_icount(self.clock.icount());
    }

    /// The outside has not seen how the machine became what it is.
    pub(crate) fn tell_stand(&mut self) {
        let vtime_ns = self.clock.vtime_ns();
        let Services { outside, ports, device_ids, .. } = self;
        let mut stands = Vec::new();
        for (device, ports) in device_ids.iter().zip(ports.iter()) {
            stands.extend(ports.iter().map(|port| PortStand {
                device,
                port: &port.name,
                waiting_bytes: port.waiting_bytes(),
                offload: port.offload(),
            }));
        }
        outside.was_restored(vtime_ns, &stands);
    }

    /// The recorded host clock.
    pub(crate) fn host_clock_ns(&mut self) -> u64 {
        self.sync_gate();
        let now_ns = self.clock.vtime_ns();
        self.gate.host_clock(now_ns, || self.outside.host_clock_ns())
    }
}
