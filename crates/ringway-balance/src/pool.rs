//! A pool as one worker sees it: its backends, their weights, states and this worker's own load on each.
//!
//! It records; the choice is made in `pick.rs`. **Invariant:** the tiers are what the states say, whenever a pick
//! looks at them: every change marks them stale, and the next pick sorts the backends anew, without allocating.

use std::sync::Arc;
use std::time::Duration;

use crate::maglev::MaglevTable;
use crate::params::{Algorithm, WhenAllDown};
use crate::ramp::Ramp;
use crate::round_robin;
use crate::tier::{Standing, Tiers};

/// The most backends a pool may have: an index is 16 bits wide and one value stays free.
pub const BACKENDS_MAX: usize = u16::MAX as usize;

/// The place of a backend in its pool's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendIndex(u16);

impl BackendIndex {
    /// The backend at this place, counted from 0.
    pub const fn new(place: u16) -> Self {
        Self(place)
    }

    /// The place as an index into a slice.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// The place.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What the owner of a pool says about one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendParams {
    /// Its share relative to the others; 0 means no new connections.
    pub weight: u32,
    /// Used only while no other backend can be picked.
    pub backup: bool,
    /// A stable hash of its address; see [`crate::stable_hash`].
    pub identity: u64,
}

/// The verdict of the health checks, as far as a pick cares. Unknown counts as [`Eligibility::Up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Eligibility {
    /// May be picked.
    Up,
    /// May be picked only when all are down and the pool fails open.
    Down,
}

/// What this worker's own failed connects say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ejection {
    /// Nothing.
    None,
    /// It is left out while another can be picked. Where the pool fails open it is the last resort.
    Out,
    /// One connection may try it.
    Trial,
}

/// What an operator has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdminState {
    /// Takes new connections.
    #[default]
    Active,
    /// No new connections; those that are open stay.
    Drain,
    /// No new connections, and its health does not matter.
    Maintenance,
}

impl AdminState {
    /// Every one.
    pub const ALL: [AdminState; 3] = [
        AdminState::Active,
        AdminState::Drain,
        AdminState::Maintenance,
    ];

    /// The word for it in requests, answers and metrics.
    pub fn as_label(self) -> &'static str {
        match self {
            AdminState::Active => "active",
            AdminState::Drain => "drain",
            AdminState::Maintenance => "maintenance",
        }
    }
}

/// Why a backend is no candidate, whatever the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    Drain,
    Maintenance,
    Weightless,
    Down,
    Ejected,
}

/// The backends of one pool and what one worker knows about them.
///
/// Methods that take a [`BackendIndex`] panic when it lies outside the pool.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) algorithm: Algorithm,
    when_all_down: WhenAllDown,
    pub(crate) backends: Vec<Backend>,
    pub(crate) tiers: Tiers,
    /// Present when the algorithm is Maglev. Read only, so workers may share one.
    pub(crate) table: Option<Arc<MaglevTable>>,
    /// Whether a change since the last pick has made the tiers outdated.
    stale: bool,
    ramp: Ramp,
}

#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) identity: u64,
    /// Round robin's memory: how much service this backend is owed, in units of weight.
    pub(crate) credit: i64,
    pub(crate) weight: u32,
    /// Connections of this worker that are open now.
    pub(crate) load: u32,
    pub(crate) backup: bool,
    pub(crate) eligibility: Eligibility,
    pub(crate) ejection: Ejection,
    pub(crate) admin_state: AdminState,
    /// Since when it is back, while it gets less than its share.
    pub(crate) back_since: Option<Duration>,
    /// How many parts of its share it gets; see [`Ramp`].
    pub(crate) parts: u32,
    /// Where the last sorting put it.
    pub(crate) standing: Standing,
}

impl Pool {
    /// A pool whose backends are all up and active.
    ///
    /// `start` is the number of picks that round robin skips at the beginning. Give each worker its own (its number
    /// is enough), or all of them send their first connection to the same backend.
    ///
    /// With [`Algorithm::Maglev`] this builds a table, which takes milliseconds; to build it once and elsewhere,
    /// see [`Pool::with_table`].
    ///
    /// # Panics
    /// When there are more than [`BACKENDS_MAX`] backends.
    pub fn new(
        algorithm: Algorithm,
        when_all_down: WhenAllDown,
        backends: &[BackendParams],
        start: u32,
    ) -> Self {
        let mut pool = Self::without_table(algorithm, when_all_down, backends);
        pool.rebuild_table();
        if algorithm == Algorithm::RoundRobin {
            round_robin::skip(&pool.tiers, &mut pool.backends, start);
        }
        pool
    }

    /// A Maglev pool around a table that was built elsewhere, and may be shared between workers.
    ///
    /// # Panics
    /// When `table` is not [`MaglevTable::for_backends`] of these backends, as far as their number tells.
    pub fn with_table(
        when_all_down: WhenAllDown,
        backends: &[BackendParams],
        table: Arc<MaglevTable>,
    ) -> Self {
        assert_eq!(
            table.backend_count(),
            backends.len(),
            "invariant: a table of these backends"
        );
        let mut pool = Self::without_table(Algorithm::Maglev, when_all_down, backends);
        pool.table = Some(table);
        pool
    }

    fn without_table(
        algorithm: Algorithm,
        when_all_down: WhenAllDown,
        backends: &[BackendParams],
    ) -> Self {
        assert!(
            backends.len() <= BACKENDS_MAX,
            "invariant: a pool has at most 65535 backends"
        );
        let backends: Vec<Backend> = backends.iter().map(Backend::new).collect();
        let tiers = Tiers::with_capacity(backends.len());
        let mut pool = Self {
            algorithm,
            when_all_down,
            backends,
            tiers,
            table: None,
            stale: true,
            ramp: Ramp::default(),
        };
        pool.refresh();
        pool
    }

    /// Notes that this worker has opened a connection to the backend, or begun to.
    pub fn opened(&mut self, backend: BackendIndex) {
        self.backends[backend.as_usize()].load += 1;
    }

    /// Notes that a connection counted by [`Pool::opened`] has ended.
    ///
    /// # Panics
    /// When none is open: opening and closing no longer balance.
    pub fn closed(&mut self, backend: BackendIndex) {
        let load = &mut self.backends[backend.as_usize()].load;
        assert!(
            *load > 0,
            "invariant: each closed connection was opened once"
        );
        *load -= 1;
    }

    /// Sets the health verdict.
    pub fn set_eligibility(&mut self, backend: BackendIndex, eligibility: Eligibility) {
        self.change(backend, |backend| backend.eligibility = eligibility);
    }

    /// Sets what the operator has asked for.
    pub fn set_admin_state(&mut self, backend: BackendIndex, admin_state: AdminState) {
        self.change(backend, |backend| backend.admin_state = admin_state);
    }

    /// Sets what this worker's own connects say.
    pub fn set_ejection(&mut self, backend: BackendIndex, ejection: Ejection) {
        self.change(backend, |backend| backend.ejection = ejection);
    }

    /// Over how long a backend that comes back grows to its share; off at creation. The hashing algorithms know
    /// no such thing: it would move the keys of their clients to and fro.
    pub fn set_slow_start(&mut self, slow_start: Option<Duration>) {
        self.ramp.over = slow_start;
    }

    /// Tells the time, by any clock that does not run backwards: before a pick, and before a change that may
    /// bring a backend back. It costs a comparison while nobody grows.
    pub fn advance(&mut self, now: Duration) {
        if self.ramp.advance(now) {
            self.ramp.grow(&mut self.backends);
            self.stale = true;
        }
    }

    fn change(&mut self, backend: BackendIndex, change: impl FnOnce(&mut Backend)) {
        let backend = &mut self.backends[backend.as_usize()];
        let before = backend.states();
        let was_serving = backend.is_serving();
        change(backend);
        self.stale |= backend.states() != before;
        match (was_serving, backend.is_serving()) {
            (false, true) => self.ramp.begin(backend),
            (true, false) => self.ramp.end(backend),
            (false, false) | (true, true) => {}
        }
    }

    /// Sets the weight. With Maglev a change rebuilds the table, which takes milliseconds and allocates.
    pub fn set_weight(&mut self, backend: BackendIndex, weight: u32) {
        let current = &mut self.backends[backend.as_usize()].weight;
        if *current == weight {
            return;
        }
        *current = weight;
        self.stale = true;
        self.rebuild_table();
    }

    /// Takes over, from the pool this one replaces, the health verdict, the ejection, the operator's state, how far
    /// it has grown, its turn and the load of each backend that both have (the same identity). Weights are this
    /// pool's own. A backend that is new grows as one that is back.
    pub fn inherit(&mut self, previous: &Self) {
        let mut known: Vec<&Backend> = previous.backends.iter().collect();
        known.sort_by_key(|backend| backend.identity);
        self.ramp.inherit(&previous.ramp);
        for backend in &mut self.backends {
            if let Ok(at) = known.binary_search_by_key(&backend.identity, |old| old.identity) {
                backend.eligibility = known[at].eligibility;
                backend.ejection = known[at].ejection;
                backend.back_since = known[at].back_since;
                backend.parts = known[at].parts;
                backend.admin_state = known[at].admin_state;
                backend.load = known[at].load;
                backend.credit = known[at].credit;
            } else {
                self.ramp.begin(backend);
            }
        }
        self.stale = true;
    }

    /// How many backends there are, in whatever state.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there is no backend at all.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The indices of all backends, in the order of the list.
    pub fn indices(&self) -> impl ExactSizeIterator<Item = BackendIndex> + use<> {
        (0..self.backends.len() as u16).map(BackendIndex::new)
    }

    /// The first backend with this identity.
    pub fn find(&self, identity: u64) -> Option<BackendIndex> {
        self.indices()
            .find(|&backend| self.identity(backend) == identity)
    }

    /// The algorithm chosen at creation.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What happens while all are down.
    pub fn when_all_down(&self) -> WhenAllDown {
        self.when_all_down
    }

    /// Connections of this worker that are open to the backend.
    pub fn load(&self, backend: BackendIndex) -> u32 {
        self.backends[backend.as_usize()].load
    }

    /// The health verdict.
    pub fn eligibility(&self, backend: BackendIndex) -> Eligibility {
        self.backends[backend.as_usize()].eligibility
    }

    /// What this worker's own connects say.
    pub fn ejection(&self, backend: BackendIndex) -> Ejection {
        self.backends[backend.as_usize()].ejection
    }

    /// What the operator has asked for.
    pub fn admin_state(&self, backend: BackendIndex) -> AdminState {
        self.backends[backend.as_usize()].admin_state
    }

    /// The weight as it is now.
    pub fn weight(&self, backend: BackendIndex) -> u32 {
        self.backends[backend.as_usize()].weight
    }

    /// The stable hash of its address.
    pub fn identity(&self, backend: BackendIndex) -> u64 {
        self.backends[backend.as_usize()].identity
    }

    /// Whether it is used only while no other can be picked.
    pub fn is_backup(&self, backend: BackendIndex) -> bool {
        self.backends[backend.as_usize()].backup
    }

    /// Sorts the backends into tiers again if something has changed.
    pub(crate) fn refresh(&mut self) {
        if self.stale {
            self.tiers.sort(&mut self.backends, self.when_all_down);
            self.stale = false;
        }
    }

    fn rebuild_table(&mut self) {
        if self.algorithm == Algorithm::Maglev {
            let params: Vec<BackendParams> = self.backends.iter().map(Backend::params).collect();
            self.table = Some(Arc::new(MaglevTable::for_backends(&params)));
        }
    }
}

impl Backend {
    fn new(params: &BackendParams) -> Self {
        Self {
            identity: params.identity,
            credit: 0,
            weight: params.weight,
            load: 0,
            backup: params.backup,
            eligibility: Eligibility::Up,
            ejection: Ejection::None,
            admin_state: AdminState::Active,
            back_since: None,
            parts: Ramp::PARTS,
            standing: Standing::Out,
        }
    }

    fn params(&self) -> BackendParams {
        BackendParams {
            weight: self.weight,
            backup: self.backup,
            identity: self.identity,
        }
    }

    /// The weight by which it is chosen now, in parts.
    pub(crate) fn share(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.parts)
    }

    /// Whether it may be picked while any such backend is there.
    pub(crate) fn is_up(&self) -> bool {
        self.failing().is_none()
    }

    /// Why it may not be picked while another is up, if so.
    pub(crate) fn failing(&self) -> Option<Obstacle> {
        match (self.eligibility, self.ejection) {
            (Eligibility::Down, _) => Some(Obstacle::Down),
            (Eligibility::Up, Ejection::Out) => Some(Obstacle::Ejected),
            (Eligibility::Up, Ejection::None | Ejection::Trial) => None,
        }
    }

    /// Why its owner lets it have no new connections, if so.
    pub(crate) fn withheld(&self) -> Option<Obstacle> {
        match (self.admin_state, self.weight) {
            (AdminState::Drain, _) => Some(Obstacle::Drain),
            (AdminState::Maintenance, _) => Some(Obstacle::Maintenance),
            (AdminState::Active, 0) => Some(Obstacle::Weightless),
            (AdminState::Active, _) => None,
        }
    }

    /// Whether nothing speaks against it: from here on it grows.
    fn is_serving(&self) -> bool {
        self.eligibility == Eligibility::Up
            && self.ejection == Ejection::None
            && self.admin_state == AdminState::Active
    }

    fn states(&self) -> (Eligibility, Ejection, AdminState) {
        (self.eligibility, self.ejection, self.admin_state)
    }

    /// Whether its owner lets it have new connections, whatever its health.
    pub(crate) fn is_offered(&self) -> bool {
        self.withheld().is_none()
    }
}
