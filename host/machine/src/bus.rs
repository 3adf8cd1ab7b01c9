//! The address map: from a guest physical address to a device's region.

use crate::{acts::Did, machine::Slot, plugin_ctx::with_ctx, services::Services};
use reprise_abi::{
    hot::{IO_OK, IoRes},
    observe::{KIND_MMIO_READ, KIND_MMIO_WRITE},
};
use reprise_cpu::{AccessFault, Attempt, Bus, Observation};

/// Where a region lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) base: u64,
    pub(crate) size: u64,
    /// Access sizes that reach the device: bit set of 1, 2, 4, 8.
    pub(crate) access: u8,
    pub(crate) device: usize,
    pub(crate) region: u32,
}

/// All regions, sorted by base. The board's parser has made sure that none overlap.
#[derive(Debug, Default)]
pub(crate) struct AddressMap {
    sorted: Vec<Mapping>,
    /// The last hit: a driver talks to one device at a time.
    last: usize,
}

impl AddressMap {
    pub(crate) fn new(mut mappings: Vec<Mapping>) -> AddressMap {
        mappings.sort_by_key(|m| m.base);
        let overlap = mappings.windows(2).find(|w| w[0].base + w[0].size > w[1].base);
        assert!(overlap.is_none(), "the board's parser let overlapping regions through: {overlap:?}");
        AddressMap { sorted: mappings, last: 0 }
    }

    /// Where the regions of a device lie, by region.
    pub(crate) fn bases(&self, device: usize) -> Vec<u64> {
        let mut regions: Vec<_> =
            self.sorted.iter().filter(|m| m.device == device).map(|m| (m.region, m.base)).collect();
        regions.sort_unstable();
        regions.into_iter().map(|(_, base)| base).collect()
    }

    /// The region that holds the address.
    pub(crate) fn find(&mut self, gpa: u64) -> Option<Mapping> {
        let hit = |m: &Mapping| gpa >= m.base && gpa - m.base < m.size;
        if let Some(m) = self.sorted.get(self.last).filter(|m| hit(m)) {
            return Some(*m);
        }
        let index = self.sorted.partition_point(|m| m.base <= gpa).checked_sub(1)?;
        let m = self.sorted[index];
        if !hit(&m) {
            return None;
        }
        self.last = index;
        Some(m)
    }
}

/// The harts' only way out: borrowed from the machine for one run of a hart. `SEEN`: somebody watches what passes here;
/// where nobody does, nothing is tested for it at an access.
pub(crate) struct MachineBus<'a, const SEEN: bool> {
    pub(crate) services: &'a mut Services,
    pub(crate) slots: &'a mut [Slot],
    pub(crate) map: &'a mut AddressMap,
}

impl<const SEEN: bool> MachineBus<'_, SEEN> {
    /// The region that an access of `size` bytes at `gpa` reaches, and the offset in it.
    fn route(&mut self, gpa: u64, size: u8) -> Result<(Mapping, u64), AccessFault> {
        let m = self.map.find(gpa).ok_or(AccessFault)?;
        let offset = gpa - m.base;
        let natural = gpa.is_multiple_of(u64::from(size));
        if m.access & size == 0 || !natural || m.size - offset < u64::from(size) {
            return Err(AccessFault);
        }
        Ok((m, offset))
    }

    #[inline(always)]
    fn read(&mut self, gpa: u64, size: u8, icount: u64) -> Result<IoRes, AccessFault> {
        // Also for an access that nobody answers: the warning has a time.
        self.services.clock.set_icount(icount);
        let (m, offset) = self.route(gpa, size)?;
        let instance = &mut self.slots[m.device].instance;
        Ok(with_ctx(self.services, m.device, "mmio_read", |cx| {
            instance.mmio_read(cx, m.region, offset, u32::from(size))
        }))
    }

    #[inline(always)]
    fn write(&mut self, gpa: u64, size: u8, value: u64, icount: u64) -> Result<IoRes, AccessFault> {
        self.services.clock.set_icount(icount);
        let (m, offset) = self.route(gpa, size)?;
        let instance = &mut self.slots[m.device].instance;
        Ok(with_ctx(self.services, m.device, "mmio_write", |cx| {
            instance.mmio_write(cx, m.region, offset, u32::from(size), value)
        }))
    }

    /// A read that somebody watches. Apart from the others, which keep nothing for it.
    #[cold]
    #[inline(never)]
    fn read_seen(&mut self, gpa: u64, size: u8, icount: u64) -> Result<u64, AccessFault> {
        let mut result = self.read(gpa, size, icount)?;
        // Only so many bits reach the guest.
        result.value &= u64::MAX >> (64 - 8 * u32::from(size));
        let (device, region, offset) = self.tell(KIND_MMIO_READ, gpa, size, result);
        let value = (result.status == IO_OK).then_some(result.value);
        self.services.did(device, "mmio_read", || Did::Read { region, offset, size, value });
        Self::finish(result)
    }

    /// A write likewise.
    #[cold]
    #[inline(never)]
    fn write_seen(&mut self, gpa: u64, size: u8, value: u64, icount: u64) -> Result<(), AccessFault> {
        let result = self.write(gpa, size, value, icount)?;
        let (device, region, offset) = self.tell(KIND_MMIO_WRITE, gpa, size, IoRes { value, ..result });
        if result.status != IO_OK {
            self.services.did(device, "mmio_write", || Did::Refused { region, offset, size });
        }
        Self::finish(result).map(|_| ())
    }

    /// Tells the observers, and returns device, region and offset of the address, which somebody has just answered at.
    fn tell(&mut self, kind: u32, gpa: u64, size: u8, result: IoRes) -> (usize, u32, u64) {
        let m = self.map.find(gpa).expect("it was answered");
        let (device, region, offset) = (m.device, m.region, gpa - m.base);
        let refused = result.status != IO_OK;
        let words = [region.into(), offset, size.into(), result.value, refused.into(), gpa];
        self.services.observe(kind, device, words);
        (device, region, offset)
    }

    fn finish(result: IoRes) -> Result<u64, AccessFault> {
        if result.status == IO_OK { Ok(result.value) } else { Err(AccessFault) }
    }
}

impl<const SEEN: bool> Bus for MachineBus<'_, SEEN> {
    fn load(&mut self, gpa: u64, size: u8, icount: u64) -> Result<u64, AccessFault> {
        if SEEN {
            return self.read_seen(gpa, size, icount);
        }
        self.read(gpa, size, icount).and_then(Self::finish)
    }

    fn store(&mut self, gpa: u64, size: u8, value: u64, icount: u64) -> Result<(), AccessFault> {
        if SEEN {
            return self.write_seen(gpa, size, value, icount);
        }
        self.write(gpa, size, value, icount).and_then(Self::finish).map(|_| ())
    }

    fn time(&mut self, icount: u64) -> u64 {
        self.services.clock.ticks_at(icount)
    }

    fn attention(&self) -> bool {
        self.services.attention
    }

    fn observed(&mut self, what: &Observation) {
        self.services.tell_observation(what);
    }

    fn refused(&mut self, access: reprise_cpu::Refused) {
        self.services.clock.set_icount(access.icount);
        let device = self.map.find(access.gpa).map(|m| m.device);
        self.services.warn(device, |services| {
            let (verb, what) = match (access.attempt, device) {
                (Attempt::Load, Some(_)) => ("read", "refused by the device"),
                (Attempt::Store, Some(_)) => ("write", "refused by the device"),
                (Attempt::Load, None) => ("read", "nothing is mapped there"),
                (Attempt::Store, None) => ("write", "nothing is mapped there"),
                (Attempt::Fetch, _) => ("fetch", "no RAM is there, and only RAM can be executed"),
            };
            let name = services.symbols.name(access.pc);
            let (size, gpa, pc) = (access.size, access.gpa, access.pc);
            format!("{verb} of {size} bytes at {gpa:#x}, pc {pc:#x}{name}: {what}; the guest takes an access fault")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(base: u64, size: u64, device: usize) -> Mapping {
        Mapping { base, size, access: 4, device, region: 0 }
    }

    #[test]
    fn addresses_find_their_region_and_holes_find_none() {
        let mut map = AddressMap::new(vec![mapping(0x2000, 0x100, 1), mapping(0x1000, 0x1000, 0)]);
        let mut device_at = |gpa| map.find(gpa).map(|m| m.device);
        assert_eq!(device_at(0xfff), None);
        assert_eq!(device_at(0x1000), Some(0));
        assert_eq!(device_at(0x1fff), Some(0));
        assert_eq!(device_at(0x2000), Some(1));
        assert_eq!(device_at(0x2100), None);
        assert_eq!(device_at(u64::MAX), None);
    }

    #[test]
    #[should_panic(expected = "overlapping")]
    fn overlaps_are_a_bug_by_now() {
        AddressMap::new(vec![mapping(0x1000, 0x1001, 0), mapping(0x2000, 0x100, 1)]);
    }
}
