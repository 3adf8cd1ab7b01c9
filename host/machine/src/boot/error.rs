//! Why images cannot be booted.

use super::ElfError;
use crate::fdt::FdtError;
use std::ops::Range;
use thiserror::Error;

/// Images that cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BootError {
    /// Neither firmware nor kernel.
    #[error("there is nothing to run")]
    Nothing,
    /// A kernel runs in S-mode: something has to be below it.
    #[error("kernel `{kernel}` needs firmware to start it")]
    NoFirmware {
        /// The kernel.
        kernel: String,
    },
    /// An initrd belongs to a kernel.
    #[error("initrd `{initrd}` is given without a kernel")]
    NoKernel {
        /// The initrd.
        initrd: String,
    },
    /// No bytes.
    #[error("`{name}` is empty")]
    Empty {
        /// The file.
        name: String,
    },
    /// Known, but not as something to boot.
    #[error("`{name}` is {what}")]
    NotLoadable {
        /// The file.
        name: String,
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// An ELF file that does not fit this machine or itself.
    #[error("`{name}`: {why}")]
    Elf {
        /// The file.
        name: String,
        /// What is wrong.
        why: ElfError,
    },
    /// A segment where there is no RAM.
    #[error(
        "`{name}` has a segment at {:#x} to {:#x}, outside RAM ({:#x} to {:#x})",
        segment.start, segment.end.saturating_sub(1), ram.start, ram.end.saturating_sub(1)
    )]
    OutsideRam {
        /// The file.
        name: String,
        /// Its physical addresses.
        segment: Range<u64>,
        /// The machine's RAM.
        ram: Range<u64>,
    },
    /// It does not fit.
    #[error("`{name}` takes {size} bytes of RAM, and there are {room} for it")]
    TooLarge {
        /// The file or thing.
        name: String,
        /// What it takes.
        size: u64,
        /// What there is.
        room: u64,
    },
    /// Two things at one place.
    #[error(
        "`{name}` at {:#x} to {:#x} and `{other}` at {:#x} to {:#x} overlap",
        ranges.0.start, ranges.0.end.saturating_sub(1), ranges.1.start, ranges.1.end.saturating_sub(1)
    )]
    Overlap {
        /// What came second.
        name: String,
        /// What was there.
        other: String,
        /// Their places, in that order.
        ranges: (Range<u64>, Range<u64>),
    },
    /// No device tree.
    #[error(transparent)]
    Fdt(#[from] FdtError),
}

impl BootError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("give a kernel with --kernel, or a bare program with --firmware"),
            Self::NoFirmware { .. } => Some(
                "add --firmware with OpenSBI's fw_dynamic.bin; to run an ELF file bare in M-mode, give it with \
                 --firmware",
            ),
            Self::NoKernel { .. } => Some("add --kernel"),
            Self::Empty { .. } => Some("was the download or the build cut short?"),
            Self::NotLoadable { advice, .. } => Some(advice),
            Self::Elf { why, .. } => why.advice(),
            Self::OutsideRam { segment, ram, .. } if segment.start < ram.start && segment.end > ram.start => {
                Some(
                    "the linker has put the ELF headers into the first segment, in front of the code: link with `-n` \
                 (gcc: `-Wl,-n`)",
                )
            }
            Self::OutsideRam { .. } => Some(
                "link it for this machine's RAM, or move RAM with `ram.base`; of a Linux build take \
                 arch/riscv/boot/Image, whose addresses are relative",
            ),
            Self::TooLarge { .. } => Some("give the machine more RAM: `-m SIZE` or `ram.size`"),
            Self::Overlap { .. } => Some(
                "the next stage has to be linked above the one before; more RAM helps where a device tree is hit",
            ),
            Self::Fdt(_) => None,
        }
    }
}
