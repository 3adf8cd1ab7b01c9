//! Addresses as people write them: networks with a prefix, Ethernet addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network or no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl Cidr {
    /// The network of `prefix` bits around `address`; bits behind the prefix are cleared. `None`: no such prefix.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask_v4(prefix))),
            IpAddr::V6(v6) if prefix <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(prefix)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, prefix })
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.address
    }

    /// The last address; in IPv4 it is the broadcast address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | !mask_v4(self.prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | !mask_v6(self.prefix))),
        }
    }

    /// How many leading bits count.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` is of this network. Addresses of another family never are.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix) == Some(*self)
    }

    /// The address `offset` behind the first one, if the network is that large.
    #[must_use]
    pub fn nth(&self, offset: u32) -> Option<IpAddr> {
        let address = match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().checked_add(offset)?)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits().checked_add(u128::from(offset))?)),
        };
        self.contains(address).then_some(address)
    }
}

const fn mask_v4(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

const fn mask_v6(prefix: u8) -> u128 {
    if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) }
}

impl FromStr for Cidr {
    type Err = AddressError;

    /// `10.0.2.0/24`; without a prefix it is that one address.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let no_network =
            || AddressError(format!("`{text}` is no network: write it like 10.1.0.0/16 or fd12::/64"));
        let address: IpAddr = address.parse().map_err(|_| no_network())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(no_network)?,
        };
        let network = Self::new(address, prefix).ok_or_else(no_network)?;
        if network.address == address {
            return Ok(network);
        }
        // 10.0.2.15/24 may mean the network or the one address; guessing wrong opens or closes a door.
        Err(AddressError(format!("`{text}` has bits behind its prefix: the network is {network}")))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether one station can have it.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl FromStr for Mac {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let none =
            || AddressError(format!("`{text}` is no Ethernet address: write it like 52:54:00:12:34:56"));
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let digits = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts.next().filter(digits).ok_or_else(none)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| none())?;
        }
        if parts.next().is_some() { Err(none()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Types that boards write as strings.
macro_rules! written_as_text {
    ($($kind:ty),*) => {$(
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use written_as_text;

written_as_text!(Cidr, Mac);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_a_first_and_a_last_address() {
        let net = network("10.0.2.0/24");
        assert_eq!(net.first().to_string(), "10.0.2.0");
        assert_eq!(net.last().to_string(), "10.0.2.255");
        assert_eq!(net.nth(15).unwrap().to_string(), "10.0.2.15");
        assert_eq!(net.nth(256), None);
        assert_eq!(network("fd00::/64").last().to_string(), "fd00::ffff:ffff:ffff:ffff");
        assert_eq!(network("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(network("::/0").nth(2).unwrap().to_string(), "::2");
        assert_eq!(network("255.255.255.255").nth(1), None);
    }

    #[test]
    fn it_contains_what_its_prefix_says() {
        let net = network("172.16.0.0/12");
        for (address, inside) in [("172.16.0.0", true), ("172.31.255.255", true), ("172.32.0.0", false)] {
            assert_eq!(net.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!network("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(!network("::/0").contains("1.2.3.4".parse().unwrap()));
        assert!(network("::1").contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_said_to_be_none() {
        for text in
            ["", "10.0.2", "10.0.2.0/33", "fd00::/129", "10.0.2.0/", "10.0.2.0/-1", "10.0.2.0/8/8", "a/8"]
        {
            assert!(text.parse::<Cidr>().unwrap_err().to_string().contains("no network"), "{text}");
        }
        let hanging = "10.0.2.15/24".parse::<Cidr>().unwrap_err().to_string();
        assert!(hanging.contains("the network is 10.0.2.0/24"), "{hanging}");
    }

    #[test]
    fn ethernet_addresses_read_and_print() {
        let mac: Mac = "52:54:00:12:34:5F".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f]));
        assert_eq!(mac.to_string(), "52:54:00:12:34:5f");
        assert!(mac.is_unicast() && !Mac::BROADCAST.is_unicast() && !Mac([0; 6]).is_unicast());
        for text in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5", "52:54:00:12:34:+5", "x"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
