//! The first bytes of a connection come from whoever connects. A header that is accepted is
//! independent of how it was cut and can be written again; one that is rejected stays rejected.
//! Another parser reads the same in it, `proxy-header`.
#![no_main]

#[path = "../../ringway-wire/src/tests/others/proxy_header.rs"]
mod proxy_header;

use libfuzzer_sys::fuzz_target;
use ringway_wire::{
    Extensions, PROXY_HEADER_MAX, Parse, ProxyHeader, ProxyVersion, parse_proxy, write_v1, write_v2,
};

fuzz_target!(|bytes: &[u8]| {
    proxy_header::agree(bytes);
    match parse_proxy(bytes) {
        Parse::Done { value, used } => {
            assert!(0 < used && used <= bytes.len() && used <= PROXY_HEADER_MAX);
            assert_eq!(parse_proxy(&bytes[..used]), Parse::Done { value, used });
            for cut in 0..used {
                let Parse::NeedMore { at_least } = parse_proxy(&bytes[..cut]) else {
                    panic!("cut at {cut}");
                };
                assert!(at_least <= used - cut, "cut at {cut}");
            }
            for tlv in value.tlvs {
                assert!(tlv.value.len() < used);
            }
            written_again(&value);
        }
        Parse::NeedMore { at_least } => {
            assert!(at_least > 0);
            assert!(bytes.len() + at_least <= PROXY_HEADER_MAX);
        }
        Parse::Reject(reason) => {
            let longer = [bytes, b"\r\n"].concat();
            assert_eq!(parse_proxy(&longer), Parse::Reject(reason));
        }
    }
});

fn written_again(header: &ProxyHeader<'_>) {
    let mut out = [0; PROXY_HEADER_MAX];
    let written = match header.version {
        ProxyVersion::V1 => write_v1(&header.addresses, &mut out),
        ProxyVersion::V2 => write_v2(
            header.command,
            &header.addresses,
            &Extensions::default(),
            &mut out,
        ),
    };
    let written = written.expect("a header that was parsed fits");
    let Parse::Done { value, used } = parse_proxy(&out[..written]) else {
        panic!("what was written cannot be parsed");
    };
    assert_eq!(used, written);
    assert_eq!(value.command, header.command);
    assert_eq!(value.addresses, header.addresses);
}
