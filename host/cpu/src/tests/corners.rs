//! Corners of the manuals, and places where a cache might be seen.

use super::support::*;
use crate::ExitReason;

/// The breakpoint that `word`, with t0 = BASE + 0x8000 + `skew`, runs into with a trigger of this kind on that
/// address: its cause and address, and whether memory is as it was.
fn triggered(word: u32, kind: u64, skew: u64) -> (u64, u64, bool) {
    let at = BASE + 0x8000 + skew;
    let mut bench = Bench::new(&[csrrw(0, 0x7a2, 5), csrrw(0, 0x7a1, 6), word, SPIN]);
    bench.put(HANDLER, &[SPIN]);
    bench.put_u64(BASE + 0x8000, 1);
    bench.cluster.set_x(0, 5, at);
    bench.cluster.set_x(0, 6, 2 << 60 | 1 << 6 | kind);
    bench.step(3);
    (bench.field("mcause"), bench.field("mtval"), bench.get_u64(BASE + 0x8000) == 1)
}

const LOADS: u64 = 1;
const STORES: u64 = 2;

#[test]
fn triggers_see_an_amo_as_load_and_store_and_come_before_misalignment() {
    let amoadd = r(0x2f, 3, 0, 10, 5, 5);
    let lr = r(0x2f, 3, 2 << 2, 10, 5, 0);
    let sc = r(0x2f, 3, 3 << 2, 10, 5, 5);
    let hits = |skew| (3, BASE + 0x8000 + skew, true);
    for skew in [0, 1] {
        assert_eq!(triggered(amoadd, LOADS, skew), hits(skew), "the load of an AMO");
        assert_eq!(triggered(amoadd, STORES, skew), hits(skew), "the store of an AMO");
        assert_eq!(triggered(lr, LOADS, skew), hits(skew));
        assert_eq!(triggered(sc, STORES, skew), hits(skew));
    }
    assert_eq!(triggered(lr, STORES, 0), (0, 0, true), "LR is a load only");
    assert_eq!(triggered(sc, LOADS, 0), (0, 0, true), "SC is a store only");
    assert_eq!(triggered(lr, STORES, 1).0, 4);
}

#[test]
fn triggers_see_cache_block_operations_as_stores() {
    for operation in [0, 1, 2, 4] {
        let word = i(0x0f, 2, 0, 5, operation);
        assert_eq!(triggered(word, STORES, 8), (3, BASE + 0x8008, true), "{word:#x}");
        assert_eq!(triggered(word, LOADS, 8).0, 0, "{word:#x}");
    }
}

/// The bits of the entry of page 0 after `word` ran in S-mode on that page, and the cause and address of its trap.
fn on_page(word: u32, bits: u64, adue: bool) -> (u64, u64, u64) {
    let mut bench = super::coherence::paged(&[word, SPIN]);
    let entry = (BASE + 0x20000) >> 12 << 10 | bits;
    bench.put_u64(super::coherence::LEAVES, entry);
    bench.set_field(0, "menvcfg", u64::from(adue) << 61 | 0xf0);
    bench.cluster.set_x(0, 5, 0x48);
    bench.step(1);
    (bench.get_u64(super::coherence::LEAVES) & 0x3ff, bench.field("mcause"), bench.field("mtval"))
}

#[test]
fn managing_a_cache_block_wants_a_right_and_the_accessed_bit_but_makes_nothing_dirty() {
    let (clean, zero) = (i(0x0f, 2, 0, 5, 1), i(0x0f, 2, 0, 5, 4));
    assert_eq!(on_page(clean, 0x07, true), (0x47, 0, 0), "A is set, D is not");
    assert_eq!(on_page(clean, 0x47, false), (0x47, 0, 0));
    assert_eq!(on_page(clean, 0x43, false), (0x43, 0, 0), "a page to read will do");
    assert_eq!(on_page(clean, 0x07, false), (0x07, 15, 0x48), "what is missing is reported as for a store");
    assert_eq!(on_page(clean, 0x49, false), (0x49, 15, 0x48));
    assert_eq!(on_page(zero, 0x07, true), (0xc7, 0, 0));
    assert_eq!(on_page(zero, 0x47, false), (0x47, 15, 0x48));
    assert_eq!(on_page(zero, 0x43, true), (0x43, 15, 0x48));
}

#[test]
fn attention_ends_the_run_also_after_an_access_that_was_refused() {
    for warm in [false, true] {
        let mut bench = Bench::new(&[NOP, ld(10, 5, 0x18), SPIN]);
        bench.put(HANDLER, &[addi(11, 11, 1), NOP, SPIN]);
        bench.cluster.set_x(0, 5, PORT);
        if warm {
            bench.step(6);
            bench.cluster.set_pc(0, BASE);
        }
        let start = bench.icount;
        bench.board.attention = true;
        assert_eq!((bench.step(10), bench.icount - start), (ExitReason::Attention, 2), "warm: {warm}");
        assert_eq!((bench.cluster.pc(0), bench.field("mcause")), (HANDLER, 5));
    }
}

#[test]
fn a_run_of_no_instructions_does_not_end_a_wait() {
    let mut bench = Bench::new(&[WFI, SPIN]);
    bench.set_field(0, "mie", 0x80);
    assert_eq!(bench.step(2), ExitReason::Wfi);
    bench.cluster.set_irq(0, crate::Irq::Mtip, true);
    assert_eq!(bench.step(0), ExitReason::Limit);
    assert!(bench.cluster.is_waiting(0));
    bench.step(1);
    assert!(!bench.cluster.is_waiting(0));
}

#[test]
fn a_device_that_writes_the_line_ends_a_wait_before_any_hart_runs() {
    let wrs_nto = 0x00d0_0073;
    let mut bench = Bench::new(&[r(0x2f, 3, 2 << 2, 10, 5, 0), wrs_nto, SPIN]);
    bench.cluster.set_x(0, 5, BASE + 0x8000);
    assert_eq!(bench.step(3), ExitReason::Wfi);
    bench.put_u64(BASE + 0x8040, 1);
    assert!(!bench.cluster.has_pending(0), "another line");
    bench.put_u64(BASE + 0x8008, 1);
    assert!(bench.cluster.has_pending(0));
}
