//! The names that label what is counted.
//!
//! The blocks of all workers, their histograms and the scrape have one entry per entry here, at the
//! same index. A changed configuration makes another topology in which whatever stays keeps its
//! index; one that nothing refers to any more is vacant until something new takes it. It holds names
//! only; it decides nothing.
//!
//! **Invariant:** the names of entries that are not vacant are unique within their list, and every
//! index of a route that is not vacant is valid.

/// Who has a place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// An entry with this serial number: two topologies mean the same entry where it is the same.
    Taken(u64),
    /// Nobody.
    Vacant,
}

impl Default for Seat {
    fn default() -> Self {
        Self::Taken(0)
    }
}

impl Seat {
    /// Whether there is an entry.
    pub const fn is_taken(self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::Vacant => false,
        }
    }
}

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
    /// Whose place this is.
    pub seat: Seat,
}

/// One pair of a listener and a pool it can send to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteNames {
    /// Index into [`Topology::listeners`].
    pub listener: usize,
    /// Index into [`Topology::pools`].
    pub pool: usize,
    /// Whose place this is.
    pub seat: Seat,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolNames {
    /// The label `pool`: the key in the configuration.
    pub name: String,
    /// Its backends, in the order of their indices.
    pub backends: Vec<BackendNames>,
    /// Whose place this is.
    pub seat: Seat,
}

/// One backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendNames {
    /// The label `backend`: its address as configured.
    pub address: String,
    /// Whose place this is.
    pub seat: Seat,
}

impl From<&str> for BackendNames {
    fn from(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            seat: Seat::default(),
        }
    }
}

impl Topology {
    /// The labels `listener` and `pool` of a route of this topology.
    pub fn route_names(&self, route: RouteNames) -> [&str; 2] {
        [
            &self.listeners[route.listener].name,
            &self.pools[route.pool].name,
        ]
    }

    /// Each listener that there is: its index and its label.
    pub fn listeners(&self) -> impl Iterator<Item = (usize, &str)> {
        let listeners = self.listeners.iter().enumerate();
        let taken = listeners.filter(|(_, listener)| listener.seat.is_taken());
        taken.map(|(at, listener)| (at, listener.name.as_str()))
    }

    /// Each route that there is: its index and its labels.
    pub fn routes(&self) -> impl Iterator<Item = (usize, [&str; 2])> {
        let routes = self.routes.iter().enumerate();
        let taken = routes.filter(|(_, route)| route.seat.is_taken());
        taken.map(|(at, route)| (at, self.route_names(*route)))
    }

    /// Each pool that there is: its index and its label.
    pub fn pools(&self) -> impl Iterator<Item = (usize, &str)> {
        let pools = self.pools.iter().enumerate();
        let taken = pools.filter(|(_, pool)| pool.seat.is_taken());
        taken.map(|(at, pool)| (at, pool.name.as_str()))
    }

    /// Each backend that there is: its place (index of the pool, index within the pool) and its labels `pool` and
    /// `backend`.
    pub fn backends(&self) -> impl Iterator<Item = ((usize, usize), [&str; 2])> {
        self.pools().flat_map(|(p, name)| {
            let backends = self.pools[p].backends.iter().enumerate();
            let taken = backends.filter(|(_, backend)| backend.seat.is_taken());
            taken.map(move |(b, backend)| ((p, b), [name, backend.address.as_str()]))
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
                .map(|name| ListenerNames {
                    name: name.into(),
                    ..ListenerNames::default()
                })
                .into(),
            routes: vec![RouteNames {
                listener: 1,
                ..RouteNames::default()
            }],
            pools: vec![PoolNames {
                name: "web".into(),
                ..PoolNames::default()
            }],
        };
        assert_eq!(topology.route_names(topology.routes[0]), ["b", "web"]);
    }

    #[test]
    fn backends_are_listed_with_their_place() {
        let pool = |name: &str, backends: &[&str]| PoolNames {
            name: name.into(),
            backends: backends.iter().map(|b| BackendNames::from(*b)).collect(),
            ..PoolNames::default()
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

    #[test]
    fn vacant_places_are_not_listed() {
        let vacant = BackendNames {
            seat: Seat::Vacant,
            ..BackendNames::from("gone")
        };
        let topology = Topology {
            listeners: vec![
                ListenerNames {
                    seat: Seat::Vacant,
                    ..ListenerNames::default()
                },
                ListenerNames::default(),
            ],
            routes: vec![
                RouteNames {
                    seat: Seat::Vacant,
                    ..RouteNames::default()
                };
                2
            ],
            pools: vec![
                PoolNames {
                    name: "gone".into(),
                    backends: vec!["x".into()],
                    seat: Seat::Vacant,
                },
                PoolNames {
                    name: "here".into(),
                    backends: vec![vacant, "y".into()],
                    ..PoolNames::default()
                },
            ],
        };
        assert_eq!(topology.listeners().collect::<Vec<_>>(), [(1, "")]);
        assert_eq!(topology.routes().count(), 0);
        assert_eq!(topology.pools().collect::<Vec<_>>(), [(1, "here")]);
        let backends = topology.backends().collect::<Vec<_>>();
        assert_eq!(backends, [((1, 1), ["here", "y"])]);
    }
}
