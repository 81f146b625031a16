//! How an upgrade went, for the log, the admin endpoint and whoever asked.

use serde::Serialize;

/// The new process has taken over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Upgraded {
    /// Its number.
    pub(crate) pid: u32,
    /// The version of its program.
    pub(crate) version: String,
    /// Sockets it took over.
    pub(crate) adopted: usize,
    /// Sockets it had no use for.
    pub(crate) declined: usize,
}

/// Why it did not come to it; the running process serves as before.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// Another one is under way, or a drain.
    #[error("{0}")]
    Busy(&'static str),
    /// This process cannot be upgraded.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The new process says why not, perhaps in several lines.
    #[error("the new process refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// It came to no answer.
    #[error("{0}")]
    Failed(String),
}

pub(crate) type Outcome = Result<Upgraded, UpgradeError>;
