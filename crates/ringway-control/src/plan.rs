//! From a configuration to what every worker is given: names become indices, addresses become what
//! connect(2) takes, maxima become counters that all workers share.
//!
//! Invariant: listener `i`, route `i`, pool `i` and backend `i` mean the same in the layout, in the
//! topology of the metrics and in every worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_admission::{AccessList, Rate};
use ringway_balance::{Algorithm, BackendParams, MaglevTable, stable_hash};
use ringway_config::{Access, Backend, BackendAddress, Config, Listener, Over, Pool};
use ringway_flow::{CloseHow, FlowParams, RelayMode, Timeouts};
use ringway_health::OutlierParams;
use ringway_metrics::{Topology, WorkerBlocks};
use ringway_uring::ConnectAddress;
use ringway_worker::{
    AccessQueue, AccessUpdate, Admission, BackendSpec, Limit, ListenerSpec, NoticeSink, PoolSpec,
    PoolUpdate, RouteSpec, SharedRate, SocketSpec, SourceLimit, SourceRate, Update,
    WhenBackendDown, WorkerSpec, buffer_size,
};

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
    pipes_max: usize,
    pipe_size: usize,
}

#[derive(Clone, Debug)]
struct PlannedListener {
    route: u16,
    admission: Admission,
    over: CloseHow,
}

#[derive(Clone, Debug)]
struct PlannedPool {
    algorithm: Algorithm,
    when_all_down: ringway_balance::WhenAllDown,
    when_backend_down: WhenBackendDown,
    table: Option<Arc<MaglevTable>>,
    outlier: Option<OutlierParams>,
    slow_start: Option<Duration>,
    is_checked: bool,
    backends: Vec<PlannedBackend>,
}

#[derive(Clone, Debug)]
struct PlannedBackend {
    address: ConnectAddress,
    params: BackendParams,
    limit: Option<Arc<Limit>>,
    is_offered: bool,
}

/// What one worker has for itself.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) index: u16,
    pub(crate) cpu: usize,
    pub(crate) seed: u64,
    /// By listener, then address.
    pub(crate) sockets: Vec<Vec<std::os::fd::OwnedFd>>,
    pub(crate) blocks: WorkerBlocks,
    pub(crate) access: Option<AccessQueue>,
    pub(crate) notices: Box<dyn NoticeSink>,
}

/// What a plan goes on from.
#[derive(Clone, Copy, Debug)]
struct Previous<'a> {
    config: &'a Config,
    plan: &'a Plan,
}

impl Plan {
    pub(crate) fn new(config: &Config, limits: &Limits) -> Result<Plan, StartError> {
        let connections = Arc::new(Limit::new(limits.connections_max));
        Plan::make(config, limits, Layout::of(config), connections, None)
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
        let layout = self.layout.next(config, usage);
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
            // Those of the workers, which keep what they have.
            pipes_max: previous.map_or(limits.pipes_per_worker, |p| p.plan.pipes_max),
            pipe_size: previous.map_or(limits.pipe_size, |p| p.plan.pipe_size),
        })
    }

    pub(crate) fn worker_spec(&self, own: Own) -> WorkerSpec {
        let places = self.layout.socket_at.iter().flatten();
        let listeners = self.layout.listener_at.iter().zip(own.sockets);
        let sockets =
            listeners.flat_map(|(listener, fds)| fds.into_iter().map(move |fd| (*listener, fd)));
        WorkerSpec {
            index: own.index,
            cpu: Some(own.cpu),
            epoch: self.epoch,
            seed: own.seed,
            listeners: self.listener_specs(),
            sockets: places
                .zip(sockets)
                .map(|(number, (listener, fd))| SocketSpec {
                    number: (*number).into(),
                    listener,
                    fd: Some(fd),
                    options: None,
                })
                .collect(),
            routes: self.routes.clone(),
            pools: self.pools.iter().map(|pool| pool.spec()).collect(),
            blocks: own.blocks,
            topology: Arc::clone(&self.topology),
            connections: Arc::clone(&self.connections),
            pipes_max: self.pipes_max,
            pipe_size: self.pipe_size,
            access: own.access,
            notices: own.notices,
        }
    }

    /// What a worker that runs `before` is told.
    pub(crate) fn update(
        &self,
        before: &Plan,
        blocks: WorkerBlocks,
        sockets: Vec<SocketSpec>,
        access: AccessUpdate,
    ) -> Update {
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
            blocks,
            topology: Arc::clone(&self.topology),
            access,
        }
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
        let specs = self.listeners.iter().map(|listener| ListenerSpec {
            route: listener.route,
            admission: listener.admission.clone(),
            over: listener.over,
        });
        specs.collect()
    }
}

impl PlannedPool {
    /// What is in the place of a pool that is not there.
    fn vacant() -> PlannedPool {
        PlannedPool {
            algorithm: Algorithm::Random,
            when_all_down: ringway_balance::WhenAllDown::Refuse,
            when_backend_down: WhenBackendDown::Keep,
            table: None,
            outlier: None,
            slow_start: None,
            is_checked: false,
            backends: Vec::new(),
        }
    }

    fn spec(&self) -> PoolSpec {
        let backend = |backend: &PlannedBackend| BackendSpec {
            address: backend.address.clone(),
            params: backend.params,
            limit: backend.limit.clone(),
            is_offered: backend.is_offered,
        };
        PoolSpec {
            algorithm: self.algorithm,
            when_all_down: self.when_all_down,
            table: self.table.clone(),
            when_backend_down: self.when_backend_down,
            outlier: self.outlier,
            slow_start: self.slow_start,
            is_checked: self.is_checked,
            backends: self.backends.iter().map(backend).collect(),
        }
    }
}

impl PlannedBackend {
    /// What is in the place of a backend that is not there.
    fn vacant() -> PlannedBackend {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        PlannedBackend {
            address: ConnectAddress::from(nowhere),
            params: BackendParams {
                weight: 0,
                backup: false,
                identity: 0,
            },
            limit: None,
            is_offered: false,
        }
    }

    /// The same without new connections.
    fn leaving(&self) -> PlannedBackend {
        PlannedBackend {
            params: BackendParams {
                weight: 0,
                ..self.params
            },
            is_offered: false,
            ..self.clone()
        }
    }
}

/// A place in a list of the configuration as workers count them.
pub(crate) fn place(at: usize) -> u16 {
    u16::try_from(at).expect("invariant: a configuration's lists are shorter than 65536")
}

fn planned_listeners(
    config: &Config,
    layout: &Layout,
    previous: Option<Previous<'_>>,
) -> Vec<PlannedListener> {
    let leaving = |at| {
        let before = previous.and_then(|previous| previous.plan.listeners.get(at));
        before.cloned().unwrap_or(PlannedListener {
            route: 0,
            admission: Admission::default(),
            over: CloseHow::Reset,
        })
    };
    let mut planned: Vec<_> = (0..layout.listeners.len()).map(leaving).collect();
    let places = layout.listener_at.iter().zip(&layout.route_at);
    for (listener, (at, route)) in config.listeners.iter().zip(places) {
        let at = usize::from(*at);
        let before = previous.and_then(|previous| previous.listener(layout, at));
        planned[at] = PlannedListener {
            route: *route,
            admission: admission(listener, before),
            over: over(listener),
        };
    }
    planned
}

impl<'a> Previous<'a> {
    /// The listener that had this place and has it still.
    fn listener(self, layout: &Layout, at: usize) -> Option<(&'a Listener, &'a Admission)> {
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
    fn pool(self, layout: &Layout, at: usize) -> Option<(&'a Pool, &'a Arc<PlannedPool>)> {
        let before = &self.plan.layout;
        let own = before
            .pool_at
            .iter()
            .position(|own| usize::from(*own) == at)?;
        let is_same = before.pools.seat(at) == layout.pools.seat(at);
        is_same.then(|| (&self.config.pools[own], &self.plan.pools[at]))
    }
}

fn over(listener: &Listener) -> CloseHow {
    match listener.limits.over {
        Over::Reset => CloseHow::Reset,
        Over::Close => CloseHow::Fin,
    }
}

fn planned_routes(
    config: &Config,
    layout: &Layout,
    previous: Option<Previous<'_>>,
) -> Vec<RouteSpec> {
    let none = Timeouts {
        connect: None,
        first_byte: None,
        idle: None,
        half_close: None,
        lifetime: None,
    };
    let (chunk, over_none) = (buffer_size(), CloseHow::Reset);
    let idle = FlowParams::new(&none, RelayMode::Copy, 1, chunk, over_none);
    let leaving = |at| {
        let before = previous.and_then(|previous| previous.plan.routes.get(at));
        before.copied().unwrap_or(RouteSpec {
            listener: 0,
            pool: 0,
            flow: idle,
        })
    };
    let mut planned: Vec<_> = (0..layout.routes.len()).map(leaving).collect();
    let places = layout.listener_at.iter().zip(&layout.route_at);
    for (listener, (at, route)) in config.listeners.iter().zip(places) {
        let pool = &config.pools[listener.pool];
        let timeouts = Timeouts {
            connect: Some(pool.connect_timeout),
            first_byte: listener.timeouts.first_byte,
            idle: listener.timeouts.idle,
            half_close: listener.timeouts.half_close,
            lifetime: listener.timeouts.lifetime,
        };
        let attempts = u8::try_from(pool.connect_attempts).unwrap_or(u8::MAX);
        let (chunk, over) = (buffer_size(), over(listener));
        planned[usize::from(*route)] = RouteSpec {
            listener: *at,
            pool: layout.pool_at[listener.pool],
            flow: FlowParams::new(&timeouts, listener.relay, attempts, chunk, over),
        };
    }
    planned
}

/// What is not configured is not there, and costs nothing.
fn admission(listener: &Listener, before: Option<(&Listener, &Admission)>) -> Admission {
    let limits = &listener.limits;
    // What counts goes on counting, also under another maximum; what did not change is kept.
    let kept = before
        .map(|(_, admission)| admission.clone())
        .unwrap_or_default();
    let same = |is_same: fn(&Listener, &Listener) -> bool| {
        before.is_some_and(|(before, _)| is_same(before, listener))
    };
    let is_restricted = listener.access != Access::default();
    let access = kept.access.filter(|_| same(|a, b| a.access == b.access));
    let rate_per_source = kept
        .rate_per_source
        .filter(|_| same(|a, b| a.limits.rate_per_source == b.limits.rate_per_source));
    let rate = kept
        .rate
        .filter(|_| same(|a, b| a.limits.rate == b.limits.rate));
    Admission {
        access: is_restricted.then(|| {
            let Access { allow, deny } = &listener.access;
            access.unwrap_or_else(|| Arc::new(AccessList::new(allow, deny)))
        }),
        connections_per_source: limits.connections_per_source.map(|most| {
            let new = || Arc::new(SourceLimit::new(most));
            kept.connections_per_source.unwrap_or_else(new)
        }),
        connections: shared_limit(limits.connections.map(u32::from), kept.connections),
        rate_per_source: limits.rate_per_source.map(|per_second| {
            rate_per_source.unwrap_or_else(|| Arc::new(SourceRate::new(Rate::new(per_second))))
        }),
        rate: limits.rate.map(|per_second| {
            rate.unwrap_or_else(|| Arc::new(SharedRate::new(Rate::new(per_second))))
        }),
    }
}

fn planned_pools(
    config: &Config,
    layout: &Layout,
    previous: Option<Previous<'_>>,
) -> Result<Vec<Arc<PlannedPool>>, StartError> {
    let leaving = |at| {
        let previous = previous?;
        let before = previous.plan.pools.get(at)?;
        let is_same = previous.plan.layout.pools.seat(at) == layout.pools.seat(at);
        let is_there = is_same && layout.pools.seat(at).is_taken();
        // Nobody checks its backends any more; those of its flows that try another one may.
        is_there.then(|| match before.is_checked {
            true => Arc::new(PlannedPool {
                is_checked: false,
                ..PlannedPool::clone(before)
            }),
            false => Arc::clone(before),
        })
    };
    let vacant = Arc::new(PlannedPool::vacant());
    let mut planned: Vec<Arc<PlannedPool>> = (0..layout.pools.len())
        .map(|at| leaving(at).unwrap_or_else(|| Arc::clone(&vacant)))
        .collect();
    let places = layout.pool_at.iter().zip(&layout.backend_at);
    for (pool, (at, own)) in config.pools.iter().zip(places) {
        let at = usize::from(*at);
        let before = previous.and_then(|previous| previous.pool(layout, at));
        let is_untouched = |(before, plan): (&Pool, &PlannedPool)| {
            let kept = plan.backends.len() == layout.backends[at].len()
                && (0..plan.backends.len())
                    .all(|b| plan.backends[b].is_offered == layout.backends[at].is_offered(b));
            kept && before == pool
        };
        planned[at] = match before {
            Some((old, plan)) if is_untouched((old, plan)) => Arc::clone(plan),
            // A pool that comes back has its backends, too.
            _ => Arc::new(planned_pool(
                pool,
                own,
                &planned_before(previous, layout, at),
            )?),
        };
    }
    Ok(planned)
}

/// What each place of a pool's list held, where its holder is the same.
fn planned_before<'a>(
    previous: Option<Previous<'a>>,
    layout: &Layout,
    pool: usize,
) -> Vec<Option<&'a PlannedBackend>> {
    let places = &layout.backends[pool];
    let before = |at: usize| {
        let plan = previous?.plan;
        let was = plan.layout.backends.get(pool)?;
        let is_same = was.seat(at) == places.seat(at) && places.seat(at).is_taken();
        plan.pools[pool].backends.get(at).filter(|_| is_same)
    };
    (0..places.len()).map(before).collect()
}

fn planned_pool(
    pool: &Pool,
    own: &[u16],
    before: &[Option<&PlannedBackend>],
) -> Result<PlannedPool, StartError> {
    let leaving = |before: &Option<&PlannedBackend>| match before {
        Some(before) => before.leaving(),
        None => PlannedBackend::vacant(),
    };
    let mut backends: Vec<PlannedBackend> = before.iter().map(leaving).collect();
    for (backend, at) in pool.backends.iter().zip(own) {
        let limit = backends[usize::from(*at)].limit.take();
        backends[usize::from(*at)] = planned_backend(pool, backend, limit)?;
    }
    let table = match pool.algorithm {
        Algorithm::Maglev => {
            let params: Vec<BackendParams> = backends.iter().map(|b| b.params).collect();
            Some(Arc::new(MaglevTable::for_backends(&params)))
        }
        Algorithm::RoundRobin
        | Algorithm::LeastConnections
        | Algorithm::Random
        | Algorithm::SourceHash => None,
    };
    Ok(PlannedPool {
        algorithm: pool.algorithm,
        when_all_down: pool.when_all_down,
        when_backend_down: match pool.when_backend_down {
            ringway_config::WhenBackendDown::Keep => WhenBackendDown::Keep,
            ringway_config::WhenBackendDown::Close => WhenBackendDown::Close,
        },
        table,
        outlier: pool.outlier,
        slow_start: pool.slow_start,
        is_checked: pool.health.is_some(),
        backends,
    })
}

fn planned_backend(
    pool: &Pool,
    backend: &Backend,
    limit: Option<Arc<Limit>>,
) -> Result<PlannedBackend, StartError> {
    let name = backend.address.to_string();
    let params = BackendParams {
        weight: backend.weight,
        backup: backend.backup,
        identity: stable_hash(name.as_bytes()),
    };
    let address = match &backend.address {
        BackendAddress::Tcp(address) => ConnectAddress::from(*address),
        BackendAddress::Unix(path) => {
            ConnectAddress::unix(path).map_err(|source| StartError::Backend {
                pool: pool.name.clone(),
                address: name,
                source,
            })?
        }
    };
    Ok(PlannedBackend {
        address,
        params,
        limit: shared_limit(backend.max_connections, limit),
        is_offered: true,
    })
}

/// The limit that counts already, or a new one.
fn shared_limit(most: Option<u32>, kept: Option<Arc<Limit>>) -> Option<Arc<Limit>> {
    most.map(|most| kept.unwrap_or_else(|| Arc::new(Limit::new(most.into()))))
}
