//! What a user network is like: `[net.user0]` of a board, or QEMU's `user,hostfwd=…`, read and checked.
//!
//! [`Settings`] is what was written; [`Config`] is what that comes to, with every default filled in. A [`Config`] can
//! only be made by the checks, so whoever has one need not check again.

mod alias;
mod check;
mod forward;
mod proxy;
mod read;
mod settings;
#[cfg(test)]
mod tests;

pub use alias::Alias;
pub use forward::{Forward, GuestForward, Listen, Ports, Protocol, SpecError, Target};
pub use proxy::{Proxy, ProxyKind, ProxySource};
pub use settings::{
    BootSettings, CaptureSettings, DhcpSettings, DnsSettings, Ipv4Settings, Ipv6Settings, Limits, Settings,
    StaticLease,
};

use crate::{
    address::{Cidr, Mac},
    policy::{Policy, Profile, Rule, Surroundings},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// One thing that is wrong: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, from the network's table on: `ipv4.dns`, `rules[2].to`; empty for the whole.
    pub at: String,
    /// What is wrong and why: lower case, without a period.
    pub what: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.at.is_empty() {
            write!(f, "`{}`: ", self.at)?;
        }
        f.write_str(&self.what)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for Problem {}

/// The guest's IPv4 network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4Network {
    /// Its addresses.
    pub network: Cidr,
    /// The router, and the server of DHCP and TFTP.
    pub gateway: Ipv4Addr,
    /// The guest's name for the host's loopback; may be the gateway.
    pub host: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
    /// The first and the last address that DHCP gives.
    pub pool: (Ipv4Addr, Ipv4Addr),
}

/// The guest's IPv6 network: a /64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6Network {
    /// Its addresses.
    pub network: Cidr,
    /// The router, by its address of this network.
    pub gateway: Ipv6Addr,
    /// The guest's name for the host's loopback; may be the gateway.
    pub host: Ipv6Addr,
    /// The name server.
    pub dns: Ipv6Addr,
    /// The first and the last address that DHCPv6 gives.
    pub pool: (Ipv6Addr, Ipv6Addr),
}

/// What guests are told when they boot from the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The folder that TFTP serves; `None`: there is no TFTP.
    pub tftp: Option<PathBuf>,
    /// The file to boot, or a URL.
    pub file: Option<String>,
    /// Where it is; `None`: here.
    pub next_server: Option<Ipv4Addr>,
    /// The name of that server (DHCP option 66).
    pub server_name: Option<String>,
}

/// Where names come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked; empty: whom the host asks (`/etc/resolv.conf`).
    pub upstream: Vec<SocketAddr>,
    /// Names that are known here: lower case, without a period at the end.
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// Frames are written to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// A pcapng file.
    pub file: PathBuf,
    /// The guest's side: Ethernet frames as the guest sees them.
    pub guest: bool,
    /// The host's side: what goes to and comes from its sockets, as packets made up for the purpose.
    pub host: bool,
    /// Bytes kept of a frame.
    pub snap_length: u32,
}

/// A user network, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `None`: there is no IPv4.
    pub ipv4: Option<Ipv4Network>,
    /// `None`: there is no IPv6.
    pub ipv6: Option<Ipv6Network>,
    /// The Ethernet address of everything that is not the guest.
    pub mac: Mac,
    /// The largest IP packet, in bytes: 576 to 65520, at least 1280 if there is IPv6.
    pub mtu: u16,
    /// The guest's name, if DHCP gives it one.
    pub hostname: Option<String>,
    /// The domain that the guest is told it is in.
    pub domain: Option<String>,
    /// Where the guest is to look for short names.
    pub search: Vec<String>,
    /// How long a lease lasts, in seconds of the EXTERNAL clock.
    pub lease_s: u32,
    /// Addresses that are kept for somebody.
    pub static_leases: Vec<StaticLease>,
    /// Names.
    pub dns: Dns,
    /// Boot from the network.
    pub boot: Boot,
    /// What holds where no rule matches.
    pub profile: Profile,
    /// What may pass, in order.
    pub rules: Vec<Rule>,
    /// Proxies by name.
    pub proxies: BTreeMap<String, ProxySource>,
    /// The proxy for what the profile allows.
    pub upstream: Option<String>,
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// Addresses in the guest's network that lead out.
    pub guest_forwards: Vec<GuestForward>,
    /// How much of everything.
    pub limits: Limits,
    /// What is written down.
    pub capture: Option<Capture>,
}

impl Default for Config {
    fn default() -> Self {
        Settings::default().check().expect("the defaults are right, as a test shows")
    }
}

impl Config {
    /// Reads and checks a table: `[net.user0]`, in whatever `deserializer` reads.
    ///
    /// # Errors
    /// Everything that is wrong with it, but what follows from something that is.
    pub fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, Vec<Problem>> {
        let table = serde::Deserialize::deserialize(deserializer).map_err(|error: D::Error| {
            vec![Problem { at: String::new(), what: error.to_string().trim_end().to_owned(), help: None }]
        })?;
        match read::settings(table) {
            (Some(settings), unread) => settings.check_beside(unread),
            (None, unread) => Err(unread.problems),
        }
    }

    /// The rules, as something that decides.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let mut surroundings = Surroundings::default();
        if let Some(v4) = &self.ipv4 {
            surroundings.networks.push(v4.network);
            surroundings.host.push(v4.host.into());
            surroundings.gateway.extend([v4.gateway, v4.dns].map(IpAddr::from));
        }
        if let Some(v6) = &self.ipv6 {
            surroundings.networks.push(v6.network);
            surroundings.host.push(v6.host.into());
            surroundings.gateway.extend([v6.gateway, v6.dns].map(IpAddr::from));
        }
        Policy::new(self.profile, self.rules.clone(), self.upstream.clone(), surroundings)
    }

    /// The gateway's link-local address: `fe80::` and its Ethernet address as RFC 4291, appendix A, makes one.
    #[must_use]
    pub fn gateway_link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        let word = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
    }
}
