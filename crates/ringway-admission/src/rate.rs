//! A token bucket in one number: the time at which it will be full again.
//!
//! With that, taking a token is a comparison and an addition (the generic cell rate algorithm), so workers can
//! share a bucket through one atomic. Invariant: from any moment on, within a span of `s` seconds no more than
//! `rate * (1 + s)` tokens are given, and a full bucket gives `rate` of them at once.

use std::num::NonZeroU32;
use std::time::Duration;

/// A moment as buckets count it: 16ths of a nanosecond since an epoch of the caller's choice. That is fine enough
/// for a million per second to be exact to 0.01 %, and 36 years pass before it wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

const TICKS_PER_SECOND: u64 = 16_000_000_000;

impl Tick {
    /// The moment that long after the epoch.
    pub fn at(since_epoch: Duration) -> Tick {
        let ticks = since_epoch.as_nanos().saturating_mul(16);
        Tick(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// The number to store.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The moment of a number that was stored.
    pub fn from_raw(ticks: u64) -> Tick {
        Tick(ticks)
    }
}

/// So many per second, and as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one token to the next, in ticks; rounded up, so that a rate is never exceeded by rounding.
    interval: u64,
    /// To fill an empty bucket, in ticks.
    filling: u64,
}

impl Rate {
    /// That many tokens.
    pub fn new(per_second: NonZeroU32) -> Rate {
        let tokens = u64::from(per_second.get());
        let interval = TICKS_PER_SECOND.div_ceil(tokens);
        Rate {
            interval,
            filling: interval * tokens,
        }
    }

    /// Takes a token from a bucket that is full at `full_at`: the moment at which it is full after that, or
    /// `None` if it is empty.
    pub fn take(self, full_at: Tick, now: Tick) -> Option<Tick> {
        // A worker whose clock was read earlier finds the bucket as others left it, never fuller.
        let after = full_at.0.max(now.0).saturating_add(self.interval);
        (after - now.0 <= self.filling).then_some(Tick(after))
    }
}
