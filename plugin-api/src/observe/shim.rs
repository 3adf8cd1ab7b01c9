//! From an [`Observer`] to the table of the ABI: what [`export_observer!`](crate::export_observer) builds.
#![expect(unsafe_code, reason = "ABI shim: the functions behind the observer's table")]

use super::{ConfigError, DeviceConfig, Observer, decode};
use crate::export::{bytes, caught, panicked, remember_panics, tell};
use core::{ffi::c_void, marker::PhantomData, ptr};
use reprise_abi::{
    hot::{STATUS_PANIC, Sink},
    observe::{EventRaw, OBSERVE_MAJOR, OBSERVE_MINOR, ObserverDesc, ObserverRoot, Setup},
};

/// Make an observer of this type: a `cdylib` with this line can be attached to runs and replays.
///
/// Once for each crate; the same crate may have devices too.
#[macro_export]
macro_rules! export_observer {
    ($observer:ty) => {
        const _: () = {
            #[cfg(panic = "abort")]
            compile_error!("an observer needs `panic = \"unwind\"`: its panics are caught and reported");

            impl $crate::observe::Packaged for $observer {
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            }

            #[unsafe(export_name = "reprise_observer")]
            static OBSERVER: $crate::private::abi::observe::ObserverRoot =
                $crate::observe::root::<$observer>();
        };
    };
}

/// An observer of which is known what it came with.
#[doc(hidden)]
pub trait Packaged: Observer {
    /// The version of its package.
    const VERSION: &'static str;
}

/// The table for `O`.
#[doc(hidden)]
#[must_use]
pub const fn root<O: Packaged>() -> ObserverRoot {
    ObserverRoot {
        size: size_of::<ObserverRoot>() as u64,
        major: OBSERVE_MAJOR,
        minor: OBSERVE_MINOR,
        describe: Shim::<O>::describe,
        create: Shim::<O>::create,
        event: Shim::<O>::event,
        finish: Shim::<O>::finish,
        drop: Shim::<O>::drop,
    }
}

/// What the host holds; `None` once it has finished, or panicked.
type Held<O> = Option<O>;

/// The functions of the table for `O`.
struct Shim<O>(PhantomData<O>);

// Every function here has one contract, that of `ObserverRoot`: `observer` is what `create` of this very table gave and
// `drop` has not had, calls never overlap, what is passed by pointer and length is valid for the call, and so is `sink`
// for `put`.
impl<O: Packaged> Shim<O> {
    unsafe extern "C" fn describe(sink: *mut c_void, put: Sink) -> u64 {
        remember_panics(false);
        let describe = || {
            let desc = ObserverDesc {
                summary: O::SUMMARY.to_owned(),
                version: O::VERSION.to_owned(),
                api_version: env!("CARGO_PKG_VERSION").to_owned(),
                schema: O::Config::schema(),
            };
            serde_json::to_string(&desc).expect("a descriptor has only string keys")
        };
        match caught(describe) {
            Ok(json) => tell(sink, put, json.as_bytes(), 0),
            Err(text) => tell(sink, put, text.as_bytes(), STATUS_PANIC),
        }
    }

    unsafe extern "C" fn create(
        setup: *const u8,
        len: u64,
        wants: *mut u64,
        sink: *mut c_void,
        put: Sink,
    ) -> *mut c_void {
        remember_panics(false);
        // SAFETY: the contract above.
        let setup = unsafe { bytes(setup, len) };
        match caught(|| create::<O>(setup)).unwrap_or_else(|text| Err(panicked(text))) {
            Ok((observer, wanted)) => {
                // SAFETY: the contract above.
                unsafe { wants.write(wanted) };
                Box::into_raw(Box::new(Some(observer) as Held<O>)).cast()
            }
            Err(error) => {
                let json = serde_json::to_string(&error).expect("an error has only string keys");
                tell(sink, put, json.as_bytes(), 0);
                ptr::null_mut()
            }
        }
    }

    unsafe extern "C" fn event(
        observer: *mut c_void,
        event: *const EventRaw,
        sink: *mut c_void,
        put: Sink,
    ) -> u64 {
        // SAFETY: the contract above.
        let (held, event) = unsafe { (&mut *observer.cast::<Held<O>>(), &*event) };
        // SAFETY: the contract above.
        let data = unsafe { bytes(event.data, event.len) };
        let (Some(observer), Some(event)) = (held.as_mut(), decode(event, data)) else { return 0 };
        let result = caught(|| observer.event(&event));
        if let Ok(Ok(())) = result {
            return 0;
        }
        failed(held, result, sink, put)
    }

    unsafe extern "C" fn finish(observer: *mut c_void, sink: *mut c_void, put: Sink) -> u64 {
        // SAFETY: the contract above.
        let held = unsafe { &mut *observer.cast::<Held<O>>() };
        let Some(observer) = held.take() else { return 0 };
        match caught(|| observer.finish()) {
            Ok(Ok(())) => 0,
            result => failed(held, result, sink, put),
        }
    }

    unsafe extern "C" fn drop(observer: *mut c_void) {
        // SAFETY: the contract above; the box was made by `create`.
        let held = unsafe { Box::from_raw(observer.cast::<Held<O>>()) };
        // There is nobody left to tell, and the host goes on without it.
        drop(caught(|| drop(held)));
    }
}

fn create<O: Packaged>(setup: &[u8]) -> Result<(O, u64), ConfigError> {
    let mistake = |message: String| ConfigError { path: String::new(), message };
    let setup: Setup =
        serde_json::from_slice(setup).map_err(|error| mistake(format!("not JSON: {error}")))?;
    let config = O::Config::from_json(&setup.options)?;
    let (observer, wants) = O::create(config, &setup.machine)?;
    Ok((observer, wants.bits()))
}

/// It is not to be used any more: after a panic it may be torn.
#[cold]
fn failed<O>(
    held: &mut Held<O>,
    result: Result<Result<(), String>, String>,
    sink: *mut c_void,
    put: Sink,
) -> u64 {
    let (text, status) = match result {
        Ok(Ok(())) => return 0,
        Ok(Err(text)) => (text, 1),
        Err(text) => (format!("it panicked: {text}"), STATUS_PANIC),
    };
    if let Err(torn) = caught(|| drop(held.take())) {
        return tell(sink, put, format!("{text}; and when dropped: {torn}").as_bytes(), status);
    }
    tell(sink, put, text.as_bytes(), status)
}
