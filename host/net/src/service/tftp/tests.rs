//! A client written from the RFCs, on a network that loses, doubles and delays as a seed tells it.

use super::*;
use crate::{config::Config, service::SECOND_NS};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Files in memory.
struct Memory(Vec<(&'static str, Vec<u8>)>);

struct Bytes {
    bytes: Vec<u8>,
    /// The host fails from here on.
    fails_at: u64,
}

impl Content for Bytes {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), OpenError> {
        if offset >= self.fails_at {
            return Err(OpenError::Failed);
        }
        let offset = offset as usize;
        buffer.copy_from_slice(&self.bytes[offset..offset + buffer.len()]);
        Ok(())
    }
}

/// A file that is as long as it says, and nothing in it.
struct Huge;

impl Content for Huge {
    fn size(&self) -> u64 {
        SIZE_MOST + 1
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<(), OpenError> {
        unreachable!("it is not sent")
    }
}

impl Files for Memory {
    fn open(&mut self, path: &str) -> Result<Box<dyn Content>, OpenError> {
        match path {
            "huge" => return Ok(Box::new(Huge)),
            "denied" => return Err(OpenError::Denied),
            "broken" => return Ok(Box::new(Bytes { bytes: vec![1; 2000], fails_at: 1024 })),
            _ => {}
        }
        let (_, bytes) = self.0.iter().find(|(name, _)| *name == path).ok_or(OpenError::NotFound)?;
        Ok(Box::new(Bytes { bytes: bytes.clone(), fails_at: u64::MAX }))
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn server(length: usize) -> Tftp<Memory> {
    Tftp::new(Memory(vec![("a", content(length)), ("b", content(3))]), &Config::default())
}

fn guest(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 2, 15], port))
}

fn gateway() -> IpAddr {
    IpAddr::from([10, 0, 2, 2])
}

fn read_request(path: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    let words = [path, "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value]));
    words.for_each(|word| bytes.extend_from_slice(&[word.as_bytes(), &[0]].concat()));
    bytes
}

fn ack(number: u16) -> Vec<u8> {
    [[0, 4], number.to_be_bytes()].concat()
}

fn ask(server: &mut Tftp<Memory>, port: u16, bytes: &[u8]) -> Vec<Datagram> {
    let mut out = Vec::new();
    server.request(0, guest(port), gateway(), bytes, &mut out);
    out
}

fn say(server: &mut Tftp<Memory>, now_ns: u64, to: &Datagram, bytes: &[u8]) -> Vec<Datagram> {
    let mut out = Vec::new();
    assert!(server.owns(to.to, to.from));
    server.packet(now_ns, to.to, to.from, bytes, &mut out);
    out
}

fn error_code(out: &[Datagram]) -> u8 {
    let [only] = out else { panic!("{out:?}") };
    assert_eq!(only.message[..3], [0, 5, 0]);
    assert_eq!(only.message.last(), Some(&0));
    only.message[3]
}

#[test]
fn a_small_file_is_one_block() {
    let mut server = server(0);
    let out = ask(&mut server, 1000, &read_request("b", &[]));
    assert_eq!(out[0].message, [0, 3, 0, 1, 0, 31, 62]);
    assert_eq!((out[0].to, out[0].from.ip()), (guest(1000), gateway()));
    assert_ne!(out[0].from.port(), PORT);
    assert_eq!(say(&mut server, 1, &out[0], &ack(1)), []);
    assert_eq!((server.active(), server.next_deadline_ns()), (0, None));
    // An empty file is an empty block.
    let out = ask(&mut server, 1000, &read_request("a", &[]));
    assert_eq!(out[0].message, [0, 3, 0, 1]);
}

#[test]
fn options_are_accepted_as_far_as_they_can_be() {
    let mut server = server(5000);
    let all =
        [("blksize", "65464"), ("tsize", "0"), ("timeout", "7"), ("windowsize", "999"), ("multicast", "")];
    let out = ask(&mut server, 1, &read_request("a", &all));
    assert_eq!(out[0].message, b"\0\x06blksize\x001468\0tsize\x005000\0timeout\x007\0windowsize\x0032\0");
    assert_eq!(server.next_deadline_ns(), Some(7 * SECOND_NS));
    assert_eq!(say(&mut server, 1, &out[0], &ack(1)), [], "the options are not acknowledged by that");
    let data = say(&mut server, 1, &out[0], &ack(0));
    assert_eq!(
        data.iter().map(|block| block.message.len()).collect::<Vec<_>>(),
        [1472, 1472, 1472, 4 + 5000 - 3 * 1468]
    );
    let none = ask(&mut server, 2, &read_request("a", &[("multicast", "")]));
    assert_eq!(none[0].message[..2], [0, 3], "no option, no acknowledgement of options");
    let six = SocketAddr::from(("fd00::15".parse::<IpAddr>().unwrap(), 1));
    let mut out = Vec::new();
    server.request(0, six, "fd00::2".parse().unwrap(), &read_request("a", &[("blksize", "9000")]), &mut out);
    assert_eq!(out[0].message, b"\0\x06blksize\x001448\0");
}

#[test]
fn what_cannot_be_had_is_said() {
    let mut server = server(10);
    for (path, code) in [("none", 1), ("denied", 2), ("../a", 2), ("huge", 0)] {
        let out = ask(&mut server, 1, &read_request(path, &[]));
        assert_eq!(error_code(&out), code, "{path}");
        assert_eq!(out[0].from.port(), PORT);
    }
    assert_eq!(error_code(&ask(&mut server, 1, b"\0\x02a\0octet\0")), 2);
    assert_eq!(ask(&mut server, 1, &ack(1)), []);
    assert_eq!(server.active(), 0);
    // The host fails in the middle.
    let out = ask(&mut server, 1, &read_request("broken", &[]));
    let out = say(&mut server, 1, &out[0], &ack(1));
    assert_eq!(error_code(&say(&mut server, 1, &out[0], &ack(2))), 0);
    assert_eq!(server.active(), 0);
}

#[test]
fn the_same_is_sent_six_times() {
    let mut server = server(1000);
    let first = ask(&mut server, 1, &read_request("a", &[]));
    let mut sends = 1;
    while let Some(at) = server.next_deadline_ns() {
        let mut out = Vec::new();
        server.poll(at - 1, &mut out);
        assert_eq!(out, []);
        server.poll(at, &mut out);
        if !out.is_empty() {
            assert_eq!(out, first);
            sends += 1;
        }
    }
    assert_eq!((sends, server.active()), (6, 0));
}

#[test]
fn late_and_foreign_acknowledgements_change_nothing() {
    let mut server = server(5000);
    let first = ask(&mut server, 1, &read_request("a", &[]));
    let second = say(&mut server, 1, &first[0], &ack(1));
    assert_eq!(second[0].message[..4], [0, 3, 0, 2]);
    for number in [0, 1, 3, 0xffff] {
        assert_eq!(say(&mut server, 1, &first[0], &ack(number)), [], "{number}");
    }
    let mut out = Vec::new();
    server.packet(1, guest(2), first[0].from, &ack(2), &mut out);
    assert_eq!((out, server.owns(guest(2), first[0].from)), (vec![], false), "somebody else's port");
    assert_eq!(say(&mut server, 1, &first[0], &ack(2))[0].message[..4], [0, 3, 0, 3]);
}

#[test]
fn errors_end_a_transfer() {
    let mut server = server(5000);
    let first = ask(&mut server, 1, &read_request("a", &[]));
    assert_eq!(say(&mut server, 1, &first[0], b"\0\x05\0\0stop\0"), []);
    assert_eq!(server.active(), 0);
    let first = ask(&mut server, 1, &read_request("a", &[]));
    assert_eq!(error_code(&say(&mut server, 1, &first[0], b"\0\x03\0\x01")), 4);
    assert_eq!(server.active(), 0);
}

#[test]
fn a_request_that_comes_again_is_no_second_transfer() {
    let mut server = server(5000);
    let first = ask(&mut server, 1, &read_request("a", &[]));
    assert_eq!(ask(&mut server, 1, &read_request("a", &[])), first);
    assert_eq!(server.active(), 1);
    let other = ask(&mut server, 1, &read_request("b", &[]));
    assert!(other[0].from != first[0].from && server.active() == 1, "it gave up the first");
    say(&mut server, 1, &other[0], &ack(1));
    let first = ask(&mut server, 1, &read_request("a", &[]));
    say(&mut server, 1, &first[0], &ack(1));
    let again = ask(&mut server, 1, &read_request("a", &[]));
    assert_eq!(again[0].message[..4], [0, 3, 0, 1], "it began again");
    assert_eq!(server.active(), 1);
}

#[test]
fn sixteen_at_once() {
    let mut server = server(5000);
    for port in 0..16 {
        assert_eq!(ask(&mut server, port, &read_request("a", &[]))[0].message[..2], [0, 3]);
    }
    assert_eq!(error_code(&ask(&mut server, 16, &read_request("a", &[]))), 0);
    assert_eq!(server.active(), 16);
    server.reset();
    assert_eq!(server.active(), 0);
}

#[test]
fn block_numbers_wrap() {
    let mut server = server(8 * 66_000 + 3);
    let mut out = ask(&mut server, 1, &read_request("a", &[("blksize", "8"), ("windowsize", "32")]));
    let (options, mut got, mut now_ns) = (out[0].clone(), Vec::new(), 0);
    out = say(&mut server, 0, &options, &ack(0));
    while !out.is_empty() {
        out.iter().for_each(|block| got.extend_from_slice(&block.message[4..]));
        let last = &out[out.len() - 1].message;
        let number = u16::from_be_bytes([last[2], last[3]]);
        now_ns += 1;
        out = say(&mut server, now_ns, &options, &ack(number));
    }
    assert!(got == content(8 * 66_000 + 3));
}

/// A client of RFC 7440: it acknowledges whole windows, and the last good block when one is missing.
struct Client {
    got: Vec<u8>,
    block: u64,
    in_window: u16,
    window: u16,
    size: usize,
    done: bool,
}

impl Client {
    fn hear(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        match message[..2] {
            [0, 6] => Some(ack(0)),
            [0, 3] => {
                let number = u16::from_be_bytes([message[2], message[3]]);
                if number != (self.block + 1) as u16 {
                    self.in_window = 0;
                    return Some(ack(self.block as u16));
                }
                self.block += 1;
                self.in_window += 1;
                self.got.extend_from_slice(&message[4..]);
                self.done = message.len() - 4 < self.size;
                let full = self.in_window == self.window || self.done;
                full.then(|| {
                    self.in_window = 0;
                    ack(self.block as u16)
                })
            }
            _ => panic!("{message:?}"),
        }
    }
}

/// Runs a transfer with losses; returns whether it ended well.
fn transfer(seed: u64) -> bool {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u32| random.next_u32() % bound;
    let (size, window) = ([8, 100, 512, 1468][below(4) as usize], [1, 2, 7, 32][below(4) as usize]);
    let length = below(20_000) as usize / 512 * [512, 511][below(2) as usize];
    let mut server = server(length);
    let options = [("blksize", size.to_string()), ("windowsize", window.to_string())];
    let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut client = Client { got: vec![], block: 0, in_window: 0, window, size, done: false };
    let mut to_guest = ask(&mut server, 1, &read_request("a", &options));
    let (mut now_ns, mut rounds) = (0, 0);
    while server.active() > 0 {
        let mut answers = Vec::new();
        for datagram in to_guest.drain(..) {
            // One in 30 is lost, one in 30 comes twice.
            for _ in 0..[0, 2].get(below(30) as usize).copied().unwrap_or(1) {
                answers.extend(client.hear(&datagram.message).map(|answer| (datagram.clone(), answer)));
            }
        }
        for (of, answer) in answers.into_iter().filter(|_| below(30) != 0) {
            if server.owns(of.to, of.from) {
                to_guest.extend(say(&mut server, now_ns, &of, &answer));
            }
        }
        if to_guest.is_empty() {
            let Some(at) = server.next_deadline_ns() else { break };
            now_ns = at;
            server.poll(now_ns, &mut to_guest);
        }
        rounds += 1;
        assert!(rounds < 100_000, "seed {seed}: it does not end");
    }
    assert!(content(length).starts_with(&client.got), "seed {seed}: other bytes");
    assert!(!client.done || client.got.len() == length, "seed {seed}: not all");
    client.done
}

#[test]
fn files_arrive_whole_on_a_bad_network() {
    let good = (0..300).filter(|seed| transfer(*seed)).count();
    // Six losses in a row are one in 10^8.
    assert_eq!(good, 300);
}
