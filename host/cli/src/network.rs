//! From the command line and the board to what the net ports are connected to.

use crate::{
    failure::{Failure, printable},
    io::{BackendSpec, NET_FORMS, PortPlan},
};
use reprise_machine::{
    board::{Board, DeviceSpec},
    desc::{ConfigError, PortKind},
};
use reprise_net::{
    Config, Problem,
    config::{Alias, Settings},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// `--port` and `--net`, as given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// What `--port` has said of net ports already: by device and port.
    pub(crate) chosen: &'a BTreeMap<(String, String), BackendSpec>,
    pub(crate) net: &'a [String],
}

/// What every net port of the board is connected to: as the board says, unless the command line says otherwise.
pub(crate) fn plans(board: &Board, given: Given<'_>) -> Result<Vec<PortPlan>, Failure> {
    keeps_its_passwords(board)?;
    let mut left = given.net.iter();
    let mut plans = Vec::new();
    for (device, index) in net_ports(board) {
        let port = device.desc.ports[index].name.clone();
        let backend = match given.chosen.get(&(device.id.clone(), port.clone())) {
            Some(backend) => backend.clone(),
            None => match left.next() {
                Some(argument) => argument_backend(argument, board, board_name(device, index))?,
                None => board_backend(board, device, index)?,
            },
        };
        fits(device, &backend)?;
        plans.push(PortPlan { device: device.id.clone(), port, backend, framed: true });
    }
    match left.next() {
        None => Ok(plans),
        Some(argument) => Err(Failure::usage("there is no network device left for this")
            .at(format!("--net {argument}"))
            .note(format!("network devices of the board: {}", plans.len()))
            .help("use a board that has one, such as configs/net.toml")),
    }
}

/// What goes on from a recording captures into files of its own: those that the board names are of the run that was
/// recorded. Returns lines that say where.
pub(crate) fn spare_captures(plans: &mut [PortPlan]) -> String {
    let mut lines = String::new();
    for plan in plans {
        let BackendSpec::User { id, config } = &mut plan.backend else { continue };
        if let Some(capture) = config.capture.as_mut().filter(|capture| capture.file.is_file()) {
            capture.file = free_beside(&capture.file);
            let file = printable(&capture.file.display().to_string());
            lines.push_str(&format!("network \"{id}\" is captured in {file}\n"));
        }
    }
    lines
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// `user0.pcapng` is there, and `user0-2.pcapng` is not.
fn free_beside(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    let numbered = |number: u32| path.with_file_name(format!("{stem}-{number}{extension}"));
    (2..).map(numbered).find(|path| !is_there(path)).expect("no folder has so many files")
}

/// A network whose packets its device does not take loses them without a word to anybody.
fn fits(device: &DeviceSpec, backend: &BackendSpec) -> Result<(), Failure> {
    let BackendSpec::User { id, config } = backend else { return Ok(()) };
    let options: serde_json::Value = serde_json::from_str(&device.config_json).unwrap_or_default();
    // By its name: to the board it is an option like any other.
    match options["mtu"].as_u64() {
        Some(mtu) if mtu < u64::from(config.mtu) => {
            let what = format!("packets of network \"{id}\" have up to {} bytes", config.mtu);
            let help = format!("give both the same `mtu`: --set device.{}.mtu={}", device.id, config.mtu);
            Err(Failure::config(format!("{what}, and device \"{}\" takes {mtu}", device.id)).help(help))
        }
        Some(_) | None => Ok(()),
    }
}

fn net_ports(board: &Board) -> impl Iterator<Item = (&DeviceSpec, usize)> {
    board.devices.iter().flat_map(|device| {
        let ports = device.desc.ports.iter().enumerate();
        ports.filter(|(_, port)| port.kind == PortKind::Net).map(move |(index, _)| (device, index))
    })
}

/// What the board connects a port to.
fn board_name(device: &DeviceSpec, port: usize) -> Option<&str> {
    device.ports.get(port).and_then(Option::as_deref)
}

/// `at_port`: what the board connects the port to, which is the network that is meant where none is named.
fn argument_backend(argument: &str, board: &Board, at_port: Option<&str>) -> Result<BackendSpec, Failure> {
    let bad = |why: String| Failure::usage(why).at(format!("--net {argument}"));
    if argument == "user" || argument.starts_with("user,") {
        let wrong = |problems: &[Problem]| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bad(all.join("; "))
        };
        let alias = Alias::parse(argument).map_err(|found| wrong(&[found]))?;
        let table = |id: &str| board.networks.iter().find(|network| network.id == id);
        let id = alias.id.as_deref().or(at_port.filter(|name| table(name).is_some())).unwrap_or("user0");
        let settings = match table(id) {
            // Such as the policy that the board has for it.
            Some(network) => serde_json::from_str(&network.config_json)
                .map_err(|error| Failure::config(format!("network \"{id}\": {error}")))?,
            None => Settings::default(),
        };
        let config = alias.over(settings).map_err(|problems| wrong(&problems))?;
        return Ok(BackendSpec::user(id, config));
    }
    BackendSpec::parse_net(argument)
        .map_err(|why| bad(why).help(format!("networks: {NET_FORMS}, user[,hostfwd=…]")))
}

fn board_backend(board: &Board, device: &DeviceSpec, port: usize) -> Result<BackendSpec, Failure> {
    let name = board_name(device, port);
    let Some(network) = board.networks.iter().find(|network| Some(network.id.as_str()) == name) else {
        return Ok(BackendSpec::Null);
    };
    let config = read(&network.config_json).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(|p| format!("`{}`: {}", p.path, p.message)).collect();
        Failure::config(format!("network \"{}\": {}", network.id, all.join("; ")))
    })?;
    Ok(BackendSpec::user(&network.id, config))
}

/// Recordings and snapshots have a copy of the board, with networks that this run does not use. Those that were made
/// with a password in it can still be replayed, as a replay has no network.
fn keeps_its_passwords(board: &Board) -> Result<(), Failure> {
    for network in &board.networks {
        // What is wrong with it otherwise is said where it is used.
        let proxies = read(&network.config_json).map(|config| config.proxies).unwrap_or_default();
        if let Some((name, _)) = proxies.iter().find(|(_, source)| source.shows_password()) {
            return Err(Failure::config(format!("the password of proxy \"{name}\" stands in the board"))
                .at(format!("net.{}.proxies.{name}", network.id))
                .note(
                    "every recording and snapshot has a copy of the board, and would give the password away",
                )
                .help(format!(
                    "write the URL into a file that only you can read, and {name} = \"file:PATH\""
                )));
        }
    }
    Ok(())
}

fn read(config_json: &str) -> Result<Config, Vec<ConfigError>> {
    let mut deserializer = serde_json::Deserializer::from_str(config_json);
    Config::read(&mut deserializer).map_err(|problems| {
        let error = |problem: Problem| {
            // Where it stands in text that nobody has written.
            let what = problem.what.split(" at line ").next().unwrap_or_default().to_owned();
            let message = problem.help.iter().fold(what, |what, help| format!("{what}; {help}"));
            ConfigError { path: problem.at, message }
        };
        problems.into_iter().map(error).collect()
    })
}

/// What is wrong with a `[net.NAME]` table.
pub(crate) fn check(config_json: &str) -> Vec<ConfigError> {
    read(config_json).err().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_of_a_recorded_run_is_spared() {
        let folder = std::env::temp_dir().join(format!("reprise-captures-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let plan = |file: &Path| {
            let text = format!("{{ \"capture\": {{ \"file\": {file:?} }} }}");
            let config = read(&text).unwrap();
            let backend = BackendSpec::user("user0", config);
            PortPlan { device: "net0".to_owned(), port: "net".to_owned(), backend, framed: true }
        };
        for (name, there, wanted) in [
            ("new.pcapng", vec![], "new.pcapng"),
            ("old.pcapng", vec!["old.pcapng"], "old-2.pcapng"),
            ("more.pcapng", vec!["more.pcapng", "more-2.pcapng"], "more-3.pcapng"),
            ("bare", vec!["bare"], "bare-2"),
        ] {
            there.iter().for_each(|name| fs::write(folder.join(name), b"x").unwrap());
            let mut plans = [plan(&folder.join(name))];
            let told = spare_captures(&mut plans);
            let BackendSpec::User { config, .. } = &plans[0].backend else { panic!("{plans:?}") };
            assert_eq!(config.capture.as_ref().unwrap().file, folder.join(wanted));
            assert_eq!(told.contains(wanted), wanted != name, "{told}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
