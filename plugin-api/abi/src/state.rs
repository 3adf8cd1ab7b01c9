//! The state record: named, typed fields, so that a snapshot can be compared field by field without the plugin.
//!
//! ```text
//! record := u32 state_version, u32 count, count × field
//! field  := u16 name_len, name, u8 kind, u32 len, len bytes
//! ```
//! All integers are little-endian. Kind 0 is raw bytes, 1 an unsigned and 2 a signed little-endian integer, 3 a
//! boolean, 4 UTF-8 text, 5 a sequence (`u32 count`, then `count × (u8 kind, u32 len, bytes)`), 6 a nested record
//! without its version (`u32 count`, fields).
