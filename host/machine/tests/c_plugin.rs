//! Plugins in C: what is said of tables that are not whole, and whether their states are ours.
#![expect(
    clippy::disallowed_methods,
    reason = "builds and reads plugin files, as their authors and the host do"
)]
#![expect(clippy::unwrap_used, reason = "a test outside of a test module")]

use reprise_machine::plugin::{Instance, Plugin, PluginError, PluginFile};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A plugin of `tests/plugins/c`, built in this test's own folder.
fn built(source: &str, define: &str) -> Result<Plugin, PluginError> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}-{define}.so"));
    let status = Command::new("gcc")
        .args([
            "-std=c11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-function",
            "-shared",
            "-fPIC",
            "-o",
        ])
        .arg(&file)
        .arg(format!("-D{define}"))
        .arg(format!("-I{}", root().join("plugin-api/c").display()))
        .arg(root().join(format!("tests/plugins/c/{source}.c")))
        .status()
        .unwrap();
    assert!(status.success());
    PluginFile::load("x.so", &fs::read(file).unwrap())
}

/// The same device in Rust, built as a third party would.
fn in_rust() -> Plugin {
    let exe = env::current_exe().unwrap();
    let profile_dir = exe.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "-p", "reprise-plugin-metronome"]);
    cargo.arg("--target-dir").arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    PluginFile::load("rust.so", &fs::read(profile_dir.join("libreprise_metronome.so")).unwrap()).unwrap()
}

fn with_mistake(number: u32) -> Result<Plugin, PluginError> {
    built("mistakes", &format!("MISTAKE={number}"))
}

#[test]
fn a_plugin_without_mistakes_is_used() {
    let plugin = with_mistake(0).unwrap();
    assert_eq!((plugin.kinds()[0].kind.as_str(), plugin.api_version()), ("mistakes", "C header 1.2"));
    let mut device = plugin.create("mistakes", "{}").unwrap();
    let record = device.try_save().unwrap();
    assert_eq!(device.load(&record), Ok(()));
    // Later minor versions have more to say, and are no reason to refuse.
    assert!(with_mistake(15).is_ok());
}

#[test]
fn a_root_table_that_is_not_whole_is_refused() {
    let entry = "the table of `reprise_plugin_entry` has";
    let expected = [
        (4, "x.so: its descriptors cannot be read: EOF while parsing a list".to_owned()),
        (5, "x.so: what the plugin says is not UTF-8".to_owned()),
        (6, "x.so: it cannot describe itself: not today".to_owned()),
        (
            12,
            "x.so: `reprise_plugin_entry` returns NULL, or what cannot be the address of a table".to_owned(),
        ),
        (13, format!("x.so: {entry} 40 bytes, not 48 or more")),
        (14, "x.so: built for plugin contract 2.2\nthis host needs plugin contract 1.2: build it".to_owned()),
        (16, format!("x.so: {entry} NULL for `api_version`")),
        (17, format!("x.so: {entry} NULL for `describe`")),
        (18, format!("x.so: {entry} NULL for `describe_with`")),
        (19, format!("x.so: {entry} NULL for `create`")),
    ];
    for (mistake, text) in expected {
        let error = with_mistake(mistake).err().expect("it must be refused").to_string();
        assert!(error.starts_with(&text), "{mistake}: {error}");
    }
}

#[test]
fn a_device_table_that_is_not_whole_is_refused() {
    let none = "the plugin says that it created a device, but gives none or no table of functions";
    let expected = [
        (1, "the device's table of functions is too short: 40 bytes"),
        (2, "the device's table of functions has NULL for `on_timer`"),
        (3, "the device's table of functions has NULL for `drop`"),
        (7, none),
        (8, none),
        (9, "it has links, but its table of functions has no `on_message`"),
        (10, "too many"),
        (11, "no JSON at all"),
    ];
    for (mistake, text) in expected {
        let error =
            with_mistake(mistake).unwrap().create("mistakes", "{}").err().expect("it must be refused");
        assert_eq!(error.message, text, "{mistake}");
    }
    let nul = with_mistake(0).unwrap().create("mistakes\0", "{}").err().unwrap();
    assert_eq!(nul.message, "there is a NUL in the middle of it");
}

#[test]
fn the_device_in_c_describes_itself_as_the_one_in_rust_does() {
    let (c, rust) = (built("metronome", "C").unwrap(), in_rust());
    assert_eq!(c.kinds(), rust.kinds());
    for options in ["{}", r#"{"limit": 7}"#, r#"{ "limit" : 4294967295 }"#] {
        assert_eq!(
            c.describe_with("metronome", options),
            rust.describe_with("metronome", options),
            "{options}"
        );
    }
    for options in [r#"{"limit": 0}"#, r#"{"limit": 4294967296}"#, r#"{"limit": "7"}"#, r#"{"x": 1}"#] {
        for plugin in [&c, &rust] {
            assert!(plugin.create("metronome", options).is_err(), "{options}");
        }
    }
    assert!(c.create("gong", "{}").is_err());
}

/// xorshift64*: the same records each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// A state that has something in every field.
fn record(version: u32) -> Vec<u8> {
    reprise_abi::state::encode(version, |out| {
        out.field("period_us").uint(25u32.to_le_bytes());
        out.field("beats").uint(7u32.to_le_bytes());
        out.field("pending").bool(true);
        out.field("muted").bool(false);
        out.field("click").bool(true);
        out.field("target").uint(0x8000_1000u64.to_le_bytes());
        out.field("heard").bytes(*b"abc");
        out.field("score").seq(|seq| (1..5u16).for_each(|score| seq.item().uint(score.to_le_bytes())));
        out.field("mood").text("Hurried");
        out.field("silence").record(|inner| {
            inner.field("beats").uint(3u64.to_le_bytes());
            inner.field("balance").int((-4i32).to_le_bytes());
        });
        if version >= 2 {
            out.field("refused").uint(9u8.to_le_bytes());
        }
        if version >= 3 {
            out.field("last_at_ns").seq(|seq| seq.item().uint(12345u64.to_le_bytes()));
        }
    })
}

/// What becomes of a record: the state that it is, or nothing.
fn loaded(plugin: &Plugin, record: &[u8]) -> Result<Vec<u8>, String> {
    let mut device: Instance = plugin.create("metronome", "{}").unwrap();
    device.load(record)?;
    device.try_save()
}

#[test]
fn states_of_all_versions_are_read_and_written_alike() {
    let (c, rust) = (built("metronome", "ALIKE").unwrap(), in_rust());
    for version in 0..4 {
        let record = record(version);
        let state = loaded(&rust, &record).unwrap();
        assert_eq!(loaded(&c, &record).as_ref(), Ok(&state), "version {version}");
    }
    assert_eq!(loaded(&c, &record(3)), Ok(record(3)));
    let newer = record(4);
    let text = "state version 4 is newer than 3, the newest this device knows";
    assert_eq!(
        (loaded(&c, &newer).unwrap_err(), loaded(&rust, &newer).unwrap_err()),
        (text.into(), text.into())
    );
}

/// A record may come from anywhere. The reader in C refuses what ours refuses, and makes the same of the rest.
#[test]
fn hostile_states_are_refused_alike() {
    let (c, rust) = (built("metronome", "HOSTILE").unwrap(), in_rust());
    let good = record(3);
    let check = |bytes: &[u8]| {
        let (of_c, of_rust) = (loaded(&c, bytes), loaded(&rust, bytes));
        assert_eq!(
            of_c.as_ref().ok(),
            of_rust.as_ref().ok(),
            "C {of_c:?}\nRust {of_rust:?}\nof {}",
            bytes.escape_ascii()
        );
        of_c.is_ok()
    };
    for len in 0..good.len() {
        assert!(!check(&good[..len]), "{len} bytes");
    }
    let mut draw = Draw(7);
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=draw.below(3) {
            let at = draw.below(bytes.len());
            match draw.below(4) {
                0 => bytes[at] ^= 1 << draw.below(8),
                1 => bytes[at] = draw.below(256) as u8,
                2 => bytes.insert(at, draw.below(256) as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        taken += u32::from(check(&bytes));
    }
    // Flipped bits in values are other states: both answers were compared, not only the refusal.
    assert!(taken > 100, "{taken}");
}
