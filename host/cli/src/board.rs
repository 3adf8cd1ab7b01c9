//! From the command line to a resolved board.

use crate::{args::MachineArgs, failure::Failure};
use reprise_machine::board::{self, Board, Catalog, Override};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// The board of a command line that names none.
const VIRT: &str = include_str!("../../../configs/virt.toml");
/// Its name in messages.
const VIRT_NAME: &str = "<embedded virt.toml>";
/// A board is a page of text; more is a mistake in the file's name.
const MAX_BYTES: u64 = 4 << 20;

/// Read, override and check the board.
pub(crate) fn load(args: &MachineArgs, catalog: &dyn Catalog) -> Result<Board, Failure> {
    let overrides = overrides(args)?;
    if let Some(name) = args.machine.as_deref().filter(|name| name.split(',').next() != Some("virt")) {
        return Err(Failure::usage(format!("no machine \"{name}\""))
            .at(format!("-machine {name}"))
            .note("`-machine` knows the embedded board, virt; others are TOML files")
            .help("`reprise run BOARD.toml`"));
    }
    let (name, text) = match &args.board {
        None => (VIRT_NAME.to_owned(), VIRT.to_owned()),
        Some(path) => (path.display().to_string(), read(path)?),
    };
    board::parse(&name, &text, &overrides, catalog).map_err(|diagnostics| Failure::board(diagnostics, &text))
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: &std::io::Error| Failure::io("cannot read the board", error).at(path.display());
    let bad = |why: &str| Failure::config("this file is no board").at(path.display()).note(why);
    // Asked before it is opened: a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(|e| failed(&e))?.is_file() {
        return Err(bad("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| failed(&e))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(
            bad("it is larger than 4 MiB").help("to boot a file, give it with --kernel or --firmware")
        );
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err(bad("it is an ELF file").help("to boot it, give it with --kernel or --firmware"));
    }
    String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8 text"))
}

/// The aliases first, so that `--set` has the last word.
fn overrides(args: &MachineArgs) -> Result<Vec<Override>, Failure> {
    let mut all = Vec::new();
    let mut put = |key: &str, value: String| all.push(Override { key: key.to_owned(), value });
    if let Some(memory) = &args.memory {
        put("machine.ram.size", quoted(&ram_size(memory)?));
    }
    if let Some(smp) = &args.smp {
        put("machine.harts", harts(smp)?);
    }
    if let Some(append) = &args.append {
        put("machine.bootargs", quoted(append));
    }
    for argument in &args.set {
        let change = Override::parse(argument).ok_or_else(|| {
            Failure::usage("`--set` needs a key and a value")
                .at(format!("--set {argument}"))
                .help("write --set KEY=VALUE, such as machine.harts=4 or device.uart0.pins.irq=plic.irq.11")
        })?;
        all.push(change);
    }
    Ok(all)
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// QEMU's `-m`: MiB if no unit is given.
fn ram_size(text: &str) -> Result<String, Failure> {
    let plain = text.strip_prefix("size=").unwrap_or(text);
    let (digits, unit) = plain.split_at(plain.find(|c: char| !c.is_ascii_digit()).unwrap_or(plain.len()));
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" | "M" | "MB" | "MIB" => "M",
        "K" | "KB" | "KIB" => "K",
        "G" | "GB" | "GIB" => "G",
        "T" | "TB" | "TIB" => "T",
        _ => "",
    };
    if digits.is_empty() || unit.is_empty() {
        return Err(Failure::usage("this is no size of RAM")
            .at(format!("-m {text}"))
            .help("write -m 512M or -m 2G"));
    }
    Ok(format!("{digits}{unit}"))
}

/// QEMU's `-smp`: a number, or `cpus=N` with a topology, which harts do not have.
fn harts(text: &str) -> Result<String, Failure> {
    let mut parts = text.split(',');
    let cpus =
        parts.find_map(|part| part.strip_prefix("cpus=").or(Some(part)).filter(|part| !part.contains('=')));
    match cpus.and_then(|cpus| cpus.parse::<u32>().ok()) {
        Some(harts) => Ok(harts.to_string()),
        None => {
            Err(Failure::usage("this is no number of harts").at(format!("-smp {text}")).help("write -smp 4"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: MachineArgs) -> Vec<(String, String)> {
        overrides(&args).unwrap().into_iter().map(|change| (change.key, change.value)).collect()
    }

    #[test]
    fn aliases_become_overrides_and_set_comes_last() {
        let args = MachineArgs {
            memory: Some("256".into()),
            smp: Some("cpus=4,sockets=1".into()),
            append: Some("a=\"b\\c\"".into()),
            set: vec!["machine.harts=2".into()],
            ..MachineArgs::default()
        };
        let expected = [
            ("machine.ram.size", "\"256M\""),
            ("machine.harts", "4"),
            ("machine.bootargs", "\"a=\\\"b\\\\c\\\"\""),
            ("machine.harts", "2"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(of(args), expected);
    }

    #[test]
    fn sizes_and_harts() {
        assert_eq!(ram_size("size=2G").unwrap(), "2G");
        assert_eq!(ram_size("512MiB").unwrap(), "512M");
        for bad in ["", "G", "1T2", "-1"] {
            assert!(ram_size(bad).is_err(), "{bad}");
        }
        for bad in ["", "x", "sockets=1", "-1"] {
            assert!(harts(bad).is_err(), "{bad}");
        }
    }
}
