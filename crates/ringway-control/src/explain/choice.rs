//! The choice of a backend in words. The choice itself, and what stands against each other backend, come from a
//! copy of a worker's pool.

use std::net::SocketAddr;

use ringway_balance::{Algorithm, BackendIndex, NoBackend, Pick, PickMode, Place, Verdict};
use ringway_health::BreakerState;
use ringway_worker::PoolCopy;

use super::answer::{Backend, Entry, Told};
use crate::instance::{Instance, View};

impl Instance {
    /// What a worker with this copy of a pool would choose for a client, and why.
    pub(super) fn told(
        &self,
        view: &View,
        pool: usize,
        copy: &PoolCopy,
        client: Option<SocketAddr>,
    ) -> Told {
        let explained = copy.explain(client);
        let config = &view.config.pools[pool];
        let places = &view.layout().backend_at[pool];
        let name_of = |index: BackendIndex| {
            let at = places.iter().position(|place| *place == index.get())?;
            Some(config.backends[at].address.to_string())
        };
        let algorithm = copy.state.algorithm();
        let backends = config.backends.iter().zip(places).map(|(backend, at)| {
            let index = BackendIndex::new(*at);
            let place = explained.places[index.as_usize()];
            let pool_place = usize::from(view.layout().pool_at[pool]);
            let standing = self.board.standing(pool_place, index.as_usize());
            let failure = standing.last_failure.map(|failure| failure.as_label());
            Backend {
                address: backend.address.to_string(),
                verdict: label(place.verdict),
                why: why(place, algorithm, copy.occupancy(index), failure),
                rank: place.rank,
                weight: copy.state.weight(index),
                connections: counts_connections(algorithm).then(|| copy.state.load(index)),
                circuit: copy
                    .breakers
                    .as_ref()
                    .map(|all| circuit(all[index.as_usize()])),
            }
        });
        let backends = backends.collect();
        let entries = explained.entries.iter().map(|(entry, owner)| Entry {
            entry: *entry,
            backend: name_of(*owner),
        });
        let entries = entries.collect();
        let (backend, fail_open, why) = match explained.pick {
            Pick::Chosen { backend, mode } => {
                let place = explained.places[backend.as_usize()];
                let fail_open = mode == PickMode::FailOpen;
                (
                    name_of(backend),
                    fail_open,
                    chosen_because(algorithm, place, fail_open),
                )
            }
            Pick::None(reason) => (None, false, none_because(reason).to_owned()),
        };
        Told {
            backend,
            why,
            fail_open,
            backends,
            entries,
        }
    }
}

/// As the configuration writes it.
pub(super) fn balance(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "round_robin",
        Algorithm::LeastConnections => "least_connections",
        Algorithm::Random => "random",
        Algorithm::SourceHash => "source_hash",
        Algorithm::Maglev => "maglev",
    }
}

/// Whether the address alone decides.
pub(super) fn is_stable(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::SourceHash | Algorithm::Maglev => true,
        Algorithm::RoundRobin | Algorithm::LeastConnections | Algorithm::Random => false,
    }
}

pub(super) fn decides(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "the turn of each worker, by weight; told is its next one",
        Algorithm::LeastConnections => {
            "of two backends that a worker draws by weight, the one with fewer of its connections per weight; \
             told is its next draw"
        }
        Algorithm::Random => "a draw by weight of each worker; told is its next one",
        Algorithm::SourceHash => "a hash of the source address with each backend, by weight",
        Algorithm::Maglev => "the entry of a table that a hash of the source address points to",
    }
}

fn counts_connections(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::LeastConnections => true,
        Algorithm::RoundRobin | Algorithm::Random | Algorithm::SourceHash | Algorithm::Maglev => {
            false
        }
    }
}

fn chosen_because(algorithm: Algorithm, place: Place, fail_open: bool) -> String {
    let by = match (algorithm, place.rank) {
        (Algorithm::RoundRobin, _) => "its turn",
        (Algorithm::LeastConnections, _) => "the less loaded of those drawn",
        (Algorithm::Random, _) => "drawn",
        (Algorithm::SourceHash, _) => "the best rank that can be picked",
        (Algorithm::Maglev, None) => "it owns the entry",
        (Algorithm::Maglev, Some(_)) => {
            "no owner of the source's entries can be picked: the best rank among the others"
        }
    };
    match fail_open {
        true => format!("{by}; none is up, and the pool tries all the same (when_all_down)"),
        false => by.to_owned(),
    }
}

fn none_because(reason: NoBackend) -> &'static str {
    match reason {
        NoBackend::Empty => "the pool has no backend",
        NoBackend::AllWeightless => "every backend has weight 0",
        NoBackend::AllWithdrawn => "every backend is in drain or maintenance",
        NoBackend::AllDown => "every backend is down, and the pool refuses then (when_all_down)",
        NoBackend::AllTried | NoBackend::AllFull => "every backend has its max_connections",
    }
}

fn label(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Chosen => "chosen",
        Verdict::Candidate => "candidate",
        Verdict::Backup => "backup",
        Verdict::Down => "down",
        Verdict::Ejected => "ejected",
        Verdict::Full => "full",
        Verdict::Weightless => "weightless",
        Verdict::Drain => "drain",
        Verdict::Maintenance => "maintenance",
    }
}

fn circuit(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Ejected => "ejected",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Trying => "trying",
    }
}

fn why(
    place: Place,
    algorithm: Algorithm,
    occupancy: Option<(u64, u64)>,
    failure: Option<&'static str>,
) -> String {
    match place.verdict {
        Verdict::Chosen => chosen_because(algorithm, place, false),
        Verdict::Candidate => match (algorithm, place.rank) {
            (Algorithm::RoundRobin, Some(rank)) => format!("its turn comes {rank} of those now"),
            (Algorithm::SourceHash | Algorithm::Maglev, Some(rank)) => {
                format!("rank {rank} for this source")
            }
            (Algorithm::Maglev, None) => "it does not own the entry".to_owned(),
            (Algorithm::LeastConnections, _) => "not drawn, or not the less loaded".to_owned(),
            (Algorithm::RoundRobin | Algorithm::Random | Algorithm::SourceHash, _) => {
                "not drawn".to_owned()
            }
        },
        Verdict::Backup => "a backup, and others can be picked".to_owned(),
        Verdict::Down => match failure {
            Some(failure) => format!("its health checks fail: {failure}"),
            None => "its health checks fail".to_owned(),
        },
        Verdict::Ejected => "connects of this worker to it have failed".to_owned(),
        Verdict::Full => match occupancy {
            Some((open, most)) => {
                format!("{open} of its {most} connections are open (max_connections)")
            }
            None => "it has its max_connections".to_owned(),
        },
        Verdict::Weightless => "its weight is 0".to_owned(),
        Verdict::Drain => "it is in drain: no new connections".to_owned(),
        Verdict::Maintenance => "it is in maintenance".to_owned(),
    }
}
