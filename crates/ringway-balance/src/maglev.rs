//! Maglev hashing: a table that maps a key to a backend in one step, whatever the number of backends.
//!
//! After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4,
//! with weights. The table is a function of identities and weights alone: health and drain do not change it, they
//! only make a pick look elsewhere, so the keys of a backend come back with it. Backups are not in the table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::mix64;
use crate::pool::{BACKENDS_MAX, Backend, BackendIndex, BackendParams};
use crate::source_hash;
use crate::tier::{Standing, Tier};

/// Entries of a table: prime, as the permutations need it, and large enough for shares exact to about 1 % with
/// some 600 backends.
const ENTRIES: u64 = 65_537;

/// Marks an entry that is not filled yet. No backend has this index: a pool has at most 65,535.
const VACANT: u16 = u16::MAX;
const _: () = assert!(BACKENDS_MAX <= VACANT as usize);

/// Entries that are looked at before a pick falls back to rendezvous hashing over the pickable backends.
const PROBES_MAX: u64 = 8;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which backend each hash value belongs to. 128 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaglevTable {
    /// Empty when no backend has a weight, otherwise full.
    entries: Box<[u16]>,
    backend_count: usize,
}

impl MaglevTable {
    /// Builds the table for a list of (identity, weight); the index of a backend is its place in the list.
    ///
    /// Takes milliseconds and allocates: do it where no connection waits. The order of the list does not matter,
    /// other than for the indices; a backend of weight 0 gets no entry.
    ///
    /// # Panics
    /// When the list is longer than [`BACKENDS_MAX`].
    pub fn build(backends: &[(u64, u32)]) -> Self {
        assert!(
            backends.len() <= BACKENDS_MAX,
            "invariant: a pool has at most 65535 backends"
        );
        let mut claimants: Vec<Claimant> = backends
            .iter()
            .zip(0..)
            .filter(|((_, weight), _)| *weight > 0)
            .map(|(&(identity, weight), place)| Claimant::new(place, identity, weight))
            .collect();
        claimants.sort_by_key(|claimant| (claimant.identity, claimant.weight));
        Self {
            entries: fill(&mut claimants),
            backend_count: backends.len(),
        }
    }

    /// The table a pool of these backends uses: backups are left out.
    pub fn for_backends(backends: &[BackendParams]) -> Self {
        let weight = |backend: &BackendParams| if backend.backup { 0 } else { backend.weight };
        let list: Vec<_> = backends.iter().map(|b| (b.identity, weight(b))).collect();
        Self::build(&list)
    }

    /// The backend that owns this key, or none when no backend has a weight.
    pub fn owner(&self, key: u64) -> Option<BackendIndex> {
        self.probe(key, 0).map(|(_, owner)| owner)
    }

    /// How many backends the table was built for, those without entries included.
    pub fn backend_count(&self) -> usize {
        self.backend_count
    }

    /// The entries of the key, in the order in which they are looked at: each one's number and owner.
    pub(crate) fn probes(&self, key: u64) -> impl Iterator<Item = (u32, BackendIndex)> + '_ {
        (0..PROBES_MAX).map_while(move |attempt| self.probe(key, attempt))
    }

    /// The entry of the key at the given attempt; attempts are independent of each other.
    fn probe(&self, key: u64, attempt: u64) -> Option<(u32, BackendIndex)> {
        let hash = mix64(mix64(key).wrapping_add(attempt.wrapping_mul(GOLDEN)));
        let number = (hash % ENTRIES) as u32;
        let owner = self.entries.get(number as usize)?;
        Some((number, BackendIndex::new(*owner)))
    }
}

/// The member that owns the key; where it cannot be picked, the key's next owners, and at last the best by
/// rendezvous hashing. Keys whose owner can be picked never move.
pub(crate) fn pick(
    table: &MaglevTable,
    tier: &Tier,
    backends: &[Backend],
    key: u64,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    if tier.standing == Standing::Primary && !tier.members().is_empty() {
        for attempt in 0..PROBES_MAX {
            let (_, owner) = table.probe(key, attempt)?;
            if backends[owner.as_usize()].standing == Standing::Primary && pickable(owner) {
                return Some(owner);
            }
        }
    }
    source_hash::pick(tier, backends, key, pickable)
}

/// A backend that takes entries: its turn comes, and it takes the next vacant entry of its own permutation.
struct Claimant {
    place: u16,
    identity: u64,
    weight: u32,
    /// Where in its permutation it stands, and by how much it moves on.
    position: u64,
    skip: u64,
    claimed: u64,
}

impl Claimant {
    fn new(place: u16, identity: u64, weight: u32) -> Self {
        let position = mix64(identity) % ENTRIES;
        let skip = mix64(identity ^ GOLDEN) % (ENTRIES - 1) + 1;
        Self {
            place,
            identity,
            weight,
            position,
            skip,
            claimed: 0,
        }
    }

    /// Takes the next vacant entry; there must be one.
    fn claim(&mut self, entries: &mut [u16]) {
        while entries[self.position as usize] != VACANT {
            self.position = (self.position + self.skip) % ENTRIES;
        }
        entries[self.position as usize] = self.place;
        self.claimed += 1;
    }

    /// The round in which its next turn comes: each round for the heaviest, less often for the others.
    fn next_round(&self, weight_max: u32) -> u64 {
        self.claimed * u64::from(weight_max) / u64::from(self.weight)
    }
}

/// Lets claimants, sorted by identity, take turns in proportion to their weights until nothing is vacant.
fn fill(claimants: &mut [Claimant]) -> Box<[u16]> {
    let Some(weight_max) = claimants.iter().map(|claimant| claimant.weight).max() else {
        return Box::default();
    };
    let mut entries = vec![VACANT; ENTRIES as usize].into_boxed_slice();
    // The next turn is the least (round, rank). A queue rather than a loop over rounds: with one heavy backend
    // among a thousand light ones nearly all turns of such a loop would be idle.
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..claimants.len())
        .map(|rank| Reverse((0, rank)))
        .collect();
    for _ in 0..ENTRIES {
        let mut turn = turns.peek_mut().expect("invariant: there is a claimant");
        let Reverse((_, rank)) = *turn;
        claimants[rank].claim(&mut entries);
        *turn = Reverse((claimants[rank].next_round(weight_max), rank));
    }
    entries
}
