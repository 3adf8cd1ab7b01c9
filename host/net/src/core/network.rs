//! The network that the guest sees: its addresses, and what they mean on the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Addresses and sizes of the network. The default is the one that QEMU's user network has, with an IPv6 prefix that
/// is ours to give (RFC 4193).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Of everything on the link that is not the guest.
    pub mac: Mac,
    /// The guest's prefix; `None`: no IPv4.
    pub v4: Option<Prefix<Ipv4Addr>>,
    /// The guest's prefix; `None`: no IPv6.
    pub v6: Option<Prefix<Ipv6Addr>>,
    /// The longest IP packet on the link, 576 to 65,520; at least 1280 with IPv6.
    pub mtu: u16,
}

/// A prefix and the addresses in it that are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<A> {
    pub network: A,
    /// Bits of the prefix.
    pub bits: u8,
    /// The gateway, which also stands for the host's loopback address.
    pub gateway: A,
    /// The name server.
    pub dns: A,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mac: [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02],
            v4: Some(Prefix {
                network: Ipv4Addr::new(10, 0, 2, 0),
                bits: 24,
                gateway: Ipv4Addr::new(10, 0, 2, 2),
                dns: Ipv4Addr::new(10, 0, 2, 3),
            }),
            v6: Some(Prefix {
                network: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0),
                bits: 64,
                gateway: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
                dns: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3),
            }),
            mtu: 1500,
        }
    }
}

/// What an address of the guest's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The gateway: its own services, or the host's loopback address.
    Gateway(IpAddr),
    Dns,
    /// Another address of the prefix, where nobody is.
    Nobody,
    /// An address of the world.
    World(IpAddr),
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
    /// The gateway's link-local address.
    pub(super) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

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
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|v4| address == v4.gateway || address == v4.dns),
            IpAddr::V6(address) => self
                .v6
                .is_some_and(|v6| address == v6.gateway || address == v6.dns || address == Self::LINK_LOCAL),
        }
    }

    /// Whether the guest may send from it.
    pub(super) fn is_guests(&self, address: IpAddr) -> bool {
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
            IpAddr::V4(v4) => {
                if v4.is_multicast() || v4.is_broadcast() || Some(v4) == self.broadcast() {
                    Place::Multicast
                } else if self.v4.is_some_and(|net| net.gateway == v4) {
                    Place::Gateway(Ipv4Addr::LOCALHOST.into())
                } else if self.v4.is_some_and(|net| net.dns == v4) {
                    Place::Dns
                } else if self.in_v4(v4) {
                    Place::Nobody
                } else {
                    Place::World(address)
                }
            }
            IpAddr::V6(v6) => {
                if v6.is_multicast() {
                    Place::Multicast
                } else if v6 == Self::LINK_LOCAL || self.v6.is_some_and(|net| net.gateway == v6) {
                    Place::Gateway(Ipv6Addr::LOCALHOST.into())
                } else if self.v6.is_some_and(|net| net.dns == v6) {
                    Place::Dns
                } else if self.in_v6(v6) || v6.is_unicast_link_local() {
                    Place::Nobody
                } else {
                    Place::World(address)
                }
            }
        }
    }

    /// The gateway's address as a guest with this address knows it.
    pub(super) fn gateway_for(&self, guest: IpAddr) -> Option<IpAddr> {
        match guest {
            IpAddr::V4(_) => self.v4.map(|v4| v4.gateway.into()),
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(Self::LINK_LOCAL.into()),
            IpAddr::V6(_) => self.v6.map(|v6| v6.gateway.into()),
        }
    }

    /// How `peer` of the host's network looks to a guest with this address: the host itself is the gateway, and so is
    /// a peer of the other family. `None` if the guest's family is off.
    pub(super) fn seen(&self, peer: SocketAddr, guest: IpAddr) -> Option<SocketAddr> {
        let ip = peer.ip().to_canonical();
        let other = ip.is_ipv4() != guest.is_ipv4();
        let strange = ip.is_loopback() || ip.is_unspecified() || self.place(ip) != Place::World(ip);
        let ip = if other || strange { self.gateway_for(guest)? } else { ip };
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
            ("10.0.2.2", Place::Gateway(ip("127.0.0.1"))),
            ("10.0.2.3", Place::Dns),
            ("10.0.2.99", Place::Nobody),
            ("10.0.2.255", Place::Multicast),
            ("255.255.255.255", Place::Multicast),
            ("224.0.0.251", Place::Multicast),
            ("10.0.3.2", Place::World(ip("10.0.3.2"))),
            ("fd00::2", Place::Gateway(ip("::1"))),
            ("fe80::2", Place::Gateway(ip("::1"))),
            ("fd00::3", Place::Dns),
            ("fd00::4", Place::Nobody),
            ("fe80::4", Place::Nobody),
            ("ff02::1", Place::Multicast),
            ("fd00:0:0:1::2", Place::World(ip("fd00:0:0:1::2"))),
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
        for address in not.iter().chain(&["fd00::", "fd00::2", "fe80::2", "fd01::5", "::", "::1", "ff02::1"])
        {
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
        assert_eq!(seen("[::1]:5", "fe80::15"), "[fe80::2]:5");
        assert_eq!(seen("[2001:db8::1]:5", "fd00::15"), "[2001:db8::1]:5");
    }
}
