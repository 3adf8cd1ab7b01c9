//! `user,id=user0,hostfwd=tcp::2222-:22,…`: QEMU's `-netdev user`, with its names, to the same settings.
//!
//! It is said over a table of the board, if there is one of that network: a policy that the board has must not be gone
//! because somebody has forwarded a port.

use super::{Config, Problem, Settings};
use crate::{address::Cidr, policy::Profile};
use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// What an alias says: which network is meant, and what it is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// `id=`.
    pub id: Option<String>,
    /// Keys and values, in the order in which they were written.
    words: Vec<(String, String)>,
}

/// All keys, for advice.
const KEYS: &str = "id, ipv4, net, host, dhcpstart, dns, ipv6, ipv6-net, ipv6-prefix, ipv6-prefixlen, ipv6-host, \
                    ipv6-dns, hostname, domainname, dnssearch, tftp, tftp-server-name, bootfile, restrict, hostfwd, \
                    guestfwd, profile, mtu, mac, model";

const MODEL: &str = "leave it out, or write model=virtio-net-device";

/// What comes in two keys, and is put together at the end.
#[derive(Default)]
struct Partial {
    settings: Settings,
    dhcp_start: Option<Ipv4Addr>,
    prefix6: Option<IpAddr>,
    prefix6_bits: Option<u8>,
    restrict: Option<bool>,
    profile: Option<Profile>,
    /// A list that is told takes the place of the board's.
    search: Vec<String>,
}

impl Alias {
    /// Reads `user,KEY=VALUE,…`. A comma in a value is written twice, as in QEMU. What the values are worth is for
    /// [`Alias::over`] to say.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut parts = split(text).into_iter();
        if parts.next().as_deref() != Some("user") {
            let what = format!("`{text}` does not begin with `user`");
            return Err(problem("", what, Some("write it like user,hostfwd=tcp::2222-:22")));
        }
        let word = |part: String| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (part, "on".to_owned()),
        };
        let mut words: Vec<_> = parts.map(word).collect();
        let id = words.extract_if(.., |(key, _)| key == "id").last().map(|(_, id)| id);
        Ok(Self { id, words })
    }

    /// The network that it comes to, over what the board has for it: what is named here wins, forwards are added.
    ///
    /// # Errors
    /// Everything that is wrong with it; `at` is the key as written in the alias, or the setting's where the two do not
    /// fit together.
    pub fn over(&self, board: Settings) -> Result<Config, Vec<Problem>> {
        let mut partial = Partial { settings: board, ..Partial::default() };
        let set = |(key, value): &(String, String)| partial.set(key, value).err();
        let problems: Vec<Problem> = self.words.iter().filter_map(set).collect();
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
            "dnssearch" => self.search.push(value.to_owned()),
            "tftp" => settings.boot.tftp = Some(value.into()),
            "tftp-server-name" => settings.boot.server_name = Some(value.to_owned()),
            "bootfile" => settings.boot.file = Some(value.to_owned()),
            "restrict" => self.restrict = Some(switch(key, value)?),
            "hostfwd" => settings.hostfwd.push(explained(key, value)?),
            "guestfwd" => settings.guestfwd.push(explained(key, value)?),
            "mtu" => settings.mtu = Some(parsed(key, value, "number of bytes")?),
            "mac" => settings.mac = Some(explained(key, value)?),
            "profile" => self.profile = Some(profile(key, value)?),
            // Of the device, not of the network: here it can only be what it is.
            "model" if value.starts_with("virtio") => {}
            "model" => return Err(problem(key, format!("`{value}` is no network device here"), Some(MODEL))),
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Config, Vec<Problem>> {
        let settings = &mut self.settings;
        if !self.search.is_empty() {
            settings.search = self.search;
        }
        settings.profile = match (self.restrict, self.profile, settings.profile) {
            (Some(true), ..) => Profile::None,
            (Some(false), None, Profile::None) => Profile::default(),
            (_, named, board) => named.unwrap_or(board),
        };
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
        self.settings.check()
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
