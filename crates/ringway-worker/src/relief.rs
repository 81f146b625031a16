//! What a worker does while memory is short: it lets nobody in, looks which connections hold memory of the kernel
//! because a peer takes nothing, and resets those that have done so for longest, as many as it is told to.
//!
//! Whether memory is short is for others to say. Invariant: a connection whose peers have both taken something since the
//! last look, of what there was to take, is not reset, nor one that holds nothing; and no more than what is asked for takes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::AsFd;

use ringway_flow::{Moment, PerSide, Side, Span, Why};
use ringway_uring::{Held, held};

use crate::slots::Slot;
use crate::worker::Worker;

/// How short the memory of this process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strain {
    /// There is enough.
    #[default]
    Ease,
    /// Nobody more is to come.
    Short,
    /// Nobody more is to come, and some of those who are there have to go.
    Over {
        /// What they are to give back, of this worker's.
        bytes: u64,
    },
}

/// A slot and its generation.
type Key = (u32, u16);

/// Those that wait for so long more or less are told apart by what they hold: whose bytes are on their way holds little.
const AS_LONG_MS: u128 = 50;
/// What a look at one connection may take of the time, so that looking at many leaves most of it to relaying.
const LOOK_PAUSE_US: u64 = 4;

/// A connection as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    /// What the peer on each side has taken so far, where the kernel holds some that it has not.
    taken_bytes: PerSide<Option<u64>>,
    held_bytes: u64,
}

/// The same, and since when it has been so.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    sight: Sight,
    /// When each side was first seen to have taken no more than now.
    since: PerSide<Moment>,
}

impl Sighting {
    /// What is seen now, of one that was seen before or not.
    fn after(before: Option<&Sighting>, sight: Sight, now: Moment) -> Sighting {
        let since = |side: Side| {
            let taken = sight.taken_bytes[side]?;
            let before = before?;
            let had_taken = before.sight.taken_bytes[side]?;
            (taken <= had_taken).then_some(before.since[side])
        };
        Sighting {
            sight,
            since: PerSide {
                front: since(Side::Front).unwrap_or(now),
                back: since(Side::Back).unwrap_or(now),
            },
        }
    }

    /// Since when one of its peers has taken nothing.
    fn since(&self) -> Moment {
        self.since.front.min(self.since.back)
    }
}

/// What a worker knows of those that hold memory.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    strain: Strain,
    seen: HashMap<Key, Sighting>,
    /// Not sooner than this it looks again.
    look_from: Moment,
}

impl Relief {
    /// Whether who comes now is one too many.
    pub(crate) fn is_needed(&self) -> bool {
        match self.strain {
            Strain::Ease => false,
            Strain::Short | Strain::Over { .. } => true,
        }
    }

    /// Takes in all that are there now. Whose peers have taken something since the last look wait anew.
    fn look(&mut self, now: Moment, found: impl IntoIterator<Item = (Key, Sight)>) {
        let before = std::mem::take(&mut self.seen);
        let sighted = found.into_iter().map(|(key, sight)| {
            let sighting = Sighting::after(before.get(&key), sight, now);
            (key, sighting)
        });
        self.seen = sighted.collect();
    }

    /// Those that have waited for longest, and of these those that hold most, until they hold so much together.
    fn choose(&self, now: Moment, bytes: u64) -> Vec<u32> {
        let is_still = |seen: &Sighting| seen.since() < now && seen.sight.held_bytes > 0;
        let still = self.seen.iter().filter(|(_, seen)| is_still(seen));
        let mut still: Vec<_> = still.collect();
        let order = |(key, seen): &(&Key, &Sighting)| {
            let as_long = now.since(seen.since()).as_millis() / AS_LONG_MS;
            (Reverse((as_long, seen.sight.held_bytes)), **key)
        };
        still.sort_unstable_by_key(order);
        let mut left = bytes;
        let chosen = still.into_iter().map_while(|((slot, _), seen)| {
            let is_wanted = left > 0;
            left = left.saturating_sub(seen.sight.held_bytes);
            is_wanted.then_some(*slot)
        });
        chosen.collect()
    }
}

impl Worker {
    /// Does what so much strain asks for.
    pub(crate) fn relieve(&mut self, strain: Strain) {
        self.relief.strain = strain;
        match strain {
            Strain::Ease => self.relief.seen = HashMap::new(),
            Strain::Short | Strain::Over { .. } if self.now < self.relief.look_from => {}
            Strain::Short => self.look_who_waits(),
            Strain::Over { bytes } => {
                self.look_who_waits();
                let chosen = self.relief.choose(self.now, bytes);
                self.condemn(chosen, Why::HeldMemory);
            }
        }
    }

    fn look_who_waits(&mut self) {
        let slots = &self.slots;
        let open = slots.select(|slot| !slot.flow.is_closing());
        let pause = LOOK_PAUSE_US * open.len() as u64;
        self.relief.look_from = self.now.after(Span::from_micros(pause));
        let found = open.into_iter().map(|at| {
            let key = (at, slots.generation(at));
            (key, sight(slots.get(at)))
        });
        self.relief.look(self.now, found);
    }
}

/// How far the peers of a connection have come, and what the kernel holds of it.
fn sight(slot: &Slot) -> Sight {
    let (mut taken_bytes, mut held_bytes) = (PerSide::default(), 0);
    for side in Side::BOTH {
        let Some(socket) = &slot.sockets[side] else {
            continue;
        };
        let Held {
            sent_bytes,
            returnable_bytes,
            ..
        } = held(socket.as_fd()).unwrap_or_default();
        held_bytes += returnable_bytes;
        // Memory for bytes is more than the bytes: it may seem to have taken less than before.
        let taken = slot.flow.sent_bytes(side).saturating_sub(sent_bytes);
        taken_bytes[side] = (sent_bytes > 0).then_some(taken);
    }
    Sight {
        taken_bytes,
        held_bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Span::from_micros(millis * 1000))
    }

    /// One whose client has taken so much and is to take more, and which holds so much.
    fn waiting(slot: u32, taken_bytes: u64, held_bytes: u64) -> (Key, Sight) {
        let taken_bytes = PerSide {
            front: Some(taken_bytes),
            back: None,
        };
        let sight = Sight {
            taken_bytes,
            held_bytes,
        };
        ((slot, 0), sight)
    }

    #[test]
    fn the_longest_waiting_go_first_and_no_more_than_needed() {
        let mut relief = Relief::default();
        relief.look(at(0), [waiting(3, 1, 10)]);
        relief.look(
            at(200),
            [waiting(3, 1, 10), waiting(1, 1, 50), waiting(2, 1, 60)],
        );
        relief.look(
            at(210),
            [waiting(3, 1, 10), waiting(1, 1, 50), waiting(2, 1, 60)],
        );
        assert_eq!(relief.choose(at(210), 0), []);
        assert_eq!(relief.choose(at(210), 10), [3]);
        assert_eq!(relief.choose(at(210), 11), [3, 2]);
        assert_eq!(relief.choose(at(210), 1000), [3, 2, 1]);
    }

    #[test]
    fn who_has_moved_is_spared_however_much_it_holds() {
        let mut relief = Relief::default();
        relief.look(at(0), [waiting(1, 100, 9000), waiting(2, 100, 10)]);
        relief.look(
            at(10),
            [
                waiting(1, 101, 9000),
                waiting(2, 100, 10),
                waiting(3, 7, 500),
            ],
        );
        assert_eq!(relief.choose(at(10), 10_000), [2]);
        // What it does when nobody looks is forgotten.
        relief.look(at(20), []);
        relief.look(at(30), [waiting(2, 100, 10)]);
        assert_eq!(relief.choose(at(30), 10_000), []);
    }

    /// Its backend takes what it sends, and it takes nothing of what comes back.
    #[test]
    fn who_only_speaks_is_not_taken_for_one_who_reads() {
        let talker = |to_backend, held_bytes| {
            let taken_bytes = PerSide {
                front: Some(100),
                back: Some(to_backend),
            };
            let sight = Sight {
                taken_bytes,
                held_bytes,
            };
            ((1, 0), sight)
        };
        let mut relief = Relief::default();
        relief.look(at(0), [talker(5, 10)]);
        relief.look(at(10), [talker(6, 20)]);
        assert_eq!(relief.choose(at(10), 1), [1]);
    }

    #[test]
    fn of_those_who_wait_as_long_those_who_hold_most_go_first() {
        let mut relief = Relief::default();
        relief.look(at(0), [waiting(1, 1, 14)]);
        for millis in [40, 49] {
            relief.look(at(millis), [waiting(1, 1, 14), waiting(2, 1, 250)]);
        }
        assert_eq!(relief.choose(at(49), 200), [2]);
        // From now on it is much longer.
        assert_eq!(relief.choose(at(50), 10), [1]);
    }

    #[test]
    fn another_flow_in_its_slot_is_another() {
        let mut relief = Relief::default();
        relief.look(at(0), [waiting(1, 100, 10)]);
        let (_, sight) = waiting(1, 100, 10);
        relief.look(at(10), [((1, 1), sight)]);
        assert_eq!(relief.choose(at(10), 1), []);
    }

    proptest! {
        /// Of any crowd: nobody who has moved, nobody who holds nothing, enough if there is enough, and without the last
        /// chosen it would not be.
        #[test]
        fn what_is_chosen_is_still_and_no_more_than_enough(
            crowd in proptest::collection::vec((0u64..3, 0u64..3, 0u64..1000), 0..50), bytes in 0u64..20_000,
        ) {
            let mut relief = Relief::default();
            let all = || crowd.iter().enumerate().map(|(slot, one)| (slot as u32, *one));
            relief.look(at(0), all().map(|(slot, (before, _, held))| waiting(slot, before, held)));
            relief.look(at(10), all().map(|(slot, (_, after, held))| waiting(slot, after, held)));
            let chosen = relief.choose(at(10), bytes);
            let of = |slot: &u32| crowd[*slot as usize];
            let may_go = |(before, after, held): (u64, u64, u64)| before >= after && held > 0;
            prop_assert!(chosen.iter().map(of).all(may_go));
            let sum = |slots: &[u32]| slots.iter().map(|slot| of(slot).2).sum::<u64>();
            let still: u64 = crowd.iter().filter(|(before, after, _)| before >= after).map(|one| one.2).sum();
            prop_assert!(sum(&chosen) >= bytes.min(still));
            if let Some((_, rest)) = chosen.split_last() {
                prop_assert!(sum(rest) < bytes);
            }
        }
    }
}
