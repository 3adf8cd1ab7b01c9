//! The list of everything that may enter the machine.

/// A place in a run. Every instruction boundary has its own virtual time; `order` counts the events at one boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Virtual time in nanoseconds since power-on.
    pub vtime_ns: u64,
    /// Place among the events at this time, from 0.
    pub order: u32,
}

/// A change at the far end of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChange {
    /// Somebody connected.
    Opened,
    /// Nobody is there any more.
    Closed,
    /// A serial break.
    Break,
}

/// Buttons of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Reset harts and devices.
    Reset,
    /// End the run.
    PowerOff,
    /// A non-maskable interrupt.
    Nmi,
}

impl Event {
    /// Whether it comes from outside of itself; the others happen when the machine asks or computes.
    pub(crate) fn is_input(&self) -> bool {
        match self {
            Event::Input { .. }
            | Event::PortChange { .. }
            | Event::Control(_)
            | Event::WriteMemory { .. }
            | Event::WriteRegister { .. } => true,
            Event::BottomHalf { .. } | Event::HostClock { .. } => false,
        }
    }
}

/// Something that enters the machine at a [`Position`]. Sources are indices that the board fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes or a frame for a port.
    Input {
        /// Index of the device in the board.
        device: u32,
        /// Port id of the device.
        port: u32,
        /// The bytes or the frame.
        data: Vec<u8>,
    },
    /// The far end of a port changed.
    PortChange {
        /// Index of the device in the board.
        device: u32,
        /// Port id of the device.
        port: u32,
        /// What happened.
        change: PortChange,
    },
    /// A button was pressed.
    Control(Control),
    /// A bottom half that affects the guest ran. Its content is computed; its place is checked.
    BottomHalf {
        /// Index of the device in the board.
        device: u32,
        /// Bottom half id of the device.
        bh: u32,
        /// Whether it was a one-shot with a payload.
        oneshot: bool,
    },
    /// A debugger or a monitor wrote guest memory.
    WriteMemory {
        /// Guest physical address.
        gpa: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A debugger or a monitor wrote a register.
    WriteRegister {
        /// Index of the hart.
        hart: u32,
        /// Its number in GDB's target description: 0 to 31 is x, 32 is pc.
        register: u32,
        /// The value.
        value: u64,
    },
    /// The host's wall clock was read.
    HostClock {
        /// Nanoseconds since 1970-01-01 UTC.
        value_ns: u64,
    },
}
