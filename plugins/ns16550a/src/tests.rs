use super::*;
use crate::chip::{fcr, ier, iir, lcr, lsr};
use reprise_plugin_api::{Size, testkit::FakeHost};

const RBR: u64 = 0;
const THR: u64 = 0;
const DLL: u64 = 0;
const IER: u64 = 1;
const DLM: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;
const SCR: u64 = 7;

/// Line status with nothing received.
const IDLE: u8 = lsr::THRE | lsr::TEMT;
/// Trigger levels 1, 4, 8 and 14.
const TRIGGER: [u8; 4] = [0x01, 0x41, 0x81, 0xc1];

fn host() -> FakeHost<Uart> {
    FakeHost::new(Config::default())
}

/// 8N1 at 115200 baud with these interrupts and, if not 0, this FIFO control.
fn ready(interrupts: u8, fifo: u8) -> FakeHost<Uart> {
    let mut host = host();
    set_line(&mut host, 2, 0x03);
    host.write8(FCR, fifo);
    host.write8(IER, interrupts);
    host
}

fn set_line(host: &mut FakeHost<Uart>, divisor: u16, line_control: u8) {
    let [low, high] = divisor.to_le_bytes();
    host.write8(LCR, lcr::DLAB);
    host.write8(DLL, low);
    host.write8(DLM, high);
    host.write8(LCR, line_control);
}

fn input(host: &mut FakeHost<Uart>, bytes: &[u8]) {
    host.port_input("serial", bytes);
}

fn read_all(host: &mut FakeHost<Uart>) -> Vec<u8> {
    let mut out = Vec::new();
    while host.read8(LSR) & lsr::DR != 0 {
        out.push(host.read8(RBR));
    }
    out
}

#[test]
fn registers_after_reset() {
    let mut host = host();
    let values = [IER, IIR, LCR, MCR, LSR, MSR, SCR].map(|offset| host.read8(offset));
    assert_eq!(values, [0, iir::NONE, 0, 0, IDLE, CONNECTED, 0]);
    assert!(!host.output("irq"));
}

#[test]
fn registers_keep_the_bits_that_exist() {
    let mut host = host();
    for (offset, kept) in [(IER, 0x0f), (LCR, 0xff), (MCR, 0x1f), (SCR, 0xff)] {
        host.write8(offset, 0xff);
        assert_eq!(host.read8(offset), kept, "register {offset}");
        host.write8(LCR, 0);
    }
    host.write8(LSR, 0);
    host.write8(MSR, 0);
    host.write8(MCR, 0);
    assert_eq!((host.read8(LSR), host.read8(MSR) & 0xf0), (IDLE, CONNECTED));
}

#[test]
fn the_divisor_latch_is_behind_dlab() {
    let mut host = host();
    set_line(&mut host, 0x1234, 0x03);
    assert_eq!((host.read8(IER), host.port_output("serial")), (0, vec![]));
    host.write8(LCR, lcr::DLAB);
    assert_eq!((host.read8(DLL), host.read8(DLM)), (0x34, 0x12));
}

// ---- transmitter ----

#[test]
fn characters_go_out_at_once() {
    let mut host = host();
    for byte in *b"hi\xff" {
        host.write8(THR, byte);
        assert_eq!(host.read8(LSR), IDLE);
    }
    assert_eq!(host.port_output("serial"), b"hi\xff");
}

#[test]
fn a_break_holds_the_line() {
    let mut host = host();
    host.write8(LCR, lcr::BREAK);
    host.write8(THR, b'x');
    host.write8(LCR, 0);
    host.write8(THR, b'y');
    assert_eq!(host.port_output("serial"), b"y");
}

#[test]
fn the_transmitter_interrupt_is_cleared_by_its_identification() {
    let mut host = host();
    host.write8(IER, ier::THRE);
    assert!(host.output("irq"), "enabled while empty");
    assert_eq!((host.read8(IIR), host.output("irq")), (iir::THRE, false));
    assert_eq!(host.read8(IIR), iir::NONE);
    host.write8(THR, b'x');
    assert!(host.output("irq"), "empty again");
    assert_eq!(host.read8(IIR), iir::THRE);
    // Writing the register again without an edge of the bit does nothing; off and on does.
    host.write8(IER, ier::THRE | ier::MODEM);
    assert!(!host.output("irq"));
    host.write8(IER, 0);
    host.write8(IER, ier::THRE);
    assert!(host.output("irq"));
    host.write8(IER, 0);
    assert!(!host.output("irq"));
}

#[test]
fn the_identification_clears_the_transmitter_interrupt_only_if_it_shows_it() {
    let mut host = ready(ier::THRE | ier::RDA, 0);
    input(&mut host, b"x");
    assert_eq!(host.read8(IIR), iir::RDA);
    assert_eq!(host.read8(RBR), b'x');
    assert_eq!(host.read8(IIR), iir::THRE);
    assert_eq!(host.read8(IIR), iir::NONE);
}

// ---- receiver ----

#[test]
fn without_fifo_one_character_is_taken_at_a_time() {
    let mut host = ready(ier::RDA, 0);
    input(&mut host, b"ab");
    assert_eq!((host.port_waiting("serial"), host.output("irq")), (1, true));
    assert_eq!((host.read8(IIR), host.read8(LSR)), (iir::RDA, IDLE | lsr::DR));
    assert_eq!((host.read8(RBR), host.output("irq")), (b'a', true), "the next one follows");
    assert_eq!((host.read8(RBR), host.output("irq")), (b'b', false));
    assert_eq!((host.read8(LSR), host.read8(RBR)), (IDLE, b'b'), "the buffer keeps the last one");
}

#[test]
fn the_fifo_takes_16_and_the_rest_waits_outside() {
    let mut host = ready(ier::RDA, TRIGGER[0]);
    let sent: Vec<u8> = (0..100).collect();
    input(&mut host, &sent);
    assert_eq!(host.port_waiting("serial"), 84);
    assert_eq!(read_all(&mut host), sent);
    assert!(!host.output("irq"));
}

#[test]
fn the_trigger_level_decides_when_it_interrupts() {
    for (fifo, level) in TRIGGER.into_iter().zip([1, 4, 8, 14]) {
        let mut host = ready(ier::RDA, fifo);
        for count in 1..=16 {
            input(&mut host, b"x");
            assert_eq!(host.output("irq"), count >= level, "{count} of {level}");
        }
        assert_eq!(host.read8(IIR), iir::RDA | iir::FIFOS);
        for left in (0..16).rev() {
            host.read8(RBR);
            assert_eq!(host.output("irq"), left >= level, "{left} left of {level}");
        }
    }
}

#[test]
fn the_timeout_comes_after_four_character_times() {
    // Bits in a character: start, word, parity, stop; times 16 × 2 / 3.6864 MHz a bit, times 4.
    for (line_control, half_bits) in [(0x00, 14), (0x03, 20), (0x04, 15), (0x07, 22), (0x0b, 22), (0x0f, 24)]
    {
        let mut host = ready(ier::RDA, TRIGGER[1]);
        host.write8(LCR, line_control);
        host.advance(1000);
        input(&mut host, b"x");
        let expected = (4 * half_bits * 16 * 1_000_000_000_u64).div_ceil(3_686_400);
        assert_eq!(host.timer("rx-timeout"), Some(1000 + expected), "LCR {line_control:#x}");
        host.advance(expected - 1);
        assert_eq!(host.read8(IIR), iir::NONE | iir::FIFOS);
        host.advance(1);
        assert!(host.output("irq"));
        assert_eq!(host.read8(IIR), iir::TIMEOUT | iir::FIFOS);
    }
}

#[test]
fn a_character_received_or_read_restarts_the_timeout() {
    let mut host = ready(ier::RDA, TRIGGER[2]);
    input(&mut host, b"abc");
    let four = host.timer("rx-timeout").unwrap();
    host.advance(1000);
    input(&mut host, b"d");
    assert_eq!(host.timer("rx-timeout"), Some(1000 + four));
    host.advance(1000);
    host.read8(RBR);
    assert_eq!(host.timer("rx-timeout"), Some(2000 + four));
    host.advance(four);
    assert_eq!(host.read8(IIR), iir::TIMEOUT | iir::FIFOS);
    // Another character does not take it back; a read does, and starts anew.
    input(&mut host, b"e");
    assert_eq!((host.read8(IIR), host.timer("rx-timeout")), (iir::TIMEOUT | iir::FIFOS, None));
    host.read8(RBR);
    assert!(!host.output("irq"));
    assert_eq!(host.timer("rx-timeout"), Some(host.now_ns() + four));
    assert_eq!(read_all(&mut host), b"cde");
    assert_eq!(host.timer("rx-timeout"), None, "nothing waits");
}

#[test]
fn without_fifo_there_is_no_timeout() {
    let mut host = ready(ier::RDA, 0);
    input(&mut host, b"x");
    assert_eq!(host.next_deadline(), None);
}

#[test]
fn the_timeout_of_an_unset_or_slow_line_is_finite() {
    let mut host = ready(ier::RDA, TRIGGER[1]);
    set_line(&mut host, 0, 0x03);
    input(&mut host, b"x");
    assert_eq!(host.timer("rx-timeout"), Some((80_u64 * 8 * 1_000_000_000).div_ceil(3_686_400)));
    let mut host = FakeHost::<Uart>::new(Config { clock_hz: 1, ..Config::default() });
    set_line(&mut host, u16::MAX, 0x0f);
    host.write8(FCR, TRIGGER[1]);
    input(&mut host, b"x");
    assert_eq!(host.timer("rx-timeout"), Some(96 * 8 * 65_535 * 1_000_000_000));
}

// ---- FIFO control ----

#[test]
fn clearing_the_fifo_drops_what_waits_in_it() {
    let mut host = ready(ier::RDA, TRIGGER[1]);
    input(&mut host, b"0123456789abcdef");
    host.write8(FCR, TRIGGER[1] | fcr::CLEAR_RX);
    assert_eq!((host.read8(LSR), host.output("irq"), host.next_deadline()), (IDLE, false, None));
    // What had not been taken yet was not in the FIFO.
    input(&mut host, b"0123456789abcdefgh");
    host.write8(FCR, TRIGGER[1] | fcr::CLEAR_RX);
    assert_eq!(read_all(&mut host), b"gh");
    // Clearing the other FIFO leaves this one alone.
    input(&mut host, b"x");
    host.write8(FCR, TRIGGER[1] | 4);
    assert_eq!(read_all(&mut host), b"x");
}

#[test]
fn switching_the_fifos_clears_them() {
    let mut host = ready(0, 0);
    input(&mut host, b"a");
    host.write8(FCR, TRIGGER[0]);
    assert_eq!((host.read8(LSR), host.read8(IIR)), (IDLE, iir::NONE | iir::FIFOS));
    input(&mut host, b"bc");
    host.write8(FCR, 0);
    assert_eq!((host.read8(LSR), host.read8(IIR)), (IDLE, iir::NONE));
}

#[test]
fn without_the_enable_bit_the_others_are_not_programmed() {
    let mut host = ready(ier::RDA, TRIGGER[1]);
    host.write8(FCR, 0xc2);
    host.write8(FCR, fcr::ENABLE | 0x40);
    input(&mut host, b"abcd");
    assert!(host.output("irq"), "4, not 14");
    let mut host = ready(ier::RDA, 0);
    input(&mut host, b"a");
    host.write8(FCR, fcr::CLEAR_RX);
    assert_eq!(host.read8(LSR), IDLE | lsr::DR);
}

// ---- errors ----

#[test]
fn a_break_is_a_zero_character_with_errors() {
    let mut host = ready(ier::RLS, 0);
    host.port_event("serial", PortEvent::Break);
    assert_eq!(host.read8(IIR), iir::RLS);
    assert_eq!(host.read8(LSR), IDLE | lsr::DR | lsr::BI | lsr::FE);
    assert!(!host.output("irq"), "reading the line status clears it");
    assert_eq!((host.read8(LSR), host.read8(RBR)), (IDLE | lsr::DR, 0));
    for (line_control, parity) in [(0x0b, lsr::PE), (0x1b, 0), (0x2b, lsr::PE), (0x3b, 0)] {
        host.write8(LCR, line_control);
        host.port_event("serial", PortEvent::Break);
        assert_eq!(host.read8(LSR) & lsr::PE, parity, "LCR {line_control:#x}");
        host.read8(RBR);
    }
}

#[test]
fn an_error_shows_when_its_character_is_at_the_top() {
    let mut host = ready(ier::RLS, TRIGGER[0]);
    input(&mut host, b"a");
    host.port_event("serial", PortEvent::Break);
    input(&mut host, b"b");
    assert_eq!((host.read8(LSR), host.output("irq")), (IDLE | lsr::DR | lsr::FIFO_ERROR, false));
    assert_eq!(host.read8(RBR), b'a');
    assert!(host.output("irq"));
    let errors = lsr::BI | lsr::FE;
    assert_eq!(host.read8(LSR), IDLE | lsr::DR | errors | lsr::FIFO_ERROR);
    assert_eq!(host.read8(LSR), IDLE | lsr::DR, "seen, and no other behind it");
    assert_eq!((host.read8(RBR), host.read8(RBR)), (0, b'b'));
    assert_eq!(host.read8(LSR), IDLE);
}

#[test]
fn an_overrun_keeps_the_fifo_and_loses_the_new_character() {
    let mut host = ready(ier::RLS, TRIGGER[0]);
    host.write8(MCR, mcr::LOOP);
    for byte in 0..16 {
        host.write8(THR, byte);
    }
    assert_eq!((host.read8(LSR), host.output("irq")), (IDLE | lsr::DR, false));
    host.write8(THR, 16);
    assert!(host.output("irq"));
    assert_eq!((host.read8(IIR), host.read8(LSR)), (iir::RLS | iir::FIFOS, IDLE | lsr::DR | lsr::OE));
    assert_eq!(read_all(&mut host), (0..16).collect::<Vec<u8>>());
}

#[test]
fn an_overrun_without_fifo_destroys_the_waiting_character() {
    let mut host = ready(0, 0);
    host.write8(MCR, mcr::LOOP);
    host.write8(THR, b'a');
    host.write8(THR, b'b');
    assert_eq!(host.read8(LSR), IDLE | lsr::DR | lsr::OE);
    assert_eq!((host.read8(RBR), host.read8(LSR)), (b'b', IDLE));
}

// ---- interrupt priorities ----

#[test]
fn sources_are_identified_in_order_of_priority() {
    let mut host = ready(0, TRIGGER[0]);
    host.write8(MCR, mcr::LOOP);
    host.write8(MCR, mcr::LOOP | mcr::RTS);
    host.write8(THR, b'x');
    host.write8(MCR, mcr::RTS);
    host.port_event("serial", PortEvent::Break);
    host.write8(IER, 0x0f);
    assert_eq!(host.read8(IIR), iir::RDA | iir::FIFOS, "the error is not at the top yet");
    assert_eq!(host.read8(RBR), b'x');
    assert_eq!(host.read8(IIR), iir::RLS | iir::FIFOS);
    host.read8(LSR);
    assert_eq!(host.read8(IIR), iir::RDA | iir::FIFOS);
    host.read8(RBR);
    assert_eq!(host.read8(IIR), iir::THRE | iir::FIFOS);
    assert_eq!(host.read8(IIR), iir::MODEM | iir::FIFOS);
    assert!(host.output("irq"));
    host.read8(MSR);
    assert_eq!((host.read8(IIR), host.output("irq")), (iir::NONE | iir::FIFOS, false));
}

#[test]
fn each_source_needs_its_enable_bit() {
    let mut host = ready(0, TRIGGER[0]);
    host.write8(MCR, mcr::LOOP | mcr::RTS);
    host.write8(MCR, 0);
    host.port_event("serial", PortEvent::Break);
    host.write8(THR, b'x');
    let mut only = |bit| {
        host.write8(IER, bit);
        (host.output("irq"), host.read8(IIR) & 0x0f)
    };
    assert_eq!(only(0), (false, iir::NONE));
    assert_eq!(only(ier::RLS), (true, iir::RLS));
    assert_eq!(only(ier::RDA), (true, iir::RDA));
    assert_eq!(only(ier::THRE), (true, iir::THRE));
    assert_eq!(only(ier::MODEM), (true, iir::MODEM));
}

// ---- modem and loopback ----

#[test]
fn loopback_returns_data_and_keeps_the_outside_out() {
    let mut host = ready(ier::RDA, TRIGGER[0]);
    host.write8(MCR, mcr::LOOP);
    input(&mut host, b"outside");
    host.port_event("serial", PortEvent::Break);
    host.write8(THR, b'x');
    assert_eq!(host.port_output("serial"), b"");
    assert!(host.output("irq"));
    assert_eq!(read_all(&mut host), b"x");
    assert_eq!(host.port_waiting("serial"), 7);
    host.write8(MCR, 0);
    assert_eq!(read_all(&mut host), b"outside");
}

#[test]
fn loopback_returns_the_modem_lines() {
    let mut host = host();
    let pairs = [(mcr::RTS, msr::CTS), (mcr::DTR, msr::DSR), (mcr::OUT1, msr::RI), (mcr::OUT2, msr::DCD)];
    for (output, input) in pairs {
        host.write8(MCR, mcr::LOOP | output);
        assert_eq!(host.read8(MSR) & 0xf0, input);
    }
    host.write8(MCR, 0x0f);
    assert_eq!(host.read8(MSR) & 0xf0, CONNECTED);
}

#[test]
fn deltas_tell_of_changes_and_the_trailing_edge_of_ring() {
    let mut host = host();
    host.write8(IER, ier::MODEM);
    host.write8(MCR, mcr::LOOP);
    assert!(host.output("irq"));
    assert_eq!(host.read8(MSR), 0x0b, "CTS, DSR and DCD went");
    assert_eq!((host.read8(MSR), host.output("irq")), (0, false));
    host.write8(MCR, mcr::LOOP | mcr::OUT1);
    assert_eq!((host.output("irq"), host.read8(MSR)), (false, msr::RI));
    host.write8(MCR, mcr::LOOP);
    assert_eq!((host.output("irq"), host.read8(MSR)), (true, msr::TERI));
    host.write8(MCR, mcr::LOOP | mcr::RTS);
    host.write8(MCR, mcr::LOOP);
    assert_eq!(host.read8(MSR), 0x01, "there and back is a change");
}

#[test]
fn modem_outputs_are_pins() {
    let mut host = host();
    let pins = |host: &FakeHost<Uart>| ["dtr", "rts", "out1", "out2"].map(|pin| host.output(pin));
    host.write8(MCR, mcr::DTR | mcr::OUT1);
    assert_eq!(pins(&host), [true, false, true, false]);
    host.write8(MCR, mcr::RTS | mcr::OUT2);
    assert_eq!(pins(&host), [false, true, false, true]);
    host.write8(MCR, 0x1f);
    assert_eq!(pins(&host), [false; 4]);
    host.write8(MCR, 0x0f);
    host.reset(Reset::Warm);
    assert_eq!(pins(&host), [false; 4]);
}

#[test]
fn the_modem_lines_may_follow_the_port() {
    let mut host = FakeHost::<Uart>::new(Config { modem: "port".into(), ..Config::default() });
    host.write8(IER, ier::MODEM);
    assert_eq!(host.read8(MSR), 0);
    host.port_event("serial", PortEvent::Opened);
    assert!(host.output("irq"));
    assert_eq!(host.read8(MSR), CONNECTED | 0x0b);
    host.reset(Reset::Warm);
    assert_eq!(host.read8(MSR), CONNECTED, "still connected");
    host.port_event("serial", PortEvent::Closed);
    assert_eq!(host.read8(MSR), 0x0b);
    host.port_event("serial", PortEvent::Opened);
    host.reset(Reset::Cold);
    assert_eq!(host.read8(MSR), 0);
}

#[test]
fn fixed_modem_lines_do_not_care_for_the_port() {
    let mut host = host();
    host.write8(IER, ier::MODEM);
    host.port_event("serial", PortEvent::Opened);
    host.port_event("serial", PortEvent::Closed);
    assert_eq!((host.output("irq"), host.read8(MSR)), (false, CONNECTED));
}

// ---- bus, reset, state ----

#[test]
fn registers_may_stand_apart() {
    let mut host = FakeHost::<Uart>::new(Config { reg_shift: 2, reg_io_width: 4, ..Config::default() });
    host.write32(SCR << 2, 0xabcd);
    assert_eq!(host.read32(SCR << 2), 0xcd);
    assert_eq!(host.read8(SCR << 2), 0xcd);
    assert_eq!(host.read(0, SCR << 2, Size::B2), Ok(0xcd));
    host.write8((SCR << 2) + 1, 0xff);
    assert_eq!(
        (host.read8((SCR << 2) + 1), host.read32(SCR << 2)),
        (0, 0xcd),
        "nothing is between two registers"
    );
    assert_eq!(host.read(0, 0, Size::B8), Err(Fault));
}

#[test]
fn beyond_the_registers_is_nothing() {
    let mut host = host();
    let before = host.save();
    for offset in [8, 0xff] {
        host.write8(offset, 0xff);
        assert_eq!(host.read8(offset), 0);
    }
    assert_eq!(host.save(), before);
    assert_eq!(host.read(0, 0, Size::B2), Err(Fault));
    assert_eq!(host.read(0, 0x100, Size::B1), Err(Fault));
}

#[test]
fn options_are_checked() {
    let create = |reg_shift, reg_io_width| {
        Uart::create(Config { reg_shift, reg_io_width, ..Config::default() }).map(|_| ())
    };
    for good in [(0, 1), (1, 1), (1, 2), (2, 4)] {
        assert_eq!(create(good.0, good.1), Ok(()));
    }
    for bad in [(0, 2), (1, 4), (2, 3)] {
        assert_eq!(create(bad.0, bad.1).unwrap_err().path, "reg_io_width");
    }
}

#[test]
fn a_reset_empties_the_chip_but_not_the_hosts_queue() {
    let mut host = ready(0x0f, TRIGGER[3]);
    host.write8(SCR, 1);
    input(&mut host, b"0123456789abcdefXY");
    host.port_event("serial", PortEvent::Break);
    assert!(host.output("irq"));
    host.reset(Reset::Warm);
    assert!(!host.output("irq"));
    assert_eq!([IER, LCR, MCR, SCR].map(|offset| host.read8(offset)), [0; 4]);
    assert_eq!((host.read8(IIR), host.next_deadline()), (iir::NONE, None));
    assert_eq!(read_all(&mut host), b"XY");
}

#[test]
fn the_state_survives_in_the_middle_of_everything() {
    let mut host = ready(ier::RDA | ier::RLS, TRIGGER[1]);
    input(&mut host, b"a");
    host.port_event("serial", PortEvent::Break);
    host.save_load();
    host.advance(1_000_000);
    assert_eq!(host.read8(IIR), iir::TIMEOUT | iir::FIFOS);
    host.save_load();
    assert_eq!(host.read8(RBR), b'a');
    assert_eq!(host.read8(IIR), iir::RLS | iir::FIFOS);
    host.save_load();
    assert!(host.output("irq"));
    host.read8(LSR);
    assert!(!host.output("irq"), "the loaded device knows that the pin was high");
}

#[test]
fn a_state_that_no_chip_has_is_refused() {
    let mut host = ready(0, TRIGGER[0]);
    input(&mut host, b"0123");
    let mut record = host.save();
    let name = b"fifo_enabled";
    let at = record.windows(name.len()).position(|window| window == name).unwrap();
    // After the name come the kind and a length of four bytes.
    let value = at + name.len() + 5;
    assert_eq!(std::mem::replace(&mut record[value], 0), 1);
    let error = host.load(&record).unwrap_err();
    assert!(error.contains("4 characters in a receiver of 1"), "{error}");
}

#[test]
fn the_device_tree_node() {
    let node = |reg_shift, reg_io_width| {
        Uart::describe(&Config { reg_shift, reg_io_width, ..Config::default() }).fdt.unwrap()
    };
    let prop = |name: &str, value| (name.to_owned(), FdtValue::Cells(vec![value]));
    assert_eq!(node(0, 1).props, [prop("clock-frequency", 3_686_400)]);
    let props = [prop("clock-frequency", 3_686_400), prop("reg-shift", 2), prop("reg-io-width", 4)];
    assert_eq!(node(2, 4).props, props);
    assert_eq!(node(0, 1).interrupts, [0]);
    assert_eq!(node(0, 1).chosen["stdout-path"], FdtValue::SelfPath);
}

#[test]
fn it_survives_the_fuzzer() {
    for (seed, reg_shift, modem) in [(1, 0, "fixed"), (2, 0, "port"), (3, 2, "port")] {
        let config = Config { reg_shift, modem: modem.into(), ..Config::default() };
        let mut host = FakeHost::<Uart>::new(config);
        host.fuzz(seed, 5000);
        host.fuzz_load(seed, 300);
    }
}
