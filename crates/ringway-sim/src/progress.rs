//! What must go on in every world: deadlines come when they are due, and while anything could move,
//! it moves.
//!
//! Invariant: these checks look at the sockets themselves and at what the flow was told, not at
//! what the flow thinks.

use std::time::Duration;

use ringway_flow::{Moment, Side, Span};

use crate::check::after;
use crate::link::{End, Readiness};
use crate::session::Session;
use crate::world::{World, require};

/// A deadline may be late by a tick of the wheel; another one for rounding.
const LATE_MAX: u64 = 2 * 1024;
/// The longest pause between two looks at what a peer has acknowledged.
const UNSENT_RECHECK_MAX: u64 = 64_000;
/// How long an end may be doubted while a send to the same socket is in flight.
const DOUBT_MAX: Duration = Duration::from_millis(102);

/// No deadline of a flow that still lives has passed.
fn no_deadline_missed(session: &Session, now: Moment) -> Result<(), String> {
    if session.closing_since.is_some() {
        return Ok(());
    }
    let deadlines = &session.deadlines;
    let has_end = Side::BOTH
        .iter()
        .any(|&from| session.halves[from].source_end.is_some() || session.is_half_dead(from));
    let front = &session.halves.front;
    let looks = session.looks.filter(|looks| !looks.is_over);
    let waits_for_first = front.delivered == 0 && front.source_end.is_none() && looks.is_none();
    let relays = session.connected && session.resetting_since.is_none();
    let connects = session
        .connecting_since
        .filter(|_| !session.connect_cancelled);
    let flush = session.flush_patience();
    let due = [
        ("lifetime", after(session.born, deadlines.lifetime)),
        (
            "handshake",
            looks.map_or(Moment::NEVER, |it| after(session.born, it.deadline)),
        ),
        (
            "connect",
            connects.map_or(Moment::NEVER, |since| after(since, deadlines.connect)),
        ),
        (
            "first_byte",
            match waits_for_first && !session.is_half_dead(Side::Front) {
                true => after(session.born, deadlines.first_byte),
                false => Moment::NEVER,
            },
        ),
        (
            "idle",
            match relays {
                true => after(session.moved, deadlines.idle),
                false => Moment::NEVER,
            },
        ),
        (
            "half_close",
            match relays && has_end {
                true => after(session.moved, deadlines.half_close),
                false => Moment::NEVER,
            },
        ),
        (
            "reset of a peer that takes nothing",
            match relays && session.is_reset() {
                true => after(session.moved, Some(flush)),
                false => Moment::NEVER,
            },
        ),
        (
            "reset",
            session.resetting_since.map_or(Moment::NEVER, |since| {
                after(since, Some(flush + UNSENT_RECHECK_MAX))
            }),
        ),
    ];
    for (name, at) in due {
        let latest = at.after(Span::from_micros(LATE_MAX));
        require(now <= latest, || {
            format!("the deadline {name} of {at:?} was missed")
        })?;
    }
    Ok(())
}

/// Nothing in the world can happen now: then no flow may owe anything.
fn not_stalled(session: &Session, world: &World) -> Result<(), String> {
    require(session.closing_since.is_none(), || {
        "closing, and nothing in flight".into()
    })?;
    if session.resetting_since.is_some() {
        return Ok(());
    }
    Side::BOTH
        .into_iter()
        .filter(|&from| !session.is_half_dead(from))
        .filter(|&from| from == Side::Front || session.connected)
        .try_for_each(|from| half_not_stalled(session, from, world))
}

fn half_not_stalled(session: &Session, from: Side, world: &World) -> Result<(), String> {
    let kernel = &world.kernel;
    let half = &session.halves[from];
    let source = session.link(from).map(|link| &kernel.links[link]);
    let destination = session
        .link(from.other())
        .filter(|_| session.connected)
        .map(|link| &kernel.links[link]);
    let in_pipe = kernel.pipes.content((session.token, from));
    let holds = !half.buffers.is_empty() || in_pipe.is_some_and(|pipe| !pipe.is_empty());
    let readable = source.is_some_and(|link| link.readiness(End::Proxy) != Readiness::Nothing);
    let is_broken = source.is_some_and(|link| link.has_error(End::Proxy));
    let is_told = half.source_end.is_some() || session.is_half_dead(from.other());
    require(!is_broken || is_told, || {
        format!("the reset of {from:?} is not noticed")
    })?;
    let waits = readable && half.source_end.is_none() && !half.starved;
    let enough = match session.is_looking() {
        true => session.may_rest(kernel.buffer_size),
        false => holds,
    };
    require(!waits || enough, || {
        format!("{from:?} is readable and nobody reads")
    })?;
    let Some(destination) = destination else {
        return Ok(());
    };
    require(!(holds && destination.is_writable(End::Proxy)), || {
        format!("{from:?} holds bytes that could go")
    })?;
    let other = &session.halves[from.other()];
    let may_doubt = other.destination_busy && world.now.since(session.moved) <= DOUBT_MAX;
    let owes_end = half.source_end.is_some() && !holds && !half.fin_passed;
    require(!owes_end || may_doubt, || {
        format!("the end of {from:?} is not passed on")
    })?;
    let reader = match from.other() {
        Side::Front => Some(session.client_peer),
        Side::Back => session.backend_peer,
    };
    let reader = reader.map(|reader| &world.peers[reader]);
    let is_blind = destination.readiness(End::Peer) == Readiness::Nothing
        && !destination.is_dead(End::Proxy)
        && reader.is_some_and(|reader| reader.is_waiting());
    require(!(half.fin_passed && is_blind), || {
        format!("the end of {from:?} did not arrive")
    })
}

impl World {
    pub(crate) fn check_deadlines(&self) -> Result<(), String> {
        self.sessions()
            .try_for_each(|it| no_deadline_missed(it, self.now))
    }

    pub(crate) fn check_not_stalled(&self) -> Result<(), String> {
        require(
            self.starved.is_empty() || self.kernel.buffers.free_count() == 0,
            || "buffers are free and somebody starves".into(),
        )?;
        self.sessions().try_for_each(|it| not_stalled(it, self))
    }
}
