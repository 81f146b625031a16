//! The table of an access list against a look at every network: the longest prefix that holds an
//! address decides, on a tie the one that denies.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ringway_admission::{AccessList, Verdict};

#[derive(Arbitrary, Debug)]
struct Network {
    address: Address,
    length: u8,
    is_allowed: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    Four(u32),
    /// An IPv4 address as IPv6 carries it.
    Mapped(u32),
    Six(u128),
}

impl Address {
    fn ip(self) -> IpAddr {
        match self {
            Address::Four(bits) => Ipv4Addr::from_bits(bits).into(),
            Address::Mapped(bits) => Ipv4Addr::from_bits(bits).to_ipv6_mapped().into(),
            Address::Six(bits) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

/// An address as 128 bits, each family in a part of its own.
fn bits(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (true, u128::from(address.to_bits()) << 96),
        IpAddr::V6(address) => (false, address.to_bits()),
    }
}

/// What a network says about an address: the length of the prefix that they share, if it is whole.
fn holds(network: &IpNet, address: IpAddr) -> Option<u8> {
    let is_mapped = match network.network() {
        IpAddr::V6(first) => network.prefix_len() >= 96 && first.to_ipv4_mapped().is_some(),
        IpAddr::V4(_) => false,
    };
    let length = network.prefix_len() - if is_mapped { 96 } else { 0 };
    let first = match network.network() {
        IpAddr::V6(first) if !is_mapped => (false, first.to_bits()),
        first => bits(first),
    };
    let (is_four, address) = bits(address);
    let differ = (first.1 ^ address)
        .checked_shr(128 - u32::from(length))
        .unwrap_or(0);
    (first.0 == is_four && differ == 0).then_some(length)
}

fuzz_target!(|input: (Vec<Network>, Vec<Address>)| {
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for network in input.0 {
        let address = network.address.ip();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = network.length % (most + 1);
        let parsed = IpNet::new(address, length)
            .expect("a length that fits")
            .trunc();
        let list = if network.is_allowed {
            &mut allow
        } else {
            &mut deny
        };
        list.push(parsed);
    }
    let list = AccessList::new(&allow, &deny);
    let ends = allow
        .iter()
        .chain(&deny)
        .flat_map(|network| [network.network(), network.broadcast()]);
    for address in input.1.into_iter().map(Address::ip).chain(ends) {
        let longest = |networks: &[IpNet]| {
            networks
                .iter()
                .filter_map(|network| holds(network, address))
                .max()
        };
        let is_allowed =
            longest(&allow).is_some_and(|allow| longest(&deny).is_none_or(|deny| allow > deny));
        assert_eq!(
            list.verdict(address) == Verdict::Allow,
            is_allowed,
            "{address}"
        );
    }
});
