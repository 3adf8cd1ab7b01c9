//! Whether what a device writes through a RAM window is marked, and told where it is watched.

use super::Watch;
use crate::{
    script::RAM_BASE,
    world::{Breach, World},
};
use reprise_abi::hot::{PAGE_DIRTY, PAGE_WATCHED};

const PAGE: usize = 4096;

/// A copy of RAM as it was before the call.
#[derive(Default)]
pub(crate) struct PageMarks {
    before: Vec<u8>,
}

impl Watch for PageMarks {
    fn before(&mut self, world: &World) {
        self.before = world.ram.copy();
        // Every second page is watched, and none is dirty.
        for (number, page) in world.ram.pages.iter().enumerate() {
            page.set(if number % 2 == 1 { PAGE_WATCHED } else { 0 });
        }
    }

    fn after(&mut self, world: &World) -> Option<Breach> {
        let after = world.ram.copy();
        if after == self.before {
            return None;
        }
        let pages = after.chunks(PAGE).zip(self.before.chunks(PAGE)).zip(&world.ram.pages).enumerate();
        for (number, ((after, before), marks)) in pages {
            let Some(at) = after.iter().zip(before).position(|(after, before)| after != before) else {
                continue;
            };
            let gpa = RAM_BASE + (number * PAGE + at) as u64;
            if marks.get() & PAGE_DIRTY == 0 {
                return Some(Breach::Unmarked(format!(
                    "wrote RAM at {gpa:#x} through a window without marking the page dirty"
                )));
            }
            let told = world.announced.iter().any(|(from, len)| (*from..from + len).contains(&gpa));
            if marks.get() & PAGE_WATCHED != 0 && !told {
                return Some(Breach::Unannounced(format!(
                    "wrote RAM at {gpa:#x}, on a watched page, through a window without `code_write`"
                )));
            }
        }
        None
    }
}
