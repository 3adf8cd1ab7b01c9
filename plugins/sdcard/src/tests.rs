use super::*;
use crate::crc::{crc7, crc16};
use reprise_plugin_api::testkit::{FakeHost, Rng};
use std::sync::LazyLock;

const MIB: usize = 1 << 20;

fn pattern(block: u64) -> Vec<u8> {
    (0..BLOCK).map(|at| block.wrapping_mul(7).wrapping_add(at) as u8).collect()
}

static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| (0..2 * MIB as u64 / BLOCK).flat_map(pattern).collect());

/// In its slot, 2 MiB, selected, and not yet spoken to.
fn fresh(read_only: bool) -> FakeHost<SdCard> {
    let mut h = FakeHost::<SdCard>::new(Config { max_hz: 25_000_000, serial: 0x1234_5678 });
    h.attach_disk("disk", CONTENT.clone(), read_only);
    select(&mut h, true);
    h
}

/// As a driver leaves it.
fn card(read_only: bool) -> FakeHost<SdCard> {
    let mut h = fresh(read_only);
    assert_eq!(command(&mut h, 0, 0), 1);
    assert_eq!(command(&mut h, 8, 0x1aa), 1);
    assert_eq!(bytes(&mut h, 4), [0, 0, 1, 0xaa]);
    assert_eq!(command(&mut h, 59, 1), 1);
    assert_eq!(command(&mut h, 55, 0), 1);
    assert_eq!(command(&mut h, 41, 1 << 30), 0);
    h
}

fn select(h: &mut FakeHost<SdCard>, low: bool) {
    h.message("bus", 0, Some(&Ask::Select(low).encode()));
    assert_eq!(h.messages(), []);
}

fn exchange(h: &mut FakeHost<SdCard>, byte: u8) -> u8 {
    h.message("bus", 0, Some(&Ask::Exchange(byte).encode()));
    match h.messages().as_slice() {
        [(_, 0, answer)] if answer.len() == 1 => answer[0],
        other => panic!("{other:?}"),
    }
}

fn bytes(h: &mut FakeHost<SdCard>, count: usize) -> Vec<u8> {
    (0..count).map(|_| exchange(h, 0xff)).collect()
}

fn framed(index: u8, argument: u32) -> [u8; 6] {
    let [a, b, c, d] = argument.to_be_bytes();
    let crc = crc7(&[0x40 | index, a, b, c, d]);
    [0x40 | index, a, b, c, d, crc << 1 | 1]
}

/// R1 of a command, which comes within eight bytes.
fn raw(h: &mut FakeHost<SdCard>, command: [u8; 6]) -> Option<u8> {
    command.iter().for_each(|byte| {
        exchange(h, *byte);
    });
    assert_eq!(exchange(h, 0xff), 0xff, "a byte of nothing comes first");
    bytes(h, 8).into_iter().next().filter(|byte| *byte != 0xff)
}

fn command(h: &mut FakeHost<SdCard>, index: u8, argument: u32) -> u8 {
    framed(index, argument).iter().for_each(|byte| {
        exchange(h, *byte);
    });
    assert_eq!(exchange(h, 0xff), 0xff);
    exchange(h, 0xff)
}

fn application(h: &mut FakeHost<SdCard>, index: u8, argument: u32) -> u8 {
    assert_eq!(command(h, 55, 0), 0);
    command(h, index, argument)
}

/// What comes instead of nothing, as time passes.
fn token(h: &mut FakeHost<SdCard>) -> u8 {
    for _ in 0..1000 {
        match exchange(h, 0xff) {
            QUIET => h.advance(100),
            token => return token,
        }
    }
    panic!("no token");
}

/// A block behind its token, with a good checksum.
fn block(h: &mut FakeHost<SdCard>, length: usize) -> Vec<u8> {
    assert_eq!(token(h), START_BLOCK);
    let data = bytes(h, length);
    assert_eq!(bytes(h, 2), crc16(&data).to_be_bytes());
    data
}

fn send_block(h: &mut FakeHost<SdCard>, token: u8, data: &[u8], crc: u16) -> u8 {
    exchange(h, 0xff);
    exchange(h, token);
    data.iter().chain(&crc.to_be_bytes()).for_each(|byte| assert_eq!(exchange(h, *byte), 0xff));
    exchange(h, 0xff)
}

/// Bytes of busy until there are none.
fn busy(h: &mut FakeHost<SdCard>) -> u32 {
    let mut count = 0;
    while exchange(h, 0xff) == BUSY {
        h.advance(100);
        count += 1;
        assert!(count < 1000, "busy without end");
    }
    count
}

#[test]
fn it_is_silent_until_it_is_told_to_speak_spi() {
    let mut h = fresh(false);
    assert_eq!(raw(&mut h, framed(8, 0x1aa)), None);
    assert_eq!(raw(&mut h, [0x40, 0, 0, 0, 0, 0x97]), None, "the checksum is wrong");
    select(&mut h, false);
    assert_eq!(raw(&mut h, framed(0, 0)), None, "somebody else is meant");
    select(&mut h, true);
    assert_eq!(raw(&mut h, [0x40, 0, 0, 0, 0, 0x95]), Some(1));
    h.reset(Reset::Warm);
    select(&mut h, true);
    assert_eq!(raw(&mut h, framed(13, 0)), None);
}

#[test]
fn a_slot_without_a_card_answers_nothing() {
    let mut h = FakeHost::<SdCard>::new(Config { max_hz: 400_000, serial: 1 });
    select(&mut h, true);
    assert_eq!(raw(&mut h, framed(0, 0)), None);
    h.attach_disk("disk", vec![0; 511 << 10], false);
    assert_eq!(raw(&mut h, framed(0, 0)), None);
}

#[test]
fn before_it_is_ready_it_does_little() {
    let mut h = fresh(false);
    command(&mut h, 0, 0);
    for index in [9, 13, 17, 24, 38, 5, 52] {
        assert_eq!(command(&mut h, index, 0), 5, "CMD{index}");
    }
    assert_eq!(command(&mut h, 58, 0), 1);
    assert_eq!(bytes(&mut h, 4), [0, 0xff, 0x80, 0]);
    assert_eq!(command(&mut h, 55, 0), 1);
    assert_eq!(command(&mut h, 41, 0), 1, "the host does not know cards like this one");
    assert_eq!(command(&mut h, 1, 1 << 30), 1, "what it says counts behind CMD8");
    assert_eq!((command(&mut h, 8, 0x2aa), bytes(&mut h, 4)), (1, vec![0, 0, 0, 0xaa]));
    assert_eq!(command(&mut h, 1, 1 << 30), 1, "that was a voltage this card does not take");
    assert_eq!((command(&mut h, 8, 0x155), bytes(&mut h, 4)), (1, vec![0, 0, 1, 0x55]));
    assert_eq!(command(&mut h, 1, 1 << 30), 0);
    assert_eq!(command(&mut h, 58, 0), 0);
    assert_eq!(bytes(&mut h, 4), [0xc0, 0xff, 0x80, 0]);
    for index in [5, 23, 27, 28, 29, 30, 41, 42, 52, 53, 56] {
        assert_eq!(command(&mut h, index, 0), 4, "CMD{index}");
    }
}

#[test]
fn checksums_of_commands_are_checked_if_asked_for() {
    let mut h = card(false);
    let wrong = |mut command: [u8; 6]| {
        command[5] ^= 2;
        command
    };
    assert_eq!(raw(&mut h, wrong(framed(13, 0))), Some(1 << 3));
    assert_eq!(command(&mut h, 59, 0), 0);
    assert_eq!(raw(&mut h, wrong(framed(13, 0))), Some(0));
    assert_eq!(raw(&mut h, wrong(framed(8, 0x1aa))), Some(1 << 3));
    assert_eq!(raw(&mut h, wrong(framed(0, 0))), Some(1), "a reset in SPI mode is a command like others");
}

#[test]
fn its_registers_say_what_it_is() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 9, 0), 0);
    let csd = block(&mut h, 16);
    let c_size = u32::from_be_bytes([0, csd[7] & 0x3f, csd[8], csd[9]]);
    assert_eq!((csd[0] >> 6, c_size, csd[14], csd[15]), (1, 3, 0, crc7(&csd[..15]) << 1 | 1));
    assert_eq!(command(&mut h, 10, 0), 0);
    let cid = block(&mut h, 16);
    assert_eq!((&cid[3..8], &cid[9..13]), (&b"SDMEM"[..], &[0x12, 0x34, 0x56, 0x78][..]));
    assert_eq!(application(&mut h, 51, 0), 0);
    assert_eq!(block(&mut h, 8), registers::SCR);
    assert_eq!(application(&mut h, 13, 0), 0);
    assert_eq!(exchange(&mut h, 0xff), 0);
    assert_eq!(block(&mut h, 64).len(), 64);
    let mut h = card(true);
    assert_eq!(command(&mut h, 9, 0), 0);
    assert_eq!(block(&mut h, 16)[14], 1 << 5);
}

#[test]
fn there_is_one_function_of_each_kind() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 6, 0x00ff_fff0), 0);
    let status = block(&mut h, 64);
    assert_eq!(status[..17], [0, 100, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 1, 0, 0, 0]);
    assert_eq!(command(&mut h, 6, 0x80ff_ff21), 0);
    let status = block(&mut h, 64);
    assert_eq!((status[1], &status[14..17]), (0, &[0, 0, 0xff][..]), "groups 1 and 2 are refused");
}

#[test]
fn a_block_is_read_when_the_disk_has_it() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 17, 5), 0);
    assert_eq!(bytes(&mut h, 3), [0xff; 3], "no time has passed");
    assert_eq!(block(&mut h, 512), pattern(5));
    assert_eq!(bytes(&mut h, 600), [0xff; 600], "one block");
    assert_eq!(command(&mut h, 17, 4096), 1 << 6);
    assert_eq!(command(&mut h, 16, 512), 0);
    assert_eq!(command(&mut h, 16, 513), 1 << 6);
}

#[test]
fn blocks_are_read_until_somebody_says_stop() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 18, 4092), 0);
    assert_eq!(block(&mut h, 512), pattern(4092));
    h.advance(2000);
    assert_eq!(bytes(&mut h, 2), [QUIET, START_BLOCK], "the next one was ready in the meantime");
    bytes(&mut h, 100);
    assert_eq!(command(&mut h, 12, 0), 0);
    assert_eq!(bytes(&mut h, 600), [0xff; 600]);
    // To the last one, and then not on.
    assert_eq!(command(&mut h, 18, 4094), 0);
    assert_eq!([block(&mut h, 512), block(&mut h, 512)], [pattern(4094), pattern(4095)]);
    framed(12, 0).iter().for_each(|byte| {
        exchange(&mut h, *byte);
    });
    assert_eq!(bytes(&mut h, 2), [0xff, 0]);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, 0), "nothing was wrong with that");
    assert_eq!(command(&mut h, 18, 4095), 0);
    assert_eq!(block(&mut h, 512), pattern(4095));
    assert_eq!(token(&mut h), READ_OUT_OF_RANGE);
    assert_eq!(command(&mut h, 12, 0), 0);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, 0), "the token has told it");
}

#[test]
fn a_block_is_written_while_the_card_is_busy() {
    let mut h = card(false);
    let data = pattern(99);
    assert_eq!(command(&mut h, 24, 7), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, crc16(&data)), ACCEPTED);
    assert_eq!(exchange(&mut h, 0x51), BUSY, "and deaf");
    // It may be let go meanwhile.
    select(&mut h, false);
    select(&mut h, true);
    assert!(busy(&mut h) > 10);
    assert_eq!(h.disk("disk")[7 * 512..8 * 512], data);
    assert_eq!(command(&mut h, 13, 0), 0);
    assert_eq!(exchange(&mut h, 0xff), 0);
}

#[test]
fn a_reset_ends_what_a_card_is_busy_with() {
    let mut h = card(false);
    let data = pattern(99);
    assert_eq!(command(&mut h, 24, 7), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, crc16(&data)), ACCEPTED);
    framed(13, 0).iter().for_each(|byte| assert_eq!(exchange(&mut h, *byte), BUSY));
    assert_eq!(bytes(&mut h, 10), [BUSY; 10], "nothing else is answered");
    framed(0, 0).iter().for_each(|byte| assert_eq!(exchange(&mut h, *byte), BUSY));
    assert_eq!(bytes(&mut h, 3), [0xff, 1, 0xff]);
    h.advance(10_000);
    assert_eq!(command(&mut h, 58, 0), 1);
    assert_eq!(bytes(&mut h, 4), [0, 0xff, 0x80, 0]);
    // What came in of a command while it was deaf is not the beginning of the next one.
    let mut h = card(false);
    assert_eq!(command(&mut h, 24, 7), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, crc16(&data)), ACCEPTED);
    exchange(&mut h, 0x51);
    assert!(busy(&mut h) > 5);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, 0));
}

#[test]
fn a_disk_that_is_no_card_is_told_of() {
    let logs = |bytes: usize| {
        let mut h = FakeHost::<SdCard>::new(Config { max_hz: 400_000, serial: 1 });
        h.attach_disk("disk", vec![0; bytes], false);
        h.reset(Reset::Warm);
        assert_eq!(h.logs(), [], "once is enough");
        h.reset(Reset::Cold);
        h.logs().into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(logs(MIB), [""; 0]);
    assert_eq!(logs(1000), ["the slot is empty: its disk has 1000 bytes, a card at least 524288"]);
    assert_eq!(logs(MIB + 512)[0][..45], *"the last 512 bytes of the disk are not on the");
}

#[test]
fn a_wrong_checksum_is_not_written() {
    let mut h = card(false);
    let data = pattern(99);
    assert_eq!(command(&mut h, 24, 7), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, !crc16(&data)), CRC_ERROR);
    assert_eq!(busy(&mut h), 0);
    assert_eq!(h.disk("disk")[7 * 512..8 * 512], pattern(7));
    assert_eq!(command(&mut h, 59, 0), 0);
    assert_eq!(command(&mut h, 24, 7), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, !crc16(&data)), ACCEPTED, "nobody looks at it");
}

#[test]
fn many_are_written_until_the_token_says_stop() {
    let mut h = card(false);
    assert_eq!(application(&mut h, 23, 3), 0);
    assert_eq!(command(&mut h, 25, 4093), 0);
    for at in 0..3 {
        let data = pattern(at);
        assert_eq!(send_block(&mut h, START_MANY, &data, crc16(&data)), ACCEPTED);
        assert!(busy(&mut h) > 5);
    }
    let data = pattern(3);
    assert_eq!(send_block(&mut h, START_MANY, &data, crc16(&data)), WRITE_ERROR, "that was the last");
    exchange(&mut h, STOP_MANY);
    assert_eq!(exchange(&mut h, 0xff), 0xff);
    assert!(busy(&mut h) > 5, "until it is durable");
    assert_eq!(h.disk("disk")[4093 * 512..], [pattern(0), pattern(1), pattern(2)].concat());
    assert_eq!(application(&mut h, 22, 0), 0);
    assert_eq!(block(&mut h, 4), [0, 0, 0, 3]);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, status::OUT_OF_RANGE));
}

#[test]
fn a_protected_card_refuses() {
    let mut h = card(true);
    let data = pattern(1);
    assert_eq!(command(&mut h, 24, 0), 0);
    assert_eq!(send_block(&mut h, START_BLOCK, &data, crc16(&data)), WRITE_ERROR);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, status::WP_VIOLATION));
    assert_eq!([command(&mut h, 32, 0), command(&mut h, 33, 0), command(&mut h, 38, 0)], [0; 3]);
    assert_eq!((command(&mut h, 13, 0), exchange(&mut h, 0xff)), (0, status::WP_VIOLATION));
    assert_eq!(h.disk("disk")[..512], pattern(0));
}

#[test]
fn a_range_is_erased_in_sequence() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 38, 0), 1 << 4);
    assert_eq!(command(&mut h, 33, 9), 1 << 4);
    assert_eq!([command(&mut h, 32, 4), command(&mut h, 33, 9)], [0; 2]);
    assert_eq!(command(&mut h, 17, 0), 1 << 1, "that was not the next one");
    assert_eq!(command(&mut h, 38, 0), 1 << 4);
    assert_eq!([command(&mut h, 32, 4), command(&mut h, 33, 9), command(&mut h, 38, 0)], [0; 3]);
    assert!(busy(&mut h) > 5);
    assert_eq!(h.disk("disk")[4 * 512..10 * 512], [0; 6 * 512]);
    assert_eq!(
        (&h.disk("disk")[3 * 512..4 * 512], &h.disk("disk")[10 * 512..11 * 512]),
        (&*pattern(3), &*pattern(10))
    );
    assert_eq!([command(&mut h, 32, 4), command(&mut h, 33, 3), command(&mut h, 38, 0)], [0, 0, 1 << 6]);
    assert_eq!([command(&mut h, 32, 4), command(&mut h, 33, 4096), command(&mut h, 38, 0)], [0, 0, 1 << 6]);
}

#[test]
fn who_is_deselected_goes_on_later() {
    let mut h = card(false);
    assert_eq!(command(&mut h, 18, 0), 0);
    assert_eq!(token(&mut h), START_BLOCK);
    let mut data = bytes(&mut h, 100);
    select(&mut h, false);
    assert_eq!(bytes(&mut h, 10), [0xff; 10], "the line floats");
    select(&mut h, true);
    data.extend(bytes(&mut h, 412));
    assert_eq!(data, pattern(0));
    bytes(&mut h, 2);
    select(&mut h, false);
    h.advance(10_000);
    select(&mut h, true);
    assert_eq!(block(&mut h, 512), pattern(1));
    exchange(&mut h, 0x40 | 12);
    select(&mut h, false);
    select(&mut h, true);
    assert_eq!(command(&mut h, 12, 0), 0, "half a command is none");
    assert_eq!(bytes(&mut h, 600), [0xff; 600]);
}

/// What a driver, or a mad one, may say.
fn babble(rng: &mut Rng) -> Vec<u8> {
    let known =
        [0, 1, 6, 8, 9, 10, 12, 13, 16, 17, 18, 23, 24, 25, 32, 33, 38, 41, 51, 22, 55, 55, 55, 58, 59];
    match rng.below(8) {
        0..4 => {
            let argument = [rng.below(8) as u32, 4090 + rng.below(8) as u32, 1 << 30, rng.next() as u32];
            framed(known[rng.below(25) as usize], argument[rng.below(4) as usize]).to_vec()
        }
        4 => vec![[START_BLOCK, START_MANY, STOP_MANY, rng.next() as u8][rng.below(4) as usize]],
        5 => {
            let data = pattern(rng.next());
            let crc = crc16(&data).to_be_bytes();
            let token = [START_BLOCK, START_MANY][rng.below(2) as usize];
            [vec![token], data, crc.to_vec(), vec![0xff; 4]].concat()
        }
        _ => vec![0xff; rng.below(600) as usize],
    }
}

#[test]
fn a_card_that_is_saved_all_the_time_is_no_other() {
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        let (mut subject, mut twin) = (card(false), card(false));
        for step in 0..150 {
            if rng.below(32) == 0 {
                for h in [&mut subject, &mut twin] {
                    select(h, false);
                    select(h, true);
                }
            }
            let passes = rng.below(500);
            for byte in babble(&mut rng) {
                if rng.below(32) == 0 {
                    subject.save_load();
                }
                let answers = (exchange(&mut subject, byte), exchange(&mut twin, byte));
                assert_eq!(answers.0, answers.1, "seed {seed}, step {step}");
            }
            subject.advance(passes);
            twin.advance(passes);
        }
        assert!(subject.disk("disk") == twin.disk("disk"), "seed {seed}");
    }
}

#[test]
fn a_damaged_state_is_refused_or_does_no_harm() {
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        let mut h = card(false);
        for _ in 0..60 {
            for byte in babble(&mut rng) {
                exchange(&mut h, byte);
            }
            let mut record = h.save();
            for _ in 0..=rng.below(3) {
                let at = rng.below(record.len() as u64) as usize;
                record[at] = [0, 1, 0x7f, 0xff, rng.next() as u8][rng.below(5) as usize];
            }
            let mut victim = card(false);
            if victim.load(&record).is_ok() {
                for _ in 0..4 {
                    // It may believe that it is not selected, and a card in its native mode is silent.
                    babble(&mut rng).into_iter().for_each(|byte| {
                        exchange(&mut victim, byte);
                    });
                    victim.advance(rng.below(3000));
                }
            }
        }
    }
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut SdCard)| {
        let mut h = card(false);
        assert_eq!(command(&mut h, 17, 5), 0);
        let mut other = SdCard::create(Config { max_hz: 400_000, serial: 1 }).unwrap();
        reprise_plugin_api::state::load(&mut other, &h.save()).unwrap();
        change(&mut other);
        h.load(&reprise_plugin_api::state::save(&other)).unwrap_err()
    };
    let long = "more bytes on their way";
    assert!(refused(|card| card.output.resize(2000, 0)).contains(long));
    assert!(refused(|card| card.command.resize(6, 0)).contains(long));
    assert!(refused(|card| card.incoming = Some(vec![0; 514])).contains(long));
    assert!(refused(|card| card.next_block = u64::MAX).contains("behind the end"));
    assert!(refused(|card| card.erase_next = 1).contains("behind the end"));
}

#[test]
fn random_runs() {
    for seed in 0..8 {
        fresh(false).fuzz(seed, 1000);
        fresh(false).fuzz_load(seed, 200);
    }
}
