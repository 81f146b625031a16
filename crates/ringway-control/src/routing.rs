//! From a listener's keys to its routes, and to what its workers read before they choose one.
//!
//! Invariant: a listener has a route for each of its [`pools`], in their order; where nothing is read,
//! there is one.

use ringway_admission::AccessList;
use ringway_config::{Listener, ProxyProtocolMode, Route};
use ringway_worker::{Inspect, NameRule, NameTable};

/// The pools of a listener, the one that needs no name first.
pub(crate) fn pools(listener: &Listener) -> Vec<usize> {
    let routed = listener.routes.iter().map(|route| route.pool);
    let mut pools = Vec::new();
    for pool in listener.pool.into_iter().chain(routed) {
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    }
    pools
}

/// Whether anything is read of its connections.
pub(crate) fn looks_first(listener: &Listener) -> bool {
    listener.proxy_protocol.mode == ProxyProtocolMode::Required || !listener.routes.is_empty()
}

/// What is read of its connections, if anything; it has these routes.
pub(crate) fn inspect(listener: &Listener, routes: &[u16]) -> Option<Inspect> {
    if !looks_first(listener) {
        return None;
    }
    let trusted = match listener.proxy_protocol.mode {
        ProxyProtocolMode::Off => None,
        ProxyProtocolMode::Required => Some(AccessList::new(&listener.proxy_protocol.trusted, &[])),
    };
    let names = (!listener.routes.is_empty()).then(|| names(listener, routes));
    Some(Inspect {
        trusted,
        names,
        default: listener.pool.map(|_| routes[0]),
    })
}

fn names(listener: &Listener, routes: &[u16]) -> NameTable {
    let pools = pools(listener);
    let rules = |route: &Route| {
        let at = pools.iter().position(|pool| *pool == route.pool);
        let at = at.expect("invariant: the pool of a route is one of the listener's");
        let to = routes[at];
        let protocols: Vec<Vec<u8>> = route.protocols.iter().cloned().map(Vec::from).collect();
        let rule = |name: &ringway_config::NamePattern| NameRule {
            name: name.name.clone(),
            is_wildcard: name.is_wildcard,
            protocols: protocols.clone(),
            route: to,
        };
        route.names.iter().map(rule).collect::<Vec<_>>()
    };
    NameTable::new(listener.routes.iter().flat_map(rules))
}
