//! Ending gently: no new connections, quiet ones closed spread over the window, the rest at its end.
//! And what happens to the connections of a backend that went down.

use std::time::Duration;

use ringway_balance::{BackendIndex, Eligibility};
use ringway_flow::{Moment, Span, Why};

use crate::outlier::since_epoch;
use crate::spec::WhenBackendDown;
use crate::worker::{Worker, WorkerPool};

/// Steps over which quiet connections are closed, so that their clients do not all return at once.
const STEPS: u32 = 20;
/// After the window what was reset gets this long to be joined before the worker leaves regardless.
const GRACE: Span = Span::from_micros(500_000);

/// A drain in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    until: Moment,
    step_at: Moment,
    step: Span,
    steps_left: u32,
}

impl Drain {
    fn new(now: Moment, window: Duration) -> Drain {
        let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX / 2);
        let step = Span::from_micros((window_us / u64::from(STEPS)).max(1000));
        let until = now.after(Span::from_micros(window_us));
        Drain {
            until,
            step_at: now.after(step),
            step,
            steps_left: STEPS,
        }
    }

    /// When it needs attention next.
    pub(crate) fn next(&self) -> Moment {
        if self.steps_left == 0 {
            self.until.after(GRACE)
        } else {
            self.step_at.min(self.until)
        }
    }

    pub(crate) fn is_over(&self, now: Moment, is_empty: bool) -> bool {
        is_empty || now >= self.until.after(GRACE)
    }
}

impl Worker {
    pub(crate) fn start_drain(&mut self, window: Duration) {
        let drain = Drain::new(self.now, window);
        // Asked again, only a shorter window counts.
        if self
            .drain
            .is_none_or(|current| drain.until < current.until && current.steps_left > 0)
        {
            self.drain = Some(drain);
            self.call_last(drain.until);
        }
    }

    pub(crate) fn advance_drain(&mut self) {
        self.end_last_call();
        self.end_last_calls();
        let Some(mut drain) = self.drain else { return };
        if drain.steps_left > 0 && self.now >= drain.until {
            drain.steps_left = 0;
            let open = self.slots.select(|slot| !slot.flow.is_closing());
            self.condemn(open, Why::Drain);
        } else if drain.steps_left > 0 && self.now >= drain.step_at {
            let now = self.now;
            let quiet = self.slots.select(|slot| slot.flow.is_quiet(now));
            let share = quiet.len().div_ceil(drain.steps_left as usize);
            drain.steps_left = (drain.steps_left - 1).max(1);
            drain.step_at = self.now.after(drain.step);
            self.condemn(quiet.into_iter().take(share).collect(), Why::Drain);
        }
        self.drain = Some(drain);
    }

    pub(crate) fn on_verdict(&mut self, pool: u16, backend: BackendIndex, verdict: Eligibility) {
        let place = self.pools.get_mut(usize::from(pool));
        let is_offered = |place: &&mut WorkerPool| {
            let backend = place.backends.get(backend.as_usize());
            backend.is_some_and(|backend| backend.is_offered)
        };
        // It was on its way when the backend was taken out of its pool.
        let Some(place) = place.filter(is_offered) else {
            return;
        };
        place.pool.advance(since_epoch(self.now));
        place.pool.set_eligibility(backend, verdict);
        if verdict == Eligibility::Up {
            self.forgive(usize::from(pool), backend);
        }
        let place = &self.pools[usize::from(pool)];
        if verdict == Eligibility::Down && place.when_backend_down == WhenBackendDown::Close {
            let routes = &self.routes;
            let is_theirs = |slot: &crate::slots::Slot| {
                slot.backend == Some(backend)
                    && slot.connected.is_some()
                    && routes[usize::from(slot.route)].pool == pool
            };
            let theirs = self.slots.select(is_theirs);
            self.condemn(theirs, Why::BackendDown);
        }
    }
}
