//! `/etc/resolv.conf` (`resolv.conf(5)`), as text: who reads the file is somebody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Others are never asked.
const SERVERS: usize = 8;

/// The name servers of a resolv.conf. If it names none, it is the host itself, as the host's own resolver has it.
#[must_use]
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(server) else { continue };
        if found.len() < SERVERS && !found.contains(&server) {
            found.push(server);
        }
    }
    if found.is_empty() {
        found.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    found
}

/// An address; an IPv6 link-local one may have the number of its interface behind a percent sign. Names of interfaces
/// are for whoever can look them up.
fn server(word: &str) -> Option<SocketAddr> {
    match word.split_once('%') {
        None => Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, 53)),
        Some((address, scope)) => {
            let address = address.parse().ok()?;
            Some(SocketAddr::V6(std::net::SocketAddrV6::new(address, 53, 0, scope.parse().ok()?)))
        }
    }
}

/// Remembers what a resolv.conf said last.
#[derive(Debug, Default)]
pub struct Watch {
    servers: Vec<SocketAddr>,
}

impl Watch {
    /// The servers, if they are others than last time. A file that is being rewritten may be empty for a moment; who
    /// reads it then says `None`, and nothing changes.
    pub fn changed(&mut self, text: Option<&str>) -> Option<&[SocketAddr]> {
        let servers = servers(text?);
        if servers == self.servers {
            return None;
        }
        self.servers = servers;
        Some(&self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        servers(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_in_order_and_once() {
        let text = "# by hand\n;nameserver 1.1.1.1\nsearch lab.test\n nameserver\t9.9.9.9 trailing\n\
                    nameserver 2620:fe::fe\nnameserver 9.9.9.9\noptions edns0\n\
                    nameserver fe80::1%3\nnameserverx 1.1.1.1";
        assert_eq!(read(text), ["9.9.9.9:53", "[2620:fe::fe]:53", "[fe80::1%3]:53"]);
        assert_eq!(read("nameserver 127.0.0.53\r\n"), ["127.0.0.53:53"]);
    }

    #[test]
    fn none_is_the_host_itself() {
        for text in ["", "nameserver", "nameserver localhost", "nameserver fe80::1%eth0", "\0\u{fffd}"] {
            assert_eq!(read(text), ["127.0.0.1:53"], "{text}");
        }
    }

    #[test]
    fn many_are_cut() {
        let text: String = (0..100).map(|at| format!("nameserver 10.0.0.{at}\n")).collect();
        assert_eq!(servers(&text).len(), SERVERS);
    }

    #[test]
    fn only_other_servers_are_a_change() {
        let mut watch = Watch::default();
        assert_eq!(watch.changed(Some("nameserver 1.1.1.1")).map(<[_]>::len), Some(1));
        assert_eq!(watch.changed(Some("# touched\nnameserver 1.1.1.1\n")), None);
        assert_eq!(watch.changed(None), None);
        let two = watch.changed(Some("nameserver 8.8.8.8\nnameserver 1.1.1.1")).map(<[_]>::to_vec).unwrap();
        assert_eq!(two.len(), 2);
        assert!(watch.changed(Some("nameserver 1.1.1.1\nnameserver 8.8.8.8")).is_some(), "the order counts");
    }
}
