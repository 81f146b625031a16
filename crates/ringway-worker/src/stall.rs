//! Deadlines that are due, and a worker that stood still, with its process or alone, beside flows whose
//! bytes kernel threads move.
//!
//! A look at the ring tells what came meanwhile where the worker moves bytes itself. A splice of the ring
//! is begun by that look and done by a thread of the kernel, some time later: until then such a flow has
//! no deadline. Invariant: that is at most every other moment, so that a worker that is always late
//! believes deadlines all the same.

use ringway_flow::{Input, Moment, RelayMode, Span};

use crate::worker::Worker;

/// Deadlines handled in one turn at most.
const DEADLINES_PER_TURN: usize = 256;

/// A deadline is so late only where the worker stood still.
const LATE: Span = Span::from_micros(100_000);
/// How long the threads of the kernel get to move what is there.
const CATCH_UP: Span = Span::from_micros(2_000_000);

/// Whether kernel threads are given time, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall {
    over_at: Option<Moment>,
}

impl Stall {
    /// Notes that `due` is handled not before `now`.
    pub(crate) fn note(&mut self, due: Moment, now: Moment) {
        let is_possible = self
            .over_at
            .is_none_or(|over_at| now >= over_at.after(CATCH_UP));
        if is_possible && now > due.after(LATE) {
            self.over_at = Some(now.after(CATCH_UP));
        }
    }

    /// Until when deadlines are not believed, if that is to come.
    pub(crate) fn over_at(&self, now: Moment) -> Option<Moment> {
        self.over_at.filter(|over_at| *over_at > now)
    }
}

impl Worker {
    /// Whether a deadline is due.
    pub(crate) fn notes_due_deadline(&mut self) -> bool {
        let due = self.wheel.next().filter(|next| *next <= self.now);
        if let Some(due) = due {
            self.stall.note(due, self.now);
        }
        due.is_some()
    }

    pub(crate) fn expire(&mut self) {
        let postponed = self.stall.over_at(self.now);
        for _ in 0..DEADLINES_PER_TURN {
            let Some(slot) = self.wheel.pop(self.now) else {
                return;
            };
            let route = usize::from(self.slots.get(slot).route);
            match (postponed, self.routes[route].flow.relay()) {
                (Some(until), RelayMode::UringSplice) => self.wheel.set(slot, until),
                (None, _) | (_, RelayMode::Auto | RelayMode::Copy | RelayMode::Splice) => {
                    self.feed(slot, Input::Deadline);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default().after(Span::from_micros(millis * 1000))
    }

    #[test]
    fn only_who_stood_still_waits() {
        let mut stall = Stall::default();
        stall.note(at(1000), at(1100));
        assert_eq!(stall.over_at(at(1100)), None);
        stall.note(at(1000), at(1101));
        assert_eq!(stall.over_at(at(1101)), Some(at(3101)));
        assert_eq!(stall.over_at(at(3101)), None);
    }

    #[test]
    fn who_is_always_late_believes_every_deadline_some_time() {
        let mut stall = Stall::default();
        let mut waited_at_once = 0;
        for turn in 0..1000 {
            let now = at(200 * turn + 500);
            stall.note(at(200 * turn), now);
            let waits = stall.over_at(now).is_some();
            waited_at_once = if waits { waited_at_once + 1 } else { 0 };
            assert!(waited_at_once <= 10, "turn {turn}");
        }
        assert!(stall.over_at.is_some());
    }
}
