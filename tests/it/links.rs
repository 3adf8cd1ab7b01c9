//! The links `gpio/1` and `stream/1` in a machine: both ends of each are devices of `tests/plugins/links`.

use crate::check::check;
use crate::recording::Recording;
use crate::reprise::{Reprise, Scratch, build_folder, root};
use std::path::Path;

/// A folder with the plugin under the name that boards look for.
struct Plugin(Scratch);

impl Plugin {
    fn new(test: &str) -> Self {
        let this = Self(Scratch::new(test));
        std::fs::copy(build_folder().join("libreprise_links.so"), this.file()).unwrap();
        this
    }

    fn file(&self) -> String {
        self.0.path("libreprise_plugin_links.so")
    }
}

/// Longer than all that the two ends of a stream have room for.
const TYPED: &str = "a line that is much longer than four characters here and eight there";

/// Every character arrives, in both directions, and the keypad is found by its levels.
#[test]
fn a_guest_drives_lines_and_a_stream_and_a_replay_is_the_same() {
    let plugin = Plugin::new("links-plugin");
    let board = root().join("tests/plugins/boards/links.toml");
    let run = Reprise::record("release", "links")
        .args([board.to_str().unwrap(), "--plugin-path", &plugin.file(), "--digest-every", "1000"])
        .of("links.elf")
        .input_after("@type a line", &format!("{TYPED}\n"));
    let recording = Recording::of(run);
    let ended = &recording.ended;
    // The break is told at once, and overtakes what the modem still has to send.
    let said = ended.console.replace('\r', "");
    let lines =
        format!("@typed {TYPED}\n@before 0\n@key 9\n@short 176\n@let go 255\n@wrong 0\n@R links ok\n");
    assert!(said.matches('#').count() == 1 && said.replace('#', "").contains(&lines), "{}", ended.console);
    let own = format!("links={}", plugin.file());
    for chaos in [&[][..], &["--chaos-seed", "1"]] {
        let words = [&["--plugin", own.as_str()], chaos].concat();
        recording.is_identical_on("release", &words);
    }
    // From a snapshot in the middle, where credit is given and lines are driven.
    let (icount, _, digest) = ended.position_and_digest();
    for percent in [20, 60, 90] {
        let cut = recording.file(&format!("{percent}.rec"));
        let at = format!("icount:{}", icount * percent / 100);
        recording.command("release", "trim", &["-o", &cut, "--from", &at, "--plugin", &own]).end().success();
        let ended = Reprise::new(["verify", "--json", "--plugin", &own, &cut]).end().success();
        assert!(ended.console.contains("identical") && ended.console.contains(&digest), "{}", ended.console);
    }
}

/// A board connects only ends that say the same.
#[test]
fn a_board_connects_each_end_to_its_like() {
    let plugin = Plugin::new("links-board");
    let board = std::fs::read_to_string(root().join("tests/plugins/boards/links.toml")).unwrap();
    let wrong = plugin.0.path("wrong.toml");
    std::fs::write(&wrong, board.replace("bank0.banks@0", "uart1.line@0")).unwrap();
    let ended = Reprise::new(["--plugin-path", &plugin.file(), "machine", "check", &wrong]).end();
    assert_eq!(ended.code, Some(3), "{}", ended.errors);
    assert!(ended.errors.contains("speaks stream/1, `bank` gpio/1"), "{}", ended.errors);
}

/// The checker speaks both protocols, to each end.
#[test]
fn devices_on_lines_and_streams_pass_the_check() {
    let plugin = Plugin::new("links-check");
    let output = check(Path::new(&plugin.file()), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("nothing found"), "{text}");
}
