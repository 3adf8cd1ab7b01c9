//! What users are told when something is wrong: a table of mistakes against `errors.txt`, word for word.
//!
//! Each answer fits on a screen, ends with the promised exit code, and is no panic. After a change on purpose:
//! `REPRISE_UPDATE=1 cargo test -p reprise --test errors`, and read the diff.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of a process: it writes files, starts processes and reads the environment"
)]

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::{self, JoinHandle},
};

const SCREEN_LINES: usize = 24;

/// A mistake: its name, the arguments, the exit code. `@` in an argument is the scratch folder.
struct Case(&'static str, &'static str, i32);

const CASES: &[Case] = &[
    // The command line.
    Case("nothing", "", 2),
    Case("unknown command", "boot", 2),
    Case("unknown option", "run --frimware x", 2),
    Case("unknown QEMU option", "run -vga none", 2),
    Case("option without value", "run -kernel", 2),
    Case("two boards", "run a.toml b.toml", 2),
    Case("nothing to boot", "run", 2),
    Case("another machine", "run -M q35", 2),
    Case("no such engine", "run --engine fast --firmware @/ok.elf", 2),
    Case("bad RAM size", "run -m lots --firmware @/ok.elf", 2),
    Case("bad hart count", "run -smp many --firmware @/ok.elf", 2),
    Case("bad instruction limit", "run --icount-limit soon", 2),
    Case("bad seed", "run --seed xyz --firmware @/ok.elf", 2),
    Case("bad clock", "run --rtc noon --firmware @/ok.elf", 2),
    Case("set without value", "run --set machine.harts --firmware @/ok.elf", 2),
    Case("set of an unknown key", "run --set machine.hartz=2 --firmware @/ok.elf", 3),
    Case("set to the wrong type", "run --set machine.harts=\"x\" --firmware @/ok.elf", 3),
    Case("too many harts", "run -smp 1000 --firmware @/ok.elf", 3),
    Case("port without backend", "run --port uart0 --firmware @/ok.elf", 2),
    Case("port of an unknown device", "run --port uart7=null --firmware @/ok.elf", 2),
    Case("port of a device without", "run --port plic=null --firmware @/ok.elf", 2),
    Case("unknown port of a device", "run --port uart0.tty=null --firmware @/ok.elf", 2),
    Case("unknown backend", "run --port uart0=vc --firmware @/ok.elf", 2),
    Case("network without a device", "run -nic user --firmware @/ok.elf", 2),
    Case("network that is a terminal", "run @/nic.toml --port net0=stdio --firmware @/ok.elf", 2),
    Case("network of an unknown kind", "run @/nic.toml --net tap,ifname=tap0 --firmware @/ok.elf", 2),
    Case("user network of longer packets", "run @/nic.toml --net user,mtu=9000 --firmware @/ok.elf", 3),
    Case(
        "what is set of the board's network holds with --net user",
        "run @/nic.toml --set net.user0.mtu=9000 --net user,profile=host --firmware @/ok.elf",
        3,
    ),
    Case(
        "a forward that the board's network has already",
        "run @/nic.toml --set net.user0.hostfwd=[\"tcp::2222-:22\"] --net user,hostfwd=tcp::2222-:23 \
         --firmware @/ok.elf",
        2,
    ),
    Case("user network with mistakes", "run @/nic.toml --net user,hostfwd=tcp:,mtu=9 --firmware @/ok.elf", 2),
    Case(
        "proxy with a password in the board",
        "record -o @/p.rec @/proxy.toml --net null --firmware @/ok.elf",
        3,
    ),
    Case("port twice", "run --port uart0=null --port uart0=pty --firmware @/ok.elf", 2),
    Case("two ports on the terminal", "run --port uart0=stdio --port vcon0=stdio --firmware @/ok.elf", 3),
    Case("port into a missing folder", "run --port uart0=file:@/no/log --firmware @/ok.elf", 6),
    Case("socket in a missing folder", "run --port uart0=unix:@/no/s --firmware @/ok.elf", 6),
    Case("summary in a missing folder", "run --summary @/no/s.json --firmware @/ok.elf", 6),
    Case("error as JSON", "--error-format json run --port uart0=vc --firmware @/ok.elf", 2),
    Case("board errors as JSON", "--error-format json machine check @/overlap.toml", 3),
    Case("device of QEMU", "run -device e1000 --firmware @/ok.elf", 2),
    Case("device without drive", "run -device virtio-blk-device,drive=hd7 --firmware @/ok.elf", 2),
    Case("snapshots nowhere", "run --snapshots", 2),
    Case("snapshots too often", "replay @/no.rec --snapshot-every 0", 2),
    Case("snapshots in no memory", "ask @/no.rec digest --snapshot-memory lots", 2),
    Case("save without a machine", "snapshot save a @/no.sock", 6),
    Case("load without a name", "snapshot load", 2),
    Case("flight recorder without a size", "run --flight-recorder lots --firmware @/ok.elf", 2),
    Case("flight recorder that holds nothing", "run --flight-recorder 64k --firmware @/ok.elf", 2),
    Case(
        "flight recorder with an unknown option",
        "run --flight-recorder 64M,every=5 --firmware @/ok.elf",
        2,
    ),
    Case("flight recorder that reaches nowhere", "run --flight-recorder 64M,reach=1 --firmware @/ok.elf", 2),
    Case(
        "flight recorder into a missing folder",
        "run --flight-recorder 64M,dir=@/no --firmware @/ok.elf",
        6,
    ),
    Case("flight recorder into a file", "run --flight-recorder 64M,dir=@/ok.elf --firmware @/ok.elf", 6),
    Case(
        "flight recorder of a recorded run",
        "record -o @/new.rec --flight-recorder 64M --firmware @/ok.elf",
        2,
    ),
    Case("flight recorder of a replay", "replay @/no.rec --flight-recorder 64M", 2),
    Case(
        "flight recorder and a commit",
        "run --flight-recorder 64M --disk disk0=@/raw.img,commit --firmware @/ok.elf",
        2,
    ),
    Case("save a flight without a machine", "flight save @/no.sock", 6),
    Case("flight without a command", "flight", 2),
    // Boards.
    Case("missing board", "machine check @/missing.toml", 6),
    Case("folder as board", "machine check @", 3),
    Case("ELF file as board", "machine check @/ok.elf", 3),
    Case("binary board", "machine check @/binary.toml", 3),
    Case("empty board", "machine check @/empty.toml", 3),
    Case("not TOML", "machine check @/syntax.toml", 3),
    Case("unclosed string", "machine check @/string.toml", 3),
    Case("key twice", "machine check @/twice.toml", 3),
    Case("unknown key", "machine check @/unknown.toml", 3),
    Case("wrong type", "machine check @/type.toml", 3),
    Case("no RAM", "machine check @/noram.toml", 3),
    Case("absurd RAM", "machine check @/hugeram.toml", 3),
    Case("unknown plugin", "machine check @/plugin.toml", 3),
    Case("plugin name with a path", "machine check @/pluginpath.toml", 3),
    Case("unknown kind", "machine check @/kind.toml", 3),
    Case("no address", "machine check @/noaddr.toml", 3),
    Case("overlapping devices", "machine check @/overlap.toml", 3),
    Case("device over RAM", "machine check @/overram.toml", 3),
    Case("unknown pin", "machine check @/pin.toml", 3),
    Case("wire to nowhere", "machine check @/wire.toml", 3),
    Case("two drivers of one pin", "machine check @/drivers.toml", 3),
    Case("unknown option of a device", "machine check @/option.toml", 3),
    Case("option out of range", "machine check @/range.toml", 3),
    Case("unknown board port", "machine check @/port.toml", 3),
    Case("unknown board backend", "machine check @/backend.toml", 3),
    Case("unknown network", "machine check @/nonet.toml", 3),
    Case("network with mistakes", "machine check @/badnet.toml", 3),
    Case("a great many mistakes", "machine check @/many.toml", 3),
    // Plugins.
    Case("plugin that is text", "--plugin-path @/text machine check @/fake.toml", 3),
    Case("plugin that is empty", "--plugin-path @/void machine check @/fake.toml", 3),
    Case("plugin for another machine", "--plugin-path @/riscv machine check @/fake.toml", 3),
    Case("library that is no plugin", "--plugin-path @/other machine check @/fake.toml", 3),
    Case("describe nothing", "plugin describe nosuch", 3),
    Case("describe a missing file", "plugin describe ./nosuch.so", 3),
    // What is booted.
    Case("missing firmware", "run --firmware @/missing", 6),
    Case("missing kernel", "run --firmware @/ok.elf --kernel @/missing", 6),
    Case("missing initrd", "run --firmware @/ok.elf --kernel @/ok.elf --initrd @/missing", 6),
    Case("missing default firmware", "run --kernel @/ok.elf", 6),
    Case("folder as firmware", "run --firmware @", 3),
    Case("empty firmware", "run --firmware @/empty.toml", 3),
    Case("initrd without kernel", "run --firmware @/ok.elf --initrd @/raw.img", 3),
    Case("cut ELF", "run --firmware @/cut.elf", 3),
    Case("ELF of another machine", "run --firmware @/x86.elf", 3),
    Case("32-bit ELF", "run --firmware @/elf32.elf", 3),
    Case("ELF outside RAM", "run --firmware @/outside.elf", 3),
    Case("ELF with a segment past its end", "run --firmware @/segment.elf", 3),
    Case("firmware larger than RAM", "run -m 1 --firmware @/raw.img", 3),
    // Disks.
    Case("disk without id", "run --disk x.img --firmware @/ok.elf", 2),
    Case("disk of an unknown device", "run --disk sda=@/raw.img --firmware @/ok.elf", 2),
    Case("disk of a device without", "run --disk uart0=@/raw.img --firmware @/ok.elf", 2),
    Case(
        "two disks of one device",
        "run --disk disk0=@/raw.img --disk disk0=@/raw.img --firmware @/ok.elf",
        2,
    ),
    Case(
        "one image committed twice",
        "run --disk disk0=@/raw.img,commit --disk disk1=@/raw.img --firmware @/ok.elf",
        2,
    ),
    Case("unknown disk option", "run --disk disk0=@/raw.img,rw --firmware @/ok.elf", 2),
    Case("unknown format", "run --disk disk0=@/raw.img,format=vmdk --firmware @/ok.elf", 2),
    Case("ro and commit", "run --disk disk0=@/raw.img,ro,commit --firmware @/ok.elf", 2),
    Case(
        "too many drives",
        "run -drive file=@/raw.img -drive file=@/raw.img -drive file=@/raw.img --firmware @/ok.elf",
        2,
    ),
    Case("missing disk", "run --disk disk0=@/missing.img --firmware @/ok.elf", 6),
    Case("folder as disk", "run --disk disk0=@ --firmware @/ok.elf", 3),
    Case("device file as disk", "run --disk disk0=/dev/zero --firmware @/ok.elf", 3),
    Case("empty disk", "run --disk disk0=@/empty.toml --firmware @/ok.elf", 3),
    Case("odd disk size", "run --disk disk0=@/odd.img --firmware @/ok.elf", 3),
    Case("no qcow2", "run --disk disk0=@/raw.img,format=qcow2 --firmware @/ok.elf", 3),
    Case("cut qcow2", "run --disk disk0=@/cut.qcow2 --firmware @/ok.elf", 3),
    Case("qcow2 of a later version", "run --disk disk0=@/version.qcow2 --firmware @/ok.elf", 3),
    Case("corrupt qcow2", "run --disk disk0=@/tables.qcow2 --firmware @/ok.elf", 3),
    Case("encrypted qcow2", "run --disk disk0=@/crypt.qcow2 --firmware @/ok.elf", 3),
    Case("qcow2 with a backing file", "run --disk disk0=@/backing.qcow2 --firmware @/ok.elf", 3),
    Case("stray journal", "run --disk disk0=@/stray.img,commit --firmware @/ok.elf", 6),
    // Recording.
    Case("record without a place", "record --firmware @/ok.elf", 2),
    Case("record nothing", "record -o @/new.rec", 2),
    Case("record over a folder", "record -o @/good.rec --firmware @/ok.elf", 2),
    Case("record over a folder by force", "record -o @/text --force --firmware @/ok.elf", 2),
    Case("record into a missing folder", "record -o @/no/new.rec --firmware @/ok.elf", 6),
    Case("record a commit", "record -o @/new.rec --disk disk0=@/raw.img,commit --firmware @/ok.elf", 2),
    Case("record without the disk", "record -o @/new.rec --disk disk0=@/missing.img --firmware @/ok.elf", 6),
    Case(
        "record with a port into a missing folder",
        "record -o @/new.rec --port uart0=file:@/no/log --firmware @/ok.elf",
        6,
    ),
    Case("record on no such engine", "record -o @/new.rec --engine tcg --firmware @/ok.elf", 2),
    Case("digests too often", "record -o @/new.rec --digest-every 0 --firmware @/ok.elf", 2),
    Case("digests at a bad interval", "record -o @/new.rec --digest-every often --firmware @/ok.elf", 2),
    // Replaying.
    Case("replay nothing", "replay", 2),
    Case("replay what is missing", "replay @/missing.rec", 6),
    Case("replay a folder", "replay @/text", 5),
    Case("replay a file", "replay @/ok.elf", 5),
    Case("replay to nowhere", "replay @/good.rec --until soon", 2),
    Case("replay to a time without unit", "replay @/good.rec --until vtime:5", 2),
    Case("replay beyond all parts", "replay @/good.rec --until 101%", 2),
    Case("replay to a line", "replay @/good.rec --until line:7", 2),
    Case("replay to an event that is not there", "replay @/good.rec --until event:9", 2),
    Case("replay on no such engine", "replay @/good.rec --engine JIT", 2),
    Case("verify on no engine", "verify @/good.rec --engine", 2),
    Case("ask on two engines", "ask @/good.rec digest --engine jit --engine interp", 2),
    Case("live without a place", "replay @/good.rec --live", 2),
    Case("a place without live", "replay @/good.rec -o @/new.rec", 2),
    Case("live and again", "replay @/good.rec --live -o @/new.rec --rerecord @/newer.rec", 2),
    Case("live over a folder", "replay @/good.rec --live -o @/good.rec", 2),
    Case("live over itself by force", "replay @/good.rec --live -o @/good.rec --force", 2),
    Case("record again over itself by force", "replay @/good.rec --rerecord @/good.rec --force", 2),
    Case("trim over itself by force", "trim @/good.rec -o @/good.rec --force", 2),
    Case("unpack over itself by force", "unpack @/good.rec -o @/good.rec --force", 2),
    Case(
        "record by force with a port into a missing folder",
        "record -o @/off.rec --force --port uart0=file:@/no/log --firmware @/ok.elf",
        6,
    ),
    Case("live with a bad port", "replay @/good.rec --live -o @/new.rec --port uart7=null", 2),
    Case("live behind a power-off", "replay @/off.rec --live -o @/new.rec", 2),
    Case("record again into a missing folder", "replay @/good.rec --rerecord @/no/new.rec", 6),
    Case("show a port that is not there", "replay @/good.rec --show uart7", 2),
    Case("plugin without a file", "replay @/good.rec --plugin ns16550a", 2),
    Case("plugin of no recording", "replay @/good.rec --plugin plic=x.so", 2),
    Case("plugin file that is missing", "replay @/good.rec --plugin ns16550a=@/missing.so", 3),
    Case("another plugin than was recorded", "replay @/other.rec", 3),
    Case("another plugin, for programs", "--error-format json verify @/other.rec", 3),
    Case("a recorded plugin that is damaged", "replay @/other.rec --trust-plugins", 5),
    Case("two ways with plugins", "replay @/other.rec --trust-plugins --other-plugins", 2),
    Case("disk of no recording", "replay @/good.rec --disk disk0=@/raw.img", 2),
    Case("disk that moved", "replay @/disk.rec", 6),
    Case("disk of another size", "replay @/disk.rec --disk disk0=@/tables.qcow2", 3),
    Case("edited manifest", "replay @/edited.rec", 5),
    Case("recording of a later version", "replay @/later.rec", 5),
    Case("log that is no log", "replay @/nolog.rec", 5),
    Case("log of another run", "replay @/mixed.rec", 5),
    Case("recording without its firmware", "replay @/nofirmware.rec", 5),
    // Control.
    Case("control socket in a missing folder", "run --control @/no/s --firmware @/ok.elf", 6),
    Case("control socket over a file", "run --control @/raw.img --firmware @/ok.elf", 2),
    Case("control socket of a live machine", "run --control @/live.sock --firmware @/ok.elf", 2),
    Case(
        "recording with a bad control socket",
        "record -o @/new.rec --control @/raw.img --firmware @/ok.elf",
        2,
    ),
    Case("replay with a bad control socket", "replay @/good.rec --control @/raw.img --rerecord @/new.rec", 2),
    Case("status of nothing", "status", 2),
    Case("status of a process that is no machine", "status 1", 6),
    Case("monitor of a file", "monitor @/raw.img info status", 6),
    Case("stop of two", "stop 1 2", 2),
    Case("cont of what does not speak QMP", "cont @/mute.sock", 6),
    Case("verify with a backend", "verify @/good.rec --port uart0=null", 2),
    // Beginning in the middle.
    Case("trim to nowhere", "trim @/off.rec -o @/new.rec --to soon", 2),
    Case("trim without a name", "trim @/off.rec --from icount:2", 2),
    Case("trim over something", "trim @/off.rec -o @/good.rec --from icount:2", 2),
    Case("trim behind the end", "trim @/off.rec -o @/new.rec --from icount:5k", 2),
    Case("trim to before its beginning", "trim @/off.rec -o @/new.rec --from icount:2 --to icount:1", 2),
    Case("trim before the beginning", "trim @/cut.rec -o @/new.rec --from icount:1", 2),
    Case("run from with a board", "run @/off.toml --from @/cut.rec/snapshots/start", 2),
    Case("run from with more RAM", "run --from @/cut.rec/snapshots/start -m 1G", 2),
    Case("run from with a kernel", "run --from @/cut.rec/snapshots/start -kernel @/ok.elf", 2),
    Case(
        "record from with a value",
        "record -o @/new.rec --from @/cut.rec/snapshots/start --set machine.harts=2",
        2,
    ),
    Case("run from with an unknown disk", "run --from @/cut.rec/snapshots/start --disk disk0=@/raw.img", 2),
    Case("run from nothing", "run --from @/cut.rec/snapshots/nothing", 2),
    Case("run from a folder", "run --from ..", 2),
    Case("run from what is no store", "run --from @/good.rec/manifest", 6),
    Case("run from a file that is no snapshot", "run --from @/bad.rec/snapshots/start", 5),
    Case("run from a snapshot without its image", "run --from @/diskcut.rec/snapshots/start", 6),
    Case(
        "run from a snapshot with another image",
        "run --from @/diskcut.rec/snapshots/start --disk disk0=@/half.img",
        3,
    ),
    Case("run with plugins of nothing", "run --trust-plugins --firmware @/ok.elf", 2),
    Case("replay from another snapshot", "replay @/bad.rec", 5),
    Case("snapshot and nothing", "snapshot", 2),
    Case("snapshots of a recording from power-on", "snapshot list @/good.rec/snapshots", 6),
    Case("delete no snapshot", "snapshot delete @/cut.rec/snapshots", 2),
    Case("delete a snapshot that is not there", "snapshot delete @/cut.rec/snapshots nothing", 2),
    Case(
        "compare a snapshot with nothing",
        "snapshot diff @/cut.rec/snapshots/start @/cut.rec/snapshots/no",
        2,
    ),
    // Comparing.
    Case("diff of one", "diff @/good.rec", 2),
    Case("diff of three", "diff @/good.rec @/off.rec @/disk.rec", 2),
    Case("diff with what is missing", "diff @/good.rec @/missing.rec", 6),
    Case("diff with a board", "diff @/good.rec @/uart.toml", 5),
    Case("diff with a log that is no log", "diff @/good.rec @/nolog.rec", 5),
    Case("diff with a log of another run", "diff @/good.rec @/mixed.rec", 5),
    Case("diff with an edited manifest", "diff @/edited.rec @/good.rec", 5),
    Case("diff with a plugin without a file", "diff @/good.rec @/off.rec --plugin syscon", 2),
    Case("diff with a plugin of neither", "diff @/good.rec @/off.rec --plugin plic=x.so", 2),
    Case("diff with a disk of neither", "diff @/good.rec @/off.rec --disk disk0=@/raw.img", 2),
    Case("diff with two ways with plugins", "diff @/good.rec @/off.rec --trust-plugins --other-plugins", 2),
];

/// A board around a stanza: good but for what the stanza does.
fn board(stanza: &str) -> String {
    format!(
        "[machine]\nram = {{ size = \"16M\" }}\n\n[device.uart0]\nplugin = \"ns16550a\"\nmmio = 0x1000_0000\n{stanza}"
    )
}

/// A board with a network interface, connected to this network.
fn nic(network: &str, rest: &str) -> String {
    board(&format!(
        "\n[device.net0]\nplugin = \"virtio-net\"\nmmio = 0x1000_1000\nports = {{ net = \"{network}\" }}\n{rest}"
    ))
}

fn write_boards(folder: &Path) {
    let ram = "[machine]\nram = { size = \"16M\" }\n";
    let boards = [
        ("empty", String::new()),
        ("syntax", "[machine\nram = 1\n".into()),
        ("string", "[machine]\nname = \"x\n".into()),
        ("twice", "[machine]\nharts = 1\nharts = 2\n".into()),
        ("unknown", format!("{ram}hearts = 2\n")),
        ("type", "[machine]\nharts = \"two\"\nram = { size = \"16M\" }\n".into()),
        ("noram", "[machine]\nharts = 1\n".into()),
        ("hugeram", "[machine]\nram = { size = \"9000T\" }\n".into()),
        ("plugin", format!("{ram}\n[device.uart0]\nplugin = \"ns16550\"\nmmio = 0x1000_0000\n")),
        ("pluginpath", format!("{ram}\n[device.uart0]\nplugin = \"../evil\"\nmmio = 0x1000_0000\n")),
        ("kind", board("kind = \"pl011\"\n")),
        ("noaddr", format!("{ram}\n[device.uart0]\nplugin = \"ns16550a\"\n")),
        ("overlap", board("\n[device.uart1]\nplugin = \"ns16550a\"\nmmio = 0x1000_0000\n")),
        ("overram", board("\n[device.uart1]\nplugin = \"ns16550a\"\nmmio = 0x8000_0000\n")),
        ("pin", board("pins = { irk = \"hart.0.meip\" }\n")),
        ("wire", board("pins = { irq = \"plic.irq.10\" }\n")),
        (
            "drivers",
            board(
                "pins = { irq = \"hart.0.meip\" }\n\n[device.uart1]\nplugin = \"ns16550a\"\n\
                 mmio = 0x1000_1000\npins = { irq = \"hart.0.meip\" }\n",
            ),
        ),
        ("option", board("clock_hertz = 5\n")),
        ("range", board("clock_hz = -5\n")),
        ("port", board("ports = { seriell = \"console\" }\n")),
        ("backend", board("ports = { serial = \"vc\" }\n")),
        ("uart", board("")),
        ("disk", board("\n[device.disk0]\nplugin = \"virtio-blk\"\nmmio = 0x1000_1000\n")),
        ("off", board("\n[device.syscon]\nplugin = \"syscon\"\nmmio = 0x0010_0000\n")),
        ("nic", nic("null", "")),
        ("nonet", nic("user1", "\n[net.user0]\n")),
        (
            "proxy",
            nic("user0", "\n[net.user0]\nproxies = { corp = \"socks5://me:secret@proxy.test:1080\" }\n"),
        ),
        (
            "badnet",
            nic(
                "user0",
                "\n[net.user0]\nmtu = 9\nhostfwt = [\"tcp::2222-:22\"]\nhostfwd = [\"tcp::1-:1\", \"tcp:\"]\n\
                 ipv4.dns = \"10.0.2.3\"\nipv4.gateway = \"10.9.9.9\"\nlimits.leases = 9\nlimits.tcp_flows = 0\n",
            ),
        ),
        ("fake", format!("{ram}\n[device.x]\nplugin = \"fake\"\nmmio = 0x1000_0000\n")),
        ("many", many_mistakes(ram)),
    ];
    for (name, text) in boards {
        fs::write(folder.join(name).with_extension("toml"), text).unwrap();
    }
    fs::write(folder.join("binary.toml"), [0x5b, 0xff, 0xfe]).unwrap();
}

fn many_mistakes(ram: &str) -> String {
    let stanza = |n: usize| format!("\n[device.d{n}]\nplugin = \"none{n}\"\nmmio = 0x1000_0000\n");
    ram.to_owned() + &(0..50).map(stanza).collect::<String>()
}

/// A little-endian ELF64 for RISC-V with one segment: `wfi; j -4` at 0x8000_0000.
fn elf(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut e = vec![0; 128];
    e[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    let fields: [(usize, &[u8]); 14] = [
        (16, &[2, 0]),
        (18, &[243, 0]),
        (20, &[1]),
        (24, &0x8000_0000u64.to_le_bytes()),
        (32, &[64]),
        (52, &[64, 0, 56, 0, 1, 0, 64, 0]),
        (64, &[1, 0, 0, 0, 5]),
        (72, &[120]),
        (80, &0x8000_0000u64.to_le_bytes()),
        (88, &0x8000_0000u64.to_le_bytes()),
        (96, &[8]),
        (104, &[8]),
        (112, &[4]),
        (120, &[0x73, 0x00, 0x50, 0x10, 0x6f, 0xf0, 0xdf, 0xff]),
    ];
    for (at, bytes) in fields {
        e[at..at + bytes.len()].copy_from_slice(bytes);
    }
    change(&mut e);
    e
}

fn write_elfs(folder: &Path) {
    let put = |name: &str, bytes: Vec<u8>| fs::write(folder.join(name), bytes).unwrap();
    put("ok.elf", elf(|_| ()));
    // `lui t0,0x100; lui t1,0x5; addi t1,t1,0x555; sw t1,0(t0)`: the finisher's good end.
    let off = [0x0010_02b7u32, 0x0000_5337, 0x5553_0313, 0x0062_a023].map(u32::to_le_bytes).concat();
    put(
        "off.elf",
        elf(|e| {
            (e[96], e[104]) = (16, 16);
            e.truncate(120);
            e.extend(off);
        }),
    );
    put("cut.elf", elf(|e| e.truncate(40)));
    put("x86.elf", elf(|e| e[18] = 62));
    put("elf32.elf", elf(|e| e[4] = 1));
    put("outside.elf", elf(|e| (e[83], e[91], e[27]) = (0x10, 0x10, 0x10)));
    put("segment.elf", elf(|e| e[98] = 0x10));
}

fn qcow2(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut q = vec![0; 0x40000];
    for (at, value) in [
        (4, 3u32),
        (20, 16),
        (28, 1 << 20),
        (36, 1),
        (44, 0x30000),
        (52, 0x10000),
        (56, 1),
        (96, 4),
        (100, 112),
    ] {
        q[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    q[..4].copy_from_slice(b"QFI\xfb");
    change(&mut q);
    q
}

fn write_images(folder: &Path) {
    let put = |name: &str, bytes: Vec<u8>| fs::write(folder.join(name), bytes).unwrap();
    put("raw.img", vec![0; 2 << 20]);
    put("half.img", vec![0; 1 << 20]);
    put("odd.img", vec![0; 1000]);
    put("cut.qcow2", qcow2(|q| q.truncate(60)));
    put("version.qcow2", qcow2(|q| q[7] = 9));
    put("tables.qcow2", qcow2(|q| q[40] = 0x70));
    put("crypt.qcow2", qcow2(|q| q[35] = 1));
    put("backing.qcow2", qcow2(|q| (q[14], q[19], q[512]) = (2, 11, b'/')));
    put("stray.img", vec![0; 4096]);
    fs::create_dir(folder.join("stray.img.reprise-commit")).unwrap();
}

fn write_plugins(folder: &Path) {
    let library = b"\x7fELF\x02\x01\x01".to_vec();
    for (name, bytes) in
        [("text", b"hello".to_vec()), ("void", Vec::new()), ("riscv", elf(|e| e[16] = 3)), ("other", library)]
    {
        let place = folder.join(name);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("libreprise_plugin_fake.so"), bytes).unwrap();
    }
    // Any shared library will do.
    let no_plugin =
        ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
    if let Some(library) = no_plugin.iter().find(|library| Path::new(library).exists()) {
        let copy = folder.join("other/libreprise_plugin_fake.so");
        fs::copy(library, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// Record this, and check that it worked.
fn record(folder: &Path, name: &str, args: &str) -> PathBuf {
    let path = folder.join(name);
    let mut words = vec!["record".to_owned(), "-o".to_owned(), path.to_str().unwrap().to_owned()];
    words.extend(args.split_whitespace().map(|word| word.replace('@', folder.to_str().unwrap())));
    let output = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(words)
        .env_remove("REPRISE_PLUGIN_PATH")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

/// Cut a recording, and check that it worked.
fn trim(folder: &Path, whole: &str, part: &str, from: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .arg("trim")
        .arg(folder.join(whole))
        .arg("-o")
        .arg(folder.join(part))
        .args(["--from", from])
        .output()
        .unwrap();
    assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Another recording of the same contents, with another manifest. `sealed`: it is as if it had been written so.
fn forge(from: &Path, to: &Path, sealed: bool, change: impl FnOnce(&str) -> String) {
    for folder in ["", "log", "blobs"] {
        fs::create_dir(to.join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    let text = fs::read_to_string(from.join("manifest.toml")).unwrap();
    let (first, body) = text.split_once('\n').unwrap();
    let changed = change(body);
    assert_ne!(body, changed, "nothing was changed");
    let hash = format!("# reprise recording, blake3 {}", blake3::hash(changed.as_bytes()));
    let first = if sealed { &hash } else { first };
    fs::write(to.join("manifest.toml"), format!("{first}\n{changed}")).unwrap();
}

/// The value of the first such key in a manifest.
fn value_of<'t>(text: &'t str, key: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("\n{key} = \"")).unwrap();
    rest.split_once('"').unwrap().0
}

fn write_recordings(folder: &Path) {
    let good = record(folder, "good.rec", "@/uart.toml --firmware @/ok.elf");
    record(folder, "off.rec", "@/off.toml --firmware @/off.elf");
    fs::copy(folder.join("raw.img"), folder.join("moving.img")).unwrap();
    record(folder, "disk.rec", "@/disk.toml --firmware @/ok.elf --disk disk0=@/moving.img");
    trim(folder, "off.rec", "cut.rec", "icount:2");
    trim(folder, "off.rec", "bad.rec", "icount:2");
    fs::write(folder.join("bad.rec/snapshots/start.snap"), "hello").unwrap();
    trim(folder, "disk.rec", "diskcut.rec", "icount:0");
    fs::remove_file(folder.join("moving.img")).unwrap();
    let forged = |name: &str, sealed, change: &dyn Fn(&str) -> String| {
        forge(&good, &folder.join(name), sealed, change);
        folder.join(name)
    };
    forged("edited.rec", false, &|text| text.replace("harts = 1", "harts = 2"));
    forged("later.rec", true, &|text| text.replace("format = 1", "format = 99\nwarp = 9"));
    forged("mixed.rec", true, &|text| text.replace(value_of(text, "run_id"), &"ab".repeat(16)));
    let other = "0123456789abcdef".repeat(4);
    let hash = |text: &str| value_of(text.split_once("[[plugins]]").unwrap().1, "blake3").to_owned();
    let path = forged("other.rec", true, &|text| text.replace(&hash(text), &other));
    fs::write(path.join("blobs").join(&other), "not this").unwrap();
    let path = forged("nolog.rec", true, &|text| format!("{text}\n"));
    fs::write(
        path.join("log/000000.seg"),
        "hello, this is not a log at all, but it is long enough to be one",
    )
    .unwrap();
    let path = forged("nofirmware.rec", true, &|text| format!("{text}\n"));
    let text = fs::read_to_string(path.join("manifest.toml")).unwrap();
    let firmware = value_of(text.split_once("[images.firmware]").unwrap().1, "blake3");
    fs::remove_file(path.join("blobs").join(firmware)).unwrap();
}

fn scratch() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("errors");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    write_boards(&folder);
    write_elfs(&folder);
    write_images(&folder);
    write_plugins(&folder);
    write_recordings(&folder);
    folder
}

/// Somebody who says one line and leaves.
fn closing_listener(path: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 ready\n").unwrap();
    })
}

/// What the user sees, with this machine's paths taken out.
fn answer(case: &Case, folder: &Path) -> (Option<i32>, String) {
    let folder_text = folder.to_str().unwrap();
    let args = case.1.split_whitespace().map(|word| word.replace('@', folder_text));
    let output = Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(args)
        .env_remove("REPRISE_PLUGIN_PATH")
        .env("REPRISE_FIRMWARE", folder.join("no-firmware"))
        .env("REPRISE_RUNTIME_DIR", folder.join("runtime"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{}: errors go to standard error", case.0);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let beside = Path::new(env!("CARGO_BIN_EXE_reprise")).parent().unwrap();
    let prefix = beside.parent().unwrap();
    let text = text.replace(folder_text, "@").replace(beside.to_str().unwrap(), "$BIN");
    let text = text.replace(prefix.to_str().unwrap(), "$PREFIX");
    let text = without_hashes(&text);
    // x86-64 and AArch64, as ELF numbers them.
    (
        output.status.code(),
        text.replace("this host is 62", "this host is another")
            .replace("this host is 183", "this host is another"),
    )
}

/// Hashes of plugins are other ones with each build, and run ids with each run.
fn without_hashes(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            word.push(c);
            continue;
        }
        let is_hash = word.len() >= 16 && !out.ends_with("0x");
        out += if is_hash { "(hex)" } else { &word };
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[test]
fn every_mistake_is_explained_on_one_screen() {
    let folder = scratch();
    let _listening = UnixListener::bind(folder.join("live.sock")).unwrap();
    let _closing = closing_listener(&folder.join("mute.sock"));
    let mut all = String::new();
    let mut wrong = Vec::new();
    for case in CASES {
        let (code, text) = answer(case, &folder);
        let lines = text.lines().count();
        if code != Some(case.2)
            || lines > SCREEN_LINES
            || lines == 0
            || text.contains("panicked")
            || text.contains("internal error")
        {
            wrong.push(format!("{}: exit {code:?}, expected {}, {lines} lines\n{text}", case.0, case.2));
        }
        writeln!(all, "## {}\n$ reprise {}\n{text}exit {}\n", case.0, case.1, case.2).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    compare(&all);
}

fn compare(all: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors.txt");
    if std::env::var_os("REPRISE_UPDATE").is_some() {
        fs::write(&path, all).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).expect("tests/errors.txt");
    let difference = all.split("\n## ").zip(expected.split("\n## ")).find(|(now, then)| now != then);
    if let Some((now, then)) = difference {
        panic!("changed\n--- expected\n{then}\n--- is\n{now}\nREPRISE_UPDATE=1 accepts it");
    }
    assert_eq!(all.len(), expected.len(), "cases were added or removed; REPRISE_UPDATE=1 accepts it");
}

#[test]
fn a_missing_plugin_is_told_with_device_plugin_and_search_path() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lone");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    // Alone in a folder, the binary finds nothing beside itself.
    let binary = folder.join("reprise");
    fs::copy(env!("CARGO_BIN_EXE_reprise"), &binary).unwrap();
    let run = |path: &str| {
        Command::new(&binary).args(["machine", "check"]).env("REPRISE_PLUGIN_PATH", path).output().unwrap()
    };
    let output = run("/nonexistent/plugins");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    for expected in ["device `syscon`", "plugin `syscon`", "/nonexistent/plugins", folder.to_str().unwrap()] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}
