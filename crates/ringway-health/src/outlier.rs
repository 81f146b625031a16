//! Ejection of backends that cannot be connected to, from what one worker's own connects say.
//!
//! ```text
//!           `consecutive_failures`                  three quarters of it are over
//!  Closed ─────────────────────────► Ejected ───────────────────────────────────► HalfOpen
//!    ▲ ▲                              ▲                                            │  ▲ │
//!    │ │                              │ it failed          one connection may try  ▼  │ │
//!    │ └───────────── it connected ───┴───────────────────────────────────────── Trying │
//!    └────────────────────────────────── nobody tried until the end ────────────────────┘
//! ```
//!
//! Each ejection lasts twice as long as the one before, until a connect succeeds. It does not know how backends are
//! picked. Invariant: never more than `max_ejected_percent` of the backends are out at once, rounded down.

use std::time::Duration;

/// When a backend is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierParams {
    /// Failed connects in a row that eject a backend; 0 counts as 1.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; each further one twice as long.
    pub ejection: Duration,
    /// How long one lasts at most.
    pub max_ejection: Duration,
    /// Share of the backends that may be out at once.
    pub max_ejected_percent: u8,
}

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// In use.
    Closed,
    /// Out.
    Ejected,
    /// The next connection may try it.
    HalfOpen,
    /// One connection is trying it; for all others it is out.
    Trying,
}

/// What changed for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is out.
    Ejected {
        /// For that long, jitter included.
        lasts: Duration,
        /// Why.
        cause: EjectCause,
    },
    /// The next connection may try it.
    HalfOpen,
    /// One connection tries it.
    Trying,
    /// It is in use again.
    Returned(ReturnCause),
}

/// Why a backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EjectCause {
    /// So many connects in a row have failed.
    Failures(u32),
    /// The connection that tried it has failed.
    TrialFailed,
}

/// Why a backend is in use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnCause {
    /// A connection to it was made.
    Connected,
    /// Its time was over, and nobody had tried it.
    Ended,
    /// Its health checks found it well again.
    HealthCheck,
}

/// The backends of one pool, by their place in it.
#[derive(Clone, Debug)]
pub struct Outliers {
    params: OutlierParams,
    breakers: Vec<Breaker>,
    out_count: usize,
    out_max: usize,
    /// When the first breaker changes by time alone; none while none does.
    due: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Breaker {
    state: State,
    /// Ejections since the last success.
    ejections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Ejected {
        half_open_at: Duration,
        until: Duration,
    },
    HalfOpen {
        until: Duration,
    },
    Trying {
        trial: u64,
        until: Duration,
    },
}

impl State {
    const fn as_public(self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Ejected { .. } => BreakerState::Ejected,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
            Self::Trying { .. } => BreakerState::Trying,
        }
    }

    /// When it changes by time alone.
    const fn due(self) -> Option<Duration> {
        match self {
            Self::Ejected { half_open_at, .. } => Some(half_open_at),
            Self::HalfOpen { until } => Some(until),
            Self::Closed { .. } | Self::Trying { .. } => None,
        }
    }
}

impl Outliers {
    /// So many backends, all in use.
    pub fn new(params: &OutlierParams, backend_count: usize) -> Self {
        let closed = Breaker {
            state: State::Closed { failures: 0 },
            ejections: 0,
        };
        let percent = usize::from(params.max_ejected_percent.min(100));
        Self {
            params: OutlierParams {
                consecutive_failures: params.consecutive_failures.max(1),
                ..*params
            },
            breakers: vec![closed; backend_count],
            out_count: 0,
            out_max: backend_count * percent / 100,
            due: None,
        }
    }

    /// The same for a changed pool of `backend_count` places, of which `offered_count` hold backends. Where `keeps`
    /// says so a place has the backend it had, which stays where it stands; the others are in use. Who is out stays
    /// out for its time, also when fewer may be out from now on.
    pub fn reshape(
        &self,
        params: &OutlierParams,
        backend_count: usize,
        offered_count: usize,
        keeps: impl Fn(usize) -> bool,
    ) -> Self {
        let mut next = Self::new(params, backend_count);
        let percent = usize::from(params.max_ejected_percent.min(100));
        next.out_max = offered_count * percent / 100;
        for (at, breaker) in self.breakers.iter().enumerate().take(backend_count) {
            if keeps(at) {
                next.breakers[at] = *breaker;
            }
        }
        let states = || next.breakers.iter().map(|breaker| breaker.state);
        let is_out = |state: &State| state.as_public() != BreakerState::Closed;
        next.out_count = states().filter(is_out).count();
        next.due = states().filter_map(State::due).min();
        next
    }

    /// Where a backend stands.
    pub fn state(&self, backend: usize) -> BreakerState {
        self.breakers[backend].state.as_public()
    }

    /// When [`Outliers::pop_due`] has something to say; none while it has not.
    pub const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// A connection, known as `id` among those under way, begins to connect to the backend.
    pub fn on_attempt(&mut self, backend: usize, id: u64) -> Option<Change> {
        let State::HalfOpen { until } = self.breakers[backend].state else {
            return None;
        };
        self.enter(backend, State::Trying { trial: id, until });
        Some(Change::Trying)
    }

    /// A connection to the backend was made, whoever made it: it is alive.
    pub fn on_success(&mut self, backend: usize) -> Option<Change> {
        self.close(backend, ReturnCause::Connected)
    }

    /// The health checks have found the backend well, after they had not.
    pub fn on_recovery(&mut self, backend: usize) -> Option<Change> {
        self.close(backend, ReturnCause::HealthCheck)
    }

    /// The attempt of the connection `id` has failed by the backend's fault. `random` is for the jitter.
    pub fn on_failure(
        &mut self,
        backend: usize,
        id: u64,
        now: Duration,
        random: u64,
    ) -> Option<Change> {
        match self.breakers[backend].state {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                self.breakers[backend].state = State::Closed { failures };
                let is_enough = failures >= self.params.consecutive_failures;
                (is_enough && self.out_count < self.out_max)
                    .then(|| self.eject(backend, now, random, EjectCause::Failures(failures)))
            }
            State::Trying { trial, .. } if trial == id => {
                Some(self.eject(backend, now, random, EjectCause::TrialFailed))
            }
            // Begun before, or as a last resort: nothing new.
            State::Trying { .. } | State::Ejected { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// The connection `id` no longer tries the backend. Where it has not said how that went, another may.
    pub fn on_abandoned(&mut self, backend: usize, id: u64) -> Option<Change> {
        match self.breakers[backend].state {
            State::Trying { trial, until } if trial == id => {
                self.enter(backend, State::HalfOpen { until });
                Some(Change::HalfOpen)
            }
            State::Trying { .. }
            | State::Closed { .. }
            | State::Ejected { .. }
            | State::HalfOpen { .. } => None,
        }
    }

    /// The next change that time alone has made by `now`, if there is one.
    pub fn pop_due(&mut self, now: Duration) -> Option<(usize, Change)> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let is_due = |breaker: &Breaker| breaker.state.due().is_some_and(|due| due <= now);
        let backend = self.breakers.iter().position(is_due)?;
        let change = match self.breakers[backend].state {
            State::Ejected { until, .. } => {
                self.enter(backend, State::HalfOpen { until });
                Change::HalfOpen
            }
            State::HalfOpen { .. } => {
                // Nobody knows better yet: the next failure decides.
                let failures = self.params.consecutive_failures - 1;
                self.enter(backend, State::Closed { failures });
                Change::Returned(ReturnCause::Ended)
            }
            State::Closed { .. } | State::Trying { .. } => return None,
        };
        Some((backend, change))
    }

    fn eject(&mut self, backend: usize, now: Duration, random: u64, cause: EjectCause) -> Change {
        let lasts = self.params.lasts(self.breakers[backend].ejections, random);
        self.breakers[backend].ejections += 1;
        let state = State::Ejected {
            half_open_at: now + lasts * 3 / 4,
            until: now + lasts,
        };
        self.enter(backend, state);
        Change::Ejected { lasts, cause }
    }

    fn close(&mut self, backend: usize, cause: ReturnCause) -> Option<Change> {
        let was = self.breakers[backend].state.as_public();
        self.breakers[backend].ejections = 0;
        if was == BreakerState::Closed {
            self.breakers[backend].state = State::Closed { failures: 0 };
            return None;
        }
        self.enter(backend, State::Closed { failures: 0 });
        Some(Change::Returned(cause))
    }

    fn enter(&mut self, backend: usize, state: State) {
        let is_out = |state: State| usize::from(state.as_public() != BreakerState::Closed);
        self.out_count -= is_out(self.breakers[backend].state);
        self.out_count += is_out(state);
        self.breakers[backend].state = state;
        self.due = self.breakers.iter().filter_map(|b| b.state.due()).min();
    }
}

impl OutlierParams {
    /// How long an ejection lasts after so many in a row: up to a fifth less than its due, so that workers that
    /// eject together do not try together.
    fn lasts(&self, ejections: u32, random: u64) -> Duration {
        let doubled = 2u32.saturating_pow(ejections.min(31));
        let whole = self.ejection.saturating_mul(doubled).min(self.max_ejection);
        let jitter = ((whole / 5).as_nanos() * u128::from(random >> 32)) >> 32;
        whole - Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
