//! What UDP costs through the host's loop: `cargo run --release -p reprise-net --example datagrams [SECONDS]`.
//!
//! The network's thread and a peer on this machine's loopback are real; the guest is a few lines. The peer sends as
//! fast as it can (what is too fast is lost, as with any UDP), or takes what comes; figures are of what arrived, and of
//! the processor time of the network's thread alone.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt::RcvBuf};
use reprise_net::{
    Config, ExternalClock, Guest, Handle, UserNet,
    config::Settings,
    frame::{GSO_UDP_L4, Header, NEEDS_CSUM, Offload},
    policy::Profile,
};
use std::{
    fs,
    io::IoSlice,
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const PIECE: usize = 1400;
const TRAIN: usize = 45;

/// Counts what arrives.
#[derive(Default)]
struct Counts {
    frames: AtomicU64,
    datagrams: AtomicU64,
}

struct Wire(Arc<Counts>);

impl Guest for Wire {
    fn room(&self) -> usize {
        1 << 19
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        if frame[12..14] == [8, 0] && frame[23] == 17 {
            let count = if header.gso_type == GSO_UDP_L4 { (frame.len() - 42).div_ceil(PIECE) } else { 1 };
            self.0.frames.fetch_add(1, Ordering::Relaxed);
            self.0.datagrams.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// A message of the guest's: one datagram, or a train; the checksum is left to the host.
fn message(port: u16, data: &[u8]) -> Vec<u8> {
    let mut header = Header { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..Header::default() };
    if data.len() > PIECE {
        (header.gso_type, header.gso_size) = (GSO_UDP_L4, PIECE as u16);
    }
    let mut message = header.encode().to_vec();
    message.extend(Config::default().mac.0);
    message.extend([0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]);
    let mut ip = vec![0x45, 0];
    ip.extend((28 + data.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
    let sum: u32 = ip.chunks(2).map(|two| u32::from(two[0]) * 256 + u32::from(two[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    message.extend(ip);
    for word in [5000, port, 8 + data.len() as u16, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend(data);
    message
}

/// Nanoseconds that the network's thread was on a processor.
fn spent_ns() -> u64 {
    // It has its name when it runs first.
    loop {
        for task in fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path()) {
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "net\n") {
                let text = fs::read_to_string(task.join("schedstat")).unwrap();
                return text.split(' ').next().unwrap().parse().unwrap();
            }
        }
        thread::yield_now();
    }
}

struct Net {
    handle: Handle,
    clock: ExternalClock,
    start: Instant,
    counts: Arc<Counts>,
}

impl Net {
    fn new(offload: Offload) -> Self {
        let settings = Settings { profile: Profile::Host, ..Settings::default() };
        let (clock, counts) = (ExternalClock::default(), Arc::new(Counts::default()));
        let own = clock.with_own_alarm().unwrap();
        let guest = Box::new(Wire(Arc::clone(&counts)));
        let config = settings.check().unwrap();
        let handle = UserNet::start(config, "user0", own, [1; 32], guest, Box::new(|_| {})).unwrap();
        handle.set_offload(offload, 1500);
        Self { handle, clock, start: Instant::now(), counts }
    }

    fn tick(&self) {
        if self.clock.publish(self.start.elapsed().as_nanos() as u64, true) {
            self.handle.alarm();
        }
    }
}

fn report(name: &str, datagrams: u64, frames: u64, time: Duration, spent_ns: u64) {
    let gbit = datagrams as f64 * PIECE as f64 * 8.0 / time.as_secs_f64() / 1e9;
    let each = spent_ns as f64 / datagrams as f64;
    let per_frame = datagrams as f64 / frames as f64;
    println!("{name:44} {gbit:6.2} Gbit/s, {each:6.0} ns of the thread and {per_frame:4.1} to a frame");
}

/// From the peer to the guest.
fn to_guest(name: &str, offload: Offload, train: bool, seconds: Duration) {
    let net = Net::new(offload);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    net.handle.frame(message(peer.local_addr().unwrap().port(), b"hello"));
    let (_, to) = peer.recv_from(&mut [0; 100]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sender = thread::spawn(move || {
        let data = vec![7; PIECE * if train { TRAIN } else { 1 }];
        let (piece, address) = (PIECE as u16, SockaddrStorage::from(to));
        let cut = [ControlMessage::UdpGsoSegments(&piece)];
        let cut = if train { &cut[..] } else { &[] };
        while !stopped.load(Ordering::Relaxed) {
            let parts = [IoSlice::new(&data)];
            sendmsg(peer.as_raw_fd(), &parts, cut, MsgFlags::empty(), Some(&address)).unwrap();
        }
    });
    let (begin, spent) = (Instant::now(), spent_ns());
    let before = net.counts.datagrams.load(Ordering::Relaxed);
    while begin.elapsed() < seconds {
        net.tick();
        thread::sleep(Duration::from_millis(1));
    }
    let (time, spent) = (begin.elapsed(), spent_ns() - spent);
    let frames = net.counts.frames.load(Ordering::Relaxed);
    report(name, net.counts.datagrams.load(Ordering::Relaxed) - before, frames, time, spent);
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
}

/// From the guest to the peer, never more than the peer's buffer has room for.
fn to_peer(name: &str, train: bool, seconds: Duration) {
    let net = Net::new(Offload::default());
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&peer, RcvBuf, &(1 << 20)).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let port = peer.local_addr().unwrap().port();
    let data = vec![7; PIECE * if train { TRAIN } else { 1 }];
    let message = message(port, &data);
    let (begin, spent) = (Instant::now(), spent_ns());
    let (mut got, mut buffer) = (0, vec![0; 65_536]);
    while begin.elapsed() < seconds {
        net.tick();
        (0..if train { 1 } else { TRAIN }).for_each(|_| net.handle.frame(message.clone()));
        got += (0..TRAIN).take_while(|_| peer.recv_from(&mut buffer).is_ok()).count() as u64;
    }
    let frames = if train { got.div_ceil(TRAIN as u64) } else { got };
    report(name, got, frames, begin.elapsed(), spent_ns() - spent);
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(2.0, |text| text.parse().unwrap());
    let seconds = Duration::from_secs_f64(seconds);
    let plain = Offload::default();
    let trains = Offload { csum: true, uso4: true, uso6: true, ..plain };
    to_guest("to a guest, one by one", plain, false, seconds);
    to_guest("to a guest that takes trains, one by one", trains, false, seconds);
    to_guest("to a guest, sent in trains", plain, true, seconds);
    to_guest("to a guest that takes trains, sent in trains", trains, true, seconds);
    to_peer("from a guest, one by one", false, seconds);
    to_peer("from a guest, in trains", true, seconds);
}
