//! Names that are known here: the configuration's, and those of the network itself.

use super::message::record;
use crate::{config::Config, service::names};
use std::{collections::BTreeMap, net::IpAddr};

/// The domain of names that the network itself has. Nobody outside is asked for names in it.
const OWN_DOMAIN: &str = "reprise";

/// What is known about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The records of the type that was asked for; none: the name has others.
    Records(Vec<(u16, Vec<u8>)>),
    /// There is no such name, and it would be here.
    Absent,
    /// Somebody else's.
    No,
}

/// Names and addresses, both ways.
#[derive(Debug)]
pub(super) struct Zone {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// By names of `in-addr.arpa` and `ip6.arpa`.
    pointers: BTreeMap<String, String>,
    /// The ends of names that are nobody else's.
    ours: Vec<String>,
}

impl Zone {
    pub(super) fn new(config: &Config) -> Self {
        let mut zone = Self { addresses: config.dns.names.clone(), pointers: BTreeMap::new(), ours: vec![] };
        let v4 = config.ipv4.as_ref().map(|net| [net.host, net.gateway, net.dns].map(IpAddr::from));
        let v6 = config.ipv6.as_ref().map(|net| [net.host, net.gateway, net.dns].map(IpAddr::from));
        for [host, gateway, dns] in [v4, v6].into_iter().flatten() {
            for (name, address) in [("host", host), ("gateway", gateway), ("dns", dns)] {
                zone.addresses.entry(format!("{name}.{OWN_DOMAIN}")).or_default().push(address);
            }
        }
        // The gateway's name comes before the host's for an address that is both, as it is what a traceroute meets.
        let of_network = ["gateway", "host", "dns"].map(|name| format!("{name}.{OWN_DOMAIN}"));
        let configured = config.dns.names.keys();
        let names: Vec<String> = configured.cloned().chain(of_network).collect();
        for name in names {
            for address in zone.addresses.get(&name).into_iter().flatten() {
                zone.pointers.entry(reverse(*address)).or_insert_with(|| name.clone());
            }
        }
        zone.ours = own_ends(config);
        zone
    }

    pub(super) fn look_up(&self, name: &str, kind: u16) -> Known {
        if let Some(addresses) = self.addresses.get(name) {
            return Known::Records(
                addresses.iter().filter_map(|address| address_record(*address, kind)).collect(),
            );
        }
        if let Some(target) = self.pointers.get(name) {
            let mut data = Vec::new();
            names::write(target, &mut data);
            let asked = [record::PTR, record::ANY].contains(&kind);
            return Known::Records(if asked { vec![(record::PTR, data)] } else { Vec::new() });
        }
        let within = |end: &String| {
            name.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.ours.iter().any(within) { Known::Absent } else { Known::No }
    }
}

fn address_record(address: IpAddr, kind: u16) -> Option<(u16, Vec<u8>)> {
    let (own, data) = match address {
        IpAddr::V4(v4) => (record::A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (record::AAAA, v6.octets().to_vec()),
    };
    [own, record::ANY].contains(&kind).then_some((own, data))
}

/// The name at which an address is looked up: RFC 1035 §3.5, RFC 3596 §2.5.
pub(super) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Our domain, and the guest's networks backwards, as far as their prefixes end between labels.
fn own_ends(config: &Config) -> Vec<String> {
    let mut ends = vec![OWN_DOMAIN.to_owned()];
    let v4 = config.ipv4.as_ref().map(|net| (net.network, 8, 4));
    let v6 = config.ipv6.as_ref().map(|net| (net.network, 4, 32));
    for (network, bits, labels) in [v4, v6].into_iter().flatten() {
        // Labels of the host's part; a prefix within a label leaves some of the neighbours' names to others.
        let hidden = labels - network.prefix().div_ceil(bits);
        let name = reverse(network.first());
        ends.extend(name.splitn(usize::from(hidden) + 1, '.').last().map(str::to_owned));
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(toml: &str) -> Zone {
        Zone::new(&Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap())
    }

    #[test]
    fn addresses_backwards() {
        let of = |text: &str| reverse(text.parse().unwrap());
        assert_eq!(of("10.0.2.15"), "15.2.0.10.in-addr.arpa");
        let long = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa";
        assert_eq!(of("4321:0:1:2:3:4:567:89ab"), long);
    }

    #[test]
    fn the_networks_own_names() {
        let zone = zone("ipv4.host = \"10.0.2.5\"");
        let found = |name: &str, kind| zone.look_up(name, kind);
        assert_eq!(found("host.reprise", record::A), Known::Records(vec![(record::A, vec![10, 0, 2, 5])]));
        assert_eq!(found("gateway.reprise", record::A), Known::Records(vec![(record::A, vec![10, 0, 2, 2])]));
        let Known::Records(six) = found("gateway.reprise", record::AAAA) else { panic!() };
        assert_eq!(six[0].1[..2], [0xfd, 0]);
        let Known::Records(both) = found("host.reprise", record::ANY) else { panic!() };
        assert_eq!(both.len(), 2);
        assert_eq!(found("host.reprise", 15), Known::Records(vec![]), "it has no MX");
        for name in ["reprise", "x.reprise", "a.host.reprise", "77.2.0.10.in-addr.arpa"] {
            assert_eq!(found(name, record::A), Known::Absent, "{name}");
        }
        for name in ["xreprise", "reprise.org", "1.3.0.10.in-addr.arpa", "", "arpa"] {
            assert_eq!(found(name, record::A), Known::No, "{name}");
        }
        assert_eq!(found(&reverse("fd00::77".parse().unwrap()), record::PTR), Known::Absent);
        assert_eq!(found(&reverse("fd01::77".parse().unwrap()), record::PTR), Known::No);
    }

    #[test]
    fn pointers_name_the_address() {
        let zone = zone("dns.names = { \"db.test\" = [\"10.1.2.3\", \"10.0.2.3\"] }");
        let pointer = |address: &str| match zone.look_up(&reverse(address.parse().unwrap()), record::PTR) {
            Known::Records(records) => records[0].1.clone(),
            other => panic!("{address}: {other:?}"),
        };
        assert_eq!(pointer("10.0.2.2"), b"\x07gateway\x07reprise\0");
        assert_eq!(pointer("fd00::2"), b"\x07gateway\x07reprise\0");
        assert_eq!(pointer("10.1.2.3"), b"\x02db\x04test\0");
        assert_eq!(pointer("10.0.2.3"), b"\x02db\x04test\0", "a configured name comes first");
    }

    #[test]
    fn odd_prefixes_leave_the_rest_to_others() {
        // 172.16.0.0/12: only names whose third label is 16 to 31 would be ours; we claim the network's first alone.
        let zone = zone("ipv4.network = \"172.16.0.0/12\"");
        assert_eq!(zone.look_up("1.0.16.172.in-addr.arpa", record::PTR), Known::Absent);
        assert_eq!(zone.look_up("1.0.1.172.in-addr.arpa", record::PTR), Known::No);
    }
}
