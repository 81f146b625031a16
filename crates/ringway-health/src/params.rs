//! How a backend's health is judged. Plain values; nothing here decides anything.

use std::time::Duration;

/// Cadence and thresholds of the active checks of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeParams {
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// A probe without an answer by then has failed.
    pub timeout: Duration,
    /// Consecutive successes that turn a down backend up.
    pub rise: u32,
    /// Consecutive failures that turn an up backend down.
    pub fall: u32,
}
