//! Scrapes with something in every cell.

use std::sync::Arc;

use crate::label::{
    AcceptError, AdminState, CheckResult, CloseReason, ConnectError, Engine, Peer, RefusedReason,
    ReloadResult, Side, Stage,
};
use crate::process::{ProcFiles, ProcessStats};
use crate::render::{BackendScrape, BuildInfo, PoolScrape, Scrape, WorkerScrape};
use crate::topology::{ListenerNames, PoolNames, RouteNames, Topology};
use crate::{ControlBlock, HealthBlock, Histogram, WorkerBlocks, WorkerHistograms};

fn topology() -> Arc<Topology> {
    let pool = |name: &str, backends: &[&str]| PoolNames {
        name: name.into(),
        backends: backends.iter().map(|b| (*b).into()).collect(),
        ..PoolNames::default()
    };
    Arc::new(Topology {
        listeners: ["web", "odd \"name\"\\"]
            .map(|name| ListenerNames {
                name: name.into(),
                ..ListenerNames::default()
            })
            .into(),
        routes: [(0, 0), (0, 1), (1, 1)]
            .map(|(listener, pool)| RouteNames {
                listener,
                pool,
                ..RouteNames::default()
            })
            .into(),
        pools: vec![
            pool("api", &["127.0.0.1:1", "[::1]:2"]),
            pool("web", &["unix:/run/x.sock"]),
        ],
    })
}

/// Different numbers in every cell, so that no two can be mistaken for each other.
fn counted(worker: u16, topology: &Arc<Topology>) -> WorkerScrape {
    let mut next = u64::from(worker) * 1_000;
    let mut number = move || {
        next += 1;
        next
    };
    let blocks = WorkerBlocks::new(worker, topology);
    let w = &blocks.worker;
    let ring = &w.ring;
    for counter in [
        &ring.enters,
        &ring.submissions,
        &ring.completions,
        &ring.cq_overflow,
    ] {
        counter.add(number());
    }
    for counter in [
        &ring.buffers_exhausted,
        &w.pipes.exhausted,
        &w.busy_nanos,
        &w.busy_poll_nanos,
    ] {
        counter.add(number());
    }
    for gauge in [
        &ring.iowq_workers,
        &w.pipes.in_use,
        &w.pipes.idle,
        &w.connections,
    ] {
        gauge.set(number().cast_signed());
    }
    w.stale_completions.add(number());
    w.access_log_dropped.add(number());
    for engine in Engine::ALL {
        w.relayed_bytes[engine].add(number());
    }
    for listener in &blocks.listeners {
        listener.connections_total.add(number());
        listener.connections.set(number().cast_signed());
        for reason in RefusedReason::ALL {
            listener.refused[reason].add(number());
        }
        for error in AcceptError::ALL {
            listener.accept_errors[error].add(number());
        }
    }
    for route in &blocks.routes {
        for side in Side::ALL {
            for reason in CloseReason::ALL {
                route.closed[side][reason].add(number());
            }
        }
        for peer in Peer::ALL {
            route.received_bytes[peer].add(number());
            route.sent_bytes[peer].add(number());
        }
    }
    for pool in &blocks.pools {
        pool.retries.add(number());
        pool.fail_open.add(number());
        for peer in Peer::ALL {
            pool.retransmitted_segments[peer].add(number());
        }
    }
    for backend in blocks.backends.iter().flatten() {
        backend.connections.set(number().cast_signed());
        backend.connections_total.add(number());
        backend.ejections.add(number());
        backend.ejected.set(i64::from(worker));
        backend.half_open.set(1);
        for error in ConnectError::ALL {
            backend.connect_failures[error].add(number());
        }
    }
    let mut histograms = WorkerHistograms::new(Arc::clone(topology));
    histograms.loop_time.record(number());
    for route in &mut histograms.stages {
        for stage in Stage::ALL {
            route[stage].record(number() * 1_000);
        }
    }
    for pool in &mut histograms.round_trips {
        for peer in Peer::ALL {
            pool[peer].record(number());
        }
    }
    WorkerScrape {
        blocks,
        histograms: Some(histograms.snapshot()),
    }
}

/// A scrape of `workers` workers in which every declared family has samples.
pub(super) fn populated(workers: u16) -> Scrape {
    let topology = topology();
    let health = Arc::new(HealthBlock::default());
    health.record(CheckResult::Pass, 1_700_000_000_000);
    let mut checks = Histogram::new();
    checks.record(800);
    let backend = |state| BackendScrape {
        is_offered: true,
        up: true,
        state,
        health: Some(Arc::clone(&health)),
    };
    let pool = |states: &[AdminState]| PoolScrape {
        backends: states.iter().map(|state| backend(*state)).collect(),
        health_check_time: Some(checks.snapshot()),
    };
    let control = ControlBlock::default();
    control.reloads[ReloadResult::Failure].increment();
    control
        .last_reload_success_unix_millis
        .set(1_700_000_000_001);
    let stat = "1 (r) S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 5 0 9 1 1";
    Scrape {
        build: BuildInfo {
            version: "0.1.0".into(),
            commit: "abc".into(),
        },
        serving_workers: workers.into(),
        workers: (0..workers)
            .map(|worker| counted(worker, &topology))
            .collect(),
        pools: vec![
            pool(&[AdminState::Active, AdminState::Drain]),
            pool(&[AdminState::Maintenance]),
        ],
        topology,
        control: Arc::new(control),
        draining_connections: 3,
        process: ProcessStats::parse(ProcFiles {
            stat,
            status: "VmRSS: 1 kB\nVmSize: 2 kB\nThreads: 5\n",
            limits: "Max open files  1024  4096  files\n",
            system_stat: "btime 1700000000\n",
            open_fds: Some(9),
            ticks_per_second: 100,
        }),
    }
}
