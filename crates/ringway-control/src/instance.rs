//! A running balancer as the admin endpoint and the supervisor see it: names, views of counters,
//! ways to ask. It owns no thread and no socket, so it may outlive what it describes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringway_config::Config;
use ringway_metrics::{
    ControlBlock, Topology, WorkerBlocks, WorkerHistogramsSnapshot,
};
use ringway_worker::{Limit, Mailbox, Message};
use tokio::sync::mpsc::UnboundedSender;

use crate::access_log::LogState;
use crate::health::Board;
use crate::inquiry::Inquiry;
use crate::supervise::Event;

/// A worker whose last turn is older than this is asked whether it still turns.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// One that was asked and whose last turn is older than this is taken for hung.
const HUNG_AFTER: Duration = Duration::from_secs(5);
/// How long all workers together have to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Everything there is to know of a running balancer.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) version: &'static str,
    pub(crate) commit: &'static str,
    pub(crate) config: Config,
    pub(crate) topology: Arc<Topology>,
    /// The addresses as bound, by listener.
    pub(crate) addresses: Vec<Vec<String>>,
    pub(crate) workers: Vec<WorkerView>,
    pub(crate) board: Arc<Board>,
    /// All connections of the process.
    pub(crate) connections: Arc<Limit>,
    pub(crate) control: Arc<ControlBlock>,
    pub(crate) access_log: Option<Arc<LogState>>,
    /// Zero of the workers' clock: the start, for all that is counted in seconds.
    pub(crate) epoch: Instant,
    /// Readiness does not wait for health checks after this.
    pub(crate) first_round_until: Instant,
    pub(crate) draining: AtomicBool,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) snapshots: Mutex<Vec<LastSnapshot>>,
    pub(crate) pings: Mutex<Vec<Inquiry<()>>>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct WorkerView {
    pub(crate) index: u16,
    pub(crate) cpu: usize,
    pub(crate) thread_id: i32,
    pub(crate) mailbox: Mailbox,
    pub(crate) blocks: WorkerBlocks,
    /// Scrapes it did not answer in time.
    pub(crate) scrapes_missed: AtomicU64,
}

/// A worker's histograms as last seen, and the question for newer ones.
#[derive(Debug, Default)]
pub(crate) struct LastSnapshot {
    pub(crate) inquiry: Inquiry<WorkerHistogramsSnapshot>,
    pub(crate) seen: Option<WorkerHistogramsSnapshot>,
}

impl Instance {
    /// Why this instance should get no new traffic, if so.
    pub(crate) fn unready_because(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if !self.board.is_first_round_done() && Instant::now() < self.first_round_until {
            Some("the first health checks are not done")
        } else {
            None
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The workers that do not turn. Blocks for [`ANSWER_WITHIN`] at most.
    pub(crate) fn hung_workers(&self) -> Vec<u16> {
        let mut pings = lock(&self.pings);
        let quiet = || {
            let workers = self.workers.iter().enumerate();
            workers.filter(|(_, worker)| self.since_turn(worker) > QUIET_MAX)
        };
        let asked: Vec<usize> = quiet().map(|(at, _)| at).collect();
        for at in &asked {
            pings[*at].ask(&self.workers[*at].mailbox, Message::Ping);
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        let silent = |at: &usize| pings[*at].wait_until(deadline).is_none();
        let silent: Vec<usize> = asked.into_iter().filter(silent).collect();
        let workers = silent.into_iter().map(|at| &self.workers[at]);
        workers
            .filter(|worker| self.since_turn(worker) > HUNG_AFTER)
            .map(|worker| worker.index)
            .collect()
    }

    fn since_turn(&self, worker: &WorkerView) -> Duration {
        let turned_at = u64::try_from(worker.blocks.worker.heartbeat_millis.value()).unwrap_or(0);
        self.epoch.elapsed().saturating_sub(Duration::from_millis(turned_at))
    }
}

/// What these locks guard is replaced whole, so that a panic while one is held leaves it usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
