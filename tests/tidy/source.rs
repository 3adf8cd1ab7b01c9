//! The repository as the rules see it: its text files, and Rust with comments and strings blanked out.

use std::path::Path;

/// One text file.
pub(crate) struct File {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Rust only: the text with comments and the insides of literals turned to blanks, line by line the same length.
    pub(crate) code: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether this file exists only for tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code before an in-file `#[cfg(test)] mod`, which by our style ends the file.
    pub(crate) fn shipped_code(&self) -> &str {
        if self.is_test() {
            return "";
        }
        match self.code.find("#[cfg(test)]\nmod tests {") {
            Some(end) => &self.code[..end],
            None => &self.code,
        }
    }
}

/// Every text file that is not ignored; `.gitignore`'s lines with a leading slash are all the ignoring that we do.
pub(crate) fn repository() -> Vec<File> {
    let root = root();
    let ignored: Vec<String> = std::fs::read_to_string(root.join(".gitignore"))
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix('/').map(|path| path.trim_end_matches('/').to_owned()))
        .chain([".git".to_owned()])
        .collect();
    let mut files = Vec::new();
    walk(&root, "", &ignored, &mut files);
    assert!(
        files.len() > 50,
        "the walk found only {} files: it is not looking at the repository",
        files.len()
    );
    files
}

/// The repository's root folder.
pub(crate) fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(root: &Path, folder: &str, ignored: &[String], files: &mut Vec<File>) {
    let mut names: Vec<(String, bool)> = std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.file_type().unwrap().is_dir()))
        .collect();
    names.sort();
    for (name, is_folder) in names {
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if ignored.contains(&path) {
            continue;
        }
        if is_folder {
            walk(root, &path, ignored, files);
        } else if let Ok(text) = String::from_utf8(std::fs::read(root.join(&path)).unwrap()) {
            files.push(File::new(&path, &text));
        }
    }
}

/// A lexer just good enough for Rust: it tells code from comments, strings and character literals.
fn code_of(text: &str) -> String {
    let source = text.as_bytes();
    let mut code = Vec::with_capacity(source.len());
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let (kept, end) = match rest[0] {
            b'/' if rest.starts_with(b"//") => (0, line_end(rest)),
            b'/' if rest.starts_with(b"/*") => (0, block_comment_end(rest)),
            b'"' => (1, string_end(rest)),
            b'r' if raw_string_hashes(rest).is_some() && !ends_in_word(&code) => (1, raw_string_end(rest)),
            b'\'' => (1, char_end(rest)),
            _ => (1, 1),
        };
        code.extend_from_slice(&rest[..kept]);
        code.extend(rest[kept..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at += end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn ends_in_word(code: &[u8]) -> bool {
    code.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment_end(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_end(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// How many `#` a raw string literal that starts here has.
fn raw_string_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(rest: &[u8]) -> usize {
    let hashes = raw_string_hashes(rest).unwrap();
    let close = format!("\"{}", "#".repeat(hashes));
    let body = &rest[2 + hashes..];
    let length =
        body.windows(close.len()).position(|window| window == close.as_bytes()).unwrap_or(body.len());
    (2 + hashes + length + close.len()).min(rest.len())
}

/// The end of a character literal, or just the quote if this is a lifetime.
fn char_end(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(rest.len(), |length| length + 4);
    }
    // One character may be up to four bytes; a lifetime has no closing quote there.
    let close = rest.iter().skip(2).take(4).position(|byte| *byte == b'\'');
    match close {
        Some(0) => 3,
        Some(length) if rest[1] >= 0x80 => length + 3,
        _ => 1,
    }
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"unsafe\"; // unsafe\nlet b = r#\"unsafe \" \"#; /* unsafe /* x */ */ let c = '\"'; \\
                f::<'a>(b'\\'', 'é')\n";
    let code = code_of(text);
    assert!(!code.contains("unsafe"), "{code}");
    assert!(code.contains("let c = ") && code.contains("f::<'a>("), "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
}
