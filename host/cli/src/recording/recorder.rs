//! Writing a recording.

use super::{
    EndRow, FORMAT_OF_START, Hash, MANIFEST, Manifest, ParentRow, SNAPSHOTS, START, StartRow,
    beginning::{Beginning, Work},
    folder::{self, Folder},
    queue::{self, QueueSink, Writing},
    segment_name, start_name,
};
use crate::{
    durable,
    failure::{Exit, Failure, reason},
    snapshots::{Facts, RecordingRow, StoreWriter},
};
use reprise_machine::Snapshot;
use reprise_machine::replay::log::{LogError, LogWriter, RunId, Sink, Sizes};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A recording in the making. What has reached the folder stays readable whatever happens to this process.
pub(crate) struct Recorder {
    path: PathBuf,
    folder: Folder,
    manifest: Manifest,
    writing: Writing,
    /// What is written when it begins.
    contents: Vec<(Hash, Vec<u8>)>,
    beginning: Option<Beginning>,
    /// Called when nothing more can be written.
    failed: Arc<dyn Fn() + Send + Sync>,
}

/// What became of a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved {
    pub(crate) log_bytes: u64,
}

impl Recorder {
    /// Make the folder and start the thread that writes the log. Returns the gate's end, too. `failed` is called when
    /// nothing more can be written. `contents`, and what it is a recording by, are written when it
    /// [begins](Self::begin).
    pub(crate) fn create(
        path: &Path,
        mut manifest: Manifest,
        contents: Vec<(Hash, Vec<u8>)>,
        force: bool,
        failed: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, QueueSink), Failure> {
        let folder = Folder::make(path, force)?;
        let failed: Arc<dyn Fn() + Send + Sync> = Arc::new(failed);
        let made = Self::fill(path, &mut manifest, Arc::clone(&failed));
        let (writing, sink) = match made {
            Ok(made) => made,
            Err(failure) => {
                folder.discard();
                return Err(failure);
            }
        };
        let path = path.to_owned();
        Ok((Self { path, folder, manifest, writing, contents, beginning: None, failed }, sink))
    }

    fn fill(
        path: &Path,
        manifest: &mut Manifest,
        failed: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<(Writing, QueueSink), Failure> {
        let cannot = |error: &io::Error| cannot_make(path).note(reason(error));
        let run_id = draw_run_id().map_err(|e| cannot(&e))?;
        manifest.run_id = run_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        for folder in ["log", "blobs"] {
            folder::builder().create(path.join(folder)).map_err(|e| cannot(&e))?;
        }
        let sink = Segments { path: path.to_owned(), file: None };
        let writer = LogWriter::create(sink, run_id, Sizes::default())
            .map_err(|error| cannot_make(path).note(error.to_string()))?;
        let started = queue::start(writer, move || failed());
        started.map(|(sink, writing)| (writing, sink)).map_err(|e| cannot(&e))
    }

    /// It begins with this snapshot, which is on the disk when this returns. To be called before it has
    /// [begun](Self::begin).
    pub(crate) fn start(&mut self, snapshot: &Snapshot, icount: u64, vtime_ns: u64) -> Result<(), Failure> {
        let manifest = &self.manifest;
        let facts = Facts {
            created_unix_ms: manifest.created_unix_s.saturating_mul(1000),
            icount,
            vtime_ns,
            // The seed lies before it.
            recording: Some(RecordingRow { run_id: manifest.run_id.clone(), records: 1 }),
            ..Facts::of_recording(manifest)
        };
        let folder = self.path.join(SNAPSHOTS);
        StoreWriter::create(&folder)?.save(START, snapshot, &facts)?;
        let file = self.path.join(start_name());
        let root = fs::read(&file).map_err(|error| cannot_make(&file).note(reason(&error)))?;
        self.manifest.format = FORMAT_OF_START;
        self.manifest.start = Some(StartRow { icount, vtime_ns, blake3: Hash::of(&root) });
        Ok(())
    }

    /// The gate has pushed the seed: from now on it becomes a recording, beside the machine, also if nothing ends it.
    /// That costs the machine no time, and a run that is killed in its first moments its recording.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        let work = Work {
            path: self.path.clone(),
            contents: std::mem::take(&mut self.contents),
            manifest: self.manifest.clone(),
            log: self.writing.waiter(),
        };
        let failed = Arc::clone(&self.failed);
        let started = Beginning::start(work, move || failed());
        self.beginning = Some(started.map_err(|error| cannot_make(&self.path).note(reason(&error)))?);
        Ok(())
    }

    /// Wait until it is a recording.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        let begun = self.beginning.as_mut().map_or(Ok(()), Beginning::wait);
        begun.map_err(|why| cannot_make(&self.path).note(why))
    }

    /// What it says of the machine.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Why nothing more can be written, if so.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let begun = self.beginning.as_ref().and_then(Beginning::failure);
        let unmade = begun.map(|why| cannot_make(&self.path).note(why));
        unmade.or_else(|| self.writing.failure().map(|error| log_failure(&self.path, &error)))
    }

    /// Note where the run left the one that it replayed.
    pub(crate) fn branch(&mut self, parent: ParentRow) -> Result<(), Failure> {
        self.settle()?;
        self.manifest.parent = Some(parent);
        publish(&self.path, &self.manifest)
            .map_err(|e| Failure::io("cannot go on with the recording", &e).at(self.path.display()))
    }

    /// Wait for the log, then note how it ended. The machine, and with it the gate's end, must be gone. Without an end
    /// the log stays open-ended, and replays to its last record.
    pub(crate) fn finish(mut self, end: Option<EndRow>) -> Result<Saved, Failure> {
        let settled = self.settle();
        let written = self.writing.finish().map_err(|error| log_failure(&self.path, &error));
        match settled {
            Ok(()) => self.folder.keep(),
            Err(failure) => {
                self.folder.discard();
                return Err(failure);
            }
        }
        written?;
        if end.is_some() {
            self.manifest.end = end;
            publish(&self.path, &self.manifest)
                .map_err(|e| Failure::io("cannot finish the recording", &e).at(self.path.display()))?;
        }
        let length = |number| fs::metadata(self.path.join(segment_name(number))).ok().map(|meta| meta.len());
        Ok(Saved { log_bytes: (0..).map_while(length).sum() })
    }

    /// As if it had never been: an older one that it was to replace is there again. The machine must be gone.
    pub(crate) fn discard(mut self) {
        // Nobody wants what is in it, but everything that writes into it has to be over.
        drop(self.settle());
        drop(self.writing.finish());
        self.folder.discard();
    }
}

fn cannot_make(path: &Path) -> Failure {
    Failure::new(Exit::Io, "cannot make the recording").at(path.display())
}

fn log_failure(path: &Path, error: &LogError) -> Failure {
    Failure::new(Exit::Io, "the recording cannot be written any further")
        .at(path.display())
        .note(error.to_string())
        .help("what was recorded before is whole: `reprise replay` goes to its last record")
}

fn draw_run_id() -> io::Result<RunId> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(RunId(id))
}

/// Equal contents are one file.
pub(super) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match durable::make_file(path) {
        Ok(mut file) => file.write_all(bytes).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// At no moment is there half a manifest.
pub(super) fn publish(path: &Path, manifest: &Manifest) -> io::Result<()> {
    durable::publish(&path.join(MANIFEST), manifest.to_text().as_bytes())?;
    durable::sync_folder(path)
}

/// The log's segments as files.
struct Segments {
    path: PathBuf,
    file: Option<File>,
}

impl Segments {
    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no segment was begun"))
    }
}

impl Sink for Segments {
    fn begin(&mut self, number: u32) -> io::Result<()> {
        let path = self.path.join(segment_name(number));
        let mut options = OpenOptions::new();
        self.file = Some(options.append(true).create(true).mode(0o600).open(path)?);
        self.truncate(0)?;
        durable::sync_folder(&self.path.join("log"))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file()?.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }
}
