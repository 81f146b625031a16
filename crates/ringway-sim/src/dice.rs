//! Where a world's chances come from: a seed, or the bytes of a fuzzer and then a seed.
//!
//! Invariant: the same source gives the same world, decision by decision.

use ringway_balance::Draw;

/// A source of decisions.
#[derive(Debug)]
pub struct Dice {
    bytes: Vec<u8>,
    at: usize,
    draw: Draw,
}

impl Dice {
    /// Decisions that follow from a seed.
    pub fn from_seed(seed: u64) -> Dice {
        Dice {
            bytes: Vec::new(),
            at: 0,
            draw: Draw::new(seed),
        }
    }

    /// Decisions read from bytes, one for each small choice; what comes after the last byte follows
    /// from seed 0.
    pub fn from_bytes(bytes: &[u8]) -> Dice {
        Dice {
            bytes: bytes.to_vec(),
            at: 0,
            draw: Draw::new(0),
        }
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if self.at == self.bytes.len() {
            return self.draw.below(bound);
        }
        let width = if bound <= 256 { 1 } else { 4 };
        let end = (self.at + width).min(self.bytes.len());
        let number = self.bytes[self.at..end]
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte));
        self.at = end;
        number.checked_rem(bound).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// One of several values.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.index(values.len())]
    }

    /// An index below `count`, which must not be 0.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}
