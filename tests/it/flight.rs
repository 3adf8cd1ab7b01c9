//! The flight recorder: a run keeps its last stretch in memory, and what it saves of it is a recording like any other.

use crate::{
    bare::{elf, finisher_elf},
    crash::Draw,
    qmp::Qmp,
    recording::{info, records},
    reprise::{Ended, Reprise, Scratch, build_folder, guest, root},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{io::Write, path::Path};

/// What `run --flight-recorder` is given, for recordings in this folder.
fn plan(size: &str, reach: u64, folder: &str) -> [String; 2] {
    ["--flight-recorder".to_owned(), format!("{size},reach={reach},dir={folder}")]
}

/// A folder for what is saved.
fn folder(scratch: &Scratch) -> String {
    let folder = scratch.path("saved");
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// What lies there, in the order of the names.
fn saved(folder: &str) -> Vec<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<String> = paths.map(|path| path.to_str().unwrap().to_owned()).collect();
    paths.sort();
    paths
}

/// The one recording that is there, of which the run has told.
fn only(folder: &str, ended: &Ended, why: &str) -> String {
    let paths = saved(folder);
    assert_eq!(paths.len(), 1, "{paths:?}\n{}", ended.errors);
    for told in
        [&format!("reprise: {why}: the flight recorder saved"), &format!("reprise replay {}", paths[0])]
    {
        assert!(ended.errors.contains(told.as_str()), "no {told:?} in {}", ended.errors);
    }
    paths[0].clone()
}

fn verify(recording: &str, more: &[&str]) -> Value {
    let ended = Reprise::new(["verify", recording, "--json"]).args(more.iter().copied()).end().success();
    let found: Value = serde_json::from_str(&ended.console).unwrap();
    assert_eq!(found["result"], "identical", "{recording}: {found}");
    found
}

/// Where a recording begins, in instructions.
fn begin(recording: &str) -> u64 {
    info(recording)["start"]["icount"].as_u64().unwrap_or(0)
}

/// A run to this instruction, with more words.
fn limited(name: &str, args: &[&str], limit: u64, more: &[&str]) -> Ended {
    let limit = limit.to_string();
    let run = Reprise::bare("flight", name).args(args.iter().copied());
    run.args(["--icount-limit", &limit]).args(more.iter().copied()).end().success()
}

/// The same run with a flight recorder comes to the same state, and what it saves there replays to it. The epochs
/// change five times and more on the way.
fn is_kept(name: &str, args: &[&str], limit: u64, chaos: &[&str]) {
    let scratch = Scratch::new("kept");
    let folder = folder(&scratch);
    let reach = limit / 4;
    let [option, value] = plan("1M", reach, &folder);
    let more = [&[option.as_str(), &value], chaos].concat();
    let kept = limited(name, args, limit, &more);
    let plain = limited(name, args, limit, &[]);
    assert_eq!(
        kept.position_and_digest(),
        plain.position_and_digest(),
        "{name} to {limit}: the guest can tell"
    );
    let recording = only(&folder, &kept, "the limit was reached");
    let begin = begin(&recording);
    assert!(begin >= limit - reach && begin <= limit - reach / 2, "{name} to {limit}: begins at {begin}");
    for more in [&[][..], &["--chaos-seed", "3"]] {
        let found = verify(&recording, more);
        for field in ["icount", "vtime_ns", "digest"] {
            assert_eq!(&found[field], kept.summary(field), "{name} to {limit}: {field}");
        }
    }
}

#[test]
fn what_bare_guests_did_last_is_kept() {
    let scratch = Scratch::new("flight-disk");
    let image = scratch.path("disk.img");
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let disk = format!("disk0={image}");
    let guests: [(&str, &[&str]); 6] = [
        ("demo.elf", &["--disk", &disk]),
        ("demo.elf", &["--scratch-disk"]),
        ("irqstorm.elf", &[]),
        ("wfi.elf", &[]),
        ("paging.elf", &[]),
        ("smp.elf", &["-smp", "4", "--set", "machine.schedule_seed=5"]),
    ];
    let mut draw = Draw(11);
    for (name, args) in guests {
        let whole = Reprise::bare("flight", name).args(args.iter().copied()).end().success();
        let end = whole.position_and_digest().0;
        for round in 0..6 {
            let limit = end / 8 + draw.below(end - end / 8 - 1);
            let chaos: &[&str] = if round % 2 == 0 { &[] } else { &["--chaos-seed", "8"] };
            is_kept(name, args, limit, chaos);
        }
    }
}

/// A machine with a flight recorder and a socket.
fn lively(scratch: &Scratch, folder: &str, reach: u64) -> (crate::reprise::Started, Qmp) {
    let socket = scratch.path("control");
    let started = Reprise::bare("flight-lively", "lively.elf").args(["--control", &socket]);
    let started = started.args(plan("1M", reach, folder).iter().map(String::as_str)).start();
    (started, Qmp::connect(&socket))
}

/// Waits until the machine has come so far.
fn pass(client: &mut Qmp, icount: u64) {
    while client.icount() < icount {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_command_saves_and_the_guest_cannot_tell() {
    let scratch = Scratch::new("commands");
    let folder = folder(&scratch);
    let undisturbed = Reprise::bare("undisturbed", "lively.elf").end().success().position_and_digest();
    let (started, mut client) = lively(&scratch, &folder, 40_000_000);
    let early = client.execute("flight-save");
    // On the way, by each of the commands; also of a machine that stands still.
    pass(&mut client, 200_000_000);
    let running = client.execute("flight-save");
    pass(&mut client, 300_000_000);
    client.execute("stop");
    let here = client.execute("query-digest");
    // A snapshot by name changes nothing in what is kept.
    let arguments = json!({ "tag": "one", "folder": scratch.path("shelf") });
    client.execute_with("snapshot-save", arguments);
    let paused = client.execute("flight-save");
    assert_eq!(paused["icount"], here["icount"]);
    let again = client.execute("flight-save");
    assert_eq!((&again["icount"], &again["from-icount"]), (&paused["icount"], &paused["from-icount"]));
    let named = scratch.path("named.rec");
    let said = client.human(&format!("flight_save {named}"));
    assert!(said.starts_with(&format!("{named}: from icount ")), "{said}");
    let refused = json!({ "execute": "flight-save", "arguments": { "filename": named } }).to_string();
    let refused = client.refused(&refused).1;
    assert!(refused.contains("nothing is overwritten"), "{refused}");
    let refused =
        client.refused("{\"execute\":\"flight-save\",\"arguments\":{\"filename\":\"/no/x.rec\"}}").1;
    assert!(refused.contains("has to exist"), "{refused}");
    let refused = client.refused("{\"execute\":\"snapshot-load\",\"arguments\":{\"tag\":\"x\"}}").1;
    assert!(refused.contains("flight recorder"), "{refused}");
    client.execute("cont");
    let command = scratch.path("command.rec");
    let socket = scratch.path("control");
    let ended = Reprise::new(["flight", "save", &socket, "-o", &command]).end().success();
    assert!(ended.console.starts_with(&format!("{command}: from icount ")), "{}", ended.console);
    let ended = started.end().success();
    assert_eq!(ended.position_and_digest(), undisturbed, "the guest could tell");

    let path = |answer: &Value| answer["filename"].as_str().unwrap().to_owned();
    let answers = [&early, &running, &paused, &again];
    assert_eq!(saved(&folder).len(), answers.len(), "a guest that ends well is not saved: {}", ended.errors);
    for answer in answers {
        let found = verify(&path(answer), &[]);
        for field in ["icount", "vtime-ns"] {
            assert_eq!(found[field.replace('-', "_")], answer[field]);
        }
        assert_eq!(begin(&path(answer)), answer["from-icount"].as_u64().unwrap());
        let length = answer["icount"].as_u64().unwrap() - begin(&path(answer));
        assert!(length <= 41_000_000, "{answer}");
    }
    assert_eq!(verify(&path(&paused), &[])["digest"], here["digest"]);
    assert!(begin(&path(&running)) >= 100_000_000, "the epochs did not change");
    verify(&command, &[]);
    // The names say which machine, and where; the second one of a place gets another.
    assert!(path(&paused).ends_with(&format!("/virt.flight-{}.rec", paused["icount"])), "{paused}");
    assert!(path(&again).ends_with(&format!("/virt.flight-{}-2.rec", paused["icount"])), "{again}");
}

#[test]
fn what_was_typed_is_kept_and_a_part_can_be_used_as_any_recording() {
    let scratch = Scratch::new("typed");
    let folder = folder(&scratch);
    let (mut started, mut client) = lively(&scratch, &folder, 60_000_000);
    pass(&mut client, 150_000_000);
    started.press("hello ");
    started.wait_for("hello ");
    let saved = client.execute("flight-save");
    started.press("q");
    let ended = started.end().success();
    let undisturbed = ended.position_and_digest();
    let recording = saved["filename"].as_str().unwrap();
    let typed = records(recording).into_iter().filter(|record| record["kind"] == "input");
    let typed: String = typed.map(|record| record["data"].as_str().unwrap().to_owned()).collect();
    assert_eq!(typed, crate::recording::hex("hello "));
    let replayed = Reprise::new(["replay", recording]).end().success();
    assert!(replayed.console.contains("hello "), "{}", replayed.console);
    let found = verify(recording, &[]);
    // Sought in, packed, cut, and gone on from.
    let (middle, end) = (found["icount"].as_u64().unwrap() - 100_000, found["digest"].as_str().unwrap());
    let places = [format!("icount:{middle}"), "end".into(), format!("icount:{middle}")];
    let answers = crate::seek::ask(recording, &places);
    assert_eq!((&answers[0], answers[1].1.as_str()), (&answers[2], end));
    let [pack, cut, live] = ["one.pack", "cut.rec", "live.rec"].map(|name| scratch.path(name));
    Reprise::new(["pack", recording, "-o", &pack]).end().success();
    assert_eq!(verify(&pack, &[])["digest"], end);
    Reprise::new(["trim", recording, "-o", &cut, "--from", &places[0]]).end().success();
    assert_eq!(verify(&cut, &[])["digest"], end);
    let args = ["replay", recording, "--live", "-o", &live, "--rtc", "1700000000", "--control", "none"];
    let went_on = Reprise::new(args).input_after("reprise", "q").input_after("hello ", "q").end();
    assert_eq!(went_on.code, Some(0), "{}", went_on.errors);
    verify(&live, &[]);
    assert!(undisturbed.0 > middle);
}

#[test]
fn a_run_from_a_snapshot_is_kept_from_there() {
    let scratch = Scratch::new("from");
    let folder = folder(&scratch);
    let kept = |limit: &str, reach: u64, more: &[&str]| {
        let run = Reprise::run("from").args(["--icount-limit", limit]).args(more.iter().copied());
        let ended = run.args(plan("1M", reach, &folder).iter().map(String::as_str)).end().success();
        let recording = format!("{folder}/virt.flight-{}.rec", ended.position_and_digest().0);
        assert_eq!(&verify(&recording, &[])["digest"], ended.summary("digest"));
        (recording, ended.position_and_digest())
    };
    let firmware = guest("lively.elf");
    let (first, _) = kept("20M", 10_000_000, &["-bios", &firmware]);
    let from = format!("{first}/snapshots/start");
    let (second, _) = kept("30M", 100_000_000, &["--from", &from]);
    assert!(begin(&first) >= 10_000_000, "it begins at {}", begin(&first));
    assert_eq!(begin(&second), begin(&first));
    let (third, end) = kept("60M", 10_000_000, &["--from", &format!("{second}/snapshots/start")]);
    assert!(begin(&third) >= 50_000_000, "it begins at {}", begin(&third));
    assert_eq!(limited("lively.elf", &[], 60_000_000, &[]).position_and_digest(), end);
}

/// A run of an ELF of ours that ends with this code, and the recording that it leaves, which has this for an end.
fn fails(text: &[u8], more: &[&str], code: i32, why: &str, reason: &str) {
    let scratch = Scratch::new("fails");
    let (folder, guest) = (folder(&scratch), scratch.path("guest.elf"));
    std::fs::write(&guest, text).unwrap();
    let run = Reprise::run("fails").args(["-bios", &guest]).args(more.iter().copied());
    let ended = run.args(plan("1M", 1_000_000, &folder).iter().map(String::as_str)).end();
    assert_eq!(ended.code, Some(code), "{}", ended.errors);
    let recording = only(&folder, &ended, why);
    assert_eq!(&verify(&recording, &[])["digest"], ended.summary("digest"));
    assert_eq!(info(&recording)["end"]["reason"], reason);
    assert_eq!(Reprise::new(["replay", &recording]).end().code, Some(code));
}

/// Counts down so that epochs pass, then goes on with `then`.
fn after_a_while(then: &[u32]) -> Vec<u8> {
    // lui t2, 0x400; 1: addi t2, t2, -1; bnez t2, 1b: 8 million instructions.
    elf(&[&[0x0040_03b7, 0xfff3_8393, 0xfe03_9ee3][..], then].concat())
}

#[test]
fn a_guest_that_fails_is_kept() {
    fails(&finisher_elf(0x2a), &[], 0x2a, "the guest ended with code 42", "power-off with code 42");
    let fail: Vec<u32> = finisher_elf(0x1ff)[0x78..]
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    fails(&after_a_while(&fail), &[], 255, "the guest ended with code 511", "power-off with code 511");
    // wfi with nothing enabled, and nobody who could answer.
    let wait = after_a_while(&[0x1050_0073, 0xffdf_f06f]);
    let alone = ["--port", "uart0=null", "--port", "vcon0=null"];
    fails(&wait, &alone, 0, "the guest waits for ever", "deadlock");
    // j .
    let busy = after_a_while(&[0x0000_006f]);
    fails(&busy, &["--icount-limit", "20M"], 0, "the limit was reached", "instruction limit");
}

#[test]
fn a_plugin_that_fails_is_kept_and_fails_again() {
    let scratch = Scratch::new("faults");
    let (folder, plugins) = (folder(&scratch), scratch.path("plugins"));
    std::fs::create_dir(&plugins).unwrap();
    let plugin = format!("{plugins}/libreprise_plugin_broken.so");
    std::fs::copy(build_folder().join("libreprise_broken.so"), &plugin).unwrap();
    let board = root().join("tests/broken/boards/broken.toml");
    let run = Reprise::new(["--plugin-path", &plugins, "run", board.to_str().unwrap()])
        .args(["-bios", &guest("broken.elf"), "--set", "device.broken0.sin=panic"])
        .args(["--set", "device.broken0.after_vtime_ns=15357201"])
        .args(plan("1M", 2_000_000, &folder).iter().map(String::as_str));
    let ended = run.end();
    assert_eq!(ended.code, Some(7), "{}", ended.errors);
    assert!(ended.errors.contains("device \"broken0\" failed in"), "{}", ended.errors);
    let recording = only(&folder, &ended, "device \"broken0\" failed");
    assert!(begin(&recording) > 12_000_000, "the epochs did not change");
    assert_eq!(info(&recording)["end"]["reason"], "plugin fault");
    // What it was made of is in it, also when the file is another by then.
    std::fs::remove_file(&plugin).unwrap();
    let verified = Reprise::new(["verify", &recording, "--trust-plugins"]).end().success();
    assert!(verified.console.starts_with("identical"), "{}", verified.console);
    let replayed = Reprise::new(["replay", &recording, "--trust-plugins"]).end();
    assert_eq!(replayed.code, Some(7), "{}", replayed.errors);
}

#[test]
fn signals_save() {
    let scratch = Scratch::new("signals");
    let send = |signal: Signal| {
        move |process: Pid, _: &mut std::process::ChildStdin| {
            kill_process(process, signal).unwrap();
        }
    };
    for (number, signal) in [(15, Signal::TERM), (2, Signal::INT), (1, Signal::HUP), (3, Signal::QUIT)] {
        let folder = scratch.path(&format!("by-{number}"));
        std::fs::create_dir(&folder).unwrap();
        let run = Reprise::bare("signals", "lively.elf").after("@lively ready", send(signal));
        let ended = run.args(plan("1M", 40_000_000, &folder).iter().map(String::as_str)).end();
        assert_eq!(ended.code, Some(128 + number), "{}", ended.errors);
        let recording = only(&folder, &ended, &format!("signal {number}"));
        assert_eq!(&verify(&recording, &[])["digest"], ended.summary("digest"));
    }
    let folder = folder(&scratch);
    let run = Reprise::bare("signals", "lively.elf")
        .args(plan("1M", 40_000_000, &folder).iter().map(String::as_str));
    let undisturbed = Reprise::bare("signals", "lively.elf").end().success().position_and_digest();
    let ended = run.after("@lively ready", send(Signal::USR1)).end().success();
    assert_eq!(ended.position_and_digest(), undisturbed, "the guest could tell");
    verify(&only(&folder, &ended, "SIGUSR1"), &[]);
    // Where there is none, it is no reason to die.
    let ended =
        Reprise::bare("signals", "lively.elf").after("@lively ready", send(Signal::USR1)).end().success();
    assert!(ended.errors.contains("this machine has no flight recorder"), "{}", ended.errors);
}

#[test]
fn a_guest_that_resets_itself_is_kept_three_times() {
    let scratch = Scratch::new("resets");
    let folder = folder(&scratch);
    // Somebody presses the button: that is no failure of the guest's.
    let run = Reprise::bare("resets", "reset.elf").input_after("@reset waits", "q");
    let ended = run.args(plan("1M", 1_000_000, &folder).iter().map(String::as_str)).end().success();
    let recording = only(&folder, &ended, "the guest has reset the machine");
    let found = verify(&recording, &[]);
    assert!(found["icount"].as_u64().unwrap() < ended.position_and_digest().0);
    // li t0, 0x100000; li t1, 0x7777; sw t1, 0(t0); j . — again and again.
    let reset = after_a_while(&[0x0010_02b7, 0x0000_7337, 0x7773_0313, 0x0062_a023, 0x0000_006f]);
    let (loops, many) = (scratch.path("loops.elf"), scratch.path("many"));
    std::fs::write(&loops, reset).unwrap();
    std::fs::create_dir(&many).unwrap();
    let run = Reprise::run("loops").args(["-bios", &loops, "--icount-limit", "100M"]);
    let ended = run.args(plan("1M", 30_000_000, &many).iter().map(String::as_str)).end().success();
    let paths = saved(&many);
    let told = ended.errors.matches("saves nothing: from now on").count();
    assert_eq!(told, 1, "{}", ended.errors);
    // One at the end, too; what is asked for while another is written is left out.
    assert!(paths.len() <= 4 && paths.len() >= 2, "{paths:?}\n{}", ended.errors);
    paths.iter().for_each(|path| drop(verify(path, &[])));
}

#[test]
fn memory_stays_within_the_budget() {
    let scratch = Scratch::new("budget");
    let (folder, guest) = (folder(&scratch), scratch.path("fill.elf"));
    // lui t0, 0x80100; slli 32; srli 32; lui t1, 0x8000 (128 MiB); add t1, t0, t1; addi t3, t3, 1;
    // 1: sd t3, 0(t0); addi t0, t0, 64; bltu t0, t1, 1b; j to the beginning: fills 128 MiB, each time with another
    // number.
    let fill = [
        0x8010_02b7,
        0x0202_9293,
        0x0202_d293,
        0x0800_0337,
        0x0062_8333,
        0x001e_0e13,
        0x01c2_b023,
        0x0402_8293,
        0xfe62_ece3,
        0xfddf_f06f,
    ];
    std::fs::write(&guest, elf(&fill)).unwrap();
    let run = |more: &[&str]| {
        let run = Reprise::run("budget").args(["-bios", &guest, "-m", "256M", "--icount-limit", "300M"]);
        let ended = run.args(more.iter().copied()).end().success();
        (ended.peak_kib, ended.position_and_digest())
    };
    let (plain, end) = run(&[]);
    assert!(plain > 128 << 10, "{plain} KiB: the guest did not fill its memory");
    let [option, value] = plan("16M", 100_000_000, &folder);
    let (kept, end_of_kept) = run(&[&option, &value]);
    assert_eq!(end, end_of_kept);
    // A copy of what the guest uses, the budget, and what it takes to write a recording.
    let bound = plain + (128 << 10) + (16 << 10) + (24 << 10);
    assert!(kept <= bound, "{kept} KiB with the flight recorder, {plain} KiB without: more than {bound} KiB");
    let recording = &saved(&folder)[0];
    assert!(begin(recording) > 290_000_000, "begins at {}", begin(recording));
    assert!(Path::new(recording).join("snapshots/start.snap").exists());
    verify(recording, &[]);
}

#[test]
fn debian_with_a_disk_is_kept() {
    let scratch = Scratch::new("flight-debian");
    let folder = folder(&scratch);
    let disk = format!("disk0={}", guest("debian.ext4"));
    // The same MiB in two epochs that are far apart: whoever begins in the second has to be told of it again.
    let read = "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=16 2>/dev/null";
    let work = "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done";
    let line = format!("{read}; {work}; {read}; echo @read$((1 + 1))\n");
    let run = Reprise::debian("flight-debian", "").args(["--disk", &disk]);
    let run = run.args(plan("64M", 300_000_000, &folder).iter().map(String::as_str));
    let run = run.input_after("~ # ", &line);
    let run = run.after("@read2", |process, _| kill_process(process, Signal::USR1).unwrap());
    let ended = run.input_after("@read2", "poweroff -f\n").end().success();
    let recording = only(&folder, &ended, "SIGUSR1");
    assert!(begin(&recording) > 1_000_000_000, "begins at {}", begin(&recording));
    let end = verify(&recording, &[])["digest"].clone();
    let blocks = records(&recording).into_iter().filter(|record| record["kind"] == "disk-block");
    let blocks: Vec<u64> = blocks.map(|record| record["block"].as_u64().unwrap()).collect();
    assert!((0..64).all(|block| blocks.contains(&block)), "not told again: {blocks:?}");
    let pack = scratch.path("one.pack");
    Reprise::new(["pack", &recording, "-o", &pack]).end().success();
    assert_eq!(verify(&pack, &[])["digest"], end);
}

#[test]
fn what_led_to_a_failing_disk_is_kept() {
    let scratch = Scratch::new("failing-disk");
    let (folder, image) = (folder(&scratch), scratch.path("root.ext4"));
    std::fs::copy(guest("debian.ext4"), &image).unwrap();
    let run = Reprise::debian("failing-disk", "").args(["--disk", &format!("disk0={image}")]);
    let run = run.args(plan("64M", 300_000_000, &folder).iter().map(String::as_str));
    let run = run.after("~ # ", move |_, stdin| {
        std::fs::File::create(&image).unwrap();
        stdin.write_all(b"echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null count=1\n").unwrap();
    });
    let ended = run.end();
    assert_eq!(ended.code, Some(6), "{}", ended.errors);
    assert!(ended.errors.contains("a disk failed on the host"), "{}", ended.errors);
    let recording = only(&folder, &ended, "a disk failed");
    assert!(begin(&recording) > 300_000_000, "begins at {}", begin(&recording));
    // It has no end: no log can say what the guest would have seen.
    let typed = records(&recording).into_iter().filter(|record| record["kind"] == "input");
    let typed: String = typed.map(|record| record["data"].as_str().unwrap().to_owned()).collect();
    assert!(typed.contains(&crate::recording::hex("drop_caches")), "{typed}");
    assert!(info(&recording)["complete"] == false);
}

#[test]
fn debian_that_panics_is_kept() {
    let scratch = Scratch::new("panics");
    let folder = folder(&scratch);
    let run = Reprise::debian("panics", "panic=-1").input_after("~ # ", "echo c >/proc/sysrq-trigger\n");
    let run = run.args(plan("64M", 300_000_000, &folder).iter().map(String::as_str));
    let run = run.after("the flight recorder saved", |_, _| ());
    let ended = run.args(["--icount-limit", "2500M"]).end().success();
    let paths = saved(&folder);
    assert_eq!(paths.len(), 2, "{paths:?}\n{}", ended.errors);
    assert!(ended.errors.contains("the guest has reset the machine"), "{}", ended.errors);
    let first = paths.iter().min_by_key(|path| info(path)["end"]["icount"].as_u64()).unwrap();
    verify(first, &[]);
    let replayed = Reprise::new(["replay", first]).end().success();
    assert!(replayed.console.contains("sysrq: Trigger a crash"), "{}", replayed.console);
}
