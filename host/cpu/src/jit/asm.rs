//! The x86-64 instructions that templates are made of, as bytes. Intel SDM volume 2; nothing here knows RISC-V.

mod sse;

pub(super) use sse::{Fused, Lanes, Precision, Scalar, Xmm};

/// General registers, by their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// The operand that may be memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rm {
    Reg(Gpr),
    Xmm(Xmm),
    /// Base and displacement.
    Mem(Gpr, i32),
    /// Base, index (not rsp) and displacement.
    Indexed(Gpr, Gpr, i32),
}

impl From<Gpr> for Rm {
    fn from(reg: Gpr) -> Rm {
        Rm::Reg(reg)
    }
}

/// Operand size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// 32 bits; a register's upper half becomes zero.
    D,
    Q,
}

/// Two-operand arithmetic, by its number in the opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts and rotations, by their number in the ModRM byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Shift {
    Rol = 0,
    Ror = 1,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// One-operand arithmetic on rax and rdx or on its operand, by its number in the ModRM byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Unary {
    Not = 2,
    Neg = 3,
    Mul = 4,
    Imul = 5,
    Div = 6,
    Idiv = 7,
}

/// Single-bit operations, by their number in the ModRM byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Bit {
    Set = 5,
    Reset = 6,
    Complement = 7,
}

/// Conditions, by their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Cc {
    Overflow = 0,
    Below = 2,
    AboveEqual = 3,
    Equal = 4,
    NotEqual = 5,
    BelowEqual = 6,
    Above = 7,
    Parity = 10,
    NoParity = 11,
    Less = 12,
    GreaterEqual = 13,
    LessEqual = 14,
    Greater = 15,
}

impl Cc {
    /// The opposite.
    pub(super) fn negated(self) -> Cc {
        match self {
            Cc::Overflow | Cc::Parity | Cc::NoParity => unreachable!("no branch is about these"),
            Cc::Below => Cc::AboveEqual,
            Cc::AboveEqual => Cc::Below,
            Cc::Equal => Cc::NotEqual,
            Cc::NotEqual => Cc::Equal,
            Cc::Above => Cc::BelowEqual,
            Cc::BelowEqual => Cc::Above,
            Cc::Less => Cc::GreaterEqual,
            Cc::GreaterEqual => Cc::Less,
            Cc::Greater => Cc::LessEqual,
            Cc::LessEqual => Cc::Greater,
        }
    }
}

/// What to widen a loaded value from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Widen {
    S8,
    S16,
    S32,
    U8,
    U16,
}

/// Where a jump's displacement is yet to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) struct Fixup(u32);

/// A run of code in the making, at its offset in the code memory.
pub(super) struct Asm {
    bytes: Vec<u8>,
    origin: u32,
}

impl Asm {
    pub(super) fn new(origin: u32) -> Asm {
        Asm { bytes: Vec::with_capacity(64), origin }
    }

    /// Begins anew at another offset, in the same memory.
    pub(super) fn restart(&mut self, origin: u32) {
        self.bytes.clear();
        self.origin = origin;
    }

    /// Fills up until `ahead` more bytes will end at a multiple of `to`.
    pub(super) fn align(&mut self, to: u32, ahead: u32) {
        while !(self.here() + ahead).is_multiple_of(to) {
            self.byte(0xcc);
        }
    }

    /// Four bytes that are no instruction.
    pub(super) fn number(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Offset of the next instruction in the code memory.
    pub(super) fn here(&self) -> u32 {
        self.origin + self.bytes.len() as u32
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn dword(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Prefix, REX, opcode, ModRM, SIB, displacement. `byte_regs`: register operands are bytes, and need a REX to mean
    /// the low byte of rsp to rdi.
    fn encode(&mut self, prefix: Option<u8>, width: Width, opcode: &[u8], reg: u8, rm: Rm, byte_regs: bool) {
        let (x, b, low) = match rm {
            Rm::Reg(r) => (0, r as u8 >> 3, r as u8),
            Rm::Xmm(r) => (0, r as u8 >> 3, 0),
            Rm::Mem(base, _) => (0, base as u8 >> 3, 0),
            Rm::Indexed(base, index, _) => (index as u8 >> 3, base as u8 >> 3, 0),
        };
        let rex = 0x40 | u8::from(width == Width::Q) << 3 | (reg >> 3) << 2 | x << 1 | b;
        let high_bytes = byte_regs && (reg >= 4 || matches!(rm, Rm::Reg(_)) && low >= 4);
        // Put together first: the vector grows once.
        let mut start = [0; 5];
        let mut length = 0;
        let mut push = |byte| {
            start[length] = byte;
            length += 1;
        };
        if let Some(prefix) = prefix {
            push(prefix);
        }
        if rex != 0x40 || high_bytes {
            push(rex);
        }
        opcode.iter().for_each(|&byte| push(byte));
        self.bytes.extend_from_slice(&start[..length]);
        self.operands(reg & 7, rm);
    }

    fn operands(&mut self, reg: u8, rm: Rm) {
        let field = reg << 3;
        match rm {
            Rm::Reg(r) => self.byte(0xc0 | field | r as u8 & 7),
            Rm::Xmm(r) => self.byte(0xc0 | field | r as u8 & 7),
            Rm::Mem(base, disp) => {
                let base = base as u8 & 7;
                // rsp and r12 as a base are said by a SIB byte.
                self.displaced(field | base, (base == 4).then_some(0x24), base, disp);
            }
            Rm::Indexed(base, index, disp) => {
                assert!(index != Gpr::Rsp, "rsp is no index");
                let base = base as u8 & 7;
                self.displaced(field | 4, Some((index as u8 & 7) << 3 | base), base, disp);
            }
        }
    }

    /// ModRM with the shortest displacement; rbp and r13 as a base always have one.
    fn displaced(&mut self, modrm: u8, sib: Option<u8>, base: u8, disp: i32) {
        let short = i8::try_from(disp);
        let mode = match short {
            Ok(0) if base != 5 => 0,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        self.byte(modrm | mode);
        if let Some(sib) = sib {
            self.byte(sib);
        }
        match (mode, short) {
            (0, _) => {}
            (_, Ok(short)) => self.byte(short as u8),
            (_, Err(_)) => self.dword(disp),
        }
    }

    pub(super) fn alu(&mut self, op: Alu, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[(op as u8) << 3 | 3], dst as u8, src.into(), false);
    }

    /// The destination is memory.
    pub(super) fn alu_to(&mut self, op: Alu, width: Width, dst: Rm, src: Gpr) {
        self.encode(None, width, &[(op as u8) << 3 | 1], src as u8, dst, false);
    }

    pub(super) fn alu_imm(&mut self, op: Alu, width: Width, dst: impl Into<Rm>, imm: i32) {
        match i8::try_from(imm) {
            Ok(imm) => {
                self.encode(None, width, &[0x83], op as u8, dst.into(), false);
                self.byte(imm as u8);
            }
            Err(_) => {
                self.encode(None, width, &[0x81], op as u8, dst.into(), false);
                self.dword(imm);
            }
        }
    }

    /// Compares a byte in memory.
    pub(super) fn cmp_byte(&mut self, at: Rm, imm: u8) {
        self.encode(None, Width::D, &[0x80], 7, at, false);
        self.byte(imm);
    }

    pub(super) fn mov(&mut self, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[0x8b], dst as u8, src.into(), false);
    }

    /// `mov`, unless it would change nothing.
    pub(super) fn copy(&mut self, dst: Gpr, src: Gpr) {
        if dst != src {
            self.mov(Width::Q, dst, src);
        }
    }

    pub(super) fn store(&mut self, width: Width, dst: Rm, src: Gpr) {
        self.encode(None, width, &[0x89], src as u8, dst, false);
    }

    pub(super) fn store16(&mut self, dst: Rm, src: Gpr) {
        self.encode(Some(0x66), Width::D, &[0x89], src as u8, dst, false);
    }

    pub(super) fn store8(&mut self, dst: Rm, src: Gpr) {
        self.encode(None, Width::D, &[0x88], src as u8, dst, true);
    }

    /// Sign-extended to 64 bits if `Q`.
    pub(super) fn store_imm(&mut self, width: Width, dst: Rm, imm: i32) {
        self.encode(None, width, &[0xc7], 0, dst, false);
        self.dword(imm);
    }

    /// The shortest `mov` that makes the whole register `value`; flags stay.
    pub(super) fn mov_imm(&mut self, dst: Gpr, value: u64) {
        let low = dst as u8 & 7;
        if let Ok(value) = u32::try_from(value) {
            if dst as u8 >= 8 {
                self.byte(0x41);
            }
            self.byte(0xb8 | low);
            self.dword(value as i32);
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.encode(None, Width::Q, &[0xc7], 0, dst.into(), false);
            self.dword(value);
        } else {
            self.byte(0x48 | dst as u8 >> 3);
            self.byte(0xb8 | low);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `xor dst, dst`: changes flags.
    pub(super) fn zero(&mut self, dst: Gpr) {
        self.alu(Alu::Xor, Width::D, dst, dst);
    }

    pub(super) fn widen(&mut self, from: Widen, dst: Gpr, src: impl Into<Rm>) {
        let (width, opcode, byte): (Width, &[u8], bool) = match from {
            Widen::S8 => (Width::Q, &[0x0f, 0xbe], true),
            Widen::S16 => (Width::Q, &[0x0f, 0xbf], false),
            Widen::S32 => (Width::Q, &[0x63], false),
            Widen::U8 => (Width::D, &[0x0f, 0xb6], true),
            Widen::U16 => (Width::D, &[0x0f, 0xb7], false),
        };
        let src = src.into();
        self.encode(None, width, opcode, dst as u8, src, byte && matches!(src, Rm::Reg(_)));
    }

    pub(super) fn lea(&mut self, width: Width, dst: Gpr, address: Rm) {
        self.encode(None, width, &[0x8d], dst as u8, address, false);
    }

    /// `lea dst, [base + index * (1 << scale) + 0]`.
    pub(super) fn lea_scaled(&mut self, dst: Gpr, base: Gpr, index: Gpr, scale: u8) {
        assert!(index != Gpr::Rsp && scale < 4, "rsp is no index, and scales go to 8");
        let (d, b, x) = (dst as u8, base as u8, index as u8);
        self.byte(0x48 | (d >> 3) << 2 | (x >> 3) << 1 | b >> 3);
        self.byte(0x8d);
        self.byte(0x44 | (d & 7) << 3);
        self.byte(scale << 6 | (x & 7) << 3 | b & 7);
        self.byte(0);
    }

    pub(super) fn shift(&mut self, op: Shift, width: Width, dst: impl Into<Rm>, by: u8) {
        self.encode(None, width, &[0xc1], op as u8, dst.into(), false);
        self.byte(by);
    }

    /// `dst` = the low half of `src`, rotated right; bits that come in from the right are of no use to callers, so that
    /// a shift will do where the host has no BMI2.
    pub(super) fn rotate_into(&mut self, dst: Gpr, src: Gpr, by: u8) {
        if !std::arch::is_x86_feature_detected!("bmi2") {
            self.mov(Width::D, dst, src);
            self.shift(Shift::Shr, Width::D, dst, by);
            return;
        }
        self.rorx(Width::D, dst, src, by);
    }

    /// `dst` = `src`, rotated right. Flags may change.
    pub(super) fn rotate_right(&mut self, width: Width, dst: Gpr, src: Gpr, by: u8) {
        if std::arch::is_x86_feature_detected!("bmi2") && dst != src {
            return self.rorx(width, dst, src, by);
        }
        self.mov(width, dst, src);
        self.shift(Shift::Ror, width, dst, by);
    }

    /// VEX.LZ.F2.0F3A.W F0 /r ib
    fn rorx(&mut self, width: Width, dst: Gpr, src: Gpr, by: u8) {
        let (dst, src) = (dst as u8, src as u8);
        let wide = if width == Width::Q { 0x80 } else { 0 };
        self.byte(0xc4);
        self.byte(0x43 | ((dst >> 3) ^ 1) << 7 | ((src >> 3) ^ 1) << 5);
        self.bytes.extend_from_slice(&[0x7b | wide, 0xf0, 0xc0 | (dst & 7) << 3 | src & 7, by]);
    }

    /// By cl.
    pub(super) fn shift_cl(&mut self, op: Shift, width: Width, dst: Gpr) {
        self.encode(None, width, &[0xd3], op as u8, dst.into(), false);
    }

    pub(super) fn unary(&mut self, op: Unary, width: Width, operand: impl Into<Rm>) {
        self.encode(None, width, &[0xf7], op as u8, operand.into(), false);
    }

    /// `dst *= src`, the low half.
    pub(super) fn imul(&mut self, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[0x0f, 0xaf], dst as u8, src.into(), false);
    }

    /// rdx:rax (or edx:eax) = rax (eax), sign-extended.
    pub(super) fn sign_extend_rax(&mut self, width: Width) {
        if width == Width::Q {
            self.byte(0x48);
        }
        self.byte(0x99);
    }

    pub(super) fn test(&mut self, width: Width, a: impl Into<Rm>, b: Gpr) {
        self.encode(None, width, &[0x85], b as u8, a.into(), false);
    }

    pub(super) fn test_imm(&mut self, width: Width, a: impl Into<Rm>, imm: i32) {
        self.encode(None, width, &[0xf7], 0, a.into(), false);
        self.dword(imm);
    }

    /// The low byte of `dst` = whether `cc`.
    pub(super) fn set(&mut self, cc: Cc, dst: Gpr) {
        self.encode(None, Width::D, &[0x0f, 0x90 | cc as u8], 0, dst.into(), true);
    }

    pub(super) fn cmov(&mut self, cc: Cc, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[0x0f, 0x40 | cc as u8], dst as u8, src.into(), false);
    }

    /// Index of the lowest (`bsf`) set bit; zero sets ZF and leaves `dst` undefined.
    pub(super) fn scan_forward(&mut self, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[0x0f, 0xbc], dst as u8, src.into(), false);
    }

    /// Index of the highest (`bsr`) set bit; zero sets ZF and leaves `dst` undefined.
    pub(super) fn scan_reverse(&mut self, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(None, width, &[0x0f, 0xbd], dst as u8, src.into(), false);
    }

    /// Needs POPCNT.
    pub(super) fn popcnt(&mut self, width: Width, dst: Gpr, src: impl Into<Rm>) {
        self.encode(Some(0xf3), width, &[0x0f, 0xb8], dst as u8, src.into(), false);
    }

    /// `dst` with its 8 bytes in reverse order.
    pub(super) fn bswap(&mut self, dst: Gpr) {
        self.byte(0x48 | dst as u8 >> 3);
        self.byte(0x0f);
        self.byte(0xc8 | dst as u8 & 7);
    }

    /// Bit `bit` (taken modulo 64) of `dst`.
    pub(super) fn bit(&mut self, op: Bit, dst: Gpr, bit: Gpr) {
        let opcode = 0x83 | (op as u8) << 3;
        self.encode(None, Width::Q, &[0x0f, opcode], bit as u8, dst.into(), false);
    }

    pub(super) fn bit_imm(&mut self, op: Bit, dst: Gpr, bit: u8) {
        self.encode(None, Width::Q, &[0x0f, 0xba], op as u8, dst.into(), false);
        self.byte(bit);
    }

    pub(super) fn push(&mut self, reg: Gpr) {
        if reg as u8 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | reg as u8 & 7);
    }

    pub(super) fn pop(&mut self, reg: Gpr) {
        if reg as u8 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | reg as u8 & 7);
    }

    pub(super) fn ret(&mut self) {
        self.byte(0xc3);
    }

    pub(super) fn jump_to(&mut self, target: impl Into<Rm>) {
        self.encode(None, Width::D, &[0xff], 4, target.into(), false);
    }

    pub(super) fn call_to(&mut self, target: impl Into<Rm>) {
        self.encode(None, Width::D, &[0xff], 2, target.into(), false);
    }

    /// A displacement from behind itself to `target`.
    fn relative(&mut self, target: u32) {
        let from = i64::from(self.here()) + 4;
        self.dword((i64::from(target) - from) as i32);
    }

    pub(super) fn jump(&mut self, target: u32) {
        self.byte(0xe9);
        self.relative(target);
    }

    pub(super) fn call(&mut self, target: u32) {
        self.byte(0xe8);
        self.relative(target);
    }

    pub(super) fn branch(&mut self, cc: Cc, target: u32) {
        self.bytes.extend_from_slice(&[0x0f, 0x80 | cc as u8]);
        self.relative(target);
    }

    /// A jump that [`Asm::bind`] aims.
    pub(super) fn jump_ahead(&mut self) -> Fixup {
        self.byte(0xe9);
        self.dword(0);
        Fixup(self.here() - 4)
    }

    /// A conditional jump that [`Asm::bind`] aims.
    pub(super) fn branch_ahead(&mut self, cc: Cc) -> Fixup {
        self.bytes.extend_from_slice(&[0x0f, 0x80 | cc as u8]);
        self.dword(0);
        Fixup(self.here() - 4)
    }

    /// The jump leads here.
    pub(super) fn bind(&mut self, fixup: Fixup) {
        self.aim(fixup, self.here());
    }

    /// The jump leads to `target`.
    pub(super) fn aim(&mut self, fixup: Fixup, target: u32) {
        let at = (fixup.0 - self.origin) as usize;
        self.bytes[at..at + 4].copy_from_slice(&displacement(fixup.0, target));
    }

    /// Where in the code memory the displacement of a jump lies.
    pub(super) fn site(fixup: Fixup) -> u32 {
        fixup.0
    }
}

/// The displacement that makes the jump at `site` lead to `target`.
pub(super) fn displacement(site: u32, target: u32) -> [u8; 4] {
    ((i64::from(target) - i64::from(site) - 4) as i32).to_le_bytes()
}
