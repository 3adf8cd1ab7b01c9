//! Loads, stores and cache-block operations.
//!
//! Each body tries the TLB and leaves everything else to a cold function that also writes the destination: the hot
//! code of a load is a compare, an index and a move.

use super::sext_imm;
use crate::bus::Attempt;
use crate::hart::{Hart, Privilege, envcfg};
use crate::isa::{Op, Reg};
use crate::mmu::{Access, translate};
use crate::ram::{GuestRam, PAGE_SIZE};
use crate::run::Stop;
use crate::shared::Cx;
use crate::trap::{Exception, Trap};

/// Bytes of a cache block: Zicbom and Zicboz.
pub(crate) const CACHE_BLOCK: u64 = 64;

#[inline(always)]
fn address(h: &Hart, op: &Op) -> u64 {
    h.x(op.rs1).wrapping_add(sext_imm(op.imm))
}

// Beside the function of each instruction is a module of the same name with `quick`: the cases that the TLB knows. It
// says false, and has done nothing, in the others.

/// Functions that load: `name size destination = conversion of the little-endian bytes`.
macro_rules! loads {
    ($($name:ident $size:literal $set:ident = |$bytes:ident| $value:expr;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(super) fn convert($bytes: [u8; $size]) -> u64 {
                $value
            }

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, ram: &GuestRam, op: &Op) -> bool {
                let Some(offset) = h.caches.load(address(h, op), $size) else { return false };
                $set(h, op.rd, convert(ram.get(offset)));
                true
            }
        }

        #[inline(always)]
        pub(crate) fn $name(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
            #[cold]
            #[inline(never)]
            fn slow(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
                let bytes = load_slow::<$size>(h, cx, op, address(h, op))?;
                $set(h, op.rd, $name::convert(bytes));
                cx.finish()
            }
            if $name::quick(h, cx.ram, op) { Ok(()) } else { slow(h, cx, op) }
        }
    )*};
}

/// Functions that store the low bytes of a register.
macro_rules! stores {
    ($($name:ident $size:literal = |$h:ident, $op:ident| $value:expr;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(super) fn bytes($h: &Hart, $op: &Op) -> [u8; $size] {
                let value: u64 = $value;
                *value.to_le_bytes().first_chunk().expect("1 to 8 bytes")
            }

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, ram: &GuestRam, op: &Op) -> bool {
                let Some(offset) = h.caches.store(address(h, op), $size) else { return false };
                ram.put::<$size>(offset, bytes(h, op));
                true
            }
        }

        #[inline(always)]
        pub(crate) fn $name(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
            #[cold]
            #[inline(never)]
            fn slow(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
                store_slow(h, cx, op, address(h, op), $name::bytes(h, op))?;
                cx.finish()
            }
            if $name::quick(h, cx.ram, op) { Ok(()) } else { slow(h, cx, op) }
        }
    )*};
}

/// The same for floating-point registers: illegal while FS is off.
macro_rules! fp_memory {
    ($($name:ident = $module:ident::$raw:ident;)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(h: &mut Hart, ram: &GuestRam, op: &Op) -> bool {
                !h.fs_off() && $module::$raw::quick(h, ram, op)
            }
        }

        #[inline(always)]
        pub(crate) fn $name(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
            h.require_fp(op)?;
            $module::$raw(h, cx, op)
        }
    )*};
}

/// Instructions that have no quick case.
macro_rules! never_quick {
    ($($name:ident)*) => {$(
        pub(crate) mod $name {
            use super::*;

            #[inline(always)]
            pub(crate) fn quick(_: &mut Hart, _: &GuestRam, _: &Op) -> bool {
                false
            }
        }
    )*};
}

#[inline(always)]
fn set_x(h: &mut Hart, rd: Reg, value: u64) {
    h.set_x(rd, value);
}

#[inline(always)]
fn set_f(h: &mut Hart, rd: Reg, value: u64) {
    h.set_f(rd, value);
}

loads! {
    lb 1 set_x = |bytes| i64::from(i8::from_le_bytes(bytes)) as u64;
    lh 2 set_x = |bytes| i64::from(i16::from_le_bytes(bytes)) as u64;
    lw 4 set_x = |bytes| i64::from(i32::from_le_bytes(bytes)) as u64;
    ld 8 set_x = |bytes| u64::from_le_bytes(bytes);
    lbu 1 set_x = |bytes| u8::from_le_bytes(bytes).into();
    lhu 2 set_x = |bytes| u16::from_le_bytes(bytes).into();
    lwu 4 set_x = |bytes| u32::from_le_bytes(bytes).into();
}

/// Loads of narrower values are NaN boxed. Unprivileged, "D" extension, "NaN Boxing of Narrower Values".
mod boxed {
    use super::*;

    loads! {
        half 2 set_f = |bytes| u64::from(u16::from_le_bytes(bytes)) | !0xffff;
        single 4 set_f = |bytes| u64::from(u32::from_le_bytes(bytes)) | !0xffff_ffff;
        double 8 set_f = |bytes| u64::from_le_bytes(bytes);
    }
}

stores! {
    sb 1 = |h, op| h.x(op.rs2);
    sh 2 = |h, op| h.x(op.rs2);
    sw 4 = |h, op| h.x(op.rs2);
    sd 8 = |h, op| h.x(op.rs2);
}

mod raw {
    use super::*;

    stores! {
        half 2 = |h, op| h.f(op.rs2);
        single 4 = |h, op| h.f(op.rs2);
        double 8 = |h, op| h.f(op.rs2);
    }
}

fp_memory! {
    flh = boxed::half;
    flw = boxed::single;
    fld = boxed::double;
    fsh = raw::half;
    fsw = raw::single;
    fsd = raw::double;
}

never_quick! { cbo_inval cbo_clean cbo_flush cbo_zero }

/// Bytes of `len` at `va` that lie in the first page.
fn in_first_page(va: u64, len: usize) -> usize {
    len.min((PAGE_SIZE - va % PAGE_SIZE) as usize)
}

/// A load that the TLB does not know: walks, PMP, page crossing, devices, triggers.
fn load_slow<const N: usize>(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, va: u64) -> Result<[u8; N], Trap> {
    if va.is_multiple_of(N as u64)
        && let Some(pa) = h.caches.device(va, false)
    {
        return load_device(h, cx, op, va, pa);
    }
    h.check_data_triggers(va, N as u64, Access::Load)?;
    let first = in_first_page(va, N);
    let low = translate(h, cx, va, first as u64, Access::Load)?;
    if first < N {
        return load_crossing(h, cx, va, first, low.pa);
    }
    if cx.ram.contains(low.pa, N as u64) {
        let offset = low.pa - cx.ram.base();
        if low.whole_page && !h.triggers.watch_data() {
            h.caches.install_load(va, offset);
        }
        return Ok(cx.ram.get(offset));
    }
    if !low.pa.is_multiple_of(N as u64) {
        return Err(Access::Load.access_fault(va));
    }
    if low.whole_page && !h.triggers.watch_data() {
        h.caches.install_device(va, low.pa, false);
    }
    load_device(h, cx, op, va, low.pa)
}

/// A load from what is no RAM, and may be nothing.
fn load_device<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    va: u64,
    pa: u64,
) -> Result<[u8; N], Trap> {
    cx.before_bus(h);
    let value = cx.bus.load(pa, N as u8, cx.icount_of(op));
    cx.after_bus(h);
    let value = value.map_err(|_| {
        cx.refused = Some((pa, N as u8, Attempt::Load));
        Access::Load.access_fault(va)
    })?;
    Ok(*value.to_le_bytes().first_chunk().expect("1 to 8 bytes"))
}

/// Misaligned loads may cross into another page, but only in RAM.
fn load_crossing<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    va: u64,
    first: usize,
    low: u64,
) -> Result<[u8; N], Trap> {
    let next = va.wrapping_add(first as u64);
    let high = translate(h, cx, next, (N - first) as u64, Access::Load)?.pa;
    let mut bytes = [0; N];
    cx.ram.read(low, &mut bytes[..first]).map_err(|_| Access::Load.access_fault(va))?;
    cx.ram.read(high, &mut bytes[first..]).map_err(|_| Access::Load.access_fault(next))?;
    Ok(bytes)
}

/// A store that the TLB does not know.
fn store_slow<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    va: u64,
    bytes: [u8; N],
) -> Result<(), Trap> {
    if va.is_multiple_of(N as u64)
        && let Some(pa) = h.caches.device(va, true)
    {
        return store_device(h, cx, op, va, pa, bytes);
    }
    h.check_data_triggers(va, N as u64, Access::Store)?;
    let first = in_first_page(va, N);
    let low = translate(h, cx, va, first as u64, Access::Store)?;
    if first < N {
        return store_crossing(h, cx, va, first, low.pa, bytes);
    }
    if cx.ram.contains(low.pa, N as u64) {
        store_ram(h, cx, va, low.pa, low.whole_page, &bytes);
        return Ok(());
    }
    if !low.pa.is_multiple_of(N as u64) {
        return Err(Access::Store.access_fault(va));
    }
    if low.whole_page && !h.triggers.watch_data() {
        h.caches.install_device(va, low.pa, true);
    }
    store_device(h, cx, op, va, low.pa, bytes)
}

/// A store to what is no RAM, and may be nothing.
fn store_device<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    va: u64,
    pa: u64,
    bytes: [u8; N],
) -> Result<(), Trap> {
    let mut value = [0; 8];
    value[..N].copy_from_slice(&bytes);
    cx.before_bus(h);
    let stored = cx.bus.store(pa, N as u8, u64::from_le_bytes(value), cx.icount_of(op));
    cx.after_bus(h);
    stored.map_err(|_| {
        cx.refused = Some((pa, N as u8, Attempt::Store));
        Access::Store.access_fault(va)
    })
}

/// A store within a page of RAM, already checked.
fn store_ram(h: &mut Hart, cx: &mut Cx<'_>, va: u64, pa: u64, whole_page: bool, bytes: &[u8]) {
    // Asked before the store: a store to a watched page may change the very translation it went through.
    let watched = cx.ram.is_watched(cx.ram.page_of(pa));
    cx.store(h, pa, bytes);
    if whole_page && !watched && !h.triggers.watch_data() {
        h.caches.install_store(va, pa - cx.ram.base());
    }
}

/// Both halves are checked before either is written.
fn store_crossing<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    va: u64,
    first: usize,
    low: u64,
    bytes: [u8; N],
) -> Result<(), Trap> {
    let next = va.wrapping_add(first as u64);
    let high = translate(h, cx, next, (N - first) as u64, Access::Store)?.pa;
    if !cx.ram.contains(low, first as u64) {
        return Err(Access::Store.access_fault(va));
    }
    if !cx.ram.contains(high, (N - first) as u64) {
        return Err(Access::Store.access_fault(next));
    }
    cx.store(h, low, &bytes[..first]);
    cx.store(h, high, &bytes[first..]);
    Ok(())
}

/// Which of the environment's bits must be set, in `menvcfg` below M-mode and in `senvcfg` too in U-mode. CMO §2.4
/// and §2.5.
fn require_env(h: &Hart, op: &Op, bits: u64) -> Result<(), Trap> {
    let machine = h.privilege == Privilege::Machine || h.csr.menvcfg & bits != 0;
    let supervisor = h.privilege != Privilege::User || h.csr.senvcfg & bits != 0;
    if machine && supervisor { Ok(()) } else { Err(Trap::illegal(op)) }
}

/// Checks that the block may be accessed, and reports what is missing as for a store. Returns its physical address.
fn cache_block(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, access: Access) -> Result<u64, Trap> {
    let va = h.x(op.rs1);
    // Debug 1.0 §5.1.5.3: cache operations match as stores.
    h.check_data_triggers(va, 1, Access::Store)?;
    let mapped =
        translate(h, cx, va & !(CACHE_BLOCK - 1), CACHE_BLOCK, access).map_err(|trap| match trap.cause {
            Exception::LoadPage | Exception::StorePage => Access::Store.page_fault(va),
            _ => Access::Store.access_fault(va),
        })?;
    if cx.ram.contains(mapped.pa, CACHE_BLOCK) { Ok(mapped.pa) } else { Err(Access::Store.access_fault(va)) }
}

/// There are no caches to manage: the operation only checks that it would be allowed. The right to load or to store
/// will do, and nothing becomes dirty (CMO §2.5.2). Neither PTEs nor PMP can give the right to store alone.
fn manage_block(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, enable: u64) -> Result<(), Stop> {
    require_env(h, op, enable)?;
    cache_block(h, cx, op, Access::Load)?;
    cx.finish()
}

/// Invalidate: nothing to do, memory is coherent.
pub(crate) fn cbo_inval(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    manage_block(h, cx, op, envcfg::CBIE)
}

/// Clean: nothing to do, memory is coherent.
pub(crate) fn cbo_clean(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    manage_block(h, cx, op, envcfg::CBCFE)
}

/// Flush: nothing to do, memory is coherent.
pub(crate) fn cbo_flush(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    manage_block(h, cx, op, envcfg::CBCFE)
}

/// Zeroes the cache block of rs1.
pub(crate) fn cbo_zero(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    require_env(h, op, envcfg::CBZE)?;
    let pa = cache_block(h, cx, op, Access::Store)?;
    cx.store(h, pa, &[0; CACHE_BLOCK as usize]);
    cx.finish()
}

/// The RAM offset of an atomic access of `N` bytes, which must be aligned and may read and, for `Access::Store`,
/// write it.
pub(crate) fn atomic_offset<const N: usize>(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    access: Access,
) -> Result<u64, Trap> {
    let va = h.x(op.rs1);
    // Breakpoints come before misalignment. Privileged §3.1.15, "Synchronous exception priority".
    h.check_data_triggers(va, N as u64, access)?;
    if !va.is_multiple_of(N as u64) {
        let misaligned =
            if access == Access::Load { Exception::LoadMisaligned } else { Exception::StoreMisaligned };
        return Err(Trap { cause: misaligned, tval: va });
    }
    let mapped = translate(h, cx, va, N as u64, access)?;
    // An AMO needs both rights; neither PTEs nor PMP can give the right to write without the right to read.
    if !cx.ram.contains(mapped.pa, N as u64) {
        return Err(access.access_fault(va));
    }
    Ok(mapped.pa - cx.ram.base())
}
