//! Sleeps.
#![expect(clippy::disallowed_methods, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "waits", |cx, value| std::thread::sleep(std::time::Duration::from_nanos(1))
}

reprise_plugin_api::export_devices!(Bad<Asking>);
