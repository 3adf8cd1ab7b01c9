//! Whole harts on a small board, driven through the crate's API.

mod chaos;
mod coherence;
mod corners;
mod differential;
mod dirty;
mod float;
mod loops;
mod neighbours;
mod observe;
mod peek;
mod privileged;
mod rotations;
mod support;
mod threaded;
