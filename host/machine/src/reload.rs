//! Another build of a plugin, while the machine stands still: its devices are made anew and get the state that the old
//! ones had. What the host holds for them (timers, pins, queues, requests) stays as it is; the guest cannot tell.

use crate::{
    machine::Machine,
    plugin::{Instance, Plugin},
};
use reprise_abi::{
    desc::{DeviceDesc, Pins},
    schema::{self, Verdict},
};
use thiserror::Error;

/// Why a build cannot take the place of another. The machine is what it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReloadError {
    /// The new build does not make the device.
    #[error("device \"{device}\": the new build does not make it: {why}")]
    Create {
        /// Device id.
        device: String,
        /// The plugin's reason.
        why: String,
    },
    /// What the board or the guest relies on is another thing now.
    #[error("device \"{device}\": {what}")]
    Changed {
        /// Device id.
        device: String,
        /// What, and how.
        what: String,
    },
    /// The old build cannot say its state.
    #[error("device \"{device}\": its state cannot be saved: {why}")]
    Save {
        /// Device id.
        device: String,
        /// The plugin's reason.
        why: String,
    },
    /// The new build describes a state in which the old one's has no place, or not for all that it may hold.
    #[error("device \"{device}\": the new build's state is another: {}", .breaks.join("; "))]
    State {
        /// Device id.
        device: String,
        /// What changed, field by field.
        breaks: Vec<String>,
    },
    /// The new build does not take the state of the old one.
    #[error("device \"{device}\": the new build does not load the state of the old one: {why}")]
    Load {
        /// Device id.
        device: String,
        /// The plugin's reason.
        why: String,
    },
}

/// Devices of another build in the state of those that a machine has, which are not in it yet.
pub struct Successors(Vec<(usize, Instance)>);

impl Machine {
    /// The plugin that a device is made of, by name; `None`: there is no such device.
    #[must_use]
    pub fn plugin_of(&self, device: &str) -> Option<&str> {
        let index = self.services.device_ids.iter().position(|id| id == device)?;
        Some(&self.slots[index].plugin)
    }

    /// Make the devices of a plugin by another build of it, in the state that they have. To be called between two
    /// [`Machine::run`], and before the next one [`Machine::succeed`] has them take the old ones' places, or nobody
    /// does.
    ///
    /// The new build must have the regions, ports, links and device tree node of the old one. Pins, timers and bottom
    /// halves it may have more of, behind those that were there: the board has no use for them yet.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn successors(&self, plugin: &str, new: &Plugin) -> Result<Successors, ReloadError> {
        let devices = (0..self.slots.len()).filter(|&device| self.slots[device].plugin == plugin);
        let made = devices.map(|device| Ok((device, self.successor(device, new)?)));
        made.collect::<Result<_, ReloadError>>().map(Successors)
    }

    /// Go on with the devices of another build. Returns their ids.
    pub fn succeed(&mut self, successors: Successors) -> Vec<String> {
        let mut ids = Vec::new();
        for (device, instance) in successors.0 {
            let desc = instance.desc();
            self.services.deadlines.declare(device, desc.timers.len());
            self.services.bottom_halves.declare(device, desc.bottom_halves.len());
            self.services.wires.declare(device, Pins::flatten(&desc.outputs).len());
            self.slots[device].instance = instance;
            ids.push(self.services.device_ids[device].clone());
        }
        ids
    }

    /// A device of the new build in the state of the one that is there.
    fn successor(&self, index: usize, new: &Plugin) -> Result<Instance, ReloadError> {
        let slot = &self.slots[index];
        let device = || self.services.device_ids[index].clone();
        let created = new.create(&slot.kind, &slot.config_json);
        let mut instance =
            created.map_err(|error| ReloadError::Create { device: device(), why: error.to_string() })?;
        if let Some(what) = incompatible(slot.instance.desc(), instance.desc()) {
            return Err(ReloadError::Changed { device: device(), what });
        }
        // One that does not describe its state says by its load alone what is wrong.
        let changes = schema::compare(slot.instance.desc(), instance.desc()).unwrap_or_default();
        let breaks: Vec<String> = changes
            .iter()
            .filter(|change| change.verdict == Verdict::Breaks)
            .map(ToString::to_string)
            .collect();
        if !breaks.is_empty() {
            return Err(ReloadError::State { device: device(), breaks });
        }
        let record = slot.instance.try_save().map_err(|why| ReloadError::Save { device: device(), why })?;
        instance.load(&record).map_err(|why| ReloadError::Load { device: device(), why })?;
        Ok(instance)
    }
}

/// What a machine that was built with `old` cannot have changed under it.
fn incompatible(old: &DeviceDesc, new: &DeviceDesc) -> Option<String> {
    let extended = |what: &str, old: Vec<String>, new: Vec<String>| {
        let differs = old.iter().enumerate().find(|(index, name)| new.get(*index) != Some(name));
        differs.map(|(index, name)| match new.get(index) {
            Some(other) => format!("its {what} {index} was \"{name}\", and is \"{other}\" in the new build"),
            None => format!("the new build has no {what} \"{name}\""),
        })
    };
    let bottom_halves = |desc: &DeviceDesc| desc.bottom_halves.iter().map(|bh| bh.name.clone()).collect();
    let changed = |what: &str, same: bool| {
        (!same).then(|| format!("its {what} are not those that the machine was built with"))
    };
    changed("regions", old.regions == new.regions)
        .or_else(|| changed("ports", old.ports == new.ports))
        .or_else(|| changed("links", old.links == new.links))
        .or_else(|| extended("input pin", Pins::flatten(&old.inputs), Pins::flatten(&new.inputs)))
        .or_else(|| extended("output pin", Pins::flatten(&old.outputs), Pins::flatten(&new.outputs)))
        .or_else(|| extended("timer", old.timers.clone(), new.timers.clone()))
        .or_else(|| extended("bottom half", bottom_halves(old), bottom_halves(new)))
        .or_else(|| {
            let what = "its node in the device tree is another, and the guest has read the old one";
            (old.fdt != new.fdt).then(|| what.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_abi::desc::{FdtNode, PortKind};

    fn device() -> DeviceDesc {
        DeviceDesc::new("x", "one")
            .region("regs", 16, 4)
            .inputs("in", 2)
            .output("irq")
            .timer("tick")
            .bottom_half("work")
            .port("chr", PortKind::Chr)
            .target("bus", "i2c/1", 1)
            .fdt(FdtNode { name: "x".to_owned(), ..FdtNode::default() })
    }

    #[test]
    fn words_and_more_of_what_nobody_uses_are_no_change() {
        let mut newer = device();
        newer.summary = "another".to_owned();
        newer.version = "2.0.0".to_owned();
        newer.state_version = 2;
        assert_eq!(incompatible(&device(), &newer), None);
        let newer = newer.inputs("more", 2).output("err").timer("tock").bottom_half("rest");
        assert_eq!(incompatible(&device(), &newer), None);
    }

    #[test]
    fn what_the_board_uses_must_stay() {
        let changed = |change: fn(DeviceDesc) -> DeviceDesc| incompatible(&device(), &change(device()));
        let told = |change| changed(change).unwrap();
        let rest = "are not those that the machine was built with";
        assert_eq!(told(|d| d.region("more", 8, 4)), format!("its regions {rest}"));
        assert_eq!(told(|d| d.port("more", PortKind::Chr)), format!("its ports {rest}"));
        assert_eq!(told(|d| d.controller("more", "i2c/1", 1)), format!("its links {rest}"));
        let without = |what: &str, change| assert_eq!(told(change), format!("the new build has no {what}"));
        without("input pin \"in.1\"", |mut d| {
            d.inputs[0].count = Some(1);
            d
        });
        without("timer \"tick\"", |mut d| {
            d.timers.clear();
            d
        });
        without("bottom half \"work\"", |mut d| {
            d.bottom_halves.clear();
            d
        });
        let renamed = told(|mut d| {
            d.outputs[0].name = "int".to_owned();
            d
        });
        assert_eq!(renamed, "its output pin 0 was \"irq\", and is \"int\" in the new build");
        let node = told(|d| d.fdt(FdtNode { name: "y".to_owned(), ..FdtNode::default() }));
        assert!(node.starts_with("its node in the device tree"), "{node}");
    }
}
