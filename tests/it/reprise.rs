//! Runs the `reprise` binary as a user would, and says what came of it.

use rustix::process::Pid;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that any guest here may take, loaded machine included.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What recordings are called in their test's folder.
pub(crate) const RECORDING: &str = "run.rec";

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file that `tests/guests/fetch` or its Makefile makes.
pub(crate) fn guest(name: &str) -> String {
    let path = root().join("tests/guests/out").join(name);
    assert!(path.exists(), "{} is missing: run tests/run", path.display());
    path.to_str().unwrap().to_owned()
}

/// The folder with the binary and the plugins under test.
pub(crate) fn build_folder() -> PathBuf {
    folder_of("release")
}

/// The same of another build: `debug` or `release`.
pub(crate) fn folder_of(build: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(build)
}

/// A folder of one test's own, new and gone at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        // Tests of one name and of one process at once each get their own; a leftover of another is not touched.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("reprise-{test}-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a run ended.
pub(crate) struct Ended {
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What the guest and reprise wrote to standard output.
    pub(crate) console: String,
    pub(crate) errors: String,
    /// The most memory that it had resident, in KiB, as last seen before the end.
    pub(crate) peak_kib: u64,
    summary: Option<serde_json::Value>,
}

impl Ended {
    /// Fails the test unless the guest ended the run with success.
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "console:\n{}\nerrors:\n{}", self.console, self.errors);
        self
    }

    /// Fails the test unless the guest said this.
    pub(crate) fn says(self, line: &str) -> Self {
        assert!(self.console.contains(line), "no {line:?} in:\n{}\nerrors:\n{}", self.console, self.errors);
        self
    }

    pub(crate) fn summary(&self, field: &str) -> &serde_json::Value {
        let summary = self.summary.as_ref().expect("the run was asked for a summary and ended by itself");
        summary.get(field).unwrap_or_else(|| panic!("no {field} in {summary}"))
    }

    /// What must be the same in two runs of the same machine.
    pub(crate) fn position_and_digest(&self) -> (u64, u64, String) {
        let number = |field| self.summary(field).as_u64().unwrap();
        (number("icount"), number("vtime_ns"), self.summary("digest").as_str().unwrap().to_owned())
    }

    /// The first line that starts with `start`, without it.
    pub(crate) fn line(&self, start: &str) -> &str {
        let line = self.console.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no line starts with {start:?} in:\n{}", self.console)).trim_end()
    }
}

/// A command line of reprise in the making.
pub(crate) struct Reprise {
    command: Command,
    summary: Option<(Scratch, String)>,
    /// What the guest must have said, and what is then done.
    acts: VecDeque<(String, Act)>,
}

/// Something done to a process while it runs.
type Act = Box<dyn FnOnce(Pid, &mut ChildStdin)>;

impl Reprise {
    pub(crate) fn new<'a>(args: impl IntoIterator<Item = &'a str>) -> Self {
        Self::at(&build_folder().join("reprise"), args)
    }

    /// The same from a copy of the binary elsewhere.
    pub(crate) fn at<'a>(binary: &Path, args: impl IntoIterator<Item = &'a str>) -> Self {
        assert!(binary.exists(), "{} is missing: run tests/run", binary.display());
        let mut command = Command::new(binary);
        command.args(args).env_remove("REPRISE_PLUGIN_PATH");
        Self { command, summary: None, acts: VecDeque::new() }
    }

    /// `reprise run` with a summary, its clock of day fixed so that runs can be compared.
    pub(crate) fn run(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let file = scratch.path("summary.json");
        let mut run = Self::new(["run", "--summary", &file, "--rtc", "1700000000"]);
        run.summary = Some((scratch, file));
        run
    }

    /// `reprise record` with a summary, by the binary of a build; its clock of day is the host's.
    pub(crate) fn record(build: &str, test: &str) -> Self {
        let scratch = Scratch::new(test);
        let (file, recording) = (scratch.path("summary.json"), scratch.path(RECORDING));
        let binary = folder_of(build).join("reprise");
        let mut run = Self::at(&binary, ["record", "-o", &recording, "--summary", &file]);
        run.summary = Some((scratch, file));
        run
    }

    /// One of our own bare guests.
    pub(crate) fn bare(test: &str, guest_name: &str) -> Self {
        Self::run(test).of(guest_name)
    }

    /// Debian's kernel, told what to do.
    pub(crate) fn debian(test: &str, words: &str) -> Self {
        Self::run(test).of_debian(words)
    }

    /// With one of our own bare guests.
    pub(crate) fn of(self, guest_name: &str) -> Self {
        self.args(["-bios", &guest(guest_name)])
    }

    /// With Debian's kernel, told what to do.
    pub(crate) fn of_debian(self, words: &str) -> Self {
        let [firmware, kernel, initrd] = ["fw_dynamic.bin", "Image", "initramfs.cpio"].map(guest);
        self.args(["-bios", &firmware, "-kernel", &kernel, "-initrd", &initrd, "-m", "512M"])
            .args(["-append", &format!("console=ttyS0 {words}")])
    }

    /// With this variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Types `text` on the console once the guest has said `prompt`: a UART without a driver loses what comes before.
    pub(crate) fn input_after(self, prompt: &str, text: &str) -> Self {
        let text = text.to_owned();
        self.after(prompt, move |_, stdin| stdin.write_all(text.as_bytes()).unwrap())
    }

    /// Does something to the process once the guest has said `prompt`, and what was asked for before is done.
    pub(crate) fn after(mut self, prompt: &str, act: impl FnOnce(Pid, &mut ChildStdin) + 'static) -> Self {
        self.acts.push_back((prompt.into(), Box::new(act)));
        self
    }

    /// As [`end`](Self::end), for a recording: with the folder of the recording.
    pub(crate) fn end_with_folder(self) -> (Ended, Scratch) {
        let (ended, folder) = self.start().end_with_folder();
        (ended, folder.expect("a recording has a folder"))
    }

    /// Runs to the end; a run that takes too long is a failure, not a hang.
    pub(crate) fn end(self) -> Ended {
        self.start().end()
    }

    /// Begins to run.
    pub(crate) fn start(self) -> Started {
        let Self { mut command, summary, acts } = self;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let console = Collected::new(child.stdout.take().unwrap());
        let errors = Collected::new(child.stderr.take().unwrap());
        let child = Owned(child);
        Started { child, stdin, console, errors, summary, acts, limit: Instant::now() + TIMEOUT }
    }
}

/// A process that a test which fails does not leave behind.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It has ended by itself as a rule.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A run that goes on.
pub(crate) struct Started {
    child: Owned,
    stdin: ChildStdin,
    console: Collected,
    errors: Collected,
    summary: Option<(Scratch, String)>,
    acts: VecDeque<(String, Act)>,
    limit: Instant,
}

impl Started {
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.0.kill().unwrap();
    }

    /// What the guest has said until now.
    pub(crate) fn said(&self) -> String {
        self.console.so_far()
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).unwrap();
    }

    /// Until the guest has said this.
    pub(crate) fn wait_for(&self, text: &str) {
        while !self.console.so_far().contains(text) {
            assert!(Instant::now() < self.limit, "no {text:?} in:\n{}", self.console.so_far());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs to the end.
    pub(crate) fn end(self) -> Ended {
        self.end_with_folder().0
    }

    /// As [`end`](Self::end), with the folder of the recording.
    pub(crate) fn end_with_folder(mut self) -> (Ended, Option<Scratch>) {
        let mut peak_kib = 0;
        let status = loop {
            peak_kib = resident_peak_kib(self.child.0.id()).unwrap_or(peak_kib);
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.limit {
                self.child.0.kill().unwrap();
                self.child.0.wait().unwrap();
                panic!("took more than {TIMEOUT:?}:\n{}\n{}", self.console.whole(), self.errors.whole());
            }
            if self.acts.front().is_some_and(|(prompt, _)| self.console.so_far().contains(prompt.as_str())) {
                let (_, act) = self.acts.pop_front().unwrap();
                act(Pid::from_child(&self.child.0), &mut self.stdin);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // Open until here: the end of the input would be an input too.
        drop(self.stdin);
        let summary = self
            .summary
            .as_ref()
            .and_then(|(_, file)| std::fs::read_to_string(file).ok())
            .filter(|text| !text.is_empty());
        let ended = Ended {
            peak_kib,
            code: status.code(),
            console: self.console.whole(),
            errors: self.errors.whole(),
            summary: summary.map(|text| serde_json::from_str(&text).unwrap()),
        };
        (ended, self.summary.map(|(folder, _)| folder))
    }
}

/// What comes out of a pipe, read by a thread so that the other end never waits.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                to.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Everything, once the writer has gone.
    fn whole(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// The peak of a process's resident memory; none once it has ended.
fn resident_peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
