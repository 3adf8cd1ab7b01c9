//! Changes what a signal does.
#![expect(unsafe_code, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
}

sin_on_write! {
    /// The device.
    Asking, "signals", |cx, value| {
        // SAFETY: as the C library declares it.
        let _ = unsafe { signal(12, 1) };
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
