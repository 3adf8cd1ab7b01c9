use super::*;
use reprise_plugin_api::{
    testkit::{FakeHost, RAM_BASE, RAM_SIZE},
    virtio::{
        driver::{Buf, Driver, acknowledge, fuzz_rings, offered},
        regs,
    },
};

const ALL: u64 = u64::MAX;
const RX0: usize = 0;
const TX0: usize = 1;
const CONTROL_RX: usize = 2;
const CONTROL_TX: usize = 3;
const RX1: usize = 4;
const TX1: usize = 5;

fn config() -> Config {
    Config { ports: 2, names: vec![String::new(), "org.log".to_owned()], queue_size: 16, ..Config::default() }
}

fn host() -> FakeHost<Console> {
    FakeHost::new(config())
}

fn control(id: u32, event: u16, value: u16) -> Vec<u8> {
    [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat()
}

fn say(host: &mut FakeHost<Console>, driver: &mut Driver, id: u32, event: u16, value: u16) {
    driver.request(host, CONTROL_TX, &[Buf::Out(&control(id, event, value))]);
}

/// The control messages that have arrived, and fresh buffers in their place.
fn heard(host: &mut FakeHost<Console>, driver: &mut Driver) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(used) = driver.take(host, CONTROL_RX) {
        out.push(used.data[..used.len as usize].to_vec());
        driver.post(host, CONTROL_RX, &[Buf::In(64)]);
    }
    driver.kick(host, CONTROL_RX);
    out
}

/// A driver with buffers for control messages.
fn start(host: &mut FakeHost<Console>, features: u64) -> Driver {
    let mut driver = Driver::start(host, features);
    for _ in 0..12 {
        driver.post(host, CONTROL_RX, &[Buf::In(64)]);
    }
    driver.kick(host, CONTROL_RX);
    driver
}

/// As `start`, with both ports made known and opened.
fn open(host: &mut FakeHost<Console>) -> Driver {
    let mut driver = start(host, ALL);
    say(host, &mut driver, 0, 0, 1);
    for port in [0, 1] {
        say(host, &mut driver, port, 3, 1);
        say(host, &mut driver, port, 6, 1);
    }
    heard(host, &mut driver);
    driver
}

#[test]
fn features_configuration_and_queues() {
    let mut host = host();
    assert_eq!(host.read32(regs::DEVICE_ID), 3);
    assert_eq!(offered(&mut host) & 0xff_ffff, features::SIZE | features::MULTIPORT | features::EMERG_WRITE);
    assert_eq!(host.read32(regs::CONFIG), 25 << 16 | 80, "cols, rows");
    assert_eq!(host.read32(regs::CONFIG + 4), 2, "max_nr_ports");
    assert_eq!(host.read32(regs::CONFIG + 8), 0, "emerg_wr");
    let queues = (0..).take_while(|queue| {
        host.write32(regs::QUEUE_SEL, *queue);
        host.read32(regs::QUEUE_NUM_MAX) != 0
    });
    assert_eq!(queues.count(), 6);
}

#[test]
fn emergency_writes_need_no_driver() {
    let mut host = host();
    host.write32(regs::CONFIG + 8, u32::from(b'!') | 0x1234_5600);
    host.write8(regs::CONFIG + 8, b'?');
    host.write32(regs::CONFIG, 7);
    assert_eq!(host.port_output("port0"), b"!?");
}

#[test]
fn without_multiport_port_0_just_works() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, features::SIZE);
    driver.request(&mut host, TX0, &[Buf::Out(b"hello "), Buf::Out(b"world")]);
    assert_eq!(host.port_output("port0"), b"hello world");
    driver.post(&mut host, RX0, &[Buf::In(16)]);
    driver.kick(&mut host, RX0);
    assert_eq!(driver.take(&host, RX0), None);
    host.port_input("port0", b"ls\n");
    let used = driver.take(&host, RX0).unwrap();
    assert_eq!((used.len, &used.data[..3]), (3, b"ls\n".as_slice()));
    // Control messages are nothing that this driver knows of.
    say(&mut host, &mut driver, 0, 0, 1);
    host.port_event("port0", PortEvent::Closed);
    driver.post(&mut host, CONTROL_RX, &[Buf::In(16)]);
    driver.kick(&mut host, CONTROL_RX);
    assert_eq!(driver.take(&host, CONTROL_RX), None);
}

#[test]
fn ports_are_added_named_sized_and_opened() {
    let mut host = host();
    let mut driver = start(&mut host, ALL);
    assert!(heard(&mut host, &mut driver).is_empty());
    say(&mut host, &mut driver, 0, 0, 0);
    assert!(heard(&mut host, &mut driver).is_empty(), "the driver has failed");
    say(&mut host, &mut driver, 0, 0, 1);
    assert_eq!(heard(&mut host, &mut driver), [control(0, 1, 0), control(1, 1, 0)]);
    say(&mut host, &mut driver, 0, 0, 1);
    assert!(heard(&mut host, &mut driver).is_empty(), "a port is added once");
    say(&mut host, &mut driver, 0, 3, 1);
    let resize = [control(0, 5, 0), vec![80, 0, 25, 0]].concat();
    assert_eq!(heard(&mut host, &mut driver), [control(0, 4, 1), resize, control(0, 6, 1)]);
    say(&mut host, &mut driver, 1, 3, 1);
    let name = [control(1, 7, 0), b"org.log".to_vec()].concat();
    assert_eq!(heard(&mut host, &mut driver), [name, control(1, 6, 1)], "no console");
    for (id, event) in [(2, 3), (2, 6), (u32::MAX, 3), (u32::MAX, 6), (0, 99)] {
        say(&mut host, &mut driver, id, event, 1);
    }
    driver.request(&mut host, CONTROL_TX, &[Buf::Out(b"short")]);
    assert!(heard(&mut host, &mut driver).is_empty());
}

#[test]
fn no_size_is_told_to_a_driver_that_does_not_know_sizes() {
    let mut host = host();
    let mut driver = start(&mut host, features::MULTIPORT);
    say(&mut host, &mut driver, 0, 3, 1);
    assert_eq!(heard(&mut host, &mut driver), [control(0, 4, 1), control(0, 6, 1)]);
}

#[test]
fn messages_wait_for_buffers_and_do_not_pile_up() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for _ in 0..1000 {
        say(&mut host, &mut driver, 0, 0, 1);
        say(&mut host, &mut driver, 1, 3, 1);
    }
    host.save_load();
    assert!(host.save().len() < 2000);
    for _ in 0..8 {
        driver.post(&mut host, CONTROL_RX, &[Buf::In(64)]);
    }
    driver.kick(&mut host, CONTROL_RX);
    assert_eq!(heard(&mut host, &mut driver).len(), 4, "two ports, a name, an open");
}

#[test]
fn a_message_is_cut_to_its_buffer() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    say(&mut host, &mut driver, 1, 3, 1);
    driver.post(&mut host, CONTROL_RX, &[Buf::In(4), Buf::In(7)]);
    driver.kick(&mut host, CONTROL_RX);
    let used = driver.take(&host, CONTROL_RX).unwrap();
    assert_eq!(used.data, [control(1, 7, 0), b"org".to_vec()].concat());
}

#[test]
fn input_waits_outside_until_the_port_is_open_and_has_buffers() {
    let mut host = host();
    let mut driver = start(&mut host, ALL);
    for _ in 0..2 {
        driver.post(&mut host, RX1, &[Buf::In(4)]);
    }
    driver.kick(&mut host, RX1);
    host.port_input("port1", b"abcdefghij");
    assert_eq!(driver.take(&host, RX1), None, "not open");
    assert_eq!(host.port_waiting("port1"), 10);
    host.save_load();
    say(&mut host, &mut driver, 1, 6, 1);
    assert_eq!(driver.take(&host, RX1).unwrap().data, b"abcd");
    assert_eq!(driver.take(&host, RX1).unwrap().data, b"efgh");
    assert_eq!((driver.take(&host, RX1), host.port_waiting("port1")), (None, 2));
    host.port_input("port1", b"k");
    driver.post(&mut host, RX1, &[Buf::In(4)]);
    driver.kick(&mut host, RX1);
    let used = driver.take(&host, RX1).unwrap();
    assert_eq!((used.len, &used.data[..3]), (3, b"ijk".as_slice()));
    say(&mut host, &mut driver, 1, 6, 0);
    driver.post(&mut host, RX1, &[Buf::In(4)]);
    driver.kick(&mut host, RX1);
    host.port_input("port1", b"late");
    assert_eq!(driver.take(&host, RX1), None, "closed again");
}

#[test]
fn ports_do_not_mix() {
    let mut host = host();
    let mut driver = open(&mut host);
    driver.request(&mut host, TX0, &[Buf::Out(b"zero")]);
    driver.request(&mut host, TX1, &[Buf::Out(b"one")]);
    assert_eq!((host.port_output("port0"), host.port_output("port1")), (b"zero".to_vec(), b"one".to_vec()));
    driver.post(&mut host, RX0, &[Buf::In(4)]);
    driver.post(&mut host, RX1, &[Buf::In(4)]);
    driver.kick(&mut host, RX0);
    driver.kick(&mut host, RX1);
    host.port_input("port1", b"1");
    assert_eq!(driver.take(&host, RX0), None);
    assert_eq!(driver.take(&host, RX1).unwrap().len, 1);
    assert_eq!(acknowledge(&mut host), 1);
}

#[test]
fn the_guest_hears_of_the_other_end() {
    let mut host = host();
    let mut driver = open(&mut host);
    host.port_event("port1", PortEvent::Opened);
    assert!(heard(&mut host, &mut driver).is_empty(), "it was open");
    host.port_event("port1", PortEvent::Closed);
    assert_eq!(heard(&mut host, &mut driver), [control(1, 6, 0)]);
    host.port_event("port1", PortEvent::Break);
    host.save_load();
    host.port_event("port1", PortEvent::Opened);
    assert_eq!(heard(&mut host, &mut driver), [control(1, 6, 1)]);
    // The other end stays as it is when the guest resets the device.
    host.port_event("port1", PortEvent::Closed);
    let mut driver = start(&mut host, ALL);
    say(&mut host, &mut driver, 1, 3, 1);
    assert_eq!(heard(&mut host, &mut driver).last(), Some(&control(1, 6, 0)));
}

#[test]
fn a_transmission_longer_than_a_chunk_is_complete() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, 0);
    let data: Vec<u8> = (0..150_000_u32).map(|index| index as u8).collect();
    driver.request(&mut host, TX0, &[Buf::Out(&data[..70_000]), Buf::Out(&data[70_000..])]);
    assert_eq!(host.port_output("port0"), data);
}

#[test]
fn the_most_ports_there_can_be() {
    let mut host =
        FakeHost::<Console>::new(Config { ports: 31, consoles: 31, queue_size: 8, ..Config::default() });
    assert_eq!(host.desc().ports.last().unwrap().name, "port30");
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(driver.rings.len(), 64);
    driver.request(&mut host, 63, &[Buf::Out(b"last")]);
    assert_eq!(host.port_output("port30"), b"last");
    say(&mut host, &mut driver, 30, 6, 1);
    driver.post(&mut host, 62, &[Buf::In(4)]);
    driver.kick(&mut host, 62);
    host.port_input("port30", b"in");
    assert_eq!(driver.take(&host, 62).unwrap().len, 2);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let error = |config: Config| Console::create(config).err().unwrap().path;
    assert_eq!(error(Config { queue_size: 3, ..config() }), "queue_size");
    assert_eq!(error(Config { ports: 1, ..config() }), "names");
    assert_eq!(error(Config { names: vec!["x".repeat(257)], ..config() }), "names");
}

#[test]
fn windows_and_copies_carry_the_same() {
    let run = |windows| {
        let mut host = host();
        host.set_windows(windows);
        let mut driver = open(&mut host);
        driver.request(&mut host, TX0, &[Buf::Out(b"out")]);
        driver.post(&mut host, RX0, &[Buf::In(3), Buf::In(10)]);
        driver.kick(&mut host, RX0);
        host.port_input("port0", b"seven b");
        host.ram_read(RAM_BASE, RAM_SIZE as usize)
    };
    assert!(run(true) == run(false));
}

#[test]
fn hostile_rings_do_no_harm() {
    fuzz_rings(host, &["port0", "port1"], 1, 5_000);
}

#[test]
fn random_accesses_do_no_harm() {
    host().fuzz(2, 10_000);
    host().fuzz_load(3, 200);
}
