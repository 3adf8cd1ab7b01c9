//! A stream of JSON objects, cut into messages. Hostile: neither a message nor a mistake makes it grow or panic.

use serde_json::{Deserializer, Map, Value};

/// The longest message.
pub(super) const MESSAGE_BYTES: usize = 64 << 10;

/// What has arrived and is no whole message yet. Objects may follow each other without anything between them.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    bytes: Vec<u8>,
    /// A message was wrong: what follows is skipped up to the end of its line.
    skipping: bool,
    /// Something arrived that may complete a message.
    fresh: bool,
}

impl Splitter {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.fresh |= self.bytes.len() > MESSAGE_BYTES || bytes.iter().any(|byte| b"}]\n".contains(byte));
    }

    /// Longer than any message may be.
    fn is_full(&self) -> bool {
        self.bytes.len() > MESSAGE_BYTES
    }

    /// The next message, or what is wrong with it.
    pub(super) fn next(&mut self) -> Option<Result<Map<String, Value>, String>> {
        if self.skipping {
            self.skip_lines(1);
        }
        let blank = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.bytes.drain(..blank);
        self.fresh &= !self.bytes.is_empty();
        if !self.fresh {
            return None;
        }
        let mut stream = Deserializer::from_slice(&self.bytes).into_iter::<Value>();
        match stream.next()? {
            Ok(value) => {
                let used = stream.byte_offset();
                self.bytes.drain(..used);
                Some(match value {
                    Value::Object(object) => Ok(object),
                    _ => Err("QMP input must be a JSON object".to_owned()),
                })
            }
            Err(error) if error.is_eof() && !self.is_full() => {
                self.fresh = false;
                None
            }
            Err(error) => {
                let why = match error.is_eof() {
                    true => format!("the message is longer than {MESSAGE_BYTES} bytes"),
                    false => format!("JSON parse error: {error}"),
                };
                self.skip_lines(error.line().max(1));
                Some(Err(why))
            }
        }
    }

    /// Drop so many lines, and the rest of the last when it comes.
    fn skip_lines(&mut self, lines: usize) {
        let mut ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = ends.nth(lines - 1).map(|(at, _)| at + 1);
        self.skipping = end.is_none();
        match end {
            Some(end) => drop(self.bytes.drain(..end)),
            None => self.bytes.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Result<String, String>> {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.feed(piece);
            while let Some(next) = splitter.next() {
                out.push(next.map(|object| Value::Object(object).to_string()));
            }
        }
        out
    }

    #[test]
    fn objects_follow_each_other_however_reads_are_cut() {
        let text = b" {\"a\":1}{\"b\":{\"c\":\"}\"}}\r\n\n{\n\"d\":[2]\n}";
        let expected = [r#"{"a":1}"#, r#"{"b":{"c":"}"}}"#, r#"{"d":[2]}"#].map(|text| Ok(text.to_owned()));
        for cut in 0..text.len() {
            assert_eq!(all(&[&text[..cut], &text[cut..]]), expected, "cut at {cut}");
        }
        assert_eq!(all(&text.iter().map(std::slice::from_ref).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_mistake_costs_its_line_and_no_more() {
        for wrong in ["{\"a\":}", "nonsense", "{]", "\u{0}", "[1,2]", "7", "{\"a\":1,}", "{\"\\ud800\":1}"] {
            let out = all(&[format!("{wrong}\n{{\"b\":2}}\n").as_bytes()]);
            assert!(out[0].is_err(), "{wrong}: {out:?}");
            assert_eq!(out.last(), Some(&Ok(r#"{"b":2}"#.to_owned())), "{wrong}: {out:?}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = "[".repeat(20_000) + "\n" + "{\"a\":1}";
        let out = all(&[deep.as_bytes()]);
        assert_eq!(out.len(), 2);
        assert!(out[0].as_ref().is_err_and(|why| why.contains("recursion limit")), "{out:?}");
        let mut splitter = Splitter::default();
        splitter.feed(b"{\"a\":\"");
        let mut mistakes = 0;
        for _ in 0..100 {
            splitter.feed(&[b'x'; 4096]);
            mistakes += usize::from(splitter.next().is_some());
            assert!(splitter.bytes.len() <= MESSAGE_BYTES + 4096);
        }
        assert_eq!(mistakes, 1, "told once");
        splitter.feed(b"\"}\n{}");
        assert_eq!(splitter.next(), Some(Ok(Map::new())));
    }

    #[test]
    fn garbage_is_only_mistakes() {
        let mut state = 1_u64;
        let mut splitter = Splitter::default();
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let alphabet = b"{}[]\":,\\u0e-+. \n\xff\x00atrueexecute";
            let byte = alphabet[(state >> 33) as usize % alphabet.len()];
            splitter.feed(&[byte]);
            while splitter.next().is_some() {}
        }
        assert!(splitter.bytes.len() <= MESSAGE_BYTES + 1);
    }
}
