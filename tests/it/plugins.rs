//! Plugins as files: each device in a library of its own, found on a path, missed by name.

use crate::reprise::{Reprise, Scratch, build_folder, guest};

const UART: &str = "libreprise_plugin_ns16550a.so";

#[test]
fn a_missing_plugin_is_named_with_its_device_and_where_it_was_sought() {
    let scratch = Scratch::new("missing-plugin");
    let binary = scratch.path("reprise");
    std::fs::copy(build_folder().join("reprise"), &binary).unwrap();
    let plugins = scratch.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for entry in std::fs::read_dir(build_folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("libreprise_plugin_") && name.ends_with(".so") {
            std::fs::copy(build_folder().join(&name), format!("{plugins}/{name}")).unwrap();
        }
    }
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
