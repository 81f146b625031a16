//! PROXY protocol version 2: a binary block with its length in front.
//!
//! Section 2.2 of `proxy-protocol.txt`. **Invariant:** every field is bounded by the declared length and the
//! declared length by [`V2_LENGTH_MAX`]; bytes behind the header are never looked at. Nothing is read from the
//! address block before all of it is there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use crate::crc32c::Crc32c;
use crate::parse::{Parse, Reason, Step, Stop, reject};
use crate::proxy::{Addresses, Command, ProxyHeader, ProxyVersion, Transport, UNIX_PATH_SIZE};
use crate::tlv::{PREFIX_SIZE, TlvType, Tlvs};

/// The longest block behind the first 16 bytes that is accepted or written. The protocol allows 65,535; a bound
/// keeps what a connection may make us hold before it has said anything useful, and real headers are below 600.
pub const V2_LENGTH_MAX: usize = 4096;

/// Section 2.2.5: UNIQUE_ID is "an opaque byte sequence of up to 128 bytes".
pub const UNIQUE_ID_MAX: usize = 128;

/// Section 2.2: "a constant 12 bytes block containing the protocol signature".
pub(crate) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length: "always exactly 16 + this value" in all.
pub(crate) const FIXED_SIZE: usize = 16;

/// Section 2.2, byte 13: "The highest four bits contains the version. ... it must always be sent as \x2".
const VERSION: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0x0;
const COMMAND_PROXY: u8 = 0x1;

/// Section 2.2, byte 14, highest four bits.
const FAMILY_UNSPEC: u8 = 0x0;
const FAMILY_INET: u8 = 0x1;
const FAMILY_INET6: u8 = 0x2;
const FAMILY_UNIX: u8 = 0x3;

/// Section 2.2, byte 14, lowest four bits.
const TRANSPORT_UNSPEC: u8 = 0x0;
const TRANSPORT_STREAM: u8 = 0x1;
const TRANSPORT_DATAGRAM: u8 = 0x2;

/// Section 2.2: "Address length is 2*4 + 2*2 = 12 bytes", "2*16 + 2*2 = 36 bytes", "2*108 = 216 bytes".
const INET_SIZE: usize = 2 * 4 + 2 * 2;
const INET6_SIZE: usize = 2 * 16 + 2 * 2;
const UNIX_SIZE: usize = 2 * UNIX_PATH_SIZE;

/// Parses a header. See [`crate::parse_proxy`] for either version.
///
/// For LOCAL, and for PROXY with an unspecified family or transport, the whole block is skipped unread, as section
/// 2.2 lets a receiver do: addresses are [`Addresses::Unspecified`] and there are no TLVs.
pub fn parse_v2(bytes: &[u8]) -> Parse<ProxyHeader<'_>> {
    header(bytes).into()
}

fn header(bytes: &[u8]) -> Step<(ProxyHeader<'_>, usize)> {
    check_signature(bytes)?;
    let command = command(byte(bytes, 12)?)?;
    let form = match command {
        // "must ... discard the protocol block including the family which is ignored"
        Command::Local => Form::Opaque,
        Command::Proxy => form(byte(bytes, 13)?)?,
    };
    let used = FIXED_SIZE + length(byte(bytes, 14)?, bytes.get(15).copied(), form)?;
    let Some(whole) = bytes.get(..used) else {
        return Err(Stop::More {
            at_least: used - bytes.len(),
        });
    };
    let (addresses, tlvs) = match form {
        Form::Opaque => (Addresses::Unspecified, Tlvs::EMPTY),
        Form::Known(family, transport) => {
            let (block, rest) = whole[FIXED_SIZE..].split_at(family.size());
            (family.read(transport, block), tlvs_of(whole, rest)?)
        }
    };
    Ok((
        ProxyHeader {
            version: ProxyVersion::V2,
            command,
            addresses,
            tlvs,
        },
        used,
    ))
}

fn check_signature(bytes: &[u8]) -> Step<()> {
    let count = bytes.len().min(SIGNATURE.len());
    if bytes[..count] != SIGNATURE[..count] {
        return reject(Reason::NotProxy);
    }
    Ok(())
}

/// The byte at this place of the fixed part; none before the whole fixed part can be complete.
fn byte(bytes: &[u8], at: usize) -> Step<u8> {
    bytes.get(at).copied().ok_or(Stop::More {
        at_least: FIXED_SIZE.saturating_sub(bytes.len()),
    })
}

fn command(byte: u8) -> Step<Command> {
    if byte & 0xf0 != VERSION {
        return reject(Reason::Version);
    }
    match byte & 0x0f {
        COMMAND_LOCAL => Ok(Command::Local),
        COMMAND_PROXY => Ok(Command::Proxy),
        _ => reject(Reason::Command),
    }
}

/// How the block is to be read.
#[derive(Clone, Copy)]
enum Form {
    /// Not at all.
    Opaque,
    /// Addresses, then TLVs.
    Known(Family, Transport),
}

#[derive(Clone, Copy)]
enum Family {
    Inet,
    Inet6,
    Unix,
}

fn form(byte: u8) -> Step<Form> {
    let family = match byte >> 4 {
        FAMILY_UNSPEC => None,
        FAMILY_INET => Some(Family::Inet),
        FAMILY_INET6 => Some(Family::Inet6),
        FAMILY_UNIX => Some(Family::Unix),
        _ => return reject(Reason::Family),
    };
    let transport = match byte & 0x0f {
        TRANSPORT_UNSPEC => None,
        TRANSPORT_STREAM => Some(Transport::Stream),
        TRANSPORT_DATAGRAM => Some(Transport::Datagram),
        _ => return reject(Reason::Family),
    };
    Ok(match (family, transport) {
        (Some(family), Some(transport)) => Form::Known(family, transport),
        (None, _) | (_, None) => Form::Opaque,
    })
}

/// The declared length; its high byte alone may already be too much.
fn length(high: u8, low: Option<u8>, form: Form) -> Step<usize> {
    let least = usize::from(high) << 8;
    if least > V2_LENGTH_MAX {
        return reject(Reason::TooLong);
    }
    let length = least + usize::from(low.ok_or(Stop::More { at_least: 1 })?);
    if length > V2_LENGTH_MAX {
        return reject(Reason::TooLong);
    }
    match form {
        Form::Known(family, _) if length < family.size() => reject(Reason::AddressTruncated),
        Form::Known(..) | Form::Opaque => Ok(length),
    }
}

impl Family {
    const fn size(self) -> usize {
        match self {
            Self::Inet => INET_SIZE,
            Self::Inet6 => INET6_SIZE,
            Self::Unix => UNIX_SIZE,
        }
    }

    /// Reads a block of [`Family::size`] bytes: source, destination, then their ports.
    fn read(self, transport: Transport, block: &[u8]) -> Addresses<'_> {
        match self {
            Self::Inet => Addresses::Inet {
                transport,
                source: SocketAddrV4::new(Ipv4Addr::from(*chunk(block, 0)), port(block, 8)),
                destination: SocketAddrV4::new(Ipv4Addr::from(*chunk(block, 4)), port(block, 10)),
            },
            Self::Inet6 => {
                let end = |at, port_at| {
                    let address = Ipv6Addr::from(*chunk(block, at));
                    SocketAddrV6::new(address, port(block, port_at), 0, 0)
                };
                Addresses::Inet6 {
                    transport,
                    source: end(0, 32),
                    destination: end(16, 34),
                }
            }
            Self::Unix => Addresses::Unix {
                transport,
                source: chunk(block, 0),
                destination: chunk(block, UNIX_PATH_SIZE),
            },
        }
    }
}

fn chunk<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..]
        .first_chunk()
        .expect("invariant: a block has the size of its family")
}

fn port(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(*chunk(block, at))
}

/// Checks the TLVs at the end of a header, its checksum included if there is one.
fn tlvs_of<'a>(whole: &[u8], rest: &'a [u8]) -> Step<Tlvs<'a>> {
    let Some(tlvs) = Tlvs::check(rest) else {
        return reject(Reason::TlvTruncated);
    };
    let mut at = whole.len() - rest.len();
    let mut checksum_at = None;
    for tlv in tlvs {
        at += PREFIX_SIZE;
        if tlv.kind == TlvType::CRC32C {
            if tlv.value.len() != 4 || checksum_at.is_some() {
                return reject(Reason::ChecksumForm);
            }
            checksum_at = Some(at);
        }
        at += tlv.value.len();
    }
    match checksum_at {
        Some(at) if checksum(whole, at) != *chunk(whole, at) => reject(Reason::ChecksumMismatch),
        Some(_) | None => Ok(tlvs),
    }
}

/// Section 2.2.3: "replace the 32 bits of the checksum field ... with all '0's and calculate a CRC32c checksum
/// value of the whole PROXY header".
fn checksum(whole: &[u8], at: usize) -> [u8; 4] {
    let crc = Crc32c::new()
        .update(&whole[..at])
        .update(&[0; 4])
        .update(&whole[at + 4..]);
    crc.value().to_be_bytes()
}

/// What a header is to say besides addresses. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// The host name the client asked for.
    pub authority: Option<&'a [u8]>,
    /// The protocol spoken above.
    pub alpn: Option<&'a [u8]>,
    /// Identifies the connection, at most [`UNIQUE_ID_MAX`] bytes.
    pub unique_id: Option<&'a [u8]>,
    /// Whether the header carries a checksum of itself.
    pub checksum: Checksum,
}

/// Whether a header carries a checksum of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It does not.
    #[default]
    Absent,
    /// A CRC32C, which receivers must verify if they know it.
    Crc32c,
}

/// Writes a header, and returns its length, or `None` if it does not fit into `out`, is longer than
/// [`V2_LENGTH_MAX`] allows, or the unique id is too long.
///
/// For [`Command::Local`], addresses and extensions are left out, as section 2.2 asks for.
pub fn write_v2(
    command: Command,
    addresses: &Addresses<'_>,
    extensions: &Extensions<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let mut block = Block { out, used: 0 };
    block.put(&SIGNATURE)?;
    match command {
        Command::Local => block.put(&[VERSION | COMMAND_LOCAL, 0, 0, 0])?,
        Command::Proxy => {
            block.put(&[VERSION | COMMAND_PROXY, family_byte(addresses), 0, 0])?;
            block.put_addresses(addresses)?;
            block.put_extensions(extensions)?;
        }
    }
    Some(block.used)
}

fn family_byte(addresses: &Addresses<'_>) -> u8 {
    let (family, transport) = match addresses {
        Addresses::Unspecified => return FAMILY_UNSPEC << 4 | TRANSPORT_UNSPEC,
        Addresses::Inet { transport, .. } => (FAMILY_INET, transport),
        Addresses::Inet6 { transport, .. } => (FAMILY_INET6, transport),
        Addresses::Unix { transport, .. } => (FAMILY_UNIX, transport),
    };
    let transport = match transport {
        Transport::Stream => TRANSPORT_STREAM,
        Transport::Datagram => TRANSPORT_DATAGRAM,
    };
    family << 4 | transport
}

/// A header being written.
struct Block<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Block<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.used + bytes.len();
        self.out.get_mut(self.used..end)?.copy_from_slice(bytes);
        self.used = end;
        Some(())
    }

    fn put_addresses(&mut self, addresses: &Addresses<'_>) -> Option<()> {
        match addresses {
            Addresses::Unspecified => Some(()),
            Addresses::Inet {
                source,
                destination,
                ..
            } => {
                self.put(&source.ip().octets())?;
                self.put(&destination.ip().octets())?;
                self.put(&source.port().to_be_bytes())?;
                self.put(&destination.port().to_be_bytes())
            }
            Addresses::Inet6 {
                source,
                destination,
                ..
            } => {
                self.put(&source.ip().octets())?;
                self.put(&destination.ip().octets())?;
                self.put(&source.port().to_be_bytes())?;
                self.put(&destination.port().to_be_bytes())
            }
            Addresses::Unix {
                source,
                destination,
                ..
            } => {
                self.put(&source[..])?;
                self.put(&destination[..])
            }
        }
    }

    /// Writes the TLVs, then what depends on them: the length, and last the checksum of it all.
    fn put_extensions(&mut self, extensions: &Extensions<'_>) -> Option<()> {
        if extensions
            .unique_id
            .is_some_and(|id| id.len() > UNIQUE_ID_MAX)
        {
            return None;
        }
        let vectors = [
            (TlvType::ALPN, extensions.alpn),
            (TlvType::AUTHORITY, extensions.authority),
            (TlvType::UNIQUE_ID, extensions.unique_id),
        ];
        for (kind, value) in vectors {
            if let Some(value) = value {
                self.put_tlv(kind, value)?;
            }
        }
        match extensions.checksum {
            Checksum::Absent => self.put_length(),
            Checksum::Crc32c => {
                self.put_tlv(TlvType::CRC32C, &[0; 4])?;
                self.put_length()?;
                let at = self.used - 4;
                let value = checksum(&self.out[..self.used], at);
                self.out[at..self.used].copy_from_slice(&value);
                Some(())
            }
        }
    }

    fn put_tlv(&mut self, kind: TlvType, value: &[u8]) -> Option<()> {
        let length = u16::try_from(value.len()).ok()?;
        self.put(&[kind.0])?;
        self.put(&length.to_be_bytes())?;
        self.put(value)
    }

    fn put_length(&mut self) -> Option<()> {
        let length = self.used - FIXED_SIZE;
        if length > V2_LENGTH_MAX {
            return None;
        }
        let length = u16::try_from(length).ok()?;
        self.out[FIXED_SIZE - 2..FIXED_SIZE].copy_from_slice(&length.to_be_bytes());
        Some(())
    }
}
