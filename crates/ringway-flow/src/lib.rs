//! Pure: the life of a TCP connection through Ringway, its timers, and why it ended.
//!
//! No sockets, no clock, no threads. The contract: a worker gives a [`Flow`] one [`Input`], carries
//! out the [`Output`]s in order, feeds what they answer at once back as inputs, and arms a timer for
//! the moment of [`Flow::take_deadline_change`]. Every operation asked for answers exactly once (a
//! multishot receive: until one completion says [`Rearm::Needed`]), also while the flow closes.
//!
//! Reading order: [`Input`] and [`Output`], then `flow.rs` (both directions), `half.rs` (one).
#![forbid(unsafe_code)]

mod chunks;
mod flow;
mod half;
mod input;
mod moment;
mod output;
mod params;
mod reason;
mod side;
pub mod wheel;

pub use chunks::{BufferNumber, Chunk, Chunks};
pub use flow::{Flow, Room, Turn};
pub use half::QUEUED_BYTES_MAX;
pub use input::{Backlog, Fault, Finding, Input, Rearm};
pub use moment::{Moment, Span};
pub use output::{CloseHow, Operation, Output, Residue};
pub use params::{FlowParams, RelayMode, Timeouts};
pub use reason::{Ended, Party, Why};
pub use side::{PerSide, Side};

#[cfg(test)]
mod tests;
