//! Commands and their responses. §7.3.1 and §7.3.2, tables 7-3 and 7-4.

use crate::crc::{crc7, crc16};
use crate::registers::{self, BLOCK};
use crate::{DISK, Job, Mode, QUIET, START_BLOCK, SdCard, Transfer, status};
use reprise_plugin_api::{BlockOp, Ctx};

/// Bits of R1. §7.3.2.1.
const IDLE: u8 = 1;
const ERASE_RESET: u8 = 1 << 1;
const ILLEGAL: u8 = 1 << 2;
const CRC: u8 = 1 << 3;
const ERASE_SEQUENCE: u8 = 1 << 4;
const PARAMETER: u8 = 1 << 6;

/// The argument of CMD8: 2.7 V to 3.6 V. §4.3.13.
const VOLTAGE: u32 = 1;
/// The argument of ACMD41 and CMD1: the host knows cards of high capacity.
const HCS: u32 = 1 << 30;

/// What follows R1; or bits of it that say why nothing does.
type Answer = Result<Vec<u8>, u8>;

/// R1 alone.
const R1: Answer = Ok(Vec::new());

/// Behind a response: a gap, a token, and data with its checksum.
fn data_block(data: &[u8]) -> Vec<u8> {
    let mut out = vec![QUIET, START_BLOCK];
    out.extend(data);
    out.extend(crc16(data).to_be_bytes());
    out
}

impl SdCard {
    /// A command has come in.
    pub(crate) fn obey(&mut self, cx: &mut Ctx<'_>, command: [u8; 6]) {
        let [start, a, b, c, d, end] = command;
        let (index, argument) = (start & 0x3f, u32::from_be_bytes([a, b, c, d]));
        let intact = end == crc7(&command[..5]) << 1 | 1;
        // In its native mode it is silent on this line, and an empty slot always is.
        if self.mode == Mode::Native && !(index == 0 && intact && Self::blocks(cx).is_some()) {
            return;
        }
        // CMD8 is checked in any case; CMD0 was in native mode, where it has to be. §7.2.2.
        let damaged = !intact && (self.checks || index == 8);
        // While it is busy a card rejects all but a reset, which ends what it is busy with. §7.2.4.
        if self.is_busy() && (index != 0 || damaged) {
            return;
        }
        let application = std::mem::take(&mut self.application);
        let transfer = self.transfer;
        self.give_up();
        let mut errors = self.interrupt_erase(index);
        let answer = if damaged {
            Err(CRC)
        } else if self.mode != Mode::Ready && !matches!(index, 0 | 1 | 8 | 41 | 55 | 58 | 59) {
            Err(ILLEGAL)
        } else if application {
            self.application_command(cx, index, argument)
        } else {
            self.command(cx, index, argument, transfer)
        };
        let more = answer.unwrap_or_else(|error| {
            errors |= error;
            Vec::new()
        });
        let idle = if self.mode == Mode::Ready { 0 } else { IDLE };
        // At least one byte of nothing comes first. §7.5.1.1.
        self.output.extend([QUIET, errors | idle]);
        self.output.extend(more);
    }

    /// Another command than those of the sequence ends it. §7.3.2.1.
    fn interrupt_erase(&mut self, index: u8) -> u8 {
        if matches!(index, 13 | 32 | 33 | 38) || self.erase_first.is_none() {
            return 0;
        }
        (self.erase_first, self.erase_last) = (None, None);
        ERASE_RESET
    }

    /// `transfer` is what the command has ended. §7.3.1.3.
    fn command(&mut self, cx: &mut Ctx<'_>, index: u8, argument: u32, transfer: Transfer) -> Answer {
        match index {
            0 => {
                *self = Self {
                    serial: self.serial,
                    selected: self.selected,
                    token: self.token,
                    mode: Mode::Idle,
                    ..Self::default()
                };
                R1
            }
            1 => self.initialise(argument),
            6 => Ok(data_block(&registers::switch_status(argument))),
            8 => {
                self.interface_known = argument >> 8 & 0xf == VOLTAGE;
                let accepted = if self.interface_known { VOLTAGE << 8 } else { 0 };
                Ok((accepted | argument & 0xff).to_be_bytes().to_vec())
            }
            9 => match cx.blk_info(DISK) {
                Some(disk) => Ok(data_block(&registers::csd(&disk))),
                None => Err(ILLEGAL),
            },
            10 => Ok(data_block(&registers::cid(self.serial))),
            12 => {
                if transfer == Transfer::WriteMany {
                    self.submit(cx, Job::Flush, BlockOp::Flush);
                }
                R1
            }
            13 => Ok(vec![std::mem::take(&mut self.status)]),
            // The length of a block is what it is.
            16 if u64::from(argument) <= BLOCK => R1,
            16 => Err(PARAMETER),
            17 => self.transfer(cx, Transfer::ReadOne, argument),
            18 => self.transfer(cx, Transfer::ReadMany, argument),
            // Reserved in SPI mode is also CMD23: the host stops transfers. Table 7-3.
            24 => self.transfer(cx, Transfer::WriteOne, argument),
            25 => self.transfer(cx, Transfer::WriteMany, argument),
            32 => {
                (self.erase_first, self.erase_last) = (Some(argument), None);
                R1
            }
            33 if self.erase_first.is_none() => Err(ERASE_SEQUENCE),
            33 => {
                self.erase_last = Some(argument);
                R1
            }
            38 => self.erase(cx),
            55 => {
                self.application = true;
                R1
            }
            58 => Ok(registers::ocr(self.mode == Mode::Ready).to_be_bytes().to_vec()),
            59 => {
                self.checks = argument & 1 != 0;
                R1
            }
            _ => Err(ILLEGAL),
        }
    }

    /// Those behind CMD55. An index that is none of them is a plain command. §4.3.9.
    fn application_command(&mut self, cx: &mut Ctx<'_>, index: u8, argument: u32) -> Answer {
        match index {
            13 => {
                let status = std::mem::take(&mut self.status);
                Ok([vec![status], data_block(&registers::sd_status())].concat())
            }
            22 => Ok(data_block(&self.written.to_be_bytes())),
            // How many blocks may be erased before they are written, and a resistor: nothing depends on either.
            23 | 42 => R1,
            41 => self.initialise(argument),
            51 => Ok(data_block(&registers::SCR)),
            _ => self.command(cx, index, argument, Transfer::None),
        }
    }

    /// A card of high capacity does not get ready for a host that does not know such, and ignores what the host says of
    /// that if it has not accepted a CMD8 before. §7.2.1, §4.2.3.
    fn initialise(&mut self, argument: u32) -> Answer {
        if self.interface_known && argument & HCS != 0 {
            self.mode = Mode::Ready;
        }
        R1
    }

    fn transfer(&mut self, cx: &mut Ctx<'_>, transfer: Transfer, block: u32) -> Answer {
        if Self::blocks(cx).is_none_or(|blocks| u64::from(block) >= blocks) {
            return Err(PARAMETER);
        }
        self.transfer = transfer;
        self.next_block = block.into();
        if matches!(transfer, Transfer::WriteOne | Transfer::WriteMany) {
            self.written = 0;
        }
        R1
    }

    /// §4.3.5.
    fn erase(&mut self, cx: &mut Ctx<'_>) -> Answer {
        let (Some(first), Some(last)) = (self.erase_first.take(), self.erase_last.take()) else {
            return Err(ERASE_SEQUENCE);
        };
        let disk = cx.blk_info(DISK);
        let blocks = disk.as_ref().and_then(registers::blocks).unwrap_or(0);
        if first > last || u64::from(last) >= blocks {
            self.status |= status::ERASE_PARAM;
            return Err(PARAMETER);
        }
        if disk.is_some_and(|disk| disk.read_only) {
            self.status |= status::WP_VIOLATION;
            return R1;
        }
        (self.erase_next, self.erase_end) = (first.into(), u64::from(last) + 1);
        self.erase_on(cx);
        R1
    }
}
