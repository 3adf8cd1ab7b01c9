//! The OpenCores I²C controller: one byte of the bus at a time, as the guest's driver commands it.
//!
//! Registers as in the "I2C-Master Core Specification" 0.9, §3, a byte each, at consecutive offsets. A command has its
//! effect on the targets at once, and what it found shows when as much virtual time has passed as the bits take.

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue};
use reprise_plugin_api::link::i2c::{self, Answer, Ask};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Link, OutPin, Reset, Timer,
    export_devices,
};

/// Clock prescale, low and high byte. §3.2.1.
const PRESCALE_LOW: u64 = 0;
const PRESCALE_HIGH: u64 = 1;
/// Control. §3.2.2.
const CONTROL: u64 = 2;
/// Transmit (written) and receive (read). §3.2.3, §3.2.4.
const DATA: u64 = 3;
/// Command (written) and status (read). §3.2.5, §3.2.6.
const COMMAND: u64 = 4;

// Bits of CONTROL.
const ENABLE: u8 = 1 << 7;
const INTERRUPT_ENABLE: u8 = 1 << 6;

// Bits of the command register. All but ACK clear themselves.
const START: u8 = 1 << 7;
const STOP: u8 = 1 << 6;
const READ: u8 = 1 << 5;
const WRITE: u8 = 1 << 4;
const INTERRUPT_ACK: u8 = 1;
/// What makes a command one that takes time.
const MOVES: u8 = START | STOP | READ | WRITE;

// Bits of the status register. There is one controller on the bus, so arbitration is never lost.
const NO_ACK: u8 = 1 << 7;
const BUSY: u8 = 1 << 6;
const IN_PROGRESS: u8 = 1 << 1;
const INTERRUPT: u8 = 1;

/// Core clocks in a bit for each step of the prescaler. §3.2.1: prescale = clock / (5 * SCL) - 1.
const CLOCKS_PER_BIT: u64 = 5;

const IRQ: OutPin = OutPin(0);
const TRANSFER: Timer = Timer(0);
const BUS: Link = Link(0);

/// Options of the controller.
#[derive(DeviceConfig)]
pub struct Config {
    /// The core's clock in Hz, from which drivers derive the prescaler.
    #[config(default = 50_000_000, min = 1_000_000, max = 1_000_000_000)]
    pub clock_hz: u32,
    /// The bus clock in Hz that drivers are told to use.
    #[config(default = 100_000, min = 1000, max = 3_400_000)]
    pub bus_hz: u32,
}

/// The controller.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct I2c {
    #[state(config)]
    clock_hz: u32,
    prescale: u16,
    control: u8,
    transmit: u8,
    receive: u8,
    /// Busy, in progress, interrupt and no-acknowledge, as they are read.
    status: u8,
    /// A START was sent and no byte since: the next one is an address.
    starting: bool,
    /// Who was addressed since the last START.
    target: Option<u8>,
    /// What a transfer under way has found: the acknowledge bit, and what was read.
    found_no_ack: bool,
    found_byte: u8,
}

impl I2c {
    fn drive(&self, cx: &mut Ctx<'_>) {
        let wanted = self.control & INTERRUPT_ENABLE != 0;
        cx.set_pin(IRQ, wanted && self.status & INTERRUPT != 0);
    }

    fn command(&mut self, cx: &mut Ctx<'_>, command: u8) {
        if command & INTERRUPT_ACK != 0 {
            self.status &= !INTERRUPT;
        }
        // The core is deaf while it is off or at work.
        if command & MOVES == 0 || self.control & ENABLE == 0 || self.status & IN_PROGRESS != 0 {
            return;
        }
        self.status |= IN_PROGRESS;
        // Nobody pulls the line low but a target that answers.
        (self.found_no_ack, self.found_byte) = (true, 0xff);
        let mut bits = 0;
        if command & START != 0 {
            self.starting = true;
            self.status |= BUSY;
            bits += 1;
        }
        if command & WRITE != 0 {
            self.write_byte(cx);
            bits += 9;
        } else if command & READ != 0 {
            self.ask(cx, Ask::Read);
            bits += 9;
        }
        if command & STOP != 0 {
            self.ask(cx, Ask::Stop);
            (self.target, self.starting) = (None, false);
            self.status &= !BUSY;
            bits += 1;
        }
        cx.timer_arm(TRANSFER, cx.now_ns().saturating_add(bits * self.bit_ns()));
    }

    fn write_byte(&mut self, cx: &mut Ctx<'_>) {
        if !std::mem::take(&mut self.starting) {
            return self.ask(cx, Ask::Write(self.transmit));
        }
        let address = self.transmit >> 1;
        // Who is no longer addressed sees a START and another's address.
        if self.target.is_some_and(|target| target != address) {
            self.ask(cx, Ask::Stop);
        }
        self.target = Some(address);
        self.ask(cx, Ask::Start { read: self.transmit & 1 != 0 });
    }

    fn ask(&self, cx: &mut Ctx<'_>, ask: Ask) {
        if let Some(target) = self.target {
            cx.send(BUS, target.into(), &ask.encode());
        }
    }

    /// Of a bit on the bus, at least one clock of the core.
    fn bit_ns(&self) -> u64 {
        let clocks = CLOCKS_PER_BIT * (u64::from(self.prescale) + 1);
        (clocks * 1_000_000_000).div_ceil(u64::from(self.clock_hz))
    }

    fn set_control(&mut self, cx: &mut Ctx<'_>, value: u8) {
        self.control = value & (ENABLE | INTERRUPT_ENABLE);
        // Switched off in the middle: the bus is let go.
        if self.control & ENABLE == 0 {
            self.ask(cx, Ask::Stop);
            (self.target, self.starting) = (None, false);
            self.status &= !(BUSY | IN_PROGRESS);
            cx.timer_cancel(TRANSFER);
        }
    }
}

impl Device for I2c {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let cell = |name: &str, value: u32| (name.to_owned(), FdtValue::Cells(vec![value]));
        let node = FdtNode {
            name: "i2c".into(),
            compatible: vec!["opencores,i2c-ocores".into()],
            props: vec![
                cell("opencores,ip-clock-frequency", config.clock_hz),
                cell("clock-frequency", config.bus_hz),
                cell("reg-io-width", 1),
            ],
            interrupts: vec![IRQ.0],
            ..FdtNode::default()
        };
        DeviceDesc::new("i2c-ocores", "OpenCores I²C controller")
            .region("regs", 0x1000, 1)
            .output("irq")
            .timer("transfer")
            .controller("bus", i2c::PROTOCOL, i2c::ADDRESSES)
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            clock_hz: config.clock_hz,
            prescale: u16::MAX,
            control: 0,
            transmit: 0,
            receive: 0,
            status: 0,
            starting: false,
            target: None,
            found_no_ack: false,
            found_byte: 0,
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self {
            clock_hz: _,
            prescale,
            control,
            transmit,
            receive,
            status,
            starting,
            target,
            found_no_ack,
            found_byte,
        } = self;
        *prescale = u16::MAX;
        [*control, *transmit, *receive, *status, *found_byte] = [0; 5];
        (*starting, *found_no_ack, *target) = (false, false, None);
        self.drive(cx);
    }

    fn mmio_read(&mut self, _cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let [low, high] = self.prescale.to_le_bytes();
        let value = match access.offset {
            PRESCALE_LOW => low,
            PRESCALE_HIGH => high,
            CONTROL => self.control,
            DATA => self.receive,
            COMMAND => self.status,
            _ => 0,
        };
        Ok(value.into())
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let value = value as u8;
        let [low, high] = self.prescale.to_le_bytes();
        match access.offset {
            PRESCALE_LOW => self.prescale = u16::from_le_bytes([value, high]),
            PRESCALE_HIGH => self.prescale = u16::from_le_bytes([low, value]),
            CONTROL => self.set_control(cx, value),
            DATA => self.transmit = value,
            COMMAND => self.command(cx, value),
            _ => {}
        }
        self.drive(cx);
        Ok(())
    }

    fn on_message(&mut self, _cx: &mut Ctx<'_>, _link: Link, at: u32, message: Option<&[u8]>) {
        // After a STOP nobody is asked any more, but the answers of before are on their way. `None`: nobody is there.
        let known =
            self.status & IN_PROGRESS != 0 && self.target.is_none_or(|target| u32::from(target) == at);
        match message.and_then(Answer::decode).filter(|_| known) {
            Some(Answer::Ack) => self.found_no_ack = false,
            Some(Answer::Data(byte)) => (self.found_byte, self.found_no_ack) = (byte, false),
            Some(Answer::Nack) | None => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.status &= !(IN_PROGRESS | NO_ACK);
        self.status |= INTERRUPT | if self.found_no_ack { NO_ACK } else { 0 };
        self.receive = self.found_byte;
        self.drive(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        match self.target {
            Some(target) if u32::from(target) >= i2c::ADDRESSES => {
                Err(format!("address {target:#x} has 8 bits"))
            }
            _ => Ok(()),
        }
    }
}

export_devices!(I2c);

#[cfg(test)]
mod tests;
