//! One epoll instance and its batch of events. Not a runtime: it says which key is ready for what,
//! and nothing more. Invariant: waiting allocates nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken in one wait.
const BATCH: usize = 512;

/// Both directions, reported once per change: a generator never has to change what it waits for.
pub(crate) const EDGES: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// An epoll instance.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller {
            epoll,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Watches `fd` until it is closed.
    pub(crate) fn add(&self, fd: impl AsFd, key: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(key as u64),
            interest,
        )?)
    }

    pub(crate) fn modify(&self, fd: impl AsFd, key: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            fd,
            EventData::new_u64(key as u64),
            interest,
        )?)
    }

    /// Watches `fd` no longer.
    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits for events, at most for `timeout` (rounded up to milliseconds), and says how many
    /// there are. A signal is no event, nor the end of the wait.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            let left = timeout.map(|timeout| timespec(timeout.saturating_sub(begun.elapsed())));
            self.events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), left.as_ref()) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The key and the readiness of event `index` of the last wait.
    pub(crate) fn event(&self, index: usize) -> (usize, EventFlags) {
        let event = self.events[index];
        let key = event.data.u64();
        (
            usize::try_from(key).expect("invariant: keys are added as usize"),
            event.flags,
        )
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}
