//! The machine: deterministic and single-threaded. The same board, images and log give the same digest at every
//! position, on every host, at every speed.
//!
//! [`board::parse`] turns a TOML board into wiring; [`Machine::new`] builds it from plugins; [`Machine::run`] lets it
//! go on until it stops at a safe point. Nothing here reads a host clock, a file, a socket or the environment: what
//! lies outside is behind the [`Outside`] trait, and enters through the gate.

mod acts;
pub mod board;
pub mod boot;
mod bottom_half;
mod bus;
mod chaos;
mod clock;
mod deadline;
mod difference;
mod digest;
mod disk;
mod door;
pub mod fdt;
mod harts;
mod links;
mod log;
mod look;
mod machine;
mod observers;
mod outside;
mod pace;
pub mod plugin;
mod plugin_ctx;
mod port;
mod ram_digest;
mod reload;
mod run;
mod schedule;
mod section;
mod services;
mod snapshot;
mod symbols;
mod upcoming;
mod wires;

pub use acts::Act;
pub use difference::Difference;
pub use door::{Checkpoint, Until};
pub use harts::{boot_images, device_tree};
pub use log::{LogLevel, LogRecord};
pub use machine::{BootSource, BuildError, Machine, Setup, Status};
pub use observers::ObserverFault;
pub use outside::{
    Asked, BlockContent, ControlInput, DISK_BLOCK_BYTES, Disk, DiskChanges, DiskError, FirstReads, Input,
    NetOffload, Outside, PortChange, PortStand, StopHandle,
};
pub use reprise_abi::{desc, observe, schema};

/// Bits of [`NetOffload`].
pub mod offload {
    pub use reprise_abi::hot::{
        NET_CSUM as CSUM, NET_ECN as ECN, NET_TSO4 as TSO4, NET_TSO6 as TSO6, NET_USO4 as USO4,
        NET_USO6 as USO6,
    };
}
pub use reload::{ReloadError, Successors};
pub use reprise_cpu::{Engine, EngineError};
pub use reprise_replay as replay;
pub use reprise_replay::{Gate, Seed};
pub use run::Stop;
pub use section::SectionError;
pub use services::PluginFault;
pub use snapshot::{PAGE_BYTES, Page, PageTable, RamImage, RestoreError, Snapshot, TABLE_PAGES};
pub use upcoming::{ArmedTimer, Upcoming};
