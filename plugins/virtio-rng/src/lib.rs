//! The virtio entropy device. Virtio 1.2 §5.4.
//!
//! The driver hands out writable buffers and gets them back with random bytes from the machine's recorded stream, so
//! a replay sees the same ones.

use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Reset,
    desc::DeviceDesc,
    virtio::{self, Chain, Served, Transport, Violation, VirtioDevice},
};

/// The most bytes for one buffer. A longer one is filled in part, which a driver expects of this device.
const MAX_BYTES: u64 = 4096;

/// Options.
#[derive(DeviceConfig)]
pub struct Config {
    /// Longest virtqueue, a power of two.
    #[config(default = 64, min = 2, max = 1024)]
    pub queue_size: u16,
}

/// The device.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Rng {
    transport: Transport,
}

impl VirtioDevice for Rng {
    /// §5.4.1.
    const DEVICE_ID: u32 = 4;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, _queue: usize, chain: Chain) -> Result<Served, Violation> {
        let len = chain.writable_len().min(MAX_BYTES) as u32;
        let mut bytes = vec![0; len as usize];
        cx.random(&mut bytes);
        chain.write(cx, 0, &bytes)?;
        Ok(Served::Done(len))
    }
}

impl Device for Rng {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        virtio::describe("virtio-rng", "entropy from the recorded random stream", Vec::new())
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        virtio::check_queue_size(config.queue_size)?;
        Ok(Self { transport: Transport::new(&[config.queue_size]) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        virtio::reset(self, cx);
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        virtio::mmio_read(self, cx, access)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        virtio::mmio_write(self, cx, access, value)
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.transport.check()
    }
}

reprise_plugin_api::export_devices!(Rng);

#[cfg(test)]
mod tests;
