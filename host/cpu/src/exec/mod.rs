//! The instruction bodies: one function per instruction, one file per extension.
//!
//! What a body looks like follows from the class in its row of the table:
//!
//! | class  | signature                                          | |
//! |--------|----------------------------------------------------|-|
//! | alu    | `fn(&mut Hart, &Op)`                               | cannot fail |
//! | pcrel  | `fn(&mut Hart, &Op, pc)`                           | cannot fail, wants its own address |
//! | branch | `fn(&Hart, &Op) -> bool`                           | taken? |
//! | jump   | `fn(&mut Hart, &Op, pc) -> u64`                    | the target; ends a block |
//! | fp     | `fn(&mut Hart, &Op) -> Result<(), Trap>`           | |
//! | mem    | `fn(&mut Hart, &mut Cx, &Op) -> Result<(), Stop>`  | may reach the bus; may end a block |
//! | system | `fn(&mut Hart, &mut Cx, &Op, pc) -> Result<u64, Trap>` | the next pc; ends a block |

pub(crate) mod a;
pub(crate) mod b;
pub(crate) mod float;
pub(crate) mod i;
pub(crate) mod m;
pub(crate) mod mem;
pub(crate) mod system;

/// Functions `rd = value(rs1, rs2)`.
macro_rules! register_register {
    ($($(#[$doc:meta])* $name:ident = |$a:ident, $b:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(h: &mut crate::hart::Hart, op: &crate::isa::Op) {
            let ($a, $b) = (h.x(op.rs1), h.x(op.rs2));
            h.set_x(op.rd, $value);
        }
    )*};
}

/// Functions `rd = value(rs1, immediate)`.
macro_rules! register_immediate {
    ($($(#[$doc:meta])* $name:ident = |$a:ident, $imm:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(h: &mut crate::hart::Hart, op: &crate::isa::Op) {
            let ($a, $imm) = (h.x(op.rs1), op.imm);
            h.set_x(op.rd, $value);
        }
    )*};
}

/// Functions `rd = value(rs1)`.
macro_rules! register {
    ($($(#[$doc:meta])* $name:ident = |$a:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(h: &mut crate::hart::Hart, op: &crate::isa::Op) {
            let $a = h.x(op.rs1);
            h.set_x(op.rd, $value);
        }
    )*};
}

use {register, register_immediate, register_register};

/// The low word, sign-extended: what the *W instructions leave in rd.
#[inline(always)]
fn sext32(value: u32) -> u64 {
    i64::from(value as i32) as u64
}

/// A sign-extended immediate.
#[inline(always)]
fn sext_imm(imm: i32) -> u64 {
    i64::from(imm) as u64
}
