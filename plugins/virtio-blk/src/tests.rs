use super::*;
use reprise_plugin_api::{
    Size,
    testkit::{FakeHost, RAM_BASE, RAM_SIZE},
    virtio::{
        driver::{Buf, Desc, Driver, Used, acknowledge, fuzz_rings, offered},
        features::RING_RESET,
        regs, status,
    },
};

const ALL: u64 = u64::MAX;
const SECTORS: u64 = 64;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

fn config() -> Config {
    Config { queue_size: 16, queues: 1 }
}

/// Sector N is full of N.
fn image() -> Vec<u8> {
    (0..SECTORS * SECTOR).map(|at| (at / SECTOR) as u8).collect()
}

fn bare() -> FakeHost<Blk> {
    FakeHost::new(config())
}

fn host() -> FakeHost<Blk> {
    let mut host = bare();
    host.attach_disk("disk", image(), false);
    host
}

fn read_only() -> FakeHost<Blk> {
    let mut host = bare();
    host.attach_disk("disk", image(), true);
    host
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn ranges(all: &[(u64, u32, u32)]) -> Vec<u8> {
    let range = |(sector, sectors, flags): &(u64, u32, u32)| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    all.iter().flat_map(range).collect()
}

/// A request with data to the device; its status.
fn put(host: &mut FakeHost<Blk>, driver: &mut Driver, kind: u32, sector: u64, data: &[u8]) -> u8 {
    let header = header(kind, sector);
    let mut bufs = vec![Buf::Out(&header)];
    if !data.is_empty() {
        bufs.push(Buf::Out(data));
    }
    bufs.push(Buf::In(1));
    let used = driver.request(host, 0, &bufs);
    assert_eq!(used.len, 1);
    used.data[0]
}

/// A request with data from the device.
fn get(host: &mut FakeHost<Blk>, driver: &mut Driver, kind: u32, sector: u64, len: u32) -> Used {
    driver.request(host, 0, &[Buf::Out(&header(kind, sector)), Buf::In(len), Buf::In(1)])
}

fn needs_reset(host: &mut FakeHost<Blk>) -> bool {
    host.read32(regs::STATUS) & status::NEEDS_RESET != 0
}

#[test]
fn the_configuration_describes_the_disk() {
    let mut host = host();
    assert_eq!(host.read32(regs::DEVICE_ID), 2);
    Driver::start(&mut host, ALL);
    assert_eq!(host.read(0, regs::CONFIG, Size::B8), Ok(SECTORS));
    let word = |host: &mut FakeHost<Blk>, at| host.read32(regs::CONFIG + at);
    assert_eq!(word(&mut host, 12), 14, "seg_max");
    assert_eq!(word(&mut host, 20), 512, "blk_size");
    assert_eq!(word(&mut host, 24), 1 << 16, "physical_block_exp 0, alignment 0, min_io_size 1");
    assert_eq!(word(&mut host, 32), 1 | 1 << 16, "writeback, num_queues");
    assert_eq!(word(&mut host, 36), 1 << 22, "max_discard_sectors");
    assert_eq!(word(&mut host, 40), 16, "max_discard_seg");
    assert_eq!(word(&mut host, 44), 1, "discard_sector_alignment");
    assert_eq!(word(&mut host, 48), 1 << 16, "max_write_zeroes_sectors");
    assert_eq!(word(&mut host, 52), 16, "max_write_zeroes_seg");
    assert_eq!(word(&mut host, 56), 1, "write_zeroes_may_unmap");
    assert_eq!(word(&mut host, 60), 0);
}

#[test]
fn features_follow_the_disk_and_the_options() {
    let own = |host: &mut FakeHost<Blk>| offered(host) & 0xff_ffff;
    let always =
        features::SEG_MAX | features::BLK_SIZE | features::TOPOLOGY | features::FLUSH | features::CONFIG_WCE;
    assert_eq!(own(&mut host()), always | features::DISCARD | features::WRITE_ZEROES);
    assert_eq!(own(&mut read_only()), always | features::RO);
    let mut many = FakeHost::<Blk>::new(Config { queues: 4, ..config() });
    assert_ne!(own(&mut many) & features::MQ, 0);
}

#[test]
fn sectors_are_read() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let used = get(&mut host, &mut driver, IN, 3, 1024);
    assert_eq!((used.len, used.data[1024]), (1025, OK));
    assert_eq!(used.data[..1024], image()[3 * 512..5 * 512]);
    assert_eq!(acknowledge(&mut host), 1);
    // The last one, and none.
    assert_eq!(get(&mut host, &mut driver, IN, SECTORS - 1, 512).data[512], OK);
    assert_eq!(driver.request(&mut host, 0, &[Buf::Out(&header(IN, 0)), Buf::In(1)]).data, [OK]);
}

#[test]
fn sectors_are_written() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let data: Vec<u8> = (0..1024_u32).map(|at| (at * 7) as u8).collect();
    assert_eq!(put(&mut host, &mut driver, OUT, 5, &data), OK);
    let mut expected = image();
    expected[5 * 512..7 * 512].copy_from_slice(&data);
    assert!(host.disk("disk") == expected);
}

#[test]
fn requests_may_be_cut_anywhere() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let header_in = header(IN, 9);
    let bufs = [Buf::Out(&header_in[..3]), Buf::Out(&header_in[3..]), Buf::In(500), Buf::In(13)];
    let used = driver.request(&mut host, 0, &bufs);
    assert_eq!((used.len, used.data), (513, [vec![9; 512], vec![OK]].concat()));
    let mut whole = header(OUT, 1);
    whole.extend([0xee; 512]);
    assert_eq!(driver.request(&mut host, 0, &[Buf::Out(&whole), Buf::In(1)]).data, [OK]);
    assert_eq!(host.disk("disk")[512..1024], [0xee; 512]);
    let head = driver.post_indirect(&mut host, 0, &[Buf::Out(&header(IN, 2)), Buf::In(512), Buf::In(1)]);
    driver.kick(&mut host, 0);
    host.advance(10_000);
    let used = driver.take(&host, 0).unwrap();
    assert_eq!((used.head, used.data), (head, [vec![2; 512], vec![OK]].concat()));
}

#[test]
fn what_is_not_on_the_disk_is_an_error() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for (sector, len) in
        [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (0, 100)]
    {
        let used = get(&mut host, &mut driver, IN, sector, len);
        assert_eq!((used.len, used.data[len as usize]), (0, IOERR), "{sector} {len}");
        assert_eq!(put(&mut host, &mut driver, OUT, sector, &vec![1; len as usize]), IOERR, "{sector} {len}");
    }
    assert!(host.disk("disk") == image());
    assert!(!needs_reset(&mut host));
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let mut host = read_only();
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(put(&mut host, &mut driver, OUT, 0, &[1; 512]), IOERR);
    assert_eq!(put(&mut host, &mut driver, DISCARD, 0, &ranges(&[(0, 1, 0)])), IOERR);
    assert_eq!(put(&mut host, &mut driver, WRITE_ZEROES, 0, &ranges(&[(1, 1, 0)])), IOERR);
    assert_eq!(put(&mut host, &mut driver, FLUSH, 0, &[]), OK);
    assert_eq!(get(&mut host, &mut driver, IN, 7, 512).data[0], 7);
    assert!(host.disk("disk") == image());
}

#[test]
fn without_a_disk_there_is_nothing_to_read() {
    let mut host = bare();
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(host.read32(regs::CONFIG), 0);
    assert_eq!(get(&mut host, &mut driver, IN, 0, 512).data[512], IOERR);
    assert_eq!(put(&mut host, &mut driver, FLUSH, 0, &[]), IOERR);
    assert_eq!(put(&mut host, &mut driver, 99, 0, &[]), UNSUPP);
}

#[test]
fn the_id_is_the_serial() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let used = get(&mut host, &mut driver, GET_ID, 0, 20);
    assert_eq!((used.len, used.data[20]), (21, OK));
    let serial = used.data[..20].to_vec();
    let used = get(&mut host, &mut driver, GET_ID, 0, 5);
    assert_eq!((used.len, &used.data[..5]), (6, &serial[..5]));
    let used = get(&mut host, &mut driver, GET_ID, 0, 30);
    assert_eq!(
        (used.len, &used.data[..20], used.data[30]),
        (20, &serial[..], OK),
        "no more than was written"
    );
}

#[test]
fn unknown_requests_are_unsupported() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for kind in [2, 3, 10, 14, 15, u32::MAX] {
        assert_eq!(put(&mut host, &mut driver, kind, 0, &[]), UNSUPP, "{kind}");
    }
}

#[test]
fn ranges_are_zeroed_and_discarded() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let two = ranges(&[(1, 1, 0), (4, 2, 1), (9, 0, 0)]);
    assert_eq!(put(&mut host, &mut driver, WRITE_ZEROES, 0, &two), OK);
    let mut expected = image();
    expected[512..1024].fill(0);
    expected[4 * 512..6 * 512].fill(0);
    assert!(host.disk("disk") == expected);
    assert_eq!(put(&mut host, &mut driver, DISCARD, 0, &ranges(&[(8, 8, 0), (0, 1, 0)])), OK);
    assert_eq!(put(&mut host, &mut driver, DISCARD, 0, &ranges(&[(8, 0, 0)])), OK);
}

#[test]
fn ranges_that_cannot_be_are_refused_as_a_whole() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let cases = [
        (DISCARD, ranges(&[(1, 1, 1)]), UNSUPP),
        (DISCARD, ranges(&[(1, 1, 2)]), UNSUPP),
        (WRITE_ZEROES, ranges(&[(1, 1, 2)]), UNSUPP),
        (WRITE_ZEROES, ranges(&[(1, 1, 0), (SECTORS, 1, 0)]), IOERR),
        (WRITE_ZEROES, ranges(&[(u64::MAX, 1, 0)]), IOERR),
        (DISCARD, ranges(&[(1, u32::MAX, 0)]), IOERR),
        (DISCARD, ranges(&[(0, 1, 0); 17]), IOERR),
        (DISCARD, vec![0; 15], IOERR),
        (WRITE_ZEROES, vec![], IOERR),
    ];
    for (kind, data, expected) in cases {
        assert_eq!(put(&mut host, &mut driver, kind, 0, &data), expected, "{kind} {data:x?}");
    }
    assert!(host.disk("disk") == image());
}

#[test]
fn longer_ranges_than_offered_are_refused() {
    let mut host = bare();
    host.attach_disk("disk", vec![1; (64 << 20) + 512], false);
    let mut driver = Driver::start(&mut host, ALL);
    assert_eq!(put(&mut host, &mut driver, WRITE_ZEROES, 0, &ranges(&[(0, (1 << 16) + 1, 0)])), IOERR);
    assert_eq!(put(&mut host, &mut driver, WRITE_ZEROES, 0, &ranges(&[(0, 1 << 16, 0)])), OK);
    assert_eq!((host.disk("disk")[(32 << 20) - 1], host.disk("disk")[32 << 20]), (0, 1));
}

/// How many steps of the host a request takes.
fn steps(host: &mut FakeHost<Blk>, driver: &mut Driver, bufs: &[Buf<'_>]) -> u32 {
    driver.post(host, 0, bufs);
    driver.kick(host, 0);
    for count in 0.. {
        if let Some(used) = driver.take(host, 0) {
            assert_eq!(used.data.last(), Some(&OK));
            return count;
        }
        let at = host.next_deadline().expect("the request is with the host");
        host.advance_to(at);
    }
    unreachable!()
}

#[test]
fn a_write_through_cache_flushes_before_it_reports() {
    let mut host = host();
    let write = [header(OUT, 0), vec![1; 512]].concat();
    let zero = [header(WRITE_ZEROES, 0), ranges(&[(0, 1, 0)])].concat();
    let mut count = |features, writeback: Option<u8>| {
        let mut driver = Driver::start(&mut host, features);
        if let Some(value) = writeback {
            host.write8(regs::CONFIG + 32, value);
        }
        let shown = host.read8(regs::CONFIG + 32);
        let write = steps(&mut host, &mut driver, &[Buf::Out(&write), Buf::In(1)]);
        let zero = steps(&mut host, &mut driver, &[Buf::Out(&zero), Buf::In(1)]);
        assert_eq!(write, zero);
        (shown, write)
    };
    assert_eq!(count(0, None), (0, 2), "no say in it, no flush");
    assert_eq!(count(features::FLUSH, None), (1, 1));
    assert_eq!(count(features::CONFIG_WCE, None), (0, 2), "no flush");
    assert_eq!(count(features::CONFIG_WCE, Some(1)), (1, 1));
    assert_eq!(count(features::FLUSH | features::CONFIG_WCE, None), (1, 1));
    assert_eq!(count(features::FLUSH | features::CONFIG_WCE, Some(0)), (0, 2));
    assert_eq!(count(features::FLUSH, Some(0)), (1, 1), "not negotiated");
}

/// Header and status of a long transfer, the buffer of all pieces but the last, and that of the last.
const LONG_STATUS: u64 = RAM_BASE + RAM_SIZE / 2;
const LONG_DATA: u64 = LONG_STATUS + 0x1000;
const LONG_LAST: u64 = LONG_DATA + LONG_PIECE as u64;
const LONG_PIECE: u32 = 1 << 17;

/// Make the first `count` descriptors transfers of so many pieces from sector 0, and offer them.
fn post_long(host: &mut FakeHost<Blk>, driver: &mut Driver, kind: u32, pieces: u16, count: u16) {
    let row = |gpa: u64, len: u32, flags: u16, next: u16| {
        [&gpa.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
    };
    let flags = if kind == IN { 3 } else { 1 };
    let mut table = row(LONG_STATUS, 16, 1, 1);
    (1..pieces).for_each(|index| table.extend(row(LONG_DATA, LONG_PIECE, flags, index + 1)));
    table.extend(row(LONG_LAST, LONG_PIECE, flags, pieces + 1));
    table.extend(row(LONG_STATUS, 1, 2, 0));
    let table_gpa = RAM_BASE + RAM_SIZE / 4;
    host.ram_write(table_gpa, &table);
    host.ram_write(LONG_STATUS, &header(kind, 0));
    for head in 0..count {
        let whole = Desc { gpa: table_gpa, len: table.len() as u32, flags: 4, next: 0 };
        driver.write_desc(host, 0, head, whole);
        driver.offer_head(host, 0, head);
    }
    driver.kick(host, 0);
}

/// A disk of 4 MiB and one piece: a step, and a little one.
fn long_host() -> FakeHost<Blk> {
    let mut host = FakeHost::new(Config { queue_size: 64, queues: 1 });
    let words = (4_u32 << 20) / 4 + LONG_PIECE / 4;
    host.attach_disk("disk", (0..words).flat_map(u32::to_le_bytes).collect(), false);
    host
}

/// Let a long transfer end, with a save and load before each step.
fn finish_long(host: &mut FakeHost<Blk>, driver: &Driver) {
    for used in [0, 1] {
        host.save_load();
        let at = host.next_deadline().expect("a step is with the host");
        host.advance_to(at);
        assert_eq!(driver.used_index(host, 0), used);
    }
    assert!(!needs_reset(host), "{:?}", host.logs());
    assert_eq!(host.ram_read(LONG_STATUS, 1), [OK]);
}

#[test]
fn a_long_read_is_done_in_steps() {
    let mut host = long_host();
    let mut driver = Driver::start(&mut host, ALL);
    post_long(&mut host, &mut driver, IN, 33, 1);
    finish_long(&mut host, &driver);
    let piece = LONG_PIECE as usize;
    let (disk, last) = (host.disk("disk"), 4 << 20);
    assert!(host.ram_read(LONG_DATA, piece) == disk[last - piece..last]);
    assert!(host.ram_read(LONG_LAST, piece) == disk[last..]);
}

#[test]
fn a_long_write_is_done_in_steps() {
    let mut host = long_host();
    let mut driver = Driver::start(&mut host, ALL);
    let piece = LONG_PIECE as usize;
    host.ram_write(LONG_DATA, &vec![0xda; piece]);
    host.ram_write(LONG_LAST, &vec![0x1a; piece]);
    post_long(&mut host, &mut driver, OUT, 33, 1);
    // Neither the header nor the status is among the data.
    host.ram_write(LONG_STATUS, &[0xff; 16]);
    finish_long(&mut host, &driver);
    let (first, last) = host.disk("disk").split_at(4 << 20);
    assert!(first.iter().all(|byte| *byte == 0xda) && last.iter().all(|byte| *byte == 0x1a));
}

#[test]
fn the_ring_waits_while_too_much_is_in_flight_and_goes_on_after() {
    let mut host = FakeHost::<Blk>::new(Config { queue_size: 64, queues: 1 });
    host.attach_disk("disk", vec![7; 4 << 20], false);
    let mut driver = Driver::start(&mut host, ALL);
    post_long(&mut host, &mut driver, IN, 32, 40);
    assert_eq!(host.device().requests.len(), 16, "4 MiB each, 64 MiB in all");
    host.save_load();
    host.advance(1_000_000);
    assert_eq!(driver.used_index(&host, 0), 40, "nobody had to notify again");
}

#[test]
fn requests_in_flight_survive_save_and_load() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let write = [header(OUT, 20), vec![0xab; 512]].concat();
    driver.post(&mut host, 0, &[Buf::Out(&header(IN, 3)), Buf::In(512), Buf::In(1)]);
    driver.post(&mut host, 0, &[Buf::Out(&write), Buf::In(1)]);
    driver.post(&mut host, 0, &[Buf::Out(&header(FLUSH, 0)), Buf::In(1)]);
    driver.kick(&mut host, 0);
    assert_eq!(driver.take(&host, 0), None, "they take time");
    assert_eq!(host.device().requests.len(), 3);
    host.save_load();
    host.advance(100_000);
    let used: Vec<Used> = std::iter::from_fn(|| driver.take(&host, 0)).collect();
    assert_eq!(used.len(), 3);
    assert_eq!((&used[0].data[..512], used[0].data[512]), (&[3; 512][..], OK));
    assert_eq!(host.disk("disk")[20 * 512..21 * 512], [0xab; 512]);
    host.save_load();
    assert_eq!(get(&mut host, &mut driver, IN, 20, 512).data[0], 0xab);
}

#[test]
fn completions_from_before_a_device_reset_are_dropped() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    driver.post(&mut host, 0, &[Buf::Out(&header(IN, 3)), Buf::In(512), Buf::In(1)]);
    driver.kick(&mut host, 0);
    let mut driver = Driver::start(&mut host, ALL);
    let head = driver.post(&mut host, 0, &[Buf::Out(&header(IN, 4)), Buf::In(512), Buf::In(1)]);
    driver.kick(&mut host, 0);
    host.advance(100_000);
    let used = driver.take(&host, 0).unwrap();
    assert_eq!((used.head, used.data[0]), (head, 4));
    assert_eq!((driver.take(&host, 0), needs_reset(&mut host)), (None, false));
}

#[test]
fn completions_from_before_a_queue_reset_are_dropped() {
    let mut host = FakeHost::<Blk>::new(Config { queues: 2, ..config() });
    host.attach_disk("disk", image(), false);
    let mut driver = Driver::start(&mut host, RING_RESET);
    for queue in [0, 1] {
        driver.post(&mut host, queue, &[Buf::Out(&header(IN, 3)), Buf::In(512), Buf::In(1)]);
        driver.kick(&mut host, queue);
    }
    host.write32(regs::QUEUE_SEL, 0);
    host.write32(regs::QUEUE_RESET, 1);
    let before = host.ram_read(RAM_BASE + RAM_SIZE / 2, 0x1000);
    driver.enable(&mut host, 0);
    host.advance(100_000);
    assert_eq!(driver.take(&host, 0), None);
    assert_eq!(driver.take(&host, 1).unwrap().data[512], OK, "the other queue goes on");
    let after = host.ram_read(RAM_BASE + RAM_SIZE / 2, 0x1000);
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(changed, 512, "only the buffer of the other queue was written");
    assert_eq!(get(&mut host, &mut driver, IN, 1, 512).data[0], 1);
}

#[test]
fn a_request_without_header_or_status_needs_a_reset() {
    for bufs in [&[Buf::Out(&[0; 16])][..], &[Buf::In(513)], &[Buf::Out(&[0; 15]), Buf::In(513)]] {
        let mut host = host();
        let mut driver = Driver::start(&mut host, ALL);
        driver.post(&mut host, 0, bufs);
        driver.kick(&mut host, 0);
        assert!(needs_reset(&mut host));
        assert_eq!(acknowledge(&mut host), 2);
    }
}

#[test]
fn data_that_goes_nowhere_needs_a_reset() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    driver.post(&mut host, 0, &[Buf::Out(&header(IN, 3)), Buf::In(512), Buf::In(1)]);
    let nowhere = Desc { gpa: 0x1000, len: 512, flags: 3, next: 2 };
    driver.write_desc(&mut host, 0, 1, nowhere);
    driver.kick(&mut host, 0);
    assert!(!needs_reset(&mut host));
    host.advance(10_000);
    assert!(needs_reset(&mut host));
    assert_eq!(driver.used_index(&host, 0), 0);
}

#[test]
fn windows_and_copies_leave_the_same_ram() {
    let run = |windows| {
        let mut host = host();
        host.set_windows(windows);
        let mut driver = Driver::start(&mut host, ALL);
        for sector in 0..40 {
            put(&mut host, &mut driver, OUT, sector, &[sector as u8; 1024]);
            get(&mut host, &mut driver, IN, sector + 1, 1536);
        }
        (host.ram_read(RAM_BASE, RAM_SIZE as usize), host.disk("disk").to_vec())
    };
    assert!(run(true) == run(false));
}

#[test]
fn a_queue_size_that_is_no_power_of_two_is_refused() {
    let error = Blk::create(Config { queue_size: 48, queues: 1 }).err().unwrap();
    assert_eq!(error.path, "queue_size");
}

#[test]
fn states_that_cannot_be_are_refused() {
    let mut donor = FakeHost::<Blk>::new(Config { queues: 2, ..config() });
    donor.attach_disk("disk", image(), false);
    let mut driver = Driver::start(&mut donor, ALL);
    driver.post(&mut donor, 1, &[Buf::Out(&header(FLUSH, 0)), Buf::In(1)]);
    driver.kick(&mut donor, 1);
    assert!(host().load(&donor.save()).is_err(), "another number of queues");
}

#[test]
fn hostile_rings_do_no_harm() {
    fuzz_rings(host, &[], 1, 5_000);
    fuzz_rings(read_only, &[], 2, 1_000);
}

#[test]
fn random_accesses_do_no_harm() {
    host().fuzz(3, 10_000);
    host().fuzz_load(4, 300);
}
