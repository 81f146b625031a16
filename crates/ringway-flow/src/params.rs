//! What a listener's owner may choose for its flows. Plain values; nothing here decides anything.

use std::time::Duration;

/// How bytes are moved between the two sockets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayMode {
    /// Starts as copy; a direction that streams is promoted to splice, one that goes quiet demoted.
    Auto,
    /// Receive into provided buffers, send what was received.
    Copy,
    /// `splice(2)` through a pipe on the worker's own thread, readiness from the ring.
    Splice,
    /// Linked poll and `IORING_OP_SPLICE`: the literal form, kept for comparison.
    UringSplice,
}

/// Deadlines of a flow. `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt to connect to a backend.
    pub connect: Option<Duration>,
    /// From accept until the client's first payload byte.
    pub first_byte: Option<Duration>,
    /// No byte moved in either direction.
    pub idle: Option<Duration>,
    /// One side closed and no byte moved since.
    pub half_close: Option<Duration>,
    /// From accept, however busy.
    pub lifetime: Option<Duration>,
}
