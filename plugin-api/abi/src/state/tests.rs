use super::*;

fn sample() -> Vec<u8> {
    encode(3, |w| {
        w.field("a").uint(7u32.to_le_bytes());
        w.field("b").bytes([1, 2, 3]);
        w.field("list").seq(|s| {
            s.item().bool(true);
            s.item().record(|w| w.field("x").int((-2i16).to_le_bytes()));
        });
        w.field("name").text("uart");
    })
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample();
    let record = Reader::parse(&bytes).unwrap();
    assert_eq!(record.version(), 3);
    assert_eq!(record.field("a").unwrap().uint().unwrap(), 7);
    assert_eq!(record.field("b").unwrap().bytes().unwrap(), [1, 2, 3]);
    assert_eq!(record.field("name").unwrap().text().unwrap(), "uart");
    let list = record.field("list").unwrap().seq().unwrap();
    assert!(list[0].bool().unwrap());
    assert_eq!(list[1].record().unwrap().field("x").unwrap().int().unwrap(), -2);
}

#[test]
fn the_bytes_are_the_documented_ones() {
    let bytes = encode(1, |w| w.field("ab").uint(0x1234u16.to_le_bytes()));
    assert_eq!(bytes, [1, 0, 0, 0, 1, 0, 0, 0, 2, 0, b'a', b'b', 1, 2, 0, 0, 0, 0x34, 0x12]);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(Reader::parse(&bytes[..len]).is_err(), "{len} bytes were accepted");
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = sample();
    bytes.push(0);
    assert_eq!(Reader::parse(&bytes).unwrap_err().problem, Problem::Trailing(1));
}

#[test]
fn a_field_there_twice_is_named() {
    let bytes = encode(1, |w| {
        w.field("x").bool(true);
        w.field("x").bool(true);
    });
    assert_eq!(Reader::parse(&bytes).unwrap_err().to_string(), "field `x`: there twice");
}

#[test]
fn missing_unknown_and_mistyped_fields_are_named() {
    let bytes = sample();
    let record = Reader::parse(&bytes).unwrap();
    assert_eq!(record.field("zz").unwrap_err().to_string(), "field `zz`: missing");
    assert_eq!(record.only(&["a", "b", "list"]).unwrap_err().to_string(), "field `name`: unknown field");
    assert_eq!(record.only(&["a", "b", "list", "name"]), Ok(()));
    let error = record.field("a").unwrap().text().unwrap_err().in_element(2).in_field("r");
    assert_eq!(error.to_string(), "field `r[2]`: expected text, found an unsigned integer");
}

#[test]
fn a_newer_version_is_refused() {
    let bytes = sample();
    let error = Reader::parse(&bytes).unwrap().at_most(2).unwrap_err();
    assert_eq!(error.to_string(), "state version 3 is newer than 2, the newest this device knows");
}

#[test]
fn a_lying_count_allocates_nothing() {
    let bytes = encode(1, |w| w.field("s").put(Kind::Seq, |out| out.extend(u32::MAX.to_le_bytes())));
    let record = Reader::parse(&bytes).unwrap();
    assert_eq!(record.field("s").unwrap().seq().unwrap_err().problem, Problem::Truncated);
}

#[test]
fn endless_nesting_is_refused() {
    fn nest(item: ValueWriter<'_>, levels: u32) {
        item.seq(|s| {
            if levels > 0 {
                nest(s.item(), levels - 1)
            }
        });
    }
    let fine = encode(1, |w| nest(w.field("s"), u32::from(MAX_DEPTH) - 1));
    assert!(flatten(&fine).is_ok());
    let deep = encode(1, |w| nest(w.field("s"), u32::from(MAX_DEPTH)));
    assert_eq!(flatten(&deep).unwrap_err().problem, Problem::TooDeep);
}

#[test]
fn impossible_integers_and_booleans_are_refused() {
    let bytes = encode(1, |w| {
        w.field("b").put(Kind::Bool, |out| out.push(2));
        w.field("i").put(Kind::Uint, |out| out.extend([1, 2, 3]));
        w.field("t").put(Kind::Text, |out| out.extend([0xff]));
    });
    let record = Reader::parse(&bytes).unwrap();
    assert_eq!(record.field("b").unwrap().bool().unwrap_err().problem, Problem::Malformed(Kind::Bool));
    assert_eq!(record.field("i").unwrap().uint().unwrap_err().problem, Problem::Malformed(Kind::Uint));
    assert_eq!(record.field("t").unwrap().text().unwrap_err().problem, Problem::Malformed(Kind::Text));
}

#[test]
fn no_flipped_byte_panics() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            // Either outcome is fine; what is asserted is that it comes back.
            drop(flatten(&bad));
        }
    }
}

#[test]
fn a_difference_is_named_by_its_path() {
    let other = encode(3, |w| {
        w.field("a").uint(7u32.to_le_bytes());
        w.field("b").bytes([1, 2, 3]);
        w.field("list").seq(|s| {
            s.item().bool(true);
            s.item().record(|w| w.field("x").int((-3i16).to_le_bytes()));
        });
        w.field("more").bool(false);
    });
    let found = diff(&sample(), &other).unwrap();
    let paths: Vec<_> = found.iter().map(|d| d.path.as_str()).collect();
    assert_eq!(paths, ["list[1].x", "name", "more"]);
    assert_eq!(found[0].right.as_deref(), Some("-3"));
    assert_eq!(diff(&other, &other).unwrap(), []);
}

#[test]
fn a_difference_behind_the_shown_bytes_is_still_one() {
    let record = |last: u8| encode(1, |w| w.field("b").bytes([0; 99].into_iter().chain([last])));
    let found = diff(&record(0), &record(1)).unwrap();
    assert_eq!(found.iter().map(|d| d.path.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn records_that_differ_in_version_only_are_not_equal() {
    let record = |version: u32| encode(version, |w| w.field("b").bool(true));
    assert_eq!(diff(&record(1), &record(2)).unwrap().len(), 1);
}
