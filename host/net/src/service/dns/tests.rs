//! Questions are made and answers are read by an independent implementation, hickory-proto.

use super::*;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};
use std::net::IpAddr;

fn dns(toml: &str) -> Dns {
    let mut dns = Dns::new(&Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap(), [7; 32]);
    dns.set_upstream(&[server(1), server(2)]);
    dns
}

fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([9, 9, 9, number], 53))
}

fn asker(port: u16) -> Asker {
    let guest = SocketAddr::from(([10, 0, 2, 15], port));
    Asker { guest, server: SocketAddr::from(([10, 0, 2, 3], 53)), transport: Transport::Udp }
}

fn over_tcp(connection: u64) -> Asker {
    Asker { transport: Transport::Tcp(connection), ..asker(4000) }
}

fn message(id: u16, name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(Name::from_utf8(name).unwrap(), kind));
    message
}

fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    message(id, name, kind).to_vec().unwrap()
}

fn with_edns(id: u16, name: &str, most: u16) -> Vec<u8> {
    let mut message = message(id, name, RecordType::TXT);
    let mut edns = Edns::new();
    edns.set_max_payload(most).set_dnssec_ok(true);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// What a server says to a question.
fn response(question: &[u8], code: ResponseCode, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    message.metadata.response_code = code;
    for address in addresses {
        let name = message.queries[0].name.clone();
        message.add_answer(Record::from_rdata(
            name,
            300,
            RData::A(rdata::A::from(std::net::Ipv4Addr::from(*address))),
        ));
    }
    message.to_vec().unwrap()
}

fn ask(dns: &mut Dns, now_ns: u64, asker: Asker, bytes: &[u8]) -> Vec<Action> {
    let mut actions = Vec::new();
    dns.question(now_ns, asker, bytes, &mut actions);
    actions
}

fn answer(dns: &mut Dns, now_ns: u64, query: QueryId, bytes: &[u8]) -> Vec<Action> {
    let mut actions = Vec::new();
    dns.answer(now_ns, query, bytes, &mut actions);
    actions
}

/// The one attempt that is to be made.
fn attempt(actions: &[Action]) -> (QueryId, SocketAddr, bool, Vec<u8>) {
    let found: Vec<_> = actions.iter().filter(|action| matches!(action, Action::Ask { .. })).collect();
    let [Action::Ask { query, server, tcp, message }] = found[..] else { panic!("{actions:?}") };
    (*query, *server, *tcp, message.clone())
}

/// The one answer to the guest.
fn told(actions: &[Action]) -> (Asker, Message) {
    let found: Vec<_> = actions.iter().filter(|action| matches!(action, Action::Answer { .. })).collect();
    let [Action::Answer { to, message }] = found[..] else { panic!("{actions:?}") };
    (*to, Message::from_vec(message).unwrap())
}

fn code(actions: &[Action]) -> ResponseCode {
    told(actions).1.metadata.response_code
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let of = |record: &Record| match &record.data {
        RData::A(a) => IpAddr::V4(a.0),
        RData::AAAA(a) => IpAddr::V6(a.0),
        other => panic!("{other:?}"),
    };
    message.answers.iter().map(of).collect()
}

#[test]
fn a_question_goes_out_with_another_id_and_comes_back_with_its_own() {
    let mut dns = dns("");
    let asked = question(0x1234, "Example.COM", RecordType::A);
    let (query, to, tcp, sent) = attempt(&ask(&mut dns, 0, asker(5000), &asked));
    assert_eq!((to, tcp, dns.pending()), (server(1), false, 1));
    assert_eq!(sent[2..], asked[2..], "nothing but the id is another");
    assert_ne!(sent[..2], asked[..2]);
    let actions = answer(&mut dns, 1, query, &response(&sent, ResponseCode::NoError, &[[1, 2, 3, 4]]));
    let (whom, got) = told(&actions);
    assert_eq!((whom, got.metadata.id), (asker(5000), 0x1234));
    assert_eq!(addresses(&got), ["1.2.3.4".parse::<IpAddr>().unwrap()]);
    assert!(actions.contains(&Action::Close(query)));
    assert_eq!((dns.pending(), dns.next_deadline_ns()), (0, None));
    assert_eq!(answer(&mut dns, 2, query, &sent), [], "it has been answered");
}

#[test]
fn ids_are_not_to_be_guessed() {
    let mut dns = dns("");
    let mut ids = BTreeSet::new();
    for port in 0..200 {
        let (.., sent) = attempt(&ask(&mut dns, 0, asker(port), &question(1, "a.test", RecordType::A)));
        ids.insert([sent[0], sent[1]]);
    }
    assert!(ids.len() > 190, "{}", ids.len());
    let mut other = Dns::new(&Config::default(), [8; 32]);
    other.set_upstream(&[server(1)]);
    let (.., sent) = attempt(&ask(&mut other, 0, asker(0), &question(1, "a.test", RecordType::A)));
    let mut same = self::dns("");
    let (.., first) = attempt(&ask(&mut same, 0, asker(0), &question(1, "a.test", RecordType::A)));
    assert_ne!(sent, first, "another seed, another id");
}

#[test]
fn what_does_not_answer_the_question_is_not_believed() {
    let mut dns = dns("");
    let (query, .., sent) = attempt(&ask(&mut dns, 0, asker(5000), &question(1, "bank.test", RecordType::A)));
    let good = response(&sent, ResponseCode::NoError, &[[1, 2, 3, 4]]);
    let mut forgeries = vec![sent.clone(), good[..11].to_vec(), good[..20].to_vec()];
    let mut other_id = good.clone();
    other_id[1] ^= 1;
    let mut other_name = good.clone();
    other_name[13] ^= 1;
    let mut other_kind = good.clone();
    other_kind[sent.len() - 3] ^= 1;
    let mut no_question = good.clone();
    no_question[5] = 0;
    let mut an_update = good.clone();
    an_update[2] |= 0x28;
    forgeries.extend([other_id, other_name, other_kind, no_question, an_update]);
    for forgery in &forgeries {
        assert_eq!(answer(&mut dns, 1, query, forgery), [], "{forgery:x?}");
    }
    assert_eq!(dns.counters().forged, forgeries.len() as u64);
    // Case may differ.
    let mut shouted = good;
    shouted[13..17].make_ascii_uppercase();
    assert_eq!(told(&answer(&mut dns, 1, query, &shouted)).1.answers.len(), 1);
}

#[test]
fn a_guessers_query_is_asked_anew_with_another_id() {
    let mut dns = dns("");
    let (query, _, _, sent) =
        attempt(&ask(&mut dns, 0, asker(5000), &question(1, "bank.test", RecordType::A)));
    let mut forgery = response(&sent, ResponseCode::NoError, &[]);
    forgery[0] ^= 0x55;
    let mut last = Vec::new();
    for _ in 0..FORGERIES {
        assert_eq!(last, []);
        last = answer(&mut dns, 1, query, &forgery);
    }
    let (second, to, _, again) = attempt(&last);
    assert!(second != query && to == server(2) && again[..2] != sent[..2] && again[2..] == sent[2..]);
}

#[test]
fn servers_that_are_silent_are_left() {
    let mut dns = dns("");
    let mut actions = ask(&mut dns, 0, asker(5000), &question(1, "a.test", RecordType::A));
    let mut asked = Vec::new();
    let mut now_ns = 0;
    while let Some(at) = dns.next_deadline_ns() {
        let (_, server, ..) = attempt(&actions);
        asked.push((server, now_ns / SECOND_NS));
        actions = Vec::new();
        dns.poll(at - 1, &mut actions);
        assert_eq!(actions, []);
        dns.poll(at, &mut actions);
        now_ns = at;
    }
    assert_eq!(asked, [(server(1), 0), (server(2), 2), (server(1), 4), (server(2), 6)]);
    let (_, got) = told(&actions);
    assert_eq!((got.metadata.response_code, got.metadata.id), (ResponseCode::ServFail, 1));
    assert_eq!(got.queries.len(), 1);
    assert_eq!((now_ns, dns.pending(), dns.counters().timeouts), (8 * SECOND_NS, 0, 1));
}

#[test]
fn the_server_that_answered_is_asked_first() {
    let mut dns = dns("");
    let (first, ..) = attempt(&ask(&mut dns, 0, asker(1), &question(1, "a.test", RecordType::A)));
    let mut actions = Vec::new();
    dns.failed(0, first, &mut actions);
    let (second, to, _, sent) = attempt(&actions);
    assert_eq!(to, server(2));
    answer(&mut dns, 0, second, &response(&sent, ResponseCode::NXDomain, &[]));
    let (_, to, ..) = attempt(&ask(&mut dns, 0, asker(2), &question(1, "b.test", RecordType::A)));
    assert_eq!(to, server(2));
    // Another list begins at its first.
    dns.set_upstream(&[server(3)]);
    let (_, to, ..) = attempt(&ask(&mut dns, 0, asker(3), &question(1, "b.test", RecordType::A)));
    assert_eq!(to, server(3));
}

#[test]
fn failures_are_told_only_if_nobody_knows_better() {
    for (one, two, wanted) in [
        (ResponseCode::ServFail, ResponseCode::NoError, ResponseCode::NoError),
        (ResponseCode::Refused, ResponseCode::NXDomain, ResponseCode::NXDomain),
        (ResponseCode::Refused, ResponseCode::ServFail, ResponseCode::ServFail),
    ] {
        let mut dns = dns("");
        let (query, .., sent) = attempt(&ask(&mut dns, 0, asker(1), &question(9, "a.test", RecordType::A)));
        let (query, .., sent) = attempt(&answer(&mut dns, 0, query, &response(&sent, one, &[])));
        let actions = answer(&mut dns, 0, query, &response(&sent, two, &[]));
        assert_eq!(code(&actions), wanted, "{one} {two}");
        assert_eq!((told(&actions).1.metadata.id, dns.pending()), (9, 0));
    }
    // NXDOMAIN is an answer.
    let mut dns = dns("");
    let (query, .., sent) = attempt(&ask(&mut dns, 0, asker(1), &question(9, "a.test", RecordType::A)));
    assert_eq!(
        code(&answer(&mut dns, 0, query, &response(&sent, ResponseCode::NXDomain, &[]))),
        ResponseCode::NXDomain
    );
}

#[test]
fn a_servers_bare_header_is_a_failure_too() {
    let mut dns = dns("");
    let (query, .., sent) = attempt(&ask(&mut dns, 0, asker(1), &question(9, "a.test", RecordType::A)));
    let bare = [sent[0], sent[1], 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0];
    let (query, to, _, sent) = attempt(&answer(&mut dns, 0, query, &bare));
    assert_eq!(to, server(2));
    let bare = [sent[0], sent[1], 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(code(&answer(&mut dns, 0, query, &bare)), ResponseCode::ServFail);
}

#[test]
fn a_guest_that_asks_again_is_not_asked_for_twice() {
    let mut dns = dns("");
    let asked = question(1, "a.test", RecordType::A);
    attempt(&ask(&mut dns, 0, asker(1), &asked));
    assert_eq!(ask(&mut dns, 1, asker(1), &asked), []);
    attempt(&ask(&mut dns, 1, asker(2), &asked));
    assert_eq!(dns.pending(), 2);
}

#[test]
fn too_many_at_once_are_told_to_wait() {
    let mut dns = dns("limits.dns_queries = 2");
    for port in 0..2 {
        attempt(&ask(&mut dns, 0, asker(port), &question(1, "a.test", RecordType::A)));
    }
    assert_eq!(
        code(&ask(&mut dns, 0, asker(3), &question(1, "a.test", RecordType::A))),
        ResponseCode::ServFail
    );
    assert_eq!((dns.pending(), dns.counters().overload), (2, 1));
    assert_eq!(
        code(&ask(&mut dns, 0, asker(3), &question(1, "host.reprise", RecordType::A))),
        ResponseCode::NoError
    );
}

#[test]
fn long_answers_are_cut_for_who_cannot_take_them() {
    for (asked, most) in [
        (question(1, "a.test", RecordType::TXT), 512),
        (with_edns(1, "a.test", 100), 512),
        (with_edns(1, "a.test", 1232), 1232),
        (with_edns(1, "a.test", 65_535), 4096),
    ] {
        for length in [most, most + 1] {
            let mut dns = dns("");
            let (query, .., sent) = attempt(&ask(&mut dns, 0, asker(1), &asked));
            let edns = Message::from_vec(&sent).unwrap().edns;
            assert!(
                edns.is_none_or(|edns| usize::from(edns.max_payload()) == most && edns.flags().dnssec_ok)
            );
            let mut long = response(&sent, ResponseCode::NoError, &[]);
            // What is behind it is not looked at.
            long.resize(length, 0);
            let actions = answer(&mut dns, 0, query, &long);
            let Some(Action::Answer { message, .. }) = actions.last() else { panic!() };
            if length > most {
                let cut = Message::from_vec(message).unwrap();
                assert!(cut.metadata.truncation && cut.queries.len() == 1 && cut.answers.is_empty());
            } else {
                assert_eq!(message.len(), length);
            }
        }
    }
}

#[test]
fn tcp_stays_tcp_and_is_not_cut() {
    let mut dns = dns("");
    let (query, _, tcp, sent) =
        attempt(&ask(&mut dns, 0, over_tcp(3), &question(1, "a.test", RecordType::TXT)));
    assert!(tcp);
    assert_eq!(dns.next_deadline_ns(), Some(TCP_ATTEMPT_NS));
    let mut long = response(&sent, ResponseCode::NoError, &[]);
    long.resize(60_000, 0);
    let actions = answer(&mut dns, 0, query, &long);
    let Some(Action::Answer { to, message }) = actions.last() else { panic!() };
    assert_eq!((*to, message.len()), (over_tcp(3), 60_000));
    // Nobody waits for a connection that has ended.
    let (gone, ..) = attempt(&ask(&mut dns, 0, over_tcp(4), &question(1, "a.test", RecordType::TXT)));
    let (kept, ..) = attempt(&ask(&mut dns, 0, over_tcp(5), &question(1, "a.test", RecordType::TXT)));
    let mut actions = Vec::new();
    dns.closed(4, &mut actions);
    assert_eq!((actions, dns.pending()), (vec![Action::Close(gone)], 1));
    let mut actions = Vec::new();
    dns.reset(&mut actions);
    assert_eq!((actions, dns.pending(), dns.next_deadline_ns()), (vec![Action::Close(kept)], 0, None));
}

#[test]
fn what_is_known_here_asks_nobody() {
    let mut dns = dns("dns.names = { \"DB.test\" = [\"10.1.2.3\", \"10.1.2.4\", \"fd12::1\"] }");
    let mut look = |name: &str, kind| told(&ask(&mut dns, 0, asker(1), &question(5, name, kind))).1;
    let found = look("db.TEST", RecordType::A);
    assert_eq!(addresses(&found), ["10.1.2.3", "10.1.2.4"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert!(
        found.metadata.authoritative
            && found.metadata.recursion_available
            && found.metadata.recursion_desired
    );
    assert_eq!((found.metadata.id, found.answers[0].ttl), (5, TTL_S));
    assert_eq!(found.answers[0].name.to_utf8().to_lowercase(), "db.test.");
    assert_eq!(addresses(&look("db.test", RecordType::AAAA)), ["fd12::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(addresses(&look("host.reprise", RecordType::A)), ["10.0.2.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(addresses(&look("gateway.reprise", RecordType::AAAA)), ["fd00::2".parse::<IpAddr>().unwrap()]);
    let none = look("db.test", RecordType::MX);
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(look("nobody.reprise", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    let pointer = look("2.2.0.10.in-addr.arpa", RecordType::PTR);
    let RData::PTR(name) = &pointer.answers[0].data else { panic!() };
    assert_eq!(name.0.to_utf8(), "gateway.reprise.");
    assert_eq!(
        look("15.2.0.10.in-addr.arpa", RecordType::PTR).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(dns.pending(), 0);
}

#[test]
fn edns_is_answered_with_edns() {
    let mut dns = dns("");
    let (_, got) = told(&ask(&mut dns, 0, asker(1), &with_edns(1, "host.reprise", 1232)));
    assert_eq!(got.edns.map(|edns| (edns.version(), edns.max_payload())), Some((0, UDP_MOST)));
    let (_, got) = told(&ask(&mut dns, 0, asker(1), &question(1, "host.reprise", RecordType::A)));
    assert!(got.edns.is_none());
}

use super::message::UDP_MOST;

#[test]
fn a_network_without_a_way_out_has_no_names_from_outside() {
    let mut shut = dns("profile = \"none\"");
    assert_eq!(
        code(&ask(&mut shut, 0, asker(1), &question(1, "a.test", RecordType::A))),
        ResponseCode::Refused
    );
    assert_eq!(
        code(&ask(&mut shut, 0, asker(1), &question(1, "host.reprise", RecordType::A))),
        ResponseCode::NoError
    );
    let mut named = dns("profile = \"none\"\ndns.upstream = [\"10.9.9.9\"]");
    let (_, to, ..) = attempt(&ask(&mut named, 0, asker(1), &question(1, "a.test", RecordType::A)));
    assert_eq!(to.to_string(), "10.9.9.9:53", "the host's servers do not replace it");
    let mut alone = dns("");
    alone.set_upstream(&[]);
    assert_eq!(
        code(&ask(&mut alone, 0, asker(1), &question(1, "a.test", RecordType::A))),
        ResponseCode::ServFail
    );
}

#[test]
fn servers_may_go_while_they_are_asked() {
    let mut dns = dns("");
    let (query, ..) = attempt(&ask(&mut dns, 0, asker(1), &question(1, "a.test", RecordType::A)));
    dns.set_upstream(&[]);
    let mut actions = Vec::new();
    dns.failed(0, query, &mut actions);
    assert_eq!((code(&actions), dns.pending()), (ResponseCode::ServFail, 0));
}

#[test]
fn what_cannot_be_forwarded_is_said() {
    let mut dns = dns("");
    let whole = question(0x4321, "a.test", RecordType::A);
    let mut say = |bytes: &[u8]| {
        let actions = ask(&mut dns, 0, asker(1), bytes);
        (!actions.is_empty()).then(|| {
            let (_, got) = told(&actions);
            assert_eq!(got.metadata.id, 0x4321);
            got.metadata.response_code
        })
    };
    for cut in 0..12 {
        assert_eq!(say(&whole[..cut]), None);
    }
    for cut in 12..whole.len() {
        assert_eq!(say(&whole[..cut]), Some(ResponseCode::FormErr), "{cut}");
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(say(&changed(2, 0x80)), None, "an answer");
    assert_eq!(say(&changed(2, 0x28)), Some(ResponseCode::NotImp), "an update");
    for (at, byte) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 1), (12, 0xc0), (12, 64)] {
        assert_eq!(say(&changed(at, byte)), Some(ResponseCode::FormErr), "{at}");
    }
    let mut trailing = whole.clone();
    trailing.push(0);
    assert_eq!(say(&trailing), Some(ResponseCode::FormErr));
    let mut endless = whole.clone();
    endless.resize(5000, 0);
    assert_eq!(say(&endless), Some(ResponseCode::FormErr));
    assert_eq!(say(&question(0x4321, "a.test", RecordType::AXFR)), Some(ResponseCode::Refused));
    assert_eq!(dns.pending(), 0);
}

#[test]
fn other_classes_are_not_ours() {
    let mut dns = dns("");
    let mut chaos = message(1, "host.reprise", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    attempt(&ask(&mut dns, 0, asker(1), &chaos.to_vec().unwrap()));
}

#[test]
fn a_period_within_a_label_is_no_border() {
    let mut dns = dns("");
    // One label "host.reprise", which is not the name of two.
    let mut odd = question(1, "a", RecordType::A)[..12].to_vec();
    odd.extend_from_slice(b"\x0chost.reprise\0\0\x01\0\x01");
    attempt(&ask(&mut dns, 0, asker(1), &odd));
}
