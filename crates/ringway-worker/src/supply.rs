//! How far the buffers of a worker go, and those of its sockets: whether a direction may hold several, whether one
//! more connection may come, and how much the kernel may hold of it. Not who has them: that is the ring's, and the
//! kernel's. It decides from numbers.
//!
//! A receive that was armed while there was plenty may fill four buffers long after. Where memory is not
//! bounded, so many are never armed that it matters before descriptors run out; where it is, connections
//! beyond the first sixteenth get one buffer at a time from the beginning. Invariant: with a connection for
//! every two buffers, and one direction of each blocked, some buffers are left.

use ringway_flow::Room;
use ringway_uring::Confinement;

use crate::spec::{BUFFERS_MAX, Share};

/// What the kernel may come to hold of a direction that is blocked, where it tunes buffers by itself: most of the
/// default maxima for receiving and sending, 6 MiB and 4 MiB.
const TUNED_BYTES: u64 = 8 << 20;
/// What is offered to a peer before a size can be chosen: less would be dropped and sent again.
const RECEIVE_LEAST: u64 = 64 << 10;
const RECEIVE_MOST: u64 = 4 << 20;
const UNSENT_LEAST: u64 = 32 << 10;
/// More than this waiting to be sent makes nothing faster: what is on its way comes on top.
const UNSENT_MOST: u64 = 128 << 10;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply {
    buffers_max: u32,
    /// Connections that may hold several.
    at_ease: usize,
    socket_bytes: Option<u64>,
}

impl Supply {
    pub(crate) fn new(share: Share) -> Supply {
        let buffers_max = share.buffers_max;
        let is_bounded = buffers_max < BUFFERS_MAX;
        Supply {
            buffers_max: buffers_max.into(),
            at_ease: if is_bounded {
                usize::from(buffers_max / 16)
            } else {
                usize::MAX
            },
            socket_bytes: share.socket_bytes,
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

    /// How much the kernel may hold in each socket of one more connection. The first few keep what the kernel tunes
    /// by itself, as long as that is no more than half of what there is.
    pub(crate) fn confinement(self, connections: usize) -> Option<Confinement> {
        let direction_bytes = self.socket_bytes? / 2 / (connections as u64 + 1);
        (direction_bytes < TUNED_BYTES).then(|| {
            let part = direction_bytes / 4;
            Confinement {
                receive_bytes: part.clamp(RECEIVE_LEAST, RECEIVE_MOST) as u32,
                unsent_bytes: part.clamp(UNSENT_LEAST, UNSENT_MOST) as u32,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn supply(buffers_max: u16, socket_bytes: Option<u64>) -> Supply {
        Supply::new(Share {
            pipes_max: 0,
            pipe_size: 0,
            buffers_max,
            socket_bytes,
        })
    }

    #[test]
    fn half_of_the_buffers_are_for_those_who_hold_none() {
        let supply = supply(BUFFERS_MAX, None);
        assert_eq!(supply.room(16_384, 1 << 20), Room::Plenty);
        assert_eq!(supply.room(16_385, 1), Room::Scarce);
        assert!(!supply.is_short(28_672) && supply.is_short(28_673));
    }

    #[test]
    fn a_crowd_in_little_memory_gets_them_one_by_one() {
        let supply = supply(4096, None);
        assert_eq!(supply.room(0, 256), Room::Plenty);
        assert_eq!(supply.room(0, 257), Room::Scarce);
        // Both directions of those at ease, and one of each of the others: a connection for two buffers.
        let most = 256 * 2 * 4 + (2048 - 256);
        assert!(most < 4096, "{most}");
    }

    #[test]
    fn nobody_is_confined_where_memory_is_not_bounded_or_there_is_much() {
        assert_eq!(supply(BUFFERS_MAX, None).confinement(1 << 20), None);
        assert_eq!(supply(BUFFERS_MAX, Some(64 << 30)).confinement(4000), None);
    }

    #[test]
    fn in_128_mebibytes_the_first_is_free_and_a_crowd_gets_the_least() {
        let supply = supply(2048, Some(28 << 20));
        assert_eq!(supply.confinement(0), None);
        let sizes = |at| {
            let Confinement {
                receive_bytes,
                unsent_bytes,
            } = supply.confinement(at).unwrap();
            (receive_bytes >> 10, unsent_bytes >> 10)
        };
        assert_eq!(sizes(1), (1792, 128));
        assert_eq!(sizes(15), (224, 128));
        assert_eq!(sizes(200), (64, 32));
    }

    proptest! {
        /// Those that come early may hold most, and those that come later never more than they.
        #[test]
        fn who_comes_later_gets_no_more(bytes in 1u64..1 << 40, at in 0usize..100_000) {
            let supply = supply(2048, Some(bytes));
            let tuned = Confinement { receive_bytes: u32::MAX, unsent_bytes: u32::MAX };
            let [first, second] = [at, at + 1].map(|at| supply.confinement(at).unwrap_or(tuned));
            prop_assert!(second.receive_bytes <= first.receive_bytes);
            prop_assert!(second.unsent_bytes <= first.unsent_bytes);
        }

        /// Where the kernel tunes, all who were let in so far hold half at most.
        #[test]
        fn what_is_tuned_fits(bytes in 1u64..1 << 40, at in 0usize..100_000) {
            if supply(2048, Some(bytes)).confinement(at).is_none() {
                prop_assert!((at as u64 + 1) * TUNED_BYTES <= bytes / 2);
            }
        }
    }
}
