//! The names that label what is counted.
//!
//! A topology is made from one configuration and shared by everything made for it: the blocks of
//! all workers, their histograms and the scrape have one entry per entry here, at the same index.
//! It holds names only; it decides nothing.
//!
//! **Invariant:** names are unique within their list, and every index of a route is valid.

/// The listeners, routes, pools and backends of one configuration, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The listeners, in the order of their indices.
    pub listeners: Vec<ListenerNames>,
    /// Every pair of a listener and a pool it can send to.
    pub routes: Vec<RouteNames>,
    /// The pools, in the order of their indices.
    pub pools: Vec<PoolNames>,
}

/// One listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerNames {
    /// The label `listener`: the key in the configuration.
    pub name: String,
}

/// One pair of a listener and a pool it can send to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteNames {
    /// Index into [`Topology::listeners`].
    pub listener: usize,
    /// Index into [`Topology::pools`].
    pub pool: usize,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolNames {
    /// The label `pool`: the key in the configuration.
    pub name: String,
    /// The label `backend` of each backend: its address as configured.
    pub backends: Vec<String>,
}

impl Topology {
    /// The labels `listener` and `pool` of a route of this topology.
    pub fn route_names(&self, route: RouteNames) -> [&str; 2] {
        [
            &self.listeners[route.listener].name,
            &self.pools[route.pool].name,
        ]
    }

    /// Each backend: its place (index of the pool, index within the pool) and its labels `pool` and
    /// `backend`.
    pub fn backends(&self) -> impl Iterator<Item = ((usize, usize), [&str; 2])> {
        self.pools.iter().enumerate().flat_map(|(p, pool)| {
            let named = pool.backends.iter().enumerate();
            named.map(move |(b, backend)| ((p, b), [pool.name.as_str(), backend.as_str()]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_named_by_its_listener_and_its_pool() {
        let topology = Topology {
            listeners: ["a", "b"]
                .map(|name| ListenerNames { name: name.into() })
                .into(),
            routes: vec![RouteNames {
                listener: 1,
                pool: 0,
            }],
            pools: vec![PoolNames {
                name: "web".into(),
                backends: vec![],
            }],
        };
        assert_eq!(topology.route_names(topology.routes[0]), ["b", "web"]);
    }

    #[test]
    fn backends_are_listed_with_their_place() {
        let pool = |name: &str, backends: &[&str]| PoolNames {
            name: name.into(),
            backends: backends.iter().map(|b| b.to_string()).collect(),
        };
        let topology = Topology {
            pools: vec![pool("a", &["x", "y"]), pool("b", &[]), pool("c", &["x"])],
            ..Topology::default()
        };
        let expected = [
            ((0, 0), ["a", "x"]),
            ((0, 1), ["a", "y"]),
            ((2, 0), ["c", "x"]),
        ];
        assert_eq!(topology.backends().collect::<Vec<_>>(), expected);
    }
}
