//! Requests are made and replies are read by an independent implementation, dhcproto.

use super::*;
use dhcproto::{
    Decodable, Encodable,
    v4::{DhcpOption, Flags, Message, MessageType, OptionCode},
};

const GUEST: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x57]);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn server(toml: &str) -> Dhcp4 {
    Dhcp4::new(&Config::read(toml::Deserializer::parse(toml).unwrap()).unwrap()).unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn message(mac: Mac, kind: MessageType, client: Ipv4Addr, options: Vec<DhcpOption>) -> Message {
    let mut message = Message::new_with_id(0x1234_5678, client, ANY, ANY, ANY, &mac.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    options.into_iter().for_each(|option| {
        message.opts_mut().insert(option);
    });
    message
}

/// Sends it and reads what comes back, with where it goes.
fn ask(server: &mut Dhcp4, now_ns: u64, request: &Message) -> Option<(Message, Ipv4Addr, Mac)> {
    let reply = server.request(now_ns, &request.to_vec().unwrap())?;
    assert!(reply.message.len() >= 300, "BOOTP's least length");
    let read = Message::from_bytes(&reply.message).unwrap();
    assert_eq!((read.xid(), read.flags(), read.chaddr()), (request.xid(), request.flags(), request.chaddr()));
    assert_eq!(server_id(&read), Some(ip("10.0.2.2")));
    Some((read, reply.to, reply.mac))
}

fn server_id(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
        _ => None,
    }
}

fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap()
}

fn discover(mac: Mac, options: Vec<DhcpOption>) -> Message {
    message(mac, MessageType::Discover, ANY, options)
}

/// The REQUEST that takes an offer.
fn selecting(mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Message {
    let options = vec![DhcpOption::RequestedIpAddress(address), DhcpOption::ServerIdentifier(server)];
    message(mac, MessageType::Request, ANY, options)
}

/// Four messages, and the address.
fn configure(server: &mut Dhcp4, now_ns: u64, mac: Mac) -> Ipv4Addr {
    let (offer, ..) = ask(server, now_ns, &discover(mac, vec![])).expect("an offer");
    assert_eq!(kind(&offer), MessageType::Offer);
    assert_eq!(server.address_of(mac, now_ns), None, "an offer is no lease");
    let (ack, ..) = ask(server, now_ns, &selecting(mac, offer.yiaddr(), ip("10.0.2.2"))).expect("an answer");
    assert_eq!((kind(&ack), ack.yiaddr()), (MessageType::Ack, offer.yiaddr()));
    assert_eq!(server.address_of(mac, now_ns), Some(ack.yiaddr()));
    ack.yiaddr()
}

#[test]
fn a_guest_gets_an_address_and_what_it_needs() {
    let mut server = server("domain = \"lab.test\"\nhostname = \"guest\"\nmtu = 1400");
    assert_eq!(configure(&mut server, 0, GUEST), ip("10.0.2.15"));
    let (offer, to, mac) = ask(&mut server, 1, &discover(GUEST, vec![])).unwrap();
    assert_eq!((to, mac), (ip("10.0.2.15"), GUEST));
    let options = offer.opts();
    for wanted in [
        DhcpOption::SubnetMask(ip("255.255.255.0")),
        DhcpOption::Router(vec![ip("10.0.2.2")]),
        DhcpOption::DomainNameServer(vec![ip("10.0.2.3")]),
        DhcpOption::BroadcastAddr(ip("10.0.2.255")),
        DhcpOption::InterfaceMtu(1400),
        DhcpOption::Hostname("guest".to_owned()),
        DhcpOption::DomainName("lab.test".to_owned()),
        DhcpOption::AddressLeaseTime(86_400),
        DhcpOption::Renewal(43_200),
        DhcpOption::Rebinding(75_600),
    ] {
        assert_eq!(options.get(OptionCode::from(&wanted)), Some(&wanted));
    }
}

#[test]
fn it_tells_what_it_was_asked_for_and_no_more() {
    let mut server = server("search = [\"lab.test\", \"test\"]\nmtu = 1400");
    let wanted = vec![
        OptionCode::SubnetMask,
        OptionCode::DomainSearch,
        OptionCode::TimeServer,
        OptionCode::DomainSearch,
    ];
    let request = discover(GUEST, vec![DhcpOption::ParameterRequestList(wanted)]);
    let (offer, ..) = ask(&mut server, 0, &request).unwrap();
    let mut codes: Vec<u8> = offer.opts().iter().map(|(code, _)| (*code).into()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [1, 51, 53, 54, 58, 59, 119]);
    let Some(DhcpOption::DomainSearch(names)) = offer.opts().get(OptionCode::DomainSearch) else { panic!() };
    let names: Vec<String> = names.iter().map(|name| name.to_utf8()).collect();
    assert_eq!(names, ["lab.test.", "test."]);
}

#[test]
fn replies_go_where_the_guest_hears_them() {
    let mut server = server("");
    let mut request = discover(GUEST, vec![]);
    request.set_flags(Flags::default().set_broadcast());
    let (_, to, mac) = ask(&mut server, 0, &request).unwrap();
    assert_eq!((to, mac), (Ipv4Addr::BROADCAST, Mac::BROADCAST));
    let address = configure(&mut server, 0, GUEST);
    let renew = message(GUEST, MessageType::Request, address, vec![]);
    let (ack, to, mac) = ask(&mut server, 1, &renew).unwrap();
    assert_eq!((kind(&ack), ack.yiaddr(), to, mac), (MessageType::Ack, address, address, GUEST));
}

#[test]
fn the_latest_lease_is_the_one_taken_or_renewed_last() {
    for macs in [[GUEST, OTHER], [OTHER, GUEST]] {
        let mut server = server("");
        assert_eq!(server.latest(0), None);
        let [first, second] = [0, 1].map(|at| configure(&mut server, at, macs[at as usize]));
        assert_eq!(server.latest(1), Some(second));
        ask(&mut server, 2, &message(macs[0], MessageType::Request, first, vec![])).unwrap();
        assert_eq!(server.latest(2), Some(first));
        assert_eq!(server.latest(u64::MAX), None);
    }
}

#[test]
fn each_guest_has_its_own_and_keeps_it() {
    let mut server = server("");
    let first = configure(&mut server, 0, GUEST);
    let second = configure(&mut server, 0, OTHER);
    assert_eq!((first, second), (ip("10.0.2.15"), ip("10.0.2.16")));
    // Another boot stage, with another identifier, wishes for something else and gets what it has.
    let options = vec![
        DhcpOption::ClientIdentifier(vec![0xff, 1, 2, 3]),
        DhcpOption::RequestedIpAddress(ip("10.0.2.20")),
    ];
    let (offer, ..) = ask(&mut server, 1, &discover(GUEST, options.clone())).unwrap();
    assert_eq!(offer.yiaddr(), first);
    assert_eq!(offer.opts().get(OptionCode::ClientIdentifier), Some(&options[0]), "RFC 6842");
    assert_eq!(server.leases(1).collect::<Vec<_>>(), [(GUEST, first), (OTHER, second)]);
}

#[test]
fn a_wish_is_granted_if_it_can_be() {
    let mut server = server("");
    let wish = |address: &str| vec![DhcpOption::RequestedIpAddress(ip(address))];
    let mut offered = |mac, address| ask(&mut server, 0, &discover(mac, wish(address))).unwrap().0.yiaddr();
    assert_eq!(offered(GUEST, "10.0.2.20"), ip("10.0.2.20"));
    assert_eq!(offered(OTHER, "10.0.2.20"), ip("10.0.2.15"), "it is somebody's");
    assert_eq!(offered(Mac([2; 6]), "10.0.2.3"), ip("10.0.2.16"), "it is the name server's");
    assert_eq!(offered(Mac([4; 6]), "192.168.0.1"), ip("10.0.2.17"));
}

#[test]
fn static_leases_are_kept() {
    let text = "hostname = \"guest\"\ndhcp.leases = [{ mac = \"52:54:00:12:34:57\", ip = \"10.0.2.15\", \
                hostname = \"db\" }, { mac = \"02:02:02:02:02:02\", ip = \"10.0.2.99\" }]";
    let mut server = server(text);
    assert_eq!(configure(&mut server, 0, GUEST), ip("10.0.2.16"));
    assert_eq!(configure(&mut server, 0, OTHER), ip("10.0.2.15"));
    assert_eq!(configure(&mut server, 0, Mac([2; 6])), ip("10.0.2.99"), "outside the pool");
    let mut name =
        |mac| match ask(&mut server, 0, &discover(mac, vec![])).unwrap().0.opts().get(OptionCode::Hostname) {
            Some(DhcpOption::Hostname(name)) => name.clone(),
            other => panic!("{other:?}"),
        };
    assert_eq!((name(GUEST).as_str(), name(OTHER).as_str()), ("guest", "db"));
    // Who asks for an address that is another's is told so.
    let (nak, ..) = ask(&mut server, 0, &selecting(Mac([4; 6]), ip("10.0.2.15"), ip("10.0.2.2"))).unwrap();
    assert_eq!(kind(&nak), MessageType::Nak);
}

#[test]
fn what_cannot_be_had_is_refused_to_everybody_ears() {
    let mut server = server("");
    configure(&mut server, 0, GUEST);
    for address in ["192.168.1.9", "10.0.2.15", "10.0.2.3", "10.0.2.255"] {
        let reboot =
            message(OTHER, MessageType::Request, ANY, vec![DhcpOption::RequestedIpAddress(ip(address))]);
        let (nak, to, mac) = ask(&mut server, 0, &reboot).unwrap();
        assert_eq!((kind(&nak), nak.yiaddr()), (MessageType::Nak, ANY), "{address}");
        assert_eq!((to, mac), (Ipv4Addr::BROADCAST, Mac::BROADCAST));
        assert_eq!(nak.opts().get(OptionCode::SubnetMask), None);
        let renew = message(OTHER, MessageType::Request, ip(address), vec![]);
        assert_eq!(kind(&ask(&mut server, 0, &renew).unwrap().0), MessageType::Nak, "{address}");
    }
}

#[test]
fn a_guest_from_before_this_server_keeps_its_address() {
    let mut server = server("");
    let renew = message(GUEST, MessageType::Request, ip("10.0.2.22"), vec![]);
    assert_eq!(kind(&ask(&mut server, 0, &renew).unwrap().0), MessageType::Ack);
    let wish = vec![DhcpOption::RequestedIpAddress(ip("10.0.2.23"))];
    let reboot = message(OTHER, MessageType::Request, ANY, wish);
    assert_eq!(kind(&ask(&mut server, 0, &reboot).unwrap().0), MessageType::Ack);
    assert_eq!(server.address_of(GUEST, 0), Some(ip("10.0.2.22")));
}

#[test]
fn who_takes_another_servers_offer_gives_ours_back() {
    let mut server = server("");
    let (offer, ..) = ask(&mut server, 0, &discover(GUEST, vec![])).unwrap();
    assert!(ask(&mut server, 0, &selecting(GUEST, ip("10.0.2.77"), ip("10.0.2.9"))).is_none());
    assert_eq!(configure(&mut server, 0, OTHER), offer.yiaddr());
}

#[test]
fn leases_and_offers_end() {
    let mut server = server("dhcp.lease_s = 60");
    configure(&mut server, 0, GUEST);
    let end = 60 * SECOND_NS;
    assert_eq!(server.address_of(GUEST, end - 1), Some(ip("10.0.2.15")));
    assert_eq!(server.address_of(GUEST, end), None);
    assert_eq!(configure(&mut server, end - 1, OTHER), ip("10.0.2.16"));
    assert_eq!(configure(&mut server, end, Mac([2; 6])), ip("10.0.2.15"), "it is free again");
    // A renewal moves the end.
    let renew = message(OTHER, MessageType::Request, ip("10.0.2.16"), vec![]);
    ask(&mut server, end + 1, &renew).unwrap();
    assert_eq!(server.address_of(OTHER, 2 * end), Some(ip("10.0.2.16")));
    // An offer lasts a minute.
    let (offer, ..) = ask(&mut server, 0, &discover(Mac([4; 6]), vec![])).unwrap();
    let later = ask(&mut server, OFFER_NS, &discover(Mac([6; 6]), vec![])).unwrap().0;
    assert_eq!(later.yiaddr(), offer.yiaddr());
}

#[test]
fn release_and_decline() {
    let mut server = server("");
    let address = configure(&mut server, 0, GUEST);
    let release = |mac, address| message(mac, MessageType::Release, address, vec![]);
    assert!(ask(&mut server, 0, &release(OTHER, address)).is_none());
    assert_eq!(server.address_of(GUEST, 0), Some(address), "it is not that one's to release");
    assert!(ask(&mut server, 0, &release(GUEST, address)).is_none());
    assert_eq!(server.address_of(GUEST, 0), None);
    // Nobody can decline what it was not given.
    let foreign = message(OTHER, MessageType::Decline, ANY, vec![DhcpOption::RequestedIpAddress(address)]);
    assert!(ask(&mut server, 0, &foreign).is_none());
    // Somebody answers at the address: it is left alone for a while.
    assert_eq!(configure(&mut server, 0, GUEST), address);
    let decline = message(GUEST, MessageType::Decline, ANY, vec![DhcpOption::RequestedIpAddress(address)]);
    assert!(ask(&mut server, 0, &decline).is_none());
    assert_eq!(configure(&mut server, 1, GUEST), ip("10.0.2.16"));
    assert_eq!(configure(&mut server, DECLINED_NS, OTHER), address);
}

#[test]
fn inform_gets_all_but_an_address() {
    let mut server = server("");
    let request = message(GUEST, MessageType::Inform, ip("10.0.2.77"), vec![]);
    let (ack, to, mac) = ask(&mut server, 0, &request).unwrap();
    assert_eq!((kind(&ack), ack.yiaddr()), (MessageType::Ack, ANY));
    assert_eq!((to, mac), (ip("10.0.2.77"), GUEST));
    assert_eq!(ack.opts().get(OptionCode::AddressLeaseTime), None);
    assert!(ack.opts().get(OptionCode::Router).is_some());
    assert_eq!(server.leases(0).count(), 0);
}

#[test]
fn two_messages_are_enough_if_the_guest_says_so() {
    let mut server = server("");
    let (ack, ..) = ask(&mut server, 0, &discover(GUEST, vec![DhcpOption::RapidCommit])).unwrap();
    assert_eq!(kind(&ack), MessageType::Ack);
    assert!(ack.opts().get(OptionCode::RapidCommit).is_some());
    assert_eq!(server.address_of(GUEST, 0), Some(ack.yiaddr()));
}

/// A field up to its zero, which must be there.
fn text(field: Option<&[u8]>) -> &str {
    std::str::from_utf8(field.unwrap()).unwrap().strip_suffix('\0').unwrap()
}

#[test]
fn boot_from_the_network() {
    let pxe = || {
        let wanted =
            vec![OptionCode::TFTPServerName, OptionCode::BootfileName, OptionCode::TFTPServerAddress];
        let class = DhcpOption::ClassIdentifier(b"PXEClient:Arch:00027:UNDI:003016".to_vec());
        discover(GUEST, vec![DhcpOption::ParameterRequestList(wanted), class])
    };
    let mut here = server("boot = { tftp = \"x\", file = \"grub.efi\" }");
    let (offer, ..) = ask(&mut here, 0, &pxe()).unwrap();
    assert_eq!(offer.siaddr(), ip("10.0.2.2"));
    assert_eq!(text(offer.fname()), "grub.efi");
    let options = offer.opts();
    assert_eq!(options.get(OptionCode::BootfileName), Some(&DhcpOption::BootfileName(b"grub.efi".to_vec())));
    assert_eq!(
        options.get(OptionCode::TFTPServerName),
        Some(&DhcpOption::TFTPServerName(b"10.0.2.2".to_vec()))
    );
    assert_eq!(
        options.get(OptionCode::TFTPServerAddress),
        Some(&DhcpOption::TFTPServerAddress(ip("10.0.2.2")))
    );

    let mut there =
        server("boot = { file = \"a\", next_server = \"192.168.1.1\", server_name = \"boot.test\" }");
    let (offer, ..) = ask(&mut there, 0, &pxe()).unwrap();
    assert_eq!((offer.siaddr(), text(offer.sname())), (ip("192.168.1.1"), "boot.test"));
    assert_eq!(
        offer.opts().get(OptionCode::TFTPServerName),
        Some(&DhcpOption::TFTPServerName(b"boot.test".to_vec()))
    );

    let mut nowhere = server("");
    let (offer, ..) = ask(&mut nowhere, 0, &pxe()).unwrap();
    assert_eq!((offer.siaddr(), offer.fname()), (ANY, None));
    assert_eq!(offer.opts().get(OptionCode::BootfileName), None);
}

#[test]
fn a_url_that_is_longer_than_the_field_goes_into_an_option() {
    let url = format!("http://boot.test/{}", "x".repeat(150));
    let mut server = server(&format!("boot.file = \"{url}\""));
    let class = DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00027:UNDI:003016".to_vec());
    let (offer, ..) = ask(&mut server, 0, &discover(GUEST, vec![class])).unwrap();
    assert_eq!(offer.fname(), None);
    assert_eq!(offer.opts().get(OptionCode::BootfileName), Some(&DhcpOption::BootfileName(url.into_bytes())));
    let echoed = offer.opts().get(OptionCode::ClassIdentifier);
    assert_eq!(echoed, Some(&DhcpOption::ClassIdentifier(b"HTTPClient".to_vec())));
}

#[test]
fn replies_are_no_longer_than_the_guest_takes() {
    let label = "x".repeat(60);
    let text = format!("domain = \"{label}.{label}.{label}\"\nboot.file = \"{}\"", "f".repeat(250));
    let mut server = server(&format!("{text}\nsearch = [\"{label}.{label}.{label}\"]"));
    let wanted = vec![
        OptionCode::DomainName,
        OptionCode::BootfileName,
        OptionCode::DomainSearch,
        OptionCode::SubnetMask,
    ];
    let mut length = |most: Option<u16>| {
        let mut options = vec![DhcpOption::ParameterRequestList(wanted.clone())];
        options.extend(most.map(DhcpOption::MaxMessageSize));
        let request = discover(GUEST, options).to_vec().unwrap();
        let reply = server.request(0, &request).unwrap().message;
        let read = Message::from_bytes(&reply).unwrap();
        assert!(read.opts().get(OptionCode::SubnetMask).is_some(), "what fits is told");
        (reply.len(), read.opts().iter().count())
    };
    let (short, few) = length(None);
    let (long, all) = length(Some(1500));
    assert!(short <= 548 && long > 548 && few < all, "{short} {few} {long} {all}");
    assert_eq!(length(Some(0)), (short, few), "no client takes less than 576");
    // Nor than the network carries.
    let mut server = self::server(&format!("{text}\nmtu = 576\nipv6.enabled = false"));
    let wanted = vec![OptionCode::DomainName, OptionCode::BootfileName];
    let options = vec![DhcpOption::ParameterRequestList(wanted), DhcpOption::MaxMessageSize(1500)];
    let reply = server.request(0, &discover(GUEST, options).to_vec().unwrap()).unwrap();
    assert!(reply.message.len() <= 548);
}

#[test]
fn the_pool_and_the_limit_end() {
    let mut server = server("ipv4.pool = [\"10.0.2.15\", \"10.0.2.16\"]");
    configure(&mut server, 0, GUEST);
    configure(&mut server, 0, OTHER);
    assert!(ask(&mut server, 0, &discover(Mac([2; 6]), vec![])).is_none());
    let mut limited = self::server("limits.leases = 1");
    configure(&mut limited, 0, GUEST);
    assert!(ask(&mut limited, 0, &discover(OTHER, vec![])).is_none());
    let (offer, ..) = ask(&mut limited, 1, &discover(GUEST, vec![])).expect("who has one keeps it");
    assert_eq!(offer.yiaddr(), ip("10.0.2.15"));
}

#[test]
fn what_is_no_request_of_this_link_has_no_answer() {
    let mut server = server("");
    let whole = discover(GUEST, vec![]).to_vec().unwrap();
    assert!(server.request(0, &whole).is_some());
    for cut in 0..241 {
        assert_eq!(server.request(0, &whole[..cut]), None, "{cut}");
    }
    // op, htype, hlen, giaddr, a group's address as chaddr, cookie.
    for (at, byte) in [(0, 2), (1, 6), (2, 16), (24, 10), (28, 0x53), (236, 0)] {
        let mut wrong = whole.clone();
        wrong[at] = byte;
        assert_eq!(server.request(0, &wrong), None, "{at}");
    }
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        assert!(ask(&mut server, 0, &message(GUEST, kind, ANY, vec![])).is_none());
    }
    let no_wish = message(GUEST, MessageType::Request, ANY, vec![]);
    assert!(ask(&mut server, 0, &no_wish).is_none());
}

#[test]
fn options_may_go_on_in_the_other_fields() {
    let mut server = server("");
    let mut bytes = discover(GUEST, vec![]).to_vec().unwrap();
    bytes.truncate(240);
    // Overload both; the message type is in `file`, the wish in `sname`.
    bytes.extend_from_slice(&[52, 1, 3, 255]);
    bytes[108..112].copy_from_slice(&[53, 1, 1, 255]);
    bytes[44..51].copy_from_slice(&[50, 4, 10, 0, 2, 21, 255]);
    let reply = server.request(0, &bytes).unwrap();
    assert_eq!(Message::from_bytes(&reply.message).unwrap().yiaddr(), ip("10.0.2.21"));
}
