//! From a configuration to what every worker is given: names become indices, addresses become what
//! connect(2) takes, maxima become counters that all workers share.
//!
//! Invariant: listener `i`, route `i`, pool `i` and backend `i` mean the same in the layout, in the
//! topology of the metrics and in every worker.

mod listeners;
mod pools;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_balance::AdminState;
use ringway_config::{Config, Listener, Pool};
use ringway_metrics::{Topology, WorkerBlocks, WorkerHistograms};
use ringway_worker::{
    AccessQueue, AccessUpdate, Admission, Duty, Limit, ListenerSpec, NoticeSink, Opening,
    PoolUpdate, RouteSpec, Share, SocketSpec, Update, WorkerSpec,
};

use self::listeners::{PlannedListener, planned_listeners, planned_routes};
use self::pools::{PlannedPool, planned_pools};

use crate::error::StartError;
use crate::layout::{Layout, Usage};
use crate::limits::Limits;

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) topology: Arc<Topology>,
    pub(crate) connections: Arc<Limit>,
    pub(crate) epoch: Instant,
    /// By place, as everything below.
    listeners: Vec<PlannedListener>,
    routes: Vec<RouteSpec>,
    pools: Vec<Arc<PlannedPool>>,
    /// Of each worker.
    share: Share,
    busy_poll: Option<Duration>,
}

/// What one worker has for itself.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) index: u16,
    pub(crate) cpu: usize,
    pub(crate) seed: u64,
    pub(crate) opening: Opening,
    /// By listener.
    pub(crate) sockets: Vec<Vec<std::os::fd::OwnedFd>>,
    pub(crate) blocks: WorkerBlocks,
    pub(crate) histograms: WorkerHistograms,
    pub(crate) access: Option<AccessQueue>,
    pub(crate) notices: Box<dyn NoticeSink>,
}

/// What one worker that runs already is given.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) duty: Duty,
    pub(crate) cpu: usize,
    /// None where it accepts no more.
    pub(crate) sockets: Vec<SocketSpec>,
    pub(crate) blocks: WorkerBlocks,
    pub(crate) access: AccessUpdate,
}

/// What a plan goes on from.
#[derive(Clone, Copy, Debug)]
struct Previous<'a> {
    config: &'a Config,
    plan: &'a Plan,
}

impl<'a> Previous<'a> {
    /// The listener that had this place and has it still.
    pub(super) fn listener(
        self,
        layout: &Layout,
        at: usize,
    ) -> Option<(&'a Listener, &'a Admission)> {
        let before = &self.plan.layout;
        let own = before
            .listener_at
            .iter()
            .position(|own| usize::from(*own) == at)?;
        let is_same = before.listeners.seat(at) == layout.listeners.seat(at);
        is_same.then(|| {
            (
                &self.config.listeners[own],
                &self.plan.listeners[at].admission,
            )
        })
    }

    /// The pool that had this place and has it still.
    pub(super) fn pool(
        self,
        layout: &Layout,
        at: usize,
    ) -> Option<(&'a Pool, &'a Arc<PlannedPool>)> {
        let before = &self.plan.layout;
        let own = before
            .pool_at
            .iter()
            .position(|own| usize::from(*own) == at)?;
        let is_same = before.pools.seat(at) == layout.pools.seat(at);
        is_same.then(|| (&self.config.pools[own], &self.plan.pools[at]))
    }
}

impl Plan {
    pub(crate) fn new(config: &Config, limits: &Limits) -> Result<Plan, StartError> {
        let connections = Arc::new(Limit::new(limits.connections_max));
        let layout = Layout::of(config).ok_or(StartError::NoPlace)?;
        Plan::make(config, limits, layout, connections, None)
    }

    /// The plan of a changed configuration. What did not change is the same, in the same memory:
    /// counts of limits, rates, access lists and tables go on.
    pub(crate) fn next(
        &self,
        before: &Config,
        config: &Config,
        limits: &Limits,
        usage: &impl Usage,
    ) -> Result<Plan, StartError> {
        let previous = Previous {
            config: before,
            plan: self,
        };
        let layout = self.layout.next(config, usage).ok_or(StartError::NoPlace)?;
        let connections = Arc::clone(&self.connections);
        Plan::make(config, limits, layout, connections, Some(previous))
    }

    fn make(
        config: &Config,
        limits: &Limits,
        layout: Layout,
        connections: Arc<Limit>,
        previous: Option<Previous<'_>>,
    ) -> Result<Plan, StartError> {
        Ok(Plan {
            topology: Arc::new(layout.topology()),
            connections,
            epoch: previous.map_or_else(Instant::now, |previous| previous.plan.epoch),
            listeners: planned_listeners(config, &layout, previous),
            routes: planned_routes(config, &layout, previous),
            pools: planned_pools(config, &layout, previous)?,
            layout,
            share: limits.share(),
            busy_poll: config.busy_poll,
        })
    }

    pub(crate) fn worker_spec(&self, own: Own) -> WorkerSpec {
        let listeners = self.layout.listener_at.iter().zip(&self.layout.socket_at);
        let places = listeners
            .flat_map(|(listener, numbers)| numbers.iter().map(move |number| (listener, number)));
        WorkerSpec {
            index: own.index,
            cpu: Some(own.cpu),
            epoch: self.epoch,
            seed: own.seed,
            opening: own.opening,
            listeners: self.listener_specs(),
            sockets: places
                .zip(own.sockets)
                .map(|((listener, number), fds)| SocketSpec {
                    number: (*number).into(),
                    listener: *listener,
                    fds,
                    options: None,
                })
                .collect(),
            routes: self.routes.clone(),
            pools: self.pools.iter().map(|pool| pool.spec()).collect(),
            blocks: own.blocks,
            histograms: own.histograms,
            connections: Arc::clone(&self.connections),
            share: self.share,
            busy_poll: self.busy_poll,
            access: own.access,
            notices: own.notices,
        }
    }

    /// What a worker that runs `before` is told.
    pub(crate) fn update(&self, before: &Plan, renewal: Renewal) -> Update {
        let Renewal {
            duty,
            cpu,
            sockets,
            blocks,
            access,
        } = renewal;
        let pools = self.pools.iter().enumerate();
        Update {
            listeners: self.listener_specs(),
            sockets,
            routes: self.routes.clone(),
            pools: pools
                .map(|(at, pool)| match before.pools.get(at) {
                    Some(before) if Arc::ptr_eq(before, pool) => PoolUpdate::Keep,
                    Some(_) | None => PoolUpdate::Set(pool.spec()),
                })
                .collect(),
            duty,
            cpu: Some(cpu),
            share: self.share,
            busy_poll: self.busy_poll,
            blocks,
            topology: Arc::clone(&self.topology),
            access,
        }
    }

    /// What operators want of the backend in this place.
    pub(crate) fn state(&self, pool: usize, backend: usize) -> AdminState {
        let planned = &self.pools[pool].backends[backend];
        planned.state
    }

    /// Changes the maxima that limits of both plans share. Not before every worker is about to run it.
    pub(crate) fn commit_limits(&self, config: &Config, limits: &Limits) {
        self.connections.set_most(limits.connections_max);
        for (listener, at) in config.listeners.iter().zip(&self.layout.listener_at) {
            let admission = &self.listeners[usize::from(*at)].admission;
            if let (Some(limit), Some(most)) = (&admission.connections, listener.limits.connections)
            {
                limit.set_most(u32::from(most).into());
            }
            let per_source = listener.limits.connections_per_source;
            if let (Some(limit), Some(most)) = (&admission.connections_per_source, per_source) {
                limit.set_most(most);
            }
        }
        let pools = config.pools.iter().zip(&self.layout.pool_at);
        for ((pool, at), places) in pools.zip(&self.layout.backend_at) {
            let planned = &self.pools[usize::from(*at)];
            for (backend, at) in pool.backends.iter().zip(places) {
                let limit = &planned.backends[usize::from(*at)].limit;
                if let (Some(limit), Some(most)) = (limit, backend.max_connections) {
                    limit.set_most(most.into());
                }
            }
        }
    }

    fn listener_specs(&self) -> Vec<ListenerSpec> {
        let places = 0..self.listeners.len();
        places.map(|at| self.listener_spec(place(at))).collect()
    }

    /// The listener at a place, as workers have it.
    pub(crate) fn listener_spec(&self, at: u16) -> ListenerSpec {
        let listener = &self.listeners[usize::from(at)];
        ListenerSpec {
            route: listener.route,
            admission: listener.admission.clone(),
            inspect: listener.inspect.clone(),
            over: listener.over,
        }
    }

    /// The place of the pool that a route leads to.
    pub(crate) fn pool_of(&self, route: u16) -> u16 {
        self.routes[usize::from(route)].pool
    }
}

/// A place in a list of the configuration as workers count them.
pub(crate) fn place(at: usize) -> u16 {
    u16::try_from(at).expect("invariant: a configuration's lists are shorter than 65536")
}

/// The limit that counts already, or a new one.
fn shared_limit(most: Option<u32>, kept: Option<Arc<Limit>>) -> Option<Arc<Limit>> {
    most.map(|most| kept.unwrap_or_else(|| Arc::new(Limit::new(most.into()))))
}

#[cfg(test)]
mod tests {
    use ringway_config::Backend;

    use super::*;
    use crate::layout::Unused;
    use crate::limits::{Allowance, Demand, derive};

    fn limits(memory: Option<u64>) -> Limits {
        let demand = Demand {
            workers: 3,
            binds: 1,
            probes: 0,
        };
        let allowance = Allowance {
            nofile: 1 << 20,
            pipe_pages: None,
            memory,
        };
        derive(demand, allowance)
    }

    #[test]
    fn memory_that_comes_later_brings_connections_and_their_buffers() {
        let backend = Backend::new("127.0.0.1:1".parse().unwrap());
        let listener = Listener::new("l", Vec::new(), 0);
        let config = Config::new(vec![listener], vec![Pool::new("p", vec![backend])]);
        let first = Plan::new(&config, &limits(Some(128 << 20))).unwrap();
        for later in [Some(128 << 20), None, Some(1 << 30), Some(64 << 20)].map(limits) {
            let plan = first.next(&config, &config, &later, &Unused).unwrap();
            plan.commit_limits(&config, &later);
            assert_eq!(first.connections.most(), later.connections_max);
            assert_eq!(plan.share.buffers_max, later.buffers_per_worker);
        }
    }
}
