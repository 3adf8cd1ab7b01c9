//! `reprise plugin new`: a crate with a small device that works, to be changed into another.

use crate::{failure::Failure, inspect, observe};
use clap::{Args, ValueEnum};
use std::{
    env, fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The package that a device is written against.
const API: &str = "reprise-plugin-api";
/// The longest name: a board's ids are as long.
const MAX_NAME: usize = 32;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The device's name: small letters, digits and single dashes, such as `acme-timer`
    name: String,
    /// What the device is made of
    #[arg(long, value_enum, default_value = "mmio")]
    kind: Kind,
    /// The folder to make; default: NAME, here
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Where reprise-plugin-api is: a folder, a git URL, or a version of a registry; default: the checkout that
    /// this program was built in, or else its version
    #[arg(long, value_name = "WHERE")]
    api: Option<String>,
}

/// What a device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Registers of its own
    Mmio,
    /// A virtio device
    Virtio,
}

/// The files: path, whether it is run, and the parts of its text.
type Template = [(&'static str, bool, &'static [&'static str])];

macro_rules! template {
    ($($path:literal $run:literal $($part:literal)+;)*) => {
        &[$(($path, $run, &[$(include_str!(concat!("../template/", $part))),+])),*]
    };
}

impl Kind {
    fn template(self) -> &'static Template {
        match self {
            Self::Mmio => template! {
                "src/lib.rs" false "mmio.rs.in";
                "src/tests.rs" false "mmio-tests.rs.in";
                "board.toml" false "board-head.in" "board-mmio.in";
                "README.md" false "README-mmio.in" "README-tail.in";
            },
            Self::Virtio => template! {
                "src/lib.rs" false "virtio.rs.in";
                "src/tests.rs" false "virtio-tests.rs.in";
                "board.toml" false "board-head.in" "board-virtio.in";
                "README.md" false "README-virtio.in" "README-tail.in";
            },
        }
    }
}

/// What both kinds have.
const BOTH: &Template = template! {
    "Cargo.toml" false "Cargo.toml.in";
    "clippy.toml" false "clippy.toml.in";
    "rustfmt.toml" false "rustfmt.toml.in";
    "reprise-check.toml" false "reprise-check.toml.in";
    "ci" true "ci.in";
    ".github/workflows/ci.yml" false "workflow.in";
    ".gitignore" false "gitignore.in";
};

impl NewArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        check_name(&self.name)?;
        let api = self.api()?;
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        make_folder(&folder)?;
        for (path, run, parts) in self.kind.template().iter().chain(BOTH) {
            let text = self.filled(&parts.concat(), &api);
            write(&folder.join(path), &text, *run)
                .map_err(|error| Failure::io(format!("cannot write {path}"), &error).at(folder.display()))?;
        }
        let file = self.name.replace('-', "_");
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        inspect::out(&format!(
            "{} is there. Next:\n  cd {}\n  cargo test\n  cargo build --release\n  reprise plugin check \
             {}/release/libreprise_plugin_{file}.so\n",
            self.name,
            shell_word(&folder.display().to_string()),
            target.display()
        ))
    }

    fn filled(&self, text: &str, api: &str) -> String {
        let (file, id) = (self.name.replace('-', "_"), format!("{}0", self.name));
        [("{{name}}", self.name.as_str()), ("{{file}}", &file), ("{{id}}", &id), ("{{api}}", api)]
            .iter()
            .fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value))
    }

    /// How the manifest says where the API is.
    fn api(&self) -> Result<String, Failure> {
        let Some(place) = &self.api else {
            let found = env::current_exe().ok().as_deref().and_then(checkout);
            let version = || format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
            return Ok(found.map_or_else(version, |path| in_folder(&path)));
        };
        let is_version = place.starts_with(|c: char| c.is_ascii_digit())
            && place.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
        if place.contains("://") {
            return Ok(format!("git = {}", quoted(place)));
        }
        if is_version && !Path::new(place).exists() {
            return Ok(format!("version = {}", quoted(place)));
        }
        let path = Path::new(place);
        let found = [path.to_owned(), path.join("plugin-api")].into_iter().find(|path| is_api(path));
        let path = found.and_then(|path| path.canonicalize().ok());
        path.map(|path| in_folder(&path)).ok_or_else(|| {
            Failure::usage(format!("there is no {API}"))
                .at(format!("--api {place}"))
                .note("`--api` takes a folder with it or with a checkout of Reprise, a git URL, or a version")
                .help(format!("the folder has a Cargo.toml with `name = \"{API}\"`"))
        })
    }
}

fn in_folder(path: &Path) -> String {
    format!("path = {}", quoted(&path.display().to_string()))
}

/// As a word of a shell's command line.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The API of the checkout that a program was built in.
fn checkout(program: &Path) -> Option<PathBuf> {
    program.ancestors().skip(1).map(|folder| folder.join("plugin-api")).find(|path| is_api(path))
}

fn is_api(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.parse::<toml::Table>().is_ok_and(|manifest| {
        manifest.get("package").and_then(|package| package.get("name")?.as_str()) == Some(API)
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let bad = |why: &str| {
        Err(Failure::usage(format!("a device cannot be called \"{name}\""))
            .note(why)
            .help("small letters, digits and single dashes, such as `acme-timer`"))
    };
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return bad("a name begins with a small letter");
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        return bad(&format!("{c:?} cannot be in a name"));
    }
    if name.ends_with('-') || name.contains("--") {
        return bad("a dash stands between two other characters");
    }
    if observe::is_named_so(name) {
        return bad(
            "a plugin whose name begins with `observe-` is taken for an observer, and this is a device",
        );
    }
    // The board calls the first of them NAME0.
    if name.len() >= MAX_NAME {
        return bad(&format!("a name has at most {} characters", MAX_NAME - 1));
    }
    // The package would be taken for the crate that it needs.
    if name == API || name == "test" || name == "core" || name == "std" {
        return bad("a package of this name is there already");
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage("the folder is there already")
            .at(folder.display())
            .help("choose another with --path FOLDER, or remove it"),
        ErrorKind::NotFound => Failure::io("cannot make the folder", &error)
            .at(folder.display())
            .help("the folder that it is to be in must be there"),
        _ => Failure::io("cannot make the folder", &error).at(folder.display()),
    })
}

fn write(path: &Path, text: &str, run: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)?;
    if run {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be() {
        for name in ["a", "acme-timer", "x1-2", "observer"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "A", "1a", "a_b", "a/b", "a--b", "a-", "ä", "std", &"x".repeat(32), API, "observe-x"]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_shell_takes_the_folder_as_one_word() {
        for (text, word) in [("a-b/c.d", "a-b/c.d"), ("a b/c", "'a b/c'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn no_mark_is_left() {
        for kind in [Kind::Mmio, Kind::Virtio] {
            let args = NewArgs { name: "a-b".into(), kind, path: None, api: Some("1.2".into()) };
            assert_eq!(args.api().unwrap(), "version = \"1.2\"");
            for (path, _, parts) in kind.template().iter().chain(BOTH) {
                let text = args.filled(&parts.concat(), "version = \"1\"");
                assert!(!text.contains("{{"), "{path}");
            }
        }
    }
}
