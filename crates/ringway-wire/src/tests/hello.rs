//! ClientHello: hellos built from parts, what is read from them, and what holds wherever they are cut.

mod build;
mod captures;
mod differential;
mod malformed;
mod names;
mod progress;
mod properties;

use build::{Hello, alpn, extension, grease, key_shares, padding, records, server_name};

use crate::{CLIENT_HELLO_MAX, ClientHello, HostName, Parse, ServerName, parse_client_hello};

/// The hello and its length; the input must begin with one.
fn done(bytes: &[u8]) -> (ClientHello<'_>, usize) {
    match parse_client_hello(bytes) {
        Parse::Done { value, used } => (value, used),
        other => panic!("expected a hello, got {other:?}"),
    }
}

fn host(name: &str) -> ServerName {
    ServerName::Host(HostName::new(name.as_bytes()).expect("a valid name"))
}

fn protocols(hello: &ClientHello<'_>) -> Vec<Vec<u8>> {
    hello
        .alpn
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect()
}

/// A hello, and what is to be read from it.
struct Case {
    hello: Hello,
    server_name: ServerName,
    alpn: &'static [&'static [u8]],
}

fn cases() -> Vec<Case> {
    let case = |extensions: &[Vec<u8>], server_name, alpn| Case {
        hello: Hello::with(extensions),
        server_name,
        alpn,
    };
    let name = server_name(&[(0, b"www.Example.COM.")]);
    let h2 = alpn(&[b"h2", b"http/1.1"]);
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    let www = host("www.example.com");
    let small = [
        case(&[], ServerName::Absent, &[]),
        case(std::slice::from_ref(&name), www, &[]),
        case(std::slice::from_ref(&h2), ServerName::Absent, both),
        case(&[h2.clone(), name.clone()], www, both),
        // GREASE (RFC 8701): an extension at the start, an extension at the end, a protocol.
        case(
            &[
                grease(0x0a, b""),
                name.clone(),
                alpn(&[b"\x1a\x1a", b"h2"]),
                grease(0xfa, b"\0"),
            ],
            www,
            &[b"\x1a\x1a", b"h2"],
        ),
        // X25519MLKEM768 is 1,216 bytes, and with X25519 behind it.
        case(
            &[key_shares(&[1, 1216, 32]), h2.clone(), name.clone()],
            www,
            both,
        ),
        case(
            &[key_shares(&[1216, 32]), padding(4_000), name.clone()],
            www,
            &[],
        ),
        // Encrypted Client Hello: an outer name, and an inner one nobody sees.
        case(
            &[
                extension(0xfe0d, &[0x5a; 281]),
                server_name(&[(0, b"outer.example")]),
            ],
            host("outer.example"),
            &[],
        ),
        case(
            &[server_name(&[
                (1, b"some other type"),
                (0, b"first.example"),
                (0, b"second.example"),
            ])],
            host("first.example"),
            &[],
        ),
        case(&[server_name(&[(7, b"")])], ServerName::Absent, &[]),
        case(
            &[alpn(&[&[b'p'; 255], b"q", &[0xff; 255]])],
            ServerName::Absent,
            &[&[b'p'; 255], b"q", &[0xff; 255]],
        ),
    ];
    let odd = [
        Hello::with(&[]).without_extensions(),
        Hello {
            session_id: Vec::new(),
            suites: vec![0x13, 0x01],
            compressions: vec![0],
            extensions: None,
            ..Hello::with(&[])
        },
        Hello {
            suites: vec![0x5a; 20_000],
            compressions: vec![1; 255],
            version: [3, 0],
            ..Hello::with(&[])
        },
    ];
    let odd = odd.map(|hello| Case {
        hello,
        server_name: ServerName::Absent,
        alpn: &[],
    });
    let large = [15_900, 16_000, 60_000].map(|size| Case {
        hello: Hello::with(&[padding(size), h2.clone(), name.clone()]),
        server_name: www,
        alpn: both,
    });
    small.into_iter().chain(odd).chain(large).collect()
}

fn check(case: &Case, bytes: &[u8]) {
    let (hello, used) = done(bytes);
    assert_eq!(hello.server_name, case.server_name);
    assert_eq!(protocols(&hello), case.alpn);
    assert_eq!(hello.alpn.is_empty(), case.alpn.is_empty());
    assert_eq!(used, bytes.len());
}

#[test]
fn name_and_protocols_are_read_and_every_prefix_asks_for_more() {
    for case in cases() {
        let bytes = records(&case.hello.message(), &[]);
        check(&case, &bytes);
        for cut in 0..bytes.len() {
            match parse_client_hello(&bytes[..cut]) {
                Parse::NeedMore { at_least } => {
                    assert!(at_least > 0 && cut + at_least <= bytes.len(), "at {cut}");
                }
                other => panic!("prefix of {cut} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn payload_behind_a_hello_changes_nothing() {
    for case in cases() {
        let bytes = records(&case.hello.message(), &[]);
        let whole = done(&bytes);
        for payload in [
            &b"\x17\x03\x03\x00\x05early"[..],
            b"\0",
            &[0xff; 70_000],
            &bytes,
        ] {
            assert_eq!(done(&[&bytes, payload].concat()), whole);
        }
    }
}

#[test]
fn a_cut_into_two_records_changes_nothing_wherever_it_is() {
    for case in cases() {
        let message = case.hello.message();
        // All offsets of what is usual, and some of what is large: a prime apart, to meet all alignments.
        let step = if message.len() < 6_000 { 1 } else { 251 };
        for cut in (1..message.len()).step_by(step) {
            check(&case, &records(&message, &[cut]));
        }
    }
}

#[test]
fn records_of_a_few_bytes_each_change_nothing() {
    for case in cases() {
        let message = case.hello.message();
        for size in [1, 2, 3, 7, 100] {
            let cuts: Vec<usize> = (size..message.len()).step_by(size).collect();
            let bytes = records(&message, &cuts);
            if bytes.len() <= CLIENT_HELLO_MAX {
                check(&case, &bytes);
            }
        }
    }
}

#[test]
fn the_record_of_a_hello_may_be_longer_than_the_hello() {
    let message = Hello::with(&[server_name(&[(0, b"a.example")])]).message();
    let bytes = records(&[&message[..], b"\x0b\0\0\x01x"].concat(), &[]);
    let (hello, used) = done(&bytes);
    assert_eq!(hello.server_name, host("a.example"));
    assert_eq!(used, bytes.len() - 5);
}

#[test]
fn the_rest_of_a_hello_is_asked_for_as_far_as_it_is_known() {
    let message = Hello::with(&[padding(20_000)]).message();
    let bytes = records(&message, &[3, 10_000]);
    let missing = |cut: usize| match parse_client_hello(&bytes[..cut]) {
        Parse::NeedMore { at_least } => at_least,
        other => panic!("{other:?}"),
    };
    // The shortest hello has 41 bytes behind type and length.
    let shortest = 5 + 4 + 41;
    assert_eq!(missing(0), shortest);
    // The first record is of three bytes, so there is a second one.
    assert_eq!(missing(4), shortest - 4);
    assert_eq!(missing(5), shortest - 5 + 5);
    // Type and two bytes of length; so much needs two further records.
    let of_two_bytes = 4 + (message.len() - 4) / 256 * 256;
    assert_eq!(missing(8), of_two_bytes - 3 + 2 * 5);
    assert_eq!(missing(8 + 5 + 1), message.len() - 4 + 5);
    // The second record ends, so there is a third one.
    assert_eq!(missing(10_010), message.len() - 10_000 + 5);
    assert_eq!(missing(bytes.len() - 1), 1);
}

#[test]
fn a_hello_is_at_most_64_kib_long_with_its_records() {
    let of_size = |size: usize| {
        let empty = Hello::with(&[padding(0)]).message().len();
        Hello::with(&[padding(size - empty)]).message()
    };
    // Four records are the fewest for so much.
    let largest = of_size(CLIENT_HELLO_MAX - 4 * 5);
    let bytes = records(&largest, &[]);
    assert_eq!(bytes.len(), CLIENT_HELLO_MAX);
    assert_eq!(done(&bytes).1, CLIENT_HELLO_MAX);

    let reject = Parse::Reject(crate::Reason::HelloTooLong);
    let bytes = records(&of_size(CLIENT_HELLO_MAX - 4 * 5 + 1), &[]);
    assert!(matches!(
        parse_client_hello(&bytes[..8]),
        Parse::NeedMore { .. }
    ));
    assert_eq!(parse_client_hello(&bytes[..9]), reject);

    // A further record is too much as soon as the length of the one before it is there.
    let bytes = records(&largest, &[1]);
    assert!(matches!(
        parse_client_hello(&bytes[..13]),
        Parse::NeedMore { .. }
    ));
    assert_eq!(parse_client_hello(&bytes[..14]), reject);
}
