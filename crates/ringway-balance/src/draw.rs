//! Where randomness comes from: eight bytes of state, seeded by the caller.
//!
//! Not for secrets. **Invariant:** the same seed gives the same draws, on every platform.

use crate::hash::mix64;

/// A small generator of random numbers (SplitMix64).
///
/// It is `Clone` and not `Copy`: a copy made by accident would repeat its draws.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// A generator; give each worker another seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.state)
    }

    /// A number in `0..bound`, or 0 when `bound` is 0.
    ///
    /// The bias of multiplying instead of rejecting is below `bound / 2^64`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_splitmix64() {
        let mut draw = Draw::new(0);
        assert_eq!(draw.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(draw.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut draw = Draw::new(7);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[draw.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 150), "{seen:?}");
        assert_eq!(draw.below(0), 0);
        assert_eq!(draw.below(1), 0);
    }
}
