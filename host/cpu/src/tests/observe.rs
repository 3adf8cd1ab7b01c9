//! What is told of harts, against what is plain from the program.

use super::support::*;
use crate::{
    AccessKind, BlockEnd, BlockRun, Engine, Interest, MemoryAccess, Observation, Privilege, TrapReturn,
    TrapTaken,
};
use crate::{ExitReason, HartConfig, Irq};

const BLOCKS: Interest = Interest { blocks: true, accesses: false, traps: false };
const ALL: Interest = Interest { blocks: true, accesses: true, traps: true };
const MACHINE: Privilege = Privilege::Machine;

fn watched(code: &[u32], interest: Interest) -> Bench {
    let mut bench = Bench::new(code);
    bench.cluster.set_observed(interest);
    bench
}

fn block(icount: u64, pc: u64, instructions: u64, end: BlockEnd) -> Observation {
    let (bytes, privilege) = (4 * instructions, MACHINE);
    Observation::Block(BlockRun { hart: 0, icount, pc, bytes, instructions, privilege, satp: 0, end })
}

fn access(icount: u64, kind: AccessKind, va: u64, size: u64, value: u64) -> Observation {
    let pc = BASE + 4 * icount;
    Observation::Access(MemoryAccess { hart: 0, icount, pc, kind, va, size, value })
}

#[test]
fn blocks_are_what_was_executed_in_one_go() {
    // A branch that is taken every other time, in the middle of what is one block.
    let code = [addi(5, 5, 1), i(0x13, 7, 6, 5, 1), branch(1, 6, 0, 8), NOP, NOP, jal(0, -20)];
    let mut bench = watched(&code, BLOCKS);
    assert_eq!(bench.step(13), ExitReason::Limit);
    let ends = BASE + 16;
    let (next, jump) = (BlockEnd::Next, BlockEnd::Jump);
    let expected =
        [block(0, BASE, 3, jump), block(3, ends, 2, jump), block(5, BASE, 6, jump), block(11, BASE, 2, next)];
    assert_eq!(bench.board.observed, expected);
    // How a run is cut is how its blocks are: no instruction is told twice, and none is left out.
    let mut cut = watched(&code, BLOCKS);
    cut.run_in_slices(13, 1);
    let pcs = cut.board.observed.iter().map(|what| match what {
        Observation::Block(run) if run.instructions == 1 => run.pc,
        other => panic!("{other:?}"),
    });
    let whole = expected.iter().flat_map(|what| match what {
        Observation::Block(run) => (0..run.instructions).map(|n| run.pc + 4 * n),
        other => panic!("{other:?}"),
    });
    assert!(pcs.eq(whole));
}

#[test]
fn compressed_instructions_take_half_the_room() {
    // c.li a0,1; c.j 0
    let mut bench = watched(&[0xa001_4505], BLOCKS);
    bench.step(2);
    let Observation::Block(run) = bench.board.observed[0] else { panic!("{:?}", bench.board.observed) };
    assert_eq!((run.bytes, run.instructions), (4, 2));
}

#[test]
fn accesses_have_their_addresses_and_values() {
    let data = BASE + 0x8000;
    let amo = |funct5: u32, funct3: u32, rd, rs1, rs2| r(0x2f, funct3, funct5 << 2, rd, rs1, rs2);
    let code = [
        sd(6, 5, 8),
        i(0x03, 0, 7, 5, 9), // lb: sign-extended in the register
        i(0x03, 2, 0, 5, 8), // lw to x0
        amo(0, 3, 8, 5, 6),  // amoadd.d
        amo(2, 2, 9, 5, 0),  // lr.w
        amo(3, 2, 9, 5, 6),  // sc.w
        amo(3, 2, 9, 5, 6),  // sc.w: nothing reserved
        ld(5, 5, 0),         // over its own base
        ld(7, 28, 0),        // from a device
        sw(6, 28, 4),
        i(0x0f, 2, 0, 29, 4), // cbo.zero
        ld(7, 30, 0),         // from nowhere
    ];
    let mut bench = watched(&code, Interest { blocks: false, ..ALL });
    let value = 0xfedc_ba98_7654_82f0;
    for (register, value) in [(5, data), (6, value), (28, PORT), (29, data + 0x44), (30, PORT + 0x1000)] {
        bench.cluster.set_x(0, register, value);
    }
    bench.put_u64(data, 100);
    bench.step(12);
    use AccessKind::{Atomic, Load, Store};
    let sum = value.wrapping_add(100);
    let stored = sum & !0xffff_ffff | value & 0xffff_ffff;
    let trap = TrapTaken {
        hart: 0,
        icount: 11,
        cause: 5,
        epc: BASE + 44,
        tval: PORT + 0x1000,
        from: MACHINE,
        to: MACHINE,
        handler: HANDLER,
    };
    let expected = [
        access(0, Store, data + 8, 8, value),
        access(1, Load, data + 9, 1, 0x82),
        access(2, Load, data + 8, 4, 0x7654_82f0),
        access(3, Atomic, data, 8, 100),
        access(4, Load, data, 4, sum & 0xffff_ffff),
        access(5, Store, data, 4, value & 0xffff_ffff),
        access(7, Load, data, 8, stored),
        access(8, Load, PORT, 8, 0x42),
        access(9, Store, PORT + 4, 4, value & 0xffff_ffff),
        access(10, Store, data + 0x40, 64, 0),
        Observation::Trap(trap),
    ];
    assert_eq!(bench.board.observed, expected);
}

#[test]
fn traps_are_told_by_every_engine() {
    for engine in Engine::ALL {
        // An exception delegated to S-mode from U-mode, at whose handler an interrupt waits for M-mode.
        let mut bench = watched(&[ECALL], Interest { traps: true, ..Interest::default() });
        if bench.cluster.set_engine(engine).is_err() {
            continue;
        }
        let handler = BASE + 0x4000;
        bench.put(handler, &[NOP, NOP]);
        bench.put(HANDLER, &[MRET]);
        for (name, value) in [("privilege", 0), ("medeleg", 1 << 8), ("stvec", handler), ("mie", 1 << 7)] {
            bench.set_field(0, name, value);
        }
        bench.allow_everything();
        bench.step(2);
        bench.cluster.set_irq(0, Irq::Mtip, true);
        bench.step(1);
        let back =
            TrapReturn { hart: 0, icount: 2, pc: handler + 4, from: MACHINE, to: Privilege::Supervisor };
        let trap = |icount, cause, epc, from, to, handler| {
            Observation::Trap(TrapTaken { hart: 0, icount, cause, epc, tval: 0, from, to, handler })
        };
        let (user, supervisor) = (Privilege::User, Privilege::Supervisor);
        assert_eq!(
            bench.board.observed,
            [
                trap(0, 8, BASE, user, supervisor, handler),
                trap(2, 1 << 63 | 7, handler + 4, supervisor, MACHINE, HANDLER),
                Observation::Return(back),
            ],
            "{engine}"
        );
    }
}

#[test]
fn nobody_who_does_not_ask_is_told() {
    let mut bench = Bench::with(2, HartConfig::default(), &[addi(5, 5, 1), sd(5, 2, 0), jal(0, -8)]);
    bench.cluster.set_observed(ALL);
    bench.step_hart(1, 2);
    let hart = |what: &Observation| match what {
        Observation::Block(run) => run.hart,
        Observation::Access(access) => access.hart,
        Observation::Trap(trap) => trap.hart,
        Observation::Return(back) => back.hart,
    };
    assert_eq!(bench.board.observed.iter().map(hart).collect::<Vec<_>>(), [1, 1]);
    bench.cluster.set_observed(Interest::default());
    bench.step_hart(0, 50);
    assert_eq!(bench.board.observed.len(), 2);
}

#[test]
fn calls_and_returns_are_known_by_their_registers() {
    let jalr = |rd, rs1, imm| i(0x67, 0, rd, rs1, imm);
    // A call, a return, a jump by a register, a call that falls to what is behind it, ebreak, mret.
    let code = [jal(1, 20), jalr(0, 6, 28), NOP, NOP, NOP, jalr(0, 1, 0), NOP, jal(5, 4), 0x0010_0073];
    let mut bench = watched(&code, BLOCKS);
    bench.put(HANDLER, &[addi(7, 0, 1), MRET]);
    bench.cluster.set_x(0, 6, BASE);
    bench.step(7);
    let ends: Vec<BlockEnd> = bench
        .board
        .observed
        .iter()
        .map(|what| match what {
            Observation::Block(run) => run.end,
            other => panic!("{other:?}"),
        })
        .collect();
    use BlockEnd::{Call, Jump, Return, Trap, TrapReturn};
    assert_eq!(ends, [Call, Return, Jump, Call, Trap, TrapReturn]);
}
