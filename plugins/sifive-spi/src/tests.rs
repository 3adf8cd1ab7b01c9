use super::registers::*;
use super::*;
use reprise_plugin_api::testkit::FakeHost;

fn controller(chip_selects: u32) -> FakeHost<Spi> {
    FakeHost::new(Config { clock_hz: 100_000_000, chip_selects })
}

/// What was said on the bus.
fn said(h: &mut FakeHost<Spi>) -> Vec<(u32, Ask)> {
    h.messages().into_iter().map(|(_, at, message)| (at, Ask::decode(&message).unwrap())).collect()
}

/// A frame through the controller, on hold, with a target that answers.
fn exchange(h: &mut FakeHost<Spi>, byte: u8, answer: u8) -> u32 {
    h.write32(TXDATA, byte.into());
    h.message("bus", 0, Some(&[answer]));
    h.advance_to(h.next_deadline().expect("a frame is under way"));
    h.read32(RXDATA)
}

#[test]
fn registers_are_as_after_a_reset() {
    let mut h = controller(2);
    let all =
        [SCKDIV, SCKMODE, CSID, CSDEF, CSMODE, DELAY0, DELAY1, FMT, TXDATA, RXDATA, TXMARK, RXMARK, IE, IP];
    let read = |h: &mut FakeHost<Spi>| all.map(|offset| h.read32(offset));
    let reset = [3, 0, 0, 3, 0, 0x1_0001, 1, 0x8_0000, 0, 1 << 31, 0, 0, 0, 0];
    assert_eq!(read(&mut h), reset);
    all.iter().filter(|offset| **offset != TXDATA).for_each(|offset| h.write32(*offset, u32::MAX));
    // The transmit FIFO is below its mark.
    let full = [0xfff, 3, 1, 3, 3, 0xff_00ff, 0xff_00ff, 0xf_000f, 0, 1 << 31, 7, 7, 3, 1];
    assert_eq!(read(&mut h), full);
    assert!(h.output("irq"));
    h.write32(CSMODE, 1);
    assert_eq!((h.read32(CSMODE), h.read32(0x60), h.read32(0x64)), (1, 0, 0));
    h.reset(Reset::Warm);
    assert_eq!(read(&mut h), reset);
    assert!(!h.output("irq"));
}

#[test]
fn linux_counts_its_chip_selects() {
    for (count, csdef, csid) in [(1, 1, 0), (3, 7, 3), (5, 0x1f, 7), (32, u32::MAX, 31)] {
        let mut h = controller(count);
        h.write32(CSDEF, u32::MAX);
        h.write32(CSID, u32::MAX);
        assert_eq!((h.read32(CSDEF), h.read32(CSID)), (csdef, csid));
    }
}

#[test]
fn a_frame_takes_its_clocks_and_is_then_received() {
    let mut h = controller(1);
    // 100 MHz / (2 * (4 + 1)) = 10 MHz: 100 ns a bit, one for the chip select, and half of one before the first edge.
    h.write32(SCKDIV, 4);
    h.write32(CSMODE, 2);
    h.write32(TXDATA, 0x5a);
    assert_eq!(said(&mut h), [(0, Ask::Select(true)), (0, Ask::Exchange(0x5a))]);
    assert_eq!(h.timer("frame"), Some(950));
    h.message("bus", 0, Some(&[0xa6]));
    assert_eq!(h.read32(RXDATA), 1 << 31, "not before the bits are through");
    h.advance(950);
    assert_eq!((h.read32(RXDATA), h.read32(RXDATA)), (0xa6, 1 << 31));
    // It is held: the next one begins at once.
    h.write32(TXDATA, 0x11);
    assert_eq!(said(&mut h), [(0, Ask::Exchange(0x11))]);
    assert_eq!(h.timer("frame"), Some(950 + 800));
}

#[test]
fn the_fifos_hold_eight_and_what_is_more_is_lost() {
    let mut h = controller(1);
    h.write32(CSMODE, 2);
    // One is being shifted.
    (0..9).for_each(|byte| h.write32(TXDATA, byte));
    assert_eq!(h.read32(TXDATA), 1 << 31);
    h.write32(TXDATA, 0x99);
    let mut sent = Vec::new();
    while let Some(at) = h.next_deadline() {
        for (_, ask) in said(&mut h) {
            if let Ask::Exchange(byte) = ask {
                sent.push(byte);
                h.message("bus", 0, Some(&[byte + 0x40]));
            }
        }
        h.advance_to(at);
    }
    assert_eq!(sent, (0..9).collect::<Vec<u8>>());
    let received: Vec<u32> = (0..9).map(|_| h.read32(RXDATA)).collect();
    assert_eq!(received, [0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 1 << 31]);
}

#[test]
fn a_full_flag_that_is_written_back_sends_nothing() {
    let mut h = controller(1);
    h.write32(CSMODE, 2);
    h.write32(TXDATA, 1 << 31 | 0x55);
    assert_eq!((said(&mut h), h.next_deadline()), (vec![], None));
    // As `amoor.w` does: what it reads says whether it has sent.
    (0..9).for_each(|byte| h.write32(TXDATA, byte));
    let flag = h.read32(TXDATA);
    h.advance_to(h.next_deadline().unwrap());
    h.write32(TXDATA, flag | 0x55);
    assert_eq!(h.read32(TXDATA), 0, "eight less the one on the bus");
}

#[test]
fn a_chip_select_outlasts_its_frame() {
    let mut h = controller(2);
    h.write32(CSMODE, 2);
    h.write32(TXDATA, 1);
    assert_eq!(said(&mut h), [(0, Ask::Select(true)), (0, Ask::Exchange(1))]);
    // Linux does not wait for the last frame when it only transmits.
    h.write32(CSMODE, 0);
    h.write32(CSMODE, 2);
    h.write32(CSID, 1);
    h.write32(TXDATA, 2);
    assert_eq!(said(&mut h), []);
    h.advance_to(h.next_deadline().unwrap());
    let next = [(0, Ask::Select(false)), (1, Ask::Select(true)), (1, Ask::Exchange(2))];
    assert_eq!(said(&mut h), next);
    h.advance(10_000);
    assert_eq!(said(&mut h), [], "it is held again");
}

#[test]
fn watermarks_interrupt() {
    let mut h = controller(1);
    h.write32(CSMODE, 2);
    h.write32(IE, RX_WATERMARK);
    h.write32(RXMARK, 1);
    h.write32(TXMARK, 1);
    assert_eq!(h.read32(IP), TX_WATERMARK);
    (0..3).for_each(|byte| h.write32(TXDATA, byte));
    assert_eq!(h.read32(IP), 0);
    let frame = |h: &mut FakeHost<Spi>| h.advance_to(h.next_deadline().unwrap());
    frame(&mut h);
    assert!(!h.output("irq"), "not more than the mark");
    frame(&mut h);
    assert!(h.output("irq"));
    assert_eq!(h.read32(IP), TX_WATERMARK | RX_WATERMARK, "the last one is on the bus");
    h.read32(RXDATA);
    assert!(!h.output("irq"));
    h.write32(IE, TX_WATERMARK);
    assert!(h.output("irq"));
}

#[test]
fn the_chip_select_is_that_of_the_frame_held_or_nobodys() {
    let mut h = controller(2);
    h.write32(CSID, 1);
    h.write32(TXDATA, 1);
    assert_eq!(said(&mut h), [(1, Ask::Select(true)), (1, Ask::Exchange(1))]);
    h.advance(10_000);
    assert_eq!(said(&mut h), [(1, Ask::Select(false))]);
    h.write32(CSMODE, 2);
    assert_eq!(said(&mut h), [], "it is asserted by a frame");
    h.write32(TXDATA, 2);
    h.advance(10_000);
    assert_eq!(said(&mut h), [(1, Ask::Select(true)), (1, Ask::Exchange(2))]);
    h.write32(CSMODE, 2);
    h.write32(CSID, 1);
    h.write32(CSDEF, 2);
    assert_eq!(said(&mut h), [(0, Ask::Select(true))], "nothing new of the one that is held");
    h.write32(CSDEF, 3);
    h.write32(CSID, 0);
    assert_eq!(said(&mut h), [(0, Ask::Select(false)), (1, Ask::Select(false))]);
    h.write32(CSMODE, 3);
    h.write32(TXDATA, 3);
    assert_eq!(said(&mut h), [], "clocks that nobody sees");
    h.advance(10_000);
    h.read32(RXDATA);
    assert_eq!(h.read32(RXDATA), 0xff);
}

#[test]
fn the_other_polarity_is_the_other_level() {
    let mut h = controller(1);
    h.write32(CSDEF, 0);
    assert_eq!(said(&mut h), [(0, Ask::Select(true))]);
    h.write32(CSMODE, 2);
    h.write32(TXDATA, 1);
    assert_eq!(said(&mut h), [(0, Ask::Select(false))], "80 clocks with a high line is how cards are woken");
    h.advance(10_000);
    h.write32(CSMODE, 0);
    assert_eq!(said(&mut h), [(0, Ask::Select(true))]);
}

#[test]
fn formats_change_what_is_on_the_line() {
    let mut h = controller(1);
    h.write32(CSMODE, 2);
    assert_eq!(exchange(&mut h, 0x01, 0x0f), 0x0f);
    said(&mut h);
    h.write32(FMT, 8 << 16 | 1 << 2);
    assert_eq!(exchange(&mut h, 0x01, 0x0f), 0xf0);
    assert_eq!(said(&mut h), [(0, Ask::Exchange(0x80))]);
    h.write32(FMT, 8 << 16 | 1 << 3);
    assert_eq!(exchange(&mut h, 0x01, 0x0f), 1 << 31, "nothing is received");
    said(&mut h);
    // Four bits on two lines: two clocks of 80 ns, and nobody understands them.
    h.write32(FMT, 4 << 16 | 1);
    let now = h.now_ns();
    h.write32(TXDATA, 5);
    assert_eq!((said(&mut h), h.timer("frame")), (vec![], Some(now + 160)));
    // What is left of the byte, and behind it what the line was.
    for (fmt, sent, received) in [(4 << 16, 0xa5, 0x5f), (1 << 16, 0x40, 0x81), (0, 0x42, 0x42)] {
        h.advance(10_000);
        h.write32(FMT, fmt);
        h.read32(RXDATA);
        h.write32(TXDATA, sent);
        h.advance(10_000);
        assert_eq!(h.read32(RXDATA), received, "{fmt:#x}");
    }
    h.write32(FMT, 4 << 16 | 1 << 2);
    h.write32(TXDATA, 0xa5);
    h.advance(10_000);
    assert_eq!(h.read32(RXDATA), 0xfa, "from the other end");
}

#[test]
fn nobody_is_a_floating_line_and_two_pull_it_together() {
    let mut h = controller(2);
    h.write32(CSMODE, 2);
    h.write32(TXDATA, 1);
    h.message("bus", 0, None);
    h.advance(10_000);
    assert_eq!(h.read32(RXDATA), 0xff);
    h.write32(CSDEF, 1);
    h.write32(TXDATA, 1);
    h.message("bus", 0, Some(&[0xf3]));
    h.message("bus", 1, Some(&[0x3f]));
    h.advance(10_000);
    assert_eq!(h.read32(RXDATA), 0x33);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let mut h = controller(1);
    h.write32(RXMARK, 5);
    let mut record = h.save();
    let at = record.windows(6).position(|window| window == b"rxmark").unwrap();
    let byte = record[at..].iter().position(|&byte| byte == 5).unwrap();
    record[at + byte] = 9;
    assert!(h.load(&record).unwrap_err().contains("bits that no register has"));
}

#[test]
fn random_runs() {
    for seed in 0..8 {
        for chip_selects in [1, 3, 32] {
            controller(chip_selects).fuzz(seed, 1000);
            controller(chip_selects).fuzz_load(seed, 100);
        }
    }
}
