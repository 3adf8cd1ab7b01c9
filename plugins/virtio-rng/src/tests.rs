use super::*;
use reprise_plugin_api::{
    testkit::{FakeHost, RAM_BASE, RAM_SIZE},
    virtio::{
        driver::{Buf, Driver, acknowledge, fuzz_rings},
        regs,
    },
};

const ALL: u64 = u64::MAX;

fn host() -> FakeHost<Rng> {
    let mut host = FakeHost::new(Config::default());
    host.random_seed(7);
    host
}

#[test]
fn the_device_is_an_entropy_source_with_one_queue() {
    let mut host = host();
    assert_eq!(host.read32(regs::DEVICE_ID), 4);
    assert_eq!(host.read32(regs::QUEUE_NUM_MAX), 64);
    host.write32(regs::QUEUE_SEL, 1);
    assert_eq!(host.read32(regs::QUEUE_NUM_MAX), 0);
}

#[test]
fn every_writable_byte_is_filled_from_the_stream() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let first = driver.request(&mut host, 0, &[Buf::In(5), Buf::In(60)]);
    assert_eq!((first.len, first.data.len()), (65, 65));
    assert!(first.data[40..].iter().any(|byte| *byte != 0), "the second buffer too");
    assert_eq!(acknowledge(&mut host), 1);
    let second = driver.request(&mut host, 0, &[Buf::In(65)]);
    assert_ne!(first.data, second.data, "the stream goes on");
    host.random_seed(7);
    let again = driver.request(&mut host, 0, &[Buf::In(65)]);
    assert_eq!(first.data, again.data, "the same stream gives the same bytes");
}

#[test]
fn a_long_buffer_is_filled_in_part() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let used = driver.request(&mut host, 0, &[Buf::In(10_000)]);
    assert_eq!(used.len, 4096);
    assert!(used.data[4096..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_chain_with_nothing_to_write_comes_back_empty() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(driver.request(&mut host, 0, &[Buf::Out(b"?")]).len, 0);
}

#[test]
fn windows_and_copies_fill_the_same() {
    let run = |windows| {
        let mut host = host();
        host.set_windows(windows);
        let mut driver = Driver::start(&mut host, ALL);
        for len in 1..100 {
            driver.request(&mut host, 0, &[Buf::In(len), Buf::In(7)]);
            host.save_load();
        }
        host.ram_read(RAM_BASE, RAM_SIZE as usize)
    };
    assert!(run(true) == run(false));
}

#[test]
fn a_queue_size_that_is_no_power_of_two_is_refused() {
    let error = Rng::create(Config { queue_size: 48 }).err().unwrap();
    assert_eq!(error.path, "queue_size");
}

#[test]
fn hostile_rings_do_no_harm() {
    fuzz_rings(host, &[], 1, 2_000);
}

#[test]
fn random_accesses_do_no_harm() {
    host().fuzz(2, 10_000);
    host().fuzz_load(3, 200);
}
