//! Messages of guests that are worth to be tried again at every test: files in `corpus/`, each with the number of its
//! world ([`play`]) in eight bytes and then messages, each behind its length in four; big endian.
//!
//! The fuzzer writes a run that fails to `corpus/failed-NUMBER`. When what it found is mended, the file gets a name
//! that says what that was, and is committed: from then on it is tried here.
//! `cargo test -p reprise-net --lib corpus_is_made_anew -- --ignored` writes the others: the samples, and for each
//! reason to drop a message one that is dropped for it.
#![expect(clippy::disallowed_methods, reason = "a test that keeps files")]

use super::{
    fuzz::{play, samples, singles},
    harness::Chance,
};
use crate::{
    DropReason,
    frame::{GSO_TCPV4, GSO_UDP_L4, Header, NEEDS_CSUM},
};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

/// What a guest sends, in which world.
pub(super) struct Case {
    pub(super) world: u64,
    pub(super) messages: Vec<Vec<u8>>,
}

impl Case {
    fn read(bytes: &[u8]) -> Self {
        let (world, mut rest) = bytes.split_first_chunk().expect("the number of a world");
        let mut messages = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (message, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
            messages.push(message.to_vec());
            rest = behind;
        }
        assert!(rest.is_empty(), "it ends within a length");
        Self { world: u64::from_be_bytes(*world), messages }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.world.to_be_bytes().to_vec();
        for message in &self.messages {
            bytes.extend((message.len() as u32).to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }
}

pub(super) fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src/core/tests/corpus"].iter().collect()
}

/// Plays a case of the fuzzer's, and keeps it if it fails.
pub(super) fn tried(case: Case) {
    let played = catch_unwind(AssertUnwindSafe(|| drop(play(case.world, &case.messages))));
    if let Err(why) = played {
        let file = folder().join(format!("failed-{}", case.world));
        fs::write(&file, case.bytes()).unwrap();
        eprintln!("kept in {}", file.display());
        resume_unwind(why);
    }
}

#[test]
fn a_case_is_its_bytes() {
    let case = Case { world: 77, messages: vec![vec![1, 2, 3], vec![], vec![4; 70_000]] };
    let again = Case::read(&case.bytes());
    assert_eq!((again.world, again.messages), (77, case.messages));
}

/// What each has been kept for. Debug assertions and overflow checks are on in tests, and all that leaves is parsed.
#[test]
fn everything_kept_is_tried() {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let case = Case::read(&fs::read(&path).unwrap());
        eprintln!("{name}");
        let bench = play(case.world, &case.messages);
        if let Some(reason) = name.strip_prefix("drop-") {
            let reason = DropReason::ALL.iter().find(|why| why.name() == reason).unwrap();
            assert_eq!(bench.dropped(*reason), 1, "{name} is dropped for something else now");
        }
        if name == "services" {
            let answers = bench.core.stats().frames_to_guest;
            assert!(answers >= 4, "DHCP, DHCPv6, TFTP twice: {answers}");
            assert_eq!(bench.host.questions.len(), 2, "for the name server");
        }
        names.push(name);
    }
    for (name, _) in samples() {
        assert!(names.iter().any(|kept| kept == name), "{name} is missing");
    }
    let drops = names.iter().filter(|name| name.starts_with("drop-")).count();
    assert!(drops >= 12, "{names:?}");
}

/// One that has the network's own services, and takes offloads.
const WORLD: u64 = 15;

/// A frame behind a header that leaves nothing to do.
fn whole(frame: Vec<u8>) -> Vec<u8> {
    [&Header::default().encode()[..], &frame].concat()
}

/// Long frames that are to be cut.
fn cut() -> Vec<Vec<u8>> {
    let ipv4 = samples().remove(0).1;
    let long = |frame: &Vec<u8>, gso_type, csum_offset| {
        let gso_size = 500;
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type,
            gso_size,
            csum_start: 34,
            csum_offset,
            ..Header::default()
        };
        let mut frame = frame.clone();
        frame.resize(4000, 5);
        let bytes = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&bytes.to_be_bytes());
        super::fuzz::fix(&mut frame);
        [&header.encode()[..], &frame].concat()
    };
    let [datagram, syn, segment] = [&ipv4[0], &ipv4[6], &ipv4[7]];
    vec![whole(syn.clone()), long(segment, GSO_TCPV4, 16), long(datagram, GSO_UDP_L4, 6)]
}

#[test]
#[ignore = "writes the corpus"]
fn corpus_is_made_anew() {
    let keep = |name: &str, case: &Case| fs::write(folder().join(name), case.bytes()).unwrap();
    fs::create_dir_all(folder()).unwrap();
    let mut all: Vec<_> = samples();
    for (_, frames) in &mut all {
        *frames = std::mem::take(frames).into_iter().map(whole).collect();
    }
    all.push(("cut", cut()));
    for (name, messages) in all {
        keep(name, &Case { world: WORLD, messages });
    }
    let mut missing = DropReason::ALL.to_vec();
    for seed in 0..200 {
        for message in singles(seed) {
            let case = Case { world: Chance::new(seed).next(), messages: vec![message] };
            let bench = play(case.world, &case.messages);
            let found = missing.iter().position(|why| bench.dropped(*why) == 1);
            if let Some(found) = found {
                keep(&format!("drop-{}", missing.remove(found).name()), &case);
            }
        }
    }
}
