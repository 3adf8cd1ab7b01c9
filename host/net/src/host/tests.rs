//! The thread, with real sockets of this machine's loopback and a guest that is smoltcp in the test's own thread.

mod captures;
mod inbox;
mod pings;
mod resources;
mod rules;
mod streams;
mod trains;

use super::*;
use crate::{
    Network,
    config::Settings,
    core::tests::{
        card::{Card, packet_of},
        parse::GUEST_MAC,
    },
    frame::Header,
};
use smoltcp::{
    iface::{Config as IfaceConfig, Interface, SocketHandle, SocketSet},
    socket::tcp,
    wire::{HardwareAddress, IpCidr},
};
use std::{
    net::IpAddr,
    sync::Condvar,
    time::{Duration, Instant},
};

const ECHO_REPLY_V6: u8 = 129;

/// A time that is never reached if all is well.
const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Wire {
    messages: Mutex<VecDeque<(Header, Vec<u8>)>>,
    came: Condvar,
}

/// The thread's end of the wire.
struct End(Arc<Wire>);

impl Guest for End {
    fn room(&self) -> usize {
        let held: usize = self.0.messages.lock().unwrap().iter().map(|(_, frame)| frame.len() + 12).sum();
        (1usize << 20).saturating_sub(held)
    }

    fn frame(&mut self, header: &Header, frame: &[u8]) {
        self.0.messages.lock().unwrap().push_back((*header, frame.to_vec()));
        self.0.came.notify_one();
    }
}

/// A guest and its network.
struct World {
    handle: Handle,
    clock: ExternalClock,
    wire: Arc<Wire>,
    started: Instant,
    card: Card,
    iface: Interface,
    sockets: SocketSet<'static>,
    /// What the network has told people.
    said: Arc<Mutex<Vec<String>>>,
    /// Frames that are not for TCP.
    others: Vec<Vec<u8>>,
}

fn config(text: &str) -> Config {
    let profile = if text.starts_with("profile") { "" } else { "profile = \"all\"\n" };
    let settings: Settings = toml::from_str(&format!("{profile}{text}")).unwrap();
    settings.check().unwrap()
}

impl World {
    fn new(text: &str) -> Self {
        Self::start(text).unwrap()
    }

    fn start(text: &str) -> Result<Self, Error> {
        Self::start_with(text, |_| ())
    }

    fn start_with(text: &str, change: impl FnOnce(&mut Outside)) -> Result<Self, Error> {
        let clock = ExternalClock::default();
        let wire = Arc::new(Wire::default());
        let end = Box::new(End(Arc::clone(&wire)));
        let own = clock.with_own_alarm().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&said);
        let log = Box::new(move |line: &str| all.lock().unwrap().push(line.to_owned()));
        let mut outside = Outside::new(own, end, log);
        change(&mut outside);
        let handle = UserNet::start_with(config(text), "user0", [3; 32], outside)?;
        let mut card = Card::new(1500, false, false);
        let iface_config = IfaceConfig::new(HardwareAddress::Ip);
        let mut iface = Interface::new(iface_config, &mut card, smoltcp::time::Instant::ZERO);
        iface.update_ip_addrs(|all| {
            all.push(IpCidr::new("10.0.2.15".parse::<IpAddr>().unwrap().into(), 24)).unwrap();
            all.push(IpCidr::new("fd00::15".parse::<IpAddr>().unwrap().into(), 64)).unwrap();
        });
        iface.routes_mut().add_default_ipv4_route("10.0.2.2".parse().unwrap()).unwrap();
        iface.routes_mut().add_default_ipv6_route("fd00::2".parse().unwrap()).unwrap();
        let (started, sockets, others) = (Instant::now(), SocketSet::new(vec![]), Vec::new());
        Ok(Self { handle, clock, wire, started, card, iface, sockets, said, others })
    }

    /// A turn of the guest's: time passes as on the host, frames come and go.
    fn turn(&mut self) {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap();
        if self.clock.publish(now, true) {
            self.handle.alarm();
        }
        let taken: Vec<_> = {
            let guard = self.wire.messages.lock().unwrap();
            let wait = Duration::from_millis(1);
            let (mut guard, _) =
                self.wire.came.wait_timeout_while(guard, wait, |all| all.is_empty()).unwrap();
            guard.drain(..).collect()
        };
        if !taken.is_empty() {
            self.handle.room_changed();
        }
        for (_, frame) in taken {
            match packet_of(&frame) {
                Some(packet) if packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] == 6 => {
                    self.card.ingress.push_back(packet);
                }
                _ if frame[12..14] == [8, 6] && frame[21] == 1 => self.answer_arp(&frame),
                _ if frame[12..14] == [8, 0] => self.others.push(frame),
                _ if frame[12..14] == [0x86, 0xdd] && frame[54] == ECHO_REPLY_V6 => self.others.push(frame),
                // Router advertisements.
                _ => {}
            }
        }
        let instant = smoltcp::time::Instant::from_micros((now / 1000) as i64);
        self.iface.poll(instant, &mut self.card, &mut self.sockets);
        for packet in std::mem::take(&mut self.card.egress) {
            self.handle.frame(self.card.message(packet));
        }
    }

    fn answer_arp(&self, asked: &[u8]) {
        let mut frame = Network::default().mac.to_vec();
        frame.extend(GUEST_MAC);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(GUEST_MAC);
        frame.extend(&asked[38..42]);
        frame.extend(&asked[22..32]);
        self.frame(&frame);
    }

    fn frame(&self, frame: &[u8]) {
        let mut message = Header::default().encode().to_vec();
        message.extend(frame);
        self.handle.frame(message);
    }

    /// Turns until something is there.
    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(begin.elapsed() < LONG, "{what} never came: {:#?}", self.handle.info());
            self.turn();
        }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 18]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, to: &str, port: u16, from: u16) -> SocketHandle {
        let socket = self.socket();
        let to: IpAddr = to.parse().unwrap();
        let (sockets, iface) = (&mut self.sockets, &mut self.iface);
        sockets.get_mut::<tcp::Socket<'static>>(socket).connect(iface.context(), (to, port), from).unwrap();
        socket
    }

    fn tcp(&mut self, socket: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// Sends all, then ends its side if so wanted, and returns what came until the peer's end.
    fn exchange(&mut self, socket: SocketHandle, bytes: &[u8], end: bool) -> Vec<u8> {
        let (mut sent, mut got) = (0, Vec::new());
        self.until("the peer's end", |world| {
            let tcp = world.tcp(socket);
            if tcp.can_send() && sent < bytes.len() {
                sent += tcp.send_slice(&bytes[sent..]).unwrap();
            }
            if sent == bytes.len() && end && tcp.may_send() {
                tcp.close();
            }
            while tcp.can_recv() {
                tcp.recv(|part| {
                    got.extend_from_slice(part);
                    (part.len(), ())
                })
                .unwrap();
            }
            let begun = tcp.state() != tcp::State::SynSent;
            (begun && !tcp.may_recv() && sent == bytes.len()).then_some(())
        });
        got
    }
}
