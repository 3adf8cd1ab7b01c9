//! What an address is, whoever owns it: the groups that rules and profiles speak of.

use crate::address::Cidr;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of address. One may be of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// None of the others.
    Public,
    /// 127.0.0.0/8, `::1`, and what the guest's name for the host stands for.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// Where clouds tell a machine its secrets.
    Metadata,
    /// RFC 1918, 100.64.0.0/10, `fc00::/7`, `fec0::/10`.
    Private,
    /// 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// The host's own addresses, and the guest's name for its loopback.
    Host,
    /// The addresses at which the network itself answers.
    Gateway,
    /// 0.0.0.0/8, `::`: "this host", which is the loopback when somebody connects to it.
    Unspecified,
    /// Set aside by IANA: documentation, benchmarks, protocol assignments, future use, tunnels.
    Reserved,
    /// The guest's own network.
    Guest,
}

impl Group {
    /// All, with their names.
    pub(super) const ALL: [(Self, &'static str); 12] = [
        (Self::Public, "public"),
        (Self::Loopback, "loopback"),
        (Self::LinkLocal, "link-local"),
        (Self::Metadata, "metadata"),
        (Self::Private, "private"),
        (Self::Multicast, "multicast"),
        (Self::Broadcast, "broadcast"),
        (Self::Host, "host"),
        (Self::Gateway, "gateway"),
        (Self::Unspecified, "unspecified"),
        (Self::Reserved, "reserved"),
        (Self::Guest, "guest"),
    ];

    /// Whether packets to it never leave, whatever a rule says.
    #[must_use]
    pub const fn never_leaves(self) -> bool {
        matches!(self, Self::Multicast | Self::Broadcast | Self::Unspecified | Self::Guest)
    }

    /// What an address may be besides when a rule allows this group.
    pub(super) const fn covers(self) -> Groups {
        match self {
            // The host at any of its addresses.
            Self::Host => Groups::of(&[
                Self::Host,
                Self::Gateway,
                Self::Loopback,
                Self::Private,
                Self::LinkLocal,
                Self::Reserved,
            ]),
            Self::Gateway => Groups::of(&[Self::Host, Self::Gateway, Self::Loopback]),
            Self::Metadata => Groups::of(&[Self::Metadata, Self::LinkLocal, Self::Private, Self::Reserved]),
            Self::Public
            | Self::Loopback
            | Self::LinkLocal
            | Self::Private
            | Self::Multicast
            | Self::Broadcast
            | Self::Unspecified
            | Self::Reserved
            | Self::Guest => Groups::of(&[self]),
        }
    }
}

/// What only a rule that means it opens: one that says "everything" does not mean the host's own doors.
pub(super) const INNER: Groups =
    Groups::of(&[Group::Loopback, Group::LinkLocal, Group::Metadata, Group::Host]);

/// A set of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups(u16);

impl Groups {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(u16::MAX);

    pub(super) const fn of(groups: &[Group]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < groups.len() {
            bits |= 1 << groups[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    pub(super) const fn with(self, group: Group) -> Self {
        Self(self.0 | 1 << group as u16)
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, group: Group) -> bool {
        self.0 & 1 << group as u16 != 0
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// Networks and what they are. IANA's special-purpose registries, RFC 6890.
const V4: &[(&str, Group)] = &[
    ("0.0.0.0/8", Group::Unspecified),
    ("10.0.0.0/8", Group::Private),
    ("100.64.0.0/10", Group::Private),
    ("127.0.0.0/8", Group::Loopback),
    ("169.254.0.0/16", Group::LinkLocal),
    ("172.16.0.0/12", Group::Private),
    ("192.0.0.0/24", Group::Reserved),
    ("192.0.2.0/24", Group::Reserved),
    ("192.88.99.0/24", Group::Reserved),
    ("192.168.0.0/16", Group::Private),
    ("198.18.0.0/15", Group::Reserved),
    ("198.51.100.0/24", Group::Reserved),
    ("203.0.113.0/24", Group::Reserved),
    ("224.0.0.0/4", Group::Multicast),
    ("240.0.0.0/4", Group::Reserved),
    ("255.255.255.255/32", Group::Broadcast),
    // Amazon (and who took it over), its containers, Alibaba, Azure, Oracle.
    ("169.254.169.254/32", Group::Metadata),
    ("169.254.170.2/32", Group::Metadata),
    ("100.100.100.200/32", Group::Metadata),
    ("168.63.129.16/32", Group::Metadata),
    ("192.0.0.192/32", Group::Metadata),
];

const V6: &[(&str, Group)] = &[
    ("::/128", Group::Unspecified),
    ("::1/128", Group::Loopback),
    // What is not among IANA's 2000::/3 is nobody's: IPv4-compatible and -translated addresses, local NAT64, discard,
    // segment routing, and all that is not given out yet.
    ("::/3", Group::Reserved),
    ("4000::/2", Group::Reserved),
    ("8000::/2", Group::Reserved),
    ("c000::/3", Group::Reserved),
    ("e000::/4", Group::Reserved),
    ("f000::/5", Group::Reserved),
    ("f800::/6", Group::Reserved),
    ("fe00::/9", Group::Reserved),
    // Protocol assignments (Teredo, ORCHID), documentation, 6to4, documentation.
    ("2001::/23", Group::Reserved),
    ("2001:db8::/32", Group::Reserved),
    ("2002::/16", Group::Reserved),
    ("3fff::/20", Group::Reserved),
    ("fc00::/7", Group::Private),
    ("fe80::/10", Group::LinkLocal),
    ("fec0::/10", Group::Private),
    ("ff00::/8", Group::Multicast),
    // Amazon, Google.
    ("fd00:ec2::254/128", Group::Metadata),
    ("fd20:ce::254/128", Group::Metadata),
];

/// The groups that follow from the address alone.
pub(super) fn of_address(address: IpAddr) -> Groups {
    match address {
        IpAddr::V4(v4) => find_v4(v4),
        IpAddr::V6(v6) => find_v6(v6),
    }
}

fn find_v4(address: Ipv4Addr) -> Groups {
    let [a, b, c, d] = address.octets();
    match_table(&table::V4, u128::from(u32::from_be_bytes([a, b, c, d])))
}

fn find_v6(address: Ipv6Addr) -> Groups {
    let groups = match_table(&table::V6, address.to_bits());
    // `::1` and `::` are given out.
    let plain = address == Ipv6Addr::LOCALHOST || address == Ipv6Addr::UNSPECIFIED;
    if plain { Groups(groups.0 & !Groups::of(&[Group::Reserved]).0) } else { groups }
}

/// The groups whose networks it lies in, with all of its addresses.
pub(super) fn of_network(network: &Cidr) -> Groups {
    // Of two networks, one lies in the other or they have nothing in common.
    let (table, ends) = match (network.first(), network.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (&table::V4, [first, last].map(|v4| v4.to_bits().into())),
        (IpAddr::V6(first), IpAddr::V6(last)) => (&table::V6, [first, last].map(Ipv6Addr::to_bits)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Groups::NONE,
    };
    let hits = table.iter().filter(|row| ends.iter().all(|bits| bits & row.mask == row.value));
    hits.fold(Groups::NONE, |groups, row| groups.with(row.group))
}

fn match_table(table: &[table::Row], bits: u128) -> Groups {
    let hits = table.iter().filter(|row| bits & row.mask == row.value);
    hits.fold(Groups::NONE, |groups, row| groups.with(row.group))
}

/// The networks above as numbers, read once: a decision is made for each datagram.
mod table {
    use super::Group;
    use crate::address::Cidr;
    use std::{net::IpAddr, sync::LazyLock};

    pub(super) struct Row {
        pub(super) value: u128,
        pub(super) mask: u128,
        pub(super) group: Group,
    }

    pub(super) static V4: LazyLock<Vec<Row>> = LazyLock::new(|| rows(super::V4));
    pub(super) static V6: LazyLock<Vec<Row>> = LazyLock::new(|| rows(super::V6));

    fn rows(networks: &[(&str, Group)]) -> Vec<Row> {
        networks
            .iter()
            .map(|(text, group)| row(text.parse().expect("a constant of this file"), *group))
            .collect()
    }

    fn row(network: Cidr, group: Group) -> Row {
        let (value, width) = match network.first() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let host_bits = width - u32::from(network.prefix());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Row { value, mask: if width == 32 { mask & u128::from(u32::MAX) } else { mask }, group }
    }
}

/// Every address at which a packet to `address` may end: itself, or the IPv4 address that a translator takes out of
/// it, or both where it depends on who gets it.
pub(super) fn judged(address: IpAddr) -> [Option<IpAddr>; 2] {
    let IpAddr::V6(v6) = address else { return [Some(address), None] };
    let inner = |bits: u128| Some(IpAddr::V4(Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32)));
    let bits = v6.to_bits();
    let segments = v6.segments();
    match segments {
        // RFC 6052: the well-known prefix of NAT64. The outer address is only an envelope.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [inner(bits), None],
        // RFC 8215: a local prefix of NAT64; where the IPv4 address is depends on its length, mostly at the end.
        [0x64, 0xff9b, 1, ..] => [Some(address), inner(bits)],
        // RFC 3056: 6to4 has it behind the prefix.
        [0x2002, ..] => [Some(address), inner(bits >> 80)],
        // RFC 4380: Teredo has the client's inverted at the end.
        [0x2001, 0, ..] => [Some(address), inner(!bits)],
        // IPv4-compatible, but not `::` and `::1`.
        [0, 0, 0, 0, 0, 0, _, _] if bits > 1 => [Some(address), inner(bits)],
        // RFC 2765: IPv4-translated.
        [0, 0, 0, 0, 0xffff, 0, _, _] => [Some(address), inner(bits)],
        // ISATAP, RFC 5214.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => [Some(address), inner(bits)],
        _ => [Some(address), None],
    }
}
