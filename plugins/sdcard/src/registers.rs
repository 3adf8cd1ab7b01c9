//! What a card says of itself. Physical Layer Simplified Specification 4.10, §4.10 and §5.

use crate::crc::crc7;
use reprise_plugin_api::BlockInfo;

/// The unit of addresses and transfers of a high-capacity card, in bytes.
pub(crate) const BLOCK: u64 = 512;
/// The unit of a high-capacity card's size: C_SIZE counts it. §5.3.3.
pub(crate) const SIZE_UNIT: u64 = 512 << 10;
/// C_SIZE has 22 bits: 2 TiB.
const MOST_UNITS: u64 = 1 << 22;

/// Operating conditions: 2.7 V to 3.6 V, in steps. §5.1.
const OCR_VOLTAGES: u32 = 0x00ff_8000;
/// Card capacity status: a high-capacity card. Says something once the card is ready.
pub(crate) const OCR_CCS: u32 = 1 << 30;
/// Power-up is over.
const OCR_READY: u32 = 1 << 31;

/// Whole units on a disk, of which a card has at least one.
fn units(disk: &BlockInfo) -> Option<u64> {
    let units = (disk.size_bytes / SIZE_UNIT).min(MOST_UNITS);
    (units > 0).then_some(units)
}

/// How many blocks the card has; `None`: the disk is too small to be one.
pub(crate) fn blocks(disk: &BlockInfo) -> Option<u64> {
    units(disk).map(|units| units * (SIZE_UNIT / BLOCK))
}

pub(crate) fn ocr(ready: bool) -> u32 {
    OCR_VOLTAGES | if ready { OCR_READY | OCR_CCS } else { 0 }
}

/// Card identification. §5.2.
pub(crate) fn cid(serial: u32) -> [u8; 16] {
    let mut out = [0; 16];
    out[1..3].copy_from_slice(b"RP");
    out[3..8].copy_from_slice(b"SDMEM");
    // Revision 1.0.
    out[8] = 0x10;
    out[9..13].copy_from_slice(&serial.to_be_bytes());
    // January 2026: years since 2000 in 8 bits, month in 4.
    [out[13], out[14]] = (26u16 << 4 | 1).to_be_bytes();
    sealed(out)
}

/// Card-specific data, version 2.0. §5.3.3.
pub(crate) fn csd(disk: &BlockInfo) -> [u8; 16] {
    let c_size = (units(disk).unwrap_or(1) - 1) as u32;
    let [_, high, middle, low] = c_size.to_be_bytes();
    // PERM_WRITE_PROTECT.
    let protected = if disk.read_only { 1 << 5 } else { 0 };
    sealed([
        0x40, // CSD_STRUCTURE 1
        0x0e, // TAAC: 1 ms
        0,    // NSAC
        0x32, // TRAN_SPEED: 25 MHz
        0x5b, // CCC: classes 0, 2, 4, 5, 7, 8, 10 …
        0x59, // … and READ_BL_LEN: 512 bytes
        0, high, middle, low, 0x7f, // ERASE_BLK_EN, SECTOR_SIZE …
        0x80, // … of 128 blocks, WP_GRP_SIZE
        0x0a, // R2W_FACTOR 4, WRITE_BL_LEN …
        0x40, // … 512 bytes
        protected, 0,
    ])
}

/// Ends in its checksum. §5.2, §5.3.
fn sealed(mut register: [u8; 16]) -> [u8; 16] {
    register[15] = crc7(&register[..15]) << 1 | 1;
    register
}

/// SD configuration. §5.6.
pub(crate) const SCR: [u8; 8] = [
    0x02, // SD_SPEC 2 …
    0x05, // erased is 0, no security, 1 and 4 data lines
    0x80, // … with SD_SPEC3: version 3.0x
    0x00, // CMD_SUPPORT: neither CMD20 nor CMD23, which SPI mode does not have
    0, 0, 0, 0,
];

/// SD status. §4.10.2.
pub(crate) fn sd_status() -> [u8; 64] {
    let mut out = [0; 64];
    out[8] = 4; // SPEED_CLASS 10
    out[10] = 0x90; // AU_SIZE: 4 MiB
    out
}

/// The 64 bytes that answer CMD6: there is no function but the default in each of the six groups. §4.3.10.4.
pub(crate) fn switch_status(argument: u32) -> [u8; 64] {
    let mut out = [0; 64];
    let asked = |group: u32| argument >> (4 * group) & 0xf;
    let refused = (0..6).any(|group| !matches!(asked(group), 0 | 0xf));
    // Most current in mA; none of what cannot be had.
    out[1] = if refused { 0 } else { 100 };
    // Functions that there are, group 6 first: the default, and 15, which changes nothing and is always there.
    for group in 0..6 {
        [out[2 + 2 * group], out[2 + 2 * group + 1]] = [0x80, 0x01];
    }
    // What was chosen, group 6 first, two a byte.
    for group in 0..6 {
        let chosen = if matches!(asked(group), 0 | 0xf) { 0 } else { 0xf };
        out[16 - group as usize / 2] |= chosen << (4 * (group % 2));
    }
    out
}
