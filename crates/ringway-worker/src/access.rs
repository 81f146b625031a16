//! What is known of a connection when it is over, on its way to the access log.
//!
//! Not a log: records are plain values that go into a bounded queue; who formats and writes them is
//! another thread. Invariant: a full queue drops the record and counts it; a worker never waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::Thread;

use ringway_balance::BackendIndex;
use ringway_flow::{Ended, Moment, PerSide};
use ringway_metrics::{ConnectError, Counter, RefusedReason, Topology};
use ringway_uring::TcpInfo;

/// One connection, over or refused.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// The worker that had it.
    pub worker: u16,
    /// Index of the listener.
    pub listener: u16,
    /// Index of the pool, unless it was refused before one was chosen.
    pub pool: Option<u16>,
    /// The client's address; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// When it was accepted, on the workers' clock.
    pub accepted: Moment,
    /// When it was over.
    pub ended: Moment,
    /// The backends tried, in order.
    pub attempts: Vec<Attempt>,
    /// Microseconds from accept until the backend was connected.
    pub connected_us: Option<u64>,
    /// Microseconds from accept until the backend's first byte.
    pub first_byte_us: Option<u64>,
    /// Payload bytes received from each side.
    pub received_bytes: PerSide<u64>,
    /// Payload bytes sent to each side.
    pub sent_bytes: PerSide<u64>,
    /// What the kernel knew of each socket when it was closed.
    pub tcp_info: PerSide<Option<TcpInfo>>,
    /// How it ended.
    pub conclusion: Conclusion,
}

/// A backend that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its place, which is its own as long as the connection has to do with it.
    pub backend: BackendIndex,
    /// How that ended.
    pub outcome: AttemptOutcome,
    /// Its name, where it failed: another may have its place when the connection is over.
    pub name: Option<String>,
}

/// How one attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Still in flight when the connection ended.
    Pending,
    /// Established.
    Connected,
    /// Failed.
    Failed(ConnectError),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// It was relayed, or was meant to be.
    Closed(Ended),
    /// It was turned away.
    Refused(RefusedReason),
}

/// What goes through the queue.
#[derive(Debug)]
pub enum LogEntry {
    /// A connection.
    Record(AccessRecord),
    /// What the indices of the records behind this mean.
    Names(Arc<Topology>),
}

/// A worker's end of the queue to the access log.
#[derive(Debug)]
pub struct AccessQueue {
    producer: rtrb::Producer<LogEntry>,
    writer: Thread,
    has_news: bool,
    /// Names that found no room yet: no record passes them.
    names: Option<Arc<Topology>>,
}

impl AccessQueue {
    /// `writer` is unparked after records were queued.
    pub fn new(producer: rtrb::Producer<LogEntry>, writer: Thread) -> AccessQueue {
        AccessQueue {
            producer,
            writer,
            has_news: false,
            names: None,
        }
    }

    pub(crate) fn push(&mut self, record: AccessRecord, dropped: &Counter) {
        self.push_names();
        if self.names.is_some() {
            return dropped.increment();
        }
        match self.producer.push(LogEntry::Record(record)) {
            Ok(()) => self.has_news = true,
            Err(rtrb::PushError::Full(_)) => dropped.increment(),
        }
    }

    /// Records from now on mean this by their indices.
    pub(crate) fn rename(&mut self, names: Arc<Topology>) {
        self.names = Some(names);
        self.push_names();
    }

    fn push_names(&mut self) {
        if self.producer.is_full() {
            return;
        }
        if let Some(names) = self.names.take() {
            // There is room, and this is the only producer.
            self.has_news |= self.producer.push(LogEntry::Names(names)).is_ok();
        }
    }

    /// Tells the writer about what was queued in this turn.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.has_news) {
            self.writer.unpark();
        }
    }
}
