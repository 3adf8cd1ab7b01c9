//! TFTP on the wire: requests and errors. RFC 1350 §5, RFC 2347.

use crate::service::numbered::numbered;

/// The longest path that is looked at.
const PATH_MOST: usize = 255;
/// More options than there are.
const OPTIONS_MOST: usize = 16;

numbered! {
    /// RFC 1350 §5, and 6 of RFC 2347.
    pub(super) enum Opcode: u16 {
        Read = 1,
        Write = 2,
        Data = 3,
        Acknowledgement = 4,
        Error = 5,
        OptionsAccepted = 6,
    }
}

impl Opcode {
    /// The opcode and what is behind it.
    pub(super) fn of(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (code, rest) = bytes.split_first_chunk()?;
        Some((Self::from_number(u16::from_be_bytes(*code))?, rest))
    }
}

/// RFC 1350, appendix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    Undefined = 0,
    NotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
}

pub(super) fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut out = vec![0, Opcode::Error as u8, 0, code as u8];
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out
}

/// A request to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Names with slashes between them, none empty, `.` or `..`.
    pub(super) path: String,
    /// 8 to 65464.
    pub(super) block_bytes: Option<u16>,
    pub(super) wants_size: bool,
    /// 1 to 255.
    pub(super) timeout_s: Option<u8>,
    /// At least 1.
    pub(super) window: Option<u16>,
}

/// What to answer to what is no request to read; nothing, if it is none at all.
type Refused = Option<(ErrorCode, &'static str)>;

impl Request {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let rest = match Opcode::of(bytes) {
            Some((Opcode::Read, rest)) => rest,
            Some((Opcode::Write, _)) => {
                return Err(Some((ErrorCode::AccessViolation, "nothing can be written here")));
            }
            // An error is never answered, and the others belong to no transfer.
            Some((Opcode::Data | Opcode::Acknowledgement | Opcode::Error | Opcode::OptionsAccepted, _))
            | None => {
                return Err(None);
            }
        };
        let illegal = Some((ErrorCode::IllegalOperation, "the request cannot be read"));
        // What is behind the last zero is no string.
        let whole = rest.iter().rposition(|byte| *byte == 0).ok_or(illegal)?;
        let mut words = rest[..whole].split(|byte| *byte == 0);
        let path = words.next().ok_or(illegal)?;
        let mode = words.next().ok_or(illegal)?;
        if !mode.eq_ignore_ascii_case(b"octet") {
            return Err(Some((
                ErrorCode::IllegalOperation,
                "only mode octet is served: say `mode octet` or `binary`",
            )));
        }
        let path = clean_path(path).ok_or(Some((ErrorCode::AccessViolation, "no such path can be")))?;
        let mut request = Self { path, block_bytes: None, wants_size: false, timeout_s: None, window: None };
        for _ in 0..OPTIONS_MOST {
            let (Some(name), Some(value)) = (words.next(), words.next()) else { break };
            request.take_option(name, value);
        }
        Ok(request)
    }

    /// What is not understood is not accepted, which is how a client learns of it.
    fn take_option(&mut self, name: &[u8], value: &[u8]) {
        let digits = value.len() <= 10 && !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = || std::str::from_utf8(value).ok().filter(|_| digits)?.parse::<u64>().ok();
        match name.to_ascii_lowercase().as_slice() {
            b"blksize" if self.block_bytes.is_none() => {
                self.block_bytes =
                    number().filter(|size| (8..=65_464).contains(size)).map(|size| size as u16);
            }
            b"tsize" => self.wants_size |= number().is_some(),
            b"timeout" if self.timeout_s.is_none() => {
                self.timeout_s = number().filter(|time| (1..=255).contains(time)).map(|time| time as u8);
            }
            b"windowsize" if self.window.is_none() => {
                self.window = number().filter(|size| (1..=65_535).contains(size)).map(|size| size as u16);
            }
            _ => {}
        }
    }
}

/// The path without slashes at its beginning and doubled ones. `None`: it leads out, or no file has such a name.
fn clean_path(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok().filter(|path| path.len() <= PATH_MOST)?;
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let plain = |name: &&str| *name != "." && *name != ".." && !name.contains(char::is_control);
    (!names.is_empty() && names.iter().all(plain)).then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Request, Refused> {
        let mut bytes = vec![0, 1];
        words.iter().for_each(|word| bytes.extend_from_slice(&[word.as_bytes(), &[0]].concat()));
        Request::parse(&bytes)
    }

    #[test]
    fn requests_with_their_options() {
        let plain = read(&["a/b.img", "octet"]).unwrap();
        let wanted = Request {
            path: "a/b.img".to_owned(),
            block_bytes: None,
            wants_size: false,
            timeout_s: None,
            window: None,
        };
        assert_eq!(plain, wanted);
        let options =
            ["/b", "OCTET", "BlkSize", "1468", "tsize", "0", "timeout", "3", "windowsize", "8", "x", "y"];
        let full = read(&options).unwrap();
        assert_eq!((full.path.as_str(), full.block_bytes, full.wants_size), ("b", Some(1468), true));
        assert_eq!((full.timeout_s, full.window), (Some(3), Some(8)));
    }

    #[test]
    fn options_that_make_no_sense_are_not_accepted() {
        for (name, value) in [
            ("blksize", "7"),
            ("blksize", "65465"),
            ("blksize", "-1"),
            ("blksize", "+9"),
            ("blksize", ""),
            ("timeout", "0"),
            ("timeout", "256"),
            ("windowsize", "0"),
            ("windowsize", "65536"),
            ("tsize", "x"),
            ("blksize", "99999999999999999999"),
        ] {
            let plain = read(&["a", "octet"]).unwrap();
            assert_eq!(read(&["a", "octet", name, value]).unwrap(), plain, "{name} {value}");
        }
        assert_eq!(read(&["a", "octet", "blksize", "8", "blksize", "9"]).unwrap().block_bytes, Some(8));
        assert_eq!(read(&["a", "octet", "blksize"]).unwrap().block_bytes, None);
    }

    #[test]
    fn paths_lead_down_only() {
        for (path, clean) in [("a", "a"), ("//a//b", "a/b"), ("/a/", "a"), ("..a/...", "..a/..."), ("ä", "ä")]
        {
            assert_eq!(read(&[path, "octet"]).unwrap().path, clean);
        }
        let long = "x".repeat(256);
        for path in ["", "/", "..", "a/..", "../a", "a/../b", ".", "a/./b", "a\nb", "\u{7f}", &long] {
            let refused = Some((ErrorCode::AccessViolation, "no such path can be"));
            assert_eq!(read(&[path, "octet"]), Err(refused), "{path}");
        }
    }

    #[test]
    fn the_rest_is_refused_or_not_answered() {
        let code = |bytes: &[u8]| Request::parse(bytes).unwrap_err().map(|(code, _)| code);
        assert_eq!(code(b"\0\x02a\0octet\0"), Some(ErrorCode::AccessViolation));
        for bytes in
            [b"\0\x01".as_slice(), b"\0\x01a", b"\0\x01a\0", b"\0\x01a\0octet", b"\0\x01a\0netascii\0"]
        {
            assert_eq!(code(bytes), Some(ErrorCode::IllegalOperation), "{bytes:?}");
        }
        for bytes in
            [b"".as_slice(), b"\0", b"\0\x03\0\x01x", b"\0\x04\0\0", b"\0\x05\0\0\0", b"\0\x06", b"\x01\0"]
        {
            assert_eq!(code(bytes), None, "{bytes:?}");
        }
        assert_eq!(code(b"\0\x01\xff\0octet\0"), Some(ErrorCode::AccessViolation));
    }
}
