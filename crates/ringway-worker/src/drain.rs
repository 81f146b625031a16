//! Ending gently: no new connections, quiet ones closed spread over the window, the longest quiet
//! first, the rest at its end.
//! And what happens to the connections of a backend that went down.

use std::time::Duration;

use ringway_balance::{BackendIndex, Eligibility};
use ringway_flow::{Moment, Span, Why};

use crate::outlier::since_epoch;
use crate::spec::WhenBackendDown;
use crate::worker::{Worker, WorkerPool};

/// Steps over which quiet connections are closed, so that their clients do not all return at once:
/// ten per second, but not so many that looking at every connection becomes work of its own.
const STEPS_LEAST: u64 = 20;
const STEPS_MOST: u64 = 600;
const STEP_US: u64 = 100_000;
/// Parts of a connection in which shares are counted, so that few are spread like many.
const PARTS: u64 = 1 << 16;
/// What is owed where nobody has been quiet: so much that one that is quiet alone goes when a tenth of the window is
/// over. It would spare nobody by waiting for longer.
const OWED_AT_REST: u64 = PARTS / 100 * 79;
/// After the window what was reset gets this long to be joined before the worker leaves regardless.
const GRACE: Span = Span::from_micros(500_000);

/// A drain in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    until: Moment,
    step_at: Moment,
    step: Span,
    steps_left: u64,
    /// Parts of connections that are due and not closed yet.
    owed: u64,
}

impl Drain {
    fn new(now: Moment, window: Duration) -> Drain {
        let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX / 2);
        let steps = (window_us / STEP_US).clamp(STEPS_LEAST, STEPS_MOST);
        let step = Span::from_micros((window_us / steps).max(1000));
        let until = now.after(Span::from_micros(window_us));
        Drain {
            until,
            step_at: now.after(step),
            step,
            steps_left: steps,
            owed: OWED_AT_REST,
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

    /// How many of the quiet ones are closed in this step: the first soon, the others at even distances, so that the
    /// last step finds the last.
    fn share(&mut self, quiet: usize) -> usize {
        let quiet = quiet as u64;
        self.owed += (quiet + 1) * PARTS / self.steps_left;
        let share = (self.owed / PARTS).min(quiet);
        self.owed = match quiet {
            0 => OWED_AT_REST,
            _ => (self.owed - share * PARTS).min(PARTS),
        };
        self.steps_left = (self.steps_left - 1).max(1);
        share as usize
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
            let mut quiet = self.slots.select(|slot| slot.flow.is_quiet(now));
            let share = drain.share(quiet.len());
            if share < quiet.len() {
                let slots = &self.slots;
                quiet.select_nth_unstable_by_key(share, |&slot| slots.get(slot).flow.last_moved());
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What each step closes of `quiet` connections.
    fn shares(window: Duration, mut quiet: usize) -> Vec<usize> {
        let mut drain = Drain::new(Moment::default(), window);
        let steps = drain.steps_left;
        let mut shares = Vec::new();
        for _ in 0..steps {
            let share = drain.share(quiet);
            quiet -= share;
            shares.push(share);
        }
        assert_eq!(quiet, 0, "some are left for the deadline");
        shares
    }

    /// In which of 300 steps one of so many is closed.
    fn steps_of(quiet: usize) -> Vec<usize> {
        let shares = shares(Duration::from_secs(30), quiet);
        (0..300).filter(|step| shares[*step] > 0).collect()
    }

    #[test]
    fn many_are_closed_evenly() {
        let shares = shares(Duration::from_secs(30), 10_000);
        assert_eq!(shares.len(), 300);
        assert!(
            shares.iter().all(|share| (32..=34).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn few_are_spread_over_the_window_too() {
        let steps = steps_of(10);
        assert_eq!(steps.len(), 10, "{steps:?}");
        assert!(steps[0] < 10 && steps[9] >= 240, "{steps:?}");
        let distances = steps.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            distances
                .into_iter()
                .all(|steps| (15..=45).contains(&steps)),
            "{steps:?}"
        );
    }

    #[test]
    fn one_that_is_quiet_alone_goes_early() {
        let [alone] = steps_of(1)[..] else {
            panic!("one is closed in one step");
        };
        assert!((20..=36).contains(&alone), "{alone}");
        let [first, second] = steps_of(2)[..] else {
            panic!("two are closed in two steps");
        };
        assert!(first < alone && (90..=160).contains(&second), "{second}");
    }

    /// One that talks for half of the window, and is quiet then.
    #[test]
    fn one_that_becomes_quiet_alone_goes_early_too() {
        let mut drain = Drain::new(Moment::default(), Duration::from_secs(30));
        let shares: Vec<usize> = (0..300)
            .map(|step| drain.share(usize::from(step >= 150)))
            .collect();
        let closed = shares.iter().position(|share| *share > 0);
        assert!(
            closed.is_some_and(|step| (155..=170).contains(&step)),
            "{closed:?}"
        );
    }

    #[test]
    fn the_steps_of_any_window_are_bounded() {
        for (seconds, steps) in [(0, 20), (1, 20), (30, 300), (60, 600), (86_400, 600)] {
            let drain = Drain::new(Moment::default(), Duration::from_secs(seconds));
            assert_eq!(drain.steps_left, steps, "{seconds} s");
        }
    }
}
