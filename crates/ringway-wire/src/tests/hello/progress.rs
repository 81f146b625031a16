//! Parsing again as more is received: the same answers, in bounded work.

use super::{Hello, alpn, cases, padding, records, server_name};
use crate::{HelloProgress, Parse, Reason, parse_client_hello};

/// Feeds pieces of this size; the answer, and how often the bytes were looked at.
fn feed(bytes: &[u8], piece_size: usize) -> (Parse<crate::ClientHello<'_>>, usize) {
    let mut progress = HelloProgress::default();
    let mut looks = 0;
    let mut received = 0;
    loop {
        received = (received + piece_size).min(bytes.len());
        looks += usize::from(received >= progress.parse_at);
        match progress.parse(&bytes[..received]) {
            Parse::NeedMore { at_least } => {
                assert!(at_least > 0 && received < bytes.len());
            }
            answer => return (answer, looks),
        }
    }
}

#[test]
fn answers_are_those_of_parsing_at_once() {
    for case in cases() {
        let bytes = records(&case.hello.message(), &[]);
        for piece_size in [1, 2, 61, 1448, 100_000] {
            assert_eq!(feed(&bytes, piece_size).0, parse_client_hello(&bytes));
        }
    }
}

#[test]
fn single_bytes_are_not_read_again_each_time() {
    let hello = |size| Hello::with(&[padding(size), server_name(&[(0, b"a.example")])]);
    let bytes = records(&hello(60_000).message(), &[]);
    let (answer, looks) = feed(&bytes, 1);
    assert!(matches!(answer, Parse::Done { .. }));
    // 64 at the start, then at 128, 256 and so on up to 32,768, then at the end.
    assert!(looks <= 64 + 9 + 1, "{looks}");

    // Records of a byte each: what is missing is told too low each time, by the headers still to come.
    let message = hello(10_000).message();
    let cuts: Vec<usize> = (1..message.len()).collect();
    let bytes = records(&message, &cuts);
    let (answer, looks) = feed(&bytes, 1);
    assert!(matches!(answer, Parse::Done { .. }));
    assert!(looks <= 64 + 70, "{looks}");
}

#[test]
fn what_is_not_tls_is_rejected_at_its_first_byte() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(feed(bytes, 1), (Parse::Reject(Reason::NotTls), 1));
    }
    assert_eq!(feed(b"\x16\x04\x01", 1), (Parse::Reject(Reason::NotTls), 2));
}

#[test]
fn a_rejection_inside_a_hello_comes_when_twice_as_much_is_there() {
    let mut message = Hello::with(&[padding(10), alpn(&[b"h2"]), padding(1_000)]).message();
    let place = message.len() - 1_004 - 3;
    message[place] = 0xff;
    let bytes = records(&message, &[]);
    let mut progress = HelloProgress::default();
    let first_rejected = |progress: &mut HelloProgress| {
        (1..=bytes.len())
            .find(|&size| matches!(progress.parse(&bytes[..size]), Parse::Reject(_)))
            .expect("a length does not fit")
    };
    assert!((65..128).contains(&(5 + place + 1)));
    assert_eq!(first_rejected(&mut progress), 128);
}

#[test]
fn fewer_bytes_than_before_are_no_harm() {
    let bytes = records(&Hello::with(&[padding(500)]).message(), &[]);
    let mut progress = HelloProgress::default();
    assert!(matches!(
        progress.parse(&bytes[..100]),
        Parse::NeedMore { .. }
    ));
    assert_eq!(
        progress.parse(&bytes[..0]),
        Parse::NeedMore {
            at_least: bytes.len()
        }
    );
}
