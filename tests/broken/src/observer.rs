//! An observer that wants everything and fails where it is told to.

use reprise_plugin_api::{
    DeviceConfig, export_observer,
    observe::{ConfigError, Event, MachineDesc, Observer, Wants},
};

/// The options.
#[derive(DeviceConfig)]
pub(crate) struct Config {
    /// Where it fails.
    #[config(default = "never", one_of = ["never", "create", "event", "error", "finish"])]
    pub(crate) at: String,
    /// Events before that.
    #[config(default = 1000)]
    pub(crate) after: u64,
}

/// The observer.
pub(crate) struct Blind {
    at: String,
    left: u64,
}

impl Observer for Blind {
    type Config = Config;

    const SUMMARY: &'static str = "fails where it is told to";

    fn create(config: Config, _: &MachineDesc) -> Result<(Self, Wants), ConfigError> {
        assert!(config.at != "create", "it fails when it is created");
        let all = Wants::BLOCKS | Wants::ACCESSES | Wants::TRAPS | Wants::MMIO | Wants::PINS | Wants::TIMERS;
        let all = all | Wants::BOTTOM_HALVES | Wants::PORTS | Wants::MESSAGES | Wants::MACHINE;
        Ok((Self { at: config.at, left: config.after }, all))
    }

    fn event(&mut self, _: &Event<'_>) -> Result<(), String> {
        self.left = self.left.saturating_sub(1);
        match (self.left, self.at.as_str()) {
            (0, "event") => panic!("it fails at an event"),
            (0, "error") => Err("its disk is full".to_owned()),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), String> {
        assert!(self.at != "finish", "it fails at the end");
        Ok(())
    }
}

export_observer!(Blind);
