//! `broken`: a device that is no function of its state and inputs, so that a replay of it goes wrong.
//!
//! Which rule it breaks is the option `sin`. It is good until the virtual time `after_vtime_ns`, so that what goes
//! wrong does so in the middle of a run. Registers are 64 bits wide:
//!
//! | offset | name  | access | meaning                                               |
//! |--------|-------|--------|-------------------------------------------------------|
//! | 0x00   | VALUE | RO     | 0, or what the sin makes of it; reading it is the sin |
//! | 0x08   | DMA   | RW     | where the sin `dma` writes to guest RAM; 0: nowhere   |
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "each sin is one of the things that these lints keep out of plugins"
)]

mod observer;

use reprise_plugin_api::{
    Access, Bh, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Port, Reset, Timer,
    desc::{DeviceDesc, PortKind},
    net,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const VALUE: u64 = 0x00;
const DMA: u64 = 0x08;
/// Its period, and how soon after the guest has named a place the first write comes.
const DMA_EVERY_NS: u64 = 100_000;
const TICK: Timer = Timer(0);
const WORK: Bh = Bh(0);
const NET: Port = Port(0);

/// What a board may choose.
#[derive(DeviceConfig)]
pub struct Config {
    /// What it does wrong.
    #[config(
        default = "none",
        one_of = ["none", "time", "address", "static", "hash", "dma", "env", "bh", "frame", "panic"]
    )]
    pub sin: String,
    /// Until then it is good.
    #[config(default = 0, min = 0)]
    pub after_vtime_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sin {
    /// None at all.
    None,
    /// A saved field takes the host's time; the guest does not see it.
    Time,
    /// The guest reads the address of a host object.
    Address,
    /// The guest reads a counter that all machines of the process share and that no state holds.
    Static,
    /// The guest reads what comes first in a map with random order.
    Hash,
    /// Guest RAM gets the host's time.
    Dma,
    /// The guest reads the environment.
    Env,
    /// A bottom half is queued if the host's time is odd.
    Bh,
    /// A frame with the host's time goes to the network.
    Frame,
    /// Not a sin against replay: it always panics at the same place.
    Panic,
}

/// The device.
#[derive(DeviceState)]
pub struct Broken {
    #[state(config)]
    sin: Sin,
    #[state(config)]
    after_vtime_ns: u64,
    reads: u64,
    counter: u64,
    bottom_halves: u64,
    dma_gpa: u64,
}

fn host_time_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Broken {
    /// What a sinful read of VALUE gives.
    fn value(&mut self, cx: &mut Ctx<'_>) -> u64 {
        static READS: AtomicU64 = AtomicU64::new(0);
        match self.sin {
            Sin::None | Sin::Dma => {}
            Sin::Time => self.counter = self.counter.wrapping_add(host_time_ns()),
            Sin::Address => return Box::into_raw(Box::new(self.reads)).addr() as u64,
            Sin::Static => return READS.fetch_add(1, Ordering::Relaxed),
            Sin::Hash => {
                let map: HashMap<u64, ()> = (0..1000).map(|key| (key, ())).collect();
                return map.into_keys().next().unwrap_or_default();
            }
            Sin::Env => {
                let word = std::env::var("REPRISE_BROKEN").unwrap_or_default();
                return word.parse().unwrap_or_default();
            }
            Sin::Bh => {
                if host_time_ns() & 1 == 1 {
                    cx.bh_schedule(WORK);
                }
            }
            Sin::Frame => {
                let time = host_time_ns().to_le_bytes();
                cx.port_write(NET, &[&[0; net::HEADER_BYTES + net::ETHERNET_BYTES][..], &time].concat());
            }
            Sin::Panic => panic!("broken on purpose"),
        }
        0
    }
}

impl Device for Broken {
    type Config = Config;

    fn describe(_: &Config) -> DeviceDesc {
        DeviceDesc::new("broken", "breaks the rules of replay on purpose")
            .region("regs", 0x1000, 8)
            .timer("tick")
            .bottom_half("work")
            .port("net", PortKind::Net)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let sin = match config.sin.as_str() {
            "time" => Sin::Time,
            "address" => Sin::Address,
            "static" => Sin::Static,
            "hash" => Sin::Hash,
            "dma" => Sin::Dma,
            "env" => Sin::Env,
            "bh" => Sin::Bh,
            "frame" => Sin::Frame,
            "panic" => Sin::Panic,
            _ => Sin::None,
        };
        let after_vtime_ns = config.after_vtime_ns;
        Ok(Self { sin, after_vtime_ns, reads: 0, counter: 0, bottom_halves: 0, dma_gpa: 0 })
    }

    fn reset(&mut self, _cx: &mut Ctx<'_>, _kind: Reset) {
        let Self { sin: _, after_vtime_ns: _, reads, counter, bottom_halves, dma_gpa } = self;
        [*reads, *counter, *bottom_halves, *dma_gpa] = [0; 4];
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        match access.offset {
            VALUE => {
                self.reads += 1;
                Ok(if cx.now_ns() >= self.after_vtime_ns { self.value(cx) } else { 0 })
            }
            DMA => Ok(self.dma_gpa),
            _ => Ok(0),
        }
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        if access.offset == DMA {
            self.dma_gpa = value;
            cx.timer_arm(TICK, cx.now_ns() + DMA_EVERY_NS);
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, _timer: Timer) {
        if self.dma_gpa == 0 {
            return;
        }
        let sinful = self.sin == Sin::Dma && cx.now_ns() >= self.after_vtime_ns;
        let value = if sinful { host_time_ns() } else { 0 };
        // A place that is not RAM is the guest's mistake; there the device writes nothing.
        let _ = cx.dma_write(self.dma_gpa, &value.to_le_bytes());
        cx.timer_arm(TICK, cx.now_ns() + DMA_EVERY_NS);
    }

    fn on_bh(&mut self, _cx: &mut Ctx<'_>, _bh: Bh, _payload: Option<&[u8]>) {
        self.bottom_halves += 1;
    }
}

reprise_plugin_api::export_devices!(Broken);
