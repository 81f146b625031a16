//! The loop of a worker: one page, and everything a turn does in order.
//!
//! It decides nothing about connections; [`ringway_flow::Flow`] does. Invariants: one clock read and
//! one enter per turn, no allocation, lock or log call per message, and bounded work per turn.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ringway_balance::{BackendParams, Draw, Pool, stable_hash};
use ringway_flow::wheel::Wheel;
use ringway_flow::{Chunks, Input, Moment, Output, RelayMode, Room, Side, Span, Turn, Why};
use ringway_health::Outliers;
use ringway_metrics::WorkerHistograms;
use ringway_uring::{Completion, EnterError, Interest, PipePool, Ring, RingParams, Wait, Waker};
use ringway_wire::ProxyVersion;

use crate::accept::Acceptor;
use crate::apply::{Acknowledge, Route};
use crate::attempt::Waiting;
use crate::busy_poll::BusyPoll;
use crate::clock::Clock;
use crate::drain::Drain;
use crate::duty::{Duty, RingTotals};
use crate::limit::Limit;
use crate::mailbox::Message;
use crate::origin::Origin;
use crate::outlier::NoticeSink;
use crate::relief::Relief;
use crate::slots::Slots;
use crate::spec::{BackendSpec, PoolSpec, WhenBackendDown, WorkerSpec};
use crate::stall::Stall;
use crate::start::StartError;
use crate::supply::Supply;
use crate::tag::Tag;

/// Completions handled in one turn at most; what is left stays in the ring for the next.
const COMPLETIONS_PER_TURN: usize = 512;
/// Completions that the operations of one flow can have, but for receives of many small pieces.
const COMPLETIONS_PER_FLOW: usize = 8;
/// Looks before a deadline is believed, at most: each but the first is for those without a buffer.
const LOOKS_PER_TURN: usize = 16;
/// Starved halves that get another receive in one turn at most.
const STARVED_PER_TURN: usize = 256;
/// Flows closed by Ringway's own decision in one turn at most.
const CLOSES_PER_TURN: usize = 256;
pub(crate) const AT_ONCE: Wait = Wait {
    timeout: Some(Duration::ZERO),
    min_wait: None,
};
/// From the first sign that a peak left memory behind to the look whether it is needed, and from
/// one look to the next.
const MEMORY_LOOK: Span = Span::from_micros(1_000_000);
/// The same while there is more to give back.
const MEMORY_STEP: Span = Span::from_micros(50_000);
/// Buffers whose memory is given back in one turn at most.
const RELAXED_PER_TURN: u32 = 256;
/// From so many splices in a turn on, the next one waits for company: a splice is worth more the more
/// has come, and going to sleep for each would cost more than it moves.
const STREAMS_MANY: u32 = 8;
/// How long at most: what streams does not notice, and who waits beside it hardly.
const STREAMS_WAIT: Duration = Duration::from_micros(20);
/// One turn in so many is timed, so that the others read the clock once.
const TIMED_TURN_EVERY: u32 = 16;

/// Why a worker stopped working. Its process cannot go on without it.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker}: {source}")]
pub struct WorkerError {
    /// Its number.
    pub worker: u16,
    /// What the kernel refused.
    pub source: EnterError,
}

/// A pool as this worker has it.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    pub(crate) pool: Pool,
    pub(crate) backends: Vec<BackendSpec>,
    pub(crate) when_backend_down: WhenBackendDown,
    pub(crate) outliers: Option<Outliers>,
    pub(crate) send_proxy: Option<ProxyVersion>,
    pub(crate) origin: Origin,
}

impl WorkerPool {
    pub(crate) fn new(spec: PoolSpec, start: u32) -> WorkerPool {
        let params: Vec<BackendParams> = spec.backends.iter().map(|b| b.params).collect();
        let mut pool = match spec.table {
            Some(table) => Pool::with_table(spec.when_all_down, &params, table),
            None => Pool::new(spec.algorithm, spec.when_all_down, &params, start),
        };
        for (at, backend) in pool.indices().zip(&spec.backends) {
            pool.set_admin_state(at, backend.state);
        }
        pool.set_slow_start(spec.slow_start);
        let outliers = spec.outlier.as_ref();
        WorkerPool {
            pool,
            outliers: outliers.map(|params| Outliers::new(params, spec.backends.len())),
            backends: spec.backends,
            when_backend_down: spec.when_backend_down,
            send_proxy: spec.send_proxy,
            origin: Origin::new(spec.origin, start),
        }
    }
}

/// A worker on its own thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: u16,
    pub(crate) cpu: Option<usize>,
    pub(crate) clock: Clock,
    pub(crate) now: Moment,
    pub(crate) ring: Ring,
    pub(crate) pipes: PipePool,
    pub(crate) slots: Slots,
    pub(crate) chunks: Chunks,
    pub(crate) wheel: Wheel,
    pub(crate) outputs: Vec<Output>,
    /// Halves whose receive found no buffer, in the order in which they get the next ones.
    pub(crate) starved: VecDeque<(u32, u16, Side)>,
    /// Flows that Ringway closes by its own decision, a bounded number per turn.
    pub(crate) condemned: VecDeque<(u32, u16, Why)>,
    /// Attempts to connect that lack something time may bring.
    pub(crate) waiting: Waiting,
    /// When memory that a peak left behind is looked at.
    memory_look_at: Option<Moment>,
    pub(crate) room: Room,
    pub(crate) supply: Supply,
    pub(crate) relief: Relief,
    pub(crate) acceptor: Acceptor,
    pub(crate) routes: Vec<Route>,
    pub(crate) pools: Vec<WorkerPool>,
    pub(crate) draw: Draw,
    /// Tells this worker's connections from those of every other one that ever was.
    pub(crate) instance: u64,
    /// Where bytes of several buffers are read as one.
    pub(crate) scratch: Vec<u8>,
    pub(crate) drain: Option<Drain>,
    pub(crate) duty: Duty,
    /// What the rings of those counted who had this number before.
    ring_before: RingTotals,
    pub(crate) blocks: ringway_metrics::WorkerBlocks,
    pub(crate) histograms: WorkerHistograms,
    pub(crate) connections: Arc<Limit>,
    pub(crate) access: Option<crate::access::AccessQueue>,
    pub(crate) closed_count: u32,
    /// When time alone changes an ejection.
    pub(crate) ejections_due: Option<Moment>,
    pub(crate) notices: Box<dyn NoticeSink>,
    /// Updates that run, but for sockets that are not closed yet.
    pub(crate) unacknowledged: Vec<Acknowledge>,
    mailbox: Receiver<Message>,
    waker: Waker,
    turns: u32,
    /// Completions since a deadline came due that is not believed yet.
    seen_since_due: usize,
    /// Splices from sockets in this turn.
    pub(crate) splices: u32,
    pub(crate) stall: Stall,
    pub(crate) busy_poll: BusyPoll,
}

impl Worker {
    /// On the thread that will run it: a ring belongs to the thread that made it.
    pub(crate) fn new(
        spec: WorkerSpec,
        params: &RingParams,
        mailbox: Receiver<Message>,
        waker: Waker,
    ) -> Result<Worker, StartError> {
        let mut ring = Ring::new(params)?;
        ring.limit_buffers(spec.share.buffers_max);
        if spec
            .routes
            .iter()
            .any(|route| route.flow.relay() == RelayMode::UringSplice)
        {
            // Splices of the ring run on kernel threads: two at most, beside this worker.
            ring.set_iowq_max_workers(2, 2)
                .map_err(StartError::KernelThreads)?;
            if let Some(cpu) = spec.cpu {
                ring.set_iowq_affinity(cpu)
                    .map_err(StartError::KernelThreads)?;
            }
        }
        let clock = Clock::new(spec.epoch);
        let now = clock.read();
        let start = u32::from(spec.index);
        let pools = spec
            .pools
            .into_iter()
            .map(|pool| WorkerPool::new(pool, start))
            .collect();
        Ok(Worker {
            index: spec.index,
            cpu: spec.cpu,
            clock,
            now,
            ring,
            pipes: PipePool::new(spec.share.pipes_max, spec.share.pipe_size),
            slots: Slots::default(),
            chunks: Chunks::new(params.buffers_max),
            wheel: Wheel::new(now, 0),
            outputs: Vec::with_capacity(64),
            starved: VecDeque::new(),
            condemned: VecDeque::new(),
            waiting: Waiting::default(),
            memory_look_at: None,
            room: Room::Plenty,
            supply: Supply::new(spec.share),
            relief: Relief::default(),
            acceptor: Acceptor::new(spec.listeners, spec.sockets, spec.opening),
            routes: spec.routes.into_iter().map(Route::from).collect(),
            pools,
            draw: Draw::new(spec.seed),
            instance: stable_hash(
                &[spec.seed, u64::from(spec.index)]
                    .map(u64::to_be_bytes)
                    .concat(),
            ),
            scratch: Vec::new(),
            drain: None,
            duty: Duty::Serve,
            ring_before: RingTotals::of(&spec.blocks),
            blocks: spec.blocks,
            histograms: spec.histograms,
            connections: spec.connections,
            access: spec.access,
            closed_count: 0,
            ejections_due: None,
            notices: spec.notices,
            unacknowledged: Vec::new(),
            mailbox,
            waker,
            turns: 0,
            seen_since_due: 0,
            splices: 0,
            stall: Stall::default(),
            busy_poll: BusyPoll::new(spec.busy_poll),
        })
    }

    /// Runs until a drain has ended.
    pub(crate) fn run(&mut self) -> Result<(), WorkerError> {
        let mut batch = Vec::with_capacity(COMPLETIONS_PER_TURN);
        let mut reaped = 0;
        self.arm_mailbox();
        self.resume_accepts();
        while !self.is_done() {
            self.await_completions(reaped)?;
            self.now = self.clock.read();
            reaped = self.reap(&mut batch);
            if self.notes_due_deadline() {
                reaped += self.look(&mut batch)?;
                if self.believes_deadlines(reaped) {
                    self.expire();
                }
            }
            self.advance_ejections();
            self.feed_starved();
            self.attempt_again();
            self.resume_accepts();
            self.advance_drain();
            self.close_condemned();
            self.acknowledge();
            self.tell_when_vacant();
            self.relax_memory();
            self.publish(reaped);
        }
        Ok(())
    }

    pub(crate) fn enter(&mut self, wait: Wait) -> Result<(), WorkerError> {
        let worker = self.index;
        let entered = self.ring.submit_and_wait(wait);
        entered.map_err(|source| WorkerError { worker, source })
    }

    /// Handles what is complete, up to a bound, and returns how many completions that were.
    fn reap(&mut self, batch: &mut Vec<Completion>) -> usize {
        self.room = self.supply.room(self.ring.buffers_held(), self.slots.len());
        self.splices = 0;
        self.ring.reap(batch, COMPLETIONS_PER_TURN);
        let reaped = batch.len();
        self.busy_poll.note(self.now, reaped);
        for completion in batch.drain(..) {
            self.dispatch(completion);
        }
        reaped
    }

    pub(crate) fn wait(&self, reaped: usize) -> Wait {
        let can_feed = !self.starved.is_empty() && self.ring.buffers_published() > 0;
        if reaped >= COMPLETIONS_PER_TURN || can_feed || !self.condemned.is_empty() {
            return AT_ONCE;
        }
        let deadlines = [
            self.wheel.next(),
            self.acceptor.resume_at(),
            self.acceptor.closes_at(),
            self.acceptor.leaves_at(),
            self.waiting.next(),
            self.memory_look_at,
            self.drain.as_ref().map(Drain::next),
            self.ejections_due,
        ];
        let next = deadlines.into_iter().flatten().min();
        Wait {
            timeout: next.map(|next| next.since(self.now)),
            min_wait: (self.splices >= STREAMS_MANY).then_some(STREAMS_WAIT),
        }
    }

    /// Has a fresh look at what the kernel knows: after a stall there are bytes that no completion
    /// speaks of yet. Of halves that found no buffer it knows nothing, so they try again first.
    fn look(&mut self, batch: &mut Vec<Completion>) -> Result<usize, WorkerError> {
        let mut reaped = 0;
        for _ in 0..LOOKS_PER_TURN {
            self.feed_starved();
            let worker = self.index;
            let looked = self.ring.submit_and_look(COMPLETIONS_PER_TURN as u32);
            looked.map_err(|source| WorkerError { worker, source })?;
            reaped += self.reap(batch);
            let can_feed = !self.starved.is_empty() && self.ring.buffers_published() > 0;
            if !can_feed || reaped >= COMPLETIONS_PER_TURN {
                break;
            }
        }
        Ok(reaped)
    }

    /// Whether everything was seen that was there when a deadline came due: the kernel has no more,
    /// or has told more since then than the flows can have had in flight. Without the latter a worker
    /// that always has something to do would believe no deadline at all.
    fn believes_deadlines(&mut self, reaped: usize) -> bool {
        self.seen_since_due += reaped;
        let believes = reaped < COMPLETIONS_PER_TURN
            || self.seen_since_due > COMPLETIONS_PER_FLOW * self.slots.len();
        if believes {
            self.seen_since_due = 0;
        }
        believes
    }

    /// Gives a flow one input and carries out what it asks for, until it asks for nothing more.
    pub(crate) fn feed(&mut self, slot: u32, input: Input) {
        self.handle(slot, input);
        let mut carried_out = 0;
        while let Some(&output) = self.outputs.get(carried_out) {
            carried_out += 1;
            if let Some(answer) = self.carry_out(slot, output) {
                self.handle(slot, answer);
            }
            if let Output::Finished(_) = output {
                self.outputs.clear();
                return;
            }
        }
        self.outputs.clear();
        let held = self.slots.get_mut(slot);
        if let Some(due) = held.flow.take_deadline_change(&held.params) {
            self.wheel.set(slot, due);
        }
    }

    fn handle(&mut self, slot: u32, input: Input) {
        let held = self.slots.get_mut(slot);
        let mut turn = Turn {
            now: self.now,
            params: &held.params,
            room: self.room,
            chunks: &mut self.chunks,
            outputs: &mut self.outputs,
        };
        held.flow.handle(input, &mut turn);
    }

    /// Lets starved halves receive again while the kernel has buffers, in the order in which they
    /// starved. One that takes none (its socket is silent, or it holds enough) leaves them to others.
    fn feed_starved(&mut self) {
        for _ in 0..STARVED_PER_TURN {
            if self.ring.buffers_published() == 0 {
                return;
            }
            let Some((slot, generation, from)) = self.starved.pop_front() else {
                return;
            };
            if self.slots.is_current(slot, generation) {
                self.feed(slot, Input::BuffersFree { from });
            }
        }
    }

    /// Notes a half that found no buffer. Those of flows that are gone are swept out now and then.
    pub(crate) fn note_starved(&mut self, slot: u32, from: Side) {
        if self.starved.len() > 4 * self.slots.len() + STARVED_PER_TURN {
            let slots = &self.slots;
            self.starved
                .retain(|&(slot, generation, _)| slots.is_current(slot, generation));
        }
        let generation = self.slots.generation(slot);
        self.starved.push_back((slot, generation, from));
    }

    /// Notes flows that are to be closed.
    pub(crate) fn condemn(&mut self, slots: Vec<u32>, why: Why) {
        for slot in slots {
            let generation = self.slots.generation(slot);
            self.condemned.push_back((slot, generation, why));
        }
    }

    fn close_condemned(&mut self) {
        for _ in 0..CLOSES_PER_TURN {
            let Some((slot, generation, why)) = self.condemned.pop_front() else {
                return;
            };
            if self.slots.is_current(slot, generation) {
                self.feed(slot, Input::Close(why));
            }
        }
    }

    /// Gives back what a peak left behind, a little per turn.
    fn relax_memory(&mut self) {
        let Some(at) = self.memory_look_at else {
            if self.ring.has_swollen_buffers() {
                self.memory_look_at = Some(self.now.after(MEMORY_LOOK));
            }
            return;
        };
        if at > self.now {
            return;
        }
        let pause = match self.ring.relax_buffers(RELAXED_PER_TURN) {
            RELAXED_PER_TURN.. => MEMORY_STEP,
            0..RELAXED_PER_TURN => MEMORY_LOOK,
        };
        let is_swollen = self.ring.has_swollen_buffers();
        self.memory_look_at = is_swollen.then(|| self.now.after(pause));
    }

    pub(crate) fn arm_mailbox(&mut self) {
        self.ring.poll_multishot(
            self.waker.as_fd(),
            Tag::Mailbox.of(0, 0),
            Interest::Readable,
        );
    }

    pub(crate) fn read_mailbox(&mut self) {
        self.waker.drain();
        while let Ok(message) = self.mailbox.try_recv() {
            match message {
                Message::Verdict {
                    pool,
                    backend,
                    eligibility,
                } => {
                    self.on_verdict(pool, backend, eligibility);
                }
                Message::Apply(update, done) => self.apply(*update, done),
                Message::Drain { window } => self.start_drain(window),
                // Whoever asked may have stopped waiting: then nobody misses the answer.
                Message::Open(Acknowledge(done)) => {
                    self.acceptor.open();
                    done();
                }
                Message::Share(share) => self.take_share(share),
                Message::Strain(strain) => self.relieve(strain),
                Message::Lend(reply) => drop(reply.try_send(self.acceptor.lend())),
                Message::NotAlone(cookies) => self.acceptor.share(&cookies),
                Message::Histograms(reply) => drop(reply.try_send(self.histograms.clone())),
                Message::Pool(pool, reply) => self.tell_pool(pool, &reply),
                Message::Ping(reply) => drop(reply.try_send(())),
            }
        }
    }

    fn publish(&mut self, reaped: usize) {
        let block = &self.blocks.worker;
        self.ring_before.publish(self.ring.stats(), &block.ring);
        block
            .heartbeat_millis
            .set((self.now.as_micros() / 1000) as i64);
        if let Some(access) = &mut self.access {
            access.flush();
        }
        self.turns = self.turns.wrapping_add(1);
        if reaped > 0 && self.turns.is_multiple_of(TIMED_TURN_EVERY) {
            let took = self.clock.read().since(self.now);
            self.histograms.loop_time.record(took.as_micros() as u64);
        }
    }

    fn is_done(&self) -> bool {
        let is_empty = self.slots.is_empty() && self.acceptor.is_closed();
        self.drain
            .as_ref()
            .is_some_and(|drain| drain.is_over(self.now, is_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever takes the histogram for all turns is off by this factor.
    #[test]
    fn the_metric_says_which_turns_are_timed() {
        let help = ringway_metrics::declare::WORKER_LOOP.help;
        let words = format!("one turn in {TIMED_TURN_EVERY} is timed");
        assert!(help.contains(&words), "{help}");
    }
}
