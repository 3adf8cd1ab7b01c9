//! What a hart is about to do can be seen without a trace.

use super::support::*;
use crate::Upcoming;

const ROOT: u64 = BASE + 0x1_0000;

fn upcoming(bench: &Bench) -> (String, Option<u64>) {
    let Upcoming { pc, text, operand_gpa } = bench.cluster.upcoming(0).unwrap();
    assert_eq!(pc, bench.cluster.pc(0));
    (text, operand_gpa)
}

#[test]
fn the_next_instruction_and_its_operand_are_seen() {
    let mut bench = Bench::new(&[lui(5, 0x10000), ld(6, 5, -8), sw(6, 5, 4), i(0x67, 0, 0, 5, 8)]);
    bench.put(HANDLER, &[0x4501]);
    assert_eq!(upcoming(&bench), ("lui t0,0x10000".into(), None));
    bench.step(1);
    assert_eq!(upcoming(&bench), ("ld t1,-8(t0)".into(), Some(PORT - 8)));
    // The load traps, to a compressed instruction.
    bench.step(1);
    assert_eq!(upcoming(&bench), ("addi a0,zero,0".into(), None));
    bench.cluster.set_pc(0, BASE + 8);
    assert_eq!(upcoming(&bench), ("sw t1,4(t0)".into(), Some(PORT + 4)));
    bench.cluster.set_pc(0, BASE + 12);
    assert_eq!(upcoming(&bench), ("jalr zero,8(t0)".into(), None), "a jump goes to no data");
    bench.cluster.set_pc(0, PORT);
    assert_eq!(bench.cluster.upcoming(0), None);
}

#[test]
fn page_tables_are_followed_and_left_alone() {
    let mut bench = Bench::new(&[ld(10, 5, 0x10)]);
    // Sv39: a gigapage at 0x4000_0000 for the RAM, not accessed; a 4 KiB page through two tables for the port.
    let (table, last) = (ROOT + 0x1000, ROOT + 0x2000);
    bench.put_u64(ROOT + 8, BASE >> 2 | 0xf);
    bench.put_u64(ROOT, table >> 2 | 1);
    bench.put_u64(table, last >> 2 | 1);
    bench.put_u64(last + 8, PORT >> 2 | 7);
    bench.set_field(0, "satp", 8 << 60 | ROOT >> 12);
    bench.set_field(0, "privilege", 1);
    bench.cluster.set_pc(0, 0x4000_0000);
    bench.cluster.set_x(0, 5, 0x1000);
    let before = bench.cluster.save(0);
    assert_eq!(upcoming(&bench), ("ld a0,16(t0)".into(), Some(PORT + 0x10)));
    assert_eq!(bench.get_u64(ROOT + 8), BASE >> 2 | 0xf, "looking does not access");
    assert_eq!(bench.cluster.save(0), before);
    bench.cluster.set_x(0, 5, 0x2000);
    assert_eq!(upcoming(&bench), ("ld a0,16(t0)".into(), None), "nothing is mapped there");
    bench.cluster.set_pc(0, 0x8000_0000);
    assert_eq!(bench.cluster.upcoming(0), None);
}
