use super::*;
use crate::disasm::disassemble;

fn decoder() -> Decoder {
    Decoder::new(&HartConfig::default())
}

/// Values for the bits a row leaves free: all clear, all set, and mixtures.
fn fillings(row: &Row) -> impl Iterator<Item = u32> {
    let (bits, mask) = (row.encoding.bits, row.encoding.mask);
    [0, !0, 0x5555_5555, 0xaaaa_aaaa, 0x1234_5678, 0xfedc_ba98].map(|free| bits | free & !mask).into_iter()
}

#[test]
fn every_row_decodes_to_itself_and_disassembles_to_its_name() {
    let decoder = decoder();
    for row in ROWS {
        assert_eq!(row.encoding.bits & !row.encoding.mask, 0, "{}", row.name);
        let mut own = 0;
        for word in fillings(row) {
            let op = decoder.decode(word);
            // A filling may hit a row that is cut out of this one.
            let other = op.kind.row().expect("decodes to something");
            let specific = other.encoding.mask.count_ones() >= row.encoding.mask.count_ones();
            assert!(specific, "{word:#x} of {} decodes to {}", row.name, other.name);
            if op.kind == row.kind {
                own += 1;
                let text = disassemble(word, 0);
                assert!(text.starts_with(&row.name.replace('_', ".")), "{text} for {}", row.name);
            }
        }
        assert!(own > 0, "{} is never decoded", row.name);
    }
}

#[test]
fn no_two_rows_are_the_same_or_overlap_without_one_containing_the_other() {
    for (i, a) in ROWS.iter().enumerate() {
        for b in &ROWS[i + 1..] {
            let (a, b) = (a, b);
            let common = a.encoding.mask & b.encoding.mask;
            let overlap = (a.encoding.bits ^ b.encoding.bits) & common == 0;
            let nested = common == a.encoding.mask || common == b.encoding.mask;
            assert!(!overlap || nested && a.encoding.mask != b.encoding.mask, "{} and {}", a.name, b.name);
        }
    }
}

#[test]
fn kinds_index_their_rows() {
    for row in ROWS {
        assert_eq!(row.kind.row().map(|found| found.name), Some(row.name));
    }
    assert!(Kind::illegal.row().is_none());
}

#[test]
fn extensions_that_are_off_are_illegal() {
    let none = Decoder::new(&HartConfig { zfh: false, zicbo: false, ..HartConfig::default() });
    for row in ROWS {
        let decoded = none.decode(row.encoding.bits).kind == row.kind;
        let off =
            matches!(row.name, n if n.starts_with("cbo_")) || row.extension == crate::isa::Extension::Zfh;
        assert_eq!(decoded, !off, "{}", row.name);
    }
}

#[test]
fn immediates_are_extracted_whole() {
    let decoder = decoder();
    let imm = |word| decoder.decode(word).imm;
    assert_eq!(imm(0x8005_0513), -2048);
    assert_eq!(imm(0x7ff5_0513), 2047);
    assert_eq!(imm(0x80b5_3023), -2048);
    assert_eq!(imm(0x7eb5_3fa3), 2047);
    assert_eq!(imm(0x8000_0063), -4096);
    assert_eq!(imm(0x7e00_0fe3), 4094);
    assert_eq!(imm(0x8000_006f), -(1 << 20));
    assert_eq!(imm(0x7fff_f06f), (1 << 20) - 2);
    assert_eq!(imm(0xffff_f0b7), -4096);
    assert_eq!(imm(0x03f5_1513), 63);
}

#[test]
fn destination_x0_is_a_sink_for_integers_only() {
    let decoder = decoder();
    assert_eq!(decoder.decode(0x0000_0013).rd, Reg::Sink);
    assert_eq!(decoder.decode(0x0005_3007).rd, Reg::X0); // fld ft0, 0(a0)
    assert_eq!(decoder.decode(0xa205_2053).rd, Reg::Sink); // feq.d zero, fa0, ft0
}

/// All 65536 halfwords: what decodes is what the C table says, and reserved forms stay illegal.
#[test]
fn compressed_space_is_covered() {
    let decoder = decoder();
    let mut legal = 0;
    for half in 0..=u16::MAX {
        if half & 3 == 3 {
            continue;
        }
        let op = decoder.decode(half.into());
        assert_eq!((op.len, op.word), (2, half.into()));
        legal += usize::from(op.kind != Kind::illegal);
    }
    for reserved in [0x0000u32, 0x8000, 0x2001, 0x6101, 0x6081, 0x9c41, 0x9c61, 0x4002, 0x6002, 0x8002] {
        assert_eq!(decoder.decode(reserved).kind, Kind::illegal, "{reserved:#x}");
    }
    // 49152 minus: addi4spn with no immediate, funct3 100 of quadrant 0, addiw to x0, lui and addi16sp of zero, the two
    // holes beside addw, lwsp and ldsp to x0, jr of x0.
    assert_eq!(legal, 49152 - 8 - 2048 - 64 - 32 - 128 - 2 * 64 - 1);
    for row in compressed::ROWS {
        assert_eq!(row.bits & !row.mask, 0, "{}", row.name);
    }
}

#[test]
fn compressed_expansions_match_the_assembler() {
    // As GNU as encodes the pairs.
    let pairs = [
        (0x1141, "addi sp,sp,-16"),
        (0x0068, "addi a0,sp,12"),
        (0x717d, "addi sp,sp,-16"),
        (0xe406, "sd ra,8(sp)"),
        (0x60a2, "ld ra,8(sp)"),
        (0x4502, "lw a0,0(sp)"),
        (0x411c, "lw a5,0(a0)"),
        (0x651c, "ld a5,8(a0)"),
        (0xe51c, "sd a5,8(a0)"),
        (0x67c1, "lui a5,0x10"),
        (0x8d9d, "sub a1,a1,a5"),
        (0x9dbd, "addw a1,a1,a5"),
        (0x87aa, "add a5,zero,a0"),
        (0x97aa, "add a5,a5,a0"),
        (0x8082, "jalr zero,0(ra)"),
        (0x9782, "jalr ra,0(a5)"),
        (0xbfd5, "jal zero,0xfffffffffffffff4"),
        (0xdbfd, "beq a5,zero,0xfffffffffffffff6"),
        (0x9101, "srli a0,a0,32"),
        (0x1502, "slli a0,a0,32"),
        (0x2108, "fld fa0,0(a0)"),
        (0xa508, "fsd fa0,8(a0)"),
    ];
    for (half, text) in pairs {
        assert_eq!(disassemble(half, 0), text, "{half:#x}");
    }
}
