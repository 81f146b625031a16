//! Whether a worker serves or is to leave, and what is left of it when it has.
//!
//! One that leaves accepts no more and keeps the connections that it has; it ends when control, which may change
//! its mind until then, tells it to. Invariant: that it has nothing to do any more is told once, and after that
//! nothing comes to it but by an update.

use std::time::Duration;

use ringway_metrics::{RingCounters, WorkerBlocks, WorkerHistograms};
use ringway_uring::RingStats;

use crate::apply::Acknowledge;
use crate::spec::Share;
use crate::supply::Supply;
use crate::worker::{Worker, WorkerError};

/// What a worker is there for.
#[derive(Debug)]
pub enum Duty {
    /// It accepts where it has sockets.
    Serve,
    /// It is to leave; called when it has neither a socket nor a connection.
    Leave(Acknowledge),
    /// It has told that there is nothing left for it to do.
    Vacant,
}

/// What is left of a worker.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub worker: u16,
    /// Why it could not go on, if so.
    pub result: Result<(), WorkerError>,
    /// What it has recorded.
    pub histograms: WorkerHistograms,
    /// CPU time that its thread has used.
    pub cpu_time: Duration,
}

impl Worker {
    /// Tells that it may end, where it was asked to leave.
    pub(crate) fn tell_when_vacant(&mut self) {
        match self.duty {
            Duty::Serve | Duty::Vacant => {}
            Duty::Leave(_) => {
                if self.slots.is_empty()
                    && self.acceptor.is_closed()
                    && let Duty::Leave(Acknowledge(vacant)) =
                        std::mem::replace(&mut self.duty, Duty::Vacant)
                {
                    vacant();
                }
            }
        }
    }

    /// What it has more than its share of is given back as it becomes free.
    pub(crate) fn take_share(&mut self, share: Share) {
        self.pipes.limit(share.pipes_max, share.pipe_size);
        let idle = self.pipes.idle() as i64;
        self.blocks.worker.pipes.idle.set(idle);
        self.ring.limit_buffers(share.buffers_max);
        self.supply = Supply::new(share);
    }

    /// The end: what counted the present counts nothing now.
    pub(crate) fn retire(self) -> WorkerHistograms {
        self.blocks.worker.pipes.idle.set(0);
        for block in self.blocks.backends.iter().flatten() {
            block.ejected.set(0);
            block.half_open.set(0);
        }
        // Whoever hears of the end finds its descriptors closed.
        let Worker { histograms, .. } = self;
        histograms
    }
}

/// The totals of rings, which a new ring does not go on with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingTotals {
    enters: u64,
    submissions: u64,
    completions: u64,
    cq_overflows: u64,
}

impl RingTotals {
    pub(crate) fn of(blocks: &WorkerBlocks) -> RingTotals {
        let ring = &blocks.worker.ring;
        RingTotals {
            enters: ring.enters.value(),
            submissions: ring.submissions.value(),
            completions: ring.completions.value(),
            cq_overflows: ring.cq_overflow.value(),
        }
    }

    pub(crate) fn publish(self, own: RingStats, to: &RingCounters) {
        to.enters.store_total(self.enters + own.enters);
        to.submissions
            .store_total(self.submissions + own.submissions);
        to.completions
            .store_total(self.completions + own.completions);
        to.cq_overflow
            .store_total(self.cq_overflows + own.cq_overflows);
    }
}
