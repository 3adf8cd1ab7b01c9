//! Starts a thread.
#![expect(unsafe_code, reason = "breaking a rule is the purpose")]

use core::{ffi::c_void, ptr};
use reprise_plugin_bad::{Bad, sin_on_write};

unsafe extern "C" {
    fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> i32;
    fn pthread_join(thread: usize, result: *mut *mut c_void) -> i32;
}

extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
    ptr::null_mut()
}

sin_on_write! {
    /// The device.
    Asking, "threads", |cx, value| {
        let mut thread = 0;
        // SAFETY: as the C library declares them; the thread takes nothing and is waited for.
        unsafe {
            if pthread_create(&raw mut thread, ptr::null(), nothing, ptr::null_mut()) == 0 {
                pthread_join(thread, ptr::null_mut());
            }
        }
    }
}

reprise_plugin_api::export_devices!(Bad<Asking>);
