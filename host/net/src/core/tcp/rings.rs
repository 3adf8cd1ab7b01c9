//! A connection's socket and its two buffers, in memory that is mapped for it alone.
//!
//! smoltcp's rings have their full length from the start, and most connections touch a page or two of them. Vectors
//! would do if the allocator always mapped long ones; but it learns from what is freed to keep ever longer ones in its
//! heap, where they are touched whole: 280 KB for each idle connection instead of 10. And fresh maps are zeroed.
//!
//! To make a map, to touch its first pages and to take it away costs more than a short connection's bytes, so a few are
//! kept for the next ones. What one connection has left in them, no other one may ever see.

use memmap2::{Advice, MmapMut};
use self_cell::{MutBorrow, self_cell};
use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp::{Socket, SocketBuffer},
};
use std::io;

self_cell!(
    struct Mapped {
        owner: MutBorrow<MmapMut>,

        #[not_covariant]
        dependent: SocketSet,
    }
);

/// Maps that are kept.
const SPARE: usize = 16;
/// Bytes of each of the two buffers that may have been used, or it costs less to make a map.
const SPARE_USED: usize = 32 << 10;

/// Maps of zeroes, of connections that have ended.
#[derive(Default)]
pub(super) struct Spare(Vec<MmapMut>);

impl Spare {
    fn take(&mut self, bytes: usize) -> io::Result<MmapMut> {
        // Those of another length are of when there were more connections, or fewer.
        while let Some(map) = self.0.pop() {
            if map.len() == bytes {
                return Ok(map);
            }
        }
        let map = MmapMut::map_anon(bytes)?;
        // Neighbouring maps become one, and a huge page of them would be touched whole. A kernel without huge pages
        // does not know the advice.
        let _no_huge_pages = map.advise(Advice::NoHugePage);
        Ok(map)
    }

    /// Takes the map of a connection that has ended. `used`: the bytes from the beginning of either buffer, receive and
    /// send, beyond which nothing was ever written.
    pub(super) fn put(&mut self, rings: Rings, used: [usize; 2]) {
        if self.0.len() >= SPARE || used.iter().any(|used| *used > SPARE_USED) {
            return;
        }
        let mut map = rings.mapped.into_owner().into_inner();
        let half = map.len() / 2;
        let (receive, send) = map.split_at_mut(half);
        for (buffer, used) in [receive, send].into_iter().zip(used) {
            let used = used.min(buffer.len());
            buffer[..used].fill(0);
        }
        debug_assert!(is_zero(&map), "something was written behind what was said to be used");
        self.0.push(map);
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| *page == [0; 4096][..page.len()])
}

/// One socket in a set of its own, so that smoltcp's work does not grow with the number of connections.
pub(super) struct Rings {
    mapped: Mapped,
    handle: SocketHandle,
}

fn socket_of<'s, 'a>(set: &'s SocketSet<'a>, handle: SocketHandle) -> &'s Socket<'a> {
    set.get(handle)
}

fn socket_in<'s, 'a>(set: &'s mut SocketSet<'a>, handle: SocketHandle) -> &'s mut Socket<'a> {
    set.get_mut(handle)
}

impl Rings {
    /// A closed socket with two buffers of `bytes` each, which is not 0.
    pub(super) fn new(bytes: usize, spare: &mut Spare) -> io::Result<Self> {
        let map = spare.take(2 * bytes)?;
        let mut handle = None;
        let mapped = Mapped::new(MutBorrow::new(map), |map| {
            let (receive, send) = map.borrow_mut().split_at_mut(bytes);
            let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
            socket.set_ack_delay(None);
            socket.set_nagle_enabled(false);
            let mut set = SocketSet::new(Vec::with_capacity(1));
            handle = Some(set.add(socket));
            set
        });
        let handle = handle.ok_or(io::ErrorKind::Other)?;
        Ok(Self { mapped, handle })
    }

    pub(super) fn socket<R>(&self, look: impl FnOnce(&Socket<'_>) -> R) -> R {
        self.mapped.with_dependent(|_, set| look(socket_of(set, self.handle)))
    }

    pub(super) fn socket_mut<R>(&mut self, change: impl FnOnce(&mut Socket<'_>) -> R) -> R {
        let handle = self.handle;
        self.mapped.with_dependent_mut(|_, set| change(socket_in(set, handle)))
    }

    /// For an interface's calls.
    pub(super) fn set<R>(&self, look: impl FnOnce(&SocketSet<'_>) -> R) -> R {
        self.mapped.with_dependent(|_, set| look(set))
    }

    pub(super) fn set_mut<R>(&mut self, change: impl FnOnce(&mut SocketSet<'_>) -> R) -> R {
        self.mapped.with_dependent_mut(|_, set| change(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 10;

    /// The address of a connection's map, which has used so much of both buffers.
    fn used(spare: &mut Spare, bytes: usize, used: [usize; 2]) -> *const u8 {
        let rings = Rings::new(bytes, spare).unwrap();
        let mut map = rings.mapped.into_owner().into_inner();
        assert!(is_zero(&map), "another one's bytes");
        let (receive, send) = map.split_at_mut(bytes);
        receive[..used[0]].fill(0x5a);
        send[..used[1]].fill(0xa5);
        let at = map.as_ptr();
        spare.put(with_map(map), used);
        at
    }

    fn with_map(map: MmapMut) -> Rings {
        let bytes = map.len() / 2;
        let mut spare = Spare(vec![map]);
        Rings::new(bytes, &mut spare).unwrap()
    }

    #[test]
    fn what_comes_again_is_zero() {
        let mut spare = Spare::default();
        let first = used(&mut spare, BYTES, [1, SPARE_USED]);
        for both in [[0, 0], [SPARE_USED, 7], [4096, 4097]] {
            assert_eq!(used(&mut spare, BYTES, both), first, "it does come again");
        }
    }

    #[test]
    fn few_are_kept_and_none_that_was_used_much() {
        let mut spare = Spare::default();
        used(&mut spare, BYTES, [SPARE_USED + 1, 0]);
        used(&mut spare, BYTES, [0, SPARE_USED + 1]);
        assert!(spare.0.is_empty());
        let many: Vec<_> = (0..2 * SPARE).map(|_| Rings::new(BYTES, &mut spare).unwrap()).collect();
        many.into_iter().for_each(|rings| spare.put(rings, [0, 0]));
        assert_eq!(spare.0.len(), SPARE);
        Rings::new(2 * BYTES, &mut spare).unwrap();
        assert!(spare.0.is_empty(), "those of another length go");
    }

    #[test]
    #[should_panic(expected = "behind what was said")]
    fn a_byte_that_was_forgotten_is_found() {
        let mut map = MmapMut::map_anon(2 * BYTES).unwrap();
        map[BYTES + 100] = 1;
        Spare::default().put(with_map(map), [BYTES / 2, 100]);
    }
}
