//! Snapshots: the whole machine as a value, and back. Taking one changes nothing in the machine.
//!
//! A snapshot is named sections, the same that the digest is made of, with two more that no guest can see: `gate` and
//! `run`. RAM and what disks have been written are apart: they share memory with the snapshots before.

mod load;
mod ram;

use crate::{
    machine::{BuildError, Machine, Setup},
    outside::DiskChanges,
    section::{self, Fields, SectionError},
};
pub(crate) use ram::RamTracker;
pub use ram::{PAGE_BYTES, Page, PageTable, RamImage, TABLE_PAGES};
use reprise_abi::observe::KIND_MOVED;
use reprise_replay::{Position, Seed, Stand, log::LogError};
use std::sync::Arc;
use thiserror::Error;

/// A machine at a safe point, as a value.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Named state records ([`reprise_abi::state`]). Loading takes them in any order.
    pub sections: Vec<(String, Vec<u8>)>,
    /// Guest RAM.
    pub ram: RamImage,
    /// What the guest has written to its disks, by port: `disk0.blk`.
    pub disks: Vec<(String, DiskChanges)>,
}

/// Why a snapshot cannot be loaded. The machine it was loaded into is of no use any more.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A section does not hold what it should.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// The machine has something that the snapshot does not.
    #[error("section \"{0}\" is missing")]
    Missing(String),
    /// The snapshot has something that the machine does not.
    #[error("section \"{0}\" is unknown to this machine")]
    Unknown(String),
    /// Two sections of one name.
    #[error("section \"{0}\" is there twice")]
    Duplicate(String),
    /// Another size of RAM.
    #[error("the snapshot has {found} pages of RAM, the machine {expected}")]
    Ram {
        /// Pages of the machine.
        expected: usize,
        /// Pages of the snapshot.
        found: usize,
    },
    /// What disks have been written is not of these disks.
    #[error("disk \"{port}\": {why}")]
    Disk {
        /// `device.port`.
        port: String,
        /// What is wrong.
        why: String,
    },
    /// The log cannot be read from there.
    #[error("the log: {0}")]
    Log(#[from] LogError),
    /// The machine cannot be built at all.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Snapshot {
    /// Where its gate stood.
    ///
    /// # Errors
    /// The section `gate` is missing or holds what it cannot.
    pub fn stand(&self) -> Result<Stand, RestoreError> {
        let (name, record) = self.section(GATE)?;
        let mut fields = Fields::parse(name, record)?;
        let last = Position { vtime_ns: fields.u64("last.vtime_ns")?, order: fields.u32("last.order")? };
        let stand = Stand {
            last,
            admitted: fields.u64("admitted")?,
            icount: fields.u64("icount")?,
            seed: Seed(fields.array("seed")?),
            drawn_bytes: fields.u64("drawn_bytes")?,
            clock_ns: fields.u64("clock_ns")?,
            chain: fields.array("chain")?,
            records: fields.u64("records")?,
        };
        let sane = stand.drawn_bytes.is_multiple_of(4) && last.order < u32::MAX && stand.records < u64::MAX;
        if !sane {
            return Err(fields.impossible("drawn_bytes, last.order or records").into());
        }
        fields.finish()?;
        Ok(stand)
    }

    /// Where it was taken: instructions attempted, and virtual time in nanoseconds.
    ///
    /// # Errors
    /// The section `clock` is missing or holds what it cannot.
    pub fn place(&self, shift: u8) -> Result<(u64, u64), RestoreError> {
        let (name, record) = self.section("clock")?;
        let mut fields = Fields::parse(name, record)?;
        Ok(load::place(&mut fields, shift)?)
    }

    /// The same place as the beginning of a log: with nothing before it but the log's seed.
    ///
    /// # Errors
    /// The section `gate` is missing or holds what it cannot.
    pub fn as_beginning(&self) -> Result<Snapshot, RestoreError> {
        let stand = Stand { chain: [0; 32], records: 1, ..self.stand()? };
        let mut beginning = self.clone();
        for (name, record) in &mut beginning.sections {
            if name == GATE {
                *record = gate_section(&stand);
            }
        }
        for (_, changes) in &mut beginning.disks {
            changes.first_reads = Arc::default();
        }
        Ok(beginning)
    }

    /// Line feeds that a device had written to a port, by their names: what [`Machine::lines`] says there.
    ///
    /// # Errors
    /// The section `run` is missing or holds what it cannot.
    pub fn lines(&self, device: &str, port: &str) -> Result<u64, RestoreError> {
        let (name, record) = self.section(RUN)?;
        Ok(Fields::parse(name, record)?.u64(&format!("lines.{device}.{port}"))?)
    }

    fn section(&self, wanted: &str) -> Result<(&str, &[u8]), RestoreError> {
        let found = self.sections.iter().find(|(name, _)| name == wanted);
        found
            .map(|(name, record)| (name.as_str(), record.as_slice()))
            .ok_or_else(|| RestoreError::Missing(wanted.to_owned()))
    }
}

/// The section of what passed the gate.
const GATE: &str = "gate";
/// The section of the loop's own.
const RUN: &str = "run";

fn gate_section(stand: &Stand) -> Vec<u8> {
    let Stand { last, admitted, icount, seed, drawn_bytes, clock_ns, chain, records } = *stand;
    section::encode(|out| {
        out.u64("last.vtime_ns", last.vtime_ns).u64("last.order", last.order.into());
        out.u64("admitted", admitted).u64("icount", icount);
        out.bytes("seed", seed.0).u64("drawn_bytes", drawn_bytes);
        out.u64("clock_ns", clock_ns).bytes("chain", chain).u64("records", records);
    })
}

impl Machine {
    /// The machine as it stands. To be called between two [`Machine::run`], and not after one that failed.
    pub fn snapshot(&mut self) -> Snapshot {
        assert!(
            self.services.control.is_none()
                && self.services.wires.is_quiet()
                && self.services.links.is_quiet()
                && self.faulted().is_none(),
            "a machine is stopped at safe points only"
        );
        self.services.sync_gate();
        let mut sections = self.sections();
        sections.push((GATE.to_owned(), gate_section(&self.services.gate.stand())));
        sections.push((RUN.to_owned(), self.run_section()));
        let ram = self.ram_tracker.take(&self.services.ram).0;
        let disks = self.services.disks.images();
        let named = |((device, port), changes)| (self.port_name(device, port), changes);
        let disks = disks.into_iter().map(named).collect();
        Snapshot { sections, ram, disks }
    }

    /// The machine as it stands, as the beginning of a log ([`Snapshot::as_beginning`]): blocks of disks that were read
    /// before are told again when they are read again.
    ///
    /// # Errors
    /// A disk does not take its own changes.
    pub fn begin_anew(&mut self) -> Result<Snapshot, RestoreError> {
        let beginning = self.snapshot().as_beginning()?;
        for (place, changes) in self.services.disks.images() {
            let changes = DiskChanges { first_reads: Arc::default(), ..changes };
            if let Err(why) = self.services.disks.set_image(place, &changes) {
                return Err(RestoreError::Disk { port: self.port_name(place.0, place.1), why });
            }
        }
        Ok(beginning)
    }

    /// Pages of RAM, at most, in which a snapshot of this machine differs from one that were taken now: so much memory
    /// the older one would cost beside the newer.
    #[must_use]
    pub fn pages_apart(&self, older: &RamImage) -> usize {
        self.ram_tracker.apart(&self.services.ram, older)
    }

    fn run_section(&self) -> Vec<u8> {
        let here = (self.services.clock.icount(), self.services.clock.vtime_ns());
        let [window, passed, suppressed] = self.services.warnings.state();
        section::encode(|out| {
            out.bool("settled", self.settled == Some(here)).u64("barren", self.barren.into());
            out.u64("warnings.window", window).u64("warnings.passed", passed);
            out.u64("warnings.suppressed", suppressed);
            for (id, ports) in self.services.device_ids.iter().zip(&self.services.ports) {
                for port in ports {
                    out.u64(&format!("lines.{id}.{}", port.name), port.lines());
                }
            }
        })
    }

    /// Become what a snapshot says: one of this machine, or of another that was built alike. In replay the log is read
    /// from there, so the run goes on as it did.
    ///
    /// # Errors
    /// See [`RestoreError`]; this machine must not be used again.
    ///
    /// # Panics
    /// If a log is being written.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        self.services.gate.go_to(&snapshot.stand()?)?;
        self.load(snapshot)?;
        self.services.tell_stand();
        self.services.observe(KIND_MOVED, 0, []);
        Ok(())
    }

    /// Build a machine that stands where a snapshot was taken, and is at no time at power-on. The gate of `setup` is to
    /// stand at [`Snapshot::stand`]; where a log begins there, the snapshot is to be [`Snapshot::as_beginning`], so
    /// that every block of a disk that is read is told.
    ///
    /// # Errors
    /// See [`RestoreError`]; nothing of the machine is left behind.
    pub fn restored(setup: Setup, snapshot: &Snapshot) -> Result<Machine, RestoreError> {
        let mut machine = Machine::assemble(setup)?;
        machine.know_images()?;
        machine.load(snapshot)?;
        machine.services.tell_stand();
        Ok(machine)
    }
}

#[cfg(test)]
mod tests;
