//! Slow start: a backend that comes back grows to its share step by step, linearly over a set time.
//!
//! A share is cut into parts; a backend gets more of them as time goes on, and has at least one from the first
//! moment. **Invariant:** while nobody grows, every backend has all its parts, so the proportions are the weights'.

use std::time::Duration;

use crate::pool::Backend;

/// How and when the backends of a pool grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ramp {
    /// How long it takes; none is at once.
    pub(crate) over: Option<Duration>,
    /// The time as last told.
    now: Duration,
    /// When the next step is due; none while nobody grows.
    due: Option<Duration>,
}

impl Ramp {
    /// Parts of a whole share.
    pub(crate) const PARTS: u32 = 64;

    /// Takes the time; whether a step is due.
    pub(crate) fn advance(&mut self, now: Duration) -> bool {
        self.now = now;
        self.due.is_some_and(|due| due <= now)
    }

    /// A backend is back.
    pub(crate) fn begin(&mut self, backend: &mut Backend) {
        if let Some(over) = self.over {
            backend.back_since = Some(self.now);
            backend.parts = 1;
            let due = self.now + step(over);
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// It is gone again. Where it is picked all the same, nothing else is.
    pub(crate) fn end(&self, backend: &mut Backend) {
        backend.back_since = None;
        backend.parts = Self::PARTS;
    }

    /// Gives every backend that grows the parts it has by now.
    pub(crate) fn grow(&mut self, backends: &mut [Backend]) {
        let over = self.over.unwrap_or_default();
        self.due = None;
        for backend in backends {
            let Some(since) = backend.back_since else {
                continue;
            };
            let elapsed = self.now.saturating_sub(since);
            if elapsed >= over {
                self.end(backend);
                continue;
            }
            let parts = elapsed.as_nanos() * u128::from(Self::PARTS) / over.as_nanos();
            backend.parts = (parts as u32).max(1);
            self.due = Some(self.now + step(over));
        }
    }

    /// Goes on where the ramp of a replaced pool was, at this one's own pace.
    pub(crate) fn inherit(&mut self, previous: &Self) {
        self.now = previous.now;
        // At the next look everybody gets what the new pace says.
        self.due = previous.due.map(|due| due.min(previous.now));
    }
}

/// Between two steps.
fn step(over: Duration) -> Duration {
    (over / Ramp::PARTS).max(Duration::from_millis(1))
}
