//! The only clock read of the data plane: once when a turn begins, and once more in the turns whose
//! length is sampled. And what a thread has used of its CPU, which is asked for at its end.

use std::time::{Duration, Instant};

use ringway_flow::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Microseconds since an epoch that all workers of a process share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new(epoch: Instant) -> Clock {
        Clock { epoch }
    }

    pub(crate) fn read(&self) -> Moment {
        let micros = self.epoch.elapsed().as_micros();
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// CPU time of this thread so far.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // A clock of this kind is neither negative nor unknown.
    Duration::try_from(time).unwrap_or_default()
}
