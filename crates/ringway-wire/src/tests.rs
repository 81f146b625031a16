//! Tests of the parsers and writers, by format; this file holds what those of the PROXY protocol share.

mod differential;
mod hello;
mod others;
mod properties;
mod v1;
mod v2;

use crate::{Addresses, Parse, ProxyHeader, ProxyVersion, Reason, detect, parse_proxy};

/// The header and its length; the whole input must be valid.
fn done(bytes: &[u8]) -> (ProxyHeader<'_>, usize) {
    match parse_proxy(bytes) {
        Parse::Done { value, used } => (value, used),
        other => panic!(
            "expected a header in {:?}, got {other:?}",
            bytes.escape_ascii().to_string()
        ),
    }
}

/// Checks what holds for every valid header: each prefix asks for more and not for too much, wherever the bytes are
/// cut the result is the same, and payload behind the header changes nothing.
fn check_valid(header: &[u8]) {
    let whole = parse_proxy(header);
    assert_eq!(done(header).1, header.len());
    for cut in 0..header.len() {
        match parse_proxy(&header[..cut]) {
            Parse::NeedMore { at_least } => {
                assert!(
                    at_least > 0 && cut + at_least <= header.len(),
                    "{at_least} at {cut}"
                );
            }
            other => panic!("prefix of {cut} bytes: {other:?}"),
        }
    }
    for payload in [
        &b"\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"\0",
        &[0xff; 70_000],
        header,
    ] {
        assert_eq!(parse_proxy(&[header, payload].concat()), whole);
    }
}

/// Checks that `bytes` is rejected for this reason as soon as its byte at `at` is there, and not before.
fn check_rejected(bytes: &[u8], at: usize, reason: Reason) {
    let shown = bytes.escape_ascii().to_string();
    for cut in 0..=at {
        let parsed = parse_proxy(&bytes[..cut]);
        assert!(
            matches!(parsed, Parse::NeedMore { .. }),
            "{shown} cut at {cut}: {parsed:?}"
        );
    }
    for cut in at + 1..=bytes.len() {
        assert_eq!(
            parse_proxy(&bytes[..cut]),
            Parse::Reject(reason),
            "{shown} cut at {cut}"
        );
    }
}

#[test]
fn detection_needs_the_whole_signature_and_uses_nothing() {
    assert_eq!(
        detect(b"PROXY "),
        Parse::Done {
            value: ProxyVersion::V1,
            used: 0
        }
    );
    let v2 = b"\r\n\r\n\0\r\nQUIT\n";
    assert_eq!(
        detect(v2),
        Parse::Done {
            value: ProxyVersion::V2,
            used: 0
        }
    );
    assert_eq!(detect(b""), Parse::NeedMore { at_least: 6 });
    assert_eq!(detect(b"P"), Parse::NeedMore { at_least: 5 });
    assert_eq!(detect(b"\r"), Parse::NeedMore { at_least: 11 });
}

#[test]
fn other_protocols_are_rejected_at_their_first_foreign_byte() {
    check_rejected(b"\x16\x03\x01\x02\x00", 0, Reason::NotProxy);
    check_rejected(b"GET / HTTP/1.1\r\n", 0, Reason::NotProxy);
    check_rejected(b"PRI * HTTP/2.0\r\n", 2, Reason::NotProxy);
    check_rejected(b"proxy TCP4", 0, Reason::NotProxy);
    check_rejected(b"\r\n\r\nGET / HTTP/1.1\r\n", 4, Reason::NotProxy);
    check_rejected(b"\r\n\r\n\0\r\nQUIT\r\n", 11, Reason::NotProxy);
}

#[test]
fn reasons_have_distinct_texts() {
    let reasons = [
        Reason::NotProxy,
        Reason::Protocol,
        Reason::Address,
        Reason::Port,
        Reason::LineEnd,
        Reason::LineTooLong,
        Reason::Version,
        Reason::Command,
        Reason::Family,
        Reason::TooLong,
        Reason::AddressTruncated,
        Reason::TlvTruncated,
        Reason::ChecksumForm,
        Reason::ChecksumMismatch,
        Reason::NotTls,
        Reason::NotClientHello,
        Reason::RecordLength,
        Reason::RecordInterleaved,
        Reason::HelloTooLong,
        Reason::HelloForm,
        Reason::DuplicateExtension,
        Reason::ServerNameForm,
        Reason::AlpnForm,
    ];
    let texts: std::collections::BTreeSet<String> = reasons.iter().map(Reason::to_string).collect();
    assert_eq!(texts.len(), reasons.len());
}

#[test]
fn sockets_of_mixed_families_are_written_as_one() {
    use crate::Transport::Stream;
    let sockets = |from: &str, to: &str| {
        let from = from.parse().expect("a socket address");
        let to = to.parse().expect("a socket address");
        let addresses = Addresses::from_sockets(Stream, from, to);
        let (from, to) = addresses.sockets().expect("these are sockets");
        format!("{from} {to}")
    };
    assert_eq!(
        sockets("192.0.2.1:1", "192.0.2.2:2"),
        "192.0.2.1:1 192.0.2.2:2"
    );
    assert_eq!(
        sockets("[::ffff:192.0.2.1]:1", "192.0.2.2:2"),
        "192.0.2.1:1 192.0.2.2:2"
    );
    assert_eq!(
        sockets("[2001:db8::1]:1", "[::1]:2"),
        "[2001:db8::1]:1 [::1]:2"
    );
    assert_eq!(
        sockets("192.0.2.1:1", "[2001:db8::1]:2"),
        "[::ffff:192.0.2.1]:1 [2001:db8::1]:2"
    );
    assert_eq!(
        sockets("[2001:db8::1]:1", "192.0.2.1:2"),
        "[2001:db8::1]:1 [::ffff:192.0.2.1]:2"
    );
    assert_eq!(Addresses::Unspecified.sockets(), None);
}
