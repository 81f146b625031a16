//! Opening the connections of a run: from where, to where, and a bounded number at a time, so that
//! a listener's queue does not overflow. Invariant: every connection asked for is either returned
//! or counted as a failure.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use crate::cli::Target;
use crate::clock::{Clock, nanoseconds};
use crate::failures::Failure;
use crate::poller::{EDGES, Poller};
use crate::socket::{begin_connect, connect_error};
use crate::tally::Tally;

/// Connections that are being opened at a time.
const OPENING_MAX: usize = 128;

/// The ports that connections from chosen addresses take, and how many: from the end of what needs a
/// privilege on any usual machine.
const FIRST_PORT: u16 = 4096;
const PORTS: u64 = 61_440;
/// Ports tried for a connection, and the distance between them.
const ATTEMPTS: u64 = 32;
const ATTEMPT_STRIDE: u64 = 7919;

/// From where and to where connections go.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    targets: Vec<SocketAddr>,
    sources: u8,
    /// Where in the range of ports this run begins: seldom where the one before it did.
    first_port: u64,
}

impl Routes {
    pub(crate) fn new(target: &Target) -> Routes {
        Routes {
            targets: target.to.clone(),
            sources: target.sources,
            first_port: u64::from(std::process::id()) * 9973,
        }
    }

    /// Begins connection `number` of the run.
    pub(crate) fn begin(&self, number: u64) -> Result<OwnedFd, Errno> {
        let targets = self.targets.len() as u64;
        let to = self.targets[index(number % targets)];
        let turn = number / targets;
        let mut last = Errno::ADDRNOTAVAIL;
        for attempt in 0..ATTEMPTS {
            match begin_connect(to, self.source(turn, attempt)) {
                // Someone else has the port, or it was used a moment ago.
                Err(errno @ (Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)) if self.sources > 0 => {
                    last = errno;
                }
                result => return result,
            }
        }
        Err(last)
    }

    /// The address and port of a turn. Sources change only after every target had its turn, so that
    /// all pairs occur. Ports are taken in order: letting the kernel look for a free one on a bound
    /// address takes it milliseconds once a fourth of them is taken.
    fn source(&self, turn: u64, attempt: u64) -> Option<SocketAddrV4> {
        let sources = u64::from(self.sources);
        let host = u8::try_from(turn.checked_rem(sources)?).ok()?;
        let place = self.first_port + turn / sources + attempt * ATTEMPT_STRIDE;
        let port = FIRST_PORT + u16::try_from(place % PORTS).ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2 + host), port))
    }
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("invariant: below the length of a list")
}

/// Opens connections `first..first + count` of the run and watches each, with its place in the
/// returned list as the key.
pub(crate) fn open_all(
    routes: &Routes,
    numbers: std::ops::Range<usize>,
    poller: &mut Poller,
    tally: &mut Tally,
    patience: Duration,
) -> io::Result<Vec<Option<OwnedFd>>> {
    let clock = Clock::start();
    let mut opened: Vec<Option<OwnedFd>> = Vec::with_capacity(numbers.len());
    let mut is_open = vec![false; numbers.len()];
    let mut opening = 0_usize;
    loop {
        while opening < OPENING_MAX && opened.len() < numbers.len() {
            let key = opened.len();
            match routes.begin((numbers.start + key) as u64) {
                Ok(fd) => {
                    poller.add(&fd, key, EDGES)?;
                    opened.push(Some(fd));
                    opening += 1;
                }
                Err(errno) => {
                    tally.failures.add_errno(Failure::Connect, errno);
                    opened.push(None);
                }
            }
        }
        if opening == 0 {
            return Ok(opened);
        }
        let events = poller.wait(Some(Duration::from_millis(100)))?;
        for index in 0..events {
            let (key, _) = poller.event(index);
            if is_open[key] {
                continue;
            }
            let Some(fd) = &opened[key] else { continue };
            is_open[key] = true;
            opening -= 1;
            match connect_error(fd) {
                None => tally.connections += 1,
                Some(errno) => {
                    tally.failures.add_errno(Failure::Connect, errno);
                    opened[key] = None;
                }
            }
        }
        if clock.now_ns() > nanoseconds(patience) {
            for (fd, is_open) in opened.iter_mut().zip(&is_open) {
                if fd.is_some() && !is_open {
                    tally.failures.add_errno(Failure::Connect, Errno::TIMEDOUT);
                    *fd = None;
                }
            }
            opened.resize_with(numbers.len(), || None);
            return Ok(opened);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(targets: &[&str], sources: u8) -> Routes {
        let targets = targets
            .iter()
            .map(|target| target.parse().unwrap())
            .collect();
        Routes {
            targets,
            sources,
            first_port: 0,
        }
    }

    #[test]
    fn every_source_meets_every_target() {
        let routes = routes(&["127.0.0.1:1", "127.0.0.1:2"], 3);
        let last = |number: u64| {
            routes
                .source(number / 2, 0)
                .map(|from| from.ip().octets()[3])
        };
        let seen: Vec<_> = (0..8).filter_map(last).collect();
        assert_eq!(seen, [2, 2, 3, 3, 4, 4, 2, 2]);
    }

    #[test]
    fn no_address_and_port_comes_twice_before_all_had_their_turn() {
        let routes = routes(&["127.0.0.1:1"], 2);
        let all: std::collections::HashSet<_> = (0..PORTS * 2)
            .filter_map(|turn| routes.source(turn, 0))
            .collect();
        assert_eq!(all.len() as u64, PORTS * 2);
    }

    #[test]
    fn no_sources_leave_the_choice_to_the_kernel() {
        assert_eq!(routes(&["127.0.0.1:1"], 0).source(5, 0), None);
    }
}
