//! The handlers of all instructions, made from the bodies by the instruction table.

use super::{Handler, Run, Step, branch, dispatch, enter, fall, perform, unusual};
use crate::exec;
use crate::hart::Hart;
use crate::isa::{Kind, for_each_insn};
use crate::run::BODIES;

/// Does the first step of some in the usual way and goes on, or leaves with nothing done, for the whole body to begin
/// afresh.
macro_rules! body {
    ($name:ident (alu $m:ident) $step:ident $rest:ident; $steps:ident $h:ident $run:ident $at:ident $left:ident) => {
        exec::$m::$name($h, &$step.op(Kind::$name))
    };
    ($name:ident (pcrel $m:ident) $step:ident $rest:ident; $steps:ident $h:ident $run:ident $at:ident $left:ident) => {
        exec::$m::$name($h, &$step.op(Kind::$name), $step.pc($at))
    };
    ($name:ident (mem $m:ident) $step:ident $rest:ident; $steps:ident $h:ident $run:ident $at:ident $left:ident) => {
        if !exec::$m::$name::quick($h, $run.ram, &$step.op(Kind::$name)) {
            return retry::$name($steps, $h, $run, $at, $left);
        }
    };
    ($name:ident (fp $m:ident) $step:ident $rest:ident; $steps:ident $h:ident $run:ident $at:ident $left:ident) => {
        if !exec::$m::$name::quick($h, &$step.op(Kind::$name)) {
            return retry::$name($steps, $h, $run, $at, $left);
        }
    };
    ($name:ident (branch $m:ident) $step:ident $rest:ident; $steps:ident $h:ident $run:ident $at:ident $left:ident) => {
        if exec::$m::$name($h, &$step.op(Kind::$name)) {
            let target = $step.pc($at).wrapping_add(i64::from($step.imm) as u64);
            return branch($h, $run, $at, target, $left + $rest.len() as u64);
        }
    };
}

/// The handler of an instruction, with `then` what follows it.
macro_rules! then {
    // What is never usual.
    ($name:ident (mem a)) => { then!($name (system a)); };
    ($name:ident (mem system)) => { then!($name (system system)); };
    ($name:ident (system $m:ident)) => {
        #[inline(always)]
        pub(super) fn $name<'a>(
            steps: &'a [Step],
            h: &mut Hart,
            run: &mut Run<'a, '_>,
            block: u64,
            left: u64,
            _: impl FnOnce(&'a [Step], &mut Hart, &mut Run<'a, '_>, u64, u64),
        ) {
            perform(steps, h, run, block, left, |_| BODIES[Kind::$name as usize]);
        }
    };
    ($name:ident (jump $m:ident)) => {
        #[inline(always)]
        pub(super) fn $name<'a>(
            steps: &'a [Step],
            h: &mut Hart,
            run: &mut Run<'a, '_>,
            block: u64,
            left: u64,
            _: impl FnOnce(&'a [Step], &mut Hart, &mut Run<'a, '_>, u64, u64),
        ) {
            let Some(step) = steps.first() else { return };
            let target = exec::$m::$name(h, &step.op(Kind::$name), step.pc(block));
            enter(h, run, target, left);
        }
    };
    ($name:ident ($class:ident $m:ident)) => {
        #[inline(always)]
        pub(super) fn $name<'a>(
            steps: &'a [Step],
            h: &mut Hart,
            run: &mut Run<'a, '_>,
            block: u64,
            left: u64,
            then: impl FnOnce(&'a [Step], &mut Hart, &mut Run<'a, '_>, u64, u64),
        ) {
            let Some((step, rest)) = steps.split_first() else { return };
            body!($name ($class $m) step rest; steps h run block left);
            if rest.is_empty() {
                return fall(steps, h, run, block, left);
            }
            then(rest, h, run, block, left);
        }
    };
}

/// The handler of an instruction that is not quick.
macro_rules! retry {
    ($name:ident (mem mem)) => {
        #[cold]
        #[inline(never)]
        pub(super) fn $name<'a>(
            steps: &'a [Step],
            h: &mut Hart,
            run: &mut Run<'a, '_>,
            block: u64,
            left: u64,
        ) {
            perform(steps, h, run, block, left, |_| BODIES[Kind::$name as usize]);
        }
    };
    ($name:ident (fp $m:ident)) => {
        #[cold]
        #[inline(never)]
        pub(super) fn $name<'a>(
            steps: &'a [Step],
            h: &mut Hart,
            run: &mut Run<'a, '_>,
            block: u64,
            left: u64,
        ) {
            let Some((step, rest)) = steps.split_first() else { return };
            if !exec::$m::$name::retry(h, &step.op(Kind::$name)) {
                return unusual(steps, h, run, block, left);
            }
            if rest.is_empty() {
                return fall(steps, h, run, block, left);
            }
            dispatch(rest, h, run, block, left);
        }
    };
    ($name:ident ($class:ident $m:ident)) => {};
}

macro_rules! define {
    ($($name:ident $class:ident $module:ident $ext:ident $operands:literal $shape:ident $bits:tt;)*) => {
        mod then {
            use super::*;
            $(then!($name ($class $module));)*
        }

        mod retry {
            use super::*;
            $(retry!($name ($class $module));)*
        }

        /// What follows an instruction is the next step's affair.
        mod handler {
            use super::*;
            $(
                pub(super) fn $name<'a>(
                    steps: &'a [Step],
                    h: &mut Hart,
                    run: &mut Run<'a, '_>,
                    block: u64,
                    left: u64,
                ) {
                    then::$name(steps, h, run, block, left, dispatch);
                }
            )*
        }

        // `fall` is no instruction's: only in a table it keeps its signature, to which the handlers owe that their
        // registers are in place.
        static HANDLERS: &[Handler] = &[unusual, $(handler::$name,)* fall];

        /// Whether the body looks at more of the instruction's bits than the registers.
        pub(super) fn wants_word(kind: Kind) -> bool {
            match kind {
                $(Kind::$name => stringify!($class) == "fp",)*
                Kind::illegal => false,
            }
        }
    };
}
for_each_insn!(define);

/// The handler of an instruction.
pub(super) fn of(kind: Kind) -> Handler {
    HANDLERS[kind as usize]
}

/// The handler of `$first` and one of these behind it.
macro_rules! behind {
    ($first:ident, $second:ident, { $($name:ident)* }) => {
        match $second {
            $(Kind::$name => {
                fn pair<'a>(steps: &'a [Step], h: &mut Hart, run: &mut Run<'a, '_>, block: u64, left: u64) {
                    then::$first(steps, h, run, block, left, |steps, h, run, block, left| {
                        then::$name(steps, h, run, block, left, dispatch);
                    });
                }
                Some(pair)
            })*
            _ => None,
        }
    };
}

/// `first => what may be behind it`.
macro_rules! pairs {
    ($($name:ident => $behind:tt;)*) => {
        /// The handler of two instructions in succession, if there is one. It counts as two, for it takes the second
        /// step too.
        pub(super) fn fused(first: Kind, second: Kind) -> Option<Handler> {
            match first {
                $(Kind::$name => behind!($name, second, $behind),)*
                _ => None,
            }
        }
    };
}

// What is often in compiled programs, and is not a chain of calls anyway.
pairs! {
    addi => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    add => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    addiw => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    addw => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    slli => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    srli => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    lui => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    auipc => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    and => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    andi => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    or => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    xor => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    sub => { addi add addiw slli srli and or xor ld lw lbu sd sw sb bne beq bltu bgeu blt bge jal jalr };
    ld => { ld addi add addiw sd bne beq jalr };
    lw => { lw addi add addiw bne beq addw };
    lbu => { lbu addi add bltu bne beq sb };
    sd => { sd addi add ld };
    sw => { sw addi add lw };
    sb => { addi addw add };
    bne => { addi add addiw ld lw jalr jal slli };
    beq => { addi add addiw ld lw jalr jal slli };
    bltu => { addi slli add jal };
    bgeu => { addi slli add jal };
    fld => { fld };
    fsd => { fsd addi };
}
