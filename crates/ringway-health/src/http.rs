//! The status of an HTTP/1 answer, byte by byte. Not a parser of anything that follows the status: a check
//! needs to know no more.
//!
//! Invariant: thirteen bytes decide, however they are cut; what follows is never looked at.

/// What every status line begins with; the digit after it is the minor version.
const VERSION: &[u8] = b"HTTP/1.";

/// Where a status line stands.
#[derive(Clone, Debug, Default)]
pub struct StatusLine {
    /// Bytes taken so far.
    taken: usize,
    status: u16,
}

/// What is known after one more byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusStep {
    /// Nothing yet.
    More,
    /// The status; the line goes on with a reason or ends here.
    Status(u16),
    /// This is not HTTP/1.
    NotHttp,
}

impl StatusLine {
    /// Bytes until the status is known.
    pub const BYTES: usize = 13;

    /// A line of which nothing has come.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next byte. After anything but [`StatusStep::More`] give it no more.
    pub fn push(&mut self, byte: u8) -> StatusStep {
        let fits = match self.taken {
            at @ 0..7 => byte == VERSION[at],
            7 | 10 | 11 => byte.is_ascii_digit(),
            8 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            _ => matches!(byte, b' ' | b'\r' | b'\n'),
        };
        if !fits {
            return StatusStep::NotHttp;
        }
        if matches!(self.taken, 9..=11) {
            self.status = self.status * 10 + u16::from(byte - b'0');
        }
        self.taken += 1;
        if self.taken < Self::BYTES {
            StatusStep::More
        } else {
            StatusStep::Status(self.status)
        }
    }
}

/// The request of a check: one that ends the connection after its answer. `path` and `host` are printable
/// ASCII without spaces, which the configuration has seen to.
pub fn http_request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringway\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a whole text, and how many bytes it took.
    fn read(text: &[u8]) -> (StatusStep, usize) {
        let mut line = StatusLine::new();
        for (at, byte) in text.iter().enumerate() {
            let step = line.push(*byte);
            if step != StatusStep::More {
                return (step, at + 1);
            }
        }
        (StatusStep::More, text.len())
    }

    #[test]
    fn statuses_are_read_with_and_without_a_reason() {
        for (text, status) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], 200),
            (b"HTTP/1.0 404 Not Found", 404),
            (b"HTTP/1.1 503\r\n", 503),
            (b"HTTP/1.1 204\n", 204),
            (b"HTTP/1.9 999 \xff", 999),
        ] {
            assert_eq!(read(text), (StatusStep::Status(status), StatusLine::BYTES));
        }
    }

    #[test]
    fn every_beginning_waits_for_more() {
        let text = b"HTTP/1.1 200 OK";
        for cut in 0..StatusLine::BYTES {
            assert_eq!(read(&text[..cut]), (StatusStep::More, cut));
        }
    }

    #[test]
    fn one_wrong_byte_is_told_at_once() {
        for (text, at) in [
            (&b"SSH-2.0-OpenSSH"[..], 1),
            (b"http/1.1 200 OK\r\n", 1),
            (b"\r\nHTTP/1.1 200 OK", 1),
            (b"HTTP/2 200 OK", 6),
            (b"HTTP/1.x 200 OK", 8),
            (b"HTTP/1.10 200 OK", 9),
            (b"HTTP/1.1  200 OK", 10),
            (b"HTTP/1.1 099 No", 10),
            (b"HTTP/1.1 2000 No", 13),
            (b"HTTP/1.1 20\r\n", 12),
        ] {
            let shown = text.escape_ascii();
            assert_eq!(read(text), (StatusStep::NotHttp, at), "{shown}");
        }
    }

    #[test]
    fn a_request_names_its_host_and_ends_its_connection() {
        let expected =
            b"GET /healthz?full=1 HTTP/1.1\r\nHost: api.example:8080\r\nUser-Agent: ringway\r\n\
            Accept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(
            http_request("/healthz?full=1", "api.example:8080"),
            expected
        );
    }
}
