//! The registers that only hold what is written to them, and what their fields say of a frame.
//!
//! Sections are those of the SiFive FE310-G002 manual, which describes the same block as the FU540-C000's. What manuals
//! do not say is as in SiFive's own source, sifive-blocks, `devices/spi`: `SPIRegs`, `TLSPI`, `SPIMedia`, `SPIFIFO`.

use reprise_plugin_api::DeviceState;

/// Serial clock divisor. §19.4.
pub(crate) const SCKDIV: u64 = 0x00;
/// Serial clock mode. §19.5.
pub(crate) const SCKMODE: u64 = 0x04;
/// Chip select ID. §19.6.
pub(crate) const CSID: u64 = 0x10;
/// Chip select default: the levels of those that are not asserted. §19.7.
pub(crate) const CSDEF: u64 = 0x14;
/// Chip select mode. §19.8.
pub(crate) const CSMODE: u64 = 0x18;
/// Delay control. §19.9.
pub(crate) const DELAY0: u64 = 0x28;
pub(crate) const DELAY1: u64 = 0x2c;
/// Frame format. §19.10.
pub(crate) const FMT: u64 = 0x40;
/// Transmit data. §19.11.
pub(crate) const TXDATA: u64 = 0x48;
/// Receive data. §19.12.
pub(crate) const RXDATA: u64 = 0x4c;
/// Transmit watermark. §19.13.
pub(crate) const TXMARK: u64 = 0x50;
/// Receive watermark. §19.14.
pub(crate) const RXMARK: u64 = 0x54;
/// Interrupt enable. §19.15.
pub(crate) const IE: u64 = 0x70;
/// Interrupt pending. §19.15.
pub(crate) const IP: u64 = 0x74;

const SCKDIV_BITS: u32 = 0xfff;
const SCKMODE_BITS: u32 = 3;
/// Data is shifted at the leading edge and sampled at the trailing one.
const SCKMODE_PHA: u32 = 1;
const CSMODE_BITS: u32 = 3;
/// Two fields of 8 bits, at 0 and 16.
const DELAY_BITS: u32 = 0x00ff_00ff;
const FMT_BITS: u32 = FMT_PROTO | FMT_ENDIAN | FMT_DIR | FMT_LEN;
const FMT_PROTO: u32 = 3;
const FMT_ENDIAN: u32 = 1 << 2;
const FMT_DIR: u32 = 1 << 3;
const FMT_LEN: u32 = 0xf << 16;
const FMT_LEN_SHIFT: u32 = 16;
const MARK_BITS: u32 = 7;
const IE_BITS: u32 = 3;

/// When the chip select of `csid` is asserted. §19.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsMode {
    /// For each frame.
    Auto,
    /// From the first frame on.
    Hold,
    /// Never.
    Off,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeviceState)]
pub(crate) struct Registers {
    /// As many low bits as there are chip selects.
    #[state(config)]
    csdef_mask: u32,
    sckdiv: u32,
    sckmode: u32,
    pub(crate) csid: u32,
    pub(crate) csdef: u32,
    csmode: u32,
    delay0: u32,
    delay1: u32,
    fmt: u32,
    pub(crate) txmark: u32,
    pub(crate) rxmark: u32,
    pub(crate) ie: u32,
}

impl Registers {
    /// As after a reset: those of an instance without the flash interface. §19.4 to §19.15.
    pub(crate) fn new(chip_selects: u32) -> Self {
        let csdef_mask = u32::MAX >> (32 - chip_selects);
        Self {
            csdef_mask,
            sckdiv: 3,
            csdef: csdef_mask,
            delay0: 0x0001_0001,
            delay1: 1,
            fmt: 8 << FMT_LEN_SHIFT,
            ..Self::default()
        }
    }

    pub(crate) fn csdef_mask(&self) -> u32 {
        self.csdef_mask
    }

    /// The width of `csid` is that of the highest chip select's number.
    fn csid_bits(&self) -> u32 {
        let highest = 31 - self.csdef_mask.leading_zeros();
        u32::MAX.checked_shr(highest.leading_zeros()).unwrap_or(0)
    }

    pub(crate) fn read(&self, offset: u64) -> u32 {
        match offset {
            SCKDIV => self.sckdiv,
            SCKMODE => self.sckmode,
            CSID => self.csid,
            CSDEF => self.csdef,
            CSMODE => self.csmode,
            DELAY0 => self.delay0,
            DELAY1 => self.delay1,
            FMT => self.fmt,
            TXMARK => self.txmark,
            RXMARK => self.rxmark,
            IE => self.ie,
            _ => 0,
        }
    }

    /// Returns whether that ends the assertion of the chip select: another mode, another chip select, or another level
    /// of the selected one. §19.8.
    pub(crate) fn write(&mut self, offset: u64, value: u32) -> bool {
        let before = (self.csmode, self.csid, self.csdef >> self.csid & 1);
        match offset {
            SCKDIV => self.sckdiv = value & SCKDIV_BITS,
            SCKMODE => self.sckmode = value & SCKMODE_BITS,
            CSID => self.csid = value & self.csid_bits(),
            CSDEF => self.csdef = value & self.csdef_mask,
            CSMODE => self.csmode = value & CSMODE_BITS,
            DELAY0 => self.delay0 = value & DELAY_BITS,
            DELAY1 => self.delay1 = value & DELAY_BITS,
            FMT => self.fmt = value & FMT_BITS,
            TXMARK => self.txmark = value & MARK_BITS,
            RXMARK => self.rxmark = value & MARK_BITS,
            IE => self.ie = value & IE_BITS,
            _ => {}
        }
        before != (self.csmode, self.csid, self.csdef >> self.csid & 1)
    }

    pub(crate) fn cs_mode(&self) -> CsMode {
        match self.csmode {
            2 => CsMode::Hold,
            3 => CsMode::Off,
            // 1 is reserved, but held, and does as 0: SPIFIFO.
            _ => CsMode::Auto,
        }
    }

    pub(crate) fn lsb_first(&self) -> bool {
        self.fmt & FMT_ENDIAN != 0
    }

    /// The receive FIFO gets nothing.
    pub(crate) fn transmits_only(&self) -> bool {
        self.fmt & FMT_DIR != 0
    }

    pub(crate) fn frame_bits(&self) -> u32 {
        self.fmt >> FMT_LEN_SHIFT
    }

    /// Clocks of the input from the beginning of a frame to when the next may begin, at least one.
    pub(crate) fn frame_clocks(&self, asserts: bool) -> u64 {
        let bits = u64::from(self.frame_bits());
        // The reserved protocol is as the single one.
        let periods = bits.div_ceil(match self.fmt & FMT_PROTO {
            1 => 2,
            2 => 4,
            _ => 1,
        });
        let field = |register: u32, shift: u32| u64::from(register >> shift & 0xff);
        let half_period = u64::from(self.sckdiv) + 1;
        let implicit_half = u64::from(self.sckmode & SCKMODE_PHA == 0);
        let before = if asserts { 2 * field(self.delay0, 0) + implicit_half } else { 0 };
        let after = match self.cs_mode() {
            CsMode::Auto => 2 * (field(self.delay0, 16) + field(self.delay1, 0)) + (1 - implicit_half),
            CsMode::Hold | CsMode::Off => 2 * field(self.delay1, 16),
        };
        ((before + 2 * periods + after) * half_period).max(1)
    }

    /// Whether these can have been written.
    pub(crate) fn check(&self, chip_selects: u32) -> Result<(), String> {
        let mut written = Self::new(chip_selects);
        let all = [SCKDIV, SCKMODE, CSID, CSDEF, CSMODE, DELAY0, DELAY1, FMT, TXMARK, RXMARK, IE];
        for offset in all {
            written.write(offset, self.read(offset));
        }
        if written == *self { Ok(()) } else { Err("bits that no register has".into()) }
    }
}
