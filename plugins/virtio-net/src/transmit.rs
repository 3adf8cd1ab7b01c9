//! From the guest to the port. Virtio 1.2 §5.1.6.2.

use crate::{NET, Net, features, frame};
use reprise_plugin_api::{
    Ctx,
    net::{self, ETHERNET_BYTES, HEADER_BYTES, Header},
    virtio::{Chain, Violation},
};

impl Net {
    pub(crate) fn transmit(&mut self, cx: &mut Ctx<'_>, chain: &Chain) -> Result<(), Violation> {
        let len = chain.readable_len();
        if len < HEADER_BYTES as u64 {
            return Err(Violation::Short("frame without a header"));
        }
        if len > net::MAX_BYTES as u64 {
            return Err(Violation::Request("a frame longer than any packet"));
        }
        let mut data = std::mem::take(&mut self.scratch);
        data.resize(net::MAX_BYTES, 0);
        let sent = self.send(cx, chain, &mut data[..len as usize]);
        self.scratch = data;
        sent
    }

    fn send(&self, cx: &mut Ctx<'_>, chain: &Chain, data: &mut [u8]) -> Result<(), Violation> {
        chain.read(cx, 0, data)?;
        let Some((mut header, ethernet)) = Header::split(data) else { return Ok(()) };
        self.check(&header, ethernet)?;
        // A frame without an address, or one for a cable that is not there, goes nowhere.
        if ethernet.len() < ETHERNET_BYTES || !self.link_up {
            return Ok(());
        }
        header.flags &= net::NEEDS_CSUM;
        header.num_buffers = 0;
        data[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        cx.port_write(NET, data);
        Ok(())
    }

    /// What the driver must not send. §5.1.6.2.1.
    fn check(&self, header: &Header, ethernet: &[u8]) -> Result<(), Violation> {
        if let Some(fault) = frame::fault(header, ethernet.len()) {
            return Err(Violation::Request(fault));
        }
        let needs = match header.gso_type & !net::GSO_ECN {
            net::GSO_TCPV4 => features::HOST_TSO4,
            net::GSO_TCPV6 => features::HOST_TSO6,
            net::GSO_UDP_L4 => features::HOST_USO,
            _ => 0,
        };
        let checksum = if header.flags & net::NEEDS_CSUM != 0 { features::CSUM } else { 0 };
        let ecn = if header.gso_type & net::GSO_ECN != 0 { features::HOST_ECN } else { 0 };
        if !self.transport.has(needs | checksum | ecn) {
            return Err(Violation::Request("an offload that was not negotiated"));
        }
        Ok(())
    }
}
