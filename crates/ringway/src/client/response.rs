//! Reading an HTTP/1.1 answer (RFC 9112). Not the connection it comes over. Invariant: nothing a
//! server sends makes this panic, or keep more than the limits here and the caller's.

use std::fmt;
use std::io::{self, BufRead, Read};

/// Longest status line, header line or chunk size line, in bytes.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Most header lines, and most trailer lines.
const LINES_MAX: usize = 128;
/// Longest part of a text answer that becomes part of an error message, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// What came with it.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Reads one answer; `body_bytes_max` bounds its body.
    pub(crate) fn read(
        from: &mut impl BufRead,
        body_bytes_max: usize,
    ) -> Result<Response, MalformedResponse> {
        let status = status(&line(from)?)?;
        let body = match framing(from)? {
            Framing::Length(length) if length > body_bytes_max as u64 => {
                return Err(MalformedResponse::TooLong);
            }
            Framing::Length(length) => {
                let mut body = Vec::new();
                take(from, length, &mut body)?;
                body
            }
            Framing::Chunked => chunked(from, body_bytes_max)?,
            Framing::UntilClose => {
                let mut body = Vec::new();
                from.take(body_bytes_max as u64 + 1)
                    .read_to_end(&mut body)?;
                if body.len() > body_bytes_max {
                    return Err(MalformedResponse::TooLong);
                }
                body
            }
        };
        Ok(Response { status, body })
    }

    /// Why the server says no, as far as it says: the `error` of a JSON answer, or its text.
    pub(crate) fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let error = serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|json| json["error"].as_str().map(str::to_owned));
        // A text from elsewhere must not steer the terminal.
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let reason = error.unwrap_or_else(|| text.trim().to_owned());
        match reason
            .chars()
            .take(REASON_CHARS_MAX)
            .map(shown)
            .collect::<String>()
        {
            empty if empty.is_empty() => "no reason given".to_owned(),
            reason => reason,
        }
    }
}

/// What came is not an answer.
#[derive(Debug)]
pub(crate) enum MalformedResponse {
    /// The connection failed, ended early or stalled.
    Io(io::Error),
    /// Not what HTTP says should stand there.
    NotHttp(&'static str),
    /// More than is kept.
    TooLong,
}

impl fmt::Display for MalformedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A read timeout of a socket is EAGAIN (socket(7), SO_RCVTIMEO), and its text misleads.
            MalformedResponse::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                write!(f, "it accepts connections and does not answer")
            }
            MalformedResponse::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the connection ended before the answer did")
            }
            MalformedResponse::Io(error) => write!(f, "{error}"),
            MalformedResponse::NotHttp(what) => write!(f, "{what}"),
            MalformedResponse::TooLong => write!(f, "the answer is too long"),
        }
    }
}

impl std::error::Error for MalformedResponse {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MalformedResponse::Io(error) => Some(error),
            MalformedResponse::NotHttp(_) | MalformedResponse::TooLong => None,
        }
    }
}

impl From<io::Error> for MalformedResponse {
    fn from(error: io::Error) -> MalformedResponse {
        MalformedResponse::Io(error)
    }
}

/// How the end of the body is found (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// `HTTP/1.1 200 OK` (RFC 9112, 4).
fn status(line: &str) -> Result<u16, MalformedResponse> {
    let rest = line
        .strip_prefix("HTTP/1.")
        .ok_or(MalformedResponse::NotHttp("it does not answer in HTTP/1.1"))?;
    rest.split_ascii_whitespace()
        .nth(1)
        .filter(|code| code.len() == 3)
        .and_then(|code| code.parse().ok())
        .ok_or(MalformedResponse::NotHttp("its answer has no status"))
}

fn framing(from: &mut impl BufRead) -> Result<Framing, MalformedResponse> {
    let mut framing = Framing::UntilClose;
    for _ in 0..LINES_MAX {
        let line = line(from)?;
        if line.is_empty() {
            return Ok(framing);
        }
        let (name, value) = line.split_once(':').ok_or(MalformedResponse::NotHttp(
            "its answer has a line that is no header",
        ))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(MalformedResponse::NotHttp(
                    "its answer has an unknown encoding",
                ));
            }
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            let length = value
                .parse()
                .map_err(|_| MalformedResponse::NotHttp("its answer has a length that is none"))?;
            framing = Framing::Length(length);
        }
    }
    Err(MalformedResponse::NotHttp(
        "its answer has too many headers",
    ))
}

/// The chunked coding (RFC 9112, 7.1).
fn chunked(from: &mut impl BufRead, body_bytes_max: usize) -> Result<Vec<u8>, MalformedResponse> {
    let mut body = Vec::new();
    loop {
        let head = line(from)?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| MalformedResponse::NotHttp("its answer has a chunk without a size"))?;
        if size == 0 {
            break;
        }
        if size > (body_bytes_max - body.len()) as u64 {
            return Err(MalformedResponse::TooLong);
        }
        take(from, size, &mut body)?;
        if !line(from)?.is_empty() {
            return Err(MalformedResponse::NotHttp(
                "its answer has a chunk without an end",
            ));
        }
    }
    for _ in 0..LINES_MAX {
        if line(from)?.is_empty() {
            return Ok(body);
        }
    }
    Err(MalformedResponse::NotHttp(
        "its answer has too many trailers",
    ))
}

/// Exactly `length` bytes more; memory grows with what arrives, not with what was announced.
fn take(from: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let copied = from.take(length).read_to_end(body)?;
    match copied as u64 == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The next line without its end.
fn line(from: &mut impl BufRead) -> Result<String, MalformedResponse> {
    let mut bytes = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(match bytes.len() as u64 + 1 >= LINE_BYTES_MAX {
            true => MalformedResponse::NotHttp("its answer has an endless line"),
            false => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
        });
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| MalformedResponse::NotHttp("its answer is not text"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Response, String> {
        Response::read(&mut &*text, 64).map_err(|error| error.to_string())
    }

    #[test]
    fn every_framing_gives_the_same_body() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: Chunked\r\n\r\n\
             05\r\nhello\r\n0\r\nTrailer: t\r\n\r\n",
            "HTTP/1.0 200 OK\n\nhello",
        ] {
            let wanted = Response {
                status: 200,
                body: b"hello".to_vec(),
            };
            assert_eq!(read(head.as_bytes()), Ok(wanted), "{head}");
        }
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let long = format!("HTTP/1.1 200 {}", "x".repeat(LINE_BYTES_MAX as usize));
        let headers = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(LINES_MAX + 1));
        for (text, wanted) in [
            ("", "ended before"),
            ("SSH-2.0-OpenSSH\r\n", "does not answer in HTTP"),
            ("HTTP/1.1 OK\r\n\r\n", "no status"),
            ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "no header"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                "ended before",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
                "length that is none",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n", "too long"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                "unknown encoding",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "without a size",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n",
                "too long",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                "without an end",
            ),
            (&long, "endless line"),
            (&headers, "too many headers"),
        ] {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 65]].concat();
        assert_eq!(read(&endless), Err("the answer is too long".to_owned()));
    }

    #[test]
    fn the_reason_is_one_harmless_line() {
        let reason = |body: &str| {
            Response {
                status: 503,
                body: body.into(),
            }
            .reason()
        };
        assert_eq!(reason(r#"{"error": "draining", "detail": []}"#), "draining");
        assert_eq!(reason("not\u{1b}[2Jready\n"), "not [2Jready");
        assert_eq!(reason(""), "no reason given");
        assert_eq!(reason(&"x".repeat(1000)).len(), REASON_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, chunked: bool) {
            let head: &[u8] = match chunked {
                true => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false => b"",
            };
            let _ = read(&[head, &bytes].concat());
        }

        #[test]
        fn chunks_are_put_together(chunks in proptest::collection::vec("[a-z]{1,8}", 0..8)) {
            let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in &chunks {
                text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            }
            text.push_str("0\r\n\r\n");
            prop_assert_eq!(read(text.as_bytes()).map(|r| r.body), Ok(chunks.concat().into_bytes()));
        }
    }
}
