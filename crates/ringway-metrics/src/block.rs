//! What is counted, as plain fields: one set of blocks per worker, and two that threads share.
//!
//! A worker is the only writer of its blocks; the scraper reads them where they are, at any time.
//! Every entry is in an `Arc` of its own, so that a changed configuration can add and remove
//! entries while those that stay keep their counts. Histograms are not here: they are too large to
//! be atomics and live with the worker (see [`crate::WorkerHistograms`]).
//!
//! **Invariant:** blocks are aligned to 128 bytes (two cache lines: x86 prefetches them in pairs),
//! so that no two workers ever write the same line.

use std::sync::Arc;

use crate::counter::{Counter, Gauge, SharedCounter, SharedGauge};
use crate::label::{
    AcceptError, ByLabel, CheckResult, CloseReason, ConnectError, Engine, Peer, RefusedReason,
    ReloadResult, Side,
};
use crate::topology::{Seat, Topology};

/// Everything one worker counts in; a clone is a second view of the same counters.
///
/// The vectors follow a [`Topology`] index by index.
#[derive(Clone, Debug)]
pub struct WorkerBlocks {
    /// What belongs to the worker itself.
    pub worker: Arc<WorkerBlock>,
    /// One per listener.
    pub listeners: Vec<Arc<ListenerBlock>>,
    /// One per pair of listener and pool.
    pub routes: Vec<Arc<RouteBlock>>,
    /// One per pool.
    pub pools: Vec<Arc<PoolBlock>>,
    /// One per backend, by pool.
    pub backends: Vec<Vec<Arc<BackendBlock>>>,
}

impl WorkerBlocks {
    /// Blocks at zero for worker number `worker` and everything `topology` names.
    pub fn new(worker: u16, topology: &Topology) -> Self {
        let empty = Self {
            worker: Arc::new(WorkerBlock {
                worker,
                ..WorkerBlock::default()
            }),
            listeners: Vec::new(),
            routes: Vec::new(),
            pools: Vec::new(),
            backends: Vec::new(),
        };
        empty.follow(&Topology::default(), topology)
    }

    /// Views of the same counters for all that is in both topologies, and blocks at zero for what is
    /// new. These are the blocks of `from`.
    pub fn follow(&self, from: &Topology, to: &Topology) -> Self {
        let none = &Vec::new();
        let pools = to.pools.iter().enumerate();
        Self {
            worker: Arc::clone(&self.worker),
            listeners: carried(&self.listeners, &from.listeners, &to.listeners, |l| l.seat),
            routes: carried(&self.routes, &from.routes, &to.routes, |r| r.seat),
            pools: carried(&self.pools, &from.pools, &to.pools, |p| p.seat),
            backends: pools
                .map(|(at, pool)| {
                    let blocks = self.backends.get(at).unwrap_or(&Vec::new()).clone();
                    let before = from.pools.get(at).map_or(&none[..], |pool| &pool.backends);
                    carried(&blocks, before, &pool.backends, |b| b.seat)
                })
                .collect(),
        }
    }
}

fn carried<B: Default, N>(
    blocks: &[Arc<B>],
    from: &[N],
    to: &[N],
    seat: impl Fn(&N) -> Seat,
) -> Vec<Arc<B>> {
    let place = |(at, now): (usize, &N)| match (blocks.get(at), from.get(at)) {
        (Some(block), Some(before)) if seat(before) == seat(now) => Arc::clone(block),
        _ => Arc::default(),
    };
    to.iter().enumerate().map(place).collect()
}

/// What one worker counts about itself.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerBlock {
    /// The worker's number, from zero: the label `worker`.
    pub worker: u16,
    /// Its ring.
    pub ring: RingCounters,
    /// Its pipes.
    pub pipes: PipeCounters,
    /// Nanoseconds spent in turns, waiting for the kernel not included.
    pub busy_nanos: Counter,
    /// Nanoseconds spent looking for completions instead of sleeping: CPU time, but no part of `busy_nanos`.
    pub busy_poll_nanos: Counter,
    /// Flows it holds now, those being refused included.
    pub connections: Gauge,
    /// When its last turn began, in milliseconds of the worker's own clock. Read by the supervisor
    /// to notice a worker that hangs; not exposed.
    pub heartbeat_millis: Gauge,
    /// Completions of a slot's earlier use, recognised by their generation and dropped.
    pub stale_completions: Counter,
    /// Access log lines dropped because the queue to the log was full.
    pub access_log_dropped: Counter,
    /// Payload bytes moved from one socket to the other, by what moved them.
    pub relayed_bytes: ByLabel<Engine, Counter, { Engine::COUNT }>,
}

/// What one worker's ring did.
#[derive(Debug, Default)]
pub struct RingCounters {
    /// Calls of `io_uring_enter(2)`.
    pub enters: Counter,
    /// Entries given to the kernel.
    pub submissions: Counter,
    /// Completions taken from the kernel.
    pub completions: Counter,
    /// Completions that did not fit the completion queue when they came.
    pub cq_overflow: Counter,
    /// Kernel threads that work for this ring now; zero in good health.
    pub iowq_workers: Gauge,
    /// Receives that ended because no provided buffer was free (`ENOBUFS`).
    pub buffers_exhausted: Counter,
}

/// What one worker's pipes are used for.
#[derive(Debug, Default)]
pub struct PipeCounters {
    /// Pipes that a direction of a flow splices through now.
    pub in_use: Gauge,
    /// Empty pipes kept for the next direction.
    pub idle: Gauge,
    /// Times a direction stayed with copying because no pipe was to be had.
    pub exhausted: Counter,
}

/// What one worker counts about one listener.
///
/// At rest, over all workers and the listener's routes, those that a reload took away included:
/// `connections_total = Σ refused + connections + Σ closed`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerBlock {
    /// Connections taken from the listening socket, those refused afterwards included.
    pub connections_total: Counter,
    /// Connections taken, not refused and not closed yet.
    pub connections: Gauge,
    /// Connections turned away, by why.
    pub refused: ByLabel<RefusedReason, Counter, { RefusedReason::COUNT }>,
    /// Failed accepts, by errno.
    pub accept_errors: ByLabel<AcceptError, Counter, { AcceptError::COUNT }>,
}

/// What one worker counts about the connections of one listener to one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteBlock {
    /// Flows it has now; tells when nothing refers to the route any more, and is not exposed.
    pub flows: Gauge,
    /// Ended connections, by who ended them and how.
    pub closed:
        ByLabel<Side, ByLabel<CloseReason, Counter, { CloseReason::COUNT }>, { Side::COUNT }>,
    /// Bytes received from each peer.
    pub received_bytes: ByLabel<Peer, Counter, { Peer::COUNT }>,
    /// Bytes sent to each peer.
    pub sent_bytes: ByLabel<Peer, Counter, { Peer::COUNT }>,
}

/// What one worker counts about one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolBlock {
    /// Connection attempts after the first of a flow.
    pub retries: Counter,
    /// Backends chosen although every one of the pool was down.
    pub fail_open: Counter,
    /// Segments sent again, by peer, read from `TCP_INFO` when a socket is closed.
    pub retransmitted_segments: ByLabel<Peer, Counter, { Peer::COUNT }>,
}

/// What one worker counts about one backend.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BackendBlock {
    /// Connections to it that are being opened or are open.
    pub connections: Gauge,
    /// Connections to it that were established.
    pub connections_total: Counter,
    /// Attempts that failed, by how.
    pub connect_failures: ByLabel<ConnectError, Counter, { ConnectError::COUNT }>,
    /// Times the worker left it out because connects to it had failed.
    pub ejections: Counter,
    /// 1 while the worker leaves it out.
    pub ejected: Gauge,
    /// 1 while the worker lets one connection try it.
    pub half_open: Gauge,
}

/// What is known of one backend's health checks; written by whichever keeper probes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct HealthBlock {
    checks: ByLabel<CheckResult, SharedCounter, { CheckResult::COUNT }>,
    last_check_unix_millis: SharedGauge,
}

impl HealthBlock {
    /// Counts one finished check. `unix_millis` is the wall clock when it ended, in milliseconds
    /// since 1970: what lets an operator see checks that have stopped.
    pub fn record(&self, result: CheckResult, unix_millis: i64) {
        self.checks[result].increment();
        self.last_check_unix_millis.set(unix_millis);
    }

    /// Checks that ended with `result`.
    pub fn checks(&self, result: CheckResult) -> u64 {
        self.checks[result].value()
    }

    /// When the last check ended, in milliseconds since 1970; `None` before the first.
    pub fn last_check_unix_millis(&self) -> Option<i64> {
        Some(self.last_check_unix_millis.value()).filter(|millis| *millis != 0)
    }
}

/// What the control thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ControlBlock {
    /// Reloads, by how they ended.
    pub reloads: ByLabel<ReloadResult, SharedCounter, { ReloadResult::COUNT }>,
    /// When the running configuration was applied, in milliseconds since 1970; the load at start
    /// counts. Zero before it.
    pub last_reload_success_unix_millis: SharedGauge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{BackendNames, ListenerNames, PoolNames, RouteNames};

    fn topology() -> Topology {
        Topology {
            listeners: vec![ListenerNames::default()],
            routes: vec![
                RouteNames::default(),
                RouteNames {
                    pool: 1,
                    ..RouteNames::default()
                },
            ],
            pools: vec![
                PoolNames {
                    name: "a".into(),
                    backends: vec!["x".into(), "y".into()],
                    ..PoolNames::default()
                },
                PoolNames {
                    name: "b".into(),
                    ..PoolNames::default()
                },
            ],
        }
    }

    #[test]
    fn there_is_one_block_per_name() {
        let blocks = WorkerBlocks::new(3, &topology());
        assert_eq!(blocks.worker.worker, 3);
        assert_eq!(
            (
                blocks.listeners.len(),
                blocks.routes.len(),
                blocks.pools.len()
            ),
            (1, 2, 2)
        );
        assert_eq!(
            blocks.backends.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 0]
        );
    }

    #[test]
    fn a_clone_shows_the_same_counts() {
        let writer = WorkerBlocks::new(0, &topology());
        let reader = writer.clone();
        writer.routes[1].closed[Side::Client][CloseReason::Fin].increment();
        writer.worker.relayed_bytes[Engine::Splice].add(7);
        assert_eq!(
            reader.routes[1].closed[Side::Client][CloseReason::Fin].value(),
            1
        );
        assert_eq!(reader.worker.relayed_bytes[Engine::Splice].value(), 7);
        assert_eq!(
            reader.routes[0].closed[Side::Client][CloseReason::Fin].value(),
            0
        );
    }

    #[test]
    fn what_stays_keeps_its_counts_and_what_takes_its_place_does_not() {
        let before = topology();
        let mut after = topology();
        after.pools[0].backends[1] = BackendNames {
            seat: Seat::Taken(7),
            ..BackendNames::from("z")
        };
        after.pools[0].backends.push("w".into());
        after.routes.pop();
        let blocks = WorkerBlocks::new(0, &before);
        for backend in &blocks.backends[0] {
            backend.connections_total.add(3);
        }
        let blocks = blocks.follow(&before, &after);
        let counts = blocks.backends[0]
            .iter()
            .map(|b| b.connections_total.value());
        assert_eq!(counts.collect::<Vec<_>>(), [3, 0, 0]);
        assert_eq!(blocks.routes.len(), 1);
    }

    #[test]
    fn blocks_of_two_workers_never_share_a_cache_line() {
        let [a, b] = [0, 1].map(|worker| WorkerBlocks::new(worker, &topology()));
        let lines = |address: usize, size: usize| (address / 128)..=((address + size - 1) / 128);
        let line_of = |blocks: &WorkerBlocks| {
            let worker = Arc::as_ptr(&blocks.worker) as usize;
            let backend = Arc::as_ptr(&blocks.backends[0][0]) as usize;
            let mut all: Vec<_> = lines(worker, size_of::<WorkerBlock>()).collect();
            all.extend(lines(backend, size_of::<BackendBlock>()));
            all
        };
        assert!(line_of(&a).iter().all(|line| !line_of(&b).contains(line)));
        for align in [
            align_of::<WorkerBlock>(),
            align_of::<ListenerBlock>(),
            align_of::<RouteBlock>(),
            align_of::<PoolBlock>(),
            align_of::<BackendBlock>(),
            align_of::<HealthBlock>(),
        ] {
            assert_eq!(align, 128);
        }
    }

    #[test]
    fn a_health_block_knows_its_last_check() {
        let block = HealthBlock::default();
        assert_eq!(block.last_check_unix_millis(), None);
        block.record(CheckResult::Refused, 1_700_000_000_123);
        block.record(CheckResult::Pass, 1_700_000_002_123);
        assert_eq!(block.checks(CheckResult::Refused), 1);
        assert_eq!(block.checks(CheckResult::Pass), 1);
        assert_eq!(block.last_check_unix_millis(), Some(1_700_000_002_123));
    }
}
