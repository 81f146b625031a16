//! Properties over generated input: round trips, agreement with a naive parser, and that nothing panics.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;

use super::v1::VALID;
use super::v2::header;
use super::*;
use crate::{
    Checksum, Command, Extensions, PROXY_HEADER_MAX, TlvType, Transport, V1_LINE_MAX, parse_v1,
    write_v1, write_v2,
};

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Stream), Just(Transport::Datagram)]
}

/// IPv6 addresses with runs of zeroes, mapped ones included.
fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
    let group = prop_oneof![3 => Just(0u16), 1 => Just(0xffff), 3 => any::<u16>()];
    prop_oneof![
        5 => proptest::array::uniform8(group).prop_map(Ipv6Addr::from),
        1 => any::<Ipv4Addr>().prop_map(|address| address.to_ipv6_mapped()),
    ]
}

pub(super) fn addresses() -> impl Strategy<Value = Addresses<'static>> {
    let inet =
        || (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(a, port)| SocketAddrV4::new(a, port));
    let inet6 = || (ipv6(), any::<u16>()).prop_map(|(a, port)| SocketAddrV6::new(a, port, 0, 0));
    prop_oneof![
        1 => Just(Addresses::Unspecified),
        4 => (transport(), inet(), inet()).prop_map(|(transport, source, destination)| {
            Addresses::Inet { transport, source, destination }
        }),
        4 => (transport(), inet6(), inet6()).prop_map(|(transport, source, destination)| {
            Addresses::Inet6 { transport, source, destination }
        }),
    ]
}

pub(super) fn bytes(length_max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=length_max)
}

/// A line cut into its parts and left to the standard library: slow, not incremental, and nothing like the parser.
fn naive_v1(line: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let text = line.strip_suffix(b"\r\n")?.strip_prefix(b"PROXY ")?;
    if line.len() > V1_LINE_MAX || text.iter().any(|byte| b"\r\n".contains(byte)) {
        return None;
    }
    if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        return Some(None);
    }
    let parts: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
    let [protocol, from, to, from_port, to_port] = parts[..] else {
        return None;
    };
    let socket = |address: &str, port: &str| -> Option<SocketAddr> {
        let number: u16 = port
            .parse()
            .ok()
            .filter(|number: &u16| number.to_string() == port)?;
        match protocol {
            "TCP4" => Some((address.parse::<Ipv4Addr>().ok()?, number).into()),
            "TCP6" => Some((address.parse::<Ipv6Addr>().ok()?, number).into()),
            _ => None,
        }
    };
    Some(Some((socket(from, from_port)?, socket(to, to_port)?)))
}

/// A valid line with a few bytes replaced, inserted, removed or doubled.
pub(super) fn mutated_line() -> impl Strategy<Value = Vec<u8>> {
    let alphabet = proptest::sample::select(b"0123456789abcdefFg:.: \r\nTCPUNKWO46\0\xff".to_vec());
    let edits = proptest::collection::vec((0u8..4, any::<prop::sample::Index>(), alphabet), 0..4);
    (proptest::sample::select(VALID), edits).prop_map(|((line, _), edits)| {
        let mut line = line.as_bytes().to_vec();
        for (edit, at, byte) in edits {
            let at = at.index(line.len());
            match edit {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                2 => drop(line.remove(at)),
                _ => line.insert(at, line[at]),
            }
        }
        line
    })
}

/// All valid headers, and what no further bytes can undo: a rejected prefix stays rejected, a complete one complete.
fn check_monotone(bytes: &[u8]) {
    let mut last = parse_proxy(&bytes[..0]);
    for end in 1..=bytes.len() {
        let parsed = parse_proxy(&bytes[..end]);
        match last {
            Parse::NeedMore { at_least } => {
                assert!(at_least > 0);
                let done_too_early = matches!(parsed, Parse::Done { .. }) && at_least > 1;
                assert!(
                    !done_too_early,
                    "asked for {at_least} bytes, one was enough"
                );
            }
            Parse::Done { .. } | Parse::Reject(_) => assert_eq!(parsed, last),
        }
        if let Parse::Done { used, .. } = parsed {
            assert!(used <= end && used <= PROXY_HEADER_MAX);
        }
        last = parsed;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn v1_agrees_with_a_naive_parser(line in mutated_line()) {
        let parsed = match parse_proxy(&line) {
            Parse::Done { value, used } if used == line.len() => Some(value.addresses.sockets()),
            Parse::Done { used, .. } => {
                // A mutation may end the line early: then the shorter line must be valid.
                prop_assert!(naive_v1(&line[..used]).is_some());
                None
            }
            Parse::NeedMore { .. } | Parse::Reject(_) => None,
        };
        prop_assert_eq!(parsed, naive_v1(&line), "{}", line.escape_ascii());
    }

    #[test]
    fn v1_that_asks_for_more_can_be_completed(line in mutated_line(), cut in any::<prop::sample::Index>()) {
        // Near the bound on the length a valid end may not fit any more.
        let prefix = &line[..cut.index(line.len().min(60))];
        if let Parse::NeedMore { at_least } = parse_v1(prefix) {
            let endings = VALID.iter().flat_map(|(line, _)| (0..line.len()).map(|at| &line.as_bytes()[at..]));
            let completed = endings.chain([&b" 1 2\r\n"[..], b"::1 ::1 1 2\r\n", b".1 1.1.1.1 1 2\r\n"]).any(|ending| {
                let whole = [prefix, ending].concat();
                let is_done = matches!(parse_v1(&whole), Parse::Done { used, .. } if used == whole.len());
                assert!(!is_done || ending.len() >= at_least, "asked for {at_least}");
                is_done
            });
            prop_assert!(completed, "{}", prefix.escape_ascii());
        }
    }

    #[test]
    fn v1_round_trip(addresses in addresses(), payload in bytes(40)) {
        let mut out = [0; V1_LINE_MAX];
        let used = write_v1(&addresses, &mut out).expect("the buffer holds every line");
        prop_assert!(out[..used].ends_with(b"\r\n"));
        let stream = [&out[..used], &payload].concat();
        let (header, read) = done(&stream);
        prop_assert_eq!(read, used);
        match addresses {
            Addresses::Inet { transport: Transport::Stream, .. }
            | Addresses::Inet6 { transport: Transport::Stream, .. } => {
                prop_assert_eq!(header.addresses, addresses);
            }
            _ => prop_assert_eq!(header.addresses, Addresses::Unspecified),
        }
    }

    #[test]
    fn v2_round_trip(
        addresses in addresses(),
        authority in proptest::option::of(bytes(300)),
        alpn in proptest::option::of(bytes(20)),
        unique_id in proptest::option::of(bytes(128)),
        with_checksum in any::<bool>(),
        payload in bytes(40),
    ) {
        let checksum = if with_checksum { Checksum::Crc32c } else { Checksum::Absent };
        let (authority, alpn) = (authority.as_deref(), alpn.as_deref());
        let extensions = Extensions { authority, alpn, unique_id: unique_id.as_deref(), checksum };
        let mut out = [0; PROXY_HEADER_MAX];
        let used = write_v2(Command::Proxy, &addresses, &extensions, &mut out).expect("it fits");
        let stream = [&out[..used], &payload].concat();
        let (header, read) = done(&stream);
        prop_assert_eq!((read, header.command, header.addresses), (used, Command::Proxy, addresses));
        if addresses != Addresses::Unspecified {
            prop_assert_eq!(header.tlvs.value(TlvType::AUTHORITY), authority);
            prop_assert_eq!(header.tlvs.value(TlvType::ALPN), alpn);
            prop_assert_eq!(header.tlvs.value(TlvType::UNIQUE_ID), unique_id.as_deref());
            prop_assert_eq!(header.tlvs.value(TlvType::CRC32C).is_some(), with_checksum);
        }
        check_monotone(&stream);
    }

    #[test]
    fn unix_paths_round_trip(from in any::<u8>(), to in any::<u8>(), transport in transport()) {
        let (source, destination) = (&[from; 108], &[to; 108]);
        let addresses = Addresses::Unix { transport, source, destination };
        let mut out = [0; 232];
        let written = write_v2(Command::Proxy, &addresses, &Extensions::default(), &mut out);
        prop_assert_eq!(written, Some(232));
        prop_assert_eq!(done(&out).0.addresses, addresses);
    }

    #[test]
    fn mutated_lines_behave_at_every_prefix(line in mutated_line()) {
        check_monotone(&line);
    }

    #[test]
    fn random_bytes_behave_at_every_prefix(bytes in bytes(200), start in 0usize..4) {
        let starts: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP6 ", b"\r\n\r\n\0\r\nQUIT\n"];
        check_monotone(&[starts[start], &bytes].concat());
    }

    #[test]
    fn random_blocks_behave_at_every_prefix(
        command in 0x20u8..0x23,
        family in prop_oneof![any::<u8>(), Just(0x11), Just(0x21), Just(0x31)],
        block in bytes(300),
    ) {
        check_monotone(&header(command, family, &[&block]));
    }

    #[test]
    fn random_tlvs_behave_at_every_prefix(
        kinds in proptest::collection::vec((0u8..6, 0u16..8), 0..6),
        rest in bytes(4),
    ) {
        let tlvs = kinds.iter().flat_map(|&(kind, length)| {
            let value = vec![0; usize::from(length)];
            [vec![kind], length.to_be_bytes().to_vec(), value].concat()
        });
        let block: Vec<u8> = [0; 12].into_iter().chain(tlvs).chain(rest.clone()).collect();
        let bytes = header(0x21, 0x11, &[&block]);
        check_monotone(&bytes);
        if let Parse::Done { value, .. } = parse_proxy(&bytes) {
            let size: usize = value.tlvs.map(|tlv| 3 + tlv.value.len()).sum();
            prop_assert_eq!(size, block.len() - 12, "the vectors fill what follows the addresses");
        }
    }
}
