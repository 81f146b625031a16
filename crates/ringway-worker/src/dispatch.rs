//! From a completion of the ring to an input of a flow: one match, no decisions.

use ringway_flow::{Backlog, Chunk, Fault, Input, Rearm, Side};
use ringway_metrics::{ConnectError, Peer};
use ringway_uring::{Completion, CompletionKind, Errno, Interest, Operation, Readiness};

use crate::access::AttemptOutcome;
use crate::effects::checked_end;
use crate::tag::Tag;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn dispatch(&mut self, completion: Completion) {
        let Completion { token, kind, more } = completion;
        match (Tag::from_raw(token.tag), kind) {
            (Some(Tag::Accept), CompletionKind::Accepted(result)) => {
                self.on_accepted(token.slot, result, more);
            }
            (Some(Tag::Mailbox), _) => self.on_mailbox(more),
            (Some(tag), kind) if self.slots.is_current(token.slot, token.generation) => {
                if let Some(input) = self.translate(token.slot, tag, kind, more) {
                    self.feed(token.slot, input);
                }
            }
            (_, kind) => self.drop_stale(kind),
        }
    }

    fn on_mailbox(&mut self, more: bool) {
        if !more {
            self.arm_mailbox();
        }
        self.read_mailbox();
    }

    /// A completion of a flow that is gone cannot be: slots are freed after their last one. If it
    /// happens all the same, what it carries is given back and it is counted.
    fn drop_stale(&mut self, kind: CompletionKind) {
        self.blocks.worker.stale_completions.increment();
        match kind {
            CompletionKind::Received {
                buffer: Some(buffer),
                ..
            }
            | CompletionKind::Sent { buffer, .. } => self.ring.recycle(buffer),
            CompletionKind::Accepted(_)
            | CompletionKind::Received { buffer: None, .. }
            | CompletionKind::Connected(_)
            | CompletionKind::Polled(_)
            | CompletionKind::Spliced(_) => {}
        }
    }

    fn translate(
        &mut self,
        slot: u32,
        tag: Tag,
        kind: CompletionKind,
        more: bool,
    ) -> Option<Input> {
        match (tag, kind) {
            (
                Tag::Receive(from),
                CompletionKind::Received {
                    result,
                    buffer,
                    nonempty,
                },
            ) => {
                let Some(buffer) = buffer else {
                    return Some(self.without_bytes(slot, from, result));
                };
                let len = result.unwrap_or(0);
                let held = self.slots.get(slot);
                // What is no payload is none of a route's bytes, and what is will be counted.
                if held.inspection.is_none() {
                    let route = &self.blocks.routes[usize::from(held.route)];
                    route.received_bytes[peer(from)].add(u64::from(len));
                }
                Some(Input::Received {
                    from,
                    chunk: Chunk {
                        buffer: buffer.index() as u16,
                        len,
                    },
                    backlog: if nonempty {
                        Backlog::Waiting
                    } else {
                        Backlog::Empty
                    },
                    rearm: if more { Rearm::Armed } else { Rearm::Needed },
                })
            }
            (Tag::Send(from), CompletionKind::Sent { result, .. }) => {
                let result = result.map_err(fault);
                self.count_sent(
                    slot,
                    from,
                    result.unwrap_or(0),
                    ringway_metrics::Engine::Copy,
                );
                Some(Input::Sent { from, result })
            }
            (Tag::Connect, CompletionKind::Connected(result)) => self.on_connected(slot, result),
            (Tag::PollIn(from), CompletionKind::Polled(_)) => Some(Input::Readable { from }),
            (Tag::PollOut(from), CompletionKind::Polled(result)) => {
                self.on_polled_out(slot, from, result, more)
            }
            (Tag::PollIn(from), CompletionKind::Spliced(result)) => {
                let socket = self.slots.get(slot).socket(from);
                let result = checked_end(socket, result.map_err(fault));
                self.count_spliced_in(slot, from, result);
                Some(Input::SplicedIn { from, result })
            }
            (Tag::PollOut(from), CompletionKind::Spliced(result)) => {
                let result = result.map_err(fault);
                let engine = ringway_metrics::Engine::UringSplice;
                self.count_sent(slot, from, result.unwrap_or(0), engine);
                Some(Input::SplicedOut { from, result })
            }
            (Tag::Watch(from), CompletionKind::Polled(result)) => {
                self.on_watched(slot, from, result, more)
            }
            (_, kind) => {
                self.drop_stale(kind);
                None
            }
        }
    }

    fn without_bytes(&mut self, slot: u32, from: Side, result: Result<u32, Errno>) -> Input {
        match result {
            Ok(_) => Input::EndOfStream { from },
            Err(errno) if errno.is_no_buffers() => {
                self.blocks.worker.ring.buffers_exhausted.increment();
                self.note_starved(slot, from);
                Input::Starved { from }
            }
            Err(errno) => Input::ReceiveFailed {
                from,
                fault: fault(errno),
            },
        }
    }

    /// Perhaps there is room in the destination. A socket whose peer has ended is called ready for
    /// ever after: then changes are listened to, until one of them is room.
    fn on_polled_out(
        &mut self,
        slot: u32,
        from: Side,
        result: Result<Readiness, Errno>,
        more: bool,
    ) -> Option<Input> {
        let held = self.slots.get(slot);
        let token = Tag::PollOut(from).of(slot, self.slots.generation(slot));
        let is_ready = match result {
            Ok(ready) => ready.is_writable() || ready.is_error() || ready.is_hung_up(),
            Err(_) => true,
        };
        match (is_ready || held.flow.is_closing(), more) {
            (true, false) => return Some(Input::Writable { from }),
            // Its last completion is the answer.
            (true, true) => self.ring.cancel(token, Operation::Poll),
            (false, true) => {}
            (false, false) => {
                let to = held.socket(from.other());
                self.ring.poll_multishot(to, token, Interest::Writable);
            }
        }
        None
    }

    /// Perhaps the connection is broken, perhaps only a FIN has come: there may be bytes before it, so
    /// that is for those who read to find out.
    fn on_watched(
        &mut self,
        slot: u32,
        from: Side,
        result: Result<Readiness, Errno>,
        more: bool,
    ) -> Option<Input> {
        let held = self.slots.get(slot);
        let token = Tag::Watch(from).of(slot, self.slots.generation(slot));
        let fault = match (result, more) {
            (Ok(ready), true) => {
                if ready.is_error() {
                    // Its last completion is the answer.
                    self.ring.cancel(token, Operation::Poll);
                }
                return None;
            }
            (Ok(ready), false) if ready.is_error() => Fault::Reset,
            // For want of room for completions, say.
            (Ok(_), false) if !held.flow.is_closing() => {
                let source = held.socket(from);
                self.ring.poll_multishot(source, token, Interest::Hangup);
                return None;
            }
            // A flow cancels it only when it closes.
            (Err(errno), _) if errno.is_cancelled() && !held.flow.is_closing() => Fault::Reset,
            (Ok(_) | Err(_), _) => Fault::Cancelled,
        };
        Some(Input::Watched { from, fault })
    }

    /// Notes how an attempt to connect ended, where it is counted and where it is logged.
    pub(crate) fn note_attempt(&mut self, slot: u32, result: Result<(), Errno>) {
        self.judge_attempt(slot, result);
        let outcome = match result {
            Ok(()) => AttemptOutcome::Connected,
            // Only a deadline cancels a connect whose flow goes on.
            Err(errno) if errno.is_cancelled() => AttemptOutcome::Failed(ConnectError::Timeout),
            Err(errno) if errno.is_shortage() => return self.forget_attempt(slot),
            Err(errno) => AttemptOutcome::Failed(ConnectError::from_errno(errno.0)),
        };
        self.note_outcome(slot, outcome);
    }
}

pub(crate) fn peer(side: Side) -> Peer {
    match side {
        Side::Front => Peer::Client,
        Side::Back => Peer::Backend,
    }
}

/// What an error number means to a flow.
pub(crate) fn fault(errno: Errno) -> Fault {
    if errno.is_would_block() {
        Fault::WouldBlock
    } else if errno.is_cancelled() {
        Fault::Cancelled
    } else if errno.is_reset() {
        Fault::Reset
    } else {
        Fault::Other
    }
}
