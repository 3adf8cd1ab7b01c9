//! An I²C EEPROM of Atmel's AT24C family, 256 bytes to 64 KiB.
//!
//! As in the data sheets AT24C02C (8 bits of address), AT24C04C to AT24C16C (further bits in the device's I²C address,
//! so that it answers to several) and AT24C32E to AT24C512C (two bytes of address). What is written is kept in the
//! saved state, and lost with the machine: `content` says what a new one holds.

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue};
use reprise_plugin_api::link::i2c::{self, Answer, Ask};
use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceConfig, DeviceState, InPin, Link, Reset, Timer, export_devices,
};

/// Bytes that one I²C address reaches with a single byte of word address.
const BLOCK: u32 = 256;
/// tWR, the longest that a write cycle takes. AT24C02C, table "AC characteristics".
const WRITE_CYCLE_NS: u64 = 5_000_000;

const WRITE_PROTECT: InPin = InPin(0);
const WRITE_CYCLE: Timer = Timer(0);

/// Options of the memory.
#[derive(DeviceConfig)]
pub struct Config {
    /// Which one: AT24C with this number, its size in Kibit.
    #[config(default = "02", one_of = ["02", "04", "08", "16", "32", "64", "128", "256", "512"])]
    pub model: String,
    /// What a new one holds from address 0 on, in hexadecimal digits; the rest is erased, 0xff.
    #[config(default = "")]
    pub content: String,
}

/// What a model is like.
#[derive(Clone, Copy)]
struct Shape {
    bytes: u32,
    /// Bytes that are written in one cycle.
    page: u32,
    /// Bytes of word address.
    address_bytes: u8,
}

impl Shape {
    fn of(model: &str) -> Self {
        // The schema has no others.
        let kibit: u32 = model.parse().unwrap_or(2);
        let bytes = kibit * 128;
        let page = match kibit {
            2 => 8,
            4..=16 => 16,
            32 | 64 => 32,
            128 | 256 => 64,
            _ => 128,
        };
        Self { bytes, page, address_bytes: if bytes > 8 * BLOCK { 2 } else { 1 } }
    }

    /// I²C addresses that it answers to.
    fn addresses(self) -> u32 {
        if self.address_bytes == 2 { 1 } else { self.bytes / BLOCK }
    }
}

/// The memory.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Eeprom {
    #[state(config)]
    shape: Shape,
    memory: Vec<u8>,
    /// Where the next byte is read or written.
    address: u32,
    /// Bytes of the word address that are still to come.
    address_left: u8,
    /// A page being filled: what the next STOP writes, by place in the page.
    latched: Vec<(u32, u8)>,
    /// A write cycle is under way: the memory does not answer.
    busy: bool,
    write_protected: bool,
}

impl Eeprom {
    fn answer(&mut self, cx: &mut Ctx<'_>, at: u32, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Start { .. } if self.busy => Some(Answer::Nack),
            Ask::Start { read } => {
                self.latched.clear();
                self.start(at, read);
                Some(Answer::Ack)
            }
            Ask::Write(_) | Ask::Read if self.busy => Some(Answer::Nack),
            Ask::Write(byte) => {
                self.write(byte);
                Some(Answer::Ack)
            }
            Ask::Read => Some(Answer::Data(self.read())),
            Ask::Stop => {
                self.stop(cx);
                None
            }
        }
    }

    fn start(&mut self, at: u32, read: bool) {
        // Only a STOP behind the last byte begins a write cycle (AT24C02 datasheet, "Byte Write"): what came is lost.
        self.latched.clear();
        self.address_left = if read { 0 } else { self.shape.address_bytes };
        if self.shape.address_bytes == 1 {
            self.address = (at % self.shape.addresses()) * BLOCK + self.address % BLOCK;
        }
    }

    fn write(&mut self, byte: u8) {
        if self.address_left > 0 {
            self.address_left -= 1;
            let shift = 8 * u32::from(self.address_left);
            self.address = (self.address & !(0xff << shift) | u32::from(byte) << shift) % self.shape.bytes;
            return;
        }
        // The counter runs within the page: what comes after its end is written at its beginning.
        let page = self.shape.page;
        self.latched.retain(|(address, _)| *address != self.address);
        self.latched.push((self.address, byte));
        self.address = self.address / page * page + (self.address + 1) % page;
    }

    fn read(&mut self) -> u8 {
        // No controller turns round without a START; one that does has given up what it wrote.
        self.latched.clear();
        let byte = self.memory[self.address as usize];
        self.address = (self.address + 1) % self.shape.bytes;
        byte
    }

    fn stop(&mut self, cx: &mut Ctx<'_>) {
        let latched = std::mem::take(&mut self.latched);
        if latched.is_empty() || self.write_protected {
            return;
        }
        for (address, byte) in latched {
            self.memory[address as usize] = byte;
        }
        self.busy = true;
        cx.timer_arm(WRITE_CYCLE, cx.now_ns().saturating_add(WRITE_CYCLE_NS));
    }
}

/// Bytes from pairs of hexadecimal digits.
fn bytes_of(digits: &str) -> Result<Vec<u8>, ConfigError> {
    let bad = |message: &str| ConfigError { path: "content".into(), message: message.into() };
    let digits: Vec<u32> = digits
        .chars()
        .map(|digit| digit.to_digit(16).ok_or_else(|| bad("not hexadecimal digits")))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bad("an odd number of digits: two make a byte"));
    }
    Ok(pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect())
}

impl Device for Eeprom {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let shape = Shape::of(&config.model);
        let cell = |name: &str, value: u32| (name.to_owned(), FdtValue::Cells(vec![value]));
        let node = FdtNode {
            name: "eeprom".into(),
            compatible: vec![format!("atmel,24c{}", config.model)],
            props: vec![cell("pagesize", shape.page)],
            ..FdtNode::default()
        };
        DeviceDesc::new("at24", "I²C EEPROM of the AT24C family")
            .input("wp")
            .timer("write-cycle")
            .target("bus", i2c::PROTOCOL, shape.addresses())
            .keeps("memory")
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let shape = Shape::of(&config.model);
        let mut memory = bytes_of(&config.content)?;
        if memory.len() > shape.bytes as usize {
            let message = format!("{} bytes, but the memory has {}", memory.len(), shape.bytes);
            return Err(ConfigError { path: "content".into(), message });
        }
        memory.resize(shape.bytes as usize, 0xff);
        Ok(Self {
            shape,
            memory,
            address: 0,
            address_left: 0,
            latched: Vec::new(),
            busy: false,
            write_protected: false,
        })
    }

    fn reset(&mut self, _cx: &mut Ctx<'_>, _kind: Reset) {
        // It has no reset input, but the machine's reset stops its clock and its timer. What was written stays.
        let Self { shape: _, memory: _, address, address_left, latched, busy, write_protected: _ } = self;
        (*address, *address_left, *busy) = (0, 0, false);
        latched.clear();
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        let answer = message.and_then(Ask::decode).and_then(|ask| self.answer(cx, at, ask));
        if let Some(answer) = answer {
            cx.send(link, at, &answer.encode());
        }
    }

    fn on_pin(&mut self, _cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        if pin == WRITE_PROTECT {
            self.write_protected = high;
        }
    }

    fn on_timer(&mut self, _cx: &mut Ctx<'_>, _timer: Timer) {
        self.busy = false;
    }

    fn after_load(&mut self) -> Result<(), String> {
        let inside = |address: u32| address < self.shape.bytes;
        if self.memory.len() != self.shape.bytes as usize {
            return Err(format!("{} bytes of memory, of {}", self.memory.len(), self.shape.bytes));
        }
        if !inside(self.address) || !self.latched.iter().all(|(address, _)| inside(*address)) {
            return Err("an address behind the end of the memory".into());
        }
        if self.latched.len() > self.shape.page as usize || self.address_left > self.shape.address_bytes {
            return Err("more bytes on their way than there can be".into());
        }
        Ok(())
    }
}

export_devices!(Eeprom);

#[cfg(test)]
mod tests;
