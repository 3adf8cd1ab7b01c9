//! What the board says of its harts, in the hart crate's words, and the device tree's.

use crate::{
    board::{Board, IsaSpec, Mmu},
    boot::{self, BootError, Images, Placement},
    fdt::{self, FdtError, FdtInput, HartNames},
};
use reprise_cpu::{HartConfig, SatpMode};

/// Bytes in a cache block of Zicbom, Zicbop and Zicboz: what the harts implement.
const CBO_BLOCK: u32 = 64;

pub(crate) fn config(isa: &IsaSpec) -> HartConfig {
    let max_satp = match isa.mmu {
        Mmu::Sv39 => SatpMode::Sv39,
        Mmu::Sv48 => SatpMode::Sv48,
        Mmu::Sv57 => SatpMode::Sv57,
    };
    HartConfig { svadu: isa.svadu, sstc: isa.sstc, zfh: isa.zfh, max_satp, ..HartConfig::default() }
}

/// Place the images and the board's device tree. `rng_seed` becomes `/chosen/rng-seed`.
///
/// # Errors
/// Images that cannot run on this machine, and why.
pub fn boot_images(
    board: &Board,
    images: &Images<'_>,
    rng_seed: Option<&[u8]>,
) -> Result<Placement, BootError> {
    with_names(board, |names| boot::boot(board, images, names, rng_seed))
}

/// The board's device tree as the guest would get it, without an initrd.
///
/// # Errors
/// A device's template has an invalid name or string.
pub fn device_tree(board: &Board) -> Result<Vec<u8>, FdtError> {
    with_names(board, |hart| fdt::build(&FdtInput { board, hart, initrd: None, rng_seed: None }))
}

fn with_names<R>(board: &Board, call: impl FnOnce(&HartNames<'_>) -> R) -> R {
    let config = config(&board.machine.isa);
    let isa_string = config.isa_string();
    let extensions = config.isa_extensions();
    call(&HartNames {
        isa_string: &isa_string,
        extensions: &extensions,
        mmu_type: config.mmu_type(),
        cbo_block: config.zicbo.then_some(CBO_BLOCK),
    })
}
