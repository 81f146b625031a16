//! The type-length-value vectors of a PROXY v2 header, read in place.
//!
//! Section 2.2 of `proxy-protocol.txt`: a byte of type, two bytes of length in network order, so many bytes of
//! value. **Invariant:** a [`Tlvs`] was checked as a whole when its header was parsed; each vector ends inside.

use std::fmt;

/// The type of a vector. Values without a name here are passed on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlvType(pub u8);

impl TlvType {
    /// Section 2.2.1: the protocol spoken above, such as `h2`.
    pub const ALPN: Self = Self(0x01);
    /// Section 2.2.2: the host name the client asked for.
    pub const AUTHORITY: Self = Self(0x02);
    /// Section 2.2.3: a checksum of the header.
    pub const CRC32C: Self = Self(0x03);
    /// Section 2.2.4: "should be ignored when parsed"; padding.
    pub const NOOP: Self = Self(0x04);
    /// Section 2.2.5: identifies the connection, "up to 128 bytes".
    pub const UNIQUE_ID: Self = Self(0x05);
    /// Section 2.2.6: how the client connected over TLS; has vectors of its own inside.
    pub const SSL: Self = Self(0x20);
    /// Section 2.2.7: the name of the network namespace.
    pub const NETNS: Self = Self(0x30);
}

/// One vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tlv<'a> {
    /// What the value means.
    pub kind: TlvType,
    /// The value, of any length and content, NUL bytes included.
    pub value: &'a [u8],
}

/// All vectors of a header, in its order. Iterate over it, or ask for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
}

/// Bytes of a vector before its value.
pub(crate) const PREFIX_SIZE: usize = 3;

impl<'a> Tlvs<'a> {
    pub(crate) const EMPTY: Self = Self { bytes: &[] };

    /// The vectors in these bytes, or `None` if they do not end where the bytes do.
    pub(crate) fn check(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split_first(rest)?;
        }
        Some(Self { bytes })
    }

    /// The value of the first vector of a type.
    pub fn value(&self, kind: TlvType) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|tlv| tlv.kind == kind)
            .map(|tlv| tlv.value)
    }

    /// Whether there is no vector at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split_first(self.bytes)?;
        self.bytes = rest;
        Some(tlv)
    }
}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

fn split_first(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((
        Tlv {
            kind: TlvType(kind),
            value,
        },
        rest,
    ))
}
