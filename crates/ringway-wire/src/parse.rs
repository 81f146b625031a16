//! What a parser can answer, and the reasons for which bytes from the wire are rejected.
//!
//! Every reason has a name that can be counted; none of them is a failure of the program.

use std::fmt;

/// The answer to "is this a complete value?", given all bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// Complete.
    Done {
        /// What was read.
        value: T,
        /// How many of the given bytes belong to it; the others are payload.
        used: usize,
    },
    /// Everything so far is valid, and this is not all.
    NeedMore {
        /// At least so many further bytes are missing; never 0.
        at_least: usize,
    },
    /// No further bytes can make this valid.
    Reject(Reason),
}

/// Why bytes are not a valid header or hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first bytes are those of neither version of the PROXY protocol.
    NotProxy,
    /// A v1 line names a protocol other than `TCP4`, `TCP6` and `UNKNOWN`.
    Protocol,
    /// A v1 line has an address that is not one of its family.
    Address,
    /// A v1 line has a port that is not a plain decimal number up to 65535.
    Port,
    /// A v1 line contains or ends in something other than exactly one CR LF.
    LineEnd,
    /// A v1 line is not complete within 107 bytes.
    LineTooLong,
    /// A v2 header has a version other than 2.
    Version,
    /// A v2 header has a command that is not assigned.
    Command,
    /// A v2 header has an address family or transport that is not assigned.
    Family,
    /// A v2 header is longer than is accepted; see [`crate::V2_LENGTH_MAX`].
    TooLong,
    /// A v2 header is too short for the addresses of its family.
    AddressTruncated,
    /// A TLV, or stray bytes after the last one, reach beyond the end of the v2 header.
    TlvTruncated,
    /// A checksum TLV does not have four bytes, or there are two of them.
    ChecksumForm,
    /// The checksum is not that of the header.
    ChecksumMismatch,
    /// The first two bytes are not those of a TLS handshake record: something else is spoken, an SSLv2 hello included.
    NotTls,
    /// The first handshake message is not a ClientHello.
    NotClientHello,
    /// A record of a hello is empty or longer than any record may be.
    RecordLength,
    /// A hello is interrupted by a record that is not of the handshake.
    RecordInterleaved,
    /// A hello ends beyond [`crate::CLIENT_HELLO_MAX`].
    HelloTooLong,
    /// A length inside a hello does not fit what it is in.
    HelloForm,
    /// An extension is there twice.
    DuplicateExtension,
    /// The lengths inside the server name extension do not fit each other.
    ServerNameForm,
    /// The lengths inside the ALPN extension do not fit each other, or a protocol has no name.
    AlpnForm,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProxy => "not a PROXY protocol header",
            Self::Protocol => "v1: protocol is not TCP4, TCP6 or UNKNOWN",
            Self::Address => "v1: bad address for its family",
            Self::Port => "v1: bad port",
            Self::LineEnd => "v1: line not ended by exactly one CR LF",
            Self::LineTooLong => "v1: line longer than 107 bytes",
            Self::Version => "v2: version is not 2",
            Self::Command => "v2: unassigned command",
            Self::Family => "v2: unassigned address family or transport",
            Self::TooLong => "v2: header too long",
            Self::AddressTruncated => "v2: header too short for its addresses",
            Self::TlvTruncated => "v2: TLV beyond the end of the header",
            Self::ChecksumForm => "v2: malformed checksum",
            Self::ChecksumMismatch => "v2: wrong checksum",
            Self::NotTls => "not TLS",
            Self::NotClientHello => "TLS: not a ClientHello",
            Self::RecordLength => "TLS: bad record length",
            Self::RecordInterleaved => "TLS: ClientHello interrupted by another record",
            Self::HelloTooLong => "TLS: ClientHello longer than 64 KiB",
            Self::HelloForm => "TLS: malformed ClientHello",
            Self::DuplicateExtension => "TLS: extension present twice",
            Self::ServerNameForm => "TLS: malformed server name extension",
            Self::AlpnForm => "TLS: malformed ALPN extension",
        })
    }
}

impl std::error::Error for Reason {}

/// Why parsing stopped before the end of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The bytes received so far end here.
    More {
        at_least: usize,
    },
    Reject(Reason),
}

/// One step of a parser.
pub(crate) type Step<T> = Result<T, Stop>;

pub(crate) fn reject<T>(reason: Reason) -> Step<T> {
    Err(Stop::Reject(reason))
}

impl<T> From<Step<(T, usize)>> for Parse<T> {
    fn from(step: Step<(T, usize)>) -> Self {
        match step {
            Ok((value, used)) => Self::Done { value, used },
            Err(Stop::More { at_least }) => Self::NeedMore { at_least },
            Err(Stop::Reject(reason)) => Self::Reject(reason),
        }
    }
}
