use super::*;
use reprise_plugin_api::testkit::FakeHost;

fn eeprom(model: &str, content: &str) -> FakeHost<Eeprom> {
    FakeHost::new(Config { model: model.into(), content: content.into() })
}

/// One byte's worth of the bus.
fn ask(h: &mut FakeHost<Eeprom>, at: u32, ask: Ask) -> Option<Answer> {
    h.message("bus", at, Some(&ask.encode()));
    let answers = h.messages();
    assert!(answers.len() <= 1 && answers.iter().all(|(_, from, _)| *from == at));
    answers.first().map(|(_, _, message)| Answer::decode(message).unwrap())
}

fn write(h: &mut FakeHost<Eeprom>, at: u32, bytes: &[u8]) {
    assert_eq!(ask(h, at, Ask::Start { read: false }), Some(Answer::Ack));
    for &byte in bytes {
        assert_eq!(ask(h, at, Ask::Write(byte)), Some(Answer::Ack));
    }
    assert_eq!(ask(h, at, Ask::Stop), None);
}

/// A random read: the address is written, and a repeated START turns round.
fn read(h: &mut FakeHost<Eeprom>, at: u32, address: &[u8], count: usize) -> Vec<u8> {
    assert_eq!(ask(h, at, Ask::Start { read: false }), Some(Answer::Ack));
    for &byte in address {
        assert_eq!(ask(h, at, Ask::Write(byte)), Some(Answer::Ack));
    }
    assert_eq!(ask(h, at, Ask::Start { read: true }), Some(Answer::Ack));
    let bytes = (0..count).map(|_| match ask(h, at, Ask::Read) {
        Some(Answer::Data(byte)) => byte,
        other => panic!("{other:?}"),
    });
    let bytes = bytes.collect();
    ask(h, at, Ask::Stop);
    bytes
}

#[test]
fn a_new_one_holds_its_content_and_is_erased_behind_it() {
    let mut h = eeprom("02", "00112233");
    assert_eq!(read(&mut h, 0x50, &[1], 4), [0x11, 0x22, 0x33, 0xff]);
    assert_eq!(read(&mut h, 0x50, &[0xff], 2), [0xff, 0x00], "reads run on at the beginning");
}

#[test]
fn a_write_cycle_takes_its_time_and_is_asked_after() {
    let mut h = eeprom("02", "");
    write(&mut h, 0x50, &[0x10, 1, 2]);
    assert_eq!(ask(&mut h, 0x50, Ask::Start { read: false }), Some(Answer::Nack));
    assert_eq!(h.timer("write-cycle"), Some(5_000_000));
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0x0f], 4), [0xff, 1, 2, 0xff]);
}

#[test]
fn a_page_runs_round() {
    let mut h = eeprom("02", "");
    write(&mut h, 0x50, &[0x16, 1, 2, 3, 4]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0x10], 8), [3, 4, 0xff, 0xff, 0xff, 0xff, 1, 2]);
    write(&mut h, 0x50, &[0x20, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0x20], 9), [9, 2, 3, 4, 5, 6, 7, 8, 0xff]);
}

#[test]
fn what_is_not_stopped_is_not_written() {
    let mut h = eeprom("02", "");
    ask(&mut h, 0x50, Ask::Start { read: false });
    for byte in [0x00, 0x55] {
        assert_eq!(ask(&mut h, 0x50, Ask::Write(byte)), Some(Answer::Ack));
    }
    assert_eq!(read(&mut h, 0x50, &[0], 1), [0xff]);
    assert_eq!(h.next_deadline(), None);
}

#[test]
fn the_pin_protects() {
    let mut h = eeprom("02", "");
    h.set_input("wp", true);
    write(&mut h, 0x50, &[0, 7]);
    assert_eq!(read(&mut h, 0x50, &[0], 1), [0xff]);
    h.set_input("wp", false);
    write(&mut h, 0x50, &[0, 7]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0], 1), [7]);
}

#[test]
fn larger_ones_have_more_addresses_or_longer_ones() {
    let mut h = eeprom("16", "");
    assert_eq!(h.desc().links[0].addresses, 8);
    write(&mut h, 0x53, &[0x20, 9]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x53, &[0x20], 1), [9]);
    assert_eq!(read(&mut h, 0x52, &[0x20], 1), [0xff]);
    assert_eq!(h.device().memory[0x320], 9);
    let mut h = eeprom("256", "");
    assert_eq!(h.desc().links[0].addresses, 1);
    write(&mut h, 0x50, &[0x12, 0x34, 9]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0x12, 0x33], 2), [0xff, 9]);
    assert_eq!(read(&mut h, 0x50, &[0xff, 0xff], 1), [0xff], "address bits that it has not are ignored");
}

#[test]
fn content_is_checked() {
    let refused = |model: &str, content: &str| {
        let config = Config { model: model.into(), content: content.into() };
        Eeprom::create(config).err().expect("it is wrong").message
    };
    assert_eq!(refused("02", "0g"), "not hexadecimal digits");
    assert_eq!(refused("02", "012"), "an odd number of digits: two make a byte");
    assert_eq!(refused("02", &"00".repeat(257)), "257 bytes, but the memory has 256");
}

#[test]
fn random_runs() {
    // All of the memory is in the state, which is compared at each step: fewer of them for large ones.
    for (model, steps) in [("02", 2000), ("16", 500), ("512", 20)] {
        for seed in 0..8 {
            eeprom(model, "").fuzz(seed, steps);
        }
        eeprom(model, "").fuzz_load(1, steps / 4);
    }
}

#[test]
fn a_write_without_its_stop_is_lost() {
    let mut h = eeprom("02", "");
    for byte in [Ask::Start { read: false }, Ask::Write(0x10), Ask::Write(1)] {
        assert_eq!(ask(&mut h, 0x50, byte), Some(Answer::Ack));
    }
    write(&mut h, 0x50, &[0x20, 2]);
    h.advance(5_000_000);
    assert_eq!(read(&mut h, 0x50, &[0x10], 1), [0xff]);
    assert_eq!(read(&mut h, 0x50, &[0x20], 1), [2]);
}
