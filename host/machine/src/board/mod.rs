//! Boards: a machine as a wiring list in TOML, checked against the descriptors of its plugins.
//!
//! Text goes in, a fully resolved [`Board`] or every mistake in it comes out ([`Diagnostic`], with file, line, column
//! and advice). Nothing is opened here: plugins are seen through [`Catalog`], files are the caller's business. The
//! language is described in `docs/boards.md`; [`schema`] is the same as JSON Schema for editors and [`print()`] writes
//! a resolved board back.

mod check;
mod device;
mod diagnostic;
mod document;
mod fields;
mod links;
mod machine;
mod networks;
mod options;
mod print;
mod quantity;
mod schema;
mod wires;

#[cfg(test)]
mod tests;

pub use diagnostic::{Code, Diagnostic, Label, Place, render, to_json};
pub use document::Override;
pub use print::print;
pub use schema::schema;

use diagnostic::Report;
use document::Document;
use reprise_abi::desc::{ConfigError, DeviceDesc};
use std::fmt;

/// Physical addresses have 56 bits: the widest that a page table entry holds. RISC-V privileged, §12.4 (Sv39).
pub const PHYSICAL_LIMIT: u64 = 1 << 56;

/// A machine, resolved and checked: ids are unique, regions do not overlap, wires end somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// What is not a device.
    pub machine: MachineSpec,
    /// The devices in configuration order, which is the order of effects at equal times.
    pub devices: Vec<DeviceSpec>,
    /// The wires, sorted by driving device, then pin.
    pub wires: Vec<Wire>,
    /// The links, sorted by target, then by its link.
    pub links: Vec<LinkSpec>,
    /// The networks outside that net ports may be connected to.
    pub networks: Vec<NetworkSpec>,
}

impl Board {
    /// Index of the device with this id.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.id == id)
    }
}

/// Harts, RAM, clocks and policies.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineSpec {
    /// For people, and for `compatible` in the device tree.
    pub name: String,
    /// 1 to 64.
    pub harts: u32,
    /// Guest physical address of RAM, a multiple of 2 MiB.
    pub ram_base: u64,
    /// Bytes of RAM, a multiple of 4096.
    pub ram_size: u64,
    /// `vtime = icount << shift` nanoseconds, 0 to 10.
    pub shift: u8,
    /// Frequency of the `time` CSR and of `mtime`, in Hz.
    pub timebase_hz: u64,
    /// How an idle machine passes the time.
    pub idle: IdlePolicy,
    /// Hold a busy guest down to host time too.
    pub align: bool,
    /// Instructions in a hart's turn.
    pub quantum: u64,
    /// Seed of the schedule of turns; 0 is the plain round robin.
    pub schedule_seed: u64,
    /// Seed of every random draw; `None`: drawn outside when the run starts, and logged.
    pub seed: Option<[u8; 32]>,
    /// What the harts implement.
    pub isa: IsaSpec,
    /// How long disks take.
    pub disk: DiskTiming,
    /// Where hart 0 goes on at a non-maskable interrupt; `None`: the machine has none.
    pub nmi_vector: Option<u64>,
    /// Kernel command line, `/chosen/bootargs`.
    pub bootargs: Option<String>,
}

/// How an idle machine passes the time; seen in a log only by positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Pace while something outside could still answer, otherwise warp.
    Auto,
    /// Virtual time does not overtake host time.
    Pace,
    /// Jump to the next deadline at once.
    Warp,
}

/// The optional parts of the instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaSpec {
    /// Hardware updates of A and D bits, under `menvcfg.ADUE`.
    pub svadu: bool,
    /// `stimecmp`.
    pub sstc: bool,
    /// Half-precision floating point.
    pub zfh: bool,
    /// The largest translation mode; smaller ones are included.
    pub mmu: Mmu,
}

/// Translation modes of RV64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mmu {
    /// Three levels.
    Sv39,
    /// Four levels.
    Sv48,
    /// Five levels.
    Sv57,
}

impl Mmu {
    /// The name that boards use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sv39 => "sv39",
            Self::Sv48 => "sv48",
            Self::Sv57 => "sv57",
        }
    }
}

impl IdlePolicy {
    /// The name that boards use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pace => "pace",
            Self::Warp => "warp",
        }
    }
}

/// A disk request completes `latency_ns + bytes / bytes_per_second` after it was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskTiming {
    /// Nanoseconds of virtual time.
    pub latency_ns: u64,
    /// At least 1.
    pub bytes_per_second: u64,
}

/// One device instance.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSpec {
    /// Its name on the board.
    pub id: String,
    /// File stem of its plugin.
    pub plugin: String,
    /// Which kind of that plugin.
    pub kind: String,
    /// The descriptor of this instance, with its options applied.
    pub desc: DeviceDesc,
    /// Guest physical addresses, by region id.
    pub bases: Vec<u64>,
    /// The options: a JSON object with the defaults filled in, keys sorted.
    pub config_json: String,
    /// Backend names by port id; `None`: the board names none.
    pub ports: Vec<Option<String>>,
}

/// A `[net.NAME]` table. The machine itself makes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name on the board.
    pub id: String,
    /// What it is like: a JSON object, as written.
    pub config_json: String,
}

/// A link between two devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// Index into [`Board::devices`].
    pub target: usize,
    /// Its link id.
    pub target_link: u32,
    /// Index into [`Board::devices`].
    pub controller: usize,
    /// Its link id.
    pub controller_link: u32,
    /// The target's first address.
    pub at: u32,
    /// How many addresses it has.
    pub addresses: u32,
}

/// A wire from an output pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire {
    /// Index into [`Board::devices`].
    pub from_device: usize,
    /// Output pin id (flattened).
    pub from_pin: u32,
    /// Where it ends.
    pub to: WireEnd,
}

/// Where a wire ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WireEnd {
    /// An input pin of a device.
    Device {
        /// Index into [`Board::devices`].
        device: usize,
        /// Input pin id (flattened).
        pin: u32,
    },
    /// An interrupt line of a hart.
    Hart {
        /// Hart id.
        hart: u32,
        /// Which line.
        line: HartLine,
    },
}

/// Interrupt lines of a hart. RISC-V privileged, table of `mcause` values. There is none for the supervisor timer:
/// `mip.STIP` belongs to `stimecmp` or to M-mode software.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HartLine {
    /// Supervisor software.
    Ssip,
    /// Machine software.
    Msip,
    /// Machine timer.
    Mtip,
    /// Supervisor external.
    Seip,
    /// Machine external.
    Meip,
}

impl HartLine {
    /// All lines, by number.
    pub const ALL: [Self; 5] = [Self::Ssip, Self::Msip, Self::Mtip, Self::Seip, Self::Meip];

    /// The name that boards use in `hart.N.NAME`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssip => "ssip",
            Self::Msip => "msip",
            Self::Mtip => "mtip",
            Self::Seip => "seip",
            Self::Meip => "meip",
        }
    }

    /// Bit in `mip`, and the cell in `interrupts-extended`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Ssip => 1,
            Self::Msip => 3,
            Self::Mtip => 7,
            Self::Seip => 9,
            Self::Meip => 11,
        }
    }
}

/// The plugins that can be had.
pub trait Catalog {
    /// The kinds of one plugin, as with default options.
    ///
    /// # Errors
    /// It is not there, or it is there and cannot be used.
    fn find(&self, plugin: &str) -> Result<Vec<DeviceDesc>, CatalogError>;

    /// The descriptor of `kind` with these options (a JSON object).
    ///
    /// # Errors
    /// What the device says against its options.
    fn describe_with(&self, plugin: &str, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError>;

    /// The names of all plugins, for advice and for the schema.
    fn available(&self) -> Vec<String>;

    /// What a board may connect a port of bytes to, by name. Places in the file system and on the network are not a
    /// board's business but the command line's.
    fn backends(&self) -> &'static [&'static str] {
        &["console", "null", "pty"]
    }

    /// What is wrong with the table of a network (a JSON object).
    fn check_network(&self, config_json: &str) -> Vec<ConfigError> {
        let _ = config_json;
        Vec::new()
    }
}

/// Why a plugin cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogError {
    /// No such plugin.
    NotFound {
        /// Where it was looked for.
        searched: Vec<String>,
    },
    /// There is one, but it cannot be used.
    Broken {
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { searched } if searched.is_empty() => f.write_str("no such plugin"),
            Self::NotFound { searched } => write!(f, "no such plugin in {}", searched.join(", ")),
            Self::Broken { message, help: _ } => f.write_str(message),
        }
    }
}

impl std::error::Error for CatalogError {}

/// Read a board. `file` names it in messages; `overrides` (`--set`) are applied to the document before it is checked.
///
/// # Errors
/// Everything that is wrong with it, in document order, never an empty list. Syntax errors come alone: what a
/// half-understood document means is a guess.
pub fn parse(
    file: &str,
    text: &str,
    overrides: &[Override],
    catalog: &dyn Catalog,
) -> Result<Board, Vec<Diagnostic>> {
    let mut report = Report::new(file, text, overrides);
    let Some(document) = Document::read(text, overrides, &mut report) else {
        return Err(report.into_diagnostics());
    };
    let board = check::board(&document, catalog, &mut report);
    match (board, report.has_errors()) {
        (Some(board), false) => Ok(board),
        _ => Err(report.into_diagnostics()),
    }
}
