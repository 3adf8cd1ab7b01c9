//! DHCPv6 on the wire. RFC 8415 §8, §21.

use crate::service::{numbered::numbered, reader::Reader};
use std::net::Ipv6Addr;

/// Options, by number.
pub(super) mod option {
    pub(in super::super) const CLIENT_ID: u16 = 1;
    pub(in super::super) const SERVER_ID: u16 = 2;
    pub(in super::super) const IA_NA: u16 = 3;
    pub(in super::super) const IA_ADDRESS: u16 = 5;
    pub(in super::super) const WANTED: u16 = 6;
    pub(in super::super) const PREFERENCE: u16 = 7;
    pub(in super::super) const STATUS: u16 = 13;
    pub(in super::super) const RAPID_COMMIT: u16 = 14;
    pub(in super::super) const VENDOR_CLASS: u16 = 16;
    /// RFC 3646.
    pub(in super::super) const DNS: u16 = 23;
    pub(in super::super) const DOMAINS: u16 = 24;
    pub(in super::super) const IA_PD: u16 = 25;
    /// RFC 5970.
    pub(in super::super) const BOOT_FILE_URL: u16 = 59;
}

/// No client has more interfaces, or a longer name, than this (§11.1: a DUID has at most 130 bytes).
const ASSOCIATIONS: usize = 4;
const ADDRESSES: usize = 8;
const DUID_BYTES: usize = 130;
const WANTED: usize = 64;

numbered! {
    /// Message types: §7.3.
    pub(super) enum Kind: u8 {
        Solicit = 1,
        Advertise = 2,
        Request = 3,
        Confirm = 4,
        Renew = 5,
        Rebind = 6,
        Reply = 7,
        Release = 8,
        Decline = 9,
        InformationRequest = 11,
    }
}

/// Status codes: §21.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success = 0,
    NoAddrsAvail = 2,
    NoBinding = 3,
    NotOnLink = 4,
    NoPrefixAvail = 6,
}

/// An IA_NA, as a client asks for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) iaid: u32,
    pub(super) addresses: Vec<Ipv6Addr>,
}

/// A client's message.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) transaction: [u8; 3],
    pub(super) client: Option<&'a [u8]>,
    pub(super) server: Option<&'a [u8]>,
    pub(super) associations: Vec<Asked>,
    /// The numbers of the IA_PDs, which nobody gets.
    pub(super) prefixes: Vec<u32>,
    /// Each once, in the client's order.
    pub(super) wanted: Vec<u16>,
    pub(super) rapid_commit: bool,
    pub(super) http_boot: bool,
}

impl<'a> Request<'a> {
    /// `None`: it is no message of a client on this link.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut request = Self {
            kind: Kind::from_number(reader.u8()?)?,
            transaction: reader.array()?,
            client: None,
            server: None,
            associations: Vec::new(),
            prefixes: Vec::new(),
            wanted: Vec::new(),
            rapid_commit: false,
            http_boot: false,
        };
        while !reader.is_empty() {
            let (code, value) = option_of(&mut reader)?;
            request.take_option(code, value)?;
        }
        Some(request)
    }

    fn take_option(&mut self, code: u16, value: &'a [u8]) -> Option<()> {
        match code {
            option::CLIENT_ID if (1..=DUID_BYTES).contains(&value.len()) => self.client = Some(value),
            option::CLIENT_ID => return None,
            option::SERVER_ID => self.server = Some(value),
            option::RAPID_COMMIT => self.rapid_commit = true,
            option::VENDOR_CLASS => {
                self.http_boot = value.get(6..).is_some_and(|text| text.starts_with(b"HTTPClient"))
            }
            option::WANTED => {
                for code in value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])) {
                    if self.wanted.len() < WANTED && !self.wanted.contains(&code) {
                        self.wanted.push(code);
                    }
                }
            }
            option::IA_NA => {
                let asked = asked(value)?;
                let new = self.associations.iter().all(|other| other.iaid != asked.iaid);
                if new && self.associations.len() < ASSOCIATIONS {
                    self.associations.push(asked);
                }
            }
            option::IA_PD => {
                let iaid = Reader(value).u32()?;
                if self.prefixes.len() < ASSOCIATIONS {
                    self.prefixes.push(iaid);
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn option_of<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let code = reader.u16()?;
    let length = reader.u16()?;
    Some((code, reader.take(usize::from(length))?))
}

fn asked(value: &[u8]) -> Option<Asked> {
    let mut reader = Reader(value);
    let iaid = reader.u32()?;
    let (_t1, _t2) = (reader.u32()?, reader.u32()?);
    let mut addresses = Vec::new();
    while !reader.is_empty() {
        let (code, value) = option_of(&mut reader)?;
        if code == option::IA_ADDRESS && addresses.len() < ADDRESSES {
            addresses.push(Ipv6Addr::from(Reader(value).array::<16>()?));
        }
    }
    Some(Asked { iaid, addresses })
}

/// A server's message in the making.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: Kind, transaction: [u8; 3]) -> Self {
        let mut bytes = vec![kind as u8];
        bytes.extend_from_slice(&transaction);
        Self(bytes)
    }

    /// Values here are all shorter than 64 KiB.
    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        self.0.extend_from_slice(&code.to_be_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.0.extend_from_slice(value);
    }

    pub(super) fn status(&mut self, status: Status) {
        self.option(option::STATUS, &(status as u16).to_be_bytes());
    }

    /// An IA_NA: T1 and T2 at 0.5 and 0.8 of the lifetime (§21.4), and each address with its lifetime.
    pub(super) fn association(
        &mut self,
        iaid: u32,
        life_s: u32,
        addresses: &[(Ipv6Addr, u32)],
        status: Option<Status>,
    ) {
        let mut inner = Self(iaid.to_be_bytes().to_vec());
        let (t1, t2) = match life_s {
            u32::MAX => (life_s, life_s),
            _ => (life_s / 2, (u64::from(life_s) * 4 / 5) as u32),
        };
        inner.0.extend_from_slice(&t1.to_be_bytes());
        inner.0.extend_from_slice(&t2.to_be_bytes());
        for (address, life_s) in addresses {
            let life = life_s.to_be_bytes();
            inner.option(option::IA_ADDRESS, &[address.octets().as_slice(), &life, &life].concat());
        }
        if let Some(status) = status {
            inner.status(status);
        }
        self.option(option::IA_NA, &inner.0);
    }

    pub(super) fn no_prefix(&mut self, iaid: u32) {
        let mut inner = Self([iaid.to_be_bytes(), [0; 4], [0; 4]].concat());
        inner.status(Status::NoPrefixAvail);
        self.option(option::IA_PD, &inner.0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}
