//! The CSR table: number, name, what it reads as, what a write does. Privileged, "CSR Listing".
//!
//! Privilege and read-only follow from the number. Writes are WARL: what a field cannot hold leaves it as it was.

use crate::cluster::ExitReason;
use crate::hart::{Hart, Privilege, envcfg, mstatus};
use crate::mmu;
use crate::shared::Cx;
use crate::trap::{self, SEIP, SSIP, STIP, SUPERVISOR};
use crate::trigger::TINFO;

pub(crate) const SATP: u16 = 0x180;
const STIMECMP: u16 = 0x14d;
const MIP: u16 = 0x344;

/// `mcountinhibit`: CY and IR.
const INHIBIT: u64 = 5;
/// `misa`: RV64 with A, C, D, F, I, M, S and U. Nothing can be switched off.
const MISA: u64 = 2 << 62 | 1 << 0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 20;

const SSTATUS_WRITABLE: u64 =
    mstatus::SIE | mstatus::SPIE | mstatus::SPP | mstatus::FS | mstatus::SUM | mstatus::MXR;
/// Bits of `mstatus` that `sstatus` shows.
pub(crate) const SSTATUS_READABLE: u64 = SSTATUS_WRITABLE | mstatus::SD | 3 << 32;
const MSTATUS_WRITABLE: u64 = SSTATUS_WRITABLE
    | mstatus::MIE
    | mstatus::MPIE
    | mstatus::MPRV
    | mstatus::TVM
    | mstatus::TW
    | mstatus::TSR;

type Read = fn(&Hart, &mut Cx<'_>) -> u64;
type Write = fn(&mut Hart, &mut Cx<'_>, u64);

macro_rules! csrs {
    ($($number:literal $name:ident $read:expr, $write:expr;)*) => {
        /// The name of a CSR.
        pub(crate) fn name(number: u16) -> Option<&'static str> {
            match number {
                $($number => Some(stringify!($name)),)*
                _ => None,
            }
        }

        fn read_listed(h: &Hart, cx: &mut Cx<'_>, number: u16) -> Option<u64> {
            match number {
                $($number => {
                    const READ: Read = $read;
                    Some(READ(h, cx))
                })*
                _ => None,
            }
        }

        fn write_listed(h: &mut Hart, cx: &mut Cx<'_>, number: u16, value: u64) {
            match number {
                $($number => {
                    const WRITE: Write = $write;
                    WRITE(h, cx, value);
                })*
                _ => {}
            }
        }
    };
}

/// A write that changes nothing.
const IGNORE: Write = |_, _, _| {};

csrs! {
    // Floating point.
    0x001 fflags |h, _| (h.fcsr & 31).into(), |h, _, v| set_fcsr(h, h.fcsr & !31 | v as u32 & 31);
    0x002 frm |h, _| (h.fcsr >> 5).into(), |h, _, v| set_fcsr(h, h.fcsr & 31 | (v as u32 & 7) << 5);
    0x003 fcsr |h, _| h.fcsr.into(), |h, _, v| set_fcsr(h, v as u32 & 0xff);
    // Supervisor.
    0x100 sstatus |h, _| h.read_mstatus() & SSTATUS_READABLE, |h, _, v| write_mstatus(h, v, SSTATUS_WRITABLE);
    0x104 sie |h, _| h.interrupts.mie & h.interrupts.mideleg, |h, _, v| write_mie(h, v, h.interrupts.mideleg);
    0x105 stvec |h, _| h.csr.stvec, |h, _, v| h.csr.stvec = tvec(v, h.csr.stvec);
    0x106 scounteren |h, _| h.csr.scounteren, |h, _, v| h.csr.scounteren = v & 0xffff_ffff;
    0x10a senvcfg |h, _| h.csr.senvcfg, |h, _, v| h.csr.senvcfg = environment(v, h.csr.senvcfg, 0);
    0x140 sscratch |h, _| h.csr.sscratch, |h, _, v| h.csr.sscratch = v;
    0x141 sepc |h, _| h.csr.sepc, |h, _, v| h.csr.sepc = v & !1;
    0x142 scause |h, _| h.csr.scause, |h, _, v| h.csr.scause = v;
    0x143 stval |h, _| h.csr.stval, |h, _, v| h.csr.stval = v;
    0x144 sip |h, _| h.interrupts.mip() & h.interrupts.mideleg, |h, _, v| write_mip(h, v, SSIP & h.interrupts.mideleg);
    0x14d stimecmp |h, _| h.csr.stimecmp, |h, cx, v| { h.csr.stimecmp = v; move_deadline(h, cx); };
    0x180 satp |h, _| h.csr.satp, |h, cx, v| write_satp(h, cx, v);
    // Machine.
    0x300 mstatus |h, _| h.read_mstatus(), |h, _, v| write_machine_status(h, v);
    0x301 misa |_, _| MISA, IGNORE;
    0x302 medeleg |h, _| h.csr.medeleg, |h, _, v| h.csr.medeleg = v & trap::DELEGABLE;
    0x303 mideleg |h, _| h.interrupts.mideleg, |h, _, v| write_mideleg(h, v);
    0x304 mie |h, _| h.interrupts.mie, |h, _, v| write_mie(h, v, trap::ALL);
    0x305 mtvec |h, _| h.csr.mtvec, |h, _, v| h.csr.mtvec = tvec(v, h.csr.mtvec);
    0x306 mcounteren |h, _| h.csr.mcounteren, |h, _, v| h.csr.mcounteren = v & 0xffff_ffff;
    0x30a menvcfg |h, _| h.csr.menvcfg, |h, cx, v| write_menvcfg(h, cx, v);
    0x320 mcountinhibit |h, _| h.counters.inhibit, |h, cx, v| write_inhibit(h, cx, v & INHIBIT);
    0x340 mscratch |h, _| h.csr.mscratch, |h, _, v| h.csr.mscratch = v;
    0x341 mepc |h, _| h.csr.mepc, |h, _, v| h.csr.mepc = v & !1;
    0x342 mcause |h, _| h.csr.mcause, |h, _, v| h.csr.mcause = v;
    0x343 mtval |h, _| h.csr.mtval, |h, _, v| h.csr.mtval = v;
    0x344 mip |h, _| h.interrupts.mip(), |h, _, v| write_mip(h, v, machine_writable_pending(h));
    // Triggers.
    0x7a0 tselect |h, _| h.triggers.tselect(), |h, _, v| h.triggers.select(v);
    0x7a1 tdata1 |h, _| h.triggers.tdata1(), |h, cx, v| { h.triggers.set_tdata1(v); triggers_changed(h, cx); };
    0x7a2 tdata2 |h, _| h.triggers.tdata2(), |h, cx, v| { h.triggers.set_tdata2(v); triggers_changed(h, cx); };
    0x7a3 tdata3 |_, _| 0, IGNORE;
    0x7a4 tinfo |_, _| TINFO, IGNORE;
    // Counters.
    0xb00 mcycle |h, cx| cycle(h, cx.now), |h, cx, v| write_cycle(h, cx.now, v);
    0xb02 minstret |h, cx| instret(h, cx.now), |h, cx, v| write_instret(h, cx.now, v);
    0xc00 cycle |h, cx| cycle(h, cx.now), IGNORE;
    0xc01 time |_, cx| cx.bus.time(cx.now), IGNORE;
    0xc02 instret |h, cx| instret(h, cx.now), IGNORE;
    // Who this is: a hart of no vendor.
    0xf11 mvendorid |_, _| 0, IGNORE;
    0xf12 marchid |_, _| 0, IGNORE;
    0xf13 mimpid |_, _| 0, IGNORE;
    0xf14 mhartid |h, _| h.id as u64, IGNORE;
    0xf15 mconfigptr |_, _| 0, IGNORE;
}

/// Reads a CSR, or `None` if this privilege may not or it does not exist.
pub(crate) fn read(h: &Hart, cx: &mut Cx<'_>, number: u16) -> Option<u64> {
    if !accessible(h, number) {
        return None;
    }
    match number {
        0x3a0 | 0x3a2 => Some(h.pmp.read_cfg(usize::from(number & 2) * 4)),
        0x3b0..=0x3bf => Some(h.pmp.read_addr(usize::from(number & 15))),
        // Performance counters and their events: present, zero. Privileged §3.1.10.
        0xb03..=0xb1f | 0xc03..=0xc1f | 0x323..=0x33f => Some(0),
        _ => read_listed(h, cx, number),
    }
}

/// The value that a read-modify-write starts from: the SEIP that software wrote, not the wire. Privileged §3.1.9.
pub(crate) fn modify_base(h: &Hart, number: u16, read: u64) -> u64 {
    if number == MIP { read & !SEIP | h.interrupts.software & SEIP } else { read }
}

/// Whether the number is that of a read-only CSR.
pub(crate) fn is_read_only(number: u16) -> bool {
    number >> 10 == 3
}

/// Writes a CSR that can be read and is not read-only.
pub(crate) fn write(h: &mut Hart, cx: &mut Cx<'_>, number: u16, value: u64) {
    match number {
        0x3a0 | 0x3a2 => h.pmp.write_cfg(usize::from(number & 2) * 4, value),
        0x3b0..=0x3bf => h.pmp.write_addr(usize::from(number & 15), value),
        _ => return write_listed(h, cx, number, value),
    }
    h.caches.flush();
    h.update_context();
    cx.stale = true;
}

fn accessible(h: &Hart, number: u16) -> bool {
    if u64::from(number >> 8 & 3) > h.privilege as u64 {
        return false;
    }
    let supervisor = h.privilege == Privilege::Supervisor;
    match number {
        0x001..=0x003 => !h.fs_off(),
        SATP => !(supervisor && h.mstatus & mstatus::TVM != 0),
        STIMECMP => {
            // Privileged §12.1.1: S-mode needs menvcfg.STCE and mcounteren.TM.
            let enabled = h.csr.menvcfg & envcfg::STCE != 0 && h.csr.mcounteren & 2 != 0;
            h.config.sstc && (!supervisor || enabled)
        }
        0xc00..=0xc1f => {
            let bit = 1 << (number & 31);
            let machine = h.privilege == Privilege::Machine || h.csr.mcounteren & bit != 0;
            machine && (h.privilege != Privilege::User || h.csr.scounteren & bit != 0)
        }
        0x7a0..=0x7a4 => h.triggers.exist(),
        _ => true,
    }
}

fn set_fcsr(h: &mut Hart, value: u32) {
    h.fcsr = value;
    h.mark_fs_dirty();
}

/// Direct or vectored; other modes do not exist and keep the old one.
fn tvec(value: u64, old: u64) -> u64 {
    if value & 2 == 0 { value } else { value & !3 | old & 3 }
}

fn write_mstatus(h: &mut Hart, value: u64, mask: u64) {
    let new = h.mstatus & !mask | value & mask;
    let changed = h.mstatus ^ new;
    h.mstatus = new;
    if changed & mstatus::MXR != 0 {
        h.caches.flush_translations();
    }
    if changed & (mstatus::MPP | mstatus::MPRV | mstatus::SUM | mstatus::MXR) != 0 {
        h.update_context();
    }
    h.interrupts_changed();
}

fn write_machine_status(h: &mut Hart, value: u64) {
    let mpp = (value & mstatus::MPP) >> mstatus::MPP_SHIFT;
    let mask = if Privilege::from_bits(mpp).is_some() { mstatus::MPP } else { 0 };
    write_mstatus(h, value, MSTATUS_WRITABLE | mask);
}

fn write_mideleg(h: &mut Hart, value: u64) {
    h.interrupts.mideleg = value & SUPERVISOR;
    h.interrupts_changed();
}

fn write_mie(h: &mut Hart, value: u64, mask: u64) {
    h.interrupts.mie = h.interrupts.mie & !mask | value & mask;
    h.interrupts_changed();
}

fn machine_writable_pending(h: &Hart) -> u64 {
    // With Sstc on, STIP is the comparator's.
    if h.csr.menvcfg & envcfg::STCE != 0 { SSIP | SEIP } else { SSIP | STIP | SEIP }
}

fn write_mip(h: &mut Hart, value: u64, mask: u64) {
    h.interrupts.software = h.interrupts.software & !mask | value & mask;
    h.interrupts_changed();
}

fn write_satp(h: &mut Hart, cx: &mut Cx<'_>, value: u64) {
    // An unknown mode makes the whole write have no effect. Privileged §12.1.11.
    if mmu::levels(value, h.config.max_satp).is_some() && value != h.csr.satp {
        let same_upper = mmu::same_upper_half(h, cx, h.csr.satp, value);
        h.csr.satp = value;
        h.caches.enter_space(value, same_upper);
        h.update_context();
        cx.stale = true;
    }
}

/// The fields of `menvcfg` and `senvcfg`, and `more` of them. CBIE keeps its value if the reserved 2 is written.
fn environment(value: u64, old: u64, more: u64) -> u64 {
    let cbie = if value & envcfg::CBIE == 2 << 4 { old } else { value } & envcfg::CBIE;
    cbie | value & (envcfg::FIOM | envcfg::CBCFE | envcfg::CBZE | more)
}

fn write_menvcfg(h: &mut Hart, cx: &mut Cx<'_>, value: u64) {
    let sstc = if h.config.sstc { envcfg::STCE } else { 0 };
    let svadu = if h.config.svadu { envcfg::ADUE } else { 0 };
    let new = environment(value, h.csr.menvcfg, envcfg::PBMTE | sstc | svadu);
    let changed = h.csr.menvcfg ^ new;
    h.csr.menvcfg = new;
    if changed & (envcfg::ADUE | envcfg::PBMTE) != 0 {
        h.caches.flush_translations();
        h.update_context();
        cx.stale = true;
    }
    if changed & envcfg::STCE != 0 {
        h.interrupts.software &= !STIP;
        move_deadline(h, cx);
    }
}

/// `stimecmp` counts anew: STIP as of the next instruction, and the machine must look for its next deadline.
fn move_deadline(h: &mut Hart, cx: &mut Cx<'_>) {
    let time = cx.bus.time(cx.now + 1);
    h.update_timer(time);
    cx.exit = Some(ExitReason::Attention);
}

fn triggers_changed(h: &mut Hart, cx: &mut Cx<'_>) {
    h.caches.flush();
    h.update_context();
    // The run loop chooses how to run by whether triggers are armed.
    cx.reconsider = true;
}

fn attempts(h: &Hart, now: u64) -> u64 {
    now.wrapping_add(h.attempts_offset)
}

/// `mcycle` at an icount: a cycle for each attempted instruction.
fn cycle(h: &Hart, now: u64) -> u64 {
    let running = if h.counters.inhibit & 1 == 0 { attempts(h, now) } else { 0 };
    h.counters.cycle.wrapping_add(running)
}

/// `minstret` at an icount: instructions that trap do not retire.
fn instret(h: &Hart, now: u64) -> u64 {
    let retired = attempts(h, now).wrapping_sub(h.counters.traps);
    h.counters.instret.wrapping_add(if h.counters.inhibit & 4 == 0 { retired } else { 0 })
}

/// The next instruction reads what was written: the write replaces the increment of its own instruction.
fn write_cycle(h: &mut Hart, now: u64, value: u64) {
    h.counters.cycle = 0;
    h.counters.cycle = value.wrapping_sub(cycle(h, now + 1));
}

fn write_instret(h: &mut Hart, now: u64, value: u64) {
    h.counters.instret = 0;
    h.counters.instret = value.wrapping_sub(instret(h, now + 1));
}

/// Both counters keep their value across the switch.
fn write_inhibit(h: &mut Hart, cx: &mut Cx<'_>, value: u64) {
    let (cycles, retired) = (cycle(h, cx.now + 1), instret(h, cx.now + 1));
    h.counters.inhibit = value;
    write_cycle(h, cx.now, cycles);
    write_instret(h, cx.now, retired);
}
