//! Hellos of any shape, damaged and cut anywhere.

use proptest::prelude::*;
use proptest::sample::Index;

use super::build::{Hello, alpn, extension, records, server_name};
use super::captures::CAPTURES;
use super::malformed::check_rejected_somewhere;
use super::{cases, done};
use crate::tests::others::tls_parser::agree;
use crate::{CLIENT_HELLO_MAX, HelloProgress, Parse, parse_client_hello};

fn bytes(size_max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=size_max)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zA-Z0-9_.-]{0,30}".prop_map(String::into_bytes),
        1 => bytes(300),
    ]
}

fn name_extension() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    proptest::collection::vec((kind, name()), 1..4).prop_map(|names| {
        let names: Vec<(u8, &[u8])> = names
            .iter()
            .map(|(kind, name)| (*kind, &name[..]))
            .collect();
        server_name(&names)
    })
}

fn alpn_extension() -> impl Strategy<Value = Vec<u8>> {
    let protocol = proptest::collection::vec(any::<u8>(), 1..=255);
    proptest::collection::vec(protocol, 1..5)
        .prop_map(|names| alpn(&names.iter().map(|name| &name[..]).collect::<Vec<_>>()))
}

fn any_hello() -> impl Strategy<Value = Hello> {
    // Types that are not assigned: the other parser looks into those it knows.
    let others = proptest::collection::btree_map(100u16..13_000, bytes(60), 0..8);
    let extensions = (
        others,
        proptest::option::of(name_extension()),
        proptest::option::of(alpn_extension()),
    )
        .prop_map(|(others, name, alpn)| {
            let others = others
                .iter()
                .map(|(&kind, content)| extension(kind, content));
            others.chain(name).chain(alpn).collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|extensions| extensions.concat());
    (
        any::<[u8; 2]>(),
        bytes(32),
        proptest::collection::vec(any::<[u8; 2]>(), 1..20),
        proptest::collection::vec(any::<u8>(), 1..4),
        proptest::option::weighted(0.9, extensions),
    )
        .prop_map(
            |(version, session_id, suites, compressions, extensions)| Hello {
                version,
                session_id,
                suites: suites.concat(),
                compressions,
                extensions,
            },
        )
}

/// Where to cut a message into records.
fn cuts() -> impl Strategy<Value = Vec<Index>> {
    proptest::collection::vec(any::<Index>(), 0..6)
}

fn offsets(cuts: &[Index], size: usize) -> Vec<usize> {
    let mut offsets: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(size))
        .filter(|&cut| cut > 0)
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// A hello, captured or generated, with some of its bytes replaced, removed or inserted.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        (any_hello(), cuts()).prop_map(|(hello, cuts)| {
            let message = hello.message();
            records(&message, &offsets(&cuts, message.len()))
        }),
        proptest::sample::select(CAPTURES.iter().map(|c| c.bytes).collect::<Vec<_>>())
            .prop_map(<[u8]>::to_vec),
    ];
    let byte = prop_oneof![
        any::<u8>(),
        proptest::sample::select(vec![0, 1, 2, 22, 3, 0xff])
    ];
    let edits = proptest::collection::vec((0u8..4, any::<Index>(), byte), 0..5);
    (whole, edits).prop_map(|(mut bytes, edits)| {
        for (edit, at, byte) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 | 1 => bytes[at] = byte,
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// Checks what holds for all bytes.
fn check_any(bytes: &[u8]) {
    match parse_client_hello(bytes) {
        Parse::Done { value, used } => {
            assert!(used <= bytes.len() && used <= CLIENT_HELLO_MAX);
            assert_eq!(done(&bytes[..used]), (value, used));
            for cut in 0..used {
                let parsed = parse_client_hello(&bytes[..cut]);
                assert!(
                    matches!(parsed, Parse::NeedMore { at_least } if at_least <= used - cut),
                    "{parsed:?} at {cut}"
                );
            }
            agree(bytes);
        }
        Parse::NeedMore { at_least } => {
            assert!(at_least > 0 && bytes.len() + at_least <= CLIENT_HELLO_MAX);
        }
        Parse::Reject(reason) => assert_eq!(check_rejected_somewhere(bytes), reason),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_hello_is_read_the_same_in_any_records(hello in any_hello(), cuts in cuts()) {
        let message = hello.message();
        let whole = records(&message, &[]);
        prop_assert!(agree(&whole));
        let cut = records(&message, &offsets(&cuts, message.len()));
        prop_assert_eq!(done(&whole).0, done(&cut).0);
        prop_assert_eq!(done(&cut).1, cut.len());
    }

    #[test]
    fn damaged_hellos_are_no_harm(bytes in damaged()) {
        check_any(&bytes);
    }

    #[test]
    fn random_bytes_are_no_harm(bytes in bytes(400), start in 0usize..8) {
        check_any(&bytes);
        let start = &b"\x16\x03\x01\x01\x00\x01\0\0"[..start];
        check_any(&[start, &bytes].concat());
    }

    #[test]
    fn pieces_are_read_as_the_whole(
        bytes in damaged(),
        pieces in proptest::collection::vec(1usize..200, 0..40),
    ) {
        let whole = parse_client_hello(&bytes);
        let mut progress = HelloProgress::default();
        let mut received = 0;
        let mut parsed = progress.parse(&[]);
        for piece in pieces.into_iter().chain([bytes.len()]) {
            received = (received + piece).min(bytes.len());
            parsed = progress.parse(&bytes[..received]);
        }
        match (parsed, whole) {
            // It may wait for as much as the hello claims to have, but for no other answer.
            (Parse::NeedMore { at_least }, Parse::Reject(_) | Parse::NeedMore { .. }) => {
                prop_assert!(received + at_least <= CLIENT_HELLO_MAX);
            }
            (parsed, whole) => prop_assert_eq!(parsed, whole),
        }
    }
}

#[test]
fn every_byte_of_a_small_hello_may_be_wrong() {
    for case in cases() {
        let bytes = records(&case.hello.message(), &[30]);
        if bytes.len() > 400 {
            continue;
        }
        for at in 0..bytes.len() {
            for byte in [0, 1, bytes[at] ^ 1, bytes[at].wrapping_add(1), 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] = byte;
                check_any(&wrong);
            }
        }
    }
}
