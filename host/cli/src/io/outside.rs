//! The machine's view of this process.

use super::link::Link;
use crate::failure::printable;
use reprise_machine::{Asked, Input, LogLevel, LogRecord, NetOffload, Outside, PortStand, Status};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// The process, as the machine sees it.
pub(crate) struct HostOutside {
    link: Arc<Link>,
    origin: Instant,
    /// Log lines of lower severity are not shown.
    level: LogLevel,
    /// What the guest's wall clock shows, in nanoseconds since 1970; `None`: the host's.
    fixed_clock_ns: Option<u64>,
}

impl HostOutside {
    pub(crate) fn new(link: Arc<Link>, level: LogLevel, fixed_clock_ns: Option<u64>) -> Self {
        Self { link, origin: Instant::now(), level, fixed_clock_ns }
    }
}

impl Outside for HostOutside {
    fn realtime_ns(&mut self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).expect("584 years")
    }

    fn host_clock_ns(&mut self) -> u64 {
        if let Some(ns) = self.fixed_clock_ns {
            return ns;
        }
        // A clock before 1970 is not set.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn poll(&mut self, inbox: &mut Vec<Input>) {
        self.link.poll(inbox);
    }

    fn wait(&mut self, timeout_ns: Option<u64>) {
        self.link.wait(timeout_ns);
    }

    fn can_answer(&self) -> bool {
        self.link.can_answer()
    }

    fn port_write(&mut self, device: &str, port: &str, data: &[u8]) {
        self.link.write(device, port, data);
    }

    fn port_taken(&mut self, device: &str, port: &str, taken: usize) {
        self.link.taken(device, port, taken);
    }

    fn net_offload(&mut self, device: &str, port: &str, offload: NetOffload) {
        self.link.offload(device, port, offload);
    }

    fn publish(&mut self, vtime_ns: u64, running: bool) {
        if self.link.clock.publish(vtime_ns, running) {
            self.link.ring();
        }
    }

    fn alarm_ns(&self) -> Option<u64> {
        self.link.clock.alarm()
    }

    fn progress(&mut self, status: Status) {
        self.link.icount.store(status.icount, Ordering::Relaxed);
        self.link.hub().progress(status);
    }

    fn was_reset(&mut self, asked: Asked) {
        self.link.was_reset();
        self.link.hub().was_reset(asked);
    }

    fn was_restored(&mut self, vtime_ns: u64, ports: &[PortStand<'_>]) {
        self.link.restored(vtime_ns, ports);
    }

    fn powered_off(&mut self, asked: Asked) {
        self.link.hub().powered_off(asked);
    }

    fn log(&mut self, record: &LogRecord) {
        if record.level <= self.level {
            self.link.notice(&log_line(record));
        }
    }
}

/// A line of the machine, for standard error.
pub(crate) fn log_line(record: &LogRecord) -> String {
    let level = match record.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let who = record.device.as_deref().unwrap_or("machine");
    let (s, us) = (record.vtime_ns / 1_000_000_000, record.vtime_ns / 1000 % 1_000_000);
    format!("{level}: [{s:5}.{us:06}] {who}: {}\n", printable(&record.text))
}
