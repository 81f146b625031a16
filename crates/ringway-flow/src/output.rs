//! Everything a flow can ask for. The worker carries the requests out in order; what a request
//! answers at once (pipes, `splice(2)`, unsent bytes) it feeds back as an input before the next turn.

use crate::{BufferNumber, Ended, Side};

/// How a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseHow {
    /// FIN after everything sent so far.
    Fin,
    /// RST at once.
    Reset,
}

/// What is left in a pipe that a half gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residue {
    /// Nothing: the pipe may serve another flow.
    Empty,
    /// Bytes of this flow: the pipe must be destroyed.
    Bytes,
}

/// An operation that can be cancelled, as the output that asked for it names it. A send cannot: it
/// does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Output::Connect`].
    Connect,
    /// [`Output::Receive`].
    Receive {
        /// The side received from.
        from: Side,
    },
    /// [`Output::PollReadable`].
    PollReadable {
        /// The side polled.
        from: Side,
    },
    /// [`Output::PollWritable`].
    PollWritable {
        /// The half.
        from: Side,
    },
    /// [`Output::Watch`].
    Watch {
        /// The side watched.
        from: Side,
    },
    /// [`Output::RingSpliceIn`].
    SpliceIn {
        /// The half.
        from: Side,
    },
    /// [`Output::RingSpliceOut`].
    SpliceOut {
        /// The half.
        from: Side,
    },
}

/// One request to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look at all bytes of the client so far, [`crate::Flow::waiting`]; answered at once by
    /// [`crate::Input::Looked`].
    Look,
    /// Choose a backend that was not tried yet and connect to it; answered by
    /// [`crate::Input::Connected`] or [`crate::Input::NoBackend`].
    Connect,
    /// Cancel the connect in flight; it still answers.
    CancelConnect,
    /// Close the backend socket of a failed attempt.
    DiscardBack,
    /// The backend is connected: a mark for histograms, once per flow.
    MarkConnected,
    /// The backend sent its first byte: a mark for histograms, at most once per flow.
    MarkFirstByte,
    /// Receive up to `budget` bytes from `from`.
    Receive {
        /// Where from.
        from: Side,
        /// How many bytes at most before the receive must end by itself.
        budget: u32,
    },
    /// Cancel the receive on `from`; it still answers.
    CancelReceive {
        /// The side received from.
        from: Side,
    },
    /// Send part of a buffer that came from `from` to the opposite side.
    Send {
        /// The half.
        from: Side,
        /// The buffer.
        buffer: BufferNumber,
        /// First byte to send.
        start: u32,
        /// Number of bytes to send.
        len: u32,
    },
    /// Move bytes that came from one side together: copy the first `len` of buffer `from` to place
    /// `at` of buffer `to`, then the `rest` behind them to its start. What is being sent of `to` lies
    /// before `at`.
    Gather {
        /// The buffer that has room.
        to: BufferNumber,
        /// How many bytes it holds already.
        at: u32,
        /// The buffer behind it.
        from: BufferNumber,
        /// How many of its bytes go over.
        len: u32,
        /// How many stay.
        rest: u32,
    },
    /// The buffer is not needed any more.
    Recycle {
        /// The buffer.
        buffer: BufferNumber,
    },
    /// Tell when `from` has bytes, has ended or has failed.
    PollReadable {
        /// The side to poll.
        from: Side,
    },
    /// Tell when the side opposite of `from` has room or has failed.
    PollWritable {
        /// The half.
        from: Side,
    },
    /// Tell when the connection of `from` breaks, whatever lies unread before that. Neither bytes nor
    /// a FIN are an answer.
    Watch {
        /// The side to watch.
        from: Side,
    },
    /// A pipe for this half, please; answered at once.
    TakePipe {
        /// The half.
        from: Side,
    },
    /// This half's pipe is not needed any more.
    GivePipe {
        /// The half.
        from: Side,
        /// What is in it.
        residue: Residue,
    },
    /// `splice(2)` from the socket on `from` into the pipe; answered at once.
    SpliceIn {
        /// The half.
        from: Side,
        /// Bytes at most.
        len: u32,
    },
    /// `splice(2)` from the pipe into the opposite socket; answered at once.
    SpliceOut {
        /// The half.
        from: Side,
        /// Bytes in the pipe.
        len: u32,
    },
    /// The same through the ring: poll, then splice; answered by a completion.
    RingSpliceIn {
        /// The half.
        from: Side,
        /// Bytes at most.
        len: u32,
    },
    /// The same through the ring: poll, then splice; answered by a completion.
    RingSpliceOut {
        /// The half.
        from: Side,
        /// Bytes in the pipe.
        len: u32,
    },
    /// `shutdown(2)` for writing: passes a FIN on.
    ShutdownWrite {
        /// The side that gets the FIN.
        to: Side,
    },
    /// How many bytes has this side's peer not acknowledged yet; answered at once.
    CheckUnsent {
        /// The side.
        side: Side,
    },
    /// Cancel what waits on this side, see [`crate::Flow::operations`]; each operation still
    /// answers.
    CancelAll {
        /// The side.
        side: Side,
    },
    /// Close the socket of this side. Nothing is in flight on it.
    CloseSocket {
        /// The side.
        side: Side,
        /// FIN or reset.
        how: CloseHow,
    },
    /// The flow is over and nothing is in flight: free the slot. Always the last output.
    Finished(Ended),
}
