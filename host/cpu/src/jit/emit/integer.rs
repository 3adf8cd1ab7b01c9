//! Templates of integer computation: RV64I, M, Zba, Zbb, Zbs, Zicond.

use super::super::asm::{Alu, Bit, Cc, Gpr, Rm, Shift, Unary, Widen, Width};
use super::{Emitter, bit};
use crate::isa::{Kind, Op, Reg};

use Gpr::{Rax, Rcx, Rdx};
use Width::{D, Q};

impl Emitter<'_> {
    /// Whether there is a template for this instruction here: then it is emitted.
    pub(super) fn integer(&mut self, op: &Op) -> bool {
        self.base(op) || self.shifts(op) || self.multiply(op) || self.bits(op) || self.single_bits(op)
    }

    fn base(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::fence => {}
            Kind::addi => self.add_immediate(op),
            Kind::addiw => self.add_immediate_word(op),
            Kind::xori => self.logic_immediate(op, Alu::Xor),
            Kind::ori => self.logic_immediate(op, Alu::Or),
            Kind::andi => self.logic_immediate(op, Alu::And),
            Kind::slti => self.set_less_immediate(op, Cc::Less),
            Kind::sltiu => self.set_less_immediate(op, Cc::Below),
            Kind::slt => self.set_less(op, Cc::Less),
            Kind::sltu => self.set_less(op, Cc::Below),
            Kind::add => self.add(op),
            Kind::sub => self.binary(op, Alu::Sub, Q, false),
            Kind::xor => self.binary(op, Alu::Xor, Q, true),
            Kind::or => self.binary(op, Alu::Or, Q, true),
            Kind::and => self.binary(op, Alu::And, Q, true),
            Kind::addw => self.binary(op, Alu::Add, D, true),
            Kind::subw => self.binary(op, Alu::Sub, D, false),
            _ => return false,
        }
        true
    }

    /// `value` of this width goes to rd.
    pub(super) fn put_width(&mut self, rd: Reg, value: Gpr, width: Width) {
        match width {
            D => self.put_word(rd, value),
            Q => self.put(rd, value),
        }
    }

    pub(super) fn load_width(&mut self, into: Gpr, reg: Reg, width: Width) {
        match width {
            D => self.load_word(into, reg),
            Q => self.load(into, reg),
        }
    }

    /// Where as much of `reg` is as this width asks for.
    fn home_width(&mut self, reg: Reg, width: Width) -> Rm {
        match width {
            D => self.homes.place(reg),
            Q => self.home(reg),
        }
    }

    /// The low half of rd was written where it is.
    pub(super) fn is_word(&mut self, rd: Reg) {
        self.owed.delayed.forget(rd);
        self.owed.words |= bit(rd);
        self.narrow |= bit(rd);
    }

    fn add_immediate(&mut self, op: &Op) {
        let target = self.target(op.rd, Rax);
        if op.imm == 0 && self.owed.words & bit(op.rs1) != 0 {
            self.load_word(target, op.rs1);
            return self.put_word(op.rd, target);
        } else if op.imm == 0 {
            self.load(target, op.rs1);
        } else if op.rd == op.rs1 && self.homes.pinned(op.rd).is_some() {
            let at = self.home(op.rd);
            self.a.alu_imm(Alu::Add, Q, at, op.imm);
            return self.written(op.rd);
        } else {
            let source = self.get(op.rs1, Rax);
            self.a.lea(Q, target, Rm::Mem(source, op.imm));
        }
        self.put(op.rd, target);
    }

    fn add_immediate_word(&mut self, op: &Op) {
        let target = self.target(op.rd, Rax);
        if op.imm == 0 && self.homes.pinned(op.rd).is_none() && op.rs1 != Reg::X0 {
            // It has to be loaded anyway, so that its sign costs nothing.
            self.a.widen(Widen::S32, Rax, self.homes.place(op.rs1));
            self.put(op.rd, Rax);
            self.narrow |= bit(op.rd);
            return;
        } else if op.imm == 0 {
            self.load_word(target, op.rs1);
        } else if op.rd == op.rs1 && self.homes.pinned(op.rd).is_some() {
            self.a.alu_imm(Alu::Add, D, self.homes.place(op.rd), op.imm);
            return self.is_word(op.rd);
        } else {
            let source = self.get_word(op.rs1, Rax);
            self.a.lea(D, target, Rm::Mem(source, op.imm));
        }
        self.put_word(op.rd, target);
    }

    fn logic_immediate(&mut self, op: &Op, alu: Alu) {
        // A sign-extended immediate and a word make a word.
        let width = if self.as_words(op.rs1, op.rs1) { D } else { Q };
        // In memory it would take longer: the host forwards what a plain move stored.
        if op.rd == op.rs1 && self.homes.pinned(op.rd).is_some() {
            let at = self.home_width(op.rd, width);
            self.a.alu_imm(alu, width, at, op.imm);
            match width {
                D => self.is_word(op.rd),
                Q => self.written(op.rd),
            }
            return;
        }
        let target = self.target(op.rd, Rax);
        if alu == Alu::And && op.imm == 255 && op.rs1 != Reg::X0 {
            self.a.widen(Widen::U8, target, self.homes.place(op.rs1));
            self.put(op.rd, target);
            self.narrow |= bit(op.rd);
            return;
        }
        self.load_width(target, op.rs1, width);
        self.a.alu_imm(alu, width, target, op.imm);
        self.put_width(op.rd, target, width);
    }

    /// rd = whether `cc`.
    pub(super) fn put_flag(&mut self, rd: Reg, cc: Cc) {
        self.a.set(cc, Rax);
        let target = self.target(rd, Rax);
        self.a.widen(Widen::U8, target, Rax);
        self.put(rd, target);
        self.narrow |= bit(rd);
    }

    fn set_less_immediate(&mut self, op: &Op, cc: Cc) {
        if op.rs1 == Reg::X0 {
            self.a.zero(Rax);
            self.a.alu_imm(Alu::Cmp, Q, Rax, op.imm);
        } else {
            let width = if self.as_words(op.rs1, op.rs1) { D } else { Q };
            let at = self.home_width(op.rs1, width);
            self.a.alu_imm(Alu::Cmp, width, at, op.imm);
        }
        self.put_flag(op.rd, cc);
    }

    fn set_less(&mut self, op: &Op, cc: Cc) {
        self.compare(op.rs1, op.rs2);
        self.put_flag(op.rd, cc);
    }

    fn add(&mut self, op: &Op) {
        if let (Some(a), Some(b), Some(target)) =
            (self.homes.pinned(op.rs1), self.homes.pinned(op.rs2), self.homes.pinned(op.rd))
            && target != a
            && target != b
        {
            self.extend(op.rs1);
            self.extend(op.rs2);
            self.a.lea_scaled(target, a, b, 0);
            return self.written(op.rd);
        }
        self.binary(op, Alu::Add, Q, true);
    }

    fn binary(&mut self, op: &Op, alu: Alu, width: Width, commutes: bool) {
        let (mut a, mut b) = (op.rs1, op.rs2);
        if commutes && (b == op.rd || a == Reg::X0) {
            std::mem::swap(&mut a, &mut b);
        }
        let logic = matches!(alu, Alu::And | Alu::Or | Alu::Xor);
        let width = if logic && self.as_words(a, b) { D } else { width };
        if width == Q {
            self.extend(b);
        }
        // The destination may be the second operand, which is still needed.
        let work = if b == op.rd && a != op.rd { Rax } else { self.target(op.rd, Rax) };
        self.load_width(work, a, width);
        match b {
            Reg::X0 if alu == Alu::And => self.a.zero(work),
            Reg::X0 => {}
            _ => self.a.alu(alu, width, work, self.homes.place(b)),
        }
        self.put_width(op.rd, work, width);
    }

    fn shifts(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::slli => self.shift_immediate(op, Shift::Shl, Q),
            Kind::srli => self.shift_immediate(op, Shift::Shr, Q),
            Kind::srai => self.shift_immediate(op, Shift::Sar, Q),
            Kind::rori => self.shift_immediate(op, Shift::Ror, Q),
            Kind::slliw => self.shift_immediate(op, Shift::Shl, D),
            Kind::srliw => self.shift_immediate(op, Shift::Shr, D),
            Kind::sraiw => self.shift_immediate(op, Shift::Sar, D),
            Kind::roriw => self.shift_immediate(op, Shift::Ror, D),
            Kind::sll => self.shift(op, Shift::Shl, Q),
            Kind::srl => self.shift(op, Shift::Shr, Q),
            Kind::sra => self.shift(op, Shift::Sar, Q),
            Kind::rol => self.shift(op, Shift::Rol, Q),
            Kind::ror => self.shift(op, Shift::Ror, Q),
            Kind::sllw => self.shift(op, Shift::Shl, D),
            Kind::srlw => self.shift(op, Shift::Shr, D),
            Kind::sraw => self.shift(op, Shift::Sar, D),
            Kind::rolw => self.shift(op, Shift::Rol, D),
            Kind::rorw => self.shift(op, Shift::Ror, D),
            _ => return false,
        }
        true
    }

    fn shift_immediate(&mut self, op: &Op, shift: Shift, width: Width) {
        let by = op.imm as u8 & if width == Q { 63 } else { 31 };
        let target = self.target(op.rd, Rax);
        self.load_width(target, op.rs1, width);
        if by != 0 {
            self.a.shift(shift, width, target, by);
        }
        self.put_width(op.rd, target, width);
    }

    fn shift(&mut self, op: &Op, shift: Shift, width: Width) {
        // The count is out of the way before the destination is written. x86 takes it modulo 64 or 32, too.
        self.load_word(Rcx, op.rs2);
        let target = self.target(op.rd, Rax);
        self.load_width(target, op.rs1, width);
        self.a.shift_cl(shift, width, target);
        self.put_width(op.rd, target, width);
    }

    fn multiply(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::mul => self.low_product(op, Q),
            Kind::mulw => self.low_product(op, D),
            Kind::mulh => self.high_product(op, Unary::Imul),
            Kind::mulhu => self.high_product(op, Unary::Mul),
            Kind::mulhsu => self.mixed_product(op),
            Kind::div => self.divide(op, Q, true, false),
            Kind::divu => self.divide(op, Q, false, false),
            Kind::rem => self.divide(op, Q, true, true),
            Kind::remu => self.divide(op, Q, false, true),
            Kind::divw => self.divide(op, D, true, false),
            Kind::divuw => self.divide(op, D, false, false),
            Kind::remw => self.divide(op, D, true, true),
            Kind::remuw => self.divide(op, D, false, true),
            _ => return false,
        }
        true
    }

    fn low_product(&mut self, op: &Op, width: Width) {
        self.load_width(Rax, op.rs1, width);
        let b = self.get_width(op.rs2, Rcx, width);
        self.a.imul(width, Rax, b);
        self.put_width(op.rd, Rax, width);
    }

    fn high_product(&mut self, op: &Op, by: Unary) {
        self.load(Rax, op.rs1);
        let b = self.get(op.rs2, Rcx);
        self.a.unary(by, Q, b);
        self.put(op.rd, Rdx);
    }

    /// Signed by unsigned: the unsigned product, less the second factor if the first is negative.
    fn mixed_product(&mut self, op: &Op) {
        self.load(Rax, op.rs1);
        let b = self.get(op.rs2, Rcx);
        self.a.unary(Unary::Mul, Q, b);
        self.load(Rax, op.rs1);
        self.a.shift(Shift::Sar, Q, Rax, 63);
        self.a.alu(Alu::And, Q, Rax, b);
        self.a.alu(Alu::Sub, Q, Rdx, Rax);
        self.put(op.rd, Rdx);
    }

    /// Division by zero and overflow, where x86 faults, have results here.
    fn divide(&mut self, op: &Op, width: Width, signed: bool, remainder: bool) {
        self.load_width(Rcx, op.rs2, width);
        self.load_width(Rax, op.rs1, width);
        self.a.test(width, Rcx, Rcx);
        let by_zero = self.a.branch_ahead(Cc::Equal);
        let by_minus_one = signed.then(|| {
            self.a.alu_imm(Alu::Cmp, width, Rcx, -1);
            self.a.branch_ahead(Cc::Equal)
        });
        if signed {
            self.a.sign_extend_rax(width);
            self.a.unary(Unary::Idiv, width, Rcx);
        } else {
            self.a.zero(Rdx);
            self.a.unary(Unary::Div, width, Rcx);
        }
        let divided = self.a.jump_ahead();
        self.a.bind(by_zero);
        if remainder {
            self.a.copy(Rdx, Rax);
        } else {
            self.a.mov_imm(Rax, u64::MAX);
        }
        if let Some(by_minus_one) = by_minus_one {
            let done = self.a.jump_ahead();
            self.a.bind(by_minus_one);
            if remainder {
                self.a.zero(Rdx);
            } else {
                self.a.unary(Unary::Neg, width, Rax);
            }
            self.a.bind(done);
        }
        self.a.bind(divided);
        self.put_width(op.rd, if remainder { Rdx } else { Rax }, width);
    }

    fn bits(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::add_uw => self.add_unsigned_word(op),
            Kind::sh1add => self.shift_add(op, 1, false),
            Kind::sh2add => self.shift_add(op, 2, false),
            Kind::sh3add => self.shift_add(op, 3, false),
            Kind::sh1add_uw => self.shift_add(op, 1, true),
            Kind::sh2add_uw => self.shift_add(op, 2, true),
            Kind::sh3add_uw => self.shift_add(op, 3, true),
            Kind::slli_uw => {
                self.load_word(Rax, op.rs1);
                self.a.shift(Shift::Shl, Q, Rax, op.imm as u8 & 63);
                self.put(op.rd, Rax);
            }
            Kind::andn => self.complemented(op, Some(Alu::And)),
            Kind::orn => self.complemented(op, Some(Alu::Or)),
            Kind::xnor => self.complemented(op, None),
            Kind::min => self.choose(op, Cc::Greater),
            Kind::minu => self.choose(op, Cc::Above),
            Kind::max => self.choose(op, Cc::Less),
            Kind::maxu => self.choose(op, Cc::Below),
            Kind::sext_b => self.widen_source(op, Widen::S8),
            Kind::sext_h => self.widen_source(op, Widen::S16),
            Kind::zext_h => self.widen_source(op, Widen::U16),
            Kind::clz => self.leading_zeros(op, Q),
            Kind::clzw => self.leading_zeros(op, D),
            Kind::ctz => self.trailing_zeros(op, Q),
            Kind::ctzw => self.trailing_zeros(op, D),
            Kind::cpop => return self.count_ones(op, Q),
            Kind::cpopw => return self.count_ones(op, D),
            Kind::rev8 => {
                self.load(Rax, op.rs1);
                self.a.bswap(Rax);
                self.put(op.rd, Rax);
            }
            _ => return false,
        }
        true
    }

    fn add_unsigned_word(&mut self, op: &Op) {
        self.load_word(Rax, op.rs1);
        if op.rs2 != Reg::X0 {
            let at = self.home(op.rs2);
            self.a.alu(Alu::Add, Q, Rax, at);
        }
        self.put(op.rd, Rax);
    }

    fn shift_add(&mut self, op: &Op, scale: u8, word: bool) {
        let index = if word {
            self.load_word(Rax, op.rs1);
            Rax
        } else {
            self.get(op.rs1, Rax)
        };
        let base = self.get(op.rs2, Rcx);
        let target = self.target(op.rd, Rax);
        self.a.lea_scaled(target, base, index, scale);
        self.put(op.rd, target);
    }

    /// `rs1 op !rs2`, or the complement of rs1 ^ rs2.
    fn complemented(&mut self, op: &Op, alu: Option<Alu>) {
        self.load(Rax, op.rs2);
        if alu.is_some() {
            self.a.unary(Unary::Not, Q, Rax);
        }
        let a = self.get(op.rs1, Rcx);
        self.a.alu(alu.unwrap_or(Alu::Xor), Q, Rax, a);
        if alu.is_none() {
            self.a.unary(Unary::Not, Q, Rax);
        }
        self.put(op.rd, Rax);
    }

    /// rs1, or rs2 if `cc` of both.
    fn choose(&mut self, op: &Op, cc: Cc) {
        self.load(Rax, op.rs1);
        let b = self.get(op.rs2, Rcx);
        self.a.alu(Alu::Cmp, Q, Rax, b);
        self.a.cmov(cc, Q, Rax, b);
        self.put(op.rd, Rax);
    }

    fn widen_source(&mut self, op: &Op, from: Widen) {
        let source = self.get(op.rs1, Rax);
        let target = self.target(op.rd, Rax);
        self.a.widen(from, target, source);
        self.put(op.rd, target);
    }

    /// By the index of the highest bit, as not every host has `lzcnt`.
    fn leading_zeros(&mut self, op: &Op, width: Width) {
        let highest: u64 = if width == Q { 63 } else { 31 };
        let source = self.get(op.rs1, Rax);
        self.a.mov_imm(Rcx, 2 * highest + 1);
        self.a.scan_reverse(width, Rax, source);
        self.a.cmov(Cc::Equal, Q, Rax, Rcx);
        self.a.alu_imm(Alu::Xor, D, Rax, highest as i32);
        self.put(op.rd, Rax);
    }

    fn trailing_zeros(&mut self, op: &Op, width: Width) {
        let source = self.get(op.rs1, Rax);
        self.a.mov_imm(Rcx, if width == Q { 64 } else { 32 });
        self.a.scan_forward(width, Rax, source);
        self.a.cmov(Cc::Equal, Q, Rax, Rcx);
        self.put(op.rd, Rax);
    }

    fn count_ones(&mut self, op: &Op, width: Width) -> bool {
        if !std::arch::is_x86_feature_detected!("popcnt") {
            return false;
        }
        let source = self.get(op.rs1, Rax);
        self.a.popcnt(width, Rax, source);
        self.put(op.rd, Rax);
        true
    }

    fn single_bits(&mut self, op: &Op) -> bool {
        match op.kind {
            Kind::bclr | Kind::bclri => self.change_bit(op, Bit::Reset),
            Kind::bset | Kind::bseti => self.change_bit(op, Bit::Set),
            Kind::binv | Kind::binvi => self.change_bit(op, Bit::Complement),
            Kind::bext | Kind::bexti => self.extract_bit(op),
            Kind::czero_eqz => self.zero_if(op, Cc::Equal),
            Kind::czero_nez => self.zero_if(op, Cc::NotEqual),
            _ => return false,
        }
        true
    }

    fn change_bit(&mut self, op: &Op, bit: Bit) {
        if matches!(op.kind, Kind::bclri | Kind::bseti | Kind::binvi) {
            self.load(Rax, op.rs1);
            self.a.bit_imm(bit, Rax, op.imm as u8 & 63);
        } else {
            self.load(Rcx, op.rs2);
            self.load(Rax, op.rs1);
            self.a.bit(bit, Rax, Rcx);
        }
        self.put(op.rd, Rax);
    }

    fn extract_bit(&mut self, op: &Op) {
        if op.kind == Kind::bexti {
            self.load(Rax, op.rs1);
            self.a.shift(Shift::Shr, Q, Rax, op.imm as u8 & 63);
        } else {
            self.load(Rcx, op.rs2);
            self.load(Rax, op.rs1);
            self.a.shift_cl(Shift::Shr, Q, Rax);
        }
        self.a.alu_imm(Alu::And, D, Rax, 1);
        self.put(op.rd, Rax);
    }

    /// rs1, or zero if rs2 is `cc` zero.
    fn zero_if(&mut self, op: &Op, cc: Cc) {
        self.load(Rax, op.rs1);
        let b = self.get(op.rs2, Rcx);
        self.a.mov_imm(Rdx, 0);
        self.a.test(Q, b, b);
        self.a.cmov(cc, Q, Rax, Rdx);
        self.put(op.rd, Rax);
    }
}
