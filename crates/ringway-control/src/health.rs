//! What the control thread knows of every backend's health, and how a keeper's verdict reaches
//! workers, metrics, status and log.
//!
//! Written on the threads of the keepers, read on the control thread. The locks are of a backend
//! each and held for a few instructions; a worker takes none of them, it gets a message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ringway_balance::{AdminState, BackendIndex, Eligibility};
use ringway_config::Config;
use ringway_health::{Health, ProbeFailure, ProbeResult, Transition};
use ringway_keeper::{BackendKey, VerdictSink};
use ringway_metrics::{CheckResult, HealthBlock, Histogram, HistogramSnapshot, Seat};
use ringway_worker::Message;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::unix_millis;
use crate::instance::WorkerView;
use crate::layout::Layout;
use crate::plan::place;
use crate::supervise::Event;

/// The health of all backends, by place.
#[derive(Debug)]
pub(crate) struct Board {
    entries: RwLock<Entries>,
    /// Set once, and never taken back: a reload must not make an instance unready.
    first_round_done: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    pools: Vec<PoolBoard>,
    serial: u64,
    /// Who is told of verdicts.
    workers: Vec<Arc<WorkerView>>,
}

/// `None` in place of a field's value is a pool without checks.
#[derive(Clone, Debug)]
struct PoolBoard {
    seat: Seat,
    check_time: Option<Arc<Mutex<Histogram>>>,
    backends: Vec<Arc<BackendBoard>>,
}

#[derive(Debug)]
struct BackendBoard {
    pool: String,
    address: String,
    seat: Seat,
    /// That of its checks; none where nobody checks it.
    serial: Option<u64>,
    /// Counts go on after a maintenance.
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
    /// When that one began.
    pub(crate) check_began_at: Option<Duration>,
    /// Why the last failed check failed; a success does not clear it.
    pub(crate) last_failure: Option<ProbeFailure>,
}

impl Board {
    pub(crate) fn new(config: &Config, layout: &Layout) -> Board {
        let board = Board {
            entries: RwLock::default(),
            first_round_done: AtomicBool::new(false),
        };
        board.follow(config, layout, Duration::ZERO);
        board
    }

    /// Takes over another configuration. What was checked and still is keeps what is known of it;
    /// whoever still tells of something else is not listened to any more when this returns.
    pub(crate) fn follow(&self, config: &Config, layout: &Layout, now: Duration) {
        let mut entries = self.write();
        let Entries { pools, serial, .. } = &*entries;
        let mut serial = *serial;
        let mut checked = vec![false; layout.pools.len()];
        let mut resting = HashSet::new();
        let own = layout.pool_at.iter().zip(&layout.backend_at);
        for (pool, (at, own)) in config.pools.iter().zip(own) {
            checked[usize::from(*at)] = pool.health.is_some();
            let backends = pool.backends.iter().zip(own);
            let rests = backends.filter(|(backend, _)| backend.state == AdminState::Maintenance);
            resting.extend(rests.map(|(_, own)| (usize::from(*at), usize::from(*own))));
        }
        let pool = |at: usize| {
            let seat = layout.pools.seat(at);
            let before = pools.get(at).filter(|before| before.seat == seat);
            let kept = before.and_then(|before| before.check_time.clone());
            let name = layout.pools.name(at).cloned().unwrap_or_default();
            let backends = (0..layout.backends[at].len()).map(|backend| {
                let places = &layout.backends[at];
                let is_offered = checked[at] && places.is_offered(backend);
                let is_checked = is_offered && !resting.contains(&(at, backend));
                let (seat, address) = (places.seat(backend), places.name(backend));
                let before = before.and_then(|before| before.backends.get(backend));
                let is_same = |before: &&Arc<BackendBoard>| {
                    before.seat == seat && before.serial.is_some() == is_checked
                };
                if let Some(kept) = before.filter(is_same) {
                    return Arc::clone(kept);
                }
                serial += 1;
                let counted = before.filter(|before| before.seat == seat);
                let counted = counted.and_then(|before| before.block.clone());
                Arc::new(BackendBoard {
                    pool: name.clone(),
                    address: address.cloned().unwrap_or_default(),
                    seat,
                    serial: is_checked.then_some(serial),
                    block: is_offered.then(|| counted.unwrap_or_default()),
                    standing: Mutex::new(Standing::unknown(now)),
                })
            });
            PoolBoard {
                seat,
                backends: backends.collect(),
                check_time: checked[at].then(|| kept.unwrap_or_else(new_histogram)),
            }
        };
        let pools = (0..layout.pools.len()).map(pool).collect();
        (entries.pools, entries.serial) = (pools, serial);
    }

    /// From now on a worker is told of verdicts, and now of what it cannot know: which backends are down.
    pub(crate) fn introduce(&self, worker: &Arc<WorkerView>) {
        let mut entries = self.write();
        for (at, pool) in entries.pools.iter().enumerate() {
            for (backend, board) in pool.backends.iter().enumerate() {
                if board.standing().health == Health::Down {
                    worker.send(Message::Verdict {
                        pool: place(at),
                        backend: BackendIndex::new(place(backend)),
                        eligibility: Eligibility::Down,
                    });
                }
            }
        }
        entries.workers.push(Arc::clone(worker));
    }

    /// It has ended.
    pub(crate) fn dismiss(&self, number: u16) {
        let workers = &mut self.write().workers;
        workers.retain(|worker| worker.index != number);
    }

    /// What a backend is called from now on, because another keeper checks it, and what is known of it.
    /// Who checked it before is not listened to any more when this returns. `None` without checks.
    pub(crate) fn hand_over(&self, pool: u16, backend: u16) -> Option<(BackendKey, Standing)> {
        let mut entries = self.write();
        let next = entries.serial + 1;
        let boards = &mut entries.pools.get_mut(usize::from(pool))?.backends;
        let board = boards.get_mut(usize::from(backend))?;
        board.serial?;
        let standing = *board.standing();
        *board = Arc::new(BackendBoard {
            pool: board.pool.clone(),
            address: board.address.clone(),
            seat: board.seat,
            serial: Some(next),
            block: board.block.clone(),
            standing: Mutex::new(standing),
        });
        entries.serial = next;
        let key = BackendKey {
            pool,
            backend,
            serial: next,
        };
        Some((key, standing))
    }

    /// Whether every backend with checks has had its first.
    pub(crate) fn is_first_round_done(&self) -> bool {
        if self.first_round_done.load(Ordering::Relaxed) {
            return true;
        }
        let entries = self.read();
        let mut backends = entries.pools.iter().flat_map(|pool| &pool.backends);
        let is_done = backends.all(|backend| {
            backend.serial.is_none() || backend.standing().health != Health::Unknown
        });
        drop(entries);
        self.first_round_done.fetch_or(is_done, Ordering::Relaxed);
        is_done
    }

    pub(crate) fn standing(&self, pool: usize, backend: usize) -> Standing {
        let entries = self.read();
        let backend = entries
            .pools
            .get(pool)
            .and_then(|p| p.backends.get(backend));
        backend.map_or_else(|| Standing::unknown(Duration::ZERO), |b| *b.standing())
    }

    /// What a keeper is to call a backend; `None` without checks.
    pub(crate) fn key(&self, pool: u16, backend: u16) -> Option<BackendKey> {
        let entries = self.read();
        let board = entries.pools.get(usize::from(pool))?;
        let serial = board.backends.get(usize::from(backend))?.serial?;
        Some(BackendKey {
            pool,
            backend,
            serial,
        })
    }

    /// The counters of a backend's checks; `None` without checks.
    pub(crate) fn block(&self, pool: usize, backend: usize) -> Option<Arc<HealthBlock>> {
        self.read()
            .pools
            .get(pool)?
            .backends
            .get(backend)?
            .block
            .clone()
    }

    /// How long the checks of a pool took; `None` without checks.
    pub(crate) fn check_time(&self, pool: usize) -> Option<HistogramSnapshot> {
        // Copied under the lock, made small outside it.
        let histogram = self.read().pools.get(pool)?.check_time.clone()?;
        let copy = histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Some(copy.snapshot())
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it guards is replaced whole.
    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_probe(&self, key: BackendKey, at: Duration, took: Duration, result: &ProbeResult) {
        let entries = self.read();
        let Some((pool, backend)) = entries.place(key) else {
            return;
        };
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
        standing.check_began_at = Some(at.saturating_sub(took));
        if let ProbeResult::Failed(failure) = result {
            standing.last_failure = Some(*failure);
        }
    }

    /// Notes it after `tell` has told the workers, and says whose it is; nothing where nobody wants to
    /// know any more. A reload waits, so that workers are told of places as they know them.
    fn note_transition(
        &self,
        key: BackendKey,
        transition: Transition,
        tell: impl Fn(&WorkerView),
    ) -> Option<(String, String)> {
        let entries = self.read();
        let (_, backend) = entries.place(key)?;
        entries.workers.iter().for_each(|worker| tell(worker));
        let mut standing = backend.standing();
        standing.health = transition.to;
        // The probe that tipped the scale was noted just before.
        standing.since = standing.checked_at.unwrap_or_default();
        Some((backend.pool.clone(), backend.address.clone()))
    }
}

impl Entries {
    fn place(&self, key: BackendKey) -> Option<(&PoolBoard, &BackendBoard)> {
        let pool = self.pools.get(usize::from(key.pool))?;
        let backend = pool.backends.get(usize::from(key.backend))?;
        (backend.serial == Some(key.serial)).then_some((pool, &**backend))
    }
}

fn new_histogram() -> Arc<Mutex<Histogram>> {
    Arc::new(Mutex::new(Histogram::new()))
}

impl Standing {
    fn unknown(since: Duration) -> Standing {
        Standing {
            health: Health::Unknown,
            since,
            checked_at: None,
            check_began_at: None,
            last_failure: None,
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
        let tell = |worker: &WorkerView| {
            worker.send(Message::Verdict {
                pool: key.pool,
                backend: BackendIndex::new(key.backend),
                eligibility,
            });
        };
        // After the workers were told: who sees the new state here can rely on it.
        if let Some((pool, backend)) = self.board.note_transition(key, transition, tell) {
            // Nobody listens any more once the balancer has ended.
            let _ = self.events.send(Event::Transition {
                pool,
                backend,
                transition,
            });
        }
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

#[cfg(test)]
mod tests;
