use super::*;
use reprise_plugin_api::net::{DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV6, GSO_UDP_L4, checksum};

const NO_MERGE: u64 = ALL & !features::MRG_RXBUF;

fn header_of_one() -> Header {
    Header { num_buffers: 1, ..Header::default() }
}

#[test]
fn frames_wait_for_buffers_and_keep_their_order() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for len in 50..150 {
        arrive(&mut host, Header::default(), &frame(len));
    }
    assert_eq!((host.port_waiting("net"), received(&host, &mut driver)), (100, None));
    let mut got = Vec::new();
    while got.len() < 100 {
        post(&mut host, &mut driver, &[2000; 7]);
        host.save_load();
        got.extend(std::iter::from_fn(|| received(&host, &mut driver)));
    }
    let expected: Vec<_> = (50..150).map(|len| (header_of_one(), frame(len))).collect();
    assert!(got == expected);
    // Buffers that wait for frames are filled as these come.
    arrive(&mut host, Header::default(), &frame(9));
    assert_eq!(received(&host, &mut driver), Some((header_of_one(), frame(9))));
}

#[test]
fn nothing_is_taken_before_the_driver_runs() {
    let mut host = host();
    assert!(negotiate(&mut host, VERSION_1));
    arrive(&mut host, Header::default(), &frame(50));
    assert_eq!(host.port_waiting("net"), 1);
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(host.port_waiting("net"), 1);
    post(&mut host, &mut driver, &[2000]);
    assert_eq!(received(&host, &mut driver), Some((header_of_one(), frame(50))));
}

#[test]
fn a_long_frame_takes_several_buffers_and_waits_for_them() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let long = frame(4000);
    arrive(&mut host, segments(GSO_TCPV4), &long);
    arrive(&mut host, Header::default(), &frame(60));
    post(&mut host, &mut driver, &[1500, 1500]);
    assert_eq!(received(&host, &mut driver), None);
    host.save_load();
    // 12 + 14 + 4000 bytes: exactly.
    post(&mut host, &mut driver, &[1000, 26]);
    let expected = Header { num_buffers: 4, ..segments(GSO_TCPV4) };
    assert_eq!(received(&host, &mut driver), Some((expected, long)));
    assert_eq!(received(&host, &mut driver), None);
    post(&mut host, &mut driver, &[86]);
    assert_eq!(received(&host, &mut driver), Some((header_of_one(), frame(60))));
}

#[test]
fn a_buffer_left_over_is_used_when_the_next_frame_comes() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    // Not for us: its buffer is already in our hands.
    driver.request(&mut host, CONTROL, &[Buf::Out(&[0, 0, 0]), Buf::In(1)]);
    arrive(&mut host, Header::default(), &to([2, 0, 0, 0, 0, 9]));
    post(&mut host, &mut driver, &[500]);
    assert_eq!((host.port_waiting("net"), received(&host, &mut driver)), (0, None));
    host.save_load();
    acknowledge(&mut host);
    arrive(&mut host, Header::default(), &frame(60));
    assert_eq!(received(&host, &mut driver), Some((header_of_one(), frame(60))));
    assert_eq!(acknowledge(&mut host), 1);
}

#[test]
fn a_frame_longer_than_the_whole_ring_is_dropped() {
    let mut host = host();
    let mut driver = Driver::start_sized(&mut host, ALL, 4);
    arrive(&mut host, segments(GSO_TCPV4), &frame(5000));
    arrive(&mut host, Header::default(), &frame(60));
    post(&mut host, &mut driver, &[1000; 3]);
    assert_eq!(received(&host, &mut driver), None);
    post(&mut host, &mut driver, &[1000]);
    assert_eq!(received(&host, &mut driver), Some((header_of_one(), frame(60))));
    assert!(!needs_reset(&mut host));
}

#[test]
fn without_merging_a_frame_has_one_chain() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, NO_MERGE);
    let rooms = [Buf::In(12), Buf::In(1000), Buf::In(65_562)];
    driver.post(&mut host, RECEIVE, &rooms);
    driver.kick(&mut host, RECEIVE);
    arrive(&mut host, segments(GSO_TCPV4), &frame(60_000));
    let expected = Header { num_buffers: 1, ..segments(GSO_TCPV4) };
    assert_eq!(received(&host, &mut driver), Some((expected, frame(60_000))));
}

#[test]
fn a_buffer_that_must_be_longer_is_a_violation() {
    let broken = |wanted, room: u32, header, frame: &[u8]| {
        let mut host = host();
        let mut driver = Driver::start(&mut host, wanted);
        post(&mut host, &mut driver, &[room]);
        arrive(&mut host, header, frame);
        needs_reset(&mut host)
    };
    let plain = NO_MERGE & !features::GUEST_OFFLOADS & !features::CTRL_GUEST_OFFLOADS;
    assert!(broken(plain, 1525, Header::default(), &frame(1500)));
    assert!(!broken(plain, 1526, Header::default(), &frame(1500)));
    assert!(broken(NO_MERGE, 1526, segments(GSO_TCPV4), &frame(3000)));
    assert!(broken(ALL, 11, Header::default(), &frame(60)));
    assert!(!broken(ALL, 12, Header::default(), &frame(60)));
    // As long as it must be, and the frame is longer: not the driver's mistake.
    assert!(!broken(plain, 1526, Header::default(), &tagged(1, frame(1500))));
}

#[test]
fn a_checksum_is_left_to_the_driver_only_if_it_makes_them() {
    let got = |wanted, flags| {
        let mut host = host();
        let mut driver = Driver::start(&mut host, wanted);
        post(&mut host, &mut driver, &[2000]);
        let header = Header { flags, csum_start: 34, csum_offset: 16, ..Header::default() };
        arrive(&mut host, header, &frame(100));
        received(&host, &mut driver).expect("it came")
    };
    let (header, same) = got(ALL, NEEDS_CSUM);
    assert_eq!((header.flags, header.csum_start, header.csum_offset, same), (NEEDS_CSUM, 34, 16, frame(100)));
    assert_eq!(got(ALL, DATA_VALID | 0x40).0.flags, DATA_VALID);
    let (header, made) = got(features::MRG_RXBUF, NEEDS_CSUM);
    assert_eq!(header, header_of_one());
    // With the sum in its place, all sums to what the place held before: the pseudo header's.
    let before = u16::from_be_bytes([frame(100)[50], frame(100)[51]]);
    assert_eq!(checksum(&made[34..]), before);
    assert_eq!(got(features::MRG_RXBUF, DATA_VALID).0, header_of_one());
}

#[test]
fn what_the_driver_does_not_take_is_dropped() {
    let v6 = {
        let mut frame = frame(3000);
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame
    };
    let comes = |wanted: u64, header: Header, frame: &[u8]| {
        let mut host = host();
        let mut driver = Driver::start(&mut host, wanted);
        post(&mut host, &mut driver, &[16_000]);
        arrive(&mut host, header, frame);
        assert_eq!(host.port_waiting("net"), 0);
        received(&host, &mut driver).is_some()
    };
    let v4 = frame(3000);
    for (gso, feature, frame) in [
        (GSO_TCPV4, features::GUEST_TSO4, &v4),
        (GSO_TCPV6, features::GUEST_TSO6, &v6),
        (GSO_UDP_L4, features::GUEST_USO4, &v4),
        (GSO_UDP_L4, features::GUEST_USO6, &v6),
    ] {
        assert!(comes(features::MRG_RXBUF | features::GUEST_CSUM | feature, segments(gso), frame), "{gso}");
        assert!(!comes(ALL & !feature & !features::GUEST_ECN, segments(gso), frame), "{gso}");
    }
    assert!(comes(ALL, segments(GSO_TCPV4 | GSO_ECN), &v4));
    assert!(!comes(ALL & !features::GUEST_ECN, segments(GSO_TCPV4 | GSO_ECN), &v4));
    // Nor what makes no sense, wherever it comes from.
    assert!(!comes(ALL, Header { gso_size: 0, ..segments(GSO_TCPV4) }, &v4));
    assert!(!comes(ALL, Header { csum_start: 5000, ..segments(GSO_NONE) }, &v4[..100]));
    assert!(!comes(ALL, Header::default(), &v4[..13]));
}

#[test]
fn no_packet_is_longer_than_the_mtu() {
    let mut host = FakeHost::<Net>::new(Config { mtu: 2000, ..config() });
    let mut driver = Driver::start(&mut host, ALL & !features::CTRL_VLAN);
    post(&mut host, &mut driver, &[16_000]);
    assert!(passes(&mut host, &mut driver, &frame(2000)) && !passes(&mut host, &mut driver, &frame(2001)));
    assert!(passes(&mut host, &mut driver, &tagged(5, frame(2000))));
    assert!(!passes(&mut host, &mut driver, &tagged(5, frame(2001))));
    assert_eq!(host.offload("net").unwrap().mtu, 2000);
    // A driver that is told nothing expects what is usual.
    let mut driver = Driver::start(&mut host, features::MRG_RXBUF);
    assert!(passes(&mut host, &mut driver, &frame(1500)) && !passes(&mut host, &mut driver, &frame(1501)));
    assert_eq!(host.offload("net"), Some(Offload::none(1500)));
}

#[test]
fn a_queue_that_is_taken_away_takes_its_buffers_with_it() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    arrive(&mut host, segments(GSO_TCPV4), &frame(4000));
    post(&mut host, &mut driver, &[1500]);
    host.write32(regs::QUEUE_SEL, RECEIVE as u32);
    host.write32(regs::QUEUE_RESET, 1);
    driver.enable(&mut host, RECEIVE);
    // The frame is still to come, into new buffers.
    post(&mut host, &mut driver, &[3000, 3000]);
    let expected = Header { num_buffers: 2, ..segments(GSO_TCPV4) };
    assert_eq!(received(&host, &mut driver), Some((expected, frame(4000))));
}

#[test]
fn buffers_of_a_frame_are_one_interrupt() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    post(&mut host, &mut driver, &[1000; 8]);
    driver.set_used_event(&mut host, RECEIVE, 3);
    arrive(&mut host, segments(GSO_TCPV4), &frame(2500));
    assert_eq!((driver.used_index(&host, RECEIVE), acknowledge(&mut host)), (3, 0));
    arrive(&mut host, segments(GSO_TCPV4), &frame(2500));
    assert_eq!((driver.used_index(&host, RECEIVE), acknowledge(&mut host)), (6, 1));
}
