//! PROXY headers against another parser and writer: those there are here, damaged ones, and what either one writes.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proxy_header::{ProxiedAddress, Tlv as OtherTlv};

use super::others::proxy_header::agree;
use super::properties::{addresses, bytes, mutated_line};
use super::{v1, v2};
use crate::{
    Addresses, Checksum, Command, Extensions, PROXY_HEADER_MAX, Transport, write_v1, write_v2,
};

#[test]
fn another_parser_accepts_all_but_what_is_skipped_here() {
    let agreed = |(line, _): &(&str, &str)| agree(line.as_bytes());
    assert!(v1::VALID.iter().all(agreed));
    let skipped = |header: &Vec<u8>| {
        let [command, family] = header[12..14] else {
            unreachable!("a slice of two");
        };
        family != 0 && (command == 0x20 || family >> 4 == 0 || family & 15 == 0)
    };
    for header in v2::valid() {
        assert!(agree(&header) || skipped(&header), "{header:02x?}");
    }
}

#[test]
fn a_second_checksum_of_another_length_is_one_too_many_here() {
    let tlvs = b"\x03\x00\x04\0\0\0\0\x03\x00\x00";
    assert!(!agree(&v2::header(0x21, 0x11, &[&[0; 12], tlvs])));
}

/// A valid header of version 2 with a few bytes replaced, which are mostly those that say what the others are.
fn damaged_block() -> impl Strategy<Value = Vec<u8>> {
    let at = prop_oneof![
        2 => (12usize..16).prop_map(Some),
        2 => (28usize..46).prop_map(Some),
        1 => Just(None),
    ];
    let byte = prop_oneof![2 => 0u8..0x33, 1 => any::<u8>()];
    let edits = proptest::collection::vec((at, any::<Index>(), byte), 0..4);
    (select(v2::valid()), edits, bytes(30)).prop_map(|(mut header, edits, payload)| {
        for (at, anywhere, byte) in edits {
            let at = at.unwrap_or_else(|| anywhere.index(header.len()));
            if let Some(place) = header.get_mut(at) {
                *place = byte;
            }
        }
        [header, payload].concat()
    })
}

fn tlv() -> impl Strategy<Value = OtherTlv<'static>> {
    prop_oneof![
        bytes(20).prop_map(|name| OtherTlv::Alpn(name.into())),
        "[a-z.]{0,40}".prop_map(|name| OtherTlv::Authority(name.into())),
        (0usize..9).prop_map(OtherTlv::Noop),
        bytes(128).prop_map(|id| OtherTlv::UniqueId(id.into())),
        (0xe0u8.., bytes(60)).prop_map(|(kind, value)| OtherTlv::Custom(kind, value.into())),
    ]
}

fn for_other(addresses: &Addresses<'_>) -> Option<ProxiedAddress> {
    let (source, destination) = addresses.sockets()?;
    Some(match addresses {
        Addresses::Inet {
            transport: Transport::Datagram,
            ..
        }
        | Addresses::Inet6 {
            transport: Transport::Datagram,
            ..
        } => ProxiedAddress::datagram(source, destination),
        _ => ProxiedAddress::stream(source, destination),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn lines_are_read_alike(line in mutated_line(), cut in any::<Index>()) {
        agree(&line);
        agree(&line[..cut.index(line.len())]);
    }

    #[test]
    fn blocks_are_read_alike(header in damaged_block(), cut in any::<Index>()) {
        agree(&header);
        agree(&header[..cut.index(header.len())]);
    }

    #[test]
    fn the_other_reads_what_is_written_here(
        addresses in addresses(),
        authority in proptest::option::of("[a-z.]{0,40}"),
        alpn in proptest::option::of(bytes(20)),
        with_checksum in any::<bool>(),
    ) {
        let mut out = [0; PROXY_HEADER_MAX];
        let used = write_v1(&addresses, &mut out).expect("it fits");
        prop_assert!(agree(&out[..used]));
        let extensions = Extensions {
            authority: authority.as_deref().map(str::as_bytes),
            alpn: alpn.as_deref(),
            unique_id: None,
            checksum: if with_checksum { Checksum::Crc32c } else { Checksum::Absent },
        };
        for command in [Command::Proxy, Command::Local] {
            let used = write_v2(command, &addresses, &extensions, &mut out).expect("it fits");
            prop_assert!(agree(&out[..used]));
        }
    }

    #[test]
    fn what_the_other_writes_is_read_here(
        addresses in addresses(),
        tlvs in proptest::collection::vec(tlv(), 0..5),
    ) {
        let mut out = Vec::new();
        let header = proxy_header::ProxyHeader::with_tlvs(for_other(&addresses), tlvs);
        header.encode_v2(&mut out).expect("one family");
        prop_assert!(agree(&out));
        let bare = proxy_header::ProxyHeader::with_tlvs(for_other(&addresses), []);
        let mut line = Vec::new();
        if bare.encode_v1(&mut line).is_ok() {
            prop_assert!(agree(&line));
        }
    }
}
