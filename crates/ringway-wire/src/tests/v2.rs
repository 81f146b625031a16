//! Version 2: what is valid, and at which byte and for which reason everything else is rejected.

use super::*;
use crate::{
    Checksum, Command, Extensions, PROXY_HEADER_MAX, TlvType, Transport, V2_LENGTH_MAX, write_v2,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const INET: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb";
const INET6: &[u8] =
    b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xdc\x04\x01\xbb";

/// A header from its 13th and 14th byte and its block.
pub(super) fn header(command: u8, family: u8, block: &[&[u8]]) -> Vec<u8> {
    let block = block.concat();
    let length = u16::try_from(block.len())
        .expect("a block fits 16 bits")
        .to_be_bytes();
    [SIGNATURE, &[command, family], &length, &block].concat()
}

/// A header whose checksum was calculated by another implementation.
fn with_checksum() -> Vec<u8> {
    let tlvs = b"\x01\x00\x02h2\x02\x00\x0bexample.com\x05\x00\x03a\0b\x03\x00\x04\xc6\x51\xfe\xb9";
    header(0x21, 0x11, &[INET, tlvs])
}

pub(super) fn valid() -> Vec<Vec<u8>> {
    let unix = [7; 216];
    vec![
        header(0x20, 0x00, &[]),
        header(0x20, 0x11, &[INET]),
        header(0x20, 0xff, &[b"the block of LOCAL is not looked at"]),
        header(0x20, 0x00, &[&[0xff; V2_LENGTH_MAX]]),
        header(0x21, 0x00, &[]),
        header(0x21, 0x00, &[b"nor is that of UNSPEC"]),
        header(0x21, 0x01, &[b"\x01"]),
        header(0x21, 0x10, &[b"\x01"]),
        header(0x21, 0x11, &[INET]),
        header(0x21, 0x12, &[INET]),
        header(0x21, 0x21, &[INET6]),
        header(0x21, 0x22, &[INET6, b"\x04\x00\x00\x04\x00\x01x"]),
        header(0x21, 0x31, &[&unix]),
        header(0x21, 0x32, &[&unix, b"\xea\x00\x03\0\0\0"]),
        header(
            0x21,
            0x11,
            &[INET, b"\x02\x0f\xf1", &[b'a'; V2_LENGTH_MAX - 15]],
        ),
        with_checksum(),
    ]
}

#[test]
fn valid_headers_ask_for_more_at_every_prefix_and_leave_the_payload_alone() {
    valid().iter().for_each(|header| check_valid(header));
}

#[test]
fn the_rest_of_a_header_is_asked_for_exactly() {
    let whole = header(0x21, 0x11, &[INET, b"\x04\x00\x05xxxxx"]);
    for cut in 0..whole.len() {
        let expected = match cut {
            0 => 6,
            1..12 => 12 - cut,
            12..16 => 16 - cut,
            _ => whole.len() - cut,
        };
        assert_eq!(
            parse_proxy(&whole[..cut]),
            Parse::NeedMore { at_least: expected },
            "at {cut}"
        );
    }
}

#[test]
fn addresses_are_read() {
    let shown = |bytes: &[u8]| {
        let header = done(bytes).0;
        assert_eq!(
            (header.version, header.command),
            (ProxyVersion::V2, Command::Proxy)
        );
        match header.addresses {
            Addresses::Inet {
                transport,
                source,
                destination,
            } => {
                format!("{transport:?} {source} {destination}")
            }
            Addresses::Inet6 {
                transport,
                source,
                destination,
            } => {
                format!("{transport:?} {source} {destination}")
            }
            Addresses::Unix {
                transport,
                source,
                destination,
            } => {
                format!("{transport:?} {} {}", source[0], destination[107])
            }
            Addresses::Unspecified => "unspecified".to_owned(),
        }
    };
    assert_eq!(
        shown(&header(0x21, 0x11, &[INET])),
        "Stream 192.0.2.1:56324 198.51.100.7:443"
    );
    assert_eq!(
        shown(&header(0x21, 0x12, &[INET])),
        "Datagram 192.0.2.1:56324 198.51.100.7:443"
    );
    assert_eq!(
        shown(&header(0x21, 0x21, &[INET6])),
        "Stream [2001:db8::1]:56324 [::1]:443"
    );
    assert_eq!(
        shown(&header(0x21, 0x22, &[INET6])),
        "Datagram [2001:db8::1]:56324 [::1]:443"
    );
    let (from, to) = ([1; 108], [2; 108]);
    assert_eq!(shown(&header(0x21, 0x31, &[&from, &to])), "Stream 1 2");
    assert_eq!(shown(&header(0x21, 0x32, &[&from, &to])), "Datagram 1 2");
    for family in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30] {
        assert_eq!(shown(&header(0x21, family, &[INET])), "unspecified");
    }
}

#[test]
fn local_skips_its_block_whatever_it_says() {
    for family in 0..=255 {
        let bytes = header(0x20, family, &[b"\x03\x00\x04junk and more"]);
        let (header, used) = done(&bytes);
        assert_eq!(
            (header.command, header.addresses),
            (Command::Local, Addresses::Unspecified)
        );
        assert!(header.tlvs.is_empty() && used == bytes.len());
    }
}

#[test]
fn tlvs_are_read_in_order_and_by_type() {
    let bytes = with_checksum();
    let tlvs = done(&bytes).0.tlvs;
    let kinds: Vec<TlvType> = tlvs.map(|tlv| tlv.kind).collect();
    let expected = [
        TlvType::ALPN,
        TlvType::AUTHORITY,
        TlvType::UNIQUE_ID,
        TlvType::CRC32C,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(tlvs.value(TlvType::ALPN), Some(&b"h2"[..]));
    assert_eq!(tlvs.value(TlvType::AUTHORITY), Some(&b"example.com"[..]));
    assert_eq!(
        tlvs.value(TlvType::UNIQUE_ID),
        Some(&b"a\0b"[..]),
        "not cut at the NUL"
    );
    assert_eq!(tlvs.value(TlvType::SSL), None);
    let twice = header(0x21, 0x11, &[INET, b"\x02\x00\x01a\x02\x00\x01b"]);
    assert_eq!(
        done(&twice).0.tlvs.value(TlvType::AUTHORITY),
        Some(&b"a"[..]),
        "the first counts"
    );
}

#[test]
fn bytes_behind_the_header_are_no_tlvs() {
    let bytes = [header(0x21, 0x11, &[INET]), b"\x02\x00\x01a".to_vec()].concat();
    let (header, used) = done(&bytes);
    assert!(header.tlvs.is_empty());
    assert_eq!(&bytes[used..], b"\x02\x00\x01a");
}

/// Malformed headers with the place of the byte that gives them away, and the reason.
fn malformed() -> Vec<(Vec<u8>, usize, Reason)> {
    let mut cases = Vec::new();
    for at in 0..SIGNATURE.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = header(0x21, 0x11, &[INET]);
            bytes[at] ^= flip;
            cases.push((bytes, at, Reason::NotProxy));
        }
    }
    for version in (0..=15u8).filter(|&version| version != 2) {
        cases.push((header(version << 4 | 1, 0x11, &[INET]), 12, Reason::Version));
    }
    for command in 2..=15 {
        cases.push((header(0x20 | command, 0x11, &[INET]), 12, Reason::Command));
    }
    for unassigned in 4..=15u8 {
        cases.push((
            header(0x21, unassigned << 4 | 1, &[INET]),
            13,
            Reason::Family,
        ));
    }
    for unassigned in 3..=15 {
        cases.push((header(0x21, 0x10 | unassigned, &[INET]), 13, Reason::Family));
    }
    for (family, size) in [
        (0x11, 12),
        (0x12, 12),
        (0x21, 36),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
    ] {
        for short in 0..size {
            cases.push((
                header(0x21, family, &[&[0; 216][..short]]),
                15,
                Reason::AddressTruncated,
            ));
        }
    }
    cases.extend(too_long());
    cases.extend(bad_tlvs());
    cases
}

fn too_long() -> Vec<(Vec<u8>, usize, Reason)> {
    let lengths = [(0x1001, 15), (0x10ff, 15), (0x1100, 14), (0xffff, 14)];
    let case = |command, (length, at): (u16, usize)| {
        let fixed = [SIGNATURE, &[command, 0x11], &length.to_be_bytes()].concat();
        (fixed, at, Reason::TooLong)
    };
    lengths
        .iter()
        .flat_map(|&length| [case(0x20, length), case(0x21, length)])
        .collect()
}

/// TLVs can be judged only when the whole header is there.
fn bad_tlvs() -> Vec<(Vec<u8>, usize, Reason)> {
    let tlvs: &[(&[u8], Reason)] = &[
        (b"\x04", Reason::TlvTruncated),
        (b"\x04\x00", Reason::TlvTruncated),
        (b"\x04\x00\x01", Reason::TlvTruncated),
        (b"\x04\xff\xff", Reason::TlvTruncated),
        (b"\x04\x00\x04abc", Reason::TlvTruncated),
        (b"\x04\x00\x00\x04", Reason::TlvTruncated),
        (b"\x04\x00\x00\x04\x00", Reason::TlvTruncated),
        (b"\x03\x00\x00", Reason::ChecksumForm),
        (b"\x03\x00\x03abc", Reason::ChecksumForm),
        (b"\x03\x00\x05abcde", Reason::ChecksumForm),
        (b"\x03\x00\x04abcd\x03\x00\x04abcd", Reason::ChecksumForm),
        (b"\x03\x00\x04\0\0\0\0", Reason::ChecksumMismatch),
    ];
    let mut cases = Vec::new();
    for (tlvs, reason) in tlvs {
        for (family, block) in [(0x11, INET), (0x21, INET6), (0x32, &[0; 216])] {
            let bytes = header(0x21, family, &[block, tlvs]);
            cases.push((bytes.clone(), bytes.len() - 1, *reason));
        }
    }
    cases
}

#[test]
fn malformed_headers_are_rejected_at_the_first_impossible_byte() {
    let cases = malformed();
    assert!(cases.len() > 500, "{}", cases.len());
    for (bytes, at, reason) in cases {
        check_rejected(&bytes, at, reason);
    }
}

#[test]
fn a_flipped_bit_anywhere_behind_the_length_breaks_the_checksum() {
    let whole = with_checksum();
    for at in 16..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let parsed = parse_proxy(&bytes);
            // A flip in the type or length of a TLV may hide the checksum or break the chain before it is looked at.
            let is_prefix = [28, 29, 30, 33, 34, 35, 47, 48, 49, 53, 54, 55].contains(&at);
            if is_prefix {
                assert_ne!(parsed, parse_proxy(&whole), "byte {at} bit {bit}");
            } else {
                assert_eq!(
                    parsed,
                    Parse::Reject(Reason::ChecksumMismatch),
                    "byte {at} bit {bit}"
                );
            }
        }
    }
}

fn inet() -> Addresses<'static> {
    let [from, to] =
        ["192.0.2.1:56324", "198.51.100.7:443"].map(|s| s.parse().expect("a socket address"));
    Addresses::from_sockets(Transport::Stream, from, to)
}

#[test]
fn a_header_is_written_as_another_implementation_writes_it() {
    let extensions = Extensions {
        alpn: Some(b"h2"),
        authority: Some(b"example.com"),
        unique_id: Some(b"a\0b"),
        checksum: Checksum::Crc32c,
    };
    let expected = with_checksum();
    let mut out = [0; 100];
    let used = write_v2(Command::Proxy, &inet(), &extensions, &mut out).expect("it fits");
    assert_eq!(out[..used], expected);
    for short in 0..used {
        assert_eq!(
            write_v2(Command::Proxy, &inet(), &extensions, &mut out[..short]),
            None
        );
    }
}

#[test]
fn local_is_written_without_anything() {
    let mut out = [0; 16];
    let extensions = Extensions {
        alpn: Some(b"h2"),
        ..Extensions::default()
    };
    assert_eq!(
        write_v2(Command::Local, &inet(), &extensions, &mut out),
        Some(16)
    );
    assert_eq!(out[..], header(0x20, 0x00, &[]));
}

#[test]
fn what_is_too_long_is_not_written() {
    let mut out = [0; 2 * PROXY_HEADER_MAX];
    let mut authority = |length: usize| {
        let value = vec![b'a'; length];
        let extensions = Extensions {
            authority: Some(&value),
            ..Extensions::default()
        };
        write_v2(Command::Proxy, &inet(), &extensions, &mut out)
    };
    assert_eq!(authority(V2_LENGTH_MAX - 12 - 3), Some(PROXY_HEADER_MAX));
    assert_eq!(authority(V2_LENGTH_MAX - 12 - 2), None);
    assert_eq!(authority(70_000), None);
    let mut unique_id = |length: usize| {
        let value = vec![b'a'; length];
        let extensions = Extensions {
            unique_id: Some(&value),
            ..Extensions::default()
        };
        write_v2(Command::Proxy, &inet(), &extensions, &mut out)
    };
    assert_eq!(unique_id(128), Some(16 + 12 + 3 + 128));
    assert_eq!(unique_id(129), None);
}
