//! Which frames are for the guest: MAC addresses, receive modes, VLANs. Virtio 1.2 §5.1.6.5.1 to §5.1.6.5.3.

use crate::frame::{self, Mac};
use reprise_plugin_api::DeviceState;

/// Addresses that a table keeps. Of a longer one every address is let in, as the specification allows.
const TABLE: usize = 64;
/// Bits of a VLAN id. IEEE 802.1Q.
const VLANS: usize = 4096;

/// Receive modes. §5.1.6.5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Promiscuous,
    AllMulticast,
    AllUnicast,
    NoMulticast,
    NoUnicast,
    NoBroadcast,
}

#[derive(Debug, DeviceState)]
pub(crate) struct Filter {
    pub(crate) mac: Mac,
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    unicast: Vec<Mac>,
    unicast_overflow: bool,
    multicast: Vec<Mac>,
    multicast_overflow: bool,
    /// The driver filters by VLAN.
    by_vlan: bool,
    /// VLAN ids that are let in, as bits.
    vlans: Box<[u64]>,
}

impl Filter {
    /// Lets everything in until the driver says what it wants: it may know nothing of filters.
    pub(crate) fn new(mac: Mac) -> Self {
        Self {
            mac,
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Vec::new(),
            unicast_overflow: false,
            multicast: Vec::new(),
            multicast_overflow: false,
            by_vlan: false,
            vlans: vec![0; VLANS / 64].into(),
        }
    }

    pub(crate) fn set_mode(&mut self, mode: Mode, on: bool) {
        *match mode {
            Mode::Promiscuous => &mut self.promiscuous,
            Mode::AllMulticast => &mut self.all_multicast,
            Mode::AllUnicast => &mut self.all_unicast,
            Mode::NoMulticast => &mut self.no_multicast,
            Mode::NoUnicast => &mut self.no_unicast,
            Mode::NoBroadcast => &mut self.no_broadcast,
        } = on;
    }

    /// CTRL_VLAN was negotiated or not: then only those that the driver names are let in.
    pub(crate) fn filter_vlans(&mut self, by_vlan: bool) {
        self.by_vlan = by_vlan;
    }

    /// Let a VLAN in or no more. `false`: there is no such id.
    pub(crate) fn set_vlan(&mut self, id: u16, on: bool) -> bool {
        let Some(word) = self.vlans.get_mut(usize::from(id) / 64) else { return false };
        let bit = 1 << (id % 64);
        *word = if on { *word | bit } else { *word & !bit };
        true
    }

    /// Replace both tables.
    pub(crate) fn set_tables(&mut self, unicast: Vec<Mac>, multicast: Vec<Mac>) {
        let fit = |table: Vec<Mac>| if table.len() > TABLE { (Vec::new(), true) } else { (table, false) };
        (self.unicast, self.unicast_overflow) = fit(unicast);
        (self.multicast, self.multicast_overflow) = fit(multicast);
    }

    /// Whether the guest wants this Ethernet frame.
    pub(crate) fn admits(&self, ethernet: &[u8]) -> bool {
        let Some(to) = frame::destination(ethernet) else { return false };
        if self.by_vlan && !frame::vlan(ethernet).is_none_or(|id| self.has_vlan(id)) {
            return false;
        }
        if self.promiscuous {
            return true;
        }
        if to == frame::BROADCAST {
            return !self.no_broadcast;
        }
        if frame::is_multicast(to) {
            let wanted = self.all_multicast || self.multicast_overflow || self.multicast.contains(&to);
            return wanted && !self.no_multicast;
        }
        let wanted =
            to == self.mac || self.all_unicast || self.unicast_overflow || self.unicast.contains(&to);
        wanted && !self.no_unicast
    }

    fn has_vlan(&self, id: u16) -> bool {
        self.vlans.get(usize::from(id) / 64).is_some_and(|word| word >> (id % 64) & 1 != 0)
    }
}
