use super::*;
use crate::DeviceState;

#[derive(DeviceState, Debug, Default, PartialEq, Clone)]
struct Channel {
    #[state(config)]
    width: u32,
    count: u16,
    mode: Mode,
}

#[derive(DeviceState, Debug, Default, PartialEq, Clone, Copy)]
enum Mode {
    #[default]
    Idle,
    Running,
}

#[derive(DeviceState, Debug, Default, PartialEq, Clone)]
#[state(version = 2)]
struct Chip {
    #[state(config)]
    clock_hz: u32,
    #[state(skip, rebuild = "Self::rebuild")]
    sum: u64,
    fifo: VecDeque<u8>,
    regs: [u32; 3],
    opt: Option<u64>,
    list: Vec<Channel>,
    fixed: Box<[u8]>,
    map: BTreeMap<u32, String>,
    nested: Channel,
    r#type: i16,
    on: bool,
    #[state(since = 2, default = "7")]
    newer: u32,
}

impl Chip {
    fn rebuild(&mut self) {
        self.sum = self.regs.iter().map(|reg| u64::from(*reg)).sum();
    }
}

fn created() -> Chip {
    let channel = Channel { width: 8, ..Channel::default() };
    let list = vec![channel.clone(), channel.clone()];
    Chip { clock_hz: 1_000_000, nested: channel, list, fixed: vec![0; 2].into(), ..Chip::default() }
}

fn busy() -> Chip {
    let mut chip = created();
    chip.fifo.extend([1, 2, 3]);
    chip.fifo.rotate_left(1);
    chip.regs = [1, 2, u32::MAX];
    chip.rebuild();
    chip.opt = Some(u64::MAX);
    chip.list[1].count = 9;
    chip.list[1].mode = Mode::Running;
    chip.fixed[1] = 5;
    chip.map.insert(3, "three".to_owned());
    chip.r#type = -4;
    chip.on = true;
    chip.newer = 8;
    chip
}

#[test]
fn loading_into_a_new_device_gives_the_same_device() {
    let saved = save(&busy());
    let mut chip = created();
    load(&mut chip, &saved).unwrap();
    assert_eq!(chip, busy());
    assert_eq!(save(&chip), saved);
}

#[test]
fn configuration_is_not_saved() {
    let text = format!("{:?}", reprise_abi::state::flatten(&save(&busy())).unwrap());
    assert!(!text.contains("clock_hz") && !text.contains("width") && !text.contains("sum"), "{text}");
    assert!(text.contains("list[1].mode") && text.contains("\"type\""), "{text}");
}

/// A record as `Chip` wrote it, with one more step of the author's mistakes.
fn load_edited(
    version: u32,
    edit: impl Fn(&str) -> bool,
    more: impl FnOnce(&mut Writer<'_>),
) -> Result<Chip, String> {
    let chip = busy();
    let record = reprise_abi::state::encode(version, |w| {
        macro_rules! fields { ($($field:ident)*) => { $(
            let name = stringify!($field).trim_start_matches("r#");
            if edit(name) { chip.$field.put(w.field(name)); }
        )* } }
        fields! { fifo regs opt list fixed map nested r#type on newer }
        more(w);
    });
    let mut out = created();
    load(&mut out, &record).map(|()| out).map_err(|error| error.to_string())
}

#[test]
fn an_older_record_gives_newer_fields_their_default() {
    let chip = load_edited(1, |name| name != "newer", |_| {}).unwrap();
    assert_eq!(chip, Chip { newer: 7, ..busy() });
}

#[test]
fn a_field_of_the_wrong_version_is_an_error() {
    assert_eq!(load_edited(2, |name| name != "newer", |_| {}).unwrap_err(), "field `newer`: missing");
    let newer = load_edited(3, |_| true, |_| {}).unwrap_err();
    assert_eq!(newer, "state version 3 is newer than 2, the newest this device knows");
}

#[test]
fn mistakes_are_named_by_their_path() {
    let unknown = load_edited(2, |_| true, |w| w.field("zz").bool(true));
    assert_eq!(unknown.unwrap_err(), "field `zz`: unknown field");
    let case = |field: &str, put: &dyn Fn(ValueWriter<'_>)| {
        load_edited(2, |name| name != field, |w| put(w.field(field))).unwrap_err()
    };
    assert_eq!(case("regs", &|v| [1u32].put(v)), "field `regs`: expected 3 elements, found 1");
    assert_eq!(case("regs", &|v| [1, 2, 1u64 << 32].put(v)), "field `regs[2]`: 4294967296 is out of range");
    assert_eq!(case("fixed", &|v| vec![1u8; 3].put(v)), "field `fixed`: expected 2 elements, found 3");
    assert_eq!(case("opt", &|v| [1u64, 2].put(v)), "field `opt`: expected 1 elements, found 2");
    assert_eq!(case("on", &|v| 1u8.put(v)), "field `on`: expected a boolean, found an unsigned integer");
    let nested = case("nested", &|v| {
        v.record(|w| {
            1u16.put(w.field("count"));
            w.field("mode").text("Flying");
        });
    });
    assert_eq!(nested, "field `nested.mode`: unknown variant \"Flying\"");
    let twice = case("map", &|v| vec![(1u32, String::new()), (1, String::new())].put(v));
    assert_eq!(twice, "field `map[1]`: there twice");
}

#[test]
fn no_damaged_record_panics() {
    let saved = save(&busy());
    for at in 0..saved.len() {
        for bit in [0, 3, 7] {
            let mut bad = saved.clone();
            bad[at] ^= 1 << bit;
            drop(load(&mut created(), &bad));
        }
        assert!(load(&mut created(), &saved[..at]).is_err());
    }
}
