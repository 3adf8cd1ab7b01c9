//! Plugins as files: each device in a library of its own, found on a path, missed by name.

use crate::reprise::{Reprise, Scratch, build_folder, guest, root};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const UART: &str = "libreprise_plugin_ns16550a.so";
const GPIO: &str = "libreprise_plugin_gpio.so";

/// Copies every plugin of the build into `folder`.
fn copy_plugins(folder: &str) {
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(build_folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("libreprise_plugin_") && name.ends_with(".so") {
            std::fs::copy(build_folder().join(&name), format!("{folder}/{name}")).unwrap();
        }
    }
}

#[test]
fn a_missing_plugin_is_named_with_its_device_and_where_it_was_sought() {
    let scratch = Scratch::new("missing-plugin");
    let binary = scratch.path("reprise");
    std::fs::copy(build_folder().join("reprise"), &binary).unwrap();
    let plugins = scratch.path("plugins");
    copy_plugins(&plugins);
    let run = || {
        let args = ["run", "--plugin-path", &plugins, "-bios", &guest("wfi.elf")];
        Reprise::at(binary.as_ref(), args).end()
    };
    run().success();

    std::fs::remove_file(format!("{plugins}/{UART}")).unwrap();
    let ended = run();
    assert_eq!(ended.code, Some(3), "{}", ended.errors);
    for word in ["uart0", "ns16550a", plugins.as_str()] {
        assert!(ended.errors.contains(word), "no {word:?} in:\n{}", ended.errors);
    }

    std::fs::write(format!("{plugins}/{UART}"), "not a library").unwrap();
    let ended = run();
    assert_eq!(ended.code, Some(3), "{}", ended.errors);
    assert!(ended.errors.contains(UART), "{}", ended.errors);
}

#[test]
fn each_device_is_a_library_of_its_own_in_the_process() {
    let [firmware, kernel, initrd] = ["fw_dynamic.bin", "Image", "initramfs.cpio"].map(guest);
    let mut child = Command::new(build_folder().join("reprise"))
        .args(["run", "-bios", &firmware, "-kernel", &kernel, "-initrd", &initrd])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let maps = loop {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        // The last that the board names: the others are loaded before it.
        if maps.contains(GPIO) || Instant::now() > limit {
            break maps;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    for plugin in ["syscon", "goldfish_rtc", "aclint", "plic", "ns16550a", "virtio_blk", "virtio_rng", "gpio"]
    {
        let file = format!("libreprise_plugin_{plugin}.so");
        assert!(maps.lines().any(|line| line.contains(&file) && line.contains("r-xp")), "{file} in:\n{maps}");
    }
}

#[test]
fn a_debug_plugin_of_another_checkout_and_another_patch_version_loads() {
    let scratch = Scratch::new("foreign-plugin");
    let checkout = scratch.path("checkout");
    for folder in ["plugin-api", "plugins/gpio"] {
        copy_folder(&root().join(folder), &Path::new(&checkout).join(folder));
    }
    let edit = |file: &str, edits: &[(&str, &str)]| {
        let mut text = std::fs::read_to_string(root().join(file)).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "{file} has no {from:?} any more");
            text = text.replace(from, to);
        }
        std::fs::write(Path::new(&checkout).join(file), text).unwrap();
    };
    edit(
        "Cargo.toml",
        &[
            (r#""host/*", "plugin-api", "#, r#""plugin-api", "#),
            (
                "    \"tests\", \"tests/broken\", \"tests/plugins/bad\", \"tests/plugins/links\", \
                 \"tests/plugins/metronome\",\n",
                "",
            ),
            ("version = \"0.1.0\"\nedition", "version = \"0.1.7\"\nedition"),
        ],
    );
    edit("plugin-api/abi/Cargo.toml", &[(r#"version = "1.0.0""#, r#"version = "1.0.9""#)]);
    edit("Cargo.lock", &[]);
    let target = root().join("target/foreign");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "reprise-plugin-gpio"])
        .current_dir(&checkout)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .unwrap();
    assert!(built.success());

    let plugins = scratch.path("plugins");
    copy_plugins(&plugins);
    std::fs::copy(target.join("debug").join(GPIO), format!("{plugins}/{GPIO}")).unwrap();
    let args = ["run", "--plugin-path", &plugins, "-bios", &guest("demo.elf")];
    Reprise::new(args).end().success().says("8 pins, outputs wired back to inputs");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
