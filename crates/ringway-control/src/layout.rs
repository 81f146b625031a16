//! Which place everything of the configuration has in the lists that workers, counters and names
//! share. Pure: configurations and what is in use go in, places come out.
//!
//! What stays keeps its place, whatever its place in the file. What is removed leaves: it keeps its
//! place until a later reload finds that nothing refers to it, and then the place is vacant. What
//! comes back meanwhile has its old place again. Invariant: a place never changes hands in the reload
//! that removes its holder, so that whoever still spoke of it by number has been told of the removal
//! long before.

use std::collections::HashMap;
use std::hash::Hash;

use ringway_config::{BindAddress, Config, Listener};
use ringway_metrics::{BackendNames, ListenerNames, PoolNames, RouteNames, Seat, Topology};

use crate::plan::place;
use crate::routing;

/// Places of one list at most: what a number of 16 bits counts, and one value free.
const PLACES_MAX: usize = u16::MAX as usize;

/// One list of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places<N> {
    entries: Vec<Entry<N>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry<N> {
    /// It is in the configuration.
    Offered(N, u64),
    /// It is not any more, and something may refer to it.
    Leaving(N, u64),
    Vacant,
}

impl<N> Default for Places<N> {
    fn default() -> Self {
        Places {
            entries: Vec::new(),
        }
    }
}

impl<N: Clone + Eq + Hash> Places<N> {
    /// The list after a reload, and the place of each of `wanted`, which names nothing twice; none where
    /// places do not suffice.
    fn next(
        &self,
        wanted: &[N],
        serial: &mut u64,
        is_in_use: impl Fn(usize) -> bool,
    ) -> Option<(Places<N>, Vec<u16>)> {
        let mut entries = self.entries.clone();
        for (at, entry) in entries.iter_mut().enumerate() {
            *entry = match std::mem::replace(entry, Entry::Vacant) {
                Entry::Offered(name, serial) => Entry::Leaving(name, serial),
                Entry::Leaving(name, serial) if is_in_use(at) => Entry::Leaving(name, serial),
                Entry::Leaving(..) | Entry::Vacant => Entry::Vacant,
            };
        }
        let known: HashMap<N, usize> = entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| Some((entry.name()?.clone(), at)))
            .collect();
        let vacant = |entry: &Entry<N>| matches!(entry, Entry::Vacant);
        let mut free: Vec<usize> = (0..entries.len())
            .filter(|at| vacant(&entries[*at]))
            .collect();
        free.reverse();
        let mut places = Vec::with_capacity(wanted.len());
        for name in wanted {
            let at = match known.get(name) {
                Some(at) => *at,
                None => free.pop().unwrap_or(entries.len()),
            };
            if at >= PLACES_MAX {
                return None;
            }
            if at == entries.len() {
                entries.push(Entry::Vacant);
            }
            let serial = match &entries[at] {
                Entry::Offered(_, serial) | Entry::Leaving(_, serial) => *serial,
                Entry::Vacant => {
                    *serial += 1;
                    *serial
                }
            };
            entries[at] = Entry::Offered(name.clone(), serial);
            places.push(place(at));
        }
        while entries.last().is_some_and(vacant) {
            entries.pop();
        }
        Some((Places { entries }, places))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Who has the place, whether offered or leaving.
    pub(crate) fn name(&self, at: usize) -> Option<&N> {
        self.entries.get(at)?.name()
    }

    pub(crate) fn is_offered(&self, at: usize) -> bool {
        matches!(self.entries.get(at), Some(Entry::Offered(..)))
    }

    pub(crate) fn seat(&self, at: usize) -> Seat {
        match self.entries.get(at) {
            Some(Entry::Offered(_, serial) | Entry::Leaving(_, serial)) => Seat::Taken(*serial),
            Some(Entry::Vacant) | None => Seat::Vacant,
        }
    }
}

impl<N> Entry<N> {
    fn name(&self) -> Option<&N> {
        match self {
            Entry::Offered(name, _) | Entry::Leaving(name, _) => Some(name),
            Entry::Vacant => None,
        }
    }
}

/// The backends of each place of a pool, and where those of each pool of the file are.
type BackendPlaces = (Vec<Places<String>>, Vec<Vec<u16>>);

/// What flows hold on to.
pub(crate) trait Usage {
    /// Whether a listener has connections.
    fn listener(&self, at: usize) -> bool;
    /// Whether a route has flows.
    fn route(&self, at: usize) -> bool;
    /// Whether a backend has connections.
    fn backend(&self, pool: usize, at: usize) -> bool;
}

/// Nothing is held on to.
pub(crate) struct Unused;

impl Usage for Unused {
    fn listener(&self, _: usize) -> bool {
        false
    }
    fn route(&self, _: usize) -> bool {
        false
    }
    fn backend(&self, _: usize, _: usize) -> bool {
        false
    }
}

/// The places of one configuration and of what is leaving, and where each entry of the configuration
/// has its own, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) listeners: Places<String>,
    /// By listener and pool.
    pub(crate) routes: Places<(u16, u16)>,
    pub(crate) pools: Places<String>,
    /// By pool.
    pub(crate) backends: Vec<Places<String>>,
    pub(crate) sockets: Places<String>,
    pub(crate) listener_at: Vec<u16>,
    /// The routes of each listener, in the order of [`routing::pools`].
    pub(crate) route_at: Vec<Vec<u16>>,
    pub(crate) pool_at: Vec<u16>,
    pub(crate) backend_at: Vec<Vec<u16>>,
    /// The socket of each address of each listener.
    pub(crate) socket_at: Vec<Vec<u16>>,
    serial: u64,
}

/// Places as they were asked for: so many for each.
fn grouped(flat: Vec<u16>, lens: impl Iterator<Item = usize>) -> Vec<Vec<u16>> {
    let mut flat = flat.into_iter();
    lens.map(|len| flat.by_ref().take(len).collect()).collect()
}

impl Layout {
    /// The first one.
    pub(crate) fn of(config: &Config) -> Option<Layout> {
        Layout::default().next(config, &Unused)
    }

    /// None where too much of what has left is still in use.
    pub(crate) fn next(&self, config: &Config, usage: &impl Usage) -> Option<Layout> {
        let mut serial = self.serial;
        let names = |config: &Config| -> Vec<String> {
            config.listeners.iter().map(|l| l.name.clone()).collect()
        };
        let (listeners, listener_at) = self.listeners.next(&names(config), &mut serial, |at| {
            self.uses_listener(at, usage)
        })?;
        let names: Vec<String> = config.pools.iter().map(|p| p.name.clone()).collect();
        // Flows of a listener that leaves may be led to any of its routes yet.
        let uses_route = |at: usize| {
            let listener = self
                .routes
                .name(at)
                .map(|(listener, _)| usize::from(*listener));
            let leads = |at| !listeners.is_offered(at) && usage.listener(at);
            usage.route(at) || listener.is_some_and(leads)
        };
        let uses_pool = |at| self.uses_pool(at, usage, uses_route);
        let (pools, pool_at) = self.pools.next(&names, &mut serial, uses_pool)?;
        let own_routes = |(listener, at): (&Listener, &u16)| -> Vec<(u16, u16)> {
            let pools = routing::pools(listener).into_iter();
            pools.map(|pool| (*at, pool_at[pool])).collect()
        };
        let wanted = config.listeners.iter().zip(&listener_at).map(own_routes);
        let wanted: Vec<Vec<(u16, u16)>> = wanted.collect();
        let (routes, flat) = self
            .routes
            .next(&wanted.concat(), &mut serial, uses_route)?;
        let route_at = grouped(flat, wanted.iter().map(Vec::len));
        let (backends, backend_at) =
            self.next_backends(config, &pools, &pool_at, &mut serial, usage)?;
        let keys: Vec<Vec<String>> = config.listeners.iter().map(socket_keys).collect();
        let (sockets, flat) = self.sockets.next(&keys.concat(), &mut serial, |_| false)?;
        Some(Layout {
            listeners,
            routes,
            pools,
            backends,
            sockets,
            listener_at,
            route_at,
            pool_at,
            backend_at,
            socket_at: grouped(flat, keys.iter().map(Vec::len)),
            serial,
        })
    }

    fn uses_listener(&self, at: usize, usage: &impl Usage) -> bool {
        let mut routes = self.taken_routes();
        usage.listener(at)
            || routes
                .any(|(route, (listener, _))| usize::from(listener) == at && usage.route(route))
    }

    fn uses_pool(&self, at: usize, usage: &impl Usage, uses_route: impl Fn(usize) -> bool) -> bool {
        let backends = self.backends.get(at).map_or(0, Places::len);
        let mut routes = self.taken_routes();
        (0..backends).any(|backend| usage.backend(at, backend))
            || routes.any(|(route, (_, pool))| usize::from(pool) == at && uses_route(route))
    }

    fn taken_routes(&self) -> impl Iterator<Item = (usize, (u16, u16))> {
        let routes = 0..self.routes.len();
        routes.filter_map(|at| Some((at, *self.routes.name(at)?)))
    }

    fn next_backends(
        &self,
        config: &Config,
        pools: &Places<String>,
        pool_at: &[u16],
        serial: &mut u64,
        usage: &impl Usage,
    ) -> Option<BackendPlaces> {
        let none = Places::default();
        let before = |at: usize| {
            let is_same = self.pools.seat(at) == pools.seat(at);
            self.backends.get(at).filter(|_| is_same).unwrap_or(&none)
        };
        // A pool that leaves keeps its backends as they are: flows of it may try another one yet.
        let mut backends: Vec<Places<String>> = (0..pools.len())
            .map(|at| match pools.seat(at) {
                Seat::Taken(_) => before(at).clone(),
                Seat::Vacant => Places::default(),
            })
            .collect();
        let mut backend_at = Vec::with_capacity(config.pools.len());
        for (pool, at) in config.pools.iter().zip(pool_at) {
            let at = usize::from(*at);
            let wanted: Vec<String> = pool
                .backends
                .iter()
                .map(|b| b.address.to_string())
                .collect();
            let in_use = |backend| usage.backend(at, backend);
            let (places, own) = before(at).next(&wanted, serial, in_use)?;
            backends[at] = places;
            backend_at.push(own);
        }
        Some((backends, backend_at))
    }

    /// The names at their places.
    pub(crate) fn topology(&self) -> Topology {
        let text = |name: Option<&String>| name.cloned().unwrap_or_default();
        let backends = |places: &Places<String>| {
            let names = (0..places.len()).map(|at| BackendNames {
                address: text(places.name(at)),
                seat: places.seat(at),
            });
            names.collect()
        };
        Topology {
            listeners: (0..self.listeners.len())
                .map(|at| ListenerNames {
                    name: text(self.listeners.name(at)),
                    seat: self.listeners.seat(at),
                })
                .collect(),
            routes: (0..self.routes.len())
                .map(|at| {
                    let (listener, pool) = self.routes.name(at).copied().unwrap_or_default();
                    RouteNames {
                        listener: listener.into(),
                        pool: pool.into(),
                        seat: self.routes.seat(at),
                    }
                })
                .collect(),
            pools: (0..self.pools.len())
                .map(|at| PoolNames {
                    name: text(self.pools.name(at)),
                    backends: backends(&self.backends[at]),
                    seat: self.pools.seat(at),
                })
                .collect(),
        }
    }
}

/// What tells the sockets of one listener from all others. An address moves with its socket from one
/// listener to another; a port that the kernel chooses belongs to the listener that asked.
fn socket_keys(listener: &Listener) -> Vec<String> {
    let keys = listener
        .binds
        .iter()
        .enumerate()
        .map(|(at, bind)| match bind {
            BindAddress::Tcp(address) if address.port() == 0 => {
                format!("{}#{at}#{bind}", listener.name)
            }
            BindAddress::Tcp(_) | BindAddress::Unix(_) => bind.to_string(),
        });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is listed is in use.
    #[derive(Default)]
    struct Used {
        routes: Vec<usize>,
        backends: Vec<(usize, usize)>,
    }

    impl Usage for Used {
        fn listener(&self, _: usize) -> bool {
            false
        }
        fn route(&self, at: usize) -> bool {
            self.routes.contains(&at)
        }
        fn backend(&self, pool: usize, at: usize) -> bool {
            self.backends.contains(&(pool, at))
        }
    }

    /// One listener `l` on a port of the kernel's choice, and one pool.
    fn config(pool: &str, backends: &[&str]) -> Config {
        let list: Vec<String> = backends
            .iter()
            .map(|b| format!("{{address: \"{b}\"}}"))
            .collect();
        let text = format!(
            "listeners: {{l: {{bind: \"127.0.0.1:0\", pool: {pool}}}}}\npools: {{{pool}: {{backends: [{}]}}}}",
            list.join(", ")
        );
        ringway_config::parse("t", &text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const A: &str = "10.0.0.1:1";
    const B: &str = "10.0.0.2:1";
    const C: &str = "10.0.0.3:1";

    #[test]
    fn what_stays_keeps_its_place_and_what_comes_back_has_it_again() {
        let first = Layout::of(&config("p", &[A, B])).unwrap();
        let second = first.next(&config("p", &[C, B]), &Used::default()).unwrap();
        assert_eq!(second.backend_at, [[2, 1]]);
        assert!(!second.backends[0].is_offered(0));
        let third = second
            .next(
                &config("p", &[B, A]),
                &Used {
                    backends: vec![(0, 0)],
                    ..Used::default()
                },
            )
            .unwrap();
        assert_eq!(third.backend_at, [[1, 0]]);
        assert_eq!(third.backends[0].seat(0), first.backends[0].seat(0));
        assert_eq!(third.sockets.seat(0), first.sockets.seat(0));
    }

    #[test]
    fn a_place_is_given_away_when_nothing_refers_to_it_and_not_in_the_reload_that_frees_it() {
        let mut layout = Layout::of(&config("p", &[A])).unwrap();
        let used = Used {
            backends: vec![(0, 0)],
            ..Used::default()
        };
        layout = layout.next(&config("p", &[B]), &used).unwrap();
        assert_eq!(layout.backend_at, [[1]]);
        layout = layout.next(&config("p", &[B, C]), &used).unwrap();
        assert_eq!(layout.backend_at, [[1, 2]]);
        let seat = layout.backends[0].seat(0);
        layout = layout
            .next(&config("p", &[B, "10.0.0.4:1"]), &Used::default())
            .unwrap();
        assert_eq!(layout.backend_at, [[1, 0]]);
        assert_ne!(layout.backends[0].seat(0), seat);
    }

    #[test]
    fn many_reloads_take_no_more_places_than_two() {
        let mut layout = Layout::of(&config("p0", &[A])).unwrap();
        for n in 1..100 {
            let backend = format!("10.0.0.1:{n}");
            let pool = format!("p{n}");
            layout = layout
                .next(&config(&pool, &[&backend]), &Used::default())
                .unwrap();
            let lens = [
                layout.pools.len(),
                layout.routes.len(),
                layout.backends.len(),
            ];
            assert!(lens.iter().all(|len| *len <= 3), "{lens:?}");
        }
        layout = layout.next(&config("p", &[A]), &Used::default()).unwrap();
        layout = layout.next(&config("p", &[A]), &Used::default()).unwrap();
        layout = layout.next(&config("p", &[A]), &Used::default()).unwrap();
        let taken = layout.topology().backends().count();
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_pool_stays_while_a_flow_could_still_use_it() {
        let layout = Layout::of(&config("p", &[A, B])).unwrap();
        let used = Used {
            routes: vec![0],
            ..Used::default()
        };
        let layout = layout.next(&config("q", &[C]), &used).unwrap();
        let layout = layout.next(&config("q", &[C]), &used).unwrap();
        assert_eq!(layout.pools.name(0), Some(&"p".to_owned()));
        assert_eq!(layout.topology().backends().count(), 3);
        let layout = layout.next(&config("q", &[C]), &Used::default()).unwrap();
        assert_eq!(layout.topology().backends().count(), 1);
    }
}
