//! SiFive's SPI controller: frames of 8 bits through two FIFOs, one at a time on the bus.
//!
//! Registers as in the chapter "Serial Peripheral Interface (SPI)" of the SiFive FU540-C000 manual, of an instance
//! without the flash interface: `fctrl` and `ffmt` read 0. A frame is exchanged with the selected targets when it
//! begins, and what they answered is in the receive FIFO when as much virtual time has passed as its clocks and the
//! delays around them take.
//!
//! Not modelled: data on more than one line. Dual and quad frames are shorter, but exchanged like single ones; frames
//! of other than 8 bits take their time and reach nobody, so ones come in behind what is left of the byte in the shift
//! register.

mod registers;

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue};
use reprise_plugin_api::link::spi::{self, Ask};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Link, OutPin, Reset, Timer,
    export_devices,
};
use std::collections::VecDeque;

use registers::{CsMode, Registers};

/// Frames in each FIFO.
const FIFO: usize = 8;
/// Bits in a frame that targets understand.
const FRAME_BITS: u32 = 8;
/// Where nobody drives the line.
const FLOATING: u8 = 0xff;

/// Bit 31 of `txdata`: full, and of `rxdata`: empty. §19.11, §19.12.
const FLAG: u32 = 1 << 31;
/// Bits of `ie` and `ip`. §19.15.
const TX_WATERMARK: u32 = 1;
const RX_WATERMARK: u32 = 1 << 1;

const IRQ: OutPin = OutPin(0);
const FRAME: Timer = Timer(0);
const BUS: Link = Link(0);

/// Options of the controller.
#[derive(DeviceConfig)]
pub struct Config {
    /// The input clock in Hz, of which the serial clock is at most half.
    #[config(default = 100_000_000, min = 1_000_000, max = 1_000_000_000)]
    pub clock_hz: u32,
    /// How many chip selects there are.
    #[config(default = 1, min = 1, max = 32)]
    pub chip_selects: u32,
}

/// A frame that is being shifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
struct Frame {
    /// What comes in goes to the receive FIFO.
    receives: bool,
    /// The first bit is the least significant one.
    reversed: bool,
    /// What the targets answered, as it is on the line.
    incoming: u8,
}

/// The controller.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Spi {
    #[state(config)]
    clock_hz: u32,
    #[state(config)]
    chip_selects: u32,
    registers: Registers,
    transmit: VecDeque<u8>,
    receive: VecDeque<u8>,
    frame: Option<Frame>,
    /// The chip select of `csid` is at the level that `csdef` does not have.
    asserted: bool,
    /// It is no longer when the frame ends.
    clear: bool,
    /// The chip selects that are low, as the targets were told.
    low: u32,
}

impl Spi {
    /// Levels, not events: nothing has to be acknowledged. §19.13 to §19.15.
    fn pending(&self) -> u32 {
        let Registers { txmark, rxmark, .. } = self.registers;
        let tx = if (self.transmit.len() as u32) < txmark { TX_WATERMARK } else { 0 };
        let rx = if self.receive.len() as u32 > rxmark { RX_WATERMARK } else { 0 };
        tx | rx
    }

    fn drive(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(IRQ, self.pending() & self.registers.ie != 0);
    }

    /// Tell the targets whose chip select has another level now.
    fn select(&mut self, cx: &mut Ctx<'_>) {
        let high = self.registers.csdef ^ u32::from(self.asserted) << self.registers.csid;
        let low = !high & self.registers.csdef_mask();
        for at in (0..self.chip_selects).filter(|at| (low ^ self.low) >> at & 1 != 0) {
            cx.send(BUS, at, &Ask::Select(low >> at & 1 != 0).encode());
        }
        self.low = low;
    }

    /// Shift the next frame, if there is one and none under way.
    fn begin(&mut self, cx: &mut Ctx<'_>) {
        if self.frame.is_some() {
            return;
        }
        let Some(data) = self.transmit.pop_front() else { return };
        let asserts = !self.asserted && self.registers.cs_mode() != CsMode::Off;
        if asserts {
            self.asserted = true;
            self.select(cx);
        }
        let reversed = self.registers.lsb_first();
        let outgoing = if reversed { data.reverse_bits() } else { data };
        let bits = self.registers.frame_bits();
        let incoming = shifted(outgoing, bits);
        self.frame = Some(Frame { receives: !self.registers.transmits_only(), reversed, incoming });
        if bits == FRAME_BITS {
            for at in (0..self.chip_selects).filter(|at| self.low >> at & 1 != 0) {
                cx.send(BUS, at, &Ask::Exchange(outgoing).encode());
            }
        }
        let clocks = self.registers.frame_clocks(asserts);
        let ns = (clocks * 1_000_000_000).div_ceil(u64::from(self.clock_hz));
        cx.timer_arm(FRAME, cx.now_ns().saturating_add(ns));
    }

    fn end(&mut self, cx: &mut Ctx<'_>) {
        let Some(frame) = self.frame.take() else { return };
        // What finds the FIFO full is lost.
        if frame.receives && self.receive.len() < FIFO {
            let reversed = frame.incoming.reverse_bits();
            self.receive.push_back(if frame.reversed { reversed } else { frame.incoming });
        }
        let clear = std::mem::take(&mut self.clear) || self.registers.cs_mode() == CsMode::Auto;
        self.asserted &= !clear;
        self.select(cx);
        self.begin(cx);
    }
}

/// The shift register with this byte, most significant bit first, after `bits` clocks of a floating line: SPIPhysical.
fn shifted(byte: u8, bits: u32) -> u8 {
    let ones = FLOATING.checked_shr(FRAME_BITS.saturating_sub(bits)).unwrap_or(0);
    byte.checked_shl(bits).unwrap_or(0) | ones
}

impl Device for Spi {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let cells = |name: &str, value: u32| (name.to_owned(), FdtValue::Cells(vec![value]));
        let clock = FdtNode {
            name: "spi-clock".into(),
            compatible: vec!["fixed-clock".into()],
            props: vec![cells("#clock-cells", 0), cells("clock-frequency", config.clock_hz)],
            ..FdtNode::default()
        };
        let node = FdtNode {
            name: "spi".into(),
            compatible: vec!["sifive,fu540-c000-spi".into(), "sifive,spi0".into()],
            props: vec![
                ("clocks".into(), FdtValue::SiblingRef(0)),
                cells("sifive,fifo-depth", FIFO as u32),
                cells("sifive,max-bits-per-word", FRAME_BITS),
            ],
            interrupts: vec![IRQ.0],
            siblings: vec![clock],
            ..FdtNode::default()
        };
        DeviceDesc::new("sifive-spi", "SPI controller of SiFive")
            .region("regs", 0x1000, 4)
            .output("irq")
            .timer("frame")
            .controller("bus", spi::PROTOCOL, config.chip_selects)
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            clock_hz: config.clock_hz,
            chip_selects: config.chip_selects,
            registers: Registers::new(config.chip_selects),
            transmit: VecDeque::new(),
            receive: VecDeque::new(),
            frame: None,
            asserted: false,
            clear: false,
            low: 0,
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { clock_hz: _, chip_selects, registers, transmit, receive, frame, asserted, clear, low } =
            self;
        *registers = Registers::new(*chip_selects);
        transmit.clear();
        receive.clear();
        // The targets are reset with the machine, and begin as not selected.
        (*frame, *asserted, *clear, *low) = (None, false, false, 0);
        self.drive(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let value = match access.offset {
            registers::TXDATA if self.transmit.len() == FIFO => FLAG,
            registers::TXDATA => 0,
            registers::RXDATA => {
                let data = self.receive.pop_front().map_or(FLAG, u32::from);
                self.drive(cx);
                data
            }
            registers::IP => self.pending(),
            offset => self.registers.read(offset),
        };
        Ok(value.into())
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let value = value as u32;
        match access.offset {
            registers::TXDATA => {
                // Ignored while the FIFO is full, and when the flag is written back as it was read, with the data:
                // that is how `amoor.w` tries. NonBlockingEnqueue.
                if self.transmit.len() < FIFO && value & FLAG == 0 {
                    self.transmit.push_back(value as u8);
                }
                self.begin(cx);
            }
            offset => {
                let ends = self.registers.write(offset, value);
                // A chip select outlasts the frame that is being shifted. SPIMedia.
                if self.frame.is_some() {
                    self.clear |= ends;
                } else {
                    self.asserted &= !ends;
                    self.select(cx);
                }
            }
        }
        self.drive(cx);
        Ok(())
    }

    fn on_message(&mut self, _cx: &mut Ctx<'_>, _link: Link, _at: u32, message: Option<&[u8]>) {
        // Several that are selected pull the line low together. `None`: nobody is there.
        if let (Some(frame), Some(&[byte])) = (&mut self.frame, message) {
            frame.incoming &= byte;
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.end(cx);
        self.drive(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        if self.transmit.len() > FIFO || self.receive.len() > FIFO {
            return Err("more frames than the FIFOs hold".into());
        }
        if self.clear && self.frame.is_none() {
            return Err("a chip select waits for a frame that is not there".into());
        }
        let mask = self.registers.csdef_mask();
        if self.low & !mask != 0 || self.registers.csdef & !mask != 0 {
            return Err("a chip select that is not there".into());
        }
        self.registers.check(self.chip_selects)
    }
}

export_devices!(Spi);

#[cfg(test)]
mod tests;
