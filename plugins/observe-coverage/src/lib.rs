//! Which functions and lines of guest code were executed, and how often, as an lcov tracefile: `genhtml` shows it.
//!
//! Lines come from DWARF. Code without it is told by functions alone: the "lines" of such a file are its functions, in
//! the order of their addresses.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an observer lies outside the machine"
)]

mod counts;
mod lcov;

use counts::Counts;
use lcov::{Image, Report};
use reprise_plugin_api::{
    DeviceConfig, export_observer,
    observe::{ConfigError, Event, MachineDesc, Mode, Observer, Wants, What},
};
use std::{fs::File, io::Write};

/// The options.
#[derive(DeviceConfig)]
pub struct Config {
    /// The file that is written.
    #[config(default = "coverage.info")]
    pub out: String,
    /// ELF files of guest code; without one, and without a map, the functions that the machine was booted from.
    #[config(default = [])]
    pub elf: Vec<String>,
    /// A System.map of the guest's kernel.
    pub map: Option<String>,
    /// Code of this mode only: what is linked to an address may not be what user mode has there.
    #[config(default = "any", one_of = ["any", "U", "S", "M"])]
    pub mode: String,
}

/// The observer.
pub struct Coverage {
    out: File,
    path: String,
    images: Vec<Image>,
    mode: Option<Mode>,
    counts: Counts,
}

fn at(path: &str, message: impl ToString) -> ConfigError {
    ConfigError { path: path.to_owned(), message: message.to_string() }
}

fn images(config: &Config, machine: &MachineDesc) -> Result<Vec<Image>, ConfigError> {
    let mut images = Vec::new();
    for file in &config.elf {
        let bytes = std::fs::read(file).map_err(|error| at("elf", format!("{file}: {error}")))?;
        images.push(Image::of_elf(file, bytes).map_err(|why| at("elf", format!("{file}: {why}")))?);
    }
    if let Some(file) = &config.map {
        let text = std::fs::read_to_string(file).map_err(|error| at("map", format!("{file}: {error}")))?;
        images.push(Image::of_map(file, &text).map_err(|why| at("map", format!("{file}: {why}")))?);
    }
    if images.is_empty() {
        if machine.symbols.is_empty() {
            let why = "missing, and what the machine was booted from has no symbols: elf=FILE";
            return Err(at("elf", why));
        }
        images.push(Image::of_pairs("guest", &machine.symbols));
    }
    Ok(images)
}

impl Observer for Coverage {
    type Config = Config;

    const SUMMARY: &'static str = "which functions and lines of guest code were executed, as lcov";

    fn create(config: Config, machine: &MachineDesc) -> Result<(Self, Wants), ConfigError> {
        let images = images(&config, machine)?;
        let out = File::create(&config.out).map_err(|error| at("out", format!("{}: {error}", config.out)))?;
        let mode = match config.mode.as_str() {
            "U" => Some(Mode::User),
            "S" => Some(Mode::Supervisor),
            "M" => Some(Mode::Machine),
            _ => None,
        };
        Ok((Self { out, path: config.out, images, mode, counts: Counts::default() }, Wants::BLOCKS))
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        if let What::Block(block) = event.what
            && self.mode.is_none_or(|mode| mode == block.mode)
        {
            self.counts.add(block.pc, block.bytes);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), String> {
        let executed = self.counts.by_address();
        let mut report = Report::default();
        for image in &self.images {
            image.tell(&executed, &mut report)?;
        }
        let text = report.text();
        self.out.write_all(text.as_bytes()).map_err(|error| format!("cannot write {}: {error}", self.path))
    }
}

export_observer!(Coverage);
