//! Monotonic time in nanoseconds since one common start, so that the threads of a run can compare
//! what they saw. Invariant: never decreases.

use std::time::{Duration, Instant};

/// The time source of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Nanoseconds since the start; 580 years fit.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }
}

/// `duration` in nanoseconds, capped at what a `u64` holds.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
