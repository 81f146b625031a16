//! What all workers know of the sources of a listener's connections: how many each has open, and
//! what is left of its rate.
//!
//! Tables of many parts, each behind a lock that is held for one look-up, and touched when a
//! connection opens and closes only. Invariant: memory is bounded by the connections that are open,
//! and by a fixed number for rates, whatever addresses they come from; a hash with a secret key
//! chooses the part, so nobody can aim at one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use ringway_admission::{Rate, SourceBuckets, SourceKey, Tick};

/// Parts of a table: many more than workers, so that two rarely want the same.
const PARTS: usize = 64;
/// Sources of one listener whose rate is known at a time: 4 MiB. A source needs a place for a
/// second at most.
const RATED_SOURCES: usize = 1 << 18;

#[derive(Debug)]
#[repr(align(128))]
struct Part<T>(Mutex<T>);

#[derive(Debug)]
struct Parts<T> {
    parts: Box<[Part<T>]>,
    secret: RandomState,
}

impl<T> Parts<T> {
    fn new(make: impl Fn() -> T) -> Parts<T> {
        Parts {
            parts: (0..PARTS).map(|_| Part(Mutex::new(make()))).collect(),
            secret: RandomState::new(),
        }
    }

    /// Looks into the part of `source`; `look` gets what its hash has left for the part.
    fn with<R>(&self, source: SourceKey, look: impl FnOnce(&mut T, u64) -> R) -> R {
        let hash = self.secret.hash_one(source);
        let Part(part) = &self.parts[hash as usize % PARTS];
        // Numbers are whole between any two statements of a look.
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut part, hash / PARTS as u64)
    }
}

/// A maximum for each source, over all workers. Sources are in it while they have connections.
#[derive(Debug)]
pub struct SourceLimit {
    open: Parts<HashMap<SourceKey, u32>>,
    most: AtomicU32,
}

impl SourceLimit {
    /// At most `most` at a time for each.
    pub fn new(most: NonZeroU32) -> SourceLimit {
        SourceLimit {
            open: Parts::new(HashMap::new),
            most: AtomicU32::new(most.get()),
        }
    }

    /// Changes the maximum. What is open above it stays.
    pub fn set_most(&self, most: NonZeroU32) {
        self.most.store(most.get(), Ordering::Relaxed);
    }

    /// The maximum.
    pub fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// How many `source` has now.
    pub fn open(&self, source: SourceKey) -> u32 {
        self.open
            .with(source, |open, _| open.get(&source).copied().unwrap_or(0))
    }

    /// Another limit in which `source` has what it has here now, and nobody else has anything.
    pub(crate) fn copied(&self, source: SourceKey) -> SourceLimit {
        let copy = SourceLimit {
            open: Parts::new(HashMap::new),
            most: AtomicU32::new(self.most()),
        };
        let count = self.open(source);
        if count > 0 {
            copy.open.with(source, |open, _| open.insert(source, count));
        }
        copy
    }

    /// Takes one for `source`, if one is left.
    pub fn try_acquire(&self, source: SourceKey) -> bool {
        self.open.with(source, |open, _| {
            // A source that is new gets one: there is one at least.
            let open = open.entry(source).or_insert(0);
            let is_free = *open < self.most.load(Ordering::Relaxed);
            *open += u32::from(is_free);
            is_free
        })
    }

    /// Gives one back.
    pub fn release(&self, source: SourceKey) {
        self.open.with(source, |open, _| {
            let left = open.get_mut(&source).map(|count| {
                *count -= 1;
                *count
            });
            debug_assert!(left.is_some(), "invariant: what is released was acquired");
            if left == Some(0) {
                open.remove(&source);
            }
        });
    }
}

/// A rate for each source, over all workers, in a table of fixed size; see [`SourceBuckets`] for
/// what happens when more sources come than fit.
#[derive(Debug)]
pub struct SourceRate {
    buckets: Parts<SourceBuckets>,
    rate: Rate,
}

impl SourceRate {
    /// The same rate for each.
    pub fn new(rate: Rate) -> SourceRate {
        SourceRate {
            buckets: Parts::new(|| SourceBuckets::new(RATED_SOURCES / PARTS)),
            rate,
        }
    }

    /// Another table in which `source` has the bucket it has here now, and everybody else a full one.
    pub(crate) fn copied(&self, source: SourceKey) -> SourceRate {
        let full_at = self
            .buckets
            .with(source, |buckets, hash| buckets.full_at(source, hash));
        let copy = SourceRate {
            buckets: Parts::new(|| SourceBuckets::new(1)),
            rate: self.rate,
        };
        copy.buckets
            .with(source, |buckets, hash| buckets.put(source, hash, full_at));
        copy
    }

    /// Takes a token of `source`, if one is left.
    pub fn try_take(&self, source: SourceKey, now: Tick) -> bool {
        self.buckets.with(source, |buckets, hash| {
            buckets.take(source, hash, self.rate, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    fn source(number: u32) -> SourceKey {
        SourceKey::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn rate_of(per_second: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap())
    }

    fn limit(most: u32) -> SourceLimit {
        SourceLimit::new(NonZeroU32::new(most).unwrap())
    }

    fn sources(limit: &SourceLimit) -> usize {
        let parts = limit.open.parts.iter();
        parts.map(|part| part.0.lock().unwrap().len()).sum()
    }

    #[test]
    fn threads_together_never_exceed_it_for_any_source() {
        const SOURCES: u32 = 5;
        let limit = limit(3);
        let open: Vec<AtomicU32> = (0..SOURCES).map(|_| AtomicU32::new(0)).collect();
        let refused = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (limit, open, refused) = (&limit, &open, &refused);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..100_000u32 {
                        let number = (step.wrapping_mul(2_654_435_761) >> 7) % SOURCES;
                        if limit.try_acquire(source(number)) {
                            let now = open[number as usize].fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(now <= 3, "source {number}: {now}");
                            held.push(number);
                        } else {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        // Each worker holds on to a few, so that there is something to refuse.
                        if held.len() > 4 + worker {
                            let number = held.swap_remove(step as usize % held.len());
                            open[number as usize].fetch_sub(1, Ordering::SeqCst);
                            limit.release(source(number));
                        }
                    }
                    for number in held {
                        open[number as usize].fetch_sub(1, Ordering::SeqCst);
                        limit.release(source(number));
                    }
                });
            }
        });
        assert!(refused.into_inner() > 0);
        assert_eq!(sources(&limit), 0);
    }

    #[test]
    fn a_million_sources_leave_nothing_behind() {
        let limit = limit(1);
        for window in 0..1000 {
            let numbers = window * 1000..(window + 1) * 1000;
            for number in numbers.clone() {
                assert!(limit.try_acquire(source(number)));
                assert!(!limit.try_acquire(source(number)));
            }
            assert_eq!(sources(&limit), 1000);
            for number in numbers {
                limit.release(source(number));
            }
        }
        assert_eq!(sources(&limit), 0);
        let parts = limit.open.parts.iter();
        let room: usize = parts.map(|part| part.0.lock().unwrap().capacity()).sum();
        assert!(room < 10_000, "{room} places after a thousand at a time");
    }

    #[test]
    fn each_source_has_its_rate_among_a_million() {
        let rate = SourceRate::new(rate_of(2));
        let now = Tick::at(Duration::from_secs(5));
        let given = |number| {
            (0..4)
                .filter(|_| rate.try_take(source(number), now))
                .count()
        };
        assert!((0..1000).all(|number| given(number) == 2));
        let later = Tick::at(Duration::from_millis(5500));
        assert!((1000..1_000_000).all(|number| rate.try_take(source(number), later)));
        let (first, second) = (source(1), source(2));
        assert!(rate.try_take(first, Tick::at(Duration::from_secs(7))));
        assert!(rate.try_take(second, Tick::at(Duration::from_secs(7))));
    }

    #[test]
    fn threads_together_get_the_rate_of_a_source() {
        let rate = SourceRate::new(rate_of(500));
        let given = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..10_000 {
                        let now = Tick::at(Duration::from_micros(turn * 100));
                        let is_given = rate.try_take(source(9), now);
                        given.fetch_add(u32::from(is_given), Ordering::Relaxed);
                    }
                });
            }
        });
        let given = given.into_inner();
        assert!((980..=1000).contains(&given), "{given}");
    }
}
