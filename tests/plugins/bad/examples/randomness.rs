//! Draws random numbers: the keys of a hash map.

use reprise_plugin_bad::{Bad, sin_on_write};

sin_on_write! {
    /// The device.
    Asking, "randomness", |cx, value| {
        std::hint::black_box(std::hash::RandomState::new());
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
