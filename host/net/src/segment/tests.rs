use super::*;

const TCP: u8 = 6;
const UDP_PROTOCOL: u8 = 17;

/// A frame of `payload` over IPv4 (with four bytes of options) or IPv6, the sum of the pseudo header in its place.
fn frame(is_ipv6: bool, protocol: u8, payload: &[u8], tag: bool) -> (Header, Vec<u8>) {
    let mut out = vec![2; 12];
    if tag {
        out.extend([0x81, 0, 0, 7]);
    }
    out.extend(if is_ipv6 { [0x86, 0xdd] } else { [8, 0] });
    let ip = out.len();
    if is_ipv6 {
        out.extend([0x60, 0, 0, 0, 0xff, 0xff, protocol, 64]);
        out.extend((0..32).map(|byte| byte * 3));
    } else {
        out.extend([0x46, 0, 0xff, 0xff, 0x12, 0xff, 0x40, 0, 64, protocol, 0xaa, 0xaa]);
        out.extend([10, 0, 2, 15, 10, 0, 2, 2, 1, 1, 1, 0]);
    }
    let transport = out.len();
    if protocol == TCP {
        // Ports, sequence number just before it wraps, acknowledgement, 24 bytes, all flags.
        out.extend([
            1, 2, 3, 4, 0xff, 0xff, 0xff, 0x00, 9, 9, 9, 9, 0x60, 0xff, 0, 100, 0, 0, 0, 0, 1, 1, 1, 0,
        ]);
    } else {
        out.extend([1, 2, 3, 4, 0xff, 0xff, 0, 0]);
    }
    out.extend(payload);
    let csum_offset = if protocol == TCP { 16 } else { 6 };
    let length = (out.len() - transport) as u64;
    let addresses = if is_ipv6 { &out[ip + 8..ip + 40] } else { &out[ip + 12..ip + 20] };
    let pseudo = !fold(sum(u64::from(protocol) + length, addresses));
    put(&mut out, transport + csum_offset, pseudo);
    let header = Header {
        flags: NEEDS_CSUM,
        csum_start: transport as u16,
        csum_offset: csum_offset as u16,
        ..Header::default()
    };
    (header, out)
}

/// Everything in a whole frame is as it must be; its payload.
fn checked(frame: &[u8], is_ipv6: bool, protocol: u8, ip: usize) -> &[u8] {
    let packet = &frame[ip..];
    let (addresses, transport) = if is_ipv6 {
        assert_eq!(usize::from(get(packet, 4)), packet.len() - 40);
        (&packet[8..40], &packet[40..])
    } else {
        assert_eq!(usize::from(get(packet, 2)), packet.len());
        assert_eq!(fold(sum(0, &packet[..24])), 0, "checksum of the header");
        (&packet[12..20], &packet[24..])
    };
    let total = sum(u64::from(protocol) + transport.len() as u64, addresses);
    assert_eq!(fold(sum(total, transport)), 0, "checksum");
    if protocol == TCP {
        return &transport[24..];
    }
    assert_eq!(usize::from(get(transport, 4)), transport.len());
    assert_ne!(get(transport, 6), 0, "no checksum");
    &transport[8..]
}

#[test]
fn segments_are_cut_and_whole() {
    let payload: Vec<u8> = (0..10_000u32).map(|at| (at * 7 + at / 256) as u8).collect();
    for (gso, is_ipv6, protocol) in [
        (GSO_TCPV4 | GSO_ECN, false, TCP),
        (GSO_TCPV6, true, TCP),
        (GSO_UDP_L4, false, UDP_PROTOCOL),
        (GSO_UDP_L4, true, UDP_PROTOCOL),
    ] {
        for (tag, size) in [(false, 1448), (true, 1000), (false, 10_000), (false, 9999), (false, 20_000)] {
            let (header, frame) = frame(is_ipv6, protocol, &payload, tag);
            let mut got = Vec::new();
            let header = Header { gso_type: gso, gso_size: size, ..header };
            assert!(segment(&header, &frame, |whole| got.push(whole.to_vec())));
            assert_eq!(got.len(), payload.len().div_ceil(size.into()));
            let ip = if tag { 18 } else { 14 };
            let pieces: Vec<&[u8]> = got.iter().map(|whole| checked(whole, is_ipv6, protocol, ip)).collect();
            assert!(pieces.concat() == payload, "{gso} {size}");
            let start = usize::from(header.csum_start);
            for (index, whole) in got.iter().enumerate() {
                if protocol == TCP {
                    let sequence = u32::from_be_bytes(whole[start + 4..start + 8].try_into().unwrap());
                    assert_eq!(sequence, 0xffff_ff00u32.wrapping_add((index * usize::from(size)) as u32));
                    let (first, last) = (index == 0, index + 1 == got.len());
                    let flags = 0x76 | if first { 0x80 } else { 0 } | if last { 0x09 } else { 0 };
                    assert_eq!(whole[start + 13], flags, "segment {index}");
                }
                if !is_ipv6 {
                    assert_eq!(get(whole, ip + 4), 0x12ffu16.wrapping_add(index as u16));
                }
            }
        }
    }
}

#[test]
fn a_frame_does_not_become_a_flood() {
    let count = |gso_type: u8, gso_size: u16, payload: usize| {
        let (is_ipv6, protocol) = if gso_type == GSO_UDP_L4 { (true, UDP_PROTOCOL) } else { (false, TCP) };
        let (header, frame) = frame(is_ipv6, protocol, &vec![1; payload], false);
        let mut count = 0;
        let taken = segment(&Header { gso_type, gso_size, ..header }, &frame, |_| count += 1);
        assert_eq!(taken, count > 0);
        count
    };
    for gso in [GSO_TCPV4, GSO_UDP_L4] {
        assert_eq!(count(gso, 1, 65_000), 0);
        assert_eq!(count(gso, 31, 65_000), 0);
        assert_eq!(count(gso, 1, MOST), MOST);
        assert_eq!(count(gso, 1, MOST + 1), 0);
        assert_eq!(count(gso, 48, 65_000), 1355, "as small as Linux makes them");
    }
}

#[test]
fn a_single_frame_is_passed_on_with_its_checksum() {
    let (header, frame) = frame(true, UDP_PROTOCOL, b"hello", false);
    let mut got = Vec::new();
    assert!(segment(&Header::default(), &frame, |whole| got.push(whole.to_vec())));
    assert_eq!(got[0], frame, "nothing was left to do");
    let mut sent = frame.clone();
    put(&mut sent, 14 + 4, 13);
    put(&mut sent, 14 + 40 + 4, 13);
    // The pseudo header's sum does not cover the two lengths in the headers that were just set.
    assert!(segment(&header, &sent, |whole| got.push(whole.to_vec())));
    assert_eq!(checked(&got[1], true, UDP_PROTOCOL, 14), b"hello");
}

#[test]
fn what_cannot_be_is_refused() {
    let (header, good) = frame(false, TCP, &[5; 100], false);
    let good_header = Header { gso_type: GSO_TCPV4, gso_size: 10, ..header };
    let refused = |header: Header, frame: &[u8]| !segment(&header, frame, |_| panic!("a frame came out"));
    assert!(segment(&good_header, &good, |_| ()));
    assert!(refused(Header { gso_type: GSO_TCPV6, ..good_header }, &good));
    assert!(refused(Header { gso_type: 3, ..good_header }, &good));
    assert!(refused(Header { gso_size: 0, ..good_header }, &good));
    assert!(refused(Header { csum_start: 30, ..good_header }, &good));
    assert!(refused(Header { csum_start: 0xffff, ..good_header }, &good));
    assert!(refused(Header { csum_start: 0xffff, gso_type: 0, ..good_header }, &good));
    // Whatever is cut off or changed: a refusal or frames, never a panic.
    for len in 0..good.len() {
        let _ = segment(&good_header, &good[..len], |_| ());
    }
    for (at, value) in (0..80).flat_map(|at| [0, 0x10, 0x4f, 0xf0, 0xff].map(|value| (at, value))) {
        let mut bad = good.clone();
        bad[at] = value;
        for gso in [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4] {
            let _ = segment(&Header { gso_type: gso, ..good_header }, &bad, |_| ());
        }
    }
}
