//! Connect, request, response: `cargo run --release -p reprise-net --example crr`.
//!
//! The network's thread and a server on this machine's loopback are real; the guest is a few lines that answer at once.
//! So it is what the host's side costs: two threads' wake-ups for each of the three ways, the kernel's connection, the
//! core. Beside it, the same server asked without the network between.
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
    sync::mpsc,
    thread,
    time::Instant,
};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const ROUNDS: usize = 20_000;

struct Wire(mpsc::Sender<Vec<u8>>);

impl Guest for Wire {
    fn room(&self) -> usize {
        1 << 20
    }

    fn frame(&mut self, _: &Header, frame: &[u8]) {
        let _ended = self.0.send(frame.to_vec());
    }
}

/// A segment of the guest's to 10.0.2.2, the checksum left to the host.
fn segment(ports: [u16; 2], seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
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
        if frame[12..14] == [8, 0] && frame[23] == 6 && frame[36..38] == port.to_be_bytes() {
            let total = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let data = 34 + usize::from(frame[46] >> 4) * 4;
            let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
            return (seq, frame[data..total].to_vec());
        }
    }
}

fn once(handle: &Handle, frames: &mpsc::Receiver<Vec<u8>>, port: u16, to: u16) {
    handle.frame(segment([port, to], 1000, 0, SYN, &[]));
    let (seq, _) = next(frames, port);
    let seq = seq.wrapping_add(1);
    handle.frame(segment([port, to], 1001, seq, ACK, b"?"));
    let response = std::iter::from_fn(|| Some(next(frames, port).1)).find(|payload| !payload.is_empty());
    assert_eq!(response.unwrap(), b"!");
    handle.frame(segment([port, to], 1002, seq.wrapping_add(1), RST | ACK, &[]));
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
    println!("{name:20} median {:5.1} us, 90 % {:5.1} us, 99 % {:5.1} us", at(0.5), at(0.9), at(0.99));
}

fn direct(to: SocketAddr) -> f64 {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    begin.elapsed().as_secs_f64() * 1e6
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || serve(&listener));
    let mut settings = Settings { profile: Profile::Host, ..Settings::default() };
    (settings.limits.tcp_new_per_s, settings.limits.tcp_burst) = (1 << 20, 1 << 20);
    let clock = ExternalClock::default();
    let (sender, frames) = mpsc::channel();
    let own = clock.with_own_alarm().unwrap();
    let config = settings.check().unwrap();
    let handle =
        UserNet::start(config, "user0", own, [1; 32], Box::new(Wire(sender)), Box::new(|_| {})).unwrap();
    let start = Instant::now();
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        if clock.publish(start.elapsed().as_nanos() as u64, true) {
            handle.alarm();
        }
        let begin = Instant::now();
        once(&handle, &frames, 1024 + (round % 60_000) as u16, to.port());
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    report("through the network", times);
    report("without it", (0..ROUNDS / 4).map(|_| direct(to)).collect());
    assert!(!handle.info().unwrap().dropped.contains_key("limit"));
    handle.stop();
    TcpStream::connect(to).unwrap().write_all(b".").unwrap();
    server.join().unwrap();
}
