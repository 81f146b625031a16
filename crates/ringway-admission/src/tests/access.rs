//! Access lists against a look at every network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use crate::{AccessList, Verdict, deciding};

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn verdict(list: &AccessList, address: &str) -> Verdict {
    list.verdict(address.parse().unwrap())
}

#[test]
fn the_longest_prefix_wins_and_on_a_tie_the_one_that_denies() {
    let allow = networks(&["10.0.0.0/8", "10.1.2.0/24", "192.0.2.0/24"]);
    let deny = networks(&["10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24"]);
    let list = AccessList::new(&allow, &deny);
    for (address, expected) in [
        ("9.255.255.255", Verdict::Deny),
        ("10.0.0.0", Verdict::Allow),
        ("10.0.255.255", Verdict::Allow),
        ("10.1.0.0", Verdict::Deny),
        ("10.1.1.255", Verdict::Deny),
        ("10.1.2.0", Verdict::Allow),
        ("10.1.2.3", Verdict::Deny),
        ("10.1.2.4", Verdict::Allow),
        ("10.1.3.0", Verdict::Deny),
        ("10.2.0.0", Verdict::Allow),
        ("10.255.255.255", Verdict::Allow),
        ("11.0.0.0", Verdict::Deny),
        ("192.0.2.9", Verdict::Deny),
        ("::ffff:10.1.2.4", Verdict::Allow),
        ("::ffff:10.1.2.3", Verdict::Deny),
        ("2001:db8::1", Verdict::Deny),
    ] {
        assert_eq!(verdict(&list, address), expected, "{address}");
    }
}

#[test]
fn the_ends_of_a_family_are_addresses_like_others() {
    let allow = networks(&["0.0.0.0/0", "::/0"]);
    let everyone = AccessList::new(&allow, &[]);
    let deny = networks(&["255.255.255.255/32", "0.0.0.0/32", "ffff::/16", "::/128"]);
    let list = AccessList::new(&allow, &deny);
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::", last] {
        assert_eq!(verdict(&everyone, address), Verdict::Allow, "{address}");
        assert_eq!(verdict(&list, address), Verdict::Deny, "{address}");
    }
    for address in ["0.0.0.1", "255.255.255.254", "::1", "fffe::"] {
        assert_eq!(verdict(&list, address), Verdict::Allow, "{address}");
    }
}

/// `::/0` is every IPv6 client; those of IPv4 have a list of their own.
#[test]
fn a_mapped_network_is_one_of_ipv4_and_a_wider_one_is_not() {
    let mapped = AccessList::new(&networks(&["::ffff:10.0.0.0/104"]), &[]);
    assert_eq!(verdict(&mapped, "10.9.9.9"), Verdict::Allow);
    assert_eq!(verdict(&mapped, "::ffff:10.9.9.9"), Verdict::Allow);
    assert_eq!(verdict(&mapped, "11.0.0.0"), Verdict::Deny);
    let all_mapped = AccessList::new(&networks(&["::ffff:0.0.0.0/96"]), &[]);
    assert_eq!(verdict(&all_mapped, "255.0.0.1"), Verdict::Allow);
    for text in ["::/0", "::ffff:0.0.0.0/95"] {
        let wide = AccessList::new(&networks(&[text]), &[]);
        assert_eq!(verdict(&wide, "10.0.0.1"), Verdict::Deny, "{text}");
    }
}

#[test]
fn nobody_is_named_and_nobody_may() {
    let list = AccessList::new(&[], &[]);
    assert_eq!(verdict(&list, "127.0.0.1"), Verdict::Deny);
    assert_eq!(verdict(&list, "::1"), Verdict::Deny);
    assert_eq!(list.size(), 0);
}

#[test]
fn neighbours_with_one_answer_are_one_entry() {
    let halves = networks(&["10.0.0.0/9", "10.128.0.0/9", "10.3.0.0/16"]);
    assert_eq!(AccessList::new(&halves, &[]).size(), 2);
    let allow = networks(&["0.0.0.0/0"]);
    let scattered: Vec<IpNet> = (1..=100_000u32)
        .map(|number| IpNet::new(Ipv4Addr::from_bits(number << 9).into(), 24).unwrap())
        .collect();
    let list = AccessList::new(&allow, &scattered);
    assert_eq!(list.size(), 1 + 2 * 100_000);
}

/// The verdict by the words of the contract, one network after the other.
fn slow_verdict(allow: &[IpNet], deny: &[IpNet], address: IpAddr) -> Verdict {
    let longest = |networks: &[IpNet]| {
        let holding = networks.iter().filter(|network| holds(network, address));
        holding.map(length_as_seen).max()
    };
    match (longest(allow), longest(deny)) {
        (Some(allow), Some(deny)) if allow > deny => Verdict::Allow,
        (Some(_), None) => Verdict::Allow,
        (Some(_) | None, Some(_)) | (None, None) => Verdict::Deny,
    }
}

/// A mapped network counts the bits behind ::ffff:0:0/96.
fn length_as_seen(network: &IpNet) -> u8 {
    match network {
        IpNet::V6(six) if is_mapped(network) => six.prefix_len() - 96,
        IpNet::V4(_) | IpNet::V6(_) => network.prefix_len(),
    }
}

fn is_mapped(network: &IpNet) -> bool {
    let all: IpNet = "::ffff:0:0/96".parse().unwrap();
    all.contains(network)
}

fn holds(network: &IpNet, address: IpAddr) -> bool {
    match (network, address.to_canonical()) {
        (IpNet::V6(_), IpAddr::V4(address)) if is_mapped(network) => {
            network.contains(&IpAddr::V6(address.to_ipv6_mapped()))
        }
        (IpNet::V6(_), IpAddr::V6(address)) => {
            !is_mapped(network) && network.contains(&IpAddr::V6(address))
        }
        (network, address) => network.contains(&address),
    }
}

/// Few distinct bits, so that networks and addresses meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let narrow = |bits: u32| bits & 0xc000_0301;
    prop_oneof![
        any::<u32>().prop_map(move |bits| Ipv4Addr::from_bits(narrow(bits)).into()),
        any::<u32>().prop_map(move |bits| {
            let mapped = Ipv4Addr::from_bits(narrow(bits)).to_ipv6_mapped();
            IpAddr::V6(mapped)
        }),
        any::<u128>().prop_map(|bits| {
            let narrow = bits & 0xe000_0000_0000_0001_0000_0000_0000_0003;
            IpAddr::V6(Ipv6Addr::from_bits(narrow))
        }),
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), any::<u8>()).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length % (most + 1)).unwrap().trunc()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_says_what_the_lists_say(
        allow in prop::collection::vec(network(), 0..24),
        deny in prop::collection::vec(network(), 0..24),
        addresses in prop::collection::vec(address(), 0..32),
    ) {
        let list = AccessList::new(&allow, &deny);
        prop_assert!(list.size() <= 2 * (allow.len() + deny.len()));
        // The ends of every network, and what stands beside them.
        let ends = allow.iter().chain(&deny).flat_map(|network| [network.network(), network.broadcast()]);
        let beside = ends.clone().flat_map(|end| match end {
            IpAddr::V4(end) => [end.to_bits().wrapping_sub(1), end.to_bits().wrapping_add(1)]
                .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            IpAddr::V6(end) => [end.to_bits().wrapping_sub(1), end.to_bits().wrapping_add(1)]
                .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        });
        for address in addresses.iter().copied().chain(ends).chain(beside) {
            prop_assert_eq!(
                list.verdict(address),
                slow_verdict(&allow, &deny, address),
                "{}", address
            );
            // The network that is named as the reason decides alone as it does among the others.
            let named = deciding(&allow, &deny, address);
            let alone = |list: &[IpNet]| -> Vec<IpNet> {
                list.iter().filter(|network| Some(*network) == named).copied().collect()
            };
            let alone = AccessList::new(&alone(&allow), &alone(&deny));
            prop_assert_eq!(alone.verdict(address), list.verdict(address), "{} {:?}", address, named);
            prop_assert_eq!(named.is_some(), allow.iter().chain(&deny).any(|network| holds(network, address)));
        }
    }
}
