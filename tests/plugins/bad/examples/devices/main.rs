//! Devices that break one rule each, without asking anything of the operating system.
#![expect(unsafe_code, reason = "breaking a rule is the purpose")]

mod dma;
mod driving;
mod links;
mod options;
mod reset;
mod same;
mod state;

use reprise_plugin_bad::Bad;

reprise_plugin_api::export_devices!(
    Bad<options::Describes>,
    Bad<options::Defaults>,
    Bad<options::Refuses>,
    Bad<options::Creates>,
    Bad<options::FailedCreate>,
    Bad<options::Leaks>,
    Bad<driving::Panics>,
    Bad<driving::Survives>,
    Bad<driving::Returns>,
    Bad<driving::Declared>,
    Bad<driving::TimerStorm>,
    Bad<driving::BhStorm>,
    Bad<driving::Tokens>,
    Bad<driving::Outside>,
    Bad<driving::Float>,
    Bad<driving::Counter>,
    Bad<same::Twice>,
    Bad<same::Processes>,
    Bad<same::Instances>,
    Bad<same::Statics>,
    Bad<same::Looking>,
    Bad<dma::Windows>,
    Bad<dma::Dirty>,
    Bad<dma::Watched>,
    dma::Rings,
    Bad<state::Record>,
    Bad<state::Fixpoint>,
    Bad<state::Reload>,
    Bad<state::Isolated>,
    Bad<state::Overwrites>,
    Bad<state::Garbage>,
    Bad<state::Impossible>,
    Bad<state::Versions>,
    Bad<state::Complete>,
    Bad<reset::Resets>,
    Bad<reset::Pins>,
    Bad<reset::Timers>,
    links::Panics,
    links::Resets,
    links::Lined,
    links::Credited,
    links::Stingy,
);
