//! The transport and its rings, driven through a small device: queue 0 answers at once with what it was given, queue 1
//! keeps its chains until the driver writes to the configuration space.

use super::driver::{Buf, Desc, Driver, acknowledge, fuzz_rings, negotiate, offered};
use super::*;
use crate::testkit::{FakeHost, RAM_BASE, RAM_SIZE};
use crate::{Access, ConfigError, Device, DeviceConfig, DeviceState, Fault, Reset, Size};

const FEATURE: u64 = 1 << 3;
const ECHO: usize = 0;
const LATER: usize = 1;
const ALL: u64 = u64::MAX;

#[derive(DeviceConfig)]
struct Config {
    #[config(default = 8)]
    queue_size: u16,
}

#[derive(DeviceState)]
struct Echo {
    transport: Transport,
    kept: Vec<Chain>,
    config: [u8; 6],
    negotiated: bool,
}

impl VirtioDevice for Echo {
    const DEVICE_ID: u32 = 42;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn features(&self, _cx: &Ctx<'_>) -> u64 {
        FEATURE
    }

    fn config(&self, _cx: &Ctx<'_>) -> Vec<u8> {
        self.config.to_vec()
    }

    fn config_write(&mut self, cx: &mut Ctx<'_>, offset: u64, data: &[u8]) {
        if offset == 0x10 {
            self.transport.config_changed(cx);
        } else if !self.kept.is_empty() {
            let chain = self.kept.remove(0);
            complete(self, cx, LATER, chain.head(), u32::from(data[0]));
        }
    }

    fn on_features(&mut self, _cx: &mut Ctx<'_>) {
        self.negotiated = self.transport.has(FEATURE);
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, queue: usize, chain: Chain) -> Result<Served, Violation> {
        if queue == LATER {
            self.kept.push(chain);
            return Ok(Served::Later);
        }
        let mut data = vec![0; chain.readable_len().min(chain.writable_len()).min(1 << 16) as usize];
        chain.read(cx, 0, &mut data)?;
        chain.write(cx, 0, &data)?;
        Ok(Served::Done(data.len() as u32))
    }

    fn on_reset(&mut self, _cx: &mut Ctx<'_>) {
        self.kept.clear();
        self.negotiated = false;
    }

    fn on_queue_reset(&mut self, _cx: &mut Ctx<'_>, queue: usize) {
        if queue == LATER {
            self.kept.clear();
        }
    }
}

impl Device for Echo {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        describe("echo", "a test device", Vec::new())
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        check_queue_size(config.queue_size)?;
        let transport = Transport::new(&[config.queue_size, 4]);
        Ok(Self { transport, kept: Vec::new(), config: [1, 2, 3, 4, 5, 6], negotiated: false })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        reset(self, cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        mmio_read(self, cx, access)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        mmio_write(self, cx, access, value)
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.transport.check()
    }
}

fn host() -> FakeHost<Echo> {
    FakeHost::new(Config { queue_size: 8 })
}

fn echo(host: &mut FakeHost<Echo>, driver: &mut Driver, text: &[u8]) {
    let used = driver.request(host, ECHO, &[Buf::Out(text), Buf::In(text.len() as u32)]);
    assert_eq!((used.len as usize, used.data.as_slice()), (text.len(), text));
}

#[test]
fn read_only_registers_say_what_the_device_is() {
    let mut host = host();
    let expected = [
        (regs::MAGIC_VALUE, u32::from_le_bytes(*b"virt")),
        (regs::VERSION, 2),
        (regs::DEVICE_ID, 42),
        (regs::VENDOR_ID, u32::from_le_bytes(*b"RPRS")),
        (regs::STATUS, 0),
        (regs::INTERRUPT_STATUS, 0),
        (regs::CONFIG_GENERATION, 0),
        (regs::QUEUE_RESET, 0),
        (regs::SHM_LEN_LOW, u32::MAX),
        (regs::SHM_LEN_HIGH, u32::MAX),
        (regs::SHM_BASE_LOW, u32::MAX),
        (regs::SHM_BASE_HIGH, u32::MAX),
    ];
    for (offset, value) in expected {
        host.write32(regs::SHM_SEL, 1);
        assert_eq!(host.read32(offset), value, "register {offset:#x}");
        if ![regs::STATUS, regs::QUEUE_RESET].contains(&offset) {
            host.write32(offset, 0x1234_5678);
            assert_eq!(host.read32(offset), value, "register {offset:#x} after a write");
        }
    }
}

#[test]
fn write_only_and_reserved_registers_read_zero() {
    let mut host = host();
    let write_only = [
        regs::DEVICE_FEATURES_SEL,
        regs::DRIVER_FEATURES,
        regs::DRIVER_FEATURES_SEL,
        regs::QUEUE_SEL,
        regs::QUEUE_NUM,
        regs::QUEUE_NOTIFY,
        regs::INTERRUPT_ACK,
        regs::QUEUE_DESC_LOW,
        regs::QUEUE_DESC_HIGH,
        regs::QUEUE_DRIVER_LOW,
        regs::QUEUE_DRIVER_HIGH,
        regs::QUEUE_DEVICE_LOW,
        regs::QUEUE_DEVICE_HIGH,
        regs::SHM_SEL,
    ];
    for offset in write_only.into_iter().chain([0x018, 0x040, 0x0c4, 0x0f8]) {
        host.write32(offset, 1);
        assert_eq!(host.read32(offset), 0, "register {offset:#x}");
    }
}

#[test]
fn registers_take_only_32_bits() {
    let mut host = host();
    for size in [Size::B1, Size::B2, Size::B8] {
        assert_eq!(host.read(0, regs::MAGIC_VALUE, size), Ok(0));
        host.write(0, regs::STATUS, size, 1).unwrap();
    }
    assert_eq!(host.read32(regs::STATUS), 0);
    assert_eq!(host.logs().len(), 6);
}

#[test]
fn configuration_space_is_read_at_any_size_and_zero_beyond_its_end() {
    let mut host = host();
    assert_eq!(host.read(0, regs::CONFIG + 1, Size::B1), Ok(2));
    assert_eq!(host.read(0, regs::CONFIG + 2, Size::B2), Ok(0x0403));
    assert_eq!(host.read(0, regs::CONFIG, Size::B4), Ok(0x0403_0201));
    assert_eq!(host.read(0, regs::CONFIG, Size::B8), Ok(0x0605_0403_0201));
    assert_eq!(host.read(0, regs::CONFIG + 4, Size::B4), Ok(0x0605));
    assert_eq!(host.read(0, REGION_SIZE - 8, Size::B8), Ok(0));
}

#[test]
fn a_change_of_the_configuration_is_a_generation_and_an_interrupt() {
    let mut host = host();
    host.write8(regs::CONFIG + 0x10, 0);
    assert_eq!(host.read32(regs::CONFIG_GENERATION), 1);
    assert_eq!(acknowledge(&mut host), 0, "nobody to interrupt yet");
    Driver::start(&mut host, ALL);
    assert_eq!(host.read32(regs::CONFIG_GENERATION), 0);
    host.write8(regs::CONFIG + 0x10, 0);
    assert!(host.output("irq"));
    assert_eq!((host.read32(regs::CONFIG_GENERATION), acknowledge(&mut host)), (1, 2));
    assert!(!host.output("irq"));
}

#[test]
fn features_are_offered_in_two_words() {
    let mut host = host();
    assert_eq!(offered(&mut host), FEATURE | features::TRANSPORT);
    assert_eq!(features::TRANSPORT, 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40);
    host.write32(regs::DEVICE_FEATURES_SEL, 2);
    assert_eq!(host.read32(regs::DEVICE_FEATURES), 0);
}

#[test]
fn features_ok_is_refused_without_version_1_or_with_more_than_was_offered() {
    let mut host = host();
    assert!(!negotiate(&mut host, FEATURE));
    assert!(!negotiate(&mut host, features::VERSION_1 | 1 << 4));
    // ACCESS_PLATFORM, packed rings.
    assert!(!negotiate(&mut host, features::VERSION_1 | 1 << 33));
    assert!(!negotiate(&mut host, features::VERSION_1 | 1 << 34));
    assert!(!host.device().negotiated);
    host.write32(regs::STATUS, status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK);
    assert_eq!(
        host.read32(regs::STATUS),
        status::ACKNOWLEDGE | status::DRIVER,
        "no DRIVER_OK without FEATURES_OK"
    );
    assert!(negotiate(&mut host, features::VERSION_1 | FEATURE));
    assert!(host.device().negotiated);
}

#[test]
fn features_are_settled_by_features_ok() {
    let mut host = host();
    assert!(negotiate(&mut host, features::VERSION_1));
    host.write32(regs::DRIVER_FEATURES_SEL, 0);
    host.write32(regs::DRIVER_FEATURES, FEATURE as u32);
    assert!(!host.device().transport.has(FEATURE));
    assert!(host.device().transport.has(features::VERSION_1));
}

#[test]
fn queues_have_sizes_and_are_locked_while_ready() {
    let mut host = host();
    let max = |host: &mut FakeHost<Echo>, queue| {
        host.write32(regs::QUEUE_SEL, queue);
        host.read32(regs::QUEUE_NUM_MAX)
    };
    assert_eq!([0, 1, 2, u32::MAX].map(|queue| max(&mut host, queue)), [8, 4, 0, 0]);
    // Registers of a queue that does not exist.
    host.write32(regs::QUEUE_READY, 1);
    assert_eq!(host.read32(regs::QUEUE_READY), 0);
    let mut driver = Driver::start(&mut host, 0);
    host.write32(regs::QUEUE_SEL, ECHO as u32);
    assert_eq!(host.read32(regs::QUEUE_READY), 1);
    for offset in [regs::QUEUE_NUM, regs::QUEUE_DESC_LOW, regs::QUEUE_DRIVER_HIGH, regs::QUEUE_DEVICE_LOW] {
        host.write32(offset, 3);
    }
    echo(&mut host, &mut driver, b"still there");
}

#[test]
fn a_queue_that_cannot_be_is_refused() {
    let layouts = [
        (regs::QUEUE_NUM, 0, "queue size 0"),
        (regs::QUEUE_NUM, 3, "queue size 3"),
        (regs::QUEUE_NUM, 16, "queue size 16"),
        (regs::QUEUE_NUM, 0x1_0004, "queue size 65540"),
        (regs::QUEUE_DESC_LOW, 8, "not aligned"),
        (regs::QUEUE_DRIVER_LOW, 1, "not aligned"),
        (regs::QUEUE_DEVICE_LOW, 2, "not aligned"),
    ];
    for (offset, value, message) in layouts {
        let mut host = host();
        assert!(negotiate(&mut host, features::VERSION_1));
        host.write32(offset, value);
        host.write32(regs::QUEUE_READY, 1);
        assert_eq!(host.read32(regs::QUEUE_READY), 0);
        assert_ne!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0, "{message}");
        assert!(host.logs()[0].1.contains(message), "{:?}", host.logs());
        assert!(!host.output("irq"), "no interrupt before DRIVER_OK");
    }
}

#[test]
fn a_chain_comes_back_with_an_interrupt_until_acknowledged() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    echo(&mut host, &mut driver, b"hello");
    assert!(host.output("irq"));
    host.write32(regs::INTERRUPT_ACK, 2);
    assert_eq!((host.read32(regs::INTERRUPT_STATUS), host.output("irq")), (1, true));
    host.write32(regs::INTERRUPT_ACK, 1);
    assert_eq!((host.read32(regs::INTERRUPT_STATUS), host.output("irq")), (0, false));
}

#[test]
fn buffers_of_any_cut_carry_the_same_bytes() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let bufs = [Buf::Out(b"a"), Buf::Out(b"bcdef"), Buf::Out(b"gh"), Buf::In(3), Buf::In(1), Buf::In(9)];
    let used = driver.request(&mut host, ECHO, &bufs);
    assert_eq!((used.len, &used.data[..8]), (8, b"abcdefgh".as_slice()));
    let head = driver.post_indirect(&mut host, ECHO, &bufs);
    driver.kick(&mut host, ECHO);
    let used = driver.take(&host, ECHO).unwrap();
    assert_eq!((used.head, used.len, &used.data[..8]), (head, 8, b"abcdefgh".as_slice()));
}

#[test]
fn an_indirect_table_may_follow_normal_descriptors() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let (text, room, table) = (driver.buffer(4), driver.buffer(4), driver.buffer(32));
    host.ram_write(text, b"text");
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&room.to_le_bytes());
    raw[8] = 4;
    raw[12] = 2;
    host.ram_write(table, &raw);
    driver.write_desc(&mut host, ECHO, 0, Desc { gpa: text, len: 4, flags: 1, next: 5 });
    // The WRITE flag of a reference to a table means nothing.
    driver.write_desc(&mut host, ECHO, 5, Desc { gpa: table, len: 16, flags: 4 | 2, next: 0 });
    driver.offer_head(&mut host, ECHO, 0);
    driver.kick(&mut host, ECHO);
    assert_eq!(host.ram_read(room, 4), b"text");
}

/// Descriptors 0.. of the echo queue, which 0 heads, and what the device says to them.
fn violations(table: u64) -> Vec<(&'static str, Vec<Desc>)> {
    let good = RAM_BASE + RAM_SIZE / 2;
    let desc = |gpa, len, flags, next| Desc { gpa, len, flags, next };
    vec![
        ("longer than 8", vec![desc(good, 1, 1, 1), desc(good, 1, 1, 0)]),
        ("longer than 8", vec![desc(good, 1, 1, 0)]),
        ("not in its table of 8", vec![desc(good, 1, 1, 8)]),
        ("not all RAM", vec![desc(0, 1, 1, 1), desc(good, 1, 2, 0)]),
        ("not all RAM", vec![desc(RAM_BASE + RAM_SIZE - 1, 2, 1, 1), desc(good, 2, 2, 0)]),
        ("not all RAM", vec![desc(good, 2, 1, 1), desc(RAM_BASE - 1, 2, 2, 0)]),
        ("not all RAM", vec![desc(u64::MAX - 3, 8, 0, 0)]),
        ("length zero", vec![desc(good, 0, 0, 0)]),
        ("readable descriptor after", vec![desc(good, 1, 3, 1), desc(good, 1, 0, 0)]),
        ("more than 4 GiB", vec![desc(good, u32::MAX, 1, 1), desc(good, 2, 0, 0)]),
        ("indirect table of 24", vec![desc(good, 24, 4, 0)]),
        ("indirect table of 0", vec![desc(good, 0, 4, 0)]),
        ("indirect descriptor where", vec![desc(table, 16, 4 | 1, 1), desc(good, 1, 0, 0)]),
        // The table holds a reference to itself.
        ("indirect descriptor where", vec![desc(table, 16, 4, 0)]),
        ("not all RAM", vec![desc(RAM_BASE + RAM_SIZE, 16, 4, 0)]),
        // The second descriptor of the table goes on at one that the table does not have.
        ("not in its table of 2", vec![desc(table + 16, 32, 4, 0)]),
        // A loop in a table.
        ("longer than 8", vec![desc(table + 48, 16, 4, 0)]),
    ]
}

fn write_bad_table(host: &mut FakeHost<Echo>, table: u64) {
    let desc = |gpa: u64, flags: u8, next: u8| {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&gpa.to_le_bytes());
        (raw[8], raw[12], raw[14]) = (16, flags, next);
        raw
    };
    let good = RAM_BASE + RAM_SIZE / 2;
    let rows = [desc(table, 4, 0), desc(good, 1, 1), desc(good, 1, 2), desc(good, 1, 0)];
    host.ram_write(table, &rows.concat());
}

#[test]
fn every_violation_stops_the_device_until_it_is_reset() {
    let table = RAM_BASE + RAM_SIZE / 2 + 0x1000;
    for windows in [true, false] {
        for (message, descs) in violations(table) {
            let mut host = host();
            host.set_windows(windows);
            let mut driver = Driver::start(&mut host, ALL);
            write_bad_table(&mut host, table);
            for (index, desc) in descs.iter().enumerate() {
                driver.write_desc(&mut host, ECHO, index as u16, *desc);
            }
            driver.offer_head(&mut host, ECHO, 0);
            driver.kick(&mut host, ECHO);
            assert!(
                host.logs().iter().any(|(_, text)| text.contains(message)),
                "{message}: {:?}",
                host.logs()
            );
            assert_eq!(host.logs().len(), 1, "{:?}", host.logs());
            assert_ne!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0, "{message}");
            assert_eq!((host.output("irq"), acknowledge(&mut host)), (true, 2), "{message}");
            driver.kick(&mut host, ECHO);
            assert_eq!((driver.used_index(&host, ECHO), acknowledge(&mut host)), (0, 0), "{message}");
            host.write32(regs::STATUS, 0xff);
            assert_ne!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0, "only a reset helps");
            let mut driver = Driver::start(&mut host, ALL);
            echo(&mut host, &mut driver, b"as new");
        }
    }
}

#[test]
fn an_indirect_table_needs_the_feature() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, 0);
    driver.post_indirect(&mut host, ECHO, &[Buf::Out(b"x"), Buf::In(1)]);
    driver.kick(&mut host, ECHO);
    assert_ne!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0);
}

#[test]
fn the_available_ring_is_not_believed() {
    for (index, head, message) in
        [(9_u16, 0_u16, "9 ahead"), (0xffff, 0, "65535 ahead"), (1, 8, "descriptor 8")]
    {
        let mut host = host();
        let driver = Driver::start(&mut host, ALL);
        let ring = &driver.rings[ECHO];
        host.ram_write(ring.driver_gpa + 2, &index.to_le_bytes());
        host.ram_write(ring.driver_gpa + 4, &head.to_le_bytes());
        driver.kick(&mut host, ECHO);
        assert!(host.logs()[0].1.contains(message), "{:?}", host.logs());
    }
}

#[test]
fn rings_outside_ram_are_a_violation() {
    for low in [regs::QUEUE_DESC_LOW, regs::QUEUE_DRIVER_LOW, regs::QUEUE_DEVICE_LOW] {
        let mut host = host();
        let mut driver = Driver::start(&mut host, features::RING_RESET);
        driver.post(&mut host, ECHO, &[Buf::In(4)]);
        host.write32(regs::QUEUE_SEL, ECHO as u32);
        host.write32(regs::QUEUE_READY, 0);
        host.write32(low + 4, u32::MAX);
        host.write32(low, !15);
        host.write32(regs::QUEUE_READY, 1);
        driver.kick(&mut host, ECHO);
        assert!(host.logs()[0].1.contains("not all RAM"), "{:?}", host.logs());
    }
}

#[test]
fn more_in_flight_than_the_ring_holds_is_a_violation() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    driver.write_desc(&mut host, LATER, 0, Desc { gpa: RAM_BASE, len: 1, flags: 2, next: 0 });
    for _ in 0..5 {
        assert_eq!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0);
        driver.offer_head(&mut host, LATER, 0);
        driver.kick(&mut host, LATER);
    }
    assert_eq!(host.device().kept.len(), 4);
    assert_ne!(host.read32(regs::STATUS) & status::NEEDS_RESET, 0);
}

#[test]
fn a_full_ring_is_served_and_the_next_chain_is_announced() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for _ in 0..3 {
        for _ in 0..4 {
            driver.post(&mut host, ECHO, &[Buf::Out(b"x"), Buf::In(1)]);
        }
        driver.kick(&mut host, ECHO);
        (0..4).for_each(|_| assert!(driver.take(&host, ECHO).is_some()));
    }
    for _ in 0..8 {
        driver.post(&mut host, ECHO, &[Buf::In(1)]);
    }
    driver.kick(&mut host, ECHO);
    (0..8).for_each(|_| assert!(driver.take(&host, ECHO).is_some()));
    let old = driver.rings[ECHO].next_avail;
    driver.post(&mut host, ECHO, &[Buf::In(1)]);
    assert!(driver.must_kick(&host, ECHO, old), "a driver that is not asked to notify would wait for ever");
}

#[test]
fn no_interrupt_if_the_driver_wants_none() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, 0);
    driver.set_no_interrupt(&mut host, ECHO, true);
    echo(&mut host, &mut driver, b"quiet");
    assert_eq!((host.output("irq"), acknowledge(&mut host)), (false, 0));
    driver.set_no_interrupt(&mut host, ECHO, false);
    echo(&mut host, &mut driver, b"loud");
    assert_eq!((host.output("irq"), acknowledge(&mut host)), (true, 1));
}

#[test]
fn event_idx_interrupts_at_the_index_asked_for_and_only_there_also_over_the_wrap() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    // With EVENT_IDX the flag means nothing.
    driver.set_no_interrupt(&mut host, ECHO, true);
    let mut event = 0_u16;
    for done in 0..70_000_u32 {
        let old = driver.rings[ECHO].next_avail;
        driver.set_used_event(&mut host, ECHO, event);
        driver.post(&mut host, ECHO, &[Buf::In(1)]);
        assert!(driver.must_kick(&host, ECHO, old), "chain {done}");
        driver.kick(&mut host, ECHO);
        assert!(driver.take(&host, ECHO).is_some(), "chain {done}");
        let wanted = done as u16 == event;
        assert_eq!(acknowledge(&mut host), u32::from(wanted), "chain {done}");
        if wanted {
            // 65535, 65536 and 65537 are among them.
            event = event.wrapping_add(if done < 65_530 { 5 } else { 1 });
        }
    }
}

#[test]
fn event_idx_is_crossed_by_a_batch() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for (event, interrupts) in [(2, true), (7, false), (6, true)] {
        let base = driver.rings[ECHO].next_avail;
        driver.set_used_event(&mut host, ECHO, base.wrapping_add(event));
        for _ in 0..7 {
            driver.post(&mut host, ECHO, &[Buf::In(1)]);
        }
        driver.kick(&mut host, ECHO);
        assert_eq!(acknowledge(&mut host) == 1, interrupts, "event {event}");
        while driver.take(&host, ECHO).is_some() {}
    }
}

#[test]
fn buffers_that_came_before_driver_ok_are_served_with_it() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    assert!(negotiate(&mut host, features::VERSION_1));
    driver.enable(&mut host, ECHO);
    driver.post(&mut host, ECHO, &[Buf::Out(b"early"), Buf::In(5)]);
    driver.kick(&mut host, ECHO);
    assert_eq!(driver.take(&host, ECHO), None, "not before DRIVER_OK");
    host.write32(regs::STATUS, status::DRIVER_OK);
    assert_eq!(driver.take(&host, ECHO).unwrap().data, b"early");
}

#[test]
fn a_failed_driver_is_not_served() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    host.write32(regs::STATUS, status::FAILED);
    driver.post(&mut host, ECHO, &[Buf::In(1)]);
    driver.kick(&mut host, ECHO);
    assert_eq!(driver.take(&host, ECHO), None);
}

#[test]
fn a_notification_of_no_queue_is_nothing() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    for queue in [2, 0x1_0000, u32::MAX] {
        host.write32(regs::QUEUE_NOTIFY, queue);
    }
    echo(&mut host, &mut driver, b"fine");
}

#[test]
fn reset_by_status_or_by_the_machine_leaves_a_new_device() {
    let new = host().save();
    for by_machine in [false, true] {
        let mut host = host();
        let mut driver = Driver::start(&mut host, ALL);
        echo(&mut host, &mut driver, b"x");
        driver.post(&mut host, LATER, &[Buf::In(1)]);
        driver.kick(&mut host, LATER);
        assert!(host.output("irq"));
        assert_ne!(host.save(), new);
        if by_machine {
            host.reset(Reset::Warm);
        } else {
            host.write32(regs::STATUS, 0);
        }
        assert_eq!(host.save(), new);
        assert!(!host.output("irq"));
    }
}

#[test]
fn a_queue_is_reset_alone() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    echo(&mut host, &mut driver, b"x");
    driver.post(&mut host, LATER, &[Buf::In(1)]);
    driver.kick(&mut host, LATER);
    host.write32(regs::QUEUE_SEL, LATER as u32);
    host.write32(regs::QUEUE_RESET, 0);
    assert_eq!(host.read32(regs::QUEUE_READY), 1, "0 resets nothing");
    host.write32(regs::QUEUE_RESET, 1);
    assert_eq!((host.read32(regs::QUEUE_RESET), host.read32(regs::QUEUE_READY)), (0, 0));
    assert!(host.device().kept.is_empty());
    echo(&mut host, &mut driver, b"the other goes on");
    driver.enable(&mut host, LATER);
    driver.post(&mut host, LATER, &[Buf::In(1)]);
    driver.kick(&mut host, LATER);
    host.write8(regs::CONFIG, 1);
    assert!(driver.take(&host, LATER).is_some(), "it starts at the beginning of its rings");
}

#[test]
fn a_queue_reset_needs_the_feature() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, 0);
    host.write32(regs::QUEUE_SEL, ECHO as u32);
    host.write32(regs::QUEUE_RESET, 1);
    assert_eq!(host.read32(regs::QUEUE_READY), 1);
    echo(&mut host, &mut driver, b"still there");
}

#[test]
fn a_queue_that_is_not_ready_is_left_alone() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    driver.post(&mut host, LATER, &[Buf::In(1)]);
    driver.kick(&mut host, LATER);
    host.write32(regs::QUEUE_SEL, LATER as u32);
    host.write32(regs::QUEUE_READY, 0);
    assert_eq!(host.read32(regs::QUEUE_READY), 0);
    assert!(host.device().kept.is_empty());
    driver.post(&mut host, LATER, &[Buf::In(1)]);
    driver.kick(&mut host, LATER);
    assert!(host.device().kept.is_empty());
}

#[test]
fn chains_in_flight_survive_save_and_load() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let heads = [1, 2, 3].map(|len| driver.post(&mut host, LATER, &[Buf::In(len)]));
    driver.kick(&mut host, LATER);
    for (head, len) in heads.into_iter().zip([7_u8, 8, 9]) {
        host.save_load();
        host.write8(regs::CONFIG, len);
        let used = driver.take(&host, LATER).unwrap();
        assert_eq!((used.head, used.len), (head, len.into()));
    }
    host.save_load();
    echo(&mut host, &mut driver, b"after");
}

#[test]
fn a_state_with_a_ring_that_cannot_be_is_refused() {
    let mut donor = FakeHost::<Echo>::new(Config { queue_size: 8 });
    Driver::start(&mut donor, ALL);
    let mut host = FakeHost::<Echo>::new(Config { queue_size: 4 });
    let error = host.load(&donor.save()).unwrap_err();
    assert!(error.contains("virtqueue 0: queue size 8"), "{error}");
}

#[test]
fn queue_sizes_are_checked() {
    assert!([1, 2, 256, 1 << 15].iter().all(|size| check_queue_size(*size).is_ok()));
    let error = check_queue_size(48).unwrap_err();
    assert_eq!(
        (error.path.as_str(), error.message.as_str()),
        ("queue_size", "48 is not a power of two up to 32768")
    );
}

#[test]
fn the_descriptor_is_what_boards_and_linux_expect() {
    let host = host();
    let desc = host.desc();
    let fdt = desc.fdt.as_ref().unwrap();
    assert_eq!((desc.regions[0].size, desc.regions[0].access), (0x200, 15));
    assert_eq!((fdt.name.as_str(), fdt.compatible[0].as_str()), ("virtio_mmio", "virtio,mmio"));
    assert_eq!(fdt.props, [("dma-coherent".to_owned(), FdtValue::Empty)]);
    assert_eq!(fdt.interrupts, [0]);
}

#[test]
fn device_writes_to_code_are_reported() {
    let mut host = host();
    let mut driver = Driver::start(&mut host, ALL);
    let page = driver.buffer(0) & !0xfff;
    host.set_watched(page);
    echo(&mut host, &mut driver, b"code");
    assert_eq!(host.code_writes().len(), 1);
}

#[test]
fn hostile_rings_do_no_harm() {
    fuzz_rings(host, &[], 1, 10_000);
}

#[test]
fn random_accesses_do_no_harm() {
    host().fuzz(2, 20_000);
    host().fuzz_load(3, 500);
}
