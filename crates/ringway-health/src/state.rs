//! Rise and fall: what a backend is taken for, given the results of its probes.
//!
//! ```text
//!              Ok                      `fall` failures in a row
//!  Unknown ─────────► Up ─────────────────────────────────────────► Down
//!     │                ▲                                             │ ▲
//!     │                └─────────────────────────────────────────────┘ │
//!     │                          `rise` successes in a row             │
//!     └────────────────────────────────────────────────────────────────┘
//!              Failed
//! ```
//!
//! It does not know when probes happen or how they are made. Invariant: a run shorter than its threshold
//! leaves no trace; one result of the other kind ends it.

use std::time::Duration;

use crate::ProbeParams;
use crate::failure::{ProbeFailure, ProbeResult};

/// What a backend is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// No probe has ended yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer.
    Down,
}

impl Health {
    /// A stable lower-case name for logs, status pages and metric labels.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A change of health; `from` and `to` always differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What the backend was taken for until now.
    pub from: Health,
    /// What it is taken for from now on.
    pub to: Health,
    /// The result that tipped the scale, the last of its run.
    pub reason: ProbeResult,
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Judge {
    rise: u32,
    fall: u32,
    state: State,
    /// When `state` last changed its health; none before the first verdict.
    since: Option<Duration>,
    last_result_at: Option<Duration>,
    last_failure: Option<ProbeFailure>,
}

/// Health with the run of results that speaks against it. A run is always shorter than its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Up { failures: u32 },
    Down { successes: u32 },
}

impl Judge {
    /// A backend nothing is known about. A threshold of 0 counts as 1.
    pub fn new(params: &ProbeParams) -> Self {
        Self {
            rise: params.rise.max(1),
            fall: params.fall.max(1),
            state: State::Unknown,
            since: None,
            last_result_at: None,
            last_failure: None,
        }
    }

    /// A backend that another judge took for this. Of its runs nothing is known.
    pub fn taking_over(params: &ProbeParams, health: Health) -> Self {
        Self {
            state: match health {
                Health::Unknown => State::Unknown,
                Health::Up => State::Up { failures: 0 },
                Health::Down => State::Down { successes: 0 },
            },
            ..Self::new(params)
        }
    }

    /// Takes over new thresholds and keeps the health. A run that already exceeds a lowered threshold is
    /// decided by the next result of its kind.
    pub fn retune(&mut self, params: &ProbeParams) {
        self.rise = params.rise.max(1);
        self.fall = params.fall.max(1);
    }

    /// Takes in the result of a probe that ended at `now`; answers the change of health, if it makes one.
    /// The first result decides alone: a new backend is neither used for `fall` intervals though it is dead
    /// nor left out for `rise` intervals though it is well.
    pub fn on_result(&mut self, now: Duration, result: &ProbeResult) -> Option<Transition> {
        self.last_result_at = Some(now);
        if let ProbeResult::Failed(failure) = result {
            self.last_failure = Some(*failure);
            if !failure.is_of_backend() {
                return None;
            }
        }
        let from = self.health();
        self.state = self.next(result);
        let to = self.health();
        if from == to {
            return None;
        }
        self.since = Some(now);
        Some(Transition {
            from,
            to,
            reason: *result,
        })
    }

    /// What the backend is taken for.
    pub const fn health(&self) -> Health {
        match self.state {
            State::Unknown => Health::Unknown,
            State::Up { .. } => Health::Up,
            State::Down { .. } => Health::Down,
        }
    }

    /// When that began; none while [`Health::Unknown`].
    pub const fn since(&self) -> Option<Duration> {
        self.since
    }

    /// When the last probe ended; none before the first.
    pub const fn last_result_at(&self) -> Option<Duration> {
        self.last_result_at
    }

    /// The most recent failure, kept through later successes; none if no probe ever failed.
    pub const fn last_failure(&self) -> Option<ProbeFailure> {
        self.last_failure
    }

    fn next(&self, result: &ProbeResult) -> State {
        match (self.state, result) {
            (State::Unknown | State::Up { .. }, ProbeResult::Ok) => State::Up { failures: 0 },
            (State::Unknown | State::Down { .. }, ProbeResult::Failed(_)) => {
                State::Down { successes: 0 }
            }
            (State::Up { failures }, ProbeResult::Failed(_)) => {
                if failures + 1 >= self.fall {
                    State::Down { successes: 0 }
                } else {
                    State::Up {
                        failures: failures + 1,
                    }
                }
            }
            (State::Down { successes }, ProbeResult::Ok) => {
                if successes + 1 >= self.rise {
                    State::Up { failures: 0 }
                } else {
                    State::Down {
                        successes: successes + 1,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Excerpt;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn failures() -> [ProbeFailure; 7] {
        [
            ProbeFailure::Refused,
            ProbeFailure::Timeout,
            ProbeFailure::Reset,
            ProbeFailure::EarlyClose,
            ProbeFailure::WrongAnswer(Excerpt::of(b"no")),
            ProbeFailure::Unreachable,
            ProbeFailure::Other(5),
        ]
    }

    #[test]
    fn a_shortage_of_this_host_is_not_the_backends_fault() {
        let mut judge = Judge::new(&params(1, 1));
        judge.on_result(Duration::ZERO, &ProbeResult::Ok);
        for failure in [ProbeFailure::NoPorts, ProbeFailure::Resources] {
            let now = Duration::from_secs(1);
            assert_eq!(judge.on_result(now, &ProbeResult::Failed(failure)), None);
            assert_eq!(
                (judge.health(), judge.last_failure()),
                (Health::Up, Some(failure))
            );
        }
        let refused = ProbeResult::Failed(ProbeFailure::Refused);
        assert!(judge.on_result(Duration::from_secs(2), &refused).is_some());
    }

    #[test]
    fn what_was_known_of_a_backend_is_taken_over_and_not_told_again() {
        let refused = ProbeResult::Failed(ProbeFailure::Refused);
        let now = Duration::from_secs(1);
        let results = |health, results: &[ProbeResult]| {
            let mut judge = Judge::taking_over(&params(2, 2), health);
            let told = |result| Some(judge.on_result(now, result)?.to);
            results.iter().map(told).collect::<Vec<_>>()
        };
        use Health::{Down, Unknown, Up};
        let ok = ProbeResult::Ok;
        assert_eq!(results(Unknown, &[ok]), [Some(Up)]);
        assert_eq!(
            results(Up, &[ok, refused, refused]),
            [None, None, Some(Down)]
        );
        assert_eq!(results(Down, &[refused, ok, ok]), [None, None, Some(Up)]);
    }

    fn params(rise: u32, fall: u32) -> ProbeParams {
        let second = Duration::from_secs(1);
        ProbeParams {
            interval: second * 2,
            timeout: second,
            rise,
            fall,
        }
    }

    fn judge_in(state: State) -> Judge {
        Judge {
            state,
            ..Judge::new(&params(2, 3))
        }
    }

    fn short(state: State) -> String {
        match state {
            State::Unknown => "unknown".into(),
            State::Up { failures } => format!("up-{failures}"),
            State::Down { successes } => format!("down+{successes}"),
        }
    }

    #[test]
    fn every_state_meets_every_result() {
        let states = [
            State::Unknown,
            State::Up { failures: 0 },
            State::Up { failures: 1 },
            State::Up { failures: 2 },
            State::Down { successes: 0 },
            State::Down { successes: 1 },
        ];
        let mut table = String::new();
        for state in states {
            let results =
                std::iter::once(ProbeResult::Ok).chain(failures().map(ProbeResult::Failed));
            for result in results {
                let mut judge = judge_in(state);
                let change = judge.on_result(Duration::from_secs(9), &result);
                let change = change.map_or("-".to_owned(), |change| {
                    assert_eq!(change.reason, result);
                    format!("{}>{}", change.from.as_label(), change.to.as_label())
                });
                let line = format!(
                    "{:8} {:12} {:7} {change}",
                    short(state),
                    result.as_label(),
                    short(judge.state)
                );
                writeln!(table, "{}", line.trim_end()).unwrap();
            }
        }
        assert_eq!(table, EXPECTED_TABLE);
    }

    const EXPECTED_TABLE: &str = "\
unknown  ok           up-0    unknown>up
unknown  refused      down+0  unknown>down
unknown  timeout      down+0  unknown>down
unknown  reset        down+0  unknown>down
unknown  early_close  down+0  unknown>down
unknown  wrong_answer down+0  unknown>down
unknown  unreachable  down+0  unknown>down
unknown  other        down+0  unknown>down
up-0     ok           up-0    -
up-0     refused      up-1    -
up-0     timeout      up-1    -
up-0     reset        up-1    -
up-0     early_close  up-1    -
up-0     wrong_answer up-1    -
up-0     unreachable  up-1    -
up-0     other        up-1    -
up-1     ok           up-0    -
up-1     refused      up-2    -
up-1     timeout      up-2    -
up-1     reset        up-2    -
up-1     early_close  up-2    -
up-1     wrong_answer up-2    -
up-1     unreachable  up-2    -
up-1     other        up-2    -
up-2     ok           up-0    -
up-2     refused      down+0  up>down
up-2     timeout      down+0  up>down
up-2     reset        down+0  up>down
up-2     early_close  down+0  up>down
up-2     wrong_answer down+0  up>down
up-2     unreachable  down+0  up>down
up-2     other        down+0  up>down
down+0   ok           down+1  -
down+0   refused      down+0  -
down+0   timeout      down+0  -
down+0   reset        down+0  -
down+0   early_close  down+0  -
down+0   wrong_answer down+0  -
down+0   unreachable  down+0  -
down+0   other        down+0  -
down+1   ok           up-0    down>up
down+1   refused      down+0  -
down+1   timeout      down+0  -
down+1   reset        down+0  -
down+1   early_close  down+0  -
down+1   wrong_answer down+0  -
down+1   unreachable  down+0  -
down+1   other        down+0  -
";

    #[test]
    fn keeps_what_an_operator_asks_for() {
        let mut judge = Judge::new(&params(1, 1));
        assert_eq!(
            (judge.since(), judge.last_result_at(), judge.last_failure()),
            (None, None, None)
        );

        let refused = ProbeResult::Failed(ProbeFailure::Refused);
        judge.on_result(Duration::from_secs(1), &refused);
        judge.on_result(Duration::from_secs(3), &refused);
        assert_eq!(judge.since(), Some(Duration::from_secs(1)));
        assert_eq!(judge.last_result_at(), Some(Duration::from_secs(3)));

        judge.on_result(Duration::from_secs(5), &ProbeResult::Ok);
        assert_eq!(judge.since(), Some(Duration::from_secs(5)));
        assert_eq!(judge.last_failure(), Some(ProbeFailure::Refused));
    }

    #[test]
    fn retune_keeps_health_and_judges_by_the_new_thresholds() {
        let failed = ProbeResult::Failed(ProbeFailure::Timeout);
        let mut judge = judge_in(State::Up { failures: 2 });
        judge.retune(&params(2, 2));
        assert_eq!(judge.health(), Health::Up);
        assert!(judge.on_result(Duration::ZERO, &failed).is_some());

        let mut judge = judge_in(State::Up { failures: 2 });
        judge.retune(&params(2, 4));
        assert_eq!(judge.on_result(Duration::ZERO, &failed), None);
    }

    /// The definition, written the slow way: health follows from the whole history.
    fn health_by_definition(rise: usize, fall: usize, history: &[bool]) -> Health {
        let mut health = Health::Unknown;
        let mut run_begin = 0;
        for end in 1..=history.len() {
            let last = history[end - 1];
            let run = history[run_begin..end]
                .iter()
                .rev()
                .take_while(|ok| **ok == last)
                .count();
            let next = match (health, last) {
                (Health::Unknown, true) => Health::Up,
                (Health::Unknown, false) => Health::Down,
                (Health::Up, false) if run >= fall => Health::Down,
                (Health::Down, true) if run >= rise => Health::Up,
                (same, _) => same,
            };
            if next != health {
                health = next;
                run_begin = end;
            }
        }
        health
    }

    proptest! {
        #[test]
        fn follows_the_definition(
            rise in 1u32..5,
            fall in 1u32..5,
            history in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut judge = Judge::new(&params(rise, fall));
            for (index, ok) in history.iter().enumerate() {
                let before = judge.health();
                let result = match ok {
                    true => ProbeResult::Ok,
                    false => ProbeResult::Failed(failures()[index % failures().len()]),
                };
                let change = judge.on_result(Duration::from_secs(index as u64), &result);
                let expected =
                    health_by_definition(rise as usize, fall as usize, &history[..=index]);
                prop_assert_eq!(judge.health(), expected);
                prop_assert_eq!(change.is_some(), before != expected);
            }
        }

        #[test]
        fn flapping_below_the_thresholds_changes_nothing(
            rise in 2u32..6,
            fall in 2u32..6,
            runs in prop::collection::vec(any::<u32>(), 1..40),
            begins_well in any::<bool>(),
        ) {
            let mut judge = Judge::new(&params(rise, fall));
            let (confirms, contradicts, limit) = match begins_well {
                true => (ProbeResult::Ok, ProbeResult::Failed(ProbeFailure::Reset), fall),
                false => (ProbeResult::Failed(ProbeFailure::Reset), ProbeResult::Ok, rise),
            };
            judge.on_result(Duration::ZERO, &confirms);
            for run in runs {
                for _ in 0..run % limit {
                    prop_assert_eq!(judge.on_result(Duration::ZERO, &contradicts), None);
                }
                prop_assert_eq!(judge.on_result(Duration::ZERO, &confirms), None);
            }
        }
    }
}
