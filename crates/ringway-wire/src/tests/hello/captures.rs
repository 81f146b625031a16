//! What real clients sent. How the captures were made is told beside them, in `tests/captures/README.md`.

use super::{done, host, protocols};
use crate::{HelloProgress, NameFault, Parse, ServerName, parse_client_hello};

pub(super) struct Capture {
    pub(super) client: &'static str,
    pub(super) bytes: &'static [u8],
    server_name: Result<&'static str, ServerName>,
    alpn: &'static [&'static str],
}

macro_rules! capture {
    ($client:literal, $server_name:expr, $alpn:expr) => {
        Capture {
            client: $client,
            bytes: include_bytes!(concat!("../../../tests/captures/", $client, ".bin")),
            server_name: $server_name,
            alpn: $alpn,
        }
    };
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const WWW: Result<&str, ServerName> = Ok("www.example.com");
const SHOP: Result<&str, ServerName> = Ok("shop.example.net");
const NONE: Result<&str, ServerName> = Err(ServerName::Absent);
const ADDRESS: Result<&str, ServerName> = Err(ServerName::Invalid(NameFault::Address));
const A60: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com";

pub(super) const CAPTURES: &[Capture] = &[
    capture!("openssl_tls13_x25519", WWW, BOTH),
    capture!("openssl_tls13_p521", WWW, BOTH),
    capture!("openssl_tls12_p256", WWW, BOTH),
    capture!("openssl_default", Ok("mixed-case.example.com"), BOTH),
    capture!("openssl_no_name", NONE, &[]),
    capture!("openssl_address_as_name", ADDRESS, &[]),
    capture!(
        "openssl_many_records",
        Ok(A60),
        &["h2", "http/1.1", "x", "y", "z", "w"]
    ),
    capture!("openssl_tls10", NONE, &[]),
    capture!("curl_default", SHOP, BOTH),
    capture!("curl_tls12_http1", SHOP, &["http/1.1"]),
    capture!("curl_p384_no_alpn", SHOP, &[]),
    capture!("curl_to_an_address", NONE, BOTH),
    capture!("impersonated_chrome", SHOP, BOTH),
    capture!("impersonated_chrome99_android", SHOP, BOTH),
    capture!("impersonated_firefox", SHOP, BOTH),
    capture!("impersonated_safari", SHOP, BOTH),
    capture!("impersonated_tor145", SHOP, BOTH),
    capture!("node_tls13", Ok("node.example.org"), &["h2"]),
    capture!("java17", Ok("java.example.org"), BOTH),
];

#[test]
fn hellos_of_real_clients_are_read() {
    for capture in CAPTURES {
        let (hello, used) = done(capture.bytes);
        let expected = capture.server_name.map_or_else(|other| other, host);
        assert_eq!(hello.server_name, expected, "{}", capture.client);
        assert_eq!(used, capture.bytes.len(), "{}", capture.client);
        let mut offered = protocols(&hello);
        // Four of the protocols of one capture are a letter, 200 times.
        offered
            .iter_mut()
            .filter(|name| name.len() == 200)
            .for_each(|name| name.truncate(1));
        let expected: Vec<&[u8]> = capture.alpn.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(offered, expected, "{}", capture.client);
    }
}

#[test]
fn hellos_of_real_clients_are_read_in_any_pieces() {
    for capture in CAPTURES {
        let whole = parse_client_hello(capture.bytes);
        let mut progress = HelloProgress::default();
        for cut in 0..capture.bytes.len() {
            let start = &capture.bytes[..cut];
            for parsed in [parse_client_hello(start), progress.parse(start)] {
                assert!(
                    matches!(parsed, Parse::NeedMore { at_least } if cut + at_least <= capture.bytes.len()),
                    "{} cut at {cut}: {parsed:?}",
                    capture.client
                );
            }
        }
        assert_eq!(progress.parse(capture.bytes), whole);
    }
}
