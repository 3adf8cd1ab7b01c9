//! Slots that are used again, with a generation each, so that an old name finds nothing.

use crate::edges::{FlowId, Kind};

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Flows of one kind. Order of use is deterministic: the slot that became free last is taken first.
#[derive(Debug)]
pub(super) struct Slab<T> {
    kind: Kind,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts in what `make` makes of its id.
    pub(super) fn insert(&mut self, make: impl FnOnce(FlowId) -> T) -> FlowId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = FlowId::new(self.kind, slot.generation, index);
        slot.value = Some(make(id));
        id
    }

    /// The value that `id` names, if it still lives.
    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        (id.kind() == self.kind && slot.generation == id.generation()).then_some(slot.value.as_mut())?
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&T> {
        let slot = self.slots.get(id.index() as usize)?;
        (id.kind() == self.kind && slot.generation == id.generation()).then_some(slot.value.as_ref())?
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        if id.kind() != self.kind || slot.generation != id.generation() {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & 0x0fff_ffff;
        self.free.push(id.index());
        Some(value)
    }

    /// What lives in a slot now.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// The name of what lives in a slot now.
    pub(super) fn id_at(&self, index: u32) -> Option<FlowId> {
        let slot = self.slots.get(index as usize)?;
        slot.value.is_some().then(|| FlowId::new(self.kind, slot.generation, index))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_finds_nothing() {
        let mut slab = Slab::new(Kind::Udp);
        let first = slab.insert(|_| 1);
        let second = slab.insert(|_| 2);
        assert_eq!(slab.remove(first), Some(1));
        let third = slab.insert(|_| 3);
        assert_eq!((third.index(), slab.len()), (first.index(), 2));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.get(third)), (Some(&2), Some(&3)));
        assert_eq!((slab.id_at(first.index()), slab.id_at(9)), (Some(third), None));
        assert_eq!(slab.values().copied().collect::<Vec<_>>(), [3, 2]);
        let other = FlowId::new(Kind::Tcp, third.generation(), third.index());
        assert_eq!(slab.get(other), None);
    }
}
