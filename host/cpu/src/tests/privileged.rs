//! Traps, interrupts, CSRs and what M-mode can forbid.

use super::support::*;
use crate::{Cluster, ExitReason, HartConfig, Irq};

const MSTATUS: u32 = 0x300;
const MIE: u64 = 1 << 3;
const MEPC: u32 = 0x341;

/// Writes `value` to a CSR in M-mode and reads it back.
fn write_read(csr: u32, value: u64) -> u64 {
    let mut bench = Bench::new(&[csrrw(0, csr, 5), csrrs(6, csr, 0), SPIN]);
    bench.cluster.set_x(0, 5, value);
    bench.step(2);
    assert_eq!(bench.field("mcause"), 0, "CSR {csr:#x} trapped");
    bench.x(6)
}

#[test]
fn csr_fields_are_warl() {
    let cases = [
        (MSTATUS, u64::MAX, 0x8000_000a_007e_79aa),
        (MSTATUS, 2 << 11, 0xa_0000_0000),
        (0x301, 0, 0x8000_0000_0014_112d),
        (0x302, u64::MAX, 0xb3ff),
        (0x303, u64::MAX, 0x222),
        (0x304, u64::MAX, 0xaaa),
        (0x305, u64::MAX, !3),
        (0x305, 0x8000_0001, 0x8000_0001),
        (0x306, u64::MAX, 0xffff_ffff),
        (0x30a, u64::MAX, 7 << 61 | 0xf1),
        (0x30a, 2 << 4, 0),
        (0x320, u64::MAX, 5),
        (MEPC, u64::MAX, !1),
        (0x344, u64::MAX, 0x222),
        (0x100, u64::MAX, 0x8000_0002_000c_6122),
        (0x10a, u64::MAX, 0xf1),
        (0x180, 8 << 60 | 0xffff << 44 | 5, 8 << 60 | 0xffff << 44 | 5),
        (0x180, 7 << 60 | 5, 0),
        (0x003, u64::MAX, 0xff),
        (0xb03, u64::MAX, 0),
    ];
    for (csr, written, read) in cases {
        let mut fs_on = Bench::new(&[csrrw(0, MSTATUS, 7), csrrw(0, csr, 5), csrrs(6, csr, 0), SPIN]);
        fs_on.cluster.set_x(0, 5, written);
        fs_on.cluster.set_x(0, 7, if csr == 0x003 { 1 << 13 } else { 0 });
        fs_on.steps(3);
        assert_eq!(fs_on.x(6), read, "CSR {csr:#x} written with {written:#x}: {:#x}", fs_on.x(6));
    }
    let sv39 =
        HartConfig { max_satp: crate::SatpMode::Sv39, sstc: false, svadu: false, ..HartConfig::default() };
    let mut few = Bench::with(1, sv39, &[csrrw(0, 0x180, 5), csrrw(0, 0x30a, 6), csrrs(7, 0x14d, 0), SPIN]);
    few.cluster.set_x(0, 5, 9 << 60);
    few.cluster.set_x(0, 6, u64::MAX);
    few.steps(3);
    assert_eq!((few.field("satp"), few.field("menvcfg")), (0, 1 << 62 | 0xf1));
    assert_eq!((few.field("mcause"), few.field("mtval")), (2, csrrs(7, 0x14d, 0).into()), "no stimecmp");
}

#[test]
fn what_does_not_exist_or_is_forbidden_is_illegal_with_its_bits() {
    for word in [0x7c0, 0xfff, 0x600, 0xb80].map(|csr| csrrs(5, csr, 0)) {
        let mut bench = Bench::new(&[word]);
        bench.step(1);
        assert_eq!((bench.field("mcause"), bench.field("mtval")), (2, word.into()));
    }
    let mut bench = Bench::new(&[csrrw(5, 0xf14, 5)]);
    bench.step(1);
    assert_eq!(bench.field("mcause"), 2, "read-only");
    let mut bench = Bench::new(&[0xffff_0000]);
    bench.step(1);
    assert_eq!((bench.field("mcause"), bench.field("mtval")), (2, 0), "only the 16 bits");
    // Machine CSRs from S-mode, anything of the supervisor from U-mode, and what mstatus traps.
    let cases =
        [(1, 0, csrrs(5, MSTATUS, 0), 2), (0, 0, csrrs(5, 0x100, 0), 2), (0, 0, SRET, 2), (0, 0, WFI, 2)];
    let trapped = [
        (1, 1 << 20, csrrs(5, 0x180, 0), 2),
        (1, 1 << 20, 0x1200_0073, 2),
        (1, 1 << 21, WFI, 2),
        (1, 1 << 22, SRET, 2),
        (1, 0, csrrs(5, 0xc00, 0), 2),
        (1, 0, MRET, 2),
        (1, 0, csrrs(5, 0x180, 0), 0),
        (1, 0, 0x1200_0073, 0),
        (1, 0, ECALL, 9),
        (0, 0, ECALL, 8),
    ];
    for (privilege, mstatus, word, cause) in cases.into_iter().chain(trapped) {
        let mut bench = below_machine(&[word, SPIN], privilege);
        let old = bench.field("mstatus");
        bench.set_field(0, "mstatus", old | mstatus);
        bench.step(1);
        assert_eq!(bench.field("mcause"), cause, "{word:#x} in mode {privilege} with mstatus {mstatus:#x}");
    }
}

/// A hart in U- or S-mode with PMP open.
fn below_machine(code: &[u32], privilege: u64) -> Bench {
    let mut bench = Bench::new(code);
    open_pmp(&mut bench.cluster, 0);
    bench.set_field(0, "privilege", privilege);
    bench
}

pub(super) fn open_pmp(cluster: &mut Cluster, hart: usize) {
    let mut fields = cluster.save(hart);
    fields.iter_mut().find(|(name, _)| name == "pmpaddr").unwrap().1[..8].copy_from_slice(&[0xff; 8]);
    fields.iter_mut().find(|(name, _)| name == "pmpcfg").unwrap().1[0] = 0x1f;
    cluster.load(hart, &fields).unwrap();
}

#[test]
fn an_interrupt_is_taken_before_the_next_instruction_and_costs_nothing() {
    let mut bench = Bench::new(&[NOP, csrrs(0, MSTATUS, 5), addi(10, 0, 1), SPIN]);
    bench.put(HANDLER, &[csrrs(11, 0x342, 0), SPIN]);
    bench.cluster.set_x(0, 5, MIE);
    bench.set_field(0, "mie", 0x880);
    bench.cluster.set_irq(0, Irq::Mtip, true);
    bench.cluster.set_irq(0, Irq::Meip, true);
    bench.step(3);
    assert_eq!(
        (bench.x(11), bench.x(10)),
        (1 << 63 | 11, 0),
        "external before timer, before the next instruction"
    );
    assert_eq!((bench.field("mepc"), bench.icount), (BASE + 8, 3));
    assert_eq!(bench.cluster.traps(), 0);
    assert_eq!(bench.field("mstatus") & 0x1888, 0x1880, "MPP = M, MPIE = 1, MIE = 0");
}

#[test]
fn delegated_interrupts_are_vectored_and_never_reach_machine_mode() {
    let mut bench = below_machine(&[NOP, NOP, SPIN], 1);
    bench.set_field(0, "mideleg", 0x222);
    bench.set_field(0, "mie", 0x222);
    bench.set_field(0, "stvec", HANDLER | 1);
    bench.put(HANDLER + 4 * 9, &[addi(10, 0, 9), SPIN]);
    bench.cluster.set_irq(0, Irq::Seip, true);
    bench.step(1);
    assert_eq!(bench.cluster.pc(0), BASE + 4, "SIE is off");
    let status = bench.field("mstatus");
    bench.set_field(0, "mstatus", status | 2);
    bench.step(1);
    assert_eq!((bench.x(10), bench.field("scause"), bench.field("sepc")), (9, 1 << 63 | 9, BASE + 4));
    bench.set_field(0, "privilege", 3);
    let status = bench.field("mstatus");
    bench.set_field(0, "mstatus", status | 0xa);
    bench.cluster.set_pc(0, BASE);
    bench.step(2);
    assert_eq!(bench.cluster.pc(0), BASE + 8, "supervisor interrupts wait while in M-mode");
}

#[test]
fn wfi_waits_for_what_mie_names() {
    let mut bench = Bench::new(&[WFI, addi(10, 10, 1), WFI, addi(10, 10, 1), SPIN]);
    bench.set_field(0, "mie", 0x80);
    assert_eq!((bench.step(10), bench.icount), (ExitReason::Wfi, 1));
    bench.cluster.set_irq(0, Irq::Msip, true);
    assert_eq!((bench.step(10), bench.icount), (ExitReason::Wfi, 1), "not enabled in mie");
    assert!(bench.cluster.is_waiting(0) && !bench.cluster.has_pending(0));
    bench.cluster.set_irq(0, Irq::Mtip, true);
    assert!(bench.cluster.has_pending(0));
    assert_eq!(bench.step(3), ExitReason::Limit);
    assert_eq!(
        (bench.x(10), bench.cluster.pc(0)),
        (2, BASE + 16),
        "MIE is off: awake, no trap; the second wfi is a nop"
    );
}

/// Where these tests have their NMI handler.
const NMI: u64 = BASE + 0x4000;

#[test]
fn an_nmi_is_taken_in_every_mode_whatever_is_enabled() {
    for (privilege, mie, delegated) in [(0, 0, 0), (1, 0, u64::MAX), (3, 0, 0), (3, MIE, 0)] {
        // Without PMP every mode may execute everything.
        let config = HartConfig { pmp_entries: 0, ..HartConfig::default() };
        let mut bench = Bench::with(1, config, &[addi(10, 10, 1), addi(10, 10, 1), SPIN]);
        bench.put(NMI, &[csrrs(11, 0x342, 0), csrrs(12, MEPC, 0), MRET]);
        bench.set_field(0, "mideleg", delegated & 0x222);
        bench.set_field(0, "privilege", privilege);
        let status = bench.field("mstatus");
        bench.set_field(0, "mstatus", status | mie);
        bench.step(1);
        bench.cluster.nmi(0, NMI);
        assert_eq!((bench.cluster.pc(0), bench.field("privilege"), bench.icount), (NMI, 3, 1));
        assert_eq!(
            (bench.field("mcause"), bench.field("mepc"), bench.field("mtval")),
            (1 << 63, BASE + 4, 0),
            "unknown cause, the instruction that did not happen"
        );
        let status = bench.field("mstatus");
        assert_eq!((status >> 11 & 3, status >> 7 & 1, status & MIE), (privilege, mie >> 3, 0));
        bench.step(3);
        assert_eq!((bench.x(11), bench.x(12)), (1 << 63, BASE + 4));
        assert_eq!((bench.cluster.pc(0), bench.field("privilege")), (BASE + 4, privilege), "mret goes back");
        assert_eq!(bench.field("mstatus") & MIE, mie);
        bench.step(1);
        assert_eq!((bench.x(10), bench.cluster.traps()), (2, 0), "nothing is lost, nothing trapped");
    }
}

#[test]
fn an_nmi_ends_a_wait_and_a_reservation() {
    // wfi: the NMI comes although mie is 0, and returns behind it.
    let mut bench = Bench::new(&[WFI, addi(10, 10, 1), SPIN]);
    bench.put(NMI, &[addi(11, 11, 1), MRET]);
    assert_eq!((bench.step(10), bench.icount), (ExitReason::Wfi, 1));
    bench.cluster.nmi(0, NMI);
    assert!(!bench.cluster.is_waiting(0));
    assert_eq!(bench.field("mepc"), BASE + 4);
    bench.step(3);
    assert_eq!((bench.x(10), bench.x(11), bench.cluster.pc(0)), (1, 1, BASE + 8));

    // lr.d a0, (t0); sc.d a1, t1, (t0)
    for nmi in [false, true] {
        let mut bench = Bench::new(&[0x1002_b52f, 0x1862_b5af, SPIN]);
        bench.put(NMI, &[MRET]);
        bench.cluster.set_x(0, 5, BASE + 0x1000);
        bench.step(1);
        if nmi {
            bench.cluster.nmi(0, NMI);
            bench.step(1);
        }
        bench.step(1);
        assert_eq!(bench.x(11), u64::from(nmi), "the store after an NMI fails");
    }
}

#[test]
fn an_nmi_overwrites_what_a_trap_handler_has_not_saved() {
    let mut bench = Bench::new(&[ECALL]);
    bench.put(HANDLER, &[SPIN]);
    bench.step(1);
    assert_eq!((bench.field("mepc"), bench.field("mcause")), (BASE, 11));
    bench.cluster.nmi(0, NMI);
    assert_eq!((bench.field("mepc"), bench.field("mcause")), (HANDLER, 1 << 63));
    bench.cluster.nmi(0, NMI);
    assert_eq!(bench.field("mepc"), NMI, "not even the next one waits");
}

#[test]
fn counters_count_attempts_and_retirement() {
    // instret, cycle; ecall; again; then write and read back.
    let mut bench = Bench::new(&[csrrs(10, 0xb02, 0), csrrs(11, 0xb00, 0), ECALL, SPIN]);
    bench.put(HANDLER, &[csrrs(12, 0xb02, 0), csrrs(13, 0xb00, 0), csrrw(0, 0xb02, 5), csrrs(14, 0xb02, 0)]);
    bench.put(
        HANDLER + 16,
        &[csrrs(15, 0xb02, 0), csrrw(0, 0x320, 6), csrrs(16, 0xb02, 0), csrrs(17, 0xb00, 0), SPIN],
    );
    bench.cluster.set_x(0, 5, 1000);
    bench.cluster.set_x(0, 6, 5);
    bench.step(11);
    assert_eq!([10, 11, 12, 13].map(|x| bench.x(x)), [0, 1, 2, 4]);
    assert_eq!([14, 15, 16, 17].map(|x| bench.x(x)), [1000, 1001, 1003, 9]);
    bench.step(5);
    assert_eq!(bench.cluster.traps(), 1);
    bench.cluster.set_pc(0, BASE);
    bench.step(1);
    assert_eq!(bench.x(10), 1003, "inhibited");
}

#[test]
fn stimecmp_raises_stip_and_asks_for_attention() {
    let mut bench = Bench::new(&[csrrw(0, 0x30a, 5), csrrw(0, 0x14d, 6), csrrs(10, 0x344, 0), SPIN]);
    bench.cluster.set_x(0, 5, 1 << 63);
    bench.cluster.set_x(0, 6, 3);
    assert_eq!(bench.step(10), ExitReason::Attention);
    assert_eq!(bench.step(10), ExitReason::Attention);
    assert_eq!((bench.icount, bench.cluster.stimecmp(0)), (2, Some(3)));
    bench.step(1);
    assert_eq!(bench.x(10), 0);
    bench.cluster.set_time(0, 3);
    assert_eq!(bench.cluster.stimecmp(0), None, "fired");
    bench.cluster.set_pc(0, BASE + 8);
    bench.step(1);
    assert_eq!(bench.x(10), 0x20);
    bench.cluster.set_time(0, 2);
    assert_eq!(bench.cluster.stimecmp(0), Some(3));
}

#[test]
fn mprv_uses_the_previous_mode_and_ends_with_mret() {
    // No PMP entry: U-mode may not load. MPP = U, MPRV = 1.
    let mut bench = Bench::new(&[csrrs(0, MSTATUS, 5), ld(10, 6, 0), SPIN]);
    bench.cluster.set_x(0, 5, 1 << 17);
    bench.cluster.set_x(0, 6, BASE);
    bench.step(2);
    assert_eq!((bench.field("mcause"), bench.field("mtval"), bench.field("mepc")), (5, BASE, BASE + 4));
    let mut bench = Bench::new(&[csrrs(0, MSTATUS, 5), csrrw(0, MEPC, 6), MRET]);
    open_pmp(&mut bench.cluster, 0);
    bench.cluster.set_x(0, 5, 1 << 17 | 1 << 11);
    bench.cluster.set_x(0, 6, BASE);
    bench.step(3);
    assert_eq!(
        (bench.cluster.privilege(0), bench.field("mstatus") >> 17 & 1),
        (crate::Privilege::Supervisor, 0)
    );
}

#[test]
fn pmp_applies_at_once_and_may_divide_a_page() {
    // U-mode, one entry: the first 16 bytes. The fourth instruction is inside, the fifth is not.
    let mut bench = below_machine(&[addi(10, 10, 1), NOP, NOP, addi(10, 10, 1), NOP], 0);
    let mut fields = bench.cluster.save(0);
    let napot = (BASE >> 2 | 1).to_le_bytes();
    fields.iter_mut().find(|(name, _)| name == "pmpaddr").unwrap().1[..8].copy_from_slice(&napot);
    bench.cluster.load(0, &fields).unwrap();
    bench.step(5);
    assert_eq!((bench.field("mcause"), bench.field("mtval"), bench.x(10)), (1, BASE + 16, 2));
    // M-mode takes the entry away.
    let mut bench = below_machine(&[ld(10, 6, 0), jal(0, -4)], 0);
    bench.put(HANDLER, &[csrrw(0, 0x3a0, 0), MRET]);
    bench.cluster.set_x(0, 6, BASE);
    bench.step(10);
    bench.set_field(0, "privilege", 3);
    bench.cluster.set_pc(0, HANDLER);
    bench.set_field(0, "mepc", BASE);
    bench.step(3);
    assert_eq!((bench.field("mcause"), bench.field("mepc")), (1, BASE));
}

#[test]
fn devices_are_reached_with_exact_icounts_and_refusals_are_access_faults() {
    let mut bench = Bench::new(&[NOP, ld(10, 5, 8), i(0x03, 4, 11, 5, 0), ld(12, 6, 0), SPIN]);
    bench.cluster.set_x(0, 5, PORT);
    bench.cluster.set_x(0, 6, 0x2000_0000);
    bench.step(4);
    assert_eq!((bench.x(10), bench.x(11)), (1, 0x42));
    assert_eq!((bench.field("mcause"), bench.field("mtval")), (5, 0x2000_0000));
    for (word, cause, tval) in [
        (ld(10, 5, 4), 5, PORT + 4),
        (sd(10, 5, 4), 7, PORT + 4),
        (r(0x2f, 3, 0, 10, 5, 0), 7, PORT),
        (r(0x2f, 3, 2 << 2, 10, 5, 0), 5, PORT),
    ] {
        let mut bench = Bench::new(&[word]);
        bench.cluster.set_x(0, 5, PORT);
        bench.step(1);
        assert_eq!((bench.field("mcause"), bench.field("mtval")), (cause, tval), "{word:#x}");
    }
    let mut bench = Bench::new(&[i(0x67, 0, 0, 5, 0)]);
    bench.cluster.set_x(0, 5, PORT);
    bench.step(2);
    assert_eq!(
        (bench.field("mcause"), bench.field("mepc"), bench.icount),
        (1, PORT, 2),
        "no code in devices"
    );
}

#[test]
fn attention_ends_the_run_after_the_instruction() {
    let mut bench = Bench::new(&[sw(0, 5, 0), addi(10, 0, 1), SPIN]);
    bench.cluster.set_x(0, 5, PORT);
    bench.board.attention = true;
    assert_eq!((bench.step(10), bench.icount), (ExitReason::Attention, 1));
}

#[test]
fn misaligned_atomics_fault_and_plain_accesses_do_not() {
    let cases =
        [(r(0x2f, 3, 0, 10, 5, 0), 6), (r(0x2f, 2, 2 << 2, 10, 5, 0), 4), (r(0x2f, 2, 3 << 2, 10, 5, 0), 6)];
    for (word, cause) in cases.into_iter().chain([(ld(10, 5, 0), 0), (sd(10, 5, 0), 0)]) {
        let mut bench = Bench::new(&[word, SPIN]);
        bench.cluster.set_x(0, 5, BASE + 0x8002);
        bench.step(1);
        assert_eq!(bench.field("mcause"), cause);
        assert_eq!(bench.field("mtval"), if cause == 0 { 0 } else { BASE + 0x8002 });
    }
}

#[test]
fn triggers_fire_before_execution_load_and_store() {
    // mcontrol: M-mode, and execute, load or store.
    for (kind, at, mepc) in
        [(4, BASE + 8, BASE + 8), (1, BASE + 0x8000, BASE + 12), (2, BASE + 0x8008, BASE + 16)]
    {
        let code = [csrrw(0, 0x7a2, 6), csrrw(0, 0x7a1, 5), NOP, ld(10, 7, 0), sd(7, 7, 8), SPIN];
        let mut bench = Bench::new(&code);
        bench.cluster.set_x(0, 5, 2 << 60 | 1 << 6 | kind);
        bench.cluster.set_x(0, 6, at);
        bench.cluster.set_x(0, 7, BASE + 0x8000);
        bench.put(HANDLER, &[SPIN]);
        bench.step(8);
        assert_eq!((bench.field("mcause"), bench.field("mtval"), bench.field("mepc")), (3, at, mepc));
        assert_eq!(bench.get_u64(BASE + 0x8008), 0);
    }
}

#[test]
fn cache_blocks_need_their_enables_and_zero_whole_blocks() {
    let zero = 0x0042_a00f; // cbo.zero (t0)
    let mut bench = below_machine(&[zero, SPIN], 1);
    bench.cluster.set_x(0, 5, BASE + 0x8048);
    bench.step(1);
    assert_eq!((bench.field("mcause"), bench.field("mtval")), (2, zero.into()));
    let mut bench = below_machine(&[zero, SPIN], 1);
    bench.cluster.set_x(0, 5, BASE + 0x8048);
    bench.set_field(0, "menvcfg", 1 << 7);
    for at in [0x8038, 0x8040, 0x8078, 0x8080] {
        bench.put_u64(BASE + at, u64::MAX);
    }
    bench.step(1);
    let left = [0x8038, 0x8040, 0x8078, 0x8080].map(|at| bench.get_u64(BASE + at));
    assert_eq!(left, [u64::MAX, 0, 0, u64::MAX]);
    // Zicntr's time is the bus's.
    assert_eq!(write_read(0x340, 5), 5);
}
