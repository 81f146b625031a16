//! What counting and a scrape cost.

use std::hint::black_box;
use std::sync::Arc;

use ringway_metrics::{
    AdminState, BackendNames, BackendScrape, BuildInfo, ControlBlock, Format, HealthBlock,
    Histogram, ListenerNames, PerWorker, PoolNames, PoolScrape, ProcessStats, RouteNames, Scrape,
    Stage, Topology, WorkerBlocks, WorkerHistograms, WorkerScrape, render,
};

use crate::Operation;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "histogram: recorded",
        repetitions: 20_000,
        run: record,
    },
    Operation {
        name: "metrics: a page of 4 workers, 10 backends",
        repetitions: 5,
        run: |repetitions| page(10, repetitions),
    },
    Operation {
        name: "metrics: a page of 4 workers, 1000 backends",
        repetitions: 1,
        run: |repetitions| page(1000, repetitions),
    },
];

/// Durations from a microsecond to a second, as connections have them.
fn record(repetitions: u64) {
    let mut histogram = Histogram::new();
    for turn in 0..repetitions {
        let us = 1 << (turn % 20);
        histogram.record(black_box(us));
    }
    assert_eq!(histogram.count(), repetitions);
}

fn page(backends: usize, repetitions: u64) {
    let scrape = scrape(4, backends);
    let rendered = || render(black_box(&scrape), Format::Prometheus, PerWorker::Merged);
    let text = rendered();
    let up = text
        .lines()
        .filter(|line| line.starts_with("ringway_backend_up{"));
    assert_eq!(up.count(), backends);
    for _ in 0..repetitions {
        assert_eq!(rendered().len(), text.len());
    }
}

/// One listener, one pool, some connections counted.
fn scrape(workers: u16, backends: usize) -> Scrape {
    let named = |number| BackendNames {
        address: format!("10.0.{}.{}:8080", number / 256, number % 256),
        ..BackendNames::default()
    };
    let topology = Arc::new(Topology {
        listeners: vec![ListenerNames {
            name: "web".into(),
            ..ListenerNames::default()
        }],
        routes: vec![RouteNames::default()],
        pools: vec![PoolNames {
            name: "web".into(),
            backends: (0..backends).map(named).collect(),
            ..PoolNames::default()
        }],
    });
    let worker = |worker| {
        let blocks = WorkerBlocks::new(worker, &topology);
        for backend in blocks.backends.iter().flatten() {
            backend.connections_total.add(1_000 + u64::from(worker));
        }
        let mut histograms = WorkerHistograms::new(Arc::clone(&topology));
        for us in 0..1_000 {
            histograms.loop_time.record(us);
            histograms.stages[0][Stage::Total].record(us * 100);
        }
        WorkerScrape {
            blocks,
            histograms: Some(histograms.snapshot()),
        }
    };
    let backend = || BackendScrape {
        is_offered: true,
        up: true,
        state: AdminState::Active,
        health: Some(Arc::new(HealthBlock::default())),
    };
    Scrape {
        serving_workers: workers.into(),
        workers: (0..workers).map(worker).collect(),
        pools: vec![PoolScrape {
            backends: (0..backends).map(|_| backend()).collect(),
            health_check_time: None,
        }],
        topology,
        build: BuildInfo::default(),
        control: Arc::new(ControlBlock::default()),
        draining_connections: 0,
        process: ProcessStats::default(),
    }
}
