use super::*;
use crate::policy::{Action, Direction, Transport};

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    Config::read(toml::Deserializer::parse(text).unwrap())
}

/// The one problem of a table.
fn problem(text: &str) -> Problem {
    let mut problems = read(text).unwrap_err();
    assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    problems.remove(0)
}

#[test]
fn nothing_written_is_qemus_network() {
    let config = read("").unwrap();
    assert_eq!(config, Config::default());
    let v4 = config.ipv4.as_ref().unwrap();
    let text =
        |list: &[&dyn fmt::Display]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (network, gateway, host, dns) = (&v4.network, &v4.gateway, &v4.host, &v4.dns);
    assert_eq!(text(&[network, gateway, host, dns]), "10.0.2.0/24 10.0.2.2 10.0.2.2 10.0.2.3");
    assert_eq!(text(&[&v4.pool.0, &v4.pool.1]), "10.0.2.15 10.0.2.30");
    let v6 = config.ipv6.as_ref().unwrap();
    assert_eq!(text(&[&v6.network, &v6.gateway, &v6.host, &v6.dns]), "fd00::/64 fd00::2 fd00::2 fd00::3");
    assert_eq!(config.mac.to_string(), "52:55:0a:00:02:02");
    assert_eq!(config.gateway_link_local().to_string(), "fe80::5055:aff:fe00:202");
    assert_eq!((config.mtu, config.profile, config.lease_s), (1500, Profile::Public, 86_400));
    assert_eq!((config.limits.tcp_flows, config.limits.tftp_sessions), (16_384, 16));
}

#[test]
fn defaults_follow_the_network() {
    let v4 = read("ipv4.network = \"192.168.9.0/24\"").unwrap().ipv4.unwrap();
    assert_eq!((v4.gateway, v4.dns), (Ipv4Addr::new(192, 168, 9, 2), Ipv4Addr::new(192, 168, 9, 3)));
    assert_eq!(v4.pool, (Ipv4Addr::new(192, 168, 9, 15), Ipv4Addr::new(192, 168, 9, 30)));
    let small = read("ipv4.network = \"192.168.9.8/29\"").unwrap().ipv4.unwrap();
    assert_eq!(small.pool, (Ipv4Addr::new(192, 168, 9, 12), Ipv4Addr::new(192, 168, 9, 14)));
    let only4 = read("ipv6.enabled = false\nmtu = 576").unwrap();
    assert_eq!((only4.ipv6, only4.mtu), (None, 576));
    let only6 = read("ipv4.enabled = false").unwrap();
    assert!(only6.ipv4.is_none() && only6.ipv6.is_some());
}

const FULL: &str = r#"
mac = "52:55:00:00:00:01"
mtu = 9000
hostname = "guest"
domain = "Lab.Test."
search = ["lab.test", "test"]
profile = "lan"
upstream = "corp"
hostfwd = ["tcp::2222-:22", { protocol = "udp", listen = "[::1]:53", guest = "[fd00::15]:53" }]
guestfwd = ["tcp:10.0.2.100:80-tcp:127.0.0.1:8080", { at = "10.0.2.100:81", command = ["cat", "-u"] }]

[ipv4]
network = "10.9.0.0/16"
gateway = "10.9.0.1"
host = "10.9.0.5"
dns = "10.9.0.6"
pool = ["10.9.1.0", "10.9.1.255"]

[ipv6]
network = "fd00::/64"
dns = "fd00::53"

[dhcp]
lease_s = 3600
leases = [{ mac = "52:54:00:12:34:56", ip = "10.9.2.2", ip6 = "fd00::77", hostname = "db" }]

[dns]
upstream = ["9.9.9.9", "[2620:fe::fe]:5353"]
names = { "DB.test" = ["10.1.2.3", "fd12::1"] }

[boot]
tftp = "netboot"
file = "grub.efi"

[[rules]]
to = ["metadata", "169.254.0.0/16"]
action = "drop"
[[rules]]
to = "host"
protocol = "tcp"
ports = "80,8000-8010"
action = "allow"
[[rules]]
direction = "in"
from = "192.168.0.0/16"
action = "reject"
[[rules]]
protocol = "tcp"
ports = 443
action = "proxy:corp"

[proxies]
corp = "socks5://me:secret@proxy.test:1080"

[limits]
tcp_flows = 10

[capture]
file = "net.pcapng"
host = true
snap_length = 96
"#;

#[test]
fn everything_can_be_written() {
    // guestfwd must lie in the network.
    let config = read(&FULL.replace("10.0.2.100", "10.9.0.100")).unwrap();
    assert_eq!(config.domain.as_deref(), Some("lab.test"));
    assert_eq!(config.dns.names["db.test"].len(), 2);
    assert_eq!(config.dns.upstream[1].to_string(), "[2620:fe::fe]:5353");
    assert_eq!(config.forwards[1].to_string(), "udp:[::1]:53-[fd00::15]:53");
    assert_eq!(config.guest_forwards[1].to, Target::Command(vec!["cat".to_owned(), "-u".to_owned()]));
    assert_eq!((config.limits.tcp_flows, config.limits.udp_maps), (10, 4096));
    assert_eq!(config.rules[1].ports.as_ref().unwrap().to_string(), "80,8000-8010");
    assert_eq!((config.rules[2].direction, config.rules[2].protocol), (Direction::In, Transport::Any));
    assert_eq!(config.rules[3].action, Action::Proxy("corp".to_owned()));
    let capture = config.capture.unwrap();
    assert_eq!((capture.guest, capture.host, capture.snap_length), (true, true, 96));
}

#[test]
fn settings_are_written_back_as_they_were_read() {
    let text = FULL.replace("10.0.2.100", "10.9.0.100");
    let settings: Settings = toml::from_str(&text).unwrap();
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    let config = Config::read(&mut serde_json::Deserializer::from_str(&json)).unwrap();
    assert_eq!(config, read(&text).unwrap());
}

#[test]
fn what_cannot_be_read_is_named_by_its_place() {
    for (text, at, what) in [
        ("mut = 3", "mut", "unknown field `mut`"),
        ("ipv4.netwrk = 3", "ipv4.netwrk", "unknown field `netwrk`"),
        ("ipv4.network = 3", "ipv4.network", "expected a string"),
        ("ipv4.network = \"10.0.2.15/24\"", "ipv4.network", "the network is 10.0.2.0/24"),
        ("ipv4.dns = \"x\"", "ipv4.dns", "IPv4 address"),
        ("mtu = 70000", "mtu", "u16"),
        ("rules = [{ action = \"alow\" }]", "rules[0].action", "`alow` is no action"),
        ("rules = [{ action = \"drop\", to = \"privat\" }]", "rules[0].to", "neither a network"),
        ("rules = [{ action = \"drop\", to = \"::ffff:10.0.0.0/104\" }]", "rules[0].to", "in disguise"),
        ("rules = [{ action = \"drop\", ports = 70000 }]", "rules[0].ports", "no port"),
        ("rules = [{ to = \"host\" }]", "rules[0]", "missing field `action`"),
        ("profile = \"publik\"", "profile", "unknown variant `publik`"),
        ("hostfwd = [\"tcp::1-:2\", \"tcp:1\"]", "hostfwd[1]", "where it goes in the guest"),
        ("dhcp.leases = [{ mac = \"1\" }]", "dhcp.leases[0].mac", "no Ethernet address"),
        ("proxies.a = \"socks4://x:1\"", "proxies.a", "must begin with"),
    ] {
        let found = problem(text);
        assert_eq!(found.at, at, "{text}: {found}");
        assert!(found.what.contains(what), "{text}: {found}");
    }
}

#[test]
fn what_cannot_be_is_named_by_its_place() {
    for (text, at, what) in [
        ("ipv4.enabled = false\nipv6.enabled = false", "", "both IPv4 and IPv6 are off"),
        ("ipv4.network = \"10.0.2.0/30\"", "ipv4.network", "8 to 29 bits"),
        ("ipv4.network = \"fd00::/64\"", "ipv4.network", "no IPv4 network"),
        ("ipv4.network = \"127.0.0.0/8\"", "ipv4.network", "no network for hosts"),
        ("ipv4.network = \"0.1.0.0/16\"", "ipv4.network", "no network for hosts"),
        ("ipv4.network = \"224.0.1.0/24\"", "ipv4.network", "no network for hosts"),
        ("ipv4.dns = \"10.0.3.3\"", "ipv4.dns", "10.0.3.3 is not in 10.0.2.0/24"),
        ("ipv4.dns = \"10.0.2.255\"", "ipv4.dns", "nobody can have"),
        ("ipv4.dns = \"10.0.2.2\"", "ipv4.dns", "the gateway's address"),
        ("ipv4.pool = [\"10.0.2.30\", \"10.0.2.20\"]", "ipv4.pool", "behind"),
        ("ipv4.pool = [\"10.0.2.1\", \"10.0.2.9\"]", "ipv4.pool", "is `ipv4.gateway`"),
        ("ipv6.network = \"fd00::/48\"", "ipv6.network", "64 bits"),
        ("ipv6.network = \"fe80::/64\"", "ipv6.network", "no network for hosts"),
        ("ipv6.dns = \"fd01::3\"", "ipv6.dns", "no host's address"),
        ("ipv6.pool = [\"fd00::1\", \"fd00::2\"]", "ipv6.pool", "is `ipv6.gateway`"),
        ("mtu = 1279", "mtu", "1280 to 65520"),
        ("mtu = 65521", "mtu", "1280 to 65520"),
        ("mac = \"53:55:0a:00:02:02\"", "mac", "no station's"),
        ("dhcp.lease_s = 59", "dhcp.lease_s", "shorter than a minute"),
        ("hostname = \"a b\"", "hostname", "no domain name"),
        ("search = [\"ok\", \"-x\"]", "search[1]", "no domain name"),
        ("dns.names = { \"a..b\" = [\"1.1.1.1\"] }", "dns.names.a..b", "no domain name"),
        ("dns.names = { a = [] }", "dns.names.a", "1 to 32"),
        ("dns.upstream = [\"resolver\"]", "dns.upstream[0]", "no name server"),
        ("dns.upstream = [\"0.0.0.0\"]", "dns.upstream[0]", "no name server"),
        ("dhcp.leases = [{ mac = \"52:54:00:12:34:56\" }]", "dhcp.leases[0].ip", "no address"),
        (
            "dhcp.leases = [{ mac = \"52:54:00:12:34:56\", ip = \"10.0.2.2\" }]",
            "dhcp.leases[0].ip",
            "cannot be a",
        ),
        ("boot = { tftp = \"x\", next_server = \"10.0.2.9\" }", "boot.next_server", "sent away"),
        ("boot.file = \"\"", "boot.file", "1 to 255 bytes"),
        ("rules = [{ action = \"drop\", ports = 1 }]", "rules[0].ports", "no protocol"),
        ("rules = [{ action = \"drop\", to = [] }]", "rules[0].to", "matches nothing"),
        ("rules = [{ action = \"allow\", to = \"multicast\" }]", "rules[0].to", "never leave"),
        ("rules = [{ action = \"allow\", to = \"10.0.2.2\" }]", "rules[0].to", "the host is `host`"),
        (
            "rules = [{ action = \"proxy:y\", direction = \"in\" }]\nproxies.y = \"http://a:1\"",
            "rules[0].action",
            "goes through no proxy",
        ),
        ("rules = [{ action = \"proxy:x\" }]", "rules[0].action", "no proxy `x`"),
        ("upstream = \"x\"\nproxies.y = \"http://a:1\"", "upstream", "there is `y`"),
        ("hostfwd = [\"tcp::22-10.0.2.2:22\"]", "hostfwd[0]", "10.0.2.2 cannot be a guest's"),
        ("hostfwd = [\"tcp::20-29-:20-29\", \"tcp:0.0.0.0:25-:25\"]", "hostfwd[1]", "listens where"),
        ("guestfwd = [\"tcp:10.0.2.3:80-unix:/x\"]", "guestfwd[0]", "not free"),
        ("guestfwd = [\"tcp:10.1.2.3:80-unix:/x\"]", "guestfwd[0]", "not free"),
        ("guestfwd = [\"tcp:10.0.2.15:80-unix:/x\"]", "guestfwd[0]", "is in `ipv4.pool`"),
        ("guestfwd = [\"tcp:[fd00::100]:80-unix:/x\"]", "guestfwd[0]", "is in `ipv6.pool`"),
        (
            "guestfwd = [\"tcp:10.0.2.77:80-unix:/x\"]\n\
             dhcp.leases = [{ mac = \"52:54:00:12:34:56\", ip = \"10.0.2.77\" }]",
            "guestfwd[0]",
            "is in `dhcp.leases`",
        ),
        ("limits.tcp_flows = 0", "limits.tcp_flows", "not within"),
        ("limits.buffer_bytes = 0", "limits.buffer_bytes", "mebibyte"),
        ("capture = { file = \"x\", guest = false }", "capture", "neither"),
        ("capture = { file = \"x\", snap_length = 1 }", "capture.snap_length", "headers"),
    ] {
        let found = problem(text);
        assert_eq!(found.at, at, "{text}: {found}");
        assert!(found.to_string().contains(what), "{text}: {found}");
    }
}

fn places(text: &str) -> Vec<String> {
    read(text).unwrap_err().into_iter().map(|found| found.at).collect()
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "mtu = 1\nhostname = \"?\"\nlimits.udp_maps = 0\nupstream = \"x\"";
    assert_eq!(places(text), ["mtu", "hostname", "upstream", "limits.udp_maps"]);
    let text = r#"
        mut = 3
        mtu = 70000
        hostname = "?"
        profile = "publik"
        search = ["ok", 7, "-x"]
        rules = [
            { action = "alow", to = "privat" },
            { to = "host" },
            { action = "drop", to = [] },
        ]
        hostfwd = ["tcp:1", "tcp::22-:22", "nonsense"]
        limits = { leases = "many", tcp_flows = 0 }
        dhcp = { lease_s = 3600, leases = [{ mac = "1" }, { mac = "52:54:00:12:34:56" }] }
        ipv4.netwrk = 1
        ipv6 = { gateway = "x", dns = 5 }
        capture = { guest = 3 }
    "#;
    let mut found = places(text);
    found.sort();
    let mut wanted = [
        "mut",
        "mtu",
        "hostname",
        "profile",
        "search[1]",
        "search[2]",
        "rules[0].action",
        "rules[0].to",
        "rules[1]",
        "hostfwd[0]",
        "hostfwd[2]",
        "limits.leases",
        "limits.tcp_flows",
        "dhcp.leases[0].mac",
        "ipv4.netwrk",
        "ipv6.gateway",
        "ipv6.dns",
        "capture.guest",
    ];
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn what_follows_from_a_mistake_is_none() {
    for (text, wanted) in [
        ("ipv4.gateway = \"10.9.9.9\"", &["ipv4.gateway"][..]),
        ("ipv6.gateway = \"fd01::1\"", &["ipv6.gateway"]),
        ("ipv4 = { gateway = \"10.9.9.9\", host = \"10.9.9.8\" }", &["ipv4.gateway", "ipv4.host"]),
        (
            "ipv4.network = 3\nipv4.gateway = \"10.9.0.1\"\nhostfwd = [\"tcp::1-10.9.0.7:1\"]",
            &["ipv4.network"],
        ),
        ("ipv4.pool = [\"10.0.2.9\", \"x\"]", &["ipv4.pool[1]"]),
        ("upstream = \"p\"\nproxies.p = \"socks4://x:1\"", &["proxies.p"]),
        ("rules = [{ action = \"drop\", ports = 1, protocol = \"tpc\" }]", &["rules[0].protocol"]),
        (
            "guestfwd = [\"tcp:10.0.2.15:80-unix:/x\"]\nipv4.pool = [\"10.0.2.30\", \"10.0.2.20\"]",
            &["ipv4.pool"],
        ),
        // Nothing follows: the third is where it was written.
        ("hostfwd = [\"tcp:1\", \"tcp::22-:22\", \"tcp::22-:23\"]", &["hostfwd[0]", "hostfwd[2]"]),
        ("limits.leases = \"x\"\nlimits.udp_maps = 0", &["limits.leases", "limits.udp_maps"]),
    ] {
        assert_eq!(places(text), wanted, "{text}");
    }
}

#[test]
fn what_does_not_clash_is_no_clash() {
    let text = "hostfwd = [\"tcp::22-:22\", \"udp::22-:22\", \"tcp:127.0.0.2:22-:22\", \"tcp::0-:1\", \"tcp::0-:2\"]";
    assert_eq!(read(text).unwrap().forwards.len(), 5);
}

fn alias(text: &str) -> Result<Config, Vec<Problem>> {
    Alias::parse(text).map_err(|found| vec![found])?.over(Settings::default())
}

#[test]
fn the_alias_takes_qemus_names() {
    let text = "user,id=user0,net=10.1.0.0/16,host=10.1.0.1,dhcpstart=10.1.0.9,dns=10.1.0.3,ipv6-prefix=fd07::,\
                ipv6-host=fd07::1,hostname=g,dnssearch=a.test,dnssearch=b.test,domainname=c.test,tftp=/a,,b,\
                bootfile=/pxelinux.0,restrict=on,hostfwd=tcp::2222-:22,hostfwd=udp::53-:53,\
                guestfwd=tcp:10.1.0.100:80-cmd:cat,mtu=1400,model=virtio-net-pci";
    assert_eq!(Alias::parse(text).unwrap().id.as_deref(), Some("user0"));
    let config = alias(text).unwrap();
    let same = r#"
        mtu = 1400
        hostname = "g"
        domain = "c.test"
        search = ["a.test", "b.test"]
        profile = "none"
        hostfwd = ["tcp::2222-:22", "udp::53-:53"]
        guestfwd = ["tcp:10.1.0.100:80-cmd:cat"]
        boot = { tftp = "/a,b", file = "/pxelinux.0" }
        ipv4 = { network = "10.1.0.0/16", gateway = "10.1.0.1", dns = "10.1.0.3", pool = ["10.1.0.9", "10.1.0.24"] }
        ipv6 = { network = "fd07::/64", gateway = "fd07::1" }
    "#;
    assert_eq!(config, read(same).unwrap());
    assert_eq!(alias("user").unwrap(), Config::default());
    let masked = alias("user,net=10.1.0.0/255.255.0.0,ipv6=off").unwrap();
    assert_eq!(masked.ipv4.unwrap().network.to_string(), "10.1.0.0/16");
    assert_eq!(alias("user,restrict").unwrap().profile, Profile::None);
    let short = alias("user,net=10.1.0.0,ipv6-prefixlen=64").unwrap();
    assert_eq!(short.ipv4.unwrap().network.to_string(), "10.1.0.0/24");
}

#[test]
fn mistakes_in_the_alias_name_its_keys() {
    for (text, at, what) in [
        ("tap", "", "does not begin with `user`"),
        ("user,hostwfd=x", "hostwfd", "no key `hostwfd`; there is id, ipv4"),
        ("user,smb=/x", "smb", "guestfwd"),
        ("user,restrict=maybe", "restrict", "neither `on` nor `off`"),
        ("user,hostfwd=tcp::1", "hostfwd", "where it goes"),
        ("user,dns=x", "dns", "no IPv4 address"),
        ("user,net=10.0.2.9", "net", "the network is 10.0.2.0/24"),
        ("user,ipv6-prefixlen=48", "ipv6-prefixlen", "48 bits"),
        ("user,ipv6-prefix=fd00::,ipv6-prefixlen=48", "ipv6.network", "64 bits"),
        ("user,dhcpstart=10.9.9.9", "ipv4.pool", "not in"),
        ("user,profile=wan", "profile", "no profile"),
        ("user,model=e1000", "model", "`e1000` is no network device here"),
    ] {
        let problems = alias(text).unwrap_err();
        assert_eq!(problems[0].at, at, "{text}: {problems:?}");
        assert!(problems[0].to_string().contains(what), "{text}: {}", problems[0]);
    }
}

#[test]
fn the_alias_is_said_over_the_boards_table() {
    let board: Settings = toml::from_str(
        r#"
        profile = "none"
        rules = [{ action = "drop", to = "private" }]
        search = ["a.test"]
        hostfwd = ["tcp::2222-:22"]
        guestfwd = ["tcp:10.0.2.100:80-cmd:cat"]
        limits.tcp_flows = 10
    "#,
    )
    .unwrap();
    let over = |text: &str| Alias::parse(text).unwrap().over(board.clone());
    assert_eq!(over("user").unwrap(), board.clone().check().unwrap());
    let more = over("user,hostfwd=tcp::80-:80,guestfwd=tcp:10.0.2.100:81-cmd:cat,mtu=1400").unwrap();
    let said =
        |config: &Config| config.forwards.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(said(&more), "tcp:127.0.0.1:2222-:22 tcp:127.0.0.1:80-:80");
    assert_eq!((more.guest_forwards.len(), more.mtu), (2, 1400));
    assert_eq!((more.profile, more.rules.len(), more.limits.tcp_flows), (Profile::None, 1, 10));
    // What it names wins, whatever comes first in it.
    let wins = over("user,profile=host,dnssearch=b.test,dnssearch=c.test").unwrap();
    assert_eq!((wins.profile, wins.search.join(" ").as_str()), (Profile::Host, "b.test c.test"));
    assert_eq!(over("user,restrict=off").unwrap().profile, Profile::Public);
    assert_eq!(over("user,restrict=on,profile=all").unwrap().profile, Profile::None);
    let clash = over("user,hostfwd=tcp::2222-:23").unwrap_err();
    assert!(clash[0].to_string().contains("listens where"), "{clash:?}");
}

/// The tables of a page, each of which is to be a whole network.
fn tables(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_page_about_it_is_true() {
    let page = include_str!("../../../../docs/network-settings.md");
    let tables = tables(page);
    assert_eq!(tables.len(), 5);
    for table in &tables {
        if let Err(problems) = read(table) {
            panic!("{problems:?}\n{table}");
        }
    }
    // What is said to be the default is.
    let first = read(tables[0]).unwrap();
    let default = Config::default();
    assert_eq!((&first.ipv4, &first.ipv6, first.mac), (&default.ipv4, &default.ipv6, default.mac));
    assert_eq!((first.mtu, first.lease_s), (default.mtu, default.lease_s));
    let last = read(tables[4]).unwrap();
    assert_eq!(last.limits, default.limits);
    assert_eq!(last_capture(tables[4]), last_capture("capture.file = \"user0.pcapng\""));
}

fn last_capture(table: &str) -> CaptureSettings {
    toml::from_str::<Settings>(table).unwrap().capture.unwrap()
}
