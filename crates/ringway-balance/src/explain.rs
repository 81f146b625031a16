//! Why a pick would choose what it chooses, and why not another backend. Not a second choice: the pick is made on a
//! copy of the pool, and what is said of the others is read from where the pick looks.
//!
//! **Invariant:** the pool that is asked is as it was before, and what is chosen here is what its next pick with the
//! same arguments chooses.

use std::cmp::Ordering;

use crate::draw::Draw;
use crate::hash::mix64;
use crate::least_connections::scaled_load;
use crate::params::Algorithm;
use crate::pick::Pick;
use crate::pool::{Backend, BackendIndex, Obstacle, Pool};
use crate::source_hash;
use crate::tier::{Standing, Tier};
use crate::tried::Tried;

/// A pick with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What the next pick answers.
    pub pick: Pick,
    /// Each backend, in the order of the list.
    pub places: Vec<Place>,
    /// With Maglev the entries that were looked at, each with its owner; the last one decided, unless none did.
    pub entries: Vec<(u32, BackendIndex)>,
}

/// What became of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether it was chosen, or why not.
    pub verdict: Verdict,
    /// Its place in the order that decides among those that are asked together, from 1; none where no order does.
    pub rank: Option<u32>,
}

/// Whether a backend was chosen, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was.
    Chosen,
    /// It could have been: the algorithm decided.
    Candidate,
    /// A backup, and another one could be picked.
    Backup,
    /// Its health checks fail.
    Down,
    /// This worker's own connects to it have failed.
    Ejected,
    /// It has reached its limit.
    Full,
    /// Its weight is 0.
    Weightless,
    /// It gets no new connections.
    Drain,
    /// It is taken out.
    Maintenance,
}

impl Pool {
    /// What [`Pool::pick`] would choose for a new connection, and why not the others.
    pub fn explain(
        &self,
        key: u64,
        draw: &Draw,
        mut is_full: impl FnMut(BackendIndex) -> bool,
    ) -> Explained {
        let mut copy = self.clone();
        copy.refresh();
        let before = copy.clone();
        let full: Vec<bool> = copy.indices().map(&mut is_full).collect();
        let is_full = |backend: BackendIndex| full[backend.as_usize()];
        let pick = copy.pick(key, &mut draw.clone(), &Tried::new(), is_full);
        before.reasons(pick, key, is_full)
    }

    fn reasons(&self, pick: Pick, key: u64, is_full: impl Fn(BackendIndex) -> bool) -> Explained {
        let chosen = match pick {
            Pick::Chosen { backend, .. } => Some(backend),
            Pick::None(_) => None,
        };
        let asked = chosen.map(|chosen| self.backends[chosen.as_usize()].standing);
        let verdict = |backend: BackendIndex| {
            let place = &self.backends[backend.as_usize()];
            let obstacle = place.withheld().or(match place.standing {
                Standing::Last | Standing::Out => place.failing(),
                Standing::Spare if asked != Some(Standing::Spare) => place.failing(),
                Standing::Primary | Standing::Backup | Standing::Spare => None,
            });
            match obstacle {
                _ if chosen == Some(backend) => Verdict::Chosen,
                Some(obstacle) => Verdict::from(obstacle),
                None if is_full(backend) => Verdict::Full,
                None if place.standing == Standing::Backup && asked != Some(Standing::Backup) => {
                    Verdict::Backup
                }
                None => Verdict::Candidate,
            }
        };
        let entries = self.entries_to(chosen, key);
        let is_ranked = entries
            .last()
            .is_none_or(|(_, owner)| chosen != Some(*owner));
        let mut places: Vec<Place> = self
            .indices()
            .map(|backend| Place {
                verdict: verdict(backend),
                rank: None,
            })
            .collect();
        if let Some(tier) = self.tier_of(asked).filter(|_| is_ranked) {
            for (rank, backend) in (1..).zip(self.in_rank(tier, key)) {
                places[backend.as_usize()].rank = Some(rank);
            }
        }
        Explained {
            pick,
            places,
            entries,
        }
    }

    fn tier_of(&self, asked: Option<Standing>) -> Option<&Tier> {
        self.tiers
            .in_order()
            .into_iter()
            .find(|tier| Some(tier.standing) == asked)
    }

    /// The entries of the table up to the one that decided.
    fn entries_to(&self, chosen: Option<BackendIndex>, key: u64) -> Vec<(u32, BackendIndex)> {
        let Some(table) = self.table.as_deref() else {
            return Vec::new();
        };
        if self.tiers.primary.members().is_empty() {
            return Vec::new();
        }
        let mut entries = Vec::new();
        for (number, owner) in table.probes(key) {
            entries.push((number, owner));
            if chosen == Some(owner) {
                break;
            }
        }
        entries
    }

    /// The members of a tier as the algorithm prefers them, where it has an order.
    fn in_rank(&self, tier: &Tier, key: u64) -> Vec<BackendIndex> {
        let mut members = tier.members().to_vec();
        let backend = |member: &BackendIndex| &self.backends[member.as_usize()];
        match self.algorithm {
            Algorithm::RoundRobin => {
                let credit = |of: &Backend| of.credit + of.share() as i64;
                members.sort_by_key(|member| std::cmp::Reverse(credit(backend(member))));
            }
            Algorithm::LeastConnections => members.sort_by(|a, b| {
                let (a, b) = (backend(a), backend(b));
                scaled_load(a, b).cmp(&scaled_load(b, a))
            }),
            Algorithm::Random => members.clear(),
            Algorithm::SourceHash | Algorithm::Maglev => {
                let score = |of: &BackendIndex| source_hash::score(backend(of), mix64(key));
                members.sort_by(|a, b| score(a).partial_cmp(&score(b)).unwrap_or(Ordering::Equal));
            }
        }
        members
    }
}

impl From<Obstacle> for Verdict {
    fn from(obstacle: Obstacle) -> Verdict {
        match obstacle {
            Obstacle::Drain => Verdict::Drain,
            Obstacle::Maintenance => Verdict::Maintenance,
            Obstacle::Weightless => Verdict::Weightless,
            Obstacle::Down => Verdict::Down,
            Obstacle::Ejected => Verdict::Ejected,
        }
    }
}
