//! The instruction table. Decoder, disassembler and dispatch are derived from it.

macro_rules! registers {
    ($($name:ident)*) => {
        /// A register number. `X0..X31` also stand for `f0..f31`; `Sink` is where the decoder sends writes to `x0`.
        ///
        /// An enum and not a `u8`, because the compiler then knows that every value is in range of the register files and
        /// drops the bounds checks.
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

/// One decoded instruction: 16 bytes, position independent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
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
