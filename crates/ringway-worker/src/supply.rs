//! How far the buffers of a worker go: whether a direction may hold several, and whether one more connection
//! may come. Not who has them: that is the ring's. It decides from two numbers.
//!
//! A receive that was armed while there was plenty may fill four buffers long after. Where memory is not
//! bounded, so many are never armed that it matters before descriptors run out; where it is, connections
//! beyond the first sixteenth get one buffer at a time from the beginning. Invariant: with a connection for
//! every two buffers, and one direction of each blocked, some buffers are left.

use ringway_flow::Room;

use crate::spec::BUFFERS_MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply {
    buffers_max: u32,
    /// Connections that may hold several.
    at_ease: usize,
}

impl Supply {
    pub(crate) fn new(buffers_max: u16) -> Supply {
        let is_bounded = buffers_max < BUFFERS_MAX;
        Supply {
            buffers_max: buffers_max.into(),
            at_ease: if is_bounded {
                usize::from(buffers_max / 16)
            } else {
                usize::MAX
            },
        }
    }

    /// From half of the buffers on a direction may hold one only.
    pub(crate) fn room(self, held: u32, connections: usize) -> Room {
        if held > self.buffers_max / 2 || connections > self.at_ease {
            Room::Scarce
        } else {
            Room::Plenty
        }
    }

    /// Whether those who are in need the last buffers themselves.
    pub(crate) fn is_short(self, held: u32) -> bool {
        held > self.buffers_max / 8 * 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_buffers_are_for_those_who_hold_none() {
        let supply = Supply::new(BUFFERS_MAX);
        assert_eq!(supply.room(16_384, 1 << 20), Room::Plenty);
        assert_eq!(supply.room(16_385, 1), Room::Scarce);
        assert!(!supply.is_short(28_672) && supply.is_short(28_673));
    }

    #[test]
    fn a_crowd_in_little_memory_gets_them_one_by_one() {
        let supply = Supply::new(4096);
        assert_eq!(supply.room(0, 256), Room::Plenty);
        assert_eq!(supply.room(0, 257), Room::Scarce);
        // Both directions of those at ease, and one of each of the others: a connection for two buffers.
        let most = 256 * 2 * 4 + (2048 - 256);
        assert!(most < 4096, "{most}");
    }
}
