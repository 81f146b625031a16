//! Many deadlines, one next wake-up: a hierarchical timer wheel over slot numbers. Not a clock and
//! not a callback store: it says which slot is due, the worker asks the flow what that means.
//!
//! Setting, moving and cancelling take constant time and never allocate once the highest slot
//! number was seen. Invariant: no slot is due before its moment, and none later than one tick after.

use crate::Moment;

/// A tick is 2^10 microseconds, about a millisecond.
const TICK_SHIFT: u32 = 10;
const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The farthest deadline the wheel tells apart, about two years ahead; farther ones wait there. One
/// position of the coarsest level short of a whole turn, which would look like no time at all.
const HORIZON_TICKS: u64 = (SLOTS as u64 - 1) << (SLOT_BITS * (LEVELS as u32 - 1));

const NONE: u32 = u32::MAX;
const NOT_ARMED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    due_tick: u64,
    next: u32,
    previous: u32,
    /// Level times `SLOTS` plus position, or `NOT_ARMED`.
    place: u16,
}

const FREE_NODE: Node = Node {
    due_tick: 0,
    next: NONE,
    previous: NONE,
    place: NOT_ARMED,
};

/// Deadlines of slots, at most one each.
#[derive(Debug)]
pub struct Wheel {
    now_tick: u64,
    heads: [u32; LEVELS * SLOTS],
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
    armed: usize,
}

#[derive(Clone, Copy)]
struct Place {
    level: usize,
    position: usize,
    due_tick: u64,
}

impl Wheel {
    /// Bytes the wheel holds per slot, armed or not.
    pub const SLOT_BYTES: usize = size_of::<Node>();

    /// An empty wheel whose time starts at `now`, with room for slots below `slots`.
    pub fn new(now: Moment, slots: usize) -> Wheel {
        Wheel {
            now_tick: now.as_micros() >> TICK_SHIFT,
            heads: [NONE; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            nodes: vec![FREE_NODE; slots],
            armed: 0,
        }
    }

    /// Arms or moves the deadline of a slot; [`Moment::NEVER`] disarms it.
    pub fn set(&mut self, slot: u32, due: Moment) {
        self.cancel(slot);
        if due == Moment::NEVER {
            return;
        }
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, FREE_NODE);
        }
        self.armed += 1;
        self.link(slot, (due.as_micros() >> TICK_SHIFT).saturating_add(1));
    }

    /// Disarms a slot, armed or not.
    pub fn cancel(&mut self, slot: u32) {
        if self
            .nodes
            .get(slot as usize)
            .is_some_and(|node| node.place != NOT_ARMED)
        {
            self.unlink(slot);
            self.armed -= 1;
        }
    }

    /// How many slots are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// A moment no later than the first deadline. Until then the wheel needs no attention.
    pub fn next(&self) -> Option<Moment> {
        self.first_place()
            .map(|place| Moment::from_micros(place.due_tick << TICK_SHIFT))
    }

    /// Takes one slot that is due at `now` and disarms it; call until `None`.
    pub fn pop(&mut self, now: Moment) -> Option<u32> {
        let until_tick = now.as_micros() >> TICK_SHIFT;
        while let Some(place) = self.first_place() {
            if place.due_tick > until_tick {
                break;
            }
            self.now_tick = self.now_tick.max(place.due_tick);
            let slot = self.heads[place.level * SLOTS + place.position];
            if place.level == 0 {
                self.unlink(slot);
                self.armed -= 1;
                return Some(slot);
            }
            self.cascade(place);
        }
        self.now_tick = self.now_tick.max(until_tick);
        None
    }

    /// Spreads the slots of a coarse place over finer ones, now that its time has come.
    fn cascade(&mut self, place: Place) {
        let head = place.level * SLOTS + place.position;
        while self.heads[head] != NONE {
            let slot = self.heads[head];
            let due_tick = self.nodes[slot as usize].due_tick;
            self.unlink(slot);
            self.link(slot, due_tick);
        }
    }

    fn link(&mut self, slot: u32, due_tick: u64) {
        let reach = self.now_tick.saturating_add(HORIZON_TICKS);
        let due_within = due_tick.clamp(self.now_tick, reach);
        let distance = (self.now_tick ^ due_within) | (SLOTS as u64 - 1);
        let level = ((63 - distance.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        let position = (due_within >> (level * SLOT_BITS)) as usize % SLOTS;
        let level = level as usize;
        let head = level * SLOTS + position;
        let next = self.heads[head];
        if next != NONE {
            self.nodes[next as usize].previous = slot;
        }
        self.heads[head] = slot;
        self.occupied[level] |= 1 << position;
        let place = u16::try_from(head).expect("invariant: places are few");
        self.nodes[slot as usize] = Node {
            due_tick,
            next,
            previous: NONE,
            place,
        };
    }

    fn unlink(&mut self, slot: u32) {
        let Node {
            next,
            previous,
            place,
            ..
        } = self.nodes[slot as usize];
        let head = usize::from(place);
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous == NONE {
            self.heads[head] = next;
            if next == NONE {
                self.occupied[head / SLOTS] &= !(1 << (head % SLOTS));
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        self.nodes[slot as usize].place = NOT_ARMED;
    }

    /// The occupied place whose time comes first. Finer levels always come before coarser ones.
    fn first_place(&self) -> Option<Place> {
        (0..LEVELS).find_map(|level| {
            let occupied = self.occupied[level];
            if occupied == 0 {
                return None;
            }
            let shift = level as u32 * SLOT_BITS;
            let here = (self.now_tick >> shift) as u32 % SLOTS as u32;
            let ahead = occupied.rotate_right(here).trailing_zeros();
            let position = (here + ahead) as usize % SLOTS;
            let due_tick = ((self.now_tick >> shift) + u64::from(ahead)) << shift;
            Some(Place {
                level,
                position,
                due_tick: due_tick.max(self.now_tick),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    #[test]
    fn a_slot_is_due_once_and_not_early() {
        let mut wheel = Wheel::new(at(0), 4);
        wheel.set(3, at(600_000_000));
        assert!(
            wheel
                .next()
                .is_some_and(|next| next <= at(600_000_000 + TICK))
        );
        assert_eq!(wheel.pop(at(599_999_999)), None);
        assert_eq!(wheel.pop(at(600_000_000 + TICK)), Some(3));
        assert_eq!(wheel.pop(at(u64::MAX >> 1)), None);
        assert_eq!((wheel.armed(), wheel.next()), (0, None));
    }

    #[test]
    fn a_deadline_moves_and_is_cancelled() {
        let mut wheel = Wheel::new(at(0), 0);
        wheel.set(0, at(1_000_000));
        wheel.set(0, at(5_000));
        assert_eq!(wheel.pop(at(20_000)), Some(0));
        wheel.set(1, at(30_000));
        wheel.set(1, Moment::NEVER);
        wheel.cancel(7);
        assert_eq!((wheel.pop(at(10_000_000)), wheel.armed()), (None, 0));
    }

    #[test]
    fn what_is_past_is_due_at_once() {
        let mut wheel = Wheel::new(at(50_000_000), 1);
        wheel.set(0, at(1));
        assert_eq!(wheel.pop(at(50_000_000)), Some(0));
    }

    #[test]
    fn beyond_the_horizon_is_kept() {
        let mut wheel = Wheel::new(at(0), 1);
        let far = (HORIZON_TICKS + 5) << TICK_SHIFT;
        wheel.set(0, at(far));
        assert_eq!(wheel.pop(at(far - TICK)), None);
        assert_eq!(wheel.pop(at(far + TICK)), Some(0));
    }

    #[test]
    fn beyond_the_horizon_is_kept_from_any_start() {
        // A whole turn of the coarsest level after a start just before its next position.
        let start = ((1 << 30) - 1) << TICK_SHIFT;
        let mut wheel = Wheel::new(at(start), 1);
        let far = start + ((1 << 36) << TICK_SHIFT);
        wheel.set(0, at(far));
        assert_eq!(wheel.pop(at(start + TICK)), None);
        assert_eq!(wheel.pop(at(far - TICK)), None);
        assert_eq!(wheel.pop(at(far + TICK)), Some(0));
    }

    /// Micros to milliseconds, hours, and around the horizon.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0u64..200_000_000,
            2 => 0u64..30_000_000_000,
            1 => 0u64..(1 << 47),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            start in prop_oneof![Just(0u64), any::<u32>().prop_map(u64::from), Just(u64::MAX / 4)],
            steps in prop::collection::vec((0u32..20, delay(), delay()), 1..200),
        ) {
            let mut wheel = Wheel::new(at(start), 0);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = start;
            for (slot, delay, pause) in steps {
                if delay % 7 == 0 {
                    wheel.cancel(slot);
                    model.remove(&slot);
                } else {
                    wheel.set(slot, at(now + delay));
                    model.insert(slot, now + delay);
                }
                if let Some(first) = model.values().min() {
                    let next = wheel.next().expect("something is armed");
                    prop_assert!(next.as_micros() <= first + TICK);
                }
                now += pause;
                while let Some(due) = wheel.pop(at(now)) {
                    let due_at = model.remove(&due);
                    prop_assert!(due_at.is_some_and(|due_at| due_at <= now));
                }
                prop_assert!(model.values().all(|due_at| due_at + TICK > now));
                prop_assert_eq!(wheel.armed(), model.len());
            }
        }
    }
}
