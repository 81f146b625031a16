//! Carries out what a flow asks for, and refuses what it may not ask for.
//!
//! Outputs are carried out first in, first out; what one of them answers at once is fed back before
//! the next one. A request that breaks the contract of [`Output`] is an error that ends the world.

use std::collections::VecDeque;

use ringway_balance::Pick;
use ringway_flow::{
    BufferNumber, CloseHow, Fault, Input, Operation as Target, Output, QUEUED_BYTES_MAX, Side, Turn,
};

use crate::check;
use crate::kernel::{Cancel, Kind};
use crate::link::{End, Link};
use crate::options::Canary;
use crate::session::{Closed, Session};
use crate::tally::output_name;
use crate::world::{World, require};

impl World {
    /// Gives an input to the session in `slot` and carries out everything that follows from it.
    pub(crate) fn feed(&mut self, slot: usize, input: Input) -> Result<(), String> {
        let mut queue = VecDeque::new();
        self.handle(slot, input, &mut queue)?;
        while let Some(output) = queue.pop_front() {
            let session = self.session(slot)?;
            require(session.ended.is_none(), || {
                format!("{output:?} after Finished")
            })?;
            self.trace(|| format!("    {slot}: {output:?}"));
            self.tally.count(output_name(&output));
            if let Some(answer) = self.carry_out(slot, output)? {
                self.handle(slot, answer, &mut queue)?;
            }
        }
        self.after_turn(slot)
    }

    fn handle(
        &mut self,
        slot: usize,
        input: Input,
        queue: &mut VecDeque<Output>,
    ) -> Result<(), String> {
        self.trace(|| format!("  {slot}: {input:?}"));
        let now = self.now;
        let session = self.slots[slot]
            .as_mut()
            .ok_or_else(|| format!("{input:?} for an empty slot"))?;
        session.note(&input, now);
        let was_closing = session.flow.is_closing();
        if !was_closing {
            check::note_unread(session, &self.kernel);
        }
        let mut outputs = Vec::new();
        session.flow.handle(
            input,
            &mut Turn {
                now,
                params: &session.params,
                room: self.kernel.buffers.room(),
                chunks: &mut self.chunks,
                outputs: &mut outputs,
            },
        );
        if !was_closing && session.flow.is_closing() {
            session.closing_since = Some(now);
        }
        queue.extend(outputs);
        Ok(())
    }

    fn after_turn(&mut self, slot: usize) -> Result<(), String> {
        let session = self.slots[slot]
            .as_mut()
            .ok_or("invariant: a session stays in its slot until here")?;
        if session.ended.is_some() {
            return self.free_slot(slot);
        }
        if let Some(at) = session.flow.take_deadline_change(&session.params) {
            self.wheel.set(slot as u32, at);
        }
        check::held_bytes(session, self.kernel.buffer_size)
    }

    fn carry_out(&mut self, slot: usize, output: Output) -> Result<Option<Input>, String> {
        match output {
            Output::Look => return self.look(slot).map(Some),
            Output::Connect => return self.connect(slot),
            Output::CancelConnect => {
                let session = self.session_mut(slot)?;
                session.connect_cancelled = true;
                self.cancel(slot, Target::Connect)?;
            }
            Output::DiscardBack => self.discard_back(slot)?,
            Output::MarkConnected => {
                let session = self.session_mut(slot)?;
                require(!session.connected_marked, || {
                    "marked connected twice".into()
                })?;
                session.connected_marked = true;
            }
            Output::MarkFirstByte => {
                let session = self.session_mut(slot)?;
                require(!session.first_byte_marked, || {
                    "marked a first byte twice".into()
                })?;
                session.first_byte_marked = true;
            }
            Output::Receive { from, budget } => self.receive(slot, from, budget)?,
            Output::CancelReceive { from } => self.cancel(slot, Target::Receive { from })?,
            Output::Send {
                from,
                buffer,
                start,
                len,
            } => self.send(slot, from, (buffer, start, len))?,
            Output::Gather {
                to,
                at,
                from,
                len,
                rest,
            } => self.gather(slot, (to, at), (from, len, rest))?,
            Output::Recycle { buffer } => self.recycle(slot, buffer)?,
            Output::PollReadable { from } => {
                let spuriously = self.dice.chance(self.options.faults.false_readiness);
                self.start_in(slot, from, Kind::PollIn { spuriously })?;
            }
            Output::PollWritable { from } => self.start_out(slot, from, Kind::PollOut)?,
            Output::Watch { from } => self.watch(slot, from)?,
            Output::TakePipe { from } => return self.take_pipe(slot, from).map(Some),
            Output::GivePipe { from, residue } => self.give_pipe(slot, from, residue)?,
            Output::SpliceIn { from, len } => return self.splice_in(slot, from, len).map(Some),
            Output::SpliceOut { from, len } => return self.splice_out(slot, from, len).map(Some),
            Output::RingSpliceIn { from, len } => {
                self.require_pipe(slot, from, None)?;
                self.start_in(slot, from, Kind::SpliceIn { len })?;
            }
            Output::RingSpliceOut { from, len } => {
                self.require_pipe(slot, from, Some(len))?;
                self.start_out(slot, from, Kind::SpliceOut { len })?;
            }
            Output::ShutdownWrite { to } => self.shutdown_write(slot, to)?,
            Output::CheckUnsent { side } => return self.check_unsent(slot, side).map(Some),
            Output::CancelAll { side } => {
                let session = self.session_mut(slot)?;
                session.cancelled[side] = true;
                let targets: Vec<_> = session.flow.operations(side).collect();
                for target in targets {
                    self.cancel(slot, target)?;
                }
            }
            Output::CloseSocket { side, how } => self.close_socket(slot, side, how)?,
            Output::Finished(ended) => {
                let now = self.now;
                let session = self.session_mut(slot)?;
                session.ended = Some(ended);
                self.tally.count_ended(ended);
                let session = self.session(slot)?;
                check::finished(session, ended, now, &self.kernel, &self.peers)?;
            }
        }
        Ok(None)
    }

    // ── connecting ──────────────────────────────────────────────────────────────────────────────

    fn connect(&mut self, slot: usize) -> Result<Option<Input>, String> {
        let is_full = self.dice.chance(self.options.faults.pool_full);
        let Some(session) = self.slots[slot].as_mut() else {
            return Err("a connect for an empty slot".into());
        };
        require(session.back.is_none(), || {
            "a second socket to a backend".into()
        })?;
        require(session.connecting_since.is_none(), || {
            "a second connect".into()
        })?;
        require(
            session.tried.len() < usize::from(session.attempts_max),
            || "more connects than attempts".into(),
        )?;
        session.connecting_since = Some(self.now);
        session.connect_cancelled = false;
        let key = u64::from(session.stream);
        let pick = self
            .pool
            .pick(key, &mut self.draw, &session.tried, |_| is_full);
        let Pick::Chosen { backend, .. } = pick else {
            let token = session.token;
            let answers_at_once = self.dice.chance(500);
            if !answers_at_once {
                self.kernel.answer_later(token, Input::NoBackend);
            }
            return Ok(answers_at_once.then_some(Input::NoBackend));
        };
        require(!session.tried.contains(backend), || {
            "a backend is tried twice".into()
        })?;
        session.tried.insert(backend);
        session.attempts += 1;
        session.backend = Some(backend);
        self.pool.opened(backend);
        session.back = Some(self.kernel.links.len());
        self.kernel.links.push(Link::new(self.window));
        let token = session.token;
        let link = self.kernel.links.len() - 1;
        if self.dice.chance(self.options.faults.refused / 4) {
            // No address, no port, no descriptor: the call itself fails.
            let faults = [Fault::Other, Fault::NoPorts, Fault::Shortage];
            let fault = self.dice.pick(&faults);
            return Ok(Some(Input::Connected(Err(fault))));
        }
        let kind = self.connect_fate();
        self.kernel.submit(token, Side::Back, link, kind);
        Ok(None)
    }

    fn discard_back(&mut self, slot: usize) -> Result<(), String> {
        self.require_idle_socket(slot, Side::Back)?;
        let session = self.session_mut(slot)?;
        let backend = session.backend.take();
        let link = session.back.take().ok_or("no socket to discard")?;
        self.kernel.links[link].close(End::Proxy, CloseHow::Reset);
        self.pool.closed(backend.ok_or("no backend to discard")?);
        Ok(())
    }

    // ── operations ──────────────────────────────────────────────────────────────────────────────

    fn cancel(&mut self, slot: usize, target: Target) -> Result<(), String> {
        let token = self.session(slot)?.token;
        self.kernel.cancels.push(Cancel { token, target });
        Ok(())
    }

    fn receive(&mut self, slot: usize, from: Side, budget: u32) -> Result<(), String> {
        let session = self.session(slot)?;
        let whole = budget.is_multiple_of(self.kernel.buffer_size) || session.is_looking();
        require(budget > 0 && whole, || format!("a budget of {budget}"))?;
        let half = &session.halves[from];
        require(!half.starved, || "a receive while starved".into())?;
        let held: u32 = half.buffers.iter().map(|(_, len)| len).sum();
        require(held + budget <= QUEUED_BYTES_MAX, || {
            format!("a budget of {budget} over {held} held bytes")
        })?;
        self.start_in(slot, from, Kind::Receive { budget })
    }

    fn send(
        &mut self,
        slot: usize,
        from: Side,
        (buffer, start, len): (BufferNumber, u32, u32),
    ) -> Result<(), String> {
        let half = &self.session(slot)?.halves[from];
        let first = half.buffers.front().copied();
        require(
            first == Some((buffer, start + len)) && start == half.head_sent && len > 0,
            || format!("not the rest of the first buffer, {first:?}"),
        )?;
        self.start_out(slot, from, Kind::Send { buffer, start, len })?;
        if self.options.canary == Some(Canary::ReuseBuffer) && self.dice.chance(100) {
            self.kernel.buffers.give_back(buffer);
        }
        Ok(())
    }

    /// The half that a buffer of the session belongs to, and its place there.
    fn place(&self, slot: usize, buffer: BufferNumber) -> Result<(Side, usize), String> {
        let session = self.session(slot)?;
        let holder = self.kernel.buffers.holder(buffer);
        let from = match holder {
            Some((holder, from)) if holder == session.token => from,
            Some(_) | None => return Err(format!("buffer {buffer} belongs to {holder:?}")),
        };
        let mut held = session.halves[from].buffers.iter();
        let place = held.position(|(held, _)| *held == buffer);
        let place = place.ok_or_else(|| format!("buffer {buffer} was never delivered"))?;
        Ok((from, place))
    }

    fn gather(
        &mut self,
        slot: usize,
        (to, at): (BufferNumber, u32),
        (from, len, rest): (BufferNumber, u32, u32),
    ) -> Result<(), String> {
        require(!self.kernel.is_sending(from), || {
            format!("buffer {from} is being sent")
        })?;
        let size = self.kernel.buffer_size;
        let (half, place) = self.place(slot, to)?;
        let next = self.place(slot, from)?;
        let buffers = &mut self.session_mut(slot)?.halves[half].buffers;
        let behind = (half, place + 1);
        require(next == behind && buffers[place].1 == at, || {
            format!("{from} is not behind place {at} of {to}")
        })?;
        let held = buffers[place + 1].1;
        require(len > 0 && len + rest == held && at + len <= size, || {
            format!("{len} and {rest} of {held} bytes to place {at}")
        })?;
        buffers[place].1 += len;
        buffers[place + 1].1 = rest;
        self.kernel.buffers.gather(to, from, len);
        Ok(())
    }

    fn recycle(&mut self, slot: usize, buffer: BufferNumber) -> Result<(), String> {
        require(!self.kernel.is_sending(buffer), || {
            format!("buffer {buffer} is being sent")
        })?;
        let (from, place) = self.place(slot, buffer)?;
        let half = &mut self.session_mut(slot)?.halves[from];
        let removed = half.buffers.remove(place);
        let (_, len) = removed.ok_or("invariant: it has a place")?;
        if place == 0 {
            // What was skipped may reach beyond the first buffer.
            half.head_sent = half.head_sent.saturating_sub(len);
        }
        self.kernel.buffers.give_back(buffer);
        Ok(())
    }

    /// Starts an operation on the half's source.
    fn start_in(&mut self, slot: usize, from: Side, kind: Kind) -> Result<(), String> {
        let link = self.open_link(slot, from)?;
        let session = self.session_mut(slot)?;
        require(from == Side::Front || session.connected, || {
            "not connected".into()
        })?;
        require(!session.cancelled[from], || "the side was cancelled".into())?;
        require(session.halves[from].source_end.is_none(), || {
            "the source has ended".into()
        })?;
        let busy = &mut session.halves[from].source_busy;
        require(!*busy, || "the source is busy".into())?;
        *busy = true;
        let token = session.token;
        self.kernel.submit(token, from, link, kind);
        Ok(())
    }

    /// Watches the half's source while nothing else is asked of it.
    fn watch(&mut self, slot: usize, from: Side) -> Result<(), String> {
        let link = self.open_link(slot, from)?;
        let session = self.session_mut(slot)?;
        require(!session.cancelled[from], || "the side was cancelled".into())?;
        let half = &mut session.halves[from];
        require(half.source_end.is_none() && !half.source_busy, || {
            "a watch beside a receive".into()
        })?;
        require(!half.watched, || "a second watch".into())?;
        half.watched = true;
        let token = session.token;
        self.kernel.submit(token, from, link, Kind::Watch);
        Ok(())
    }

    /// Starts an operation on the half's destination.
    fn start_out(&mut self, slot: usize, from: Side, kind: Kind) -> Result<(), String> {
        let link = self.open_link(slot, from.other())?;
        let session = self.session_mut(slot)?;
        require(session.connected, || "not connected".into())?;
        require(!session.cancelled[from.other()], || {
            "the side was cancelled".into()
        })?;
        require(!session.is_half_dead(from), || {
            "the destination is gone".into()
        })?;
        require(!session.halves[from].fin_passed, || "after the FIN".into())?;
        let busy = &mut session.halves[from].destination_busy;
        require(!*busy, || "the destination is busy".into())?;
        *busy = true;
        let token = session.token;
        self.kernel.submit(token, from, link, kind);
        Ok(())
    }

    // ── ending ──────────────────────────────────────────────────────────────────────────────────

    fn shutdown_write(&mut self, slot: usize, to: Side) -> Result<(), String> {
        let link = self.open_link(slot, to)?;
        let session = self.session(slot)?;
        check::fin_passed_on(session, to, &self.peers)?;
        self.session_mut(slot)?.halves[to.other()].fin_passed = true;
        if self.options.canary != Some(Canary::ForgetFin) {
            self.kernel.links[link].shut(End::Proxy);
        }
        Ok(())
    }

    fn check_unsent(&mut self, slot: usize, side: Side) -> Result<Input, String> {
        let link = self.open_link(slot, side)?;
        let now = self.now;
        let bytes = match self.options.canary {
            Some(Canary::ResetEarly) => 0,
            Some(_) | None => self.kernel.links[link].unacknowledged(End::Proxy),
        };
        let session = self.session_mut(slot)?;
        if bytes < session.resetting_bytes {
            session.resetting_since = Some(now);
        }
        session.resetting_bytes = bytes;
        Ok(Input::Unsent { side, bytes })
    }

    fn close_socket(&mut self, slot: usize, side: Side, how: CloseHow) -> Result<(), String> {
        self.require_idle_socket(slot, side)?;
        let number = self.open_link(slot, side)?;
        let link = &mut self.kernel.links[number];
        let closed = Closed {
            how,
            was_dead: link.is_dead(End::Proxy),
            unacknowledged: link.unacknowledged(End::Proxy),
        };
        let how = match self.options.canary {
            Some(Canary::FinForReset) => CloseHow::Fin,
            Some(_) | None => how,
        };
        link.close(End::Proxy, how);
        let session = self.session_mut(slot)?;
        session.closed[side] = Some(closed);
        if side == Side::Back {
            let backend = session.backend.take();
            self.pool.closed(backend.ok_or("no backend to close")?);
        }
        Ok(())
    }

    /// The link of a side whose socket exists and is open.
    pub(crate) fn open_link(&self, slot: usize, side: Side) -> Result<usize, String> {
        let session = self.session(slot)?;
        require(session.closed[side].is_none(), || {
            format!("the socket {side:?} is closed")
        })?;
        session
            .link(side)
            .ok_or_else(|| format!("there is no socket {side:?}"))
    }

    fn require_idle_socket(&self, slot: usize, side: Side) -> Result<(), String> {
        let session = self.session(slot)?;
        let link = self.open_link(slot, side)?;
        let in_kernel = self.kernel.operations.iter().any(|it| it.link == link);
        require(!in_kernel && !session.is_busy(side), || {
            format!("something is in flight on {side:?}")
        })
    }

    pub(crate) fn session(&self, slot: usize) -> Result<&Session, String> {
        let session = self.slots.get(slot).and_then(Option::as_ref);
        session.ok_or_else(|| format!("slot {slot} is empty"))
    }

    fn session_mut(&mut self, slot: usize) -> Result<&mut Session, String> {
        let session = self.slots.get_mut(slot).and_then(Option::as_mut);
        session.ok_or_else(|| format!("slot {slot} is empty"))
    }
}
