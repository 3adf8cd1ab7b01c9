use super::*;
use reprise_abi::desc::{FdtNode, Pins, Port, PortKind, Region};
use serde_json::json;

/// Descriptors as the real plugins have them, without plugins.
struct Fake;

fn pins(name: &str, count: Option<u32>) -> Pins {
    Pins { name: name.into(), count }
}

fn region(name: &str, size: u64) -> Region {
    Region { name: name.into(), size, access: 0xf }
}

fn schema_of(properties: serde_json::Value, required: &[&str]) -> serde_json::Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn uart() -> DeviceDesc {
    DeviceDesc {
        kind: "ns16550a".into(),
        regions: vec![region("regs", 0x100)],
        outputs: vec![pins("irq", None)],
        ports: vec![Port { name: "serial".into(), kind: PortKind::Chr }],
        schema: schema_of(
            json!({
                "clock_hz": { "type": "integer", "minimum": 1, "maximum": 1_000_000_000, "default": 3_686_400 },
                "label": { "type": "string" },
                "mode": { "type": "string", "enum": ["plain", "fancy"], "default": "plain" },
                "ports": { "type": "integer", "minimum": 1, "maximum": 4 },
                "echo": { "type": "boolean", "default": false },
                "steps": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 9 }, "default": [] },
            }),
            &[],
        ),
        fdt: Some(FdtNode {
            name: "serial".into(),
            compatible: vec!["ns16550a".into()],
            ..FdtNode::default()
        }),
        ..DeviceDesc::default()
    }
}

fn plic(harts: u32) -> DeviceDesc {
    DeviceDesc {
        kind: "plic".into(),
        regions: vec![region("regs", 0x60_0000)],
        inputs: vec![pins("irq", Some(96))],
        outputs: vec![pins("meip", Some(harts)), pins("seip", Some(harts))],
        schema: schema_of(
            json!({
                "harts": { "type": "integer", "minimum": 1, "maximum": 64, "x-board": "harts" },
                "even": { "type": "integer", "default": 0 },
            }),
            &[],
        ),
        ..DeviceDesc::default()
    }
}

fn disk() -> DeviceDesc {
    DeviceDesc {
        kind: "virtio-blk".into(),
        regions: vec![region("regs", 0x1000)],
        outputs: vec![pins("irq", None)],
        ports: vec![Port { name: "disk".into(), kind: PortKind::Blk }],
        schema: schema_of(json!({ "serial": { "type": "string" } }), &["serial"]),
        ..DeviceDesc::default()
    }
}

fn timers() -> Vec<DeviceDesc> {
    let one = |kind: &str| DeviceDesc { kind: kind.into(), ..DeviceDesc::default() };
    let mut two = one("mtimer");
    two.regions = vec![region("mtime", 8), region("mtimecmp", 0x7ff8)];
    vec![one("mswi"), two]
}

fn nic() -> DeviceDesc {
    DeviceDesc {
        kind: "nic".into(),
        ports: vec![Port { name: "net".into(), kind: PortKind::Net }],
        ..DeviceDesc::default()
    }
}

/// A controller of two links, and targets for them.
fn linked() -> Vec<DeviceDesc> {
    let one = |kind: &str| DeviceDesc { kind: kind.into(), ..DeviceDesc::default() };
    vec![
        one("i2c").controller("bus", "i2c/1", 128).controller("other", "acme/3", 4),
        one("eeprom").target("bus", "i2c/1", 8),
        one("sensor").target("bus", "i2c/1", 1),
    ]
}

impl Catalog for Fake {
    fn find(&self, plugin: &str) -> Result<Vec<DeviceDesc>, CatalogError> {
        match plugin {
            "ns16550a" => Ok(vec![uart()]),
            "plic" => Ok(vec![plic(1)]),
            "virtio-blk" => Ok(vec![disk()]),
            "timers" => Ok(timers()),
            "nic" => Ok(vec![nic()]),
            "linked" => Ok(linked()),
            "rotten" => Err(CatalogError::Broken {
                message: "built for ABI 9".into(),
                help: Some("rebuild it".into()),
            }),
            _ => Err(CatalogError::NotFound { searched: vec!["/plugins".into(), "/more".into()] }),
        }
    }

    fn describe_with(&self, _: &str, kind: &str, config_json: &str) -> Result<DeviceDesc, ConfigError> {
        let config: serde_json::Value = config_json.parse().unwrap();
        Ok(match kind {
            "ns16550a" => uart(),
            "plic" if config["even"].as_i64().unwrap() % 2 == 1 => {
                return Err(ConfigError { path: "even".into(), message: "must be even".into() });
            }
            "plic" => plic(u32::try_from(config["harts"].as_u64().unwrap()).unwrap()),
            "virtio-blk" => disk(),
            "nic" => nic(),
            other => timers().into_iter().chain(linked()).find(|desc| desc.kind == other).unwrap(),
        })
    }

    fn available(&self) -> Vec<String> {
        ["ns16550a", "plic", "virtio-blk", "timers", "rotten", "nic", "linked"].map(str::to_owned).to_vec()
    }

    fn check_network(&self, config_json: &str) -> Vec<ConfigError> {
        let config: serde_json::Value = config_json.parse().unwrap();
        match config.get("mtu") {
            Some(mtu) if mtu != 1500 => {
                vec![ConfigError { path: "mtu".into(), message: "is odd".into() }]
            }
            _ => Vec::new(),
        }
    }
}

const GOOD: &str = r#"
[machine]
name = "test"
harts = 2
ram = { size = "64M" }

[device.uart0]
plugin = "ns16550a"
mmio = 0x1000_0000
pins = { irq = "plic.irq.10" }
ports = { serial = "console" }
clock_hz = 1_843_200

[device.plic]
plugin = "plic"
mmio = 0x0c00_0000
pins = { "meip.*" = "hart.*.meip", "seip.*" = "hart.*.seip" }
"#;

fn with(sets: &[&str], text: &str) -> Result<Board, Vec<Diagnostic>> {
    let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
    parse("test.toml", text, &sets, &Fake)
}

/// `line:column code message` of each mistake; arguments have `set:column`.
fn mistakes(sets: &[&str], text: &str) -> Vec<String> {
    let diagnostics = with(sets, text).expect_err("the board is wrong");
    assert!(!render(&diagnostics, text, false).is_empty());
    let json = to_json(&diagnostics, text);
    let one = |d: &serde_json::Value| {
        let label = &d["labels"][0];
        let place = match label.get("line") {
            Some(line) => format!("{line}:{}", label["column"]),
            None => format!("set:{}", label["start"]),
        };
        let help = d["help"].as_array().unwrap().iter().map(|h| format!(" ({})", h.as_str().unwrap()));
        let help: String = help.collect();
        format!("{place} {} {}{help}", d["code"].as_str().unwrap(), d["message"].as_str().unwrap())
    };
    json.as_array().unwrap().iter().map(one).collect()
}

/// A board with this stanza for `uart0` in place of the good one.
fn stanza(body: &str) -> String {
    format!(
        "[machine]\nram.size = \"1M\"\n[device.plic]\nplugin = \"plic\"\nmmio = 0xc00_0000\n[device.uart0]\n{body}\n"
    )
}

fn one(body: &str) -> String {
    let found = mistakes(&[], &stanza(body));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_good_board_is_resolved() {
    let board = with(&[], GOOD).unwrap();
    assert_eq!((board.machine.harts, board.machine.ram_base), (2, 0x8000_0000));
    assert_eq!(board.devices[0].id, "uart0", "configuration order is the order of writing");
    assert_eq!(board.devices[0].bases, [0x1000_0000]);
    assert_eq!(board.devices[0].ports, [Some("console".to_owned())]);
    let config: serde_json::Value = board.devices[0].config_json.parse().unwrap();
    assert_eq!(config, json!({ "clock_hz": 1_843_200, "mode": "plain", "echo": false, "steps": [] }));
    let config: serde_json::Value = board.devices[1].config_json.parse().unwrap();
    assert_eq!(config["harts"], 2, "filled in from the machine");
    let to_plic = WireEnd::Device { device: 1, pin: 10 };
    assert_eq!(board.wires[0], Wire { from_device: 0, from_pin: 0, to: to_plic });
    let seip1 = WireEnd::Hart { hart: 1, line: HartLine::Seip };
    assert_eq!(board.wires[4], Wire { from_device: 1, from_pin: 3, to: seip1 });
}

#[test]
fn printing_and_reading_again_is_the_identity() {
    let sets = [
        "machine.seed=5",
        "machine.nmi_vector=0x8000_0100",
        "machine.bootargs=a \"b\" \\ c",
        "device.uart0.steps=[1, 2]",
        "device.uart0.label=é",
    ];
    let board = with(&sets, GOOD).unwrap();
    let text = print(&board);
    assert_eq!(with(&[], &text).unwrap(), board, "{text}");
    // What follows the machine still does.
    assert_eq!(with(&["machine.seed=0x5"], &text).unwrap(), board);
    assert!(
        !text.lines().any(|line| line.starts_with("harts") && text.matches("harts =").count() > 1),
        "{text}"
    );
}

#[test]
fn arguments_override() {
    let board =
        with(&["machine.harts=4", "machine.ram.size=128M", "device.uart0.clock_hz=99"], GOOD).unwrap();
    assert_eq!((board.machine.harts, board.machine.ram_size), (4, 128 << 20));
    assert_eq!(board.wires.len(), 9);
    assert!(board.devices[0].config_json.contains("\"clock_hz\":99"));
    for set in ["device.uart0.irq=11", "device.uart0.pins.irq=plic.irq.11", "device.uart0.irq=plic.irq.11"] {
        let board = with(&[set], GOOD).unwrap();
        assert_eq!(board.wires[0].to, WireEnd::Device { device: 1, pin: 11 }, "{set}");
    }
    let board = with(&["device.plic.pins.meip.1=plic.irq.5"], GOOD).unwrap();
    assert_eq!(board.wires[2].to, WireEnd::Device { device: 1, pin: 5 }, "a single pin beats the star");
    // A string is wanted, so a number is one.
    assert_eq!(with(&["machine.bootargs=7"], GOOD).unwrap().machine.bootargs.unwrap(), "7");
}

#[test]
fn arguments_that_cannot_be_applied_are_named() {
    let sets = [
        "machine..harts=4",
        "mashine.harts=4",
        "device.uart1.clock_hz=4",
        "device.uart0.clock_hz.x=4",
        "machine.harts=many",
        "machine.hearts=3",
        "device.uart0.clok_hz=3",
        "device.uart0.irq=999",
        "device.uart0.mmio=zero",
        "device=3",
    ];
    let expected = [
        "set:0 override this is no key (write a dotted key, as in `--set machine.harts=4`)",
        "set:0 override this names no value of the board (did you mean `machine`?) (keys look like `machine.harts`, \
         `device.uart0.clock_hz` or `device.uart0.pins.irq`)",
        "set:0 override the board has no device `uart1` (did you mean `uart0`?)",
        "set:0 override `x` is inside an integer, not inside a table",
        "set:0 override this names no value of the board (did you mean `device`?) (keys look like `machine.harts`, \
         `device.uart0.clock_hz` or `device.uart0.pins.irq`)",
        "set:14 wrong-type `harts` is a string",
        "set:0 unknown-key unknown key `hearts` in [machine] (did you mean `harts`?)",
        "set:0 unknown-key unknown key `clok_hz` (did you mean `clock_hz`?)",
        "set:18 wrong-type `mmio` is a string",
        "set:17 unknown-pin there is no `plic` input pin `irq.999`",
    ];
    assert_eq!(mistakes(&sets, GOOD), expected);
}

#[test]
fn every_syntax_error_is_reported() {
    let found = mistakes(&[], "[machine\nharts = = 4\nram = \"x\ny = 1_\n");
    assert!(found.len() >= 3, "{found:#?}");
    assert!(found.iter().all(|one| one.contains("syntax")), "{found:#?}");
    assert!(mistakes(&[], &"#".repeat((1 << 20) + 1))[0].contains("too many for a board"));
    assert_eq!(mistakes(&[], "machine = 1\nmachine = 2\n").len(), 1);
}

#[test]
fn the_machine_table() {
    let text = "[machine]\nname = \"a b\"\nharts = 65\nram = { size = \"1.5G\", bass = 1 }\nshift = \"0\"\n\
                timebase_hz = 0\nidle = \"pase\"\nalign = 1\nquantum = -1\nseed = \"xyz\"\nisa.mmu = \"sv64\"\n\
                disk = { latency = \"5\", bandwidth = 0 }\nfoo = 1\n[device]\n[devices]\n";
    let expected = [
        "2:8 bad-value this is no name for a machine (use up to 64 letters, digits, `-`, `_` and `.`; it becomes part \
         of `compatible`)",
        "3:9 out-of-range `harts` is out of range",
        "4:16 bad-value `size` cannot be read: fractions are not taken; use a smaller unit (write it like \"256M\")",
        "4:24 unknown-key unknown key `bass` in `ram` (did you mean `base`?)",
        "5:9 wrong-type `shift` is a string",
        "6:15 out-of-range `timebase_hz` is out of range",
        "7:8 bad-value `idle` cannot be `pase` (did you mean `pace`?)",
        "8:9 wrong-type `align` is an integer",
        "9:11 out-of-range `quantum` is out of range",
        "10:8 bad-value this is no seed (write an integer from 0, or a string of 64 hexadecimal digits)",
        "11:11 bad-value `mmu` cannot be `sv64` (there are `sv39`, `sv48`, `sv57`)",
        "12:20 bad-value `latency` cannot be read: it has no unit; they are ns, us, ms and s (write it like \"100us\")",
        "12:37 out-of-range `bandwidth` is out of range",
        "13:1 unknown-key unknown key `foo` in [machine] (there are `align`, `bootargs`, `disk`, `harts`, `idle`, \
         `isa`, `name`, `nmi_vector`, `quantum`, `ram`, `schedule_seed`, `seed`, `shift`, `timebase_hz`)",
        "15:2 unknown-key a board has no `devices` (did you mean `device`?)",
    ];
    assert_eq!(mistakes(&[], text), expected);
}

#[test]
fn an_nmi_handler_lies_in_ram() {
    let vector = |vector: &str| {
        mistakes(&[], &format!("[machine]\nram.size = \"2M\"\nnmi_vector = {vector}\n[device]\n"))
    };
    assert_eq!(vector("0x8010_0002"), ["3:14 bad-value an NMI handler cannot start at 0x80100002"]);
    assert_eq!(
        vector("0x8020_0000"),
        [
            "3:14 out-of-range there is no RAM at 0x80200000 for an NMI handler (RAM is 0x200000 bytes at 0x80000000)"
        ]
    );
    assert_eq!(vector("\"here\""), ["3:14 wrong-type `nmi_vector` is a string"]);
}

#[test]
fn ram_must_be_possible() {
    let ram = |ram: &str| mistakes(&[], &format!("[machine]\nram = {ram}\n[device]\n"));
    assert_eq!(ram("\"64M\""), ["2:7 wrong-type `ram` is a string"]);
    assert_eq!(ram("{}"), ["2:7 missing `ram` has no `size`"]);
    assert_eq!(ram("{ size = 4096 }"), ["2:16 out-of-range `size` is out of range"]);
    assert_eq!(ram("{ size = 2097153 }"), ["2:16 bad-value RAM cannot have 2097153 bytes"]);
    assert_eq!(ram("{ base = 4096, size = \"2M\" }"), ["2:16 bad-value RAM cannot start at 0x1000"]);
    assert_eq!(
        ram("{ base = 0xffffffffe00000, size = \"4M\" }"),
        ["2:7 out-of-range RAM ends beyond the 56 bits of a physical address"]
    );
}

#[test]
fn an_empty_board_says_what_it_needs() {
    assert_eq!(
        mistakes(&[], ""),
        [
            "1:1 missing the board has no [machine] (write `[machine]` with at least `ram = { size = \"256M\" }`)",
            "1:1 missing the board has no devices (each device is a table of its own: `[device.uart0]`)",
        ]
    );
    assert_eq!(mistakes(&[], "machine = 1\ndevice = 2\n").len(), 3);
}

#[test]
fn plugins_and_kinds() {
    assert_eq!(
        one("plugin = \"ns16550\""),
        "7:10 plugin there is no plugin `ns16550` (did you mean `ns16550a`?)"
    );
    assert_eq!(one("plugin = \"rotten\""), "7:10 plugin plugin `rotten` cannot be used (rebuild it)");
    assert_eq!(one("plugin = 7"), "7:10 wrong-type `plugin` is an integer");
    assert!(one("").starts_with("6:9 missing the device has no `plugin`"));
    assert_eq!(
        one("plugin = \"timers\""),
        "7:10 missing plugin `timers` has several kinds: name one with `kind` (there are `mswi`, `mtimer`)"
    );
    assert_eq!(
        one("plugin = \"timers\"\nkind = \"mtimr\""),
        "8:8 unknown-kind plugin `timers` has no kind `mtimr` (did you mean `mtimer`?)"
    );
    assert!(with(&[], &stanza("plugin = \"timers\"\nkind = \"mswi\"")).is_ok());
    let diagnostics = with(&[], &stanza("plugin = \"zzz\"")).unwrap_err();
    assert_eq!(diagnostics[0].notes, ["looked in /plugins", "looked in /more"]);
    assert_eq!(diagnostics[0].device.as_deref(), Some("uart0"));
}

#[test]
fn options_follow_the_schema() {
    let uart = |option: &str| one(&format!("plugin = \"ns16550a\"\nmmio = 0x1000_0000\n{option}"));
    assert_eq!(uart("clock_hz = 0"), "9:12 out-of-range `clock_hz` is out of range");
    assert_eq!(uart("clock_hz = \"x\""), "9:12 wrong-type `clock_hz` is a string");
    assert_eq!(uart("clok_hz = 1"), "9:1 unknown-key unknown key `clok_hz` (did you mean `clock_hz`?)");
    assert_eq!(uart("pin = 1"), "9:1 unknown-key unknown key `pin` (did you mean `pins`?)");
    assert_eq!(uart("mode = \"fanci\""), "9:8 bad-value `mode` cannot be `fanci` (did you mean `fancy`?)");
    assert_eq!(uart("echo = 1"), "9:8 wrong-type `echo` is an integer");
    assert_eq!(uart("label = 1999-01-01"), "9:9 wrong-type `label` is a date");
    assert_eq!(uart("steps = 3"), "9:9 wrong-type `steps` is an integer");
    assert_eq!(uart("steps = [1, 2, 10]"), "9:16 out-of-range `steps` is out of range");
    assert_eq!(uart("clock_hz = 99999999999999999999999"), "9:12 out-of-range `clock_hz` is out of range");
    assert_eq!(one("plugin = \"virtio-blk\"\nmmio = 0x1000_0000"), "6:9 missing `serial` is missing");
    let even = GOOD.replace("plugin = \"plic\"", "plugin = \"plic\"\neven = 3");
    assert_eq!(mistakes(&[], &even), ["16:8 option `even`: must be even"]);
}

#[test]
fn options_with_a_taken_name_have_a_table() {
    let stanza = |line: &str| stanza(&format!("plugin = \"ns16550a\"\nmmio = 0x1000_0000\n{line}"));
    let board = with(&[], &stanza("options = { ports = 2, label = \"x\" }")).unwrap();
    assert!(board.devices[1].config_json.contains("\"ports\":2"), "{}", board.devices[1].config_json);
    assert_eq!(with(&[], &print(&board)).unwrap(), board);
    assert!(
        with(&["device.uart0.options.ports=3"], &stanza("")).unwrap().devices[1].config_json.contains(":3")
    );
    let both = mistakes(&[], &stanza("label = \"a\"\noptions = { label = \"b\", ports = 5, x = 1 }"));
    let expected = [
        "10:13 option `label` is given twice",
        "10:34 out-of-range `ports` is out of range",
        "10:37 unknown-key unknown key `x` (there are `clock_hz`, `echo`, `kind`, `label`, `links`, `mmio`, `mode`, \
         `options`, `pins`, `plugin`, `ports`, `steps`)",
    ];
    assert_eq!(both, expected);
}

#[test]
fn addresses() {
    let uart = |mmio: &str| one(&format!("plugin = \"ns16550a\"\n{mmio}"));
    assert_eq!(uart(""), "6:9 missing the device has no address (give it one: `mmio = 0x…` (0x100 bytes))");
    assert_eq!(uart("mmio = \"x\""), "8:8 wrong-type `mmio` is a string");
    assert_eq!(uart("mmio = -1"), "8:8 out-of-range the address is out of range");
    assert_eq!(uart("mmio = 0xffff_ffff_ffff_ff00"), "8:8 out-of-range the address is out of range");
    assert_eq!(uart("mmio = 0x1000_0004"), "8:8 bad-value the device cannot sit at 0x10000004");
    assert_eq!(
        uart("mmio = { regs = 0x1000_0000, reg = 1 }"),
        "8:30 unknown-region the device has no region `reg` (did you mean `regs`?)"
    );
    let timer = |mmio: &str| one(&format!("plugin = \"timers\"\nkind = \"mtimer\"\n{mmio}"));
    assert_eq!(
        timer("mmio = 0x1000"),
        "9:8 missing no address for `mtimecmp` (write `mmio = { mtime = 0x…, mtimecmp = 0x… }`)"
    );
    assert_eq!(timer("mmio = { mtime = 0x1000 }"), "9:8 missing no address for `mtimecmp`");
    assert_eq!(
        one("plugin = \"timers\"\nkind = \"mswi\"\nmmio = 8"),
        "9:1 unknown-region this device has no registers, so it takes no `mmio`"
    );
}

#[test]
fn overlaps_name_both() {
    let text = stanza("plugin = \"ns16550a\"\nmmio = 0x0c20_0000");
    let found = with(&[], &text).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "`uart0` and `plic` overlap");
    let spans: Vec<_> = found[0].labels.iter().map(|label| label.text.as_str()).collect();
    assert_eq!(spans, ["`uart0` is 0xc200000 to 0xc2000ff", "`plic` is 0xc000000 to 0xc5fffff"]);
    let in_ram = "plugin = \"ns16550a\"\nmmio = 0x8000_1000";
    assert_eq!(one(in_ram), "8:8 overlap `uart0` and RAM overlap");
    assert!(with(&[], &stanza("plugin = \"ns16550a\"\nmmio = 0x8010_0000")).is_ok(), "right behind RAM");
}

#[test]
fn wires_end_somewhere() {
    let wire = |pins: &str| one(&format!("plugin = \"ns16550a\"\nmmio = 0x1000_0000\npins = {pins}"));
    assert_eq!(
        wire("{ irk = \"plic.irq.1\" }"),
        "9:10 unknown-pin there is no output pin `irk` (did you mean `irq`?)"
    );
    assert_eq!(
        wire("{ irq = \"plik.irq.1\" }"),
        "9:16 unknown-pin the board has no device `plik` (did you mean `plic`?)"
    );
    assert_eq!(wire("{ irq = \"plic.irq.96\" }"), "9:16 unknown-pin there is no `plic` input pin `irq.96`");
    assert_eq!(wire("{ irq = \"plic.irq\" }"), "9:16 unknown-pin there is no `plic` input pin `irq`");
    assert_eq!(wire("{ irq = \"plic.irq.+1\" }"), "9:16 unknown-pin there is no `plic` input pin `irq.+1`");
    assert_eq!(wire("{ irq.0 = \"plic.irq.1\" }"), "9:14 unknown-pin there is no output pin `irq.0`");
    assert_eq!(
        wire("{ irq = \"plic\" }"),
        "9:16 unknown-pin `plic` names no pin (write `device.pin`, `device.pin.N` or `hart.N.line`)"
    );
    assert_eq!(
        wire("{ irq = \"plic.meip.0\" }"),
        "9:16 unknown-pin `plic.meip.0` is an output pin (a wire ends at an input pin or at a line of a hart)"
    );
    assert_eq!(wire("{ irq = \"hart.1.meip\" }"), "9:16 unknown-pin the machine has no hart `1`");
    assert_eq!(
        wire("{ irq = \"hart.0.neip\" }"),
        "9:16 unknown-pin a hart has no line `neip` (did you mean `meip`?)"
    );
    assert_eq!(wire("{ irq = 5 }"), "9:16 wrong-type `pins` is an integer");
    assert!(wire("{ irq = \"plic.irq.*\" }").contains("`*` is on one side of the wire only"));
    assert!(wire("{ irq = [\"plic.irq.1\", \"plic.irq.1\"] }").contains("`plic.irq.1` has two drivers"));
    assert!(
        with(
            &[],
            &stanza("plugin = \"ns16550a\"\nmmio = 0\npins = { irq = [\"plic.irq.1\", \"hart.0.meip\"] }")
        )
        .is_ok()
    );
}

#[test]
fn wires_of_arrays() {
    let plic = |pins: &str| mistakes(&[], &GOOD.replace("\"meip.*\" = \"hart.*.meip\"", pins));
    assert_eq!(
        plic("\"meip.*\" = \"plic.irq.*\""),
        [
            "17:21 wiring `meip.*` stands for 2 pins, the other side for 96 (`*` stands for the same number of pins on \
             both sides)"
        ]
    );
    assert_eq!(
        plic("\"irq.1\" = \"plic.irq.2\""),
        [
            "17:10 unknown-pin `irq.1` is an input pin (wires are written at their source: at the output that drives \
             it)"
        ]
    );
    assert_eq!(
        plic("\"meip.0\" = \"plic.irq.10\""),
        ["17:21 wiring `plic.irq.10` has two drivers (give each its own input pin)"]
    );
    assert!(plic("meip.0 = \"hart.0.meip\", \"meip.0\" = \"hart.1.meip\"")[0].contains("wired twice"));
    assert!(plic("\"meip.*\" = \"hart.0.meip\"")[0].contains("one side"));
    // A device that could not be understood is not missing.
    let found = mistakes(&[], &GOOD.replace("plugin = \"plic\"", "plugin = \"plicc\""));
    assert_eq!(found, ["15:10 plugin there is no plugin `plicc` (did you mean `plic`?)"]);
}

#[test]
fn ports_have_backends() {
    let uart = |ports: &str| one(&format!("plugin = \"ns16550a\"\nmmio = 0x1000_0000\nports = {ports}"));
    assert_eq!(
        uart("{ seriol = \"console\" }"),
        "9:11 unknown-port the device has no port `seriol` (did you mean `serial`?)"
    );
    assert_eq!(uart("{ serial = 3 }"), "9:20 wrong-type `ports` is an integer");
    assert!(
        uart("{ serial = \"/dev/tty\" }").starts_with("9:20 bad-value `/dev/tty` is no name of a backend")
    );
    assert!(
        uart("{ serial = \"consol\" }")
            .starts_with("9:20 bad-value there is no backend `consol` for this port")
    );
    let disk = "plugin = \"virtio-blk\"\nmmio = 0x1000_0000\nserial = \"x\"\nports = { disk = \"console\" }";
    assert_eq!(one(disk), "10:18 bad-value the console cannot be connected here");
    let two = format!(
        "{GOOD}\n[device.uart1]\nplugin = \"ns16550a\"\nmmio = 0x1000_1000\nports.serial = \"console\"\n"
    );
    assert_eq!(
        mistakes(&[], &two),
        ["22:16 wiring the console is connected already (name another backend, or `null`)"]
    );
}

#[test]
fn networks() {
    let nic = |id: &str, net: &str| format!("[device.{id}]\nplugin = \"nic\"\nports.net = \"{net}\"\n");
    let table =
        "[net.user0]\nmtu = 1500\nhostfwd = [\"tcp::2222-:22\"]\nrules = [{ to = \"lan\", not = [] }]\n";
    let text = format!("{GOOD}\n{}{}{table}", nic("nic0", "user0"), nic("nic1", "null"));
    let board = with(&[], &text).unwrap();
    let expected = NetworkSpec {
        id: "user0".into(),
        config_json: json!({
            "mtu": 1500, "hostfwd": ["tcp::2222-:22"], "rules": [{ "to": "lan", "not": [] }]
        })
        .to_string(),
    };
    assert_eq!(board.networks, [expected]);
    assert_eq!(with(&[], &print(&board)).unwrap(), board, "it is printed as it is read");
    let set = with(&["net.user0.hostfwd=[]", "net.user0.ipv6.enabled=false"], &text).unwrap();
    let config: serde_json::Value = set.networks[0].config_json.parse().unwrap();
    assert_eq!((&config["hostfwd"], &config["ipv6"]), (&json!([]), &json!({ "enabled": false })));
    // As many lines as GOOD has come first.
    let lines = GOOD.lines().count() + 1;
    let wrong = |rest: &str| {
        let found = mistakes(&[], &format!("{GOOD}\n{rest}"));
        let (place, text) = found[0].split_once(' ').unwrap();
        let (line, column) = place.split_once(':').unwrap();
        format!("{}:{column} {text}", line.parse::<usize>().unwrap() - lines)
    };
    assert!(
        wrong(&nic("nic0", "user1")).starts_with("3:13 bad-value there is no network `user1` for this port")
    );
    assert_eq!(wrong("[net.user0]\nmtu = 7\n"), "2:7 option `mtu`: is odd");
    assert_eq!(wrong("[net.user0]\nmtu = 1979-05-27\n"), "2:7 wrong-type `user0` is a date");
    assert!(wrong("[net.null]\n").contains("bad-value no network can be called `null`"));
    assert!(wrong("[net.\"a.b\"]\n").contains("bad-value this is no id for a network"));
    assert!(wrong("[net]\nuser0 = 3\n").contains("wrong-type `user0` is an integer"));
    let two = format!("{}{}[net.user0]\n", nic("nic0", "user0"), nic("nic1", "user0"));
    assert!(wrong(&two).starts_with("6:13 wiring network `user0` is connected already"));
}

#[test]
fn ids() {
    let id = |id: &str| {
        mistakes(
            &[],
            &format!("[machine]\nram.size = \"1M\"\n[device.{id}]\nplugin = \"timers\"\nkind = \"mswi\"\n"),
        )
    };
    assert_eq!(id("hart"), ["3:9 bad-value no device can be called `hart`"]);
    assert!(id("\"a.b\"")[0].starts_with("3:9 bad-value this is no id for a device"));
    assert!(id("7seg")[0].starts_with("3:9 bad-value"));
    assert!(id(&"x".repeat(33))[0].starts_with("3:9 bad-value"));
}

#[test]
fn all_mistakes_come_at_once_and_fit_a_screen_each() {
    let text = stanza(
        "plugin = \"ns16550a\"\nmmio = 0x1000_0004\nclok_hz = 3\npins = { irq = \"plic.irq.200\" }\n\
         ports = { s = \"x\" }",
    );
    let found = with(&[], &text).unwrap_err();
    assert_eq!(found.len(), 4);
    let screen = render(&found, &text, false);
    for place in ["test.toml:8:8", "test.toml:9:1", "test.toml:10:16", "test.toml:11:11"] {
        assert!(screen.contains(place), "{place} in\n{screen}");
    }
    assert!(screen.contains("device `uart0`: unknown key `clok_hz`"), "{screen}");
    assert!(screen.contains("^^^^^^^"), "{screen}");
    assert!(screen.lines().count() < 50, "{screen}");
    let argument = with(&["machine.harts=65"], GOOD).unwrap_err();
    let screen = render(&argument, GOOD, false);
    assert!(screen.contains("--set:1:15") && screen.contains("machine.harts=65"), "{screen}");
}

#[test]
fn hostile_text_never_panics() {
    for text in [
        "\u{feff}[machine]",
        "[machine]\nname = \"\u{1}é",
        "é = é",
        "[device.\"é\"]\nplugin = \"é\"",
        "a=1\r\nb",
    ] {
        let _ = mistakes(&[], text);
    }
    let deep = format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(!mistakes(&[], &deep).is_empty());
    // Every prefix and every cut of a good board is a board or a list of mistakes.
    for at in 0..GOOD.len() {
        for text in [&GOOD[..at], &GOOD[at..]] {
            if let Err(found) = with(&[], text) {
                assert!(!found.is_empty());
                let _ = render(&found, text, true);
            }
        }
    }
}

#[test]
fn the_schema_covers_language_and_options() {
    let schema = schema(&Fake);
    let device = &schema["properties"]["device"]["additionalProperties"];
    assert_eq!(
        device["properties"]["plugin"]["enum"],
        json!(["linked", "nic", "ns16550a", "plic", "timers", "virtio-blk"])
    );
    let branches = device["allOf"].as_array().unwrap();
    let uart = branches.iter().find(|b| b["if"]["properties"]["plugin"]["const"] == "ns16550a").unwrap();
    assert_eq!(uart["then"]["properties"]["clock_hz"]["maximum"], 1_000_000_000);
    assert_eq!(uart["then"]["required"], json!(["mmio"]));
    let eeprom = branches.iter().find(|b| b["if"]["properties"]["kind"]["const"] == "eeprom").unwrap();
    assert_eq!(eeprom["then"]["properties"]["links"]["properties"]["bus"]["type"], "string");
    let mswi = branches.iter().find(|b| b["if"]["properties"]["kind"]["const"] == "mswi").unwrap();
    assert_eq!(mswi["if"]["required"], json!(["plugin", "kind"]));
    // Every key of [machine] is in the schema, and the other way round.
    let mut known: Vec<&str> = schema["properties"]["machine"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    known.sort_unstable();
    let help =
        &with(&[], "[machine]\nzzzzzzzz = 1\nram.size = \"1M\"\n[device]").unwrap_err()[0].help[0].clone();
    assert_eq!(*help, format!("there are `{}`", known.join("`, `")));
}

/// A bus, and what hangs on it.
fn bus(targets: &[(&str, &str, &str)]) -> String {
    let mut text = format!("{GOOD}\n[device.i2c0]\nplugin = \"linked\"\nkind = \"i2c\"\n");
    for (id, kind, links) in targets {
        text += &format!("[device.{id}]\nplugin = \"linked\"\nkind = \"{kind}\"\n{links}\n");
    }
    text
}

#[test]
fn links_are_written_at_targets() {
    let text = bus(&[
        ("e0", "eeprom", "links.bus = \"i2c0.bus@0x50\""),
        ("s0", "sensor", "links = { bus = \"i2c0.bus@72\" }"),
    ]);
    let board = parse("b.toml", &text, &[], &Fake).unwrap();
    let at = |id: &str| board.device(id).unwrap();
    let link = |target, at, addresses| LinkSpec {
        target,
        target_link: 0,
        controller: board.device("i2c0").unwrap(),
        controller_link: 0,
        at,
        addresses,
    };
    assert_eq!(board.links, [link(at("e0"), 0x50, 8), link(at("s0"), 72, 1)]);
    let again = parse("again.toml", &print(&board), &[], &Fake).unwrap();
    assert_eq!(again, board);
}

#[test]
fn links_lead_somewhere() {
    let mistakes = |targets: &[(&str, &str, &str)]| {
        let diagnostics = parse("b.toml", &bus(targets), &[], &Fake).unwrap_err();
        diagnostics.iter().map(|d| format!("{} {}", d.code.name(), d.message)).collect::<Vec<_>>()
    };
    let sensor = |end: &str| mistakes(&[("s0", "sensor", &format!("links.bus = \"{end}\""))]).join("; ");
    assert_eq!(sensor("i2c0"), "bad-value `i2c0` is no end of a link");
    assert_eq!(sensor("i2c.bus@1"), "unknown-link the board has no device `i2c`");
    assert_eq!(sensor("i2c0.bux@1"), "unknown-link `i2c0` controls no link `bux`");
    assert_eq!(sensor("uart0.bus@1"), "unknown-link `uart0` controls no link `bus`");
    assert_eq!(sensor("i2c0.other@1"), "wiring `i2c0.other` speaks acme/3, `bus` i2c/1");
    assert_eq!(sensor("i2c0.bus@128"), "out-of-range address 0x80 is out of range");
    assert_eq!(sensor("i2c0.bus@x"), "bad-value `x` is no address");
    assert_eq!(mistakes(&[("s0", "sensor", "")]), ["missing the device's link `bus` leads nowhere"]);
    assert_eq!(mistakes(&[("s0", "sensor", "links = { bus = 3 }")]), ["wrong-type `links` is an integer"]);
    assert_eq!(
        mistakes(&[("s0", "sensor", "links = { bus = \"i2c0.bus@1\", b = \"\" }")]),
        ["unknown-link the device has no link `b`"]
    );
    let eeprom = ("e0", "eeprom", "links.bus = \"i2c0.bus@0x50\"");
    assert_eq!(
        mistakes(&[eeprom, ("s0", "sensor", "links.bus = \"i2c0.bus@0x57\"")]),
        ["wiring address 0x57 is taken"]
    );
    assert_eq!(mistakes(&[("e0", "eeprom", "links.bus = \"i2c0.bus@0x79\"")]).len(), 1, "it takes eight");
    let controller = format!("{}links.bus = \"i2c0.bus@1\"\n", bus(&[]));
    let found = parse("b.toml", &controller, &[], &Fake).unwrap_err();
    assert_eq!(found[0].message, "the device is the controller of `bus`");
}
