//! The NS16550A UART: a PC16550D chip (`chip.rs`) on a bus, with a serial port to the outside.
//!
//! Guest to outside: a written character goes to the port at once, and the transmitter is empty again.
//! Outside to guest: what arrives waits in the host's queue, and the chip takes as many characters as it has room for,
//! one without FIFO; every read of the receiver buffer makes room for the next. So the outside never causes an
//! overrun; only loopback and breaks can. In loopback the outside's characters keep waiting.

mod chip;

use chip::{Chip, FIFO_DEPTH, mcr, msr, reg};
use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue, PortKind};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, OutPin, Port, PortEvent, Reset,
    Timer, export_devices,
};

/// Size of the register block on the bus; the eight registers stand at its start, the rest reads as zero.
const REGION_SIZE: u64 = 0x100;
const REGISTERS: u64 = 8;

const IRQ: OutPin = OutPin(0);
/// Modem outputs with their bits in the modem control register. High is active, unlike at the chip's pins.
const MODEM_OUTPUTS: [(&str, OutPin, u8); 4] = [
    ("dtr", OutPin(1), mcr::DTR),
    ("rts", OutPin(2), mcr::RTS),
    ("out1", OutPin(3), mcr::OUT1),
    ("out2", OutPin(4), mcr::OUT2),
];
const SERIAL: Port = Port(0);
const TIMEOUT: Timer = Timer(0);

/// Modem inputs while something is at the other end: no ring.
const CONNECTED: u8 = msr::CTS | msr::DSR | msr::DCD;

/// Options of the UART.
#[derive(DeviceConfig)]
pub struct Config {
    /// Input clock of the baud generator, in Hz. Sets the length of the character timeout.
    #[config(default = 3_686_400, min = 1)]
    pub clock_hz: u32,
    /// Registers stand 1 << reg_shift bytes apart.
    #[config(default = 0, min = 0, max = 2)]
    pub reg_shift: u32,
    /// Width in bytes of the accesses that the device tree asks for: 1, 2 or 4, not more than 1 << reg_shift.
    #[config(default = 1, min = 1, max = 4)]
    pub reg_io_width: u32,
    /// Modem inputs CTS, DSR and DCD: always active, or following the connection of the port.
    #[config(default = "fixed", one_of = ["fixed", "port"])]
    pub modem: String,
}

/// The UART on its bus.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Uart {
    // Configuration.
    #[state(config)]
    clock_hz: u32,
    #[state(config)]
    reg_shift: u32,
    #[state(config)]
    modem_follows_port: bool,
    // Wiring: the level of `irq` that the host has.
    #[state(skip, rebuild = "Self::rebuild_irq")]
    irq: bool,
    // State.
    chip: Chip,
    connected: bool,
}

impl Device for Uart {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        // All widths up to the distance of two registers: a wider access would hit several.
        let access = [1, 1 | 2, 1 | 2 | 4][config.reg_shift.min(2) as usize];
        let desc =
            DeviceDesc::new("ns16550a", "NS16550A UART").region("regs", REGION_SIZE, access).output("irq");
        MODEM_OUTPUTS
            .iter()
            .fold(desc, |desc, (name, ..)| desc.output(name))
            .timer("rx-timeout")
            .port("serial", PortKind::Chr)
            .fdt(fdt(config))
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let Config { clock_hz, reg_shift, reg_io_width, modem } = config;
        if !reg_io_width.is_power_of_two() || reg_io_width > 1 << reg_shift {
            let message = format!(
                "{reg_io_width} is not 1, 2 or 4, or wider than registers with reg_shift {reg_shift}"
            );
            return Err(ConfigError { path: "reg_io_width".into(), message });
        }
        let modem_follows_port = modem == "port";
        let connected = false;
        let chip = Chip::new(modem_inputs(modem_follows_port, connected));
        Ok(Self { clock_hz, reg_shift, modem_follows_port, irq: false, chip, connected })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        let Self { clock_hz: _, reg_shift: _, modem_follows_port, irq, chip, connected } = self;
        match kind {
            Reset::Cold => *connected = false,
            // Resetting this end does not hang up the other.
            Reset::Warm => {}
        }
        *chip = Chip::new(modem_inputs(*modem_follows_port, *connected));
        *irq = false;
        cx.set_pin(IRQ, false);
        cx.timer_cancel(TIMEOUT);
        self.update_modem_pins(cx);
        self.pull(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let Some(index) = self.register(access) else { return Ok(0) };
        let waiting = self.chip.rx_waiting();
        let value = self.chip.read(index);
        if self.chip.rx_waiting() != waiting {
            self.restart_timeout(cx);
            self.pull(cx);
        }
        self.update_irq(cx);
        Ok(u64::from(value))
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let Some(index) = self.register(access) else { return Ok(()) };
        let waiting = self.chip.rx_waiting();
        if let Some(sent) = self.chip.write(index, value as u8) {
            cx.port_write(SERIAL, &[sent]);
        }
        if self.chip.rx_waiting() != waiting {
            self.restart_timeout(cx);
        }
        match index {
            // May have made room.
            reg::IIR_FCR => self.pull(cx),
            // May have left loopback.
            reg::MCR => {
                self.update_modem_pins(cx);
                self.pull(cx);
            }
            _ => {}
        }
        self.update_irq(cx);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.chip.expire_timeout();
        self.update_irq(cx);
    }

    fn on_port(&mut self, cx: &mut Ctx<'_>, _port: Port, event: PortEvent) {
        match event {
            PortEvent::Readable => self.pull(cx),
            PortEvent::Opened => self.set_connected(true),
            PortEvent::Closed => self.set_connected(false),
            PortEvent::Break => {
                self.chip.receive_break();
                self.restart_timeout(cx);
            }
        }
        self.update_irq(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.chip.check()
    }
}

impl Uart {
    /// Which register an access hits: none between two registers, nor behind the last.
    fn register(&self, access: Access) -> Option<u8> {
        let index = access.offset >> self.reg_shift;
        let aligned = index << self.reg_shift == access.offset;
        (aligned && index < REGISTERS).then_some(index as u8)
    }

    /// Take what waits outside, as far as there is room.
    fn pull(&mut self, cx: &mut Ctx<'_>) {
        let room = self.chip.rx_room();
        if room == 0 {
            return;
        }
        let mut bytes = [0; FIFO_DEPTH];
        let got = cx.port_read(SERIAL, &mut bytes[..room]);
        if got == 0 {
            return;
        }
        for byte in &bytes[..got] {
            self.chip.receive(*byte);
        }
        self.restart_timeout(cx);
        self.update_irq(cx);
    }

    /// A character was received or read: the timeout starts anew. PC16550D §8.11.
    fn restart_timeout(&self, cx: &mut Ctx<'_>) {
        if self.chip.timeout_runs() {
            cx.timer_arm(TIMEOUT, cx.now_ns().saturating_add(self.timeout_ns()));
        } else {
            cx.timer_cancel(TIMEOUT);
        }
    }

    /// A bit takes 16 × divisor periods of the input clock (PC16550D §8.3), half a bit 8. At most 96 half bits, so it
    /// fits: 96 × 8 × 65535 × 10⁹ < 2⁶⁴.
    fn timeout_ns(&self) -> u64 {
        let clocks = self.chip.timeout_half_bits() * 8 * u64::from(self.chip.divisor());
        (clocks * 1_000_000_000).div_ceil(u64::from(self.clock_hz))
    }

    fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
        self.chip.set_modem_inputs(modem_inputs(self.modem_follows_port, connected));
    }

    fn update_irq(&mut self, cx: &mut Ctx<'_>) {
        let level = self.chip.interrupt();
        // Drivers poll the line status by the thousand; the host need not hear that nothing changed.
        if level != self.irq {
            self.irq = level;
            cx.set_pin(IRQ, level);
        }
    }

    fn update_modem_pins(&self, cx: &mut Ctx<'_>) {
        let outputs = self.chip.modem_outputs();
        for (_, pin, bit) in MODEM_OUTPUTS {
            cx.set_pin(pin, outputs & bit != 0);
        }
    }

    /// Every callback ends with the pin at the chip's level.
    fn rebuild_irq(&mut self) {
        self.irq = self.chip.interrupt();
    }
}

fn modem_inputs(follow_port: bool, connected: bool) -> u8 {
    if connected || !follow_port { CONNECTED } else { 0 }
}

fn fdt(config: &Config) -> FdtNode {
    let cells = |name: &str, value| (name.to_owned(), FdtValue::Cells(vec![value]));
    let mut props = vec![cells("clock-frequency", config.clock_hz)];
    if config.reg_shift != 0 {
        props.push(cells("reg-shift", config.reg_shift));
    }
    if config.reg_io_width != 1 {
        props.push(cells("reg-io-width", config.reg_io_width));
    }
    FdtNode {
        name: "serial".into(),
        compatible: vec!["ns16550a".into()],
        props,
        interrupts: vec![IRQ.0],
        chosen: [("stdout-path".to_owned(), FdtValue::SelfPath)].into(),
        ..FdtNode::default()
    }
}

export_devices!(Uart);

#[cfg(test)]
mod tests;
