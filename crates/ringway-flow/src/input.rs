//! Everything that can happen to a flow. A completion that the kernel owes the flow is always
//! delivered, also while it closes: that is how the flow knows when nothing is in flight any more.

use crate::{Chunk, Side, Why};

/// Why a socket operation failed, as far as a flow cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer reset the connection, or it was already gone.
    Reset,
    /// The operation was cancelled on the flow's own request.
    Cancelled,
    /// The operation would block (only from a direct `splice(2)`).
    WouldBlock,
    /// Only from a connect: no local port is left towards this backend. Another one may do.
    NoPorts,
    /// Only from a connect: this host has no descriptor or memory for it. No backend would do.
    Shortage,
    /// Anything else: the connection cannot be used any more.
    Other,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The flow was accepted; nothing else comes before this.
    Accepted,
    /// The connect asked for by [`crate::Output::Connect`] ended.
    Connected(Result<(), Fault>),
    /// No backend is left to connect to; no connect is in flight.
    NoBackend,
    /// Bytes came from `from`.
    Received {
        /// The side they came from.
        from: Side,
        /// Where they are.
        chunk: Chunk,
        /// Whether more bytes were waiting behind them.
        backlog: Backlog,
        /// Whether the receive goes on by itself.
        rearm: Rearm,
    },
    /// The peer on `from` sent FIN: no bytes will come any more. The receive is over.
    EndOfStream {
        /// The side that ended.
        from: Side,
    },
    /// The receive on `from` is over without bytes.
    ReceiveFailed {
        /// The side the receive was on.
        from: Side,
        /// Why.
        fault: Fault,
    },
    /// The receive on `from` is over because no buffer was free.
    Starved {
        /// The side the receive was on.
        from: Side,
    },
    /// Buffers are free again for a starved `from`.
    BuffersFree {
        /// The side that was starved.
        from: Side,
    },
    /// A send of bytes that came from `from` ended: how many bytes the kernel took, at least one.
    Sent {
        /// The half, named by the side its bytes come from.
        from: Side,
        /// Bytes taken, or why none were.
        result: Result<u32, Fault>,
    },
    /// The poll for bytes on `from` ended.
    Readable {
        /// The side polled.
        from: Side,
    },
    /// The poll for room on the side opposite of `from` ended.
    Writable {
        /// The half, named by the side its bytes come from.
        from: Side,
    },
    /// Answer to [`crate::Output::TakePipe`].
    Pipe {
        /// The half that asked.
        from: Side,
        /// Its capacity in bytes, or that no pipe is free.
        grant: Option<u32>,
    },
    /// Answer to [`crate::Output::Watch`]: the connection of `from` is broken, or the watch was
    /// cancelled. Bytes that came before may still be unread.
    Watched {
        /// The side watched.
        from: Side,
        /// How it broke.
        fault: Fault,
    },
    /// Bytes went from the socket on `from` into the half's pipe; 0 is end of stream.
    SplicedIn {
        /// The half.
        from: Side,
        /// Bytes moved, or why none were.
        result: Result<u32, Fault>,
    },
    /// Bytes went from the half's pipe into the socket opposite of `from`.
    SplicedOut {
        /// The half.
        from: Side,
        /// Bytes moved, or why none were.
        result: Result<u32, Fault>,
    },
    /// Answer to [`crate::Output::CheckUnsent`]: bytes the peer has not acknowledged yet.
    Unsent {
        /// The side asked about.
        side: Side,
        /// Bytes; 0 also when the kernel cannot tell.
        bytes: u32,
    },
    /// Answer to [`crate::Output::Look`].
    Looked(Finding),
    /// The moment of [`crate::Flow::take_deadline_change`] has come.
    Deadline,
    /// Ringway wants the flow gone now.
    Close(Why),
}

/// What the first bytes of a client tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Not enough yet.
    More,
    /// Where to: the flow goes on, by the parameters that its worker gives it from now on. The first
    /// `skip` bytes, no more than there are, were for Ringway only.
    Route {
        /// Bytes that no backend gets.
        skip: u32,
    },
    /// That this connection is refused.
    Refuse,
}

/// Whether a multishot operation goes on after this completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rearm {
    /// The kernel delivers further completions by itself.
    Armed,
    /// This was the last completion of the operation.
    Needed,
}

/// Whether the socket held more bytes when a receive completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// None, or the kernel did not say.
    Empty,
    /// At least one.
    Waiting,
}
