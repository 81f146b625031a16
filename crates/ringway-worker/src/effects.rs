//! From an output of a flow to an operation of the ring or a direct call: one match, no decisions
//! about connections. What is known at once is returned and fed back.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use ringway_balance::{BackendIndex, NoBackend, Pick, PickMode, stable_hash};
use ringway_flow::{Fault, Input, Operation as InFlight, Output, Residue, Side};
use ringway_metrics::{Engine, RefusedReason, Stage};
use ringway_uring::{
    BufferId, Errno, Interest, Operation, peer_address, shutdown_write, splice_in, splice_out,
    unsent_bytes,
};
use rustix::net::{RecvFlags, recv};

use crate::access::{Attempt, AttemptOutcome};
use crate::apply::Route;
use crate::attempt::Lack;
use crate::dispatch::{fault, peer};
use crate::outlier::since_epoch;
use crate::tag::Tag;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn carry_out(&mut self, slot: u32, output: Output) -> Option<Input> {
        let held = self.slots.get(slot);
        let generation = self.slots.generation(slot);
        let token = |tag: Tag| tag.of(slot, generation);
        let ring = &mut self.ring;
        match output {
            Output::Receive { from, budget } => {
                ring.receive(held.socket(from), token(Tag::Receive(from)), budget);
            }
            Output::Send {
                from,
                buffer,
                start,
                len,
            } => {
                let to = held.socket(from.other());
                let buffer = BufferId::from_index(buffer);
                ring.send(to, token(Tag::Send(from)), buffer, start, len);
            }
            Output::Gather {
                to,
                at,
                from,
                len,
                rest,
            } => {
                let (to, from) = (BufferId::from_index(to), BufferId::from_index(from));
                ring.gather(to, at, from, len, rest);
            }
            Output::Recycle { buffer } => ring.recycle(BufferId::from_index(buffer)),
            Output::CancelReceive { from } => {
                ring.cancel(token(Tag::Receive(from)), Operation::Receive);
            }
            Output::PollReadable { from } => {
                ring.poll(
                    held.socket(from),
                    token(Tag::PollIn(from)),
                    Interest::Readable,
                );
            }
            Output::PollWritable { from } => {
                let to = held.socket(from.other());
                ring.poll(to, token(Tag::PollOut(from)), Interest::Writable);
            }
            Output::Watch { from } => {
                // Every poll of the ring reports a FIN, too. A multishot reports it once.
                let token = token(Tag::Watch(from));
                ring.poll_multishot(held.socket(from), token, Interest::Hangup);
            }
            Output::SpliceIn { from, len } => return Some(self.splice_in(slot, from, len)),
            Output::SpliceOut { from, len } => return Some(self.splice_out(slot, from, len)),
            Output::RingSpliceIn { from, len } => {
                let (source, pipe) = (held.socket(from), held.pipe(from).write_end());
                let token = token(Tag::PollIn(from));
                ring.poll_then_splice(source, Interest::Readable, source, pipe, len, token);
            }
            Output::RingSpliceOut { from, len } => {
                let (target, pipe) = (held.socket(from.other()), held.pipe(from).read_end());
                let token = token(Tag::PollOut(from));
                ring.poll_then_splice(target, Interest::Writable, pipe, target, len, token);
            }
            Output::TakePipe { from } => return Some(self.take_pipe(slot, from)),
            Output::GivePipe { from, residue } => self.give_pipe(slot, from, residue),
            Output::Look => return Some(self.inspect(slot)),
            Output::Connect => return self.connect(slot),
            Output::CancelConnect => {
                let connect = token(Tag::Connect);
                self.slots.get_mut(slot).origins_left = 0;
                let answer = self.stop_waiting(slot);
                if answer.is_none() {
                    self.ring.cancel(connect, Operation::Connect);
                }
                return answer;
            }
            Output::DiscardBack => self.discard_back(slot),
            Output::MarkConnected => self.mark_connected(slot),
            Output::MarkFirstByte => self.mark_first_byte(slot),
            Output::ShutdownWrite { to } => {
                // It fails on a connection that is gone; its receive tells how.
                let _ = shutdown_write(held.socket(to));
            }
            Output::CheckUnsent { side } => {
                let bytes = unacknowledged_bytes(held.socket(side));
                return Some(Input::Unsent { side, bytes });
            }
            Output::CancelAll { side } => return self.cancel_side(slot, side),
            Output::CloseSocket { side, how } => {
                self.sample_tcp_info(slot, side);
                if let Some(socket) = self.slots.get_mut(slot).sockets[side].take() {
                    self.close_socket(socket, how);
                }
            }
            Output::Finished(ended) => self.finish(slot, ended),
        }
        None
    }

    /// One by one and by token: a cancel by descriptor walks every operation of the ring. An attempt
    /// to connect that is none of the ring's answers at once.
    fn cancel_side(&mut self, slot: u32, side: Side) -> Option<Input> {
        let answer = match side {
            Side::Front => None,
            Side::Back => self.stop_waiting(slot),
        };
        self.slots.get_mut(slot).origins_left = 0;
        let generation = self.slots.generation(slot);
        for operation in self.slots.get(slot).flow.operations(side) {
            let (tag, operation) = match operation {
                InFlight::Connect if answer.is_some() => continue,
                InFlight::Connect => (Tag::Connect, Operation::Connect),
                InFlight::Receive { from } => (Tag::Receive(from), Operation::Receive),
                InFlight::PollReadable { from } => (Tag::PollIn(from), Operation::Poll),
                InFlight::PollWritable { from } => (Tag::PollOut(from), Operation::Poll),
                InFlight::Watch { from } => (Tag::Watch(from), Operation::Poll),
                InFlight::SpliceIn { from } => (Tag::PollIn(from), Operation::Splice),
                InFlight::SpliceOut { from } => (Tag::PollOut(from), Operation::Splice),
            };
            self.ring.cancel(tag.of(slot, generation), operation);
        }
        answer
    }

    // ── connecting ──────────────────────────────────────────────────────────────────────────────

    fn connect(&mut self, slot: u32) -> Option<Input> {
        let held = self.slots.get(slot);
        let Route { listener, pool, .. } = self.routes[usize::from(held.route)];
        if held.flow.attempts() > 1 {
            self.blocks.pools[usize::from(pool)].retries.increment();
        }
        let backend = match self.choose(slot, pool) {
            Ok(backend) => backend,
            Err(why) => {
                if let Some(backend) = self.last_resort(slot, why) {
                    self.start_attempt(slot, pool, backend);
                    self.wait_for(slot, Lack::Place);
                    return None;
                }
                if self.slots.get(slot).flow.attempts() == 1 {
                    let block = &self.blocks.listeners[usize::from(listener)];
                    block.refused[RefusedReason::NoBackend].increment();
                }
                return Some(Input::NoBackend);
            }
        };
        if self.slots.get(slot).flow.attempts() == 1 {
            let took = self.now.since(self.slots.get(slot).flow.born());
            let stages = &mut self.histograms.stages[usize::from(self.slots.get(slot).route)];
            stages[Stage::Pick].record(took.as_micros() as u64);
        }
        self.start_attempt(slot, pool, backend);
        self.attempt(slot)
    }

    /// Chooses a backend and takes its permit, if it has a limit.
    fn choose(&mut self, slot: u32, pool: u16) -> Result<BackendIndex, NoBackend> {
        let held = self.slots.get_mut(slot);
        let pool_index = usize::from(pool);
        let pool = &mut self.pools[pool_index];
        pool.pool.advance(since_epoch(self.now));
        let backends = &pool.backends;
        let is_full = |backend: BackendIndex| {
            backends[backend.as_usize()]
                .limit
                .as_ref()
                .is_some_and(|limit| limit.is_reached())
        };
        // A lost race for a permit counts as tried, and there is room for so many only.
        while !held.tried.is_exhausted() {
            match pool
                .pool
                .pick(held.key, &mut self.draw, &held.tried, is_full)
            {
                Pick::Chosen { backend, mode } => {
                    held.tried.insert(backend);
                    let limit = &backends[backend.as_usize()].limit;
                    // Another worker may have taken the last one between the look and this.
                    if limit.as_ref().is_none_or(|limit| limit.try_acquire()) {
                        if mode == PickMode::FailOpen {
                            self.blocks.pools[pool_index].fail_open.increment();
                        }
                        return Ok(backend);
                    }
                }
                Pick::None(reason) => return Err(reason),
            }
        }
        Err(NoBackend::AllTried)
    }

    fn start_attempt(&mut self, slot: u32, pool: u16, backend: BackendIndex) {
        let held = self.slots.get_mut(slot);
        held.backend = Some(backend);
        if let Some(record) = &mut held.record {
            record.attempts.push(Attempt {
                backend,
                outcome: AttemptOutcome::Pending,
                name: None,
            });
        }
        self.begin_attempt(slot, usize::from(pool), backend);
        self.pools[usize::from(pool)].pool.opened(backend);
        self.blocks.backends[usize::from(pool)][backend.as_usize()]
            .connections
            .increment();
    }

    /// Takes back what [`Worker::start_attempt`] and the choice took.
    pub(crate) fn release_backend(&mut self, slot: u32) {
        let held = self.slots.get_mut(slot);
        let Some(backend) = held.backend.take() else {
            return;
        };
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        self.end_attempt(slot, pool, backend);
        self.pools[pool].pool.closed(backend);
        if let Some(limit) = &self.pools[pool].backends[backend.as_usize()].limit {
            limit.release();
        }
        self.blocks.backends[pool][backend.as_usize()]
            .connections
            .decrement();
    }

    fn discard_back(&mut self, slot: u32) {
        self.release_backend(slot);
        if let Some(socket) = self.slots.get_mut(slot).sockets.back.take() {
            self.ring.close(socket);
        }
    }

    // ── splice ──────────────────────────────────────────────────────────────────────────────────

    fn splice_in(&mut self, slot: u32, from: Side, len: u32) -> Input {
        self.splices += 1;
        let held = self.slots.get(slot);
        let result = moved(splice_in(held.socket(from), held.pipe(from), len as usize));
        let result = checked_end(held.socket(from), result);
        self.count_spliced_in(slot, from, result);
        Input::SplicedIn { from, result }
    }

    fn splice_out(&mut self, slot: u32, from: Side, len: u32) -> Input {
        let held = self.slots.get(slot);
        let result = moved(splice_out(
            held.pipe(from),
            held.socket(from.other()),
            len as usize,
        ));
        self.count_sent(slot, from, result.unwrap_or(0), Engine::Splice);
        Input::SplicedOut { from, result }
    }

    fn take_pipe(&mut self, slot: u32, from: Side) -> Input {
        let pipe = self.pipes.take();
        let counters = &self.blocks.worker.pipes;
        match &pipe {
            Some(_) => counters.in_use.increment(),
            None => counters.exhausted.increment(),
        }
        counters.idle.set(self.pipes.idle() as i64);
        let grant = pipe
            .as_ref()
            .map(|pipe| u32::try_from(pipe.capacity()).unwrap_or(u32::MAX));
        self.slots.get_mut(slot).pipes[from] = pipe;
        Input::Pipe { from, grant }
    }

    fn give_pipe(&mut self, slot: u32, from: Side, residue: Residue) {
        let Some(pipe) = self.slots.get_mut(slot).pipes[from].take() else {
            return;
        };
        let residue = match residue {
            Residue::Empty => ringway_uring::Residue::Empty,
            Residue::Bytes => ringway_uring::Residue::Bytes,
        };
        self.pipes.give_back(pipe, residue);
        self.blocks.worker.pipes.in_use.decrement();
        self.blocks.worker.pipes.idle.set(self.pipes.idle() as i64);
    }

    // ── counting ────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn count_sent(&mut self, slot: u32, from: Side, bytes: u32, engine: Engine) {
        let route = &self.blocks.routes[usize::from(self.slots.get(slot).route)];
        route.sent_bytes[peer(from.other())].add(u64::from(bytes));
        self.blocks.worker.relayed_bytes[engine].add(u64::from(bytes));
    }

    pub(crate) fn count_spliced_in(&mut self, slot: u32, from: Side, result: Result<u32, Fault>) {
        let route = &self.blocks.routes[usize::from(self.slots.get(slot).route)];
        route.received_bytes[peer(from)].add(u64::from(result.unwrap_or(0)));
    }
}

/// The key of a client for algorithms that hash it: its address without the port, so that all its
/// connections meet at one backend.
pub(crate) fn source_key(client: SocketAddr) -> u64 {
    match client.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => stable_hash(&ip.octets()),
        std::net::IpAddr::V6(ip) => stable_hash(&ip.octets()),
    }
}

/// What the peer has still to acknowledge. The kernel keeps that count when the peer resets, although
/// nothing can be acknowledged any more.
fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> u32 {
    // Where the kernel cannot tell, waiting would not help.
    match unsent_bytes(socket).unwrap_or(0) {
        0 => 0,
        _ if peer_address(socket).is_err() => 0,
        bytes => bytes,
    }
}

/// Behind urgent data a splice from a socket says "end" once the FIN has come, although there are
/// bytes: as if it would block, so that they are received instead.
pub(crate) fn checked_end(
    socket: BorrowedFd<'_>,
    result: Result<u32, Fault>,
) -> Result<u32, Fault> {
    let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match result {
        Ok(0) if recv(socket, &mut [0; 1], look).is_ok_and(|(bytes, _)| bytes > 0) => {
            Err(Fault::WouldBlock)
        }
        Ok(_) | Err(_) => result,
    }
}

fn moved(result: Result<usize, Errno>) -> Result<u32, Fault> {
    result
        .map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
        .map_err(fault)
}
