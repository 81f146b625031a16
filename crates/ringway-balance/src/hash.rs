//! The two hash functions every placement rests on.
//!
//! They are part of the product's behaviour: a change moves clients to other backends on the day of an upgrade, and
//! makes nodes of different versions disagree. They are fixed for ever; the tests hold their values.

/// A well mixed permutation of 64 bits (the finaliser of SplitMix64, Steele, Lea and Flood, OOPSLA 2014).
///
/// Every input bit flips each output bit with a probability near one half; different inputs never collide.
pub const fn mix64(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of bytes that is the same on every node, platform and version: FNV-1a of 64 bits, then [`mix64`].
///
/// For a backend's identity, hash its address as the configuration writes it; for a client's key, the octets of its
/// canonical IP address without the port. It is not keyed: who may choose the bytes may choose the result.
pub const fn stable_hash(bytes: &[u8]) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        state = (state ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    mix64(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix64_matches_the_published_splitmix64_sequence() {
        // SplitMix64 from seed 0 adds the golden ratio before each output.
        assert_eq!(mix64(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        assert_eq!(
            mix64(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2)),
            0x6e78_9e6a_a1b9_65f4
        );
    }

    #[test]
    fn stable_hash_is_mixed_fnv1a() {
        // FNV-1a vectors of the reference page: "" and "a" and "foobar".
        assert_eq!(stable_hash(b""), mix64(0xcbf2_9ce4_8422_2325));
        assert_eq!(stable_hash(b"a"), mix64(0xaf63_dc4c_8601_ec8c));
        assert_eq!(stable_hash(b"foobar"), mix64(0x8594_4171_f739_67e8));
    }
}
