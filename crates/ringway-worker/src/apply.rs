//! A changed configuration, applied in place between two turns.
//!
//! What stays keeps its index, so flows need not be looked at: they go on with the timeouts they were
//! born with, and their backends keep their loads. It decides nothing about what changes; that is the
//! control thread's. Invariant: no connection sees half of an update, and an update is acknowledged
//! when the sockets it takes away are closed and nothing can arrive on them any more.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_balance::{AdminState, BackendIndex, Ejection, Eligibility};
use ringway_flow::{FlowParams, RelayMode};
use ringway_health::{BreakerState, Outliers};
use ringway_metrics::{Topology, WorkerBlocks};

use crate::access::AccessQueue;
use crate::busy_poll::BusyPoll;
use crate::duty::Duty;
use crate::outlier::{on_the_clock, since_epoch};
use crate::spec::{BackendSpec, ListenerSpec, PoolSpec, RouteSpec, Share, SocketSpec};
use crate::worker::{Worker, WorkerPool};

/// What a worker is to have from now on. Lists follow the topology.
#[derive(Debug)]
pub struct Update {
    /// The listeners.
    pub listeners: Vec<ListenerSpec>,
    /// Every socket there is to be. One that is not here is closed after a last call.
    pub sockets: Vec<SocketSpec>,
    /// The routes.
    pub routes: Vec<RouteSpec>,
    /// The pools.
    pub pools: Vec<PoolUpdate>,
    /// Whether it goes on accepting.
    pub duty: Duty,
    /// Its CPU. The thread is moved by whoever tells of it.
    pub cpu: Option<usize>,
    /// Its share of what the process has.
    pub share: Share,
    /// How long after a completion it looks for the next before it sleeps; off without.
    pub busy_poll: Option<Duration>,
    /// Where it counts.
    pub blocks: WorkerBlocks,
    /// What the indices mean.
    pub topology: Arc<Topology>,
    /// The queue to the access log.
    pub access: AccessUpdate,
}

/// One pool from now on.
#[derive(Debug)]
pub enum PoolUpdate {
    /// As it is.
    Keep,
    /// Another one. Its backends keep what is known of them where their identity is the same.
    Set(PoolSpec),
}

/// The access log from now on.
#[derive(Debug)]
pub enum AccessUpdate {
    /// As it is.
    Keep,
    /// Another queue, or none.
    Set(Option<AccessQueue>),
}

/// Called once, on the worker's thread, when what it was given with has come about: an implementation queues and
/// returns.
pub struct Acknowledge(pub Box<dyn FnOnce() + Send>);

impl fmt::Debug for Acknowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acknowledge")
    }
}

/// A pair of listener and pool as this worker has it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) listener: u16,
    pub(crate) pool: u16,
    /// Shared with the flows that were born with it.
    pub(crate) flow: Rc<FlowParams>,
}

impl From<RouteSpec> for Route {
    fn from(spec: RouteSpec) -> Route {
        Route {
            listener: spec.listener,
            pool: spec.pool,
            flow: Rc::new(spec.flow),
        }
    }
}

impl WorkerPool {
    /// The pool that takes this one's place.
    fn replaced_by(&self, spec: PoolSpec, start: u32) -> WorkerPool {
        let (outlier, is_checked) = (spec.outlier, spec.is_checked);
        let mut next = WorkerPool::new(spec, start);
        next.pool.inherit(&self.pool);
        next.outliers = outlier.map(|params| {
            let count = next.backends.len();
            let offered = next.backends.iter().filter(|b| b.is_offered).count();
            match &self.outliers {
                Some(outliers) => {
                    outliers.reshape(&params, count, offered, |at| self.is_kept(&next, at))
                }
                None => Outliers::new(&params, count),
            }
        });
        for at in next.pool.indices() {
            let BackendSpec {
                is_offered, state, ..
            } = next.backends[at.as_usize()];
            if !is_checked || !is_offered || state == AdminState::Maintenance {
                next.pool.set_eligibility(at, Eligibility::Up);
            }
            next.pool.set_admin_state(at, state);
            next.pool.set_ejection(at, next.ejection(at));
        }
        self.hand_over_limits(&next);
        next
    }

    /// Whether the backend at this place is in both, and what is known of it still holds.
    fn is_kept(&self, next: &WorkerPool, at: usize) -> bool {
        let (Some(old), Some(new)) = (self.backends.get(at), next.backends.get(at)) else {
            return false;
        };
        old.is_in_use() && new.is_in_use() && old.params.identity == new.params.identity
    }

    /// A limit that was not there before counts what is open already.
    fn hand_over_limits(&self, next: &WorkerPool) {
        for (at, backend) in next.pool.indices().zip(&next.backends) {
            let before = self.backends.get(at.as_usize());
            let before = before.and_then(|backend| backend.limit.as_ref());
            if let Some(limit) = &backend.limit
                && before.is_none_or(|before| !Arc::ptr_eq(before, limit))
            {
                limit.adopt(next.pool.load(at).into());
            }
        }
    }

    /// What the state machine of ejection says of a backend.
    pub(crate) fn ejection(&self, backend: BackendIndex) -> Ejection {
        let state = self.outliers.as_ref().map(|o| o.state(backend.as_usize()));
        match state {
            None | Some(BreakerState::Closed) => Ejection::None,
            Some(BreakerState::HalfOpen) => Ejection::Trial,
            Some(BreakerState::Ejected | BreakerState::Trying) => Ejection::Out,
        }
    }
}

impl Worker {
    pub(crate) fn apply(&mut self, update: Update, done: Acknowledge) {
        let Update {
            listeners,
            sockets,
            routes,
            pools,
            duty,
            cpu,
            share,
            busy_poll,
            blocks,
            topology,
            access,
        } = update;
        self.duty = duty;
        self.cpu = cpu;
        self.take_share(share);
        self.busy_poll = BusyPoll::new(busy_poll);
        self.blocks = blocks;
        self.histograms.follow(Arc::clone(&topology));
        self.apply_pools(pools);
        self.apply_routes(routes);
        self.acceptor.apply_listeners(listeners, &self.blocks);
        self.apply_sockets(sockets);
        match access {
            AccessUpdate::Keep => {
                if let Some(access) = &mut self.access {
                    access.rename(topology);
                }
            }
            AccessUpdate::Set(access) => self.access = access,
        }
        self.unacknowledged.push(done);
    }

    /// Tells that updates run, once no socket that they took away is open.
    pub(crate) fn acknowledge(&mut self) {
        if !self.unacknowledged.is_empty() && !self.acceptor.has_leavers() {
            for Acknowledge(done) in self.unacknowledged.drain(..) {
                done();
            }
        }
    }

    fn apply_pools(&mut self, updates: Vec<PoolUpdate>) {
        let (now, start) = (since_epoch(self.now), u32::from(self.index));
        self.pools.truncate(updates.len());
        for (at, update) in updates.into_iter().enumerate() {
            let PoolUpdate::Set(spec) = update else {
                continue;
            };
            match self.pools.get_mut(at) {
                Some(pool) => {
                    pool.pool.advance(now);
                    *pool = pool.replaced_by(spec, start);
                }
                None => self.pools.push(WorkerPool::new(spec, start)),
            }
            for (backend, block) in self.pools[at].pool.indices().zip(&self.blocks.backends[at]) {
                let (is_out, is_half_open) = self.pools[at].breaker_gauges(backend);
                block.ejected.set(i64::from(is_out));
                block.half_open.set(i64::from(is_half_open));
            }
        }
        self.plan_ejections();
    }

    /// When time alone changes an ejection next.
    pub(crate) fn plan_ejections(&mut self) {
        let pools = self.pools.iter();
        let dues = pools.filter_map(|place| place.outliers.as_ref()?.due());
        self.ejections_due = dues.min().map(on_the_clock);
    }

    fn apply_routes(&mut self, specs: Vec<RouteSpec>) {
        self.routes.truncate(specs.len());
        for (at, spec) in specs.into_iter().enumerate() {
            match self.routes.get_mut(at) {
                Some(route) => {
                    (route.listener, route.pool) = (spec.listener, spec.pool);
                    if *route.flow != spec.flow {
                        route.flow = Rc::new(spec.flow);
                    }
                }
                None => self.routes.push(spec.into()),
            }
        }
        self.bound_kernel_threads();
    }

    /// Splices of the ring run on kernel threads: two at most, beside this worker.
    fn bound_kernel_threads(&self) {
        let mut routes = self.routes.iter();
        if routes.any(|route| route.flow.relay() == RelayMode::UringSplice) {
            // Both have worked when the ring was made on every kernel that makes such a ring; a
            // running worker has nobody to tell.
            let _ = self.ring.set_iowq_max_workers(2, 2);
            if let Some(cpu) = self.cpu {
                let _ = self.ring.set_iowq_affinity(cpu);
            }
        }
    }
}
