//! Looks for code.
#![expect(unsafe_code, reason = "breaking a rule is the purpose")]

use reprise_plugin_bad::{Bad, sin_on_write};

unsafe extern "C" {
    fn dlsym(library: *mut core::ffi::c_void, name: *const core::ffi::c_char) -> usize;
}

sin_on_write! {
    /// The device.
    Asking, "code", |cx, value| {
        // SAFETY: as the C library declares it.
        let _ = unsafe { dlsym(core::ptr::null_mut(), c"puts".as_ptr()) };
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
