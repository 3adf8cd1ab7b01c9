//! The services of the network's own addresses that need no socket: DHCP, router advertisements, TFTP.

use crate::{
    Error,
    address::Mac,
    config::Config,
    core::{Answer, Family, Request, Services},
    service::{
        dhcp4::Dhcp4,
        dhcp6::Dhcp6,
        ra::{Advertisement, Router},
        tftp::{self, Folder, Tftp},
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const DHCP4_SERVER: u16 = 67;
const DHCP4_CLIENT: u16 = 68;
const DHCP6_SERVER: u16 = 547;

pub(crate) struct OwnServices {
    config: Config,
    dhcp4: Option<Dhcp4>,
    dhcp6: Option<Dhcp6>,
    router: Option<Router>,
    tftp: Option<Tftp<Folder>>,
}

impl OwnServices {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let tftp = match &config.boot.tftp {
            Some(path) => {
                let folder = Folder::open(path).map_err(|why| Error::Tftp { folder: path.clone(), why })?;
                Some(Tftp::new(folder, config))
            }
            None => None,
        };
        Ok(Self {
            config: config.clone(),
            dhcp4: Dhcp4::new(config),
            dhcp6: Dhcp6::new(config),
            router: Router::new(config, 0),
            tftp,
        })
    }

    fn dhcp4(&mut self, now: u64, data: &[u8]) -> Option<Answer> {
        let gateway = self.config.ipv4.as_ref()?.gateway;
        let reply = self.dhcp4.as_mut()?.request(now, data)?;
        Some(Answer::Datagram {
            mac: Some(reply.mac.0),
            from: (gateway, DHCP4_SERVER).into(),
            to: (reply.to, DHCP4_CLIENT).into(),
            data: reply.message,
        })
    }

    fn dhcp6(&mut self, now: u64, request: &Request<'_>) -> Option<Answer> {
        let data = self.dhcp6.as_mut()?.request(now, Mac(request.mac), request.data)?;
        let from = (self.config.gateway_link_local(), DHCP6_SERVER).into();
        Some(Answer::Datagram { mac: Some(request.mac), from, to: request.from, data })
    }

    /// Returns whether TFTP listens there.
    fn tftp(&mut self, now: u64, request: &Request<'_>, answers: &mut Vec<Answer>) -> bool {
        let Some(tftp) = &mut self.tftp else { return false };
        let mut out = Vec::new();
        if request.to.port() == tftp::PORT {
            tftp.request(now, request.from, request.to.ip(), request.data, &mut out);
        } else if tftp.owns(request.from, request.to) {
            tftp.packet(now, request.from, request.to, request.data, &mut out);
        } else {
            return false;
        }
        answers.extend(out.into_iter().map(datagram));
        true
    }
}

fn datagram(out: tftp::Datagram) -> Answer {
    Answer::Datagram { mac: None, from: out.from, to: out.to, data: out.message }
}

impl Services for OwnServices {
    fn request(&mut self, now: u64, request: &Request<'_>, answers: &mut Vec<Answer>) -> bool {
        let everybody = match request.to.ip() {
            IpAddr::V4(v4) => v4 == Ipv4Addr::BROADCAST,
            // All DHCP relay agents and servers (RFC 8415 §7.1).
            IpAddr::V6(v6) => v6 == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2),
        };
        let ours = !request.to.ip().is_multicast() && request.to.ip() != Ipv4Addr::BROADCAST;
        match (request.to.port(), request.to) {
            (DHCP4_SERVER, SocketAddr::V4(_)) if everybody || ours => {
                answers.extend(self.dhcp4(now, request.data));
                true
            }
            (DHCP6_SERVER, SocketAddr::V6(_)) if everybody || ours => {
                answers.extend(self.dhcp6(now, request));
                true
            }
            _ => ours && self.tftp(now, request, answers),
        }
    }

    fn solicited(&mut self, source: Ipv6Addr, message: &[u8]) -> Option<Advertisement> {
        self.router.as_ref()?.solicited(source, message)
    }

    fn poll(&mut self, now: u64, answers: &mut Vec<Answer>) {
        if let Some(router) = &mut self.router {
            answers.extend(router.poll(now).map(Answer::Router));
        }
        if let Some(tftp) = &mut self.tftp {
            let mut out = Vec::new();
            tftp.poll(now, &mut out);
            answers.extend(out.into_iter().map(datagram));
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let router = self.router.as_ref().map(Router::next_deadline_ns);
        let tftp = self.tftp.as_ref().and_then(Tftp::next_deadline_ns);
        router.into_iter().chain(tftp).min()
    }

    fn is_pending(&self) -> bool {
        // Their answers are made at once.
        false
    }

    fn leased(&self, now: u64, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.dhcp4.as_ref()?.latest(now).map(IpAddr::from),
            Family::V6 => self.dhcp6.as_ref()?.latest(now).map(IpAddr::from),
        }
    }

    fn first_address(&self) -> Option<IpAddr> {
        let v4 = self.config.ipv4.as_ref().map(|v4| v4.pool.0.into());
        v4.or_else(|| self.config.ipv6.as_ref().map(|v6| v6.pool.0.into()))
    }

    fn reset(&mut self, now: u64) {
        if let Some(router) = &mut self.router {
            router.restart(now);
        }
        if let Some(tftp) = &mut self.tftp {
            tftp.reset();
        }
    }
}
