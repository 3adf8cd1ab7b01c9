//! Every way to write a page is noticed, also when the page's dirty flag was taken in between.

use super::coherence::{LEAVES, paged};
use super::support::*;
use crate::{Follower, PAGE_DIRTY};

/// The page that the tests write, and the one behind it.
const DATA: u64 = BASE + 0x40000;

fn take(bench: &Bench) -> Vec<u64> {
    let mut pages = Vec::new();
    bench.ram.take_dirty(Follower::Digest, |page| pages.push(BASE + page as u64 * 4096));
    pages
}

/// `body`, then a jump back to it: t0 = where the body writes.
fn looped(body: &[u32], at: u64) -> Bench {
    let mut code = body.to_vec();
    code.push(jal(0, -4 * body.len() as i32));
    let mut bench = Bench::new(&code);
    // FS on, for stores of floating-point registers.
    bench.set_field(0, "mstatus", bench.field("mstatus") | 3 << 13);
    bench.cluster.set_x(0, 5, at);
    bench.cluster.set_x(0, 6, 1);
    bench
}

fn store_op(opcode: u32, funct3: u32) -> u32 {
    r(opcode, funct3, 0, 0, 5, 6)
}

fn atomic(funct5: u32, funct3: u32, rd: u32, rs2: u32) -> u32 {
    r(0x2f, funct3, funct5 << 2, rd, 5, rs2)
}

/// The instructions that store: name and body. Several rounds in one run fill the fast path.
fn stores() -> Vec<(String, Vec<u32>)> {
    let mut all = Vec::new();
    for funct3 in 0..4 {
        all.push((format!("store of 1 << {funct3} bytes"), vec![store_op(0x23, funct3)]));
    }
    for funct3 in 1..4 {
        all.push((format!("store of 1 << {funct3} bytes of f"), vec![store_op(0x27, funct3)]));
    }
    for funct3 in 2..4 {
        for funct5 in [0, 1, 4, 8, 12, 16, 20, 24, 28] {
            all.push((format!("AMO {funct5:#x}.{funct3}"), vec![atomic(funct5, funct3, 7, 6)]));
        }
        all.push((format!("LR/SC.{funct3}"), vec![atomic(2, funct3, 7, 0), atomic(3, funct3, 7, 6)]));
    }
    all.push(("cbo.zero".into(), vec![i(0x0f, 2, 0, 5, 4)]));
    all
}

#[test]
fn every_store_instruction_marks_its_page_again() {
    for (name, body) in stores() {
        let mut bench = looped(&body, DATA);
        take(&bench);
        for round in 0..4 {
            bench.steps(20);
            assert_eq!(take(&bench), [DATA], "{name}, round {round}");
        }
    }
}

#[test]
fn a_store_across_pages_marks_both_again() {
    let mut bench = looped(&[store_op(0x23, 3)], DATA + 0xffc);
    take(&bench);
    for _ in 0..3 {
        bench.steps(20);
        assert_eq!(take(&bench), [DATA, DATA + 0x1000]);
    }
}

#[test]
fn a_store_beside_code_marks_its_page_again() {
    // The page is watched, so the fast path is never installed for it.
    let mut bench = looped(&[store_op(0x23, 3)], BASE + 0x800);
    take(&bench);
    for _ in 0..3 {
        bench.steps(20);
        assert_eq!(take(&bench), [BASE]);
    }
}

#[test]
fn harts_that_run_later_lose_their_fast_path_too() {
    let mut bench = Bench::with(2, crate::HartConfig::default(), &[store_op(0x23, 3), jal(0, -4)]);
    for hart in 0..2 {
        bench.cluster.set_x(hart, 5, DATA + 0x1000 * hart as u64);
        bench.step_hart(hart, 20);
    }
    take(&bench);
    bench.step_hart(0, 20);
    assert_eq!(take(&bench), [DATA]);
    bench.step_hart(1, 20);
    assert_eq!(take(&bench), [DATA + 0x1000]);
    bench.step_hart(0, 20);
    assert_eq!(take(&bench), [DATA]);
}

#[test]
fn a_follower_that_takes_costs_the_other_nothing() {
    let mut bench = looped(&[store_op(0x23, 3)], DATA);
    take(&bench);
    bench.ram.take_dirty(Follower::Snapshot, |_| {});
    bench.steps(20);
    bench.ram.take_dirty(Follower::Snapshot, |_| {});
    assert_eq!(take(&bench), [DATA]);
    bench.steps(20);
    assert_eq!(take(&bench), [DATA]);
}

#[test]
fn accessed_and_dirty_bits_mark_the_page_table() {
    for (instruction, bits) in [(ld(10, 0, 0), 0x40), (sd(10, 0, 0), 0xc0)] {
        let mut bench = paged(&[instruction, SPIN]);
        // ADUE: the walk sets the bits itself.
        bench.set_field(0, "menvcfg", bench.field("menvcfg") | 1 << 61);
        let clear = bench.get_u64(LEAVES) & !0xc0;
        for round in 0..3 {
            bench.put_u64(LEAVES, clear);
            bench.cluster.set_pc(0, BASE);
            take(&bench);
            bench.steps(1);
            assert_eq!(bench.get_u64(LEAVES), clear | bits);
            assert!(take(&bench).contains(&LEAVES), "bits {bits:#x}, round {round}");
        }
    }
}

#[test]
fn devices_mark_what_they_write_by_either_way() {
    let mut bench = Bench::new(&[sw(0, 5, 0), jal(0, -4)]);
    bench.cluster.set_x(0, 5, PORT);
    bench.board.dma = Some((bench.ram.clone(), DATA + 0xfff, vec![1; 4098]));
    take(&bench);
    for _ in 0..3 {
        bench.steps(10);
        assert_eq!(take(&bench), [DATA, DATA + 0x1000, DATA + 0x2000]);
    }
    // A window of a device sets the flag by hand and owes a note for watched pages only.
    bench.ram.note_write(DATA, 1);
    assert_eq!(bench.ram.page_flags(0x40) & PAGE_DIRTY, PAGE_DIRTY);
    assert_eq!(take(&bench), [DATA]);
}
