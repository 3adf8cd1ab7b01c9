//! Zicsr, fences, environment calls, returns, waiting. Unprivileged, "Zicsr", "Zifencei", "Zawrs"; Privileged §3.3,
//! §12.2, Svinval.

use crate::cluster::ExitReason;
use crate::csr;
use crate::hart::{Hart, Privilege, Waiting, mstatus};
use crate::isa::Op;
use crate::run::Stop;
use crate::shared::Cx;
use crate::trap::{Exception, Trap};

type Next = Result<u64, Trap>;

#[inline(always)]
fn next(op: &Op, pc: u64) -> u64 {
    pc.wrapping_add(op.len.into())
}

/// Memory is sequentially consistent: nothing to order. `pause` is one of these.
#[inline(always)]
pub(crate) fn fence(_: &mut Hart, _: &Op) {}

/// Fetch sees stores at once: nothing to do.
pub(crate) fn fence_i(_: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    Ok(next(op, pc))
}

/// Reads a CSR into rd and, if `update` gives a value, writes that.
#[inline(always)]
fn access(
    h: &mut Hart,
    cx: &mut Cx<'_>,
    op: &Op,
    writes: bool,
    update: impl FnOnce(u64) -> u64,
) -> Result<(), Stop> {
    let number = op.imm as u16;
    cx.now = cx.icount_of(op);
    if writes && csr::is_read_only(number) {
        return Err(Trap::illegal(op).into());
    }
    let Some(old) = csr::read(h, cx, number) else {
        return Err(Trap::illegal(op).into());
    };
    if writes {
        let new = update(csr::modify_base(h, number, old));
        csr::write(h, cx, number, new);
    }
    h.set_x(op.rd, old);
    // An interrupt may be takeable now, before the next instruction; or the way to it has changed.
    if h.sample || cx.reconsider { Err(Stop::Leave) } else { cx.finish() }
}

/// rd = CSR; CSR = rs1
pub(crate) fn csrrw(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    let value = h.x(op.rs1);
    access(h, cx, op, true, |_| value)
}

/// rd = CSR; CSR |= rs1
pub(crate) fn csrrs(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    let value = h.x(op.rs1);
    access(h, cx, op, op.rs1 as u8 != 0, |old| old | value)
}

/// rd = CSR; CSR &= ~rs1
pub(crate) fn csrrc(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    let value = h.x(op.rs1);
    access(h, cx, op, op.rs1 as u8 != 0, |old| old & !value)
}

/// rd = CSR; CSR = uimm
pub(crate) fn csrrwi(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    access(h, cx, op, true, |_| op.rs1 as u64)
}

/// rd = CSR; CSR |= uimm
pub(crate) fn csrrsi(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    access(h, cx, op, op.rs1 as u8 != 0, |old| old | op.rs1 as u64)
}

/// rd = CSR; CSR &= ~uimm
pub(crate) fn csrrci(h: &mut Hart, cx: &mut Cx<'_>, op: &Op) -> Result<(), Stop> {
    access(h, cx, op, op.rs1 as u8 != 0, |old| old & !(op.rs1 as u64))
}

/// Exception 8, 9 or 11, by mode.
pub(crate) fn ecall(h: &mut Hart, _: &mut Cx<'_>, _: &Op, _: u64) -> Next {
    let cause = match h.privilege {
        Privilege::User => Exception::EcallU,
        Privilege::Supervisor => Exception::EcallS,
        Privilege::Machine => Exception::EcallM,
    };
    Err(Trap { cause, tval: 0 })
}

/// Breakpoint; `tval` is its own address.
pub(crate) fn ebreak(_: &mut Hart, _: &mut Cx<'_>, _: &Op, pc: u64) -> Next {
    Err(Trap { cause: Exception::Breakpoint, tval: pc })
}

pub(crate) fn mret(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, _: u64) -> Next {
    if h.privilege != Privilege::Machine {
        return Err(Trap::illegal(op));
    }
    cx.clear_reservation(h.id);
    Ok(h.return_from_machine())
}

pub(crate) fn sret(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, _: u64) -> Next {
    supervisor(h, op, mstatus::TSR)?;
    cx.clear_reservation(h.id);
    Ok(h.return_from_supervisor())
}

/// Illegal in U-mode, and in S-mode while M-mode traps it.
fn supervisor(h: &Hart, op: &Op, trapped_by: u64) -> Result<(), Trap> {
    let allowed = match h.privilege {
        Privilege::Machine => true,
        Privilege::Supervisor => h.mstatus & trapped_by == 0,
        Privilege::User => false,
    };
    if allowed { Ok(()) } else { Err(Trap::illegal(op)) }
}

/// Waits until an interrupt is pending and enabled in `mie`, whatever `mstatus` says.
pub(crate) fn wfi(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    supervisor(h, op, mstatus::TW)?;
    if h.interrupts.pending() == 0 {
        h.waiting = Waiting::Interrupt;
        cx.exit = Some(ExitReason::Wfi);
    }
    Ok(next(op, pc))
}

/// Waits while the reservation holds and no interrupt is pending. While M-mode times waits out, it does not wait.
pub(crate) fn wrs_nto(h: &mut Hart, cx: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    let timed = h.privilege != Privilege::Machine && h.mstatus & mstatus::TW != 0;
    if !timed && h.interrupts.pending() == 0 && cx.shared.reservations[h.id].is_some() {
        h.waiting = Waiting::Reservation;
        cx.exit = Some(ExitReason::Wfi);
    }
    Ok(next(op, pc))
}

/// Waits for a short time, which here is none.
pub(crate) fn wrs_sto(_: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    Ok(next(op, pc))
}

/// Translation is coherent with the page tables: nothing to do.
pub(crate) fn sfence_vma(h: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    supervisor(h, op, mstatus::TVM)?;
    Ok(next(op, pc))
}

/// As `sfence.vma`.
pub(crate) fn sinval_vma(h: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    supervisor(h, op, mstatus::TVM)?;
    Ok(next(op, pc))
}

/// Nothing to order.
pub(crate) fn sfence_w_inval(h: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    supervisor(h, op, 0)?;
    Ok(next(op, pc))
}

/// Nothing to order.
pub(crate) fn sfence_inval_ir(h: &mut Hart, _: &mut Cx<'_>, op: &Op, pc: u64) -> Next {
    supervisor(h, op, 0)?;
    Ok(next(op, pc))
}
