//! When a backend is probed: spread from the first round on, jittered, and unmoved by a pause.
//!
//! Each backend has a place in its interval, a grid of moments one interval apart, and each probe is due at
//! a grid moment plus jitter. The jitter does not add up from probe to probe, so a fleet that is spread
//! evenly stays so. The first probe comes before the grid, within [`first_window`], because readiness waits
//! for it.
//!
//! It starts no probe and knows no result. Invariant: after [`Cadence::on_start`] and [`Cadence::on_finish`]
//! the next probe is due later than the moment they were given, so probes of one backend never overlap.

use std::time::Duration;

use crate::ProbeParams;

/// How far apart the first probes of a fleet are, as long as its interval has room for it.
pub const FIRST_SPACING: Duration = Duration::from_millis(10);

/// A wake-up later than this is a pause of the whole process and not load. Short enough that what falls due
/// meanwhile is no burst, long enough that a busy CPU does not slow the probes down.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Intervals are at least this long: the timers of the keeper are no finer.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Over which stretch the first probes of `fleet_count` backends are spread: 10 ms for each, so that up to ten
/// are through within 100 ms, but never more than the interval, from where on it is the density of every
/// later round.
///
/// `fleet_count` counts what all keepers start together, so that many keepers do not add up to a burst.
pub fn first_window(interval: Duration, fleet_count: usize) -> Duration {
    let count = u32::try_from(fleet_count).unwrap_or(u32::MAX);
    FIRST_SPACING.saturating_mul(count).min(interval)
}

/// A backend's place among those that start together: the `index`th of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub index: usize,
    /// At least `index + 1`.
    pub count: usize,
}

/// When one backend is probed.
#[derive(Clone, Debug)]
pub struct Cadence {
    interval: Duration,
    due: Duration,
    /// The grid moment of the probe after the one that is due.
    grid: Duration,
}

impl Cadence {
    /// A backend that joins at `now`: its first probe within `window` (see [`first_window`]), the next ones
    /// at its place in the interval. `random` moves it inside its own share of both.
    pub fn new(
        now: Duration,
        params: &ProbeParams,
        window: Duration,
        position: Position,
        random: u64,
    ) -> Self {
        let interval = params.interval.max(INTERVAL_MIN);
        Self {
            interval,
            due: now + position.place_in(window.min(interval), random),
            grid: now + position.place_in(interval, random),
        }
    }

    /// A backend that another keeper probed last, starting at `last`: the next probe comes when it would have
    /// come there, or at once where it was under way. None where that one was left out, too: then it joins
    /// like a new one.
    pub fn going_on(last: Duration, now: Duration, params: &ProbeParams) -> Option<Self> {
        let interval = params.interval.max(INTERVAL_MIN);
        let due = last + interval;
        (now < due + interval).then(|| Self {
            interval,
            due: due.max(now),
            grid: due + interval,
        })
    }

    /// When the next probe shall start.
    pub const fn due(&self) -> Duration {
        self.due
    }

    /// A probe was started at `now`; the next one is due about an interval later. `random` is the jitter:
    /// ±5 % around the grid, so that the distance of two probes started on time is the interval ±10 %.
    pub fn on_start(&mut self, now: Duration, random: u64) {
        self.advance(now, random);
    }

    /// The probe that was under way ended at `now`. This changes something only when it lasted longer than
    /// the interval: what fell due meanwhile is left out.
    pub fn on_finish(&mut self, now: Duration, random: u64) {
        if self.due <= now {
            self.advance(now, random);
        }
    }

    /// Takes over a new interval at `now`, at a random place in it; the same interval changes nothing.
    pub fn retune(&mut self, now: Duration, params: &ProbeParams, random: u64) {
        let interval = params.interval.max(INTERVAL_MIN);
        if interval != self.interval {
            let due = now + fraction(interval, random);
            *self = Self {
                interval,
                due,
                grid: due + interval,
            };
        }
    }

    /// The next grid moment that is not yet past becomes due. One closer than a tenth of the interval is left
    /// out as well: it would repeat a probe that just was, and with the jitter could fall behind `now`.
    fn advance(&mut self, now: Duration, random: u64) {
        let earliest = now + self.interval / 10;
        if self.grid < earliest {
            self.grid += whole_intervals(earliest - self.grid, self.interval);
        }
        self.due = self.grid + fraction(self.interval / 10, random) - self.interval / 20;
        self.grid += self.interval;
    }
}

impl Position {
    /// The place of this position in `stretch`: its own share of it, and in there where `random` says.
    fn place_in(self, stretch: Duration, random: u64) -> Duration {
        let count = self.count.max(self.index + 1);
        let share = stretch / u32::try_from(count).unwrap_or(u32::MAX);
        let index = u32::try_from(self.index).unwrap_or(u32::MAX);
        share.saturating_mul(index) + fraction(share, random)
    }
}

/// The time the schedule runs by: the caller's clock without the pauses of the process.
///
/// A process that was stopped, or a virtual machine that was held, finds every probe overdue and every deadline
/// passed. Here that time did not happen: what was planned shifts by the length of the pause, so neither a
/// burst of probes nor a round of timeouts follows.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    lost: Duration,
    planned: Option<Duration>,
    /// The last answer, so that the time never runs backwards.
    last: Duration,
    /// Whether the wake-up that is planned was already put off once.
    put_off: bool,
}

impl Pace {
    /// A time that has lost nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The caller is awake at `now` by its own clock; answers what time it is for the schedule. Ahead of or
    /// little behind the planned wake-up it is the caller's, less the pauses so far.
    ///
    /// After a pause it is up to [`PAUSE_MIN`] before the planned wake-up: the answers that came in
    /// meanwhile are taken in before any deadline is looked at. That is done once in a row, so a caller that
    /// is late every time still gets ahead.
    pub fn on_wake(&mut self, now: Duration) -> Duration {
        let mut time = now.saturating_sub(self.lost);
        if let Some(planned) = self.planned
            && time > planned + PAUSE_MIN
        {
            time = match self.put_off {
                false => planned.saturating_sub(PAUSE_MIN).max(self.last),
                true => planned,
            };
            self.put_off = !self.put_off;
            self.lost = now - time;
        } else if self.planned.is_some_and(|planned| time >= planned) {
            self.put_off = false;
        }
        self.last = self.last.max(time);
        self.last
    }

    /// The caller will sleep until `wake` (in the time of the schedule) at the latest, or without an end.
    /// Answers that moment by the caller's own clock.
    pub fn plan(&mut self, wake: Option<Duration>) -> Option<Duration> {
        self.planned = wake;
        wake.map(|wake| wake + self.lost)
    }
}

/// The fewest whole intervals that cover `stretch`.
fn whole_intervals(stretch: Duration, interval: Duration) -> Duration {
    let nanos = stretch.as_nanos().div_ceil(interval.as_nanos()) * interval.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A part of `stretch`, from nothing up to but not including all of it, as `random` says.
fn fraction(stretch: Duration, random: u64) -> Duration {
    let nanos = (stretch.as_nanos() * u128::from(random >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
