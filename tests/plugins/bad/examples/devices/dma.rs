//! What goes wrong with guest memory.

use super::driving::raw;
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceState, Fault, Reset,
    desc::DeviceDesc,
    private::abi::hot::{CtxRaw, PAGE_DIRTY, RamWindow},
    virtio::{self, Chain, Served, Transport, Violation, VirtioDevice},
};
use reprise_plugin_bad::sin_on_write;

sin_on_write! {
    /// Writes one thing through a window and another by copy.
    Windows, "windows", |cx, value| match cx.ram(value.into()) {
        Some(mut ram) => drop(ram.write_slice(value.into(), &[1])),
        None => drop(cx.dma_write(value.into(), &[2])),
    }
}

sin_on_write! {
    /// Writes behind the host's back.
    Dirty, "dirty", |cx, value| count_up(cx, value.into(), 0)
}

sin_on_write! {
    /// Marks the page, but does not say that code may have changed.
    Watched, "watched", |cx, value| count_up(cx, value.into(), PAGE_DIRTY)
}

/// Add one to a byte of RAM, by hand.
fn count_up(cx: &mut Ctx<'_>, gpa: u64, mark: u8) {
    let cx: *mut CtxRaw = raw(cx);
    let mut window = RamWindow { gpa: 0, len: 0, base: core::ptr::null_mut(), pages: core::ptr::null_mut() };
    // SAFETY: the context of the callback that runs, and a place for the answer.
    let (found, table, host) =
        unsafe { (((*(*cx).vtbl).ram_window)((*cx).host, gpa, &raw mut window), (*cx).vtbl, (*cx).host) };
    if found == 0 {
        let mut byte = [0];
        // SAFETY: as above; the byte is there for both calls.
        unsafe {
            if ((*table).dma_read)(host, gpa, byte.as_mut_ptr(), 1) == 0 {
                byte[0] = byte[0].wrapping_add(1);
                ((*table).dma_write)(host, gpa, byte.as_ptr(), 1);
            }
        }
        return;
    }
    let offset = (gpa - window.gpa) as usize;
    // SAFETY: the window holds `gpa`, and has a mark for each of its pages.
    unsafe {
        let byte = window.base.add(offset);
        byte.write(byte.read().wrapping_add(1));
        let page = window.pages.add(offset >> 12);
        page.write(page.read() | mark);
    }
}

/// A virtio device that believes its driver.
#[derive(DeviceState)]
pub(crate) struct Rings {
    transport: Transport,
}

impl VirtioDevice for Rings {
    const DEVICE_ID: u32 = 4;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, _: usize, chain: Chain) -> Result<Served, Violation> {
        let mut header = [0; 16];
        let len = chain.readable_len().min(16) as usize;
        chain.read(cx, 0, &mut header[..len]).expect("a driver's buffers are in RAM");
        Ok(Served::Done(0))
    }
}

impl Device for Rings {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        virtio::describe("rings", "breaks a rule", Vec::new())
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self { transport: Transport::new(&[16]) })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _: Reset) {
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
