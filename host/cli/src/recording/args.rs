//! The commands that need no machine: `info`, `log`, `pack`, `unpack`.

use super::{DiskRow, Filter, Store, pack};
use crate::{
    disk::{DiskFacts, ImageBlocks, ImageFacts},
    failure::{Failure, reason},
    io::grouped,
    run::say,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// The recording: a folder, or a file that `reprise pack` made
    #[arg(value_name = "RUN.rec")]
    recording: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The recording: a folder, or a file that `reprise pack` made
    #[arg(value_name = "RUN.rec")]
    recording: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PackArgs {
    /// The recording
    #[arg(value_name = "RUN.rec")]
    recording: PathBuf,
    /// The file to make
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the image of a disk is now
    #[arg(long, value_name = "ID=FILE")]
    disk: Vec<String>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnpackArgs {
    /// The packed recording
    #[arg(value_name = "FILE")]
    packed: PathBuf,
    /// The folder to make
    #[arg(short, long, value_name = "RUN.rec")]
    output: PathBuf,
    /// Replace a recording that is there
    #[arg(long)]
    force: bool,
}

impl InfoArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        super::info(&self.recording, self.json)
    }
}

impl LogArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        super::log(&self.recording, &self.filter, self.json)
    }
}

impl PackArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let store = Store::open(&self.recording)?;
        super::check_source(&self.recording, &self.output, self.force)?;
        let moved = moved_disks(&self.disk, &store.manifest().disks, "recording")?;
        let mut images = BTreeMap::new();
        let packed = pack::pack(&store, &self.output, self.force, &mut |disk, block| {
            let image = match images.entry((disk.device.clone(), disk.port.clone())) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(none) => {
                    none.insert(ImageBlocks::open(&facts(disk, moved.get(&disk.device))?)?)
                }
            };
            image.read(block).map_err(|error| {
                Failure::io(format!("cannot read the image of disk \"{}\"", disk.device), &error)
                    .note(reason(&error))
            })
        })?;
        let torn = packed.torn.map_or_else(String::new, |tail| {
            format!("reprise: the recording was interrupted, and packed to its last record ({tail})\n")
        });
        say(&format!(
            "{torn}reprise: packed into {}, {} bytes; it replays anywhere: reprise replay {0}\n",
            self.output.display(),
            grouped(packed.size_bytes)
        ));
        Ok(0)
    }
}

impl UnpackArgs {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let store = Store::open(&self.packed)?;
        super::check_source(&self.packed, &self.output, self.force)?;
        pack::unpack(&store, &self.output, self.force)?;
        Ok(0)
    }
}

/// Where images are now, by device: the values of `--disk`.
pub(crate) fn moved_disks(
    arguments: &[String],
    disks: &[DiskRow],
    of: &str,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut moved = BTreeMap::new();
    for argument in arguments {
        let bad =
            |why: &str| Failure::usage(why).at(format!("--disk {argument}")).help("write --disk ID=FILE");
        let (id, file) = argument.split_once('=').ok_or_else(|| bad("no `=` in it"))?;
        if !disks.iter().any(|disk| disk.device == id) {
            let all: Vec<&str> = disks.iter().map(|disk| disk.device.as_str()).collect();
            let has = if all.is_empty() { " none".to_owned() } else { format!(": {}", all.join(", ")) };
            return Err(bad(&format!("the {of} has no such disk")).note(format!("it has{has}")));
        }
        if moved.insert(id.to_owned(), PathBuf::from(file)).is_some() {
            return Err(bad("this disk is given twice"));
        }
    }
    Ok(moved)
}

/// What makes the disk of a recording again, with its image perhaps in another place.
pub(crate) fn facts(disk: &DiskRow, moved: Option<&PathBuf>) -> Result<DiskFacts, Failure> {
    let image = match &disk.file {
        None => None,
        Some(file) => {
            let format = crate::disk::Format::parse(disk.format.as_deref().unwrap_or("raw"))
                .map_err(|why| super::corrupt(Path::new(super::MANIFEST), why))?;
            let path = moved.cloned().unwrap_or_else(|| PathBuf::from(file));
            Some(ImageFacts { path, format, backing: disk.backing })
        }
    };
    Ok(DiskFacts { id: disk.device.clone(), size_bytes: disk.size_bytes, read_only: disk.read_only, image })
}
