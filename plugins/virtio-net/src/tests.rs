//! The device on a fake host: both directions, every command, and drivers that are wrong or hostile.

mod control;
mod receive;
mod transmit;

use super::*;
use reprise_plugin_api::{
    net::{GSO_TCPV4, HEADER_BYTES, Header, NEEDS_CSUM},
    testkit::FakeHost,
    virtio::{
        driver::{Buf, Driver, acknowledge, fuzz_rings, negotiate, offered},
        features::VERSION_1,
        regs, status,
    },
};

const ALL: u64 = u64::MAX;
const MAC: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn config() -> Config {
    Config { queue_size: 16, ..Config::default() }
}

fn host() -> FakeHost<Net> {
    FakeHost::new(config())
}

/// A frame to the guest with `len` bytes behind the Ethernet header, none of them alike.
fn frame(len: usize) -> Vec<u8> {
    let mut out = [&MAC[..], &[2, 0, 0, 0, 0, 1], &[0x08, 0x00]].concat();
    out.extend((0..len).map(|at| (at * 7 + at / 256) as u8));
    out
}

fn to(mac: Mac) -> Vec<u8> {
    let mut out = frame(50);
    out[..6].copy_from_slice(&mac);
    out
}

/// With a VLAN tag behind the addresses.
fn tagged(id: u16, mut frame: Vec<u8>) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

fn with(header: Header, frame: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], frame].concat()
}

fn plain(frame: &[u8]) -> Vec<u8> {
    with(Header::default(), frame)
}

fn segments(gso_type: u8) -> Header {
    Header {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    }
}

fn arrive(host: &mut FakeHost<Net>, header: Header, frame: &[u8]) {
    host.port_input("net", &with(header, frame));
}

fn needs_reset(host: &mut FakeHost<Net>) -> bool {
    host.read32(regs::STATUS) & status::NEEDS_RESET != 0
}

/// Buffers for the device to write, and a notification.
fn post(host: &mut FakeHost<Net>, driver: &mut Driver, rooms: &[u32]) {
    for room in rooms {
        driver.post(host, RECEIVE, &[Buf::In(*room)]);
    }
    driver.kick(host, RECEIVE);
}

/// The next frame that the driver got, whatever it was put into.
fn received(host: &FakeHost<Net>, driver: &mut Driver) -> Option<(Header, Vec<u8>)> {
    let first = driver.take(host, RECEIVE)?;
    let mut data = first.data[..first.len as usize].to_vec();
    let header = Header::split(&data).expect("a header").0;
    for _ in 1..header.num_buffers {
        let next = driver.take(host, RECEIVE).expect("all buffers come at once");
        data.extend(&next.data[..next.len as usize]);
    }
    Some((header, data.split_off(HEADER_BYTES)))
}

/// Whether a plain frame comes through; there must be buffers.
fn passes(host: &mut FakeHost<Net>, driver: &mut Driver, frame: &[u8]) -> bool {
    if driver.rings[RECEIVE].next_avail == driver.rings[RECEIVE].next_used {
        post(host, driver, &[3000]);
    }
    arrive(host, Header::default(), frame);
    let got = received(host, driver);
    assert!(got.as_ref().is_none_or(|(_, got)| got == frame), "another frame came");
    got.is_some()
}

#[test]
fn configuration_space() {
    let mut host = FakeHost::<Net>::new(Config {
        mac: "02:00:00:00:00:7f".into(),
        mtu: 9000,
        speed_mbps: 0x0102_0304,
        ..config()
    });
    assert_eq!(host.read32(regs::DEVICE_ID), 1);
    let bytes: Vec<u8> = (0..18).map(|at| host.read8(regs::CONFIG + at)).collect();
    let expected = [2, 0, 0, 0, 0, 0x7f, 1, 0, 1, 0, 0x28, 0x23, 4, 3, 2, 1, 1, 0];
    assert_eq!(bytes, expected, "mac, status, max_virtqueue_pairs, mtu, speed, duplex");
    host.write8(regs::CONFIG, 0xff);
    assert_eq!(host.read8(regs::CONFIG), 2, "the address is changed by the control queue");
    let queues = (0..).take_while(|queue| {
        host.write32(regs::QUEUE_SEL, *queue);
        host.read32(regs::QUEUE_NUM_MAX) != 0
    });
    assert_eq!(queues.count(), 3);
}

#[test]
fn features_follow_the_options() {
    let transport = virtio::features::TRANSPORT;
    assert_eq!(offered(&mut host()) & !transport, features::ALWAYS | features::OFFLOADS);
    let mut plainest = FakeHost::<Net>::new(Config { offloads: false, ..config() });
    assert_eq!(offered(&mut plainest) & !transport, features::ALWAYS);
    // The numbers are the specification's.
    assert_eq!(features::OFFLOADS, 0b11_1011_1000_0111 | 0b111 << 54);
    assert_eq!(features::ALWAYS, 1 << 3 | 1 << 5 | 0b1_0111_1111 << 15 | 1 << 63);
}

#[test]
fn a_feature_without_what_it_requires_is_refused() {
    let mut host = host();
    for alone in [
        features::GUEST_TSO4,
        features::GUEST_USO6,
        features::GUEST_CSUM | features::GUEST_ECN,
        features::HOST_TSO6,
        features::HOST_USO,
        features::CTRL_RX,
        features::CTRL_GUEST_OFFLOADS,
        features::GUEST_ANNOUNCE,
    ] {
        assert!(!negotiate(&mut host, VERSION_1 | alone), "{alone:#x}");
    }
    assert!(negotiate(&mut host, VERSION_1));
    assert!(negotiate(&mut host, VERSION_1 | features::CSUM | features::HOST_TSO6 | features::HOST_ECN));
}

#[test]
fn options_are_checked() {
    let mac = |text: &str| Net::create(Config { mac: text.into(), ..config() }).err();
    assert!(mac("02:00:00:00:00:01").is_none());
    for bad in
        ["", "02:00:00:00:00", "02:00:00:00:00:0g", "2:0:0:0:0:1", "01:00:5e:00:00:01", "00:00:00:00:00:00"]
    {
        assert_eq!(mac(bad).map(|error| error.path), Some("mac".to_owned()), "{bad}");
    }
    assert!(Net::create(Config { queue_size: 48, ..config() }).is_err());
}

#[test]
fn the_cable() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let status = |host: &mut FakeHost<Net>| (host.read8(regs::CONFIG + 6), acknowledge(host));
    assert_eq!(status(&mut host), (1, 0), "link up");
    host.port_event("net", PortEvent::Opened);
    assert_eq!(status(&mut host), (1, 0), "it was there");
    host.port_event("net", PortEvent::Closed);
    assert_eq!(status(&mut host), (0, 2));
    driver.request(&mut host, TRANSMIT, &[Buf::Out(&plain(&frame(50)))]);
    assert!(host.port_frames("net").is_empty(), "there is no cable");
    acknowledge(&mut host);
    host.save_load();
    host.port_event("net", PortEvent::Opened);
    assert_eq!(status(&mut host), (3, 2), "up, and nobody knows us there");
    let used = driver.request(&mut host, CONTROL, &[Buf::Out(&[3, 0]), Buf::In(1)]);
    assert_eq!((used.data[0], host.read8(regs::CONFIG + 6)), (0, 1));
    host.port_event("net", PortEvent::Break);
    // A driver without ANNOUNCE is not asked, and a reset leaves the cable where it is.
    host.port_event("net", PortEvent::Closed);
    Driver::start(&mut host, features::STATUS);
    assert_eq!(status(&mut host).0, 0);
    host.port_event("net", PortEvent::Opened);
    assert_eq!(status(&mut host), (1, 2));
}

#[test]
fn a_reset_forgets_everything_but_the_cable() {
    let mut host = host();
    let fresh = host.save();
    let mut driver = Driver::start(&mut host, ALL);
    let set_mac = [&[1, 1][..], &[2, 0, 0, 0, 0, 9]].concat();
    for command in [&set_mac[..], &[0, 0, 0], &[2, 0, 7, 0]] {
        let used = driver.request(&mut host, CONTROL, &[Buf::Out(command), Buf::In(1)]);
        assert_eq!(used.data, [0], "{command:?}");
    }
    assert_eq!(host.read8(regs::CONFIG + 5), 9);
    post(&mut host, &mut driver, &[100]);
    arrive(&mut host, Header::default(), &to([2, 0, 0, 0, 0, 9])[..]);
    arrive(&mut host, Header::default(), &[&[2, 0, 0, 0, 0, 9][..], &[0; 1000]].concat());
    assert_ne!(host.save(), fresh);
    assert_eq!(host.offload("net").map(|offload| offload.bits()), Some(0x3f));
    host.reset(Reset::Warm);
    assert!(host.save() == fresh, "as new");
    assert_eq!(host.offload("net"), Some(Offload::none(1500)));
}

#[test]
fn hostile_drivers_and_records_do_no_harm() {
    for seed in 0..6 {
        fuzz_rings(host, &["net"], seed, 500);
        host().fuzz(seed, 2000);
        host().fuzz_load(seed, 200);
    }
    let plainest = || FakeHost::<Net>::new(Config { offloads: false, mtu: 68, ..config() });
    fuzz_rings(plainest, &["net"], 7, 500);
}
