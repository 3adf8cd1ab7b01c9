//! What is counted: frames, bytes, and why something was dropped.

use std::fmt;

macro_rules! drops {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a frame, or what it asked for, came to nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DropReason { $($(#[$doc])* $name),+ }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name in statistics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

drops! {
    /// Shorter than its headers say.
    Truncated = "truncated",
    /// A header that contradicts itself.
    Malformed = "malformed",
    /// A checksum that does not hold.
    Checksum = "checksum",
    /// A virtio-net header that does not fit its frame.
    BadOffload = "bad-offload",
    /// An Ethernet address that is not ours, or a protocol that we don't speak.
    NotForUs = "not-for-us",
    /// A source address that the guest may not have.
    Spoofed = "spoofed",
    /// IP options that route, or too many extension headers.
    Options = "options",
    /// Fragments that overlap, are too many or wait too long.
    Fragments = "fragments",
    /// Multicast and broadcast do not leave.
    Multicast = "multicast",
    /// An IP protocol that goes nowhere.
    Protocol = "protocol",
    /// The egress policy says so.
    Policy = "policy",
    /// A limit on flows is reached.
    Limit = "limit",
    /// Nothing listens on that port of the network's own addresses.
    NoService = "no-service",
    /// A TCP segment that belongs to no connection.
    NoFlow = "no-flow",
    /// A TCP segment beyond the window, or whose flags make no sense.
    Window = "window",
    /// The hop limit has run out.
    Hops = "hops",
    /// An answer that the guest will ask for again, and no room for it.
    NoRoom = "no-room",
    /// The host could not open a socket or send.
    HostFailed = "host-failed",
    /// A datagram of the host from somebody whom the guest did not speak to.
    Unsolicited = "unsolicited",
    /// The flow's own step panicked; it was reset.
    Panicked = "panicked",
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub frames_from_guest: u64,
    pub bytes_from_guest: u64,
    pub frames_to_guest: u64,
    pub bytes_to_guest: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Stats {
    pub(crate) fn dropped(&mut self, why: DropReason) {
        self.dropped_many(why, 1);
    }

    pub(crate) fn dropped_many(&mut self, why: DropReason, count: usize) {
        self.drops[why as usize] += count as u64;
    }

    /// How often something was dropped for that reason.
    #[must_use]
    pub fn drops(&self, why: DropReason) -> u64 {
        self.drops[why as usize]
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from guest: {} frames, {} bytes", self.frames_from_guest, self.bytes_from_guest)?;
        write!(f, "to guest: {} frames, {} bytes", self.frames_to_guest, self.bytes_to_guest)?;
        for why in DropReason::ALL.iter().filter(|why| self.drops(**why) != 0) {
            write!(f, "\ndropped, {}: {}", why.name(), self.drops(*why))?;
        }
        Ok(())
    }
}
