//! `crr`: connect, request, reply, close, over and over. Invariant: a connection counts as done only
//! if its reply was made of its own request's bytes and it ended as it should have; whichever way it
//! went, its slot takes the next one.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::cli::{Crr, Ending, Exchange, Side};
use crate::clock::{Clock, nanoseconds};
use crate::crew::{self, part, share};
use crate::failures::Failure;
use crate::open::Routes;
use crate::outcome::Outcome;
use crate::pattern::{Pattern, SLICE_BYTES_MAX};
use crate::poller::{EDGES, Poller};
use crate::socket::{Received, Sent, connect_error, receive, reset_on_close, transmit};
use crate::tally::Tally;

/// What tells a server that is to reset the connection that the reply is there.
const RECEIPT: [u8; 1] = [6];

/// A run with more failures than this has lost its point and ends.
const FAILURES_MAX: u64 = 10_000;

pub(crate) fn run(args: &Crr) -> io::Result<Outcome> {
    let clock = Clock::start();
    let threads = args.target.threads;
    let warmup_ns = nanoseconds(args.extent.warmup);
    let prepare = |index| {
        let count = part(args.parallel.get(), threads, index).len();
        Ok((index, Slots::new(args, clock, count)?))
    };
    let work = |(index, mut slots): (usize, Slots<'_>), start_ns: u64, live| {
        slots.tally.live = live;
        slots.measured_from_ns = start_ns + warmup_ns;
        // Threads number their connections apart, so that each takes its own turn over the routes.
        slots.next = index as u64;
        slots.step = threads.get() as u64;
        match args.extent.count {
            Some(count) => slots.left = Some(share(count, threads, index)),
            None => slots.end_ns = slots.measured_from_ns + nanoseconds(args.extent.duration),
        }
        slots.turn_over()?;
        Ok(slots.tally)
    };
    let result = crew::run(&args.target, clock, prepare, work)?;
    let outcome = Outcome::of("crr", &result, result.start_ns + warmup_ns)
        .with("request_size", args.exchange.request_size, "B")
        .with("reply_size", args.exchange.reply_size, "B")
        .with("closed_by", side_name(args.exchange.close), "")
        .with("closed_with", ending_name(args.exchange.how), "");
    Ok(outcome)
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Fin => "fin",
        Ending::Reset => "reset",
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Exchanging,
    /// The reply is there; the server has to close.
    AwaitingEnd,
}

/// The connection that a slot holds now.
#[derive(Debug)]
struct Slot {
    fd: OwnedFd,
    stage: Stage,
    /// Its number in the run, which is the key of its request.
    number: u64,
    sent: u64,
    received: u64,
    from_ns: u64,
}

/// How a connection came to its end, or that it did not yet.
#[derive(Debug)]
enum Progress {
    Waiting,
    Done,
    Failed(Failure, Option<Errno>),
}

/// The slots of one thread.
struct Slots<'a> {
    exchange: &'a Exchange,
    routes: Routes,
    poller: Poller,
    clock: Clock,
    pattern: Pattern,
    buffer: Vec<u8>,
    slots: Vec<Option<Slot>>,
    patience_ns: u64,
    measured_from_ns: u64,
    /// No connection starts after this, if the run is not counted.
    end_ns: u64,
    /// Connections still to start, if the run is counted.
    left: Option<u64>,
    /// The number of the next connection, and the distance to the one after it.
    next: u64,
    step: u64,
    tally: Tally,
}

impl<'a> Slots<'a> {
    fn new(args: &'a Crr, clock: Clock, slots: usize) -> io::Result<Slots<'a>> {
        Ok(Slots {
            exchange: &args.exchange,
            routes: Routes::new(&args.target),
            poller: Poller::new()?,
            clock,
            pattern: Pattern::new(),
            buffer: vec![0; SLICE_BYTES_MAX],
            slots: (0..slots).map(|_| None).collect(),
            patience_ns: nanoseconds(args.target.patience),
            measured_from_ns: 0,
            end_ns: 0,
            left: None,
            next: 0,
            step: 1,
            tally: Tally::new(),
        })
    }

    /// Keeps every slot busy until no connection may start any more and all have ended.
    fn turn_over(&mut self) -> io::Result<()> {
        for key in 0..self.slots.len() {
            self.start(key)?;
        }
        while self.slots.iter().any(Option::is_some) {
            let patience = Duration::from_nanos(self.patience_ns);
            let events = self.poller.wait(Some(patience))?;
            if events == 0 {
                self.abandon();
            }
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                self.advance(key, ready)?;
            }
        }
        Ok(())
    }

    /// Nothing happened for as long as patience lasts: what is open is stuck.
    fn abandon(&mut self) {
        for slot in &mut self.slots {
            if slot.take().is_some() {
                self.tally.fail(Failure::Stuck);
            }
        }
    }

    /// Starts the next connection in slot `key`, if there is one to start.
    fn start(&mut self, key: usize) -> io::Result<()> {
        loop {
            let from_ns = self.clock.now_ns();
            let may = match &mut self.left {
                Some(0) => false,
                Some(left) => {
                    *left -= 1;
                    true
                }
                None => from_ns < self.end_ns,
            };
            if !may || self.tally.failures.total() > FAILURES_MAX {
                return Ok(());
            }
            let number = self.next;
            self.next += self.step;
            match self.routes.begin(number) {
                Ok(fd) => {
                    self.poller.add(&fd, key, EDGES)?;
                    let stage = Stage::Connecting;
                    self.slots[key] = Some(Slot {
                        fd,
                        stage,
                        number,
                        sent: 0,
                        received: 0,
                        from_ns,
                    });
                    return Ok(());
                }
                Err(errno) => self.tally.failures.add_errno(Failure::Connect, errno),
            }
        }
    }

    /// Does what `ready` allows in slot `key`; when its connection has ended, the next one starts.
    fn advance(&mut self, key: usize, ready: EventFlags) -> io::Result<()> {
        match self.progress(key, ready) {
            Progress::Waiting => return Ok(()),
            Progress::Done => self.done(key),
            Progress::Failed(failure, Some(errno)) => self.tally.failures.add_errno(failure, errno),
            Progress::Failed(failure, None) => self.tally.fail(failure),
        }
        // Closes the connection.
        self.slots[key] = None;
        self.start(key)
    }

    fn done(&mut self, key: usize) {
        let Some(slot) = &self.slots[key] else { return };
        if self.exchange.close == Side::Client && self.exchange.how == Ending::Reset {
            reset_on_close(&slot.fd);
        }
        self.tally
            .record(slot.from_ns, self.clock.now_ns(), self.measured_from_ns);
    }

    fn progress(&mut self, key: usize, ready: EventFlags) -> Progress {
        let Some(slot) = &mut self.slots[key] else {
            return Progress::Waiting;
        };
        if slot.stage == Stage::Connecting {
            if let Some(errno) = connect_error(&slot.fd) {
                return Progress::Failed(Failure::Connect, Some(errno));
            }
            slot.stage = Stage::Exchanging;
            self.tally.connections += 1;
        }
        while slot.sent < self.exchange.request_size {
            let left = self.exchange.request_size - slot.sent;
            let bytes = self.pattern.at(request_key(slot.number), slot.sent, left);
            match transmit(&slot.fd, bytes) {
                Sent::Bytes(count) => {
                    slot.sent += count as u64;
                    self.tally.bytes_sent += count as u64;
                }
                Sent::Blocked => return Progress::Waiting,
                Sent::Failed(errno) => return Progress::Failed(Failure::of(errno), Some(errno)),
            }
        }
        let readable = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        match ready.intersects(readable) {
            true => self.receive(key),
            false => Progress::Waiting,
        }
    }

    fn receive(&mut self, key: usize) -> Progress {
        let Some(slot) = &mut self.slots[key] else {
            return Progress::Waiting;
        };
        loop {
            match receive(&slot.fd, &mut self.buffer) {
                Received::Bytes(count) => {
                    let position = slot.received;
                    slot.received += count as u64;
                    self.tally.bytes_received += count as u64;
                    let request =
                        self.pattern
                            .at(request_key(slot.number), 0, self.exchange.request_size);
                    let too_much = slot.received > self.exchange.reply_size;
                    if too_much || !repeats(request, position, &self.buffer[..count]) {
                        return Progress::Failed(Failure::Mismatch, None);
                    }
                    if slot.received == self.exchange.reply_size {
                        if self.exchange.close == Side::Client {
                            return Progress::Done;
                        }
                        slot.stage = Stage::AwaitingEnd;
                        if self.exchange.how == Ending::Reset
                            && let Sent::Bytes(count) = transmit(&slot.fd, &RECEIPT)
                        {
                            self.tally.bytes_sent += count as u64;
                        }
                    }
                }
                Received::Blocked => return Progress::Waiting,
                Received::End => return ended(slot.stage, self.exchange.how, Ending::Fin, None),
                Received::Failed(Errno::CONNRESET) => {
                    let errno = Some(Errno::CONNRESET);
                    return ended(slot.stage, self.exchange.how, Ending::Reset, errno);
                }
                Received::Failed(errno) => return Progress::Failed(Failure::Other, Some(errno)),
            }
        }
    }
}

/// What it means that the server ended a connection in `stage` with `got`, when `due` was due.
fn ended(stage: Stage, due: Ending, got: Ending, errno: Option<Errno>) -> Progress {
    match (stage, got) {
        (Stage::AwaitingEnd, got) if got == due => Progress::Done,
        (Stage::AwaitingEnd, _) => Progress::Failed(Failure::WrongEnding, errno),
        (Stage::Connecting | Stage::Exchanging, Ending::Fin) => {
            Progress::Failed(Failure::ClosedEarly, errno)
        }
        (Stage::Connecting | Stage::Exchanging, Ending::Reset) => {
            Progress::Failed(Failure::Reset, errno)
        }
    }
}

/// The stream that connection `number` takes its request from.
fn request_key(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Whether `got` is what `unit`, repeated for ever, has at `position`.
fn repeats(unit: &[u8], position: u64, got: &[u8]) -> bool {
    let length = unit.len() as u64;
    let mut offset = usize::try_from(position % length).expect("invariant: below the length");
    let mut rest = got;
    while !rest.is_empty() {
        let count = rest.len().min(unit.len() - offset);
        let (now, later) = rest.split_at(count);
        if now != &unit[offset..offset + count] {
            return false;
        }
        rest = later;
        offset = 0;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_repeats_its_request() {
        assert!(repeats(b"abc", 0, b"abcabca"));
        assert!(repeats(b"abc", 2, b"cab"));
        assert!(repeats(b"abc", 4, b""));
        assert!(!repeats(b"abc", 0, b"abcabd"));
        assert!(!repeats(b"abc", 1, b"abc"));
    }

    #[test]
    fn an_ending_is_right_only_at_the_end_and_only_if_it_is_the_one_due() {
        let verdict = |stage, due, got| match ended(stage, due, got, None) {
            Progress::Done => "done",
            Progress::Failed(failure, _) => failure.name(),
            Progress::Waiting => "waiting",
        };
        assert_eq!(
            verdict(Stage::AwaitingEnd, Ending::Fin, Ending::Fin),
            "done"
        );
        assert_eq!(
            verdict(Stage::AwaitingEnd, Ending::Reset, Ending::Reset),
            "done"
        );
        assert_eq!(
            verdict(Stage::AwaitingEnd, Ending::Reset, Ending::Fin),
            "wrong_ending"
        );
        assert_eq!(
            verdict(Stage::AwaitingEnd, Ending::Fin, Ending::Reset),
            "wrong_ending"
        );
        assert_eq!(
            verdict(Stage::Exchanging, Ending::Fin, Ending::Fin),
            "closed_early"
        );
        assert_eq!(
            verdict(Stage::Exchanging, Ending::Reset, Ending::Reset),
            "reset"
        );
    }
}
