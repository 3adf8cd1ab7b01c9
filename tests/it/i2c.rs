//! Devices behind a device: an I²C bus, its controller and its targets, each a plugin of its own.

use crate::recording::Recording;
use crate::reprise::{Reprise, Scratch, root};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

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

#[test]
fn an_outside_half_feeds_the_sensor_and_is_not_there_in_a_replay() {
    let scratch = Scratch::new("feed");
    let socket = scratch.path("weather");
    let feed = format!("sensor0.feed=plugin:sensor-feed,path={socket},every_ms=50");
    let sender = socket.clone();
    let run = guest("reprise.test=i2c,weather reprise.poweroff", &["--port", &feed]);
    let run = run.after("@i2c ok", move |_, _| {
        // All but the last are too old by the time the guest may have one.
        UnixStream::connect(sender).unwrap().write_all(b"1.0\n2.0\n-3.5\n").unwrap();
    });
    let recording = Recording::of(run);
    assert!(recording.ended.console.contains("@weather 0x80fc"), "{}", recording.ended.console);
    assert!(!std::path::Path::new(&socket).exists(), "the socket's name is removed");
    recording.is_identical();
    assert!(!std::path::Path::new(&socket).exists(), "a replay opens nothing");
}

#[test]
fn a_backend_that_cannot_be_is_told() {
    let told = |backend: &str| {
        let ended = guest("", &["--port", &format!("sensor0.feed={backend}")]).end();
        assert_eq!(ended.code, Some(2), "{backend}: {}", ended.errors);
        ended.errors
    };
    for (backend, said) in [
        ("plugin:", "the plugin's name is missing"),
        ("plugin:nobody", "no such plugin"),
        ("plugin:lm75", "it has no backend for ports"),
        ("plugin:sensor-feed", "the socket's path is missing"),
        ("plugin:sensor-feed,path", "path: a value is missing: write NAME=VALUE"),
        ("plugin:sensor-feed,,path=x", "\"\" is no option: write NAME=VALUE"),
        ("plugin:sensor-feed,path=/nowhere/x", "cannot listen on /nowhere/x"),
        ("plugin:sensor-feed,path=x,every_ms=often", "every_ms: \"often\" is no integer"),
        ("plugin:sensor-feed,path=x,evry=1", "the plugin has no option \"evry\""),
    ] {
        let errors = told(backend);
        assert!(errors.contains(said), "{backend}: {errors}");
    }
}
