//! The last things that happened to backends: what the log says line by line, kept for the status.
//!
//! Written and read on the control thread's side only. Not the log: it is bounded, and forgets.
//! Invariant: never more than [`KEPT`] entries, the newest last.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::unix_millis;

/// Enough to see an outage begin and end, few enough to send with every status.
const KEPT: usize = 128;

/// One change of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Happening {
    /// Counts from 1 since the start, so that a reader sees what is new to it.
    pub(crate) number: u64,
    pub(crate) unix_millis: i64,
    pub(crate) pool: String,
    pub(crate) backend: String,
    /// up, down, ejected or returned.
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    told: u64,
    last: VecDeque<Happening>,
}

impl History {
    pub(crate) fn note(&self, pool: &str, backend: &str, what: &'static str, reason: &'static str) {
        let mut kept = self.lock();
        if kept.last.len() == KEPT {
            kept.last.pop_front();
        }
        kept.told += 1;
        let happening = Happening {
            number: kept.told,
            unix_millis: unix_millis(),
            pool: pool.to_owned(),
            backend: backend.to_owned(),
            what,
            reason,
        };
        kept.last.push_back(happening);
    }

    pub(crate) fn last(&self) -> Vec<Happening> {
        self.lock().last.iter().cloned().collect()
    }

    /// A panic while it is held can lose an entry and break nothing.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let history = History::default();
        for number in 0..KEPT + 3 {
            history.note("web", &number.to_string(), "down", "refused");
        }
        let last = history.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!((last[0].number, last[0].backend.as_str()), (4, "3"));
        assert_eq!(last[KEPT - 1].number, (KEPT + 3) as u64);
    }
}
