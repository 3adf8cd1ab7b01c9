use super::*;
use reprise_machine::{
    Seed,
    replay::{Entry, Position, Record, RecordSink, log::Tail},
};
use std::{fs, path::PathBuf};

fn manifest() -> Manifest {
    Manifest {
        format: 1,
        run_id: String::new(),
        reprise: "0.1.0".into(),
        created_unix_s: 1_700_000_000,
        digest_every: Some(100),
        console: Some("uart0.serial".into()),
        board: "[machine]\nname = \"a\"\n".into(),
        end: None,
        parent: Some(ParentRow { run_id: "00".into(), icount: 5, vtime_ns: 7 }),
        start: None,
        images: Images {
            kernel: Some(ImageRow { name: "Image".into(), size_bytes: 3, blake3: Hash::of(b"abc") }),
            ..Images::default()
        },
        devices: vec![DeviceRow { id: "uart0".into(), ports: vec!["serial".into()] }],
        plugins: Vec::new(),
        disks: vec![DiskRow {
            device: "disk0".into(),
            port: "disk".into(),
            file: Some("/x".into()),
            format: None,
            size_bytes: 512,
            read_only: true,
            backing: false,
        }],
    }
}

fn seed() -> Record {
    Record { position: Position::default(), icount: 0, entry: Entry::Seed(Seed([0; 32])) }
}

/// A folder of this test's own.
fn scratch(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("reprise-recording-{test}-{}", std::process::id()));
    let _none = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    folder
}

fn create(path: &Path, force: bool) -> Result<Recorder, Failure> {
    let content: &[u8] = b"abc";
    let contents = vec![(Hash::of(content), content.to_vec())];
    let (mut recorder, mut sink) = Recorder::create(path, manifest(), contents, force, || ())?;
    sink.push(seed()).unwrap();
    recorder.begin()?;
    recorder.settle().map(|()| recorder)
}

#[test]
fn a_manifest_comes_back() {
    let text = manifest().to_text();
    assert_eq!(Manifest::from_text(&text, Path::new("m")).unwrap(), manifest());
}

#[test]
fn an_edited_manifest_is_refused() {
    let text = manifest().to_text();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let edited = String::from_utf8(bytes).unwrap();
        let failure = Manifest::from_text(&edited, Path::new("m")).expect_err(&edited);
        assert_eq!(failure.exit, Exit::Corrupt);
        assert!(Manifest::from_text(&text[..at], Path::new("m")).is_err(), "cut at {at}");
    }
}

#[test]
fn a_later_format_is_refused_by_name() {
    let body = "format = 3\nreprise = \"9.1\"\nsurprise = true\n";
    let text = format!("# reprise recording, blake3 {}\n{body}", Hash::of(body.as_bytes()));
    let failure = Manifest::from_text(&text, Path::new("m")).unwrap_err().to_string();
    assert!(failure.contains("recording-too-new") && failure.contains("9.1"), "{failure}");
}

#[test]
fn a_recording_keeps_contents_and_replaces_nothing_foreign() {
    let folder = scratch("keeps");
    let path = folder.join("a.rec");
    let recorder = create(&path, false).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.blob(&Hash::of(b"abc")).unwrap(), b"abc");
    assert_eq!(store.manifest().run_id.len(), 32);
    assert_eq!(create(&path, false).err().unwrap().exit, Exit::Usage);
    let end = EndRow { reason: "limit".into(), code: None, icount: 1, vtime_ns: 2, digest: None };
    assert!(recorder.finish(Some(end.clone())).unwrap().log_bytes > 0);
    assert_eq!(Store::open(&path).unwrap().manifest().end, Some(end));
    drop(create(&path, true).unwrap().finish(None));
    assert_eq!(Store::open(&path).unwrap().manifest().end, None, "a new one");
    let foreign = folder.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "x").unwrap();
    assert!(create(&foreign, true).is_err());
    assert!(foreign.join("thesis.tex").exists());
    fs::remove_dir_all(folder).unwrap();
}

/// Whatever has a manifest replays: before that, the log has its seed.
#[test]
fn a_recording_is_one_when_its_log_has_begun() {
    let folder = scratch("begins");
    let path = folder.join("a.rec");
    let made = Recorder::create(&path, manifest(), Vec::new(), false, || ());
    let (mut recorder, mut sink) = made.unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("no manifest.toml"));
    sink.push(seed()).unwrap();
    recorder.begin().unwrap();
    recorder.settle().unwrap();
    let mut records = Vec::new();
    let tail = scan::scan(&Store::open(&path).unwrap(), |record| {
        records.push(record.clone());
        Ok(true)
    });
    assert!(matches!(tail, Ok(Some(Tail::Torn { .. }))), "it goes on: {tail:?}");
    assert_eq!(records, [seed()]);
    drop(sink);
    recorder.finish(None).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn contents_are_checked_by_their_hash() {
    let folder = scratch("hash");
    let path = folder.join("a.rec");
    drop(create(&path, false).unwrap().finish(None));
    let hash = Hash::of(b"abc");
    fs::write(path.join("blobs").join(hash.to_string()), "abd").unwrap();
    let failure = Store::open(&path).unwrap().blob(&hash).unwrap_err();
    assert_eq!(failure.exit, Exit::Corrupt);
    fs::remove_file(path.join("blobs").join(hash.to_string())).unwrap();
    assert!(Store::open(&path).unwrap().blob(&hash).unwrap_err().to_string().contains("missing"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_no_recording_is_called_that() {
    let folder = scratch("none");
    fs::write(folder.join("file"), "x").unwrap();
    for (name, expected) in [("file", "cut off"), ("", "no manifest.toml"), ("gone", "no such file")] {
        let failure = Store::open(&folder.join(name)).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Names of a manifest become names of files.
#[test]
fn a_name_that_no_board_has_is_refused() {
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        let failure = Manifest::from_text(&manifest.to_text(), Path::new("m")).unwrap_err();
        assert_eq!(failure.exit, Exit::Corrupt, "{failure}");
    };
    for bad in ["../../PWNED", "/x", "..", ".x", "", "a/b", "a\n"] {
        refused(&|manifest| manifest.disks[0].device = bad.into());
        refused(&|manifest| manifest.disks[0].port = bad.into());
        refused(&|manifest| manifest.devices[0].id = bad.into());
        refused(&|manifest| manifest.devices[0].ports[0] = bad.into());
        refused(&|manifest| manifest.console = Some(bad.into()));
    }
}

#[test]
fn an_older_recording_stays_until_the_new_one_is_one() {
    let folder = scratch("stays");
    let path = folder.join("a.rec");
    drop(create(&path, false).unwrap().finish(None));
    let old = Store::open(&path).unwrap().manifest().run_id.clone();
    create(&path, true).unwrap().discard();
    assert_eq!(Store::open(&path).unwrap().manifest().run_id, old, "the new one was discarded");
    create(&path, true).unwrap().finish(None).unwrap();
    assert_ne!(Store::open(&path).unwrap().manifest().run_id, old);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left of the older one");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn force_touches_nothing_but_a_recording() {
    let folder = scratch("strangers");
    let path = folder.join("a.rec");
    drop(create(&path, false).unwrap().finish(None));
    let link = folder.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let project = folder.join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join(MANIFEST), "[package]\n").unwrap();
    fs::write(path.join("thesis.tex"), "x").unwrap();
    let cases =
        [(&link, "a symbolic link"), (&project, "no manifest.toml of a recording"), (&path, "thesis.tex")];
    for (target, why) in cases {
        let failure = create(target, true).map(drop).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains(why), "{failure}");
    }
    assert!(project.join(MANIFEST).exists() && path.join("thesis.tex").exists() && link.is_symlink());
    fs::remove_file(path.join("thesis.tex")).unwrap();
    for target in [&path, &link] {
        assert_eq!(check_source(&path, target, true).unwrap_err().exit, Exit::Usage);
    }
    check_source(&path, &project, true).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn unpacking_that_fails_leaves_nothing() {
    let folder = scratch("unpack");
    let path = folder.join("a.rec");
    drop(create(&path, false).unwrap().finish(None));
    let store = Store::open(&path).unwrap();
    fs::remove_file(path.join(blob_name(&Hash::of(b"abc")))).unwrap();
    let target = folder.join("b.rec");
    pack::unpack(&store, &target, false).unwrap_err();
    assert!(!target.exists());
    fs::remove_dir_all(folder).unwrap();
}
