//! The status as JSON: what `GET /v1/status` and `GET /v1/pools/{pool}` answer.
//!
//! Fields are added, never renamed: scripts read them. Numbers are sums over the workers, read at
//! slightly different moments.

use std::sync::atomic::Ordering;
use std::time::Instant;

use ringway_balance::AdminState;
use ringway_config::{Backend, BackendAddress};
use ringway_metrics::{BackendBlock, Counter, Gauge, ListenerBlock, WorkerBlocks};
use serde::Serialize;

use crate::history::Happening;
use crate::instance::{Instance, Post, View, lock};
use crate::latency::Latency;
use crate::posts::Duty;
use crate::routing;
use crate::traffic::{self, Counts, RouteStatus};

/// The whole instance.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    commit: &'static str,
    pid: u32,
    uptime_seconds: f64,
    draining: bool,
    /// What is left of a drain.
    drain: Option<DrainStatus>,
    /// Why it should get no new traffic.
    unready: Option<&'static str>,
    connections: u64,
    connections_max: u64,
    workers: Vec<WorkerStatus>,
    listeners: Vec<ListenerStatus>,
    pools: Vec<PoolStatus>,
    /// Each pair of a listener and a pool it can send to.
    routes: Vec<RouteStatus>,
    /// What happened to backends, the latest last; bounded.
    history: Vec<Happening>,
    access_log: Option<AccessLogStatus>,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct DrainStatus {
    /// That have not ended yet.
    connections: u64,
    /// Until those that are left are cut.
    remaining_seconds: f64,
}

#[derive(Debug, Serialize)]
struct WorkerStatus {
    index: u16,
    cpu: usize,
    /// serving, or leaving: then it has the connections it had, and ends with the last.
    state: &'static str,
    connections: i64,
    connections_total: u64,
    received_bytes_total: u64,
    pipes_in_use: i64,
    /// CPU time of its thread; none where the kernel does not tell.
    busy_seconds_total: Option<f64>,
    /// Scrapes it did not answer in time.
    scrapes_missed: u64,
}

#[derive(Debug, Serialize)]
struct ListenerStatus {
    name: String,
    /// As bound.
    addresses: Vec<String>,
    /// Of what no route leads elsewhere.
    pool: Option<String>,
    pools: Vec<String>,
    connections: i64,
    connections_total: u64,
    refused_total: u64,
    /// The same by why.
    refused: Counts,
    accept_errors_total: u64,
}

/// One pool.
#[derive(Debug, Serialize)]
pub(crate) struct PoolStatus {
    name: String,
    /// Backends that some worker may choose.
    up: usize,
    /// Connection attempts after the first of a connection.
    retries_total: u64,
    /// Backends chosen although every one was down.
    fail_open_total: u64,
    backends: Vec<BackendStatus>,
}

/// One backend.
#[derive(Debug, Serialize)]
pub(crate) struct BackendStatus {
    address: String,
    weight: u32,
    backup: bool,
    /// up, down or unknown; unknown counts as up.
    state: &'static str,
    /// What the operator wants.
    admin_state: &'static str,
    connections: i64,
    connections_total: u64,
    connect_failures_total: u64,
    /// Workers that serve and leave it out because connects to it have failed.
    ejected_workers: i64,
    /// Workers that let one connection try it.
    half_open_workers: i64,
    ejections_total: u64,
    /// Seconds in this state.
    since_seconds: f64,
    /// Seconds since the last check ended; none without checks.
    last_check_seconds: Option<f64>,
    /// Why the last failed check failed.
    last_failure: Option<&'static str>,
    /// The beginning of the wrong answer it got, in printable ASCII; none for every other reason.
    last_failure_got: Option<String>,
}

#[derive(Debug, Serialize)]
struct AccessLogStatus {
    lines_total: u64,
    /// Lost because writing failed.
    lost_total: u64,
    /// Lost because the log did not keep up.
    dropped_total: u64,
}

impl Instance {
    /// With `latency` if that is to be part of it.
    pub(crate) fn status(&self, latency: Option<Latency>) -> Status {
        let view = self.view();
        Status {
            version: self.version,
            commit: self.commit,
            pid: std::process::id(),
            uptime_seconds: self.epoch.elapsed().as_secs_f64(),
            draining: self.is_draining(),
            drain: self.drained_by.get().map(|until| DrainStatus {
                connections: self.connections.open(),
                remaining_seconds: until
                    .saturating_duration_since(Instant::now())
                    .as_secs_f64(),
            }),
            unready: self.unready_because(),
            connections: self.connections.open(),
            connections_max: self.connections.most(),
            workers: view
                .running()
                .map(|post| worker_status(post, view.own(post)))
                .collect(),
            listeners: (0..view.config.listeners.len())
                .map(|at| view.listener_status(at))
                .collect(),
            pools: (0..view.config.pools.len())
                .map(|at| self.pool_status(&view, at))
                .collect(),
            routes: view.routes(),
            history: self.history.last(),
            access_log: self.access_log_status(&view),
            latency,
        }
    }

    /// The pool of that name.
    pub(crate) fn pool_status_of(&self, name: &str) -> Option<PoolStatus> {
        let view = self.view();
        let at = view
            .config
            .pools
            .iter()
            .position(|pool| pool.name == name)?;
        Some(self.pool_status(&view, at))
    }

    /// The backend of that pool that has this address, in whatever way that is written.
    pub(crate) fn backend_status_of(&self, pool: &str, address: &str) -> Option<BackendStatus> {
        let address: BackendAddress = address.parse().ok()?;
        let view = self.view();
        let pool = view.config.pools.iter().position(|p| p.name == pool)?;
        let mut backends = view.config.pools[pool].backends.iter();
        let own = backends.position(|backend| backend.address == address)?;
        let backend = &view.config.pools[pool].backends[own];
        let place = view.layout().backend_at[pool][own];
        let pool = view.layout().pool_at[pool];
        Some(self.backend_status(&view, backend, (pool.into(), place.into())))
    }

    fn pool_status(&self, view: &View, at: usize) -> PoolStatus {
        let pool = &view.config.pools[at];
        let pool_place = usize::from(view.layout().pool_at[at]);
        let places = pool.backends.iter().zip(&view.layout().backend_at[at]);
        let backends: Vec<BackendStatus> = places
            .map(|(backend, at)| self.backend_status(view, backend, (pool_place, usize::from(*at))))
            .collect();
        PoolStatus {
            name: pool.name.clone(),
            up: backends
                .iter()
                .filter(|backend| backend.state != "down")
                .filter(|backend| backend.admin_state == AdminState::Active.as_label())
                .filter(|backend| backend.ejected_workers < view.serving().count() as i64)
                .count(),
            retries_total: view.sum(|blocks| blocks.pools[pool_place].retries.value()),
            fail_open_total: view.sum(|blocks| blocks.pools[pool_place].fail_open.value()),
            backends,
        }
    }

    fn backend_status(
        &self,
        view: &View,
        backend: &Backend,
        (pool, at): (usize, usize),
    ) -> BackendStatus {
        let standing = self.board.standing(pool, at);
        let now = self.epoch.elapsed();
        let ago = |moment| now.saturating_sub(moment).as_secs_f64();
        let sum =
            |count: fn(&BackendBlock) -> u64| view.sum(|blocks| count(&blocks.backends[pool][at]));
        let of_serving = |gauge: fn(&BackendBlock) -> &Gauge| -> i64 {
            let own = view.serving().map(|post| view.own(post));
            own.map(|own| gauge(&own.backends[pool][at]).value()).sum()
        };
        BackendStatus {
            address: backend.address.to_string(),
            weight: backend.weight,
            backup: backend.backup,
            state: standing.health.as_label(),
            admin_state: backend.state.as_label(),
            connections: view.gauge(|blocks| &blocks.backends[pool][at].connections),
            connections_total: sum(|block| block.connections_total.value()),
            connect_failures_total: sum(|block| total(block.connect_failures.cells())),
            ejected_workers: of_serving(|block| &block.ejected),
            half_open_workers: of_serving(|block| &block.half_open),
            ejections_total: sum(|block| block.ejections.value()),
            since_seconds: ago(standing.since),
            last_check_seconds: standing.checked_at.map(ago),
            last_failure: standing.last_failure.map(|failure| failure.as_label()),
            last_failure_got: standing
                .last_failure
                .and_then(|failure| failure.got().map(ToString::to_string)),
        }
    }

    fn access_log_status(&self, view: &View) -> Option<AccessLogStatus> {
        let state = lock(&self.access_log).clone()?;
        Some(AccessLogStatus {
            lines_total: state.lines.load(Ordering::Relaxed),
            lost_total: state.lost.load(Ordering::Relaxed),
            dropped_total: view.sum(|blocks| blocks.worker.access_log_dropped.value()),
        })
    }
}

impl View {
    fn listener_status(&self, at: usize) -> ListenerStatus {
        let listener = &self.config.listeners[at];
        let place = usize::from(self.layout().listener_at[at]);
        let pool_name = |pool: usize| self.config.pools[pool].name.clone();
        let sum =
            |count: fn(&ListenerBlock) -> u64| self.sum(|blocks| count(&blocks.listeners[place]));
        ListenerStatus {
            name: listener.name.clone(),
            addresses: self.addresses[at].clone(),
            pool: listener.pool.map(pool_name),
            pools: routing::pools(listener)
                .into_iter()
                .map(pool_name)
                .collect(),
            connections: self.gauge(|blocks| &blocks.listeners[place].connections),
            connections_total: sum(|block| block.connections_total.value()),
            refused_total: sum(|block| total(block.refused.cells())),
            refused: traffic::refused(self.blocks.iter().map(|own| &*own.listeners[place])),
            accept_errors_total: sum(|block| total(block.accept_errors.cells())),
        }
    }

    fn routes(&self) -> Vec<RouteStatus> {
        let routes = self.topology().routes();
        let status = |(at, names): (usize, [&str; 2])| {
            RouteStatus::new(names, self.blocks.iter().map(move |own| &*own.routes[at]))
        };
        routes.map(status).collect()
    }

    fn sum(&self, count: impl Fn(&WorkerBlocks) -> u64) -> u64 {
        self.blocks.iter().map(count).sum()
    }

    fn gauge<'a>(&'a self, gauge: impl Fn(&'a WorkerBlocks) -> &'a Gauge) -> i64 {
        self.blocks.iter().map(|blocks| gauge(blocks).value()).sum()
    }
}

fn worker_status(post: &Post, own: &WorkerBlocks) -> WorkerStatus {
    let worker = &post.worker;
    WorkerStatus {
        index: worker.index,
        cpu: post.cpu,
        state: match post.duty {
            Duty::Serves => "serving",
            Duty::Leaves => "leaving",
        },
        connections: worker.block.connections.value(),
        connections_total: own
            .listeners
            .iter()
            .map(|listener| listener.connections_total.value())
            .sum(),
        received_bytes_total: traffic::received_bytes(own),
        busy_seconds_total: worker.busy_nanos().map(|nanos| nanos as f64 / 1e9),
        pipes_in_use: worker.block.pipes.in_use.value(),
        scrapes_missed: worker.scrapes_missed.load(Ordering::Relaxed),
    }
}

fn total(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::value).sum()
}
