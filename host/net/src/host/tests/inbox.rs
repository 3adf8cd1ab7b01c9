//! What the machine's thread leaves for this one, and what it is told when there is none.

use super::*;

/// A handle whose thread never looks.
fn unheard() -> (mio::Poll, Handle) {
    let poll = mio::Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), reactor::WAKE).unwrap();
    let shared = Shared {
        inbox: Mutex::default(),
        waker,
        attention: Attention::default(),
        pending: AtomicBool::new(false),
    };
    (poll, Handle { shared: Arc::new(shared), thread: None })
}

#[test]
fn what_is_said_again_and_again_takes_no_more_room() {
    let (_poll, handle) = unheard();
    for bit in 0..10_000 {
        handle.set_offload(Offload { csum: bit % 2 == 1, ..Offload::default() }, 1500);
        handle.room_changed();
        handle.alarm();
    }
    let inbox = handle.shared.inbox();
    assert!(inbox.orders.is_empty());
    assert!(inbox.offload.is_some_and(|(offload, _)| offload.csum), "the last word counts");
}

#[test]
fn frames_that_nobody_hears_are_bounded_and_counted() {
    let (_poll, handle) = unheard();
    for _ in 0..QUEUE_BYTES / 65_000 + 10 {
        handle.frame(vec![0; 65_000]);
    }
    let inbox = handle.shared.inbox();
    assert!(inbox.frame_bytes <= QUEUE_BYTES && inbox.lost == 10, "{} lost", inbox.lost);
}

#[test]
fn frames_of_a_machine_that_is_no_more_are_forgotten() {
    let (_poll, handle) = unheard();
    handle.frame(vec![0; 100]);
    handle.restored();
    handle.frame(vec![1; 100]);
    let inbox = handle.shared.inbox();
    assert_eq!((inbox.restored, &inbox.frames), (true, &VecDeque::from([vec![1; 100]])));
    assert_eq!(inbox.frame_bytes, 100);
}

#[test]
fn frames_of_before_a_reset_count_and_those_behind_are_of_the_machine_that_begins() {
    let (_poll, handle) = unheard();
    handle.was_reset();
    handle.frame(vec![0; 100]);
    handle.was_reset();
    handle.frame(vec![1; 100]);
    let inbox = handle.shared.inbox();
    assert_eq!((inbox.reset_behind, inbox.frames.len()), (Some(1), 2));
    drop(inbox);
    handle.restored();
    let inbox = handle.shared.inbox();
    assert_eq!((inbox.reset_behind, inbox.restored), (None, true));
}

/// An end of the wire that breaks the thread.
struct Broken;

impl Guest for Broken {
    fn room(&self) -> usize {
        1 << 20
    }

    fn frame(&mut self, _: &Header, _: &[u8]) {
        panic!("as the test wants it");
    }
}

#[test]
fn who_asks_a_thread_that_has_ended_is_told_so() {
    let clock = ExternalClock::default().with_own_alarm().unwrap();
    let handle =
        UserNet::start(config(""), "user0", clock, [3; 32], Box::new(Broken), Box::new(|_| {})).unwrap();
    let frame =
        crate::core::tests::card::udp_frames("10.0.2.15:5000", "10.0.2.3:99", b"nobody there").remove(0);
    let mut message = Header::default().encode().to_vec();
    message.extend(frame);
    handle.frame(message);
    let begin = Instant::now();
    while handle.info().is_ok() {
        assert!(begin.elapsed() < LONG, "the thread lives");
    }
    assert!(matches!(handle.forward_add("tcp::0-:22".parse().unwrap()), Err(Error::Gone)));
    handle.frame(vec![0; 100]);
    assert!(!handle.external_work_pending(), "nothing comes from there");
    assert_eq!(handle.shared.inbox().lost, 1);
}
