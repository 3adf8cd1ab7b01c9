//! The goldfish real-time clock: nanoseconds since 1970, settable, with one alarm.
//!
//! Registers as in Android's "Goldfish virtual hardware", section III (goldfish_rtc), with the additions that Linux'
//! `rtc-goldfish` uses from 0x10 on. The time is the host's wall clock, read through the log, plus what the guest set
//! it ahead; with the option `start_s` it is a fixed start plus virtual time, and nothing of it needs a log. Alarms
//! run on virtual time in both cases: an alarm goes off when as much virtual time has passed as it was ahead.

use reprise_plugin_api::desc::{DeviceDesc, FdtNode};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, LogLevel, OutPin, Reset, Timer,
    export_devices,
};

/// Low half of the time; a read latches the high half, a write sets the low half of the time.
const TIME_LOW: u64 = 0x00;
/// High half of the time at the last read of `TIME_LOW`; a write sets the high half of the time.
const TIME_HIGH: u64 = 0x04;
/// Low half of the alarm; a write arms it.
const ALARM_LOW: u64 = 0x08;
/// High half of the alarm, to be written first.
const ALARM_HIGH: u64 = 0x0c;
/// Bit 0: the alarm's interrupt reaches the pin.
const IRQ_ENABLED: u64 = 0x10;
/// A write disarms the alarm.
const CLEAR_ALARM: u64 = 0x14;
/// 1 while the alarm is armed.
const ALARM_STATUS: u64 = 0x18;
/// A write takes the interrupt back.
const CLEAR_INTERRUPT: u64 = 0x1c;

const IRQ: OutPin = OutPin(0);
const ALARM: Timer = Timer(0);

/// Options of the clock.
#[derive(DeviceConfig)]
pub struct Config {
    /// Time at power-on in seconds since 1970-01-01 UTC; virtual time counts from there. Left out: the host's clock.
    #[config(max = 18_000_000_000_u64)]
    pub start_s: Option<u64>,
}

/// The clock.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Rtc {
    // Configuration.
    #[state(config)]
    start_ns: Option<u64>,
    // State.
    /// What the guest set the clock ahead (wrapping). The battery keeps it over a reset.
    offset_ns: u64,
    /// High half of the time at the last read of `TIME_LOW`.
    latched_high: u32,
    /// In the guest's time.
    alarm_ns: u64,
    alarm_armed: bool,
    pending: bool,
    irq_enabled: bool,
}

impl Device for Rtc {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        let node = FdtNode {
            name: "rtc".into(),
            compatible: vec!["google,goldfish-rtc".into()],
            interrupts: vec![IRQ.0],
            ..FdtNode::default()
        };
        DeviceDesc::new("goldfish-rtc", "goldfish real-time clock with alarm")
            .region("regs", 0x1000, 4)
            .output("irq")
            .timer("alarm")
            .keeps("offset_ns")
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        // The schema's maximum keeps the product in range.
        let start_ns = config.start_s.map(|start_s| start_s.saturating_mul(1_000_000_000));
        Ok(Self {
            start_ns,
            offset_ns: 0,
            latched_high: 0,
            alarm_ns: 0,
            alarm_armed: false,
            pending: false,
            irq_enabled: false,
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        let Self { start_ns: _, offset_ns, latched_high, alarm_ns, alarm_armed, pending, irq_enabled } = self;
        match kind {
            Reset::Cold => *offset_ns = 0,
            Reset::Warm => {}
        }
        (*latched_high, *alarm_ns) = (0, 0);
        (*alarm_armed, *pending, *irq_enabled) = (false, false, false);
        cx.timer_cancel(ALARM);
        self.update_irq(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(match access.offset {
            TIME_LOW => {
                let time_ns = self.time_ns(cx);
                self.latched_high = (time_ns >> 32) as u32;
                low(time_ns)
            }
            TIME_HIGH => u64::from(self.latched_high),
            ALARM_LOW => low(self.alarm_ns),
            ALARM_HIGH => self.alarm_ns >> 32,
            IRQ_ENABLED => u64::from(self.irq_enabled),
            ALARM_STATUS => u64::from(self.alarm_armed),
            _ => 0,
        })
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.offset {
            TIME_LOW => self.set_time(cx, |time_ns| with_low(time_ns, value)),
            TIME_HIGH => self.set_time(cx, |time_ns| with_high(time_ns, value)),
            ALARM_LOW => {
                self.alarm_ns = with_low(self.alarm_ns, value);
                let time_ns = self.time_ns(cx);
                self.arm(cx, time_ns);
            }
            ALARM_HIGH => self.alarm_ns = with_high(self.alarm_ns, value),
            IRQ_ENABLED => self.irq_enabled = value & 1 != 0,
            CLEAR_ALARM => {
                self.alarm_armed = false;
                cx.timer_cancel(ALARM);
            }
            CLEAR_INTERRUPT => self.pending = false,
            offset => cx.log(LogLevel::Warn, format_args!("write of {value:#x} at {offset:#x} ignored")),
        }
        self.update_irq(cx);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        self.alarm_armed = false;
        self.pending = true;
        self.update_irq(cx);
    }
}

impl Rtc {
    /// The clock before the guest's correction.
    fn source_ns(&self, cx: &mut Ctx<'_>) -> u64 {
        match self.start_ns {
            Some(start_ns) => start_ns.wrapping_add(cx.now_ns()),
            None => cx.host_clock_ns(),
        }
    }

    fn time_ns(&self, cx: &mut Ctx<'_>) -> u64 {
        self.source_ns(cx).wrapping_add(self.offset_ns)
    }

    /// Set the time to what `change` makes of it. An armed alarm keeps its time, so it comes nearer or goes away.
    fn set_time(&mut self, cx: &mut Ctx<'_>, change: impl FnOnce(u64) -> u64) {
        let source_ns = self.source_ns(cx);
        let time_ns = change(source_ns.wrapping_add(self.offset_ns));
        self.offset_ns = time_ns.wrapping_sub(source_ns);
        if self.alarm_armed {
            self.arm(cx, time_ns);
        }
    }

    /// Arm the alarm, it being `time_ns` now; one in the past goes off at once.
    fn arm(&mut self, cx: &mut Ctx<'_>, time_ns: u64) {
        match self.alarm_ns.checked_sub(time_ns) {
            None | Some(0) => {
                self.alarm_armed = false;
                self.pending = true;
                cx.timer_cancel(ALARM);
            }
            Some(ahead_ns) => {
                self.alarm_armed = true;
                cx.timer_arm(ALARM, cx.now_ns().saturating_add(ahead_ns));
            }
        }
    }

    fn update_irq(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(IRQ, self.pending && self.irq_enabled);
    }
}

fn low(value: u64) -> u64 {
    value & 0xffff_ffff
}

fn with_low(old: u64, new_low: u64) -> u64 {
    old & !0xffff_ffff | low(new_low)
}

fn with_high(old: u64, new_high: u64) -> u64 {
    low(old) | new_high << 32
}

export_devices!(Rtc);

#[cfg(test)]
mod tests;
