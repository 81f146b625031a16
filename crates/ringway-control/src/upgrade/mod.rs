//! A new process takes the place of this one, and no connection notices.
//!
//! ```text
//!  running process                                 new process
//!  starts the binary ───────────────────────────►  reads its file, checks it
//!  manifest, sockets in batches ────────────────►  checks each against address and kind
//!                                                  binds what is new, starts workers that wait,
//!                                                  waits for the first health checks
//!                    ◄──────────────── prepared ─
//!  go ──────────────────────────────────────────►  accepts
//!                    ◄─────────────── accepting ─
//!  stops accepting, drains ── yours ────────────►  speaks to the service manager
//! ```
//!
//! Both accept for a moment, so that there is none in which nobody does. Invariant: until the new one
//! says that it accepts, nothing of the old one has changed; whatever goes wrong before that ends the
//! new one and leaves the old one as it was.
//!
//! Reading order: `message.rs` (what is said), `channel.rs` (how it travels), `predecessor.rs`,
//! `successor.rs`.

pub(crate) mod channel;
mod command;
pub(crate) mod message;
pub(crate) mod outcome;
pub(crate) mod predecessor;
pub(crate) mod relaunch;
pub(crate) mod successor;

pub use relaunch::Relaunch;
