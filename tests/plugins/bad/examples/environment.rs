//! Reads the environment.
#![expect(clippy::disallowed_methods, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "environment", |cx, value| drop(std::hint::black_box(std::env::var_os("HOME")))
}

reprise_plugin_api::export_devices!(Bad<Asking>);
