//! The families about workers themselves: always one series per worker.
//!
//! **Invariant:** nothing here is summed over workers.

use super::Scrape;
use crate::block::WorkerBlock;
use crate::declare::{self, Family};
use crate::text::{Exposition, Value};

type Read = fn(&WorkerBlock) -> Value;

static BEFORE_LOOP: [(&Family, Read); 2] = [
    (&declare::WORKER_BUSY, |w| {
        Value::Nanos(w.busy_nanos.value())
    }),
    (&declare::WORKER_CONNECTIONS, |w| {
        Value::Level(w.connections.value())
    }),
];

static AFTER_PIPES: [(&Family, Read); 7] = [
    (&declare::WORKER_PIPES_EXHAUSTED, |w| {
        Value::Count(w.pipes.exhausted.value())
    }),
    (&declare::URING_ENTERS, |w| {
        Value::Count(w.ring.enters.value())
    }),
    (&declare::URING_SUBMISSIONS, |w| {
        Value::Count(w.ring.submissions.value())
    }),
    (&declare::URING_COMPLETIONS, |w| {
        Value::Count(w.ring.completions.value())
    }),
    (&declare::URING_CQ_OVERFLOW, |w| {
        Value::Count(w.ring.cq_overflow.value())
    }),
    (&declare::URING_IOWQ_WORKERS, |w| {
        Value::Level(w.ring.iowq_workers.value())
    }),
    (&declare::URING_BUFFERS_EXHAUSTED, |w| {
        Value::Count(w.ring.buffers_exhausted.value())
    }),
];

/// Writes the families `ringway_worker_*` and `ringway_uring_*`.
pub(super) fn render_workers(scrape: &Scrape, out: &mut Exposition) {
    render_simple(&BEFORE_LOOP, scrape, out);
    render_loop(scrape, out);
    render_simple(
        &[(&declare::WORKER_STALE, |w| {
            Value::Count(w.stale_completions.value())
        })],
        scrape,
        out,
    );
    render_pipes(scrape, out);
    render_simple(&AFTER_PIPES, scrape, out);
}

fn render_simple(table: &[(&'static Family, Read)], scrape: &Scrape, out: &mut Exposition) {
    for (family, read) in table {
        let mut family = out.family(family);
        for worker in &scrape.workers {
            let block = &worker.blocks.worker;
            family.put(&[], Some(block.worker), read(block));
        }
    }
}

fn render_loop(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::WORKER_LOOP);
    for worker in &scrape.workers {
        if let Some(histograms) = &worker.histograms {
            let number = worker.blocks.worker.worker;
            family.put_histogram(&[], Some(number), &histograms.loop_time);
        }
    }
}

fn render_pipes(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::WORKER_PIPES);
    for worker in &scrape.workers {
        let block = &worker.blocks.worker;
        for (state, gauge) in [("in_use", &block.pipes.in_use), ("idle", &block.pipes.idle)] {
            family.put(&[state], Some(block.worker), Value::Level(gauge.value()));
        }
    }
}
