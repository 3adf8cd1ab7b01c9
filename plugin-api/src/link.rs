//! What is spoken on links: messages as types, so that a controller and the targets behind it can come from different
//! authors.
//!
//! A link carries bytes. Its protocol, a name with a version in both descriptors, says what they mean, and the board
//! connects only ends that say the same. Reprise defines those below; anybody may use one of their own.
//!
//! A message arrives after the callback that sent it, never inside it: a controller asks, returns, and goes on in
//! [`Device::on_message`](crate::Device::on_message). All of a conversation happens between two instructions of the
//! guest, so nothing of it is ever saved.

pub mod i2c;
pub mod spi;
