//! From sections back to a machine. Everything that a section says is checked: it may come from a file that somebody
//! sent.

use super::{GATE, RUN, RestoreError, Snapshot};
use crate::{
    bottom_half::Pending,
    clock::END_OF_TIME_NS,
    deadline::Due,
    machine::Machine,
    section::{Fields, SectionError},
};
use reprise_cpu::{F_NAMES, X_NAMES};
use std::collections::BTreeSet;

/// Instructions and virtual time of a section `clock`, as far as a machine can have come.
pub(super) fn place(fields: &mut Fields<'_>, shift: u8) -> Result<(u64, u64), SectionError> {
    let (icount, idle_ns) = (fields.u64("icount")?, fields.u64("idle_ns")?);
    let busy_ns = icount.checked_mul(1 << shift).filter(|&busy_ns| busy_ns < END_OF_TIME_NS);
    let busy_ns = busy_ns.ok_or_else(|| fields.impossible("icount"))?;
    if idle_ns >= END_OF_TIME_NS {
        return Err(fields.impossible("idle_ns"));
    }
    Ok((icount, busy_ns + idle_ns))
}

impl Machine {
    /// Take every section exactly once, RAM and disks. The gate stands there already.
    pub(super) fn load(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        self.check_names(snapshot)?;
        let pages = usize::try_from(self.services.ram.size() / reprise_cpu::PAGE_SIZE).unwrap_or(usize::MAX);
        if snapshot.ram.pages() != pages {
            return Err(RestoreError::Ram { expected: pages, found: snapshot.ram.pages() });
        }
        // Before the harts: what they decoded and translated goes when they are loaded.
        self.ram_tracker.put(&self.services.ram, &snapshot.ram);
        for (name, record) in &snapshot.sections {
            self.load_section(name, record)?;
        }
        self.load_disks(snapshot)?;
        self.check_together()?;
        self.forget_the_past();
        Ok(())
    }

    fn check_names(&self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let ours = self.section_names();
        // RAM is apart.
        let mut ours: BTreeSet<&str> =
            ours.iter().map(String::as_str).filter(|name| *name != "ram").collect();
        ours.extend([GATE, RUN]);
        let mut seen = BTreeSet::new();
        for (name, _) in &snapshot.sections {
            if !ours.contains(name.as_str()) {
                return Err(RestoreError::Unknown(name.clone()));
            }
            if !seen.insert(name.as_str()) {
                return Err(RestoreError::Duplicate(name.clone()));
            }
        }
        match ours.difference(&seen).next() {
            Some(name) => Err(RestoreError::Missing((*name).to_owned())),
            None => Ok(()),
        }
    }

    fn load_section(&mut self, name: &str, record: &[u8]) -> Result<(), SectionError> {
        if let Some(id) = name.strip_prefix("device.") {
            let device = self.services.device_ids.iter().position(|other| other == id);
            let device = device.expect("the names were checked");
            let loaded = self.slots[device].instance.load(record);
            return loaded.map_err(|what| SectionError { section: name.to_owned(), what });
        }
        let mut fields = Fields::parse(name, record)?;
        match name {
            "clock" => self.load_clock(&mut fields)?,
            "timers" => self.load_timers(&mut fields)?,
            "bh" => self.load_bottom_halves(&mut fields)?,
            "wires" => self.load_wires(&mut fields)?,
            "ports" => self.load_ports(&mut fields)?,
            "disks" => self.load_requests(&mut fields)?,
            // `Snapshot::stand` has read it.
            GATE => return Ok(()),
            RUN => self.load_run(&mut fields)?,
            _ => {
                let hart = name.strip_prefix("hart").and_then(|number| number.parse().ok());
                self.load_hart(hart.expect("the names were checked"), &mut fields)?;
            }
        }
        fields.finish()
    }

    fn load_hart(&mut self, hart: usize, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        // The same names in the same form as now.
        let mut loaded = Vec::new();
        for (name, value) in self.cluster.save(hart) {
            let value = hart_field(&name, value.len(), fields)?;
            loaded.push((name, value));
        }
        self.cluster.load(hart, &loaded).map_err(|error| fields.error(error.to_string()))
    }

    fn load_clock(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let (icount, vtime_ns) = place(fields, self.services.clock.shift())?;
        let offset = fields.u64("time_offset")?;
        self.services.clock.restore(icount, vtime_ns, offset);
        let state = [fields.u64("turn")?, fields.u64("turn_ends")?, fields.u64("schedule_seed")?];
        if !self.schedule.restore(state) {
            return Err(fields.impossible("turn"));
        }
        if fields.u64("random_bytes")? != self.services.gate.stand().drawn_bytes {
            return Err(fields.error("field \"random_bytes\" contradicts section \"gate\""));
        }
        Ok(())
    }

    fn load_timers(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let mut due = Vec::new();
        for device in 0..self.slots.len() {
            for (timer, name) in self.slots[device].instance.desc().timers.iter().enumerate() {
                let name = format!("{}.{name}", self.services.device_ids[device]);
                if fields.has(&format!("{name}.at_ns")) {
                    let timer = u32::try_from(timer).expect("timer ids are u32");
                    due.push((deadline(fields, &name)?, Due::Timer { device, timer }));
                }
            }
        }
        for name in fields.names("request") {
            let number = name.strip_suffix(".at_ns").and_then(|number| number.parse().ok());
            if let Some(request) = number {
                due.push((deadline(fields, &format!("request{request}"))?, Due::Disk { request }));
            }
        }
        due.sort_by_key(|(when, _)| *when);
        self.services.deadlines.restore(due.into_iter().map(|((at_ns, _), due)| (at_ns, due)));
        Ok(())
    }

    fn load_bottom_halves(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let mut waiting = Vec::new();
        while fields.has(&format!("[{}].name", waiting.len())) {
            let index = waiting.len();
            let name = fields.text(&format!("[{index}].name"))?;
            let (device, bh) = self.find_bottom_half(name).ok_or_else(|| {
                fields.error(format!("the machine has no bottom half \"{}\"", name.escape_debug()))
            })?;
            let field = format!("[{index}].payload");
            let payload = if fields.has(&field) { Some(fields.bytes(&field)?.to_vec()) } else { None };
            waiting.push(Pending { device, bh, payload });
        }
        self.services.bottom_halves.restore(waiting);
        Ok(())
    }

    fn find_bottom_half(&self, name: &str) -> Option<(usize, u32)> {
        (0..self.slots.len()).find_map(|device| {
            let name = name.strip_prefix(&self.services.device_ids[device])?.strip_prefix('.')?;
            let declared = &self.slots[device].instance.desc().bottom_halves;
            let bh = declared.iter().position(|bh| bh.name == name)?;
            Some((device, u32::try_from(bh).ok()?))
        })
    }

    fn load_wires(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let mut levels = Vec::new();
        for device in 0..self.slots.len() {
            let names = self.pin_names(device);
            levels.push(names.iter().map(|name| fields.bool(name)).collect::<Result<Vec<_>, _>>()?);
        }
        self.services.wires.restore(levels);
        self.services.links.clear();
        Ok(())
    }

    fn load_ports(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let ids = self.services.device_ids.clone();
        for (id, ports) in ids.iter().zip(&mut self.services.ports) {
            for port in ports {
                port.load(id, fields)?;
            }
        }
        Ok(())
    }

    fn load_requests(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        let names = |device: usize, port: u32| self.port_name(device, port);
        let known: Vec<(String, (usize, u32))> = (0..self.slots.len())
            .flat_map(|device| {
                let ports = 0..u32::try_from(self.services.ports[device].len()).expect("port ids are u32");
                ports.map(move |port| (names(device, port), (device, port)))
            })
            .collect();
        let find = |name: &str| known.iter().find(|(known, _)| known == name).map(|(_, place)| *place);
        let name_of = |place: (usize, u32)| {
            let found = known.iter().find(|(_, known)| *known == place);
            found.map_or_else(String::new, |(name, _)| name.clone())
        };
        self.services.disks.load(fields, find, name_of)
    }

    fn load_run(&mut self, fields: &mut Fields<'_>) -> Result<(), SectionError> {
        // With the clock, which may come later: `forget_the_past` completes it.
        self.settled = fields.bool("settled")?.then_some((u64::MAX, u64::MAX));
        self.barren = fields.u32("barren")?;
        let state = ["window", "passed", "suppressed"].map(|name| fields.u64(&format!("warnings.{name}")));
        let [window, passed, suppressed] = state;
        if !self.services.warnings.restore([window?, passed?, suppressed?]) {
            return Err(fields.impossible("warnings.passed"));
        }
        for (id, ports) in self.services.device_ids.iter().zip(&mut self.services.ports) {
            for port in ports {
                let lines = fields.u64(&format!("lines.{id}.{}", port.name))?;
                port.set_lines(lines);
            }
        }
        Ok(())
    }

    fn load_disks(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let fail = |port: &str, why: String| RestoreError::Disk { port: port.to_owned(), why };
        let attached = self.services.disks.attached_ports();
        let ours: Vec<(String, (usize, u32))> = attached
            .into_iter()
            .map(|(device, port)| (self.port_name(device, port), (device, port)))
            .collect();
        for (name, _) in &ours {
            let times = snapshot.disks.iter().filter(|(other, _)| other == name).count();
            if times != 1 {
                return Err(fail(name, format!("the snapshot has it {times} times")));
            }
        }
        for (name, changes) in &snapshot.disks {
            let place = ours.iter().find(|(other, _)| other == name).map(|(_, place)| *place);
            let place = place.ok_or_else(|| fail(name, "the machine has no such disk".to_owned()))?;
            self.services.disks.set_image(place, changes).map_err(|why| fail(name, why))?;
        }
        Ok(())
    }

    /// What no section can check alone.
    fn check_together(&mut self) -> Result<(), SectionError> {
        let error = |section: &str, what: String| SectionError { section: section.to_owned(), what };
        let waiting: BTreeSet<u64> = self
            .services
            .deadlines
            .iter()
            .filter_map(|(_, due)| match due {
                Due::Disk { request } => Some(request),
                Due::Timer { .. } => None,
            })
            .collect();
        let in_flight: BTreeSet<u64> = self.services.disks.in_flight().collect();
        if let Some(id) = waiting.symmetric_difference(&in_flight).next() {
            return Err(error("timers", format!("request {id} is not in flight, or has no deadline")));
        }
        let stand = self.services.gate.stand();
        let clock = &self.services.clock;
        if stand.last.vtime_ns > clock.vtime_ns() || stand.icount > clock.icount() {
            return Err(error(GATE, "it has seen a later time than section \"clock\"".to_owned()));
        }
        Ok(())
    }

    /// What is derived, and what belongs to the run before.
    fn forget_the_past(&mut self) {
        let here = (self.services.clock.icount(), self.services.clock.vtime_ns());
        self.settled = self.settled.map(|_| here);
        self.services.control = None;
        self.services.fault = None;
        self.services.disk_failure = None;
        // Nothing is queued that has not been looked at: a machine is stopped behind its safe point.
        self.services.attention = false;
        self.inbox.clear();
        self.log_ended = None;
        self.slice_end = here.0;
        self.plan_digest();
        if let Some(chaos) = &mut self.chaos {
            chaos.moved(here.0);
        }
    }
}

fn deadline(fields: &mut Fields<'_>, name: &str) -> Result<(u64, u64), SectionError> {
    Ok((fields.u64(&format!("{name}.at_ns"))?, fields.u64(&format!("{name}.rank"))?))
}

/// A field of a hart from the fields that the section has for it, which is `len` bytes long.
fn hart_field(name: &str, len: usize, fields: &mut Fields<'_>) -> Result<Vec<u8>, SectionError> {
    let words = |fields: &mut Fields<'_>, names: &mut dyn Iterator<Item = String>| {
        let mut bytes = Vec::with_capacity(len);
        for name in names {
            bytes.extend(fields.u64(&name)?.to_le_bytes());
        }
        Ok(bytes)
    };
    match name {
        "x" => {
            let rest = words(fields, &mut X_NAMES.iter().skip(1).map(|name| (*name).to_owned()))?;
            Ok([vec![0; 8], rest].concat())
        }
        "f" => words(fields, &mut F_NAMES.iter().map(|name| (*name).to_owned())),
        "pmpcfg" => (0..len)
            .map(|index| {
                let name = format!("pmp{index}cfg");
                u8::try_from(fields.u64(&name)?).map_err(|_| fields.impossible(&name))
            })
            .collect(),
        "pmpaddr" => words(fields, &mut (0..len / 8).map(|index| format!("pmpaddr{index}"))),
        "triggers" => words(fields, &mut (0..len / 8).map(crate::digest::trigger_field)),
        _ if len == 8 => Ok(fields.u64(name)?.to_le_bytes().to_vec()),
        _ => Ok(fields.bytes(name)?.to_vec()),
    }
}
