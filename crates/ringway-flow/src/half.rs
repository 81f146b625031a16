//! One direction of a flow: what was received and not yet sent, which operations are in flight for
//! it, and which engine moves it. It does not know the other direction; ends that concern both are
//! decided in [`crate::Flow`].
//!
//! ```text
//!  Flowing ──FIN or RST from the source──► Draining ──last byte handed to the kernel──► Delivered
//!     └────────────the destination fails, or the flow closes────────► Dead ◄────────────────┘
//! ```
//!
//! Invariant: at most [`QUEUED_BYTES_MAX`] bytes are held in buffers: a receive is armed with a
//! budget of no more than what is left of it, and ends by itself when the budget is used up.

use crate::chunks::{BufferNumber, Chunk, ChunkQueue};
use crate::flow::Turn;
use crate::{Backlog, Fault, Output, Rearm, RelayMode, Residue, Side};

/// Bytes a half holds in buffers at most: the memory of a blocked direction.
pub const QUEUED_BYTES_MAX: u32 = 64 * 1024;
/// A receive is armed again once no more than this waits, so that its budget is worth an operation.
const QUEUED_BYTES_LOW: u32 = QUEUED_BYTES_MAX / 2;
/// Buffers a half holds at most before it stops a receive that delivers many small pieces.
const QUEUED_CHUNKS_MAX: u16 = 16;
/// Bytes received in full buffers with more waiting behind them, after which `auto` promotes.
const PROMOTE_AFTER_BYTES: u32 = 64 * 1024;
/// After a promotion that found no pipe or gained nothing, how much must stream before the next.
const PROMOTE_AGAIN_AFTER_BYTES: u32 = 1024 * 1024;
/// A splice that moves less than this would have been cheaper as a copy.
const LEAN_BYTES: u32 = 8 * 1024;
/// That many lean splices in a row demote a direction.
const LEAN_ROUNDS_MAX: u8 = 4;
/// Splices into the pipe for one readiness, so that an elephant leaves the turn to its neighbours.
const SPLICE_ROUNDS_MAX: u8 = 2;

const _: () = assert!(QUEUED_BYTES_LOW < QUEUED_BYTES_MAX);
const _: () = assert!(PROMOTE_AFTER_BYTES >= QUEUED_BYTES_LOW);

/// How a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// More bytes may come.
    Flowing,
    /// The source has ended; bytes it sent before are still to be delivered.
    Draining(End),
    /// The source has ended and the kernel has every byte.
    Delivered(End),
    /// The destination takes no more: what comes is dropped.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Copy,
    Splice,
}

/// Whether the destination can take bytes yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Pending,
    Open,
}

/// The operations of a half that the kernel still owes an answer for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InFlight(u8);

impl InFlight {
    const RECEIVE: u8 = 1;
    const SEND: u8 = 1 << 1;
    const POLL_IN: u8 = 1 << 2;
    const POLL_OUT: u8 = 1 << 3;
    const SPLICE_IN: u8 = 1 << 4;
    const SPLICE_OUT: u8 = 1 << 5;
    const PIPE: u8 = 1 << 6;

    fn has(self, operation: u8) -> bool {
        self.0 & operation != 0
    }

    fn start(&mut self, operation: u8) {
        debug_assert!(
            !self.has(operation),
            "invariant: an operation is in flight once"
        );
        self.0 |= operation;
    }

    fn end(&mut self, operation: u8) {
        debug_assert!(
            self.has(operation),
            "invariant: only what is in flight answers"
        );
        self.0 &= !operation;
    }
}

/// One direction, named by the side its bytes come from.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) from: Side,
    pub(crate) stage: Stage,
    engine: Engine,
    in_flight: InFlight,
    cancelling: bool,
    starved: bool,
    /// The source seemed to end by FIN while something was being sent to it. If that fails, it has
    /// taken the error of a reset, and what came after looked like a mere end.
    pub(crate) end_doubted: bool,
    has_pipe: bool,
    lean_rounds: u8,
    rounds: u8,
    queue: ChunkQueue,
    /// Bytes of the first queued chunk that are sent already.
    head_sent: u32,
    pipe_bytes: u32,
    pipe_capacity: u32,
    streak: u32,
    promote_at: u32,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) spliced_bytes: u64,
}

impl Half {
    pub(crate) fn new(from: Side, relay: RelayMode) -> Half {
        let promote_at = match relay {
            RelayMode::Auto => PROMOTE_AFTER_BYTES,
            RelayMode::Copy => u32::MAX,
            RelayMode::Splice | RelayMode::UringSplice => 0,
        };
        Half {
            from,
            stage: Stage::Flowing,
            engine: Engine::Copy,
            in_flight: InFlight::default(),
            cancelling: false,
            starved: false,
            end_doubted: false,
            has_pipe: false,
            lean_rounds: 0,
            rounds: 0,
            queue: ChunkQueue::default(),
            head_sent: 0,
            pipe_bytes: 0,
            pipe_capacity: 0,
            streak: 0,
            promote_at,
            received_bytes: 0,
            sent_bytes: 0,
            spliced_bytes: 0,
        }
    }

    /// Whether the kernel still owes an answer on the source's socket.
    pub(crate) fn is_source_busy(&self) -> bool {
        self.in_flight
            .has(InFlight::RECEIVE | InFlight::POLL_IN | InFlight::SPLICE_IN)
    }

    /// Whether the kernel still owes an answer on the destination's socket.
    pub(crate) fn is_destination_busy(&self) -> bool {
        self.in_flight
            .has(InFlight::SEND | InFlight::POLL_OUT | InFlight::SPLICE_OUT)
    }

    /// Whether bytes are on their way into the destination's socket.
    pub(crate) fn is_sending(&self) -> bool {
        self.in_flight.has(InFlight::SEND | InFlight::SPLICE_OUT)
    }

    /// The same, by a splice.
    pub(crate) fn is_splicing_out(&self) -> bool {
        self.in_flight.has(InFlight::SPLICE_OUT)
    }

    /// Whether every byte received has been handed to the kernel for the destination.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
            && self.pipe_bytes == 0
            && !self
                .in_flight
                .has(InFlight::SEND | InFlight::SPLICE_OUT | InFlight::SPLICE_IN)
    }

    /// Whether bytes wait here, or may wait in the source's socket because nothing fetches them.
    pub(crate) fn holds_back(&self) -> bool {
        !self.is_drained() || (self.starved && self.stage == Stage::Flowing)
    }

    /// The source ended. Its bytes so far still go out.
    pub(crate) fn end(&mut self, end: End) {
        if self.stage == Stage::Flowing {
            self.stage = Stage::Draining(end);
        }
    }

    /// The destination takes no more: drops what waits. The kernel may still hold a buffer that is
    /// being sent and a pipe that is being spliced; those go when their operation answers.
    pub(crate) fn die(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Dead;
        self.cancel_receive(turn);
        self.drop_queue(turn);
        self.release_pipe(turn);
    }

    /// The flow closes and everything in flight was cancelled: drops what waits.
    pub(crate) fn abandon(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Dead;
        self.drop_queue(turn);
        self.release_pipe(turn);
    }

    /// Starts whatever can be started now.
    pub(crate) fn pump(&mut self, destination: Destination, turn: &mut Turn<'_>) {
        match self.stage {
            Stage::Flowing | Stage::Draining(_) => match self.engine {
                Engine::Copy => self.pump_copy(destination, turn),
                Engine::Splice => self.pump_splice(turn),
            },
            Stage::Delivered(_) | Stage::Dead => self.release_pipe(turn),
        }
    }

    // ── copy ────────────────────────────────────────────────────────────────────────────────────

    fn pump_copy(&mut self, destination: Destination, turn: &mut Turn<'_>) {
        if destination == Destination::Open {
            self.send_first(turn);
        }
        if self.stage != Stage::Flowing {
            return;
        }
        if destination == Destination::Open && self.streak >= self.promote_at {
            self.promote(turn);
        } else if self.in_flight.has(InFlight::RECEIVE) {
            if self.queue.count() >= QUEUED_CHUNKS_MAX {
                self.cancel_receive(turn);
            }
        } else if !self.starved
            && self.queue.bytes() <= QUEUED_BYTES_LOW
            && self.queue.count() <= QUEUED_CHUNKS_MAX / 2
        {
            self.in_flight.start(InFlight::RECEIVE);
            // Whole buffers, so that a stream fills each of them and shows itself as one.
            let budget = QUEUED_BYTES_MAX - self.queue.bytes();
            let budget = budget - budget % turn.params.chunk_size;
            turn.emit(Output::Receive {
                from: self.from,
                budget,
            });
        }
    }

    fn send_first(&mut self, turn: &mut Turn<'_>) {
        if self.in_flight.has(InFlight::SEND) {
            return;
        }
        if let Some(Chunk { buffer, len }) = self.queue.first(turn.chunks) {
            self.in_flight.start(InFlight::SEND);
            let (from, start) = (self.from, self.head_sent);
            turn.emit(Output::Send {
                from,
                buffer,
                start,
                len: len - start,
            });
        }
    }

    fn cancel_receive(&mut self, turn: &mut Turn<'_>) {
        if self.in_flight.has(InFlight::RECEIVE) && !self.cancelling {
            self.cancelling = true;
            turn.emit(Output::CancelReceive { from: self.from });
        }
    }

    /// Bytes arrived. Returns whether they count, or were dropped because nobody takes them.
    pub(crate) fn on_received(
        &mut self,
        chunk: Chunk,
        backlog: Backlog,
        rearm: Rearm,
        turn: &mut Turn<'_>,
    ) -> bool {
        if rearm == Rearm::Needed {
            self.receive_ended();
        }
        if self.stage != Stage::Flowing {
            turn.emit(Output::Recycle {
                buffer: chunk.buffer,
            });
            return false;
        }
        self.received_bytes += u64::from(chunk.len);
        let streams = chunk.len == turn.params.chunk_size && backlog == Backlog::Waiting;
        self.streak = if streams {
            self.streak.saturating_add(chunk.len)
        } else {
            0
        };
        self.queue.push(turn.chunks, chunk);
        true
    }

    /// The receive is over.
    pub(crate) fn receive_ended(&mut self) {
        self.in_flight.end(InFlight::RECEIVE);
        self.cancelling = false;
    }

    /// The receive is over because no buffer was free; none is tried until [`Half::buffers_free`].
    pub(crate) fn starve(&mut self) {
        self.receive_ended();
        self.starved = true;
    }

    /// Buffers are free again.
    pub(crate) fn buffers_free(&mut self) {
        self.starved = false;
    }

    /// The kernel took `result` bytes of the first chunk. Returns the fault, if that is what it was.
    pub(crate) fn on_sent(
        &mut self,
        result: Result<u32, Fault>,
        turn: &mut Turn<'_>,
    ) -> Option<Fault> {
        self.in_flight.end(InFlight::SEND);
        self.sent_bytes += u64::from(result.unwrap_or(0));
        if self.stage == Stage::Dead {
            self.drop_queue(turn);
            return None;
        }
        let sent = match result {
            Ok(sent) => sent,
            Err(fault) => return Some(fault),
        };
        self.head_sent += sent;
        let head = self
            .queue
            .first(turn.chunks)
            .expect("invariant: a send is of the first chunk");
        if self.head_sent >= head.len {
            self.pop_first(turn);
        }
        None
    }

    fn pop_first(&mut self, turn: &mut Turn<'_>) -> Option<BufferNumber> {
        let buffer = self.queue.pop(turn.chunks)?.buffer;
        self.head_sent = 0;
        turn.emit(Output::Recycle { buffer });
        Some(buffer)
    }

    /// Gives back every buffer but the one the kernel may still read from.
    fn drop_queue(&mut self, turn: &mut Turn<'_>) {
        if !self.in_flight.has(InFlight::SEND) {
            while self.pop_first(turn).is_some() {}
            return;
        }
        let sending = self.queue.pop(turn.chunks);
        while self.pop_first(turn).is_some() {}
        if let Some(chunk) = sending {
            self.queue.push(turn.chunks, chunk);
        }
    }

    // ── splice ──────────────────────────────────────────────────────────────────────────────────

    /// Changes to splice once nothing is in flight or queued; until then nothing new is received.
    fn promote(&mut self, turn: &mut Turn<'_>) {
        if self.in_flight.has(InFlight::RECEIVE) {
            self.cancel_receive(turn);
        } else if self.is_drained() {
            self.engine = Engine::Splice;
            self.lean_rounds = 0;
            self.pump_splice(turn);
        }
    }

    fn demote(&mut self, promote_at: u32, turn: &mut Turn<'_>) {
        self.release_pipe(turn);
        self.engine = Engine::Copy;
        self.streak = 0;
        self.promote_at = promote_at;
        self.pump_copy(Destination::Open, turn);
    }

    fn pump_splice(&mut self, turn: &mut Turn<'_>) {
        if self.pipe_bytes > 0 {
            if !self
                .in_flight
                .has(InFlight::SPLICE_OUT | InFlight::POLL_OUT)
            {
                self.splice_out(turn);
            }
        } else if self.stage != Stage::Flowing {
            self.release_pipe(turn);
        } else if !self
            .in_flight
            .has(InFlight::SPLICE_IN | InFlight::POLL_IN | InFlight::PIPE)
        {
            self.await_bytes(turn);
        }
    }

    /// The pipe is empty. Without a ring splice waiting on it, a quiet direction holds none.
    fn await_bytes(&mut self, turn: &mut Turn<'_>) {
        self.rounds = 0;
        match turn.params.relay {
            RelayMode::UringSplice => self.splice_in(turn),
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                self.release_pipe(turn);
                self.in_flight.start(InFlight::POLL_IN);
                turn.emit(Output::PollReadable { from: self.from });
            }
        }
    }

    fn splice_in(&mut self, turn: &mut Turn<'_>) {
        let (from, len) = (self.from, self.pipe_capacity);
        if !self.has_pipe {
            self.in_flight.start(InFlight::PIPE);
            turn.emit(Output::TakePipe { from });
            return;
        }
        self.in_flight.start(InFlight::SPLICE_IN);
        turn.emit(match turn.params.relay {
            RelayMode::UringSplice => Output::RingSpliceIn { from, len },
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => Output::SpliceIn { from, len },
        });
    }

    fn splice_out(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.start(InFlight::SPLICE_OUT);
        let (from, len) = (self.from, self.pipe_bytes);
        turn.emit(match turn.params.relay {
            RelayMode::UringSplice => Output::RingSpliceOut { from, len },
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                Output::SpliceOut { from, len }
            }
        });
    }

    /// The source is readable, ended or failed.
    pub(crate) fn on_readable(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.end(InFlight::POLL_IN);
        if self.stage == Stage::Flowing {
            self.splice_in(turn);
        }
    }

    /// The destination has room or failed.
    pub(crate) fn on_writable(&mut self) {
        self.in_flight.end(InFlight::POLL_OUT);
    }

    /// A pipe, or none is free: then the direction goes on as copy.
    pub(crate) fn on_pipe(&mut self, grant: Option<u32>, turn: &mut Turn<'_>) {
        self.in_flight.end(InFlight::PIPE);
        match grant {
            Some(capacity) => {
                self.has_pipe = true;
                self.pipe_capacity = capacity;
                if self.stage == Stage::Flowing {
                    self.splice_in(turn);
                } else {
                    self.release_pipe(turn);
                }
            }
            None if self.stage == Stage::Flowing => self.demote(PROMOTE_AGAIN_AFTER_BYTES, turn),
            None => {}
        }
    }

    /// Bytes went into the pipe. Returns how the source ended, if it did.
    pub(crate) fn on_spliced_in(
        &mut self,
        result: Result<u32, Fault>,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        self.in_flight.end(InFlight::SPLICE_IN);
        match result {
            Ok(bytes) if bytes > 0 => {
                self.pipe_bytes += bytes;
                if self.stage != Stage::Flowing {
                    return None;
                }
                self.received_bytes += u64::from(bytes);
                self.spliced_bytes += u64::from(bytes);
                let is_lean = bytes < LEAN_BYTES;
                self.lean_rounds = if is_lean {
                    self.lean_rounds.saturating_add(1)
                } else {
                    0
                };
                None
            }
            Ok(_) => Some(End::Fin),
            Err(_) if self.stage != Stage::Flowing => None,
            // Readable, and yet nothing to splice: urgent data, which splice(2) does not pass.
            Err(Fault::WouldBlock) => {
                self.demote(PROMOTE_AGAIN_AFTER_BYTES, turn);
                None
            }
            Err(Fault::Cancelled) => None,
            Err(Fault::Reset | Fault::Other) => Some(End::Reset),
        }
    }

    /// Bytes left the pipe. Returns the fault of the destination, if there was one.
    pub(crate) fn on_spliced_out(
        &mut self,
        result: Result<u32, Fault>,
        turn: &mut Turn<'_>,
    ) -> Option<Fault> {
        self.in_flight.end(InFlight::SPLICE_OUT);
        let moved = result.unwrap_or(0);
        self.sent_bytes += u64::from(moved);
        self.pipe_bytes = self.pipe_bytes.saturating_sub(moved);
        if self.stage == Stage::Dead {
            return None;
        }
        match result {
            Ok(_) | Err(Fault::WouldBlock) => {}
            Err(fault) => return Some(fault),
        }
        if self.pipe_bytes > 0 {
            self.await_room(turn);
        } else if self.stage == Stage::Flowing {
            self.next_round(turn);
        }
        None
    }

    fn await_room(&mut self, turn: &mut Turn<'_>) {
        match turn.params.relay {
            RelayMode::UringSplice => self.splice_out(turn),
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                self.in_flight.start(InFlight::POLL_OUT);
                turn.emit(Output::PollWritable { from: self.from });
            }
        }
    }

    fn next_round(&mut self, turn: &mut Turn<'_>) {
        self.rounds += 1;
        let is_auto = turn.params.relay == RelayMode::Auto;
        if is_auto && self.lean_rounds >= LEAN_ROUNDS_MAX {
            self.demote(PROMOTE_AFTER_BYTES, turn);
        } else if self.rounds < SPLICE_ROUNDS_MAX && self.lean_rounds == 0 {
            self.splice_in(turn);
        } else {
            self.await_bytes(turn);
        }
    }

    /// Gives the pipe up, unless an operation is still using it.
    pub(crate) fn release_pipe(&mut self, turn: &mut Turn<'_>) {
        if self.has_pipe
            && !self
                .in_flight
                .has(InFlight::SPLICE_IN | InFlight::SPLICE_OUT)
        {
            let residue = if self.pipe_bytes == 0 {
                Residue::Empty
            } else {
                Residue::Bytes
            };
            turn.emit(Output::GivePipe {
                from: self.from,
                residue,
            });
            self.has_pipe = false;
            self.pipe_bytes = 0;
        }
    }
}
