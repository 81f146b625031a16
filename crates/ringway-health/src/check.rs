//! What a probe asks of a backend, and whether an answer is the right one. It has no socket: bytes come as
//! they were received.
//!
//! Invariant: the judgement of an answer does not depend on how it was cut into pieces, and it comes with the
//! first byte that decides it.

use crate::failure::Excerpt;
use crate::http::{StatusLine, StatusStep};

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Connects, and that is all.
    Connect,
    /// Sends an HTTP/1 request and looks at the status of the first answer.
    Http {
        /// The whole request; see [`http_request`](crate::http_request).
        request: Vec<u8>,
        /// The statuses that are a success.
        statuses: Vec<StatusRange>,
    },
    /// Sends some bytes and looks at what comes back.
    Exchange {
        /// Sent at once; if empty, the backend speaks first.
        send: Vec<u8>,
        /// What the answer must begin with; if empty, any byte will do.
        expect: Vec<u8>,
    },
}

/// HTTP statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl StatusRange {
    /// Whether the status is one of them.
    pub const fn contains(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }
}

impl Check {
    /// What is sent once the connection is made.
    pub fn request(&self) -> &[u8] {
        match self {
            Self::Connect => &[],
            Self::Http { request, .. } => request,
            Self::Exchange { send, .. } => send,
        }
    }
}

/// What is known of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not enough of it has come.
    Open,
    /// It is the right one.
    Right,
    /// It is not, and begins like this.
    Wrong(Excerpt),
}

/// An answer that is coming in.
#[derive(Clone, Debug)]
pub struct Answer<'c> {
    check: &'c Check,
    got: Excerpt,
    status_line: StatusLine,
    /// How many of the expected bytes have come.
    matched: usize,
}

impl<'c> Answer<'c> {
    /// An answer to this check, of which nothing has come.
    pub fn new(check: &'c Check) -> Self {
        Self {
            check,
            got: Excerpt::of(&[]),
            status_line: StatusLine::new(),
            matched: 0,
        }
    }

    /// What is known while nothing more comes: a mere connection needs no answer.
    pub fn outset(&self) -> Judgement {
        match self.check {
            Check::Connect => Judgement::Right,
            Check::Http { .. } | Check::Exchange { .. } => Judgement::Open,
        }
    }

    /// Takes the next bytes. After anything but [`Judgement::Open`] give it no more.
    pub fn feed(&mut self, bytes: &[u8]) -> Judgement {
        self.got.extend(bytes);
        let is_right = match self.check {
            Check::Connect => Some(true),
            Check::Http { statuses, .. } => feed_status(&mut self.status_line, statuses, bytes),
            Check::Exchange { expect, .. } => feed_expected(&mut self.matched, expect, bytes),
        };
        match is_right {
            None => Judgement::Open,
            Some(true) => Judgement::Right,
            Some(false) => Judgement::Wrong(self.got),
        }
    }
}

fn feed_status(line: &mut StatusLine, statuses: &[StatusRange], bytes: &[u8]) -> Option<bool> {
    for byte in bytes {
        match line.push(*byte) {
            StatusStep::More => {}
            StatusStep::Status(status) => {
                return Some(statuses.iter().any(|range| range.contains(status)));
            }
            StatusStep::NotHttp => return Some(false),
        }
    }
    None
}

fn feed_expected(matched: &mut usize, expect: &[u8], bytes: &[u8]) -> Option<bool> {
    for byte in bytes {
        let Some(expected) = expect.get(*matched) else {
            return Some(true);
        };
        if byte != expected {
            return Some(false);
        }
        *matched += 1;
    }
    let is_complete = !bytes.is_empty() && *matched == expect.len();
    is_complete.then_some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http(statuses: &[(u16, u16)]) -> Check {
        let range = |&(from, to): &(u16, u16)| StatusRange { from, to };
        Check::Http {
            request: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            statuses: statuses.iter().map(range).collect(),
        }
    }

    fn exchange(send: &[u8], expect: &[u8]) -> Check {
        Check::Exchange {
            send: send.to_vec(),
            expect: expect.to_vec(),
        }
    }

    /// The judgement of an answer in pieces, as far as it takes it.
    fn judge<'a>(check: &Check, pieces: impl IntoIterator<Item = &'a [u8]>) -> Judgement {
        let mut answer = Answer::new(check);
        let mut known = answer.outset();
        for piece in pieces {
            if known != Judgement::Open {
                break;
            }
            known = answer.feed(piece);
        }
        known
    }

    fn whole(check: &Check, answer: &[u8]) -> Judgement {
        judge(check, [answer])
    }

    fn wrong(answer: &[u8]) -> Judgement {
        Judgement::Wrong(Excerpt::of(answer))
    }

    #[test]
    fn a_connection_needs_no_answer() {
        assert_eq!(judge(&Check::Connect, []), Judgement::Right);
        assert_eq!(Check::Connect.request(), b"");
    }

    #[test]
    fn a_status_counts_if_it_is_in_one_of_the_ranges() {
        let check = http(&[(204, 204), (300, 399)]);
        let answer = |status: u16| format!("HTTP/1.1 {status} Some\r\nA: b\r\n\r\n").into_bytes();
        for (status, is_right) in [
            (203, false),
            (204, true),
            (205, false),
            (299, false),
            (300, true),
            (399, true),
            (400, false),
            (100, false),
        ] {
            let answer = answer(status);
            let expected = if is_right {
                Judgement::Right
            } else {
                wrong(&answer)
            };
            assert_eq!(whole(&check, &answer), expected, "{status}");
        }
        assert_eq!(whole(&check, b"+PONG\r\n"), wrong(b"+PONG\r\n"));
        assert_eq!(whole(&check, b"HTTP/1.1 20"), Judgement::Open);
    }

    #[test]
    fn an_exchange_expects_a_beginning() {
        let check = exchange(b"PING\r\n", b"+PONG");
        assert_eq!(check.request(), b"PING\r\n");
        for (answer, expected) in [
            (&b""[..], Judgement::Open),
            (b"+PON", Judgement::Open),
            (b"+PONG", Judgement::Right),
            (b"+PONG\r\nand more", Judgement::Right),
            (b"-ERR", wrong(b"-ERR")),
            (b"+PONX", wrong(b"+PONX")),
        ] {
            assert_eq!(whole(&check, answer), expected, "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn where_nothing_is_expected_any_byte_will_do() {
        let check = exchange(b"", b"");
        assert_eq!(whole(&check, b""), Judgement::Open);
        assert_eq!(whole(&check, b"\0"), Judgement::Right);
        assert_eq!(whole(&check, b"SSH-2.0"), Judgement::Right);
    }

    /// Answers that begin right, go wrong anywhere, or are anything.
    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let near = |text: &'static [u8]| {
            (0..text.len(), any::<u8>(), 0..3u8).prop_map(move |(at, byte, kind)| {
                let mut answer = text.to_vec();
                match kind {
                    0 => answer[at] = byte,
                    1 => answer.truncate(at),
                    _ => {}
                }
                answer
            })
        };
        prop_oneof![
            near(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            near(b"HTTP/1.0 503 Service Unavailable\r\n\r\n"),
            near(b"+PONG\r\n"),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        /// What was got may be longer where the piece that decides is; who is right may not differ.
        #[test]
        fn the_cut_does_not_matter(
            answer in answers(),
            cuts in prop::collection::vec(0usize..60, 0..8),
            is_http in any::<bool>(),
        ) {
            let check = if is_http { http(&[(200, 399)]) } else { exchange(b"", b"+PONG") };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (answer.len() + 1)).collect();
            cuts.extend([0, answer.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &answer[pair[0]..pair[1]]);
            match (judge(&check, pieces), whole(&check, &answer)) {
                (Judgement::Wrong(in_pieces), Judgement::Wrong(_)) => {
                    prop_assert!(answer.starts_with(in_pieces.as_bytes()));
                }
                (in_pieces, at_once) => prop_assert_eq!(in_pieces, at_once),
            }
        }
    }
}
