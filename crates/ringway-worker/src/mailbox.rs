//! What other threads may ask of a worker. Rare by nature: verdicts, a drain, a scrape. The sender
//! wakes the worker through an eventfd that its ring polls.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ringway_balance::{BackendIndex, Eligibility};
use ringway_metrics::WorkerHistograms;

use crate::apply::{Acknowledge, Update};

/// One request.
#[derive(Debug)]
pub enum Message {
    /// A keeper's verdict on a backend changed.
    Verdict {
        /// Index of the pool.
        pool: u16,
        /// The backend in it.
        backend: BackendIndex,
        /// Whether it may be picked.
        eligibility: Eligibility,
    },
    /// Run a changed configuration from now on.
    Apply(Box<Update>, Acknowledge),
    /// Accept no more, close gently what is quiet over the window, the rest at its end, then exit.
    Drain {
        /// Time for connections to end by themselves.
        window: Duration,
    },
    /// Copy the histograms out for a scrape. What a scrape makes of the copy is not the worker's time.
    Histograms(SyncSender<WorkerHistograms>),
    /// Show that the loop turns.
    Ping(SyncSender<()>),
}
