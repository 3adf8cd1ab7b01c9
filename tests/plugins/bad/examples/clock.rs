//! Reads a clock.
#![expect(clippy::disallowed_methods, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "clock", |cx, value| {
        let _ = std::hint::black_box(std::time::Instant::now());
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
