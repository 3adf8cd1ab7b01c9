//! A connection's socket and its two buffers, in memory that is mapped for it alone.
//!
//! smoltcp's rings have their full length from the start, and most connections touch a page or two of them. Vectors
//! would do if the allocator always mapped long ones; but it learns from what is freed to keep ever longer ones in its
//! heap, where they are touched whole: 280 KB for each idle connection instead of 10. And fresh maps are zeroed.

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
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(2 * bytes)?;
        // Neighbouring maps become one, and a huge page of them would be touched whole. A kernel without huge pages
        // does not know the advice.
        let _no_huge_pages = map.advise(Advice::NoHugePage);
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
