//! The choice of a backend for a new connection: which tier, then which member, by one match.
//!
//! **Invariant:** what is chosen is offered by its owner, not tried before and not full; it is up, or the pool
//! fails open because every such backend is down or ejected, or has failed this very connection. If such a backend
//! exists, one is chosen. Nothing allocates.

use crate::draw::Draw;
use crate::params::Algorithm;
use crate::pool::{BackendIndex, Pool};
use crate::tier::Standing;
use crate::tried::Tried;
use crate::{least_connections, maglev, random, round_robin, source_hash};

/// The answer of [`Pool::pick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Connect to this backend.
    Chosen {
        /// Which one.
        backend: BackendIndex,
        /// In which sense it was eligible.
        mode: PickMode,
    },
    /// There is none, and why.
    None(NoBackend),
}

/// In which sense a chosen backend was eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PickMode {
    /// It is up.
    Normal,
    /// It is down or ejected, and so is every other that has not failed this connection: the pool fails open.
    FailOpen,
}

/// Why no backend could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoBackend {
    /// The pool has no backends.
    Empty,
    /// Every active backend has weight 0.
    AllWeightless,
    /// Every backend is in drain or maintenance.
    AllWithdrawn,
    /// Every backend that is offered is down, and the pool refuses then.
    AllDown,
    /// This connection has tried every backend it could have.
    AllTried,
    /// Every backend that this connection has not tried yet has reached its limit.
    AllFull,
}

impl Pool {
    /// Chooses a backend for a new connection.
    ///
    /// * `key`: hash of the client's address; only source hash and Maglev look at it.
    /// * `draw`: randomness; only least connections and random use it.
    /// * `tried`: backends that this connection has tried already.
    /// * `is_full`: whether a backend has reached the limit that all workers share. It is asked as late as possible,
    ///   perhaps about backends that are not chosen then and perhaps twice about one: it must not reserve anything.
    ///
    /// A pick does not count as a connection; call [`Pool::opened`] when it becomes one.
    pub fn pick(
        &mut self,
        key: u64,
        draw: &mut Draw,
        tried: &Tried,
        mut is_full: impl FnMut(BackendIndex) -> bool,
    ) -> Pick {
        self.refresh();
        let mode = match self.tiers.serving {
            Ok(mode) => mode,
            Err(reason) => return Pick::None(reason),
        };
        let backends = &mut self.backends;
        let mut pickable = |backend| !tried.contains(backend) && !is_full(backend);
        for tier in self.tiers.in_order() {
            if tier.standing == Standing::Last && !self.tiers.all_before_last_are_in(tried) {
                break;
            }
            let chosen = match self.algorithm {
                Algorithm::RoundRobin => round_robin::pick(tier, backends, &mut pickable),
                Algorithm::LeastConnections => {
                    least_connections::pick(tier, backends, draw, &mut pickable)
                }
                Algorithm::Random => random::pick(tier, backends, draw, &mut pickable),
                Algorithm::SourceHash => source_hash::pick(tier, backends, key, &mut pickable),
                Algorithm::Maglev => {
                    let table = self.table.as_deref();
                    let table = table.expect("invariant: a Maglev pool has its table");
                    maglev::pick(table, tier, backends, key, &mut pickable)
                }
            };
            if let Some(backend) = chosen {
                let mode = match tier.standing {
                    Standing::Spare | Standing::Last => PickMode::FailOpen,
                    Standing::Primary | Standing::Backup | Standing::Out => mode,
                };
                return Pick::Chosen { backend, mode };
            }
        }
        Pick::None(self.why_none_is_left(tried))
    }

    fn why_none_is_left(&self, tried: &Tried) -> NoBackend {
        let mut tiers = self.tiers.in_order().into_iter();
        if tiers.all(|tier| tier.is_within(tried)) {
            NoBackend::AllTried
        } else {
            NoBackend::AllFull
        }
    }
}
