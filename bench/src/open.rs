//! Opening the connections of a run: from where, to where, and a bounded number at a time, so that
//! a listener's queue does not overflow. Invariant: every connection asked for is either returned
//! or counted as a failure.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
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

/// From where and to where connections go.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    targets: Vec<SocketAddr>,
    sources: u8,
}

impl Routes {
    pub(crate) fn new(target: &Target) -> Routes {
        Routes {
            targets: target.to.clone(),
            sources: target.sources,
        }
    }

    /// Begins connection `number` of the run.
    pub(crate) fn begin(&self, number: u64) -> Result<OwnedFd, Errno> {
        let turn = number % self.targets.len() as u64;
        let to = self.targets[usize::try_from(turn).expect("invariant: below the length")];
        begin_connect(to, self.source(number / self.targets.len() as u64))
    }

    /// Sources change only after every target had its turn, so that all pairs occur.
    fn source(&self, turn: u64) -> Option<Ipv4Addr> {
        let turn = u8::try_from(turn.checked_rem(self.sources.into())?).ok()?;
        Some(Ipv4Addr::new(127, 0, 0, 2 + turn))
    }
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

    #[test]
    fn every_source_meets_every_target() {
        let targets = vec![
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        ];
        let routes = Routes {
            targets,
            sources: 3,
        };
        let last = |number: u64| routes.source(number / 2).map(|source| source.octets()[3]);
        let seen: Vec<_> = (0..8).filter_map(last).collect();
        assert_eq!(seen, [2, 2, 3, 3, 4, 4, 2, 2]);
    }

    #[test]
    fn no_sources_leave_the_choice_to_the_kernel() {
        let routes = Routes {
            targets: vec!["127.0.0.1:1".parse().unwrap()],
            sources: 0,
        };
        assert_eq!(routes.source(5), None);
    }
}
