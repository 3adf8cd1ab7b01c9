//! Hostile input to every parser and state machine of this crate that is not the core's: none may panic, answer
//! nonsense, or keep more than its limit.
//!
//! `REPRISE_FUZZ=1000000 cargo test --release -p reprise-net --lib fuzz::` is the long form; `REPRISE_FUZZ=1@77` runs
//! the case of seed 77 alone. Builds for tests have debug assertions and overflow checks.

use crate::{
    address::Mac,
    config::{Alias, Config, Forward, GuestForward, Proxy, Settings},
    policy::{Direction, Query, Transport, Verdict},
    service::{dhcp4::Dhcp4, dhcp6::Dhcp6, dns, ra::Router, tftp},
    upstream::{Destination, Handshake, Progress},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How many cases, from which seed on.
#[expect(clippy::disallowed_methods, reason = "how long to try is the caller's choice")]
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("REPRISE_FUZZ") else { return 1..1 + usual };
    let number = |text: &str| text.parse::<u64>().expect("REPRISE_FUZZ is COUNT or COUNT@SEED");
    let (count, first) =
        text.split_once('@').map_or((text.as_str(), 1), |(count, seed)| (count, number(seed)));
    first..first + number(count)
}

/// Draws from a seed.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u64() as usize % bound.max(1)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Damages a message as parsers fear it: other bytes, lengths that lie, pieces missing, doubled and moved.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => {
                    let more = self.below(40);
                    let tail = self.bytes(more);
                    bytes.extend_from_slice(&tail);
                }
                2 if !bytes.is_empty() => {
                    bytes[at] = *self.pick(&[0, 1, 2, 4, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xfe, 0xff])
                }
                3 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                4 if !bytes.is_empty() => bytes[at] = self.0.next_u32() as u8,
                5 if !bytes.is_empty() => {
                    let end = at + self.below(bytes.len() - at + 1);
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                6 if !bytes.is_empty() => {
                    let end = at + self.below(bytes.len() - at + 1);
                    bytes.drain(at..end);
                }
                _ => {
                    let noise = self.below(30);
                    let noise = self.bytes(noise);
                    bytes.splice(at..at, noise);
                }
            }
            bytes.truncate(9000);
        }
    }

    fn text(&mut self, samples: &[&str]) -> String {
        let mut bytes = self.pick(samples).as_bytes().to_vec();
        self.damage(&mut bytes);
        if self.one_in(3) {
            bytes.extend_from_slice(self.pick(samples).as_bytes());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn config(toml: &str) -> Config {
    Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap()
}

const TOLD: &str = "domain = \"lab.test\"\nsearch = [\"lab.test\", \"b.test\"]\nhostname = \"g\"\nlimits.leases = 8\n\
                    boot = { tftp = \"x\", file = \"grub.efi\" }\ndhcp.lease_s = 60";

fn dhcp4_message(draw: &mut Draw) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[10] = *draw.pick(&[0, 0x80]);
    if draw.one_in(3) {
        bytes[12..16].copy_from_slice(&[10, 0, 2, draw.below(40) as u8]);
    }
    bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, draw.below(20) as u8]);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, draw.below(9) as u8]);
    let address = [10, 0, 2, draw.below(40) as u8];
    for option in [
        [&[50, 4], address.as_slice()].concat(),
        vec![54, 4, 10, 0, 2, 2],
        vec![55, 9, 1, 3, 6, 12, 15, 26, 67, 66, 119],
        vec![57, 2, draw.below(7) as u8, 0],
        vec![61, 7, 1, 2, 3, 4, 5, 6, 7],
        vec![80, 0],
        vec![52, 1, 3],
    ] {
        if draw.one_in(2) {
            bytes.extend_from_slice(&option);
        }
    }
    bytes.push(255);
    bytes
}

#[test]
fn dhcp4() {
    use dhcproto::Decodable;
    for seed in seeds(400) {
        let draw = &mut Draw::new(seed);
        let mut server = Dhcp4::new(&config(TOLD)).unwrap();
        let mut now_ns = 0;
        for _ in 0..40 {
            let mut bytes = dhcp4_message(draw);
            if draw.one_in(2) {
                draw.damage(&mut bytes);
            }
            now_ns += draw.below(20_000_000_000) as u64;
            if let Some(reply) = server.request(now_ns, &bytes) {
                assert!((300..=1472).contains(&reply.message.len()), "seed {seed}");
                let read = dhcproto::v4::Message::from_bytes(&reply.message).unwrap();
                assert_eq!(read.xid().to_be_bytes(), bytes[4..8], "seed {seed}");
                let yours = read.yiaddr();
                let in_pool = (Ipv4Addr::new(10, 0, 2, 15)..=Ipv4Addr::new(10, 0, 2, 30)).contains(&yours);
                assert!(in_pool || yours.is_unspecified(), "seed {seed}: {yours}");
            }
            let mut leases: Vec<_> = server.leases(now_ns).map(|(_, address)| address).collect();
            leases.sort_unstable();
            let count = leases.len();
            leases.dedup();
            assert!(count <= 8 && leases.len() == count, "seed {seed}: an address for two, or too many");
        }
    }
}

fn dhcp6_message(draw: &mut Draw) -> Vec<u8> {
    let mut bytes = vec![draw.below(13) as u8, 1, 2, 3];
    let client = [0, 1, 0, 6, 0, 3, 0, 1, 9, draw.below(20) as u8];
    let address = [&[0xfd], [0; 13].as_slice(), &[1, draw.below(20) as u8]].concat();
    let inner = [&[0, 5, 0, 24], address.as_slice(), &[0; 8]].concat();
    let association = [&[0, 3, 0, 40, 0, 0, 0, draw.below(3) as u8], [0; 8].as_slice(), &inner].concat();
    for option in [
        client.to_vec(),
        vec![0, 2, 0, 10, 0, 3, 0, 1, 0x52, 0x55, 10, 0, 2, 2],
        association,
        vec![0, 6, 0, 8, 0, 23, 0, 24, 0, 59, 0, 16],
        vec![0, 14, 0, 0],
        vec![0, 25, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        if !draw.one_in(3) {
            bytes.extend_from_slice(&option);
        }
    }
    bytes
}

#[test]
fn dhcp6() {
    use dhcproto::Decodable;
    for seed in seeds(400) {
        let draw = &mut Draw::new(seed);
        let mut server = Dhcp6::new(&config(TOLD)).unwrap();
        let mut now_ns = 0;
        for _ in 0..40 {
            let mut bytes = dhcp6_message(draw);
            if draw.one_in(2) {
                draw.damage(&mut bytes);
            }
            now_ns += draw.below(20_000_000_000) as u64;
            if let Some(reply) = server.request(now_ns, Mac([2, 0, 0, 0, 0, 1]), &bytes) {
                let read = dhcproto::v6::Message::from_bytes(&reply).unwrap();
                assert_eq!(read.xid(), bytes[1..4], "seed {seed}");
                assert!(reply.len() <= 1232, "seed {seed}: {} bytes", reply.len());
            }
            let mut leases: Vec<_> = server.leases(now_ns).collect();
            leases.sort_unstable();
            let count = leases.len();
            leases.dedup();
            assert!(count <= 8 && leases.len() == count, "seed {seed}: an address for two, or too many");
        }
    }
}

#[test]
fn router_solicitations() {
    let router = Router::new(&config(""), 0).unwrap();
    for seed in seeds(20_000) {
        let draw = &mut Draw::new(seed);
        let mut bytes = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1];
        draw.damage(&mut bytes);
        if router.solicited(Ipv6Addr::LOCALHOST, &bytes).is_some() {
            assert_eq!(bytes[..2], [133, 0], "seed {seed}");
        }
    }
}

fn dns_question(draw: &mut Draw) -> Vec<u8> {
    let mut bytes = draw.bytes(2);
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let names: [&[u8]; 4] =
        [b"\x01a\x04test\0", b"\x04host\x07reprise\0", b"\x012\x012\x010\x0210\x07in-addr\x04arpa\0", b"\0"];
    bytes.extend_from_slice(names[draw.below(4)]);
    let kinds = [[0, 1, 0, 1], [0, 28, 0, 1], [0, 12, 0, 1], [0, 255, 0, 1], [0, 1, 0, 3]];
    bytes.extend_from_slice(&kinds[draw.below(5)]);
    bytes.extend_from_slice(&[0, 0, 41, draw.below(20) as u8, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
    bytes
}

/// A guest, a server and time, all hostile.
#[test]
fn dns() {
    for seed in seeds(400) {
        let draw = &mut Draw::new(seed);
        let mut server = dns::Dns::new(&config("limits.dns_queries = 8"), [1; 32]);
        server.set_upstream(&[1, 2, 3].map(|last| SocketAddr::from(([9, 9, 9, last], 53))));
        let (mut now_ns, mut open) = (0, Vec::<(dns::QueryId, Vec<u8>)>::new());
        for _ in 0..100 {
            let mut actions = Vec::new();
            now_ns += draw.below(1_000_000_000) as u64;
            match draw.below(8) {
                0..3 => {
                    let mut bytes = dns_question(draw);
                    if draw.one_in(2) {
                        draw.damage(&mut bytes);
                    }
                    server.question(now_ns, asker(draw), &bytes, &mut actions);
                }
                3..6 if !open.is_empty() => {
                    let (query, mut bytes) = draw.pick(&open).clone();
                    bytes[2] |= 0x80;
                    bytes[3] = *draw.pick(&[0x80, 0x82, 0x83, 0x85]);
                    if draw.one_in(2) {
                        draw.damage(&mut bytes);
                    } else if draw.one_in(3) {
                        bytes.resize(5000, 0);
                    }
                    server.answer(now_ns, query, &bytes, &mut actions);
                }
                6 if !open.is_empty() => server.failed(now_ns, draw.pick(&open).0, &mut actions),
                7 if draw.one_in(4) => server.closed(draw.below(2) as u64, &mut actions),
                _ => server.poll(now_ns, &mut actions),
            }
            for action in actions {
                follow(action, &mut open, seed);
            }
            assert!(server.pending() <= 8 && open.len() == server.pending(), "seed {seed}: sockets leak");
            assert_eq!(server.next_deadline_ns().is_some(), server.pending() > 0, "seed {seed}");
        }
        let mut actions = Vec::new();
        server.reset(&mut actions);
        actions.into_iter().for_each(|action| follow(action, &mut open, seed));
        assert!(open.is_empty(), "seed {seed}");
    }
}

fn asker(draw: &mut Draw) -> dns::Asker {
    let transport = *draw.pick(&[dns::Transport::Udp, dns::Transport::Tcp(0), dns::Transport::Tcp(1)]);
    let guest = SocketAddr::from(([10, 0, 2, 15], draw.below(4) as u16));
    dns::Asker { guest, server: SocketAddr::from(([10, 0, 2, 3], 53)), transport }
}

/// Keeps the books of open sockets as a host loop would.
fn follow(action: dns::Action, open: &mut Vec<(dns::QueryId, Vec<u8>)>, seed: u64) {
    match action {
        dns::Action::Answer { to, message } => {
            assert!(message.len() >= 12 && message[2] & 0x80 != 0, "seed {seed}: no answer");
            assert!(to.transport != dns::Transport::Udp || message.len() <= 4096, "seed {seed}: too long");
        }
        dns::Action::Ask { query, message, .. } => open.push((query, message)),
        dns::Action::Close(query) => {
            let at = open.iter().position(|(other, _)| *other == query);
            open.remove(at.unwrap_or_else(|| panic!("seed {seed}: closed twice")));
        }
    }
}

#[test]
fn dns_streams() {
    for seed in seeds(15) {
        let draw = &mut Draw::new(seed);
        let mut deframer = dns::Deframer::default();
        let (mut given, mut got) = (0, 0);
        for _ in 0..20 {
            let count = draw.below(70_000);
            let bytes = if draw.one_in(2) { vec![0; count] } else { draw.bytes(count) };
            given += count;
            got += deframer.push(&bytes).iter().map(|message| 2 + message.len()).sum::<usize>();
            assert!(got <= given && given - got < 65_537, "seed {seed}");
        }
    }
}

struct Files;
struct Zeroes(u64);

impl tftp::Content for Zeroes {
    fn size(&self) -> u64 {
        self.0
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), tftp::OpenError> {
        assert!(offset + buffer.len() as u64 <= self.0, "beyond the end");
        Ok(())
    }
}

impl tftp::Files for Files {
    fn open(&mut self, path: &str) -> Result<Box<dyn tftp::Content>, tftp::OpenError> {
        let plain = |name: &str| !["", ".", ".."].contains(&name);
        assert!(path.split('/').all(plain), "a way out: {path}");
        Ok(Box::new(Zeroes([0, 511, 512, 1 << 30][path.len() % 4])))
    }
}

#[test]
fn tftp() {
    for seed in seeds(300) {
        let draw = &mut Draw::new(seed);
        let mut server = tftp::Tftp::new(Files, &config("limits.tftp_sessions = 4"));
        let (mut now_ns, gateway) = (0, IpAddr::from([10, 0, 2, 2]));
        let mut known = Vec::new();
        for _ in 0..60 {
            let mut out = Vec::new();
            now_ns += draw.below(500_000_000) as u64;
            let guest = SocketAddr::from(([10, 0, 2, 15], draw.below(6) as u16));
            match draw.below(3) {
                0 => {
                    let name = ["a", "../a", "a/b", "x/../y"][draw.below(4)];
                    let options = "blksize\x001468\0tsize\x000\0timeout\x002\0windowsize\x004\0";
                    let mut bytes = format!("\0\x01{name}\0octet\0{options}").into_bytes();
                    draw.damage(&mut bytes);
                    server.request(now_ns, guest, gateway, &bytes, &mut out);
                }
                1 if !known.is_empty() => {
                    let (guest, at): (SocketAddr, SocketAddr) = *draw.pick(&known);
                    let mut bytes = vec![0, 4, 0, draw.below(5) as u8];
                    draw.damage(&mut bytes);
                    server.packet(now_ns, guest, at, &bytes, &mut out);
                }
                _ => server.poll(now_ns, &mut out),
            }
            for datagram in out {
                assert!(datagram.message.len() + 28 <= 1500, "seed {seed}: longer than the MTU");
                known.push((datagram.to, datagram.from));
            }
            assert!(server.active() <= 4, "seed {seed}");
        }
    }
}

#[test]
fn proxies() {
    const SAID: &[&[u8]] = &[
        b"\x05\0\x05\0\0\x01\0\0\0\0\0\0hello",
        b"\x05\x02\x01\0\x05\0\0\x03\x04host\0\0",
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\n\r\n",
    ];
    for seed in seeds(20_000) {
        let draw = &mut Draw::new(seed);
        let url = draw.pick(&["socks5://a:1", "socks5://u:p@a:1", "http://a:1", "http://u:p@a:1"]);
        let proxy: Proxy = url.parse().unwrap();
        let to = Destination::Name("x".repeat(draw.below(300)), 80);
        let mut talk = Handshake::new(&proxy, &to);
        let mut bytes = draw.pick(SAID).to_vec();
        draw.damage(&mut bytes);
        let step = 1 + draw.below(bytes.len());
        for piece in bytes.chunks(step) {
            match talk.input(piece) {
                Ok(Progress::Going) => {}
                Ok(Progress::Done(rest)) => assert!(rest.len() <= bytes.len(), "seed {seed}"),
                Err(_) => break,
            }
            assert!(talk.output().len() <= 1500, "seed {seed}");
        }
    }
}

/// What can be read is the same when it is written and read again.
#[test]
fn texts() {
    const FORWARDS: &[&str] =
        &["tcp::2222-:22", "udp:[::1]:53-[fd00::15]:53", "unix:/a-b-:22", "tcp:1.2.3.4:1-9-:1-9"];
    const GUEST: &[&str] =
        &["tcp:10.0.2.100:80-tcp:127.0.0.1:8", "tcp:[fd00::9]:1-unix:/a", "tcp:10.0.2.9:1-cmd:a b"];
    const PROXIES: &[&str] = &["socks5://u:p%40@[fd00::1]:1", "http://a.test:8080/"];
    const ALIASES: &[&str] = &[
        "user,id=a,net=10.0.2.0/24,hostfwd=tcp::2222-:22,restrict=on",
        "user,guestfwd=tcp:10.0.2.9:1-cmd:a,,b,dnssearch=x,mtu=1400,ipv6-prefix=fd00::",
    ];
    const RESOLV: &[&str] = &["nameserver 1.1.1.1\nnameserver fe80::1%2\n", "search a\noptions b\n# c\n"];
    for seed in seeds(20_000) {
        let draw = &mut Draw::new(seed);
        if let Ok(forward) = draw.text(FORWARDS).parse::<Forward>() {
            assert_eq!(forward.to_string().parse(), Ok(forward), "seed {seed}");
        }
        if let Ok(forward) = draw.text(GUEST).parse::<GuestForward>() {
            assert_eq!(forward.to_string().parse(), Ok(forward), "seed {seed}");
        }
        if let Ok(proxy) = draw.text(PROXIES).parse::<Proxy>() {
            assert_eq!(proxy.to_string().parse(), Ok(proxy), "seed {seed}");
        }
        let servers = dns::servers(&draw.text(RESOLV));
        assert!((1..=8).contains(&servers.len()), "seed {seed}");
        let alias = Alias::parse(&draw.text(ALIASES)).map_err(|found| vec![found]);
        if let Err(problems) = alias.and_then(|alias| alias.over(Settings::default())) {
            assert!(
                !problems.is_empty() && problems.iter().all(|one| !one.to_string().is_empty()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn boards() {
    const TABLES: &[&str] = &[
        "hostfwd = [\"tcp::2222-:22\", { listen = \"[::1]:5\", guest = \":5\", protocol = \"udp\" }]\nmtu = 1400\n",
        "rules = [{ action = \"allow\", to = [\"host\", \"10.0.0.0/8\"], protocol = \"tcp\", ports = \"80,90-99\" }]\n",
        "ipv4 = { network = \"10.0.2.0/24\", pool = [\"10.0.2.15\", \"10.0.2.30\"], dns = \"10.0.2.3\" }\n",
        "ipv6 = { network = \"fd00::/64\", gateway = \"fd00::2\" }\nhostname = \"g\"\n",
        "dhcp.leases = [{ mac = \"02:00:00:00:00:01\", ip = \"10.0.2.9\", ip6 = \"fd00::9\" }]\nprofile = \"lan\"\n",
        "search = [\"a.test\"]\ndns = { upstream = [\"9.9.9.9\"], names = { \"a.test\" = [\"1.1.1.1\"] } }\n",
    ];
    for seed in seeds(4000) {
        let draw = &mut Draw::new(seed);
        let text = draw.text(TABLES);
        let Ok(document) = toml::Deserializer::parse(&text) else { continue };
        match Config::read(document) {
            Ok(config) => services(&config),
            Err(problems) => assert!(!problems.is_empty(), "seed {seed}"),
        }
    }
}

/// Whatever passed the checks can be used.
fn services(config: &Config) {
    let _ = config.policy();
    let _ = (Dhcp4::new(config), Dhcp6::new(config), Router::new(config, 0), dns::Dns::new(config, [0; 32]));
    if let Some(mut server) = Dhcp4::new(config) {
        let mut bytes = dhcp4_message(&mut Draw::new(1));
        bytes.splice(240.., [53, 1, 1, 255]);
        assert!(server.request(0, &bytes).is_some());
    }
}

/// An address that leads to the host or to nowhere is not opened by the default profile, in whatever form it comes.
#[test]
fn policies() {
    let mut policy = config("").policy();
    let own: IpAddr = "81.2.3.4".parse().unwrap();
    policy.set_own_addresses(vec![own]);
    let shut = [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.1.1",
        "0.0.0.0",
        "224.0.0.1",
        "81.2.3.4",
        "10.0.2.2",
    ];
    for seed in seeds(20_000) {
        let draw = &mut Draw::new(seed);
        let inner: Ipv4Addr = draw.pick(&shut).parse().unwrap();
        let bits = u128::from(inner.to_bits());
        let noise = u128::from_be_bytes(draw.bytes(16).try_into().unwrap());
        let form = match draw.below(7) {
            0 => IpAddr::V4(inner),
            1 => IpAddr::V6(Ipv6Addr::from_bits(0xffff << 32 | bits)),
            2 => IpAddr::V6(Ipv6Addr::from_bits(0x0064_ff9b << 96 | bits)),
            3 => IpAddr::V6(Ipv6Addr::from_bits(0x2002 << 112 | bits << 80 | noise & ((1 << 80) - 1))),
            4 => IpAddr::V6(Ipv6Addr::from_bits(
                0x2001 << 112 | noise & (((1 << 64) - 1) << 32) | !bits & 0xffff_ffff,
            )),
            5 => IpAddr::V6(Ipv6Addr::from_bits(noise >> 64 << 64 | 0x5efe << 32 | bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(
                0x0064_ff9b_0001 << 80 | noise & (((1 << 48) - 1) << 32) | bits,
            )),
        };
        let query = Query { direction: Direction::Out, transport: Transport::Tcp, peer: form, port: 80 };
        let verdict = policy.decide(&query).verdict;
        assert!(matches!(verdict, Verdict::Drop | Verdict::Reject), "seed {seed}: {form} for {inner}");
    }
}
