//! Pools and their backends, planned.
//!
//! Invariant: a pool that a changed configuration leaves alone is the same in memory, and workers keep
//! theirs; a backend that has left its pool has weight 0 and is otherwise what it was, as long as the
//! place is its own.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ringway_balance::{AdminState, Algorithm, BackendParams, MaglevTable, stable_hash};
use ringway_config::{Backend, BackendAddress, Config, ConnectSource, Pool};
use ringway_health::OutlierParams;
use ringway_uring::{ConnectAddress, outgoing_ports, try_foreign, try_local};
use ringway_wire::ProxyVersion;
use ringway_worker::{BackendSpec, Limit, OriginSpec, PoolSpec, WhenBackendDown};

use super::{Previous, shared_limit};
use crate::error::StartError;
use crate::layout::Layout;

#[derive(Clone, Debug)]
pub(super) struct PlannedPool {
    pub(super) algorithm: Algorithm,
    pub(super) when_all_down: ringway_balance::WhenAllDown,
    pub(super) when_backend_down: WhenBackendDown,
    pub(super) table: Option<Arc<MaglevTable>>,
    pub(super) outlier: Option<OutlierParams>,
    pub(super) slow_start: Option<Duration>,
    pub(super) send_proxy: Option<ProxyVersion>,
    pub(super) origin: OriginSpec,
    pub(super) is_checked: bool,
    pub(super) backends: Vec<PlannedBackend>,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedBackend {
    pub(super) address: ConnectAddress,
    pub(super) params: BackendParams,
    pub(super) state: AdminState,
    pub(super) limit: Option<Arc<Limit>>,
    pub(super) is_offered: bool,
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
            send_proxy: None,
            origin: OriginSpec::Any,
            is_checked: false,
            backends: Vec::new(),
        }
    }

    pub(super) fn spec(&self) -> PoolSpec {
        let backend = |backend: &PlannedBackend| BackendSpec {
            address: backend.address.clone(),
            params: backend.params,
            state: backend.state,
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
            send_proxy: self.send_proxy,
            origin: self.origin.clone(),
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
            state: AdminState::Active,
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

pub(super) fn planned_pools(
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
    let outgoing = outgoing_ports();
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
                &outgoing,
                &planned_before(previous, layout, at),
                before.map(|(old, _)| &old.connect_source),
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
    outgoing: &RangeInclusive<u16>,
    before: &[Option<&PlannedBackend>],
    source_before: Option<&ConnectSource>,
) -> Result<PlannedPool, StartError> {
    let leaving = |before: &Option<&PlannedBackend>| match before {
        Some(before) => before.leaving(),
        None => PlannedBackend::vacant(),
    };
    let mut backends: Vec<PlannedBackend> = before.iter().map(leaving).collect();
    for (backend, at) in pool.backends.iter().zip(own) {
        let limit = backends[usize::from(*at)].limit.take();
        backends[usize::from(*at)] = planned_backend(pool, backend, outgoing, limit)?;
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
        send_proxy: pool.send_proxy,
        origin: origin(pool, source_before)?,
        is_checked: pool.health.is_some(),
        backends,
    })
}

/// Where its connections come from. What it has not had before is tried here and now; what it had may be away for
/// a while, and is no reason to refuse a change of something else.
fn origin(pool: &Pool, before: Option<&ConnectSource>) -> Result<OriginSpec, StartError> {
    let refused = |address: Option<IpAddr>| {
        let pool = pool.name.clone();
        move |source| StartError::Source {
            pool,
            address,
            source,
        }
    };
    match &pool.connect_source {
        ConnectSource::Any => Ok(OriginSpec::Any),
        ConnectSource::Addresses(addresses) => {
            let had = match before {
                Some(ConnectSource::Addresses(had)) => had.as_slice(),
                Some(ConnectSource::Any | ConnectSource::Client) | None => &[],
            };
            for address in addresses.iter().filter(|address| !had.contains(address)) {
                try_local(*address).map_err(refused(Some(*address)))?;
            }
            Ok(OriginSpec::Addresses(addresses.clone()))
        }
        ConnectSource::Client => {
            if before != Some(&ConnectSource::Client) {
                try_foreign().map_err(refused(None))?;
            }
            Ok(OriginSpec::Client)
        }
    }
}

fn planned_backend(
    pool: &Pool,
    backend: &Backend,
    outgoing: &RangeInclusive<u16>,
    limit: Option<Arc<Limit>>,
) -> Result<PlannedBackend, StartError> {
    let name = backend.address.to_string();
    let params = BackendParams {
        weight: backend.weight,
        backup: backend.backup,
        identity: stable_hash(name.as_bytes()),
    };
    let address = match &backend.address {
        BackendAddress::Tcp(address) => ConnectAddress::tcp(*address, outgoing),
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
        state: backend.state,
        limit: shared_limit(backend.max_connections, limit),
        is_offered: true,
    })
}
