//! What there is to know of a run without asking the machine.

use crate::io::PortPlan;
use reprise_machine::board::Board;
use std::path::Path;

/// What the process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum What {
    #[default]
    Run,
    Record,
    Replay,
}

impl What {
    /// QMP's ReplayMode.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Run => "none",
            Self::Record => "record",
            Self::Replay => "play",
        }
    }
}

/// A run, as others see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(super) machine: String,
    pub(super) harts: u32,
    /// It has somewhere to go at a non-maskable interrupt.
    pub(super) takes_nmi: bool,
    pub(super) what: What,
    /// The last stretch of the run is kept.
    pub(crate) has_flight_recorder: bool,
    /// The recording that is written or replayed.
    pub(super) recording: Option<String>,
    /// Ports and the backends that they are connected to.
    pub(super) ports: Vec<(String, String)>,
    /// The address map, as the monitor shows it.
    pub(super) map: String,
}

impl Facts {
    pub(crate) fn of(board: &Board, plans: &[PortPlan], what: What, recording: Option<&Path>) -> Self {
        let port = |plan: &PortPlan| (format!("{}.{}", plan.device, plan.port), plan.backend.to_string());
        Self {
            machine: board.machine.name.clone(),
            harts: board.machine.harts,
            takes_nmi: board.machine.nmi_vector.is_some(),
            what,
            has_flight_recorder: false,
            recording: recording.map(|path| path.display().to_string()),
            ports: plans.iter().map(port).collect(),
            map: map(board),
        }
    }
}

/// In the words of QEMU's `info mtree`.
fn map(board: &Board) -> String {
    let machine = &board.machine;
    let mut rows = vec![(machine.ram_base, machine.ram_size, "ram", "ram".to_owned())];
    for device in &board.devices {
        for (region, base) in device.desc.regions.iter().zip(&device.bases) {
            rows.push((*base, region.size, "i/o", format!("{}.{}", device.id, region.name)));
        }
    }
    rows.sort();
    let mut text = String::from("address-space: memory\n");
    for (base, size, kind, name) in rows {
        let last = base.saturating_add(size.max(1) - 1);
        text += &format!("  {base:016x}-{last:016x} (prio 0, {kind}): {name}\n");
    }
    text
}
