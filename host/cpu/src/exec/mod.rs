//! The instruction bodies: one function per instruction, one file per extension.

pub(crate) mod float;
