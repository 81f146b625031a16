//! PROXY headers as other programs write them, byte by byte after the specification; nothing of
//! Ringway's own is used.

use std::net::SocketAddr;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

pub(crate) const LOCAL: u8 = 0x20;
pub(crate) const PROXY: u8 = 0x21;
pub(crate) const UNSPEC: u8 = 0x00;
pub(crate) const TCP4: u8 = 0x11;
pub(crate) const TCP6: u8 = 0x21;
pub(crate) const UNIX: u8 = 0x31;

pub(crate) const ALPN: u8 = 1;
pub(crate) const AUTHORITY: u8 = 2;
pub(crate) const CRC32C: u8 = 3;
pub(crate) const UNIQUE_ID: u8 = 5;

pub(crate) fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
}

/// A header with this content behind its length.
pub(crate) fn v2_raw(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend((content.len() as u16).to_be_bytes());
    header.extend(content);
    header
}

pub(crate) fn v2(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let mut content = addresses(source, destination);
    content.extend(tlvs);
    let family = if source.is_ipv4() { TCP4 } else { TCP6 };
    v2_raw(PROXY, family, &content)
}

pub(crate) fn addresses(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address {
            SocketAddr::V4(v4) => bytes.extend(v4.ip().octets()),
            SocketAddr::V6(v6) => bytes.extend(v6.ip().octets()),
        }
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

pub(crate) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

/// The same header with a checksum of itself at its end, right or one bit off.
pub(crate) fn with_checksum(mut header: Vec<u8>, is_right: bool) -> Vec<u8> {
    header.extend(tlv(CRC32C, &[0; 4]));
    let len = (header.len() - 16) as u16;
    header[14..16].copy_from_slice(&len.to_be_bytes());
    let sum = crc32c(&header) ^ u32::from(!is_right);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

/// A v2 header as it was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) command: u8,
    pub(crate) family: u8,
    /// Without the checksum, which was right.
    pub(crate) tlvs: Vec<(u8, Vec<u8>)>,
    pub(crate) addresses: Vec<u8>,
}

impl Received {
    /// Reads a header from the start of a stream, and nothing behind it.
    pub(crate) fn read(mut stream: impl std::io::Read) -> Received {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).unwrap();
        assert_eq!(&fixed[..12], SIGNATURE, "{fixed:?}");
        let len = u16::from_be_bytes([fixed[14], fixed[15]]);
        let mut content = vec![0; usize::from(len)];
        stream.read_exact(&mut content).unwrap();
        let whole = [fixed.as_slice(), &content].concat();
        let (command, family) = (fixed[12], fixed[13]);
        let split = match family {
            TCP4 => 12,
            TCP6 => 36,
            UNIX => 216,
            _ => 0,
        };
        let mut rest = &content[split..];
        let mut tlvs = Vec::new();
        while let [kind, high, low, behind @ ..] = rest {
            let (value, behind) = behind.split_at(usize::from(*high) << 8 | usize::from(*low));
            tlvs.push((*kind, value.to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty(), "{rest:?}");
        if command == PROXY {
            let (kind, sum) = tlvs.pop().expect("a checksum");
            let mut blank = whole.clone();
            blank[whole.len() - 4..].fill(0);
            assert_eq!((kind, sum), (CRC32C, crc32c(&blank).to_be_bytes().to_vec()));
        }
        Received {
            command,
            family,
            tlvs,
            addresses: content[..split].to_vec(),
        }
    }

    pub(crate) fn value(&self, kind: u8) -> Option<&[u8]> {
        let mut found = self.tlvs.iter().filter(|(of, _)| *of == kind);
        let value = found.next().map(|(_, value)| value.as_slice());
        assert!(found.next().is_none(), "{kind} is there twice: {self:?}");
        value
    }
}
