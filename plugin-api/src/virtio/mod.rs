//! What the virtio devices share: the MMIO transport (version 2) and split virtqueues. Virtio 1.2.
//!
//! A device implements [`VirtioDevice`] and forwards its [`crate::Device`] callbacks to [`describe`], [`reset`],
//! [`mmio_read`] and [`mmio_write`]; the registers, the rings and the interrupt are done here.
//!
//! The driver is hostile. A ring it got wrong is a [`Violation`]: the device stops, sets DEVICE_NEEDS_RESET and says
//! so in the log; it never panics and never loops longer than a ring is long. Guest memory is read through a RAM
//! window where there is one and through DMA copies where not, with the same result.
//!
//! Not modelled: legacy (version 1) registers, packed rings, shared memory regions, IN_ORDER, NOTIFICATION_DATA and
//! ACCESS_PLATFORM (DMA is by guest physical address).

mod memory;
mod queue;
mod transport;

#[cfg(feature = "testkit")]
pub mod driver;
#[cfg(all(test, feature = "testkit"))]
mod tests;

pub use queue::{Chain, MAX_QUEUE_SIZE, Segment, Violation};
pub use transport::{Transport, complete, give_back, mmio_read, mmio_write, regs, reset, run, status};

use crate::desc::{DeviceDesc, FdtNode, FdtValue, Pins, Port, Region};
use crate::{Ctx, device};

/// Feature bits of every device. §6.
pub mod features {
    /// A descriptor may refer to a table of descriptors. §2.7.5.3.
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are suppressed by ring index. §2.7.7, §2.7.10.
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Queues can be reset one by one. §2.6.1.
    pub const RING_RESET: u64 = 1 << 40;
    /// What this transport offers with every device.
    pub const TRANSPORT: u64 = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1 | RING_RESET;
}

/// The register window, the first region of [`describe`].
pub const REGION: device::Region = device::Region(0);
/// The interrupt, the first output pin of [`describe`].
pub const IRQ: device::OutPin = device::OutPin(0);
/// Length of the register window in bytes: the registers and 256 bytes of configuration space. §4.2.1.
pub const REGION_SIZE: u64 = 0x200;

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It goes back at once, with so many bytes written to its writable part.
    Done(u32),
    /// The device keeps it and will call [`complete`].
    Later,
}

/// What makes a device of the transport.
pub trait VirtioDevice {
    /// Device id. §5.
    const DEVICE_ID: u32;

    /// The transport, a saved field of the device.
    fn transport(&self) -> &Transport;

    /// The transport, to change it.
    fn transport_mut(&mut self) -> &mut Transport;

    /// Feature bits below 24 and from 50 up that the device offers. Must not change while the machine runs.
    fn features(&self, cx: &Ctx<'_>) -> u64 {
        let _ = cx;
        0
    }

    /// The configuration space, at most 256 bytes; what follows reads zero.
    fn config(&self, cx: &Ctx<'_>) -> Vec<u8> {
        let _ = cx;
        Vec::new()
    }

    /// The driver writes 1, 2, 4 or 8 bytes to the configuration space.
    fn config_write(&mut self, cx: &mut Ctx<'_>, offset: u64, data: &[u8]) {
        let _ = (cx, offset, data);
    }

    /// Whether the driver may take exactly these of the features offered. If not, FEATURES_OK is refused. §2.2.2.
    fn accepts(&self, features: u64) -> bool {
        let _ = features;
        true
    }

    /// FEATURES_OK was granted: [`Transport::has`] answers for good.
    fn on_features(&mut self, cx: &mut Ctx<'_>) {
        let _ = cx;
    }

    /// Whether the device would take a chain of `queue` now. If not, the chain stays in the ring until the device
    /// calls [`run`].
    fn ready(&self, cx: &Ctx<'_>, queue: usize) -> bool {
        let _ = (cx, queue);
        true
    }

    /// Do what a chain asks.
    ///
    /// # Errors
    /// The driver broke the protocol beyond an answer: the device needs a reset.
    fn serve(&mut self, cx: &mut Ctx<'_>, queue: usize, chain: Chain) -> Result<Served, Violation>;

    /// The driver reset the device: back to the state after `create`. Chains kept for later are gone.
    fn on_reset(&mut self, cx: &mut Ctx<'_>) {
        let _ = cx;
    }

    /// The driver took one queue away: chains of it that were kept for later are gone.
    fn on_queue_reset(&mut self, cx: &mut Ctx<'_>, queue: usize) {
        let _ = (cx, queue);
    }
}

/// The descriptor of a virtio device: its register window `regs`, its pin `irq` and its node in the device tree.
#[must_use]
pub fn describe(kind: &str, summary: &str, ports: Vec<Port>) -> DeviceDesc {
    DeviceDesc {
        kind: kind.to_owned(),
        summary: summary.to_owned(),
        // 8-byte accesses are for the configuration space.
        regions: vec![Region { name: "regs".to_owned(), size: REGION_SIZE, access: 1 | 2 | 4 | 8 }],
        outputs: vec![Pins { name: "irq".to_owned(), count: None }],
        ports,
        fdt: Some(FdtNode {
            name: "virtio_mmio".to_owned(),
            compatible: vec!["virtio,mmio".to_owned()],
            props: vec![("dma-coherent".to_owned(), FdtValue::Empty)],
            interrupts: vec![IRQ.0],
            ..FdtNode::default()
        }),
        ..DeviceDesc::default()
    }
}

/// Whether `size` may be the `queue_size` option of a device; the text says why not.
///
/// # Errors
/// It is not a power of two, or larger than [`MAX_QUEUE_SIZE`].
pub fn check_queue_size(size: u16) -> Result<(), crate::ConfigError> {
    if size.is_power_of_two() && size <= MAX_QUEUE_SIZE {
        return Ok(());
    }
    let message = format!("{size} is not a power of two up to {MAX_QUEUE_SIZE}");
    Err(crate::ConfigError { path: "queue_size".to_owned(), message })
}
