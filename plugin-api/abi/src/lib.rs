//! The contract between the Reprise host and a device plugin.
//!
//! Two halves, kept apart on purpose:
//!
//! * The **cold path** ([`root`]) is one `abi_stable` root module: find, check, describe, create. Its types carry a
//!   layout check and therefore never change after 1.0; whatever may grow travels as JSON text ([`desc`]).
//! * The **hot path** ([`hot`]) is plain `#[repr(C)]` tables of `extern "C"` functions with a leading size. They are
//!   append-only: a new host reads an old plugin's shorter table, and an old host ignores a new plugin's tail.
//!
//! A plugin in another language has the hot path and, in place of the `abi_stable` module, the table of [`c`]. Its
//! header `plugin-api/c/reprise_plugin.h` is made from these sources by `tests/header.rs`.
//!
//! Authors of devices never see this crate; they use `reprise-plugin-api`.

pub mod backend;
pub mod c;
pub mod desc;
pub mod hot;
pub mod link;
pub mod observe;
pub mod root;
pub mod schema;
pub mod state;
