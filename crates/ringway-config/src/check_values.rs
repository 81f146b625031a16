//! The scalars of a health check: what is requested, sent and expected. Not how they are used; that is the
//! keeper's. Invariant: what was read can be written into a request as it is and means there what it says.

use serde_json::{Value as Json, json};

use crate::grammar::Grammar;
use crate::limits::{CHECK_BYTES_MAX, CHECK_TEXT_CHARS_MAX};
use crate::problem::quoted;
use crate::tree::Node;
use crate::values::text;
use crate::walk::Lowering;

/// What an HTTP check requests: a path, perhaps with a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RequestPath(pub(crate) String);

impl Grammar for RequestPath {
    fn expected() -> String {
        "a path such as `/healthz`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let path = text(node, &Self::expected(), cx)?;
        if !path.starts_with('/') || path.contains('#') || !is_request_text(path) {
            let message = format!(
                "`{}` is not {}: it starts with `/` and is up to {CHECK_TEXT_CHARS_MAX} printable ASCII \
                 characters without spaces or `#`",
                quoted(path),
                Self::expected()
            );
            cx.reject(node, message);
            return None;
        }
        Some(RequestPath(path.to_owned()))
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^/[!\"$-~]*$"})
    }
}

/// The Host header of an HTTP check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostHeader(pub(crate) String);

impl Grammar for HostHeader {
    fn expected() -> String {
        "a host such as `app.example` or `app.example:8080`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let host = text(node, &Self::expected(), cx)?;
        let is_host = !host.is_empty()
            && is_request_text(host)
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c));
        if !is_host {
            cx.reject(
                node,
                format!("`{}` is not {}", quoted(host), Self::expected()),
            );
            return None;
        }
        Some(HostHeader(host.to_owned()))
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[A-Za-z0-9._~:\\[\\]%-]+$"})
    }
}

fn is_request_text(text: &str) -> bool {
    text.len() <= CHECK_TEXT_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Bytes, written as ASCII text with escapes of its own: `\xHH`, `\r`, `\n`, `\t`, `\0` and `\\`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Grammar for Bytes {
    fn expected() -> String {
        r"text with escapes such as `\r\n` or `\xff`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let written = text(node, &Self::expected(), cx)?;
        let read = match unescaped(written) {
            Ok(bytes) if bytes.len() > CHECK_BYTES_MAX => Err(format!(
                "{} bytes, and at most {CHECK_BYTES_MAX} are possible",
                bytes.len()
            )),
            read => read,
        };
        match read {
            Ok(bytes) => Some(Bytes(bytes)),
            Err(message) => {
                cx.reject(node, message);
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string",
               "pattern": "^([\\x00-\\x5b\\x5d-\\x7f]|\\\\(x[0-9A-Fa-f]{2}|[rnt0\\\\]))*$"})
    }
}

/// The bytes that `text` means, or what is wrong with it.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if !c.is_ascii() {
            // YAML's own `"\xff"` is this character too, and not the byte that was meant.
            return Err(format!(
                "`{}` is not ASCII: write its bytes as `\\xHH`, in single quotes",
                quoted(&c.to_string())
            ));
        }
        if c != '\\' {
            bytes.push(c as u8);
            continue;
        }
        let (byte, len) = escape(rest).ok_or_else(|| {
            let shown: String = rest.chars().take(3).collect();
            format!(
                r"`\{}` is no escape: they are `\xHH`, `\r`, `\n`, `\t`, `\0` and `\\`",
                quoted(&shown)
            )
        })?;
        bytes.push(byte);
        rest = &rest[len..];
    }
    Ok(bytes)
}

/// The byte of an escape and its length, both without the backslash.
fn escape(rest: &str) -> Option<(u8, usize)> {
    let byte = match rest.bytes().next()? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b'\\' => b'\\',
        b'x' => {
            let digits = rest.get(1..3)?;
            // Without this look a sign would do for a digit.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            return Some((u8::from_str_radix(digits, 16).ok()?, 3));
        }
        _ => return None,
    };
    Some((byte, 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::unescaped;

    #[test]
    fn escapes_mean_bytes() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("PING", b"PING"),
            ("PING\r\n", b"PING\r\n"),
            (r"PING\r\n", b"PING\r\n"),
            (r"\x00\xfF\x7f", b"\x00\xff\x7f"),
            (r"\\x41\t\0", b"\\x41\t\0"),
            (r"\x411", b"A1"),
        ] {
            assert_eq!(unescaped(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_is_told() {
        for text in [
            r"\", r"\x", r"\x4", r"\xg0", r"\x+1", r"\q", r"a\", "\u{ff}", r"\é",
        ] {
            assert!(unescaped(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_bytes_can_be_written(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            prop_assert_eq!(unescaped(&text), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ = unescaped(&text);
        }
    }
}
