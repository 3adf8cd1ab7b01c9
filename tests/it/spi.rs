//! An SD card behind an SPI controller, each a plugin of its own: storage that the guest reaches byte by byte.

use crate::recording::Recording;
use crate::reprise::{Ended, Reprise, Scratch, guest, root};
use std::process::Command;

/// What the guest sums up of the card.
const SUMMED: usize = 32 << 10;

/// Debian's root file system on a card.
struct Card {
    _folder: Scratch,
    image: String,
}

impl Card {
    fn new() -> Self {
        let folder = Scratch::new("card");
        let image = folder.path("card.ext4");
        std::fs::copy(guest("debian.ext4"), &image).unwrap();
        Self { _folder: folder, image }
    }

    /// The same machine with this card, to run or to record.
    fn in_slot(&self, run: Reprise, options: &str) -> Reprise {
        let board = root().join("configs/spi.toml");
        run.args([board.to_str().unwrap(), "--disk", &format!("sd0={}{options}", self.image)])
            .of_debian("reprise.test=spi reprise.poweroff")
    }

    fn is_read_and_written(&self, ended: &Ended, sum: &str) {
        let sectors = std::fs::metadata(&self.image).unwrap().len() / 512;
        assert_eq!(ended.line("@card "), format!("SD SDMEM {sectors} 0"));
        assert_eq!(ended.line("@sum ").split_whitespace().next(), Some(sum));
        assert!(ended.console.contains("@spi ok"), "{}", ended.console);
    }

    /// SHA-256 of its beginning.
    fn sum(&self) -> String {
        let command = format!("head -c {SUMMED} '{}' | sha256sum", self.image);
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
    }
}

#[test]
fn linux_writes_a_card_that_keeps_it_and_a_replay_is_the_same() {
    let card = Card::new();
    let fresh = card.sum();
    let ended = card.in_slot(Reprise::run("spi"), ",commit").end().success();
    card.is_read_and_written(&ended, &fresh);
    assert_eq!(ended.line("@boots "), "1");
    // The second boot finds what the first one has written. What it writes itself nobody has asked to keep.
    let committed = card.sum();
    assert_ne!(committed, fresh);
    let recording = Recording::of(card.in_slot(Reprise::record("release", "spi-record"), ""));
    card.is_read_and_written(&recording.ended, &committed);
    assert_eq!(recording.ended.line("@boots "), "2");
    assert_eq!(card.sum(), committed);
    recording.is_identical().is_identical_in_chaos(["1"]);
}

#[test]
fn a_slot_without_a_disk_is_empty() {
    let board = root().join("configs/spi.toml");
    let run = Reprise::run("spi-empty").args([board.to_str().unwrap()]);
    let ended = run.of_debian("reprise.test=spi reprise.poweroff").end().success();
    ended.says("no card").says("@spi FAILED").says("@done");
}
