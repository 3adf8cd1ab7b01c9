//! The SiFive test finisher: one register by which the guest ends the run, with its exit code, or resets the machine.
//!
//! There is no manual but the device tree bindings (`sifive,test1`) and what firmware does with it (OpenSBI's
//! `sifive_test`): the low half of the register takes a command, the high half the exit code. Linux reaches it
//! through `syscon-poweroff` and `syscon-reboot` nodes, which this device adds beside its own.

use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue};
use reprise_plugin_api::{
    Access, ConfigError, Ctx, Device, DeviceState, Fault, LogLevel, Reset, export_devices,
};

/// The one register.
const FINISHER: u64 = 0x0;

/// End the run; the exit code stands in bits 31:16.
const FAIL: u32 = 0x3333;
/// End the run with exit code 0.
const PASS: u32 = 0x5555;
/// Reset the machine.
const RESET: u32 = 0x7777;

/// The finisher. It remembers nothing: a command acts at the next safe point.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Syscon {}

impl Device for Syscon {
    type Config = ();

    fn describe((): &()) -> DeviceDesc {
        let node = FdtNode {
            name: "test".into(),
            compatible: ["sifive,test1", "sifive,test0", "syscon"].map(Into::into).into(),
            siblings: vec![command_node("poweroff", PASS), command_node("reboot", RESET)],
            ..FdtNode::default()
        };
        DeviceDesc::new("syscon", "SiFive test finisher: power-off with exit code, reset")
            .region("regs", 0x1000, 2 | 4)
            .fdt(node)
    }

    fn create((): ()) -> Result<Self, ConfigError> {
        Ok(Self {})
    }

    fn reset(&mut self, _cx: &mut Ctx<'_>, _kind: Reset) {
        let Self {} = self;
    }

    fn mmio_read(&mut self, _cx: &mut Ctx<'_>, _access: Access) -> Result<u64, Fault> {
        Ok(0)
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let (command, code) = (value as u32 & 0xffff, (value >> 16) as u32 & 0xffff);
        match (access.offset, command) {
            (FINISHER, PASS) => cx.power_off(0),
            // Code 0 would make a failure look like a success to whoever runs us.
            (FINISHER, FAIL) => cx.power_off(code.max(1)),
            (FINISHER, RESET) => cx.reset_machine(),
            (offset, _) => cx.log(LogLevel::Warn, format_args!("write of {value:#x} at {offset:#x} ignored")),
        }
        Ok(())
    }
}

/// A node beside ours that makes Linux write `command` to our register.
fn command_node(name: &str, command: u32) -> FdtNode {
    FdtNode {
        name: name.into(),
        compatible: vec![format!("syscon-{name}")],
        props: vec![
            ("regmap".into(), FdtValue::SelfRef),
            ("offset".into(), FdtValue::Cells(vec![FINISHER as u32])),
            ("value".into(), FdtValue::Cells(vec![command])),
        ],
        ..FdtNode::default()
    }
}

export_devices!(Syscon);

#[cfg(test)]
mod tests;
