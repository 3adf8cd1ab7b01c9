//! The state digest: what two machines must have in common to be called the same.

use crate::{
    deadline::Due,
    machine::Machine,
    ram_digest::RamDigest,
    section::{self, Section},
};
use reprise_cpu::{F_NAMES, X_NAMES};

/// The section of guest RAM, always the last.
const RAM: &str = "ram";

impl Machine {
    /// The state digest. Costs little: of RAM only the pages that were written since the last one are hashed.
    #[must_use]
    pub fn digest(&mut self) -> [u8; 32] {
        self.digest_parts().0
    }

    /// The digest, and the first four bytes (little-endian) of each section's own hash, in the order of
    /// [`Machine::section_names`]: enough to say which sections differ.
    #[must_use]
    pub fn digest_parts(&mut self) -> ([u8; 32], Vec<u32>) {
        let ram = self.ram_digest.update(&self.services.ram);
        self.combine(ram)
    }

    /// The digest from every byte of RAM, whatever was hashed before. For tests, and for whoever doubts.
    #[must_use]
    pub fn digest_from_scratch(&self) -> [u8; 32] {
        self.combine(RamDigest::from_scratch(&self.services.ram).root()).0
    }

    fn combine(&self, ram: [u8; 32]) -> ([u8; 32], Vec<u32>) {
        let mut whole = blake3::Hasher::new();
        let mut parts = Vec::new();
        let sections =
            self.sections().into_iter().map(|(name, bytes)| (name, *blake3::hash(&bytes).as_bytes()));
        for (name, hash) in sections.chain([(RAM.to_owned(), ram)]) {
            whole.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(&hash);
            parts.push(u32::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes")));
        }
        (*whole.finalize().as_bytes(), parts)
    }

    /// The names of all sections, in the fixed order of [`Machine::digest_parts`].
    #[must_use]
    pub fn section_names(&self) -> Vec<String> {
        let harts = (0..self.cluster.harts()).map(|hart| format!("hart{hart}"));
        let host = ["clock", "timers", "bh", "wires", "ports", "disks"].map(str::to_owned);
        let devices = self.services.device_ids.iter().map(|id| format!("device.{id}"));
        harts.chain(host).chain(devices).chain([RAM.to_owned()]).collect()
    }

    /// Every section of the state but RAM: its name, and a state record ([`reprise_abi::state`]).
    #[must_use]
    pub fn sections(&self) -> Vec<(String, Vec<u8>)> {
        let harts = (0..self.cluster.harts()).map(|hart| self.hart_section(hart));
        let host = [
            section::encode(|out| self.save_clock(out)),
            section::encode(|out| self.save_timers(out)),
            section::encode(|out| self.save_bottom_halves(out)),
            section::encode(|out| self.save_wires(out)),
            section::encode(|out| self.save_ports(out)),
            section::encode(|out| self.services.disks.save(|device, port| self.port_name(device, port), out)),
        ];
        let devices = self.slots.iter().map(|slot| slot.instance.save());
        self.section_names().into_iter().zip(harts.chain(host).chain(devices)).collect()
    }

    fn hart_section(&self, hart: usize) -> Vec<u8> {
        section::encode(|out| {
            for (name, value) in self.cluster.save(hart) {
                save_hart_field(&name, &value, out);
            }
        })
    }

    fn save_clock(&self, out: &mut Section<'_, '_>) {
        let clock = &self.services.clock;
        out.u64("icount", clock.icount()).u64("idle_ns", clock.idle_ns());
        out.u64("time_offset", clock.time_offset());
        let [turn, turn_ends, seed] = self.schedule.state();
        out.u64("turn", turn).u64("turn_ends", turn_ends).u64("schedule_seed", seed);
        out.u64("random_bytes", self.services.gate.random_stream().drawn_bytes());
    }

    /// Deadlines by their order, not by the order's number: a run whose timers were armed more often but stand the
    /// same is in the same state.
    fn save_timers(&self, out: &mut Section<'_, '_>) {
        let (mut at_ns, mut rank) = (0, 0);
        for (when, due) in self.services.deadlines.iter() {
            rank = if when.at_ns == at_ns { rank + 1 } else { 0 };
            at_ns = when.at_ns;
            let name = match due {
                Due::Timer { device, timer } => {
                    let timers = &self.slots[device].instance.desc().timers;
                    format!("{}.{}", self.services.device_ids[device], timers[timer as usize])
                }
                Due::Disk { request } => format!("request{request}"),
            };
            out.u64(&format!("{name}.at_ns"), at_ns);
            // Among equal deadlines.
            out.u64(&format!("{name}.rank"), rank);
        }
    }

    fn save_bottom_halves(&self, out: &mut Section<'_, '_>) {
        for (index, waiting) in self.services.bottom_halves.iter().enumerate() {
            let declared = &self.slots[waiting.device].instance.desc().bottom_halves;
            let name = declared
                .get(waiting.bh as usize)
                .map_or_else(|| waiting.bh.to_string(), |bh| bh.name.clone());
            out.text(
                &format!("[{index}].name"),
                &format!("{}.{name}", self.services.device_ids[waiting.device]),
            );
            if let Some(payload) = &waiting.payload {
                out.bytes(&format!("[{index}].payload"), payload.iter().copied());
            }
        }
    }

    fn save_wires(&self, out: &mut Section<'_, '_>) {
        for (device, levels) in self.services.wires.levels().iter().enumerate() {
            for (name, &high) in self.pin_names(device).iter().zip(levels) {
                out.bool(name, high);
            }
        }
    }

    /// What a device's output pins are called, in their order.
    pub(crate) fn pin_names(&self, device: usize) -> Vec<String> {
        let id = &self.services.device_ids[device];
        let outputs = self.slots[device].instance.desc().outputs.iter();
        let names = outputs.flat_map(|pins| match pins.count {
            None => vec![format!("{id}.{}", pins.name)],
            Some(count) => (0..count).map(|index| format!("{id}.{}.{index}", pins.name)).collect(),
        });
        names.collect()
    }

    fn save_ports(&self, out: &mut Section<'_, '_>) {
        for (id, ports) in self.services.device_ids.iter().zip(&self.services.ports) {
            ports.iter().for_each(|port| port.save(id, out));
        }
    }

    pub(crate) fn port_name(&self, device: usize, port: u32) -> String {
        let port = &self.services.ports[device][port as usize];
        format!("{}.{}", self.services.device_ids[device], port.name)
    }
}

/// What the words of a hart's triggers are called.
pub(crate) fn trigger_field(index: usize) -> String {
    match index.checked_sub(1) {
        None => "tselect".to_owned(),
        Some(index) => format!("trigger{}.tdata{}", index / 2, index % 2 + 1),
    }
}

/// A field of a hart, lists as one field for each register, by the names of the manuals.
fn save_hart_field(name: &str, value: &[u8], out: &mut Section<'_, '_>) {
    let words = value.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    match name {
        // x0 is no state.
        "x" => words.zip(X_NAMES).skip(1).for_each(|(value, name)| {
            out.u64(name, value);
        }),
        "f" => words.zip(F_NAMES).for_each(|(value, name)| {
            out.u64(name, value);
        }),
        "pmpcfg" => value.iter().enumerate().for_each(|(index, &byte)| {
            out.u64(&format!("pmp{index}cfg"), byte.into());
        }),
        "pmpaddr" => words.enumerate().for_each(|(index, value)| {
            out.u64(&format!("pmpaddr{index}"), value);
        }),
        "triggers" => words.enumerate().for_each(|(index, value)| {
            out.u64(&trigger_field(index), value);
        }),
        _ => match value.first_chunk() {
            Some(word) if value.len() == 8 => {
                out.u64(name, u64::from_le_bytes(*word));
            }
            _ => {
                out.bytes(name, value.iter().copied());
            }
        },
    }
}
