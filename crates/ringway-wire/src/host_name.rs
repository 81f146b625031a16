//! A host name as a client sends it, in the one form in which names are compared.
//!
//! Not a name of the DNS in general: an address is none, and neither is a name in Unicode, which a client sends in
//! its ASCII form (RFC 6066 section 3: "represented as a byte string using ASCII encoding"). **Invariant:** 1 to 253
//! bytes of `a`-`z`, `0`-`9`, `-`, `_` and `.`; no label is empty or longer than 63; no dot at the end.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 1035 section 2.3.4 allows 255 bytes on the wire, which are 253 as text without the dot of the root.
pub const HOST_NAME_MAX: usize = 253;

/// RFC 1035 section 2.3.4: "labels 63 octets or less".
const LABEL_MAX: usize = 63;

/// A valid name in lower case without a dot at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostName {
    length: u8,
    /// Zero behind the name, so that equal names are equal as a whole.
    bytes: [u8; HOST_NAME_MAX],
}

/// Why bytes are not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameFault {
    /// Nothing, or nothing but the dot of the root.
    Empty,
    /// More than [`HOST_NAME_MAX`] bytes.
    TooLong,
    /// Two dots in a row, or a dot at the start.
    LabelEmpty,
    /// More than 63 bytes between dots.
    LabelTooLong,
    /// A NUL byte.
    Nul,
    /// A byte above 127.
    NonAscii,
    /// Another byte that is no letter, digit, hyphen, underscore or dot; a space or a `*` for example.
    Character,
    /// An IPv4 or IPv6 address, in brackets or not. RFC 6066 section 3: they "are not permitted".
    Address,
}

impl HostName {
    /// Reads a name: letters become lower case, one dot at the end is dropped.
    ///
    /// Hyphens may be anywhere in a label: names that begin with one resolve and are used, whatever RFC 952 said.
    /// Of several faults the first is told.
    pub fn new(text: &[u8]) -> Result<Self, NameFault> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > HOST_NAME_MAX {
            return Err(NameFault::TooLong);
        }
        let mut name = Self {
            length: text.len() as u8,
            bytes: [0; HOST_NAME_MAX],
        };
        let mut label_size = 0;
        for (to, &byte) in name.bytes.iter_mut().zip(text) {
            *to = byte.to_ascii_lowercase();
            label_size = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_size + 1,
                b'.' if label_size > 0 => 0,
                _ => return Err(fault(byte, text)),
            };
            if label_size > LABEL_MAX {
                return Err(NameFault::LabelTooLong);
            }
        }
        if label_size == 0 {
            return Err(NameFault::LabelEmpty);
        }
        if text.last().is_some_and(u8::is_ascii_digit) && name.as_str().parse::<Ipv4Addr>().is_ok()
        {
            return Err(NameFault::Address);
        }
        Ok(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("invariant: a host name is ASCII")
    }

    /// The name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What is wrong with a byte that no label has, or with a dot behind no label.
fn fault(byte: u8, text: &[u8]) -> NameFault {
    match byte {
        b'.' => NameFault::LabelEmpty,
        0 => NameFault::Nul,
        0x80.. => NameFault::NonAscii,
        _ if is_ipv6(text) => NameFault::Address,
        _ => NameFault::Character,
    }
}

fn is_ipv6(text: &[u8]) -> bool {
    let bare = text
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    std::str::from_utf8(bare.unwrap_or(text)).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::TooLong => "longer than 253 bytes",
            Self::LabelEmpty => "empty label",
            Self::LabelTooLong => "label longer than 63 bytes",
            Self::Nul => "NUL byte",
            Self::NonAscii => "not ASCII",
            Self::Character => "character that no host name has",
            Self::Address => "IP address",
        })
    }
}

impl std::error::Error for NameFault {}
