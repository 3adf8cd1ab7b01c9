//! From a [`Device`] to the tables of the ABI: what [`export_devices!`](crate::export_devices) builds.
#![expect(unsafe_code, reason = "ABI shim: the functions behind the plugin's tables")]

use crate::{
    Access, Bh, BlockDone, ConfigError, Ctx, Device, DeviceConfig, Fault, InPin, Link, Port, PortEvent,
    Region, Reset, Size, Timer, desc::DeviceDesc, state,
};
use abi_stable::{
    library::{CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RStr, RString},
};
use core::{any::Any, cell::Cell, ffi::c_void, marker::PhantomData};
use reprise_abi::{
    hot::{self, CtxRaw, DevVtbl, IoRes, Sink},
    root::{Created, DevHandle, Plugin, PluginRef},
};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// Make a plugin of these device types: a `cdylib` with this line is loadable by Reprise.
///
/// ```text
/// reprise_plugin_api::export_devices!(Uart, Timer);
/// ```
///
/// Once for each crate. The symbol that it exports has the same name in every plugin: load plugins, as the host does,
/// and don't rely on linking two of them into one program.
#[macro_export]
macro_rules! export_devices {
    ($($device:ty),+ $(,)?) => {
        const _: () = {
            use $crate::export as __export;
            use $crate::private::abi_stable::{
                library::{LibHeader, RootModuleResult, __call_root_module_loader},
                std_types::{RResult, RStr, RString},
            };
            use $crate::private::abi::root::{Created, PluginRef};

            #[cfg(panic = "abort")]
            compile_error!("a plugin needs `panic = \"unwind\"`: its panics are caught and reported to the host");

            static DEVICES: &[__export::Entry] =
                &[$(__export::Entry::of::<$device>(env!("CARGO_PKG_VERSION"))),+];

            extern "C" fn describe() -> RString {
                __export::describe(DEVICES)
            }

            extern "C" fn describe_with(kind: RStr<'_>, config: RStr<'_>) -> RResult<RString, RString> {
                __export::describe_with(DEVICES, kind, config)
            }

            extern "C" fn create(kind: RStr<'_>, config: RStr<'_>) -> RResult<Created, RString> {
                __export::create(DEVICES, kind, config)
            }

            fn module() -> PluginRef {
                __export::module(describe, describe_with, create)
            }

            extern "C" fn root() -> RootModuleResult {
                __call_root_module_loader(module)
            }

            // The name under which `abi_stable` looks for it.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: LibHeader = __export::header(root);
        };
    };
}

/// The header that the host finds by its symbol.
#[doc(hidden)]
pub const fn header(root: extern "C" fn() -> RootModuleResult) -> LibHeader {
    // SAFETY: `root` returns the `PluginRef` that is named here: only `export_devices!` calls this.
    unsafe { LibHeader::from_constructor::<PluginRef>(root, CheckTypeLayout::Yes) }
}

/// The root module.
#[doc(hidden)]
#[must_use]
pub fn module(
    describe: extern "C" fn() -> RString,
    describe_with: extern "C" fn(RStr<'_>, RStr<'_>) -> RResult<RString, RString>,
    create: extern "C" fn(RStr<'_>, RStr<'_>) -> RResult<Created, RString>,
) -> PluginRef {
    Plugin {
        abi_major: hot::ABI_MAJOR,
        abi_minor: hot::ABI_MINOR,
        api_version: RStr::from_str(env!("CARGO_PKG_VERSION")),
        describe,
        describe_with,
        create,
    }
    .leak_into_prefix()
}

/// One device type of a plugin.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entry {
    version: &'static str,
    describe: fn(Option<&Value>) -> Result<DeviceDesc, ConfigError>,
    create: fn(&Value) -> Result<(DevHandle, DeviceDesc), ConfigError>,
}

impl Entry {
    /// The entry for `D` in a package of this version.
    #[must_use]
    pub const fn of<D: Device>(version: &'static str) -> Self {
        Self { version, describe: describe_device::<D>, create: create_device::<D> }
    }

    /// The descriptor for these options, or for the defaults.
    ///
    /// # Errors
    /// The options are not right, or the device panicked.
    pub fn describe(&self, options: Option<&Value>) -> Result<DeviceDesc, ConfigError> {
        let mut desc = caught(|| (self.describe)(options)).unwrap_or_else(|text| Err(panicked(text)))?;
        self.sign(&mut desc);
        Ok(desc)
    }

    /// A new device.
    ///
    /// # Errors
    /// The options are not right, or the device panicked.
    pub fn create(&self, options: &Value) -> Result<(DevHandle, DeviceDesc), ConfigError> {
        let (handle, mut desc) =
            caught(|| (self.create)(options)).unwrap_or_else(|text| Err(panicked(text)))?;
        self.sign(&mut desc);
        Ok((handle, desc))
    }

    fn sign(&self, desc: &mut DeviceDesc) {
        if desc.version.is_empty() {
            self.version.clone_into(&mut desc.version);
        }
    }
}

pub(crate) fn panicked(text: String) -> ConfigError {
    ConfigError { path: String::new(), message: format!("the plugin panicked: {text}") }
}

fn complete<D: Device>(mut desc: DeviceDesc) -> DeviceDesc {
    desc.state_version = D::VERSION;
    desc.schema = D::Config::schema();
    desc.state = D::schema();
    desc
}

fn describe_device<D: Device>(options: Option<&Value>) -> Result<DeviceDesc, ConfigError> {
    let config = options.map_or_else(|| Ok(D::Config::default()), D::Config::from_json)?;
    Ok(complete::<D>(D::describe(&config)))
}

fn create_device<D: Device>(options: &Value) -> Result<(DevHandle, DeviceDesc), ConfigError> {
    let desc = describe_device::<D>(Some(options))?;
    let device = D::create(D::Config::from_json(options)?)?;
    let dev = Box::into_raw(Box::new(Instance { device, poisoned: false })).cast();
    let vtbl: *const DevVtbl = Shim::<D>::VTBL;
    Ok((DevHandle { dev, vtbl: vtbl.cast() }, desc))
}

fn json(value: &impl serde::Serialize) -> RString {
    serde_json::to_string(value).expect("descriptors and errors have only string keys").into()
}

fn parse(options: RStr<'_>) -> Result<Value, ConfigError> {
    serde_json::from_str(options.as_str())
        .map_err(|error| ConfigError { path: String::new(), message: format!("not JSON: {error}") })
}

fn find(devices: &'static [Entry], kind: RStr<'_>) -> Result<&'static Entry, ConfigError> {
    let has_kind = |entry: &&Entry| entry.describe(None).is_ok_and(|desc| desc.kind == kind.as_str());
    devices.iter().find(has_kind).ok_or_else(|| ConfigError {
        path: String::new(),
        message: format!("the plugin has no device {:?}", kind.as_str()),
    })
}

/// All descriptors, as a JSON array; or the error as an object.
#[doc(hidden)]
#[must_use]
pub fn describe(devices: &'static [Entry]) -> RString {
    remember_panics(false);
    let all: Result<Vec<_>, _> = devices.iter().map(|entry| entry.describe(None)).collect();
    all.map_or_else(|error| json(&error), |all| json(&all))
}

/// One descriptor for these options.
#[doc(hidden)]
pub fn describe_with(
    devices: &'static [Entry],
    kind: RStr<'_>,
    options: RStr<'_>,
) -> RResult<RString, RString> {
    remember_panics(false);
    let desc = find(devices, kind).and_then(|entry| entry.describe(Some(&parse(options)?)));
    desc.map(|desc| json(&desc)).map_err(|error| json(&error)).into()
}

/// A new device.
#[doc(hidden)]
pub fn create(devices: &'static [Entry], kind: RStr<'_>, options: RStr<'_>) -> RResult<Created, RString> {
    remember_panics(false);
    let created = find(devices, kind).and_then(|entry| entry.create(&parse(options)?));
    created
        .map(|(handle, desc)| Created { handle, desc_json: json(&desc) })
        .map_err(|error| json(&error))
        .into()
}

thread_local! {
    /// Where the panic that is being caught came from: the payload does not know.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Note message and place of every panic. A plugin has a standard library, and so a hook, of its own; there the host
/// reports the panic. In a test the harness also shows it.
pub(crate) fn remember_panics(shown: bool) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST_PANIC.set(Some(panic_text(info)));
            if shown {
                before(info);
            }
        }));
    });
}

fn panic_text(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(place) => format!("{message} at {}:{}:{}", place.file(), place.line(), place.column()),
        None => message.to_owned(),
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}

pub(crate) fn caught<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(text_of)
}

// Out of line: an MMIO access goes past here for every register that a guest touches.
#[cold]
#[inline(never)]
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = LAST_PANIC.take().unwrap_or_else(|| payload_text(&*payload));
    // A payload may panic when it is dropped; nothing may unwind past here.
    core::mem::forget(payload);
    text
}

/// What `DevHandle::dev` points to.
pub(crate) struct Instance<D> {
    pub(crate) device: D,
    /// It panicked: its state may be torn, so it is never called again.
    poisoned: bool,
}

impl<D> Instance<D> {
    /// Run a callback. `None`: it panicked, now or before, and the host was told.
    ///
    /// # Safety
    /// `dev` is a live `Instance<D>`, `cx` a context valid for this call, and no other call on either is under way.
    unsafe fn callback<R>(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        body: impl FnOnce(&mut D, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        // SAFETY: the caller's contract.
        let run = |device: &mut D| body(device, &mut unsafe { Ctx::from_raw(cx) });
        // SAFETY: the caller's contract.
        let result = unsafe { Self::quietly(dev, run) };
        let tell = |text: String| {
            // SAFETY: the caller's contract: the context and its table are valid, and so is the text.
            unsafe { ((*(*cx).vtbl).fault)((*cx).host, text.as_ptr(), text.len() as u64) }
        };
        result.map_err(tell).ok()
    }

    /// Run something without a context. An error is the panic's text.
    ///
    /// # Safety
    /// As for [`Self::callback`].
    unsafe fn quietly<R>(dev: *mut c_void, body: impl FnOnce(&mut D) -> R) -> Result<R, String> {
        // SAFETY: the caller's contract.
        let instance = unsafe { &mut *dev.cast::<Self>() };
        if instance.poisoned {
            return Err("called again after it panicked".to_owned());
        }
        caught(|| body(&mut instance.device)).inspect_err(|_| instance.poisoned = true)
    }
}

/// The bytes that the other side passes.
///
/// # Safety
/// `data` is valid for `len` bytes for as long as `'a`, or null.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: u64) -> &'a [u8] {
    match usize::try_from(len) {
        // SAFETY: the caller's contract.
        Ok(len) if !data.is_null() => unsafe { core::slice::from_raw_parts(data, len) },
        _ => &[],
    }
}

fn size(bytes: u32) -> Option<Size> {
    [Size::B1, Size::B2, Size::B4, Size::B8].into_iter().find(|size| size.bytes() == u64::from(bytes))
}

fn io(result: Option<Result<u64, Fault>>) -> IoRes {
    match result {
        Some(Ok(value)) => IoRes { value, status: hot::IO_OK },
        Some(Err(Fault)) => IoRes { value: 0, status: hot::IO_FAULT },
        None => IoRes { value: 0, status: hot::STATUS_PANIC },
    }
}

fn status(result: Option<()>) -> u64 {
    result.map_or(hot::STATUS_PANIC, |()| hot::IO_OK)
}

/// The functions of the table for `D`.
struct Shim<D>(PhantomData<D>);

// Every function here has one contract, that of `DevVtbl`: `dev` is the live instance that came with this very table,
// `cx` is valid for the call, calls never overlap, and `data` is valid for `len` bytes.
impl<D: Device> Shim<D> {
    const VTBL: &'static DevVtbl = &DevVtbl {
        size: size_of::<DevVtbl>() as u64,
        mmio_read: Self::mmio_read,
        mmio_write: Self::mmio_write,
        on_timer: Self::on_timer,
        on_bh: Self::on_bh,
        on_pin: Self::on_pin,
        on_port: Self::on_port,
        on_blk: Self::on_blk,
        reset: Self::reset,
        save: Self::save,
        load: Self::load,
        drop: Self::drop,
        on_message: Self::on_message,
    };

    unsafe extern "C" fn mmio_read(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        region: u32,
        offset: u64,
        len: u32,
    ) -> IoRes {
        let Some(size) = size(len) else { return io(Some(Err(Fault))) };
        let access = Access { region: Region(region), offset, size };
        // SAFETY: the contract above.
        io(unsafe { Instance::<D>::callback(dev, cx, |device, cx| device.mmio_read(cx, access)) })
    }

    unsafe extern "C" fn mmio_write(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        region: u32,
        offset: u64,
        len: u32,
        value: u64,
    ) -> IoRes {
        let Some(size) = size(len) else { return io(Some(Err(Fault))) };
        let access = Access { region: Region(region), offset, size };
        let write = |device: &mut D, cx: &mut Ctx<'_>| device.mmio_write(cx, access, value).map(|()| 0);
        // SAFETY: the contract above.
        io(unsafe { Instance::callback(dev, cx, write) })
    }

    unsafe extern "C" fn on_timer(dev: *mut c_void, cx: *mut CtxRaw, timer: u32) -> u64 {
        // SAFETY: the contract above.
        status(unsafe { Instance::<D>::callback(dev, cx, |device, cx| device.on_timer(cx, Timer(timer))) })
    }

    unsafe extern "C" fn on_bh(dev: *mut c_void, cx: *mut CtxRaw, bh: u32, data: *const u8, len: u64) -> u64 {
        // SAFETY: the contract above.
        let payload = (!data.is_null()).then(|| unsafe { bytes(data, len) });
        // SAFETY: the contract above.
        status(unsafe { Instance::<D>::callback(dev, cx, |device, cx| device.on_bh(cx, Bh(bh), payload)) })
    }

    unsafe extern "C" fn on_pin(dev: *mut c_void, cx: *mut CtxRaw, pin: u32, level: u32) -> u64 {
        let change = |device: &mut D, cx: &mut Ctx<'_>| device.on_pin(cx, InPin(pin), level != 0);
        // SAFETY: the contract above.
        status(unsafe { Instance::callback(dev, cx, change) })
    }

    unsafe extern "C" fn on_port(dev: *mut c_void, cx: *mut CtxRaw, port: u32, event: u32) -> u64 {
        let event = match event {
            hot::PORT_READABLE => PortEvent::Readable,
            hot::PORT_OPENED => PortEvent::Opened,
            hot::PORT_CLOSED => PortEvent::Closed,
            hot::PORT_BREAK => PortEvent::Break,
            // From a newer host: nothing that this device could know.
            _ => return hot::IO_OK,
        };
        // SAFETY: the contract above.
        status(unsafe {
            Instance::<D>::callback(dev, cx, |device, cx| device.on_port(cx, Port(port), event))
        })
    }

    unsafe extern "C" fn on_blk(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        port: u32,
        token: u64,
        blk_status: u32,
        data: *const u8,
        len: u64,
    ) -> u64 {
        // SAFETY: the contract above.
        let data = unsafe { bytes(data, len) };
        let done = BlockDone { port: Port(port), token, ok: blk_status == hot::BLK_DONE, data };
        // SAFETY: the contract above.
        status(unsafe { Instance::<D>::callback(dev, cx, |device, cx| device.on_blk(cx, done)) })
    }

    unsafe extern "C" fn on_message(
        dev: *mut c_void,
        cx: *mut CtxRaw,
        link: u32,
        at: u32,
        data: *const u8,
        len: u64,
    ) -> u64 {
        // SAFETY: the contract above.
        let message = (!data.is_null()).then(|| unsafe { bytes(data, len) });
        let tell = |device: &mut D, cx: &mut Ctx<'_>| device.on_message(cx, Link(link), at, message);
        // SAFETY: the contract above.
        status(unsafe { Instance::callback(dev, cx, tell) })
    }

    unsafe extern "C" fn reset(dev: *mut c_void, cx: *mut CtxRaw, kind: u32) -> u64 {
        let kind = if kind == hot::RESET_COLD { Reset::Cold } else { Reset::Warm };
        // SAFETY: the contract above.
        status(unsafe { Instance::<D>::callback(dev, cx, |device, cx| device.reset(cx, kind)) })
    }

    unsafe extern "C" fn save(dev: *mut c_void, sink: *mut c_void, put: Sink) -> u64 {
        // SAFETY: the contract above.
        match unsafe { Instance::<D>::quietly(dev, |device| state::save(device)) } {
            Ok(record) => tell(sink, put, &record, 0),
            Err(text) => tell(sink, put, text.as_bytes(), hot::STATUS_PANIC),
        }
    }

    unsafe extern "C" fn load(
        dev: *mut c_void,
        data: *const u8,
        len: u64,
        sink: *mut c_void,
        put: Sink,
    ) -> u64 {
        // SAFETY: the contract above.
        let record = unsafe { bytes(data, len) };
        let load = |device: &mut D| {
            state::load(device, record).map_err(|error| error.to_string())?;
            device.after_load()
        };
        // SAFETY: the contract above.
        match unsafe { Instance::quietly(dev, load) } {
            Ok(Ok(())) => 0,
            Ok(Err(text)) => tell(sink, put, text.as_bytes(), 1),
            Err(text) => tell(sink, put, text.as_bytes(), hot::STATUS_PANIC),
        }
    }

    unsafe extern "C" fn drop(dev: *mut c_void) {
        // SAFETY: the contract above, and the host calls this once, last; the box was made by `create_device`.
        let instance = unsafe { Box::from_raw(dev.cast::<Instance<D>>()) };
        // There is nobody left to tell, and the host goes on without the device.
        drop(caught(|| drop(instance)));
    }
}

pub(crate) fn tell(sink: *mut c_void, put: Sink, data: &[u8], status: u64) -> u64 {
    // SAFETY: `DevVtbl::save` and `load` hand both over as a pair, valid for the call.
    unsafe { put(sink, data.as_ptr(), data.len() as u64) };
    status
}
