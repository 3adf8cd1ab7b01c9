//! `keypad`: four columns (lines 0 to 3) and four rows (lines 4 to 7). The one key that is ever pressed connects its
//! row to its column, so that the row is low while the column is driven low.

use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceConfig, DeviceState, Link, Reset, Timer,
    desc::DeviceDesc,
    link::gpio::{self, Lines},
};

const COLUMNS: u64 = 0x0f;
const FIRST_ROW: u32 = 4;
const BANK: Link = Link(0);
const PRESS: Timer = Timer(0);

/// Which key, and when.
#[derive(DeviceConfig)]
pub(crate) struct Config {
    /// Column and four times the row.
    #[config(default = 9, max = 15)]
    key: u8,
    /// Time from reset on until it is pressed, in microseconds.
    #[config(default = 2000)]
    after_us: u32,
}

/// The target.
#[derive(DeviceState)]
pub(crate) struct Keypad {
    #[state(config)]
    key: u8,
    #[state(config)]
    after_us: u32,
    pressed: bool,
    /// What the other end does.
    other_driven: u64,
    other_levels: u64,
}

impl Keypad {
    /// The columns are pulled up, so that those that nobody drives are high.
    fn lines(&self) -> Lines {
        let columns = Lines { driven: 0, levels: COLUMNS };
        let other = Lines { driven: self.other_driven, levels: self.other_levels };
        let is_low = columns.level(other) >> (self.key % 4) & 1 == 0;
        let row = 1 << (FIRST_ROW + u32::from(self.key / 4));
        Lines { driven: if self.pressed && is_low { row } else { 0 }, ..columns }
    }

    fn change(&mut self, cx: &mut Ctx<'_>, change: impl FnOnce(&mut Self)) {
        let before = self.lines();
        change(self);
        if self.lines() != before {
            cx.send(BANK, 0, &self.lines().encode());
        }
    }
}

impl Device for Keypad {
    type Config = Config;

    fn describe(_: &Config) -> DeviceDesc {
        DeviceDesc::new("keypad", "16 keys").timer("press").target("bank", gpio::PROTOCOL, 1)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let Config { key, after_us } = config;
        Ok(Self { key, after_us, pressed: false, other_driven: 0, other_levels: 0 })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        (self.pressed, self.other_driven, self.other_levels) = (false, 0, 0);
        cx.timer_arm(PRESS, cx.now_ns() + u64::from(self.after_us) * 1000);
        cx.send(BANK, 0, &self.lines().encode());
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _: Timer) {
        self.change(cx, |keypad| keypad.pressed = true);
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        if let Some(Lines { driven, levels }) = message.and_then(Lines::decode) {
            self.change(cx, |keypad| (keypad.other_driven, keypad.other_levels) = (driven, levels));
        }
    }
}
