//! What the control thread knows of every backend's health, and how a keeper's verdict reaches
//! workers, metrics, status and log.
//!
//! Written on the threads of the keepers, read on the control thread. The locks are of a backend
//! each and held for a few instructions; a worker takes none of them, it gets a message.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_balance::{BackendIndex, Eligibility};
use ringway_config::{Config, Pool};
use ringway_health::{Health, ProbeFailure, ProbeResult, Transition};
use ringway_keeper::{BackendKey, VerdictSink};
use ringway_metrics::{CheckResult, HealthBlock, Histogram, HistogramSnapshot};
use ringway_worker::{Mailbox, Message};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::unix_millis;
use crate::plan::place;
use crate::supervise::Event;

/// The health of all backends, by pool.
#[derive(Debug)]
pub(crate) struct Board {
    pools: Vec<PoolBoard>,
    /// Backends with checks that no probe has ended for yet.
    unknown: AtomicUsize,
}

/// `None` in place of a field's value is a pool without checks.
#[derive(Debug)]
struct PoolBoard {
    check_time: Option<Mutex<Histogram>>,
    backends: Vec<BackendBoard>,
}

#[derive(Debug)]
struct BackendBoard {
    block: Option<Arc<HealthBlock>>,
    standing: Mutex<Standing>,
}

/// What is known of one backend. Moments count from the workers' epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What it is taken for.
    pub(crate) health: Health,
    /// Since when.
    pub(crate) since: Duration,
    /// When the last check ended; none without checks or before the first.
    pub(crate) checked_at: Option<Duration>,
    /// Why the last failed check failed; a success does not clear it.
    pub(crate) last_failure: Option<ProbeFailure>,
}

impl Board {
    pub(crate) fn new(config: &Config) -> Board {
        let backend = |pool: &Pool| BackendBoard {
            block: pool.health.is_some().then(Arc::default),
            standing: Mutex::new(Standing {
                health: Health::Unknown,
                since: Duration::ZERO,
                checked_at: None,
                last_failure: None,
            }),
        };
        let pool = |pool: &Pool| PoolBoard {
            check_time: pool.health.is_some().then(|| Mutex::new(Histogram::new())),
            backends: pool.backends.iter().map(|_| backend(pool)).collect(),
        };
        let checked = config.pools.iter().filter(|pool| pool.health.is_some());
        Board {
            pools: config.pools.iter().map(pool).collect(),
            unknown: AtomicUsize::new(checked.map(|pool| pool.backends.len()).sum()),
        }
    }

    /// Whether every backend with checks has had its first.
    pub(crate) fn is_first_round_done(&self) -> bool {
        self.unknown.load(Ordering::Acquire) == 0
    }

    pub(crate) fn standing(&self, pool: usize, backend: usize) -> Standing {
        *self.pools[pool].backends[backend].standing()
    }

    /// The counters of a backend's checks; `None` without checks.
    pub(crate) fn block(&self, pool: usize, backend: usize) -> Option<Arc<HealthBlock>> {
        self.pools[pool].backends[backend].block.clone()
    }

    /// How long the checks of a pool took; `None` without checks.
    pub(crate) fn check_time(&self, pool: usize) -> Option<HistogramSnapshot> {
        // Copied under the lock, made small outside it.
        let histogram = self.pools[pool].check_time.as_ref()?;
        let copy = histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Some(copy.snapshot())
    }

    fn place(&self, key: BackendKey) -> (&PoolBoard, &BackendBoard) {
        let pool = &self.pools[usize::from(key.pool)];
        (pool, &pool.backends[usize::from(key.backend)])
    }

    fn note_probe(&self, key: BackendKey, at: Duration, took: Duration, result: &ProbeResult) {
        let (pool, backend) = self.place(key);
        let label = label_of(result);
        if let Some(block) = &backend.block {
            block.record(label, unix_millis());
        }
        if let Some(check_time) = &pool.check_time {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            check_time
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .record(micros);
        }
        let mut standing = backend.standing();
        standing.checked_at = Some(at);
        if let ProbeResult::Failed(failure) = result {
            standing.last_failure = Some(*failure);
        }
    }

    fn note_transition(&self, key: BackendKey, transition: Transition) {
        let mut standing = self.place(key).1.standing();
        standing.health = transition.to;
        // The probe that tipped the scale was noted just before.
        standing.since = standing.checked_at.unwrap_or_default();
        if transition.from == Health::Unknown {
            self.unknown.fetch_sub(1, Ordering::Release);
        }
    }
}

impl BackendBoard {
    /// A thread that panicked here left whole values behind: they are plain and set one by one.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the keepers' verdicts go.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) board: Arc<Board>,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) events: UnboundedSender<Event>,
}

impl VerdictSink for Verdicts {
    fn on_probe(&self, key: BackendKey, at: Duration, took: Duration, result: &ProbeResult) {
        self.board.note_probe(key, at, took, result);
    }

    fn on_transition(&self, key: BackendKey, transition: Transition) {
        let eligibility = match transition.to {
            Health::Unknown | Health::Up => Eligibility::Up,
            Health::Down => Eligibility::Down,
        };
        for mailbox in &self.mailboxes {
            mailbox.send(Message::Verdict {
                pool: key.pool,
                backend: BackendIndex::new(key.backend),
                eligibility,
            });
        }
        // After the workers were told: who sees the new state here can rely on it.
        self.board.note_transition(key, transition);
        // Nobody listens any more once the balancer has ended.
        let _ = self.events.send(Event::Transition { key, transition });
    }
}

/// How long readiness waits for the first checks at most: all of them are started within the window
/// of the slowest pool, each takes its timeout at most, and a little for the threads to come to it.
pub(crate) fn first_round_timeout(config: &Config) -> Duration {
    const SLACK: Duration = Duration::from_millis(500);
    let checked = || {
        config
            .pools
            .iter()
            .filter_map(|pool| Some((pool, pool.health.as_ref()?)))
    };
    let fleet = checked().map(|(pool, _)| pool.backends.len()).sum();
    let longest = checked().map(|(_, check)| {
        ringway_health::first_window(check.params.interval, fleet) + check.params.timeout
    });
    longest
        .max()
        .map_or(Duration::ZERO, |longest| longest + SLACK)
}

/// The label under which a check is counted.
fn label_of(result: &ProbeResult) -> CheckResult {
    match result {
        ProbeResult::Ok => CheckResult::Pass,
        ProbeResult::Failed(failure) => match failure {
            ProbeFailure::Refused => CheckResult::Refused,
            ProbeFailure::Timeout => CheckResult::Timeout,
            ProbeFailure::Reset => CheckResult::Reset,
            ProbeFailure::EarlyClose => CheckResult::EarlyClose,
            ProbeFailure::WrongAnswer(_) => CheckResult::WrongAnswer,
            ProbeFailure::Unreachable => CheckResult::Unreachable,
            ProbeFailure::NoPorts => CheckResult::NoPorts,
            ProbeFailure::Resources => CheckResult::Resources,
            ProbeFailure::Other(_) => CheckResult::Other,
        },
    }
}

/// All keys of a pool's backends.
pub(crate) fn keys(pool: usize, backends: usize) -> impl Iterator<Item = BackendKey> {
    (0..backends).map(move |backend| BackendKey {
        pool: place(pool),
        backend: place(backend),
    })
}

#[cfg(test)]
mod tests {
    use ringway_config::Backend;

    use super::*;

    fn board(health: Option<ringway_config::HealthCheck>) -> (Config, Board) {
        let backends = ["127.0.0.1:1", "127.0.0.1:2"];
        let backends = backends.map(|address| Backend::new(address.parse().unwrap()));
        let mut pool = Pool::new("web", backends.into());
        pool.health = health;
        let config = Config::new(Vec::new(), vec![pool]);
        let board = Board::new(&config);
        (config, board)
    }

    const KEYS: [BackendKey; 2] = [
        BackendKey {
            pool: 0,
            backend: 0,
        },
        BackendKey {
            pool: 0,
            backend: 1,
        },
    ];
    const REFUSED: ProbeResult = ProbeResult::Failed(ProbeFailure::Refused);

    #[test]
    fn the_first_round_is_over_when_every_backend_was_judged() {
        let (config, board) = board(Some(Default::default()));
        assert!(first_round_timeout(&config) > Duration::from_secs(1));
        for (key, to, reason) in [
            (KEYS[0], Health::Up, ProbeResult::Ok),
            (KEYS[1], Health::Down, REFUSED),
        ] {
            assert!(!board.is_first_round_done());
            board.note_probe(
                key,
                Duration::from_secs(3),
                Duration::from_millis(1),
                &reason,
            );
            board.note_transition(
                key,
                Transition {
                    from: Health::Unknown,
                    to,
                    reason,
                },
            );
        }
        assert!(board.is_first_round_done());
        let expected = Standing {
            health: Health::Down,
            since: Duration::from_secs(3),
            checked_at: Some(Duration::from_secs(3)),
            last_failure: Some(ProbeFailure::Refused),
        };
        assert_eq!(board.standing(0, 1), expected);
        assert_eq!(board.check_time(0).unwrap().count(), 2);
        assert_eq!(board.block(0, 1).unwrap().checks(CheckResult::Refused), 1);
    }

    #[test]
    fn a_check_is_counted_under_the_name_it_is_told_by() {
        let failures = [
            ProbeFailure::Refused,
            ProbeFailure::Timeout,
            ProbeFailure::Reset,
            ProbeFailure::EarlyClose,
            ProbeFailure::WrongAnswer(ringway_health::Excerpt::of(b"no")),
            ProbeFailure::Unreachable,
            ProbeFailure::NoPorts,
            ProbeFailure::Resources,
            ProbeFailure::Other(5),
        ];
        assert_eq!(failures.len() + 1, CheckResult::COUNT);
        for failure in failures {
            let counted = label_of(&ProbeResult::Failed(failure));
            assert_eq!(counted.as_label(), failure.as_label());
        }
    }

    #[test]
    fn without_checks_there_is_nothing_to_wait_for() {
        let (config, board) = board(None);
        assert!(board.is_first_round_done());
        assert_eq!(first_round_timeout(&config), Duration::ZERO);
        assert!(board.block(0, 0).is_none() && board.check_time(0).is_none());
        assert_eq!(board.standing(0, 0).health, Health::Unknown);
    }
}
