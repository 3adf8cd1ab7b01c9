//! How instructions are executed is the host's affair: every engine runs what another has recorded.

use crate::recording::Recording;
use crate::reprise::Reprise;
use serde_json::Value;

/// Those of this host. The first is the reference.
pub(crate) const ENGINES: &[&str] =
    if JIT { &["interp", "threaded", "jit"] } else { &["interp", "threaded"] };

const JIT: bool = cfg!(all(target_arch = "x86_64", target_os = "linux"));

/// Recorded by each engine, and replayed by each, quietly and disturbed, and by engines that take turns at random.
fn replay_each_other(run: impl Fn() -> Reprise) -> Recording {
    let recorded: Vec<Recording> =
        ENGINES.iter().map(|engine| Recording::of(run().args(["--engine", engine]))).collect();
    for recording in &recorded {
        for engine in ENGINES {
            recording.is_identical_on("release", &["--engine", engine]);
            recording.is_identical_on("release", &["--engine", engine, "--chaos-seed", "21"]);
        }
        recording.is_identical_in_chaos(["22"]);
    }
    recorded.into_iter().next().unwrap()
}

fn record(guest_name: &str) -> Reprise {
    Reprise::record("release", "engines").of(guest_name)
}

#[test]
fn bare_guests() {
    for guest in ["smc.elf", "paging.elf", "irqstorm.elf"] {
        replay_each_other(|| record(guest));
    }
    replay_each_other(|| record("smp.elf").args(["-smp", "4"]));
}

#[test]
fn a_guest_that_is_talked_to() {
    replay_each_other(|| record("lively.elf").input_after("@lively ready", "engines, q"));
}

#[test]
fn debian() {
    let run = || Reprise::record("release", "engines-debian").of_debian("reprise.test=boot reprise.poweroff");
    let recorded = ENGINES.iter().map(|engine| Recording::of(run().args(["--engine", engine])));
    for (recording, engine) in recorded.zip(ENGINES) {
        for other in ENGINES.iter().filter(|other| *other != engine) {
            recording.is_identical_on("release", &["--engine", other]);
        }
        recording.is_identical_in_chaos(["23"]);
    }
}

/// Without input two runs are one: so they are on every engine, in every place that somebody asks about.
#[test]
fn the_same_run_in_every_place() {
    let end = |guest: &str, engine: &str| {
        let run = Reprise::bare("engines-end", guest).args(["--engine", engine]);
        run.end().success().position_and_digest()
    };
    for guest in ["smc.elf", "paging.elf", "irqstorm.elf", "wfi.elf", "demo.elf"] {
        let ends: Vec<_> = ENGINES.iter().map(|engine| end(guest, engine)).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{guest}: {ends:?}");
    }
    let recording = Recording::of(record("paging.elf"));
    let places = (1..40).flat_map(|at| ["--at".to_owned(), format!("{}%", at * 97 % 100)]);
    let ask = |engine: &str| {
        let ask = recording.command("release", "ask", &["digest", "--json", "--engine", engine]);
        ask.args(places.clone().collect::<Vec<_>>().iter().map(String::as_str)).end().success().console
    };
    let answers = ENGINES.iter().map(|engine| {
        let answers = ask(engine);
        let place = |line: &str| {
            let answer: Value = serde_json::from_str(line).unwrap();
            ["at", "icount", "vtime_ns", "digest"].map(|field| answer[field].clone())
        };
        answers.lines().map(place).collect::<Vec<_>>()
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers[0].len() == 39 && answers.iter().all(|each| *each == answers[0]));
}

/// A recording does not say which engine made it.
#[test]
fn no_trace_is_left() {
    let of = |engine: &str| {
        let recording = Recording::of(record("smc.elf").args(["--engine", engine]));
        let manifest = std::fs::read_to_string(recording.file("run.rec/manifest.toml")).unwrap();
        // The first line is a hash of the rest.
        let own = |line: &&str| ["#", "run_id", "created"].iter().any(|start| line.starts_with(start));
        let manifest: Vec<String> = manifest.lines().filter(|line| !own(line)).map(str::to_owned).collect();
        (manifest, recording.records(&[]))
    };
    let first = of(ENGINES[0]);
    for engine in ENGINES {
        let (manifest, records) = of(engine);
        assert_eq!(manifest, first.0);
        assert_eq!(records, first.1);
    }
}

/// The threaded interpreter's functions end with a jump to the next one's. A call would be right too, for as long as
/// the stack lasts.
#[test]
#[cfg(target_arch = "x86_64")]
fn handlers_jump_to_the_next() {
    let objdump = std::process::Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "--demangle"])
        .arg(crate::reprise::build_folder().join("reprise"))
        .output()
        .expect("binutils are installed");
    let text = String::from_utf8_lossy(&objdump.stdout);
    let functions = text.split("\n\n").filter(|function| {
        function
            .lines()
            .next()
            .is_some_and(|name| name.contains("::threaded::handlers::") && name.ends_with(">:"))
    });
    let (mut jumping, mut calling) = (0, Vec::new());
    for function in functions {
        let operands = |mnemonic: &str| {
            let lines =
                function.lines().filter_map(|line| line.rsplit_once('\t')).map(|(_, code)| code.trim());
            let of = lines.filter_map(|code| code.strip_prefix(mnemonic)).map(str::trim).collect::<Vec<_>>();
            // What is found by the program counter is the loader's: a function of a library.
            of.into_iter().filter(|to| to.starts_with('*') && !to.contains("(%rip)")).count()
        };
        jumping += usize::from(operands("jmp") > 0);
        if operands("call") > 0 {
            calling.push(function);
        }
    }
    assert!(calling.is_empty(), "{}", calling.join("\n\n"));
    assert!(jumping > 300, "only {jumping} handlers were found");
}
