//! What a listener's owner may choose for its flows. Plain values; nothing here decides anything.

use std::time::Duration;

use crate::{CloseHow, QUEUED_BYTES_MAX, Span};

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

/// What all flows of one listener and pool have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowParams {
    pub(crate) connect: Span,
    pub(crate) first_byte: Span,
    pub(crate) idle: Span,
    pub(crate) half_close: Span,
    pub(crate) lifetime: Span,
    pub(crate) relay: RelayMode,
    pub(crate) attempts: u8,
    pub(crate) chunk_size: u32,
    pub(crate) refuse: CloseHow,
    /// By when the first bytes must have told where to; `None` where they are not asked.
    pub(crate) handshake: Option<Span>,
}

impl FlowParams {
    /// `attempts`: backends tried at most per connection, at least one; `chunk_size`: bytes of a
    /// receive buffer, at most half of [`QUEUED_BYTES_MAX`]; `refuse`: what a client gets for whom
    /// no backend could be connected.
    ///
    /// # Panics
    /// When `chunk_size` is 0 or more than that: a receive could then get a budget of nothing.
    pub fn new(
        timeouts: &Timeouts,
        relay: RelayMode,
        attempts: u8,
        chunk_size: u32,
        refuse: CloseHow,
    ) -> FlowParams {
        assert!(
            (1..=QUEUED_BYTES_MAX / 2).contains(&chunk_size),
            "invariant: a half may always hold one more buffer when it receives"
        );
        FlowParams {
            connect: timeouts.connect.into(),
            first_byte: timeouts.first_byte.into(),
            idle: timeouts.idle.into(),
            half_close: timeouts.half_close.into(),
            lifetime: timeouts.lifetime.into(),
            relay,
            attempts: attempts.max(1),
            chunk_size,
            refuse,
            handshake: None,
        }
    }

    /// The same for flows whose first bytes are looked at before a backend is chosen: within
    /// `deadline` of their accept, [`crate::Output::Look`] must have found what it looks for.
    pub fn looking_first(self, deadline: Option<Duration>) -> FlowParams {
        let handshake = Some(deadline.into());
        FlowParams { handshake, ..self }
    }

    /// How the flows' bytes are moved.
    pub fn relay(&self) -> RelayMode {
        self.relay
    }
}
