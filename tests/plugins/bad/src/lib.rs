//! What the bad devices share: a device with nothing to it, in which one thing can be made to go wrong.
//!
//! A row of `tests/it/check.rs` names each with the rule that it breaks. It must break that rule alone, so a device
//! here is as small as can be, and an example is a library of its own where the rule is about the whole library.

use reprise_plugin_api::{
    Access, Bh, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, OutPin, Port, Reset, StateError,
    Timer, Writer,
    desc::{DeviceDesc, PortKind},
    state::Reader,
};

/// The output pin.
pub const IRQ: OutPin = OutPin(0);
/// The timer.
pub const TICK: Timer = Timer(0);
/// The bottom half.
pub const WORK: Bh = Bh(0);
/// The block port.
pub const DISK: Port = Port(0);

/// Where things go wrong. What is not said is what a good device without registers does.
pub trait Sin: DeviceState + Sized + 'static {
    /// The kind of the device.
    const KIND: &'static str;
    /// The options.
    type Config: DeviceConfig;

    /// A new device.
    ///
    /// # Errors
    /// The options are not right.
    fn create(config: Self::Config) -> Result<Self, ConfigError>;

    /// The descriptor, from a good one.
    #[must_use]
    fn describe(desc: DeviceDesc) -> DeviceDesc {
        desc
    }

    /// The guest reads the register at `offset`.
    fn read(&mut self, cx: &mut Ctx<'_>, offset: u64) -> u64 {
        let _ = (cx, offset);
        0
    }

    /// The guest writes the register at `offset`.
    fn write(&mut self, cx: &mut Ctx<'_>, offset: u64, value: u32) {
        let _ = (cx, offset, value);
    }

    /// The timer fires.
    fn tick(&mut self, cx: &mut Ctx<'_>) {
        let _ = cx;
    }

    /// The bottom half runs.
    fn work(&mut self, cx: &mut Ctx<'_>) {
        let _ = cx;
    }

    /// Everything to zero.
    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        let _ = (cx, kind);
    }

    /// The state was loaded.
    ///
    /// # Errors
    /// It cannot be.
    fn loaded(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The device around a sin.
#[derive(Debug)]
pub struct Bad<S>(pub S);

impl<S: Sin> DeviceState for Bad<S> {
    const VERSION: u32 = S::VERSION;

    fn save(&self, out: &mut Writer<'_>) {
        self.0.save(out);
    }

    fn load(&mut self, record: &Reader<'_>) -> Result<(), StateError> {
        self.0.load(record)
    }
}

impl<S: Sin> Device for Bad<S> {
    type Config = S::Config;

    fn describe(_: &Self::Config) -> DeviceDesc {
        let desc =
            DeviceDesc::new(S::KIND, "breaks a rule").region("regs", 0x20, 4).output("irq").timer("tick");
        S::describe(desc.bottom_half("work").port("disk", PortKind::Blk))
    }

    fn create(config: Self::Config) -> Result<Self, ConfigError> {
        S::create(config).map(Self)
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, kind: Reset) {
        self.0.reset(cx, kind);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(self.0.read(cx, access.offset))
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        self.0.write(cx, access.offset, value as u32);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _: Timer) {
        self.0.tick(cx);
    }

    fn on_bh(&mut self, cx: &mut Ctx<'_>, _: Bh, _: Option<&[u8]>) {
        self.0.work(cx);
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.0.loaded()
    }
}

/// A sin without options or state that is committed when the guest writes.
#[macro_export]
macro_rules! sin_on_write {
    ($(#[$doc:meta])* $name:ident, $kind:literal, |$cx:ident, $value:ident| $body:expr) => {
        $(#[$doc])*
        #[derive(Default, reprise_plugin_api::DeviceState)]
        pub(crate) struct $name {}

        impl $crate::Sin for $name {
            const KIND: &'static str = $kind;
            type Config = ();

            fn create((): ()) -> Result<Self, reprise_plugin_api::ConfigError> {
                Ok(Self {})
            }

            fn write(&mut self, $cx: &mut reprise_plugin_api::Ctx<'_>, _: u64, $value: u32) {
                let _ = (&$cx, $value);
                $body
            }
        }
    };
}
