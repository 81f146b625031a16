//! Gathering one scrape: counters are read where they are, histograms are asked of the workers.
//!
//! It blocks for a second at most, on a thread of its own. A worker that does not answer in that
//! time is shown with what it said last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ringway_health::Health;
use ringway_metrics::{
    AdminState, BackendScrape, BuildInfo, PoolScrape, Scrape, WorkerBlocks,
    WorkerHistogramsSnapshot, WorkerScrape,
};
use ringway_worker::Message;
use tracing::warn;

use crate::instance::{ANSWER_WITHIN, Instance, LastSnapshot, View, WorkerStage, lock};
use crate::procfs;

impl Instance {
    /// Everything there is to expose now. Blocks for [`ANSWER_WITHIN`] at most.
    pub(crate) fn scrape(&self) -> Scrape {
        let histograms = self.ask_histograms();
        self.read_threads();
        let view = self.view();
        let workers = (0..).zip(&view.blocks);
        Scrape {
            topology: Arc::clone(view.topology()),
            build: BuildInfo {
                version: self.version.to_owned(),
                commit: self.commit.to_owned(),
            },
            serving_workers: view.serving().count() as u64,
            workers: workers
                .map(|(number, blocks): (u16, _)| WorkerScrape {
                    blocks: WorkerBlocks::clone(blocks),
                    histograms: histograms.get(&number).cloned(),
                })
                .collect(),
            pools: (view.topology().pools.iter().enumerate())
                .map(|(at, pool)| self.scrape_pool(&view, at, pool.backends.len()))
                .collect(),
            control: Arc::clone(&self.control),
            draining_connections: if self.is_draining() {
                self.connections.open()
            } else {
                0
            },
            process: procfs::process_stats(),
        }
    }

    /// By number of a worker, of those that have ended too. Who does not answer has said what it said last.
    pub(crate) fn ask_histograms(&self) -> BTreeMap<u16, WorkerHistogramsSnapshot> {
        let mut snapshots = lock(&self.snapshots);
        // Before the question: whoever ends without an answer has left what it would have said.
        let view = self.view();
        let running = || view.running().map(|post| &post.worker);
        for worker in running() {
            let last = snapshots.entry(worker.index).or_default();
            last.inquiry
                .ask(|reply| worker.send(Message::Histograms(reply)));
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        for worker in running() {
            let last = snapshots.entry(worker.index).or_default();
            match last.inquiry.wait_until(deadline) {
                Some(histograms) => last.seen = Some(histograms.snapshot()),
                None if worker.stage() == WorkerStage::Working => {
                    worker.scrapes_missed.fetch_add(1, Ordering::Relaxed);
                    warn!(worker = worker.index, "a worker did not answer a scrape");
                }
                None => {}
            }
        }
        for (number, left) in lock(&self.left).iter() {
            if running().all(|worker| worker.index != *number) {
                snapshots.entry(*number).or_default().seen = Some(left.histograms.snapshot());
            }
        }
        let seen = |(number, last): (&u16, &LastSnapshot)| Some((*number, last.seen.clone()?));
        snapshots.iter().filter_map(seen).collect()
    }

    /// What only the kernel knows of the workers' threads. This is the one writer of these two.
    fn read_threads(&self) {
        let names = procfs::thread_names();
        let view = self.view();
        for own in &view.blocks {
            let block = &own.worker;
            let mut running = view.running().map(|post| &post.worker);
            let Some(worker) = running.find(|worker| worker.index == block.worker) else {
                block.ring.iowq_workers.set(0);
                if let Some(left) = lock(&self.left).get(&block.worker) {
                    let busy = left.cpu_nanos.saturating_sub(block.busy_poll_nanos.value());
                    // What it ended with may be less than the last sight of it, by a tick of the kernel.
                    let before = block.busy_nanos.value();
                    block.busy_nanos.store_total(busy.max(before));
                }
                continue;
            };
            if let Some(nanos) = worker.busy_nanos() {
                block.busy_nanos.store_total(nanos);
            }
            let count = procfs::iowq_workers(&names, worker.thread_id);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            block.ring.iowq_workers.set(count);
        }
    }

    fn scrape_pool(&self, view: &View, pool: usize, backends: usize) -> PoolScrape {
        let layout = view.layout();
        let is_offered = layout.pools.is_offered(pool);
        let backend = |backend| BackendScrape {
            is_offered: is_offered && layout.backends[pool].is_offered(backend),
            up: self.board.standing(pool, backend).health != Health::Down,
            state: metric(view.plan.state(pool, backend)),
            health: self.board.block(pool, backend),
        };
        PoolScrape {
            backends: (0..backends).map(backend).collect(),
            health_check_time: self.board.check_time(pool),
        }
    }
}

fn metric(state: ringway_balance::AdminState) -> AdminState {
    match state {
        ringway_balance::AdminState::Active => AdminState::Active,
        ringway_balance::AdminState::Drain => AdminState::Drain,
        ringway_balance::AdminState::Maintenance => AdminState::Maintenance,
    }
}
