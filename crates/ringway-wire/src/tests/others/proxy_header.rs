//! A second opinion on PROXY headers, the crate `proxy-header`. Where both parsers accept a header they read the same
//! in it; where only one does, the difference is one of those named here, and each has its reason.

use proxy_header::{Error, ParseConfig, Protocol, Tlv as OtherTlv};
use ringway_wire::{Addresses, Parse, ProxyHeader, ProxyVersion, Reason, TlvType, Transport};

type Other<'a> = proxy_header::ProxyHeader<'a>;

/// Whether both accept these bytes. Panics where they differ and must not.
pub(crate) fn agree(bytes: &[u8]) -> bool {
    let other = Other::parse(bytes, ParseConfig::default());
    match (ringway_wire::parse_proxy(bytes), other) {
        (Parse::Done { value, used }, Ok((other, other_used))) => {
            assert_eq!(used, other_used);
            compare(&value, &other);
            return true;
        }
        // Section 2.2 of the specification: the block of LOCAL and of an unspecified family is skipped, whatever it
        // is; the other parser wants a family that it knows.
        (Parse::Done { value, .. }, Err(_)) => {
            let is_skipped = value.addresses == Addresses::Unspecified;
            assert!(value.version == ProxyVersion::V2 && is_skipped, "{value:?}");
        }
        (Parse::NeedMore { .. }, other) => assert_eq!(other.err(), Some(Error::BufferTooShort)),
        (Parse::Reject(reason), Ok((other, _))) => {
            assert!(is_stricter(reason, bytes, &other), "{reason}: {other:?}");
        }
        (Parse::Reject(_), Err(_)) => {}
    }
    false
}

/// Whether this is a reason for which the other parser does not reject.
fn is_stricter(reason: Reason, bytes: &[u8], other: &Other<'_>) -> bool {
    let is_v1 = bytes.starts_with(b"PROXY");
    match reason {
        // It skips the byte behind "PROXY", takes anything behind "UNKNOWN" up to a CR, numbers with signs and zeroes
        // in front, and lines of any length whose end is there.
        Reason::NotProxy
        | Reason::Protocol
        | Reason::Port
        | Reason::LineEnd
        | Reason::LineTooLong => is_v1,
        // It has no bound on a block, and does not verify checksums.
        Reason::TooLong | Reason::ChecksumMismatch => !is_v1,
        Reason::ChecksumForm => !is_v1 && !has_one_checksum(other),
        // It looks at the vectors when they are asked for.
        Reason::TlvTruncated => !is_v1 && other.tlvs().any(|tlv| tlv.is_err()),
        Reason::Address
        | Reason::Version
        | Reason::Command
        | Reason::Family
        | Reason::AddressTruncated
        | Reason::NotTls
        | Reason::NotClientHello
        | Reason::RecordLength
        | Reason::RecordInterleaved
        | Reason::HelloTooLong
        | Reason::HelloForm
        | Reason::DuplicateExtension
        | Reason::ServerNameForm
        | Reason::AlpnForm => false,
    }
}

/// Whether there is one checksum, as long as it has to be; a shorter or longer one it calls an error.
fn has_one_checksum(other: &Other<'_>) -> bool {
    let is_checksum = |tlv: &Result<OtherTlv<'_>, Error>| matches!(tlv, Ok(OtherTlv::Crc32c(_)));
    other.tlvs().all(|tlv| tlv.is_ok()) && other.tlvs().filter(is_checksum).count() == 1
}

fn compare(header: &ProxyHeader<'_>, other: &Other<'_>) {
    let transport = match header.addresses {
        // The other parser skips these.
        Addresses::Unspecified | Addresses::Unix { .. } => None,
        Addresses::Inet { transport, .. } | Addresses::Inet6 { transport, .. } => Some(transport),
    };
    let told = other.proxied_address();
    let sockets = told.map(|told| (told.source, told.destination));
    assert_eq!(header.addresses.sockets(), sockets);
    let other_transport = told.map(|told| match told.protocol {
        Protocol::Stream => Transport::Stream,
        Protocol::Datagram => Transport::Datagram,
    });
    assert_eq!(transport, other_transport);
    if header.addresses != Addresses::Unspecified {
        compare_tlvs(header, other);
    }
}

fn compare_tlvs(header: &ProxyHeader<'_>, other: &Other<'_>) {
    let mut theirs = other.tlvs();
    for tlv in header.tlvs {
        let mut form = Vec::new();
        match theirs.next().expect("both have this vector") {
            Ok(other) => other.encode(&mut form),
            // It wants UTF-8 in what is text, and a whole structure in that of TLS.
            Err(_) => {
                assert!(matches!(tlv.kind.0, 0x02 | 0x20..=0x25 | 0x30), "{tlv:?}");
                continue;
            }
        }
        assert_eq!((form[0], form.len() - 3), (tlv.kind.0, tlv.value.len()));
        // Of padding it keeps the length.
        if tlv.kind != TlvType::NOOP {
            assert_eq!(&form[3..], tlv.value);
        }
    }
    assert!(theirs.next().is_none());
}
