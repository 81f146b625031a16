//! Percent-encoding for what goes into a URL (RFC 3986 section 2.1). Invariant: no delimiter is left but those
//! that the caller keeps.

/// `text` with every byte encoded but the unreserved ones and those of `kept`.
pub(crate) fn encoded(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ if kept.contains(&byte) => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_no_delimiter() {
        let encoded = |text| encoded(text, b":");
        assert_eq!(encoded("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(encoded("[::1]:80"), "%5B::1%5D:80");
        assert_eq!(encoded("unix:/run/a b"), "unix:%2Frun%2Fa%20b");
        assert_eq!(encoded("é?#%"), "%C3%A9%3F%23%25");
    }

    #[test]
    fn what_a_query_cannot_hold_is_encoded() {
        let encoded = |text| encoded(text, b"");
        assert_eq!(encoded("[::1]:5 ä&"), "%5B%3A%3A1%5D%3A5%20%C3%A4%26");
        assert_eq!(encoded("a-b.c_d~9"), "a-b.c_d~9");
    }
}
