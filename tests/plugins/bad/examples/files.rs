//! Opens a file.
#![expect(clippy::disallowed_methods, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "files", |cx, value| drop(std::fs::read("/nonexistent"))
}

reprise_plugin_api::export_devices!(Bad<Asking>);
