//! `bulk`: streams up, down, both ways or to an echo server and back. Invariant: a stream has
//! succeeded only if it was ended by FIN from both sides after every byte that was due.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{Shutdown, shutdown};

use crate::cli::{Bulk, Direction};
use crate::clock::{Clock, nanoseconds};
use crate::crew::{self, part, share};
use crate::failures::Failure;
use crate::open::{Routes, open_all};
use crate::outcome::{Outcome, rounded};
use crate::pattern::{Pattern, SLICE_BYTES_MAX};
use crate::poller::Poller;
use crate::serve::ENDLESS;
use crate::socket::{Received, Sent, receive, transmit};
use crate::tally::Tally;

/// Calls per event, so that one fast stream does not keep the others waiting.
const CALLS_MAX: usize = 8;

pub(crate) fn run(args: &Bulk) -> io::Result<Outcome> {
    let clock = Clock::start();
    let routes = Routes::new(&args.target);
    let threads = args.target.threads;
    let prepare = |index| {
        let numbers = part(args.streams.get(), threads, index);
        let rate = args.rate.map(|rate| share(rate, threads, index).max(1));
        Streams::open(args, &routes, numbers, rate, clock)
    };
    let work = |mut streams: Streams, start_ns: u64, live| {
        streams.tally.live = live;
        streams.start_ns = start_ns;
        streams.end_ns = match args.bytes {
            Some(_) => u64::MAX,
            None => start_ns + nanoseconds(args.duration),
        };
        streams.flow()?;
        Ok(streams.tally)
    };
    let result = crew::run(&args.target, clock, prepare, work)?;
    let elapsed_ns = result.tally.last_ns.saturating_sub(result.start_ns).max(1);
    let moved = result.tally.bytes_sent + result.tally.bytes_received;
    let gbit = moved as f64 * 8.0 / elapsed_ns as f64;
    Ok(Outcome::of("bulk", &result, result.start_ns)
        .with("direction", direction_name(args.direction), "")
        .with("streams", args.streams.get(), "")
        .with("gigabit_per_second", rounded(gbit), "Gbit/s"))
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
        Direction::Echo => "echo",
    }
}

/// One stream, each way.
#[derive(Debug)]
struct Stream {
    fd: OwnedFd,
    number: usize,
    /// What the server is told to send, for servers that want to be told.
    header: Option<[u8; 8]>,
    header_sent: usize,
    /// Payload sent, and how much is due; [`ENDLESS`] until the time is over.
    sent: u64,
    send_due: u64,
    /// Payload received, and how much is due, if that is known.
    received: u64,
    receive_due: Option<u64>,
    side: Sending,
    input: Input,
}

/// Whether this side still sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// Everything was sent and a FIN after it.
    Ended,
}

/// Whether the server still sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

/// The streams of one thread.
struct Streams {
    poller: Poller,
    clock: Clock,
    pattern: Pattern,
    buffer: Vec<u8>,
    streams: Vec<Option<Stream>>,
    direction: Direction,
    verify: Verify,
    patience_ns: u64,
    start_ns: u64,
    end_ns: u64,
    /// Bytes per second at most, of those that come.
    rate: Option<u64>,
    tally: Tally,
}

/// Whether what comes is compared with what was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verify {
    Yes,
    No,
}

impl Streams {
    fn open(
        args: &Bulk,
        routes: &Routes,
        numbers: std::ops::Range<usize>,
        rate: Option<u64>,
        clock: Clock,
    ) -> io::Result<Streams> {
        let mut poller = Poller::new()?;
        let mut tally = Tally::new();
        let patience = args.target.patience;
        let opened = open_all(routes, numbers.clone(), &mut poller, &mut tally, patience)?;
        let streams = opened
            .into_iter()
            .zip(numbers)
            .map(|(fd, number)| fd.map(|fd| Stream::new(fd, number, args.direction, args.bytes)))
            .collect();
        let verify = match args.verify || args.direction == Direction::Echo {
            true => Verify::Yes,
            false => Verify::No,
        };
        Ok(Streams {
            poller,
            clock,
            pattern: Pattern::new(),
            buffer: vec![0; SLICE_BYTES_MAX],
            streams,
            direction: args.direction,
            verify,
            patience_ns: nanoseconds(patience),
            start_ns: 0,
            end_ns: 0,
            rate,
            tally,
        })
    }

    /// Moves bytes until every stream has ended.
    fn flow(&mut self) -> io::Result<()> {
        for (key, stream) in self.streams.iter().enumerate() {
            if let Some(stream) = stream {
                // By level from here on: an event does a bounded amount, and what is left is
                // reported again.
                self.poller
                    .modify(&stream.fd, key, EventFlags::IN | EventFlags::OUT)?;
            }
        }
        let mut stuck_ns = self.clock.now_ns().saturating_add(self.patience_ns);
        while self.streams.iter().any(Option::is_some) {
            let now_ns = self.clock.now_ns();
            let to_end_ns = self.end_ns.saturating_sub(now_ns);
            if to_end_ns == 0 {
                self.end_sending(now_ns)?;
            }
            let progress = self.moved();
            let wake_ns = if to_end_ns > 0 {
                self.end_ns.min(stuck_ns)
            } else {
                stuck_ns
            };
            // What has come ahead of its time is waited for here, and what comes meanwhile waits in the sockets.
            let ahead_ns = self.due_ns().min(wake_ns).saturating_sub(now_ns);
            thread::sleep(Duration::from_nanos(ahead_ns));
            let left = Duration::from_nanos(wake_ns.saturating_sub(now_ns));
            let events = self.poller.wait(Some(left + Duration::from_millis(1)))?;
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                self.advance(key, ready)?;
            }
            if self.moved() > progress {
                let now_ns = self.clock.now_ns();
                self.tally.last_ns = now_ns;
                self.tally.publish();
                stuck_ns = now_ns.saturating_add(self.patience_ns);
            } else if self.clock.now_ns() > stuck_ns {
                for _ in self.streams.iter_mut().filter_map(Option::take) {
                    self.tally.fail(Failure::Stuck);
                }
            }
        }
        Ok(())
    }

    /// When as many bytes as have come were due.
    fn due_ns(&self) -> u64 {
        self.rate.map_or(0, |rate| {
            let spent = u128::from(self.tally.bytes_received) * 1_000_000_000 / u128::from(rate);
            self.start_ns
                .saturating_add(u64::try_from(spent).unwrap_or(u64::MAX))
        })
    }

    /// Bytes so far and streams that have ended: as long as this grows, nothing is stuck.
    fn moved(&self) -> u64 {
        let tally = &self.tally;
        tally.bytes_sent + tally.bytes_received + tally.operations_all + tally.failures.total()
    }

    /// The time is over: what was sent is all there is.
    fn end_sending(&mut self, now_ns: u64) -> io::Result<()> {
        for key in 0..self.streams.len() {
            if let Some(stream) = &mut self.streams[key]
                && stream.side == Sending::Open
            {
                stream.send_due = stream.sent;
                if self.direction == Direction::Echo {
                    stream.receive_due = Some(stream.sent);
                }
                self.end_side(key)?;
            }
        }
        // Only once: from here on the streams only run out.
        self.end_ns = u64::MAX;
        self.tally.last_ns = now_ns;
        Ok(())
    }

    fn advance(&mut self, key: usize, ready: EventFlags) -> io::Result<()> {
        if ready.contains(EventFlags::OUT) {
            match self.send(key) {
                Ok(()) => self.end_side_if_due(key)?,
                Err(failure) => self.fail(key, failure),
            }
        }
        if ready.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match self.receive(key) {
                Ok(Flow::Goes) => {}
                Ok(Flow::Ended) => self.ended(key)?,
                Err(failure) => self.fail(key, failure),
            }
        }
        Ok(())
    }

    fn send(&mut self, key: usize) -> Result<(), Failure> {
        let Some(stream) = &mut self.streams[key] else {
            return Ok(());
        };
        for _ in 0..CALLS_MAX {
            let header = stream
                .header
                .as_ref()
                .map_or(&[][..], |header| &header[stream.header_sent..]);
            let payload = stream.send_due - stream.sent;
            let bytes = match (header.is_empty(), payload) {
                (false, _) => header,
                (true, 0) => return Ok(()),
                (true, left) => self.pattern.at(stream.number, stream.sent, left),
            };
            match transmit(&stream.fd, bytes) {
                Sent::Bytes(count) => {
                    self.tally.bytes_sent += count as u64;
                    match header.is_empty() {
                        true => stream.sent += count as u64,
                        false => stream.header_sent += count,
                    }
                }
                Sent::Blocked => return Ok(()),
                Sent::Failed(errno) => return Err(Failure::of(errno)),
            }
        }
        Ok(())
    }

    /// Ends this side once everything that was due is sent. A download waits for its end first, so
    /// that the balancer sees the server end it.
    fn end_side_if_due(&mut self, key: usize) -> io::Result<()> {
        let Some(stream) = &self.streams[key] else {
            return Ok(());
        };
        match (stream.side, stream.all_sent(), self.direction) {
            (Sending::Open, true, Direction::Up | Direction::Both | Direction::Echo) => {
                self.end_side(key)
            }
            // Nothing to send any more: readiness to do so is no news.
            (Sending::Open, true, Direction::Down) => {
                self.poller.modify(&stream.fd, key, EventFlags::IN)
            }
            (Sending::Open, false, _) | (Sending::Ended, _, _) => Ok(()),
        }
    }

    fn end_side(&mut self, key: usize) -> io::Result<()> {
        let Some(stream) = &mut self.streams[key] else {
            return Ok(());
        };
        stream.side = Sending::Ended;
        // Fails only if the connection is gone, which the next receive says.
        let _ = shutdown(&stream.fd, Shutdown::Write);
        match stream.input {
            Input::Open => self.poller.modify(&stream.fd, key, EventFlags::IN),
            Input::Ended => {
                self.complete(key);
                Ok(())
            }
        }
    }

    fn receive(&mut self, key: usize) -> Result<Flow, Failure> {
        let Some(stream) = &mut self.streams[key] else {
            return Ok(Flow::Goes);
        };
        for _ in 0..CALLS_MAX {
            match receive(&stream.fd, &mut self.buffer) {
                Received::Bytes(count) => {
                    self.tally.bytes_received += count as u64;
                    let position = stream.received;
                    stream.received += count as u64;
                    // A source sends stream 0, an echo server what it was sent.
                    let key = if self.direction == Direction::Echo {
                        stream.number
                    } else {
                        0
                    };
                    if self.verify == Verify::Yes
                        && !self.pattern.matches(key, position, &self.buffer[..count])
                    {
                        return Err(Failure::Mismatch);
                    }
                }
                Received::End => return Ok(Flow::Ended),
                Received::Blocked => return Ok(Flow::Goes),
                Received::Failed(errno) => return Err(Failure::of(errno)),
            }
        }
        Ok(Flow::Goes)
    }

    /// The server ended the stream: right if everything that was due is there.
    fn ended(&mut self, key: usize) -> io::Result<()> {
        let Some(stream) = &mut self.streams[key] else {
            return Ok(());
        };
        let failure = match stream.receive_due {
            Some(due) if stream.received > due => Some(Failure::Mismatch),
            Some(due) if stream.received < due => Some(Failure::ClosedEarly),
            // Both ways at once: this way goes on by itself.
            Some(_) if self.direction == Direction::Both && !stream.all_sent() => {
                stream.input = Input::Ended;
                return self.poller.modify(&stream.fd, key, EventFlags::OUT);
            }
            Some(_) | None if !stream.all_sent() => Some(Failure::ClosedEarly),
            Some(_) | None => None,
        };
        match failure {
            Some(failure) => self.fail(key, failure),
            None => self.complete(key),
        }
        Ok(())
    }

    fn complete(&mut self, key: usize) {
        if self.streams[key].take().is_some() {
            self.tally.operations += 1;
            self.tally.operations_all += 1;
        }
    }

    fn fail(&mut self, key: usize, failure: Failure) {
        if self.streams[key].take().is_some() {
            self.tally.fail(failure);
        }
    }
}

/// Whether a stream still goes on.
#[derive(Debug)]
enum Flow {
    Goes,
    Ended,
}

impl Stream {
    fn new(fd: OwnedFd, number: usize, direction: Direction, bytes: Option<u64>) -> Stream {
        let each_way = bytes.unwrap_or(ENDLESS);
        let (header, send_due, receive_due) = match direction {
            Direction::Up => (None, each_way, Some(0)),
            Direction::Down => (Some(each_way.to_be_bytes()), 0, bytes),
            Direction::Both => (Some(each_way.to_be_bytes()), each_way, bytes),
            Direction::Echo => (None, each_way, bytes),
        };
        Stream {
            fd,
            number,
            header,
            header_sent: 0,
            sent: 0,
            send_due,
            received: 0,
            receive_due,
            side: Sending::Open,
            input: Input::Open,
        }
    }

    fn all_sent(&self) -> bool {
        let header_length = self.header.map_or(0, |header| header.len());
        self.sent == self.send_due && self.header_sent == header_length
    }
}
