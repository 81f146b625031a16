//! One worker: a pinned thread with its own ring, listeners, pools and flows.
//!
//! It knows neither configuration files nor how to serve a scrape; it is given a [`WorkerSpec`] and
//! a mailbox. What it shares with other cores, complete: counters it alone writes
//! ([`ringway_metrics::WorkerBlocks`]), its mailbox, and what a limit counts ([`Limit`],
//! [`Admission`]), touched when a connection opens and closes only.
//!
//! Reading order: `worker.rs` (the loop), `busy_poll.rs`, `dispatch.rs` (completion to input), `effects.rs` (output
//! to operation), `accept.rs`, `inspect.rs`, `attempt.rs`, `announce.rs`, `drain.rs`, `outlier.rs`,
//! `apply.rs` (a changed configuration), `listening.rs`, `hand_over.rs`.
#![forbid(unsafe_code)]

mod accept;
mod access;
mod admission;
mod announce;
mod apply;
mod attempt;
mod busy_poll;
mod clock;
mod dispatch;
mod drain;
mod duty;
mod effects;
mod hand_over;
mod inspect;
mod limit;
mod listening;
mod mailbox;
mod names;
mod origin;
mod outlier;
mod rate;
mod record;
mod rehearse;
mod relief;
mod slots;
mod sources;
mod spec;
mod stall;
mod start;
mod supply;
mod tag;
mod worker;

pub use access::{AccessQueue, AccessRecord, Attempt, AttemptOutcome, Conclusion, LogEntry};
pub use admission::Admission;
pub use apply::{AccessUpdate, Acknowledge, PoolUpdate, Update};
pub use duty::{Duty, Ended};
pub use inspect::Inspect;
pub use limit::Limit;
pub use mailbox::{Lent, Message};
pub use names::{Found, NameRule, NameTable};
pub use origin::OriginSpec;
pub use outlier::{EjectionNotice, NoticeSink};
pub use rate::SharedRate;
pub use record::labels_of;
pub use rehearse::{PoolCopy, Reception, Visitor};
pub use relief::Strain;
pub use sources::{SourceLimit, SourceRate};
pub use spec::{
    BUFFERS_MAX, BackendSpec, ListenerSpec, Opening, PoolSpec, RouteSpec, Share, SocketSpec,
    WhenBackendDown, WorkerSpec, buffer_size,
};
pub use start::{Mailbox, StartError, WorkerHandle, start, workers_that_fit};
pub use worker::WorkerError;
