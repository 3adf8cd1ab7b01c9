//! A: load-reserved, store-conditional and atomic memory operations. Unprivileged, "A" extension.
//!
//! One hart runs at a time, so an AMO is a load and a store. A reservation is a 64-byte line of physical memory; an
//! SC clears it, as do traps, xRET, stores of other harts and of devices to the line. It is never lost for another
//! reason, so SC fails for the guest's reasons only.

use super::mem::atomic_offset;
use super::sext32;
use crate::hart::Hart;
use crate::isa::Op;
use crate::mmu::Access;
use crate::run::Stop;
use crate::shared::{Cx, LINE};

fn load_reserved<const N: usize>(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<[u8; N], Stop> {
    let offset = atomic_offset::<N>(h, cx, op, Access::Load)?;
    let line = (cx.ram.base() + offset) & !(LINE - 1);
    cx.shared.reservations[h.id] = Some(line);
    Ok(cx.ram.get(offset))
}

/// rd = M[rs1]; reserve
pub(crate) fn lr_w(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    let bytes = load_reserved(h, cx, op)?;
    h.set_x(op.rd, sext32(u32::from_le_bytes(bytes)));
    cx.finish()
}

/// rd = M[rs1]; reserve
pub(crate) fn lr_d(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    let bytes = load_reserved(h, cx, op)?;
    h.set_x(op.rd, u64::from_le_bytes(bytes));
    cx.finish()
}

fn store_conditional<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    bytes: [u8; N],
) -> Result<(), Stop> {
    let offset = atomic_offset::<N>(h, cx, op, Access::Store)?;
    let gpa = cx.ram.base() + offset;
    let reserved = cx.shared.reservations[h.id].take() == Some(gpa & !(LINE - 1));
    if reserved {
        cx.store(h, gpa, &bytes);
    }
    h.set_x(op.rd, u64::from(!reserved));
    cx.finish()
}

/// M[rs1] = rs2 if still reserved; rd = failed
pub(crate) fn sc_w(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    store_conditional(h, cx, op, (h.x(op.rs2) as u32).to_le_bytes())
}

/// M[rs1] = rs2 if still reserved; rd = failed
pub(crate) fn sc_d(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    store_conditional(h, cx, op, h.x(op.rs2).to_le_bytes())
}

/// rd = M[rs1]; M[rs1] = update(M[rs1]). The page's fast path serves it if stores may use it.
#[inline(always)]
fn modify<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    update: impl FnOnce([u8; N]) -> (u64, [u8; N]),
) -> Result<(), Stop> {
    let va = h.x(op.rs1);
    match h.caches.store(va, N as u64) {
        Some(offset) if va.is_multiple_of(N as u64) => {
            let (old, new) = update(cx.ram.get(offset));
            cx.ram.put(offset, new);
            h.set_x(op.rd, old);
            Ok(())
        }
        _ => {
            // An AMO is a load and a store to debug triggers too. Debug 1.0 §5.1.5.1.
            h.check_data_triggers(va, N as u64, Access::Load)?;
            let offset = atomic_offset::<N>(h, cx, op, Access::Store)?;
            let (old, new) = update(cx.ram.get(offset));
            cx.store(h, cx.ram.base() + offset, &new);
            h.set_x(op.rd, old);
            cx.finish()
        }
    }
}

/// Functions for both widths: `name_w name_d = update(memory, rs2)`.
macro_rules! amos {
    ($($word:ident $double:ident = |$m:ident, $b:ident| $value:expr, signed $signed:tt;)*) => {$(
        #[inline(never)]
        pub(crate) fn $word(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
            let b = h.x(op.rs2);
            modify::<4>(h, cx, op, |bytes| {
                let old = u32::from_le_bytes(bytes);
                let ($m, $b) = (amo_type!($signed old, u32, i32), amo_type!($signed b, u32, i32));
                (sext32(old), ($value).to_le_bytes())
            })
        }

        #[inline(never)]
        pub(crate) fn $double(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
            let b = h.x(op.rs2);
            modify::<8>(h, cx, op, |bytes| {
                let old = u64::from_le_bytes(bytes);
                let ($m, $b) = (amo_type!($signed old, u64, i64), amo_type!($signed b, u64, i64));
                (old, ($value).to_le_bytes())
            })
        }
    )*};
}

macro_rules! amo_type {
    (yes $value:expr, $unsigned:ty, $signed:ty) => {
        $value as $signed
    };
    (no $value:expr, $unsigned:ty, $signed:ty) => {
        $value as $unsigned
    };
}

amos! {
    amoswap_w amoswap_d = |_m, b| b, signed no;
    amoadd_w amoadd_d = |m, b| m.wrapping_add(b), signed no;
    amoxor_w amoxor_d = |m, b| m ^ b, signed no;
    amoand_w amoand_d = |m, b| m & b, signed no;
    amoor_w amoor_d = |m, b| m | b, signed no;
    amomin_w amomin_d = |m, b| m.min(b), signed yes;
    amomax_w amomax_d = |m, b| m.max(b), signed yes;
    amominu_w amominu_d = |m, b| m.min(b), signed no;
    amomaxu_w amomaxu_d = |m, b| m.max(b), signed no;
}
