//! `churn`: connections that come and go, each with a life of its own length. An operation is a
//! round trip; the first of a connection includes the connect. Invariant: lengths of lives and ways
//! to end depend on a connection's number only, so that two runs with one count do the same.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use crate::cli::Churn;
use crate::clock::{Clock, nanoseconds};
use crate::crew::{self, part, share};
use crate::failures::Failure;
use crate::open::Routes;
use crate::outcome::{Outcome, rounded};
use crate::pattern::{Pattern, SLICE_BYTES_MAX};
use crate::poller::{EDGES, Poller};
use crate::progress::Live;
use crate::socket::{Received, Sent, connect_error, receive, reset_on_close, transmit};
use crate::tally::Tally;

/// A run with more failures than this has lost its point and ends.
const FAILURES_MAX: u64 = 10_000;

pub(crate) fn run(args: &Churn) -> io::Result<Outcome> {
    let clock = Clock::start();
    let threads = args.target.threads;
    let prepare = |index| {
        let count = part(args.connections.get(), threads, index).len();
        Ok((index, Lives::new(args, clock, count)?))
    };
    let warmup_ns = nanoseconds(args.extent.warmup);
    let work = |(index, mut lives): (usize, Lives<'_>), start_ns: u64, live: Arc<Live>| {
        lives.tally.live = live;
        lives.measured_from_ns = start_ns + warmup_ns;
        lives.next = index as u64;
        lives.step = threads.get() as u64;
        lives.pace = match args.extent.count {
            Some(count) => Pace::Count {
                left: share(count, threads, index),
            },
            None => Pace::Until {
                end_ns: lives.measured_from_ns + nanoseconds(args.extent.duration),
            },
        };
        lives.go_on()?;
        Ok(lives.tally)
    };
    let result = crew::run(&args.target, clock, prepare, work)?;
    let all_ns = result.tally.last_ns.saturating_sub(result.start_ns).max(1);
    let per_second = result.tally.connections as f64 * 1e9 / all_ns as f64;
    Ok(Outcome::of("churn", &result, result.start_ns + warmup_ns)
        .with("message_size", args.size, "B")
        .with("connections_per_second", rounded(per_second), "/s"))
}

/// How many more connections there will be.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Until { end_ns: u64 },
    Count { left: u64 },
}

/// One connection, with one round trip open.
#[derive(Debug)]
struct Life {
    fd: OwnedFd,
    number: u64,
    is_connected: bool,
    trips_left: u64,
    sent: u64,
    received: u64,
    /// Where both will be when the open round trip is complete.
    goal: u64,
    from_ns: u64,
}

/// How far a connection came.
#[derive(Debug)]
enum Progress {
    Waiting,
    Done,
    Failed(Failure),
}

/// The connections of one thread.
struct Lives<'a> {
    args: &'a Churn,
    routes: Routes,
    poller: Poller,
    clock: Clock,
    pattern: Pattern,
    buffer: Vec<u8>,
    lives: Vec<Option<Life>>,
    measured_from_ns: u64,
    pace: Pace,
    /// The number of the next connection, and the distance to the one after it.
    next: u64,
    step: u64,
    tally: Tally,
}

impl<'a> Lives<'a> {
    fn new(args: &'a Churn, clock: Clock, count: usize) -> io::Result<Lives<'a>> {
        Ok(Lives {
            args,
            routes: Routes::new(&args.target),
            poller: Poller::new()?,
            clock,
            pattern: Pattern::new(),
            buffer: vec![0; SLICE_BYTES_MAX],
            lives: (0..count).map(|_| None).collect(),
            measured_from_ns: 0,
            pace: Pace::Count { left: 0 },
            next: 0,
            step: 1,
            tally: Tally::new(),
        })
    }

    /// Keeps every place taken until no connection may begin any more and all have ended.
    fn go_on(&mut self) -> io::Result<()> {
        for key in 0..self.lives.len() {
            self.begin(key)?;
        }
        let patience: Duration = self.args.target.patience;
        while self.lives.iter().any(Option::is_some) {
            let events = self.poller.wait(Some(patience))?;
            if events == 0 {
                for _ in self.lives.iter_mut().filter_map(Option::take) {
                    self.tally.fail(Failure::Stuck);
                }
            }
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                self.advance(key, ready)?;
            }
        }
        Ok(())
    }

    /// Begins the next connection in place `key`, if there is one to begin.
    fn begin(&mut self, key: usize) -> io::Result<()> {
        loop {
            let from_ns = self.clock.now_ns();
            let may = match &mut self.pace {
                Pace::Count { left } if *left > 0 => {
                    *left -= 1;
                    true
                }
                Pace::Count { .. } => false,
                Pace::Until { end_ns } => from_ns < *end_ns,
            };
            if !may || self.tally.failures.total() > FAILURES_MAX {
                return Ok(());
            }
            let number = self.next;
            self.next += self.step;
            match self.routes.begin(number) {
                Ok(fd) => {
                    self.poller.add(&fd, key, EDGES)?;
                    self.lives[key] = Some(Life {
                        fd,
                        number,
                        is_connected: false,
                        trips_left: trips(number, self.args.trips),
                        sent: 0,
                        received: 0,
                        goal: self.args.size,
                        from_ns,
                    });
                    return Ok(());
                }
                Err(errno) => self.tally.failures.add_errno(Failure::Connect, errno),
            }
        }
    }

    fn advance(&mut self, key: usize, ready: EventFlags) -> io::Result<()> {
        match self.progress(key, ready) {
            Progress::Waiting => return Ok(()),
            Progress::Done => {}
            Progress::Failed(failure) => self.tally.fail(failure),
        }
        // Closes the connection.
        self.lives[key] = None;
        self.begin(key)
    }

    fn progress(&mut self, key: usize, ready: EventFlags) -> Progress {
        let Some(life) = &mut self.lives[key] else {
            return Progress::Waiting;
        };
        if !life.is_connected {
            if let Some(errno) = connect_error(&life.fd) {
                self.tally.failures.add_errno(Failure::Connect, errno);
                // Counted with its error; the place is free.
                return Progress::Done;
            }
            life.is_connected = true;
            self.tally.connections += 1;
        }
        loop {
            if let Err(failure) = self.send(key) {
                return Progress::Failed(failure);
            }
            let readable = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
            if !ready.intersects(readable) {
                return Progress::Waiting;
            }
            match self.receive(key) {
                Ok(false) => return Progress::Waiting,
                Err(failure) => return Progress::Failed(failure),
                Ok(true) => {}
            }
            if self.is_over(key) {
                return Progress::Done;
            }
        }
    }

    /// Sends what is left of the open round trip, as far as it goes.
    fn send(&mut self, key: usize) -> Result<(), Failure> {
        let Some(life) = &mut self.lives[key] else {
            return Ok(());
        };
        while life.sent < life.goal {
            let stream = stream_of(life.number);
            let bytes = self.pattern.at(stream, life.sent, life.goal - life.sent);
            match transmit(&life.fd, bytes) {
                Sent::Bytes(count) => {
                    life.sent += count as u64;
                    self.tally.bytes_sent += count as u64;
                }
                Sent::Blocked => return Ok(()),
                Sent::Failed(errno) => return Err(Failure::of(errno)),
            }
        }
        Ok(())
    }

    /// Receives what is there; whether that completed the open round trip.
    fn receive(&mut self, key: usize) -> Result<bool, Failure> {
        let Some(life) = &mut self.lives[key] else {
            return Ok(false);
        };
        while life.received < life.goal {
            match receive(&life.fd, &mut self.buffer) {
                Received::Bytes(count) => {
                    let position = life.received;
                    life.received += count as u64;
                    self.tally.bytes_received += count as u64;
                    let got = &self.buffer[..count];
                    let right = self.pattern.matches(stream_of(life.number), position, got);
                    if !right || life.received > life.sent {
                        return Err(Failure::Mismatch);
                    }
                }
                Received::Blocked => return Ok(false),
                Received::End => return Err(Failure::ClosedEarly),
                Received::Failed(errno) => return Err(Failure::of(errno)),
            }
        }
        Ok(true)
    }

    /// Counts the round trip that is complete, and opens the next one unless it was the last.
    fn is_over(&mut self, key: usize) -> bool {
        let Some(life) = &mut self.lives[key] else {
            return true;
        };
        let now_ns = self.clock.now_ns();
        self.tally
            .record(life.from_ns, now_ns, self.measured_from_ns);
        life.trips_left -= 1;
        life.from_ns = now_ns;
        life.goal += self.args.size;
        if life.trips_left == 0 && ends_by_reset(life.number, self.args.resets) {
            reset_on_close(&life.fd);
        }
        life.trips_left == 0
    }
}

/// The stream that connection `number` sends.
fn stream_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number without a pattern that is the same for the same `number`.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Round trips of connection `number`: from 1 to twice the mean less one, each as likely.
fn trips(number: u64, mean: u32) -> u64 {
    1 + scattered(number) % (2 * u64::from(mean) - 1)
}

fn ends_by_reset(number: u64, percent: u8) -> bool {
    (scattered(number) >> 32) % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_have_the_mean_that_was_asked_for() {
        for mean in [1_u32, 2, 10] {
            let all: Vec<u64> = (0..20_000).map(|number| trips(number, mean)).collect();
            let longest = 2 * u64::from(mean) - 1;
            assert!(all.iter().all(|trips| (1..=longest).contains(trips)));
            let average = all.iter().sum::<u64>() as f64 / all.len() as f64;
            assert!((average / f64::from(mean) - 1.0).abs() < 0.02, "{average}");
        }
    }

    #[test]
    fn as_many_end_by_reset_as_were_asked_for() {
        for percent in [0, 10, 100] {
            let count = (0..20_000)
                .filter(|number| ends_by_reset(*number, percent))
                .count();
            let share = count as f64 / 200.0;
            assert!((share - f64::from(percent)).abs() < 1.0, "{share}");
        }
    }
}
