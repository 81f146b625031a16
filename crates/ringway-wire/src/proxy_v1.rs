//! PROXY protocol version 1: one line of text.
//!
//! Section 2.1 of `proxy-protocol.txt`: "Any sequence which does not exactly match the protocol must be discarded
//! and cause the receiver to abort the connection." **Invariant:** parsing stops at the first byte that no valid
//! line has there, and never looks beyond 107 bytes.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use crate::parse::{Parse, Reason, Step, Stop, reject};
use crate::proxy::{Addresses, Command, ProxyHeader, ProxyVersion, Transport};
use crate::tlv::Tlvs;

/// Section 2.1: "worst case ... => 5 + 1 + 7 + 1 + 39 + 1 + 39 + 1 + 5 + 1 + 5 + 2 = 107 chars".
pub const V1_LINE_MAX: usize = 107;

/// Section 2.1: "a string identifying the protocol: "PROXY"", then "exactly one space".
pub(crate) const PREFIX: &[u8] = b"PROXY ";

/// Section 2.1, the short form: "PROXY UNKNOWN\r\n".
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Parses a line, its CR LF included. See [`crate::parse_proxy`] for either version.
pub fn parse_v1(bytes: &[u8]) -> Parse<ProxyHeader<'_>> {
    let mut line = Line { bytes, at: 0 };
    let parsed = line.header().map(|addresses| (header(addresses), line.at));
    match Parse::from(parsed) {
        // No line is shorter than this one: while even that is out of reach, say so.
        Parse::NeedMore { at_least } => Parse::NeedMore {
            at_least: at_least.max(UNKNOWN.len().saturating_sub(bytes.len())),
        },
        parsed @ (Parse::Done { .. } | Parse::Reject(_)) => parsed,
    }
}

fn header(addresses: Addresses<'_>) -> ProxyHeader<'_> {
    let (version, command) = (ProxyVersion::V1, Command::Proxy);
    ProxyHeader {
        version,
        command,
        addresses,
        tlvs: Tlvs::EMPTY,
    }
}

/// Writes the line for these addresses, and returns its length, or `None` if `out` is too small.
/// [`V1_LINE_MAX`] bytes are always enough.
///
/// Version 1 knows TCP over IPv4 and IPv6; everything else is written as `UNKNOWN`.
pub fn write_v1(addresses: &Addresses<'_>, out: &mut [u8]) -> Option<usize> {
    let size = out.len();
    let mut rest = out;
    match addresses {
        Addresses::Inet {
            transport: Transport::Stream,
            source,
            destination,
        } => {
            let (from, to) = (source.ip(), destination.ip());
            let (from_port, to_port) = (source.port(), destination.port());
            write!(rest, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        Addresses::Inet6 {
            transport: Transport::Stream,
            source,
            destination,
        } => {
            let (from, to) = (source.ip().segments(), destination.ip().segments());
            let (from_port, to_port) = (source.port(), destination.port());
            rest.write_all(b"PROXY TCP6 ")
                .and_then(|()| write_ipv6(from, &mut rest))
                .and_then(|()| rest.write_all(b" "))
                .and_then(|()| write_ipv6(to, &mut rest))
                .and_then(|()| write!(rest, " {from_port} {to_port}\r\n"))
        }
        Addresses::Inet {
            transport: Transport::Datagram,
            ..
        }
        | Addresses::Inet6 {
            transport: Transport::Datagram,
            ..
        }
        | Addresses::Unix { .. }
        | Addresses::Unspecified => rest.write_all(UNKNOWN),
    }
    .ok()?;
    Some(size - rest.len())
}

/// Writes groups of hexadecimal digits only: the usual notation ends mapped addresses in dotted decimals, which
/// section 2.1 has no place for.
fn write_ipv6(segments: [u16; 8], rest: &mut &mut [u8]) -> std::io::Result<()> {
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => write!(rest, "::ffff:{high:x}:{low:x}"),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => write!(rest, "::{high:x}:{low:x}"),
        other => write!(rest, "{}", Ipv6Addr::from(other)),
    }
}

/// A line being read.
struct Line<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    fn header(&mut self) -> Step<Addresses<'a>> {
        self.literal(PREFIX, Reason::NotProxy)?;
        if self.peek()? == b'U' {
            self.literal(b"UNKNOWN", Reason::Protocol)?;
            self.skip_to_line_end()?;
            return Ok(Addresses::Unspecified);
        }
        self.literal(b"TCP", Reason::Protocol)?;
        match self.next()? {
            b'4' => self.inet(),
            b'6' => self.inet6(),
            _ => reject(Reason::Protocol),
        }
    }

    fn inet(&mut self) -> Step<Addresses<'a>> {
        self.literal(b" ", Reason::Protocol)?;
        let source = self.ipv4()?;
        self.literal(b" ", Reason::Address)?;
        let destination = self.ipv4()?;
        self.literal(b" ", Reason::Address)?;
        let (from_port, to_port) = self.ports()?;
        Ok(Addresses::Inet {
            transport: Transport::Stream,
            source: SocketAddrV4::new(source, from_port),
            destination: SocketAddrV4::new(destination, to_port),
        })
    }

    fn inet6(&mut self) -> Step<Addresses<'a>> {
        self.literal(b" ", Reason::Protocol)?;
        let source = self.ipv6()?;
        self.literal(b" ", Reason::Address)?;
        let destination = self.ipv6()?;
        self.literal(b" ", Reason::Address)?;
        let (from_port, to_port) = self.ports()?;
        Ok(Addresses::Inet6 {
            transport: Transport::Stream,
            source: SocketAddrV6::new(source, from_port, 0, 0),
            destination: SocketAddrV6::new(destination, to_port, 0, 0),
        })
    }

    /// Both ports and the end of the line.
    fn ports(&mut self) -> Step<(u16, u16)> {
        let source = self.decimal(u16::MAX, Reason::Port)?;
        self.literal(b" ", Reason::Port)?;
        let destination = self.decimal(u16::MAX, Reason::Port)?;
        // Anything but CR here may also be a sixth digit or a letter: that is the port's fault, not the line end's.
        if !matches!(self.peek()?, b'\r' | b'\n') {
            return reject(Reason::Port);
        }
        self.literal(b"\r\n", Reason::LineEnd)?;
        Ok((source, destination))
    }

    /// Section 2.1: "the receiver must ignore anything presented before the CRLF is found", and "must not tolerate
    /// a single CR or LF character to end the line".
    fn skip_to_line_end(&mut self) -> Step<()> {
        if !matches!(self.peek()?, b' ' | b'\r' | b'\n') {
            return reject(Reason::Protocol);
        }
        while !matches!(self.peek()?, b'\r' | b'\n') {
            self.at += 1;
            if self.at + b"\r\n".len() > V1_LINE_MAX {
                return reject(Reason::LineTooLong);
            }
        }
        self.literal(b"\r\n", Reason::LineEnd)
    }

    /// Section 2.1: "exactly 4 integers in the range [0..255] inclusive written in decimal representation separated
    /// by exactly one dot".
    fn ipv4(&mut self) -> Step<Ipv4Addr> {
        let mut octets = [0; 4];
        for (index, octet) in octets.iter_mut().enumerate() {
            if index > 0 {
                self.literal(b".", Reason::Address)?;
            }
            // At most 255, so that nothing is lost.
            *octet = self.decimal(255, Reason::Address)? as u8;
        }
        Ok(Ipv4Addr::from(octets))
    }

    /// A decimal number; section 2.1: "Heading zeroes are not permitted in front of numbers".
    /// The byte after it has been seen and is not a digit.
    fn decimal(&mut self, max: u16, reason: Reason) -> Step<u16> {
        let mut value = match self.next()? {
            digit @ b'0'..=b'9' => u32::from(digit - b'0'),
            _ => return reject(reason),
        };
        while let digit @ b'0'..=b'9' = self.peek()? {
            if value == 0 {
                return reject(reason);
            }
            value = value * 10 + u32::from(digit - b'0');
            if value > u32::from(max) {
                return reject(reason);
            }
            self.at += 1;
        }
        // The bound was checked digit by digit.
        Ok(value as u16)
    }

    /// Section 2.1: groups of "4 hexadecimal digits (upper or lower case) delimited by colons between each other,
    /// with the acceptance of one double colon sequence". Groups may be shorter, and the last two may be dotted
    /// decimals: that is what inet_ntop(3) makes of IPv4-mapped addresses, and senders use it.
    fn ipv6(&mut self) -> Step<Ipv6Addr> {
        let mut groups = Groups::default();
        if self.peek()? == b':' {
            self.literal(b"::", Reason::Address)?;
            groups.open_gap()?;
            if self.peek()? == b' ' {
                return groups.address();
            }
        }
        loop {
            let group_at = self.at;
            let group = self.group()?;
            match self.peek()? {
                b'.' => {
                    groups.need_room_for_dotted()?;
                    self.at = group_at;
                    let [a, b, c, d] = self.ipv4()?.octets();
                    groups.push(u16::from_be_bytes([a, b]))?;
                    groups.push(u16::from_be_bytes([c, d]))?;
                    return groups.address();
                }
                b' ' => {
                    groups.push(group)?;
                    return groups.address();
                }
                b':' => {
                    groups.push(group)?;
                    groups.need_more()?;
                    self.at += 1;
                }
                _ => return reject(Reason::Address),
            }
            if self.peek()? == b':' {
                groups.open_gap()?;
                self.at += 1;
                if self.peek()? == b' ' {
                    return groups.address();
                }
            }
            // A gap that was opened just now takes the place of a group.
            groups.need_more()?;
        }
    }

    /// One to four hexadecimal digits. The byte after them has been seen and is not one.
    fn group(&mut self) -> Step<u16> {
        let mut value = 0;
        let mut digits = 0;
        while let Some(digit) = char::from(self.peek()?).to_digit(16) {
            if digits == 4 {
                return reject(Reason::Address);
            }
            value = value * 16 + digit as u16;
            digits += 1;
            self.at += 1;
        }
        if digits == 0 {
            reject(Reason::Address)
        } else {
            Ok(value)
        }
    }

    /// The byte at hand.
    fn peek(&self) -> Step<u8> {
        if self.at >= V1_LINE_MAX {
            return reject(Reason::LineTooLong);
        }
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(Stop::More { at_least: 1 })
    }

    /// Takes the byte at hand.
    fn next(&mut self) -> Step<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes exactly these bytes.
    fn literal(&mut self, expected: &[u8], reason: Reason) -> Step<()> {
        for &byte in expected {
            if self.next()? != byte {
                return reject(reason);
            }
        }
        Ok(())
    }
}

/// The groups of an IPv6 address read so far, and where the double colon was.
#[derive(Default)]
struct Groups {
    values: [u16; 8],
    count: usize,
    gap_at: Option<usize>,
}

impl Groups {
    /// The most groups there may be: a double colon stands for at least one.
    fn max(&self) -> usize {
        if self.gap_at.is_some() { 7 } else { 8 }
    }

    /// Whether dotted decimals may come now: two groups, and they end the address.
    fn need_room_for_dotted(&self) -> Step<()> {
        let fits = match self.gap_at {
            Some(_) => self.count + 2 <= self.max(),
            None => self.count + 2 == self.max(),
        };
        if fits {
            Ok(())
        } else {
            reject(Reason::Address)
        }
    }

    /// Whether one more group, or a double colon in its place, still fits.
    fn need_more(&self) -> Step<()> {
        if self.count < self.max() {
            Ok(())
        } else {
            reject(Reason::Address)
        }
    }

    fn push(&mut self, value: u16) -> Step<()> {
        self.need_more()?;
        self.values[self.count] = value;
        self.count += 1;
        Ok(())
    }

    fn open_gap(&mut self) -> Step<()> {
        if self.gap_at.is_some() {
            return reject(Reason::Address);
        }
        self.gap_at = Some(self.count);
        Ok(())
    }

    /// The address, now that a space has ended it.
    fn address(mut self) -> Step<Ipv6Addr> {
        match self.gap_at {
            Some(gap_at) => self.values[gap_at..].rotate_right(8 - self.count),
            None if self.count == 8 => {}
            None => return reject(Reason::Address),
        }
        Ok(Ipv6Addr::from(self.values))
    }
}
