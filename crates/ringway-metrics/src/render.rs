//! From counts and names to text: one scrape.
//!
//! A [`Scrape`] is everything there is to expose at one moment, gathered by the control thread:
//! views of the workers' counters, snapshots of their histograms, and what control itself knows.
//! Rendering reads it and decides nothing; it has no clock and opens no file.
//!
//! **Invariant:** every declared family appears when its values are there, in the order of
//! [`FAMILIES`](crate::declare::FAMILIES), and the sum over the label `worker` of a labelled
//! rendering is the merged one.

use std::sync::Arc;

use crate::block::{ControlBlock, HealthBlock, WorkerBlocks};
use crate::histogram::HistogramSnapshot;
use crate::label::AdminState;
use crate::process::ProcessStats;
use crate::text::{Exposition, Format};
use crate::topology::Topology;
use crate::worker_histograms::WorkerHistogramsSnapshot;

mod control;
mod traffic;
mod workers;

/// Everything there is to expose at one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The names. The blocks of `workers` and the entries of `pools` follow it index by index.
    pub topology: Arc<Topology>,
    /// What is running.
    pub build: BuildInfo,
    /// How many workers serve.
    pub serving_workers: u64,
    /// The counts of each worker's number, of those that have left, too: the sums over them never fall.
    pub workers: Vec<WorkerScrape>,
    /// What control knows of each pool.
    pub pools: Vec<PoolScrape>,
    /// What control counts.
    pub control: Arc<ControlBlock>,
    /// Connections that a drain waits for; zero when nothing drains.
    pub draining_connections: u64,
    /// What the kernel says about the process.
    pub process: ProcessStats,
}

/// The running build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of the package.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
}

/// One worker's counts.
#[derive(Clone, Debug)]
pub struct WorkerScrape {
    /// A view of the worker's counters.
    pub blocks: WorkerBlocks,
    /// The worker's histograms. For a worker that did not answer in time pass its last snapshot
    /// again: without it the sums over the workers would fall and rise. What a
    /// snapshot has of entries that the scrape's topology does not have is left out.
    pub histograms: Option<WorkerHistogramsSnapshot>,
}

/// What control knows of one pool.
#[derive(Clone, Debug, Default)]
pub struct PoolScrape {
    /// Its backends.
    pub backends: Vec<BackendScrape>,
    /// Durations of its health checks; `None` where it has none.
    pub health_check_time: Option<HistogramSnapshot>,
}

/// What control knows of one backend.
#[derive(Clone, Debug)]
pub struct BackendScrape {
    /// Whether it is in the configuration. One that is not, and still has connections, is neither up
    /// nor down.
    pub is_offered: bool,
    /// Whether it is held to be healthy.
    pub up: bool,
    /// What the operator wants of it.
    pub state: AdminState,
    /// Its health checks; `None` where it has none.
    pub health: Option<Arc<HealthBlock>>,
}

/// How series of several workers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerWorker {
    /// One series: the sum over the workers.
    Merged,
    /// One series per worker, with the label `worker`.
    Labelled,
}

/// The text of a scrape.
pub fn render(scrape: &Scrape, format: Format, per_worker: PerWorker) -> String {
    let mut out = Exposition::new(format);
    let sums = traffic::Sums { scrape, per_worker };
    control::render_build(scrape, &mut out);
    workers::render_workers(scrape, &mut out);
    sums.render_listeners(&mut out);
    sums.render_routes(&mut out);
    control::render_backend_states(scrape, &mut out);
    sums.render_backends(&mut out);
    control::render_health_checks(scrape, &mut out);
    sums.render_tcp_info(&mut out);
    control::render_configuration(scrape, &mut out);
    sums.render_access_log(&mut out);
    control::render_process(&scrape.process, &mut out);
    out.finish()
}

#[cfg(test)]
mod tests;
