//! What Ringway counts and how it is exposed: counters, histograms and their text exposition.
//!
//! The path of a number: a worker adds to its own [`block`]s and [`WorkerHistograms`]; at a scrape
//! the control thread reads the blocks where they are, receives a clone of the histograms from each
//! worker, and [`render()`]s both with the names of a [`Topology`] into the text of [`text`].
//! [`declare`] lists every family once; nothing else may appear in the output.
//!
//! It is not a registry: there is no global state, no lock, no I/O and no clock here. Who may write
//! a counter is decided by its type: [`Counter`] and [`Gauge`] have one writer, [`SharedCounter`]
//! any number of them.
//!
//! **Invariant:** recording never allocates, never locks and never touches a cache line that
//! another worker writes.

#![forbid(unsafe_code)]

pub mod block;
pub mod counter;
pub mod declare;
pub mod histogram;
pub mod label;
pub mod process;
pub mod render;
pub mod text;
pub mod topology;
pub mod worker_histograms;

pub use block::{
    BackendBlock, ControlBlock, HealthBlock, ListenerBlock, PipeCounters, PoolBlock, RingCounters,
    RouteBlock, WorkerBlock, WorkerBlocks,
};
pub use counter::{Counter, Gauge, SharedCounter, SharedGauge};
pub use histogram::{Histogram, HistogramSnapshot, Ladder};
pub use label::{
    AcceptError, AdminState, ByLabel, CheckResult, CloseReason, ConnectError, EjectionState,
    Engine, Label, Peer, RefusedReason, ReloadResult, Side, Stage,
};
pub use process::ProcessStats;
pub use render::{BackendScrape, BuildInfo, PerWorker, PoolScrape, Scrape, WorkerScrape, render};
pub use text::Format;
pub use topology::{BackendNames, ListenerNames, PoolNames, RouteNames, Seat, Topology};
pub use worker_histograms::{WorkerHistograms, WorkerHistogramsSnapshot};
