//! Listeners and their routes, planned: who is let in, and what their connections have in common.
//!
//! Invariant: what a changed configuration leaves alone is the same in memory, so that counts and
//! buckets go on.

use std::sync::Arc;

use ringway_admission::{AccessList, Rate};
use ringway_config::{Access, Config, Listener, Over, Pool};
use ringway_flow::{CloseHow, FlowParams, RelayMode, Timeouts};
use ringway_worker::{
    Admission, Inspect, RouteSpec, SharedRate, SourceLimit, SourceRate, buffer_size,
};

use super::{Previous, shared_limit};
use crate::layout::Layout;
use crate::routing;

#[derive(Clone, Debug)]
pub(super) struct PlannedListener {
    pub(super) route: u16,
    pub(super) admission: Admission,
    pub(super) inspect: Option<Arc<Inspect>>,
    pub(super) over: CloseHow,
}

pub(super) fn planned_listeners(
    config: &Config,
    layout: &Layout,
    previous: Option<Previous<'_>>,
) -> Vec<PlannedListener> {
    let leaving = |at| {
        let before = previous.and_then(|previous| previous.plan.listeners.get(at));
        before.cloned().unwrap_or(PlannedListener {
            route: 0,
            admission: Admission::default(),
            inspect: None,
            over: CloseHow::Reset,
        })
    };
    let mut planned: Vec<_> = (0..layout.listeners.len()).map(leaving).collect();
    let places = layout.listener_at.iter().zip(&layout.route_at);
    for (listener, (at, routes)) in config.listeners.iter().zip(places) {
        let at = usize::from(*at);
        let before = previous.and_then(|previous| previous.listener(layout, at));
        planned[at] = PlannedListener {
            route: routes[0],
            admission: admission(listener, before),
            inspect: routing::inspect(listener, routes).map(Arc::new),
            over: over(listener),
        };
    }
    planned
}

fn over(listener: &Listener) -> CloseHow {
    match listener.limits.over {
        Over::Reset => CloseHow::Reset,
        Over::Close => CloseHow::Fin,
    }
}

pub(super) fn planned_routes(
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
    for (listener, (at, routes)) in config.listeners.iter().zip(places) {
        for (pool, route) in routing::pools(listener).into_iter().zip(routes) {
            planned[usize::from(*route)] = RouteSpec {
                listener: *at,
                pool: layout.pool_at[pool],
                flow: flow_params(listener, &config.pools[pool]),
            };
        }
    }
    planned
}

fn flow_params(listener: &Listener, pool: &Pool) -> FlowParams {
    let timeouts = Timeouts {
        connect: Some(pool.connect_timeout),
        first_byte: listener.timeouts.first_byte,
        idle: listener.timeouts.idle,
        half_close: listener.timeouts.half_close,
        lifetime: listener.timeouts.lifetime,
    };
    let attempts = u8::try_from(pool.connect_attempts).unwrap_or(u8::MAX);
    let (chunk, over) = (buffer_size(), over(listener));
    let params = FlowParams::new(&timeouts, listener.relay, attempts, chunk, over);
    if routing::looks_first(listener) {
        params.looking_first(listener.timeouts.handshake)
    } else {
        params
    }
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
