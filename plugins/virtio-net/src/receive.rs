//! From the port to the guest. Virtio 1.2 §5.1.6.3 and §5.1.6.4.
//!
//! A frame is taken from the port only when the driver has a buffer for it, so nothing is lost while it has none: it
//! waits in the host's queue, and whoever sends it can see that.

use crate::{NET, Net, RECEIVE, features, frame};
use reprise_plugin_api::{
    Ctx, DeviceState,
    net::{self, HEADER_BYTES, Header},
    virtio::{self, Chain, Violation, VirtioDevice},
};

/// Bytes that a receive buffer must have where a frame has to fit one. §5.1.6.3.1.
const LEAST_PLAIN: u64 = 1526;
/// The same if frames may be of several segments. §5.1.6.3.1.
const LEAST_SEGMENTS: u64 = 65_562;

/// The frame that is on its way into the guest.
#[derive(Debug, Default, DeviceState)]
pub(crate) struct Inbound {
    /// Header and Ethernet frame, as the driver will see them. Empty: none.
    pub(crate) frame: Vec<u8>,
    /// Buffers for it, too few yet.
    pub(crate) held: Vec<Chain>,
}

/// What can be done with the frame and the buffers at hand.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    /// It takes so many buffers.
    Buffers(usize),
    /// More buffers must come.
    Wait,
    /// It will never fit.
    Never,
}

impl Net {
    /// There may be frames and buffers that fit together.
    pub(crate) fn receive(&mut self, cx: &mut Ctx<'_>) {
        if !self.transport.running() {
            return;
        }
        // Buffers that an earlier frame left over; the rest of the ring when they are not enough.
        match self.deliver(cx) {
            Ok(()) => virtio::run(self, cx, RECEIVE),
            Err(violation) => self.transport.stop(cx, RECEIVE, violation),
        }
    }

    /// Put frames into the buffers that are held, as far as they go.
    pub(crate) fn deliver(&mut self, cx: &mut Ctx<'_>) -> Result<(), Violation> {
        while !self.inbound.held.is_empty() && self.take_frame(cx) {
            match self.fit()? {
                Fit::Buffers(count) => self.place(cx, count)?,
                Fit::Wait => break,
                Fit::Never => self.inbound.frame.clear(),
            }
        }
        Ok(())
    }

    /// Have a frame that is for the guest, if there is one.
    fn take_frame(&mut self, cx: &mut Ctx<'_>) -> bool {
        while self.inbound.frame.is_empty() {
            if cx.port_pending(NET) == 0 {
                return false;
            }
            self.scratch.resize(net::MAX_BYTES, 0);
            let len = cx.port_read(NET, &mut self.scratch);
            let mut scratch = std::mem::take(&mut self.scratch);
            if let Some(header) = self.admit(&mut scratch[..len]) {
                self.inbound.frame.extend(header.to_bytes());
                self.inbound.frame.extend(&scratch[HEADER_BYTES..len]);
            }
            self.scratch = scratch;
        }
        true
    }

    /// The header that the driver gets with this frame; a checksum that it does not make itself is made. `None`: the
    /// frame is not for it.
    fn admit(&self, data: &mut [u8]) -> Option<Header> {
        let (raw, ethernet) = data.split_first_chunk_mut::<HEADER_BYTES>()?;
        let mut header = Header::from_bytes(*raw);
        let fits = frame::fault(&header, ethernet.len()).is_none() && self.filter.admits(ethernet);
        if !fits || !self.takes(&header, ethernet) {
            return None;
        }
        header.flags &= net::NEEDS_CSUM | net::DATA_VALID;
        if !self.has_offload(features::GUEST_CSUM) {
            header.complete_checksum(ethernet);
            header.flags = 0;
        }
        Some(header)
    }

    /// Whether the driver takes a frame of this kind and length. What was on its way when the driver changed its mind,
    /// or what a peer sends that knows no limit, is dropped as by any interface. §5.1.4.1.
    fn takes(&self, header: &Header, ethernet: &[u8]) -> bool {
        let offload = self.offload();
        if header.gso_type == net::GSO_NONE {
            return ethernet.len() <= frame::ethernet_bytes(ethernet) + offload.mtu as usize;
        }
        let family = match header.gso_type {
            net::GSO_UDP_L4 if frame::is_ipv6(ethernet) => offload.uso6,
            net::GSO_UDP_L4 => offload.uso4,
            _ => true,
        };
        family && offload.takes(header.gso_type)
    }

    fn fit(&self) -> Result<Fit, Violation> {
        let (need, held) = (self.inbound.frame.len() as u64, &self.inbound.held);
        if !self.transport.has(features::MRG_RXBUF) {
            let segments =
                features::GUEST_TSO4 | features::GUEST_TSO6 | features::GUEST_USO4 | features::GUEST_USO6;
            let least = if self.negotiated_any(segments) { LEAST_SEGMENTS } else { LEAST_PLAIN };
            return match held[0].writable_len() {
                room if room >= need => Ok(Fit::Buffers(1)),
                room if room >= least => Ok(Fit::Never),
                _ => Err(Violation::Short("receive buffer")),
            };
        }
        let mut room = 0;
        for (index, chain) in held.iter().enumerate() {
            if chain.writable_len() < HEADER_BYTES as u64 {
                return Err(Violation::Short("receive buffer"));
            }
            room += chain.writable_len();
            if room >= need {
                return Ok(Fit::Buffers(index + 1));
            }
        }
        // The whole ring is in our hands, and the frame is longer.
        let buffers: usize = held.iter().map(Chain::buffers).sum();
        let all = buffers >= self.transport.ring_size(RECEIVE) as usize;
        Ok(if all { Fit::Never } else { Fit::Wait })
    }

    /// Put the frame into the first `count` buffers.
    fn place(&mut self, cx: &mut Ctx<'_>, count: usize) -> Result<(), Violation> {
        let mut frame = std::mem::take(&mut self.inbound.frame);
        // 1 also where frames cannot take more. §5.1.6.4.1.
        let buffers = u16::try_from(count).expect("a ring has no more");
        frame[HEADER_BYTES - 2..HEADER_BYTES].copy_from_slice(&buffers.to_le_bytes());
        let mut rest = &frame[..];
        let chains: Vec<Chain> = self.inbound.held.drain(..count).collect();
        for chain in &chains {
            let room = usize::try_from(chain.writable_len()).unwrap_or(usize::MAX);
            let (piece, behind) = rest.split_at(rest.len().min(room));
            chain.write(cx, 0, piece)?;
            virtio::give_back(self, cx, RECEIVE, chain.head(), piece.len() as u32);
            rest = behind;
        }
        frame.clear();
        self.inbound.frame = frame;
        Ok(())
    }

    fn negotiated_any(&self, bits: u64) -> bool {
        (0..64).any(|bit| bits >> bit & 1 != 0 && self.transport().has(1 << bit))
    }
}
