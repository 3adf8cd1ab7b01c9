//! Connect, request, response: `cargo run --release -p reprise-net --example crr`.
//!
//! The network's thread and a server on this machine's loopback are real; the guest is a few lines.
//! Three figures:
//!
//! - *host side*: the guest answers within [`Guest::frame`], so on the network's thread. From the guest's SYN to when
//!   the response is handed to it: a wake-up of the network's thread, its system calls, the core, the kernel's
//!   connection, the server's thread, and the wake-up of who asked. What a guest's processor takes to hear of a frame
//!   is not in it.
//! - *with a guest's thread*: the guest answers on a thread of its own, which is woken for each of two frames and wakes
//!   the network's thread for each of three: as with a hart that has nothing else to do.
//! - *without it*: the same server, asked by a plain socket.
//!
//! They are measured in turns of 1000 rounds, so that a busy machine is busy for all.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use reprise_net::{
    Config, ExternalClock, Guest, Handle, UserNet,
    config::Settings,
    frame::{Header, NEEDS_CSUM},
    policy::Profile,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Instant,
};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const ROUNDS: usize = 20_000;
const TURN: usize = 1000;

/// Hands frames to the guest's thread.
struct Wire(mpsc::Sender<Vec<u8>>);

impl Guest for Wire {
    fn room(&self) -> usize {
        1 << 20
    }

    fn frame(&mut self, _: &Header, frame: &[u8]) {
        let _ended = self.0.send(frame.to_vec());
    }
}

/// Answers on the network's thread. What is sent here is that a response has come.
struct AtOnce {
    network: Arc<OnceLock<Handle>>,
    done: mpsc::Sender<()>,
}

impl Guest for AtOnce {
    fn room(&self) -> usize {
        1 << 20
    }

    fn frame(&mut self, _: &Header, frame: &[u8]) {
        let (Some(segment), Some(network)) = (Incoming::read(frame), self.network.get()) else { return };
        let ports = [segment.ports[1], segment.ports[0]];
        let behind = segment.seq.wrapping_add(1);
        if segment.flags & SYN != 0 {
            network.frame(outgoing(ports, 1001, behind, ACK, b"?"));
        } else if segment.payload == b"!" {
            network.frame(outgoing(ports, 1002, behind, RST | ACK, &[]));
            let _ended = self.done.send(());
        }
    }
}

/// A segment to the guest.
struct Incoming<'f> {
    ports: [u16; 2],
    seq: u32,
    flags: u8,
    payload: &'f [u8],
}

impl<'f> Incoming<'f> {
    fn read(frame: &'f [u8]) -> Option<Self> {
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        Some(Self {
            ports: [word(34), word(36)],
            seq: u32::from(word(38)) << 16 | u32::from(word(40)),
            flags: frame[47],
            payload: &frame[34 + usize::from(frame[46] >> 4) * 4..14 + usize::from(word(16))],
        })
    }
}

/// A segment of the guest's to 10.0.2.2, the checksum left to the host.
fn outgoing(ports: [u16; 2], seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..Header::default() };
    let mut message = header.encode().to_vec();
    message.extend(Config::default().mac.0);
    message.extend([0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 40 + payload.len() as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend([10, 0, 2, 15, 10, 0, 2, 2]);
    let sum: u32 = ip.chunks(2).map(|two| u32::from(two[0]) * 256 + u32::from(two[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    message.extend(ip);
    message.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    message.extend([seq, ack].iter().flat_map(|number| number.to_be_bytes()));
    message.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    message.extend(payload);
    message
}

/// The next segment to that port: sequence number and payload.
fn next(frames: &mpsc::Receiver<Vec<u8>>, port: u16) -> (u32, Vec<u8>) {
    loop {
        let frame = frames.recv().unwrap();
        if let Some(segment) = Incoming::read(&frame).filter(|segment| segment.ports[1] == port) {
            return (segment.seq, segment.payload.to_vec());
        }
    }
}

/// Three segments of a guest with a thread of its own.
fn by_thread(handle: &Handle, frames: &mpsc::Receiver<Vec<u8>>, port: u16, to: u16) {
    handle.frame(outgoing([port, to], 1000, 0, SYN, &[]));
    let (seq, _) = next(frames, port);
    let seq = seq.wrapping_add(1);
    handle.frame(outgoing([port, to], 1001, seq, ACK, b"?"));
    let response = std::iter::from_fn(|| Some(next(frames, port).1)).find(|payload| !payload.is_empty());
    assert_eq!(response.unwrap(), b"!");
    handle.frame(outgoing([port, to], 1002, seq.wrapping_add(1), RST | ACK, &[]));
}

/// Answers each connection's byte with another; ends with the first that says something else.
fn serve(listener: &TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 || byte != *b"?" {
            return;
        }
        // Who asked may have gone.
        let _gone = stream.write_all(b"!");
    }
}

fn report(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!("{name:22} median {:5.1} us, 90 % {:5.1} us, 99 % {:5.1} us", at(0.5), at(0.9), at(0.99));
}

fn direct(to: SocketAddr) -> f64 {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    begin.elapsed().as_secs_f64() * 1e6
}

/// A network and its clock.
struct Net {
    handle: Arc<OnceLock<Handle>>,
    clock: ExternalClock,
    start: Instant,
    rounds: usize,
    times: Vec<f64>,
}

impl Net {
    fn start(name: &str, guest: impl FnOnce(Arc<OnceLock<Handle>>) -> Box<dyn Guest + Send>) -> Self {
        let mut settings = Settings { profile: Profile::Host, ..Settings::default() };
        (settings.limits.tcp_new_per_s, settings.limits.tcp_burst) = (1 << 20, 1 << 20);
        let clock = ExternalClock::default();
        let own = clock.with_own_alarm().unwrap();
        let handle = Arc::new(OnceLock::new());
        let guest = guest(Arc::clone(&handle));
        let config = settings.check().unwrap();
        handle.set(UserNet::start(config, name, own, [1; 32], guest, Box::new(|_| {})).unwrap()).unwrap();
        Self { handle, clock, start: Instant::now(), rounds: 0, times: Vec::with_capacity(ROUNDS) }
    }

    fn turn(&mut self, once: impl Fn(&Handle, u16)) {
        let handle = self.handle.get().unwrap();
        for _ in 0..TURN {
            if self.clock.publish(self.start.elapsed().as_nanos() as u64, true) {
                handle.alarm();
            }
            let begin = Instant::now();
            once(handle, 1024 + (self.rounds % 60_000) as u16);
            self.times.push(begin.elapsed().as_secs_f64() * 1e6);
            self.rounds += 1;
        }
    }

    fn report(self, name: &str) {
        report(name, self.times);
        assert!(!self.handle.get().unwrap().info().unwrap().dropped.contains_key("limit"));
    }
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || serve(&listener));
    let (sender, done) = mpsc::channel();
    let mut at_once = Net::start("user0", |network| Box::new(AtOnce { network, done: sender }));
    let (sender, frames) = mpsc::channel();
    let mut threaded = Net::start("user1", |_| Box::new(Wire(sender)));
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS / TURN {
        at_once.turn(|handle, port| {
            handle.frame(outgoing([port, to.port()], 1000, 0, SYN, &[]));
            done.recv().unwrap();
        });
        threaded.turn(|handle, port| by_thread(handle, &frames, port, to.port()));
        times.extend((0..TURN).map(|_| direct(to)));
    }
    at_once.report("host side");
    threaded.report("with a guest's thread");
    report("without it", times);
    TcpStream::connect(to).unwrap().write_all(b".").unwrap();
    server.join().unwrap();
}
