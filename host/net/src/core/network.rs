//! The network that the guest sees: its addresses, and what they mean on the host.

use crate::config::Config;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The octets of an Ethernet address.
pub(super) type Mac = [u8; 6];

/// Addresses and sizes of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Of everything on the link that is not the guest.
    pub mac: [u8; 6],
    /// The gateway's link-local address.
    pub link_local: Ipv6Addr,
    /// The guest's prefix; `None`: no IPv4.
    pub v4: Option<Prefix<Ipv4Addr>>,
    /// The guest's prefix; `None`: no IPv6.
    pub v6: Option<Prefix<Ipv6Addr>>,
    /// The longest IP packet on the link, 576 to 65,520; at least 1280 with IPv6.
    pub mtu: u16,
    /// Addresses of the guest's prefixes at which services of the host's are found (`guestfwd`).
    pub services: BTreeSet<IpAddr>,
}

/// A prefix and the addresses in it that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<A> {
    pub network: A,
    /// Bits of the prefix.
    pub bits: u8,
    /// The gateway.
    pub gateway: A,
    /// What stands for the host's loopback address; may be the gateway.
    pub host: A,
    /// The name server.
    pub dns: A,
}

impl From<&Config> for Network {
    fn from(config: &Config) -> Self {
        let v4 = config.ipv4.as_ref().and_then(|v4| match v4.network.first() {
            IpAddr::V4(network) => {
                let bits = v4.network.prefix();
                Some(Prefix { network, bits, gateway: v4.gateway, host: v4.host, dns: v4.dns })
            }
            IpAddr::V6(_) => None,
        });
        let v6 = config.ipv6.as_ref().and_then(|v6| match v6.network.first() {
            IpAddr::V6(network) => {
                let bits = v6.network.prefix();
                Some(Prefix { network, bits, gateway: v6.gateway, host: v6.host, dns: v6.dns })
            }
            IpAddr::V4(_) => None,
        });
        let services = config.guest_forwards.iter().map(|forward| forward.at.ip()).collect();
        Self { mac: config.mac.0, link_local: config.gateway_link_local(), v4, v6, mtu: config.mtu, services }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

/// What an address of the guest's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Ours, with services of its own; or what stands for the host.
    Gateway,
    Host,
    Dns,
    /// Another address of the prefix, where nobody is.
    Nobody,
    /// An address of the world.
    World,
    /// Everybody on the link.
    Multicast,
}

fn v4_bits(address: Ipv4Addr, bits: u8) -> u32 {
    u32::from(address).checked_shr(32 - u32::from(bits)).unwrap_or(0)
}

fn v6_bits(address: Ipv6Addr, bits: u8) -> u128 {
    u128::from(address).checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

impl Network {
    fn in_v4(&self, address: Ipv4Addr) -> bool {
        self.v4.is_some_and(|v4| v4_bits(address, v4.bits) == v4_bits(v4.network, v4.bits))
    }

    fn in_v6(&self, address: Ipv6Addr) -> bool {
        self.v6.is_some_and(|v6| v6_bits(address, v6.bits) == v6_bits(v6.network, v6.bits))
    }

    fn broadcast(&self) -> Option<Ipv4Addr> {
        let v4 = self.v4?;
        let host = u32::MAX.checked_shr(u32::from(v4.bits)).unwrap_or(0);
        Some(Ipv4Addr::from(u32::from(v4.network) | host))
    }

    /// Whether an address is one of ours.
    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        self.services.contains(&address) || self.is_server(address)
    }

    fn is_server(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|v4| [v4.gateway, v4.host, v4.dns].contains(&address)),
            IpAddr::V6(address) => {
                self.v6.is_some_and(|v6| [v6.gateway, v6.host, v6.dns, self.link_local].contains(&address))
            }
        }
    }

    /// Whether the guest may send from it.
    pub(crate) fn is_guests(&self, address: IpAddr) -> bool {
        if self.is_ours(address) {
            return false;
        }
        match address {
            IpAddr::V4(address) => {
                let ends =
                    Some(address) == self.broadcast() || self.v4.is_some_and(|v4| v4.network == address);
                self.in_v4(address) && (!ends || self.v4.is_some_and(|v4| v4.bits >= 31))
            }
            IpAddr::V6(address) => {
                let host = v6_bits(address, 128) as u64;
                self.v6.is_some() && host != 0 && (self.in_v6(address) || address.is_unicast_link_local())
            }
        }
    }

    /// What the guest means by an address.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        match address {
            IpAddr::V4(v4) => match self.v4 {
                _ if v4.is_multicast() || v4.is_broadcast() || Some(v4) == self.broadcast() => {
                    Place::Multicast
                }
                Some(net) if net.host == v4 => Place::Host,
                Some(net) if net.gateway == v4 => Place::Gateway,
                Some(net) if net.dns == v4 => Place::Dns,
                Some(_) if self.in_v4(v4) => Place::Nobody,
                Some(_) | None => Place::World,
            },
            IpAddr::V6(v6) => match self.v6 {
                _ if v6.is_multicast() => Place::Multicast,
                Some(net) if net.host == v6 => Place::Host,
                Some(net) if net.gateway == v6 || self.link_local == v6 => Place::Gateway,
                Some(net) if net.dns == v6 => Place::Dns,
                Some(_) if self.in_v6(v6) || v6.is_unicast_link_local() => Place::Nobody,
                Some(_) | None => Place::World,
            },
        }
    }

    /// The gateway's address as a guest with this address knows it.
    pub(super) fn gateway_for(&self, guest: IpAddr) -> Option<IpAddr> {
        match guest {
            IpAddr::V4(_) => self.v4.map(|v4| v4.gateway.into()),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(self.link_local.into()),
            IpAddr::V6(_) => self.v6.map(|v6| v6.gateway.into()),
        }
    }

    /// How `peer` of the host's network looks to a guest with this address: the host itself has its name there, and so
    /// has a peer of the other family. `None` if the guest's family is off.
    pub(super) fn seen(&self, peer: SocketAddr, guest: IpAddr) -> Option<SocketAddr> {
        let ip = peer.ip().to_canonical();
        let other = ip.is_ipv4() != guest.is_ipv4();
        let strange = ip.is_loopback() || ip.is_unspecified() || self.place(ip) != Place::World;
        let host = || match guest {
            IpAddr::V4(_) => self.v4.map(|v4| v4.host.into()),
            IpAddr::V6(_) => self.v6.map(|v6| v6.host.into()),
        };
        let ip = if other || strange { host()? } else { ip };
        Some(SocketAddr::new(ip, peer.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_has_its_place() {
        let net = Network::default();
        let cases = [
            ("10.0.2.2", Place::Host),
            ("10.0.2.3", Place::Dns),
            ("10.0.2.99", Place::Nobody),
            ("10.0.2.255", Place::Multicast),
            ("255.255.255.255", Place::Multicast),
            ("224.0.0.251", Place::Multicast),
            ("10.0.3.2", Place::World),
            ("fd00::2", Place::Host),
            ("fe80::5055:aff:fe00:202", Place::Gateway),
            ("fd00::3", Place::Dns),
            ("fd00::4", Place::Nobody),
            ("fe80::4", Place::Nobody),
            ("ff02::1", Place::Multicast),
            ("fd00:0:0:1::2", Place::World),
        ];
        for (address, place) in cases {
            assert_eq!(net.place(ip(address)), place, "{address}");
        }
    }

    #[test]
    fn the_guest_may_be_anybody_of_the_prefix_but_us() {
        let net = Network::default();
        for address in ["10.0.2.15", "10.0.2.254", "fd00::15", "fe80::5054:ff:fe12:3456"] {
            assert!(net.is_guests(ip(address)), "{address}");
        }
        let not = ["10.0.2.2", "10.0.2.3", "10.0.2.0", "10.0.2.255", "10.0.3.1", "0.0.0.0", "127.0.0.1"];
        for address in not.iter().chain(&[
            "fd00::",
            "fd00::2",
            "fe80::5055:aff:fe00:202",
            "fd01::5",
            "::",
            "::1",
            "ff02::1",
        ]) {
            assert!(!net.is_guests(ip(address)), "{address}");
        }
    }

    #[test]
    fn the_host_looks_like_the_gateway() {
        let net = Network::default();
        let seen = |peer: &str, guest: &str| net.seen(peer.parse().unwrap(), ip(guest)).unwrap().to_string();
        assert_eq!(seen("127.0.0.1:5", "10.0.2.15"), "10.0.2.2:5");
        assert_eq!(seen("192.0.2.7:5", "10.0.2.15"), "192.0.2.7:5");
        assert_eq!(seen("[::ffff:192.0.2.7]:5", "10.0.2.15"), "192.0.2.7:5");
        assert_eq!(seen("10.0.2.15:5", "10.0.2.15"), "10.0.2.2:5", "a stranger inside the prefix");
        assert_eq!(seen("[::1]:5", "10.0.2.15"), "10.0.2.2:5");
        assert_eq!(seen("[::1]:5", "fd00::15"), "[fd00::2]:5");
        assert_eq!(seen("[::1]:5", "fe80::15"), "[fd00::2]:5");
        assert_eq!(seen("[2001:db8::1]:5", "fd00::15"), "[2001:db8::1]:5");
    }
}
