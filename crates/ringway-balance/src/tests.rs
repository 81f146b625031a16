//! Tests of the pool as a whole, by subject; this file holds what they share.

mod explain;
mod hashing;
mod properties;
mod recovery;
mod round_robin;
mod shares;
mod tiers;

use crate::{
    Algorithm, BackendIndex, BackendParams, Draw, NoBackend, Pick, PickMode, Pool, Tried,
    WhenAllDown, stable_hash,
};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::Random,
    Algorithm::SourceHash,
    Algorithm::Maglev,
];

/// Primaries with these weights; the identity is that of an address made from the place.
fn primaries(weights: &[u32]) -> Vec<BackendParams> {
    weights
        .iter()
        .zip(0..)
        .map(|(&weight, place)| params(place, weight))
        .collect()
}

fn params(place: u16, weight: u32) -> BackendParams {
    let address = format!("10.0.{}.{}:80", place >> 8, place & 255);
    BackendParams {
        weight,
        backup: false,
        identity: stable_hash(address.as_bytes()),
    }
}

fn backup(place: u16, weight: u32) -> BackendParams {
    BackendParams {
        backup: true,
        ..params(place, weight)
    }
}

fn pool(algorithm: Algorithm, backends: &[BackendParams]) -> Pool {
    Pool::new(algorithm, WhenAllDown::Try, backends, 0)
}

fn at(place: u16) -> BackendIndex {
    BackendIndex::new(place)
}

fn tried(places: &[u16]) -> Tried {
    let mut tried = Tried::new();
    places.iter().for_each(|&place| tried.insert(at(place)));
    tried
}

/// A pool, its randomness and a key that changes with each pick, as connections from many clients would.
struct Bench {
    pool: Pool,
    draw: Draw,
    key: u64,
}

impl Bench {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            draw: Draw::new(1),
            key: 0,
        }
    }

    fn pick_with(&mut self, tried: &Tried, full: &[u16]) -> Pick {
        self.key += 1;
        self.pool.pick(self.key, &mut self.draw, tried, |backend| {
            full.contains(&backend.get())
        })
    }

    fn pick(&mut self) -> Pick {
        self.pick_with(&Tried::new(), &[])
    }

    /// The place of the backend that was chosen in the normal way.
    fn place(&mut self) -> u16 {
        match self.pick() {
            Pick::Chosen {
                backend,
                mode: PickMode::Normal,
            } => backend.get(),
            other => panic!("expected a normal choice, got {other:?}"),
        }
    }

    fn places(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| self.place()).collect()
    }

    /// How often each backend is chosen in so many picks.
    fn counts(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.pool.len()];
        for _ in 0..picks {
            counts[usize::from(self.place())] += 1;
        }
        counts
    }
}

fn fail_open(place: u16) -> Pick {
    Pick::Chosen {
        backend: at(place),
        mode: PickMode::FailOpen,
    }
}

fn normal(place: u16) -> Pick {
    Pick::Chosen {
        backend: at(place),
        mode: PickMode::Normal,
    }
}

fn none(reason: NoBackend) -> Pick {
    Pick::None(reason)
}
