//! One direction of a flow: what was received and not yet sent, which operations are in flight for
//! it, and which engine moves it. It does not know the other direction; ends that concern both are
//! decided in [`crate::Flow`].
//!
//! ```text
//!  Flowing ──FIN or RST from the source──► Draining ──last byte handed to the kernel──► Delivered
//!     └────────────the destination fails, or the flow closes────────► Dead ◄────────────────┘
//! ```
//!
//! Invariant: the buffers held are no larger together than [`QUEUED_BYTES_MAX`]: a receive is armed
//! with a budget of no more than what is left of it and ends by itself when the budget is used up, and
//! pieces that would need another buffer are moved together.

mod burst;
mod looking;
mod splicing;

use crate::chunks::{BufferNumber, Chunk, ChunkQueue, Gathered};
use crate::flow::{Room, Turn};
use crate::{Backlog, Fault, Operation, Output, Rearm, RelayMode, Residue, Side};

/// What the buffers that a half holds have room for at most: the memory of a blocked direction.
pub const QUEUED_BYTES_MAX: u32 = 64 * 1024;
/// A receive is armed again once no more than this waits, so that its budget is worth an operation.
const QUEUED_BYTES_LOW: u32 = QUEUED_BYTES_MAX / 2;
/// Bytes received in large bursts, after which `auto` promotes.
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
    const WATCH: u8 = 1 << 7;
    /// Each of these brings bytes or learns how the source ends, now or with the next answer.
    const FROM_SOURCE: u8 = Self::RECEIVE | Self::POLL_IN | Self::SPLICE_IN | Self::PIPE;

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
    /// The source is known to be broken; what it sent before may still be unread.
    pub(crate) was_reset: bool,
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
    /// Bytes received since the source's socket was last seen empty.
    burst: u32,
    /// Bytes received in bursts of a full buffer or more, one after the other.
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
            was_reset: false,
            end_doubted: false,
            has_pipe: false,
            lean_rounds: 0,
            rounds: 0,
            queue: ChunkQueue::default(),
            head_sent: 0,
            pipe_bytes: 0,
            pipe_capacity: 0,
            burst: 0,
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
            .has(InFlight::RECEIVE | InFlight::POLL_IN | InFlight::SPLICE_IN | InFlight::WATCH)
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

    /// The operations that wait on the source's socket and are not being cancelled yet.
    pub(crate) fn source_operations(&self) -> [Option<Operation>; 4] {
        let from = self.from;
        let has = |flag, operation| self.in_flight.has(flag).then_some(operation);
        [
            has(InFlight::RECEIVE, Operation::Receive { from }).filter(|_| !self.cancelling),
            has(InFlight::POLL_IN, Operation::PollReadable { from }),
            has(InFlight::SPLICE_IN, Operation::SpliceIn { from }),
            has(InFlight::WATCH, Operation::Watch { from }),
        ]
    }

    /// The operations that wait on the destination's socket.
    pub(crate) fn destination_operations(&self) -> [Option<Operation>; 2] {
        let from = self.from;
        let has = |flag, operation| self.in_flight.has(flag).then_some(operation);
        [
            has(InFlight::POLL_OUT, Operation::PollWritable { from }),
            has(InFlight::SPLICE_OUT, Operation::SpliceOut { from }),
        ]
    }

    /// Whether every byte received has been handed to the kernel for the destination.
    pub(crate) fn is_drained(&self) -> bool {
        !self.has_bytes() && !self.in_flight.has(InFlight::SPLICE_IN)
    }

    fn has_bytes(&self) -> bool {
        !self.queue.is_empty() || self.pipe_bytes > 0 || self.is_sending()
    }

    /// Whether bytes wait here, or may wait in the source's socket because nothing fetches them. A
    /// splice of the ring that waits for bytes has none; those it brings after all are noticed.
    pub(crate) fn holds_back(&self) -> bool {
        self.has_bytes() || (self.starved && self.stage == Stage::Flowing)
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

    /// While the destination has no room, or no buffer is free, nothing on the source would tell that
    /// it is broken. Once asked for, the watch stays: a direction that is held up time and again has
    /// one all the same.
    #[inline(never)]
    fn watch_if_held_up(&mut self, turn: &mut Turn<'_>) {
        const GOES_ON: u8 = InFlight::FROM_SOURCE | InFlight::SEND | InFlight::WATCH;
        if self.in_flight.has(GOES_ON) || self.stage != Stage::Flowing || self.was_reset {
            return;
        }
        // A splice of the ring waits for room by itself.
        let waits = match turn.params.relay {
            RelayMode::UringSplice => true,
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                !self.in_flight.has(InFlight::SPLICE_OUT)
            }
        };
        if waits {
            self.watch(turn);
        }
    }

    #[cold]
    fn watch(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.start(InFlight::WATCH);
        turn.emit(Output::Watch { from: self.from });
    }

    /// The watch is over.
    pub(crate) fn watch_ended(&mut self) {
        self.in_flight.end(InFlight::WATCH);
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
        } else if !self.in_flight.has(InFlight::RECEIVE)
            && !self.starved
            && self.may_receive(turn.room)
        {
            self.in_flight.start(InFlight::RECEIVE);
            let budget = self.budget(turn);
            turn.emit(Output::Receive {
                from: self.from,
                budget,
            });
        }
        if !self.in_flight.has(InFlight::RECEIVE) {
            self.watch_if_held_up(turn);
        }
    }

    fn may_receive(&self, room: Room) -> bool {
        match room {
            Room::Plenty => self.queue.bytes() <= QUEUED_BYTES_LOW,
            Room::Scarce => self.queue.is_empty(),
        }
    }

    /// Whole buffers, so that a stream fills each of them and shows itself as one; while they are
    /// scarce a single one, so that those who do not read leave some to those who do.
    fn budget(&self, turn: &Turn<'_>) -> u32 {
        let chunk_size = turn.params.chunk_size;
        match turn.room {
            Room::Plenty => {
                let budget = buffers_max(chunk_size) * chunk_size - self.queue.bytes();
                budget - budget % chunk_size
            }
            Room::Scarce => chunk_size,
        }
    }

    fn send_first(&mut self, turn: &mut Turn<'_>) {
        if self.in_flight.has(InFlight::SEND | InFlight::POLL_OUT) {
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
        self.note_burst(chunk.len, backlog, turn.params.chunk_size);
        self.queue.push(turn.chunks, chunk);
        if u32::from(self.queue.count()) > buffers_max(turn.params.chunk_size) {
            self.gather(turn);
        }
        true
    }

    /// Small pieces fill many buffers; together they need no more than their budget.
    #[cold]
    fn gather(&mut self, turn: &mut Turn<'_>) {
        let Turn {
            params,
            chunks,
            outputs,
            ..
        } = turn;
        self.queue.gather(chunks, params.chunk_size, |step| {
            outputs.push(match step {
                Gathered::Moved {
                    to,
                    at,
                    from,
                    len,
                    rest,
                } => Output::Gather {
                    to,
                    at,
                    from,
                    len,
                    rest,
                },
                Gathered::Emptied { buffer } => Output::Recycle { buffer },
            });
        });
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
            Err(Fault::WouldBlock) => {
                self.poll_writable(turn);
                return None;
            }
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
}

/// How many buffers a half holds at most.
fn buffers_max(chunk_size: u32) -> u32 {
    QUEUED_BYTES_MAX / chunk_size
}
