//! Readings for a sensor, from whoever connects to a unix socket: an outside half, to be put behind a port such as
//! `feed` of `lm75`.
//!
//! Any number of senders may be connected at once, and each sends readings in lines of text. What reaches the guest is
//! the newest of them, at most every so often: a sender that is faster than the sensor does not fill the log. It is
//! also the example of an outside half in the documentation.

use reprise_plugin_api::outside::{Backend, Clock, Outside};
use reprise_plugin_api::{DeviceConfig, LogLevel};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// The longest line that is a reading.
const LINE: usize = 64;
/// Senders at once; others wait in the socket's queue.
const SENDERS: usize = 64;

/// Options of the feed.
#[derive(DeviceConfig)]
pub struct Config {
    /// Where the socket is.
    #[config(default = "")]
    pub path: String,
    /// Milliseconds of guest time between two readings that the guest gets, at least.
    #[config(default = 0, max = 3_600_000)]
    pub every_ms: u64,
}

/// Somebody who sends readings.
struct Sender {
    stream: UnixStream,
    line: Vec<u8>,
}

/// The feed.
pub struct Feed {
    path: PathBuf,
    listener: UnixListener,
    watched: bool,
    every_ns: u64,
    senders: Vec<Sender>,
    /// The newest reading that the guest has not got.
    reading: Option<Vec<u8>>,
    /// The rest of the one that it is getting.
    going: Vec<u8>,
    /// When it may get the next one, on the EXTERNAL clock.
    not_before_ns: u64,
}

impl Feed {
    /// Everybody who waits, as long as there is a place for them. Whether there was somebody.
    fn accept(&mut self, cx: &mut Outside<'_>) -> bool {
        let before = self.senders.len();
        while self.senders.len() < SENDERS {
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    cx.watch(&stream, true, false);
                    self.senders.push(Sender { stream, line: Vec::new() });
                }
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_) => break,
            }
        }
        self.senders.len() > before
    }

    fn give(&mut self, cx: &mut Outside<'_>) {
        let now_ns = cx.now_ns(Clock::External);
        if self.going.is_empty() {
            if now_ns < self.not_before_ns && self.reading.is_some() {
                return cx.arm(Clock::External, self.not_before_ns);
            }
            let Some(reading) = self.reading.take() else { return };
            self.going = reading;
            self.not_before_ns = now_ns.saturating_add(self.every_ns);
        }
        // Half a line would be another reading: the rest of it goes before a newer one.
        let went = cx.give(&self.going);
        self.going.drain(..went);
    }
}

impl Sender {
    /// What has come; the last whole line replaces `reading`. Whether there is more to come.
    fn read(&mut self, reading: &mut Option<Vec<u8>>, cx: &mut Outside<'_>) -> bool {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => bytes[..count].iter().for_each(|&byte| self.hear(byte, reading, cx)),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn hear(&mut self, byte: u8, reading: &mut Option<Vec<u8>>, cx: &mut Outside<'_>) {
        // One more than a line may have, to know that it had more.
        if self.line.len() <= LINE {
            self.line.push(byte);
        }
        if byte == b'\n' {
            let line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\n') {
                *reading = Some(line);
            } else {
                cx.log(LogLevel::Warn, format_args!("a line of more than {LINE} bytes is no reading"));
            }
        }
    }
}

impl Backend for Feed {
    type Config = Config;

    fn name() -> &'static str {
        "sensor-feed"
    }

    fn summary() -> &'static str {
        "readings for a sensor, in lines from a unix socket"
    }

    fn open(config: Config) -> Result<Self, String> {
        if config.path.is_empty() {
            return Err("the socket's path is missing: write path=FILE".into());
        }
        let path = PathBuf::from(&config.path);
        let bad = |error: std::io::Error| format!("cannot listen on {}: {error}", path.display());
        // What a killed process left behind, on which nobody listens any more.
        let is_socket = path.symlink_metadata().is_ok_and(|data| data.file_type().is_socket());
        if is_socket && UnixStream::connect(&path).is_err() {
            std::fs::remove_file(&path).map_err(bad)?;
        }
        let listener = UnixListener::bind(&path).map_err(bad)?;
        listener.set_nonblocking(true).map_err(bad)?;
        let every_ns = config.every_ms * 1_000_000;
        Ok(Self {
            path,
            listener,
            watched: false,
            every_ns,
            senders: Vec::new(),
            reading: None,
            going: Vec::new(),
            not_before_ns: 0,
        })
    }

    fn poll(&mut self, cx: &mut Outside<'_>) {
        if !std::mem::replace(&mut self.watched, true) {
            cx.watch(&self.listener, true, false);
        }
        // The guest has nothing to say here.
        while cx.take(&mut [0; 256]) > 0 {}
        // Whoever goes makes room for others, who are not told of again.
        loop {
            let someone_came = self.accept(cx);
            let (reading, before) = (&mut self.reading, self.senders.len());
            self.senders.retain_mut(|sender| {
                let stays = sender.read(reading, cx);
                if !stays {
                    cx.watch(&sender.stream, false, false);
                }
                stays
            });
            if !someone_came && self.senders.len() == before {
                break;
            }
        }
        cx.connected(!self.senders.is_empty());
        self.give(cx);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // It may be gone already.
        drop(std::fs::remove_file(&self.path));
    }
}

reprise_plugin_api::export_backend!(Feed);
