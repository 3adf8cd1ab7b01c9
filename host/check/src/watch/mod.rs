//! What watches a device while it is called: what it asks of the operating system, and what it writes where.
//!
//! The places of the plugin in memory are found in `/proc/self/maps`, by the name of the sealed copy that was loaded.

pub(crate) mod cpu;
pub(crate) mod imports;
pub(crate) mod pages;
pub(crate) mod statics;

use crate::world::{Breach, World};

/// Looks before and after each call of the device.
pub(crate) trait Watch {
    fn before(&mut self, world: &World) {
        let _ = world;
    }

    fn after(&mut self, world: &World) -> Option<Breach>;
}

/// Where the plugin is in memory: the difference between an address and the file's virtual address of it.
pub(crate) fn load_bias(file_name: &str) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    // The copy's name is the file's, as far as it fits.
    let name: String = file_name.chars().take(60).collect();
    let line = maps.lines().find(|line| line.contains(&format!("/memfd:{name}")))?;
    let (start, _) = line.split_once('-')?;
    u64::from_str_radix(start, 16).ok()
}
