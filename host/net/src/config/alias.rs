//! `user,id=user0,hostfwd=tcp::2222-:22,…`: QEMU's `-netdev user`, with its names, to the same settings.

use super::{Config, Problem, Settings};
use crate::{address::Cidr, policy::Profile};
use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// What an alias says: whose backend it is, and what that is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// `id=`.
    pub id: Option<String>,
    /// The rest.
    pub config: Config,
}

/// All keys, for advice.
const KEYS: &str = "id, ipv4, net, host, dhcpstart, dns, ipv6, ipv6-net, ipv6-prefix, ipv6-prefixlen, ipv6-host, \
                    ipv6-dns, hostname, domainname, dnssearch, tftp, tftp-server-name, bootfile, restrict, hostfwd, \
                    guestfwd, profile, mtu, mac";

/// What comes in two keys, and is put together at the end.
#[derive(Default)]
struct Partial {
    id: Option<String>,
    settings: Settings,
    dhcp_start: Option<Ipv4Addr>,
    prefix6: Option<IpAddr>,
    prefix6_bits: Option<u8>,
    restrict: bool,
}

impl Config {
    /// Reads and checks `user,KEY=VALUE,…`. A comma in a value is written twice, as in QEMU.
    ///
    /// # Errors
    /// Everything that is wrong with it; `at` is the key as written here.
    pub fn from_alias(text: &str) -> Result<Alias, Vec<Problem>> {
        let mut parts = split(text).into_iter();
        if parts.next().as_deref() != Some("user") {
            let what = format!("`{text}` does not begin with `user`");
            return Err(vec![problem("", what, Some("write it like user,hostfwd=tcp::2222-:22"))]);
        }
        let mut partial = Partial::default();
        let mut problems = Vec::new();
        for part in parts {
            let (key, value) =
                part.split_once('=').map_or((part.as_str(), "on"), |(key, value)| (key, value));
            if let Err(found) = partial.set(key, value) {
                problems.push(found);
            }
        }
        if problems.is_empty() { partial.finish() } else { Err(problems) }
    }
}

fn problem(at: &str, what: String, help: Option<&str>) -> Problem {
    Problem { at: at.to_owned(), what, help: help.map(str::to_owned) }
}

/// Cuts at single commas; two are one in the value.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            ',' if rest.next_if_eq(&',').is_none() => parts.push(String::new()),
            _ => parts.last_mut().expect("it begins with one").push(char),
        }
    }
    parts
}

fn parsed<T: FromStr>(key: &str, value: &str, kind: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| problem(key, format!("`{value}` is no {kind}"), None))
}

fn explained<T: FromStr<Err: std::fmt::Display>>(key: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|error: T::Err| problem(key, error.to_string(), None))
}

fn switch(key: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(problem(key, format!("`{value}` is neither `on` nor `off`"), None)),
    }
}

/// QEMU lets the prefix be left out: 24 bits, or 64.
fn network(key: &str, value: &str, bits: u8) -> Result<Cidr, Problem> {
    let full = if value.contains('/') { value.to_owned() } else { format!("{value}/{bits}") };
    // It also lets a netmask stand behind the slash.
    let full = match full.split_once('/').and_then(|(ip, mask)| Some((ip, mask.parse::<Ipv4Addr>().ok()?))) {
        Some((ip, mask)) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32 => {
            format!("{ip}/{}", mask.to_bits().leading_ones())
        }
        _ => full,
    };
    explained(key, &full)
}

impl Partial {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let settings = &mut self.settings;
        let v4 = || parsed(key, value, "IPv4 address").map(Some);
        let v6 = || parsed(key, value, "IPv6 address").map(Some);
        match key {
            "id" => self.id = Some(value.to_owned()),
            "ipv4" => settings.ipv4.enabled = switch(key, value)?,
            "net" => settings.ipv4.network = network(key, value, 24)?,
            "host" => settings.ipv4.gateway = v4()?,
            "dhcpstart" => self.dhcp_start = v4()?,
            "dns" => settings.ipv4.dns = v4()?,
            "ipv6" => settings.ipv6.enabled = switch(key, value)?,
            "ipv6-net" => settings.ipv6.network = network(key, value, 64)?,
            "ipv6-prefix" => self.prefix6 = Some(parsed(key, value, "IPv6 prefix")?),
            "ipv6-prefixlen" => self.prefix6_bits = Some(parsed(key, value, "number of bits")?),
            "ipv6-host" => settings.ipv6.gateway = v6()?,
            "ipv6-dns" => settings.ipv6.dns = v6()?,
            "hostname" => settings.hostname = Some(value.to_owned()),
            "domainname" => settings.domain = Some(value.to_owned()),
            "dnssearch" => settings.search.push(value.to_owned()),
            "tftp" => settings.boot.tftp = Some(value.into()),
            "tftp-server-name" => settings.boot.server_name = Some(value.to_owned()),
            "bootfile" => settings.boot.file = Some(value.to_owned()),
            "restrict" => self.restrict = switch(key, value)?,
            "hostfwd" => settings.hostfwd.push(explained(key, value)?),
            "guestfwd" => settings.guestfwd.push(explained(key, value)?),
            "mtu" => settings.mtu = Some(parsed(key, value, "number of bytes")?),
            "mac" => settings.mac = Some(explained(key, value)?),
            "profile" => settings.profile = profile(key, value)?,
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Alias, Vec<Problem>> {
        let settings = &mut self.settings;
        if self.restrict {
            settings.profile = Profile::None;
        }
        if let Some(prefix) = self.prefix6 {
            let bits = self.prefix6_bits.unwrap_or(64);
            settings.ipv6.network =
                network("ipv6-prefix", &format!("{prefix}/{bits}"), 64).map_err(|found| vec![found])?;
        } else if let Some(bits) = self.prefix6_bits.filter(|bits| *bits != 64) {
            let what = format!("{bits} bits, but guests make their own addresses out of 64");
            return Err(vec![problem("ipv6-prefixlen", what, None)]);
        }
        if let (Some(start), IpAddr::V4(broadcast)) = (self.dhcp_start, settings.ipv4.network.last()) {
            // QEMU gives 16 addresses from there.
            let last = broadcast.to_bits().saturating_sub(1).min(start.to_bits().saturating_add(15));
            settings.ipv4.pool = Some((start, Ipv4Addr::from_bits(last.max(start.to_bits()))));
        }
        let config = self.settings.check()?;
        Ok(Alias { id: self.id, config })
    }
}

fn profile(key: &str, value: &str) -> Result<Profile, Problem> {
    match value {
        "none" => Ok(Profile::None),
        "public" => Ok(Profile::Public),
        "lan" => Ok(Profile::Lan),
        "host" => Ok(Profile::Host),
        "all" => Ok(Profile::All),
        _ => {
            let what = format!("`{value}` is no profile: `none`, `public`, `lan`, `host` or `all`");
            Err(problem(key, what, None))
        }
    }
}

fn unknown(key: &str) -> Problem {
    match key {
        "smb" | "smbserver" => {
            let help = "forward a server of your own with guestfwd=tcp:10.0.2.4:445-cmd:…";
            problem(key, "there is no file server for Windows shares".to_owned(), Some(help))
        }
        _ => problem(key, format!("`user` has no key `{key}`"), Some(&format!("there is {KEYS}"))),
    }
}
