//! What one thread of a run counted, and how threads are added up. Invariant: recording an
//! operation allocates nothing and touches nothing that another thread writes.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::failures::{Failure, Failures};
use crate::progress::Live;

/// Longest latency that is told apart, in nanoseconds: a minute. Longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The counts of one thread.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Operations that are part of the measurement.
    pub(crate) operations: u64,
    /// All operations, warm-up included.
    pub(crate) operations_all: u64,
    /// Connections that were opened.
    pub(crate) connections: u64,
    /// Payload bytes, warm-up included.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) failures: Failures,
    /// Of the measured operations, in nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
    /// When the last measured operation or byte came, on the run's clock.
    pub(crate) last_ns: u64,
    /// Where to say how far it is.
    pub(crate) live: Arc<Live>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("invariant: the bounds are valid");
        Tally {
            operations: 0,
            operations_all: 0,
            connections: 0,
            bytes_sent: 0,
            bytes_received: 0,
            failures: Failures::default(),
            latency_ns,
            last_ns: 0,
            live: Arc::default(),
        }
    }

    /// Counts an operation that began at `from_ns` and ended at `now_ns`; it is measured if it began
    /// at `measured_from_ns` or later.
    pub(crate) fn record(&mut self, from_ns: u64, now_ns: u64, measured_from_ns: u64) {
        self.operations_all += 1;
        if from_ns >= measured_from_ns {
            self.operations += 1;
            self.last_ns = now_ns;
            self.latency_ns
                .saturating_record(now_ns.saturating_sub(from_ns).max(1));
        }
        self.publish();
    }

    /// Lets whoever watches the run see what was counted so far.
    pub(crate) fn publish(&self) {
        let bytes = self.bytes_sent + self.bytes_received;
        self.live
            .set(self.operations_all, bytes, self.failures.total());
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.add(failure);
    }

    pub(crate) fn merge(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.operations_all += other.operations_all;
        self.connections += other.connections;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.failures.merge(&other.failures);
        self.latency_ns
            .add(&other.latency_ns)
            .expect("invariant: equal bounds");
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_counted_and_not_measured() {
        let mut tally = Tally::new();
        tally.record(10, 30, 20);
        tally.record(20, 70, 20);
        assert_eq!(
            (tally.operations_all, tally.operations, tally.last_ns),
            (2, 1, 70)
        );
        assert_eq!((tally.latency_ns.len(), tally.latency_ns.max()), (1, 50));
    }

    #[test]
    fn a_latency_beyond_the_histogram_is_counted_at_its_end() {
        let mut tally = Tally::new();
        tally.record(0, u64::MAX, 0);
        assert_eq!(tally.latency_ns.len(), 1);
        assert!(tally.latency_ns.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn threads_add_up() {
        let mut one = Tally::new();
        let mut two = Tally::new();
        one.record(0, 5, 0);
        two.record(0, 9, 0);
        two.fail(Failure::Reset);
        one.merge(&two);
        assert_eq!(
            (one.operations, one.last_ns, one.failures.total()),
            (2, 9, 1)
        );
        assert_eq!(one.latency_ns.len(), 2);
    }
}
