//! The register file of virtio over MMIO, version 2. §4.2.

use super::queue::{Chain, Queue, Violation};
use super::{IRQ, REGION_SIZE, Served, VirtioDevice, features};
use crate::{Access, Ctx, DeviceState, Fault, LogLevel, Size};

/// Offsets of the registers in bytes. §4.2.2, table 4.1.
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod regs {
    pub const MAGIC_VALUE: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR_ID: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    pub const QUEUE_DESC_HIGH: u64 = 0x084;
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    pub const SHM_SEL: u64 = 0x0ac;
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    pub const SHM_LEN_HIGH: u64 = 0x0b4;
    pub const SHM_BASE_LOW: u64 = 0x0b8;
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    pub const QUEUE_RESET: u64 = 0x0c0;
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the device status. §2.1.
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod status {
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
    pub const FAILED: u32 = 128;
}

/// "virt". §4.2.2.
const MAGIC: u32 = 0x7472_6976;
/// Not legacy. §4.2.2.
const VERSION: u32 = 2;
/// "RPRS": ours to choose.
const VENDOR: u32 = 0x5352_5052;
/// InterruptStatus: a buffer was used. §4.2.2.
const INT_USED: u32 = 1;
/// InterruptStatus: the configuration changed. §4.2.2.
const INT_CONFIG: u32 = 2;
/// What a shared memory register of a region that does not exist reads. §4.2.2.
const NO_SHM: u32 = !0;

/// Registers and queues of one device.
#[derive(Debug, DeviceState)]
pub struct Transport {
    status: u32,
    interrupt_status: u32,
    config_generation: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Box<[Queue]>,
}

impl Transport {
    /// A transport whose queues have at most `sizes` descriptors, each a power of two.
    #[must_use]
    pub fn new(sizes: &[u16]) -> Self {
        for size in sizes {
            assert!(size.is_power_of_two(), "a queue of {size} descriptors");
        }
        Self {
            status: 0,
            interrupt_status: 0,
            config_generation: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queues: sizes.iter().map(|&max| Queue::new(max)).collect(),
        }
    }

    /// For `after_load`: whether a device can have been in this state.
    ///
    /// # Errors
    /// A queue is ready with a size or an address that the device would have refused.
    pub fn check(&self) -> Result<(), String> {
        for (index, queue) in self.queues.iter().enumerate().filter(|(_, queue)| queue.ready) {
            queue.check().map_err(|violation| format!("virtqueue {index}: {violation}"))?;
        }
        Ok(())
    }

    /// Whether all of `bits` were negotiated.
    #[must_use]
    pub fn has(&self, bits: u64) -> bool {
        self.status & status::FEATURES_OK != 0 && self.driver_features & bits == bits
    }

    /// Whether the driver runs the device: DRIVER_OK, and nothing went wrong.
    #[must_use]
    pub fn running(&self) -> bool {
        let dead = status::NEEDS_RESET | status::FAILED;
        self.status & (status::DRIVER_OK | dead) == status::DRIVER_OK
    }

    /// Descriptors in the ring of a queue as the driver has it: no more can be in flight.
    #[must_use]
    pub fn ring_size(&self, queue: usize) -> u32 {
        self.queues.get(queue).map_or(0, |queue| queue.size)
    }

    /// The configuration space changed.
    pub fn config_changed(&mut self, cx: &mut Ctx<'_>) {
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.running() {
            self.interrupt(cx, INT_CONFIG);
        }
    }

    /// The driver broke the protocol: stop until it resets the device. §2.1.2.
    pub fn stop(&mut self, cx: &mut Ctx<'_>, queue: usize, violation: Violation) {
        cx.log(LogLevel::Warn, format_args!("virtqueue {queue}: {violation}; the device needs a reset"));
        self.status |= status::NEEDS_RESET;
        if self.status & status::DRIVER_OK != 0 {
            self.interrupt(cx, INT_CONFIG);
        }
    }

    fn interrupt(&mut self, cx: &mut Ctx<'_>, cause: u32) {
        self.interrupt_status |= cause;
        self.update_irq(cx);
    }

    fn update_irq(&self, cx: &mut Ctx<'_>) {
        cx.set_pin(IRQ, self.interrupt_status != 0);
    }

    fn live(&mut self, queue: usize) -> Option<&mut Queue> {
        if !self.running() {
            return None;
        }
        self.queues.get_mut(queue).filter(|queue| queue.ready)
    }

    /// `or` if the queue does not run, or if `access` finds that the driver broke it.
    fn with_queue<T>(
        &mut self,
        cx: &mut Ctx<'_>,
        queue: usize,
        or: T,
        access: impl FnOnce(&mut Queue, &mut Ctx<'_>, u64) -> Result<T, Violation>,
    ) -> T {
        let negotiated = self.driver_features;
        let Some(live) = self.live(queue) else { return or };
        access(live, cx, negotiated).unwrap_or_else(|violation| {
            self.stop(cx, queue, violation);
            or
        })
    }

    fn pop(&mut self, cx: &mut Ctx<'_>, queue: usize) -> Option<Chain> {
        self.with_queue(cx, queue, None, |live, cx, negotiated| live.pop(cx, negotiated))
    }

    fn push(&mut self, cx: &mut Ctx<'_>, queue: usize, head: u16, written: u32) {
        self.with_queue(cx, queue, (), |live, cx, _| live.push(cx, head, written));
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, queue: usize) {
        if self.with_queue(cx, queue, false, |live, cx, negotiated| live.take_signal(cx, negotiated)) {
            self.interrupt(cx, INT_USED);
        }
    }

    fn selected(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(self.queue_sel as usize)
    }

    /// The selected queue, if its layout may be changed: not while it runs. §4.2.2.2.
    fn configurable(&mut self) -> Option<&mut Queue> {
        self.selected().filter(|queue| !queue.ready)
    }

    /// Registers that need nothing of the device.
    fn read_register(&mut self, offset: u64) -> u32 {
        match offset {
            regs::MAGIC_VALUE => MAGIC,
            regs::VERSION => VERSION,
            regs::VENDOR_ID => VENDOR,
            regs::QUEUE_NUM_MAX => self.selected().map_or(0, |queue| u32::from(queue.max)),
            regs::QUEUE_READY => self.selected().map_or(0, |queue| u32::from(queue.ready)),
            regs::INTERRUPT_STATUS => self.interrupt_status,
            regs::STATUS => self.status,
            regs::SHM_LEN_LOW | regs::SHM_LEN_HIGH | regs::SHM_BASE_LOW | regs::SHM_BASE_HIGH => NO_SHM,
            regs::CONFIG_GENERATION => self.config_generation,
            // QueueReset reads 0: a reset is over when the write that asked for it is. The rest is write-only or
            // reserved.
            _ => 0,
        }
    }

    /// Registers that mean nothing to the device.
    fn write_register(&mut self, cx: &mut Ctx<'_>, offset: u64, value: u32) {
        match offset {
            regs::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            regs::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            regs::DRIVER_FEATURES => self.write_driver_features(value),
            regs::QUEUE_SEL => self.queue_sel = value,
            regs::INTERRUPT_ACK => {
                self.interrupt_status &= !value;
                self.update_irq(cx);
            }
            _ => {
                if let Some(queue) = self.configurable() {
                    write_layout(queue, offset, value);
                }
            }
        }
    }

    fn write_driver_features(&mut self, value: u32) {
        // Settled by FEATURES_OK. §3.1.1.
        if self.status & status::FEATURES_OK == 0 {
            match self.driver_features_sel {
                0 => set_low(&mut self.driver_features, value),
                1 => set_high(&mut self.driver_features, value),
                _ => {}
            }
        }
    }

    /// The status after the driver wrote `value`, which is not 0: bits are granted, never taken back. §2.1.
    fn granted(&self, value: u32, offered: u64, acceptable: bool) -> u32 {
        let mut new = self.status | value & (status::ACKNOWLEDGE | status::DRIVER | status::FAILED);
        let acceptable = acceptable
            && self.driver_features & !offered == 0
            && self.driver_features & features::VERSION_1 != 0;
        if value & status::FEATURES_OK != 0 && acceptable {
            new |= status::FEATURES_OK;
        }
        if value & status::DRIVER_OK != 0 && new & status::FEATURES_OK != 0 {
            new |= status::DRIVER_OK;
        }
        new
    }
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}

fn write_layout(queue: &mut Queue, offset: u64, value: u32) {
    match offset {
        regs::QUEUE_NUM => queue.size = value,
        regs::QUEUE_DESC_LOW => set_low(&mut queue.desc, value),
        regs::QUEUE_DESC_HIGH => set_high(&mut queue.desc, value),
        regs::QUEUE_DRIVER_LOW => set_low(&mut queue.driver, value),
        regs::QUEUE_DRIVER_HIGH => set_high(&mut queue.driver, value),
        regs::QUEUE_DEVICE_LOW => set_low(&mut queue.device, value),
        regs::QUEUE_DEVICE_HIGH => set_high(&mut queue.device, value),
        // Read-only or reserved.
        _ => {}
    }
}

/// The machine or the driver resets the device. For [`crate::Device::reset`].
pub fn reset<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>) {
    let sizes: Vec<u16> = dev.transport().queues.iter().map(|queue| queue.max).collect();
    *dev.transport_mut() = Transport::new(&sizes);
    dev.on_reset(cx);
    dev.transport().update_irq(cx);
}

/// For [`crate::Device::mmio_read`].
///
/// # Errors
/// None: what the specification does not define reads zero.
pub fn mmio_read<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
    if let Some(offset) = access.offset.checked_sub(regs::CONFIG) {
        return Ok(read_config(&dev.config(cx), offset, access.size));
    }
    if access.size != Size::B4 {
        odd_access(cx, "read", access);
        return Ok(0);
    }
    Ok(u64::from(match access.offset {
        regs::DEVICE_ID => D::DEVICE_ID,
        regs::DEVICE_FEATURES => match dev.transport().device_features_sel {
            0 => offered(dev, cx) as u32,
            1 => (offered(dev, cx) >> 32) as u32,
            _ => 0,
        },
        offset => dev.transport_mut().read_register(offset),
    }))
}

/// For [`crate::Device::mmio_write`].
///
/// # Errors
/// None: what the specification does not define is ignored.
pub fn mmio_write<D: VirtioDevice>(
    dev: &mut D,
    cx: &mut Ctx<'_>,
    access: Access,
    value: u64,
) -> Result<(), Fault> {
    if let Some(offset) = access.offset.checked_sub(regs::CONFIG) {
        dev.config_write(cx, offset, &value.to_le_bytes()[..access.size.bytes() as usize]);
        return Ok(());
    }
    if access.size != Size::B4 {
        odd_access(cx, "write", access);
        return Ok(());
    }
    let value = value as u32;
    match access.offset {
        regs::STATUS => write_status(dev, cx, value),
        regs::QUEUE_NOTIFY => run(dev, cx, value as usize),
        regs::QUEUE_READY => write_ready(dev, cx, value),
        regs::QUEUE_RESET => {
            if value == 1 && dev.transport().has(features::RING_RESET) {
                reset_queue(dev, cx);
            }
        }
        offset => dev.transport_mut().write_register(cx, offset, value),
    }
    Ok(())
}

/// Let the device take from `queue` whatever it is ready for, then interrupt the driver if it wants that.
pub fn run<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, queue: usize) {
    // Once more than the ring is long: an honest driver's full ring is emptied and then seen to be empty. And no more
    // than that: a ring that overlaps the buffers may feed itself.
    let turns = dev.transport_mut().live(queue).map_or(0, |queue| queue.size + 1);
    for _ in 0..turns {
        if !dev.ready(cx, queue) {
            break;
        }
        let Some(chain) = dev.transport_mut().pop(cx, queue) else { break };
        let head = chain.head();
        match dev.serve(cx, queue, chain) {
            Ok(Served::Done(written)) => dev.transport_mut().push(cx, queue, head, written),
            Ok(Served::Later) => {}
            Err(violation) => dev.transport_mut().stop(cx, queue, violation),
        }
    }
    dev.transport_mut().signal(cx, queue);
}

/// Give back a chain that [`VirtioDevice::serve`] kept: `head` of `queue`, with `written` bytes in its writable part.
pub fn complete<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, queue: usize, head: u16, written: u32) {
    let transport = dev.transport_mut();
    transport.push(cx, queue, head, written);
    transport.signal(cx, queue);
}

/// As [`complete`], from inside [`VirtioDevice::serve`] of the same queue, which interrupts the driver when it is done.
pub fn give_back<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, queue: usize, head: u16, written: u32) {
    dev.transport_mut().push(cx, queue, head, written);
}

fn offered<D: VirtioDevice>(dev: &D, cx: &Ctx<'_>) -> u64 {
    dev.features(cx) | features::TRANSPORT
}

fn odd_access(cx: &mut Ctx<'_>, verb: &str, access: Access) {
    let (size, offset) = (access.size.bytes(), access.offset);
    cx.log(LogLevel::Warn, format_args!("{size}-byte {verb} of the register at {offset:#x}: ignored"));
}

fn read_config(config: &[u8], offset: u64, size: Size) -> u64 {
    assert!(
        offset < REGION_SIZE - regs::CONFIG,
        "the host handed an access at {offset:#x} outside the region"
    );
    let start = config.len().min(offset as usize);
    let end = config.len().min(offset as usize + size.bytes() as usize);
    let mut out = [0; 8];
    out[..end - start].copy_from_slice(&config[start..end]);
    u64::from_le_bytes(out)
}

fn write_status<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, value: u32) {
    if value == 0 {
        reset(dev, cx);
        return;
    }
    let old = dev.transport().status;
    let acceptable = dev.accepts(dev.transport().driver_features);
    let new = dev.transport().granted(value, offered(dev, cx), acceptable);
    dev.transport_mut().status = new;
    if new & !old & status::FEATURES_OK != 0 {
        dev.on_features(cx);
    }
    if new & !old & status::DRIVER_OK != 0 {
        // Buffers of a driver that notified too early would wait for ever.
        for queue in 0..dev.transport().queues.len() {
            run(dev, cx, queue);
        }
    }
}

fn write_ready<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>, value: u32) {
    let index = dev.transport().queue_sel as usize;
    let Some(queue) = dev.transport_mut().selected() else { return };
    if value & 1 == 0 {
        if queue.ready {
            queue.ready = false;
            dev.on_queue_reset(cx, index);
        }
    } else if !queue.ready
        && let Err(violation) = queue.enable()
    {
        dev.transport_mut().stop(cx, index, violation);
    }
}

fn reset_queue<D: VirtioDevice>(dev: &mut D, cx: &mut Ctx<'_>) {
    let index = dev.transport().queue_sel as usize;
    let Some(queue) = dev.transport_mut().selected() else { return };
    queue.reset();
    dev.on_queue_reset(cx, index);
}
