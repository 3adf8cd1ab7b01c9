//! A recording that a test has made, and what the commands for recordings say of it.

use crate::reprise::{Ended, RECORDING, Reprise, Scratch, Started, folder_of};
use serde_json::Value;

/// A recording in a folder of its own.
pub(crate) struct Recording {
    /// The run that was recorded.
    pub(crate) ended: Ended,
    folder: Scratch,
}

impl Recording {
    /// Records to the guest's own end, which must be a good one.
    pub(crate) fn of(run: Reprise) -> Self {
        let (ended, folder) = run.end_with_folder();
        Self { ended: ended.success(), folder }
    }

    /// The same of a run that goes on already.
    pub(crate) fn of_started(run: Started) -> Self {
        let (ended, folder) = run.end_with_folder();
        Self { ended: ended.success(), folder: folder.expect("a recording has a folder") }
    }

    /// Records a bare guest with the release build.
    pub(crate) fn bare(guest_name: &str, more: &[&str]) -> Self {
        Self::of(Reprise::record("release", "recording").of(guest_name).args(more.iter().copied()))
    }

    pub(crate) fn path(&self) -> String {
        self.file(RECORDING)
    }

    /// Another file of this test's folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path(name)
    }

    /// What `reprise verify` answers on a build.
    pub(crate) fn verify(&self, build: &str, more: &[&str]) -> Value {
        let ended = self.command(build, "verify", more).args(["--json"]).end().success();
        serde_json::from_str(&ended.console).unwrap()
    }

    /// Fails the test unless a replay is the run that was recorded, to the end.
    pub(crate) fn is_identical(&self) -> &Self {
        self.is_identical_on("release", &[])
    }

    /// The same on a build, with more words on the command line.
    pub(crate) fn is_identical_on(&self, build: &str, more: &[&str]) -> &Self {
        let found = self.verify(build, more);
        assert_eq!(found["result"], "identical", "{more:?}: {found}");
        for field in ["icount", "vtime_ns", "digest"] {
            assert_eq!(&found[field], self.ended.summary(field), "{more:?}: {field}");
        }
        self
    }

    /// The same with stops, dropped caches and changes of the engine.
    pub(crate) fn is_identical_in_chaos<'a>(&self, seeds: impl IntoIterator<Item = &'a str>) -> &Self {
        for seed in seeds {
            self.is_identical_on("release", &["--chaos-seed", seed]);
        }
        self
    }

    /// What `reprise replay` shows on standard output must be what the run has shown.
    pub(crate) fn shows_the_same(&self) -> &Self {
        let replayed = self.command("release", "replay", &[]).end().success();
        assert_eq!(replayed.console, self.ended.console);
        self
    }

    /// A command of a build on this recording.
    pub(crate) fn command(&self, build: &str, name: &str, more: &[&str]) -> Reprise {
        let path = self.path();
        let words = [name, path.as_str()].into_iter().chain(more.iter().copied());
        Reprise::at(&folder_of(build).join("reprise"), words)
    }

    pub(crate) fn info(&self) -> Value {
        info(&self.path())
    }

    /// The records of these kinds; all, if none is named.
    pub(crate) fn records(&self, kinds: &[&str]) -> Vec<Value> {
        let mut records = records(&self.path());
        records.retain(|record| kinds.is_empty() || kinds.iter().any(|kind| record["kind"] == *kind));
        records
    }

    /// The hex digits of everything that entered at a port.
    pub(crate) fn input(&self, port: &str) -> String {
        let inputs = self.records(&["input"]).into_iter().filter(|record| record["port"] == port);
        inputs.map(|record| record["data"].as_str().unwrap().to_owned()).collect()
    }
}

/// What `reprise info` says of a recording.
pub(crate) fn info(path: &str) -> Value {
    serde_json::from_str(&Reprise::new(["info", "--json", path]).end().success().console).unwrap()
}

/// Every record of a recording.
pub(crate) fn records(path: &str) -> Vec<Value> {
    let ended = Reprise::new(["log", "--json", path]).end().success();
    ended.console.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bytes as `reprise log` writes them.
pub(crate) fn hex(bytes: &str) -> String {
    bytes.bytes().map(|byte| format!("{byte:02x}")).collect()
}
