//! A number of connections that all workers together never exceed.
//!
//! One atomic on cache lines of its own, touched when a connection opens and when it closes, by
//! workers that have such a limit to keep; nothing is touched where none is configured.
//!
//! Invariant: nothing is taken at or above the maximum: a worker looks and takes in one step. Where
//! the maximum was lowered, or the limit came after the connections, the count is above it until
//! enough of them are over.

use std::sync::atomic::{AtomicU64, Ordering};

/// A shared maximum.
#[derive(Debug)]
#[repr(align(128))]
pub struct Limit {
    open: AtomicU64,
    most: AtomicU64,
}

impl Limit {
    /// At most `most` at a time.
    pub fn new(most: u64) -> Limit {
        Limit {
            open: AtomicU64::new(0),
            most: AtomicU64::new(most),
        }
    }

    /// Another limit that stands as this one does now: what is taken of it is taken of nobody.
    pub(crate) fn copied(&self) -> Limit {
        let copy = Limit::new(self.most());
        copy.adopt(self.open());
        copy
    }

    /// Counts what was open before there was this limit; it may exceed the maximum then.
    pub(crate) fn adopt(&self, open: u64) {
        self.open.fetch_add(open, Ordering::Relaxed);
    }

    /// Changes the maximum. What is open above it stays.
    pub fn set_most(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes one, if one is left.
    pub fn try_acquire(&self) -> bool {
        let most = self.most();
        let take = |open| (open < most).then_some(open + 1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives one back.
    pub fn release(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "invariant: what is released was acquired");
    }

    /// Whether none is left now. Another worker may change that at any time.
    pub fn is_reached(&self) -> bool {
        self.open() >= self.most()
    }

    /// How many are taken now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The maximum.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn threads_together_never_exceed_it() {
        let limit = Limit::new(3);
        let (peak, granted) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        if limit.try_acquire() {
                            peak.fetch_max(limit.open(), Ordering::Relaxed);
                            granted.fetch_add(1, Ordering::Relaxed);
                            limit.release();
                        }
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 3);
        assert!(granted.into_inner() > 0);
        assert_eq!(limit.open(), 0);
    }

    #[test]
    fn zero_admits_nobody() {
        let limit = Limit::new(0);
        assert!(!limit.try_acquire() && limit.is_reached());
    }
}
