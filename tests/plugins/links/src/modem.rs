//! `modem`: what it hears goes down the phone line, a character in ten microseconds, and what comes up the line is
//! said. A break is a hash.

use reprise_plugin_api::{
    ConfigError, Ctx, Device, DeviceState, Link, Port, PortEvent, Reset, Timer,
    desc::{DeviceDesc, PortKind},
    link::stream::{self, Word},
};
use std::collections::VecDeque;

const BUFFER: usize = 8;
const CHARACTER_NS: u64 = 10_000;
const LINE: Link = Link(0);
const PHONE: Port = Port(0);
const CHARACTER: Timer = Timer(0);

/// The target.
#[derive(Default, DeviceState)]
pub(crate) struct Modem {
    /// Heard and not yet gone.
    buffer: VecDeque<u8>,
    /// Room at the other end.
    credit: u32,
}

impl Modem {
    fn hear(&mut self, cx: &mut Ctx<'_>, character: u8) {
        if self.buffer.len() < BUFFER {
            self.buffer.push_back(character);
        }
        if cx.timer_deadline(CHARACTER).is_none() {
            cx.timer_arm(CHARACTER, cx.now_ns() + CHARACTER_NS);
        }
    }

    /// What has no credit stays in the port.
    fn say(&mut self, cx: &mut Ctx<'_>) {
        let mut bytes = [0; 16];
        while self.credit > 0 {
            let room = bytes.len().min(self.credit as usize);
            let count = cx.port_read(PHONE, &mut bytes[..room]);
            if count == 0 {
                break;
            }
            self.credit -= count as u32;
            cx.send(LINE, 0, &Word::Data(&bytes[..count]).encode());
        }
    }
}

impl Device for Modem {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("modem", "a modem").timer("character").port("phone", PortKind::Chr).target(
            "line",
            stream::PROTOCOL,
            1,
        )
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        *self = Self::default();
        cx.send(LINE, 0, &Word::Credit(BUFFER as u32).encode());
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        match message.and_then(Word::decode) {
            Some(Word::Data(characters)) => {
                characters.iter().for_each(|&character| self.hear(cx, character));
            }
            Some(Word::Faulty { .. }) => self.hear(cx, b'?'),
            Some(Word::Credit(more)) => {
                self.credit = self.credit.saturating_add(more);
                self.say(cx);
            }
            Some(Word::Break) => cx.port_write(PHONE, b"#"),
            Some(Word::Format(_)) | None => {}
        }
    }

    fn on_port(&mut self, cx: &mut Ctx<'_>, _: Port, event: PortEvent) {
        if event == PortEvent::Readable {
            self.say(cx);
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        let Some(character) = self.buffer.pop_front() else { return };
        cx.port_write(PHONE, &[character]);
        cx.send(LINE, 0, &Word::Credit(1).encode());
        if !self.buffer.is_empty() {
            cx.timer_arm(timer, cx.now_ns() + CHARACTER_NS);
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        if self.buffer.len() <= BUFFER { Ok(()) } else { Err(format!("more than {BUFFER} characters")) }
    }
}
