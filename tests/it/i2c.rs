//! Devices behind a device: an I²C bus, its controller and its targets, each a plugin of its own.

use crate::recording::Recording;
use crate::reprise::{Reprise, root};
use std::io::Write;
use std::net::TcpStream;

fn guest(words: &str, more: &[&str]) -> Reprise {
    let board = root().join("configs/i2c.toml");
    Reprise::record("release", "i2c")
        .args([board.to_str().unwrap()])
        .args(more.iter().copied())
        .of_debian(words)
}

#[test]
fn linux_finds_an_eeprom_and_a_sensor_and_a_replay_is_the_same() {
    let recording = Recording::of(guest("reprise.test=i2c reprise.poweroff", &[]));
    let console = &recording.ended.console;
    for said in
        ["@eeprom Reprise", "@kept written by the guest, across pages", "@temperature 0x0019", "@i2c ok"]
    {
        assert!(console.contains(said), "no {said:?} in {console}");
    }
    // i2cdetect shows who has a driver as UU.
    let row =
        |start: &str| console.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert_eq!(
        (row("40:").trim(), row("50:").split_whitespace().nth(1)),
        ("40: -- -- -- -- -- -- -- -- 48 -- -- -- -- -- -- --", Some("UU"))
    );
    recording.is_identical().is_identical_in_chaos(["1"]);
}

#[test]
fn the_weather_is_in_the_log() {
    // Whoever is told the port number is too late to be asked for one: so one is asked for first, and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let feed = format!("sensor0.feed=tcp:127.0.0.1:{port}");
    let run = guest("reprise.test=i2c,weather reprise.poweroff", &["--port", &feed]);
    let run = run.after("@i2c ok", move |_, _| {
        TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"-3.5\n").unwrap();
    });
    let recording = Recording::of(run);
    assert!(recording.ended.console.contains("@weather 0x80fc"), "{}", recording.ended.console);
    recording.is_identical();
}
