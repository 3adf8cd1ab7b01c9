//! From what is kept to a recording on the disk.

use super::ring::Cut;
use crate::{
    disk::unnamed_file,
    failure::{Exit, Failure, reason},
    io::grouped,
    rebuild::Start,
    recording::{EndRow, Hash, Manifest, Recorder},
};
use reprise_machine::{Status, replay::RecordSink};
use std::{
    fs,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// What boots and the plugins, as they were when the run began: by the time that somebody wants them, their files may
/// be others. In a file without a name, so that they take no memory.
pub(super) struct Contents {
    file: File,
    /// Where each begins and how long it is.
    rows: Vec<(Hash, u64, usize)>,
}

impl Contents {
    pub(super) fn keep<'a>(all: impl IntoIterator<Item = (Hash, &'a [u8])>) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::io("cannot keep boot images and plugins for the flight recorder", &error)
                .at("TMPDIR, /var/tmp")
        };
        let mut file = unnamed_file().map_err(failed)?;
        let (mut rows, mut at) = (Vec::new(), 0);
        for (hash, bytes) in all {
            file.write_all(bytes).map_err(failed)?;
            rows.push((hash, at, bytes.len()));
            at += bytes.len() as u64;
        }
        Ok(Self { file, rows })
    }

    fn read(&self) -> io::Result<Vec<(Hash, Vec<u8>)>> {
        let read = |(hash, at, len): &(Hash, u64, usize)| {
            let mut bytes = vec![0; *len];
            self.file.read_exact_at(&mut bytes, *at)?;
            Ok((*hash, bytes))
        };
        self.rows.iter().map(read).collect()
    }
}

/// What every recording of a run is made of.
pub(super) struct Source {
    pub(super) manifest: Manifest,
    pub(super) contents: Contents,
    /// Where recordings go that nobody has named.
    pub(super) folder: PathBuf,
}

/// A recording that was saved.
pub(super) struct Saved {
    pub(super) path: PathBuf,
    /// Where it begins: instructions and virtual time.
    pub(super) from: (u64, u64),
    pub(super) to: Status,
    pub(super) log_bytes: u64,
}

impl Saved {
    /// For the user. `why`: what made us save it.
    pub(super) fn words(&self, why: &str) -> String {
        let (icount, vtime_ns) = self.from;
        let path = self.path.display();
        format!(
            "reprise: {why}: the flight recorder saved the last {} instructions, {:.6} s of virtual time\n\
             reprise: to see them again: reprise replay {path}\n",
            grouped(self.to.icount - icount),
            (self.to.vtime_ns - vtime_ns) as f64 / 1e9,
        )
    }
}

impl Source {
    /// Save what was cut off where the machine stands. `path`: where somebody wants it.
    pub(super) fn save(
        &self,
        cut: &Cut,
        path: Option<PathBuf>,
        to: Status,
        end: Option<EndRow>,
    ) -> Result<Saved, Failure> {
        let path = match path {
            Some(path) if is_there(&path) => {
                return Err(Failure::usage("there is something of this name, and nothing is overwritten")
                    .at(path.display()));
            }
            Some(path) => path,
            None => self.free_name(to.icount),
        };
        let contents = self.contents.read().map_err(|error| cannot(&path).note(reason(&error)))?;
        // A clock before 1970 is not set.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest { created_unix_s: now.as_secs(), ..self.manifest.clone() };
        let (mut recorder, sink) = Recorder::create(&path, manifest, contents, false, || ())?;
        if let Err(failure) = write(&mut recorder, Box::new(sink), cut) {
            recorder.discard();
            return Err(failure);
        }
        let log_bytes = recorder.finish(end)?.log_bytes;
        let from = cut.start.as_ref().map_or((0, 0), |start| (start.icount, start.vtime_ns));
        Ok(Saved { path, from, to, log_bytes })
    }

    /// The machine's name and the place; what is there stays.
    fn free_name(&self, icount: u64) -> PathBuf {
        let board: toml::Table = self.manifest.board.parse().unwrap_or_default();
        let machine = board.get("machine").and_then(|machine| machine.get("name")?.as_str());
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let machine: String = machine.unwrap_or("machine").chars().map(plain).collect();
        let name = |number: u32| match number {
            1 => format!("{machine}.flight-{icount}.rec"),
            _ => format!("{machine}.flight-{icount}-{number}.rec"),
        };
        let mut paths = (1..).map(|number| self.folder.join(name(number)));
        paths.find(|path| !is_there(path)).expect("a folder does not have every name")
    }
}

/// The sink goes at the end, so that the recorder can be finished or discarded.
fn write(recorder: &mut Recorder, mut sink: Box<dyn RecordSink>, cut: &Cut) -> Result<(), Failure> {
    if let Some(start) = &cut.start {
        let Start { snapshot, icount, vtime_ns, .. } = &**start;
        recorder.start(snapshot, *icount, *vtime_ns)?;
    }
    // What keeps it from being written, the recorder tells when it is finished.
    drop(cut.for_each(|record| sink.push(record)));
    recorder.begin()
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn cannot(path: &Path) -> Failure {
    Failure::new(Exit::Io, "the flight recorder cannot save").at(path.display())
}
