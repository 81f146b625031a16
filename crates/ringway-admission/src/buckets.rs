//! A token bucket for each source, in a table that never grows.
//!
//! A bucket that is full says nothing, so a source needs a place only from its connection until its bucket is full
//! again, a second at most. The table is a number of sets of [`WAYS`] places each; the hash of a source chooses its
//! set, and a set without room gives up the bucket that is nearest to full. **Invariant:** while no more than
//! [`WAYS`] sources of a set have buckets that are not full, each source gets exactly its rate; beyond that the
//! source that is given up gets back at most what it had used, and never less than its rate. Those who use much
//! are given up last, so one that hammers stays limited among a million that knock once.

use std::num::NonZeroU64;
use std::ops::Range;

use crate::rate::{Rate, Tick};
use crate::source::SourceKey;

/// Places in a set: 256 bytes, read in one sweep.
const WAYS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// `None`: never used.
    source: Option<NonZeroU64>,
    full_at: Tick,
}

/// The buckets of one table; whoever shares it locks it.
#[derive(Debug)]
pub struct SourceBuckets {
    places: Box<[Place]>,
}

impl SourceBuckets {
    /// A table for `sources` at a time, rounded up to whole sets.
    pub fn new(sources: usize) -> SourceBuckets {
        let sets = sources.div_ceil(WAYS).max(1);
        SourceBuckets {
            places: vec![Place::default(); sets * WAYS].into(),
        }
    }

    /// How many sources have a place at most.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// When the bucket of `source` is full again; a moment long past where it has no place.
    pub fn full_at(&self, source: SourceKey, hash: u64) -> Tick {
        let set = &self.places[self.set_of(hash)];
        let own = Some(source.get());
        let place = set.iter().find(|place| place.source == own);
        place.map_or(Tick::default(), |place| place.full_at)
    }

    /// Gives `source` a bucket that is full then, as another table has it.
    pub fn put(&mut self, source: SourceKey, hash: u64, full_at: Tick) {
        self.place(source, hash).full_at = full_at;
    }

    /// Takes a token from the bucket of `source`; `false` if it is empty. `hash` must always be the same for a
    /// source and nothing that its owner can choose.
    pub fn take(&mut self, source: SourceKey, hash: u64, rate: Rate, now: Tick) -> bool {
        let place = self.place(source, hash);
        let after = rate.take(place.full_at, now);
        place.full_at = after.unwrap_or(place.full_at);
        after.is_some()
    }

    /// The place of `source`, a new one with a full bucket where it has none.
    fn place(&mut self, source: SourceKey, hash: u64) -> &mut Place {
        let set = self.set_of(hash);
        let set = &mut self.places[set];
        let own = Some(source.get());
        match set.iter().position(|place| place.source == own) {
            Some(known) => &mut set[known],
            None => {
                // Of the buckets that are full now any would do; the first to be full is one of them.
                let given_up = set
                    .iter_mut()
                    .min_by_key(|place| (place.source.is_some(), place.full_at))
                    .expect("invariant: a set has places");
                *given_up = Place {
                    source: own,
                    full_at: Tick::default(),
                };
                given_up
            }
        }
    }

    fn set_of(&self, hash: u64) -> Range<usize> {
        let sets = self.places.len() / WAYS;
        let first = hash as usize % sets * WAYS;
        first..first + WAYS
    }
}
