use super::*;
use reprise_plugin_api::{
    Size,
    testkit::{Control, FakeHost},
};

fn after(writes: &[(u64, Size, u64)]) -> FakeHost<Syscon> {
    let mut host = FakeHost::<Syscon>::new(());
    for (offset, size, value) in writes {
        host.write(0, *offset, *size, *value).unwrap();
    }
    host
}

#[test]
fn pass_ends_the_run_with_success() {
    assert_eq!(after(&[(0, Size::B4, 0x5555)]).controls(), [Control::PowerOff(0)]);
    assert_eq!(after(&[(0, Size::B2, 0x5555)]).controls(), [Control::PowerOff(0)]);
    // The high half belongs to a failure only.
    assert_eq!(after(&[(0, Size::B4, 0x7_5555)]).controls(), [Control::PowerOff(0)]);
}

#[test]
fn fail_ends_the_run_with_the_guests_code() {
    assert_eq!(after(&[(0, Size::B4, 0x0003_3333)]).controls(), [Control::PowerOff(3)]);
    assert_eq!(after(&[(0, Size::B4, 0xffff_3333)]).controls(), [Control::PowerOff(0xffff)]);
}

#[test]
fn a_failure_without_code_is_no_success() {
    assert_eq!(after(&[(0, Size::B2, 0x3333)]).controls(), [Control::PowerOff(1)]);
    assert_eq!(after(&[(0, Size::B4, 0x3333)]).controls(), [Control::PowerOff(1)]);
}

#[test]
fn reset_resets_the_machine() {
    assert_eq!(after(&[(0, Size::B4, 0x7777)]).controls(), [Control::Reset]);
    assert_eq!(after(&[(0, Size::B2, 0x7777)]).controls(), [Control::Reset]);
}

#[test]
fn anything_else_is_ignored_with_a_warning() {
    let host = after(&[(0, Size::B4, 0x1234), (4, Size::B4, 0x5555), (2, Size::B2, 0x5555)]);
    assert_eq!(host.controls(), []);
    let expected = [
        "write of 0x1234 at 0x0 ignored",
        "write of 0x5555 at 0x4 ignored",
        "write of 0x5555 at 0x2 ignored",
    ];
    assert_eq!(host.logs(), expected.map(|text| (LogLevel::Warn as u32, text.to_owned())));
}

#[test]
fn it_reads_as_zero_and_has_no_byte_accesses() {
    let mut host = after(&[]);
    assert_eq!(host.read(0, 0, Size::B4), Ok(0));
    assert_eq!(host.read(0, 0xffe, Size::B2), Ok(0));
    assert_eq!(host.read(0, 0, Size::B1), Err(Fault));
    assert_eq!(host.write(0, 0, Size::B8, 0x5555), Err(Fault));
}

#[test]
fn the_device_tree_leads_linux_here() {
    let node = Syscon::describe(&()).fdt.unwrap();
    assert_eq!((node.name.as_str(), node.compatible.len()), ("test", 3));
    let sibling = |name: &str| {
        let sibling = node.siblings.iter().find(|sibling| sibling.name == name).unwrap();
        assert_eq!(sibling.compatible, [format!("syscon-{name}")]);
        sibling.props.clone()
    };
    let props = |value| {
        let cells = |value| FdtValue::Cells(vec![value]);
        [("regmap", FdtValue::SelfRef), ("offset", cells(0)), ("value", cells(value))]
            .map(|(name, value)| (name.to_owned(), value))
    };
    assert_eq!(sibling("poweroff"), props(0x5555));
    assert_eq!(sibling("reboot"), props(0x7777));
}

#[test]
fn it_survives_the_fuzzer() {
    let mut host = after(&[]);
    host.save_load();
    host.reset(Reset::Warm);
    host.fuzz(1, 2000);
    host.fuzz_load(2, 200);
}
