//! The threaded interpreter's own hazards: its depth of calls, and pairs of instructions that are one.

use super::support::*;
use crate::isa::{Kind, ROWS};
use crate::{Engine, ExitReason};

/// Instructions of the long run.
const LONG: u64 = 100_000_000;
/// What it takes to make a hart; a call for each instruction would take a thousand times as much.
const STACK_BYTES: usize = 1 << 20;

/// A loop with a load, a store, one that crosses pages and so is not usual, and branches, that goes on for ever.
fn endless() -> Bench {
    let mut code = vec![lui(9, (BASE >> 12) as u32), addi(8, 0, 0)];
    code.extend([
        addi(8, 8, 1),
        addi(10, 8, 3),
        r(0x33, 0, 0, 11, 10, 8),
        // On a page of its own: what is written beside code leaves.
        sd(11, 2, 0),
        ld(12, 2, 0),
        branch(1, 11, 12, 16),
        slli(13, 12, 5),
        r(0x33, 4, 0, 14, 13, 12),
        ld(15, 2, -4),
        jal(0, -36),
        SPIN,
    ]);
    let mut bench = Bench::new(&code);
    bench.cluster.set_x(0, 2, BASE + 0x8000);
    bench
}

/// Were a handler's last call one that returns, this would be a hundred million calls deep. A build with debug
/// assertions makes none, so `.ci/run` has it in a release build.
#[test]
fn a_long_run_needs_little_stack() {
    let run = || {
        let mut bench = endless();
        bench.cluster.set_engine(Engine::Threaded).unwrap();
        assert_eq!(bench.step(LONG), ExitReason::Limit);
        (bench.icount, bench.x(8))
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap();
    // Two before the loop, ten a round, and the last one is begun.
    assert_eq!(thread.join().unwrap(), (LONG, (LONG - 2).div_ceil(10)));
}

/// Every pair of quick instructions, stopped after each of them and run through: as the reference does it.
#[test]
fn a_pair_counts_as_two() {
    let word = |name: &str, rd: u32, rs1: u32, rs2: u32| {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let filling = rd << 7 | rs1 << 15 | rs2 << 20;
        row.encoding.bits | filling & !row.encoding.mask
    };
    let mut pairs = 0;
    for first in ROWS {
        for second in ROWS.iter().filter(|second| crate::threaded::is_pair(first.kind, second.kind)) {
            pairs += 1;
            let base = if first.kind == Kind::jalr { 10 } else { 9 };
            let code = [
                NOP,
                word(first.name, 10, base, 11),
                word(second.name, 12, 9, 10),
                NOP,
                addi(13, 13, 1),
                NOP,
            ];
            for stop in 1..=6 {
                let ends = [Engine::Interp, Engine::Threaded].map(|engine| {
                    let mut bench = Bench::new(&code);
                    bench.cluster.set_engine(engine).unwrap();
                    bench.cluster.set_x(0, 9, BASE + 0x8000);
                    bench.cluster.set_x(0, 11, 7);
                    bench.put_u64(BASE + 0x8000, 0x8765_4321_fedc_ba98);
                    // Once to know the blocks and pages, and once more.
                    bench.steps(stop);
                    bench.cluster.set_pc(0, BASE);
                    bench.steps(stop);
                    (bench.icount, bench.cluster.save(0))
                });
                assert!(ends[0] == ends[1], "{} {} for {stop}", first.name, second.name);
            }
        }
    }
    assert!(pairs > 100, "{pairs}");
}
