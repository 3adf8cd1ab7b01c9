//! The chip alone: registers, FIFO, interrupt logic. No host, no pins, no ports, no time.
//!
//! Section numbers are those of the National Semiconductor PC16550D data sheet (June 1995). Not modelled: the speed
//! of the line (a character is sent as soon as it is written), word length and parity (all eight bits pass; they only
//! count for the length of a character), the DMA pins RXRDY and TXRDY.

use reprise_plugin_api::DeviceState;
use std::collections::VecDeque;

/// Depth of the receiver FIFO in characters. §8.5.
pub(crate) const FIFO_DEPTH: usize = 16;

/// The eight registers, by address. §8.0, table II.
pub(crate) mod reg {
    /// Receiver buffer (read), transmitter holding (write); divisor latch LSB if DLAB.
    pub(crate) const RBR_THR_DLL: u8 = 0;
    /// Interrupt enable; divisor latch MSB if DLAB.
    pub(crate) const IER_DLM: u8 = 1;
    /// Interrupt identification (read), FIFO control (write).
    pub(crate) const IIR_FCR: u8 = 2;
    /// Line control.
    pub(crate) const LCR: u8 = 3;
    /// Modem control.
    pub(crate) const MCR: u8 = 4;
    /// Line status.
    pub(crate) const LSR: u8 = 5;
    /// Modem status.
    pub(crate) const MSR: u8 = 6;
    /// Scratchpad.
    pub(crate) const SCR: u8 = 7;
}

/// Interrupt enable. §8.7.
pub(crate) mod ier {
    /// Received data available, and character timeout.
    pub(crate) const RDA: u8 = 1 << 0;
    /// Transmitter holding register empty.
    pub(crate) const THRE: u8 = 1 << 1;
    /// Receiver line status.
    pub(crate) const RLS: u8 = 1 << 2;
    /// Modem status.
    pub(crate) const MODEM: u8 = 1 << 3;
}

/// Interrupt identification. §8.6, table IV.
pub(crate) mod iir {
    /// Nothing pending.
    pub(crate) const NONE: u8 = 0x01;
    /// Receiver line status: the highest priority.
    pub(crate) const RLS: u8 = 0x06;
    /// Received data available: second.
    pub(crate) const RDA: u8 = 0x04;
    /// Character timeout: second.
    pub(crate) const TIMEOUT: u8 = 0x0c;
    /// Transmitter holding register empty: third.
    pub(crate) const THRE: u8 = 0x02;
    /// Modem status: fourth.
    pub(crate) const MODEM: u8 = 0x00;
    /// Both bits are set while the FIFOs are enabled.
    pub(crate) const FIFOS: u8 = 0xc0;
}

/// FIFO control. §8.5.
pub(crate) mod fcr {
    /// Enables both FIFOs.
    pub(crate) const ENABLE: u8 = 1 << 0;
    /// Clears the receiver FIFO.
    pub(crate) const CLEAR_RX: u8 = 1 << 1;
    /// Position of the receiver trigger level.
    pub(crate) const TRIGGER_SHIFT: u8 = 6;
    /// Trigger levels in characters.
    pub(crate) const TRIGGERS: [usize; 4] = [1, 4, 8, 14];
}

/// Line control. §8.1.
pub(crate) mod lcr {
    /// Number of stop bits.
    pub(crate) const STOP: u8 = 1 << 2;
    /// Parity enable.
    pub(crate) const PARITY: u8 = 1 << 3;
    /// Even parity; with stick parity, which is bit 5, a parity bit of 0.
    pub(crate) const EVEN: u8 = 1 << 4;
    /// Holds SOUT in the spacing state.
    pub(crate) const BREAK: u8 = 1 << 6;
    /// Divisor latch access.
    pub(crate) const DLAB: u8 = 1 << 7;
}

/// Modem control. §8.8.
pub(crate) mod mcr {
    /// Data terminal ready.
    pub(crate) const DTR: u8 = 1 << 0;
    /// Request to send.
    pub(crate) const RTS: u8 = 1 << 1;
    /// Auxiliary output 1.
    pub(crate) const OUT1: u8 = 1 << 2;
    /// Auxiliary output 2.
    pub(crate) const OUT2: u8 = 1 << 3;
    /// Local loopback.
    pub(crate) const LOOP: u8 = 1 << 4;
    /// The bits that exist.
    pub(crate) const MASK: u8 = 0x1f;
}

/// Line status. §8.4.
pub(crate) mod lsr {
    /// Data ready.
    pub(crate) const DR: u8 = 1 << 0;
    /// Overrun error.
    pub(crate) const OE: u8 = 1 << 1;
    /// Parity error.
    pub(crate) const PE: u8 = 1 << 2;
    /// Framing error.
    pub(crate) const FE: u8 = 1 << 3;
    /// Break interrupt.
    pub(crate) const BI: u8 = 1 << 4;
    /// Transmitter holding register empty.
    pub(crate) const THRE: u8 = 1 << 5;
    /// Transmitter empty.
    pub(crate) const TEMT: u8 = 1 << 6;
    /// A character with an error waits in the receiver FIFO.
    pub(crate) const FIFO_ERROR: u8 = 1 << 7;
    /// The errors that belong to a single character.
    pub(crate) const CHARACTER: u8 = PE | FE | BI;
}

/// Modem status. §8.9.
pub(crate) mod msr {
    /// Clear to send.
    pub(crate) const CTS: u8 = 1 << 4;
    /// Data set ready.
    pub(crate) const DSR: u8 = 1 << 5;
    /// Ring indicator.
    pub(crate) const RI: u8 = 1 << 6;
    /// Data carrier detect.
    pub(crate) const DCD: u8 = 1 << 7;
    /// The delta bits: DCTS, DDSR, TERI, DDCD.
    pub(crate) const DELTAS: u8 = 0x0f;
    /// Delta bit of RI, set by its trailing edge only.
    pub(crate) const TERI: u8 = 1 << 2;
}

/// A received character with its errors (`lsr::CHARACTER`).
#[derive(DeviceState, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    byte: u8,
    errors: u8,
}

/// The chip's registers and FIFO.
#[derive(DeviceState, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chip {
    ier: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: u16,
    fifo_enabled: bool,
    /// Index in [`fcr::TRIGGERS`].
    trigger: u8,
    rx: VecDeque<Received>,
    /// What the receiver buffer shows when no character waits.
    last_rbr: u8,
    /// Errors revealed since the last read of the line status.
    line_errors: u8,
    /// Character timeout interrupt.
    timeout: bool,
    /// Transmitter empty interrupt: edge-like, unlike the THRE bit.
    thre_interrupt: bool,
    /// Modem inputs at the pins, in the positions of `msr`.
    modem_inputs: u8,
    deltas: u8,
}

impl Chip {
    /// State after Master Reset, §8.0 table I, with these modem inputs. The FIFO goes too: the machine lost its power.
    pub(crate) fn new(modem_inputs: u8) -> Self {
        Self { modem_inputs, ..Self::default() }
    }

    /// Read register `index` (0 to 7). No effect beyond those of the data sheet.
    pub(crate) fn read(&mut self, index: u8) -> u8 {
        let [dll, dlm] = self.divisor.to_le_bytes();
        match (index & 7, self.dlab()) {
            (reg::RBR_THR_DLL, true) => dll,
            (reg::RBR_THR_DLL, false) => self.read_rbr(),
            (reg::IER_DLM, true) => dlm,
            (reg::IER_DLM, false) => self.ier,
            (reg::IIR_FCR, _) => self.read_iir(),
            (reg::LCR, _) => self.lcr,
            (reg::MCR, _) => self.mcr,
            (reg::LSR, _) => self.read_lsr(),
            (reg::MSR, _) => self.read_msr(),
            (reg::SCR.., _) => self.scr,
        }
    }

    /// Write register `index` (0 to 7). Returns the character that leaves on SOUT, if one does.
    pub(crate) fn write(&mut self, index: u8, value: u8) -> Option<u8> {
        let [dll, dlm] = self.divisor.to_le_bytes();
        match (index & 7, self.dlab()) {
            (reg::RBR_THR_DLL, true) => self.divisor = u16::from_le_bytes([value, dlm]),
            (reg::RBR_THR_DLL, false) => return self.transmit(value),
            (reg::IER_DLM, true) => self.divisor = u16::from_le_bytes([dll, value]),
            (reg::IER_DLM, false) => self.write_ier(value),
            (reg::IIR_FCR, _) => self.write_fcr(value),
            (reg::LCR, _) => self.lcr = value,
            (reg::MCR, _) => self.write_mcr(value),
            // §8.4, §8.9: writing the status registers is for factory testing.
            (reg::LSR | reg::MSR, _) => {}
            (reg::SCR.., _) => self.scr = value,
        }
        None
    }

    /// Level of INTR.
    pub(crate) fn interrupt(&self) -> bool {
        self.pending() != iir::NONE
    }

    /// Modem outputs (`mcr::DTR` to `mcr::OUT2`) as the pins show them: inactive in loopback, §8.8.
    pub(crate) fn modem_outputs(&self) -> u8 {
        if self.loopback() { 0 } else { self.mcr & !mcr::LOOP }
    }

    /// The modem inputs changed to `inputs` (`msr::CTS` to `msr::DCD`).
    pub(crate) fn set_modem_inputs(&mut self, inputs: u8) {
        let before = self.modem_lines();
        self.modem_inputs = inputs;
        self.note_modem_change(before);
    }

    /// How many characters can be received without an overrun. None in loopback: SIN is disconnected.
    pub(crate) fn rx_room(&self) -> usize {
        if self.loopback() { 0 } else { self.rx_depth().saturating_sub(self.rx.len()) }
    }

    /// How many received characters wait.
    pub(crate) fn rx_waiting(&self) -> usize {
        self.rx.len()
    }

    /// A character arrives on SIN. Lost in loopback.
    pub(crate) fn receive(&mut self, byte: u8) {
        if !self.loopback() {
            self.push(Received { byte, errors: 0 });
        }
    }

    /// SIN was held in the spacing state for longer than a character: one zero character, §8.4 bit 4. Its stop bit was
    /// missing, and its parity is wrong if a one was due.
    pub(crate) fn receive_break(&mut self) {
        let odd = self.lcr & (lcr::PARITY | lcr::EVEN) == lcr::PARITY;
        let parity = if odd { lsr::PE } else { 0 };
        if !self.loopback() {
            self.push(Received { byte: 0, errors: lsr::BI | lsr::FE | parity });
        }
    }

    /// Length of four characters on the line in units of 1/2 bit: the character timeout. §8.11, §8.1.
    pub(crate) fn timeout_half_bits(&self) -> u64 {
        let word = self.lcr & 3;
        let parity = u64::from(self.lcr & lcr::PARITY != 0);
        let stop_halves = match (self.lcr & lcr::STOP != 0, word) {
            (false, _) => 2,
            (true, 0) => 3,
            (true, _) => 4,
        };
        4 * (2 * (1 + 5 + u64::from(word) + parity) + stop_halves)
    }

    /// Divisor of the baud generator; 0, which the data sheet leaves open (§8.3), counts as 1.
    pub(crate) fn divisor(&self) -> u16 {
        self.divisor.max(1)
    }

    /// Whether the timeout runs: characters wait in the FIFO, and it has not expired yet. §8.11.
    pub(crate) fn timeout_runs(&self) -> bool {
        self.fifo_enabled && !self.rx.is_empty() && !self.timeout
    }

    /// Four character times went by without a character received or read.
    pub(crate) fn expire_timeout(&mut self) {
        self.timeout = self.timeout_runs();
    }

    /// Whether a chip can be in this state.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rx.len() > self.rx_depth() {
            return Err(format!("{} characters in a receiver of {}", self.rx.len(), self.rx_depth()));
        }
        if usize::from(self.trigger) >= fcr::TRIGGERS.len() {
            return Err(format!("trigger level {} does not exist", self.trigger));
        }
        Ok(())
    }

    fn dlab(&self) -> bool {
        self.lcr & lcr::DLAB != 0
    }

    fn loopback(&self) -> bool {
        self.mcr & mcr::LOOP != 0
    }

    fn rx_depth(&self) -> usize {
        if self.fifo_enabled { FIFO_DEPTH } else { 1 }
    }

    /// The source that IIR shows: the highest of those enabled and pending. §8.6.
    fn pending(&self) -> u8 {
        let on = |bit| self.ier & bit != 0;
        // Masked for a loaded state, which is only checked after `irq` was rebuilt from it.
        let level = if self.fifo_enabled { fcr::TRIGGERS[usize::from(self.trigger & 3)] } else { 1 };
        if on(ier::RLS) && self.line_errors != 0 {
            iir::RLS
        } else if on(ier::RDA) && self.rx.len() >= level {
            iir::RDA
        } else if on(ier::RDA) && self.timeout {
            iir::TIMEOUT
        } else if on(ier::THRE) && self.thre_interrupt {
            iir::THRE
        } else if on(ier::MODEM) && self.deltas != 0 {
            iir::MODEM
        } else {
            iir::NONE
        }
    }

    fn read_rbr(&mut self) -> u8 {
        self.timeout = false;
        if let Some(received) = self.rx.pop_front() {
            self.last_rbr = received.byte;
            self.reveal_errors();
        }
        self.last_rbr
    }

    fn read_iir(&mut self) -> u8 {
        let pending = self.pending();
        if pending == iir::THRE {
            self.thre_interrupt = false;
        }
        pending | if self.fifo_enabled { iir::FIFOS } else { 0 }
    }

    fn read_lsr(&mut self) -> u8 {
        let mut value = lsr::THRE | lsr::TEMT | self.line_errors;
        if !self.rx.is_empty() {
            value |= lsr::DR;
        }
        if self.fifo_enabled && self.rx.iter().any(|received| received.errors != 0) {
            value |= lsr::FIFO_ERROR;
        }
        self.line_errors = 0;
        // Bit 7 goes with this read if no later character has an error, so the top one's are done with.
        if let Some(top) = self.rx.front_mut() {
            top.errors = 0;
        }
        value
    }

    fn read_msr(&mut self) -> u8 {
        let value = self.modem_lines() | self.deltas;
        self.deltas = 0;
        value
    }

    fn write_ier(&mut self, value: u8) {
        let enabled = value & !self.ier;
        self.ier = value & 0x0f;
        // Enabling it while the transmitter is empty, which it always is, interrupts at once.
        if enabled & ier::THRE != 0 {
            self.thre_interrupt = true;
        }
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & fcr::ENABLE != 0;
        let switched = enable != self.fifo_enabled;
        self.fifo_enabled = enable;
        // The other bits are only programmed together with bit 0; switching the mode clears the FIFO as well.
        if enable {
            self.trigger = value >> fcr::TRIGGER_SHIFT;
        }
        if switched || (enable && value & fcr::CLEAR_RX != 0) {
            self.rx.clear();
            self.timeout = false;
        }
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_lines();
        self.mcr = value & mcr::MASK;
        self.note_modem_change(before);
    }

    /// The character goes out at once, so the holding register is empty again and says so. A break holds SOUT in the
    /// spacing state: nobody sees the character. It does not reach the loopback path.
    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.thre_interrupt = true;
        if self.loopback() {
            self.push(Received { byte, errors: 0 });
            return None;
        }
        (self.lcr & lcr::BREAK == 0).then_some(byte)
    }

    /// From the receiver's shift register to the FIFO. §8.4 bit 1: a full FIFO keeps what it has; without FIFO the
    /// waiting character is destroyed.
    fn push(&mut self, received: Received) {
        if self.rx.len() >= self.rx_depth() {
            self.line_errors |= lsr::OE;
            if self.fifo_enabled {
                return;
            }
            self.rx.clear();
        }
        self.rx.push_back(received);
        if self.rx.len() == 1 {
            self.reveal_errors();
        }
    }

    /// §8.4: an error shows when its character is at the top of the FIFO.
    fn reveal_errors(&mut self) {
        self.line_errors |= self.rx.front().map_or(0, |top| top.errors & lsr::CHARACTER);
    }

    /// The modem lines in the positions of `msr`: the pins, or in loopback the modem outputs. §8.8.
    fn modem_lines(&self) -> u8 {
        if !self.loopback() {
            return self.modem_inputs;
        }
        let pairs = [(mcr::RTS, msr::CTS), (mcr::DTR, msr::DSR), (mcr::OUT1, msr::RI), (mcr::OUT2, msr::DCD)];
        pairs.iter().filter(|(output, _)| self.mcr & output != 0).fold(0, |lines, (_, input)| lines | input)
    }

    fn note_modem_change(&mut self, before: u8) {
        let after = self.modem_lines();
        let changed = (before ^ after) >> 4;
        // The ring indicator counts only when it goes away.
        let ring_began = after & msr::RI != 0;
        self.deltas |= changed & msr::DELTAS & if ring_began { !msr::TERI } else { 0xff };
    }
}
