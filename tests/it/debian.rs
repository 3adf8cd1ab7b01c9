//! Debian's own kernel and user land, unmodified.

use crate::reprise::{Reprise, Scratch, guest};

#[test]
fn boots_to_a_shell_that_takes_commands_and_powers_off() {
    let ended =
        Reprise::debian("shell", "").input_after("~ # ", "echo typed $((6 * 7))\npoweroff -f\n").end();
    ended.success().says("@done").says("typed 42").says("reboot: Power down");
}

#[test]
fn finds_its_devices_on_one_hart() {
    let ended =
        Reprise::debian("one-hart", "reprise.test=boot,devices,smp,idle reprise.poweroff").end().success();
    for test in ["boot", "devices", "smp", "idle"] {
        assert!(ended.console.contains(&format!("@{test} ok")), "{test} failed:\n{}", ended.console);
    }
}

#[test]
fn runs_on_four_harts() {
    let words = "reprise.test=smp reprise.harts=4 reprise.poweroff";
    Reprise::debian("four-harts", words).args(["-smp", "4"]).end().success().says("@smp ok").says("@done");
}

#[test]
fn reads_and_writes_a_root_disk_and_commit_keeps_it() {
    let scratch = Scratch::new("root-disk");
    let image = scratch.path("root.ext4");
    std::fs::copy(guest("debian.ext4"), &image).unwrap();
    let boot = |disk: String| {
        let words = "reprise.test=disk reprise.poweroff";
        let ended = Reprise::debian("root-disk-run", words).args(["--disk", &disk]).end().success();
        let ended = ended.says("payload: OK").says("@disk ok");
        ended.line("@boots ").to_owned()
    };
    assert_eq!(boot(format!("disk0={image}")), "1");
    // Nothing was asked to stay, so this is the first boot again; now it is.
    assert_eq!(boot(format!("disk0={image},commit")), "1");
    assert_eq!(boot(format!("disk0={image}")), "2");
}

#[test]
fn needs_little_more_memory_than_the_guest_has() {
    let run = Reprise::debian("memory", "reprise.test=boot reprise.poweroff");
    let ended = run.end().success();
    assert!(ended.peak_kib > 0);
    assert!(ended.peak_kib <= (512 + 64) << 10, "{} KiB resident for a guest of 512 MiB", ended.peak_kib);
}
