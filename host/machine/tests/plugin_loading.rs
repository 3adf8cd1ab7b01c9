//! Which files are plugins, and what is said of those that are not.
#![expect(clippy::disallowed_methods, reason = "reads plugin files, as the process around the machine does")]
#![expect(clippy::unwrap_used, reason = "a test outside of a test module")]

use reprise_machine::plugin::{Plugin, PluginError, PluginFile};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The bytes of the gpio plugin, built as a third party would.
fn gpio() -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let profile_dir = exe.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "-p", "reprise-plugin-gpio"]);
    cargo.arg("--target-dir").arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    fs::read(profile_dir.join("libreprise_plugin_gpio.so")).unwrap()
}

const PATH: &str = "plugins/libreprise_plugin_gpio.so";

fn refused(bytes: &[u8]) -> PluginError {
    PluginFile::load(PATH, bytes).err().expect("the file must be refused")
}

/// Offset and size in the file of every PT_LOAD.
fn segments(elf: &[u8]) -> Vec<(usize, usize)> {
    let u64_at = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let headers = (0..u16_at(56)).map(|index| u64_at(32) + 56 * index);
    headers
        .filter(|at| elf[*at..*at + 4] == [1, 0, 0, 0])
        .map(|at| (u64_at(at + 8), u64_at(at + 32)))
        .collect()
}

#[test]
fn a_plugin_is_loaded_under_its_own_name() {
    let plugin = PluginFile::load(PATH, &gpio()).unwrap();
    assert_eq!(plugin.kinds().iter().map(|desc| desc.kind.as_str()).collect::<Vec<_>>(), ["gpio"]);
    assert_eq!(plugin.kinds()[0].version, env!("CARGO_PKG_VERSION"));
    assert_eq!(plugin.kinds()[0].schema["properties"]["pins"]["default"], 8);
    let desc = plugin.describe_with("gpio", r#"{"pins": 3}"#).unwrap();
    assert_eq!(desc.inputs[0].count, Some(3));
    assert_eq!(*plugin.create("gpio", r#"{"pins": 3}"#).unwrap().desc(), desc);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("memfd:libreprise_plugin_gpio.so"), "{maps}");
}

#[test]
fn two_loads_are_two_plugins() {
    let bytes = gpio();
    let maps = || {
        let text = fs::read_to_string("/proc/self/maps").unwrap();
        text.lines().filter(|line| line.contains("memfd:twice.so") && line.contains(" 00000000 ")).count()
    };
    let load = || -> Plugin { PluginFile::load("twice.so", &bytes).unwrap() };
    let before = maps();
    let all = [load(), load(), load()];
    assert_eq!(maps() - before, all.len(), "the linker must not take one for another");
}

#[test]
fn a_file_cut_inside_a_segment_never_reaches_the_linker() {
    let bytes = gpio();
    let segments = segments(&bytes);
    assert!(segments.len() >= 2, "{segments:?}");
    for (offset, size) in segments {
        for len in [offset + 1, offset + size / 2, offset + size - 1] {
            let error = refused(&bytes[..len]);
            assert!(matches!(error, PluginError::NotALibrary { .. }), "{len} bytes: {error}");
        }
    }
    for len in [0, 1, 4, 63, 64, 100, 200, 4096] {
        assert!(matches!(refused(&bytes[..len]), PluginError::NotALibrary { .. }), "{len} bytes");
    }
    let text = refused(&bytes[..4096]).to_string();
    assert!(text.starts_with(&format!("{PATH}: truncated: ")) && text.lines().count() == 1, "{text}");
}

#[test]
fn what_the_linker_reads_may_be_missing_behind_the_segments() {
    let bytes = gpio();
    let end = segments(&bytes).into_iter().map(|(offset, size)| offset + size).max().unwrap();
    assert!(end < bytes.len(), "debug information follows");
    assert!(PluginFile::load(PATH, &bytes[..end]).is_ok());
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let text = refused(b"plugins are made of sterner stuff\n").to_string();
    assert_eq!(text, format!("{PATH}: not a shared library: no ELF header"));
    let mut other_machine = gpio();
    other_machine[18..20].copy_from_slice(&[8, 0]);
    assert!(refused(&other_machine).to_string().contains("built for another machine: ELF machine 8"));
    // A program: position independent, so it looks like a library.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let error = refused(&program);
    assert!(matches!(error, PluginError::Load { .. } | PluginError::NotAPlugin { .. }), "{error}");
}

#[test]
fn a_library_that_is_no_plugin_is_called_that() {
    let error = refused(&fs::read(libm()).unwrap());
    assert!(matches!(error, PluginError::NotAPlugin { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("{PATH}: not a Reprise plugin")), "{error}");
}

/// A shared library that this very process has mapped.
fn libm() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut libraries = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let library = libraries.find(|path| path.contains("libc.so") || path.contains("libm.so"));
    Path::new(library.expect("a C library is mapped")).to_owned()
}

/// The gpio plugin with each `from` in it made `to`, of the same length: what another build would have there.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = gpio();
    assert_eq!(from.len(), to.len());
    // Debug information is most of the file, and no test's business.
    bytes.truncate(segments(&bytes).into_iter().map(|(offset, size)| offset + size).max().unwrap());
    let here = |at: &usize| bytes[*at] == from[0] && bytes[*at..].starts_with(from);
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(here).collect();
    assert!(!places.is_empty(), "{from:?} is not in the plugin");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

const MAGIC: &[u8; 32] = b"abi stable library for Rust     ";

#[test]
fn another_header_is_not_taken_for_ours() {
    let error = refused(&patched(MAGIC, b"abi stable library for Crabs    "));
    assert!(matches!(error, PluginError::NotAPlugin { .. }), "{error}");
}

#[test]
fn another_abi_stable_is_refused_in_two_lines() {
    let with_minor = |minor: u8| [MAGIC.as_slice(), &[0, 0, 0, 0, minor, 0, 0, 0]].concat();
    let error = refused(&patched(&with_minor(11), &with_minor(12)));
    assert_eq!(
        error.to_string(),
        format!("{PATH}: built with abi_stable 0.12\nthis host needs abi_stable 0.11")
    );
}

#[test]
fn another_layout_is_refused_in_two_lines() {
    let error = refused(&patched(b"DevHandle", b"DevHandel"));
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let contract = reprise_abi::root::CONTRACT_VERSION;
    let start = format!("{PATH}: built for plugin contract {contract}, which differs (");
    assert!(lines[0].starts_with(&start), "{text}");
    assert!(lines[1].starts_with(&format!("this host needs plugin contract {contract}: rebuild")), "{text}");
}
