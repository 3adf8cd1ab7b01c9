//! Guest RAM in snapshots: pages that nobody changes share their memory, and taking one costs what was written since
//! the one before.

use reprise_cpu::{Follower, GuestRam, PAGE_SIZE};
use std::sync::Arc;

/// Bytes in a page.
pub const PAGE_BYTES: usize = PAGE_SIZE as usize;
/// Pages in a [`PageTable`]: a changed page costs a new table of half a page, and a GiB has 512 of them.
pub const TABLE_PAGES: usize = 512;

/// The content of a page.
pub type Page = Arc<[u8; PAGE_BYTES]>;

/// Neighbouring pages; `None`: all zero.
pub type PageTable = [Option<Page>; TABLE_PAGES];

/// The content of guest RAM at one moment. Cheap to clone; may be read from any thread.
#[derive(Clone, Debug)]
pub struct RamImage {
    pages: usize,
    tables: Vec<Option<Arc<PageTable>>>,
}

impl RamImage {
    /// RAM of so many pages, all zero.
    #[must_use]
    pub fn zeroed(pages: usize) -> RamImage {
        RamImage { pages, tables: vec![None; pages.div_ceil(TABLE_PAGES)] }
    }

    /// Pages of RAM, zero or not.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The tables in ascending order, each of [`TABLE_PAGES`] pages; `None`: all of them zero.
    #[must_use]
    pub fn tables(&self) -> &[Option<Arc<PageTable>>] {
        &self.tables
    }

    /// The page with this index; `None` if it is all zero.
    ///
    /// # Panics
    /// If RAM has no such page.
    #[must_use]
    pub fn page(&self, index: usize) -> Option<&Page> {
        assert!(index < self.pages, "page {index} of {}", self.pages);
        self.tables[index / TABLE_PAGES].as_ref()?[index % TABLE_PAGES].as_ref()
    }

    /// Pages that are not all zero.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.tables.iter().flatten().map(|table| table.iter().flatten().count()).sum()
    }

    /// Replace a page.
    ///
    /// # Panics
    /// If RAM has no such page.
    pub fn set(&mut self, index: usize, page: Option<Page>) {
        assert!(index < self.pages, "page {index} of {}", self.pages);
        let slot = &mut self.tables[index / TABLE_PAGES];
        if page.is_none() && slot.is_none() {
            return;
        }
        let table = slot.get_or_insert_with(|| Arc::new([const { None }; TABLE_PAGES]));
        Arc::make_mut(table)[index % TABLE_PAGES] = page;
    }

    /// Replace a whole table, of which pages behind the end of RAM are not looked at.
    ///
    /// # Panics
    /// If RAM has no such table.
    pub fn set_table(&mut self, index: usize, table: Option<Arc<PageTable>>) {
        self.tables[index] = table;
    }

    /// Pages whose memory neither neighbour shares: what it costs beside them.
    #[must_use]
    pub fn alone(&self, before: &RamImage, after: Option<&RamImage>) -> usize {
        let here = self.unshared(before).filter(|&index| self.page(index).is_some());
        match after {
            None => here.count(),
            Some(after) => here.filter(|&index| !same(self.page(index), after.page(index))).count(),
        }
    }

    /// Pages that are not the same memory in both: all that differ, and some that only may. Ascending.
    fn unshared<'a>(&'a self, other: &'a RamImage) -> impl Iterator<Item = usize> + 'a {
        let tables = self.tables.iter().zip(&other.tables).enumerate();
        let changed = tables.filter(|(_, (a, b))| !same(a.as_ref(), b.as_ref()));
        let pages = changed.flat_map(|(table, (a, b))| {
            let page = |table: &Option<Arc<PageTable>>, at: usize| table.as_ref().and_then(|t| t[at].clone());
            (0..TABLE_PAGES)
                .filter(move |&at| !same(page(a, at).as_ref(), page(b, at).as_ref()))
                .map(move |at| table * TABLE_PAGES + at)
        });
        pages.filter(|&index| index < self.pages)
    }
}

/// Whether both are one memory, or nothing.
fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Guest RAM as the last snapshot saw it.
#[derive(Debug)]
pub(crate) struct RamTracker {
    last: RamImage,
}

impl RamTracker {
    /// Of RAM that nobody has written.
    pub(crate) fn new(ram: &GuestRam) -> RamTracker {
        let pages = usize::try_from(ram.size() / PAGE_SIZE).expect("RAM is mapped, so its size fits");
        RamTracker { last: RamImage::zeroed(pages) }
    }

    /// RAM as it is, and how many of its pages are new memory.
    pub(crate) fn take(&mut self, ram: &GuestRam) -> (RamImage, usize) {
        let mut content = [0; PAGE_BYTES];
        let mut fresh = 0;
        ram.take_dirty(Follower::Snapshot, |index| {
            ram.page(index, &mut content);
            // A page that was written need not have changed: guests clear what is clear.
            if self.last.page(index).map_or(content == [0; PAGE_BYTES], |page| **page == content) {
                return;
            }
            let page = (content != [0; PAGE_BYTES]).then(|| Arc::new(content));
            fresh += usize::from(page.is_some());
            self.last.set(index, page);
        });
        (self.last.clone(), fresh)
    }

    /// Pages of an image, at most, whose memory the next one taken will not share.
    pub(crate) fn apart(&self, ram: &GuestRam, image: &RamImage) -> usize {
        image.alone(&self.last, None) + ram.dirty_pages(Follower::Snapshot)
    }

    /// Make RAM what an image says. Returns how many pages that took.
    pub(crate) fn put(&mut self, ram: &GuestRam, image: &RamImage) -> usize {
        assert!(image.pages == self.last.pages, "an image of other RAM: the caller checks that");
        let mut written = 0;
        let mut write = |index: usize| {
            let gpa = ram.base() + index as u64 * PAGE_SIZE;
            let done = ram.write(gpa, image.page(index).map_or(&[0; PAGE_BYTES], |page| &**page));
            assert!(done.is_ok(), "a page of RAM is in RAM");
            written += 1;
        };
        let mut dirty = Vec::new();
        ram.take_dirty(Follower::Snapshot, |index| dirty.push(index));
        for index in self.last.unshared(image) {
            write(index);
        }
        // What was written since, where the images agree.
        let shared = |index: &usize| same(self.last.page(*index), image.page(*index));
        dirty.into_iter().filter(shared).for_each(write);
        // Those writes are no change to the image.
        ram.take_dirty(Follower::Snapshot, |_| {});
        self.last = image.clone();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::splitmix;
    use std::rc::Rc;

    const BASE: u64 = 0x8000_0000;

    fn ram(pages: u64) -> Rc<GuestRam> {
        GuestRam::new(BASE, pages * PAGE_SIZE).unwrap()
    }

    fn content(ram: &GuestRam) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(ram.size()).unwrap()];
        ram.read(BASE, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn any_image_can_be_put_back_at_any_time() {
        let ram = ram(1300);
        let mut tracker = RamTracker::new(&ram);
        let mut random = 7;
        let mut taken = Vec::new();
        for round in 0..60 {
            for _ in 0..splitmix(&mut random) % 40 {
                let gpa = BASE + splitmix(&mut random) % (1300 * PAGE_SIZE - 7);
                // Half of it clears what an earlier round may have written.
                let value = splitmix(&mut random) * (splitmix(&mut random) & 1);
                ram.write(gpa, &value.to_le_bytes()).unwrap();
            }
            if round % 3 == 2 {
                let at = usize::try_from(splitmix(&mut random)).unwrap() % taken.len();
                let (image, expected): &(RamImage, Vec<u8>) = &taken[at];
                tracker.put(&ram, image);
                assert!(content(&ram) == *expected, "round {round}");
            } else {
                taken.push((tracker.take(&ram).0, content(&ram)));
            }
        }
    }

    #[test]
    fn an_image_costs_what_changed() {
        let ram = ram(2000);
        let mut tracker = RamTracker::new(&ram);
        (0..1000).for_each(|page| ram.write(BASE + page * PAGE_SIZE, &[1]).unwrap());
        assert_eq!(tracker.take(&ram).1, 1000);
        ram.write(BASE, &[1]).unwrap();
        ram.write(BASE + PAGE_SIZE, &[2]).unwrap();
        ram.write(BASE + 2 * PAGE_SIZE, &[0]).unwrap();
        let (before, fresh) = tracker.take(&ram);
        assert_eq!(fresh, 1, "one has other content, one has the same, one is clear again");
        ram.write(BASE + 1999 * PAGE_SIZE, &[3]).unwrap();
        assert_eq!(tracker.put(&ram, &before), 1);
        assert_eq!(tracker.put(&ram, &before), 0);
    }

    #[test]
    fn what_an_image_will_cost_is_known_before_the_next_is_taken() {
        let ram = ram(2000);
        let mut tracker = RamTracker::new(&ram);
        (0..1000).for_each(|page| ram.write(BASE + page * PAGE_SIZE, &[1]).unwrap());
        let image = tracker.take(&ram).0;
        assert_eq!(tracker.apart(&ram, &image), 0);
        ram.write(BASE, &[2]).unwrap();
        ram.write(BASE + PAGE_SIZE, &[1]).unwrap();
        assert_eq!(tracker.apart(&ram, &image), 2, "whether a written page has changed is not known");
        let between = tracker.take(&ram).0;
        assert_eq!((tracker.apart(&ram, &image), tracker.apart(&ram, &between)), (1, 0));
        ram.write(BASE + 2 * PAGE_SIZE, &[0]).unwrap();
        assert_eq!((tracker.apart(&ram, &image), tracker.apart(&ram, &between)), (2, 1));
        assert_eq!(image.alone(&tracker.take(&ram).0, None), 2);
    }

    #[test]
    fn other_followers_see_what_was_put() {
        let ram = ram(8);
        let mut tracker = RamTracker::new(&ram);
        let clear = tracker.take(&ram).0;
        ram.write(BASE + PAGE_SIZE, &[1]).unwrap();
        ram.take_dirty(Follower::Digest, |_| {});
        tracker.put(&ram, &clear);
        let mut dirty = Vec::new();
        ram.take_dirty(Follower::Digest, |index| dirty.push(index));
        assert_eq!(dirty, [1]);
    }
}
