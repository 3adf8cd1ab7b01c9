//! A test in a process of its own: started, limited, and told apart from its death.
//!
//! The child's standard input is a file in memory: first what it is doing, written by the child; then the job, written
//! by the parent. Its answer is JSON on standard output, which the plugin cannot reach.

use crate::{
    parts,
    progress::{self, Progress},
    session::{Job, Outcome, Session},
};
use rustix::{
    fs::MemfdFlags,
    process::{Pid, Signal},
};
use std::{
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The most address space that a test may have: beyond it an allocation fails, and that is seen.
const MEMORY_BYTES: u64 = 8 << 30;
/// Of what a test process says: its answer is far shorter.
const KEPT_BYTES: usize = 64 << 20;
/// How long its pipes may stay open after its end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a test process is started: a program, and the words that make it call [`serve`].
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// How a test process ended.
#[derive(Debug)]
pub(crate) enum End {
    Answered(Outcome),
    /// It died, or said nothing: how, and what it was doing.
    Died {
        how: String,
        doing: String,
    },
    /// It took too long.
    TimedOut {
        doing: String,
    },
}

/// How the process of a test differs from others, where that must make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surroundings {
    Usual,
    /// No environment, another folder.
    Bare,
    /// A large environment with other words in it.
    Full,
}

/// Run a job.
pub(crate) fn run(
    launcher: &Launcher,
    job: &Job,
    surroundings: Surroundings,
    timeout: Duration,
) -> io::Result<End> {
    let file = rustix::fs::memfd_create("job", MemfdFlags::CLOEXEC)?;
    let text = serde_json::to_vec(job).expect("a job is plain data");
    rustix::io::pwrite(&file, &[b' '; progress::BYTES], 0)?;
    write_all(&file, &text, progress::BYTES as u64)?;
    let mut command = Command::new(&launcher.program);
    command.args(&launcher.args).stdin(Stdio::from(rustix::io::dup(&file)?));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    match surroundings {
        Surroundings::Usual => {}
        Surroundings::Bare => {
            command.env_clear().current_dir("/");
        }
        Surroundings::Full => {
            command.env("TZ", "Asia/Kathmandu").env("LANG", "tr_TR.UTF-8").env("PADDING", "x".repeat(5000));
        }
    }
    // A group of its own: what a plugin starts ends with its test.
    let mut child = command.process_group(0).spawn()?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = wait(&mut child, timeout)?;
    // There is no such group any more if nothing was left behind.
    let _alone = rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
    let Some(status) = status else { return Ok(End::TimedOut { doing: doing(&file) }) };
    let (Ok(out), Ok(err)) = (out.recv_timeout(LAST_WORDS), err.recv_timeout(LAST_WORDS)) else {
        let how = "left another process running, which keeps its output open".to_owned();
        return Ok(End::Died { how, doing: doing(&file) });
    };
    if let Ok(outcome) = serde_json::from_slice(&out)
        && status.success()
    {
        return Ok(End::Answered(outcome));
    }
    Ok(End::Died { how: how(status, &String::from_utf8_lossy(&err)), doing: doing(&file) })
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(file, bytes, at)?;
        (bytes, at) = (&bytes[written..], at + written as u64);
    }
    Ok(())
}

/// What a pipe gives until it is closed, or its last [`KEPT_BYTES`].
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (done, collected) = mpsc::channel();
    thread::spawn(move || {
        let (mut pipe, mut bytes, mut chunk) = (pipe, Vec::new(), vec![0; 1 << 16]);
        // What was read until an error is all there is.
        while let Some(len) = pipe.as_mut().and_then(|pipe| pipe.read(&mut chunk).ok()).filter(|len| *len > 0)
        {
            bytes.extend(&chunk[..len]);
            if bytes.len() > 2 * KEPT_BYTES {
                bytes.drain(..bytes.len() - KEPT_BYTES);
            }
        }
        // Nobody waits for it any more if it came too late.
        let _late = done.send(bytes);
    });
    collected
}

/// `None`: it took too long, and is gone.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let limit = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn doing(file: &OwnedFd) -> String {
    let mut line = [0; progress::BYTES];
    let len = rustix::io::pread(file, &mut line, 0).unwrap_or(0);
    String::from_utf8_lossy(&line[..len]).trim().to_owned()
}

fn how(status: ExitStatus, said: &str) -> String {
    let end = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by {}", signal_name(signal)),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    };
    match last_words(said) {
        Some(line) => format!("{end} ({line})"),
        None => end,
    }
}

/// The line of standard error that says why: not the backtrace behind it.
fn last_words(said: &str) -> Option<&str> {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let says_why = |line: &&str| line.starts_with("memory allocation of") || line.contains("panicked at");
    let is_word = |line: &&str| {
        let is_frame = line.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        !(is_frame
            || line.starts_with("note:")
            || line.starts_with("at ")
            || line.starts_with("stack backtrace"))
    };
    lines().rfind(says_why).or_else(|| lines().rfind(is_word))
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 7] = [
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or(format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// The child's side: do the job on standard input, and answer.
///
/// # Errors
/// There is no job, or the answer cannot be written.
pub fn serve() -> io::Result<()> {
    // Who is killed leaves no test behind that runs for ever: the time limit is the parent's.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let file = rustix::io::dup(rustix::stdio::stdin())?;
    let answer = rustix::io::dup(rustix::stdio::stdout())?;
    // What the plugin prints must not be taken for the answer.
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    let job = read_job(&file)?;
    let limit = rustix::process::Rlimit { current: Some(MEMORY_BYTES), maximum: None };
    // Where it cannot be set, a huge allocation is only slower to be seen.
    let _unlimited = rustix::process::setrlimit(rustix::process::Resource::As, limit);
    let outcome = outcome(job, Progress::to(file));
    let text = serde_json::to_vec(&outcome).expect("an outcome is plain data");
    std::fs::File::from(answer).write_all(&text)
}

fn outcome(job: Job, progress: Progress) -> Outcome {
    let session = match Session::new(job, progress) {
        Ok(session) => session,
        Err(outcome) => return outcome,
    };
    parts::run(&session).unwrap_or_else(|why| Outcome { skipped: Some(why), ..Outcome::default() })
}

fn read_job(file: &OwnedFd) -> io::Result<Job> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        let at = (progress::BYTES + bytes.len()) as u64;
        match rustix::io::pread(file, &mut chunk, at)? {
            0 => break,
            len => bytes.extend(&chunk[..len]),
        }
    }
    serde_json::from_slice(&bytes).map_err(io::Error::from)
}
