//! What both versions of the PROXY protocol say: whose connection this is.
//!
//! After "The PROXY protocol, Versions 1 & 2" (`proxy-protocol.txt` of HAProxy); sections are quoted beside the
//! constants. **Invariant:** an address pair is of one family, by type.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::parse::{Parse, Reason};
use crate::proxy_v1::{PREFIX, parse_v1};
use crate::proxy_v2::{FIXED_SIZE, SIGNATURE, V2_LENGTH_MAX, parse_v2};
use crate::tlv::Tlvs;

/// The longest header either parser accepts, in bytes: a buffer of this size is always enough.
pub const PROXY_HEADER_MAX: usize = FIXED_SIZE + V2_LENGTH_MAX;

/// Section 2.2: "AF_UNIX: ... the addresses are exactly 108 bytes each".
pub const UNIX_PATH_SIZE: usize = 108;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader<'a> {
    /// The format it came in.
    pub version: ProxyVersion,
    /// On whose behalf the connection was made.
    pub command: Command,
    /// Who is connected to whom; [`Addresses::Unspecified`] means: use those of the connection itself.
    pub addresses: Addresses<'a>,
    /// What else a v2 header says; empty in v1, for LOCAL and for an unspecified family.
    pub tlvs: Tlvs<'a>,
}

/// On whose behalf a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// On the sender's own, as a health check is.
    Local,
    /// For a client whose addresses the header tells.
    Proxy,
}

/// What carries the proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP or a Unix stream socket.
    Stream,
    /// UDP or a Unix datagram socket.
    Datagram,
}

/// The two ends of the proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses<'a> {
    /// Not told, or of a kind the protocol has no form for.
    Unspecified,
    /// IPv4.
    Inet {
        /// TCP or UDP.
        transport: Transport,
        /// The client.
        source: SocketAddrV4,
        /// Where the client connected to.
        destination: SocketAddrV4,
    },
    /// IPv6. Flow label and scope are not carried: 0 when parsed, ignored when written.
    Inet6 {
        /// TCP or UDP.
        transport: Transport,
        /// The client.
        source: SocketAddrV6,
        /// Where the client connected to.
        destination: SocketAddrV6,
    },
    /// Unix sockets; paths are padded with NUL bytes.
    Unix {
        /// Stream or datagram.
        transport: Transport,
        /// The client.
        source: &'a [u8; UNIX_PATH_SIZE],
        /// Where the client connected to.
        destination: &'a [u8; UNIX_PATH_SIZE],
    },
}

impl Addresses<'_> {
    /// The addresses of a connection. IPv4-mapped IPv6 addresses become IPv4 when both ends are; when only one end
    /// is IPv4 it is written in its mapped form, as a header has one family.
    pub fn from_sockets(transport: Transport, source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::Inet {
                transport,
                source: SocketAddrV4::new(from, source.port()),
                destination: SocketAddrV4::new(to, destination.port()),
            },
            (from, to) => Self::Inet6 {
                transport,
                source: SocketAddrV6::new(to_v6(from), source.port(), 0, 0),
                destination: SocketAddrV6::new(to_v6(to), destination.port(), 0, 0),
            },
        }
    }

    /// Source and destination, where they are IP sockets.
    pub fn sockets(&self) -> Option<(SocketAddr, SocketAddr)> {
        match *self {
            Self::Inet {
                source,
                destination,
                ..
            } => Some((source.into(), destination.into())),
            Self::Inet6 {
                source,
                destination,
                ..
            } => Some((source.into(), destination.into())),
            Self::Unspecified | Self::Unix { .. } => None,
        }
    }
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Parses the header of either version that a listener requires at the start of a connection.
///
/// It is required or it is not looked for: section 2 forbids to guess whether there is one. Whoever calls this has
/// decided that there must be, so that anything else is rejected, at its first byte that differs.
pub fn parse_proxy(bytes: &[u8]) -> Parse<ProxyHeader<'_>> {
    match detect(bytes) {
        Parse::Done {
            value: ProxyVersion::V1,
            ..
        } => parse_v1(bytes),
        Parse::Done {
            value: ProxyVersion::V2,
            ..
        } => parse_v2(bytes),
        Parse::NeedMore { at_least } => Parse::NeedMore { at_least },
        Parse::Reject(reason) => Parse::Reject(reason),
    }
}

/// Tells which version a connection starts with. Uses no bytes: `used` is 0, the header begins at the first one.
pub fn detect(bytes: &[u8]) -> Parse<ProxyVersion> {
    for (version, signature) in [
        (ProxyVersion::V1, PREFIX),
        (ProxyVersion::V2, &SIGNATURE[..]),
    ] {
        if bytes.starts_with(signature) {
            return Parse::Done {
                value: version,
                used: 0,
            };
        }
        if signature.starts_with(bytes) {
            let shortest = if bytes.is_empty() {
                PREFIX.len()
            } else {
                signature.len()
            };
            return Parse::NeedMore {
                at_least: shortest - bytes.len(),
            };
        }
    }
    Parse::Reject(Reason::NotProxy)
}
