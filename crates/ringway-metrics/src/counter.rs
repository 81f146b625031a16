//! The cells that are counted in.
//!
//! [`Counter`] and [`Gauge`] have one writer: an update is a plain load, an addition and a plain
//! store, without the locked read-modify-write that would cost some 20 cycles per event. Any thread
//! may read. [`SharedCounter`] and [`SharedGauge`] are for rare events that several threads report.
//!
//! **Invariant:** a reader sees each cell whole and never going back, but two cells are not read at
//! one instant: sums over cells may be off by what is in flight. Who reads a [`Gauge`] sees what its
//! owner counted before it set it, so a connection that is gone is found among the closed ones; every
//! other access is `Relaxed`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows, written by one thread.
///
/// Two threads that wrote the same counter would lose counts (nothing worse): that is what
/// [`SharedCounter`] is for. Wraps at 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the counter may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one. Only the thread that owns the counter may call this.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count so far; any thread.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the count by a total that is kept elsewhere, such as the kernel's counter of
    /// completion queue overflows. Only the owning thread may call this; `total` must not shrink.
    #[inline]
    pub fn store_total(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative. Only the owning thread may call this.
    #[inline]
    pub fn add(&self, n: i64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(value, Ordering::Release);
    }

    /// Adds one. Only the owning thread may call this.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Subtracts one. Only the owning thread may call this.
    #[inline]
    pub fn decrement(&self) {
        self.add(-1);
    }

    /// Replaces the value. Only the owning thread may call this.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Release);
    }

    /// The value now; any thread.
    #[inline]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A number that only grows, written by any number of threads: for what is rare.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`; any thread.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one; any thread.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count so far; any thread.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that any thread may replace: the last writer wins.
#[derive(Debug, Default)]
pub struct SharedGauge(AtomicI64);

impl SharedGauge {
    /// Adds `n`, which may be negative; any thread.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces the value; any thread.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now; any thread.
    #[inline]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_counter_adds_and_wraps() {
        let counter = Counter::default();
        counter.increment();
        counter.add(41);
        assert_eq!(counter.value(), 42);
        counter.store_total(u64::MAX);
        counter.increment();
        assert_eq!(counter.value(), 0);
    }

    #[test]
    fn a_gauge_goes_both_ways() {
        let gauge = Gauge::default();
        gauge.increment();
        gauge.increment();
        gauge.decrement();
        gauge.add(-3);
        assert_eq!(gauge.value(), -2);
        gauge.set(7);
        assert_eq!(gauge.value(), 7);
    }

    #[test]
    fn a_shared_counter_loses_nothing_between_threads() {
        let counter = SharedCounter::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.value(), 40_000);
    }

    #[test]
    fn a_shared_gauge_adds_and_replaces() {
        let gauge = SharedGauge::default();
        gauge.set(5);
        gauge.add(-2);
        assert_eq!(gauge.value(), 3);
    }

    #[test]
    fn a_reader_on_another_thread_never_sees_a_counter_go_back() {
        let counter = Counter::default();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 100_000 {
                    let now = counter.value();
                    assert!(now >= last, "went back from {last} to {now}");
                    last = now;
                }
            });
            (0..100_000).for_each(|_| counter.increment());
            reader.join().unwrap();
        });
        assert_eq!(counter.value(), 100_000);
    }
}
