//! The LM75 temperature sensor and thermal watchdog. Texas Instruments LM75A, data sheet SNOS808Q.
//!
//! The temperature is an option, until somebody outside says another through the port `feed`: a number of degrees
//! Celsius in a line of text. What arrives there is in the log, so a replay has the same weather.

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, PortKind};
use reprise_plugin_api::link::i2c::{self, Answer, Ask};
use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceConfig, DeviceState, Link, LogLevel, OutPin, Port, PortEvent, Reset,
    Timer, export_devices,
};

// Pointer values. §7.6.1.
const TEMPERATURE: u8 = 0;
const CONFIGURATION: u8 = 1;
const HYSTERESIS: u8 = 2;
const LIMIT: u8 = 3;

// Bits of the configuration register. §7.6.3.
const SHUTDOWN: u8 = 1;
const INTERRUPT_MODE: u8 = 1 << 1;
const ACTIVE_HIGH: u8 = 1 << 2;
const FAULT_QUEUE_SHIFT: u8 = 3;
const CONFIGURATION_BITS: u8 = 0x1f;
/// Conversions beyond a limit in a row before it counts, by the two bits of the fault queue. §7.6.3, table 6.
const FAULT_QUEUE: [u8; 4] = [1, 2, 4, 6];

/// Half degrees, left-justified: 9 bits are real. §7.6.2.
const RESOLUTION: u16 = 0xff80;
/// 75 and 80 degrees, at power-on. §7.6.4, §7.6.5.
const HYSTERESIS_AT_POWER_ON: u16 = 75 << 8;
const LIMIT_AT_POWER_ON: u16 = 80 << 8;

/// Between two conversions. §6.6, "Temperature conversion time", typical.
const CONVERSION_NS: u64 = 100_000_000;
/// Of the sensor. §6.3.
const COLDEST: i32 = -55_000;
const HOTTEST: i32 = 125_000;

/// Open drain, active low at power-on.
const ALARM: OutPin = OutPin(0);
const CONVERSION: Timer = Timer(0);
/// The longest line that can be a temperature.
const LINE: usize = 16;

/// Options of the sensor.
#[derive(DeviceConfig)]
pub struct Config {
    /// Temperature at power-on in thousandths of a degree Celsius.
    #[config(default = 25_000, min = -55_000, max = 125_000)]
    pub millidegrees: i32,
}

/// The sensor.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Lm75 {
    /// What it is, in thousandths of a degree.
    millidegrees: i32,
    /// What the last conversion found.
    temperature: u16,
    configuration: u8,
    hysteresis: u16,
    limit: u16,
    pointer: u8,
    /// Bytes of the register that were read or written since START, or `None`: a written byte is the pointer.
    place: Option<u8>,
    /// The first byte of a register that is being written.
    high_byte: u8,
    /// Conversions in a row that asked for another level.
    faults: u8,
    /// The output is active.
    alarm: bool,
    /// In interrupt mode: the next event is falling below the hysteresis, not rising above the limit.
    was_hot: bool,
    /// A line that is not complete.
    line: Vec<u8>,
    /// The line is longer than any temperature.
    overlong: bool,
}

impl Lm75 {
    fn register(&self) -> [u8; 2] {
        match self.pointer {
            TEMPERATURE => self.temperature.to_be_bytes(),
            CONFIGURATION => [self.configuration; 2],
            HYSTERESIS => self.hysteresis.to_be_bytes(),
            _ => self.limit.to_be_bytes(),
        }
    }

    fn answer(&mut self, cx: &mut Ctx<'_>, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Start { read } => {
                self.place = read.then_some(0);
                Some(Answer::Ack)
            }
            Ask::Read => {
                let place = self.place.unwrap_or(0);
                self.place = Some(place ^ 1);
                // Any read ends the alarm of interrupt mode. §7.3.4.
                if self.configuration & INTERRUPT_MODE != 0 {
                    self.alarm = false;
                    self.drive(cx);
                }
                Some(Answer::Data(self.register()[usize::from(place & 1)]))
            }
            Ask::Write(byte) => {
                self.write(cx, byte);
                Some(Answer::Ack)
            }
            Ask::Stop => None,
        }
    }

    fn write(&mut self, cx: &mut Ctx<'_>, byte: u8) {
        match (self.place, self.pointer) {
            (None, _) => {
                self.pointer = byte & 3;
                self.place = Some(0);
                return;
            }
            (Some(0), CONFIGURATION) => self.configure(byte & CONFIGURATION_BITS),
            (Some(0), _) => self.high_byte = byte,
            (Some(1), HYSTERESIS) => {
                self.hysteresis = u16::from_be_bytes([self.high_byte, byte]) & RESOLUTION
            }
            (Some(1), LIMIT) => self.limit = u16::from_be_bytes([self.high_byte, byte]) & RESOLUTION,
            // The temperature is read only, and what comes behind a register goes nowhere.
            (Some(_), _) => {}
        }
        self.place = Some(self.place.unwrap_or(0).saturating_add(1));
        self.plan(cx);
        self.drive(cx);
    }

    fn configure(&mut self, value: u8) {
        let changed = self.configuration ^ value;
        self.configuration = value;
        if changed & INTERRUPT_MODE != 0 || value & (SHUTDOWN | INTERRUPT_MODE) == SHUTDOWN | INTERRUPT_MODE {
            (self.alarm, self.faults) = (false, 0);
        }
    }

    /// The next conversion is due when the one before it is a conversion time ago; none that would find the same.
    fn plan(&mut self, cx: &mut Ctx<'_>) {
        let idle = self.configuration & SHUTDOWN != 0 || !self.would_change();
        match cx.timer_deadline(CONVERSION) {
            Some(_) if idle => cx.timer_cancel(CONVERSION),
            None if !idle => cx.timer_arm(CONVERSION, (cx.now_ns() / CONVERSION_NS + 1) * CONVERSION_NS),
            _ => {}
        }
    }

    fn would_change(&self) -> bool {
        self.found() != self.temperature || self.faults > 0 || self.wants_event()
    }

    /// What a conversion finds: half degrees, rounded down.
    fn found(&self) -> u16 {
        ((self.millidegrees.div_euclid(500) << 7) as u16) & RESOLUTION
    }

    /// Whether the last temperature asks for another level.
    fn wants_event(&self) -> bool {
        let below = if self.configuration & INTERRUPT_MODE != 0 { self.was_hot } else { self.alarm };
        let [now, low, high] = [self.temperature, self.hysteresis, self.limit].map(|bits| bits as i16);
        if below { now < low } else { now > high }
    }

    fn convert(&mut self) {
        self.temperature = self.found();
        if !self.wants_event() {
            self.faults = 0;
            return;
        }
        self.faults += 1;
        let needed = FAULT_QUEUE[usize::from(self.configuration >> FAULT_QUEUE_SHIFT & 3)];
        if self.faults < needed {
            return;
        }
        self.faults = 0;
        if self.configuration & INTERRUPT_MODE != 0 {
            (self.alarm, self.was_hot) = (true, !self.was_hot);
        } else {
            self.alarm = !self.alarm;
            self.was_hot = self.alarm;
        }
    }

    fn drive(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(ALARM, self.alarm == (self.configuration & ACTIVE_HIGH != 0));
    }

    fn hear(&mut self, cx: &mut Ctx<'_>, byte: u8) {
        if byte != b'\n' {
            self.overlong |= self.line.len() == LINE;
            if !self.overlong {
                self.line.push(byte);
            }
            return;
        }
        let (line, overlong) = (std::mem::take(&mut self.line), std::mem::take(&mut self.overlong));
        match millidegrees(&line).filter(|_| !overlong) {
            Some(value) => self.millidegrees = value,
            None => {
                cx.log(LogLevel::Warn, format_args!("a line on `feed` is no temperature from -55 to 125"))
            }
        }
    }
}

/// Thousandths of a degree, from digits with an optional point. No floating point: a host must not round.
fn millidegrees(line: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) {
        return None;
    }
    let thousandths: String = part.chars().chain("000".chars()).take(3).collect();
    let size = whole.parse::<i32>().ok()?.checked_mul(1000)?.checked_add(thousandths.parse().ok()?)?;
    let value = if negative { -size } else { size };
    (COLDEST..=HOTTEST).contains(&value).then_some(value)
}

impl Device for Lm75 {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        let node = FdtNode {
            name: "sensor".into(),
            compatible: vec!["national,lm75a".into(), "national,lm75".into()],
            interrupts: vec![ALARM.0],
            ..FdtNode::default()
        };
        DeviceDesc::new("lm75", "I²C temperature sensor with an alarm")
            .output("alarm")
            .timer("conversion")
            .port("feed", PortKind::Chr)
            .target("bus", i2c::PROTOCOL, 1)
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let mut sensor = Self {
            millidegrees: config.millidegrees,
            temperature: 0,
            configuration: 0,
            hysteresis: HYSTERESIS_AT_POWER_ON,
            limit: LIMIT_AT_POWER_ON,
            pointer: TEMPERATURE,
            place: None,
            high_byte: 0,
            faults: 0,
            alarm: false,
            was_hot: false,
            line: Vec::new(),
            overlong: false,
        };
        sensor.temperature = sensor.found();
        Ok(sensor)
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        // The weather stays, and so does half a line about it.
        let found = self.found();
        let Self {
            millidegrees: _,
            line: _,
            overlong: _,
            temperature,
            configuration,
            pointer,
            place,
            high_byte,
            hysteresis,
            limit,
            faults,
            alarm,
            was_hot,
        } = self;
        (*temperature, *configuration, *pointer) = (found, 0, TEMPERATURE);
        (*place, *high_byte, *faults) = (None, 0, 0);
        (*hysteresis, *limit) = (HYSTERESIS_AT_POWER_ON, LIMIT_AT_POWER_ON);
        (*alarm, *was_hot) = (false, false);
        self.plan(cx);
        self.drive(cx);
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        let answer = message.and_then(Ask::decode).and_then(|ask| self.answer(cx, ask));
        if let Some(answer) = answer {
            cx.send(link, at, &answer.encode());
        }
    }

    fn on_port(&mut self, cx: &mut Ctx<'_>, port: Port, _event: PortEvent) {
        let mut bytes = [0; 64];
        loop {
            match cx.port_read(port, &mut bytes) {
                0 => break,
                count => bytes[..count].iter().for_each(|&byte| self.hear(cx, byte)),
            }
        }
        self.plan(cx);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.convert();
        self.plan(cx);
        self.drive(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        let bits = (self.temperature | self.hysteresis | self.limit) & !RESOLUTION;
        let known = (COLDEST..=HOTTEST).contains(&self.millidegrees)
            && self.configuration & !CONFIGURATION_BITS == 0
            && self.pointer <= LIMIT
            && self.faults < FAULT_QUEUE[3]
            && self.line.len() <= LINE;
        if known && bits == 0 { Ok(()) } else { Err("registers hold what they cannot".into()) }
    }
}

export_devices!(Lm75);

#[cfg(test)]
mod tests;
