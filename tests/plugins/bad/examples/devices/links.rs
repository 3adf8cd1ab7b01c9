//! Devices without registers, which only a controller's words can drive to it.

use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceState, Link, Reset,
    desc::DeviceDesc,
    link::{
        gpio::{self, Lines},
        i2c::{self, Answer, Ask},
        stream::{self, Word},
    },
};

/// Has no answer to a START.
#[derive(DeviceState)]
pub(crate) struct Panics {
    value: u8,
}

impl Device for Panics {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("link-panics", "breaks a rule").target("bus", i2c::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { value: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.value = 0;
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        match message.and_then(Ask::decode) {
            Some(Ask::Start { read: true }) => panic!("reading was not thought of"),
            Some(Ask::Write(value)) => self.value = value,
            _ => return,
        }
        cx.send(link, at, &Answer::Ack.encode());
    }
}

/// Remembers over a reset where it was.
#[derive(DeviceState)]
pub(crate) struct Resets {
    pointer: u8,
}

impl Device for Resets {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("link-resets", "breaks a rule").target("bus", i2c::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { pointer: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {}

    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        let answer = match message.and_then(Ask::decode) {
            Some(Ask::Read) => Answer::Data(self.pointer),
            Some(Ask::Write(pointer)) => {
                self.pointer = pointer;
                Answer::Ack
            }
            Some(Ask::Start { .. }) => Answer::Ack,
            Some(Ask::Stop) | None => return,
        };
        cx.send(link, at, &answer.encode());
    }
}

/// Takes it that the other end has only the lower half of the bank.
#[derive(DeviceState)]
pub(crate) struct Lined {
    first_high: u32,
}

impl Device for Lined {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("link-lined", "breaks a rule").target("bank", gpio::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { first_high: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.first_high = 0;
    }

    fn on_message(&mut self, _: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        if let Some(lines) = message.and_then(Lines::decode).filter(|lines| lines.driven != 0) {
            self.first_high = u32::try_from(lines.driven).expect("no more than 32 lines").trailing_zeros();
        }
    }
}

/// Gives its credit only at power-on.
#[derive(DeviceState)]
pub(crate) struct Stingy {}

impl Device for Stingy {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("link-stingy", "breaks a rule").target("line", stream::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        if kind == Reset::Cold {
            cx.send(Link(0), 0, &Word::Credit(8).encode());
        }
    }
}

/// Adds up credit without an end.
#[derive(DeviceState)]
pub(crate) struct Credited {
    credit: u32,
}

impl Device for Credited {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("link-credited", "breaks a rule").controller("line", stream::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { credit: 0 })
    }

    fn reset(&mut self, _: &mut Ctx<'_>, _: Reset) {
        self.credit = 0;
    }

    fn on_message(&mut self, _: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        if let Some(Word::Credit(more)) = message.and_then(Word::decode) {
            self.credit = self.credit.checked_add(more).expect("nobody has so much room");
        }
    }
}
