//! What the log says, with the board's names: it knows devices by their numbers only.

use crate::recording::Manifest;
use reprise_machine::{
    board::Board,
    replay::{Control, Entry, Event, Found, PortChange},
};
use std::fmt::Write as _;

/// Bytes of an input shown.
const SHOWN: usize = 24;

/// The names of a board's devices, of their ports and of their bottom halves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Vec<DeviceNames>);

#[derive(Clone, Debug)]
struct DeviceNames {
    id: String,
    plugin: String,
    ports: Vec<String>,
    bottom_halves: Vec<String>,
}

impl Names {
    pub(crate) fn of(board: &Board) -> Self {
        let names = board.devices.iter().map(|device| DeviceNames {
            id: device.id.clone(),
            plugin: device.plugin.clone(),
            ports: device.desc.ports.iter().map(|port| port.name.clone()).collect(),
            bottom_halves: device.desc.bottom_halves.iter().map(|bh| bh.name.clone()).collect(),
        });
        Self(names.collect())
    }

    /// As far as a recording has them, without its plugins.
    pub(crate) fn recorded(manifest: &Manifest) -> Self {
        let names = manifest.devices.iter().map(|device| DeviceNames {
            id: device.id.clone(),
            plugin: String::new(),
            ports: device.ports.clone(),
            bottom_halves: Vec::new(),
        });
        Self(names.collect())
    }

    pub(crate) fn device(&self, device: u32) -> String {
        self.0.get(device as usize).map_or_else(|| format!("device {device}"), |names| names.id.clone())
    }

    /// The plugin of the device with this id, if it is known.
    pub(crate) fn plugin(&self, id: &str) -> Option<&str> {
        let plugin = self.0.iter().find(|names| names.id == id).map(|names| names.plugin.as_str());
        plugin.filter(|plugin| !plugin.is_empty())
    }

    /// `uart0.chr`.
    pub(crate) fn port(&self, device: u32, port: u32) -> String {
        let name = self.0.get(device as usize).and_then(|names| names.ports.get(port as usize));
        match name {
            Some(name) => format!("{}.{name}", self.device(device)),
            None => format!("{}.port {port}", self.device(device)),
        }
    }

    fn bottom_half(&self, device: u32, bh: u32) -> String {
        let name = self.0.get(device as usize).and_then(|names| names.bottom_halves.get(bh as usize));
        match name {
            Some(name) => format!("\"{name}\" of {}", self.device(device)),
            None => format!("{bh} of {}", self.device(device)),
        }
    }

    pub(crate) fn found(&self, found: &Found) -> String {
        match found {
            Found::Nothing => "nothing: the machine went on without it".to_owned(),
            Found::HostClock => "a read of the host's clock".to_owned(),
            Found::Entry(entry) => self.entry(entry),
        }
    }

    pub(crate) fn entry(&self, entry: &Entry) -> String {
        match entry {
            Entry::Event(event) => self.event(event),
            Entry::Seed(seed) => format!("seed {}…", hex(&seed.0[..8])),
            Entry::Digest(digest) => format!("digest {}…", hex(&digest.whole[..8])),
            Entry::DiskBlock { device, port, block, hash } => {
                let port = self.port(*device, *port);
                format!("first read of block {block} of the disk at {port}, content {}…", hex(&hash[..8]))
            }
            Entry::End { reason, chain } => {
                format!("end of the recording ({reason}), digests {}…", hex(&chain[..8]))
            }
        }
    }

    fn event(&self, event: &Event) -> String {
        match event {
            Event::Input { device, port, data } => {
                format!("{} for {}: {}", bytes(data.len()), self.port(*device, *port), preview(data))
            }
            Event::PortChange { device, port, change } => {
                let what = match change {
                    PortChange::Opened => "opened",
                    PortChange::Closed => "closed",
                    PortChange::Break => "break",
                };
                format!("{what} at {}", self.port(*device, *port))
            }
            Event::Control(Control::Reset) => "reset button".to_owned(),
            Event::Control(Control::PowerOff) => "power button".to_owned(),
            Event::Control(Control::Nmi) => "non-maskable interrupt".to_owned(),
            Event::BottomHalf { device, bh, oneshot } => {
                let oneshot = if *oneshot { ", with a payload" } else { "" };
                format!("bottom half {}{oneshot}", self.bottom_half(*device, *bh))
            }
            Event::HostClock { value_ns } => format!("host clock read as {value_ns} ns"),
            Event::WriteMemory { gpa, data } => {
                format!("debugger wrote {} to {gpa:#x}: {}", bytes(data.len()), preview(data))
            }
            Event::WriteRegister { hart, register, value } => {
                format!("debugger wrote {value:#x} to register {register} of hart {hart}")
            }
        }
    }
}

fn bytes(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn preview(data: &[u8]) -> String {
    let shown = &data[..data.len().min(SHOWN)];
    let more = if data.len() > SHOWN { " …" } else { "" };
    let is_text = |byte: &u8| byte.is_ascii_graphic() || b" \n\r\t".contains(byte);
    if shown.iter().all(is_text) {
        return format!("\"{}\"{more}", shown.escape_ascii());
    }
    let digits: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ") + more
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes every write.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_and_strangers_numbered() {
        let names = Names(vec![DeviceNames {
            id: "uart0".into(),
            plugin: "ns16550a".into(),
            ports: vec!["chr".into()],
            bottom_halves: vec!["tx".into()],
        }]);
        let text = |event| names.entry(&Entry::Event(event));
        let input = |device, data: &[u8]| Event::Input { device, port: 0, data: data.to_vec() };
        assert_eq!(text(input(0, b"ls\n")), r#"3 bytes for uart0.chr: "ls\n""#);
        assert_eq!(text(input(7, &[0, 0xff])), "2 bytes for device 7.port 0: 00 ff");
        assert_eq!(
            text(input(0, &[b'a'; 100])),
            format!("100 bytes for uart0.chr: \"{}\" …", "a".repeat(24))
        );
        let bh = |bh| Event::BottomHalf { device: 0, bh, oneshot: false };
        assert_eq!(text(bh(0)), "bottom half \"tx\" of uart0");
        assert_eq!(text(bh(1)), "bottom half 1 of uart0");
        assert_eq!((names.plugin("uart0"), names.plugin("uart1")), (Some("ns16550a"), None));
    }
}
