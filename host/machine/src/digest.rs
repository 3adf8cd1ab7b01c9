//! The state digest: what two machines must have in common to be called the same.

use crate::{deadline::Due, machine::Machine, section::Section};
use reprise_abi::hot;

impl Machine {
    /// The state digest: blake3 over every named section and every page of RAM that is not zero.
    #[must_use]
    pub fn digest(&mut self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in self.sections() {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        }
        self.hash_ram(&mut hasher);
        *hasher.finalize().as_bytes()
    }

    /// Every section of the state but RAM, by name.
    #[must_use]
    pub fn sections(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for hart in 0..self.cluster.harts() {
            let mut section = Section::default();
            for (name, value) in self.cluster.save(hart) {
                section.bytes(name.as_bytes()).bytes(&value);
            }
            all.push((format!("hart{hart}"), section.finish()));
        }
        all.push(("clock".into(), self.clock_section()));
        all.push(("timers".into(), self.timer_section()));
        all.push(("bh".into(), self.bottom_half_section()));
        all.push(("wires".into(), self.wire_section()));
        all.push(("ports".into(), self.port_section()));
        let mut disks = Section::default();
        self.services.disks.save(&mut disks);
        all.push(("disks".into(), disks.finish()));
        for (id, slot) in self.services.device_ids.iter().zip(&self.slots) {
            all.push((format!("device.{id}"), slot.instance.save()));
        }
        all
    }

    fn clock_section(&self) -> Vec<u8> {
        let mut section = Section::default();
        let clock = &self.services.clock;
        section.u64(clock.icount()).u64(clock.idle_ns()).u64(clock.time_offset());
        self.schedule.state().iter().for_each(|&value| {
            section.u64(value);
        });
        section.u64(self.services.gate.random_stream().drawn_bytes());
        section.finish()
    }

    /// Deadlines by their order, not by the order's number: a run whose timers were armed more often but stand the
    /// same is in the same state.
    fn timer_section(&self) -> Vec<u8> {
        let mut section = Section::default();
        for (when, due) in self.services.deadlines.iter() {
            section.u64(when.at_ns);
            match due {
                Due::Timer { device, timer } => {
                    section.u64(0).u64(device as u64).u64(u64::from(timer));
                }
                Due::Disk { request } => {
                    section.u64(1).u64(request);
                }
            }
        }
        section.finish()
    }

    fn bottom_half_section(&self) -> Vec<u8> {
        let mut section = Section::default();
        for p in self.services.bottom_halves.iter() {
            section.u64(p.device as u64).u64(u64::from(p.bh)).u64(u64::from(p.payload.is_some()));
            section.bytes(p.payload.as_deref().unwrap_or_default());
        }
        section.finish()
    }

    fn wire_section(&self) -> Vec<u8> {
        let mut section = Section::default();
        for pins in self.services.wires.levels() {
            let levels: Vec<u8> = pins.iter().map(|&high| u8::from(high)).collect();
            section.bytes(&levels);
        }
        section.finish()
    }

    fn port_section(&self) -> Vec<u8> {
        let mut section = Section::default();
        self.services.ports.iter().flatten().for_each(|port| port.save(&mut section));
        section.finish()
    }

    fn hash_ram(&self, hasher: &mut blake3::Hasher) {
        let ram = &self.services.ram;
        let mut page = [0; 4096];
        let pages = usize::try_from(ram.size() / 4096).expect("RAM is mapped, so its size fits");
        for index in 0..pages {
            // A page that was never written is still zero.
            if ram.page_flags(index) & hot::PAGE_DIRTY == 0 {
                continue;
            }
            ram.page(index, &mut page);
            if page != [0; 4096] {
                hasher.update(&(index as u64).to_le_bytes()).update(&page);
            }
        }
    }
}
