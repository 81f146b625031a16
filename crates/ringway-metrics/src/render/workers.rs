//! The families about workers themselves: always one series per worker.
//!
//! **Invariant:** nothing here is summed over workers.

use super::Scrape;
use crate::block::WorkerBlock;
use crate::declare::{self, Family};
use crate::text::{Exposition, Value};

/// Writes the families `ringway_worker_*` and `ringway_uring_*`.
pub(super) fn render_workers(scrape: &Scrape, out: &mut Exposition) {
    let count = |out: &mut Exposition, family, read: fn(&WorkerBlock) -> u64| {
        put_each(scrape, out, family, |w| Value::Count(read(w)));
    };
    let level = |out: &mut Exposition, family, read: fn(&WorkerBlock) -> i64| {
        put_each(scrape, out, family, |w| Value::Level(read(w)));
    };
    put_each(scrape, out, &declare::WORKER_BUSY, |w| {
        Value::Nanos(w.busy_nanos.value())
    });
    put_each(scrape, out, &declare::WORKER_BUSY_POLL, |w| {
        Value::Nanos(w.busy_poll_nanos.value())
    });
    level(out, &declare::WORKER_CONNECTIONS, |w| w.connections.value());
    put_loops(scrape, out);
    count(out, &declare::WORKER_STALE, |w| w.stale_completions.value());
    put_pipes(scrape, out);
    count(out, &declare::WORKER_PIPES_EXHAUSTED, |w| {
        w.pipes.exhausted.value()
    });
    count(out, &declare::URING_ENTERS, |w| w.ring.enters.value());
    count(out, &declare::URING_SUBMISSIONS, |w| {
        w.ring.submissions.value()
    });
    count(out, &declare::URING_COMPLETIONS, |w| {
        w.ring.completions.value()
    });
    count(out, &declare::URING_CQ_OVERFLOW, |w| {
        w.ring.cq_overflow.value()
    });
    level(out, &declare::URING_IOWQ_WORKERS, |w| {
        w.ring.iowq_workers.value()
    });
    count(out, &declare::URING_BUFFERS_EXHAUSTED, |w| {
        w.ring.buffers_exhausted.value()
    });
}

fn put_each(
    scrape: &Scrape,
    out: &mut Exposition,
    family: &'static Family,
    read: impl Fn(&WorkerBlock) -> Value,
) {
    let mut family = out.family(family);
    for worker in &scrape.workers {
        let block = &worker.blocks.worker;
        family.put(&[], Some(block.worker), read(block));
    }
}

fn put_loops(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::WORKER_LOOP);
    for worker in &scrape.workers {
        if let Some(histograms) = &worker.histograms {
            let number = worker.blocks.worker.worker;
            family.put_histogram(&[], Some(number), &histograms.loop_time);
        }
    }
}

fn put_pipes(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::WORKER_PIPES);
    for worker in &scrape.workers {
        let block = &worker.blocks.worker;
        for (state, gauge) in [("in_use", &block.pipes.in_use), ("idle", &block.pipes.idle)] {
            family.put(&[state], Some(block.worker), Value::Level(gauge.value()));
        }
    }
}
