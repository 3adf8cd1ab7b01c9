use super::*;
use crate::frame::BROADCAST;

const OTHER: Mac = [2, 0, 0, 0, 0, 9];
const GROUP: Mac = [1, 0, 0x5e, 0, 0, 1];

/// A command, and whether the device took it.
fn command(host: &mut FakeHost<Net>, driver: &mut Driver, class: u8, command: u8, data: &[u8]) -> bool {
    let request = [&[class, command], data].concat();
    let used = driver.request(host, CONTROL, &[Buf::Out(&request), Buf::In(1)]);
    assert_eq!(used.len, 1);
    match used.data[0] {
        0 => true,
        1 => false,
        other => panic!("answer {other}"),
    }
}

fn tables(unicast: &[Mac], multicast: &[Mac]) -> Vec<u8> {
    let table = |macs: &[Mac]| [&(macs.len() as u32).to_le_bytes()[..], &macs.concat()].concat();
    [table(unicast), table(multicast)].concat()
}

/// A driver that has switched promiscuity off.
fn choosy(host: &mut FakeHost<Net>) -> Driver {
    let mut driver = Driver::start(host, ALL);
    assert!(command(host, &mut driver, 0, 0, &[0]));
    driver
}

/// Whether frames to us, to another, to a group and to everybody pass.
fn admitted(host: &mut FakeHost<Net>, driver: &mut Driver) -> [bool; 4] {
    [MAC, OTHER, GROUP, BROADCAST].map(|mac| passes(host, driver, &to(mac)))
}

#[test]
fn receive_modes() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(admitted(&mut host, &mut driver), [true; 4], "until the driver says what it wants");
    let mut driver = choosy(&mut host);
    assert_eq!(admitted(&mut host, &mut driver), [true, false, false, true]);
    for (mode, on, off) in [
        (0, [true, true, true, true], [true, false, false, true]),
        (1, [true, false, true, true], [true, false, false, true]),
        (2, [true, true, false, true], [true, false, false, true]),
        (4, [false, false, false, true], [true, false, false, true]),
        (5, [true, false, false, false], [true, false, false, true]),
    ] {
        assert!(command(&mut host, &mut driver, 0, mode, &[1]));
        host.save_load();
        assert_eq!(admitted(&mut host, &mut driver), on, "mode {mode}");
        assert!(command(&mut host, &mut driver, 0, mode, &[0]));
        assert_eq!(admitted(&mut host, &mut driver), off, "mode {mode}");
    }
    assert!(command(&mut host, &mut driver, 0, 1, &[1]) && command(&mut host, &mut driver, 0, 3, &[1]));
    assert_eq!(admitted(&mut host, &mut driver), [true, false, false, true], "no group after all");
}

#[test]
fn addresses() {
    let mut host = host();
    let mut driver = choosy(&mut host);
    assert!(command(&mut host, &mut driver, 1, 0, &tables(&[OTHER], &[GROUP])));
    host.save_load();
    assert_eq!(admitted(&mut host, &mut driver), [true; 4]);
    assert!(command(&mut host, &mut driver, 1, 0, &tables(&[], &[])));
    assert_eq!(admitted(&mut host, &mut driver), [true, false, false, true]);
    assert!(command(&mut host, &mut driver, 1, 1, &OTHER));
    assert_eq!(admitted(&mut host, &mut driver), [false, true, false, true]);
    assert_eq!(host.read8(regs::CONFIG + 5), 9);
    // More than a table holds: all are let in.
    assert!(command(&mut host, &mut driver, 1, 0, &tables(&[[4; 6]; 65], &[])));
    assert_eq!(admitted(&mut host, &mut driver), [true, true, false, true]);
    assert!(command(&mut host, &mut driver, 1, 0, &tables(&[], &[[5; 6]; 65])));
    assert_eq!(admitted(&mut host, &mut driver), [false, true, true, true]);
    let mut short = tables(&[OTHER], &[GROUP]);
    short.pop();
    assert!(!command(&mut host, &mut driver, 1, 0, &short));
    assert!(!command(&mut host, &mut driver, 1, 0, &u32::MAX.to_le_bytes()));
}

#[test]
fn vlans() {
    let mut host = host();
    let mut driver = choosy(&mut host);
    let mut pass = |host: &mut FakeHost<Net>, id| passes(host, &mut driver, &tagged(id, frame(50)));
    assert!(!pass(&mut host, 7));
    let mut other = Driver::start(&mut host, ALL);
    assert!(
        command(&mut host, &mut other, 2, 0, &[7, 0]) && command(&mut host, &mut other, 2, 0, &[0xff, 0x0f])
    );
    host.save_load();
    let mut pass = |host: &mut FakeHost<Net>, id| passes(host, &mut other, &tagged(id, frame(50)));
    // Also in promiscuous mode, and whatever the priority is.
    assert!(pass(&mut host, 7) && pass(&mut host, 0xe007) && pass(&mut host, 0xfff) && !pass(&mut host, 8));
    assert!(passes(&mut host, &mut other, &frame(50)), "no tag");
    assert!(command(&mut host, &mut other, 2, 1, &[7, 0]));
    assert!(!passes(&mut host, &mut other, &tagged(7, frame(50))));
    assert!(!command(&mut host, &mut other, 2, 0, &[0, 0x10]));
    let mut plain = Driver::start(&mut host, ALL & !features::CTRL_VLAN);
    assert!(passes(&mut host, &mut plain, &tagged(7, frame(50))), "nobody asked for a filter");
}

#[test]
fn offloads_can_be_changed() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL & !features::GUEST_USO6);
    let bits = |host: &FakeHost<Net>| host.offload("net").unwrap().bits();
    let set = |host: &mut FakeHost<Net>, driver: &mut Driver, wanted: u64| {
        command(host, driver, 5, 0, &wanted.to_le_bytes())
    };
    assert_eq!(bits(&host), 0x1f);
    assert!(set(&mut host, &mut driver, features::GUEST_CSUM | features::GUEST_TSO6));
    assert_eq!(bits(&host), 0b101);
    host.save_load();
    // What was on its way is dropped, what comes behind it is not.
    post(&mut host, &mut driver, &[4000]);
    arrive(&mut host, segments(GSO_TCPV4), &frame(3000));
    assert!(passes(&mut host, &mut driver, &frame(60)));
    assert!(!set(&mut host, &mut driver, features::GUEST_TSO4), "without checksums");
    assert!(!set(&mut host, &mut driver, features::GUEST_CSUM | features::GUEST_USO6), "not negotiated");
    assert!(!set(&mut host, &mut driver, features::GUEST_CSUM | features::MRG_RXBUF), "no offload");
    assert_eq!(bits(&host), 0b101);
    assert!(set(&mut host, &mut driver, 0));
    assert_eq!(host.offload("net"), Some(Offload::none(1500)));
}

#[test]
fn commands_that_cannot_be_are_answered_so() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for (class, number, data) in [
        (0, 6, &[1][..]),
        (0, 0, &[]),
        (0, 0, &[2]),
        (1, 0, &[]),
        (1, 1, &[1; 5]),
        (1, 2, &[0; 8]),
        (2, 0, &[1]),
        (3, 1, &[]),
        (4, 0, &[1, 0]),
        (5, 0, &[0; 7]),
        (9, 9, &[0; 100]),
    ] {
        assert!(!command(&mut host, &mut driver, class, number, data), "{class} {number} {data:?}");
    }
    // Without the feature there is no command.
    let mut bare = Driver::start(&mut host, features::CTRL_VQ);
    let none = tables(&[], &[]);
    for (class, number, data) in [
        (0, 0, &[1][..]),
        (0, 2, &[1]),
        (1, 0, &none),
        (1, 1, &MAC),
        (2, 0, &[1, 0]),
        (3, 0, &[]),
        (5, 0, &[0; 8]),
    ] {
        assert!(!command(&mut host, &mut bare, class, number, data), "{class} {number}");
    }
    for bufs in [&[Buf::Out(&[0]), Buf::In(1)][..], &[Buf::Out(&[0, 0, 1])], &[Buf::In(1)]] {
        let mut driver = Driver::start(&mut host, ALL);
        driver.post(&mut host, CONTROL, bufs);
        driver.kick(&mut host, CONTROL);
        assert!(needs_reset(&mut host), "{bufs:?}");
    }
}
