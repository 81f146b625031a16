//! `rr`: round trips on kept connections. `idle` uses the same connections for one round trip each.
//! Not paired with any framing: a round trip is `size` bytes out and the same bytes back.
//! Invariant: at most one round trip is open per connection, and each has one starting time, which
//! in an open loop is the time it should have started.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use crate::cli::Rr;
use crate::clock::{Clock, nanoseconds};
use crate::crew::{self, part, share};
use crate::failures::Failure;
use crate::open::{Routes, open_all};
use crate::outcome::Outcome;
use crate::pace::{Schedule, Timer};
use crate::pattern::{Pattern, SLICE_BYTES_MAX};
use crate::poller::Poller;
use crate::socket::{Received, Sent, receive, transmit};
use crate::tally::Tally;

/// Round trips open at a time where each connection has one: what a burst of all of them at once
/// makes a balancer do is not what holding them costs.
const ONCE_OPEN_MAX: usize = 128;

/// The poller's key of the timer: no connection has it.
const TIMER_KEY: usize = usize::MAX;

pub(crate) fn run(args: &Rr) -> io::Result<Outcome> {
    let clock = Clock::start();
    let routes = Routes::new(&args.target);
    let threads = args.target.threads;
    let prepare = |index| {
        let numbers = part(args.connections.get(), threads, index);
        let connections =
            Connections::open(&routes, numbers, clock, args.size, args.target.patience)?;
        Ok((index, connections))
    };
    let warmup_ns = nanoseconds(args.extent.warmup);
    let work = |(index, mut connections): (usize, Connections), start_ns: u64, live| {
        connections.tally.live = live;
        let measured_ns = start_ns + warmup_ns;
        connections.measured_from_ns = measured_ns;
        let end_ns = measured_ns + nanoseconds(args.extent.duration);
        let pace = match (args.extent.count, args.rate) {
            (Some(count), _) => Pace::Count {
                left: share(count, threads, index),
            },
            (None, Some(rate)) => {
                let rate = f64::from(rate) / threads.get() as f64;
                Pace::Fixed(Schedule::new(rate, start_ns, end_ns, connections.len()))
            }
            (None, None) => Pace::Until { end_ns },
        };
        connections.exchange(pace)?;
        Ok(connections.finish())
    };
    let result = crew::run(&args.target, clock, prepare, work)?;
    let from_ns = result.start_ns + warmup_ns;
    let outcome = Outcome::of("rr", &result, from_ns)
        .with("message_size", args.size, "B")
        .with(
            "loop",
            if args.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            "",
        );
    Ok(outcome)
}

/// When round trips start.
#[derive(Debug)]
pub(crate) enum Pace {
    /// At once, until a time.
    Until { end_ns: u64 },
    /// At once, until there were enough.
    Count { left: u64 },
    /// At fixed times.
    Fixed(Schedule),
    /// One on each connection, a bounded number at a time; `next` is the first that had none.
    OnceEach { next: usize },
}

/// One connection and its open round trip.
#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    /// Its number in the run, which is the key of its stream.
    number: usize,
    /// Bytes of its stream, over all round trips.
    sent: u64,
    received: u64,
    /// Where both will be when the open round trip is complete.
    goal: u64,
    /// When the open round trip started or should have, if one is open.
    from_ns: Option<u64>,
    /// Round trips started, and round trips that are due.
    turns: u64,
    turns_due: u64,
}

/// The connections of one thread.
pub(crate) struct Connections {
    poller: Poller,
    clock: Clock,
    pattern: Pattern,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    size: u64,
    patience_ns: u64,
    measured_from_ns: u64,
    /// Open round trips.
    open: usize,
    tally: Tally,
}

impl Connections {
    /// Opens connections `numbers` of the run.
    pub(crate) fn open(
        routes: &Routes,
        numbers: std::ops::Range<usize>,
        clock: Clock,
        size: u64,
        patience: Duration,
    ) -> io::Result<Connections> {
        let mut poller = Poller::new()?;
        let mut tally = Tally::new();
        let opened = open_all(routes, numbers.clone(), &mut poller, &mut tally, patience)?;
        let connection = |(fd, number): (Option<OwnedFd>, usize)| {
            fd.map(|fd| Connection {
                fd,
                number,
                sent: 0,
                received: 0,
                goal: 0,
                from_ns: None,
                turns: 0,
                turns_due: 0,
            })
        };
        Ok(Connections {
            poller,
            clock,
            pattern: Pattern::new(),
            buffer: vec![0; SLICE_BYTES_MAX],
            connections: opened.into_iter().zip(numbers).map(connection).collect(),
            size,
            patience_ns: nanoseconds(patience),
            measured_from_ns: 0,
            open: 0,
            tally,
        })
    }

    /// Connections asked for, whether or not they could be opened.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Connections that are open now.
    pub(crate) fn alive(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Does round trips until `pace` has no more and none is open.
    pub(crate) fn exchange(&mut self, mut pace: Pace) -> io::Result<()> {
        let timer = Timer::new()?;
        let edge = EventFlags::IN | EventFlags::ET;
        self.poller.add(timer.fd(), TIMER_KEY, edge)?;
        let mut stuck_ns = self.clock.now_ns() + self.patience_ns;
        let first = match pace {
            Pace::Fixed(_) => 0,
            Pace::OnceEach { .. } => self.connections.len().min(ONCE_OPEN_MAX),
            Pace::Until { .. } | Pace::Count { .. } => self.connections.len(),
        };
        for key in 0..first {
            let now_ns = self.clock.now_ns();
            self.start_next(key, &mut pace, now_ns);
        }
        loop {
            let now_ns = self.clock.now_ns();
            if let Pace::Fixed(schedule) = &mut pace {
                while let Some(key) = schedule.pop_due(now_ns) {
                    self.owe(key, schedule);
                }
                if let Some(next_ns) = schedule.next_ns() {
                    timer.set(Duration::from_nanos(next_ns.saturating_sub(now_ns)))?;
                    stuck_ns = stuck_ns.max(next_ns + self.patience_ns);
                } else if self.open == 0 {
                    return Ok(());
                }
            } else if self.open == 0 {
                return Ok(());
            }
            if now_ns > stuck_ns {
                for _ in 0..self.open {
                    self.tally.fail(Failure::Stuck);
                }
                return Ok(());
            }
            let left = Duration::from_nanos(stuck_ns - now_ns) + Duration::from_millis(1);
            let events = self.poller.wait(Some(left))?;
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                if key != TIMER_KEY {
                    self.advance(key, ready, &mut pace);
                }
            }
            if events > 0 {
                stuck_ns = stuck_ns.max(self.clock.now_ns() + self.patience_ns);
            }
        }
    }

    /// Keeps the connections open until `fd` is readable or `hold` is over; one that ends meanwhile
    /// is a failure.
    pub(crate) fn hold(&mut self, fd: &OwnedFd, hold: Option<Duration>) -> io::Result<()> {
        self.poller.add(fd, TIMER_KEY, EventFlags::IN)?;
        let end_ns = hold.map(|hold| self.clock.now_ns() + nanoseconds(hold));
        loop {
            let now_ns = self.clock.now_ns();
            let left_ns = end_ns.map(|end_ns| end_ns.saturating_sub(now_ns));
            if left_ns == Some(0) || self.alive() == 0 {
                return Ok(());
            }
            let events = self.poller.wait(left_ns.map(Duration::from_nanos))?;
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                if key == TIMER_KEY {
                    return Ok(());
                }
                self.advance(key, ready, &mut Pace::Count { left: 0 });
            }
        }
    }

    /// Closes everything.
    pub(crate) fn finish(self) -> Tally {
        self.tally
    }

    /// Connection `key` has one more round trip to do.
    fn owe(&mut self, key: usize, schedule: &Schedule) {
        let Some(connection) = &mut self.connections[key] else {
            return;
        };
        connection.turns_due += 1;
        if connection.from_ns.is_none() {
            let due_ns = schedule.due_ns(key, connection.turns);
            self.start(key, due_ns);
        }
    }

    /// Starts the next round trip, if `pace` has one: of connection `key`, whose last one is over,
    /// or of one that had none.
    fn start_next(&mut self, key: usize, pace: &mut Pace, now_ns: u64) {
        if let Pace::OnceEach { next } = pace {
            let alive = |key: &usize| self.connections[*key].is_some();
            if let Some(key) = (*next..self.connections.len()).find(alive) {
                *next = key + 1;
                self.start(key, now_ns);
            }
            return;
        }
        let Some(connection) = &self.connections[key] else {
            return;
        };
        let from_ns = match pace {
            Pace::Until { end_ns } if now_ns < *end_ns => now_ns,
            Pace::Count { left } if *left > 0 => {
                *left -= 1;
                now_ns
            }
            Pace::Fixed(schedule) if connection.turns < connection.turns_due => {
                schedule.due_ns(key, connection.turns)
            }
            Pace::Until { .. } | Pace::Count { .. } | Pace::Fixed(_) | Pace::OnceEach { .. } => {
                return;
            }
        };
        self.start(key, from_ns);
    }

    fn start(&mut self, key: usize, from_ns: u64) {
        let Some(connection) = &mut self.connections[key] else {
            return;
        };
        connection.from_ns = Some(from_ns);
        connection.turns += 1;
        connection.goal += self.size;
        self.open += 1;
        self.send(key);
    }

    /// Does what `ready` allows on connection `key`.
    fn advance(&mut self, key: usize, ready: EventFlags, pace: &mut Pace) {
        if ready.contains(EventFlags::OUT) {
            self.send(key);
        }
        let readable = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if ready.intersects(readable) && self.receive(key) {
            let now_ns = self.clock.now_ns();
            self.complete(key, now_ns);
            self.start_next(key, pace, now_ns);
        }
    }

    fn complete(&mut self, key: usize, now_ns: u64) {
        let Some(connection) = &mut self.connections[key] else {
            return;
        };
        if let Some(from_ns) = connection.from_ns.take() {
            self.tally.record(from_ns, now_ns, self.measured_from_ns);
            self.open -= 1;
        }
    }

    /// Sends what is left of the open round trip, as far as it goes.
    fn send(&mut self, key: usize) {
        let Some(connection) = &mut self.connections[key] else {
            return;
        };
        while connection.sent < connection.goal {
            let left = connection.goal - connection.sent;
            let bytes = self.pattern.at(connection.number, connection.sent, left);
            match transmit(&connection.fd, bytes) {
                Sent::Bytes(count) => {
                    connection.sent += count as u64;
                    self.tally.bytes_sent += count as u64;
                }
                Sent::Blocked => return,
                Sent::Failed(errno) => {
                    self.tally.failures.add_errno(Failure::of(errno), errno);
                    return self.give_up(key);
                }
            }
        }
    }

    /// Receives what is there; whether that completed the open round trip.
    fn receive(&mut self, key: usize) -> bool {
        let Some(connection) = &mut self.connections[key] else {
            return false;
        };
        loop {
            // One byte more than is due, so that a connection without a round trip sees its end.
            let due = connection.goal - connection.received;
            let room = usize::try_from(due.max(1))
                .unwrap_or(SLICE_BYTES_MAX)
                .min(SLICE_BYTES_MAX);
            let failure = match receive(&connection.fd, &mut self.buffer[..room]) {
                Received::Bytes(count) => {
                    let got = &self.buffer[..count];
                    let position = connection.received;
                    connection.received += count as u64;
                    self.tally.bytes_received += count as u64;
                    let right = self.pattern.matches(connection.number, position, got);
                    // What was not sent yet cannot have come back.
                    if !right || connection.received > connection.sent {
                        self.tally.fail(Failure::Mismatch);
                        self.give_up(key);
                        return false;
                    }
                    if connection.received == connection.goal {
                        return true;
                    }
                    continue;
                }
                Received::Blocked => return false,
                Received::End => Failure::ClosedEarly,
                Received::Failed(errno) => Failure::of(errno),
            };
            self.tally.fail(failure);
            self.give_up(key);
            return false;
        }
    }

    /// Closes connection `key`, whose failure was counted.
    fn give_up(&mut self, key: usize) {
        if let Some(connection) = self.connections[key].take()
            && connection.from_ns.is_some()
        {
            self.open -= 1;
        }
    }
}
