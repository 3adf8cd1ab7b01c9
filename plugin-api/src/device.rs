//! The device contract.

use crate::{Ctx, DeviceConfig, DeviceState, config::ConfigError, desc::DeviceDesc};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u32);
    )* };
}

ids! {
    /// An MMIO region: its index in the descriptor.
    Region
    /// An input pin: its index in the descriptor after flattening the arrays.
    InPin
    /// An output pin, likewise.
    OutPin
    /// A timer: its index in the descriptor.
    Timer
    /// A bottom half: its index in the descriptor.
    Bh
    /// A port: its index in the descriptor.
    Port
    /// A link: its index in the descriptor.
    Link
}

/// Width of an MMIO access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 1 byte.
    B1 = 1,
    /// 2 bytes.
    B2 = 2,
    /// 4 bytes.
    B4 = 4,
    /// 8 bytes.
    B8 = 8,
}

impl Size {
    /// The width in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self as u64
    }
}

/// Where an MMIO access hits. Only sizes that the region declares arrive, naturally aligned, inside the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which region.
    pub region: Region,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// Width.
    pub size: Size,
}

/// The device refuses an access: the guest takes an access fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Why [`Device::reset`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Power-on, right after `create`.
    Cold,
    /// The machine was reset while it ran.
    Warm,
}

/// What happened on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortEvent {
    /// Bytes (or a frame) wait: [`Ctx::port_read`] takes them. What is left in the queue is not announced again:
    /// take more whenever there is room.
    Readable,
    /// The outside end was connected.
    Opened,
    /// The outside end went away.
    Closed,
    /// A serial break arrived.
    Break,
}

/// A completed block request.
#[derive(Clone, Copy, Debug)]
pub struct BlockDone<'a> {
    /// The port it was submitted to.
    pub port: Port,
    /// As given to [`Ctx::blk_submit`].
    pub token: u64,
    /// `false`: I/O error, out of range, or read-only.
    pub ok: bool,
    /// What was read.
    pub data: &'a [u8],
}

/// A device model: a pure function of its state and of what the host hands it.
///
/// A device knows no address, no interrupt number and no other device: the board wires its pins and ports. Callbacks
/// come one at a time and never re-enter. A device cannot fail at run time: a guest's mistake has an architected
/// result (read zero, ignore, [`Fault`]). Everything it remembers is saved by [`DeviceState`].
pub trait Device: DeviceState + Sized + 'static {
    /// The options, with their schema.
    type Config: DeviceConfig;

    /// What the device is, with these options.
    fn describe(config: &Self::Config) -> DeviceDesc;

    /// A new device, all pins low, as at power-on. The host calls [`Device::reset`] before anything else.
    ///
    /// # Errors
    /// Options that the schema cannot exclude but that do not fit together.
    fn create(config: Self::Config) -> Result<Self, ConfigError>;

    /// Return to the state after `create`, and drive the pins to match it. The host has already disarmed the device's
    /// timers and dropped its bottom halves and block requests in flight. Bytes that wait in ports stay, and so
    /// do the levels of the input pins: they are the wires', and only changes are reported. A field that is to outlive
    /// a warm reset, such as what a battery keeps, is declared by [`DeviceDesc::keeps`].
    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset);

    /// The guest reads. Unused upper bits of the value are ignored.
    ///
    /// # Errors
    /// [`Fault`] if real hardware would answer with a bus error.
    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        let _ = (cx, access);
        Err(Fault)
    }

    /// The guest writes; `value` is zero-extended.
    ///
    /// # Errors
    /// [`Fault`] if real hardware would answer with a bus error.
    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let _ = (cx, access, value);
        Err(Fault)
    }

    /// A timer reached its deadline; it is disarmed already.
    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        let _ = (cx, timer);
    }

    /// A bottom half runs: `payload` is `None` for a queued one, the bytes for a one-shot.
    fn on_bh(&mut self, cx: &mut Ctx<'_>, bh: Bh, payload: Option<&[u8]>) {
        let _ = (cx, bh, payload);
    }

    /// An input pin changed.
    fn on_pin(&mut self, cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        let _ = (cx, pin, high);
    }

    /// Something happened on a port.
    fn on_port(&mut self, cx: &mut Ctx<'_>, port: Port, event: PortEvent) {
        let _ = (cx, port, event);
    }

    /// A block request completed.
    fn on_blk(&mut self, cx: &mut Ctx<'_>, done: BlockDone<'_>) {
        let _ = (cx, done);
    }

    /// A message came over a link. `at`: of a controller's link, the address of the target that it comes from; of a
    /// target's, the address of its own that it was sent to. `None`: the controller's own message found nobody there.
    /// What messages mean is the protocol's business: see [`crate::link`].
    fn on_message(&mut self, cx: &mut Ctx<'_>, link: Link, at: u32, message: Option<&[u8]>) {
        let _ = (cx, link, at, message);
    }

    /// The state was just loaded: check it against the options and rebuild what is not saved. There is no [`Ctx`]:
    /// raising a pin, arming a timer or reaching another device while loading cannot be written.
    ///
    /// # Errors
    /// A state that this device cannot have been in.
    fn after_load(&mut self) -> Result<(), String> {
        Ok(())
    }
}
