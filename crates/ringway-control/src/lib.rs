//! Everything rare: starting and ending a balancer, signals, the admin endpoint, the access log.
//!
//! It runs on one thread, the caller's, beside the workers, and moves no bytes of connections. It
//! talks to a worker through its mailbox and reads its counters where they are; a worker never
//! waits for it. The invariant of every file here: nothing a client of the admin endpoint does, and
//! no disk, terminal or backend that is slow, can hold a worker up.
//!
//! Reading order: `start.rs` (from a configuration to running threads), `plan.rs` (what a worker is
//! given), `layout.rs` (which place everything has), `supervise.rs` (until the end), `reload.rs`,
//! `health.rs`, `admin/`, `access_log.rs`, `upgrade/`.
#![forbid(unsafe_code)]

mod access_line;
mod access_log;
mod admin;
mod cgroups;
mod charges;
mod clock;
mod cpus;
mod crew;
mod ejections;
mod error;
mod explain;
mod groups;
mod health;
mod hire;
mod history;
mod inherited;
mod inquiry;
mod instance;
mod keepers;
mod latency;
mod layout;
mod leavers;
mod limits;
mod memory;
mod notify;
mod overrides;
mod plan;
mod posts;
mod pressure;
mod privileges;
mod procfs;
mod reload;
mod routing;
mod scrape;
mod signals;
mod sockets;
mod start;
mod status;
mod strain;
mod supervise;
mod traffic;
mod unix_path;
mod upgrade;
mod watch;

pub use error::{RunError, StartError, StartErrorKind};
pub use inherited::Inheritance;
pub use limits::{Limits, limits, locked_memory};
pub use privileges::{PrivilegeError, become_user};
pub use start::{LevelSwitch, RunParams, Running, Signals, Stopper, Watch, start};
pub use upgrade::Relaunch;
