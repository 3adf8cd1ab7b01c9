//! DHCP on the wire. RFC 2131 §2, options of RFC 2132.

use crate::{
    address::Mac,
    service::{numbered::numbered, reader::Reader},
};
use std::net::Ipv4Addr;

/// Options, by number.
pub(super) mod option {
    pub(in super::super) const MASK: u8 = 1;
    pub(in super::super) const ROUTER: u8 = 3;
    pub(in super::super) const DNS: u8 = 6;
    pub(in super::super) const HOSTNAME: u8 = 12;
    pub(in super::super) const DOMAIN: u8 = 15;
    pub(in super::super) const MTU: u8 = 26;
    pub(in super::super) const BROADCAST: u8 = 28;
    pub(in super::super) const REQUESTED: u8 = 50;
    pub(in super::super) const LEASE_TIME: u8 = 51;
    pub(in super::super) const OVERLOAD: u8 = 52;
    pub(in super::super) const MESSAGE_TYPE: u8 = 53;
    pub(in super::super) const SERVER: u8 = 54;
    pub(in super::super) const WANTED: u8 = 55;
    pub(in super::super) const MAX_MESSAGE: u8 = 57;
    pub(in super::super) const RENEWAL_TIME: u8 = 58;
    pub(in super::super) const REBINDING_TIME: u8 = 59;
    pub(in super::super) const VENDOR_CLASS: u8 = 60;
    pub(in super::super) const CLIENT_ID: u8 = 61;
    pub(in super::super) const TFTP_NAME: u8 = 66;
    pub(in super::super) const BOOT_FILE: u8 = 67;
    /// RFC 4039.
    pub(in super::super) const RAPID_COMMIT: u8 = 80;
    /// RFC 3397.
    pub(in super::super) const SEARCH: u8 = 119;
    /// RFC 5859.
    pub(in super::super) const TFTP_ADDRESS: u8 = 150;
}

const PAD: u8 = 0;
const END: u8 = 255;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Before the cookie.
const FIXED_BYTES: usize = 236;
/// BOOTP's length, which some clients still insist on (RFC 1542 §2.1).
const LEAST_BYTES: usize = 300;
const BROADCAST_FLAG: u16 = 0x8000;

numbered! {
    /// Message types: RFC 2132 §9.6.
    pub(super) enum Kind: u8 {
        Discover = 1,
        Offer = 2,
        Request = 3,
        Decline = 4,
        Ack = 5,
        Nak = 6,
        Release = 7,
        Inform = 8,
    }
}

/// A client's message.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) transaction: [u8; 4],
    pub(super) flags: u16,
    pub(super) broadcast: bool,
    /// `ciaddr`: the address that it has and answers at.
    pub(super) client: Ipv4Addr,
    /// `giaddr`.
    pub(super) relay: Ipv4Addr,
    pub(super) mac: Mac,
    pub(super) requested: Option<Ipv4Addr>,
    pub(super) server: Option<Ipv4Addr>,
    pub(super) wanted: Option<&'a [u8]>,
    pub(super) max_message: Option<u16>,
    pub(super) client_id: Option<&'a [u8]>,
    pub(super) vendor_class: &'a [u8],
    pub(super) rapid_commit: bool,
}

impl<'a> Request<'a> {
    /// `None`: it is no DHCP message of an Ethernet client.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let [op, htype, hlen, _hops] = reader.array()?;
        if (op, htype, hlen) != (1, 1, 6) {
            return None;
        }
        let transaction = reader.array()?;
        let _seconds = reader.u16()?;
        let flags = reader.u16()?;
        let mut address = || reader.array::<4>().map(Ipv4Addr::from);
        let (client, _yours, _next, relay) = (address()?, address()?, address()?, address()?);
        let mac = Mac(reader.array()?);
        reader.take(10)?;
        let server_name = reader.take(64)?;
        let file = reader.take(128)?;
        if reader.array()? != COOKIE {
            return None;
        }
        let mut request = Self {
            kind: Kind::Nak,
            transaction,
            flags,
            broadcast: flags & BROADCAST_FLAG != 0,
            client,
            relay,
            mac,
            requested: None,
            server: None,
            wanted: None,
            max_message: None,
            client_id: None,
            vendor_class: &[],
            rapid_commit: false,
        };
        let mut kind = None;
        let overload = request.read_options(reader, &mut kind)?;
        // RFC 2132 §9.3: options may go on in the two fields.
        for (bit, field) in [(1, file), (2, server_name)] {
            if overload & bit != 0 {
                request.read_options(Reader(field), &mut kind)?;
            }
        }
        request.kind = kind?;
        Some(request)
    }

    /// Returns the value of option 52. A first option wins over a later one with its number.
    fn read_options(&mut self, mut reader: Reader<'a>, kind: &mut Option<Kind>) -> Option<u8> {
        let mut overload = 0;
        while let Some(code) = reader.u8() {
            match code {
                PAD => continue,
                END => break,
                _ => {}
            }
            let length = reader.u8()?;
            let value = reader.take(usize::from(length))?;
            let address = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
            match code {
                option::MESSAGE_TYPE => *kind = kind.or(Some(Kind::from_number(*value.first()?)?)),
                option::REQUESTED => self.requested = self.requested.or(address()),
                option::SERVER => self.server = self.server.or(address()),
                option::WANTED => self.wanted = self.wanted.or(Some(value)),
                option::MAX_MESSAGE => {
                    self.max_message = <[u8; 2]>::try_from(value).ok().map(u16::from_be_bytes);
                }
                option::CLIENT_ID => self.client_id = self.client_id.or(Some(value)),
                option::VENDOR_CLASS => self.vendor_class = value,
                option::RAPID_COMMIT => self.rapid_commit = true,
                option::OVERLOAD => overload = value.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        Some(overload)
    }
}

/// A server's message in the making.
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// The longest message that the client takes.
    most: usize,
    /// Each option once: a list of wanted ones may repeat itself.
    written: [bool; 256],
}

impl Writer {
    pub(super) fn new(request: &Request<'_>, yours: Ipv4Addr, next: Ipv4Addr, most: usize) -> Self {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend_from_slice(&request.transaction);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&request.flags.to_be_bytes());
        for address in [request.client, yours, next, request.relay] {
            bytes.extend_from_slice(&address.octets());
        }
        bytes.extend_from_slice(&request.mac.0);
        bytes.resize(FIXED_BYTES, 0);
        bytes.extend_from_slice(&COOKIE);
        Self { bytes, most, written: [false; 256] }
    }

    /// Appends an option if it fits, and is not there.
    pub(super) fn option(&mut self, code: u8, value: &[u8]) {
        let end = self.bytes.len() + 2 + value.len() + 1;
        let Ok(length) = u8::try_from(value.len()) else { return };
        if end > self.most || std::mem::replace(&mut self.written[usize::from(code)], true) {
            return;
        }
        self.bytes.extend_from_slice(&[code, length]);
        self.bytes.extend_from_slice(value);
    }

    /// RFC 6842: who sent an identifier gets it back.
    pub(super) fn client_id(&mut self, request: &Request<'_>) {
        if let Some(id) = request.client_id {
            self.option(option::CLIENT_ID, id);
        }
    }

    /// The `sname` field, as far as it fits.
    pub(super) fn server_name(&mut self, name: &str) {
        self.field(44..107, name);
    }

    /// The `file` field. Whether it fits: a part of a name is none.
    pub(super) fn file(&mut self, file: &str) -> bool {
        self.field(108..235, file)
    }

    /// The byte behind the range stays zero.
    fn field(&mut self, range: std::ops::Range<usize>, text: &str) -> bool {
        let fits = text.len() <= range.len();
        if fits {
            self.bytes[range][..text.len()].copy_from_slice(text.as_bytes());
        }
        fits
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        self.bytes.resize(self.bytes.len().max(LEAST_BYTES), 0);
        self.bytes
    }
}
