//! The DHCP server (RFC 2131, 2132), with what boots from the network asks for.
//!
//! A guest is its Ethernet address. Client identifiers are echoed but tell nobody apart: firmware, boot loader and
//! kernel of one guest each have another one, and a forward to the guest must find it at the same address throughout.

mod message;
#[cfg(test)]
mod tests;

use super::SECOND_NS;
use crate::{
    address::Mac,
    config::{Boot, Config, Ipv4Network, StaticLease},
};
use message::{Kind, Request, Writer, option};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The server's port.
pub const SERVER_PORT: u16 = 67;
/// The client's port.
pub const CLIENT_PORT: u16 = 68;

/// How long an offer is kept for who asked.
const OFFER_NS: u64 = 60 * SECOND_NS;
/// How long an address is left alone that a guest found in use.
const DECLINED_NS: u64 = 600 * SECOND_NS;

/// What to send: from the gateway's port 67 to port 68.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The payload of UDP, at least 300 bytes.
    pub message: Vec<u8>,
    /// The destination; may be 255.255.255.255.
    pub to: Ipv4Addr,
    /// The destination's Ethernet address. A guest that is being configured answers no ARP.
    pub mac: Mac,
}

/// An address that somebody has, or was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    address: Ipv4Addr,
    until_ns: u64,
    bound: bool,
}

/// The server.
#[derive(Debug)]
pub struct Dhcp4 {
    net: Ipv4Network,
    told: Told,
    statics: Vec<StaticLease>,
    lease_s: u32,
    limit: usize,
    leases: BTreeMap<Mac, Lease>,
    /// Addresses that guests found in use, until when.
    declined: BTreeMap<Ipv4Addr, u64>,
}

/// What guests are told.
#[derive(Debug)]
struct Told {
    mtu: u16,
    hostname: Option<String>,
    domain: Option<String>,
    search: Vec<String>,
    boot: Boot,
}

impl Dhcp4 {
    /// `None` if there is no IPv4.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        let net = config.ipv4.clone()?;
        let told = Told {
            mtu: config.mtu,
            hostname: config.hostname.clone(),
            domain: config.domain.clone(),
            search: config.search.clone(),
            boot: config.boot.clone(),
        };
        Some(Self {
            net,
            told,
            statics: config.static_leases.clone(),
            lease_s: config.lease_s,
            limit: config.limits.leases as usize,
            leases: BTreeMap::new(),
            declined: BTreeMap::new(),
        })
    }

    /// The address that a guest has, if it has taken one.
    #[must_use]
    pub fn address_of(&self, mac: Mac, now_ns: u64) -> Option<Ipv4Addr> {
        let lease = self.leases.get(&mac).filter(|lease| lease.bound && now_ns < lease.until_ns)?;
        Some(lease.address)
    }

    /// Who has which address now.
    pub fn leases(&self, now_ns: u64) -> impl Iterator<Item = (Mac, Ipv4Addr)> {
        let live = self.leases.iter().filter(move |(_, lease)| lease.bound && now_ns < lease.until_ns);
        live.map(|(mac, lease)| (*mac, lease.address))
    }

    /// The address that was taken or renewed last, of those that still hold.
    #[must_use]
    pub fn latest(&self, now_ns: u64) -> Option<Ipv4Addr> {
        let live = self.leases.values().filter(|lease| lease.bound && now_ns < lease.until_ns);
        // All of them are for as long.
        live.max_by_key(|lease| lease.until_ns).map(|lease| lease.address)
    }

    /// A request, as it came to port 67. What is not understood has no answer.
    pub fn request(&mut self, now_ns: u64, bytes: &[u8]) -> Option<Reply> {
        let request = Request::parse(bytes)?;
        // Whoever comes through a relay is not on this link.
        if request.relay != Ipv4Addr::UNSPECIFIED || !request.mac.is_unicast() {
            return None;
        }
        match request.kind {
            Kind::Discover => self.discover(now_ns, &request),
            Kind::Request => self.take(now_ns, &request),
            Kind::Decline => self.decline(now_ns, &request),
            Kind::Release => self.release(&request),
            Kind::Inform => Some(self.inform(&request)),
            // Those are a server's.
            Kind::Offer | Kind::Ack | Kind::Nak => None,
        }
    }

    fn discover(&mut self, now_ns: u64, request: &Request<'_>) -> Option<Reply> {
        let address = self.choose(now_ns, request.mac, request.requested)?;
        // RFC 4039: two messages instead of four.
        if request.rapid_commit {
            self.bind(now_ns, request.mac, address);
            return Some(self.reply(Kind::Ack, request, address));
        }
        // A guest that has its address and asks again keeps it, whatever comes of this offer.
        let bound = self.address_of(request.mac, now_ns) == Some(address);
        if !bound {
            let lease = Lease { address, until_ns: now_ns.saturating_add(OFFER_NS), bound };
            self.leases.insert(request.mac, lease);
        }
        Some(self.reply(Kind::Offer, request, address))
    }

    /// DHCPREQUEST: RFC 2131 §4.3.2.
    fn take(&mut self, now_ns: u64, request: &Request<'_>) -> Option<Reply> {
        if request.server.is_some_and(|server| server != self.net.gateway) {
            // It has chosen another server.
            self.forget_offer(request.mac);
            return None;
        }
        let renews = request.client != Ipv4Addr::UNSPECIFIED;
        let wanted = if renews { request.client } else { request.requested? };
        // An address that this server does not know of may be from before a snapshot was restored, or before this
        // process: whoever has it may keep it if nobody else does.
        if self.choose(now_ns, request.mac, Some(wanted)) != Some(wanted) {
            return Some(self.refuse(request));
        }
        self.bind(now_ns, request.mac, wanted);
        Some(self.reply(Kind::Ack, request, wanted))
    }

    fn decline(&mut self, now_ns: u64, request: &Request<'_>) -> Option<Reply> {
        let address = request.requested?;
        let had = self.leases.get(&request.mac).is_some_and(|lease| lease.address == address);
        if had {
            self.leases.remove(&request.mac);
            while self.declined.len() >= self.limit {
                self.declined.pop_first();
            }
            self.declined.insert(address, now_ns.saturating_add(DECLINED_NS));
        }
        None
    }

    fn release(&mut self, request: &Request<'_>) -> Option<Reply> {
        if self.leases.get(&request.mac).is_some_and(|lease| lease.address == request.client) {
            self.leases.remove(&request.mac);
        }
        None
    }

    /// A guest that has its address otherwise and asks for the rest.
    fn inform(&self, request: &Request<'_>) -> Reply {
        self.reply(Kind::Ack, request, Ipv4Addr::UNSPECIFIED)
    }

    fn bind(&mut self, now_ns: u64, mac: Mac, address: Ipv4Addr) {
        // All ones means for ever (RFC 2131 §3.3).
        let lease_ns = if self.lease_s == u32::MAX { u64::MAX } else { u64::from(self.lease_s) * SECOND_NS };
        let lease = Lease { address, until_ns: now_ns.saturating_add(lease_ns), bound: true };
        self.leases.insert(mac, lease);
        self.declined.remove(&address);
    }

    fn forget_offer(&mut self, mac: Mac) {
        if self.leases.get(&mac).is_some_and(|lease| !lease.bound) {
            self.leases.remove(&mac);
        }
    }

    /// The address for a guest: the one kept for it, the one it has, the one it would like, the first free one.
    fn choose(&mut self, now_ns: u64, mac: Mac, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some(address) = self.statics.iter().find(|lease| lease.mac == mac).and_then(|lease| lease.ip) {
            return Some(address);
        }
        self.expire(now_ns);
        let has = self.leases.get(&mac).map(|lease| lease.address);
        let taken: BTreeSet<Ipv4Addr> = {
            let others =
                self.leases.iter().filter(|(other, _)| **other != mac).map(|(_, lease)| lease.address);
            let kept = self.statics.iter().filter_map(|lease| lease.ip);
            others.chain(kept).chain(self.declined.keys().copied()).collect()
        };
        let (first, last) = self.net.pool;
        let free = |address: &Ipv4Addr| (first..=last).contains(address) && !taken.contains(address);
        if let Some(address) = has.filter(free) {
            return Some(address);
        }
        if has.is_none() && self.leases.len() >= self.limit {
            return None;
        }
        // At most as many steps as there are taken addresses, and one.
        let lowest =
            || (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits).find(|address| free(address));
        wanted.filter(free).or_else(lowest)
    }

    fn expire(&mut self, now_ns: u64) {
        self.leases.retain(|_, lease| now_ns < lease.until_ns);
        self.declined.retain(|_, until_ns| now_ns < *until_ns);
    }

    /// DHCPNAK goes to everybody: the guest may believe it has an address that it cannot be reached at.
    fn refuse(&self, request: &Request<'_>) -> Reply {
        let mut writer = Writer::new(request, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, usize::MAX);
        writer.option(option::MESSAGE_TYPE, &[Kind::Nak as u8]);
        writer.option(option::SERVER, &self.net.gateway.octets());
        writer.client_id(request);
        Reply { message: writer.finish(), to: Ipv4Addr::BROADCAST, mac: Mac::BROADCAST }
    }

    /// `address` unspecified: it is an answer to DHCPINFORM.
    fn reply(&self, kind: Kind, request: &Request<'_>, address: Ipv4Addr) -> Reply {
        let (to, mac) = destination(request, address);
        let most = usize::from(request.max_message.unwrap_or(576).clamp(576, self.told.mtu.max(576))) - 28;
        let mut writer = Writer::new(request, address, self.next_server(), most);
        writer.option(option::MESSAGE_TYPE, &[kind as u8]);
        writer.option(option::SERVER, &self.net.gateway.octets());
        if address != Ipv4Addr::UNSPECIFIED {
            self.write_times(&mut writer);
        }
        writer.client_id(request);
        if request.rapid_commit && kind == Kind::Ack {
            writer.option(option::RAPID_COMMIT, &[]);
        }
        self.write_boot(&mut writer, request);
        let usual = [
            option::MASK,
            option::ROUTER,
            option::DNS,
            option::HOSTNAME,
            option::DOMAIN,
            option::MTU,
            option::BROADCAST,
        ];
        for code in request.wanted.unwrap_or(&usual) {
            if let Some(value) = self.value(*code, request) {
                writer.option(*code, &value);
            }
        }
        Reply { message: writer.finish(), to, mac }
    }

    fn write_times(&self, writer: &mut Writer) {
        let share = |eighths: u64| {
            let seconds =
                if self.lease_s == u32::MAX { u64::MAX } else { u64::from(self.lease_s) * eighths / 8 };
            u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes()
        };
        writer.option(option::LEASE_TIME, &self.lease_s.to_be_bytes());
        writer.option(option::RENEWAL_TIME, &share(4));
        writer.option(option::REBINDING_TIME, &share(7));
    }

    /// Where boot files are: elsewhere, or here if there is TFTP.
    fn next_server(&self) -> Ipv4Addr {
        let here = self.told.boot.tftp.is_some().then_some(self.net.gateway);
        self.told.boot.next_server.or(here).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    fn write_boot(&self, writer: &mut Writer, request: &Request<'_>) {
        let boot = &self.told.boot;
        if let Some(name) = &boot.server_name {
            writer.server_name(name);
        }
        let Some(file) = &boot.file else { return };
        let fits = writer.file(file);
        // UEFI's HTTP boot takes the offer of who says that it is for it (UEFI 2.10 §24.7.2).
        if request.vendor_class.starts_with(b"HTTPClient") && file.contains("://") {
            writer.option(option::VENDOR_CLASS, b"HTTPClient");
        }
        let asked = request.wanted.is_some_and(|wanted| wanted.contains(&option::BOOT_FILE));
        if !fits && !asked {
            writer.option(option::BOOT_FILE, file.as_bytes());
        }
    }

    /// What an option holds, if it is to be told.
    fn value(&self, code: u8, request: &Request<'_>) -> Option<Vec<u8>> {
        let own = self.statics.iter().find(|lease| lease.mac == request.mac);
        let text = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        match code {
            option::MASK => {
                let bits = u32::MAX << (32 - u32::from(self.net.network.prefix()).clamp(1, 32));
                Some(bits.to_be_bytes().to_vec())
            }
            option::ROUTER => Some(self.net.gateway.octets().to_vec()),
            option::DNS => Some(self.net.dns.octets().to_vec()),
            option::HOSTNAME => {
                own.and_then(|lease| text(&lease.hostname)).or_else(|| text(&self.told.hostname))
            }
            option::DOMAIN => text(&self.told.domain),
            option::MTU => Some(self.told.mtu.to_be_bytes().to_vec()),
            option::BROADCAST => match self.net.network.last() {
                std::net::IpAddr::V4(last) => Some(last.octets().to_vec()),
                std::net::IpAddr::V6(_) => None,
            },
            option::SEARCH if !self.told.search.is_empty() => Some(super::names::list(&self.told.search)),
            option::TFTP_NAME => {
                let server = self.next_server();
                let address = (server != Ipv4Addr::UNSPECIFIED).then(|| server.to_string().into_bytes());
                text(&self.told.boot.server_name).or(address)
            }
            option::BOOT_FILE => text(&self.told.boot.file),
            option::TFTP_ADDRESS => {
                let server = self.next_server();
                (server != Ipv4Addr::UNSPECIFIED).then(|| server.octets().to_vec())
            }
            _ => None,
        }
    }
}

/// RFC 2131 §4.1: to where the guest is, or to everybody if it says that it hears nothing else yet.
fn destination(request: &Request<'_>, address: Ipv4Addr) -> (Ipv4Addr, Mac) {
    if request.client != Ipv4Addr::UNSPECIFIED {
        (request.client, request.mac)
    } else if request.broadcast || address == Ipv4Addr::UNSPECIFIED {
        (Ipv4Addr::BROADCAST, Mac::BROADCAST)
    } else {
        (address, request.mac)
    }
}
