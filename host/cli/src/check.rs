//! `reprise plugin check`: the validator of device plugins.

use crate::{
    args::MachineArgs,
    board,
    failure::{Exit, Failure},
    inspect,
    plugins::{self, Plugins},
};
use clap::Args;
use reprise_check::{CheckError, Launcher, PhraseFile, Report, Settings, Target};
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The settings of a crate, when it has some.
const SETTINGS_FILE: &str = "reprise-check.toml";

/// What to check, and how.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A plugin's file, or the name of one that is found
    plugin: String,
    /// Check the devices that this board has of the plugin, with their options; may be repeated
    #[arg(long, value_name = "BOARD.toml")]
    board: Vec<PathBuf>,
    /// Check this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Run this test only, without those that it needs
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// The first seed: a finding names the one that shows it again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seeds of each sort of script
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: Option<u64>,
    /// Steps of a script
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,
    /// Seconds that one test may take
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Settings: switches of rules and tests, options; default: reprise-check.toml here, if there is one
    #[arg(long, value_name = "FILE.toml")]
    settings: Option<PathBuf>,
    /// What a device understands: steps that bring it up, and that are played between random ones; may be repeated
    #[arg(long, value_name = "FILE")]
    phrases: Vec<PathBuf>,
    /// Write the report as JUnit's XML, for CI
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(crate) fn run(&self, catalog: &Plugins, plugin_path: &[PathBuf]) -> Result<u8, Failure> {
        let plugin = self.file(catalog)?;
        let settings = self.settings()?;
        let targets = self.targets(&plugin, plugin_path)?;
        let report = reprise_check::check(&plugin, &launcher()?, &settings, &targets)
            .map_err(|error| not_checked(&error))?;
        let report = self.of_kind(report)?;
        if let Some(path) = &self.junit {
            fs::write(path, report.to_junit())
                .map_err(|error| Failure::io("cannot write the report", &error).at(path.display()))?;
        }
        match self.json {
            true => inspect::out(&format!("{:#}\n", report.to_json()))?,
            false => inspect::out(&report.to_text())?,
        };
        Ok(if report.findings().next().is_none() { 0 } else { Exit::Plugin as u8 })
    }

    fn file(&self, catalog: &Plugins) -> Result<PathBuf, Failure> {
        let name = &self.plugin;
        let path = match plugins::as_path(name) {
            Some(path) => Some(path).filter(|path| path.is_file()),
            None => catalog.file_of(name),
        };
        path.ok_or_else(|| {
            Failure::config(format!("no plugin \"{name}\""))
                .note("there is no such file, nor a plugin of this name in the search path")
                .help("build it, and give its file: target/release/libreprise_plugin_NAME.so")
        })
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let here = Path::new(SETTINGS_FILE);
        let path = self.settings.as_deref().or_else(|| here.is_file().then_some(here));
        let mut settings = match path {
            None => Settings::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Failure::io("cannot read the settings", &error).at(path.display()))?;
                Settings::parse(&text).map_err(|error| {
                    Failure::config("these are no settings of a check")
                        .at(path.display())
                        .note(error.to_string())
                })?
            }
        };
        if let Some(test) = &self.test {
            reprise_check::known_test(test).map_err(|error| Failure::usage(error.to_string()))?;
        }
        settings.only.clone_from(&self.test);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.seeds = self.seeds.unwrap_or(settings.seeds);
        settings.steps = self.steps.unwrap_or(settings.steps);
        settings.timeout = self.timeout.map_or(settings.timeout, Duration::from_secs);
        settings.kind.clone_from(&self.kind);
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let mut files: Vec<PathBuf> = settings.phrase_files.iter().map(|file| folder.join(file)).collect();
        files.extend_from_slice(&self.phrases);
        let read = |file: &PathBuf| {
            let name = file.display().to_string();
            match fs::read_to_string(file) {
                Ok(text) => Ok(PhraseFile { name, text }),
                Err(error) => Err(Failure::io("cannot read phrases", &error).at(name)),
            }
        };
        settings.phrases = files.iter().map(read).collect::<Result<_, _>>()?;
        Ok(settings)
    }

    /// The devices of the boards that are made of this plugin.
    fn targets(&self, plugin: &Path, plugin_path: &[PathBuf]) -> Result<Vec<Target>, Failure> {
        let name = plugins::plugin_name(plugin);
        let mut places = vec![plugin.to_owned()];
        places.extend_from_slice(plugin_path);
        let catalog = Plugins::new(&places);
        let mut targets = Vec::new();
        for path in &self.board {
            let Some(name) = &name else {
                return Err(Failure::config("no board can name this plugin")
                    .at(plugin.display())
                    .note("a board's plugin \"x\" is the file libreprise_plugin_x.so"));
            };
            let args = MachineArgs { board: Some(path.clone()), ..MachineArgs::default() };
            let board = board::load(&args, &catalog)?;
            let devices = board.devices.iter().filter(|device| device.plugin.replace('_', "-") == *name);
            let before = targets.len();
            targets.extend(devices.map(|device| Target {
                kind: device.kind.clone(),
                from: format!("{} of {}", device.id, path.display()),
                options: device.config_json.clone(),
            }));
            if targets.len() == before {
                return Err(Failure::config(format!("the board has no device of plugin \"{name}\""))
                    .at(path.display()));
            }
        }
        Ok(targets)
    }

    fn of_kind(&self, report: Report) -> Result<Report, Failure> {
        match &self.kind {
            Some(kind) if report.devices.is_empty() && report.findings().next().is_none() => {
                Err(Failure::config(format!("the plugin has no device of kind \"{kind}\""))
                    .at(&report.plugin)
                    .help("`reprise plugin describe FILE.so` shows the kinds"))
            }
            Some(_) | None => Ok(report),
        }
    }
}

fn not_checked(error: &CheckError) -> Failure {
    match error {
        CheckError::Process(error) => Failure::io("cannot start a test process", error),
        CheckError::Phrases { file, .. } | CheckError::NoKind { file, .. } => {
            Failure::config("these phrases are not of this plugin").at(file).note(error.to_string())
        }
    }
}

/// This program, told to be a test process.
fn launcher() -> Result<Launcher, Failure> {
    let program = env::current_exe().map_err(|error| Failure::io("cannot find this program", &error))?;
    Ok(Launcher { program, args: vec!["plugin".into(), "check-part".into()] })
}

/// Be a test process.
pub(crate) fn part() -> Result<u8, Failure> {
    reprise_check::serve().map_err(|error| {
        Failure::io("no test to do", &error).note("this command is started by `reprise plugin check`")
    })?;
    Ok(0)
}
