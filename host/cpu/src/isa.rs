//! The instruction table. Decoder, disassembler and dispatch are derived from it.
//!
//! A row is `name class module extension "operands" encoding`:
//! - `name` is the mnemonic with `.` turned into `_`; it is also the variant of [`Kind`] and the function
//!   `exec::module::name`.
//! - `class` says what the function looks like and what the run loop does after it: see `run.rs`.
//! - `operands` is the text of the operands, a letter for each field: `d s t` integer rd, rs1, rs2; `D S T R`
//!   floating-point rd, rs1, rs2, rs3; `m` rounding mode; `j` I immediate, `q` S immediate, `p` branch target, `a` jump
//!   target, `u` upper immediate, `>` six-bit and `<` five-bit shift amount, `E` CSR, `Z` five-bit unsigned immediate,
//!   `P` fence sets. The decoder reads from it which immediate to extract and whether rd is an integer register.
//! - the encoding gives the fixed bits and their mask.

macro_rules! registers {
    ($($name:ident)*) => {
        /// A register number. `X0..X31` also stand for `f0..f31`; `Sink` is where the decoder sends writes to `x0`.
        ///
        /// An enum and not a `u8`, because the compiler then knows that every value is in range of the register files
        /// and drops the bounds checks.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub(crate) enum Reg { $($name),* }

        impl Reg {
            const ALL: [Reg; 33] = [$(Reg::$name),*];
        }
    };
}
registers! {
    X0 X1 X2 X3 X4 X5 X6 X7 X8 X9 X10 X11 X12 X13 X14 X15
    X16 X17 X18 X19 X20 X21 X22 X23 X24 X25 X26 X27 X28 X29 X30 X31 Sink
}

impl Reg {
    /// The register in the low five bits of `field`.
    pub(crate) fn of(field: u32) -> Reg {
        Reg::ALL[(field & 31) as usize]
    }
}

/// The extensions that instructions belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extension {
    /// RV64I, Zifencei and the privileged architecture.
    Base,
    M,
    A,
    F,
    D,
    Zfh,
    Zfhmin,
    Zba,
    Zbb,
    Zbc,
    Zbs,
    Zicond,
    Zicsr,
    Zicbom,
    Zicboz,
    Zawrs,
    Svinval,
}

/// THE table: calls the macro `$m` with `$args` and every row.
macro_rules! for_each_insn {
    ($m:ident $(($($args:tt)*))?) => {
        $m! {
            $(($($args)*))?
            // RV64I
            lui         alu     i       Base      "d,u"        u(0x37);
            auipc       pcrel   i       Base      "d,u"        u(0x17);
            jal         jump    i       Base      "d,a"        u(0x6f);
            jalr        jump    i       Base      "d,j(s)"     i(0x67, 0);
            beq         branch  i       Base      "s,t,p"      i(0x63, 0);
            bne         branch  i       Base      "s,t,p"      i(0x63, 1);
            blt         branch  i       Base      "s,t,p"      i(0x63, 4);
            bge         branch  i       Base      "s,t,p"      i(0x63, 5);
            bltu        branch  i       Base      "s,t,p"      i(0x63, 6);
            bgeu        branch  i       Base      "s,t,p"      i(0x63, 7);
            lb          mem     mem     Base      "d,j(s)"     i(0x03, 0);
            lh          mem     mem     Base      "d,j(s)"     i(0x03, 1);
            lw          mem     mem     Base      "d,j(s)"     i(0x03, 2);
            ld          mem     mem     Base      "d,j(s)"     i(0x03, 3);
            lbu         mem     mem     Base      "d,j(s)"     i(0x03, 4);
            lhu         mem     mem     Base      "d,j(s)"     i(0x03, 5);
            lwu         mem     mem     Base      "d,j(s)"     i(0x03, 6);
            sb          mem     mem     Base      "t,q(s)"     i(0x23, 0);
            sh          mem     mem     Base      "t,q(s)"     i(0x23, 1);
            sw          mem     mem     Base      "t,q(s)"     i(0x23, 2);
            sd          mem     mem     Base      "t,q(s)"     i(0x23, 3);
            addi        alu     i       Base      "d,s,j"      i(0x13, 0);
            slti        alu     i       Base      "d,s,j"      i(0x13, 2);
            sltiu       alu     i       Base      "d,s,j"      i(0x13, 3);
            xori        alu     i       Base      "d,s,j"      i(0x13, 4);
            ori         alu     i       Base      "d,s,j"      i(0x13, 6);
            andi        alu     i       Base      "d,s,j"      i(0x13, 7);
            slli        alu     i       Base      "d,s,>"      shift(0x13, 1, 0x00);
            srli        alu     i       Base      "d,s,>"      shift(0x13, 5, 0x00);
            srai        alu     i       Base      "d,s,>"      shift(0x13, 5, 0x10);
            add         alu     i       Base      "d,s,t"      r(0x33, 0, 0x00);
            sub         alu     i       Base      "d,s,t"      r(0x33, 0, 0x20);
            sll         alu     i       Base      "d,s,t"      r(0x33, 1, 0x00);
            slt         alu     i       Base      "d,s,t"      r(0x33, 2, 0x00);
            sltu        alu     i       Base      "d,s,t"      r(0x33, 3, 0x00);
            xor         alu     i       Base      "d,s,t"      r(0x33, 4, 0x00);
            srl         alu     i       Base      "d,s,t"      r(0x33, 5, 0x00);
            sra         alu     i       Base      "d,s,t"      r(0x33, 5, 0x20);
            or          alu     i       Base      "d,s,t"      r(0x33, 6, 0x00);
            and         alu     i       Base      "d,s,t"      r(0x33, 7, 0x00);
            addiw       alu     i       Base      "d,s,j"      i(0x1b, 0);
            slliw       alu     i       Base      "d,s,<"      r(0x1b, 1, 0x00);
            srliw       alu     i       Base      "d,s,<"      r(0x1b, 5, 0x00);
            sraiw       alu     i       Base      "d,s,<"      r(0x1b, 5, 0x20);
            addw        alu     i       Base      "d,s,t"      r(0x3b, 0, 0x00);
            subw        alu     i       Base      "d,s,t"      r(0x3b, 0, 0x20);
            sllw        alu     i       Base      "d,s,t"      r(0x3b, 1, 0x00);
            srlw        alu     i       Base      "d,s,t"      r(0x3b, 5, 0x00);
            sraw        alu     i       Base      "d,s,t"      r(0x3b, 5, 0x20);
            fence       alu     system  Base      "P"          i(0x0f, 0);
            fence_i     system  system  Base      ""           i(0x0f, 1);
            ecall       system  system  Base      ""           exact(0x0000_0073);
            ebreak      system  system  Base      ""           exact(0x0010_0073);

            // M
            mul         alu     m       M         "d,s,t"      r(0x33, 0, 0x01);
            mulh        alu     m       M         "d,s,t"      r(0x33, 1, 0x01);
            mulhsu      alu     m       M         "d,s,t"      r(0x33, 2, 0x01);
            mulhu       alu     m       M         "d,s,t"      r(0x33, 3, 0x01);
            div         alu     m       M         "d,s,t"      r(0x33, 4, 0x01);
            divu        alu     m       M         "d,s,t"      r(0x33, 5, 0x01);
            rem         alu     m       M         "d,s,t"      r(0x33, 6, 0x01);
            remu        alu     m       M         "d,s,t"      r(0x33, 7, 0x01);
            mulw        alu     m       M         "d,s,t"      r(0x3b, 0, 0x01);
            divw        alu     m       M         "d,s,t"      r(0x3b, 4, 0x01);
            divuw       alu     m       M         "d,s,t"      r(0x3b, 5, 0x01);
            remw        alu     m       M         "d,s,t"      r(0x3b, 6, 0x01);
            remuw       alu     m       M         "d,s,t"      r(0x3b, 7, 0x01);

            // A
            lr_w        mem     a       A         "d,(s)"      lr(2);
            sc_w        mem     a       A         "d,t,(s)"    amo(2, 0x03);
            amoswap_w   mem     a       A         "d,t,(s)"    amo(2, 0x01);
            amoadd_w    mem     a       A         "d,t,(s)"    amo(2, 0x00);
            amoxor_w    mem     a       A         "d,t,(s)"    amo(2, 0x04);
            amoand_w    mem     a       A         "d,t,(s)"    amo(2, 0x0c);
            amoor_w     mem     a       A         "d,t,(s)"    amo(2, 0x08);
            amomin_w    mem     a       A         "d,t,(s)"    amo(2, 0x10);
            amomax_w    mem     a       A         "d,t,(s)"    amo(2, 0x14);
            amominu_w   mem     a       A         "d,t,(s)"    amo(2, 0x18);
            amomaxu_w   mem     a       A         "d,t,(s)"    amo(2, 0x1c);
            lr_d        mem     a       A         "d,(s)"      lr(3);
            sc_d        mem     a       A         "d,t,(s)"    amo(3, 0x03);
            amoswap_d   mem     a       A         "d,t,(s)"    amo(3, 0x01);
            amoadd_d    mem     a       A         "d,t,(s)"    amo(3, 0x00);
            amoxor_d    mem     a       A         "d,t,(s)"    amo(3, 0x04);
            amoand_d    mem     a       A         "d,t,(s)"    amo(3, 0x0c);
            amoor_d     mem     a       A         "d,t,(s)"    amo(3, 0x08);
            amomin_d    mem     a       A         "d,t,(s)"    amo(3, 0x10);
            amomax_d    mem     a       A         "d,t,(s)"    amo(3, 0x14);
            amominu_d   mem     a       A         "d,t,(s)"    amo(3, 0x18);
            amomaxu_d   mem     a       A         "d,t,(s)"    amo(3, 0x1c);

            // Zicsr
            csrrw       mem     system  Zicsr     "d,E,s"      i(0x73, 1);
            csrrs       mem     system  Zicsr     "d,E,s"      i(0x73, 2);
            csrrc       mem     system  Zicsr     "d,E,s"      i(0x73, 3);
            csrrwi      mem     system  Zicsr     "d,E,Z"      i(0x73, 5);
            csrrsi      mem     system  Zicsr     "d,E,Z"      i(0x73, 6);
            csrrci      mem     system  Zicsr     "d,E,Z"      i(0x73, 7);

            // Privileged, Svinval, Zawrs
            sret        system  system  Base      ""           exact(0x10200073);
            mret        system  system  Base      ""           exact(0x30200073);
            wfi         system  system  Base      ""           exact(0x10500073);
            sfence_vma  system  system  Base      "s,t"        fence_pages(0x09);
            sinval_vma  system  system  Svinval   "s,t"        fence_pages(0x0b);
            sfence_w_inval system  system  Svinval   ""           exact(0x18000073);
            sfence_inval_ir system  system  Svinval   ""           exact(0x18100073);
            wrs_nto     system  system  Zawrs     ""           exact(0x00d00073);
            wrs_sto     system  system  Zawrs     ""           exact(0x01d00073);

            // Zicbom, Zicboz
            cbo_inval   mem     mem     Zicbom    "(s)"        cbo(0);
            cbo_clean   mem     mem     Zicbom    "(s)"        cbo(1);
            cbo_flush   mem     mem     Zicbom    "(s)"        cbo(2);
            cbo_zero    mem     mem     Zicboz    "(s)"        cbo(4);

            // F, D, Zfh: loads and stores
            flw         mem     mem     F         "D,j(s)"     i(0x07, 2);
            fsw         mem     mem     F         "T,q(s)"     i(0x27, 2);
            fld         mem     mem     D         "D,j(s)"     i(0x07, 3);
            fsd         mem     mem     D         "T,q(s)"     i(0x27, 3);
            flh         mem     mem     Zfhmin    "D,j(s)"     i(0x07, 1);
            fsh         mem     mem     Zfhmin    "T,q(s)"     i(0x27, 1);

            // F
            fmadd_s     fp      float   F         "D,S,T,Rm"   fused(0x43, 0);
            fmsub_s     fp      float   F         "D,S,T,Rm"   fused(0x47, 0);
            fnmsub_s    fp      float   F         "D,S,T,Rm"   fused(0x4b, 0);
            fnmadd_s    fp      float   F         "D,S,T,Rm"   fused(0x4f, 0);
            fadd_s      fp      float   F         "D,S,Tm"     fr(0x00);
            fsub_s      fp      float   F         "D,S,Tm"     fr(0x04);
            fmul_s      fp      float   F         "D,S,Tm"     fr(0x08);
            fdiv_s      fp      float   F         "D,S,Tm"     fr(0x0c);
            fsqrt_s     fp      float   F         "D,Sm"       fr2(0x2c, 0);
            fsgnj_s     fp      float   F         "D,S,T"      r(0x53, 0, 0x10);
            fsgnjn_s    fp      float   F         "D,S,T"      r(0x53, 1, 0x10);
            fsgnjx_s    fp      float   F         "D,S,T"      r(0x53, 2, 0x10);
            fmin_s      fp      float   F         "D,S,T"      r(0x53, 0, 0x14);
            fmax_s      fp      float   F         "D,S,T"      r(0x53, 1, 0x14);
            fle_s       fp      float   F         "d,S,T"      r(0x53, 0, 0x50);
            flt_s       fp      float   F         "d,S,T"      r(0x53, 1, 0x50);
            feq_s       fp      float   F         "d,S,T"      r(0x53, 2, 0x50);
            fcvt_w_s    fp      float   F         "d,Sm"       fr2(0x60, 0);
            fcvt_wu_s   fp      float   F         "d,Sm"       fr2(0x60, 1);
            fcvt_l_s    fp      float   F         "d,Sm"       fr2(0x60, 2);
            fcvt_lu_s   fp      float   F         "d,Sm"       fr2(0x60, 3);
            fcvt_s_w    fp      float   F         "D,sm"       fr2(0x68, 0);
            fcvt_s_wu   fp      float   F         "D,sm"       fr2(0x68, 1);
            fcvt_s_l    fp      float   F         "D,sm"       fr2(0x68, 2);
            fcvt_s_lu   fp      float   F         "D,sm"       fr2(0x68, 3);
            fmv_x_w     fp      float   F         "d,S"        r2(0x53, 0, 0x70, 0);
            fclass_s    fp      float   F         "d,S"        r2(0x53, 1, 0x70, 0);
            fmv_w_x     fp      float   F         "D,s"        r2(0x53, 0, 0x78, 0);

            // D
            fmadd_d     fp      float   D         "D,S,T,Rm"   fused(0x43, 1);
            fmsub_d     fp      float   D         "D,S,T,Rm"   fused(0x47, 1);
            fnmsub_d    fp      float   D         "D,S,T,Rm"   fused(0x4b, 1);
            fnmadd_d    fp      float   D         "D,S,T,Rm"   fused(0x4f, 1);
            fadd_d      fp      float   D         "D,S,Tm"     fr(0x01);
            fsub_d      fp      float   D         "D,S,Tm"     fr(0x05);
            fmul_d      fp      float   D         "D,S,Tm"     fr(0x09);
            fdiv_d      fp      float   D         "D,S,Tm"     fr(0x0d);
            fsqrt_d     fp      float   D         "D,Sm"       fr2(0x2d, 0);
            fsgnj_d     fp      float   D         "D,S,T"      r(0x53, 0, 0x11);
            fsgnjn_d    fp      float   D         "D,S,T"      r(0x53, 1, 0x11);
            fsgnjx_d    fp      float   D         "D,S,T"      r(0x53, 2, 0x11);
            fmin_d      fp      float   D         "D,S,T"      r(0x53, 0, 0x15);
            fmax_d      fp      float   D         "D,S,T"      r(0x53, 1, 0x15);
            fle_d       fp      float   D         "d,S,T"      r(0x53, 0, 0x51);
            flt_d       fp      float   D         "d,S,T"      r(0x53, 1, 0x51);
            feq_d       fp      float   D         "d,S,T"      r(0x53, 2, 0x51);
            fcvt_w_d    fp      float   D         "d,Sm"       fr2(0x61, 0);
            fcvt_wu_d   fp      float   D         "d,Sm"       fr2(0x61, 1);
            fcvt_l_d    fp      float   D         "d,Sm"       fr2(0x61, 2);
            fcvt_lu_d   fp      float   D         "d,Sm"       fr2(0x61, 3);
            fcvt_d_w    fp      float   D         "D,sm"       fr2(0x69, 0);
            fcvt_d_wu   fp      float   D         "D,sm"       fr2(0x69, 1);
            fcvt_d_l    fp      float   D         "D,sm"       fr2(0x69, 2);
            fcvt_d_lu   fp      float   D         "D,sm"       fr2(0x69, 3);
            fmv_x_d     fp      float   D         "d,S"        r2(0x53, 0, 0x71, 0);
            fclass_d    fp      float   D         "d,S"        r2(0x53, 1, 0x71, 0);
            fmv_d_x     fp      float   D         "D,s"        r2(0x53, 0, 0x79, 0);

            // Zfh
            fmadd_h     fp      float   Zfh       "D,S,T,Rm"   fused(0x43, 2);
            fmsub_h     fp      float   Zfh       "D,S,T,Rm"   fused(0x47, 2);
            fnmsub_h    fp      float   Zfh       "D,S,T,Rm"   fused(0x4b, 2);
            fnmadd_h    fp      float   Zfh       "D,S,T,Rm"   fused(0x4f, 2);
            fadd_h      fp      float   Zfh       "D,S,Tm"     fr(0x02);
            fsub_h      fp      float   Zfh       "D,S,Tm"     fr(0x06);
            fmul_h      fp      float   Zfh       "D,S,Tm"     fr(0x0a);
            fdiv_h      fp      float   Zfh       "D,S,Tm"     fr(0x0e);
            fsqrt_h     fp      float   Zfh       "D,Sm"       fr2(0x2e, 0);
            fsgnj_h     fp      float   Zfh       "D,S,T"      r(0x53, 0, 0x12);
            fsgnjn_h    fp      float   Zfh       "D,S,T"      r(0x53, 1, 0x12);
            fsgnjx_h    fp      float   Zfh       "D,S,T"      r(0x53, 2, 0x12);
            fmin_h      fp      float   Zfh       "D,S,T"      r(0x53, 0, 0x16);
            fmax_h      fp      float   Zfh       "D,S,T"      r(0x53, 1, 0x16);
            fle_h       fp      float   Zfh       "d,S,T"      r(0x53, 0, 0x52);
            flt_h       fp      float   Zfh       "d,S,T"      r(0x53, 1, 0x52);
            feq_h       fp      float   Zfh       "d,S,T"      r(0x53, 2, 0x52);
            fcvt_w_h    fp      float   Zfh       "d,Sm"       fr2(0x62, 0);
            fcvt_wu_h   fp      float   Zfh       "d,Sm"       fr2(0x62, 1);
            fcvt_l_h    fp      float   Zfh       "d,Sm"       fr2(0x62, 2);
            fcvt_lu_h   fp      float   Zfh       "d,Sm"       fr2(0x62, 3);
            fcvt_h_w    fp      float   Zfh       "D,sm"       fr2(0x6a, 0);
            fcvt_h_wu   fp      float   Zfh       "D,sm"       fr2(0x6a, 1);
            fcvt_h_l    fp      float   Zfh       "D,sm"       fr2(0x6a, 2);
            fcvt_h_lu   fp      float   Zfh       "D,sm"       fr2(0x6a, 3);
            fmv_x_h     fp      float   Zfhmin    "d,S"        r2(0x53, 0, 0x72, 0);
            fclass_h    fp      float   Zfh       "d,S"        r2(0x53, 1, 0x72, 0);
            fmv_h_x     fp      float   Zfhmin    "D,s"        r2(0x53, 0, 0x7a, 0);

            // Conversions between formats
            fcvt_s_d    fp      float   D         "D,Sm"       fr2(0x20, 1);
            fcvt_d_s    fp      float   D         "D,Sm"       fr2(0x21, 0);
            fcvt_s_h    fp      float   Zfhmin    "D,Sm"       fr2(0x20, 2);
            fcvt_h_s    fp      float   Zfhmin    "D,Sm"       fr2(0x22, 0);
            fcvt_d_h    fp      float   Zfhmin    "D,Sm"       fr2(0x21, 2);
            fcvt_h_d    fp      float   Zfhmin    "D,Sm"       fr2(0x22, 1);

            // Zba
            add_uw      alu     b       Zba       "d,s,t"      r(0x3b, 0, 0x04);
            sh1add      alu     b       Zba       "d,s,t"      r(0x33, 2, 0x10);
            sh2add      alu     b       Zba       "d,s,t"      r(0x33, 4, 0x10);
            sh3add      alu     b       Zba       "d,s,t"      r(0x33, 6, 0x10);
            sh1add_uw   alu     b       Zba       "d,s,t"      r(0x3b, 2, 0x10);
            sh2add_uw   alu     b       Zba       "d,s,t"      r(0x3b, 4, 0x10);
            sh3add_uw   alu     b       Zba       "d,s,t"      r(0x3b, 6, 0x10);
            slli_uw     alu     b       Zba       "d,s,>"      shift(0x1b, 1, 0x02);

            // Zbb
            andn        alu     b       Zbb       "d,s,t"      r(0x33, 7, 0x20);
            orn         alu     b       Zbb       "d,s,t"      r(0x33, 6, 0x20);
            xnor        alu     b       Zbb       "d,s,t"      r(0x33, 4, 0x20);
            clz         alu     b       Zbb       "d,s"        r2(0x13, 1, 0x30, 0);
            ctz         alu     b       Zbb       "d,s"        r2(0x13, 1, 0x30, 1);
            cpop        alu     b       Zbb       "d,s"        r2(0x13, 1, 0x30, 2);
            sext_b      alu     b       Zbb       "d,s"        r2(0x13, 1, 0x30, 4);
            sext_h      alu     b       Zbb       "d,s"        r2(0x13, 1, 0x30, 5);
            clzw        alu     b       Zbb       "d,s"        r2(0x1b, 1, 0x30, 0);
            ctzw        alu     b       Zbb       "d,s"        r2(0x1b, 1, 0x30, 1);
            cpopw       alu     b       Zbb       "d,s"        r2(0x1b, 1, 0x30, 2);
            min         alu     b       Zbb       "d,s,t"      r(0x33, 4, 0x05);
            minu        alu     b       Zbb       "d,s,t"      r(0x33, 5, 0x05);
            max         alu     b       Zbb       "d,s,t"      r(0x33, 6, 0x05);
            maxu        alu     b       Zbb       "d,s,t"      r(0x33, 7, 0x05);
            zext_h      alu     b       Zbb       "d,s"        r2(0x3b, 4, 0x04, 0);
            rol         alu     b       Zbb       "d,s,t"      r(0x33, 1, 0x30);
            ror         alu     b       Zbb       "d,s,t"      r(0x33, 5, 0x30);
            rolw        alu     b       Zbb       "d,s,t"      r(0x3b, 1, 0x30);
            rorw        alu     b       Zbb       "d,s,t"      r(0x3b, 5, 0x30);
            rori        alu     b       Zbb       "d,s,>"      shift(0x13, 5, 0x18);
            roriw       alu     b       Zbb       "d,s,<"      r(0x1b, 5, 0x30);
            orc_b       alu     b       Zbb       "d,s"        r2(0x13, 5, 0x14, 7);
            rev8        alu     b       Zbb       "d,s"        r2(0x13, 5, 0x35, 24);

            // Zbc
            clmul       alu     b       Zbc       "d,s,t"      r(0x33, 1, 0x05);
            clmulr      alu     b       Zbc       "d,s,t"      r(0x33, 2, 0x05);
            clmulh      alu     b       Zbc       "d,s,t"      r(0x33, 3, 0x05);

            // Zbs
            bclr        alu     b       Zbs       "d,s,t"      r(0x33, 1, 0x24);
            bclri       alu     b       Zbs       "d,s,>"      shift(0x13, 1, 0x12);
            bext        alu     b       Zbs       "d,s,t"      r(0x33, 5, 0x24);
            bexti       alu     b       Zbs       "d,s,>"      shift(0x13, 5, 0x12);
            binv        alu     b       Zbs       "d,s,t"      r(0x33, 1, 0x34);
            binvi       alu     b       Zbs       "d,s,>"      shift(0x13, 1, 0x1a);
            bset        alu     b       Zbs       "d,s,t"      r(0x33, 1, 0x14);
            bseti       alu     b       Zbs       "d,s,>"      shift(0x13, 1, 0x0a);

            // Zicond
            czero_eqz   alu     b       Zicond    "d,s,t"      r(0x33, 5, 0x07);
            czero_nez   alu     b       Zicond    "d,s,t"      r(0x33, 7, 0x07);
        }
    };
}
pub(crate) use for_each_insn;

/// The fixed bits of an instruction and which bits they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Encoding {
    pub(crate) bits: u32,
    pub(crate) mask: u32,
}

/// The shapes of encodings. Unprivileged, "RV32/64G Instruction Set Listings".
mod shape {
    use super::Encoding;

    pub(super) const fn u(opcode: u32) -> Encoding {
        Encoding { bits: opcode, mask: 0x7f }
    }
    pub(super) const fn i(opcode: u32, funct3: u32) -> Encoding {
        Encoding { bits: opcode | funct3 << 12, mask: 0x707f }
    }
    pub(super) const fn r(opcode: u32, funct3: u32, funct7: u32) -> Encoding {
        Encoding { bits: opcode | funct3 << 12 | funct7 << 25, mask: 0xfe00_707f }
    }
    pub(super) const fn r2(opcode: u32, funct3: u32, funct7: u32, rs2: u32) -> Encoding {
        Encoding { bits: opcode | funct3 << 12 | rs2 << 20 | funct7 << 25, mask: 0xfff0_707f }
    }
    pub(super) const fn shift(opcode: u32, funct3: u32, funct6: u32) -> Encoding {
        Encoding { bits: opcode | funct3 << 12 | funct6 << 26, mask: 0xfc00_707f }
    }
    pub(super) const fn fr(funct7: u32) -> Encoding {
        Encoding { bits: 0x53 | funct7 << 25, mask: 0xfe00_007f }
    }
    pub(super) const fn fr2(funct7: u32, rs2: u32) -> Encoding {
        Encoding { bits: 0x53 | rs2 << 20 | funct7 << 25, mask: 0xfff0_007f }
    }
    pub(super) const fn fused(opcode: u32, format: u32) -> Encoding {
        Encoding { bits: opcode | format << 25, mask: 0x0600_007f }
    }
    pub(super) const fn amo(funct3: u32, funct5: u32) -> Encoding {
        Encoding { bits: 0x2f | funct3 << 12 | funct5 << 27, mask: 0xf800_707f }
    }
    pub(super) const fn lr(funct3: u32) -> Encoding {
        Encoding { bits: 0x2f | funct3 << 12 | 2 << 27, mask: 0xf9f0_707f }
    }
    pub(super) const fn cbo(operation: u32) -> Encoding {
        Encoding { bits: 0x0f | 2 << 12 | operation << 20, mask: 0xfff0_7fff }
    }
    pub(super) const fn fence_pages(funct7: u32) -> Encoding {
        Encoding { bits: 0x73 | funct7 << 25, mask: 0xfe00_7fff }
    }
    pub(super) const fn exact(bits: u32) -> Encoding {
        Encoding { bits, mask: !0 }
    }
}

/// What a row of the table says about an instruction.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// The mnemonic with `_` for `.`.
    pub(crate) name: &'static str,
    pub(crate) extension: Extension,
    pub(crate) operands: &'static str,
    pub(crate) encoding: Encoding,
    /// No instruction follows it in a block.
    pub(crate) ends_block: bool,
}

const fn ends_block(class: &str) -> bool {
    matches!(class.as_bytes(), b"jump" | b"system")
}

macro_rules! define_kinds {
    ($($name:ident $class:ident $module:ident $ext:ident $operands:literal $shape:ident($($arg:expr),*);)*) => {
        /// What an [`Op`] does: a row of the table, or what the decoder makes of bits that are no instruction.
        #[expect(non_camel_case_types, reason = "the variants are the manual's mnemonics, as the functions are")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub(crate) enum Kind {
            illegal,
            $($name),*
        }

        /// The rows, in the order of the table.
        pub(crate) static ROWS: &[Row] = &[$(Row {
            kind: Kind::$name,
            name: stringify!($name),
            extension: Extension::$ext,
            operands: $operands,
            encoding: shape::$shape($($arg),*),
            ends_block: ends_block(stringify!($class)),
        }),*];
    };
}
for_each_insn!(define_kinds);

impl Kind {
    /// The row of the table, if it is in the table.
    pub(crate) fn row(self) -> Option<&'static Row> {
        ROWS.get((self as usize).wrapping_sub(1))
    }
}

/// One decoded instruction: 16 bytes, position independent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) rd: Reg,
    pub(crate) rs1: Reg,
    pub(crate) rs2: Reg,
    /// Length in bytes: 2 or 4.
    pub(crate) len: u8,
    /// Distance of the instruction from the start of its block, in halfwords.
    pub(crate) off: u8,
    /// Number of instructions before it in its block.
    pub(crate) idx: u8,
    pub(crate) imm: i32,
    /// The instruction's bits as fetched; 16 of them if it is compressed.
    pub(crate) word: u32,
}

impl Op {
    /// The third source register of a fused multiply-add.
    #[inline(always)]
    pub(crate) fn rs3(&self) -> Reg {
        Reg::of(self.word >> 27)
    }

    /// The rounding mode field of a floating-point instruction.
    #[inline(always)]
    pub(crate) fn rm(&self) -> u32 {
        (self.word >> 12) & 7
    }
}
