//! What a board may write. Everything has a default; unknown keys are mistakes.

use super::{Forward, GuestForward, ProxySource};
use crate::{
    address::{Cidr, Mac},
    policy::{Profile, Rule},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// `[net.user0]`, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// IPv4.
    pub ipv4: Ipv4Settings,
    /// IPv6.
    pub ipv6: Ipv6Settings,
    /// The Ethernet address of the gateway; made from its IPv4 address if it is not given.
    pub mac: Option<Mac>,
    /// The largest IP packet: 1500 if it is not given.
    pub mtu: Option<u16>,
    /// The guest's name.
    pub hostname: Option<String>,
    /// The domain that the guest is told it is in.
    pub domain: Option<String>,
    /// Where the guest is to look for short names.
    pub search: Vec<String>,
    /// Leases.
    pub dhcp: DhcpSettings,
    /// Names.
    pub dns: DnsSettings,
    /// Boot from the network.
    pub boot: BootSettings,
    /// What holds where no rule matches: `public` if it is not given.
    pub profile: Profile,
    /// What may pass, in order.
    pub rules: Vec<Rule>,
    /// Proxies by name.
    pub proxies: BTreeMap<String, ProxySource>,
    /// The proxy for what the profile allows, by name.
    pub upstream: Option<String>,
    /// Ports of the host that lead into the guest.
    pub hostfwd: Vec<Forward>,
    /// Addresses in the guest's network that lead out.
    pub guestfwd: Vec<GuestForward>,
    /// How much of everything.
    pub limits: Limits,
    /// What is written down.
    pub capture: Option<CaptureSettings>,
}

/// `[net.user0.ipv4]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipv4Settings {
    /// Whether there is any.
    pub enabled: bool,
    /// The network: 10.0.2.0/24.
    pub network: Cidr,
    /// The router: the second address of the network, 10.0.2.2.
    pub gateway: Option<Ipv4Addr>,
    /// The guest's name for the host's loopback: the gateway.
    pub host: Option<Ipv4Addr>,
    /// The name server: the third address, 10.0.2.3.
    pub dns: Option<Ipv4Addr>,
    /// First and last address that DHCP gives: 10.0.2.15 to 10.0.2.30.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Default for Ipv4Settings {
    fn default() -> Self {
        let network = Cidr::new(Ipv4Addr::new(10, 0, 2, 0).into(), 24).expect("24 bits of 32");
        Self { enabled: true, network, gateway: None, host: None, dns: None, pool: None }
    }
}

/// `[net.user0.ipv6]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipv6Settings {
    /// Whether there is any.
    pub enabled: bool,
    /// The network, a /64: `fd00::/64`.
    pub network: Cidr,
    /// The router: the second address of the network, `fd00::2`.
    pub gateway: Option<Ipv6Addr>,
    /// The guest's name for the host's loopback: the gateway.
    pub host: Option<Ipv6Addr>,
    /// The name server: the third address, `fd00::3`.
    pub dns: Option<Ipv6Addr>,
    /// First and last address that DHCPv6 gives: `fd00::100` to `fd00::1ff`.
    pub pool: Option<(Ipv6Addr, Ipv6Addr)>,
}

impl Default for Ipv6Settings {
    fn default() -> Self {
        let network =
            Cidr::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(), 64).expect("64 bits of 128");
        Self { enabled: true, network, gateway: None, host: None, dns: None, pool: None }
    }
}

/// `[net.user0.dhcp]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DhcpSettings {
    /// How long a lease lasts, in seconds of the guest's time: a day.
    pub lease_s: u32,
    /// Addresses that are kept for somebody.
    pub leases: Vec<StaticLease>,
}

impl Default for DhcpSettings {
    fn default() -> Self {
        Self { lease_s: 86_400, leases: Vec::new() }
    }
}

/// An address that is kept for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticLease {
    /// For whom.
    pub mac: Mac,
    /// The address by DHCP; need not be in the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// The address by DHCPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// The name that it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// `[net.user0.dns]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsSettings {
    /// Who is asked, `ADDRESS` or `ADDRESS:PORT`; nobody: whom the host asks.
    pub upstream: Vec<String>,
    /// Names that are known here, with their addresses.
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// `[net.user0.boot]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootSettings {
    /// The folder that TFTP serves, read-only.
    pub tftp: Option<PathBuf>,
    /// The file to boot, or a URL.
    pub file: Option<String>,
    /// Where it is, if it is not here.
    pub next_server: Option<Ipv4Addr>,
    /// The name of that server.
    pub server_name: Option<String>,
}

/// `[net.user0.capture]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureSettings {
    /// A pcapng file, made anew.
    pub file: PathBuf,
    /// The guest's side.
    #[serde(default = "yes")]
    pub guest: bool,
    /// The host's side.
    #[serde(default)]
    pub host: bool,
    /// Bytes kept of a frame.
    #[serde(default = "whole")]
    pub snap_length: u32,
}

const fn yes() -> bool {
    true
}

/// More than the largest frame that there can be.
const fn whole() -> u32 {
    0x4_0000
}

/// How much of everything; what happens at the limit is said at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// TCP connections; the next one is reset.
    pub tcp_flows: u32,
    /// TCP connections that are being made; the next one's SYN is dropped.
    pub tcp_half_open: u32,
    /// New TCP connections a second, after a burst; others' SYNs are dropped.
    pub tcp_new_per_s: u32,
    /// How many may come at once.
    pub tcp_burst: u32,
    /// UDP ports of the guest that are mapped; the one that was idle longest goes.
    pub udp_maps: u32,
    /// ICMP echo ids; the one that was idle longest goes.
    pub icmp_ids: u32,
    /// DNS questions in flight; the next one is answered SERVFAIL.
    pub dns_queries: u32,
    /// TFTP transfers; the next one is refused.
    pub tftp_sessions: u32,
    /// Leases of each of DHCP and DHCPv6; the next guest gets none.
    pub leases: u32,
    /// Packets that are being put together; the oldest goes.
    pub fragment_sets: u32,
    /// Bytes of them all.
    pub fragment_bytes: u32,
    /// Stations of the guest's network; the oldest goes.
    pub neighbours: u32,
    /// Connections accepted for forwards that the guest has not taken; the next one is closed.
    pub accepts: u32,
    /// Programs of `guestfwd` that run at a time; the next connection is reset.
    pub commands: u32,
    /// Bytes of buffers of all connections; idle ones go.
    pub buffer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp_flows: 16_384,
            tcp_half_open: 1024,
            tcp_new_per_s: 256,
            tcp_burst: 1024,
            udp_maps: 4096,
            icmp_ids: 256,
            dns_queries: 512,
            tftp_sessions: 16,
            leases: 256,
            fragment_sets: 64,
            fragment_bytes: 1 << 20,
            neighbours: 64,
            accepts: 4096,
            commands: 64,
            buffer_bytes: 256 << 20,
        }
    }
}
