use super::*;

fn uint(name: &str, bits: u32) -> StateField {
    StateField::new(name, StateType::integer("uint", bits))
}

fn typed(name: &str, ty: StateType) -> StateField {
    StateField::new(name, ty)
}

fn device(version: u32, fields: Vec<StateField>) -> DeviceDesc {
    let state = Some(StateSchema { fields });
    DeviceDesc { state_version: version, state, ..DeviceDesc::new("x", "") }
}

/// Each change as a line, `!` in front of those that break, `?` in front of those of which that is not known.
fn changes(old: (u32, Vec<StateField>), new: (u32, Vec<StateField>)) -> Vec<String> {
    let all = compare(&device(old.0, old.1), &device(new.0, new.1)).unwrap();
    let mark = |verdict| match verdict {
        Verdict::Fine => "",
        Verdict::Unknown => "?",
        Verdict::Breaks => "!",
    };
    all.iter().map(|change| format!("{}{change}", mark(change.verdict))).collect()
}

/// What becomes of one field's type in a later version, without the line of the version.
fn retyped(was: StateType, is: StateType) -> Vec<String> {
    changes((1, vec![typed("f", was)]), (2, vec![typed("f", is)])).split_off(1)
}

#[test]
fn what_stays_is_no_change() {
    let fields = || vec![uint("a", 32), uint("b", 8).since(2, "7")];
    assert_eq!(changes((2, fields()), (2, fields())), [""; 0]);
    // Fields are found by name, and defaults are for people.
    let other = vec![uint("b", 8).since(2, "seven"), uint("a", 32)];
    assert_eq!(changes((2, fields()), (2, other)), [""; 0]);
}

#[test]
fn fields_come_and_go() {
    let old = || (1, vec![uint("a", 32)]);
    let with = |version, field: StateField| changes(old(), (version, vec![uint("a", 32), field]));
    assert_eq!(
        with(2, uint("b", 8).since(2, "7")),
        ["the state version went from 1 to 2", "field `b`: new since version 2: 7 in older records"]
    );
    assert_eq!(
        with(2, uint("b", 8))[1..],
        ["!field `b`: new, but without `since = 2` and a default: records of version 1 lack it"]
    );
    assert_eq!(
        with(1, uint("b", 8)),
        [
            "!the state changed, but its version is still 1: \
             raise it, for an older build must refuse new records by it",
            "!field `b`: new, but without `since = 2` and a default: records of version 1 lack it"
        ]
    );
    assert_eq!(
        with(2, uint("b", 8).since(1, "7"))[1..],
        ["!field `b`: new, but as if there since version 1: records of version 1 lack it"]
    );
    assert_eq!(
        with(2, uint("b", 8).since(3, "7"))[1..],
        ["!field `b`: new since version 3, but the state version is only 2"]
    );
    assert_eq!(
        changes(old(), (2, vec![]))[1..],
        ["!field `a`: removed: records that have it are refused for an unknown field"]
    );
    assert_eq!(changes((3, vec![]), (2, vec![])), ["!the state version went back from 3 to 2"]);
}

#[test]
fn since_is_a_promise() {
    let version = |since: Option<u32>| vec![StateField { since, ..uint("a", 8) }];
    let moved = |from, to| changes((3, version(from)), (4, version(to))).split_off(1);
    assert_eq!(
        moved(Some(2), None),
        ["!field `a`: records before version 2 lack it, but it is now expected in them"]
    );
    assert_eq!(
        moved(None, Some(4)),
        ["!field `a`: there since version 4 instead of 0: what records before 4 hold is dropped"]
    );
    assert_eq!(moved(Some(2), Some(2)), [""; 0]);
}

#[test]
fn types_may_only_take_more() {
    let uint = |bits| StateType::integer("uint", bits);
    let bytes = || StateType::plain("bytes");
    assert_eq!(retyped(uint(16), uint(32)), ["field `f`: widened from 16 to 32 bits"]);
    assert_eq!(
        retyped(uint(32), uint(16)),
        ["!field `f`: narrowed from 32 to 16 bits: larger values are refused"]
    );
    assert_eq!(retyped(uint(32), StateType::integer("int", 32)), ["!field `f`: was uint 32, is int 32"]);
    assert_eq!(retyped(bytes().of_len(4), bytes()), ["field `f`: was 4 × bytes, is bytes"]);
    assert_eq!(
        retyped(bytes().up_to(1), bytes().up_to(4)),
        ["field `f`: was up to 1 × bytes, is up to 4 × bytes"]
    );
    for (was, is) in [
        (bytes(), bytes().of_len(4)),
        (bytes().of_len(5), bytes().of_len(4)),
        (bytes(), bytes().up_to(4)),
        (bytes().of_len(5), bytes().up_to(4)),
    ] {
        let text =
            format!("!field `f`: was {}, is {}: other lengths are refused", was.in_words(), is.in_words());
        assert_eq!(retyped(was, is), [text]);
    }
    let two = StateType::variants(&["A", "B"]);
    assert_eq!(
        retyped(two.clone(), StateType::variants(&["A", "B", "C"])),
        ["field `f`: was A or B, is A or B or C"]
    );
    assert_eq!(retyped(two.clone(), StateType::variants(&["A", "C"])), ["!field `f`: can no longer be B"]);
    assert_eq!(retyped(StateType::plain("text"), two), ["!field `f`: was any text, is only A or B"]);
}

#[test]
fn parts_are_compared_like_the_whole() {
    let list = |bits| StateType::seq(8, |_| vec![StateType::integer("uint", bits)]);
    assert_eq!(
        retyped(list(32), list(8)),
        ["!field `f[]`: narrowed from 32 to 8 bits: larger values are refused"]
    );
    let pair = |bits| StateType::seq(8, |_| vec![StateType::plain("bool"), StateType::integer("uint", bits)]);
    assert_eq!(
        retyped(pair(32), pair(8)),
        ["!field `f[1]`: narrowed from 32 to 8 bits: larger values are refused"]
    );
    assert_eq!(retyped(pair(32), list(32))[0], "!field `f`: was (bool, uint 32), is any number × uint 32");
    let record = |fields: &[&str]| {
        StateType::record(8, |_| fields.iter().map(|name| uint(name, 8)).collect::<Vec<_>>())
    };
    assert_eq!(
        retyped(record(&["a", "b"]), record(&["a"])),
        ["!field `f.b`: removed: records that have it are refused for an unknown field"]
    );
}

#[test]
fn what_is_not_said_cannot_be_compared() {
    let (said, unsaid) = (device(1, vec![]), DeviceDesc::new("x", ""));
    assert_eq!(compare(&unsaid, &said), Err(Unsaid::Old));
    assert_eq!(compare(&said, &unsaid), Err(Unsaid::New));
    let text = r#"{"fields": [{"name": "f", "type": {"kind": "from the future", "turns": 3}}]}"#;
    let schema: StateSchema = serde_json::from_str(text).unwrap();
    assert_eq!(schema.fields[0].ty, StateType::plain("from the future"));
}

/// What is left out may be anything: it is neither the same nor another.
#[test]
fn what_is_left_out_is_not_known() {
    let bits = |bits| StateType { bits, ..StateType::plain("uint") };
    let told = |was, is| retyped(was, is).concat();
    assert_eq!(
        told(bits(None), bits(Some(16))),
        "?field `f`: is uint 16, and the old build does not say how many bits it was: larger values than 16 bits are \
         refused"
    );
    assert_eq!(told(bits(None), bits(Some(64))), "", "what holds all that there is");
    for was in [None, Some(8)] {
        assert_eq!(
            told(bits(was), bits(None)),
            "?field `f`: the new build does not say how many bits it holds"
        );
    }
    // Nine lists in each other: the ninth is not described.
    let deep = |inner: StateType| {
        (0..8).fold(inner, |inner, _| StateType { items: vec![inner], ..StateType::plain("seq") })
    };
    let nothing = StateType::default;
    for (was, is, build) in
        [(nothing(), bits(Some(8)), "old"), (bits(Some(8)), nothing(), "new"), (nothing(), nothing(), "new")]
    {
        let path = format!("f{}", "[]".repeat(8));
        assert_eq!(
            told(deep(was), deep(is)),
            format!("?field `{path}`: the {build} build does not say what it is: types are described 8 deep")
        );
    }
    let future = || StateType::plain("matrix");
    let text = "?field `f`: the new build says that it is \"matrix\", which this version does not know";
    assert_eq!(told(future(), future()), text);
    let list = |items| StateType { items, ..StateType::plain("seq") };
    assert_eq!(
        told(list(vec![bits(Some(8))]), list(vec![])),
        "?field `f`: the new build does not say of what it is a sequence"
    );
    // What breaks as well is what counts.
    assert!(Verdict::Fine < Verdict::Unknown && Verdict::Unknown < Verdict::Breaks);
}
