//! An SD card of high capacity, spoken to over SPI; what it holds is a disk.
//!
//! As in the SD Physical Layer Simplified Specification 4.10, chapter 7. A board without a disk for it has an empty
//! slot, and so has one whose disk is smaller than 512 KiB, the unit of a card's size; what is behind the last whole
//! unit is not on the card. The log warns of both. Reads look one block ahead, writes are durable when the card is no
//! longer busy.
//!
//! Not modelled: cards of standard capacity, write-protect groups, high-speed modes; nor, though mandatory, locking
//! (CMD42), CMD27 and CMD56, which are illegal commands.

mod command;
mod crc;
mod registers;

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue, PortKind};
use reprise_plugin_api::link::spi::{self, Ask};
use reprise_plugin_api::{
    BlockDone, BlockOp, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Link, LogLevel, Port, Reset,
    export_devices,
};
use std::collections::VecDeque;

use registers::BLOCK;

/// A data block with its checksum, in bytes.
const BLOCK_AND_CRC: usize = BLOCK as usize + 2;
/// The most that is ever on its way out: two blocks with gap and token.
const MOST_OUTPUT: usize = 2 * (BLOCK_AND_CRC + 2);
/// A command's length in bytes.
const COMMAND: usize = 6;
/// The longest erasure in one request to the host, in blocks: 32 MiB, which a host without holes in its files writes.
const ERASE_BLOCKS: u64 = 1 << 16;

/// Nothing to say.
const QUIET: u8 = 0xff;
const BUSY: u8 = 0;
/// Before a block that is read, or the only one that is written. §7.3.3.2.
const START_BLOCK: u8 = 0xfe;
/// Before each of several blocks that are written.
const START_MANY: u8 = 0xfc;
/// Behind them.
const STOP_MANY: u8 = 0xfd;

/// Instead of a block that was to be read. §7.3.3.3.
const READ_FAILED: u8 = 1;
const READ_OUT_OF_RANGE: u8 = 1 << 3;

/// Data responses. §7.3.3.1.
const ACCEPTED: u8 = 0xe5;
const CRC_ERROR: u8 = 0xeb;
const WRITE_ERROR: u8 = 0xed;

/// Bits of the card's status, as they are in the second byte of R2. §7.3.2.3.
mod status {
    pub(crate) const ERROR: u8 = 1 << 2;
    pub(crate) const WP_VIOLATION: u8 = 1 << 5;
    pub(crate) const ERASE_PARAM: u8 = 1 << 6;
    pub(crate) const OUT_OF_RANGE: u8 = 1 << 7;
}

const DISK: Port = Port(0);

/// Options of the card.
#[derive(DeviceConfig)]
pub struct Config {
    /// The fastest clock in Hz that drivers are told to use.
    #[config(default = 25_000_000, min = 100_000, max = 25_000_000)]
    pub max_hz: u32,
    /// Its serial number.
    #[config(default = 1)]
    pub serial: u32,
}

/// How far the card has come since power-on. §7.2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
enum Mode {
    /// Not in SPI mode: it waits for a CMD0 while it is selected.
    #[default]
    Native,
    /// Waits to be told to initialise itself.
    Idle,
    Ready,
}

/// What goes on behind a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
enum Transfer {
    #[default]
    None,
    ReadOne,
    ReadMany,
    WriteOne,
    WriteMany,
}

/// What the disk does for the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
enum Job {
    #[default]
    None,
    Read,
    Write,
    Flush,
    Erase,
}

/// The card.
#[derive(Default, DeviceState)]
#[state(version = 1)]
pub struct SdCard {
    #[state(config)]
    serial: u32,
    mode: Mode,
    selected: bool,
    /// Checksums of commands and blocks are checked.
    checks: bool,
    /// The host has sent a CMD8 with a voltage of this card since the last reset.
    interface_known: bool,
    /// The next command is one of the application's.
    application: bool,
    /// What has come in of a command.
    command: Vec<u8>,
    /// What goes out next.
    output: VecDeque<u8>,
    /// Errors since the status was last read.
    status: u8,
    transfer: Transfer,
    /// The next block of the transfer.
    next_block: u64,
    /// What has come in of a block behind its token.
    incoming: Option<Vec<u8>>,
    /// Blocks that the last write command has written.
    written: u32,
    erase_first: Option<u32>,
    erase_last: Option<u32>,
    job: Job,
    /// Of the job's request. Never starts again, so that a request given up is not taken for a new one.
    token: u64,
    /// What is left to be erased.
    erase_next: u64,
    erase_end: u64,
}

impl SdCard {
    /// A byte each way. What goes out was on its way before this one came in.
    fn exchange(&mut self, cx: &mut Ctx<'_>, incoming: u8) -> u8 {
        let queued = self.output.pop_front();
        let outgoing = queued.unwrap_or(if self.is_busy() { BUSY } else { QUIET });
        self.take(cx, incoming);
        self.read_on(cx, queued.is_none());
        outgoing
    }

    fn is_busy(&self) -> bool {
        matches!(self.job, Job::Write | Job::Flush | Job::Erase)
    }

    fn take(&mut self, cx: &mut Ctx<'_>, byte: u8) {
        if let Some(block) = &mut self.incoming {
            block.push(byte);
            if block.len() == BLOCK_AND_CRC {
                self.write_block(cx);
            }
            return;
        }
        // A command begins with 01.
        if !self.command.is_empty() || byte & 0xc0 == 0x40 {
            self.command.push(byte);
            if let Ok(command) = <[u8; COMMAND]>::try_from(self.command.as_slice()) {
                self.command.clear();
                self.obey(cx, command);
            }
            return;
        }
        if self.is_busy() {
            return;
        }
        match (self.transfer, byte) {
            (Transfer::WriteOne, START_BLOCK) | (Transfer::WriteMany, START_MANY) => {
                self.incoming = Some(Vec::with_capacity(BLOCK_AND_CRC));
            }
            (Transfer::WriteMany, STOP_MANY) => {
                self.transfer = Transfer::None;
                self.output.push_back(QUIET);
                self.submit(cx, Job::Flush, BlockOp::Flush);
            }
            _ => {}
        }
    }

    fn blocks(cx: &Ctx<'_>) -> Option<u64> {
        registers::blocks(&cx.blk_info(DISK)?)
    }

    fn submit(&mut self, cx: &mut Ctx<'_>, job: Job, op: BlockOp<'_>) {
        self.token = self.token.wrapping_add(1);
        self.job = job;
        cx.blk_submit(DISK, self.token, op);
    }

    /// Have the next block of a read ready when the one before it is through. `waiting`: there was nothing to say.
    fn read_on(&mut self, cx: &mut Ctx<'_>, waiting: bool) {
        let room = self.job == Job::None && self.output.len() + BLOCK_AND_CRC + 2 <= MOST_OUTPUT;
        if !matches!(self.transfer, Transfer::ReadOne | Transfer::ReadMany) || !room {
            return;
        }
        if Self::blocks(cx).is_some_and(|blocks| self.next_block < blocks) {
            let offset = self.next_block * BLOCK;
            self.next_block += 1;
            if self.transfer == Transfer::ReadOne {
                self.transfer = Transfer::None;
            }
            return self.submit(cx, Job::Read, BlockOp::Read { offset, len: BLOCK });
        }
        // That the card has an end is told to who reads on, not to who stops there. What a token tells is told: it is
        // not in the status as well. §7.3.4.
        if waiting && self.command.is_empty() {
            self.output.push_back(READ_OUT_OF_RANGE);
            self.transfer = Transfer::None;
        }
    }

    /// A block has come in, with its checksum.
    fn write_block(&mut self, cx: &mut Ctx<'_>) {
        let Some(block) = self.incoming.take() else { return };
        let (data, crc) = block.split_at(BLOCK as usize);
        let disk = cx.blk_info(DISK);
        let inside = disk.as_ref().and_then(registers::blocks).is_some_and(|blocks| self.next_block < blocks);
        let answer = if self.checks && crc != crc::crc16(data).to_be_bytes() {
            CRC_ERROR
        } else if !inside {
            self.status |= status::OUT_OF_RANGE;
            WRITE_ERROR
        } else if disk.is_some_and(|disk| disk.read_only) {
            self.status |= status::WP_VIOLATION;
            WRITE_ERROR
        } else {
            let offset = self.next_block * BLOCK;
            self.submit(cx, Job::Write, BlockOp::Write { offset, data });
            ACCEPTED
        };
        self.output.push_back(answer);
        if answer != ACCEPTED && self.transfer == Transfer::WriteOne {
            self.transfer = Transfer::None;
        }
    }

    fn wrote(&mut self, cx: &mut Ctx<'_>, ok: bool) {
        if ok {
            self.written = self.written.wrapping_add(1);
        } else {
            // It was accepted: only who asks for the status hears of it.
            self.status |= status::ERROR;
        }
        self.next_block += 1;
        if self.transfer == Transfer::WriteOne {
            self.transfer = Transfer::None;
            self.submit(cx, Job::Flush, BlockOp::Flush);
        }
    }

    fn erase_on(&mut self, cx: &mut Ctx<'_>) {
        let blocks = (self.erase_end - self.erase_next).min(ERASE_BLOCKS);
        if blocks == 0 {
            return self.submit(cx, Job::Flush, BlockOp::Flush);
        }
        let (offset, len) = (self.erase_next * BLOCK, blocks * BLOCK);
        self.erase_next += blocks;
        self.submit(cx, Job::Erase, BlockOp::WriteZeroes { offset, len, may_unmap: true });
    }

    fn read(&mut self, done: BlockDone<'_>) {
        self.output.push_back(QUIET);
        if done.ok && done.data.len() as u64 == BLOCK {
            self.output.push_back(START_BLOCK);
            self.output.extend(done.data);
            self.output.extend(crc::crc16(done.data).to_be_bytes());
        } else {
            self.output.push_back(READ_FAILED);
            self.transfer = Transfer::None;
        }
    }

    /// A disk that a card cannot be, or not all of it: the guest would only see that something is missing.
    fn warn_of_size(cx: &mut Ctx<'_>, size: u64) {
        let behind = size % registers::SIZE_UNIT;
        if size < registers::SIZE_UNIT {
            let least = registers::SIZE_UNIT;
            cx.log(
                LogLevel::Warn,
                format_args!("the slot is empty: its disk has {size} bytes, a card at least {least}"),
            );
        } else if behind != 0 {
            cx.log(
                LogLevel::Warn,
                format_args!(
                    "the last {behind} bytes of the disk are not on the card: a card's \
                size is a multiple of 512 KiB"
                ),
            );
        }
    }

    /// The host has nothing more to do with what goes on, but for what the card is busy with.
    fn give_up(&mut self) {
        self.output.clear();
        self.incoming = None;
        self.transfer = Transfer::None;
        if self.job == Job::Read {
            self.job = Job::None;
        }
    }

    /// A card that is deselected lets the line go and sees no clocks: it goes on where it was. §7.2 wants it selected
    /// for all of a transfer, but Linux lets it go between blocks. Of a command it wants all six bytes at once.
    fn select(&mut self, selected: bool) {
        self.command.clear();
        self.selected = selected;
    }
}

impl Device for SdCard {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let cells = |name: &str, value: &[u32]| (name.to_owned(), FdtValue::Cells(value.to_vec()));
        // Linux, Documentation/devicetree/bindings/mmc/mmc-spi-slot.yaml.
        let node = FdtNode {
            name: "mmc".into(),
            compatible: vec!["mmc-spi-slot".into()],
            props: vec![
                cells("spi-max-frequency", &[config.max_hz]),
                cells("voltage-ranges", &[3200, 3400]),
                ("disable-wp".into(), FdtValue::Empty),
            ],
            ..FdtNode::default()
        };
        DeviceDesc::new("sdcard", "SD card in SPI mode")
            .port("disk", PortKind::Blk)
            .keeps("token")
            .target("bus", spi::PROTOCOL, 1)
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { serial: config.serial, ..Self::default() })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        if let (Reset::Cold, Some(disk)) = (kind, cx.blk_info(DISK)) {
            Self::warn_of_size(cx, disk.size_bytes);
        }
        // The slot's power goes with the machine's. Requests in flight are gone, and their tokens stay used.
        *self = Self { serial: self.serial, token: self.token, ..Self::default() };
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        match message.and_then(Ask::decode) {
            Some(Ask::Select(low)) => self.select(low),
            Some(Ask::Exchange(byte)) if self.selected => {
                let answer = self.exchange(cx, byte);
                cx.send(link, at, &[answer]);
            }
            Some(Ask::Exchange(_)) => cx.send(link, at, &[QUIET]),
            None => {}
        }
    }

    fn on_blk(&mut self, cx: &mut Ctx<'_>, done: BlockDone<'_>) {
        if done.token != self.token {
            return;
        }
        if self.is_busy() {
            // What came in of a command meanwhile was to a deaf card.
            self.command.clear();
        }
        match std::mem::take(&mut self.job) {
            // Given up.
            Job::None => {}
            Job::Read => self.read(done),
            Job::Write => self.wrote(cx, done.ok),
            Job::Flush if done.ok => {}
            Job::Erase if done.ok => self.erase_on(cx),
            Job::Flush | Job::Erase => self.status |= status::ERROR,
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        let too_long = self.command.len() >= COMMAND
            || self.output.len() > MOST_OUTPUT
            || self.incoming.as_ref().is_some_and(|block| block.len() >= BLOCK_AND_CRC);
        if too_long {
            return Err("more bytes on their way than there can be".into());
        }
        let most = 1 << 32;
        if self.next_block > most || self.erase_end > most || self.erase_next > self.erase_end {
            return Err("a block behind the end of any card".into());
        }
        Ok(())
    }
}

export_devices!(SdCard);

#[cfg(test)]
mod tests;
