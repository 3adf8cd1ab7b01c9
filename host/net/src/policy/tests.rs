//! A matrix of rule sets and forms of destinations. What is expected is told by a second, slow description of each
//! destination, written by hand, not by the code that is tested.

use super::*;
use crate::config::Config;

/// What a destination is, by hand.
struct Destination {
    text: &'static str,
    /// The least profile that lets it out; `None`: none does.
    least: Option<Profile>,
    /// Where it is sent, if that is not what was written.
    to: Option<&'static str>,
}

const fn to(text: &'static str, least: Profile) -> Destination {
    Destination { text, least: Some(least), to: None }
}

const fn never(text: &'static str) -> Destination {
    Destination { text, least: None, to: None }
}

/// The host is 192.168.1.5, 203.0.113.9, 81.2.3.4, fd99::5 and 2a02::5; the guest's networks are the defaults.
const OWN: &[&str] =
    &["127.0.0.1", "::1", "192.168.1.5", "203.0.113.9", "81.2.3.4", "fd99::5", "2a02::5", "fe80::5"];

const DESTINATIONS: &[Destination] = &[
    // The internet.
    to("1.1.1.1", Profile::Public),
    to("172.15.255.255", Profile::Public),
    to("172.32.0.0", Profile::Public),
    to("100.128.0.0", Profile::Public),
    to("169.253.255.255", Profile::Public),
    to("223.255.255.255", Profile::Public),
    to("2606:4700::1111", Profile::Public),
    to("64:ff9b::1.1.1.1", Profile::Public),
    // Private networks, and forms of them.
    to("10.0.3.1", Profile::Lan),
    to("10.0.1.255", Profile::Lan),
    to("172.16.0.1", Profile::Lan),
    to("172.31.255.254", Profile::Lan),
    to("192.168.1.6", Profile::Lan),
    to("100.64.0.1", Profile::Lan),
    to("100.127.255.255", Profile::Lan),
    to("fc00::1", Profile::Lan),
    to("fd00:0:0:1::1", Profile::Lan),
    to("fec0::1", Profile::Lan),
    to("64:ff9b::192.168.1.6", Profile::Lan),
    Destination { text: "::ffff:192.168.1.6", least: Some(Profile::Lan), to: Some("192.168.1.6") },
    Destination { text: "::ffff:1.1.1.1", least: Some(Profile::Public), to: Some("1.1.1.1") },
    // The host.
    Destination { text: "10.0.2.2", least: Some(Profile::Host), to: Some("127.0.0.1") },
    Destination { text: "::ffff:10.0.2.2", least: Some(Profile::Host), to: Some("127.0.0.1") },
    Destination { text: "fd00::2", least: Some(Profile::Host), to: Some("::1") },
    to("127.0.0.1", Profile::Host),
    to("127.255.255.254", Profile::Host),
    to("::1", Profile::Host),
    Destination { text: "::ffff:127.0.0.1", least: Some(Profile::Host), to: Some("127.0.0.1") },
    to("64:ff9b::127.0.0.1", Profile::Host),
    to("192.168.1.5", Profile::Host),
    to("81.2.3.4", Profile::Host),
    to("fd99::5", Profile::Host),
    to("2a02::5", Profile::Host),
    to("64:ff9b::81.2.3.4", Profile::Host),
    // Link-local, reserved, metadata, and tunnels, whose outer addresses are reserved.
    to("169.254.1.1", Profile::All),
    to("169.254.169.254", Profile::All),
    to("64:ff9b::169.254.169.254", Profile::All),
    Destination { text: "::ffff:169.254.169.254", least: Some(Profile::All), to: Some("169.254.169.254") },
    to("168.63.129.16", Profile::All),
    to("100.100.100.200", Profile::All),
    to("fd00:ec2::254", Profile::All),
    to("fd20:ce::254", Profile::All),
    to("fe80::1", Profile::All),
    to("fe80::5", Profile::All),
    to("192.0.2.1", Profile::All),
    to("203.0.113.9", Profile::All),
    to("198.19.255.255", Profile::All),
    to("240.0.0.1", Profile::All),
    to("2001:db8::1", Profile::All),
    to("2002:101:101::1", Profile::All),
    to("2002:7f00:1::1", Profile::All),
    to("2001:0:1::1", Profile::All),
    to("::7f00:1", Profile::All),
    to("64:ff9b:1::7f00:1", Profile::All),
    to("::ffff:0:7f00:1", Profile::All),
    to("100::1", Profile::All),
    to("1fff:ffff::1", Profile::All),
    to("4000::1", Profile::All),
    to("5f00::1", Profile::All),
    to("fbff::1", Profile::All),
    to("fe00::1", Profile::All),
    to("fe7f::1", Profile::All),
    to("2000::1", Profile::Public),
    to("3ffe::1", Profile::Public),
    // Nowhere.
    never("0.0.0.0"),
    never("0.1.2.3"),
    never("::"),
    never("::ffff:0.0.0.0"),
    never("64:ff9b::0.0.0.0"),
    never("255.255.255.255"),
    never("224.0.0.251"),
    never("239.255.255.250"),
    never("::ffff:224.0.0.251"),
    never("64:ff9b::255.255.255.255"),
    never("2002:e000:fb::1"),
    never("::ffff:0:0:1"),
    never("ff02::1"),
    never("ff0e::1"),
    // The guest's own network.
    never("10.0.2.0"),
    never("10.0.2.3"),
    never("10.0.2.77"),
    never("10.0.2.255"),
    never("fd00::"),
    never("fd00::77"),
    never("64:ff9b::10.0.2.2"),
    never("2002:a00:202::1"),
];

/// Besides the host's, what no rule opens that does not name it. In tunnels too.
const INNER: &[&str] = &[
    "169.254.1.1",
    "169.254.169.254",
    "64:ff9b::169.254.169.254",
    "::ffff:169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::5",
    "203.0.113.9",
    "2002:7f00:1::1",
    "::7f00:1",
    "64:ff9b:1::7f00:1",
    "::ffff:0:7f00:1",
];

const PROFILES: [(Profile, &str); 5] = [
    (Profile::None, "none"),
    (Profile::Public, "public"),
    (Profile::Lan, "lan"),
    (Profile::Host, "host"),
    (Profile::All, "all"),
];

fn policy(toml: &str) -> Policy {
    let mut policy = Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap().policy();
    policy.set_own_addresses(OWN.iter().map(|text| text.parse().unwrap()).collect());
    policy
}

fn query(transport: Transport, peer: &str, port: u16) -> Query {
    Query { direction: Direction::Out, transport, peer: peer.parse().unwrap(), port }
}

fn verdict<'p>(policy: &'p Policy, peer: &str, port: u16) -> Verdict<'p> {
    policy.decide(&query(Transport::Tcp, peer, port)).verdict
}

#[test]
fn every_profile_on_every_form() {
    for (profile, name) in PROFILES {
        let policy = policy(&format!("profile = \"{name}\""));
        for destination in DESTINATIONS {
            for transport in [Transport::Tcp, Transport::Udp, Transport::Icmp] {
                let decision = policy.decide(&query(transport, destination.text, 80));
                let open = destination.least.is_some_and(|least| profile >= least);
                let wanted = match destination.least {
                    None => Verdict::Drop,
                    Some(_) if open => Verdict::Allow,
                    Some(_) => Verdict::Reject,
                };
                assert_eq!(decision.verdict, wanted, "{name}: {transport:?} to {}", destination.text);
                let to = destination.to.unwrap_or(destination.text);
                let goes = destination.least.is_some();
                assert!(!goes || decision.to == to.parse::<IpAddr>().unwrap(), "{}", destination.text);
            }
        }
    }
}

/// Rule sets by what they do to a destination, as they stand before each profile.
#[test]
fn every_rule_set_on_every_form() {
    for (profile, name) in PROFILES {
        for destination in DESTINATIONS {
            let sure = |rules: &str, wanted: Verdict<'_>| {
                let policy = policy(&format!("profile = \"{name}\"\nrules = [{rules}]"));
                let wanted = if destination.least.is_none() { Verdict::Drop } else { wanted };
                assert_eq!(
                    verdict(&policy, destination.text, 80),
                    wanted,
                    "{name}, {rules}, {}",
                    destination.text
                );
            };
            let open = destination.least.is_some_and(|least| profile >= least);
            let by_profile = if open { Verdict::Allow } else { Verdict::Reject };
            // A rule without a place shuts all that can leave, or opens what does not have to be named.
            let inner = INNER.contains(&destination.text) || destination.least == Some(Profile::Host);
            let opened = if inner { by_profile } else { Verdict::Allow };
            sure("{ action = \"allow\" }", opened);
            sure("{ action = \"allow\", to = [\"0.0.0.0/0\", \"::/0\"] }", opened);
            sure("{ action = \"drop\" }, { action = \"allow\" }", Verdict::Drop);
            let opened = if inner { Verdict::Drop } else { Verdict::Allow };
            sure("{ action = \"allow\" }, { action = \"drop\" }", opened);
            // What does not match changes nothing: another port, protocol, direction.
            sure("{ action = \"drop\", protocol = \"tcp\", ports = \"81-90,1-79\" }", by_profile);
            sure("{ action = \"drop\", protocol = \"udp\" }", by_profile);
            sure("{ action = \"drop\", direction = \"in\" }", by_profile);
            // `allow public` is what `profile = "public"` is.
            let public = destination.least == Some(Profile::Public);
            let wanted = if public { Verdict::Allow } else { by_profile };
            sure("{ action = \"allow\", to = \"public\" }", wanted);
            // Both groups of the profile lan.
            let lan = destination.least.is_some_and(|least| least <= Profile::Lan);
            let wanted = if lan { Verdict::Allow } else { by_profile };
            sure("{ action = \"allow\", to = [\"public\", \"private\"] }", wanted);
            // An exact address matches every form of it and nothing else.
            let final_form = destination.to.unwrap_or(destination.text);
            if destination.least.is_some() {
                sure(&format!("{{ action = \"drop\", to = \"{final_form}\" }}"), Verdict::Drop);
            }
            sure("{ action = \"drop\", to = \"8.8.8.8\" }", by_profile);
        }
    }
}

#[test]
fn shutting_takes_every_form() {
    let all =
        |to: &str| policy(&format!("profile = \"all\"\nrules = [{{ action = \"reject\", to = \"{to}\" }}]"));
    let shut = |to: &str, peer: &str| verdict(&all(to), peer, 1) == Verdict::Reject;
    for (to, peers) in [
        (
            "metadata",
            &["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]
                as &[_],
        ),
        (
            "loopback",
            &["127.0.0.1", "::1", "10.0.2.2", "fd00::2", "64:ff9b::7f00:1", "::7f00:1", "::ffff:0:7f00:1"],
        ),
        ("host", &["10.0.2.2", "fd00::2", "192.168.1.5", "81.2.3.4", "2a02::5", "64:ff9b::81.2.3.4"]),
        ("gateway", &["10.0.2.2", "fd00::2"]),
        ("private", &["10.0.3.1", "192.168.1.5", "64:ff9b::10.0.3.1", "2002:a00:301::", "fd99::5"]),
        ("link-local", &["169.254.1.1", "169.254.169.254", "fe80::1", "2002:a9fe:101::"]),
        ("reserved", &["192.0.2.1", "2002:101:101::", "2001:db8::1"]),
        ("public", &["1.1.1.1", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1", "2606:4700::1"]),
        ("10.0.2.2", &["10.0.2.2", "::ffff:10.0.2.2"]),
        ("127.0.0.0/8", &["10.0.2.2", "127.9.9.9", "64:ff9b::7f00:1"]),
        ("64:ff9b::/96", &["64:ff9b::1.1.1.1"]),
        ("0.0.0.0/0", &["1.1.1.1", "10.0.2.2", "64:ff9b::1.1.1.1", "2002:101:101::"]),
        ("::/0", &["2606:4700::1", "fd00::2", "64:ff9b::1.1.1.1"]),
    ] {
        for peer in peers {
            assert!(shut(to, peer), "{to} does not shut {peer}");
        }
        for peer in
            ["8.8.4.4", "2606:4700::2"].into_iter().filter(|_| !["public", "0.0.0.0/0", "::/0"].contains(&to))
        {
            assert!(!shut(to, peer), "{to} shuts {peer}");
        }
    }
    // A Teredo address hides the client's, inverted.
    assert!(shut("metadata", "2001:0:1:1:0:0:5601:5601"));
    // ISATAP.
    assert!(shut("private", "2a02::5efe:10.0.3.1"));
}

#[test]
fn opening_takes_no_more_than_it_says() {
    let none = |rule: &str| policy(&format!("profile = \"none\"\nrules = [{rule}]"));
    let opens = |rule: &str, peer: &str| verdict(&none(rule), peer, 80) == Verdict::Allow;
    let host = "{ action = \"allow\", to = \"host\", protocol = \"tcp\", ports = \"80\" }";
    for peer in ["10.0.2.2", "fd00::2", "192.168.1.5", "203.0.113.9", "81.2.3.4", "fe80::5"] {
        assert!(opens(host, peer), "{peer}");
    }
    for peer in ["192.168.1.6", "10.0.2.3", "127.0.0.2", "169.254.169.254", "1.1.1.1", "2002:5102:304::"] {
        assert!(!opens(host, peer), "{peer}");
    }
    assert_eq!(verdict(&none(host), "10.0.2.2", 81), Verdict::Reject);
    let private = "{ action = \"allow\", to = \"private\" }";
    assert!(opens(private, "192.168.1.6") && opens(private, "64:ff9b::192.168.1.6"));
    for peer in ["192.168.1.5", "fd99::5", "100.100.100.200", "fd00:ec2::254", "2002:c0a8:106::"] {
        assert!(!opens(private, peer), "{peer} is more than private");
    }
    let link = "{ action = \"allow\", to = \"link-local\" }";
    assert!(opens(link, "169.254.1.1") && !opens(link, "169.254.169.254") && !opens(link, "fe80::5"));
    assert!(opens("{ action = \"allow\", to = \"metadata\" }", "169.254.169.254"));
    // A network means all of it, and a translated form of an address is that address.
    let network = "{ action = \"allow\", to = \"192.168.0.0/16\" }";
    for peer in ["192.168.1.5", "64:ff9b::192.168.1.6", "::ffff:192.168.1.6"] {
        assert!(opens(network, peer), "{peer}");
    }
    assert!(!opens("{ action = \"allow\", to = \"64:ff9b::/96\" }", "64:ff9b::169.254.169.254"));
    assert!(!opens("{ action = \"allow\", to = \"2002::/16\" }", "2002:7f00:1::"));
    assert!(opens("{ action = \"allow\", to = [\"2002::/16\", \"loopback\"] }", "2002:7f00:2::"));
    // ICMP has no ports.
    let echo = policy("profile = \"none\"\nrules = [{ action = \"allow\", protocol = \"icmp\" }]");
    assert_eq!(echo.decide(&query(Transport::Icmp, "1.1.1.1", 0)).verdict, Verdict::Allow);
    assert_eq!(echo.decide(&query(Transport::Tcp, "1.1.1.1", 0)).verdict, Verdict::Reject);
}

/// Each network, and what of these it opens with the profile `none`.
#[test]
fn a_wide_network_does_not_mean_what_is_delicate_in_it() {
    const PEERS: &[&str] = &[
        "127.0.0.1",
        "127.0.0.2",
        "10.0.2.2",
        "fd00::2",
        "169.254.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.168.1.5",
        "81.2.3.4",
        "fe80::1",
        "fd00:ec2::254",
        "2a02::5",
    ];
    for (network, opened) in [
        ("0.0.0.0/0", &[] as &[_]),
        ("::/0", &[]),
        ("0.0.0.0/1", &[]),
        ("64.0.0.0/2", &[]),
        ("192.0.0.0/2", &[]),
        ("169.0.0.0/8", &[]),
        ("81.2.0.0/16", &[]),
        ("e000::/3", &[]),
        ("127.0.0.0/8", &["127.0.0.1", "127.0.0.2", "10.0.2.2"]),
        ("127.0.0.1", &["127.0.0.1", "10.0.2.2"]),
        ("::1", &["fd00::2"]),
        ("169.254.0.0/16", &["169.254.1.1"]),
        ("169.254.169.254", &["169.254.169.254"]),
        ("100.64.0.0/10", &[]),
        ("100.100.100.200/32", &["100.100.100.200"]),
        ("192.168.0.0/16", &["192.168.1.5"]),
        ("81.2.3.4", &["81.2.3.4"]),
        ("fe80::/10", &["fe80::1"]),
        ("fc00::/7", &[]),
        ("2a02::/16", &[]),
        ("2a02::5", &["2a02::5"]),
    ] {
        let policy =
            policy(&format!("profile = \"none\"\nrules = [{{ action = \"allow\", to = \"{network}\" }}]"));
        let open: Vec<&str> =
            PEERS.iter().copied().filter(|peer| verdict(&policy, peer, 80) == Verdict::Allow).collect();
        assert_eq!(open, opened, "{network}");
    }
    let both =
        "profile = \"none\"\nrules = [{ action = \"allow\", to = [\"0.0.0.0/0\", \"host\", \"metadata\"] }]";
    for peer in ["1.1.1.1", "10.0.2.2", "192.168.1.5", "169.254.169.254"] {
        assert_eq!(verdict(&policy(both), peer, 80), Verdict::Allow, "{peer} is named");
    }
    // A proxy is another way to the same, and what comes in is another question.
    let proxy = "rules = [{ action = \"proxy:p\", to = \"0.0.0.0/0\" }, { action = \"proxy:p\" }, \
                 { action = \"allow\", direction = \"in\", from = \"0.0.0.0/0\" }, \
                 { action = \"drop\", direction = \"in\" }]\nproxies.p = \"http://127.0.0.1:1\"";
    let policy = policy(proxy);
    assert_eq!(verdict(&policy, "1.1.1.1", 80), Verdict::Proxy("p"));
    for peer in PEERS {
        assert_eq!(verdict(&policy, peer, 80), Verdict::Reject, "{peer}");
    }
    let query = Query { direction: Direction::In, ..query(Transport::Tcp, "127.0.0.1", 22) };
    assert_eq!(policy.decide(&query).verdict, Verdict::Allow);
}

#[test]
fn proxies_take_connections_only() {
    let text = "upstream = \"a\"\nrules = [{ action = \"proxy:b\", ports = 443, protocol = \"tcp\" }, \
                { action = \"proxy:c\", to = \"private\" }]\nproxies.a = \"socks5://127.0.0.1:1\"\n\
                proxies.b = \"http://127.0.0.1:2\"\nproxies.c = \"http://127.0.0.1:3\"";
    let policy = policy(text);
    assert_eq!(verdict(&policy, "1.1.1.1", 443), Verdict::Proxy("b"));
    assert_eq!(verdict(&policy, "1.1.1.1", 80), Verdict::Proxy("a"));
    assert_eq!(verdict(&policy, "192.168.1.6", 80), Verdict::Proxy("c"));
    assert_eq!(policy.decide(&query(Transport::Udp, "192.168.1.6", 80)).verdict, Verdict::Reject);
    assert_eq!(policy.decide(&query(Transport::Udp, "1.1.1.1", 443)).verdict, Verdict::Allow);
    assert_eq!(verdict(&policy, "169.254.169.254", 80), Verdict::Reject);
}

#[test]
fn what_comes_in_is_judged_by_its_peer() {
    let rules = "rules = [{ direction = \"in\", from = \"192.168.1.0/24\", protocol = \"tcp\", ports = 22, \
                 action = \"allow\" }, { direction = \"in\", protocol = \"tcp\", ports = 22, action = \"drop\" }]";
    let policy = policy(rules);
    let from = |peer: &str, port| {
        let query = Query { direction: Direction::In, ..query(Transport::Tcp, peer, port) };
        let decision = policy.decide(&query);
        assert_eq!(decision.to, peer.parse::<IpAddr>().unwrap().to_canonical());
        decision.verdict
    };
    assert_eq!(from("192.168.1.9", 22), Verdict::Allow);
    assert_eq!(from("::ffff:192.168.1.9", 22), Verdict::Allow);
    assert_eq!(from("127.0.0.1", 22), Verdict::Drop);
    // The host's loopback comes in unless a rule says no, and the guest's name for it means nothing here.
    assert_eq!(from("127.0.0.1", 80), Verdict::Allow);
    assert_eq!(from("10.0.2.2", 80), Verdict::Allow);
}

#[test]
fn the_hosts_addresses_can_change() {
    let mut policy = policy("profile = \"lan\"");
    assert_eq!(verdict(&policy, "192.168.1.7", 80), Verdict::Allow);
    policy.set_own_addresses(vec!["192.168.1.7".parse().unwrap()]);
    assert_eq!(verdict(&policy, "192.168.1.7", 80), Verdict::Reject);
    assert_eq!(verdict(&policy, "192.168.1.5", 80), Verdict::Allow);
}

#[test]
fn without_a_network_nothing_stands_for_the_host() {
    let policy = policy("ipv4.enabled = false\nprofile = \"lan\"");
    let decision = policy.decide(&query(Transport::Tcp, "10.0.2.2", 80));
    assert_eq!((decision.verdict, decision.to), (Verdict::Allow, "10.0.2.2".parse().unwrap()));
}
