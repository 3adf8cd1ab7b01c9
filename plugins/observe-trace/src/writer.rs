//! The JSON of Chrome's "Trace Event Format": one event a line, so that a trace can also be searched as text.

use reprise_plugin_api::observe::{Event, MachineDesc};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
};

/// The process that harts are threads of.
pub(crate) const HARTS: u32 = 1;
/// The process that devices are threads of.
pub(crate) const DEVICES: u32 = 2;

/// A thread of a process.
type Thread = (u32, usize);

/// A trace that is written.
pub(crate) struct Writer {
    out: BufWriter<File>,
    is_empty: bool,
}

fn failed(error: io::Error) -> String {
    format!("cannot write the trace: {error}")
}

/// The format counts in microseconds.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

impl Writer {
    pub(crate) fn begin(out: BufWriter<File>, machine: &MachineDesc) -> Result<Self, String> {
        let mut writer = Self { out, is_empty: true };
        writer.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[").map_err(failed)?;
        for (process, name) in [(HARTS, "harts"), (DEVICES, "devices")] {
            let args = json!({ "name": name });
            writer.put(&json!({ "ph": "M", "name": "process_name", "pid": process, "args": args }))?;
        }
        let harts = (0..machine.harts as usize).map(|hart| ((HARTS, hart), format!("hart{hart}")));
        let devices = machine.devices.iter().enumerate();
        let devices = devices.map(|(index, device)| ((DEVICES, index), device.id.clone()));
        for ((process, thread), name) in harts.chain(devices) {
            let args = json!({ "name": name });
            let (pid, tid) = (process, thread + 1);
            writer.put(&json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": args }))?;
        }
        Ok(writer)
    }

    fn put(&mut self, event: &Value) -> Result<(), String> {
        let comma = if std::mem::take(&mut self.is_empty) { "" } else { "," };
        write!(self.out, "{comma}\n{event}").map_err(failed)
    }

    /// Something that takes no time.
    pub(crate) fn instant(
        &mut self,
        event: &Event<'_>,
        (pid, thread): Thread,
        name: &str,
        args: &Value,
    ) -> Result<(), String> {
        let ts = micros(event.vtime_ns);
        let tid = thread + 1;
        self.put(&json!({
            "ph": "i", "s": "t", "name": name, "pid": pid, "tid": tid, "ts": ts, "args": args,
        }))
    }

    /// Something that lasts.
    pub(crate) fn slice(
        &mut self,
        (pid, thread): Thread,
        at_ns: Range<u64>,
        name: &str,
        args: &Value,
    ) -> Result<(), String> {
        let (ts, dur) = (micros(at_ns.start), micros(at_ns.end.saturating_sub(at_ns.start)));
        let tid = thread + 1;
        self.put(&json!({
            "ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args,
        }))
    }

    /// A level from here on.
    pub(crate) fn counter(&mut self, event: &Event<'_>, name: &str, value: u64) -> Result<(), String> {
        let ts = micros(event.vtime_ns);
        let args = json!({ "level": value });
        self.put(&json!({ "ph": "C", "name": name, "pid": DEVICES, "ts": ts, "args": args }))
    }

    pub(crate) fn end(mut self) -> Result<(), String> {
        self.out.write_all(b"\n]}\n").and_then(|()| self.out.flush()).map_err(failed)
    }
}
