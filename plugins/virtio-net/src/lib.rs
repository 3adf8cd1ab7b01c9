//! The virtio network device. Virtio 1.2 §5.1.
//!
//! Offloads go through to whatever is connected: a frame that is several segments, or whose checksum is left to do,
//! crosses the port as it is, behind its header. What the driver takes is told to the host, which sends nothing else.
//!
//! Not modelled: several queue pairs, RSS, notification coalescing, UFO.

pub mod features;

mod control;
mod filter;
mod frame;
mod receive;
mod transmit;

use filter::Filter;
use frame::Mac;
use receive::Inbound;
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Port, PortEvent, Reset,
    desc::{self, DeviceDesc, PortKind},
    net::{self, Offload},
    virtio::{self, Chain, Served, Transport, Violation, VirtioDevice},
};

/// The port that the board connects to a network.
const NET: Port = Port(0);
/// The virtqueues. §5.1.2.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;
/// Commands that may wait for the device.
const CONTROL_SIZE: u16 = 64;

/// Bits of `status`. §5.1.4.
const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;
/// Both directions at once. §5.1.4.
const FULL_DUPLEX: u8 = 1;
/// What drivers take without the MTU feature, in bytes.
const USUAL_MTU: u32 = 1500;

/// Options.
#[derive(DeviceConfig)]
pub struct Config {
    /// The interface's address.
    #[config(default = "52:54:00:12:34:56")]
    pub mac: String,
    /// Longest packet in bytes, without the Ethernet header.
    #[config(default = 1500, min = 68, max = 65535)]
    pub mtu: u16,
    /// Checksums and segments may be left to the other side. Off: the plainest of interfaces.
    #[config(default = true)]
    pub offloads: bool,
    /// What the interface calls its speed, in Mbit/s. Nothing depends on it.
    #[config(default = 10000, min = 1)]
    pub speed_mbps: u32,
    /// Longest virtqueue, a power of two.
    #[config(default = 256, min = 4, max = 1024)]
    pub queue_size: u16,
}

/// The device.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Net {
    #[state(config)]
    factory_mac: Mac,
    #[state(config)]
    mtu: u16,
    #[state(config)]
    speed_mbps: u32,
    #[state(config)]
    offered: u64,
    transport: Transport,
    /// A cable is there. So it is taken to be until the host says otherwise, and not the guest's to reset.
    link_up: bool,
    /// The driver is asked to make itself known.
    announce: bool,
    filter: Filter,
    /// Feature bits of what the driver takes now, of [`features::GUEST_OFFLOADS`].
    guest_offloads: u64,
    inbound: Inbound,
    /// Holds a frame between port and guest memory, within one callback.
    #[state(skip, rebuild = "Self::forget_scratch")]
    scratch: Vec<u8>,
}

impl Net {
    fn forget_scratch(&mut self) {
        self.scratch.clear();
    }

    fn has_offload(&self, bit: u64) -> bool {
        self.guest_offloads & bit != 0
    }

    /// What the driver takes.
    fn offload(&self) -> Offload {
        let mtu = u32::from(self.mtu);
        // A driver that was not told expects what everybody expects.
        let mtu = if self.transport.has(features::MTU) { mtu } else { mtu.min(USUAL_MTU) };
        features::offload(self.guest_offloads, mtu)
    }

    fn tell_offload(&self, cx: &mut Ctx<'_>) {
        cx.net_offload(NET, self.offload());
    }

    fn status(&self) -> u16 {
        let announce = self.announce && self.transport.has(features::GUEST_ANNOUNCE);
        (if self.link_up { LINK_UP } else { 0 }) | (if announce { ANNOUNCE } else { 0 })
    }

    /// The cable was plugged in or out. Behind another cable is another network, to which nobody has introduced us.
    fn link_changed(&mut self, cx: &mut Ctx<'_>, up: bool) {
        if self.link_up != up {
            self.link_up = up;
            self.announce = up;
            self.transport.config_changed(cx);
        }
    }
}

impl VirtioDevice for Net {
    /// §5.1.1.
    const DEVICE_ID: u32 = 1;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn features(&self, _cx: &Ctx<'_>) -> u64 {
        self.offered
    }

    fn accepts(&self, features: u64) -> bool {
        features::complete(features)
    }

    /// `struct virtio_net_config`. §5.1.4.
    fn config(&self, _cx: &Ctx<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(17);
        out.extend(self.filter.mac);
        out.extend(self.status().to_le_bytes());
        out.extend(1u16.to_le_bytes()); // max_virtqueue_pairs
        out.extend(self.mtu.to_le_bytes());
        out.extend(self.speed_mbps.to_le_bytes());
        out.push(FULL_DUPLEX);
        out
    }

    fn on_features(&mut self, cx: &mut Ctx<'_>) {
        let all = (0..64).map(|bit| 1 << bit).filter(|bit| self.transport.has(*bit));
        self.guest_offloads = all.fold(0, |sum, bit| sum | bit) & features::GUEST_OFFLOADS;
        self.filter.filter_vlans(self.transport.has(features::CTRL_VLAN));
        self.tell_offload(cx);
    }

    fn ready(&self, cx: &Ctx<'_>, queue: usize) -> bool {
        match queue {
            RECEIVE => !self.inbound.frame.is_empty() || cx.port_pending(NET) > 0,
            _ => true,
        }
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, queue: usize, chain: Chain) -> Result<Served, Violation> {
        match queue {
            RECEIVE => {
                self.inbound.held.push(chain);
                self.deliver(cx)?;
                Ok(Served::Later)
            }
            TRANSMIT => {
                self.transmit(cx, &chain)?;
                Ok(Served::Done(0))
            }
            queue => {
                assert_eq!(queue, CONTROL, "the device has three queues");
                Ok(Served::Done(self.control(cx, &chain)?))
            }
        }
    }

    fn on_reset(&mut self, cx: &mut Ctx<'_>) {
        self.filter = Filter::new(self.factory_mac);
        (self.announce, self.guest_offloads) = (false, 0);
        self.inbound = Inbound::default();
        self.tell_offload(cx);
    }

    fn on_queue_reset(&mut self, _cx: &mut Ctx<'_>, queue: usize) {
        if queue == RECEIVE {
            self.inbound.held.clear();
        }
    }
}

impl Device for Net {
    type Config = Config;

    fn describe(_config: &Config) -> DeviceDesc {
        let port = desc::Port { name: "net".to_owned(), kind: PortKind::Net };
        virtio::describe("virtio-net", "a network interface", vec![port])
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        virtio::check_queue_size(config.queue_size)?;
        let mac = parse_mac(&config.mac)?;
        let offloads = if config.offloads { features::OFFLOADS } else { 0 };
        Ok(Self {
            factory_mac: mac,
            mtu: config.mtu,
            speed_mbps: config.speed_mbps,
            offered: features::ALWAYS | offloads,
            transport: Transport::new(&[config.queue_size, config.queue_size, CONTROL_SIZE]),
            link_up: true,
            announce: false,
            filter: Filter::new(mac),
            guest_offloads: 0,
            inbound: Inbound::default(),
            scratch: Vec::new(),
        })
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

    fn on_port(&mut self, cx: &mut Ctx<'_>, _port: Port, event: PortEvent) {
        match event {
            PortEvent::Readable => self.receive(cx),
            PortEvent::Opened => self.link_changed(cx, true),
            PortEvent::Closed => self.link_changed(cx, false),
            // A network has no line to break.
            PortEvent::Break => {}
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.transport.check()?;
        let frame = self.inbound.frame.len();
        if frame != 0 && !(net::HEADER_BYTES + net::ETHERNET_BYTES..=net::MAX_BYTES).contains(&frame) {
            return Err(format!("a frame of {frame} bytes is on its way to the guest"));
        }
        if self.guest_offloads & !self.offered != 0 || !features::complete(self.guest_offloads) {
            return Err(format!("offloads {:#x} that the device has not", self.guest_offloads));
        }
        Ok(())
    }
}

fn parse_mac(text: &str) -> Result<Mac, ConfigError> {
    let error = |message: String| ConfigError { path: "mac".to_owned(), message };
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    let mac = bytes.and_then(|bytes| Mac::try_from(bytes).ok());
    let mac = mac.ok_or_else(|| error(format!("\"{text}\" is no address like 52:54:00:12:34:56")))?;
    if frame::is_multicast(mac) || mac == [0; 6] {
        return Err(error(format!("{text} is no address of a single interface")));
    }
    Ok(mac)
}

reprise_plugin_api::export_devices!(Net);

#[cfg(test)]
mod tests;
