//! Gathering one scrape: counters are read where they are, histograms are asked of the workers.
//!
//! It blocks for a second at most, on a thread of its own. A worker that does not answer in that
//! time is shown with what it said last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ringway_health::Health;
use ringway_metrics::{
    AdminState, BackendScrape, BuildInfo, PoolScrape, Scrape, WorkerHistogramsSnapshot,
    WorkerScrape,
};
use ringway_worker::Message;
use tracing::warn;

use crate::instance::{ANSWER_WITHIN, Instance, View, lock};
use crate::procfs;

impl Instance {
    /// Everything there is to expose now. Blocks for [`ANSWER_WITHIN`] at most.
    pub(crate) fn scrape(&self) -> Scrape {
        let histograms = self.ask_histograms();
        self.read_threads();
        let view = self.view();
        let workers = view.blocks.iter().zip(histograms);
        Scrape {
            topology: Arc::clone(view.topology()),
            build: BuildInfo {
                version: self.version.to_owned(),
                commit: self.commit.to_owned(),
            },
            workers: workers
                .map(|(blocks, histograms)| WorkerScrape {
                    blocks: blocks.clone(),
                    histograms,
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

    pub(crate) fn ask_histograms(&self) -> Vec<Option<WorkerHistogramsSnapshot>> {
        let mut snapshots = lock(&self.snapshots);
        for (last, worker) in snapshots.iter_mut().zip(&self.workers) {
            last.inquiry
                .ask(|reply| worker.mailbox.send(Message::Histograms(reply)));
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        for (last, worker) in snapshots.iter_mut().zip(&self.workers) {
            match last.inquiry.wait_until(deadline) {
                Some(histograms) => last.seen = Some(histograms.snapshot()),
                None => {
                    worker.scrapes_missed.fetch_add(1, Ordering::Relaxed);
                    warn!(worker = worker.index, "a worker did not answer a scrape");
                }
            }
        }
        snapshots.iter().map(|last| last.seen.clone()).collect()
    }

    /// What only the kernel knows of the workers' threads. This is the one writer of these two.
    fn read_threads(&self) {
        let names = procfs::thread_names();
        for worker in &self.workers {
            let block = &worker.block;
            if let Some(nanos) = procfs::thread_busy_nanos(worker.thread_id) {
                block.busy_nanos.store_total(nanos);
            }
            let count = procfs::iowq_workers(&names, worker.thread_id);
            block
                .ring
                .iowq_workers
                .set(i64::try_from(count).unwrap_or(i64::MAX));
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
