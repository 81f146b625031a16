//! When round trips start: again at once (closed loop), at fixed times (open loop), or once on each
//! connection. Not what they do. Invariant: in an open loop the time at which a round trip should
//! start depends on nothing that happened before it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Fixed starting times, handed out to the connections in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// Nanoseconds between two starts.
    interval_ns: f64,
    connections: u64,
    /// The next start that was not handed out.
    next: u64,
}

impl Schedule {
    /// `rate` starts per second from `start_ns` to `end_ns`, over `connections`.
    pub(crate) fn new(rate: f64, start_ns: u64, end_ns: u64, connections: usize) -> Schedule {
        let connections = connections as u64;
        Schedule {
            start_ns,
            end_ns,
            interval_ns: 1e9 / rate,
            connections,
            next: 0,
        }
    }

    /// The time of start `number`.
    fn at_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * self.interval_ns) as u64
    }

    /// The time at which connection `key` should start its round trip `turn`.
    pub(crate) fn due_ns(&self, key: usize, turn: u64) -> u64 {
        self.at_ns(key as u64 + turn * self.connections)
    }

    /// Hands out the next start that is due, as the key of its connection.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<usize> {
        let due_ns = self.next_ns()?;
        if due_ns > now_ns {
            return None;
        }
        let key = self.next % self.connections;
        self.next += 1;
        Some(usize::try_from(key).expect("invariant: below the number of connections"))
    }

    /// The time of the next start, if there is one before the end.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let next_ns = self.at_ns(self.next);
        (next_ns < self.end_ns).then_some(next_ns)
    }
}

/// A timer with the precision of the kernel's, which a wait in milliseconds does not have.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: OwnedFd,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Timer {
            fd: timerfd_create(TimerfdClockId::Monotonic, flags)?,
        })
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Expires once, `after` from now.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Zero would disarm it.
        let after = after.max(Duration::from_nanos(1));
        let value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_go_round_the_connections_at_equal_distances() {
        // 1000 per second from 1 s to 1.0045 s: starts at 0, 1, 2, 3 and 4 ms.
        let mut schedule = Schedule::new(1000.0, 1_000_000_000, 1_004_500_000, 2);
        assert_eq!(schedule.next_ns(), Some(1_000_000_000));
        let late: Vec<_> = std::iter::from_fn(|| schedule.pop_due(1_002_100_000)).collect();
        assert_eq!(late, [0, 1, 0]);
        assert_eq!(schedule.next_ns(), Some(1_003_000_000));
        let rest: Vec<_> = std::iter::from_fn(|| schedule.pop_due(u64::MAX)).collect();
        assert_eq!(rest, [1, 0]);
        assert_eq!(schedule.next_ns(), None);
    }

    #[test]
    fn a_start_that_was_missed_keeps_its_time() {
        let schedule = Schedule::new(1000.0, 0, 1_000_000_000, 4);
        assert_eq!(schedule.due_ns(3, 0), 3_000_000);
        assert_eq!(schedule.due_ns(3, 2), 11_000_000);
    }
}
