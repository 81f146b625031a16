//! Networks that may connect and networks that may not.
//!
//! Invariant: of all networks that hold an address the one with the longest prefix decides, on a tie the one that
//! denies, and an address that none holds is denied. IPv4 and IPv6 are looked up apart: an IPv4-mapped IPv6
//! address is an IPv4 address, and so is a network inside ::ffff:0:0/96.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::flips::{Flips, Range};

/// Bits of the prefix under which IPv6 carries IPv4 addresses, ::ffff:0:0/96.
const MAPPED_BITS: u8 = 96;

/// Whether a client may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Who may connect; read only once it is made, so workers may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    four: Flips<u32>,
    six: Flips<u128>,
}

impl AccessList {
    /// From two lists in any order, in which a network may stand more than once.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> AccessList {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for (networks, answer) in [(allow, true), (deny, false)] {
            for network in networks {
                match canonical(*network) {
                    IpNet::V4(network) => four.push(Range {
                        first: network.network().to_bits(),
                        last: network.broadcast().to_bits(),
                        answer,
                    }),
                    IpNet::V6(network) => six.push(Range {
                        first: network.network().to_bits(),
                        last: network.broadcast().to_bits(),
                        answer,
                    }),
                }
            }
        }
        AccessList {
            four: Flips::new(four),
            six: Flips::new(six),
        }
    }

    /// What is said about a client with this address.
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        let is_allowed = match address.to_canonical() {
            IpAddr::V4(address) => self.four.answer(address.to_bits()),
            IpAddr::V6(address) => self.six.answer(address.to_bits()),
        };
        if is_allowed {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }

    /// How many numbers it holds: at most two for each network.
    pub fn size(&self) -> usize {
        self.four.len() + self.six.len()
    }
}

/// The network of these lists that decides about an address, as it is written there; none where nobody named it.
pub fn deciding<'a>(allow: &'a [IpNet], deny: &'a [IpNet], address: IpAddr) -> Option<&'a IpNet> {
    let address = address.to_canonical();
    let holding = |network: &&IpNet| canonical(**network).contains(&address);
    // Of two with one length the one that denies decides: it comes last, as the last of the greatest is taken.
    allow
        .iter()
        .chain(deny)
        .filter(holding)
        .max_by_key(|network| canonical(**network).prefix_len())
}

/// The network as clients appear in it.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else {
        return network;
    };
    let mapped = |address: Ipv6Addr| {
        let bits = six.prefix_len().checked_sub(MAPPED_BITS)?;
        Ipv4Net::new(address.to_ipv4_mapped()?, bits).ok()
    };
    mapped(six.network()).map_or(network, IpNet::V4)
}
