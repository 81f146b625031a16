//! A seeded world: one worker with a few slots, its clients and backends, and everything that may
//! happen to them, one event at a time in an order that the dice choose.
//!
//! Invariant: an event is only chosen when it could happen in reality at that moment; time passes
//! when the dice say so, and otherwise only when nothing else can happen.

use std::collections::VecDeque;

use ringway_balance::{Algorithm, BackendParams, Draw, Pool, WhenAllDown};
use ringway_flow::wheel::Wheel;
use ringway_flow::{Chunks, Input, Moment, Side, Span, Why};

use crate::buffers::{Buffers, Pipes};
use crate::check::Outcome;
use crate::dice::Dice;
use crate::kernel::{Kernel, Kind, Token};
use crate::link::End;
use crate::options::{Canary, Options, Trace};
use crate::peer::{Peer, Script};
use crate::session::Session;
use crate::tally::{Tally, input_name};

/// More events than any world needs that gets somewhere.
const STEPS_MAX: u64 = 2_000_000;
/// No worker is so busy that an answer lies unseen for longer.
const REAP_DELAY_MAX: Span = Span::from_micros(50_000);
/// The chunk sizes tried; all of them divide the bytes a half may hold.
const BUFFER_SIZES: [u32; 4] = [256, 1024, 4096, 16384];

/// An error unless `holds`.
pub(crate) fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Transfer(usize, End),
    ResetArrives(usize, End),
    Act(usize),
    Execute(usize),
    CancelArrives(usize),
    Reap(usize),
    BuffersFree,
    Accept,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) dice: Dice,
    pub(crate) draw: Draw,
    pub(crate) now: Moment,
    pub(crate) wheel: Wheel,
    pub(crate) chunks: Chunks,
    pub(crate) buffer_count: usize,
    pub(crate) window: u32,
    pub(crate) pool: Pool,
    pub(crate) kernel: Kernel,
    pub(crate) peers: Vec<Peer>,
    pub(crate) slots: Vec<Option<Session>>,
    generations: Vec<u32>,
    /// When the clients that are still to come arrive, the last one first.
    arrivals: Vec<Moment>,
    pub(crate) streams: u32,
    /// Halves that wait for a buffer.
    pub(crate) starved: VecDeque<(Token, Side)>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) tally: Tally,
    /// Nothing but a drain could end the flows that are left.
    drained: bool,
    pub(crate) steps: u64,
    events: Vec<Event>,
}

impl World {
    pub(crate) fn new(mut dice: Dice, options: &Options) -> World {
        let faults = options.faults.varied(&mut dice);
        let buffer_size = dice.pick(&BUFFER_SIZES);
        let few = dice.chance(faults.few_buffers);
        let buffers = if few { dice.pick(&[1, 2, 3, 8]) } else { 600 };
        let pipes = dice.index(4);
        let capacity = dice.pick(&[4096, 16384, 65536]);
        let slots = 1 + dice.index(3);
        let mut arrivals: Vec<_> = (0..dice.between(1, 5))
            .map(|_| Moment::from_micros(dice.below(50_000)))
            .collect();
        arrivals.sort_unstable_by(|a, b| b.cmp(a));
        let algorithm = dice.pick(&[
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::Random,
            Algorithm::SourceHash,
        ]);
        let backends: Vec<_> = (0..dice.between(u64::from(faults.pool_full == 0), 6))
            .map(|identity| BackendParams {
                weight: 1,
                backup: false,
                identity,
            })
            .collect();
        World {
            options: Options { faults, ..*options },
            draw: Draw::new(dice.below(1 << 32)),
            now: Moment::default(),
            wheel: Wheel::new(Moment::default(), slots),
            chunks: Chunks::new(buffers),
            buffer_count: usize::from(buffers),
            window: dice.pick(&[1_000, 20_000, 300_000]).max(buffer_size),
            pool: Pool::new(algorithm, WhenAllDown::Try, &backends, 0),
            kernel: Kernel {
                links: Vec::new(),
                operations: Vec::new(),
                completions: Vec::new(),
                cancels: Vec::new(),
                buffers: Buffers::new(buffers),
                pipes: Pipes::new(pipes, capacity),
                buffer_size,
                now: Moment::default(),
                multishot: !dice.chance(faults.one_shot),
            },
            peers: Vec::new(),
            slots: (0..slots).map(|_| None).collect(),
            generations: vec![0; slots],
            arrivals,
            streams: 0,
            starved: VecDeque::new(),
            outcomes: Vec::new(),
            tally: Tally::default(),
            drained: false,
            steps: 0,
            events: Vec::new(),
            dice,
        }
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().flatten()
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.options.trace == Trace::On {
            eprintln!("{:>6} {:>12} {}", self.steps, self.now.as_micros(), line());
        }
    }

    /// Lets everything happen until nothing can any more.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while self.step()? {
            self.steps += 1;
            require(self.steps < STEPS_MAX, || {
                "the world does not come to an end".into()
            })?;
        }
        self.check_over()
    }

    fn step(&mut self) -> Result<bool, String> {
        self.misfortune()?;
        self.collect_events();
        if self.events.is_empty() {
            self.check_not_stalled()?;
            return Ok(self.pass_time()? || self.drain()?);
        }
        if self.dice.chance(self.options.faults.time_races) {
            self.pass_time()?;
            return Ok(true);
        }
        let event = self.events[self.dice.index(self.events.len())];
        self.trace(|| format!("{event:?}"));
        self.happen(event)?;
        Ok(true)
    }

    fn collect_events(&mut self) {
        self.events.clear();
        let events = &mut self.events;
        for (number, link) in self.kernel.links.iter().enumerate() {
            for end in End::BOTH {
                if link.can_transfer(end) {
                    events.push(Event::Transfer(number, end));
                }
                if link.is_reset_coming(end) {
                    events.push(Event::ResetArrives(number, end));
                }
            }
        }
        for (number, peer) in self.peers.iter().enumerate() {
            let wakes = peer.wakes(&self.kernel.links[peer.link]);
            if wakes.is_some_and(|at| at <= self.now) {
                events.push(Event::Act(number));
            }
        }
        for (number, operation) in self.kernel.operations.iter().enumerate() {
            let blind = self.options.canary == Some(Canary::BlindWatch)
                && matches!(operation.kind, Kind::Watch);
            if !blind && self.kernel.is_ready(operation) {
                events.push(Event::Execute(number));
            }
        }
        events.extend((0..self.kernel.cancels.len()).map(Event::CancelArrives));
        events.extend((0..self.kernel.completions.len()).map(Event::Reap));
        let forgets = self.options.canary == Some(Canary::ForgetStarved);
        if !self.starved.is_empty() && self.kernel.buffers.free_count() > 0 && !forgets {
            events.push(Event::BuffersFree);
        }
        let arrives = self.arrivals.last().is_some_and(|&at| at <= self.now);
        if arrives && self.slots.iter().any(Option::is_none) {
            events.push(Event::Accept);
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Transfer(number, from) => {
                let most = self.dice.pick(&[500, 20_000, 1_000_000]);
                let len = self.dice.between(1, most) as u32;
                self.kernel.links[number].transfer(from, len);
            }
            Event::ResetArrives(number, to) => self.kernel.links[number].reset_arrives(to),
            Event::Act(number) => {
                let peer = &mut self.peers[number];
                let link = &mut self.kernel.links[peer.link];
                peer.act(self.now, link, &mut self.dice)?;
            }
            Event::Execute(index) => self.execute(index),
            Event::CancelArrives(index) => self.kernel.cancel_arrives(index),
            Event::Reap(index) => self.reap(index)?,
            Event::BuffersFree => {
                if let Some((token, from)) = self.starved.pop_front()
                    && self.is_current(token)
                {
                    self.feed(token.slot, Input::BuffersFree { from })?;
                }
            }
            Event::Accept => self.accept()?,
        }
        Ok(())
    }

    fn execute(&mut self, index: usize) {
        let operation = self.kernel.operations[index];
        if let Kind::Connect { accepted: true, .. } = operation.kind {
            let slot = self.slots[operation.token.slot].as_mut();
            let session = slot.expect("invariant: a session outlives its operations");
            let script = Script::random(&mut self.dice, &self.options);
            let stream = session.stream;
            session.backend_peer = Some(self.peers.len());
            let first = session.skipped(Side::Front);
            let peer = Peer::new(script, operation.link, stream + 1, stream);
            self.peers.push(peer.reading_from(first));
        }
        self.kernel.execute(index, &mut self.dice, &self.options);
    }

    fn reap(&mut self, index: usize) -> Result<(), String> {
        let completion = self.kernel.reap(index);
        require(self.is_current(completion.token), || {
            format!("stale: {completion:?}")
        })?;
        if let Input::Starved { from } = completion.input {
            self.starved.push_back((completion.token, from));
        }
        self.tally.count(input_name(&completion.input));
        self.feed(completion.token.slot, completion.input)
    }

    fn is_current(&self, token: Token) -> bool {
        let session = self.slots[token.slot].as_ref();
        session.is_some_and(|session| session.token == token)
    }

    // ── sessions ────────────────────────────────────────────────────────────────────────────────

    fn accept(&mut self) -> Result<(), String> {
        self.arrivals.pop();
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.ok_or("invariant: a slot is free")?;
        self.generations[slot] += 1;
        let session = self.new_session(Token {
            slot,
            generation: self.generations[slot],
        });
        self.slots[slot] = Some(session);
        self.feed(slot, Input::Accepted)
    }

    /// The session in `slot` is over.
    pub(crate) fn free_slot(&mut self, slot: usize) -> Result<(), String> {
        let session = self.slots[slot]
            .take()
            .ok_or("invariant: a session is over")?;
        self.wheel.cancel(slot as u32);
        self.outcomes.push(Outcome {
            client: session.client_peer,
            backend: session.backend_peer,
            ended: session.ended.ok_or("invariant: it has ended")?,
        });
        self.tally.add_relayed(&session.flow);
        Ok(())
    }

    // ── time and chance ─────────────────────────────────────────────────────────────────────────

    /// Lets time pass until the next moment at which something is due. False when nothing is.
    fn pass_time(&mut self) -> Result<bool, String> {
        let wakes = self
            .peers
            .iter()
            .filter_map(|peer| peer.wakes(&self.kernel.links[peer.link]));
        let connects = self
            .kernel
            .operations
            .iter()
            .filter_map(|it| match it.kind {
                Kind::Connect { at, .. } => Some(at),
                _ => None,
            });
        let next = wakes
            .chain(connects)
            .chain(self.arrivals.last().copied())
            .chain(self.wheel.next())
            .filter(|&at| at > self.now && at < Moment::NEVER)
            .min();
        let Some(next) = next else {
            return Ok(false);
        };
        let next = next.after(Span::from_micros(self.dice.below(1_000)));
        let oldest = self.kernel.oldest_completion().unwrap_or(next);
        if next > oldest.after(REAP_DELAY_MAX) {
            return Ok(false);
        }
        self.now = next;
        self.kernel.now = next;
        self.trace(|| "time passes".into());
        self.expire()?;
        self.check_deadlines()?;
        Ok(true)
    }

    fn expire(&mut self) -> Result<(), String> {
        while let Some(slot) = self.wheel.pop(self.now) {
            if self.options.canary != Some(Canary::ForgetDeadlines) {
                self.feed(slot as usize, Input::Deadline)?;
            }
        }
        Ok(())
    }

    /// Nothing will ever happen by itself any more: what is left has no deadline. False when
    /// nothing is left.
    fn drain(&mut self) -> Result<bool, String> {
        if self.sessions().next().is_none() {
            return Ok(false);
        }
        require(!self.drained, || "a drained flow does not end".into())?;
        self.drained = self.arrivals.is_empty();
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                self.feed(slot, Input::Close(Why::Drain))?;
            }
        }
        Ok(true)
    }

    /// What the dice may bring at any time.
    fn misfortune(&mut self) -> Result<(), String> {
        let faults = self.options.faults;
        if self.dice.chance(faults.link_breaks) && !self.kernel.links.is_empty() {
            let number = self.dice.index(self.kernel.links.len());
            self.trace(|| format!("link {number} breaks"));
            let link = &mut self.kernel.links[number];
            if !link.is_closed(End::Proxy) {
                link.give_up();
            }
        }
        if self.dice.chance(faults.close) {
            let slot = self.dice.index(self.slots.len());
            let why = self
                .dice
                .pick(&[Why::Drain, Why::Drain, Why::BackendDown, Why::HeldMemory]);
            if self.slots[slot].is_some() {
                self.feed(slot, Input::Close(why))?;
            }
        }
        Ok(())
    }
}
