//! The local address of a connection to a backend: whichever the kernel takes, one of a list, or the client's own.
//!
//! Addresses of a list take turns, so each carries its share and its own ephemeral ports; where one has no port left
//! towards a backend, or is gone, the next is tried within the same attempt. Invariant: an attempt tries each address
//! of its family once at most, and an attempt that was cancelled begins no other.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ringway_flow::Side;
use ringway_uring::{ConnectAddress, Errno, bind_foreign, bind_local, peer_address};

use crate::slots::Slot;
use crate::worker::Worker;

/// Where a pool's connections come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginSpec {
    /// The kernel chooses.
    #[default]
    Any,
    /// These, in turn, of the family of the backend.
    Addresses(Vec<IpAddr>),
    /// The client's own address. A client of a Unix socket has none: then the kernel chooses.
    Client,
}

/// The same as one worker has it.
#[derive(Debug)]
pub(crate) enum Origin {
    Any,
    Lists { four: Turns, six: Turns },
    Client,
}

/// Addresses of one family, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Turns {
    addresses: Vec<IpAddr>,
    next: usize,
}

impl Turns {
    /// Workers begin at different addresses.
    fn new(addresses: Vec<IpAddr>, start: u32) -> Turns {
        let next = start as usize % addresses.len().max(1);
        Turns { addresses, next }
    }

    fn take(&mut self) -> Option<IpAddr> {
        let address = self.addresses.get(self.next).copied()?;
        self.next = (self.next + 1) % self.addresses.len();
        Some(address)
    }
}

impl Origin {
    pub(crate) fn new(spec: OriginSpec, start: u32) -> Origin {
        match spec {
            OriginSpec::Any => Origin::Any,
            OriginSpec::Addresses(addresses) => {
                let (four, six) = addresses.into_iter().partition(IpAddr::is_ipv4);
                Origin::Lists {
                    four: Turns::new(four, start),
                    six: Turns::new(six, start),
                }
            }
            OriginSpec::Client => Origin::Client,
        }
    }

    /// How many addresses there are for a connection there.
    pub(crate) fn count(&self, to: &ConnectAddress) -> u16 {
        match (self, to.ip()) {
            (Origin::Any | Origin::Client, _) | (Origin::Lists { .. }, None) => 0,
            (Origin::Lists { four, .. }, Some(IpAddr::V4(_))) => four.addresses.len() as u16,
            (Origin::Lists { six, .. }, Some(IpAddr::V6(_))) => six.addresses.len() as u16,
        }
    }

    /// Whether a client's address is wanted when it is connected.
    pub(crate) fn asks_who(&self) -> bool {
        match self {
            Origin::Client => true,
            Origin::Any | Origin::Lists { .. } => false,
        }
    }

    /// Gives the socket of a connection there its local address.
    pub(crate) fn bind(
        &mut self,
        fd: BorrowedFd<'_>,
        to: &ConnectAddress,
        held: &Slot,
    ) -> Result<(), Errno> {
        let Some(to) = to.ip() else { return Ok(()) };
        match (self, to) {
            (Origin::Any, _) => Ok(()),
            (Origin::Lists { four, .. }, IpAddr::V4(_)) => bind_next(fd, four),
            (Origin::Lists { six, .. }, IpAddr::V6(_)) => bind_next(fd, six),
            (Origin::Client, to) => match client_of(held)? {
                None => Ok(()),
                Some(client) if client.is_ipv4() == to.is_ipv4() => bind_foreign(fd, client),
                // It must not come under an address that the backend takes for somebody else's.
                Some(_) => Err(Errno::AFNOSUPPORT),
            },
        }
    }
}

fn bind_next(fd: BorrowedFd<'_>, turns: &mut Turns) -> Result<(), Errno> {
    match turns.take() {
        Some(address) => bind_local(fd, address),
        // The configuration has one for every backend.
        None => Ok(()),
    }
}

/// Whom a header announced, or who is there. A client that has gone is no more known than one that never had an
/// address, but what it said is not said by this host.
fn client_of(held: &Slot) -> Result<Option<IpAddr>, Errno> {
    let announced = held.said.as_deref().and_then(|said| said.source());
    let client = match announced {
        Some(announced) => Some(announced),
        None => peer_address(held.socket(Side::Front))?,
    };
    Ok(client.map(|client| client.ip().to_canonical()))
}

impl Worker {
    /// Whether the attempt in flight, which failed so, goes on from another address.
    pub(crate) fn has_another_origin(&self, slot: u32, errno: Errno) -> bool {
        let held = self.slots.get(slot);
        errno.is_no_ports() && held.origins_left > 0 && !held.flow.is_closing()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ringway_uring::connect_socket;

    use super::*;
    use crate::slots::tests::abandoned;

    #[test]
    fn addresses_take_turns_and_workers_begin_apart() {
        let addresses: Vec<IpAddr> = (1..=3).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let mut turns = Turns::new(addresses.clone(), 4);
        let seen: Vec<IpAddr> = (0..4).filter_map(|_| turns.take()).collect();
        assert_eq!(
            seen,
            [addresses[1], addresses[2], addresses[0], addresses[1]]
        );
        assert_eq!(Turns::new(Vec::new(), 1).take(), None);
    }

    #[test]
    fn families_are_counted_apart() {
        let list = ["10.0.0.1", "10.0.0.2", "::1"].map(|text| text.parse().unwrap());
        let origin = Origin::new(OriginSpec::Addresses(list.into()), 0);
        let to = |text: &str| ConnectAddress::from(text.parse::<std::net::SocketAddr>().unwrap());
        assert_eq!(origin.count(&to("192.0.2.1:1")), 2);
        assert_eq!(origin.count(&to("[::2]:1")), 1);
        assert_eq!(Origin::new(OriginSpec::Client, 0).count(&to("[::2]:1")), 0);
    }

    /// Bytes it has left behind are relayed all the same, and must not come from this host's own address.
    #[test]
    fn a_client_that_has_gone_is_not_taken_for_one_without_an_address() {
        let to = ConnectAddress::from("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap());
        let socket = connect_socket(&to).unwrap();
        let bound = Origin::Client.bind(socket.as_fd(), &to, &abandoned());
        assert_eq!(bound, Err(Errno::NOTCONN));
    }
}
