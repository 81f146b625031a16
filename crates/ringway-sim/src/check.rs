//! What must hold whenever something ends, whatever goes wrong. What must go on is in
//! `progress.rs`.
//!
//! | when | what |
//! | --- | --- |
//! | a FIN is passed on | its source ended by FIN and the destination's kernel has all of it |
//! | a socket is closed by FIN | that, or Ringway's own decision with nothing known undelivered |
//! | a socket is reset | not after a clean end; what came before a peer's reset was acknowledged |
//! | a flow finishes | nothing in flight, no buffer, no pipe; reason and counters are true |
//! | the world is over | everything was given back; each peer saw the end it was owed |

use ringway_flow::{CloseHow, Ended, Moment, Party, QUEUED_BYTES_MAX, Side, Span, Why};

use crate::kernel::Kernel;
use crate::link::End;
use crate::peer::{Peer, Seen};
use crate::session::{Session, SourceEnd};
use crate::world::{World, require};

/// What one direction held when the world ended, for what its reader saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) client: usize,
    pub(crate) backend: Option<usize>,
    pub(crate) ended: Ended,
}

pub(crate) fn after(start: Moment, span: Option<u64>) -> Moment {
    span.map_or(Moment::NEVER, |micros| {
        start.after(Span::from_micros(micros))
    })
}

/// The buffers that a direction holds are no larger together than `QUEUED_BYTES_MAX`.
pub(crate) fn held_bytes(session: &Session, buffer_size: u32) -> Result<(), String> {
    for from in Side::BOTH {
        let held = session.halves[from].buffers.len() as u32 * buffer_size;
        require(held <= QUEUED_BYTES_MAX, || {
            format!("{from:?} holds buffers of {held} bytes")
        })?;
    }
    Ok(())
}

/// Remembers where bytes lie that nothing was asked to fetch, in case the flow closes now.
pub(crate) fn note_unread(session: &mut Session, kernel: &Kernel) {
    for from in Side::BOTH {
        let link = session.link(from).map(|link| &kernel.links[link]);
        let unread = link.map_or(0, |link| link.unread(End::Proxy));
        let is_fetched = session.halves[from].source_busy || session.is_half_dead(from);
        session.halves[from].unread_at_close = unread > 0 && !is_fetched;
    }
}

/// A FIN may go to `to` only when the other peer has ended by FIN and `to` has all it wrote.
pub(crate) fn fin_passed_on(session: &Session, to: Side, peers: &[Peer]) -> Result<(), String> {
    let half = &session.halves[to.other()];
    require(!half.fin_passed, || format!("a second FIN to {to:?}"))?;
    require(!half.destination_busy, || {
        format!("a FIN to {to:?} during a send")
    })?;
    is_complete(session, to, peers)
}

fn is_complete(session: &Session, to: Side, peers: &[Peer]) -> Result<(), String> {
    let half = &session.halves[to.other()];
    let source = match to.other() {
        Side::Front => Some(session.client_peer),
        Side::Back => session.backend_peer,
    };
    let source = &peers[source.ok_or("a FIN from nobody")?];
    require(half.source_end == Some(SourceEnd::Fin), || {
        format!(
            "a FIN to {to:?}, but the other side ended by {:?}",
            half.source_end
        )
    })?;
    let due = source.written - session.skipped(to.other());
    require(source.has_shut && half.taken == due, || {
        format!("a FIN to {to:?} after {} of {due} bytes", half.taken)
    })
}

/// Everything about a flow that says it is over.
pub(crate) fn finished(
    session: &Session,
    ended: Ended,
    now: Moment,
    kernel: &Kernel,
    peers: &[Peer],
) -> Result<(), String> {
    let token = session.token;
    require(!kernel.has_anything_of(token), || {
        "finished with operations in flight".into()
    })?;
    let (buffers, pipes) = (kernel.buffers.held_by(token), kernel.pipes.held_by(token));
    require((buffers, pipes) == (0, 0), || {
        format!("finished with {buffers} buffers and {pipes} pipes")
    })?;
    for side in Side::BOTH {
        require(
            session.link(side).is_none() || session.closed[side].is_some(),
            || format!("finished with the socket {side:?} open"),
        )?;
        closed_rightly(session, side, ended, now, kernel, peers)?;
    }
    counters(session)?;
    reason(session, ended)
}

fn closed_rightly(
    session: &Session,
    side: Side,
    ended: Ended,
    now: Moment,
    kernel: &Kernel,
    peers: &[Peer],
) -> Result<(), String> {
    let Some(closed) = session.closed[side].filter(|closed| !closed.was_dead) else {
        return Ok(());
    };
    let half = &session.halves[side.other()];
    if closed.how == CloseHow::Fin {
        if session.connected && ended.by != Party::Ringway {
            return is_complete(session, side, peers);
        }
        require(half.delivered == half.taken, || {
            format!(
                "{side:?} gets a FIN instead of {} bytes",
                half.delivered - half.taken
            )
        })?;
        require(!half.unread_at_close, || {
            format!("{side:?} gets a FIN, but bytes wait")
        })?;
        let was_reset =
            half.source_end == Some(SourceEnd::Reset) || session.halves[side].destination_failed;
        return require(!was_reset, || format!("{side:?} gets a FIN for a reset"));
    }
    // Who leaves before it said where to gets what a refused client gets.
    require(ended.why != Why::Fin || session.is_looking(), || {
        format!("{side:?} is reset after a clean end")
    })?;
    if ended.why == Why::Reset && session.connected && !was_given_up(session) {
        let patience = session.flush_patience();
        let waited = session
            .resetting_since
            .map(|at| now.since(at).as_micros() as u64);
        require(
            closed.unacknowledged == 0 || waited.is_some_and(|waited| waited >= patience),
            || {
                format!(
                    "{side:?} is reset over {} unacknowledged bytes",
                    closed.unacknowledged
                )
            },
        )?;
        let left = session
            .link(side.other())
            .map_or(0, |it| kernel.links[it].unread(End::Proxy));
        require(half.delivered == half.taken && left == 0, || {
            format!("{side:?} is reset before {left} and more bytes that came earlier")
        })?;
    }
    Ok(())
}

/// Whether the flow had reason to pass a reset on over bytes that nobody takes.
fn was_given_up(session: &Session) -> bool {
    let patience = Some(session.flush_patience());
    session.resetting_since.is_none()
        && session
            .closing_since
            .is_some_and(|at| at >= after(session.moved, patience))
}

fn counters(session: &Session) -> Result<(), String> {
    let flow = &session.flow;
    require(flow.attempts() == session.attempts, || {
        format!(
            "{} attempts counted, {} made",
            flow.attempts(),
            session.attempts
        )
    })?;
    require(session.connected_marked == session.connected, || {
        "the mark of the connect".into()
    })?;
    require(
        session.first_byte_marked == (flow.received_bytes(Side::Back) > 0),
        || "the mark of the first byte".into(),
    )?;
    for from in Side::BOTH {
        let half = &session.halves[from];
        let (received, sent) = (flow.received_bytes(from), flow.sent_bytes(from.other()));
        require(sent == half.taken, || {
            format!("{sent} bytes counted, {} sent", half.taken)
        })?;
        require(
            sent <= received && received <= half.delivered && flow.spliced_bytes(from) <= received,
            || {
                format!(
                    "{sent} sent, {received} received, {} delivered",
                    half.delivered
                )
            },
        )?;
    }
    Ok(())
}

/// The reason given must be what happened, and no deadline may come early.
fn reason(session: &Session, ended: Ended) -> Result<(), String> {
    let deadlines = &session.deadlines;
    let at = session.closing_since.ok_or("finished without closing")?;
    let half_closed = Side::BOTH
        .iter()
        .any(|&from| session.halves[from].source_end.is_some() || session.is_half_dead(from));
    let is_true = match ended.why {
        Why::Fin if session.is_looking() => session.halves.front.source_end == Some(SourceEnd::Fin),
        Why::Fin => Side::BOTH
            .iter()
            .all(|&from| session.halves[from].source_end == Some(SourceEnd::Fin)),
        Why::Reset => session.is_reset(),
        Why::Idle => at >= after(session.moved, deadlines.idle),
        Why::HalfClose => half_closed && at >= after(session.moved, deadlines.half_close),
        Why::FirstByte => {
            session.flow.received_bytes(Side::Front) == 0
                && at >= after(session.born, deadlines.first_byte)
        }
        Why::Lifetime => at >= after(session.born, deadlines.lifetime),
        Why::Handshake => session.looks.is_some_and(|looks| {
            let is_late = at >= after(session.born, looks.deadline);
            !looks.is_over && (is_late || session.was_full_of_looks)
        }),
        Why::Refused => session.is_looking() && session.looks.is_some_and(|it| it.refuses),
        Why::ConnectFailed => !session.connected && session.backend_failed,
        Why::Resources => !session.connected && session.host_lacked,
        Why::NoBackend => !session.connected && session.attempts == 0,
        Why::Drain | Why::BackendDown | Why::HeldMemory => true,
        Why::Error => false,
    };
    require(is_true, || format!("{ended:?} is not what happened"))
}

impl World {
    pub(crate) fn check_over(&self) -> Result<(), String> {
        let free = self.kernel.buffers.free_count();
        require(free == self.buffer_count, || {
            format!("{free} buffers are left")
        })?;
        require(self.kernel.pipes.held() == 0, || {
            "a pipe was not given back".into()
        })?;
        require(self.wheel.armed() == 0, || {
            "a deadline is still armed".into()
        })?;
        let open: u32 = self
            .pool
            .indices()
            .map(|backend| self.pool.load(backend))
            .sum();
        require(open == 0, || {
            format!("{open} connections are still counted")
        })?;
        self.outcomes
            .iter()
            .try_for_each(|outcome| self.seen_rightly(outcome))
    }

    fn seen_rightly(&self, outcome: &Outcome) -> Result<(), String> {
        let peers = [Some(outcome.client), outcome.backend];
        for (number, other) in [(peers[0], peers[1]), (peers[1], peers[0])] {
            let Some(peer) = number.map(|number| &self.peers[number]) else {
                continue;
            };
            require(!peer.is_waiting(), || {
                format!("a peer is left hanging: {peer:?}")
            })?;
            let Some(other) = other.map(|other| &self.peers[other]) else {
                continue;
            };
            require(peer.read <= other.written, || {
                "more was read than written".into()
            })?;
            if peer.seen == Seen::Fin && outcome.ended.by != Party::Ringway {
                require(peer.read == other.written, || {
                    format!("a FIN after {} of {} bytes", peer.read, other.written)
                })?;
            }
        }
        Ok(())
    }
}
