//! Caches are never seen: stores, DMA and page-table edits take effect at the next instruction.

use super::support::*;
use crate::{ExitReason, HartConfig};

/// t0 = BASE: the code page. t1 = an instruction from the table at BASE + 0x800.
fn patcher(tail: &[u32]) -> Bench {
    let mut code = vec![lui(5, 0x40000), slli(5, 5, 1), i(0x03, 6, 6, 5, 0x400)];
    code.extend(tail);
    let bench = Bench::new(&code);
    bench.put(BASE + 0x400, &[addi(10, 0, 7)]);
    bench
}

#[test]
fn a_store_into_its_own_block_is_seen_by_the_next_instruction() {
    let mut bench = patcher(&[sw(6, 5, 16), addi(10, 0, 1), SPIN]);
    bench.step(5);
    assert_eq!(bench.x(10), 7);
}

#[test]
fn a_store_into_a_block_that_ran_before_is_seen() {
    // loop: a0 = 1 or 7; patch; once more.
    let mut bench = patcher(&[addi(10, 0, 1), sw(6, 5, 12), addi(11, 11, 1), jal(0, -12)]);
    bench.step(3 + 4);
    assert_eq!((bench.x(10), bench.x(11)), (1, 1));
    bench.step(1);
    assert_eq!(bench.x(10), 7);
}

#[test]
fn data_beside_code_does_not_drop_it_but_is_stored() {
    let mut bench = patcher(&[sd(11, 5, 0x7f8), addi(11, 11, 1), jal(0, -8)]);
    bench.step(3 + 3 * 100);
    assert_eq!(bench.get_u64(BASE + 0x7f8), 99);
}

#[test]
fn dma_into_code_is_seen_by_the_next_instruction() {
    // A store to the port makes the device write the instruction that follows it.
    let mut bench = Bench::new(&[lui(5, 0x10000), sw(0, 5, 0), addi(10, 0, 1), SPIN]);
    bench.board.dma = Some((bench.ram.clone(), BASE + 8, addi(10, 0, 9).to_le_bytes().to_vec()));
    bench.step(3);
    assert_eq!(bench.x(10), 9);
    assert_eq!(bench.board.stores, [(PORT, 0, 1)]);
    // And between runs.
    bench.put(BASE + 12, &[addi(10, 0, 3)]);
    bench.step(1);
    assert_eq!(bench.x(10), 3);
}

#[test]
fn an_instruction_that_straddles_pages_follows_writes_to_both() {
    let mut bench = Bench::new(&[NOP]);
    let place = |bench: &Bench, word: u32| {
        bench.ram.write(BASE + 0x1ffe, &word.to_le_bytes()).unwrap();
        bench.ram.write(BASE + 0x2002, &jal(0, -4).to_le_bytes()).unwrap();
    };
    place(&bench, addi(10, 10, 1));
    bench.cluster.set_pc(0, BASE + 0x1ffe);
    bench.step(200);
    assert_eq!(bench.x(10), 100);
    // The immediate is in the second half, the destination in the first.
    bench.ram.write(BASE + 0x2000, &(addi(10, 10, 2) >> 16).to_le_bytes()[..2]).unwrap();
    bench.step(2);
    assert_eq!(bench.x(10), 102);
    place(&bench, addi(11, 10, 2));
    bench.step(2);
    assert_eq!((bench.x(10), bench.x(11)), (102, 104));
}

const ROOT: u64 = BASE + 0x10000;
const MIDDLE: u64 = BASE + 0x11000;
pub(super) const LEAVES: u64 = BASE + 0x12000;
/// V, R, W, X, A, D.
const RWX: u64 = 0xcf;

fn pte(pa: u64, bits: u64) -> u64 {
    pa >> 12 << 10 | bits
}

/// S-mode under Sv39: RAM is mapped to itself by a gigapage, and page 0 up by 4 KiB pages from `LEAVES`.
pub(super) fn paged(code: &[u32]) -> Bench {
    let mut bench = Bench::new(code);
    bench.put_u64(ROOT, pte(MIDDLE, 1));
    bench.put_u64(ROOT + 2 * 8, pte(BASE, RWX));
    bench.put_u64(MIDDLE, pte(LEAVES, 1));
    bench.put_u64(LEAVES, pte(BASE + 0x20000, RWX));
    bench.set_field(0, "satp", 8 << 60 | ROOT >> 12);
    bench.set_field(0, "privilege", 1);
    let mut fields = bench.cluster.save(0);
    fields.iter_mut().find(|(name, _)| name == "pmpaddr").unwrap().1[..8].copy_from_slice(&[0xff; 8]);
    fields.iter_mut().find(|(name, _)| name == "pmpcfg").unwrap().1[0] = 0x1f;
    bench.cluster.load(0, &fields).unwrap();
    bench
}

#[test]
fn a_page_table_edit_is_seen_at_once_without_a_fence() {
    // t0 = LEAVES; t1 = the new entry; load, edit, load again.
    let mut code = vec![lui(5, LEAVES as u32 >> 13), slli(5, 5, 1), ld(6, 5, 0x100)];
    code.extend([ld(10, 0, 0), sd(6, 5, 0), ld(11, 0, 0), SPIN]);
    let mut bench = paged(&code);
    bench.put_u64(LEAVES + 0x100, pte(BASE + 0x21000, RWX));
    bench.put_u64(BASE + 0x20000, 0xaaaa);
    bench.put_u64(BASE + 0x21000, 0xbbbb);
    bench.step(6);
    assert_eq!((bench.x(10), bench.x(11)), (0xaaaa, 0xbbbb));
    // And by DMA.
    bench.put_u64(LEAVES, pte(BASE + 0x20000, RWX));
    bench.cluster.set_pc(0, BASE + 3 * 4);
    bench.step(1);
    assert_eq!(bench.x(10), 0xaaaa);
}

#[test]
fn a_space_knows_nothing_of_another_that_a_load_brought_in() {
    // A user page in S-mode with SUM, which each space has for itself.
    const OTHER: u64 = BASE + 0x18000;
    const SUM: u64 = 1 << 18;
    const USER: u64 = 1 << 4;
    let mut bench = paged(&[csrrw(0, 0x180, 5), ld(10, 0, 0), jal(0, -8)]);
    // The same in other tables: root, middle and leaves, and another page at the end.
    for (at, entry) in [(ROOT, MIDDLE), (MIDDLE, LEAVES)] {
        bench.put_u64(at - ROOT + OTHER, pte(entry - ROOT + OTHER, 1));
    }
    bench.put_u64(OTHER + 2 * 8, pte(BASE, RWX));
    for (table, page, value) in [(LEAVES, BASE + 0x20000, 1), (LEAVES - ROOT + OTHER, BASE + 0x21000, 2)] {
        bench.put_u64(table, pte(page, RWX | USER));
        bench.put_u64(page, value);
    }
    let [here, there] = [ROOT, OTHER].map(|root| 8 << 60 | root >> 12);
    let mstatus = bench.field("mstatus") | SUM;
    bench.set_field(0, "mstatus", mstatus);
    bench.set_field(0, "satp", 0);
    let mut read = |satp: u64, load: bool| {
        if load {
            bench.set_field(0, "satp", satp);
        }
        bench.cluster.set_x(0, 5, satp);
        bench.step(3);
        bench.x(10)
    };
    let steps = [(here, false), (there, true), (here, false), (there, false), (here, true), (there, false)];
    let found = steps.map(|(satp, load)| read(satp, load));
    assert_eq!(found, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn another_last_table_is_walked_at_once() {
    // Two pages of one table are read, the entry that leads to the table changes, and a third page is read.
    const OTHER: u64 = BASE + 0x14000;
    let code =
        [ld(10, 0, 0), lui(5, 1), ld(11, 5, 0), sd(12, 6, 0), lui(5, 2), ld(13, 5, 0), ld(14, 0, 0), SPIN];
    let mut bench = paged(&code);
    for page in 0..3 {
        bench.put_u64(LEAVES + page * 8, pte(BASE + 0x20000, RWX));
        bench.put_u64(OTHER + page * 8, pte(BASE + 0x21000, RWX));
    }
    bench.put_u64(BASE + 0x20000, 1);
    bench.put_u64(BASE + 0x21000, 2);
    bench.cluster.set_x(0, 6, MIDDLE);
    bench.cluster.set_x(0, 12, pte(OTHER, 1));
    bench.step(7);
    assert_eq!([10, 11, 13, 14].map(|register| bench.x(register)), [1, 1, 2, 2]);
}

#[test]
fn a_page_of_a_device_that_becomes_ram_is_ram() {
    let access = [ld(10, 5, 0), sd(7, 5, 0), ld(11, 5, 0), sd(7, 5, 0)];
    let edit = [sd(12, 6, 0), ld(13, 5, 8), sd(7, 5, 16), SPIN];
    let mut bench = paged(&[&access[..], &edit[..]].concat());
    bench.put_u64(LEAVES + 5 * 8, pte(PORT, RWX));
    bench.put_u64(BASE + 0x21008, 0xbbbb);
    for (register, value) in [(5, 0x5000), (6, LEAVES + 5 * 8), (7, 0x77), (12, pte(BASE + 0x21000, RWX))] {
        bench.cluster.set_x(0, register, value);
    }
    bench.step(7);
    assert_eq!([10, 11, 13].map(|register| bench.x(register)), [0x42, 0x42, 0xbbbb]);
    assert_eq!(bench.board.stores.len(), 2, "the third went to RAM");
    assert_eq!(bench.get_u64(BASE + 0x21010), 0x77);
}

#[test]
fn a_last_table_that_may_be_read_in_part_is_asked_about_each_time() {
    let mut bench = paged(&[ld(10, 0, 0), ld(10, 0, 8), ld(11, 5, 0), SPIN]);
    bench.cluster.set_x(0, 5, 0x1ff << 12);
    let mut fields = bench.cluster.save(0);
    let mut set = |name: &str, bytes: &[u8]| {
        fields.iter_mut().find(|(field, _)| field == name).unwrap().1[..bytes.len()].copy_from_slice(bytes);
    };
    // Entry 0, NAPOT without rights: the second half of the table's page. Entry 1: the rest, with all rights.
    set("pmpaddr", &[(LEAVES + 0x800) >> 2 | 0xff, u64::MAX >> 10].map(u64::to_le_bytes).concat());
    set("pmpcfg", &[0x18, 0x1f]);
    bench.cluster.load(0, &fields).unwrap();
    bench.step(2);
    assert_eq!(bench.field("mcause"), 0, "entries 0 to 255 may be read");
    bench.step(1);
    assert_eq!((bench.field("mcause"), bench.field("mtval")), (5, 0x1ff << 12), "entry 511 may not");
}

#[test]
fn a_store_that_unmaps_its_own_code_is_its_last() {
    let mut bench = paged(&[SPIN]);
    bench.put(BASE + 0x20000, &[sd(0, 5, 0), addi(10, 10, 1), SPIN]);
    bench.cluster.set_x(0, 5, LEAVES);
    bench.cluster.set_pc(0, 0);
    bench.step(2);
    assert_eq!((bench.field("mcause"), bench.field("mepc"), bench.x(10)), (12, 4, 0));
}

#[test]
fn code_follows_its_mapping() {
    let mut bench = paged(&[SPIN]);
    bench.put(BASE + 0x20000, &[addi(10, 10, 1), SPIN]);
    bench.put(BASE + 0x21000, &[addi(10, 10, 100), SPIN]);
    for (page, sum) in [(0x20000, 1), (0x21000, 101), (0x20000, 102)] {
        bench.put_u64(LEAVES, pte(BASE + page, RWX));
        bench.cluster.set_pc(0, 0);
        bench.step(3);
        assert_eq!(bench.x(10), sum);
    }
}

#[test]
fn a_table_that_becomes_data_is_forgotten() {
    // Fill the leaf table's page with stores, far more often than a table is written.
    let mut code = vec![lui(5, LEAVES as u32 >> 13), slli(5, 5, 1), ld(10, 0, 0)];
    code.extend([sd(11, 5, 0x200), addi(11, 11, 1), jal(0, -8)]);
    let mut bench = paged(&code);
    bench.step(3 + 3 * 3000);
    assert_eq!(bench.get_u64(LEAVES + 0x200), 2999);
    assert_eq!(bench.field("mcause"), 0);
}

#[test]
fn accessed_and_dirty_follow_adue() {
    let code = [ld(10, 0, 0), sd(10, 0, 8), SPIN];
    let clean = pte(BASE + 0x20000, RWX & !0xc0);
    let mut bench = paged(&code);
    bench.put_u64(LEAVES, clean);
    bench.step(1);
    assert_eq!((bench.field("mcause"), bench.field("mepc")), (13, BASE));
    assert_eq!(bench.get_u64(LEAVES), clean);
    let mut bench = paged(&code);
    bench.set_field(0, "menvcfg", 1 << 61);
    bench.put_u64(LEAVES, clean);
    bench.step(1);
    assert_eq!(bench.get_u64(LEAVES), clean | 0x40, "a load sets A");
    bench.step(1);
    assert_eq!(bench.get_u64(LEAVES), clean | 0xc0, "a store sets D");
    assert_eq!(bench.cluster.pc(0), BASE + 8);
    let only_hardware = HartConfig { svade: false, ..HartConfig::default() };
    assert_eq!(Bench::with(1, only_hardware, &code).field("menvcfg"), 1 << 61);
}

#[test]
fn napot_and_page_based_memory_types() {
    let code = [lui(5, 3), ld(10, 5, 0), SPIN];
    let run = |entry: u64, menvcfg: u64| {
        let mut bench = paged(&code);
        bench.set_field(0, "menvcfg", menvcfg);
        bench.put_u64(LEAVES + 3 * 8, entry);
        bench.put_u64(BASE + 0x33000, 0x1234);
        bench.step(2);
        (bench.field("mcause"), bench.x(10))
    };
    let napot = pte(BASE + 0x38000, RWX) | 1 << 63;
    assert_eq!(run(napot, 0), (0, 0x1234), "64 KiB from the one entry");
    assert_eq!(run(pte(BASE + 0x34000, RWX) | 1 << 63, 0).0, 13, "only 64 KiB exist");
    let io = pte(BASE + 0x33000, RWX) | 2 << 61;
    assert_eq!(run(io, 0).0, 13, "PBMT is reserved while menvcfg.PBMTE is off");
    assert_eq!(run(io, 1 << 62), (0, 0x1234));
    assert_eq!(run(pte(BASE + 0x33000, RWX) | 3 << 61, 1 << 62).0, 13);
}

#[test]
fn misaligned_accesses_cross_pages_and_report_the_page_that_fails() {
    let mut bench = paged(&[lui(5, 1), ld(10, 5, -4), SPIN]);
    bench.put_u64(LEAVES + 8, pte(BASE + 0x30000, RWX));
    bench.put_u64(BASE + 0x20ff8, 0x1111_1111_0000_0000);
    bench.put_u64(BASE + 0x30000, 0x2222_2222);
    bench.step(2);
    assert_eq!(bench.x(10), 0x2222_2222_1111_1111);
    bench.put_u64(LEAVES + 8, 0);
    bench.cluster.set_pc(0, BASE + 4);
    bench.step(1);
    assert_eq!((bench.field("mcause"), bench.field("mtval")), (13, 0x1000));
}

/// a0 = hart number; t0 = a line in RAM; hart 0 reserves, waits for its next turn, stores conditionally.
fn reservation() -> Bench {
    let lr = r(0x2f, 3, 2 << 2, 6, 5, 0);
    let sc = r(0x2f, 3, 3 << 2, 7, 5, 10);
    Bench::with(2, HartConfig::default(), &[lui(5, 0x40020), slli(5, 5, 1), lr, NOP, sc, SPIN])
}

#[test]
fn a_reservation_survives_other_harts_until_one_stores_to_the_line() {
    for (offset, fails) in [(0x38, 1), (0x40, 0), (-8, 0)] {
        let mut bench = reservation();
        bench.put(BASE + 0x800, &[lui(5, 0x40020), slli(5, 5, 1), sd(5, 5, offset), SPIN]);
        bench.cluster.set_pc(1, BASE + 0x800);
        // The other hart knows the page already.
        bench.step_hart(1, 3);
        bench.cluster.set_pc(1, BASE + 0x808);
        bench.step_hart(0, 3);
        bench.step_hart(1, 2);
        bench.cluster.drop_caches();
        bench.step_hart(0, 2);
        assert_eq!(bench.x(7), fails, "store at {offset}");
    }
}

#[test]
fn a_page_is_watched_only_while_a_reservation_in_it_is_held() {
    let watched = |bench: &Bench| bench.ram.page_flags(0x40) & crate::PAGE_WATCHED != 0;
    let mut bench = reservation();
    bench.step(3);
    assert!(watched(&bench), "its hart does not run");
    bench.put_u64(BASE + 0x40000, 1);
    bench.step(1);
    assert!(!watched(&bench), "lost");
    bench.cluster.set_pc(0, BASE + 8);
    bench.step(1);
    assert!(watched(&bench));
    bench.cluster.reset(0, crate::Entry::default());
    assert!(!watched(&bench), "reset");
}

#[test]
fn dma_breaks_a_reservation_and_a_trap_does() {
    let mut bench = reservation();
    bench.step(3);
    bench.put_u64(BASE + 0x40008, 1);
    bench.step(2);
    assert_eq!(bench.x(7), 1);
    let mut bench = reservation();
    bench.put(BASE + 12, &[ECALL]);
    bench.put(HANDLER, &[csrrs(28, 0x341, 0), addi(28, 28, 4), csrrw(0, 0x341, 28), MRET]);
    bench.step(3 + 1 + 4 + 1);
    assert_eq!((bench.x(7), bench.get_u64(BASE + 0x40000)), (1, 0));
}

#[test]
fn a_load_is_not_touched_by_what_a_device_wrote_before_it() {
    let mut bench = reservation();
    bench.step(3);
    let saved = bench.cluster.save(0);
    bench.put_u64(BASE + 0x40008, 1);
    bench.cluster.load(0, &saved).expect("just saved");
    bench.step(2);
    assert_eq!(bench.x(7), 0, "the restored reservation holds");
}

#[test]
fn what_a_device_wrote_counts_in_what_is_saved() {
    let mut bench = reservation();
    bench.step(3);
    bench.put_u64(BASE + 0x40008, 1);
    let saved = bench.cluster.save(0);
    bench.cluster.load(0, &saved).expect("just saved");
    assert_eq!(bench.cluster.save(0), saved);
    bench.step(2);
    assert_eq!(bench.x(7), 1, "the reservation was lost before the save");
}

#[test]
fn a_hart_that_waits_on_a_reservation_wakes_when_it_is_lost() {
    let mut bench = reservation();
    bench.put(BASE + 12, &[0x00d0_0073]); // wrs.nto
    assert_eq!(bench.step(10), ExitReason::Wfi);
    assert_eq!((bench.icount, bench.cluster.is_waiting(0), bench.cluster.has_pending(0)), (4, true, false));
    assert_eq!(bench.step(10), ExitReason::Wfi);
    bench.put_u64(BASE + 0x40000, 5);
    assert_eq!(bench.step(1), ExitReason::Limit);
    assert_eq!(bench.x(7), 1);
}
