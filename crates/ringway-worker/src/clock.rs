//! The only clock read of the data plane: once when a turn begins, and once more in the turns whose
//! length is sampled.

use std::time::Instant;

use ringway_flow::Moment;

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
