//! HTTP CONNECT: RFC 9110 §9.3.6, messages of RFC 9112, Basic of RFC 7617.

use super::{Destination, Protocol, ProxyError, Step};

pub(super) struct Connect {
    request: Vec<u8>,
}

impl Connect {
    pub(super) fn new(login: Option<&(String, String)>, to: &Destination) -> Self {
        let authority = match to {
            // IPv6 addresses print with brackets.
            Destination::Address(address) => address.to_string(),
            Destination::Name(name, port) => format!("{name}:{port}"),
        };
        let mut text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some((user, password)) = login {
            let basic = base64(format!("{user}:{password}").as_bytes());
            text.push_str(&format!("Proxy-Authorization: Basic {basic}\r\n"));
        }
        text.push_str("\r\n");
        Self { request: text.into_bytes() }
    }
}

impl Protocol for Connect {
    fn begin(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.request)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, ProxyError> {
        // Something else than HTTP is known by its first bytes; waiting for its end could be long.
        let expected = b"HTTP/1.";
        let length = bytes.len().min(expected.len());
        if bytes[..length] != expected[..length] {
            return Err(ProxyError::Protocol("no HTTP"));
        }
        let Some(end) = head_end(bytes) else { return Ok(Step::More) };
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        // HTTP/1.x SP code SP reason
        let code = line.get(8..12).filter(|part| part[0] == b' ').map(|part| &part[1..]);
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        match code {
            // An interim answer; the real one follows.
            Some(100..=199) => Ok(Step::Say(end, Vec::new())),
            // Content-Length and Transfer-Encoding mean nothing here (RFC 9110 §9.3.6).
            Some(200..=299) => Ok(Step::Done(end)),
            Some(401 | 407) => Err(ProxyError::Login),
            Some(502 | 503) => Err(ProxyError::Refused),
            Some(504) => Err(ProxyError::Unreachable),
            Some(code) => Err(ProxyError::Forbidden(format!("status {code}"))),
            None => Err(ProxyError::Protocol("no status")),
        }
    }
}

/// Behind the empty line. A line may end without a carriage return (RFC 9112 §2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    let breaks = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    breaks.clone().find_map(|at| match bytes.get(at + 1..) {
        Some([b'\n', ..]) => Some(at + 2),
        Some([b'\r', b'\n', ..]) => Some(at + 3),
        Some(_) | None => None,
    })
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn base64_as_the_rfc_has_it() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
