//! Where firmware, kernel, initrd and device tree go in RAM before the first instruction. Bytes in, [`Placement`] out.
//!
//! The conventions are those of QEMU's `virt`, so that the same images run: firmware at the start of RAM and entered by
//! every hart in M-mode with `a0` = hart id, `a1` = device tree, `a2` = `fw_dynamic_info`; the kernel 2 MiB above it.
//! Every image is hostile input: it is refused by name, never trusted.

mod elf;
mod error;
mod image;

#[cfg(test)]
mod tests;

pub use elf::ElfError;
pub use error::BootError;

use crate::{
    board::Board,
    fdt::{self, HartNames},
};
use elf::Elf;
use image::Recognised;
use std::{borrow::Cow, ops::Range};

/// A file to boot from.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// What to boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Images<'a> {
    /// Runs first, in M-mode: a raw image such as OpenSBI's `fw_dynamic.bin`, or any ELF.
    pub firmware: Option<Image<'a>>,
    /// Started by the firmware in S-mode: a Linux `Image`, an ELF or a raw image.
    pub kernel: Option<Image<'a>>,
    /// Initial RAM disk, as it is.
    pub initrd: Option<Image<'a>>,
}

/// Ready to be written to RAM and started.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Bytes by guest physical address; they do not overlap and lie inside RAM.
    pub chunks: Vec<(u64, Cow<'static, [u8]>)>,
    /// Where every hart starts, in M-mode.
    pub entry: u64,
    /// The device tree, for `a1`.
    pub dtb_gpa: u64,
    /// `fw_dynamic_info`, for `a2`.
    pub fw_dynamic_gpa: Option<u64>,
    /// Symbols of the ELF files by address, for messages and observers.
    pub symbols: Vec<Symbol>,
}

/// A named address of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// Physical if the file was moved, else as the file has it.
    pub address: u64,
    /// As the file has it, cut where it is very long.
    pub name: String,
    /// It lies in code, and names no data there.
    pub is_function: bool,
}

/// Leaf size of the kernel's first page tables: `Image` must be aligned to it. Linux, arch/riscv/boot.rst.
const MEGAPAGE: u64 = 2 << 20;
const PAGE: u64 = 4096;
/// A 32-bit firmware can reach a device tree below it; OpenSBI and U-Boot expect it there, as on QEMU.
const DTB_LIMIT: u64 = 3 << 30;
/// Firmware edits the tree in place: reserved memory, `/chosen`.
const DTB_SLACK: u64 = 64 << 10;
/// Below this much RAM a 2 MiB alignment of the tree would waste too much of it.
const SMALL_RAM: u64 = 32 << 20;
/// The kernel's early page tables reach no further than its memory; QEMU keeps the initrd this far from it at most.
const INITRD_DISTANCE: u64 = 512 << 20;

/// Plan, describe and place in one go. `rng_seed` becomes `/chosen/rng-seed`.
///
/// # Errors
/// Images that cannot run on this machine, and why.
pub fn boot(
    board: &Board,
    images: &Images<'_>,
    hart: &HartNames<'_>,
    rng_seed: Option<&[u8]>,
) -> Result<Placement, BootError> {
    let plan = plan(board.machine.ram_base..board.machine.ram_base + board.machine.ram_size, images)?;
    let dtb = fdt::build(&fdt::FdtInput { board, hart, initrd: plan.initrd.clone(), rng_seed })?;
    plan.place(dtb)
}

/// Everything but the device tree, which has to know where the initrd is.
#[derive(Debug)]
pub struct Plan {
    ram: Range<u64>,
    placed: Vec<Placed>,
    initrd: Option<Range<u64>>,
    entry: u64,
    /// The firmware's next stage.
    next: u64,
    symbols: Vec<Symbol>,
}

/// A piece of an image in RAM; `range` may be longer than `bytes`: the rest is zero.
#[derive(Debug)]
struct Placed {
    name: String,
    range: Range<u64>,
    bytes: Vec<u8>,
}

/// Find places for the images in `ram`.
///
/// # Errors
/// Images that cannot run on this machine, and why.
pub fn plan(ram: Range<u64>, images: &Images<'_>) -> Result<Plan, BootError> {
    let Some(firmware) = images.firmware else {
        return Err(match images.kernel {
            Some(kernel) => BootError::NoFirmware { kernel: kernel.name.to_owned() },
            None => BootError::Nothing,
        });
    };
    if let (Some(initrd), None) = (images.initrd, images.kernel) {
        return Err(BootError::NoKernel { initrd: initrd.name.to_owned() });
    }
    let mut plan = Plan {
        next: ram.start,
        entry: ram.start,
        ram,
        placed: Vec::new(),
        initrd: None,
        symbols: Vec::new(),
    };
    plan.entry = plan.add_firmware(&firmware)?;
    plan.next = plan.after_firmware();
    if let Some(kernel) = images.kernel {
        let kernel_range = plan.add_kernel(&kernel)?;
        if let Some(initrd) = images.initrd {
            plan.add_initrd(&initrd, &kernel_range)?;
        }
    }
    plan.symbols.sort();
    Ok(plan)
}

impl Plan {
    /// Where the initrd is, for `/chosen`.
    #[must_use]
    pub fn initrd(&self) -> Option<Range<u64>> {
        self.initrd.clone()
    }

    /// Add the device tree and what the firmware is told.
    ///
    /// # Errors
    /// There is no room left.
    pub fn place(mut self, dtb: Vec<u8>) -> Result<Placement, BootError> {
        let size = dtb.len() as u64;
        let (top, align) = self.dtb_area();
        let no_room = |plan: &Self| BootError::TooLarge {
            name: "the device tree".to_owned(),
            size: size + DTB_SLACK + PAGE,
            room: plan.ram.end - plan.ram.start,
        };
        let dtb_gpa = top.checked_sub(size + DTB_SLACK).ok_or_else(|| no_room(&self))? & !(align - 1);
        let info_gpa = dtb_gpa.checked_sub(PAGE).ok_or_else(|| no_room(&self))?;
        if info_gpa < self.ram.start {
            return Err(no_room(&self));
        }
        self.add("the device tree", dtb_gpa..dtb_gpa + size + DTB_SLACK, dtb)?;
        let info = fw_dynamic_info(self.next);
        self.add("fw_dynamic_info", info_gpa..info_gpa + PAGE, info)?;
        Ok(Placement {
            chunks: self.placed.into_iter().flat_map(Placed::into_chunks).collect(),
            entry: self.entry,
            dtb_gpa,
            fw_dynamic_gpa: Some(info_gpa),
            symbols: self.symbols,
        })
    }

    /// What the device tree lies below, and its alignment.
    fn dtb_area(&self) -> (u64, u64) {
        let top = if self.ram.start < DTB_LIMIT { self.ram.end.min(DTB_LIMIT) } else { self.ram.end };
        (top, if self.ram.end - self.ram.start < SMALL_RAM { PAGE } else { MEGAPAGE })
    }

    /// The entry point.
    fn add_firmware(&mut self, firmware: &Image<'_>) -> Result<u64, BootError> {
        match image::recognise(firmware)? {
            Recognised::Elf => Ok(self.add_elf(firmware)?.0),
            Recognised::Linux { .. } => Err(BootError::NotLoadable {
                name: firmware.name.to_owned(),
                what: "a Linux kernel, not firmware",
                advice: "give it with --kernel, and OpenSBI's fw_dynamic.bin with --firmware",
            }),
            Recognised::Raw => {
                let base = self.ram.start;
                self.add_raw(firmware, base)?;
                Ok(base)
            }
        }
    }

    /// Where a kernel goes: 2 MiB into RAM, as firmware is built to expect, or further up if the firmware is larger.
    fn after_firmware(&self) -> u64 {
        let end = self.placed.iter().map(|placed| placed.range.end).max().unwrap_or(self.ram.start);
        let least = self.ram.start.saturating_add(MEGAPAGE);
        end.max(least).checked_next_multiple_of(MEGAPAGE).unwrap_or(u64::MAX)
    }

    /// The memory that the kernel occupies; sets the next stage's entry.
    fn add_kernel(&mut self, kernel: &Image<'_>) -> Result<Range<u64>, BootError> {
        let base = self.next;
        match image::recognise(kernel)? {
            Recognised::Elf => {
                let (entry, range) = self.add_elf(kernel)?;
                self.next = entry;
                Ok(range)
            }
            Recognised::Linux { text_offset, image_size } => {
                let offset = self
                    .ram
                    .start
                    .checked_add(text_offset)
                    .and_then(|at| at.checked_next_multiple_of(MEGAPAGE));
                let base = offset.ok_or_else(|| self.too_large(kernel.name, text_offset))?.max(base);
                let size = image_size.max(kernel.bytes.len() as u64);
                let end = base.checked_add(size).filter(|end| *end <= self.ram.end);
                let range = base..end.ok_or_else(|| self.too_large(kernel.name, size))?;
                self.add(kernel.name, range.clone(), kernel.bytes.to_vec())?;
                self.next = base;
                Ok(range)
            }
            Recognised::Raw => self.add_raw(kernel, base),
        }
    }

    /// Half of RAM or 512 MiB behind the kernel, as QEMU does, so that a kernel of unknown size can unpack itself;
    /// right behind it if there is no room for that.
    fn add_initrd(&mut self, initrd: &Image<'_>, kernel: &Range<u64>) -> Result<(), BootError> {
        let size = initrd.bytes.len() as u64;
        if size == 0 {
            return Err(BootError::Empty { name: initrd.name.to_owned() });
        }
        let distance = ((self.ram.end - self.ram.start) / 2).min(INITRD_DISTANCE);
        // The tree and its neighbour come last, at the top.
        let (top, align) = self.dtb_area();
        let limit = top.saturating_sub(2 * align.max(2 * DTB_SLACK));
        let close = kernel.end.checked_next_multiple_of(MEGAPAGE).unwrap_or(u64::MAX);
        let far = kernel.start.saturating_add(distance) & !(PAGE - 1);
        let fits = |at: u64| at.checked_add(size).is_some_and(|end| end <= limit);
        let at = [far.max(close), close].into_iter().find(|at| fits(*at));
        let Some(at) = at else {
            let room = limit.saturating_sub(close);
            return Err(BootError::TooLarge { name: initrd.name.to_owned(), size, room });
        };
        self.add(initrd.name, at..at + size, initrd.bytes.to_vec())?;
        self.initrd = Some(at..at + size);
        Ok(())
    }

    fn add_raw(&mut self, image: &Image<'_>, base: u64) -> Result<Range<u64>, BootError> {
        let size = image.bytes.len() as u64;
        let end = base.checked_add(size).filter(|end| *end <= self.ram.end);
        let range = base..end.ok_or_else(|| self.too_large(image.name, size))?;
        self.add(image.name, range.clone(), image.bytes.to_vec())?;
        Ok(range)
    }

    /// The entry point and the span of all segments.
    fn add_elf(&mut self, image: &Image<'_>) -> Result<(u64, Range<u64>), BootError> {
        let wrap = |why| BootError::Elf { name: image.name.to_owned(), why };
        let elf = Elf::parse(image.bytes).map_err(wrap)?;
        let layout = elf.layout(self.ram.start).map_err(wrap)?;
        for segment in &layout.segments {
            if segment.range.start < self.ram.start || segment.range.end > self.ram.end {
                return Err(BootError::OutsideRam {
                    name: image.name.to_owned(),
                    segment: segment.range.clone(),
                    ram: self.ram.clone(),
                });
            }
            let bytes = &image.bytes[segment.file.clone()];
            self.add(image.name, segment.range.clone(), bytes.to_vec())?;
        }
        self.symbols.extend(elf.symbols(layout.bias));
        Ok((layout.entry, layout.span))
    }

    fn too_large(&self, name: &str, size: u64) -> BootError {
        BootError::TooLarge { name: name.to_owned(), size, room: self.ram.end.saturating_sub(self.next) }
    }

    fn add(&mut self, name: &str, range: Range<u64>, bytes: Vec<u8>) -> Result<(), BootError> {
        assert!(self.ram.start <= range.start && range.end <= self.ram.end, "{name} is placed outside RAM");
        let other = self.placed.iter().find(|p| p.range.start < range.end && range.start < p.range.end);
        if let Some(other) = other {
            let ranges = (range, other.range.clone());
            return Err(BootError::Overlap { name: name.to_owned(), other: other.name.clone(), ranges });
        }
        self.placed.push(Placed { name: name.to_owned(), range, bytes });
        Ok(())
    }
}

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl Placed {
    /// The bytes, and zeros for the rest: `.bss` must be clear after a reset too.
    fn into_chunks(self) -> impl Iterator<Item = (u64, Cow<'static, [u8]>)> {
        let first = self.range.start + self.bytes.len() as u64;
        let zeros = (first..self.range.end).step_by(ZEROS.len()).map(move |at| {
            let len = usize::try_from(self.range.end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            (at, Cow::Borrowed(&ZEROS[..len]))
        });
        let bytes = (!self.bytes.is_empty()).then_some((self.range.start, Cow::Owned(self.bytes)));
        bytes.into_iter().chain(zeros)
    }
}

/// What `fw_dynamic` reads at `a2`: magic, version, next address, next mode, options, boot hart, each 64 bits.
/// OpenSBI, include/sbi/fw_dynamic.h.
fn fw_dynamic_info(next: u64) -> Vec<u8> {
    const MAGIC: u64 = 0x4942_534f;
    const VERSION: u64 = 2;
    const MODE_S: u64 = 1;
    const OPTIONS: u64 = 0;
    // Any hart could win OpenSBI's lottery; the tree's first one always does here.
    const BOOT_HART: u64 = 0;
    [MAGIC, VERSION, next, MODE_S, OPTIONS, BOOT_HART].into_iter().flat_map(u64::to_le_bytes).collect()
}
