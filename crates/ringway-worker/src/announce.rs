//! The PROXY header that a backend gets before anything else: once on each connection to it.
//!
//! Invariant: it is handed to the kernel as a whole before the flow hears that it is connected, or
//! the attempt has failed; so nothing can come before it, and a retry starts with its own.

use std::io::Write;
use std::net::SocketAddr;

use ringway_flow::Side;
use ringway_uring::{Errno, local_address, peer_address};
use ringway_wire::{
    Addresses, Alpn, Checksum, Command, Extensions, HostName, ProxyHeader, ProxyVersion, TlvType,
    Transport, UNIQUE_ID_MAX, write_v1, write_v2,
};
use rustix::net::{SendFlags, send};

use crate::slots::Slot;
use crate::worker::Worker;

/// Room for addresses, and for each of the values of [`Said`] at its longest.
const HEADER_MAX: usize = 1024;
/// Longest name and protocol that are passed on. A header that came in may have longer ones.
const VALUE_MAX: usize = 255;
/// Digits of an identity of our own. A header with it, IPv6 addresses and a checksum stays within
/// 107 bytes, which is all that nginx reads before 1.23.
const IDENTITY_LEN: usize = 12 + 10 + 6 + 4;

const _: () = assert!(IDENTITY_LEN <= UNIQUE_ID_MAX);
const _: () = assert!(16 + 2 * 108 + 2 * (3 + VALUE_MAX) + 3 + UNIQUE_ID_MAX + 7 <= HEADER_MAX);

/// What a client, or who sent it, has said about its connection.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Source and destination, where a header had them.
    addresses: Option<(SocketAddr, SocketAddr)>,
    authority: Option<Box<[u8]>>,
    protocol: Option<Box<[u8]>>,
    unique_id: Option<Box<[u8]>>,
}

impl Said {
    pub(crate) fn from_header(header: &ProxyHeader<'_>) -> Said {
        let value = |kind: TlvType, most: usize| {
            let value = header.tlvs.value(kind)?;
            (value.len() <= most).then(|| Box::from(value))
        };
        Said {
            addresses: header.addresses.sockets(),
            authority: value(TlvType::AUTHORITY, VALUE_MAX),
            protocol: value(TlvType::ALPN, VALUE_MAX),
            unique_id: value(TlvType::UNIQUE_ID, UNIQUE_ID_MAX),
        }
    }

    /// What a hello says. Which of several protocols will be spoken is the backend's to choose.
    pub(crate) fn hear(&mut self, name: &HostName, mut offered: Alpn<'_>) {
        self.authority = Some(name.as_bytes().into());
        self.protocol = match (offered.next(), offered.next()) {
            (Some(only), None) => Some(only.as_bytes().into()),
            (Some(_), Some(_)) | (None, _) => None,
        };
    }

    /// Whom a header announced.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        self.addresses.map(|(source, _)| source)
    }
}

impl Worker {
    /// Sends the header, if the pool wants one, on a connection that has just been made.
    pub(crate) fn announce(&self, slot: u32) -> Result<(), Errno> {
        let held = self.slots.get(slot);
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        let Some(version) = self.pools[pool].send_proxy else {
            return Ok(());
        };
        // A connect that was cancelled too late is none to speak on.
        if held.flow.is_closing() {
            return Ok(());
        }
        let mut identity = [0; IDENTITY_LEN];
        self.write_identity(slot, &mut identity);
        let mut header = [0; HEADER_MAX];
        let len = header_of(version, held, &identity, &mut header)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(held.socket(Side::Back), &header[..len], flags) {
            Ok(sent) if sent == len => Ok(()),
            // A part of a header cannot be continued by a flow.
            Ok(_) => Err(Errno(rustix::io::Errno::PIPE.raw_os_error())),
            Err(errno) => Err(Errno(errno.raw_os_error())),
        }
    }

    /// The same for all attempts of one connection, and no other's.
    fn write_identity(&self, slot: u32, mut out: &mut [u8]) {
        let instance = self.instance & 0xffff_ffff_ffff;
        let born = self.slots.get(slot).flow.born().as_micros() & 0xff_ffff_ffff;
        let generation = self.slots.generation(slot);
        write!(out, "{instance:012x}{born:010x}{slot:06x}{generation:04x}")
            .expect("invariant: it has room for all digits");
    }
}

fn header_of(
    version: ProxyVersion,
    held: &Slot,
    identity: &[u8],
    out: &mut [u8],
) -> Result<usize, Errno> {
    let said = held.said.as_deref();
    let addresses = match said.and_then(|said| said.addresses) {
        Some(announced) => Some(announced),
        None => real_addresses(held)?,
    };
    let addresses = match addresses {
        Some((from, to)) => Addresses::from_sockets(Transport::Stream, from, to),
        None => Addresses::Unspecified,
    };
    let written = match version {
        ProxyVersion::V1 => write_v1(&addresses, out),
        ProxyVersion::V2 => {
            let extensions = Extensions {
                authority: said.and_then(|said| said.authority.as_deref()),
                alpn: said.and_then(|said| said.protocol.as_deref()),
                unique_id: said
                    .and_then(|said| said.unique_id.as_deref())
                    .or(Some(identity)),
                checksum: Checksum::Crc32c,
            };
            write_v2(Command::Proxy, &addresses, &extensions, out)
        }
    };
    Ok(written.expect("invariant: every header fits"))
}

/// None for Unix sockets. A client that has gone may have said something, which nobody is to take for
/// what this host says.
fn real_addresses(held: &Slot) -> Result<Option<(SocketAddr, SocketAddr)>, Errno> {
    let front = held.socket(Side::Front);
    let (from, to) = (peer_address(front)?, local_address(front)?);
    Ok(from.zip(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::tests::abandoned;

    #[test]
    fn nobody_is_announced_in_place_of_a_client_that_has_gone() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let written = header_of(version, &abandoned(), &[b'0'; 32], &mut [0; HEADER_MAX]);
            assert_eq!(written, Err(Errno::NOTCONN));
        }
    }
}
