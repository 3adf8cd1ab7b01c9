//! `gpio`: a small controller for general purpose pins, and the example device of the documentation.
//!
//! Up to 32 inputs and 32 outputs. Registers are 32 bits wide, little-endian, bit *n* for pin *n*; bits without a pin
//! read zero and ignore writes. Other access widths are access faults.
//!
//! | offset | name    | access | reset | meaning                                                                    |
//! |--------|---------|--------|-------|----------------------------------------------------------------------------|
//! | 0x00   | IN      | RO     | wires | level of the inputs                                                        |
//! | 0x04   | OUT     | RW     | 0     | level to drive                                                             |
//! | 0x08   | OE      | RW     | 0     | 1: `out.n` has the level of OUT; 0: it is low                              |
//! | 0x0c   | RISE    | RW     | 0     | 1: a rising edge of `in.n` sets PENDING                                    |
//! | 0x10   | FALL    | RW     | 0     | 1: a falling edge of `in.n` sets PENDING                                   |
//! | 0x14   | PENDING | W1C    | 0     | 1: an enabled edge was seen; writing 1 clears the bit. `irq` is high while |
//! |        |         |        |       | any bit is 1                                                               |
//!
//! Everything from 0x18 up reads zero and ignores writes. The board wires `in.0` to `in.(n-1)`, `out.0` to `out.(n-1)`
//! and `irq`.

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, InPin, OutPin, Reset,
    desc::{DeviceDesc, FdtNode, FdtValue},
};

mod regs {
    pub(crate) const IN: u64 = 0x00;
    pub(crate) const OUT: u64 = 0x04;
    pub(crate) const OE: u64 = 0x08;
    pub(crate) const RISE: u64 = 0x0c;
    pub(crate) const FALL: u64 = 0x10;
    pub(crate) const PENDING: u64 = 0x14;
    pub(crate) const SIZE: u64 = 0x1000;
}

const IRQ: OutPin = OutPin(0);
/// The flattened index of `out.0`: outputs are declared after `irq`.
const FIRST_OUT: u32 = 1;

/// What a board may choose.
#[derive(DeviceConfig)]
pub struct Config {
    /// Number of inputs, and of outputs.
    #[config(default = 8, min = 1, max = 32)]
    pub pins: u32,
}

/// The controller.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Gpio {
    #[state(config)]
    pins: u32,
    /// Levels of the inputs as the wires last said.
    inputs: u32,
    out: u32,
    enable: u32,
    rise: u32,
    fall: u32,
    pending: u32,
}

impl Gpio {
    /// The bits that have a pin.
    fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.pins)
    }

    /// Drive every output to what the registers say. Pins are levels: computing them all anew is simpler than
    /// following each change, and the host only passes changes on.
    fn drive(&self, cx: &mut Ctx<'_>) {
        let levels = self.out & self.enable;
        for pin in 0..self.pins {
            cx.set_pin(OutPin(FIRST_OUT + pin), levels & (1 << pin) != 0);
        }
        cx.set_pin(IRQ, self.pending != 0);
    }
}

impl Device for Gpio {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        DeviceDesc::new("gpio", "general purpose pins with edge interrupts")
            .region("regs", regs::SIZE, 4)
            .inputs("in", config.pins)
            .output("irq")
            .outputs("out", config.pins)
            .fdt(FdtNode {
                name: "gpio".to_owned(),
                compatible: vec!["reprise,gpio".to_owned()],
                props: vec![
                    ("gpio-controller".to_owned(), FdtValue::Empty),
                    ("#gpio-cells".to_owned(), FdtValue::Cells(vec![2])),
                    ("ngpios".to_owned(), FdtValue::Cells(vec![config.pins])),
                ],
                interrupts: vec![IRQ.0],
                ..FdtNode::default()
            })
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { pins: config.pins, inputs: 0, out: 0, enable: 0, rise: 0, fall: 0, pending: 0 })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        // Every field is named, so that a new one makes somebody think about reset. The inputs are the wires' levels,
        // not ours: they stay, for the host tells us of changes only.
        let Self { pins: _, inputs: _, out, enable, rise, fall, pending } = self;
        [*out, *enable, *rise, *fall, *pending] = [0; 5];
        self.drive(cx);
    }

    fn mmio_read(&mut self, _cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let value = match access.offset {
            regs::IN => self.inputs,
            regs::OUT => self.out,
            regs::OE => self.enable,
            regs::RISE => self.rise,
            regs::FALL => self.fall,
            regs::PENDING => self.pending,
            _ => 0,
        };
        Ok(value.into())
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let value = value as u32 & self.mask();
        match access.offset {
            regs::OUT => self.out = value,
            regs::OE => self.enable = value,
            regs::RISE => self.rise = value,
            regs::FALL => self.fall = value,
            regs::PENDING => self.pending &= !value,
            _ => {}
        }
        self.drive(cx);
        Ok(())
    }

    fn on_pin(&mut self, cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        let bit = 1 << pin.0;
        self.inputs = if high { self.inputs | bit } else { self.inputs & !bit };
        self.pending |= bit & if high { self.rise } else { self.fall };
        self.drive(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        let all = self.inputs | self.out | self.enable | self.rise | self.fall | self.pending;
        match all & !self.mask() {
            0 => Ok(()),
            stray => Err(format!("bits {stray:#x} are set, but there are {} pins", self.pins)),
        }
    }
}

reprise_plugin_api::export_devices!(Gpio);

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_plugin_api::{Size, testkit::FakeHost};

    fn gpio() -> FakeHost<Gpio> {
        FakeHost::new(Config::default())
    }

    #[test]
    fn inputs_are_read_as_the_wires_are() {
        let mut h = gpio();
        h.set_input("in.2", true);
        h.set_input("in.7", true);
        assert_eq!(h.read32(regs::IN), 0x84);
        h.set_input("in.2", false);
        h.write32(regs::IN, 0xff);
        assert_eq!(h.read32(regs::IN), 0x80);
    }

    #[test]
    fn an_output_follows_its_bit_while_enabled() {
        let mut h = gpio();
        h.write32(regs::OUT, 0b11);
        assert!(!h.output("out.0"));
        h.write32(regs::OE, 0b01);
        assert!(h.output("out.0") && !h.output("out.1"));
        h.write32(regs::OUT, 0b10);
        assert!(!h.output("out.0") && !h.output("out.1"));
        let changes: Vec<_> = h.pin_log().into_iter().map(|(_, name, high)| (name, high)).collect();
        assert_eq!(changes, [("out.0".to_owned(), true), ("out.0".to_owned(), false)]);
    }

    #[test]
    fn bits_without_a_pin_read_zero() {
        let mut h = FakeHost::<Gpio>::new(Config { pins: 5 });
        for offset in [regs::OUT, regs::OE, regs::RISE, regs::FALL] {
            h.write32(offset, u32::MAX);
            assert_eq!(h.read32(offset), 0x1f, "offset {offset:#x}");
        }
        let mut h = FakeHost::<Gpio>::new(Config { pins: 32 });
        h.write32(regs::OUT, u32::MAX);
        assert_eq!(h.read32(regs::OUT), u32::MAX);
    }

    #[test]
    fn only_enabled_edges_are_pending() {
        let mut h = gpio();
        h.write32(regs::RISE, 0b001);
        h.write32(regs::FALL, 0b010);
        for pin in ["in.0", "in.1", "in.2"] {
            h.set_input(pin, true);
        }
        assert_eq!(h.read32(regs::PENDING), 0b001);
        for pin in ["in.0", "in.1", "in.2"] {
            h.set_input(pin, false);
        }
        assert_eq!(h.read32(regs::PENDING), 0b011);
    }

    #[test]
    fn the_interrupt_lasts_until_every_pending_bit_is_cleared() {
        let mut h = gpio();
        h.write32(regs::RISE, 0b11);
        h.set_input("in.0", true);
        h.set_input("in.1", true);
        assert!(h.output("irq"));
        h.write32(regs::PENDING, 0b01);
        assert!(h.output("irq"));
        h.write32(regs::PENDING, 0b10);
        assert!(!h.output("irq"));
        assert_eq!(h.read32(regs::PENDING), 0);
    }

    #[test]
    fn enabling_an_edge_late_does_not_find_old_ones() {
        let mut h = gpio();
        h.set_input("in.0", true);
        h.write32(regs::RISE, 1);
        assert_eq!(h.read32(regs::PENDING), 0);
    }

    #[test]
    fn reset_clears_the_registers_but_not_the_wires() {
        let mut h = gpio();
        h.write32(regs::OUT, 1);
        h.write32(regs::OE, 1);
        h.write32(regs::RISE, 1);
        h.set_input("in.0", true);
        assert!(h.output("out.0") && h.output("irq"));
        h.reset(Reset::Warm);
        assert!(!h.output("out.0") && !h.output("irq"));
        for offset in [regs::OUT, regs::OE, regs::RISE, regs::FALL, regs::PENDING] {
            assert_eq!(h.read32(offset), 0, "offset {offset:#x}");
        }
        assert_eq!(h.read32(regs::IN), 1);
    }

    #[test]
    fn only_32_bit_accesses_reach_the_registers() {
        let mut h = gpio();
        for size in [Size::B1, Size::B2, Size::B8] {
            assert_eq!(h.read(0, regs::IN, size), Err(Fault));
        }
        assert_eq!(h.read32(0x18), 0);
        assert_eq!(h.read32(regs::SIZE - 4), 0);
    }

    #[test]
    fn a_state_from_a_wider_controller_is_refused() {
        let mut wide = FakeHost::<Gpio>::new(Config { pins: 9 });
        wide.write32(regs::OUT, 0x100);
        let error = gpio().load(&wide.save()).unwrap_err();
        assert_eq!(error, "bits 0x100 are set, but there are 8 pins");
    }

    #[test]
    fn the_descriptor_follows_the_options() {
        let h = FakeHost::<Gpio>::new(Config { pins: 3 });
        assert_eq!(h.desc().inputs[0].count, Some(3));
        let node = h.desc().fdt.as_ref().unwrap();
        assert!(node.props.contains(&("ngpios".to_owned(), FdtValue::Cells(vec![3]))));
    }

    #[test]
    fn saving_and_loading_is_invisible() {
        for seed in 0..8 {
            gpio().fuzz(seed, 1000);
            gpio().fuzz_load(seed, 40);
        }
    }
}
