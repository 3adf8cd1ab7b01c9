//! Driving a device of a real shared library, and one that panics. How files are refused is tested in
//! `tests/plugin_loading.rs`.

use super::*;
use reprise_abi::hot::{CtxRaw, HostVtbl};
use rustix::{io::Errno, pipe::SpliceFlags};
use std::{ffi::c_void, path::PathBuf, process::Command};

/// The plugin with mistakes, built as a third party would.
fn faulty() -> Plugin {
    let exe = std::env::current_exe().unwrap();
    let profile_dir = exe.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "-p", "reprise-plugin-api", "--example", "faulty"]);
    cargo.arg("--target-dir").arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    let path: PathBuf = profile_dir.join("examples/libfaulty.so");
    let bytes = read(&path);
    PluginFile::load(&path.to_string_lossy(), &bytes).unwrap()
}

fn read(path: &std::path::Path) -> Vec<u8> {
    let file = rustix::fs::open(path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let len = rustix::fs::fstat(&file).unwrap().st_size;
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::read(&file, &mut bytes[at..]).unwrap();
    }
    bytes
}

/// A host that only listens for faults.
#[derive(Default)]
struct Listener(Vec<String>);

impl Listener {
    fn call<R>(&mut self, call: impl FnOnce(&mut CtxRaw) -> R) -> R {
        let mut cx = CtxRaw { host: (&raw mut *self).cast(), vtbl: &raw const TABLE, now_ns: 0 };
        call(&mut cx)
    }
}

unsafe extern "C" fn fault(host: *mut c_void, text: *const u8, len: u64) {
    // SAFETY: `Listener::call` put the listener there, and the shim lends `len` bytes.
    let (listener, text) =
        unsafe { (&mut *host.cast::<Listener>(), core::slice::from_raw_parts(text, len as usize)) };
    listener.0.push(String::from_utf8_lossy(text).into_owned());
}

macro_rules! unused {
    ($($name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        $(unsafe extern "C" fn $name(_: *mut c_void $(, _: $arg)*) $(-> $ret)? {
            unreachable!(concat!(stringify!($name), " is not for this device"))
        })*
    };
}

unused! {
    set_pin(u32, u32);
    timer_arm(u32, u64);
    timer_cancel(u32);
    timer_deadline(u32) -> u64;
    bh_schedule(u32);
    bh_oneshot(u32, *const u8, u64);
    dma_read(u64, *mut u8, u64) -> u32;
    dma_write(u64, *const u8, u64) -> u32;
    ram_window(u64, *mut hot::RamWindow) -> u32;
    code_write(u64, u64);
    random(*mut u8, u64);
    host_clock_ns() -> u64;
    port_read(u32, *mut u8, u64) -> u64;
    port_write(u32, *const u8, u64);
    port_pending(u32) -> u64;
    blk_info(u32, *mut hot::BlkInfo) -> u32;
    blk_submit(u32, *const hot::BlkReq);
    control(u32, u64);
    log(u32, *const u8, u64);
    query(*const u8, u64) -> *const c_void;
    net_offload(u32, u32, u32);
    link_send(u32, u32, *const u8, u64);
}

static TABLE: HostVtbl = HostVtbl {
    size: size_of::<HostVtbl>() as u64,
    set_pin,
    timer_arm,
    timer_cancel,
    timer_deadline,
    bh_schedule,
    bh_oneshot,
    dma_read,
    dma_write,
    ram_window,
    code_write,
    random,
    host_clock_ns,
    port_read,
    port_write,
    port_pending,
    blk_info,
    blk_submit,
    control,
    log,
    fault,
    query,
    net_offload,
    link_send,
};

#[test]
fn a_device_is_driven_saved_and_loaded() {
    let plugin = faulty();
    let mut host = Listener::default();
    let mut device = plugin.create("faulty", r#"{"needed": 7}"#).unwrap();
    assert_eq!(device.desc().regions[0].size, 16);
    assert_eq!(host.call(|cx| device.reset(cx, hot::RESET_COLD)), hot::IO_OK);
    assert_eq!(host.call(|cx| device.mmio_read(cx, 0, 0, 4)).value, 7);
    assert_eq!(host.call(|cx| device.mmio_write(cx, 0, 8, 4, 9)).status, hot::IO_OK);
    assert_eq!(host.call(|cx| device.mmio_write(cx, 0, 12, 4, 9)).status, hot::IO_FAULT);
    let mut other = plugin.create("faulty", r#"{"needed": 1}"#).unwrap();
    other.load(&device.save()).unwrap();
    assert_eq!(other.try_save(), device.try_save());
    assert_eq!(other.load(&[1, 2]).unwrap_err(), "the data ends in the middle of a value");
    assert!(host.0.is_empty(), "{:?}", host.0);
}

#[test]
fn a_panic_stops_at_the_shim_and_poisons_the_device() {
    let plugin = faulty();
    let mut host = Listener::default();
    let mut device = plugin.create("faulty", r#"{"needed": 7}"#).unwrap();
    assert_eq!(host.call(|cx| device.mmio_write(cx, 0, 0, 4, 0x2a)).status, hot::STATUS_PANIC);
    let text = &host.0[0];
    assert!(text.starts_with("told to by 0x2a at ") && text.contains("examples/faulty.rs:"), "{text}");
    assert_eq!(host.call(|cx| device.mmio_read(cx, 0, 0, 4)).status, hot::STATUS_PANIC);
    assert_eq!(host.call(|cx| device.on_timer(cx, 0)), hot::STATUS_PANIC);
    assert_eq!(host.0[1..], ["called again after it panicked", "called again after it panicked"]);
    let record = reprise_abi::state::flatten(&device.save()).unwrap();
    assert_eq!(record, [("panicked".to_owned(), "\"called again after it panicked\"".to_owned())]);
    assert_eq!(
        plugin.create("faulty", r#"{"needed": 7}"#).unwrap().try_save().map(|_| ()),
        Ok(()),
        "others live on"
    );
}

#[test]
fn a_panic_without_a_context_is_an_error() {
    let plugin = faulty();
    let mut host = Listener::default();
    let mut device = plugin.create("faulty", r#"{"needed": 7}"#).unwrap();
    host.call(|cx| device.mmio_write(cx, 0, 4, 4, 1));
    let text = device.try_save().unwrap_err();
    assert!(text.starts_with("cannot save at ") && text.contains("examples/faulty.rs:"), "{text}");
    let mut device = plugin.create("faulty", r#"{"needed": 7}"#).unwrap();
    let large = reprise_abi::state::encode(1, |out| out.field("value").uint(u64::MAX.to_le_bytes()));
    assert!(device.load(&large).unwrap_err().starts_with("a host can send anything"));
    for place in ["create", "describe"] {
        let options = format!(r#"{{"needed": 1, "panic": "{place}"}}"#);
        let error = plugin.create("faulty", &options).err().unwrap();
        assert!(error.message.starts_with(&format!("the plugin panicked: cannot {place} at ")), "{error:?}");
    }
}

#[test]
fn options_are_refused_by_name() {
    let plugin = faulty();
    let refused = |options: &str| {
        let error = plugin.describe_with("faulty", options).unwrap_err();
        assert_eq!(plugin.create("faulty", options).err().as_ref(), Some(&error));
        format!("{}: {}", error.path, error.message)
    };
    assert_eq!(refused("{}"), "needed: missing");
    assert_eq!(refused(r#"{"needed": 0}"#), "needed: 0 is less than 1, the minimum");
    assert_eq!(refused(r#"{"needed": 1, "x": 1}"#), "x: unknown option");
    assert!(refused("{").starts_with(": not JSON: "));
    let none = plugin.describe_with("other", "{}").unwrap_err();
    assert_eq!(none.message, "the plugin has no device \"other\"");
}

#[test]
fn a_copy_can_be_sealed_while_its_pages_are_in_use() {
    let copy = rustix::fs::memfd_create("copy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&copy, &[1; 4096]).unwrap();
    // A page in a pipe is held, as the kernel holds pages itself for a moment.
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let held = rustix::pipe::splice(&copy, Some(&mut 0), &writer, None, 4096, SpliceFlags::empty());
    assert_eq!(held, Ok(4096));
    assert_eq!(
        rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE),
        Err(Errno::BUSY),
        "the page is not held"
    );
    seal(&copy).unwrap();
    assert_eq!(rustix::io::pwrite(&copy, &[2], 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&copy, 0), Err(Errno::PERM));
}
