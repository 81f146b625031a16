//! Hellos with lengths that lie, and other bytes: rejected at the first byte that no hello has there.

use super::{Hello, alpn, done, extension, grease, key_shares, records, server_name};
use crate::{CLIENT_HELLO_MAX, ClientHello, Parse, Reason, ServerName, parse_client_hello};

/// Checks that bytes are rejected for this reason as soon as the byte at `at` is there, and not before; and that
/// before that byte there is one that is not rejected.
pub(super) fn check_rejected(bytes: &[u8], at: usize, reason: Reason) {
    for cut in 0..=at {
        let parsed = parse_client_hello(&bytes[..cut]);
        assert!(
            matches!(parsed, Parse::NeedMore { .. }),
            "cut at {cut}, rejected at {at}: {parsed:?}"
        );
    }
    for cut in at + 1..=bytes.len() {
        assert_eq!(
            parse_client_hello(&bytes[..cut]),
            Parse::Reject(reason),
            "cut at {cut}, rejected at {at}"
        );
    }
    let mut other = bytes[..=at].to_vec();
    let possible = (0..=u8::MAX).any(|byte| {
        other[at] = byte;
        !matches!(parse_client_hello(&other), Parse::Reject(_))
    });
    assert!(possible, "nothing can follow the first {at} bytes");
}

/// The same, wherever the first rejection is; its reason.
pub(super) fn check_rejected_somewhere(bytes: &[u8]) -> Reason {
    for at in 0..bytes.len() {
        if let Parse::Reject(reason) = parse_client_hello(&bytes[..=at]) {
            check_rejected(bytes, at, reason);
            return reason;
        }
    }
    panic!("not rejected");
}

#[test]
fn what_is_not_tls_is_rejected_at_its_first_byte() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\0\0\0\0",
        b"\x15\x03\x01\x00\x02\x02\x28",
        // An SSLv2 hello with room for TLS 1.0, and one with a header of three bytes.
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
        b"\x00\x2f\x01\x01\x03\x01",
    ] {
        check_rejected(bytes, 0, Reason::NotTls);
    }
    check_rejected(b"\x16\x02\x00\x00\x30\x01", 1, Reason::NotTls);
    check_rejected(b"\x16\xfe\xff\x00\x00", 1, Reason::NotTls);
}

#[test]
fn records_have_a_length() {
    check_rejected(b"\x16\x03\x01\x00\x00\x01", 4, Reason::RecordLength);
    check_rejected(b"\x16\x03\x01\x41\x01\x01", 4, Reason::RecordLength);
    check_rejected(b"\x16\x03\x01\x42\x00\x01", 3, Reason::RecordLength);
    check_rejected(b"\x16\x03\x01\xff\xff\x01", 3, Reason::RecordLength);
    let empty_second = b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00\x00";
    check_rejected(empty_second, 10, Reason::RecordLength);
}

#[test]
fn only_records_of_the_handshake_make_up_a_hello() {
    let start = b"\x16\x03\x01\x00\x02\x01\x00";
    let then = |bytes: &[u8]| [&start[..], bytes].concat();
    check_rejected(
        &then(b"\x17\x03\x03\x00\x01x"),
        7,
        Reason::RecordInterleaved,
    );
    check_rejected(
        &then(b"\x15\x03\x03\x00\x02\x01\x00"),
        7,
        Reason::RecordInterleaved,
    );
    check_rejected(
        &then(b"\x16\x02\x03\x00\x01x"),
        8,
        Reason::RecordInterleaved,
    );
}

#[test]
fn other_messages_are_no_hello() {
    for kind in (0..=u8::MAX).filter(|&kind| kind != 1) {
        let bytes = [b"\x16\x03\x01\x00\x30", &[kind][..], b"\0\0\x2c"].concat();
        check_rejected(&bytes, 5, Reason::NotClientHello);
    }
}

#[test]
fn a_hello_has_a_least_and_a_greatest_length() {
    let with_length = |length: &[u8; 3]| [b"\x16\x03\x01\x00\x30\x01", &length[..]].concat();
    check_rejected(&with_length(b"\0\0\x28"), 8, Reason::HelloForm);
    check_rejected(&with_length(b"\0\0\0"), 8, Reason::HelloForm);
    check_rejected(&with_length(b"\x01\0\0"), 6, Reason::HelloTooLong);
    check_rejected(&with_length(b"\xff\xff\xff"), 6, Reason::HelloTooLong);
    check_rejected(&with_length(b"\0\xff\xff"), 8, Reason::HelloTooLong);
    assert!(matches!(
        parse_client_hello(&with_length(b"\0\0\x29")),
        Parse::NeedMore { at_least: 41 }
    ));
}

#[test]
fn an_extension_is_there_once() {
    let name = server_name(&[(0, b"a.example")]);
    let other = server_name(&[(0, b"b.example")]);
    let protocols = alpn(&[b"h2"]);
    for (extensions, again) in [
        (vec![name.clone()], other),
        (vec![name.clone(), protocols.clone()], protocols),
        (vec![grease(0x2a, b""), name.clone()], grease(0x2a, b"\0")),
        (vec![extension(0xffff, b""), name], extension(0xffff, b"")),
    ] {
        let before = 9 + 34 + 33 + 10 + 2 + 2 + extensions.concat().len();
        let message = Hello::with(&[extensions, vec![again]].concat()).message();
        check_rejected(
            &records(&message, &[]),
            before + 1,
            Reason::DuplicateExtension,
        );
        // Cut between the two bytes of the type.
        let bytes = records(&message, &[before + 1 - 5]);
        assert_eq!(check_rejected_somewhere(&bytes), Reason::DuplicateExtension);
    }
}

#[test]
fn every_type_of_extension_may_be_there_once() {
    // As many as fit, each of another type, and then one of them again.
    let all: Vec<Vec<u8>> = (100..16_000).map(|kind| extension(kind, b"")).collect();
    let bytes = records(&Hello::with(&all).message(), &[]);
    assert_eq!(done(&bytes).0.server_name, ServerName::Absent);
    let again = [all, vec![extension(8_000, b"")]].concat();
    assert_eq!(
        parse_client_hello(&records(&Hello::with(&again).message(), &[])),
        Parse::Reject(Reason::DuplicateExtension)
    );
}

#[test]
fn a_list_has_at_least_one_name() {
    for (content, reason) in [
        (extension(0, b""), Reason::HelloForm),
        (extension(0, b"\0\0"), Reason::HelloForm),
        (extension(0, b"\0\x02\0\0"), Reason::HelloForm),
        (extension(0, b"\0\x02\0\0\0"), Reason::ServerNameForm),
        (extension(0, b"\0\x04\0\0\0"), Reason::ServerNameForm),
        (extension(0, b"\0\x03\0\0\x01"), Reason::ServerNameForm),
        (extension(0, b"\0\x05\0\0\0xx"), Reason::ServerNameForm),
        (extension(0, b"\0\x05\0\0\x03xx"), Reason::ServerNameForm),
        (extension(16, b""), Reason::HelloForm),
        (extension(16, b"\0\0"), Reason::HelloForm),
        (extension(16, b"\0\x01\0"), Reason::HelloForm),
        (extension(16, b"\0\x02\0\x01"), Reason::AlpnForm),
        (extension(16, b"\0\x02\x02x"), Reason::AlpnForm),
        (extension(16, b"\0\x03\x01x\x01"), Reason::AlpnForm),
        (extension(16, b"\0\x01\x01x"), Reason::AlpnForm),
    ] {
        for behind in [vec![], extension(43, b"\x02\x03\x04")] {
            let message = Hello::with(&[content.clone(), behind]).message();
            let bytes = records(&message, &[]);
            assert_eq!(check_rejected_somewhere(&bytes), reason, "{content:x?}");
        }
    }
}

/// A hello and the places of all its lengths: offset and size.
fn with_places() -> (Vec<u8>, Vec<(usize, usize)>) {
    let extensions = [
        grease(0x0a, b""),
        key_shares(&[32]),
        alpn(&[b"h2", b"http/1.1"]),
        server_name(&[(0, b"lying.example")]),
        extension(43, b"\x02\x03\x04"),
    ];
    let bytes = records(&Hello::with(&extensions).message(), &[]);
    let mut places = vec![(3, 2), (6, 3)];
    let session_id = 5 + 4 + 34;
    let suites = session_id + 1 + 32;
    let compressions = suites + 2 + 8;
    let list = compressions + 1 + 1;
    places.extend([(session_id, 1), (suites, 2), (compressions, 1), (list, 2)]);
    let mut start = list + 2;
    for content in &extensions {
        places.push((start + 2, 2));
        match content[..2] {
            [0, 16] => places.extend([(start + 4, 2), (start + 6, 1), (start + 9, 1)]),
            [0, 0] => places.extend([(start + 4, 2), (start + 7, 2)]),
            _ => {}
        }
        start += content.len();
    }
    assert_eq!(start, bytes.len());
    (bytes, places)
}

/// The lengths that may be written instead of a true one.
fn lies(truth: usize, size: usize) -> Vec<usize> {
    let most = (1 << (8 * size)) - 1;
    let mut lies: Vec<usize> = [1, 2, 3, 4, 5, 8, 16, 32, 64, 256]
        .iter()
        .flat_map(|delta| [truth.wrapping_sub(*delta), truth + delta])
        .chain([0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff])
        .chain([most - 1, most])
        .filter(|&lie| lie <= most && lie != truth)
        .collect();
    lies.sort_unstable();
    lies.dedup();
    lies
}

/// What is told is told by the hello without lies, or is nothing.
fn assert_no_foreign(told: &ClientHello<'_>, truth: &ClientHello<'_>) {
    assert!(told.server_name == truth.server_name || told.server_name == ServerName::Absent);
    assert!(told.alpn == truth.alpn || told.alpn.is_empty());
}

#[test]
fn lengths_that_lie_give_no_name_and_no_foreign_bytes() {
    let (bytes, places) = with_places();
    let truth = done(&bytes).0;
    let mut rejected = 0;
    let mut total = 0;
    for (place, size) in places {
        let written = bytes[place..][..size]
            .iter()
            .fold(0, |number, &byte| number << 8 | usize::from(byte));
        for lie in lies(written, size) {
            let mut lying = bytes.clone();
            lying[place..][..size].copy_from_slice(&lie.to_be_bytes()[8 - size..]);
            total += 1;
            match parse_client_hello(&lying) {
                // A longer record; or types and lengths where others are skipped, which are a hello as well.
                Parse::Done { value, used } => {
                    assert_eq!(used, bytes.len(), "{place}: {lie}");
                    assert_no_foreign(&value, &truth);
                }
                Parse::NeedMore { at_least } => {
                    assert!(lying.len() + at_least <= CLIENT_HELLO_MAX);
                    panic!("length at {place} set to {lie}: waits for {at_least} bytes");
                }
                Parse::Reject(_) => {
                    check_rejected_somewhere(&lying);
                    rejected += 1;
                }
            }
            // What is behind is not taken for a part of the hello.
            let behind = [&lying[..], &[b'x'; 300]].concat();
            if let Parse::Done { value, used } = parse_client_hello(&behind) {
                assert_eq!(used, bytes.len(), "{place}: {lie}");
                assert_no_foreign(&value, &truth);
            }
        }
    }
    assert!(total >= 390 && rejected >= 370, "{rejected} of {total}");
}

#[test]
fn a_length_that_lies_in_a_part_of_a_hello_never_makes_a_hello() {
    let (bytes, places) = with_places();
    for (place, size) in places.into_iter().skip(1) {
        for cut in [place + size, bytes.len() / 2, bytes.len() - 1] {
            let mut lying = bytes[..cut.max(place + size)].to_vec();
            lying[place..][..size].fill(0xff);
            match parse_client_hello(&lying) {
                Parse::Done { value, .. } => panic!("length at {place}: {value:?}"),
                Parse::NeedMore { .. } | Parse::Reject(_) => {}
            }
        }
    }
}
