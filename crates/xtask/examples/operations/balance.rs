//! The choice of a backend, by each algorithm, in a small and in a large pool.

use std::hint::black_box;
use std::sync::Arc;

use ringway_balance::{
    Algorithm, BackendParams, Draw, MaglevTable, Pick, Pool, Tried, WhenAllDown, mix64, stable_hash,
};

use crate::Operation;

/// A pick of `$algorithm` among `$backends`.
macro_rules! pick {
    ($name:literal, $algorithm:ident, $backends:literal, $repetitions:literal) => {
        Operation {
            name: $name,
            repetitions: $repetitions,
            run: |repetitions| pick(Algorithm::$algorithm, $backends, repetitions),
        }
    };
}

pub(crate) const OPERATIONS: &[Operation] = &[
    pick!("pick: round_robin, 10 backends", RoundRobin, 10, 20_000),
    pick!("pick: round_robin, 1000 backends", RoundRobin, 1000, 1_000),
    pick!(
        "pick: least_connections, 10 backends",
        LeastConnections,
        10,
        20_000
    ),
    pick!(
        "pick: least_connections, 1000 backends",
        LeastConnections,
        1000,
        20_000
    ),
    pick!("pick: random, 10 backends", Random, 10, 20_000),
    pick!("pick: random, 1000 backends", Random, 1000, 20_000),
    pick!("pick: source_hash, 10 backends", SourceHash, 10, 20_000),
    pick!("pick: source_hash, 1000 backends", SourceHash, 1000, 1_000),
    pick!("pick: maglev, 10 backends", Maglev, 10, 20_000),
    pick!("pick: maglev, 1000 backends", Maglev, 1000, 20_000),
    Operation {
        name: "maglev table of 1000 backends: built",
        repetitions: 20,
        run: build_tables,
    },
    Operation {
        name: "maglev pool of 1000 backends: made around a table",
        repetitions: 200,
        run: take_tables,
    },
];

/// What the control thread does when the backends of a pool change.
fn build_tables(repetitions: u64) {
    let params = params(1000);
    for _ in 0..repetitions {
        black_box(MaglevTable::for_backends(black_box(&params)));
    }
}

/// What a worker does with it.
fn take_tables(repetitions: u64) {
    let params = params(1000);
    let table = Arc::new(MaglevTable::for_backends(&params));
    let before = Pool::with_table(WhenAllDown::Try, &params, Arc::clone(&table));
    for _ in 0..repetitions {
        let table = Arc::clone(black_box(&table));
        let mut pool = Pool::with_table(WhenAllDown::Try, &params, table);
        pool.inherit(black_box(&before));
        black_box(pool);
    }
}

fn params(backends: usize) -> Vec<BackendParams> {
    (0..backends)
        .map(|number| BackendParams {
            weight: 1 + (number % 2) as u32,
            backup: false,
            identity: stable_hash(&number.to_le_bytes()),
        })
        .collect()
}

/// Weights of 1 and 2, every backend up, as many connections open as there are backends.
fn pick(algorithm: Algorithm, backends: usize, repetitions: u64) {
    let params = params(backends);
    let mut pool = Pool::new(algorithm, WhenAllDown::Try, &params, 0);
    let mut draw = Draw::new(42);
    let mut open: Vec<_> = pool.indices().collect();
    for backend in &open {
        pool.opened(*backend);
    }
    let mut oldest = 0;
    for connection in 0..repetitions {
        let key = mix64(black_box(connection));
        let picked = pool.pick(key, &mut draw, &Tried::new(), |_| black_box(false));
        let Pick::Chosen { backend, .. } = picked else {
            panic!("every backend is up: {picked:?}");
        };
        pool.opened(backend);
        pool.closed(open[oldest]);
        open[oldest] = backend;
        oldest += 1;
        if oldest == open.len() {
            oldest = 0;
        }
    }
}
