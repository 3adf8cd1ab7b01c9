//! How an upstream proxy is written: `socks5://[USER:PASSWORD@]HOST:PORT` or `http://…`, or as `file:PATH` where that
//! stands.

use super::SpecError;
use crate::address::written_as_text;
use std::{fmt, path::PathBuf, str::FromStr};

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// RFC 1928.
    Socks5,
    /// `CONNECT` of RFC 9110 §9.3.6.
    Http,
}

/// A proxy that takes the guest's connections.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, if it asks for them.
    pub login: Option<(String, String)>,
}

impl FromStr for Proxy {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        // The text may hold a password, so messages do not repeat it.
        let wrong = |why: &str| {
            SpecError(format!(
                "proxy: {why}; write it like socks5://127.0.0.1:1080 or http://USER:PASSWORD@HOST:PORT"
            ))
        };
        let (kind, rest) = match text.split_once("://") {
            Some(("socks5" | "socks5h", rest)) => (ProxyKind::Socks5, rest),
            Some(("http", rest)) => (ProxyKind::Http, rest),
            Some(_) => return Err(wrong("it must begin with `socks5://` or `http://`")),
            None => return Err(wrong("nothing says what it speaks")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || bare.len() > 253 || (bare == host && host.contains(':')) {
            return Err(wrong("its host is neither a name nor an address"));
        }
        if !bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
            return Err(wrong("its host has a character that no host's name has"));
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("its port is no port"))?;
        let login = login
            .map(|login| read_login(login).ok_or_else(|| wrong("user and password must fit 255 bytes each")));
        Ok(Self { kind, host: bare.to_owned(), port, login: login.transpose()? })
    }
}

/// `USER:PASSWORD`, both with %XX as in a URL. RFC 1929 has a byte for each length; none may be empty there.
fn read_login(text: &str) -> Option<(String, String)> {
    let (user, password) = text.split_once(':')?;
    let (user, password) = (unescape(user)?, unescape(password)?);
    let fits = |text: &String| (1..=255).contains(&text.len()) && !text.contains(['\r', '\n', '\0']);
    (fits(&user) && fits(&password)).then_some((user, password))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl fmt::Display for Proxy {
    /// With its password: this is what a board writes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ProxyKind::Socks5 => "socks5://",
            ProxyKind::Http => "http://",
        })?;
        if let Some((user, password)) = &self.login {
            write!(f, "{}:{}@", escape(user), escape(password))?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    /// Without its password: this is what logs show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.login.as_ref().map(|(user, _)| user);
        write!(f, "Proxy({:?} {}:{} user {login:?})", self.kind, self.host, self.port)
    }
}

/// What a board says of a proxy. Boards are copied into recordings and snapshots, which are given away; so a password
/// stands in a file beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// The proxy itself.
    Url(Proxy),
    /// A file whose only line is its URL. It is read when the network starts, so never in a replay.
    File(PathBuf),
}

impl ProxySource {
    /// Whether a board that says this has a password in it.
    #[must_use]
    pub const fn shows_password(&self) -> bool {
        match self {
            Self::Url(proxy) => proxy.login.is_some(),
            Self::File(_) => false,
        }
    }
}

impl FromStr for ProxySource {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.strip_prefix("file:") {
            Some("") => Err(SpecError("proxy: `file:` needs the path of a file with its URL".to_owned())),
            Some(path) => Ok(Self::File(path.into())),
            None => text.parse().map(Self::Url),
        }
    }
}

impl fmt::Display for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(proxy) => proxy.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

written_as_text!(ProxySource);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_read_and_print() {
        let plain: Proxy = "socks5://127.0.0.1:1080".parse().unwrap();
        assert_eq!((plain.kind, plain.host.as_str(), plain.port), (ProxyKind::Socks5, "127.0.0.1", 1080));
        assert_eq!(plain.login, None);
        let full: Proxy = "http://me:p%40ss%3aw@[fd00::1]:3128/".parse().unwrap();
        assert_eq!((full.kind, full.host.as_str(), full.port), (ProxyKind::Http, "fd00::1", 3128));
        assert_eq!(full.login, Some(("me".to_owned(), "p@ss:w".to_owned())));
        assert_eq!(full.to_string().parse::<Proxy>().unwrap(), full);
        assert!(!format!("{full:?}").contains("ss"));
    }

    #[test]
    fn a_password_stands_in_a_file() {
        let source = |text: &str| text.parse::<ProxySource>();
        let file = source("file:/etc/proxy").unwrap();
        assert_eq!(
            (&file, file.to_string().as_str()),
            (&ProxySource::File("/etc/proxy".into()), "file:/etc/proxy")
        );
        assert!(!file.shows_password() && !source("http://a:1").unwrap().shows_password());
        assert!(source("http://me:secret@a:1").unwrap().shows_password());
        assert!(source("file:").unwrap_err().to_string().contains("needs the path"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, why) in [
            ("127.0.0.1:1080", "nothing says"),
            ("ftp://a:1", "must begin"),
            ("socks5://a", "no port"),
            ("socks5://a:0", "no port"),
            ("socks5://:1", "neither a name"),
            ("socks5://fd00::1:1", "neither a name"),
            ("http://a b:1", "a character"),
            ("http://me@a:1", "must fit"),
            ("http://:secret@a:1", "must fit"),
            ("http://me:secret%0d%0a@a:1", "must fit"),
            ("http://me:secret%zz@a:1", "must fit"),
        ] {
            let error = text.parse::<Proxy>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
