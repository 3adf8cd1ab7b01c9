use super::*;
use reprise_plugin_api::net::{DATA_VALID, GSO_ECN, GSO_TCPV6, GSO_UDP_L4, MAX_BYTES};

fn sent(host: &mut FakeHost<Net>) -> Vec<(Header, Vec<u8>)> {
    let split = |data: Vec<u8>| {
        let (header, frame) = Header::split(&data).expect("a header");
        (header, frame.to_vec())
    };
    host.port_frames("net").into_iter().map(split).collect()
}

/// Whether the driver may send this.
fn may_send(wanted: u64, data: &[u8]) -> bool {
    let mut host = host();
    let mut driver = Driver::start(&mut host, wanted);
    driver.post(&mut host, TRANSMIT, &[Buf::Out(data)]);
    driver.kick(&mut host, TRANSMIT);
    let came_back = driver.take(&host, TRANSMIT).is_some();
    assert_eq!(came_back, !needs_reset(&mut host));
    assert_eq!(sent(&mut host).len(), usize::from(came_back));
    came_back
}

#[test]
fn a_frame_goes_out_as_it_is() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let frame = frame(1500);
    let used = driver.request(&mut host, TRANSMIT, &[Buf::Out(&plain(&frame))]);
    assert_eq!(used.len, 0);
    assert_eq!(sent(&mut host), [(Header::default(), frame.clone())]);
    assert_eq!(acknowledge(&mut host), 1);
    // In any pieces.
    let data = plain(&frame);
    driver.request(
        &mut host,
        TRANSMIT,
        &[Buf::Out(&data[..5]), Buf::Out(&data[5..13]), Buf::Out(&data[13..])],
    );
    driver.post_indirect(&mut host, TRANSMIT, &[Buf::Out(&data[..12]), Buf::Out(&data[12..])]);
    driver.kick(&mut host, TRANSMIT);
    assert_eq!(sent(&mut host), vec![(Header::default(), frame); 2]);
}

#[test]
fn segments_go_out_as_one_frame() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let long = frame(65_535);
    for gso in [GSO_TCPV4, GSO_TCPV6, GSO_TCPV4 | GSO_ECN, GSO_UDP_L4] {
        // What only a device may say is not passed on.
        let header = Header { flags: NEEDS_CSUM | DATA_VALID | 0x80, num_buffers: 7, ..segments(gso) };
        driver.request(&mut host, TRANSMIT, &[Buf::Out(&with(header, &long))]);
        assert_eq!(sent(&mut host), [(segments(gso), long.clone())]);
    }
    let only = Header { gso_type: 0, gso_size: 0, ..segments(0) };
    driver.request(&mut host, TRANSMIT, &[Buf::Out(&with(only, &frame(60)))]);
    assert_eq!(sent(&mut host), [(only, frame(60))]);
}

#[test]
fn what_was_not_negotiated_is_a_violation() {
    let (csum, short) = (features::CSUM, frame(100));
    let send = |wanted, header| may_send(wanted, &with(header, &short));
    let only_csum = Header { gso_type: 0, gso_size: 0, ..segments(0) };
    assert!(!send(0, only_csum) && send(csum, only_csum));
    for (gso, feature) in
        [(GSO_TCPV4, features::HOST_TSO4), (GSO_TCPV6, features::HOST_TSO6), (GSO_UDP_L4, features::HOST_USO)]
    {
        assert!(!send(ALL & !feature & !features::HOST_ECN, segments(gso)), "{gso}");
        assert!(send(csum | feature, segments(gso)), "{gso}");
    }
    assert!(!send(ALL & !features::HOST_ECN, segments(GSO_TCPV4 | GSO_ECN)));
}

#[test]
fn headers_that_make_no_sense_are_violations() {
    let short = frame(100);
    let send = |header| may_send(ALL, &with(header, &short));
    assert!(send(segments(GSO_TCPV4)));
    assert!(!send(Header { flags: 0, ..segments(GSO_TCPV4) }), "segments need checksums");
    assert!(!send(Header { gso_size: 0, ..segments(GSO_TCPV4) }));
    assert!(
        !send(segments(2))
            && !send(segments(3))
            && !send(segments(GSO_UDP_L4 | GSO_ECN))
            && !send(segments(GSO_ECN))
    );
    assert!(send(Header { csum_start: 100, csum_offset: 12, ..segments(GSO_TCPV4) }));
    assert!(!send(Header { csum_start: 100, csum_offset: 13, ..segments(GSO_TCPV4) }));
    assert!(!send(Header { csum_start: 0xffff, csum_offset: 0xffff, ..segments(GSO_TCPV4) }));
    assert!(!may_send(ALL, &[0; HEADER_BYTES - 1]), "not even a header");
    assert!(may_send(ALL, &vec![0; MAX_BYTES]));
    assert!(!may_send(ALL, &vec![0; MAX_BYTES + 1]), "longer than any packet");
}

#[test]
fn a_frame_without_addresses_goes_nowhere() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for len in [0, 13] {
        driver.request(&mut host, TRANSMIT, &[Buf::Out(&plain(&vec![0xff; len]))]);
    }
    assert!(sent(&mut host).is_empty());
    driver.request(&mut host, TRANSMIT, &[Buf::Out(&plain(&[0xff; 14]))]);
    assert_eq!(sent(&mut host).len(), 1);
}
