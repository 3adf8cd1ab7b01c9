//! The RISC-V hart: no clock, no I/O, no thread, no device. It reaches the world through `trait Bus` only.

mod exec;
mod fp;
mod hart;
mod isa;
mod trap;
