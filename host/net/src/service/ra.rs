//! Router advertisements (RFC 4861 §6.2): from them a guest makes its own IPv6 addresses (RFC 4862) and learns router,
//! MTU and name server (RFC 8106).

use super::SECOND_NS;
use crate::config::{Config, Ipv6Network};
use std::net::Ipv6Addr;

/// ICMPv6 types. RFC 4861 §4.1, §4.2.
const ROUTER_SOLICIT: u8 = 133;
const ROUTER_ADVERT: u8 = 134;
/// ICMPv6 as a next header.
const ICMPV6: u8 = 58;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// "Hosts should ask DHCPv6 for more than addresses" and "for addresses".
const OTHER_FLAG: u8 = 0x40;
const MANAGED_FLAG: u8 = 0x80;
/// The prefix is on the link, and addresses are made of it.
const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;

/// Between two that nobody asked for: 200 s, within §6.2.1's limits.
const INTERVAL_NS: u64 = 200 * SECOND_NS;
/// The first ones come sooner (§6.2.4), for guests whose question was before the link was up.
const FIRST_INTERVAL_NS: u64 = 16 * SECOND_NS;
const FIRST_ADVERTISEMENTS: u32 = 3;
const ROUTER_LIFETIME_S: u16 = 1800;
/// Three intervals (RFC 8106 §5.1).
const DNS_LIFETIME_S: u32 = 600;
const VALID_S: u32 = 86_400;
const PREFERRED_S: u32 = 14_400;

/// What to send, with hop limit 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The gateway's link-local address.
    pub from: Ipv6Addr,
    /// Who asked, or all nodes.
    pub to: Ipv6Addr,
    /// The ICMPv6 message with its checksum.
    pub message: Vec<u8>,
}

/// The router's voice.
#[derive(Debug)]
pub struct Router {
    from: Ipv6Addr,
    /// Without a checksum.
    message: Vec<u8>,
    sent: u32,
    next_ns: u64,
}

impl Router {
    /// `None` if there is no IPv6. The first advertisement is due at once.
    #[must_use]
    pub fn new(config: &Config, now_ns: u64) -> Option<Self> {
        let net = config.ipv6.as_ref()?;
        Some(Self {
            from: config.gateway_link_local(),
            message: message(config, net),
            sent: 0,
            next_ns: now_ns,
        })
    }

    /// The answer to an ICMPv6 message from `source`, whose checksum and hop limit (255) were right, if it is a router
    /// solicitation.
    #[must_use]
    pub fn solicited(&self, source: Ipv6Addr, bytes: &[u8]) -> Option<Advertisement> {
        let (fixed, options) = bytes.split_at_checked(8)?;
        if fixed[0] != ROUTER_SOLICIT || fixed[1] != 0 || !options_are_whole(options) {
            return None;
        }
        let known = !source.is_unspecified() && !source.is_multicast();
        Some(self.advertisement(if known { source } else { ALL_NODES }))
    }

    /// The advertisement that nobody asked for, when it is due.
    pub fn poll(&mut self, now_ns: u64) -> Option<Advertisement> {
        if now_ns < self.next_ns {
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        let interval_ns = if self.sent < FIRST_ADVERTISEMENTS { FIRST_INTERVAL_NS } else { INTERVAL_NS };
        self.next_ns = now_ns.saturating_add(interval_ns);
        Some(self.advertisement(ALL_NODES))
    }

    /// The guest is one of another time, which may be earlier: it is told at once.
    pub fn restart(&mut self, now_ns: u64) {
        (self.sent, self.next_ns) = (0, now_ns);
    }

    /// When to poll.
    #[must_use]
    pub const fn next_deadline_ns(&self) -> u64 {
        self.next_ns
    }

    fn advertisement(&self, to: Ipv6Addr) -> Advertisement {
        let mut message = self.message.clone();
        let sum = checksum(self.from, to, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Advertisement { from: self.from, to, message }
    }
}

/// §6.1.1: every option has a length, in eights of bytes, which is not zero.
fn options_are_whole(mut options: &[u8]) -> bool {
    while let [_, length, ..] = options {
        match options.get(usize::from(*length) * 8..) {
            Some(rest) if *length != 0 => options = rest,
            Some(_) | None => return false,
        }
    }
    options.is_empty()
}

fn message(config: &Config, net: &Ipv6Network) -> Vec<u8> {
    let managed = config.static_leases.iter().any(|lease| lease.ip6.is_some());
    let flags = if managed { OTHER_FLAG | MANAGED_FLAG } else { OTHER_FLAG };
    let mut out = vec![ROUTER_ADVERT, 0, 0, 0, 64, flags];
    out.extend_from_slice(&ROUTER_LIFETIME_S.to_be_bytes());
    // Reachable and retransmission time: the host's own.
    out.extend_from_slice(&[0; 8]);
    // Source link-layer address (§4.6.1).
    out.extend_from_slice(&[1, 1]);
    out.extend_from_slice(&config.mac.0);
    // MTU (§4.6.4).
    out.extend_from_slice(&[5, 1, 0, 0]);
    out.extend_from_slice(&u32::from(config.mtu).to_be_bytes());
    // Prefix information (§4.6.2).
    out.extend_from_slice(&[3, 4, 64, ON_LINK_AND_AUTONOMOUS]);
    out.extend_from_slice(&VALID_S.to_be_bytes());
    out.extend_from_slice(&PREFERRED_S.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    if let std::net::IpAddr::V6(first) = net.network.first() {
        out.extend_from_slice(&first.octets());
    }
    // Recursive DNS server (RFC 8106 §5.1).
    out.extend_from_slice(&[25, 3, 0, 0]);
    out.extend_from_slice(&DNS_LIFETIME_S.to_be_bytes());
    out.extend_from_slice(&net.dns.octets());
    // DNS search list (RFC 8106 §5.2), filled up to eights with zeroes.
    let names = if config.search.is_empty() { config.domain.as_slice() } else { &config.search };
    if !names.is_empty() {
        let mut list = super::names::list(names);
        list.resize(list.len().next_multiple_of(8), 0);
        out.extend_from_slice(&[31, 1 + (list.len() / 8) as u8, 0, 0]);
        out.extend_from_slice(&DNS_LIFETIME_S.to_be_bytes());
        out.extend_from_slice(&list);
    }
    out
}

/// RFC 8200 §8.1: over the pseudo-header and the message, whose own field is zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let parts: [&[u8]; 5] = [&from.octets(), &to.octets(), &length, &[0, 0, 0, ICMPV6], message];
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{
        Icmpv6Slice, Icmpv6Type,
        icmpv6::{NdpOptionSlice, RouterAdvertisementPayloadSlice},
    };

    fn router(toml: &str) -> Router {
        Router::new(&Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap(), 0).unwrap()
    }

    fn solicitation() -> Vec<u8> {
        vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]
    }

    const GUEST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);

    #[test]
    fn somebody_else_reads_what_is_advertised() {
        let advert = router("mtu = 9000\nsearch = [\"lab.test\", \"test\"]")
            .solicited(GUEST, &solicitation())
            .unwrap();
        assert_eq!((advert.from.to_string().as_str(), advert.to), ("fe80::5055:aff:fe00:202", GUEST));
        let slice = Icmpv6Slice::from_slice(&advert.message).unwrap();
        assert!(slice.is_checksum_valid(advert.from.octets(), advert.to.octets()));
        let Icmpv6Type::RouterAdvertisement(header) = slice.icmp_type() else {
            panic!("{:?}", slice.icmp_type())
        };
        assert_eq!((header.cur_hop_limit, header.router_lifetime), (64, 1800));
        assert!(header.other_config && !header.managed_address_config);
        let body = RouterAdvertisementPayloadSlice::from_slice(slice.payload()).unwrap();
        let mut kinds = Vec::new();
        for option in body.options_iterator() {
            match option.unwrap() {
                NdpOptionSlice::SourceLinkLayerAddress(mac) => {
                    assert_eq!(mac.link_layer_address(), [0x52, 0x55, 10, 0, 2, 2]);
                    kinds.push(1);
                }
                NdpOptionSlice::Mtu(mtu) => {
                    assert_eq!(mtu.mtu(), 9000);
                    kinds.push(5);
                }
                NdpOptionSlice::PrefixInformation(prefix) => {
                    assert_eq!((prefix.prefix_length(), prefix.on_link()), (64, true));
                    assert!(prefix.autonomous_address_configuration());
                    assert_eq!(Ipv6Addr::from(prefix.prefix()).to_string(), "fd00::");
                    assert_eq!((prefix.valid_lifetime(), prefix.preferred_lifetime()), (86_400, 14_400));
                    kinds.push(3);
                }
                NdpOptionSlice::Unknown(other) => kinds.push(u32::from(other.as_bytes()[0])),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
    }

    #[test]
    fn names_and_their_server_are_told() {
        let advert = router("search = [\"lab.test\", \"test\"]").poll(0).unwrap();
        let mut options = &advert.message[16..];
        let mut found = Vec::new();
        while let [kind, length, ..] = options {
            let (option, rest) = options.split_at(usize::from(*length) * 8);
            if [25, 31].contains(kind) {
                found.push(option);
            }
            options = rest;
        }
        let [rdnss, dnssl] = found[..] else { panic!("{found:?}") };
        assert_eq!(rdnss[4..8], 600_u32.to_be_bytes());
        assert_eq!(rdnss[8..], "fd00::3".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(&dnssl[8..], b"\x03lab\x04test\0\x04test\0");
        let without = router("").poll(0).unwrap();
        assert_eq!(without.message.len(), 16 + 8 + 8 + 32 + 24);
        let domain = router("domain = \"lab.test\"").poll(0).unwrap();
        assert!(domain.message.ends_with(b"\x03lab\x04test\0\0\0\0\0\0\0"));
    }

    #[test]
    fn nobody_known_is_answered_to_all() {
        let router = router("");
        assert_eq!(router.solicited(Ipv6Addr::UNSPECIFIED, &solicitation()).unwrap().to, ALL_NODES);
        assert_eq!(router.solicited(ALL_NODES, &solicitation()).unwrap().to, ALL_NODES);
    }

    #[test]
    fn what_is_no_solicitation_has_no_answer() {
        let router = router("");
        let whole = solicitation();
        for cut in (0..8).chain(9..16) {
            assert_eq!(router.solicited(GUEST, &whole[..cut]), None, "{cut}");
        }
        assert!(router.solicited(GUEST, &whole[..8]).is_some());
        for (at, byte) in [(0, 134), (1, 1), (9, 0), (9, 2)] {
            let mut wrong = whole.clone();
            wrong[at] = byte;
            assert_eq!(router.solicited(GUEST, &wrong), None, "{at}");
        }
    }

    #[test]
    fn the_first_ones_come_sooner() {
        let mut router = router("");
        let mut at = Vec::new();
        for _ in 0..5 {
            let due = router.next_deadline_ns();
            assert_eq!(due.checked_sub(1).and_then(|early| router.poll(early)), None);
            assert_eq!(router.poll(due).unwrap().to, ALL_NODES);
            at.push(due / SECOND_NS);
        }
        assert_eq!(at, [0, 16, 32, 232, 432]);
    }

    #[test]
    fn a_guest_of_an_earlier_time_is_told_at_once() {
        let mut router = router("");
        for _ in 0..5 {
            assert!(router.poll(3600 * SECOND_NS).is_some() || router.next_deadline_ns() > 3600 * SECOND_NS);
        }
        router.restart(SECOND_NS);
        assert!(router.poll(SECOND_NS).is_some());
        assert_eq!(router.next_deadline_ns(), 17 * SECOND_NS);
    }

    #[test]
    fn addresses_that_are_kept_are_asked_for() {
        let lease = "dhcp.leases = [{ mac = \"52:54:00:12:34:56\", ip6 = \"fd00::77\" }]";
        assert_eq!(router(lease).poll(0).unwrap().message[5], OTHER_FLAG | MANAGED_FLAG);
        assert!(
            Router::new(
                &Config::read(toml::Deserializer::parse("ipv6.enabled = false").unwrap()).unwrap(),
                0
            )
            .is_none()
        );
    }
}
