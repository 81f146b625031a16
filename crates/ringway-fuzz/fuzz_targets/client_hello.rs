//! A hello comes from whoever connects. One that is accepted is independent of how it was cut into segments and into
//! records; one that is rejected stays rejected, and another byte in its place would not have been.
//! Another parser reads the same in it, `tls-parser`.
#![no_main]

#[path = "../../ringway-wire/src/tests/others/tls_parser.rs"]
mod tls_parser;

use libfuzzer_sys::fuzz_target;
use ringway_wire::{
    CLIENT_HELLO_MAX, ClientHello, HelloProgress, HostName, Parse, ServerName, parse_client_hello,
};

fuzz_target!(|bytes: &[u8]| {
    tls_parser::agree(bytes);
    let parsed = parse_client_hello(bytes);
    match parsed {
        Parse::Done { value, used } => {
            assert!(used <= bytes.len() && used <= CLIENT_HELLO_MAX);
            assert_eq!(parse_client_hello(&bytes[..used]), parsed);
            for cut in 0..used {
                let Parse::NeedMore { at_least } = parse_client_hello(&bytes[..cut]) else {
                    panic!("cut at {cut}");
                };
                assert!(0 < at_least && at_least <= used - cut, "cut at {cut}");
            }
            in_other_records(&value, &bytes[..used]);
            normal(&value);
        }
        Parse::NeedMore { at_least } => {
            assert!(at_least > 0);
            assert!(bytes.len() + at_least <= CLIENT_HELLO_MAX);
        }
        Parse::Reject(_) => first_impossible(bytes),
    }
    let mut progress = HelloProgress::default();
    for size in 0..bytes.len() {
        if let Parse::Done { .. } = progress.parse(&bytes[..size]) {
            assert!(matches!(parsed, Parse::Done { used, .. } if used == size));
            return;
        }
    }
    if let Parse::Done { .. } = parsed {
        assert_eq!(progress.parse(bytes), parsed);
    }
});

/// The same message in records of seven bytes, if they fit.
fn in_other_records(value: &ClientHello<'_>, mut bytes: &[u8]) {
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        message.extend(&rest[..size]);
        bytes = &rest[size..];
    }
    assert!(bytes.is_empty());
    let records: Vec<u8> = message
        .chunks(7)
        .flat_map(|fragment| [&[22, 3, 3, 0, fragment.len() as u8], fragment].concat())
        .collect();
    if records.len() <= CLIENT_HELLO_MAX {
        let used = records.len();
        assert_eq!(
            parse_client_hello(&records),
            Parse::Done {
                value: *value,
                used
            }
        );
    }
}

fn normal(value: &ClientHello<'_>) {
    if let ServerName::Host(name) = value.server_name {
        assert_eq!(HostName::new(name.as_bytes()), Ok(name));
        assert_eq!(name.as_str().to_ascii_lowercase(), name.as_str());
        assert!(!name.as_str().is_empty() && !name.as_str().ends_with('.'));
    }
    for protocol in value.alpn {
        assert!(!protocol.as_bytes().is_empty());
    }
}

fn first_impossible(bytes: &[u8]) {
    let parsed = parse_client_hello(bytes);
    let rejected = |size: usize| matches!(parse_client_hello(&bytes[..size]), Parse::Reject(_));
    let size = (1..=bytes.len())
        .find(|&size| rejected(size))
        .expect("the whole is rejected");
    assert_eq!(parse_client_hello(&bytes[..size]), parsed, "another reason");
    let mut other = bytes[..size].to_vec();
    let possible = (0..=u8::MAX).any(|byte| {
        other[size - 1] = byte;
        !matches!(parse_client_hello(&other), Parse::Reject(_))
    });
    assert!(possible, "nothing can follow the first {} bytes", size - 1);
}
