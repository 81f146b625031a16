//! The life of one TCP connection through Ringway: connect with retries, relay in both directions,
//! half-close, reset, deadlines, end. No sockets, no clock: inputs come in, outputs go out.
//!
//! ```text
//!  Connecting ──connected──► Relaying ──both ends by FIN, a deadline, a drain──► Closing ─► Finished
//!    ▲ │                        └──one end by RST, bytes before it sent──► Resetting ──┘
//!    │ └──no backend left, client reset, a deadline────────────────────────► Closing
//!  Looking ──refused, any end of the client, a deadline────────────────────► Closing
//! ```
//!
//! Looking comes first where a listener asks for it: the client's first bytes say where to.
//!
//! Invariants: `Finished` comes only when nothing is in flight on either socket; a reset is passed on
//! only after every byte that came before it was acknowledged by the peer (or its deadline passed).

mod deadlines;
mod ending;
mod looking;

use crate::chunks::Chunks;
use crate::half::{Destination, End, Half, Stage};
use crate::{
    CloseHow, Ended, Fault, FlowParams, Input, Moment, Operation, Output, Party, PerSide, Side,
    Span, Why,
};

/// First pause before asking again whether the peer has acknowledged everything; doubles each time.
const UNSENT_RECHECK: Span = Span::from_micros(1_000);
/// Doublings of that pause at most: 64 ms.
const UNSENT_RECHECK_DOUBLINGS_MAX: u8 = 6;
/// A reset waits no longer than this for a peer that takes nothing, whatever `half_close` says.
const RESET_FLUSH_MAX: Span = Span::from_micros(30_000_000);
/// The answer to a send that has failed is long there when this has passed.
const DOUBT_MAX: Span = Span::from_micros(100_000);
/// A flow that moved a byte this recently is in the middle of something.
const QUIET_AFTER: Span = Span::from_micros(1_000_000);

/// How many receive buffers a worker has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough for each direction to hold several.
    Plenty,
    /// So few that a direction may hold one at most.
    Scarce,
}

/// What a flow needs from its worker while it handles one input.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The worker's clock, read once per turn.
    pub now: Moment,
    /// What the flow's listener and pool ask for.
    pub params: &'a FlowParams,
    /// Whether the worker has receive buffers to spare.
    pub room: Room,
    /// The links of the worker's buffers.
    pub chunks: &'a mut Chunks,
    /// Where requests go; the worker drains it in order.
    pub outputs: &'a mut Vec<Output>,
}

impl Turn<'_> {
    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push(output);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client's first bytes do not tell yet where to.
    Looking,
    /// A connect is in flight, or about to be.
    Connecting,
    Relaying,
    /// `side` gets a reset as soon as its peer has every byte.
    Resetting {
        side: Side,
        rechecks: u8,
        until: Moment,
        /// Bytes not acknowledged when that was last asked.
        unsent_bytes: u32,
    },
    /// Waiting for what is in flight, then the sockets are closed.
    Closing {
        how: PerSide<CloseHow>,
        ended: Ended,
    },
    Finished,
}

/// One connection of a client with its connection to a backend.
#[derive(Debug)]
pub struct Flow {
    phase: Phase,
    halves: PerSide<Half>,
    born: Moment,
    last_moved: Moment,
    /// When the connect in flight is given up, a doubted end believed or a reset tried again.
    step_at: Moment,
    deadline_changed: bool,
    connect_in_flight: bool,
    back_exists: bool,
    attempts: u8,
    /// Whether a connect failed for a reason that is not this host's own.
    backend_failed: bool,
    first_end: Option<Ended>,
}

impl Flow {
    /// A flow accepted at `now`. Give it [`Input::Accepted`] next.
    pub fn new(now: Moment, params: &FlowParams) -> Flow {
        Flow {
            phase: Phase::Connecting,
            halves: PerSide {
                front: Half::new(Side::Front, params.relay),
                back: Half::new(Side::Back, params.relay),
            },
            born: now,
            last_moved: now,
            step_at: Moment::NEVER,
            deadline_changed: true,
            connect_in_flight: false,
            back_exists: false,
            attempts: 0,
            backend_failed: false,
            first_end: None,
        }
    }

    /// Takes one input and appends what is to be done to `turn.outputs`.
    pub fn handle(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Accepted => self.on_accepted(turn),
            Input::Connected(result) => self.on_connected(result, turn),
            Input::NoBackend => self.on_no_backend(turn),
            Input::Received {
                from,
                chunk,
                backlog,
                rearm,
            } => {
                let half = &mut self.halves[from];
                let is_first = half.received_bytes == 0;
                if half.on_received(chunk, backlog, rearm, turn) {
                    self.moved(from, is_first, turn);
                } else {
                    self.lost_at_close(from);
                }
                self.pump(from, turn);
            }
            Input::EndOfStream { from } => {
                self.halves[from].receive_ended();
                // The ring keeps the order of receives and sends, not that of its splices.
                if self.halves[from.other()].is_splicing_out() {
                    self.doubt_end(from, turn);
                }
                self.source_ended(from, End::Fin, turn);
                self.pump(from, turn);
            }
            Input::ReceiveFailed { from, fault } => {
                self.halves[from].receive_ended();
                match fault {
                    Fault::Cancelled | Fault::WouldBlock => {}
                    Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other => {
                        self.source_ended(from, End::Reset, turn);
                    }
                }
                self.pump(from, turn);
            }
            Input::Starved { from } => {
                self.halves[from].starve();
                self.pump(from, turn);
            }
            Input::BuffersFree { from } => {
                self.halves[from].buffers_free();
                self.pump(from, turn);
            }
            Input::Sent { from, result } => {
                if result.is_ok() {
                    self.last_moved = turn.now;
                }
                if let Some(fault) = self.halves[from].on_sent(result, turn) {
                    self.destination_failed(from, fault, turn);
                }
                self.halves[from.other()].end_doubted = false;
                self.pump(from, turn);
            }
            Input::Readable { from } => self.halves[from].on_readable(turn),
            Input::Writable { from } => {
                self.halves[from].on_writable();
                self.pump(from, turn);
            }
            Input::Watched { from, fault } => {
                self.halves[from].watch_ended();
                match fault {
                    Fault::Cancelled | Fault::WouldBlock => {}
                    Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other => {
                        self.side_broke(from, turn);
                    }
                }
                self.pump(from, turn);
            }
            Input::Pipe { from, grant } => self.halves[from].on_pipe(grant, turn),
            Input::SplicedIn { from, result } => self.on_spliced_in(from, result, turn),
            Input::SplicedOut { from, result } => {
                if result.is_ok() {
                    self.last_moved = turn.now;
                }
                if let Some(fault) = self.halves[from].on_spliced_out(result, turn) {
                    self.destination_failed(from, fault, turn);
                }
                self.halves[from.other()].end_doubted = false;
                self.pump(from, turn);
            }
            Input::Unsent { side, bytes } => self.on_unsent(side, bytes, turn),
            Input::Looked(finding) => self.on_looked(finding, turn),
            Input::Deadline => self.on_deadline(turn),
            Input::Close(why) => self.close_for(why, turn),
        }
        self.settle(turn);
    }

    /// The next moment at which [`Input::Deadline`] is due, if it changed since the last call.
    pub fn take_deadline_change(&mut self, params: &FlowParams) -> Option<Moment> {
        std::mem::take(&mut self.deadline_changed).then(|| self.deadline(params))
    }

    /// When the flow was accepted.
    pub fn born(&self) -> Moment {
        self.born
    }

    /// Bytes received from a side so far.
    pub fn received_bytes(&self, from: Side) -> u64 {
        self.halves[from].received_bytes
    }

    /// Bytes sent to a side so far.
    pub fn sent_bytes(&self, to: Side) -> u64 {
        self.halves[to.other()].sent_bytes
    }

    /// Bytes received from a side that went through a pipe rather than a buffer.
    pub fn spliced_bytes(&self, from: Side) -> u64 {
        self.halves[from].spliced_bytes
    }

    /// The operations that wait on this side's socket and are not being cancelled yet: what
    /// [`Output::CancelAll`] speaks of.
    pub fn operations(&self, side: Side) -> impl Iterator<Item = Operation> {
        let connect = side == Side::Back && self.connect_in_flight;
        let source = self.halves[side].source_operations();
        let destination = self.halves[side.other()].destination_operations();
        let connect = connect.then_some(Operation::Connect);
        source
            .into_iter()
            .chain(destination)
            .chain([connect])
            .flatten()
    }

    /// Backends tried so far.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// Whether no byte moved for a while and none is waiting: the flow may be closed gently.
    pub fn is_quiet(&self, now: Moment) -> bool {
        now >= self.last_moved.after(QUIET_AFTER) && self.is_whole()
    }

    /// When its last byte moved, or it began.
    pub fn last_moved(&self) -> Moment {
        self.last_moved
    }

    /// Whether the flow is past the point of being closed by anyone.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Finished)
    }

    // ── connecting ──────────────────────────────────────────────────────────────────────────────

    fn on_accepted(&mut self, turn: &mut Turn<'_>) {
        match turn.params.handshake {
            None => self.connect(turn),
            Some(within) => self.look_first(within),
        }
        self.pump(Side::Front, turn);
    }

    fn connect(&mut self, turn: &mut Turn<'_>) {
        self.attempts += 1;
        self.connect_in_flight = true;
        self.back_exists = true;
        self.set_step_at(turn.now.after(turn.params.connect));
        turn.emit(Output::Connect);
    }

    fn on_connected(&mut self, result: Result<(), Fault>, turn: &mut Turn<'_>) {
        self.connect_in_flight = false;
        self.set_step_at(Moment::NEVER);
        if self.phase != Phase::Connecting {
            if result.is_ok() {
                // Reached after all, it may have spoken already.
                self.lost_at_close(Side::Back);
            }
            return;
        }
        match result {
            Ok(()) => {
                self.phase = Phase::Relaying;
                self.last_moved = turn.now;
                turn.emit(Output::MarkConnected);
                self.pump(Side::Front, turn);
                self.pump(Side::Back, turn);
            }
            Err(fault) => {
                self.back_exists = false;
                turn.emit(Output::DiscardBack);
                self.on_connect_failed(fault, turn);
            }
        }
    }

    fn on_connect_failed(&mut self, fault: Fault, turn: &mut Turn<'_>) {
        match fault {
            Fault::Shortage => {
                let ended = Ended::by_ringway(Why::Resources);
                self.close(turn.params.refuse, CloseHow::Fin, ended, turn);
                return;
            }
            Fault::NoPorts => {}
            Fault::Reset | Fault::Cancelled | Fault::WouldBlock | Fault::Other => {
                self.backend_failed = true;
            }
        }
        if self.attempts < turn.params.attempts {
            self.connect(turn);
        } else {
            let ended = self.unconnected();
            self.close(turn.params.refuse, CloseHow::Fin, ended, turn);
        }
    }

    /// Why every attempt failed.
    fn unconnected(&self) -> Ended {
        if self.backend_failed {
            Ended {
                by: Party::Backend,
                why: Why::ConnectFailed,
            }
        } else {
            Ended::by_ringway(Why::Resources)
        }
    }

    fn on_no_backend(&mut self, turn: &mut Turn<'_>) {
        self.connect_in_flight = false;
        self.back_exists = false;
        // The attempt that found nobody to try is none.
        self.attempts -= 1;
        let ended = if self.attempts > 0 {
            self.unconnected()
        } else {
            Ended::by_ringway(Why::NoBackend)
        };
        if !self.is_closing() {
            self.close(turn.params.refuse, CloseHow::Fin, ended, turn);
        }
    }

    // ── relaying ────────────────────────────────────────────────────────────────────────────────

    fn pump(&mut self, from: Side, turn: &mut Turn<'_>) {
        let destination = match (from, self.phase) {
            (Side::Front, Phase::Connecting) => Destination::Pending,
            (Side::Back, Phase::Connecting) => return,
            (Side::Front | Side::Back, Phase::Looking) => return self.pump_looking(turn),
            (Side::Front | Side::Back, _) => Destination::Open,
        };
        self.halves[from].pump(destination, turn);
    }

    fn moved(&mut self, from: Side, is_first: bool, turn: &mut Turn<'_>) {
        self.last_moved = turn.now;
        if is_first && from == Side::Back {
            turn.emit(Output::MarkFirstByte);
        }
    }

    fn on_spliced_in(&mut self, from: Side, result: Result<u32, Fault>, turn: &mut Turn<'_>) {
        let received_before = self.halves[from].received_bytes;
        let end = self.halves[from].on_spliced_in(result, turn);
        if self.halves[from].received_bytes > received_before {
            self.moved(from, received_before == 0, turn);
        } else if matches!(result, Ok(bytes) if bytes > 0) {
            self.lost_at_close(from);
        }
        if let Some(end) = end {
            if end == End::Fin && self.halves[from.other()].is_sending() {
                self.doubt_end(from, turn);
            }
            self.source_ended(from, end, turn);
        }
        self.pump(from, turn);
    }

    /// `from` seems to have ended by FIN, but the answer to a send that is in flight may say that
    /// it was a reset: that answer is waited for before the FIN is passed on, though not for long,
    /// as a peer that has ended need not read.
    fn doubt_end(&mut self, from: Side, turn: &Turn<'_>) {
        self.halves[from].end_doubted = true;
        self.set_step_at(turn.now.after(DOUBT_MAX));
    }

    /// No more bytes will come from `from`. After a reset it takes no more either.
    fn source_ended(&mut self, from: Side, end: End, turn: &mut Turn<'_>) {
        if self.halves[from].stage != Stage::Flowing {
            if end == End::Reset {
                self.lost_at_close(from);
            }
            return;
        }
        // A send that failed has consumed the socket's error: the receive then sees a mere end.
        let end = if self.halves[from].was_reset {
            End::Reset
        } else {
            end
        };
        self.note_end(from, end);
        self.last_moved = turn.now;
        self.deadline_changed = true;
        self.halves[from].end(end);
        if end == End::Reset {
            self.halves[from.other()].die(turn);
            if self.phase == Phase::Connecting {
                self.close_as_ended(turn);
            }
        }
        if self.phase == Phase::Looking {
            self.left_early(turn);
        }
    }

    /// The bytes of half `from` cannot be sent.
    fn destination_failed(&mut self, from: Side, fault: Fault, turn: &mut Turn<'_>) {
        debug_assert_ne!(fault, Fault::WouldBlock);
        self.side_broke(from.other(), turn);
    }

    /// The connection of a side is broken: it takes nothing any more. What it sent before is still
    /// relayed, be it unread.
    fn side_broke(&mut self, side: Side, turn: &mut Turn<'_>) {
        self.halves[side].was_reset = true;
        if let Phase::Closing { ended, .. } = self.phase {
            // After both have ended by FIN nothing is lost.
            if ended.why != Why::Fin {
                self.lost_at_close(side);
            }
        } else if self.halves[side.other()].stage != Stage::Dead {
            self.note_end(side, End::Reset);
            self.last_moved = turn.now;
            self.deadline_changed = true;
            self.halves[side.other()].die(turn);
            match self.phase {
                Phase::Connecting => self.close_as_ended(turn),
                Phase::Looking => self.left_early(turn),
                Phase::Relaying
                | Phase::Resetting { .. }
                | Phase::Closing { .. }
                | Phase::Finished => {}
            }
        }
    }

    /// The first FIN names who ended the flow, unless a reset comes later.
    fn note_end(&mut self, side: Side, end: End) {
        let why = match end {
            End::Fin => Why::Fin,
            End::Reset => Why::Reset,
        };
        let overrides = match self.first_end {
            None => true,
            Some(first) => first.why == Why::Fin && why == Why::Reset,
        };
        if overrides {
            self.first_end = Some(Ended {
                by: side.into(),
                why,
            });
        }
    }
}
