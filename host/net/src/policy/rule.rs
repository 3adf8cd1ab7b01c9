//! A rule, as boards write it.

use super::Group;
use crate::{
    address::{Cidr, written_as_text},
    config::Ports,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Whose idea a connection was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The guest's.
    #[default]
    Out,
    /// That of somebody who came through a forward.
    In,
}

/// What carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Each of them.
    #[default]
    Any,
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Echo requests of ICMP and ICMPv6.
    Icmp,
}

impl Transport {
    pub(super) const fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp => true,
            Self::Any | Self::Icmp => false,
        }
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets it pass.
    Allow,
    /// Nothing comes back.
    Drop,
    /// A reset or an ICMP error comes back.
    Reject,
    /// Lets it pass through the proxy of that name; for TCP.
    Proxy(String),
}

/// Why a text is no part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl FromStr for Action {
    type Err = RuleError;

    /// `allow`, `drop`, `reject` or `proxy:NAME`.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        match (text, text.strip_prefix("proxy:")) {
            ("allow", _) => Ok(Self::Allow),
            ("drop", _) => Ok(Self::Drop),
            ("reject", _) => Ok(Self::Reject),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Proxy(name.to_owned())),
            _ => Err(RuleError(format!("`{text}` is no action: `allow`, `drop`, `reject` or `proxy:NAME`"))),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Drop => f.write_str("drop"),
            Self::Reject => f.write_str("reject"),
            Self::Proxy(name) => write!(f, "proxy:{name}"),
        }
    }
}

/// A group or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A kind of addresses.
    Group(Group),
    /// These addresses.
    Network(Cidr),
}

impl FromStr for Place {
    type Err = RuleError;

    /// A group's name, an address, or a network.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        if let Some((group, _)) = Group::ALL.iter().find(|(_, name)| *name == text) {
            return Ok(Self::Group(*group));
        }
        if text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') && text.contains(['.', ':']) {
            let network: Cidr = text.parse().map_err(|error| RuleError(format!("{error}")))?;
            return match network.first() {
                std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                    Err(RuleError(format!("`{text}` is an IPv4 address in disguise: write it as one")))
                }
                _ => Ok(Self::Network(network)),
            };
        }
        let names = Group::ALL.map(|(_, name)| format!("`{name}`")).join(", ");
        Err(RuleError(format!("`{text}` is neither a network like 10.1.0.0/16 nor a group: {names}")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Group(group) => {
                let name = Group::ALL.iter().find(|(other, _)| other == group).map_or("", |(_, name)| name);
                f.write_str(name)
            }
        }
    }
}

/// One place or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Places(pub Vec<Place>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> de::Visitor<'de> for OneOrMore {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a group, a network, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Places, E> {
                Ok(Places(vec![text.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Places, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = items.next_element()? {
                    places.push(place);
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// Ports and ranges, separated by commas: `80,443,8000-8010`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(pub Vec<Ports>);

impl PortSet {
    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|ports| ports.contains(port))
    }
}

impl FromStr for PortSet {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let ports =
            text.split(',').map(|part| part.trim().parse().map_err(|error| RuleError(format!("{error}"))));
        Ok(Self(ports.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, ports)| {
            if at > 0 {
                f.write_str(",")?;
            }
            ports.fmt(f)
        })
    }
}

written_as_text!(Action, Place);

impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl de::Visitor<'_> for NumberOrText {
            type Value = PortSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, or a string like \"80,443,8000-8010\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortSet, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<PortSet, E> {
                port.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<PortSet, E> {
                port.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// One rule. What it leaves out matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Out unless it says in.
    #[serde(default)]
    pub direction: Direction,
    /// What carries it.
    #[serde(default)]
    pub protocol: Transport,
    /// The peer: the destination of what goes out, where it comes from of what comes in.
    #[serde(default, alias = "from", skip_serializing_if = "Option::is_none")]
    pub to: Option<Places>,
    /// Out: the peer's ports. In: the guest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortSet>,
    /// What to do.
    pub action: Action,
}
