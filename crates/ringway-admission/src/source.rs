//! What limits per source count by: the whole IPv4 address, or the first 64 bits of the IPv6 address, because a
//! single host usually has a /64 to choose its addresses from. Invariant: two clients have one key exactly if
//! they have one such prefix; an IPv4-mapped IPv6 address is the IPv4 address.

use std::net::IpAddr;
use std::num::NonZeroU64;

/// Keys that are no IPv6 prefix stand in ff00::/8: multicast groups, which nobody connects from.
const OUTSIDE: u64 = 0xff << 56;
/// The key of ::/64, the prefix of ::1; zero is left for "no key".
const ZERO_PREFIX: u64 = OUTSIDE | 1 << 32;

/// One source of connections, as limits per source see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceKey(NonZeroU64);

impl SourceKey {
    /// The key of a client with this address.
    pub fn of(address: IpAddr) -> SourceKey {
        let number = match address.to_canonical() {
            IpAddr::V4(address) => OUTSIDE | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        let zero_prefix = const { NonZeroU64::new(ZERO_PREFIX).expect("invariant: not zero") };
        SourceKey(NonZeroU64::new(number).unwrap_or(zero_prefix))
    }

    /// The key as a number, never zero.
    pub fn get(self) -> NonZeroU64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> SourceKey {
        SourceKey::of(address.parse().unwrap())
    }

    #[test]
    fn four_counts_whole_and_six_by_its_first_half() {
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }

    #[test]
    fn the_families_do_not_meet() {
        let four = [
            "0.0.0.0",
            "0.0.0.1",
            "0.0.0.2",
            "127.0.0.1",
            "255.255.255.255",
        ];
        let six = [
            "::",
            "::1",
            "0:0:0:1::",
            "7f00:1::",
            "fe80::1",
            "2001:db8::",
        ];
        for four in four {
            for six in six {
                assert_ne!(key(four), key(six), "{four} {six}");
            }
        }
        assert_eq!(key("::1"), key("::2"));
    }
}
