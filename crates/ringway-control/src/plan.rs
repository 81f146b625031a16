//! From a configuration to what every worker is given: names become indices, addresses become what
//! connect(2) takes, maxima become counters that all workers share.
//!
//! Invariant: listener `i`, pool `i` and backend `i` mean the same in the configuration, in the
//! topology of the metrics and in every worker, and route `i` in the latter two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_admission::{AccessList, Rate};
use ringway_balance::{Algorithm, BackendParams, MaglevTable, stable_hash};
use ringway_config::{Access, Backend, BackendAddress, Config, Listener, Over, Pool};
use ringway_flow::{CloseHow, FlowParams, Timeouts};
use ringway_health::OutlierParams;
use ringway_metrics::{ListenerNames, PoolNames, RouteNames, Topology, WorkerBlocks};
use ringway_uring::ConnectAddress;
use ringway_wire::ProxyVersion;
use ringway_worker::{
    AccessQueue, Admission, BackendSpec, Inspect, Limit, ListenerSpec, NoticeSink, PoolSpec,
    RouteSpec, SharedRate, SourceLimit, SourceRate, WhenBackendDown, WorkerSpec, buffer_size,
};

use crate::error::StartError;
use crate::limits::Limits;
use crate::routing;

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topology: Arc<Topology>,
    pub(crate) connections: Arc<Limit>,
    pub(crate) epoch: Instant,
    listeners: Vec<PlannedListener>,
    pools: Vec<PlannedPool>,
    pipes_max: usize,
    pipe_size: usize,
}

#[derive(Debug)]
struct PlannedListener {
    routes: Vec<RouteSpec>,
    first_route: u16,
    inspect: Option<Arc<Inspect>>,
    admission: Admission,
    over: CloseHow,
}

#[derive(Debug)]
struct PlannedPool {
    algorithm: Algorithm,
    when_all_down: ringway_balance::WhenAllDown,
    when_backend_down: WhenBackendDown,
    table: Option<Arc<MaglevTable>>,
    outlier: Option<OutlierParams>,
    send_proxy: Option<ProxyVersion>,
    slow_start: Option<Duration>,
    backends: Vec<PlannedBackend>,
}

#[derive(Debug)]
struct PlannedBackend {
    address: ConnectAddress,
    params: BackendParams,
    limit: Option<Arc<Limit>>,
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

impl Plan {
    pub(crate) fn new(config: &Config, limits: &Limits) -> Result<Plan, StartError> {
        let mut routes = 0;
        let listeners = config.listeners.iter().enumerate();
        let listeners = listeners.map(|(at, listener)| {
            let planned = planned_listener(place(at), routes, listener, config);
            routes += place(planned.routes.len());
            planned
        });
        Ok(Plan {
            topology: Arc::new(topology(config)),
            connections: Arc::new(Limit::new(limits.connections_max)),
            epoch: Instant::now(),
            listeners: listeners.collect(),
            pools: config
                .pools
                .iter()
                .map(planned_pool)
                .collect::<Result<_, _>>()?,
            pipes_max: limits.pipes_per_worker,
            pipe_size: limits.pipe_size,
        })
    }

    pub(crate) fn worker_spec(&self, own: Own) -> WorkerSpec {
        let sockets = own.sockets.into_iter().zip(&self.listeners);
        WorkerSpec {
            index: own.index,
            cpu: Some(own.cpu),
            epoch: self.epoch,
            seed: own.seed,
            listeners: sockets
                .map(|(sockets, listener)| ListenerSpec {
                    sockets,
                    route: listener.first_route,
                    admission: listener.admission.clone(),
                    inspect: listener.inspect.clone(),
                    over: listener.over,
                })
                .collect(),
            routes: self
                .listeners
                .iter()
                .flat_map(|listener| listener.routes.iter().copied())
                .collect(),
            pools: self.pools.iter().map(PlannedPool::spec).collect(),
            blocks: own.blocks,
            topology: Arc::clone(&self.topology),
            connections: Arc::clone(&self.connections),
            pipes_max: self.pipes_max,
            pipe_size: self.pipe_size,
            access: own.access,
            notices: own.notices,
        }
    }
}

impl PlannedPool {
    fn spec(&self) -> PoolSpec {
        let backend = |backend: &PlannedBackend| BackendSpec {
            address: backend.address.clone(),
            params: backend.params,
            limit: backend.limit.clone(),
        };
        PoolSpec {
            algorithm: self.algorithm,
            when_all_down: self.when_all_down,
            table: self.table.clone(),
            when_backend_down: self.when_backend_down,
            outlier: self.outlier,
            slow_start: self.slow_start,
            send_proxy: self.send_proxy,
            backends: self.backends.iter().map(backend).collect(),
        }
    }
}

/// A place in a list of the configuration as workers count them.
pub(crate) fn place(at: usize) -> u16 {
    u16::try_from(at).expect("invariant: a configuration's lists are shorter than 65536")
}

fn topology(config: &Config) -> Topology {
    let listeners = config.listeners.iter();
    let names = |pool: &Pool| PoolNames {
        name: pool.name.clone(),
        backends: pool
            .backends
            .iter()
            .map(|b| b.address.to_string())
            .collect(),
    };
    Topology {
        listeners: listeners
            .clone()
            .map(|l| ListenerNames {
                name: l.name.clone(),
            })
            .collect(),
        routes: listeners
            .enumerate()
            .flat_map(|(listener, it)| {
                let pools = routing::pools(it).into_iter();
                pools.map(move |pool| RouteNames { listener, pool })
            })
            .collect(),
        pools: config.pools.iter().map(names).collect(),
    }
}

fn planned_listener(
    at: u16,
    first_route: u16,
    listener: &Listener,
    config: &Config,
) -> PlannedListener {
    let over = match listener.limits.over {
        Over::Reset => CloseHow::Reset,
        Over::Close => CloseHow::Fin,
    };
    let inspect = routing::inspect(listener, first_route);
    let route = |pool: usize| RouteSpec {
        listener: at,
        pool: place(pool),
        flow: match &inspect {
            Some(_) => flow_params(listener, &config.pools[pool], over)
                .looking_first(listener.timeouts.handshake),
            None => flow_params(listener, &config.pools[pool], over),
        },
    };
    PlannedListener {
        routes: routing::pools(listener).into_iter().map(route).collect(),
        first_route,
        inspect: inspect.map(Arc::new),
        admission: admission(listener),
        over,
    }
}

fn flow_params(listener: &Listener, pool: &Pool, over: CloseHow) -> FlowParams {
    let timeouts = Timeouts {
        connect: Some(pool.connect_timeout),
        first_byte: listener.timeouts.first_byte,
        idle: listener.timeouts.idle,
        half_close: listener.timeouts.half_close,
        lifetime: listener.timeouts.lifetime,
    };
    let attempts = u8::try_from(pool.connect_attempts).unwrap_or(u8::MAX);
    FlowParams::new(&timeouts, listener.relay, attempts, buffer_size(), over)
}

/// What is not configured is not there, and costs nothing.
fn admission(listener: &Listener) -> Admission {
    let Access { allow, deny } = &listener.access;
    let is_restricted = listener.access != Access::default();
    let limits = &listener.limits;
    Admission {
        access: is_restricted.then(|| Arc::new(AccessList::new(allow, deny))),
        connections_per_source: limits
            .connections_per_source
            .map(|most| Arc::new(SourceLimit::new(most))),
        connections: shared_limit(limits.connections.map(u32::from)),
        rate_per_source: limits
            .rate_per_source
            .map(|per_second| Arc::new(SourceRate::new(Rate::new(per_second)))),
        rate: limits
            .rate
            .map(|per_second| Arc::new(SharedRate::new(Rate::new(per_second)))),
    }
}

fn planned_pool(pool: &Pool) -> Result<PlannedPool, StartError> {
    let backends = pool
        .backends
        .iter()
        .map(|backend| planned_backend(pool, backend));
    let backends: Vec<PlannedBackend> = backends.collect::<Result<_, _>>()?;
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
        send_proxy: pool.send_proxy,
        slow_start: pool.slow_start,
        backends,
    })
}

fn planned_backend(pool: &Pool, backend: &Backend) -> Result<PlannedBackend, StartError> {
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
        limit: shared_limit(backend.max_connections),
    })
}

fn shared_limit(most: Option<u32>) -> Option<Arc<Limit>> {
    most.map(|most| Arc::new(Limit::new(most.into())))
}
