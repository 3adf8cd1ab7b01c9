//! Where the guest spends its instructions: a profile of every one of them, as folded stacks for flame graphs.
//!
//! A line is a stack and how many instructions were attempted with exactly it, `M;_start;main;print 1234`. The first
//! frame is the privilege mode. Stacks are followed by calls and returns, as branch predictors tell them: where a guest
//! goes on with another stack, as a kernel does between tasks, the frames begin anew at the function it is in.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an observer lies outside the machine"
)]

mod stacks;

use reprise_plugin_api::{
    DeviceConfig, export_observer,
    observe::{ConfigError, Event, MachineDesc, Observer, Wants, What, symbols::Symbols},
};
use stacks::Profile;
use std::{fs::File, io::Write};

/// The options.
#[derive(DeviceConfig)]
pub struct Config {
    /// The file that is written.
    #[config(default = "hot.folded")]
    pub out: String,
    /// ELF files of guest code, for names; without one, those that the machine was booted from.
    #[config(default = [])]
    pub elf: Vec<String>,
    /// A System.map of the guest's kernel, likewise.
    pub map: Option<String>,
}

/// The observer.
pub struct Hot {
    out: File,
    path: String,
    profile: Profile,
}

fn at(path: &str, message: impl ToString) -> ConfigError {
    ConfigError { path: path.to_owned(), message: message.to_string() }
}

fn symbols(config: &Config, machine: &MachineDesc) -> Result<Symbols, ConfigError> {
    let mut symbols = Symbols::default();
    for file in &config.elf {
        let bytes = std::fs::read(file).map_err(|error| at("elf", format!("{file}: {error}")))?;
        symbols.add_elf(&bytes).map_err(|why| at("elf", format!("{file}: {why}")))?;
    }
    if let Some(file) = &config.map {
        let text = std::fs::read_to_string(file).map_err(|error| at("map", format!("{file}: {error}")))?;
        symbols.add_map(&text).map_err(|why| at("map", format!("{file}: {why}")))?;
    }
    if config.elf.is_empty() {
        symbols.add_pairs(&machine.symbols);
    }
    Ok(symbols)
}

impl Observer for Hot {
    type Config = Config;

    const SUMMARY: &'static str = "where the guest spends its instructions, as folded stacks";

    fn create(config: Config, machine: &MachineDesc) -> Result<(Self, Wants), ConfigError> {
        let symbols = symbols(&config, machine)?;
        let out = File::create(&config.out).map_err(|error| at("out", format!("{}: {error}", config.out)))?;
        let profile = Profile::new(machine.harts as usize, symbols);
        Ok((Self { out, path: config.out, profile }, Wants::BLOCKS | Wants::TRAPS | Wants::MACHINE))
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event.what {
            What::Block(block) => self.profile.block(&block),
            What::Trap(trap) => self.profile.trap(&trap),
            What::Reset | What::Moved => self.profile.forget_stacks(),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), String> {
        let folded = self.profile.folded();
        self.out.write_all(folded.as_bytes()).map_err(|error| format!("cannot write {}: {error}", self.path))
    }
}

export_observer!(Hot);
