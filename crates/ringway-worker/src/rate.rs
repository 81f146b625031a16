//! A rate that all workers together keep.
//!
//! One atomic on cache lines of its own, touched when a connection opens. Invariant: no two workers
//! take one token: each gives its own answer to the bucket that the one before it left.

use std::sync::atomic::{AtomicU64, Ordering};

use ringway_admission::{Rate, Tick};

/// A shared token bucket.
#[derive(Debug)]
#[repr(align(128))]
pub struct SharedRate {
    /// When it is full again.
    full_at: AtomicU64,
    rate: Rate,
}

impl SharedRate {
    /// A full bucket.
    pub fn new(rate: Rate) -> SharedRate {
        SharedRate {
            full_at: AtomicU64::new(Tick::default().get()),
            rate,
        }
    }

    /// Another bucket, as full as this one is now: what is taken of it is taken of nobody.
    pub(crate) fn copied(&self) -> SharedRate {
        SharedRate {
            full_at: AtomicU64::new(self.full_at.load(Ordering::Relaxed)),
            rate: self.rate,
        }
    }

    /// Takes a token, if one is left.
    pub fn try_take(&self, now: Tick) -> bool {
        let take = |full_at| {
            let after = self.rate.take(Tick::from_raw(full_at), now);
            after.map(Tick::get)
        };
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    /// Each thread has a clock of its own, as far behind or ahead as turns are long.
    #[test]
    fn threads_together_get_the_rate() {
        let bucket = SharedRate::new(Rate::new(NonZeroU32::new(1000).unwrap()));
        let given = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4u64 {
                let (bucket, given) = (&bucket, &given);
                scope.spawn(move || {
                    for turn in 0..20_000u64 {
                        // Two seconds in all.
                        let now = Duration::from_micros(turn * 100 + worker * 13);
                        let is_given = bucket.try_take(Tick::at(now));
                        given.fetch_add(u32::from(is_given), Ordering::Relaxed);
                    }
                });
            }
        });
        let given = given.into_inner();
        // The burst and what two seconds bring; a thread that runs ahead may take it all.
        assert!((2950..=3000).contains(&given), "{given}");
    }
}
