//! A recording replayed with another build of a plugin: where the new one first does something else.

use crate::builds::{Edit, build};
use crate::reprise::{Ended, Reprise, Scratch, build_folder, guest, root};
use serde_json::{Value, json};

const LIB: &str = "tests/broken/src/lib.rs";
/// A field that older records do not have, and that nobody says what it is in those.
const REMEMBERS_MORE: [Edit<'static>; 3] = [
    (LIB, "    dma_gpa: u64,\n}", "    dma_gpa: u64,\n    writes: u64,\n}"),
    (LIB, "bottom_halves: 0, dma_gpa: 0 })", "bottom_halves: 0, dma_gpa: 0, writes: 9 })"),
    (LIB, "bottom_halves, dma_gpa } = self;", "bottom_halves, dma_gpa, writes: _ } = self;"),
];
/// A read of its register, of which the guest makes 500 in each round of a million instructions.
const READ: &str = "Ok(if cx.now_ns() >= self.after_vtime_ns { self.value(cx) } else { 0 })";
/// The build that is recorded does what this does: from 5 ms on it is the device of a later version that changes.
const AFTER_NS: u64 = 5_000_000;

/// A recording of a machine with the device `broken0`, which breaks no rule, and the plugin that it was made with.
struct Recorded {
    scratch: Scratch,
    plugins: String,
}

impl Recorded {
    fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let plugins = scratch.path("plugins");
        std::fs::create_dir(&plugins).unwrap();
        let file = format!("{plugins}/libreprise_plugin_broken.so");
        std::fs::copy(build_folder().join("libreprise_broken.so"), file).unwrap();
        let recorded = Self { scratch, plugins };
        let board = root().join("tests/broken/boards/broken.toml");
        let (path, board) = (recorded.path(), board.to_str().unwrap());
        let record = ["record", "-o", &path, board, "-bios", &guest("broken.elf"), "--rtc", "1700000000"];
        recorded.reprise(&record).args(["--digest-every", "1M"]).end().success();
        recorded
    }

    fn path(&self) -> String {
        self.scratch.path("run.rec")
    }

    fn reprise(&self, args: &[&str]) -> Reprise {
        Reprise::new(["--plugin-path", &self.plugins]).args(args.iter().copied())
    }

    /// `verify` with a changed copy of the plugin.
    fn verify(&self, name: &str, edits: &[Edit<'_>]) -> Ended {
        let file = changed(name, edits);
        self.reprise(&["verify", "--json", &self.path(), "--plugin", &format!("broken0={file}")]).end()
    }

    /// The report of a build that does something else, and the words for people.
    fn diverges(&self, name: &str, edits: &[Edit<'_>]) -> (Value, String) {
        let ended = self.verify(name, edits);
        assert_eq!(ended.code, Some(4), "{}\n{}", ended.console, ended.errors);
        let answer: Value = serde_json::from_str(&ended.console).unwrap();
        assert_eq!(answer["result"], "diverged");
        let report = answer["divergence"].clone();
        assert_eq!(report["other_builds"][0]["plugin"], "broken");
        assert_eq!(report["other_builds"][0]["devices"], json!(["broken0"]));
        (report, ended.errors)
    }
}

fn changed(name: &str, edits: &[Edit<'_>]) -> String {
    let file = build("reprise-plugin-broken", "libreprise_broken.so", &format!("{name}.so"), edits);
    file.to_str().unwrap().to_owned()
}

/// The first difference is exact, and made by this instruction of the guest.
fn is_exact(report: &Value, text: &str) -> u64 {
    assert_eq!(report["cause"], "other-build", "{text}");
    let first = &report["first_difference"];
    assert_eq!((&first["exact"], &first["moves"]), (&true.into(), &false.into()), "{text}");
    first["same"]["vtime_ns"].as_u64().unwrap()
}

/// A read of the register by the guest, told with its instruction.
fn is_the_read(report: &Value, text: &str) {
    let instruction = &report["first_difference"]["instruction"];
    assert_eq!((&instruction["device"], &instruction["operand"]), (&"broken0".into(), &"0x10050000".into()));
    let (pc, symbol) = (instruction["pc"].as_str().unwrap(), instruction["symbol"].as_str().unwrap());
    assert!(symbol.starts_with("read_broken+"), "{symbol}");
    let line = format!("then hart 0 executed {pc} <{symbol}>: ld ");
    assert!(text.contains(&line), "no {line:?} in\n{text}");
}

#[test]
fn a_build_that_does_the_same_is_identical() {
    let recorded = Recorded::new("swap-same");
    // Other code, other strings, another summary: nothing of it is the guest's.
    let edits = [
        (LIB, "breaks the rules of replay on purpose", "does so in other words"),
        (LIB, "self.reads += 1;", "self.reads = self.reads.wrapping_add(1);"),
    ];
    let ended = recorded.verify("same", &edits);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.console, ended.errors);
    assert!(ended.console.contains("\"identical\""), "{}", ended.console);
    // By the plugin's name too, and for a replay.
    let option = format!("broken={}", changed("same", &edits));
    let replay = recorded.reprise(&["replay", &recorded.path(), "--plugin", &option]).end().success();
    replay.says("@R broken ok");
}

#[test]
fn another_value_of_a_register_is_named_with_both() {
    let recorded = Recorded::new("swap-read");
    let other = format!("Ok(if cx.now_ns() >= {AFTER_NS} {{ 7 }} else {{ 0 }})");
    let edits = [(LIB, READ, other.as_str())];
    let (report, text) = recorded.diverges("read", &edits);
    let same = is_exact(&report, &text);
    // The first read behind that place; between two of them lie some thousands of instructions.
    assert!((AFTER_NS..AFTER_NS + 10_000).contains(&same), "{same}");
    is_the_read(&report, &text);
    let act = &report["build"]["act"];
    let side =
        |value: &str| json!({ "kind": "mmio-read", "what": "read of regs+0x0, 8 bytes", "value": value });
    assert_eq!((&act["recorded"], &act["here"]), (&side("0x0"), &side("0x7")));
    assert_eq!((&act["device"], &act["callback"]), (&"broken0".into(), &"mmio_read".into()));
    assert_eq!(report["build"]["state_before"], Value::Null);
    for part in [
        "recorded  this build\n",
        "broken0: read of regs+0x0, 8 bytes  0x0       0x7\n",
        "hart0.a0                            0x0       0x7\n",
        "Before it, this build of plugin \"broken\" (broken0) does what the recorded one did.",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // A replay tells the same, where the guest's output has been shown.
    let option = format!("broken0={}", changed("read", &edits));
    let replay = recorded.reprise(&["replay", &recorded.path(), "--plugin", &option]).end();
    assert_eq!(replay.code, Some(4));
    assert!(
        replay.errors.contains("broken0: read of regs+0x0, 8 bytes  0x0       0x7\n"),
        "{}",
        replay.errors
    );
    // Without the recorded build there is nothing to compare with, and it is said how to have it.
    let bare = ["verify", &recorded.path(), "--plugin", &option];
    let ended = Reprise::new(bare).end();
    assert_eq!(ended.code, Some(4));
    assert!(ended.errors.contains("= help: to see where the builds of \"broken\" part"), "{}", ended.errors);
    // The recording has it; loading it from there is a matter of trust.
    let ended = Reprise::new(bare).args(["--trust-plugins"]).end();
    assert!(ended.errors.contains("broken0: read of regs+0x0, 8 bytes  0x0       0x7\n"), "{}", ended.errors);
}

#[test]
fn state_that_is_wrong_long_before_it_shows_is_named_too() {
    let recorded = Recorded::new("swap-state");
    let other = format!(
        "if cx.now_ns() >= {AFTER_NS} {{ self.counter += 1 }}
         Ok(if cx.now_ns() >= 2 * {AFTER_NS} {{ self.counter }} else {{ 0 }})"
    );
    let (report, text) = recorded.diverges("state", &[(LIB, READ, &other)]);
    let shows = is_exact(&report, &text);
    assert!((2 * AFTER_NS..2 * AFTER_NS + 10_000).contains(&shows), "{shows}");
    is_the_read(&report, &text);
    assert_eq!(report["build"]["act"]["recorded"]["value"], "0x0");
    let before = &report["build"]["state_before"];
    assert_eq!(before["exact"], true, "{text}");
    let begins = before["same"]["vtime_ns"].as_u64().unwrap();
    assert!((AFTER_NS..AFTER_NS + 10_000).contains(&begins), "{begins}");
    assert_eq!(
        before["differences"],
        json!([{ "what": "device.broken0.counter", "a": "0x0", "b": "0x1" }]),
        "{text}"
    );
    assert!(text.contains("What it remembers was something else before:\nfirst difference: "), "{text}");
}

#[test]
fn other_timers_and_other_dma_are_named_with_the_callback() {
    let recorded = Recorded::new("swap-timer");
    let arm = "let _ = cx.dma_write(self.dma_gpa, &value.to_le_bytes());
        cx.timer_arm(TICK, cx.now_ns() + DMA_EVERY_NS);";
    let later = arm.replace("DMA_EVERY_NS", &format!("DMA_EVERY_NS + u64::from(cx.now_ns() > {AFTER_NS})"));
    let (report, text) = recorded.diverges("timer", &[(LIB, arm, &later)]);
    let same = is_exact(&report, &text);
    assert!((AFTER_NS..AFTER_NS + 200_000).contains(&same), "{same}");
    let act = &report["build"]["act"];
    assert_eq!((&act["callback"], &act["kind"]), (&"on_timer".into(), &"timer".into()), "{act}");
    let at = |side: &str| act[side]["value"].as_str().unwrap().to_owned();
    assert!(at("recorded") != at("here") && at("here").starts_with("at 5"), "{act}");
    assert!(text.contains("and timer \"tick\" of broken0 expired"), "{text}");

    let other = arm.replace(
        "&value.to_le_bytes()",
        &format!("&(value + u64::from(cx.now_ns() > {AFTER_NS})).to_le_bytes()"),
    );
    let (report, text) = recorded.diverges("dma", &[(LIB, arm, &other)]);
    is_exact(&report, &text);
    let act = &report["build"]["act"];
    assert_eq!(act["here"]["kind"], "dma");
    assert_eq!(act["here"]["value"], "01 00 00 00 00 00 00 00");
    let differences = report["first_difference"]["differences"].as_array().unwrap();
    assert!(differences[0]["what"].as_str().unwrap().contains("<dma"), "{differences:?}");
}

#[test]
fn a_build_that_only_remembers_more_is_told_from_one_that_acts() {
    let recorded = Recorded::new("swap-layout");
    let (report, text) = recorded.diverges("layout", &REMEMBERS_MORE);
    assert_eq!((&report["kind"], &report["cause"]), (&"digest".into(), &"other-state".into()), "{text}");
    assert_eq!(report["first_difference"], Value::Null);
    assert_eq!(report["build"]["state"], json!([{ "what": "device.broken0.writes", "a": "-", "b": "0x9" }]));
    assert!(
        text.contains("To the end of the recording this build of plugin \"broken\" (broken0) does"),
        "{text}"
    );
}

/// A recording that begins in a snapshot has states of the recorded build in it, which the new one has to load.
#[test]
fn a_beginning_that_the_new_build_does_not_take_is_no_damage() {
    let recorded = Recorded::new("swap-beginning");
    let cut = recorded.scratch.path("cut.rec");
    recorded.reprise(&["trim", &recorded.path(), "-o", &cut, "--from", "50%"]).end().success();
    let with = |command: &str, file: &str, more: &[&str]| {
        let option = format!("broken0={file}");
        recorded.reprise(&[command, &cut, "--plugin", &option]).args(more.iter().copied()).end()
    };
    let file = changed("beginning", &REMEMBERS_MORE);
    let ended = with("verify", &file, &["--json"]);
    assert_eq!(ended.code, Some(4), "{}", ended.errors);
    let answer: Value = serde_json::from_str(&ended.console).unwrap();
    let report = &answer["divergence"];
    assert_eq!((&answer["result"], &report["kind"]), (&"diverged".into(), &"beginning".into()), "{answer}");
    assert_eq!((&report["plugin"], &report["device"]), (&"broken".into(), &"broken0".into()));
    let changes = report["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["path"] == "writes" && change["breaks"] == true), "{answer}");
    for part in [
        "error: this build of plugin \"broken\" does not take the state of broken0 that was saved\n",
        "= note: section \"device.broken0\": ",
        "= note: field `writes`: new, but without `since = ",
    ] {
        assert!(ended.errors.contains(part), "no {part:?} in\n{}", ended.errors);
    }
    let replay = with("replay", &file, &[]);
    assert!(replay.code == Some(4) && replay.errors.contains("field `writes`: new"), "{}", replay.errors);
    // Without the recorded build the refusal is all that there is to say.
    let bare = Reprise::new(["verify", &cut, "--plugin", &format!("broken0={file}")]).end();
    assert_eq!(bare.code, Some(4), "{}", bare.errors);
    assert!(bare.errors.contains("the recorded build is not here"), "{}", bare.errors);
    // What is damaged is damaged with any build; one that reads the state goes on from it.
    let same = changed("same", &[(LIB, "breaks the rules of replay on purpose", "does so in other words")]);
    with("verify", &same, &[]).success().says("identical");
}

#[test]
fn what_is_neither_plugin_nor_device_is_a_mistake() {
    let recorded = Recorded::new("swap-mistake");
    let verify = |option: &[&str]| {
        let ended = recorded.reprise(&["verify", &recorded.path()]).args(option.iter().copied()).end();
        assert_eq!(ended.code, Some(2), "{}", ended.errors);
        ended.errors
    };
    let errors = verify(&["--plugin", "broken1=/x.so"]);
    assert!(errors.contains("the recording has no plugin or device \"broken1\""), "{errors}");
    let errors = verify(&["--plugin", "broken0=/x.so", "--plugin", "broken=/y.so"]);
    assert!(errors.contains("plugin \"broken\" is given twice"), "{errors}");
}
