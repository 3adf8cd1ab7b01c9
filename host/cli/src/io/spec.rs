//! Backends of ports as text: `stdio`, `null`, `pty`, `file:P`, `unix:P`, `tcp:HOST:PORT`.

use crate::options;
use reprise_machine::plugin::BackendPlugin;
use reprise_net::Config;
use std::{fmt, path::PathBuf};

/// The host's end of a chr or net port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BackendSpec {
    /// The terminal, or whatever standard input and output are.
    Stdio,
    /// Nobody.
    Null,
    /// A new pseudo terminal.
    Pty,
    /// Output only.
    File(PathBuf),
    /// A socket in the file system; `connect`: somebody else listens.
    Unix {
        /// Its path.
        path: PathBuf,
        /// We connect to it.
        connect: bool,
    },
    /// A TCP port of this host; `connect`: of any host.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// We connect to it.
        connect: bool,
    },
    /// The outside half of a plugin.
    Plugin(PluginSpec),
    /// A user network, of a net port.
    User {
        /// Its name on the board.
        id: String,
        /// What it is like.
        config: Box<Config>,
    },
}

/// A plugin's backend.
#[derive(Clone, Debug)]
pub(crate) struct PluginSpec {
    /// The plugin.
    pub(crate) name: String,
    /// Its options as they were given.
    pub(crate) options: Vec<(String, Option<String>)>,
    /// Once the plugin is loaded: it, and the options as JSON.
    pub(crate) loaded: Option<(BackendPlugin, String)>,
}

impl PartialEq for PluginSpec {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.options) == (&other.name, &other.options)
    }
}

/// For messages.
pub(crate) const FORMS: &str =
    "stdio, null, pty, file:PATH, unix:PATH[,connect], tcp:HOST:PORT[,connect], plugin:NAME[,OPTION=VALUE]";

/// Those of net ports, for messages; a user network is given in other ways.
pub(crate) const NET_FORMS: &str = "null, unix:PATH[,connect], tcp:HOST:PORT[,connect]";

impl BackendSpec {
    /// A user network.
    pub(crate) fn user(id: &str, config: Config) -> Self {
        Self::User { id: id.to_owned(), config: Box::new(config) }
    }

    /// Of a net port, from text.
    pub(crate) fn parse_net(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            spec @ (Self::Null | Self::Unix { .. } | Self::Tcp { .. }) => Ok(spec),
            Self::Stdio | Self::Pty | Self::File(_) | Self::Plugin(_) | Self::User { .. } => {
                Err(format!("\"{text}\" carries bytes, and a net port frames"))
            }
        }
    }

    /// From text; `console` is the name by which boards mean the user's terminal.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("stdio" | "console", None) => Ok(Self::Stdio),
            ("null" | "none", None) => Ok(Self::Null),
            ("pty", None) => Ok(Self::Pty),
            ("file", Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            ("unix", Some(rest)) => {
                let (path, connect) = connect_option(rest)?;
                if path.is_empty() {
                    return Err("the socket's path is empty".into());
                }
                Ok(Self::Unix { path: path.into(), connect })
            }
            ("tcp", Some(rest)) => tcp(rest),
            ("plugin", Some(rest)) => plugin(rest),
            ("plugin", None) => Err("the plugin's name is missing: write plugin:NAME".into()),
            ("file", _) => Err("the file's name is missing".into()),
            ("unix" | "tcp", None) => Err(format!("an address is missing after `{kind}:`")),
            _ => Err(format!("no backend \"{text}\"")),
        }
    }

    /// Whether input can come from it.
    pub(crate) fn may_answer(&self) -> bool {
        match self {
            Self::Stdio | Self::Pty | Self::Unix { .. } | Self::Tcp { .. } | Self::Plugin(_) => true,
            // A user network says so itself, from moment to moment.
            Self::Null | Self::File(_) | Self::User { .. } => false,
        }
    }
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |connect: &bool| if *connect { ",connect" } else { "" };
        match self {
            Self::Stdio => f.write_str("stdio"),
            Self::Null => f.write_str("null"),
            Self::Pty => f.write_str("pty"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Unix { path, connect } => write!(f, "unix:{}{}", path.display(), how(connect)),
            Self::Tcp { address, connect } => write!(f, "tcp:{address}{}", how(connect)),
            Self::Plugin(spec) => {
                write!(f, "plugin:{}", spec.name)?;
                spec.options.iter().try_for_each(|(name, value)| match value {
                    Some(value) => write!(f, ",{name}={value}"),
                    None => write!(f, ",{name}"),
                })
            }
            Self::User { id, config: _ } => write!(f, "user,id={id}"),
        }
    }
}

fn connect_option(text: &str) -> Result<(&str, bool), String> {
    match text.split_once(',') {
        None => Ok((text, false)),
        Some((rest, "connect")) => Ok((rest, true)),
        Some((_, option)) => Err(format!("no socket option \"{option}\"; there is `connect`")),
    }
}

fn plugin(text: &str) -> Result<BackendSpec, String> {
    let mut words = text.split(',');
    let name = words.next().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("the plugin's name is missing: write plugin:NAME".into());
    }
    let option = |word: &str| match options::pair(word) {
        ("", _) => Err(format!("\"{word}\" is no option: write NAME=VALUE")),
        (name, value) => Ok((name.to_owned(), value.map(str::to_owned))),
    };
    let options = words.map(option).collect::<Result<_, _>>()?;
    Ok(BackendSpec::Plugin(PluginSpec { name, options, loaded: None }))
}

fn tcp(text: &str) -> Result<BackendSpec, String> {
    let (address, connect) = connect_option(text)?;
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    if port.parse::<u16>().is_err() {
        return Err(format!("\"{port}\" is not a TCP port"));
    }
    // Whoever wants to be reached from other machines says so.
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(BackendSpec::Tcp { address: format!("{host}:{port}"), connect })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let unix = BackendSpec::Unix { path: "/x/y".into(), connect: true };
        let tcp = BackendSpec::Tcp { address: "127.0.0.1:5".into(), connect: false };
        let tcp6 = BackendSpec::Tcp { address: "[::1]:5".into(), connect: true };
        let options = vec![("path".into(), Some("/x".into())), ("loud".into(), None)];
        let plugin = BackendSpec::Plugin(PluginSpec { name: "feed".into(), options, loaded: None });
        assert_eq!(plugin.to_string(), "plugin:feed,path=/x,loud");
        for (text, expected) in [
            ("stdio", BackendSpec::Stdio),
            ("console", BackendSpec::Stdio),
            ("null", BackendSpec::Null),
            ("pty", BackendSpec::Pty),
            ("file:a:b", BackendSpec::File("a:b".into())),
            ("unix:/x/y,connect", unix),
            ("tcp::5", tcp.clone()),
            ("tcp:5", tcp),
            ("tcp:[::1]:5,connect", tcp6),
            ("plugin:feed,path=/x,loud", plugin),
        ] {
            assert_eq!(BackendSpec::parse(text), Ok(expected), "{text}");
        }
        for bad in ["", "stdio:", "file:", "file", "unix:", "tcp:host", "tcp:h:70000", "unix:/x,server", "vc"]
        {
            assert!(BackendSpec::parse(bad).is_err(), "{bad}");
        }
    }
}
