//! A second opinion on ClientHellos, the crate `tls-parser`: where both accept a hello they read the same in it. The
//! other parser wants a message in one piece, without records.

use ringway_wire::{ClientHello, HostName, Parse, ServerName, parse_client_hello};
use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
    parse_tls_message_handshake,
};

/// The message in these records: a second opinion on records, for records that are complete.
pub(crate) fn without_records(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        message.extend(&rest[..size]);
        bytes = &rest[size..];
    }
    message
}

/// What the other parser reads: the first host name, and the protocols.
struct Other {
    host_name: Option<Vec<u8>>,
    alpn: Vec<Vec<u8>>,
}

fn other(message: &[u8]) -> Option<Other> {
    let (_, parsed) = parse_tls_message_handshake(message).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = parsed else {
        return None;
    };
    let mut found = Other {
        host_name: None,
        alpn: Vec::new(),
    };
    let (rest, extensions) = parse_tls_client_hello_extensions(hello.ext.unwrap_or(&[])).ok()?;
    if !rest.is_empty() {
        return None;
    }
    for extension in extensions {
        if let TlsExtension::SNI(names) = extension {
            found.host_name = names
                .iter()
                .find(|(kind, _)| *kind == SNIType::HostName)
                .map(|(_, name)| name.to_vec());
        } else if let TlsExtension::ALPN(names) = extension {
            found.alpn = names.iter().map(|name| name.to_vec()).collect();
        }
    }
    Some(found)
}

fn compare(hello: &ClientHello<'_>, other: &Other) {
    let expected = match other.host_name.as_deref().map(HostName::new) {
        None => ServerName::Absent,
        Some(Ok(name)) => ServerName::Host(name),
        Some(Err(fault)) => ServerName::Invalid(fault),
    };
    assert_eq!(hello.server_name, expected);
    let protocols: Vec<Vec<u8>> = hello.alpn.map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(protocols, other.alpn);
}

/// Whether both accept these bytes; if so, they agree.
pub(crate) fn agree(bytes: &[u8]) -> bool {
    let Parse::Done { value, used } = parse_client_hello(bytes) else {
        return false;
    };
    let Some(other) = other(&without_records(&bytes[..used])) else {
        return false;
    };
    compare(&value, &other);
    true
}
