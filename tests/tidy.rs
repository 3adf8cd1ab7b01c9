//! The repository's own rules, as tests: dependencies, `unsafe` islands, sizes, names. Each has a test that it bites.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program that reads the repository"
)]

#[path = "tidy/source.rs"]
mod source;

use source::{File, repository, root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A function longer than this is several.
const FUNCTION_LINES: usize = 70;
/// A file longer than this is several.
const FILE_LINES: usize = 1000;
const LINE_CHARS: usize = 120;

/// What is longer than that, how long it was when it was let in, and why. These numbers may only shrink; a row whose
/// subject has become short enough must go.
const LONG: &[(&str, usize, &str)] = &[(
    "host/cpu/src/run.rs:execute",
    99,
    "the interpreter's loop: one match over the instruction table, which must not be cut",
)];

/// Where `unsafe` may be written, as prefixes of paths.
const ISLANDS: &[&str] = &[
    "host/cpu/src/ram.rs",
    "host/cpu/src/jit",
    "host/machine/src/plugin",
    "host/check/src/table.rs",
    "host/check/src/watch",
    // They break rules on purpose, some of which safe code cannot.
    "tests/plugins/bad/examples",
    "plugin-api/src/ctx.rs",
    "plugin-api/src/export.rs",
    "plugin-api/src/observe/shim.rs",
    "plugin-api/src/outside.rs",
    "plugin-api/src/testkit",
];

/// Which of our crates each may depend on; a trailing `*` stands for any ending.
const ARROWS: &[(&str, &[&str])] = &[
    ("reprise", &["reprise-machine", "reprise-net", "reprise-check"]),
    ("reprise-check", &["reprise-machine", "reprise-abi"]),
    ("reprise-machine", &["reprise-cpu", "reprise-replay", "reprise-abi"]),
    ("reprise-cpu", &[]),
    ("reprise-replay", &[]),
    ("reprise-net", &[]),
    ("reprise-abi", &[]),
    ("reprise-plugin-derive", &[]),
    ("reprise-plugin-api", &["reprise-abi", "reprise-plugin-derive"]),
    ("reprise-plugin-*", &["reprise-plugin-api"]),
    // Tests may look at anything.
    ("reprise-tests", &["reprise*"]),
];

/// What must not enter the deterministic side: it is not a function of state and log.
const NONDETERMINISTIC: &[&str] =
    &["rand", "getrandom", "fastrand", "tokio", "rayon", "chrono", "time", "ahash"];

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "configs",
    "docs",
    "host",
    "plugin-api",
    "plugins",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];

fn holds(rule: fn(&[File]) -> Vec<String>) {
    let found = rule(&repository());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn bites(rule: fn(&[File]) -> Vec<String>, path: &str, text: &str, expected: &str) {
    let found = rule(&[File::new(path, text)]);
    assert!(
        found.iter().any(|line| line.contains(expected)),
        "{path} should break the rule ({expected}): {found:?}"
    );
}

fn passes(rule: fn(&[File]) -> Vec<String>, path: &str, text: &str) {
    let found = rule(&[File::new(path, text)]);
    assert!(found.is_empty(), "{path} should be fine: {found:?}");
}

// ------------------------------------------------------------------------------------------------- dependencies

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// The first row that fits: the exact names stand before the pattern that would also take them.
fn arrows_of(name: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, to)| *to)
}

/// Every dependency table of a manifest: normal, dev, build, and per target.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            names.extend(table.keys().cloned());
        } else if key == "target" {
            names.extend(table.values().filter_map(|target| target.as_table()).flat_map(dependencies));
        }
    }
    names
}

fn dependency_arrows(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest: toml::Table = file.text.parse().expect("cargo has read it already");
        let Some(name) = manifest.get("package").and_then(|package| package.get("name")?.as_str()) else {
            continue;
        };
        let Some(allowed) = arrows_of(name) else {
            found.push(format!("{}: {name} has no row in ARROWS", file.path));
            continue;
        };
        for to in dependencies(&manifest) {
            if to.starts_with("reprise") && !allowed.iter().any(|pattern| matches(pattern, &to)) {
                found.push(format!("{}: {name} must not depend on {to}", file.path));
            }
            let outside = ["reprise", "reprise-net", "reprise-tests"].contains(&name);
            if !outside && NONDETERMINISTIC.contains(&to.as_str()) {
                found.push(format!("{}: {to} is not deterministic", file.path));
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_along_the_arrows() {
    holds(dependency_arrows);
    let manifest = |name: &str, table: &str| format!("[package]\nname = \"{name}\"\n{table}");
    let net = manifest("reprise-machine", "[dependencies]\nreprise-net.workspace = true\n");
    bites(dependency_arrows, "host/machine/Cargo.toml", &net, "must not depend on reprise-net");
    let dev = manifest(
        "reprise-plugin-x",
        "[target.'cfg(unix)'.dev-dependencies]\nreprise-machine.workspace = true\n",
    );
    bites(dependency_arrows, "plugins/x/Cargo.toml", &dev, "must not depend on reprise-machine");
    bites(dependency_arrows, "host/y/Cargo.toml", &manifest("y", ""), "no row");
    bites(
        dependency_arrows,
        "host/cpu/Cargo.toml",
        &manifest("reprise-cpu", "[dependencies]\nrand = \"1\"\n"),
        "rand",
    );
    passes(
        dependency_arrows,
        "host/cli/Cargo.toml",
        &manifest("reprise", "[dependencies]\nreprise-net = \"1\"\n"),
    );
}

/// `std` modules by which the outside would leak into the deterministic crates.
fn inside_is_sealed(files: &[File]) -> Vec<String> {
    const SEALED: &[&str] =
        &["host/cpu/src/", "host/machine/src/", "host/replay/src/", "plugin-api/src/", "plugins/"];
    /// Backends and observers are outside: files, sockets and clocks are what they are for.
    const OUTSIDE: &[&str] = &["plugins/sensor-feed/", "plugins/observe-"];
    const BANNED: &[&str] = &["fs", "net", "time", "env", "thread", "process"];
    let mut found = Vec::new();
    let is_in = |file: &File, places: &[&str]| places.iter().any(|at| file.path.starts_with(at));
    for file in files.iter().filter(|file| file.is_rust() && is_in(file, SEALED) && !is_in(file, OUTSIDE)) {
        // Loading a plugin and rooting tests in files is the host's business, done where it must be.
        let loads_plugins = file.path.starts_with("host/machine/src/plugin");
        for (number, line) in file.shipped_code().lines().enumerate() {
            let std_module = BANNED.iter().find(|module| names_std_module(line, module));
            if let Some(module) =
                std_module.filter(|module| !(loads_plugins && ["fs", "env"].contains(*module)))
            {
                found.push(format!("{}:{}: std::{module} in a deterministic crate", file.path, number + 1));
            }
            if line.contains("HashMap") || line.contains("HashSet") {
                found.push(format!("{}:{}: hash order is random; BTreeMap or Vec", file.path, number + 1));
            }
        }
    }
    found
}

/// Whether a line says `std::module` or imports it in a group, `use std::{module, …}`.
fn names_std_module(line: &str, module: &str) -> bool {
    let path = format!("std::{module}");
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if line.match_indices(&path).any(|(at, _)| ends(&line[at + path.len()..])) {
        return true;
    }
    let Some((_, group)) = line.split_once("std::{") else { return false };
    group
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .any(|word| word.split("::").next() == Some(module))
}

#[test]
fn the_inside_reads_no_clock_file_socket_or_environment() {
    holds(inside_is_sealed);
    for line in ["use std::time::Duration;", "use std::{fmt, env};", "let t = std::thread::yield_now();"] {
        bites(inside_is_sealed, "host/machine/src/x.rs", line, "in a deterministic crate");
    }
    bites(inside_is_sealed, "plugins/x/src/lib.rs", "use std::collections::HashMap;", "hash order");
    passes(
        inside_is_sealed,
        "host/machine/src/x.rs",
        "use std::{fmt, net_of};\n// std::fs\nlet s = \"std::fs\";",
    );
    passes(
        inside_is_sealed,
        "host/machine/src/x.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n}\n",
    );
    passes(inside_is_sealed, "host/cli/src/x.rs", "use std::fs;");
    passes(inside_is_sealed, "plugins/observe-x/src/lib.rs", "use std::fs;");
}

// ------------------------------------------------------------------------------------------------- unsafe

/// Whether a line of code opens something unsafe. A type that merely says `unsafe extern "C" fn(…)` does not.
fn opens_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let before = line[..at].chars().next_back();
        let rest = line[at + word.len()..].trim_start();
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && !line[at + word.len()..].starts_with('_');
        let is_type = rest.starts_with("extern") && rest.contains("fn(");
        is_word && !is_type
    })
}

fn unsafe_stays_on_islands(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in
        files.iter().filter(|file| file.is_rust() && !ISLANDS.iter().any(|at| file.path.starts_with(at)))
    {
        for (number, line) in file.code.lines().enumerate() {
            let opens_lint =
                line.contains("unsafe_code") && !line.contains("deny(") && !line.contains("forbid(");
            if opens_unsafe(line) || opens_lint {
                found.push(format!("{}:{}: unsafe outside its islands", file.path, number + 1));
            }
        }
    }
    found
}

#[test]
fn unsafe_is_only_on_its_islands() {
    holds(unsafe_stays_on_islands);
    for line in [
        "let x = unsafe { *p };",
        "unsafe impl Send for X {}",
        "#![expect(unsafe_code)]",
        "#[unsafe(no_mangle)]",
    ] {
        bites(unsafe_stays_on_islands, "host/machine/src/bus.rs", line, "outside its islands");
        passes(unsafe_stays_on_islands, "host/cpu/src/ram.rs", line);
    }
    passes(
        unsafe_stays_on_islands,
        "plugin-api/abi/src/hot.rs",
        "pub f: unsafe extern \"C\" fn(u32),\n// unsafe {",
    );
    passes(unsafe_stays_on_islands, "host/net/src/lib.rs", "#![forbid(unsafe_code)]");
}

/// clippy checks this too; here it also holds inside macros, where clippy does not look.
fn unsafe_says_why(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.code.lines().enumerate() {
            let block = line.contains("unsafe {") || line.trim_start().starts_with("unsafe impl");
            let above = &lines[number.saturating_sub(3)..=number];
            if block && !above.iter().any(|line| line.contains("SAFETY:")) && !comment_above(&lines, number) {
                found.push(format!("{}:{}: unsafe without a SAFETY comment", file.path, number + 1));
            }
        }
    }
    found
}

/// A longer comment that ends right above the line and starts with SAFETY.
fn comment_above(lines: &[&str], number: usize) -> bool {
    let comment = lines[..number].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
    comment.into_iter().any(|line| line.contains("SAFETY:"))
}

#[test]
fn every_unsafe_block_says_why() {
    holds(unsafe_says_why);
    bites(unsafe_says_why, "host/cpu/src/ram.rs", "fn f() {\n    unsafe { g() }\n}\n", "ram.rs:2");
    passes(
        unsafe_says_why,
        "host/cpu/src/ram.rs",
        "    // SAFETY: because.\n    let x =\n        unsafe { g() };\n",
    );
    passes(unsafe_says_why, "host/cpu/src/ram.rs", "// SAFETY: a\n// b\n// c\n// d\n// e\nunsafe { g() };\n");
}

// ------------------------------------------------------------------------------------------------- sizes

/// The functions of a formatted file: name, first line, number of lines. A body ends at its own indent.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = function_name(line) else { continue };
        let end = lines[first..].iter().position(|line| {
            let at = line.len() - line.trim_start().len();
            at == indent && (line.trim_start().starts_with('}') || line.trim_end().ends_with(['}', ';']))
        });
        found.push((name.to_owned(), first + 1, end.unwrap_or(lines.len() - 1 - first) + 1));
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ');
    let name = loop {
        match words.next()? {
            "fn" => break words.next()?,
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" | "unsafe" | "extern" => {}
            word if word.starts_with('"') => {}
            _ => return None,
        }
    };
    name.split(['(', '<']).next()
}

fn sizes(files: &[File], long: &[(&str, usize, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut measured = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        measured.insert(file.path.clone(), (file.text.lines().count(), FILE_LINES));
        for (name, _, lines) in functions(&file.code) {
            let longest = measured.entry(format!("{}:{name}", file.path)).or_insert((0, FUNCTION_LINES));
            longest.0 = longest.0.max(lines);
        }
    }
    for (subject, (lines, limit)) in &measured {
        let row = long.iter().find(|(name, _, _)| name == subject);
        match row {
            None if lines > limit => found.push(format!("{subject}: {lines} lines, the limit is {limit}")),
            Some((_, allowed, _)) if lines > allowed => {
                found.push(format!("{subject}: grew from {allowed} to {lines} lines"))
            }
            Some((_, allowed, _)) if lines <= limit || lines + 20 < *allowed => {
                found
                    .push(format!("{subject}: has shrunk to {lines} lines: lower or remove its row in LONG"));
            }
            None | Some(_) => {}
        }
    }
    let gone = long.iter().filter(|(subject, _, _)| !measured.contains_key(*subject));
    found.extend(gone.map(|(subject, _, _)| format!("{subject}: is gone: remove its row in LONG")));
    found
}

fn sizes_now(files: &[File]) -> Vec<String> {
    sizes(files, LONG)
}

#[test]
fn functions_and_files_stay_short() {
    holds(sizes_now);
    let body = |lines: usize| {
        format!("impl X {{\n    pub fn long(&self) {{\n{}    }}\n}}\n", "        f();\n".repeat(lines))
    };
    let without_rows = |files: &[File]| sizes(files, &[]);
    bites(without_rows, "a.rs", &body(69), "a.rs:long: 71 lines");
    passes(without_rows, "a.rs", &body(68));
    bites(without_rows, "a.rs", &"f();\n".repeat(1001), "a.rs: 1001 lines");
    let long = File::new("a.rs", &body(88));
    let with = |row| sizes(std::slice::from_ref(&long), &[row]);
    assert_eq!(with(("a.rs:long", 90, "")), Vec::<String>::new());
    assert!(with(("a.rs:long", 80, ""))[0].contains("grew"));
    assert!(with(("a.rs:long", 120, ""))[0].contains("shrunk"));
    assert!(with(("b.rs:gone", 90, "")).iter().any(|line| line.contains("gone")));
}

fn line_widths(files: &[File]) -> Vec<String> {
    // Prose in tables cannot be broken; data files are lists.
    let checked =
        |path: &str| [".rs", ".c", ".h", ".S", ".py", ".sh", ".toml"].iter().any(|end| path.ends_with(end));
    let mut found = Vec::new();
    for file in
        files.iter().filter(|file| checked(&file.path) && !file.path.starts_with("tests/bench/guests/"))
    {
        for (number, line) in
            file.text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_CHARS)
        {
            found.push(format!("{}:{}: {} characters", file.path, number + 1, line.chars().count()));
        }
    }
    found
}

#[test]
fn lines_fit_the_screen() {
    holds(line_widths);
    bites(line_widths, "host/a.rs", &format!("// {}\n", "x".repeat(118)), "121 characters");
    passes(line_widths, "host/a.rs", &format!("// {}\n", "é".repeat(117)));
}

// ------------------------------------------------------------------------------------------------- words

fn open_ends(files: &[File]) -> Vec<String> {
    // Spelt apart, so that this file does not break its own rule.
    let (fix, todo) = (concat!("FIX", "ME"), concat!("TO", "DO"));
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            let unnumbered =
                line.match_indices(todo).any(|(at, _)| !line[at + todo.len()..].starts_with("(#"));
            let bare_rule = line.contains(&format!("`{todo}`")) || line.contains(&format!("no {todo}"));
            if line.contains(fix) || (unnumbered && !bare_rule) {
                found.push(format!("{}:{}: an open end without an issue's number", file.path, number + 1));
            }
        }
    }
    found
}

#[test]
fn open_ends_name_their_issue() {
    holds(open_ends);
    bites(open_ends, "a.rs", concat!("// TO", "DO: later\n"), "without an issue");
    bites(open_ends, "a.c", concat!("/* FIX", "ME(#1) */\n"), "without an issue");
    passes(open_ends, "a.rs", concat!("// TO", "DO(#12): later\n"));
}

fn names(files: &[File]) -> Vec<String> {
    const EMPTY: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];
    let mut found = Vec::new();
    for file in files {
        let parts = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
        if parts.into_iter().any(|part| EMPTY.contains(&part)) {
            found.push(format!("{}: a name that says nothing", file.path));
        }
        for (number, line) in file.code.lines().enumerate() {
            let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            let declares = words.windows(2).find(|pair| {
                let kind = ["struct", "enum", "trait", "type", "mod"].contains(&pair[0]);
                kind && (pair[1].ends_with("Manager") || EMPTY.contains(&pair[1]))
            });
            if let Some(pair) = declares {
                found.push(format!("{}:{}: {} says nothing", file.path, number + 1, pair[1]));
            }
        }
    }
    found
}

#[test]
fn names_say_something() {
    holds(names);
    bites(names, "host/cpu/src/util.rs", "", "says nothing");
    bites(names, "host/helpers/src/lib.rs", "", "says nothing");
    bites(names, "a.rs", "pub struct DeviceManager;", "DeviceManager");
    passes(names, "a.rs", "struct Board; // not a Manager\nlet common = 1;");
}

fn foreign_paths(files: &[File]) -> Vec<String> {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("deb.deb", "ian.org"),
        concat!("index.cra", "tes.io"),
    ];
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = banned.iter().find(|path| line.contains(**path)) {
                found.push(format!("{}:{}: {path} belongs to somebody's machine", file.path, number + 1));
            }
        }
    }
    found
}

#[test]
fn nothing_knows_the_machine_it_was_written_on() {
    holds(foreign_paths);
    bites(foreign_paths, "a.md", concat!("see /wo", "rk/main\n"), "somebody's machine");
    passes(foreign_paths, "a.md", "see network/main\n");
}

// ------------------------------------------------------------------------------------------------- completeness

fn plugins_are_used(files: &[File]) -> Vec<String> {
    let plugins: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.strip_prefix("plugins/")?.split('/').next()).collect();
    let any = |start: &str, end: &str, word: &str| {
        files
            .iter()
            .any(|file| file.path.starts_with(start) && file.path.ends_with(end) && file.text.contains(word))
    };
    let mut found = Vec::new();
    for plugin in plugins {
        let is_device = !plugin.starts_with("observe-");
        // A backend is named where its port is.
        let forms = [format!("\"{plugin}\""), format!("plugin:{plugin}")];
        if is_device && !forms.iter().any(|form| any("configs/", ".toml", form)) {
            found.push(format!("plugins/{plugin}: no board in configs/ uses it"));
        }
        let name = plugin.strip_prefix("observe-").unwrap_or(plugin);
        if !any("docs/", ".md", name) && !any("README.md", "", name) {
            found.push(format!("plugins/{plugin}: no page in docs/ speaks of it"));
        }
    }
    found
}

#[test]
fn every_plugin_is_on_a_board_and_in_the_docs() {
    holds(plugins_are_used);
    let plugin = || File::new("plugins/uart/src/lib.rs", "");
    let board = File::new("configs/a.toml", "plugin = \"uart\"\n");
    let page = File::new("docs/a.md", "The uart.");
    assert!(plugins_are_used(&[plugin(), File::new("docs/b.md", "uart")])[0].contains("no board"));
    assert!(
        plugins_are_used(&[plugin(), File::new("configs/b.toml", "plugin = \"uart\"")])[0]
            .contains("no page")
    );
    assert!(plugins_are_used(&[plugin(), board, page]).is_empty());
}

/// Where the links of a page lead, without what is on the net and places within pages.
fn links(page: &File) -> impl Iterator<Item = &str> {
    let targets = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.map(|target| target.split('#').next().unwrap_or_default())
}

fn pages_are_linked(files: &[File]) -> Vec<String> {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let pages = files.iter().filter(|file| file.path.ends_with(".md"));
    let mut found = Vec::new();
    let mut in_the_book = BTreeSet::new();
    for page in pages.clone() {
        for link in links(page) {
            let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
            let to = folder.join(link).to_string_lossy().into_owned();
            if !known.contains(to.as_str())
                && !files.iter().any(|file| file.path.starts_with(&format!("{to}/")))
            {
                found.push(format!("{}: the link {link} leads nowhere", page.path));
            }
            if page.path == "docs/SUMMARY.md" {
                in_the_book.insert(to);
            }
        }
    }
    let missing = pages.filter(|page| page.path.starts_with("docs/") && page.path != "docs/SUMMARY.md");
    let missing = missing.filter(|page| !in_the_book.contains(&page.path));
    found.extend(missing.map(|page| format!("{}: not in docs/SUMMARY.md", page.path)));
    found
}

#[test]
fn links_lead_somewhere_and_every_page_is_in_the_book() {
    holds(pages_are_linked);
    bites(pages_are_linked, "docs/a.md", "see [b](b.md)", "the link b.md leads nowhere");
    bites(pages_are_linked, "docs/a.md", "", "not in docs/SUMMARY.md");
    let book = File::new("docs/SUMMARY.md", "- [a](x/a.md)");
    let page = File::new("docs/x/a.md", "[b](a.md#there), [c](https://c), [d](#here)");
    assert!(pages_are_linked(&[book, page]).is_empty());
}

#[test]
fn the_top_level_is_as_agreed() {
    let surplus = |files: &[File]| -> BTreeSet<String> {
        let names = files.iter().map(|file| file.path.split('/').next().unwrap_or_default().to_owned());
        names.filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect()
    };
    assert_eq!(
        surplus(&repository()),
        BTreeSet::new(),
        "not among the agreed top-level entries of {}",
        root().display()
    );
    assert_eq!(surplus(&[File::new("notes.txt", "")]), BTreeSet::from(["notes.txt".to_owned()]));
}
