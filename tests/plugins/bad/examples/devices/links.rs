//! Devices without registers, which only a controller's words can drive to it.

use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceState, Link, Reset,
    desc::DeviceDesc,
    link::i2c::{self, Answer, Ask},
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
