//! Pure: the wire formats a balancer reads before it relays.
//!
//! The PROXY protocol, versions 1 and 2, both directions; the server name and ALPN of a TLS ClientHello. Parsers look
//! at all bytes received so far and say [`Parse::Done`], [`Parse::NeedMore`] or [`Parse::Reject`]; they keep no state,
//! so how the bytes were cut into segments cannot matter. What is not here: sockets, deadlines, and the decision whom
//! to believe and where to send whom.
//!
//! **Invariant:** nothing allocates, no input panics, and a parser rejects at the first byte no valid input can
//! have there. Values borrow from the bytes they were parsed from, or are of a fixed size.
//!
//! ```
//! use ringway_wire::{Parse, parse_proxy};
//!
//! let bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nhello";
//! let Parse::Done { value: header, used } = parse_proxy(bytes) else {
//!     panic!("this header is complete");
//! };
//! let (source, _destination) = header.addresses.sockets().expect("TCP has sockets");
//! assert_eq!(source.to_string(), "192.0.2.1:56324");
//! assert_eq!(&bytes[used..], b"hello");
//! ```
#![forbid(unsafe_code)]

// What compares with other parsers is shared with the fuzz targets, which see the crate from outside.
#[cfg(test)]
extern crate self as ringway_wire;

mod parse;

mod proxy;
mod proxy_v1;
mod proxy_v2;
mod tlv;

mod crc32c;

mod alpn;
mod handshake;
mod hello;
mod host_name;

pub use alpn::{Alpn, AlpnProtocol};
pub use handshake::CLIENT_HELLO_MAX;
pub use hello::{ClientHello, HelloProgress, ServerName, parse_client_hello};
pub use host_name::{HOST_NAME_MAX, HostName, NameFault};
pub use parse::{Parse, Reason};
pub use proxy::{
    Addresses, Command, PROXY_HEADER_MAX, ProxyHeader, ProxyVersion, Transport, UNIX_PATH_SIZE,
    detect, parse_proxy,
};
pub use proxy_v1::{V1_LINE_MAX, parse_v1, write_v1};
pub use proxy_v2::{Checksum, Extensions, UNIQUE_ID_MAX, V2_LENGTH_MAX, parse_v2, write_v2};
pub use tlv::{Tlv, TlvType, Tlvs};

#[cfg(test)]
mod tests;
