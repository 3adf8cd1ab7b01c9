use super::*;

fn proxy(url: &str) -> Proxy {
    url.parse().unwrap()
}

fn to(text: &str) -> Destination {
    Destination::Address(text.parse().unwrap())
}

/// What a proxy expects, in turn, and what it says to it.
type Script<'s> = &'s [(&'s [u8], &'s [u8])];

/// Plays a script; all that the proxy says comes in pieces of `step` bytes.
fn play(url: &str, to: &Destination, script: Script<'_>, step: usize) -> Result<Progress, ProxyError> {
    let mut talk = Handshake::new(&proxy(url), to);
    let mut last = Progress::Going;
    for (expected, said) in script {
        assert_eq!(talk.output(), *expected);
        // Sockets take what they like.
        while !talk.output().is_empty() {
            talk.sent(3);
        }
        for piece in said.chunks(step) {
            last = match (last, talk.input(piece)?) {
                (Progress::Done(mut bytes), Progress::Done(more)) => {
                    bytes.extend_from_slice(&more);
                    Progress::Done(bytes)
                }
                (_, next) => next,
            };
        }
    }
    assert_eq!(talk.output(), b"");
    Ok(last)
}

fn in_pieces(url: &str, to: &Destination, script: Script<'_>, wanted: &Result<Progress, ProxyError>) {
    for step in [1, 2, 3, 7, 10_000] {
        assert_eq!(play(url, to, script, step), *wanted, "{url} in pieces of {step}");
    }
}

fn done(bytes: &[u8]) -> Result<Progress, ProxyError> {
    Ok(Progress::Done(bytes.to_vec()))
}

#[test]
fn socks5_without_a_login() {
    let script: Script<'_> = &[
        (b"\x05\x01\0", b"\x05\0"),
        (b"\x05\x01\0\x01\x01\x02\x03\x04\x01\xbb", b"\x05\0\0\x01\0\0\0\0\0\0hello"),
    ];
    in_pieces("socks5://p:1080", &to("1.2.3.4:443"), script, &done(b"hello"));
    let six = b"\x05\x01\0\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50";
    let bound = b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x12\x34";
    in_pieces(
        "socks5://p:1080",
        &to("[fd00::1]:80"),
        &[(b"\x05\x01\0", b"\x05\0"), (six, bound)],
        &done(b""),
    );
    let name = Destination::Name("a.test".to_owned(), 80);
    let script: Script<'_> =
        &[(b"\x05\x01\0", b"\x05\0"), (b"\x05\x01\0\x03\x06a.test\0\x50", b"\x05\0\0\x03\x04host\x12\x34!")];
    in_pieces("socks5://p:1080", &name, script, &done(b"!"));
}

#[test]
fn socks5_with_a_login() {
    let connect: &[u8] = b"\x05\x01\0\x01\x01\x02\x03\x04\x01\xbb";
    let good: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";
    let url = "socks5://me:pass@p:1080";
    let script: Script<'_> =
        &[(b"\x05\x02\0\x02", b"\x05\x02"), (b"\x01\x02me\x04pass", b"\x01\0"), (connect, good)];
    in_pieces(url, &to("1.2.3.4:443"), script, &done(b""));
    // It may not ask.
    let script: Script<'_> = &[(b"\x05\x02\0\x02", b"\x05\0"), (connect, good)];
    in_pieces(url, &to("1.2.3.4:443"), script, &done(b""));
    let script: Script<'_> = &[(b"\x05\x02\0\x02", b"\x05\x02"), (b"\x01\x02me\x04pass", b"\x01\x01")];
    in_pieces(url, &to("1.2.3.4:443"), script, &Err(ProxyError::Login));
    let script: Script<'_> = &[(b"\x05\x01\0", b"\x05\xff")];
    in_pieces("socks5://p:1", &to("1.2.3.4:443"), script, &Err(ProxyError::Login));
}

#[test]
fn socks5_refusals() {
    for (said, wanted) in [
        (b"\x05\x01\0\x01\0\0\0\0\0\0".as_slice(), ProxyError::Forbidden("code 1".to_owned())),
        (b"\x05\x02\0\x01\0\0\0\0\0\0", ProxyError::Forbidden("its rules".to_owned())),
        (b"\x05\x03\0\x01\0\0\0\0\0\0", ProxyError::Unreachable),
        (b"\x05\x04\0\x01\0\0\0\0\0\0", ProxyError::Unreachable),
        (b"\x05\x05", ProxyError::Refused),
        (b"\x05\x06\0\x01\0\0\0\0\0\0", ProxyError::Unreachable),
        (b"\x05\x08\0\x01\0\0\0\0\0\0", ProxyError::Protocol("it cannot connect to addresses")),
        (b"\x05\0\0\x02\0\0\0\0\0\0", ProxyError::Protocol("an address of no kind")),
        (b"\x04\0\0\x01\0\0\0\0\0\0", ProxyError::Protocol("another version of SOCKS")),
    ] {
        let connect: &[u8] = b"\x05\x01\0\x01\x01\x02\x03\x04\x01\xbb";
        in_pieces(
            "socks5://p:1",
            &to("1.2.3.4:443"),
            &[(b"\x05\x01\0", b"\x05\0"), (connect, said)],
            &Err(wanted),
        );
    }
    for (said, why) in
        [(b"\x04\0", "another version of SOCKS"), (b"\x05\x02", "a method that it was not offered")]
    {
        in_pieces(
            "socks5://p:1",
            &to("1.2.3.4:1"),
            &[(b"\x05\x01\0", said)],
            &Err(ProxyError::Protocol(why)),
        );
    }
}

#[test]
fn http_connects() {
    let request: &[u8] = b"CONNECT 1.2.3.4:443 HTTP/1.1\r\nHost: 1.2.3.4:443\r\n\r\n";
    for said in [
        b"HTTP/1.1 200 Connection established\r\n\r\nhello".as_slice(),
        b"HTTP/1.0 200 OK\r\nVia: x\r\nContent-Length: 3\r\n\r\nhello",
        b"HTTP/1.1 204 \nA: b\n\nhello",
        b"HTTP/1.1 200\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        in_pieces("http://p:3128", &to("1.2.3.4:443"), &[(request, said)], &done(b"hello"));
    }
    let six: &[u8] = b"CONNECT [fd00::1]:80 HTTP/1.1\r\nHost: [fd00::1]:80\r\n\
                       Proxy-Authorization: Basic bWU6cGFzcw==\r\n\r\n";
    in_pieces("http://me:pass@p:3128", &to("[fd00::1]:80"), &[(six, b"HTTP/1.1 200 OK\r\n\r\n")], &done(b""));
}

#[test]
fn http_refusals() {
    let request: &[u8] = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    let forbidden = |code: &str| ProxyError::Forbidden(format!("status {code}"));
    for (said, wanted) in [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n".as_slice(), ProxyError::Login),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n", forbidden("403")),
        (b"HTTP/1.1 405 Method Not Allowed\r\n\r\n", forbidden("405")),
        (b"HTTP/1.1 301 Moved\r\n\r\n", forbidden("301")),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyError::Refused),
        (b"HTTP/1.1 504 Timeout\r\n\r\n", ProxyError::Unreachable),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", ProxyError::Protocol("no status")),
        (b"HTTP/1.1\r\n\r\n", ProxyError::Protocol("no status")),
        (b"SSH-2.0-OpenSSH_9", ProxyError::Protocol("no HTTP")),
        (b"HTTP/2 200 OK\r\n\r\n", ProxyError::Protocol("no HTTP")),
    ] {
        let name = Destination::Name("a.test".to_owned(), 443);
        in_pieces("http://p:3128", &name, &[(request, said)], &Err(wanted));
    }
}

#[test]
fn a_proxy_that_talks_for_ever_is_left() {
    let mut talk = Handshake::new(&proxy("http://p:1"), &to("1.2.3.4:1"));
    talk.input(b"HTTP/1.1 200 OK\r\n").unwrap();
    let mut said = 0;
    let error = loop {
        match talk.input(b"X-Header: and another one\r\n") {
            Ok(progress) => assert_eq!(progress, Progress::Going),
            Err(error) => break error,
        }
        said += 27;
        assert!(said <= ANSWER_MOST);
    };
    assert_eq!(error, ProxyError::Protocol("it does not end"));
    // Interim answers take nothing with them, but each has an end.
    let mut talk = Handshake::new(&proxy("http://p:1"), &to("1.2.3.4:1"));
    for _ in 0..2000 {
        assert_eq!(talk.input(b"HTTP/1.1 102 Processing\r\n\r\n").unwrap(), Progress::Going);
    }
}

#[test]
fn a_proxy_that_says_to_wait_for_ever_is_left() {
    let mut talk = Handshake::new(&proxy("http://p:3128"), &to("1.2.3.4:443"));
    let mut said = 0;
    let error = loop {
        said += 1;
        match talk.input(b"HTTP/1.1 100 Continue\r\n\r\n") {
            Ok(progress) => assert_eq!((progress, said < 20_000), (Progress::Going, true)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, ProxyError::Protocol("it does not end"));
}
