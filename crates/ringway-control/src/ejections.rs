//! How a worker's ejections reach the control thread, and how they are told: once per backend, not once per worker.
//!
//! It decides nothing about ejections. Invariant: a warning that a backend is out is followed by one line that it
//! is in use everywhere again, and between the two by debug lines only.

use std::collections::{HashMap, HashSet};

use ringway_health::{Change, EjectCause, ReturnCause};
use ringway_metrics::Topology;
use ringway_worker::{EjectionNotice, NoticeSink};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};

use crate::history::History;
use crate::supervise::Event;

/// A worker's way to the control thread.
#[derive(Debug)]
pub(crate) struct Notices {
    pub(crate) events: UnboundedSender<Event>,
}

impl NoticeSink for Notices {
    fn on_ejection(&self, notice: EjectionNotice) {
        // Nobody listens any more once the balancer has ended.
        let _ = self.events.send(Event::Ejection(notice));
    }
}

/// Which workers leave out which backends, by pool and place.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    out: HashMap<(u16, u16), HashSet<u16>>,
}

/// How much a change means to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// The first worker leaves it out.
    First,
    /// The last one that did uses it again.
    Last,
    /// Neither.
    Minor,
}

impl Ledger {
    /// Takes a change in and tells it.
    pub(crate) fn tell(&mut self, notice: &EjectionNotice, topology: &Topology, history: &History) {
        let weight = self.weigh(notice);
        // What it is about may be gone by now: then there is nobody left to name.
        let Some((pool, backend)) = names(topology, notice.pool, notice.backend.get()) else {
            return;
        };
        let worker = notice.worker;
        match notice.change {
            Change::Ejected { lasts, cause } => {
                let (seconds, reason) = (lasts.as_secs_f64(), eject_label(cause));
                match weight {
                    Weight::First => {
                        warn!(pool, backend, worker, reason, seconds, "ejected");
                        history.note(pool, backend, "ejected", reason);
                    }
                    Weight::Last | Weight::Minor => {
                        debug!(pool, backend, worker, reason, seconds, "ejected too");
                    }
                }
            }
            Change::HalfOpen => debug!(pool, backend, worker, "half-open"),
            Change::Trying => debug!(pool, backend, worker, "tried"),
            Change::Returned(cause) => {
                let reason = return_label(cause);
                match weight {
                    Weight::Last => tell_returned((pool, backend), worker, reason, history),
                    Weight::First | Weight::Minor => {
                        debug!(pool, backend, worker, reason, "no longer ejected here");
                    }
                }
            }
        }
    }

    /// Forgets those for which `is_there` does not hold: they have left their pool, or nothing ejects
    /// there any more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(u16, u16) -> bool) {
        self.out
            .retain(|(pool, backend), _| is_there(*pool, *backend));
    }

    /// A worker has ended, and with it its ejections.
    pub(crate) fn forget_worker(&mut self, worker: u16, topology: &Topology, history: &History) {
        for ((pool, backend), workers) in &mut self.out {
            if !workers.remove(&worker) || !workers.is_empty() {
                continue;
            }
            if let Some(names) = names(topology, *pool, *backend) {
                tell_returned(names, worker, "worker_left", history);
            }
        }
        self.out.retain(|_, workers| !workers.is_empty());
    }

    fn weigh(&mut self, notice: &EjectionNotice) -> Weight {
        let workers = self
            .out
            .entry((notice.pool, notice.backend.get()))
            .or_default();
        match notice.change {
            Change::Ejected { .. } => {
                let is_first = workers.is_empty();
                workers.insert(notice.worker);
                if is_first {
                    Weight::First
                } else {
                    Weight::Minor
                }
            }
            Change::Returned(_) => {
                let was_out = workers.remove(&notice.worker);
                if was_out && workers.is_empty() {
                    Weight::Last
                } else {
                    Weight::Minor
                }
            }
            Change::HalfOpen | Change::Trying => Weight::Minor,
        }
    }
}

/// The names of a pool and of a backend of it, while they are there.
fn names(topology: &Topology, pool: u16, backend: u16) -> Option<(&str, &str)> {
    let pool = topology.pools.get(usize::from(pool))?;
    let backend = pool.backends.get(usize::from(backend))?;
    Some((&pool.name, &backend.address))
}

/// The last worker that left a backend out does so no more.
fn tell_returned(
    (pool, backend): (&str, &str),
    worker: u16,
    reason: &'static str,
    history: &History,
) {
    info!(pool, backend, worker, reason, "no longer ejected");
    history.note(pool, backend, "returned", reason);
}

const fn eject_label(cause: EjectCause) -> &'static str {
    match cause {
        EjectCause::Failures(_) => "connect_failures",
        EjectCause::TrialFailed => "trial_failed",
    }
}

const fn return_label(cause: ReturnCause) -> &'static str {
    match cause {
        ReturnCause::Connected => "connected",
        ReturnCause::Ended => "ended",
        ReturnCause::HealthCheck => "health_check",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_balance::BackendIndex;

    use super::*;

    #[test]
    fn the_first_and_the_last_worker_are_told_of() {
        let ejected = |cause| Change::Ejected {
            lasts: Duration::from_secs(10),
            cause,
        };
        let first = ejected(EjectCause::Failures(5));
        let again = ejected(EjectCause::TrialFailed);
        let returned = Change::Returned(ReturnCause::Connected);
        let mut ledger = Ledger::default();
        for (worker, backend, change, weight) in [
            (0, 1, first, Weight::First),
            (1, 1, first, Weight::Minor),
            (0, 1, Change::HalfOpen, Weight::Minor),
            (0, 1, Change::Trying, Weight::Minor),
            (0, 1, again, Weight::Minor),
            (0, 2, first, Weight::First),
            (1, 1, returned, Weight::Minor),
            (0, 1, returned, Weight::Last),
            (0, 1, returned, Weight::Minor),
            (0, 1, first, Weight::First),
            (0, 2, returned, Weight::Last),
        ] {
            let notice = EjectionNotice {
                worker,
                pool: 0,
                backend: BackendIndex::new(backend),
                change,
            };
            assert_eq!(ledger.weigh(&notice), weight, "{notice:?}");
        }
    }
}
