//! What the parts of devices are called.

use reprise_plugin_api::{desc::Pins, observe::MachineDesc};

/// By device, and then by the part's place.
struct Device {
    id: String,
    regions: Vec<String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    timers: Vec<String>,
    bottom_halves: Vec<String>,
    ports: Vec<String>,
    links: Vec<String>,
}

/// All devices of a machine.
pub(crate) struct Names(Vec<Device>);

fn pins(pins: &[Pins]) -> Vec<String> {
    let each = |pins: &Pins| match pins.count {
        None => vec![pins.name.clone()],
        Some(count) => (0..count).map(|number| format!("{}.{number}", pins.name)).collect(),
    };
    pins.iter().flat_map(each).collect()
}

macro_rules! parts {
    ($($method:ident $field:ident)*) => { $(
        pub(crate) fn $method(&self, device: usize, place: u32) -> String {
            let name = self.0.get(device).and_then(|device| device.$field.get(place as usize));
            name.cloned().unwrap_or_else(|| format!(concat!(stringify!($method), " {}"), place))
        }
    )* };
}

impl Names {
    pub(crate) fn of(machine: &MachineDesc) -> Self {
        let device = |device: &reprise_plugin_api::observe::ObservedDevice| {
            let desc = &device.desc;
            Device {
                id: device.id.clone(),
                regions: desc.regions.iter().map(|region| region.name.clone()).collect(),
                inputs: pins(&desc.inputs),
                outputs: pins(&desc.outputs),
                timers: desc.timers.clone(),
                bottom_halves: desc.bottom_halves.iter().map(|bh| bh.name.clone()).collect(),
                ports: desc.ports.iter().map(|port| port.name.clone()).collect(),
                links: desc.links.iter().map(|link| link.name.clone()).collect(),
            }
        };
        Self(machine.devices.iter().map(device).collect())
    }

    pub(crate) fn device(&self, device: usize) -> &str {
        self.0.get(device).map_or("?", |device| &device.id)
    }

    parts! {
        region regions
        input inputs
        output outputs
        timer timers
        bottom_half bottom_halves
        port ports
        link links
    }
}
