//! Keeps state in static memory of which there is much.

use std::sync::atomic::{AtomicU32, Ordering};

const WORDS: usize = 2 << 20;
/// 8 MiB: too much to be looked at behind each call.
static HEAP: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];

reprise_plugin_bad::sin_on_write!(
    /// Notes what the guest writes, far away from where it has noted something before.
    Vast, "vast", |_cx, value| {
        let at = value.wrapping_mul(0x9e37_79b9) as usize % WORDS;
        HEAP[at].fetch_add(1, Ordering::Relaxed);
    }
);

reprise_plugin_api::export_devices!(reprise_plugin_bad::Bad<Vast>);
