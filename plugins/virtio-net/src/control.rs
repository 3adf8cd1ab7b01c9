//! The control queue. Virtio 1.2 §5.1.6.5.

use crate::{Net, features, filter::Mode, frame::Mac};
use reprise_plugin_api::{
    Ctx,
    virtio::{Chain, Violation},
};

/// `VIRTIO_NET_OK` and `VIRTIO_NET_ERR`.
const OK: u8 = 0;
const ERR: u8 = 1;

/// Classes.
const RX: u8 = 0;
const MAC: u8 = 1;
const VLAN: u8 = 2;
const ANNOUNCE: u8 = 3;
const GUEST_OFFLOADS: u8 = 5;

/// Bytes of a command that are looked at: two tables of more addresses than anybody has.
const MAX_COMMAND: u64 = 64 << 10;

/// A command that the driver must not give, or gives wrong.
struct Refused;

impl Net {
    /// Carry out a command; returns how many bytes were written.
    pub(crate) fn control(&mut self, cx: &mut Ctx<'_>, chain: &Chain) -> Result<u32, Violation> {
        if chain.readable_len() < 2 || chain.writable_len() < 1 {
            return Err(Violation::Short("control command"));
        }
        let mut command = vec![0; chain.readable_len().min(MAX_COMMAND) as usize];
        chain.read(cx, 0, &mut command)?;
        let done = self.command(cx, command[0], command[1], &command[2..]);
        chain.write(cx, 0, &[if done.is_ok() { OK } else { ERR }])?;
        Ok(1)
    }

    fn command(&mut self, cx: &mut Ctx<'_>, class: u8, command: u8, data: &[u8]) -> Result<(), Refused> {
        match (class, command) {
            (RX, _) => self.receive_mode(command, data),
            (MAC, 0) => self.set_tables(data),
            (MAC, 1) => {
                self.needs(features::CTRL_MAC_ADDR)?;
                self.filter.mac = *data.first_chunk::<6>().ok_or(Refused)?;
                Ok(())
            }
            (VLAN, 0 | 1) => {
                self.needs(features::CTRL_VLAN)?;
                let id = u16::from_le_bytes(*data.first_chunk().ok_or(Refused)?);
                if self.filter.set_vlan(id, command == 0) { Ok(()) } else { Err(Refused) }
            }
            (ANNOUNCE, 0) => {
                self.needs(features::GUEST_ANNOUNCE)?;
                self.announce = false;
                Ok(())
            }
            (GUEST_OFFLOADS, 0) => self.set_offloads(cx, data),
            _ => Err(Refused),
        }
    }

    fn needs(&self, feature: u64) -> Result<(), Refused> {
        if self.transport.has(feature) { Ok(()) } else { Err(Refused) }
    }

    /// §5.1.6.5.1.
    fn receive_mode(&mut self, command: u8, data: &[u8]) -> Result<(), Refused> {
        let (feature, mode) = match command {
            0 => (features::CTRL_RX, Mode::Promiscuous),
            1 => (features::CTRL_RX, Mode::AllMulticast),
            2 => (features::CTRL_RX_EXTRA, Mode::AllUnicast),
            3 => (features::CTRL_RX_EXTRA, Mode::NoMulticast),
            4 => (features::CTRL_RX_EXTRA, Mode::NoUnicast),
            5 => (features::CTRL_RX_EXTRA, Mode::NoBroadcast),
            _ => return Err(Refused),
        };
        self.needs(feature)?;
        let on = match data.first() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(Refused),
        };
        self.filter.set_mode(mode, on);
        Ok(())
    }

    /// Two tables, of unicast and of multicast addresses. §5.1.6.5.2.
    fn set_tables(&mut self, data: &[u8]) -> Result<(), Refused> {
        self.needs(features::CTRL_RX)?;
        let (unicast, rest) = table(data)?;
        let (multicast, _) = table(rest)?;
        self.filter.set_tables(unicast, multicast);
        Ok(())
    }

    /// §5.1.6.5.6.
    fn set_offloads(&mut self, cx: &mut Ctx<'_>, data: &[u8]) -> Result<(), Refused> {
        self.needs(features::CTRL_GUEST_OFFLOADS)?;
        let wanted = u64::from_le_bytes(*data.first_chunk().ok_or(Refused)?);
        let known = wanted & features::GUEST_OFFLOADS == wanted && self.transport.has(wanted);
        if !known || !features::complete(wanted) {
            return Err(Refused);
        }
        self.guest_offloads = wanted;
        self.tell_offload(cx);
        Ok(())
    }
}

/// A table of addresses behind its length, and what follows it.
fn table(data: &[u8]) -> Result<(Vec<Mac>, &[u8]), Refused> {
    let (count, rest) = data.split_first_chunk().ok_or(Refused)?;
    let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(6).ok_or(Refused)?;
    let (entries, rest) = rest.split_at_checked(bytes).ok_or(Refused)?;
    Ok((entries.as_chunks::<6>().0.to_vec(), rest))
}
