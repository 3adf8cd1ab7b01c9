//! The virtio console device: consoles and serial ports. Virtio 1.2 §5.3.
//!
//! Guest port N is the host port `portN`. What the outside sends waits in the host's queue until the guest has opened
//! the port and has buffers for it; nothing is kept here. Control messages to the guest are flags of a port, not a
//! queue: a driver that asks over and over and never reads the answers costs nothing.

mod port;

use port::{CONTROL_BYTES, GuestPort, Message};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, Port, PortEvent, Reset,
    desc::{self, DeviceDesc, PortKind},
    virtio::{self, Chain, Served, Transport, Violation, VirtioDevice},
};

/// Feature bits. §5.3.3.
pub mod features {
    /// `cols` and `rows` are valid.
    pub const SIZE: u64 = 1 << 0;
    /// More than one port, and control queues.
    pub const MULTIPORT: u64 = 1 << 1;
    /// `emerg_wr` is there.
    pub const EMERG_WRITE: u64 = 1 << 2;
}

/// Offset of `emerg_wr` in the configuration space. §5.3.4.
const CONFIG_EMERG_WR: u64 = 8;
/// Most bytes moved in one go.
const MAX_CHUNK: u64 = 64 << 10;
/// Longest name of a port, in bytes: it must fit a buffer of the driver's.
const MAX_NAME_BYTES: usize = 256;

/// Options.
#[derive(DeviceConfig)]
pub struct Config {
    /// Number of ports; the board finds them as `port0`, `port1`, and so on.
    #[config(default = 1, min = 1, max = 31)]
    pub ports: u32,
    /// How many of the first ports are consoles (`hvc0`, …); the others are plain serial ports.
    #[config(default = 1, min = 0, max = 31)]
    pub consoles: u32,
    /// Names of the ports in order, by which the guest finds them; an empty one names nothing.
    #[config(default = [])]
    pub names: Vec<String>,
    /// Columns of the consoles.
    #[config(default = 80, min = 1)]
    pub cols: u16,
    /// Rows of the consoles.
    #[config(default = 25, min = 1)]
    pub rows: u16,
    /// Longest virtqueue, a power of two.
    #[config(default = 64, min = 2, max = 1024)]
    pub queue_size: u16,
}

/// The device.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Console {
    #[state(config)]
    cols: u16,
    #[state(config)]
    rows: u16,
    transport: Transport,
    ports: Box<[GuestPort]>,
}

/// What a virtqueue is for. §5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Receive(usize),
    Transmit(usize),
    ControlReceive,
    ControlTransmit,
}

fn role(queue: usize) -> Role {
    match queue {
        0 => Role::Receive(0),
        1 => Role::Transmit(0),
        2 => Role::ControlReceive,
        3 => Role::ControlTransmit,
        _ if queue.is_multiple_of(2) => Role::Receive(queue / 2 - 1),
        _ => Role::Transmit(queue / 2 - 1),
    }
}

const CONTROL_RECEIVE: usize = 2;

fn receive_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 * port + 2 }
}

fn host_port(port: usize) -> Port {
    Port(port as u32)
}

impl Console {
    fn multiport(&self) -> bool {
        self.transport.has(features::MULTIPORT)
    }

    /// The guest would take input: without MULTIPORT there is no way to say so, a buffer is enough.
    fn is_open(&self, port: usize) -> bool {
        if self.multiport() { self.ports[port].guest_open } else { port == 0 }
    }

    fn receive(&mut self, cx: &mut Ctx<'_>, port: usize, chain: &Chain) -> Result<u32, Violation> {
        let port = host_port(port);
        let len = chain.writable_len().min(cx.port_pending(port)).min(MAX_CHUNK);
        let mut data = vec![0; len as usize];
        let got = cx.port_read(port, &mut data);
        chain.write(cx, 0, &data[..got])?;
        Ok(got as u32)
    }

    fn transmit(cx: &mut Ctx<'_>, port: usize, chain: &Chain) -> Result<(), Violation> {
        let (mut at, end) = (0, chain.readable_len());
        while at < end {
            let mut data = vec![0; (end - at).min(MAX_CHUNK) as usize];
            chain.read(cx, at, &mut data)?;
            cx.port_write(host_port(port), &data);
            at += data.len() as u64;
        }
        Ok(())
    }

    /// Put the next control message into a buffer of the driver's.
    fn tell(&mut self, cx: &mut Ctx<'_>, chain: &Chain) -> Result<u32, Violation> {
        let size = (self.cols, self.rows);
        let message =
            self.ports.iter_mut().enumerate().find_map(|(id, port)| port.next_message(id as u32, size));
        let mut message = message.unwrap_or_default();
        message.truncate(usize::try_from(chain.writable_len()).unwrap_or(usize::MAX));
        chain.write(cx, 0, &message)?;
        Ok(message.len() as u32)
    }

    /// A control message of the driver's.
    fn hear(&mut self, cx: &mut Ctx<'_>, chain: &Chain) -> Result<(), Violation> {
        if !self.multiport() || chain.readable_len() < CONTROL_BYTES as u64 {
            return Ok(());
        }
        let mut raw = [0; CONTROL_BYTES];
        chain.read(cx, 0, &mut raw)?;
        match Message::parse(raw) {
            Some(Message::DeviceReady) => self.ports.iter_mut().for_each(GuestPort::announce),
            Some(Message::PortReady(id)) => {
                if let Some(port) = self.ports.get_mut(id as usize) {
                    port.introduce(self.transport.has(features::SIZE));
                }
            }
            Some(Message::PortOpen(id, open)) => {
                if let Some(port) = self.ports.get_mut(id as usize) {
                    port.guest_open = open;
                    virtio::run(self, cx, receive_queue(id as usize));
                }
            }
            None => {}
        }
        virtio::run(self, cx, CONTROL_RECEIVE);
        Ok(())
    }
}

impl VirtioDevice for Console {
    /// §5.3.1.
    const DEVICE_ID: u32 = 3;

    fn transport(&self) -> &Transport {
        &self.transport
    }

    fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    fn features(&self, _cx: &Ctx<'_>) -> u64 {
        features::SIZE | features::MULTIPORT | features::EMERG_WRITE
    }

    /// `struct virtio_console_config`. §5.3.4.
    fn config(&self, _cx: &Ctx<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        out.extend(self.cols.to_le_bytes());
        out.extend(self.rows.to_le_bytes());
        out.extend((self.ports.len() as u32).to_le_bytes());
        out.extend([0; 4]); // emerg_wr
        out
    }

    /// Works at any time, also before the driver has said anything. §5.3.5.1.
    fn config_write(&mut self, cx: &mut Ctx<'_>, offset: u64, data: &[u8]) {
        if offset == CONFIG_EMERG_WR {
            cx.port_write(host_port(0), &data[..1]);
        }
    }

    fn ready(&self, cx: &Ctx<'_>, queue: usize) -> bool {
        match role(queue) {
            Role::Receive(port) => self.is_open(port) && cx.port_pending(host_port(port)) > 0,
            Role::ControlReceive => self.ports.iter().any(GuestPort::has_message),
            Role::Transmit(_) | Role::ControlTransmit => true,
        }
    }

    fn serve(&mut self, cx: &mut Ctx<'_>, queue: usize, chain: Chain) -> Result<Served, Violation> {
        Ok(Served::Done(match role(queue) {
            Role::Receive(port) => self.receive(cx, port, &chain)?,
            Role::ControlReceive => self.tell(cx, &chain)?,
            Role::Transmit(port) => {
                Self::transmit(cx, port, &chain)?;
                0
            }
            Role::ControlTransmit => {
                self.hear(cx, &chain)?;
                0
            }
        }))
    }

    fn on_reset(&mut self, _cx: &mut Ctx<'_>) {
        self.ports.iter_mut().for_each(GuestPort::reset);
    }
}

impl Device for Console {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let port = |index| desc::Port { name: format!("port{index}"), kind: PortKind::Chr };
        virtio::describe("virtio-console", "consoles and serial ports", (0..config.ports).map(port).collect())
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        virtio::check_queue_size(config.queue_size)?;
        check_names(&config)?;
        let ports = config.ports as usize;
        let port = |index: usize| {
            let name = config.names.get(index).cloned().unwrap_or_default();
            GuestPort::new(name, index < config.consoles as usize)
        };
        Ok(Self {
            cols: config.cols,
            rows: config.rows,
            transport: Transport::new(&vec![config.queue_size; 2 * ports + 2]),
            ports: (0..ports).map(port).collect(),
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

    fn on_port(&mut self, cx: &mut Ctx<'_>, port: Port, event: PortEvent) {
        let index = port.0 as usize;
        match event {
            PortEvent::Readable => virtio::run(self, cx, receive_queue(index)),
            PortEvent::Opened | PortEvent::Closed => {
                self.ports[index].host_changed(event == PortEvent::Opened);
                virtio::run(self, cx, CONTROL_RECEIVE);
            }
            // A virtio port has no line to break.
            PortEvent::Break => {}
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        self.transport.check()
    }
}

fn check_names(config: &Config) -> Result<(), ConfigError> {
    let error = |message| Err(ConfigError { path: "names".to_owned(), message });
    if config.names.len() > config.ports as usize {
        return error(format!("{} names for {} ports", config.names.len(), config.ports));
    }
    match config.names.iter().find(|name| name.len() > MAX_NAME_BYTES) {
        Some(name) => error(format!("a name of {} bytes is longer than {MAX_NAME_BYTES}", name.len())),
        None => Ok(()),
    }
}

reprise_plugin_api::export_devices!(Console);

#[cfg(test)]
mod tests;
