//! What other threads may ask of a worker. Rare by nature: verdicts, a drain, a scrape. The sender
//! wakes the worker through an eventfd that its ring polls.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ringway_balance::{BackendIndex, Eligibility};
use ringway_metrics::WorkerHistograms;

use crate::apply::{Acknowledge, Update};
use crate::rehearse::PoolCopy;
use crate::relief::Strain;
use crate::spec::Share;

/// A listening socket of a worker.
#[derive(Debug)]
pub struct Lent {
    /// Its number, which it may share with others of its address.
    pub number: u32,
    /// A descriptor of its own.
    pub fd: OwnedFd,
}

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
    /// Begin to accept, where [`Opening::WhenTold`](crate::Opening) was asked for, and tell so.
    Open(Acknowledge),
    /// Have this share from now on.
    Share(Share),
    /// So short is memory now.
    Strain(Strain),
    /// Show the listening sockets: copies, for whoever is to accept on them too.
    Lend(SyncSender<io::Result<Vec<Lent>>>),
    /// These sockets, by their cookies (SO_COOKIE), are accepted on by somebody else when this worker
    /// does not any more: what is queued on them is left there, and newcomers are not turned away.
    NotAlone(Arc<[u64]>),
    /// Copy the histograms out for a scrape. What a scrape makes of the copy is not the worker's time.
    Histograms(SyncSender<WorkerHistograms>),
    /// Copy a pool out for somebody who asks what it would choose.
    Pool(u16, SyncSender<Option<Box<PoolCopy>>>),
    /// Show that the loop turns.
    Ping(SyncSender<()>),
}
