//! What is forwarded: ports of the host into the guest, addresses of the guest's network out of it. As text in QEMU's
//! form, or as tables.

use crate::address::written_as_text;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// Why a text is no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub(super) String);

/// Who carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl FromStr for Protocol {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            // QEMU lets it be left out.
            "tcp" | "" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(SpecError(format!("`{text}` is no protocol to forward: `tcp`, `udp` or `unix`"))),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port or a range; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// All of them.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// From `first` to `last`; `None` if that is backwards.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest one.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The highest one.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// How many, 1 to 65536.
    #[must_use]
    pub const fn count(&self) -> u32 {
        (self.last - self.first) as u32 + 1
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for Ports {
    type Err = SpecError;

    /// `80` or `8000-8010`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let none = || {
            SpecError(format!("`{text}` is no port: write a number up to 65535, or a range like 8000-8010"))
        };
        let port = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().map_err(|_| none()) } else { Err(none()) }
        };
        let Some((first, last)) = text.split_once('-') else { return Ok(Self::one(port(text)?)) };
        let (first, last) = (port(first)?, port(last)?);
        Self::new(first, last).ok_or_else(|| SpecError(format!("the range of ports `{text}` is backwards")))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// `[ADDRESS]:PORTS`, where the address may be left out.
fn endpoint(text: &str) -> Result<(Option<IpAddr>, Ports), SpecError> {
    let without = || SpecError(format!("`{text}` has no port: write ADDRESS:PORT, or :PORT"));
    if let Some(rest) = text.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or_else(without)?;
        let address = address
            .parse()
            .map_err(|_| SpecError(format!("`{address}` in brackets is no IPv6 address, like [::1]:PORT")))?;
        return Ok((Some(IpAddr::V6(address)), ports.parse()?));
    }
    let (address, ports) = text.rsplit_once(':').ok_or_else(without)?;
    if address.contains(':') {
        return Err(SpecError(format!("`{text}` needs brackets around its IPv6 address, like [::1]:PORT")));
    }
    if address.is_empty() {
        return Ok((None, ports.parse()?));
    }
    let found: Ipv4Addr = address.parse().map_err(|_| {
        SpecError(format!(
            "`{address}` is no address: write numbers like 127.0.0.1, or nothing before the colon"
        ))
    })?;
    Ok((Some(IpAddr::V4(found)), ports.parse()?))
}

/// One address and one port, both given.
fn socket(text: &str) -> Result<SocketAddr, SpecError> {
    let (address, ports) = endpoint(text)?;
    let address = address.ok_or_else(|| SpecError(format!("`{text}` has no address before its port")))?;
    if ports.count() > 1 || ports.first == 0 {
        return Err(SpecError(format!("`{text}` must have one port, which is not 0")));
    }
    Ok(SocketAddr::new(address, ports.first))
}

fn show(f: &mut fmt::Formatter<'_>, address: Option<IpAddr>, ports: Ports) -> fmt::Result {
    match address {
        None => write!(f, ":{ports}"),
        Some(IpAddr::V4(v4)) => write!(f, "{v4}:{ports}"),
        Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:{ports}"),
    }
}

/// Where the host listens for a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an address of the host.
    Inet {
        /// 127.0.0.1 unless it was given: a forward is open to this host alone until somebody asks for more.
        address: IpAddr,
        /// Port 0 alone: the host chooses one and says which.
        ports: Ports,
    },
    /// At a socket in the file system.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

impl FromStr for Listen {
    type Err = SpecError;

    /// `[ADDRESS]:PORTS` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix { path: unix_path(path)? });
        }
        let (address, ports) = endpoint(text)?;
        if ports.count() > 1 && ports.first == 0 {
            return Err(SpecError(format!("`{text}`: a range of ports of the host cannot begin with 0")));
        }
        Ok(Self::Inet { address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), ports })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { address, ports } => show(f, Some(*address), *ports),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A path that fits into a socket's address: 108 bytes with the zero at its end (`unix(7)`).
fn unix_path(path: &str) -> Result<PathBuf, SpecError> {
    match path.len() {
        0 => Err(SpecError("`unix:` has no path".to_owned())),
        1..=107 if !path.contains('\0') => Ok(PathBuf::from(path)),
        _ => Err(SpecError(format!("the path of a unix socket may have 107 bytes, and no zero: `{path}`"))),
    }
}

/// `hostfwd`: what arrives at the host there goes to the guest here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Streams or datagrams.
    pub protocol: Protocol,
    /// Where the host listens.
    pub listen: Listen,
    /// Where in the guest's network; `None`: at the guest's own address, whatever it has.
    pub guest: Option<IpAddr>,
    /// As many as the host's; the first goes to the first.
    pub guest_ports: Ports,
}

impl Forward {
    fn new(protocol: Protocol, listen: Listen, guest: &str) -> Result<Self, SpecError> {
        let (guest, guest_ports) = endpoint(guest)?;
        if guest_ports.first == 0 {
            return Err(SpecError(
                "a port of the guest cannot be 0: write the one its service listens on".to_owned(),
            ));
        }
        let host_ports = match &listen {
            Listen::Inet { ports, .. } => ports.count(),
            Listen::Unix { .. } if protocol == Protocol::Udp => {
                return Err(SpecError(
                    "a unix socket carries streams: it cannot be forwarded as udp".to_owned(),
                ));
            }
            Listen::Unix { .. } => 1,
        };
        if host_ports != guest_ports.count() {
            let guest = guest_ports.count();
            return Err(SpecError(format!(
                "{host_ports} ports of the host cannot go to {guest} of the guest"
            )));
        }
        Ok(Self { protocol, listen, guest, guest_ports })
    }
}

/// How to write one, for messages.
const FORWARD_FORM: &str = "write it like tcp::2222-:22, udp:127.0.0.1:5353-:53, tcp:[::1]:8000-8010-:9000-9010 \
                            or unix:/run/guest.sock-:22";

impl FromStr for Forward {
    type Err = SpecError;

    /// QEMU's `[tcp|udp]:[HOST]:PORTS-[GUEST]:PORTS` or `unix:PATH-[GUEST]:PORT`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = |why: SpecError| SpecError(format!("forward `{text}`: {why}; {FORWARD_FORM}"));
        let (protocol, rest) =
            text.split_once(':').ok_or_else(|| wrong(SpecError("no protocol".to_owned())))?;
        if protocol == "unix" {
            // A path may have hyphens, so the guest's end is behind the last one.
            let (path, guest) = rest.rsplit_once('-').ok_or_else(|| wrong(no_guest()))?;
            let listen = Listen::Unix { path: unix_path(path).map_err(wrong)? };
            return Self::new(Protocol::Tcp, listen, guest).map_err(wrong);
        }
        let protocol = protocol.parse().map_err(wrong)?;
        let (listen, guest) = halves(rest).ok_or_else(|| wrong(no_guest()))?;
        let listen = listen.parse().map_err(wrong)?;
        Self::new(protocol, listen, guest).map_err(wrong)
    }
}

fn no_guest() -> SpecError {
    SpecError("nothing says where it goes in the guest".to_owned())
}

/// Cuts `HOST:8000-8010-GUEST:9000-9010` between the two ends: at the hyphen behind which an address begins.
fn halves(text: &str) -> Option<(&str, &str)> {
    let cuts = text.match_indices('-').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let whole = cuts.filter(|(host, guest)| host.contains(':') && guest.contains(':'));
    // If no cut makes two ends, the one that makes most of them says best what is wrong.
    whole.min_by_key(|(host, guest)| (endpoint(guest).is_err(), endpoint(host).is_err()))
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listen {
            Listen::Inet { .. } => write!(f, "{}:{}-", self.protocol, self.listen)?,
            Listen::Unix { .. } => write!(f, "{}-", self.listen)?,
        }
        show(f, self.guest, self.guest_ports)
    }
}

/// What answers at a forwarded address of the guest's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP service.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// A program for each connection, on its standard input and output: its path and arguments, never a shell's line.
    Command(Vec<String>),
}

impl FromStr for Target {
    type Err = SpecError;

    /// `tcp:ADDRESS:PORT`, `unix:PATH` or `cmd:PROGRAM ARGUMENT…`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let form = "`tcp:ADDRESS:PORT`, `unix:PATH` or `cmd:PROGRAM ARGUMENTS`";
        match text.split_once(':') {
            Some(("tcp", rest)) => Ok(Self::Tcp(socket(rest)?)),
            Some(("unix", path)) => Ok(Self::Unix(unix_path(path)?)),
            Some(("cmd", line)) => {
                let argv: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
                if argv.is_empty() {
                    Err(SpecError("`cmd:` names no program".to_owned()))
                } else {
                    Ok(Self::Command(argv))
                }
            }
            _ => Err(SpecError(format!("`{text}` is no place to forward to: {form}"))),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Command(argv) => write!(f, "cmd:{}", argv.join(" ")),
        }
    }
}

/// `guestfwd`: a TCP service in the guest's network that something of the host stands behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestForward {
    /// Where the guest finds it.
    pub at: SocketAddr,
    /// Who answers.
    pub to: Target,
}

impl FromStr for GuestForward {
    type Err = SpecError;

    /// QEMU's `[tcp]:ADDRESS:PORT-TARGET`, with our targets.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let form = "write it like tcp:10.0.2.100:80-tcp:127.0.0.1:8080";
        let wrong = |why: SpecError| SpecError(format!("guest forward `{text}`: {why}; {form}"));
        let (protocol, rest) =
            text.split_once(':').ok_or_else(|| wrong(SpecError("no protocol".to_owned())))?;
        if !["tcp", ""].contains(&protocol) {
            return Err(wrong(SpecError(format!(
                "`{protocol}` cannot be forwarded out of the guest's network"
            ))));
        }
        let (at, to) =
            rest.split_once('-').ok_or_else(|| wrong(SpecError("nothing says where to".to_owned())))?;
        Ok(Self { at: socket(at).map_err(wrong)?, to: to.parse().map_err(wrong)? })
    }
}

impl fmt::Display for GuestForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp:{}-{}", self.at, self.to)
    }
}

/// The table form of [`Forward`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardTable {
    #[serde(default = "tcp")]
    protocol: String,
    listen: String,
    guest: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

impl TryFrom<ForwardTable> for Forward {
    type Error = SpecError;

    fn try_from(table: ForwardTable) -> Result<Self, SpecError> {
        Self::new(table.protocol.parse()?, table.listen.parse()?, &table.guest)
    }
}

/// The table form of [`GuestForward`]: here a command has its arguments one by one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestForwardTable {
    at: String,
    to: Option<String>,
    command: Option<Vec<String>>,
}

impl TryFrom<GuestForwardTable> for GuestForward {
    type Error = SpecError;

    fn try_from(table: GuestForwardTable) -> Result<Self, SpecError> {
        let to = match (table.to, table.command) {
            (Some(to), None) => to.parse()?,
            (None, Some(argv)) if !argv.is_empty() => Target::Command(argv),
            _ => return Err(SpecError("say either `to` or `command`, and not nothing".to_owned())),
        };
        Ok(Self { at: socket(&table.at)?, to })
    }
}

/// Takes a string or a table, and says what is wrong with either; an untagged enum would only say that neither fits.
struct TextOrTable<Kind, Table>(std::marker::PhantomData<(Kind, Table)>);

impl<'de, Kind, Table> de::Visitor<'de> for TextOrTable<Kind, Table>
where
    Kind: FromStr<Err = SpecError> + TryFrom<Table, Error = SpecError>,
    Table: Deserialize<'de>,
{
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a forward as a string or a table")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Kind, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Kind, A::Error> {
        let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Kind::try_from(table).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTable::<Self, ForwardTable>(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for GuestForward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTable::<Self, GuestForwardTable>(std::marker::PhantomData))
    }
}

impl Serialize for Forward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for GuestForward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let Target::Command(argv) = &self.to else { return serializer.collect_str(self) };
        // Text would lose where one argument ends.
        let mut table = serializer.serialize_struct("GuestForward", 2)?;
        table.serialize_field("at", &self.at.to_string())?;
        table.serialize_field("command", argv)?;
        table.end()
    }
}

written_as_text!(Ports);

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(address: &str, ports: &str) -> Listen {
        Listen::Inet { address: address.parse().unwrap(), ports: ports.parse().unwrap() }
    }

    #[test]
    fn forwards_in_qemus_form() {
        let cases = [
            ("tcp::2222-:22", Protocol::Tcp, inet("127.0.0.1", "2222"), None, "22"),
            (
                ":127.0.0.2:80-10.0.2.15:8080",
                Protocol::Tcp,
                inet("127.0.0.2", "80"),
                Some("10.0.2.15"),
                "8080",
            ),
            ("udp:0.0.0.0:53-:53", Protocol::Udp, inet("0.0.0.0", "53"), None, "53"),
            ("tcp:[::1]:22-[fd00::15]:22", Protocol::Tcp, inet("::1", "22"), Some("fd00::15"), "22"),
            ("tcp::8000-8010-:9000-9010", Protocol::Tcp, inet("127.0.0.1", "8000-8010"), None, "9000-9010"),
            (
                "tcp:[::]:8000-8001-[fd00::1]:1-2",
                Protocol::Tcp,
                inet("::", "8000-8001"),
                Some("fd00::1"),
                "1-2",
            ),
            ("tcp::0-:22", Protocol::Tcp, inet("127.0.0.1", "0"), None, "22"),
            (
                "unix:/run/my-guest-1.sock-:22",
                Protocol::Tcp,
                Listen::Unix { path: "/run/my-guest-1.sock".into() },
                None,
                "22",
            ),
        ];
        for (text, protocol, listen, guest, guest_ports) in cases {
            let guest = guest.map(|address| address.parse().unwrap());
            let wanted = Forward { protocol, listen, guest, guest_ports: guest_ports.parse().unwrap() };
            let read: Forward = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read, wanted, "{text}");
            assert_eq!(read.to_string().parse::<Forward>().unwrap(), wanted, "{read}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_forward_is_said() {
        for (text, why) in [
            ("", "no protocol"),
            ("2222", "no protocol"),
            ("sctp::1-:2", "`sctp` is no protocol"),
            ("tcp::2222", "nothing says where it goes"),
            ("tcp::2222-22", "nothing says where it goes"),
            ("tcp::70000-:22", "`70000` is no port"),
            ("tcp::+22-:22", "`+22` is no port"),
            ("tcp::-:22", "`` is no port"),
            ("tcp::22-:0", "cannot be 0"),
            ("tcp::1-3-:1-2", "3 ports of the host cannot go to 2"),
            ("tcp::9-3-:1-2", "backwards"),
            ("tcp::0-3-:1-4", "cannot begin with 0"),
            ("tcp:::1:22-:22", "needs brackets"),
            ("tcp:[zz]:22-:22", "no IPv6 address"),
            ("tcp:localhost:22-:22", "`localhost` is no address"),
            ("unix:-:22", "no path"),
            ("unix:/x", "nothing says where it goes"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("write it like"), "{text}: {error}");
        }
        let long = format!("unix:/{}-:22", "x".repeat(107));
        assert!(long.parse::<Forward>().unwrap_err().to_string().contains("107 bytes"));
    }

    #[test]
    fn forwards_out_of_the_guests_network() {
        let read = |text: &str| text.parse::<GuestForward>().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let to_tcp = read("tcp:10.0.2.100:80-tcp:[::1]:8080");
        assert_eq!(to_tcp, GuestForward { at: at("10.0.2.100:80"), to: Target::Tcp(at("[::1]:8080")) });
        assert_eq!(read(":[fd00::64]:80-unix:/a-b").to, Target::Unix("/a-b".into()));
        let argv = ["nc", "-U", "/x"].map(str::to_owned).to_vec();
        assert_eq!(read("tcp:10.0.2.100:80-cmd:nc -U  /x").to, Target::Command(argv));
        for (text, why) in [
            ("udp:10.0.2.100:80-tcp:1.1.1.1:1", "`udp` cannot be forwarded"),
            ("tcp::80-tcp:1.1.1.1:1", "no address"),
            ("tcp:10.0.2.100:80", "where to"),
            ("tcp:10.0.2.100:80-chardev0", "no place to forward to"),
            ("tcp:10.0.2.100:80-cmd: ", "names no program"),
            ("tcp:10.0.2.100:0-tcp:1.1.1.1:1", "not 0"),
        ] {
            let error = text.parse::<GuestForward>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn tables_say_the_same() {
        let read = |text: &str| serde_json::from_str::<Forward>(text).map_err(|error| error.to_string());
        let table = read(r#"{"protocol": "udp", "listen": "[::1]:53", "guest": ":53"}"#).unwrap();
        assert_eq!(table, "udp:[::1]:53-:53".parse().unwrap());
        assert_eq!(read(r#"{"listen": "unix:/s", "guest": ":1"}"#).unwrap(), "unix:/s-:1".parse().unwrap());
        assert!(
            read(r#"{"listen": ":1", "guest": ":1", "x": 1}"#).unwrap_err().contains("unknown field `x`")
        );
        assert!(read(r#"{"listen": ":1"}"#).unwrap_err().contains("missing field `guest`"));
        assert!(
            read(r#"{"protocol": "udp", "listen": "unix:/s", "guest": ":1"}"#)
                .unwrap_err()
                .contains("as udp")
        );
        assert!(read("7").unwrap_err().contains("a string or a table"));

        let guest =
            |text: &str| serde_json::from_str::<GuestForward>(text).map_err(|error| error.to_string());
        let command = guest(r#"{"at": "10.0.2.9:1", "command": ["a b", "c"]}"#).unwrap();
        assert_eq!(command.to, Target::Command(vec!["a b".to_owned(), "c".to_owned()]));
        let written = serde_json::to_string(&command).unwrap();
        assert_eq!(guest(&written).unwrap(), command);
        assert!(guest(r#"{"at": "10.0.2.9:1"}"#).unwrap_err().contains("either"));
        assert!(guest(r#"{"at": "10.0.2.9:1", "command": []}"#).unwrap_err().contains("either"));
    }
}
