//! What the host does while it records is not in the recording; what a replay does to the host is nothing.

use crate::recording::Recording;
use crate::reprise::{Reprise, Scratch, build_folder};
use rustix::process::{Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Processes that keep two cores busy.
struct Load([Child; 2]);

impl Load {
    fn new() -> Self {
        Self([(); 2].map(|()| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn lively() -> Reprise {
    Reprise::record("release", "host").of("lively.elf")
}

#[test]
fn a_loaded_host() {
    let _load = Load::new();
    for _ in 0..3 {
        Recording::of(lively().input_after("@lively ready", "hello q")).is_identical();
        Recording::bare("irqstorm.elf", &[]).is_identical();
        Recording::bare("smp.elf", &["-smp", "4"]).is_identical();
    }
}

#[test]
fn a_run_that_is_stopped_and_continued() {
    let pause = Duration::from_secs(1);
    for signal in [Signal::STOP, Signal::TSTP] {
        // Echoed behind a first look at the clock: a stop before that would leave no gap between two.
        let run = lively().input_after("@lively ready", "x").after("x", move |process, _| {
            kill_process(process, signal).unwrap();
            std::thread::sleep(pause);
            kill_process(process, Signal::CONT).unwrap();
        });
        let recording = Recording::of(run.input_after("@lively ready", "q"));
        recording.is_identical();
        let clocks = recording.records(&["host-clock"]);
        let values: Vec<u64> = clocks.iter().map(|record| record["value_ns"].as_u64().unwrap()).collect();
        let gap = values.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(u128::from(gap) > pause.as_nanos() * 9 / 10, "{signal:?} left no gap: {gap} ns");
    }
}

/// System calls that reach outside, as strace writes them. What changes an open file needs it opened for that first.
const TRACED: &str = "trace=%file,%network,memfd_create,fchmod,ioctl,read";

/// What a command does to the host beside reading regular files; one line each.
pub(crate) fn traces_left(words: &[&str]) -> Vec<String> {
    let scratch = Scratch::new("strace");
    let calls = scratch.path("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", &calls, "-e", TRACED]).arg(build_folder().join("reprise")).args(words);
    command.env_remove("REPRISE_PLUGIN_PATH").stdin(Stdio::null()).stderr(Stdio::null());
    let status = command.stdout(Stdio::null()).status().expect("tests/run installs strace");
    assert!(status.success(), "{words:?}");
    let calls = std::fs::read_to_string(calls).unwrap();
    assert!(calls.contains("openat("), "strace saw nothing:\n{calls}");
    calls.lines().filter(|call| leaves_a_trace(call)).map(str::to_owned).collect()
}

fn leaves_a_trace(line: &str) -> bool {
    // A process id comes first; lines of signals have no call.
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let Some((call, rest)) = line.split_once('(').filter(|(call, _)| !call.starts_with(['-', '+', '<']))
    else {
        return line.contains("resumed>");
    };
    match call {
        "access" | "faccessat" | "faccessat2" | "stat" | "lstat" | "newfstatat" | "statx" | "statfs"
        | "readlink" | "readlinkat" | "getcwd" | "execve" => false,
        "open" | "openat" => {
            let reads = rest.contains("O_RDONLY") && !rest.contains("O_CREAT");
            !reads || ["\"/dev/tty", "\"/dev/pts", "\"/dev/console"].iter().any(|tty| rest.contains(tty))
        }
        // A plugin that is loaded from memory, and translated code: files without a name, gone with the process.
        "memfd_create" => {
            !["\"libreprise_plugin_", "\"reprise-code\""].iter().any(|name| rest.starts_with(name))
        }
        // Whether it is a terminal that somebody looks at.
        "ioctl" => !rest.contains("TCGETS"),
        // Standard input is not for it.
        "read" => rest.starts_with("0,"),
        _ => true,
    }
}

#[test]
fn a_replay_writes_no_file_and_opens_no_socket_and_no_terminal() {
    let scratch = Scratch::new("no-trace");
    let image = scratch.path("disk.img");
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let disk = format!("disk0={image}");
    let demo = Recording::bare("demo.elf", &["--disk", &disk, "--port", "vcon0.port0=null"]);
    let lively = Recording::of(lively().input_after("@lively ready", "q"));
    for recording in [&demo, &lively] {
        for command in ["replay", "verify"] {
            assert_eq!(traces_left(&[command, &recording.path()]), Vec::<String>::new(), "{command}");
        }
    }
    // The same eyes see what a recording does.
    let path = demo.file("other.rec");
    let traces = traces_left(&["record", "-o", &path, "-bios", &crate::reprise::guest("wfi.elf")]).join("\n");
    for trace in ["mkdir", "O_CREAT"] {
        assert!(traces.contains(trace), "no {trace} in:\n{traces}");
    }
}
