//! One port as the guest knows it, and the control messages about it. §5.3.6.2.

use reprise_plugin_api::DeviceState;

/// Bytes of `struct virtio_console_control`.
pub(crate) const CONTROL_BYTES: usize = 8;

/// Events of control messages.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// The order in which a port's messages go out: it must exist before anything else is said of it, and be a console
/// before it gets a size.
const ORDER: [u16; 5] = [PORT_ADD, CONSOLE_PORT, RESIZE, PORT_NAME, PORT_OPEN];

/// What the driver tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// It can take control messages.
    DeviceReady,
    /// It knows the port.
    PortReady(u32),
    /// It opened (`true`) or closed the port.
    PortOpen(u32, bool),
}

impl Message {
    /// `None`: one that calls for nothing, such as the news that the driver has failed.
    pub(crate) fn parse(raw: [u8; CONTROL_BYTES]) -> Option<Self> {
        let [i0, i1, i2, i3, e0, e1, v0, v1] = raw;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        match (u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1])) {
            (DEVICE_READY, 1) => Some(Self::DeviceReady),
            (PORT_READY, 1) => Some(Self::PortReady(id)),
            (PORT_OPEN, value) => Some(Self::PortOpen(id, value != 0)),
            _ => None,
        }
    }
}

/// A port.
#[derive(Debug, DeviceState)]
pub(crate) struct GuestPort {
    #[state(config)]
    name: String,
    #[state(config)]
    console: bool,
    /// The guest has it open.
    pub(crate) guest_open: bool,
    /// The outside end is connected. So it is taken to be until the host says otherwise, and not the guest's to reset.
    host_open: bool,
    /// The driver has been told that it exists; it must not be told twice.
    announced: bool,
    /// The driver has asked about it.
    introduced: bool,
    /// Messages to send: bit N for event N.
    pending: u16,
}

impl GuestPort {
    pub(crate) fn new(name: String, console: bool) -> Self {
        Self {
            name,
            console,
            guest_open: false,
            host_open: true,
            announced: false,
            introduced: false,
            pending: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        let Self { name: _, console: _, guest_open, host_open: _, announced, introduced, pending } = self;
        (*guest_open, *announced, *introduced, *pending) = (false, false, false, 0);
    }

    /// The driver is there: tell it of the port.
    pub(crate) fn announce(&mut self) {
        if !self.announced {
            self.announced = true;
            self.pending |= 1 << PORT_ADD;
        }
    }

    /// The driver is ready for the port: tell it all about it.
    pub(crate) fn introduce(&mut self, sized: bool) {
        self.introduced = true;
        self.pending |= 1 << PORT_OPEN;
        if !self.name.is_empty() {
            self.pending |= 1 << PORT_NAME;
        }
        if self.console {
            self.pending |= 1 << CONSOLE_PORT | u16::from(sized) << RESIZE;
        }
    }

    /// The outside end was connected or went away.
    pub(crate) fn host_changed(&mut self, open: bool) {
        if self.introduced && self.host_open != open {
            self.pending |= 1 << PORT_OPEN;
        }
        self.host_open = open;
    }

    pub(crate) fn has_message(&self) -> bool {
        ORDER.iter().any(|event| self.pending & 1 << event != 0)
    }

    /// Take the next message, complete.
    pub(crate) fn next_message(&mut self, id: u32, (cols, rows): (u16, u16)) -> Option<Vec<u8>> {
        let event = *ORDER.iter().find(|event| self.pending & 1 << **event != 0)?;
        self.pending &= !(1 << event);
        let value = match event {
            CONSOLE_PORT => 1,
            PORT_OPEN => u16::from(self.host_open),
            _ => 0,
        };
        let mut out = Vec::with_capacity(CONTROL_BYTES + self.name.len());
        out.extend(id.to_le_bytes());
        out.extend(event.to_le_bytes());
        out.extend(value.to_le_bytes());
        match event {
            RESIZE => {
                out.extend(cols.to_le_bytes());
                out.extend(rows.to_le_bytes());
            }
            PORT_NAME => out.extend(self.name.as_bytes()),
            _ => {}
        }
        Some(out)
    }
}
