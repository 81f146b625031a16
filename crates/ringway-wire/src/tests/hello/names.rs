//! Which names are valid, in which form they are told, and what is wrong with the others.

use super::{Hello, done, records, server_name};
use crate::{HostName, NameFault, ServerName};

const VALID: &[(&[u8], &str)] = &[
    (b"example.com", "example.com"),
    (b"EXAMPLE.Com", "example.com"),
    (b"example.com.", "example.com"),
    (b"localhost", "localhost"),
    (b"a", "a"),
    (b"_dmarc.under_score.example", "_dmarc.under_score.example"),
    (b"-a-.r3---sn.example", "-a-.r3---sn.example"),
    (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
    (b"1.2.3.4.example", "1.2.3.4.example"),
    (b"1.2.3", "1.2.3"),
    (b"256.0.0.1", "256.0.0.1"),
    (b"123", "123"),
];

const INVALID: &[(&[u8], NameFault)] = &[
    (b"", NameFault::Empty),
    (b".", NameFault::Empty),
    (b"..", NameFault::LabelEmpty),
    (b".example", NameFault::LabelEmpty),
    (b"a..example", NameFault::LabelEmpty),
    (b"a.example..", NameFault::LabelEmpty),
    (b"a.example\0", NameFault::Nul),
    (b"\0", NameFault::Nul),
    (b"good.example\0.evil.example", NameFault::Nul),
    (b"a b.example", NameFault::Character),
    (b" a.example", NameFault::Character),
    (b"*.example", NameFault::Character),
    (b"a.example:443", NameFault::Character),
    (b"a/../b", NameFault::Character),
    (b"a.example\r\nx: y", NameFault::Character),
    (b"\x1b[31m", NameFault::Character),
    (b"\x7f", NameFault::Character),
    ("bücher.example".as_bytes(), NameFault::NonAscii),
    (b"\xff\xfe", NameFault::NonAscii),
    (b"192.0.2.1", NameFault::Address),
    (b"192.0.2.1.", NameFault::Address),
    (b"255.255.255.255", NameFault::Address),
    (b"::1", NameFault::Address),
    (b"2001:DB8::1", NameFault::Address),
    (b"[2001:db8::1]", NameFault::Address),
    (b"::ffff:192.0.2.1", NameFault::Address),
    (b"[example]", NameFault::Character),
    (b"[::1", NameFault::Character),
];

/// What a hello with this name says, in one record and in records of one byte.
fn told(name: &[u8]) -> ServerName {
    let message = Hello::with(&[server_name(&[(0, name)])]).message();
    let bytes = records(&message, &[]);
    let told = done(&bytes).0.server_name;
    let cuts: Vec<usize> = (1..message.len()).collect();
    assert_eq!(done(&records(&message, &cuts)).0.server_name, told);
    told
}

#[test]
fn valid_names_are_told_in_one_form() {
    for &(name, expected) in VALID {
        let ServerName::Host(host) = told(name) else {
            panic!("{expected} is valid");
        };
        assert_eq!(host.as_str(), expected);
        assert_eq!(host.as_bytes(), expected.as_bytes());
        assert_eq!(host.to_string(), expected);
        assert_eq!(format!("{host:?}"), format!("{expected:?}"));
        assert_eq!(HostName::new(expected.as_bytes()), Ok(host));
    }
}

#[test]
fn other_names_are_told_apart_from_none() {
    for &(name, fault) in INVALID {
        assert_eq!(
            told(name),
            ServerName::Invalid(fault),
            "{}",
            name.escape_ascii()
        );
    }
}

#[test]
fn names_and_labels_have_a_longest() {
    let label = |size: usize| "l".repeat(size);
    let three = [label(63), label(63), label(63)].join(".");
    let longest = format!("{three}.{}", label(61));
    assert_eq!(longest.len(), 253);
    for name in [longest.clone(), format!("{longest}.")] {
        let ServerName::Host(host) = told(name.as_bytes()) else {
            panic!("{name} is valid");
        };
        assert_eq!(host.as_str(), longest);
    }
    let too_long = ServerName::Invalid(NameFault::TooLong);
    assert_eq!(told(format!("{longest}l").as_bytes()), too_long);
    assert_eq!(told(format!("{longest}l.").as_bytes()), too_long);
    assert_eq!(told(&[b'a'; 5_000]), too_long);
    let label_too_long = ServerName::Invalid(NameFault::LabelTooLong);
    assert_eq!(told(format!("{}.a", label(64)).as_bytes()), label_too_long);
    assert_eq!(told(label(64).as_bytes()), label_too_long);
}

#[test]
fn every_byte_that_no_name_has_is_refused() {
    for byte in 0..=u8::MAX {
        let valid = byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = [b'a', byte, b'b'];
        assert_eq!(HostName::new(&name).is_ok(), valid, "{byte:#x}");
    }
}

#[test]
fn the_first_host_name_counts_even_if_it_is_invalid() {
    let message = Hello::with(&[server_name(&[(0, b"a b"), (0, b"valid.example")])]).message();
    let bytes = records(&message, &[]);
    assert_eq!(
        done(&bytes).0.server_name,
        ServerName::Invalid(NameFault::Character)
    );
}

#[test]
fn faults_have_distinct_texts() {
    let faults = [
        NameFault::Empty,
        NameFault::TooLong,
        NameFault::LabelEmpty,
        NameFault::LabelTooLong,
        NameFault::Nul,
        NameFault::NonAscii,
        NameFault::Character,
        NameFault::Address,
    ];
    let texts: std::collections::BTreeSet<String> =
        faults.iter().map(NameFault::to_string).collect();
    assert_eq!(texts.len(), faults.len());
}
