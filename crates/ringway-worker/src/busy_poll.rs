//! What a worker with `busy_poll` does when it has run out of work: for a while it looks for completions before it
//! sleeps. Not what it does with them.
//!
//! Invariants: looking begins shortly after a completion only, so that an idle worker sleeps; it makes no system
//! call, and ends for whatever ends a sleep and at the next deadline.

use std::time::Duration;

use ringway_flow::{Moment, Span};
use ringway_uring::{Sight, Wait};

use crate::worker::{AT_ONCE, Worker, WorkerError};

/// Looks from one reading of the clock to the next: a microsecond or two.
const LOOKS_PER_READING: u32 = 32;
/// The longest such time that counts as looking: if it took longer, somebody else had the CPU.
const READING_MOST: Duration = Duration::from_micros(10);
/// From so many completions in a turn on the kernel may have kept back some of what it has, which cannot be seen: it
/// finishes twenty operations in an enter, not all of which complete.
const KEPT_BACK_FROM: usize = 10;

/// When to look, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BusyPoll {
    /// After the last completion; none is off.
    span: Option<Span>,
    /// When a completion came last.
    last: Option<Moment>,
}

impl BusyPoll {
    pub(crate) fn new(longest: Option<Duration>) -> BusyPoll {
        let micros = |longest: Duration| u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        BusyPoll {
            span: longest.map(|longest| Span::from_micros(micros(longest))),
            last: None,
        }
    }

    /// Takes note of a turn with so many completions.
    pub(crate) fn note(&mut self, now: Moment, completions: usize) {
        if completions > 0 {
            self.last = Some(now);
        }
    }

    /// Until when to look instead of waiting so, where that is worth it: not when there is nothing to wait for, and not
    /// when company is waited for.
    fn until(self, now: Moment, wait: Wait) -> Option<Moment> {
        let until = self.last?.after(self.span?);
        let is_for_company = wait.min_wait.is_some();
        let left = until.since(now);
        let left = wait.timeout.map_or(left, |timeout| timeout.min(left));
        let micros = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
        (micros > 0 && !is_for_company).then(|| now.after(Span::from_micros(micros)))
    }
}

/// What of the time from one reading of the clock to the next was spent looking.
fn looked(before: Moment, now: Moment) -> Duration {
    now.since(before).min(READING_MOST)
}

impl Worker {
    /// Waits for what the next turn is about.
    pub(crate) fn await_completions(&mut self, reaped: usize) -> Result<(), WorkerError> {
        let wait = self.wait(reaped);
        let Some(until) = self.busy_poll.until(self.now, wait) else {
            return self.enter(wait);
        };
        if self.ring.staged() > 0 || reaped >= KEPT_BACK_FROM {
            self.enter(AT_ONCE)?;
        }
        match self.look_until(until) {
            Sight::Completions => Ok(()),
            Sight::Work => self.enter(AT_ONCE),
            // The clock was read, so that deadlines are not late by what was spent looking.
            Sight::Nothing => self.enter(self.wait(reaped)),
        }
    }

    fn look_until(&mut self, until: Moment) -> Sight {
        let mut sight = self.ring.watch(1);
        if sight != Sight::Nothing {
            return sight;
        }
        let mut looked_for = Duration::ZERO;
        self.now = self.clock.read();
        while sight == Sight::Nothing && self.now < until {
            sight = self.ring.watch(LOOKS_PER_READING);
            let now = self.clock.read();
            looked_for += looked(self.now, now);
            self.now = now;
        }
        let nanos = u64::try_from(looked_for.as_nanos()).unwrap_or(u64::MAX);
        self.blocks.worker.busy_poll_nanos.add(nanos);
        sight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Wait = Wait {
        timeout: None,
        min_wait: None,
    };

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// One whose last completion came at 1,000, with 50 us.
    fn after_a_completion() -> BusyPoll {
        let mut busy_poll = BusyPoll::new(Some(micros(50)));
        busy_poll.note(at(1_000), 1);
        busy_poll
    }

    #[test]
    fn it_looks_for_so_long_after_a_completion() {
        let busy_poll = after_a_completion();
        for now in [1_000, 1_001, 1_049] {
            assert_eq!(busy_poll.until(at(now), FOR_EVER), Some(at(1_050)), "{now}");
        }
        for now in [1_050, 1_051, 9_000_000] {
            assert_eq!(busy_poll.until(at(now), FOR_EVER), None, "{now}");
        }
    }

    #[test]
    fn a_turn_without_completions_changes_nothing() {
        let mut busy_poll = after_a_completion();
        busy_poll.note(at(1_040), 0);
        assert_eq!(busy_poll.until(at(1_040), FOR_EVER), Some(at(1_050)));
        busy_poll.note(at(1_045), 3);
        assert_eq!(busy_poll.until(at(1_045), FOR_EVER), Some(at(1_095)));
    }

    #[test]
    fn without_a_completion_or_a_span_it_sleeps() {
        let fresh = BusyPoll::new(Some(micros(50)));
        assert_eq!(fresh.until(at(0), FOR_EVER), None);
        let mut off = BusyPoll::new(None);
        off.note(at(1_000), 1);
        assert_eq!(off.until(at(1_000), FOR_EVER), None);
    }

    #[test]
    fn it_looks_no_longer_than_it_would_sleep() {
        let within = |timeout| Wait {
            timeout: Some(micros(timeout)),
            min_wait: None,
        };
        let until = |timeout| after_a_completion().until(at(1_010), within(timeout));
        assert_eq!(until(0), None);
        assert_eq!(until(1), Some(at(1_011)));
        assert_eq!(until(39), Some(at(1_049)));
        assert_eq!(until(41), Some(at(1_050)));
    }

    #[test]
    fn who_waits_for_company_sleeps() {
        let wait = Wait {
            timeout: None,
            min_wait: Some(micros(20)),
        };
        assert_eq!(after_a_completion().until(at(1_000), wait), None);
    }

    #[test]
    fn time_on_somebody_elses_cpu_was_not_spent_looking() {
        assert_eq!(looked(at(1_000), at(1_002)), micros(2));
        assert_eq!(looked(at(1_000), at(5_000)), READING_MOST);
    }
}
