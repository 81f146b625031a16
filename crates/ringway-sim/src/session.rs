//! A flow as the world's worker sees it: which sockets, buffers and operations are its own, what it
//! was told and when.
//!
//! Invariant: this bookkeeping is the world's own. It is compared with what the flow asks for,
//! never taken from it.

use std::collections::VecDeque;

use ringway_balance::{BackendIndex, Tried};
use ringway_flow::{
    BufferNumber, CloseHow, Ended, Fault, Flow, FlowParams, Input, Moment, PerSide, Rearm, Side,
};

use crate::kernel::Token;
use crate::looks::Looks;

/// The longest a reset waits for acknowledgements.
const RESET_FLUSH_MAX: u64 = 30_000_000;

/// Deadlines in microseconds; `None` is off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) connect: Option<u64>,
    pub(crate) first_byte: Option<u64>,
    pub(crate) idle: Option<u64>,
    pub(crate) half_close: Option<u64>,
    pub(crate) lifetime: Option<u64>,
}

/// How a source ended, as the flow was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceEnd {
    Fin,
    Reset,
}

/// What is known of one direction.
#[derive(Debug, Default)]
pub(crate) struct HalfView {
    /// A receive, a poll for bytes or a ring splice from the source is in flight.
    pub(crate) source_busy: bool,
    /// A watch of the source is in flight.
    pub(crate) watched: bool,
    /// The same for the destination.
    pub(crate) destination_busy: bool,
    /// Buffers the flow holds, in the order they came, with their lengths.
    pub(crate) buffers: VecDeque<(BufferNumber, u32)>,
    /// Bytes of the first buffer that are sent.
    pub(crate) head_sent: u32,
    pub(crate) starved: bool,
    /// Bytes the flow was told of.
    pub(crate) delivered: u64,
    /// Bytes the destination's kernel took.
    pub(crate) taken: u64,
    pub(crate) source_end: Option<SourceEnd>,
    pub(crate) destination_failed: bool,
    pub(crate) fin_passed: bool,
    /// Bytes lay in the source's socket and nothing was in flight for them when the flow chose to
    /// close.
    pub(crate) unread_at_close: bool,
}

/// What a socket was like when the flow closed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) how: CloseHow,
    pub(crate) was_dead: bool,
    pub(crate) unacknowledged: u32,
}

/// One flow with everything the worker knows about it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) token: Token,
    pub(crate) flow: Flow,
    pub(crate) params: FlowParams,
    pub(crate) deadlines: Deadlines,
    /// What is looked for before a backend is chosen.
    pub(crate) looks: Option<Looks>,
    pub(crate) attempts_max: u8,
    pub(crate) tried: Tried,
    pub(crate) backend: Option<BackendIndex>,
    /// The number of the client's stream; the backend's is the next one.
    pub(crate) stream: u32,
    pub(crate) client_peer: usize,
    pub(crate) backend_peer: Option<usize>,
    pub(crate) front: usize,
    pub(crate) back: Option<usize>,
    pub(crate) halves: PerSide<HalfView>,
    pub(crate) attempts: u8,
    /// A connect failed by its backend's doing, and for want of something of this host's own.
    pub(crate) backend_failed: bool,
    pub(crate) host_lacked: bool,
    pub(crate) connecting_since: Option<Moment>,
    pub(crate) connect_cancelled: bool,
    pub(crate) connected: bool,
    pub(crate) first_byte_marked: bool,
    pub(crate) connected_marked: bool,
    pub(crate) born: Moment,
    /// The last moment a byte moved or a source ended.
    pub(crate) moved: Moment,
    /// Everything on this side was to be cancelled.
    pub(crate) cancelled: PerSide<bool>,
    /// Since when a reset waits for acknowledgements, none having come meanwhile; and for how many
    /// bytes.
    pub(crate) resetting_since: Option<Moment>,
    pub(crate) resetting_bytes: u32,
    pub(crate) closing_since: Option<Moment>,
    /// It held all that it may when it chose to close.
    pub(crate) was_full_of_looks: bool,
    pub(crate) closed: PerSide<Option<Closed>>,
    pub(crate) ended: Option<Ended>,
}

impl Session {
    pub(crate) fn link(&self, side: Side) -> Option<usize> {
        match side {
            Side::Front => Some(self.front),
            Side::Back => self.back,
        }
    }

    /// Whether the kernel owes an answer on this side's socket.
    pub(crate) fn is_busy(&self, side: Side) -> bool {
        self.halves[side].source_busy
            || self.halves[side].watched
            || self.halves[side.other()].destination_busy
            || (side == Side::Back && self.connecting_since.is_some())
    }

    /// Whether a half's destination takes nothing any more, as far as the flow was told.
    pub(crate) fn is_half_dead(&self, from: Side) -> bool {
        self.halves[from].destination_failed
            || self.halves[from.other()].source_end == Some(SourceEnd::Reset)
    }

    /// Writes down what the flow is about to be told.
    pub(crate) fn note(&mut self, input: &Input, now: Moment) {
        match *input {
            Input::Accepted | Input::Deadline | Input::Close(_) | Input::Pipe { .. } => {}
            Input::Connected(result) => {
                match result {
                    Ok(()) => {}
                    Err(Fault::NoPorts | Fault::Shortage) => self.host_lacked = true,
                    Err(Fault::Reset | Fault::Cancelled | Fault::WouldBlock | Fault::Other) => {
                        self.backend_failed = true;
                    }
                }
                self.connecting_since = None;
                self.connected = result.is_ok() && self.closing_since.is_none();
                self.touch(now);
            }
            Input::NoBackend => self.connecting_since = None,
            Input::Received {
                from, chunk, rearm, ..
            } => {
                let half = &mut self.halves[from];
                half.source_busy = rearm == Rearm::Armed;
                half.buffers.push_back((chunk.buffer, chunk.len));
                half.delivered += u64::from(chunk.len);
                self.note_moved_in(from, now);
            }
            Input::EndOfStream { from } => self.note_end(from, SourceEnd::Fin, now),
            Input::ReceiveFailed { from, fault } => match fault {
                Fault::Cancelled | Fault::WouldBlock => self.halves[from].source_busy = false,
                Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other => {
                    self.note_end(from, SourceEnd::Reset, now);
                }
            },
            Input::Starved { from } => {
                self.halves[from].source_busy = false;
                self.halves[from].starved = true;
            }
            Input::BuffersFree { from } => self.halves[from].starved = false,
            Input::Readable { from } => self.halves[from].source_busy = false,
            Input::Writable { from } => self.halves[from].destination_busy = false,
            Input::Sent { from, result } => {
                self.note_taken(from, result, now);
                if let Ok(sent) = result {
                    self.halves[from].head_sent += sent;
                }
            }
            Input::Watched { from, fault } => {
                self.halves[from].watched = false;
                match fault {
                    Fault::Cancelled | Fault::WouldBlock => {}
                    // Nothing can be sent to it any more; what it sent before may be unread.
                    Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other => {
                        self.note_broken(from, now);
                    }
                }
            }
            Input::SplicedIn { from, result } => match result {
                Ok(0) => self.note_end(from, SourceEnd::Fin, now),
                Ok(moved) => {
                    self.halves[from].source_busy = false;
                    self.halves[from].delivered += u64::from(moved);
                    self.note_moved_in(from, now);
                }
                Err(Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other) => {
                    self.note_end(from, SourceEnd::Reset, now)
                }
                Err(Fault::Cancelled | Fault::WouldBlock) => self.halves[from].source_busy = false,
            },
            Input::SplicedOut { from, result } => self.note_taken(from, result, now),
            Input::Unsent { .. } => {}
            Input::Looked(finding) => {
                self.was_full_of_looks = self.is_full_of_looks();
                self.note_looked(finding);
            }
        }
    }

    fn note_end(&mut self, from: Side, end: SourceEnd, now: Moment) {
        self.halves[from].source_busy = false;
        // A flow that drops what comes from this side does not listen to how it ends either.
        if self.halves[from].source_end.is_none() && !self.is_half_dead(from) {
            let was_reset = self.halves[from.other()].destination_failed;
            let end = if was_reset { SourceEnd::Reset } else { end };
            self.halves[from].source_end = Some(end);
            self.touch(now);
        }
    }

    /// What happens once the flow closes moves no deadline.
    fn touch(&mut self, now: Moment) {
        if self.closing_since.is_none() {
            self.moved = now;
        }
    }

    /// Bytes that are dropped do not count as moved.
    fn note_moved_in(&mut self, from: Side, now: Moment) {
        if !self.is_half_dead(from) {
            self.touch(now);
        }
    }

    fn note_taken(&mut self, from: Side, result: Result<u32, Fault>, now: Moment) {
        let half = &mut self.halves[from];
        half.destination_busy = false;
        match result {
            Ok(bytes) => {
                half.taken += u64::from(bytes);
                self.touch(now);
            }
            Err(Fault::WouldBlock | Fault::Cancelled) => {}
            Err(Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other) => {
                self.note_broken(from.other(), now)
            }
        }
    }

    /// The connection of a side is broken.
    fn note_broken(&mut self, side: Side, now: Moment) {
        let was_dead = self.is_half_dead(side.other());
        self.halves[side.other()].destination_failed = true;
        if !was_dead {
            self.touch(now);
        }
    }

    /// Whether one of the peers has reset, as the flow was told.
    pub(crate) fn is_reset(&self) -> bool {
        Side::BOTH.iter().any(|&from| self.is_half_dead(from))
    }

    /// How long a peer that takes nothing is waited for before a reset is passed on.
    pub(crate) fn flush_patience(&self) -> u64 {
        let half_close = self.deadlines.half_close;
        half_close.unwrap_or(RESET_FLUSH_MAX).min(RESET_FLUSH_MAX)
    }
}
