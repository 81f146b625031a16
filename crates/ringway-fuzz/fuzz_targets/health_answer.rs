//! An answer to a health check comes from a backend that may be broken. Whether it is right does not depend
//! on how it was cut, follows the definition below, and what is kept of it is bounded and printable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_health::{Answer, Check, Excerpt, Judgement, StatusRange};

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (cut, expect, answer) = input;
    let success = StatusRange { from: 200, to: 399 };
    let http = Check::Http {
        request: Vec::new(),
        statuses: vec![success],
    };
    assert_eq!(judged(&http, &answer, cut), http_by_definition(&answer));
    let exchange = Check::Exchange {
        send: Vec::new(),
        expect: expect.clone(),
    };
    let expected = exchange_by_definition(&expect, &answer);
    assert_eq!(judged(&exchange, &answer, cut), expected);
});

/// Whether the answer is right, cut after every `cut` bytes; none while it is not known.
fn judged(check: &Check, answer: &[u8], cut: u8) -> Option<bool> {
    let mut coming = Answer::new(check);
    for piece in answer.chunks(usize::from(cut).max(1)) {
        match coming.feed(piece) {
            Judgement::Open => {}
            Judgement::Right => return Some(true),
            Judgement::Wrong(got) => {
                assert!(got.as_bytes().len() <= Excerpt::BYTES_MAX);
                assert!(answer.starts_with(got.as_bytes()));
                assert!(
                    got.to_string()
                        .bytes()
                        .all(|byte| (b' '..=b'~').contains(&byte))
                );
                return Some(false);
            }
        }
    }
    None
}

/// `HTTP/1.` digit space three digits, then a space or a line end.
fn http_by_definition(answer: &[u8]) -> Option<bool> {
    let fits = |at: usize, byte: u8| match at {
        0..7 => byte == b"HTTP/1."[at],
        7 | 10 | 11 => byte.is_ascii_digit(),
        8 => byte == b' ',
        9 => byte.is_ascii_digit() && byte != b'0',
        _ => b" \r\n".contains(&byte),
    };
    let head = &answer[..answer.len().min(13)];
    if head.iter().enumerate().any(|(at, byte)| !fits(at, *byte)) {
        return Some(false);
    }
    (head.len() == 13).then(|| matches!(head[9], b'2' | b'3'))
}

fn exchange_by_definition(expect: &[u8], answer: &[u8]) -> Option<bool> {
    if answer.is_empty() {
        return None;
    }
    if answer.starts_with(expect) {
        return Some(true);
    }
    (!expect.starts_with(answer)).then_some(false)
}
