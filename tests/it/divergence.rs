//! What is said of a replay that is not as it was recorded: a plugin with one sin at a time, and two recordings.

use crate::reprise::{Ended, Reprise, Scratch, build_folder, guest, root};
use serde_json::Value;

/// From here on the device sins.
const AFTER_VTIME_NS: u64 = 5_000_000;
const DIGEST_EVERY: u64 = 1_000_000;
const IDENTICAL: Option<i32> = Some(0);
const DIVERGED: Option<i32> = Some(4);

/// A folder with the plugin `broken`, and recordings made with it.
struct Sins {
    scratch: Scratch,
    plugins: String,
}

impl Sins {
    fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let plugins = scratch.path("plugins");
        std::fs::create_dir(&plugins).unwrap();
        let file = format!("{plugins}/libreprise_plugin_broken.so");
        std::fs::copy(build_folder().join("libreprise_broken.so"), file).unwrap();
        Self { scratch, plugins }
    }

    fn reprise<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Reprise {
        Reprise::new(["--plugin-path", &self.plugins]).args(args)
    }

    /// The command that records a run with this sin.
    fn record(&self, name: &str, sin: &str) -> (Reprise, String) {
        self.record_at("1700000000", name, sin)
    }

    /// The same, at another time of day.
    fn record_at(&self, rtc: &str, name: &str, sin: &str) -> (Reprise, String) {
        let path = self.scratch.path(name);
        let board = root().join("tests/broken/boards/broken.toml");
        let command = self
            .reprise(["record", "-o", &path, board.to_str().unwrap(), "-bios", &guest("broken.elf")])
            .args(["--rtc", rtc, "--set", &format!("device.broken0.sin={sin}")])
            .args(["--set", &format!("device.broken0.after_vtime_ns={AFTER_VTIME_NS}")]);
        (command, path)
    }

    fn recorded(&self, sin: &str) -> String {
        let (command, path) = self.record(&format!("{sin}.rec"), sin);
        command.args(["--digest-every", &DIGEST_EVERY.to_string()]).end().success();
        path
    }

    fn verify(&self, path: &str) -> Reprise {
        self.reprise(["verify", "--json", path])
    }

    /// The report of a divergence, and the words for people.
    fn diverges(&self, path: &str) -> (Value, String) {
        diverged(self.verify(path).end())
    }
}

fn diverged(ended: Ended) -> (Value, String) {
    assert_eq!(ended.code, DIVERGED, "{}\n{}", ended.console, ended.errors);
    let answer: Value = serde_json::from_str(&ended.console).unwrap();
    assert_eq!(answer["result"], "diverged");
    (answer["divergence"].clone(), ended.errors)
}

fn identical(ended: Ended) {
    assert_eq!(ended.code, IDENTICAL, "{}\n{}", ended.console, ended.errors);
    let answer: Value = serde_json::from_str(&ended.console).unwrap();
    assert_eq!((&answer["result"], &answer["divergence"]), (&"identical".into(), &Value::Null));
}

/// The one thing that differs where two replays part.
fn only_difference(report: &Value) -> &Value {
    let all = report["first_difference"]["differences"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_ne!(all[0]["a"], all[0]["b"]);
    &all[0]
}

/// The instruction that read the device is named, with its place and its function, and the device is suspected.
fn blames_the_read(report: &Value, text: &str) {
    let first = &report["first_difference"];
    assert_eq!(first["exact"], true, "{text}");
    let instruction = &first["instruction"];
    assert_eq!((&instruction["device"], &instruction["operand"]), (&"broken0".into(), &"0x10050000".into()));
    let symbol = instruction["symbol"].as_str().unwrap();
    assert!(symbol.starts_with("read_broken+"), "{symbol}");
    assert!(instruction["instruction"].as_str().unwrap().starts_with("ld "), "{instruction}");
    assert_eq!(first["suspect"]["device"], "broken0");
    assert_eq!(first["suspect"]["plugin"], "broken");
    let pc = instruction["pc"].as_str().unwrap();
    for part in [&format!("then hart 0 executed {pc} <{symbol}>: ld "), "look at device broken0 first"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// Found in the digest at the end of the interval in which the sin began, and told with what the log has before it.
fn is_found_in_the_next_digest(report: &Value, sections: &[&str], text: &str) {
    assert_eq!((&report["kind"], &report["cause"]), (&"digest".into(), &"not-deterministic".into()));
    assert_eq!(report["vtime_ns"], AFTER_VTIME_NS + DIGEST_EVERY);
    assert_eq!(report["last_agreed"]["vtime_ns"], AFTER_VTIME_NS);
    assert_eq!(report["sections"], Value::from(sections));
    let same = report["first_difference"]["same"]["vtime_ns"].as_u64().unwrap();
    assert!((AFTER_VTIME_NS..AFTER_VTIME_NS + DIGEST_EVERY).contains(&same), "{same}");
    // The guest reads the clock of day in each round of a million instructions.
    let before = report["records"].as_array().unwrap();
    assert!((5..=6).contains(&before.len()), "{before:?}");
    assert_eq!(before[0]["text"], "host clock read as 1700000000000000000 ns");
    assert!(before.iter().all(|record| record["vtime_ns"].as_u64().unwrap() <= same), "{before:?}");
    assert!(text.contains("the log before it:\n  #1  icount "), "{text}");
}

#[test]
fn what_keeps_the_rules_is_identical() {
    let sins = Sins::new("virtue");
    identical(sins.verify(&sins.recorded("none")).end());
}

#[test]
fn a_field_that_takes_the_hosts_time_is_named() {
    let sins = Sins::new("time");
    let (report, text) = sins.diverges(&sins.recorded("time"));
    is_found_in_the_next_digest(&report, &["device.broken0"], &text);
    blames_the_read(&report, &text);
    assert_eq!(only_difference(&report)["what"], "device.broken0.counter");
    assert!(text.contains("  device.broken0.counter  0x"), "{text}");
}

#[test]
fn a_register_that_gets_what_is_not_the_same_is_named() {
    for sin in ["address", "hash"] {
        let sins = Sins::new(sin);
        let (report, text) = sins.diverges(&sins.recorded(sin));
        is_found_in_the_next_digest(&report, &["hart0", "ram"], &text);
        blames_the_read(&report, &text);
        assert_eq!(only_difference(&report)["what"], "hart0.a0");
    }
}

#[test]
fn ram_that_a_device_writes_differently_is_named_with_the_timer_behind_it() {
    let sins = Sins::new("dma");
    let (report, text) = sins.diverges(&sins.recorded("dma"));
    is_found_in_the_next_digest(&report, &["ram"], &text);
    let first = &report["first_difference"];
    assert_eq!((&first["exact"], &first["suspect"]["device"]), (&true.into(), &"broken0".into()));
    assert_eq!(first["expired"][0]["timer"], "tick");
    let what = only_difference(&report)["what"].as_str().unwrap();
    assert!(what.starts_with("ram 0x8000") && what.contains("<dma"), "{what}");
    assert!(text.contains("and timer \"tick\" of broken0 expired"), "{text}");
}

#[test]
fn a_frame_that_a_device_sends_differently_is_named_with_its_port() {
    let sins = Sins::new("frame");
    let (report, text) = sins.diverges(&sins.recorded("frame"));
    is_found_in_the_next_digest(&report, &["ports"], &text);
    blames_the_read(&report, &text);
    let what = only_difference(&report)["what"].as_str().unwrap();
    assert!(what.contains("broken0.net.written"), "{what}");
    assert!(text.contains(what), "{text}");
}

#[test]
fn a_bottom_half_that_is_not_the_recorded_one_is_a_divergence_at_once() {
    let sins = Sins::new("bh");
    let (report, text) = sins.diverges(&sins.recorded("bh"));
    let kind = report["kind"].as_str().unwrap();
    assert!(["missed", "unlogged", "different", "icount"].contains(&kind), "{kind}");
    let work = "bottom half \"work\" of broken0";
    let is_work = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(work));
    assert!(is_work(&report["expected"]["text"]) || is_work(&report["found"]), "{text}");
    // Each replay throws a coin at each read. A pair may throw alike as long as the report looks for a difference.
    match report["cause"].as_str().unwrap() {
        "not-deterministic" => {
            let differences = report["first_difference"]["differences"].as_array().unwrap();
            let is_known = |d: &Value| d["what"] == "device.broken0.bottom_halves";
            assert!(differences.iter().any(is_known), "{text}");
            if report["first_difference"]["exact"] == true {
                blames_the_read(&report, &text);
            }
        }
        cause => assert!(["systematic", "not-reproduced"].contains(&cause), "{cause}"),
    }
}

#[test]
fn what_depends_on_the_process_is_narrowed_down_to_an_interval() {
    let sins = Sins::new("env");
    let path = sins.recorded("env");
    // The same environment is the same run: nothing can be noticed.
    identical(sins.verify(&path).end());
    let (report, text) = diverged(sins.verify(&path).env("REPRISE_BROKEN", "7").end());
    assert_eq!((&report["kind"], &report["cause"]), (&"digest".into(), &"systematic".into()));
    assert_eq!(report["sections"], Value::from(["hart0", "ram"].as_slice()));
    assert_eq!(report["last_agreed"]["vtime_ns"], AFTER_VTIME_NS);
    assert_eq!(report["vtime_ns"], AFTER_VTIME_NS + DIGEST_EVERY);
    assert_eq!(report["first_difference"], Value::Null);
    for part in ["replays agree with each", "came up after icount 5000000", "its environment"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Nothing is searched for unasked.
    let ended = sins.verify(&path).args(["--no-search"]).env("REPRISE_BROKEN", "7").end();
    assert_eq!(diverged(ended).0["cause"], "not-searched");
}

#[test]
fn a_counter_of_the_process_starts_anew_with_each_process() {
    let sins = Sins::new("static");
    identical(sins.verify(&sins.recorded("static")).end());
}

#[test]
fn a_plugin_that_panics_panics_again() {
    let sins = Sins::new("panic");
    let (command, path) = sins.record("panic.rec", "panic");
    let ended = command.end();
    assert_eq!(ended.code, Some(7), "{}", ended.errors);
    identical(sins.verify(&path).end());
}

/// The answer of `reprise diff`, and its exit code.
fn diff(sins: &Sins, a: &str, b: &str) -> (Option<i32>, Value) {
    let ended = sins.reprise(["diff", "--json", a, b]).end();
    assert_eq!(ended.errors, "");
    (ended.code, serde_json::from_str(&ended.console).unwrap())
}

#[test]
fn recordings_of_one_run_are_identical_whatever_their_digests() {
    let sins = Sins::new("diff-same");
    let often = sins.recorded("none");
    let (command, seldom) = sins.record("seldom.rec", "none");
    command.args(["--digest-every", "3M"]).end().success();
    let (command, at_the_end) = sins.record("end.rec", "none");
    command.args(["--digest-every", "off"]).end().success();
    for (other, unpaired) in [(&often, 0), (&seldom, 14), (&at_the_end, 20)] {
        for (a, b) in [(&often, other), (other, &often)] {
            let (code, answer) = diff(&sins, a, b);
            assert_eq!((code, &answer["result"]), (IDENTICAL, &"identical".into()), "{answer}");
            assert_eq!((&answer["unpaired_digests"], &answer["log"]), (&unpaired.into(), &Value::Null));
        }
    }
}

#[test]
fn another_seed_and_another_input_are_named() {
    let sins = Sins::new("diff-input");
    let first = sins.recorded("none");
    let (command, other_seed) = sins.record("seed.rec", "none");
    command.args(["--seed", "2"]).end().success();
    let (code, answer) = diff(&sins, &first, &other_seed);
    assert_eq!((code, &answer["common_records"]), (DIVERGED, &0.into()), "{answer}");
    assert_eq!(answer["log"]["input"], true);
    assert!(answer["log"]["a"]["text"].as_str().unwrap().starts_with("seed "), "{answer}");

    // The clock of day is what enters here: the machines are the same until it does.
    let (command, other_time) = sins.record_at("1800000000", "time.rec", "none");
    command.end().success();
    let (code, answer) = diff(&sins, &first, &other_time);
    assert_eq!((code, &answer["states"]), (DIVERGED, &"same".into()), "{answer}");
    let manifest = answer["manifest"].as_array().unwrap();
    assert!(manifest.iter().all(|difference| difference["machine"] == false), "{manifest:?}");
    let text = |side: &str| answer["log"][side]["text"].as_str().unwrap().to_owned();
    assert_eq!(text("a"), "host clock read as 1700000000000000000 ns");
    assert_eq!(text("b"), "host clock read as 1800000000000000000 ns");
}

#[test]
fn recordings_whose_machines_part_are_told_where() {
    let sins = Sins::new("diff-sin");
    let [good, bad] = ["none", "time"].map(|sin| sins.recorded(sin));
    let (code, answer) = diff(&sins, &good, &bad);
    assert_eq!(code, DIVERGED);
    let manifest = answer["manifest"].as_array().unwrap();
    let what: Vec<_> = manifest.iter().map(|d| (&d["what"], &d["a"], &d["b"])).collect();
    let sin = ("board.device.broken0.sin".into(), "none".into(), "time".into());
    assert_eq!(what, [(&sin.0, &sin.1, &sin.2)]);
    assert_eq!((&answer["states"], &answer["log"]["input"]), (&"different".into(), &false.into()));
    assert_eq!(only_difference(&answer)["what"], "device.broken0.counter");
    let text = sins.reprise(["diff", &good, &bad]).end().console;
    blames_the_read(&answer, &(text.clone() + "look at device broken0 first"));
    assert!(text.contains("board.device.broken0.sin: none | time"), "{text}");
    let unsearched = sins.reprise(["diff", &good, &bad, "--json", "--no-search"]).end();
    let unsearched: Value = serde_json::from_str(&unsearched.console).unwrap();
    assert_eq!((&unsearched["states"], &unsearched["result"]), (&"not-compared".into(), &"different".into()));
}

#[test]
fn recordings_that_do_not_replay_as_recorded_are_told_so() {
    let sins = Sins::new("diff-env");
    let first = sins.recorded("env");
    let (command, second) = sins.record("second.rec", "env");
    let command = command.args(["--digest-every", &DIGEST_EVERY.to_string()]);
    command.env("REPRISE_BROKEN", "7").end().success();
    let ended = sins.reprise(["diff", &first, &second]).end();
    assert_eq!(ended.code, DIVERGED);
    assert!(ended.console.contains("`reprise verify` says which"), "{}", ended.console);
}
