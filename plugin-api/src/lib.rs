//! Write a device for Reprise in safe Rust.
//!
//! A plugin is a shared library with one or more device models. It is built anywhere, against this crate alone:
//!
//! ```toml
//! [package]
//! name = "acme-countdown"
//! version = "1.0.0"
//! edition = "2024"
//!
//! # A board says `plugin = "acme-countdown"`; that is the file libreprise_plugin_acme_countdown.so.
//! [lib]
//! name = "reprise_plugin_acme_countdown"
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! reprise-plugin-api = "0.1"
//!
//! [dev-dependencies]
//! reprise-plugin-api = { version = "0.1", features = ["testkit"] }
//! ```
//!
//! # A whole device
//!
//! Writing *n* to its only register starts a countdown of *n* ticks; at the end the interrupt rises, until the next
//! write.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use reprise_plugin_api::{desc::DeviceDesc, *};
//!
//! #[derive(DeviceConfig)]
//! pub struct Config {
//!     /// Ticks per second.
//!     #[config(default = 1000, min = 1, max = 1_000_000_000)]
//!     pub rate_hz: u32,
//! }
//!
//! #[derive(DeviceState)]
//! pub struct Countdown {
//!     #[state(config)]
//!     tick_ns: u64,
//!     left: u32,
//! }
//!
//! const IRQ: OutPin = OutPin(0);
//! const TICK: Timer = Timer(0);
//!
//! impl Device for Countdown {
//!     type Config = Config;
//!
//!     fn describe(_: &Config) -> DeviceDesc {
//!         DeviceDesc::new("countdown", "counts down").region("regs", 4, 4).output("irq").timer("tick")
//!     }
//!
//!     fn create(config: Config) -> Result<Self, ConfigError> {
//!         Ok(Self { tick_ns: 1_000_000_000 / u64::from(config.rate_hz), left: 0 })
//!     }
//!
//!     fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
//!         self.left = 0;
//!         cx.set_pin(IRQ, false);
//!     }
//!
//!     fn mmio_read(&mut self, _: &mut Ctx<'_>, _: Access) -> Result<u64, Fault> {
//!         Ok(self.left.into())
//!     }
//!
//!     fn mmio_write(&mut self, cx: &mut Ctx<'_>, _: Access, value: u64) -> Result<(), Fault> {
//!         self.left = value as u32;
//!         cx.set_pin(IRQ, false);
//!         cx.timer_arm(TICK, cx.now_ns() + self.tick_ns);
//!         Ok(())
//!     }
//!
//!     fn on_timer(&mut self, cx: &mut Ctx<'_>, _: Timer) {
//!         self.left = self.left.saturating_sub(1);
//!         match self.left {
//!             0 => cx.set_pin(IRQ, true),
//!             _ => cx.timer_arm(TICK, cx.now_ns() + self.tick_ns),
//!         }
//!     }
//! }
//!
//! export_devices!(Countdown);
//! # #[cfg(not(feature = "testkit"))]
//! # fn main() {}
//!
//! # #[cfg(feature = "testkit")]
//! # fn main() {
//! // A test: no machine, no guest.
//! let mut h = testkit::FakeHost::<Countdown>::new(Config { rate_hz: 1_000_000 });
//! h.write32(0, 3);
//! h.advance(2000);
//! h.save_load(); // nothing is lost
//! assert_eq!((h.read32(0), h.output("irq")), (1, false));
//! h.advance(1000);
//! assert_eq!((h.read32(0), h.output("irq")), (0, true));
//! h.fuzz(1, 500); // nor can anything else be told from a device that was never saved
//! # }
//! ```
//!
//! A board wires it:
//!
//! ```toml
//! [device.countdown]
//! plugin = "acme-countdown"
//! mmio = 0x1000_8000
//! pins = { irq = "plic.irq.40" }
//! rate_hz = 100
//! ```
//!
//! A longer example, written to be read, is the plugin `gpio` of Reprise itself.
//!
//! # The rules
//!
//! A recorded run is replayed by computing it again. So a device is a pure function of its state and of what the host
//! hands it, and the types leave little room for anything else:
//!
//! * **[`Ctx`] is the only way out**, for one callback. It has virtual time, pins, timers, bottom halves, DMA, ports,
//!   links, recorded randomness and the recorded wall clock. Never ask the operating system: no clocks, threads,
//!   files, sockets, environment, `HashMap`, or numbers made from addresses.
//! * **Everything declared**: regions, pins, timers, bottom halves, ports and links are in the descriptor; their ids
//!   are their indices there. None can be made later.
//! * **Everything saved**: each field of a [`DeviceState`] is saved unless it says how it comes back. Timers, bottom
//!   halves, pin levels, port queues and block requests in flight are the host's, and saved by it. `static`s are
//!   not saved at all.
//! * **Loading touches nothing**: there is no [`Ctx`] in [`Device::after_load`]. Refuse there what your registers could
//!   not have held (an index out of range, say): a snapshot may come from anywhere.
//! * **A device cannot fail**: a guest's mistake has an architected result. A panic is caught, stops the machine, and
//!   names the device; keep it for your own bugs. Never index, divide or allocate by a number that the guest chose
//!   before checking it.
//! * **Levels, not edges**: compute a pin's level from the state and set it; the host passes on changes.
//!
//! A context cannot be kept:
//!
//! ```compile_fail
//! # use reprise_plugin_api::Ctx;
//! struct Device<'a> {
//!     kept: Option<&'a mut Ctx<'a>>,
//! }
//! impl<'a> Device<'a> {
//!     fn mmio_write(&mut self, cx: &mut Ctx<'_>) {
//!         self.kept = Some(cx);
//!     }
//! }
//! ```
//!
//! nor taken to another thread:
//!
//! ```compile_fail,E0277
//! # use reprise_plugin_api::{Ctx, OutPin};
//! fn mmio_write(cx: &mut Ctx<'_>) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| cx.set_pin(OutPin(0), true));
//!     });
//! }
//! ```
//!
//! and a RAM window does not outlive the next use of its context:
//!
//! ```compile_fail,E0502
//! # use reprise_plugin_api::Ctx;
//! fn on_timer(cx: &mut Ctx<'_>) {
//!     let window = cx.ram(0x8000_0000).unwrap();
//!     let now = cx.now_ns();
//!     let _ = window.read::<4>(now);
//! }
//! ```

// The derives name this crate by its full path, also in its own tests.
extern crate self as reprise_plugin_api;

pub mod config;
pub mod ctx;
pub mod device;
pub mod export;
pub mod net;
pub mod observe;
pub mod outside;
pub mod state;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod virtio;

pub use config::{ConfigError, DeviceConfig};
pub use ctx::{BlockInfo, BlockOp, Ctx, DmaError, LogLevel, Ram};
pub use device::{
    Access, Bh, BlockDone, Device, Fault, InPin, Link, OutPin, Port, PortEvent, Region, Reset, Size, Timer,
};
pub use reprise_abi::{desc, link};
pub use reprise_derive::{DeviceConfig, DeviceState};
pub use state::{DeviceState, Reader, StateError, Writer};

/// What `export_devices!` and the derives expand to needs these; not for authors.
#[doc(hidden)]
pub mod private {
    pub use abi_stable;
    pub use reprise_abi as abi;
    pub use serde_json;
}
