//! How a recording begins, beside the machine: its contents are written, then the log's first record, then the
//! manifest, each on the disk before the next. What has a manifest replays.

use super::{
    Hash, Manifest, blob_name,
    queue::Waiter,
    recorder::{publish, write_once},
};
use crate::{durable, failure::reason};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

/// A beginning that is under way, or over.
pub(super) struct Beginning {
    thread: Option<JoinHandle<()>>,
    /// Why it failed.
    failure: Arc<Mutex<Option<String>>>,
}

/// What has to be done.
pub(super) struct Work {
    pub(super) path: PathBuf,
    pub(super) contents: Vec<(Hash, Vec<u8>)>,
    pub(super) manifest: Manifest,
    pub(super) log: Waiter,
}

impl Beginning {
    /// Start. `failed` is called if it cannot be done.
    pub(super) fn start(work: Work, failed: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        let thread = std::thread::Builder::new().name("reprise-begin".into()).spawn(move || {
            if let Err(why) = work.carry_out() {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                failed();
            }
        })?;
        Ok(Self { thread: Some(thread), failure })
    }

    /// Why it failed, if it has by now.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wait until it is over. Why it failed, if it did.
    pub(super) fn wait(&mut self) -> Result<(), String> {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Work {
    fn carry_out(self) -> Result<(), String> {
        let Self { path, contents, manifest, log } = self;
        let cannot = |error: io::Error| reason(&error);
        for (hash, bytes) in contents {
            write_once(&path.join(blob_name(&hash)), &bytes).map_err(cannot)?;
        }
        durable::sync_folder(&path.join("blobs")).map_err(cannot)?;
        log.begun().map_err(|error| error.to_string())?;
        publish(&path, &manifest).map_err(cannot)?;
        durable::sync_folder(durable::folder_of(&path)).map_err(cannot)
    }
}
