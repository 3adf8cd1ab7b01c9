//! Sequences of TCP segments out of any order, as files in `sequences/`: a line for the world, and one for each step.
//! Numbers are relative to where either side began, so that they mean the same whatever those are.
//!
//! The fuzzer ([`super::fuzz`]) writes one that fails to `sequences/failed-SEED`. When what it found is mended, the
//! file gets a name that says what that was, and is committed: from then on it is tried here.
//! `cargo test -p reprise-net --lib sequences_are_made_anew -- --ignored` writes the others: for each thing that can
//! come of a sequence ([`Player::reached`]), the shortest that it comes of.
#![expect(clippy::disallowed_methods, reason = "a test that keeps files")]

use super::{
    fuzz::liars_steps,
    harness::{Bench, Sock, frame, segment, setup},
};
use crate::{
    DropReason, Failure, FlowId, HostEvent, Kind,
    core::tcp::Segment,
    frame::{Header, Offload},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

/// Between whom, and over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct World {
    pub(super) mtu: u16,
    pub(super) csum: bool,
    pub(super) tso4: bool,
    /// Bytes that one call moves on the host's side; 0: all.
    pub(super) chunk: usize,
    pub(super) v6: bool,
    /// The host calls the guest, instead of the guest the host.
    pub(super) called: bool,
    /// The guest's first number.
    pub(super) isn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest sends, numbers from where either side began.
    Send {
        seq: u32,
        ack: u32,
        flags: u8,
        window: u16,
        bytes: usize,
        options: Vec<u8>,
    },
    /// So many bytes come from the host's peer.
    Arrive(u32),
    /// So many bytes the host's socket takes.
    Room(usize),
    PeerEnds,
    Breaks,
    /// The host's socket is said to be readable and writable.
    Ready,
    Poll,
    /// Everything is looked at, and time passes.
    Wait(u64),
}

/// The byte at a place of a stream: whoever gets another one was given something that was never sent.
pub(super) fn byte(at: u32) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)).wrapping_mul(13) as u8
}

/// A connection of a guest that obeys nothing, but whose bytes are always the same at the same place.
pub(super) struct Player {
    pub(super) bench: Bench,
    isn: u32,
    guest: SocketAddr,
    peer: SocketAddr,
    id: FlowId,
    /// Of the core: first number, the end of what it sent, right edge.
    iss: Option<u32>,
    pub(super) sent: u32,
    pub(super) edge: u32,
    shift: u32,
    peer_sent: u32,
    got: BTreeMap<FlowId, usize>,
    /// What came of it.
    pub(super) reached: BTreeSet<String>,
}

impl Player {
    /// The SYN of either side has been sent, that of the host answered by nobody yet.
    pub(super) fn new(world: &World) -> Self {
        let mut setup = setup();
        setup.network.mtu = world.mtu;
        let mut bench = Bench::with(setup);
        bench.wire.room = 1 << 24;
        let (csum, tso4) = (world.csum, world.tso4);
        bench.offload(Offload { csum, tso4, tso6: csum, uso4: csum, uso6: csum });
        bench.host.chunk = world.chunk;
        // So that it is known where the guest is.
        let (guest, peer, service) = match world.v6 {
            true => ("[fd00::15]:40000", "[2001:db8::1]:80", "[fd00::2]:7"),
            false => ("10.0.2.15:40000", "192.0.2.1:80", "10.0.2.2:7"),
        };
        bench.udp(guest, service, b"x");
        let (guest, peer) = (guest.parse().unwrap(), peer.parse().unwrap());
        let mut player = Self {
            bench,
            isn: world.isn,
            guest,
            peer,
            id: FlowId::new(Kind::Tcp, 0, 0),
            iss: None,
            sent: 0,
            edge: 0,
            shift: 0,
            peer_sent: 0,
            got: BTreeMap::new(),
            reached: BTreeSet::new(),
        };
        if world.called {
            let bench = &mut player.bench;
            player.id = bench.core.accept(bench.now, peer, guest).unwrap();
            bench.host.open.insert(player.id, Sock { room: usize::MAX, ..Sock::default() });
        }
        player
    }

    pub(super) fn iss(&self) -> u32 {
        self.iss.unwrap_or(0)
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Send { seq, ack, flags, window, bytes, options } => {
                let first = seq.wrapping_sub(1);
                let payload: Vec<u8> = (0..*bytes as u32).map(|i| byte(first.wrapping_add(i))).collect();
                let (seq, ack) = (seq.wrapping_add(self.isn), ack.wrapping_add(self.iss()));
                self.send(seq, ack, (*flags, *window), options, &payload);
            }
            Step::Arrive(count) => {
                let from = self.peer_sent;
                if let Some(sock) = self.bench.host.open.get_mut(&self.id) {
                    sock.inbox.extend((0..*count).map(|i| byte(from.wrapping_add(i))));
                    self.peer_sent += count;
                }
            }
            Step::Room(room) => self.socket(|sock| sock.room = *room),
            Step::PeerEnds => self.socket(|sock| sock.peer_ended = true),
            Step::Breaks => self.socket(|sock| sock.broken = true),
            Step::Ready => {
                if self.bench.host.open.contains_key(&self.id) {
                    self.bench.event(HostEvent::Readable(self.id));
                    self.bench.event(HostEvent::Writable(self.id));
                }
            }
            Step::Poll => self.bench.core.poll(self.bench.now, &mut self.bench.host, &mut self.bench.wire),
            Step::Wait(ns) => {
                self.bench.now += ns;
                self.look();
            }
        }
    }

    fn socket(&mut self, change: impl FnOnce(&mut Sock)) {
        if let Some(sock) = self.bench.host.open.get_mut(&self.id) {
            change(sock);
        }
    }

    fn send(&mut self, seq: u32, ack: u32, (flags, window): (u8, u16), options: &[u8], payload: &[u8]) {
        let fields = Segment { ports: [0; 2], seq, ack, flags, window, options, payload, header_bytes: 0 };
        let (head, tcp) = segment(self.guest, self.peer, &fields);
        let mut message = Header::default().encode().to_vec();
        message.extend(frame(&head, &tcp));
        self.bench.message(&message);
        let tcp = |id: &&FlowId| id.kind() == Kind::Tcp;
        if self.iss.is_none() && self.bench.core.tcp_info().iter().any(|info| info.state == "CONNECTING") {
            // What the guest asks for first, it gets.
            self.id = *self.bench.host.open.keys().find(tcp).expect("the host was asked");
            self.bench.event(HostEvent::Connected(self.id));
        }
    }

    /// Checks everything that can be seen, and lets nothing come of connections that began beside this one.
    pub(super) fn look(&mut self) {
        let states = self.bench.core.tcp_info().into_iter().map(|info| format!("state-{}", info.state));
        self.reached.extend(states);
        self.watch();
        self.check_got();
        let orphans = self.bench.host.open.keys().copied().filter(|id| *id != self.id).collect::<Vec<_>>();
        for id in orphans {
            self.bench.host.open.remove(&id);
            self.bench.event(HostEvent::Failed(id, Failure::Refused));
        }
        let drops = DropReason::ALL.iter().filter(|why| self.bench.dropped(**why) > 0);
        self.reached.extend(drops.map(|why| format!("drop-{}", why.name())));
        let ends = self.bench.host.closed.iter().filter(|(id, ..)| *id == self.id);
        self.reached.extend(ends.map(|(_, reset, _)| if *reset { "broken" } else { "ended" }.to_owned()));
        assert_eq!(self.bench.dropped(DropReason::Panicked), 0, "a flow has panicked");
    }

    /// Learns from what the core sent, and checks the bytes in it.
    pub(super) fn watch(&mut self) {
        while let Some((header, frame)) = self.bench.wire.frames.pop_front() {
            let at = if self.guest.is_ipv4() { 34 } else { 54 };
            if frame[if at == 34 { 23 } else { 20 }] != 6 {
                continue;
            }
            let end = match at {
                34 => 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
                _ => 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])),
            };
            let got = Segment::read(&frame[at..end]).unwrap();
            if got.flags & 4 != 0 {
                self.reached.insert("reset".to_owned());
                continue;
            }
            if header.gso_size > 0 {
                self.reached.insert("cut".to_owned());
            }
            if got.flags & 2 != 0 {
                self.iss = Some(got.seq);
                self.sent = got.seq.wrapping_add(1);
                self.shift = got.option(3).map_or(0, |(_, shift)| u32::from(shift[0]));
            }
            let Some(iss) = self.iss else { continue };
            let first = got.seq.wrapping_sub(iss).wrapping_sub(1);
            for (i, byte_got) in got.payload.iter().enumerate() {
                assert_eq!(*byte_got, byte(first.wrapping_add(i as u32)));
            }
            let end = got.seq.wrapping_add(got.space());
            if end.wrapping_sub(self.sent) as i32 > 0 {
                self.sent = end;
            } else if !got.payload.is_empty() {
                self.reached.insert("again".to_owned());
            }
            let shift = if got.flags & 2 != 0 { 0 } else { self.shift };
            self.edge = got.ack.wrapping_add(u32::from(got.window) << shift);
        }
    }

    fn check_got(&mut self) {
        let closed = self.bench.host.closed.iter().map(|(id, _, sock)| (*id, sock));
        for (id, sock) in self.bench.host.open.iter().map(|(id, sock)| (*id, sock)).chain(closed) {
            if id != self.id {
                // A SYN of another beginning opened another connection.
                continue;
            }
            let checked = self.got.entry(id).or_default();
            for (i, got) in sock.got.iter().enumerate().skip(*checked) {
                assert_eq!(*got, byte(i as u32), "byte {i} of what the host got");
            }
            *checked = sock.got.len();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn text(world: &World, steps: &[Step]) -> String {
    let World { mtu, csum, tso4, chunk, v6, called, isn } = world;
    let mut text = format!("world {mtu} {csum} {tso4} {chunk} {v6} {called} {isn}\n");
    for step in steps {
        text += &match step {
            Step::Send { seq, ack, flags, window, bytes, options } => {
                format!("send {seq} {ack} {flags} {window} {bytes} {}", hex(options))
            }
            Step::Arrive(count) => format!("arrive {count}"),
            Step::Room(room) => format!("room {room}"),
            Step::PeerEnds => "peer-ends".to_owned(),
            Step::Breaks => "breaks".to_owned(),
            Step::Ready => "ready".to_owned(),
            Step::Poll => "poll".to_owned(),
            Step::Wait(ns) => format!("wait {ns}"),
        };
        text.push('\n');
    }
    text
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> T {
    word.and_then(|word| word.parse().ok()).expect("a number")
}

fn read(text: &str) -> (World, Vec<Step>) {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap().split(' ').skip(1);
    let mut next = || words.next();
    let world = World {
        mtu: number(next()),
        csum: number(next()),
        tso4: number(next()),
        chunk: number(next()),
        v6: number(next()),
        called: number(next()),
        isn: number(next()),
    };
    let step = |line: &str| {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        let mut next = || words.next();
        match kind {
            "send" => Step::Send {
                seq: number(next()),
                ack: number(next()),
                flags: number(next()),
                window: number(next()),
                bytes: number(next()),
                options: unhex(next().unwrap()),
            },
            "arrive" => Step::Arrive(number(next())),
            "room" => Step::Room(number(next())),
            "peer-ends" => Step::PeerEnds,
            "breaks" => Step::Breaks,
            "ready" => Step::Ready,
            "poll" => Step::Poll,
            "wait" => Step::Wait(number(next())),
            other => panic!("{other}?"),
        }
    };
    (world, lines.map(step).collect())
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/core/tests/sequences"].iter().collect()
}

/// What comes of a sequence.
fn play(world: &World, steps: &[Step]) -> BTreeSet<String> {
    let mut player = Player::new(world);
    player.bench.poll();
    player.look();
    steps.iter().for_each(|step| player.step(step));
    player.reached
}

/// Runs something that makes steps as it goes, and keeps them if it fails.
pub(super) fn tried(seed: u64, world: &World, run: impl FnOnce(&mut Vec<Step>)) {
    let mut steps = Vec::new();
    if let Err(why) = catch_unwind(AssertUnwindSafe(|| run(&mut steps))) {
        let file = folder().join(format!("failed-{seed}"));
        fs::create_dir_all(folder()).unwrap();
        fs::write(&file, text(world, &steps)).unwrap();
        eprintln!("kept in {}", file.display());
        resume_unwind(why);
    }
}

#[test]
fn a_sequence_is_its_text() {
    let (world, steps) = liars_steps(5);
    assert!(steps.len() > 20);
    assert_eq!(read(&text(&world, &steps)), (world, steps));
}

/// What the fuzzer has seen comes of its steps when they are played again.
#[test]
fn a_sequence_is_the_same_again() {
    for seed in 0..20 {
        let (world, steps) = liars_steps(seed);
        let (again, others) = (play(&world, &steps), play(&world, &steps));
        assert_eq!(again, others, "seed {seed}");
        assert!(again.iter().any(|what| what.starts_with("state-")), "seed {seed}: {again:?}");
    }
}

/// What each has been kept for comes of it still.
#[test]
fn every_sequence_kept_is_tried() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        eprintln!("{name}");
        let (world, steps) = read(&fs::read_to_string(&path).unwrap());
        let reached = play(&world, &steps);
        assert!(!is_kept_for(&name) || reached.contains(&name), "{name}: {reached:?}");
        names.insert(name);
    }
    for name in ["again", "broken", "cut", "drop-window", "ended", "reset", "state-FIN-WAIT-2"] {
        assert!(names.contains(name), "{name} is missing: {names:?}");
    }
}

/// Names of what can be reached; others are of what was mended.
fn is_kept_for(name: &str) -> bool {
    let plain = ["again", "broken", "cut", "ended", "reset"].contains(&name);
    plain || name.starts_with("state-") || name.starts_with("drop-")
}

#[test]
#[ignore = "writes the sequences"]
fn sequences_are_made_anew() {
    let mut shortest: BTreeMap<String, String> = BTreeMap::new();
    for seed in 0..1000 {
        let (world, steps) = liars_steps(seed);
        let written = text(&world, &steps);
        for what in play(&world, &steps) {
            let known = shortest.entry(what).or_insert_with(|| written.clone());
            if written.len() < known.len() {
                known.clone_from(&written);
            }
        }
    }
    fs::create_dir_all(folder()).unwrap();
    shortest.iter().for_each(|(what, text)| fs::write(folder().join(what), text).unwrap());
}
