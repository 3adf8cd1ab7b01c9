//! Prints.

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "prints", |cx, value| eprintln!("{value}")
}

reprise_plugin_api::export_devices!(Bad<Asking>);
