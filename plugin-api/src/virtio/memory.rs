//! Guest memory by guest physical address: through a RAM window where there is one, else through DMA copies. Both
//! touch either the whole range or nothing, so which of the two was used cannot be seen.

use crate::{Ctx, DmaError};

pub(super) fn read(cx: &mut Ctx<'_>, gpa: u64, into: &mut [u8]) -> Result<(), DmaError> {
    let in_window = cx.ram(gpa).is_some_and(|ram| ram.read_slice(gpa, into).is_ok());
    // A range that leaves its window may still go on in the next piece of RAM.
    if in_window { Ok(()) } else { cx.dma_read(gpa, into) }
}

pub(super) fn write(cx: &mut Ctx<'_>, gpa: u64, data: &[u8]) -> Result<(), DmaError> {
    let in_window = cx.ram(gpa).is_some_and(|mut ram| ram.write_slice(gpa, data).is_ok());
    if in_window { Ok(()) } else { cx.dma_write(gpa, data) }
}

pub(super) fn read_u16(cx: &mut Ctx<'_>, gpa: u64) -> Result<u16, DmaError> {
    let mut bytes = [0; 2];
    read(cx, gpa, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

pub(super) fn write_u16(cx: &mut Ctx<'_>, gpa: u64, value: u16) -> Result<(), DmaError> {
    write(cx, gpa, &value.to_le_bytes())
}
