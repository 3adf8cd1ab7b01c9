//! Snapshots by name, of a machine that runs: what they say of it, where they go, and the thread that writes them.
//!
//! The machine stands still for as long as the snapshot in memory takes. What it costs to write it, it does not notice.

use crate::{
    control::{Refusal, Reply},
    failure::{Failure, reason},
    recording::{Hash, PluginRow},
    snapshots::{Facts, Row, Store, StoreWriter},
};
use reprise_machine::{Machine, Snapshot};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

/// Snapshots that wait to be written, at most: they hold memory.
const WAITING: usize = 4;

/// A snapshot by its name. Without a folder it is in the machine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) folder: Option<PathBuf>,
}

/// What can be done beside loading, without waiting for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Save(Tag),
    Delete(Tag),
    /// Those of a folder.
    List(Option<PathBuf>),
}

/// Boot images and plugins, by hash.
pub(crate) type Contents = Vec<(Hash, Vec<u8>)>;
/// Reads those with one of these hashes.
type Read<'a> = dyn Fn(&BTreeSet<Hash>) -> Result<Contents, Failure> + 'a;

/// The snapshots of one machine.
pub(crate) struct Shelf<'a> {
    /// Where they go, if that was said.
    folder: Option<PathBuf>,
    /// What they say alike.
    facts: Facts,
    /// Reads what they need beside what is in them: what has one of these hashes.
    contents: Box<Read<'a>>,
    /// Plugins that have taken the place of others since power-on, by name. Kept, for whoever builds one is at it: his
    /// file is another soon.
    reloaded: BTreeMap<String, (Hash, Rc<Vec<u8>>)>,
    waiting: Arc<AtomicUsize>,
    writer: Option<(mpsc::Sender<Job>, JoinHandle<()>)>,
}

enum What {
    Save { name: String, snapshot: Box<Snapshot>, facts: Box<Facts>, contents: Contents },
    Delete(String),
    List,
}

struct Job {
    folder: PathBuf,
    what: What,
    reply: Reply,
}

impl<'a> Shelf<'a> {
    pub(crate) fn new(
        folder: Option<&Path>,
        facts: Facts,
        contents: impl Fn(&BTreeSet<Hash>) -> Result<Contents, Failure> + 'a,
    ) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            facts,
            contents: Box::new(contents),
            reloaded: BTreeMap::new(),
            waiting: Arc::default(),
            writer: None,
        }
    }

    /// The machine goes on with this build of a plugin.
    pub(crate) fn reloaded(&mut self, row: PluginRow, bytes: Rc<Vec<u8>>) {
        self.reloaded.insert(row.name.clone(), (row.blake3, bytes));
        self.facts.plugins.iter_mut().filter(|old| old.name == row.name).for_each(|old| *old = row.clone());
    }

    /// Boot images and plugins.
    fn contents(&self) -> Result<Contents, Failure> {
        let kept = self.reloaded.values();
        let mut needed: BTreeSet<Hash> = self.facts.blobs().collect();
        needed.retain(|hash| !kept.clone().any(|(other, _)| other == hash));
        let mut contents = (self.contents)(&needed)?;
        contents.extend(kept.map(|(hash, bytes)| (*hash, bytes.to_vec())));
        Ok(contents)
    }

    /// Do it; `reply` is called when it is done, from another thread.
    pub(crate) fn fulfil(&mut self, wish: Wish, machine: &mut Machine, reply: Reply) {
        match self.job(wish, machine) {
            Ok((folder, what)) => self.send(Job { folder, what, reply }),
            Err(refusal) => reply(Err(refusal)),
        }
    }

    fn job(&self, wish: Wish, machine: &mut Machine) -> Result<(PathBuf, What), Refusal> {
        Ok(match wish {
            Wish::Save(Tag { name, folder }) => {
                if self.waiting.load(Ordering::Acquire) >= WAITING {
                    return Err(Refusal::new(format!("{WAITING} snapshots wait to be written")));
                }
                let folder = self.place(folder)?;
                let contents = self.contents()?;
                let taken = self.facts.taken(machine);
                let (snapshot, facts) = taken.map_err(|error| Refusal::new(error.to_string()))?;
                let (snapshot, facts) = (Box::new(snapshot), Box::new(facts));
                (folder, What::Save { name, snapshot, facts, contents })
            }
            Wish::Delete(Tag { name, folder }) => (self.place(folder)?, What::Delete(name)),
            Wish::List(folder) => (self.place(folder)?, What::List),
        })
    }

    /// A snapshot of a machine like this one.
    pub(crate) fn load(&self, tag: Tag) -> Result<(Facts, Snapshot), Refusal> {
        let (facts, snapshot) = Store::open(&self.place(tag.folder)?)?.load(&tag.name)?;
        match other_machine(&self.facts, &facts) {
            None => Ok((facts, snapshot)),
            Some(what) => {
                Err(Refusal::new(format!("snapshot \"{}\" is of another machine: {what}", tag.name)))
            }
        }
    }

    fn place(&self, folder: Option<PathBuf>) -> Result<PathBuf, Refusal> {
        let folder = folder.or_else(|| self.folder.clone()).or_else(usual_folder);
        folder
            .ok_or_else(|| Refusal::new("there is no folder for snapshots: say --snapshots DIR, or name one"))
    }

    fn send(&mut self, job: Job) {
        if self.writer.is_none() {
            let (sender, jobs) = mpsc::channel();
            let waiting = Arc::clone(&self.waiting);
            let spawned =
                std::thread::Builder::new().name("reprise-shelf".into()).spawn(move || run(&jobs, &waiting));
            match spawned {
                Ok(thread) => self.writer = Some((sender, thread)),
                Err(error) => {
                    let why = format!("cannot start to write snapshots: {}", reason(&error));
                    return (job.reply)(Err(Refusal::new(why)));
                }
            }
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let (sender, _) = self.writer.as_ref().expect("it is there now");
        if let Err(mpsc::SendError(job)) = sender.send(job) {
            (job.reply)(Err(Refusal::new("what writes snapshots has ended")));
        }
    }
}

impl Drop for Shelf<'_> {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            // It panicked: the hook has said so.
            drop(thread.join());
        }
    }
}

/// Where snapshots go that nobody has said a folder for.
fn usual_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("reprise/snapshots"))
}

fn run(jobs: &mpsc::Receiver<Job>, waiting: &AtomicUsize) {
    for Job { folder, what, reply } in jobs {
        let answer = match what {
            What::Save { name, snapshot, facts, contents } => {
                save(&folder, &name, &snapshot, &facts, &contents)
            }
            What::Delete(name) => delete(&folder, &name),
            What::List => list(&folder),
        };
        waiting.fetch_sub(1, Ordering::AcqRel);
        reply(answer.map_err(Refusal::from));
    }
}

fn save(
    folder: &Path,
    name: &str,
    snapshot: &Snapshot,
    facts: &Facts,
    contents: &Contents,
) -> Result<Value, Failure> {
    let mut writer = if folder.exists() { StoreWriter::open(folder)? } else { create(folder)? };
    let contents: Vec<(Hash, &[u8])> =
        contents.iter().map(|(hash, bytes)| (*hash, bytes.as_slice())).collect();
    writer.keep(&contents)?;
    let saved = writer.save(name, snapshot, facts)?;
    Ok(json!({
        "tag": name, "folder": folder.display().to_string(), "icount": facts.icount,
        "vtime-ns": facts.vtime_ns, "bytes-written": saved.bytes_written,
    }))
}

fn create(folder: &Path) -> Result<StoreWriter, Failure> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|error| {
            Failure::io("cannot make the folder for snapshots", &error).at(parent.display())
        })?;
    }
    StoreWriter::create(folder)
}

fn delete(folder: &Path, name: &str) -> Result<Value, Failure> {
    let mut writer = StoreWriter::open(folder)?;
    writer.delete(name)?;
    writer.collect()?;
    Ok(json!({}))
}

fn list(folder: &Path) -> Result<Value, Failure> {
    if !folder.exists() {
        return Ok(json!([]));
    }
    let row = |Row { name, facts }: Row| match facts {
        Ok(facts) => json!({ "tag": name, "icount": facts.icount, "vtime-ns": facts.vtime_ns }),
        Err(failure) => json!({ "tag": name, "error": Refusal::from(failure).to_string() }),
    };
    Ok(Store::open(folder)?.list()?.into_iter().map(row).collect())
}

/// What makes a snapshot one of another machine, if anything does.
fn other_machine(ours: &Facts, theirs: &Facts) -> Option<String> {
    if ours.board != theirs.board {
        return Some("its board is not the same".to_owned());
    }
    let parts = |facts: &Facts| {
        let images = &facts.images;
        [("firmware", &images.firmware), ("kernel", &images.kernel), ("initrd", &images.initrd)]
            .map(|(what, image)| (what, image.as_ref().map(|image| image.blake3)))
    };
    for ((what, ours), (_, theirs)) in parts(ours).into_iter().zip(parts(theirs)) {
        if ours != theirs {
            return Some(format!("its {what} is not the same"));
        }
    }
    for plugin in &ours.plugins {
        if !theirs.plugins.iter().any(|other| other.name == plugin.name && other.blake3 == plugin.blake3) {
            return Some(format!("its plugin \"{}\" is not the same", plugin.name));
        }
    }
    let disk = ours.disks.iter().find(|disk| !theirs.disks.contains(disk));
    let disk = disk.or_else(|| theirs.disks.iter().find(|disk| !ours.disks.contains(disk)));
    disk.map(|disk| format!("its disk \"{}\" is not the same", disk.device))
}
