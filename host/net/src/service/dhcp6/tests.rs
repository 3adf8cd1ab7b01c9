//! Messages are made and replies are read by an independent implementation, dhcproto.

use super::*;
use dhcproto::{
    Decodable, Encodable,
    v6::{
        self, DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, Message, MessageType, ORO, OptionCode,
        UnknownOption,
    },
};

const GUEST: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const DUID: &[u8] = &[0, 1, 0, 1, 1, 2, 3, 4, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: &[u8] = &[0, 3, 0, 1, 0x52, 0x55, 10, 0, 2, 2];

fn server(toml: &str) -> Dhcp6 {
    Dhcp6::new(&Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap()).unwrap()
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn message(kind: MessageType, options: Vec<DhcpOption>) -> Message {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    options.into_iter().for_each(|option| message.opts_mut().insert(option));
    message
}

fn ia(id: u32, addresses: &[&str]) -> DhcpOption {
    let one = |text: &&str| {
        DhcpOption::IAAddr(IAAddr {
            addr: ip(text),
            preferred_life: 0,
            valid_life: 0,
            opts: DhcpOptions::new(),
        })
    };
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: addresses.iter().map(one).collect() })
}

fn client() -> DhcpOption {
    DhcpOption::ClientId(DUID.to_vec())
}

fn to_us() -> DhcpOption {
    DhcpOption::ServerId(SERVER.to_vec())
}

fn ask(server: &mut Dhcp6, now_ns: u64, request: &Message) -> Option<Message> {
    let reply = server.request(now_ns, GUEST, &request.to_vec().unwrap())?;
    let read = Message::from_bytes(&reply).unwrap();
    assert_eq!(read.xid(), [1, 2, 3]);
    assert_eq!(read.opts().get(OptionCode::ServerId), Some(&to_us()));
    let id = request.opts().get(OptionCode::ClientId);
    assert_eq!(read.opts().get(OptionCode::ClientId), id, "it is echoed");
    Some(read)
}

/// The addresses of an association with their lifetimes, and its status.
fn granted(message: &Message, iaid: u32) -> (Vec<(String, u32)>, Option<v6::Status>) {
    let all = message.opts().get_all(OptionCode::IANA).unwrap_or_default();
    let ia = all.iter().find_map(|option| match option {
        DhcpOption::IANA(ia) if ia.id == iaid => Some(ia),
        _ => None,
    });
    let ia = ia.expect("an association");
    let (mut addresses, mut status) = (Vec::new(), None);
    for option in ia.opts.iter() {
        match option {
            DhcpOption::IAAddr(address) => addresses.push((address.addr.to_string(), address.valid_life)),
            DhcpOption::StatusCode(code) => status = Some(code.status),
            other => panic!("{other:?}"),
        }
    }
    (addresses, status)
}

fn status(message: &Message) -> Option<v6::Status> {
    match message.opts().get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

fn one(address: &str, life_s: u32) -> Vec<(String, u32)> {
    vec![(address.to_owned(), life_s)]
}

#[test]
fn a_guest_asks_for_what_is_not_in_the_advertisement() {
    let mut server = server("search = [\"lab.test\"]\nboot = { tftp = \"x\", file = \"/grub.efi\" }");
    let wanted = vec![
        OptionCode::DomainNameServers,
        OptionCode::DomainSearchList,
        OptionCode::from(59),
        OptionCode::DomainNameServers,
        OptionCode::NtpServer,
    ];
    let request =
        message(MessageType::InformationRequest, vec![client(), DhcpOption::ORO(ORO { opts: wanted })]);
    let reply = ask(&mut server, 0, &request).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    let dns = DhcpOption::DomainNameServers(vec![ip("fd00::3")]);
    assert_eq!(reply.opts().get_all(OptionCode::DomainNameServers), Some([dns].as_slice()));
    let Some(DhcpOption::DomainSearchList(names)) = reply.opts().get(OptionCode::DomainSearchList) else {
        panic!()
    };
    assert_eq!(names.iter().map(|name| name.to_utf8()).collect::<Vec<_>>(), ["lab.test."]);
    let url = UnknownOption::new(OptionCode::from(59), b"tftp://[fd00::2]/grub.efi".to_vec());
    assert_eq!(reply.opts().get(OptionCode::from(59)), Some(&DhcpOption::Unknown(url)));
    assert_eq!(reply.opts().iter().count(), 5);
    // It need not say who it is.
    let nameless = message(MessageType::InformationRequest, vec![]);
    assert!(ask(&mut server, 0, &nameless).is_some());
}

#[test]
fn four_messages_give_an_address() {
    let mut server = server("");
    let solicit = message(MessageType::Solicit, vec![client(), ia(7, &[])]);
    let advertise = ask(&mut server, 0, &solicit).unwrap();
    assert_eq!(advertise.msg_type(), MessageType::Advertise);
    assert_eq!(advertise.opts().get(OptionCode::Preference), Some(&DhcpOption::Preference(255)));
    assert_eq!(granted(&advertise, 7), (one("fd00::100", 86_400), None));
    assert_eq!(server.leases(0).count(), 0, "an advertisement is no lease");
    let request = message(MessageType::Request, vec![client(), to_us(), ia(7, &["fd00::100"])]);
    let reply = ask(&mut server, 0, &request).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert_eq!(granted(&reply, 7), (one("fd00::100", 86_400), None));
    assert_eq!(server.leases(0).collect::<Vec<_>>(), [ip("fd00::100")]);
    let Some(DhcpOption::IANA(ia)) = reply.opts().get(OptionCode::IANA) else { panic!() };
    assert_eq!((ia.t1, ia.t2), (43_200, 69_120));
}

#[test]
fn two_messages_do_if_the_guest_says_so() {
    let mut server = server("");
    let solicit =
        message(MessageType::Solicit, vec![client(), DhcpOption::RapidCommit, ia(7, &["fd00::120"])]);
    let reply = ask(&mut server, 0, &solicit).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert!(reply.opts().get(OptionCode::RapidCommit).is_some());
    assert_eq!(granted(&reply, 7).0, one("fd00::120", 86_400), "its wish");
    assert_eq!(server.leases(0).collect::<Vec<_>>(), [ip("fd00::120")]);
}

fn bound(server: &mut Dhcp6, now_ns: u64, iaid: u32) -> String {
    let solicit = message(MessageType::Solicit, vec![client(), DhcpOption::RapidCommit, ia(iaid, &[])]);
    let (addresses, status) = granted(&ask(server, now_ns, &solicit).unwrap(), iaid);
    assert_eq!(status, None);
    addresses[0].0.clone()
}

#[test]
fn renewing_keeps_an_address_and_ends_others() {
    let mut server = server("dhcp.lease_s = 100");
    assert_eq!(bound(&mut server, 0, 1), "fd00::100");
    assert_eq!(bound(&mut server, 0, 2), "fd00::101");
    let later = 90 * SECOND_NS;
    let renew = message(MessageType::Renew, vec![client(), to_us(), ia(1, &["fd00::100", "fd00::999"])]);
    let (addresses, status) = granted(&ask(&mut server, later, &renew).unwrap(), 1);
    assert_eq!((addresses, status), (vec![("fd00::100".to_owned(), 100), ("fd00::999".to_owned(), 0)], None));
    assert_eq!(server.leases(110 * SECOND_NS).collect::<Vec<_>>(), [ip("fd00::100")]);
    // From before this server: who has a free address keeps it.
    let rebind = message(MessageType::Rebind, vec![client(), ia(3, &["fd00::150"])]);
    assert_eq!(granted(&ask(&mut server, later, &rebind).unwrap(), 3).0, one("fd00::150", 100));
    // And who has one that cannot be begins anew.
    let foreign = message(MessageType::Rebind, vec![client(), ia(4, &["fd01::1"])]);
    let (addresses, status) = granted(&ask(&mut server, later, &foreign).unwrap(), 4);
    assert_eq!((addresses, status), (one("fd01::1", 0), Some(v6::Status::NoBinding)));
    assert_eq!(server.leases(later).count(), 3, "nothing was given for it");
}

#[test]
fn kept_addresses_go_by_ethernet_address() {
    let text = "dhcp.leases = [{ mac = \"52:54:00:12:34:56\", ip6 = \"fd00::77\" }, \
                { mac = \"52:54:00:12:34:58\", ip6 = \"fd00::100\" }]";
    let mut server = server(text);
    assert_eq!(bound(&mut server, 0, 1), "fd00::77");
    assert_eq!(
        bound(&mut server, 0, 2),
        "fd00::101",
        "the second interface gets another, and not a kept one"
    );
    assert_eq!(bound(&mut server, 1, 1), "fd00::77");
}

#[test]
fn release_and_decline() {
    let mut server = server("");
    assert_eq!(bound(&mut server, 0, 1), "fd00::100");
    let release = |id, address| message(MessageType::Release, vec![client(), to_us(), ia(id, &[address])]);
    let reply = ask(&mut server, 0, &release(2, "fd00::100")).unwrap();
    assert_eq!(
        (status(&reply), granted(&reply, 2).1),
        (Some(v6::Status::Success), Some(v6::Status::NoBinding))
    );
    let reply = ask(&mut server, 0, &release(1, "fd00::101")).unwrap();
    assert_eq!(granted(&reply, 1).1, Some(v6::Status::NoBinding));
    assert_eq!(server.leases(0).count(), 1);
    assert_eq!(status(&ask(&mut server, 0, &release(1, "fd00::100")).unwrap()), Some(v6::Status::Success));
    assert_eq!(server.leases(0).count(), 0);
    assert_eq!(bound(&mut server, 0, 1), "fd00::100");
    let decline = message(MessageType::Decline, vec![client(), to_us(), ia(1, &["fd00::100"])]);
    assert_eq!(status(&ask(&mut server, 0, &decline).unwrap()), Some(v6::Status::Success));
    assert_eq!(bound(&mut server, 1, 1), "fd00::101", "somebody else answers at the first");
    assert_eq!(bound(&mut server, DECLINED_NS, 2), "fd00::100");
}

#[test]
fn a_guest_that_moved_is_told() {
    let mut server = server("");
    let confirm = |addresses: &[&str]| message(MessageType::Confirm, vec![client(), ia(1, addresses)]);
    assert_eq!(status(&ask(&mut server, 0, &confirm(&["fd00::1234"])).unwrap()), Some(v6::Status::Success));
    let both = confirm(&["fd00::1234", "fd01::1"]);
    assert_eq!(status(&ask(&mut server, 0, &both).unwrap()), Some(v6::Status::NotOnLink));
    assert!(ask(&mut server, 0, &confirm(&[])).is_none());
}

#[test]
fn there_are_no_prefixes_and_no_end_of_addresses() {
    let mut server = server("limits.leases = 2\nipv6.pool = [\"fd00::100\", \"fd00::102\"]");
    let prefix = DhcpOption::IAPD(IAPD { id: 9, t1: 0, t2: 0, opts: DhcpOptions::new() });
    let solicit = message(MessageType::Solicit, vec![client(), prefix, ia(1, &[]), ia(2, &[]), ia(3, &[])]);
    let reply = ask(&mut server, 0, &solicit).unwrap();
    let mut all = [1, 2, 3].map(|iaid| granted(&reply, iaid));
    // dhcproto writes the associations in an order of its own.
    all.sort_by_key(|(addresses, _)| addresses.clone());
    assert_eq!(all[0], (vec![], Some(v6::Status::NoAddrsAvail)));
    assert_eq!(all[1], (one("fd00::100", 86_400), None));
    assert_eq!(all[2], (one("fd00::101", 86_400), None));
    let Some(DhcpOption::IAPD(pd)) = reply.opts().get(OptionCode::IAPD) else { panic!() };
    let Some(DhcpOption::StatusCode(code)) = pd.opts.get(OptionCode::StatusCode) else { panic!() };
    assert_eq!((pd.id, code.status), (9, v6::Status::NoPrefixAvail));
}

#[test]
fn uefi_boots_by_http() {
    let mut server = server("boot.file = \"http://boot.test/a.efi\"");
    // dhcproto writes a wrong length for this option, so here are its bytes.
    let class = [&[0, 0, 1, 0x57, 0, 21], b"HTTPClient:Arch:00027".as_slice()].concat();
    let class = UnknownOption::new(OptionCode::VendorClass, class);
    let wanted = ORO { opts: vec![OptionCode::from(59), OptionCode::VendorClass] };
    let options = vec![client(), DhcpOption::Unknown(class), DhcpOption::ORO(wanted), ia(1, &[])];
    let reply = ask(&mut server, 0, &message(MessageType::Solicit, options)).unwrap();
    let url = UnknownOption::new(OptionCode::from(59), b"http://boot.test/a.efi".to_vec());
    assert_eq!(reply.opts().get(OptionCode::from(59)), Some(&DhcpOption::Unknown(url)));
    let class = v6::VendorClass { num: 343, data: vec![b"HTTPClient".to_vec()] };
    assert_eq!(reply.opts().get(OptionCode::VendorClass), Some(&DhcpOption::VendorClass(class)));
}

#[test]
fn each_message_has_the_identifiers_that_it_must_have() {
    let mut server = server("");
    let foreign = DhcpOption::ServerId(vec![0, 3, 0, 1, 1, 1, 1, 1, 1, 1]);
    let has = ia(1, &["fd00::100"]);
    for (kind, options) in [
        (MessageType::Solicit, vec![has.clone()]),
        (MessageType::Solicit, vec![client(), to_us(), has.clone()]),
        (MessageType::Request, vec![client(), has.clone()]),
        (MessageType::Request, vec![client(), foreign.clone(), has.clone()]),
        (MessageType::Request, vec![to_us(), has.clone()]),
        (MessageType::Renew, vec![client(), has.clone()]),
        (MessageType::Rebind, vec![client(), to_us(), has.clone()]),
        (MessageType::Confirm, vec![client(), to_us(), has.clone()]),
        (MessageType::Release, vec![client(), foreign.clone(), has.clone()]),
        (MessageType::Decline, vec![client(), has.clone()]),
        (MessageType::InformationRequest, vec![client(), foreign]),
        (MessageType::InformationRequest, vec![client(), has]),
        (MessageType::Advertise, vec![client(), to_us()]),
        (MessageType::Reply, vec![client(), to_us()]),
        (MessageType::Solicit, vec![DhcpOption::ClientId(vec![1; 131])]),
    ] {
        let request = message(kind, options);
        assert!(server.request(0, GUEST, &request.to_vec().unwrap()).is_none(), "{request:?}");
    }
    let whole = message(MessageType::Solicit, vec![client(), ia(1, &["fd00::100"])]).to_vec().unwrap();
    let complete = [4, 22, whole.len()];
    for cut in (0..whole.len()).filter(|cut| !complete.contains(cut)) {
        assert!(server.request(0, GUEST, &whole[..cut]).is_none(), "{cut}");
    }
}
