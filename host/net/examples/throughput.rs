//! What the core costs by itself: `cargo run --release -p reprise-net --example throughput`.
//!
//! The guest is a few lines that acknowledge or send; only the time inside the core counts, with one copy on the host's
//! side (the kernel's, in life) and one on the guest's (into the message that the machine gets). One thread.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use reprise_net::{
    Answer, Core, EchoReply, Egress, Failure, Family, FlowId, Guest, Host, HostEvent, Moved, Network,
    Request, Services, Setup, Target, Train, Verdict,
    config::Limits,
    frame::{HEADER_BYTES, Header, NEEDS_CSUM, Offload},
    policy::Transport,
    service::{dns::Asker, ra::Advertisement},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

const SYN: u8 = 2;
const ACK: u8 = 16;
const GUEST: [u8; 4] = [10, 0, 2, 15];
const SHIFT: u8 = 7;

/// Sockets that always have bytes and always take them.
struct Sockets {
    source: Vec<u8>,
    sends: bool,
    opened: Vec<FlowId>,
    taken: u64,
}

impl Host for Sockets {
    fn tcp_connect(&mut self, flow: FlowId, _: &Target) -> Result<(), Failure> {
        self.opened.push(flow);
        Ok(())
    }

    fn tcp_send(&mut self, _: FlowId, bytes: &[u8]) -> Moved {
        let count = bytes.len().min(self.source.len());
        self.source[..count].copy_from_slice(&bytes[..count]);
        self.taken += count as u64;
        Moved::Bytes(count)
    }

    fn tcp_recv(&mut self, _: FlowId, buffer: &mut [u8]) -> Moved {
        if !self.sends {
            return Moved::WouldBlock;
        }
        let count = buffer.len().min(self.source.len());
        buffer[..count].copy_from_slice(&self.source[..count]);
        Moved::Bytes(count)
    }

    fn tcp_shutdown(&mut self, _: FlowId) {}

    fn udp_open(&mut self, _: FlowId, _: &IpAddr) -> Result<(), Failure> {
        Ok(())
    }

    fn udp_send(&mut self, _: FlowId, _: SocketAddr, _: u8, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn udp_recv(&mut self, _: FlowId, _: &mut [u8], _: &mut Vec<Train>) {}

    fn ping_open(&mut self, _: FlowId, _: &IpAddr) -> Result<(), Failure> {
        Ok(())
    }

    fn ping_send(&mut self, _: FlowId, _: IpAddr, _: u8, _: u16, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn ping_recv(&mut self, _: FlowId, _: &mut [u8]) -> Option<EchoReply> {
        None
    }

    fn question(&mut self, _: Asker, _: &[u8]) {}

    fn close(&mut self, _: FlowId, _: bool) {}
}

/// Messages for the machine, in buffers that are used again, the last one first.
struct Wire {
    messages: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    held: usize,
}

impl Guest for Wire {
    fn room(&self) -> usize {
        (256usize << 10).saturating_sub(self.held)
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        let mut message = self.spare.pop().unwrap_or_default();
        message.clear();
        message.extend_from_slice(&header.encode());
        message.extend_from_slice(frame);
        self.held += message.len();
        self.messages.push(message);
    }
}

/// Processor time of this thread: what others do on the machine should not count.
fn spent() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

struct Everything;

impl Egress for Everything {
    fn decide(&self, _: Transport, to: SocketAddr) -> Verdict {
        Verdict::Allow(to.ip())
    }

    fn admits(&self, _: Transport, _: IpAddr, _: u16) -> bool {
        true
    }
}

impl Services for Everything {
    fn request(&mut self, _: u64, _: &Request<'_>, _: &mut Vec<Answer>) -> bool {
        false
    }

    fn solicited(&mut self, _: Ipv6Addr, _: &[u8]) -> Option<Advertisement> {
        None
    }

    fn leased(&self, _: u64, _: Family) -> Option<IpAddr> {
        None
    }

    fn first_address(&self) -> Option<IpAddr> {
        None
    }

    fn poll(&mut self, _: u64, _: &mut Vec<Answer>) {}

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn is_pending(&self) -> bool {
        false
    }

    fn reset(&mut self, _: u64) {}
}

fn sum(mut sum: u64, bytes: &[u8]) -> u64 {
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// A message of the guest's with one segment.
fn segment(
    ports: [u16; 2],
    to: [u8; 4],
    seq: u32,
    ack: u32,
    flags: u8,
    payload: &[u8],
    csum: bool,
) -> Vec<u8> {
    let options: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 0xb4, 1, 3, 3, SHIFT] } else { &[] };
    let mut tcp = Vec::with_capacity(28 + payload.len());
    tcp.extend(ports[0].to_be_bytes());
    tcp.extend(ports[1].to_be_bytes());
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    tcp.extend([((20 + options.len()) * 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    let mut header = Header::default();
    if csum {
        header = Header { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..header };
        if payload.len() > 1460 {
            (header.gso_type, header.gso_size) = (1, 1460);
        }
    } else {
        let pseudo = sum(sum(6 + tcp.len() as u64, &GUEST), &to);
        let done = !(sum(pseudo, &tcp) as u16);
        tcp[16..18].copy_from_slice(&done.to_be_bytes());
    }
    let mut ip = vec![0x45, 0];
    ip.extend((20 + tcp.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(GUEST);
    ip.extend(to);
    let done = !(sum(0, &ip) as u16);
    ip[10..12].copy_from_slice(&done.to_be_bytes());
    let mut message = header.encode().to_vec();
    message.extend(Network::default().mac);
    message.extend([0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]);
    message.extend(ip);
    message.extend(tcp);
    message
}

/// (sequence number, payload bytes, flags) of a message that the guest got.
fn read(message: &[u8]) -> (u32, u32, u8) {
    let ip = &message[HEADER_BYTES + 14..];
    let total = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
    let tcp = &ip[20..];
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    (seq, total - 20 - u32::from(tcp[12] >> 4) * 4, tcp[13])
}

struct Bench {
    core: Core,
    host: Sockets,
    wire: Wire,
    now: u64,
    csum: bool,
    inside: Duration,
}

impl Bench {
    fn new(offload: Offload, sends: bool) -> Self {
        let mut core = Core::new(
            Setup {
                network: Network::default(),
                egress: Box::new(Everything),
                services: Box::new(Everything),
                guest_forwards: BTreeMap::new(),
                limits: Limits { tcp_half_open: 16_384, tcp_burst: 1 << 20, ..Limits::default() },
            },
            [1; 32],
        );
        core.set_offload(offload, u32::MAX);
        Self {
            core,
            host: Sockets { source: vec![7; 1 << 20], sends, opened: Vec::new(), taken: 0 },
            wire: Wire { messages: Vec::new(), spare: Vec::new(), held: 0 },
            now: 1_000_000,
            csum: offload.csum,
            inside: Duration::ZERO,
        }
    }

    /// Hands over messages, as the host's loop does, and lets the core do what follows.
    fn step(&mut self, messages: &[Vec<u8>]) {
        self.now += 10_000;
        let start = spent();
        for message in messages {
            self.core.guest_frame(self.now, message, &mut self.host, &mut self.wire);
        }
        self.core.poll(self.now, &mut self.host, &mut self.wire);
        self.inside += spent() - start;
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.wire.held = 0;
        std::mem::take(&mut self.wire.messages)
    }

    /// Opens a connection; the sequence number of the core's first byte.
    fn open(&mut self, port: u16, to: [u8; 4]) -> u32 {
        self.step(&[segment([port, 80], to, 999, 0, SYN, &[], self.csum)]);
        let id = self.host.opened.pop().unwrap();
        self.core.host_event(self.now, HostEvent::Connected(id), &mut self.host, &mut self.wire);
        self.step(&[]);
        let answer = self.take();
        let seq = read(&answer[0]).0.wrapping_add(1);
        self.step(&[segment([port, 80], to, 1000, seq, ACK, &[], self.csum)]);
        seq
    }
}

const TO: [u8; 4] = [192, 0, 2, 1];

fn to_guest(name: &str, offload: Offload, seconds: f64) {
    let mut bench = Bench::new(offload, true);
    let mut next = bench.open(4000, TO);
    bench.inside = Duration::ZERO;
    let (mut bytes, mut frames) = (0u64, 0u64);
    while bench.inside.as_secs_f64() < seconds {
        let got = bench.take();
        let mut acks = Vec::new();
        for (number, message) in got.iter().enumerate() {
            let (seq, count, _) = read(message);
            assert_eq!(seq, next, "nothing is lost or repeated");
            next = next.wrapping_add(count);
            bytes += u64::from(count);
            frames += 1;
            // Every second one, as a guest does without GRO.
            if number % 2 == 1 || number + 1 == got.len() {
                acks.push(segment([4000, 80], TO, 1000, next, ACK, &[], bench.csum));
            }
        }
        bench.wire.spare.extend(got);
        bench.step(&acks);
    }
    let seconds = bench.inside.as_secs_f64();
    let gbit = bytes as f64 * 8.0 / seconds / 1e9;
    println!("host to guest, {name:24} {gbit:6.1} Gbit/s, {:7.0} ns a frame", seconds * 1e9 / frames as f64);
}

fn to_host(name: &str, offload: Offload, payload: usize, seconds: f64) {
    let mut bench = Bench::new(offload, false);
    let ack = bench.open(4000, TO);
    bench.inside = Duration::ZERO;
    let mut next = 1000u32;
    let mut frames = 0u64;
    let bytes = vec![5u8; payload];
    while bench.inside.as_secs_f64() < seconds {
        // The window of the SYN|ACK is not scaled: it takes less at first.
        let count = (if frames == 0 { 64_000 } else { 200_000 } / payload).max(1);
        let messages: Vec<_> = (0..count as u32)
            .map(|i| {
                let seq = next.wrapping_add(i * payload as u32);
                segment([4000, 80], TO, seq, ack, ACK, &bytes, bench.csum)
            })
            .collect();
        next = next.wrapping_add((count * payload) as u32);
        frames += count as u64;
        bench.step(&messages);
        let spare = bench.take();
        bench.wire.spare.extend(spare);
    }
    assert_eq!(bench.host.taken, frames * payload as u64, "everything arrived");
    let seconds = bench.inside.as_secs_f64();
    let gbit = bench.host.taken as f64 * 8.0 / seconds / 1e9;
    println!("guest to host, {name:24} {gbit:6.1} Gbit/s, {:7.0} ns a frame", seconds * 1e9 / frames as f64);
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The cost of a small segment of a random one of so many flows, and of the flows themselves.
fn flows(count: usize) -> f64 {
    let mut bench = Bench::new(Offload { csum: true, ..Offload::default() }, false);
    let before = resident_bytes();
    let names: Vec<_> =
        (0..count).map(|i| (1000 + (i % 50_000) as u16, [192, 0, 2, 1 + (i % 200) as u8])).collect();
    let opened: Vec<u32> = names.iter().map(|&(port, to)| bench.open(port, to)).collect();
    let opening = bench.inside.as_secs_f64() * 1e6 / count as f64;
    let memory = (resident_bytes() - before) as f64 / 1e6;
    bench.take();
    let mut seqs = vec![1000u32; count];
    bench.inside = Duration::ZERO;
    let mut chance = 1u64;
    let rounds = 100_000;
    // The first half is for the pages that each flow touches for the first time.
    for round in 0..rounds * 2 {
        if round == rounds {
            bench.inside = Duration::ZERO;
        }
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (chance >> 33) as usize % count;
        let (port, to) = names[at];
        let message = segment([port, 80], to, seqs[at], opened[at], ACK, &[1; 100], true);
        seqs[at] = seqs[at].wrapping_add(100);
        bench.step(&[message]);
        let spare = bench.take();
        bench.wire.spare.extend(spare);
    }
    assert_eq!(bench.host.taken, 200 * rounds);
    let ns = bench.inside.as_secs_f64() * 1e9 / rounds as f64;
    println!(
        "{count:6} flows: {memory:6.1} MB, {opening:5.2} us to open one, {ns:5.0} ns a segment with its answer"
    );
    ns
}

fn main() {
    let plain = Offload::default();
    let csum = Offload { csum: true, ..plain };
    let tso = Offload { csum: true, tso4: true, tso6: true, ..plain };
    if std::env::args().nth(1).as_deref() == Some("flows") {
        flows(std::env::args().nth(2).unwrap().parse().unwrap());
        return;
    }
    for _ in 0..2 {
        to_guest("MTU 1500", plain, 1.0);
        to_guest("MTU 1500, checksums off", csum, 1.0);
        to_guest("MTU 1500, TSO", tso, 1.0);
        to_host("MTU 1500", plain, 1460, 1.0);
        to_host("MTU 1500, checksums off", csum, 1460, 1.0);
        to_host("MTU 1500, TSO", tso, 64_000, 1.0);
    }
    let few = flows(1);
    let many = flows(10_000);
    println!("10,000 flows cost {:.0} ns a segment", many - few);
}
