//! The DHCPv6 server (RFC 8415): what a guest asks besides its address, and addresses for those that want one from us
//! and not of their own making.
//!
//! A binding belongs to (DUID, IAID), as the protocol has it; kept addresses go by Ethernet address.

mod message;
#[cfg(test)]
mod tests;

use super::SECOND_NS;
use crate::{
    address::Mac,
    config::{Boot, Config, Ipv6Network, StaticLease},
};
use message::{Asked, Kind, Request, Status, Writer, option};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

/// The server's port.
pub const SERVER_PORT: u16 = 547;
/// The client's port.
pub const CLIENT_PORT: u16 = 546;

/// How long an address is kept that was advertised to somebody.
const OFFER_NS: u64 = 60 * SECOND_NS;
/// How long an address is left alone that a guest found in use.
const DECLINED_NS: u64 = 600 * SECOND_NS;

/// Who has an address: the client's DUID and the number that it gave to its interface.
type Binding = (Vec<u8>, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    address: Ipv6Addr,
    until_ns: u64,
    bound: bool,
}

/// The server.
#[derive(Debug)]
pub struct Dhcp6 {
    net: Ipv6Network,
    duid: Vec<u8>,
    domains: Vec<String>,
    boot: Boot,
    statics: Vec<StaticLease>,
    lease_s: u32,
    limit: usize,
    leases: BTreeMap<Binding, Lease>,
    declined: BTreeMap<Ipv6Addr, u64>,
}

impl Dhcp6 {
    /// `None` if there is no IPv6.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        // DUID-LL of Ethernet (RFC 8415 §11.4): the same each time, so that a guest finds its server again.
        let duid = [&[0, 3, 0, 1], config.mac.0.as_slice()].concat();
        let domains = match &config.domain {
            Some(domain) if config.search.is_empty() => vec![domain.clone()],
            Some(_) | None => config.search.clone(),
        };
        Some(Self {
            net: config.ipv6.clone()?,
            duid,
            domains,
            boot: config.boot.clone(),
            statics: config.static_leases.clone(),
            lease_s: config.lease_s,
            limit: config.limits.leases as usize,
            leases: BTreeMap::new(),
            declined: BTreeMap::new(),
        })
    }

    /// The addresses that were given.
    pub fn leases(&self, now_ns: u64) -> impl Iterator<Item = Ipv6Addr> {
        let live = self.leases.values().filter(move |lease| lease.bound && now_ns < lease.until_ns);
        live.map(|lease| lease.address)
    }

    /// The address that was given or renewed last, of those that still hold.
    #[must_use]
    pub fn latest(&self, now_ns: u64) -> Option<Ipv6Addr> {
        let live = self.leases.values().filter(|lease| lease.bound && now_ns < lease.until_ns);
        // All of them are for as long.
        live.max_by_key(|lease| lease.until_ns).map(|lease| lease.address)
    }

    /// The answer to a message that came from `mac` to port 547; it goes back to where it came from, port 546.
    pub fn request(&mut self, now_ns: u64, mac: Mac, bytes: &[u8]) -> Option<Vec<u8>> {
        let request = Request::parse(bytes)?;
        self.is_for_us(&request).then_some(())?;
        self.expire(now_ns);
        match request.kind {
            Kind::Solicit if request.rapid_commit => Some(self.grant(now_ns, mac, &request, Kind::Reply)),
            Kind::Solicit => Some(self.grant(now_ns, mac, &request, Kind::Advertise)),
            Kind::Request | Kind::Renew | Kind::Rebind => {
                Some(self.grant(now_ns, mac, &request, Kind::Reply))
            }
            Kind::Confirm => self.confirm(&request),
            Kind::Release => Some(self.release(&request)),
            Kind::Decline => Some(self.decline(now_ns, &request)),
            Kind::InformationRequest => {
                let mut writer = self.begin(Kind::Reply, &request);
                self.write_asked(&mut writer, &request);
                Some(writer.finish())
            }
            // Those are a server's.
            Kind::Advertise | Kind::Reply => None,
        }
    }

    /// RFC 8415 §16: which identifiers each message must and must not have.
    fn is_for_us(&self, request: &Request<'_>) -> bool {
        let (named, ours) = (request.server.is_some(), request.server == Some(self.duid.as_slice()));
        match request.kind {
            Kind::Solicit | Kind::Confirm | Kind::Rebind => !named && request.client.is_some(),
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => ours && request.client.is_some(),
            Kind::InformationRequest => (ours || !named) && request.associations.is_empty(),
            Kind::Advertise | Kind::Reply => false,
        }
    }

    fn begin(&self, kind: Kind, request: &Request<'_>) -> Writer {
        let mut writer = Writer::new(kind, request.transaction);
        if let Some(client) = request.client {
            writer.option(option::CLIENT_ID, client);
        }
        writer.option(option::SERVER_ID, &self.duid);
        writer
    }

    fn grant(&mut self, now_ns: u64, mac: Mac, request: &Request<'_>, kind: Kind) -> Vec<u8> {
        let mut writer = self.begin(kind, request);
        if kind == Kind::Advertise {
            // There is no other server, so nobody needs to wait for a better one.
            writer.option(option::PREFERENCE, &[255]);
        } else if request.kind == Kind::Solicit {
            writer.option(option::RAPID_COMMIT, &[]);
        }
        for asked in &request.associations {
            self.grant_one(now_ns, mac, request, kind, asked, &mut writer);
        }
        for iaid in &request.prefixes {
            writer.no_prefix(*iaid);
        }
        self.write_asked(&mut writer, request);
        writer.finish()
    }

    fn grant_one(
        &mut self,
        now_ns: u64,
        mac: Mac,
        request: &Request<'_>,
        kind: Kind,
        asked: &Asked,
        writer: &mut Writer,
    ) {
        let binding = (request.client.unwrap_or_default().to_vec(), asked.iaid);
        let Some(address) = self.choose(&binding, mac, &asked.addresses) else {
            return writer.association(asked.iaid, 0, &[], Some(Status::NoAddrsAvail));
        };
        let renews = matches!(request.kind, Kind::Renew | Kind::Rebind);
        if renews && !asked.addresses.contains(&address) {
            // What it has is not what it can have: it begins anew (§18.3.4).
            let gone: Vec<_> = asked.addresses.iter().map(|address| (*address, 0)).collect();
            return writer.association(asked.iaid, 0, &gone, Some(Status::NoBinding));
        }
        let bound = kind == Kind::Reply;
        let lease_ns = if bound { u64::from(self.lease_s) * SECOND_NS } else { OFFER_NS };
        let until_ns = now_ns.saturating_add(lease_ns);
        let keeps = !bound && self.leases.get(&binding).is_some_and(|lease| lease.bound);
        if !keeps {
            self.leases.insert(binding, Lease { address, until_ns, bound });
        }
        let mut addresses = vec![(address, self.lease_s)];
        if renews {
            let others = asked.addresses.iter().filter(|other| **other != address);
            addresses.extend(others.map(|other| (*other, 0)));
        }
        writer.association(asked.iaid, self.lease_s, &addresses, None);
    }

    fn choose(&self, binding: &Binding, mac: Mac, wanted: &[Ipv6Addr]) -> Option<Ipv6Addr> {
        let kept = self.statics.iter().find(|lease| lease.mac == mac).and_then(|lease| lease.ip6);
        let others =
            self.leases.iter().filter(|(other, _)| *other != binding).map(|(_, lease)| lease.address);
        let mut taken: BTreeSet<_> = others.chain(self.declined.keys().copied()).collect();
        // A second interface of the guest does not get the address that is kept for the first.
        if let Some(address) = kept.filter(|address| !taken.contains(address)) {
            return Some(address);
        }
        taken.extend(self.statics.iter().filter_map(|lease| lease.ip6));
        let (first, last) = self.net.pool;
        let free = |address: &Ipv6Addr| (first..=last).contains(address) && !taken.contains(address);
        let has = self.leases.get(binding).map(|lease| lease.address);
        if let Some(address) = has.filter(free) {
            return Some(address);
        }
        if has.is_none() && self.leases.len() >= self.limit {
            return None;
        }
        let lowest =
            || (first.to_bits()..=last.to_bits()).map(Ipv6Addr::from_bits).find(|address| free(address));
        wanted.iter().copied().find(free).or_else(lowest)
    }

    /// Whether the guest is still where its addresses are (§18.3.3).
    fn confirm(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        let mut addresses = request.associations.iter().flat_map(|asked| &asked.addresses).peekable();
        addresses.peek()?;
        let here = addresses.all(|address| self.net.network.contains((*address).into()));
        let mut writer = self.begin(Kind::Reply, request);
        writer.status(if here { Status::Success } else { Status::NotOnLink });
        Some(writer.finish())
    }

    fn release(&mut self, request: &Request<'_>) -> Vec<u8> {
        let mut writer = self.begin(Kind::Reply, request);
        for asked in &request.associations {
            if self.forget(request, asked).is_none() {
                writer.association(asked.iaid, 0, &[], Some(Status::NoBinding));
            }
        }
        writer.status(Status::Success);
        writer.finish()
    }

    fn decline(&mut self, now_ns: u64, request: &Request<'_>) -> Vec<u8> {
        let mut writer = self.begin(Kind::Reply, request);
        for asked in &request.associations {
            match self.forget(request, asked) {
                Some(address) => {
                    while self.declined.len() >= self.limit {
                        self.declined.pop_first();
                    }
                    self.declined.insert(address, now_ns.saturating_add(DECLINED_NS));
                }
                None => writer.association(asked.iaid, 0, &[], Some(Status::NoBinding)),
            }
        }
        writer.status(Status::Success);
        writer.finish()
    }

    /// Removes a binding that the client names with its address.
    fn forget(&mut self, request: &Request<'_>, asked: &Asked) -> Option<Ipv6Addr> {
        let binding = (request.client.unwrap_or_default().to_vec(), asked.iaid);
        let address = self.leases.get(&binding)?.address;
        asked.addresses.contains(&address).then(|| self.leases.remove(&binding))?;
        Some(address)
    }

    fn expire(&mut self, now_ns: u64) {
        self.leases.retain(|_, lease| now_ns < lease.until_ns);
        self.declined.retain(|_, until_ns| now_ns < *until_ns);
    }

    fn write_asked(&self, writer: &mut Writer, request: &Request<'_>) {
        for code in &request.wanted {
            match *code {
                option::DNS => writer.option(option::DNS, &self.net.dns.octets()),
                option::DOMAINS if !self.domains.is_empty() => {
                    writer.option(option::DOMAINS, &super::names::list(&self.domains));
                }
                option::BOOT_FILE_URL => {
                    if let Some(url) = self.boot_url() {
                        writer.option(option::BOOT_FILE_URL, url.as_bytes());
                    }
                }
                option::VENDOR_CLASS if request.http_boot && self.boot_url().is_some() => {
                    // UEFI 2.10 §24.7.2: the enterprise number of UEFI (343), and one string.
                    let text = b"HTTPClient";
                    let value = [&[0, 0, 1, 0x57, 0, text.len() as u8], text.as_slice()].concat();
                    writer.option(option::VENDOR_CLASS, &value);
                }
                _ => {}
            }
        }
    }

    /// RFC 5970 wants a URL; a plain file name is on the TFTP server here.
    fn boot_url(&self) -> Option<String> {
        let file = self.boot.file.as_ref()?;
        if file.contains("://") {
            return Some(file.clone());
        }
        self.boot.tftp.as_ref()?;
        Some(format!("tftp://[{}]/{}", self.net.gateway, file.trim_start_matches('/')))
    }
}
