//! `metronome`: a device for tests that uses nearly everything which ABI 1.0 has. `tests/plugins/c` has the same device
//! in C, and `tests/data/plugins` this one as it was built against earlier versions: on one board all of them come to
//! the same digests. So it must build with the first version of `reprise-plugin-api`, and change no more.
//!
//! | offset | name    | size | access | meaning                                                          |
//! |--------|---------|------|--------|------------------------------------------------------------------|
//! | 0x00   | PERIOD  | 4    | RW     | µs between beats; 0: none                                        |
//! | 0x04   | BEATS   | 4    | RO     | beats since reset, heard or not                                  |
//! | 0x08   | STATUS  | 4    | RW1C   | bit 0: a beat was heard (the interrupt); bit 1 (RO): muted       |
//! | 0x10   | TARGET  | 8    | RW     | where a bottom half stores BEATS after each beat; 0: nowhere     |
//! | 0x18   | VOICE   | 4    | RW     | write: a byte to the port, by a one-shot; read: the next, or ones  |
//! | 0x1c   | DICE    | 4    | RO     | a random number                                                  |
//! | 0x20   | CLOCK   | 8    | RO     | the host's clock, seconds                                        |
//! | 0x28   | SCORE   | 4    | WO     | added to the last four; 0 is refused                             |
#![forbid(unsafe_code)]

use reprise_plugin_api::{
    Access, Bh, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, InPin, LogLevel, OutPin, Port,
    PortEvent, Reset, Size, Timer,
    desc::{DeviceDesc, PortKind},
};
use std::collections::VecDeque;

const PERIOD: u64 = 0x00;
const BEATS: u64 = 0x04;
const STATUS: u64 = 0x08;
const TARGET: u64 = 0x10;
const VOICE: u64 = 0x18;
const DICE: u64 = 0x1c;
const CLOCK: u64 = 0x20;
const SCORE: u64 = 0x28;

const MUTE: InPin = InPin(0);
const IRQ: OutPin = OutPin(0);
/// Each beat turns it over.
const CLICK: OutPin = OutPin(1);
const BEAT: Timer = Timer(0);
/// Stores BEATS at TARGET.
const STORE: Bh = Bh(0);
/// Says a byte.
const SAY: Bh = Bh(1);
const SOUND: Port = Port(0);
/// How many bytes wait in the device.
const EAR: usize = 8;
/// A shorter period is a hurry.
const HURRY_US: u32 = 20;

/// What a board may choose.
#[derive(DeviceConfig)]
pub struct Config {
    /// It stops after so many beats.
    #[config(default = 1000, min = 1)]
    pub limit: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, DeviceState)]
enum Mood {
    Calm,
    Hurried,
}

/// What nobody heard.
#[derive(DeviceState)]
struct Silence {
    beats: u64,
    /// Minus one for each beat that was heard.
    balance: i32,
}

/// The device.
#[derive(DeviceState)]
#[state(version = 3)]
pub struct Metronome {
    #[state(config)]
    limit: u32,
    period_us: u32,
    beats: u32,
    pending: bool,
    muted: bool,
    click: bool,
    target: u64,
    heard: VecDeque<u8>,
    score: [u16; 4],
    mood: Mood,
    silence: Silence,
    #[state(since = 2, default = "0")]
    refused: u8,
    #[state(since = 3, default = "None")]
    last_at_ns: Option<u64>,
}

impl Metronome {
    fn drive(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(IRQ, self.pending);
        cx.set_pin(CLICK, self.click);
    }

    fn listen(&mut self, cx: &mut Ctx<'_>) {
        let mut byte = [0];
        while self.heard.len() < EAR && cx.port_read(SOUND, &mut byte) == 1 {
            self.heard.push_back(byte[0]);
        }
    }

    fn arm(&self, cx: &mut Ctx<'_>) {
        match self.period_us {
            0 => cx.timer_cancel(BEAT),
            period => cx.timer_arm(BEAT, cx.now_ns() + u64::from(period) * 1000),
        }
    }
}

impl Device for Metronome {
    type Config = Config;

    fn describe(_: &Config) -> DeviceDesc {
        DeviceDesc::new("metronome", "beats time, for tests of the plugin ABI")
            .region("regs", 0x40, 12)
            .input("mute")
            .output("irq")
            .output("click")
            .timer("beat")
            .bottom_half("store")
            .bottom_half("say")
            .port("sound", PortKind::Chr)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            limit: config.limit,
            period_us: 0,
            beats: 0,
            pending: false,
            muted: false,
            click: false,
            target: 0,
            heard: VecDeque::new(),
            score: [0; 4],
            mood: Mood::Calm,
            silence: Silence { beats: 0, balance: 0 },
            refused: 0,
            last_at_ns: None,
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        // The level of an input is its wire's: only changes are told.
        let (limit, muted) = (self.limit, self.muted);
        let new = Self::create(Config { limit }).expect("any limit will do");
        *self = Self { muted, ..new };
        self.drive(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let value = match (access.offset, access.size) {
            (PERIOD, Size::B4) => self.period_us.into(),
            (BEATS, Size::B4) => self.beats.into(),
            (STATUS, Size::B4) => u64::from(self.pending) | u64::from(self.muted) << 1,
            (TARGET, Size::B8) => self.target,
            (VOICE, Size::B4) => {
                let byte = self.heard.pop_front().map_or(0xffff_ffff, u64::from);
                self.listen(cx);
                byte
            }
            (DICE, Size::B4) => {
                let mut bytes = [0; 4];
                cx.random(&mut bytes);
                u32::from_le_bytes(bytes).into()
            }
            (CLOCK, Size::B8) => cx.host_clock_ns() / 1_000_000_000,
            _ => return Err(Fault),
        };
        Ok(value)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match (access.offset, access.size) {
            (PERIOD, Size::B4) => {
                self.period_us = value as u32;
                let hurried = self.period_us != 0 && self.period_us < HURRY_US;
                self.mood = if hurried { Mood::Hurried } else { Mood::Calm };
                self.arm(cx);
            }
            (STATUS, Size::B4) => {
                self.pending &= value & 1 == 0;
                self.drive(cx);
            }
            (TARGET, Size::B8) => self.target = value,
            (VOICE, Size::B4) => cx.bh_oneshot(SAY, &[value as u8]),
            (SCORE, Size::B4) if value == 0 => {
                self.refused = self.refused.wrapping_add(1);
                cx.log(LogLevel::Warn, format_args!("a score of nothing"));
            }
            (SCORE, Size::B4) => {
                self.score.rotate_left(1);
                self.score[3] = value as u16;
            }
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _: Timer) {
        self.beats = self.beats.wrapping_add(1);
        self.last_at_ns = Some(cx.now_ns());
        if self.muted {
            self.silence.beats += 1;
        } else {
            self.silence.balance = self.silence.balance.wrapping_sub(1);
            self.pending = true;
        }
        self.click = !self.click;
        self.drive(cx);
        cx.bh_schedule(STORE);
        if self.beats < self.limit {
            self.arm(cx);
        }
    }

    fn on_bh(&mut self, cx: &mut Ctx<'_>, bh: Bh, payload: Option<&[u8]>) {
        match payload {
            Some(bytes) if bh == SAY => cx.port_write(SOUND, bytes),
            _ if self.target == 0 => {}
            _ => {
                if cx.dma_write(self.target, &u64::from(self.beats).to_le_bytes()).is_err() {
                    self.refused = self.refused.wrapping_add(1);
                }
            }
        }
    }

    fn on_pin(&mut self, _: &mut Ctx<'_>, pin: InPin, high: bool) {
        if pin == MUTE {
            self.muted = high;
        }
    }

    fn on_port(&mut self, cx: &mut Ctx<'_>, _: Port, event: PortEvent) {
        if event == PortEvent::Readable {
            self.listen(cx);
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        match self.heard.len() {
            0..=EAR => Ok(()),
            more => Err(format!("{more} bytes in an ear for {EAR}")),
        }
    }
}

reprise_plugin_api::export_devices!(Metronome);
