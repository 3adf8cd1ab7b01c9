//! `stream-uart`: four characters each way.
//!
//! | offset | name   | access | meaning                                                                            |
//! |--------|--------|--------|------------------------------------------------------------------------------------|
//! | 0x00   | DATA   | RW     | write: a character to send; read: the next one, or 0                               |
//! | 0x04   | STATUS | RO     | bit 0: one to read; bit 1: room for one to send; bit 2: all sent; and since the    |
//! |        |        |        | last read bit 3: a damaged one came, bit 4: a break, bit 5: one too many           |
//! | 0x08   | BREAK  | WO     | sends a break                                                                      |

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceState, Fault, Link, OutPin, Reset,
    desc::DeviceDesc,
    link::stream::{self, Format, Parity, Word},
};
use std::collections::VecDeque;

const DATA: u64 = 0x0;
const STATUS: u64 = 0x4;
const BREAK: u64 = 0x8;

const READY: u32 = 1;
const ROOM: u32 = 1 << 1;
const SENT: u32 = 1 << 2;
const DAMAGED: u32 = 1 << 3;
const BROKEN: u32 = 1 << 4;
const OVERRUN: u32 = 1 << 5;

const DEPTH: usize = 4;
const LINE: Link = Link(0);
const IRQ: OutPin = OutPin(0);
const FORMAT: Format = Format { baud: 115_200, data_bits: 8, parity: Parity::None, stop_half_bits: 2 };

/// The controller.
#[derive(Default, DeviceState)]
pub(crate) struct Uart {
    received: VecDeque<u8>,
    sending: VecDeque<u8>,
    /// Room at the other end.
    credit: u32,
    /// There is no other end.
    alone: bool,
    /// Since the last read of STATUS.
    seen: u32,
}

impl Uart {
    fn send(&mut self, cx: &mut Ctx<'_>) {
        let count = self.sending.len().min(self.credit as usize);
        if self.alone {
            self.sending.clear();
        } else if count > 0 {
            self.credit -= count as u32;
            let characters: Vec<u8> = self.sending.drain(..count).collect();
            cx.send(LINE, 0, &Word::Data(&characters).encode());
        }
    }

    fn receive(&mut self, character: u8) {
        if self.received.len() < DEPTH {
            self.received.push_back(character);
        } else {
            self.seen |= OVERRUN;
        }
    }

    fn status(&mut self) -> u32 {
        let mut status = std::mem::take(&mut self.seen);
        status |= if self.received.is_empty() { 0 } else { READY };
        status |= if self.sending.len() < DEPTH { ROOM } else { 0 };
        status | if self.sending.is_empty() { SENT } else { 0 }
    }

    fn drive(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(IRQ, !self.received.is_empty());
    }
}

impl Device for Uart {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        DeviceDesc::new("stream-uart", "a UART with flow control")
            .region("regs", 0x10, 4)
            .output("irq")
            .controller("line", stream::PROTOCOL, 1)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self::default())
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
        *self = Self::default();
        cx.send(LINE, 0, &Word::Format(FORMAT).encode());
        cx.send(LINE, 0, &Word::Credit(DEPTH as u32).encode());
        self.drive(cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(match access.offset {
            DATA => {
                let character = self.received.pop_front();
                if character.is_some() {
                    cx.send(LINE, 0, &Word::Credit(1).encode());
                }
                self.drive(cx);
                character.unwrap_or(0).into()
            }
            STATUS => self.status().into(),
            _ => return Err(Fault),
        })
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        match access.offset {
            // Into a full queue: lost, as in any UART.
            DATA if self.sending.len() == DEPTH => {}
            DATA => {
                self.sending.push_back(value as u8);
                self.send(cx);
            }
            BREAK => cx.send(LINE, 0, &Word::Break.encode()),
            _ => return Err(Fault),
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, _: Link, _: u32, message: Option<&[u8]>) {
        self.alone = message.is_none();
        match message.and_then(Word::decode) {
            Some(Word::Data(characters)) => characters.iter().for_each(|&character| self.receive(character)),
            Some(Word::Faulty { byte, .. }) => {
                self.receive(byte);
                self.seen |= DAMAGED;
            }
            Some(Word::Credit(more)) => self.credit = self.credit.saturating_add(more),
            Some(Word::Break) => self.seen |= BROKEN,
            Some(Word::Format(_)) | None => {}
        }
        self.send(cx);
        self.drive(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        let fits = self.received.len() <= DEPTH && self.sending.len() <= DEPTH;
        if fits { Ok(()) } else { Err(format!("more than {DEPTH} characters")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_plugin_api::{Size, testkit::FakeHost};

    fn uart() -> FakeHost<Uart> {
        let mut h = FakeHost::<Uart>::new(());
        let said = [Word::Format(FORMAT), Word::Credit(4)].map(|word| ("line".to_owned(), 0, word.encode()));
        h.reset(Reset::Warm);
        let all = h.messages();
        assert_eq!(all[all.len() - 2..], said);
        h
    }

    fn write(h: &mut FakeHost<Uart>, character: u8) {
        h.write(0, DATA, Size::B4, character.into()).unwrap();
    }

    fn status(h: &mut FakeHost<Uart>) -> u32 {
        h.read(0, STATUS, Size::B4).unwrap() as u32
    }

    fn hears(h: &mut FakeHost<Uart>, word: Word<'_>) {
        h.message("line", 0, Some(&word.encode()));
    }

    #[test]
    fn it_sends_as_far_as_its_credit_goes() {
        let mut h = uart();
        [1, 2, 3].into_iter().for_each(|character| write(&mut h, character));
        assert_eq!((h.messages(), status(&mut h)), (vec![], ROOM));
        hears(&mut h, Word::Credit(2));
        assert_eq!(h.messages(), [("line".to_owned(), 0, Word::Data(&[1, 2]).encode())]);
        h.save_load();
        hears(&mut h, Word::Credit(7));
        assert_eq!(h.messages(), [("line".to_owned(), 0, Word::Data(&[3]).encode())]);
        assert_eq!(status(&mut h), ROOM | SENT);
    }

    #[test]
    fn it_gives_credit_for_what_was_read_and_overruns_without() {
        let mut h = uart();
        hears(&mut h, Word::Data(&[1, 2, 3, 4, 5]));
        hears(&mut h, Word::Break);
        assert_eq!(status(&mut h), READY | ROOM | SENT | BROKEN | OVERRUN);
        assert_eq!(status(&mut h), READY | ROOM | SENT);
        assert_eq!(h.read(0, DATA, Size::B4), Ok(1));
        assert_eq!(h.messages(), [("line".to_owned(), 0, Word::Credit(1).encode())]);
        hears(&mut h, Word::Faulty { byte: 6, fault: stream::Fault::Parity });
        assert_eq!(status(&mut h) & (DAMAGED | OVERRUN), DAMAGED);
    }

    #[test]
    fn what_it_sends_to_nobody_is_gone() {
        let mut h = uart();
        write(&mut h, 1);
        h.message("line", 0, None);
        assert_eq!(status(&mut h), ROOM | SENT);
        write(&mut h, 2);
        assert_eq!((h.messages(), status(&mut h)), (vec![], ROOM | SENT));
    }
}
