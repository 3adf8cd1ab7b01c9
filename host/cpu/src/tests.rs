//! Whole-hart tests.
