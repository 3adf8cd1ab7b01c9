//! From what was written to what that comes to; every mistake is reported, not the first alone.

use super::{
    Boot, Capture, Config, Dns, Forward, GuestForward, Ipv4Network, Ipv4Settings, Ipv6Network, Ipv6Settings,
    Limits, Listen, Problem, Settings, StaticLease, read::Unread,
};
use crate::{
    address::{Cidr, Mac},
    policy::{Action, Place, Rule, Transport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// What IPv4 demands of every link (RFC 791), what IPv6 does (RFC 8200 §5), and what is left of 64 KiB.
const MTU_MIN: u16 = 576;
const MTU_MIN_V6: u16 = 1280;
const MTU_MAX: u16 = 65_520;

/// Collects what is wrong.
struct Report {
    unread: Unread,
    found: Vec<Problem>,
    /// Sections that others are judged by, and that are wrong.
    wrong: BTreeSet<String>,
}

/// `ipv4` of `ipv4.dns`, `rules` of `rules[2].to`.
fn section(at: &str) -> &str {
    at.split(['.', '[']).next().unwrap_or(at)
}

/// What a section is judged by.
const fn depends_on(section: &str) -> &'static [&'static str] {
    match section.as_bytes() {
        b"rules" => &["ipv4", "ipv6", "proxies"],
        b"hostfwd" | b"guestfwd" => &["ipv4", "ipv6", "dhcp"],
        b"dhcp" => &["ipv4", "ipv6"],
        b"upstream" => &["proxies"],
        _ => &[],
    }
}

impl Report {
    fn new(unread: Unread) -> Self {
        let wrong = unread.problems.iter().map(|problem| section(&problem.at).to_owned()).collect();
        Self { unread, found: Vec::new(), wrong }
    }

    fn problem(&mut self, at: impl Into<String>, what: impl Into<String>, help: &str) {
        let at = self.unread.place(&at.into());
        if !self.follows(&at) {
            let help = (!help.is_empty()).then(|| help.to_owned());
            self.found.push(Problem { at, what: what.into(), help });
        }
    }

    /// Whether it may be a mistake only because something else is: a part of the same that could not be read, or what
    /// it is judged by.
    fn follows(&self, at: &str) -> bool {
        let whole = at.rfind(']').map_or(section(at), |end| &at[..=end]);
        let inside = |other: &str| {
            other.strip_prefix(whole).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        // Limits have nothing to do with each other.
        let beside = whole != "limits" && self.unread.problems.iter().any(|problem| inside(&problem.at));
        beside || depends_on(section(at)).iter().any(|other| self.wrong.contains(*other))
    }

    /// What was found so far is what the rest is judged by.
    fn settle(&mut self) {
        self.wrong.extend(self.found.iter().map(|problem| section(&problem.at).to_owned()));
    }

    fn all(mut self) -> Vec<Problem> {
        self.unread.problems.append(&mut self.found);
        self.unread.problems
    }
}

impl Settings {
    /// Fills in the defaults and checks it all.
    ///
    /// # Errors
    /// Everything that is wrong, but what follows from something that is; never an empty list.
    pub fn check(self) -> Result<Config, Vec<Problem>> {
        self.check_beside(Unread::default())
    }

    /// The same, where some of what was written could not be read.
    pub(super) fn check_beside(self, unread: Unread) -> Result<Config, Vec<Problem>> {
        let mut report = Report::new(unread);
        let ipv4 = self.ipv4.enabled.then(|| ipv4(&self.ipv4, &mut report)).flatten();
        let ipv6 = self.ipv6.enabled.then(|| ipv6(&self.ipv6, &mut report)).flatten();
        if !self.ipv4.enabled && !self.ipv6.enabled {
            report.problem("", "both IPv4 and IPv6 are off", "leave the network out, or turn one on");
        }
        let config = Config {
            mac: self.mac.unwrap_or_else(|| gateway_mac(ipv4.as_ref())),
            mtu: self.mtu.unwrap_or(1500),
            hostname: self.hostname,
            domain: self.domain.map(|name| trim_dot(&name)),
            search: self.search.iter().map(|name| trim_dot(name)).collect(),
            lease_s: self.dhcp.lease_s,
            static_leases: self.dhcp.leases,
            dns: Dns {
                upstream: upstream(&self.dns.upstream, &mut report),
                names: names(self.dns.names, &mut report),
            },
            boot: Boot {
                tftp: self.boot.tftp,
                file: self.boot.file,
                next_server: self.boot.next_server,
                server_name: self.boot.server_name,
            },
            profile: self.profile,
            rules: self.rules,
            proxies: self.proxies,
            upstream: self.upstream,
            forwards: self.hostfwd,
            guest_forwards: self.guestfwd,
            limits: self.limits,
            capture: self.capture.map(|capture| Capture {
                file: capture.file,
                guest: capture.guest,
                host: capture.host,
                snap_length: capture.snap_length,
            }),
            ipv4,
            ipv6,
        };
        report.settle();
        config.check(&mut report);
        let problems = report.all();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn trim_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// As QEMU makes it: 52:55 and the gateway's IPv4 address.
fn gateway_mac(ipv4: Option<&Ipv4Network>) -> Mac {
    let [a, b, c, d] = ipv4.map_or(Ipv4Addr::new(10, 0, 2, 2), |net| net.gateway).octets();
    Mac([0x52, 0x55, a, b, c, d])
}

fn ipv4(settings: &Ipv4Settings, report: &mut Report) -> Option<Ipv4Network> {
    let network = settings.network;
    if !network.first().is_ipv4() || !(8..=29).contains(&network.prefix()) {
        report.problem(
            "ipv4.network",
            format!("{network} is no IPv4 network of 8 to 29 bits"),
            "like 10.0.2.0/24",
        );
        return None;
    }
    if let IpAddr::V4(first) = network.first()
        && (matches!(first.octets()[0], 0 | 127) || first.octets()[0] >= 224)
    {
        let what = format!("{network} is no network for hosts");
        report.problem("ipv4.network", what, "write it like 10.0.2.0/24");
        return None;
    }
    let nth = |offset| match network.nth(offset) {
        Some(IpAddr::V4(v4)) => Some(v4),
        Some(IpAddr::V6(_)) | None => None,
    };
    let gateway = settings.gateway.or_else(|| nth(2))?;
    let IpAddr::V4(broadcast) = network.last() else { return None };
    let last = Ipv4Addr::from_bits(broadcast.to_bits() - 1);
    // In QEMU's place if the network is as large as QEMU's, else right behind the servers.
    let pool = || match nth(30).filter(|end| *end < last) {
        Some(end) => Some((nth(15)?, end)),
        None => Some((nth(4)?, last)),
    };
    let found = Ipv4Network {
        network,
        gateway,
        host: settings.host.unwrap_or(gateway),
        dns: settings.dns.or_else(|| nth(3))?,
        pool: settings.pool.or_else(pool)?,
    };
    let (first, end) = found.pool;
    let servers = [("gateway", found.gateway), ("host", found.host), ("dns", found.dns)];
    // Where nobody has said what the host is, it is the gateway, and wrong as that.
    let said = servers.into_iter().filter(|(key, _)| *key != "host" || settings.host.is_some());
    let pool = [("pool", first), ("pool", end)];
    for (key, address) in said.chain(pool) {
        let at = format!("ipv4.{key}");
        if !network.contains(address.into()) {
            report.problem(at, format!("{address} is not in {network}"), "choose an address of the network");
        } else if [network.first(), network.last()].contains(&address.into()) {
            report.problem(
                at,
                format!("{address} is the first or last of {network}, which nobody can have"),
                "",
            );
        }
    }
    if first > end {
        report.problem("ipv4.pool", format!("{first} is behind {end}"), "write the lower address first");
    }
    if let Some((key, address)) = servers.iter().find(|(_, address)| (first..=end).contains(address)) {
        report.problem("ipv4.pool", format!("{address} is `ipv4.{key}`"), "choose a pool beside it");
    }
    same_server(found.gateway.into(), found.dns.into(), "ipv4", report);
    Some(found)
}

/// The guest's DNS port of the gateway would otherwise be two things.
fn same_server(gateway: IpAddr, dns: IpAddr, family: &str, report: &mut Report) {
    if gateway == dns {
        let help = "the name server needs an address of its own";
        report.problem(format!("{family}.dns"), format!("{dns} is the gateway's address"), help);
    }
}

fn ipv6(settings: &Ipv6Settings, report: &mut Report) -> Option<Ipv6Network> {
    let network = settings.network;
    let first = match network.first() {
        IpAddr::V6(v6) if network.prefix() == 64 => v6,
        IpAddr::V4(_) | IpAddr::V6(_) => {
            let help = "guests make their own addresses out of 64 bits: write it like fd00::/64";
            report.problem("ipv6.network", format!("{network} is no IPv6 network of 64 bits"), help);
            return None;
        }
    };
    if first.is_multicast() || first.is_unicast_link_local() || first.is_unspecified() {
        report.problem(
            "ipv6.network",
            format!("{network} is no network for hosts"),
            "write it like fd00::/64",
        );
        return None;
    }
    let nth = |offset: u128| Ipv6Addr::from_bits(first.to_bits() | offset);
    let gateway = settings.gateway.unwrap_or_else(|| nth(2));
    let found = Ipv6Network {
        network,
        gateway,
        host: settings.host.unwrap_or(gateway),
        dns: settings.dns.unwrap_or_else(|| nth(3)),
        pool: settings.pool.unwrap_or_else(|| (nth(0x100), nth(0x1ff))),
    };
    let (low, high) = found.pool;
    let servers = [("gateway", found.gateway), ("host", found.host), ("dns", found.dns)];
    // Where nobody has said what the host is, it is the gateway, and wrong as that.
    let said = servers.into_iter().filter(|(key, _)| *key != "host" || settings.host.is_some());
    let pool = [("pool", low), ("pool", high)];
    for (key, address) in said.chain(pool) {
        if !network.contains(address.into()) || address == first {
            let help = "choose another address of the network";
            report.problem(
                format!("ipv6.{key}"),
                format!("{address} is no host's address in {network}"),
                help,
            );
        }
    }
    if low > high {
        report.problem("ipv6.pool", format!("{low} is behind {high}"), "write the lower address first");
    }
    if let Some((key, address)) = servers.iter().find(|(_, address)| (low..=high).contains(address)) {
        report.problem("ipv6.pool", format!("{address} is `ipv6.{key}`"), "choose a pool beside it");
    }
    same_server(found.gateway.into(), found.dns.into(), "ipv6", report);
    Some(found)
}

fn upstream(servers: &[String], report: &mut Report) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for (index, text) in servers.iter().enumerate() {
        let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        match address.or_else(|_| text.parse()) {
            Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => found.push(address),
            Ok(_) | Err(_) => report.problem(
                format!("dns.upstream[{index}]"),
                format!("`{text}` is no name server"),
                "write its address, like 9.9.9.9, 9.9.9.9:53 or [2620:fe::fe]:53",
            ),
        }
    }
    found
}

fn names(written: BTreeMap<String, Vec<IpAddr>>, report: &mut Report) -> BTreeMap<String, Vec<IpAddr>> {
    let mut found = BTreeMap::new();
    for (name, addresses) in written {
        check_name(&format!("dns.names.{name}"), &name, report);
        if addresses.is_empty() || addresses.len() > 32 {
            report.problem(format!("dns.names.{name}"), "a name has 1 to 32 addresses", "");
        }
        found.insert(trim_dot(&name), addresses);
    }
    found
}

/// RFC 1123 §2.1, and underscores, which services have.
fn check_name(at: &str, name: &str, report: &mut Report) {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let word = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        word && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if bare.len() > 253 || !bare.split('.').all(label) {
        let help = "labels of letters, digits and hyphens with periods between them, like db.test";
        report.problem(at, format!("`{}` is no domain name", name.escape_default()), help);
    }
}

impl Config {
    fn check(&self, report: &mut Report) {
        let least = if self.ipv6.is_some() { MTU_MIN_V6 } else { MTU_MIN };
        if !(least..=MTU_MAX).contains(&self.mtu) {
            let help = "IPv6 needs 1280, IPv4 576";
            report.problem("mtu", format!("{} is not within {least} to {MTU_MAX}", self.mtu), help);
        }
        if !self.mac.is_unicast() {
            report.problem(
                "mac",
                format!("{} is no station's address", self.mac),
                "its first byte must be even",
            );
        }
        if self.lease_s < 60 {
            let help = "guests renew at half of it";
            report.problem(
                "dhcp.lease_s",
                format!("{} seconds is shorter than a minute", self.lease_s),
                help,
            );
        }
        self.check_names(report);
        self.check_leases(report);
        report.settle();
        self.check_boot(report);
        check_rules(self, report);
        check_forwards(self, report);
        check_limits(&self.limits, report);
        if let Some(capture) = &self.capture {
            if !capture.guest && !capture.host {
                let what = "neither the guest's side nor the host's is captured";
                report.problem("capture", what, "turn one on, or leave it out");
            }
            if capture.snap_length < 64 {
                report.problem("capture.snap_length", "shorter than a frame's headers", "at least 64 bytes");
            }
        }
    }

    fn check_names(&self, report: &mut Report) {
        if let Some(name) = &self.hostname {
            check_name("hostname", name, report);
        }
        if let Some(name) = &self.domain {
            check_name("domain", name, report);
        }
        for (index, name) in self.search.iter().enumerate() {
            check_name(&format!("search[{index}]"), name, report);
        }
        // A DHCP option has 255 bytes, and what does not fit into one is not understood everywhere.
        if self.search.iter().map(|name| name.len() + 2).sum::<usize>() > 255 {
            report.problem("search", "the domains together are longer than a DHCP option", "name fewer");
        }
    }

    fn check_leases(&self, report: &mut Report) {
        let (mut macs, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (index, lease) in self.static_leases.iter().enumerate() {
            let at = |key: &str| format!("dhcp.leases[{index}].{key}");
            if !lease.mac.is_unicast() || !macs.insert(lease.mac) {
                report.problem(at("mac"), format!("{} is no station's, or there twice", lease.mac), "");
            }
            if lease.ip.is_none() && lease.ip6.is_none() {
                report.problem(at("ip"), "the lease has no address", "give it `ip` or `ip6`");
            }
            for (key, address) in self.lease_addresses(lease) {
                if !addresses.insert(address) {
                    report.problem(at(key), format!("{address} is kept for two"), "");
                }
                if !self.can_be_guest(address) {
                    let help = "choose an address of the guest's network that no server has";
                    report.problem(at(key), format!("{address} cannot be a guest's"), help);
                }
            }
            if let Some(name) = &lease.hostname {
                check_name(&at("hostname"), name, report);
            }
        }
    }

    fn lease_addresses(&self, lease: &StaticLease) -> Vec<(&'static str, IpAddr)> {
        let v4 = lease.ip.map(|ip| ("ip", ip.into()));
        v4.into_iter().chain(lease.ip6.map(|ip| ("ip6", ip.into()))).collect()
    }

    /// Whether an address is of the guest's network and nobody else's.
    fn can_be_guest(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.ipv4.as_ref().is_some_and(|net| {
                let ends = [net.network.first(), net.network.last()];
                let servers = [net.gateway, net.host, net.dns];
                net.network.contains(address) && !ends.contains(&address) && !servers.contains(&v4)
            }),
            IpAddr::V6(v6) => self.ipv6.as_ref().is_some_and(|net| {
                let servers = [net.gateway, net.host, net.dns];
                net.network.contains(address) && net.network.first() != address && !servers.contains(&v6)
            }),
        }
    }

    /// What DHCP may give an address by.
    fn given_to_guests(&self, address: IpAddr) -> Option<&'static str> {
        let v4 =
            self.ipv4.as_ref().map(|net| (IpAddr::from(net.pool.0), IpAddr::from(net.pool.1), "ipv4.pool"));
        let v6 =
            self.ipv6.as_ref().map(|net| (IpAddr::from(net.pool.0), IpAddr::from(net.pool.1), "ipv6.pool"));
        let mut pools = [v4, v6].into_iter().flatten();
        let pool = pools.find(|(first, last, _)| (*first..=*last).contains(&address)).map(|(.., key)| key);
        let kept = |lease: &StaticLease| self.lease_addresses(lease).iter().any(|(_, ip)| *ip == address);
        pool.or_else(|| self.static_leases.iter().any(kept).then_some("dhcp.leases"))
    }

    fn check_boot(&self, report: &mut Report) {
        let text = |at: &str, text: &Option<String>, limit: usize, report: &mut Report| {
            let wrong = |text: &String| text.is_empty() || text.len() > limit || text.contains(['\0', '\n']);
            if text.as_ref().is_some_and(wrong) {
                report.problem(at, format!("must have 1 to {limit} bytes, and no zero or line's end"), "");
            }
        };
        // What an option holds.
        text("boot.file", &self.boot.file, 255, report);
        text("boot.server_name", &self.boot.server_name, 255, report);
        if self.boot.tftp.is_some() && self.boot.next_server.is_some() {
            let help = "leave `next_server` out: guests then boot from here";
            report.problem(
                "boot.next_server",
                "`boot.tftp` serves files that guests are sent away from",
                help,
            );
        }
    }
}

fn check_rules(config: &Config, report: &mut Report) {
    let networks = [config.ipv4.as_ref().map(|net| net.network), config.ipv6.as_ref().map(|net| net.network)];
    for (index, rule) in config.rules.iter().enumerate() {
        let at = |key: &str| format!("rules[{index}].{key}");
        if rule.ports.is_some() && !matches!(rule.protocol, Transport::Tcp | Transport::Udp) {
            let help = "add protocol = \"tcp\" or \"udp\"";
            report.problem(at("ports"), "ports of no protocol", help);
        }
        if rule.to.as_ref().is_some_and(|places| places.0.is_empty()) {
            report.problem(at("to"), "an empty list matches nothing", "leave it out to match everything");
        }
        if let Action::Proxy(name) = &rule.action {
            known_proxy(config, at("action"), name, report);
            if rule.direction == crate::policy::Direction::In {
                report.problem(
                    at("action"),
                    "what comes in goes through no proxy",
                    "allow, drop or reject it",
                );
            }
            if !matches!(rule.protocol, Transport::Any | Transport::Tcp) {
                report.problem(at("protocol"), "a proxy carries connections only", "say protocol = \"tcp\"");
            }
        }
        let opens = matches!(rule.action, Action::Allow | Action::Proxy(_));
        if opens && rule.direction == crate::policy::Direction::Out {
            never_opened(rule, &networks, &at("to"), report);
        }
    }
    if let Some(name) = &config.upstream {
        known_proxy(config, "upstream".to_owned(), name, report);
    }
}

fn known_proxy(config: &Config, at: String, name: &str, report: &mut Report) {
    if !config.proxies.contains_key(name) {
        let known: Vec<_> = config.proxies.keys().map(|name| format!("`{name}`")).collect();
        let help = if known.is_empty() {
            "none is in `proxies`".to_owned()
        } else {
            format!("there is {}", known.join(", "))
        };
        report.problem(at, format!("there is no proxy `{name}`"), &help);
    }
}

/// A rule that opens what never leaves would do nothing, and its author believes it does.
fn never_opened(rule: &Rule, networks: &[Option<Cidr>], at: &str, report: &mut Report) {
    for place in rule.to.iter().flat_map(|places| &places.0) {
        match place {
            Place::Group(group) if group.never_leaves() => {
                let what = format!("packets to `{place}` never leave, so they cannot be allowed");
                report.problem(at, what, "drop or reject them, or leave them out");
            }
            Place::Network(network) if networks.iter().flatten().any(|own| own.contains(network.first())) => {
                let what = format!("{network} is in the guest's own network, which packets never leave");
                report.problem(at, what, "the host is `host`; other services are `guestfwd`");
            }
            Place::Group(_) | Place::Network(_) => {}
        }
    }
}

fn check_forwards(config: &Config, report: &mut Report) {
    let mut seen: Vec<&Forward> = Vec::new();
    for (index, forward) in config.forwards.iter().enumerate() {
        let at = format!("hostfwd[{index}]");
        if let Some(guest) = forward.guest.filter(|guest| !config.can_be_guest(*guest)) {
            let help = "choose an address of the guest's network, or none for the guest's own";
            report.problem(&at, format!("{guest} cannot be a guest's"), help);
        }
        if let Some(other) = seen.iter().find(|other| clash(other, forward)) {
            report.problem(&at, format!("`{forward}` listens where `{other}` does"), "choose another port");
        }
        seen.push(forward);
    }
    let mut places = BTreeSet::new();
    for (index, GuestForward { at: place, to: _ }) in config.guest_forwards.iter().enumerate() {
        let at = format!("guestfwd[{index}]");
        if !config.can_be_guest(place.ip()) {
            let help = "choose an address of the guest's network that nobody has, like 10.0.2.100";
            report.problem(&at, format!("{} is not free in the guest's network", place.ip()), help);
        }
        if let Some(key) = config.given_to_guests(place.ip()) {
            let what = format!("{} is in `{key}`, and may be given to a guest", place.ip());
            report.problem(&at, what, "choose an address beside it");
        }
        if !places.insert(place) {
            report.problem(&at, format!("{place} is forwarded twice"), "");
        }
    }
}

/// Whether both would bind the same port of the host. Port 0 clashes with nothing.
fn clash(one: &Forward, other: &Forward) -> bool {
    match (&one.listen, &other.listen) {
        (Listen::Unix { path: a }, Listen::Unix { path: b }) => a == b,
        (Listen::Inet { address: a, ports: p }, Listen::Inet { address: b, ports: q }) => {
            let same = a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()));
            let meet = p.first() <= q.last() && q.first() <= p.last();
            one.protocol == other.protocol && same && meet && p.first() != 0
        }
        (Listen::Inet { .. }, Listen::Unix { .. }) | (Listen::Unix { .. }, Listen::Inet { .. }) => false,
    }
}

/// Above these, what the limits are for would not hold.
fn check_limits(limits: &Limits, report: &mut Report) {
    let rows = [
        ("tcp_flows", limits.tcp_flows, 1 << 20),
        ("tcp_half_open", limits.tcp_half_open, 1 << 20),
        ("tcp_new_per_s", limits.tcp_new_per_s, 1 << 20),
        ("tcp_burst", limits.tcp_burst, 1 << 20),
        ("udp_maps", limits.udp_maps, 65_535),
        ("icmp_ids", limits.icmp_ids, 65_535),
        ("dns_queries", limits.dns_queries, 16_384),
        ("tftp_sessions", limits.tftp_sessions, 4096),
        ("leases", limits.leases, 65_535),
        ("fragment_sets", limits.fragment_sets, 4096),
        ("fragment_bytes", limits.fragment_bytes, 256 << 20),
        ("neighbours", limits.neighbours, 65_535),
        ("accepts", limits.accepts, 1 << 20),
        ("commands", limits.commands, 4096),
    ];
    for (key, value, most) in rows {
        if !(1..=most).contains(&value) {
            report.problem(format!("limits.{key}"), format!("{value} is not within 1 to {most}"), "");
        }
    }
    if limits.buffer_bytes < 1 << 20 {
        report.problem("limits.buffer_bytes", "less than a mebibyte", "a connection needs 128 KiB");
    }
}
